//! One phase: its steps one after the other in one sandbox, until they are done or something ends them.
//!
//! The sandbox's program is a bash that reads its commands from a socket: first the variables, so that no secret is on
//! a command line or a disk, then one command for each step. What a phase has left running ends with it.

use super::processes::Init;
use super::recorder::Recorder;
use super::sandbox::{self, HOME, JobDirs, OWN, Sandbox, WORKSPACE};
use super::watch;
use super::{Deadline, Pace};
use crate::exec::{Attempt, Stop};
use assay_proto::task::{Limits, Phase, PhaseName, ShellStep};
use assay_records::step::StepResult;
use fs_err as fs;
use futures_util::FutureExt;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::unix::pipe::Receiver;
use tokio::process::Child;

/// How a phase ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// Every step ended with 0.
    Well,
    /// A step did not.
    Badly(String),
    /// The budget was used up.
    Timeout(String),
    /// It used more than it may.
    Breach(String),
    /// Somebody stopped it.
    Stopped(Stop),
    /// The host could not carry it out.
    Host(String),
}

/// A phase and everything around it.
pub(super) struct Run<'a> {
    pub(super) attempt: &'a Attempt,
    pub(super) name: PhaseName,
    pub(super) phase: &'a Phase,
    pub(super) dirs: &'a JobDirs,
    pub(super) sandbox: &'a Sandbox,
    pub(super) limits: Limits,
    pub(super) env: BTreeMap<String, String>,
    pub(super) pace: &'a dyn Pace,
    /// A cancel does not end this phase: it came before it began.
    pub(super) deaf: bool,
}

/// Bytes of the console that are read at once.
const CHUNK: usize = 64 * 1024;
/// Before a step's end is noted, at most so many bytes that it has left in the pipe are read.
const PIPE: usize = 1 << 20;
/// A sandbox that has not started by then never will.
const START: Duration = Duration::from_mins(2);
/// Names that bash keeps for itself.
const BASH_OWN: [&str; 6] = ["UID", "EUID", "PPID", "BASHOPTS", "SHELLOPTS", "BASH_VERSINFO"];

/// A sandbox that runs.
struct Running {
    child: Child,
    init: Arc<Init>,
    console: Receiver,
    commands: Option<OwnedWriteHalf>,
    answers: tokio::io::Lines<BufReader<tokio::net::unix::OwnedReadHalf>>,
}

/// What happens next in a sandbox.
enum Event {
    Answer(Option<String>),
    Printed,
    Deadline,
    Breach(String),
    Stopped(Stop),
    RecordLost(String),
}

