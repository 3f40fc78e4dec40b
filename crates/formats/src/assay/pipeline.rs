//! Pipelines: their own words, or those of a built-in one with some of them replaced.

use super::{LANDINGS, RESERVED};
use crate::approval;
use crate::cron;
use crate::diagnostic::Sink;
use crate::read::{Fields, Reader, one_or_more};
use crate::yaml::{self, Dialect, Kind, Node};
use crate::zuul::trigger::{TIMER, ZUUL, approvals};
use assay_engine::gate::config::{
    EventKind, Growth, LandingWay, Manager, Messages, Pipeline, Precedence, ReportAction, Reporters,
    Requirements, Trigger, WindowConfig,
};
use assay_engine::gate::ids::SourceName;
use assay_engine::gate::pattern::Pattern;
use std::sync::Arc;

const BUILTIN: &str = include_str!("builtin.yaml");
const MANAGERS: [(&str, Manager); 4] = [
    ("independent", Manager::Independent),
    ("dependent", Manager::Dependent),
    ("supercedent", Manager::Supercedent),
    ("serial", Manager::Serial),
];
const PRECEDENCES: [(&str, Precedence); 3] =
    [("high", Precedence::High), ("normal", Precedence::Normal), ("low", Precedence::Low)];
/// Where changes come from unless said.
pub(super) const SOURCE: &str = "gerrit";
/// How mails go out unless said.
pub(super) const MAIL: &str = "smtp";
/// Where rows of results go unless said.
pub(super) const SQL: &str = "sql";

/// The pipelines that can be named without being described.
pub(super) struct Builtin(Vec<Arc<Node>>);

impl Builtin {
    pub(super) fn parse(sink: &mut Sink<'_>) -> Self {
        let file = sink.add_file("(built in)", BUILTIN);
        let root = yaml::parse(BUILTIN, file, yaml::Rules::plain(Dialect::Yaml12), sink);
        match root.map(|root| root.kind.clone()) {
            Some(Kind::List(nodes)) => Self(nodes),
            _ => Self(Vec::new()),
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|node| match &node.get("name")?.kind {
            Kind::Scalar { text, .. } => Some(&**text),
            _ => None,
        })
    }

    fn get(&self, reader: &mut Reader<'_, '_>, node: &Node) -> Option<&Node> {
        let name = reader.name(node, "template")?;
        let found = self.names().position(|known| known == name);
        if found.is_none() {
            let message = format!(
                "there is no built-in pipeline `{name}`; expected one, or a mapping that describes it"
            );
            reader.sink.unknown("unknown-pipeline", node.place, message, name, self.names());
        }
        self.0.get(found?).map(AsRef::as_ref)
    }
}

/// One entry of `pipelines`: the name of a built-in one, or a mapping.
pub(super) fn read(
    reader: &mut Reader<'_, '_>,
    node: &Node,
    builtin: &Builtin,
    landing: LandingWay,
) -> Option<Pipeline> {
    let described = match &node.kind {
        Kind::Scalar { .. } => builtin.get(reader, node)?,
        _ => node,
    };
    let mut fields = reader.fields(described, "a pipeline")?;
    if let Some(node) = fields.get("template") {
        fields = fields.with_base(builtin.get(reader, node)?);
    }
    let name = reader.required(&mut fields, "name").and_then(|node| reader.name(node, "name"));
    let manager = reader.required(&mut fields, "manager");
    let manager = manager.and_then(|node| reader.word(node, "manager", &MANAGERS));
    let mut text = |key| fields.get(key).and_then(|node| reader.text(node, key)).map(ToOwned::to_owned);
    let description = text("description");
    let source: SourceName = text("source").unwrap_or_else(|| SOURCE.to_owned()).into();
    let precedence = fields.get("precedence");
    let precedence = precedence.and_then(|node| reader.word(node, "precedence", &PRECEDENCES));
    let triggers = reader.required(&mut fields, "trigger").map(|node| one_or_more(node)).unwrap_or_default();
    let triggers = triggers.into_iter().filter_map(|node| trigger(reader, node, &source)).collect();
    let require = fields.get("require").map(|node| requirements(reader, node));
    let reject = approval::filters(reader, fields.get("reject"), "a rejected approval");
    let reporters = reporters(reader, &mut fields, &source);
    let messages = fields.get("messages").map(|node| messages(reader, node));
    let mut flag = |key| fields.get(key).and_then(|node| reader.boolean(node, key));
    let dequeue_on_new_patchset = flag("dequeue-on-new-patchset").unwrap_or(true);
    let ignore_dependencies = flag("ignore-dependencies").unwrap_or(false);
    let disable_after = fields.get("disable-after").and_then(|node| reader.number(node, "disable-after", 1));
    let window = fields.get("window").map(|node| window(reader, node));
    let way = fields.get("landing").and_then(|node| reader.word(node, "landing", &LANDINGS));
    let place = fields.place;
    reader.finish(fields);
    let name = name?;
    if RESERVED.contains(&name) {
        let message = format!("`{name}` is a key of projects; expected another name for a pipeline");
        reader.sink.error("name", place, message);
    }
    // An unknown one is said already; this one takes queues, so that nothing more is said because of it.
    let manager = manager.unwrap_or(Manager::Serial);
    let submits = |action: &ReportAction| matches!(action, ReportAction::Review { submit: true, .. });
    let landing = way.unwrap_or(landing);
    if manager == Manager::Dependent
        && landing == LandingWay::Submit
        && !reporters.success.iter().any(submits)
    {
        let message = "nothing that passes lands: no report of `success` has `submit: true`";
        reader.sink.warning("no-submit", place, message);
    }
    Some(Pipeline {
        name: name.into(),
        description,
        manager,
        source,
        precedence: precedence.unwrap_or_default(),
        triggers,
        require: require.unwrap_or_default(),
        reject,
        reporters,
        messages: messages.unwrap_or_default(),
        dequeue_on_new_patchset,
        ignore_dependencies,
        disable_after,
        window: window.unwrap_or_default(),
        queues: Vec::new(),
        landing,
    })
}

