//! What Gerrit says, read without any I/O: events, rows of queries, answers of the REST API.
//!
//! Gerrit's versions differ in what they leave out and in whether numbers are strings. Everything is read leniently: a
//! member that is missing or of another type is as if it were not there, unless nothing can be done without it.

mod attributes;
mod event;
mod query;
mod refs;
mod rest;

pub use attributes::{
    ApprovalAttr, ChangeAttr, CommentAttr, DependencyAttr, FileAttr, PatchsetAttr, RefUpdateAttr,
    SubmitLabelAttr, SubmitRecordAttr,
};
pub use event::{StreamEvent, What, event};
pub use query::{QueryLine, Stats, query_line};
pub use refs::advertised_refs;
pub use rest::{
    Merging, Related, SubmitType, branches, change_info, change_infos, files, labels, mergeable, merging,
    notes, related, rest_json,
};

use assay_engine::gate::change::Account;
use assay_engine::ids::Timestamp;
use serde_json::{Map, Value};

/// Why something that Gerrit said cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not JSON at all.
    #[error("not JSON ({why}): {line}")]
    NotJson {
        /// What the JSON reader said.
        why: String,
        /// The beginning of the line.
        line: String,
    },
    /// JSON, but not an object or list where one must be.
    #[error("expected {expected}: {line}")]
    Shape {
        /// What was expected.
        expected: &'static str,
        /// The beginning of the line.
        line: String,
    },
    /// A member without which nothing can be done.
    #[error("{what} without a usable {field}: {line}")]
    Missing {
        /// The type of the event, or what else it is.
        what: String,
        /// The member.
        field: &'static str,
        /// The beginning of the line.
        line: String,
    },
}

/// The beginning of a text, for error messages.
pub(crate) fn excerpt(text: &str) -> String {
    const MOST: usize = 200;
    let text = text.trim();
    let cut = text.floor_char_boundary(MOST);
    if cut < text.len() { format!("{}…", &text[..cut]) } else { text.to_owned() }
}

/// Reads a text as JSON.
fn json(text: &str) -> Result<Value, ParseError> {
    serde_json::from_str(text)
        .map_err(|error| ParseError::NotJson { why: error.to_string(), line: excerpt(text) })
}

/// An object whose members are read leniently.
#[derive(Debug, Clone, Copy)]
struct Obj<'a>(&'a Map<String, Value>);

impl<'a> Obj<'a> {
    fn of(value: &'a Value) -> Option<Self> {
        value.as_object().map(Self)
    }

    fn value(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text; numbers and truths are texts too. The empty one counts as none.
    fn text(self, name: &str) -> Option<String> {
        let text = match self.value(name)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            _ => return None,
        };
        (!text.is_empty()).then_some(text)
    }

    /// A number, as such or as a string.
    fn number<N: TryFrom<i64>>(self, name: &str) -> Option<N> {
        let number = match self.value(name)? {
            Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
            Value::String(text) => text.trim().trim_start_matches('+').parse().ok(),
            _ => None,
        };
        N::try_from(number?).ok()
    }

    /// A time in seconds.
    fn seconds(self, name: &str) -> Option<Timestamp> {
        let seconds: i64 = self.number(name)?;
        seconds.checked_mul(1_000_000).map(Timestamp)
    }

    fn flag(self, name: &str) -> bool {
        match self.value(name) {
            Some(Value::Bool(truth)) => *truth,
            Some(Value::String(text)) => text == "true",
            _ => false,
        }
    }

    fn object(self, name: &str) -> Option<Self> {
        self.value(name).and_then(Self::of)
    }

    fn objects(self, name: &str) -> impl Iterator<Item = Self> + use<'a> {
        self.value(name).and_then(Value::as_array).into_iter().flatten().filter_map(Self::of)
    }

    fn texts(self, name: &str) -> Vec<String> {
        let list = self.value(name).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn account(self, name: &str) -> Option<Account> {
        self.object(name).map(Self::as_account)
    }

    fn as_account(self) -> Account {
        Account { name: self.text("name"), email: self.text("email"), username: self.text("username") }
    }
}

fn whole(number: f64) -> Option<i64> {
    let fits = number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0;
    fits.then_some(number as i64)
}
