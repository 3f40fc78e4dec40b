//! What lets changes into a pipeline.

use crate::approval;
use crate::cron;
use crate::read::{Fields, Reader, one_or_more};
use crate::yaml::Node;
use assay_engine::gate::config::{EventKind, Trigger};
use assay_engine::gate::pattern::Pattern;

/// The source of timers.
pub(crate) const TIMER: &str = "timer";
/// The source of what the gate itself does.
pub(crate) const ZUUL: &str = "zuul";

/// What Gerrit tells of.
const GERRIT_EVENTS: [EventKind; 7] = [
    EventKind::PatchsetCreated,
    EventKind::DraftPublished,
    EventKind::ChangeAbandoned,
    EventKind::ChangeRestored,
    EventKind::ChangeMerged,
    EventKind::CommentAdded,
    EventKind::RefUpdated,
];
const ZUUL_EVENTS: [EventKind; 2] = [EventKind::ParentChangeEnqueued, EventKind::ProjectChangeMerged];

/// The triggers of a pipeline: by connection, each a mapping or a list of them.
pub(super) fn read(reader: &mut Reader<'_, '_>, node: &Node) -> Vec<Trigger> {
    let Some(mut fields) = reader.fields(node, "a trigger") else { return Vec::new() };
    let mut triggers = Vec::new();
    for entry in fields.rest() {
        let source = &*entry.key.text;
        for node in one_or_more(&entry.value) {
            triggers.extend(match source {
                TIMER => timer(reader, node),
                ZUUL => zuul(reader, node),
                _ => gerrit(reader, node, source),
            });
        }
    }
    triggers
}

fn gerrit(reader: &mut Reader<'_, '_>, node: &Node, source: &str) -> Option<Trigger> {
    let mut fields = reader.fields(node, "a Gerrit trigger")?;
    let mut trigger = Trigger::of(source.into());
    trigger.events = events(reader, &mut fields, &GERRIT_EVENTS);
    trigger.branches = reader.patterns(fields.get("branch"), "branch");
    let refs = fields.get("ref");
    trigger.refs = reader.patterns(refs, "ref");
    if let Some(node) = refs
        && !trigger.refs.is_empty()
        && trigger.events.iter().any(|event| event.as_str() != EventKind::RefUpdated.word())
    {
        let message = "`ref` restricts an event that has none; expected it with `event: ref-updated` only";
        reader.sink.error("misplaced-ref", node.place, message);
    }
    trigger.comments = renamed(reader, &mut fields, "comment", "comment_filter");
    for pattern in trigger.comments.iter().filter(|pattern| misses_the_head(pattern.as_str())) {
        let message = format!(
            "`{}` fits at the beginning of a comment only, where Gerrit since 2.9 writes `Patch Set N:`; expected (?m) at its \
             beginning if a line of the comment is meant",
            pattern.as_str()
        );
        reader.sink.note("comment-head", node.place, message);
    }
    trigger.emails = renamed(reader, &mut fields, "email", "email_filter");
    trigger.usernames = renamed(reader, &mut fields, "username", "username_filter");
    if let Some(node) = fields.get("ignore-deletes") {
        trigger.ignore_deletes = reader.boolean(node, "ignore-deletes").unwrap_or(true);
    }
    if let Some(node) = fields.get("approval") {
        trigger.approvals = approvals(reader, node);
    }
    requirements(reader, &mut fields, &mut trigger);
    reader.finish(fields);
    Some(trigger)
}

fn timer(reader: &mut Reader<'_, '_>, node: &Node) -> Option<Trigger> {
    let mut fields = reader.fields(node, "a timer")?;
    let mut trigger = Trigger::of(TIMER.into());
    trigger.events.extend(Pattern::new(EventKind::Timer.word()).ok());
    if let Some(node) = reader.required(&mut fields, "time")
        && let Some(text) = reader.text(node, "time")
    {
        let (line, changed) = cron::from_zuul(text);
        if changed {
            let message = format!(
                "Zuul counts the days of the week from Monday as 0, cron from Sunday; read as `{line}`"
            );
            reader.sink.note("weekday", node.place, message);
        }
        if let Err(why) = cron::check(&line) {
            reader.sink.error("cron", node.place, format!("`time` is no cron line: {why}"));
        }
        trigger.time = Some(line);
    }
    reader.finish(fields);
    Some(trigger)
}

