//! The outbox: reports are told in the order in which they were made, each once, however often it takes to tell them.
//! One that cannot be told now keeps back only what is about the same change.

use super::lander::Pauses;
use super::ports::{Reviews, Told};
use assay_engine::gate::change::Subject;
use assay_engine::gate::config::ReportAction;
use assay_engine::gate::ids::ItemId;
use assay_engine::gate::io::Report;
use assay_engine::ids::Timestamp;
use assay_proto::clock::Clock;
use assay_store::{Epoch, Store, StoreError, StoredReport, Tried};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Reports on their way.
#[derive(Clone)]
pub(crate) struct Outbox {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) epoch: Epoch,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) reviews: Arc<dyn Reviews>,
    pub(crate) pauses: Pauses,
    /// Nothing is sent; what would be is logged.
    pub(crate) staging: bool,
    /// Reports that an earlier server may have told without having been able to note it.
    pub(crate) doubtful: Arc<BTreeSet<(ItemId, u32)>>,
}

/// What is told in order: everything about one change to one system.
type Target = (String, String);

/// Tellings at one time.
const AT_ONCE: usize = 16;
/// The longest that one telling may take.
const DEADLINE: Duration = Duration::from_mins(5);
/// The longest sleep: clocks may be set.
const LOOK: Duration = Duration::from_secs(30);

impl Outbox {
    /// Tells what is there and what comes, until the end. `news` says that there may be something new.
    pub(crate) async fn run(mut self, news: Arc<Notify>, end: CancellationToken) {
        let mut busy: BTreeSet<Target> = BTreeSet::new();
        let mut tasks: JoinSet<Target> = JoinSet::new();
        if let Ok(old) = self.store.gate().undelivered().await {
            self.doubtful = Arc::new(old.iter().map(|stored| stored.report.id).collect());
        }
        loop {
            let wake = match self.start_due(&mut busy, &mut tasks).await {
                Ok(wake) => wake,
                Err(error) => {
                    tracing::warn!(%error, "the outbox cannot be read; it is tried again");
                    self.pauses.after(4)
                }
            };
            tokio::select! {
                () = end.cancelled() => return,
                () = news.notified() => {}
                Some(told) = tasks.join_next(), if !tasks.is_empty() => {
                    if let Ok(target) = told {
                        busy.remove(&target);
                    }
                }
                () = tokio::time::sleep(wake) => {}
            }
        }
    }

    /// Begins with the first report of every target whose time has come; how long until the next one's.
    async fn start_due(
        &self,
        busy: &mut BTreeSet<Target>,
        tasks: &mut JoinSet<Target>,
    ) -> Result<Duration, StoreError> {
        let mut first: BTreeMap<Target, StoredReport> = BTreeMap::new();
        for stored in self.store.gate().undelivered().await? {
            first.entry(target(&stored.report)).or_insert(stored);
        }
        let now = self.clock.now();
        let mut wake = LOOK;
        for (target, stored) in first {
            let due = stored.next_try.map_or(Duration::ZERO, |at| until(now, at));
            if !due.is_zero() {
                wake = wake.min(due);
            } else if tasks.len() < AT_ONCE && busy.insert(target.clone()) {
                let outbox = self.clone();
                tasks.spawn(async move {
                    outbox.deliver(&stored).await;
                    target
                });
            }
        }
        Ok(wake)
    }

    async fn deliver(&self, stored: &StoredReport) {
        let report = &stored.report;
        let look = stored.attempts > 0 || self.doubtful.contains(&report.id);
        let told = match &report.action {
            _ if self.staging => {
                tracing::info!(item = %report.id.0, about = %report.about, message = report.message, "staging: not sent");
                Told::Done(Some("staging: logged, not sent".to_owned()))
            }
            ReportAction::Review { .. } => tokio::time::timeout(DEADLINE, self.reviews.tell(report, look))
                .await
                .unwrap_or_else(|_| Told::Later(format!("no answer within {} s", DEADLINE.as_secs()))),
            ReportAction::Mail { source, .. } | ReportAction::Sql { source, .. } => Told::Never(format!(
                "there is no connection {source} that takes such reports; it is kept here"
            )),
        };
        let now = self.clock.now();
        let tried = match told {
            Told::Done(note) => Tried::Done { at: now, note },
            Told::Later(error) => {
                let pause = self.pauses.after(stored.attempts + 1);
                tracing::warn!(item = %report.id.0, about = %report.about, error, "a report cannot be told now");
                Tried::Later { at: Timestamp(now.0 + pause.as_micros() as i64), error }
            }
            Told::Never(error) => {
                tracing::warn!(item = %report.id.0, about = %report.about, error, "a report cannot be told");
                Tried::Never { error }
            }
        };
        if let Err(error) = self.store.gate().report_tried(self.epoch, report.id, &tried).await {
            // It will be told again, and is found to be there.
            tracing::warn!(%error, "what came of a report cannot be stored");
            tokio::time::sleep(self.pauses.after(3)).await;
        }
    }
}

fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::from_micros((at.0 - now.0).max(0) as u64)
}

fn target(report: &Report) -> Target {
    let (ReportAction::Review { source, .. }
    | ReportAction::Mail { source, .. }
    | ReportAction::Sql { source, .. }) = &report.action;
    let about = match &report.about {
        Subject::Change(patchset) => patchset.change.to_string(),
        other => other.to_string(),
    };
    (source.to_string(), about)
}
