//! The jobs of a scenario around one of them.

use super::frame::{Badge, Moment};
use crate::app::App;
use crate::fault::Fault;
use crate::knowledge::scenario_of;
use assay_engine::ids::{JobId, Timestamp};
use assay_engine::outcome::Outcome;
use assay_engine::rows::JobRow;
use assay_store::{JobFilter, JobSummary};

/// How many older and newer jobs are shown.
const OLDER: u32 = 20;
const NEWER: u32 = 10;

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
        if job.settings.get("TEST").is_none() {
            return Ok(None);
        }
        let like = JobFilter { scenario: Some(scenario_of(job)), ..JobFilter::default() };
        // One more than is shown tells whether there are more.
        let newer = JobFilter { after: Some(job.id), limit: NEWER + 1, oldest_first: true, ..like.clone() };
        let older = JobFilter { before: Some(job.id), limit: OLDER, ..like.clone() };
        let own = JobFilter { ids: vec![job.id], limit: 1, ..JobFilter::default() };
        let mut shown = app.store.summaries(&newer).await?;
        let older = app.store.summaries(&older).await?;
        let newest = if shown.len() > NEWER as usize {
            shown.pop();
            app.store.summaries(&JobFilter { limit: 1, ..like }).await?.first().map(|job| job.id)
        } else {
            None
        };
        shown.reverse();
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
