//! Koji: builds that are complete, and tags that they came into or left, whatever the bus said of them. XML-RPC with
//! Koji's own additions.

use super::json::{Hope, NoDocument};
use super::poll::{Polled, Poller, number_of};
use super::{Incoming, Received, apart, polled};
use crate::http::Http;
use assay_engine::ids::Timestamp;
use assay_proto::xmlrpc::{self, NoAnswer};
use async_trait::async_trait;
use hyper::Request;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const CURSOR: &str = "completed";
/// At the first look, and how much is asked for again at each.
const OVERLAP: i64 = 600;
const ROWS: u64 = 1_000;
/// The shortest time whose history is asked for; it is longer than the overlap, so that each answer gets on.
const LEAST: i64 = 2 * OVERLAP;
const LONGEST: usize = 32 << 20;
const PATIENCE: Duration = Duration::from_mins(1);
/// The fault of a hub that is not there for a while.
const OFFLINE: i64 = 1014;

/// Asks for builds that were completed, and for what became of tags.
#[derive(Debug)]
pub struct Koji {
    http: Http,
    url: String,
    prefix: String,
    tags: Vec<String>,
    /// Of how many seconds the history of a tag is asked for: half of it when there is no answer, which may be too long or
    /// take too long, and twice as much after each answer.
    span: AtomicI64,
}

impl Koji {
    /// Of an address such as `https://koji.fedoraproject.org/kojihub`; topics begin with `prefix`, as those of the bus.
    pub fn new(url: &str, prefix: &str) -> Result<Self, String> {
        let http = Http::new(url.starts_with("https://"), None, LONGEST)?;
        let span = AtomicI64::new(i64::MAX);
        Ok(Self { http, url: url.to_owned(), prefix: prefix.to_owned(), tags: Vec::new(), span })
    }

    /// A look also tells what became of these tags.
    #[must_use]
    pub fn with_tags(self, tags: &[String]) -> Self {
        Self { tags: tags.to_vec(), ..self }
    }

    /// The newest build of a package in a tag that is not `other`.
    pub async fn before(&self, tag: &str, package: &str, other: &str) -> Result<Option<String>, NoDocument> {
        // The newest may be the other one.
        let said = self.call("listTagged", &json!({"tag": tag, "package": package, "latest": 2})).await?;
        Ok(nvrs(&said).find(|nvr| *nvr != other).map(str::to_owned))
    }

    /// A build as the hub describes it; `None` if it knows none of this name.
    pub async fn build(&self, nvr: &str) -> Result<Option<Build>, NoDocument> {
        let build = self.call("getBuild", &json!({"buildInfo": nvr})).await?;
        let created = build["creation_ts"].as_f64().map(|seconds| Timestamp((seconds * 1e6) as i64));
        let source = build["source"].as_str().map(str::to_owned);
        Ok((!build.is_null()).then_some(Build { source, created }))
    }

    /// A task, and whether it is a build that has ended well.
    pub async fn task(&self, id: u64) -> Result<Task, NoDocument> {
        let task = self.call("getTaskInfo", &json!({"task_id": id, "strict": true})).await?;
        // What is answered for a number that there is no task of differs between versions.
        let (Some(method), Some(state)) = (task["method"].as_str(), task["state"].as_i64()) else {
            return Err(NoDocument::never(format!("Koji has no task {id}")));
        };
        Ok(Task { method: method.to_owned(), state })
    }

    /// The newest build of each package in a tag, without those that it inherits.
    pub async fn tagged(&self, tag: &str) -> Result<Vec<String>, NoDocument> {
        let said = self.call("listTagged", &json!({"tag": tag, "latest": true})).await?;
        Ok(nvrs(&said).map(str::to_owned).collect())
    }

    async fn call(&self, method: &str, named: &Value) -> Result<Value, NoDocument> {
        Ok(self.call_dated(method, named).await?.0)
    }

    /// What is answered, and what time it is there.
    async fn call_dated(
        &self,
        method: &str,
        named: &Value,
    ) -> Result<(Value, Option<Timestamp>), NoDocument> {
        let later = |why: String| NoDocument::later(why);
        let body = xmlrpc::call(method, &[with_names(named)]).into_bytes();
        let request = Request::post(&self.url).header("content-type", "text/xml").body(body);
        let request = request.map_err(|error| later(error.to_string()))?;
        let answer = tokio::time::timeout(PATIENCE, self.http.send(request)).await;
        let answer = answer
            .map_err(|_| later(format!("{} does not answer within {} s", self.url, PATIENCE.as_secs())))?;
        let answer = answer.map_err(|error| later(error.why))?;
        if !answer.status().is_success() {
            return Err(later(format!("{} answers {}", self.url, answer.status())));
        }
        let said =
            xmlrpc::read_answer(&String::from_utf8_lossy(answer.body())).map_err(|error| match error {
                NoAnswer::Fault { code, text } => {
                    // Another call may be taken; an outage is over some time.
                    let why = format!("Koji refuses: {text} ({code})");
                    if code == OFFLINE { NoDocument::later(why) } else { NoDocument::never(why) }
                }
                NoAnswer::Broken(why) => later(format!("{} answers no XML-RPC: {why}", self.url)),
            })?;
        Ok((said, crate::http::date(&answer)))
    }
}

