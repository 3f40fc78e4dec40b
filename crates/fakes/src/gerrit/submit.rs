//! Landing a change in each of the six ways, with git and without a work tree.

use super::core::Core;
use super::faults::SubmitTrouble;
use super::model::{Change, CommitInfo, Ident, Kind, RecordStatus, Refusal, Status, SubmitType, World};
use super::repos::{Merged, NewCommit, RefMove};
use std::fmt::Write as _;
use std::sync::{MutexGuard, PoisonError};

/// A submit that was done, and whether its answer is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Submitted {
    /// Yes.
    Told,
    /// The connection is to be dropped.
    AnswerLost,
}

/// What the branch is to point to.
struct Landing {
    commit: String,
    /// It is a new patchset of the change, not a merge of it.
    is_version: bool,
}

impl Core {
    /// Lands a change.
    pub(crate) async fn submit(&self, user: &str, number: u64, patchset: u32) -> Result<Submitted, Refusal> {
        let user = user.to_owned();
        self.to_its_end(|core| async move { core.submit_now(&user, number, patchset).await }).await
    }

    async fn submit_now(&self, user: &str, number: u64, patchset: u32) -> Result<Submitted, Refusal> {
        let mut world = self.world.lock().await;
        let project = world.change(number)?.project.clone();
        let trouble = self.faults.take_submit(&project);
        match &trouble {
            Some(SubmitTrouble::Refused(why)) => return Err(Refusal::Conflict(why.clone())),
            Some(SubmitTrouble::ForeignPush(commit)) => {
                let branch = world.change(number)?.branch.clone();
                self.set_branch(&mut world, &project, &branch, commit).await?;
            }
            _ => {}
        }
        Self::may_submit(&world, user, number, patchset)?;
        if self.late().iter().any(|(_, late, _)| *late == number) {
            return Err(Refusal::Conflict("change is merged".to_owned()));
        }
        if trouble == Some(SubmitTrouble::Nothing) {
            return Ok(Submitted::Told);
        }
        let change = world.change(number)?.clone();
        let Some(tip) = self.repos.tip(&project, &change.branch).await? else {
            return Err(Refusal::Conflict(format!("branch {} is gone", change.branch)));
        };
        let kind = world.projects.get(&project).map_or(SubmitType::MergeIfNecessary, |one| one.submit_type);
        self.parents_have_landed(&world, &change, kind, &tip).await?;
        let mut landing = self.make(&world, user, &change, kind, &tip).await?;
        if trouble == Some(SubmitTrouble::OtherTree) {
            landing.commit = self.with_other_tree(&project, &landing.commit).await?;
        }
        let late = trouble == Some(SubmitTrouble::Late);
        self.land(&mut world, user, &change, &tip, &landing, late).await?;
        Ok(match trouble {
            Some(SubmitTrouble::AnswerLost) => Submitted::AnswerLost,
            _ => Submitted::Told,
        })
    }

    fn may_submit(world: &World, user: &str, number: u64, patchset: u32) -> Result<(), Refusal> {
        let change = world.change(number)?;
        if !change.is_open() {
            return Err(Refusal::Conflict(format!("change is {}", change.status.word().to_lowercase())));
        }
        if !world.in_group(user, &world.rights.submit) {
            return Err(Refusal::Forbidden("submit not permitted".into()));
        }
        if change.current().number != patchset {
            return Err(Refusal::Conflict(format!("patch set {patchset} is not the current one")));
        }
        if change.wip {
            return Err(Refusal::Conflict(format!("change {number} is marked work in progress")));
        }
        let record = world.submit_record(change);
        if record.status == RecordStatus::Ok {
            return Ok(());
        }
        Err(Refusal::Conflict(format!(
            "failed to submit 1 change due to the following problems:\nchange {number}: submit requirement not \
             fulfilled: {}",
            record.obstacles()
        )))
    }

