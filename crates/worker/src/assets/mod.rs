//! Assets on a worker's host: fetched by their hash into a cache that all workers of the host share, held while a
//! machine uses them, and published when a job has made one.

mod cache;
mod door;
mod publish;

pub use cache::{Cache, Pinned, Source, Take};
pub use door::Door;
pub(crate) use publish::publish;

/// The cache of assets in the host's cache.
pub(crate) const DIR: &str = "assets";

use crate::exec::{Attempt, infrastructure, usage};
use assay_engine::assets::{Read, reads};
use assay_proto::api::assets::{AssetContent, JobAsset};
use assay_proto::worker::{Report, Room};
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use tokio::time::Instant;

/// The directory, or the first above it that is there: the cache comes into being with the first asset.
fn there(dir: &Utf8Path) -> Option<&Utf8Path> {
    dir.ancestors().find(|dir| dir.exists())
}

/// What is free on a directory's file system.
fn free(dir: &Utf8Path) -> Option<u64> {
    rustix::fs::statvfs(there(dir)?.as_std_path()).ok().map(|fs| fs.f_bavail * fs.f_frsize)
}

/// The file system that a directory is on.
fn device(dir: &Utf8Path) -> Option<u64> {
    fs_err::metadata(there(dir)?).ok().map(|metadata| metadata.dev())
}

/// The server counts cached assets as free: they go if a machine in `dir` may write so many bytes and there is no room.
pub(crate) async fn give_way(attempt: &Attempt, dir: &Utf8Path, bytes: u64) {
    let (cache, dir) = (attempt.host.cache.join(DIR), dir.to_owned());
    let work = move || match device(&cache) {
        on @ Some(_) if on == device(&dir) => {
            Cache::new(&cache, 0).give_way(|| free(&dir).is_none_or(|free| free >= bytes))
        }
        _ => Ok(()),
    };
    if let Err(error) = tokio::task::spawn_blocking(work).await.unwrap_or(Ok(())) {
        attempt.log(&format!("the cache of assets could not make room for the disks: {error}"));
    }
}

/// What the file systems of the pool and of the cache of assets can still take.
pub(crate) fn room(pool: &Utf8Path, cache: &Utf8Path) -> Option<Room> {
    Some(Room {
        pool: free(pool)?,
        cache: free(cache)?.saturating_add(Cache::new(cache, 0).bytes()),
        shared: device(pool)? == device(cache)?,
    })
}

/// Why an asset cannot be had or published.
#[derive(Debug, thiserror::Error)]
pub enum AssetError {
    /// There is none of that name.
    #[error(
        "{setting}={name}: the server has no asset {kind}/{name}, and the job's directory has no such file; publish it \
         with `assay asset upload`, or let this job start after the one that makes it"
    )]
    Missing {
        /// The setting.
        setting: String,
        /// The kind.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A setting asks for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// The server refuses.
    #[error("the server says: {0}")]
    Refused(String),
    /// The server cannot be reached.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// What came is something else.
    #[error(
        "{name} came damaged twice: its bytes have SHA-256 {found} and not {sha256}; check the disks of the server and \
         of this host, and the network between them"
    )]
    Damaged {
        /// The asset.
        name: String,
        /// What it should be.
        sha256: String,
        /// What it is.
        found: String,
    },
    /// The cache is too small.
    #[error("{name} needs {needed} bytes, and the host's cache of assets has {limit}; {help}")]
    NoRoom {
        /// The asset.
        name: String,
        /// Its size.
        needed: u64,
        /// The cache's limit.
        limit: u64,
        /// What to do.
        help: &'static str,
    },
    /// The host's disk.
    #[error("the cache of assets cannot be used: {source}; {help}")]
    Disk {
        /// What the system says.
        #[source]
        source: std::io::Error,
        /// What to do.
        help: &'static str,
    },
    /// The disk's image could not be written.
    #[error("the disk cannot be made ready for publication: {0}")]
    Image(String),
}

impl From<std::io::Error> for AssetError {
    fn from(source: std::io::Error) -> Self {
        let help = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                "the disk is full: make room there, or give the worker a smaller --asset-cache"
            }
            _ => "check that the directory is writable",
        };
        Self::Disk { source, help }
    }
}

impl AssetError {
    fn report(&self) -> Report {
        match self {
            Self::Missing { .. } | Self::Usage(_) => usage(self.to_string()),
            _ => infrastructure(self.to_string()),
        }
    }
}

/// The assets of an attempt, in place as long as this is held.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    /// Where each setting's file is.
    pub(crate) paths: BTreeMap<String, Utf8PathBuf>,
    /// For the record: setting, and name, version and hash.
    pub(crate) facts: Vec<(String, String)>,
    pins: Vec<Pinned>,
}

impl Fetched {
    /// The settings with paths in place of names.
    pub(crate) fn located(&self, settings: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut located = settings.clone();
        located.extend(self.paths.iter().map(|(setting, path)| (setting.clone(), path.to_string())));
        located
    }
}

/// Fetches what the attempt's settings name. Without a server names are files in the job's directory.
pub(crate) async fn fetch(attempt: &Attempt) -> Result<Fetched, Report> {
    let Some(door) = &attempt.assets else { return Ok(Fetched::default()) };
    let settings = attempt.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    if !reads(settings).iter().any(Read::is_fetched) {
        return Ok(Fetched::default());
    }
    fetch_from(attempt, door).await.map_err(|error| error.report())
}

async fn fetch_from(attempt: &Attempt, door: &Door) -> Result<Fetched, AssetError> {
    let cache = Cache::new(&attempt.host.cache.join(DIR), attempt.host.asset_limit);
    let mut fetched = Fetched::default();
    for JobAsset { setting, kind, name, version, .. } in door.pin().await? {
        let Some(content) = version else {
            if in_directory(attempt, name.as_str()) {
                continue;
            }
            return Err(AssetError::Missing { setting, kind: kind.word(), name: name.to_string() });
        };
        let AssetContent { id, sha256, size } = &content;
        let began = Instant::now();
        let pinned = cache.hold(name.as_str(), &content, door).await?;
        let how = if pinned.fetched { "fetched" } else { "in the cache" };
        attempt.log(&format!(
            "{setting}: asset {kind}/{name}, version {id}, {size} bytes, sha256 {sha256}: {how} after {:.1} s",
            began.elapsed().as_secs_f64()
        ));
        fetched.facts.push((setting.clone(), format!("{kind}/{name} (version {id}, sha256 {sha256})")));
        fetched.paths.insert(setting, pinned.path.clone());
        fetched.pins.push(pinned);
    }
    Ok(fetched)
}

/// True if the job brings the file along.
fn in_directory(attempt: &Attempt, name: &str) -> bool {
    let Some(dir) = attempt.settings.get("CASEDIR") else { return false };
    Utf8Path::new(dir).join(name).is_file()
}
