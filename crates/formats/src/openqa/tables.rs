//! What `openqa-load-templates` takes and `openqa-dump-templates` prints: whole tables, as JSON or as Perl's data.

use super::{
    Changes, GROUP_NUMBERS, GroupFacts, GroupFile, Grouped, Known, Loaded, Once, Values, group, literal,
    number, value,
};
use crate::diagnostic::Sink;
use crate::read::{Fields, Reader};
use crate::yaml::{Dialect, Kind, Node};
use assay_engine::product::{Machine, Medium, MediumKey, SettingsMap, Suite, Template};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Reads the tables of one file. Names must be in the file, or `known` if that is given.
pub fn load(name: &str, text: &str, known: Option<&Known>) -> Loaded<Changes> {
    let (changes, sink) = load_into_sink(name, text, known);
    Loaded::new(changes, sink)
}

/// What can be read of a file whatever is wrong with the rest, for other files that name it.
pub fn readable(text: &str) -> Changes {
    load_into_sink("", text, None).0
}

fn load_into_sink<'t>(name: &str, text: &'t str, known: Option<&Known>) -> (Changes, Sink<'t>) {
    let mut sink = Sink::default();
    let file = sink.add_file(name, text);
    let root = literal::parse(text, file, &mut sink);
    let mut changes = Changes::default();
    if let Some(root) = &root {
        changes = read(&mut Reader::new(&mut sink, Dialect::Yaml12), root, known);
    }
    (changes, sink)
}

fn read(reader: &mut Reader<'_, '_>, root: &Node, known: Option<&Known>) -> Changes {
    let mut changes = Changes::default();
    let Some(mut fields) = reader.fields(root, "openQA's tables") else { return changes };
    let mut table = |reader: &mut Reader<'_, '_>, key: &'static str| {
        fields.get(key).map(|node| reader.list(node, key)).unwrap_or_default()
    };
    let [machines, products, suites, templates, groups] =
        ["Machines", "Products", "TestSuites", "JobTemplates", "JobGroups"].map(|key| table(reader, key));
    reader.finish(fields);
    let (mut once_machine, mut once_medium, mut once_suite) = (Once::new(), Once::new(), Once::new());
    for node in machines {
        let Some(machine) = machine(reader, node) else { continue };
        let message = || format!("the machine `{}` is there twice", machine.name);
        if once_machine.add(reader.sink, machine.name.clone(), node.place, message) {
            changes.machines.push(machine);
        }
    }
    for node in products {
        let Some(medium) = product(reader, node) else { continue };
        let message = || format!("the product {} is there twice", medium.key);
        if once_medium.add(reader.sink, medium.key.clone(), node.place, message) {
            changes.media.push(medium);
        }
    }
    let mut priorities = HashMap::new();
    for node in suites {
        let Some((suite, priority)) = suite(reader, node) else { continue };
        let message = || format!("the test suite `{}` is there twice", suite.name);
        if once_suite.add(reader.sink, suite.name.clone(), node.place, message) {
            priorities.extend(priority.map(|priority| (suite.name.clone(), priority)));
            changes.suites.push(suite);
        }
    }
    let all = known.map(|known| {
        let mut all = known.clone();
        all.add(&changes);
        all
    });
    changes.templates = job_templates(reader, templates, &priorities, all.as_ref());
    for node in groups {
        if let Some((file, facts)) = job_group(reader, node, all.as_ref()) {
            changes.groups.extend(file);
            changes.facts.extend(facts);
        }
    }
    changes
}

/// Keys that dumps have and nobody reads.
fn skip(fields: &mut Fields<'_>, keys: &[&'static str]) {
    for key in keys {
        fields.get(key);
    }
}

fn machine(reader: &mut Reader<'_, '_>, node: &Node) -> Option<Machine> {
    let mut fields = reader.fields(node, "a machine")?;
    skip(&mut fields, &["id", "t_created", "t_updated", "variables"]);
    let name = required(reader, &mut fields, "name")?;
    let backend = required(reader, &mut fields, "backend").unwrap_or_default();
    let settings = pairs(reader, fields.get("settings"));
    reader.finish(fields);
    Some(Machine { name, backend, settings, priority: None })
}

