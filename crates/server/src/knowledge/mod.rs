//! What is known of a scenario from its earlier jobs: comments that go over, and what changed since it last passed.

mod carry;
pub(crate) mod investigate;

use crate::api::MAX_STEPS;
use crate::app::App;
use crate::record::Run;
use assay_engine::ids::JobId;
use assay_engine::outcome::Outcome;
use assay_engine::rows::JobRow;
use assay_proto::worker::Stream;
use assay_store::{JobFilter, JobSummary, ScenarioKey, StoreError, StoredAttempt};
use std::collections::BTreeSet;

/// What makes a scenario.
const SCENARIO: [&str; 6] = ["DISTRI", "VERSION", "FLAVOR", "ARCH", "TEST", "MACHINE"];
/// Which settings part the history of a scenario, in openQA's words: those that a job names, else this one if it has it.
const PARTED_BY: &str = "_HISTORY_ISOLATION_KEYS";
/// So many names of such settings count: each makes the search of earlier jobs longer.
const MOST_PARTING: usize = 32;
const SUBMISSION: &str = "SUBMISSION_ID";

/// The scenario of a job; a setting that is not there is a value too.
fn scenario_of(job: &JobRow) -> ScenarioKey {
    SCENARIO.map(|key| job.settings.get(key).map(str::to_owned))
}

/// The names of the settings that part a job's history from others of its scenario.
pub(crate) fn parted_by(job: &JobRow) -> impl Iterator<Item = &str> {
    let own = job.settings.get(SUBMISSION).map(|_| SUBMISSION);
    let names = job.settings.setting(PARTED_BY).map(|one| one.value.as_str()).or(own).unwrap_or_default();
    let mut seen = BTreeSet::new();
    let distinct = names.split([',', ' ']).filter(move |name| !name.is_empty() && seen.insert(*name));
    distinct.take(MOST_PARTING)
}

/// The jobs of a job's history: of its scenario, and like it in what parts that.
pub(crate) fn history_of(job: &JobRow) -> JobFilter {
    let mut filter = JobFilter { scenario: Some(scenario_of(job)), ..JobFilter::default() };
    for name in parted_by(job) {
        match job.settings.get(name) {
            Some(value) => filter.settings.push((name.to_owned(), value.to_owned())),
            None => filter.without.push(name.to_owned()),
        }
    }
    filter
}

impl App {
    /// The jobs of a job's scenario with lower numbers that have ended by themselves, the newest first; at most `depth`.
    pub(crate) async fn earlier(&self, job: &JobRow, depth: u32) -> Result<Vec<JobSummary>, StoreError> {
        let outcomes: Vec<_> = Outcome::ALL.into_iter().filter(|outcome| !outcome.is_aborted()).collect();
        self.earlier_with(job, outcomes, depth).await
    }

    /// Those of them that ended so; what nobody asks about does not count.
    pub(crate) async fn earlier_with(
        &self,
        job: &JobRow,
        outcomes: Vec<Outcome>,
        depth: u32,
    ) -> Result<Vec<JobSummary>, StoreError> {
        let filter = JobFilter { outcomes, before: Some(job.id), limit: depth, ..history_of(job) };
        self.store.summaries(&filter).await
    }

    /// What a job's last attempt did; nothing if nobody tried.
    pub(crate) async fn last_run(&self, job: JobId) -> Result<Run, StoreError> {
        match self.store.attempts(job).await?.pop() {
            Some(attempt) => self.run_of(&attempt).await,
            None => Ok(Run::default()),
        }
    }

    /// What an attempt did whose streams are to be closed.
    pub(crate) async fn ended_run(&self, attempt: assay_engine::ids::AttemptId) -> Result<Run, StoreError> {
        match self.attempt(attempt).await? {
            Some(attempt) => self.run_of(&attempt).await,
            None => Ok(Run::default()),
        }
    }

    /// What an attempt that has ended did.
    pub(crate) async fn run_of(&self, attempt: &StoredAttempt) -> Result<Run, StoreError> {
        Ok(Run::parse(&self.read_stream(attempt, Stream::Steps, 0, MAX_STEPS).await?).ended())
    }
}
