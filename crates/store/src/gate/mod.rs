//! What is stored of the gate, besides what [`crate::Store::load`] brings back: history, inbox, outbox, receipts.

mod batch;
mod queries;

pub(crate) use batch::{GateBatch, job_statements};

use crate::error::StoreError;
use crate::outbox::EntryState;
use crate::types::Epoch;
use assay_engine::gate::ids::{
    BranchName, ItemId, JobName, MergeId, Oid, PipelineName, ProjectName, SourceName, Uuid,
};
use assay_engine::gate::io::{BuildResult, Report};
use assay_engine::gate::item::Item;
use assay_engine::gate::reason::ResetReason;
use assay_engine::gate::rows::GateRows;
use assay_engine::ids::{JobId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An event of the inbox. Grows with every event received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(pub i64);

/// An event to be received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Tells it from all other events of its source; the same event has the same key however often it comes.
    pub dedupe_key: String,
    /// The change concerned.
    pub change: Option<u64>,
    /// The event as JSON.
    pub body: String,
}

/// How far an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventState {
    /// Stored, and nothing decided.
    Received,
    /// Dealt with.
    Consumed,
    /// Put aside: it cannot be dealt with. What it caused says why.
    Parked,
}

impl EventState {
    /// The word that is stored.
    pub fn word(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Consumed => "consumed",
            Self::Parked => "parked",
        }
    }

    /// The state that `word` names.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Received, Self::Consumed, Self::Parked].into_iter().find(|state| state.word() == word)
    }
}

/// A received event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its number.
    pub id: EventId,
    /// Where it came from.
    pub source: SourceName,
    /// See [`NewEvent`].
    pub dedupe_key: String,
    /// When it was stored.
    pub received_at: Timestamp,
    /// See [`NewEvent`].
    pub change: Option<u64>,
    /// See [`NewEvent`].
    pub body: String,
    /// How far it is.
    pub state: EventState,
    /// What came of it, as JSON.
    pub caused: Option<String>,
}

/// A build, of whatever buildset of its item. One that has no end though its buildset is not the item's last was stopped
/// because nobody wanted its result any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBuild {
    /// Its identity.
    pub uuid: Uuid,
    /// The item that asked for it.
    pub item: ItemId,
    /// That item's buildset.
    pub buildset: u32,
    /// The job.
    pub job: JobName,
    /// The item's project.
    pub project: ProjectName,
    /// The item's pipeline.
    pub pipeline: PipelineName,
    /// The item's branch.
    pub branch: BranchName,
    /// Its failure fails the item.
    pub voting: bool,
    /// The tree of the item's own project that was tested.
    pub tree: Option<Oid>,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// When a worker began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub result: Option<BuildResult>,
}

/// A state that an item was tested on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBuildset {
    /// From 1.
    pub number: u32,
    /// The name of its refs.
    pub identity: Uuid,
    /// The item ahead.
    pub ahead: Option<ItemId>,
    /// The state that it was merged on, if an item was ahead then.
    #[serde(default)]
    pub on: Option<MergeId>,
    /// Why the one before was thrown away.
    pub because: Option<ResetReason>,
}

/// Targets of the gate's reports in the outbox begin so; the name of their source follows.
pub const GATE_TARGET: &str = "gate/";

/// A report and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReport {
    /// What to tell.
    pub report: Report,
    /// How far it is.
    pub state: EntryState,
    /// How often it was tried in vain.
    pub attempts: u32,
    /// Not before.
    pub next_try: Option<Timestamp>,
    /// What went wrong last, or what is worth knowing.
    pub note: Option<String>,
    /// When it was told or given up.
    pub ended_at: Option<Timestamp>,
}

/// A report that waits for delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingReport {
    /// Its item and number.
    pub id: (ItemId, u32),
    /// How often it was tried.
    pub attempts: u32,
    /// Not before.
    pub next_try: Option<Timestamp>,
}

/// What came of a try to deliver or publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// It is there.
    Done {
        /// Since when.
        at: Timestamp,
        /// What is worth knowing: "revision 12".
        note: Option<String>,
    },
    /// It was not sent, and need not be.
    Skipped {
        /// When that was seen.
        at: Timestamp,
        /// Why.
        note: String,
    },
    /// To be tried again.
    Later {
        /// Not before.
        at: Timestamp,
        /// What went wrong.
        error: String,
    },
    /// Trying again would not help.
    Never {
        /// What is wrong.
        error: String,
    },
}

/// A receipt and whether it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReceipt {
    /// The project.
    pub project: ProjectName,
    /// The branch.
    pub branch: BranchName,
    /// The commit that landed.
    pub commit: Oid,
    /// The item that landed it.
    pub item: ItemId,
    /// The signed envelope as it is published.
    pub body: String,
    /// When it was signed.
    pub signed_at: Timestamp,
    /// When it was published.
    pub published_at: Option<Timestamp>,
    /// How often publishing was tried.
    pub attempts: u32,
    /// What went wrong last.
    pub last_error: Option<String>,
}

/// The gate's part of the store. Lists are the newest first.
#[async_trait::async_trait]
pub trait GateStore: Send + Sync {
    /// Everything that the gate is rebuilt from.
    async fn load_gate(&self) -> Result<GateRows, StoreError>;

    /// An item, ended or not.
    async fn item(&self, id: ItemId) -> Result<Option<Arc<Item>>, StoreError>;

