//! Keys by name and by character: a US keyboard, named as openQA names its keys.

/// A key by its place on the keyboard: the scancode of set 1, plus 0x80 where the set has a leading 0xe0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u8);

/// A name or character that no key stands for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownKey {
    /// No key has this name.
    #[error("there is no key named {name:?} in {chord:?}; did you mean {nearest:?}?")]
    Name {
        /// The name.
        name: String,
        /// The whole combination it stands in.
        chord: String,
        /// The known name that is most like it.
        nearest: &'static str,
    },
    /// The US keyboard does not have this character.
    #[error(
        "the character {0:?} is not on the US keyboard; type ASCII text only, and send other keys by \
         name with send_key"
    )]
    Char(char),
    /// An empty combination, or one with an empty part.
    #[error(
        "{0:?} is not a key combination; write names joined by '-', for instance \"ctrl-alt-f2\" (the minus key is \"minus\")"
    )]
    Empty(String),
}

/// A character's key and whether Shift goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stroke {
    /// The key.
    pub key: Key,
    /// Whether Shift is held.
    pub shift: bool,
}

/// Names and scancodes. Names of several keys stand once per name.
const NAMES: &[(&str, u8)] = &[
    ("esc", 0x01),
    ("escape", 0x01),
    ("minus", 0x0c),
    ("equal", 0x0d),
    ("backspace", 0x0e),
    ("tab", 0x0f),
    ("bracketleft", 0x1a),
    ("bracketright", 0x1b),
    ("ret", 0x1c),
    ("enter", 0x1c),
    ("return", 0x1c),
    ("ctrl", 0x1d),
    ("ctrl_l", 0x1d),
    ("semicolon", 0x27),
    ("apostrophe", 0x28),
    ("grave", 0x29),
    ("shift", 0x2a),
    ("shift_l", 0x2a),
    ("backslash", 0x2b),
    ("comma", 0x33),
    ("dot", 0x34),
    ("slash", 0x35),
    ("shift_r", 0x36),
    ("kp_multiply", 0x37),
    ("alt", 0x38),
    ("alt_l", 0x38),
    ("spc", 0x39),
    ("space", 0x39),
    ("caps", 0x3a),
    ("caps_lock", 0x3a),
    ("f1", 0x3b),
    ("f2", 0x3c),
    ("f3", 0x3d),
    ("f4", 0x3e),
    ("f5", 0x3f),
    ("f6", 0x40),
    ("f7", 0x41),
    ("f8", 0x42),
    ("f9", 0x43),
    ("f10", 0x44),
    ("num_lock", 0x45),
    ("scroll_lock", 0x46),
    ("kp_7", 0x47),
    ("kp_8", 0x48),
    ("kp_9", 0x49),
    ("kp_subtract", 0x4a),
    ("kp_4", 0x4b),
    ("kp_5", 0x4c),
    ("kp_6", 0x4d),
    ("kp_add", 0x4e),
    ("kp_1", 0x4f),
    ("kp_2", 0x50),
    ("kp_3", 0x51),
    ("kp_0", 0x52),
    ("kp_decimal", 0x53),
    ("sysrq", 0x54),
    ("less", 0x56),
    ("f11", 0x57),
    ("f12", 0x58),
    ("kp_enter", 0x9c),
    ("ctrl_r", 0x9d),
    ("kp_divide", 0xb5),
    ("print", 0xb7),
    ("alt_r", 0xb8),
    ("altgr", 0xb8),
    ("pause", 0xc6),
    ("home", 0xc7),
    ("up", 0xc8),
    ("pgup", 0xc9),
    ("left", 0xcb),
    ("right", 0xcd),
    ("end", 0xcf),
    ("down", 0xd0),
    ("pgdn", 0xd1),
    ("insert", 0xd2),
    ("ins", 0xd2),
    ("delete", 0xd3),
    ("del", 0xd3),
    ("super", 0xdb),
    ("meta", 0xdb),
    ("win", 0xdb),
    ("super_r", 0xdc),
    ("menu", 0xdd),
];

