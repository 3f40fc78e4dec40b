//! Runs git: its own process group, a clean environment, a deadline.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What git may write on standard output; a list of references of a huge project has some ten megabytes.
const MOST_OUTPUT: usize = 256 << 20;
/// What is kept of standard error.
const MOST_TALK: usize = 64 << 10;

/// Settings that hold for every call: nothing of the user's, no prompts, no hooks, no helper that keeps running.
const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "gc.auto=0",
    "maintenance.auto=false",
    "fetch.recurseSubmodules=no",
    "push.recurseSubmodules=no",
    "transfer.fsckObjects=false",
    "credential.helper=",
    "core.askPass=",
    "advice.detachedHead=false",
];

/// The git program and what its environment is.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    program: OsString,
}

/// One call.
pub(crate) struct Call<'a> {
    pub(crate) dir: &'a camino::Utf8Path,
    pub(crate) arguments: &'a [&'a str],
    pub(crate) env: &'a [(String, String)],
    pub(crate) stdin: &'a [u8],
    pub(crate) deadline: Duration,
}

/// How a call ended by itself.
pub(crate) struct Done {
    /// `None`: killed by a signal.
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

/// Why there is no end to speak of.
#[derive(Debug)]
pub(crate) enum CallError {
    Start(std::io::Error),
    /// The whole group was killed; what was written on standard output until then.
    Deadline,
    Io(std::io::Error),
}

impl Git {
    pub(crate) fn new(program: impl Into<OsString>) -> Self {
        Self { program: program.into() }
    }

    /// A command with the environment that git always gets.
    pub(crate) fn command(&self, env: &[(String, String)]) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear();
        // What finds programs and scratch space; nothing that configures git.
        for name in ["PATH", "TMPDIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_ALLOW_PROTOCOL", "file:git:http:https:ssh")
            .env("GIT_DEFAULT_REF_FORMAT", "files")
            .env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes -oConnectTimeout=30")
            .envs(env.iter().map(|(name, value)| (name, value)));
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.process_group(0);
        command
    }

    /// Runs git to its end or to the deadline.
    pub(crate) fn run(&self, call: &Call<'_>) -> Result<Done, CallError> {
        let mut command = self.command(call.env);
        command.args(call.arguments).current_dir(call.dir);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut group = Group(command.spawn().map_err(CallError::Start)?);
        match converse(&mut group.0, call) {
            Ok(Some((out, err))) => {
                let code = group.0.wait().map_err(CallError::Io)?.code();
                let err = String::from_utf8_lossy(&err).into_owned();
                Ok(Done { code, out, err })
            }
            Ok(None) => Err(CallError::Deadline),
            Err(error) => Err(CallError::Io(error)),
        }
    }
}

/// A process group; dropping it kills what is left of it.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        kill_group(self.0.id());
        // The leader's status was perhaps taken already; then this returns it again.
        let _ = self.0.wait();
    }
}