    /// A change lands with what it stands on, or not at all; only cherry-picking does not look at it.
    async fn parents_have_landed(
        &self,
        world: &World,
        change: &Change,
        kind: SubmitType,
        tip: &str,
    ) -> Result<(), Refusal> {
        if kind == SubmitType::CherryPick {
            return Ok(());
        }
        let commit = &change.current().commit;
        let parents: Vec<&str> = commit.parents.iter().map(String::as_str).collect();
        let mut known = self.repos.heads(&change.project).await?;
        known.push(tip.to_owned());
        for missing in self.repos.commits(&change.project, &parents, &known).await? {
            let found = world.on_branch(&change.project, &change.branch, &missing);
            let why = match found {
                Some((other, _)) if matches!(other.status, Status::Merged { .. }) => continue,
                Some((other, patchset)) if patchset != other.current().number => {
                    format!("depends on change {} at old patch set {patchset}", other.number)
                }
                Some((other, _)) => format!(
                    "depends on change {}, which is {}",
                    other.number,
                    other.status.word().to_lowercase()
                ),
                None => format!("depends on commit {missing}, which is not in the branch"),
            };
            return Err(Refusal::Conflict(format!("change {}: {why}", change.number)));
        }
        Ok(())
    }

    /// Makes the commit that the branch will point to.
    async fn make(
        &self,
        world: &World,
        user: &str,
        change: &Change,
        kind: SubmitType,
        tip: &str,
    ) -> Result<Landing, Refusal> {
        let commit = &change.current().commit;
        let forward = self.repos.is_ancestor(&change.project, tip, &commit.id).await?;
        let as_it_is = Landing { commit: commit.id.clone(), is_version: false };
        match kind {
            SubmitType::FastForwardOnly | SubmitType::MergeIfNecessary | SubmitType::RebaseIfNecessary
                if forward =>
            {
                Ok(as_it_is)
            }
            SubmitType::FastForwardOnly => Err(Refusal::Conflict(format!(
                "change {}: project policy requires all submissions to be a fast-forward; rebase the change",
                change.number
            ))),
            SubmitType::MergeIfNecessary | SubmitType::MergeAlways => {
                self.merge_commit(world, user, change, tip).await
            }
            SubmitType::RebaseIfNecessary | SubmitType::RebaseAlways | SubmitType::CherryPick => {
                self.picked_commit(world, user, change, kind, tip).await
            }
        }
    }

    async fn merge_commit(
        &self,
        world: &World,
        user: &str,
        change: &Change,
        tip: &str,
    ) -> Result<Landing, Refusal> {
        let commit = &change.current().commit;
        let tree = no_conflict(change, self.repos.merge(&change.project, tip, &commit.id).await?)?;
        let into = if change.branch == "master" { String::new() } else { format!(" into {}", change.branch) };
        let now = self.now();
        let new = NewCommit {
            tree: &tree,
            parents: &[tip, &commit.id],
            author: &ident(world, user, now),
            committer: &super::server_ident(now),
            message: &format!("Merge \"{}\"{into}\n", commit.subject()),
        };
        Ok(Landing { commit: self.repos.commit_tree(&change.project, &new).await?, is_version: false })
    }

    async fn picked_commit(
        &self,
        world: &World,
        user: &str,
        change: &Change,
        kind: SubmitType,
        tip: &str,
    ) -> Result<Landing, Refusal> {
        let commit = &change.current().commit;
        let [parent] = commit.parents.as_slice() else {
            return Err(Refusal::Conflict(format!(
                "change {}: a merge commit cannot be rebased",
                change.number
            )));
        };
        let tree = no_conflict(change, self.repos.pick(&change.project, parent, &commit.id, tip).await?)?;
        let message =
            if kind.always_rewrites() { with_footers(world, change) } else { commit.message.clone() };
        let new = NewCommit {
            tree: &tree,
            parents: &[tip],
            author: &commit.author,
            committer: &ident(world, user, self.now()),
            message: &message,
        };
        Ok(Landing { commit: self.repos.commit_tree(&change.project, &new).await?, is_version: true })
    }