fn trigger(reader: &mut Reader<'_, '_>, node: &Node, source: &SourceName) -> Option<Trigger> {
    let mut fields = reader.fields(node, "a trigger")?;
    let mut trigger = Trigger::of(source.clone());
    trigger.events = fields.get("event").map(|node| events(reader, node)).unwrap_or_default();
    if let Some(node) = fields.get("time")
        && let Some(line) = reader.text(node, "time")
    {
        if let Err(why) = cron::check(line) {
            reader.sink.error("cron", node.place, format!("`time` is no cron line: {why}"));
        }
        trigger.time = Some(line.to_owned());
        trigger.source = TIMER.into();
        if trigger.events.is_empty() {
            trigger.events.extend(Pattern::new(EventKind::Timer.word()).ok());
        }
    }
    let ours = [EventKind::ProjectChangeMerged.word(), EventKind::ParentChangeEnqueued.word()];
    if !trigger.events.is_empty() && trigger.events.iter().all(|event| ours.contains(&event.as_str())) {
        trigger.source = ZUUL.into();
    }
    if let Some(node) = fields.get("source")
        && let Some(name) = reader.name(node, "source")
    {
        trigger.source = name.into();
    }
    trigger.branches = reader.patterns(fields.get("branch"), "branch");
    trigger.refs = reader.patterns(fields.get("ref"), "ref");
    trigger.comments = reader.patterns(fields.get("comment"), "comment");
    trigger.emails = reader.patterns(fields.get("email"), "email");
    trigger.usernames = reader.patterns(fields.get("username"), "username");
    trigger.pipelines = reader.patterns(fields.get("pipeline"), "pipeline");
    if let Some(node) = fields.get("ignore-deletes") {
        trigger.ignore_deletes = reader.boolean(node, "ignore-deletes").unwrap_or(true);
    }
    trigger.approvals = fields.get("approval").map(|node| approvals(reader, node)).unwrap_or_default();
    trigger.require = approval::filters(reader, fields.get("require"), "a required approval");
    trigger.reject = approval::filters(reader, fields.get("reject"), "a rejected approval");
    let refs = EventKind::RefUpdated.word();
    if !trigger.refs.is_empty() && !trigger.events.iter().any(|event| event.matches_start(refs)) {
        let message = "`ref` restricts an event that has none; expected it with `event: ref-updated`";
        reader.sink.error("misplaced-ref", node.place, message);
    }
    reader.finish(fields);
    Some(trigger)
}

/// Expressions for the words of events; each must fit one.
fn events(reader: &mut Reader<'_, '_>, node: &Node) -> Vec<Pattern> {
    let mut events = Vec::new();
    for node in one_or_more(node) {
        let Some(pattern) = reader.pattern(node, "event") else { continue };
        if !EventKind::ALL.iter().any(|kind| pattern.matches_start(kind.word())) {
            let word = pattern.as_str();
            let known = EventKind::ALL.iter().map(|kind| kind.word());
            reader.sink.unknown(
                "unknown-event",
                node.place,
                format!("there is no event `{word}`"),
                word,
                known,
            );
        }
        events.push(pattern);
    }
    events
}

fn requirements(reader: &mut Reader<'_, '_>, node: &Node) -> Requirements {
    let mut require = Requirements::default();
    let Some(mut fields) = reader.fields(node, "`require`") else { return require };
    require.approvals = approval::filters(reader, fields.get("approval"), "a required approval");
    let mut flag = |key| fields.get(key).and_then(|node| reader.boolean(node, key));
    require.open = flag("open");
    require.current_patchset = flag("current-patchset");
    let status = fields.get("status").map(|node| reader.texts(node, "status")).unwrap_or_default();
    require.status = status.into_iter().map(ToOwned::to_owned).collect();
    reader.finish(fields);
    require
}

