//! What others are told: fedora-messaging itself consumes from a RabbitMQ of our own, mails go to Exim over TLS, lines to
//! ngIRCd, results and hooks to a second server.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use assay_tests::{Broker, PATIENCE, Place, Signal, Started, Up, asking, free_port, repository};
use camino::Utf8PathBuf;
use fs_err as fs;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What fedora-messaging's consumer has heard: by topic and id, and how often.
struct Consumer {
    process: Started,
}

impl Consumer {
    async fn start(place: &Place, url: &str) -> Self {
        let config = place.join("consumer.toml");
        fs::write(&config, format!("amqp_url = {url:?}\n")).unwrap();
        let mut command = place.command(&place.python().await);
        command.arg(repository().join("tests/consume.py")).args(["listener", "org.t.#"]);
        command.env("FEDORA_MESSAGING_CONF", config);
        let mut process = place.start_command(command);
        assert_eq!(process.line().await.as_deref(), Some("\"ready\""));
        Self { process }
    }

    /// Hears until `enough` says so.
    async fn until(&mut self, heard: &mut Vec<Value>, enough: impl Fn(&[Value]) -> bool) {
        let hearing = async {
            while !enough(heard) {
                let line = self.process.line().await.expect("the consumer goes on");
                heard.push(serde_json::from_str(&line).unwrap());
            }
        };
        let heard_all = tokio::time::timeout(PATIENCE, hearing).await.is_ok();
        assert!(heard_all, "in vain; heard so far: {heard:#?}");
    }
}

fn of<'v>(heard: &'v [Value], topic: &str) -> BTreeMap<&'v str, &'v Value> {
    let fits = heard.iter().filter(|one| one[0] == format!("org.t.{topic}"));
    fits.map(|one| (one[1].as_str().unwrap(), &one[2])).collect()
}

/// The very same message came again, if at all, under the same id. The server's own port is another one by then.
fn repetitions_are_alike(heard: &[Value]) {
    let without_ports = |text: String| -> String {
        let mut parts = text.split("http://127.0.0.1:");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| text + part.trim_start_matches(|c: char| c.is_ascii_digit()))
    };
    let mut bodies: BTreeMap<(String, String), String> = BTreeMap::new();
    for one in heard {
        let (key, body) = ((one[0].to_string(), one[1].to_string()), without_ports(one[2].to_string()));
        assert_eq!(*bodies.entry(key).or_insert_with(|| body.clone()), body);
    }
}

