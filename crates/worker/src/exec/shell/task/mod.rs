//! Task runs: a program of somebody's own, from a folder or a repository at a commit, that looks at one item.
//!
//! It is fetched, gets what its header asks for and a description of the item as JSON, runs in the sandbox of a shell
//! job, and leaves results. What a task may rely on is written in `docs/tasks.md`.

mod fetch;
mod found;
mod item;
mod machine;
mod rpm;

use super::globs::Globs;
use super::phase::Ended;
use super::recorder::Recorder;
use super::redact::Secrets;
use super::sandbox::JobDirs;
use super::workspace::WorkspaceError;
use super::{ByClock, Job, Pace, finish, sandbox};
use crate::exec::{Attempt, Stop, infrastructure, stopped, usage};
use assay_engine::outcome::{Outcome, OutcomeClass};
use assay_formats::task_header::{Need, Offer, TaskHeader};
use assay_proto::task::{Limits, Network, Phase, PhaseName, ShellStep, Task};
use assay_proto::task_run::{TaskRun, TaskSource};
use assay_proto::worker::{Report, WorkPhase};
use assay_records::step::{ModuleFlags, ModuleResult, StepResult};
use camino::{Utf8Path, Utf8PathBuf};
use found::Found;

/// Where the task is, in the workspace.
const TREE: &str = "task";
/// Where it writes results, in the workspace.
const RESULTS: &str = "results";
/// Where it puts what is kept.
const ARTIFACTS: &str = "artifacts";
/// The module that fetches the task.
const TASK_MODULE: &str = "task";
/// The module that fetches what it looks at.
const ITEM_MODULE: &str = "item";
/// The module that reads what it found.
const RESULTS_MODULE: &str = "results";

/// Carries a task run out.
pub async fn run(attempt: &Attempt) -> Report {
    run_at(attempt, &ByClock).await
}

/// The same with deadlines of `pace`.
pub async fn run_at(attempt: &Attempt, pace: &dyn Pace) -> Report {
    let wanted = match TaskRun::from_settings(&attempt.settings) {
        Ok(wanted) => wanted,
        Err(error) => return usage(error.to_string()),
    };
    if matches!(wanted.source, TaskSource::Directory(_)) && attempt.cluster.is_some() {
        return usage("TASK_DIR names a folder of the worker, which only `assay run` may use; give TASK");
    }
    let dirs = match JobDirs::create(attempt.dir.path().join("job")) {
        Ok(dirs) => dirs,
        Err(error) => return infrastructure(format!("the job's folders cannot be made: {error}")),
    };
    let limits = Limits::default();
    let mut recorder = Recorder::new(attempt, Secrets::default(), limits.log_bytes);
    let fatal = ModuleFlags { fatal: true, ..ModuleFlags::default() };
    recorder.plan([
        (TASK_MODULE, fatal),
        (ITEM_MODULE, fatal),
        (PhaseName::Run.word(), ModuleFlags::default()),
        (RESULTS_MODULE, ModuleFlags::default()),
    ]);
    let prepared = tokio::select! {
        prepared = prepare(attempt, &wanted, &dirs, &mut recorder) => prepared.map_err(|error| error.report()),
        stop = attempt.stopped() => Err(stopped(&stop)),
    };
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(report) => {
            let failed = report.outcome == Outcome::Incomplete;
            recorder.module_ended(if failed { ModuleResult::Failed } else { ModuleResult::Cancelled });
            let none = Globs::default();
            return finish(attempt, &limits, &dirs, (&none, &none), report, &mut recorder).await;
        }
    };
    let task = prepared.task;
    let sandbox = super::Sandbox { objects: prepared.objects, ..sandbox(attempt, &task) };
    let job = Job { attempt, task: &task, dirs: &dirs, sandbox, pace };
    attempt.dir.phase(WorkPhase::Running);
    let ended = if wanted.machine.is_some() {
        let guest = machine::Guest { job: &job, header: &prepared.header, path: &prepared.path };
        // A machine is a large future, and most tasks have none.
        Box::pin(guest.run(&mut recorder)).await
    } else {
        job.phase(PhaseName::Run, "", &mut recorder).await
    };
    let report = match &ended {
        Ended::Stopped(stop @ (Stop::Superseded(_) | Stop::Fenced(_) | Stop::Shutdown)) => stopped(stop),
        Ended::Host(why) => infrastructure(why.clone()),
        _ => {
            let last = excerpt(recorder.last());
            recorder.module_started(RESULTS_MODULE);
            let found = found::read(&dirs.workspace.join(RESULTS), &wanted, &prepared.header).await;
            note(&found, &mut recorder);
            verdict(&ended, &found, &last)
        }
    };
    let globs = |globs: &[String]| Globs::new(globs).unwrap_or_default();
    let kept = globs(&[format!("{ARTIFACTS}/**"), format!("{RESULTS}/**")]);
    let cases = globs(&[format!("{RESULTS}/*.xml"), format!("{RESULTS}/*.tap")]);
    finish(attempt, &task.limits, &dirs, (&kept, &cases), report, &mut recorder).await
}

