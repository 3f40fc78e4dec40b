//! One change merged onto a state, without a work tree.
//!
//! What the result must equal, and how it is made:
//!
//! | mode | as | made by |
//! |---|---|---|
//! | merge, cherry-pick | `git merge`, `git cherry-pick` | `git merge-tree` |
//! | resolve | `git merge -s resolve` | [`plain`], content by `git merge-file` |
//! | Gerrit's submit types | JGit: recursive, without renames | [`plain`], content by `git merge-file` |
//!
//! A cherry-pick is a merge with a commit that has the tree of the branch and the parent of the change: so the change's
//! parent is the merge base, also for a git that has no `--merge-base`. Attributes of a tree (merge drivers) are not
//! looked at.

mod cache;
mod ort;
mod plain;

pub(crate) use cache::Cache;

use crate::error::GitError;
use crate::name::{BranchName, CommitId, ProjectName, TreeId};
use crate::object::{RawCommit, with_footers};
use crate::repos::{Repos, Repository, lock};
use crate::state::{State, Tip};
use cache::{Base, Key};
use gix::ObjectId;
use gix::objs::Kind;
use std::fmt;

/// How a change goes onto its branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// `git merge`: a fast-forward where one is possible.
    Merge,
    /// `git merge -s resolve`: the same, without rename detection and without merging merge bases.
    Resolve,
    /// `git cherry-pick`; a change that is itself a merge is merged.
    CherryPick,
    /// What Gerrit will do on submit.
    Gerrit {
        /// The project's submit type.
        submit: GerritType,
        /// The project's "allow content merges": off, two changes to one file conflict.
        content_merge: bool,
    },
}

/// Gerrit's submit types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GerritType {
    /// Refused unless the change is a descendant of the branch.
    FastForwardOnly,
    /// A fast-forward where one is possible.
    MergeIfNecessary,
    /// Always a merge commit.
    MergeAlways,
    /// A fast-forward where one is possible, else the change's commit is made again.
    RebaseIfNecessary,
    /// The change's commit is always made again, with footers.
    RebaseAlways,
    /// The same, and the change's parents do not matter.
    CherryPick,
}

/// Who commits, and when.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Signature {
    /// The name.
    pub name: String,
    /// The address.
    pub email: String,
    /// Seconds since 1970, UTC.
    pub seconds: i64,
}

impl Signature {
    /// As it stands in a commit.
    pub(crate) fn header(&self) -> Vec<u8> {
        let clean = |text: &str| -> String {
            let text: String = text.chars().filter(|c| !c.is_control() && !"<>".contains(*c)).collect();
            text.trim().to_owned()
        };
        format!("{} <{}> {} +0000", clean(&self.name), clean(&self.email), self.seconds.max(0)).into_bytes()
    }
}

/// What the new commit says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Message {
    /// The whole message of a merge commit.
    pub merge: String,
    /// Lines `Key: value` that Gerrit adds where it makes the change's commit again (rebase always, cherry-pick).
    pub footers: Vec<String>,
}

/// A change's revision and where it is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToMerge {
    /// Its project.
    pub project: ProjectName,
    /// Its branch.
    pub branch: BranchName,
    /// Its number.
    pub number: u64,
    /// The patchset.
    pub patchset: u32,
    /// The patchset's commit, which must be here already: see [`Repos::ensure`].
    pub revision: CommitId,
    /// How.
    pub mode: Mode,
    /// What the new commit says.
    pub message: Message,
}

impl ToMerge {
    fn name(&self) -> String {
        format!("{} {},{}", self.project, self.number, self.patchset)
    }
}

/// What a merge came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The state ahead with the branch moved.
    pub state: State,
    /// The branch's new commit; the one before, if the change brings nothing.
    pub commit: CommitId,
    /// Its tree.
    pub tree: TreeId,
}

/// Paths that conflict; of very many, the first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConflictPaths {
    /// At most [`ConflictPaths::MOST`], bytes that are not UTF-8 replaced.
    pub first: Vec<String>,
    /// How many there are.
    pub total: usize,
}

impl ConflictPaths {
    /// How many paths are kept.
    pub const MOST: usize = 50;
    const LONGEST: usize = 300;

    pub(crate) fn push(&mut self, path: &[u8]) {
        self.total += 1;
        if self.first.len() < Self::MOST {
            let path = String::from_utf8_lossy(path);
            self.first.push(path.chars().take(Self::LONGEST).collect());
        }
    }
}

impl fmt::Display for ConflictPaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        let shown = &self.first[..self.first.len().min(SHOWN)];
        f.write_str(&shown.join(", "))?;
        if self.total > shown.len() {
            write!(f, " and {} more", self.total - shown.len())?;
        }
        Ok(())
    }
}