fn product(reader: &mut Reader<'_, '_>, node: &Node) -> Option<Medium> {
    let mut fields = reader.fields(node, "a product")?;
    skip(&mut fields, &["id", "t_created", "t_updated", "variables", "description", "group"]);
    let name = optional(reader, &mut fields, "name").unwrap_or_default();
    let key = medium_key(reader, &mut fields);
    let settings = pairs(reader, fields.get("settings"));
    reader.finish(fields);
    Some(Medium { key, name, settings })
}

fn suite(reader: &mut Reader<'_, '_>, node: &Node) -> Option<(Suite, Option<i32>)> {
    let mut fields = reader.fields(node, "a test suite")?;
    skip(&mut fields, &["id", "t_created", "t_updated", "variables"]);
    let name = required(reader, &mut fields, "name")?;
    let description = optional(reader, &mut fields, "description").unwrap_or_default();
    // Old files keep the priority here.
    let priority = some(fields.get("prio")).and_then(|node| number(reader, node, "prio"));
    let settings = pairs(reader, fields.get("settings"));
    reader.finish(fields);
    Some((Suite { name, description, settings }, priority))
}

fn job_templates(
    reader: &mut Reader<'_, '_>,
    nodes: &[Arc<Node>],
    priorities: &HashMap<String, i32>,
    known: Option<&Known>,
) -> Vec<Grouped> {
    let mut once = Once::new();
    let mut found = Vec::new();
    for node in nodes {
        let Some(grouped) = job_template(reader, node, priorities, known) else { continue };
        let Grouped { template, .. } = &grouped;
        let unique = (
            template.medium.clone(),
            template.machine.clone(),
            template.name.clone(),
            template.suite.clone(),
        );
        let message = || {
            let machine = template.machine.as_deref().unwrap_or_default();
            format!("the template of {} on {machine} for {} is there twice", template.test(), template.medium)
        };
        if once.add(reader.sink, unique, node.place, message) {
            found.push(grouped);
        }
    }
    found
}

/// Names may stand in mappings (`machine: {name: …}`) or beside each other (`machine_name`).
pub(super) fn job_template(
    reader: &mut Reader<'_, '_>,
    node: &Node,
    priorities: &HashMap<String, i32>,
    known: Option<&Known>,
) -> Option<Grouped> {
    let mut fields = reader.fields(node, "a job template")?;
    skip(
        &mut fields,
        &["id", "t_created", "t_updated", "product_id", "machine_id", "test_suite_id", "group_id"],
    );
    let machine = named(reader, &mut fields, "machine", "machine_name");
    let suite = named(reader, &mut fields, "test_suite", "test_suite_name").filter(|suite| suite != "-");
    let medium = match fields.get("product") {
        Some(node) => {
            let mut inner = reader.fields(node, "the product of a template")?;
            skip(&mut inner, &["id", "group", "name"]);
            let key = medium_key(reader, &mut inner);
            reader.finish(inner);
            key
        }
        None => medium_key(reader, &mut fields),
    };
    let name = optional(reader, &mut fields, "name").unwrap_or_default();
    let description = optional(reader, &mut fields, "description").unwrap_or_default();
    let priority = some(fields.get("prio")).and_then(|node| number(reader, node, "prio"));
    let own = || suite.as_ref().and_then(|suite| priorities.get(suite).copied());
    let settings = pairs(reader, fields.get("settings"));
    let group = optional(reader, &mut fields, "group_name").unwrap_or_else(|| group_of(&medium));
    reader.finish(fields);
    if machine.is_none() {
        reader.sink.error("missing-key", node.place, "a job template needs `machine` with its name");
    }
    if suite.is_none() && name.is_empty() {
        reader.sink.error(
            "missing-key",
            node.place,
            "a job template needs `test_suite` with its name, or `name`",
        );
    }
    if let Some(known) = known {
        known.medium(reader.sink, &medium, node.place);
        if let Some(machine) = &machine {
            known.machine(reader.sink, machine, node.place);
        }
        if let Some(suite) = &suite {
            known.suite(reader.sink, suite, node.place);
        }
    }
    let priority = priority.or_else(own);
    let template = Template { name, medium, machine, suite, group: None, priority, description, settings };
    Some(Grouped { group, template, at: reader.sink.at(node.place) })
}

