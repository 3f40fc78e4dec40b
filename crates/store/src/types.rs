//! What goes into the store and what comes out.

use crate::blobs::BlobRef;
use crate::gate::{EventId, GateBatch};
use assay_engine::gate::rows::GateRow;
use assay_engine::ids::{AttemptId, GroupId, JobId, ProductRunId, Timestamp, WorkerName};
use assay_engine::job::StateWord;
use assay_engine::outcome::{Outcome, OutcomeClass};
use assay_engine::reason::WaitReason;
use assay_engine::rows::{AttemptRow, JobRow, LocksRow, ProductRunRow, QueueRow, Row, ShareRow, WorkerRow};
use assay_engine::sched::fair::Party;
use assay_engine::settings::ClassSet;
use std::collections::{BTreeMap, BTreeSet};

/// A term of leadership. Grows with every change of the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub i64);

/// An attempt's closed streams by file name, for example `steps.jsonl`.
pub type Streams = BTreeMap<String, BlobRef>;

/// Rows to store in one transaction. Of several rows with one key only the last is kept.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub(crate) jobs: BTreeMap<JobId, JobRow>,
    pub(crate) deleted: BTreeSet<JobId>,
    pub(crate) runs: BTreeMap<ProductRunId, ProductRunRow>,
    pub(crate) attempts: BTreeMap<AttemptId, AttemptRow>,
    /// `None` for one that is forgotten.
    pub(crate) workers: BTreeMap<WorkerName, Option<WorkerRow>>,
    pub(crate) queues: BTreeMap<ClassSet, QueueRow>,
    pub(crate) locks: BTreeMap<JobId, LocksRow>,
    pub(crate) shares: BTreeMap<(Party, String), ShareRow>,
    pub(crate) streams: BTreeMap<AttemptId, Streams>,
    pub(crate) gate: GateBatch,
    pub(crate) results: Vec<crate::results::NewResult>,
    pub(crate) effects: Vec<crate::EffectsDone>,
    pub(crate) outbox: Vec<crate::NewEntry>,
    at: Option<Timestamp>,
}

impl Batch {
    /// Adds a row, which replaces an earlier one with the same key.
    pub fn push(&mut self, row: Row) {
        match row {
            Row::Job(row) => drop(self.jobs.insert(row.id, row)),
            Row::Deleted(job) => {
                self.jobs.remove(&job);
                self.deleted.insert(job);
            }
            Row::Run(row) => drop(self.runs.insert(row.id, row)),
            Row::Attempt(row) => drop(self.attempts.insert(row.id, row)),
            Row::Worker(row) => drop(self.workers.insert(row.name.clone(), Some(row))),
            Row::NoWorker(name) => drop(self.workers.insert(name, None)),
            Row::Queue(row) => drop(self.queues.insert(row.classes.clone(), row)),
            Row::Locks(row) => drop(self.locks.insert(row.cluster, row)),
            Row::Share(row) => drop(self.shares.insert((row.party, row.class.clone()), row)),
            Row::Gate(row) => self.push_gate(*row),
        }
    }

    /// Adds the closed streams of an attempt that is stored already or is in this batch.
    pub fn push_streams(&mut self, attempt: AttemptId, streams: Streams) {
        self.streams.insert(attempt, streams);
    }

    /// Adds a result, whose number nothing else has, and which has not been stored before.
    pub fn push_result(&mut self, result: crate::results::NewResult) {
        self.results.push(result);
    }

    /// The results that will be stored.
    pub fn results(&self) -> &[crate::results::NewResult] {
        &self.results
    }

    /// The jobs that will be stored.
    pub fn jobs(&self) -> impl Iterator<Item = &JobRow> {
        self.jobs.values()
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

    /// Effects of rules are carried out by what else is in this batch.
    pub fn carried_out(&mut self, done: crate::EffectsDone) {
        self.effects.push(done);
    }

    /// Adds something to be told of what else is in this batch.
    pub fn tell(&mut self, entry: crate::NewEntry) {
        self.outbox.push(entry);
    }

    /// Says when this is decided.
    pub fn decided(&mut self, at: Timestamp) {
        self.at = Some(at);
    }

    pub(crate) fn decided_at(&self) -> Timestamp {
        self.at.unwrap_or_default()
    }

    /// Who will be told something.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.outbox.iter().map(|entry| entry.target.as_str())
    }

