//! Landing: pushes that expect what the branch was, and looking at what it is.

use crate::error::{GitError, remedy, tidy};
use crate::name::{BranchName, CommitId, ProjectName, RefName};
use crate::repos::{Refspec, Repos, Repository};
use crate::run::{CallError, Done};
use crate::state::Tip;
use std::time::Duration;

/// One reference to be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The branch.
    pub branch: BranchName,
    /// What it must be; `None`: it must not exist.
    pub old: Option<CommitId>,
    /// What it becomes.
    pub new: CommitId,
}

/// Why nothing was pushed, or nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum PushRefusal {
    /// The branch is not where it was when the change was tested. Nothing was pushed.
    #[error(
        "{branch} of {project} is at {} and was expected at {}; what was tested is out of date, build it again",
        shown(*.found), shown(*.expected)
    )]
    StaleTip {
        /// The project.
        project: ProjectName,
        /// The branch.
        branch: String,
        /// What was expected.
        expected: Option<CommitId>,
        /// Where it is, as far as it could be seen.
        found: Option<CommitId>,
    },
    /// The new commit does not contain the old one. Nothing was pushed.
    #[error(
        "{new} does not contain {old}, so pushing it to {branch} of {project} would lose commits; build it again"
    )]
    NotFastForward {
        /// The project.
        project: ProjectName,
        /// The branch.
        branch: String,
        /// What it is.
        old: CommitId,
        /// What it should have become.
        new: CommitId,
    },
    /// The other side said no. Nothing was pushed.
    #[error("{project} refuses the push: {text}; see whether the user may push there without review")]
    Rejected {
        /// The project.
        project: ProjectName,
        /// What it said.
        text: String,
    },
    /// No connection. Nothing was pushed.
    #[error("cannot push to {project}: {text}; {remedy}")]
    Unreachable {
        /// The project.
        project: ProjectName,
        /// What git said.
        text: String,
        /// What to do.
        remedy: &'static str,
    },
    /// It broke off. Look at the branch before anything else is done with it; as the other side may still be at work,
    /// only a branch that has moved says what became of it. Pushing the very same again is safe at any time.
    #[error(
        "the push to {project} broke off, and may have been done or not: {text}; the branch will be looked at"
    )]
    InDoubt {
        /// The project.
        project: ProjectName,
        /// What is known.
        text: String,
    },
    /// It was not tried. Nothing was pushed.
    #[error(transparent)]
    Repository(#[from] GitError),
}

impl PushRefusal {
    /// True if the branches may have been moved.
    pub fn in_doubt(&self) -> bool {
        matches!(self, Self::InDoubt { .. })
    }
}

fn shown(commit: Option<CommitId>) -> String {
    commit.map_or_else(|| "no commit".to_owned(), |commit| commit.to_string())
}

/// What one reference was told, in git's porcelain format.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Moved,
    Stale,
    /// Only because another was refused.
    Together,
    /// The connection ended before it was told.
    Unheard,
    Refused(String),
}

impl Repos {
    /// Pushes to branches of one project, all or none, if each of them is what is expected.
    pub fn push(&self, project: &ProjectName, moves: &[Move], deadline: Duration) -> Result<(), PushRefusal> {
        let repository = self.repository(project)?;
        let moves: Vec<_> = moves.iter().map(|one| (one.branch.reference(), one.old, one.new)).collect();
        repository.push(&moves, deadline)?;
        for (reference, _, new) in &moves {
            repository.set_reference(reference, *new)?;
        }
        Ok(())
    }

    /// Looks whether such a push would go through, as far as that can be seen without one: nothing moves, and the other
    /// side's hooks are not asked.
    pub fn try_push(
        &self,
        project: &ProjectName,
        moves: &[Move],
        deadline: Duration,
    ) -> Result<(), PushRefusal> {
        let moves: Vec<_> = moves.iter().map(|one| (one.branch.reference(), one.old, one.new)).collect();
        self.repository(project)?.send(&moves, &["--dry-run"], deadline)
    }

    /// Where a branch really is now, with its commit fetched; `None` if there is no such branch.
    pub fn look(
        &self,
        project: &ProjectName,
        branch: &BranchName,
        deadline: Duration,
    ) -> Result<Option<Tip>, GitError> {
        let repository = self.repository(project)?;
        let commit = repository.look(&branch.reference(), deadline)?;
        commit.map(|commit| repository.tip(commit)).transpose()
    }
}

