//! What a job may use: looked at while it runs, because a limit of the kernel holds for one process, or not for root.

use super::processes::Init;
use super::sandbox::JobDirs;
use assay_proto::task::Limits;
use camino::{Utf8Path, Utf8PathBuf};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

/// How often processes and memory are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// A tree is walked at the latest after this time, ...
const WALK: Duration = Duration::from_secs(20);
/// ... and never for more than this part of the time.
const WALK_SHARE: u32 = 20;

/// Of its disk limit a late phase has this part left at least, whatever the ones before it have filled.
const LATE_SHARE: u64 = 8;

/// Waits until the job uses more than it may, and says what. `late`: the phase gathers what is left of the job.
pub(super) async fn breach(limits: Limits, late: bool, init: Arc<Init>, dirs: &JobDirs) -> String {
    let mut disk = Disk::new(dirs, limits.disk_bytes, late);
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let init = init.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let usage = init.usage();
            let used = disk.look();
            (usage, used, disk)
        });
        let Ok((usage, used, back)) = looked.await else { return std::future::pending().await };
        disk = back;
        if usage.tasks > limits.processes {
            return format!(
                "the job ran {} processes and threads at once, and may run {} (limits.processes)",
                usage.tasks, limits.processes
            );
        }
        if usage.memory > limits.memory_bytes {
            return format!(
                "the job held {} bytes of memory, and may hold {} (limits.memory_bytes)",
                usage.memory, limits.memory_bytes
            );
        }
        if used > disk.limit {
            return format!(
                "the job filled {used} bytes of disk, and may fill {} (limits.disk_bytes)",
                disk.limit
            );
        }
    }
}

/// Knows cheaply when a tree may have outgrown its limit: the file system as a whole must have grown by what was left.
struct Disk {
    trees: Vec<Utf8PathBuf>,
    limit: u64,
    late: bool,
    used: u64,
    free: u64,
    walked: Option<(Instant, Duration)>,
}

impl Disk {
    fn new(dirs: &JobDirs, limit: u64, late: bool) -> Self {
        let trees = vec![dirs.workspace.clone(), dirs.home.clone(), dirs.tmp.clone()];
        Self { trees, limit, late, used: 0, free: 0, walked: None }
    }

    /// Bytes in use, as far as known.
    fn look(&mut self) -> u64 {
        let free = free_bytes(&self.trees[0]);
        let grown = self.free.saturating_sub(free);
        let due = self.walked.is_none_or(|(at, took)| {
            let since = at.elapsed();
            since >= took * WALK_SHARE && (self.used + grown > self.limit || since >= WALK)
        });
        if due {
            let began = Instant::now();
            self.used = self.trees.iter().map(|tree| bytes_below(tree)).sum();
            if std::mem::take(&mut self.late) {
                self.limit = self.limit.max(self.used + self.limit / LATE_SHARE);
            }
            self.free = free;
            self.walked = Some((Instant::now(), began.elapsed()));
        }
        self.used
    }
}

fn free_bytes(path: &Utf8Path) -> u64 {
    rustix::fs::statvfs(path.as_std_path()).map_or(0, |fs| fs.f_bfree * fs.f_frsize)
}

/// Bytes on disk of a tree; links are counted as they are.
fn bytes_below(tree: &Utf8Path) -> u64 {
    let mut bytes = 0;
    let mut open = vec![tree.as_std_path().to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs_err::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            bytes += meta.blocks() * 512;
            if meta.is_dir() {
                open.push(entry.path());
            }
        }
    }
    bytes
}