    /// True if there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
            && self.deleted.is_empty()
            && self.runs.is_empty()
            && self.attempts.is_empty()
            && self.workers.is_empty()
            && self.queues.is_empty()
            && self.locks.is_empty()
            && self.shares.is_empty()
            && self.streams.is_empty()
            && self.gate.is_empty()
            && self.results.is_empty()
            && self.effects.is_empty()
            && self.outbox.is_empty()
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

/// A job as lists and matrices need it: without settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSummary {
    /// Its number.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// `DISTRI`.
    pub distri: Option<String>,
    /// `VERSION`.
    pub version: Option<String>,
    /// `FLAVOR`.
    pub flavor: Option<String>,
    /// `ARCH`.
    pub arch: Option<String>,
    /// `TEST`.
    pub test: Option<String>,
    /// `MACHINE`.
    pub machine: Option<String>,
    /// `BUILD`.
    pub build: Option<String>,
    /// The state in one word.
    pub state: StateWord,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Who has to look at it.
    pub class: Option<OutcomeClass>,
    /// Why it ended like that.
    pub reason: Option<String>,
    /// Lower is earlier.
    pub priority: i32,
    /// Its group.
    pub group: Option<GroupId>,
    /// The post of a product that made it.
    pub run: Option<ProductRunId>,
    /// The job it was made from.
    pub clone_of: Option<JobId>,
    /// The job that was made from it.
    pub cloned_as: Option<JobId>,
    /// The job it waits for.
    pub blocked_by: Option<JobId>,
    /// When it was posted.
    pub created_at: Timestamp,
    /// When its machine began to run.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// A build that a group has jobs of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupBuild {
    /// The group.
    pub group: GroupId,
    /// `VERSION` of its newest job.
    pub version: Option<String>,
    /// `BUILD`.
    pub build: String,
    /// Its newest job.
    pub newest: JobId,
    /// Its oldest job.
    pub oldest: JobId,
}

/// How many jobs of a build are in one state; of each scenario only the newest job counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildTally {
    /// The group.
    pub group: GroupId,
    /// `DISTRI`.
    pub distri: Option<String>,
    /// `VERSION`.
    pub version: Option<String>,
    /// `BUILD`.
    pub build: String,
    /// The state in one word.
    pub state: StateWord,
    /// How they ended.
    pub outcome: Option<Outcome>,
    /// How many.
    pub jobs: u64,
    /// How many of them somebody has commented.
    pub remarked: u64,
    /// When the newest of them was posted.
    pub newest_at: Timestamp,
}

/// Which of several generations of a job are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// All of them.
    #[default]
    All,
    /// Those that have not been started anew.
    Current,
    /// Those that have not been started anew, and those whose clone has not ended yet; none that are obsolete.
    Relevant,
}

/// A setting of jobs that has a column of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// `DISTRI`
    Distri,
    /// `VERSION`
    Version,
    /// `FLAVOR`
    Flavor,
    /// `ARCH`
    Arch,
    /// `TEST`
    Test,
    /// `MACHINE`
    Machine,
    /// `BUILD`
    Build,
}

impl Column {
    /// Every column.
    pub const ALL: [Self; 7] =
        [Self::Distri, Self::Version, Self::Flavor, Self::Arch, Self::Test, Self::Machine, Self::Build];

    /// Its name in the database, which is that of openQA's parameters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Distri => "distri",
            Self::Version => "version",
            Self::Flavor => "flavor",
            Self::Arch => "arch",
            Self::Test => "test",
            Self::Machine => "machine",
            Self::Build => "build",
        }
    }
}

