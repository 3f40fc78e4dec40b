//! Repositories without files: a tree is the set of revisions in it, so that equal content is an equal tree.

use crate::chance::mix;
use crate::content::Content;
use assay_engine::gate::ids::{BranchName, Oid, Patchset, ProjectName};
use assay_engine::gate::io::{MergeFailure, Merged, Moved, Tip, ToMerge};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

/// A revision's number.
pub type RevIx = usize;
/// A branch's number.
pub type BranchIx = usize;

/// A commit that somebody uploaded or pushed.
#[derive(Debug, Clone)]
pub struct Revision {
    /// Its id.
    pub oid: Oid,
    /// Everything below it.
    pub base: Content,
    /// What it touches; two revisions that touch the same do not merge, unless one has seen the other.
    keys: Vec<usize>,
    /// Of which patchset; none for one that was pushed past the review.
    pub patchset: Option<Patchset>,
}

/// A branch as it is.
#[derive(Debug, Clone)]
pub struct Branch {
    /// The project.
    pub project: ProjectName,
    /// Its name.
    pub name: BranchName,
    /// What is in it.
    pub content: Content,
    /// Where it stands.
    pub tip: Tip,
}

/// A branch in a speculative state.
#[derive(Debug, Clone)]
pub struct Spot {
    /// Which.
    pub branch: BranchIx,
    /// The real branch when the first of the chain was merged.
    pub root: Content,
    /// With this state's changes.
    pub content: Content,
    /// Where it stands.
    pub tip: Tip,
}

/// A speculative state: the branches that it and those ahead of it moved.
#[derive(Debug, Clone, Default)]
pub struct Speculation {
    /// The branches.
    pub spots: Vec<Spot>,
}

impl Speculation {
    /// Everything in it, whatever the branch.
    pub fn content(&self) -> Content {
        let mut all = Content::default();
        for spot in &self.spots {
            all.extend(&spot.content);
        }
        all
    }

    /// Everything that was in the branches before.
    pub fn root(&self) -> Content {
        let mut all = Content::default();
        for spot in &self.spots {
            all.extend(&spot.root);
        }
        all
    }
}

/// All repositories.
#[derive(Debug, Default)]
pub struct Git {
    /// All revisions.
    pub revisions: Vec<Revision>,
    by_oid: HashMap<Oid, RevIx>,
    /// All branches.
    pub branches: Vec<Branch>,
    named: BTreeMap<(ProjectName, BranchName), BranchIx>,
    keys: Vec<(String, Content)>,
    key_names: HashMap<String, usize>,
    commits: HashMap<Oid, (BranchIx, Content)>,
    made: u64,
}

fn oid(a: u64, b: u64) -> Oid {
    let mut text = String::with_capacity(40);
    let words = [mix(a, b), mix(b, a ^ 0x5555), mix(a ^ 0xAAAA, b)];
    for word in words {
        // Writing to a string cannot fail.
        let _ = write!(text, "{word:016x}");
    }
    text.truncate(40);
    Oid::from(text)
}

impl Git {
    /// The branch of this name; made with one commit if it is new.
    pub fn branch(&mut self, project: &ProjectName, name: &BranchName) -> BranchIx {
        if let Some(found) = self.named.get(&(project.clone(), name.clone())) {
            return *found;
        }
        let number = self.branches.len();
        let content = Content::default();
        let tree = Self::tree(number, &content);
        let commit = self.commit(number, &content, 0);
        self.branches.push(Branch {
            project: project.clone(),
            name: name.clone(),
            content,
            tip: Tip { commit, tree },
        });
        self.named.insert((project.clone(), name.clone()), number);
        number
    }

    /// The branch of this name if it is known.
    pub fn find_branch(&self, project: &ProjectName, name: &BranchName) -> Option<BranchIx> {
        self.named.get(&(project.clone(), name.clone())).copied()
    }

    /// The id of the tree with this content.
    pub fn tree(branch: BranchIx, content: &Content) -> Oid {
        oid(0x7EE, content.hash(branch as u64))
    }

    /// A commit with this content; two of them have two ids.
    fn commit(&mut self, branch: BranchIx, content: &Content, salt: u64) -> Oid {
        self.made += 1;
        let commit = oid(mix(0xC0, salt), mix(self.made, branch as u64));
        self.commits.insert(commit.clone(), (branch, content.clone()));
        commit
    }

    /// What a commit holds.
    pub fn content_of(&self, commit: &Oid) -> Option<&(BranchIx, Content)> {
        self.commits.get(commit)
    }

    /// The revision of this id.
    pub fn revision(&self, oid: &Oid) -> Option<RevIx> {
        self.by_oid.get(oid).copied()
    }

    /// Something uploaded on top of `base`.
    pub fn upload(&mut self, base: Content, keys: &[String], patchset: Option<Patchset>) -> RevIx {
        let number = self.revisions.len();
        let numbers: Vec<usize> = keys.iter().map(|key| self.key(key)).collect();
        for key in &numbers {
            self.keys[*key].1.insert(number);
        }
        let id = oid(0x4E5, number as u64);
        self.by_oid.insert(id.clone(), number);
        self.revisions.push(Revision { oid: id, base, keys: numbers, patchset });
        number
    }

    fn key(&mut self, name: &str) -> usize {
        if let Some(found) = self.key_names.get(name) {
            return *found;
        }
        self.keys.push((name.to_owned(), Content::default()));
        self.key_names.insert(name.to_owned(), self.keys.len() - 1);
        self.keys.len() - 1
    }

