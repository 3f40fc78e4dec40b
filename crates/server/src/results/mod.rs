//! Results of tests: those that are posted, and those that every job and module becomes.
//!
//! Posted results go through one task that stores what has come in while it was storing: many clients share a commit.
//! Results of jobs are stored by the driver, in the transaction that makes the job what the result says.

pub(crate) mod anew;
pub(crate) mod conventions;
pub(crate) mod decisions;
mod jobs;
pub(crate) mod known;
pub(crate) mod remote;
pub(crate) mod settings;
mod writer;

pub(crate) use jobs::JobResults;
pub(crate) use settings::ResultsSettings;
pub(crate) use writer::{Incoming, write};

use crate::fault::Fault;
use assay_store::{Epoch, NewResult, ResultId, StoreError, StoredResult};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{mpsc, oneshot};

/// Posts that may wait; beyond it clients are told to come later.
const QUEUE: usize = 4096;

/// What came of a post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Posted {
    New(Box<StoredResult>),
    /// The same was posted before.
    Before(ResultId),
}

impl Posted {
    pub(crate) fn id(&self) -> ResultId {
        match self {
            Self::New(stored) => stored.id,
            Self::Before(id) => *id,
        }
    }
}

/// What tells a post from others: a hash of its body and its sender.
pub(crate) type Same = [u8; 32];

pub(crate) fn hashed(said: &[u8]) -> Same {
    let mut same = Same::default();
    same.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, said).as_ref());
    same
}

/// A post and where its answer goes.
pub(crate) struct Post {
    result: NewResult,
    /// What was sent, by whom: who repeats it soon means the same result.
    same: Option<Same>,
    answer: Answer,
}

type Answer = oneshot::Sender<Result<Posted, Arc<StoreError>>>;

/// The way to the results.
pub(crate) struct Results {
    queue: mpsc::Sender<Post>,
    /// The last number that a result got.
    last: AtomicI64,
    settings: RwLock<Arc<ResultsSettings>>,
    epoch: Epoch,
    news: anew::News,
    elsewhere: remote::Elsewhere,
}

impl Results {
    /// With the last number that was given, and the end for [`write`].
    pub(crate) fn new(last: i64, epoch: Epoch) -> (Self, Incoming) {
        let (queue, incoming) = mpsc::channel(QUEUE);
        (
            Self {
                queue,
                last: AtomicI64::new(last),
                settings: RwLock::default(),
                epoch,
                news: anew::News::default(),
                elsewhere: remote::Elsewhere::default(),
            },
            incoming,
        )
    }

    /// A number that no other result has or had.
    pub(crate) fn number(&self) -> i64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn configure(&self, settings: ResultsSettings, url: &str) {
        let settings = ResultsSettings { url: url.trim_end_matches('/').to_owned(), ..settings };
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        self.wake();
    }

    pub(crate) fn settings(&self) -> Arc<ResultsSettings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stores a result; it is on disk when this returns.
    pub(crate) async fn post(&self, result: NewResult) -> Result<Posted, Fault> {
        self.post_once(result, None).await
    }

    /// The same where clients repeat a post whose answer they did not get.
    pub(crate) async fn post_once(&self, result: NewResult, same: Option<Same>) -> Result<Posted, Fault> {
        let (answer, hear) = oneshot::channel();
        self.queue.try_send(Post { result, same, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Fault::later("Too many results wait to be stored.", 1),
            mpsc::error::TrySendError::Closed(_) => Fault::later("The server is stopping.", 5),
        })?;
        let stopping = || Fault::later("The server is stopping; the result may not have been stored.", 5);
        hear.await.map_err(|_| stopping())?.map_err(|error| match &*error {
            StoreError::DiskFull { .. } | StoreError::Deposed | StoreError::Stopped => {
                Fault::later(error.to_string(), 5)
            }
            _ => Fault::later(format!("The result may not have been stored: {error}"), 2),
        })
    }
}
