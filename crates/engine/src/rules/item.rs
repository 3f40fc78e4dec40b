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
    if tail("assay.job.done") {
        return item(
            &text(&body["item_type"])?,
            text(&body["item"])?,
            text(&body["revision"]).unwrap_or_default(),
        );
    }
    of_artifact(body)
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
