//! `/status.json`: the gate as Zuul 2 would describe it.

use crate::api::gate_view;
use assay_engine::gate::change::Subject;
use assay_engine::gate::config::Manager;
use assay_engine::gate::history;
use assay_engine::gate::ids::{ChangeId, ItemId};
use assay_engine::gate::item::{Build, Item, ItemChange, ItemJob, JobState, Runner};
use assay_engine::gate::snapshot::{ChangeQueue, Snapshot};
use assay_engine::ids::{Timestamp, WorkerName};
use assay_engine::rows::WorkerRow;
use assay_proto::status as zuul;
use serde_json::json;
use std::collections::BTreeMap;

/// What the document says besides the pipelines.
#[derive(Debug, Clone, Default)]
pub(super) struct Beside {
    /// For everybody; plain text.
    pub(super) message: Option<String>,
    pub(super) trigger_events: usize,
    pub(super) result_events: usize,
    pub(super) configured_at: Timestamp,
    pub(super) workers: Workers,
}

/// Who runs builds.
pub(super) type Workers = BTreeMap<WorkerName, WorkerRow>;

/// The document.
pub(super) fn document(snapshot: &Snapshot, beside: &Beside, now: Timestamp) -> zuul::Status {
    zuul::Status {
        zuul_version: concat!("Assay ", env!("CARGO_PKG_VERSION")).to_owned(),
        message: beside.message.as_deref().map(paragraph),
        trigger_event_queue: zuul::Length { length: beside.trigger_events },
        result_event_queue: zuul::Length { length: beside.result_events },
        last_reconfigured: beside.configured_at.0 / 1000,
        pipelines: (snapshot.config.pipelines.iter())
            .map(|pipeline| {
                let queues = snapshot.queues.iter().filter(|((name, _), _)| *name == pipeline.name);
                zuul::Pipeline {
                    name: pipeline.name.to_string(),
                    description: pipeline.description.clone(),
                    change_queues: queues
                        .filter(|(_, queue)| {
                            pipeline.manager != Manager::Independent || !queue.items.is_empty()
                        })
                        .map(|((_, name), queue)| zuul::Queue {
                            name: queue_name(snapshot, pipeline.manager, name.as_str(), queue),
                            window: queue.window,
                            heads: heads(snapshot, queue, &beside.workers, now),
                        })
                        .collect(),
                }
            })
            .collect(),
    }
}

/// The items of one change, as `/status/change/N,PS` has them.
pub(super) fn change(snapshot: &Snapshot, workers: &Workers, id: &str, now: Timestamp) -> Vec<zuul::Item> {
    let queues = snapshot.queues.values();
    queues
        .flat_map(|queue| heads(snapshot, queue, workers, now))
        .flatten()
        .filter(|item| fits(item, id))
        .collect()
}

fn fits(item: &zuul::Item, id: &str) -> bool {
    item.id.as_deref() == Some(id)
}

/// Dashboards show a message as it is, so it has to be HTML.
fn paragraph(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    format!("<p>{text}</p>")
}

/// In Zuul the queues of an independent pipeline are called as their projects.
fn queue_name(snapshot: &Snapshot, manager: Manager, name: &str, queue: &ChangeQueue) -> String {
    let first = queue.items.first().and_then(|id| snapshot.items.get(id));
    match (manager, first) {
        (Manager::Independent, Some(item)) => item.project.to_string(),
        _ => name.to_owned(),
    }
}

/// A queue cut before each item that stands on no other.
fn heads(
    snapshot: &Snapshot,
    queue: &ChangeQueue,
    workers: &Workers,
    now: Timestamp,
) -> Vec<Vec<zuul::Item>> {
    let mut behind: BTreeMap<ItemId, Vec<Option<String>>> = BTreeMap::new();
    let items = || queue.items.iter().filter_map(|id| snapshot.items.get(id));
    for item in items() {
        if let Some(ahead) = item.ahead {
            behind.entry(ahead).or_default().push(id_of(item));
        }
    }
    let mut heads: Vec<Vec<zuul::Item>> = Vec::new();
    for (index, item) in items().enumerate() {
        if item.ahead.is_none() || heads.is_empty() {
            heads.push(Vec::new());
        }
        let Some(head) = heads.last_mut() else { continue };
        for below in &item.below {
            let ahead = head.last().and_then(|item| item.id.clone());
            head.push(below_it(snapshot, item, below, ahead));
        }
        let below = item.below.last().map(|below| below.merge.patchset.to_string());
        let behind = behind.remove(&item.id).unwrap_or_default();
        let jobs = item.buildset.jobs.iter().map(|one| job(snapshot, item, one, workers, now)).collect();
        let mut shown = one(snapshot, item, below, behind, jobs);
        shown.active = queue.is_active(index);
        // Nothing leaves before what it stands on.
        if let (Some(ahead), Some(own)) =
            (head.last().and_then(|ahead| ahead.remaining_time), shown.remaining_time)
        {
            shown.remaining_time = Some(own.max(ahead));
        }
        head.push(shown);
    }
    heads
}

/// `N,PS`; the new commit of a ref; null for a timer.
fn id_of(item: &Item) -> Option<String> {
    match &item.subject {
        Subject::Change(patchset) => Some(patchset.to_string()),
        Subject::Ref(update) => Some(update.new.to_string()),
        Subject::Timer { .. } => None,
    }
}

