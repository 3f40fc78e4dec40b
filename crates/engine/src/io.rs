//! What goes into a step and what comes out of it.

use crate::assets::AssetKey;
use crate::ids::{AttemptId, ConnectionId, GroupId, JobId, ProductRunId, WorkerName};
use crate::outcome::Outcome;
use crate::product::{Download, files};
use crate::reason::{FenceReason, HelloRefusal, Refusal};
use crate::relations::{ParentRef, Relation};
use crate::rows::{Hold, JobRow, ProductRun, Row};
use crate::sched::disk::Room;
use crate::sched::limits::Limits;
use crate::sched::restart::{RestartPlan, RestartRequest};
use crate::settings::{ClassSet, Settings};
use crate::talk::{Place, Question, Reply};
use crate::work::{Held, Phase, Report, WorkPhase};
use std::collections::{BTreeMap, BTreeSet};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Somebody posts jobs: all are made, or none.
    PostJobs {
        /// The jobs, in the order in which they get their numbers.
        jobs: Vec<NewJob>,
    },
    /// A product is posted: its jobs, its own row, and what it makes obsolete, all or nothing.
    PostProduct {
        /// The jobs, in the order in which they get their numbers.
        jobs: Vec<NewJob>,
        /// What was asked for.
        run: ProductRun,
        /// What it takes the place of.
        obsolete: Option<Obsolete>,
    },
    /// Jobs are started anew: clones of them and of what the declared table adds.
    Restart(RestartRequest),
    /// The priority of a job that waits, or its group.
    Edit {
        /// Which.
        job: JobId,
        /// The new priority.
        priority: Option<i32>,
        /// The new group; the inner `None` takes it out of its group.
        group: Option<Option<GroupId>>,
    },
    /// What takes the place of open jobs makes them obsolete, without a post of a product.
    Obsolete(Obsolete),
    /// What a job is held for could not be had yet; it will be tried again.
    FetchFails {
        /// Which.
        job: JobId,
        /// Why, and when it is tried again.
        why: String,
    },
    /// What a job was held for is there, or cannot be had.
    Release {
        /// Which.
        job: JobId,
        /// Why not.
        failed: Option<String>,
    },
    /// A person gives a job that has ended another result.
    ForceResult {
        /// Which.
        job: JobId,
        /// The result.
        outcome: Outcome,
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// A job that has ended is taken out.
    DeleteJob {
        /// Which.
        job: JobId,
    },
    /// An input together with rows that only the store has: those that [`Input::needs`] named. Rows of open jobs do not
    /// count, for the state knows better.
    Known {
        /// The rows as stored.
        rows: Vec<JobRow>,
        /// The input.
        then: Box<Self>,
    },
    /// Somebody cancels a job.
    CancelJob {
        /// Which.
        job: JobId,
        /// Who, for the reason.
        by: String,
    },
    /// A worker finishes what it runs and gets nothing new, or gets work again.
    Drain {
        /// Which.
        worker: WorkerName,
        /// Who wants that; `None` ends it.
        by: Option<String>,
    },
    /// A worker that is not connected and has nothing is taken off the list.
    ForgetWorker {
        /// Which.
        worker: WorkerName,
    },
    /// A worker says hello on a new connection.
    Hello {
        /// Numbered by the server, never used twice in the life of a [`crate::state::State`].
        connection: ConnectionId,
        /// What it says.
        hello: Hello,
    },
    /// A connection closed.
    Disconnected {
        /// Which.
        connection: ConnectionId,
    },
    /// A worker lives. Renews its leases; makes no rows.
    Heartbeat {
        /// From which connection.
        connection: ConnectionId,
        /// What it runs.
        holds: Vec<Held>,
        /// What its disks can take, if it says so.
        room: Option<Room>,
    },
    /// An attempt has come this far.
    Phase {
        /// From which connection.
        connection: ConnectionId,
        /// Which attempt.
        held: Held,
        /// How far.
        phase: WorkPhase,
    },
    /// An attempt has ended on its worker.
    Finished {
        /// From which connection.
        connection: ConnectionId,
        /// Which attempt.
        held: Held,
        /// How.
        report: Report,
    },
    /// The test of an attempt asks something about its cluster. Asked again with its number, it has the same answer.
    Ask {
        /// From which connection.
        connection: ConnectionId,
        /// Which attempt.
        held: Held,
        /// The question's number, growing with each of the attempt.
        ask: u64,
        /// What.
        question: Question,
    },
    /// The test of an attempt asks beside its worker, and does not wait: what cannot be had now is [`Reply::No`].
    AskNow {
        /// Which attempt.
        held: Held,
        /// What.
        question: Question,
    },
    /// A person ends a job as if it had come to this result.
    SetDone {
        /// Which.
        job: JobId,
        /// The result.
        outcome: Outcome,
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// For the gate.
    Gate(Box<crate::gate::io::Input>),
    /// How many jobs may run at once.
    Limits(Limits),
    /// Assets have these sizes.
    AssetSizes(BTreeMap<AssetKey, u64>),
    /// Time has passed; see [`crate::state::State::next_deadline`]. Also the first input after a rebuild.
    Tick,
}

/// What an input has to know that is not open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// The rows of these jobs.
    pub jobs: BTreeSet<JobId>,
    /// The rows of these jobs and of everything related to them.
    pub clusters: BTreeSet<JobId>,
}

