//! Whether an event lets a change into a pipeline: triggers, requirements, rejections, and the source's submit rules.

use super::change::{Approval, ChangeFacts, LabelStatus, SubmitRecord};
use super::config::{ApprovalFilter, Pipeline, ReportAction, Trigger, normal_label};
use super::io::Event;
use super::pattern::Pattern;
use crate::ids::Timestamp;
use std::collections::BTreeSet;

/// Whether the entry of a trigger matches; what kept it from matching, if not.
pub(super) fn trigger_matches(
    trigger: &Trigger,
    event: &Event,
    facts: Option<&ChangeFacts>,
    now: Timestamp,
) -> Result<(), String> {
    let any = |patterns: &[Pattern], what: &str, text: Option<&str>, anywhere: bool| {
        let fits = |pattern: &Pattern| {
            text.is_some_and(
                |text| if anywhere { pattern.is_found(text) } else { pattern.matches_start(text) },
            )
        };
        if patterns.is_empty() || patterns.iter().any(fits) {
            return Ok(());
        }
        let wanted: Vec<&str> = patterns.iter().map(Pattern::as_str).collect();
        Err(format!("{what} {:?} does not match {}", text.unwrap_or_default(), wanted.join(" or ")))
    };
    if trigger.source != event.source {
        return Err(format!(
            "the trigger listens to {}, the event came from {}",
            trigger.source, event.source
        ));
    }
    any(&trigger.events, "event", Some(event.kind.word()), false)?;
    if let Some(wanted) = &trigger.time {
        let due = event.timer.as_ref().map(|(_, time)| time.as_str());
        if due != Some(wanted) {
            return Err(format!("the trigger is for the time {wanted}"));
        }
    }
    let branch = facts.map(|facts| facts.branch.as_str());
    any(&trigger.branches, "branch", branch, false)?;
    if !trigger.refs.is_empty() || event.ref_update.is_some() {
        let name = event.ref_update.as_ref().map(|update| update.name.as_str());
        any(&trigger.refs, "ref", name, false)?;
        if trigger.ignore_deletes
            && event.ref_update.as_ref().is_some_and(super::change::RefUpdate::is_delete)
        {
            return Err("the ref was deleted (ignore-deletes)".to_owned());
        }
    }
    any(&trigger.comments, "comment", event.comment.as_deref(), true)?;
    any(&trigger.emails, "mail address", event.by.email.as_deref(), true)?;
    any(&trigger.usernames, "login", event.by.username.as_deref(), true)?;
    any(
        &trigger.pipelines,
        "pipeline",
        event.pipeline.as_ref().map(super::ids::PipelineName::as_str),
        false,
    )?;
    for (label, value) in &trigger.approvals {
        let wanted = normal_label(label);
        let carried = event.approvals.iter().any(|(own, vote)| normal_label(own) == wanted && vote == value);
        if !carried {
            return Err(format!("the event carries no vote {label} {value:+}"));
        }
    }
    match facts {
        Some(facts) => approvals_hold(&trigger.require, &trigger.reject, facts, now),
        None if trigger.require.is_empty() && trigger.reject.is_empty() => Ok(()),
        None => Err("the trigger asks for votes, and there is no change".to_owned()),
    }
}

/// Whether the votes of a change are as `require` and `reject` want them.
fn approvals_hold(
    require: &[ApprovalFilter],
    reject: &[ApprovalFilter],
    facts: &ChangeFacts,
    now: Timestamp,
) -> Result<(), String> {
    let met =
        |filter: &ApprovalFilter| facts.approvals.iter().any(|vote| approval_matches(filter, vote, now));
    if let Some(missing) = require.iter().find(|filter| !met(filter)) {
        return Err(format!("no vote on {} is {}", facts.patchset(), describe(missing)));
    }
    match reject.iter().find(|filter| met(filter)) {
        Some(met) => Err(format!("a vote on {} is {}, which is rejected", facts.patchset(), describe(met))),
        None => Ok(()),
    }
}