/// Why a change could not be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeFailure {
    /// It and what is ahead changed the same places.
    #[error(
        "{change} cannot be merged onto {branch} with what is ahead of it: conflict in {paths}; rebase the change"
    )]
    Conflict {
        /// The change, as `PROJECT NUMBER,PATCHSET`.
        change: String,
        /// Its branch.
        branch: BranchName,
        /// Where.
        paths: ConflictPaths,
    },
    /// The project takes fast-forwards only.
    #[error(
        "{change} is no descendant of {branch} at {tip}, and the project takes fast-forwards only; rebase the change"
    )]
    NotFastForward {
        /// The change.
        change: String,
        /// Its branch.
        branch: BranchName,
        /// Where the branch is.
        tip: CommitId,
    },
    /// git itself breaks on it: some renames together with changes of a file's type do that to merge-ort.
    #[error("git cannot merge {change} onto {branch} and breaks off ({text}); rebase the change by hand")]
    BreaksGit {
        /// The change.
        change: String,
        /// Its branch.
        branch: BranchName,
        /// What git said.
        text: String,
    },
    /// They have no common ancestor.
    #[error(
        "{change} has no commit in common with {branch}; see whether it was pushed for the right project"
    )]
    Unrelated {
        /// The change.
        change: String,
        /// Its branch.
        branch: BranchName,
    },
    /// A commit without a parent cannot be picked.
    #[error(
        "{change} has no parent, so there is nothing to tell what it changes; push it on top of {branch}"
    )]
    Root {
        /// The change.
        change: String,
        /// Its branch.
        branch: BranchName,
    },
    /// `git cherry-pick` refuses what would be an empty commit.
    #[error(
        "{change} brings nothing that {branch} with what is ahead of it does not have; abandon the change"
    )]
    Empty {
        /// The change.
        change: String,
        /// Its branch.
        branch: BranchName,
    },
    /// The state knows no such branch.
    #[error(
        "{change} is for {branch}, and the project has no such branch; create it, or push the change for another"
    )]
    NoBranch {
        /// The change.
        change: String,
        /// Its branch.
        branch: BranchName,
    },
    /// No fault of the change.
    #[error(transparent)]
    Repository(#[from] GitError),
}

impl MergeFailure {
    /// True if the change is to blame: trying again on the same state gives the same.
    pub fn is_of_the_change(&self) -> bool {
        !matches!(self, Self::Repository(_))
    }
}

/// What has to be done for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing: the branch has it.
    Keep,
    /// The branch goes to the change's revision.
    Forward,
    /// A merge commit.
    Join,
    /// The change's commit made again.
    Pick,
    /// A fast-forward that is none.
    Refuse,
}

/// How the two trees are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Strategy {
    /// With rename detection, as git.
    Ort,
    /// `resolve`, as git.
    Resolve,
    /// As JGit.
    Recursive {
        /// Whether the contents of a file are merged.
        content: bool,
    },
}

impl Mode {
    fn strategy(self) -> Strategy {
        match self {
            Self::Merge | Self::CherryPick => Strategy::Ort,
            Self::Resolve => Strategy::Resolve,
            Self::Gerrit { content_merge, .. } => Strategy::Recursive { content: content_merge },
        }
    }

    /// `had`: the branch contains the change. `ahead`: the change contains the branch.
    fn step(self, had: bool, ahead: bool, is_merge: bool) -> Step {
        use GerritType as T;
        let joined = if ahead { Step::Forward } else { Step::Join };
        match self {
            // git makes the commit again whatever the branch has; that it is empty is found later.
            Self::CherryPick if !is_merge => Step::Pick,
            _ if had => Step::Keep,
            Self::Merge | Self::Resolve | Self::CherryPick => joined,
            Self::Gerrit { submit, .. } => match submit {
                T::FastForwardOnly | T::RebaseIfNecessary if ahead => Step::Forward,
                T::FastForwardOnly => Step::Refuse,
                T::MergeIfNecessary => joined,
                T::MergeAlways => Step::Join,
                T::RebaseIfNecessary | T::RebaseAlways | T::CherryPick if is_merge => joined,
                T::RebaseIfNecessary | T::RebaseAlways | T::CherryPick => Step::Pick,
            },
        }
    }

    fn has_footers(self) -> bool {
        let submit = if let Self::Gerrit { submit, .. } = self { Some(submit) } else { None };
        matches!(submit, Some(GerritType::RebaseAlways | GerritType::CherryPick))
    }
}

