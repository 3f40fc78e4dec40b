//! Speculative states: what every branch would be if the items ahead had landed.

use crate::name::{BranchName, CommitId, ProjectName, TreeId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The end of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tip {
    /// The commit.
    pub commit: CommitId,
    /// Its tree.
    pub tree: TreeId,
}

type Tips = Arc<BTreeMap<(ProjectName, BranchName), Tip>>;

/// Where each branch stands. Cloning is cheap; what a merge moves is copied, what lies below is shared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The branches as they are.
    base: Tips,
    /// Those that items ahead have moved.
    moved: Tips,
}

impl State {
    /// A state in which nothing is ahead.
    pub fn new(tips: impl IntoIterator<Item = ((ProjectName, BranchName), Tip)>) -> Self {
        Self { base: Arc::new(tips.into_iter().collect()), moved: Tips::default() }
    }

    /// Where a branch stands.
    pub fn tip(&self, project: &ProjectName, branch: &BranchName) -> Option<Tip> {
        let key = (project.clone(), branch.clone());
        self.moved.get(&key).or_else(|| self.base.get(&key)).copied()
    }

    /// Where a branch stood before the first item.
    pub fn base_tip(&self, project: &ProjectName, branch: &BranchName) -> Option<Tip> {
        self.base.get(&(project.clone(), branch.clone())).copied()
    }

    /// The branches that items have moved, with their new tips: what a speculative reference is made for.
    pub fn moved(&self) -> impl Iterator<Item = (&ProjectName, &BranchName, Tip)> {
        self.moved.iter().map(|((project, branch), tip)| (project, branch, *tip))
    }

    /// All branches with their tips.
    pub fn iter(&self) -> impl Iterator<Item = (&ProjectName, &BranchName, Tip)> {
        let below = self.base.iter().filter(|(key, _)| !self.moved.contains_key(*key));
        below.chain(self.moved.iter()).map(|((project, branch), tip)| (project, branch, *tip))
    }

    /// The same state with one more branch below it, where that was not known when the queue began.
    #[must_use]
    pub fn with_base(mut self, project: ProjectName, branch: BranchName, tip: Tip) -> Self {
        Arc::make_mut(&mut self.base).insert((project, branch), tip);
        self
    }

    /// The same state with a branch moved.
    #[must_use]
    pub fn with(mut self, project: &ProjectName, branch: &BranchName, tip: Tip) -> Self {
        Arc::make_mut(&mut self.moved).insert((project.clone(), branch.clone()), tip);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_moved_hides_what_lies_below() {
        let tip = |digit: &str| {
            let hex = digit.repeat(40);
            Tip { commit: hex.parse().expect("an id"), tree: hex.parse().expect("an id") }
        };
        let (a, b): (ProjectName, ProjectName) = ("a".parse().expect("a name"), "b".parse().expect("a name"));
        let main: BranchName = "main".parse().expect("a name");
        let base = State::new([((a.clone(), main.clone()), tip("1"))]);
        let state = base.clone().with(&a, &main, tip("2")).with_base(b.clone(), main.clone(), tip("3"));
        assert_eq!((state.tip(&a, &main), state.base_tip(&a, &main)), (Some(tip("2")), Some(tip("1"))));
        assert_eq!(state.moved().count(), 1);
        let mut all: Vec<_> = state.iter().map(|(project, _, tip)| (project.as_str(), tip)).collect();
        all.sort_by_key(|(project, _)| *project);
        assert_eq!(all, [("a", tip("2")), ("b", tip("3"))]);
        assert_eq!((base.tip(&a, &main), base.tip(&b, &main)), (Some(tip("1")), None));
    }
}
