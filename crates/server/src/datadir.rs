//! The data directory: what is where, who may be in it, and the tokens.

use crate::ServerError;
use crate::people::Seal;
use assay_records::receipt::Signer;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use serde::{Deserialize, Serialize};
use std::fs::TryLockError;
use std::io::{self, Write as _};

/// The data directory of a running server. One at a time: the lock is held until this is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: Utf8PathBuf,
    _lock: fs::File,
}

/// `server.json`: where the server of a data directory answers, for the command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFile {
    /// For example `http://127.0.0.1:9526`.
    pub url: String,
    /// The server's process.
    pub pid: u32,
}

impl ServerFile {
    /// Reads it; `None` if no server has said where it is. The server may have been killed since.
    pub fn read(data: &Utf8Path) -> io::Result<Option<Self>> {
        match fs::read(data.join("server.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Whether the server that said last where it is has ended.
pub(crate) fn named_server_is_gone(path: &Utf8Path) -> bool {
    let named = ServerFile::read(path).ok().flatten().and_then(|file| i32::try_from(file.pid).ok());
    let pid = named.and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

/// The tokens of a data directory.
#[derive(Clone)]
pub(crate) struct Tokens {
    pub(crate) admin: String,
    pub(crate) operator: String,
    pub(crate) worker: String,
}

impl DataDir {
    /// Makes the directory if it is not there and takes its lock.
    pub(crate) fn open(path: &Utf8Path) -> Result<Self, ServerError> {
        let unusable = |source| ServerError::Data { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(unusable)?;
        let options = fs::OpenOptions::new().create(true).truncate(false).write(true).to_owned();
        let lock = options.open(path.join("lock")).map_err(unusable)?;
        match lock.file().try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let other = ServerFile::read(path).ok().flatten();
                let other =
                    other.map(|file| format!(" (process {}, {})", file.pid, file.url)).unwrap_or_default();
                return Err(ServerError::InUse { path: path.to_owned(), other });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(crate) fn database_url(&self) -> String {
        format!("sqlite:{}", self.path.join("assay.db"))
    }

    /// The tokens, made at the first start.
    pub(crate) fn tokens(&self) -> Result<Tokens, ServerError> {
        let directory = self.path.join("tokens");
        fs::create_dir_all(&directory)
            .map_err(|source| ServerError::Data { path: directory.clone(), source })?;
        let token = |name: &str| token(&directory.join(name));
        Ok(Tokens { admin: token("admin")?, operator: token("operator")?, worker: token("worker")? })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// A directory in it, made if it is not there.
    pub(crate) fn subdirectory(&self, name: &str) -> Result<Utf8PathBuf, ServerError> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).map_err(|source| ServerError::Data { path: path.clone(), source })?;
        Ok(path)
    }

    /// The key that signs receipts, made at the first start.
    pub(crate) fn receipt_key(&self) -> Result<Signer, ServerError> {
        let path = self.subdirectory("keys")?.join("receipts");
        let unusable = |source| ServerError::Data { path: path.clone(), source };
        match fs::read_to_string(&path) {
            Ok(text) => {
                return Signer::parse(&text)
                    .map_err(|error| ServerError::BadKey { path: path.clone(), why: error.to_string() });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(unusable(source)),
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| unusable(io::Error::other(error)))?;
        let signer = Signer::from_seed(&seed);
        write_secret(&path, &signer.to_key_file()).map_err(unusable)?;
        Ok(signer)
    }

    /// The key that secrets in the database are sealed with, made at the first start.
    pub(crate) fn seal(&self) -> Result<Seal, ServerError> {
        let path = self.subdirectory("keys")?.join("secrets");
        let spoilt = || ServerError::BadSeal { path: path.clone() };
        let text = token(&path).map_err(|error| match error {
            ServerError::BadToken { .. } => spoilt(),
            other => other,
        })?;
        let mut key = [0; 32];
        hex::decode_to_slice(text, &mut key).map_err(|_| spoilt())?;
        Seal::new(&key).ok_or_else(spoilt)
    }

    /// Says where the server answers.
    pub(crate) fn announce(&self, url: &str) -> io::Result<()> {
        let file = ServerFile { url: url.to_owned(), pid: std::process::id() };
        let text = serde_json::to_vec(&file).map_err(io::Error::other)?;
        let (new, place) = (self.path.join("server.json.new"), self.path.join("server.json"));
        fs::write(&new, text)?;
        fs::rename(new, place)
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // Only for the reader's sake: a server that was killed leaves the file behind, and readers know that.
        let _ = fs::remove_file(self.path.join("server.json"));
    }
}

fn token(path: &Utf8Path) -> Result<String, ServerError> {
    let unusable = |source| ServerError::Data { path: path.to_owned(), source };
    match fs::read_to_string(path) {
        Ok(text) => {
            let text = text.trim();
            let fits = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            return if fits {
                Ok(text.to_owned())
            } else {
                Err(ServerError::BadToken { path: path.to_owned() })
            };
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(unusable(source)),
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| unusable(io::Error::other(error)))?;
    let text = hex::encode(bytes);
    write_secret(path, &format!("{text}\n")).map_err(unusable)?;
    Ok(text)
}

/// First whole, then visible: a start that is killed here leaves no half secret.
fn write_secret(path: &Utf8Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn directory() -> (tempfile::TempDir, Utf8PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(directory.path().join("data")).unwrap();
        (directory, path)
    }

    #[test]
    fn tokens_are_made_once_and_are_nobody_elses() {
        let (_keep, path) = directory();
        let first = DataDir::open(&path).unwrap().tokens().unwrap();
        let second = DataDir::open(&path).unwrap().tokens().unwrap();
        assert_eq!((&first.admin, &first.worker), (&second.admin, &second.worker));
        assert_ne!(first.admin, first.worker);
        assert_eq!(first.admin.len(), 64);
        for name in ["admin", "operator", "worker"] {
            let mode = fs::metadata(path.join("tokens").join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn the_key_of_receipts_is_made_once() {
        let (_keep, path) = directory();
        let first = DataDir::open(&path).unwrap().receipt_key().unwrap();
        let second = DataDir::open(&path).unwrap().receipt_key().unwrap();
        assert_eq!(first.key_id(), second.key_id());
        let file = path.join("keys/receipts");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&file, "spoilt\n").unwrap();
        let error = DataDir::open(&path).unwrap().receipt_key().unwrap_err().to_string();
        assert!(error.contains("keys/receipts") && !error.contains("spoilt"), "{error}");
    }

    #[test]
    fn a_spoilt_token_is_refused_with_its_file() {
        let (_keep, path) = directory();
        let data = DataDir::open(&path).unwrap();
        data.tokens().unwrap();
        fs::write(path.join("tokens/admin"), "short\n").unwrap();
        let error = data.tokens().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("tokens/admin") && error.contains("remove"), "{error}");
    }

    #[test]
    fn a_second_server_is_told_about_the_first() {
        let (_keep, path) = directory();
        let first = DataDir::open(&path).unwrap();
        first.announce("http://127.0.0.1:1").unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(
            error.contains("http://127.0.0.1:1") && error.contains(&std::process::id().to_string()),
            "{error}"
        );
        assert_eq!(ServerFile::read(&path).unwrap().map(|file| file.pid), Some(std::process::id()));
        drop(first);
        assert_eq!(ServerFile::read(&path).unwrap(), None);
        DataDir::open(&path).unwrap();
    }
}
