//! The folder of one attempt. Everything an attempt produces is written here first; the uploader (or the user of
//! `assay run`) takes it from here, so that a server that is away costs nothing.
//!
//! ```text
//! DIR/steps.jsonl  autoinst-log.txt  serial0.txt  journal.jsonl  blobs/<sha256>
//! ```

use assay_proto::worker::{Stream, WorkPhase};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

/// What the uploader has to carry: how far each stream has grown and which blobs came before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grown {
    /// Length of each stream in bytes.
    pub streams: BTreeMap<Stream, u64>,
    /// Number of blobs put so far.
    pub blobs: usize,
    /// How far the attempt has come.
    pub phase: Option<WorkPhase>,
}

/// Writes an attempt's streams and blobs. Cheap to clone; all clones write to one folder.
#[derive(Clone)]
pub struct AttemptDir {
    inner: Arc<Inner>,
}

struct Inner {
    dir: Utf8PathBuf,
    state: Mutex<State>,
    grown: watch::Sender<Grown>,
    log_to_stderr: bool,
}

#[derive(Default)]
struct State {
    files: BTreeMap<Stream, fs::File>,
    known: BTreeSet<String>,
    order: Vec<String>,
    failure: Option<String>,
}

impl AttemptDir {
    /// Makes the folder and its empty streams; an earlier attempt's files in it are removed.
    ///
    /// `log_to_stderr`: `assay run --verbose` shows the log as it grows.
    pub fn create(dir: &Utf8Path, log_to_stderr: bool) -> std::io::Result<Self> {
        fs::create_dir_all(dir.join("blobs"))?;
        let mut state = State::default();
        for stream in Stream::ALL {
            state.files.insert(stream, fs::File::create(dir.join(stream.file_name()))?);
        }
        let grown = watch::Sender::new(Grown::default());
        let inner = Inner { dir: dir.to_owned(), state: Mutex::new(state), grown, log_to_stderr };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Keeps nothing, because the folder cannot be made: the attempt still ends in order, with this as its reason.
    pub fn unusable(dir: &Utf8Path, error: &std::io::Error) -> Self {
        let state = Mutex::new(State::default());
        let grown = watch::Sender::new(Grown::default());
        let attempt =
            Self { inner: Arc::new(Inner { dir: dir.to_owned(), state, grown, log_to_stderr: false }) };
        attempt.remember(&mut attempt.state(), error);
        attempt
    }

    /// Where it is.
    pub fn path(&self) -> &Utf8Path {
        &self.inner.dir
    }

    /// Changes whenever there is more to carry.
    pub fn grown(&self) -> watch::Receiver<Grown> {
        self.inner.grown.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Adds bytes to a stream. A write that fails is remembered and ends the attempt: see [`Self::failure`].
    pub fn append(&self, stream: Stream, bytes: &[u8]) {
        let mut state = self.state();
        let Some(file) = state.files.get_mut(&stream) else { return };
        if let Err(error) = file.write_all(bytes) {
            self.remember(&mut state, &error);
            return;
        }
        drop(state);
        self.inner.grown.send_modify(|grown| *grown.streams.entry(stream).or_default() += bytes.len() as u64);
    }

    /// Adds a line to the log. `at_us`: microseconds since the attempt began.
    pub fn log(&self, at_us: u64, line: &str) {
        let text = format!("[{:>9.3}] {line}\n", at_us as f64 / 1e6);
        if self.inner.log_to_stderr {
            eprint!("{text}");
        }
        self.append(Stream::Log, text.as_bytes());
    }

    /// Keeps a blob and answers its SHA-256 in hex; one that is there already costs only the hash.
    pub fn blob(&self, bytes: &[u8]) -> String {
        let sha = hex::encode(Sha256::digest(bytes));
        let mut state = self.state();
        if !state.known.insert(sha.clone()) {
            return sha;
        }
        if let Err(error) = fs::write(self.inner.dir.join("blobs").join(&sha), bytes) {
            self.remember(&mut state, &error);
            return sha;
        }
        state.order.push(sha.clone());
        let blobs = state.order.len();
        drop(state);
        self.inner.grown.send_modify(|grown| grown.blobs = blobs);
        sha
    }

    /// Keeps a file as a blob and answers its SHA-256 in hex and its size. What `look` says of its bytes, piece by piece,
    /// can refuse it.
    pub fn blob_file<E>(
        &self,
        file: &mut impl std::io::Read,
        mut look: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> std::io::Result<Result<(String, u64), E>> {
        let blobs = self.inner.dir.join("blobs");
        let part = blobs.join(format!("part-{}", uuid::Uuid::new_v4().simple()));
        let copied = copy_looking(file, &mut fs::File::create(&part)?, &mut look);
        let (sha, size) = match copied {
            Ok(Ok(copied)) => copied,
            other => {
                let _ = fs::remove_file(&part);
                return other;
            }
        };
        let mut state = self.state();
        if state.known.insert(sha.clone()) {
            fs::rename(&part, blobs.join(&sha))?;
            state.order.push(sha.clone());
            let blobs = state.order.len();
            drop(state);
            self.inner.grown.send_modify(|grown| grown.blobs = blobs);
        } else {
            drop(state);
            fs::remove_file(&part)?;
        }
        Ok(Ok((sha, size)))
    }

    /// Tells the server, through the uploader, how far the attempt has come.
    pub fn phase(&self, phase: WorkPhase) {
        self.inner.grown.send_modify(|grown| grown.phase = Some(phase));
    }

    /// The blobs from number `from` on, in the order in which they were put.
    pub fn blobs_from(&self, from: usize) -> Vec<String> {
        self.state().order.get(from..).unwrap_or_default().to_vec()
    }

    /// The first write that failed, as one sentence; a full disk is the usual reason.
    pub fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    fn remember(&self, state: &mut State, error: &std::io::Error) {
        let remedy = match error.kind() {
            std::io::ErrorKind::StorageFull => {
                "the disk is full; free some space or choose another place with --data or --out"
            }
            _ => "check that the disk is writable",
        };
        state.failure.get_or_insert_with(|| format!("cannot write the attempt's record: {error}; {remedy}"));
        // Wake everybody who waits for growth, so that the failure is seen at once.
        self.inner.grown.send_modify(|_| ());
    }
}

fn copy_looking<E>(
    from: &mut impl std::io::Read,
    to: &mut impl Write,
    look: &mut impl FnMut(&[u8]) -> Result<(), E>,
) -> std::io::Result<Result<(String, u64), E>> {
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            to.flush()?;
            return Ok(Ok((hex::encode(hash.finalize()), size)));
        }
        let piece = &buffer[..length];
        if let Err(refused) = look(piece) {
            return Ok(Err(refused));
        }
        hash.update(piece);
        to.write_all(piece)?;
        size += length as u64;
    }
}

/// Removes a folder with everything in it, whatever a job has done to the permissions therein.
pub fn remove_tree(dir: &Utf8Path) {
    use std::os::unix::fs::PermissionsExt;
    if fs::remove_dir_all(dir).is_ok() {
        return;
    }
    let mut open = vec![dir.as_std_path().to_owned()];
    while let Some(dir) = open.pop() {
        let _ = fs::set_permissions(&dir, PermissionsExt::from_mode(0o700));
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
        }
    }
    let _ = fs::remove_dir_all(dir);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_blobs_grow_in_order() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(tmp.path()).unwrap().join("a");
        let attempt = AttemptDir::create(&dir, false).unwrap();
        attempt.append(Stream::Steps, b"{}\n");
        let sha = attempt.blob(b"picture");
        assert_eq!(attempt.blob(b"picture"), sha, "the same bytes are one blob");
        let grown = attempt.grown().borrow().clone();
        assert_eq!(grown.streams[&Stream::Steps], 3);
        assert_eq!(grown.blobs, 1);
        assert_eq!(fs::read(dir.join("blobs").join(sha)).unwrap(), b"picture");
        assert_eq!(attempt.failure(), None);
    }

    #[test]
    fn a_write_that_fails_is_remembered_as_a_sentence() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(tmp.path()).unwrap().join("a");
        let attempt = AttemptDir::create(&dir, false).unwrap();
        fs::remove_dir_all(dir.join("blobs")).unwrap();
        attempt.blob(b"x");
        assert!(attempt.failure().unwrap().contains("cannot write the attempt's record"));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_a_sentence_too() {
        let tmp = tempfile::tempdir().unwrap();
        let file = Utf8Path::from_path(tmp.path()).unwrap().join("file");
        fs::write(&file, b"").unwrap();
        let error = AttemptDir::create(&file.join("a"), false).err().unwrap();
        let attempt = AttemptDir::unusable(&file.join("a"), &error);
        attempt.append(Stream::Log, b"lost");
        assert!(attempt.failure().unwrap().contains("cannot write the attempt's record"));
        assert!(attempt.grown().borrow().streams.is_empty(), "nothing is offered to the uploader");
    }
}
