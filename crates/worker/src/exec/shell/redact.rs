//! Covers the values of secrets in everything that a job writes, however the bytes arrive.
//!
//! A value is found as it is, line by line if it has several, and as `base64`, URL, shell, JSON and hex write it. What
//! a job does on purpose to get a secret out (reversing it, encrypting it) cannot be covered by anybody.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use regex::bytes::{NoExpand, Regex};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What stands in the place of a secret.
pub(super) const COVER: &str = "***";
/// Shorter values are found in innocent words, and covering those would spoil the record and give the value away.
const SHORTEST: usize = 4;
/// A line of a value of several lines is a secret of its own from this length on.
const SHORTEST_LINE: usize = 8;

/// The secrets of a job in all their spellings.
#[derive(Debug, Clone, Default)]
pub(super) struct Secrets(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Longest first, so that one that holds another is covered as a whole.
    spellings: Vec<Vec<u8>>,
    any: Option<Regex>,
}

impl Secrets {
    /// These values are covered from now on; ones that are too short are left alone.
    pub(super) fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = BTreeSet::new();
        for value in values {
            spellings(value.trim_matches(['\n', '\r']), &mut all);
        }
        let mut spellings: Vec<Vec<u8>> = all.into_iter().collect();
        spellings.sort_by_key(|one| std::cmp::Reverse(one.len()));
        let pattern: Vec<String> = spellings.iter().map(|one| literal(one)).collect();
        let any = if pattern.is_empty() {
            None
        } else {
            regex::bytes::RegexBuilder::new(&pattern.join("|"))
                .unicode(false)
                .size_limit(64 << 20)
                .build()
                .ok()
        };
        Self(Arc::new(Known { spellings, any }))
    }

    /// The text with all secrets covered.
    pub(super) fn cover(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.cover_bytes(text.as_bytes())).into_owned()
    }

    /// True if a secret stands in these bytes.
    pub(super) fn are_in(&self, bytes: &[u8]) -> bool {
        self.0.any.as_ref().is_some_and(|any| any.is_match(bytes))
    }

    /// Bytes of the longest spelling: what two neighbouring pieces of a text must share to be searched separately.
    pub(super) fn longest(&self) -> usize {
        self.0.spellings.first().map_or(0, Vec::len)
    }

    fn cover_bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        match &self.0.any {
            Some(any) => any.replace_all(bytes, NoExpand(COVER.as_bytes())),
            None => Cow::Borrowed(bytes),
        }
    }

    /// Where the last bytes may be the beginning of a secret; the length if they are not.
    fn open_end(&self, bytes: &[u8]) -> usize {
        let begins = |at: usize| {
            self.0.spellings.iter().any(|one| {
                let rest = &bytes[at..];
                rest.len() < one.len() && one.starts_with(rest)
            })
        };
        let first = bytes.len().saturating_sub(self.longest().saturating_sub(1));
        (first..bytes.len()).find(|&at| begins(at)).unwrap_or(bytes.len())
    }
}

/// A stream of bytes on its way to the record.
#[derive(Debug)]
pub(super) struct Filter {
    secrets: Secrets,
    held: Vec<u8>,
}

impl Filter {
    pub(super) fn new(secrets: Secrets) -> Self {
        Self { secrets, held: Vec::new() }
    }

    /// What may be shown after these bytes have come. The end is held back where it may be the beginning of a secret.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(any) = &self.secrets.0.any else { return bytes.to_vec() };
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        let mut open = self.secrets.open_end(&all);
        let mut shown = Vec::with_capacity(all.len());
        let mut at = 0;
        // A match in the open end may still become a longer one.
        for found in any.find_iter(&all).take_while(|found| found.start() < open) {
            shown.extend_from_slice(&all[at..found.start()]);
            shown.extend_from_slice(COVER.as_bytes());
            at = found.end();
        }
        if at > open {
            open = at + self.secrets.open_end(&all[at..]);
        }
        shown.extend_from_slice(&all[at..open]);
        self.held = all.split_off(open);
        shown
    }

    /// Nothing more comes.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        self.secrets.cover_bytes(&held).into_owned()
    }
}

/// A regular expression for exactly these bytes.
fn literal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\x{byte:02x}");
        text
    })
}

