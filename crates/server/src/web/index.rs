//! `/tests`: all jobs and all workers.

use super::frame::{Badge, Frame, Moment, percent_encoded, span};
use crate::api::filter_of;
use crate::app::App;
use crate::fault::Fault;
use crate::present::{reason_of, took_us};
use askama::Template;
use assay_engine::gate::ids::PipelineName;
use assay_engine::ids::{JobId, Timestamp};
use assay_engine::job::StateWord;
use assay_engine::outcome::Outcome;
use assay_store::{JobFilter, StoredAttempt, StoredJob};
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use std::sync::Arc;

/// Rows of one list on the front page, and on a page of one list.
const SHORT: u32 = 50;
const LONG: u32 = 100;
/// Running jobs that are shown.
const RUNNING: u32 = 200;

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Filter {
    /// `running`, `scheduled`, `finished`, or nothing for all three.
    #[serde(default)]
    state: String,
    #[serde(default)]
    result: String,
    #[serde(default)]
    q: String,
    before: Option<i64>,
}

impl Filter {
    fn is_set(&self) -> bool {
        !self.state.is_empty()
            || !self.result.is_empty()
            || !self.q.trim().is_empty()
            || self.before.is_some()
    }

    /// Where an address that was one of this list leads now; none if it asks for nothing of the list.
    pub(super) fn elsewhere(&self) -> Option<String> {
        self.is_set().then(|| self.href(&self.state, self.before.map(JobId)))
    }

    fn href(&self, state: &str, before: Option<JobId>) -> String {
        let mut parts = Vec::new();
        for (key, value) in [("state", state), ("result", self.result.as_str()), ("q", self.q.trim())] {
            if !value.is_empty() {
                parts.push(format!("{key}={}", percent_encoded(value)));
            }
        }
        parts.extend(before.map(|id| format!("before={id}")));
        if parts.is_empty() { "/tests".into() } else { format!("/tests?{}", parts.join("&")) }
    }
}

#[derive(Debug)]
struct Counts {
    active: usize,
    scheduled: usize,
    finished: usize,
}

#[derive(Debug)]
struct Chip {
    href: String,
    label: &'static str,
    count: usize,
    current: bool,
}

#[derive(Debug)]
struct RunningRow {
    id: JobId,
    href: String,
    name: String,
    badge: Badge,
    note: Option<String>,
    progress: Option<Progress>,
    worker: String,
    since: Option<Moment>,
}

#[derive(Debug)]
struct Progress {
    text: String,
    modules: usize,
    done: usize,
}

#[derive(Debug)]
struct ScheduledRow {
    id: JobId,
    href: String,
    name: String,
    reason: String,
    priority: i32,
    created: Moment,
}

#[derive(Debug)]
struct FinishedRow {
    id: JobId,
    href: String,
    name: String,
    badge: Badge,
    reason: String,
    worker: String,
    took: String,
    finished: Moment,
}

#[derive(Debug)]
struct WorkerRow {
    name: String,
    badge: Badge,
    why: Option<String>,
    online: bool,
    drained: bool,
    jobs: Vec<JobId>,
    slots: u32,
    classes: String,
    host: String,
    since: Moment,
}

/// The gate in short.
#[derive(Debug)]
struct GateSummary {
    pipelines: Vec<GatePipeline>,
    troubles: usize,
}

#[derive(Debug)]
struct GatePipeline {
    name: String,
    href: String,
    items: usize,
    failing: usize,
    held: Vec<String>,
}

#[derive(Template)]
#[template(path = "index.html")]
struct IndexPage {
    frame: Frame,
    filter: Filter,
    counts: Counts,
    chips: Vec<Chip>,
    result_choices: Vec<(&'static str, &'static str, bool)>,
    no_jobs_at_all: bool,
    running: Vec<RunningRow>,
    scheduled: Vec<ScheduledRow>,
    scheduled_more: Option<String>,
    finished: Vec<FinishedRow>,
    newest: String,
    older: Option<String>,
    workers: Vec<WorkerRow>,
    gate: Option<GateSummary>,
}

/// `GET /tests`
pub(super) async fn page(State(app): State<Arc<App>>, Query(filter): Query<Filter>) -> Response {
    let rendered = build(&app, filter).await;
    super::page(&app, rendered)
}

fn states_of(group: &str) -> Vec<StateWord> {
    let wanted = |state: &StateWord| match group {
        "scheduled" => *state == StateWord::Scheduled,
        "finished" => state.is_final(),
        _ => !state.is_final() && *state != StateWord::Scheduled,
    };
    StateWord::ALL.into_iter().filter(wanted).collect()
}

