//! Events arrive, every one, once.

use crate::common::{Memory, Running, World};
use assay_connect::gerrit::Link;
use assay_engine::gate::ids::Patchset;
use assay_engine::ids::Timestamp;
use assay_fakes::gerrit::{Mishap, Numbers, Trouble, Upload};
use assay_proto::clock::ManualClock;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_arrives_whatever_the_version() {
    for numbers in [Numbers::Strings, Numbers::Integers] {
        let world = World::new(numbers).await;
        let (gerrit, memory) = (world.client(false, |_| {}), Memory::new());
        let running = Running::start(&gerrit, &memory);
        world.fake.until_streams(1).await.expect("a stream");
        running.until_looks(2).await;
        let fake = &world.fake;
        let one = world.upload("org/a", "one").await;
        fake.comment("carol", one.number, "recheck").await.expect("a comment");
        fake.vote("carol", one.number, &[("Code-Review", 2)]).await.expect("a vote");
        fake.abandon("alice", one.number).await.expect("abandoned");
        fake.restore("alice", one.number).await.expect("restored");
        let again = Upload::new("org/a", "master", "one", "one", "2\n").version_of(one.number);
        fake.upload("alice", &again).await.expect("a patchset");
        world.approve(one.number).await;
        fake.submit("ci", one.number).await.expect("merged");
        let tip = fake.tip("org/b", "master").await.expect("a tip");
        fake.branch("org/b", "stable", &tip).await.expect("a branch");
        memory.until_word("ref-updated org/b:stable").await;
        let number = one.number;
        let expected = [
            format!("patchset-created {number},1"),
            format!("comment-added {number},1 recheck"),
            format!("comment-added {number},1 Patch Set 1: Code-Review+2"),
            format!("change-abandoned {number},1"),
            format!("change-restored {number},1"),
            format!("patchset-created {number},2"),
            format!("comment-added {number},2 Patch Set 2: Verified+2"),
            format!("change-merged {number},2"),
            "ref-updated org/a:master".to_owned(),
            "ref-updated org/b:stable".to_owned(),
        ];
        for word in &expected {
            assert_eq!(memory.count_of(word), 1, "{word} in {:#?}", memory.words());
        }
        let events = memory.events();
        let vote = events.iter().find(|event| !event.approvals.is_empty()).expect("a vote");
        assert_eq!(
            (vote.approvals[0].clone(), vote.by.username.as_deref()),
            (("Code-Review".to_owned(), 2), Some("carol"))
        );
        // Looking finds all of it again, and nothing new.
        let before = memory.words();
        running.look().await;
        assert_eq!(memory.words(), before);
        assert!(matches!(running.health.borrow().link, Link::Up { .. }));
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_the_stream_is_down() {
    for (numbers, rest) in [(Numbers::Strings, false), (Numbers::Integers, false), (Numbers::Integers, true)]
    {
        let world = World::new(numbers).await;
        let (gerrit, memory) = (world.client(rest, |_| {}), Memory::new());
        let running = Running::start(&gerrit, &memory);
        world.fake.until_streams(1).await.expect("a stream");
        running.until_looks(2).await;
        let fake = &world.fake;
        let (one, two, three) = (
            world.upload("org/a", "one").await,
            world.upload("org/a", "two").await,
            world.upload("org/b", "three").await,
        );
        fake.comment("carol", one.number, "recheck").await.expect("a comment");
        memory.until_word(&format!("comment-added {},1 recheck", one.number)).await;

        fake.refuse_logins(true);
        fake.close_event_streams();
        running.until(|health| matches!(health.link, Link::Down { .. })).await;
        fake.until_streams(0).await.expect("no stream");
        let again = Upload::new("org/a", "master", "one", "one", "2\n").version_of(one.number);
        fake.upload("alice", &again).await.expect("a patchset");
        fake.review("carol", one.number, &[("Code-Review", -1)], "not yet").await.expect("a review");
        fake.abandon("alice", two.number).await.expect("abandoned");
        fake.restore("alice", two.number).await.expect("restored");
        world.approve(three.number).await;
        fake.submit("ci", three.number).await.expect("merged");
        let four = world.upload("org/b", "four").await;
        fake.abandon("alice", four.number).await.expect("abandoned");
        let tip = fake.tip("org/a", "master").await.expect("a tip");
        fake.branch("org/a", "stable", &tip).await.expect("a branch");
        running.until(|health| matches!(&health.link, Link::Down { tries, why, .. } if *tries > 2 && why.contains("let ci in"))).await;
        fake.refuse_logins(false);

        let (one, two, three, four) = (one.number, two.number, three.number, four.number);
        let expected = [
            format!("patchset-created {one},2"),
            format!("comment-added {one},2 not yet"),
            format!("change-abandoned {two},1"),
            format!("change-restored {two},1"),
            format!("comment-added {three},1 Patch Set 1: Verified+2"),
            format!("change-merged {three},1"),
            format!("patchset-created {four},1"),
            format!("change-abandoned {four},1"),
            "ref-updated org/b:master".to_owned(),
            "ref-updated org/a:stable".to_owned(),
        ];
        for word in &expected {
            memory.until_word(word).await;
        }
        let mut events = memory.events().into_iter();
        let of_one = |change: &Patchset| change.change.number == one;
        let review =
            events.find(|event| !event.approvals.is_empty() && event.change.as_ref().is_some_and(of_one));
        let review = review.expect("a vote");
        assert_eq!(review.approvals, [("Code-Review".to_owned(), -1)]);
        assert!(memory.changed().contains(&one), "its facts are to be read again");
        fake.until_streams(1).await.expect("a stream");
        running.look().await;
        memory.assert_once();
        running.stop().await;

        // A server that starts again goes on where the inbox is.
        let words = memory.words().len();
        fake.comment("carol", one, "while away").await.expect("a comment");
        let running = Running::start(&gerrit, &memory);
        memory.until_word(&format!("comment-added {one},2 while away")).await;
        running.until_looks(2).await;
        memory.assert_once();
        assert_eq!(memory.words().len(), words + 1, "{:#?}", memory.words());
        running.stop().await;
    }
}

/// Gerrit is away for an hour, with events at its beginning and at its end: the look goes back as far as that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_gerrit_is_away_for_an_hour() {
    const MINUTE: i64 = 60_000_000;
    for rest in [false, true] {
        let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000_000)));
        let world = World::at(Numbers::Integers, clock.clone()).await;
        let (gerrit, memory) = (world.client(rest, |_| {}), Memory::new());
        let running = Running::start(&gerrit, &memory);
        let fake = &world.fake;
        fake.until_streams(1).await.expect("a stream");
        running.until_looks(2).await;
        clock.advance(10 * MINUTE);
        let before = world.upload("org/a", "before").await.number;
        memory.until_word(&format!("patchset-created {before},1")).await;

        fake.refuse_logins(true);
        fake.close_event_streams();
        fake.until_streams(0).await.expect("no stream");
        clock.advance(MINUTE);
        let soon = world.upload("org/a", "soon").await.number;
        clock.advance(58 * MINUTE);
        let late = world.upload("org/b", "late").await.number;
        fake.abandon("alice", late).await.expect("abandoned");
        clock.advance(MINUTE);
        fake.refuse_logins(false);
        for word in [
            format!("patchset-created {soon},1"),
            format!("patchset-created {late},1"),
            format!("change-abandoned {late},1"),
        ] {
            memory.until_word(&word).await;
        }
        fake.until_streams(1).await.expect("a stream");
        running.look().await;
        memory.assert_once();
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_dropped_doubled_and_reordered_arrive_once() {
    let world = World::new(Numbers::Integers).await;
    let (gerrit, memory) = (world.client(false, |_| {}), Memory::new());
    let running = Running::start(&gerrit, &memory);
    world.fake.until_streams(1).await.expect("a stream");
    running.until_looks(2).await;
    let fake = &world.fake;
    let one = world.upload("org/a", "one").await.number;
    for (mishap, texts) in [
        (Mishap::Duplicate, ["doubled a", "doubled b"]),
        (Mishap::Reorder, ["reordered a", "reordered b"]),
        (Mishap::Delay, ["delayed a", "delayed b"]),
        (Mishap::Drop, ["dropped a", "dropped b"]),
    ] {
        fake.befall_events(mishap, 2);
        for text in texts {
            fake.comment("carol", one, text).await.expect("a comment");
        }
        match mishap {
            Mishap::Drop => fake.send_dropped_output().await,
            // Found by looking before the delayed events come.
            Mishap::Delay => running.look().await,
            _ => {}
        }
        for text in texts {
            memory.until_word(&format!("comment-added {one},1 {text}")).await;
        }
        fake.release_events();
    }
    // What comes last comes after everything else on the same stream.
    fake.comment("carol", one, "the end").await.expect("a comment");
    memory.until_word(&format!("comment-added {one},1 the end")).await;
    running.look().await;
    memory.assert_once();
    let health = running.health.borrow().clone();
    assert!(health.duplicates >= 4 && health.found >= 4, "{health:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_inbox_or_a_hung_query_delays_and_loses_nothing() {
    let world = World::new(Numbers::Integers).await;
    let memory = Memory::new();
    let gerrit = world.client(false, |options| options.query = std::time::Duration::from_millis(200));
    let running = Running::start(&gerrit, &memory);
    world.fake.until_streams(1).await.expect("a stream");
    running.until_looks(2).await;
    let fake = &world.fake;
    memory.fail(3);
    let one = world.upload("org/a", "one").await.number;
    memory.until_word(&format!("patchset-created {one},1")).await;
    running.until(|health| health.inbox_trouble.is_none()).await;

    // Queries hang; live events go on, and the cursor waits for the look.
    fake.trouble("ssh:query", Trouble::Never, None);
    fake.befall_events(Mishap::Drop, 1);
    fake.comment("carol", one, "lost").await.expect("a comment");
    fake.send_dropped_output().await;
    running.until(|health| health.look_trouble.is_some()).await;
    let complete_to = running.health.borrow().complete_to;
    fake.comment("carol", one, "live").await.expect("a comment");
    memory.until_word(&format!("comment-added {one},1 live")).await;
    assert_eq!(running.health.borrow().complete_to, complete_to);
    assert_eq!(memory.start().cursor.expect("a cursor").since, complete_to);
    fake.release_answers();
    memory.until_word(&format!("comment-added {one},1 lost")).await;
    running.until(|health| health.look_trouble.is_none() && health.complete_to > complete_to).await;
    memory.assert_once();
    running.stop().await;
}
