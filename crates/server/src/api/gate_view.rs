//! The gate's objects as the API and the pages show them: one place, so that they never tell different stories.

use crate::app::App;
use crate::fault::Fault;
use crate::web::frame::rfc3339;
use assay_connect::gerrit::{Health, Link};
use assay_engine::gate::build_logs;
use assay_engine::gate::config::Manager;
use assay_engine::gate::history;
use assay_engine::gate::ids::{ItemId, JobName, ProjectName, SourceName};
use assay_engine::gate::item::{Build, Item, ItemJob, ItemOutcome, ItemPhase, JobState};
use assay_engine::gate::reason::FailReason;
use assay_engine::gate::rows::AutoholdRow;
use assay_engine::gate::snapshot::{ChangeQueue, QueueKey, Snapshot};
use assay_engine::ids::Timestamp;
use assay_proto::api::gate as api;
use assay_store::StoredBuild;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Display;

/// A sentence and the value behind it.
pub(crate) fn said(reason: &(impl Display + Serialize)) -> api::Said {
    api::Said { text: reason.to_string(), reason: serde_json::to_value(reason).unwrap_or_default() }
}

pub(crate) fn manager_word(manager: Manager) -> &'static str {
    match manager {
        Manager::Independent => "independent",
        Manager::Dependent => "dependent",
        Manager::Supercedent => "supercedent",
        Manager::Serial => "serial",
    }
}

/// What is in the pipelines, or in one of them.
pub(crate) fn status(app: &App, only: Option<&str>) -> Result<api::GateStatus, Fault> {
    let snapshot = app.gate();
    let now = app.clock.now();
    if let Some(name) = only {
        known_pipeline(&snapshot, name)?;
    }
    let configured = !snapshot.config.pipelines.is_empty();
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    Ok(api::GateStatus {
        config: configured.then(|| snapshot.config.hash.clone()),
        troubles: troubles(app),
        staging: app.gate.status().staging,
        pipelines: (snapshot.config.pipelines.iter())
            .filter(|pipeline| wanted(pipeline.name.as_str()))
            .map(|pipeline| {
                let row = snapshot.pipelines.get(&pipeline.name);
                let queues = snapshot.queues.iter().filter(|((name, _), _)| *name == pipeline.name);
                api::PipelineStatus {
                    name: pipeline.name.to_string(),
                    description: pipeline.description.clone(),
                    manager: manager_word(pipeline.manager).to_owned(),
                    failures: row.map_or(0, |row| row.failures),
                    disabled: row.is_some_and(|row| row.disabled),
                    queues: queues.map(|(key, held)| queue(&snapshot, key, held, now)).collect(),
                }
            })
            .collect(),
        autoholds: snapshot.autoholds.values().map(autohold).collect(),
    })
}

/// What somebody has to look at, each a sentence.
pub(crate) fn troubles(app: &App) -> Vec<String> {
    let status = app.gate.status();
    let mut troubles: Vec<String> = app.trouble().into_iter().collect();
    for (source, health) in &status.sources {
        troubles.extend(source_troubles(source, &health.borrow()));
    }
    let waiting = status.waiting.iter();
    troubles.extend(waiting.map(|(source, why)| format!("events of {source} wait: {why}")));
    let landings = status.landings.iter();
    troubles.extend(landings.map(|(item, why)| format!("the landing of item {item} waits: {why}")));
    let unpublished = status.unpublished.iter();
    troubles.extend(
        unpublished.map(|(project, why)| format!("receipts of {project} cannot be published: {why}")),
    );
    troubles.extend(several(&status.merging));
    if let Some((project, why)) = status.unaudited.first_key_value() {
        let others = match status.unaudited.len() - 1 {
            0 => String::new(),
            more => format!(" and of {more} more projects"),
        };
        troubles.push(format!("the branches of {project}{others} cannot be audited: {why}"));
    }
    for ((project, branch), alarm) in &status.alarms {
        if let Some((commit, problem)) = alarm.commits.first() {
            let others = match alarm.count() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            troubles
                .push(format!("{project} {branch} has {commit}{others}, which no receipt covers: {problem}"));
        }
    }
    if !status.config.in_force && !status.config.diagnostics.is_empty() {
        let count = status.config.diagnostics.len();
        let problems = if count == 1 { "problem" } else { "problems" };
        troubles.push(format!(
            "the configuration has {count} {problems}, so the one before stays in force; `assay config check` names them"
        ));
    }
    troubles
}

