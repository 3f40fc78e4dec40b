//! What pages ask for.

use crate::database::{Database, Driver, job, test_job};
use assay_engine::ids::{GroupId, JobId, Timestamp};
use assay_engine::io::Input;
use assay_engine::io::NewJob;
use assay_engine::job::StateWord;
use assay_engine::outcome::Outcome;
use assay_engine::reason::WaitReason;
use assay_store::{Column, Comment, CommentId, CommentTarget, JobFilter, Store};

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
    let posted = store.job(JobId(2)).await.unwrap().unwrap().row.created_at;
    assert_eq!(ids(store, JobFilter { posted_until: Some(posted), ..all() }).await, [2, 1]);
    let before = Some(posted.plus_seconds(-1_000_000));
    assert!(ids(store, JobFilter { posted_until: before, ..all() }).await.is_empty());
    let oldest = JobFilter { oldest_first: true, after: Some(JobId(2)), limit: 2, ..all() };
    assert_eq!(ids(store, oldest).await, [3, 4]);
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

pub(crate) async fn one_scenario(database: &Database) {
    let mut driver = Driver::start(database).await;
    let plain = [("TEST", "a"), ("DISTRI", "d")];
    driver.post(vec![job(&plain), job(&[&plain[..], &[("MACHINE", "m")]].concat()), job(&plain)]).await;
    let text = |value: &str| Some(value.to_owned());
    for (machine, expected) in [(None, vec![3, 1]), (text("m"), vec![2]), (text("n"), vec![])] {
        let scenario = Some([text("d"), None, None, None, text("a"), machine]);
        let filter = JobFilter { scenario: scenario.clone(), ..JobFilter::default() };
        assert_eq!(ids(&*driver.store, filter).await, expected, "{scenario:?}");
    }
    let unlike = |values: &[(Column, &str)]| JobFilter {
        unlike: values.iter().map(|(column, value)| (*column, (*value).to_owned())).collect(),
        ..JobFilter::default()
    };
    for (values, expected) in [
        (&[(Column::Machine, "m")][..], vec![3, 1]),
        (&[(Column::Machine, "n"), (Column::Machine, "o"), (Column::Flavor, "f")], vec![3, 2, 1]),
        (&[(Column::Machine, "n"), (Column::Machine, "m"), (Column::Test, "a")], vec![]),
    ] {
        assert_eq!(ids(&*driver.store, unlike(values)).await, expected, "{values:?}");
    }
    driver.check().await;
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
    let classes = driver.state.job(JobId(3)).unwrap().classes.clone();
    let busy = WaitReason::AllBusy { classes, slots: 1, parties: 1, kept_for: None, drained: None };
    let class = WaitReason::ClassNotOffered { class: "dumy".to_owned(), nearest: Some("dummy".to_owned()) };
    assert_eq!(listed, [Some(busy.clone()), Some(class), None]);
    assert_eq!(driver.store.job(JobId(3)).await.unwrap().unwrap().wait, Some(busy));
    driver.input(Input::CancelJob { job: JobId(2), by: "a".to_owned() }).await;
    driver.finish(1, Outcome::Passed, "").await;
    driver.check().await;
    let rows = driver.store.load().await.unwrap();
    assert_eq!(rows.queues, [], "nothing waits, so there is no reason");
}

/// A job of a group and a build.
fn built(group: i64, build: &str, test: &str) -> NewJob {
    let new = job(&[("DISTRI", "d"), ("VERSION", "1"), ("TEST", test), ("BUILD", build)]);
    NewJob { group: Some(GroupId(group)), ..new }
}

pub(crate) async fn builds_of_groups(database: &Database) {
    let mut driver = Driver::start(database).await;
    driver.hello("w:1", 1, 1).await;
    // The first job of `boot` does not count: the second took its place.
    for (group, build, test, outcome) in [
        (1, "7", "boot", Outcome::Failed),
        (1, "7", "install", Outcome::Failed),
        (1, "7", "boot", Outcome::Passed),
        (1, "8", "boot", Outcome::Failed),
        (2, "7", "boot", Outcome::Softfailed),
    ] {
        driver.post(vec![built(group, build, test)]).await;
        driver.finish(1, outcome, "").await;
    }
    driver.post(vec![test_job("apart"), built(1, "8", "x"), built(1, "8", "y")]).await;
    let store = driver.store.clone();
    let comment = Comment {
        id: CommentId(0),
        target: CommentTarget::Job(JobId(2)),
        author: "ann".to_owned(),
        text: "boo#1".to_owned(),
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
    };
    let epoch = store.acquire_leadership().await.unwrap();
    store.knowledge().add_comment(epoch, &comment).await.unwrap();
    let of = async |target: std::ops::RangeInclusive<i64>| {
        let (first, last) =
            (CommentTarget::Job(JobId(*target.start())), CommentTarget::Job(JobId(*target.end())));
        store.knowledge().comments_within(first, last).await.unwrap().len()
    };
    assert_eq!((of(1..=2).await, of(3..=99).await), (1, 0));

    let builds = async |groups: &[i64]| {
        let groups: Vec<_> = groups.iter().map(|id| GroupId(*id)).collect();
        let found = store.group_builds(&groups).await.unwrap();
        let told = found.into_iter().map(|one| (one.group.0, one.build, one.oldest.0, one.newest.0));
        told.collect::<Vec<_>>()
    };
    let seven = (1, "7".to_owned(), 1, 3);
    assert_eq!(builds(&[1]).await, [(1, "8".to_owned(), 4, 8), seven.clone()]);
    assert_eq!(builds(&[]).await, [(1, "8".to_owned(), 4, 8), (2, "7".to_owned(), 5, 5), seven]);
    assert_eq!(builds(&[3]).await, []);

    let tallies = async |builds: &[(i64, &str)]| {
        let builds: Vec<_> = builds.iter().map(|(id, build)| (GroupId(*id), (*build).to_owned())).collect();
        let found = store.tallies(&builds).await.unwrap();
        let mut told: Vec<_> = found
            .into_iter()
            .map(|one| (one.group.0, one.build, one.outcome.map(Outcome::openqa), one.jobs, one.remarked))
            .collect();
        told.sort();
        told
    };
    let text = |build: &str| build.to_owned();
    assert_eq!(tallies(&[]).await, []);
    assert_eq!(
        tallies(&[(1, "7"), (2, "8")]).await,
        [(1, text("7"), Some("failed"), 1, 1), (1, text("7"), Some("passed"), 1, 0)]
    );
    // `apart` has the only slot, so both of the others wait.
    assert_eq!(
        tallies(&[(1, "8"), (2, "7")]).await,
        [
            (1, text("8"), None, 2, 0),
            (1, text("8"), Some("failed"), 1, 0),
            (2, text("7"), Some("softfailed"), 1, 0)
        ]
    );
}
