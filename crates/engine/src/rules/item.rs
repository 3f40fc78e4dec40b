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
            say(settings, key, value);
        }
    }

    /// Has settings say what a message tells of a build beside its name: the task of Koji's that made it, who ordered it,
    /// and that it is a scratch build. Those who hear of its tests are told that again (CI messages).
    pub(crate) fn say_build_in(&self, body: &Value, settings: &mut BTreeMap<String, String>) {
        if self.kind != "koji_build" {
            return;
        }
        let artifact = &body["artifact"];
        let group = artifact["builds"].as_array().map(Vec::as_slice).unwrap_or_default();
        let named = |one: &&Value| text(&one["nvr"]).or_else(|| nvr(one)).as_deref() == Some(&self.id);
        let Some(told) = [body, artifact].into_iter().chain(group).find(named) else { return };
        // In CI messages, which name an issuer, a build's number is that of its task; elsewhere it is the build's own.
        let task = if told["issuer"].is_null() { &told["task_id"] } else { &told["id"] };
        let issuer = text(&told["issuer"]).or_else(|| text(&told["owner"]));
        let scratch = (told["scratch"] == true).then(|| "1".to_owned());
        for (key, value) in [(BUILD_TASK, text(task)), (BUILD_ISSUER, issuer), (BUILD_SCRATCH, scratch)] {
            say(settings, key, value.as_deref().unwrap_or_default());
        }
    }
}

