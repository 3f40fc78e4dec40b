//! Rules that packages bring: files of the commit that was built, asked for from others.

use crate::common::{BEGINNING, Server, asking};
use crate::decisions::{
    COMPOSE, WAIVERS, configured, decision, found, post, row_of, types, until_said, until_told,
};
use assay_fakes::distgit::FakeDistGit;
use assay_fakes::koji::FakeKoji;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const REMOTE: &str = "\
--- !Policy
id: push
product_versions: [fedora-*]
decision_context: push
subject_type: koji_build
rules:
  - !PassingTestCaseRule {test_case_name: dist.lint}
  - !PassingTestCaseRule {test_case_name: dist.new, valid_since: 2026-11-21}
  - !RemoteRule {required: false}
";
const GATING: &str = "\
--- !Policy
decision_context: push
rules:
  - !PassingTestCaseRule {test_case_name: pkg.unit}
";

/// A server whose policy has packages bring their own rules, with a Koji and a server of repositories.
async fn with_packages() -> (tempfile::TempDir, Server, FakeKoji, FakeDistGit) {
    let (koji, git) = (FakeKoji::start().await.unwrap(), FakeDistGit::start().await.unwrap());
    let start = BEGINNING / 1_000_000;
    koji.build("old-1-1", start - 86_400, &[]);
    koji.build("young-1-1", start + 60, &[]);
    koji.build("cut-1-1.fc44", start - 86_400, &[]);
    let (dir, file) = configured(REMOTE);
    let more = format!(
        "[tasks]\nkoji-hub = {:?}\n[results.remote-rules]\n\
         koji_build = \"{}/{{pkg_namespace}}{{pkg_name}}/raw/{{rev}}/f/gating.yaml\"\n",
        koji.hub(),
        git.url()
    );
    let toml = fs_err::read_to_string(&file).unwrap();
    fs_err::write(&file, toml + &more).unwrap();
    let server = Server::start_with(|config| config.config = Some(file)).await;
    (dir, server, koji, git)
}

async fn about(server: &Server, build: &str) -> Value {
    let question = json!({"subject_type": "koji_build", "subject_identifier": build});
    let (status, answer) = decision(server, question).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer
}

