//! Rules in a running server: the pages of what they did, how many of their jobs are open at once, what goes together.

use crate::common::events::configure;
use crate::common::{Server, has};
use assay_engine::outcome::Outcome;
use assay_fakes::worker::Connection;
use camino::{Utf8Path, Utf8PathBuf};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const MINUTE: i64 = 60_000_000;

/// A server with these rules; the place of its configuration, and its file.
async fn start(rules: &str) -> (Server, Utf8PathBuf, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = configure(Utf8Path::from_path(dir.path()).unwrap(), rules);
    let server = Server::start_with(|config| config.config = Some(file.clone())).await;
    (server, file, dir)
}

/// A page that is there and has no script in it that somebody else wrote.
async fn page(server: &Server, path: &str) -> String {
    let (status, page) = server.page(path).await;
    assert_eq!(status, StatusCode::OK, "{path}: {page}");
    assert!(!page.contains("<script>"), "{path}: {page}");
    page
}

const RULES: &str = r"
rules:
  - name: built
    description: every <build> is looked at
    when: {topic: org.t.build, body.state: done}
    item: {type: koji_build, id: '{body.nvr}'}
    run: {job: {TEST: check, NVR: '{body.nvr}', WORKER_CLASS: nobody}}
  - name: fails
    when: {topic: org.t.build, body.bad: 'yes'}
    run: {job: {TEST: '{body.missing}'}}
  - name: rests
    enabled: false
    when: {topic: org.t.build, body.state: done}
    run: {job: {TEST: never}}
";