/// The rows of the keyboard: scancode of the first key, characters without and with Shift.
const ROWS: &[(u8, &str, &str)] = &[
    (0x02, "1234567890-=", "!@#$%^&*()_+"),
    (0x10, "qwertyuiop[]", "QWERTYUIOP{}"),
    (0x1e, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
    (0x2b, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    (0x39, " ", " "),
    (0x1c, "\n", "\n"),
    (0x0f, "\t", "\t"),
    (0x0e, "\u{8}", "\u{8}"),
    (0x01, "\u{1b}", "\u{1b}"),
];

impl Key {
    /// Left Shift.
    pub const SHIFT: Self = Self(0x2a);

    /// The scancode.
    pub fn scancode(self) -> u8 {
        self.0
    }

    /// The key with this one name, for instance `ret`, `f10` or `a`.
    pub fn named(name: &str) -> Result<Self, UnknownKey> {
        match chord(name)?.as_slice() {
            &[key] => Ok(key),
            _ => Err(UnknownKey::Empty(name.to_owned())),
        }
    }
}

/// The key that types `c`.
pub fn stroke(c: char) -> Result<Stroke, UnknownKey> {
    ROWS.iter()
        .find_map(|&(first, plain, shifted)| {
            let at = |row: &str| row.chars().position(|k| k == c);
            let (place, shift) = at(plain).map(|i| (i, false)).or_else(|| at(shifted).map(|i| (i, true)))?;
            Some(Stroke { key: Key(first + place as u8), shift })
        })
        .ok_or(UnknownKey::Char(c))
}

/// The keys of a combination such as `ctrl-alt-f2`, in the order to press them. Names may be in any case;
/// a single capital letter or shifted symbol brings Shift with it.
pub fn chord(text: &str) -> Result<Vec<Key>, UnknownKey> {
    let mut keys = Vec::new();
    let mut push = |key: Key| {
        if !keys.contains(&key) {
            keys.push(key);
        }
    };
    let parts: Vec<&str> = if text == "-" { vec!["minus"] } else { text.split('-').collect() };
    for part in parts {
        let mut chars = part.chars();
        match (chars.next(), chars.next()) {
            (None, _) => return Err(UnknownKey::Empty(text.to_owned())),
            (Some(c), None) => {
                let stroke = stroke(c)?;
                if stroke.shift {
                    push(Key::SHIFT);
                }
                push(stroke.key);
            }
            _ => push(by_name(part, text)?),
        }
    }
    Ok(keys)
}

fn by_name(name: &str, chord: &str) -> Result<Key, UnknownKey> {
    let lower = name.to_ascii_lowercase();
    if let Some(&(_, code)) = NAMES.iter().find(|(known, _)| *known == lower) {
        return Ok(Key(code));
    }
    let likeness = |known: &str| (strsim::jaro_winkler(&lower, known) * 1e6) as u64;
    let nearest = NAMES.iter().max_by_key(|(known, _)| likeness(known)).map_or("ret", |(known, _)| known);
    Err(UnknownKey::Name { name: name.to_owned(), chord: chord.to_owned(), nearest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &str) -> Vec<u8> {
        chord(text).unwrap().into_iter().map(Key::scancode).collect()
    }

    #[test]
    fn combinations() {
        assert_eq!(codes("ctrl-alt-f2"), [0x1d, 0x38, 0x3c]);
        assert_eq!(codes("shift-a"), [0x2a, 0x1e]);
        assert_eq!(codes("A"), [0x2a, 0x1e]);
        assert_eq!(codes("shift-A"), [0x2a, 0x1e]);
        assert_eq!(codes("ctrl-minus"), [0x1d, 0x0c]);
        assert_eq!(codes("-"), [0x0c]);
        assert_eq!(codes("Delete"), [0xd3]);
    }

    #[test]
    fn every_printable_ascii_character_has_its_key() {
        for c in ' '..='~' {
            stroke(c).unwrap();
        }
        // One key of each row, counted off a keyboard: places after the first one are derived.
        for (c, code, shift) in [
            ('=', 0x0d, false),
            ('_', 0x0c, true),
            ('}', 0x1b, true),
            ('"', 0x28, true),
            ('`', 0x29, false),
            ('|', 0x2b, true),
            ('z', 0x2c, false),
            ('?', 0x35, true),
            ('\n', 0x1c, false),
        ] {
            assert_eq!(stroke(c).unwrap(), Stroke { key: Key(code), shift }, "{c:?}");
        }
    }

    #[test]
    fn unknown_names_suggest_the_nearest() {
        let said = |t: &str| chord(t).unwrap_err().to_string();
        assert_eq!(
            said("ctrl-retrun"),
            "there is no key named \"retrun\" in \"ctrl-retrun\"; did you mean \"return\"?"
        );
        assert!(said("pgdown").contains("\"pgdn\""));
        assert!(matches!(chord("ctrl--a"), Err(UnknownKey::Empty(_))));
        assert!(matches!(chord(""), Err(UnknownKey::Empty(_))));
        assert_eq!(stroke('é'), Err(UnknownKey::Char('é')));
    }
}
