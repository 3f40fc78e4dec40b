//! JSON schemas of the objects of `assay_proto::api`, read from their source, with what is said about them there.

use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// Objects that are defined in other crates, as far as a client has to know them, and those that are not one type.
const OTHERS: [(&str, &str); 11] = [
    (
        "EntryChange",
        r#"{"type": "string", "enum": ["new", "changed", "removed"], "description": "What becomes of an entry of the catalog."}"#,
    ),
    ("AssetKind", r#"{"type": "string", "enum": ["iso", "hdd", "repo", "other"]}"#),
    ("AssetName", r#"{"type": "string"}"#),
    (
        "NumberOrName",
        r#"{"type": ["integer", "string"], "description": "Something by its number, or by its name."}"#,
    ),
    (
        "Room",
        r#"{"type": "object", "description": "What a worker's file systems can still take, in bytes.",
            "properties": {
                "pool": {"type": "integer", "description": "Where machines have their disks: what is free."},
                "cache": {"type": "integer", "description": "Where assets are kept: what is free, and what is there already."},
                "shared": {"type": "boolean", "description": "Both are one file system."}},
            "required": ["pool", "cache", "shared"]}"#,
    ),
    (
        "RestartOptions",
        r#"{"type": "object", "properties": {
            "force": {"type": "boolean", "description": "Direct parents are cloned without asking."},
            "skip_aborting_jobs": {"type": "boolean", "description": "What a worker has is left alone."},
            "skip_parents": {"type": "boolean", "description": "No parent is cloned."},
            "skip_children": {"type": "boolean", "description": "No child is cloned."},
            "skip_ok_result_children": {"type": "boolean", "description": "Children that have passed are not cloned."},
            "copy_only": {"type": "boolean", "description": "The old jobs know nothing of their clones."},
            "priority": {"type": ["integer", "null"], "description": "The priority of all clones."},
            "set": {"type": "object", "additionalProperties": {"type": ["string", "null"]},
                "description": "Settings of all clones; null leaves one out, KEY+ appends."},
            "group": {"type": ["integer", "null"], "description": "The group of all clones; null is none."}
        }}"#,
    ),
    (
        "Plan",
        r#"{"type": "object", "description": "What a post of a product would make, and why not the rest.",
            "properties": {"jobs": {"type": "array", "items": {"type": "object"}},
                "failed": {"type": "array", "items": {"type": "object"}},
                "left_out": {"type": "array", "items": {"type": "object"}},
                "notes": {"type": "array", "items": {"type": "string"}},
                "old_jobs": {"type": "array", "items": {"type": "object"},
                    "description": "The open jobs of older builds that are meant, and what becomes of each."},
                "refused": {"type": ["object", "null"]}}}"#,
    ),
    (
        "BuildReport",
        r#"{"type": "object", "description": "What a build's tests say, compared with those of another build.",
            "properties": {"build": {"type": "string"}, "against": {"type": ["string", "null"]},
                "url": {"type": "string"}, "total": {"type": "integer"}, "passed": {"type": "integer"},
                "outcomes": {"type": "object", "additionalProperties": {"type": "integer"}},
                "verdicts": {"type": "array", "items": {"type": "object"}},
                "missing_images": {"type": "array", "items": {"type": "string"}},
                "new_failures": {"type": "array", "items": {"type": "object"}},
                "old_failures": {"type": "array", "items": {"type": "object"}},
                "new_soft": {"type": "array", "items": {"type": "object"}},
                "old_soft": {"type": "array", "items": {"type": "object"}},
                "fixed": {"type": "array", "items": {"type": "object"}},
                "skipped": {"type": "array", "items": {"type": "object"}},
                "open": {"type": "array", "items": {"type": "object"}},
                "gone": {"type": "array", "items": {"type": "object"}},
                "system": {"type": "array", "items": {"type": "object"}}}}"#,
    ),
    ("Step", r#"{"type": "object", "description": "A record of what a test did; see docs/protocols."}"#),
    (
        "OpenqaError",
        r#"{"type": "object", "properties": {"error": {"description": "One sentence, or a list of findings.",
            "type": ["string", "array", "object"]}}, "required": ["error"]}"#,
    ),
    ("Value", "{}"),
];

static ALL: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    let mut all = Map::new();
    for (name, text) in OTHERS {
        all.insert(name.to_owned(), serde_json::from_str(text).unwrap_or_default());
    }
    for source in assay_proto::api::SOURCES {
        read(source, &mut all);
    }
    all
});

/// Every object by name.
pub(super) fn all() -> &'static Map<String, Value> {
    &ALL
}

/// The schema of a type as it is written in Rust.
fn of_type(text: &str) -> Value {
    let text = text.trim();
    let inner = |outer: &str| text.strip_prefix(outer)?.strip_suffix('>').map(str::trim);
    if let Some(one) = inner("Option<") {
        let schema = of_type(one);
        return match schema["type"].as_str() {
            Some(kind) => {
                let mut schema = schema.clone();
                schema["type"] = json!([kind, "null"]);
                schema
            }
            None => json!({"anyOf": [schema, {"type": "null"}]}),
        };
    }
    if let Some(one) = inner("Vec<") {
        return json!({"type": "array", "items": of_type(one)});
    }
    if let Some(one) = inner("BTreeMap<").and_then(|pair| pair.split_once(',')) {
        return json!({"type": "object", "additionalProperties": of_type(one.1)});
    }
    if let Some(parts) = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')) {
        let parts: Vec<_> = parts.split(',').map(of_type).collect();
        return json!({"type": "array", "prefixItems": parts});
    }
    match text.rsplit("::").next().unwrap_or(text) {
        "String" => json!({"type": "string"}),
        "bool" => json!({"type": "boolean"}),
        "f64" => json!({"type": "number"}),
        "i32" | "i64" | "u8" | "u32" | "u64" | "usize" | "JobId" | "GroupId" => json!({"type": "integer"}),
        "Value" => json!({}),
        other => super::reference(other),
    }
}