impl Repository {
    /// The remote's reference; ours is made the same.
    pub(crate) fn look(&self, name: &RefName, deadline: Duration) -> Result<Option<CommitId>, GitError> {
        let found = self.ls_remote(&[name.as_str()], deadline)?.get(name.as_str()).copied();
        let Some(found) = found else { return Ok(None) };
        if self.has_commit(found) {
            self.set_reference(name, found)?;
            return Ok(Some(found));
        }
        self.fetch(&[Refspec::one(name)], deadline)?;
        // It may have moved on since it was listed; what was fetched is what is known.
        Ok(self.reference(name.as_str())?.map(CommitId))
    }

    pub(crate) fn push(
        &self,
        moves: &[(RefName, Option<CommitId>, CommitId)],
        deadline: Duration,
    ) -> Result<(), PushRefusal> {
        self.send(moves, &[], deadline)
    }

    fn send(
        &self,
        moves: &[(RefName, Option<CommitId>, CommitId)],
        how: &[&str],
        deadline: Duration,
    ) -> Result<(), PushRefusal> {
        if moves.is_empty() {
            return Ok(());
        }
        let handle = self.handle();
        for (name, old, new) in moves {
            if let Some(old) = old
                && !(self.has_commit(*old) && self.is_ancestor(&handle, old.0, new.0)?)
            {
                let (project, branch) = (self.name.clone(), name.to_string());
                return Err(PushRefusal::NotFastForward { project, branch, old: *old, new: *new });
            }
        }
        let mut arguments: Vec<String> =
            ["push", "--porcelain", "--atomic", "--no-verify", "--no-follow-tags", "--no-signed"]
                .into_iter()
                .chain(how.iter().copied())
                .map(Into::into)
                .collect();
        for (name, old, _) in moves {
            let old = old.map(|old| old.to_string()).unwrap_or_default();
            arguments.push(format!("--force-with-lease={name}:{old}"));
        }
        arguments.extend(["--end-of-options".to_owned(), self.remote().url]);
        arguments.extend(moves.iter().map(|(name, _, new)| format!("{new}:{name}")));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let done = {
            let _network = self.on_network();
            self.git_remote(&arguments, deadline)
        };
        match done {
            Ok(done) => self.judge(&done, moves, deadline),
            Err(CallError::Deadline) => Err(PushRefusal::InDoubt {
                project: self.name.clone(),
                text: format!("nothing was heard for {} s", deadline.as_secs_f64()),
            }),
            Err(CallError::Start(source)) => Err(GitError::NoGit { source }.into()),
            Err(CallError::Io(error)) => {
                Err(PushRefusal::InDoubt { project: self.name.clone(), text: error.to_string() })
            }
        }
    }

    /// All that git said of a push that failed: what became of the references is not among its errors.
    fn said(&self, done: &Done) -> String {
        let err = tidy(&done.err, self.remote().secret());
        match reasons(&String::from_utf8_lossy(&done.out)) {
            reasons if reasons.is_empty() => err,
            reasons => format!("{reasons} / {err}"),
        }
    }

    fn judge(
        &self,
        done: &Done,
        moves: &[(RefName, Option<CommitId>, CommitId)],
        deadline: Duration,
    ) -> Result<(), PushRefusal> {
        let project = self.name.clone();
        let answers = answers(&String::from_utf8_lossy(&done.out));
        let answer =
            |name: &RefName| answers.iter().find(|(to, _)| to == name.as_str()).map(|(_, answer)| answer);
        if done.code == Some(0) && moves.iter().all(|(name, ..)| answer(name) == Some(&Answer::Moved)) {
            return Ok(());
        }
        let text = self.said(done);
        let refused = moves.iter().find_map(|(name, ..)| match answer(name) {
            Some(Answer::Refused(why)) => Some(format!("{name}: {why}")),
            _ => None,
        });
        if let Some(why) = refused {
            let said = remote_lines(&done.err);
            let text = if said.is_empty() { why } else { format!("{why} ({said})") };
            return Err(PushRefusal::Rejected { project, text });
        }
        // An atomic push that found a branch moved says of all only that they go together: see which it was.
        let undone =
            moves.iter().all(|(name, ..)| matches!(answer(name), Some(Answer::Stale | Answer::Together)));
        if undone {
            let names: Vec<&str> = moves.iter().map(|(name, ..)| name.as_str()).collect();
            let now = match self.ls_remote(&names, deadline) {
                Ok(now) => now,
                Err(error) => {
                    let text = format!("{text}; and where the branches are now cannot be seen: {error}");
                    return Err(PushRefusal::InDoubt { project, text });
                }
            };
            let moved = moves.iter().find_map(|(name, expected, _)| {
                let found = now.get(name.as_str()).copied();
                (found != *expected).then(|| (name.to_string(), *expected, found))
            });
            return Err(match moved {
                Some((branch, expected, found)) => PushRefusal::StaleTip { project, branch, expected, found },
                // They are where they were expected: something is in the way for a while, such as a lock. That says
                // nothing against what is pushed.
                None => PushRefusal::InDoubt { project, text },
            });
        }
        // git says so before it has sent anything.
        let before = [
            "Could not read from remote repository",
            "unable to access",
            "does not appear to be",
            "Unable to find remote helper",
            "unable to look up",
        ];
        if answers.is_empty() && before.iter().any(|word| done.err.contains(word)) {
            return Err(PushRefusal::Unreachable { project, remedy: remedy(&text), text });
        }
        Err(PushRefusal::InDoubt { project, text })
    }
}