/// Every end of a job is on the bus, in openQA's words and in CI-messages', whatever is killed meanwhile; a repetition has
/// the same id.
#[tokio::test]
async fn the_bus_hears_of_every_end() {
    /// Ends besides those that workers and people make below.
    const OTHERS: [&str; 6] = [
        "timeout_exceeded",
        "skipped",
        "obsoleted",
        "parallel_failed",
        "parallel_restarted",
        "user_restarted",
    ];
    let place = Place::new();
    let broker = Broker::start(&place).await;
    let mut consumer = Consumer::start(&place, &broker.url).await;
    let config = place.join("assay.toml");
    let reporter = format!(
        "[reports]\nname = \"Assay of tests\"\nteam = \"qa\"\n\
         [reporter.bus]\ndriver = \"amqp\"\nurl = {:?}\ntopic-prefix = \"org.t\"\n\
         says = [\"openqa\", \"ci\", \"resultsdb\", \"taskotron\", \"waiverdb\"]\n",
        broker.url
    );
    fs::write(&config, reporter).unwrap();
    let arguments = ["--config", config.as_str()];
    let mut up = Up::start(&place, &arguments).await;
    up.until_online().await;
    let build = "Fedora-Rawhide-20261121.n.0";
    let settings = |test: &'static str, more: (&'static str, &'static str)| {
        [
            ("TEST", test),
            ("BUILD", build),
            ("DISTRI", "fedora"),
            ("VERSION", "Rawhide"),
            ("FLAVOR", "Server-dvd-iso"),
            ("ARCH", "x86_64"),
            ("MACHINE", "uefi"),
            ("BACKEND", "dummy"),
            ("ISO", "Server.iso"),
            more,
        ]
    };
    let mut ends: BTreeMap<i64, &str> = BTreeMap::new();
    for outcome in ["passed", "softfailed", "failed", "incomplete"] {
        let id = up.post(&settings(outcome, ("DUMMY_RESULT", outcome))).await;
        ends.insert(id, outcome);
    }
    let waits = up.post(&settings("waits", ("WORKER_CLASS", "nobody"))).await;
    for id in ends.keys() {
        up.until(*id, "it ends", assay_proto::api::Job::is_final).await;
    }
    for outcome in OTHERS {
        let id = up.post(&settings(outcome, ("WORKER_CLASS", "nobody"))).await;
        let path = format!("/api/v1/jobs/{id}/set_done?result={outcome}");
        let answer = up.request(Method::POST, &path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{outcome}");
        ends.insert(id, outcome);
    }
    broker.kill().await;
    let cancelled = up.post(&settings("cancelled", ("WORKER_CLASS", "nobody"))).await;
    place.run(&["job", "cancel", &cancelled.to_string()]).await.expect(0);
    ends.insert(cancelled, "user_cancelled");
    asking("the trouble is seen", async || {
        up.get("outbox").await["targets"][0]["trouble"].is_string().then_some(())
    })
    .await;
    let waiver = json!({"subject_type": "compose", "subject_identifier": build, "testcase": "compose.failed",
        "product_version": "rawhide", "comment": "known"});
    let answer = up.request(Method::POST, "/api/v1.0/waivers/").json(&waiver).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    up.end_by(Signal::KILL).await;
    broker.again().await;
    up = Up::start(&place, &arguments).await;
    place.run(&["job", "cancel", &waits.to_string()]).await.expect(0);
    ends.insert(waits, "user_cancelled");
    up.told("bus").await;

    let mut heard = Vec::new();
    let all = ends.len();
    consumer
        .until(&mut heard, |heard| {
            of(heard, "openqa.job.done").len() == all
                && of(heard, "ci.productmd-compose.test.complete").len() == 3
                && of(heard, "ci.productmd-compose.test.error").len() == 3 + OTHERS.len()
                && of(heard, "waiverdb.waiver.new").len() == 1
                && of(heard, "resultsdb.result.new").len() >= 3 * 4 + 2 + 2
        })
        .await;
    let mut left: BTreeSet<i64> = BTreeSet::new();
    for body in of(&heard, "openqa.job.done").values() {
        let id = body["id"].as_i64().unwrap();
        assert_eq!(body["result"], ends[&id], "{body}");
        assert_eq!(
            (&body["BUILD"], &body["TEST"].is_string(), &body["ISO"]),
            (&json!(build), &true, &json!("Server.iso"))
        );
        assert!(body["newbuild"].is_null() && body["failedmodules"].is_array());
        left.insert(body["remaining"].as_i64().unwrap());
    }
    assert!(left.contains(&0), "the last one says that the build is complete: {left:?}");
    assert_eq!(of(&heard, "openqa.job.create").len(), all);
    assert_eq!(of(&heard, "openqa.job.cancel").len(), 2);
    for (_, body) in of(&heard, "ci.productmd-compose.test.complete") {
        assert_eq!((&body["artifact"]["id"], &body["version"]), (&json!(build), &json!("0.2.1")));
        assert_eq!(body["system"][0]["architecture"], "x86_64");
    }
    let waived = of(&heard, "waiverdb.waiver.new");
    let waived = waived.values().next().unwrap();
    assert_eq!(
        (&waived["id"], &waived["testcase"], &waived["waived"]),
        (&json!(1), &json!("compose.failed"), &json!(true))
    );
    let queued =
        of(&heard, "resultsdb.result.new").into_values().filter(|one| one["outcome"] == "QUEUED").count();
    assert_eq!(queued, all);
    let first = &heard[0];
    assert_eq!(first[3]["fedora_messaging_schema"], "base.message");
    assert!(first[3]["sent-at"].as_str().unwrap().ends_with("+00:00"));
    repetitions_are_alike(&heard);
    broker.stop().await;
    // The place ends what else runs in it.
    assert_eq!(up.end_by(Signal::TERM).await, Some(0));
}