/// One of the three lists; one row more than `limit` if there are more.
async fn list(app: &App, filter: &Filter, group: &str, limit: u32) -> Result<Vec<StoredJob>, Fault> {
    if !filter.state.is_empty() && filter.state != group {
        return Ok(Vec::new());
    }
    // Only what has ended has a result.
    if !filter.result.is_empty() && group != "finished" {
        return Ok(Vec::new());
    }
    let wanted = filter_of("", &filter.result, &filter.q)?;
    let before = filter.before.map(JobId);
    let filter = JobFilter { states: states_of(group), before, limit: limit + 1, ..wanted };
    Ok(app.store.jobs(&filter).await?)
}

async fn build(app: &App, filter: Filter) -> Result<IndexPage, Fault> {
    if !matches!(filter.state.as_str(), "" | "running" | "scheduled" | "finished") {
        let error = format!("{:?} is not a list of jobs.", filter.state);
        return Err(Fault::bad(error, "Use state=running, state=scheduled or state=finished."));
    }
    let (now, changes) = (app.clock.now(), app.changes());
    let by_state = app.store.counts().await?;
    let count =
        |group: &str| states_of(group).iter().filter_map(|state| by_state.get(state)).sum::<u64>() as usize;
    let counts =
        Counts { active: count("running"), scheduled: count("scheduled"), finished: count("finished") };
    let rows = if filter.state.is_empty() { SHORT } else { LONG };

    let mut running = Vec::new();
    for job in list(app, &filter, "running", RUNNING).await?.iter().take(RUNNING as usize) {
        running.push(running_row(app, job, now).await?);
    }
    let mut waiting = list(app, &filter, "scheduled", rows).await?;
    let more_waiting = waiting.len() > rows as usize;
    waiting.truncate(rows as usize);
    let next_waiting = waiting.last().map(|job| job.row.id);
    waiting.sort_by_key(|job| (job.row.priority, job.row.id));
    let mut ended = list(app, &filter, "finished", rows).await?;
    let more_ended = ended.len() > rows as usize;
    ended.truncate(rows as usize);
    let mut finished = Vec::new();
    for job in &ended {
        finished.extend(finished_row(app, job, now).await?);
    }
    let older = match filter.state.as_str() {
        "scheduled" if more_waiting => next_waiting.map(|id| filter.href("scheduled", Some(id))),
        "" | "finished" if more_ended => ended.last().map(|job| filter.href("finished", Some(job.row.id))),
        _ => None,
    };
    let scheduled_more = (more_waiting && filter.state.is_empty()).then(|| filter.href("scheduled", None));

    let chip = |state: &'static str, label, count| Chip {
        href: filter.href(state, None),
        label,
        count,
        current: filter.state == state,
    };
    let all = counts.active + counts.scheduled + counts.finished;
    let chips = vec![
        chip("", "all", all),
        chip("running", "running", counts.active),
        chip("scheduled", "scheduled", counts.scheduled),
        chip("finished", "finished", counts.finished),
    ];
    let choice = |outcome: Outcome| {
        (outcome.openqa(), Badge::of(outcome.openqa()).label(), filter.result == outcome.openqa())
    };
    let gate = gate_summary(app);
    let mut frame = Frame::new(now);
    frame.home = true;
    frame.events = Some(changes);
    Ok(IndexPage {
        frame,
        gate,
        chips,
        result_choices: Outcome::ALL.into_iter().map(choice).collect(),
        no_jobs_at_all: all == 0,
        running,
        scheduled: waiting.iter().map(|job| scheduled_row(job, now)).collect(),
        scheduled_more,
        finished,
        newest: filter.href(&filter.state, None),
        older,
        workers: app.present_workers().await?.into_iter().map(|worker| worker_row(worker, now)).collect(),
        counts,
        filter,
    })
}

