//! Messages for a broker: openQA's topics and bodies, CI-messages', ResultsDB's, WaiverDB's and Greenwave's.

use super::{CommentFact, Fact, JobFact, plain_time, rfc3339, withheld};
use crate::outcome::Outcome;
use crate::rules::{BUILD_ISSUER, BUILD_SCRATCH, BUILD_TASK, nvr};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// Whose words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// `openqa.job.done`, `openqa.comment.create`, …
    OpenQa,
    /// `ci.ARTIFACT.test.{queued,running,complete,error}`, version 0.2.1.
    Ci,
    /// `resultsdb.result.new`
    ResultsDb,
    /// `taskotron.result.new`, only when the outcome is another one than before.
    Taskotron,
    /// `waiverdb.waiver.new`
    WaiverDb,
    /// `greenwave.decision.update`
    Greenwave,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::OpenQa, Self::Ci, Self::ResultsDb, Self::Taskotron, Self::WaiverDb, Self::Greenwave];

    /// The name in configurations.
    pub fn word(self) -> &'static str {
        match self {
            Self::OpenQa => "openqa",
            Self::Ci => "ci",
            Self::ResultsDb => "resultsdb",
            Self::Taskotron => "taskotron",
            Self::WaiverDb => "waiverdb",
            Self::Greenwave => "greenwave",
        }
    }

    /// The dialect of this name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.word() == word)
    }

    /// The kinds of facts that it has words for.
    pub fn events(self) -> &'static [&'static str] {
        match self {
            Self::OpenQa => &[
                "job.create",
                "job.done",
                "job.restart",
                "job.cancel",
                "comment.create",
                "comment.update",
                "comment.delete",
            ],
            Self::Ci => &["job.create", "job.start", "job.done"],
            Self::ResultsDb | Self::Taskotron => &["result.new"],
            Self::WaiverDb => &["waiver.new"],
            Self::Greenwave => &["decision.update"],
        }
    }
}

/// Who speaks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Speaker {
    /// Where this server is.
    pub url: String,
    /// Its name, for example `Fedora openQA`.
    pub name: String,
    /// The team that runs it.
    pub team: String,
    /// Where it is documented.
    pub docs: String,
    /// Whom to write to.
    pub email: String,
    /// Where people talk.
    pub irc: String,
}

/// What is known when a fact is told and was not when it was decided.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct More {
    /// Modules that failed.
    pub failed_modules: Vec<String>,
    /// The bug that somebody said it is, and its address.
    pub bug: Option<(String, String)>,
    /// The result as ResultsDB's API tells it.
    pub result: Option<Value>,
    /// The outcome of the result before it, of the same test case, item, type and architecture.
    pub outcome_before: Option<String>,
}

/// A message: its topic without the prefix, and its body.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The topic.
    pub topic: String,
    /// The body: an object.
    pub body: Value,
}

impl Message {
    fn new(topic: impl Into<String>, body: Value) -> Self {
        Self { topic: topic.into(), body }
    }
}

/// The messages that tell of a fact, in the order of the dialects.
pub fn messages(fact: &Fact, dialects: &[Dialect], speaker: &Speaker, more: &More) -> Vec<Message> {
    let one = |dialect: &Dialect| match dialect {
        Dialect::OpenQa => openqa(fact, more),
        // Whoever heard that it is queued hears of its end, whatever that is.
        Dialect::Ci if fact.job().is_some_and(|job| withheld(|key| job.get(key), None).is_some()) => None,
        Dialect::Ci => ci(fact, speaker),
        Dialect::ResultsDb => matches!(fact, Fact::ResultNew(_))
            .then(|| more.result.clone())
            .flatten()
            .map(|body| Message::new("resultsdb.result.new", body)),
        Dialect::Taskotron => taskotron(fact, more),
        Dialect::WaiverDb => waiverdb(fact),
        Dialect::Greenwave => greenwave(fact),
    };
    dialects.iter().filter_map(one).collect()
}

