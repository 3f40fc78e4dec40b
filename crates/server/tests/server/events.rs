//! Events and the time: a clock that jumps loses nothing, and does nothing twice.

use crate::common::events::{SECTIONS, configure};
use crate::common::{Server, asking};
use assay_fakes::datagrepper::FakeDatagrepper;
use assay_fakes::koji::FakeKoji;
use assay_fakes::sink::HttpSink;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const HOUR: i64 = 3_600;

/// How many events each source has brought, once it has brought so many.
async fn brought(server: &Server, wanted: &[(&str, i64)]) {
    let mut counts = BTreeMap::new();
    let found = asking(async || {
        let (_, all) = server.get("/api/assay/v1/sources").await;
        counts.clear();
        for source in all["sources"].as_array().unwrap() {
            assert_eq!(source["trouble"], Value::Null, "{source}");
            let name = source["name"].as_str().unwrap().to_owned();
            counts.insert(name, (source["doing"].clone(), source["events"].as_i64().unwrap()));
        }
        let is_so = |(name, count): &(&str, i64)| counts.get(*name).is_some_and(|(_, found)| found == count);
        wanted.iter().all(is_so).then_some(())
    });
    let in_time = found.await.is_some();
    assert!(in_time, "never {wanted:?}: {counts:?}");
}

/// A look of each source begins and ends: it knows of something that it has brought before once more.
async fn looked(server: &Server) {
    let known = async || {
        let (_, all) = server.get("/api/assay/v1/sources").await;
        let sources = all["sources"].as_array().unwrap().clone();
        let of =
            |name: &str| sources.iter().find(|one| one["name"] == name).unwrap()["known"].as_i64().unwrap();
        ["koji", "grepper"].map(of)
    };
    let before = known().await;
    let more =
        async || known().await.iter().zip(before).all(|(now, before)| *now >= before + 2).then_some(());
    asking(more).await.expect("nobody looks");
}

/// Our clock jumps; those of Koji and of datagrepper go on.
#[tokio::test]
async fn a_clock_that_jumps_loses_nothing_and_repeats_nothing() {
    let (koji, grepper) = (FakeKoji::start().await.unwrap(), FakeDatagrepper::start().await.unwrap());
    let dir = tempfile::tempdir().unwrap();
    let file = camino::Utf8PathBuf::from_path_buf(dir.path().join("assay.toml")).unwrap();
    let toml = format!(
        "[source.hourly]\ndriver = \"timer\"\ncron = \"0 * * * *\"\n\
         [source.koji]\ndriver = \"koji\"\nurl = {:?}\nevery = 1\n\
         [source.grepper]\ndriver = \"datagrepper\"\nurl = {:?}\nevery = 1\nsettle = 0\n",
        koji.hub(),
        grepper.url()
    );
    fs_err::write(&file, toml).unwrap();
    let start = crate::common::BEGINNING / 1_000_000;
    let (mut there, mut count) = (start, 0);
    // So much later there something happens there.
    let mut happens = |later: i64| {
        count += 1;
        there += later;
        koji.build(&format!("build-{count}-1"), there - 5, &[]);
        grepper.carried(&format!("id-{count}"), "org.t.x", json!({"count": count}), there - 5);
        koji.says_it_is(there);
        grepper.says_it_is(there);
    };
    happens(0);
    let server = Server::start_with(|config| config.config = Some(file)).await;
    assert_eq!(server.clock_micros() / 1_000_000, start);
    let ours = |hours: i64| server.clock.advance(hours * HOUR * 1_000_000);
    brought(&server, &[("koji", 1), ("grepper", 1), ("hourly", 0)]).await;
    looked(&server).await;

    // Five hours forward, for half an hour: what happens meanwhile is found; of five times that were due the last one counts.
    ours(5);
    happens(HOUR / 4);
    brought(&server, &[("koji", 2), ("grepper", 2), ("hourly", 1)]).await;
    looked(&server).await;
    happens(HOUR / 4);
    brought(&server, &[("koji", 3), ("grepper", 3), ("hourly", 1)]).await;
    looked(&server).await;

    // It is set right: nothing is due once more, and what is due next is.
    ours(-5);
    happens(HOUR / 4);
    brought(&server, &[("koji", 4), ("grepper", 4), ("hourly", 1)]).await;
    looked(&server).await;
    ours(1);
    happens(HOUR / 4);
    brought(&server, &[("koji", 5), ("grepper", 5), ("hourly", 2)]).await;
    looked(&server).await;
    // What was due when the clock was wrong is not due again; the next one is.
    for (hours, hourly) in [(3, 3), (1, 3), (1, 4)] {
        ours(hours);
        happens(hours * HOUR);
        looked(&server).await;
        brought(&server, &[("hourly", hourly)]).await;
    }
    brought(&server, &[("koji", 8), ("grepper", 8), ("hourly", 4)]).await;
}

const RESULT_RULES: &str = "
rules:
  - name: ci
    when: {topic: org.t.ci}
    item: {type: koji_build, id: '{body.nvr}'}
    run: {result: {testcase: ci.unit, outcome: '{body.outcome}'}}
