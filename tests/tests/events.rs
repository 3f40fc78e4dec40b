//! Events in, jobs once: fedora-messaging itself publishes to a RabbitMQ of our own; rules as they are shipped.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use assay_fakes::bodhi::FakeBodhi;
use assay_fakes::composes::FakeComposes;
use assay_fakes::copr::FakeCopr;
use assay_fakes::datagrepper::FakeDatagrepper;
use assay_fakes::koji::{FakeKoji, TaskState};
use assay_proto::clock::{Clock as _, SystemClock};
use assay_tests::{Broker, PATIENCE, Place, Signal, Up, asking, repository, signature};
use fs_err as fs;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
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
        properties = pika.BasicProperties(headers={'fedora_messaging_schema': 'nobody.knows.v9'})\n\
        for body in json.load(sys.stdin):\n    \
        ch.basic_publish('amq.topic', 'org.t.raw', body.encode('latin-1') * (1 if len(body) > 1 else 20 << 20), properties)\n\
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
    publish_raw(&place, &broker.url, &["{\"a\":", "\u{ff}\u{fe}", "x", "[1, 2]"]).await;
    let (wanted, up) = (confirmed.len() + 12 + 1 + 4, &up);
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
    // Of a schema that nobody knows, and no object: it is there, and no rule has anything to do with it.
    let strange =
        all.iter().find(|event| event["topic"] == "org.t.raw" && event["parked"].is_null()).unwrap();
    let shown = up.get(&format!("inbox/{}", strange["id"])).await;
    assert_eq!((&shown["body"], &shown["state"]), (&json!([1, 2]), &json!("matched")));
    assert_eq!(shown["headers"]["fedora_messaging_schema"], "nobody.knows.v9");
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
    place
        .run(&["audit", "list", "--event", "event_replay"])
        .await
        .says(&format!("{{\"force\":true,\"id\":{id}}}"));
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

const SIX_SOURCES: &str = "
rules:
  - name: all
    when: {topic: ['org.fedoraproject.prod.#', git.branch.moved, forge.push]}
    run: {job: {TEST: check, NVR: '{item.id}', WORKER_CLASS: nobody}}
";