/// What every body of a topic has.
const BODIES: [(&str, &[&str]); 18] = [
    ("openqa.job.create", &["id", "BUILD", "TEST", "ARCH", "MACHINE", "FLAVOR", "remaining"]),
    ("openqa.job.restart", &["id", "BUILD", "auto", "result"]),
    ("openqa.job.cancel", &["id", "BUILD", "remaining", "reason"]),
    (
        "openqa.job.done",
        &["id", "BUILD", "result", "reason", "newbuild", "bugref", "bugurl", "failedmodules", "remaining"],
    ),
    ("openqa.comment.create", COMMENT),
    ("openqa.comment.update", COMMENT),
    ("openqa.comment.delete", COMMENT),
    ("ci.fedora-update.test.queued", CI_QUEUED),
    ("ci.fedora-update.test.running", CI),
    ("ci.fedora-update.test.complete", CI_COMPLETE),
    ("ci.fedora-update.test.error", CI_ERROR),
    ("ci.koji-build.test.queued", CI_QUEUED),
    ("ci.koji-build.test.running", CI),
    ("ci.koji-build.test.error", CI_ERROR),
    (
        "resultsdb.result.new",
        &["id", "href", "testcase/name", "outcome", "data/item/0", "data/type/0", "groups", "submit_time"],
    ),
    (
        "taskotron.result.new",
        &["task/item", "task/type", "task/name", "result/id", "result/outcome", "result/prev_outcome"],
    ),
    (
        "waiverdb.waiver.new",
        &["id", "subject_type", "subject_identifier", "testcase", "username", "product_version", "timestamp"],
    ),
    (
        "greenwave.decision.update",
        &[
            "policies_satisfied",
            "summary",
            "subject_type",
            "subject_identifier",
            "subject/0/productmd.compose.id",
            "decision_context",
            "product_version",
            "applicable_policies",
            "satisfied_requirements",
            "unsatisfied_requirements",
            "previous",
        ],
    ),
];
const COMMENT: &[&str] = &["id", "job_id", "group_id", "text", "user", "created", "updated"];
const CI: &[&str] = &[
    "contact/name",
    "contact/team",
    "run/id",
    "run/url",
    "run/log",
    "artifact/type",
    "artifact/id",
    "pipeline/id",
    "pipeline/name",
    "test/category",
    "test/namespace",
    "test/type",
    "generated_at",
    "version",
];
const CI_QUEUED: &[&str] = &["artifact/id", "pipeline/id", "run/url", "test/type", "test/lifetime"];
const CI_COMPLETE: &[&str] = &[
    "artifact/id",
    "pipeline/id",
    "run/url",
    "test/result",
    "system/0/os",
    "system/0/provider",
    "system/0/architecture",
];
const CI_ERROR: &[&str] = &["artifact/id", "pipeline/id", "run/url", "error/reason"];

/// A compose whose release wants one test.
const COMPOSE: &str = "Fedora-40-20261121.0";
const ONE_TEST: &str = "\
--- !Policy
id: release
product_versions: [fedora-*]
decision_context: compose_release
subject_type: compose
rules:
  - !PassingTestCaseRule {test_case_name: compose.install}
";

/// Each service's messages come to fedora-messaging's consumer from RabbitMQ with their topics and all that is in them.
#[tokio::test]
async fn the_bus_speaks_like_each_service() {
    let place = Place::new();
    let broker = Broker::start(&place).await;
    let mut consumer = Consumer::start(&place, &broker.url).await;
    fs::write(place.join("policy.yaml"), ONE_TEST).unwrap();
    let config = place.join("assay.toml");
    let reporter = format!(
        "[reports]\nname = \"Assay of tests\"\nteam = \"qa\"\n[results]\npolicies = \"policy.yaml\"\n\
         [reporter.bus]\ndriver = \"amqp\"\nurl = {:?}\ntopic-prefix = \"org.t\"\n\
         says = [\"openqa\", \"ci\", \"resultsdb\", \"taskotron\", \"waiverdb\", \"greenwave\"]\n",
        broker.url
    );
    fs::write(&config, reporter).unwrap();
    let mut up = Up::start(&place, &["--config", config.as_str()]).await;
    up.until_online().await;
    let mut heard = Vec::new();
    let old = jobs_of_an_update_and_a_build(&place, &up).await;
    comments_on(&up, old).await;
    decisions_about_a_compose(&up, &mut consumer, &mut heard).await;
    let all = |heard: &[Value]| {
        let of_tests = |one: &&&Value| one["task"]["name"] == "compose.install";
        let results = |one: &&&Value| one["testcase"]["name"] == "compose.install";
        BODIES.iter().all(|(topic, _)| !of(heard, topic).is_empty())
            && of(heard, "taskotron.result.new").values().filter(of_tests).count() == 2
            && of(heard, "resultsdb.result.new").values().filter(results).count() == 3
    };
    consumer.until(&mut heard, all).await;
    for (topic, parts) in BODIES {
        for body in of(&heard, topic).values() {
            let lacks = parts.iter().find(|part| body.pointer(&format!("/{part}")).is_none());
            assert_eq!(lacks, None, "{topic}: {body}");
        }
    }
    let strange = heard.iter().find(|one| BODIES.iter().all(|(topic, _)| one[0] != format!("org.t.{topic}")));
    assert_eq!(strange, None);
    updates_and_builds_are_told(&heard, old);
    results_and_decisions_are_told(&heard);
    repetitions_are_alike(&heard);
    broker.stop().await;
    // The place ends what else runs in it.
    assert_eq!(up.end_by(Signal::TERM).await, Some(0));
}