/// What was said of the references that did not move, each reason once. That of the first is often said of the others too.
fn reasons(out: &str) -> String {
    let mut reasons: Vec<&str> = Vec::new();
    for line in out.lines().filter(|line| line.starts_with("!\t")) {
        if let Some(reason) = line.splitn(3, '\t').nth(2)
            && !reasons.contains(&reason)
        {
            reasons.push(reason);
        }
    }
    reasons.join(" / ")
}

/// What the other side's hooks said.
fn remote_lines(err: &str) -> String {
    let lines = err.lines().filter_map(|line| line.strip_prefix("remote:")).map(str::trim);
    let text = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    if text.is_empty() { text } else { tidy(&text, None) }
}

/// `FLAG TAB FROM:TO TAB SUMMARY (REASON)` for each reference.
fn answers(out: &str) -> Vec<(String, Answer)> {
    let parse = |line: &str| {
        let mut parts = line.splitn(3, '\t');
        let (flag, names, summary) = (parts.next()?, parts.next()?, parts.next()?);
        let (_, to) = names.rsplit_once(':')?;
        let answer = match flag {
            "!" if summary.contains("(stale info)")
                || summary.contains("(remote ref updated since checkout)") =>
            {
                Answer::Stale
            }
            "!" if summary.contains("remote failure") => Answer::Unheard,
            "!" if ["atomic push fail", "atomic transaction fail", "transaction aborted"]
                .iter()
                .any(|word| summary.contains(word)) =>
            {
                Answer::Together
            }
            // The other side found the branch moved between its list and our push.
            "!" if [
                "failed to update ref",
                "cannot lock ref",
                "incorrect old value",
                "fetch first",
                "failed to lock",
                "lock failure",
            ]
            .iter()
            .any(|word| summary.contains(word)) =>
            {
                Answer::Stale
            }
            "!" => Answer::Refused(summary.to_owned()),
            _ => Answer::Moved,
        };
        Some((to.to_owned(), answer))
    };
    out.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_git() {
        let text = "To /x\n \ta1:refs/heads/m\t1..2\n!\ta1:refs/heads/n\t[rejected] (stale info)\n\
                    !\ta1:refs/heads/o\t[remote rejected] (pre-receive hook declined)\n\
                    !\ta1:refs/heads/p\t[rejected] (atomic push failed)\n\
                    =\ta1:refs/heads/q\t[up to date]\n\
                    !\ta1:refs/heads/r\t[remote failure] (remote failed to report status)\n\
                    !\ta1:refs/heads/s\t[remote rejected] (failed to lock)\n\
                    !\ta1:refs/heads/t\t[remote rejected] (pushes are blocked on Fridays)\n\
                    !\ta1:refs/heads/u\t[remote rejected] (transaction aborted)\nDone\n";
        let expected = [
            ("refs/heads/m", Answer::Moved),
            ("refs/heads/n", Answer::Stale),
            ("refs/heads/o", Answer::Refused("[remote rejected] (pre-receive hook declined)".into())),
            ("refs/heads/p", Answer::Together),
            ("refs/heads/q", Answer::Moved),
            ("refs/heads/r", Answer::Unheard),
            ("refs/heads/s", Answer::Stale),
            ("refs/heads/t", Answer::Refused("[remote rejected] (pushes are blocked on Fridays)".into())),
            ("refs/heads/u", Answer::Together),
        ];
        let expected: Vec<_> = expected.into_iter().map(|(name, answer)| (name.to_owned(), answer)).collect();
        assert_eq!(answers(text), expected);
        let reasons = reasons(text);
        assert!(reasons.starts_with("[rejected] (stale info) / [remote rejected] (pre-receive"), "{reasons}");
        assert!(reasons.ends_with("/ [remote rejected] (transaction aborted)"), "{reasons}");
        assert_eq!(remote_lines("remote: no\nremote: \nremote: never\nerror: x\n"), "no / never");
    }
}