/// Koji, Bodhi, a directory of composes and datagrepper find what the bus has lost, a look at the branches what a hook has
/// lost. What the bus has brought is not counted, also if it was only late; and nothing is done twice.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story from its beginning to its end")]
async fn what_one_source_loses_another_finds_and_that_is_counted() {
    let place = Place::new();
    let now = SystemClock.now().0 / 1_000_000;
    let broker = Broker::start(&place).await;
    let (koji, bodhi) = (FakeKoji::start().await.unwrap(), FakeBodhi::start().await.unwrap());
    let (composes, grepper) = (FakeComposes::start().await.unwrap(), FakeDatagrepper::start().await.unwrap());
    composes.compose("rawhide", "Fedora-Rawhide-20261120.n.0", "STARTED", &[]).unwrap();
    let repository = place.join("project");
    fs::create_dir(&repository).unwrap();
    place.git(&repository, &["init", "--quiet", "--initial-branch=main"]).await;
    let commit = async |text: &str| {
        place.git(&repository, &["commit", "--quiet", "--allow-empty", "-m", text]).await;
        place.git(&repository, &["rev-parse", "HEAD"]).await
    };
    commit("before anybody listens").await;
    fs::write(place.join("secret"), "s3cret\n").unwrap();
    let poll = |name: &str, driver: &str, url: &str, backs: &str| {
        format!("[source.{name}]\ndriver = {driver:?}\nurl = {url:?}\nbacks = {backs:?}\nevery = 1\n")
    };
    let prod = "org.fedoraproject.prod";
    let sources = [
        format!(
            "[source.bus]\ndriver = \"amqp\"\nurl = {:?}\nqueue = \"assay\"\nbindings = [\"{prod}.#\"]\n\
             [source.forge]\ndriver = \"webhook\"\nsecret-file = \"secret\"\ntopic = \"forge.push\"\n",
            broker.url
        ),
        poll("koji", "koji", &koji.hub(), "bus"),
        poll("bodhi", "bodhi", bodhi.url(), "bus"),
        poll("composes", "composes", &format!("{}/rawhide", composes.url()), "bus"),
        poll("grepper", "datagrepper", grepper.url(), "bus") + "settle = 0\n",
        poll("git", "git", &format!("file://{repository}"), "forge"),
    ];
    let config = configure(&place, &sources.concat(), SIX_SOURCES);
    let up = Up::start_as(&place, "server", &["--config", config.as_str()]).await;
    let of = async |source: &str, what: &str| {
        let all = up.get("sources").await;
        let found =
            all["sources"].as_array().unwrap().iter().find(|one| one["name"] == source).unwrap().clone();
        found[what].clone()
    };
    for (source, doing) in [
        ("bus", "consuming"),
        ("koji", "looked"),
        ("bodhi", "looked"),
        ("composes", "looked"),
        ("grepper", "looked"),
        ("git", "looked"),
    ] {
        until(source, async || of(source, "doing").await == doing).await;
    }
    let mut publisher = Publisher::start(&place, &broker.url).await;

    // What the bus brings, and the others tell as well.
    let build = |nvr: &str, id: i64| {
        let parts: Vec<&str> = nvr.split('-').collect();
        json!({"name": parts[0], "version": parts[1], "release": parts[2], "build_id": id, "old": 0, "new": 1, "task": {}})
    };
    let update = |alias: &str, nvr: &str| json!({"re-trigger": false, "artifact": {}, "update": {"alias": alias, "builds": [{"nvr": nvr}]}});
    let composed =
        |id: &str| json!({"compose_id": id, "status": "FINISHED", "location": "x", "release_type": "ga"});
    let push = async |commit: &str| {
        let body = json!({"ref": "refs/heads/main", "after": commit, "repository": {"clone_url": "https://x.org/o/project.git"}});
        let body = body.to_string();
        let request =
            up.anonymous(Method::POST, "/api/assay/v1/hooks/forge").header("x-github-delivery", commit);
        let answer = request
            .header("x-hub-signature-256", signature("s3cret", &body))
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
    };
    let topics = [
        format!("{prod}.buildsys.build.state.change"),
        format!("{prod}.bodhi.update.status.testing.koji-build-group.build.complete"),
        format!("{prod}.pungi.compose.status.change"),
        format!("{prod}.buildsys.tag"),
    ];
    let uuid = |number: u32| format!("00000000-0000-4000-8000-{number:012}");
    let tag = |name: &str| json!({"tag": name, "name": "bash"});
    let told = commit("told").await;
    // The next numbers of the hub are known: the bus is quicker than the poller.
    let probe = koji.build("probe-1-1", 0, &[]);
    publisher.publish(&topics[0], build("bash-1-1", probe + 2), &uuid(1)).await;
    publisher.publish(&topics[1], update("FEDORA-2026-1", "bash-1-1"), &uuid(2)).await;
    publisher.publish(&topics[2], composed("Fedora-Rawhide-20261121.n.0"), &uuid(3)).await;
    publisher.publish(&topics[3], tag("t1"), &uuid(4)).await;
    until("the bus has brought them", async || of("bus", "events").await == 4).await;
    push(&told).await;
    assert_eq!(koji.build("bash-1-1", now - 60, &[]), probe + 2);
    bodhi.update("FEDORA-2026-1", "F44", &["bash-1-1"]);
    bodhi.modified("FEDORA-2026-1", now);
    composes.compose("rawhide", "Fedora-Rawhide-20261121.n.0", "FINISHED", &[]).unwrap();
    grepper.carried(&uuid(4), &topics[3], tag("t1"), now - 5);

    // What the bus and the hook lose.
    let late = koji.build("late-1-1", now - 50, &[]);
    koji.build("lost-1-1", now - 40, &[]);
    bodhi.update("FEDORA-2026-2", "F44", &["lost-1-1"]);
    bodhi.modified("FEDORA-2026-2", now);
    composes.compose("rawhide", "Fedora-Rawhide-20261121.n.1", "FINISHED_INCOMPLETE", &[]).unwrap();
    grepper.carried(&uuid(5), &topics[3], tag("t2"), now - 4);
    grepper.carried(&uuid(6), &topics[3], tag("t3"), now - 3);
    until("the branch is seen", async || {
        of("git", "known").await.as_i64() > Some(0) || of("git", "events").await == 1
    })
    .await;
    let lost = commit("lost").await;
    for (source, count) in [("koji", 2), ("bodhi", 1), ("composes", 1), ("grepper", 2), ("git", 1)] {
        until(source, async || of(source, "recovered").await == count).await;
    }
    // It was only late.
    publisher.publish(&topics[0], build("late-1-1", late), &uuid(7)).await;
    publisher.publish(&topics[3], tag("t3"), &uuid(6)).await;
    for (source, count) in
        [("koji", 1), ("bodhi", 1), ("composes", 1), ("grepper", 1), ("git", 1), ("bus", 0), ("forge", 0)]
    {
        until(source, async || of(source, "recovered").await == count).await;
        assert_eq!(of(source, "trouble").await, Value::Null, "{source}");
    }
    let wanted = [
        "bash-1-1",
        "late-1-1",
        "lost-1-1",
        "FEDORA-2026-1",
        "FEDORA-2026-2",
        "Fedora-Rawhide-20261121.n.0",
        "Fedora-Rawhide-20261121.n.1",
        "t1",
        "t2",
        "t3",
    ];
    until("all jobs are there", async || jobs(&up).await.len() == wanted.len() + 1).await;
    let jobs = jobs(&up).await;
    for item in wanted {
        assert_eq!(jobs[item].len(), 1, "{item}: {jobs:?}");
    }
    // Two commits of one branch.
    assert_eq!(jobs["project/main"].len(), 2, "{told} {lost}: {jobs:?}");
    let listed = place.run(&["event", "sources"]).await.expect(0).stdout.clone();
    assert!(listed.contains("recovered"), "{listed}");
    publisher.stop().await;
    broker.stop().await;
    // The place ends what else runs in it.
    drop(up);
}

