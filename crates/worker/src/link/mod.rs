//! The conversation with the server. The prose is `docs/protocols/worker.md`.
//!
//! An attempt runs on whether the server is there or not. Each connection starts from what the server says it has
//! ([`ToWorker::Welcome`]); one uploader per attempt and connection carries the rest.

mod connection;
mod upload;

use crate::assets::Door;
use crate::attempt::{AttemptDir, remove_tree};
use crate::exec::{self, Attempt, Cluster, HostOptions, ScreenTap, Stop};
use crate::lock;
use crate::networks::{self, Networks};
use crate::questions::Questions;
use assay_engine::ids::AttemptId;
use assay_engine::outcome::Outcome;
use assay_proto::worker::{Held, Place, Report, WorkPhase};
use camino::Utf8PathBuf;
use fs_err as fs;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Where a server is.
#[derive(Debug, Clone)]
pub enum ServerAddress {
    /// `http://host:port`.
    Fixed(String),
    /// Read from the `url` of this JSON file before each connection: the server of a data directory may come back at
    /// another port.
    File(Utf8PathBuf),
}

impl ServerAddress {
    /// The address now.
    pub(crate) fn resolve(&self) -> Result<String, String> {
        match self {
            Self::Fixed(url) => Ok(url.trim_end_matches('/').to_owned()),
            Self::File(path) => {
                let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
                let value: serde_json::Value =
                    serde_json::from_str(&text).map_err(|error| error.to_string())?;
                let url = value["url"].as_str().ok_or_else(|| format!("{path} names no server"))?;
                Ok(url.trim_end_matches('/').to_owned())
            }
        }
    }
}

/// How a worker works.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Where the server is.
    pub server: ServerAddress,
    /// The worker token.
    pub token: String,
    /// Name, unique on the server.
    pub name: String,
    /// For people.
    pub host: String,
    /// Attempts at once.
    pub slots: u32,
    /// `WORKER_CLASS` values on offer.
    pub classes: Vec<String>,
    /// Where attempts are kept while they run and until the server has them.
    pub pool: Utf8PathBuf,
    /// The host's part in every attempt.
    pub host_options: Arc<HostOptions>,
    /// End when the server has all of the first attempt.
    pub once: bool,
    /// End by itself after so long without a server and without work.
    pub give_up: Option<Duration>,
}

/// Why a worker ended other than by request.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The server will not have it.
    #[error("the server refuses this worker: {0}")]
    Refused(String),
    /// The token is wrong.
    #[error(
        "the server does not accept this worker's token; use the one in tokens/worker of the server's data directory"
    )]
    Unauthorized,
    /// The server's address cannot be used at all.
    #[error("{0}")]
    Address(String),
    /// No server for too long.
    #[error("no server for {minutes} minutes and nothing to do; start it with `assay up`")]
    GaveUp {
        /// How long.
        minutes: u64,
    },
    /// The pool cannot be had.
    #[error(transparent)]
    Pool(#[from] lock::PoolLockError),
    /// The host.
    #[error("the worker's pool cannot be used: {0}")]
    Io(#[from] std::io::Error),
}

/// An attempt that runs, or has ended and is not yet acknowledged.
pub(crate) struct Running {
    pub(crate) held: Held,
    pub(crate) dir: AttemptDir,
    pub(crate) stop: watch::Sender<Option<Stop>>,
    pub(crate) ended: watch::Receiver<Option<Report>>,
    pub(crate) tap: ScreenTap,
    pub(crate) questions: Questions,
    pub(crate) watched: watch::Sender<bool>,
    pub(crate) blobs_sent: Arc<AtomicUsize>,
}

/// What the worker has in hand, whatever the connection does.
pub(crate) struct Hands {
    pub(crate) running: BTreeMap<AttemptId, Running>,
    tasks: JoinSet<()>,
    config: WorkerConfig,
    pub(crate) networks: Networks,
    /// Frames for machines on other workers.
    pub(crate) frames: mpsc::Receiver<networks::Outgoing>,
    /// An attempt has begun.
    began: bool,
    /// Attempts whose record the server has: their folders can go when the executor has let go of them.
    forgotten: BTreeSet<AttemptId>,
}

/// Works until `shutdown`, or until the server refuses for good.
pub async fn run(config: WorkerConfig, shutdown: CancellationToken) -> Result<(), WorkerError> {
    fs::create_dir_all(&config.pool)?;
    let _lock = lock::lock_pool(&config.pool)?;
    clear_leftovers(&config)?;
    let (networks, frames) = Networks::new();
    let mut hands = Hands {
        running: BTreeMap::new(),
        tasks: JoinSet::new(),
        config: config.clone(),
        networks,
        frames,
        began: false,
        forgotten: BTreeSet::new(),
    };
    // Aborted with this function: a stop need not wait for a probe.
    let mut probe = JoinSet::new();
    if config.classes.iter().any(|class| class.starts_with("qemu")) {
        let cache = config.host_options.cache.clone();
        probe.spawn(async move { assay_vm::accel::warm_up(&cache).await });
    }
    let instance = uuid::Uuid::new_v4().simple().to_string();
    let mut alone_since = Instant::now();
    let mut warned: Option<Instant> = None;
    let mut pause = Duration::from_millis(50);
    let ended = loop {
        let outcome = tokio::select! {
            outcome = connection::converse(&mut hands, &instance) => outcome,
            () = shutdown.cancelled() => break Ok(()),
        };
        match outcome {
            connection::End::Fatal(error) => break Err(error),
            connection::End::Done => break Ok(()),
            connection::End::Lost { was_up, why } => {
                if was_up {
                    (alone_since, pause, warned) = (Instant::now(), Duration::from_millis(50), None);
                }
                // The first time, and then once a minute: a wrong address must not go unseen.
                if warned.is_none_or(|at: Instant| at.elapsed() > Duration::from_mins(1)) {
                    tracing::warn!(why, "no connection to the server; trying again");
                    warned = Some(Instant::now());
                }
            }
        }
        if let Some(limit) = config.give_up
            && hands.running.is_empty()
            && alone_since.elapsed() > limit
        {
            break Err(WorkerError::GaveUp { minutes: limit.as_secs() / 60 });
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => break Ok(()),
        }
        pause = (pause * 2).min(Duration::from_secs(2));
    };
    hands.stop_all().await;
    clear_machines(&config)?;
    ended
}

/// A pool may hold attempts of a worker that was killed. The server has given them up, their machines died with the
/// worker; only their files are left, here and in the directory of the running machines.
fn clear_leftovers(config: &WorkerConfig) -> std::io::Result<()> {
    for entry in fs::read_dir(&config.pool)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("attempt-") {
            remove_tree(&Utf8PathBuf::from(entry.path().to_string_lossy().into_owned()));
        }
    }
    clear_machines(config)
}