/// Those projects that have the same trouble, in one sentence.
fn several(merging: &BTreeMap<ProjectName, Vec<String>>) -> Vec<String> {
    let mut by_why: BTreeMap<&str, Vec<&ProjectName>> = BTreeMap::new();
    for (project, all) in merging {
        for why in all {
            by_why.entry(why).or_default().push(project);
        }
    }
    let sentence = |(why, projects): (&str, Vec<&ProjectName>)| match projects.as_slice() {
        [one] => format!("{one}: {why}"),
        [first, rest @ ..] => format!("{first} and {} more: {why}", rest.len()),
        [] => why.to_owned(),
    };
    by_why.into_iter().map(sentence).collect()
}

/// What is wrong with a source of events. A first try that goes on is nothing wrong.
fn source_troubles(source: &SourceName, health: &Health) -> Vec<String> {
    let mut troubles = Vec::new();
    if let Link::Down { since, why, tries } = &health.link
        && *tries > 0
    {
        let since = rfc3339(*since);
        troubles.push(format!(
            "{source} has not been reached since {since}: {why}; what happens there meanwhile is looked up when it is back"
        ));
    }
    let look = health.look_trouble.iter().map(|why| format!("events of {source} cannot be looked up: {why}"));
    let inbox = health.inbox_trouble.iter().map(|why| format!("events of {source} cannot be stored: {why}"));
    troubles.extend(look.chain(inbox));
    troubles
}

/// Refuses the name of a pipeline that is not there, with the nearest one that is.
pub(crate) fn known_pipeline(snapshot: &Snapshot, name: &str) -> Result<(), Fault> {
    if snapshot.config.pipelines.iter().any(|pipeline| pipeline.name.as_str() == name) {
        return Ok(());
    }
    let names: Vec<&str> = snapshot.config.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect();
    let help = match nearest(name, &names) {
        _ if names.is_empty() => {
            "Nothing is gated; start the server with --config and a [gate] section.".to_owned()
        }
        Some(near) => format!("The nearest is {near}; there are {}.", names.join(", ")),
        None => format!("There are {}.", names.join(", ")),
    };
    Err(Fault::not_found(format!("There is no pipeline {name:?}."), help))
}

/// The known name that is most like `name`, if it is like it at all.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let scored = known.iter().map(|known| (strsim::jaro_winkler(name, known), *known));
    scored.filter(|(score, _)| *score > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

fn queue(snapshot: &Snapshot, key: &QueueKey, queue: &ChangeQueue, now: Timestamp) -> api::QueueStatus {
    api::QueueStatus {
        name: key.1.to_string(),
        window: queue.window,
        hold: queue.hold.as_ref().map(|(reason, since)| {
            let api::Said { text, reason } = said(reason);
            api::Hold { text, reason, since: rfc3339(*since) }
        }),
        items: (queue.items.iter())
            .filter_map(|id| snapshot.items.get(id))
            .map(|one| item(snapshot, one, now))
            .collect(),
    }
}

pub(crate) fn autohold(row: &AutoholdRow) -> api::Autohold {
    api::Autohold {
        id: row.id,
        project: row.project.to_string(),
        job: row.job.to_string(),
        change: row.change.as_ref().map(|change| change.number),
        left: row.left,
        reason: row.reason.clone(),
        by: row.by.clone(),
    }
}

/// Where an item stands in one word.
pub(crate) fn state_word(item: &Item) -> &'static str {
    match &item.phase {
        ItemPhase::Testing => "testing",
        ItemPhase::Landing { .. } => "landing",
        ItemPhase::Ended(end) => match end.outcome {
            ItemOutcome::Landed { .. } => "landed",
            ItemOutcome::Passed => "passed",
            ItemOutcome::Failed => "failed",
            ItemOutcome::Refused { .. } => "refused",
            ItemOutcome::Evicted { .. } => "evicted",
        },
    }
}

