//! What the rest of the server sees of the gate's loops: the newest snapshot, and the way in for effects.

use super::status::Status;
use assay_engine::gate::ids::{ChangeId, Patchset, ProjectName};
use assay_engine::gate::io::{Effect, LandRequest, Merge};
use assay_engine::gate::snapshot::Snapshot;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::{Notify, mpsc, watch};

/// The gate's loops, as the driver and the pages know them.
pub(crate) struct Hub {
    snapshot: watch::Sender<Arc<Snapshot>>,
    merges: mpsc::UnboundedSender<Merge>,
    landings: mpsc::UnboundedSender<LandRequest>,
    refreshes: mpsc::UnboundedSender<Vec<ChangeId>>,
    offers: mpsc::UnboundedSender<(Patchset, ProjectName)>,
    pub(crate) reports: Arc<Notify>,
    status: Mutex<Status>,
    /// The loops, once they run.
    pub(super) loops: OnceLock<super::service::Loops>,
}

/// The loops' ends of it.
pub(crate) struct Ends {
    pub(super) merges: mpsc::UnboundedReceiver<Merge>,
    pub(super) landings: mpsc::UnboundedReceiver<LandRequest>,
    pub(super) refreshes: mpsc::UnboundedReceiver<Vec<ChangeId>>,
    pub(super) offers: mpsc::UnboundedReceiver<(Patchset, ProjectName)>,
}

impl Hub {
    pub(crate) fn new() -> (Self, Ends) {
        let (merges, merges_in) = mpsc::unbounded_channel();
        let (landings, landings_in) = mpsc::unbounded_channel();
        let (refreshes, refreshes_in) = mpsc::unbounded_channel();
        let (offers, offers_in) = mpsc::unbounded_channel();
        let hub = Self {
            snapshot: watch::Sender::default(),
            merges,
            landings,
            refreshes,
            offers,
            reports: Arc::default(),
            status: Mutex::default(),
            loops: OnceLock::new(),
        };
        let ends =
            Ends { merges: merges_in, landings: landings_in, refreshes: refreshes_in, offers: offers_in };
        (hub, ends)
    }

    /// What the gate held after the latest step that is stored.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// Every snapshot as it comes.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.subscribe()
    }

    /// How the loops are.
    pub(crate) fn status(&self) -> Status {
        self.edit().clone()
    }

    /// The repositories; none while the server starts.
    pub(super) fn repositories(&self) -> Option<&super::repos::Repositories> {
        Some(&self.loops.get()?.repositories)
    }

    pub(super) fn edit(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A step is stored.
    pub(crate) fn publish(&self, snapshot: Snapshot) {
        self.snapshot.send_replace(Arc::new(snapshot));
    }

    /// Has an effect carried out. Until the loops run, it waits for them.
    pub(crate) fn carry_out(&self, effect: Effect) {
        match effect {
            Effect::Merge(merge) => drop(self.merges.send(merge)),
            Effect::Land(request) => drop(self.landings.send(*request)),
            Effect::Refresh(changes) => drop(self.refreshes.send(changes)),
            Effect::Offer { merged, project } => drop(self.offers.send((merged, project))),
            // Its row is in the outbox.
            Effect::Report(_) => self.reports.notify_one(),
            // Rows are stored, builds are jobs, and pages hear of changes: the engine's state has seen to it.
            Effect::Save(_) | Effect::StartBuild(_) | Effect::CancelBuild(_) | Effect::Changed(_) => {}
        }
    }
}
