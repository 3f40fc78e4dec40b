//! The driver with a store that fails and an engine that panics.

use super::*;
use crate::app::Closers;
use crate::auth::Guard;
use crate::datadir::Tokens;
use crate::hub::Hub;
use crate::live::LiveAttempts;
use assay_engine::ids::{AttemptId, ConnectionId, JobId};
use assay_engine::io::{Hello, NewJob};
use assay_engine::job::StateWord;
use assay_engine::rows::{Rows, WorkerRow};
use assay_engine::settings::{ClassSet, Settings};
use assay_proto::clock::SystemClock;
use assay_store::blobs::{Blobs, LocalBlobs};
use assay_store::spool::Spool;
use assay_store::{JobFilter, Store, StoredAttempt, StoredJob};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::broadcast;
use tokio_util::task::TaskTracker;

/// A store whose next commits fail, before anything is stored or after everything is.
struct Failing {
    store: Arc<dyn Store>,
    failures: AtomicU32,
    stores_nevertheless: bool,
    commits: AtomicU32,
}

fn full() -> StoreError {
    StoreError::DiskFull { path: "the test's disk".into(), free: "0".into() }
}

#[async_trait::async_trait]
impl Store for Failing {
    async fn acquire_leadership(&self) -> Result<Epoch, StoreError> {
        self.store.acquire_leadership().await
    }
    async fn reacquire(&self, epoch: Epoch) -> Result<(), StoreError> {
        self.store.reacquire(epoch).await
    }
    async fn commit(&self, epoch: Epoch, batch: &Batch) -> Result<(), StoreError> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        if batch.results().iter().any(|result| result.testcase == "never") {
            return Err(StoreError::Duplicate { doing: "store a result" });
        }
        let left = self.failures.load(Ordering::SeqCst);
        if left == 0 {
            return self.store.commit(epoch, batch).await;
        }
        self.failures.store(left.saturating_sub(1), Ordering::SeqCst);
        if self.stores_nevertheless {
            self.store.commit(epoch, batch).await?;
        }
        Err(full())
    }
    async fn load(&self) -> Result<Rows, StoreError> {
        self.store.load().await
    }
    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<StoredJob>, StoreError> {
        self.store.jobs(filter).await
    }
    async fn summaries(&self, filter: &JobFilter) -> Result<Vec<assay_store::JobSummary>, StoreError> {
        self.store.summaries(filter).await
    }
    async fn count(&self, filter: &JobFilter) -> Result<u64, StoreError> {
        self.store.count(filter).await
    }
    async fn group_builds(
        &self,
        groups: &[assay_engine::ids::GroupId],
    ) -> Result<Vec<assay_store::GroupBuild>, StoreError> {
        self.store.group_builds(groups).await
    }
    async fn tallies(
        &self,
        builds: &[(assay_engine::ids::GroupId, String)],
    ) -> Result<Vec<assay_store::BuildTally>, StoreError> {
        self.store.tallies(builds).await
    }
    async fn cluster(&self, jobs: &[JobId], clones: bool) -> Result<Vec<StoredJob>, StoreError> {
        self.store.cluster(jobs, clones).await
    }
    async fn children(
        &self,
        jobs: &[JobId],
    ) -> Result<Vec<(JobId, assay_engine::relations::Parent)>, StoreError> {
        self.store.children(jobs).await
    }
    async fn product_run(
        &self,
        id: assay_engine::ids::ProductRunId,
    ) -> Result<Option<assay_engine::rows::ProductRunRow>, StoreError> {
        self.store.product_run(id).await
    }
    async fn product_runs(
        &self,
        filter: &assay_store::RunFilter,
    ) -> Result<Vec<assay_engine::rows::ProductRunRow>, StoreError> {
        self.store.product_runs(filter).await
    }
    async fn job(&self, id: JobId) -> Result<Option<StoredJob>, StoreError> {
        self.store.job(id).await
    }
    async fn attempts(&self, job: JobId) -> Result<Vec<StoredAttempt>, StoreError> {
        self.store.attempts(job).await
    }
    async fn counts(&self) -> Result<BTreeMap<StateWord, u64>, StoreError> {
        self.store.counts().await
    }
    async fn workers(&self) -> Result<Vec<WorkerRow>, StoreError> {
        self.store.workers().await
    }
    async fn unclosed(&self) -> Result<Vec<AttemptId>, StoreError> {
        self.store.unclosed().await
    }
    fn assets(&self) -> &dyn assay_store::AssetStore {
        self.store.assets()
    }
    fn results(&self) -> &dyn assay_store::ResultStore {
        self.store.results()
    }
    fn events(&self) -> &dyn assay_store::EventStore {
        self.store.events()
    }
    fn outbox(&self) -> &dyn assay_store::OutboxStore {
        self.store.outbox()
    }
    fn knowledge(&self) -> &dyn assay_store::KnowledgeStore {
        self.store.knowledge()
    }
    fn gate(&self) -> &dyn assay_store::GateStore {
        self.store.gate()
    }
    async fn close(&self) {
        self.store.close().await;
    }
}

