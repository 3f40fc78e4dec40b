//! The gate's rows, its history, the inbox, the outbox and the receipts.

use crate::database::{Database, START, is_deposed, job};
use assay_engine::gate::change::{Account, ChangeFacts, ChangeStatus, Subject};
use assay_engine::gate::config::{Config, MergeMode, ReportAction};
use assay_engine::gate::ids::{ChangeId, ItemId, Patchset, Uuid};
use assay_engine::gate::io::{BuildResult, Merged, Moved, Report, Tip, ToMerge};
use assay_engine::gate::item::{
    Build, Buildset, Item, ItemChange, ItemEnd, ItemJob, ItemOutcome, ItemPhase, JobState, MergeState,
};
use assay_engine::gate::reason::{HoldReason, ResetReason};
use assay_engine::gate::rows::{
    AutoholdRow, DurationsRow, EvidenceRow, GateRow, GateRows, PipelineRow, QueueRow,
};
use assay_engine::ids::{JobId, Timestamp};
use assay_engine::io::{Effect, Input};
use assay_engine::state::State;
use assay_engine::work::Timing;
use assay_store::{
    Batch, EntryFilter, EntryState, EventId, EventState, NewEvent, Store, StoredReceipt, Tried, WaitingReport,
};
use std::sync::Arc;

fn at(seconds: i64) -> Timestamp {
    START.plus_seconds(seconds)
}

fn patchset(number: u64) -> Patchset {
    Patchset { change: ChangeId { source: "gerrit".into(), number }, patchset: 2 }
}

fn build(uuid: u128, asked: i64, result: Option<BuildResult>) -> Build {
    let ended_at = result.as_ref().map(|_| at(asked + 60));
    Build {
        uuid: Uuid(uuid),
        asked_at: at(asked),
        started_at: Some(at(asked + 1)),
        ended_at,
        result,
        runner: None,
    }
}

fn item(id: i64, number: u64, jobs: Vec<ItemJob>) -> Item {
    let tip = |commit: &str, tree: &str| Tip { commit: commit.into(), tree: tree.into() };
    let moved =
        Moved { project: "a/b".into(), branch: "master".into(), base: tip("11", "22"), tip: tip("33", "44") };
    let merge = ToMerge {
        patchset: patchset(number),
        project: "a/b".into(),
        branch: "master".into(),
        revision: "55".into(),
        fetch_ref: "refs/changes/07/7/2".into(),
        mode: MergeMode::Merge,
    };
    let change = ItemChange {
        merge,
        files: None,
        subject: "Grüße".to_owned(),
        url: None,
        owner: "Ann".to_owned(),
        change_id: None,
    };
    Item {
        id: ItemId(id),
        pipeline: "gate".into(),
        queue: "q".into(),
        position: id,
        subject: Subject::Change(patchset(number)),
        project: "a/b".into(),
        branch: "master".into(),
        changes: vec![change],
        below: Vec::new(),
        needs: Vec::new(),
        met: Vec::new(),
        strict: false,
        ahead: None,
        enqueued_at: at(0),
        because: "a vote".to_owned(),
        buildset: Buildset {
            number: 1,
            identity: Uuid(7),
            on: None,
            merge_tries: 0,
            state: MergeState::Done(Merged { moved: vec![moved] }),
            since: at(0),
            jobs,
            because: None,
        },
        phase: ItemPhase::Testing,
        reports: 0,
    }
}

fn item_job(name: &str, state: JobState, lost: Vec<Build>) -> ItemJob {
    ItemJob { job: name.into(), voting: true, parent: None, state, lost }
}

fn facts(number: u64) -> ChangeFacts {
    ChangeFacts {
        id: patchset(number).change,
        current_patchset: 2,
        revision: "55".into(),
        fetch_ref: String::new(),
        project: "a/b".into(),
        branch: "master".into(),
        change_id: None,
        subject: "'; DROP TABLE gate_rows; --".to_owned(),
        message: "🦀\n".to_owned(),
        url: None,
        owner: Account::default(),
        topic: None,
        status: ChangeStatus::New,
        wip: false,
        approvals: Vec::new(),
        submit_records: Vec::new(),
        files: None,
        parents: Vec::new(),
        as_of: at(0),
    }
}