/// What openQA says of every job.
fn job_body(job: &JobFact) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("id".into(), job.id.into());
    for key in ["BUILD", "TEST", "ARCH", "MACHINE", "FLAVOR"] {
        body.insert(key.into(), job.get(key).map_or(Value::Null, Value::from));
    }
    for key in ["ISO", "HDD_1"] {
        if let Some(value) = job.get(key) {
            body.insert(key.into(), value.into());
        }
    }
    if let Some(group) = job.group {
        body.insert("group_id".into(), group.into());
    }
    body.insert("remaining".into(), job.remaining.into());
    body
}

fn openqa(fact: &Fact, more: &More) -> Option<Message> {
    let topic = format!("openqa.{}", fact.kind().word());
    match fact {
        Fact::JobCreate(job) => Some(Message::new(topic, job_body(job).into())),
        Fact::JobDone(job) => {
            let mut body = job_body(job);
            let (bugref, bugurl) = more.bug.clone().unzip();
            body.insert("result".into(), job.outcome?.openqa().into());
            body.insert("reason".into(), job.reason.clone().into());
            body.insert("newbuild".into(), Value::Null);
            body.insert("bugref".into(), bugref.into());
            body.insert("bugurl".into(), bugurl.into());
            body.insert("failedmodules".into(), more.failed_modules.clone().into());
            Some(Message::new(topic, body.into()))
        }
        Fact::JobRestart(job) => {
            let mut body = job_body(job);
            body.insert("auto".into(), i32::from(job.auto).into());
            body.insert("result".into(), json!({ job.id.to_string(): job.cloned_as? }));
            Some(Message::new(topic, body.into()))
        }
        Fact::JobCancel(job) => {
            let mut body = job_body(job);
            body.insert("reason".into(), job.reason.clone().into());
            Some(Message::new(topic, body.into()))
        }
        Fact::CommentCreate(comment) | Fact::CommentUpdate(comment) | Fact::CommentDelete(comment) => {
            Some(Message::new(topic, comment_body(comment)))
        }
        _ => None,
    }
}

fn comment_body(comment: &CommentFact) -> Value {
    json!({
        "id": comment.id,
        "job_id": comment.job,
        "group_id": comment.group,
        "parent_group_id": null,
        "text": comment.text,
        "user": comment.user,
        "created": plain_time(comment.created),
        "updated": plain_time(comment.updated),
    })
}

/// The builds of an update: `ADVISORY_NVRS_1`, `ADVISORY_NVRS_2`, … with blanks between them.
fn builds(job: &JobFact) -> Vec<&str> {
    let lists = job.settings.iter().filter(|(key, _)| key.starts_with("ADVISORY_NVRS"));
    let mut builds: Vec<&str> = lists.flat_map(|(_, list)| list.split_whitespace()).collect();
    builds.sort_unstable();
    builds.dedup();
    builds
}

/// SHA-256 of the builds of an update, sorted, one after the other.
pub fn update_id(builds: &[&str]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(builds.concat()) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The kind of artifact and what is said of it; `None` if CI-messages have no word for what the job tests.
fn artifact(job: &JobFact) -> Option<(&'static str, Value)> {
    match job.item_type.as_str() {
        "bodhi_update" => {
            let builds = builds(job);
            let list: Vec<Value> = builds.iter().map(|nvr| json!({ "nvr": nvr })).collect();
            let version = job.get("VERSION").unwrap_or_default();
            let name = if version.bytes().all(|byte| byte.is_ascii_digit()) {
                format!("F{version}")
            } else {
                version.to_owned()
            };
            Some((
                "fedora-update",
                json!({
                    "type": "fedora-update",
                    "alias": job.item,
                    "id": update_id(&builds),
                    "builds": list,
                    "release": {"version": version, "name": name},
                }),
            ))
        }
        "compose" => Some((
            "productmd-compose",
            json!({"type": "productmd-compose", "id": job.item, "compose_type": compose_type(&job.item)}),
        )),
        "koji_build" => Some(("koji-build", koji_build(job))),
        _ => None,
    }
}

/// A build is known by the number of the task that made it. A job that no message about the build has led to knows neither
/// that nor who ordered it, and says so.
fn koji_build(job: &JobFact) -> Value {
    let task = job.get(BUILD_TASK).and_then(|task| task.parse::<i64>().ok());
    let mut artifact = json!({
        "type": "koji-build",
        "id": task.map_or_else(|| Value::from(job.item.as_str()), Value::from),
        "nvr": job.item,
        "component": nvr(&job.item).0,
        "issuer": job.get(BUILD_ISSUER).unwrap_or("unknown"),
        "scratch": job.get(BUILD_SCRATCH) == Some("1"),
    });
    if let Some(baseline) = job.get("BASELINE") {
        artifact["baseline"] = baseline.into();
    }
    artifact
}

/// What a compose's number says: `.n.` nightly, `.t.` test, no letter production.
fn compose_type(id: &str) -> &'static str {
    let letter = id.rsplit('.').nth(1).unwrap_or_default();
    match letter {
        "n" => "nightly",
        "t" => "test",
        "d" => "development",
        "ci" => "ci",
        _ => "production",
    }
}

