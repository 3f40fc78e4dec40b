//! The outbox: what outside systems and people are to be told. Rows are written in the transaction that decides what they
//! tell of; each target is told in the order in which they were written.

mod queries;

pub(crate) use queries::{entry_statements, entry_statements_if};

use crate::error::StoreError;
use crate::gate::Tried;
use crate::types::Epoch;
use assay_engine::ids::Timestamp;

/// Numbers that the database gives in the very transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberOf {
    /// Of a waiver.
    Waivers,
    /// Of a comment.
    Comments,
}

impl NumberOf {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Waivers => "waivers",
            Self::Comments => "comments",
        }
    }
}

/// Stands in a key and a body for a number that the database gives. JSON never has it as it is.
pub const NUMBER: char = '\u{1}';

/// Something to be told to one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// Who is told.
    pub target: String,
    /// Tells it from everything else that this target is told: it is told once.
    pub key: String,
    /// What it is, in a word, for example `job.done`.
    pub kind: String,
    /// What it is about, for people.
    pub about: String,
    /// What is to be told, as JSON.
    pub body: String,
    /// When it happened.
    pub at: Timestamp,
    /// Not before.
    pub due: Option<Timestamp>,
    /// What stands for [`NUMBER`] in the key and the body: a number that is given in this transaction, and how many were
    /// given after it.
    pub numbered: Option<(NumberOf, i64)>,
}

/// How far an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryState {
    /// To be told.
    Waiting,
    /// Told, and confirmed.
    Delivered,
    /// Not sent, and it need not be.
    Skipped,
    /// Will never be taken like this.
    Refused,
    /// Somebody gave it up.
    Dropped,
}

impl EntryState {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Waiting, Self::Delivered, Self::Skipped, Self::Refused, Self::Dropped];

    /// The word that is stored.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Skipped => "skipped",
            Self::Refused => "refused",
            Self::Dropped => "dropped",
        }
    }

    /// The state that `word` names.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

/// An entry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its number: targets are told in this order.
    pub id: i64,
    /// Who is told.
    pub target: String,
    /// What tells it from others.
    pub key: String,
    /// What it is.
    pub kind: String,
    /// What it is about.
    pub about: String,
    /// What is to be told, as JSON.
    pub body: String,
    /// When it happened.
    pub at: Timestamp,
    /// How far it is.
    pub state: EntryState,
    /// How often it was tried in vain.
    pub attempts: u32,
    /// Not before.
    pub next_try: Option<Timestamp>,
    /// What went wrong, or what is worth knowing.
    pub note: Option<String>,
    /// When it was told or given up.
    pub ended_at: Option<Timestamp>,
}

/// Which entries are listed, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryFilter {
    /// Only to this target.
    pub target: Option<String>,
    /// Only in this state.
    pub state: Option<EntryState>,
    /// Only of this kind, and about this.
    pub about: Option<(String, String)>,
    /// Only before this number.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

/// How a target does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetTally {
    /// Who.
    pub target: String,
    /// Entries that wait.
    pub waiting: u64,
    /// When the oldest of them happened.
    pub oldest: Option<Timestamp>,
    /// Since when the first of them could have been told: a digest waits on purpose.
    pub due: Option<Timestamp>,
    /// The most tries of one that waits.
    pub attempts: u32,
    /// Entries that are told.
    pub delivered: u64,
    /// Entries that were not sent, and need not be.
    pub skipped: u64,
    /// Entries that were refused.
    pub refused: u64,
    /// Entries that were given up.
    pub dropped: u64,
    /// When the last one was told.
    pub last: Option<Timestamp>,
}

/// The part of the store for what is to be told. Whoever writes must lead, as in [`crate::Store::commit`].
#[async_trait::async_trait]
pub trait OutboxStore: Send + Sync {
    /// Adds entries by themselves; what is known by its target and key changes nothing.
    async fn add_entries(&self, epoch: Epoch, entries: &[NewEntry]) -> Result<(), StoreError>;

    /// What a target is to be told next, in order.
    async fn next_entries(&self, target: &str, limit: u32) -> Result<Vec<StoredEntry>, StoreError>;

    /// The same without what is not due at this time, and when the first of that will be.
    async fn due_entries(
        &self,
        target: &str,
        now: Timestamp,
        limit: u32,
    ) -> Result<(Vec<StoredEntry>, Option<Timestamp>), StoreError>;

    /// Notes what came of tries.
    async fn entries_tried(&self, epoch: Epoch, tried: &[(i64, Tried)]) -> Result<(), StoreError>;

    /// Entries, the newest first.
    async fn entries(&self, filter: &EntryFilter) -> Result<Vec<StoredEntry>, StoreError>;

    /// One entry.
    async fn entry(&self, id: i64) -> Result<Option<StoredEntry>, StoreError>;

    /// Has entries told again, at once, unless they are told; the numbers of those that were not.
    async fn retry_entries(&self, epoch: Epoch, ids: &[i64]) -> Result<Vec<i64>, StoreError>;

    /// Gives entries up, unless they are told; the numbers of those that were not.
    async fn drop_entries(
        &self,
        epoch: Epoch,
        ids: &[i64],
        by: &str,
        at: Timestamp,
    ) -> Result<Vec<i64>, StoreError>;

    /// How targets do, by name.
    async fn target_tallies(&self) -> Result<Vec<TargetTally>, StoreError>;

    /// Targets whose names begin like this and to whom something waits to be told.
    async fn waiting_targets(&self, prefix: &str) -> Result<Vec<String>, StoreError>;

    /// What people want to hear of, as JSON by their names.
    async fn notices(&self) -> Result<Vec<(String, String)>, StoreError>;

    /// Keeps what somebody wants to hear of; `None` for nothing.
    async fn put_notices(
        &self,
        epoch: Epoch,
        name: &str,
        body: Option<&str>,
        at: Timestamp,
    ) -> Result<(), StoreError>;

    /// Removes entries that ended before, at most `limit`; how many were removed.
    async fn prune_entries(&self, epoch: Epoch, before: Timestamp, limit: u32) -> Result<u32, StoreError>;
}
