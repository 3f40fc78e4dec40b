//! From a patch to a merge: the real binary, a Gerrit, git over HTTP, jobs in their sandbox.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use assay_tests::gate::{Gerrit, example};
use assay_tests::{Place, Signal, Up, asking, http};
use fs_err as fs;
use serde_json::Value;

/// Jobs of the test wait until the test lets them go.
const DUMMIES: &str = r"
pipelines:
  - check
  - template: gate
    trigger:
      - {event: comment-added, approval: {Workflow: 1}}
    require: {open: true, current-patchset: true, approval: [{Workflow: 1}, {Code-Review: 2}]}
    success: [{review: {Verified: 2}, submit: true}]
    failure: [{review: {Verified: -2}}]
projects:
  tools:
    merge-mode: merge-if-necessary
    check: [unit]
    gate: [unit]
jobs:
  unit:
    imported: true
    env: {BACKEND: dummy, DUMMY_WAIT_FILE: 'GO'}
";

fn dummies(place: &Place) -> String {
    let dir = place.join("config");
    fs::create_dir(&dir).unwrap();
    let go = place.join("go-{ZUUL_PIPELINE}");
    fs::write(dir.join("gate.yaml"), DUMMIES.replace("GO", go.as_str())).unwrap();
    dir.into_string()
}

#[tokio::test]
async fn the_story_of_the_demo() {
    let place = Place::new();
    let gerrit = Gerrit::start(&place, example().join("config").as_str()).await;
    let story = |words: [&str; 3]| {
        let mut command = place.command("python3");
        command.arg(example().join("story.py")).args(words);
        place.start_command(command).end()
    };
    let clones = place.join("clones");
    story(["begin", gerrit.announced(), clones.as_str()]).await.expect(0);
    let config = place.join("assay.toml");
    let up = Up::start(&place, &["--config", config.as_str(), "--slots", "3"]).await;
    let assay = place.assay(&[]).as_std().get_program().to_str().unwrap().to_owned();
    story([gerrit.announced(), &assay, clones.as_str()]).await.expect(0);
    let status: Value =
        http().get(format!("{}/status.json", up.url)).send().await.unwrap().json().await.unwrap();
    let names: Vec<&str> =
        status["pipelines"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["check", "gate"]);
    drop(gerrit);
    up.stop().await;
}

#[tokio::test]
async fn a_killed_server_lands_what_it_gated() {
    let place = Place::new();
    let config = dummies(&place);
    let gerrit = Gerrit::start(&place, &config).await;
    let toml = place.join("assay.toml");
    let options = ["--config", toml.as_str(), "--slots", "4"];
    let mut up = Up::start(&place, &options).await;
    let (first, second) =
        (gerrit.upload("One", "one", "1\n").await, gerrit.upload("Two", "two", "2\n").await);
    gerrit.approve(first).await;
    gerrit.approve(second).await;
    until_running(&up, 2).await;
    assert_eq!(up.end_by(Signal::KILL).await, None);
    fs::write(place.join("go-gate"), "").unwrap();
    fs::write(place.join("go-check"), "").unwrap();

    let up = Up::start(&place, &options).await;
    gerrit.until_merged(&up, first).await;
    gerrit.until_merged(&up, second).await;
    another_configuration(&place, &config).await;
    drop(gerrit);
    up.stop().await;
}

/// What this server has recorded, replayed: under the same configuration the same comes of it.
async fn another_configuration(place: &Place, config: &str) {
    let compared = place.run(&["gate", "whatif", config, "--history", "--json"]).await;
    let compared = compared.expect(0).json();
    assert_eq!(compared["recorded"], compared["whatif"]);
    for (figure, expected) in [("merges", 2), ("failed", 0), ("left", 0)] {
        assert_eq!(compared["whatif"][figure], expected, "{figure}: {compared}");
    }
    let sources = &compared["whatif"]["sources"];
    assert!(sources["recorded"].as_u64() > Some(0) && sources["assumed"] == 0, "{compared}");

    let other = place.join("other.yaml");
    fs::write(&other, DUMMIES.replace("gate: [unit]", "gate: [unit, new]") + "  new: {run: make new}\n")
        .unwrap();
    let told = place.run(&["gate", "whatif", other.as_str(), "--history", "--workers", "1"]).await;
    told.expect(0).says("Never recorded: new.").says("Taken for granted:");
    place.run(&["gate", "whatif", config, "--history", "nowhere.jsonl"]).await.expect(4);
    fs::write(&other, "pipelines: 3\n").unwrap();
    place.run(&["gate", "whatif", other.as_str(), "--history"]).await.expect(2);
}

