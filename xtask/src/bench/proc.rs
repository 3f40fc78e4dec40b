//! What a program and everything it starts cost, QEMU apart: processor time and memory, from /proc.

use super::clock::{self, Pace};
use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::collections::BTreeMap;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Linux gives processor times in hundredths of a second, whatever the kernel's own tick.
const TICK: Duration = Duration::from_millis(10);
const SAMPLE: Duration = Duration::from_millis(20);
/// How the kernel shows qemu-system-x86_64: names end after 15 bytes.
const QEMU: &str = "qemu-system-x86";

/// The fields of /proc/PID/stat that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    parent: i32,
    /// Ended, but nobody waited for it.
    zombie: bool,
    /// user + system, ticks.
    own: u64,
    /// The same of all children that ended and were waited for.
    children: u64,
    /// Ticks since the machine started: tells two users of one number apart.
    started: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name stands in brackets and may hold anything, brackets too.
        let (head, tail) = text.rsplit_once(") ")?;
        let name = head.split_once(" (")?.1.to_owned();
        let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
        // The state is field 3 of proc(5) and the first here.
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            name,
            zombie: fields[0] == "Z",
            parent: fields.get(1)?.parse().ok()?,
            own: number(14)? + number(15)?,
            children: number(16)? + number(17)?,
            started: number(22)?,
        })
    }

    fn of(pid: i32) -> Option<Self> {
        Self::parse(&fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }
}

/// A process as last seen.
struct Seen {
    stat: Stat,
    alive: bool,
}

/// A program that was started here, and its offspring.
pub(super) struct Tree {
    root: Child,
    pid: i32,
    began: Instant,
    seen: BTreeMap<i32, Seen>,
}

/// What a program cost from start to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) wall: Duration,
    /// Of all but QEMU.
    pub(super) cpu: Duration,
    /// The largest sum of proportional set sizes of all but QEMU, bytes.
    pub(super) peak_pss: u64,
    /// True if the program ended with 0.
    pub(super) success: bool,
}

impl Tree {
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let began = clock::now();
        let root = command.spawn().with_context(|| format!("{command:?} did not start"))?;
        let pid = root.id() as i32;
        Ok(Self { root, pid, began, seen: BTreeMap::new() })
    }

    /// Waits for the end, nothing else: for times.
    pub(super) fn wait(mut self) -> Result<Cost> {
        let status = self.root.wait()?;
        Ok(Cost { wall: self.began.elapsed(), cpu: Duration::ZERO, peak_pss: 0, success: status.success() })
    }

    /// Waits for the end and looks every 20 ms: for costs. The looking costs the program some time, so its wall time
    /// is no figure.
    pub(super) fn watch(mut self) -> Result<Cost> {
        let mut pace = Pace::new(SAMPLE);
        let mut peak_pss = 0;
        while !self.has_ended()? {
            peak_pss = peak_pss.max(self.sample());
            pace.wait();
        }
        let wall = self.began.elapsed();
        // Not waited for yet, so its times are still there.
        let last = Stat::of(self.pid).context("the program's times are gone")?;
        let qemu = |seen: &&Seen| seen.stat.name == QEMU;
        let of_qemu: u64 = self.seen.values().filter(qemu).map(|seen| seen.stat.own).sum();
        let others = self.seen.iter().filter(|(pid, seen)| **pid != self.pid && !qemu(seen));
        let sampled: u64 = others.map(|(_, seen)| seen.stat.own).sum();
        // Children too short to be sampled are in the program's own account; children it never waited for are not.
        let children = last.children.saturating_sub(of_qemu).max(sampled);
        let status = self.root.wait()?;
        Ok(Cost { wall, cpu: TICK * (last.own + children) as u32, peak_pss, success: status.success() })
    }

    fn has_ended(&self) -> Result<bool> {
        let pid = Pid::from_raw(self.pid).context("a process has a number")?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(pid), options)?.is_some())
    }

    /// Looks at all processes of the tree; the sum of their memory, QEMU apart, in bytes.
    fn sample(&mut self) -> u64 {
        for seen in self.seen.values_mut() {
            seen.alive = false;
        }
        // Numbers grow, so only those after the program's can be its offspring.
        let mut pids: Vec<i32> = numbered_processes().filter(|pid| *pid >= self.pid).collect();
        pids.sort_unstable();
        for pid in pids {
            let Some(stat) = Stat::of(pid) else { continue };
            let known = self.seen.get(&pid).is_some_and(|seen| seen.stat.started == stat.started);
            // One that lost its parent stays ours.
            if known || pid == self.pid || self.seen.contains_key(&stat.parent) {
                self.seen.insert(pid, Seen { stat, alive: true });
            }
        }
        let ours = self.seen.iter().filter(|(_, seen)| seen.alive && seen.stat.name != QEMU);
        ours.filter_map(|(pid, _)| pss(*pid)).sum()
    }

    /// The memory of all processes but QEMU now, bytes, and how many they are.
    pub(super) fn memory(&mut self) -> (u64, usize) {
        let bytes = self.sample();
        (bytes, self.seen.values().filter(|seen| seen.alive && seen.stat.name != QEMU).count())
    }

    /// Microseconds since the start.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn is_running(&self) -> Result<bool> {
        Ok(!self.has_ended()?)
    }

    /// Asks the program to end, and ends what it left behind after 10 s. Returns the names of those.
    pub(super) fn end(mut self) -> Result<Vec<String>> {
        self.sample();
        signal(self.pid, Signal::TERM);
        let deadline = clock::now() + Duration::from_secs(10);
        let mut pace = Pace::new(SAMPLE);
        while clock::now() < deadline && (!self.has_ended()? || self.offspring().next().is_some()) {
            self.sample();
            pace.wait();
        }
        let left: Vec<_> = self.offspring().map(|(_, name)| name).collect();
        drop(self);
        Ok(left)
    }

    /// Those that still run, the program apart.
    fn offspring(&self) -> impl Iterator<Item = (i32, String)> {
        self.seen
            .iter()
            .filter(|(pid, seen)| **pid != self.pid && is_alive(**pid, seen.stat.started))
            .map(|(pid, seen)| (*pid, seen.stat.name.clone()))
    }
}

