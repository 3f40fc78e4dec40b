//! `/workers`: what each worker does, and why what waits does not run on it.

use super::frame::{Badge, Frame, Moment};
use crate::app::App;
use crate::fault::Fault;
use crate::present::reason_of;
use askama::Template;
use assay_engine::ids::{JobId, Timestamp};
use assay_engine::job::StateWord;
use assay_store::JobFilter;
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
    /// How many jobs wait that it offers everything for.
    could: usize,
}

impl WorkerView {
    fn free(&self) -> u32 {
        self.slots.saturating_sub(u32::try_from(self.jobs.len()).unwrap_or(u32::MAX))
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
    let offers = |worker: &assay_proto::api::Worker, classes: &[&str]| {
        classes.iter().all(|class| worker.classes.iter().any(|offered| offered == class))
    };
    // The longest waiting first: the newest are last in the list.
    for job in waiting.iter().rev() {
        let reason = reason_of(job).unwrap_or_else(|| "it is looked at in a moment".to_owned());
        let classes: Vec<&str> = job.row.classes.iter().collect();
        let wait = waits.entry(reason).or_insert_with_key(|reason| Wait {
            reason: reason.clone(),
            count: 0,
            named: Vec::new(),
            fitting: present
                .iter()
                .filter(|worker| worker.online && offers(worker, &classes))
                .map(|worker| worker.name.clone())
                .collect(),
            classes: classes.join(", "),
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
        let could =
            waiting.iter().filter(|job| offers(&worker, &job.row.classes.iter().collect::<Vec<_>>())).count();
        workers.push(view(app, worker, could, now).await?);
    }
    let mut frame = Frame::new(now);
    frame.events = Some(changes);
    let online = |worker: &&WorkerView| worker.why.is_none();
    let waiting_in_all = app.store.counts().await?.get(&StateWord::Scheduled).copied().unwrap_or(0);
    Ok(WorkersPage {
        frame,
        slots: workers.iter().filter(online).map(|worker| worker.slots).sum(),
        busy: workers.iter().map(|worker| worker.jobs.len()).sum(),
        workers,
        waits,
        waiting: waiting_in_all,
        looked_at: waiting.len(),
    })
}

async fn view(
    app: &App,
    worker: assay_proto::api::Worker,
    could: usize,
    now: Timestamp,
) -> Result<WorkerView, Fault> {
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
    let word = match (worker.online, jobs.is_empty()) {
        (false, _) => "offline",
        (true, true) => "idle",
        (true, false) => "running",
    };
    Ok(WorkerView {
        badge: Badge::of(word),
        why: worker.offline_reason,
        host: worker.host,
        disk: worker.disk.map(|room| room.to_string()),
        version: worker.version,
        classes: worker.classes,
        slots: worker.slots,
        jobs,
        since: Moment::of_text(&worker.since, now),
        could,
        name: worker.name,
    })
}
