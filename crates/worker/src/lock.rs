//! One worker process per pool directory.

use camino::Utf8Path;
use fs_err as fs;
use std::io::{Read, Seek, Write};

/// Held as long as the worker lives; the kernel releases it however the worker ends.
pub struct PoolLock(#[expect(dead_code, reason = "held, not read")] std::fs::File);

/// Why the pool cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PoolLockError {
    /// Another worker uses it.
    #[error("a worker (pid {pid}) already uses {path}; stop it first, or give this one another --pool")]
    Taken {
        /// The other worker's process.
        pid: String,
        /// The pool.
        path: String,
    },
    /// The lock file cannot be made.
    #[error("cannot lock the worker's pool: {0}; check that it is writable")]
    Io(#[from] std::io::Error),
}

/// Takes the pool `dir`, which must exist.
pub fn lock_pool(dir: &Utf8Path) -> Result<PoolLock, PoolLockError> {
    let path = dir.join("worker.lock");
    let mut file = fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path)?;
    if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        file.read_to_string(&mut pid)?;
        return Err(PoolLockError::Taken { pid: pid.trim().to_owned(), path: dir.to_string() });
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(PoolLock(file.into_parts().0))
}

/// The process id of the worker that holds the pool `dir`, if one does.
pub fn pool_holder(dir: &Utf8Path) -> Option<u32> {
    let file = fs::File::open(dir.join("worker.lock")).ok()?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared) {
        Ok(()) => None,
        Err(_) => fs::read_to_string(dir.join("worker.lock")).ok()?.trim().parse().ok(),
    }
}