impl Run<'_> {
    /// Runs it.
    pub(super) async fn run(&self, recorder: &mut Recorder<'_>) -> Ended {
        if let Err(error) = self.write_scripts() {
            return Ended::Host(format!("the scripts of the job cannot be written: {error}"));
        }
        let mut running = match tokio::time::timeout(START, self.start(recorder)).await {
            Ok(Ok(running)) => running,
            Ok(Err(why)) => return Ended::Host(why),
            Err(_) => return Ended::Host(format!("the sandbox did not start within {} s", START.as_secs())),
        };
        let ended = self.steps(&mut running, recorder).await;
        self.end(running, recorder).await;
        ended
    }

    fn script(&self, number: usize) -> String {
        format!("{}-{}", self.name, number + 1)
    }

    fn write_scripts(&self) -> std::io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        for (number, step) in self.phase.steps.iter().enumerate() {
            let file = self.dirs.own.join(self.script(number));
            fs::write(&file, &step.script)?;
            fs::set_permissions(&file, PermissionsExt::from_mode(0o755))?;
        }
        Ok(())
    }

    /// Starts the sandbox and waits until its bash answers.
    async fn start(&self, recorder: &mut Recorder<'_>) -> Result<Running, String> {
        let host = |error: std::io::Error| format!("the sandbox cannot be made: {error}");
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(host)?;
        ours.set_nonblocking(true).map_err(host)?;
        let (reader, writer) = std::io::pipe().map_err(host)?;
        let mut command = self.sandbox.command(self.dirs, &["/bin/bash", "--noprofile", "--norc"]);
        command.stdin(Stdio::from(OwnedFd::from(theirs)));
        command.stdout(writer.try_clone().map_err(host)?).stderr(writer);
        let child = command.spawn().map_err(|error| sandbox::explain_start(&error))?;
        // With it go our copies of the other ends.
        drop(command);
        let mut console = Receiver::from_owned_fd(reader.into()).map_err(host)?;
        let (answers, mut commands) = UnixStream::from_std(ours).map_err(host)?.into_split();
        let mut answers = BufReader::new(answers).lines();
        let asked = commands.write_all(self.prologue().as_bytes()).await;
        let ready = match asked {
            Ok(()) => answers.next_line().await.ok().flatten(),
            Err(_) => None,
        };
        let init = ready.and_then(|_| Init::of(child.id()?).ok());
        let Some(init) = init else {
            let mut said = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut console, &mut said).await;
            let said = String::from_utf8_lossy(&said).into_owned();
            recorder.printed(said.as_bytes());
            return Err(sandbox::explain(&said));
        };
        Ok(Running { child, init: Arc::new(init), console, commands: Some(commands), answers })
    }

    /// The variables of the phase, its limits, and a word that all is well.
    fn prologue(&self) -> String {
        let mut text = String::new();
        let mut env = BTreeMap::from([
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("HOME", HOME.to_owned()),
            ("USER", "assay".to_owned()),
            ("LOGNAME", "assay".to_owned()),
            ("SHELL", "/bin/bash".to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("TMPDIR", "/tmp".to_owned()),
            ("WORKSPACE", WORKSPACE.to_owned()),
            ("ASSAY_PHASE", self.name.word().to_owned()),
            ("BUILD_TIMEOUT", self.phase.budget_s.saturating_mul(1000).to_string()),
        ]);
        env.extend(self.env.iter().map(|(name, value)| (name.as_str(), value.clone())));
        for (name, value) in env.iter().filter(|(name, _)| !BASH_OWN.contains(name)) {
            let _ = writeln!(text, "export {name}={}", quoted(value));
        }
        let file_blocks = (self.limits.disk_bytes / 1024).max(1);
        let _ = writeln!(
            text,
            "ulimit -c 0; ulimit -f {file_blocks}; ulimit -u {} 2>/dev/null",
            self.limits.processes
        );
        text.push_str("printf 'ready\\n' >&0\n");
        text
    }

    /// The steps, until one fails or something ends them.
    async fn steps(&self, running: &mut Running, recorder: &mut Recorder<'_>) -> Ended {
        let late = matches!(self.name, PhaseName::Post | PhaseName::Collect);
        let breach = watch::breach(self.limits, late, running.init.clone(), self.dirs).fuse();
        let budget = Duration::from_secs(self.phase.budget_s);
        let mut over =
            Over { deadline: self.pace.over(self.name, Deadline::Budget, budget), why: None, killed: false };
        tokio::pin!(breach);
        for (number, step) in self.phase.steps.iter().enumerate() {
            let name = step.name.clone().unwrap_or_else(|| format!("step {}", number + 1));
            recorder.say(&format!("{}: {name}", self.name));
            let (began_us, first_line) = (recorder.now_us(), recorder.lines() + 1);
            if let Err(why) = running.order(&self.line(number, step)).await {
                return over.why.unwrap_or(Ended::Host(why));
            }
            let code = loop {
                let event = tokio::select! {
                    biased;
                    why = &mut breach => Event::Breach(why),
                    stop = self.stopped(over.why.is_some()), if !over.killed => Event::Stopped(stop),
                    () = &mut over.deadline => Event::Deadline,
                    answer = running.answers.next_line() => Event::Answer(answer.ok().flatten()),
                    ready = running.console.readable() => {
                        let _ = ready;
                        Event::Printed
                    }
                };
                match event {
                    Event::Printed => {
                        if !running.drain(recorder, CHUNK) {
                            break None;
                        }
                        if let Some(why) = self.attempt.dir.failure() {
                            self.note(recorder, Event::RecordLost(why), running, &mut over);
                        }
                    }
                    Event::Answer(answer) => {
                        running.drain(recorder, PIPE);
                        break answer.and_then(|line| line.trim().parse::<i32>().ok());
                    }
                    other => self.note(recorder, other, running, &mut over),
                }
            };
            recorder.quiet();
            let lines = match recorder.lines() {
                last if last < first_line => "printed nothing".to_owned(),
                last => format!("console lines {first_line} to {last}"),
            };
            let (result, title) = match (code, &over.why) {
                (_, Some(why)) => (StepResult::Fail, why.sentence()),
                (Some(0), None) => (StepResult::Ok, format!("{name}: ok")),
                (Some(code), None) => (StepResult::Fail, format!("{name}: {}", exit_words(code))),
                (None, None) => (StepResult::Fail, format!("{name}: the sandbox ended under it")),
            };
            recorder.say(&format!("{}: {title}", self.name));
            recorder.step("shell", began_us, result, &title, &lines);
            match (over.why, code) {
                (Some(why), _) => return why,
                (None, Some(0)) => over.why = None,
                (None, Some(_) | None) => return Ended::Badly(format!("{}: {title}", self.name)),
            }
        }
        Ended::Well
    }

    /// Waits until the attempt has to stop. A person's cancel is heard once; what is stronger, always.
    async fn stopped(&self, ending: bool) -> Stop {
        let mut stop = self.attempt.stop.clone();
        loop {
            match stop.borrow_and_update().clone() {
                Some(Stop::Cancelled(_)) if ending || self.deaf => {}
                Some(reason) => return reason,
                None => {}
            }
            if stop.changed().await.is_err() {
                return Stop::Shutdown;
            }
        }
    }

    /// Something wants the phase to end: softly first, where there is still time for that.
    fn note<'p>(&'p self, recorder: &mut Recorder<'_>, event: Event, running: &Running, over: &mut Over<'p>) {
        let grace = self.phase.grace_s;
        let why = match event {
            Event::Deadline if over.why.is_some() => {
                recorder.say(&format!("{}: still there after {grace} s of grace, killed", self.name));
                over.kill(running);
                return;
            }
            Event::Deadline => {
                let budget = self.phase.budget_s;
                Ended::Timeout(format!("timeout: {} exceeded its budget of {budget} s", self.name))
            }
            Event::Stopped(stop) => Ended::Stopped(stop),
            Event::Breach(why) => Ended::Breach(why),
            Event::RecordLost(why) => Ended::Host(why),
            Event::Answer(_) | Event::Printed => return,
        };
        let soft = matches!(why, Ended::Timeout(_) | Ended::Stopped(Stop::Cancelled(_)));
        if soft {
            recorder.say(&format!("{}; it has {grace} s to end", why.sentence()));
            running.init.ask_to_end();
            over.deadline = self.pace.over(self.name, Deadline::Grace, Duration::from_secs(grace));
        } else {
            over.kill(running);
        }
        over.why.get_or_insert(why);
    }

    /// The command that runs a step and answers with its exit code.
    fn line(&self, number: usize, step: &ShellStep) -> String {
        let file = format!("{OWN}/{}", self.script(number));
        let runner = match &step.shell {
            Some(shell) => shell.split_whitespace().map(quoted).collect::<Vec<_>>().join(" "),
            None if step.script.starts_with("#!") => String::new(),
            None => "/bin/bash -e".to_owned(),
        };
        format!("cd {WORKSPACE}; {runner} {file} </dev/null; printf '%s\\n' \"$?\" >&0\n")
    }

    /// Ends what the phase has left running, and reads what it has left in the pipe.
    async fn end(&self, mut running: Running, recorder: &mut Recorder<'_>) {
        drop(running.commands.take());
        running.init.kill();
        loop {
            tokio::select! {
                biased;
                ready = running.console.readable() => {
                    if ready.is_err() || !running.drain(recorder, CHUNK) {
                        break;
                    }
                }
                () = running.init.ended() => {
                    running.drain(recorder, PIPE);
                    break;
                }
            }
        }
        running.init.ended().await;
        let _ = running.child.wait().await;
        recorder.quiet();
    }
}

