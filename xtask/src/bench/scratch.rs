//! A place for what a measurement leaves; gone with it.

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(0);

pub(super) struct Scratch {
    disk: Utf8PathBuf,
    /// On a file system in memory where there is one.
    memory: Utf8PathBuf,
}

impl Scratch {
    /// Paths are short: that of a socket may have 107 bytes.
    pub(super) fn new() -> Result<Self> {
        let name = format!("assay-bench-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let base = Utf8PathBuf::try_from(std::env::temp_dir())?;
        let shared = Utf8Path::new("/dev/shm");
        let scratch = Self {
            memory: if shared.is_dir() { shared.join(&name) } else { base.join(format!("{name}-memory")) },
            disk: base.join(name),
        };
        fs_err::create_dir_all(&scratch.disk)?;
        fs_err::create_dir_all(&scratch.memory)?;
        Ok(scratch)
    }

    pub(super) fn path(&self, name: &str) -> Utf8PathBuf {
        self.disk.join(name)
    }

    pub(super) fn in_memory(&self, name: &str) -> Utf8PathBuf {
        self.memory.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for dir in [&self.disk, &self.memory] {
            let _ = fs_err::remove_dir_all(dir);
        }
    }
}
