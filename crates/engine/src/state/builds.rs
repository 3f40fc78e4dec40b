//! The gate's builds are jobs: made, cancelled and ended in the step that decides about them.

use super::State;
use crate::gate::config::Precedence;
use crate::gate::ids::Uuid;
use crate::gate::io::{self as gate, BuildRequest, BuildResult};
use crate::gate::item::Runner;
use crate::ids::{AttemptId, JobId, Timestamp};
use crate::io::{Change, Effect, NewJob};
use crate::job::{End, JobState};
use crate::outcome::Outcome;
use crate::rows::{JobRow, Row};
use crate::settings::{Provenance, Setting, Settings};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The setting that says which build a job is.
const UUID: &str = "ZUUL_UUID";

impl State {
    /// The build that a job is.
    pub(crate) fn build_of(job: &JobRow) -> Option<Uuid> {
        job.settings.get(UUID)?.to_owned().try_into().ok()
    }

    /// True for a build that the gate waits for no more.
    pub(super) fn is_pointless(&self, job: JobId) -> bool {
        let build = self.jobs.get(&job).and_then(Self::build_of);
        build.is_some_and(|build| !self.builds.contains_key(&build))
    }

    /// The job of a build that has not ended.
    pub fn job_of_build(&self, build: Uuid) -> Option<JobId> {
        self.builds.get(&build).copied()
    }

    /// Gives the gate an input, and carries out what it says about jobs.
    pub(super) fn gate_input(
        &mut self,
        input: gate::Input,
    ) -> Result<gate::Answer, crate::gate::reason::Refusal> {
        let step = self.gate.step(input, self.now);
        for effect in step.effects {
            self.gate_effect(effect);
        }
        step.answer
    }

    fn gate_effect(&mut self, effect: gate::Effect) {
        match effect {
            gate::Effect::Save(row) => self.save(Row::Gate(row)),
            gate::Effect::StartBuild(request) => self.start_build(&request),
            gate::Effect::CancelBuild(uuid) => {
                if let Some(job) = self.builds.remove(&uuid) {
                    let _ = self.cancel(job, "the gate: its result is of no use any more");
                }
            }
            gate::Effect::Changed(pipeline) => drop(self.changes.insert(Change::Gate(pipeline))),
            other => self.effects.push(Effect::Gate(other)),
        }
    }

    fn start_build(&mut self, request: &BuildRequest) {
        let settings = settings(request).and_then(|settings| {
            let problem = settings.check().err().map(|problem| problem.to_string());
            problem.map_or(Ok(settings), Err)
        });
        match settings {
            Ok(settings) => {
                let priority = Some(priority(request.precedence));
                let job = NewJob { priority, ..NewJob::new(settings) };
                if let Ok([job]) = self.make_jobs(vec![job], None).as_deref() {
                    self.builds.insert(request.uuid, *job);
                }
            }
            Err(reason) => {
                self.news.push(gate::Input::BuildEnded {
                    build: request.uuid,
                    result: BuildResult::not_registered(reason),
                });
            }
        }
    }

    /// A build's machine or script began: the gate hears where.
    pub(super) fn note_build_begun(&mut self, id: AttemptId) {
        let Some(build) = self.jobs.get(&id.job).and_then(Self::build_of) else { return };
        let Some(attempt) = self.attempts.get(&id) else { return };
        let by = Some(Runner { job: id.job, worker: attempt.worker.clone() });
        self.news.push(gate::Input::BuildStarted { build, at: self.now, by });
    }

    /// A job was stored: the gate hears of a build's beginning and end.
    pub(super) fn note_build(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let Some(uuid) = Self::build_of(job).filter(|uuid| self.builds.get(uuid) == Some(&id)) else {
            return;
        };
        // Of a short job beginning and end may be stored in one step: the beginning is in its row.
        let started = job.started_at.map(|at| gate::Input::BuildStarted { build: uuid, at, by: None });
        let ended = match &job.state {
            JobState::Done(end) | JobState::Cancelled(end) => Some(result(end)),
            JobState::Scheduled { .. } | JobState::Active(_) => None,
        };
        self.news.extend(started);
        if let Some(result) = ended {
            self.builds.remove(&uuid);
            self.news.push(gate::Input::BuildEnded { build: uuid, result });
        }
    }

    /// Tells the gate what it has to know, until nothing more comes of it.
    pub(super) fn tell_gate(&mut self) {
        while !self.news.is_empty() {
            for input in std::mem::take(&mut self.news) {
                let _ = self.gate_input(input);
            }
            self.settle_fallout();
        }
    }

    /// After a restart: a build that the gate waits for and that is no open job will never end by itself.
    pub(super) fn mend_builds(&mut self) {
        let running: Vec<Uuid> = self.gate.running_builds().collect();
        for build in running.into_iter().filter(|build| !self.builds.contains_key(build)) {
            let result = BuildResult::lost("the server restarted and found no job for it");
            self.news.push(gate::Input::BuildEnded { build, result });
        }
    }