    /// The items that a change was in.
    async fn items_of_change(
        &self,
        source: &SourceName,
        number: u64,
        limit: u32,
    ) -> Result<Vec<Arc<Item>>, StoreError>;

    /// Items of a pipeline, or of all.
    async fn recent_items(
        &self,
        pipeline: Option<&PipelineName>,
        before: Option<ItemId>,
        limit: u32,
    ) -> Result<Vec<Arc<Item>>, StoreError>;

    /// The buildsets of an item, the first first.
    async fn buildsets(&self, item: ItemId) -> Result<Vec<StoredBuildset>, StoreError>;

    /// The builds of an item, the first first.
    async fn builds_of_item(&self, item: ItemId) -> Result<Vec<StoredBuild>, StoreError>;

    /// One build.
    async fn build(&self, uuid: Uuid) -> Result<Option<StoredBuild>, StoreError>;

    /// The builds of a job.
    async fn builds_of_job(
        &self,
        job: &JobName,
        before: Option<Timestamp>,
        limit: u32,
    ) -> Result<Vec<StoredBuild>, StoreError>;

    /// The job that runs a build.
    async fn job_of_build(&self, uuid: Uuid) -> Result<Option<JobId>, StoreError>;

    /// The newest job with these logs (`LOG_PATH`).
    async fn job_of_log_path(&self, path: &str) -> Result<Option<JobId>, StoreError>;

    /// The reports of an item, the first first.
    async fn reports_of_item(&self, item: ItemId) -> Result<Vec<StoredReport>, StoreError>;

    /// Reports that wait for delivery, in the order in which they were made.
    async fn undelivered(&self) -> Result<Vec<StoredReport>, StoreError>;

    /// The same without what they say.
    async fn undelivered_keys(&self) -> Result<Vec<WaitingReport>, StoreError>;

    /// One report.
    async fn report(&self, report: (ItemId, u32)) -> Result<Option<StoredReport>, StoreError>;

    /// Notes what came of a try to deliver a report.
    async fn report_tried(
        &self,
        epoch: Epoch,
        report: (ItemId, u32),
        tried: &Tried,
    ) -> Result<(), StoreError>;

    /// Stores events and, in the same transaction, how far their source has been read (by name; none to remove). Returns
    /// those that are new; an event whose key is known changes nothing.
    async fn receive(
        &self,
        epoch: Epoch,
        source: &SourceName,
        at: Timestamp,
        events: &[NewEvent],
        cursors: &[(String, Option<String>)],
    ) -> Result<Vec<StoredEvent>, StoreError>;

    /// How far a source has been read.
    async fn cursors(&self, source: &SourceName) -> Result<BTreeMap<String, String>, StoreError>;

    /// The keys of events received since a time.
    async fn recent_keys(&self, source: &SourceName, since: Timestamp) -> Result<Vec<String>, StoreError>;

    /// Events that nothing has been decided about, the first first.
    async fn unconsumed(&self) -> Result<Vec<StoredEvent>, StoreError>;

    /// One event.
    async fn event(&self, id: EventId) -> Result<Option<StoredEvent>, StoreError>;

    /// Removes events that were dealt with and are older than `before`, the oldest first, at most `limit` at once; how
    /// many were removed.
    async fn prune_events(&self, epoch: Epoch, before: Timestamp, limit: u32) -> Result<u32, StoreError>;

    /// Puts an event aside that cannot be dealt with.
    async fn park(&self, epoch: Epoch, event: EventId, why: &str) -> Result<(), StoreError>;

    /// Events of all sources.
    async fn events(&self, before: Option<EventId>, limit: u32) -> Result<Vec<StoredEvent>, StoreError>;

    /// Events of all sources from a number on, the first first.
    async fn events_after(&self, after: EventId, limit: u32) -> Result<Vec<StoredEvent>, StoreError>;

    /// Builds that have ended, by their end and name, from there on.
    async fn builds_after(
        &self,
        after: (Timestamp, Uuid),
        limit: u32,
    ) -> Result<Vec<StoredBuild>, StoreError>;

    /// Events about a change, the newest first.
    async fn events_of_change(
        &self,
        source: &SourceName,
        number: u64,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError>;

    /// Stores a receipt; one that is there stays.
    async fn save_receipt(&self, epoch: Epoch, receipt: &StoredReceipt) -> Result<(), StoreError>;

    /// Projects with receipts that are not published.
    async fn unpublished(&self) -> Result<Vec<ProjectName>, StoreError>;

    /// Receipts of a project that are not published, the oldest first.
    async fn unpublished_of(
        &self,
        project: &ProjectName,
        limit: u32,
    ) -> Result<Vec<StoredReceipt>, StoreError>;

    /// Notes what came of a try to publish receipts together.
    async fn receipts_tried(
        &self,
        epoch: Epoch,
        receipts: &[StoredReceipt],
        tried: &Tried,
    ) -> Result<(), StoreError>;

    /// The receipt of a commit on a branch.
    async fn receipt(
        &self,
        project: &ProjectName,
        branch: &BranchName,
        commit: &Oid,
    ) -> Result<Option<StoredReceipt>, StoreError>;

    /// The receipts of an item.
    async fn receipts_of_item(&self, item: ItemId) -> Result<Vec<StoredReceipt>, StoreError>;
}
