//! Regular expressions of configurations: Python's, as Zuul's users write them, with a bound on backtracking.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Steps that a match with lookaround or back-references may take. Beyond it the pattern counts as not matching.
const BACKTRACK_LIMIT: usize = 100_000;

/// A compiled pattern. Two patterns are equal if their texts are.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: Arc<str>,
    regex: Arc<fancy_regex::Regex>,
}

impl Pattern {
    /// Compiles `text`.
    pub fn new(text: &str) -> Result<Self, String> {
        let regex = fancy_regex::RegexBuilder::new(text)
            .backtrack_limit(BACKTRACK_LIMIT)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { text: text.into(), regex: Arc::new(regex) })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True if it matches at the start of `text` (Python's `re.match`).
    pub fn matches_start(&self, text: &str) -> bool {
        // The leftmost match is what is found: if there is one at the start, it is that.
        matches!(self.regex.find(text), Ok(Some(found)) if found.start() == 0)
    }

    /// True if it matches anywhere in `text` (Python's `re.search`).
    pub fn is_found(&self, text: &str) -> bool {
        matches!(self.regex.is_match(text), Ok(true))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.text.as_ref().to_owned()
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).expect("a pattern")
    }

    #[test]
    fn start_and_anywhere() {
        let stable = pattern("^(?!stable/(grizzly|havana)).*$");
        assert!(stable.matches_start("master") && !stable.matches_start("stable/havana"));
        let plain = pattern("gate-.*-python33");
        assert!(plain.matches_start("gate-nova-python33-x") && !plain.matches_start("a-gate-nova-python33"));
        assert!(plain.is_found("a-gate-nova-python33"));
        assert!(pattern("").matches_start("") && pattern("(?i)^\\s*recheck").is_found(" ReCheck"));
    }

    #[test]
    fn a_costly_pattern_gives_up() {
        assert!(!pattern("(?=(a+)+b)").is_found(&"a".repeat(5_000)));
    }
}
