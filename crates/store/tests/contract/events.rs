//! Events, and what rules want of them.

use crate::database::{Database, Driver, START, is_deposed, test_job};
use assay_engine::ids::Timestamp;
use assay_engine::job::{End, JobState};
use assay_engine::outcome::Outcome;
use assay_engine::reason::EndReason;
use assay_engine::rows::Row;
use assay_engine::rules::{BatchKey, Item, Planned, PlannedEffect};
use assay_store::{
    Batch, EffectState, EffectsDone, Matched, MessageFilter, MessageSource, MessageState, NewMessage,
    PANICKED, SourceRole,
};
use std::collections::BTreeMap;

const FEDORA: MessageSource<'static> = MessageSource { name: "fedora", bus: "fedora", role: SourceRole::Bus };

fn message(key: &str, body: &str) -> NewMessage {
    NewMessage {
        dedupe_key: key.to_owned(),
        topic: "org.x.Update".to_owned(),
        headers: "{}".to_owned(),
        body: body.to_owned(),
        sent_at: Some(START),
        parked: None,
        news: None,
        news_since: None,
    }
}

fn planned(key: &str, batch: Option<i64>) -> Planned {
    Planned {
        key: key.to_owned(),
        rule: "r".to_owned(),
        item: Some(Item { kind: "koji_build".to_owned(), id: "a-1-1".to_owned(), revision: String::new() }),
        batch: batch.map(|seconds| BatchKey { by: "tag".to_owned(), window: seconds * 1_000_000 }),
        limit: None,
        force: None,
        effect: PlannedEffect::Job {
            settings: BTreeMap::from([("TEST".into(), "t".into())]),
            priority: None,
        },
    }
}

fn matched(event: i64, effects: Vec<Planned>) -> Matched {
    Matched { event, caused: "{}".to_owned(), parked: false, failed: Vec::new(), effects }
}

/// Whatever the clock says: that of the second job is two hours behind that of the first.
pub(crate) async fn ends_are_in_the_order_of_commits(database: &Database) {
    let mut driver = Driver::start(database).await;
    let store = driver.store.clone();
    let events = store.events();
    let before = events.last_commit().await.unwrap();
    assert_eq!(events.ended_jobs((before, i64::MAX), 9).await.unwrap(), []);
    let jobs = driver.post(["a", "b", "c"].map(test_job).to_vec()).await;
    let mut ends = Vec::new();
    for (job, at) in [(jobs[2], 7_200), (jobs[0], 0), (jobs[1], 7_300)] {
        let mut row = driver.store.job(job).await.unwrap().unwrap().row;
        let at = START.plus_seconds(at);
        row.state = JobState::Done(End::with(Outcome::Passed, EndReason::Reported { text: None }, at));
        let mut batch = Batch::default();
        batch.push(Row::Job(row.clone()));
        driver.store.commit(driver.epoch, &batch).await.unwrap();
        // What is said of it later does not make it end again.
        row.priority += 1;
        let mut batch = Batch::default();
        batch.push(Row::Job(row));
        driver.store.commit(driver.epoch, &batch).await.unwrap();
        ends.push((job, at));
    }
    let told = events.ended_jobs((before, i64::MAX), 9).await.unwrap();
    assert_eq!(told.iter().map(|one| (one.job, one.at)).collect::<Vec<_>>(), ends);
    for (number, one) in told.iter().enumerate() {
        let rest = events.ended_jobs((one.commit, one.job.0), 9).await.unwrap();
        assert_eq!(rest, told[number + 1..]);
    }
    assert_eq!(events.ended_jobs((before, i64::MAX), 1).await.unwrap(), told[..1]);
    assert!(events.last_commit().await.unwrap() > told[2].commit);
}

