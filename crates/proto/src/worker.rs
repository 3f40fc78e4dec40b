//! The worker channel, version 1. The prose is `docs/protocols/worker.md`; the golden files are in `tests/`.
//!
//! Control goes over one WebSocket as JSON text messages; blobs go over HTTP. Streams are addressed by offset and
//! endings by token, so that everything a worker says may be said again after a lost connection.

use assay_engine::ids::{AttemptId, JobId};
pub use assay_engine::sched::disk::Room;
pub use assay_engine::talk::{JobInState, JobInfo, Place, Question, Reply};
pub use assay_engine::work::{Held, Report, WorkPhase};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version that both sides must speak.
pub const PROTOCOL: u32 = 1;

/// The most bytes of a stream in one message, before base64.
pub const MAX_CHUNK: usize = 64 * 1024;

/// The longest frame of a network in a binary message, without the four bytes of its channel before it.
pub const MAX_FRAME: usize = 4096 + 65536;

/// From the worker to the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToServer {
    /// First message on every connection.
    Hello {
        /// [`PROTOCOL`].
        protocol: u32,
        /// Name of the worker, unique on the server.
        name: String,
        /// Made anew for every worker process, so that two processes with one name are told apart.
        instance: String,
        /// Host name, for people.
        host: String,
        /// Assay's version, for people.
        version: String,
        /// How many attempts it runs at once.
        slots: u32,
        /// `WORKER_CLASS` values that it offers.
        classes: Vec<String>,
        /// What it still runs or has finished without an acknowledgement.
        holds: Vec<Held>,
        /// What its disks can take, in bytes. An older worker does not say, and gets jobs whatever they need.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disk: Option<Room>,
        /// It ends after one attempt, so it gets no other.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        once: bool,
    },
    /// Renews the leases.
    Heartbeat {
        /// What it runs.
        holds: Vec<Held>,
        /// What its disks can take now; without it, as it said before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disk: Option<Room>,
    },
    /// The attempt has reached this phase.
    Phase {
        /// Which.
        held: Held,
        /// The phase.
        phase: WorkPhase,
    },
    /// Bytes of a stream. A repeated offset is no error: what the server has already is skipped.
    Append {
        /// Which attempt.
        held: Held,
        /// Which stream.
        stream: Stream,
        /// Where the bytes begin.
        offset: u64,
        /// The bytes, base64.
        data: String,
    },
    /// A picture of the running machine's screen, because somebody watches; may be dropped.
    Screen {
        /// Which attempt.
        held: Held,
        /// A PNG, base64.
        png: String,
    },
    /// The attempt's test asks something. After a reconnection what has no answer yet is asked again with its number.
    Ask {
        /// Which attempt.
        held: Held,
        /// The question's number, growing with each of the attempt.
        ask: u64,
        /// What.
        question: Question,
    },
    /// From now on this connection takes part in a network of a cluster of which it holds a job. Frames go in binary
    /// messages both ways: the channel as four bytes, big-endian, then the frame. Frames may be lost.
    Plug {
        /// The cluster.
        cluster: JobId,
        /// The network's name.
        network: String,
        /// The worker's number for it.
        channel: u32,
    },
    /// No more.
    Unplug {
        /// See `plug`.
        channel: u32,
    },
    /// The attempt has ended; all its streams have been sent and all its blobs uploaded.
    Finished {
        /// Which.
        held: Held,
        /// How.
        report: Report,
    },
}

/// A growing text or record of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// `records::step::Record` as JSON lines.
    Steps,
    /// What the worker did, for people.
    Log,
    /// The machine's first serial port, as it came.
    Serial0,
    /// The run journal.
    Journal,
    /// What a shell job prints, every line with its time.
    Console,
}

impl Stream {
    /// Every stream.
    pub const ALL: [Self; 5] = [Self::Steps, Self::Log, Self::Serial0, Self::Journal, Self::Console];

    /// The file name under which it is kept and served.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Steps => "steps.jsonl",
            Self::Log => "autoinst-log.txt",
            Self::Serial0 => "serial0.txt",
            Self::Journal => "journal.jsonl",
            Self::Console => "console.txt",
        }
    }
}

/// From the server to the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToWorker {
    /// Answer to `hello`.
    Welcome {
        /// How long a lease lasts without a heartbeat, milliseconds.
        lease_ms: u64,
        /// How often to send a heartbeat, milliseconds.
        heartbeat_ms: u64,
        /// What to do with each attempt the worker said it holds.
        holds: Vec<HoldVerdict>,
    },
    /// The server will not talk to this worker; the sentence says why and what to do. The connection closes.
    Refused {
        /// One sentence.
        reason: String,
        /// True if trying again later can help.
        retry: bool,
    },
    /// Run this.
    Assign {
        /// The attempt and its token.
        held: Held,
        /// The job's number, which is also in `held`.
        job: JobId,
        /// The job's name, for people.
        name: String,
        /// The job's settings.
        settings: BTreeMap<String, String>,
        /// Where the job is among those that run in parallel with it.
        place: Place,
    },
    /// The answer to a question; may come twice.
    Answer {
        /// Which attempt.
        attempt: AttemptId,
        /// The question's number.
        ask: u64,
        /// The answer.
        reply: Reply,
    },
    /// Stop this attempt; send what there is and then `finished`.
    Cancel {
        /// Which.
        held: Held,
        /// One sentence, for the log.
        reason: String,
        /// Nobody wants anything of it any more, logs included: a newer change has taken its place.
        #[serde(default)]
        superseded: bool,
    },
    /// The server has this much of a stream, durably.
    Acked {
        /// Which attempt.
        attempt: AttemptId,
        /// Which stream.
        stream: Stream,
        /// Bytes that need not be kept any more.
        offset: u64,
    },
    /// `finished` is stored; the worker may forget the attempt.
    FinishedAck {
        /// Which.
        attempt: AttemptId,
    },
    /// The attempt is not this worker's any more: kill it, forget it, send nothing more of it.
    Fenced {
        /// Which.
        held: Held,
        /// One sentence, for the log.
        reason: String,
    },
    /// Somebody watches (or nobody does any more): send or stop sending `screen`.
    Watch {
        /// Which attempt.
        attempt: AttemptId,
        /// Send or stop.
        on: bool,
    },
}

/// What to do with an attempt after a reconnection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldVerdict {
    /// Which attempt.
    pub held: Held,
    /// True: go on, the lease is renewed. False: fenced.
    pub go_on: bool,
    /// How much of each stream the server has; the worker sends from there.
    pub offsets: BTreeMap<Stream, u64>,
}
