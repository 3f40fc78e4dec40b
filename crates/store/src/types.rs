//! What goes into the store and what comes out.

use crate::blobs::BlobRef;
use crate::gate::{EventId, GateBatch};
use assay_engine::gate::rows::GateRow;
use assay_engine::ids::{AttemptId, JobId, WorkerName};
use assay_engine::job::StateWord;
use assay_engine::outcome::Outcome;
use assay_engine::reason::WaitReason;
use assay_engine::rows::{AttemptRow, JobRow, QueueRow, Row, WorkerRow};
use assay_engine::settings::ClassSet;
use std::collections::BTreeMap;

/// A term of leadership. Grows with every change of the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub i64);

/// An attempt's closed streams by file name, for example `steps.jsonl`.
pub type Streams = BTreeMap<String, BlobRef>;

/// Rows to store in one transaction. Of several rows with one key only the last is kept.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub(crate) jobs: BTreeMap<JobId, JobRow>,
    pub(crate) attempts: BTreeMap<AttemptId, AttemptRow>,
    pub(crate) workers: BTreeMap<WorkerName, WorkerRow>,
    pub(crate) queues: BTreeMap<ClassSet, QueueRow>,
    pub(crate) streams: BTreeMap<AttemptId, Streams>,
    pub(crate) gate: GateBatch,
}

impl Batch {
    /// Adds a row, which replaces an earlier one with the same key.
    pub fn push(&mut self, row: Row) {
        match row {
            Row::Job(row) => drop(self.jobs.insert(row.id, row)),
            Row::Attempt(row) => drop(self.attempts.insert(row.id, row)),
            Row::Worker(row) => drop(self.workers.insert(row.name.clone(), row)),
            Row::Queue(row) => drop(self.queues.insert(row.classes.clone(), row)),
            Row::Gate(row) => self.push_gate(*row),
        }
    }

    /// Adds the closed streams of an attempt that is stored already or is in this batch.
    pub fn push_streams(&mut self, attempt: AttemptId, streams: Streams) {
        self.streams.insert(attempt, streams);
    }

    /// Adds a row of the gate, which replaces an earlier one with the same key.
    pub fn push_gate(&mut self, row: GateRow) {
        self.gate.push(row);
    }

    /// An event of the inbox is dealt with by what else is in this batch; `caused` is JSON for people and programs. `body`
    /// takes the place of what was received: the same event with what was known when it was dealt with.
    pub fn consumed(&mut self, event: EventId, caused: String, body: Option<String>) {
        self.gate.consumed.insert(event, (caused, body));
    }

    /// True if there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
            && self.attempts.is_empty()
            && self.workers.is_empty()
            && self.queues.is_empty()
            && self.streams.is_empty()
            && self.gate.is_empty()
    }
}

/// A job as pages need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredJob {
    /// The job.
    pub row: JobRow,
    /// Why it waits, if it is scheduled.
    pub wait: Option<WaitReason>,
}

/// An attempt as pages need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAttempt {
    /// The attempt.
    pub row: AttemptRow,
    /// Its streams, once they are closed; before that they are in the spool.
    pub streams: Option<Streams>,
}

/// Which jobs to list. Conditions are combined with "and"; empty lists and `None` do not restrict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFilter {
    /// In one of these states.
    pub states: Vec<StateWord>,
    /// With one of these outcomes.
    pub outcomes: Vec<Outcome>,
    /// This text is in the name or in the reason; capitals do not matter.
    pub text: Option<String>,
    /// With a lower number than this: the next page.
    pub before: Option<JobId>,
    /// At most so many.
    pub limit: u32,
}

impl Default for JobFilter {
    fn default() -> Self {
        Self { states: Vec::new(), outcomes: Vec::new(), text: None, before: None, limit: 100 }
    }
}
