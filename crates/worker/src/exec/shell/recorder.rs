//! Writes what a shell job does into the attempt's record, with its secrets covered.

use super::console::Console;
use super::redact::Secrets;
use crate::exec::Attempt;
use assay_engine::ids::Timestamp;
use assay_proto::clock::{Clock, SystemClock};
use assay_proto::worker::Stream;
use assay_records::step::{ModuleFlags, ModulePlan, ModuleResult, Record, Step, StepBody, StepResult};

/// The one writer of a job's console and steps.
pub(super) struct Recorder<'a> {
    attempt: &'a Attempt,
    pub(super) secrets: Secrets,
    console: Console,
    module: String,
    began_us: u64,
    steps: u32,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(attempt: &'a Attempt, secrets: Secrets, log_bytes: u64) -> Self {
        let console = Console::new(secrets.clone(), log_bytes);
        Self { attempt, secrets, console, module: String::new(), began_us: 0, steps: 0 }
    }

    fn now() -> Timestamp {
        SystemClock.now()
    }

    /// What the job printed.
    pub(super) fn printed(&mut self, bytes: &[u8]) {
        let out = self.console.feed(bytes, Self::now());
        self.attempt.dir.append(Stream::Console, &out);
    }

    /// The job prints nothing for now.
    pub(super) fn quiet(&mut self) {
        let out = self.console.flush(Self::now());
        self.attempt.dir.append(Stream::Console, &out);
    }

    /// A line of the worker's own, on the console and in the log.
    pub(super) fn say(&mut self, text: &str) {
        let out = self.console.say(&format!("[assay] {text}"), Self::now());
        self.attempt.dir.append(Stream::Console, &out);
        self.log(text);
    }

    pub(super) fn log(&self, text: &str) {
        self.attempt.log(&self.secrets.cover(text));
    }

    /// The last line that the job itself printed.
    pub(super) fn last(&self) -> &str {
        self.console.last()
    }

    /// Lines of the console so far.
    pub(super) fn lines(&self) -> u64 {
        self.console.lines()
    }

    /// Bytes that the console did not take.
    pub(super) fn left_out(&self) -> u64 {
        self.console.left_out()
    }

    pub(super) fn now_us(&self) -> u64 {
        self.attempt.elapsed_us()
    }

    pub(super) fn record(&self, record: &Record) {
        match serde_json::to_string(record) {
            Ok(line) => self.attempt.dir.append(Stream::Steps, format!("{line}\n").as_bytes()),
            Err(error) => self.log(&format!("a record could not be written: {error}")),
        }
    }

    pub(super) fn plan(&self, modules: impl IntoIterator<Item = (&'static str, ModuleFlags)>) {
        let plan = |(name, flags): (&str, _)| ModulePlan { name: name.into(), file: "TASK".into(), flags };
        self.record(&Record::Plan { modules: modules.into_iter().map(plan).collect() });
    }

    pub(super) fn module_started(&mut self, module: &str) {
        (self.module, self.began_us, self.steps) = (module.to_owned(), self.now_us(), 0);
        self.record(&Record::ModuleStarted { module: module.into(), at_us: self.began_us });
    }

    pub(super) fn module_ended(&self, result: ModuleResult) {
        let at_us = self.now_us();
        let duration_us = at_us - self.began_us;
        self.record(&Record::ModuleEnded { module: self.module.clone(), result, at_us, duration_us });
    }

    /// A step of the current module that began at `began_us`.
    pub(super) fn step(&mut self, call: &str, began_us: u64, result: StepResult, title: &str, output: &str) {
        self.steps += 1;
        let at_us = self.now_us();
        self.record(&Record::Step(Box::new(Step {
            module: self.module.clone(),
            number: self.steps,
            at_us,
            duration_us: at_us.saturating_sub(began_us),
            call: self.secrets.cover(call),
            source: None,
            result,
            screenshot: None,
            body: StepBody::Text { title: self.secrets.cover(title), output: self.secrets.cover(output) },
        })));
    }
}
