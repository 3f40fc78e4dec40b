//! What goes wrong with answers and submits when a test wants it. Nothing here waits for time: what is held is let go by
//! a call.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Not before [`super::FakeGerrit::release_answers`].
    Slow,
    /// Not at all: the connection stays open and silent, and nothing is done.
    Never,
    /// With status 500, or exit status 1 and a message over SSH; nothing is done.
    Fails,
    /// It is done, then the connection is dropped without an answer.
    AnswerLost,
}

/// A trouble waiting for requests.
#[derive(Debug, Clone)]
struct Waiting {
    point: String,
    trouble: Trouble,
    /// So many requests go through first.
    skip: usize,
    left: Option<usize>,
}

/// What happens to the next submit in a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitTrouble {
    /// This commit is pushed to the branch first, by somebody else.
    ForeignPush(String),
    /// Success is reported, but another tree has landed.
    OtherTree,
    /// Success is reported, but nothing has landed.
    Nothing,
    /// It is refused with this text.
    Refused(String),
    /// It is done, but the connection is dropped instead of an answer.
    AnswerLost,
    /// The branch moves, and success is reported; the change is called merged, and its event told, only when
    /// [`super::Handle::finish_merges`] says so.
    Late,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: Vec<Waiting>,
    submits: VecDeque<(String, SubmitTrouble)>,
    refuse_logins: bool,
    met: usize,
}

/// What goes wrong.
#[derive(Debug)]
pub(crate) struct Faults {
    inner: Mutex<Inner>,
    /// Every release makes it one more.
    released: watch::Sender<u64>,
    /// How many requests have met a trouble.
    met: watch::Sender<usize>,
}

impl Default for Faults {
    fn default() -> Self {
        Self { inner: Mutex::default(), released: watch::channel(0).0, met: watch::channel(0).0 }
    }
}

impl Faults {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next `count` requests (or all) whose point begins with `point` meet this.
    pub(crate) fn answer(&self, point: &str, trouble: Trouble, count: Option<usize>) {
        self.answer_later(point, trouble, 0, count);
    }

    /// The same for those that come after `skip` others.
    pub(crate) fn answer_later(&self, point: &str, trouble: Trouble, skip: usize, count: Option<usize>) {
        self.inner().waiting.push(Waiting { point: point.to_owned(), trouble, skip, left: count });
    }

    /// Lets slow answers go and forgets all troubles with answers.
    pub(crate) fn release(&self) {
        self.inner().waiting.clear();
        self.released.send_modify(|count| *count += 1);
    }

    fn take(&self, point: &str) -> Option<Trouble> {
        let mut inner = self.inner();
        let at = inner.waiting.iter().position(|waiting| point.starts_with(&waiting.point))?;
        let waiting = &mut inner.waiting[at];
        if waiting.skip > 0 {
            waiting.skip -= 1;
            return None;
        }
        let trouble = waiting.trouble;
        waiting.left = waiting.left.map(|left| left.saturating_sub(1));
        if waiting.left == Some(0) {
            inner.waiting.remove(at);
        }
        inner.met += 1;
        self.met.send_replace(inner.met);
        Some(trouble)
    }

    /// A request comes in: waits if it has to, and tells whether it fails or loses its answer.
    pub(crate) async fn meet(&self, point: &str) -> Option<Trouble> {
        let mut released = self.released.subscribe();
        released.mark_unchanged();
        match self.take(point)? {
            Trouble::Slow => {
                let _ = released.changed().await;
                None
            }
            Trouble::Never => std::future::pending().await,
            other => Some(other),
        }
    }

    /// Tells how many requests have met a trouble.
    pub(crate) fn watch(&self) -> watch::Receiver<usize> {
        self.met.subscribe()
    }

    /// Adds a trouble for a submit.
    pub(crate) fn submit(&self, project: &str, trouble: SubmitTrouble) {
        self.inner().submits.push_back((project.to_owned(), trouble));
    }

    /// The trouble of this submit.
    pub(crate) fn take_submit(&self, project: &str) -> Option<SubmitTrouble> {
        let mut inner = self.inner();
        let at = inner.submits.iter().position(|(of, _)| of == project)?;
        inner.submits.remove(at).map(|(_, trouble)| trouble)
    }

    /// Refuses logins, or stops to.
    pub(crate) fn refuse_logins(&self, on: bool) {
        self.inner().refuse_logins = on;
    }

    /// Whether nobody may log in.
    pub(crate) fn refuses_logins(&self) -> bool {
        self.inner().refuse_logins
    }
}
