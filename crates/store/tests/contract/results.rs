//! Results, waivers, decisions.

use crate::database::{Database, Driver, START, is_deposed};
use assay_engine::decision::Subject;
use assay_engine::ids::Timestamp;
use assay_store::{
    Batch, Condition, DecisionRow, Evidence, EvidenceFilter, Field, GroupOf, NameFilter, NewResult,
    ResultFilter, ResultId, StoreError, Testcase, Waiver, WaiverChoice, WaiverFilter,
};
use std::collections::BTreeMap;

fn at(seconds: i64) -> Timestamp {
    START.plus_seconds(seconds)
}

fn result(id: i64, testcase: &str, outcome: &str, data: &[(&str, &[&str])]) -> NewResult {
    let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    NewResult {
        id,
        testcase: testcase.to_owned(),
        at: at(id),
        outcome: outcome.to_owned(),
        data: data.iter().map(|(key, list)| ((*key).to_owned(), values(list))).collect(),
        ..NewResult::default()
    }
}

fn filter(conditions: Vec<Condition>) -> ResultFilter {
    ResultFilter { conditions, limit: 100, ..ResultFilter::default() }
}

fn group(uuid: &str, description: Option<&str>) -> GroupOf {
    GroupOf { uuid: uuid.to_owned(), description: description.map(str::to_owned), ref_url: None }
}

