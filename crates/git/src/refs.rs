//! References of speculative states, and the room they take.

use crate::error::{GitError, tidy};
use crate::name::{CommitId, Identity, ProjectName, RefName};
use crate::repos::{Repos, Repository, lock};
use crate::state::State;
use gix::refs::transaction::{Change, LogChange, PreviousValue, RefEdit, RefLog};
use gix::refs::{FullName, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

const PREFIX: &str = "refs/zuul/";

/// What [`Repos::tidy`] does besides packing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unused {
    /// Objects that nothing refers to stay.
    Keep,
    /// They are removed, if they are older than this many days.
    RemoveAfterDays(u32),
}

impl Repos {
    /// Makes a state fetchable: `refs/zuul/BRANCH/ZIDENTITY` for every branch that items have moved in it, one
    /// transaction for each repository. Repeating it is harmless.
    pub fn publish(&self, state: &State, identity: &Identity) -> Result<(), GitError> {
        let mut by_project: BTreeMap<&ProjectName, Vec<(RefName, CommitId)>> = BTreeMap::new();
        for (project, branch, tip) in state.moved() {
            by_project.entry(project).or_default().push((identity.reference(branch), tip.commit));
        }
        for (project, references) in by_project {
            let repository = self.repository(project)?;
            let _using = repository.using();
            let edits = references.iter().map(|(name, commit)| {
                let log =
                    LogChange { mode: RefLog::AndReference, force_create_reflog: false, message: "".into() };
                let new = Target::Object(commit.0);
                repository.edit(name.as_str(), Change::Update { log, expected: PreviousValue::Any, new })
            });
            let edits = edits.collect::<Result<Vec<_>, _>>()?;
            repository.change_references(edits)?;
        }
        Ok(())
    }

    /// Removes the references of all identities but these; how many.
    pub fn collect(&self, keep: &BTreeSet<Identity>) -> Result<usize, GitError> {
        let mut removed = 0;
        for project in self.projects() {
            let repository = self.repository(&project)?;
            let mut edits = Vec::new();
            for (name, _) in repository.references(PREFIX)? {
                let identity =
                    name.rsplit_once("/Z").and_then(|(_, identity)| identity.parse::<Identity>().ok());
                // What is not ours stays.
                if identity.is_some_and(|identity| !keep.contains(&identity)) {
                    let change = Change::Delete { expected: PreviousValue::Any, log: RefLog::AndReference };
                    edits.push(repository.edit(&name, change)?);
                }
            }
            removed += edits.len();
            repository.change_references(edits)?;
        }
        Ok(removed)
    }

    /// Packs a repository's objects and references and writes what makes walks of history fast.
    ///
    /// Removing unused objects waits for the merges that are being made, and lets none begin meanwhile. A state whose
    /// references were collected cannot be merged onto afterwards.
    pub fn tidy(&self, project: &ProjectName, unused: Unused) -> Result<(), GitError> {
        let repository = self.repository(project)?;
        // Objects that nothing refers to become loose, with the age that they have.
        repository.tidied("pack objects", &["repack", "-q", "-d", "-l", "-A"])?;
        repository.tidied("pack references", &["pack-refs", "--all", "--prune"])?;
        repository
            .tidied("write the commit graph", &["commit-graph", "write", "--reachable", "--no-progress"])?;
        if let Unused::RemoveAfterDays(days) = unused {
            let _alone = repository.in_use.write().unwrap_or_else(PoisonError::into_inner);
            let expire =
                if days == 0 { "--expire=now".to_owned() } else { format!("--expire={days}.days.ago") };
            repository.tidied("remove unused objects", &["prune", &expire])?;
            lock(&self.0.cache).forget(project);
        }
        Ok(())
    }
}

impl Repository {
    fn tidied(&self, doing: &'static str, arguments: &[&str]) -> Result<(), GitError> {
        let done = self.git(doing, arguments, b"")?;
        if done.code == Some(0) { Ok(()) } else { Err(self.failed(doing, tidy(&done.err, None))) }
    }

    fn edit(&self, name: &str, change: Change) -> Result<RefEdit, GitError> {
        let name = FullName::try_from(name).map_err(|error| self.failed("name a reference", error))?;
        Ok(RefEdit { change, name, deref: false })
    }

    fn change_references(&self, edits: Vec<RefEdit>) -> Result<(), GitError> {
        if edits.is_empty() {
            return Ok(());
        }
        let handle = self.handle();
        let changed = handle.edit_references_as(edits, None);
        changed.map(drop).map_err(|error| self.failed("change references", error))
    }

    /// Sets one reference of ours.
    pub(crate) fn set_reference(&self, name: &RefName, commit: CommitId) -> Result<(), GitError> {
        let log = LogChange { mode: RefLog::AndReference, force_create_reflog: false, message: "".into() };
        let new = Target::Object(commit.0);
        let edit = self.edit(name.as_str(), Change::Update { log, expected: PreviousValue::Any, new })?;
        self.change_references(vec![edit])
    }
}
