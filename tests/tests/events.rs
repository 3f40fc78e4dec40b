//! Events in, jobs once: fedora-messaging itself publishes to a RabbitMQ of our own; rules as they are shipped.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use assay_tests::{Broker, PATIENCE, Place, Signal, Up, asking, repository};
use fs_err as fs;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

/// fedora-messaging, which confirms each message that the broker has.
struct Publisher {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Publisher {
    async fn start(place: &Place, url: &str) -> Self {
        let config = place.join("publisher.toml");
        fs::write(
            &config,
            format!("amqp_url = {url:?}\npublish_exchange = \"amq.topic\"\ntopic_prefix = \"\"\n"),
        )
        .unwrap();
        let mut command = place.command(&place.python().await);
        command.arg(repository().join("tests/publish.py")).env("FEDORA_MESSAGING_CONF", config);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, lines: BufReader::new(output).lines() }
    }

    /// Comes back with its id when the broker has it.
    async fn publish(&mut self, topic: &str, body: Value, id: &str) -> String {
        let line = format!("{}\n", json!([topic, body, id]));
        self.input.write_all(line.as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.unwrap().unwrap().unwrap();
        answer.strip_prefix("ok ").unwrap().to_owned()
    }

    async fn stop(mut self) {
        drop(self.input);
        assert!(self.child.wait().await.unwrap().success());
    }
}

/// Bytes that fedora-messaging would not send.
async fn publish_raw(place: &Place, url: &str, bodies: &[&str]) {
    const RAW: &str = "import sys, json, pika\n\
        c = pika.BlockingConnection(pika.URLParameters(sys.argv[1])); ch = c.channel(); ch.confirm_delivery()\n\
        for body in json.load(sys.stdin):\n    \
        ch.basic_publish('amq.topic', 'org.t.raw', body.encode('latin-1') * (1 if len(body) > 1 else 20 << 20))\n\
        c.close()\n";
    let mut command = place.command(&place.python().await);
    let file = place.join("raw.json");
    fs::write(&file, json!(bodies).to_string()).unwrap();
    command.args(["-c", RAW, url]).stdin(fs::File::open(&file).unwrap().into_parts().0);
    place.run_command(command).await.expect(0);
}

fn configure(place: &Place, sources: &str, rules: &str) -> String {
    fs::write(place.join("rules.yaml"), rules).unwrap();
    let file = place.join("assay.toml");
    fs::write(&file, format!("[events]\nrules = \"rules.yaml\"\nschedule = \"schedule.yaml\"\n{sources}"))
        .unwrap();
    file.into_string()
}

const RULES: &str = "
rules:
  - name: built
    when: {topic: 'org.t.build', body.state: done}
    item: {type: koji_build, id: '{body.nvr}', revision: '{body.id}'}
    run: {job: {TEST: check, NVR: '{body.nvr}', WORKER_CLASS: nobody}}
  - name: fails
    when: {topic: 'org.t.#', body.bad: 'yes'}
    run: {job: {TEST: '{body.missing}'}}
";

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    asking(what, async || is_so().await.then_some(())).await;
}

/// Every event, the newest first.
async fn events(up: &Up<'_>) -> Vec<Value> {
    up.get("inbox?limit=500").await["events"].as_array().unwrap().clone()
}

async fn jobs(up: &Up<'_>) -> BTreeMap<String, Vec<i64>> {
    let mut by_nvr: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for job in up.get("jobs?limit=500").await["jobs"].as_array().unwrap() {
        let nvr = job["settings"]["NVR"]["value"].as_str().unwrap();
        by_nvr.entry(nvr.to_owned()).or_default().push(job["id"].as_i64().unwrap());
    }
    by_nvr
}

