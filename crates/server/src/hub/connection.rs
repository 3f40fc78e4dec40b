//! What is said on one worker connection, without the socket.

use super::relay::Line;
use crate::app::App;
use crate::live::Live;
use assay_engine::ids::{AttemptId, ConnectionId, JobId, WorkerName};
use assay_engine::io::{self, Input, Verdict};
use assay_engine::locks::ClusterId;
use assay_engine::reason::FenceReason;
use assay_engine::settings::ClassSet;
use assay_engine::settings::JOB_TOKEN;
use assay_proto::api::Event;
use assay_proto::worker::{
    Held, HoldVerdict, MAX_CHUNK, MAX_FRAME, PROTOCOL, Room, Stream, ToServer, ToWorker,
};
use assay_store::StoreError;
use assay_store::spool::Append;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Bytes of appends that are collected for one write to the disk.
const COLLECT: usize = 1024 * 1024;
/// Attempts that a worker may claim to hold.
const MAX_HOLDS: usize = 1000;

/// Why the server ends a conversation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: String,
    pub(super) retry: bool,
}

impl Fault {
    pub(super) fn retry(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retry: true }
    }

    fn for_good(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retry: false }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::retry(error.to_string())
    }
}

/// Reads a worker's first message.
pub(super) fn hello_of(message: ToServer) -> Result<io::Hello, Fault> {
    let ToServer::Hello { protocol, name, instance, host, version, slots, classes, holds, disk, once } =
        message
    else {
        return Err(Fault::retry("the first message must be hello"));
    };
    if protocol != PROTOCOL {
        return Err(Fault::for_good(format!(
            "this server speaks version {PROTOCOL} of the worker protocol, the worker speaks {protocol}; use the same \
             version of Assay on both sides (the server's is {})",
            env!("CARGO_PKG_VERSION")
        )));
    }
    let name: WorkerName = name.parse().map_err(Fault::for_good)?;
    let too_long =
        [&instance, &host, &version].into_iter().any(|text| text.len() > 200 || text.contains('\0'));
    if instance.is_empty()
        || too_long
        || classes.iter().any(|class| class.len() > 200)
        || classes.len() > 1000
    {
        return Err(Fault::for_good("instance, host, version and classes need 1 to 200 characters each"));
    }
    if holds.len() > MAX_HOLDS {
        return Err(Fault::for_good(format!("a worker cannot hold more than {MAX_HOLDS} attempts")));
    }
    Ok(io::Hello {
        name,
        instance,
        host,
        version,
        slots,
        classes: ClassSet::parse(&classes.join(",")),
        holds,
        room: disk,
        once,
    })
}

/// One connection's state.
pub(super) struct Conversation {
    app: Arc<App>,
    id: ConnectionId,
    worker: WorkerName,
    /// What its disks could take when it said hello.
    room: Option<Room>,
    /// What the worker may send streams of. Kept in step with what it was told on this connection.
    holds: BTreeMap<AttemptId, Holding>,
    appends: Vec<Append>,
    /// What `appends` belongs to, in the same order.
    labels: Vec<(Held, Stream)>,
    collected: usize,
    /// Its part in the networks of clusters.
    line: Line,
}

struct Holding {
    held: Held,
    cluster: ClusterId,
    /// The worker has been asked for pictures.
    watched: bool,
}

impl Conversation {
    pub(super) fn new(
        app: Arc<App>,
        id: ConnectionId,
        (worker, room): (WorkerName, Option<Room>),
        line: Line,
    ) -> Self {
        let holds = BTreeMap::new();
        Self { app, id, worker, room, holds, appends: Vec::new(), labels: Vec::new(), collected: 0, line }
    }

