//! What `assay verify` needs of a plain clone: read only, without the server, without the git program.

use crate::name::{BranchName, CommitId, TreeId};
use crate::object::{Entry, RawCommit, parse_tree};
use crate::receipts::{RECEIPTS, receipt_path};
use camino::Utf8Path;
use gix::ObjectId;
use gix::objs::Kind;

/// Where a clone may keep what the remote has as [`RECEIPTS`].
const RECEIPTS_IN_CLONES: &[&str] = &[RECEIPTS, "refs/remotes/origin/assay/receipts"];

/// Why a clone cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// No repository.
    #[error("{path} is no git repository: {text}; give the directory of a clone")]
    NotARepository {
        /// What was given.
        path: String,
        /// What is wrong.
        text: String,
    },
    /// No such branch.
    #[error("{path} has no branch {branch}, and none of origin either; fetch it")]
    NoBranch {
        /// The clone.
        path: String,
        /// The branch.
        branch: String,
    },
    /// Receipts were never fetched.
    #[error("{path} has no receipts; fetch them: git fetch origin {RECEIPTS}:{RECEIPTS}")]
    NoReceipts {
        /// The clone.
        path: String,
    },
    /// An object is missing or cannot be read.
    #[error("{id} cannot be read: {text}; clone again, not shallow and not partial")]
    Unreadable {
        /// Its SHA-1.
        id: String,
        /// What is wrong.
        text: String,
    },
}

/// A clone that is read.
pub struct History {
    path: String,
    repository: gix::Repository,
}

impl History {
    /// Opens a clone, bare or with a work tree. Nothing of its configuration or the user's can make it run anything.
    pub fn open(path: &Utf8Path) -> Result<Self, HistoryError> {
        let options = gix::open::Options::isolated();
        let mut repository = gix::open_opts(path.as_std_path(), options).map_err(|error| {
            HistoryError::NotARepository { path: path.to_string(), text: error.to_string() }
        })?;
        repository.object_cache_size_if_unset(8 << 20);
        Ok(Self { path: path.to_string(), repository })
    }

    /// Where a branch is: the clone's own, else origin's.
    pub fn branch(&self, branch: &BranchName) -> Result<CommitId, HistoryError> {
        let names = [format!("refs/heads/{branch}"), format!("refs/remotes/origin/{branch}")];
        names
            .iter()
            .find_map(|name| self.reference(name))
            .ok_or_else(|| HistoryError::NoBranch { path: self.path.clone(), branch: branch.to_string() })
    }

    /// The tip of the receipts.
    pub fn receipts(&self) -> Result<CommitId, HistoryError> {
        let found = RECEIPTS_IN_CLONES.iter().find_map(|name| self.reference(name));
        found.ok_or_else(|| HistoryError::NoReceipts { path: self.path.clone() })
    }

    /// The receipt of a commit, as stored; `None` if there is none.
    pub fn receipt_bytes(&self, commit: CommitId) -> Result<Option<Vec<u8>>, HistoryError> {
        let mut at = self.commit(self.receipts()?)?.tree;
        for part in receipt_path(commit).split('/') {
            let found = self.entries(at)?.into_iter().find(|entry| entry.name == part.as_bytes());
            let Some(found) = found else { return Ok(None) };
            at = found.id;
        }
        self.bytes(at, Kind::Blob).map(Some)
    }

    /// A commit's tree.
    pub fn tree_of(&self, commit: CommitId) -> Result<TreeId, HistoryError> {
        Ok(TreeId(self.commit(commit)?.tree))
    }

    /// A commit's first parent; a root has none.
    pub fn first_parent(&self, commit: CommitId) -> Result<Option<CommitId>, HistoryError> {
        Ok(self.commit(commit)?.parents.first().copied().map(CommitId))
    }

    /// Whether `old` is `new` or an ancestor of it. What the clone does not have is no ancestor.
    pub fn is_ancestor(&self, old: CommitId, new: CommitId) -> Result<bool, HistoryError> {
        if old == new {
            return Ok(true);
        }
        if !self.repository.has_object(old.0) {
            return Ok(false);
        }
        let bases =
            self.repository.merge_bases_many(old.0, &[new.0]).map_err(|error| unreadable(new.0, error))?;
        Ok(bases.iter().any(|base| base.detach() == old.0))
    }

    /// The nearest commit that both have; none if they have nothing in common, or the clone has not both.
    pub fn merge_base(&self, one: CommitId, other: CommitId) -> Result<Option<CommitId>, HistoryError> {
        if !self.repository.has_object(one.0) || !self.repository.has_object(other.0) {
            return Ok(None);
        }
        let bases = self
            .repository
            .merge_bases_many(one.0, &[other.0])
            .map_err(|error| unreadable(other.0, error))?;
        Ok(bases.first().map(|base| CommitId(base.detach())))
    }

    /// The commits that `tip` has and `base` has not, the newest first; without a base, all.
    pub fn commits_between(
        &self,
        base: Option<CommitId>,
        tip: CommitId,
    ) -> Result<Vec<CommitId>, HistoryError> {
        let walk = self.repository.rev_walk([tip.0]).with_hidden(base.map(|base| base.0));
        let walk = walk.all().map_err(|error| unreadable(tip.0, error))?;
        walk.map(|step| step.map(|info| CommitId(info.id)).map_err(|error| unreadable(tip.0, error)))
            .collect()
    }

    fn reference(&self, name: &str) -> Option<CommitId> {
        let reference = self.repository.try_find_reference(name).ok().flatten()?;
        reference.target().try_id().map(|id| CommitId(id.to_owned()))
    }

    fn bytes(&self, id: ObjectId, kind: Kind) -> Result<Vec<u8>, HistoryError> {
        let object = self.repository.find_object(id).map_err(|error| unreadable(id, error))?;
        if object.kind != kind {
            return Err(unreadable(id, format!("it is a {} and should be a {kind}", object.kind)));
        }
        // A clone is not trusted: the bytes must be those that the id names.
        let bytes = object.detach().data;
        match gix::objs::compute_hash(self.repository.object_hash(), kind, &bytes) {
            Ok(hash) if hash == id => Ok(bytes),
            _ => Err(unreadable(id, "its bytes are other ones than its id says")),
        }
    }

    fn commit(&self, commit: CommitId) -> Result<RawCommit, HistoryError> {
        RawCommit::parse(&self.bytes(commit.0, Kind::Commit)?).map_err(|why| unreadable(commit.0, why))
    }

    fn entries(&self, tree: ObjectId) -> Result<Vec<Entry>, HistoryError> {
        parse_tree(&self.bytes(tree, Kind::Tree)?).map_err(|why| unreadable(tree, why))
    }
}

fn unreadable(id: ObjectId, text: impl ToString) -> HistoryError {
    HistoryError::Unreadable { id: id.to_hex().to_string(), text: text.to_string() }
}
