//! Content-addressed blobs: bytes that never change, named by their SHA-256.

use crate::disk;
use crate::error::StoreError;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use sha2::Digest;
use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncSeek};

/// A SHA-256 as 64 lower-case hex digits. Nothing else ever becomes a blob's file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for Sha256 {
    type Err = StoreError;
    fn from_str(text: &str) -> Result<Self, StoreError> {
        let bad = || StoreError::BadHash { text: text.chars().take(80).collect() };
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| bad())?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = StoreError;
    fn try_from(text: String) -> Result<Self, StoreError> {
        text.parse()
    }
}

impl From<Sha256> for String {
    fn from(sha: Sha256) -> Self {
        sha.to_string()
    }
}

/// A blob's name and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlobRef {
    /// Its name.
    pub sha256: Sha256,
    /// Its length, bytes.
    pub size: u64,
}

/// Reads a blob from any place.
pub trait BlobRead: AsyncRead + AsyncSeek + Send + Unpin {}
impl<T: AsyncRead + AsyncSeek + Send + Unpin> BlobRead for T {}

/// An open blob.
pub struct OpenBlob {
    /// Its length, bytes.
    pub size: u64,
    /// Its bytes.
    pub reader: Box<dyn BlobRead>,
}

/// Takes a blob's bytes as they come.
#[async_trait::async_trait]
pub trait BlobWriter: Send {
    /// Adds bytes.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError>;

    /// Checks the hash if one was announced and makes the blob durable. Without this call nothing is stored.
    async fn finish(self: Box<Self>) -> Result<BlobRef, StoreError>;
}

/// Where blobs are kept. Storing what is there already succeeds and changes nothing.
#[async_trait::async_trait]
pub trait Blobs: Send + Sync {
    /// Stores bytes; with `announced`, only if they have that hash.
    async fn put(&self, bytes: Vec<u8>, announced: Option<Sha256>) -> Result<BlobRef, StoreError>;

    /// Stores a copy of a file's bytes.
    async fn put_file(&self, file: &Utf8Path, announced: Option<Sha256>) -> Result<BlobRef, StoreError>;

    /// Stores bytes as they come.
    async fn writer(&self, announced: Option<Sha256>) -> Result<Box<dyn BlobWriter>, StoreError>;

    /// Its length, or `None` if there is no such blob.
    async fn size(&self, sha: Sha256) -> Result<Option<u64>, StoreError>;

    /// Opens a blob, or `None` if there is no such blob.
    async fn open(&self, sha: Sha256) -> Result<Option<OpenBlob>, StoreError>;

    /// All bytes of a blob, checked against its name; [`StoreError::Damaged`] if they have changed.
    async fn get_verified(&self, sha: Sha256) -> Result<Option<Vec<u8>>, StoreError>;

    /// It is wanted again: it was not idle until now. False if there is no such blob.
    async fn keep(&self, sha: Sha256) -> Result<bool, StoreError>;

    /// Removes a blob that has not been stored nor wanted again for so long; false if it stays or is not there.
    async fn remove_idle(&self, sha: Sha256, idle: Duration) -> Result<bool, StoreError>;

    /// An error if blobs cannot be stored now, found by beginning one that is not finished.
    async fn check_writable(&self) -> Result<(), StoreError>;
}

/// Blobs in a local directory: `DIR/blobs/ab/cdef…`, written to `DIR/blobs/tmp` first.
#[derive(Debug)]
pub struct LocalBlobs {
    dir: Utf8PathBuf,
    /// Makes names of temporary files unique within this process.
    next: AtomicU64,
}

impl LocalBlobs {
    /// Uses `data/blobs`, which is made if it is not there. What an earlier process left half written is removed;
    /// so at most one process may use a directory.
    pub fn open(data: &Utf8Path) -> Result<Self, StoreError> {
        let dir = data.join("blobs");
        let tmp = dir.join("tmp");
        let prepare = || -> std::io::Result<()> {
            disk::make_dir(&tmp)?;
            for entry in fs::read_dir(&tmp)? {
                fs::remove_file(entry?.path())?;
            }
            Ok(())
        };
        prepare().map_err(|error| disk::file_error(data, error))?;
        Ok(Self { dir, next: AtomicU64::new(0) })
    }