/// One merge while it is made.
struct Job<'a> {
    repos: &'a Repos,
    repository: &'a Repository,
    handle: &'a gix::Repository,
    change: &'a ToMerge,
    tip: Tip,
    theirs: RawCommit,
}

impl Repos {
    /// Merges a change onto a state. Nothing is fetched and no reference is written.
    ///
    /// The same state, change and committer give the same commit, on any machine and after any restart.
    pub fn merge(
        &self,
        ahead: &State,
        change: &ToMerge,
        committer: &Signature,
    ) -> Result<Merged, MergeFailure> {
        let (project, branch) = (&change.project, &change.branch);
        let tip = ahead
            .tip(project, branch)
            .ok_or_else(|| MergeFailure::NoBranch { change: change.name(), branch: branch.clone() })?;
        let repository = self.repository(project)?;
        let _using = repository.using();
        let handle = repository.handle();
        if !repository.has_commit(tip.commit) {
            return Err(GitError::missing(project, "commit", tip.commit).into());
        }
        let theirs = repository.commit(&handle, change.revision.0)?;
        let job = Job { repos: self, repository: &repository, handle: &handle, change, tip, theirs };
        let new = job.merge(committer)?;
        let state = if new == tip { ahead.clone() } else { ahead.clone().with(project, branch, new) };
        Ok(Merged { state, commit: new.commit, tree: new.tree })
    }
}

impl Job<'_> {
    fn merge(&self, committer: &Signature) -> Result<Tip, MergeFailure> {
        let (ours, theirs) = (self.tip.commit.0, self.change.revision.0);
        let bases = self.repository.bases(self.handle, ours, theirs)?;
        let had = ours == theirs || bases.contains(&theirs);
        let ahead = bases.contains(&ours);
        let is_merge = self.theirs.parents.len() > 1;
        match self.change.mode.step(had, ahead, is_merge) {
            Step::Keep => Ok(self.tip),
            Step::Forward => Ok(Tip { commit: self.change.revision, tree: TreeId(self.theirs.tree) }),
            Step::Join => self.join(&bases, committer),
            Step::Pick => self.pick(committer),
            Step::Refuse => Err(MergeFailure::NotFastForward {
                change: self.change.name(),
                branch: self.change.branch.clone(),
                tip: self.tip.commit,
            }),
        }
    }

    fn join(&self, bases: &[ObjectId], committer: &Signature) -> Result<Tip, MergeFailure> {
        let (ours, theirs) = (self.tip.commit.0, self.change.revision.0);
        if bases.is_empty() {
            return Err(MergeFailure::Unrelated {
                change: self.change.name(),
                branch: self.change.branch.clone(),
            });
        }
        let strategy = self.change.mode.strategy();
        let tree = self.cached(Base::Commit(ours), strategy, || match strategy {
            Strategy::Ort => ort::merge(self.repository, ours, theirs, false),
            Strategy::Resolve => {
                plain::resolve(self.repository, self.handle, bases, self.tip.tree.0, self.theirs.tree)
            }
            Strategy::Recursive { content } => plain::recursive(
                self.repository,
                self.handle,
                bases,
                self.tip.tree.0,
                self.theirs.tree,
                content,
            ),
        })?;
        let who = committer.header();
        let mut message = self.change.message.merge.replace('\0', "").into_bytes();
        if !message.ends_with(b"\n") {
            message.push(b'\n');
        }
        self.write(&RawCommit {
            tree,
            parents: vec![ours, theirs],
            author: who.clone(),
            committer: who,
            encoding: None,
            message,
        })
    }

    fn pick(&self, committer: &Signature) -> Result<Tip, MergeFailure> {
        let gerrit = matches!(self.change.mode, Mode::Gerrit { .. });
        let parent = self.theirs.parents.first().copied();
        if parent.is_none() && gerrit {
            return Err(MergeFailure::Root {
                change: self.change.name(),
                branch: self.change.branch.clone(),
            });
        }
        let ours = self.tip.tree.0;
        let strategy = self.change.mode.strategy();
        let tree = self.cached(Base::Tree(ours), strategy, || {
            let before = parent.map(|parent| self.repository.commit(self.handle, parent)).transpose()?;
            let before = before.map(|commit| commit.tree);
            if before == Some(ours) {
                return Ok(Ok(self.theirs.tree));
            }
            match strategy {
                Strategy::Recursive { content } => {
                    plain::three_way(self.repository, self.handle, before, ours, self.theirs.tree, content)
                }
                Strategy::Ort | Strategy::Resolve => {
                    let stand_in = RawCommit {
                        tree: ours,
                        parents: parent.into_iter().collect(),
                        // As old as the change: git looks for merge bases from the newest commit down, and would walk
                        // the whole history before it came to a commit from 1970.
                        author: self.theirs.committer.clone(),
                        committer: self.theirs.committer.clone(),
                        encoding: None,
                        message: b"the branch, as if it had grown from the change's parent\n".to_vec(),
                    };
                    let stand_in = self.repository.write(self.handle, Kind::Commit, &stand_in.bytes())?;
                    ort::merge(self.repository, stand_in, self.change.revision.0, parent.is_none())
                }
            }
        })?;
        if tree == ours {
            // Gerrit takes such a change for landed and leaves the branch alone; git refuses.
            return if gerrit {
                Ok(self.tip)
            } else {
                Err(MergeFailure::Empty { change: self.change.name(), branch: self.change.branch.clone() })
            };
        }
        let footers: &[String] =
            if self.change.mode.has_footers() { &self.change.message.footers } else { &[] };
        self.write(&RawCommit {
            tree,
            parents: vec![self.tip.commit.0],
            author: self.theirs.author.clone(),
            committer: committer.header(),
            encoding: self.theirs.encoding.clone(),
            message: with_footers(&self.theirs.message, footers),
        })
    }

    /// The tree of a merge that was made before, or of `make`.
    fn cached(
        &self,
        base: Base,
        strategy: Strategy,
        make: impl FnOnce() -> Result<Outcome, GitError>,
    ) -> Result<ObjectId, MergeFailure> {
        let project = self.change.project.clone();
        let key = Key { project, base, revision: self.change.revision.0, strategy };
        let known = lock(&self.repos.0.cache).get(&key);
        let outcome = if let Some(outcome) = known {
            outcome
        } else {
            // Not under the lock: merges of different projects do not wait for each other.
            let outcome = make()?;
            lock(&self.repos.0.cache).put(key, outcome.clone());
            outcome
        };
        let (change, branch) = (self.change.name(), self.change.branch.clone());
        outcome.map_err(|refusal| match refusal {
            Refusal::Conflict(paths) => MergeFailure::Conflict { change, branch, paths },
            Refusal::BreaksGit(text) => MergeFailure::BreaksGit { change, branch, text },
        })
    }

    fn write(&self, commit: &RawCommit) -> Result<Tip, MergeFailure> {
        let id = self.repository.write(self.handle, Kind::Commit, &commit.bytes())?;
        Ok(Tip { commit: CommitId(id), tree: TreeId(commit.tree) })
    }
}