impl Needs {
    /// True if the state knows enough.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.clusters.is_empty()
    }
}

/// A job to make.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewJob {
    /// Its settings, without defaults.
    pub settings: Settings,
    /// [`crate::settings::DEFAULT_PRIORITY`] if not given.
    pub priority: Option<i32>,
    /// The group it belongs to.
    pub group: Option<GroupId>,
    /// What it depends on.
    pub parents: Vec<(Relation, ParentRef)>,
    /// How often it is started anew by itself when its test does not pass (`RETRY=`).
    pub retries: u32,
    /// What has to happen first.
    pub hold: Option<Hold>,
    /// The job that it is made from.
    pub clone_of: Option<JobId>,
}

impl NewJob {
    /// A job that depends on nothing; `RETRY=` counts, and so do `ISO_URL` and its like, whose files it is held for.
    pub fn new(mut settings: Settings) -> Self {
        let retries = crate::settings::retries(&settings);
        files::name_downloads(&mut settings);
        let names: BTreeSet<String> = files::downloads(&settings).map(|download| download.name).collect();
        let hold =
            (!names.is_empty()).then(|| Hold::Assets { names: names.into_iter().collect(), trouble: None });
        Self { settings, retries, hold, ..Self::default() }
    }
}

/// What a new build takes the place of: the open jobs of the same product.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Obsolete {
    /// Settings that a job must have to be meant: `DISTRI`, `VERSION`, `FLAVOR`, `ARCH`, and `BUILD` if only one build is.
    pub matching: BTreeMap<String, String>,
    /// The build that is not meant.
    pub except_build: Option<String>,
    /// Jobs that are spared: with comments, or of a tagged build.
    pub spared: BTreeSet<JobId>,
    /// Instead of ending them: each gets a higher number as priority, and is ended when that is above `limit`.
    pub deprioritize: Option<Deprioritize>,
    /// Who or what, for the reason; a post of a product fills in its number.
    pub by: String,
}

/// How old builds step back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deprioritize {
    /// Added to the priority.
    pub step: i32,
    /// The highest number that a priority may get.
    pub limit: i32,
}

/// A worker's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Its name.
    pub name: WorkerName,
    /// Made anew for every worker process.
    pub instance: String,
    /// Its host, for people.
    pub host: String,
    /// Its version of Assay, for people.
    pub version: String,
    /// How many attempts it runs at once.
    pub slots: u32,
    /// What it offers.
    pub classes: ClassSet,
    /// What it still runs, or has finished without an acknowledgement.
    pub holds: Vec<Held>,
    /// What its disks can take, if it says so.
    pub room: Option<Room>,
    /// It ends after one attempt.
    pub once: bool,
}

/// Who drains a worker that has got its one attempt ([`Hello::once`]).
pub const USED_UP: &str = "itself: it runs one job and ends";

/// What a step leads to. Rows first, in one transaction; then, and only then, the answer and the rest in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// For whoever sent the input.
    pub answer: Result<Answer, Refusal>,
    /// What to do.
    pub effects: Vec<Effect>,
}

/// What the sender of an input hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Taken.
    Done,
    /// The jobs have these numbers.
    Posted(Vec<JobId>),
    /// The product's jobs.
    Product {
        /// The number of the post.
        run: ProductRunId,
        /// The jobs made, in order.
        jobs: Vec<JobId>,
        /// The jobs that were ended or stepped back for it.
        obsoleted: Vec<JobId>,
    },
    /// What a restart came to.
    Restarted(RestartPlan),
    /// These jobs were made obsolete or stepped back.
    Obsoleted(Vec<JobId>),
    /// To [`Input::AskNow`].
    Reply(Box<Reply>),
    /// The job is cancelled.
    Cancelled,
    /// A worker has the job and has been told to stop it.
    Cancelling,
    /// The gate's.
    Gate(crate::gate::io::Answer),
}

