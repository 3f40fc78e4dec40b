//! What is wrong with a file that a user brought, and what to do about it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; nothing is refused.
    Warning,
    /// Refused.
    Error,
}

/// One finding, with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable word for programs, for example `unknown-call`.
    pub code: String,
    /// The file as the user knows it.
    pub file: String,
    /// From 1; 0 when the finding is about the file as a whole.
    pub line: u32,
    /// From 1; 0 when the finding is about the line as a whole.
    pub column: u32,
    /// One sentence: what is wrong.
    pub message: String,
    /// One sentence: what to do, for example "did you mean `assert_screen`?".
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error in `file` as a whole.
    pub fn error(code: &str, file: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code: code.into(),
            file: file.into(),
            line: 0,
            column: 0,
            message: message.into(),
            help: None,
        }
    }

    /// A warning about `file` as a whole.
    pub fn warning(code: &str, file: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, file, message) }
    }

    /// At this line and column, both from 1.
    #[must_use]
    pub fn at(mut self, line: u32, column: u32) -> Self {
        (self.line, self.column) = (line, column);
        self
    }

    /// With a remedy.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// True if it refuses the input.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        let word = if self.is_error() { "error" } else { "warning" };
        write!(f, ": {word}: {}", self.message)?;
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}
