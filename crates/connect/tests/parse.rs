//! What Gerrit says is read, whatever its version, and whatever is wrong with it.

use assay_connect::gerrit::convert::{self, Meaning};
use assay_connect::gerrit::parse::{self, ParseError, QueryLine, StreamEvent, What};
use assay_engine::gate::change::{ChangeStatus, LabelStatus, SubmitLabel, SubmitRecord};
use assay_engine::gate::config::EventKind;
use assay_engine::ids::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

/// A change as version 2.8 tells it; numbers are strings.
fn old_change() -> Value {
    json!({
        "project": "org/a", "branch": "master", "topic": "t", "id": "I1111111111111111111111111111111111111111",
        "number": "1234", "subject": "Add it", "owner": {"name": "A", "email": "a@x", "username": "a"},
        "url": "https://review.example/1234", "status": "NEW",
    })
}

/// The same as version 3 tells it.
fn new_change() -> Value {
    let mut change = old_change();
    change["number"] = json!(1234);
    change["commitMessage"] = json!("Add it\n\nChange-Id: I1111111111111111111111111111111111111111\n");
    change["wip"] = json!(true);
    change["hashtags"] = json!(["h"]);
    change
}

fn patchset(number: Value) -> Value {
    json!({
        "number": number, "revision": "2222222222222222222222222222222222222222", "parents": ["33"],
        "ref": "refs/changes/34/1234/5", "uploader": {"username": "u"}, "author": {"name": "W"},
        "createdOn": 1_400_000_000, "kind": "REWORK", "sizeInsertions": 3, "sizeDeletions": "-1",
    })
}

fn event(kind: &str, change: &Value, number: Value, members: &Value) -> Value {
    let mut event = json!({
        "type": kind, "change": change, "patchSet": patchset(number), "eventCreatedOn": 1_400_000_001,
    });
    for (name, value) in members.as_object().expect("an object") {
        event[name] = value.clone();
    }
    event
}

fn read(event: &Value) -> StreamEvent {
    parse::event(&event.to_string()).unwrap_or_else(|error| panic!("{error}"))
}

fn meaning(event: &Value) -> Meaning {
    convert::meaning(&"gerrit".into(), &read(event))
}