/// What a package requires of itself counts beside what is required of all; a rule counts from the builds on that were made
/// when it was there.
#[tokio::test]
async fn packages_bring_their_own_rules() {
    let (dir, server, koji, git) = with_packages().await;
    let later = || server.clock.advance(301_000_000);
    let lint = "dist.lint test-result-missing";
    assert_eq!(types(&about(&server, "old-1-1").await), [lint], "built before, and no file");
    let young = about(&server, "young-1-1").await;
    assert_eq!(types(&young), [lint, "dist.new test-result-missing"]);
    let asked = ["/rpms/old/raw/0123456/f/gating.yaml", "/rpms/young/raw/0123456/f/gating.yaml"];
    about(&server, "old-1-1").await;
    assert_eq!(git.asked(), asked, "each once");

    git.file("old", "0123456", "gating.yaml", GATING);
    assert_eq!(types(&about(&server, "old-1-1").await), [lint], "what is known is kept for a while");
    later();
    let answer = about(&server, "old-1-1").await;
    let fetched = "fetched-gating-yaml fetched-gating-yaml";
    assert_eq!(types(&answer), [fetched, lint, "pkg.unit test-result-missing"]);
    let source = format!("{}{}", git.url(), asked[0]);
    assert_eq!(answer["satisfied_requirements"][0]["source"], json!(source), "{answer}");
    found(&server, "pkg.unit", "PASSED", json!({"type": "koji_build", "item": "old-1-1"})).await;
    found(&server, "dist.lint", "PASSED", json!({"type": "koji_build", "item": "old-1-1"})).await;
    let answer = about(&server, "old-1-1").await;
    assert_eq!(answer["summary"], "All required tests (2 total) have passed or been waived", "{answer}");
    let (_, standing) = server.get("/api/assay/v1/releases/fedora-44?context=push").await;
    assert!(
        !standing.to_string().contains("old-1-1"),
        "a file that was read is nothing to wait for: {standing}"
    );

    // A broken one stops the package until somebody waives that.
    git.file("old", "0123456", "gating.yaml", &GATING.replace("rules", "ruls"));
    later();
    let answer = about(&server, "old-1-1").await;
    assert_eq!(answer["policies_satisfied"], false);
    let open = &answer["unsatisfied_requirements"][0];
    assert_eq!(
        (&open["type"], &open["sources"]),
        (&json!("invalid-gating-yaml"), &json!([source])),
        "{answer}"
    );
    assert!(open["details"].as_str().unwrap().contains("did you mean `rules`?"), "{open}");
    let summary = answer["summary"].as_str().unwrap();
    assert!(
        summary.starts_with("1 error due to invalid remote rule file. All required tests (1 total)"),
        "{summary}"
    );
    let waiver = json!({"subject_type": "koji_build", "subject_identifier": "old-1-1", "testcase": "invalid-gating-yaml",
        "product_version": "fedora-44", "comment": "a typo"});
    post(&server, WAIVERS, waiver).await;
    let answer = about(&server, "old-1-1").await;
    assert_eq!(answer["policies_satisfied"], true, "{answer}");
    assert_eq!(types(&answer)[0], "invalid-gating-yaml invalid-gating-yaml-waived");

    // What nobody answers for stops it, too.
    git.down(true);
    later();
    let open = about(&server, "old-1-1").await["unsatisfied_requirements"][0].clone();
    assert_eq!(open["type"], "failed-fetch-gating-yaml", "{open}");
    assert!(open["error"].as_str().unwrap().contains("502"), "{open}");
    let open = about(&server, "unknown-1-1").await["unsatisfied_requirements"][0].clone();
    assert!(open["error"].as_str().unwrap().contains("Koji has no build unknown-1-1"), "{open}");
    // An outage of seconds is no decision for good: nobody has to ask.
    let cut = json!({"type": "koji_build", "item": "cut-1-1.fc44"});
    found(&server, "dist.lint", "PASSED", cut).await;
    let all = "All required tests (1 total) have passed or been waived";
    let lacks = "1 error due to failed fetch of remote rule file";
    until_said(&server, &format!("cut-1-1.fc44 for push: {lacks}. {all}")).await;
    git.down(false);
    server.clock.advance(61_000_000);
    server.handle.tick().await;
    until_said(&server, &format!("cut-1-1.fc44 for push: {all}")).await;
    koji.offline(true);
    server.clock.advance(16_000_000);
    let open = about(&server, "other-1-1").await["unsatisfied_requirements"][0].clone();
    assert!(open["error"].as_str().unwrap().contains("database outage"), "{open}");
    koji.offline(false);

    // One that has to be there.
    let text = REMOTE.replace("required: false", "required: true");
    fs_err::write(dir.path().join("policies.yaml"), text).unwrap();
    let reload = async || server.ask(Method::POST, "/api/assay/v1/gate/reload", None).await;
    assert_eq!(reload().await.0, StatusCode::OK);
    let answer = about(&server, "young-1-1").await;
    assert_eq!(types(&answer)[0], "missing-gating-yaml missing-gating-yaml", "{answer}");
    let rules = |rule: Value| {
        json!({"subject_type": "koji_build", "subject_identifier": "young-1-1",
        "decision_context": null, "rules": [rule]})
    };
    let (status, answer) = decision(&server, rules(json!({"type": "RemoteRule", "required": true}))).await;
    assert_eq!((status, types(&answer).len()), (StatusCode::OK, 1), "{answer}");
    let elsewhere = json!({"type": "RemoteRule", "sources": ["http://127.0.0.1:1/"]});
    let (status, answer) = decision(&server, rules(elsewhere)).await;
    assert!(status == StatusCode::BAD_REQUEST && answer.to_string().contains("has no sources"), "{answer}");
    // Nothing says where files are.
    let toml = "[results]\npolicies = \"policies.yaml\"\n";
    fs_err::write(dir.path().join("assay.toml"), toml).unwrap();
    let (status, answer) = reload().await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.to_string().contains("set [results.remote-rules]"), "{answer}");
}