fn ci(fact: &Fact, speaker: &Speaker) -> Option<Message> {
    let job = fact.job()?;
    let (kind, mut artifact) = artifact(job)?;
    let (state, result) = match (fact, job.outcome) {
        (Fact::JobCreate(_), _) => ("queued", None),
        (Fact::JobStart(_), _) => ("running", None),
        (Fact::JobDone(_), Some(Outcome::Passed)) => ("complete", Some("passed")),
        (Fact::JobDone(_), Some(Outcome::Softfailed)) => ("complete", Some("info")),
        (Fact::JobDone(_), Some(Outcome::Failed)) => ("complete", Some("failed")),
        (Fact::JobDone(_), Some(_)) => ("error", None),
        _ => return None,
    };
    if kind == "productmd-compose"
        && let Some(image) = job.get("ISO").or_else(|| job.get("HDD_1"))
    {
        let form = if job.get("ISO").is_some() { "ISO" } else { "qcow2" };
        artifact["image"] = json!({"id": image, "name": image, "type": form});
    }
    let part = |key: &str| job.get(key).unwrap_or_default();
    let name = ["BUILD", "TEST", "MACHINE", "FLAVOR", "ARCH"].map(|key| part(key).to_owned()).join(".");
    let url = format!("{}/jobs/{}", speaker.url, job.id);
    let kind_of_test = ["TEST", "MACHINE", "FLAVOR", "ARCH"].map(part).join(" ");
    let mut test = json!({
        "category": "validation",
        "namespace": if kind == "fedora-update" { "update" } else if kind == "koji-build" { "build" } else { "compose" },
        "type": kind_of_test,
    });
    let mut body = json!({
        "contact": {
            "name": speaker.name, "team": speaker.team, "url": speaker.url, "docs": speaker.docs,
            "irc": speaker.irc, "email": speaker.email,
        },
        "run": {"id": job.id, "url": url, "log": format!("{}/tests/{}/file/autoinst-log.txt", speaker.url, job.id)},
        "artifact": artifact,
        "pipeline": {"id": format!("openqa.{name}"), "name": format!("openqa.{name}")},
        "generated_at": rfc3339(job.at),
        "version": "0.2.1",
    });
    if let Some(clone_of) = job.clone_of {
        body["run"]["clone_of"] = format!("{}/jobs/{clone_of}", speaker.url).into();
    }
    match state {
        "queued" => test["lifetime"] = 240.into(),
        "complete" => {
            test["result"] = result.into();
            body["system"] = json!([{
                "os": system(job), "provider": "openqa", "architecture": part("ARCH"),
            }]);
        }
        "error" => {
            let outcome = job.outcome.map_or("incomplete", Outcome::openqa);
            body["error"] = json!({"reason": job.reason.clone().unwrap_or_else(|| outcome.to_owned())});
        }
        _ => {}
    }
    body["test"] = test;
    Some(Message::new(format!("ci.{kind}.test.{state}"), body))
}

