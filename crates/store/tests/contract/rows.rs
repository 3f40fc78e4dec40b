//! What goes in comes out.

use crate::database::{Database, Driver, job, test_job};
use assay_engine::ids::{AttemptId, ConnectionId, JobId};
use assay_engine::io::Input;
use assay_engine::job::StateWord;
use assay_engine::outcome::Outcome;
use assay_engine::rows::{Rows, SETTLED_WINDOW, WorkerStatus};
use assay_engine::work::WorkPhase;
use assay_store::blobs::{BlobRef, Sha256};
use assay_store::{Batch, Epoch, JobFilter, Streams};

pub(crate) async fn an_empty_store(database: &Database) {
    let store = database.open().await;
    assert_eq!(store.load().await.unwrap(), Rows::default());
    assert_eq!(store.jobs(&JobFilter::default()).await.unwrap(), []);
    assert_eq!(store.job(JobId(1)).await.unwrap(), None);
    assert_eq!(store.attempts(JobId(1)).await.unwrap(), []);
    assert_eq!(store.workers().await.unwrap(), []);
    assert_eq!(store.unclosed().await.unwrap(), []);
    let counts = store.counts().await.unwrap();
    assert_eq!(counts.len(), StateWord::ALL.len());
    assert!(counts.values().all(|count| *count == 0));
    assert_eq!(store.acquire_leadership().await.unwrap(), Epoch(1));
    store.commit(Epoch(1), &Batch::default()).await.unwrap();
}

/// Every kind of row in every state that the engine can bring it to.
pub(crate) async fn a_whole_story_is_loaded_as_it_was(database: &Database) {
    let mut driver = Driver::start(database).await;
    driver
        .post(vec![test_job("first"), test_job("second"), job(&[("TEST", "x"), ("WORKER_CLASS", "tap")])])
        .await;
    driver.check().await;
    driver.hello("w:1", 1, 1).await;
    driver.check().await;
    let held = driver.last_assigned();
    for phase in [WorkPhase::Setup, WorkPhase::Running, WorkPhase::Uploading] {
        driver.input(Input::Phase { connection: ConnectionId(1), held, phase }).await;
        driver.check().await;
    }
    driver.finish(1, Outcome::Softfailed, "a known bug").await;
    driver.check().await;
    driver.hello("v:1", 2, 1).await;
    driver.input(Input::CancelJob { job: JobId(2), by: "alice".to_owned() }).await;
    driver.check().await;
    // The worker is lost while it stops; another job is lost and tried again.
    driver.post(vec![test_job("fourth"), test_job("fifth")]).await;
    for connection in [1, 2] {
        driver.input(Input::Disconnected { connection: ConnectionId(connection) }).await;
        driver.check().await;
    }
    for _ in 0..6 {
        driver.now = driver.now.plus_seconds(3);
        driver.input(Input::Tick).await;
        driver.check().await;
    }
    driver.input(Input::CancelJob { job: JobId(3), by: "bob".to_owned() }).await;
    driver.check().await;

    let words: Vec<_> = driver.store.jobs(&JobFilter::default()).await.unwrap();
    let words: Vec<_> = words.iter().map(|job| (job.row.id.0, job.row.state.word().word())).collect();
    assert_eq!(words, [(5, "scheduled"), (4, "scheduled"), (3, "cancelled"), (2, "done"), (1, "done")]);
    let first = driver.store.job(JobId(1)).await.unwrap().unwrap();
    assert_eq!(first.row.settings.get("TEST"), Some("first"));
    assert_eq!(first.row.started_at.map(|at| at.0 > first.row.created_at.0), Some(true));
    let [attempt] = &driver.store.attempts(JobId(1)).await.unwrap()[..] else {
        panic!("one attempt expected")
    };
    assert_eq!(attempt.row.id, AttemptId { job: JobId(1), number: 1 });
    assert_eq!((attempt.row.host.as_str(), attempt.row.started_at), ("höst", first.row.started_at));
    assert_eq!(attempt.row.end.as_ref(), first.row.state.end());
    let [v, w] = &driver.store.workers().await.unwrap()[..] else { panic!("two workers expected") };
    assert_eq!((v.name.as_str(), w.name.as_str()), ("v:1", "w:1"));
    assert!(matches!(w.status, WorkerStatus::Offline { .. }));
}

