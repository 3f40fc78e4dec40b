//! The model alone: queries, labels, votes.

use super::query::Query;
use super::*;
use proptest::prelude::*;

fn world() -> World {
    let mut accounts = BTreeMap::new();
    for (at, (name, groups)) in
        [("alice", &[][..]), ("carol", &["core"][..]), ("zuul", &["ci"][..]), ("third", &["thirdparty"][..])]
            .into_iter()
            .enumerate()
    {
        let account = Account { id: at as u64 + 1, ..Account::new(name).in_groups(groups) };
        accounts.insert(name.to_owned(), account);
    }
    World {
        accounts,
        projects: BTreeMap::new(),
        changes: BTreeMap::new(),
        labels: LabelRule::usual(),
        rights: Rights::default(),
        numbers: Numbers::Integers,
        url: "http://gerrit.example".into(),
        ssh: "gerrit.example:29418".into(),
        page: 500,
        last_number: 0,
        by_commit: BTreeMap::new(),
    }
}

/// Adds a change whose commit is forty times the last digit of its number.
fn add(world: &mut World, project: &str, branch: &str, message: &str, now: i64) -> u64 {
    let digit = char::from_digit((world.last_number as u32 + 1) % 10, 10).unwrap_or('0');
    let id: String = std::iter::repeat_n(digit, 40).collect();
    let file =
        FileChange { path: "src/a.rs".into(), old_path: None, letter: 'M', insertions: 1, deletions: 0 };
    let commit =
        CommitInfo { id: id.clone(), message: message.into(), files: vec![file], ..CommitInfo::default() };
    let (project, branch, owner) = (project.into(), branch.into(), "alice".into());
    world.add_change(NewChange { project, branch, change_id: format!("I{id}"), owner, commit }, now)
}

/// A hundred seconds between changes.
fn filled() -> World {
    let mut world = world();
    add(&mut world, "a/one", "master", "First\n\nDepends-On: Iabc\n", 1_700_000_000);
    add(&mut world, "a/one", "stable/x", "Second, with a (word)\n", 1_700_000_100);
    add(&mut world, "b/two", "master", "Third of 4\n", 1_700_000_200);
    let vote = |label: &str, value| Review { labels: vec![(label.into(), value)], ..Review::default() };
    for (who, number, review) in [("carol", 1, vote("Code-Review", 2)), ("zuul", 1, vote("Verified", -1))] {
        world.review(who, number, 1, &review, 1_700_000_300).expect("they may");
    }
    world.abandon("alice", 3, "", 1_700_000_400).expect("her own");
    world.set_topic("alice", 2, "two words", 1_700_000_350).expect("it is there");
    world
}

#[test]
fn queries_find_what_they_say() {
    let world = filled();
    let table: &[(&str, &[u64])] = &[
        ("", &[3, 2, 1]),
        ("2", &[2]),
        ("4", &[]),
        ("change:2", &[2]),
        ("change:I1111111111111111111111111111111111111111", &[1]),
        ("I11111", &[1]),
        ("change:a/one~stable/x~I2222222222222222222222222222222222222222", &[2]),
        ("commit:3333333", &[3]),
        ("project:a/one", &[2, 1]),
        ("project:^a/.*", &[2, 1]),
        ("projects:b/", &[3]),
        ("branch:refs/heads/stable/x", &[2]),
        ("branch:master status:open", &[1]),
        ("status:abandoned", &[3]),
        ("is:closed", &[3]),
        ("-is:open", &[3]),
        ("NOT status:open", &[3]),
        ("status:merged OR status:abandoned", &[3]),
        ("(project:b/two OR branch:master) status:open", &[1]),
        ("message:Iabc", &[1]),
        ("message:\"with a (word)\"", &[2]),
        ("topic:{two words}", &[2]),
        ("owner:alice limit:2", &[3, 2]),
        ("owner:self", &[]),
        ("reviewer:carol", &[1]),
        ("label:Code-Review=2", &[1]),
        ("label:code-review+2", &[1]),
        ("label:Code-Review>=1,user=carol", &[1]),
        ("label:Code-Review=2,zuul", &[]),
        ("label:Verified-1", &[1]),
        ("label:Verified=need", &[2, 1]),
        ("file:src/a.rs", &[3, 2, 1]),
        ("file:^src/.*", &[3, 2, 1]),
        ("age:100s", &[3, 2, 1]),
        ("age:200s", &[1]),
        ("-age:160s", &[3, 2]),
        ("after:\"2023-11-14 22:19:10\"", &[3, 2]),
        ("since:{2023-11-14 22:19:11 +0000}", &[3]),
        ("before:2023-11-14", &[]),
        ("topic:\"\"", &[]),
    ];
    for (text, expected) in table {
        let query = Query::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let page = query.run(&world, Some("zuul"), 0, None, 1_700_000_500);
        assert_eq!(page.numbers, *expected, "{text}");
    }
    let text = format!("resume_sortkey:{}", super::query::sort_key(&world.changes[&2]));
    let page = Query::parse(&text).expect("it is right").run(&world, None, 0, None, 0);
    assert_eq!(page.numbers, [1]);
    let page = Query::parse("limit:1").expect("it is right").run(&world, None, 1, None, 0);
    assert_eq!((page.numbers, page.more), (vec![2], true));
}

