//! One file of a repository at a commit, without a clone that stays.

use crate::error::tidy;
use crate::run::{Call, CallError, Git};
use camino::Utf8Path;
use std::time::Duration;

/// How long one talk with the repository may take.
const DEADLINE: Duration = Duration::from_mins(1);

/// Why a file could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeekError {
    /// The repository does not have the commit.
    #[error("it has no commit {0}")]
    NoCommit(String),
    /// The repository does not answer, or git does not work here.
    #[error("{0}")]
    Unreachable(String),
}

/// The bytes of a file of `url` at a commit; none if there is no such file there. It fetches that file and the folders of
/// this one commit, as far as the repository lets it choose. Blocks its thread.
pub fn file_at(url: &str, commit: &str, path: &str) -> Result<Option<Vec<u8>>, PeekError> {
    let kept = tempfile::tempdir().map_err(|error| PeekError::Unreachable(error.to_string()))?;
    let not = || PeekError::Unreachable(format!("{} is not UTF-8", kept.path().display()));
    let peek = Peek { git: Git::new("git"), dir: Utf8Path::from_path(kept.path()).ok_or_else(not)? };
    peek.well(&["init", "--quiet", "--bare", "."])?;
    // The file comes later from a remote with a name.
    peek.well(&["remote", "add", "origin", url])?;
    peek.fetch(commit)?;
    let listed = peek.well(&["ls-tree", "-z", "--full-tree", commit, "--", path])?;
    let listed = String::from_utf8_lossy(&listed);
    // `100644 blob ID<tab>PATH`: a link or a folder is no file.
    let Some(id) = listed.strip_prefix("100").and_then(|line| line.split([' ', '\t']).nth(2)) else {
        return Ok(None);
    };
    peek.well(&["cat-file", "blob", id]).map(Some)
}

struct Peek<'a> {
    git: Git,
    dir: &'a Utf8Path,
}

impl Peek<'_> {
    /// What git says when it ends well.
    fn well(&self, arguments: &[&str]) -> Result<Vec<u8>, PeekError> {
        let call = Call { dir: self.dir, arguments, env: &[], stdin: &[], deadline: DEADLINE };
        let failed = |why: String| Err(PeekError::Unreachable(why));
        match self.git.run(&call) {
            Ok(done) if done.code == Some(0) => Ok(done.out),
            Ok(done) => failed(format!("git says: {}", tidy(&done.err, None))),
            Err(CallError::Start(error)) => failed(format!("git cannot be started: {error}")),
            Err(CallError::Io(error)) => failed(error.to_string()),
            Err(CallError::Deadline) => failed(format!("it does not answer within {} s", DEADLINE.as_secs())),
        }
    }

    /// Brings the commit: by itself, or with all branches and tags where the repository gives nothing else.
    fn fetch(&self, commit: &str) -> Result<(), PeekError> {
        const FETCH: [&str; 4] = ["fetch", "--quiet", "--filter=blob:none", "--no-tags"];
        if self.well(&[&FETCH[..], &["--depth=1", "origin", commit]].concat()).is_ok() {
            return Ok(());
        }
        self.well(
            &[&FETCH[..], &["origin", "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]].concat(),
        )?;
        let there = self.well(&["cat-file", "-e", &format!("{commit}^{{commit}}")]);
        there.map(drop).map_err(|_| PeekError::NoCommit(commit.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_looked_at_where_a_commit_has_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = Utf8Path::from_path(dir.path()).expect("UTF-8");
        let git = Peek { git: Git::new("git"), dir };
        let run = |arguments: &[&str]| {
            let who = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"];
            let out = git.well(&[&who[..], arguments].concat()).expect("git works");
            String::from_utf8(out).expect("UTF-8").trim().to_owned()
        };
        run(&["init", "--quiet", "--initial-branch=main"]);
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
        let nowhere = "1".repeat(40);
        assert_eq!(file_at(&url, &nowhere, "x"), Err(PeekError::NoCommit(nowhere.clone())));
        let gone = file_at(&format!("{url}/gone"), &new, "x");
        assert!(matches!(gone, Err(PeekError::Unreachable(_))), "{gone:?}");
    }
}