/// Why an item fails, or why it ended as it did.
pub(crate) fn failing(snapshot: &Snapshot, item: &Item) -> Vec<api::Said> {
    let ItemPhase::Ended(end) = &item.phase else {
        return snapshot.failing(item).iter().map(fail_said).collect();
    };
    let own = match &end.outcome {
        ItemOutcome::Refused { reason } => Some(said(reason)),
        ItemOutcome::Evicted { reason } => Some(said(reason)),
        ItemOutcome::Landed { .. } | ItemOutcome::Passed | ItemOutcome::Failed => None,
    };
    own.into_iter().chain(end.failures.iter().map(fail_said)).collect()
}

/// Zuul's words for a failure, which `/status.json` keeps, with what they leave out.
fn fail_said(reason: &FailReason) -> api::Said {
    let list = |names: &[JobName]| names.iter().map(JobName::as_str).collect::<Vec<_>>().join(", ");
    let text = match reason {
        FailReason::JobFailed { jobs } => format!("{} failed", list(jobs)),
        FailReason::Merge(why) => why.to_string(),
        FailReason::NeededFailing { needed } => {
            let needed: Vec<_> = needed.iter().map(ToString::to_string).collect();
            format!("it needs {}, which fails", needed.join(", "))
        }
        FailReason::DidNotLand { why } => format!("it was tested, and then not merged: {why}"),
    };
    api::Said { text, ..said(reason) }
}

/// An item, ended or not.
pub(crate) fn item(snapshot: &Snapshot, item: &Item, now: Timestamp) -> api::ItemStatus {
    let place = snapshot.queue_of(item).and_then(|queue| {
        let index = queue.items.iter().position(|id| *id == item.id)?;
        Some(queue.is_active(index))
    });
    let ended = match &item.phase {
        ItemPhase::Ended(end) => Some(rfc3339(end.at)),
        ItemPhase::Testing | ItemPhase::Landing { .. } => None,
    };
    let live = item.is_live();
    api::ItemStatus {
        id: item.id.0,
        subject: item.subject.to_string(),
        pipeline: item.pipeline.to_string(),
        queue: item.queue.to_string(),
        project: item.project.to_string(),
        branch: item.branch.to_string(),
        changes: item.changes.iter().map(change).collect(),
        ahead: item.ahead.map(|ahead| ahead.0),
        active: place.unwrap_or(false),
        state: state_word(item).to_owned(),
        enqueued: rfc3339(item.enqueued_at),
        because: item.because.clone(),
        ended,
        buildset: item.buildset.number,
        identity: item.buildset.identity.to_string(),
        reset: item.buildset.because.as_ref().map(said),
        failing: failing(snapshot, item),
        why: if live { why(snapshot, item.id) } else { Vec::new() },
        remaining: snapshot.estimate(item.id, now).filter(|_| live).map(remaining),
        jobs: item.buildset.jobs.iter().map(|one| job(snapshot, item, one, now)).collect(),
    }
}

pub(crate) fn why(snapshot: &Snapshot, item: ItemId) -> Vec<api::Said> {
    snapshot.why(item).iter().map(said).collect()
}