/// A task that can be run.
struct Prepared {
    header: TaskHeader,
    /// The shell job that runs it.
    task: Task,
    /// Where the task is in the workspace.
    path: Utf8PathBuf,
    objects: Vec<(Utf8PathBuf, String)>,
    _leases: Vec<std::fs::File>,
}

async fn prepare(
    attempt: &Attempt,
    wanted: &TaskRun,
    dirs: &JobDirs,
    recorder: &mut Recorder<'_>,
) -> Result<Prepared, WorkspaceError> {
    recorder.module_started(TASK_MODULE);
    let tree = fetch::task(attempt, wanted, dirs, recorder).await?;
    let header = fetch::header(&dirs.workspace, &dirs.workspace.join(&tree.path), &wanted.name)?;
    check(wanted, &header)?;
    let said = format!("{}: {}", header.name, header.testcase);
    recorder.step("header", recorder.now_us(), StepResult::Ok, &said, &header.description);
    recorder.module_ended(ModuleResult::Passed);
    let limits = limits(&header);
    recorder.module_started(ITEM_MODULE);
    item::fetch(wanted, &header, dirs, limits.disk_bytes, recorder).await?;
    recorder.module_ended(ModuleResult::Passed);
    let task = shell_job(&header, &tree.path, limits);
    Ok(Prepared { header, task, path: tree.path, objects: tree.objects, _leases: tree.leases })
}

/// Whether the task may look at this item here.
fn check(wanted: &TaskRun, header: &TaskHeader) -> Result<(), WorkspaceError> {
    let offer = Offer {
        item: &wanted.item,
        kind: &wanted.kind,
        baseline: wanted.baseline.is_some() || wanted.baseline_packages.is_some(),
        repositories: !wanted.repositories.is_empty(),
        // Whoever runs it by hand has chosen the machine.
        machine: wanted.own_machine || matches!(wanted.source, TaskSource::Directory(_)),
        by_hand: matches!(wanted.source, TaskSource::Directory(_)),
    };
    let why = header.refuses(&offer);
    match why.or_else(|| (!wanted.may_post(&header.testcase)).then(|| refusal(&header.testcase, wanted))) {
        Some(why) => Err(WorkspaceError::Task(why)),
        None => Ok(()),
    }
}

/// Why a result is not posted.
fn refusal(testcase: &str, wanted: &TaskRun) -> String {
    let own = wanted.namespaces.as_deref().unwrap_or_default().join(", ");
    let own = if own.is_empty() { "none but scratch".to_owned() } else { own };
    let url = match &wanted.source {
        TaskSource::Git { url, .. } | TaskSource::Directory(url) => url,
    };
    format!(
        "the result {testcase} is refused: the namespaces of {url} are {own} (its entries [[tasks.namespace]] in assay.toml)"
    )
}

fn limits(header: &TaskHeader) -> Limits {
    let usual = Limits::default();
    Limits {
        memory_bytes: header.memory.unwrap_or(usual.memory_bytes),
        disk_bytes: header.disk.unwrap_or(usual.disk_bytes),
        processes: header.processes.unwrap_or(usual.processes),
        ..usual
    }
}

