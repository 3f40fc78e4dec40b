//! How commands end.

use camino::Utf8Path;

/// The exit codes, which are an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// All is well.
    Ok = 0,
    /// The verdict is negative.
    Negative = 1,
    /// The command line, the configuration or the tests are wrong.
    Usage = 2,
    /// Machines, disks, network, server.
    Infrastructure = 3,
    /// There is no such thing.
    NotFound = 4,
}

impl From<Code> for std::process::ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// A command that could not do what it was asked: one sentence with its remedy.
#[derive(Debug, thiserror::Error)]
#[error("{}", joined(.message, .help))]
pub(crate) struct CliError {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// The remedy, where it is a sentence by itself, as servers tell it.
    pub(crate) help: String,
}

fn joined(message: &str, help: &str) -> String {
    match help {
        "" => message.to_owned(),
        help => format!("{}. {help}", message.trim_end_matches('.')),
    }
}

impl CliError {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: Code::Usage, message: message.into(), help: String::new() }
    }
    pub(crate) fn infrastructure(message: impl Into<String>) -> Self {
        Self { code: Code::Infrastructure, message: message.into(), help: String::new() }
    }
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self { code: Code::NotFound, message: message.into(), help: String::new() }
    }
    pub(crate) fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: help.into(), ..self }
    }
    /// A file that was named and cannot be read.
    pub(crate) fn unreadable(file: &Utf8Path, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::not_found(format!("there is no file {file}")),
            _ => Self::usage(format!("{file} cannot be read: {error}")),
        }
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::infrastructure(error.to_string())
    }
}