fn change(change: &assay_engine::gate::item::ItemChange) -> api::ItemChange {
    api::ItemChange {
        source: change.merge.patchset.change.source.to_string(),
        number: change.merge.patchset.change.number,
        patchset: change.merge.patchset.patchset,
        revision: change.merge.revision.to_string(),
        subject: change.subject.clone(),
        url: change.url.clone(),
        owner: change.owner.clone(),
    }
}

fn remaining(estimate: history::Estimate) -> api::Remaining {
    let seconds = |us: i64| us as f64 / 1e6;
    let (p50, p90) = (seconds(estimate.p50_us), seconds(estimate.p90_us));
    api::Remaining { p50, p90, without_waiting: !estimate.begun }
}

/// Where a build's logs are on this server, if it has any.
pub(crate) fn log_path_of(item: &Item, job: &JobName, build: &Build) -> Option<String> {
    let path = build_logs(item, job, build)?;
    let path: Vec<_> = path.split('/').map(crate::web::frame::percent_encoded).collect();
    Some(format!("/logs/{}/", path.join("/")))
}

fn job(snapshot: &Snapshot, item: &Item, job: &ItemJob, now: Timestamp) -> api::BuildStatus {
    let build = job.state.build();
    let state = match &job.state {
        JobState::Waiting => "waiting",
        JobState::Running(build) if build.started_at.is_none() => "queued",
        JobState::Running(_) => "running",
        JobState::Ended(_) => "ended",
        JobState::Reused { .. } => "reused",
        JobState::Skipped => "skipped",
        JobState::Backoff { .. } => "backoff",
    };
    let estimate = if job.state.is_final() { None } else { snapshot.job_estimate(job, now) };
    // What the infrastructure said last is why a job waits to be tried again.
    let result = job.state.result().or_else(|| {
        let lost = job.lost.last()?;
        lost.result.as_ref().filter(|_| !job.state.is_final())
    });
    api::BuildStatus {
        name: job.job.to_string(),
        voting: job.voting,
        state: state.to_owned(),
        result: match &job.state {
            JobState::Skipped => Some("SKIPPED".to_owned()),
            state => state.result().map(|result| result.word.clone()),
        },
        class: result.map(|result| result.class.word().to_owned()),
        reason: result.and_then(|result| result.reason.clone()),
        uuid: build.map(|build| build.uuid.to_string()),
        buildset: item.buildset.number,
        asked: build.map(|build| rfc3339(build.asked_at)),
        started: build.and_then(|build| build.started_at).map(rfc3339),
        ended: build.and_then(|build| build.ended_at).map(rfc3339),
        estimate: estimate.map(remaining),
        log: build.and_then(|build| log_path_of(item, &job.job, build)),
        lost: job.lost.len(),
    }
}

/// A build of history.
pub(crate) fn stored_build(item: &Item, build: &StoredBuild) -> api::BuildStatus {
    let as_build = Build {
        uuid: build.uuid,
        asked_at: build.asked_at,
        started_at: build.started_at,
        ended_at: build.ended_at,
        result: build.result.clone(),
        runner: None,
    };
    let unwanted = !item.is_live() || build.buildset != item.buildset.number;
    let state = match (&build.result, build.started_at) {
        (Some(_), _) => "ended",
        (None, _) if unwanted => "stopped",
        (None, Some(_)) => "running",
        (None, None) => "queued",
    };
    let result = build.result.as_ref();
    api::BuildStatus {
        name: build.job.to_string(),
        voting: build.voting,
        state: state.to_owned(),
        result: result.map(|result| result.word.clone()),
        class: result.map(|result| result.class.word().to_owned()),
        reason: result.and_then(|result| result.reason.clone()),
        uuid: Some(build.uuid.to_string()),
        buildset: build.buildset,
        asked: Some(rfc3339(build.asked_at)),
        started: build.started_at.map(rfc3339),
        ended: build.ended_at.map(rfc3339),
        estimate: None,
        log: log_path_of(item, &build.job, &as_build),
        lost: 0,
    }
}