/// The shell job that runs it. As root it gets namespaces of its own within the sandbox's, which it cannot undo from there.
fn shell_job(header: &TaskHeader, path: &Utf8Path, limits: Limits) -> Task {
    let quoted = super::phase::quoted;
    let as_root = if header.needs.contains(&Need::Root) {
        "unshare --user --map-root-user --mount --propagation private -- "
    } else {
        ""
    };
    let program = if header.run.contains('/') { header.run.clone() } else { format!("./{}", header.run) };
    let script = format!(
        "#!/bin/sh\ncd {} && exec {as_root}{} <{}\n",
        quoted(&format!("{}/{path}", super::sandbox::WORKSPACE)),
        quoted(&program),
        quoted(&format!("{}/{}", super::sandbox::WORKSPACE, item::INPUT)),
    );
    let step = ShellStep { name: Some(header.name.clone()), script, shell: None };
    let network = if header.needs.contains(&Need::Network) { Network::Host } else { Network::None };
    Task {
        name: header.name.clone(),
        run: Phase { steps: vec![step], budget_s: header.timeout_s, ..Phase::default() },
        env: [("ASSAY_INPUT".to_owned(), format!("{}/{}", super::sandbox::WORKSPACE, item::INPUT))].into(),
        network,
        limits,
        ..Task::default()
    }
}

/// Steps that are shown of the results of one run; the record has all.
const MOST_SHOWN: usize = 500;

/// Writes down what was found.
fn note(found: &Found, recorder: &mut Recorder<'_>) {
    for result in &found.results {
        let at_us = recorder.now_us();
        recorder.record(&assay_records::step::Record::Result(assay_records::step::TaskResult {
            at_us,
            note: result.note.as_deref().map(|note| recorder.secrets.cover(note)),
            ..result.clone()
        }));
    }
    for result in found.results.iter().take(MOST_SHOWN) {
        let step = match result.outcome.as_str() {
            "PASSED" => StepResult::Ok,
            "INFO" => StepResult::Unknown,
            _ => StepResult::Fail,
        };
        let item = result.data.get("item").and_then(|items| items.first()).map_or("", String::as_str);
        let title = format!("{} {item}: {}", result.testcase, result.outcome);
        recorder.say(&title);
        recorder.step("result", recorder.now_us(), step, &title, result.note.as_deref().unwrap_or_default());
    }
    for problem in &found.problems {
        recorder.say(problem);
        recorder.step("result", recorder.now_us(), StepResult::Fail, problem, "");
    }
    let good = found.problems.is_empty() && found.worst().is_none() && !found.results.is_empty();
    recorder.module_ended(if good { ModuleResult::Passed } else { ModuleResult::Failed });
}

/// The beginning of a line, for a sentence: what a terminal would obey, colours for one, is no part of it.
fn excerpt(line: &str) -> String {
    const MOST: usize = 300;
    let mut text = String::new();
    let mut chars = line.chars();
    while let Some(one) = chars.next() {
        if one == '\u{1b}' && chars.as_str().starts_with('[') {
            // Its numbers, up to the letter that ends it.
            let _ = chars.by_ref().skip(1).find(|one| ('@'..='~').contains(one));
        } else if !one.is_control() {
            text.push(one);
        }
    }
    text.chars().take(MOST).collect()
}

/// What a run comes to. The exit code of a task only says whether it has done its work; why it has not is in the last line
/// that it printed.
fn verdict(ended: &Ended, found: &Found, last: &str) -> Report {
    let failed =
        |why: String| Report { outcome: Outcome::Failed, class: OutcomeClass::Product, reason: Some(why) };
    match ended {
        Ended::Stopped(stop) => stopped(stop),
        Ended::Host(why) => infrastructure(why.clone()),
        Ended::Timeout(why) => {
            Report { outcome: Outcome::TimeoutExceeded, class: OutcomeClass::Test, reason: Some(why.clone()) }
        }
        Ended::Breach(why) => usage(why.clone()),
        Ended::Well | Ended::Badly(_) if !found.problems.is_empty() => usage(found.problems.join("; ")),
        Ended::Badly(why) if found.worst().is_none() => {
            let last = if last.is_empty() { String::new() } else { format!(": {last}") };
            usage(format!("the task crashed: {why}{last}"))
        }
        Ended::Well if found.results.is_empty() => {
            usage("the task wrote no results; it puts them into the folder that its input names `results`")
        }
        Ended::Well | Ended::Badly(_) => match found.worst() {
            None => Report { outcome: Outcome::Passed, class: OutcomeClass::Product, reason: None },
            Some(worst) => {
                let note = worst.note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
                let why = format!(
                    "{} of {} results are not good; the first is {} {}{note}",
                    found.bad().count(),
                    found.results.len(),
                    worst.testcase,
                    worst.outcome
                );
                if found.bad().all(|result| matches!(result.outcome.as_str(), "CRASHED" | "ERROR")) {
                    usage(why)
                } else {
                    failed(why)
                }
            }
        },
    }
}
