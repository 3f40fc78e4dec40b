//! What is to be told: with what decides it, in order, once.

use crate::database::{Database, START, is_deposed};
use assay_engine::ids::Timestamp;
use assay_store::{
    Batch, DecisionRow, EntryFilter, EntryState, NUMBER, NewEntry, NumberOf, OutboxStore, Tried, Waiver,
};

fn entry(target: &str, key: &str) -> NewEntry {
    NewEntry {
        target: target.to_owned(),
        key: key.to_owned(),
        kind: "job.done".to_owned(),
        about: "job 7".to_owned(),
        body: "{\"a\":\"'é\"}".to_owned(),
        at: START,
        due: None,
        numbered: None,
    }
}

fn at(seconds: i64) -> Timestamp {
    START.plus_seconds(seconds)
}

async fn keys(outbox: &dyn OutboxStore, target: &str) -> Vec<String> {
    outbox.next_entries(target, 100).await.unwrap().into_iter().map(|one| one.key).collect()
}

pub(crate) async fn entries_are_told_once_and_in_order(database: &Database) {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let outbox = store.outbox();
    let mut batch = Batch::default();
    for key in ["1", "2", "1", "3"] {
        batch.tell(entry("bus", key));
    }
    batch.tell(NewEntry { due: Some(at(9)), ..entry("mail", "1") });
    store.commit(epoch, &batch).await.unwrap();
    outbox.add_entries(epoch, &[entry("bus", "2"), entry("bus", "4")]).await.unwrap();
    assert_eq!(keys(outbox, "bus").await, ["1", "2", "3", "4"], "what is known changes nothing");
    let of_mail = outbox.target_tallies().await.unwrap().pop().unwrap();
    assert_eq!((of_mail.oldest, of_mail.due), (Some(START), Some(at(9))), "it waits on purpose until then");
    let mail = outbox.next_entries("mail", 5).await.unwrap().remove(0);
    assert_eq!((mail.next_try, mail.attempts, mail.state), (Some(at(9)), 0, EntryState::Waiting));
    assert_eq!(mail.body, "{\"a\":\"'é\"}");

    let ids: Vec<i64> = outbox.next_entries("bus", 9).await.unwrap().iter().map(|one| one.id).collect();
    let note = Some("staging".to_owned());
    let tried = [
        (ids[0], Tried::Done { at: at(1), note }),
        (ids[1], Tried::Later { at: at(5), error: "no answer".to_owned() }),
        (ids[2], Tried::Never { error: "no such topic".to_owned() }),
    ];
    outbox.entries_tried(epoch, &tried).await.unwrap();
    assert_eq!(keys(outbox, "bus").await, ["2", "4"]);
    let tallies = outbox.target_tallies().await.unwrap();
    let bus = &tallies[0];
    assert_eq!((bus.target.as_str(), bus.waiting, bus.attempts), ("bus", 2, 1));
    assert_eq!((bus.delivered, bus.refused, bus.oldest, bus.last), (1, 1, Some(START), Some(at(1))));

    let refused = EntryFilter { state: Some(EntryState::Refused), limit: 9, ..EntryFilter::default() };
    let refused = outbox.entries(&refused).await.unwrap();
    assert_eq!((refused.len(), refused[0].note.as_deref()), (1, Some("no such topic")));
    assert_eq!(outbox.retry_entries(epoch, &[ids[0], ids[2], 999]).await.unwrap(), [ids[2]]);
    assert_eq!(keys(outbox, "bus").await, ["2", "3", "4"], "again, at its place");
    assert_eq!(outbox.drop_entries(epoch, &[ids[1], ids[0]], "alice", at(2)).await.unwrap(), [ids[1]]);
    let dropped = outbox.entry(ids[1]).await.unwrap().unwrap();
    assert_eq!((dropped.state, dropped.note.as_deref()), (EntryState::Dropped, Some("given up by alice")));
    outbox.entries_tried(epoch, &[(ids[1], Tried::Done { at: at(3), note: None })]).await.unwrap();
    assert_eq!(outbox.entry(ids[1]).await.unwrap().unwrap().state, EntryState::Dropped, "it came too late");
    assert_eq!(outbox.prune_entries(epoch, at(2), 9).await.unwrap(), 1);
    assert_eq!(outbox.entry(ids[0]).await.unwrap(), None);

    // What was not sent is told no more by itself, and can be told later.
    let skipped = Tried::Skipped { at: at(4), note: "not sent".to_owned() };
    outbox.entries_tried(epoch, &[(ids[2], skipped.clone())]).await.unwrap();
    assert_eq!(keys(outbox, "bus").await, ["4"]);
    let bus = outbox.target_tallies().await.unwrap().remove(0);
    assert_eq!((bus.delivered, bus.skipped, bus.last), (0, 1, None));
    assert_eq!(outbox.retry_entries(epoch, &[ids[2]]).await.unwrap(), [ids[2]]);
    outbox.entries_tried(epoch, &[(ids[2], skipped)]).await.unwrap();
    let found = outbox.entry(ids[2]).await.unwrap().unwrap();
    assert_eq!((found.state, found.ended_at), (EntryState::Skipped, Some(at(4))));
    assert_eq!(outbox.prune_entries(epoch, at(5), 1).await.unwrap(), 1);

    assert_eq!(outbox.waiting_targets("b").await.unwrap(), ["bus"]);
    assert_eq!(outbox.waiting_targets("").await.unwrap(), ["bus", "mail"]);
    outbox.put_notices(epoch, "ann", Some("{}"), START).await.unwrap();
    outbox.put_notices(epoch, "ann", Some("[]"), at(1)).await.unwrap();
    outbox.put_notices(epoch, "bob", Some("{}"), START).await.unwrap();
    outbox.put_notices(epoch, "bob", None, START).await.unwrap();
    assert_eq!(outbox.notices().await.unwrap(), [("ann".to_owned(), "[]".to_owned())]);

    let other = database.open().await;
    other.acquire_leadership().await.unwrap();
    assert!(is_deposed(&outbox.add_entries(epoch, &[entry("bus", "5")]).await));
    assert!(is_deposed(&outbox.retry_entries(epoch, &ids).await.map(drop)));
}