#[test]
fn queries_that_make_no_sense_are_refused() {
    let deep = "(".repeat(1000);
    for text in
        ["colour:red", "status:red", "limit:x", "limit:0", "age:x", "after:x", "(a", "a)", "\"a", "-", &deep]
    {
        assert!(Query::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_change_is_ready_when_each_label_is_at_its_best_without_veto() {
    let mut world = world();
    let number = add(&mut world, "p", "master", "One\n", 0);
    let mut states = |votes: &[(&str, &str, i8)]| {
        for (who, label, value) in votes {
            let review =
                Review { labels: vec![((*label).into(), *value)], strict: true, ..Review::default() };
            world.review(who, number, 1, &review, 0).expect("they may");
        }
        let record = world.submit_record(&world.changes[&number]);
        let words: Vec<&str> = record.labels.iter().map(|(_, state)| state.word()).collect();
        format!("{} {}", record.status.word(), words.join(" "))
    };
    assert_eq!(states(&[]), "NOT_READY NEED NEED NEED MAY");
    assert_eq!(
        states(&[("alice", "Code-Review", 1), ("third", "Verified", -1)]),
        "NOT_READY NEED NEED NEED MAY"
    );
    assert_eq!(states(&[("carol", "code-review", 2), ("zuul", "Verified", 2)]), "NOT_READY OK OK NEED MAY");
    assert_eq!(states(&[("carol", "Workflow", 1)]), "OK OK OK OK MAY");
    assert_eq!(states(&[("carol", "Code-Review", -2)]), "NOT_READY REJECT OK OK MAY");
    assert_eq!(states(&[("carol", "Code-Review", 0)]), "NOT_READY NEED OK OK MAY");
    world.labels[0].voters.clear();
    assert_eq!(world.submit_record(&world.changes[&number]).labels[0].1, LabelState::Impossible);
    world.abandon("carol", number, "", 0).expect("she may");
    assert_eq!(world.submit_record(&world.changes[&number]).status, RecordStatus::Closed);
}

#[test]
fn votes_out_of_range_are_refused_or_cut() {
    let mut world = world();
    let number = add(&mut world, "p", "master", "One\n", 0);
    let mut vote = |who: &str, value, strict| {
        let review = Review { labels: vec![("Verified".into(), value)], strict, ..Review::default() };
        world.review(who, number, 1, &review, 0).map(|event| event.body["approvals"][0]["value"].to_string())
    };
    assert!(matches!(vote("third", 2, true), Err(Refusal::Forbidden(_))));
    assert_eq!(vote("third", 2, false), Ok("\"1\"".into()));
    assert!(matches!(vote("alice", 1, false), Err(Refusal::Forbidden(_))));
    assert!(matches!(vote("zuul", 3, false), Err(Refusal::BadRequest(_))));
}

proptest! {
    #[test]
    fn any_query_is_understood_or_refused(text in "[-a-z0-9:()\"{}+=<>^~ ,ORANDOTé_]{0,60}") {
        if let Ok(query) = Query::parse(&text) {
            let _ = query.run(&filled(), Some("zuul"), 0, None, 0);
        }
    }

    #[test]
    fn any_text_is_a_query_or_not(text in ".{0,60}") {
        let _ = Query::parse(&text);
    }
}
