//! `/workers`: what each worker does, and why what waits does not run on it.

use super::frame::{Badge, Frame, Moment};
use crate::app::App;
use crate::fault::Fault;
use crate::present::reason_of;
use askama::Template;
use assay_engine::ids::{JobId, Timestamp};
use assay_engine::job::StateWord;
use assay_engine::reason::WaitReason;
use assay_engine::settings::ClassSet;
use assay_proto::api::Worker;
use assay_store::{JobFilter, StoredJob};
use axum::Router;
use axum::extract::State;
use axum::response::{Redirect, Response};
use axum::routing::get;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Waiting jobs that are looked at, and those that are named of each reason.
const WAITING: u32 = 2000;
const NAMED: usize = 5;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/workers", get(page))
        .route("/admin/workers", get(|| async { Redirect::permanent("/workers") }))
}

struct Slot {
    id: JobId,
    name: String,
    badge: Badge,
    since: Option<Moment>,
}

struct WorkerView {
    name: String,
    badge: Badge,
    why: Option<String>,
    host: String,
    /// What is free on its disks.
    disk: Option<String>,
    version: String,
    classes: Vec<String>,
    slots: u32,
    jobs: Vec<Slot>,
    since: Moment,
    /// Who has it finish what it has and get nothing new.
    drained_by: Option<String>,
    free: Free,
}

/// What could be made of a worker's free slots.
#[derive(Default)]
struct Free {
    /// Jobs that wait for nothing but a slot, and that it offers everything for.
    could: usize,
    /// One of them would have a slot, if those that are free were not kept for a cluster.
    kept: bool,
}

impl Free {
    fn of(worker: &Worker, waiting: &[StoredJob]) -> Self {
        let mut free = Self::default();
        let ready = |job: &&StoredJob| job.wait.as_ref().is_none_or(WaitReason::lacks_slots);
        for job in waiting.iter().filter(ready).filter(|job| offers(worker, &job.row.classes)) {
            free.could += 1;
            free.kept |= matches!(job.wait, Some(WaitReason::AllBusy { kept_for: Some(_), .. }));
        }
        free
    }
}

impl WorkerView {
    /// How many of its slots nothing runs on; none while it is not there.
    fn free(&self) -> u32 {
        let taken = u32::try_from(self.jobs.len()).unwrap_or(u32::MAX);
        if self.why.is_none() { self.slots.saturating_sub(taken) } else { 0 }
    }
}

/// Jobs that wait for the same reason.
struct Wait {
    reason: String,
    count: usize,
    named: Vec<(JobId, String)>,
    /// Workers that offer what the first of them asks for.
    fitting: Vec<String>,
    classes: String,
}

#[derive(Template)]
#[template(path = "workers.html")]
struct WorkersPage {
    frame: Frame,
    workers: Vec<WorkerView>,
    waits: Vec<Wait>,
    waiting: u64,
    looked_at: usize,
    slots: u32,
    busy: usize,
    /// Free slots that get nothing.
    drained: u32,
}

async fn page(State(app): State<Arc<App>>) -> Response {
    super::page(&app, build(&app).await)
}

async fn build(app: &App) -> Result<WorkersPage, Fault> {
    let (now, changes) = (app.clock.now(), app.changes());
    let present = app.present_workers().await?;
    let filter = JobFilter { states: vec![StateWord::Scheduled], limit: WAITING, ..JobFilter::default() };
    let waiting = app.store.jobs(&filter).await?;
    let mut waits: BTreeMap<String, Wait> = BTreeMap::new();
    // The longest waiting first: the newest are last in the list.
    for job in waiting.iter().rev() {
        let reason = reason_of(job).unwrap_or_else(|| "it is looked at in a moment".to_owned());
        let wait = waits.entry(reason).or_insert_with_key(|reason| Wait {
            reason: reason.clone(),
            count: 0,
            named: Vec::new(),
            fitting: present
                .iter()
                .filter(|worker| worker.online && worker.drained_by.is_none())
                .filter(|worker| offers(worker, &job.row.classes))
                .map(|worker| worker.name.clone())
                .collect(),
            classes: job.row.classes.iter().collect::<Vec<_>>().join(", "),
        });
        wait.count += 1;
        if wait.named.len() < NAMED {
            wait.named.push((job.row.id, job.row.label()));
        }
    }
    let mut waits: Vec<Wait> = waits.into_values().collect();
    waits.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
    let mut workers = Vec::new();
    for worker in present {
        let free = Free::of(&worker, &waiting);
        workers.push(view(app, worker, free, now).await?);
    }
    let mut frame = Frame::new(now);
    frame.events = Some(changes);
    let online = |worker: &&WorkerView| worker.why.is_none();
    let waiting_in_all = app.store.counts().await?.get(&StateWord::Scheduled).copied().unwrap_or(0);
    Ok(WorkersPage {
        frame,
        slots: workers.iter().filter(online).map(|worker| worker.slots).sum(),
        busy: workers.iter().map(|worker| worker.jobs.len()).sum(),
        drained: workers.iter().filter(|worker| worker.drained_by.is_some()).map(WorkerView::free).sum(),
        workers,
        waits,
        waiting: waiting_in_all,
        looked_at: waiting.len(),
    })
}

/// How a worker stands.
pub(super) fn badge(worker: &Worker) -> Badge {
    Badge::of(match (worker.online, &worker.drained_by) {
        (false, _) => "offline",
        (true, Some(_)) => "drained",
        (true, None) if worker.jobs.is_empty() => "idle",
        (true, None) => "running",
    })
}

fn offers(worker: &Worker, classes: &ClassSet) -> bool {
    classes.iter().all(|class| worker.classes.iter().any(|offered| offered == class))
}

async fn view(app: &App, worker: Worker, free: Free, now: Timestamp) -> Result<WorkerView, Fault> {
    let badge = badge(&worker);
    let mut jobs = Vec::new();
    for id in worker.jobs {
        if let Some(job) = app.store.job(id).await? {
            jobs.push(Slot {
                id,
                name: job.row.label(),
                badge: Badge::of(job.row.state.word().word()),
                since: job.row.started_at.map(|at| Moment::new(at, now)),
            });
        }
    }
    Ok(WorkerView {
        badge,
        why: worker.offline_reason,
        host: worker.host,
        disk: worker.disk.map(|room| room.to_string()),
        version: worker.version,
        classes: worker.classes,
        slots: worker.slots,
        jobs,
        since: Moment::of_text(&worker.since, now),
        drained_by: worker.drained_by,
        free,
        name: worker.name,
    })
}
