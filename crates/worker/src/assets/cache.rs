//! The host's cache of assets: files by their hash, each fetched once however many ask for it.
//!
//! ```text
//! DIR/files/<sha256>   whole and verified; a shared lock on it says that somebody uses it
//! DIR/parts/<sha256>   on its way; the exclusive lock on it says that somebody fetches it
//! ```
//!
//! Locks are the kernel's: they end with whoever holds them. A file that nobody uses may be removed to make room, the
//! one first that was used least recently.

use super::AssetError;
use assay_proto::api::assets::AssetContent;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use rustix::fs::{FallocateFlags, FlockOperation, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use sha2::{Digest, Sha256};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

/// How often to look whether another worker has fetched what this one wants.
const LOOK: Duration = Duration::from_millis(100);
/// A fetch that brings nothing so many times in a row has failed.
const TRIES: u32 = 8;
/// The pause after the first of them; doubled for each.
const PAUSE: Duration = Duration::from_millis(200);

/// Takes bytes piece by piece.
pub type Take<'a> = dyn FnMut(&[u8]) -> Result<(), AssetError> + Send + 'a;

/// Where bytes come from.
#[async_trait::async_trait]
pub trait Source: Sync {
    /// The bytes of a hash from `offset` on; `each` takes them piece by piece until they end or break off.
    async fn read(&self, sha256: &str, offset: u64, each: &mut Take<'_>) -> Result<(), AssetError>;
}

/// The cache.
#[derive(Debug, Clone)]
pub struct Cache {
    files: Utf8PathBuf,
    parts: Utf8PathBuf,
    limit: u64,
    /// [`LOOK`] and [`PAUSE`].
    look: Duration,
    pause: Duration,
}

/// A file of the cache that stays as long as this is held.
#[derive(Debug)]
pub struct Pinned {
    /// Where it is; not to be written to.
    pub path: Utf8PathBuf,
    /// It was not there before.
    pub fetched: bool,
    _lock: std::fs::File,
}

impl Cache {
    /// The cache in `dir`, of `limit` bytes; others may use it too.
    pub fn new(dir: &Utf8Path, limit: u64) -> Self {
        Self { files: dir.join("files"), parts: dir.join("parts"), limit, look: LOOK, pause: PAUSE }
    }

    /// The bytes that it has; what cannot be read counts for nothing.
    pub fn bytes(&self) -> u64 {
        let of = |dir| Used::gather(dir).unwrap_or_default();
        of(&self.files).iter().chain(&of(&self.parts)).map(|used| used.bytes).sum()
    }

    /// Removes what nobody uses, what was used least recently first, until `enough` says that there is room, or nothing
    /// is left.
    pub fn give_way(&self, enough: impl Fn() -> bool) -> std::io::Result<()> {
        if enough() || !self.files.exists() {
            return Ok(());
        }
        let _all = self.turn()?;
        let mut used = Used::gather(&self.files)?;
        used.sort_by_key(|used| used.at);
        for victim in used {
            if enough() {
                break;
            }
            victim.remove()?;
        }
        Ok(())
    }

    /// One at a time; nobody holds it for longer than it takes to remove some files.
    fn turn(&self) -> std::io::Result<fs::File> {
        let path = self.files.with_file_name("lock");
        let all = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        rustix::fs::flock(all.file(), FlockOperation::LockExclusive)?;
        Ok(all)
    }

    /// The file with these bytes, fetched if it is not there. May be dropped and asked again at any time: what has come
    /// stays.
    pub async fn hold(
        &self,
        name: &str,
        content: &AssetContent,
        source: &impl Source,
    ) -> Result<Pinned, AssetError> {
        fs::create_dir_all(&self.files)?;
        fs::create_dir_all(&self.parts)?;
        loop {
            if let Some(lock) = self.pin(content)? {
                let path = self.files.join(&content.sha256);
                return Ok(Pinned { path, fetched: false, _lock: lock });
            }
            if let Some(part) = self.claim(content)? {
                // Whoever had it before may have finished it.
                if let Some(lock) = self.pin(content)? {
                    let path = self.files.join(&content.sha256);
                    return Ok(Pinned { path, fetched: false, _lock: lock });
                }
                return self.fetch(name, content, source, part).await;
            }
            tokio::time::sleep(self.look).await;
        }
    }

    /// Locks the file against removal, if it is there.
    fn pin(&self, content: &AssetContent) -> Result<Option<std::fs::File>, AssetError> {
        let path = self.files.join(&content.sha256);
        let Some(file) = opened(&path)? else { return Ok(None) };
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_err() {
            return Ok(None);
        }
        // Between the two it may have been removed; then the lock is on nothing.
        if !is_at(&file, &path) || file.metadata()?.len() != content.size {
            return Ok(None);
        }
        touch(&file)?;
        Ok(Some(file))
    }

    /// Takes the part for fetching, unless somebody else has it.
    fn claim(&self, content: &AssetContent) -> Result<Option<std::fs::File>, AssetError> {
        let path = self.parts.join(&content.sha256);
        let mut options = fs::OpenOptions::new();
        let file = options.create(true).truncate(false).read(true).write(true).open(&path)?.into_parts().0;
        let mine = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        Ok((mine && is_at(&file, &path)).then_some(file))
    }

    async fn fetch(
        &self,
        name: &str,
        content: &AssetContent,
        source: &impl Source,
        mut part: std::fs::File,
    ) -> Result<Pinned, AssetError> {
        if part.metadata()?.len() > content.size {
            part.set_len(0)?;
        }
        self.make_room(name, content, &part)?;
        let mut damaged = false;
        loop {
            let found = complete(name, content, source, &mut part, self.pause).await?;
            if found == content.sha256 {
                break;
            }
            part.set_len(0)?;
            if damaged {
                return Err(AssetError::Damaged {
                    name: name.to_owned(),
                    sha256: content.sha256.clone(),
                    found,
                });
            }
            damaged = true;
        }
        let from = self.parts.join(&content.sha256);
        let path = self.files.join(&content.sha256);
        let to = path.clone();
        let lock = tokio::task::spawn_blocking(move || -> std::io::Result<_> {
            part.set_permissions(PermissionsExt::from_mode(0o444))?;
            part.sync_all()?;
            fs::rename(&from, &to)?;
            // From fetching to using, with the same lock: nobody comes between.
            rustix::fs::flock(&part, FlockOperation::LockShared)?;
            Ok(part)
        });
        let lock = lock.await.map_err(std::io::Error::other)??;
        Ok(Pinned { path, fetched: true, _lock: lock })
    }

    /// Removes what nobody uses until the bytes that are still to come have room, and takes that room.
    fn make_room(&self, name: &str, content: &AssetContent, part: &std::fs::File) -> Result<(), AssetError> {
        let no_room = |help| AssetError::NoRoom {
            name: name.to_owned(),
            needed: content.size,
            limit: self.limit,
            help,
        };
        if content.size > self.limit {
            return Err(no_room("start the worker with a larger --asset-cache"));
        }
        let _all = self.turn()?;
        let mut used = Used::gather(&self.files)?;
        let own = part.metadata()?.ino();
        used.extend(Used::gather(&self.parts)?.into_iter().filter(|used| used.inode != own));
        let mut total: u64 = used.iter().map(|used| used.bytes).sum::<u64>() + content.size;
        used.sort_by_key(|used| used.at);
        let mut victims = used.into_iter();
        while total > self.limit {
            let Some(victim) = victims.next() else {
                return Err(no_room(
                    "others that are in use fill it: start the worker with a larger --asset-cache",
                ));
            };
            if victim.remove()? {
                total -= victim.bytes;
            }
        }
        // Whatever else grows on this disk, this room is taken; where the file system cannot do that, nothing is lost.
        loop {
            match rustix::fs::fallocate(part, FallocateFlags::KEEP_SIZE, 0, content.size.max(1)) {
                Err(rustix::io::Errno::NOSPC) => {}
                _ => return Ok(()),
            }
            let Some(victim) = victims.next() else {
                return Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into());
            };
            victim.remove()?;
        }
    }
}

/// A file of the cache that may have to go.
struct Used {
    path: Utf8PathBuf,
    bytes: u64,
    inode: u64,
    /// When it was last used.
    at: (i64, i64),
}

impl Used {
    fn gather(dir: &Utf8Path) -> std::io::Result<Vec<Self>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let Ok(metadata) = entry.metadata() else { continue };
            let Ok(path) = Utf8PathBuf::from_path_buf(entry.path()) else { continue };
            // What is reserved counts, too.
            let bytes = metadata.len().max(metadata.blocks() * 512);
            let at = (metadata.mtime(), metadata.mtime_nsec());
            found.push(Self { path, bytes, inode: metadata.ino(), at });
        }
        Ok(found)
    }

    /// Removes it unless somebody uses it.
    fn remove(&self) -> std::io::Result<bool> {
        let Some(file) = opened(&self.path)? else { return Ok(true) };
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(false);
        }
        if is_at(&file, &self.path) {
            fs::remove_file(&self.path)?;
        }
        Ok(true)
    }
}

