//! WaiverDB's and Greenwave's APIs: what is asked, what is answered, and what is refused.

use crate::common::{BEGINNING, Server, asking, client};
use camino::Utf8PathBuf;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

pub(crate) const POLICIES: &str = "\
--- !Policy
id: push
product_versions: [fedora-*]
decision_contexts: [push, late]
subject_type: koji_build
rules:
  - !PassingTestCaseRule {test_case_name: dist.rpmlint}
  - !PassingTestCaseRule {test_case_name: dist.abi, scenario: s1}
--- !Policy
id: release
product_versions: [fedora-*]
decision_context: push
subject_type: compose
rules:
  - !PassingTestCaseRule {test_case_name: compose.install}
";
pub(crate) const BUILD: &str = "bash-5.3-1.fc44";
pub(crate) const COMPOSE: &str = "Fedora-44-20261121.n.0";
pub(crate) const WAIVERS: &str = "/api/v1.0/waivers/";

/// Somebody who hears of decisions, and of nothing else.
const HEARER: &str = "[reports]\nmode = \"staging\"\n[reporter.hook]\ndriver = \"webhook\"\n\
    url = \"http://127.0.0.1:9/\"\nsecret-file = \"secret\"\nevents = [\"decision.update\"]\n";

/// A directory with policies; the file that the server reads.
pub(crate) fn configured(policies: &str) -> (tempfile::TempDir, Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs_err::write(dir.path().join(name), text).unwrap();
    write("policies.yaml", policies);
    write("secret", "x");
    write("assay.toml", &format!("[results]\npolicies = \"policies.yaml\"\n{HEARER}"));
    let file = Utf8PathBuf::from_path_buf(dir.path().join("assay.toml")).unwrap();
    (dir, file)
}

async fn start() -> (tempfile::TempDir, Server) {
    let (dir, file) = configured(POLICIES);
    let server = Server::start_with(|config| config.config = Some(file)).await;
    (dir, server)
}

/// Waits until this was told.
pub(crate) async fn until_said(server: &Server, wanted: &str) {
    let found = asking(async || told(server).await.iter().any(|told| told == wanted).then_some(())).await;
    assert!(found.is_some(), "never {wanted:?}: {:#?}", told(server).await);
}

/// What was told of decisions, the oldest first: `about: summary`.
pub(crate) async fn told(server: &Server) -> Vec<String> {
    let (status, all) = server.get("/api/assay/v1/outbox?target=hook&limit=1000").await;
    assert_eq!(status, StatusCode::OK, "{all}");
    let mut told = Vec::new();
    for entry in all["entries"].as_array().unwrap().iter().rev() {
        let (status, whole) = server.get(&format!("/api/assay/v1/outbox/{}", entry["id"])).await;
        assert_eq!(status, StatusCode::OK, "{whole}");
        let (about, summary) = (&whole["about"], &whole["body"]["summary"]);
        told.push(format!("{}: {}", about.as_str().unwrap(), summary.as_str().unwrap()));
    }
    told
}

/// Waits until so much was told; nothing of the clock passes.
pub(crate) async fn until_told(server: &Server, count: usize) -> Vec<String> {
    let found = asking(async || Some(told(server).await).filter(|told| told.len() >= count)).await;
    let Some(found) = found else { panic!("never {count}: {:#?}", told(server).await) };
    found
}

/// What a release waits for: `item context`.
pub(crate) async fn waits(server: &Server, release: &str) -> Vec<String> {
    let (status, all) = server.get(&format!("/api/assay/v1/releases/{release}")).await;
    assert_eq!(status, StatusCode::OK, "{all}");
    let one = |one: &Value| format!("{} {}", one["item"].as_str().unwrap(), one["context"].as_str().unwrap());
    let mut all: Vec<_> = all["items"].as_array().unwrap().iter().map(one).collect();
    all.sort();
    all
}

/// Waits until the release 44 of Fedora waits for this, which is nobody's question.
pub(crate) async fn until_waits(server: &Server, wanted: &[&str]) {
    let found = asking(async || (waits(server, "fedora-44").await == wanted).then_some(())).await;
    assert!(found.is_some(), "never {wanted:?}: {:?}", waits(server, "fedora-44").await);
}

pub(crate) async fn post(server: &Server, path: &str, body: Value) -> Value {
    let (status, answer) = server.ask(Method::POST, path, Some(body)).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    answer
}