/// The page of an item says what became of a file of rules, which is no test that has to pass.
#[tokio::test]
async fn pages_speak_of_files_of_rules() {
    let (_dir, server, _koji, git) = with_packages().await;
    found(&server, "dist.lint", "PASSED", json!({"type": "koji_build", "item": "cut-1-1.fc44"})).await;
    // From then on only the page asks for the file.
    until_told(&server, 1).await;
    let page = async || {
        server.clock.advance(301_000_000);
        let (status, page) = server.page("/item?type=koji_build&item=cut-1-1.fc44").await;
        assert_eq!(status, StatusCode::OK, "{page}");
        let (decisions, tests) = page.split_once("id=\"tests\"").unwrap();
        assert!(!tests.contains("gating-yaml"), "{page}");
        decisions.to_owned()
    };
    git.file("cut", "0123456", "gating.yaml", GATING);
    let fetched = page().await;
    let row = row_of(&fetched, "fetched-gating-yaml");
    assert!(row.contains("k-passed") && row.contains("/rpms/cut/raw/0123456/f/gating.yaml"), "{row}");
    assert!(row_of(&fetched, "pkg.unit").contains("k-missing"), "{fetched}");
    git.file("cut", "0123456", "gating.yaml", &GATING.replace("rules", "ruls"));
    let invalid = page().await;
    let row = row_of(&invalid, "invalid-gating-yaml");
    assert!(row.contains("k-failed") && row.contains("did you mean `rules`?"), "{row}");
    git.down(true);
    let unreachable = page().await;
    let row = row_of(&unreachable, "failed-fetch-gating-yaml");
    assert!(row.contains("k-crashed") && row.contains("answers 502"), "{row}");
}

/// A host that takes questions and says nothing is asked once for all who wait for it, one after another; who does not need
/// it does not wait at all.
#[tokio::test]
async fn a_silent_host_keeps_only_those_waiting_who_need_it() {
    let (dir, server, koji, git) = with_packages().await;
    let more = "--- !Policy\nid: release\nproduct_versions: [fedora-*]\ndecision_context: push\n\
                subject_type: compose\nrules:\n  - !PassingTestCaseRule {test_case_name: compose.install}\n";
    fs_err::write(dir.path().join("policies.yaml"), format!("{REMOTE}{more}")).unwrap();
    let (status, answer) = server.ask(Method::POST, "/api/assay/v1/gate/reload", None).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    git.silent(true);
    let builds = ["cut-1-1.fc44", "sow-1-1.fc44", "hem-1-1.fc44"];
    for build in &builds[1..] {
        koji.build(build, BEGINNING / 1_000_000 - 86_400, &[]);
    }
    for build in builds {
        found(&server, "dist.lint", "PASSED", json!({"type": "koji_build", "item": build})).await;
    }
    asking(async || (!git.asked().is_empty()).then_some(())).await.expect("it is asked");
    let compose = json!({"subject_type": "compose", "subject_identifier": COMPOSE});
    let (status, answer) = decision(&server, compose).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let told = until_told(&server, 4).await;
    assert_eq!(told[0], format!("{COMPOSE} for push: Of 1 required test, 1 result missing"), "{told:#?}");
    let lacks = "1 error due to failed fetch of remote rule file";
    for build in builds {
        let wanted = format!("{build} for push: {lacks}");
        assert!(told[1..].iter().any(|told| told.starts_with(&wanted)), "{build}: {told:#?}");
    }
    assert_eq!(git.asked().len(), 1, "{:?}", git.asked());
}
