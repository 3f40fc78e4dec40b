//! Files that are on disk when they say so.

use crate::error::StoreError;
use camino::Utf8Path;
use fs_err as fs;
use std::io::ErrorKind;

/// Bytes that must find room for a place to count as writable.
pub(crate) const CHECK: usize = 64 * 1024;

/// Runs `work`, which waits for a disk, where waiting hinders nobody.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, StoreError> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StoreError::Stopped))
}

/// What an error about a file under `place` means for the user.
pub(crate) fn file_error(place: &Utf8Path, error: std::io::Error) -> StoreError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => disk_full(place),
        _ => StoreError::File(error),
    }
}

/// The error for a full disk.
pub(crate) fn disk_full(place: &Utf8Path) -> StoreError {
    let free = match rustix::fs::statvfs(place.as_str()) {
        Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize).to_string(),
        Err(_) => "an unknown number of".to_owned(),
    };
    StoreError::DiskFull { path: place.to_string(), free }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Utf8Path) -> std::io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

/// Makes a directory and its missing parents, durably.
pub(crate) fn make_dir(dir: &Utf8Path) -> std::io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_str().is_empty()) {
        make_dir(parent)?;
    }
    match fs::create_dir(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    match dir.parent() {
        Some(parent) if !parent.as_str().is_empty() => sync_dir(parent),
        _ => Ok(()),
    }
}