/// `fedora-40`: of the disk that it boots, else of what it tests.
fn system(job: &JobFact) -> String {
    let of_disk = job.get("HDD_1").and_then(|disk| {
        let rest = disk.strip_prefix("disk_f")?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        (!digits.is_empty()).then(|| format!("fedora-{digits}"))
    });
    let distri = job.get("DISTRI").unwrap_or("unknown");
    of_disk.unwrap_or_else(|| {
        let version = job.get("VERSION").unwrap_or_default().to_lowercase();
        if version.is_empty() { distri.to_owned() } else { format!("{distri}-{version}") }
    })
}

fn taskotron(fact: &Fact, more: &More) -> Option<Message> {
    let (Fact::ResultNew(result), Some(told)) = (fact, &more.result) else { return None };
    if more.outcome_before.as_ref() == Some(&result.outcome) {
        return None;
    }
    let submitted = told["submit_time"].as_str().unwrap_or_default();
    let submitted = submitted.split('.').next().unwrap_or_default().replace('T', " ");
    Some(Message::new(
        "taskotron.result.new",
        json!({
            "task": {"item": result.item, "type": result.item_type, "name": result.testcase},
            "result": {
                "id": result.id,
                "submit_time": format!("{submitted} UTC"),
                "prev_outcome": more.outcome_before,
                "outcome": result.outcome,
                "log_url": result.url,
            },
        }),
    ))
}

/// What a waiver is about, as WaiverDB wrote it before it had a type and an identifier.
pub fn waived(kind: &str, item: &str) -> Value {
    match kind {
        "compose" => json!({"productmd.compose.id": item}),
        _ => json!({"type": kind, "item": item}),
    }
}

fn waiverdb(fact: &Fact) -> Option<Message> {
    let Fact::WaiverNew(waiver) = fact else { return None };
    Some(Message::new(
        "waiverdb.waiver.new",
        json!({
            "id": waiver.id,
            "subject_type": waiver.subject_type,
            "subject_identifier": waiver.subject_identifier,
            "subject": waived(&waiver.subject_type, &waiver.subject_identifier),
            "testcase": waiver.testcase,
            "scenario": waiver.scenario,
            "username": waiver.username,
            "proxied_by": waiver.proxied_by,
            "product_version": waiver.product_version,
            "waived": waiver.waived,
            "comment": waiver.comment,
            "timestamp": rfc3339(waiver.at).trim_end_matches('Z'),
        }),
    ))
}

fn greenwave(fact: &Fact) -> Option<Message> {
    let Fact::DecisionUpdate(one) = fact else { return None };
    let mut body = one.decision.clone();
    let subject = match &one.subject {
        Value::Null => json!({"type": one.subject_type, "item": one.subject_identifier}),
        subject => subject.clone(),
    };
    let previous = match (&one.previous, &one.before) {
        (Value::Null, Some((satisfied, summary))) => {
            json!({"policies_satisfied": satisfied, "summary": summary})
        }
        (previous, _) => previous.clone(),
    };
    for (key, value) in [
        ("policies_satisfied", json!(one.satisfied)),
        ("summary", json!(one.summary)),
        ("subject_type", json!(one.subject_type)),
        ("subject_identifier", json!(one.subject_identifier)),
        ("subject", json!([subject])),
        ("decision_context", json!(one.context)),
        ("product_version", json!(one.product_version)),
        ("previous", previous),
    ] {
        body[key] = value;
    }
    Some(Message::new("greenwave.decision.update", body))
}

#[cfg(test)]
mod tests {
    use super::super::ResultFact;
    use super::*;

    fn job(item_type: &str, item: &str, settings: &[(&str, &str)]) -> JobFact {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        JobFact {
            id: 123,
            settings: settings.collect(),
            item_type: item_type.to_owned(),
            item: item.to_owned(),
            remaining: 2,
            at: 1_709_287_200_000_000,
            ..JobFact::default()
        }
    }

