//! Storage by use case. [`open`] gives a [`Store`] on SQLite or PostgreSQL; [`blobs`] keeps what does not change,
//! by content; [`spool`] keeps what still grows.
//!
//! The way of a deciding step: `Engine::step` → [`Batch`] → [`Store::commit`] → only then are messages sent and
//! requests answered. The way of a stream: worker → [`spool::Spool::append`] (on disk when it returns) → acknowledged
//! → when the attempt has ended [`spool::Spool::close`] makes blobs of its streams, whose [`blobs::BlobRef`]s go into
//! the attempt's row with the next batch → [`spool::Spool::remove`].
#![warn(missing_docs)]

mod assets;
pub mod blobs;
mod builds;
mod codec;
mod disk;
mod error;
mod events;
mod gate;
mod jobs;
mod knowledge;
mod outbox;
mod postgres;
mod results;
mod schema;
pub mod spool;
mod sql;
mod sqlite;
mod types;

pub use assets::{AssetFiles, AssetId, AssetRole, AssetStore, AssetUse, AssetVersion, JobAsset, Upload};
pub use error::{DatabaseError, StoreError};
pub use events::{
    EffectState, EffectsDone, EndedJob, EventStore, Matched, MessageFilter, MessageSource, MessageState,
    NewMessage, PANICKED, RuleHits, SourceRole, SourceTally, StoredEffect, StoredMessage,
};
pub use gate::{
    EventId, EventState, GATE_TARGET, GateStore, NewEvent, StoredBuild, StoredBuildset, StoredEvent,
    StoredReceipt, StoredReport, Tried, WaitingReport,
};
pub use knowledge::{
    AuditEvent, AuditFilter, Bug, BugFacts, BugFilter, BugId, CatalogChange, CatalogRow, Comment, CommentId,
    CommentTarget, EntryId, EntryKind, Group, GroupProperties, Identity, JobTemplate, KnowledgeStore,
    Machine, ParentGroup, People, Product, RunMark, SettingsMap, StoredKey, TestSuite, Ticket, TicketKind,
    Tickets, User, UserId, UserRole,
};
pub use outbox::{
    EntryFilter, EntryState, NUMBER, NewEntry, NumberOf, OutboxStore, StoredEntry, TargetTally,
};
pub use results::{
    Condition, DecisionRow, Evidence, EvidenceFilter, Field, GroupOf, NameFilter, NewResult, ReleaseTally,
    ResultFilter, ResultGroup, ResultId, ResultStore, StoredResult, Testcase, Undecided, Waiver,
    WaiverChoice, WaiverFilter,
};
pub use types::{
    Batch, BuildTally, Column, Epoch, GroupBuild, JobFilter, JobSummary, RunFilter, ScenarioKey, Scope,
    StoredAttempt, StoredJob, Streams,
};

use assay_engine::ids::{AttemptId, GroupId, JobId, ProductRunId};
use assay_engine::job::StateWord;
use assay_engine::relations::Parent;
use assay_engine::rows::{ProductRunRow, Rows, WorkerRow};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most jobs that [`Store::cluster`] looks at before it stops.
pub const CLUSTER_LIMIT: usize = 10_000;

/// What the server keeps in a database. Every method may be called from any task at any time.
///
/// Only the leader writes: [`Store::commit`] takes the [`Epoch`] that [`Store::acquire_leadership`] gave, and refuses
/// with [`StoreError::Deposed`] once another process has acquired the leadership.
#[async_trait::async_trait]
pub trait Store: Send + Sync {
    /// Makes this process the one that decides; whoever was it before is deposed.
    async fn acquire_leadership(&self) -> Result<Epoch, StoreError>;

    /// To be called between a failed commit and [`Store::load`]: when it returns `Ok`, this process still leads, and
    /// every earlier commit of this epoch has either been stored, so that `load` sees it, or never will be.
    /// [`StoreError::Deposed`] if another process has acquired the leadership meanwhile. May be repeated after an error.
    async fn reacquire(&self, epoch: Epoch) -> Result<(), StoreError>;

    /// Stores a batch: all of it, or nothing. When this returns `Ok`, it is on disk. After any other error than
    /// [`StoreError::Deposed`] it may or may not be stored, now or a moment later: drop the engine's state, call
    /// [`Store::reacquire`], and rebuild the state from [`Store::load`].
    ///
    /// A new job never takes the place of another with its number: that is an error, and nothing is stored.
    async fn commit(&self, epoch: Epoch, batch: &Batch) -> Result<(), StoreError>;

