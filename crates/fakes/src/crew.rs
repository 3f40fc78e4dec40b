//! Workers by the hundred, in one process: each does at once and with success whatever it is given. For load, not for
//! tests of what a worker does.

use crate::worker::{Connection, ScriptedWorker};
use anyhow::Context;
use assay_engine::ids::Timestamp;
use assay_engine::outcome::Outcome;
use assay_engine::work::{Held, WorkPhase};
use assay_proto::clock::{Clock, SystemClock};
use assay_proto::worker::ToWorker;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Who they are.
#[derive(Debug, Clone)]
pub struct Crew {
    /// `http://HOST:PORT`
    pub server: String,
    /// The worker token.
    pub token: String,
    /// How many, each with one slot.
    pub count: usize,
    /// What they offer.
    pub class: String,
    /// They go when they have done so many jobs.
    pub jobs: Option<u64>,
}

/// What they did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Jobs that were given to them.
    pub jobs: u64,
    /// From the first to the last, in microseconds.
    pub took_us: i64,
}

#[derive(Default)]
struct Shared {
    jobs: AtomicU64,
    first_us: AtomicI64,
    last_us: AtomicI64,
}

impl Shared {
    /// Counts a job; how many there were.
    fn count(&self) -> u64 {
        let Timestamp(now) = SystemClock.now();
        let _ = self.first_us.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        self.last_us.fetch_max(now, Ordering::Relaxed);
        self.jobs.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Crew {
    /// Works until enough is done or `cancel` says so. `ready` is called when all are connected.
    pub async fn work(&self, cancel: CancellationToken, ready: impl FnOnce()) -> anyhow::Result<Tally> {
        let shared = Arc::new(Shared::default());
        let mut workers = JoinSet::new();
        for number in 0..self.count {
            let mut worker =
                ScriptedWorker::new(&self.server, &self.token, &format!("{}-{number}", self.class));
            worker.classes = vec![self.class.clone()];
            let connection = worker.connect(&[]).await.with_context(|| worker.name.clone())?;
            workers.spawn(work(connection, shared.clone(), self.jobs, cancel.clone()));
        }
        ready();
        while let Some(ended) = workers.join_next().await {
            ended??;
        }
        let load = |value: &AtomicI64| value.load(Ordering::Relaxed);
        Ok(Tally {
            jobs: shared.jobs.load(Ordering::Relaxed),
            took_us: load(&shared.last_us) - load(&shared.first_us),
        })
    }
}

async fn work(
    mut connection: Connection,
    shared: Arc<Shared>,
    enough: Option<u64>,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let mut beat = tokio::time::interval(connection.beat_every);
    let mut held: Option<Held> = None;
    loop {
        let message = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            _ = beat.tick() => {
                connection.heartbeat(held.as_slice()).await?;
                continue;
            }
            message = connection.next() => message?.context("the server closed the connection")?,
        };
        match message {
            ToWorker::Assign { held: given, .. } => {
                held = Some(given);
                connection.phase(given, WorkPhase::Running).await?;
                connection.finish(given, Outcome::Passed, None).await?;
                let count = shared.count();
                if enough.is_some_and(|enough| count >= enough) {
                    cancel.cancel();
                }
            }
            ToWorker::FinishedAck { .. } => held = None,
            ToWorker::Refused { reason, .. } => anyhow::bail!("the server refused a worker: {reason}"),
            _ => {}
        }
    }
}