";

/// Messages of one test arrive in another order than they were sent in: what was sent last is its result. One that was sent
/// by a clock that is ahead is not in the way of what comes later.
#[tokio::test]
async fn what_arrives_late_is_not_the_newest_result() {
    let grepper = FakeDatagrepper::start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = camino::Utf8PathBuf::from_path_buf(dir.path().join("assay.toml")).unwrap();
    let toml = format!(
        "[events]\nrules = \"rules.yaml\"\n[source.grepper]\ndriver = \"datagrepper\"\nurl = {:?}\nevery = 1\nsettle = 0\n",
        grepper.url()
    );
    fs_err::write(&file, toml).unwrap();
    fs_err::write(dir.path().join("rules.yaml"), RESULT_RULES).unwrap();
    let there = crate::common::BEGINNING / 1_000_000;
    grepper.says_it_is(there);
    let server = Server::start_with(|config| config.config = Some(file)).await;
    let mut told: Vec<String> = Vec::new();
    for (outcome, sent, newest) in [
        ("QUEUED", there - 30, "QUEUED"),
        ("PASSED", there - 10, "PASSED"),
        ("RUNNING", there - 20, "PASSED"),
        ("FAILED", there + 100, "FAILED"),
        ("PASSED", there + 4, "PASSED"),
    ] {
        let body = json!({"nvr": "bash-5-1", "outcome": outcome});
        grepper.carried(&format!("{outcome} {sent}"), "org.t.ci", body, sent);
        if sent > there {
            server.clock.advance(2_000_000);
            grepper.says_it_is(there + 100);
        }
        told.push(outcome.to_owned());
        let found = outcomes(&server, told.len()).await;
        assert_eq!(found[0], newest, "{found:?} after {told:?}");
    }
}

/// The outcomes of all results, the newest first, once there are so many.
async fn outcomes(server: &Server, wanted: usize) -> Vec<String> {
    let found = asking(async || {
        let (_, all) = server.get("/api/v2.0/results").await;
        let all = all["data"].as_array().unwrap();
        let outcomes = || all.iter().map(|one| one["outcome"].as_str().unwrap().to_owned()).collect();
        (all.len() == wanted).then(outcomes)
    });
    found.await.expect("no such result")
}

const STAGED_RULES: &str = "
rules:
  - name: built
    when: {topic: org.fedoraproject.prod.buildsys.build.state.change}
    run:
      - job: {TEST: check, NVR: '{item.id}', BACKEND: dummy, WORKER_CLASS: nobody}
      - result: {testcase: dist.built, outcome: PASSED}
";

/// A server that is staging hears everything and does nothing outside: what rules would do and what would be told is there to
/// be seen, and is not done later either, unless somebody asks for it.
#[tokio::test]
async fn a_staging_server_writes_down_what_it_would_do() {
    let (koji, sink) = (FakeKoji::start().await.unwrap(), HttpSink::start().await.unwrap());
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs_err::write(dir.path().join(name), text).unwrap();
    let file = camino::Utf8PathBuf::from_path_buf(dir.path().join("assay.toml")).unwrap();
    let toml = |mode: &str| {
        format!(
            "[events]\nrules = \"rules.yaml\"\nmode = {mode:?}\n[reports]\nmode = {mode:?}\n\
             [source.koji]\ndriver = \"koji\"\nurl = {:?}\nevery = 1\n\
             [reporter.hook]\ndriver = \"webhook\"\nurl = {:?}\nsecret-file = \"secret\"\n",
            koji.hub(),
            sink.url()
        )
    };
    write("rules.yaml", STAGED_RULES);
    write("secret", "s3cret");
    write("assay.toml", &toml("staging"));
    let there = crate::common::BEGINNING / 1_000_000;
    koji.says_it_is(there);
    koji.build("bash-5-1", there - 5, &[]);
    let config = file.clone();
    let server = Server::start_with(|start| start.config = Some(config)).await;
    let (event, effects) = effects(&server).await;
    assert_eq!((&event["state"], &event["rules"]), (&json!("matched"), &json!(["built"])), "{event}");
    for (effect, what) in effects.iter().zip(["job check", "result dist.built PASSED"]) {
        assert!(effect["what"].as_str().unwrap().starts_with(what), "{effect}");
        assert_eq!((&effect["state"], &effect["jobs"]), (&json!("logged"), &json!([])), "{effect}");
        assert!(effect["why"].as_str().unwrap().contains("staging"), "{effect}");
    }
    let counts = async |server: &Server| {
        let (_, jobs) = server.get("/api/assay/v1/jobs").await;
        let (_, results) = server.get("/api/v2.0/results").await;
        [&jobs["jobs"], &results["data"]].map(|list| list.as_array().unwrap().len())
    };
    assert_eq!(counts(&server).await, [0, 0], "nothing of it is done");

    // What people do by hand here is done, with its results; nobody outside hears of it.
    let settings = json!({"TEST": "install", "BUILD": "B", "DISTRI": "fedora", "VERSION": "Rawhide", "FLAVOR": "Server-dvd-iso",
        "ARCH": "x86_64", "MACHINE": "uefi", "BACKEND": "dummy"});
    let id = server.post(settings).await;
    let (status, body) = server
        .ask(Method::POST, &format!("/api/assay/v1/jobs/{id}/cancel"), Some(json!({"by": "ann"})))
        .await;
    assert_eq!(status, StatusCode::OK, "{body}");
    // Entries are listed a moment after they are counted, and another one may have come.
    let staged = outbox(&server, "it is written down", |all| {
        let is_seen = |entry: &Value| entry["state"] != "waiting";
        all["targets"][0]["skipped"].as_i64() > Some(4)
            && all["entries"].as_array().unwrap().iter().all(is_seen)
    })
    .await;
    assert_eq!(staged["staging"], true);
    for entry in staged["entries"].as_array().unwrap() {
        assert_eq!(entry["note"], "staging: logged, not sent", "{entry}");
    }
    let [jobs, results] = counts(&server).await;
    assert!(jobs == 1 && results > 0, "{jobs} {results}");
    assert_eq!(sink.got(), []);
    let (_, page) = server.page("/outbox").await;
    assert!(page.contains("staging: logged, not sent"), "{page}");
    let (_, page) = server.page(&format!("/events/{}", event["id"])).await;
    assert!(page.contains("logged") && page.contains("staging"), "{page}");

    // It goes live: what was written down stays so, and what happens from now on is done and told.
    write("assay.toml", &toml("live"));
    let server = server.kill_and_restart_with(|start| start.config = Some(file)).await;
    koji.build("sed-4-1", there - 1, &[]);
    outbox(&server, "it is told", |all| {
        all["targets"][0]["delivered"].as_i64() > staged["targets"][0]["delivered"].as_i64()
    })
    .await;
    assert_eq!(counts(&server).await[0], 2, "the job of the new build, and the one by hand");
    assert!(sink.got().iter().all(|one| !one.body.contains("install") && !one.body.contains("bash-5-1")));

    // Unless somebody wants it after all.
    let (status, seen) =
        server.ask(Method::POST, &format!("/api/assay/v1/inbox/{}/replay", event["id"]), None).await;
    assert_eq!(status, StatusCode::OK, "{seen}");
    let states: Vec<&Value> = seen["effects"].as_array().unwrap().iter().map(|one| &one["state"]).collect();
    assert_eq!((&seen["state"], states), (&json!("matched"), vec![&json!("done"); 2]), "{seen}");
    assert_eq!(counts(&server).await[0], 3);
}

