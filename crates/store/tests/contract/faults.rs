//! What goes wrong.

use crate::database::{Database, Driver, is_deposed, test_job};
use assay_engine::ids::{AttemptId, JobId};
use assay_engine::io::Input;
use assay_engine::rows::Row;
use assay_engine::state::State;
use assay_engine::work::Timing;
use assay_store::{Epoch, JobFilter, StoreError};
use std::future::Future;
use std::pin::Pin;
use std::process::Stdio;
use std::task::Poll;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinSet;

pub(crate) async fn of_two_leaders_the_first_is_deposed(database: &Database) {
    let mut first = Driver::start(database).await;
    first.post(vec![test_job("a")]).await;
    let mut second = Driver::start(database).await;
    assert_eq!(second.epoch, Epoch(first.epoch.0 + 1));
    assert_eq!(second.state.facts(), first.state.facts());

    let (_, batch) = first.step(Input::PostJobs { jobs: vec![test_job("late")] });
    let late = first.store.commit(first.epoch, &batch).await;
    assert!(is_deposed(&late), "{late:?}");
    assert!(late.unwrap_err().to_string().contains("another server has taken over"));
    assert_eq!(first.store.job(JobId(2)).await.unwrap(), None, "nothing of a refused batch is stored");

    let ids = second.post(vec![test_job("b")]).await;
    assert_eq!(ids, [JobId(2)]);
    let name = first.store.job(JobId(2)).await.unwrap().unwrap().row.name;
    assert_eq!(name, "b");
    assert!(
        is_deposed(&first.store.commit(first.epoch, &batch).await),
        "again, and after the other's commit"
    );
    second.check().await;
}

pub(crate) async fn a_leader_that_doubts_knows_whether_it_still_leads(database: &Database) {
    let mut first = Driver::start(database).await;
    first.store.reacquire(first.epoch).await.unwrap();
    first.store.reacquire(first.epoch).await.unwrap();
    assert_eq!(first.post(vec![test_job("a")]).await, [JobId(1)], "the epoch is still good");
    let mut second = Driver::start(database).await;
    assert!(is_deposed(&first.store.reacquire(first.epoch).await));
    assert_eq!(second.post(vec![test_job("b")]).await, [JobId(2)], "asking deposed nobody");
    second.check().await;
}

pub(crate) async fn a_new_job_never_replaces_another(database: &Database) {
    let mut stale = Driver::start(database).await;
    let (_, batch) = stale.step(Input::PostJobs { jobs: vec![test_job("stale")] });
    let mut driver = Driver::start(database).await;
    driver.post(vec![test_job("kept")]).await;
    let before = driver.store.job(JobId(1)).await.unwrap().unwrap();
    let refused = driver.store.commit(driver.epoch, &batch).await;
    assert!(matches!(refused, Err(StoreError::Database { .. })), "{refused:?}");
    assert_eq!(driver.store.job(JobId(1)).await.unwrap().unwrap(), before);
    driver.check().await;
}

pub(crate) async fn a_bad_row_spoils_its_batch_and_nothing_else(database: &Database) {
    let mut driver = Driver::start(database).await;
    driver.hello("w:1", 1, 1).await;
    driver.post(vec![test_job("a")]).await;
    let mut stray = driver.store.attempts(JobId(1)).await.unwrap().remove(0).row;
    stray.id = AttemptId { job: JobId(77), number: 1 };
    stray.token.0 += 1;
    let (_, mut batch) = driver.step(Input::PostJobs { jobs: vec![test_job("b")] });
    batch.push(Row::Attempt(stray));
    let refused = driver.store.commit(driver.epoch, &batch).await;
    assert!(matches!(refused, Err(StoreError::Database { .. })), "{refused:?}");
    assert_eq!(driver.store.job(JobId(2)).await.unwrap(), None);

    let mut again = Driver::start(database).await;
    assert_eq!(again.post(vec![test_job("c")]).await, [JobId(2)]);
    again.check().await;
}

/// Polls a future so many times, then drops it.
async fn polled<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = times;
    std::future::poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        Pin::as_mut(&mut future).poll(context).map(Some)
    })
    .await
}

/// Enough for many statements, and so for many moments at which to drop their commit.
const JOBS: i64 = 45;

pub(crate) async fn a_commit_dropped_at_any_moment_is_whole_or_nothing(database: &Database) {
    let mut driver = Driver::start(database).await;
    let (mut dropped, mut finished) = (0, 0);
    for times in 0..40 {
        let before = driver.state.facts().last_job;
        let (_, batch) = driver.step(Input::PostJobs { jobs: (0..JOBS).map(|_| test_job("t")).collect() });
        match polled(driver.store.commit(driver.epoch, &batch), times).await {
            Some(result) => {
                result.unwrap();
                finished += 1;
            }
            None => dropped += 1,
        }
        // What the leader does after a commit of unknown outcome.
        driver.store.reacquire(driver.epoch).await.unwrap();
        let rows = driver.store.load().await.unwrap();
        driver.state = State::rebuild(rows, Timing::default(), driver.now);
        let after = driver.state.facts().last_job;
        assert!(
            after == before || after == before + JOBS,
            "a part of a batch is stored: {before} and then {after}"
        );
        let listed =
            driver.store.jobs(&JobFilter { limit: 10_000, ..JobFilter::default() }).await.unwrap().len();
        assert_eq!(listed as i64, after);
        driver.post(vec![test_job("goes on")]).await;
    }
    assert!(dropped >= 2 && finished >= 1, "{dropped} dropped, {finished} finished");
}

