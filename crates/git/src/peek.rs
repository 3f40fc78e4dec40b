//! One file of a repository at a commit, without a clone that stays.

use crate::error::tidy;
use crate::run::{Call, CallError, Git};
use camino::Utf8Path;
use std::time::Duration;

/// How long one talk with the repository may take.
const DEADLINE: Duration = Duration::from_mins(1);
/// The largest file that is looked at, in bytes.
const LARGEST: u64 = 256 << 10;
/// What of a process's environment reaches git: how to get out to the world. The server's look at a file gets as far as
/// the worker that fetches the whole.
pub const PASSED_ON: [&str; 13] = [
    "HOME",
    "GIT_SSH_COMMAND",
    "SSH_AUTH_SOCK",
    "GIT_SSL_CAINFO",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

/// Why a file could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeekError {
    /// The repository does not have the commit.
    #[error("it has no commit {0}")]
    NoCommit(String),
    /// The file has more bytes than are looked at.
    #[error("it has {0} bytes; at most {most} are read", most = LARGEST)]
    TooLarge(u64),
    /// Nothing came in time.
    #[error("it does not answer within {} s", DEADLINE.as_secs())]
    Silent,
    /// The repository refuses, or git does not work here.
    #[error("{0}")]
    Unreachable(String),
}

/// The bytes of a file of `url` at a commit; none if there is no such file there. It fetches that file and the folders of
/// this one commit, as far as the repository lets it choose. Blocks its thread.
pub fn file_at(url: &str, commit: &str, path: &str) -> Result<Option<Vec<u8>>, PeekError> {
    let kept = tempfile::tempdir().map_err(|error| PeekError::Unreachable(error.to_string()))?;
    let not = || PeekError::Unreachable(format!("{} is not UTF-8", kept.path().display()));
    let peek = Peek::new(Utf8Path::from_path(kept.path()).ok_or_else(not)?);
    // A repository can only be asked by one with names of the same length.
    let format = if commit.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
    peek.well(&["init", "--quiet", "--bare", format, "."])?;
    // The file comes later from a remote with a name.
    peek.well(&["remote", "add", "origin", url])?;
    peek.fetch(commit)?;
    let listed = peek.well(&["ls-tree", "-z", "--full-tree", commit, "--", path])?;
    let listed = String::from_utf8_lossy(&listed);
    // `100644 blob ID<tab>PATH`: a link or a folder is no file.
    let Some(id) = listed.strip_prefix("100").and_then(|line| line.split([' ', '\t']).nth(2)) else {
        return Ok(None);
    };
    let size = String::from_utf8_lossy(&peek.well(&["cat-file", "-s", id])?).trim().to_owned();
    match size.parse::<u64>() {
        Ok(size) if size <= LARGEST => peek.well(&["cat-file", "blob", id]).map(Some),
        Ok(size) => Err(PeekError::TooLarge(size)),
        Err(_) => Err(PeekError::Unreachable(format!("git gives {size:?} as the size of {path}"))),
    }
}

struct Peek<'a> {
    git: Git,
    dir: &'a Utf8Path,
    env: Vec<(String, String)>,
}

impl<'a> Peek<'a> {
    fn new(dir: &'a Utf8Path) -> Self {
        let env = PASSED_ON.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
        Self { git: Git::new("git"), dir, env: env.collect() }
    }

    /// What git says when it ends well.
    fn well(&self, arguments: &[&str]) -> Result<Vec<u8>, PeekError> {
        self.tried(arguments)?.map_err(|why| PeekError::Unreachable(format!("git says: {why}")))
    }

    /// What git says, or what it complains of if it ends badly.
    fn tried(&self, arguments: &[&str]) -> Result<Result<Vec<u8>, String>, PeekError> {
        let call = Call { dir: self.dir, arguments, env: &self.env, stdin: &[], deadline: DEADLINE };
        let failed = |why: String| Err(PeekError::Unreachable(why));
        match self.git.run(&call) {
            Ok(done) if done.code == Some(0) => Ok(Ok(done.out)),
            Ok(done) => Ok(Err(tidy(&done.err, None))),
            Err(CallError::Start(error)) => failed(format!("git cannot be started: {error}")),
            Err(CallError::Io(error)) => failed(error.to_string()),
            Err(CallError::Deadline) => Err(PeekError::Silent),
        }
    }

    /// Brings the commit: by itself, or with all branches and tags where the repository gives nothing else.
    fn fetch(&self, commit: &str) -> Result<(), PeekError> {
        const FETCH: [&str; 4] = ["fetch", "--quiet", "--filter=blob:none", "--no-tags"];
        // Who does not answer in time for one commit does not for all of them.
        if self.tried(&[&FETCH[..], &["--depth=1", "origin", commit]].concat())?.is_ok() {
            return Ok(());
        }
        let all =
            [&FETCH[..], &["origin", "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]].concat();
        self.well(&all).map_err(|error| match error {
            // It has answered: it is slow, and not silent.
            PeekError::Silent => PeekError::Unreachable(format!(
                "it gives no single commit, and all branches take longer than {} s",
                DEADLINE.as_secs()
            )),
            other => other,
        })?;
        let there = self.tried(&["cat-file", "-e", &format!("{commit}^{{commit}}")])?;
        there.map(drop).map_err(|_| PeekError::NoCommit(commit.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_looked_at_where_a_commit_has_it() {
        for format in ["sha1", "sha256"] {
            looked_at(format);
        }
    }

    fn looked_at(format: &str) {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = Utf8Path::from_path(dir.path()).expect("UTF-8");
        let git = Peek::new(dir);
        let run = |arguments: &[&str]| {
            let who = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"];
            let out = git.well(&[&who[..], arguments].concat()).expect("git works");
            String::from_utf8(out).expect("UTF-8").trim().to_owned()
        };
        run(&["init", "--quiet", "--initial-branch=main", &format!("--object-format={format}")]);
        fs_err::create_dir(dir.join("lint")).expect("a folder");
        let commit = |text: &str| {
            fs_err::write(dir.join("lint/task.yaml"), text).expect("a file");
            run(&["add", "."]);
            run(&["commit", "--quiet", "-m", "x"]);
            run(&["rev-parse", "HEAD"])
        };
        let (old, new) = (commit("old"), commit("new"));
        let url = format!("file://{dir}");
        for (commit, path, found) in [
            (&old, "lint/task.yaml", Some("old")),
            (&new, "lint/task.yaml", Some("new")),
            (&new, "lint", None),
            (&new, "gone/task.yaml", None),
        ] {
            let file = file_at(&url, commit, path).expect("it answers");
            assert_eq!(file.as_deref(), found.map(str::as_bytes), "{path}");
        }
        let large = commit(&"x".repeat(300 << 10));
        assert_eq!(file_at(&url, &large, "lint/task.yaml"), Err(PeekError::TooLarge(300 << 10)));
        let nowhere = "1".repeat(new.len());
        assert_eq!(file_at(&url, &nowhere, "x"), Err(PeekError::NoCommit(nowhere.clone())));
        let gone = file_at(&format!("{url}/gone"), &new, "x");
        assert!(matches!(gone, Err(PeekError::Unreachable(_))), "{gone:?}");
    }
}
