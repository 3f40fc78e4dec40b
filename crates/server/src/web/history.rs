//! The jobs of a scenario around one of them.

use super::frame::{Badge, Moment};
use crate::app::App;
use crate::fault::Fault;
use assay_engine::ids::{JobId, Timestamp};
use assay_engine::outcome::Outcome;
use assay_engine::rows::JobRow;
use assay_store::{JobFilter, JobSummary};

/// How many older and newer jobs are shown.
const OLDER: u32 = 20;
const NEWER: usize = 10;
/// How many newer jobs are looked through for the nearest.
const LOOKED: u32 = 500;

/// A job of the scenario.
pub(super) struct Row {
    pub(super) id: JobId,
    pub(super) badge: Badge,
    pub(super) build: String,
    pub(super) reason: String,
    pub(super) created: Moment,
    pub(super) current: bool,
}

/// The jobs of a scenario, the newest first.
pub(super) struct History {
    pub(super) rows: Vec<Row>,
    pub(super) newer: Option<JobId>,
    pub(super) older: Option<JobId>,
    /// The newest of all, if it is not shown.
    pub(super) newest: Option<JobId>,
}

/// What makes a scenario; `BUILD` is what its jobs differ in.
const SCENARIO: [&str; 6] = ["DISTRI", "VERSION", "FLAVOR", "ARCH", "TEST", "MACHINE"];

fn scenario(job: &JobSummary) -> [Option<&str>; 6] {
    [&job.distri, &job.version, &job.flavor, &job.arch, &job.test, &job.machine].map(|value| value.as_deref())
}

fn row(job: &JobSummary, now: Timestamp) -> Row {
    Row {
        id: job.id,
        badge: Badge::of(job.outcome.map_or_else(|| job.state.word(), Outcome::openqa)),
        build: job.build.clone().unwrap_or_default(),
        reason: job
            .reason
            .clone()
            .filter(|_| job.outcome.is_some_and(|end| !end.is_ok()))
            .unwrap_or_default(),
        created: Moment::new(job.created_at, now),
        current: false,
    }
}

impl History {
    /// Of a job that says what it tests; else there is none.
    pub(super) async fn of(app: &App, job: &JobRow) -> Result<Option<Self>, Fault> {
        let now = app.clock.now();
        let setting = |key: &str| job.settings.get(key);
        if setting("TEST").is_none() {
            return Ok(None);
        }
        let wanted = SCENARIO.map(setting);
        let [distri, version, flavor, arch, test, machine] =
            SCENARIO.map(|key| setting(key).map(str::to_owned).into_iter().collect());
        let like = JobFilter { distri, version, flavor, arch, test, machine, ..JobFilter::default() };
        let newer = JobFilter { after: Some(job.id), limit: LOOKED, ..like.clone() };
        let older = JobFilter { before: Some(job.id), limit: OLDER, ..like.clone() };
        let own = JobFilter { ids: vec![job.id], limit: 1, ..JobFilter::default() };
        // A filter cannot say that something is unset.
        let same = |job: &JobSummary| scenario(job) == wanted;
        let mut newer = app.store.summaries(&newer).await?;
        newer.retain(same);
        let mut older = app.store.summaries(&older).await?;
        older.retain(same);
        let newest = newer.first().map(|job| job.id).filter(|_| newer.len() > NEWER);
        let shown = &newer[newer.len().saturating_sub(NEWER)..];
        let mut rows: Vec<Row> = shown.iter().map(|job| row(job, now)).collect();
        for job in app.store.summaries(&own).await? {
            rows.push(Row { current: true, ..row(&job, now) });
        }
        rows.extend(older.iter().map(|job| row(job, now)));
        Ok(Some(Self {
            rows,
            newer: shown.last().map(|job| job.id),
            older: older.first().map(|job| job.id),
            newest,
        }))
    }
}
