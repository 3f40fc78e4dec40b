//! The host's half of the driver protocol.

use super::External;
use super::lines::Line;
use super::program::{Event, Program};
use super::sandbox::explain_complaint;
use crate::host::{Function, Host, RunError, TestErrorKind};
use crate::suggest::did_you_mean;
use crate::suite::Module;
use assay_proto::driver::{Call, CallError, CallErrorKind, FromDriver, PROTOCOL, Request, Source, ToDriver};
use camino::Utf8Path;
use serde_json::Value;
use std::time::Duration;

/// How long one wait for a line lasts before the host is asked whether to go on.
pub(super) const PATIENCE: Duration = Duration::from_millis(50);

/// Time from the start to `ready`.
const START: Duration = Duration::from_secs(30);

/// Lines that are no message before the program is given up.
const MAX_BAD_LINES: u32 = 100;

/// Lines of standard error that go to the log.
const MAX_NOISE_LINES: u32 = 10_000;

/// How long the program may be silent before it is ended, once its function is done.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Frames of a call's stack that are kept.
const MAX_STACK: usize = 50;

/// A started program that has said `ready`.
pub(super) struct Conversation<'a> {
    program: Program,
    module: &'a Module,
    host: &'a mut dyn Host,
    last_id: Option<u64>,
    bad_lines: u32,
    noise: u32,
}

impl<'a> Conversation<'a> {
    /// Starts the program and waits for its `ready`.
    pub(super) fn open(
        root: &Utf8Path,
        module: &'a Module,
        host: &'a mut dyn Host,
        external: &External,
    ) -> Result<Self, RunError> {
        let driver = |message| RunError::Driver { message, backtrace: String::new() };
        let program = Program::start(root, external).map_err(driver)?;
        let mut this = Self { program, module, host, last_id: None, bad_lines: 0, noise: 0 };
        this.send(&ToDriver::Hello { protocol: PROTOCOL, file: module.file.clone() })?;
        let deadline = this.host.clock() + START;
        match this.message(Some(deadline))? {
            FromDriver::Ready { protocol: PROTOCOL, name, flags, post_fail, .. } => {
                let same = name == module.name && flags == module.flags && post_fail == module.has_post_fail;
                if !same {
                    return Err(this
                        .broken("declares itself otherwise than `@test` in its source; use literals there"));
                }
                Ok(this)
            }
            FromDriver::Ready { protocol, .. } => Err(this.broken(&format!(
                "speaks protocol {protocol}, and this is {PROTOCOL}; use the client given"
            ))),
            FromDriver::Done { error, kind, stack, traceback } => {
                let error = error.unwrap_or_else(|| "the program ended without a word".to_owned());
                Err(this.test_error(error, kind, stack, traceback))
            }
            FromDriver::Call { .. } => {
                Err(this.broken("calls the machine before it is ready; call it from `run`"))
            }
        }
    }

    /// Has it run the function, and answers its calls.
    pub(super) fn run(mut self, function: Function) -> Result<(), RunError> {
        self.send(&ToDriver::Run { function: function.name().to_owned() })?;
        loop {
            match self.message(None)? {
                FromDriver::Call { id, request, name, stack } => self.call(id, request, name, stack)?,
                FromDriver::Done { error: None, .. } => return self.hear_out(),
                FromDriver::Done { error: Some(error), kind, stack, traceback } => {
                    self.hear_out()?;
                    return Err(self.test_error(error, kind, stack, traceback));
                }
                FromDriver::Ready { .. } => {
                    self.bad_line("`ready` comes once, after `hello`".to_owned())?;
                }
            }
        }
    }

    fn call(
        &mut self,
        id: u64,
        request: Value,
        name: Option<String>,
        stack: Vec<Source>,
    ) -> Result<(), RunError> {
        if let Some(last) = self.last_id.filter(|last| id <= *last) {
            let message = format!("the call has the number {id}, and numbers grow: the last one was {last}");
            return self.refuse(Some(id), CallError::usage(message));
        }
        self.last_id = Some(id);
        let request = match understand(request) {
            Ok(request) => request,
            Err(message) => return self.refuse(Some(id), CallError::usage(message)),
        };
        if let Some(error) = self.host.cancelled() {
            return Err(self.ended(error));
        }
        let name = name.filter(|name| name.len() <= 100).unwrap_or_else(|| request_name(&request));
        match self.host.call(Call { request, name, stack: plausible(stack) }) {
            Ok(value) => self.send(&ToDriver::Answer { id, value }),
            Err(error) if matches!(error.kind, CallErrorKind::Cancelled | CallErrorKind::Infrastructure) => {
                Err(self.ended(error))
            }
            Err(error) => self.refuse(Some(id), error),
        }
    }

    fn refuse(&mut self, id: Option<u64>, error: CallError) -> Result<(), RunError> {
        self.send(&ToDriver::Error { id, error })
    }

    fn send(&mut self, message: &ToDriver) -> Result<(), RunError> {
        if self.program.send(message) {
            return Ok(());
        }
        Err(self.broken("does not read the answers to its calls"))
    }

