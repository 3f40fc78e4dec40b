//! Runs the test modules one after the other, and makes the verdict.

use super::halt::{Halt, HaltSignal};
use super::recorder::{Draft, Worst};
use super::session::Session;
use super::setup::Setup;
use crate::exec::{Attempt, usage};
use assay_engine::outcome::{Outcome, OutcomeClass};
use assay_proto::driver::{Call, CallError, CallErrorKind};
use assay_proto::worker::Report;
use assay_records::step::{ModuleResult, StepBody, StepResult};
use assay_script::{Function, Host, Module, RunError, STACK_SIZE, Suite, TestErrorKind};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// The machine's own word on its end follows a broken connection within this time.
const CAUSE_LIMIT: Duration = Duration::from_secs(3);
/// A `post_fail` may take so long before the run goes on without it.
const POST_FAIL_LIMIT: Duration = Duration::from_mins(10);

type Question = (Call, oneshot::Sender<Result<Value, CallError>>);

/// The test's side of the channel; lives on the thread that runs the test.
struct ChannelHost {
    calls: mpsc::Sender<Question>,
    halt: HaltSignal,
    deadline: Option<(Instant, String)>,
    began: Instant,
}

impl Host for ChannelHost {
    fn call(&mut self, call: Call) -> Result<Value, CallError> {
        let gone = || CallError::cancelled("the run has ended");
        let (answer, answered) = oneshot::channel();
        self.calls.blocking_send((call, answer)).map_err(|_| gone())?;
        answered.blocking_recv().map_err(|_| gone())?
    }

    fn cancelled(&self) -> Option<CallError> {
        if let Some(halt) = self.halt.borrow().as_ref() {
            return Some(halt.call_error());
        }
        let (deadline, why) = self.deadline.as_ref()?;
        (Instant::now() >= *deadline).then(|| CallError::cancelled(why.clone()))
    }

    fn clock(&self) -> Duration {
        self.began.elapsed()
    }
}

/// How a function of a module ended.
enum Ended {
    Well,
    Badly(RunError),
    OverTime(String),
}

/// Runs all modules and says what they came to.
pub(super) async fn run_all(
    attempt: &Attempt,
    setup: &Setup,
    session: &mut Session,
    halt: &HaltSignal,
) -> Report {
    if setup.suite.modules().is_empty() {
        return usage(format!("no test modules: put at least one into {}/tests", setup.settings["CASEDIR"]));
    }
    let mut verdict = Verdict::default();
    let mut stop_after: Option<String> = None;
    for module in setup.suite.modules() {
        let halted = halt.borrow().clone().or_else(|| verdict.lost.clone());
        if halted.is_some() || (stop_after.is_some() && !module.flags.always_run) {
            let result = if halted.is_some() { ModuleResult::Cancelled } else { ModuleResult::Skipped };
            session.rec.module_ended(&module.name, result);
            continue;
        }
        session.rec.module_started(&module.name);
        let runner = Runner { attempt, suite: &setup.suite, halt, module };
        let result = runner.run(session, &mut verdict).await;
        session.rec.module_ended(&module.name, result);
        if result == ModuleResult::Failed && module.flags.fatal && stop_after.is_none() {
            stop_after = Some(module.name.clone());
            attempt.log(&format!("{} is fatal: the modules after it are skipped", module.name));
        }
    }
    let halt = halt.borrow().clone().or_else(|| verdict.lost.clone());
    match halt {
        Some(halt) => halt.report(),
        None => verdict.report(),
    }
}

struct Runner<'a> {
    attempt: &'a Attempt,
    suite: &'a Arc<Suite>,
    halt: &'a HaltSignal,
    module: &'a Module,
}