#[tokio::test]
async fn what_the_broker_has_confirmed_has_its_job_once() {
    let place = Place::new();
    let broker = Broker::start(&place).await;
    let source = format!(
        "[source.fedora]\ndriver = \"amqp\"\nurl = {:?}\nqueue = \"assay\"\nbindings = [\"org.t.#\"]\nprefetch = 64\nmax-body = 1000000\n",
        broker.url
    );
    let config = configure(&place, &source, RULES);
    let arguments = ["--config", config.as_str()];
    let mut up = Up::start_as(&place, "server", &arguments).await;
    until("the queue is bound", async || up.get("sources").await["sources"][0]["doing"] == "consuming").await;
    let mut publisher = Publisher::start(&place, &broker.url).await;
    let mut confirmed = BTreeSet::new();
    for number in 0..120 {
        let body = json!({"state": "done", "nvr": format!("p-1-{number}"), "id": number});
        let id = format!("00000000-0000-4000-8000-{number:012}");
        confirmed.insert(publisher.publish("org.t.build", body.clone(), &id).await);
        if number % 10 == 0 {
            publisher.publish("org.t.build", body.clone(), &id).await; // again, as it was
            publisher.publish("org.t.build", body, "").await; // the same news in another message
        }
        if number % 40 == 20 {
            up.end_by(Signal::KILL).await;
            up = Up::start_as(&place, "server", &arguments).await;
        }
        if number == 70 {
            broker.crash().await;
        }
    }
    publisher.publish("org.t.other", json!({"bad": "yes"}), "00000000-0000-4000-8000-00000000000b").await;
    publish_raw(&place, &broker.url, &["{\"a\":", "\u{ff}\u{fe}", "x"]).await;
    let (wanted, up) = (confirmed.len() + 12 + 1 + 3, &up);
    until("all events are matched", async || {
        let events = events(up).await;
        events.len() >= wanted && events.iter().all(|event| event["state"] != "received")
    })
    .await;
    until("all jobs are there", async || jobs(up).await.len() == confirmed.len()).await;

    let all = events(up).await;
    assert_eq!(all.len(), wanted, "each message is stored once");
    let keys: BTreeSet<&str> = all.iter().map(|event| event["key"].as_str().unwrap()).collect();
    assert!(confirmed.iter().all(|id| keys.contains(id.as_str())), "nothing confirmed is lost");
    let jobs = jobs(up).await;
    assert!(jobs.values().all(|ids| ids.len() == 1), "nothing is done twice: {jobs:?}");
    let parked: Vec<&str> = all.iter().filter_map(|event| event["parked"].as_str()).collect();
    assert_eq!(parked.len(), 3, "{parked:?}");
    for expected in ["not JSON: EOF", "not JSON: invalid utf-8", "20971520 bytes; at most 1000000"] {
        assert!(parked.iter().any(|why| why.contains(expected)), "{expected}: {parked:?}");
    }
    let bad = all.iter().find(|event| event["topic"] == "org.t.other").unwrap();
    assert_eq!(bad["failed"][0]["rule"], "fails");
    assert!(bad["failed"][0]["why"].as_str().unwrap().contains("no body.missing"));

    // A replay changes nothing, unless it is forced.
    let first = all.iter().find(|event| event["key"].as_str().unwrap().ends_with("000000000005")).unwrap();
    let id = first["id"].to_string();
    place.run(&["event", "replay", &id]).await.expect(0);
    let shown = place.run(&["event", "show", &id]).await.expect(0).stdout.clone();
    assert!(shown.contains("rule built: job check (done, jobs "), "{shown}");
    place.run(&["event", "replay", &id, "--force"]).await.expect(0);
    place.run(&["audit", "list", "--event", "event_replay"]).await.says(&format!("{{\"force\":true,\"id\":{id}}}"));
    until("one job more", async || self::jobs(up).await["p-1-5"].len() == 2).await;
    let listed = place.run(&["event", "list", "--state", "parked"]).await.expect(0).stdout.clone();
    assert!(listed.contains("at most 1000000"), "{listed}");
    let rules = place.run(&["rule", "list", "--json"]).await.expect(0).stdout.clone();
    let rules: Value = serde_json::from_str(&rules).unwrap();
    assert_eq!(rules["rules"][0]["effects"], 121);
    publisher.stop().await;
    broker.stop().await;
    until("trouble is shown", async || up.get("sources").await["sources"][0]["trouble"].is_string()).await;
}