fn report(item: i64, number: u32) -> Report {
    Report {
        id: (ItemId(item), number),
        about: Subject::Change(patchset(7)),
        project: "a/b".into(),
        pipeline: "gate".into(),
        action: ReportAction::Sql { source: "db".into(), score: None },
        message: "Build succeeded.".to_owned(),
    }
}

async fn store(database: &Database, rows: impl IntoIterator<Item = GateRow>) -> Arc<dyn Store> {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let mut batch = Batch::default();
    for row in rows {
        batch.push_gate(row);
    }
    assert!(batch.is_empty() || store.commit(epoch, &batch).await.is_ok());
    store
}

pub(crate) async fn what_the_gate_is_made_of(database: &Database) {
    let mut rows = GateRows {
        config: Some(Arc::new(Config { hash: "ab".to_owned(), ..Config::default() })),
        items: vec![Arc::new(item(3, 7, Vec::new()))],
        last_item: 4,
        queues: vec![QueueRow {
            pipeline: "gate".into(),
            queue: "q".into(),
            window: 5,
            hold: Some((HoldReason::Operator { by: "a".to_owned(), reason: "b".to_owned() }, at(1))),
            below: Vec::new(),
        }],
        pipelines: vec![PipelineRow { pipeline: "gate".into(), failures: 2, disabled: true }],
        changes: vec![Arc::new(facts(7))],
        durations: vec![DurationsRow { job: "j".into(), latest_us: vec![1, 2] }],
        evidence: vec![EvidenceRow { key: "k".to_owned(), build: build(1, 0, None), used: 1 }],
        autoholds: vec![AutoholdRow {
            id: 1,
            project: "a/b".into(),
            job: "j".into(),
            change: None,
            left: 1,
            reason: "look".to_owned(),
            by: "ann".to_owned(),
        }],
        last_autohold: 2,
    };
    let mut ended = item(4, 8, Vec::new());
    ended.phase = ItemPhase::Ended(ItemEnd { outcome: ItemOutcome::Passed, at: at(9), failures: Vec::new() });
    let over = AutoholdRow { id: 2, left: 0, ..rows.autoholds[0].clone() };
    let saved = [
        GateRow::Config(Arc::new(Config::default())), // replaced in the same batch
        GateRow::Config(rows.config.clone().unwrap()),
        GateRow::Item(rows.items[0].clone()),
        GateRow::Item(Arc::new(ended)),
        GateRow::Queue(rows.queues[0].clone()),
        GateRow::Pipeline(rows.pipelines[0].clone()),
        GateRow::Change(rows.changes[0].clone()),
        GateRow::Change(Arc::new(facts(8))),
        GateRow::ForgetChange(patchset(8).change),
        GateRow::Durations(rows.durations[0].clone()),
        GateRow::Evidence(rows.evidence[0].clone()),
        GateRow::Autohold(rows.autoholds[0].clone()),
        GateRow::Autohold(over),
        GateRow::Report(Box::new(report(3, 1))),
    ];
    let first = store(database, saved).await;
    assert_eq!(first.gate().load_gate().await.unwrap(), rows);
    first.close().await;
    let second = store(
        database,
        [
            GateRow::ForgetChange(patchset(7).change),
            GateRow::Autohold(AutoholdRow { left: 0, ..rows.autoholds[0].clone() }),
            GateRow::Pipeline(PipelineRow { pipeline: "gate".into(), failures: 0, disabled: false }),
        ],
    )
    .await;
    rows.changes.clear();
    rows.autoholds.clear();
    rows.pipelines[0] = PipelineRow { pipeline: "gate".into(), failures: 0, disabled: false };
    assert_eq!(second.gate().load_gate().await.unwrap(), rows);
}