/// A build of Koji's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The commit that it was made of, as an address: `git+https://src.fedoraproject.org/rpms/bash.git#1a2b3c`.
    pub source: Option<String>,
    /// When it was begun.
    pub created: Option<Timestamp>,
}

/// A task of Koji's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// `build`, for example.
    pub method: String,
    state: i64,
}

impl Task {
    /// Why nothing of it can be tested; none if it has ended well.
    pub fn trouble(&self) -> Option<&'static str> {
        match self.state {
            0 | 1 | 4 => Some("has not ended"),
            2 => None,
            3 => Some("was cancelled"),
            _ => Some("has failed"),
        }
    }
}

fn nvrs(builds: &Value) -> impl Iterator<Item = &str> {
    builds.as_array().into_iter().flatten().filter_map(|build| build["nvr"].as_str())
}

/// A call with named arguments, as Koji takes them: the last one, which says so of itself.
fn with_names(named: &Value) -> Value {
    let mut arguments = named.as_object().cloned().unwrap_or_default();
    arguments.insert("__starstar".to_owned(), Value::from(true));
    Value::Object(arguments)
}

/// The message that the bus would have carried for a build, so that the same rules fit.
pub fn message(build: &Value, prefix: &str) -> Option<Incoming> {
    let id = build["build_id"].as_i64().or_else(|| build["id"].as_i64())?;
    let name = build["name"].as_str().or_else(|| build["package_name"].as_str())?;
    let body = json!({
        "name": name, "version": build["version"].as_str()?, "release": build["release"].as_str()?,
        "epoch": build["epoch"], "build_id": id, "task_id": build["task_id"], "attribute": "state", "old": 0, "new": 1,
        "owner": build["owner_name"], "instance": "primary",
    });
    let topic = format!("{prefix}.buildsys.build.state.change");
    let key = format!("koji-build/{id}/1");
    Some(polled(&key, &topic, &body))
}

/// Something that became of a tag.
struct Happened {
    /// The number of its event, which orders them and tells one coming from the next.
    event: i64,
    at: Timestamp,
    build: i64,
    message: Incoming,
}

/// The messages that the bus would have carried for a line of the history of tags: that the build came into the tag and that
/// it left it.
fn tag_messages(line: &Value, prefix: &str) -> Vec<Happened> {
    let one = |done: &str, event: &str, at: &str, who: &str| {
        let event = line[event].as_i64()?;
        let at = Timestamp((line[at].as_f64()? * 1e6) as i64);
        let tag = line["tag.name"].as_str()?;
        let build = line["build_id"].as_i64()?;
        let body = json!({
            "build_id": build, "name": line["name"].as_str()?, "version": line["version"].as_str()?,
            "release": line["release"].as_str()?, "tag": tag, "tag_id": line["tag_id"], "user": line[who],
            "instance": "primary",
        });
        let topic = format!("{prefix}.buildsys.{done}");
        let found = polled(&format!("koji-{done}/{tag}/{build}/{event}"), &topic, &body);
        let message = Incoming { sent_at: Some(at), ..found };
        Some(Happened { event, at, build, message })
    };
    let came = one("tag", "create_event", "create_ts", "creator_name");
    let left = one("untag", "revoke_event", "revoke_ts", "revoker_name");
    came.into_iter().chain(left).collect()
}

/// What became of a tag, in order. Of the same that happened twice, what the bus said in the first half of the time between
/// was of the first.
fn in_order(mut found: Vec<Happened>) -> Vec<Happened> {
    found.sort_by_key(|one| one.event);
    let mut last: BTreeMap<(String, i64), Timestamp> = BTreeMap::new();
    for one in &mut found {
        let before = last.insert((one.message.topic.clone(), one.build), one.at);
        one.message.apart = before.map(|before| apart(before, one.at));
    }
    found
}

