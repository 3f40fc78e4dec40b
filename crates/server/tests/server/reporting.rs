//! The outbox and those who are told: order, repetition, refusals, and what people see of it.

use crate::common::{Server, asking};
use assay_fakes::bodhi::FakeBodhi;
use assay_fakes::matrix::Homeserver;
use assay_fakes::sink::HttpSink;
use assay_fakes::smtp::SmtpSink;
use assay_fakes::wiki::FakeWiki;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// A directory with `assay.toml`, secrets and what else is named.
fn configured(toml: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs_err::write(dir.path().join(name), text).unwrap();
    write("assay.toml", toml);
    for (name, text) in files {
        write(name, text);
    }
    dir
}

async fn start(dir: &tempfile::TempDir) -> Server {
    let file = camino::Utf8PathBuf::from_path_buf(dir.path().join("assay.toml")).unwrap();
    Server::start_with(|config| config.config = Some(file)).await
}

async fn again(server: Server, dir: &tempfile::TempDir) -> Server {
    let file = camino::Utf8PathBuf::from_path_buf(dir.path().join("assay.toml")).unwrap();
    server.kill_and_restart_with(|config| config.config = Some(file)).await
}

async fn outbox(server: &Server, query: &str) -> Value {
    let (status, body) = server.get(&format!("/api/assay/v1/outbox{query}")).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

/// Waits until the target is as `wanted`; nothing of the clock passes.
async fn until(server: &Server, target: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let found = asking(async || {
        let all = outbox(server, "").await;
        let one = all["targets"].as_array().unwrap().iter().find(|one| one["target"] == target).cloned();
        one.filter(&wanted)
    });
    let Some(found) = found.await else { panic!("never: {what}: {:#}", outbox(server, "").await) };
    found
}

async fn job(server: &Server, test: &str, build: &str) -> i64 {
    server
        .post(json!({"TEST": test, "BUILD": build, "DISTRI": "fedora", "VERSION": "Rawhide", "FLAVOR": "Server-dvd-iso",
            "ARCH": "x86_64", "MACHINE": "uefi", "BACKEND": "dummy", "RAWREL": "45", "_SECRET_X": "hidden"}))
        .await
}

async fn cancel(server: &Server, job: i64) {
    let (status, body) = server
        .ask(Method::POST, &format!("/api/assay/v1/jobs/{job}/cancel"), Some(json!({"by": "ann"})))
        .await;
    assert_eq!(status, StatusCode::OK, "{body}");
}

async fn comment(server: &Server, job: i64, text: &str) {
    let (status, body) = server
        .ask(Method::POST, &format!("/api/assay/v1/jobs/{job}/comments"), Some(json!({"text": text})))
        .await;
    assert!(status.is_success(), "{body}");
}

/// The mail server is away for an hour: the report of the build waits, is seen to wait, and comes once.
#[tokio::test]
async fn a_mail_server_that_is_down_for_an_hour_gets_each_mail_once() {
    let sink = SmtpSink::start().await.unwrap();
    let (server, port) = (sink.address().ip(), sink.address().port());
    let toml = format!(
        "[mail]\nserver = \"{server}\"\nport = {port}\ntls = \"none\"\nfrom = \"Assay <assay@example.org>\"\n\
         [reporter.team]\ndriver = \"mail\"\nto = [\"qa@example.org\", \"B <b@example.org>\"]\n\
         match = {{ BUILD = \"Fedora-*\" }}\n"
    );
    let dir = configured(&toml, &[]);
    let mut server = start(&dir).await;
    sink.set_down(true);
    let (a, b, other) = (
        job(&server, "install", "Fedora-1").await,
        job(&server, "upgrade", "Fedora-1").await,
        job(&server, "install", "other").await,
    );
    cancel(&server, other).await;
    cancel(&server, a).await;
    assert_eq!(outbox(&server, "").await["entries"], json!([]), "the build has not ended");
    cancel(&server, b).await;
    let waits =
        |one: &Value| one["waiting"] == 1 && one["attempts"].as_i64() > Some(0) && one["trouble"].is_string();
    until(&server, "team", "a first try in vain", waits).await;
    for _ in 0..4 {
        server.pass(450).await;
        server = again(server, &dir).await;
        server.pass(450).await;
    }
    let lag =
        until(&server, "team", "many tries in vain", |one| waits(one) && one["attempts"].as_i64() > Some(4))
            .await;
    assert_eq!((lag["lag"].as_i64() >= Some(3600), sink.mails().len()), (true, 0));
    let (_, page) = server.page("/outbox").await;
    assert!(page.contains("id=\"target-team\"") && page.contains("build Fedora-1"), "{page}");
    sink.set_down(false);
    server.pass(60).await;
    until(&server, "team", "it is told", |one| one["waiting"] == 0 && one["delivered"] == 1).await;
    let mails = sink.mails();
    assert_eq!(
        (mails.len(), &mails[0].to[..]),
        (1, &["qa@example.org".to_owned(), "b@example.org".to_owned()][..])
    );
    let text = &mails[0].text;
    for part in [
        "Subject: Fedora-1: 0/2 passed, 2 not run",
        "Message-ID: <assay.",
        "No missing expected images.",
        "text/html",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(!text.contains("hidden"));
    let server = again(server, &dir).await;
    server.pass(60).await;
    assert_eq!(sink.mails().len(), 1, "once");
}

/// A hook gets every fact, in order, whatever fails; what is refused is seen and can be told again.
#[tokio::test]
async fn a_target_is_told_in_order_until_it_confirms() {
    let sink = HttpSink::start().await.unwrap();
    let toml = format!(
        "[reporter.hook]\ndriver = \"webhook\"\nurl = \"{}/x\"\nsecret-file = \"secret\"\n\
         [reporter.quiet]\ndriver = \"webhook\"\nurl = \"{}/quiet\"\nsecret-file = \"secret\"\nevents = [\"comment.*\"]\n",
        sink.url(),
        sink.url()
    );
    let dir = configured(&toml, &[("secret", "s3cret\n")]);
    let server = start(&dir).await;
    // The first is tried twice, the second is refused for good.
    for status in [503, 200, 422] {
        sink.answer_next(status);
    }
    let id = job(&server, "install", "B").await;
    until(&server, "hook", "a first try in vain", |one| one["attempts"] == 1).await;
    assert_eq!(sink.got().len(), 1, "what comes after it waits");
    cancel(&server, id).await;
    server.pass(2).await;
    until(&server, "hook", "all are told", |one| one["waiting"] == 0).await;
    let got = sink.got();
    let events: Vec<&str> = got.iter().map(|one| one.headers["x-assay-event"].as_str()).collect();
    assert_eq!(&events[..2], ["job.create", "job.create"], "again");
    assert_eq!(&events[2..], ["result.new", "job.cancel", "job.done", "build.done", "result.new"]);
    assert_eq!(got[0].headers["x-assay-delivery"], got[1].headers["x-assay-delivery"]);
    let bodies: Vec<Value> = got.iter().map(|one| serde_json::from_str(&one.body).unwrap()).collect();
    assert_eq!(bodies[4]["body"]["reason"], "cancelled by ann");
    assert_eq!(
        (&bodies[4]["body"]["outcome"], &bodies[4]["body"]["remaining"]),
        (&json!("user_cancelled"), &json!(0))
    );
    assert_eq!(bodies[5]["body"]["report"]["total"], 1);
    assert_eq!(bodies[6]["body"]["result"]["outcome"], "NEEDS_INSPECTION");
    assert!(!got.iter().any(|one| one.body.contains("hidden")), "secrets stay here");

    let refused = outbox(&server, "?state=refused").await;
    let entry = &refused["entries"][0];
    assert!(entry["note"].as_str().unwrap().contains("422"), "{entry}");
    let ids = json!({"ids": [entry["id"]]});
    let (status, answer) = server.ask(Method::POST, "/api/assay/v1/outbox/retry", Some(ids.clone())).await;
    assert_eq!((status, &answer["ids"]), (StatusCode::OK, &ids["ids"]));
    let (_, audit) = server.get("/api/assay/v1/audit?event=outbox_retry").await;
    assert_eq!(audit["events"][0]["data"], ids, "{audit}");
    until(&server, "hook", "it is told again", |one| one["refused"] == 0 && one["waiting"] == 0).await;
    let (_, answer) = server.ask(Method::POST, "/api/assay/v1/outbox/drop", Some(ids)).await;
    assert_eq!(answer["ids"], json!([]), "what is told cannot be given up");

    comment(&server, id, "it is \u{1} \"id\":-9223372036854775808 boo#1").await;
    until(&server, "quiet", "the comment is told", |one| one["delivered"] == 1).await;
    let said: Value =
        serde_json::from_str(&sink.got().iter().find(|one| one.path == "/quiet").unwrap().body).unwrap();
    assert!(
        said["body"]["id"].as_i64() > Some(0)
            && said["id"].as_str().unwrap().ends_with(&said["body"]["id"].to_string())
    );
    assert!(said["body"]["text"].as_str().unwrap().contains("-9223372036854775808"));
    for (body, status, part) in [
        (json!({}), 400, "Name entries, or a target"),
        (json!({"ids": [1], "target": "x"}), 400, "Name entries, or a target"),
        (json!({"target": "absent"}), 404, "no reporter \"absent\""),
        (json!({"id": 1}), 400, "cannot be read"),
    ] {
        let (found, answer) = server.ask(Method::POST, "/api/assay/v1/outbox/retry", Some(body)).await;
        assert!(
            found.as_u16() == status && answer["error"].as_str().unwrap().contains(part),
            "{found} {answer}"
        );
    }
    let (status, _) = server.get("/api/assay/v1/outbox?state=x").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn staging_tells_nobody() {
    let sink = HttpSink::start().await.unwrap();
    let toml = format!(
        "[reports]\nmode = \"staging\"\n[reporter.hook]\ndriver = \"webhook\"\nurl = \"{}\"\nsecret-file = \"secret\"\n",
        sink.url()
    );
    let dir = configured(&toml, &[("secret", "x")]);
    let server = start(&dir).await;
    let id = job(&server, "install", "B").await;
    cancel(&server, id).await;
    until(&server, "hook", "all are logged", |one| {
        one["waiting"] == 0 && one["skipped"].as_i64() > Some(4) && one["delivered"] == 0
    })
    .await;
    assert_eq!(sink.got(), []);
    let all = outbox(&server, "").await;
    assert_eq!(
        (&all["staging"], &all["entries"][0]["note"]),
        (&json!(true), &json!("staging: logged, not sent"))
    );
    let skipped = all["targets"][0]["skipped"].clone();
    // Once it is live, what was not sent can be.
    let live = toml.replace("staging", "live");
    fs_err::write(dir.path().join("assay.toml"), live).unwrap();
    let server = again(server, &dir).await;
    let choice = json!({"target": "hook", "state": "skipped"});
    let (status, body) = server.ask(Method::POST, "/api/assay/v1/outbox/retry", Some(choice)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    until(&server, "hook", "all are told", |one| one["skipped"] == 0 && one["delivered"] == skipped).await;
}

/// A room, an update and a wiki: each once, the wiki only with passes and in one edit.
#[tokio::test]
async fn rooms_updates_and_wikis() {
    let (room, bodhi, wiki) = (
        Homeserver::start().await.unwrap(),
        FakeBodhi::start().await.unwrap(),
        FakeWiki::start().await.unwrap(),
    );
    let title = "Test Results:Fedora 45 Rawhide 20261121.n.0 Installation";
    let row = "|-\n| Basic\n| [[QA:Testcase_NAME|NAME]]\n| {{result|none}}\n";
    let rows = ["a", "b", "c"].map(|name| row.replace("NAME", name)).concat();
    wiki.put(title, &format!("== Default ==\n{{|\n! Milestone !! Test Case !! x86_64 UEFI\n{rows}|}}\n"));
    wiki.meanwhile(title, "<!-- theirs -->\n");
    let toml = format!(
        "[reporter.room]\ndriver = \"matrix\"\nurl = \"{}\"\nroom = \"#qa:example.org\"\ntoken-file = \"matrix\"\n\
         [reporter.bodhi]\ndriver = \"bodhi\"\nurl = \"{}\"\ntoken-file = \"bodhi\"\n\
         [reporter.wiki]\ndriver = \"mediawiki\"\nurl = \"{}\"\nuser = \"{}\"\npassword-file = \"wiki\"\ncases = \"cases.toml\"\n",
        room.url(),
        bodhi.url(),
        wiki.api(),
        assay_fakes::wiki::LOGIN.0
    );
    let cases = "user = \"coconut\"\n\
        pages = [{ version = \"Rawhide\", title = \"Test Results:Fedora {RAWREL} Rawhide {compose} {type}\" }]\n\
        [suites]\nta = [\"QA:Testcase_a\"]\ntb = [\"QA:Testcase_b\"]\ntc = [\"QA:Testcase_c\"]\n\
        [cases.\"QA:Testcase_a\"]\ntype = \"Installation\"\nenv = \"$BOOTMETHOD$\"\n\
        [cases.\"QA:Testcase_b\"]\ntype = \"Installation\"\nenv = \"$BOOTMETHOD$\"\n\
        [cases.\"QA:Testcase_c\"]\ntype = \"Installation\"\n";
    let secrets = [
        ("matrix", assay_fakes::matrix::TOKEN),
        ("bodhi", assay_fakes::bodhi::TOKEN),
        ("wiki", assay_fakes::wiki::LOGIN.1),
        ("cases.toml", cases),
    ];
    let dir = configured(&toml, &secrets);
    let server = start(&dir).await;
    let build = "Fedora-Rawhide-20261121.n.0";
    // Most builds have no page: those of this one are refused, and the others are told.
    for test in ["ta", "tc"] {
        let id = job(&server, test, "Fedora-Rawhide-20261120.n.0").await;
        let path = format!("/api/v1/jobs/{id}/set_done?result=passed");
        let (status, body) = server.ask(Method::POST, &path, None).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    until(&server, "wiki", "there is no page", |one| one["refused"] == 2).await;
    // Of what nobody asked to be reported a wiki does not hear.
    let hidden = job(&server, "tb", &format!("{build}-EXTRA")).await;
    let (status, body) =
        server.ask(Method::POST, &format!("/api/v1/jobs/{hidden}/set_done?result=passed"), None).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    until(&server, "wiki", "it is not reported", |one| one["skipped"] == 1).await;
    let note = outbox(&server, "?target=wiki").await["entries"][0]["note"].clone();
    assert_eq!(note, "it is not reported: BUILD ends with EXTRA");
    let mut ids = Vec::new();
    for test in ["ta", "tb", "tc", "td"] {
        ids.push(job(&server, test, build).await);
    }
    for (id, outcome) in ids.iter().zip(["passed", "failed", "passed", "passed"]) {
        let path = format!("/api/v1/jobs/{id}/set_done?result={outcome}");
        let (status, body) = server.ask(Method::POST, &path, None).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    until(&server, "wiki", "the wiki is told", |one| one["delivered"] == 2 && one["skipped"] == 3).await;
    let text = wiki.text(title);
    assert_eq!(text.matches("{{result|pass|coconut|bot=true}}").count(), 2, "{text}");
    assert_eq!(text.matches("{{result|none}}").count(), 1, "what failed stays empty: {text}");
    assert!(text.contains("<!-- theirs -->"), "what they wrote stays");
    // Once there is a page it can be told again.
    let earlier = "Test Results:Fedora 45 Rawhide 20261120.n.0 Installation";
    wiki.put(earlier, &format!("== Default ==\n{{|\n! Milestone !! Test Case !! x86_64 UEFI\n{rows}|}}\n"));
    let (status, body) =
        server.ask(Method::POST, "/api/assay/v1/outbox/retry", Some(json!({"target": "wiki"}))).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    until(&server, "wiki", "it is told again", |one| one["refused"] == 0 && one["waiting"] == 0).await;
    assert_eq!(wiki.text(earlier).matches("{{result|pass|coconut|bot=true}}").count(), 2);
    let said = || {
        let all = room.messages();
        all.into_iter()
            .filter_map(|one| one["body"].as_str().map(str::to_owned))
            .find(|line| line.starts_with(&format!("{build}: ")))
    };
    until(&server, "room", "the room is told", |one| one["waiting"] == 0).await;
    let line = said().unwrap();
    assert!(line.starts_with("Fedora-Rawhide-20261121.n.0: 3/4 passed, 1 new failure http://"), "{line}");

    let update = assay_fakes::bodhi::UPDATE;
    for update in ["FEDORA-2026-misspelt", update] {
        let waiver = json!({"subject_type": "bodhi_update", "subject_identifier": update, "testcase": "update.install",
            "product_version": "fedora-45", "comment": "known"});
        let (status, body) = server.ask(Method::POST, "/api/v1.0/waivers/", Some(waiver)).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
    }
    until(&server, "bodhi", "there is no such update", |one| one["refused"] == 1).await;
    until(&server, "bodhi", "Bodhi is told", |one| one["delivered"] == 1).await;
    assert_eq!(bodhi.waived(), [json!({"comment": "known", "tests": ["update.install"]})]);

    let (status, report) =
        server.get(&format!("/api/assay/v1/reports/builds/{build}?expect=Cloud%20x86_64")).await;
    assert_eq!(
        (status, &report["passed"], &report["total"]),
        (StatusCode::OK, &json!(3), &json!(4)),
        "{report}"
    );
    assert_eq!(report["missing_images"], json!(["Cloud x86_64"]));
    let (status, page) = server.page(&format!("/reports/builds/{build}")).await;
    assert!(status.is_success() && page.contains("New failures: 1") && page.contains("tb"), "{page}");
    let (status, answer) = server.get("/api/assay/v1/reports/builds/absent").await;
    assert!(
        status == StatusCode::NOT_FOUND && answer["error"].as_str().unwrap().contains("no jobs of the build")
    );
}

/// Bodhi hears of the decisions about its updates, and of no others; of what is only missing it need not hear.
#[tokio::test]
async fn an_update_has_its_decisions_as_comments() {
    let bodhi = FakeBodhi::start().await.unwrap();
    let policies = "--- !Policy\nid: updates\nproduct_versions: [fedora-*]\ndecision_context: stable\n\
        subject_types: [bodhi_update, compose]\nrules:\n  - !PassingTestCaseRule {test_case_name: update.install}\n";
    let toml = format!(
        "[results]\npolicies = \"policies.yaml\"\n\
         [reporter.bodhi]\ndriver = \"bodhi\"\nurl = \"{}\"\ntoken-file = \"bodhi\"\n",
        bodhi.url()
    );
    let files = [("policies.yaml", policies), ("bodhi", assay_fakes::bodhi::TOKEN)];
    let dir = configured(&toml, &files);
    let server = start(&dir).await;
    let update = assay_fakes::bodhi::UPDATE;
    let found = async |outcome: &str, arch: &str| {
        server.clock.advance(1_000_000);
        let data = json!({"type": "bodhi_update", "item": update, "system_architecture": arch});
        let result = json!({"testcase": "update.install", "outcome": outcome, "data": data});
        let (status, body) = server.ask(Method::POST, "/api/v2.0/results", Some(result)).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
    };
    // Nobody says yet of which release it is.
    found("QUEUED", "x86_64").await;
    let ask = json!({"product_version": "fedora-45", "decision_context": ["stable"], "subject": [
        {"type": "bodhi_update", "item": update}, {"productmd.compose.id": "Fedora-45-20261121.n.0"},
    ]});
    let (status, body) = server.ask(Method::POST, "/api/v1.0/decision", Some(ask)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let delivered = async |count: i64| {
        until(&server, "bodhi", "Bodhi is told", |one| dealt_with(one) == count).await;
    };
    delivered(2).await;
    assert_eq!(bodhi.comments(), [""; 0], "that something is missing is no news");
    // That more is under way is another decision for nobody; that it fails is, and that it fails otherwise is no news.
    found("QUEUED", "aarch64").await;
    found("FAILED", "x86_64").await;
    delivered(3).await;
    found("ERROR", "x86_64").await;
    delivered(4).await;
    found("PASSED", "x86_64").await;
    delivered(5).await;
    found("PASSED", "aarch64").await;
    delivered(6).await;
    let comments = bodhi.comments();
    let [first, second] = &comments[..] else { panic!("{comments:#?}") };
    assert!(
        first.starts_with(&format!("{update} may not go on (stable for fedora-45) http://"))
            && first.contains("1 test failed"),
        "{first}"
    );
    assert!(
        second.starts_with(&format!("{update} may go on (stable for fedora-45) http://"))
            && second.contains("have passed or been waived\nBefore: Of 2 required tests, 1 result missing"),
        "{second}"
    );
    let notes = outbox(&server, "?target=bodhi").await["entries"].clone();
    for wanted in ["it is about no update", "it is as it was"] {
        assert!(notes.as_array().unwrap().iter().any(|one| one["note"] == wanted), "{wanted}: {notes:#}");
    }
}

/// Each team is sent the part of a build's report that is its own: nothing of what it does not want, and nothing at all where
/// it has no jobs or wants only bad news.
#[tokio::test]
async fn each_team_hears_of_its_own_part_of_a_build() {
    let sink = SmtpSink::start().await.unwrap();
    let (server, port) = (sink.address().ip(), sink.address().port());
    let team = |name: &str, wants: &str| {
        format!("[reporter.{name}]\ndriver = \"mail\"\nto = [\"{name}@example.org\"]\n{wants}\n")
    };
    let teams = [
        team("all", ""),
        team("server", "match = { FLAVOR = \"Server-*\" }\nnot = { ARCH = \"s390x\" }"),
        team("cloud", "match = { FLAVOR = \"Cloud-*\" }\nonly = \"errors\""),
        team("desktop", "match = { FLAVOR = \"Workstation-*\" }"),
        team("mainframe", "match = { ARCH = \"s390x\" }\nonly = \"errors\""),
    ];
    let toml = format!(
        "[mail]\nserver = \"{server}\"\nport = {port}\ntls = \"none\"\nfrom = \"assay@example.org\"\n{}",
        teams.concat()
    );
    let dir = configured(&toml, &[]);
    let server = start(&dir).await;
    let mut jobs = Vec::new();
    for (flavor, arch, outcome) in [
        ("Server-dvd-iso", "x86_64", "passed"),
        ("Server-dvd-iso", "s390x", "failed"),
        ("Cloud-qcow2", "x86_64", "passed"),
    ] {
        let settings = json!({"TEST": "install", "BUILD": "B", "DISTRI": "fedora", "VERSION": "Rawhide", "FLAVOR": flavor,
            "ARCH": arch, "MACHINE": "64bit", "BACKEND": "dummy"});
        jobs.push((server.post(settings).await, outcome));
    }
    for (id, outcome) in jobs {
        let path = format!("/api/v1/jobs/{id}/set_done?result={outcome}");
        let (status, body) = server.ask(Method::POST, &path, None).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    for name in ["all", "server", "cloud", "desktop", "mainframe"] {
        until(&server, name, "it is dealt with", |one| one["delivered"] == 1 || one["skipped"] == 1).await;
    }
    let mails = sink.mails();
    let mut subjects: Vec<String> = mails
        .iter()
        .map(|mail| {
            let line = mail.text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap();
            format!("{}: {line}", mail.to.join(" "))
        })
        .collect();
    subjects.sort();
    assert_eq!(
        subjects,
        [
            "all@example.org: B: 2/3 passed, 1 new failure",
            "mainframe@example.org: B: 0/1 passed, 1 new failure",
            "server@example.org: B: 1/1 passed",
        ]
    );
    for (name, part) in
        [("cloud", "nothing failed, and nothing is missing"), ("desktop", "no job of the build")]
    {
        let note = outbox(&server, &format!("?target={name}")).await["entries"][0]["note"].clone();
        assert!(note.as_str().is_some_and(|note| note.contains(part)), "{name}: {note}");
    }
}

/// What a reporter had not told when it got another name says so.
#[tokio::test]
async fn what_nobody_tells_any_more_says_what_to_do() {
    let toml = |name: &str| {
        format!(
            "[reporter.{name}]\ndriver = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\nsecret-file = \"secret\"\nevents = [\"job.create\"]\n"
        )
    };
    let dir = configured(&toml("before"), &[("secret", "s3cret")]);
    let server = start(&dir).await;
    job(&server, "a", "B").await;
    until(&server, "before", "it waits", |one| one["waiting"] == 1 && one["attempts"] != 0).await;
    fs_err::write(dir.path().join("assay.toml"), toml("after")).unwrap();
    let server = again(server, &dir).await;
    let hint = "no [reporter.before] in assay.toml any more";
    until(&server, "before", "what to do", |one| {
        one["waiting"] == 1 && one["trouble"].as_str().is_some_and(|trouble| trouble.contains(hint))
    })
    .await;
}

/// Everything that is wrong with a configuration, at once and with its line.
#[tokio::test]
async fn what_is_wrong_is_said_at_once() {
    let toml = "[reports]\nmode = \"stagin\"\n\
        [reporter.a]\ndriver = \"fax\"\n\
        [reporter.b]\ndriver = \"mail\"\nto = [\"nobody\"]\nevents = [\"job.don\"]\n\
        [reporter.c]\ndriver = \"amqp\"\nurl = \"http://x\"\nsays = [\"klingon\"]\nqueue = \"q\"\n\
        [reporter.d]\ndriver = \"irc\"\nserver = \"s\"\nchannel = \"#a b\"\n\
        [reporter.E]\ndriver = \"matrix\"\n";
    let dir = configured(toml, &[]);
    let file = camino::Utf8PathBuf::from_path_buf(dir.path().join("assay.toml")).unwrap();
    let clock = std::sync::Arc::new(assay_proto::clock::ManualClock::new(assay_engine::ids::Timestamp(0)));
    let data = file.with_file_name("data");
    let started = Server::on(&data, clock, |config| config.config = Some(file.clone())).await;
    let said = started.err().unwrap().to_string();
    for part in [
        "assay.toml:2:8: error: \"stagin\" is no mode",
        "there is no driver \"fax\"",
        "\"nobody\" is no address",
        "no event is like \"job.don\"",
        "url begins with amqp:// or amqps://",
        "nobody says \"klingon\"",
        "there is no key of this reporter `queue`",
        "\"#a b\" has characters that IRC does not take",
        "\"E\" is no reporter's name",
        "the reporter has no room",
        "a reporter writes mails, and there is no mail server",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
}

async fn ended(server: &Server, test: &str, outcome: &str) -> i64 {
    let id = job(server, test, "B").await;
    let path = format!("/api/v1/jobs/{id}/set_done?result={outcome}");
    let (status, body) = server.ask(Method::POST, &path, None).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    id
}

/// A build that is started anew has ended again: people hear of it only if its result is another one.
#[tokio::test]
async fn people_hear_of_a_build_again_only_if_its_result_is_another_one() {
    let (sink, room) = (SmtpSink::start().await.unwrap(), Homeserver::start().await.unwrap());
    let hooked = HttpSink::start().await.unwrap();
    let toml = format!(
        "[mail]\nserver = \"{}\"\nport = {}\ntls = \"none\"\nfrom = \"Assay <assay@example.org>\"\n\
         [reporter.team]\ndriver = \"mail\"\nto = [\"qa@example.org\"]\n\
         [reporter.room]\ndriver = \"matrix\"\nurl = {:?}\nroom = {:?}\ntoken-file = \"matrix\"\n\
         [reporter.hook]\ndriver = \"webhook\"\nurl = {:?}\nsecret-file = \"secret\"\nevents = [\"build.done\"]\n",
        sink.address().ip(),
        sink.address().port(),
        room.url(),
        assay_fakes::matrix::ROOM.0,
        hooked.url()
    );
    let dir = configured(&toml, &[("matrix", assay_fakes::matrix::TOKEN), ("secret", "s3cret")]);
    let mut server = start(&dir).await;
    let end = async |server: &Server, id: i64, outcome: &str| {
        let path = format!("/api/v1/jobs/{id}/set_done?result={outcome}");
        let (status, body) = server.ask(Method::POST, &path, None).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    };
    let mut last = job(&server, "b", "B").await;
    ended(&server, "a", "passed").await;
    end(&server, last, "failed").await;
    for (delivered, outcome, mails) in
        [(1, None, 1), (2, Some("failed"), 1), (3, Some("passed"), 2), (4, Some("passed"), 2)]
    {
        if let Some(outcome) = outcome {
            let path = format!("/api/assay/v1/jobs/{last}/restart");
            let (status, body) = server.ask(Method::POST, &path, Some(json!({}))).await;
            assert_eq!(status, StatusCode::OK, "{body}");
            last = body["clones"][0]["clone"].as_i64().unwrap();
            server = again(server, &dir).await;
            end(&server, last, outcome).await;
        }
        for target in ["team", "room", "hook"] {
            until(&server, target, "it is dealt with", |one| {
                dealt_with(one) == delivered && one["waiting"] == 0
            })
            .await;
        }
        assert_eq!((sink.mails().len(), room.messages().len()), (mails, mails), "{outcome:?}");
    }
    assert_eq!(hooked.got().len(), 4, "machines hear of every end");
    assert!(sink.mails()[1].text.contains("Subject: B: 2/2 passed"), "{}", sink.mails()[1].text);
    let entries = outbox(&server, "?target=team").await;
    let notes: Vec<&str> =
        entries["entries"].as_array().unwrap().iter().map(|one| one["note"].as_str().unwrap()).collect();
    let again = |note: &str| note.ends_with(", as it was told before");
    assert_eq!(
        notes.iter().map(|note| again(note)).collect::<Vec<_>>(),
        [true, false, true, false],
        "{notes:?}"
    );
}

/// Entries that were told, or need not be.
fn dealt_with(target: &Value) -> i64 {
    target["delivered"].as_i64().unwrap() + target["skipped"].as_i64().unwrap()
}

/// What waits for a person, or does not any more.
async fn waiting(server: &Server, target: &str, count: i64) {
    until(server, target, &format!("{count} waiting"), |one| one["waiting"] == count).await;
}

#[tokio::test]
async fn people_hear_what_they_asked_for_when_they_want_it() {
    let sink = SmtpSink::start().await.unwrap();
    let toml = format!(
        "[mail]\nserver = \"{}\"\nport = {}\ntls = \"none\"\nfrom = \"assay@example.org\"\n",
        sink.address().ip(),
        sink.address().port()
    );
    let dir = configured(&toml, &[]);
    let server = start(&dir).await;
    let rules = json!({"mail": "Ann <ann@example.org>", "rules": [
        {"name": "changes", "wants": {"events": ["job.done"], "matching": {"TEST": ["install*"]}}, "on_change": true},
        {"name": "talk", "wants": {"events": ["comment.create"]}, "digest": "daily", "own": true},
        {"name": "feed", "wants": {"events": ["build.done"]}, "by_mail": false},
        {"name": "twice", "wants": {"events": ["job.done"], "matching": {"TEST": ["install*"]}}, "on_change": true, "by_mail": false},
    ]});
    let (status, nobody) = server.ask(Method::PUT, "/api/assay/v1/notices/ann", Some(rules.clone())).await;
    assert!(
        status == StatusCode::NOT_FOUND && nobody["error"] == "There is nobody named \"ann\".",
        "{nobody}"
    );
    crate::people::cookie_of(&server, "ann", "viewer").await;
    let (status, kept) = server.ask(Method::PUT, "/api/assay/v1/notices/ann", Some(rules.clone())).await;
    assert_eq!((status, &kept["mail_works"]), (StatusCode::OK, &json!(true)), "{kept}");
    let server = again(server, &dir).await;
    for outcome in ["passed", "passed", "failed", "failed", "passed"] {
        ended(&server, "install", outcome).await;
        waiting(&server, "person/ann", 0).await;
    }
    let last = ended(&server, "other", "failed").await;
    let subjects = |sink: &SmtpSink| {
        let subject = |mail: assay_fakes::smtp::Mail| {
            let line = mail.text.lines().find_map(|line| line.strip_prefix("Subject: ").map(str::to_owned));
            line.unwrap()
        };
        sink.mails().into_iter().map(subject).collect::<Vec<_>>()
    };
    let said = subjects(&sink);
    assert_eq!(said.len(), 2, "only changes: {said:?}");
    assert!(said[0].ends_with("of B failed") && said[1].ends_with("of B passed"), "{said:?}");

    comment(&server, last, "first").await;
    comment(&server, last, "second").await;
    waiting(&server, "person/ann", 2).await;
    server.clock.advance(6 * 3_600_000_000);
    server.handle.tick().await;
    waiting(&server, "person/ann", 2).await;
    server.clock.advance(3_600_000_000);
    server.handle.tick().await;
    waiting(&server, "person/ann", 0).await;
    let mails = sink.mails();
    assert_eq!(subjects(&sink)[2], "2 notices (talk)");
    let text = &mails[2].text;
    assert!(
        text.contains("first") && text.contains("second") && mails[2].to == ["ann@example.org"],
        "{text}"
    );

    let feed = kept["feed"].as_str().unwrap();
    let path = &feed[feed.find("/feeds/").unwrap()..];
    let (status, atom) = server.page(path).await;
    assert!(
        status.is_success() && atom.starts_with("<?xml") && atom.matches("<entry>").count() >= 7,
        "{atom}"
    );
    assert!(atom.contains("Build B of fedora Rawhide has ended"), "{atom}");
    for change in ["of B failed</title>", "of B passed</title>"] {
        assert_eq!(atom.matches(change).count(), 1, "only changes, and once for both rules: {atom}");
    }
    let (path, last) = path.split_at(path.len() - 1);
    let other = if last == "0" { "1" } else { "0" };
    assert_eq!(server.page(&format!("{path}{other}")).await.0, StatusCode::NOT_FOUND);

    // The address is long, and mails break long lines.
    let whole = mails[1].text.replace("=\n", "").replace("=3D", "=");
    let at = whole.rfind("/unsubscribe/ann/changes/").unwrap();
    let end: String = whole[at..].chars().take_while(|c| !c.is_whitespace()).collect();
    let head = whole.split("\n\n").next().unwrap().replace("\n ", "");
    assert!(head.contains("List-Unsubscribe: <http"), "{head}");
    assert!(head.contains("List-Unsubscribe-Post: List-Unsubscribe=One-Click"), "{head}");
    assert!(server.page(&end).await.1.contains("<form method=\"post\">"));
    ended(&server, "install", "failed").await;
    waiting(&server, "person/ann", 0).await;
    assert_eq!(sink.mails().len(), 4, "looking changes nothing");
    // As a mail program does it, without looking at a page (RFC 8058).
    let one_click = [("List-Unsubscribe", "One-Click")];
    let request = crate::common::client().post(server.url(&end));
    let answer = crate::people::with_form(request, &one_click).send().await.unwrap();
    assert!(answer.status().is_success());
    ended(&server, "install", "passed").await;
    waiting(&server, "person/ann", 0).await;
    assert_eq!(sink.mails().len(), 4, "no more of it");
    let (_, now) = server.get("/api/assay/v1/notices/ann").await;
    assert_eq!(now["notices"]["rules"][0]["enabled"], false);
    for (body, part) in [
        (json!({"mail": "x"}), "\"x\" is no address"),
        (json!({"rules": [{"name": "A", "wants": {"events": []}}]}), "\"A\" is no rule's name"),
        (json!({"rule": []}), "unknown field"),
    ] {
        let (status, answer) = server.ask(Method::PUT, "/api/assay/v1/notices/bob", Some(body)).await;
        assert!(
            status == StatusCode::BAD_REQUEST && answer["error"].as_str().unwrap().contains(part),
            "{answer}"
        );
    }
    let stranger = crate::common::client().get(server.url("/api/assay/v1/notices/ann")).send().await.unwrap();
    assert!(stranger.status().is_client_error(), "{}", stranger.status());
}

/// Somebody's own rules, by the forms of their page; what they want to hear of comes to their room.
#[tokio::test]
async fn people_change_their_rules_on_a_page_and_hear_in_a_room() {
    let home = Homeserver::start().await.unwrap();
    let toml = format!(
        "[reporter.room]\ndriver = \"matrix\"\nurl = {:?}\nroom = \"#qa:example.org\"\ntoken-file = \"token\"\nevents = [\"waiver.new\"]\n",
        home.url()
    );
    let dir = configured(&toml, &[("token", assay_fakes::matrix::TOKEN)]);
    let server = start(&dir).await;
    let cookie = crate::people::cookie_of(&server, "ann", "viewer").await;
    let own = server.url("").trim_end_matches('/').to_owned();
    let send = async |path: &str, form: &[(&str, &str)]| {
        let answer =
            crate::people::browser(&server, Method::POST, path, Some(&cookie), Some(&own), form).await;
        let to = answer.headers().get("location").map(|to| to.to_str().unwrap().to_owned());
        (answer.status(), to, answer.text().await.unwrap())
    };
    let page = async |path: &str| {
        let answer = crate::people::browser(&server, Method::GET, path, Some(&cookie), None, &[]).await;
        (answer.status(), answer.text().await.unwrap())
    };
    let (status, empty) = page("/notices").await;
    assert!(status.is_success() && empty.contains("id=\"new-rule\""), "{empty}");
    // What is wrong is said on the page, with what was filled in.
    for (path, form, part) in [
        ("/notices", &[("mail", "ann")][..], "is no address"),
        ("/notices", &[("matrix", "@ann:example.org")], "is no room of Matrix"),
        ("/notices", &[("from", "22:00")], "have a beginning and an end"),
        ("/notices", &[("from", "22:00"), ("to", "25:00")], "is no time of the day"),
        (
            "/notices/rule",
            &[("rule", "a"), ("event", "job.done"), ("matching", "TEST install")],
            "names nothing that could be like it",
        ),
        ("/notices/rule", &[("rule", "a"), ("enabled", "1")], "names no events"),
    ] {
        let (status, _, text) = send(path, form).await;
        assert!(status == StatusCode::BAD_REQUEST && text.contains(part), "{part}: {text}");
    }
    let room =
        [("matrix", assay_fakes::matrix::ROOM.0), ("from", "22:00"), ("to", "07:00"), ("ahead", "+01:00")];
    assert_eq!(send("/notices", &room).await.1.as_deref(), Some("/notices?saved=where"));
    let rule = [
        ("rule", "failures"),
        ("event", "job.done"),
        ("patterns", "waiver.*"),
        ("matching", "TEST: install*\r\noutcome: failed"),
        ("digest", "off"),
        ("by_matrix", "1"),
        ("enabled", "1"),
    ];
    assert_eq!(send("/notices/rule", &rule).await.1.as_deref(), Some("/notices?saved=failures"));
    let (_, kept) = server.get("/api/assay/v1/notices/ann").await;
    let expected = json!({"matrix": "!abc:example.org", "quiet": {"from": 1320, "to": 420, "ahead": 60}, "rules": [{
        "name": "failures", "wants": {"events": ["job.done", "waiver.*"], "matching": {"TEST": ["install*"], "outcome": ["failed"]}},
        "on_change": false, "digest": "off", "own": false, "by_mail": false, "by_matrix": true, "enabled": true,
    }]});
    assert_eq!((&kept["notices"], &kept["matrix_works"]), (&expected, &json!(true)));
    let (_, shown) = page("/notices").await;
    for part in [
        "value=\"job.done\" checked",
        "value=\"waiver.*\"",
        "TEST: install*\noutcome: failed",
        "value=\"22:00\"",
        "value=\"+01:00\"",
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    assert!(shown.contains("There are no mails") || shown.contains("there are no mails"), "{shown}");
    // It is told in the room, outside quiet hours.
    assert!(send("/notices", &room[..1]).await.0.is_redirection());
    for (test, outcome) in [("install", "passed"), ("other", "failed"), ("install", "failed")] {
        ended(&server, test, outcome).await;
    }
    waiting(&server, "person/ann", 0).await;
    let said = home.messages();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0]["body"].as_str().unwrap().contains("of B failed"), "{said:?}");
    // Renamed, and removed.
    let other = [("before", "failures"), ("rule", "others"), ("event", "job.done"), ("by_matrix", "1")];
    assert!(send("/notices/rule", &other).await.0.is_redirection());
    let (_, kept) = server.get("/api/assay/v1/notices/ann").await;
    assert_eq!(
        (&kept["notices"]["rules"][0]["name"], kept["notices"]["rules"].as_array().unwrap().len()),
        (&json!("others"), 1)
    );
    assert_eq!(kept["notices"]["rules"][0]["enabled"], false);
    assert!(send("/notices/rule", &[("before", "others"), ("remove", "1")]).await.0.is_redirection());
    assert_eq!(server.get("/api/assay/v1/notices/ann").await.1["notices"]["rules"], json!([]));
    // Nobody looks at what is another's, or comes without a name.
    assert_eq!(page("/notices?name=bob").await.0, StatusCode::FORBIDDEN);
    assert_eq!(send("/notices/rule", &[("name", "bob"), ("rule", "a")]).await.0, StatusCode::FORBIDDEN);
    let stranger = crate::people::browser(&server, Method::GET, "/notices", None, None, &[]).await;
    assert_eq!(stranger.headers()["location"], "/login?next=/notices");
}
