//! What is stored: facts and decisions. A batch of these rows is committed before anybody hears of them.

use crate::ids::{AttemptId, FencingToken, GroupId, JobId, ProductRunId, Timestamp, WorkerName};
use crate::job::{End, JobState};
use crate::job_settings::JobSettings;
use crate::locks::{ClusterId, ClusterLocks};
use crate::reason::WaitReason;
use crate::relations::Parent;
use crate::sched::fair::Party;
use crate::settings::ClassSet;
use crate::work::Phase;
use serde::{Deserialize, Serialize};

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// Its number.
    pub id: JobId,
    /// See [`crate::settings::Settings::job_name`].
    pub name: String,
    /// Lower is earlier.
    pub priority: i32,
    /// What a worker must offer to get it.
    pub classes: ClassSet,
    /// Its settings; never change.
    pub settings: JobSettings,
    /// The group it belongs to.
    pub group: Option<GroupId>,
    /// The post of a product that made it.
    pub run: Option<ProductRunId>,
    /// What it depends on; never change.
    pub parents: Vec<Parent>,
    /// The job that it was made from by a restart.
    pub clone_of: Option<JobId>,
    /// The job that a restart made from it.
    pub cloned_as: Option<JobId>,
    /// How often it is started anew by itself when it does not pass, and how often that has happened.
    pub retries: Retries,
    /// What has to happen first, besides what its parents do.
    pub hold: Option<Hold>,
    /// Why it waits, if that is its own reason and not the one of its queue.
    pub wait: Option<WaitReason>,
    /// Where it is in its life.
    pub state: JobState,
    /// When it was posted.
    pub created_at: Timestamp,
    /// When its latest attempt's machine began to run.
    pub started_at: Option<Timestamp>,
}

/// Started anew by itself. What failed, what was lost and what came along are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Retries {
    /// How often it may yet be started anew when its test does not pass (`RETRY=`).
    pub left: u32,
    /// How many of its ancestors were started anew because their test did not pass.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed: u32,
    /// How many of its ancestors were started anew because a worker of their cluster was lost.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u32,
    /// How many of its ancestors were started anew because the test of another job of their cluster did not pass.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub along: u32,
}

impl Retries {
    /// How often it was started anew by itself, for whatever reason.
    pub fn tries(self) -> u32 {
        self.failed + self.lost + self.along
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What keeps a job from starting until somebody says that it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "snake_case")]
pub enum Hold {
    /// Files are fetched for it.
    Assets {
        /// Their names.
        names: Vec<String>,
        /// Why that takes longer than it should.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trouble: Option<String>,
    },
}

impl JobRow {
    /// For people: the test and the machine, for example `install@64bit`.
    pub fn label(&self) -> String {
        let test = self.settings.get("TEST").unwrap_or(&self.name);
        match self.settings.get("MACHINE") {
            Some(machine) => format!("{test}@{machine}"),
            None => test.to_owned(),
        }
    }

    /// The job that it waits for, as openQA's API tells it.
    pub fn blocked_by(&self) -> Option<JobId> {
        match &self.wait {
            Some(WaitReason::Parents { first, .. }) => Some(first.job),
            Some(WaitReason::Next { after }) => Some(after.job),
            _ => None,
        }
    }

    /// When it ended.
    pub fn finished_at(&self) -> Option<Timestamp> {
        self.state.end().map(|end| end.at)
    }

    /// The attempt that is running.
    pub fn active_attempt(&self) -> Option<AttemptId> {
        match &self.state {
            JobState::Active(active) => Some(AttemptId { job: self.id, number: active.attempt }),
            _ => None,
        }
    }
}

/// One try at a job. Leases are not stored: after a restart each is granted anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRow {
    /// Job and number.
    pub id: AttemptId,
    /// Its token.
    pub token: FencingToken,
    /// Who tries.
    pub worker: WorkerName,
    /// Which process of that name.
    pub instance: String,
    /// The worker's host, for people.
    pub host: String,
    /// How far it has come, or had come when it ended.
    pub phase: Phase,
    /// When it was handed out.
    pub assigned_at: Timestamp,
    /// When its machine began to run.
    pub started_at: Option<Timestamp>,
    /// How and when it ended. What the worker reported, even if the job was cancelled meanwhile.
    pub end: Option<End>,
}

/// A worker, connected or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerRow {
    /// Its name.
    pub name: WorkerName,
    /// The process that last used the name.
    pub instance: String,
    /// Its host, for people.
    pub host: String,
    /// Its version of Assay, for people.
    pub version: String,
    /// How many attempts it runs at once.
    pub slots: u32,
    /// What it offers.
    pub classes: ClassSet,
    /// Whether it is there.
    pub status: WorkerStatus,
    /// Who has it finish what it runs and get nothing new.
    pub drained_by: Option<String>,
}

/// Whether a worker is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum WorkerStatus {
    /// Connected.
    Online {
        /// Since when.
        since: Timestamp,
    },
    /// Not connected.
    Offline {
        /// Since when.
        since: Timestamp,
        /// Why.
        why: OfflineReason,
    },
}

