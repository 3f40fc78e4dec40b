//! What a plain scalar is: YAML 1.1 as PyYAML reads it, and YAML 1.2's core schema.

/// Which rules hold for plain scalars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `yes` is a boolean, `010` is eight, `1:30` is ninety: Zuul and Jenkins Job Builder.
    Yaml11,
    /// Only `true` and `false` are booleans: Assay.
    Yaml12,
}

/// What a scalar is.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar<'n> {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number; saturated if it is beyond 64 bits.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// A date, with or without a time (YAML 1.1).
    Date,
    /// Text.
    Text(&'n str),
}

impl Scalar<'_> {
    /// What it is, for a sentence.
    pub fn what(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a truth value",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Date => "a date",
            Self::Text(_) => "text",
        }
    }
}

/// What the plain scalar `text` is.
pub fn plain(text: &str, dialect: Dialect) -> Scalar<'_> {
    let Some(&first) = text.as_bytes().first() else { return Scalar::Null };
    // Nearly everything is a word: decided by its first byte.
    if !matches!(first, b'0'..=b'9' | b'+' | b'-' | b'.' | b'~')
        && !matches!(first.to_ascii_lowercase(), b'n' | b't' | b'f' | b'y' | b'o')
    {
        return Scalar::Text(text);
    }
    if matches!(text, "~" | "null" | "Null" | "NULL") {
        return Scalar::Null;
    }
    if let Some(value) = boolean(text, dialect) {
        return Scalar::Bool(value);
    }
    if !matches!(first, b'0'..=b'9' | b'+' | b'-' | b'.') {
        return Scalar::Text(text);
    }
    let int = match dialect {
        Dialect::Yaml11 => int_11(text),
        Dialect::Yaml12 => int_12(text),
    };
    if let Some(value) = int {
        return Scalar::Int(value);
    }
    if let Some(value) = float(text, dialect) {
        return Scalar::Float(value);
    }
    if dialect == Dialect::Yaml11 && is_date(text) { Scalar::Date } else { Scalar::Text(text) }
}

fn boolean(text: &str, dialect: Dialect) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => return Some(true),
        "false" | "False" | "FALSE" => return Some(false),
        _ => {}
    }
    match (dialect, text) {
        (Dialect::Yaml11, "yes" | "Yes" | "YES" | "on" | "On" | "ON") => Some(true),
        (Dialect::Yaml11, "no" | "No" | "NO" | "off" | "Off" | "OFF") => Some(false),
        _ => None,
    }
}

/// Sign and digits.
fn signed(text: &str) -> (bool, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    }
}

/// Digits of a base, underscores apart; saturates.
fn digits(text: &str, base: u32) -> Option<i64> {
    let mut value: i64 = 0;
    let mut any = false;
    for letter in text.chars() {
        if letter == '_' {
            continue;
        }
        any = true;
        value = value.saturating_mul(i64::from(base)).saturating_add(i64::from(letter.to_digit(base)?));
    }
    any.then_some(value)
}

fn int_11(text: &str) -> Option<i64> {
    let (negative, rest) = signed(text);
    let value = if let Some(bits) = rest.strip_prefix("0b") {
        digits(bits, 2)?
    } else if let Some(hex) = rest.strip_prefix("0x") {
        digits(hex, 16)?
    } else if rest.len() > 1 && rest.starts_with('0') && !rest.contains(':') {
        digits(&rest[1..], 8)?
    } else if rest.starts_with(|c: char| c.is_ascii_digit()) {
        sexagesimal(rest)?
    } else {
        return None;
    };
    Some(if negative { -value } else { value })
}

/// `190:20:30`, or plain digits.
fn sexagesimal(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let mut value = digits(parts.next()?, 10)?;
    if text.contains(':') && text.starts_with('0') {
        return None;
    }
    for part in parts {
        let sixtieth =
            digits(part, 10).filter(|value| *value < 60 && part.len() <= 2 && !part.contains('_'))?;
        value = value.saturating_mul(60).saturating_add(sixtieth);
    }
    Some(value)
}