pub(crate) async fn what_is_told_has_the_number_that_was_given(database: &Database) {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let waiver = Waiver { testcase: "t".into(), username: "u".into(), at: START, ..Waiver::default() };
    let told = |after| NewEntry {
        key: format!("waiver/{NUMBER}"),
        body: format!("{{\"id\":{NUMBER}}}"),
        numbered: Some((NumberOf::Waivers, after)),
        ..entry("bus", "")
    };
    let both = [waiver.clone(), waiver];
    let ids = store.results().add_told_waivers(epoch, &both, &[told(1), told(0)]).await.unwrap();
    let entries = store.outbox().next_entries("bus", 9).await.unwrap();
    let found: Vec<_> = entries.iter().map(|one| (one.key.clone(), one.body.clone())).collect();
    let wanted: Vec<_> = ids.iter().map(|id| (format!("waiver/{id}"), format!("{{\"id\":{id}}}"))).collect();
    assert_eq!(found, wanted);

    let decision = |body: &str| DecisionRow {
        at: START,
        subject_type: "compose".into(),
        subject_identifier: "c".into(),
        body: body.into(),
        ..DecisionRow::default()
    };
    let results = store.results();
    for (body, before, key, new) in [("[1]", 0, "a", true), ("[2]", 0, "b", false), ("[3]", 1, "c", true)] {
        let told = [entry("decisions", key)];
        let stored = results.remember_decision(epoch, &decision(body), before, &told).await.unwrap();
        assert_eq!(stored, new, "{body}");
    }
    assert_eq!(keys(store.outbox(), "decisions").await, ["a", "c"]);
}
