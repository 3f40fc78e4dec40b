//! What still grows: the streams of running attempts, on disk before they are acknowledged.

use crate::blobs::Blobs;
use crate::disk;
use crate::error::StoreError;
use crate::types::Streams;
use assay_engine::ids::AttemptId;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes for a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Whose.
    pub attempt: AttemptId,
    /// Which: a plain file name, for example `steps.jsonl`.
    pub stream: String,
    /// Where the bytes begin.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Growing streams in a local directory: `DIR/spool/JOB.NUMBER/STREAM`.
///
/// A crash leaves a stream as long as what reached the disk, which is at least what was acknowledged; the sender goes
/// on from [`Spool::len`], and sends again what overlaps. File systems make a file's new length durable after the bytes
/// it covers (ext4 with ordered data, XFS, btrfs), so what is there is what was sent.
pub struct Spool {
    dir: Utf8PathBuf,
    blobs: Arc<dyn Blobs>,
    /// One per attempt in use: appends to one attempt come one after the other.
    locks: Mutex<BTreeMap<AttemptId, Arc<Mutex<()>>>>,
}

impl Spool {
    /// Uses `data/spool`, which is made if it is not there; closed streams go to `blobs`.
    pub fn open(data: &Utf8Path, blobs: Arc<dyn Blobs>) -> Result<Self, StoreError> {
        let dir = data.join("spool");
        disk::make_dir(&dir).map_err(|error| disk::file_error(data, error))?;
        Ok(Self { dir, blobs, locks: Mutex::default() })
    }

    /// Appends, and returns when everything is on disk: for each append, in order, the stream's length after it, or
    /// why it was refused. Bytes that are there already are skipped; bytes that would leave a hole are refused with
    /// [`StoreError::Gap`], which says where to go on. Costs one sync per stream, however many appends it gets.
    pub async fn append(&self, batch: Vec<Append>) -> Vec<Result<u64, StoreError>> {
        let mut results: Vec<_> = batch.iter().map(|_| Err(StoreError::Stopped)).collect();
        let mut by_stream: BTreeMap<Utf8PathBuf, Vec<(usize, Append)>> = BTreeMap::new();
        for (index, append) in batch.into_iter().enumerate() {
            match self.path(append.attempt, &append.stream) {
                Ok(path) => by_stream.entry(path).or_default().push((index, append)),
                Err(error) => results[index] = Err(error),
            }
        }
        let mut work = Vec::new();
        for (path, appends) in by_stream {
            let lock = appends.first().map(|(_, append)| self.lock(append.attempt));
            work.push((lock, path, appends));
        }
        let dir = self.dir.clone();
        let done = disk::blocking(move || {
            let mut done = Vec::new();
            for (lock, path, appends) in work {
                let _held = lock.as_ref().map(|lock| lock.lock().unwrap_or_else(PoisonError::into_inner));
                let places: Vec<usize> = appends.iter().map(|(index, _)| *index).collect();
                match append_to(&path, appends) {
                    Ok(appended) => done.extend(appended),
                    Err(error) => done.extend(places.into_iter().map(|index| {
                        let error = std::io::Error::new(error.kind(), error.to_string());
                        (index, Err(disk::file_error(&dir, error)))
                    })),
                }
            }
            Ok(done)
        })
        .await;
        for (index, result) in done.unwrap_or_default() {
            results[index] = result;
        }
        results
    }

    /// How long a stream is, bytes; 0 if nothing has come.
    pub async fn len(&self, attempt: AttemptId, stream: &str) -> Result<u64, StoreError> {
        match fs::tokio::metadata(self.path(attempt, stream)?).await {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => Err(StoreError::File(error)),
        }
    }

    /// The streams of an attempt that have come, with their lengths.
    pub async fn lens(&self, attempt: AttemptId) -> Result<BTreeMap<String, u64>, StoreError> {
        let dir = self.dir.join(attempt.to_string());
        disk::blocking(move || streams_in(&dir).map_err(StoreError::File)).await
    }

    /// As [`Spool::lens`], and everything that these lengths cover is on disk when it returns: what an earlier process
    /// wrote, or an append that is under way has written, may have been in memory only.
    pub async fn settle(&self, attempt: AttemptId) -> Result<BTreeMap<String, u64>, StoreError> {
        let lock = self.lock(attempt);
        let dir = self.dir.join(attempt.to_string());
        let place = self.dir.clone();
        disk::blocking(move || {
            let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
            let settled = || -> std::io::Result<BTreeMap<String, u64>> {
                let streams = streams_in(&dir)?;
                for stream in streams.keys() {
                    fs::File::open(dir.join(stream))?.sync_all()?;
                }
                if !streams.is_empty() {
                    disk::sync_dir(&dir)?;
                }
                Ok(streams)
            };
            settled().map_err(|error| disk::file_error(&place, error))
        })
        .await
    }