    /// The engine has something for the worker.
    pub(super) async fn tell(&mut self, message: io::Message) -> Result<Vec<ToWorker>, Fault> {
        let message = match message {
            io::Message::Welcome { lease_us, heartbeat_us, holds } => {
                // Not before: another process of the same name may be refused.
                self.note_room(self.room);
                let mut verdicts = Vec::new();
                for io::HoldVerdict { held, verdict, place } in holds {
                    let go_on = matches!(verdict, Verdict::GoOn { .. });
                    let offsets =
                        if go_on { self.take_up(held, place.cluster).await? } else { BTreeMap::new() };
                    verdicts.push(HoldVerdict { held, go_on, offsets });
                }
                ToWorker::Welcome {
                    lease_ms: (lease_us / 1000) as u64,
                    heartbeat_ms: (heartbeat_us / 1000) as u64,
                    holds: verdicts,
                }
            }
            io::Message::Refused(refusal) => {
                let retry = refusal.retry();
                ToWorker::Refused { reason: refusal.to_string(), retry }
            }
            io::Message::Assign { held, name, mut settings, place } => {
                settings.insert(JOB_TOKEN.to_owned(), self.app.guard.job_token(held));
                self.take_up(held, place.cluster).await?;
                ToWorker::Assign { held, job: held.attempt.job, name, settings, place }
            }
            io::Message::Answer { held, ask, reply } => {
                ToWorker::Answer { attempt: held.attempt, ask, reply }
            }
            io::Message::Cancel { held, reason, superseded } => ToWorker::Cancel { held, reason, superseded },
            io::Message::Fenced { held, reason } => self.fence(held, &reason),
            io::Message::FinishedAck { attempt } => {
                self.holds.remove(&attempt);
                ToWorker::FinishedAck { attempt }
            }
        };
        let mut messages = vec![message];
        messages.extend(self.watch_changes());
        Ok(messages)
    }

    fn fence(&mut self, held: Held, reason: &FenceReason) -> ToWorker {
        if self.holds.get(&held.attempt).is_some_and(|holding| holding.held == held) {
            self.holds.remove(&held.attempt);
        }
        ToWorker::Fenced { held, reason: reason.to_string() }
    }

    /// The worker carries this attempt; says how much of its streams is here.
    async fn take_up(&mut self, held: Held, cluster: ClusterId) -> Result<BTreeMap<Stream, u64>, Fault> {
        let offsets = self.app.take_up(held.attempt).await?;
        self.holds.insert(held.attempt, Holding { held, cluster, watched: false });
        Ok(offsets)
    }

    /// Tells the worker for which attempts somebody watches, as far as that has changed.
    pub(super) fn watch_changes(&mut self) -> Vec<ToWorker> {
        let mut messages = Vec::new();
        for (&attempt, holding) in &mut self.holds {
            let on = self.app.live.get(attempt).is_some_and(|live| live.is_watched());
            if holding.watched != on {
                holding.watched = on;
                messages.push(ToWorker::Watch { attempt, on });
            }
        }
        messages
    }

    fn note_room(&self, room: Option<Room>) {
        if let Some(room) = room {
            self.app.hub.note_room(&self.worker, room);
        }
    }

    /// The worker says something. Appends are only collected; [`Self::flush`] stores them.
    pub(super) async fn hear(&mut self, message: ToServer, answers: &mut Vec<ToWorker>) -> Result<(), Fault> {
        if let ToServer::Append { held, stream, offset, data } = message {
            return self.collect(held, stream, offset, &data, answers);
        }
        // In order: what was sent before the end must be stored before the end is.
        self.flush(answers).await?;
        let connection = self.id;
        match message {
            ToServer::Hello { .. } => return Err(Fault::retry("hello came twice on one connection")),
            ToServer::Heartbeat { holds, .. } if holds.len() > MAX_HOLDS => {
                return Err(Fault::retry(format!("a worker cannot hold more than {MAX_HOLDS} attempts")));
            }
            ToServer::Heartbeat { holds, disk } => {
                self.note_room(disk);
                self.app.engine.beat(Input::Heartbeat { connection, holds, room: disk });
            }
            ToServer::Phase { held, phase } => {
                self.app.engine.tell(Input::Phase { connection, held, phase }).await;
            }
            ToServer::Finished { held, report } => {
                self.app.engine.tell(Input::Finished { connection, held, report }).await;
            }
            ToServer::Screen { held, png } => self.show(held, &png),
            ToServer::Ask { held, ask, question } => {
                self.app.engine.tell(Input::Ask { connection, held, ask, question }).await;
            }
            ToServer::Plug { cluster, network, channel } => self.plug(cluster, network, channel)?,
            ToServer::Unplug { channel } => self.line.unplug(channel),
            ToServer::Append { .. } => {} // dealt with above
        }
        Ok(())
    }

    /// The worker takes part in a network of a cluster of which it has a job.
    fn plug(&mut self, cluster: ClusterId, network: String, channel: u32) -> Result<(), Fault> {
        if self.holds.values().all(|holding| holding.cluster != cluster) {
            // It has just lost the job, and will hear of that.
            return Ok(());
        }
        self.line.plug(cluster, network, channel).map_err(Fault::retry)
    }

