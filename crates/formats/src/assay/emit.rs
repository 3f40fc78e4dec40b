//! Writing YAML.

use crate::yaml::Dialect;
use crate::yaml::scalar::{Scalar, plain};
use std::fmt::Write as _;

/// What is written.
pub(crate) enum Yaml {
    /// Text, quoted where it needs to be.
    Text(String),
    /// A number or truth value, as it is.
    Word(String),
    List(Vec<Yaml>),
    Map(Vec<(String, Yaml)>),
}

/// Longer lists are written one entry to a line.
const WIDTH: usize = 90;
/// YAML wants the colon at most 1024 characters behind the beginning of a simple key.
const MAX_KEY: usize = 1000;

impl Yaml {
    /// Of anything that is shown as text.
    pub(crate) fn text(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    /// Of a number or truth value.
    pub(crate) fn word(value: impl ToString) -> Self {
        Self::Word(value.to_string())
    }

    /// One text as it is, several as a list.
    pub(crate) fn texts(texts: impl IntoIterator<Item = impl ToString>) -> Self {
        Self::List(texts.into_iter().map(Self::text).collect())
    }

    /// The document.
    pub(crate) fn document(&self) -> String {
        let mut out = String::new();
        self.block(0, &mut out);
        out
    }

    /// Writes it as lines that begin in column `indent`; the first one's indent is there already.
    fn block(&self, indent: usize, out: &mut String) {
        match self {
            Self::Map(entries) if !entries.is_empty() => {
                for (at, (key, value)) in entries.iter().enumerate() {
                    if at > 0 {
                        *out += &" ".repeat(indent);
                    }
                    let key = quote(key);
                    if key.chars().count() > MAX_KEY {
                        *out += "? ";
                        *out += &key;
                        out.push('\n');
                        *out += &" ".repeat(indent);
                    } else {
                        *out += &key;
                    }
                    out.push(':');
                    value.behind_key(indent, out);
                }
            }
            Self::List(items) if !items.is_empty() => {
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        *out += &" ".repeat(indent);
                    }
                    *out += "- ";
                    match item.short(WIDTH.saturating_sub(indent)) {
                        Some(flow) if !matches!(item, Self::Map(_)) => {
                            *out += &flow;
                            out.push('\n');
                        }
                        _ => item.block(indent + 2, out),
                    }
                }
            }
            Self::Text(text) => text_block(text, indent, out),
            _ => {
                *out += &self.flow();
                out.push('\n');
            }
        }
    }

    fn behind_key(&self, indent: usize, out: &mut String) {
        match self {
            Self::Text(text) if text.contains('\n') => {
                out.push(' ');
                text_block(text, indent + 2, out);
            }
            Self::Map(_) | Self::List(_) => {
                if let Some(flow) = self.short(WIDTH.saturating_sub(indent)) {
                    out.push(' ');
                    *out += &flow;
                    out.push('\n');
                } else {
                    out.push('\n');
                    *out += &" ".repeat(indent + 2);
                    self.block(indent + 2, out);
                }
            }
            _ => {
                out.push(' ');
                *out += &self.flow();
                out.push('\n');
            }
        }
    }

    /// In one line, if it is flat enough and fits.
    fn short(&self, width: usize) -> Option<String> {
        let flat = |item: &Self| matches!(item, Self::Text(_) | Self::Word(_));
        let simple = match self {
            Self::List(items) => items.iter().all(|item| match item {
                Self::Map(entries) => {
                    items.len() == 1 && entries.len() < 3 && entries.iter().all(|(_, value)| flat(value))
                }
                item => flat(item),
            }),
            Self::Map(entries) => entries.len() < 3 && entries.iter().all(|(_, value)| flat(value)),
            _ => true,
        };
        let flow = simple.then(|| self.flow())?;
        (flow.len() < width && !flow.contains('\n')).then_some(flow)
    }

    fn flow(&self) -> String {
        match self {
            Self::Text(text) => quote(text),
            Self::Word(word) => word.clone(),
            Self::List(items) => {
                format!("[{}]", items.iter().map(Self::flow).collect::<Vec<_>>().join(", "))
            }
            Self::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| format!("{}: {}", quote(key), value.flow()));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// Text of several lines as a literal block where that keeps it as it is.
fn text_block(text: &str, indent: usize, out: &mut String) {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let literal = text.contains('\n')
        && !body.is_empty()
        && !body.starts_with([' ', '\n', '\t'])
        && !body.ends_with(['\n', ' ', '\t'])
        && body.chars().all(|c| {
            c == '\n'
                || c == '\t'
                || !c.is_control() && !matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
        })
        && body.lines().all(|line| line.is_empty() || !line.trim().is_empty());
    if !literal {
        *out += &quote(text);
        out.push('\n');
        return;
    }
    *out += if text.ends_with('\n') { "|\n" } else { "|-\n" };
    for line in body.split('\n') {
        if !line.is_empty() {
            *out += &" ".repeat(indent);
            *out += line;
        }
        out.push('\n');
    }
}

/// A text as a plain scalar if every reader takes it as that text, else in double quotes.
fn quote(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-' | '+' | '@');
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '/' || c == '.');
    let is_text = [Dialect::Yaml11, Dialect::Yaml12]
        .iter()
        .all(|dialect| matches!(plain(text, *dialect), Scalar::Text(_)));
    // Words between blanks are plain too.
    let word = |word: &str| !word.is_empty() && word != "-" && word.chars().all(safe);
    let words = !text.is_empty() && text.split(' ').all(word);
    if begins && is_text && words && !text.starts_with("...") {
        return text.to_owned();
    }
    // Expressions are read more easily without doubled backslashes.
    if text.contains('\\') && text.chars().all(|c| matches!(c, ' '..='~') && c != '\'') {
        return format!("'{text}'");
    }
    // A JSON string is a YAML scalar in double quotes, but for what YAML does not print.
    let json = serde_json::Value::from(text).to_string();
    let mut quoted = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted
}