pub(crate) async fn results_are_found_by_what_they_say(database: &Database) {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let results = store.results();
    assert_eq!(results.last_result().await.unwrap(), 0);
    let odd = "100%_[a]*?'\\\u{10FFFF}ü";
    let mut all = [
        result(1, "compose.install", "PASSED", &[("item", &["A"]), ("type", &["compose"])]),
        result(2, "compose.install", "FAILED", &[("item", &["A", "B"]), ("type", &["compose"])]),
        result(3, "update.a/b", "PASSED", &[("item", &["B", "A"]), ("type", &["bodhi_update"])]),
        result(4, "update.c", "RUNNING", &[("item", &[odd]), ("none", &[])]),
        result(5, "update.c", "PASSED", &[]),
    ];
    all[1].groups = vec![group("g1", Some("one")), group("g2", None), group("g1", None)];
    all[2].groups = vec![group("g1", None)];
    all[4].note = Some("a note".to_owned());
    all[4].dedupe = Some("job/1/done".to_owned());
    all[0].testcase_ref_url = Some("http://x/1".to_owned());
    // Others have stored what is between them.
    results.add_results(epoch, &all[1..2]).await.unwrap();
    let mine = [&all[..1], &all[2..]].concat();
    let stored = results.add_told_results(epoch, &mine, &[]).await.unwrap();
    assert_eq!(stored.iter().map(|one| one.id.0).collect::<Vec<_>>(), [1, 3, 4, 5]);
    for one in stored {
        assert_eq!(results.result(one.id).await.unwrap().as_ref(), Some(&one), "as it is read later");
    }
    let again = NewResult { id: 6, ..all[4].clone() };
    assert!(matches!(results.add_results(epoch, &[again]).await, Err(StoreError::Duplicate { .. })));
    let words = ["job/1/done".to_owned(), "job/2/done".to_owned()];
    let known: Vec<_> = results.deduped(&words).await.unwrap().into_iter().collect();
    assert_eq!(known, [("job/1/done".to_owned(), ResultId(5))]);
    assert_eq!(results.last_result().await.unwrap(), 5);

    let one = results.result(ResultId(2)).await.unwrap().expect("it is there");
    assert_eq!((one.testcase_ref_url.as_deref(), one.outcome.as_str()), (Some("http://x/1"), "FAILED"));
    assert_eq!(one.groups, r#"["g1","g2"]"#);
    assert_eq!(one.data, r#"{"item":["A","B"],"type":["compose"]}"#);
    assert_eq!((one.at, results.result(ResultId(9)).await.unwrap()), (at(2), None));

    let item = |values: &[&str]| Condition::data("item", values.iter().copied());
    let like = |field: Field, pattern: &str| Condition { field, is: vec![], like: vec![pattern.to_owned()] };
    let data_like = |pattern: &str| like(Field::Data("item".into()), pattern);
    let kind = |value: &str| Condition::data("type", [value]);
    let testcase = |name: &str| Condition::is(Field::Testcase, [name]);
    let cases: Vec<(Vec<Condition>, &[i64])> = vec![
        (vec![], &[5, 4, 3, 2, 1]),
        (vec![item(&["A"])], &[3, 2, 1]),
        (vec![item(&["A", "B"])], &[3, 2, 1]),
        (vec![item(&["A"]), kind("compose")], &[2, 1]),
        (vec![kind("compose"), testcase("compose.install")], &[2, 1]),
        (vec![kind("compose"), Condition::is(Field::Outcome, ["PASSED", "INFO"])], &[1]),
        (vec![Condition::is(Field::Outcome, ["FAILED", "RUNNING"])], &[4, 2]),
        (vec![Condition::is(Field::Group, ["g1"])], &[3, 2]),
        (vec![testcase("update.a/b")], &[3]),
        (vec![like(Field::Testcase, "update.*")], &[5, 4, 3]),
        (vec![like(Field::Testcase, "*install")], &[2, 1]),
        (vec![like(Field::Testcase, "UPDATE.*")], &[]),
        (vec![item(&[odd])], &[4]),
        (vec![data_like("100%_[a]*ü")], &[4]),
        (vec![data_like("100?*")], &[]),
        (vec![data_like("100__[*")], &[]),
        (vec![data_like("*")], &[4, 3, 2, 1]),
        (vec![item(&["C"])], &[]),
        (vec![Condition::data("none", [""])], &[]),
        (
            vec![Condition {
                field: Field::Testcase,
                is: vec!["compose.install".into()],
                like: vec!["*.c".into()],
            }],
            &[5, 4, 2, 1],
        ),
    ];
    for (conditions, want) in cases {
        let found = results.results(&filter(conditions.clone())).await.unwrap();
        let ids: Vec<i64> = found.iter().map(|result| result.id.0).collect();
        assert_eq!(ids, want, "{conditions:?}");
    }
    // Pages of what has several values that fit: none twice, none left out, however many are asked for.
    let others =
        |count: usize| (0..count).map(|number| number.to_string()).chain(["A", "B"].map(str::to_owned));
    for count in [0, 399, 998] {
        for oldest_first in [false, true] {
            let mut pages = Vec::new();
            for page in 0..3 {
                let items = Condition::data("item", others(count));
                let page = ResultFilter { limit: 1, offset: page, oldest_first, ..filter(vec![items]) };
                pages.extend(results.results(&page).await.unwrap().into_iter().map(|result| result.id.0));
            }
            assert_eq!(pages, if oldest_first { [1, 2, 3] } else { [3, 2, 1] }, "{count}");
        }
    }
    let too_many = filter(vec![Condition::data("item", others(999))]);
    assert!(matches!(results.results(&too_many).await, Err(StoreError::TooBroad { most: 1000 })));
    let between = ResultFilter { since: Some(at(2)), until: Some(at(3)), ..filter(vec![]) };
    assert_eq!(results.results(&between).await.unwrap().len(), 2);
    let between = ResultFilter { conditions: vec![item(&["A"])], ..between };
    assert_eq!(results.results(&between).await.unwrap().len(), 2);
    store.acquire_leadership().await.unwrap();
    assert!(is_deposed(&results.add_results(epoch, &[result(7, "t", "PASSED", &[])]).await));
}

pub(crate) async fn the_latest_of_each_kind(database: &Database) {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let results = store.results();
    let mut all = Vec::new();
    // More than one piece, so that what is found in several is put together.
    for id in 1..=700 {
        let scenario = format!("s{}", id % 3);
        let name = if id <= 100 { "old" } else { "new" };
        let outcome = if id % 2 == 0 { "PASSED" } else { "FAILED" };
        all.push(result(id, name, outcome, &[("item", &["A"]), ("scenario", &[&scenario])]));
        all[id as usize - 1].at = at(id / 2);
    }
    all.push(result(701, "bare", "PASSED", &[("item", &["A"])]));
    results.add_results(epoch, &all).await.unwrap();
    let of = |conditions| filter(conditions);
    let ids =
        |found: Vec<assay_store::StoredResult>| found.iter().map(|result| result.id.0).collect::<Vec<_>>();
    let item = || Condition::data("item", ["A"]);
    let keys = ["scenario".to_owned(), "arch".to_owned()];
    assert_eq!(
        ids(results.latest(&of(vec![item()]), &keys).await.unwrap()),
        [701, 700, 699, 698, 100, 99, 98]
    );
    let passed = vec![item(), Condition::is(Field::Outcome, ["PASSED"])];
    assert_eq!(ids(results.latest(&of(passed), &keys).await.unwrap()), [701, 700, 698, 696, 100, 98, 96]);
    // Without keys: everything of the newest moment of each test case.
    assert_eq!(ids(results.latest(&of(vec![item()]), &[]).await.unwrap()), [701, 700, 100]);
    let old = vec![Condition::is(Field::Testcase, ["old"])];
    assert_eq!(
        ids(results.latest(&ResultFilter { until: Some(at(49)), ..of(old) }, &[]).await.unwrap()),
        [99, 98]
    );
    assert_eq!(ids(results.latest(&of(vec![Condition::data("item", ["B"])]), &[]).await.unwrap()), [0; 0]);
}

pub(crate) async fn groups_and_test_cases(database: &Database) {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let results = store.results();
    let mut one = result(1, "b/c", "PASSED", &[]);
    one.groups = vec![group("g1", Some("source.openqa")), group("g2", None)];
    let mut two = result(2, "a", "PASSED", &[]);
    two.groups = vec![group("g2", Some("compose.X"))];
    for new in [one, two] {
        results.add_results(epoch, &[new]).await.unwrap();
    }
    results
        .put_group(epoch, &GroupOf { ref_url: Some("u".into()), ..group("g1", None) }, at(9))
        .await
        .unwrap();
    results.put_group(epoch, &group("g3", Some("z")), at(9)).await.unwrap();
    let mut three = result(3, "a", "PASSED", &[]);
    three.groups = vec![group("g1", Some("renamed"))];
    results.add_results(epoch, &[three]).await.unwrap();
    let named = |names: &[&str], descriptions: &[&str], like: &[&str]| NameFilter {
        names: names.iter().map(ToString::to_string).collect(),
        descriptions: descriptions.iter().map(ToString::to_string).collect(),
        like: like.iter().map(ToString::to_string).collect(),
        offset: 0,
        limit: 10,
    };
    let all = results.result_groups(&named(&[], &[], &[])).await.unwrap();
    let seen: Vec<_> = all
        .iter()
        .map(|group| {
            (group.uuid.as_str(), group.description.as_deref(), group.ref_url.as_deref(), group.results)
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("g3", Some("z"), None, 0),
            ("g1", Some("renamed"), Some("u"), 2),
            ("g2", Some("compose.X"), None, 2)
        ]
    );
    for (filter, want) in [
        (named(&["g2", "g3"], &[], &[]), vec!["g3", "g2"]),
        (named(&[], &["z"], &["compose.*"]), vec!["g3", "g2"]),
        (named(&["g1"], &["z"], &[]), vec![]),
        (NameFilter { offset: 1, limit: 1, ..named(&[], &[], &[]) }, vec!["g1"]),
    ] {
        let found = results.result_groups(&filter).await.unwrap();
        assert_eq!(found.iter().map(|group| group.uuid.as_str()).collect::<Vec<_>>(), want, "{filter:?}");
    }
    let testcase = |name: &str, ref_url: Option<&str>| Testcase {
        name: name.to_owned(),
        ref_url: ref_url.map(str::to_owned),
    };
    results.put_testcase(epoch, &testcase("a", Some("http://a"))).await.unwrap();
    results.put_testcase(epoch, &testcase("a", None)).await.unwrap();
    let cases = results.testcases(&named(&[], &[], &[])).await.unwrap();
    assert_eq!(cases, [testcase("a", Some("http://a")), testcase("b/c", None)]);
    assert_eq!(results.testcases(&named(&["x"], &[], &["b*"])).await.unwrap(), [testcase("b/c", None)]);
}

pub(crate) async fn results_come_with_a_step_or_not_at_all(database: &Database) {
    let mut driver = Driver::start(database).await;
    let (_, mut batch) = driver.step(assay_engine::io::Input::PostJobs {
        jobs: vec![assay_engine::io::NewJob::new(assay_engine::settings::Settings::from_request([(
            "TEST",
            "t".to_owned(),
        )]))],
    });
    let queued =
        NewResult { dedupe: Some("job/1/queued".into()), ..result(1, "t", "QUEUED", &[("item", &["A"])]) };
    batch.push_result(queued.clone());
    driver.store.commit(driver.epoch, &batch).await.unwrap();
    assert_eq!(driver.store.results().results(&filter(vec![])).await.unwrap().len(), 1);
    // The same once more is refused, and so is what comes with it.
    let mut spoilt = assay_store::Batch::default();
    spoilt.push_result(NewResult { id: 2, ..queued });
    spoilt.push_result(result(3, "u", "PASSED", &[]));
    assert!(driver.store.commit(driver.epoch, &spoilt).await.is_err());
    assert_eq!(driver.store.results().last_result().await.unwrap(), 1);
    assert_eq!(
        driver
            .store
            .results()
            .testcases(&NameFilter { limit: 9, ..NameFilter::default() })
            .await
            .unwrap()
            .len(),
        1
    );
}

pub(crate) async fn waivers_and_evidence(database: &Database) {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let results = store.results();
    let waiver = |testcase: &str, scenario: Option<&str>, username: &str, seconds| Waiver {
        at: at(seconds),
        subject_type: "koji_build".to_owned(),
        subject_identifier: "bash-1".to_owned(),
        testcase: testcase.to_owned(),
        scenario: scenario.map(str::to_owned),
        username: username.to_owned(),
        product_version: "fedora-40".to_owned(),
        waived: true,
        comment: "known ü".to_owned(),
        ..Waiver::default()
    };
    let given = [waiver("t", None, "ann", 1), waiver("t", Some("s"), "ann", 2), waiver("t", None, "bob", 3)];
    assert_eq!(results.add_waivers(epoch, &given).await.unwrap(), [1, 2, 3]);
    let back = Waiver { waived: false, expires_at: Some(at(99)), ..waiver("t", None, "ann", 4) };
    assert_eq!(results.add_waivers(epoch, std::slice::from_ref(&back)).await.unwrap(), [4]);
    let ask = |any: Vec<WaiverChoice>, obsolete_too, per_person| WaiverFilter {
        any,
        obsolete_too,
        alive_at: None,
        per_person,
        offset: 0,
        limit: 10,
    };
    let by = |name: &str| WaiverChoice { username: Some(name.to_owned()), ..WaiverChoice::default() };
    for (filter, want) in [
        (ask(vec![], true, true), vec![4, 3, 2, 1]),
        (ask(vec![], false, true), vec![4, 3, 2]),
        (ask(vec![], false, false), vec![4, 2]),
        (WaiverFilter { alive_at: Some(at(98)), ..ask(vec![], false, true) }, vec![4, 3, 2]),
        (WaiverFilter { alive_at: Some(at(99)), ..ask(vec![], false, true) }, vec![3, 2]),
        (ask(vec![by("bob")], true, true), vec![3]),
        (
            ask(vec![by("bob"), WaiverChoice { id: Some(1), ..WaiverChoice::default() }], true, true),
            vec![3, 1],
        ),
        (
            ask(vec![WaiverChoice { since: Some(at(2)), until: Some(at(3)), ..by("ann") }], true, true),
            vec![2],
        ),
        (WaiverFilter { offset: 1, limit: 2, ..ask(vec![], true, true) }, vec![3, 2]),
    ] {
        let ids: Vec<_> = results.waivers(&filter).await.unwrap().iter().map(|one| one.id).collect();
        assert_eq!(ids, want, "{filter:?}");
    }
    assert_eq!(results.waivers(&ask(vec![], true, true)).await.unwrap()[0], Waiver { id: 4, ..back });

    let data: [(&str, &[&str]); 2] = [("item", &["bash-1"]), ("type", &["koji_build"])];
    let all = [
        result(1, "t", "PASSED", &data),
        result(2, "u", "FAILED", &[("original_spec_nvr", &["bash-1"])]),
        result(3, "t", "PASSED", &[("item", &["bash-1"]), ("type", &["other"])]),
        result(4, "v", "PASSED", &data),
    ];
    results.add_results(epoch, &all).await.unwrap();
    let evidence = EvidenceFilter {
        any: vec![
            vec![Condition::data("item", ["bash-1"]), Condition::data("type", ["koji_build", "brew-build"])],
            vec![Condition::data("original_spec_nvr", ["bash-1"])],
        ],
        testcases: vec!["t".to_owned(), "u".to_owned()],
        subject_types: vec!["koji_build".to_owned(), "brew-build".to_owned()],
        subject_identifier: "bash-1".to_owned(),
        until: Some(at(3)),
    };
    let other = EvidenceFilter {
        subject_types: vec!["koji_build".to_owned()],
        subject_identifier: "sed-1".to_owned(),
        ..EvidenceFilter::default()
    };
    // Of several, each its own, in order.
    let mut found = results.evidence(&[other.clone(), evidence, other]).await.unwrap();
    assert_eq!((found.len(), &found[0], &found[2]), (3, &Evidence::default(), &Evidence::default()));
    let found = found.swap_remove(1);
    assert_eq!(found.results.iter().map(|result| result.id.0).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(found.waivers.iter().map(|waiver| waiver.id).collect::<Vec<_>>(), [3, 2, 1]);
}

pub(crate) async fn decisions_follow_each_other(database: &Database) {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let results = store.results();
    let decision = |body: &str, seconds| DecisionRow {
        at: at(seconds),
        subject_type: "koji_build".to_owned(),
        subject_identifier: "bash-1".to_owned(),
        product_version: "fedora-40".to_owned(),
        context: "push".to_owned(),
        satisfied: body == "good",
        summary: body.to_owned(),
        body: body.to_owned(),
        told: Some(format!("all of {body}")),
        ..DecisionRow::default()
    };
    // Only what was compared with the newest is remembered.
    for (body, before, new) in [("bad", 0, true), ("good", 0, false), ("good", 1, true), ("bad", 2, true)] {
        let stored = results.remember_decision(epoch, &decision(body, 5), before, &[]).await.unwrap();
        assert_eq!(stored, new, "{body} after {before}");
    }
    let kinds = ["koji_build".to_owned()];
    let seen = results.decisions(&kinds, "bash-1", 10).await.unwrap();
    assert_eq!(seen.iter().map(|row| row.body.as_str()).collect::<Vec<_>>(), ["bad", "good", "bad"]);
    assert_eq!(seen[1], DecisionRow { id: 2, told: None, ..decision("good", 5) });
    assert_eq!(seen[0].told.as_deref(), Some("all of bad"), "the newest is there as a whole");
    assert_eq!(results.decisions(&["compose".to_owned()], "bash-1", 10).await.unwrap(), []);
    // What a release waits for is what was decided last.
    let of = |item: &str, context: &str, body: &str| DecisionRow {
        subject_identifier: item.to_owned(),
        context: context.to_owned(),
        ..decision(body, 6)
    };
    let rows = [
        (of("sed-1", "push", "bad"), 0),
        (of("sed-1", "push", "good"), 4),
        (of("sed-1", "stable", "bad"), 0),
    ];
    for (row, before) in rows {
        assert!(results.remember_decision(epoch, &row, before, &[]).await.unwrap());
    }
    let newest = results.newest_decisions(&["sed-1".to_owned(), "bash-1".to_owned()]).await.unwrap();
    assert_eq!(newest.iter().map(|row| row.id).collect::<Vec<_>>(), [6, 5, 3]);
    assert_eq!(results.newest_decisions(&[]).await.unwrap(), []);
    let decided = async |context: &str, since| {
        let found = results.decided_subjects(&[context.to_owned()], at(since)).await.unwrap();
        found.into_iter().map(|subject| subject.item).collect::<Vec<_>>()
    };
    assert_eq!(decided("push", 0).await, ["bash-1", "sed-1"]);
    assert_eq!(decided("push", 6).await, ["sed-1"]);
    assert_eq!(decided("never", 0).await, [] as [&str; 0]);
    let waiting = async |context| {
        let found = results.waiting_decisions("fedora-40", context, 10).await.unwrap();
        found.into_iter().map(|row| format!("{} {}", row.subject_identifier, row.context)).collect::<Vec<_>>()
    };
    assert_eq!(waiting(None).await, ["sed-1 stable", "bash-1 push"]);
    assert_eq!(waiting(Some("push")).await, ["bash-1 push"]);
    assert_eq!(results.waiting_decisions("fedora-41", None, 10).await.unwrap(), []);
    let releases = results.releases().await.unwrap();
    let one = releases.iter().find(|one| one.product_version == "fedora-40").unwrap();
    assert_eq!((one.waiting, one.satisfied, one.last), (2, 1, Some(at(6))));
}

pub(crate) async fn what_is_new_is_to_be_decided_about(database: &Database) {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let subject = |item: &str| Subject { kind: "koji_build".to_owned(), item: item.to_owned() };
    let about = |id, items: &[&str]| NewResult {
        subjects: items.iter().map(|item| subject(item)).collect(),
        ..result(id, "t", "PASSED", &[])
    };
    let results = store.results();
    results.add_results(epoch, &[about(1, &["a", "b"]), about(2, &["a"]), about(3, &[])]).await.unwrap();
    let mut batch = Batch::default();
    batch.push_result(about(4, &["b"]));
    store.commit(epoch, &batch).await.unwrap();
    let waiver = Waiver {
        subject_type: "koji_build".to_owned(),
        subject_identifier: "c".to_owned(),
        expires_at: Some(at(9)),
        ..Waiver::default()
    };
    results.add_waivers(epoch, &[waiver.clone(), waiver]).await.unwrap();
    // It is there for whoever comes next.
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let results = store.results();
    let read = async |seconds| {
        let found = results.undecided(at(seconds), 10).await.unwrap();
        found.into_iter().map(|one| (one.subject.item, one.round)).collect::<Vec<_>>()
    };
    let of = |list: &[(&str, i64)]| -> Vec<(String, i64)> {
        list.iter().map(|(item, round)| ((*item).to_owned(), *round)).collect()
    };
    assert_eq!(read(0).await, of(&[("a", 1), ("b", 2), ("c", 1)]));
    assert_eq!(results.undecided(at(0), 1).await.unwrap().len(), 1);
    let seen = results.undecided(at(0), 10).await.unwrap();
    // What came while it was decided is not forgotten.
    results.add_results(epoch, &[about(5, &["b"])]).await.unwrap();
    results.was_decided(epoch, &seen).await.unwrap();
    assert_eq!(read(0).await, of(&[("b", 3)]));
    // A waiver that expires.
    assert_eq!(results.next_undecided(at(0)).await.unwrap(), Some(at(9)));
    assert_eq!(results.next_undecided(at(9)).await.unwrap(), None);
    assert_eq!(read(9).await, of(&[("b", 3), ("c", 1)]));
    results.was_decided(epoch, &results.undecided(at(9), 10).await.unwrap()).await.unwrap();
    assert_eq!(read(9).await, []);
    results.decide_again(epoch, &[subject("d"), subject("d")], at(8)).await.unwrap();
    results.decide_again(epoch, &[subject("d")], at(8)).await.unwrap();
    assert_eq!((read(7).await, read(8).await), (vec![], of(&[("d", 2)])));
    // By what was decided.
    let bases = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(context, basis)| ((*context).to_owned(), (*basis).to_owned())).collect()
    };
    assert_eq!(results.decision_bases().await.unwrap(), BTreeMap::new());
    for all in [bases(&[("push", "1"), ("late", "2")]), bases(&[("push", "3")])] {
        results.put_decision_bases(epoch, &all).await.unwrap();
        assert_eq!(results.decision_bases().await.unwrap(), all);
    }
    let other = store.acquire_leadership().await.unwrap();
    assert!(is_deposed(&results.decide_again(epoch, &[subject("e")], at(8)).await));
    assert!(is_deposed(&results.was_decided(epoch, &seen).await));
    assert!(results.decide_again(other, &[], at(8)).await.is_ok());
}
