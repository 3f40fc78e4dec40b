//! What is known about running attempts and kept nowhere: how far they are, how long their streams are, who watches.

use crate::record::Tail;
use assay_engine::ids::AttemptId;
use assay_proto::api::Progress;
use axum::body::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{RwLock, RwLockReadGuard, watch};

/// A running attempt.
#[derive(Debug)]
pub(crate) struct Live {
    /// Open as long as streams may grow. Appends hold it shared, closing the streams takes it alone, so that no append
    /// comes after the end.
    gate: RwLock<Gate>,
    state: Mutex<State>,
    /// Changes whenever a stream has grown, and once more at the end.
    grown: watch::Sender<u64>,
    screen: watch::Sender<Option<Bytes>>,
    watchers: watch::Sender<usize>,
}

#[derive(Debug, PartialEq, Eq)]
enum Gate {
    Open,
    Ended,
}

#[derive(Debug, Default)]
struct State {
    tail: Tail,
    /// How much of the steps `tail` has seen.
    seen: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    fn new() -> Self {
        Self {
            gate: RwLock::new(Gate::Open),
            state: Mutex::default(),
            grown: watch::Sender::new(0),
            screen: watch::Sender::new(None),
            watchers: watch::Sender::new(0),
        }
    }

    /// To be held while a stream is appended to; `None` once the attempt has ended.
    pub(crate) async fn append_permit(&self) -> Option<impl Drop + use<'_>> {
        let gate: RwLockReadGuard<'_, Gate> = self.gate.read().await;
        (*gate == Gate::Open).then_some(gate)
    }

    /// Waits for appends that are under way; afterwards there are no more.
    pub(crate) async fn end(&self) {
        *self.gate.write().await = Gate::Ended;
        self.grown.send_modify(|count| *count += 1);
        self.screen.send_modify(|_| {});
    }

    pub(crate) async fn has_ended(&self) -> bool {
        *self.gate.read().await == Gate::Ended
    }

    /// The steps have these bytes at `offset`.
    pub(crate) fn feed(&self, offset: u64, bytes: &[u8]) {
        let mut state = lock(&self.state);
        let known = state.seen.saturating_sub(offset) as usize;
        if offset <= state.seen && known < bytes.len() {
            state.tail.feed(&bytes[known..]);
            state.seen = offset + bytes.len() as u64;
        }
    }

    /// How many bytes of the steps have been counted.
    pub(crate) fn seen(&self) -> u64 {
        lock(&self.state).seen
    }

    pub(crate) fn note_growth(&self) {
        self.grown.send_modify(|count| *count += 1);
    }

    pub(crate) fn growth(&self) -> watch::Receiver<u64> {
        self.grown.subscribe()
    }

    pub(crate) fn progress(&self) -> Option<Progress> {
        lock(&self.state).tail.progress()
    }

    pub(crate) fn last_step(&self) -> Option<String> {
        lock(&self.state).tail.last_step().map(str::to_owned)
    }

    pub(crate) fn show(&self, png: Bytes) {
        self.screen.send_replace(Some(png));
    }

    pub(crate) fn screen(&self) -> watch::Receiver<Option<Bytes>> {
        self.screen.subscribe()
    }

    pub(crate) fn is_watched(&self) -> bool {
        *self.watchers.borrow() > 0
    }
}

/// Somebody watches until this is dropped.
#[derive(Debug)]
pub(crate) struct Watching {
    live: Arc<Live>,
    audience: watch::Sender<u64>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.live.watchers.send_modify(|count| *count -= 1);
        if !self.live.is_watched() {
            // Nobody may see an old picture first when watching begins again.
            self.live.screen.send_if_modified(|screen| {
                *screen = None;
                false
            });
        }
        self.audience.send_modify(|changes| *changes += 1);
    }
}

/// All running attempts.
#[derive(Debug, Default)]
pub(crate) struct LiveAttempts {
    attempts: Mutex<HashMap<AttemptId, Arc<Live>>>,
    /// Changes whenever somebody begins or ceases to watch something.
    audience: watch::Sender<u64>,
}

impl LiveAttempts {
    /// The attempt runs, or may still run on a worker that has not come back yet.
    pub(crate) fn begin(&self, attempt: AttemptId) -> Arc<Live> {
        lock(&self.attempts).entry(attempt).or_insert_with(|| Arc::new(Live::new())).clone()
    }

    pub(crate) fn get(&self, attempt: AttemptId) -> Option<Arc<Live>> {
        lock(&self.attempts).get(&attempt).cloned()
    }

    pub(crate) fn forget(&self, attempt: AttemptId) {
        lock(&self.attempts).remove(&attempt);
    }

    pub(crate) fn progress(&self, attempt: AttemptId) -> Option<Progress> {
        self.get(attempt)?.progress()
    }

    /// Watches an attempt; its worker sends pictures as long as somebody does.
    pub(crate) fn watch(&self, live: Arc<Live>) -> Watching {
        live.watchers.send_modify(|count| *count += 1);
        self.audience.send_modify(|changes| *changes += 1);
        Watching { live, audience: self.audience.clone() }
    }

    pub(crate) fn audience(&self) -> watch::Receiver<u64> {
        self.audience.subscribe()
    }
}
