//! Merges by `git merge-tree`: rename detection and merged merge bases are exactly git's.

use super::{ConflictPaths, Outcome, Refusal};
use crate::error::{GitError, tidy};
use crate::repos::Repository;
use gix::ObjectId;

/// Merges two commits.
pub(super) fn merge(
    repository: &Repository,
    ours: ObjectId,
    theirs: ObjectId,
    unrelated: bool,
) -> Result<Outcome, GitError> {
    let (ours, theirs) = (ours.to_hex().to_string(), theirs.to_hex().to_string());
    let mut arguments = vec!["merge-tree", "--write-tree", "-z", "--name-only", "--no-messages"];
    if unrelated {
        arguments.push("--allow-unrelated-histories");
    }
    arguments.extend([ours.as_str(), theirs.as_str()]);
    let done = repository.git("merging in", &arguments, b"")?;
    // Killed by its own abort(): the same for every try. A kill from outside says nothing of the change.
    if done.code.is_none() && (done.err.contains("Assertion") || done.err.contains("BUG:")) {
        return Ok(Err(Refusal::BreaksGit(tidy(&done.err, None))));
    }
    if !matches!(done.code, Some(0 | 1)) {
        let missing =
            ["unable to read", "missing", "corrupt", "bad object", "inflate", "not something we can merge"];
        if missing.iter().any(|word| done.err.contains(word)) {
            return Err(repository.damaged(&done.err));
        }
        return Err(repository.failed("merge two commits", &done.err));
    }
    parse(&done.out, done.code == Some(0)).ok_or_else(|| repository.failed("merge two commits", &done.err))
}

/// `TREE NUL` and, of a conflict, `PATH NUL` for each path.
fn parse(out: &[u8], clean: bool) -> Option<Outcome> {
    let mut parts = out.split(|b| *b == 0);
    let tree = parts.next()?;
    if clean {
        return ObjectId::from_hex(tree).ok().map(Ok);
    }
    let mut paths = ConflictPaths::default();
    // An empty one would begin the messages.
    for path in parts.take_while(|path| !path.is_empty()) {
        paths.push(path);
    }
    (paths.total > 0).then_some(Err(Refusal::Conflict(paths)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_merge_tree_says() {
        let hex = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
        let tree = ObjectId::from_hex(hex.as_bytes()).expect("an id");
        assert_eq!(parse(format!("{hex}\0").as_bytes(), true), Some(Ok(tree)));
        let paths = ConflictPaths { first: vec!["a\nb".into(), "c".into()], total: 2 };
        assert_eq!(parse(format!("{hex}\0a\nb\0c\0").as_bytes(), false), Some(Err(Refusal::Conflict(paths))));
        assert_eq!(parse(b"", true), None);
        assert_eq!(parse(b"", false), None);
    }
}
