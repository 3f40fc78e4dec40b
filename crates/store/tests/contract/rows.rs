//! What goes in comes out.

use crate::database::{Database, Driver, job, test_job};
use assay_engine::ids::{AttemptId, ConnectionId, GroupId, JobId};
use assay_engine::io::{Answer, Input, Message, NewJob, Obsolete};
use assay_engine::job::{End, StateWord};
use assay_engine::outcome::Outcome;
use assay_engine::product::search_values;
use assay_engine::relations::{ParentRef, Relation};
use assay_engine::rows::{Hold, JobRow, ProductRun, Rows, RunProblem, SETTLED_WINDOW, WorkerStatus};
use assay_engine::sched::restart::RestartRequest;
use assay_engine::work::{Report, WorkPhase};
use assay_store::blobs::{BlobRef, Sha256};
use assay_store::{Batch, Epoch, JobFilter, RunFilter, Scope, Streams};

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
        assert_eq!(stored.row.settings.setting("VALUE").unwrap().value, text);
        assert_eq!(stored.row.settings.setting("ünïcode").unwrap().value, text);
        assert_eq!(Some(&stored.row), driver.state.job(id));
    }
    driver.hello("w:1", 1, 1).await;
    driver.finish(1, Outcome::Failed, "Grüße, 世界 🦀").await;
    let ended = driver.store.job(JobId(1)).await.unwrap().unwrap();
    assert_eq!(ended.row.state.end().unwrap().text().unwrap(), "Grüße, 世界 🦀");
}