/// What openQA's loader does with a template that names no group.
fn group_of(medium: &MediumKey) -> String {
    match medium.version.as_str() {
        "*" | "" => medium.distri.clone(),
        version => format!("{}-{version}", medium.distri),
    }
}

/// `properties` is Assay's: what `assay template dump` says about a group beside its templates.
fn group_facts(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>, name: &str) -> Option<GroupFacts> {
    let node = some(fields.get("properties"))?;
    let mut own = reader.fields(node, "the properties of a group")?;
    let mut facts = GroupFacts { name: name.to_owned(), ..GroupFacts::default() };
    facts.parent = optional(reader, &mut own, "parent_group");
    facts.description = optional(reader, &mut own, "description");
    let whole = |reader: &mut Reader<'_, '_>, own: &mut Fields<'_>, key: &'static str| {
        some(own.get(key)).and_then(|node| number(reader, node, key)).map(i64::from)
    };
    facts.sort_order = whole(reader, &mut own, "sort_order");
    for key in GROUP_NUMBERS {
        let said = whole(reader, &mut own, key);
        facts.numbers.extend(said.map(|said| (key.to_owned(), said)));
    }
    reader.finish(own);
    Some(facts)
}

fn job_group(
    reader: &mut Reader<'_, '_>,
    node: &Node,
    known: Option<&Known>,
) -> Option<(Option<GroupFile>, Option<GroupFacts>)> {
    let mut fields = reader.fields(node, "a job group")?;
    let name = required(reader, &mut fields, "group_name");
    let facts = group_facts(reader, &mut fields, name.as_deref().unwrap_or_default());
    let template = match &facts {
        Some(_) => some(fields.get("template")),
        None => reader.required(&mut fields, "template"),
    };
    let text = template.and_then(|node| Some((reader.text(node, "template")?, node.place)));
    reader.finish(fields);
    let name = name?;
    let Some((text, place)) = text else { return facts.map(|facts| (None, Some(facts))) };
    let inner = group::load(&name, text, known);
    for finding in inner.diagnostics {
        // It stands in a text within the file: its own line is part of the message.
        let at = format!("in the YAML of the group {name}, line {}, column {}", finding.line, finding.column);
        let hint = finding.nearest.map(|nearest| format!(" (did you mean `{nearest}`?)")).unwrap_or_default();
        let message = format!("{at}: {}{hint}", finding.message);
        match finding.severity {
            crate::diagnostic::Severity::Error => reader.sink.error(finding.code, place, message),
            _ => reader.sink.warning(finding.code, place, message),
        }
    }
    let (text, templates, at) = (text.to_owned(), inner.value.unwrap_or_default(), reader.sink.at(place));
    Some((Some(GroupFile { name, text, templates, at }), facts))
}

/// A value that is not `null`.
fn some(node: Option<&Arc<Node>>) -> Option<&Arc<Node>> {
    node.filter(|node| node.scalar(Dialect::Yaml12) != Some(crate::yaml::Scalar::Null))
}

fn optional(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>, key: &'static str) -> Option<String> {
    some(fields.get(key)).and_then(|node| reader.text(node, key)).map(str::to_owned)
}

fn required(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>, key: &'static str) -> Option<String> {
    let node = reader.required(fields, key)?;
    reader.name(node, key).map(str::to_owned)
}

/// The name within `key`, or the value of `flat`.
fn named(
    reader: &mut Reader<'_, '_>,
    fields: &mut Fields<'_>,
    key: &'static str,
    flat: &'static str,
) -> Option<String> {
    if let Some(node) = some(fields.get(key)) {
        let mut inner = reader.fields(node, "what a template names")?;
        skip(&mut inner, &["id"]);
        let name = required(reader, &mut inner, "name");
        reader.finish(inner);
        return name;
    }
    optional(reader, fields, flat).filter(|name| !name.is_empty())
}

fn medium_key(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>) -> MediumKey {
    let mut text = |key: &'static str| required(reader, fields, key).unwrap_or_default();
    MediumKey {
        distri: text("distri").to_lowercase(),
        version: text("version"),
        flavor: text("flavor"),
        arch: text("arch"),
    }
}

