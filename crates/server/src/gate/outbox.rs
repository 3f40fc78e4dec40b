//! The outbox: reports are told in the order in which they were made, each once, however often it takes to tell them.
//! One that cannot be told now keeps back only what is about the same change.

use super::lander::Pauses;
use super::mail::Post;
use super::ports::{Reviews, Told};
use crate::reporting::STAGED;
use assay_engine::gate::change::Subject;
use assay_engine::gate::config::ReportAction;
use assay_engine::gate::ids::ItemId;
use assay_engine::gate::io::Report;
use assay_engine::ids::Timestamp;
use assay_proto::clock::Clock;
use assay_store::{Epoch, Store, StoreError, StoredReport, Tried, WaitingReport};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    pub(crate) post: Post,
    /// Nothing is sent; what would be is logged.
    pub(crate) staging: Arc<AtomicBool>,
    /// Reports that may have been told without anybody having been able to note it, by an earlier server or this one.
    pub(crate) doubtful: Arc<Mutex<BTreeSet<ReportId>>>,
}

/// A report's item and number.
type ReportId = (ItemId, u32);

/// What is told in order: everything about one change to one system.
type Target = (String, String);

/// Tellings at one time.
const AT_ONCE: usize = 16;
/// Tellings to one system at one time: one that hangs leaves places to the others.
const TO_ONE: usize = AT_ONCE / 2;
/// The longest that one telling may take.
const DEADLINE: Duration = Duration::from_mins(5);
/// The longest sleep: clocks may be set.
const LOOK: Duration = Duration::from_secs(30);

