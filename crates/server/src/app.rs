//! What every part of the server shares.

use crate::auth::Guard;
use crate::catalog::Library;
use crate::driver::Engine;
use crate::hub::Hub;
use crate::live::LiveAttempts;
use crate::people::People;
use crate::people::oidc::Providers;
use assay_engine::gate::snapshot::Snapshot;
use assay_engine::ids::AttemptId;
use assay_engine::sched::limits::Limits;
use assay_proto::api::Event;
use assay_proto::clock::Clock;
use assay_proto::worker::Stream;
use assay_store::blobs::Blobs;
use assay_store::spool::Spool;
use assay_store::{Store, StoreError};
use camino::Utf8PathBuf;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How much of the steps is looked at at once when an attempt is taken up.
const PIECE: usize = 1024 * 1024;

/// How many attempts' streams may be closed at once.
const CLOSERS: usize = 16;

/// One lock per attempt, or nearly: an attempt's streams are closed by one task at a time.
#[derive(Debug, Default)]
pub(crate) struct Closers([tokio::sync::Mutex<()>; CLOSERS]);

impl Closers {
    fn of(&self, attempt: AttemptId) -> &tokio::sync::Mutex<()> {
        let number = attempt.job.0.unsigned_abs().wrapping_add(u64::from(attempt.number));
        &self.0[(number % CLOSERS as u64) as usize]
    }
}

/// The server.
pub(crate) struct App {
    /// The data directory.
    pub(crate) data: Utf8PathBuf,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) spool: Spool,
    pub(crate) assets: crate::assets::Assets,
    pub(crate) downloads: crate::downloads::Downloads,
    pub(crate) task_runs: crate::tasks::Tasks,
    pub(crate) results: crate::results::Results,
    pub(crate) guard: Guard,
    pub(crate) once: crate::auth::once::Once,
    pub(crate) people: Arc<People>,
    pub(crate) referers: crate::referers::Referers,
    /// Whom people can sign in with.
    pub(crate) providers: Providers,
    pub(crate) library: Library,
    pub(crate) engine: Engine,
    pub(crate) hub: Hub,
    pub(crate) live: LiveAttempts,
    pub(crate) closers: Closers,
    /// Held by whoever changes a part of a row that is written as a whole, from reading it on: what is known of a bug, what
    /// stands beside a post of a product. Else the one who writes last would undo what others have written meanwhile.
    pub(crate) rewriting: tokio::sync::Mutex<()>,
    pub(crate) told: crate::told::Told,
    pub(crate) searches: crate::api::openqa::Searches,
    /// Which needles jobs looked at.
    pub(crate) looks: crate::needle_list::Looks,
    /// The gate's loops.
    pub(crate) gate: crate::gate::Hub,
    /// How many jobs may run at once.
    pub(crate) limits: Mutex<Limits>,
    /// The loops for events outside.
    pub(crate) outside: crate::events::Hub,
    /// Who is told what was decided.
    pub(crate) reporting: crate::reporting::Hub,
    /// Why nothing is decided now; see [`App::trouble`].
    pub(crate) trouble: Mutex<Option<String>>,
    pub(crate) events: broadcast::Sender<Event>,
    /// The latest of them, for whoever looks at a page and listens a moment later.
    pub(crate) recent: Mutex<Recent>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Cancelled when the server is to end.
    pub(crate) shutdown: CancellationToken,
    /// Everything that runs beside the listener.
    pub(crate) tasks: TaskTracker,
}

/// The latest events.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// How many there ever were.
    published: u64,
    latest: VecDeque<Event>,
}

/// Events that are remembered.
const RECENT: usize = 1024;

impl App {
    /// Tells pages and waiters.
    pub(crate) fn publish(&self, event: Event) {
        // Counted first: who begins to listen in between is told of it twice, and not never.
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.published += 1;
        if recent.latest.len() == RECENT {
            recent.latest.pop_front();
        }
        recent.latest.push_back(event.clone());
        drop(recent);
        let _ = self.events.send(event);
    }

    /// Where a page hears of what changes from now on, also of what changes before it listens.
    pub(crate) fn changes(&self) -> String {
        let published = self.recent.lock().unwrap_or_else(PoisonError::into_inner).published;
        format!("/api/assay/v1/events?since={published}")
    }