/// Settings as a list of `{key, value}`, or as a mapping.
pub(super) fn pairs(reader: &mut Reader<'_, '_>, node: Option<&Arc<Node>>) -> SettingsMap {
    let Some(node) = some(node) else { return SettingsMap::new() };
    if let Kind::Map(_) = &node.kind {
        return super::settings(reader, Some(node), Values::Any);
    }
    let mut all = SettingsMap::new();
    let mut once = Once::new();
    for node in reader.list(node, "settings") {
        let Some(mut fields) = reader.fields(node, "a setting") else { continue };
        skip(&mut fields, &["id"]);
        let key = required(reader, &mut fields, "key");
        let text = reader.required(&mut fields, "value");
        let text = text.and_then(|node| value(reader, node, "value", Values::Any));
        reader.finish(fields);
        let (Some(key), Some(text)) = (key, text) else { continue };
        super::setting_name(reader, &key, node.place);
        let message = || format!("the setting `{key}` is there twice");
        if once.add(reader.sink, key.clone(), node.place, message) {
            all.insert(key, text);
        }
    }
    all
}

/// The same tables as JSON, sorted, as `openqa-dump-templates --json` prints them.
pub fn dump(changes: &Changes) -> String {
    let settings = |all: &SettingsMap| -> Value {
        all.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
    };
    let machine =
        |it: &Machine| json!({ "name": it.name, "backend": it.backend, "settings": settings(&it.settings) });
    let product = |it: &Medium| {
        let mut all = key_json(&it.key);
        all["name"] = it.name.clone().into();
        all["settings"] = settings(&it.settings);
        all
    };
    let suite = |it: &Suite| {
        let description = if it.description.is_empty() { Value::Null } else { it.description.clone().into() };
        json!({ "name": it.name, "description": description, "settings": settings(&it.settings) })
    };
    let template = |Grouped { group, template, .. }: &Grouped| {
        let mut all = json!({
            "group_name": group,
            "machine": { "name": template.machine },
            "prio": template.priority,
            "product": key_json(&template.medium),
            "test_suite": { "name": template.suite.as_deref().unwrap_or("-") },
        });
        // openQA's own dumps never have these: there, only groups with YAML can.
        for (key, text) in [("name", &template.name), ("description", &template.description)] {
            if !text.is_empty() {
                all[key] = text.clone().into();
            }
        }
        if !template.settings.is_empty() {
            all["settings"] = settings(&template.settings);
        }
        all
    };
    let mut templates: Vec<&Grouped> = changes.templates.iter().collect();
    let sort = |it: &&Grouped| {
        let template = &it.template;
        let names = (template.suite.clone(), template.machine.clone(), template.name.clone());
        (it.group.clone(), names, template.medium.clone())
    };
    templates.sort_by_cached_key(sort);
    let all = json!({
        "Machines": changes.machines.iter().map(machine).collect::<Value>(),
        "Products": changes.media.iter().map(product).collect::<Value>(),
        "TestSuites": changes.suites.iter().map(suite).collect::<Value>(),
        "JobTemplates": templates.into_iter().map(template).collect::<Value>(),
        "JobGroups": groups(changes),
    });
    let mut text = format!("{all:#}");
    text.push('\n');
    text
}

/// Groups with what is said about them, by name; those with YAML with that.
fn groups(changes: &Changes) -> Value {
    let mut all: BTreeMap<&str, Value> = BTreeMap::new();
    for group in &changes.groups {
        all.insert(&group.name, json!({ "group_name": group.name, "template": group.text }));
    }
    for facts in &changes.facts {
        let mut own: serde_json::Map<_, _> =
            facts.numbers.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        let texts = [("parent_group", &facts.parent), ("description", &facts.description)];
        own.extend(texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), json!(text.as_ref()?)))));
        own.extend(facts.sort_order.map(|order| ("sort_order".to_owned(), json!(order))));
        let group = all.entry(&facts.name).or_insert_with(|| json!({ "group_name": facts.name }));
        group["properties"] = Value::Object(own);
    }
    all.into_values().collect()
}

fn key_json(key: &MediumKey) -> Value {
    json!({ "distri": key.distri, "version": key.version, "flavor": key.flavor, "arch": key.arch })
}