/// Which jobs to list. Conditions are combined with "and"; empty lists and `None` do not restrict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFilter {
    /// With one of these numbers.
    pub ids: Vec<JobId>,
    /// In one of these states.
    pub states: Vec<StateWord>,
    /// With one of these outcomes.
    pub outcomes: Vec<Outcome>,
    /// Jobs without an outcome too, if `outcomes` restricts.
    pub unfinished_too: bool,
    /// This text is in the name or in the reason; capitals do not matter.
    pub text: Option<String>,
    /// With one of these values of `DISTRI`.
    pub distri: Vec<String>,
    /// With one of these values of `VERSION`.
    pub version: Vec<String>,
    /// With one of these values of `FLAVOR`.
    pub flavor: Vec<String>,
    /// With one of these values of `ARCH`.
    pub arch: Vec<String>,
    /// With one of these values of `TEST`.
    pub test: Vec<String>,
    /// With one of these values of `MACHINE`.
    pub machine: Vec<String>,
    /// With one of these values of `BUILD`.
    pub build: Vec<String>,
    /// With none of these values in a column; jobs without one too.
    pub unlike: Vec<(Column, String)>,
    /// In one of these groups; `None` stands for jobs without a group.
    pub groups: Vec<Option<GroupId>>,
    /// Not in one of these.
    pub not_groups: Vec<GroupId>,
    /// Made by this post of a product.
    pub run: Option<ProductRunId>,
    /// With all of these settings, whatever else they have. Of `WORKER_CLASS` and of names with `[]` one of the parts
    /// between commas is enough.
    pub settings: Vec<(String, String)>,
    /// Without any of these settings.
    pub without: Vec<String>,
    /// Which generations.
    pub scope: Scope,
    /// Of exactly this scenario, whose settings have these values or are not set.
    pub scenario: Option<ScenarioKey>,
    /// Of each scenario (`DISTRI VERSION FLAVOR ARCH TEST MACHINE`) only the newest job that fits.
    pub latest: bool,
    /// With a lower number than this: the next page.
    pub before: Option<JobId>,
    /// With a higher number than this.
    pub after: Option<JobId>,
    /// Posted then or before.
    pub posted_until: Option<Timestamp>,
    /// At most so many.
    pub limit: u32,
    /// So many of the newest are left out.
    pub offset: u32,
    /// The job with the lowest number comes first, and those with the lowest stay within the limit.
    pub oldest_first: bool,
}

/// Values of `DISTRI VERSION FLAVOR ARCH TEST MACHINE`; `None` where there is none.
pub type ScenarioKey = [Option<String>; 6];

impl Default for JobFilter {
    fn default() -> Self {
        Self {
            ids: Vec::new(),
            states: Vec::new(),
            outcomes: Vec::new(),
            unfinished_too: false,
            text: None,
            distri: Vec::new(),
            version: Vec::new(),
            flavor: Vec::new(),
            arch: Vec::new(),
            test: Vec::new(),
            machine: Vec::new(),
            build: Vec::new(),
            unlike: Vec::new(),
            groups: Vec::new(),
            not_groups: Vec::new(),
            run: None,
            settings: Vec::new(),
            without: Vec::new(),
            scope: Scope::All,
            scenario: None,
            latest: false,
            before: None,
            after: None,
            posted_until: None,
            limit: 100,
            offset: 0,
            oldest_first: false,
        }
    }
}

/// Which posts of products to list; empty lists and `None` do not restrict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunFilter {
    /// `DISTRI`.
    pub distri: Option<String>,
    /// `VERSION`.
    pub version: Option<String>,
    /// `FLAVOR`.
    pub flavor: Option<String>,
    /// `ARCH`.
    pub arch: Option<String>,
    /// `BUILD`.
    pub build: Option<String>,
    /// Posted for this outside, for example `gh:pr:12`.
    pub webhook: Option<String>,
    /// With a lower number than this: the next page.
    pub before: Option<ProductRunId>,
    /// At most so many; 100 if 0.
    pub limit: u32,
}