/// A tree, or what keeps it from being made.
pub(crate) type Outcome = Result<ObjectId, Refusal>;

/// What of a change keeps it from being merged; the same at every try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// These paths.
    Conflict(ConflictPaths),
    /// A failed assertion of git, in its words.
    BreaksGit(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_each_mode() {
        use GerritType as T;
        use Step::{Forward, Join, Keep, Pick, Refuse};
        let gerrit = |submit| Mode::Gerrit { submit, content_merge: true };
        // had, ahead, neither, neither and the change is a merge
        let table = [
            (Mode::Merge, [Keep, Forward, Join, Join]),
            (Mode::Resolve, [Keep, Forward, Join, Join]),
            (Mode::CherryPick, [Pick, Pick, Pick, Join]),
            (gerrit(T::FastForwardOnly), [Keep, Forward, Refuse, Refuse]),
            (gerrit(T::MergeIfNecessary), [Keep, Forward, Join, Join]),
            (gerrit(T::MergeAlways), [Keep, Join, Join, Join]),
            (gerrit(T::RebaseIfNecessary), [Keep, Forward, Pick, Join]),
            (gerrit(T::RebaseAlways), [Keep, Pick, Pick, Join]),
            (gerrit(T::CherryPick), [Keep, Pick, Pick, Join]),
        ];
        for (mode, expected) in table {
            let seen = [
                mode.step(true, false, false),
                mode.step(false, true, false),
                mode.step(false, false, false),
                mode.step(false, false, true),
            ];
            assert_eq!(seen, expected, "{mode:?}");
        }
    }

    #[test]
    fn people_cannot_add_headers() {
        let who = Signature { name: "A\nparent x <b>".into(), email: "a@x>\n".into(), seconds: -5 };
        assert_eq!(who.header(), b"Aparent x b <a@x> 0 +0000");
    }

    #[test]
    fn a_huge_list_of_conflicts_is_bounded() {
        let mut paths = ConflictPaths::default();
        for number in 0..100_000 {
            paths.push(format!("{number}/{}", "x".repeat(2000)).as_bytes());
        }
        assert_eq!((paths.first.len(), paths.total), (ConflictPaths::MOST, 100_000));
        let text = paths.to_string();
        assert!(text.len() < 2000 && text.ends_with(" and 99995 more"), "{text}");
    }
}