    pub(crate) fn path(&self, sha: Sha256) -> Utf8PathBuf {
        let name = sha.to_string();
        let (shelf, rest) = name.split_at(2);
        self.dir.join(shelf).join(rest)
    }

    /// Makes a blob of a file of the same disk without copying it; with `announced`, only if it has that hash. The file
    /// stays until its owner removes it, and must not change any more.
    pub(crate) async fn adopt(
        &self,
        file: &Utf8Path,
        announced: Option<Sha256>,
    ) -> Result<BlobRef, StoreError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (dir, file) = (self.dir.clone(), file.to_owned());
        let tmp = dir.join("tmp").join(number.to_string());
        disk::blocking(move || {
            fs::hard_link(&file, &tmp).map_err(|error| disk::file_error(&dir, error))?;
            let source = fs::File::open(&file).map_err(StoreError::File)?;
            let (source, hasher) = (Arc::new(source), sha2::Sha256::new());
            LocalWriter { dir, tmp: Some(tmp), file: source, hasher, size: 0, announced }.adopt_now()
        })
        .await
    }

    /// Removes a blob; one that is not there is no error.
    pub(crate) async fn remove(&self, sha: Sha256) -> Result<(), StoreError> {
        match fs::tokio::remove_file(self.path(sha)).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::File(error)),
            _ => Ok(()),
        }
    }

    fn start(&self, announced: Option<Sha256>) -> Result<LocalWriter, StoreError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let tmp = self.dir.join("tmp").join(number.to_string());
        let file = fs::File::create_new(&tmp).map_err(|error| disk::file_error(&self.dir, error))?;
        Ok(LocalWriter {
            dir: self.dir.clone(),
            tmp: Some(tmp),
            file: Arc::new(file),
            hasher: sha2::Sha256::new(),
            size: 0,
            announced,
        })
    }
}

/// A blob on its way into a local directory. Dropped before it is finished, it leaves nothing.
struct LocalWriter {
    dir: Utf8PathBuf,
    /// Until it has its final name.
    tmp: Option<Utf8PathBuf>,
    file: Arc<fs::File>,
    hasher: sha2::Sha256,
    size: u64,
    announced: Option<Sha256>,
}

impl Drop for LocalWriter {
    fn drop(&mut self) {
        if let Some(tmp) = &self.tmp {
            let _ = fs::remove_file(tmp); // else the next start removes it
        }
    }
}

impl LocalWriter {
    fn write_now(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        (&*self.file).write_all(bytes).map_err(|error| disk::file_error(&self.dir, error))?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Checks, makes the bytes durable, gives them their name, and makes that durable.
    fn finish_now(mut self) -> Result<BlobRef, StoreError> {
        let sha256 = Sha256(std::mem::take(&mut self.hasher).finalize().into());
        if let Some(announced) = self.announced.filter(|announced| *announced != sha256) {
            return Err(StoreError::HashMismatch {
                announced: announced.to_string(),
                found: sha256.to_string(),
            });
        }
        let name = sha256.to_string();
        let (shelf, rest) = name.split_at(2);
        let shelf = self.dir.join(shelf);
        let path = shelf.join(rest);
        let blob = BlobRef { sha256, size: self.size };
        let place = |this: &mut Self| -> std::io::Result<()> {
            if fs::metadata(&path).is_ok_and(|there| there.len() == blob.size) {
                touch(&path)?;
                // It may have been renamed by a process that died before the next line.
                return disk::sync_dir(&shelf);
            }
            this.file.sync_all()?;
            disk::make_dir(&shelf)?;
            if let Some(tmp) = this.tmp.take() {
                fs::rename(&tmp, &path).inspect_err(|_| this.tmp = Some(tmp.clone()))?;
            }
            disk::sync_dir(&shelf)
        };
        place(&mut self).map_err(|error| disk::file_error(&self.dir, error))?;
        Ok(blob)
    }

    /// Takes the file that it has as it is.
    fn adopt_now(mut self) -> Result<BlobRef, StoreError> {
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match (&*self.file).read(&mut buffer).map_err(StoreError::File)? {
                0 => return self.finish_now(),
                count => {
                    self.hasher.update(&buffer[..count]);
                    self.size += count as u64;
                }
            }
        }
    }