    /// The next message. Asks the host now and then whether to go on waiting.
    fn message(&mut self, deadline: Option<Duration>) -> Result<FromDriver, RunError> {
        loop {
            match self.program.next(PATIENCE) {
                Some(Event::Line(Line::Text(line))) => match serde_json::from_str(&line) {
                    Ok(message) => return Ok(message),
                    Err(e) => self
                        .bad_line(format!("the line is no message of the protocol: {e}: {}", start(&line)))?,
                },
                Some(Event::Line(Line::Binary)) => self.bad_line("the line is not UTF-8".to_owned())?,
                Some(Event::Line(Line::TooLong(bytes))) => {
                    self.bad_line(format!("the line of {bytes} bytes is too long; 1048576 are allowed"))?;
                }
                Some(Event::Line(Line::Cut(_))) => return Err(self.gone("in the middle of a line")),
                Some(Event::End) => return Err(self.gone("without saying that it was done")),
                Some(Event::Noise(line)) => self.heard(line)?,
                None => {}
            }
            if let Some(error) = self.host.cancelled() {
                return Err(self.ended(error));
            }
            if deadline.is_some_and(|deadline| self.host.clock() > deadline) {
                let seconds = START.as_secs();
                return Err(self.broken(&format!("was not ready within {seconds} s")));
            }
        }
    }

    fn bad_line(&mut self, message: String) -> Result<(), RunError> {
        self.bad_lines += 1;
        if self.bad_lines > MAX_BAD_LINES {
            return Err(
                self.broken(&format!("sent more than {MAX_BAD_LINES} lines that are no messages: {message}"))
            );
        }
        self.refuse(None, CallError::usage(message))
    }

    /// The function is done. What the program has printed may still be in its buffers until it ends.
    fn hear_out(&mut self) -> Result<(), RunError> {
        // Gone or not: what it was asked for is done.
        self.program.send(&ToDriver::Exit);
        for line in self.program.rest(MAX_NOISE_LINES as usize, LAST_WORDS) {
            self.heard(line)?;
        }
        Ok(())
    }

    /// What the test prints goes to the log.
    fn heard(&mut self, line: String) -> Result<(), RunError> {
        self.noise += 1;
        let message = match self.noise.cmp(&MAX_NOISE_LINES) {
            std::cmp::Ordering::Less => line,
            std::cmp::Ordering::Equal => {
                format!("the program printed {MAX_NOISE_LINES} lines; the rest is left out")
            }
            std::cmp::Ordering::Greater => return Ok(()),
        };
        let call = Call { request: Request::Diag { message }, name: "print".to_owned(), stack: Vec::new() };
        match self.host.call(call) {
            Err(error) if matches!(error.kind, CallErrorKind::Cancelled | CallErrorKind::Infrastructure) => {
                Err(self.ended(error))
            }
            _ => Ok(()),
        }
    }

    fn test_error(
        &self,
        message: String,
        kind: Option<CallErrorKind>,
        stack: Vec<Source>,
        traceback: Option<String>,
    ) -> RunError {
        let kind = match kind {
            Some(CallErrorKind::Failed) => TestErrorKind::Failed,
            _ => TestErrorKind::TestBug,
        };
        let source_line = plausible(stack).pop();
        RunError::Test {
            message,
            source_line,
            backtrace: traceback.unwrap_or_else(|| self.program.tail()),
            kind,
        }
    }

    fn ended(&self, error: CallError) -> RunError {
        RunError::Call { error, backtrace: self.program.tail() }
    }

    fn broken(&self, what: &str) -> RunError {
        let message = format!("the program of {} {what}", self.module.file);
        RunError::Driver { message, backtrace: self.program.tail() }
    }

    /// The program ended too early.
    fn gone(&mut self, when: &str) -> RunError {
        let status = self.program.finish(PATIENCE * 4);
        let backtrace = self.program.tail();
        if let Some(message) = explain_complaint(&backtrace) {
            return RunError::Driver { message, backtrace };
        }
        let status = status.map(|status| format!(" ({status})")).unwrap_or_default();
        let message = format!("the program of {} ended {when}{status}", self.module.file);
        RunError::Driver { message, backtrace }
    }
}

/// The beginning of a line, for a message.
fn start(line: &str) -> String {
    let mut short: String = line.chars().take(80).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// The request in a call, or what is wrong with it.
fn understand(request: Value) -> Result<Request, String> {
    let name = request.get("call").and_then(Value::as_str).unwrap_or_default().to_owned();
    serde_json::from_value(request).map_err(|e| {
        let message = format!("the call `{name}` cannot be understood: {e}");
        if message.contains(&format!("unknown variant `{name}`")) && !name.is_empty() {
            let known = crate::reference::names();
            let help = did_you_mean(&name, known).map(|help| format!("; {help}")).unwrap_or_default();
            return format!("the machine has no call `{name}`{help}");
        }
        message
    })
}

/// The request's own name, as it is written on the wire.
fn request_name(request: &Request) -> String {
    let value = serde_json::to_value(request).unwrap_or_default();
    value.get("call").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A stack as a page can show it.
fn plausible(mut stack: Vec<Source>) -> Vec<Source> {
    stack.retain(|source| source.file.len() <= 500);
    stack.split_off(stack.len().saturating_sub(MAX_STACK))
}