/// Posts a result; its number. The time goes on a second.
pub(crate) async fn found(server: &Server, testcase: &str, outcome: &str, data: Value) -> i64 {
    server.clock.advance(1_000_000);
    let body = json!({"testcase": testcase, "outcome": outcome, "data": data});
    post(server, "/api/v2.0/results", body).await["id"].as_i64().unwrap()
}

pub(crate) async fn decision(server: &Server, more: Value) -> (StatusCode, Value) {
    let mut body = json!({"product_version": "fedora-44", "decision_context": "push"});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    server.ask(Method::POST, "/api/v1.0/decision", Some(body)).await
}

/// Types of the requirements, those that are fulfilled first.
pub(crate) fn types(decision: &Value) -> Vec<String> {
    let lists = ["satisfied_requirements", "unsatisfied_requirements"];
    let all = lists.iter().flat_map(|list| decision[*list].as_array().unwrap());
    all.map(|one| format!("{} {}", one["testcase"].as_str().unwrap(), one["type"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn questions_that_cannot_be_answered() {
    let (_dir, server) = start().await;
    let build = json!({"subject_type": "koji_build", "subject_identifier": BUILD});
    let with = |more: Value| {
        let mut body = build.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (body, status, part) in [
        (with(json!({"product_version": null})), 400, "product_version"),
        (with(json!({"decision_context": null})), 400, "Either decision_context or rules is required"),
        (
            with(json!({"rules": [{"type": "PassingTestCaseRule", "test_case_name": "t"}]})),
            400,
            "both decision_context and rules",
        ),
        (json!({}), 400, "Missing required subject"),
        (json!({"subject_type": "koji_build"}), 400, "subject_identifier"),
        (json!({"subject_identifier": BUILD}), 400, "subject_type"),
        (json!({"subject": "x"}), 400, "must be a list"),
        (json!({"subject": ["x"]}), 400, "list of objects"),
        (json!({"subject": [{"item": "x"}]}), 400, "type and item"),
        (json!({"subject": []}), 400, "empty"),
        (
            with(json!({"decision_context": (0..101).map(|number| number.to_string()).collect::<Vec<_>>()})),
            400,
            "101 decision contexts are too many; ask for at most 100",
        ),
        (with(json!({"verbose": "yes"})), 400, "Invalid verbose flag"),
        (with(json!({"when": "today"})), 400, "Invalid \"when\" parameter"),
        (with(json!({"ignore_result": 1})), 400, "ignore_result"),
        (with(json!({"ignore_waiver": ["x"]})), 400, "ignore_waiver"),
        (
            with(json!({"decision_context": "nowhere"})),
            404,
            "Found no applicable policies for koji_build subjects at gate(s) nowhere in fedora-44",
        ),
        // One that no policy is for does not go on with one that has some.
        (
            json!({"subject": [{"type": "koji_build", "item": BUILD}, {"type": "redhat-module", "item": "a-1-1"}]}),
            404,
            "Found no applicable policies for redhat-module subjects",
        ),
    ] {
        let (found, answer) = decision(&server, body.clone()).await;
        let said = answer["message"].as_str().unwrap_or_default();
        assert!(found.as_u16() == status && said.contains(part), "{body}: {found} {answer}");
    }
    // Nothing is required of an update without a policy.
    let update = json!({"subject": [{"type": "bodhi_update", "item": "FEDORA-1"}]});
    let (status, answer) = decision(&server, update).await;
    assert_eq!((status.as_u16(), &answer["summary"]), (200, &json!("No tests are required")), "{answer}");
    for (path, key) in [
        ("about", "/version"),
        ("config", "/outcomes_incomplete/1"),
        ("policies", "/policies/1/id"),
        ("subject_types", "/subject_types/0/id"),
        ("permissions", ""),
    ] {
        let (status, answer) = server.get(&format!("/api/v1.0/{path}")).await;
        assert!(status == StatusCode::OK && answer.pointer(key).is_some(), "{path}: {answer}");
    }
    // What has another address here.
    for path in ["version", "metrics"] {
        let (status, text) = server.page(&format!("/api/v1.0/{path}")).await;
        assert!(status.is_redirection(), "{path}: {status} {text}");
    }
    let (status, _) = server.get("/api/v1.0/nothing").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story from its beginning to its end")]
async fn a_build_from_nothing_to_a_waiver() {
    let (_dir, server) = start().await;
    let build = json!({"subject_type": "koji_build", "subject_identifier": BUILD});
    let with = |more: Value| {
        let mut body = build.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let ask = async |body: Value| {
        let (status, answer) = decision(&server, body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    };
    let first = ask(build.clone()).await;
    assert_eq!(first["summary"], "Of 2 required tests, 2 results missing");
    assert_eq!(first["applicable_policies"], json!(["push"]));
    let missing = &first["unsatisfied_requirements"][1];
    for (key, value) in [
        ("type", json!("test-result-missing")),
        ("testcase", json!("dist.abi")),
        ("scenario", json!("s1")),
        ("subject_type", json!("koji_build")),
        ("subject_identifier", json!(BUILD)),
        ("item", json!({"type": "koji_build", "item": BUILD})),
        ("result_id", Value::Null),
        ("system_architecture", Value::Null),
    ] {
        assert_eq!(missing[key], value, "{key}");
    }
    let before = BEGINNING;
    // By another name of the type; a test that is under way is missing, and has a number.
    let data =
        json!({"type": "brew-build", "item": BUILD, "scenario": "s1", "system_architecture": "x86_64"});
    found(&server, "dist.rpmlint", "INFO", json!({"type": "koji_build", "item": BUILD})).await;
    let running = found(&server, "dist.abi", "RUNNING", data.clone()).await;
    let under_way = ask(build.clone()).await;
    assert_eq!(types(&under_way), ["dist.rpmlint test-result-passed", "dist.abi test-result-missing"]);
    assert_eq!(under_way["unsatisfied_requirements"][0]["result_id"], running);
    let failed = found(&server, "dist.abi", "NEEDS_INSPECTION", data.clone()).await;
    let answer = ask(build.clone()).await;
    assert_eq!(answer["summary"], "Of 2 required tests, 1 test failed");
    let open = &answer["unsatisfied_requirements"][0];
    assert_eq!(
        (&open["type"], &open["result_id"], &open["system_architecture"]),
        (&json!("test-result-failed"), &json!(failed), &json!("x86_64"))
    );
    // As of then, without what is known now, and by rules of its own.
    let then =
        jiff::Timestamp::from_microsecond(before).unwrap().strftime("%Y-%m-%dT%H:%M:%S.000000").to_string();
    let answer = ask(with(json!({"when": then}))).await;
    assert_eq!(answer["summary"], "Of 2 required tests, 2 results missing");
    let answer = ask(with(json!({"ignore_result": [failed]}))).await;
    assert_eq!(types(&answer)[1], "dist.abi test-result-missing");
    let rules = json!([{"type": "PassingTestCaseRule", "test_case_name": "dist.rpmlint"}]);
    let answer = ask(with(json!({"decision_context": null, "rules": rules}))).await;
    assert_eq!((&answer["policies_satisfied"], &answer["applicable_policies"]), (&json!(true), &Value::Null));
    let error = found(&server, "dist.abi", "ERROR", data).await;
    assert_eq!(types(&ask(build.clone()).await)[1], "dist.abi test-result-errored");

    // Waivers: which words are needed, what they change, and how they are taken back.
    let waiver = |more: Value| {
        let mut body = json!({"subject_type": "brew-build", "subject_identifier": BUILD, "testcase": "dist.abi",
            "product_version": "fedora-44", "comment": "known"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (body, part) in [
        (waiver(json!({"comment": ""})), "comment"),
        (waiver(json!({"product_version": null})), "product_version"),
        (waiver(json!({"testcase": " "})), "testcase"),
        (waiver(json!({"waived": "no"})), "waived"),
        (json!({"testcase": "t", "comment": "c", "product_version": "p"}), "subject_type"),
        (json!({"result_id": 99, "comment": "c", "product_version": "p"}), "no result 99"),
        (json!([]), "1 to 1000"),
    ] {
        let (status, answer) = server.ask(Method::POST, WAIVERS, Some(body.clone())).await;
        let said = answer["message"].as_str().unwrap_or_default();
        assert!(status == StatusCode::BAD_REQUEST && said.contains(part), "{body}: {answer}");
    }
    let elsewhere = post(&server, WAIVERS, waiver(json!({"scenario": "s2"}))).await;
    assert_eq!(elsewhere["subject_type"], "koji_build");
    assert_eq!(types(&ask(build.clone()).await)[1], "dist.abi test-result-errored", "another scenario");
    let given = post(&server, WAIVERS, json!([waiver(json!({}))])).await[0].clone();
    assert_eq!(
        (&given["waived"], &given["scenario"], &given["proxied_by"]),
        (&json!(true), &Value::Null, &Value::Null)
    );
    let answer = ask(with(json!({"verbose": true}))).await;
    assert_eq!(answer["summary"], "All required tests (2 total) have passed or been waived");
    let waived = answer["satisfied_requirements"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["waiver_id"] == given["id"]);
    assert_eq!(waived.map(|one| &one["type"]), Some(&json!("test-result-errored-waived")));
    assert!(answer["waivers"].as_array().unwrap().contains(&given), "{answer}");
    assert!(answer["results"].as_array().unwrap().iter().any(|one| one["id"] == error));
    let answer = ask(with(json!({"ignore_waiver": [given["id"]]}))).await;
    assert_eq!(answer["policies_satisfied"], false);
    let answer = ask(with(json!({"product_version": "fedora-45"}))).await;
    assert_eq!(answer["policies_satisfied"], false, "it is of one release");
    let back = post(&server, WAIVERS, waiver(json!({"waived": false}))).await;
    assert_eq!(ask(build.clone()).await["policies_satisfied"], false);

    // How they are found.
    let ids = |answer: &Value| -> Vec<i64> {
        answer["data"].as_array().unwrap().iter().map(|one| one["id"].as_i64().unwrap()).collect()
    };
    let [first, second, third] = [&elsewhere, &given, &back].map(|one| one["id"].as_i64().unwrap());
    for (query, expected) in [
        ("", vec![third, first]),
        ("include_obsolete=true", vec![third, second, first]),
        ("scenario=s2", vec![first]),
        ("subject_type=brew-build&limit=1", vec![third]),
        ("subject_type=koji_build&limit=1&page=2", vec![first]),
        ("testcase=none", vec![]),
        ("since=2099-01-01T00:00:00.000000", vec![]),
    ] {
        let (status, answer) = server.get(&format!("{WAIVERS}?{query}")).await;
        assert_eq!((status.as_u16(), ids(&answer)), (200, expected), "{query}: {answer}");
    }
    let (status, _) = server.get(&format!("{WAIVERS}99")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let one = json!({"subject_type": "koji_build", "subject_identifier": BUILD, "testcase": "dist.abi"});
    let old = json!({"subject": {"type": "brew-build", "item": BUILD}, "testcase": "dist.abi"});
    for (path, body, expected) in [
        ("+filtered", json!({"filters": [one, {"testcase": "none"}]}), vec![third, first]),
        ("+filtered", json!({"filters": []}), vec![]),
        ("+by-subjects-and-testcases", json!({"results": [old]}), vec![third, first]),
        ("+by-subjects-and-testcases", json!({"results": [one], "product_version": "fedora-45"}), vec![]),
        ("+by-subjects-and-testcases", json!({"results": [one], "username": "nobody"}), vec![]),
        (
            "+by-subjects-and-testcases",
            json!({"results": [one], "since": "2099-01-01T00:00:00.000000"}),
            vec![],
        ),
    ] {
        let (status, answer) =
            server.ask(Method::POST, &format!("{WAIVERS}{path}"), Some(body.clone())).await;
        assert_eq!((status.as_u16(), ids(&answer)), (200, expected), "{path} {body}: {answer}");
    }
}

/// A result of an image is one of its compose: for decisions, and for who waives it by its number.
#[tokio::test]
async fn images_belong_to_their_compose() {
    let (_dir, server) = start().await;
    let data = json!({"type": "compose", "item": "Server.iso", "productmd.compose.id": COMPOSE});
    let result = found(&server, "compose.install", "FAILED", data).await;
    let subject = json!({"subject": [{"productmd.compose.id": COMPOSE}], "subject_type": "ignored"});
    let (status, answer) = decision(&server, subject.clone()).await;
    let open = &answer["unsatisfied_requirements"][0];
    assert_eq!((status.as_u16(), &open["result_id"]), (200, &json!(result)), "{answer}");
    assert_eq!(open["item"], json!({"productmd.compose.id": COMPOSE}));
    let waiver = json!({"result_id": result, "product_version": "fedora-44", "comment": "known"});
    let waiver = post(&server, WAIVERS, waiver).await;
    assert_eq!(
        (&waiver["subject_identifier"], &waiver["testcase"]),
        (&json!(COMPOSE), &json!("compose.install"))
    );
    assert_eq!(waiver["subject"], json!({"productmd.compose.id": COMPOSE}));
    let (_, answer) = decision(&server, subject).await;
    assert_eq!(answer["policies_satisfied"], true, "{answer}");
}

#[tokio::test]
async fn pages_say_what_releases_wait_for() {
    let odd = format!(
        "{POLICIES}--- !Policy\nid: odd\nproduct_versions: ['fedora-<script>']\ndecision_context: push\n\
         subject_type: redhat-module\nrules:\n  - !PassingTestCaseRule {{test_case_name: odd}}\n"
    );
    let (_dir, file) = configured(&odd);
    let server = Server::start_with(|config| config.config = Some(file)).await;
    let page = async |path: &str, status: StatusCode, parts: &[&str]| {
        let (found, page) = server.page(path).await;
        assert_eq!(found, status, "{path}: {page}");
        assert!(!page.contains("<script>"), "{path}: {page}");
        for part in parts {
            assert!(page.contains(part), "{path} lacks {part:?}:\n{page}");
        }
    };
    let (fine, missing) = (StatusCode::OK, StatusCode::NOT_FOUND);
    page("/releases", fine, &["Nothing is decided yet"]).await;
    page("/release?version=fedora-44", missing, &["Nothing was decided about the release"]).await;
    // Of what nobody knows and no policy leads to nothing is kept, whoever asks.
    for (version, kind, item) in [
        ("fedora-44", "koji_build", BUILD),
        ("fedora-45", "koji_build", BUILD),
        ("fedora-<script>", "redhat-module", "a-1-1"),
    ] {
        let question = json!({"product_version": version, "subject_type": kind, "subject_identifier": item});
        let (status, answer) = decision(&server, question).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }
    let (one, none) = ("<td class=\"num\"><strong>1</strong></td>", "<td class=\"num\">0</td>");
    page(
        "/releases",
        fine,
        &[
            "<a href=\"/release?version=fedora-44\">fedora-44</a>",
            "<a href=\"/release?version=fedora-%3Cscript%3E\">fedora-&#60;script&#62;</a>",
            one,
            none,
        ],
    )
    .await;
    let parts = ["What fedora-44 waits for", BUILD, "koji_build · push", "dist.rpmlint", "dist.abi"];
    page("/release?version=fedora-44", fine, &parts).await;
    page("/release?version=fedora-44&context=late", fine, &["<h2>Nothing</h2>"]).await;
    page("/release?version=fedora-%3Cscript%3E", fine, &["What fedora-&#60;script&#62; waits for"]).await;
    page("/release?version=fedora-45", missing, &["Nothing was decided about the release"]).await;

    found(&server, "dist.rpmlint", "PASSED", json!({"type": "koji_build", "item": BUILD})).await;
    let data = json!({"type": "koji_build", "item": BUILD, "scenario": "s1"});
    found(&server, "dist.abi", "PASSED", data).await;
    // For both purposes, as soon as it is decided anew.
    until_waits(&server, &[]).await;
    page("/release?version=fedora-44", fine, &["All that was decided about may go on."]).await;
}

/// Bodhi asks for several purposes of several subjects at once: what is decided of each is remembered, told, and decided
/// again.
#[tokio::test]
async fn what_bodhi_asks_is_remembered() {
    let (_dir, server) = start().await;
    let other = "sed-4.9-1.fc44";
    let ask = json!({"decision_context": ["push", "late"], "subject": [
        {"type": "brew-build", "item": BUILD}, {"original_spec_nvr": other},
        {"type": "bodhi_update", "item": "FEDORA-2026-0a1b2c3d4e"},
    ]});
    for _ in 0..2 {
        let (status, answer) = decision(&server, ask.clone()).await;
        assert_eq!((status.as_u16(), &answer["policies_satisfied"]), (200, &json!(false)), "{answer}");
    }
    let missing = "Of 2 required tests, 2 results missing";
    let all = |summary: &str| {
        [(BUILD, "push"), (BUILD, "late"), (other, "push"), (other, "late")]
            .map(|(item, context)| format!("{item} for {context}: {summary}"))
    };
    let mut told = until_told(&server, 4).await;
    let mut wanted = all(missing);
    told.sort();
    wanted.sort();
    assert_eq!(told, wanted, "each once, and nothing of the update, of which no policy speaks");
    assert_eq!(
        waits(&server, "fedora-44").await,
        [format!("{BUILD} late"), format!("{BUILD} push"), format!("{other} late"), format!("{other} push")]
    );
    // By its other name, and only of one of them.
    found(&server, "dist.rpmlint", "PASSED", json!({"original_spec_nvr": BUILD})).await;
    let told = until_told(&server, 6).await;
    let mut news = told[4..].to_vec();
    news.sort();
    let now = "Of 2 required tests, 1 result missing";
    assert_eq!(news, [format!("{BUILD} for late: {now}"), format!("{BUILD} for push: {now}")]);
    let (_, all) = server.get("/api/assay/v1/outbox?target=hook&limit=1").await;
    let (_, last) = server.get(&format!("/api/assay/v1/outbox/{}", all["entries"][0]["id"])).await;
    let fact = &last["body"];
    assert_eq!(fact["subject"], json!({"type": "koji_build", "item": BUILD}), "{fact:#}");
    assert_eq!(fact["previous"]["summary"], missing);
    assert_eq!(fact["previous"]["applicable_policies"], json!(["push"]));
    assert_eq!(
        types(&fact["previous"]),
        ["dist.rpmlint test-result-missing", "dist.abi test-result-missing"]
    );
    assert_eq!(types(&fact["decision"]), ["dist.rpmlint test-result-passed", "dist.abi test-result-missing"]);
}

/// Of a package that a policy leaves out it wants nothing, and says so.
#[tokio::test]
async fn packages_are_left_out() {
    let all = POLICIES.replacen(
        "subject_type: koji_build\n",
        "subject_type: koji_build\nexcluded_packages: [ba*]\n",
        1,
    );
    let (_dir, file) = configured(&all);
    let server = Server::start_with(|config| config.config = Some(file)).await;
    found(&server, "dist.other", "PASSED", json!({"type": "koji_build", "item": BUILD})).await;
    let question = json!({"subject_type": "koji_build", "subject_identifier": BUILD});
    let (status, answer) = decision(&server, question).await;
    assert_eq!((status.as_u16(), &answer["summary"]), (200, &json!("No tests are required")), "{answer}");
    assert_eq!(types(&answer), ["excluded excluded"]);
    let (status, page) = server.page(&format!("/item?type=koji_build&item={BUILD}")).await;
    let (decisions, tests) = page.split_once("id=\"tests\"").unwrap_or((&page, ""));
    assert!(status == StatusCode::OK && !tests.contains("excluded"), "{page}");
    assert!(row_of(decisions, "excluded").contains("k-passed"), "{page}");
    assert_eq!(answer["applicable_policies"], json!(["push"]));
    let question = json!({"subject_type": "koji_build", "subject_identifier": "sed-4.9-1.fc44"});
    let (_, answer) = decision(&server, question).await;
    assert_eq!(answer["summary"], "Of 2 required tests, 2 results missing", "{answer}");
}

/// A result is shown as it is; "waived" stands only beside one that a decision needs the waiver for.
#[tokio::test]
async fn a_test_that_passed_is_not_shown_as_waived() {
    let (_dir, server) = start().await;
    let data = json!({"type": "koji_build", "item": BUILD, "scenario": "s1"});
    for (testcase, outcome) in [("dist.rpmlint", "FAILED"), ("dist.abi", "PASSED"), ("dist.free", "FAILED")] {
        found(&server, testcase, outcome, data.clone()).await;
    }
    let waiver = |testcase: &str| {
        json!({"subject_type": "koji_build", "subject_identifier": BUILD, "testcase": testcase,
            "product_version": "fedora-44", "comment": "known"})
    };
    let waivers = json!(["dist.rpmlint", "dist.abi", "dist.free"].map(waiver));
    let given = post(&server, WAIVERS, waivers).await;
    let question = json!({"subject_type": "koji_build", "subject_identifier": BUILD});
    let (_, answer) = decision(&server, question).await;
    let (passed, waived) = ("dist.abi test-result-passed", "dist.rpmlint test-result-failed-waived");
    assert_eq!(types(&answer), [waived, passed], "{answer}");
    let (status, page) = server.page(&format!("/item?type=koji_build&item={BUILD}")).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    let (_, tests) = page.split_once("id=\"tests\"").unwrap();
    for (number, testcase, badge, waives) in [
        (0, "dist.rpmlint", "k-failed", true),
        (1, "dist.abi", "k-passed", false),
        (2, "dist.free", "k-failed", false),
    ] {
        let (row, id) = (row_of(tests, testcase), &given[number]["id"]);
        let says = if waives { "waived".to_owned() } else { format!("waiver {id}") };
        let link = format!("<a class=\"quiet\" href=\"#waiver-{id}\">{says}</a>");
        assert!(row.contains(badge) && row.contains(&link), "{row}");
    }
}

/// A row of a table of a page.
pub(crate) fn row_of<'p>(page: &'p str, part: &str) -> &'p str {
    let found = page.split("<tr>").find(|row| row.contains(part));
    found.unwrap_or_else(|| panic!("no row has {part:?}: {page}"))
}

const POLICY: &str = "\
--- !Policy
id: a
product_versions: [fedora-*]
decision_context: push
subject_type: koji_build
rules:
  - !PassingTestCaseRule {test_case_name: dist.rpmlint}
";

/// A file of policies is looked at before it is put in force.
#[tokio::test]
async fn files_of_policies_are_validated() {
    let (_dir, server) = start().await;
    let validate = async |text: &[u8]| {
        let request = client().post(server.url("/api/v1.0/validate-gating-yaml"));
        let request = request.bearer_auth(&server.handle.admin_token).body(text.to_vec());
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap())
    };
    found(&server, "dist.rpmlint", "PASSED", json!({"type": "koji_build", "item": BUILD})).await;
    assert_eq!(validate(POLICY.as_bytes()).await, (200, json!({"message": "All OK"})));
    let (status, answer) = validate(POLICY.replace("rpmlint", "rpmlnt").as_bytes()).await;
    let warning = answer["warnings"][0].as_str().unwrap_or_default();
    assert_eq!((status, &answer["message"]), (200, &json!("All OK")), "{answer}");
    for part in ["policy:7:", "nobody knows the test case `dist.rpmlnt`", "did you mean `dist.rpmlint`?"] {
        assert!(warning.contains(part), "{part}: {answer}");
    }
    for (text, part) in [
        (POLICY.replace("test_case_name", "test_case_nam").into_bytes(), "unknown key `test_case_nam`"),
        (POLICY.replace("id: a", "id: [").into_bytes(), "policy:"),
        (Vec::new(), "No policies defined"),
        (b"id: \xff".to_vec(), "not UTF-8"),
    ] {
        let (status, answer) = validate(&text).await;
        let said = answer["message"].as_str().unwrap_or_default();
        assert!(status == 400 && said.contains(part), "{part}: {status} {answer}");
    }
    let (status, answer) = server.get("/api/v1.0/testcases").await;
    assert_eq!((status, answer), (StatusCode::OK, json!({"testcases": ["dist.rpmlint"]})));
}

/// Policies that are put in force say which tests nobody knows, with their places.
#[tokio::test]
async fn policies_in_force_that_nothing_can_fulfil_are_warned_of() {
    let (dir, server) = start().await;
    let reload = async || {
        let (status, answer) = server.ask(Method::POST, "/api/assay/v1/gate/reload", None).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let findings = answer["findings"].as_array().unwrap().clone();
        let findings = findings.into_iter().map(|one| one.as_str().unwrap().to_owned());
        findings.filter(|one| one.contains("nobody knows")).collect::<Vec<String>>()
    };
    assert_eq!(reload().await, [""; 0], "a new server knows no test");
    for testcase in ["dist.rpmlint", "dist.abi", "compose.install"] {
        found(&server, testcase, "PASSED", json!({"type": "koji_build", "item": BUILD})).await;
    }
    assert_eq!(reload().await, [""; 0]);
    let text = POLICIES.replace("dist.abi", "dist.abicheck").replace("compose.install", "compose.instal");
    fs_err::write(dir.path().join("policies.yaml"), text).unwrap();
    let said = reload().await;
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("policies.yaml:8:") && said[0].contains("`dist.abicheck`"), "{said:?}");
    assert!(said[1].contains("did you mean `compose.install`?"), "{said:?}");
}
