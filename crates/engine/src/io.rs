//! What goes into a step and what comes out of it.

use crate::ids::{AttemptId, ConnectionId, JobId, WorkerName};
use crate::reason::{FenceReason, HelloRefusal, Refusal};
use crate::rows::Row;
use crate::settings::{ClassSet, Settings};
use crate::work::{Held, Phase, Report, WorkPhase};
use std::collections::BTreeMap;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Somebody posts jobs: all are made, or none.
    PostJobs {
        /// The jobs, in the order in which they get their numbers.
        jobs: Vec<NewJob>,
    },
    /// Somebody cancels a job.
    CancelJob {
        /// Which.
        job: JobId,
        /// Who, for the reason.
        by: String,
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
    /// For the gate.
    Gate(Box<crate::gate::io::Input>),
    /// Time has passed; see [`crate::state::State::next_deadline`]. Also the first input after a rebuild.
    Tick,
}

/// A job to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// Its settings, without defaults.
    pub settings: Settings,
    /// [`crate::settings::DEFAULT_PRIORITY`] if not given.
    pub priority: Option<i32>,
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
}

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