/// Why a worker is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfflineReason {
    /// Its connection closed.
    Disconnected,
    /// Connected, but it gave no sign of life for a whole lease.
    Silent,
    /// The server restarted, and the worker has not come back yet.
    ServerRestarted,
}

impl OfflineReason {
    /// One clause for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Disconnected => "its connection closed",
            Self::Silent => "it gave no sign of life for a whole lease",
            Self::ServerRestarted => "the server restarted and it has not come back yet",
        }
    }
}

/// The jobs that wait for the same classes, and why. Without a reason nothing waits, and the row can go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRow {
    /// The classes.
    pub classes: ClassSet,
    /// Why the first of them does not run.
    pub reason: Option<WaitReason>,
}

/// When a party last got a slot for a job that needs a class; see [`crate::sched::fair`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareRow {
    /// Whose jobs.
    pub party: Party,
    /// One of the classes that the job needs.
    pub class: String,
    /// The token of the attempt.
    pub served: FencingToken,
}

/// The locks of a cluster. Without any the row can go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocksRow {
    /// Whose.
    pub cluster: ClusterId,
    /// The locks.
    pub locks: Option<ClusterLocks>,
}

/// One post of a product: what was asked for, and what came of it. Never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductRunRow {
    /// Its number.
    pub id: ProductRunId,
    /// What was asked for, and why some of it was not made.
    pub run: ProductRun,
    /// The jobs that were made, in the order of the request.
    pub jobs: Vec<JobId>,
    /// The jobs that were taken out of the queue for it, or stopped.
    pub obsoleted: Vec<JobId>,
    /// When.
    pub created_at: Timestamp,
}

/// A post of a product as the planner leaves it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProductRun {
    /// The request's settings, secrets covered.
    pub settings: std::collections::BTreeMap<String, String>,
    /// Who posted it.
    pub by: String,
    /// What could not be made as it was meant: the job's name, and what is wrong.
    pub failed: Vec<RunProblem>,
    /// What was left out, and why.
    pub left_out: Vec<RunProblem>,
    /// Why nothing at all was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What it was posted for outside, for example `gh:pr:12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
}

/// Something that is to be said about a job of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunProblem {
    /// For example `install@64bit`.
    pub job: String,
    /// The place of the job among those made, if it was made all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<usize>,
    /// One sentence each.
    pub problems: Vec<String>,
}

/// A row to store in place of the one with the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all rows are jobs and their attempts")]
pub enum Row {
    /// A job.
    Job(JobRow),
    /// A job that is taken out, with its attempts and whatever points at it.
    Deleted(JobId),
    /// A post of a product.
    Run(ProductRunRow),
    /// An attempt.
    Attempt(AttemptRow),
    /// A worker.
    Worker(WorkerRow),
    /// A worker that is forgotten.
    NoWorker(WorkerName),
    /// A queue.
    Queue(QueueRow),
    /// A cluster's locks.
    Locks(LocksRow),
    /// When a party was served.
    Share(ShareRow),
    /// Something of the gate.
    Gate(Box<crate::gate::rows::GateRow>),
}

/// How many tokens back the engine knows how an attempt ended; an older one counts as taken away.
pub const SETTLED_WINDOW: i64 = 1_000;

/// Everything that [`crate::state::State::rebuild`] needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    /// Jobs that are not final.
    pub jobs: Vec<JobRow>,
    /// Final jobs that are bound to one of these by parallel and direct relations, over any number of steps.
    pub relatives: Vec<JobRow>,
    /// Attempts that have not ended, and those with a token above `last_token - SETTLED_WINDOW`.
    pub attempts: Vec<AttemptRow>,
    /// All workers.
    pub workers: Vec<WorkerRow>,
    /// All queues with a reason.
    pub queues: Vec<QueueRow>,
    /// The locks of all clusters.
    pub locks: Vec<LocksRow>,
    /// When each party was served, by party and class.
    pub shares: Vec<ShareRow>,
    /// The highest number that a job ever had; 0 before the first.
    pub last_job: i64,
    /// The highest number that a post of a product ever had; 0 before the first.
    pub last_run: i64,
    /// The highest token that was ever handed out; 0 before the first.
    pub last_token: i64,
    /// The gate's rows.
    pub gate: crate::gate::rows::GateRows,
    /// The sizes of assets.
    pub asset_sizes: std::collections::BTreeMap<crate::assets::AssetKey, u64>,
    /// The limits in force; not stored.
    pub limits: crate::sched::limits::Limits,
    /// Random bits of this server; see [`crate::gate::Gate`].
    pub seed: u128,
}

impl Rows {
    /// The latest time that they tell.
    pub fn newest(&self) -> Option<Timestamp> {
        let of_job = |job: &JobRow| [Some(job.created_at), job.started_at, job.finished_at()];
        let of_attempt =
            |one: &AttemptRow| [Some(one.assigned_at), one.started_at, one.end.as_ref().map(|end| end.at)];
        let jobs = self.jobs.iter().chain(&self.relatives).flat_map(of_job);
        jobs.chain(self.attempts.iter().flat_map(of_attempt)).flatten().max()
    }
}