/// Messages of Fedora's CI and of autocloud become results by the rules that are shipped, each once.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story from its beginning to its end")]
async fn results_of_others_arrive_as_messages() {
    let place = Place::new();
    let examples = repository().join("examples/foreign-results");
    let checked = place.run(&["rule", "check", examples.as_str()]).await;
    assert!(checked.expect(0).stdout.ends_with("5 rules, 0 findings\n"), "{}", checked.stdout);
    let broker = Broker::start(&place).await;
    let source = format!(
        "[source.bus]\ndriver = \"amqp\"\nurl = {url:?}\nqueue = \"assay\"\nbindings = [\"org.#\"]\n\
         [source.stranger]\ndriver = \"amqp\"\nurl = {:?}\nqueue = \"assay\"\npassive = true\n\
         [source.absent]\ndriver = \"amqp\"\nurl = {url:?}\nqueue = \"nobodys\"\npassive = true\n",
        broker.url.replace("guest:guest", "guest:wrong"),
        url = broker.url
    );
    let rules = fs::read_to_string(examples.join("rules.yaml")).unwrap();
    let config = configure(&place, &source, &rules);
    let up = Up::start_as(&place, "server", &["--config", config.as_str()]).await;
    let source = async |name: &str| {
        let all = up.get("sources").await["sources"].as_array().unwrap().clone();
        all.into_iter().find(|source| source["name"] == name).unwrap()
    };
    until("the queue is bound", async || source("bus").await["doing"] == "consuming").await;
    // A broker that refuses is said, and harms no other source.
    for (name, why) in [("stranger", "ACCESS_REFUSED"), ("absent", "NOT_FOUND")] {
        until(why, async || source(name).await["trouble"].as_str().is_some_and(|said| said.contains(why)))
            .await;
    }
    let mut publisher = Publisher::start(&place, &broker.url).await;
    let read = |name: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(examples.join(format!("messages/{name}.json"))).unwrap())
            .unwrap()
    };
    // In the order of a test's life; some of them twice.
    for name in ["ci-queued", "ci-running", "ci-running", "ci-complete", "ci-error", "autocloud", "autocloud"]
    {
        let message = read(name);
        let (topic, id) = (message["topic"].as_str().unwrap(), message["id"].as_str().unwrap());
        publisher.publish(topic, message["body"].clone(), id).await;
    }
    let mut unknown = read("ci-complete");
    unknown["body"]["test"]["result"] = json!("splendid");
    let unknown_id = "00000000-0000-4000-8000-0000000000aa";
    publisher.publish(unknown["topic"].as_str().unwrap(), unknown["body"].clone(), unknown_id).await;
    let mut about_nothing = read("ci-complete");
    about_nothing["body"]["artifact"] = json!({"type": "redhat-module", "id": 1});
    let nothing_id = "00000000-0000-4000-8000-0000000000ab";
    publisher
        .publish(about_nothing["topic"].as_str().unwrap(), about_nothing["body"].clone(), nothing_id)
        .await;

    let results = async || {
        let answer = up.anonymous(Method::GET, "/api/v2.0/results?limit=100").send().await.unwrap();
        answer.json::<Value>().await.unwrap()["data"].as_array().unwrap().clone()
    };
    let settled = async || {
        let events = events(&up).await;
        let mut done = 0;
        for event in &events {
            let shown = up.get(&format!("inbox/{}", event["id"])).await;
            done += usize::from(
                shown["effects"].as_array().unwrap().iter().any(|effect| effect["state"] != "waiting"),
            );
        }
        (events.len(), done) == (7, 7)
    };
    until("all are stored", settled).await;
    let mut found: Vec<Value> = results()
        .await
        .iter()
        .map(|one| {
            let data = &one["data"];
            json!([
                one["testcase"]["name"],
                one["outcome"],
                data["item"][0],
                data["type"][0],
                data["source"][0],
                data["arch"][0],
                one["note"]
            ])
        })
        .collect();
    found.sort_by_key(ToString::to_string);
    let rainbow = |outcome: &str| {
        json!([
            "update.rainbow 64bit updates-kde x86_64.validation",
            outcome,
            "FEDORA-2019-6bda4c81f4",
            "bodhi_update",
            "Fedora openQA",
            "x86_64",
            null
        ])
    };
    let expected = [
        json!(["compose.cloud.all", "PASSED", "Fedora-24-20160419.n.1", "compose", "autocloud", null, null]),
        json!([
            "fedora-ci.koji-build.rpminspect.static-analysis",
            "ERROR",
            "bash-5.2.26-1.fc40",
            "koji_build",
            "Fedora openQA",
            "x86_64",
            "the machine was lost"
        ]),
        rainbow("PASSED"),
        rainbow("QUEUED"),
        rainbow("RUNNING"),
    ];
    assert_eq!(found, expected);
    let why = async |id: &str| {
        let event = events(&up).await.into_iter().find(|event| event["key"] == id).unwrap();
        up.get(&format!("inbox/{}", event["id"])).await["effects"][0]["why"].as_str().unwrap().to_owned()
    };
    let unknown = why(unknown_id).await;
    assert!(unknown.starts_with("\"SPLENDID\" is no outcome; there are PASSED, INFO"), "{unknown}");
    assert!(why(nothing_id).await.contains("the rule needs `item`"));
    // A replay by force is another result; without force it is none.
    let id = events(&up)
        .await
        .into_iter()
        .find(|event| event["topic"].as_str().unwrap().contains("autocloud"))
        .unwrap();
    let id = id["id"].to_string();
    place.run(&["event", "replay", &id]).await.expect(0);
    place.run(&["event", "replay", &id, "--force"]).await.expect(0);
    until("one result more", async || results().await.len() == 6).await;
    let shown = place.run(&["event", "show", &id]).await.expect(0).stdout.clone();
    assert!(shown.contains("result compose.cloud.all PASSED (done, result "), "{shown}");
    publisher.stop().await;
    broker.stop().await;
}