    fn kernel() -> JobFact {
        job(
            "bodhi_update",
            "FEDORA-2019-6bda4c81f4",
            &[
                ("BUILD", "Update-FEDORA-2019-6bda4c81f4"),
                ("TEST", "rainbow"),
                ("MACHINE", "64bit"),
                ("FLAVOR", "updates-kde"),
                ("ARCH", "x86_64"),
                ("VERSION", "42"),
                ("HDD_1", "disk_f40_kde_4_x86_64.qcow2"),
                ("ADVISORY_NVRS_1", "kernel-tools-5.2.7-100.fc29 kernel-5.2.7-100.fc29"),
                ("ADVISORY_NVRS_2", "kernel-headers-5.2.7-100.fc29"),
            ],
        )
    }

    fn speaker() -> Speaker {
        Speaker {
            url: "https://openqa.example".into(),
            name: "Fedora openQA".into(),
            team: "Fedora QA".into(),
            ..Speaker::default()
        }
    }

    fn told(fact: &Fact, dialect: Dialect) -> Option<Message> {
        messages(fact, &[dialect], &speaker(), &More::default()).pop()
    }

    #[test]
    fn a_decision_as_greenwave_tells_it() {
        let requirement = |what: &str| {
            json!({"type": what, "testcase": "compose.install", "subject_type": "compose",
                "subject_identifier": "Fedora-40-1", "item": {"productmd.compose.id": "Fedora-40-1"}, "result_id": 7})
        };
        let decision = |satisfied: bool, summary: &str, lists: [Vec<Value>; 2]| {
            let [good, bad] = lists;
            json!({"policies_satisfied": satisfied, "summary": summary, "applicable_policies": ["release"],
                "satisfied_requirements": good, "unsatisfied_requirements": bad})
        };
        let before = decision(
            false,
            "Of 1 required test, 1 test failed",
            [vec![], vec![requirement("test-result-failed")]],
        );
        let summary = "All required tests (1 total) have passed or been waived";
        let now = decision(true, summary, [vec![requirement("test-result-failed-waived")], vec![]]);
        let fact = super::super::DecisionFact {
            subject_type: "compose".into(),
            subject_identifier: "Fedora-40-1".into(),
            product_version: "fedora-40".into(),
            context: "release".into(),
            satisfied: true,
            summary: summary.into(),
            decision: now.clone(),
            before: Some((false, "Of 1 required test, 1 test failed".into())),
            previous: before.clone(),
            subject: json!({"productmd.compose.id": "Fedora-40-1"}),
            after: 3,
            at: 0,
        };
        let Message { topic, body } = told(&Fact::DecisionUpdate(fact.clone()), Dialect::Greenwave).unwrap();
        assert_eq!(topic, "greenwave.decision.update");
        let mut wanted = now;
        for (key, value) in [
            ("subject_type", json!("compose")),
            ("subject_identifier", json!("Fedora-40-1")),
            ("subject", json!([{"productmd.compose.id": "Fedora-40-1"}])),
            ("decision_context", json!("release")),
            ("product_version", json!("fedora-40")),
            ("previous", before),
        ] {
            wanted[key] = value;
        }
        assert_eq!(body, wanted);
        // What an older server has left in the outbox.
        let mut old = serde_json::to_value(Fact::DecisionUpdate(fact.clone())).unwrap();
        let map = old.as_object_mut().unwrap();
        for key in ["previous", "subject", "after"] {
            map.remove(key).unwrap();
        }
        let old: Fact = serde_json::from_value(old).unwrap();
        let body = told(&old, Dialect::Greenwave).unwrap().body;
        assert_eq!(body["subject"], json!([{"type": "compose", "item": "Fedora-40-1"}]));
        let summary = "Of 1 required test, 1 test failed";
        assert_eq!(body["previous"], json!({"policies_satisfied": false, "summary": summary}));
        // Nothing was decided before.
        let first = super::super::DecisionFact { before: None, previous: Value::Null, after: 0, ..fact };
        let body = told(&Fact::DecisionUpdate(first), Dialect::Greenwave).unwrap().body;
        assert!(body["previous"].is_null() && body.get("previous").is_some(), "{body}");
    }