impl Koji {
    /// What became of a tag since then, in order, and until when that is: if it is too much for one answer, not until now.
    async fn tag_history(&self, tag: &str, since: i64, there: i64) -> Result<(Vec<Incoming>, i64), String> {
        loop {
            let span = self.span.load(Ordering::Relaxed);
            let until = Some(since.saturating_add(span)).filter(|until| *until < there);
            // What was told already is asked for as well, to tell from it what happened again.
            let mut named = json!({"tables": ["tag_listing"], "tag": tag, "after": since - OVERLAP});
            if let Some(until) = until {
                named["before"] = until.into();
            }
            let answer = match self.call("queryHistory", &named).await {
                Ok(answer) => answer,
                Err(error) => {
                    let half = span.min(there.saturating_sub(since)) / 2;
                    if error.hope != Hope::Mended || half < LEAST {
                        return Err(error.why);
                    }
                    self.span.store(half, Ordering::Relaxed);
                    continue;
                }
            };
            self.span.store(span.saturating_mul(2), Ordering::Relaxed);
            let lines = answer["tag_listing"]
                .as_array()
                .ok_or("queryHistory answers no tag_listing; is it a Koji?")?;
            let found = in_order(lines.iter().flat_map(|line| tag_messages(line, &self.prefix)).collect());
            // What is left of a line belongs to the next question, which has it again.
            let within = |one: &Happened| {
                let at = one.at.0.div_euclid(1_000_000);
                at >= since && until.is_none_or(|until| at < until)
            };
            let messages = found.into_iter().filter(within).map(|one| one.message).collect();
            return Ok((messages, until.unwrap_or(there)));
        }
    }

    /// Looks at each tag from where it was looked at last, so that one that cannot be asked for loses nothing and holds
    /// nobody up. Whether there is more, and why some could not be looked at.
    async fn look_at_tags(
        &self,
        cursors: &BTreeMap<String, String>,
        there: i64,
        received: &mut Received,
    ) -> (bool, Option<String>) {
        let (mut more, mut trouble) = (false, Vec::new());
        for tag in &self.tags {
            let cursor = format!("tag/{tag}");
            match self.tag_history(tag, since(cursors, &cursor, there), there).await {
                Ok((found, until)) => {
                    more |= until < there;
                    received.messages.extend(found);
                    received.cursors.push((cursor, Some(until.to_string())));
                }
                Err(why) => trouble.push(format!("tag {tag}: {why}")),
            }
        }
        (more, (!trouble.is_empty()).then(|| trouble.join("; ")))
    }
}

/// From when on is asked for: a while before the last look, as the clock there showed it.
fn since(cursors: &BTreeMap<String, String>, cursor: &str, there: i64) -> i64 {
    number_of(cursors, cursor).unwrap_or(there).min(there) - OVERLAP
}