/// Jobs of an update, one of them started anew and one cancelled, and one of a build that ends without a verdict. The one
/// that was started anew.
async fn jobs_of_an_update_and_a_build(place: &Place, up: &Up<'_>) -> i64 {
    let of_update = [
        ("TEST", "base"),
        ("BUILD", "Update-FEDORA-2026-1"),
        ("ADVISORY", "FEDORA-2026-1"),
        ("ADVISORY_NVRS_1", "b-1-1 a-1-1"),
        ("VERSION", "40"),
        ("FLAVOR", "updates-server"),
        ("ARCH", "x86_64"),
        ("BACKEND", "dummy"),
    ];
    let of_build = [
        ("TEST", "rpmlint"),
        ("ITEM", "bash-5.3-1.fc44"),
        ("ITEM_TYPE", "koji_build"),
        ("ITEM_TASK_ID", "130000001"),
        ("ITEM_ISSUER", "alice"),
        ("BACKEND", "dummy"),
        ("DUMMY_RESULT", "incomplete"),
    ];
    let first = up.post(&of_update).await;
    for job in [first, up.post(&of_build).await] {
        up.until(job, "it ends", assay_proto::api::Job::is_final).await;
    }
    place.run(&["job", "restart", &first.to_string()]).await.expect(0);
    let cancelled = up.post(&[&of_update[..], &[("WORKER_CLASS", "nobody")]].concat()).await;
    place.run(&["job", "cancel", &cancelled.to_string()]).await.expect(0);
    first
}