const CHILD: &str = "ASSAY_TEST_CHILD_URL";

/// Not a test of its own: the process that is killed. It says which jobs it was told are stored.
#[tokio::test]
#[ignore = "run by a_killed_process_loses_nothing_it_was_told_is_stored"]
async fn child_that_posts_until_it_is_killed() {
    let url = std::env::var(CHILD).expect("the parent sets the URL");
    let store = assay_store::open(&url).await.unwrap();
    let epoch = store.acquire_leadership().await.unwrap();
    let state = assay_engine::state::State::rebuild(
        store.load().await.unwrap(),
        assay_engine::work::Timing::default(),
        crate::database::START,
    );
    let mut driver = Driver { store, state, epoch, now: crate::database::START, sent: Vec::new() };
    loop {
        let ids = driver.post((0..7).map(|_| test_job("t")).collect()).await;
        println!("stored {}", ids.last().unwrap());
    }
}

pub(crate) async fn a_killed_process_loses_nothing_it_was_told_is_stored(database: &Database) {
    database.open().await.close().await;
    let mut least = 0;
    for round in 1..=3_i64 {
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "faults::child_that_posts_until_it_is_killed", "--nocapture"])
            .env(CHILD, &database.url)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = 0;
        while acknowledged < round * 5 {
            let line = lines.next_line().await.unwrap().expect("the child says what it stored");
            if let Some(id) = line.strip_prefix("stored ").or_else(|| Some(line.split_once("stored ")?.1)) {
                least = id.parse::<i64>().unwrap();
                acknowledged += 1;
            }
        }
        child.start_kill().unwrap(); // SIGKILL, most likely in the middle of a commit
        while let Some(line) = lines.next_line().await.unwrap() {
            least = line.strip_prefix("stored ").map_or(least, |id| id.parse().unwrap());
        }
        child.wait().await.unwrap();
        let driver = Driver::start(database).await;
        let last = driver.state.facts().last_job;
        assert!(last >= least, "job {least} was acknowledged, and the last stored is {last}");
        assert_eq!(last % 7, 0, "a part of a batch is stored");
        assert_eq!(driver.state.open_jobs().count() as i64, last);
        driver.store.close().await;
    }
}

pub(crate) async fn many_open_a_new_database_at_once(database: &Database) {
    let mut tasks = JoinSet::new();
    for _ in 0..6 {
        let url = database.url.clone();
        tasks.spawn(async move {
            let store = assay_store::open(&url).await?;
            let epoch = store.acquire_leadership().await?;
            store.close().await;
            Ok::<_, StoreError>(epoch)
        });
    }
    let mut epochs: Vec<_> = tasks.join_all().await.into_iter().map(|opened| opened.unwrap().0).collect();
    epochs.sort_unstable();
    assert_eq!(epochs, [1, 2, 3, 4, 5, 6], "each leader has an epoch of its own");
}

pub(crate) async fn a_newer_schema_is_refused(database: &Database) {
    database.open().await.close().await;
    database.tamper("INSERT INTO schema_version (version) VALUES (99)").await;
    match assay_store::open(&database.url).await.err() {
        Some(StoreError::NewerSchema { found: 99, known: 4..99 }) => {}
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_broken_row_is_named(database: &Database) {
    let mut driver = Driver::start(database).await;
    driver.post(vec![test_job("a")]).await;
    for (sql, problem) in [
        ("UPDATE jobs SET settings = '{'", "EOF"),
        ("UPDATE jobs SET settings = '{}', detail = '{\"state\": \"asleep\"}'", "asleep"),
        ("UPDATE jobs SET priority = 99999999999", "out of range"),
    ] {
        database.tamper(sql).await;
        for result in [driver.store.load().await.err(), driver.store.job(JobId(1)).await.err()] {
            let message = result.expect("a broken row is an error").to_string();
            assert!(message.contains("broken row in jobs") && message.contains(problem), "{message}");
        }
    }
}

pub(crate) async fn lost_connections_are_made_anew(database: &Database) {
    let mut driver = Driver::start(database).await;
    driver.post(vec![test_job("a")]).await;
    database.break_connections().await;
    // The first use of a broken connection may say so; then the leader starts over, and all is well.
    let (_, batch) = driver.step(Input::PostJobs { jobs: vec![test_job("b")] });
    if let Err(error) = driver.store.commit(driver.epoch, &batch).await {
        assert!(matches!(error, StoreError::Database { .. }), "{error:?}");
    }
    let epoch = driver.store.acquire_leadership().await.unwrap();
    let rows = driver.store.load().await.unwrap();
    assert!(rows.last_job >= 1 && epoch > driver.epoch);
    assert_eq!(driver.store.jobs(&JobFilter::default()).await.unwrap().len() as i64, rows.last_job);
}
