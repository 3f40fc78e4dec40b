//! What a job does on its worker: the JSON of `assay_proto::task::Task`, without what is known only when it starts.

use super::quantity;
use crate::read::{Fields, Reader, one_or_more};
use crate::yaml::{Kind, Node};
use assay_engine::gate::config::JobDef;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The phases, with the key of each.
pub(super) const PHASES: [&str; 4] = ["pre", "run", "post", "collect"];
/// Keys of `limits`: as written, as in the task, and whether it is a size.
pub(super) const LIMITS: [(&str, &str, bool); 6] = [
    ("disk", "disk_bytes", true),
    ("log", "log_bytes", true),
    ("processes", "processes", false),
    ("memory", "memory_bytes", true),
    ("artifacts", "artifacts", false),
    ("artifact-bytes", "artifact_bytes", true),
];

/// A repository in the workspace.
pub(super) struct Checkout {
    pub(super) name: String,
    json: Value,
}

impl Checkout {
    /// True if its tree is not the one that the item's evidence names.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.json.get("branch").is_some() || self.json["tree"] == "old"
    }
}

/// What a task, as JSON, depends on besides its trees.
pub(super) fn depends_on(task: &str) -> Option<&'static str> {
    let task: Value = serde_json::from_str(task).ok()?;
    if task["network"] == "host" {
        return Some("`network: host`");
    }
    let mut parts = task.as_object()?.values();
    parts.any(|part| part["secrets"].as_array().is_some_and(|all| !all.is_empty())).then_some("`secrets`")
}

/// The task as JSON. None if no phase has a step.
pub(super) fn read(
    reader: &mut Reader<'_, '_>,
    fields: &mut Fields<'_>,
    job: &JobDef,
    env: &BTreeMap<String, String>,
    checkouts: &[Checkout],
) -> Option<String> {
    let mut task = Map::new();
    task.insert("name".into(), json!(job.name));
    let mut has_steps = false;
    for name in PHASES {
        let node = fields.get(name);
        has_steps |= node.is_some();
        let mut phase = node.map(|node| phase(reader, node, name)).unwrap_or_default();
        if name == "run" {
            // The main phase's can stand beside it.
            budget(reader, fields, &mut phase);
            if let Some(node) = fields.get("secrets") {
                phase.insert("secrets".into(), secrets(reader, node, name));
            }
        }
        if !phase.is_empty() {
            task.insert(name.into(), Value::Object(phase));
        }
    }
    if !env.is_empty() {
        task.insert("env".into(), json!(env));
    }
    for key in ["artifacts", "results"] {
        if let Some(node) = fields.get(key) {
            task.insert(key.into(), json!(reader.texts(node, key)));
        }
    }
    if let Some(node) = fields.get("network") {
        let network = reader.word(node, "network", &[("none", "none"), ("host", "host")]);
        task.insert("network".into(), json!(network.unwrap_or("none")));
    }
    if let Some(node) = fields.get("limits") {
        task.insert("limits".into(), limits(reader, node));
    }
    let workspace = fields.get("workspace");
    let wanted = workspace.is_none_or(|node| reader.boolean(node, "workspace") != Some(false));
    let rules = fields.get("clonemap").map(|node| clonemap(reader, node));
    let clone_budget =
        fields.get("workspace-budget").map(|node| quantity::seconds(reader, node, "workspace-budget"));
    if wanted {
        let projects: Vec<&Value> = checkouts.iter().map(|checkout| &checkout.json).collect();
        // Where it comes from is known when the job starts.
        let mut workspace = json!({"origin": "", "projects": projects});
        if let Some(rules) = rules {
            workspace["clonemap"] = rules;
        }
        if let Some(seconds) = clone_budget.flatten() {
            workspace["budget_s"] = json!(seconds);
        }
        task.insert("workspace".into(), workspace);
    } else if !checkouts.is_empty() {
        let message = "`projects` go into a workspace; expected none beside `workspace: false`";
        reader.sink.error("workspace", fields.place, message);
    }
    has_steps.then(|| Value::Object(task).to_string())
}

/// A script, a list of scripts, or a mapping with `steps`.
fn phase(reader: &mut Reader<'_, '_>, node: &Node, name: &'static str) -> Map<String, Value> {
    let mut phase = Map::new();
    let Kind::Map(entries) = &node.kind else {
        phase.insert("steps".into(), steps(reader, node, name));
        return phase;
    };
    if entries.iter().any(|entry| *entry.key.text == *"script") {
        phase.insert("steps".into(), Value::Array(step(reader, node, name).into_iter().collect()));
        return phase;
    }
    let Some(mut fields) = reader.fields(node, "a phase") else { return phase };
    if let Some(node) = reader.required(&mut fields, "steps") {
        phase.insert("steps".into(), steps(reader, node, name));
    }
    budget(reader, &mut fields, &mut phase);
    if let Some(node) = fields.get("secrets") {
        phase.insert("secrets".into(), secrets(reader, node, name));
    }
    reader.finish(fields);
    phase
}

fn budget(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>, phase: &mut Map<String, Value>) {
    for (key, json_key) in [("budget", "budget_s"), ("grace", "grace_s")] {
        if let Some(seconds) = fields.get(key).and_then(|node| quantity::seconds(reader, node, key)) {
            phase.insert(json_key.into(), json!(seconds));
        }
    }
}