#[tokio::test]
async fn the_shipped_rules_do_what_they_say() {
    let place = Place::new();
    let examples = repository().join("examples/rules");
    let checked = place.run(&["rule", "check", examples.as_str()]).await;
    checked.expect(0);
    assert!(checked.stdout.ends_with("8 rules, 0 findings\n"), "{}", checked.stdout);
    let expected = fs::read_to_string(examples.join("messages/expected.json")).unwrap();
    let expected: BTreeMap<String, Vec<String>> = serde_json::from_str(&expected).unwrap();
    assert_eq!(expected.len(), 7);
    for (name, wanted) in expected {
        let mut command = place.assay(&["rule", "test", examples.as_str(), "--json"]);
        let message = fs::File::open(examples.join(format!("messages/{name}.json"))).unwrap();
        command.stdin(message.into_parts().0);
        let said: Value = serde_json::from_str(&place.run_command(command).await.expect(0).stdout).unwrap();
        let rules = said["messages"][0]["rules"].as_array().unwrap();
        let does = rules.iter().filter(|rule| rule["matches"] == true).flat_map(|rule| {
            let name = rule["rule"].as_str().unwrap();
            rule["effects"].as_array().unwrap().iter().map(move |effect| {
                let test = effect["effect"]["settings"]["TEST"].as_str().unwrap();
                format!("{name}: job {test}")
            })
        });
        assert_eq!(does.collect::<Vec<_>>(), wanted, "{name}");
        let not = rules.iter().find(|rule| rule["matches"] == false).unwrap();
        assert!(!not["why"].as_str().unwrap().is_empty());
    }
    let never = place.join("never.yaml");
    fs::write(
        &never,
        "rules:\n  - {name: a, when: {topic: a.b, body.x: 1, all: [{body.x: 2}]}, run: {job: {TEST: t}}}\n",
    )
    .unwrap();
    let found = place.run(&["rule", "check", never.as_str()]).await.expect(1).stdout.clone();
    assert!(
        found.contains("never.yaml:2: rule a: it can never match: body.x cannot be \"1\" and \"2\""),
        "{found}"
    );
    let mut command = place.assay(&["rule", "test", never.as_str()]);
    command.stdin(Stdio::null());
    assert!(place.run_command(command).await.expect(2).stderr.contains("the message is not JSON"));
}

fn signature(secret: &str, body: &str) -> String {
    let mut pad = [0x36_u8; 64];
    let mut outer = [0x5c_u8; 64];
    for (at, byte) in secret.bytes().enumerate() {
        pad[at] ^= byte;
        outer[at] ^= byte;
    }
    let inner = Sha256::new().chain_update(pad).chain_update(body).finalize();
    format!("sha256={}", hex::encode(Sha256::new().chain_update(outer).chain_update(inner).finalize()))
}