    /// Whether there was such an event after the first `since`; yes if that is too long ago to know.
    pub(crate) fn had_since(&self, since: u64, such: impl Fn(&Event) -> bool) -> bool {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        // A count that there has not been yet is of a server that ended.
        let new = recent.published.wrapping_sub(since);
        match usize::try_from(new) {
            Ok(new) if new <= recent.latest.len() => recent.latest.iter().rev().take(new).any(such),
            _ => true,
        }
    }

    /// What the gate held after the latest step that is stored.
    pub(crate) fn gate(&self) -> Arc<Snapshot> {
        self.gate.snapshot()
    }

    /// Why the server decides nothing now, as one sentence without its full stop; `None` while all is well.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_trouble(&self, why: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// What limits jobs, for a state that is made anew.
    pub(crate) fn limits(&self) -> Limits {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts limits in force.
    pub(crate) async fn limit(&self, limits: Limits) {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&limits);
        self.engine.tell(assay_engine::io::Input::Limits(limits)).await;
    }

    /// An attempt is carried by a worker, or may be: its streams may grow from where they are.
    pub(crate) async fn take_up(&self, attempt: AttemptId) -> Result<BTreeMap<Stream, u64>, StoreError> {
        let lengths = self.spool.settle(attempt).await?;
        let live = self.live.begin(attempt);
        let steps = lengths.get(Stream::Steps.file_name()).copied().unwrap_or(0);
        while live.seen() < steps {
            let from = live.seen();
            let piece = self.spool.read(attempt, Stream::Steps.file_name(), from, PIECE).await?;
            if piece.is_empty() {
                break;
            }
            live.feed(from, &piece);
        }
        Ok(Stream::ALL
            .into_iter()
            .filter_map(|stream| Some((stream, *lengths.get(stream.file_name())?)))
            .collect())
    }

    /// Removes from the spool what has become blobs, for a process that died between the two.
    pub(crate) async fn sweep_spool(&self) -> Result<(), StoreError> {
        for attempt in self.spool.attempts().await? {
            match self.attempt(attempt).await? {
                Some(stored) if stored.streams.is_some() => self.spool.remove(attempt).await?,
                Some(_) => {}
                None => {
                    tracing::warn!(%attempt, "the spool has streams of an attempt that is not in the database");
                }
            }
        }
        Ok(())
    }

    /// The attempt has ended: makes blobs of its streams. If that fails they stay in the spool, where pages find them,
    /// and the next start, or the next recovery of the driver, tries again.
    pub(crate) fn close_streams(self: &Arc<Self>, attempt: AttemptId) {
        let app = self.clone();
        self.tasks.spawn(async move {
            let _alone = app.closers.of(attempt).lock().await;
            // Before the streams are closed: after a crash in between it is done again.
            if let Err(error) = app.carry_over(attempt).await {
                tracing::warn!(%attempt, %error, "comments of earlier jobs cannot be taken over");
            }
            if let Err(error) = app.close_now(attempt).await {
                tracing::error!(%attempt, %error, "streams cannot be closed; they stay in the spool");
            }
            app.live.forget(attempt);
            app.publish(Event::Job { id: attempt.job });
        });
    }

    async fn close_now(&self, attempt: AttemptId) -> Result<(), StoreError> {
        self.live.begin(attempt).end().await;
        // Another task may have been faster; with the spool gone this one would store that there are no streams.
        let closed = self.attempt(attempt).await?.is_some_and(|attempt| attempt.streams.is_some());
        if !closed {
            // Before the streams leave the spool, and stored with them.
            let run = self.ended_run(attempt).await?;
            let results = self.module_results(attempt, &run).await?;
            let mut streams = self.spool.close(attempt).await?;
            self.list_blobs(&mut streams).await?;
            if !self.engine.closed(attempt, streams, results).await {
                return Ok(());
            }
        }
        if let Err(error) = self.spool.remove(attempt).await {
            tracing::warn!(%attempt, %error, "the spool of a closed attempt cannot be removed");
        }
        Ok(())
    }
}