pub(crate) async fn items_and_their_history(database: &Database) {
    let lost = build(1, 0, Some(BuildResult::lost("the worker vanished")));
    let first = item(1, 7, vec![item_job("unit", JobState::Running(build(2, 70, None)), vec![lost.clone()])]);
    let mut second = first.clone();
    second.buildset.number = 2;
    second.buildset.because = Some(ResetReason::AheadFailing { ahead: "6,1".to_owned() });
    let reused = JobState::Reused { build: build(2, 70, Some(BuildResult::success())) };
    let ended = JobState::Ended(build(3, 200, Some(BuildResult::failure())));
    second.buildset.jobs = vec![item_job("unit", ended, Vec::new()), item_job("docs", reused, Vec::new())];
    let mut other = item(2, 8, Vec::new());
    other.pipeline = "check".into();
    other.changes.extend(item(9, 7, Vec::new()).changes);
    // Both states of item 1 in one batch: the earlier one's builds are history all the same.
    let rows = [first, second.clone(), other.clone()].map(|item| GateRow::Item(Arc::new(item)));
    let opened = store(database, rows).await;
    let gate = opened.gate();
    let ids = |items: Vec<Arc<Item>>| items.iter().map(|item| item.id.0).collect::<Vec<_>>();

    assert_eq!(gate.item(ItemId(1)).await.unwrap().as_deref(), Some(&second));
    assert_eq!(gate.item(ItemId(77)).await.unwrap(), None);
    assert_eq!(ids(gate.items_of_change(&"gerrit".into(), 7, 9).await.unwrap()), [2, 1]);
    assert_eq!(ids(gate.items_of_change(&"gerrit".into(), 7, 1).await.unwrap()), [2]);
    assert_eq!(ids(gate.items_of_change(&"other".into(), 7, 9).await.unwrap()), [0_i64; 0]);
    assert_eq!(ids(gate.recent_items(None, None, 9).await.unwrap()), [2, 1]);
    assert_eq!(ids(gate.recent_items(None, Some(ItemId(2)), 9).await.unwrap()), [1]);
    assert_eq!(ids(gate.recent_items(Some(&"gate".into()), None, 9).await.unwrap()), [1]);

    let sets = gate.buildsets(ItemId(1)).await.unwrap();
    assert_eq!(sets.iter().map(|set| set.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(sets[1].because, second.buildset.because);
    let builds = gate.builds_of_item(ItemId(1)).await.unwrap();
    let listed: Vec<_> = builds.iter().map(|b| (b.uuid.0, b.buildset, b.ended_at.is_some())).collect();
    assert_eq!(listed, [(1, 1, true), (2, 1, false), (3, 2, true)]);
    assert_eq!(builds[0].result, lost.result);
    assert_eq!(gate.build(Uuid(3)).await.unwrap().as_ref(), Some(&builds[2]));
    assert_eq!(gate.build(Uuid(77)).await.unwrap(), None);
    let ended = gate.builds_after((at(0), Uuid(0)), 9).await.unwrap();
    assert_eq!(
        ended.iter().map(|b| b.uuid.0).collect::<Vec<_>>(),
        [1, 3],
        "the one that was stopped has no end"
    );
    let last = (ended[0].ended_at.unwrap(), ended[0].uuid);
    assert_eq!(gate.builds_after(last, 9).await.unwrap().len(), 1);
    assert_eq!(builds[2].tree, Some("44".into()));
    let uuids = |builds: Vec<assay_store::StoredBuild>| builds.iter().map(|b| b.uuid.0).collect::<Vec<_>>();
    assert_eq!(uuids(gate.builds_of_job(&"unit".into(), None, 9).await.unwrap()), [3, 2, 1]);
    assert_eq!(uuids(gate.builds_of_job(&"unit".into(), Some(at(200)), 1).await.unwrap()), [2]);
    assert_eq!(uuids(gate.builds_of_job(&"docs".into(), None, 9).await.unwrap()), [0_u128; 0]);
}

fn event(key: &str, change: Option<u64>) -> NewEvent {
    NewEvent { dedupe_key: key.to_owned(), change, body: format!("{{\"key\": \"{key}\"}}") }
}

fn cursor(value: &str) -> [(String, Option<String>); 2] {
    [("events".to_owned(), Some(value.to_owned())), (format!("tip {value}"), None)]
}

pub(crate) async fn events_are_received_once(database: &Database) {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let gate = store.gate();
    let source = "gerrit".into();
    assert_eq!(gate.cursors(&source).await.unwrap().len(), 0);
    let both = [event("a", Some(7)), event("b 🦀'", None), event("a", Some(7))];
    let new = gate.receive(epoch, &source, at(1), &both, &cursor("1")).await.unwrap();
    let keys = |events: &[assay_store::StoredEvent]| {
        events.iter().map(|event| event.dedupe_key.clone()).collect::<Vec<_>>()
    };
    assert_eq!(keys(&new), ["a", "b 🦀'"]);
    assert_eq!((new[0].change, new[0].received_at, new[0].state), (Some(7), at(1), EventState::Received));
    let again = [event("a", Some(7)), event("c", Some(8))];
    assert_eq!(keys(&gate.receive(epoch, &source, at(2), &again, &cursor("2")).await.unwrap()), ["c"]);
    assert_eq!(keys(&gate.receive(epoch, &source, at(2), &again, &[]).await.unwrap()), [""; 0]);
    let elsewhere = "other".into();
    assert_eq!(
        keys(&gate.receive(epoch, &elsewhere, at(3), &again, &cursor("x")).await.unwrap()),
        ["a", "c"]
    );
    assert_eq!(gate.receive(epoch, &source, at(3), &[], &cursor("3")).await.unwrap(), []);
    assert_eq!(gate.cursors(&source).await.unwrap()["events"], "3");
    assert_eq!(gate.recent_keys(&source, at(2)).await.unwrap(), ["c"]);
    let open = gate.unconsumed().await.unwrap();
    assert_eq!(keys(&open), ["a", "b 🦀'", "c", "a", "c"]);

    let mut batch = Batch::default();
    batch.consumed(open[0].id, "{\"pipelines\": []}".to_owned(), Some("complete".to_owned()));
    assert!(!batch.is_empty());
    store.commit(epoch, &batch).await.unwrap();
    gate.park(epoch, open[1].id, "it cannot be read").await.unwrap();
    assert_eq!(keys(&gate.unconsumed().await.unwrap()), ["c", "a", "c"]);
    let consumed = gate.event(open[0].id).await.unwrap().unwrap();
    assert_eq!(
        (consumed.state, consumed.caused.as_deref()),
        (EventState::Consumed, Some("{\"pipelines\": []}"))
    );
    assert_eq!(consumed.body, "complete");
    assert_eq!(keys(&gate.events_after(open[0].id, 2).await.unwrap()), ["b 🦀'", "c"]);
    assert_eq!(gate.event(open[1].id).await.unwrap().unwrap().state, EventState::Parked);
    assert_eq!(keys(&gate.events(Some(open[2].id), 1).await.unwrap()), ["b 🦀'"]);
    assert_eq!(keys(&gate.events_of_change(&source, 7, 9).await.unwrap()), ["a"]);

    store.acquire_leadership().await.unwrap();
    let deposed = gate.receive(epoch, &source, at(4), &[event("late", None)], &cursor("4")).await;
    assert!(is_deposed(&deposed), "{deposed:?}");
    assert_eq!(gate.cursors(&source).await.unwrap()["events"], "3");
    assert_eq!(gate.unconsumed().await.unwrap().len(), 3);
}

pub(crate) async fn old_events_are_removed(database: &Database) {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let gate = store.gate();
    let source = "gerrit".into();
    let mut ids = Vec::new();
    for (time, key) in [(1, "handled"), (2, "aside"), (3, "open"), (4, "handled too"), (9, "young")] {
        ids.push(gate.receive(epoch, &source, at(time), &[event(key, Some(7))], &[]).await.unwrap()[0].id);
    }
    let mut batch = Batch::default();
    for handled in [0, 3, 4] {
        batch.consumed(ids[handled], "{}".to_owned(), None);
    }
    store.commit(epoch, &batch).await.unwrap();
    gate.park(epoch, ids[1], "it cannot be read").await.unwrap();
    let left = async || {
        let events = gate.events_after(EventId(0), 9).await.unwrap();
        events.into_iter().map(|event| event.dedupe_key).collect::<Vec<_>>()
    };
    assert_eq!(gate.prune_events(epoch, at(9), 1).await.unwrap(), 1);
    assert_eq!(
        left().await,
        ["aside", "open", "handled too", "young"],
        "the oldest first, and no more than asked"
    );
    assert_eq!(gate.prune_events(epoch, at(9), 100).await.unwrap(), 2);
    assert_eq!(left().await, ["open", "young"], "what waits stays, however old it is");
    assert_eq!(gate.prune_events(epoch, at(9), 100).await.unwrap(), 0);
    let new = gate.receive(epoch, &source, at(10), &[event("new", None)], &[]).await.unwrap();
    assert!(new[0].id > ids[4], "no number is given twice");
    store.acquire_leadership().await.unwrap();
    assert!(is_deposed(&gate.prune_events(epoch, at(20), 100).await));
    assert_eq!(left().await, ["open", "young", "new"]);
}

pub(crate) async fn reports_wait_until_they_are_delivered(database: &Database) {
    let reports = [report(2, 1), report(1, 2), report(1, 1)].map(|report| GateRow::Report(Box::new(report)));
    let store = store(database, reports.clone()).await;
    let epoch = store.acquire_leadership().await.unwrap();
    let gate = store.gate();
    let open = gate.undelivered().await.unwrap();
    let ids: Vec<_> = open.iter().map(|stored| (stored.report.id.0.0, stored.report.id.1)).collect();
    assert_eq!(ids, [(1, 1), (1, 2), (2, 1)]);
    assert_eq!(open[2].report, report(2, 1));

    let later = Tried::Later { at: at(30), error: "no answer".to_owned() };
    gate.report_tried(epoch, (ItemId(1), 1), &later).await.unwrap();
    let done = Tried::Done { at: at(40), note: Some("staging".to_owned()) };
    gate.report_tried(epoch, (ItemId(1), 2), &done).await.unwrap();
    gate.report_tried(epoch, (ItemId(2), 1), &Tried::Never { error: "no such host".to_owned() })
        .await
        .unwrap();
    // The same report again is the same report.
    let mut batch = Batch::default();
    for row in reports {
        batch.push_gate(row);
    }
    store.commit(epoch, &batch).await.unwrap();
    let open = gate.undelivered().await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].attempts, open[0].next_try), (1, Some(at(30))));
    let keys = gate.undelivered_keys().await.unwrap();
    assert_eq!(keys, [WaitingReport { id: (ItemId(1), 1), attempts: 1, next_try: Some(at(30)) }]);
    assert_eq!(gate.report((ItemId(1), 1)).await.unwrap().as_ref(), Some(&open[0]));
    assert_eq!(gate.report((ItemId(9), 1)).await.unwrap(), None);
    assert_eq!(open[0].note.as_deref(), Some("no answer"));
    let of_item = gate.reports_of_item(ItemId(1)).await.unwrap();
    assert_eq!((of_item[1].state, of_item[1].ended_at), (EntryState::Delivered, Some(at(40))));
    assert_eq!(gate.reports_of_item(ItemId(2)).await.unwrap()[0].state, EntryState::Refused);
    // They are entries of the outbox like all others: seen, told again and given up there.
    let outbox = store.outbox();
    let entries = outbox.entries(&EntryFilter { limit: 10, ..EntryFilter::default() }).await.unwrap();
    let shown: Vec<_> = entries
        .iter()
        .map(|one| (one.target.as_str(), one.key.as_str(), one.kind.as_str(), one.state))
        .collect();
    assert_eq!(
        shown,
        [
            ("gate/db", "2.1", "gate.sql", EntryState::Refused),
            ("gate/db", "1.2", "gate.sql", EntryState::Delivered),
            ("gate/db", "1.1", "gate.sql", EntryState::Waiting),
        ]
    );
    let tally = outbox.target_tallies().await.unwrap().pop().unwrap();
    assert_eq!((tally.waiting, tally.delivered, tally.refused, tally.attempts), (1, 1, 1, 1));
    let ids: Vec<i64> = entries.iter().map(|one| one.id).collect();
    assert_eq!(outbox.retry_entries(epoch, &ids).await.unwrap().len(), 2, "what is told stays so");
    assert_eq!(gate.undelivered().await.unwrap().len(), 2);
    assert_eq!(outbox.drop_entries(epoch, &ids[..1], "ann", at(50)).await.unwrap(), ids[..1]);
    assert_eq!(gate.reports_of_item(ItemId(2)).await.unwrap()[0].state, EntryState::Dropped);
    assert_eq!(outbox.prune_entries(epoch, at(90), 10).await.unwrap(), 0, "an item's history is kept");
    store.acquire_leadership().await.unwrap();
    assert!(is_deposed(&gate.report_tried(epoch, (ItemId(1), 1), &done).await));
}