    /// When the gate has to be looked at again.
    pub(super) fn gate_deadline(&self) -> Option<Timestamp> {
        self.gate.next_deadline()
    }
}

fn priority(precedence: Precedence) -> i32 {
    match precedence {
        Precedence::High => 30,
        Precedence::Normal => 50,
        Precedence::Low => 70,
    }
}

/// How a job's end is told in Zuul's words.
fn result(end: &End) -> BuildResult {
    let word = match end.outcome {
        Outcome::Passed | Outcome::Softfailed => BuildResult::SUCCESS,
        Outcome::Failed => "FAILURE",
        Outcome::TimeoutExceeded => "TIMED_OUT",
        Outcome::UserCancelled
        | Outcome::Obsoleted
        | Outcome::ParallelFailed
        | Outcome::ParallelRestarted
        | Outcome::UserRestarted => "ABORTED",
        Outcome::Skipped => "SKIPPED",
        Outcome::Incomplete => "LOST",
    };
    BuildResult { word: word.to_owned(), class: end.class, reason: end.text() }
}

/// The settings of a build's job.
fn settings(request: &BuildRequest) -> Result<Settings, String> {
    let job = &request.job;
    let mut pairs: BTreeMap<String, String> = job.env.clone();
    match &job.task {
        Some(task) => {
            let long = ["ZUUL_CHANGES", "ZUUL_CHANGE_IDS"]; // in the task's environment only
            let short = request.params.iter().filter(|(name, _)| !long.contains(&name.as_str()));
            pairs.extend(short.map(|(name, value)| (name.clone(), value.clone())));
            pairs.insert("BACKEND".to_owned(), "shell".to_owned());
            pairs.insert("TASK".to_owned(), task_of(request, task)?);
        }
        None if pairs.contains_key("BACKEND") => pairs.extend(request.params.clone()),
        None => {
            return Err(format!(
                "job {} is in the layout, but nothing says what it does: define it under `jobs` with `run` (docs/coming-from-zuul.md)",
                job.name
            ));
        }
    }
    pairs.insert("TEST".to_owned(), job.name.to_string());
    if !job.labels.is_empty() {
        let labels: Vec<&str> = job.labels.iter().map(String::as_str).collect();
        pairs.insert("WORKER_CLASS".to_owned(), labels.join(","));
    }
    if let Some(hold) = &request.hold {
        pairs.insert("HOLD_WORKSPACE".to_owned(), hold.clone());
    }
    let setting = |value: String| Setting::new(value, Provenance::Gate);
    Ok(Settings(pairs.into_iter().map(|(name, value)| (name, setting(value))).collect()))
}

/// The task with the build's variables in its environment and its place in the workspace.
fn task_of(request: &BuildRequest, task: &str) -> Result<String, String> {
    let job = &request.job;
    let wrong = |why: String| format!("the task of job {} cannot be read: {why}", job.name);
    let mut task: Map<String, Value> =
        serde_json::from_str(task).map_err(|error| wrong(error.to_string()))?;
    let env = task.entry("env").or_insert_with(|| json!({}));
    let env = env.as_object_mut().ok_or_else(|| wrong("its env is no map".to_owned()))?;
    for (name, value) in request.params.iter().chain(&job.env) {
        env.insert(name.clone(), json!(value));
    }
    if let Some(workspace) = task.get_mut("workspace").and_then(Value::as_object_mut) {
        place(workspace, request);
    }
    serde_json::to_string(&task).map_err(|error| wrong(error.to_string()))
}

/// Says where the speculative state is.
fn place(workspace: &mut Map<String, Value>, request: &BuildRequest) {
    let param = |name: &str| request.params.get(name).filter(|value| !value.is_empty());
    for (field, name) in [
        ("zuul_url", "ZUUL_URL"),
        ("zuul_ref", "ZUUL_REF"),
        ("branch", "ZUUL_BRANCH"),
        ("project", "ZUUL_PROJECT"),
        ("commit", "ZUUL_COMMIT"),
        ("newrev", "ZUUL_NEWREV"),
    ] {
        if let Some(value) = param(name) {
            workspace.insert(field.to_owned(), json!(value));
        }
    }
    if let Some(url) = param("ZUUL_URL")
        && workspace.get("origin").and_then(Value::as_str).unwrap_or_default().is_empty()
    {
        workspace.insert("origin".to_owned(), json!(url));
    }
    let none = workspace.get("projects").and_then(Value::as_array).is_none_or(Vec::is_empty);
    if none && let Some(project) = param("ZUUL_PROJECT") {
        let others = request.job.projects.iter().map(|name| json!({"name": name}));
        let projects: Vec<Value> =
            [json!({"name": project, "dest": "."})].into_iter().chain(others).collect();
        workspace.insert("projects".to_owned(), json!(projects));
    }
}
