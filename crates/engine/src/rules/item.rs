//! What well-known messages are about.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// What is under test, in one of its states.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Item {
    /// For example `koji_build`.
    #[serde(rename = "type")]
    pub kind: String,
    /// For example `bash-5.2-1.fc40`.
    pub id: String,
    /// What tells one state of it from another; empty if it has only one.
    pub revision: String,
}

impl Item {
    /// Has settings say what is under test, where they do not yet.
    pub(crate) fn say_in(&self, settings: &mut BTreeMap<String, String>) {
        for (key, value) in [("ITEM_TYPE", &self.kind), ("ITEM", &self.id), ("ITEM_REVISION", &self.revision)]
        {
            if !value.is_empty() {
                settings.entry(key.to_owned()).or_insert_with(|| value.clone());
            }
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.id)?;
        if self.revision.is_empty() { Ok(()) } else { write!(f, " ({})", self.revision) }
    }
}

fn text(value: &Value) -> Option<String> {
    super::scalar(value).filter(|text| !text.is_empty())
}

fn joined<'v>(values: impl Iterator<Item = &'v Value>) -> String {
    let mut all: Vec<String> = values.filter_map(text).collect();
    all.sort();
    all.dedup();
    all.join(" ")
}

/// The item of a message, if its topic is one of those that are known.
pub fn derive(topic: &str, body: &Value) -> Option<Item> {
    let tail = |tail: &str| topic.ends_with(tail);
    let item = |kind: &str, id: String, revision: String| Some(Item { kind: kind.to_owned(), id, revision });
    let nvr = || {
        let part = |key: &str| text(&body[key]);
        Some(format!("{}-{}-{}", part("name")?, part("version")?, part("release")?))
    };
    if tail("buildsys.build.state.change") {
        return item("koji_build", nvr()?, text(&body["build_id"]).unwrap_or_default());
    }
    if tail("buildsys.tag") || tail("buildsys.untag") {
        return item("koji_tag", text(&body["tag"])?, String::new());
    }
    if topic.contains(".bodhi.update.") {
        let update = &body["update"];
        let builds = update["builds"].as_array().map(Vec::as_slice).unwrap_or_default();
        return item(
            "bodhi_update",
            text(&update["alias"])?,
            joined(builds.iter().map(|build| &build["nvr"])),
        );
    }
    if tail("pungi.compose.status.change") {
        return item("compose", text(&body["compose_id"])?, String::new());
    }
    if tail("coreos.build.state.change") {
        return item("fcosbuild", text(&body["buildid"])?, text(&body["basearch"]).unwrap_or_default());
    }
    if let Some((branch, commit)) = moved(topic, body) {
        return item("git_branch", branch, commit);
    }
    if tail("assay.job.done") {
        return item(
            &text(&body["item_type"])?,
            text(&body["item"])?,
            text(&body["revision"]).unwrap_or_default(),
        );
    }
    of_artifact(body)
}

/// What a message tells, in the same words whichever system tells it: a bus that carries it, or somebody who looks for
/// himself. None if that is not known of its topic.
pub fn news(topic: &str, body: &str) -> Option<String> {
    const KNOWN: [&str; 9] = [
        "buildsys.build.state.change",
        "buildsys.tag",
        "buildsys.untag",
        "koji-build-group.build.complete",
        "bodhi.update.request.stable",
        "pungi.compose.status.change",
        "git.branch.moved",
        ".git.receive",
        ".push",
    ];
    KNOWN.iter().find(|tail| topic.ends_with(**tail))?;
    let body: Value = serde_json::from_str(body).ok()?;
    let Item { kind, id, revision } = derive(topic, &body)?;
    let state = match kind.as_str() {
        "koji_build" => text(&body["new"]),
        "compose" => text(&body["status"]),
        // A tag is told of for each build that comes or goes.
        "koji_tag" => {
            let done = topic.rsplit('.').next().unwrap_or_default();
            Some(format!("{done} {}", text(&body["build_id"])?))
        }
        // That it is to be tested is something else than that it is to go out.
        "bodhi_update" if topic.ends_with(".stable") => Some("stable".to_owned()),
        _ => None,
    };
    Some(super::short_key([kind, id, revision, state.unwrap_or_default()].join(" ")))
}

