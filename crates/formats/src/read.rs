//! Typed reading of a tree: whatever is not as expected becomes a finding, and reading goes on.

use crate::diagnostic::{Place, Sink};
use crate::yaml::{Dialect, Entry, Kind, Node, Scalar};
use assay_engine::gate::pattern::Pattern;
use std::collections::HashMap;
use std::sync::Arc;

/// What reading needs besides the tree.
pub(crate) struct Reader<'s, 't> {
    pub(crate) sink: &'s mut Sink<'t>,
    pub(crate) dialect: Dialect,
    /// Every expression is compiled once, however often it is written.
    patterns: HashMap<Box<str>, Result<Pattern, String>>,
}

/// A mapping whose keys are read one by one.
pub(crate) struct Fields<'n> {
    pub(crate) place: Place,
    what: &'static str,
    entries: &'n [Entry],
    /// Read where `entries` has nothing.
    base: Option<&'n Node>,
    read: Vec<bool>,
    known: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// Keys that the mapping does not have are taken from `base`.
    pub(crate) fn with_base(mut self, base: &'n Node) -> Self {
        self.base = Some(base);
        self
    }

    /// The value of a key, which is a known one from now on.
    pub(crate) fn get(&mut self, key: &'static str) -> Option<&'n Arc<Node>> {
        self.known.push(key);
        match self.take(key) {
            Some(entry) => Some(&entry.value),
            None => self.base.and_then(|base| base.get(key)),
        }
    }

    fn take(&mut self, key: &str) -> Option<&'n Entry> {
        let at = self.entries.iter().position(|entry| *entry.key.text == *key)?;
        self.read[at] = true;
        Some(&self.entries[at])
    }

    /// Lets keys that begin with a dot be, which only carry anchors.
    pub(crate) fn skip_hidden(&mut self) {
        for (entry, read) in self.entries.iter().zip(&mut self.read) {
            *read |= entry.key.text.starts_with('.');
        }
    }

    /// What has not been read, all of it read from now on.
    pub(crate) fn rest(&mut self) -> Vec<&'n Entry> {
        let rest =
            self.entries.iter().zip(&self.read).filter(|(_, read)| !**read).map(|(entry, _)| entry).collect();
        self.read.fill(true);
        rest
    }
}

impl<'s, 't> Reader<'s, 't> {
    pub(crate) fn new(sink: &'s mut Sink<'t>, dialect: Dialect) -> Self {
        Self { sink, dialect, patterns: HashMap::new() }
    }

    pub(crate) fn expected(&mut self, node: &Node, what: &str, expected: &str) {
        let found = node.what(self.dialect);
        self.sink.error("type", node.place, format!("`{what}`: expected {expected}, found {found}"));
    }

    /// A mapping. Its unknown keys are reported by [`Self::finish`].
    pub(crate) fn fields<'n>(&mut self, node: &'n Node, what: &'static str) -> Option<Fields<'n>> {
        let Kind::Map(entries) = &node.kind else {
            let found = node.what(self.dialect);
            self.sink.error("type", node.place, format!("expected a mapping for {what}, found {found}"));
            return None;
        };
        let read = vec![false; entries.len()];
        Some(Fields { place: node.place, what, entries, base: None, read, known: Vec::new() })
    }

    /// Reports the keys that nobody read.
    pub(crate) fn finish(&mut self, fields: Fields<'_>) {
        for (entry, _) in fields.entries.iter().zip(&fields.read).filter(|(_, read)| !**read) {
            let message = format!("unknown key `{}` of {}", entry.key.text, fields.what);
            self.sink.unknown(
                "unknown-key",
                entry.key.place,
                message,
                &entry.key.text,
                fields.known.iter().copied(),
            );
        }
    }