/// A server without its listener.
struct Bench {
    app: Arc<App>,
    store: Arc<Failing>,
    inbox: Option<Inbox>,
    epoch: Epoch,
    _dir: tempfile::TempDir,
}

async fn bench(stores_nevertheless: bool) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let data = camino::Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
    let inner = assay_store::open(&format!("sqlite:{}", data.join("x.db"))).await.unwrap();
    let epoch = inner.acquire_leadership().await.unwrap();
    let (failures, commits) = (AtomicU32::new(0), AtomicU32::new(0));
    let store = Arc::new(Failing { store: inner, failures, stores_nevertheless, commits });
    let assets = crate::assets::Assets::open(&data, store.clone()).unwrap();
    let blobs: Arc<dyn Blobs> = Arc::new(LocalBlobs::open(&data).unwrap());
    let (engine, inbox) = channel();
    let tokens = Tokens { admin: "a".into(), operator: "o".into(), worker: "b".into() };
    let seal = crate::people::Seal::new(&[1; 32]).unwrap();
    let (clock, tasks) = (Arc::new(SystemClock), TaskTracker::new());
    let people = crate::people::People::load(store.clone(), epoch, seal, clock, tasks.clone()).await.unwrap();
    let app = Arc::new(App {
        data: data.clone(),
        people: Arc::new(people),
        providers: crate::people::oidc::Providers::new(Arc::new(SystemClock)),
        library: crate::catalog::Library::load(store.clone(), epoch).await.unwrap(),
        once: crate::auth::once::Once::new(Timestamp(0)),
        guard: Guard::new(&tokens, false, "127.0.0.1:1".parse().unwrap()),
        store: store.clone(),
        spool: Spool::open(&data, blobs.clone()).unwrap(),
        assets,
        blobs,
        engine,
        hub: Hub::default(),
        live: LiveAttempts::default(),
        closers: Closers::default(),
        rewriting: tokio::sync::Mutex::default(),
        told: crate::told::Told::default(),
        referers: crate::referers::Referers::default(),
        searches: crate::api::openqa::Searches::default(),
        looks: crate::needle_list::Looks::default(),
        downloads: crate::downloads::Downloads::new().0,
        results: crate::results::Results::new(0, epoch).0,
        limits: std::sync::Mutex::default(),
        outside: crate::events::Hub::new(epoch),
        reporting: crate::reporting::Hub::new(epoch),
        task_runs: crate::tasks::Tasks::default(),
        trouble: std::sync::Mutex::default(),
        gate: crate::gate::Hub::new().0,
        events: broadcast::Sender::new(64),
        recent: std::sync::Mutex::default(),
        clock: Arc::new(SystemClock),
        shutdown: CancellationToken::new(),
        tasks,
    });
    Bench { app, store, inbox: Some(inbox), epoch, _dir: dir }
}

impl Bench {
    fn drive(&mut self, step: Stepper) -> tokio::task::JoinHandle<Ended> {
        let (app, inbox) = (self.app.clone(), self.inbox.take().unwrap());
        let state = State::new(Timing::default(), app.clock.now());
        let shutdown = app.shutdown.clone();
        self.app.tasks.spawn(drive_with(app, inbox, state, self.epoch, shutdown, step))
    }

    async fn post(&self, test: &str) -> Result<Answer, Fault> {
        let settings = Settings::from_request([("TEST", test.to_owned())]);
        self.app.engine.ask(Input::PostJobs { jobs: vec![NewJob::new(settings)] }).await
    }

    async fn stop(&self, driver: tokio::task::JoinHandle<Ended>) -> Ended {
        self.app.shutdown.cancel();
        soon(driver).await.unwrap()
    }
}

/// Not a measurement: long enough for every machine, and a driver that hangs fails.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("in time")
}