    /// An error if streams cannot grow now, found by writing a file that is removed again.
    pub async fn check_writable(&self) -> Result<(), StoreError> {
        let dir = self.dir.clone();
        disk::blocking(move || {
            let file = dir.join(".check");
            let write = || -> std::io::Result<()> {
                fs::write(&file, vec![0; disk::CHECK])?;
                fs::remove_file(&file)
            };
            write().map_err(|error| {
                let _ = fs::remove_file(&file); // a full disk leaves an empty file
                disk::file_error(&dir, error)
            })
        })
        .await
    }

    /// Up to `max` bytes of a stream from `from` on; none if it is not that long yet.
    pub async fn read(
        &self,
        attempt: AttemptId,
        stream: &str,
        from: u64,
        max: usize,
    ) -> Result<Vec<u8>, StoreError> {
        let path = self.path(attempt, stream)?;
        let read = move || -> std::io::Result<Vec<u8>> {
            let mut file = fs::File::open(&path)?;
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.take(max as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        disk::blocking(move || match read() {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            other => other.map_err(StoreError::File),
        })
        .await
    }

    /// Makes blobs of all streams of an attempt. The streams stay until [`Spool::remove`], which comes when the
    /// attempt's row names the blobs; after a crash in between, closing again gives the same blobs.
    pub async fn close(&self, attempt: AttemptId) -> Result<Streams, StoreError> {
        let mut closed = Streams::new();
        for stream in self.lens(attempt).await?.into_keys() {
            let blob = self.blobs.put_file(&self.path(attempt, &stream)?, None).await?;
            closed.insert(stream, blob);
        }
        Ok(closed)
    }

    /// Forgets an attempt's streams.
    pub async fn remove(&self, attempt: AttemptId) -> Result<(), StoreError> {
        let lock = self.lock(attempt);
        let dir = self.dir.join(attempt.to_string());
        let removed = disk::blocking(move || {
            let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
            match fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::File(error)),
                _ => Ok(()),
            }
        })
        .await;
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).remove(&attempt);
        removed
    }

    /// The attempts that have streams here.
    pub async fn attempts(&self) -> Result<Vec<AttemptId>, StoreError> {
        let dir = self.dir.clone();
        disk::blocking(move || {
            let mut attempts = Vec::new();
            for entry in fs::read_dir(&dir).map_err(StoreError::File)? {
                let name = entry.map_err(StoreError::File)?.file_name();
                attempts.extend(name.to_str().and_then(|name| name.parse::<AttemptId>().ok()));
            }
            attempts.sort();
            Ok(attempts)
        })
        .await
    }

    fn path(&self, attempt: AttemptId, stream: &str) -> Result<Utf8PathBuf, StoreError> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if stream.is_empty() || stream.len() > 64 || stream.starts_with('.') || !stream.bytes().all(fits) {
            return Err(StoreError::BadStream { stream: stream.chars().take(80).collect() });
        }
        Ok(self.dir.join(attempt.to_string()).join(stream))
    }

    fn lock(&self, attempt: AttemptId) -> Arc<Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(locks.entry(attempt).or_default())
    }
}

/// Appends to one stream and syncs it once. An `Err` of the whole means that nothing of it counts.
fn append_to(path: &Utf8Path, appends: Vec<(usize, Append)>) -> std::io::Result<Vec<Appended>> {
    let (file, before) = open_stream(path)?;
    let written = write_all(&file, before, appends);
    if written.is_err() {
        // What did not reach the disk must not look as if it had.
        let _ = file.set_len(before);
    }
    written
}

/// An append's place in its batch, and what came of it.
type Appended = (usize, Result<u64, StoreError>);

fn write_all(file: &fs::File, before: u64, appends: Vec<(usize, Append)>) -> std::io::Result<Vec<Appended>> {
    let mut len = before;
    let mut done = Vec::new();
    for (index, Append { attempt, stream, offset, bytes }) in appends {
        if offset > len {
            done.push((index, Err(StoreError::Gap { attempt, stream, have: len, offset })));
            continue;
        }
        let there = usize::try_from(len - offset).unwrap_or(usize::MAX).min(bytes.len());
        let mut file = file;
        file.write_all(&bytes[there..])?;
        len += (bytes.len() - there) as u64;
        done.push((index, Ok(len)));
    }
    if len > before {
        file.sync_data()?;
    }
    Ok(done)
}

/// Opens a stream for appending, and says how long it is.
fn open_stream(path: &Utf8Path) -> std::io::Result<(fs::File, u64)> {
    let mut options = fs::OpenOptions::new();
    options.append(true);
    match options.open(path) {
        Ok(file) => {
            let len = file.metadata()?.len();
            Ok((file, len))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let dir = path.parent().unwrap_or(path);
            disk::make_dir(dir)?;
            let file = options.create(true).open(path)?;
            disk::sync_dir(dir)?;
            Ok((file, 0))
        }
        Err(error) => Err(error),
    }
}

/// The streams in an attempt's directory with their lengths; none if there is no directory.
fn streams_in(dir: &Utf8Path) -> std::io::Result<BTreeMap<String, u64>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries?,
    };
    let mut streams = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            streams.insert(name, entry.metadata()?.len());
        }
    }
    Ok(streams)
}
