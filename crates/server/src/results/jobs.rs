//! Results of jobs and their modules, for the transaction that makes them what they are.
//!
//! A job's result is queued, running and final once each; what tells whether one is stored already is its word in the
//! database (`job/7/queued`), and a note in memory spares most looks there.
//!
//! That a job is queued is stored a moment later, with that of others: whoever posts a thousand jobs waits for the jobs
//! only. It never comes after what the job becomes next, and after a crash it is made up for from the open jobs.

use super::conventions::{cut, of_job, of_task, outcome, outcome_of_module};
use super::settings::ResultsSettings;
use crate::app::App;
use crate::record::Run;
use crate::reporting::facts::{Builds, Happened, of_job as told_of_job};
use assay_engine::ids::{AttemptId, JobId, Timestamp};
use assay_engine::job::StateWord;
use assay_engine::reason::EndReason;
use assay_engine::report::Fact;
use assay_engine::rows::JobRow;
use assay_engine::state::State;
use assay_proto::task_run::{BACKEND, URL};
use assay_store::{Batch, NewResult, StoreError};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;
use tokio::time::Instant;

/// How long the results of queued jobs wait for others.
const DELAY: Duration = Duration::from_millis(100);
/// So many are stored at once.
const TOGETHER: usize = 512;

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

    fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Ended => "ended",
        }
    }

    fn happened(self) -> Happened {
        match self {
            Self::Queued => Happened::Posted,
            Self::Running => Happened::Started,
            Self::Ended => Happened::Ended,
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
    /// Jobs whose being queued is not stored yet.
    queued: BTreeSet<JobId>,
    /// When the next of them are stored.
    due: Option<Instant>,
    /// Open jobs by their builds.
    builds: Builds,
}

/// A result, and what others are told beside it.
struct New {
    job: JobId,
    result: NewResult,
    facts: Vec<Fact>,
}

impl JobResults {
    /// Knows only which jobs are open; what is stored of them is looked for.
    pub(crate) fn new(state: &State) -> Self {
        let queued: BTreeSet<JobId> =
            state.open_jobs().filter(|job| Stage::of(job) == Stage::Queued).map(|job| job.id).collect();
        let due = (!queued.is_empty()).then(|| Instant::now() + DELAY);
        let builds = Builds::of(state.open_jobs());
        Self { stages: HashMap::new(), ended: HashSet::new(), old: state.last_job(), queued, due, builds }
    }

    /// When there is something to store.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Adds to a batch the results of what happens to its jobs, of some that have waited, and what is told of it.
    pub(crate) async fn add_to(
        &mut self,
        app: &App,
        state: &State,
        batch: &mut Batch,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let places = app.results.settings();
        let mut new = self.waited(state, &places, now);
        let mut facts = Vec::new();
        batch.jobs().filter(|job| !job.state.is_final()).for_each(|job| self.builds.add(job));
        for job in batch.jobs() {
            self.note(app, job, &places, now, &mut new, &mut facts);
        }
        self.forget_some();
        // What is known of jobs that were there before us is in the database only.
        let doubtful: Vec<String> = new
            .iter()
            .filter(|new| new.job <= self.old)
            .filter_map(|new| new.result.dedupe.clone())
            .collect();
        if !doubtful.is_empty() {
            let known = app.store.results().deduped(&doubtful).await?;
            new.retain(|new| new.result.dedupe.as_ref().is_none_or(|word| !known.contains_key(word)));
        }
        let mut entries = app.reporting.entries(&facts, now);
        for New { mut result, facts, .. } in new {
            result.id = app.results.number();
            app.note_subjects(&mut result);
            entries.extend(app.reporting.entries(&facts, now));
            entries.extend(app.reporting.of_results(std::slice::from_ref(&result), now));
            batch.push_result(result);
        }
        for entry in entries {
            batch.tell(entry);
        }
        Ok(())
    }

    /// Notes what a job has become: its results, and what is told at once.
    fn note(
        &mut self,
        app: &App,
        job: &JobRow,
        places: &ResultsSettings,
        now: Timestamp,
        new: &mut Vec<New>,
        at_once: &mut Vec<Fact>,
    ) {
        let stage = Stage::of(job);
        let before = self.stages.get(&job.id).copied();
        if self.ended.contains(&job.id) || before.is_some_and(|before| before >= stage) {
            return;
        }
        let mut facts = Vec::new();
        if stage > Stage::Queued && before.is_none() && job.id > self.old {
            facts.extend(told_of_job(&app.reporting, job, Happened::Posted, &mut self.builds, now));
        }
        facts.extend(told_of_job(&app.reporting, job, stage.happened(), &mut self.builds, now));
        if stage == Stage::Ended {
            self.stages.remove(&job.id);
            self.ended.insert(job.id);
        } else {
            self.stages.insert(job.id, stage);
        }
        if stage == Stage::Queued && job.id > self.old {
            self.queued.insert(job.id);
            self.due.get_or_insert_with(|| Instant::now() + DELAY);
            at_once.extend(facts);
            return;
        }
        if self.queued.remove(&job.id) && stage > Stage::Queued {
            let result = result(job, Stage::Queued, places, now);
            new.push(New { job: job.id, result, facts: Vec::new() });
        }
        new.push(New { job: job.id, result: result(job, stage, places, now), facts });
    }

    /// The results of queued jobs whose time has come.
    fn waited(&mut self, state: &State, places: &ResultsSettings, now: Timestamp) -> Vec<New> {
        if self.due.is_none_or(|due| due > Instant::now()) {
            return Vec::new();
        }
        let some: Vec<JobId> = self.queued.iter().copied().take(TOGETHER).collect();
        self.queued.retain(|job| some.last().is_none_or(|last| job > last));
        self.due = (!self.queued.is_empty()).then(|| Instant::now() + DELAY);
        let of = |id| {
            let result = result(state.job(id)?, Stage::Queued, places, now);
            Some(New { job: id, result, facts: Vec::new() })
        };
        some.into_iter().filter_map(of).collect()
    }

    /// Ended jobs are remembered only for a while; after that the database is asked.
    fn forget_some(&mut self) {
        const MOST: usize = 50_000;
        if self.ended.len() > MOST {
            self.old = self.ended.drain().max().unwrap_or(self.old).max(self.old);
        }
    }
}

fn result(job: &JobRow, stage: Stage, places: &ResultsSettings, now: Timestamp) -> NewResult {
    let mut result = of_job(job, places);
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

/// True if a result of this outcome is all that is wanted.
fn is_good(outcome: &str) -> bool {
    matches!(outcome, "PASSED" | "INFO")
}

impl App {
    /// The results of an attempt's modules and of what its task found, those left out that are stored already.
    pub(crate) async fn module_results(
        &self,
        attempt: AttemptId,
        run: &Run,
    ) -> Result<Vec<NewResult>, StoreError> {
        let Some(job) = self.store.job(attempt.job).await? else { return Ok(Vec::new()) };
        let job = &job.row;
        let places = self.results.settings();
        let at = job.finished_at().unwrap_or_else(|| self.clock.now());
        let whole = of_job(job, &places);
        let mut results = Vec::new();
        // The parts of a task run are no tests; its tests are what it found.
        let is_task = job.settings.get("BACKEND") == Some(BACKEND);
        for (number, module) in run.modules.iter().enumerate().filter(|_| !is_task) {
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
        let task = job.settings.get(URL).filter(|_| is_task);
        // Results of one moment count in the order of their numbers: what a task says of its item counts after what became
        // of its job. But a task that crashed has passed nothing, whatever it wrote before.
        let crashed =
            job.state.end().is_some_and(|end| outcome(end.outcome) != "FAILED" && !end.outcome.is_ok());
        for (number, found) in run.found.iter().enumerate() {
            if !task.is_some_and(|url| self.task_runs.may_post(url, &found.testcase)) {
                // Its worker has said so as well, as the reason of the job.
                tracing::warn!(job = %attempt.job, testcase = found.testcase, "a result outside the task's namespaces is refused");
                continue;
            }
            let mut result = of_task(found, &whole, run, &places);
            result.at = if crashed && is_good(&found.outcome) { Timestamp(at.0 - 1) } else { at };
            result.dedupe = Some(format!("job/{}/{}/found/{number}", attempt.job, attempt.number));
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