#[tokio::test]
async fn a_store_that_fails_makes_the_driver_wait_and_say_why() {
    let mut bench = bench(false).await;
    bench.store.failures.store(u32::MAX, Ordering::SeqCst);
    let driver = bench.drive(State::step);
    for _ in 0..200 {
        let fault = soon(bench.post("a")).await.unwrap_err();
        assert_eq!(fault.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(fault.error.contains("the disk is full: the test's disk"), "{}", fault.error);
        assert!(fault.help.contains("Try again in 2 s"), "{}", fault.help);
    }
    // The pauses before five more are at least 1.5 s together; a driver that does not pause is there at once.
    let five_more = bench.store.commits.load(Ordering::SeqCst) + 5;
    let commits = async {
        while bench.store.commits.load(Ordering::SeqCst) < five_more {
            let _ = bench.post("a").await;
        }
    };
    let too_soon = tokio::time::timeout(Duration::from_millis(800), commits).await;
    assert!(too_soon.is_err(), "the driver does not wait between two commits that fail");
    assert!(matches!(bench.stop(driver).await, Ended::Asked));
}

#[tokio::test]
async fn a_worker_that_dials_during_trouble_is_told_to_come_again() {
    use crate::hub::Outgoing;
    let mut bench = bench(false).await;
    bench.store.failures.store(u32::MAX, Ordering::SeqCst);
    let driver = bench.drive(State::step);
    for name in ["w1", "w2"] {
        let (connection, mut outgoing) = bench.app.hub.register();
        bench.app.engine.tell(hello(connection.0, name)).await;
        match soon(outgoing.recv()).await {
            Some(Outgoing::Refuse { reason, retry: true }) => {
                assert!(reason.contains("the disk is full"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(bench.app.trouble().is_some_and(|why| why.contains("the disk is full")), "for /healthz");
    bench.stop(driver).await;
}

#[tokio::test]
async fn the_driver_goes_on_when_the_store_does() {
    let mut bench = bench(false).await;
    bench.store.failures.store(3, Ordering::SeqCst);
    let mut events = bench.app.events.subscribe();
    let driver = bench.drive(State::step);
    let posted = soon(async {
        loop {
            match bench.post("a").await {
                Ok(answer) => return answer,
                Err(fault) => assert_eq!(fault.status, StatusCode::SERVICE_UNAVAILABLE),
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(posted, Answer::Posted(vec![JobId(1)]), "what failed has left no job");
    assert_eq!(bench.app.trouble(), None);
    assert!(matches!(soon(events.recv()).await, Ok(Event::Missed)), "readers are told to look again");
    bench.stop(driver).await;
}

#[tokio::test]
async fn what_was_stored_without_an_answer_is_known_afterwards() {
    let mut bench = bench(true).await;
    let driver = bench.drive(State::step);
    bench.store.failures.store(1, Ordering::SeqCst);
    let fault = soon(bench.post("doubted")).await.unwrap_err();
    assert!(fault.error.contains("may not have been stored"), "{}", fault.error);
    let next = soon(async {
        loop {
            if let Ok(answer) = bench.post("next").await {
                return answer;
            }
        }
    })
    .await;
    assert_eq!(next, Answer::Posted(vec![JobId(2)]), "job 1 is there, and is not replaced");
    let name = bench.store.job(JobId(1)).await.unwrap().unwrap().row.name;
    assert!(name.contains("doubted"), "{name}");
    bench.stop(driver).await;
}

#[tokio::test]
async fn a_leader_that_was_replaced_during_trouble_does_not_come_back() {
    let mut bench = bench(false).await;
    bench.store.failures.store(1, Ordering::SeqCst);
    bench.store.acquire_leadership().await.unwrap();
    let driver = bench.drive(State::step);
    soon(bench.post("a")).await.unwrap_err();
    assert!(matches!(soon(driver).await.unwrap(), Ended::Deposed));
}

#[tokio::test]
async fn results_that_the_store_will_never_take_are_left_out() {
    let mut bench = bench(false).await;
    let driver = bench.drive(State::step);
    let engine = &bench.app.engine;
    let close = async |number: u32, testcase: &str| {
        let result =
            NewResult { testcase: testcase.into(), outcome: "PASSED".into(), ..NewResult::default() };
        engine.closed(AttemptId { job: JobId(1), number }, Streams::default(), vec![result]).await
    };
    let mut tries = 0;
    let stored = soon(async {
        while !close(1, "never").await {
            tries += 1;
        }
    });
    stored.await;
    assert!(tries >= 2, "it is tried with the results, and alone with them, before they are left out");
    assert!(soon(close(2, "good")).await, "those of others are stored as ever");
    soon(bench.post("a")).await.unwrap();
    let all = assay_store::ResultFilter { limit: 10, ..assay_store::ResultFilter::default() };
    let found = bench.store.results().results(&all).await.unwrap();
    assert_eq!(found.iter().map(|one| one.testcase.as_str()).collect::<Vec<_>>(), ["good"]);
    bench.stop(driver).await;
}

fn panics_over_bad_jobs(state: &mut State, input: Input, now: Timestamp) -> Step {
    if let Input::PostJobs { jobs } = &input {
        assert!(jobs.iter().all(|job| job.settings.get("TEST") != Some("bad")), "as the test wants it");
    }
    state.step(input, now)
}

#[tokio::test]
async fn a_panic_costs_only_what_made_it() {
    let mut bench = bench(false).await;
    let inbox = bench.inbox.take().unwrap();
    let together = async { tokio::join!(bench.post("bad"), bench.post("b"), bench.post("c")) };
    let mut together = Box::pin(together);
    // All three are in the inbox, and so in one group, before the driver runs.
    assert!(futures_util::poll!(&mut together).is_pending());
    let app = bench.app.clone();
    let state = State::new(Timing::default(), app.clock.now());
    let driver =
        drive_with(app.clone(), inbox, state, bench.epoch, app.shutdown.clone(), panics_over_bad_jobs);
    let driver = app.tasks.spawn(driver);
    let (bad, b, c) = soon(together).await;
    assert_eq!(bad.unwrap_err().status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(b.unwrap(), Answer::Posted(vec![JobId(1)]));
    assert_eq!(c.unwrap(), Answer::Posted(vec![JobId(2)]));
    bench.stop(driver).await;
}

fn panics_over_time(state: &mut State, input: Input, now: Timestamp) -> Step {
    assert!(input != Input::Tick, "as the test wants it");
    state.step(input, now)
}

#[tokio::test]
async fn an_engine_that_always_panics_ends_the_server() {
    let mut bench = bench(false).await;
    let driver = bench.drive(panics_over_time);
    assert!(matches!(soon(driver).await.unwrap(), Ended::Broken));
}

fn hello(connection: u64, name: &str) -> Input {
    Input::Hello {
        connection: ConnectionId(connection),
        hello: Hello {
            name: name.parse().unwrap(),
            instance: "i".into(),
            host: "h".into(),
            version: "0".into(),
            slots: 1,
            classes: ClassSet::parse("x"),
            holds: Vec::new(),
            room: None,
            once: false,
        },
    }
}

#[test]
fn a_worker_that_makes_the_engine_panic_twice_is_heard_no_more() {
    let mut suspects = Suspects::default();
    assert!(!suspects.note(Suspects::subject(&hello(1, "w1"))));
    assert_eq!(suspects.banned(&hello(2, "w1")), None, "once may be anything");
    assert!(!suspects.note(Suspects::subject(&hello(2, "w1"))));
    assert_eq!(suspects.banned(&hello(3, "w1")), Some(ConnectionId(3)));
    assert_eq!(suspects.banned(&hello(4, "w2")), None);
    assert_eq!(suspects.banned(&Input::Tick), None);
}

#[tokio::test]
async fn a_stream_that_was_closed_after_its_row_was_read_is_read_from_its_blob() {
    use assay_proto::worker::Stream;
    let bench = bench(false).await;
    let (mut state, mut batch) = (State::new(Timing::default(), bench.app.clock.now()), Batch::default());
    let settings = Settings::from_request([("TEST", "a".to_owned()), ("WORKER_CLASS", "x".to_owned())]);
    let post = Input::PostJobs { jobs: vec![NewJob::new(settings)] };
    for input in [hello(1, "w1"), post] {
        for effect in state.step(input, bench.app.clock.now()).effects {
            if let Effect::Save(row) = effect {
                batch.push(*row);
            }
        }
    }
    bench.store.commit(bench.epoch, &batch).await.unwrap();
    let id = AttemptId { job: JobId(1), number: 1 };
    let stale = bench.app.attempt(id).await.unwrap().expect("w1 has the job");
    let stream = Stream::Log.file_name().to_owned();
    let append = assay_store::spool::Append { attempt: id, stream, offset: 0, bytes: b"hello".to_vec() };
    for appended in bench.app.spool.append(vec![append]).await {
        appended.unwrap();
    }
    assert_eq!(bench.app.read_stream(&stale, Stream::Log, 1, 9).await.unwrap(), b"ello");
    let mut batch = Batch::default();
    batch.push_streams(id, bench.app.spool.close(id).await.unwrap());
    bench.store.commit(bench.epoch, &batch).await.unwrap();
    bench.app.spool.remove(id).await.unwrap();
    assert_eq!(bench.app.read_stream(&stale, Stream::Log, 1, 9).await.unwrap(), b"ello");
    assert_eq!(bench.app.stream_len(&stale, Stream::Log).await.unwrap(), 5);
    // Closing again, as after a recovery, does not forget them.
    bench.app.close_streams(id);
    bench.app.tasks.close();
    soon(bench.app.tasks.wait()).await;
    assert_eq!(bench.app.read_stream(&stale, Stream::Log, 1, 9).await.unwrap(), b"ello");
}
