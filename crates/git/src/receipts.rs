//! Where receipts are kept: one file for each landed commit, in the history of one reference of the project itself.

use crate::error::GitError;
use crate::land::PushRefusal;
use crate::merge::Signature;
use crate::name::{CommitId, ProjectName, RefName};
use crate::object::{Entry, Mode, RawCommit, tree_bytes};
use crate::repos::{Repos, Repository};
use gix::ObjectId;
use gix::objs::Kind;
use std::collections::BTreeMap;
use std::time::Duration;

/// The reference that receipts are published under.
pub const RECEIPTS: &str = "refs/assay/receipts";

/// How often a race with another publisher may be lost.
const TRIES: usize = 8;

/// A receipt's path in the tree of [`RECEIPTS`]: `XX/REST-OF-COMMIT.json`.
pub fn receipt_path(commit: CommitId) -> String {
    let (shard, rest) = receipt_parts(commit);
    format!("{shard}/{rest}")
}

fn receipt_parts(commit: CommitId) -> (String, String) {
    let hex = commit.to_string();
    let (shard, rest) = hex.split_at(2);
    (shard.to_owned(), format!("{rest}.json"))
}

impl Repos {
    /// Publishes receipts of landed commits at the remote; none is lost if others publish at the same time. A receipt
    /// that is there already with the same bytes costs nothing; with other bytes, the older stays in the history.
    pub fn publish_receipts(
        &self,
        project: &ProjectName,
        receipts: &[(CommitId, Vec<u8>)],
        committer: &Signature,
        deadline: Duration,
    ) -> Result<(), PushRefusal> {
        let repository = self.repository(project)?;
        let name: RefName = RECEIPTS.parse().map_err(GitError::from)?;
        let mut refusal = None;
        for _ in 0..TRIES {
            let old = repository.look(&name, deadline)?;
            let Some(new) = repository.with_receipts(old, receipts, committer)? else { return Ok(()) };
            match repository.push(&[(name.clone(), old, new)], deadline) {
                Ok(()) => return Ok(repository.set_reference(&name, new)?),
                // Somebody else was faster: theirs first, then ours.
                Err(stale @ PushRefusal::StaleTip { .. }) => refusal = Some(stale),
                // They are not done yet.
                Err(PushRefusal::InDoubt { project, text }) if text.contains("cannot lock ref") => {
                    refusal = Some(PushRefusal::InDoubt { project, text });
                }
                Err(other) => return Err(other),
            }
        }
        Err(refusal
            .unwrap_or_else(|| repository.failed("publish receipts", "there was nothing to try").into()))
    }

    /// The receipt of a commit, as it was published or fetched last.
    pub fn read_receipt(&self, project: &ProjectName, commit: CommitId) -> Result<Option<Vec<u8>>, GitError> {
        let repository = self.repository(project)?;
        let Some(tip) = repository.reference(RECEIPTS)? else { return Ok(None) };
        let handle = repository.handle();
        let root = repository.commit(&handle, tip)?.tree;
        let (shard, file) = receipt_parts(commit);
        let find = |tree, name: &str| -> Result<Option<Entry>, GitError> {
            Ok(repository.entries(&handle, tree)?.into_iter().find(|entry| entry.name == name.as_bytes()))
        };
        let Some(shard) = find(root, &shard)? else { return Ok(None) };
        let Some(file) = find(shard.id, &file)? else { return Ok(None) };
        repository.bytes(&handle, file.id, Kind::Blob, "receipt").map(Some)
    }
}

impl Repository {
    /// A commit on `old` that has these receipts as well; `None` if that has them all.
    fn with_receipts(
        &self,
        old: Option<CommitId>,
        receipts: &[(CommitId, Vec<u8>)],
        committer: &Signature,
    ) -> Result<Option<CommitId>, GitError> {
        let handle = self.handle();
        let root = old.map(|old| self.commit(&handle, old.0)).transpose()?.map(|commit| commit.tree);
        let mut shards: BTreeMap<String, Vec<(String, &[u8])>> = BTreeMap::new();
        for (commit, bytes) in receipts {
            let (shard, file) = receipt_parts(*commit);
            shards.entry(shard).or_default().push((file, bytes));
        }
        let mut entries = root.map(|root| self.entries(&handle, root)).transpose()?.unwrap_or_default();
        for (shard, files) in shards {
            let below =
                entries.iter().find(|entry| entry.name == shard.as_bytes() && entry.mode == Mode::Directory);
            let mut inside =
                below.map(|entry| self.entries(&handle, entry.id)).transpose()?.unwrap_or_default();
            for (file, bytes) in files {
                let id = self.write(&handle, Kind::Blob, bytes)?;
                put(&mut inside, Entry { name: file.into(), mode: Mode::File, id });
            }
            let id = self.write(&handle, Kind::Tree, &tree_bytes(inside))?;
            put(&mut entries, Entry { name: shard.into(), mode: Mode::Directory, id });
        }
        let tree: ObjectId = self.write(&handle, Kind::Tree, &tree_bytes(entries))?;
        if root == Some(tree) || receipts.is_empty() {
            return Ok(None);
        }
        let who = committer.header();
        let commits: Vec<String> = receipts.iter().map(|(commit, _)| commit.to_string()).collect();
        let message = format!("Receipts of {} landings\n\n{}\n", commits.len(), commits.join("\n"));
        let commit = RawCommit {
            tree,
            parents: old.map(|old| old.0).into_iter().collect(),
            author: who.clone(),
            committer: who,
            encoding: None,
            message: message.into_bytes(),
        };
        self.write(&handle, Kind::Commit, &commit.bytes()).map(|id| Some(CommitId(id)))
    }
}

fn put(entries: &mut Vec<Entry>, new: Entry) {
    entries.retain(|entry| entry.name != new.name);
    entries.push(new);
}
