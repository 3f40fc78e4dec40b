//! Shell jobs: phases `pre`, `run`, `post` and `collect` in a sandbox, with a workspace of git repositories.
//!
//! What a job sees and may rely on is written in `docs/gating.md`.

pub(super) mod cache;
mod console;
pub(super) mod git;
mod globs;
mod phase;
mod processes;
mod publish;
mod recorder;
mod redact;
mod sandbox;
pub mod task;
mod watch;
mod workspace;

use super::{Attempt, Stop, infrastructure, stopped, usage};
use assay_engine::outcome::{Outcome, OutcomeClass};
use assay_proto::task::{Limits, Phase, PhaseName, Task};
use assay_proto::worker::{Report, WorkPhase};
use assay_records::step::{ModuleFlags, ModuleResult, Record};
use camino::Utf8PathBuf;
use globs::Globs;
use phase::Ended;
use recorder::Recorder;
use redact::Secrets;
use sandbox::{JobDirs, Sandbox};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

/// Which of a phase's two deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// The budget: the phase is asked to end.
    Budget,
    /// The grace after that: it is killed.
    Grace,
}

/// A deadline that comes.
pub type Over<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Says when a phase's time is over: a parameter, so that tests need not wait.
pub trait Pace: Send + Sync {
    /// Comes `after` so long, counted from now.
    fn over(&self, phase: PhaseName, deadline: Deadline, after: Duration) -> Over<'_>;
}

/// By the clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByClock;

impl Pace for ByClock {
    fn over(&self, _: PhaseName, _: Deadline, after: Duration) -> Over<'_> {
        Box::pin(tokio::time::sleep(after.min(Duration::from_secs(10_000_000))))
    }
}

/// Carries a shell job out.
pub async fn run(attempt: &Attempt) -> Report {
    run_at(attempt, &ByClock).await
}

/// The same with deadlines of `pace`.
pub async fn run_at(attempt: &Attempt, pace: &dyn Pace) -> Report {
    let task = match Task::from_settings(&attempt.settings) {
        Ok(task) => task,
        Err(error) => return usage(error.to_string()),
    };
    let globs = Globs::new(&task.artifacts).and_then(|files| Ok((files, Globs::new(&task.results)?)));
    let (artifacts, results) = match globs {
        Ok(globs) => globs,
        Err(why) => return usage(format!("the task cannot be carried out: {why}")),
    };
    let dirs = match JobDirs::create(attempt.dir.path().join("job")) {
        Ok(dirs) => dirs,
        Err(error) => return infrastructure(format!("the job's folders cannot be made: {error}")),
    };
    let secrets = Secrets::new(task.secrets.values().map(|secret| secret.0.as_str()));
    let mut recorder = Recorder::new(attempt, secrets, task.limits.log_bytes);
    recorder.plan(plan(&task));
    let mut job = Job { attempt, task: &task, dirs: &dirs, sandbox: sandbox(attempt, &task), pace };
    let report = job.carry_out(&mut recorder).await;
    finish(attempt, &task.limits, &dirs, (&artifacts, &results), report, &mut recorder).await
}

/// Keeps what is wanted of the job, and says how it ended.
async fn finish(
    attempt: &Attempt,
    limits: &Limits,
    dirs: &JobDirs,
    (artifacts, results): (&Globs, &Globs),
    report: Report,
    recorder: &mut Recorder<'_>,
) -> Report {
    if !matches!(*attempt.stop.borrow(), Some(Stop::Superseded(_) | Stop::Fenced(_) | Stop::Shutdown)) {
        publish::publish(attempt, limits, dirs, artifacts, results, recorder).await;
    }
    if recorder.left_out() > 0 {
        let cut = format!("{} bytes of the console were left out", recorder.left_out());
        recorder.say(&cut);
        recorder.record(&Record::Environment { facts: vec![("console".into(), cut)] });
    }
    hold(attempt, dirs, &report, recorder);
    let reason = report.reason.map(|reason| recorder.secrets.cover(&reason));
    recorder.say(&match &reason {
        Some(reason) => format!("ended {}: {reason}", report.outcome.openqa()),
        None => format!("ended {}", report.outcome.openqa()),
    });
    Report { reason, ..report }
}

/// The setting that asks for a failed job's folders to be kept, and says why (the gate's autohold).
const HOLD: &str = "HOLD_WORKSPACE";