/// Relations, clones, holds and posts of products come back, and with open jobs what they are bound to.
pub(crate) async fn clusters_are_loaded_with_what_they_are_bound_to(database: &Database) {
    let mut driver = Driver::start(database).await;
    driver.hello("w:1", 1, 2).await;
    let after = |place, relation| (relation, ParentRef::Posted(place));
    let chain = NewJob { parents: vec![after(0, Relation::DirectlyChained)], ..test_job("second") };
    let last = NewJob { parents: vec![after(1, Relation::DirectlyChained)], ..test_job("third") };
    let beside = NewJob { parents: vec![after(0, Relation::Parallel)], ..test_job("beside") };
    let held = Hold::Assets { names: vec!["x.iso".to_owned()], trouble: Some("slow".to_owned()) };
    let held = NewJob { hold: Some(held), group: Some(GroupId(7)), retries: 2, ..test_job("held") };
    driver.post(vec![test_job("first"), chain, last, beside, held]).await;
    driver.check().await;
    let finish = |driver: &Driver, job: JobId, outcome: Outcome| {
        let assigned = driver.sent.iter().find_map(|message| match message {
            Message::Assign { held, .. } if held.attempt.job == job => Some(*held),
            _ => None,
        });
        let report = Report { outcome, class: outcome.class(), reason: None };
        let held = assigned.unwrap_or_else(|| panic!("job {job} was not handed out"));
        Input::Finished { connection: ConnectionId(1), held, report }
    };
    driver.input(finish(&driver, JobId(1), Outcome::Passed)).await;
    driver.check().await;
    let rows = driver.store.load().await.unwrap();
    let ids = |rows: &[JobRow]| rows.iter().map(|row| row.id.0).collect::<Vec<_>>();
    assert_eq!((ids(&rows.jobs), ids(&rows.relatives)), (vec![2, 3, 4, 5], vec![1]));

    let children = driver.store.children(&[JobId(1)]).await.unwrap();
    let children: Vec<_> = children.iter().map(|(id, parent)| (id.0, parent.relation)).collect();
    assert_eq!(children, [(2, Relation::DirectlyChained), (4, Relation::Parallel)]);
    let cluster = driver.store.cluster(&[JobId(3)], false).await.unwrap();
    assert_eq!(cluster.iter().map(|job| job.row.id.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let waits = cluster[2].wait.as_ref().map(ToString::to_string).unwrap_or_default();
    assert!(waits.starts_with("waits for 2 (second) to pass"), "{waits}");

    // Started anew: the clones know where they come from, and the cluster can be followed to them.
    let rows = driver.store.cluster(&[JobId(1)], true).await.unwrap();
    let rows = rows.into_iter().map(|job| job.row).collect();
    let jobs = vec![JobId(1)];
    let restart = Input::Restart(RestartRequest { jobs, by: "x".to_owned(), ..RestartRequest::default() });
    driver.input(Input::Known { rows, then: Box::new(restart) }).await;
    driver.check().await;
    let cluster = driver.store.cluster(&[JobId(1)], true).await.unwrap();
    assert_eq!(cluster.iter().map(|job| job.row.id.0).collect::<Vec<_>>(), [1, 2, 3, 4, 6, 7, 8, 9]);
    assert_eq!((cluster[0].row.cloned_as, cluster[4].row.clone_of), (Some(JobId(6)), Some(JobId(1))));

    // Taken out: whatever pointed at it lets go.
    for job in [2, 4] {
        driver.input(finish(&driver, JobId(job), Outcome::UserCancelled)).await;
        driver.check().await;
    }
    let rows = vec![cluster[0].row.clone()];
    driver.input(Input::Known { rows, then: Box::new(Input::DeleteJob { job: JobId(1) }) }).await;
    assert_eq!(driver.store.job(JobId(1)).await.unwrap(), None);
    assert_eq!(driver.store.job(JobId(6)).await.unwrap().map(|job| job.row.clone_of), Some(None));
    assert_eq!(driver.store.children(&[JobId(1)]).await.unwrap(), []);
    assert_eq!(driver.store.attempts(JobId(1)).await.unwrap(), []);
}

pub(crate) async fn a_post_of_a_product_is_whole(database: &Database) {
    let mut driver = Driver::start(database).await;
    let build = |test: &str, build: &str| {
        let main = [("DISTRI", "d"), ("VERSION", "1"), ("FLAVOR", "f"), ("ARCH", "a")];
        let pairs: Vec<_> = main.into_iter().chain([("TEST", test), ("BUILD", build)]).collect();
        job(&pairs)
    };
    driver.post(vec![build("old", "1"), build("spared", "1")]).await;
    let settings = [("DISTRI", "d"), ("BUILD", "2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let problem = RunProblem { job: "x@y".to_owned(), made: None, problems: vec!["why".to_owned()] };
    let run = ProductRun {
        settings: settings.into(),
        by: "alice".to_owned(),
        failed: vec![problem],
        webhook: Some("gh:pr:7".to_owned()),
        ..ProductRun::default()
    };
    let obsolete = Obsolete {
        matching: [("DISTRI".to_owned(), "d".to_owned())].into(),
        spared: [JobId(2)].into(),
        ..Obsolete::default()
    };
    let jobs = (0..1_000).map(|number| build(&format!("t{number}"), "2")).collect();
    let input = Input::PostProduct { jobs, run: run.clone(), obsolete: Some(obsolete) };
    let answer = driver.input(input).await;
    let Some(Answer::Product { run: id, jobs, obsoleted }) = answer else { panic!("{answer:?}") };
    assert_eq!((id.0, jobs.len(), obsoleted), (1, 1_000, vec![JobId(1)]));
    let stored = driver.store.product_run(id).await.unwrap().expect("the post is stored");
    assert_eq!((stored.run, stored.jobs), (run, jobs));
    let filter = RunFilter { build: Some("2".to_owned()), ..RunFilter::default() };
    assert_eq!(driver.store.product_runs(&filter).await.unwrap().len(), 1);
    let filter = RunFilter { build: Some("3".to_owned()), ..RunFilter::default() };
    assert_eq!(driver.store.product_runs(&filter).await.unwrap(), []);
    let filter = RunFilter { webhook: Some("gh:pr:7".to_owned()), ..RunFilter::default() };
    assert_eq!(driver.store.product_runs(&filter).await.unwrap().len(), 1);
    driver.check().await;
    let old = driver.store.job(JobId(1)).await.unwrap().expect("the old job");
    assert_eq!(old.row.state.end().and_then(End::text).as_deref(), Some("obsoleted by product run 1"));

    // Lists of its jobs, with and without settings.
    let store = &driver.store.clone();
    let list = |filter: JobFilter| async move {
        let found = store.summaries(&filter).await.unwrap();
        let jobs = store.jobs(&filter).await.unwrap();
        let ids: Vec<i64> = found.iter().map(|job| job.id.0).collect();
        assert_eq!(jobs.iter().map(|job| job.row.id.0).collect::<Vec<_>>(), ids);
        let narrow = filter.limit >= 1_000 && filter.offset == 0;
        assert!(!narrow || store.count(&filter).await.unwrap() == ids.len() as u64);
        ids
    };
    let all = || JobFilter { limit: 5_000, ..JobFilter::default() };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    assert_eq!(list(JobFilter { run: Some(id), ..all() }).await.len(), 1_000);
    assert_eq!(list(JobFilter { build: words(&["1"]), ..all() }).await, [2, 1]);
    assert_eq!(list(JobFilter { test: words(&["t7", "old"]), ..all() }).await, [10, 1]);
    assert_eq!(list(JobFilter { ids: vec![JobId(9), JobId(10)], ..all() }).await, [10, 9], "as numbers");
    let setting = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
    assert_eq!(list(JobFilter { settings: setting("TEST", "t9"), ..all() }).await, [12]);
    assert_eq!(list(JobFilter { settings: setting("TEST", "%"), ..all() }).await, [0; 0]);
    assert_eq!(list(JobFilter { without: vec!["TEST".to_owned()], ..all() }).await, [0; 0]);
    assert_eq!(list(JobFilter { without: vec!["value".to_owned()], ..all() }).await, list(all()).await);
    assert_eq!(list(JobFilter { outcomes: vec![Outcome::Obsoleted], ..all() }).await, [1]);
    let both = JobFilter { outcomes: vec![Outcome::Obsoleted], unfinished_too: true, ..all() };
    assert_eq!(list(both).await.len(), 1_002);
    assert_eq!(list(JobFilter { groups: vec![Some(GroupId(1))], ..all() }).await, [0; 0]);
    assert_eq!(
        list(JobFilter { groups: vec![None], not_groups: vec![GroupId(1)], ..all() }).await.len(),
        1_002
    );
    let (after, before) = (Some(JobId(1)), Some(JobId(5)));
    assert_eq!(list(JobFilter { after, before, ..all() }).await, [4, 3, 2]);
    assert_eq!(list(JobFilter { limit: 2, offset: 3, ..all() }).await, [999, 998]);
    assert_eq!(list(JobFilter { scope: Scope::Relevant, build: words(&["1"]), ..all() }).await, [2]);
    driver.post(vec![build("old", "3")]).await;
    let list = driver.store.summaries(&JobFilter { latest: true, test: words(&["old"]), ..all() }).await;
    assert_eq!(list.unwrap().iter().map(|job| job.id.0).collect::<Vec<_>>(), [1_003]);
}

pub(crate) async fn lists_among_settings_are_found_by_their_parts(database: &Database) {
    let mut driver = Driver::start(database).await;
    let blank = ("d ,e\t,\u{a0}f ,, g  h\n", "tap\t, x86");
    let lists = [("a,b,c", "kvm, uefi"), ("ab", "uefi-x"), ("b", "kvm"), (r#"it's "b",\x"#, "uefi"), blank];
    let of = |(shards, class): (&str, &str)| {
        job(&[("TEST", "t"), ("SHARDS[]", shards), ("WORKER_CLASS", class), ("PLAIN", shards)])
    };
    driver.post(lists.into_iter().map(of).collect()).await;
    driver.post(vec![job(&[("TEST", "none")])]).await;
    assert_eq!(search_values("SHARDS[]", blank.0), ["d", "e", "f", "g  h"], "as the engine takes it apart");
    let cases: [(&str, &str, &[i64]); 24] = [
        ("SHARDS[]", "d", &[5]),
        ("SHARDS[]", "e", &[5]),
        ("SHARDS[]", "f", &[5]),
        ("SHARDS[]", "g  h", &[5]),
        ("SHARDS[]", "g h", &[]),
        ("SHARDS[]", "d ", &[]),
        ("SHARDS[]", "", &[]),
        ("SHARDS[]", blank.0, &[5]),
        ("WORKER_CLASS", "tap", &[5]),
        ("WORKER_CLASS", "x86", &[5]),
        ("PLAIN", "d", &[]),
        ("SHARDS[]", "b", &[3, 1]),
        ("SHARDS[]", "a", &[1]),
        ("SHARDS[]", "a,b,c", &[1]),
        ("SHARDS[]", "a,b", &[]),
        ("SHARDS[]", "\\x", &[4]),
        ("SHARDS[]", r#"it's "b""#, &[4]),
        ("SHARDS[]", "%", &[]),
        ("WORKER_CLASS", "uefi", &[4, 1]),
        ("WORKER_CLASS", "kvm", &[3, 1]),
        ("WORKER_CLASS", "kvm, uefi", &[1]),
        ("PLAIN", "b", &[3]),
        ("PLAIN", "a,b,c", &[1]),
        ("x'[]", "b", &[]),
    ];
    for (key, value, expected) in cases {
        let settings = vec![(key.to_owned(), value.to_owned())];
        let filter = JobFilter { settings, limit: 10, ..JobFilter::default() };
        let found: Vec<_> =
            driver.store.summaries(&filter).await.unwrap().iter().map(|job| job.id.0).collect();
        assert_eq!(found, expected, "{key}={value}");
        assert_eq!(driver.store.count(&filter).await.unwrap(), expected.len() as u64, "{key}={value}");
    }
}