pub(crate) async fn the_same_message_is_stored_once(database: &Database) {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let events = store.events();
    let many: Vec<_> = (0..70).map(|n| message(&format!("k{n}"), "{}")).collect();
    let cursor = [("seen".to_owned(), Some("70".to_owned()))];
    assert_eq!(events.receive_messages(epoch, &FEDORA, START, &many, &cursor).await.unwrap(), 70);
    let backing = MessageSource { name: "datagrepper", bus: "fedora", role: SourceRole::Backs };
    let again = [many[3].clone(), message("new", "{\"A\": 1}"), many[69].clone(), message("new", "{}")];
    assert_eq!(events.receive_messages(epoch, &backing, START, &again, &[]).await.unwrap(), 1);
    let other = MessageSource { bus: "other", ..FEDORA };
    assert_eq!(
        events.receive_messages(epoch, &other, START, &many[..1], &[]).await.unwrap(),
        1,
        "another bus"
    );
    let poison = NewMessage { parked: Some("no JSON".to_owned()), ..message("bad", "\u{fffd}") };
    assert_eq!(events.receive_messages(epoch, &FEDORA, START, &[poison], &[]).await.unwrap(), 1);
    assert_eq!(events.message_cursors("fedora").await.unwrap()["seen"], "70");

    let list = |filter: MessageFilter| async move { events.messages(&filter).await.unwrap() };
    let all = list(MessageFilter { limit: 100, ..MessageFilter::default() }).await;
    assert_eq!(all.len(), 73);
    assert!(all.is_sorted_by(|a, b| a.id > b.id));
    let led = list(MessageFilter { led: true, limit: 100, ..MessageFilter::default() }).await;
    assert_eq!(led.len(), 0, "no rule has seen them");
    let parked = MessageFilter { state: Some(MessageState::Parked), limit: 9, ..MessageFilter::default() };
    assert_eq!(list(parked).await[0].message.parked.as_deref(), Some("no JSON"));
    let found = MessageFilter { text: Some("\"a\"".to_owned()), limit: 9, ..MessageFilter::default() };
    assert!(list(found).await[0].recovered);
    let of_source =
        MessageFilter { source: Some("datagrepper".to_owned()), limit: 9, ..MessageFilter::default() };
    assert_eq!(list(of_source).await.len(), 1);
    let tallies = events.source_tallies().await.unwrap();
    let counts: Vec<_> =
        tallies.iter().map(|t| (t.source.as_str(), t.messages, t.recovered, t.parked, t.known)).collect();
    assert_eq!(counts, [("datagrepper", 1, 1, 0, 3), ("fedora", 72, 0, 1, 0)]);
    assert_eq!(events.message_id("fedora", "k0").await.unwrap(), Some(all.last().unwrap().id));

    store.acquire_leadership().await.unwrap();
    let late = events.receive_messages(epoch, &FEDORA, START, &[message("late", "{}")], &[]).await;
    assert!(is_deposed(&late.map(drop)));
    store.close().await;
}