/// The branch that moved, and where to: as a look at the repository tells it, Pagure's messages, or the hooks of forges.
fn moved(topic: &str, body: &Value) -> Option<(String, String)> {
    let part = |key: &str| text(&body[key]);
    let (branch, commit) = if topic == "git.branch.moved" {
        (part("branch")?, part("new")?)
    } else if topic.ends_with(".git.receive") {
        (part("branch")?, part("end_commit")?)
    } else if topic.rsplit('.').next() == Some("push") {
        (part("ref")?.strip_prefix("refs/heads/")?.to_owned(), part("after")?)
    } else {
        return None;
    };
    let (repository, project) = (&body["repository"], &body["project"]["path_with_namespace"]);
    let named =
        [repository, project, &repository["clone_url"], &repository["full_name"], &body["repo"]["fullname"]];
    let name = named.into_iter().find_map(Value::as_str).unwrap_or_default();
    let name = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    Some((format!("{}/{branch}", name.strip_suffix(".git").unwrap_or(name)), commit))
}

/// CI messages name what was tested.
fn of_artifact(body: &Value) -> Option<Item> {
    let artifact = &body["artifact"];
    let (kind, id) = match artifact["type"].as_str()? {
        "koji-build" | "brew-build" => ("koji_build", text(&artifact["nvr"])?),
        "productmd-compose" => ("compose", text(&artifact["id"])?),
        "fedora-update" => ("bodhi_update", text(&artifact["alias"])?),
        _ => return None,
    };
    Some(Item { kind: kind.to_owned(), id, revision: text(&artifact["id"]).unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn two_who_tell_the_same_say_the_same() {
        let build = |more: Value| {
            let mut body = json!({"name": "bash", "version": "5", "release": "1", "build_id": 7, "new": 1, "instance": "primary"});
            body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            news("org.fedoraproject.prod.buildsys.build.state.change", &body.to_string())
        };
        assert_eq!(build(json!({"task": {"id": 1}})).as_deref(), Some("koji_build bash-5-1 7 1"));
        assert_eq!(build(json!({})), build(json!({"task": 3})));
        assert_ne!(build(json!({"new": 3})), build(json!({})), "it failed");
        let looked =
            json!({"repository": "https://git.example.org/o/repo.git", "branch": "main", "new": "abc"});
        let told = Some("git_branch repo/main abc ".to_owned());
        assert_eq!(news("git.branch.moved", &looked.to_string()), told);
        for (topic, body) in [
            (
                "forge.push",
                json!({"ref": "refs/heads/main", "after": "abc", "repository": {"clone_url": "https://x/o/repo.git"}}),
            ),
            (
                "forge.push",
                json!({"ref": "refs/heads/main", "after": "abc", "project": {"path_with_namespace": "o/repo"}}),
            ),
            (
                "io.pagure.prod.pagure.git.receive",
                json!({"branch": "main", "end_commit": "abc", "repo": {"fullname": "o/repo"}}),
            ),
        ] {
            assert_eq!(news(topic, &body.to_string()), told, "{topic} {body}");
        }
        let compose = json!({"compose_id": "F-1", "status": "DOOMED", "location": "x"}).to_string();
        assert_eq!(news("o.pungi.compose.status.change", &compose).as_deref(), Some("compose F-1  DOOMED"));
        let update = json!({"update": {"alias": "F-1", "builds": [{"nvr": "b-1-1"}, {"nvr": "a-1-1"}]}, "agent": "alice"});
        for (topic, told) in [
            (
                "o.bodhi.update.status.testing.koji-build-group.build.complete",
                Some("bodhi_update F-1 a-1-1 b-1-1 "),
            ),
            ("o.bodhi.update.request.stable", Some("bodhi_update F-1 a-1-1 b-1-1 stable")),
            ("o.bodhi.update.comment", None),
        ] {
            assert_eq!(news(topic, &update.to_string()).as_deref(), told, "{topic}");
        }
        let tagged = json!({"tag": "f44", "build_id": 7, "name": "bash", "user": "bodhi"}).to_string();
        assert_eq!(news("o.buildsys.tag", &tagged).as_deref(), Some("koji_tag f44  tag 7"));
        assert_eq!(news("o.buildsys.untag", &tagged).as_deref(), Some("koji_tag f44  untag 7"));
        for (topic, body) in [
            ("forge.push", r#"{"ref": "refs/tags/v1", "after": "abc"}"#),
            ("o.buildsys.tag", r#"{"tag": "f44", "name": "bash"}"#),
            ("git.branch.moved", "{"),
            ("git.branch.moved", "[]"),
            ("org.t.other", "{}"),
        ] {
            assert_eq!(news(topic, body), None, "{topic} {body}");
        }
    }
}
