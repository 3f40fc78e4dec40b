//! Results of jobs and their modules, for the transaction that makes them what they are.
//!
//! A job's result is queued, running and final once each; what tells whether one is stored already is its word in the
//! database (`job/7/queued`), and a note in memory spares most looks there.

use super::conventions::{cut, of_job, outcome, outcome_of_module};
use crate::app::App;
use crate::record::Run;
use crate::reporting::facts::{Builds, Happened, of_job as told_of_job};
use assay_engine::ids::{AttemptId, JobId, Timestamp};
use assay_engine::job::StateWord;
use assay_engine::reason::EndReason;
use assay_engine::rows::JobRow;
use assay_engine::state::State;
use assay_store::{Batch, NewResult, StoreError};
use std::collections::{HashMap, HashSet};

/// How far a job's results have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Queued,
    Running,
    Ended,
}

impl Stage {
    fn of(job: &JobRow) -> Self {
        match job.state.word() {
            StateWord::Scheduled | StateWord::Assigned | StateWord::Setup => Self::Queued,
            StateWord::Running | StateWord::Uploading => Self::Running,
            StateWord::Done | StateWord::Cancelled => Self::Ended,
        }
    }

    fn happened(self) -> Happened {
        match self {
            Self::Queued => Happened::Posted,
            Self::Running => Happened::Started,
            Self::Ended => Happened::Ended,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Ended => "ended",
        }
    }
}

/// What the driver knows of results that are stored.
#[derive(Debug)]
pub(crate) struct JobResults {
    /// Open jobs.
    stages: HashMap<JobId, Stage>,
    /// Jobs that have ended: they change once more, when they are started anew or what is said about them is counted.
    ended: HashSet<JobId>,
    /// No job with a greater number was there when the state was made from the store.
    old: JobId,
    /// Open jobs by their builds.
    builds: Builds,
}

impl JobResults {
    /// Knows nothing of the results of jobs that are there.
    pub(crate) fn new(state: &State) -> Self {
        let builds = Builds::of(state.open_jobs());
        Self { stages: HashMap::new(), ended: HashSet::new(), old: state.last_job(), builds }
    }

    /// Adds to a batch the results of what happens to its jobs, and what is told of it.
    pub(crate) async fn add_to(
        &mut self,
        app: &App,
        batch: &mut Batch,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let url = app.results.settings().url.clone();
        let mut new = Vec::new();
        let mut doubtful = Vec::new();
        batch.jobs().filter(|job| !job.state.is_final()).for_each(|job| self.builds.add(job));
        for job in batch.jobs() {
            let stage = Stage::of(job);
            let before = self.stages.get(&job.id).copied();
            if self.ended.contains(&job.id) || before.is_some_and(|before| before >= stage) {
                continue;
            }
            let mut facts = Vec::new();
            if stage > Stage::Queued && before.is_none() && job.id > self.old {
                facts.extend(told_of_job(&app.reporting, job, Happened::Posted, &mut self.builds, now));
            }
            facts.extend(told_of_job(&app.reporting, job, stage.happened(), &mut self.builds, now));
            let result = result(job, stage, &url, now);
            if before.is_none() && job.id <= self.old {
                doubtful.extend(result.dedupe.clone());
            }
            if stage == Stage::Ended {
                self.stages.remove(&job.id);
                self.ended.insert(job.id);
            } else {
                self.stages.insert(job.id, stage);
            }
            new.push((result, facts));
        }
        self.forget_some();
        if !doubtful.is_empty() {
            let known = app.store.results().deduped(&doubtful).await?;
            new.retain(|(result, _)| result.dedupe.as_ref().is_none_or(|word| !known.contains_key(word)));
        }
        let mut entries = Vec::new();
        for (mut result, facts) in new {
            result.id = app.results.number();
            entries.extend(app.reporting.entries(&facts, now));
            entries.extend(app.reporting.of_results(std::slice::from_ref(&result), now));
            batch.push_result(result);
        }
        entries.into_iter().for_each(|entry| batch.tell(entry));
        Ok(())
    }

    /// Ended jobs are remembered only for a while; after that the database is asked.
    fn forget_some(&mut self) {
        const MOST: usize = 50_000;
        if self.ended.len() > MOST {
            self.old = self.ended.drain().max().unwrap_or(self.old).max(self.old);
        }
    }
}

fn result(job: &JobRow, stage: Stage, url: &str, now: Timestamp) -> NewResult {
    let mut result = of_job(job, url);
    result.dedupe = Some(format!("job/{}/{}", job.id, stage.word()));
    match stage {
        Stage::Queued => result.outcome = "QUEUED".into(),
        Stage::Running => {
            result.outcome = "RUNNING".into();
            result.at = now;
        }
        Stage::Ended => {
            if let Some(end) = job.state.end() {
                result.outcome = outcome(end.outcome).into();
                result.at = end.at;
                result.note = match &end.reason {
                    EndReason::Reported { text: None } => None,
                    reason => Some(cut(&reason.to_string())),
                };
                if end.outcome.is_ok() {
                    result.testcase_ref_url.clone_from(&result.ref_url);
                }
            }
        }
    }
    result
}

impl App {
    /// The results of an attempt's modules, those left out that are stored already.
    pub(crate) async fn module_results(
        &self,
        attempt: AttemptId,
        run: &Run,
    ) -> Result<Vec<NewResult>, StoreError> {
        let Some(job) = self.store.job(attempt.job).await? else { return Ok(Vec::new()) };
        let job = &job.row;
        let url = self.results.settings().url.clone();
        let at = job.finished_at().unwrap_or_else(|| self.clock.now());
        let whole = of_job(job, &url);
        let mut results = Vec::new();
        for (number, module) in run.modules.iter().enumerate() {
            let mut result = whole.clone();
            result.testcase = cut(&format!("{}.{}", whole.testcase, module.plan.name));
            result.outcome = outcome_of_module(module.result).into();
            result.at = at;
            result.dedupe = Some(format!("job/{}/{}/module/{number}", attempt.job, attempt.number));
            result.ref_url = whole
                .ref_url
                .as_ref()
                .map(|job| format!("{job}#module-{}", crate::web::frame::percent_encoded(&module.plan.name)));
            result.data.insert("module".into(), vec![cut(&module.plan.name)]);
            result.data.insert("attempt".into(), vec![attempt.number.to_string()]);
            results.push(result);
        }
        let words: Vec<String> = results.iter().filter_map(|result| result.dedupe.clone()).collect();
        if !words.is_empty() {
            let known = self.store.results().deduped(&words).await?;
            results.retain(|result| result.dedupe.as_ref().is_none_or(|word| !known.contains_key(word)));
        }
        for result in &mut results {
            result.id = self.results.number();
        }
        Ok(results)
    }
}