#[tokio::test]
async fn hooks_composes_and_updates() {
    let place = Place::new();
    fs::write(place.join("secret"), "s3cret\n").unwrap();
    let example = fs::read_to_string(repository().join("examples/fedora/schedule.yaml")).unwrap();
    fs::write(place.join("schedule.yaml"), example).unwrap();
    let rules = format!(
        "{RULES}\n  - name: compose\n    when: {{topic: 'forge.push', body.location: {{exists: true}}}}\n    run: {{compose: {{location: '{{body.location}}'}}}}\n"
    );
    let hook = "[source.forge]\ndriver = \"webhook\"\nsecret-file = \"secret\"\ntopic = \"forge\"\ntopic-header = \"x-github-event\"\n";
    let config = configure(&place, hook, &rules);
    let up = Up::start_as(&place, "server", &["--config", &config]).await;
    let used = ["Server-dvd-iso", "updates-server"].map(|flavor| {
        json!({
            "group_name": "fedora", "machine": {"name": "64bit"}, "prio": 40, "test_suite": {"name": "install"},
            "product": {"arch": "x86_64", "distri": "fedora", "flavor": flavor, "version": "*"},
        })
    });
    let templates = json!({
        "Machines": [{"name": "64bit", "backend": "dummy", "settings": [{"key": "WORKER_CLASS", "value": "nobody"}]}],
        "TestSuites": [{"name": "install", "settings": []}],
        "Products": [
            {"name": "", "distri": "fedora", "version": "*", "flavor": "Server-dvd-iso", "arch": "x86_64", "settings": []},
            {"name": "", "distri": "fedora", "version": "*", "flavor": "updates-server", "arch": "x86_64", "settings": []}
        ],
        "JobTemplates": used,
    });
    let file = place.join("templates.json");
    fs::write(&file, templates.to_string()).unwrap();
    place.run(&["template", "load", file.as_str()]).await.expect(0);

    let metadata = place.join("compose/metadata");
    fs::create_dir_all(&metadata).unwrap();
    let id = "Fedora-Rawhide-20261121.n.0";
    let compose = json!({"id": id, "date": "20261121", "type": "nightly", "respin": 0});
    let info = json!({"payload": {"compose": compose, "release": {"name": "Fedora", "short": "Fedora", "version": "Rawhide"}}});
    let image = |subvariant: &str, kind: &str, arch: &str| json!({"path": format!("{subvariant}/{arch}/iso/{subvariant}-{kind}-{arch}.iso"), "type": kind, "format": "iso", "arch": arch, "subvariant": subvariant});
    let images = json!({"payload": {"compose": compose, "images": {
        "Server": {"x86_64": [image("Server", "dvd", "x86_64")], "s390x": [image("Server", "dvd", "s390x")]},
    }}});
    fs::write(metadata.join("composeinfo.json"), info.to_string()).unwrap();
    let location = format!("file://{}", place.join("compose"));
    let broken = place.run(&["compose", "schedule", &location]).await;
    assert_eq!(broken.code, Some(3), "{}", broken.stderr);
    assert!(broken.stderr.contains("images.json"), "{}", broken.stderr);
    fs::write(metadata.join("images.json"), images.to_string()).unwrap();

    let schedule = async |more: &[&str]| -> Value {
        let ended = place.run(&[&["compose", "schedule", &location, "--json"], more].concat()).await;
        ended.expect(0).json()["posts"].clone()
    };
    let dry = schedule(&["--dry-run"]).await;
    let flavors: Vec<&str> =
        dry.as_array().unwrap().iter().map(|post| post["settings"]["FLAVOR"].as_str().unwrap()).collect();
    assert_eq!(flavors, ["Server-dvd-iso", "Workstation-upgrade", "universal"]);
    let settings = &dry[0]["settings"];
    assert_eq!(settings["ISO_URL"], format!("{location}/Server/x86_64/iso/Server-dvd-x86_64.iso"));
    assert_eq!(
        (&settings["BUILD"], &settings["VERSION"], &settings["SUBVARIANT"]),
        (&json!(id), &json!("Rawhide"), &json!("Server"))
    );
    assert_eq!(up.get("jobs").await["jobs"], json!([]));

    // The message and the command line mean the same compose: it is scheduled once.
    let body = json!({"location": location}).to_string();
    let send = |signature: String, delivery: &str| {
        let request = up.anonymous(Method::POST, "/api/assay/v1/hooks/forge").body(body.clone());
        request
            .header("x-github-event", "push")
            .header("x-github-delivery", delivery)
            .header("x-hub-signature-256", signature)
            .send()
    };
    assert_eq!(send("sha256=00".to_owned(), "d1").await.unwrap().status(), StatusCode::FORBIDDEN);
    for new in [true, false] {
        let answer = send(signature("s3cret", &body), "d1").await.unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        assert_eq!(answer.json::<Value>().await.unwrap()["new"], new);
    }
    until("the compose's job", async || up.get("jobs").await["jobs"].as_array().unwrap().len() == 1).await;
    let again = schedule(&[]).await;
    let one =
        again.as_array().unwrap().iter().find(|post| post["settings"]["FLAVOR"] == "Server-dvd-iso").unwrap();
    assert_eq!((&one["known"], &one["state"], &one["jobs"]), (&json!(true), &json!("done"), &json!([1])));
    let other =
        again.as_array().unwrap().iter().find(|post| post["settings"]["FLAVOR"] == "universal").unwrap();
    assert_eq!(other["state"], "refused");
    assert!(other["why"].as_str().unwrap().contains("there is no product"), "{other}");
    let forced = schedule(&["--force", "--flavors", "Server-dvd-iso"]).await;
    assert_eq!((&forced[0]["known"], &forced[0]["jobs"]), (&json!(false), &json!([2])));

    place.run(&["audit", "list", "--event", "schedule"]).await.says("\"posts\"");

    let update = [
        "update",
        "schedule",
        "FEDORA-2026-1",
        "F44",
        "--build",
        "bash-5-1",
        "--group",
        "critical-path-base",
        "--flavors",
        "updates-server",
        "--json",
    ];
    let ended = place.run(&update).await;
    ended.expect(0);
    let posts: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(posts["posts"][0]["jobs"], json!([3]), "{posts}");
    assert_eq!(
        (&posts["posts"][0]["settings"]["ADVISORY_NVRS_1"], &posts["posts"][0]["settings"]["VERSION"]),
        (&json!("bash-5-1"), &json!("44"))
    );
    assert_eq!(
        place.run(&["update", "schedule", "FEDORA-2026-2", "F44", "--build", "nothing-1-1"]).await.code,
        Some(1)
    );
    let releases = place.run(&["compose", "releases"]).await.expect(0).stdout.clone();
    assert!(releases.contains("rawhide") && releases.contains("F45"), "{releases}");
    up.stop().await;
}