fn reporters(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>, source: &SourceName) -> Reporters {
    let mut actions = |key| {
        let nodes = one_or_more(fields.get(key)?);
        let actions: Vec<ReportAction> =
            nodes.into_iter().filter_map(|node| action(reader, node, source)).collect();
        Some(actions)
    };
    Reporters {
        start: actions("start").unwrap_or_default(),
        success: actions("success").unwrap_or_default(),
        failure: actions("failure").unwrap_or_default(),
        merge_failure: actions("merge-failure"),
        disabled: actions("disabled").unwrap_or_default(),
    }
}

fn action(reader: &mut Reader<'_, '_>, node: &Node, pipeline_source: &SourceName) -> Option<ReportAction> {
    let mut fields = reader.fields(node, "a report")?;
    let (review, mail, sql) = (fields.get("review"), fields.get("mail"), fields.get("sql"));
    let source = fields.get("source").and_then(|node| reader.name(node, "source")).map(SourceName::from);
    let action = match (review, mail, sql) {
        (Some(labels), None, None) => {
            let submit = fields.get("submit").and_then(|node| reader.boolean(node, "submit"));
            let mut flags = Vec::new();
            if let Some(node) = fields.get("flags")
                && let Some(mut inner) = reader.fields(node, "`flags`")
            {
                for entry in inner.rest() {
                    let value = reader.text(&entry.value, &entry.key.text).unwrap_or_default();
                    flags.push((entry.key.text.to_string(), value.to_owned()));
                }
            }
            ReportAction::Review {
                source: source.unwrap_or_else(|| pipeline_source.clone()),
                labels: approvals(reader, labels),
                submit: submit.unwrap_or_default(),
                flags,
            }
        }
        (None, Some(to), None) => {
            let to = reader.text(to, "mail").unwrap_or_default().to_owned();
            let mut text =
                |key| fields.get(key).and_then(|node| reader.text(node, key)).map(ToOwned::to_owned);
            let (from, subject) = (text("from"), text("subject"));
            ReportAction::Mail { source: source.unwrap_or_else(|| MAIL.into()), from, to, subject }
        }
        (None, None, Some(score)) => {
            // `sql: {}` is a row without a score.
            let score = if matches!(score.kind, Kind::Map(_)) { None } else { reader.vote(score, "sql") };
            ReportAction::Sql { source: source.unwrap_or_else(|| SQL.into()), score }
        }
        _ => {
            let message = "expected exactly one of `review`, `mail` and `sql` in a report";
            reader.sink.error("report", node.place, message);
            return None;
        }
    };
    reader.finish(fields);
    Some(action)
}

fn messages(reader: &mut Reader<'_, '_>, node: &Node) -> Messages {
    let mut messages = Messages::default();
    let Some(mut fields) = reader.fields(node, "`messages`") else { return messages };
    for (key, message) in [
        ("success", &mut messages.success),
        ("failure", &mut messages.failure),
        ("merge-failure", &mut messages.merge_failure),
        ("footer", &mut messages.footer),
    ] {
        if let Some(text) = fields.get(key).and_then(|node| reader.text(node, key)) {
            text.clone_into(message);
        }
    }
    reader.finish(fields);
    messages
}

/// A number, or `{start, floor, ceiling, increase: {linear: 1}, decrease: {exponential: 2}}`.
fn window(reader: &mut Reader<'_, '_>, node: &Node) -> WindowConfig {
    let mut window = WindowConfig::default();
    if matches!(node.kind, Kind::Scalar { .. }) {
        window.start = reader.number(node, "window", 0).unwrap_or(window.start);
        return window;
    }
    let Some(mut fields) = reader.fields(node, "`window`") else { return window };
    let mut number = |key, least| fields.get(key).and_then(|node| reader.number(node, key, least));
    window.start = number("start", 0).unwrap_or(window.start);
    window.floor = number("floor", 1).unwrap_or(window.floor);
    window.ceiling = number("ceiling", 1);
    for (key, growth) in [("increase", &mut window.increase), ("decrease", &mut window.decrease)] {
        let Some(node) = fields.get(key) else { continue };
        let Some(mut inner) = reader.fields(node, "the growth of a window") else { continue };
        let linear = inner.get("linear").and_then(|node| reader.number(node, "linear", 1));
        let exponential = inner.get("exponential").and_then(|node| reader.number(node, "exponential", 1));
        reader.finish(inner);
        match (linear, exponential) {
            (Some(by), None) => *growth = Growth::Linear(by),
            (None, Some(by)) => *growth = Growth::Exponential(by),
            _ => {
                let message = format!("`{key}`: expected {{linear: N}} or {{exponential: N}}");
                reader.sink.error("window", node.place, message);
            }
        }
    }
    if window.ceiling.is_some_and(|ceiling| ceiling < window.floor) {
        reader.sink.error("window", node.place, "the window's ceiling is below its floor");
    }
    reader.finish(fields);
    window
}

/// The word of a manager.
pub(super) fn word_of(manager: Manager) -> &'static str {
    MANAGERS.iter().find(|(_, value)| *value == manager).map_or("independent", |(word, _)| word)
}

/// The word of a precedence.
pub(super) fn precedence_word(precedence: Precedence) -> &'static str {
    PRECEDENCES.iter().find(|(_, value)| *value == precedence).map_or("normal", |(word, _)| word)
}
