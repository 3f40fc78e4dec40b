//! Rules for events, in YAML (`docs/events.md`).

use crate::diagnostic::{Diagnostic, Place, Sink};
use crate::hash;
use crate::read::{Fields, Reader, one_or_more};
use crate::yaml::{self, Dialect, Kind, Node};
use assay_engine::rules::{
    Action, Batch, Cond, Expr, FanOut, Glob, ItemTemplate, Once, RegexTest, ResultTemplate, Rule, RuleSet,
    Template, Test, TopicPattern, UpdateTemplate,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What was read.
#[derive(Debug, Clone)]
pub struct LoadedRules {
    /// None if there is an error.
    pub rules: Option<RuleSet>,
    /// Everything that was found, in the order of the files.
    pub diagnostics: Vec<Diagnostic>,
}

/// Names in rules that stand for others.
type Lists = BTreeMap<String, Vec<String>>;

/// Reads the files of a set of rules: names and texts.
pub fn load(sources: &[(&str, &str)]) -> LoadedRules {
    let mut sink = Sink::default();
    let mut roots = Vec::new();
    for (name, text) in sources {
        let file = sink.add_file(name, text);
        roots.extend(yaml::parse(text, file, yaml::Rules::plain(Dialect::Yaml12), &mut sink));
    }
    let mut reader = Reader::new(&mut sink, Dialect::Yaml12);
    let (mut lists, mut nodes) = (Lists::new(), Vec::new());
    for root in &roots {
        let Some(mut fields) = reader.fields(root, "a file of rules") else { continue };
        if let Some(node) = fields.get("lists") {
            read_lists(&mut reader, node, &mut lists);
        }
        if let Some(node) = fields.get("rules") {
            nodes.extend(reader.list(node, "rules"));
        }
        reader.finish(fields);
    }
    let mut rules: Vec<Arc<Rule>> = Vec::new();
    let mut names = BTreeSet::new();
    for node in nodes {
        let Some(rule) = read_rule(&mut reader, node, &lists) else { continue };
        if !names.insert(rule.name.clone()) {
            let message = format!("the rule `{}` is there twice; expected it once", rule.name);
            reader.sink.error("duplicate-name", node.place, message);
        }
        rules.push(Arc::new(rule));
    }
    let hash = hash::of_sources(sources.iter().copied());
    let rules = (!sink.has_errors()).then_some(RuleSet { rules, hash });
    LoadedRules { rules, diagnostics: sink.finish() }
}

fn read_lists(reader: &mut Reader<'_, '_>, node: &Node, lists: &mut Lists) {
    let Some(mut fields) = reader.fields(node, "`lists`") else { return };
    for entry in fields.rest() {
        let values = reader.texts(&entry.value, &entry.key.text);
        let values = values.into_iter().map(str::to_owned).collect();
        if lists.insert(entry.key.text.to_string(), values).is_some() {
            let message = format!("the list `{}` is there twice; expected it once", entry.key.text);
            reader.sink.error("duplicate-name", entry.key.place, message);
        }
    }
}

fn read_rule(reader: &mut Reader<'_, '_>, node: &Node, lists: &Lists) -> Option<Rule> {
    let mut fields = reader.fields(node, "a rule")?;
    let name = reader.required(&mut fields, "name").and_then(|node| reader.name(node, "name"));
    if let Some(name) = name
        && (name.len() > 100 || name.contains(['/', '\n']))
    {
        let message = "`name`: expected at most 100 bytes without a slash or a line break";
        reader.sink.error("name", fields.place, message);
    }
    let description = fields.get("description").and_then(|node| reader.text(node, "description"));
    let enabled = fields.get("enabled").and_then(|node| reader.boolean(node, "enabled"));
    let when = reader.required(&mut fields, "when").map(|node| cond(reader, node, lists));
    let (each, only) = match fields.get("for-each") {
        Some(node) => for_each(reader, node, lists),
        None => (None, None),
    };
    let item = fields.get("item").and_then(|node| item(reader, node));
    let fan_out = fields.get("fan-out").map(|node| fan_out(reader, node)).unwrap_or_default();
    let once = fields
        .get("once")
        .and_then(|node| reader.word(node, "once", &[("item", Once::Item), ("event", Once::Event)]));
    let batch = fields.get("batch").and_then(|node| batch(reader, node));
    let limit = fields.get("limit").and_then(|node| reader.number(node, "limit", 1));
    let run = reader.required(&mut fields, "run");
    let run: Vec<Action> = run
        .map(|node| one_or_more(node))
        .unwrap_or_default()
        .into_iter()
        .filter_map(|node| action(reader, node))
        .collect();
    check_names(reader, fields.place, each.as_ref(), item.as_ref(), &fan_out, batch.as_ref(), &run);
    if batch.is_some() && run.iter().any(|action| matches!(action, Action::Result(_))) {
        let message = "a rule with `result` has no `batch`: each message tells a result of its own";
        reader.sink.error("batch", fields.place, message);
    }
    let place = reader.sink.show(fields.place);
    reader.finish(fields);
    Some(Rule {
        name: name?.to_owned(),
        description: description.unwrap_or_default().to_owned(),
        place,
        enabled: enabled.unwrap_or(true),
        when: when?,
        each,
        only,
        item,
        fan_out,
        once: once.unwrap_or_default(),
        batch,
        limit,
        run,
    })
}

/// Names that expressions begin with are those of a message, or of the fan-out.
fn check_names(
    reader: &mut Reader<'_, '_>,
    place: Place,
    each: Option<&Expr>,
    item: Option<&ItemTemplate>,
    fan_out: &[(String, FanOut)],
    batch: Option<&Batch>,
    run: &[Action],
) {
    const OF_MESSAGE: [&str; 6] = ["topic", "source", "id", "headers", "body", "item"];
    let mut known: Vec<&str> = OF_MESSAGE.to_vec();
    let mut check = |expr: &Expr, known: &[&str]| {
        if !known.contains(&expr.root()) {
            let message = format!("{{{expr}}}: there is no `{}`", expr.root());
            reader.sink.unknown("unknown-name", place, message, expr.root(), known.iter().copied());
        }
    };
    if let Some(expr) = each {
        check(expr, &known);
    }
    known.push("each");
    let of_item = item.into_iter().flat_map(|item| [&item.kind, &item.id, &item.revision]);
    of_item.flat_map(Template::exprs).for_each(|expr| check(expr, &known));
    for (_, values) in fan_out {
        if let FanOut::Of(expr) = values {
            check(expr, &known);
        }
    }
    let roots = known.clone();
    known.extend(fan_out.iter().map(|(name, _)| name.as_str()));
    batch.into_iter().flat_map(|batch| batch.by.exprs()).for_each(|expr| check(expr, &known));
    let templates = run.iter().flat_map(|action| -> Vec<&Template> {
        match action {
            Action::Job { settings, .. } | Action::Task { settings, .. } | Action::Product { settings } => {
                settings.values().collect()
            }
            Action::Pipeline { project, branch, .. } => vec![project, branch],
            Action::Compose { location, force } => vec![location, force],
            Action::Update(update) => {
                let UpdateTemplate { id, release, builds, groups, critpath, automatic, force } = &**update;
                vec![id, release, builds, groups, critpath, automatic, force]
            }
            Action::Result(result) => {
                let ResultTemplate { testcase, outcome, outcomes: _, source, note, ref_url, data } =
                    &**result;
                let optional = [source, note, ref_url].into_iter().flatten();
                [testcase, outcome].into_iter().chain(optional).chain(data.values()).collect()
            }
        }
    });
    templates.flat_map(Template::exprs).for_each(|expr| check(expr, &known));
    for (name, _) in fan_out {
        if roots.contains(&name.as_str()) {
            let message = format!("fan-out `{name}` hides what the message has under that name");
            reader.sink.error("name", place, message);
        }
    }
}

fn expr_of(reader: &mut Reader<'_, '_>, text: &str, place: Place) -> Option<Expr> {
    match Expr::parse(text) {
        Ok(expr) => Some(expr),
        Err(error) => {
            reader.sink.error("expression", place, format!("`{text}`: {error}"));
            None
        }
    }
}

fn expr(reader: &mut Reader<'_, '_>, node: &Node, what: &str) -> Option<Expr> {
    let text = reader.name(node, what)?;
    expr_of(reader, text, node.place)
}

fn template(reader: &mut Reader<'_, '_>, node: &Node, what: &str) -> Option<Template> {
    let text = reader.text(node, what)?;
    match Template::parse(text) {
        Ok(template) => Some(template),
        Err(error) => {
            reader.sink.error("expression", node.place, format!("`{what}`: {error}"));
            None
        }
    }
}

/// A mapping, all of which has to be so. What cannot be read is met by nothing; it is an error all the same.
fn cond(reader: &mut Reader<'_, '_>, node: &Node, lists: &Lists) -> Cond {
    let Some(mut fields) = reader.fields(node, "a condition") else { return Cond::Any(Vec::new()) };
    let mut all = Vec::new();
    for entry in fields.rest() {
        let value = &entry.value;
        let conds = |reader: &mut Reader<'_, '_>| {
            one_or_more(value).into_iter().map(|node| cond(reader, node, lists)).collect::<Vec<_>>()
        };
        all.push(match &*entry.key.text {
            "all" => Cond::All(conds(reader)),
            "any" => Cond::Any(conds(reader)),
            "not" => Cond::Not(Box::new(Cond::All(conds(reader)))),
            "topic" if !matches!(value.kind, Kind::Map(_)) => {
                let patterns = reader.texts(value, "topic");
                Cond::Topic(patterns.into_iter().map(TopicPattern::new).collect())
            }
            text => {
                let (expr, test) = (expr_of(reader, text, entry.key.place), test(reader, value, text, lists));
                match (expr, test) {
                    (Some(expr), Some(test)) => Cond::Field { expr, test, line: entry.key.place.line },
                    _ => Cond::Any(Vec::new()),
                }
            }
        });
    }
    Cond::All(all)
}

fn test(reader: &mut Reader<'_, '_>, node: &Node, what: &str, lists: &Lists) -> Option<Test> {
    let Kind::Map(entries) = &node.kind else {
        let texts = reader.texts(node, what);
        return Some(Test::OneOf(texts.into_iter().map(str::to_owned).collect()));
    };
    let mut fields = reader.fields(node, "a test")?;
    let mut tests = Vec::new();
    if let Some(node) = fields.get("is") {
        tests.extend(test(reader, node, "is", lists));
    }
    for (key, make) in [
        ("regex", (|text| RegexTest::new(text).map(Test::Regex)) as fn(&str) -> Result<Test, String>),
        ("glob", |text| Glob::new(text).map(Test::Glob)),
    ] {
        let Some(node) = fields.get(key) else { continue };
        let Some(text) = reader.text(node, key) else { continue };
        match make(text) {
            Ok(test) => tests.push(test),
            Err(why) => {
                let why = why.lines().last().unwrap_or_default().trim().to_owned();
                let message =
                    format!("`{key}` cannot be read: {why}; look-around and back-references are not there");
                reader.sink.error("regex", node.place, message);
            }
        }
    }
    if let Some(node) = fields.get("exists") {
        tests.extend(reader.boolean(node, "exists").map(Test::Exists));
    }
    for (key, make) in [("at-least", Test::Least as fn(i64) -> Test), ("at-most", Test::Most)] {
        if let Some(node) = fields.get(key) {
            tests.extend(reader.vote(node, key).map(|number| make(i64::from(number))));
        }
    }
    if let Some(node) = fields.get("in") {
        for name in reader.texts(node, "in") {
            if let Some(values) = lists.get(name) {
                tests.push(Test::OneOf(values.clone()));
            } else {
                let message = format!("there is no list `{name}`");
                reader.sink.unknown(
                    "unknown-list",
                    node.place,
                    message,
                    name,
                    lists.keys().map(String::as_str),
                );
            }
        }
    }
    if let Some(node) = fields.get("not") {
        tests.extend(test(reader, node, "not", lists).map(|test| Test::Not(Box::new(test))));
    }
    let place = fields.place;
    reader.finish(fields);
    match tests.len() {
        // Of what cannot be read is said why.
        0 if !entries.is_empty() => None,
        0 => {
            let message = format!(
                "`{what}` has no test; expected is, regex, glob, exists, in, at-least, at-most or not"
            );
            reader.sink.error("no-test", place, message);
            None
        }
        1 => tests.pop(),
        _ => Some(Test::All(tests)),
    }
}

fn for_each(reader: &mut Reader<'_, '_>, node: &Node, lists: &Lists) -> (Option<Expr>, Option<Cond>) {
    if !matches!(node.kind, Kind::Map(_)) {
        return (expr(reader, node, "for-each"), None);
    }
    let Some(mut fields) = reader.fields(node, "`for-each`") else { return (None, None) };
    let each = reader.required(&mut fields, "in").and_then(|node| expr(reader, node, "in"));
    let only = fields.get("where").map(|node| cond(reader, node, lists));
    reader.finish(fields);
    (each, only)
}

fn item(reader: &mut Reader<'_, '_>, node: &Node) -> Option<ItemTemplate> {
    let mut fields = reader.fields(node, "`item`")?;
    let kind = reader.required(&mut fields, "type").and_then(|node| template(reader, node, "type"));
    let id = reader.required(&mut fields, "id").and_then(|node| template(reader, node, "id"));
    let revision = fields.get("revision").map(|node| template(reader, node, "revision"));
    reader.finish(fields);
    Some(ItemTemplate {
        kind: kind?,
        id: id?,
        revision: revision.unwrap_or_else(|| Some(Template::default()))?,
    })
}

fn fan_out(reader: &mut Reader<'_, '_>, node: &Node) -> Vec<(String, FanOut)> {
    let Some(mut fields) = reader.fields(node, "`fan-out`") else { return Vec::new() };
    let mut all = Vec::new();
    for entry in fields.rest() {
        let name = entry.key.text.to_string();
        if matches!(entry.value.kind, Kind::List(_)) {
            let values = reader.texts(&entry.value, &name).into_iter().map(str::to_owned).collect();
            all.push((name, FanOut::Values(values)));
        } else if let Some(expr) = expr(reader, &entry.value, &name) {
            all.push((name, FanOut::Of(expr)));
        }
    }
    all
}

fn batch(reader: &mut Reader<'_, '_>, node: &Node) -> Option<Batch> {
    let mut fields = reader.fields(node, "`batch`")?;
    let window = reader.required(&mut fields, "window").and_then(|node| duration(reader, node, "window"));
    let by = match fields.get("by") {
        Some(node) => template(reader, node, "by")?,
        None => Template::default(),
    };
    reader.finish(fields);
    Some(Batch { window: window?, by })
}

/// `15m`: microseconds.
fn duration(reader: &mut Reader<'_, '_>, node: &Node, what: &str) -> Option<i64> {
    let text = reader.text(node, what)?;
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit.trim() {
        "" | "s" => Some(1),
        "m" | "min" => Some(60),
        "h" => Some(3_600),
        "d" => Some(86_400),
        _ => None,
    };
    let value = number
        .parse::<i64>()
        .ok()
        .zip(seconds)
        .and_then(|(number, unit)| number.checked_mul(unit))
        .filter(|seconds| (1..=30 * 86_400).contains(seconds));
    if value.is_none() {
        let message = format!("`{what}` is `{text}`; expected a time such as 30s, 15m or 2h, at most 30d");
        reader.sink.error("duration", node.place, message);
    }
    value.map(|seconds| seconds * 1_000_000)
}

fn settings(
    reader: &mut Reader<'_, '_>,
    node: &Node,
    what: &'static str,
    needed: &[&str],
) -> BTreeMap<String, Template> {
    let Some(mut fields) = reader.fields(node, what) else { return BTreeMap::new() };
    let mut all = BTreeMap::new();
    let entries = fields.rest();
    let named = |key: &str| entries.iter().any(|entry| entry.key.text.eq_ignore_ascii_case(key));
    for entry in &entries {
        if let Some(template) = template(reader, &entry.value, &entry.key.text) {
            all.insert(entry.key.text.to_uppercase(), template);
        }
    }
    for key in needed.iter().filter(|key| !named(key)) {
        reader.sink.error("missing-key", node.place, format!("{what} needs the setting {key}"));
    }
    all
}

fn action(reader: &mut Reader<'_, '_>, node: &Node) -> Option<Action> {
    let mut fields = reader.fields(node, "an entry of `run`")?;
    let priority = fields.get("priority").and_then(|node| reader.vote(node, "priority"));
    let mut found = Vec::new();
    if let Some(node) = fields.get("job") {
        found.push(Action::Job { settings: settings(reader, node, "a job", &["TEST"]), priority });
    }
    if let Some(node) = fields.get("task") {
        found.extend(task(reader, node, priority));
    }
    if let Some(node) = fields.get("product") {
        let needed = ["DISTRI", "VERSION", "FLAVOR", "ARCH"];
        found.push(Action::Product { settings: settings(reader, node, "a product", &needed) });
    }
    if let Some(node) = fields.get("pipeline") {
        found.extend(pipeline(reader, node));
    }
    if let Some(node) = fields.get("compose") {
        let mut inner = reader.fields(node, "`compose`")?;
        let (location, force) = (one(reader, &mut inner, "location"), perhaps(reader, &mut inner, "force"));
        reader.finish(inner);
        found.push(Action::Compose { location: location?, force: force? });
    }
    if let Some(node) = fields.get("update") {
        found.extend(update(reader, node).map(|update| Action::Update(Box::new(update))));
    }
    if let Some(node) = fields.get("result") {
        found.extend(result(reader, node).map(|result| Action::Result(Box::new(result))));
    }
    let place = fields.place;
    reader.finish(fields);
    if found.len() != 1 {
        let message = "an entry of `run` has one of job, task, product, pipeline, compose, update and result";
        reader.sink.error("no-action", place, message);
    }
    found.pop()
}

/// `task: NAME`, or a mapping that says more about it: a job's settings, with names of their own.
fn task(reader: &mut Reader<'_, '_>, node: &Node, priority: Option<i32>) -> Option<Action> {
    const WORDS: [(&str, &str); 7] = [
        ("builds", "NVRS"),
        ("baseline", "BASELINE"),
        ("baseline-tag", "BASELINE_TAG"),
        ("arch", "ARCH"),
        ("ref", "TASK_REF"),
        ("path", "TASK_PATH"),
        ("machine", "TASK_MACHINE"),
    ];
    let (name, mut settings) = if matches!(node.kind, Kind::Map(_)) {
        let mut fields = reader.fields(node, "`task`")?;
        let name = reader.required(&mut fields, "name").and_then(|node| reader.name(node, "name"));
        let mut settings = match fields.get("settings") {
            Some(node) => settings(reader, node, "`settings`", &[]),
            None => BTreeMap::new(),
        };
        for (word, key) in WORDS {
            let Some(node) = fields.get(word) else { continue };
            settings.extend(template(reader, node, word).map(|template| (key.to_owned(), template)));
        }
        if let Some(node) = fields.get("repositories") {
            let text = repositories(reader, node);
            settings.extend(text.map(|template| ("REPOSITORIES".to_owned(), template)));
        }
        if let Some(mut inputs) = fields.get("inputs").and_then(|node| reader.fields(node, "`inputs`")) {
            for entry in inputs.rest() {
                let key = format!("INPUT_{}", entry.key.text.to_uppercase());
                let value = template(reader, &entry.value, &entry.key.text);
                settings.extend(value.map(|template| (key, template)));
            }
        }
        reader.finish(fields);
        (name?, settings)
    } else {
        (reader.name(node, "task")?, BTreeMap::new())
    };
    // The name of the job: of an address, its last word.
    let test = name.trim_end_matches('/').rsplit('/').next().unwrap_or(name);
    let test = test.strip_suffix(".git").unwrap_or(test);
    let item = Template::parse("{item.id}").ok()?;
    for (key, value) in [("TEST", Template::plain(test)), ("BUILD", item)] {
        settings.entry(key.to_owned()).or_insert(value);
    }
    for (key, value) in [("BACKEND", "task"), ("TASK", name)] {
        settings.insert(key.to_owned(), Template::plain(value));
    }
    Some(Action::Task { name: name.to_owned(), settings, priority })
}

/// `NAME: ADDRESS` of each, or as the setting has it.
fn repositories(reader: &mut Reader<'_, '_>, node: &Node) -> Option<Template> {
    if !matches!(node.kind, Kind::Map(_)) {
        return template(reader, node, "repositories");
    }
    let mut fields = reader.fields(node, "`repositories`")?;
    let mut words = Vec::new();
    for entry in fields.rest() {
        let address = reader.text(&entry.value, &entry.key.text).unwrap_or_default();
        words.push(format!("{}={address}", entry.key.text));
    }
    match Template::parse(&words.join(" ")) {
        Ok(template) => Some(template),
        Err(error) => {
            reader.sink.error("expression", node.place, format!("`repositories`: {error}"));
            None
        }
    }
}

fn one(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>, key: &'static str) -> Option<Template> {
    reader.required(fields, key).and_then(|node| template(reader, node, key))
}

/// A text that may be left out, and is empty then. None if it cannot be read.
fn perhaps(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>, key: &'static str) -> Option<Template> {
    match fields.get(key) {
        Some(node) => template(reader, node, key),
        None => Some(Template::default()),
    }
}

fn pipeline(reader: &mut Reader<'_, '_>, node: &Node) -> Option<Action> {
    let mut fields = reader.fields(node, "`pipeline`")?;
    let name = reader.required(&mut fields, "name").and_then(|node| reader.name(node, "name"));
    let (project, branch) = (one(reader, &mut fields, "project"), one(reader, &mut fields, "branch"));
    reader.finish(fields);
    Some(Action::Pipeline { pipeline: name?.to_owned(), project: project?, branch: branch? })
}

fn result(reader: &mut Reader<'_, '_>, node: &Node) -> Option<ResultTemplate> {
    let mut fields = reader.fields(node, "`result`")?;
    let (testcase, outcome) = (one(reader, &mut fields, "testcase"), one(reader, &mut fields, "outcome"));
    let mut optional = |key: &'static str| fields.get(key).and_then(|node| template(reader, node, key));
    let (source, note, ref_url) = (optional("source"), optional("note"), optional("ref-url"));
    let mut outcomes = BTreeMap::new();
    if let Some(mut inner) = fields.get("outcomes").and_then(|node| reader.fields(node, "`outcomes`")) {
        for entry in inner.rest() {
            let word = reader.name(&entry.value, &entry.key.text).map(str::to_uppercase);
            outcomes.extend(word.map(|word| (entry.key.text.to_string(), word)));
        }
    }
    let mut data = BTreeMap::new();
    if let Some(mut inner) = fields.get("data").and_then(|node| reader.fields(node, "`data`")) {
        for entry in inner.rest() {
            let key = &entry.key.text;
            if key.contains(':') || ["item", "type", "source"].contains(&&**key) {
                let message = format!(
                    "`{key}` cannot be said here: item and type are the rule's `item`, `source` has a key of \
                                       its own, and a key has no colon"
                );
                reader.sink.error("data", entry.key.place, message);
            }
            data.extend(template(reader, &entry.value, key).map(|value| (key.to_string(), value)));
        }
    }
    reader.finish(fields);
    Some(ResultTemplate { testcase: testcase?, outcome: outcome?, outcomes, source, note, ref_url, data })
}

fn update(reader: &mut Reader<'_, '_>, node: &Node) -> Option<UpdateTemplate> {
    let mut fields = reader.fields(node, "`update`")?;
    let (id, release) = (one(reader, &mut fields, "id"), one(reader, &mut fields, "release"));
    let mut other = |key: &'static str| perhaps(reader, &mut fields, key);
    let (builds, groups, critpath) = (other("builds"), other("groups"), other("critpath"));
    let (automatic, force) = (other("automatic"), other("force"));
    reader.finish(fields);
    Some(UpdateTemplate {
        id: id?,
        release: release?,
        builds: builds?,
        groups: groups?,
        critpath: critpath?,
        automatic: automatic?,
        force: force?,
    })
}
