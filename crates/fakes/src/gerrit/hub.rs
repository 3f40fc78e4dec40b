//! The event streams, and what goes wrong with them when a test wants it.

use super::model::Event;
use serde_json::Value;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};

/// What happens to the next events instead of being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// Not sent at all.
    Drop,
    /// Sent twice.
    Duplicate,
    /// Kept until released.
    Delay,
    /// Kept until so many are together, then sent in reverse.
    Reorder,
}

struct Stream {
    kinds: Option<BTreeSet<String>>,
    /// Dropping it ends the stream.
    to: mpsc::UnboundedSender<String>,
}

#[derive(Default)]
struct Inner {
    streams: Vec<Stream>,
    mishaps: VecDeque<(Mishap, usize)>,
    delayed: Vec<Event>,
    reversed: Vec<Event>,
    log: Vec<Event>,
}

/// All event streams.
pub(crate) struct Hub {
    inner: Mutex<Inner>,
    /// How many events have happened, and how many streams are open.
    count: watch::Sender<(usize, usize)>,
}

impl Default for Hub {
    fn default() -> Self {
        Self { inner: Mutex::default(), count: watch::channel((0, 0)).0 }
    }
}

impl Hub {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a stream of some kinds of events, or of all.
    pub(crate) fn open(&self, kinds: Option<BTreeSet<String>>) -> mpsc::UnboundedReceiver<String> {
        let (to, from) = mpsc::unbounded_channel();
        let mut inner = self.inner();
        inner.streams.retain(|stream| !stream.to.is_closed());
        inner.streams.push(Stream { kinds, to });
        self.tell(&inner);
        from
    }

    /// Forgets streams whose reader has gone.
    pub(crate) fn sweep(&self) {
        let mut inner = self.inner();
        inner.streams.retain(|stream| !stream.to.is_closed());
        self.tell(&inner);
    }

    /// Ends all streams.
    pub(crate) fn close_all(&self) {
        let mut inner = self.inner();
        inner.streams.clear();
        self.tell(&inner);
    }

    fn tell(&self, inner: &Inner) {
        self.count.send_replace((inner.log.len(), inner.streams.len()));
    }

    /// Something happened.
    pub(crate) fn publish(&self, event: Event) {
        let mut inner = self.inner();
        inner.log.push(event.clone());
        let mishap = inner.mishaps.front_mut().map(|(mishap, left)| {
            *left -= 1;
            (*mishap, *left)
        });
        if let Some((_, 0)) = mishap {
            inner.mishaps.pop_front();
        }
        match mishap {
            None => inner.send(&event),
            Some((Mishap::Drop, _)) => {}
            Some((Mishap::Duplicate, _)) => {
                inner.send(&event);
                inner.send(&event);
            }
            Some((Mishap::Delay, _)) => inner.delayed.push(event),
            Some((Mishap::Reorder, left)) => {
                inner.reversed.push(event);
                if left == 0 {
                    let reversed = std::mem::take(&mut inner.reversed);
                    for event in reversed.iter().rev() {
                        inner.send(event);
                    }
                }
            }
        }
        self.tell(&inner);
    }

    /// The next `count` events meet this; mishaps wait for one another.
    pub(crate) fn befall(&self, mishap: Mishap, count: usize) {
        if count > 0 {
            self.inner().mishaps.push_back((mishap, count));
        }
    }

    /// Sends what was delayed or waited to be reordered, and lets later events through.
    pub(crate) fn release(&self) {
        let mut inner = self.inner();
        inner.mishaps.clear();
        let mut held = std::mem::take(&mut inner.delayed);
        held.extend(std::mem::take(&mut inner.reversed).into_iter().rev());
        for event in &held {
            inner.send(event);
        }
    }

    /// Everything that happened, whether it was sent or not.
    pub(crate) fn log(&self) -> Vec<Value> {
        self.inner().log.iter().map(|event| event.body.clone()).collect()
    }

    /// Tells of every change of the number of events and of streams.
    pub(crate) fn watch(&self) -> watch::Receiver<(usize, usize)> {
        self.count.subscribe()
    }
}

impl Inner {
    fn send(&mut self, event: &Event) {
        let line = format!("{}\n", event.body);
        self.streams.retain(|stream| {
            let wanted = stream.kinds.as_ref().is_none_or(|kinds| kinds.contains(event.kind));
            !wanted || stream.to.send(line.clone()).is_ok()
        });
    }
}