/// Has a setting say something, where it does not yet; nothing is not said.
pub(super) fn say(settings: &mut BTreeMap<String, String>, key: &str, value: &str) {
    if !value.is_empty() {
        settings.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
}

/// The setting with the number of the task that made the build under test.
pub(crate) const BUILD_TASK: &str = "ITEM_TASK_ID";
/// The setting with the name of who ordered it.
pub(crate) const BUILD_ISSUER: &str = "ITEM_ISSUER";
/// The setting that is `1` for a scratch build.
pub(crate) const BUILD_SCRATCH: &str = "ITEM_SCRATCH";

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

fn nvr(build: &Value) -> Option<String> {
    let part = |key: &str| text(&build[key]);
    Some(format!("{}-{}-{}", part("name")?, part("version")?, part("release")?))
}

/// The item of a message, if its topic is one of those that are known.
pub fn derive(topic: &str, body: &Value) -> Option<Item> {
    let tail = |tail: &str| topic.ends_with(tail);
    let item = |kind: &str, id: String, revision: String| Some(Item { kind: kind.to_owned(), id, revision });
    if tail("buildsys.build.state.change") {
        return item("koji_build", nvr(body)?, text(&body["build_id"]).unwrap_or_default());
    }
    if is_tagging(topic) {
        return item("koji_tag", text(&body["tag"])?, nvr(body).unwrap_or_default());
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

/// A build came into a tag, or left it.
fn is_tagging(topic: &str) -> bool {
    topic.ends_with("buildsys.tag") || topic.ends_with("buildsys.untag")
}

/// What tells apart that which happens to an item in one revision. Mostly its revision says it all.
///
/// A build that comes into a tag again finds other builds there: each time counts, told apart by the message `key`. Jobs of
/// an item end each by itself, told apart by scenario and result and not by their numbers: a rule whose job fits the rule
/// again would otherwise never come to an end. What is started anew by itself (`RETRY`), with its whole cluster, is counted
/// for the same reason; what people start anew is nothing that rules do, and each counts.
pub(super) fn occasion(topic: &str, body: &Value, key: &str) -> Option<String> {
    if is_tagging(topic) {
        return Some(key.to_owned());
    }
    if !topic.ends_with("assay.job.done") {
        return None;
    }
    let setting = |key: &str| &body["settings"][key];
    let told = [
        setting("DISTRI"),
        setting("VERSION"),
        setting("FLAVOR"),
        &body["arch"],
        &body["test"],
        setting("MACHINE"),
        &body["result"],
    ];
    let restart = match body["retry"].as_u64() {
        Some(number @ 1..) => Some(format!("retry {number}")),
        _ => (!body["restart_of"].is_null()).then(|| key.to_owned()),
    };
    Some(told.into_iter().filter_map(text).chain(restart).collect::<Vec<_>>().join(" "))
}

/// Others may have told the same time of it in messages of their own ([`super::Message::first_told_as`]).
pub(super) fn is_told_twice(topic: &str) -> bool {
    is_tagging(topic)
}

/// What a message tells, in the same words whichever system tells it: a bus that carries it, or somebody who looks for
/// himself. None if that is not known of its topic.
pub fn news(topic: &str, body: &str) -> Option<String> {
    const ONCE: [&str; 3] =
        ["buildsys.build.state.change", "koji-build-group.build.complete", "pungi.compose.status.change"];
    if !recurs(topic) && !ONCE.iter().any(|tail| topic.ends_with(tail)) {
        return None;
    }
    let body: Value = serde_json::from_str(body).ok()?;
    let Item { kind, id, mut revision } = derive(topic, &body)?;
    let state = match kind.as_str() {
        "koji_build" => text(&body["new"]),
        "compose" => text(&body["status"]),
        // A tag is told of for each build that comes or goes.
        "koji_tag" => {
            // The build's number says it.
            revision.clear();
            let done = topic.rsplit('.').next().unwrap_or_default();
            Some(format!("{done} {}", text(&body["build_id"])?))
        }
        // That it is to be tested is something else than that it is to go out.
        "bodhi_update" if topic.ends_with(".stable") => Some("stable".to_owned()),
        _ => None,
    };
    Some(super::short_key([kind, id, revision, state.unwrap_or_default()].join(" ")))
}

/// The same news of such a topic may come again, and is another event then: a build comes back into a tag, an update is
/// submitted again, a branch returns to a commit.
pub fn recurs(topic: &str) -> bool {
    const AGAIN: [&str; 6] = [
        "buildsys.tag",
        "buildsys.untag",
        "bodhi.update.request.stable",
        "git.branch.moved",
        ".git.receive",
        ".push",
    ];
    AGAIN.iter().any(|tail| topic.ends_with(tail))
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
    Some((format!("{}/{branch}", repository_name(name)), commit))
}

/// What a repository is called, by its address or its full name: its path on the host, so that forks and namespaces are
/// apart. Packages are called as they are everywhere else, without `rpms/`.
fn repository_name(said: &str) -> &str {
    let path = match said.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        // As ssh has it: `git@host:rpms/bash.git`.
        None => match said.split_once(':') {
            Some((host, path)) if !host.contains('/') => path,
            _ => said,
        },
    };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    path.strip_prefix("rpms/").filter(|package| !package.contains('/')).unwrap_or(path)
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
    fn a_build_is_told_of_in_several_shapes() {
        let item = Item { kind: "koji_build".into(), id: "bash-5-1".into(), revision: String::new() };
        let said = |body: Value| {
            let mut settings = BTreeMap::new();
            item.say_build_in(&body, &mut settings);
            settings.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
        };
        let built = json!({"name": "bash", "version": "5", "release": "1", "build_id": 7, "task_id": 70, "owner": "alice"});
        assert_eq!(said(built), "ITEM_ISSUER=alice ITEM_TASK_ID=70");
        let other = json!({"nvr": "sed-4-1", "task_id": 60});
        let group = json!({"artifact": {"builds": [other, {"nvr": "bash-5-1", "id": 7, "task_id": 70}]}});
        assert_eq!(said(group), "ITEM_TASK_ID=70");
        let ci = json!({"artifact": {"nvr": "bash-5-1", "id": 70, "issuer": "bob", "scratch": true}});
        assert_eq!(said(ci), "ITEM_ISSUER=bob ITEM_SCRATCH=1 ITEM_TASK_ID=70");
        assert_eq!(said(json!({"nvr": "sed-4-1", "task_id": 60})), "");
        assert_eq!(said(json!("bash-5-1")), "");
    }

    #[test]
    fn repositories_are_apart_by_their_paths() {
        for (said, name) in [
            ("rpms/bash", "bash"),
            ("https://src.fedoraproject.org/rpms/bash.git", "bash"),
            ("ssh://git@pkgs.example.org:22/rpms/bash/", "bash"),
            ("git@pkgs.example.org:rpms/bash.git", "bash"),
            ("tests/bash", "tests/bash"),
            ("forks/mallory/rpms/bash", "forks/mallory/rpms/bash"),
            ("https://src.fedoraproject.org/forks/mallory/rpms/bash.git", "forks/mallory/rpms/bash"),
            ("bash", "bash"),
            ("rpms/a/b", "rpms/a/b"),
            ("file:///srv/git/repo.git", "srv/git/repo"),
            ("/srv/git/repo", "srv/git/repo"),
            ("https://h", ""),
        ] {
            assert_eq!(repository_name(said), name, "{said}");
        }
        let pushed = |fullname: &str| {
            let body = json!({"branch": "rawhide", "end_commit": "abc", "repo": {"fullname": fullname}});
            derive("io.pagure.prod.pagure.git.receive", &body).expect("a branch moved").id
        };
        assert_eq!(pushed("rpms/bash"), "bash/rawhide");
        assert_eq!(pushed("fork/mallory/rpms/bash"), "fork/mallory/rpms/bash/rawhide");
    }

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
        let told = Some("git_branch o/repo/main abc ".to_owned());
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
        let tagged = json!({"tag": "f44", "build_id": 7, "name": "bash", "version": "5", "release": "1", "user": "bodhi"});
        assert_eq!(derive("o.buildsys.tag", &tagged).expect("a tag").revision, "bash-5-1");
        let tagged = tagged.to_string();
        assert_eq!(news("o.buildsys.tag", &tagged).as_deref(), Some("koji_tag f44  tag 7"));
        assert_eq!(news("o.buildsys.untag", &tagged).as_deref(), Some("koji_tag f44  untag 7"));
        assert!(recurs("o.buildsys.tag") && !recurs("o.buildsys.build.state.change"));
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
