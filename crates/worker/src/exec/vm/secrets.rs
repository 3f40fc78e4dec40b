//! Values that must not get into the record, wherever a test puts them.

use assay_records::step::StepBody;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

/// What stands in the place of a secret.
pub(super) const COVER: &str = "***";
/// Shorter values are found in innocent words, and covering those would spoil the record and give the value away.
const SHORTEST: usize = 4;

/// The secrets of a run; clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Secrets(Arc<Mutex<Vec<String>>>);

impl Secrets {
    /// From now on this value is covered.
    pub(super) fn add(&self, value: &str) {
        let value = value.trim_matches('\n');
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if value.len() >= SHORTEST && !known.iter().any(|one| one == value) {
            known.push(value.to_owned());
            // A secret that holds another one is covered as a whole.
            known.sort_by_key(|one| std::cmp::Reverse(one.len()));
        }
    }

    /// The text with all secrets covered.
    pub(super) fn cover<'a>(&self, text: impl Into<Cow<'a, str>>) -> Cow<'a, str> {
        let mut text = text.into();
        for secret in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if text.contains(secret.as_str()) {
                text = Cow::Owned(text.replace(secret.as_str(), COVER));
            }
        }
        text
    }

    /// True if the text holds a secret.
    pub(super) fn are_in(&self, text: &str) -> bool {
        matches!(self.cover(text), Cow::Owned(_))
    }

    /// Covers all texts within a value; names of members stay.
    pub(super) fn cover_value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.cover(text).into_owned()),
            Value::Array(list) => list.into_iter().map(|one| self.cover_value(one)).collect(),
            Value::Object(members) => {
                members.into_iter().map(|(name, one)| (name, self.cover_value(one))).collect()
            }
            other => other,
        }
    }

    /// Covers what a step says.
    pub(super) fn cover_step(&self, body: StepBody) -> StepBody {
        let cover = |text: String| self.cover(text).into_owned();
        match body {
            StepBody::Text { title, output } => StepBody::Text { title: cover(title), output: cover(output) },
            StepBody::Serial { patterns, found, timeout_s, expect_not_found } => StepBody::Serial {
                patterns: patterns.into_iter().map(cover).collect(),
                found: found.map(cover),
                timeout_s,
                expect_not_found,
            },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_covered_wherever_they_stand() {
        let secrets = Secrets::default();
        for secret in ["open sesame\n", "sesame", "abc"] {
            secrets.add(secret);
        }
        assert_eq!(secrets.cover("say open sesame, or sesame"), "say ***, or ***");
        assert_eq!(secrets.cover("abc"), "abc", "too short to be covered");
        assert!(secrets.are_in("\"sesame\"") && !secrets.are_in("poppy"));
        let value = json!({ "sesame": ["sesame", 1, { "a": "xsesamex" }] });
        assert_eq!(secrets.cover_value(value), json!({ "sesame": ["***", 1, { "a": "x***x" }] }));
    }
}
