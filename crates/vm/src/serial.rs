//! The serial port: what the guest wrote as an append-only log, and bytes to the guest.

use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

/// Bytes of the end of the log that are kept in memory.
const TAIL: usize = 1 << 20;

/// A part of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialChunk {
    /// Place of the first byte; later than asked for where bytes are no longer kept.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What the guest wrote to its serial port. Clones share the log.
///
/// The beginning goes to a file up to a limit; the last mebibyte is always at hand. A guest that floods
/// the port loses the middle of its log, and nothing else.
#[derive(Clone, Debug)]
pub struct SerialLog {
    shared: Arc<Shared>,
    length: watch::Receiver<u64>,
}

#[derive(Debug)]
struct Shared {
    path: Utf8PathBuf,
    log: Mutex<Log>,
}

#[derive(Debug)]
struct Log {
    file: File,
    limit: u64,
    /// Bytes of the guest in the file; all of the first ones.
    on_disk: u64,
    /// Bytes ever received.
    total: u64,
    tail: VecDeque<u8>,
    /// Why the file does not grow any more.
    closed: Option<String>,
}

impl SerialLog {
    /// Creates the file; `limit` is the most that is written to it, in bytes.
    pub(crate) fn create(path: &Utf8Path, limit: u64) -> std::io::Result<(Self, SerialWriter)> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        let log = Log { file, limit, on_disk: 0, total: 0, tail: VecDeque::new(), closed: None };
        let shared = Arc::new(Shared { path: path.to_owned(), log: Mutex::new(log) });
        let (length_tx, length) = watch::channel(0);
        Ok((Self { shared: Arc::clone(&shared), length }, SerialWriter { shared, length: length_tx }))
    }

    /// Bytes received so far, and notice of more. It closes when the machine has ended.
    pub fn length(&self) -> watch::Receiver<u64> {
        self.length.clone()
    }

    /// The file with the beginning of the log.
    pub fn path(&self) -> &Utf8Path {
        &self.shared.path
    }

    /// Why the file lacks the end of the log, if it does.
    pub fn cut_off(&self) -> Option<String> {
        self.shared.lock().closed.clone()
    }

    /// Up to `max` bytes from `offset` on. Nothing if `offset` is the end of the log.
    pub fn read_from(&self, offset: u64, max: usize) -> std::io::Result<SerialChunk> {
        let log = self.shared.lock();
        let tail_start = log.total - log.tail.len() as u64;
        if offset < tail_start && offset < log.on_disk {
            let mut bytes = vec![0; max.min((log.on_disk - offset) as usize)];
            log.file.file().read_exact_at(&mut bytes, offset)?;
            return Ok(SerialChunk { offset, bytes });
        }
        let offset = offset.clamp(tail_start, log.total);
        let bytes = log.tail.iter().skip((offset - tail_start) as usize).take(max).copied().collect();
        Ok(SerialChunk { offset, bytes })
    }
}

impl Shared {
    /// The log stays whole whatever a holder of the lock did.
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of the log that grows.
pub(crate) struct SerialWriter {
    shared: Arc<Shared>,
    length: watch::Sender<u64>,
}

impl SerialWriter {
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        let mut log = self.shared.lock();
        log.total += bytes.len() as u64;
        let total = log.total;
        log.keep(bytes);
        let bytes = &bytes[bytes.len().saturating_sub(TAIL)..];
        let surplus = (log.tail.len() + bytes.len()).saturating_sub(TAIL);
        log.tail.drain(..surplus);
        log.tail.extend(bytes);
        drop(log);
        self.length.send_replace(total);
    }
}

impl Log {
    /// Writes what still fits to the file.
    fn keep(&mut self, bytes: &[u8]) {
        if self.closed.is_some() {
            return;
        }
        let room = usize::try_from(self.limit - self.on_disk).unwrap_or(usize::MAX);
        let now = &bytes[..bytes.len().min(room)];
        let written = self.file.write_all(now);
        match written {
            Ok(()) => self.on_disk += now.len() as u64,
            Err(e) => self.close(format!("the serial log could not be written: {e}")),
        }
        if now.len() < bytes.len() {
            self.close(format!("the guest wrote more than {} bytes; the rest is not kept here", self.limit));
        }
    }

    fn close(&mut self, why: String) {
        tracing::warn!("{why}");
        // If even this line does not fit, `cut_off` still says it.
        let _ = writeln!(self.file, "\n[assay: {why}]");
        self.closed = Some(why);
    }
}

/// Reads from the port into the log and writes what is queued, until the machine ends.
pub(crate) async fn serve(stream: UnixStream, mut log: SerialWriter, mut input: mpsc::Receiver<Vec<u8>>) {
    let (mut reader, mut writer) = stream.into_split();
    let mut buffer = vec![0; 64 * 1024];
    let mut output: Vec<u8> = Vec::new();
    let mut open = true;
    loop {
        tokio::select! {
            read = reader.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(n) => log.append(&buffer[..n]),
            },
            written = writer.write(&output), if !output.is_empty() => match written {
                Ok(n) => { output.drain(..n); }
                Err(_) => return,
            },
            more = input.recv(), if open && output.is_empty() => match more {
                Some(bytes) => output = bytes,
                None => open = false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(limit: u64) -> (tempfile::TempDir, SerialLog, SerialWriter) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().join("serial0.txt")).unwrap();
        let (log, writer) = SerialLog::create(&path, limit).unwrap();
        (dir, log, writer)
    }

    #[test]
    fn reads_from_memory_and_from_disk() {
        let (_dir, log, mut writer) = log(64 << 20);
        assert_eq!(log.read_from(0, 10).unwrap(), SerialChunk { offset: 0, bytes: vec![] });
        let written: Vec<u8> = (0..3 * TAIL as u32).map(|i| (i % 251) as u8).collect();
        for part in written.chunks(70_001) {
            writer.append(part);
        }
        assert_eq!(*log.length().borrow(), written.len() as u64);
        for offset in [0, 5, TAIL, 2 * TAIL - 3, 2 * TAIL, written.len() - 1] {
            let chunk = log.read_from(offset as u64, 100).unwrap();
            let end = (offset + chunk.bytes.len()).min(written.len());
            assert!(!chunk.bytes.is_empty());
            assert_eq!((chunk.offset, &chunk.bytes[..]), (offset as u64, &written[offset..end]));
        }
    }

    #[test]
    fn a_flood_costs_the_middle_only() {
        let (_dir, log, mut writer) = log(1000);
        writer.append(&[b'a'; 900]);
        writer.append(&vec![b'b'; 2 * TAIL]);
        writer.append(b"end");
        assert_eq!(log.read_from(0, 2000).unwrap().bytes.len(), 1000);
        let total = *log.length().borrow();
        let chunk = log.read_from(1000, usize::MAX).unwrap();
        assert_eq!((chunk.offset, chunk.bytes.len()), (total - TAIL as u64, TAIL));
        assert!(chunk.bytes.ends_with(b"bend"));
        assert!(log.cut_off().unwrap().contains("more than 1000 bytes"));
        let file = fs_err::read_to_string(log.path()).unwrap();
        assert_eq!(file.matches("[assay: the guest wrote more than").count(), 1);
    }
}