pub(crate) async fn what_a_bus_has_lost_is_counted(database: &Database) {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let events = store.events();
    let telling = |key: &str, news: &str| NewMessage { news: Some(news.to_owned()), ..message(key, "{}") };
    let bus = MessageSource { role: SourceRole::Backed, ..FEDORA };
    let grepper = MessageSource { name: "grepper", bus: "fedora", role: SourceRole::Backs };
    let koji = MessageSource { name: "koji", bus: "fedora", role: SourceRole::Reconciles };
    let give = async |source: &MessageSource<'_>, messages: &[NewMessage]| {
        events.receive_messages(epoch, source, START, messages, &[]).await.unwrap()
    };
    let recovered = async || {
        let tallies = events.source_tallies().await.unwrap();
        tallies.into_iter().map(|tally| (tally.source, tally.recovered)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(
        give(&bus, &[telling("uuid-1", "build 1"), telling("uuid-2", "build 1")]).await,
        2,
        "told twice"
    );
    // What the bus has told in a message of its own is no news; what it has not told is.
    let polled = [telling("koji-1", "build 1"), telling("koji-2", "build 2"), telling("koji-3", "build 3")];
    assert_eq!(give(&koji, &polled).await, 2);
    assert_eq!(give(&koji, &polled).await, 0);
    assert_eq!(give(&grepper, &[telling("uuid-1", "build 1"), telling("uuid-4", "build 1")]).await, 1);
    assert_eq!(recovered().await["koji"], 2);
    assert_eq!(recovered().await["grepper"], 1);
    // The bus was only late, in one way and in the other.
    assert_eq!(give(&bus, &[telling("uuid-3", "build 3"), message("uuid-4", "{}")]).await, 1);
    assert_eq!(
        recovered().await,
        [("fedora", 0), ("grepper", 0), ("koji", 1)].map(|(name, count)| (name.to_owned(), count)).into()
    );
    let other = MessageSource { name: "koji", bus: "koji", role: SourceRole::Bus };
    assert_eq!(give(&other, &[telling("koji-1", "build 1")]).await, 1, "another bus");
    let many: Vec<_> = (0..450).map(|n| telling(&format!("m{n}"), &format!("n{n}"))).collect();
    assert_eq!(give(&koji, &many).await, 450);
    assert_eq!(give(&bus, &many).await, 0, "the very same messages");
    assert_eq!(recovered().await["koji"], 1);
    store.close().await;
}

/// A build comes into a tag, leaves it, and comes back an hour later.
pub(crate) async fn what_comes_back_is_news_again(database: &Database) {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let events = store.events();
    let bus = MessageSource { role: SourceRole::Backed, ..FEDORA };
    let koji = MessageSource { name: "koji", bus: "fedora", role: SourceRole::Reconciles };
    let later = START.plus_seconds(3_600);
    let telling = |key: &str, news: &str, sent_at: Option<Timestamp>, at: Timestamp| NewMessage {
        news: Some(news.to_owned()),
        news_since: Some(at.plus_seconds(-600)),
        sent_at,
        ..message(key, "{}")
    };
    let give = async |source: &MessageSource<'_>, at: Timestamp, one: NewMessage| {
        events.receive_messages(epoch, source, at, &[one], &[]).await.unwrap()
    };
    let recovered = async || {
        let tallies = events.source_tallies().await.unwrap();
        tallies.iter().find(|tally| tally.source == "koji").map_or(0, |tally| tally.recovered)
    };
    for (key, news, sent_at) in [("u1", "tag 7", Some(START)), ("u2", "untag 7", None)] {
        assert_eq!(give(&bus, START, telling(key, news, sent_at, START)).await, 1);
        // Found a while later.
        let same = telling(&format!("koji-{key}"), news, Some(START), START);
        assert_eq!(give(&koji, START.plus_seconds(900), same).await, 0, "{key}");
    }
    let back = || telling("koji-u3", "tag 7", Some(later), later);
    assert_eq!(give(&koji, later, back()).await, 1, "the bus has lost it");
    assert_eq!(give(&koji, later, back()).await, 0);
    assert_eq!(recovered().await, 1);
    // What the source has told itself is known by its key, however near it is.
    let soon = later.plus_seconds(60);
    assert_eq!(give(&koji, soon, telling("koji-u5", "tag 7", Some(soon), soon)).await, 1);
    assert_eq!(recovered().await, 2);
    // The bus tells of it for another time, and then after all of these.
    let day = START.plus_seconds(86_400);
    assert_eq!(give(&bus, day, telling("u9", "tag 7", None, day)).await, 1);
    assert_eq!(recovered().await, 2);
    assert_eq!(give(&bus, day, telling("u3", "tag 7", Some(later), later)).await, 1);
    assert_eq!(recovered().await, 0);
    // Each is about a time of its own, and the one that came late about that which was nearest to it.
    let first = async |key: &str| {
        let id = events.message_id("fedora", key).await.unwrap().unwrap();
        events.told_before(id, &["koji"], 600).await.unwrap()
    };
    for key in ["u1", "koji-u3", "koji-u5", "u9"] {
        assert_eq!(first(key).await, None, "{key}");
    }
    let by = |key: &str| Some(("fedora".to_owned(), key.to_owned()));
    assert_eq!(first("u3").await, by("koji-u3"));
    // It comes back soon, and the bus loses the second time: what is stored of that is news of its own.
    let soon = day.plus_seconds(200);
    assert_eq!(give(&bus, day, telling("a0", "tag 8", Some(day), day)).await, 1);
    let apart = NewMessage {
        news_since: Some(day.plus_seconds(100)),
        ..telling("koji-a1", "tag 8", Some(soon), day)
    };
    assert_eq!(give(&koji, soon, apart).await, 1);
    assert_eq!(first("koji-a1").await, None);
    // The bus brings it after all.
    assert_eq!(give(&bus, soon, telling("a1", "tag 8", Some(soon), soon)).await, 1);
    assert_eq!(first("a1").await, by("koji-a1"));
    // It comes back soon, and the poller was only faster the first time: it told of one time, and the bus of both.
    assert_eq!(give(&koji, day, telling("koji-b0", "tag 9", Some(day), day)).await, 1);
    assert_eq!(give(&bus, soon, telling("b0", "tag 9", Some(day), day)).await, 1);
    assert_eq!(give(&bus, soon, telling("b1", "tag 9", Some(soon), soon)).await, 1);
    assert_eq!((first("b0").await, first("b1").await), (by("koji-b0"), None));
    store.close().await;
}