    /// A frame comes out of one of the worker's networks.
    pub(super) fn carry(&self, message: &[u8]) -> Result<(), Fault> {
        let (channel, frame) =
            message.split_first_chunk().filter(|(_, frame)| frame.len() <= MAX_FRAME).ok_or_else(|| {
                Fault::retry("a binary message is no frame of a network: it has a wrong length")
            })?;
        self.line.carry(u32::from_be_bytes(*channel), frame);
        Ok(())
    }

    fn show(&self, held: Held, png: &str) {
        let ours = self.holds.get(&held.attempt).is_some_and(|holding| holding.held == held);
        if ours
            && let Some(live) = self.app.live.get(held.attempt)
            && live.is_watched()
            && let Ok(bytes) = STANDARD.decode(png)
            && bytes.starts_with(b"\x89PNG\r\n\x1a\n")
        {
            live.show(bytes.into());
        }
    }

    fn collect(
        &mut self,
        held: Held,
        stream: Stream,
        offset: u64,
        data: &str,
        answers: &mut Vec<ToWorker>,
    ) -> Result<(), Fault> {
        if self.holds.get(&held.attempt).is_none_or(|holding| holding.held != held) {
            answers.push(self.fence(held, &FenceReason::NotHeld { attempt: held.attempt }));
            return Ok(());
        }
        let bytes = STANDARD.decode(data).map_err(|error| {
            Fault::retry(format!("the data of an append to {} is not base64: {error}", stream.file_name()))
        })?;
        if bytes.len() > MAX_CHUNK {
            let reason = format!("an append has {} bytes; at most {MAX_CHUNK} are allowed", bytes.len());
            return Err(Fault::retry(reason));
        }
        self.collected += bytes.len();
        self.appends.push(Append { attempt: held.attempt, stream: stream.file_name().into(), offset, bytes });
        self.labels.push((held, stream));
        Ok(())
    }

    /// True if another message may join those collected.
    pub(super) fn wants_more(&self) -> bool {
        !self.appends.is_empty() && self.collected < COLLECT && self.appends.len() < 256
    }

    /// Stores what was collected, then acknowledges it.
    pub(super) async fn flush(&mut self, answers: &mut Vec<ToWorker>) -> Result<(), Fault> {
        if self.appends.is_empty() {
            return Ok(());
        }
        self.collected = 0;
        let labels = std::mem::take(&mut self.labels);
        let appends = std::mem::take(&mut self.appends);
        let lives: BTreeMap<AttemptId, Option<Arc<Live>>> =
            labels.iter().map(|(held, _)| (held.attempt, self.app.live.get(held.attempt))).collect();
        // Held until the bytes are stored: an attempt that has ended takes nothing more.
        let mut permits = BTreeMap::new();
        for (&attempt, live) in &lives {
            if let Some(live) = live
                && let Some(permit) = live.append_permit().await
            {
                permits.insert(attempt, (live, permit));
            } else if let Some(holding) = self.holds.remove(&attempt) {
                let reason = FenceReason::Ended { attempt };
                answers.push(ToWorker::Fenced { held: holding.held, reason: reason.to_string() });
            }
        }
        let mut kept = Vec::new();
        let mut steps = Vec::new();
        let mut batch = Vec::new();
        for ((held, stream), append) in labels.into_iter().zip(appends) {
            if permits.contains_key(&held.attempt) {
                if stream == Stream::Steps {
                    steps.push((held.attempt, append.offset, append.bytes.clone()));
                }
                kept.push((held.attempt, stream));
                batch.push(append);
            }
        }
        let results = self.app.spool.append(batch).await;
        let mut lengths = BTreeMap::new();
        for (key, result) in kept.into_iter().zip(results) {
            lengths.insert(key, result?);
        }
        for ((attempt, stream), offset) in lengths {
            answers.push(ToWorker::Acked { attempt, stream, offset });
        }
        for (attempt, offset, bytes) in &steps {
            if let Some((live, _)) = permits.get(attempt) {
                live.feed(*offset, bytes);
            }
        }
        for (live, _) in permits.values() {
            live.note_growth();
        }
        let jobs: BTreeSet<JobId> = steps.iter().map(|(attempt, ..)| attempt.job).collect();
        for id in jobs {
            self.app.publish(Event::Steps { id });
        }
        Ok(())
    }
}