/// A change that is merged below an item for its sake only.
fn below_it(snapshot: &Snapshot, item: &Item, below: &ItemChange, ahead: Option<String>) -> zuul::Item {
    zuul::Item {
        active: true,
        live: false,
        url: below.url.clone(),
        id: Some(below.merge.patchset.to_string()),
        item_ahead: ahead,
        items_behind: Vec::new(),
        failing_reasons: Vec::new(),
        zuul_ref: None,
        project: below.merge.project.to_string(),
        enqueue_time: item.enqueued_at.0 / 1000,
        owner: Some(owner(snapshot, below)),
        remaining_time: None,
        jobs: Vec::new(),
    }
}

fn owner(snapshot: &Snapshot, change: &ItemChange) -> zuul::Owner {
    let id: &ChangeId = &change.merge.patchset.change;
    match snapshot.changes.get(id) {
        Some(facts) => zuul::Owner {
            name: facts.owner.name.clone(),
            email: facts.owner.email.clone(),
            username: facts.owner.username.clone(),
        },
        None => zuul::Owner { name: Some(change.owner.clone()), email: None, username: None },
    }
}

fn one(
    snapshot: &Snapshot,
    item: &Item,
    below: Option<String>,
    items_behind: Vec<Option<String>>,
    jobs: Vec<zuul::Job>,
) -> zuul::Item {
    let begun = |job: &ItemJob| match &job.state {
        JobState::Running(build) => build.started_at.is_some(),
        state => state.is_final(),
    };
    let all_begun = !item.buildset.jobs.is_empty() && item.buildset.jobs.iter().all(begun);
    let longest = jobs.iter().filter_map(|job| job.remaining_time).max().unwrap_or(0);
    let change = item.changes.last();
    let ahead = item.ahead.and_then(|ahead| snapshot.items.get(&ahead));
    zuul::Item {
        active: true,
        live: true,
        url: change.and_then(|change| change.url.clone()),
        id: id_of(item),
        item_ahead: below.or_else(|| ahead.and_then(|ahead| id_of(ahead))),
        items_behind,
        failing_reasons: snapshot.failing(item).iter().map(ToString::to_string).collect(),
        zuul_ref: change.map(|_| format!("Z{}", item.buildset.identity)),
        project: item.project.to_string(),
        enqueue_time: item.enqueued_at.0 / 1000,
        owner: change.map(|change| owner(snapshot, change)),
        remaining_time: all_begun.then_some(longest),
        jobs,
    }
}

fn job(snapshot: &Snapshot, item: &Item, job: &ItemJob, workers: &Workers, now: Timestamp) -> zuul::Job {
    let build = job.state.build();
    let runner = build.and_then(|build| build.runner.as_ref());
    let row = runner.and_then(|runner| workers.get(&runner.worker));
    let usual = snapshot.durations.get(&job.job).and_then(|row| history::estimate(&row.latest_us));
    let url = build.and_then(|build| log_url(snapshot, item, job, build));
    let times = build.and_then(|build| Some((build.started_at?, build.ended_at)));
    let elapsed = times.map(|(from, to)| to.unwrap_or(now).micros_since(from));
    let remaining = times.zip(elapsed).and_then(|((_, ended), elapsed)| match ended {
        Some(_) => Some(0),
        None => usual.map(|usual| (usual.p50_us - elapsed).max(0)),
    });
    let result = match &job.state {
        JobState::Skipped => Some("SKIPPED".to_owned()),
        state => state.result().map(|result| result.word.clone()),
    };
    let seconds = |at: Timestamp| at.0 as f64 / 1e6;
    zuul::Job {
        name: job.job.to_string(),
        elapsed_time: elapsed.map(|us| us / 1000),
        remaining_time: remaining.map(|us| us / 1000),
        url: url.clone(),
        report_url: url,
        result,
        voting: job.voting,
        uuid: build.map(|build| build.uuid.to_string()),
        launch_time: build.map(|build| seconds(build.asked_at)),
        start_time: build.and_then(|build| build.started_at).map(seconds),
        end_time: build.and_then(|build| build.ended_at).map(seconds),
        estimated_time: usual.map(|usual| usual.p50_us as f64 / 1e6),
        pipeline: build.map(|_| item.pipeline.to_string()),
        canceled: build.map(|_| false),
        retry: build.map(|_| !job.lost.is_empty() && !job.state.is_final()),
        number: runner.map(|runner| runner.job.0),
        node_labels: row.map_or_else(Vec::new, |row| row.classes.iter().map(str::to_owned).collect()),
        node_name: runner.map(|runner| runner.worker.to_string()),
        worker: build.map(|_| worker(runner, row)),
    }
}

/// A worker says nothing of its addresses; of what is not known yet Zuul, too, has the fields.
fn worker(runner: Option<&Runner>, row: Option<&WorkerRow>) -> zuul::Worker {
    let host = row.map(|row| row.host.clone());
    zuul::Worker {
        name: Some(runner.map_or_else(|| "Unknown".to_owned(), |runner| runner.worker.to_string())),
        fqdn: host.clone().filter(|host| host.contains('.')),
        hostname: host,
        ips: None,
        program: Some("assay".to_owned()),
        version: row.map(|row| row.version.clone()),
        extra: Some(json!({})),
    }
}

/// The public address of a build's logs; a path on this server if there is none.
fn log_url(snapshot: &Snapshot, item: &Item, job: &ItemJob, build: &Build) -> Option<String> {
    let there = snapshot.config.places.logs(item, &job.job, build);
    there.or_else(|| gate_view::log_path_of(item, &job.job, build))
}
