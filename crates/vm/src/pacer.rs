//! Keeps keys apart in the guest's own time.
//!
//! A PC's firmware keeps 15 keys, and its keyboard 16 bytes. A pace that the guest can follow is too fast
//! for it when the host is busy and the guest gets a part of the time only, or none for a while. Linux
//! tells for each thread how long it ran (`/proc/PID/task/TID/schedstat`, first number) and whether it
//! has anything to do (`stat`, third field). A thread that sleeps has taken all its input; one that
//! does not must have run for as long as it was given.

use std::io::{Read, Seek};
use std::time::Duration;

use camino::Utf8Path;
use fs_err::File;

/// The kernel counts at its tick, each 4 ms as a rule: so much may be missing.
const TICK: Duration = Duration::from_millis(6);
/// The most that one pause asks of a thread.
const MOST: Duration = Duration::from_millis(20);

/// Looks at QEMU's main thread and its processor threads.
#[derive(Debug, Default)]
pub(crate) struct Pacer {
    threads: Vec<Thread>,
}

#[derive(Debug)]
struct Thread {
    schedstat: File,
    stat: File,
    /// Nanoseconds that it had run at the last look.
    ran: u64,
    /// How long it has still to run.
    debt: Duration,
}

impl Pacer {
    /// For a QEMU that gives names to its threads. Where the kernel tells nothing, nothing is waited for.
    pub(crate) fn new(qemu: Option<u32>) -> Self {
        let tasks = qemu.map(|pid| format!("/proc/{pid}/task")).and_then(|dir| fs_err::read_dir(dir).ok());
        let mut pacer = Self::default();
        for task in tasks.into_iter().flatten().flatten() {
            let Ok(path) = camino::Utf8PathBuf::from_path_buf(task.path()) else { continue };
            let main = path.file_name().and_then(|tid| tid.parse().ok()) == qemu;
            let name = fs_err::read_to_string(path.join("comm")).unwrap_or_default();
            if main || name.starts_with("CPU ") {
                pacer.threads.extend(Thread::open(&path));
            }
        }
        pacer
    }

    /// Forgets what was asked before.
    pub(crate) fn restart(&mut self) {
        for thread in &mut self.threads {
            thread.run();
            thread.debt = Duration::ZERO;
        }
    }

    /// Asks for so much of the guest's time.
    pub(crate) fn owe(&mut self, time: Duration) {
        for thread in &mut self.threads {
            thread.debt += time.min(MOST);
        }
    }

    /// Whether the guest has had it.
    pub(crate) fn settled(&mut self) -> bool {
        // Each one is looked at, so that none collects time while another is behind.
        self.threads.iter_mut().filter_map(|thread| (!thread.settled()).then_some(())).count() == 0
    }
}

impl Thread {
    fn open(task: &Utf8Path) -> Option<Self> {
        let open = |name: &str| File::open(task.join(name)).ok();
        Some(Self { schedstat: open("schedstat")?, stat: open("stat")?, ran: 0, debt: Duration::ZERO })
    }

    /// How long it ran since the last look.
    fn run(&mut self) -> Duration {
        let now = read(&mut self.schedstat).and_then(|text| ran(&text)).unwrap_or(self.ran);
        Duration::from_nanos(now.saturating_sub(std::mem::replace(&mut self.ran, now)))
    }

    fn settled(&mut self) -> bool {
        self.debt = self.debt.saturating_sub(self.run());
        if self.debt > TICK && read(&mut self.stat).is_none_or(|text| rests(&text)) {
            self.debt = Duration::ZERO;
        }
        self.debt <= TICK
    }
}

fn read(file: &mut File) -> Option<String> {
    let mut text = [0; 256];
    file.rewind().ok()?;
    let n = file.read(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text[..n]).into_owned())
}

/// Nanoseconds out of a line of `schedstat`.
fn ran(line: &str) -> Option<u64> {
    line.split_whitespace().next()?.parse().ok()
}

/// Whether a line of `stat` tells of a thread that waits for something to do, or has ended. The name of a
/// thread may hold anything, so its last parenthesis counts.
fn rests(line: &str) -> bool {
    let state = line.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, Some('R' | 'D' | 'T' | 't'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        assert_eq!(ran("1873211 12 3\n"), Some(1_873_211));
        assert_eq!(ran(""), None);
        assert!(rests("17 (CPU 0/TCG) S 1 17"));
        assert!(!rests("17 (a) S (CPU 0/TCG) R 1 17"));
        assert!(rests(""));
    }

    #[test]
    fn a_process_that_is_not_there_is_not_waited_for() {
        for mut pacer in [Pacer::new(None), Pacer::new(Some(u32::MAX))] {
            pacer.owe(MOST);
            assert!(pacer.settled());
        }
    }

    /// The test's main thread sleeps while this one runs.
    #[test]
    fn a_thread_that_sleeps_owes_nothing() {
        let mut pacer = Pacer::new(Some(std::process::id()));
        assert_eq!(pacer.threads.len(), 1);
        pacer.restart();
        assert!(pacer.threads[0].ran > 0);
        // The main thread of a test program waits for the tests; it may be on its way to that still.
        let settles = (0..1_000_000).any(|_| {
            pacer.restart();
            pacer.owe(MOST);
            pacer.settled()
        });
        assert!(settles);
    }

    #[test]
    fn a_thread_that_runs_has_to_run() {
        // This very thread: it is running whenever it looks.
        let own = fs_err::canonicalize("/proc/thread-self").unwrap();
        let thread = Thread::open(Utf8Path::from_path(&own).unwrap()).unwrap();
        let mut pacer = Pacer { threads: vec![thread] };
        pacer.restart();
        pacer.owe(MOST);
        assert!(!pacer.settled());
        let mut rounds = 0_u64;
        while !pacer.settled() {
            rounds += 1;
        }
        assert!(rounds > 0);
    }
}