pub(crate) async fn receipts(database: &Database) {
    let store = store(database, []).await;
    let epoch = store.acquire_leadership().await.unwrap();
    let gate = store.gate();
    let receipt = StoredReceipt {
        project: "a/b".into(),
        branch: "master".into(),
        commit: "33".into(),
        item: ItemId(1),
        body: "{}".to_owned(),
        signed_at: at(1),
        published_at: None,
        attempts: 0,
        last_error: None,
    };
    gate.save_receipt(epoch, &receipt).await.unwrap();
    gate.save_receipt(epoch, &StoredReceipt { body: "another".to_owned(), ..receipt.clone() }).await.unwrap();
    assert_eq!(gate.unpublished().await.unwrap(), ["a/b".into()]);
    let open = async || gate.unpublished_of(&"a/b".into(), 9).await.unwrap();
    assert_eq!(open().await, std::slice::from_ref(&receipt));
    assert_eq!(gate.unpublished_of(&"a/c".into(), 9).await.unwrap(), []);
    let later = Tried::Later { at: at(2), error: "unreachable".to_owned() };
    let all = std::slice::from_ref(&receipt);
    gate.receipts_tried(epoch, all, &later).await.unwrap();
    assert_eq!(open().await[0].last_error.as_deref(), Some("unreachable"));
    gate.receipts_tried(epoch, all, &Tried::Done { at: at(3), note: None }).await.unwrap();
    assert_eq!((open().await, gate.unpublished().await.unwrap()), (vec![], vec![]));
    let found = gate.receipt(&receipt.project, &receipt.branch, &receipt.commit).await.unwrap().unwrap();
    assert_eq!((found.published_at, found.attempts, found.body.as_str()), (Some(at(3)), 2, "{}"));
    assert_eq!(gate.receipts_of_item(ItemId(1)).await.unwrap(), [found]);
    assert_eq!(gate.receipt(&receipt.project, &"stable".into(), &receipt.commit).await.unwrap(), None);
}

