//! Jobs.

use super::task;
use crate::read::{Fields, Reader, one_or_more};
use crate::yaml::{Key, Node};
use crate::zuul::job::skip_ifs;
use assay_engine::gate::config::JobDef;

/// One entry of `jobs` on top of what is known of the job already: what it does not say stays. What is wrong with it is
/// said and left as it was.
pub(super) fn read(reader: &mut Reader<'_, '_>, key: &Key, node: &Node, known: JobDef) -> JobDef {
    let mut job = known;
    // A job's name, or an expression for many.
    if key.text.is_empty() || key.text.contains(char::is_whitespace) && !key.text.starts_with('^') {
        let message = format!("the job's name `{}` is empty or holds blanks; expected none", key.text);
        reader.sink.error("name", key.place, message);
    }
    let Some(mut fields) = reader.fields(node, "a job") else { return job };
    gating(reader, &mut fields, &mut job);
    let imported = fields.get("imported").and_then(|node| reader.boolean(node, "imported")).unwrap_or(false);
    let env = task::variables(reader, &mut fields);
    let checkouts = task::checkouts(reader, &mut fields);
    job.projects = checkouts.iter().map(|checkout| checkout.name.as_str().into()).collect();
    // What a task sets itself wins over what a parameter function does.
    job.env.retain(|name, _| !env.contains_key(name));
    let read = task::read(reader, &mut fields, &job, &env, &checkouts);
    let elsewhere =
        checkouts.iter().any(task::Checkout::is_elsewhere).then_some("`branch` or `tree: old` of a project");
    // Nobody knows here what an imported job depends on.
    let elsewhere = elsewhere.or_else(|| imported.then_some("`imported`"));
    let beside = elsewhere.or_else(|| task::depends_on(read.as_deref()?));
    if let Some(what) = beside.filter(|_| job.hermetic) {
        let message = format!(
            "the job `{}` is hermetic and has {what}: its result would stand in for runs on something else; leave out one of both",
            key.text
        );
        reader.sink.error("hermetic", key.place, message);
    }
    match read {
        Some(text) if !imported => job.task = Some(text.into()),
        Some(_) => {
            let message = "`imported` says that the job is defined elsewhere; expected no script of its own";
            reader.sink.error("imported", key.place, message);
        }
        None if imported || &*key.text == assay_engine::gate::config::NOOP => job.env.extend(env),
        None => {
            let message = format!(
                "the job `{}` does nothing; expected `run` with a script, or `imported: true` if it is defined elsewhere",
                key.text
            );
            reader.sink.error("no-script", key.place, message);
        }
    }
    reader.finish(fields);
    job
}

/// What the gate knows of it.
fn gating(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>, job: &mut JobDef) {
    for (key, flag) in [
        ("voting", &mut job.voting),
        ("hold-following-changes", &mut job.hold_following),
        ("single-use", &mut job.single_use),
        ("hermetic", &mut job.hermetic),
    ] {
        if let Some(value) = fields.get(key).and_then(|node| reader.boolean(node, key)) {
            *flag = value;
        }
    }
    if let Some(node) = fields.get("attempts") {
        job.attempts = reader.number(node, "attempts", 1).unwrap_or(job.attempts);
    }
    for (key, text) in [
        ("success-message", &mut job.success_message),
        ("failure-message", &mut job.failure_message),
        ("success-pattern", &mut job.success_pattern),
        ("failure-pattern", &mut job.failure_pattern),
        ("parameter-function", &mut job.parameter_function),
        ("queue-name", &mut job.queue_name),
    ] {
        if let Some(node) = fields.get(key) {
            *text = reader.text(node, key).map(ToOwned::to_owned);
        }
    }
    for (key, names) in [("tags", &mut job.tags), ("labels", &mut job.labels)] {
        if let Some(node) = fields.get(key) {
            let given = one_or_more(node).into_iter().filter_map(|node| reader.name(node, key));
            *names = given.map(ToOwned::to_owned).collect();
        }
    }
    if let Some(node) = fields.get("semaphores") {
        let given = one_or_more(node).into_iter().filter_map(|node| reader.name(node, "semaphores"));
        job.semaphores = given.map(Into::into).collect();
    }
    for (key, patterns) in [("branches", &mut job.branches), ("files", &mut job.files)] {
        if let Some(node) = fields.get(key) {
            *patterns = reader.patterns(Some(node), key);
        }
    }
    if let Some(node) = fields.get("skip-if") {
        job.skip_if = skip_ifs(reader, node);
    }
}
