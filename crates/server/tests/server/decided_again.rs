//! What is decided again by itself: after a kill, and when waivers, rules, policies or templates change.

use crate::common::{BEGINNING, Server};
use crate::decisions::{
    BUILD, COMPOSE, POLICIES, WAIVERS, configured, decision, found, post, until_said, until_told,
    until_waits, waits,
};
use crate::openqa::catalog;
use crate::people::Key;
use assay_engine::decision::Subject;
use assay_engine::ids::Timestamp;
use assay_proto::clock::ManualClock;
use assay_store::{NewResult, Waiver};
use camino::{Utf8Path, Utf8PathBuf};
use reqwest::{Method, StatusCode};
use serde_json::json;
use std::sync::Arc;

/// Stores what a server would have stored that was killed before it decided.
async fn stored_and_killed(dir: &Utf8Path) {
    let store = assay_store::open(&format!("sqlite:{}", dir.join("assay.db"))).await.unwrap();
    let epoch = store.acquire_leadership().await.unwrap();
    let last = store.results().last_result().await.unwrap();
    let data = [("type", "koji_build"), ("item", BUILD)];
    let result = NewResult {
        id: last + 1,
        testcase: "dist.rpmlint".into(),
        at: Timestamp(BEGINNING),
        outcome: "PASSED".into(),
        data: data.map(|(key, value)| (key.to_owned(), vec![value.to_owned()])).into(),
        subjects: vec![Subject { kind: "koji_build".into(), item: BUILD.into() }],
        ..NewResult::default()
    };
    store.results().add_results(epoch, &[result]).await.unwrap();
    let waiver = Waiver {
        at: Timestamp(BEGINNING),
        subject_type: "compose".into(),
        subject_identifier: COMPOSE.into(),
        testcase: "compose.install".into(),
        username: "ann".into(),
        product_version: "fedora-44".into(),
        waived: true,
        comment: "known".into(),
        ..Waiver::default()
    };
    store.results().add_waivers(epoch, &[waiver]).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn what_a_killed_server_did_not_decide_is_decided_once() {
    let (_keep, file) = configured(POLICIES);
    let keep = tempfile::tempdir().unwrap();
    let dir = Utf8PathBuf::from_path_buf(keep.path().join("data")).unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp(BEGINNING)));
    let run =
        async || Server::on(&dir, clock.clone(), |config| config.config = Some(file.clone())).await.unwrap();
    let server = run().await;
    let compose = json!({"subject_type": "compose", "subject_identifier": COMPOSE});
    let (status, answer) = decision(&server, compose).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let first = until_told(&server, 1).await;
    assert_eq!(first, [format!("{COMPOSE} for push: Of 1 required test, 1 result missing")]);
    server.stop().await.unwrap();
    stored_and_killed(&dir).await;

    let server = run().await;
    let mut news = until_told(&server, 4).await[1..].to_vec();
    news.sort();
    let (waived, missing) =
        ("All required tests (1 total) have passed or been waived", "Of 2 required tests, 1 result missing");
    let wanted = [
        format!("{COMPOSE} for push: {waived}"),
        format!("{BUILD} for late: {missing}"),
        format!("{BUILD} for push: {missing}"),
    ];
    assert_eq!(news, wanted);
    assert_eq!(waits(&server, "fedora-44").await, [format!("{BUILD} late"), format!("{BUILD} push")]);
    server.stop().await.unwrap();

    // Whoever comes next decides about what is new, and says nothing again.
    let server = run().await;
    found(&server, "dist.rpmlint", "FAILED", json!({"type": "koji_build", "item": "sed-4.9-1.fc44"})).await;
    let told = until_told(&server, 6).await;
    assert!(told.len() == 6 && told[4..].iter().all(|one| one.starts_with("sed-4.9-1.fc44 ")), "{told:#?}");
    server.stop().await.unwrap();
}