/// What is remembered while a source is read line by line.
#[derive(Default)]
struct Above {
    doc: String,
    attributes: String,
}

impl Above {
    fn take(&mut self, line: &str) -> bool {
        if let Some(text) = line.strip_prefix("///") {
            let gap = if self.doc.is_empty() { "" } else { " " };
            self.doc = format!("{}{gap}{}", self.doc, text.trim());
        } else if line.starts_with("#[") {
            self.attributes.push_str(line);
        } else {
            return false;
        }
        true
    }

    fn describe(&self, schema: &mut Value) {
        if !self.doc.is_empty() {
            schema["description"] = json!(self.doc.replace(['`', '['], "").replace(']', ""));
        }
    }
}

/// An object that is being read.
struct Open {
    name: String,
    schema: Value,
    required: Vec<String>,
}

fn field(open: &mut Open, above: &Above, line: &str) {
    let Some((name, kind)) = line.trim_start_matches("pub ").trim_end_matches(',').split_once(':') else {
        return;
    };
    if above.attributes.contains("serde(flatten)") {
        open.schema["allOf"] = json!([of_type(kind)]);
        return;
    }
    let renamed = above.attributes.split("rename = \"").nth(1).and_then(|text| text.split('"').next());
    let name = renamed.unwrap_or(name).to_owned();
    let mut schema = of_type(kind);
    let is_reference = schema.get("$ref").is_some();
    if is_reference && !above.doc.is_empty() {
        schema = json!({"allOf": [schema]});
    }
    above.describe(&mut schema);
    let optional = kind.trim().starts_with("Option<")
        || above.attributes.contains("default")
        || above.attributes.contains("skip_serializing_if");
    if !optional {
        open.required.push(name.clone());
    }
    open.schema["properties"][name] = schema;
}

fn read(source: &str, all: &mut Map<String, Value>) {
    let mut above = Above::default();
    let mut open: Option<Open> = None;
    for line in source.lines() {
        let text = line.trim();
        if above.take(text) {
            continue;
        }
        if let Some(one) = &mut open {
            if line == "}" {
                if !one.required.is_empty() {
                    one.schema["required"] = json!(one.required);
                }
                all.insert(one.name.clone(), one.schema.take());
                open = None;
            } else if text.starts_with("pub ") {
                field(one, &above, text);
            }
        } else if let Some(name) = line.strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix(" {")) {
            let mut schema = json!({"type": "object", "properties": {}});
            above.describe(&mut schema);
            if above.attributes.contains("deny_unknown_fields") {
                schema["additionalProperties"] = json!(false);
            }
            open = Some(Open { name: name.to_owned(), schema, required: Vec::new() });
        } else if let Some(name) = line.strip_prefix("pub enum ").and_then(|rest| rest.strip_suffix(" {")) {
            let mut schema = json!({"type": "object"});
            above.describe(&mut schema);
            all.entry(name.to_owned()).or_insert(schema);
        }
        above = Above::default();
    }
}

/// The schema of what looks like this.
pub(super) fn of_example(example: &Value) -> Value {
    match example {
        Value::Null => json!({}),
        Value::Bool(_) => json!({"type": "boolean"}),
        Value::Number(number) if number.is_f64() => json!({"type": "number"}),
        Value::Number(_) => json!({"type": "integer"}),
        Value::String(_) => json!({"type": "string"}),
        Value::Array(list) => {
            json!({"type": "array", "items": list.first().map(of_example).unwrap_or(json!({}))})
        }
        Value::Object(fields) => {
            let properties: Map<_, _> =
                fields.iter().map(|(name, value)| (name.clone(), of_example(value))).collect();
            json!({"type": "object", "properties": properties})
        }
    }
}

/// Something that fits the object: what must be there.
pub(crate) fn example(name: &str) -> Value {
    sample(&super::reference(name), 0)
}

fn sample(schema: &Value, depth: usize) -> Value {
    if depth > 4 {
        return Value::Null;
    }
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return ALL.get(name).map_or(Value::Null, |schema| sample(schema, depth + 1));
    }
    if let Some(first) = schema["allOf"].get(0).or_else(|| schema["anyOf"].get(0)) {
        return sample(first, depth + 1);
    }
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    match schema["type"].as_str().or_else(|| schema["type"][0].as_str()) {
        Some("string") => json!("…"),
        Some("integer") => json!(1),
        Some("number") => json!(1.0),
        Some("boolean") => json!(true),
        Some("array") => json!([sample(&schema["items"], depth + 1)]),
        Some("object") => {
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            let fields = required.iter().filter_map(Value::as_str);
            let mut made: Map<_, _> = fields
                .map(|name| (name.to_owned(), sample(&schema["properties"][name], depth + 1)))
                .collect();
            if made.is_empty() && schema["additionalProperties"]["type"] == "string" {
                made.insert("KEY".to_owned(), json!("VALUE"));
            }
            Value::Object(made)
        }
        _ => Value::Null,
    }
}
