//! What pages ask for.

use crate::database::{Database, Driver, job, test_job};
use assay_engine::ids::JobId;
use assay_engine::io::Input;
use assay_engine::job::StateWord;
use assay_engine::outcome::Outcome;
use assay_engine::reason::WaitReason;
use assay_store::{JobFilter, Store};

async fn ids(store: &dyn Store, filter: JobFilter) -> Vec<i64> {
    store.jobs(&filter).await.unwrap().iter().map(|job| job.row.id.0).collect()
}

pub(crate) async fn filters(database: &Database) {
    let mut driver = Driver::start(database).await;
    driver.hello("w:1", 1, 1).await;
    for (test, outcome, reason) in [
        ("Install_gnome", Outcome::Passed, ""),
        ("install-kde", Outcome::Failed, "needle GRUB did not match 100% of it"),
        ("update", Outcome::Failed, "C:\\boot is Größer"),
    ] {
        driver.post(vec![test_job(test)]).await;
        driver.finish(1, outcome, reason).await;
    }
    driver.post(vec![test_job("running"), test_job("waiting_1"), test_job("waiting_2")]).await;
    driver.input(Input::CancelJob { job: JobId(5), by: "alice".to_owned() }).await;

    let store = &*driver.store;
    let all = JobFilter::default;
    assert_eq!(ids(store, all()).await, [6, 5, 4, 3, 2, 1]);
    assert_eq!(ids(store, JobFilter { limit: 2, ..all() }).await, [6, 5]);
    assert_eq!(ids(store, JobFilter { limit: 2, before: Some(JobId(5)), ..all() }).await, [4, 3]);
    for (states, expected) in [
        (vec![StateWord::Done], vec![3, 2, 1]),
        (vec![StateWord::Scheduled, StateWord::Cancelled], vec![6, 5]),
        (vec![StateWord::Assigned], vec![4]),
        (vec![StateWord::Running], vec![]),
    ] {
        assert_eq!(ids(store, JobFilter { states: states.clone(), ..all() }).await, expected, "{states:?}");
    }
    let outcomes = vec![Outcome::Failed, Outcome::UserCancelled];
    assert_eq!(ids(store, JobFilter { outcomes: outcomes.clone(), ..all() }).await, [5, 3, 2]);
    let both = JobFilter { outcomes, states: vec![StateWord::Done], before: Some(JobId(3)), ..all() };
    assert_eq!(ids(store, both).await, [2]);
    for (text, expected) in [
        ("INSTALL", vec![2, 1]),
        ("l_g", vec![1]),
        ("l%g", vec![]),
        ("100%", vec![2]),
        ("grub", vec![2]),
        ("c:\\BOOT", vec![3]),
        ("GRÖSSER", vec![]),
        ("GRÖßER", vec![3]),
        ("by alice", vec![5]),
        ("\0update", vec![3]),
        ("' OR 1=1 --", vec![]),
    ] {
        assert_eq!(ids(store, JobFilter { text: Some(text.to_owned()), ..all() }).await, expected, "{text}");
    }
    let counts = store.counts().await.unwrap();
    let counts: Vec<u64> = StateWord::ALL.iter().map(|state| counts[state]).collect();
    assert_eq!(counts, [1, 1, 0, 0, 0, 3, 1]);
}

pub(crate) async fn ten_thousand_jobs_in_pages(database: &Database) {
    let mut driver = Driver::start(database).await;
    driver.post((0..10_000).map(|number| test_job(&format!("test_{number}"))).collect()).await;
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page =
            driver.store.jobs(&JobFilter { before, limit: 700, ..JobFilter::default() }).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.row.id);
        seen.extend(page.iter().map(|job| (job.row.id.0, job.row.name.clone())));
    }
    let expected: Vec<_> = (1..=10_000_i64).rev().map(|id| (id, format!("test_{}", id - 1))).collect();
    assert_eq!(seen, expected);
    assert_eq!(driver.store.counts().await.unwrap()[&StateWord::Scheduled], 10_000);
    driver.check().await;
}

pub(crate) async fn wait_reasons_are_shown(database: &Database) {
    let mut driver = Driver::start(database).await;
    driver.post(vec![test_job("a"), job(&[("TEST", "b"), ("WORKER_CLASS", "dumy")]), test_job("c")]).await;
    let reasons =
        |jobs: Vec<assay_store::StoredJob>| -> Vec<_> { jobs.into_iter().map(|job| job.wait).collect() };
    let listed = reasons(driver.store.jobs(&JobFilter::default()).await.unwrap());
    assert_eq!(listed, vec![Some(WaitReason::NoWorkerOnline); 3]);
    driver.hello("w:1", 1, 1).await;
    let listed = reasons(driver.store.jobs(&JobFilter::default()).await.unwrap());
    let busy = WaitReason::AllBusy { classes: driver.state.job(JobId(3)).unwrap().classes.clone(), slots: 1 };
    let class = WaitReason::ClassNotOffered { class: "dumy".to_owned(), nearest: Some("dummy".to_owned()) };
    assert_eq!(listed, [Some(busy.clone()), Some(class), None]);
    assert_eq!(driver.store.job(JobId(3)).await.unwrap().unwrap().wait, Some(busy));
    driver.input(Input::CancelJob { job: JobId(2), by: "a".to_owned() }).await;
    driver.finish(1, Outcome::Passed, "").await;
    driver.check().await;
    let rows = driver.store.load().await.unwrap();
    assert_eq!(rows.queues, [], "nothing waits, so there is no reason");
}
