//! What is known of a scenario from its earlier jobs: comments that go over, and what changed since it last passed.

mod carry;
pub(crate) mod investigate;

use crate::api::MAX_STEPS;
use crate::app::App;
use crate::record::Run;
use assay_engine::ids::JobId;
use assay_engine::rows::JobRow;
use assay_proto::worker::Stream;
use assay_store::{JobFilter, JobSummary, StoreError, StoredAttempt};

/// What makes a scenario.
const SCENARIO: [&str; 6] = ["DISTRI", "VERSION", "FLAVOR", "ARCH", "TEST", "MACHINE"];

/// True if the job is of that scenario; a setting that is not there is a value too.
fn is_of(scenario: &JobRow, job: &JobSummary) -> bool {
    let theirs = [&job.distri, &job.version, &job.flavor, &job.arch, &job.test, &job.machine];
    SCENARIO.iter().zip(theirs).all(|(key, value)| scenario.settings.get(key) == value.as_deref())
}

impl App {
    /// The jobs of a job's scenario with lower numbers that have ended, the newest first; at most `depth`.
    pub(crate) async fn earlier(&self, job: &JobRow, depth: u32) -> Result<Vec<JobSummary>, StoreError> {
        let of = |key: &str| job.settings.get(key).map(str::to_owned).into_iter().collect();
        let filter = JobFilter {
            distri: of("DISTRI"),
            version: of("VERSION"),
            flavor: of("FLAVOR"),
            arch: of("ARCH"),
            test: of("TEST"),
            machine: of("MACHINE"),
            before: Some(job.id),
            limit: depth.saturating_mul(2),
            ..JobFilter::default()
        };
        let mut jobs = self.store.summaries(&filter).await?;
        jobs.retain(|earlier| earlier.outcome.is_some() && is_of(job, earlier));
        jobs.truncate(depth as usize);
        Ok(jobs)
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
    async fn run_of(&self, attempt: &StoredAttempt) -> Result<Run, StoreError> {
        Ok(Run::parse(&self.read_stream(attempt, Stream::Steps, 0, MAX_STEPS).await?).ended())
    }
}