/// Waits until so many builds of the gate have begun.
async fn until_running(up: &Up<'_>, wanted: usize) {
    let running = async || {
        let answer = http().get(format!("{}/status.json", up.url)).send().await.unwrap();
        let status: Value = answer.json().await.unwrap();
        let gate = status["pipelines"].as_array().unwrap().iter().find(|one| one["name"] == "gate").unwrap();
        (gate.to_string().matches("\"start_time\":1").count() >= wanted).then_some(())
    };
    asking("the builds of the gate", running).await;
}

async fn git(place: &Place, args: &[&str]) -> String {
    let mut command = place.command("git");
    command.args(["-c", "user.name=Mallory", "-c", "user.email=mallory@example.org"]).args(args);
    let ended = place.start_command(command).end().await;
    ended.expect(0);
    ended.stdout.trim().to_owned()
}

#[tokio::test]
async fn what_landed_is_verified_in_a_clone_without_the_server() {
    let place = Place::new();
    let config = dummies(&place);
    for go in ["go-gate", "go-check"] {
        fs::write(place.join(go), "").unwrap();
    }
    let gerrit = Gerrit::start(&place, &config).await;
    let toml = place.join("assay.toml");
    let up = Up::start(&place, &["--config", toml.as_str(), "--slots", "4"]).await;
    let change = gerrit.upload("One", "one", "1\n").await;
    gerrit.approve(change).await;
    gerrit.until_merged(&up, change).await;
    let story = asking("the receipt in its repository", async || {
        let answer = http().get(format!("{}/api/assay/v1/changes/{change}", up.url)).send().await.unwrap();
        let story: Value = answer.json().await.unwrap();
        story["receipts"][0]["published"].is_string().then_some(story)
    })
    .await;
    assert_eq!(story["receipts"][0]["valid"], true, "{story}");
    let key = place.start(&["key", "show"]).end().await;
    key.expect(0);
    let trust = place.join("trust");
    fs::write(&trust, &key.stdout).unwrap();
    let page = http().get(format!("{}/change/gerrit/{change}", up.url)).send().await.unwrap();
    let page = page.text().await.unwrap();
    assert!(page.contains("✔ verified") && page.contains("landed as "), "{page}");
    let clone = place.join("clone");
    git(&place, &["clone", "-q", &format!("{}/tools", gerrit.url), clone.as_str()]).await;
    let receipts = "refs/assay/receipts:refs/assay/receipts";
    git(&place, &["-C", clone.as_str(), "fetch", "-q", "origin", receipts]).await;
    drop(gerrit);
    up.stop().await;
    let root = git(&place, &["-C", clone.as_str(), "rev-list", "--max-parents=0", "HEAD"]).await;
    let verify = async |branch: &str| {
        let args = ["verify", clone.as_str(), branch, "--trust", trust.as_str(), "--since", &root, "--json"];
        let ended = place.start(&args).end().await;
        (ended.code, serde_json::from_str::<Value>(&ended.stdout).unwrap_or_default())
    };
    let (code, verdict) = verify("master").await;
    assert_eq!((code, &verdict["verified"]), (Some(0), &Value::Bool(true)), "{verdict}");
    assert_eq!(
        (&verdict["project"], &verdict["covered"][0]["changes"][0]),
        (&"tools".into(), &format!("{change},1").into())
    );
    // Somebody else's commit on top is named, and what is below stays verified.
    git(&place, &["-C", clone.as_str(), "commit", "-q", "--allow-empty", "-m", "past the gate"]).await;
    let foreign = git(&place, &["-C", clone.as_str(), "rev-parse", "HEAD"]).await;
    let (code, verdict) = verify("master").await;
    assert_eq!((code, verdict["uncovered"].as_array().unwrap().len()), (Some(1), 1), "{verdict}");
    assert_eq!(verdict["uncovered"][0]["commit"], foreign.as_str());
    assert_eq!(verify("no-such-branch").await.0, Some(4));
}

/// The first change of each item of a pipeline, queue by queue, in order.
async fn queued(place: &Place, pipeline: &str) -> Vec<u64> {
    let status = place.run(&["pipeline", "status", pipeline, "--json"]).await.expect(0).json();
    let queues = status["pipelines"][0]["queues"].as_array().unwrap();
    let items = queues.iter().flat_map(|queue| queue["items"].as_array().unwrap());
    items.filter_map(|item| item["changes"][0]["number"].as_u64()).collect()
}