pub(crate) async fn effects_that_wait_are_in_nobodys_way(database: &Database) {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let events = store.events();
    events.receive_messages(epoch, &FEDORA, START, &[message("a", "{}")], &[]).await.unwrap();
    let id = events.unmatched(1).await.unwrap()[0].id;
    let now = |seconds: i64| START.plus_seconds(seconds);
    let of = |rule: &str, key: String| Planned { rule: rule.to_owned(), ..planned(&key, None) };
    let many: Vec<Planned> = (0..300).map(|number| of("many", format!("m{number:03}"))).collect();
    let all = [many.clone(), vec![of("few", "z".to_owned())]].concat();
    events.match_messages(epoch, now(0), &[matched(id, all)]).await.unwrap();
    let keys: Vec<String> = many.iter().map(|one| one.key.clone()).collect();
    events.postpone_effects(epoch, &keys, now(60), "{\"why\":\"Koji is away\"}").await.unwrap();
    let due = |found: Vec<assay_store::StoredEffect>| -> Vec<String> {
        found.into_iter().map(|one| one.planned.key).collect()
    };
    assert_eq!(due(events.due_effects(now(1), 10).await.unwrap()), ["z"]);
    let later = events.due_effects(now(60), 400).await.unwrap();
    assert_eq!((later.len(), later[1].caused.as_deref()), (301, Some("{\"why\":\"Koji is away\"}")));

    let done = |keys: Vec<String>, state| EffectsDone { keys, state, caused: "{}".to_owned() };
    let held = [keys.clone(), vec!["z".to_owned()]].concat();
    events.settle_effects(epoch, &[done(held, EffectState::Held)]).await.unwrap();
    assert_eq!(due(events.held_effects(2).await.unwrap()), ["m000", "m001", "z"]);
    // What is held may have to wait for something else than jobs of its rule.
    events.postpone_effects(epoch, &["m001".to_owned()], now(65), "{}").await.unwrap();
    assert_eq!(due(events.held_effects(2).await.unwrap()), ["m000", "m002", "z"]);
    assert_eq!(due(events.due_effects(now(65), 10).await.unwrap()), ["m001"]);

    events.settle_effects(epoch, &[done(vec!["z".to_owned()], EffectState::Refused)]).await.unwrap();
    let some = ["z".to_owned(), "m000".to_owned()];
    assert_eq!(events.reopen_effects(epoch, &some, now(70)).await.unwrap(), 1);
    let open = events.effects_by_key(&some[..1]).await.unwrap();
    assert_eq!((open[0].state, open[0].due_at, &open[0].caused), (EffectState::Waiting, now(70), &None));
    store.close().await;
}

