//! An executor whose behaviour the job's settings control, so that everything else can be tried without machines.
//!
//! | setting | effect |
//! |---|---|
//! | `DUMMY_SLEEP=SECONDS` | works for so long |
//! | `DUMMY_RESULT=passed\|softfailed\|failed\|incomplete` | ends so (default passed) |
//! | `DUMMY_HANG=1` | never ends by itself |
//! | `DUMMY_FLOOD=MIB` | writes so much log |
//! | `DUMMY_VANISH=1\|always` | the worker process dies by SIGKILL: on the first attempt, or on each |
//! | `DUMMY_WAIT_FILE=PATH` | works until this file exists; a result in it counts; `{NAME}` in PATH is a setting's value |

use super::{Attempt, Stop, infrastructure, stopped, usage};
use assay_engine::outcome::{Outcome, OutcomeClass};
use assay_proto::worker::{Report, Stream, WorkPhase};
use assay_records::step::{ModuleFlags, ModulePlan, ModuleResult, Record, Step, StepBody, StepResult};
use std::time::Duration;

const MODULE: &str = "dummy";

/// Carries a dummy attempt out.
pub async fn run(attempt: &Attempt) -> Report {
    attempt.dir.phase(WorkPhase::Running);
    record(attempt, &Record::Plan { modules: vec![plan()] });
    record(attempt, &Record::ModuleStarted { module: MODULE.into(), at_us: attempt.elapsed_us() });
    attempt.log("dummy attempt begins");
    let report = tokio::select! {
        report = behave(attempt) => report,
        stop = attempt.stopped() => stopped(&stop),
    };
    let (step, module) = match report.outcome {
        Outcome::Passed => (StepResult::Ok, ModuleResult::Passed),
        Outcome::Softfailed => (StepResult::Softfail, ModuleResult::Softfailed),
        Outcome::Failed => (StepResult::Fail, ModuleResult::Failed),
        Outcome::Incomplete
        | Outcome::TimeoutExceeded
        | Outcome::UserCancelled
        | Outcome::Skipped
        | Outcome::Obsoleted
        | Outcome::ParallelFailed
        | Outcome::ParallelRestarted
        | Outcome::UserRestarted => (StepResult::Unknown, ModuleResult::Cancelled),
    };
    record(attempt, &Record::Step(Box::new(note(attempt, step, &report))));
    let at_us = attempt.elapsed_us();
    record(
        attempt,
        &Record::ModuleEnded { module: MODULE.into(), result: module, at_us, duration_us: at_us },
    );
    attempt.log("dummy attempt ends");
    report
}

async fn behave(attempt: &Attempt) -> Report {
    let set = |name: &str| attempt.settings.get(name).map(String::as_str);
    match set("DUMMY_VANISH") {
        Some("always") => vanish(),
        Some("1") if attempt.number == 1 => vanish(),
        _ => {}
    }
    let (sleep, flood) =
        match (attempt.number_setting("DUMMY_SLEEP", 0.0), attempt.number_setting("DUMMY_FLOOD", 0.0)) {
            (Ok(sleep), Ok(flood)) => (sleep, flood),
            (Err(report), _) | (_, Err(report)) => return report,
        };
    let line = format!("{:1023}\n", "flood ".repeat(170));
    for _ in 0..(flood * 1024.0) as u64 {
        attempt.dir.append(Stream::Log, line.as_bytes());
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_secs_f64(sleep.min(1e7))).await;
    if set("DUMMY_HANG") == Some("1") {
        std::future::pending::<Stop>().await;
    }
    let mut result = set("DUMMY_RESULT").unwrap_or("passed").to_owned();
    if let Some(path) = set("DUMMY_WAIT_FILE") {
        let path = filled(path, attempt);
        while !fs_err::exists(&path).unwrap_or(false) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let said = fs_err::read_to_string(&path).unwrap_or_default();
        if !said.trim().is_empty() {
            said.trim().clone_into(&mut result);
        }
    }
    match result.as_str() {
        "passed" => Report { outcome: Outcome::Passed, class: OutcomeClass::Product, reason: None },
        "softfailed" => ended(Outcome::Softfailed, "dummy soft failure"),
        "failed" => ended(Outcome::Failed, "dummy failure"),
        "incomplete" => infrastructure("dummy infrastructure failure"),
        other => {
            usage(format!("DUMMY_RESULT={other:?} is unknown; use passed, softfailed, failed or incomplete"))
        }
    }
}

/// `path` with the values of settings in place of their names.
fn filled(path: &str, attempt: &Attempt) -> String {
    let mut path = path.to_owned();
    for (name, value) in &attempt.settings {
        path = path.replace(&format!("{{{name}}}"), value);
    }
    path
}

fn ended(outcome: Outcome, reason: &str) -> Report {
    Report { outcome, class: outcome.class(), reason: Some(reason.into()) }
}

/// As `kill -9` would do it: no destructor, no good-bye.
fn vanish() -> ! {
    let own = rustix::process::getpid();
    let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    std::process::abort()
}

fn plan() -> ModulePlan {
    ModulePlan { name: MODULE.into(), file: "dummy".into(), flags: ModuleFlags::default() }
}

fn note(attempt: &Attempt, result: StepResult, report: &Report) -> Step {
    Step {
        module: MODULE.into(),
        number: 1,
        at_us: attempt.elapsed_us(),
        duration_us: 0,
        call: "record_info".into(),
        source: None,
        result,
        screenshot: None,
        body: StepBody::Text {
            title: format!("ended {}", report.outcome.openqa()),
            output: report.reason.clone().unwrap_or_default(),
        },
    }
}

fn record(attempt: &Attempt, record: &Record) {
    if let Ok(line) = serde_json::to_string(record) {
        attempt.dir.append(Stream::Steps, format!("{line}\n").as_bytes());
    }
}