fn opened(path: &Utf8Path) -> std::io::Result<Option<std::fs::File>> {
    match fs::File::open(path) {
        Ok(file) => Ok(Some(file.into_parts().0)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// True if the path still leads to the file.
fn is_at(file: &std::fs::File, path: &Utf8Path) -> bool {
    let there = fs::metadata(path).map(|metadata| metadata.ino());
    there.ok().zip(file.metadata().ok()).is_some_and(|(there, mine)| there == mine.ino())
}

/// The time of its last change is that of its last use.
fn touch(file: &std::fs::File) -> std::io::Result<()> {
    let time = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    let times = Timestamps { last_access: time(UTIME_OMIT), last_modification: time(UTIME_NOW) };
    Ok(rustix::fs::futimens(file, &times)?)
}

/// Fetches what is missing, and returns the hash of the whole.
async fn complete(
    name: &str,
    content: &AssetContent,
    source: &impl Source,
    part: &mut std::fs::File,
    pause: Duration,
) -> Result<String, AssetError> {
    let copy = part.try_clone()?;
    let hashed = tokio::task::spawn_blocking(move || hash_of(copy)).await.map_err(std::io::Error::other)?;
    let (mut hash, mut have) = hashed?;
    part.seek(SeekFrom::Start(have))?;
    let mut failures = 0;
    while have < content.size {
        let before = have;
        let mut take = |bytes: &[u8]| {
            if have + bytes.len() as u64 > content.size {
                return Err(AssetError::Refused(format!("{name} has more bytes than {}", content.size)));
            }
            part.write_all(bytes)?;
            hash.update(bytes);
            have += bytes.len() as u64;
            Ok(())
        };
        let read = source.read(&content.sha256, before, &mut take).await;
        match read {
            Err(error @ (AssetError::Refused(_) | AssetError::Disk { .. })) => return Err(error),
            _ if have == content.size => break,
            broken => {
                failures = if have > before { 1 } else { failures + 1 };
                if failures >= TRIES {
                    let short = AssetError::Unreachable(format!("{name} breaks off after {have} bytes"));
                    return Err(broken.err().unwrap_or(short));
                }
                tokio::time::sleep(pause * 2_u32.pow(failures - 1)).await;
            }
        }
    }
    Ok(hex::encode(hash.finalize()))
}

fn hash_of(mut file: std::fs::File) -> std::io::Result<(Sha256, u64)> {
    file.seek(SeekFrom::Start(0))?;
    let (mut hash, mut length) = (Sha256::new(), 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hash, length)),
            count => {
                hash.update(&buffer[..count]);
                length += count as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests;