fn one(event: &Value) -> assay_engine::gate::io::Event {
    match meaning(event) {
        Meaning::Events(mut events) if events.len() == 1 => events.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn events_of_all_versions_mean_the_same() {
    let person = json!({"name": "P", "email": "p@x", "username": "p"});
    for (change, number) in [(old_change(), json!("5")), (new_change(), json!(5))] {
        for (word, role, kind) in [
            ("patchset-created", "uploader", EventKind::PatchsetCreated),
            ("draft-published", "uploader", EventKind::DraftPublished),
            ("change-merged", "submitter", EventKind::ChangeMerged),
            ("change-abandoned", "abandoner", EventKind::ChangeAbandoned),
            ("change-restored", "restorer", EventKind::ChangeRestored),
            ("comment-added", "author", EventKind::CommentAdded),
        ] {
            let event = one(&event(word, &change, number.clone(), &json!({ role: person })));
            let patchset = event.change.expect("a change");
            assert_eq!((event.kind, patchset.change.number, patchset.patchset), (kind, 1234, 5));
            assert_eq!(event.by.username.as_deref(), Some("p"), "{word}");
        }
        for word in [
            "reviewer-deleted",
            "vote-deleted",
            "topic-changed",
            "hashtags-changed",
            "wip-state-changed",
            "private-state-changed",
            "merge-failed",
        ] {
            let meaning = meaning(&event(word, &change, number.clone(), &json!({})));
            assert!(
                matches!(meaning, Meaning::Changed(ref change) if change.number == 1234),
                "{word}: {meaning:?}"
            );
        }
        assert_eq!(meaning(&event("reviewer-added", &change, number.clone(), &json!({}))), Meaning::Nothing);
    }
    let read = read(&event("patchset-created", &new_change(), json!(5), &json!({})));
    assert_eq!(read.created_on, Some(Timestamp(1_400_000_001_000_000)));
    let What::PatchsetCreated { change, patchset, .. } = read.what else { panic!("{:?}", read.what) };
    assert!(change.wip && change.hashtags == ["h"] && change.topic.as_deref() == Some("t"));
    assert_eq!((patchset.insertions, patchset.deletions, patchset.parents.len()), (Some(3), Some(-1), 1));
}

#[test]
fn votes_have_the_name_of_their_description() {
    let approvals = json!([
        {"type": "CRVW", "description": "Code Review", "value": "2", "oldValue": "0"},
        {"type": "VRIF", "value": 1},
        {"type": "APRV", "value": "1"},
        {"type": "Workflow", "description": "", "value": "+1"},
        {"type": "XXXX", "value": "1"},
    ]);
    let comment = json!({
        "approvals": approvals, "comment": "Patch Set 5: Code-Review+2\n\n(1 comment)",
        "patchSetComments": {"/PATCHSET_LEVEL": [{"message": "recheck"}], "a.c": [{"message": "no"}]},
    });
    let event = one(&event("comment-added", &old_change(), json!("5"), &comment));
    let named: Vec<(&str, i32)> =
        event.approvals.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(named, [("Code Review", 2), ("Verified", 1), ("Approved", 1), ("Workflow", 1)]);
    assert_eq!(event.comment.as_deref(), Some("Patch Set 5: Code-Review+2\n\n(1 comment)\nrecheck"));
}

#[test]
fn refs_have_one_name_and_internal_ones_do_not_count() {
    let update = |name: &str| {
        json!({"type": "ref-updated", "refUpdate":
            {"oldRev": "1", "newRev": "2", "refName": name, "project": "org/a"}, "submitter": {"username": "s"}})
    };
    for (name, expected) in [
        ("master", Some("master")),
        ("refs/heads/stable/x", Some("stable/x")),
        ("refs/tags/1.0", Some("refs/tags/1.0")),
        ("refs/changes/34/1234/5", None),
        ("refs/meta/config", None),
        ("refs/users/01/1", None),
    ] {
        let names: Vec<String> = match meaning(&update(name)) {
            Meaning::Events(events) => {
                events.into_iter().filter_map(|event| Some(event.ref_update?.name.to_string())).collect()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(names.first().map(String::as_str), expected, "{name}");
    }
    let batch = json!({"type": "batch-ref-updated", "refUpdates": [
        {"newRev": "2", "refName": "a", "project": "p"}, {"refName": "b", "project": "p"}, {"refName": "no project"}]});
    let Meaning::Events(events) = meaning(&batch) else { panic!("no events") };
    assert_eq!(events.len(), 2);
    assert!(events[1].ref_update.as_ref().expect("a ref").is_delete());
}

#[test]
fn what_is_unknown_is_kept_and_what_is_missing_is_named() {
    let unknown = read(&json!({"type": "moon-phase", "phase": 3})).what;
    assert!(matches!(&unknown, What::Unknown { kind, body } if kind == "moon-phase" && body["phase"] == 3));
    assert_eq!(meaning(&json!({"type": "dropped-output"})), Meaning::Dropped);
    assert_eq!(
        meaning(&json!({"type": "project-created", "projectName": "p", "headName": "h"})),
        Meaning::Nothing
    );
    for (line, expected) in [
        ("", "not JSON"),
        ("[]", "expected an object"),
        ("{}", "an event without a usable type"),
        (r#"{"type":"patchset-created"}"#, "patchset-created without a usable change"),
        (
            r#"{"type":"change-merged","change":{"number":1,"project":"p","branch":"b"}}"#,
            "without a usable patchSet",
        ),
        (r#"{"type":"comment-added","change":{"number":"x","project":"p","branch":"b"}}"#, "usable change"),
        (r#"{"type":"ref-updated","refUpdate":{"project":"p"}}"#, "ref-updated without a usable refUpdate"),
    ] {
        let said = parse::event(line).expect_err(line).to_string();
        assert!(said.contains(expected), "{line}: {said}");
    }
}

#[test]
fn rows_of_queries_become_facts() {
    let mut row = new_change();
    row["currentPatchSet"] = patchset(json!("5"));
    row["currentPatchSet"]["approvals"] = json!([
        {"type": "Verified", "description": "Verified", "value": "-1", "grantedOn": 1_400_000_500, "by": {"username": "ci"}}]);
    row["currentPatchSet"]["files"] = json!([
        {"file": "/COMMIT_MSG", "type": "ADDED", "insertions": 9, "deletions": 0},
        {"file": "b", "fileOld": "a", "type": "RENAMED", "insertions": 1, "deletions": -1}]);
    row["dependsOn"] = json!([{"id": "I2", "number": "1200", "revision": "33", "ref": "refs/changes/00/1200/7",
        "isCurrentPatchSet": false}]);
    row["neededBy"] = json!([{"ref": "refs/changes/50/1250/2"}]);
    row["submitRecords"] = json!([
        {"status": "NOT_READY", "labels": [{"label": "Verified", "status": "REJECT", "by": {"username": "ci"}},
            {"label": "Code-Review", "status": "NEED"}, {"label": "X", "status": "MAY"}, {"label": "Y", "status": "NEW"}]},
        {"status": "RULE_ERROR", "errorMessage": "prolog"}, {"status": "OK"}]);
    let QueryLine::Change(change) = parse::query_line(&row.to_string()).expect("a row") else {
        panic!("no change")
    };
    assert_eq!((change.depends_on[0].number, change.depends_on[0].patchset), (1200, Some(7)));
    assert_eq!((change.needed_by[0].number, change.needed_by[0].patchset), (1250, Some(2)));
    let facts = convert::facts(&"gerrit".into(), &change, None, Timestamp(7)).expect("facts");
    assert_eq!(
        (facts.current_patchset, facts.revision.as_str()),
        (5, "2222222222222222222222222222222222222222")
    );
    assert_eq!((facts.status, facts.wip, facts.as_of), (ChangeStatus::New, true, Timestamp(7)));
    assert_eq!(facts.files, Some(vec!["b".to_owned()]));
    assert_eq!(facts.approvals[0].granted_at, Some(Timestamp(1_400_000_500_000_000)));
    let label = |label: &str, status| SubmitLabel { label: label.to_owned(), status };
    assert_eq!(
        facts.submit_records,
        [
            SubmitRecord::NotReady {
                labels: vec![
                    label("Verified", LabelStatus::Reject),
                    label("Code-Review", LabelStatus::Need),
                    label("X", LabelStatus::May),
                    label("Y", LabelStatus::Impossible),
                ]
            },
            SubmitRecord::Error { why: "prolog".to_owned() },
            SubmitRecord::Ok,
        ]
    );
    let stats =
        parse::query_line(r#"{"type":"stats","rowCount":"3","runTimeMilliseconds":1,"moreChanges":true}"#);
    assert!(matches!(stats, Ok(QueryLine::Stats(stats)) if stats.rows == 3 && stats.more == Some(true)));
    let error = parse::query_line(r#"{"type":"error","message":"no such operator"}"#);
    assert_eq!(error, Ok(QueryLine::Error { message: "no such operator".to_owned() }));
}

fn rest_change() -> Value {
    let sha = "4444444444444444444444444444444444444444";
    json!({
        "id": "org%2Fa~master~I1", "project": "org/a", "branch": "master", "change_id": "I1", "subject": "Add it",
        "status": "NEW", "created": "2024-01-31 12:00:00.000000000", "updated": "2024-01-31 12:00:01.500000000",
        "_number": 77, "owner": {"_account_id": 1, "name": "A"}, "work_in_progress": false,
        "current_revision": sha,
        "revisions": {sha: {"_number": 2, "ref": "refs/changes/77/77/2", "created": "2024-01-31 12:00:00.000000000",
            "commit": {"parents": [{"commit": "p"}], "message": "Add it\n\nDepends-On: Iabc\n", "author": {"name": "W"}},
            "files": {"x.c": {"status": "D", "lines_deleted": 4}, "y.c": {}}}},
        "labels": {"Verified": {"all": [{"value": 0}, {"value": 2, "date": "2024-01-31 12:00:01.000000000", "username": "ci"}],
            "approved": {"_account_id": 2}}, "Code-Review": {"blocking": true, "rejected": {"_account_id": 3}},
            "Workflow": {}},
        "messages": [{"tag": "autogenerated:assay:check~3.1", "date": "2024-01-31 12:00:01.000000000",
            "message": "Patch Set 2: Verified+2", "_revision_number": 2, "author": {"username": "ci"}}],
    })
}

#[test]
fn labels_of_a_project_have_ranges() {
    let body = json!({"id": "org%2Fa", "labels": {
        "Verified": {"values": {"-1": "Fails", " 0": "No score", "+1": "Verified"}, "default_value": 0},
        "Code-Review": {"values": {"-2": "", "-1": "", " 0": "", "+1": "", "+2": ""}},
        "Odd": {"values": {}}, "Odder": 3, "Oddest": {"values": {"many": ""}},
    }});
    let found = parse::labels(&format!(")]}}'\n{body}")).expect("labels");
    let expected = [("Code-Review", (-2, 2)), ("Verified", (-1, 1))];
    assert_eq!(found, expected.map(|(name, range)| (name.to_owned(), range)).into());
    assert_eq!(parse::labels("{}"), Ok([].into()), "old versions have none");
    assert!(parse::labels("[]").is_err());
}

#[test]
fn rest_tells_the_same_as_ssh() {
    let change = parse::change_info(&format!(")]}}'\n{}", rest_change())).expect("a change");
    assert_eq!((change.number, change.last_updated), (77, Some(Timestamp(1_706_702_401_500_000))));
    let facts = convert::facts(&"gerrit".into(), &change, Some("https://r"), Timestamp(1)).expect("facts");
    assert_eq!(facts.url.as_deref(), Some("https://r/c/org/a/+/77"));
    assert_eq!(facts.files, Some(vec!["x.c".to_owned(), "y.c".to_owned()]));
    assert_eq!((facts.approvals.len(), facts.approvals[0].value), (1, 2));
    let labels = |facts: &assay_engine::gate::change::ChangeFacts| match facts.submit_records.as_slice() {
        [SubmitRecord::NotReady { labels }] => {
            labels.iter().map(|label| (label.label.clone(), label.status)).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let expected = [
        ("Code-Review", LabelStatus::Reject),
        ("Verified", LabelStatus::Ok),
        ("Workflow", LabelStatus::Need),
    ];
    let expected: Vec<_> = expected.iter().map(|(name, status)| ((*name).to_owned(), *status)).collect();
    assert_eq!(labels(&facts), expected);
    // With requirements those count, by the label that they look at.
    let mut value = rest_change();
    value["submit_requirements"] = json!([
        {"name": "Tests", "status": "UNSATISFIED", "submittability_expression_result":
            {"expression": "label:Verified=MAX AND -label:Verified=MIN"}},
        {"name": "No-Conflicts", "status": "UNSATISFIED", "submittability_expression_result": {"expression": "is:mergeable"}},
        {"name": "Review", "status": "SATISFIED"}]);
    let (changes, more) = parse::change_infos(&format!(")]}}'\n[{value}]")).expect("changes");
    let facts = convert::facts(&"gerrit".into(), &changes[0], None, Timestamp(1)).expect("facts");
    let expected =
        [("Verified", LabelStatus::Need), ("No-Conflicts", LabelStatus::Need), ("Review", LabelStatus::Ok)];
    let expected: Vec<_> = expected.iter().map(|(name, status)| ((*name).to_owned(), *status)).collect();
    assert_eq!((labels(&facts), more), (expected, false));
    let refs =
        parse::branches(r#"[{"ref":"HEAD","revision":"master"},{"ref":"refs/heads/m","revision":"5"}]"#);
    assert_eq!(refs, Ok(vec![("refs/heads/m".to_owned(), "5".to_owned())]));
    assert!(matches!(parse::change_info("<html>"), Err(ParseError::NotJson { .. })));
}

#[test]
fn what_is_said_on_a_whole_patchset_belongs_to_its_message() {
    let (a, b) = (json!({"username": "a"}), json!({"username": "b"}));
    let note = |by: &Value, text: &str| json!({"file": "/PATCHSET_LEVEL", "reviewer": by, "message": text});
    let mut row = new_change();
    let message = |by: &Value, text: &str| json!({"timestamp": 1, "reviewer": by, "message": text});
    row["comments"] = json!([
        message(&a, "Patch Set 1:\n\n(1 comment)"),
        message(&b, "Patch Set 1: Code-Review+1"),
        message(&a, "Patch Set 1:\n\n(2 comments)"),
        message(&b, "Patch Set 1:\n\n(1 comment)")
    ]);
    row["patchSets"] = json!([{"number": "1", "comments": [
        note(&a, "first"), note(&a, "recheck"), note(&b, "x"), note(&b, "y"),
        {"file": "c.c", "reviewer": a, "message": "no"}]}]);
    let QueryLine::Change(change) = parse::query_line(&row.to_string()).expect("a row") else {
        panic!("no change")
    };
    let notes: Vec<String> = change.comments.iter().map(|comment| comment.notes.join("+")).collect();
    assert_eq!(notes, ["first", "", "recheck", "x+y"]);
    let rest =
        r#"{"/PATCHSET_LEVEL":[{"change_message_id":"m1","message":"recheck"},{}],"c.c":[{"message":"no"}]}"#;
    assert_eq!(parse::notes(rest), Ok(vec![("m1".to_owned(), "recheck".to_owned())]));
}

#[test]
fn advertised_refs_are_read_when_they_are_whole() {
    let one = "1".repeat(40);
    let packet = |text: &str| format!("{:04x}{text}", text.len() + 4);
    let list = format!(
        "{}{}{}0000",
        packet(&format!("{one} HEAD\0multi_ack\n")),
        packet(&format!("{one} refs/heads/master\n")),
        packet(&format!("{one} refs/tags/1^{{}}\n"))
    );
    let expected = Some(vec![("refs/heads/master".to_owned(), one)]);
    assert_eq!(parse::advertised_refs(list.as_bytes()), expected);
    let http = format!("{}0000{list}", packet("# service=git-upload-pack\n"));
    assert_eq!(parse::advertised_refs(http.as_bytes()), expected);
    for end in 0..list.len() {
        assert_eq!(parse::advertised_refs(&list.as_bytes()[..end]), None, "{end}");
    }
}

/// Any JSON, of the size of what Gerrit sends.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[-+0-9]{0,30}|refs/changes/.{0,8}|[A-Z]{4}|.{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z_/]{1,12}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Replaces the `at`-th member, counted through the whole value.
fn replace(value: &mut Value, at: &mut usize, with: Option<&Value>) {
    let Some(map) = value.as_object_mut() else {
        for item in value.as_array_mut().into_iter().flatten() {
            replace(item, at, with);
        }
        return;
    };
    let names: Vec<String> = map.keys().cloned().collect();
    for name in names {
        if *at == 0 {
            match with {
                Some(with) => drop(map.insert(name, with.clone())),
                None => drop(map.remove(&name)),
            }
            *at = usize::MAX;
            return;
        }
        *at -= 1;
        if let Some(inner) = map.get_mut(&name) {
            replace(inner, at, with);
        }
    }
}

proptest! {
    #[test]
    fn no_line_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..300), value in any_json()) {
        let _ = parse::advertised_refs(&bytes);
        for text in [String::from_utf8_lossy(&bytes).into_owned(), value.to_string(), format!("[{value}]")] {
            let _ = parse::event(&text).map(|event| convert::meaning(&"g".into(), &event));
            let _ = parse::query_line(&text);
            let _ = parse::change_infos(&text);
            let _ = parse::change_info(&text);
            let _ = parse::related(&text);
            let _ = parse::files(&text);
            let _ = parse::notes(&text);
            let _ = parse::branches(&text);
        }
    }

    #[test]
    fn a_damaged_event_is_read_or_named(
        kind in prop::sample::select(vec!["patchset-created", "comment-added", "change-merged", "vote-deleted", "ref-updated"]),
        at in 0_usize..40,
        with in prop::option::of(any_json()),
    ) {
        let members = json!({
            "author": {"username": "x"}, "approvals": [{"type": "VRIF", "value": "1"}],
            "refUpdate": {"oldRev": "1", "newRev": "2", "refName": "m", "project": "p"},
        });
        let mut value = event(kind, &new_change(), json!(5), &members);
        replace(&mut value, &mut at.clone(), with.as_ref());
        match parse::event(&value.to_string()) {
            Ok(event) => drop(convert::meaning(&"g".into(), &event)),
            Err(error) => prop_assert!(error.to_string().contains("without a usable"), "{}", error),
        }
        let mut row = rest_change();
        replace(&mut row, &mut at.clone(), with.as_ref());
        if let Ok(change) = parse::change_info(&row.to_string()) {
            drop(convert::facts(&"g".into(), &change, None, Timestamp(0)));
        }
    }
}