/// What is in the pipelines, in short; none if nothing is gated.
fn gate_summary(app: &App) -> Option<GateSummary> {
    let snapshot = app.gate();
    let pipelines = &snapshot.config.pipelines;
    let of = |name: &PipelineName| GatePipeline {
        name: name.to_string(),
        href: format!("/gate?pipeline={}", percent_encoded(name.as_str())),
        items: snapshot.items.values().filter(|item| item.pipeline == *name).count(),
        failing: (snapshot.items.values())
            .filter(|item| item.pipeline == *name && !snapshot.failing(item).is_empty())
            .count(),
        held: (snapshot.queues.iter())
            .filter(|((pipeline, _), queue)| pipeline == name && queue.hold.is_some())
            .map(|((_, queue), _)| queue.to_string())
            .collect(),
    };
    (!pipelines.is_empty()).then(|| GateSummary {
        pipelines: pipelines.iter().map(|pipeline| of(&pipeline.name)).collect(),
        troubles: crate::api::gate_view::troubles(app).len(),
    })
}

fn href(id: JobId) -> String {
    format!("/jobs/{id}")
}

fn named(job: &StoredJob) -> String {
    if job.row.name.is_empty() { "(unnamed)".into() } else { job.row.name.clone() }
}

async fn last_attempt(app: &App, id: JobId) -> Result<Option<StoredAttempt>, Fault> {
    Ok(app.store.attempts(id).await?.into_iter().next_back())
}

async fn running_row(app: &App, job: &StoredJob, now: Timestamp) -> Result<RunningRow, Fault> {
    let id = job.row.id;
    let attempt = last_attempt(app, id).await?;
    let live = job.row.active_attempt().and_then(|attempt| app.live.progress(attempt));
    let progress = live.filter(|progress| progress.modules > 0).map(|progress| Progress {
        text: match &progress.module {
            Some(module) => format!("{module} ({} of {})", progress.begun, progress.modules),
            None => format!("{} of {} modules", progress.begun, progress.modules),
        },
        modules: progress.modules,
        done: progress.begun - usize::from(progress.module.is_some()),
    });
    let retried = attempt.as_ref().map(|attempt| attempt.row.id.number).filter(|&number| number > 1);
    Ok(RunningRow {
        id,
        href: href(id),
        name: named(job),
        badge: Badge::of(job.row.state.word().word()),
        note: reason_of(job).or_else(|| retried.map(|number| format!("attempt {number}"))),
        progress,
        worker: attempt.as_ref().map(|attempt| attempt.row.worker.to_string()).unwrap_or_default(),
        since: attempt.map(|attempt| Moment::new(attempt.row.assigned_at, now)),
    })
}

fn scheduled_row(job: &StoredJob, now: Timestamp) -> ScheduledRow {
    ScheduledRow {
        id: job.row.id,
        href: href(job.row.id),
        name: named(job),
        reason: reason_of(job).unwrap_or_else(|| "a worker gets it in a moment".into()),
        priority: job.row.priority,
        created: Moment::new(job.row.created_at, now),
    }
}

async fn finished_row(app: &App, job: &StoredJob, now: Timestamp) -> Result<Option<FinishedRow>, Fault> {
    let Some(end) = job.row.state.end() else { return Ok(None) };
    let attempt = last_attempt(app, job.row.id).await?;
    Ok(Some(FinishedRow {
        id: job.row.id,
        href: href(job.row.id),
        name: named(job),
        badge: Badge::of(end.outcome.openqa()),
        reason: reason_of(job).unwrap_or_default(),
        took: attempt
            .as_ref()
            .map(|attempt| span(took_us(attempt.row.started_at, attempt.row.assigned_at, end)))
            .unwrap_or_default(),
        worker: attempt.map(|attempt| attempt.row.worker.to_string()).unwrap_or_default(),
        finished: Moment::new(end.at, now),
    }))
}

fn worker_row(worker: assay_proto::api::Worker, now: Timestamp) -> WorkerRow {
    WorkerRow {
        badge: super::workers::badge(&worker),
        why: worker.offline_reason,
        online: worker.online,
        drained: worker.drained_by.is_some(),
        jobs: worker.jobs,
        slots: worker.slots,
        classes: worker.classes.join(", "),
        host: worker.host,
        since: Moment::of_text(&worker.since, now),
        name: worker.name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_the_filter() {
        let filter = Filter { result: "failed".into(), q: " a&b ".into(), ..Filter::default() };
        assert_eq!(
            filter.href("finished", Some(JobId(7))),
            "/tests?state=finished&result=failed&q=a%26b&before=7"
        );
        assert_eq!(Filter::default().href("", None), "/tests");
    }

    #[test]
    fn every_state_is_in_exactly_one_list() {
        for state in StateWord::ALL {
            let lists = ["running", "scheduled", "finished"];
            assert_eq!(lists.iter().filter(|list| states_of(list).contains(&state)).count(), 1, "{state:?}");
        }
    }
}