/// Keeps the folders of a failure that somebody wants to look at: below `held/` in the worker's pool, until a person
/// removes them.
fn hold(attempt: &Attempt, dirs: &JobDirs, report: &Report, recorder: &mut Recorder<'_>) {
    let Some(why) = attempt.settings.get(HOLD).filter(|why| !why.is_empty()) else { return };
    if !matches!(report.outcome, Outcome::Failed | Outcome::TimeoutExceeded) {
        return;
    }
    let own = attempt.dir.path();
    let (Some(pool), Some(name)) = (own.parent(), own.file_name()) else { return };
    let kept = pool.join("held").join(name);
    let moved = fs_err::create_dir_all(pool.join("held")).and_then(|()| fs_err::rename(&dirs.root, &kept));
    recorder.say(&match moved {
        Ok(()) => format!("the workspace is kept in {kept} on its worker: {why}"),
        Err(error) => format!("the workspace could not be kept ({why}): {error}"),
    });
}

fn plan(task: &Task) -> Vec<(&'static str, ModuleFlags)> {
    let mut modules = Vec::new();
    if task.workspace.is_some() {
        modules.push((WORKSPACE_MODULE, ModuleFlags { fatal: true, ..ModuleFlags::default() }));
    }
    for name in PhaseName::ALL.into_iter().filter(|name| !task.phase(*name).steps.is_empty()) {
        let flags = match name {
            PhaseName::Pre => ModuleFlags { fatal: true, ..ModuleFlags::default() },
            PhaseName::Run => ModuleFlags::default(),
            PhaseName::Post => ModuleFlags { always_run: true, ..ModuleFlags::default() },
            PhaseName::Collect => {
                ModuleFlags { always_run: true, ignore_failure: true, ..ModuleFlags::default() }
            }
        };
        modules.push((name.word(), flags));
    }
    modules
}

const WORKSPACE_MODULE: &str = "workspace";

/// What every phase of the job sees of the host.
fn sandbox(attempt: &Attempt, task: &Task) -> Sandbox {
    let host = &attempt.host;
    let mut hide = host.hide.clone();
    // The tokens are in the data directory, which is hidden as a whole; so is the pool with other jobs' folders.
    hide.extend(
        host.hide
            .iter()
            .filter(|dir| dir.file_name() == Some("tokens"))
            .filter_map(|dir| dir.parent())
            .map(Utf8PathBuf::from),
    );
    hide.extend([host.cache.clone(), host.run.clone(), attempt.dir.path().to_owned()]);
    hide.extend(
        attempt.dir.path().parent().filter(|pool| pool.join("worker.lock").exists()).map(Utf8PathBuf::from),
    );
    let shared_memory = task.limits.memory_bytes / 2;
    Sandbox { hide, network: task.network, shared_memory, objects: Vec::new() }
}

struct Job<'a> {
    attempt: &'a Attempt,
    task: &'a Task,
    dirs: &'a JobDirs,
    sandbox: Sandbox,
    pace: &'a dyn Pace,
}

