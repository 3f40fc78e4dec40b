//! What others are told, and how that goes; build reports.
//!
//! | request | answer |
//! |---|---|
//! | `GET outbox?target=&state=&before=&limit=` | [`Outbox`], entries the newest first |
//! | `GET outbox/{id}` | [`OutboxEntry`] with what is told |
//! | `POST outbox/retry`, `POST outbox/drop` ([`OutboxChoice`]; operator) | [`OutboxChanged`] |
//! | `GET reports/builds/{build}?against=&distri=&version=&expect=` | `BuildReport` |
//! | `GET notices/{name}`, `PUT notices/{name}` (the rules; the person or an admin), `DELETE notices/{name}` | [`NoticesOf`] |
//! | `GET reports/builds/{build}/text`, `GET reports/builds/{build}/html` | the same as mails have it |

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One who is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxTarget {
    /// The reporter's name in `assay.toml`.
    pub target: String,
    /// How it is told; empty if it is not configured any more.
    pub driver: String,
    /// What is being done.
    pub doing: String,
    /// Why it does not work.
    pub trouble: Option<String>,
    /// Entries that wait.
    pub waiting: u64,
    /// When the oldest of them happened.
    pub oldest: Option<String>,
    /// Seconds since the first of them could have been told: a digest waits on purpose.
    pub lag: i64,
    /// The most tries of one that waits.
    pub attempts: u32,
    /// Entries that are told.
    pub delivered: u64,
    /// Entries that were not sent, and need not be.
    #[serde(default)]
    pub skipped: u64,
    /// Entries that will never be taken.
    pub refused: u64,
    /// Entries that were given up.
    pub dropped: u64,
    /// When the last one was told.
    pub last: Option<String>,
    /// How a repetition is known: `once` if the target can be looked at or knows it by its key, else `key`.
    pub repetition: String,
}

/// Something that is told to one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxEntry {
    /// Its number.
    pub id: i64,
    /// Who is told.
    pub target: String,
    /// What tells it from everything else.
    pub key: String,
    /// What it is, for example `job.done`.
    pub kind: String,
    /// What it is about.
    pub about: String,
    /// When it happened.
    pub at: String,
    /// `waiting`, `delivered`, `skipped`, `refused` or `dropped`
    pub state: String,
    /// How often it was tried in vain.
    pub attempts: u32,
    /// Not before.
    pub next_try: Option<String>,
    /// What went wrong, or what is worth knowing.
    pub note: Option<String>,
    /// When it was told or given up.
    pub ended: Option<String>,
    /// What is told.
    pub body: Option<Value>,
}

/// Answer to `GET outbox`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox {
    /// True if nothing is sent and everything is logged.
    pub staging: bool,
    /// Who is told.
    pub targets: Vec<OutboxTarget>,
    /// Entries, the newest first.
    pub entries: Vec<OutboxEntry>,
    /// There are older ones: ask again with this as `before`.
    pub next_before: Option<i64>,
}

/// Which entries.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboxChoice {
    /// With these numbers.
    #[serde(default)]
    pub ids: Vec<i64>,
    /// Or all of this target that wait or were refused.
    #[serde(default)]
    pub target: Option<String>,
    /// Of this target those in this state: `skipped` for what a staging server did not send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// The entries that were changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxChanged {
    /// Their numbers.
    pub ids: Vec<i64>,
}

/// What somebody wants to hear of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticesOf {
    /// Whose it is.
    pub name: String,
    /// The address of their Atom feed; who knows it can read it.
    pub feed: String,
    /// There is a mail server.
    pub mail_works: bool,
    /// There is an account of Matrix.
    #[serde(default)]
    pub matrix_works: bool,
    /// The rules.
    pub notices: Value,
}