impl Drop for Tree {
    /// Nothing that was started here stays behind, however the measurement ended.
    fn drop(&mut self) {
        self.sample();
        let offspring: Vec<_> = self.offspring().collect();
        for (pid, _) in offspring {
            signal(pid, Signal::KILL);
        }
        let _ = self.root.kill();
        let _ = self.root.wait();
    }
}

/// True if the process with this number is still the one that started then, and runs.
fn is_alive(pid: i32, started: u64) -> bool {
    Stat::of(pid).is_some_and(|now| now.started == started && !now.zombie)
}

fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }
}

fn numbered_processes() -> impl Iterator<Item = i32> {
    fs_err::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The proportional set size of a process, bytes.
fn pss(pid: i32) -> Option<u64> {
    parse_pss(&fs_err::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

fn parse_pss(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_brackets_and_blanks() {
        let text = "17 (a) (b c) S 4 17 17 0 -1 4194560 1 2 3 4 11 22 33 44 20 0 1 0 555 1000 2000";
        let expected =
            Stat { name: "a) (b c".into(), parent: 4, zombie: false, own: 33, children: 77, started: 555 };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("17 (a) S 4 17"), None);
    }

    #[test]
    fn pss_is_in_bytes() {
        assert_eq!(
            parse_pss("1000-2000 [rollup]\nRss:  9 kB\nPss:               12 kB\nPss_Anon: 3 kB\n"),
            Some(12 * 1024)
        );
        assert_eq!(parse_pss("Rss: 9 kB\n"), None);
    }

    /// A shell that spends its time in a child of its own, and leaves another behind.
    #[test]
    fn offspring_is_counted_and_ended() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'"]);
        let cost = Tree::start(&mut shell).unwrap().watch().unwrap();
        assert!(cost.success && cost.cpu >= TICK * 3 && cost.cpu <= cost.wall + TICK * 2, "{cost:?}");
        assert!(cost.peak_pss > 50_000 && cost.peak_pss < 50_000_000, "{cost:?}");

        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' TERM; sleep 1000"]);
        let mut tree = Tree::start(&mut shell).unwrap();
        while tree.memory().1 < 2 {}
        let (sleeper, _) = tree.offspring().next().unwrap();
        let started = tree.seen[&sleeper].stat.started;
        assert!(is_alive(sleeper, started));
        drop(tree);
        while is_alive(sleeper, started) {}
    }
}