impl Job<'_> {
    /// Everything up to and with `collect`.
    async fn carry_out(&mut self, recorder: &mut Recorder<'_>) -> Report {
        // Held until nothing of the job is alive: the cache keeps what the workspace stands on.
        let mut _leases = Vec::new();
        if let Some(wanted) = &self.task.workspace {
            recorder.module_started(WORKSPACE_MODULE);
            let made = workspace::prepare(self.attempt, wanted, self.dirs, recorder);
            let ended = tokio::select! {
                made = made => made,
                stop = self.attempt.stopped() => {
                    recorder.module_ended(ModuleResult::Cancelled);
                    return stopped(&stop);
                }
            };
            match ended {
                Ok(prepared) => {
                    recorder.module_ended(ModuleResult::Passed);
                    self.sandbox.objects = prepared.objects;
                    _leases = prepared.leases;
                }
                Err(why) => {
                    recorder.module_ended(ModuleResult::Failed);
                    return why.report();
                }
            }
        }
        self.attempt.dir.phase(WorkPhase::Running);
        let pre = self.phase(PhaseName::Pre, "", recorder).await;
        let main = match pre {
            Ended::Well => self.phase(PhaseName::Run, "", recorder).await,
            _ => Ended::Well,
        };
        let report = verdict(&pre, &main);
        let goes_on = |ended: &Ended| match ended {
            Ended::Stopped(stop) => matches!(stop, Stop::Cancelled(_)),
            Ended::Host(_) => false,
            Ended::Well | Ended::Badly(_) | Ended::Timeout(_) | Ended::Breach(_) => true,
        };
        if !goes_on(&pre) || !goes_on(&main) {
            return report;
        }
        let word = report.outcome.openqa();
        let cancelled = report.outcome == Outcome::UserCancelled;
        let post = if cancelled { Ended::Well } else { self.phase(PhaseName::Post, word, recorder).await };
        let report = with_post(report, &post);
        if goes_on(&post) {
            let collect = self.phase(PhaseName::Collect, report.outcome.openqa(), recorder).await;
            if collect != Ended::Well {
                recorder.say(&format!("what collect did is not part of the verdict: {}", collect.sentence()));
            }
        }
        report
    }

    async fn phase(&self, name: PhaseName, outcome: &str, recorder: &mut Recorder<'_>) -> Ended {
        let phase = self.task.phase(name);
        if phase.steps.is_empty() {
            return Ended::Well;
        }
        recorder.module_started(name.word());
        let ended = self.steps(name, phase, outcome, recorder).await;
        recorder.module_ended(module_result(&ended));
        ended
    }

    /// Steps as part of whatever module there is.
    async fn steps(
        &self,
        name: PhaseName,
        phase: &Phase,
        outcome: &str,
        recorder: &mut Recorder<'_>,
    ) -> Ended {
        let mut env: BTreeMap<String, String> = self.task.env.clone();
        let secret = |name: &String| Some((name.clone(), self.task.secrets.get(name)?.0.clone()));
        env.extend(phase.secrets.iter().filter_map(secret));
        if !outcome.is_empty() {
            env.insert("ASSAY_OUTCOME".into(), outcome.into());
        }
        // A person's cancel has been obeyed by the time collect runs.
        let deaf = self.attempt.stop.borrow().is_some();
        let run = phase::Run {
            attempt: self.attempt,
            name,
            phase,
            dirs: self.dirs,
            sandbox: &self.sandbox,
            limits: self.task.limits,
            env,
            pace: self.pace,
            deaf,
        };
        run.run(recorder).await
    }
}

/// A phase's end as its module's.
fn module_result(ended: &Ended) -> ModuleResult {
    match ended {
        Ended::Well => ModuleResult::Passed,
        Ended::Badly(_) | Ended::Breach(_) | Ended::Timeout(_) => ModuleResult::Failed,
        Ended::Stopped(_) | Ended::Host(_) => ModuleResult::Cancelled,
    }
}

fn report(outcome: Outcome, class: OutcomeClass, reason: &str) -> Report {
    Report { outcome, class, reason: Some(reason.to_owned()) }
}

/// What `pre` and `run` come to.
fn verdict(pre: &Ended, main: &Ended) -> Report {
    match (pre, main) {
        (Ended::Well, Ended::Well) => {
            Report { outcome: Outcome::Passed, class: OutcomeClass::Product, reason: None }
        }
        // A job's preparation says nothing about the change.
        (Ended::Badly(why), _) => infrastructure(why.clone()),
        (Ended::Timeout(why), _) => report(Outcome::TimeoutExceeded, OutcomeClass::Infrastructure, why),
        (Ended::Breach(why), _) | (Ended::Well, Ended::Badly(why) | Ended::Breach(why)) => {
            report(Outcome::Failed, OutcomeClass::Product, why)
        }
        (Ended::Well, Ended::Timeout(why)) => {
            report(Outcome::TimeoutExceeded, Outcome::TimeoutExceeded.class(), why)
        }
        (Ended::Stopped(stop), _) | (_, Ended::Stopped(stop)) => stopped(stop),
        (Ended::Host(why), _) | (_, Ended::Host(why)) => infrastructure(why.clone()),
    }
}

/// A good job whose `post` goes wrong is not good; a bad one keeps its reason.
fn with_post(before: Report, post: &Ended) -> Report {
    if before.outcome != Outcome::Passed {
        return before;
    }
    match post {
        Ended::Well => before,
        Ended::Badly(why) | Ended::Breach(why) => report(Outcome::Failed, OutcomeClass::Test, why),
        Ended::Timeout(why) => report(Outcome::TimeoutExceeded, OutcomeClass::Test, why),
        Ended::Stopped(stop) => stopped(stop),
        Ended::Host(why) => infrastructure(why.clone()),
    }
}