/// Why the phase has to end, and what comes next if it does not.
struct Over<'a> {
    deadline: super::Over<'a>,
    why: Option<Ended>,
    killed: bool,
}

impl Over<'_> {
    fn kill(&mut self, running: &Running) {
        running.init.kill();
        self.killed = true;
        self.deadline = Box::pin(std::future::pending());
    }
}

impl Running {
    async fn order(&mut self, line: &str) -> Result<(), String> {
        let gone = || "the sandbox ended between two steps".to_owned();
        let commands = self.commands.as_mut().ok_or_else(gone)?;
        commands.write_all(line.as_bytes()).await.map_err(|_| gone())
    }

    /// Takes what is in the pipe, at most `limit` bytes; false once nothing can come any more.
    fn drain(&self, recorder: &mut Recorder<'_>, limit: usize) -> bool {
        let mut buffer = vec![0; CHUNK];
        let mut taken = 0;
        while taken < limit {
            match self.console.try_read(&mut buffer) {
                Ok(0) => return false,
                Ok(length) => {
                    recorder.printed(&buffer[..length]);
                    taken += length;
                }
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}

impl Ended {
    /// Why, as a sentence; nothing for a good end.
    pub(super) fn sentence(&self) -> String {
        match self {
            Self::Well => String::new(),
            Self::Badly(why) | Self::Timeout(why) | Self::Breach(why) | Self::Host(why) => why.clone(),
            Self::Stopped(stop) => stop.sentence(),
        }
    }
}

/// What a shell's `$?` says.
fn exit_words(code: i32) -> String {
    match code {
        127 => "exit code 127: a command was not found".to_owned(),
        129..=192 => format!("exit code {code}: killed by signal {}", code - 128),
        _ => format!("exit code {code}"),
    }
}

/// For a POSIX shell.
pub(super) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