pub(crate) async fn everything_outlives_the_process(database: &Database) {
    let mut driver = Driver::start(database).await;
    driver.hello("w:1", 1, 1).await;
    driver.post(vec![test_job("a"), test_job("b")]).await;
    let before = (driver.state.facts(), driver.store.jobs(&JobFilter::default()).await.unwrap());
    driver.store.close().await;
    let again = Driver::start(database).await;
    assert_eq!((again.state.facts(), again.store.jobs(&JobFilter::default()).await.unwrap()), before);
    assert!(again.epoch > driver.epoch);
}

fn blob(text: &str) -> BlobRef {
    BlobRef { sha256: Sha256::of(text.as_bytes()), size: text.len() as u64 }
}

pub(crate) async fn closed_streams_are_kept(database: &Database) {
    let mut driver = Driver::start(database).await;
    driver.hello("w:1", 1, 2).await;
    driver.post(vec![test_job("a"), test_job("b")]).await;
    let id = driver.last_assigned().attempt;
    assert_eq!(driver.store.unclosed().await.unwrap(), [], "a running attempt is not waited for");
    driver.finish(1, Outcome::Passed, "").await;
    assert_eq!(driver.store.unclosed().await.unwrap(), [id]);
    assert_eq!(driver.store.attempts(id.job).await.unwrap()[0].streams, None);

    let streams = Streams::from([("steps.jsonl".to_owned(), blob("x")), ("ü.txt".to_owned(), blob(""))]);
    let mut batch = Batch::default();
    batch.push_streams(id, streams.clone());
    driver.store.commit(driver.epoch, &batch).await.unwrap();
    assert_eq!(driver.store.unclosed().await.unwrap(), []);
    let stored = driver.store.attempts(id.job).await.unwrap().remove(0);
    assert_eq!(stored.streams, Some(streams.clone()));

    // The engine's rows know nothing of streams, and must not wipe them out; one batch can bring both.
    let mut batch = Batch::default();
    batch.push(assay_engine::rows::Row::Attempt(stored.row));
    driver.store.commit(driver.epoch, &batch).await.unwrap();
    assert_eq!(driver.store.attempts(id.job).await.unwrap()[0].streams, Some(streams));
}

pub(crate) async fn only_recent_attempts_are_loaded(database: &Database) {
    let mut driver = Driver::start(database).await;
    driver.hello("w:1", 1, 1).await;
    let count = SETTLED_WINDOW + 50;
    driver.post((0..count).map(|_| test_job("t")).collect()).await;
    let mut all = Batch::default();
    for _ in 0..count - 1 {
        let held = driver.last_assigned();
        let report = assay_engine::work::Report {
            outcome: Outcome::Passed,
            class: Outcome::Passed.class(),
            reason: None,
        };
        driver.now = driver.now.plus_seconds(1);
        let input = Input::Finished { connection: ConnectionId(1), held, report };
        for effect in driver.state.step(input, driver.now).effects {
            match effect {
                assay_engine::io::Effect::Save(row) => all.push(*row),
                assay_engine::io::Effect::Send { message, .. } => driver.sent.push(message),
                _ => {}
            }
        }
    }
    driver.store.commit(driver.epoch, &all).await.unwrap();
    driver.check().await;
    let rows = driver.store.load().await.unwrap();
    assert_eq!((rows.last_job, rows.last_token), (count, count));
    assert_eq!(rows.attempts.len() as i64, SETTLED_WINDOW, "the running one and those that ended lately");
    assert_eq!(rows.jobs.len(), 1);
}

pub(crate) async fn any_text_comes_back_as_it_was(database: &Database) {
    let texts = ["Grüße, 世界 🦀", "'; DROP TABLE jobs; --", "a\\b\"c\n\t$1 ?1 %_", "\u{feff}\u{202e}x", ""];
    let mut driver = Driver::start(database).await;
    let jobs = texts.iter().map(|text| job(&[("TEST", "t"), ("VALUE", text), ("ünïcode", text)])).collect();
    let ids = driver.post(jobs).await;
    for (id, text) in ids.into_iter().zip(texts) {
        let stored = driver.store.job(id).await.unwrap().unwrap();
        assert_eq!(stored.row.settings.0["VALUE"].value, text);
        assert_eq!(stored.row.settings.0["ünïcode"].value, text);
        assert_eq!(Some(&stored.row), driver.state.job(id));
    }
    driver.hello("w:1", 1, 1).await;
    driver.finish(1, Outcome::Failed, "Grüße, 世界 🦀").await;
    let ended = driver.store.job(JobId(1)).await.unwrap().unwrap();
    assert_eq!(ended.row.state.end().unwrap().text().unwrap(), "Grüße, 世界 🦀");
}