fn zuul(reader: &mut Reader<'_, '_>, node: &Node) -> Option<Trigger> {
    let mut fields = reader.fields(node, "a Zuul trigger")?;
    let mut trigger = Trigger::of(ZUUL.into());
    trigger.events = events(reader, &mut fields, &ZUUL_EVENTS);
    let pipelines = fields.get("pipeline");
    trigger.pipelines = reader.patterns(pipelines, "pipeline");
    let merged = EventKind::ProjectChangeMerged.word();
    if let Some(node) = pipelines
        && !trigger.events.is_empty()
        && trigger.events.iter().all(|event| event.as_str() == merged)
    {
        let message =
            format!("`pipeline` has no meaning for {merged}; expected it with parent-change-enqueued");
        reader.sink.warning("misplaced-pipeline", node.place, message);
    }
    requirements(reader, &mut fields, &mut trigger);
    reader.finish(fields);
    Some(trigger)
}

/// True for an expression of the beginning of a comment that does not know what Gerrit puts there.
fn misses_the_head(pattern: &str) -> bool {
    let (flags, rest) = match pattern.strip_prefix("(?").and_then(|rest| rest.split_once(')')) {
        Some((flags, rest)) if flags.chars().all(|flag| flag.is_ascii_alphabetic()) => (flags, rest),
        _ => ("", pattern),
    };
    // What begins with anything at all knows it.
    let anything =
        ["^.*", "^[\\s\\S]*", "^[\\S\\s]*", "^(.|\\n)*"].iter().any(|begin| rest.starts_with(begin));
    rest.starts_with('^') && !flags.contains('m') && !anything && !rest.to_lowercase().contains("patch")
}

fn requirements(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>, trigger: &mut Trigger) {
    trigger.require = approval::filters(reader, fields.get("require-approval"), "a required approval");
    trigger.reject = approval::filters(reader, fields.get("reject-approval"), "a rejected approval");
}

/// A key that once had another name.
fn renamed(
    reader: &mut Reader<'_, '_>,
    fields: &mut Fields<'_>,
    key: &'static str,
    old: &'static str,
) -> Vec<Pattern> {
    let (new, old_node) = (fields.get(key), fields.get(old));
    if let (Some(_), Some(node)) = (new, old_node) {
        reader.sink.warning("superseded-key", node.place, format!("`{old}` does not count beside `{key}`"));
    }
    reader.patterns(new.or(old_node), key)
}

fn events(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>, kinds: &[EventKind]) -> Vec<Pattern> {
    let Some(node) = reader.required(fields, "event") else { return Vec::new() };
    let words: Vec<(&str, EventKind)> = kinds.iter().map(|kind| (kind.word(), *kind)).collect();
    let nodes = one_or_more(node);
    if nodes.is_empty() {
        reader.expected(node, "event", "an event, or a list of them");
    }
    let kinds = nodes.into_iter().filter_map(|node| reader.word(node, "event", &words));
    kinds.filter_map(|kind| Pattern::new(kind.word()).ok()).collect()
}

/// `{Label: value}` or a list of them: votes that the event carries.
pub(crate) fn approvals(reader: &mut Reader<'_, '_>, node: &Node) -> Vec<(String, i32)> {
    let mut pairs = Vec::new();
    for node in one_or_more(node) {
        let Some(mut fields) = reader.fields(node, "an approval") else { continue };
        for entry in fields.rest() {
            if let Some(vote) = reader.vote(&entry.value, &entry.key.text) {
                pairs.push((entry.key.text.to_string(), vote));
            }
        }
    }
    pairs
}