fn int_12(text: &str) -> Option<i64> {
    if let Some(octal) = text.strip_prefix("0o") {
        return digits(octal, 8).filter(|_| !octal.contains('_'));
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return digits(hex, 16).filter(|_| !hex.contains('_'));
    }
    let (negative, rest) = signed(text);
    if rest.contains('_') {
        return None;
    }
    digits(rest, 10).map(|value| if negative { -value } else { value })
}

fn float(text: &str, dialect: Dialect) -> Option<f64> {
    let (negative, rest) = signed(text);
    match rest {
        ".inf" | ".Inf" | ".INF" => {
            return Some(if negative { f64::NEG_INFINITY } else { f64::INFINITY });
        }
        ".nan" | ".NaN" | ".NAN" if rest.len() == text.len() => return Some(f64::NAN),
        _ => {}
    }
    // Rust also takes `inf`, `nan` and `infinity`.
    if !rest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-' | b'_')) {
        return None;
    }
    match dialect {
        // PyYAML wants the point, and a sign in the exponent.
        Dialect::Yaml11 => {
            let signed_exponent =
                rest.find(['e', 'E']).is_none_or(|at| rest[at + 1..].starts_with(['+', '-']));
            if !rest.contains('.') || !signed_exponent {
                return None;
            }
            rest.replace('_', "").parse().ok()
        }
        Dialect::Yaml12 => rest.parse().ok(),
    }
    .map(|value: f64| if negative { -value } else { value })
}

/// `2014-02-20`, or the same with a time behind it.
fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let shape = |at: usize, wanted: u8| match bytes.get(at) {
        Some(byte) if wanted == b'9' => byte.is_ascii_digit(),
        Some(byte) => *byte == wanted,
        None => false,
    };
    let date = b"9999-99-99".iter().enumerate().all(|(at, wanted)| shape(at, *wanted));
    date && (bytes.len() == 10 || matches!(bytes[10], b'T' | b't' | b' ' | b'\t') && bytes.contains(&b':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_11_as_pyyaml_reads_it() {
        for (text, expected) in [
            ("yes", Scalar::Bool(true)),
            ("Off", Scalar::Bool(false)),
            ("y", Scalar::Text("y")),
            ("nO", Scalar::Text("nO")),
            ("", Scalar::Null),
            ("~", Scalar::Null),
            ("010", Scalar::Int(8)),
            ("09", Scalar::Text("09")),
            ("0x1F", Scalar::Int(31)),
            ("-0b11", Scalar::Int(-3)),
            ("1_000", Scalar::Int(1000)),
            ("1:30", Scalar::Int(90)),
            ("01:30", Scalar::Text("01:30")),
            ("+12", Scalar::Int(12)),
            ("1.5", Scalar::Float(1.5)),
            ("1e3", Scalar::Text("1e3")),
            ("1.0e+3", Scalar::Float(1000.0)),
            ("-.inf", Scalar::Float(f64::NEG_INFINITY)),
            ("2014-02-20", Scalar::Date),
            ("2014-02-20 10:00:00", Scalar::Date),
            ("72h", Scalar::Text("72h")),
            ("nova", Scalar::Text("nova")),
            ("999999999999999999999", Scalar::Int(i64::MAX)),
            ("-", Scalar::Text("-")),
            ("0_", Scalar::Text("0_")),
        ] {
            assert_eq!(plain(text, Dialect::Yaml11), expected, "{text:?}");
        }
    }

    #[test]
    fn yaml_12_keeps_words_words() {
        for (text, expected) in [
            ("yes", Scalar::Text("yes")),
            ("on", Scalar::Text("on")),
            ("True", Scalar::Bool(true)),
            ("010", Scalar::Int(10)),
            ("0o10", Scalar::Int(8)),
            ("1:30", Scalar::Text("1:30")),
            ("1e3", Scalar::Float(1000.0)),
            ("2014-02-20", Scalar::Text("2014-02-20")),
            ("1_000", Scalar::Text("1_000")),
            (".", Scalar::Text(".")),
            ("inf", Scalar::Text("inf")),
        ] {
            assert_eq!(plain(text, Dialect::Yaml12), expected, "{text:?}");
        }
    }
}