/// Something to do after a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Store this row.
    Save(Box<Row>),
    /// Send this to a worker; if the connection is gone, drop it: the next hello sorts it out.
    Send {
        /// To whom.
        connection: ConnectionId,
        /// What.
        message: Message,
    },
    /// Close a connection; after a message has gone out on it, if one was sent.
    Close {
        /// Which.
        connection: ConnectionId,
        /// For the log.
        reason: String,
    },
    /// Pages and waiters want to know.
    Notify(Change),
    /// Fetch these files, unless they are there, and say what came of it with [`Input::Release`].
    Fetch {
        /// The job that is held for them.
        job: JobId,
        /// The files.
        downloads: Vec<Download>,
    },
    /// The attempt has ended; its streams grow no more and can be closed.
    AttemptEnded(AttemptId),
    /// For the gate's merger, lander, reporters and sources; rows, builds and notices have become effects of this kind.
    Gate(crate::gate::io::Effect),
}

/// What pages and waiters hear of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// A job or one of its attempts.
    Job(JobId),
    /// A worker.
    Worker(WorkerName),
    /// Why jobs with these classes wait.
    Queue(ClassSet),
    /// A pipeline of the gate.
    Gate(crate::gate::ids::PipelineName),
}

/// A message for a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Let in.
    Welcome {
        /// How long a lease lasts, microseconds.
        lease_us: i64,
        /// How often to send a heartbeat, microseconds.
        heartbeat_us: i64,
        /// What to do with each attempt that the worker holds, in the order of its hello.
        holds: Vec<HoldVerdict>,
    },
    /// Turned away.
    Refused(HelloRefusal),
    /// Run this.
    Assign {
        /// The attempt.
        held: Held,
        /// The job's name.
        name: String,
        /// The job's settings.
        settings: BTreeMap<String, String>,
        /// Where it is among the jobs beside it.
        place: Place,
    },
    /// The answer to what the test of an attempt asked.
    Answer {
        /// The attempt.
        held: Held,
        /// The question's number.
        ask: u64,
        /// The answer.
        reply: Reply,
    },
    /// Stop this.
    Cancel {
        /// The attempt.
        held: Held,
        /// Who cancelled it.
        reason: String,
        /// Nobody wants even its logs: the gate has made it pointless.
        superseded: bool,
    },
    /// Not yours any more.
    Fenced {
        /// The attempt.
        held: Held,
        /// Why.
        reason: FenceReason,
    },
    /// The end is stored; forget the attempt.
    FinishedAck {
        /// The attempt.
        attempt: AttemptId,
    },
}

/// What to do with an attempt that a worker brings along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldVerdict {
    /// Which.
    pub held: Held,
    /// What.
    pub verdict: Verdict,
    /// Where its job is among the jobs beside it.
    pub place: Place,
}

/// Whether a worker's word about an attempt counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It does; the lease is renewed.
    GoOn {
        /// How far the server thinks it has come.
        phase: Phase,
    },
    /// The worker's report is stored already; a [`Message::FinishedAck`] follows.
    Finished,
    /// It does not.
    Fenced(FenceReason),
}

impl Input {
    /// The jobs whose stored rows this input needs: those that it names and that are not open.
    pub fn needs(&self, is_open: impl Fn(JobId) -> bool) -> Needs {
        let mut needs = Needs::default();
        let mut parents = |jobs: &[NewJob]| {
            for (_, parent) in jobs.iter().flat_map(|job| &job.parents) {
                if let ParentRef::Job(job) = parent
                    && !is_open(*job)
                {
                    needs.jobs.insert(*job);
                }
            }
        };
        match self {
            Self::PostJobs { jobs } | Self::PostProduct { jobs, .. } => parents(jobs),
            Self::Restart(request) => needs.clusters.extend(&request.jobs),
            Self::Ask { question: Question::JobInfo { job }, .. }
            | Self::AskNow { question: Question::JobInfo { job }, .. }
            | Self::SetDone { job, .. }
            | Self::ForceResult { job, .. }
            | Self::DeleteJob { job }
            | Self::Edit { job, .. }
                if !is_open(*job) =>
            {
                needs.jobs.insert(*job);
            }
            _ => {}
        }
        needs
    }
}
