//! What the gate's loops need of the rest of the world, so that each can be tested without it.

use assay_engine::gate::change::{ChangeFacts, ChangeStatus};
use assay_engine::gate::ids::{BranchName, ChangeId, ItemId, Oid, Patchset, ProjectName, SourceName};
use assay_engine::gate::io::{Answer, Input, Landing, Report, Tip};
use assay_store::EventId;
use std::collections::BTreeSet;

/// Why an input could not be given to the gate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Undecided {
    /// The server ends; the next one deals with it.
    #[error("the server is stopping")]
    Stopping,
    /// The gate refuses it, or fails over it.
    #[error("{0}")]
    Refused(String),
}

/// The event of the inbox that an input deals with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Consumes {
    pub(crate) event: EventId,
    /// The event with what was known when it was dealt with, for those who look at history.
    pub(crate) body: Option<String>,
}

/// The way to the one that decides.
#[async_trait::async_trait]
pub(crate) trait Decider: Send + Sync {
    /// Gives the gate an input, again and again while the server has trouble with its store. What it decides is stored
    /// when this returns, and with it that the event is consumed.
    async fn decide(&self, input: Input, consumes: Option<Consumes>) -> Result<Answer, Undecided>;
}

/// Something did not work that has nothing to do with what was asked: to be tried again. One sentence with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Trouble(pub(crate) String);

/// Where branches stand, and the way to move them.
#[async_trait::async_trait]
pub(crate) trait Ground: Send + Sync {
    /// Where a branch stands now; none if there is no such branch.
    async fn look(&self, project: &ProjectName, branch: &BranchName) -> Result<Option<Tip>, Trouble>;

    /// The newest commit on the way to `tip`, first parents only, that has the tested tree and stands on the tree of the
    /// base, or is the revision itself; none if there is none among the latest thousand.
    async fn landed_as(&self, landing: &Landing, tip: &Tip) -> Result<Option<Tip>, Trouble>;

    /// The nearest commit below `commit`, first parents only, that has this tree.
    async fn below(&self, project: &ProjectName, commit: &Oid, tree: &Oid) -> Result<Option<Tip>, Trouble>;

    /// True if `commit` is `tip` or one of its ancestors.
    async fn contains(&self, project: &ProjectName, tip: &Oid, commit: &Oid) -> Result<bool, Trouble>;

    /// Looks whether these branches could be moved so, as far as that can be seen without moving any.
    async fn try_push(&self, project: &ProjectName, moves: &[Move]) -> Result<Pushed, Trouble>;

    /// Moves branches of one project together, each only from where it is expected.
    async fn push(&self, project: &ProjectName, moves: &[Move]) -> Result<Pushed, Trouble>;
}

/// What has been signed for.
#[async_trait::async_trait]
pub(crate) trait Ledger: Send + Sync {
    /// The item that landed a commit of a branch, if there is a receipt that says so.
    async fn signed_for(
        &self,
        project: &ProjectName,
        branch: &BranchName,
        commit: &Oid,
    ) -> Result<Option<ItemId>, Trouble>;
}

/// A branch to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) branch: BranchName,
    pub(crate) from: Oid,
    pub(crate) to: Oid,
}

/// What came of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// The branches stand where they should.
    Done,
    /// A branch stood elsewhere; nothing moved.
    Stale,
    /// The other side does not want it; nothing moved.
    Rejected(String),
    /// Nobody knows.
    InDoubt(String),
}

/// What a source says of a change, for its landing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) status: ChangeStatus,
    /// The newest patchset.
    pub(crate) patchset: u32,
}

/// What came of a submit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Submitted {
    /// It says that it is merged.
    Done,
    /// It does not want it.
    Refused(String),
    /// Nobody knows.
    InDoubt(String),
}

pub(crate) use assay_connect::report::Told;

/// What a source says of changes.
#[async_trait::async_trait]
pub(crate) trait Facts: Send + Sync {
    /// A change, what it needs and what needs it, as far as the source knows; empty if it does not know the change.
    async fn facts(&self, change: &ChangeId) -> Result<Vec<ChangeFacts>, Trouble>;

    /// The open changes of a project, each with its newest patchset.
    async fn open(&self, source: &SourceName, project: &ProjectName) -> Result<Vec<Patchset>, Trouble>;
}

/// Where changes are reviewed.
#[async_trait::async_trait]
pub(crate) trait Reviews: Send + Sync {
    /// Where a change stands; none if the source does not know it.
    async fn standing(&self, change: &ChangeId) -> Result<Option<Standing>, Trouble>;

    /// What speaks against a submit of this patchset, if its source knows of anything. With `merge`, also whether it can
    /// be merged into its branch as that is now. Labels that are `granted` are about to be given.
    async fn would_refuse(
        &self,
        patchset: &Patchset,
        merge: bool,
        granted: &BTreeSet<String>,
    ) -> Result<Option<String>, Trouble>;

    /// Asks for this very revision to be merged.
    async fn submit(&self, patchset: &Patchset, revision: &Oid) -> Submitted;

    /// True if the votes of a report are there now, by our hand.
    async fn stands(&self, report: &Report) -> Result<bool, Trouble>;

    /// Tells a report. With `look`, it may have been told already, and then is not told again.
    async fn tell(&self, report: &Report, look: bool) -> Told;
}