pub(crate) async fn effects_happen_once(database: &Database) {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let events = store.events();
    let three = [message("a", "{}"), message("b", "{}"), message("c", "{}")];
    events.receive_messages(epoch, &FEDORA, START, &three, &[]).await.unwrap();
    let ids: Vec<i64> = events.unmatched(10).await.unwrap().iter().map(|event| event.id).collect();
    let now = |seconds: i64| START.plus_seconds(seconds);
    let both = [
        matched(ids[0], vec![planned("x", None), planned("y", None)]),
        matched(ids[1], vec![planned("x", None)]),
    ];
    events.match_messages(epoch, now(1), &both).await.unwrap();
    let due = events.due_effects(now(1), 10).await.unwrap();
    let keys: Vec<_> = due.iter().map(|effect| (effect.planned.key.as_str(), effect.event)).collect();
    assert_eq!(keys, [("x", ids[0]), ("y", ids[0])]);
    assert_eq!(events.unmatched(10).await.unwrap().len(), 1);

    let done = |keys: &[&str], state| EffectsDone {
        keys: keys.iter().map(ToString::to_string).collect(),
        state,
        caused: "{\"jobs\":[1]}".to_owned(),
    };
    let mut batch = Batch::default();
    batch.carried_out(done(&["x"], EffectState::Done));
    store.commit(epoch, &batch).await.unwrap();
    events.settle_effects(epoch, &[done(&["x", "y"], EffectState::Held)]).await.unwrap();
    let states = |effects: Vec<assay_store::StoredEffect>| -> Vec<EffectState> {
        effects.iter().map(|one| one.state).collect()
    };
    assert_eq!(states(events.effects_of(&ids).await.unwrap()), [EffectState::Done, EffectState::Held]);
    assert_eq!(events.held_effects(5).await.unwrap().len(), 1);

    // The same again changes nothing: the effect is done.
    assert!(events.replay(epoch, ids[0], false).await.unwrap());
    events.match_messages(epoch, now(2), &both[..1]).await.unwrap();
    assert_eq!(events.due_effects(now(9), 10).await.unwrap().len(), 0);
    assert!(events.replay(epoch, ids[0], true).await.unwrap());
    assert_eq!(events.message(ids[0]).await.unwrap().unwrap().generation, 1);
    assert!(!events.replay(epoch, 99_999, true).await.unwrap());
    // What a rule broke over can be seen again; what cannot be read cannot.
    for (why, again) in [(format!("{PANICKED}; report it"), true), ("not JSON".to_owned(), false)] {
        let parked = Matched { caused: why, parked: true, ..matched(ids[0], Vec::new()) };
        events.match_messages(epoch, now(3), &[parked]).await.unwrap();
        assert_eq!(events.replay(epoch, ids[0], false).await.unwrap(), again);
    }

    // The first of a window says when it ends.
    events.match_messages(epoch, now(10), &[matched(ids[2], vec![planned("w1", Some(60))])]).await.unwrap();
    events.match_messages(epoch, now(50), &[matched(ids[2], vec![planned("w2", Some(60))])]).await.unwrap();
    let due: Vec<Timestamp> =
        events.due_effects(now(70), 10).await.unwrap().iter().map(|one| one.due_at).collect();
    assert_eq!(due, [now(70), now(70)]);
    assert_eq!(events.next_effect(now(69)).await.unwrap(), Some(now(70)));
    assert_eq!(events.next_effect(now(70)).await.unwrap(), None, "what is due is not what comes next");
    let parts = [planned("w1/a", None), planned("x", None)];
    let split = done(&["w1", "w2"], EffectState::Done);
    events.expand_effect(epoch, now(80), ids[2], &split, &parts).await.unwrap();
    let due = events.due_effects(now(80), 10).await.unwrap();
    assert_eq!(due.iter().map(|one| one.planned.key.as_str()).collect::<Vec<_>>(), ["w1/a"]);
    assert_eq!(events.effects_by_key(&["x".to_owned(), "nothing".to_owned()]).await.unwrap().len(), 1);
    let hits = events.rule_hits().await.unwrap();
    assert_eq!((hits[0].rule.as_str(), hits[0].effects, hits[0].last), ("r", 5, Some(now(80))));
    store.close().await;
}