impl Outbox {
    /// Tells what is there and what comes, until the end. `news` says that there may be something new.
    pub(crate) async fn run(self, news: Arc<Notify>, end: CancellationToken) {
        let mut busy: BTreeSet<Target> = BTreeSet::new();
        let mut tasks: JoinSet<Target> = JoinSet::new();
        let Some(mut targets) = self.take_up(&end).await else { return };
        loop {
            let wake = match self.start_due(&mut targets, &mut busy, &mut tasks).await {
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

    /// What an earlier server has left, with its targets; `None` at the end. All of it may have been told.
    async fn take_up(&self, end: &CancellationToken) -> Option<BTreeMap<ReportId, Target>> {
        loop {
            match self.store.gate().undelivered().await {
                Ok(old) => {
                    self.doubtful().extend(old.iter().map(|stored| stored.report.id));
                    return Some(old.iter().map(|one| (one.report.id, target(&one.report))).collect());
                }
                Err(error) => tracing::warn!(%error, "the outbox cannot be read; it is tried again"),
            }
            tokio::select! {
                () = end.cancelled() => return None,
                () = tokio::time::sleep(self.pauses.after(4)) => {}
            }
        }
    }

    fn doubtful(&self) -> MutexGuard<'_, BTreeSet<ReportId>> {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first report of every target.
    async fn firsts(
        &self,
        targets: &mut BTreeMap<ReportId, Target>,
    ) -> Result<Vec<(Target, WaitingReport)>, StoreError> {
        let waiting = self.store.gate().undelivered_keys().await?;
        let ids: BTreeSet<ReportId> = waiting.iter().map(|one| one.id).collect();
        targets.retain(|id, _| ids.contains(id));
        let mut seen = BTreeSet::new();
        let mut firsts = Vec::new();
        for one in waiting {
            if !targets.contains_key(&one.id)
                && let Some(stored) = self.store.gate().report(one.id).await?
            {
                targets.insert(one.id, target(&stored.report));
            }
            let Some(target) = targets.get(&one.id) else { continue };
            if seen.insert(target.clone()) {
                firsts.push((target.clone(), one));
            }
        }
        Ok(firsts)
    }

    /// Begins with the first report of every target whose time has come, those that have waited longest first; how long
    /// until the next one's.
    async fn start_due(
        &self,
        targets: &mut BTreeMap<ReportId, Target>,
        busy: &mut BTreeSet<Target>,
        tasks: &mut JoinSet<Target>,
    ) -> Result<Duration, StoreError> {
        let mut firsts = self.firsts(targets).await?;
        firsts.sort_by_key(|(_, one)| (one.next_try, one.id));
        let now = self.clock.now();
        let mut wake = LOOK;
        for (target, one) in firsts {
            let due = one.next_try.map_or(Duration::ZERO, |at| until(now, at));
            let to_it = busy.iter().filter(|(source, _)| *source == target.0).count();
            if !due.is_zero() {
                wake = wake.min(due);
            } else if tasks.len() < AT_ONCE && to_it < TO_ONE && busy.insert(target.clone()) {
                let outbox = self.clone();
                tasks.spawn(async move {
                    outbox.deliver_one(one.id).await;
                    target
                });
            }
        }
        Ok(wake)
    }

    async fn deliver_one(&self, id: ReportId) {
        match self.store.gate().report(id).await {
            Ok(Some(stored)) => self.deliver(&stored).await,
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "a report cannot be read; it is tried again");
                tokio::time::sleep(self.pauses.after(4)).await;
            }
        }
    }

    async fn deliver(&self, stored: &StoredReport) {
        let report = &stored.report;
        // One with a note was tried before somebody had it told again.
        let look = stored.attempts > 0 || stored.note.is_some() || self.doubtful().contains(&report.id);
        let told = match &report.action {
            _ if self.staging.load(Ordering::Relaxed) => {
                tracing::info!(item = %report.id.0, about = %report.about, message = report.message, "staging: not sent");
                Told::Skipped(STAGED.to_owned())
            }
            ReportAction::Review { .. } => tokio::time::timeout(DEADLINE, self.reviews.tell(report, look))
                .await
                .unwrap_or_else(|_| Told::Later(format!("no answer within {} s", DEADLINE.as_secs()))),
            ReportAction::Mail { .. } => self.post.tell(report).await,
            // What Zuul's database is for is in the store of this server already.
            ReportAction::Sql { .. } => Told::Skipped(
                "this server's own history has the builds; there is no other database".to_owned(),
            ),
        };
        let now = self.clock.now();
        let tried = match told {
            Told::Done(note) => Tried::Done { at: now, note },
            Told::Skipped(note) => Tried::Skipped { at: now, note },
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
        match self.store.gate().report_tried(self.epoch, report.id, &tried).await {
            Ok(()) => drop(self.doubtful().remove(&report.id)),
            Err(error) => {
                // It will be told again, and is found to be there.
                self.doubtful().insert(report.id);
                tracing::warn!(%error, "what came of a report cannot be stored");
                tokio::time::sleep(self.pauses.after(3)).await;
            }
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

#[cfg(test)]
mod tests {
    use super::super::ports::{Standing, Submitted, Trouble};
    use super::super::settings::{MailSettings, MailTls};
    use super::*;
    use assay_engine::gate::ids::{ChangeId, Oid, Patchset};
    use assay_engine::gate::rows::GateRow;
    use assay_fakes::smtp::SmtpSink;
    use assay_proto::clock::{ManualClock, SystemClock};
    use assay_store::{Batch, EntryState};

    /// Takes reviews, and fails or loses answers as it is told.
    #[derive(Default)]
    struct Gerrit {
        told: Mutex<Vec<String>>,
        /// So many tellings about change 1 fail first.
        fail: Mutex<u32>,
        /// The next telling is done, and its answer lost.
        lose: Mutex<bool>,
        looks: Mutex<u32>,
    }

    #[async_trait::async_trait]
    impl Reviews for Gerrit {
        async fn standing(&self, _: &ChangeId) -> Result<Option<Standing>, Trouble> {
            Err(Trouble("not asked".to_owned()))
        }
        async fn would_refuse(
            &self,
            _: &Patchset,
            _: bool,
            _: &BTreeSet<String>,
        ) -> Result<Option<String>, Trouble> {
            Err(Trouble("not asked".to_owned()))
        }
        async fn submit(&self, _: &Patchset, _: &Oid) -> Submitted {
            Submitted::Refused("not asked".to_owned())
        }
        async fn stands(&self, _: &Report) -> Result<bool, Trouble> {
            Err(Trouble("not asked".to_owned()))
        }
        async fn tell(&self, report: &Report, look: bool) -> Told {
            if target(report).0 == "a source that hangs" {
                std::future::pending::<()>().await;
            }
            let said = format!("{} {}", report.about, report.message);
            let mut told = self.told.lock().unwrap();
            if look {
                *self.looks.lock().unwrap() += 1;
                if told.contains(&said) {
                    return Told::Done(None);
                }
            }
            let mut fail = self.fail.lock().unwrap();
            if report.about.to_string() == "1,1" && *fail > 0 {
                *fail -= 1;
                return Told::Later("no answer".to_owned());
            }
            told.push(said);
            if std::mem::take(&mut *self.lose.lock().unwrap()) {
                return Told::Later("the connection broke".to_owned());
            }
            Told::Done(None)
        }
    }

    fn report(item: i64, change: u64, message: &str, action: Option<ReportAction>) -> GateRow {
        let source = "gerrit".into();
        let review = ReportAction::Review { source, labels: Vec::new(), submit: false, flags: Vec::new() };
        let change = ChangeId { source: "gerrit".into(), number: change };
        GateRow::Report(Box::new(Report {
            id: (ItemId(item), 1),
            about: Subject::Change(Patchset { change, patchset: 1 }),
            project: "p".into(),
            pipeline: "check".into(),
            action: action.unwrap_or(review),
            message: message.to_owned(),
        }))
    }

    /// In memory where that can be: a disk that others keep busy takes seconds for each of hundreds of commits.
    fn quick_dir() -> tempfile::TempDir {
        let memory = camino::Utf8Path::new("/dev/shm");
        if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
    }

    async fn deliver(gerrit: &Arc<Gerrit>, staging: bool, rows: Vec<GateRow>) -> Vec<StoredReport> {
        let (store, outbox, _dir) = outbox(gerrit).await;
        let epoch = outbox.epoch;
        outbox.staging.store(staging, Ordering::Relaxed);
        let (news, end) = (Arc::new(Notify::new()), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let items: Vec<i64> = (1..=rows.len() as i64).collect();
        tasks.spawn(outbox.run(news.clone(), end.clone()));
        let mut batch = Batch::default();
        for row in rows {
            batch.push_gate(row);
        }
        store.commit(epoch, &batch).await.unwrap();
        news.notify_one();
        let all_done = async {
            while !store.gate().undelivered().await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all_done).await.expect("in time");
        end.cancel();
        let mut stored = Vec::new();
        for item in items {
            stored.extend(store.gate().reports_of_item(ItemId(item)).await.unwrap());
        }
        stored
    }

    #[tokio::test]
    async fn each_is_told_once_and_in_order_about_its_change() {
        let gerrit = Arc::new(Gerrit::default());
        (*gerrit.fail.lock().unwrap(), *gerrit.lose.lock().unwrap()) = (3, true);
        let rows =
            vec![report(1, 1, "first", None), report(2, 1, "second", None), report(3, 2, "other", None)];
        let stored = deliver(&gerrit, false, rows).await;
        let told = gerrit.told.lock().unwrap().clone();
        let about_1: Vec<_> = told.iter().filter(|said| said.starts_with("1,1")).collect();
        assert_eq!(about_1, ["1,1 first", "1,1 second"], "in order, although the first failed at first");
        assert_eq!(told.len(), 3, "the one whose answer was lost is not told again: {told:?}");
        assert!(stored[0].attempts >= 3 && stored.iter().all(|one| one.state == EntryState::Delivered));
        assert!(*gerrit.looks.lock().unwrap() >= 3, "whoever tries again looks first");
    }

    #[tokio::test]
    async fn a_source_that_hangs_leaves_places_to_the_others() {
        let gerrit = Arc::new(Gerrit::default());
        let (store, outbox, _dir) = outbox(&gerrit).await;
        let hangs = |change| {
            let source = "a source that hangs".into();
            let review =
                ReportAction::Review { source, labels: Vec::new(), submit: false, flags: Vec::new() };
            report(change as i64, change, "never", Some(review))
        };
        let mut batch = Batch::default();
        (1..=AT_ONCE as u64 + 4).map(hangs).for_each(|row| batch.push_gate(row));
        batch.push_gate(report(100, 1, "told", None));
        store.commit(outbox.epoch, &batch).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(outbox.run(Arc::default(), CancellationToken::new()));
        let told = async {
            while gerrit.told.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), told).await.expect("in time");
    }

    #[tokio::test]
    async fn what_is_told_and_cannot_be_noted_is_not_told_twice() {
        let gerrit = Arc::new(Gerrit::default());
        let (store, mut outbox, _dir) = outbox(&gerrit).await;
        let mut batch = Batch::default();
        batch.push_gate(report(1, 1, "once", None));
        store.commit(outbox.epoch, &batch).await.unwrap();
        let stored = store.gate().report((ItemId(1), 1)).await.unwrap().unwrap();
        let epoch = store.acquire_leadership().await.unwrap();
        outbox.deliver(&stored).await;
        assert_eq!((gerrit.told.lock().unwrap().len(), *gerrit.looks.lock().unwrap()), (1, 0));
        outbox.epoch = epoch;
        outbox.deliver(&store.gate().report((ItemId(1), 1)).await.unwrap().unwrap()).await;
        assert_eq!((gerrit.told.lock().unwrap().len(), *gerrit.looks.lock().unwrap()), (1, 1));
        assert_eq!(store.gate().undelivered().await.unwrap(), []);
    }

    async fn outbox(gerrit: &Arc<Gerrit>) -> (Arc<dyn Store>, Outbox, tempfile::TempDir) {
        let dir = quick_dir();
        let path = dir.path().join("x.db");
        let store = assay_store::open(&format!("sqlite:{}", path.to_str().unwrap())).await.unwrap();
        let epoch = store.acquire_leadership().await.unwrap();
        let outbox = Outbox {
            store: store.clone(),
            epoch,
            clock: Arc::new(SystemClock),
            reviews: gerrit.clone(),
            pauses: Pauses { first: Duration::ZERO, most: Duration::ZERO },
            post: Post::default(),
            staging: Arc::default(),
            doubtful: Arc::default(),
        };
        (store, outbox, dir)
    }

    /// The time between two looks of the next test; no pause is longer.
    const STEP: i64 = 30_000_000;

    #[tokio::test]
    async fn a_mail_server_that_is_down_for_an_hour_gets_all_in_order_and_once() {
        let dir = quick_dir();
        let path = dir.path().join("x.db");
        let store = assay_store::open(&format!("sqlite:{}", path.to_str().unwrap())).await.unwrap();
        let epoch = store.acquire_leadership().await.unwrap();
        let sink = SmtpSink::start().await.unwrap();
        sink.set_down(true);
        let post = Post::default();
        post.set(Some(MailSettings {
            server: sink.address().ip().to_string(),
            port: sink.address().port(),
            tls: MailTls::None,
            from: "assay@example.org".to_owned(),
            login: None,
            ca_file: None,
        }));
        let clock = Arc::new(ManualClock::new(Timestamp(1)));
        let mail = |item, change, message| {
            let to = "a@example.org".to_owned();
            let action = ReportAction::Mail { source: "smtp".into(), from: None, to, subject: None };
            report(item, change, message, Some(action))
        };
        let mut batch = Batch::default();
        for row in [mail(1, 1, "first"), mail(2, 1, "second"), mail(3, 2, "other")] {
            batch.push_gate(row);
        }
        store.commit(epoch, &batch).await.unwrap();
        let outbox = Outbox {
            store: store.clone(),
            epoch,
            clock: clock.clone(),
            reviews: Arc::new(Gerrit::default()),
            pauses: Pauses::default(),
            post,
            staging: Arc::default(),
            doubtful: Arc::default(),
        };
        let (news, end) = (Arc::new(Notify::new()), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(outbox.run(news.clone(), end.clone()));
        let until = |done: fn(&[StoredReport], u32) -> bool, turn: u32| {
            let store = store.clone();
            let wait = async move {
                while !done(&store.gate().undelivered().await.unwrap(), turn) {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), wait)
        };
        for turn in 1..=120 {
            let tried = |left: &[StoredReport], turn| {
                left.len() == 3
                    && left[1].attempts == 0
                    && [&left[0], &left[2]].iter().all(|one| one.attempts >= turn)
            };
            until(tried, turn).await.expect("both first ones are tried in each half minute, and no other");
            clock.advance(STEP);
            news.notify_one();
        }
        sink.set_down(false);
        let all_told = async {
            while !store.gate().undelivered().await.unwrap().is_empty() {
                clock.advance(STEP);
                news.notify_one();
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all_told).await.expect("the server is back");
        end.cancel();
        let texts: Vec<_> = sink.mails().into_iter().map(|mail| mail.text).collect();
        let place = |body: &str| texts.iter().position(|text| text.contains(body)).expect(body);
        assert!(texts.len() == 3 && place("\n\nfirst") < place("\n\nsecond"), "{texts:?}");
        place("\n\nother");
    }

    #[tokio::test]
    async fn what_nobody_takes_and_what_staging_keeps_is_visible() {
        let gerrit = Arc::new(Gerrit::default());
        let mail =
            ReportAction::Mail { source: "smtp".into(), from: None, to: "a@b".to_owned(), subject: None };
        let stored = deliver(&gerrit, false, vec![report(1, 1, "mail", Some(mail))]).await;
        assert_eq!(stored[0].state, EntryState::Refused);
        assert!(stored[0].note.as_deref().is_some_and(|why| why.contains("add [mail]")));
        let stored = deliver(&gerrit, true, vec![report(1, 1, "staged", None)]).await;
        assert_eq!((stored[0].state, stored[0].attempts), (EntryState::Skipped, 0));
        assert!(stored[0].note.as_deref().is_some_and(|note| note.contains("staging")));
        assert!(gerrit.told.lock().unwrap().is_empty());
    }
}