/// A comment on a job is made, changed, and taken away.
async fn comments_on(up: &Up<'_>, job: i64) {
    let said = async |method: Method, path: &str| -> Value {
        let path = format!("/api/v1/jobs/{job}/comments{path}");
        let answer = up.request(method, &path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.json().await.unwrap()
    };
    let comment = said(Method::POST, "?text=flaky").await["id"].clone();
    said(Method::PUT, &format!("/{comment}?text=broken")).await;
    said(Method::DELETE, &format!("/{comment}")).await;
}

/// What a release wants fails, is waived, and passes twice. Each decision is heard before there is reason for the next.
async fn decisions_about_a_compose(up: &Up<'_>, consumer: &mut Consumer, heard: &mut Vec<Value>) {
    let post = async |path: &str, body: &Value| {
        let answer = up.request(Method::POST, path).json(body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED, "{body}");
    };
    let result = |outcome: &str| json!({"outcome": outcome, "testcase": "compose.install", "data": {"item": COMPOSE, "type": "compose"}});
    post("/api/v2.0/results", &result("FAILED")).await;
    consumer.until(heard, |heard| of(heard, "greenwave.decision.update").len() == 1).await;
    let waiver = json!({"subject_type": "compose", "subject_identifier": COMPOSE, "testcase": "compose.install",
        "product_version": "fedora-40", "comment": "known"});
    post("/api/v1.0/waivers/", &waiver).await;
    consumer.until(heard, |heard| of(heard, "greenwave.decision.update").len() == 2).await;
    post("/api/v2.0/results", &result("PASSED")).await;
    let mut again = result("PASSED");
    again["note"] = json!("again");
    post("/api/v2.0/results", &again).await;
}

fn updates_and_builds_are_told(heard: &[Value], old: i64) {
    let only = |topic: &str| of(heard, topic).into_values().next().unwrap().clone();
    let restart = only("openqa.job.restart");
    let new = restart["result"][old.to_string()].as_i64().unwrap();
    assert_eq!((&restart["id"], &restart["result"]), (&json!(old), &json!({ old.to_string(): new })));
    let created = of(heard, "openqa.job.create");
    assert!(
        new != old && created.values().any(|one| one["id"] == new && one["TEST"] == "base"),
        "{created:?}"
    );
    for (topic, text) in [("create", "flaky"), ("update", "broken"), ("delete", "broken")] {
        let comment = only(&format!("openqa.comment.{topic}"));
        assert_eq!((&comment["job_id"], &comment["text"]), (&json!(old), &json!(text)), "{topic}");
    }
    let update = only("ci.fedora-update.test.complete");
    // Of the builds in their order, one after the other: sha256("a-1-1b-1-1").
    let builds = "sha256:097b84edfbf62f22ce2b7b7b6de2aa47814117eab85acbd64e6f03202796627d";
    let artifact = json!({"type": "fedora-update", "alias": "FEDORA-2026-1", "id": builds,
        "builds": [{"nvr": "a-1-1"}, {"nvr": "b-1-1"}], "release": {"version": "40", "name": "F40"}});
    assert_eq!((&update["artifact"], &update["test"]["result"]), (&artifact, &json!("passed")));
    assert_eq!(update["contact"]["name"], "Assay of tests");
    for topic in ["queued", "running", "error"] {
        let build = only(&format!("ci.koji-build.test.{topic}"));
        let artifact = json!({"type": "koji-build", "id": 130_000_001, "nvr": "bash-5.3-1.fc44", "component": "bash",
            "issuer": "alice", "scratch": false});
        assert_eq!(
            (&build["artifact"], &build["test"]["namespace"]),
            (&artifact, &json!("build")),
            "{topic}"
        );
    }
}

fn results_and_decisions_are_told(heard: &[Value]) {
    let about = |topic: &str, key: &str, value: &str| -> Vec<Value> {
        let all = of(heard, topic).into_values();
        all.filter(|body| body.pointer(key) == Some(&json!(value))).cloned().collect()
    };
    let told = about("resultsdb.result.new", "/testcase/name", "compose.install");
    assert_eq!(told.len(), 3, "{told:?}");
    let changes: BTreeSet<String> = about("taskotron.result.new", "/task/name", "compose.install")
        .iter()
        .map(|one| format!("{} after {}", one["result"]["outcome"], one["result"]["prev_outcome"]))
        .collect();
    let wanted = [r#""FAILED" after null"#, r#""PASSED" after "FAILED""#];
    assert!(changes.iter().eq(wanted), "{changes:?}");

    let decisions = about("greenwave.decision.update", "/subject_identifier", COMPOSE);
    let first = decisions.iter().find(|one| one["previous"].is_null()).unwrap();
    assert_eq!(first["policies_satisfied"], false);
    assert_eq!(first["unsatisfied_requirements"][0]["type"], "test-result-failed");
    let waived = decisions.iter().find(|one| one["previous"]["policies_satisfied"] == false).unwrap();
    assert_eq!(
        (&waived["policies_satisfied"], &waived["decision_context"], &waived["product_version"]),
        (&json!(true), &json!("compose_release"), &json!("fedora-40"))
    );
    assert_eq!(waived["satisfied_requirements"][0]["type"], "test-result-failed-waived");
    assert_eq!(waived["previous"]["unsatisfied_requirements"], first["unsatisfied_requirements"]);
}

/// A broker that gives back what nobody's queue takes: it is said, and told again when there is a queue.
#[tokio::test]
async fn what_a_broker_gives_back_is_told_again() {
    let place = Place::new();
    let broker = Broker::start(&place).await;
    let config = place.join("assay.toml");
    let reporter = format!(
        "[reporter.bus]\ndriver = \"amqp\"\nurl = {:?}\ntopic-prefix = \"org.t\"\nsays = [\"openqa\"]\nmandatory = true\n",
        broker.url
    );
    fs::write(&config, reporter).unwrap();
    let mut up = Up::start_as(&place, "server", &["--config", config.as_str()]).await;
    let job = up.post(&[("BACKEND", "dummy"), ("WORKER_CLASS", "nobody")]).await;
    asking("it is given back", async || {
        let trouble = up.get("outbox").await["targets"][0]["trouble"].clone();
        trouble.as_str().filter(|why| why.contains("NO_ROUTE") && why.contains("mandatory = false")).map(drop)
    })
    .await;
    let listed = place.run(&["outbox", "list"]).await.expect(0).stdout.clone();
    assert!(listed.contains("NO_ROUTE") && listed.contains("job.create"), "{listed}");
    let mut consumer = Consumer::start(&place, &broker.url).await;
    place.run(&["outbox", "retry", "--target", "bus"]).await.expect(0);
    let mut heard = Vec::new();
    consumer.until(&mut heard, |heard| heard.len() == 1).await;
    assert_eq!((&heard[0][0], &heard[0][2]["id"]), (&json!("org.t.openqa.job.create"), &json!(job)));
    up.told("bus").await;
    broker.stop().await;
    place.run(&["job", "cancel", &job.to_string()]).await.expect(0);
    asking("the next one waits", async || {
        (up.get("outbox").await["targets"][0]["waiting"] == 2).then_some(())
    })
    .await;
    let dropped = place.run(&["outbox", "drop", "--target", "bus", "--json"]).await.expect(0).json();
    assert_eq!(dropped["ids"].as_array().unwrap().len(), 2);
    place.run(&["outbox", "drop"]).await.expect(2);
    place.run(&["outbox", "show", "999"]).await.expect(4);
    // The place ends what else runs in it.
    assert_eq!(up.end_by(Signal::TERM).await, Some(0));
}

/// `fill` binds a queue that takes one message and no more, and fills it; `get` takes what is in it.
const FULL_QUEUE: &str = "
import json, pika, sys
connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
channel = connection.channel()
if sys.argv[2] == 'fill':
    channel.queue_declare('full', durable=True, arguments={'x-max-length': 1, 'x-overflow': 'reject-publish'})
    channel.queue_bind('full', 'amq.topic', 'org.t.#')
    channel.confirm_delivery()
    channel.basic_publish('', 'full', b'{}')
else:
    method, properties, body = channel.basic_get('full', auto_ack=True)
    print(json.dumps(method and [method.routing_key, properties.message_id, json.loads(body)]))
connection.close()
";

/// A broker that forbids it, and one whose queue is full: both are said, nothing is given up, and once it may be told it is
/// told, under the id that it had from the beginning.
#[tokio::test]
async fn a_broker_that_refuses_is_asked_again() {
    let place = Place::new();
    let broker = Broker::start(&place).await;
    let python = place.python().await;
    let queue = async |what: &str| {
        let mut command = place.command(&python);
        command.args(["-c", FULL_QUEUE, &broker.url, what]);
        place.run_command(command).await.expect(0).stdout.trim().to_owned()
    };
    queue("fill").await;
    let config = place.join("assay.toml");
    let reporter = format!(
        "[reporter.bus]\ndriver = \"amqp\"\nurl = {:?}\ntopic-prefix = \"org.t\"\nsays = [\"openqa\"]\n",
        broker.url
    );
    fs::write(&config, reporter).unwrap();
    let may_write = async |what: &str| broker.ctl(&["set_permissions", "guest", ".*", what, ".*"]).await;
    may_write("^$").await;
    let up = Up::start_as(&place, "server", &["--config", config.as_str()]).await;
    let job = up.post(&[("BACKEND", "dummy"), ("WORKER_CLASS", "nobody")]).await;
    let waits = async |part: &str| {
        asking(part, async || {
            let bus = up.get("outbox").await["targets"][0].clone();
            let said = bus["trouble"].as_str().is_some_and(|why| why.contains(part));
            (said && bus["waiting"] == 1 && bus["delivered"] == 0 && bus["refused"] == 0).then_some(())
        })
        .await;
    };
    waits("ACCESS_REFUSED").await;
    may_write(".*").await;
    place.run(&["outbox", "retry", "--target", "bus"]).await.expect(0);
    waits("the broker refuses it (nack)").await;
    let id = up.get("outbox").await["entries"][0]["id"].clone();
    let listed = place.run(&["outbox", "list"]).await.expect(0).stdout.clone();
    assert!(listed.contains("nack") && listed.contains("job.create"), "{listed}");

    // What filled the queue is taken away, and there is room for one.
    assert_eq!(queue("get").await, r#"["full", null, {}]"#);
    place.run(&["outbox", "retry", "--target", "bus"]).await.expect(0);
    up.told("bus").await;
    let entry = up.get(&format!("outbox/{id}")).await;
    assert_eq!(entry["state"], "delivered", "{entry}");
    let got: Value = serde_json::from_str(&queue("get").await).unwrap();
    assert_eq!((&got[0], &got[2]["id"]), (&json!("org.t.openqa.job.create"), &json!(job)));
    assert!(got[1].as_str().is_some_and(|id| !id.is_empty()), "{got}");
    assert_eq!(queue("get").await, "null", "once");
    broker.stop().await;
    up.stop().await;
}

/// An Exim of the place that takes mail only over TLS.
struct Exim {
    port: u16,
    dir: Utf8PathBuf,
    _process: Started,
}

impl Exim {
    async fn start(place: &Place) -> Self {
        let (dir, port) = (place.join("exim"), free_port());
        for part in ["spool", "mail", "log"] {
            fs::create_dir_all(dir.join(part)).unwrap();
        }
        let make = format!(
            "cd {dir} && openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca 2>/dev/null && \
             openssl req -newkey rsa:2048 -nodes -keyout key.pem -out csr -subj /CN=localhost 2>/dev/null && \
             printf 'subjectAltName=DNS:localhost\\nbasicConstraints=CA:FALSE\\n' >ext && \
             openssl x509 -req -in csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out cert.pem 2>/dev/null && \
             chmod 644 key.pem && if [ $(id -u) = 0 ]; then chown -R Debian-exim . && chmod 755 ..; fi"
        );
        let mut shell = place.command("sh");
        shell.args(["-c", &make]);
        place.run_command(shell).await.expect(0);
        let config = format!(
            "primary_hostname = localhost\nspool_directory = {dir}/spool\nlog_file_path = {dir}/log/%slog\npid_file_path = {dir}/pid\n\
             tls_advertise_hosts = *\ntls_certificate = {dir}/cert.pem\ntls_privatekey = {dir}/key.pem\n\
             acl_smtp_mail = encrypted\nacl_smtp_rcpt = known\nkeep_environment =\ndeliver_drop_privilege = true\nbegin acl\n\
             encrypted:\n  accept encrypted = *\n  deny message = encrypt it\n\
             known:\n  deny message = nobody here\n       local_parts = nobody\n  accept hosts = 127.0.0.1\n\
             begin routers\nall:\n  driver = accept\n  transport = file\n\
             begin transports\nfile:\n  driver = appendfile\n  directory = {dir}/mail\n  maildir_format\n"
        );
        let file = dir.join("exim.conf");
        fs::write(&file, config).unwrap();
        let mut command = place.command("/usr/sbin/exim4");
        command.args(["-C", file.as_str(), "-bdf", "-q5s", "-oX", &format!("127.0.0.1.{port}")]);
        let process = place.start_command(command);
        asking("Exim answers", async || TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop)).await;
        Self { port, dir, _process: process }
    }

    /// The mails that were delivered.
    fn mails(&self) -> Vec<String> {
        let Ok(found) = fs::read_dir(self.dir.join("mail/new")) else { return Vec::new() };
        found.flatten().map(|file| fs::read_to_string(file.path()).unwrap()).collect()
    }
}

/// An ngIRCd of the place, and somebody who listens in a channel.
struct Irc {
    port: u16,
    /// Encrypted.
    tls_port: u16,
    _process: Started,
}

impl Irc {
    /// With the mail server's certificate.
    async fn start(place: &Place, exim: &Exim) -> Self {
        let (port, tls_port) = (free_port(), free_port());
        let config = place.join("ngircd.conf");
        let text = format!(
            "[Global]\nName = irc.test\nInfo = test\nPorts = {port}\nListen = 127.0.0.1\nPassword = letmein\n\
             [Limits]\nMaxConnectionsIP = 0\n[Options]\nIdent = no\nPAM = no\nDNS = no\n\
             [SSL]\nCertFile = {dir}/cert.pem\nKeyFile = {dir}/key.pem\nPorts = {tls_port}\n",
            dir = exim.dir
        );
        fs::write(&config, text).unwrap();
        let mut command = place.command("/usr/sbin/ngircd");
        command.args(["-n", "-f", config.as_str()]);
        let process = place.start_command(command);
        for port in [port, tls_port] {
            asking("ngIRCd answers", async || TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop))
                .await;
        }
        Self { port, tls_port, _process: process }
    }

    /// Joins, and comes back with what is said.
    async fn listener(&self) -> JoinSet<String> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        socket.write_all(b"PASS letmein\r\nNICK ear\r\nUSER ear 0 * :ear\r\nJOIN #qa\r\n").await.unwrap();
        let mut lines = BufReader::new(socket).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(" 366 ") {
                break;
            }
        }
        let mut set = JoinSet::new();
        set.spawn(async move {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some((_, said)) = line.split_once("PRIVMSG #qa :") {
                    return said.to_owned();
                }
            }
            String::new()
        });
        set
    }
}

