//! What can go wrong between Gerrit and us. Every text names the remedy.

use super::parse::ParseError;
use std::time::Duration;

/// Why Gerrit did not do or say what was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GerritError {
    /// Gerrit understood and does not do it.
    #[error("Gerrit refuses {what}: {why}")]
    Refused {
        /// What was wanted.
        what: String,
        /// What Gerrit said.
        why: String,
    },
    /// Gerrit does not know us, or does not let us.
    #[error("Gerrit does not let {user} in: {why}; {remedy}")]
    Unauthorised {
        /// The login.
        user: String,
        /// What is wrong.
        why: String,
        /// What helps.
        remedy: String,
    },
    /// We do not know who is at the other end.
    #[error("{host} is not who it was: {why}; {remedy}")]
    Untrusted {
        /// The address.
        host: String,
        /// What is wrong.
        why: String,
        /// What helps.
        remedy: String,
    },
    /// Nobody there, the connection broke, or an internal error at the other end. `sent` if the request may have got there.
    #[error(
        "Gerrit at {address} cannot be reached: {why}; it is tried again, look at Gerrit and the network if it lasts"
    )]
    Unreachable {
        /// The address.
        address: String,
        /// What is wrong.
        why: String,
        /// The request may have been carried out.
        sent: bool,
    },
    /// No answer in time. `sent` if the request may have got there.
    #[error(
        "Gerrit did not answer {what} within {} s; it is slow or hung, raise the deadline if it is only slow",
        (after.as_secs_f64() * 10.0).round() / 10.0
    )]
    TimedOut {
        /// What was wanted.
        what: String,
        /// The deadline.
        after: Duration,
        /// The request may have been carried out.
        sent: bool,
    },
    /// An answer that cannot be understood.
    #[error("Gerrit's answer to {what} makes no sense: {why}; is it a Gerrit, and is its address right?")]
    Nonsense {
        /// What was wanted.
        what: String,
        /// What is wrong, with the beginning of the line.
        why: String,
    },
}

impl GerritError {
    /// True if the same request may succeed later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut { .. })
    }

    /// True if the request may have been carried out although this is an error.
    pub fn may_have_happened(&self) -> bool {
        match self {
            Self::Unreachable { sent, .. } | Self::TimedOut { sent, .. } => *sent,
            Self::Nonsense { .. } => true,
            Self::Refused { .. } | Self::Unauthorised { .. } | Self::Untrusted { .. } => false,
        }
    }

    pub(super) fn nonsense(what: &str, error: &ParseError) -> Self {
        Self::Nonsense { what: what.to_owned(), why: error.to_string() }
    }
}

/// Why a review is not there, or perhaps not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// Gerrit will never take it like this.
    #[error("{0}")]
    Refused(GerritError),
    /// It was not sent; try again later.
    #[error("{0}")]
    NotSent(GerritError),
    /// It may or may not be there: look before it is sent again.
    #[error("{0}; whether it is there is not known")]
    InDoubt(GerritError),
}

impl From<GerritError> for ReviewError {
    fn from(error: GerritError) -> Self {
        if error.may_have_happened() {
            Self::InDoubt(error)
        } else if error.is_temporary()
            || matches!(error, GerritError::Unauthorised { .. } | GerritError::Untrusted { .. })
        {
            Self::NotSent(error)
        } else {
            Self::Refused(error)
        }
    }
}