#[async_trait]
impl Poller for Koji {
    async fn poll(&self, cursors: &BTreeMap<String, String>, now: Timestamp) -> Result<Polled, String> {
        // By the clock there, which also says when builds were completed: ours may be wrong.
        let (_, there) = self.call_dated("getAPIVersion", &json!({})).await.map_err(|error| error.why)?;
        let there = there.unwrap_or(now).0.div_euclid(1_000_000);
        let since = since(cursors, CURSOR, there);
        let mut received = Received::default();
        let mut offset = 0;
        loop {
            let options = json!({"order": "build_id", "limit": ROWS, "offset": offset});
            let named = json!({"state": 1, "completeAfter": since, "queryOpts": options});
            let answer = self.call("listBuilds", &named).await.map_err(|error| error.why)?;
            let builds = answer.as_array().ok_or("listBuilds answers no list; is it a Koji?")?;
            received.messages.extend(builds.iter().filter_map(|build| message(build, &self.prefix)));
            if (builds.len() as u64) < ROWS {
                break;
            }
            offset += ROWS;
        }
        received.cursors.push((CURSOR.to_owned(), Some(there.to_string())));
        let (more, trouble) = self.look_at_tags(cursors, there, &mut received).await;
        Ok(Polled { received, more, trouble })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGUN: i64 = 1_795_262_400;

    #[test]
    fn a_build_is_what_the_bus_would_have_said() {
        let build = json!({"build_id": 3_000_000_001_i64, "name": "a&b", "version": "1", "release": "2", "epoch": null});
        let found = message(&build, "org.x").unwrap();
        assert_eq!(
            (found.key.as_str(), found.topic.as_str()),
            ("koji-build/3000000001/1", "org.x.buildsys.build.state.change")
        );
        assert_eq!(message(&json!({"build_id": 1, "name": "x"}), "org.x"), None);
        assert_eq!(with_names(&json!({"a": 1})), json!({"a": 1, "__starstar": true}));
    }

    #[test]
    fn what_came_into_a_tag_and_left_it_is_told() {
        let line = json!({
            "tag.name": "f44", "tag_id": 3, "build_id": 7, "name": "bash", "version": "5", "release": "1",
            "create_event": 10, "create_ts": 100.5, "creator_name": "bodhi", "revoke_event": 12, "revoke_ts": 200.5,
            "revoker_name": "alice", "active": null,
        });
        let told = |line: &Value| -> Vec<String> {
            let found = tag_messages(line, "org.x").into_iter();
            found.map(|one| one.message.topic + " " + &one.message.key).collect()
        };
        let (came, left) =
            ("org.x.buildsys.tag koji-tag/f44/7/10", "org.x.buildsys.untag koji-untag/f44/7/12");
        assert_eq!(told(&line), [came, left]);
        assert_eq!(tag_messages(&line, "org.x")[0].message.sent_at, Some(Timestamp(100_500_000)));
        let mut here = line.clone();
        (here["revoke_event"], here["revoke_ts"]) = (Value::Null, Value::Null);
        assert_eq!(told(&here), [came]);
    }

    /// A hub with the tag `f44`, and what looks at it.
    async fn hub_and_koji(tags: &[&str]) -> (assay_fakes::koji::FakeKoji, Koji) {
        let hub = assay_fakes::koji::FakeKoji::start().await.unwrap();
        hub.tag("f44", &[]);
        hub.says_it_is(BEGUN);
        let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let koji = Koji::new(&hub.hub(), "org.x").unwrap().with_tags(&tags);
        (hub, koji)
    }

    #[tokio::test]
    async fn what_happens_again_is_told_apart_from_the_last_time() {
        let (hub, koji) = hub_and_koji(&["f44"]).await;
        for nvr in ["p-1-1", "q-1-1"] {
            hub.build(nvr, 0, &[]);
        }
        for (after, nvr, comes) in [
            (0, "p-1-1", true),
            (100, "p-1-1", false),
            (150, "q-1-1", true),
            (200, "p-1-1", true),
            (230, "p-1-1", false),
            (240, "p-1-1", true),
        ] {
            hub.says_it_is(BEGUN + after);
            if comes { hub.put("f44", nvr) } else { hub.take("f44", nvr) }
        }
        let at = |after: i64| Timestamp((BEGUN + after) * 1_000_000);
        let look = async |cursor: i64| -> Vec<_> {
            let cursors = BTreeMap::from([("tag/f44".to_owned(), cursor.to_string())]);
            let found = koji.poll(&cursors, Timestamp(0)).await.unwrap().received.messages;
            let of_tags = found.into_iter().filter(|one| one.sent_at.is_some());
            of_tags.map(|one| (one.topic, one.sent_at.unwrap(), one.apart)).collect()
        };
        let (came, left) = ("org.x.buildsys.tag".to_owned(), "org.x.buildsys.untag".to_owned());
        let all = [
            (came.clone(), at(0), None),
            (left.clone(), at(100), None),
            (came.clone(), at(150), None),
            (came.clone(), at(200), Some(at(100))),
            (left, at(230), Some(at(165))),
            (came, at(240), Some(at(210))),
        ];
        assert_eq!(look(BEGUN).await, all);
        // A look that begins in between knows as well what was before.
        hub.says_it_is(BEGUN + 900);
        assert_eq!(look(BEGUN + 200 + OVERLAP).await, all[3..]);
    }

    #[tokio::test]
    async fn each_tag_that_cannot_be_looked_at_is_said() {
        let (hub, koji) = hub_and_koji(&["f90", "f44", "f91"]).await;
        hub.build("p-1-1", 0, &[]);
        hub.put("f44", "p-1-1");
        let polled = koji.poll(&BTreeMap::new(), Timestamp(0)).await.unwrap();
        let trouble = polled.trouble.unwrap();
        let parts: Vec<&str> = trouble.split("; ").collect();
        assert!(parts[0].starts_with("tag f90: ") && parts[1].starts_with("tag f91: "), "{trouble}");
        let moved: Vec<&str> = polled.received.cursors.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(moved, [CURSOR, "tag/f44"]);
    }

    #[tokio::test]
    async fn a_history_that_is_too_long_is_read_in_pieces() {
        let (hub, koji) = hub_and_koji(&["f44"]).await;
        for number in 1..=64 {
            let nvr = format!("p{number}-1-1");
            hub.says_it_is(BEGUN + number * 600);
            hub.build(&nvr, 0, &[]);
            hub.put("f44", &nvr);
        }
        let koji = Koji { http: Http::new(false, None, 16_384).unwrap(), ..koji };
        let mut cursors = BTreeMap::from([("tag/f44".to_owned(), BEGUN.to_string())]);
        let (mut found, mut looks) = (Vec::new(), 0);
        loop {
            let polled = koji.poll(&cursors, Timestamp(0)).await.unwrap();
            assert_eq!(polled.trouble, None);
            found.extend(polled.received.messages.into_iter().map(|one| (one.sent_at, one.key)));
            cursors
                .extend(polled.received.cursors.into_iter().filter_map(|(name, value)| Some((name, value?))));
            looks += 1;
            if !polled.more {
                break;
            }
        }
        // The overlap has some of them twice.
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 64);
        assert!((4..64).contains(&looks), "{looks} looks");
        assert_eq!(cursors["tag/f44"], (BEGUN + 64 * 600).to_string());
    }
}
