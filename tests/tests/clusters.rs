//! Two real machines in one cluster: they wait for each other by a mutex and a barrier, and talk over a network of their
//! own, on one worker and on two.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use assay_tests::{Place, Suite, Up, repository};
use fs_err as fs;
use reqwest::Method;
use serde_json::Value;

/// Where the guest's kernel comes from; distributions other than Debian 12 lack it.
const INSTALLER: &str = "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/initrd.gz";

/// The tests of `examples/cluster` and their guest; none where that cannot be made.
fn cluster(place: &Place) -> Option<Suite> {
    if !fs::exists(INSTALLER).unwrap() {
        let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let is_debian_12 =
            ["ID=debian", "VERSION_ID=\"12\""].iter().all(|line| system.lines().any(|own| own == *line));
        assert!(!is_debian_12, "there is no {INSTALLER}; install debian-installer-12-netboot-amd64");
        eprintln!("skipped: there is no {INSTALLER}; install debian-installer-12-netboot-amd64");
        return None;
    }
    let example = repository().join("examples/cluster");
    let mut suite = place.suite("cluster");
    for name in ["tests/server.star", "tests/client.star"] {
        suite = suite.file(name, fs::read(example.join(name)).unwrap());
    }
    let made =
        std::process::Command::new(example.join("make-guest")).arg(suite.join("guest")).status().unwrap();
    assert!(made.success(), "the guest cannot be made");
    let text = fs::read_to_string(example.join("vars.json")).unwrap();
    let settings: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
    let settings: Vec<(&str, &str)> =
        settings.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
    Some(suite.vars(&settings))
}

/// For a form: every byte but letters and digits as `%XX`.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(byte).collect()
}

/// Posts a server and a client beside it, as openQA's clients do.
async fn post(up: &Up<'_>, suite: &Suite) -> (i64, i64) {
    let mut form = Vec::new();
    for (number, role) in [("1", "server"), ("2", "client")] {
        form.push((format!("TEST:{number}"), role.to_owned()));
        form.push((format!("SCHEDULE:{number}"), role.to_owned()));
        form.push((format!("CASEDIR:{number}"), suite.dir().to_owned()));
        form.push((format!("APPEND:{number}"), format!("console=ttyS0 quiet addr=10.0.0.{number}")));
    }
    form.push(("_PARALLEL:2".to_owned(), "1".to_owned()));
    let form: Vec<String> =
        form.iter().map(|(key, value)| format!("{}={}", encoded(key), encoded(value))).collect();
    let request = up.request(Method::POST, "/api/v1/jobs").body(form.join("&"));
    let answer = request.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
    let text = answer.text().await.unwrap();
    let posted: Value = serde_json::from_str(&text).unwrap_or_default();
    let id = |number: &str| posted["ids"][number].as_i64().unwrap_or_else(|| panic!("{text}"));
    (id("1"), id("2"))
}

/// Both pass, and the client has heard from the server.
async fn they_talk(up: &Up<'_>, (server, client): (i64, i64)) {
    for job in [server, client] {
        let ended = up.wait(job).await;
        let log = up.stream(job, "autoinst-log.txt", None).await;
        let serial = up.stream(job, "serial0.txt", None).await;
        assert_eq!(ended.result, "passed", "{ended:#?}\n{log}\n{serial}");
    }
    let serial = up.stream(client, "serial0.txt", None).await;
    assert!(serial.contains("bytes from 10.0.0.1"), "{serial}");
    let steps = up.get(&format!("jobs/{client}/steps")).await.to_string();
    for step in ["mutex server_ready: done after", "barrier both_up: done after"] {
        assert!(steps.contains(step), "{steps}");
    }
}

#[tokio::test]
async fn two_machines_on_one_worker_talk_and_the_server_may_be_killed_meanwhile() {
    let place = Place::new();
    let Some(suite) = cluster(&place) else { return };
    let mut up = Up::start(&place, &["--slots", "2"]).await;
    let jobs = post(&up, &suite).await;
    // The client is heard only after that.
    let waits = |reason: &String| reason.contains("both_up: 1 of 2") || reason.contains("(client) to end");
    up.until(jobs.0, "the server waits", |job| job.reason.as_ref().is_some_and(waits)).await;
    assert_eq!(up.end_by(assay_tests::Signal::KILL).await, None);
    let up = Up::start(&place, &["--slots", "2"]).await;
    they_talk(&up, jobs).await;
    up.stop().await;
}

#[tokio::test]
async fn two_machines_on_two_workers_talk_through_the_server() {
    let place = Place::new();
    let Some(suite) = cluster(&place) else { return };
    let up = Up::start(&place, &["--slots", "1"]).await;
    let (url, token, pool) = (up.url.clone(), place.data().join("tokens/worker"), place.join("second"));
    let arguments = ["worker", "--server", &url, "--token-file", token.as_str(), "--name", "second:1"];
    let second = place.start(&[&arguments[..], &["--pool", pool.as_str()]].concat());
    let jobs = post(&up, &suite).await;
    they_talk(&up, jobs).await;
    let mut workers = Vec::new();
    for job in [jobs.0, jobs.1] {
        workers.push(up.job(job).await.attempts[0].worker.clone());
    }
    assert_ne!(workers[0], workers[1], "each on a worker of its own");
    assay_tests::signal(second.pid(), assay_tests::Signal::TERM);
    second.end().await.expect(0);
    up.stop().await;
}
