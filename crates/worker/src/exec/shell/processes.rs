//! The processes of a sandbox, as the host sees them.

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

/// The first process of a sandbox's namespace; with it everything in there ends.
#[derive(Debug)]
pub(super) struct Init {
    pid: u32,
    fd: AsyncFd<OwnedFd>,
}

/// What the processes of a sandbox use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Usage {
    /// Processes and threads.
    pub(super) tasks: u64,
    /// Bytes of memory that are not shared with a file.
    pub(super) memory: u64,
}

impl Init {
    /// The one below the bubblewrap process `bwrap`.
    pub(super) fn of(bwrap: u32) -> std::io::Result<Self> {
        let children = fs::read_to_string(format!("/proc/{bwrap}/task/{bwrap}/children"))?;
        let pid = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
        let gone = || std::io::Error::other("the sandbox has ended");
        let pid: u32 = pid.ok_or_else(gone)?;
        let raw = Pid::from_raw(pid as i32).ok_or_else(gone)?;
        #[expect(deprecated, reason = "its successor is unsafe; an OwnedFd stays what it is")]
        let fd = AsyncFd::new(pidfd_open(raw, PidfdFlags::NONBLOCK)?)?;
        Ok(Self { pid, fd })
    }

    /// Kills everything.
    pub(super) fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(self.fd.get_ref(), Signal::KILL);
    }

    /// Waits until nothing of it is alive: the kernel ends the first process of a namespace after all others.
    pub(super) async fn ended(&self) {
        let _ = self.fd.readable().await;
    }

    /// Asks everything but the sandbox's own two processes to end.
    pub(super) fn ask_to_end(&self) {
        let Some(own) = namespace(self.pid) else { return };
        for pid in numbers(Utf8Path::new("/proc")) {
            if namespace(pid).as_ref() == Some(&own)
                && number_inside(pid).is_some_and(|inside| inside > 2)
                && let Some(raw) = Pid::from_raw(pid as i32)
            {
                let _ = kill_process(raw, Signal::TERM);
            }
        }
    }

    /// What they use now; nothing once they have ended.
    pub(super) fn usage(&self) -> Usage {
        let proc = Utf8PathBuf::from(format!("/proc/{}/root/proc", self.pid));
        let page = rustix::param::page_size() as u64;
        let mut usage = Usage::default();
        for pid in numbers(&proc) {
            let read =
                |file: &str| fs::read_to_string(proc.join(pid.to_string()).join(file)).unwrap_or_default();
            usage.tasks += threads(&read("stat"));
            usage.memory += private_pages(&read("statm")) * page;
        }
        usage
    }
}

fn numbers(proc: &Utf8Path) -> impl Iterator<Item = u32> + use<> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn namespace(pid: u32) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/ns/pid")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// The number that a process has in its own namespace.
fn number_inside(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

/// `num_threads` of a `stat` file. The name of the program may hold anything, brackets too.
fn threads(stat: &str) -> u64 {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_whitespace().nth(17).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// `resident - shared` of a `statm` file.
fn private_pages(statm: &str) -> u64 {
    let mut numbers = statm.split_whitespace().skip(1).map_while(|number| number.parse::<u64>().ok());
    let (resident, shared) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    resident.saturating_sub(shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_read() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 20 0 19 0 100 200 300";
        assert_eq!(threads(stat), 19);
        assert_eq!(threads(""), 0);
        assert_eq!(private_pages("900 70 50 1 0 20 0\n"), 20);
        assert_eq!(private_pages(""), 0);
        let own = std::process::id();
        assert!(number_inside(own).is_some() && namespace(own).is_some());
        assert!(threads(&fs::read_to_string("/proc/self/stat").unwrap()) > 0);
    }
}