fn clear_machines(config: &WorkerConfig) -> std::io::Result<()> {
    match fs::remove_dir_all(&config.host_options.run) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Hands {
    pub(crate) fn config(&self) -> &WorkerConfig {
        &self.config
    }

    pub(crate) fn holds(&self) -> Vec<Held> {
        self.running.values().map(|running| running.held).collect()
    }

    /// True if there is nothing more to do for a worker that runs one attempt.
    pub(crate) fn is_used_up(&self) -> bool {
        self.config.once && self.began && self.running.is_empty()
    }

    /// Begins an attempt. One whose folder cannot be made ends at once, with that as its reason.
    pub(crate) fn begin(&mut self, held: Held, settings: BTreeMap<String, String>, place: Place) {
        if self.running.contains_key(&held.attempt) {
            return;
        }
        self.began = true;
        let path = self.config.pool.join(format!("attempt-{}", held.attempt));
        let (ended_tx, ended) = watch::channel(None);
        let dir =
            AttemptDir::create(&path, false).unwrap_or_else(|error| AttemptDir::unusable(&path, &error));
        let stop = watch::Sender::new(None);
        let tap = ScreenTap::default();
        let door = Door::new(held.attempt.job, self.config.server.clone(), &self.config.token);
        let questions = Questions::default();
        let cluster = Cluster {
            job: held.attempt.job,
            place,
            questions: questions.clone(),
            networks: self.networks.clone(),
            server: self.config.server.clone(),
        };
        let attempt = Attempt {
            number: held.attempt.number,
            settings,
            assets: door.ok(),
            cluster: Some(cluster),
            dir: dir.clone(),
            stop: stop.subscribe(),
            tap: tap.clone(),
            began: Instant::now(),
            host: self.config.host_options.clone(),
        };
        dir.phase(WorkPhase::Setup);
        self.tasks.spawn(async move {
            // On a task of its own, so that a panic ends the attempt and not the slot.
            let mut inner = JoinSet::new();
            let run = attempt.clone();
            inner.spawn(async move { exec::run(&run).await });
            let report = match inner.join_next().await {
                Some(Ok(report)) => report,
                _ => exec::infrastructure(
                    "the executor panicked; this is a bug in Assay, please report it with the worker's log",
                ),
            };
            attempt.dir.phase(WorkPhase::Uploading);
            let _ = ended_tx.send(Some(report));
        });
        let running = Running {
            held,
            dir,
            stop,
            ended,
            tap,
            questions,
            watched: watch::Sender::new(false),
            blobs_sent: Arc::new(AtomicUsize::new(0)),
        };
        self.running.insert(held.attempt, running);
    }

    /// The attempt is somebody else's, or the server has all of it.
    pub(crate) fn forget(&mut self, attempt: AttemptId, stop: Option<Stop>) {
        let Some(running) = self.running.remove(&attempt) else { return };
        if let Some(stop) = stop {
            let _ = running.stop.send(Some(stop));
        }
        let ended = running.ended.borrow().is_some();
        if ended {
            remove_tree(running.dir.path());
        } else {
            self.forgotten.insert(attempt);
        }
        self.reap();
    }

    /// Collects executors that have returned, and removes the folders of forgotten attempts once nothing runs in them.
    pub(crate) fn reap(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        if self.tasks.is_empty() {
            for attempt in std::mem::take(&mut self.forgotten) {
                remove_tree(&self.config.pool.join(format!("attempt-{attempt}")));
            }
        }
    }

    async fn stop_all(mut self) {
        for running in self.running.values() {
            let _ = running.stop.send(Some(Stop::Shutdown));
        }
        while self.tasks.join_next().await.is_some() {}
        for running in self.running.values() {
            remove_tree(running.dir.path());
        }
    }
}

/// True if a report says that the attempt was taken away, so that nobody waits for it.
pub(crate) fn is_silent(stop: Option<&Stop>, report: &Report) -> bool {
    matches!(stop, Some(Stop::Fenced(_) | Stop::Shutdown)) && report.outcome != Outcome::Passed
}