    /// Everything that `assay_engine::state::State::rebuild` needs.
    async fn load(&self) -> Result<Rows, StoreError>;

    /// Jobs, the newest first.
    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<StoredJob>, StoreError>;

    /// Jobs without their settings, the newest first: for lists of thousands.
    async fn summaries(&self, filter: &JobFilter) -> Result<Vec<JobSummary>, StoreError>;

    /// The numbers of jobs, the newest first.
    async fn ids(&self, filter: &JobFilter) -> Result<Vec<JobId>, StoreError> {
        Ok(self.summaries(filter).await?.into_iter().map(|job| job.id).collect())
    }

    /// How many jobs there are that the filter lets through, whatever its limit and offset are.
    async fn count(&self, filter: &JobFilter) -> Result<u64, StoreError>;

    /// The builds of these groups, of all groups if none is named.
    async fn group_builds(&self, groups: &[GroupId]) -> Result<Vec<GroupBuild>, StoreError>;

    /// What became of builds.
    async fn tallies(&self, builds: &[(GroupId, String)]) -> Result<Vec<BuildTally>, StoreError>;

    /// Everything that is related to these jobs by any number of steps from parent to child and back, with the jobs
    /// themselves, the oldest first; with `clones` also what was made from any of them. Stops looking beyond
    /// [`CLUSTER_LIMIT`] jobs.
    async fn cluster(&self, jobs: &[JobId], clones: bool) -> Result<Vec<StoredJob>, StoreError>;

    /// The jobs that depend on one of these.
    async fn children(&self, jobs: &[JobId]) -> Result<Vec<(JobId, Parent)>, StoreError>;

    /// A post of a product.
    async fn product_run(&self, id: ProductRunId) -> Result<Option<ProductRunRow>, StoreError>;

    /// Posts of products, the newest first.
    async fn product_runs(&self, filter: &RunFilter) -> Result<Vec<ProductRunRow>, StoreError>;

    /// One job.
    async fn job(&self, id: JobId) -> Result<Option<StoredJob>, StoreError>;

    /// A job's attempts, the first first.
    async fn attempts(&self, job: JobId) -> Result<Vec<StoredAttempt>, StoreError>;

    /// How many jobs are in each state; every state is there.
    async fn counts(&self) -> Result<BTreeMap<StateWord, u64>, StoreError>;

    /// All workers by name.
    async fn workers(&self) -> Result<Vec<WorkerRow>, StoreError>;

    /// Attempts that have ended while their streams have not been closed, the oldest first.
    async fn unclosed(&self) -> Result<Vec<AttemptId>, StoreError>;

    /// What is kept of the gate besides.
    fn gate(&self) -> &dyn GateStore;

    /// What is kept of people, of what they set up and of what they say.
    fn knowledge(&self) -> &dyn KnowledgeStore;

    /// What is kept of assets.
    fn assets(&self) -> &dyn AssetStore;

    /// What is kept of results of tests.
    fn results(&self) -> &dyn ResultStore;
    /// What is kept of events outside.
    fn events(&self) -> &dyn EventStore;
    /// What is kept of what others are to be told.
    fn outbox(&self) -> &dyn OutboxStore;

    /// Closes all connections.
    async fn close(&self);
}

/// Opens the database at `url` and brings its tables up to date: `sqlite:PATH` (made if it is not there) or
/// `postgres://USER@HOST/DATABASE` (`postgresql://` too; `?host=/DIR` for a Unix socket).
pub async fn open(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let backend = sqlite::Sqlite::open(path.strip_prefix("//").unwrap_or(path)).await?;
        return Ok(Arc::new(sql::Sql::migrated(backend).await?));
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        let backend = postgres::Postgres::open(url).await?;
        return Ok(Arc::new(sql::Sql::migrated(backend).await?));
    }
    Err(StoreError::UnknownUrl { url: redacted(url) })
}

/// `url` without a password.
fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_end);
    match authority.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}@{host}{path}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_that_cannot_be_opened() {
        for (url, expected) in [
            ("mysql://root:secret@host/x", "\"mysql://root@host/x\" is no database address"),
            ("/var/lib/assay.db", "use sqlite:PATH or postgres://"),
            ("postgres://me:secret@127.0.0.1:1/x", "cannot open the database postgres://me@127.0.0.1:1/x"),
            ("postgres:///x?host=/nonexistent", "check that PostgreSQL runs at that address"),
        ] {
            let message = open(url).await.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(message.contains(expected) && !message.contains("secret"), "{url}: {message}");
        }
    }
}