/// Waits until the changes of a pipeline are these, in this order.
async fn until_queued(place: &Place, pipeline: &str, wanted: &[u64]) {
    let there = async || (queued(place, pipeline).await == wanted).then_some(());
    asking(&format!("{wanted:?} in {pipeline}"), there).await;
}

/// What operators do by hand, command by command.
#[tokio::test]
async fn operators_let_in_take_out_and_put_first() {
    let place = Place::new();
    let config = dummies(&place);
    let file = place.join("config/gate.yaml");
    let yaml = fs::read_to_string(&file).unwrap();
    let yaml = yaml.replace("  - check\n", "  - check\n  - post\n");
    fs::write(&file, yaml.replace("    gate: [unit]\n", "    gate: [unit]\n    post: [unit]\n")).unwrap();
    let gerrit = Gerrit::start(&place, &config).await;
    let toml = place.join("assay.toml");
    let up = Up::start(&place, &["--config", toml.as_str(), "--slots", "6"]).await;
    let run = async |words: &str| place.run(&words.split(' ').collect::<Vec<_>>()).await;
    let first = gerrit.upload("One", "one", "1\n").await;
    until_queued(&place, "check", &[first]).await;
    let second = gerrit.upload("Two", "two", "2\n").await;
    until_queued(&place, "check", &[first, second]).await;

    // Out and in again, with and without the patchset.
    run(&format!("pipeline dequeue check {first}")).await.expect(0);
    until_queued(&place, "check", &[second]).await;
    run(&format!("pipeline enqueue check {first}")).await.expect(0);
    until_queued(&place, "check", &[second, first]).await;
    let taken = run(&format!("pipeline dequeue check {second},1 --json")).await.expect(0).json();
    assert!(taken["done"].is_string(), "{taken}");
    let put =
        run(&format!("pipeline enqueue check {second},1 --source gerrit --json")).await.expect(0).json();
    assert!(put["done"].is_string(), "{put}");
    until_queued(&place, "check", &[first, second]).await;
    for wrong in ["enqueue check 999", "enqueue chek 1", "dequeue check 999", "promote gate 999"] {
        let ended = run(&format!("pipeline {wrong}")).await;
        assert!(ended.code != Some(0) && ended.stderr.starts_with("assay: "), "{wrong}: {}", ended.stderr);
    }

    gerrit.approve(first).await;
    until_queued(&place, "gate", &[first]).await;
    gerrit.approve(second).await;
    until_queued(&place, "gate", &[first, second]).await;
    run(&format!("pipeline promote gate {second}")).await.expect(0);
    until_queued(&place, "gate", &[second, first]).await;
    run(&format!("pipeline dequeue gate {second} --force")).await.expect(0);
    until_queued(&place, "gate", &[first]).await;
    run(&format!("pipeline enqueue gate {second}")).await.expect(0);
    until_queued(&place, "gate", &[first, second]).await;

    let line = git(&place, &["ls-remote", &format!("{}/tools", gerrit.url), "refs/heads/master"]).await;
    let tip = line.split_whitespace().next().unwrap();
    run(&format!("pipeline enqueue-ref post tools master --newrev {tip}")).await.expect(0);
    let status = run("pipeline status post --json").await.expect(0).json();
    let item = &status["pipelines"][0]["queues"][0]["items"][0];
    assert_eq!((&item["project"], &item["branch"]), (&"tools".into(), &"master".into()), "{status}");

    let add = ["pipeline", "autohold", "add", "tools", "unit", "--count", "2", "--reason", "a look"];
    place.run(&add).await.expect(0).says("the next 2 failures of tools unit");
    let held = run("pipeline autohold list --json").await.expect(0).json();
    let id = &held["autoholds"][0]["id"];
    run("pipeline autohold list").await.expect(0).says("a look");
    run(&format!("pipeline autohold delete {id}")).await.expect(0);
    assert_eq!(
        run("pipeline autohold list --json").await.expect(0).json()["autoholds"],
        Value::Array(Vec::new())
    );
    run("pipeline hold gate --reason freeze").await.expect(0);
    run("pipeline status gate").await.expect(0).says("HELD since ").says("freeze");
    run("pipeline release gate").await.expect(0);
    run("pipeline reload").await.expect(0).says("the configuration is in force: ");

    for go in ["go-gate", "go-check", "go-post"] {
        fs::write(place.join(go), "").unwrap();
    }
    gerrit.until_merged(&up, second).await;
    gerrit.until_merged(&up, first).await;
    drop(gerrit);
    up.stop().await;
}