    /// The same commit with one file more.
    async fn with_other_tree(&self, project: &str, commit: &str) -> Result<String, Refusal> {
        let info = self.repos.info(project, commit).await?;
        let stray = self
            .repos
            .write(project, &[commit], &[("stray", Some("nobody tested this"))], &info.committer, "stray\n")
            .await?;
        let tree = self.repos.info(project, &stray).await?.tree;
        let parents: Vec<&str> = info.parents.iter().map(String::as_str).collect();
        let new = NewCommit {
            tree: &tree,
            parents: &parents,
            author: &info.author,
            committer: &info.committer,
            message: &info.message,
        };
        Ok(self.repos.commit_tree(project, &new).await?)
    }

    async fn land(
        &self,
        world: &mut World,
        user: &str,
        change: &Change,
        tip: &str,
        landing: &Landing,
        late: bool,
    ) -> Result<(), Refusal> {
        let name = format!("refs/heads/{}", change.branch);
        let moved = RefMove { name: name.clone(), old: tip.to_owned(), new: landing.commit.clone() };
        self.repos.update(&change.project, &[moved]).await?;
        if landing.is_version {
            let info: CommitInfo = self.repos.info(&change.project, &landing.commit).await?;
            self.add_version(world, user, change.number, info, Kind::TrivialRebase).await?;
            // The votes that let it land stay with it.
            let votes = change.current().votes.clone();
            world.change_mut(change.number)?.current_mut().votes = votes;
        }
        let now = self.now();
        let updated = world.ref_updated(&change.project, &name, tip, &landing.commit, Some(user), now);
        self.publish([updated]);
        if late {
            self.late().push((user.to_owned(), change.number, landing.commit.clone()));
        } else {
            let merged = world.merged(user, change.number, &landing.commit, now)?;
            self.publish([merged]);
        }
        Ok(())
    }

    fn late(&self) -> MutexGuard<'_, Vec<(String, u64, String)>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls merged what is in its branch.
    pub(crate) async fn finish_merges(&self) -> Result<(), Refusal> {
        let mut world = self.world.lock().await;
        let late = std::mem::take(&mut *self.late());
        for (user, number, commit) in late {
            let merged = world.merged(&user, number, &commit, self.now())?;
            self.publish([merged]);
        }
        Ok(())
    }

    /// Moves a branch whatever it is at, as somebody with every right.
    pub(crate) async fn set_branch(
        &self,
        world: &mut World,
        project: &str,
        branch: &str,
        commit: &str,
    ) -> Result<(), Refusal> {
        let old = self.repos.tip(project, branch).await?.unwrap_or_else(|| super::repos::ZERO.to_owned());
        let moved = RefMove { name: format!("refs/heads/{branch}"), old, new: commit.to_owned() };
        self.move_refs(world, super::FOREIGN, project, &[moved]).await.map_err(Refusal::Internal)
    }
}

fn no_conflict(change: &Change, merged: Merged) -> Result<String, Refusal> {
    match merged {
        Merged::Tree(tree) => Ok(tree),
        Merged::Conflict(files) => Err(Refusal::Conflict(format!(
            "change {}: could not be merged due to a path conflict in {}; rebase the change",
            change.number,
            files.join(", ")
        ))),
    }
}

fn ident(world: &World, user: &str, when: i64) -> Ident {
    match world.accounts.get(user) {
        Some(account) => Ident { name: account.name.clone(), email: account.email.clone(), when },
        None => Ident { when, ..super::server_ident(when) },
    }
}

/// The message with the footers that Gerrit adds when it makes a commit of its own.
fn with_footers(world: &World, change: &Change) -> String {
    let mut message = change.current().commit.message.trim_end().to_owned();
    let _ = write!(message, "\nReviewed-on: {}", world.change_url(change));
    for vote in change.current().votes.iter().filter(|vote| vote.value > 0) {
        let word = match vote.label.as_str() {
            "Code-Review" => "Reviewed-by",
            "Verified" => "Tested-by",
            other => other,
        };
        let who = ident(world, &vote.by, 0);
        let _ = write!(message, "\n{word}: {} <{}>", who.name, who.email);
    }
    message.push('\n');
    message
}
