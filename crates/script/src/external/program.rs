//! The running program: its process, and its lines in both directions.

use super::lines::{Line, MAX_LINE, read_line};
use super::sandbox::{command, explain_start};
use super::{External, PYTHON_CLIENT};
use assay_proto::driver::ToDriver;
use camino::Utf8Path;
use std::collections::VecDeque;
use std::io::{BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// Address space; a runaway program fails alone.
const MEMORY: u64 = 2 << 30;

/// Largest file that it may write.
const FILE: u64 = 256 << 20;

/// Lines of standard error that are kept for a report.
const TAIL: usize = 50;

/// A line of standard error is cut here.
const MAX_NOISE: usize = 4096;

/// What arrives from the program.
pub(super) enum Event {
    /// On standard output.
    Line(Line),
    /// On standard error.
    Noise(String),
    /// Standard output ended.
    End,
}

/// A program. Dropping it kills it and everything that it started.
pub(super) struct Program {
    child: Child,
    events: Receiver<Event>,
    answers: SyncSender<String>,
    tail: VecDeque<String>,
}

impl Program {
    /// Starts it; `Err` is one sentence with the remedy.
    pub(super) fn start(root: &Utf8Path, external: &External) -> Result<Self, String> {
        let Some(client_dir) = &external.client_dir else {
            return Err(
                "a test in another language needs a directory for its client; give External::client_dir"
                    .into(),
            );
        };
        let client = client_dir.join("assay.py");
        fs_err::write(&client, PYTHON_CLIENT).map_err(|e| format!("cannot write the Python client: {e}"))?;
        let mut command = command(root, client_dir, external);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.process_group(0).spawn().map_err(|e| explain_start(&e, external.sandbox))?;
        limit(&child);
        let (to_events, events) = sync_channel(256);
        let (to_answers, answers) = sync_channel::<String>(1024);
        let missing = || "the program has no standard streams".to_owned();
        let mut stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let stderr = child.stderr.take().ok_or_else(missing)?;
        let program = Self { child, events, answers: to_answers, tail: VecDeque::new() };
        let noise = to_events.clone();
        spawn("driver-stdout", move || read(stdout, &to_events))?;
        spawn("driver-stderr", move || hear(stderr, &noise))?;
        spawn("driver-stdin", move || {
            while let Ok(line) = answers.recv() {
                if stdin.write_all(line.as_bytes()).is_err() {
                    break;
                }
            }
        })?;
        Ok(program)
    }

    /// The next event, or `None` after `patience`.
    pub(super) fn next(&mut self, patience: Duration) -> Option<Event> {
        match self.events.recv_timeout(patience) {
            Ok(Event::Noise(line)) => {
                if self.tail.len() == TAIL {
                    self.tail.pop_front();
                }
                self.tail.push_back(line.clone());
                Some(Event::Noise(line))
            }
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Event::End),
        }
    }

    /// Queues a line; false when the program does not read.
    pub(super) fn send(&self, message: &ToDriver) -> bool {
        let Ok(mut line) = serde_json::to_string(message) else { return false };
        line.push('\n');
        // A program that has ended is noticed where its lines are read.
        !matches!(self.answers.try_send(line), Err(TrySendError::Full(_)))
    }

    /// The last lines of standard error.
    pub(super) fn tail(&self) -> String {
        self.tail.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    /// What the program says on standard error until it has ended: at most `most` lines, and none that comes more than
    /// `patience` after the one before.
    pub(super) fn rest(&mut self, most: usize, patience: Duration) -> Vec<String> {
        let events = std::iter::from_fn(|| self.events.recv_timeout(patience).ok());
        events
            .filter_map(|event| if let Event::Noise(line) = event { Some(line) } else { None })
            .take(most)
            .collect()
    }

    /// Reads what is left on standard error, then how the program ended; kills it if it lives on.
    pub(super) fn finish(&mut self, patience: Duration) -> Option<ExitStatus> {
        while let Ok(event) = self.events.recv_timeout(patience) {
            if let Event::Noise(line) = event {
                self.tail.push_back(line);
            }
        }
        while self.tail.len() > TAIL {
            self.tail.pop_front();
        }
        // Its streams close a moment before it can be waited for.
        self.await_end(patience);
        let status = self.child.try_wait().ok().flatten();
        if status.is_none() {
            self.kill();
        }
        status
    }

    /// Returns when the program has ended, or after `patience`.
    fn await_end(&self, patience: Duration) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        use rustix::process::{Pid, PidfdFlags, pidfd_open};
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // A kernel without pidfds only makes the status less certain.
        let Some(Ok(handle)) = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else { return };
        let limit = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
        let _ = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&limit));
    }

    fn kill(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            // Gone already is as good.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map(drop).map_err(|e| format!("cannot start a thread for the program: {e}"))
}

/// Bounds the program's memory and files. Its interpreter starts later than this, inside the sandbox.
fn limit(child: &Child) {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    for (resource, bytes) in [(Resource::As, MEMORY), (Resource::Fsize, FILE), (Resource::Core, 0)] {
        // A tighter bound may be in force already.
        let _ = prlimit(pid, resource, Rlimit { current: Some(bytes), maximum: Some(bytes) });
    }
}

fn read(from: impl Read, to: &SyncSender<Event>) {
    let mut from = BufReader::new(from);
    while let Ok(Some(line)) = read_line(&mut from, MAX_LINE) {
        if to.send(Event::Line(line)).is_err() {
            return;
        }
    }
    let _ = to.send(Event::End);
}

fn hear(from: impl Read, to: &SyncSender<Event>) {
    let mut from = BufReader::new(from);
    while let Ok(Some(line)) = read_line(&mut from, MAX_NOISE) {
        let text = match line {
            Line::Text(text) => text,
            Line::Binary => "(a line that is not UTF-8)".to_owned(),
            Line::TooLong(bytes) => format!("(a line of {bytes} bytes)"),
            Line::Cut(bytes) => format!("(a line of {bytes} bytes, cut)"),
        };
        if to.send(Event::Noise(text)).is_err() {
            return;
        }
    }
}