/// What the bus brings: a build, the same again in other words, one that a rule fails over, one that is not JSON, and one
/// that no rule is for.
async fn events(server: &Server) {
    let build = |note: &str| json!({"state": "done", "nvr": "bash-5.3-1", "note": note}).to_string();
    server.hooked("build", "first", &build("</pre><script>alert(1)</script>")).await;
    assert_eq!(server.until_effect("first", "done").await["jobs"], json!([1]));
    server.hooked("build", "again", &build("once more")).await;
    server.hooked("build", "bad", r#"{"bad": "yes"}"#).await;
    server.hooked("build", "broken", "<script>alert(2)</script>").await;
    server.hooked("<script>quiet", "quiet", "{}").await;
    for key in ["again", "bad", "broken", "quiet"] {
        server.until_event(key, "seen by the rules", |event| event["state"] != "received").await;
    }
}

#[tokio::test]
async fn pages_say_what_events_led_to_and_what_rules_did() {
    let (server, _, _dir) = start(RULES).await;
    has(&page(&server, "/events").await, &["No event", "id=\"source-bus\""]);
    let never = "<td class=\"num\" data-label=\"hits\">0</td>";
    let rules = page(&server, "/rules").await;
    assert_eq!(rules.matches(never).count(), 3, "{rules}");
    has(&rules, &["every &#60;build&#62; is looked at", "rules.yaml:3", "not enabled", "never</span>"]);
    events(&server).await;

    let list = page(&server, "/events").await;
    has(
        &list,
        &[
            "<a href=\"/events/1\">org.t.build</a>",
            "<a href=\"/rules#rule-built\">built</a>",
            "fails: ",
            "no body.missing",
            "<strong>parked</strong>",
            "the body is not JSON",
            "org.t.&#60;script&#62;quiet",
            "<span class=\"quiet\">nothing</span>",
            "state=parked\">1</a>",
        ],
    );
    for (query, rows) in [
        ("state=parked", vec![4]),
        ("source=bus&state=matched", vec![5, 3, 2, 1]),
        ("q=once+more", vec![2]),
        ("q=%3Cscript%3E", vec![5, 4, 1]),
        ("led=true", vec![2, 1]),
        ("source=nobody", vec![]),
    ] {
        let list = page(&server, &format!("/events?{query}")).await;
        let shown = |id: &i64| list.contains(&format!("<tr id=\"event-{id}\">"));
        assert_eq!((1..=5).rev().filter(shown).collect::<Vec<i64>>(), rows, "{query}: {list}");
    }
    let newest = page(&server, "/events?source=bus&limit=2").await;
    has(&newest, &["href=\"/events?source=bus&#38;before=4\" rel=\"next\""]);
    let (status, _) = server.page("/events?state=splendid").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);

    has(
        &page(&server, "/events/1").await,
        &[
            "<dd>1 of <a href=\"/events?source=bus\">bus</a></dd>",
            "<td class=\"job\">job check <span class=\"quiet\">done</span>",
            "koji_build bash-5.3-1",
            "<a href=\"/jobs/1\">#1</a>",
            "&#60;/pre&#62;&#60;script&#62;alert(1)&#60;/script&#62;",
            "x-topic",
        ],
    );
    let first = page(&server, "/events/1").await;
    assert!(!first.contains("x-hub-signature"), "what says who somebody is stays with them: {first}");
    has(
        &page(&server, "/events/2").await,
        &["first because of <a href=\"/events/1\">event 1</a>", "<a href=\"/jobs/1\">#1</a>"],
    );
    has(&page(&server, "/events/3").await, &["matches, and cannot be carried out", "no body.missing"]);
    has(&page(&server, "/events/4").await, &["<h2>Parked</h2>", "&#60;script&#62;alert(2)"]);
    has(
        &page(&server, "/events/5").await,
        &["<h1>org.t.&#60;script&#62;quiet</h1>", "says of every rule why"],
    );
    for (path, said) in
        [("/events/99", "There is no event 99."), ("/events/%3Cscript%3E", "event &#60;script&#62;.")]
    {
        let (status, missing) = server.page(path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        has(&missing, &[said]);
        assert!(!missing.contains("<script>"), "{missing}");
    }

    let rules = page(&server, "/rules").await;
    assert_eq!(rules.matches(never).count(), 2, "what was planned once has hit once: {rules}");
    let built = rules.split("id=\"rule-built\"").nth(1).unwrap().split("</tr>").next().unwrap();
    has(built, &["<td class=\"num\" data-label=\"hits\">1</td>", "<time ", "data-label=\"failed\">0</td>"]);
    let fails = rules.split("id=\"rule-fails\"").nth(1).unwrap().split("</tr>").next().unwrap();
    has(
        fails,
        &["data-label=\"hits\">0</td>", "data-label=\"failed\"><span class=\"why\">1</span>", "<time "],
    );
    let (_, listed) = server.get("/api/assay/v1/rules").await;
    assert_eq!((&listed["rules"][1]["failed"], &listed["rules"][0]["failed"]), (&json!(1), &json!(0)));
}

const PACED: &str = r"
rules:
  - name: few
    when: {topic: org.t.build}
    item: {type: koji_build, id: '{body.nvr}'}
    limit: 2
    run: {job: {TEST: check, NVR: '{body.nvr}', BACKEND: dummy}}
  - name: joined
    when: {topic: org.t.stable}
    item: {type: bodhi_update, id: '{body.id}'}
    batch: {window: 15m, by: '{body.tag}'}
    run: {job: {TEST: depcheck, UPDATES: '{body.id}', WORKER_CLASS: nobody}}
  - name: probe
    when: {topic: org.t.probe}
    run: {job: {TEST: probe, WORKER_CLASS: nobody}}
";

/// What is due now is carried out when this comes back. An effect that is always due is done in each look at what is due;
/// when the second one is done, the look that did the first is over.
async fn looked(server: &Server, round: &str) {
    for half in ["one", "two"] {
        let key = format!("{round} {half}");
        server.hooked("probe", &key, "{}").await;
        server.until_effect(&key, "done").await;
    }
}

/// The builds that have a job.
async fn built(server: &Server) -> Vec<String> {
    let (_, all) = server.get("/api/assay/v1/jobs?limit=500").await;
    let nvr = |job: &Value| job["settings"]["NVR"]["value"].as_str().map(str::to_owned);
    let mut found: Vec<_> = all["jobs"].as_array().unwrap().iter().filter_map(nvr).collect();
    found.sort();
    found
}

async fn worker(server: &Server, holds: &[assay_engine::work::Held]) -> Connection {
    let mut worker = server.worker("w");
    worker.slots = 5;
    worker.connect(holds).await.unwrap()
}

#[tokio::test]
async fn no_more_jobs_of_a_rule_are_open_than_its_limit_says() -> anyhow::Result<()> {
    let (server, file, _dir) = start(PACED).await;
    let mut connection = worker(&server, &[]).await;
    for number in 1..=4 {
        let body = json!({"nvr": format!("p-{number}-1")}).to_string();
        server.hooked("build", &format!("event {number}"), &body).await;
    }
    let (first, second) = (connection.expect_assign().await?, connection.expect_assign().await?);
    let running = BTreeSet::from([first.settings["NVR"].as_str(), second.settings["NVR"].as_str()]);
    assert_eq!(running, BTreeSet::from(["p-1-1", "p-2-1"]), "the first that came are the first that go");
    for key in ["event 3", "event 4"] {
        let effect = server.until_effect(key, "held").await;
        assert_eq!(effect["why"], "as many jobs of the rule are open as its limit allows");
    }
    // Others go past what is held; and nothing but the end of a job lets it go.
    looked(&server, "before the kill").await;
    assert_eq!(built(&server).await, ["p-1-1", "p-2-1"]);

    let server = server.kill_and_restart_with(|config| config.config = Some(file)).await;
    let mut connection = worker(&server, &[first.held, second.held]).await;
    looked(&server, "after the kill").await;
    assert_eq!(built(&server).await, ["p-1-1", "p-2-1"]);
    connection.finish(first.held, Outcome::Passed, None).await?;
    let third = connection.expect_assign().await?;
    assert_eq!(third.settings["NVR"], "p-3-1");
    looked(&server, "with the third").await;
    server.until_effect("event 4", "held").await;
    assert_eq!(built(&server).await, ["p-1-1", "p-2-1", "p-3-1"]);
    // Whatever a job's end is.
    connection.finish(second.held, Outcome::Failed, None).await?;
    let fourth = connection.expect_assign().await?;
    assert_eq!(fourth.settings["NVR"], "p-4-1");
    server.until_effect("event 4", "done").await;
    looked(&server, "at the end").await;
    assert_eq!(built(&server).await, ["p-1-1", "p-2-1", "p-3-1", "p-4-1"], "each once");
    Ok(())
}

const ASKING: &str = r"
rules:
  - name: lint
    when: {topic: org.t.build}
    item: {type: koji_build, id: '{body.nvr}'}
    limit: 1
    run: {task: lint}
  - name: probe
    when: {topic: org.t.probe}
    run: {job: {TEST: probe, WORKER_CLASS: nobody}}
";

#[tokio::test]
async fn what_asks_a_silent_repository_is_in_nobodys_way() {
    // Its task is in a repository whose host takes connections, and never says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = silent.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = configure(Utf8Path::from_path(dir.path()).unwrap(), ASKING);
    let more = format!("[tasks.repository.lint]\nurl = \"git://{host}/lint\"\n");
    fs_err::write(&file, fs_err::read_to_string(&file).unwrap() + &more).unwrap();
    let server = Server::start_with(|config| config.config = Some(file)).await;
    server.hooked("build", "first", &json!({"nvr": "bash-5.3-1"}).to_string()).await;
    let _asked = silent.accept().await.unwrap();
    server.hooked("probe", "another", "{}").await;
    assert_eq!(server.until_effect("another", "done").await["jobs"], json!([1]));
    // It waits, says for whom, and keeps its place meanwhile.
    let first = server.until_effect("first", "waiting").await;
    assert_eq!(first["why"], format!("{host} is asked about it"));
    server.hooked("build", "second", &json!({"nvr": "sed-4.9-1"}).to_string()).await;
    server.until_effect("second", "held").await;
}

#[tokio::test]
async fn what_comes_within_a_window_goes_together_when_its_time_has_come() {
    let (server, file, _dir) = start(PACED).await;
    let submitted = async |server: &Server, id: &str, tag: &str| {
        server.hooked("stable", id, &json!({"id": id, "tag": tag}).to_string()).await;
        server.until_effect(id, "waiting").await["due"].clone()
    };
    let due = submitted(&server, "FEDORA-1", "f44").await;
    assert_eq!(due, "2026-11-21T00:15:00Z", "a window after the first");
    server.clock.advance(10 * MINUTE);
    assert_eq!(submitted(&server, "FEDORA-2", "f44").await, due, "the window is open already");
    let other = submitted(&server, "FEDORA-3", "f45").await;
    assert_eq!(other, "2026-11-21T00:25:00Z", "another tag has a window of its own");
    let state = async |server: &Server, id: &str| {
        let event = server.until_event(id, "there", |_| true).await;
        event["effects"][0]["state"].as_str().unwrap().to_owned()
    };
    server.clock.advance(5 * MINUTE - 1);
    looked(&server, "too early").await;
    for id in ["FEDORA-1", "FEDORA-2", "FEDORA-3"] {
        assert_eq!(state(&server, id).await, "waiting", "{id}");
    }
    // The window is stored: it does not begin anew.
    let server = server.kill_and_restart_with(|config| config.config = Some(file)).await;
    server.clock.advance(1);
    looked(&server, "at its time").await;
    let jobs = server.until_effect("FEDORA-1", "done").await["jobs"].clone();
    assert_eq!(server.until_effect("FEDORA-2", "done").await["jobs"], jobs, "one job for both");
    let (_, job) = server.get(&format!("/api/assay/v1/jobs/{}", jobs[0])).await;
    assert_eq!(job["settings"]["UPDATES"]["value"], "FEDORA-1 FEDORA-2", "{job}");
    assert_eq!(state(&server, "FEDORA-3").await, "waiting");

    // What comes now is of the next window.
    let next = submitted(&server, "FEDORA-4", "f44").await;
    assert_eq!(next, "2026-11-21T00:30:00Z");
    server.clock.advance(10 * MINUTE);
    looked(&server, "at the time of the other").await;
    let alone = server.until_effect("FEDORA-3", "done").await["jobs"].clone();
    let (_, job) = server.get(&format!("/api/assay/v1/jobs/{}", alone[0])).await;
    assert_eq!(job["settings"]["UPDATES"]["value"], "FEDORA-3");
    assert_eq!(state(&server, "FEDORA-4").await, "waiting");
}