    /// The value of a key that must be there.
    pub(crate) fn required<'n>(
        &mut self,
        fields: &mut Fields<'n>,
        key: &'static str,
    ) -> Option<&'n Arc<Node>> {
        let value = fields.get(key);
        if value.is_none() {
            self.sink.error("missing-key", fields.place, format!("{} needs the key `{key}`", fields.what));
        }
        value
    }

    /// Text. Assay's own dialect takes numbers and truth values as they are written.
    pub(crate) fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match (node.scalar(self.dialect), &node.kind) {
            (Some(Scalar::Text(text)), _) => return Some(text),
            (Some(Scalar::Bool(_) | Scalar::Int(_) | Scalar::Float(_)), Kind::Scalar { text, .. })
                if self.dialect == Dialect::Yaml12 =>
            {
                return Some(text);
            }
            (Some(scalar @ (Scalar::Bool(_) | Scalar::Int(_) | Scalar::Float(_) | Scalar::Date)), _) => {
                let message = format!(
                    "`{what}`: expected text, found {}; put it in quotes if it is meant as text",
                    scalar.what()
                );
                self.sink.error("type", node.place, message);
            }
            _ => self.expected(node, what, "text"),
        }
        None
    }

    /// Text that is not empty.
    pub(crate) fn name<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        let text = self.text(node, what)?;
        if text.is_empty() {
            self.sink.error("name", node.place, format!("`{what}` is empty; expected a name"));
            return None;
        }
        Some(text)
    }

    /// A truth value.
    pub(crate) fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        if let Some(Scalar::Bool(value)) = node.scalar(self.dialect) {
            return Some(value);
        }
        self.expected(node, what, "true or false");
        None
    }

    /// A whole number that is not below `least`.
    pub(crate) fn number(&mut self, node: &Node, what: &str, least: u32) -> Option<u32> {
        let Some(Scalar::Int(value)) = node.scalar(self.dialect) else {
            self.expected(node, what, "a whole number");
            return None;
        };
        let fits = u32::try_from(value).ok().filter(|value| *value >= least);
        if fits.is_none() {
            let message = format!("`{what}` is {value}; expected a whole number from {least} on");
            self.sink.error("range", node.place, message);
        }
        fits
    }

    /// A whole number with a sign, also written as text: a vote.
    pub(crate) fn vote(&mut self, node: &Node, what: &str) -> Option<i32> {
        let value = match node.scalar(self.dialect) {
            Some(Scalar::Int(value)) => i32::try_from(value).ok(),
            Some(Scalar::Text(text)) => text.strip_prefix('+').unwrap_or(text).parse().ok(),
            _ => None,
        };
        if value.is_none() {
            self.expected(node, what, "a vote such as 1 or -2");
        }
        value
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(&mut self, node: &Node, what: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(node, what)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let message = format!("`{what}` is `{text}`; expected {}", or(&all));
            self.sink.unknown("unknown-word", node.place, message, text, all.iter().copied());
        }
        found
    }

    /// The entries of a list.
    pub(crate) fn list<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Arc<Node>] {
        if let Kind::List(items) = &node.kind {
            return items;
        }
        self.expected(node, what, "a list");
        &[]
    }

    /// Each text of a list, or the one text.
    pub(crate) fn texts<'n>(&mut self, node: &'n Node, what: &str) -> Vec<&'n str> {
        one_or_more(node).into_iter().filter_map(|node| self.text(node, what)).collect()
    }

    /// A regular expression.
    pub(crate) fn pattern(&mut self, node: &Node, what: &str) -> Option<Pattern> {
        let text = self.text(node, what)?;
        self.pattern_of(text, node.place, what)
    }

    /// The same of a text that stands at `place`.
    pub(crate) fn pattern_of(&mut self, text: &str, place: Place, what: &str) -> Option<Pattern> {
        let compiled = match self.patterns.get(text) {
            Some(compiled) => compiled,
            None => self.patterns.entry(text.into()).or_insert_with(|| Pattern::new(text)),
        };
        match compiled {
            Ok(pattern) => Some(pattern.clone()),
            Err(why) => {
                let why = why.lines().last().unwrap_or_default().trim();
                let message = format!("`{what}` is no regular expression: {why}");
                self.sink.error("regex", place, message);
                None
            }
        }
    }

    /// Each expression of a list, or the one.
    pub(crate) fn patterns(&mut self, node: Option<&Arc<Node>>, what: &str) -> Vec<Pattern> {
        let nodes = node.map(|node| one_or_more(node)).unwrap_or_default();
        nodes.into_iter().filter_map(|node| self.pattern(node, what)).collect()
    }
}

/// The entries of a list, or the one value itself.
pub(crate) fn one_or_more(node: &Node) -> Vec<&Node> {
    match &node.kind {
        Kind::List(items) => items.iter().map(AsRef::as_ref).collect(),
        _ => vec![node],
    }
}

/// `a, b or c`
pub(crate) fn or(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}