    /// The revisions that come in with `revision`, and itself.
    fn brings(&self, revision: RevIx, into: &Content) -> Content {
        let mut new = self.revisions[revision].base.without(into);
        if !into.has(revision) {
            new.insert(revision);
        }
        new
    }

    /// What `content` becomes with `revision`, or in which places they contradict each other.
    pub fn merge(&self, content: &Content, revision: RevIx) -> Result<Content, Vec<String>> {
        let new = self.brings(revision, content);
        let mut conflicts = Vec::new();
        for number in new.iter() {
            let fresh = &self.revisions[number];
            let unseen = content.without(&fresh.base);
            let clash = |key: &&usize| self.keys[**key].1.meets(&unseen);
            conflicts.extend(fresh.keys.iter().filter(clash).map(|key| self.keys[*key].0.clone()));
        }
        if !conflicts.is_empty() {
            conflicts.sort();
            conflicts.dedup();
            return Err(conflicts);
        }
        let mut with = content.clone();
        with.extend(&new);
        Ok(with)
    }

    /// A speculative state of `changes` on `ahead`.
    pub fn speculate(
        &mut self,
        ahead: &Speculation,
        changes: &[ToMerge],
    ) -> Result<(Speculation, Merged), MergeFailure> {
        let mut state = ahead.clone();
        let mut moved: Vec<Moved> = Vec::new();
        for change in changes {
            let branch = self.branch(&change.project, &change.branch);
            let Some(revision) = self.revision(&change.revision) else {
                return Err(MergeFailure::Infrastructure {
                    project: change.project.clone(),
                    why: format!("there is no commit {}", change.revision),
                });
            };
            let at = state.spots.iter().position(|spot| spot.branch == branch).unwrap_or_else(|| {
                let real = &self.branches[branch];
                state.spots.push(Spot {
                    branch,
                    root: real.content.clone(),
                    content: real.content.clone(),
                    tip: real.tip.clone(),
                });
                state.spots.len() - 1
            });
            let content = self
                .merge(&state.spots[at].content, revision)
                .map_err(|paths| MergeFailure::Conflict { change: change.patchset.clone(), paths })?;
            let base = state.spots[at].tip.clone();
            let commit = self.commit(branch, &content, revision as u64 + 1);
            let tip = Tip { commit, tree: Self::tree(branch, &content) };
            state.spots[at].content = content;
            state.spots[at].tip = tip.clone();
            moved.push(Moved { project: change.project.clone(), branch: change.branch.clone(), base, tip });
        }
        Ok((state, Merged { moved }))
    }

    /// The branch holds `content` now, by a commit of its own.
    pub fn set(&mut self, branch: BranchIx, content: Content) -> Tip {
        let tip = Tip { commit: self.commit(branch, &content, 0xF), tree: Self::tree(branch, &content) };
        self.branches[branch].content = content;
        self.branches[branch].tip = tip.clone();
        tip
    }

    /// The branch stands at this commit now.
    pub fn push(&mut self, branch: BranchIx, commit: &Oid) -> Option<Tip> {
        let (_, content) = self.commits.get(commit)?.clone();
        let tip = Tip { commit: commit.clone(), tree: Self::tree(branch, &content) };
        self.branches[branch].content = content;
        self.branches[branch].tip = tip.clone();
        Some(tip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_engine::gate::config::MergeMode;
    use assay_engine::gate::ids::ChangeId;

    fn change(git: &mut Git, number: u64, base: Content, keys: &[&str]) -> ToMerge {
        let patchset = Patchset { change: ChangeId { source: "gerrit".into(), number }, patchset: 1 };
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let revision = git.upload(base, &keys, Some(patchset.clone()));
        ToMerge {
            patchset,
            project: "p".into(),
            branch: "master".into(),
            revision: git.revisions[revision].oid.clone(),
            fetch_ref: String::new(),
            mode: MergeMode::Merge,
        }
    }

    #[test]
    fn equal_content_is_an_equal_tree_and_keys_contradict() {
        let mut git = Git::default();
        let a = change(&mut git, 1, Content::default(), &["x"]);
        let b = change(&mut git, 2, Content::default(), &["y"]);
        let c = change(&mut git, 3, Content::default(), &["x"]);
        let on_a = change(&mut git, 4, [0].into_iter().collect(), &["x"]);
        let none = Speculation::default();
        let (with_a, _) = git.speculate(&none, std::slice::from_ref(&a)).expect("merges");
        let (_, ab) = git.speculate(&with_a, std::slice::from_ref(&b)).expect("merges");
        let (_, ba) = git.speculate(&none, &[b, a.clone()]).expect("merges");
        assert_eq!(ab.moved[0].tip.tree, ba.moved[1].tip.tree);
        assert_ne!(ab.moved[0].tip.commit, ba.moved[1].tip.commit);
        assert_eq!((ba.moved.len(), &ba.moved[1].base), (2, &ba.moved[0].tip));
        assert_eq!(ba.moved[0].base, git.branches[0].tip);
        let refused = git.speculate(&with_a, &[c]);
        assert!(matches!(refused, Err(MergeFailure::Conflict { paths, .. }) if paths == ["x"]));
        // A revision brings what it stands on, and does not contradict that.
        assert!(git.speculate(&with_a, std::slice::from_ref(&on_a)).is_ok());
        let (alone, _) = git.speculate(&none, &[on_a]).expect("merges");
        assert!(alone.content().has(0));
    }
}