    /// Takes all of `file`.
    fn copy_from(mut self, file: &Utf8Path) -> Result<BlobRef, StoreError> {
        let mut source = fs::File::open(file).map_err(StoreError::File)?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match source.read(&mut buffer).map_err(StoreError::File)? {
                0 => return self.finish_now(),
                count => self.write_now(&buffer[..count])?,
            }
        }
    }
}

/// Makes it as young as if it were stored now.
fn touch(path: &Utf8Path) -> std::io::Result<()> {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    Ok(rustix::fs::utimensat(rustix::fs::CWD, path.as_str(), &times, rustix::fs::AtFlags::empty())?)
}

#[async_trait::async_trait]
impl BlobWriter for LocalWriter {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        // Into the page cache, which does not wait for the disk; `finish` does.
        self.write_now(bytes)
    }

    async fn finish(self: Box<Self>) -> Result<BlobRef, StoreError> {
        disk::blocking(move || self.finish_now()).await
    }
}

#[async_trait::async_trait]
impl Blobs for LocalBlobs {
    async fn put(&self, bytes: Vec<u8>, announced: Option<Sha256>) -> Result<BlobRef, StoreError> {
        let mut writer = self.start(announced)?;
        disk::blocking(move || {
            writer.write_now(&bytes)?;
            writer.finish_now()
        })
        .await
    }

    async fn put_file(&self, file: &Utf8Path, announced: Option<Sha256>) -> Result<BlobRef, StoreError> {
        let writer = self.start(announced)?;
        let file = file.to_owned();
        disk::blocking(move || writer.copy_from(&file)).await
    }

    async fn writer(&self, announced: Option<Sha256>) -> Result<Box<dyn BlobWriter>, StoreError> {
        Ok(Box::new(self.start(announced)?))
    }

    async fn size(&self, sha: Sha256) -> Result<Option<u64>, StoreError> {
        match fs::tokio::metadata(self.path(sha)).await {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) => absent(error),
        }
    }

    async fn open(&self, sha: Sha256) -> Result<Option<OpenBlob>, StoreError> {
        let open = async {
            let file = fs::tokio::File::open(self.path(sha)).await?;
            let size = file.metadata().await?.len();
            Ok(OpenBlob { size, reader: Box::new(file) })
        };
        open.await.map_or_else(absent, |blob| Ok(Some(blob)))
    }

    async fn keep(&self, sha: Sha256) -> Result<bool, StoreError> {
        let path = self.path(sha);
        disk::blocking(move || match touch(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::File(error)),
        })
        .await
    }

    async fn remove_idle(&self, sha: Sha256, idle: Duration) -> Result<bool, StoreError> {
        let path = self.path(sha);
        disk::blocking(move || {
            let remove = || -> std::io::Result<bool> {
                let since = fs::metadata(&path)?.modified()?.elapsed().unwrap_or_default();
                if since >= idle {
                    fs::remove_file(&path)?;
                }
                Ok(since >= idle)
            };
            match remove() {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
                removed => removed.map_err(StoreError::File),
            }
        })
        .await
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        self.start(None)?.write_now(&vec![0; disk::CHECK])
    }

    async fn get_verified(&self, sha: Sha256) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(sha);
        let bytes = match fs::tokio::read(&path).await {
            Ok(bytes) => bytes,
            Err(error) => return absent(error),
        };
        match Sha256::of(&bytes) {
            found if found == sha => Ok(Some(bytes)),
            found => Err(StoreError::Damaged { path, found: found.to_string() }),
        }
    }
}

/// `None` for what is not there, an error for everything else.
fn absent<T>(error: std::io::Error) -> Result<Option<T>, StoreError> {
    match error.kind() {
        std::io::ErrorKind::NotFound => Ok(None),
        _ => Err(StoreError::File(error)),
    }
}