#[tokio::test]
async fn people_and_other_servers_hear_of_a_build() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let exim = Exim::start(&place).await;
    let irc = Irc::start(&place, &exim).await;
    let mut heard = irc.listener().await;
    fs::write(elsewhere.join("secret"), "s3cret\n").unwrap();
    let hook = elsewhere.join("assay.toml");
    fs::write(&hook, "[source.assay]\ndriver = \"webhook\"\nsecret-file = \"secret\"\nid-header = \"x-assay-delivery\"\ntopic = \"assay\"\ntopic-header = \"x-assay-event\"\n").unwrap();
    let other = Up::start_as(&elsewhere, "server", &["--config", hook.as_str()]).await;
    let token = fs::read_to_string(elsewhere.data().join("tokens/admin")).unwrap();
    for (name, text) in [("secret", "s3cret"), ("token", token.trim()), ("irc", "letmein")] {
        fs::write(place.join(name), format!("{text}\n")).unwrap();
    }
    let config = place.join("assay.toml");
    let text = format!(
        "[mail]\nserver = \"localhost\"\nport = {}\nfrom = \"Assay <assay@localhost>\"\nca-file = \"exim/ca.pem\"\n\
         [reporter.mail]\ndriver = \"mail\"\nto = [\"qa@localhost\"]\n\
         [reporter.irc]\ndriver = \"irc\"\nserver = \"localhost\"\nport = {}\nca-file = \"exim/ca.pem\"\nchannel = \"#qa\"\npassword-file = \"irc\"\n\
         [reporter.plain]\ndriver = \"irc\"\nserver = \"127.0.0.1\"\nport = {}\ntls = false\nchannel = \"#other\"\npassword-file = \"irc\"\n\
         [reporter.results]\ndriver = \"resultsdb\"\nurl = \"{url}/api/v2.0\"\ntoken-file = \"token\"\n\
         [reporter.hook]\ndriver = \"webhook\"\nurl = \"{url}/api/assay/v1/hooks/assay\"\nsecret-file = \"secret\"\nevents = [\"job.*\", \"build.*\"]\n",
        exim.port,
        irc.tls_port,
        irc.port,
        url = other.url
    );
    fs::write(&config, text).unwrap();
    let mut up = Up::start(&place, &["--config", config.as_str()]).await;
    up.until_online().await;
    let post = async |build: &'static str, test: &'static str, outcome: &'static str| {
        let settings = [
            ("TEST", test),
            ("BUILD", build),
            ("DISTRI", "d"),
            ("VERSION", "1"),
            ("FLAVOR", "Server-dvd-iso"),
            ("ARCH", "x86_64"),
            ("BACKEND", "dummy"),
            ("DUMMY_RESULT", outcome),
        ];
        let id = up.post(&settings).await;
        up.until(id, "it ends", assay_proto::api::Job::is_final).await;
        id
    };
    post("0001", "a", "passed").await;
    up.told("mail").await;
    let failed = post("0002", "a", "failed").await;
    for target in ["mail", "irc", "plain", "results", "hook"] {
        up.told(target).await;
    }
    asking("two mails", async || (exim.mails().len() == 2).then_some(())).await;
    let mails = exim.mails();
    let mail = mails.iter().find(|mail| mail.contains("Subject: 0002: 0/1 passed, 1 new failure")).unwrap();
    assert!(mail.contains("Message-ID: <assay.") && mail.contains(&format!("ID: {failed}")), "{mail}");
    let line = tokio::time::timeout(PATIENCE, heard.join_next()).await.unwrap().unwrap().unwrap();
    assert!(line.starts_with("0001: 1/1 passed http://"), "{line}");
    let results = other.anonymous(Method::GET, "/api/v2.0/results?limit=100").send().await.unwrap();
    let results: Value = results.json().await.unwrap();
    let results = results["data"].as_array().unwrap();
    // Those of modules come too.
    let of_jobs = results.iter().rev().filter(|one| one["data"]["module"].is_null());
    let outcomes: Vec<&str> = of_jobs.map(|one| one["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["QUEUED", "RUNNING", "PASSED", "QUEUED", "RUNNING", "FAILED"]);
    assert!(
        results[0]["groups"].as_array().unwrap().len() == 3
            && results[0]["data"]["scenario"][0] == "d.Server-dvd-iso.x86_64"
    );
    let events = other.get("inbox?limit=100").await["events"].as_array().unwrap().clone();
    let topics: Vec<&str> = events.iter().rev().map(|one| one["topic"].as_str().unwrap()).collect();
    let one = ["assay.job.create", "assay.job.start", "assay.job.done", "assay.build.done"];
    assert_eq!(topics, [one, one].concat());

    let report = place.run(&["report", "build", "0002"]).await;
    report.expect(1);
    assert!(report.stdout.contains("New failures (not failed in 0001): 1"), "{}", report.stdout);
    let json = place
        .run(&["report", "build", "0002", "--against", "0001", "--format", "json"])
        .await
        .expect(1)
        .json();
    assert_eq!((&json["against"], &json["new_failures"][0]["job"]), (&json!("0001"), &json!(failed)));
    let html = place.run(&["report", "build", "0001", "--format", "html"]).await.expect(0).stdout.clone();
    assert!(html.starts_with("<!doctype html>") && html.contains("1/1 passed"), "{html}");
    assert!(
        place
            .run(&["report", "build", "0003"])
            .await
            .expect(4)
            .stderr
            .contains("no jobs of the build \"0003\"")
    );
    other.stop().await;
    // The place ends what else runs in it.
    assert_eq!(up.end_by(Signal::TERM).await, Some(0));
}
