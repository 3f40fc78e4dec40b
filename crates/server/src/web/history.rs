//! The jobs of a scenario around one of them.

use super::frame::{Badge, Moment, percent_encoded, rfc3339};
use crate::app::App;
use crate::fault::Fault;
use crate::knowledge::{history_of, parted_by};
use assay_engine::ids::{JobId, Timestamp};
use assay_engine::outcome::Outcome;
use assay_engine::rows::JobRow;
use assay_proto::api::overview::{ScenarioHistory, ScenarioJob};
use assay_store::{JobFilter, JobSummary};
use serde::Deserialize;

/// How many older and newer jobs are shown unless the address says otherwise, and at most.
const OLDER: u32 = 20;
const NEWER: u32 = 10;
const MOST: u32 = 1_000;

/// What of the scenario an address asks for.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Asked {
    previous_limit: Option<u32>,
    next_limit: Option<u32>,
    /// Only other jobs with these results: openQA's words, with commas.
    #[serde(default)]
    history_result: String,
}

impl Asked {
    /// So many older and newer jobs, with these outcomes.
    fn read(&self) -> Result<(u32, u32, Vec<Outcome>), Fault> {
        let mut outcomes = Vec::new();
        for word in self.history_result.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let meant = Outcome::meant_by(word);
            if meant.is_empty() {
                let help = "Use results such as failed or passed, or not_ok, ok, complete.";
                return Err(Fault::bad(format!("{word:?} is no result."), help));
            }
            outcomes.extend(meant);
        }
        let [older, newer] = [(self.previous_limit, OLDER), (self.next_limit, NEWER)]
            .map(|(asked, usual)| asked.unwrap_or(usual).min(MOST));
        Ok((older, newer, outcomes))
    }

    /// The address of the same with so many older and newer jobs.
    fn href(&self, job: JobId, older: u32, newer: u32) -> String {
        let result = percent_encoded(&self.history_result);
        format!("/jobs/{job}?previous_limit={older}&next_limit={newer}&history_result={result}#previous")
    }
}

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
    /// Where more of them are shown, if there are more.
    pub(super) more_older: Option<String>,
    pub(super) more_newer: Option<String>,
    /// Only failures, or all of them again: what the link is called, and where it leads.
    pub(super) choice: (&'static str, String),
    /// Others are left out for their result.
    pub(super) restricted: bool,
    /// The settings in which all of them are alike, beside the scenario.
    pub(super) alike: String,
}

/// The jobs of a scenario around one of them, the newest first, as they are stored.
pub(crate) struct Around {
    newer: Vec<JobSummary>,
    own: Vec<JobSummary>,
    older: Vec<JobSummary>,
    /// The newest of all, if it is not among them.
    newest: Option<JobId>,
    more_newer: bool,
    more_older: bool,
    most_newer: u32,
    most_older: u32,
    restricted: bool,
}

/// Those around a job that says what it tests; else there are none.
pub(crate) async fn around(app: &App, job: &JobRow, asked: &Asked) -> Result<Option<Around>, Fault> {
    let (most_older, most_newer, outcomes) = asked.read()?;
    if job.settings.get("TEST").is_none() {
        return Ok(None);
    }
    let restricted = !outcomes.is_empty();
    let like = JobFilter { outcomes, ..history_of(job) };
    // One more than is shown tells whether there are more.
    let newer = JobFilter { after: Some(job.id), limit: most_newer + 1, oldest_first: true, ..like.clone() };
    let older = JobFilter { before: Some(job.id), limit: most_older + 1, ..like.clone() };
    let own = JobFilter { ids: vec![job.id], limit: 1, ..JobFilter::default() };
    let mut newer = app.store.summaries(&newer).await?;
    let mut older = app.store.summaries(&older).await?;
    let more_older = older.len() > most_older as usize;
    older.truncate(most_older as usize);
    let more_newer = newer.len() > most_newer as usize;
    let newest = if more_newer {
        newer.pop();
        app.store.summaries(&JobFilter { limit: 1, ..like }).await?.first().map(|job| job.id)
    } else {
        None
    };
    newer.reverse();
    let own = app.store.summaries(&own).await?;
    Ok(Some(Around { newer, own, older, newest, more_newer, more_older, most_newer, most_older, restricted }))
}

impl Around {
    /// For programs.
    pub(crate) fn told(&self) -> ScenarioHistory {
        let one = |job: &JobSummary| ScenarioJob {
            id: job.id.0,
            build: job.build.clone(),
            state: job.state.word().to_owned(),
            result: job.outcome.map_or("none", Outcome::openqa).to_owned(),
            reason: job.reason.clone(),
            created: rfc3339(job.created_at),
        };
        let jobs: Vec<_> = self.newer.iter().chain(&self.own).chain(&self.older).map(one).collect();
        ScenarioHistory {
            next: self.newer.last().map(|job| job.id.0),
            previous: self.older.first().map(|job| job.id.0),
            newest: self.newest.map(|job| job.0).or_else(|| jobs.first().map(|job| job.id)),
            more_newer: self.more_newer,
            more_older: self.more_older,
            jobs,
        }
    }
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
    pub(super) async fn of(app: &App, job: &JobRow, asked: &Asked) -> Result<Option<Self>, Fault> {
        let Some(around) = around(app, job, asked).await? else { return Ok(None) };
        let now = app.clock.now();
        let Around { newer, own, older, newest, most_newer, most_older, restricted, .. } = around;
        let mut rows: Vec<Row> = newer.iter().map(|job| row(job, now)).collect();
        rows.extend(own.iter().map(|job| Row { current: true, ..row(job, now) }));
        rows.extend(older.iter().map(|job| row(job, now)));
        let (more_older, more_newer) =
            (around.more_older && most_older < MOST, around.more_newer && most_newer < MOST);
        Ok(Some(Self {
            rows,
            newer: newer.last().map(|job| job.id),
            older: older.first().map(|job| job.id),
            newest,
            more_older: more_older
                .then(|| asked.href(job.id, (most_older * 5).clamp(OLDER, MOST), most_newer)),
            more_newer: more_newer
                .then(|| asked.href(job.id, most_older, (most_newer * 5).clamp(NEWER, MOST))),
            choice: if restricted {
                ("all results", Asked::default().href(job.id, most_older, most_newer))
            } else {
                let failures = Asked { history_result: "not_ok".into(), ..Asked::default() };
                ("only failures", failures.href(job.id, most_older, most_newer))
            },
            restricted,
            alike: parted_by(job).collect::<Vec<_>>().join(", "),
        }))
    }
}
