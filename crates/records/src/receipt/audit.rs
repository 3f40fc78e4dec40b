//! The walk along a branch that names every commit without a receipt.

use std::collections::HashSet;

use super::statement::{ObjectId, Receipt};
use super::trust::TrustFile;
use super::verify::{Expected, ReceiptProblem, verify};

/// What a repository knows about a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitFacts {
    /// Its tree.
    pub tree: ObjectId,
    /// Its first parent; `None` for a root.
    pub first_parent: Option<ObjectId>,
    /// The receipt for it, as stored, if there is one.
    pub receipt: Option<Vec<u8>>,
}

/// What became of a walk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    /// Landings with a valid receipt, newest first.
    pub covered: Vec<Covered>,
    /// Commits without one, newest first.
    pub uncovered: Vec<Uncovered>,
}

/// A landing with a valid receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covered {
    /// The commit that the branch was moved to. All commits from the predecessor to it are covered.
    pub commit: ObjectId,
    /// What its receipt says.
    pub receipt: Receipt,
}

/// A commit without a valid receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncovered {
    /// The commit.
    pub commit: ObjectId,
    /// Why.
    pub problem: ReceiptProblem,
}

/// Walks from the tip of a branch to the start that the trust file names, or to the root.
///
/// At a commit with a valid receipt it goes on at what the branch was before that landing; any other commit is named,
/// and it goes on at its first parent. `lookup` reads a commit; `is_ancestor(a, b)` says whether `a` is `b` or an
/// ancestor of it, and is asked once or twice for each step. An error of either ends the walk.
pub fn audit<E>(
    project: &str,
    branch: &str,
    tip: &ObjectId,
    trust: &TrustFile,
    mut lookup: impl FnMut(&ObjectId) -> Result<CommitFacts, E>,
    mut is_ancestor: impl FnMut(&ObjectId, &ObjectId) -> Result<bool, E>,
) -> Result<Audit, E> {
    let mut audit = Audit::default();
    let mut start = trust.start(project, branch);
    if let Some(commit) = start
        && !is_ancestor(commit, tip)?
    {
        // A branch that was set back to before its start must not pass because nothing is left to look at.
        audit.uncovered(tip, ReceiptProblem::StartNotInBranch(commit.clone()));
        start = None;
    }
    let mut seen = HashSet::new();
    let mut next = Some(tip.clone());
    while let Some(commit) = next {
        let done = match start {
            Some(start) => is_ancestor(&commit, start)?,
            None => false,
        };
        // A repository does not go in circles; a wrong `lookup` may.
        if done || !seen.insert(commit.clone()) {
            break;
        }
        let facts = lookup(&commit)?;
        let expected = Expected { project, branch, commit: &commit, tree: &facts.tree };
        let result = match &facts.receipt {
            Some(bytes) => verify(bytes, trust, &expected),
            None => Err(ReceiptProblem::Missing),
        };
        let result = match result {
            Ok(receipt) => check_predecessor(receipt, &commit, &mut lookup, &mut is_ancestor)?,
            Err(problem) => Err(problem),
        };
        next = match result {
            Ok(receipt) => {
                let before = receipt.predecessor.commit.clone();
                audit.covered.push(Covered { commit, receipt });
                Some(before)
            }
            Err(problem) => {
                audit.uncovered(&commit, problem);
                facts.first_parent
            }
        };
    }
    Ok(audit)
}

/// The receipt, if the commit before it is really there and has the tree that the tests were made on.
fn check_predecessor<E>(
    receipt: Receipt,
    commit: &ObjectId,
    lookup: &mut impl FnMut(&ObjectId) -> Result<CommitFacts, E>,
    is_ancestor: &mut impl FnMut(&ObjectId, &ObjectId) -> Result<bool, E>,
) -> Result<Result<Receipt, ReceiptProblem>, E> {
    let before = &receipt.predecessor;
    if before.commit == *commit || !is_ancestor(&before.commit, commit)? {
        return Ok(Err(ReceiptProblem::NotAnAncestor(before.commit.clone())));
    }
    let tree = lookup(&before.commit)?.tree;
    if tree != before.tree {
        let base = receipt.base.tree.clone();
        return Ok(Err(ReceiptProblem::BaseMoved { base, predecessor: tree }));
    }
    Ok(Ok(receipt))
}

impl Audit {
    /// True if every commit is covered.
    pub fn is_clean(&self) -> bool {
        self.uncovered.is_empty()
    }

    fn uncovered(&mut self, commit: &ObjectId, problem: ReceiptProblem) {
        self.uncovered.push(Uncovered { commit: commit.clone(), problem });
    }
}