impl Runner<'_> {
    async fn run(&self, session: &mut Session, verdict: &mut Verdict) -> ModuleResult {
        let limit = self.module.timeout.map(|seconds| session.seconds(seconds));
        let ended = self.call_function(session, Function::Run, limit).await;
        if let Ended::Badly(RunError::Call { error, .. }) = &ended
            && error.kind == CallErrorKind::Infrastructure
        {
            // The monitor names the cause within moments; without a word from it the call's own has to do.
            let halt = super::halted(self.halt, Some(Instant::now() + CAUSE_LIMIT)).await;
            let halt = halt.unwrap_or_else(|| Halt::MachineLost(error.message.clone()));
            record_halt(session, &halt);
            verdict.lost = Some(halt);
            return ModuleResult::Cancelled;
        }
        if let Some(halt) = self.halt.borrow().clone() {
            record_halt(session, &halt);
            return ModuleResult::Cancelled;
        }
        let test_bug = matches!(
            &ended,
            Ended::OverTime(_)
                | Ended::Badly(RunError::Driver { .. } | RunError::Test { kind: TestErrorKind::TestBug, .. })
        );
        let failure = match ended {
            Ended::Well => None,
            Ended::Badly(error) => Some(self.record_failure(session, &error)),
            Ended::OverTime(why) => Some(self.record_text(session, "Test died", &why, "")),
        };
        let result = match (&failure, session.rec.worst()) {
            (Some(_), _) | (None, Worst::Failed) => ModuleResult::Failed,
            (None, Worst::Soft) => ModuleResult::Softfailed,
            (None, Worst::Fine) => ModuleResult::Passed,
        };
        if result == ModuleResult::Failed {
            let why = failure.unwrap_or_else(|| "a step was recorded as failed".into());
            verdict.failed(self.module, &why, test_bug);
            if self.module.has_post_fail {
                self.post_fail(session).await;
            }
        } else if result == ModuleResult::Softfailed {
            verdict.soft = true;
        }
        result
    }

    async fn post_fail(&self, session: &mut Session) {
        self.attempt.log(&format!("{}: post_fail", self.module.name));
        match self.call_function(session, Function::PostFail, Some(POST_FAIL_LIMIT)).await {
            Ended::Well => {}
            Ended::Badly(error) => {
                let text = error.to_string();
                session.rec.text("post_fail", None, StepResult::Unknown, "post_fail died", &text);
            }
            Ended::OverTime(why) => {
                session.rec.text("post_fail", None, StepResult::Unknown, "post_fail died", &why);
            }
        }
    }

    /// Runs a function of the module on a thread of its own and answers its calls.
    async fn call_function(
        &self,
        session: &mut Session,
        function: Function,
        limit: Option<Duration>,
    ) -> Ended {
        let over = limit.map(|limit| {
            let why = format!(
                "{} of module {} took longer than {} s",
                function.name(),
                self.module.name,
                limit.as_secs_f64()
            );
            (Instant::now() + limit, why)
        });
        let (calls, mut questions) = mpsc::channel::<Question>(1);
        let deadline = over.as_ref().map(|(deadline, _)| *deadline);
        let mut host =
            ChannelHost { calls, halt: self.halt.clone(), deadline: over.clone(), began: self.attempt.began };
        let (suite, module) = (self.suite.clone(), self.module.clone());
        let (done, ended) = oneshot::channel();
        let work = move || {
            // Nobody waits any more if the attempt was dropped.
            let _ = done.send(suite.run(&module, function, &mut host));
        };
        // A thread of its own: nested calls of a test need a deeper stack than the runtime's threads have.
        if let Err(error) = std::thread::Builder::new().name("test".into()).stack_size(STACK_SIZE).spawn(work)
        {
            return Ended::OverTime(format!("the test's thread cannot be started: {error}"));
        }
        while let Some((call, reply)) = questions.recv().await {
            let answer = tokio::select! {
                biased;
                answer = session.answer(call) => answer,
                halt = super::halted(self.halt, deadline) => Err(match (halt, &over) {
                    (Some(halt), _) => halt.call_error(),
                    (None, Some((_, why))) => CallError::cancelled(why.clone()),
                    (None, None) => CallError::cancelled("the run has ended"),
                }),
            };
            // A test that has gone away needs no answer.
            let _ = reply.send(answer);
        }
        match ended.await {
            Ok(Ok(())) => Ended::Well,
            Ok(Err(error)) => match over {
                Some((deadline, why)) if Instant::now() >= deadline => Ended::OverTime(why),
                _ => Ended::Badly(error),
            },
            Err(_) => {
                Ended::OverTime("the test's thread panicked; this is a bug in Assay, please report it".into())
            }
        }
    }

    fn record_failure(&self, session: &Session, error: &RunError) -> String {
        let (title, backtrace) = match error {
            RunError::Test { backtrace, kind: TestErrorKind::Failed, .. } => ("Test failed", backtrace),
            RunError::Test { backtrace, .. }
            | RunError::Call { backtrace, .. }
            | RunError::Driver { backtrace, .. } => ("Test died", backtrace),
        };
        self.record_text(session, title, &error.to_string(), backtrace)
    }

    fn record_text(&self, session: &Session, title: &str, message: &str, backtrace: &str) -> String {
        let (message, backtrace) =
            (&*session.rec.secrets.cover(message), &*session.rec.secrets.cover(backtrace));
        let output =
            if backtrace.is_empty() { message.to_owned() } else { format!("{message}\n\n{backtrace}") };
        self.attempt.log(&format!("{}: {title}: {output}", self.module.name));
        let screen = session.present();
        session.rec.step(Draft {
            call: "run",
            source: None,
            began: Instant::now(),
            result: StepResult::Fail,
            screen: Some(&screen),
            body: StepBody::Text { title: title.to_owned(), output },
            counts: true,
        });
        message.to_owned()
    }
}

/// The last thing that the screen showed is worth keeping, whatever ended the run.
fn record_halt(session: &Session, halt: &Halt) {
    let screen = session.present();
    session.rec.step(Draft {
        call: "run",
        source: None,
        began: Instant::now(),
        result: StepResult::Unknown,
        screen: Some(&screen),
        body: StepBody::Text { title: "Run ended".into(), output: halt.sentence() },
        counts: false,
    });
}

/// What the modules come to: openQA's `calculate_result`.
#[derive(Default)]
struct Verdict {
    first_failure: Option<String>,
    /// The first failure is the test's own fault.
    test_bug: bool,
    soft: bool,
    /// The machine or the host failed.
    lost: Option<Halt>,
}

impl Verdict {
    fn failed(&mut self, module: &Module, why: &str, test_bug: bool) {
        if !module.flags.ignore_failure && self.first_failure.is_none() {
            let first = why.lines().next().unwrap_or_default();
            self.first_failure = Some(format!("{}: {first}", module.name));
            self.test_bug = test_bug;
        }
    }

    fn report(self) -> Report {
        let (outcome, reason) = match (self.first_failure, self.soft) {
            (Some(why), _) => (Outcome::Failed, Some(why)),
            (None, true) => (Outcome::Softfailed, Some("a known problem was worked around".to_owned())),
            (None, false) => (Outcome::Passed, None),
        };
        let class = if self.test_bug && outcome == Outcome::Failed {
            OutcomeClass::Test
        } else {
            OutcomeClass::Product
        };
        Report { outcome, class, reason }
    }
}