/// A waiver expires, a rule begins to be valid, and policies are read anew: nobody has to ask.
#[tokio::test]
async fn decisions_change_when_nothing_new_is_found() {
    let timed = format!(
        "{POLICIES}--- !Policy\nid: timed\nproduct_versions: [fedora-44]\ndecision_context: push\n\
         subject_type: redhat-module\nrules:\n  \
         - !PassingTestCaseRule {{test_case_name: late, valid_since: 2026-11-22, valid_until: 2026-11-23}}\n"
    );
    let (dir, file) = configured(&timed);
    let server = Server::start_with(|config| config.config = Some(file)).await;
    let hours = async |hours: i64| {
        server.clock.advance(hours * 3_600_000_000);
        server.handle.tick().await;
    };
    found(&server, "compose.install", "FAILED", json!({"type": "compose", "item": COMPOSE})).await;
    until_told(&server, 1).await;
    // The clock began at midnight.
    let waiver = json!({"subject_type": "compose", "subject_identifier": COMPOSE, "testcase": "compose.install",
        "product_version": "fedora-44", "comment": "known", "expires": "2026-11-21T06:00:00"});
    post(&server, WAIVERS, waiver).await;
    let module = json!({"subject_type": "redhat-module", "subject_identifier": "a-1-1"});
    until_told(&server, 2).await;
    let (status, answer) = decision(&server, module).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    until_told(&server, 3).await;
    assert_eq!(waits(&server, "fedora-44").await, [] as [&str; 0]);
    hours(7).await;
    let told = until_told(&server, 4).await;
    assert_eq!(told[3], format!("{COMPOSE} for push: Of 1 required test, 1 test failed"));
    assert_eq!(waits(&server, "fedora-44").await, [format!("{COMPOSE} push")]);
    hours(18).await;
    let told = until_told(&server, 5).await;
    assert_eq!(told[4], "a-1-1 for push: Of 1 required test, 1 result missing");
    hours(24).await;
    let told = until_told(&server, 6).await;
    assert_eq!(told[5], "a-1-1 for push: No tests are required");

    let less = timed.replace("compose.install}", "compose.boot}");
    fs_err::write(dir.path().join("policies.yaml"), less).unwrap();
    let (status, answer) = server.ask(Method::POST, "/api/assay/v1/gate/reload", None).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let told = until_told(&server, 7).await;
    assert_eq!(told[6], format!("{COMPOSE} for push: Of 1 required test, 1 result missing"));
}

/// A policy requires what job templates make: whoever changes them changes decisions, and nobody has to ask.
#[tokio::test]
async fn decisions_change_with_job_templates() {
    let made = "--- !Policy\nid: made\nproduct_versions: [fedora-*]\ndecision_context: push\nsubject_type: compose\n\
                rules:\n  - !JobTemplates {group: fedora}\n";
    let (_dir, file) = configured(made);
    let server = Server::start_with(|config| config.config = Some(file)).await;
    let data = json!({"type": "compose", "item": COMPOSE, "scenario": "fedora.universal.x86_64.64bit"});
    found(&server, "compose.install", "PASSED", data).await;
    assert_eq!(until_told(&server, 1).await, [format!("{COMPOSE} for push: No tests are required")]);
    let admin = Key::make(&server, "a", "admin", None).await;
    catalog(&server, &admin).await;
    until_said(&server, &format!("{COMPOSE} for push: Of 2 required tests, 1 result missing")).await;
    until_waits(&server, &[&format!("{COMPOSE} push")]).await;
    let update = "/api/v1/job_templates?test_suite_name=update";
    let (_, templates) = admin.ask(&server, Method::GET, update, &[]).await;
    let update = format!("/api/v1/job_templates/{}", templates["JobTemplates"][0]["id"]);
    let (status, answer) = admin.ask(&server, Method::DELETE, &update, &[]).await;
    assert_eq!(status, 200, "{answer}");
    until_waits(&server, &[]).await;
}

/// What can never be decided about does not keep the others waiting, however much of it there is.
#[tokio::test]
async fn what_fails_again_and_again_comes_after_the_others() {
    // Results of it cannot be looked for: it has more names than anybody looks for at once.
    let names: Vec<String> = (0..1_001).map(|number| format!("n{number}")).collect();
    let text = format!(
        "{POLICIES}--- !SubjectType\nid: broad\nresult_queries:\n  - type: '{}'\n    item: '{{item}}'\n",
        names.join(",")
    );
    let (_keep, file) = configured(&text);
    let keep = tempfile::tempdir().unwrap();
    let dir = Utf8PathBuf::from_path_buf(keep.path().join("data")).unwrap();
    fs_err::create_dir(&dir).unwrap();
    let store = assay_store::open(&format!("sqlite:{}", dir.join("assay.db"))).await.unwrap();
    let epoch = store.acquire_leadership().await.unwrap();
    let subject = |kind: &str, item: String| Subject { kind: kind.into(), item };
    let broad: Vec<Subject> = (0..100).map(|number| subject("broad", number.to_string())).collect();
    for (subjects, due) in [(&broad[..], 1), (&[subject("koji_build", BUILD.to_owned())][..], 2)] {
        store.results().decide_again(epoch, subjects, Timestamp(due)).await.unwrap();
    }
    store.close().await;
    let clock = Arc::new(ManualClock::new(Timestamp(BEGINNING)));
    let server = Server::on(&dir, clock, |config| config.config = Some(file)).await.unwrap();
    let mut told = until_told(&server, 2).await;
    told.sort();
    let missing = "Of 2 required tests, 2 results missing";
    assert_eq!(told, [format!("{BUILD} for late: {missing}"), format!("{BUILD} for push: {missing}")]);
}
