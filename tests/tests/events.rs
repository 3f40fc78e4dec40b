//! Events in, jobs once: fedora-messaging itself publishes to a RabbitMQ of our own; rules as they are shipped.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use assay_fakes::bodhi::FakeBodhi;
use assay_fakes::composes::FakeComposes;
use assay_fakes::datagrepper::FakeDatagrepper;
use assay_fakes::koji::FakeKoji;
use assay_proto::clock::{Clock as _, SystemClock};
use assay_tests::events::{RULES, configure, load_templates, until};
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
        let events = up.events().await;
        events.len() >= wanted && events.iter().all(|event| event["state"] != "received")
    })
    .await;
    until("all jobs are there", async || jobs(up).await.len() == confirmed.len()).await;

    let all = up.events().await;
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
        let clone_url = format!("https://x.org{repository}.git");
        let body = json!({"ref": "refs/heads/main", "after": commit, "repository": {"clone_url": clone_url}});
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
    let branch = format!("{}/main", repository.as_str().trim_start_matches('/'));
    assert_eq!(jobs[&branch].len(), 2, "{told} {lost}: {jobs:?}");
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
        let events = up.events().await;
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
        let event = up.events().await.into_iter().find(|event| event["key"] == id).unwrap();
        up.get(&format!("inbox/{}", event["id"])).await["effects"][0]["why"].as_str().unwrap().to_owned()
    };
    let unknown = why(unknown_id).await;
    assert!(unknown.starts_with("\"SPLENDID\" is no outcome; there are PASSED, INFO"), "{unknown}");
    assert!(why(nothing_id).await.contains("the rule needs `item`"));
    // A replay by force is another result; without force it is none.
    let id = up
        .events()
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
        up.hooked("testing.koji-build-group.build.complete", alias, body.to_string()).await;
        asking("it is matched", async || {
            let all = up.events().await;
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
    let recovered = up.events().await.iter().filter(|event| event["recovered"] == true).count();
    assert_eq!(recovered, 1, "the first was only late: {:?}", up.events().await);
    up.stop().await;
}

/// What was submitted for stable, and what came into a tag or left it, is dealt with once: whether the bus tells it, or a
/// look at Bodhi and at the history of Koji's tags finds it.
#[tokio::test]
async fn what_was_submitted_or_tagged_is_dealt_with_once_whoever_tells_it() {
    let place = Place::new();
    fs::write(place.join("secret"), "s3cret\n").unwrap();
    let (koji, bodhi) = (FakeKoji::start().await.unwrap(), FakeBodhi::start().await.unwrap());
    koji.tag("f44-updates", &[]);
    let sources = format!(
        "[source.bus]\ndriver = \"webhook\"\nsecret-file = \"secret\"\ntopic = \"org.fedoraproject.prod\"\n\
         topic-header = \"x-topic\"\n\
         [source.bodhi]\ndriver = \"bodhi\"\nurl = {:?}\nbacks = \"bus\"\nevery = 1\n\
         [source.koji]\ndriver = \"koji\"\nurl = {:?}\nbacks = \"bus\"\nevery = 1\ntags = [\"f44-updates\"]\n",
        bodhi.url(),
        koji.hub()
    );
    let rules = "
rules:
  - name: stable
    when: {topic: org.fedoraproject.prod.bodhi.update.request.stable}
    run: {job: {TEST: stable, NVR: 'stable {item.id}', WORKER_CLASS: nobody}}
  - name: tagged
    when: {topic: org.fedoraproject.prod.buildsys.tag}
    run: {job: {TEST: tagged, NVR: 'tag {body.name}', WORKER_CLASS: nobody}}
  - name: untagged
    when: {topic: org.fedoraproject.prod.buildsys.untag}
    run: {job: {TEST: tagged, NVR: 'untag {body.name}', WORKER_CLASS: nobody}}
";
    let config = configure(&place, &sources, rules);
    let up = Up::start_as(&place, "server", &["--config", &config]).await;
    let submit = |alias: &str, nvr: &str| {
        bodhi.update(alias, "F44", &[nvr]);
        bodhi.change(alias, "request", json!("stable"));
    };
    // The bus tells two things before they can be found.
    let told = koji.build("told-1-1", 0, &[]);
    let update =
        json!({"agent": "alice", "update": {"alias": "FEDORA-2026-1", "builds": [{"nvr": "told-1-1"}]}});
    up.hooked("bodhi.update.request.stable", "1", update.to_string()).await;
    let tagged =
        json!({"tag": "f44-updates", "build_id": told, "name": "told", "version": "1", "release": "1"});
    up.hooked("buildsys.tag", "2", tagged.to_string()).await;
    until("both are dealt with", async || jobs(&up).await.len() == 2).await;
    submit("FEDORA-2026-1", "told-1-1");
    koji.put("f44-updates", "told-1-1");
    // The bus loses others; of one it tells late.
    submit("FEDORA-2026-2", "lost-1-1");
    let lost = koji.build("lost-1-1", 0, &[]);
    koji.put("f44-updates", "lost-1-1");
    koji.take("f44-updates", "lost-1-1");
    until("what was lost is found", async || jobs(&up).await.len() == 5).await;
    let late = json!({"agent": "bob", "update": {"alias": "FEDORA-2026-2", "builds": [{"nvr": "lost-1-1"}]}});
    up.hooked("bodhi.update.request.stable", "3", late.to_string()).await;
    let late =
        json!({"tag": "f44-updates", "build_id": lost, "name": "lost", "version": "1", "release": "1"});
    up.hooked("buildsys.tag", "late", late.to_string()).await;
    // What is found last ends the looks that could have found something twice.
    submit("FEDORA-2026-3", "last-1-1");
    koji.build("last-1-1", 0, &[]);
    koji.put("f44-updates", "last-1-1");
    until("the last is found", async || jobs(&up).await.len() == 7).await;
    let found = jobs(&up).await;
    let wanted = [
        "stable FEDORA-2026-1",
        "stable FEDORA-2026-2",
        "stable FEDORA-2026-3",
        "tag last",
        "tag lost",
        "tag told",
        "untag lost",
    ];
    assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), wanted);
    assert!(found.values().all(|ids| ids.len() == 1), "{found:?}");

    // Another one comes and leaves, as the bus tells; that it is back two minutes later is lost.
    let soon = json!({"tag": "f44-updates", "build_id": koji.build("soon-1-1", 0, &[]), "name": "soon", "version": "1", "release": "1"});
    up.hooked("buildsys.tag", "5", soon.to_string()).await;
    up.hooked("buildsys.untag", "6", soon.to_string()).await;
    until("it was there", async || jobs(&up).await.contains_key("untag soon")).await;
    koji.put("f44-updates", "soon-1-1");
    koji.take("f44-updates", "soon-1-1");
    koji.says_it_is(SystemClock.now().0 / 1_000_000 + 120);
    koji.put("f44-updates", "soon-1-1");
    until("it is there again", async || jobs(&up).await["tag soon"].len() == 2).await;

    // What the bus has told leaves the tag, which the bus tells too; that it comes back an hour later is lost.
    up.hooked("buildsys.untag", "4", tagged.to_string()).await;
    until("it has left", async || jobs(&up).await.contains_key("untag told")).await;
    koji.take("f44-updates", "told-1-1");
    let later = SystemClock.now().0 / 1_000_000 + 3_600;
    koji.says_it_is(later);
    koji.put("f44-updates", "told-1-1");
    until("it is back", async || jobs(&up).await["tag told"].len() == 2).await;
    // An update that is revoked and submitted again is news, too. A look that finds what was done before it has seen the rest.
    bodhi.says_it_is(later);
    submit("FEDORA-2026-4", "clock-1-1");
    until("it is later", async || jobs(&up).await.contains_key("stable FEDORA-2026-4")).await;
    bodhi.change("FEDORA-2026-1", "request", Value::Null);
    submit("FEDORA-2026-5", "revoked-1-1");
    until("it is revoked", async || jobs(&up).await.contains_key("stable FEDORA-2026-5")).await;
    bodhi.change("FEDORA-2026-1", "request", json!("stable"));
    let again = |event: &Value| event["key"].as_str().unwrap().starts_with("bodhi-stable/FEDORA-2026-1/");
    until("it is submitted again", async || up.events().await.iter().any(again)).await;
    let found = jobs(&up).await;
    let twice: Vec<_> =
        found.iter().filter(|(_, ids)| ids.len() != 1).map(|(name, _)| name.as_str()).collect();
    assert_eq!(twice, ["tag soon", "tag told"], "{found:?}");
    up.stop().await;
}