fn approval_matches(filter: &ApprovalFilter, vote: &Approval, now: Timestamp) -> bool {
    let Some(label) = vote.label.as_deref().map(normal_label) else { return false };
    let found = |pattern: &Option<Pattern>, text: &Option<String>| {
        pattern.as_ref().is_none_or(|pattern| text.as_deref().is_some_and(|text| pattern.is_found(text)))
    };
    let age = |limit: Option<i64>, older: bool| {
        limit.is_none_or(|limit| {
            vote.granted_at.is_some_and(|at| (at.0 < now.0.saturating_sub(limit)) == older)
        })
    };
    found(&filter.username, &vote.by.username)
        && found(&filter.email, &vote.by.email)
        && age(filter.older_than_us, true)
        && age(filter.newer_than_us, false)
        && filter
            .labels
            .iter()
            .all(|(own, values)| normal_label(own) == label && values.contains(&vote.value))
}

fn describe(filter: &ApprovalFilter) -> String {
    let mut parts = Vec::new();
    for (label, values) in &filter.labels {
        let values: Vec<String> = values.iter().map(|value| format!("{value:+}")).collect();
        parts.push(format!("{label} {}", values.join(" or ")));
    }
    parts.extend(filter.username.as_ref().map(|pattern| format!("by {}", pattern.as_str())));
    parts.extend(filter.email.as_ref().map(|pattern| format!("by {}", pattern.as_str())));
    let hours = |us: i64| format!("{} h", us / 3_600_000_000);
    parts.extend(filter.older_than_us.map(|us| format!("older than {}", hours(us))));
    parts.extend(filter.newer_than_us.map(|us| format!("newer than {}", hours(us))));
    parts.join(", ")
}

/// Whether a change meets the requirements of a pipeline; the first that does not hold.
pub(super) fn requirements_hold(
    pipeline: &Pipeline,
    facts: &ChangeFacts,
    patchset: u32,
    now: Timestamp,
) -> Result<(), String> {
    let wanted = &pipeline.require;
    if wanted.open.is_some_and(|open| open != facts.status.is_open()) {
        return Err(format!("{} is {}", facts.id, facts.status.word()));
    }
    if wanted.current_patchset.is_some_and(|current| current != (facts.current_patchset == patchset)) {
        return Err(format!("the newest patchset of {} is {}", facts.id, facts.current_patchset));
    }
    if !wanted.status.is_empty() && !wanted.status.iter().any(|word| word == facts.status.word()) {
        return Err(format!("{} is {}, not {}", facts.id, facts.status.word(), wanted.status.join(" or ")));
    }
    approvals_hold(&wanted.approvals, &pipeline.reject, facts, now)
}

/// Whether the source would merge a change once `pipeline` has voted; what is missing, if not.
pub(super) fn can_merge(pipeline: &Pipeline, facts: &ChangeFacts) -> Result<(), String> {
    if facts.wip {
        return Err("it is work in progress".to_owned());
    }
    if facts.submit_records.is_empty() || facts.submit_records.contains(&SubmitRecord::Ok) {
        return Ok(());
    }
    let ours = own_labels(pipeline);
    let mut missing = Vec::new();
    for record in &facts.submit_records {
        match record {
            SubmitRecord::Ok => {}
            SubmitRecord::Error { why } => return Err(why.clone()),
            SubmitRecord::NotReady { labels } => {
                for label in labels {
                    let own = ours.contains(&normal_label(&label.label));
                    match label.status {
                        LabelStatus::Ok | LabelStatus::May => {}
                        LabelStatus::Need | LabelStatus::Reject if own => {}
                        LabelStatus::Need => missing.push(format!("label {} is needed", label.label)),
                        LabelStatus::Reject => missing.push(format!("label {} is vetoed", label.label)),
                        LabelStatus::Impossible => {
                            missing.push(format!("nobody may give label {}", label.label));
                        }
                    }
                }
            }
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(missing.join(", ")) }
}

/// The labels that the pipeline gives itself when an item passes: they may be missing before.
fn own_labels(pipeline: &Pipeline) -> BTreeSet<String> {
    let mut labels = BTreeSet::new();
    for action in &pipeline.reporters.success {
        if let ReportAction::Review { labels: own, .. } = action {
            labels.extend(own.iter().map(|(label, _)| normal_label(label)));
        }
    }
    labels
}
