//! Looking at processes, by /proc.

use crate::PATIENCE;
use camino::Utf8Path;
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;

/// A process as it was when looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its command line, joined by spaces.
    pub command: String,
}

impl Process {
    /// True as long as it runs (a zombie does not).
    pub fn lives(&self) -> bool {
        state(self.pid).is_some_and(|state| state != 'Z')
    }

    /// Its program's file name.
    pub fn program(&self) -> &str {
        let program = self.command.split(' ').next().unwrap_or_default();
        program.rsplit('/').next().unwrap_or_default()
    }
}

/// Sends a signal; a process that is gone already is no error.
pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process id");
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("{pid:?}: {error}"),
    }
}

/// Looks again and again until there is something: for what can be waited for in no other way, such as the end of
/// another's child.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// The same for what has to be asked of a server.
pub async fn asking<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// Every process that names the directory in its environment, command line or working directory.
pub(crate) fn of(dir: &Utf8Path) -> Vec<Process> {
    let mut found = Vec::new();
    let own = std::process::id();
    for entry in fs_err::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // What ends meanwhile cannot be read, and is not of interest.
        let read = |file: &str| fs_err::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let (environment, command) = (read("environ"), read("cmdline"));
        let cwd = fs_err::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        let named = holds(&environment, dir) || holds(&command, dir) || cwd.starts_with(dir);
        if pid != own && named && state(pid).is_some_and(|state| state != 'Z') {
            let command = String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " ");
            found.push(Process { pid, command });
        }
    }
    found
}

fn holds(bytes: &[u8], dir: &Utf8Path) -> bool {
    bytes.windows(dir.as_str().len()).any(|part| part == dir.as_str().as_bytes())
}

fn state(pid: u32) -> Option<char> {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