/// Kills a process group by its leader's id.
pub(crate) fn kill_group(id: u32) {
    if let Some(group) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        // Gone already is as good.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// A stream of the child that is read without waiting.
struct Stream<R> {
    from: Option<R>,
    got: Vec<u8>,
    most: usize,
    /// More is an error; else what is more is dropped.
    exact: bool,
}

impl<R: Read + AsFd> Stream<R> {
    fn new(from: Option<R>, most: usize, exact: bool) -> std::io::Result<Self> {
        if let Some(from) = &from {
            nonblocking(from)?;
        }
        Ok(Self { from, got: Vec::new(), most, exact })
    }

    /// Takes what is there.
    fn drain(&mut self) -> std::io::Result<()> {
        let mut buffer = [0; 16 << 10];
        while let Some(from) = &mut self.from {
            match from.read(&mut buffer) {
                Ok(0) => self.from = None,
                Ok(count) => {
                    let room = self.most.saturating_sub(self.got.len());
                    if self.exact && count > room {
                        return Err(std::io::Error::other(format!(
                            "git wrote more than {} bytes",
                            self.most
                        )));
                    }
                    self.got.extend_from_slice(&buffer[..count.min(room)]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn nonblocking(fd: impl AsFd) -> std::io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?)
}

/// Talks with the child until it has ended: both outputs, or `None` when the time is over.
///
/// It ends with the process, not with its streams: a helper of git that lives on may hold them open for ever.
fn converse(child: &mut Child, call: &Call<'_>) -> std::io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let ended = pidfd_open(pid, PidfdFlags::empty())?;
    let timer = timer(call.deadline)?;
    let mut stdin = child.stdin.take();
    if let Some(stdin) = &stdin {
        nonblocking(stdin)?;
    }
    let mut out = Stream::new(child.stdout.take(), MOST_OUTPUT, true)?;
    let mut err = Stream::new(child.stderr.take(), MOST_TALK, false)?;
    let mut unsent = call.stdin;
    loop {
        if unsent.is_empty() {
            stdin = None;
        }
        if let Some(pipe) = &mut stdin {
            match pipe.write(unsent) {
                Ok(count) => {
                    unsent = &unsent[count..];
                    continue;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                // It does not want the rest; its status tells why.
                Err(_) => stdin = None,
            }
        }
        let mut fds = vec![PollFd::new(&timer, PollFlags::IN), PollFd::new(&ended, PollFlags::IN)];
        fds.extend(out.from.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(err.from.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(stdin.iter().map(|fd| PollFd::new(fd, PollFlags::OUT)));
        match poll(&mut fds, None) {
            Ok(_) => {}
            // The timer goes on, however many signals arrive.
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let late = fds[0].revents().contains(PollFlags::IN);
        let over = fds[1].revents().contains(PollFlags::IN);
        out.drain()?;
        err.drain()?;
        if over {
            return Ok(Some((out.got, err.got)));
        }
        if late {
            return Ok(None);
        }
    }
}

/// Readable once the time is over.
fn timer(after: Duration) -> std::io::Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
    // Zero would disarm it.
    let after = after.max(Duration::from_nanos(1));
    let value = Timespec {
        tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: after.subsec_nanos().into(),
    };
    let never = Timespec { tv_sec: 0, tv_nsec: 0 };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: never, it_value: value })?;
    Ok(timer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use camino::Utf8Path;

    fn call<'a>(arguments: &'a [&'a str], stdin: &'a [u8], deadline: Duration) -> Call<'a> {
        Call { dir: Utf8Path::new("/"), arguments, env: &[], stdin, deadline }
    }

    #[test]
    fn large_input_and_output_do_not_block_each_other() {
        let text = vec![b'x'; 3 << 20];
        let done =
            Git::new("git").run(&call(&["stripspace"], &text, Duration::from_mins(2))).expect("git runs");
        assert_eq!((done.code, done.out.len()), (Some(0), text.len() + 1));
    }

    #[test]
    fn the_deadline_kills_the_whole_group() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = Utf8Path::from_path(dir.path()).expect("UTF-8");
        let fifo = dir.join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, fifo.as_str(), rustix::fs::Mode::RWXU).expect("a FIFO");
        let never = dir.join("never");
        rustix::fs::mkfifoat(rustix::fs::CWD, never.as_str(), rustix::fs::Mode::RWXU).expect("a FIFO");
        let mut reader: std::fs::File = rustix::fs::open(
            fifo.as_str(),
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .expect("it opens")
        .into();
        // git, its shell and the shell's child hold the FIFO open for writing, and none of them would ever end.
        let alias = format!("alias.hang=!exec 3>{fifo}; echo up >&3; cat {never} & cat {never}");
        let arguments = ["-c", &alias, "hang"];
        let ended = Git::new("git").run(&call(&arguments, b"", Duration::from_secs(2)));
        assert!(matches!(ended, Err(CallError::Deadline)));
        rustix::fs::fcntl_setfl(&reader, OFlags::empty()).expect("it may wait now");
        let mut text = String::new();
        // Ends when the last writer is gone.
        reader.read_to_string(&mut text).expect("it ends");
        assert_eq!(text, "up\n");
    }

    #[test]
    fn the_end_does_not_wait_for_a_helper_that_keeps_the_streams() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = Utf8Path::from_path(dir.path()).expect("UTF-8");
        let fifo = dir.join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, fifo.as_str(), rustix::fs::Mode::RWXU).expect("a FIFO");
        let alias = format!("alias.helped=!cat {fifo} & echo done");
        let arguments = ["-c", &alias, "helped"];
        let done = Git::new("git").run(&call(&arguments, b"", Duration::from_mins(2))).expect("it ends");
        assert_eq!(done.out, b"done\n");
    }

    #[test]
    fn nothing_of_the_users_configuration_is_read() {
        let arguments = ["config", "--list", "--show-origin"];
        let env = [("HOME".to_owned(), "/nonexistent".to_owned())];
        let mut call = call(&arguments, b"", Duration::from_mins(2));
        call.env = &env;
        let done = Git::new("git").run(&call).expect("git runs");
        let text = String::from_utf8(done.out).expect("UTF-8");
        assert!(text.lines().all(|line| line.starts_with("command line:")), "{text}");
    }
}
