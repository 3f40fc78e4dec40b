//! A store as the server has it, with somebody who looks on.

use assay_engine::ids::{AttemptId, GroupId, JobId, ProductRunId};
use assay_engine::job::StateWord;
use assay_engine::relations::Parent;
use assay_engine::rows::{ProductRunRow, Rows, WorkerRow};
use assay_store::{
    AssetStore, Batch, BuildTally, Epoch, GateStore, GroupBuild, JobFilter, JobSummary, KnowledgeStore,
    RunFilter, Store, StoreError, StoredAttempt, StoredJob,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// Where a store stands still, as if the server were killed there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Halt {
    /// Before anything of the next commit is written.
    Before,
    /// When all of it is, and nobody has heard of it.
    After,
}

/// Counts the questions of pages, and stands still around a commit if it is told to.
pub(crate) struct Watched {
    store: Arc<dyn Store>,
    questions: AtomicUsize,
    halt: Mutex<Option<Halt>>,
    halted: Notify,
}

impl Watched {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        let (questions, halt, halted) = (AtomicUsize::new(0), Mutex::new(None), Notify::new());
        Self { store, questions, halt, halted }
    }

    pub(crate) fn questions(&self) -> usize {
        self.questions.load(Ordering::SeqCst)
    }

    /// The next commit never ends.
    pub(crate) fn halt(&self, at: Halt) {
        *self.halt.lock().unwrap() = Some(at);
    }

    /// Waits until the store stands still.
    pub(crate) async fn halted(&self) {
        self.halted.notified().await;
    }

    fn asked(&self) -> &dyn Store {
        self.questions.fetch_add(1, Ordering::SeqCst);
        &*self.store
    }
}

macro_rules! counted {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait::async_trait]
        impl Store for Watched {
            $(async fn $name(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
                self.asked().$name($($argument),*).await
            })*
            async fn commit(&self, epoch: Epoch, batch: &Batch) -> Result<(), StoreError> {
                let halt = self.halt.lock().unwrap().take();
                if halt != Some(Halt::Before) {
                    self.asked().commit(epoch, batch).await?;
                }
                if halt.is_some() {
                    self.halted.notify_one();
                    std::future::pending::<()>().await;
                }
                Ok(())
            }
            fn gate(&self) -> &dyn GateStore {
                self.asked().gate()
            }
            fn knowledge(&self) -> &dyn KnowledgeStore {
                self.asked().knowledge()
            }
            fn results(&self) -> &dyn assay_store::ResultStore {
                self.asked().results()
            }
            fn assets(&self) -> &dyn AssetStore {
                self.asked().assets()
            }

            fn events(&self) -> &dyn assay_store::EventStore {
                self.asked().events()
            }
            fn outbox(&self) -> &dyn assay_store::OutboxStore {
                self.asked().outbox()
            }
            async fn close(&self) {
                self.store.close().await;
            }
        }
    };
}

counted! {
    acquire_leadership() -> Epoch;
    reacquire(epoch: Epoch) -> ();
    load() -> Rows;
    jobs(filter: &JobFilter) -> Vec<StoredJob>;
    summaries(filter: &JobFilter) -> Vec<JobSummary>;
    count(filter: &JobFilter) -> u64;
    group_builds(groups: &[GroupId]) -> Vec<GroupBuild>;
    tallies(builds: &[(GroupId, String)]) -> Vec<BuildTally>;
    cluster(jobs: &[JobId], clones: bool) -> Vec<StoredJob>;
    children(jobs: &[JobId]) -> Vec<(JobId, Parent)>;
    product_run(id: ProductRunId) -> Option<ProductRunRow>;
    product_runs(filter: &RunFilter) -> Vec<ProductRunRow>;
    job(id: JobId) -> Option<StoredJob>;
    attempts(job: JobId) -> Vec<StoredAttempt>;
    counts() -> BTreeMap<StateWord, u64>;
    workers() -> Vec<WorkerRow>;
    unclosed() -> Vec<AttemptId>;
}