pub(crate) async fn builds_lead_to_jobs(database: &Database) {
    let store = store(database, []).await;
    let epoch = store.acquire_leadership().await.unwrap();
    let mut state = State::new(Timing::default(), START);
    let uuid = Uuid(0xabc);
    let built =
        job(&[("TEST", "unit"), ("ZUUL_UUID", &uuid.to_string()), ("LOG_PATH", "07/7/2/gate/unit/0000000")]);
    let again = job(&[("TEST", "unit"), ("ZUUL_UUID", "other"), ("LOG_PATH", "07/7/2/gate/unit/0000000")]);
    let mut batch = Batch::default();
    for effect in
        state.step(Input::PostJobs { jobs: vec![built, again, job(&[("TEST", "x")])] }, START).effects
    {
        if let Effect::Save(row) = effect {
            batch.push(*row);
        }
    }
    store.commit(epoch, &batch).await.unwrap();
    store.commit(epoch, &batch).await.unwrap();
    assert_eq!(store.gate().job_of_build(uuid).await.unwrap(), Some(JobId(1)));
    assert_eq!(store.gate().job_of_build(Uuid(1)).await.unwrap(), None);
    let found = store.gate().job_of_log_path("07/7/2/gate/unit/0000000").await.unwrap();
    assert_eq!(found, Some(JobId(2)), "the newest");
    assert_eq!(store.gate().job_of_log_path("07/7").await.unwrap(), None);
}