/// All ways in which a value is usually written.
fn spellings(value: &str, all: &mut BTreeSet<Vec<u8>>) {
    if value.len() < SHORTEST {
        return;
    }
    let mut add = |text: String| {
        if text.len() >= SHORTEST {
            all.insert(text.into_bytes());
        }
    };
    add(value.to_owned());
    value.lines().filter(|line| line.len() >= SHORTEST_LINE).for_each(|line| add(line.to_owned()));
    let json = serde_json::Value::from(value).to_string();
    add(json.trim_matches('"').to_owned());
    add(value.replace('\'', r"'\''"));
    add(hex::encode(value));
    add(hex::encode_upper(value));
    let percent = |lower: bool, all: bool, space: &str| {
        value.bytes().fold(String::new(), |text, byte| match byte {
            b' ' if !all => text + space,
            byte if !all && (byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)) => {
                text + &char::from(byte).to_string()
            }
            byte if lower => text + &format!("%{byte:02x}"),
            byte => text + &format!("%{byte:02X}"),
        })
    };
    for lower in [false, true] {
        add(percent(lower, false, "%20"));
        add(percent(lower, false, "+"));
        add(percent(lower, true, ""));
    }
    // A slash often stays as it is.
    add(percent(false, false, "%20").replace("%2F", "/"));
    for alphabet in [alphabet::STANDARD, alphabet::URL_SAFE] {
        let engine = GeneralPurpose::new(&alphabet, NO_PAD);
        // Wherever the value stands in what was encoded: the characters that depend on its bytes alone.
        for before in 0..3_usize {
            let text = engine.encode([&vec![0; before], value.as_bytes()].concat());
            let whole = (before + value.len()) * 8 / 6;
            let first = before + usize::from(before > 0);
            add(text.get(first..whole).unwrap_or_default().to_owned());
        }
        // As base64(1) and PEM break lines.
        for width in [76, 64] {
            let text = engine.encode(value);
            if text.len() > width {
                let lines =
                    text.as_bytes().chunks(width).map(|line| String::from_utf8_lossy(line).into_owned());
                lines.filter(|line| line.len() >= SHORTEST_LINE).for_each(&mut add);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    use std::fmt::Write;

    fn filtered(secrets: &Secrets, text: &[u8], cuts: &[usize]) -> String {
        let mut filter = Filter::new(secrets.clone());
        let mut shown = Vec::new();
        let mut at = 0;
        for &cut in cuts.iter().chain([&text.len()]) {
            shown.extend(filter.push(&text[at..cut]));
            at = cut;
        }
        shown.extend(filter.finish());
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn a_secret_is_covered_wherever_it_is_cut() {
        let secrets = Secrets::new(["hunter2hunter3", "hunter2", "pass word/1'"]);
        let text = b"a hunter2hunter3 b hunter2 c hunter2hunter4 hunt pass word/1' hunter2hunter";
        let wanted = "a *** b *** c ***hunter4 hunt *** ***hunter";
        for first in 0..=text.len() {
            for second in first..=text.len() {
                assert_eq!(filtered(&secrets, text, &[first, second]), wanted, "{first} {second}");
            }
        }
    }

    #[test]
    fn every_spelling_is_covered() {
        let value =
            "s3cr/t v+lue'\"x and more, so that base64 breaks the line of it at least once in a while \u{e4}";
        let secrets = Secrets::new([value]);
        let mut wrapped = STANDARD.encode(format!("{value}\n"));
        wrapped.insert(76, '\n');
        let url = value.bytes().fold(String::new(), |mut text, byte| {
            write!(text, "%{byte:02x}").unwrap();
            text
        });
        let texts = [
            value.to_owned(),
            STANDARD.encode(value),
            STANDARD.encode(format!("user:{value}")),
            URL_SAFE.encode(format!("u:{value}\n")),
            wrapped,
            url,
            serde_json::to_string(value).unwrap(),
            hex::encode(value),
        ];
        for text in texts {
            let shown = filtered(&secrets, text.as_bytes(), &[text.len() / 2]);
            assert!(secrets.are_in(text.as_bytes()), "{text}");
            assert!(shown.contains("***") && shown.len() < 30, "{text}: {shown}");
        }
        let key = "-----BEGIN KEY-----\nAAAABBBBCCCC\nDDDDEEEE\n-----END KEY-----\n";
        assert_eq!(Secrets::new([key]).cover("x AAAABBBBCCCC y\nDDDDEEEE"), "x *** y\n***");
        assert!(!Secrets::new(["abc", ""]).are_in(b"abc"), "too short to be covered");
        assert_eq!(Secrets::new([]).cover("plain"), "plain");
    }
}