    #[test]
    fn an_update_of_ci_messages() {
        let done = Fact::JobDone(JobFact { outcome: Some(Outcome::Passed), ..kernel() });
        let Message { topic, body } = told(&done, Dialect::Ci).unwrap();
        assert_eq!(topic, "ci.fedora-update.test.complete");
        assert_eq!(
            body["artifact"]["id"],
            "sha256:cf6f57a196a213606246070a99b94053160fee43c7987d071f422de30b2f2953"
        );
        assert_eq!(body["artifact"]["builds"][1]["nvr"], "kernel-headers-5.2.7-100.fc29");
        assert_eq!(body["artifact"]["release"], json!({"version": "42", "name": "F42"}));
        assert_eq!(
            body["pipeline"]["id"],
            "openqa.Update-FEDORA-2019-6bda4c81f4.rainbow.64bit.updates-kde.x86_64"
        );
        assert_eq!(
            body["test"],
            json!({"category": "validation", "namespace": "update", "type": "rainbow 64bit updates-kde x86_64", "result": "passed"})
        );
        assert_eq!(
            body["system"],
            json!([{"os": "fedora-40", "provider": "openqa", "architecture": "x86_64"}])
        );
        assert_eq!(
            (&body["generated_at"], &body["version"]),
            (&json!("2024-03-01T10:00:00Z"), &json!("0.2.1"))
        );
    }

    /// What CI-messages require of the body of a build's test, and what is known of the build.
    #[test]
    fn a_build_of_ci_messages() {
        let plain =
            [("BUILD", "bash-5.3-1.fc44"), ("TEST", "rpmlint"), ("ARCH", "x86_64"), ("VERSION", "44")];
        let known =
            [("ITEM_TASK_ID", "130000001"), ("ITEM_ISSUER", "alice"), ("BASELINE", "bash-5.2-1.fc44")];
        let of = |settings: &[(&str, &str)]| job("koji_build", "bash-5.3-1.fc44", settings);
        let job = of(&[&plain[..], &known[..]].concat());
        let artifact = json!({
            "type": "koji-build", "id": 130_000_001, "nvr": "bash-5.3-1.fc44", "component": "bash", "issuer": "alice",
            "scratch": false, "baseline": "bash-5.2-1.fc44",
        });
        let done = |outcome| JobFact { outcome: Some(outcome), ..job.clone() };
        for (fact, state) in [
            (Fact::JobCreate(job.clone()), "queued"),
            (Fact::JobStart(job.clone()), "running"),
            (Fact::JobDone(done(Outcome::Failed)), "complete"),
            (Fact::JobDone(done(Outcome::Incomplete)), "error"),
        ] {
            let Message { topic, body } = told(&fact, Dialect::Ci).unwrap();
            assert_eq!(topic, format!("ci.koji-build.test.{state}"));
            assert_eq!(body["artifact"], artifact, "{state}");
            for must in [
                "/contact/name",
                "/contact/team",
                "/contact/docs",
                "/contact/email",
                "/run/url",
                "/run/log",
                "/pipeline/id",
                "/pipeline/name",
                "/test/category",
                "/test/namespace",
                "/test/type",
                "/generated_at",
                "/version",
            ] {
                assert!(body.pointer(must).is_some_and(Value::is_string), "{state} has no {must}: {body}");
            }
            let only = |pointer: &str, of: &str| {
                let there = body.pointer(pointer).is_some_and(|value| !value.is_null());
                assert_eq!(there, state == of, "{state}: {pointer}");
            };
            only("/test/lifetime", "queued");
            only("/test/result", "complete");
            only("/system/0/os", "complete");
            only("/error/reason", "error");
        }
        let scratch = of(&[("ITEM_SCRATCH", "1"), ("ITEM_TASK_ID", "5 6")]);
        let body = told(&Fact::JobCreate(scratch), Dialect::Ci).unwrap().body;
        let unknown = json!({
            "type": "koji-build", "id": "bash-5.3-1.fc44", "nvr": "bash-5.3-1.fc44", "component": "bash",
            "issuer": "unknown", "scratch": true,
        });
        assert_eq!(body["artifact"], unknown, "a batch of several tasks is none of them");
    }