fn steps(reader: &mut Reader<'_, '_>, node: &Node, what: &'static str) -> Value {
    let steps: Vec<Value> =
        one_or_more(node).into_iter().filter_map(|node| step(reader, node, what)).collect();
    if steps.is_empty() && matches!(&node.kind, Kind::List(items) if items.is_empty()) {
        reader.sink.error("no-script", node.place, format!("`{what}` has no step; expected a script"));
    }
    Value::Array(steps)
}

fn step(reader: &mut Reader<'_, '_>, node: &Node, what: &'static str) -> Option<Value> {
    if matches!(node.kind, Kind::Scalar { .. }) {
        return reader.name(node, what).map(|script| json!({"script": script}));
    }
    let mut fields = reader.fields(node, "a step")?;
    let script = reader.required(&mut fields, "script").and_then(|node| reader.name(node, "script"));
    let mut step = json!({"script": script.unwrap_or_default()});
    for key in ["name", "shell"] {
        if let Some(text) = fields.get(key).and_then(|node| reader.name(node, key)) {
            step[key] = json!(text);
        }
    }
    reader.finish(fields);
    Some(step)
}

/// Names of secrets; their values are the server's.
fn secrets(reader: &mut Reader<'_, '_>, node: &Node, phase: &str) -> Value {
    let mut names = Vec::new();
    for node in one_or_more(node) {
        let Some(name) = reader.name(node, "secrets") else { continue };
        if phase == "collect" {
            let message =
                "`collect` gets no secrets: it runs whatever happened; expected them in pre, run or post";
            reader.sink.error("secrets", node.place, message);
        }
        check_variable(reader, name, node);
        names.push(name);
    }
    json!(names)
}

/// `env`.
pub(super) fn variables(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let Some(node) = fields.get("env") else { return env };
    let Some(mut fields) = reader.fields(node, "`env`") else { return env };
    for entry in fields.rest() {
        let name = &*entry.key.text;
        check_variable(reader, name, &entry.value);
        let Some(value) = reader.text(&entry.value, name) else { continue };
        if value.contains('\0') {
            reader.sink.error("env", entry.value.place, format!("the value of `{name}` holds a NUL byte"));
        }
        env.insert(name.to_owned(), value.to_owned());
    }
    env
}

fn check_variable(reader: &mut Reader<'_, '_>, name: &str, node: &Node) {
    let mut bytes = name.bytes();
    let good = bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !good {
        let message = format!("`{name}` is no name of a variable; expected letters, digits and _");
        reader.sink.error("variable", node.place, message);
    }
}

/// `projects`: what the workspace has besides the change's own project.
pub(super) fn checkouts(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>) -> Vec<Checkout> {
    let nodes = fields.get("projects").map(|node| one_or_more(node)).unwrap_or_default();
    let mut found = Vec::new();
    for node in nodes {
        if matches!(node.kind, Kind::Scalar { .. }) {
            let name = reader.name(node, "projects").map(ToOwned::to_owned);
            found.extend(name.map(|name| Checkout { json: json!({"name": name}), name }));
            continue;
        }
        let Some(mut fields) = reader.fields(node, "a project of a workspace") else { continue };
        let name = reader.required(&mut fields, "name").and_then(|node| reader.name(node, "name"));
        let mut checkout = json!({"name": name.unwrap_or_default()});
        for key in ["dest", "branch"] {
            if let Some(text) = fields.get(key).and_then(|node| reader.name(node, key)) {
                checkout[key] = json!(text);
            }
        }
        if let Some(node) = fields.get("tree") {
            checkout["tree"] =
                json!(reader.word(node, "tree", &[("new", "new"), ("old", "old")]).unwrap_or("new"));
        }
        reader.finish(fields);
        found.extend(name.map(|name| Checkout { name: name.to_owned(), json: checkout }));
    }
    found
}

fn clonemap(reader: &mut Reader<'_, '_>, node: &Node) -> Value {
    let mut rules = Vec::new();
    for node in one_or_more(node) {
        let Some(mut fields) = reader.fields(node, "a rule of a clonemap") else { continue };
        let name = reader.required(&mut fields, "name").and_then(|node| reader.pattern(node, "name"));
        let dest = reader.required(&mut fields, "dest").and_then(|node| reader.name(node, "dest"));
        reader.finish(fields);
        if let (Some(name), Some(dest)) = (name, dest) {
            rules.push(json!({"name": name.as_str(), "dest": dest}));
        }
    }
    json!(rules)
}

fn limits(reader: &mut Reader<'_, '_>, node: &Node) -> Value {
    let mut limits = Map::new();
    let Some(mut fields) = reader.fields(node, "`limits`") else { return Value::Object(limits) };
    for (key, json_key, is_size) in LIMITS {
        let Some(node) = fields.get(key) else { continue };
        let value = if is_size {
            quantity::bytes(reader, node, key)
        } else {
            reader.number(node, key, 1).map(u64::from)
        };
        limits.extend(value.map(|value| (json_key.to_owned(), json!(value))));
    }
    reader.finish(fields);
    Value::Object(limits)
}