#[tokio::test]
async fn the_shipped_rules_do_what_they_say() {
    let place = Place::new();
    let examples = repository().join("examples/rules");
    let checked = place.run(&["rule", "check", examples.as_str()]).await;
    checked.expect(0);
    assert!(checked.stdout.ends_with("11 rules, 0 findings\n"), "{}", checked.stdout);
    let expected = fs::read_to_string(examples.join("messages/expected.json")).unwrap();
    let expected: BTreeMap<String, Vec<String>> = serde_json::from_str(&expected).unwrap();
    assert_eq!(expected.len(), 10);
    let shown = async |message: &Value| -> Vec<Value> {
        let file = place.join("message.json");
        fs::write(&file, message.to_string()).unwrap();
        let tasks = repository().join("tasks");
        let arguments = ["rule", "test", examples.as_str(), "--tasks", tasks.as_str(), "--json"];
        let mut command = place.assay(&arguments);
        command.stdin(fs::File::open(file).unwrap().into_parts().0);
        let said = place.run_command(command).await.json();
        said["messages"][0]["rules"].as_array().unwrap().clone()
    };
    let read = |name: &str| -> Value {
        let text = fs::read_to_string(examples.join(format!("messages/{name}.json"))).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    for (name, wanted) in &expected {
        let rules = shown(&read(name)).await;
        let does = rules.iter().filter(|rule| rule["matches"] == true).flat_map(|rule| {
            let name = rule["rule"].as_str().unwrap();
            // No shipped task refuses what the rules give it.
            assert!(rule["refused"].as_array().unwrap().iter().all(Value::is_null), "{rule}");
            rule["effects"].as_array().unwrap().iter().map(move |planned| {
                let again = if planned["force"].is_null() { "" } else { ", once more" };
                let effect = &planned["effect"];
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                let what = match effect["do"].as_str().unwrap() {
                    "compose" => format!("compose {}", text(&effect["location"])),
                    "update" => format!("update {} {}", text(&effect["id"]), text(&effect["release"])),
                    _ => format!("job {}", text(&effect["settings"]["TEST"])),
                };
                format!("{name}: {what}{again}")
            })
        });
        assert_eq!(&does.collect::<Vec<_>>(), wanted, "{name}");
        let not = rules.iter().find(|rule| rule["matches"] == false).unwrap();
        assert!(!not["why"].as_str().unwrap().is_empty());
    }
    // Each rule, with a message that it nearly matches.
    let misses = read("near-misses");
    let misses = misses.as_array().unwrap();
    let missed: BTreeSet<&str> = misses.iter().map(|miss| miss["rule"].as_str().unwrap()).collect();
    let matched: BTreeSet<&str> =
        expected.values().flatten().map(|does| does.split(':').next().unwrap()).collect();
    assert_eq!((missed.len(), &missed), (11, &matched));
    for miss in misses {
        let mut message = read(miss["message"].as_str().unwrap());
        for (pointer, value) in miss["set"].as_object().unwrap() {
            *message.pointer_mut(pointer).unwrap() = value.clone();
        }
        let rules = shown(&message).await;
        let rule = rules.iter().find(|rule| rule["rule"] == miss["rule"]).unwrap();
        let why = rule["why"].as_str().unwrap();
        assert!(why.contains(miss["why"].as_str().unwrap()), "{rule}");
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
    let wrong = place.join("wrong.yaml");
    let text = "rules:\n  - {name: a, when: {topic: b}, run: {task: rpmlin}}\n  - {name: c, when: {topic: b}, item: {type: koji_tag, id: f44}, run: {task: rpmlint}}\n";
    fs::write(&wrong, text).unwrap();
    let tasks = repository().join("tasks");
    let with = ["--tasks", tasks.as_str()];
    let found = place.run(&[&["rule", "check", wrong.as_str()], &with[..]].concat()).await;
    assert!(
        found.expect(1).stdout.contains("wrong.yaml:2: rule a: there is no task \"rpmlin\""),
        "{}",
        found.stdout
    );
    fs::write(place.join("message.json"), r#"{"topic": "b", "body": {}}"#).unwrap();
    let mut command = place.assay(&[&["rule", "test", wrong.as_str()], &with[..]].concat());
    command.stdin(fs::File::open(place.join("message.json")).unwrap().into_parts().0);
    let said = place.run_command(command).await.expect(0).stdout.clone();
    for part in [
        "a: matches, and fails: the task rpmlin looks at an item, and none is known by the topic b",
        "task rpmlint of f44  [c/koji_tag/f44//1:rpmlint]",
        "would be refused: the task rpmlint takes koji_build, bodhi_update, and f44 is a koji_tag",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    let mut command = place.assay(&["rule", "test", never.as_str()]);
    command.stdin(Stdio::null());
    assert!(place.run_command(command).await.expect(2).stderr.contains("the message is not JSON"));
}

/// Products that some of the example's flavors are of.
async fn load_templates(place: &Place) {
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
}

async fn a_candidate_and_a_build_of_coreos(place: &Place, up: &Up<'_>, info: &Value, images: &Value) {
    // A candidate: its group's page says so, once.
    let candidate = place.join("candidate/metadata");
    fs::create_dir_all(&candidate).unwrap();
    let of_candidate = |text: &Value| {
        text.to_string()
            .replace("Fedora-Rawhide-20261121.n.0", "Fedora-45-20261013.0")
            .replace("nightly", "production")
    };
    fs::write(candidate.join("composeinfo.json"), of_candidate(info)).unwrap();
    fs::write(candidate.join("images.json"), of_candidate(images)).unwrap();
    let address = format!("file://{}", place.join("candidate"));
    for known in [false, true] {
        let ended =
            place.run(&["compose", "schedule", &address, "--flavors", "Server-dvd-iso", "--json"]).await;
        let posts = ended.expect(0).json()["posts"].clone();
        let what = "comment on fedora: tag:Fedora-45-20261013.0:important:candidate";
        let said = posts.as_array().unwrap().iter().find(|post| post["what"] == what).unwrap();
        assert_eq!((&said["state"], &said["known"]), (&json!("done"), &json!(known)), "{said}");
    }
    let comments = up.anonymous(Method::GET, "/api/v1/groups/1/comments").send().await.unwrap();
    let comments = comments.json::<Value>().await.unwrap();
    assert_eq!(comments.as_array().unwrap().len(), 1, "{comments}");
    assert_eq!(comments[0]["text"], "tag:Fedora-45-20261013.0:important:candidate");

    // A build of CoreOS has its own metadata.
    let meta = json!({"buildid": "46.20261121.91.0", "coreos-assembler.basearch": "x86_64", "images": {"live-iso": {"path": "live.iso"}}});
    fs::create_dir(place.join("coreos")).unwrap();
    fs::write(place.join("coreos/meta.json"), meta.to_string()).unwrap();
    let address = format!("file://{}", place.join("coreos"));
    let ended = place.run(&["compose", "schedule", &address, "--dry-run"]).await;
    assert!(ended.expect(0).stdout.contains("Fedora-CoreOS-46.20261121.91.0"), "{}", ended.stdout);
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
    load_templates(&place).await;

    let metadata = place.join("compose/metadata");
    fs::create_dir_all(&metadata).unwrap();
    let id = "Fedora-Rawhide-20261121.n.0";
    let compose = json!({"id": id, "date": "20261121", "type": "nightly", "respin": 0});
    let tree = json!({"Everything": {"paths": {"os_tree": {"x86_64": "Everything/x86_64/os"}}}});
    let info = json!({"payload": {"compose": compose, "release": {"name": "Fedora", "short": "Fedora", "version": "Rawhide"}, "variants": tree}});
    let image = |subvariant: &str, kind: &str, arch: &str| json!({"path": format!("{subvariant}/{arch}/iso/{subvariant}-{kind}-{arch}.iso"), "type": kind, "format": "iso", "arch": arch, "subvariant": subvariant});
    let images = json!({"payload": {"compose": compose, "images": {
        "Server": {"x86_64": [image("Server", "dvd", "x86_64")], "s390x": [image("Server", "dvd", "s390x")]},
    }}});
    fs::write(metadata.join("composeinfo.json"), info.to_string()).unwrap();
    let location = format!("file://{}", place.join("compose"));
    let broken = place.run(&["compose", "schedule", &location]).await;
    assert_eq!(broken.code, Some(4), "{}", broken.stderr);
    assert!(broken.stderr.contains("there is no metadata/images.json in file://"), "{}", broken.stderr);
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
            .header("x-gitlab-token", "t0psecret")
            .header("x-api-key", "t0psecret")
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
    let hooked = events(&up).await.into_iter().find(|event| event["key"] == "d1").unwrap();
    let headers = up.get(&format!("inbox/{}", hooked["id"])).await["headers"].to_string();
    assert!(headers.contains("x-github-event"), "{headers}");
    for word in ["t0psecret", "x-gitlab-token", "x-hub-signature-256"] {
        assert!(!headers.contains(word), "who sent it stays with them: {headers}");
    }
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

    // Settings of somebody's own make another build; a misspelt flavor is named.
    let set = ["--set", "grubadd=inst.updates=https://x/u.img", "--flavors", "server-dvd-iso", "--dry-run"];
    let extra = schedule(&set).await;
    assert_eq!(
        (&extra[0]["known"], &extra[0]["settings"]["BUILD"]),
        (&json!(false), &json!(format!("{id}-EXTRA")))
    );
    assert_eq!(extra[0]["settings"]["GRUBADD"], "inst.updates=https://x/u.img");
    let wrong = place.run(&["compose", "schedule", &location, "--flavors", "Server-dvd"]).await;
    assert!(wrong.expect(2).stderr.contains("as the flavor \"Server-dvd\""), "{}", wrong.stderr);
    let wrong = place.run(&["compose", "schedule", &location, "--set", "GRUBADD"]).await;
    assert!(wrong.expect(2).stderr.contains("expected KEY=VALUE"), "{}", wrong.stderr);

    a_candidate_and_a_build_of_coreos(&place, &up, &info, &images).await;

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
    assert_eq!(posts["posts"][0]["jobs"], json!([4]), "{posts}");
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

/// Updates, tasks, tags and projects are named; what they are made of, and which releases there are, is asked outside.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story from its beginning to its end")]
async fn what_is_scheduled_by_its_name_alone() {
    let place = Place::new();
    let (bodhi, koji, copr) = (
        FakeBodhi::start().await.unwrap(),
        FakeKoji::start().await.unwrap(),
        FakeCopr::start().await.unwrap(),
    );
    for (release, state) in [("F42", "archived"), ("F43", "current"), ("F45", "pending"), ("F44F", "current")]
    {
        bodhi.release(release, state);
    }
    bodhi.update("FEDORA-2026-1", "F44", &["zsh-5-1.fc44", "bash-5-1.fc44"]);
    bodhi.change("FEDORA-2026-1", "critpath_groups", json!("critical-path-base core"));
    bodhi.update("FEDORA-2026-2", "F44", &["nothing-1-1.fc44"]);
    bodhi.update("FEDORA-2026-3", "F42", &["podman-1-1.fc42"]);
    bodhi.update("FEDORA-2026-4", "F44", &["podman-1-1.fc44"]);
    bodhi.change("FEDORA-2026-4", "status", json!("obsolete"));
    koji.tag("f44-build-side-1", &[]);
    koji.tag("f44-build-side-2", &[]);
    for nvr in ["zsh-5-1.fc44", "bash-5-1.fc44"] {
        koji.build(nvr, 0, &["x86_64"]);
        koji.put("f44-build-side-1", nvr);
    }
    let (good, bad) =
        (koji.task("build", TaskState::Closed, None), koji.task("build", TaskState::Failed, None));
    copr.project("@qa/nightly", &[7, 3]);
    copr.project("alice/empty", &[]);
    let example = fs::read_to_string(repository().join("examples/fedora/schedule.yaml")).unwrap();
    let (before, rest) = example.split_once("releases:\n").unwrap();
    let rest = rest.split_once("\nsettings:").unwrap().1;
    fs::write(place.join("schedule.yaml"), format!("{before}settings:{rest}")).unwrap();
    let config = place.join("assay.toml");
    let text = format!(
        "[events]\nschedule = \"schedule.yaml\"\nbodhi = {:?}\ncopr = {:?}\n[tasks]\nkoji-hub = {:?}\n",
        bodhi.url(),
        copr.url(),
        koji.hub()
    );
    fs::write(&config, text).unwrap();
    let up = Up::start_as(&place, "server", &["--config", config.as_str()]).await;
    load_templates(&place).await;
    let run = async |words: &str| -> Value {
        let ended = place.run(&words.split(' ').chain(["--json"]).collect::<Vec<_>>()).await;
        ended.expect(0).json()
    };
    let posts = async |words: &str| -> Vec<Value> { run(words).await["posts"].as_array().unwrap().clone() };
    let releases = run("compose releases").await;
    let lives: Vec<Value> = releases["releases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| json!([one["name"], one["life"]]))
        .collect();
    let expected = [["F42", "ended"], ["F43", "current"], ["F44", "current"], ["F45", "rawhide"]];
    assert_eq!(json!(lives), json!(expected));

    let dry = posts("update schedule FEDORA-2026-1 --dry-run").await;
    let flavors: Vec<&str> = dry.iter().map(|post| post["settings"]["FLAVOR"].as_str().unwrap()).collect();
    assert_eq!(
        flavors,
        [
            "updates-container",
            "updates-everything-boot-iso",
            "updates-kde",
            "updates-kde-live-iso",
            "updates-server",
            "updates-server-upgrade",
            "updates-silverblue-dvd_ostree-iso",
            "updates-workstation",
            "updates-workstation-live-iso",
            "updates-workstation-upgrade"
        ]
    );
    for (key, value) in [
        ("VERSION", "44"),
        ("CURRREL", "44"),
        ("PREVREL", "43"),
        ("RAWREL", "45"),
        ("UP1REL", "43"),
        ("UP2REL", "42"),
        ("ADVISORY_NVRS_1", "bash-5-1.fc44 zsh-5-1.fc44"),
        ("ITEM_TYPE", "bodhi_update"),
    ] {
        assert_eq!(dry[0]["settings"][key], value, "{key}");
    }
    assert!(dry.iter().all(|post| post["state"].is_null() && post["known"] == false));
    let first = posts("update schedule FEDORA-2026-1 --flavors updates-server").await;
    assert_eq!(
        (&first[0]["state"], &first[0]["known"], first[0]["jobs"].as_array().unwrap().len()),
        (&json!("done"), &json!(false), 1)
    );
    // Once, however it is named; anew by force, and when its builds are others.
    for words in [
        "FEDORA-2026-1",
        "FEDORA-2026-1 F44",
        "FEDORA-2026-1 F44 --build zsh-5-1.fc44 --build bash-5-1.fc44 --group core",
    ] {
        let again = posts(&format!("update schedule {words} --flavors updates-server")).await;
        assert_eq!((&again[0]["known"], &again[0]["jobs"]), (&json!(true), &first[0]["jobs"]), "{words}");
    }
    for words in ["FEDORA-2026-1 --force", "FEDORA-2026-1 F44 --build bash-6-1.fc44"] {
        let anew = posts(&format!("update schedule {words} --group core --flavors updates-server")).await;
        assert_eq!(anew[0]["known"], false, "{words}");
        assert_ne!(anew[0]["jobs"], first[0]["jobs"], "{words}");
    }

    let task = posts(&format!("koji-task schedule {good} F44 --flavors updates-server --dry-run")).await;
    let (settings, id) = (&task[0]["settings"], good.to_string());
    assert_eq!(
        (&settings["BUILD"], &settings["KOJITASK"]),
        (&json!(format!("Kojitask-{id}-NOREPORT")), &json!(id))
    );
    // The first job of a task downloads its packages and serves them to the others, as with updates.
    assert_eq!(
        (&settings["ADVISORY"], &settings["UPDATE_OR_TAG_REPO"]),
        (&Value::Null, &json!("nfs://172.16.2.110:/mnt/update_repo"))
    );
    let side = "koji-tag schedule f44-build-side-1 F44 --flavors updates-server";
    let tag = posts(side).await;
    let settings = &tag[0]["settings"];
    assert_eq!(
        (&settings["BUILD"], &settings["TAG"]),
        (&json!("TAG_f44-build-side-1-NOREPORT"), &json!("f44-build-side-1"))
    );
    assert_eq!(
        settings["UPDATE_OR_TAG_REPO"],
        "https://kojipkgs.fedoraproject.org/repos/f44-build-side-1/latest/x86_64"
    );
    assert_eq!(posts(side).await[0]["known"], true);
    koji.build("zsh-6-1.fc44", 0, &["x86_64"]);
    koji.put("f44-build-side-1", "zsh-6-1.fc44");
    assert_eq!(posts(side).await[0]["known"], false, "it has another build");
    let project = "copr schedule @qa/nightly F45 --flavors updates-server";
    let built = posts(project).await;
    let settings = &built[0]["settings"];
    assert_eq!(
        (&settings["BUILD"], &settings["VERSION"]),
        (&json!("COPR_@qa/nightly-NOREPORT"), &json!("45"))
    );
    assert_eq!(settings["ITEM_REVISION"], "7");
    assert!(
        settings["UPDATE_OR_TAG_REPO"].as_str().unwrap().ends_with("/results/@qa/nightly/fedora-45-x86_64")
    );
    assert_eq!(posts(project).await[0]["known"], true);
    copr.project("@qa/nightly", &[7, 3, 8]);
    assert_eq!(posts(project).await[0]["known"], false);

    let table = [
        ("update schedule FEDORA-2026-9".to_owned(), 4, "Bodhi has no update \"FEDORA-2026-9\""),
        ("update schedule FEDORA-2026-1 F43".to_owned(), 2, "FEDORA-2026-1 is of F44, not of F43"),
        ("update schedule FEDORA-2026-3".to_owned(), 2, "the release F42 has ended"),
        ("update schedule FEDORA-2026-4".to_owned(), 2, "FEDORA-2026-4 is obsolete"),
        (
            "update schedule FEDORA-2026-1 F99 --build a-1-1".to_owned(),
            2,
            "there is no release \"F99\"; there are F42, F43",
        ),
        (format!("koji-task schedule {bad} F44"), 2, "(build) has failed"),
        ("koji-task schedule 5 F44".to_owned(), 4, "No such task: 5"),
        ("koji-task schedule five F44".to_owned(), 2, "invalid value 'five'"),
        ("koji-tag schedule f44-none F44".to_owned(), 4, "No such tagInfo: 'f44-none'"),
        ("koji-tag schedule f44-build-side-2 F44".to_owned(), 2, "there is no build in the tag"),
        ("copr schedule alice/none F44".to_owned(), 4, "COPR has no project \"alice/none\""),
        ("copr schedule alice/empty F44".to_owned(), 2, "nothing has been built"),
        ("copr schedule alice F44".to_owned(), 2, "expected OWNER/PROJECT"),
        ("update schedule FEDORA-2026-2".to_owned(), 1, ""),
    ];
    for (words, code, why) in table {
        let ended = place.run(&words.split(' ').collect::<Vec<_>>()).await;
        assert!(
            ended.code == Some(code) && ended.stderr.contains(why),
            "{words}: {:?} {}",
            ended.code,
            ended.stderr
        );
    }
    assert_eq!(posts("update schedule FEDORA-2026-3 --force --dry-run").await.len(), 1);
    koji.offline(true);
    let ended = place.run(&side.split(' ').collect::<Vec<_>>()).await;
    assert!(ended.expect(3).stderr.contains("database outage"), "{}", ended.stderr);
    up.stop().await;
}

/// A large update: by two rules, by hand and by Bodhi's wish to have its tests triggered again. What was known before is
/// shown with the event that wanted it too.
#[tokio::test]
async fn an_update_is_scheduled_once_unless_somebody_wants_it_again() {
    let place = Place::new();
    fs::write(place.join("secret"), "s3cret\n").unwrap();
    let example = fs::read_to_string(repository().join("examples/fedora/schedule.yaml")).unwrap();
    fs::write(place.join("schedule.yaml"), example).unwrap();
    let shipped = fs::read_to_string(repository().join("examples/rules/fedora.yaml")).unwrap();
    let (_, update_rule) = shipped.split_once("\n  - name: update\n").unwrap();
    let rules = format!(
        "rules:\n  - name: update\n{update_rule}  - name: 'another #1'\n{}",
        update_rule.replace("status.testing.koji-build-group.build.complete", "request.testing")
    );
    let hook = "[source.bus]\ndriver = \"webhook\"\nsecret-file = \"secret\"\ntopic = \"org.fedoraproject.prod.bodhi.update\"\n\
        topic-header = \"x-topic\"\n";
    let config = configure(&place, hook, &rules);
    let up = Up::start_as(&place, "server", &["--config", &config]).await;
    load_templates(&place).await;
    let nvrs: Vec<String> = (0..40).map(|number| format!("gnome-package-{number:02}-50.1-1.fc44")).collect();
    let message = |again: bool, groups: Value| {
        let builds: Vec<Value> = nvrs.iter().map(|nvr| json!({"nvr": nvr})).collect();
        let release = json!({"name": "F44", "version": "44", "id_prefix": "FEDORA"});
        let update = json!({"alias": "FEDORA-2026-1", "critpath": true, "critpath_groups": groups, "builds": builds, "release": release});
        json!({"agent": "bodhi", "re-trigger": again, "artifact": {"builds": []}, "update": update})
            .to_string()
    };
    let send = async |topic: &str, delivery: &str, body: String| -> Value {
        let request = up.anonymous(Method::POST, "/api/assay/v1/hooks/bus").header("x-topic", topic);
        let request = request.header("x-github-delivery", delivery);
        let answer = request
            .header("x-hub-signature-256", signature("s3cret", &body))
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        asking("the event is done with", async || {
            let all = events(&up).await;
            let id = all.iter().find(|event| event["key"] == delivery)?["id"].clone();
            let shown = up.get(&format!("inbox/{id}")).await;
            let effects = shown["effects"].as_array().unwrap();
            let done = effects.len() > 1 && effects.iter().all(|effect| effect["state"] != "waiting");
            done.then_some(shown)
        })
        .await
    };
    let ready = "status.testing.koji-build-group.build.complete";
    // Of the critical path without groups: all flavors.
    let server = |event: &Value| {
        let effects = event["effects"].as_array().unwrap();
        assert_eq!(effects.len(), 1 + 10, "{event}");
        let found = effects
            .iter()
            .find(|effect| effect["what"] == "product fedora-44-updates-server-x86_64-Update-FEDORA-2026-1");
        let found = found.unwrap();
        (found["event"].clone(), found["jobs"].clone())
    };
    let first = send(ready, "d1", message(false, json!(null))).await;
    assert_eq!(server(&first), (first["id"].clone(), json!([1])));
    // The same by another rule: its event shows the same parts, and nothing is done.
    let same = send("request.testing", "d2", message(false, json!(null))).await;
    assert_eq!(server(&same), (first["id"].clone(), json!([1])));
    let shown = place.run(&["event", "show", &same["id"].to_string()]).await.expect(0).stdout.clone();
    let before = format!("(done, known before by event {}, jobs 1)", first["id"]);
    assert!(shown.contains(&before), "{shown}");
    // By hand.
    let mut words =
        vec!["update", "schedule", "FEDORA-2026-1", "F44", "--critpath", "--flavors", "server", "--json"];
    for nvr in &nvrs {
        words.extend(["--build", nvr]);
    }
    let posts = place.run(&words).await.expect(0).json()["posts"].clone();
    assert_eq!((&posts[0]["known"], &posts[0]["jobs"]), (&json!(true), &json!([1])), "{posts}");
    // Once more, as often as somebody wants it, and not twice for one message.
    for (delivery, job) in [("d3", 2), ("d4", 3), ("d4", 3)] {
        let again = send(ready, delivery, message(true, json!(null))).await;
        assert_eq!(server(&again), (again["id"].clone(), json!([job])), "{delivery}");
    }
    // A replay by force of the first is another time of it.
    place.run(&["event", "replay", &first["id"].to_string(), "--force"]).await.expect(0);
    until("one job more", async || up.get("jobs?limit=500").await["jobs"].as_array().unwrap().len() == 4)
        .await;
    let wrong = place
        .run(&["update", "schedule", "FEDORA-2026-1", "F44", "--build", "a-1-1", "--flavors", "servr"])
        .await;
    assert!(
        wrong.expect(2).stderr.contains("there is no flavor \"servr\" of updates; there are container,"),
        "{}",
        wrong.stderr
    );
    let unknown =
        place.run(&["update", "schedule", "FEDORA-2026-1", "ELN", "--build", "a-1-1", "--force"]).await;
    assert!(unknown.expect(2).stderr.contains("there is no release \"ELN\""), "{}", unknown.stderr);
    up.stop().await;
}

/// An update that the bus tells and one that only a look at Bodhi finds fit the rules that are shipped, in whichever order
/// both tell it: its build is linted once.
#[tokio::test]
async fn an_update_is_linted_once_whether_the_bus_or_a_look_at_bodhi_tells_it() {
    let place = Place::new();
    fs::write(place.join("secret"), "s3cret\n").unwrap();
    let bodhi = FakeBodhi::start().await.unwrap();
    let checks = place.join("checks");
    fs::create_dir(&checks).unwrap();
    place.git(&checks, &["init", "--quiet", "--initial-branch=main"]).await;
    place.git(&checks, &["commit", "--quiet", "--allow-empty", "-m", "tasks"]).await;
    let shipped = fs::read_to_string(repository().join("examples/rules/fedora.yaml")).unwrap();
    fs::copy(repository().join("examples/fedora/schedule.yaml"), place.join("schedule.yaml")).unwrap();
    let sources = format!(
        "[source.bus]\ndriver = \"webhook\"\nsecret-file = \"secret\"\ntopic = \"org.fedoraproject.prod.bodhi.update.status\"\n\
         topic-header = \"x-topic\"\n\
         [source.bodhi]\ndriver = \"bodhi\"\nurl = {:?}\nbacks = \"bus\"\nevery = 1\n\
         [tasks.repository.rpmlint]\nurl = \"file://{checks}\"\n",
        bodhi.url()
    );
    let config = configure(&place, &sources, &shipped);
    let up = Up::start_as(&place, "server", &["--config", &config]).await;
    load_templates(&place).await;
    let linted = async || -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for job in up.get("jobs?limit=500").await["jobs"].as_array().unwrap() {
            if job["settings"]["TEST"]["value"] == "rpmlint" {
                *counts.entry(job["settings"]["ITEM"]["value"].as_str().unwrap().to_owned()).or_default() +=
                    1;
            }
        }
        counts
    };
    let update = |alias: &str, nvr: &str| {
        bodhi.update(alias, "F44", &[nvr]);
        bodhi.modified(alias, SystemClock.now().0 / 1_000_000);
    };
    let told = async |alias: &str, nvr: &str| {
        let mut message: Value = serde_json::from_str(
            &fs::read_to_string(repository().join("examples/rules/messages/submitted-for-testing.json"))
                .unwrap(),
        )
        .unwrap();
        let body = &mut message["body"];
        body["artifact"]["builds"] =
            json!([{"type": "koji-build", "id": 2_400_009, "task_id": 110_000_009, "nvr": nvr}]);
        body["update"]["alias"] = json!(alias);
        body["update"]["builds"] = json!([{"nvr": nvr, "epoch": 0, "type": "rpm", "signed": true}]);
        let body = body.to_string();
        let request = up
            .anonymous(Method::POST, "/api/assay/v1/hooks/bus")
            .header("x-topic", "testing.koji-build-group.build.complete")
            .header("x-github-delivery", alias)
            .header("x-hub-signature-256", signature("s3cret", &body));
        assert_eq!(request.body(body).send().await.unwrap().status(), StatusCode::ACCEPTED);
        asking("it is matched", async || {
            let all = events(&up).await;
            let event =
                all.iter().find(|event| event["key"] == alias && event["state"] == "matched")?.clone();
            Some(event)
        })
        .await
    };
    let count = |of: &BTreeMap<String, usize>, nvr: &str| of.get(nvr).copied().unwrap_or_default();
    // Found by looking, and told too late.
    update("FEDORA-2026-1", "sed-4.9-3.fc44");
    until("the update that was found is linted", async || count(&linted().await, "sed-4.9-3.fc44") == 1)
        .await;
    let late = told("FEDORA-2026-1", "sed-4.9-3.fc44").await;
    assert_eq!((&late["failed"], &late["rules"]), (&json!([]), &json!(["rpmlint", "update"])), "{late}");
    // Told, and found later.
    told("FEDORA-2026-2", "gzip-1.13-4.fc44").await;
    until("the update that was told is linted", async || count(&linted().await, "gzip-1.13-4.fc44") == 1)
        .await;
    update("FEDORA-2026-2", "gzip-1.13-4.fc44");
    // A third one that is only found ends the looks in which the second one was found as well.
    update("FEDORA-2026-3", "tar-1-1.fc44");
    until("the third is linted", async || count(&linted().await, "tar-1-1.fc44") == 1).await;
    let all = linted().await;
    for nvr in ["sed-4.9-3.fc44", "gzip-1.13-4.fc44", "tar-1-1.fc44"] {
        assert_eq!(count(&all, nvr), 1, "{nvr}: {all:?}");
    }
    let recovered = events(&up).await.iter().filter(|event| event["recovered"] == true).count();
    assert_eq!(recovered, 1, "the first was only late: {:?}", events(&up).await);
    up.stop().await;
}
