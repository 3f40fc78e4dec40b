//! The lines of `gerrit query --format json`.

use super::{ChangeAttr, Obj, ParseError, excerpt, json};
use serde_json::Value;

/// One line of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum QueryLine {
    /// A change that fits.
    Change(Box<ChangeAttr>),
    /// The last line.
    Stats(Stats),
    /// The query was not understood, or failed.
    Error {
        /// What Gerrit says.
        message: String,
    },
    /// Something else, kept as it came.
    Unknown {
        /// The line.
        body: Value,
    },
}

/// What the last line of an answer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Rows of this answer.
    pub rows: usize,
    /// Whether there are more behind them; old versions do not say.
    pub more: Option<bool>,
}

/// Reads a line of a query's answer.
pub fn query_line(line: &str) -> Result<QueryLine, ParseError> {
    let value = json(line)?;
    let object =
        Obj::of(&value).ok_or_else(|| ParseError::Shape { expected: "an object", line: excerpt(line) })?;
    match object.text("type").as_deref() {
        Some("stats") => Ok(QueryLine::Stats(Stats {
            rows: object
                .number("rowCount")
                .and_then(|rows: i64| usize::try_from(rows).ok())
                .unwrap_or_default(),
            more: object.value("moreChanges").map(|_| object.flag("moreChanges")),
        })),
        Some("error") => Ok(QueryLine::Error {
            message: object.text("message").unwrap_or_else(|| "no message".to_owned()),
        }),
        Some(_) => Ok(QueryLine::Unknown { body: value }),
        None => {
            let missing = || ParseError::Missing {
                what: "a row of a query".to_owned(),
                field: "project, branch and number",
                line: excerpt(line),
            };
            ChangeAttr::read(object).map(Box::new).map(QueryLine::Change).ok_or_else(missing)
        }
    }
}