    /// Whatever becomes of a job, those who wait for its end hear of it in both dialects.
    #[test]
    fn every_end_is_told() {
        for outcome in Outcome::ALL {
            let done =
                Fact::JobDone(JobFact { outcome: Some(outcome), reason: Some("why".into()), ..kernel() });
            let openqa = told(&done, Dialect::OpenQa).unwrap();
            assert_eq!(
                (openqa.topic.as_str(), &openqa.body["result"]),
                ("openqa.job.done", &json!(outcome.openqa()))
            );
            assert_eq!((&openqa.body["remaining"], &openqa.body["newbuild"]), (&json!(2), &Value::Null));
            let mut hidden = kernel();
            hidden.settings.insert("BUILD".into(), "Update-FEDORA-1-NOREPORT".into());
            assert!(told(&Fact::JobDone(hidden), Dialect::Ci).is_none());
            let ci = told(&done, Dialect::Ci).unwrap();
            let result = &ci.body["test"]["result"];
            match outcome {
                Outcome::Passed => assert_eq!(result, "passed"),
                Outcome::Softfailed => assert_eq!(result, "info"),
                Outcome::Failed => assert_eq!(result, "failed"),
                _ => {
                    assert_eq!(ci.topic, "ci.fedora-update.test.error");
                    assert_eq!((&ci.body["error"]["reason"], result), (&json!("why"), &Value::Null));
                }
            }
        }
    }

    #[test]
    fn other_messages() {
        let queued = told(&Fact::JobCreate(kernel()), Dialect::Ci).unwrap();
        assert_eq!(
            (queued.topic.as_str(), &queued.body["test"]["lifetime"]),
            ("ci.fedora-update.test.queued", &json!(240))
        );
        assert_eq!(
            told(&Fact::JobStart(kernel()), Dialect::Ci).unwrap().topic,
            "ci.fedora-update.test.running"
        );
        assert_eq!(told(&Fact::JobStart(kernel()), Dialect::OpenQa), None, "openQA says nothing then");
        let restart = Fact::JobRestart(JobFact { cloned_as: Some(124), ..kernel() });
        assert_eq!(told(&restart, Dialect::OpenQa).unwrap().body["result"], json!({"123": 124}));
        let image = job("compose", "Fedora-Rawhide-20261121.n.0", &[("ISO", "Server.iso")]);
        let image = told(&Fact::JobCreate(image), Dialect::Ci).unwrap();
        assert_eq!(image.body["artifact"]["compose_type"], "nightly");
        assert_eq!(image.body["artifact"]["image"]["type"], "ISO");
        let change = job("change", "a/1,1", &[]);
        assert_eq!(told(&Fact::JobCreate(change), Dialect::Ci), None, "CI-messages have no word for it");

        let result = ResultFact {
            id: 5,
            testcase: "rpmlint".into(),
            outcome: "PASSED".into(),
            item_type: Some("koji_build".into()),
            item: Some("bash-5-1".into()),
            scenario: None,
            own: true,
            withheld: None,
            url: Some("http://log".into()),
        };
        let more = More {
            result: Some(json!({"id": 5, "submit_time": "2026-11-20T09:32:49.607041"})),
            outcome_before: Some("FAILED".into()),
            ..More::default()
        };
        let both = [Dialect::ResultsDb, Dialect::Taskotron];
        let fact = Fact::ResultNew(result);
        let found = messages(&fact, &both, &speaker(), &more);
        assert_eq!(
            (found[0].topic.as_str(), &found[0].body),
            ("resultsdb.result.new", more.result.as_ref().unwrap())
        );
        assert_eq!(found[1].body["result"]["submit_time"], "2026-11-20 09:32:49 UTC");
        let same = More { outcome_before: Some("PASSED".into()), ..more };
        assert_eq!(messages(&fact, &both, &speaker(), &same).len(), 1, "only when it is another outcome");
    }
}