/// What a server that was staging wrote down is done once it is live; so is what comes of it in a window.
pub(crate) async fn what_was_only_written_down_is_done_later(database: &Database) {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let events = store.events();
    events
        .receive_messages(epoch, &FEDORA, START, &[message("a", "{}"), message("b", "{}")], &[])
        .await
        .unwrap();
    let ids: Vec<i64> = events.unmatched(10).await.unwrap().iter().map(|event| event.id).collect();
    let now = |seconds: i64| START.plus_seconds(seconds);
    let logged = |keys: &[&str]| EffectsDone {
        keys: keys.iter().map(ToString::to_string).collect(),
        state: EffectState::Logged,
        caused: "{\"staging\":\"so\"}".to_owned(),
    };
    // The same twice in one message is one.
    let all = || vec![planned("x", None), planned("x", None), planned("w", Some(60))];
    events.match_messages(epoch, now(1), &[matched(ids[0], all())]).await.unwrap();
    events.settle_effects(epoch, &[logged(&["x", "w"])]).await.unwrap();
    assert_eq!(events.next_effect(START).await.unwrap(), None);

    let corrected = Planned { limit: Some(3), ..planned("x", None) };
    let again = matched(ids[1], vec![corrected.clone(), planned("w", Some(60))]);
    events.match_messages(epoch, now(100), &[again]).await.unwrap();
    let due = events.due_effects(now(200), 10).await.unwrap();
    let found: Vec<_> =
        due.iter().map(|one| (one.planned.key.as_str(), one.due_at, one.at, &one.caused)).collect();
    assert_eq!(found, [("x", now(100), now(100), &None), ("w", now(160), now(100), &None)]);
    assert_eq!(events.rule_hits().await.unwrap()[0].last, Some(now(100)), "the rule had something to do");
    assert_eq!((&due[0].planned, due[0].event), (&corrected, ids[0]), "as it is planned now");

    // Somebody asks for it.
    events.settle_effects(epoch, &[logged(&["x"])]).await.unwrap();
    let both = ["w".to_owned(), "x".to_owned()];
    assert_eq!(events.reopen_effects(epoch, &both, now(300)).await.unwrap(), 1);
    let at = async || {
        let mut found = events.effects_by_key(&both).await.unwrap();
        found.sort_by(|a, b| a.planned.key.cmp(&b.planned.key));
        found.iter().map(|one| one.at).collect::<Vec<_>>()
    };
    assert_eq!(at().await, [now(100), now(300)]);
    // What was refused was wanted when it was.
    let refused = EffectsDone { state: EffectState::Refused, ..logged(&["w"]) };
    events.settle_effects(epoch, &[refused]).await.unwrap();
    assert_eq!(events.reopen_effects(epoch, &both, now(400)).await.unwrap(), 1);
    assert_eq!(at().await, [now(100), now(300)]);
    store.close().await;
}

pub(crate) async fn rules_that_fail_are_counted(database: &Database) {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let events = store.events();
    events.receive_messages(epoch, &FEDORA, START, &[message("a", "{}")], &[]).await.unwrap();
    let id = events.unmatched(1).await.unwrap()[0].id;
    let failing = |rules: &[&str], effects| Matched {
        failed: rules.iter().map(ToString::to_string).collect(),
        ..matched(id, effects)
    };
    let two = [failing(&["never"], Vec::new()), failing(&["never", "r"], vec![planned("x", None)])];
    events.match_messages(epoch, START, &two).await.unwrap();
    let later = START.plus_seconds(9);
    events.match_messages(epoch, later, &[failing(&["never"], Vec::new())]).await.unwrap();
    let hits = events.rule_hits().await.unwrap();
    let counts: Vec<_> =
        hits.iter().map(|one| (one.rule.as_str(), one.effects, one.failed, one.last_failed)).collect();
    assert_eq!(counts, [("r", 1, 1, Some(START)), ("never", 0, 3, Some(later))]);
    store.close().await;
}