const FOUND_RULES: &str = r"
rules:
  - name: ci
    when: {topic: org.t.ci}
    item: {type: koji_build, id: '{body.nvr}'}
    run: {result: {testcase: ci.smoke, outcome: PASSED}}
";

/// What somebody wants of it a day later is no newer than its message.
#[tokio::test]
async fn what_was_found_while_staging_was_found_then() {
    let dir = tempfile::tempdir().unwrap();
    let place = camino::Utf8Path::from_path(dir.path()).unwrap();
    let file = configure(place, FOUND_RULES);
    let staging = SECTIONS.replacen("[events]\n", "[events]\nmode = \"staging\"\n", 1);
    fs_err::write(&file, staging).unwrap();
    let config = file.clone();
    let server = Server::start_with(|start| start.config = Some(config)).await;
    server.hooked("ci", "run", &json!({"nvr": "bash-5-1"}).to_string()).await;
    server.until_effect("run", "logged").await;
    server.clock.advance(24 * HOUR * 1_000_000);
    fs_err::write(&file, SECTIONS).unwrap();
    let server = server.kill_and_restart_with(|start| start.config = Some(file)).await;
    let event = server.until_event("run", "there", |_| true).await;
    let path = format!("/api/assay/v1/inbox/{}/replay", event["id"]);
    let (status, seen) = server.ask(Method::POST, &path, None).await;
    assert_eq!(status, StatusCode::OK, "{seen}");
    server.until_effect("run", "done").await;
    let (_, results) = server.get("/api/v2.0/results").await;
    let at = results["data"][0]["submit_time"].as_str().unwrap();
    assert!(at.starts_with("2026-11-21T00:00:00"), "{at}");
}

/// The oldest event and what it led to, once it is settled.
async fn effects(server: &Server) -> (Value, Vec<Value>) {
    let found = asking(async || {
        let (_, all) = server.get("/api/assay/v1/inbox").await;
        let oldest = all["events"].as_array()?.last()?["id"].clone();
        let (_, event) = server.get(&format!("/api/assay/v1/inbox/{oldest}")).await;
        let effects = event["effects"].as_array().unwrap().clone();
        let settled = !effects.is_empty() && effects.iter().all(|effect| effect["state"] != "waiting");
        settled.then_some((event, effects))
    });
    found.await.expect("nothing is settled")
}

/// The outbox once it is as wanted.
async fn outbox(server: &Server, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let found = asking(async || {
        let (_, all) = server.get("/api/assay/v1/outbox").await;
        wanted(&all).then_some(all)
    });
    found.await.unwrap_or_else(|| panic!("never: {what}"))
}
