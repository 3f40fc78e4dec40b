//! What goes into the gate and what comes out of it.

use super::change::{Account, ChangeFacts, RefUpdate, Subject};
use super::config::{Config, EventKind, LandingWay, MergeMode, Precedence, ReportAction};
use super::ids::{
    BranchName, ChangeId, ItemId, JobName, MergeId, Oid, Patchset, PipelineName, ProjectName, QueueName,
    SourceName, Uuid,
};
use super::item::Runner;
use super::reason::{Ignored, Refusal};
use super::rows::GateRow;
use crate::ids::Timestamp;
use crate::outcome::OutcomeClass;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Something that happened, or an answer to an [`Effect`]. Answers to what nobody waits for any more change nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A new configuration.
    Configure(Arc<Config>),
    /// Something happened at a source, with what the source says of everything concerned.
    Event(Box<Event>),
    /// What a source says now: the answer to [`Effect::Refresh`], and what a resynchronisation found.
    Facts(Vec<ChangeFacts>),
    /// A speculative state is made, or cannot be.
    Merged {
        /// Which.
        merge: MergeId,
        /// What came of it.
        result: Result<Merged, MergeFailure>,
    },
    /// A worker has begun a build.
    BuildStarted {
        /// Which.
        build: Uuid,
        /// When.
        at: Timestamp,
        /// Who, if that is known.
        by: Option<Runner>,
    },
    /// A build has ended.
    BuildEnded {
        /// Which.
        build: Uuid,
        /// How.
        result: BuildResult,
    },
    /// A landing has come to an end.
    Landed {
        /// Whose.
        item: ItemId,
        /// How.
        result: LandResult,
    },
    /// An operator wants something.
    Command {
        /// What.
        command: Command,
        /// Who.
        by: String,
    },
    /// Time has passed. Also the first input after a rebuild.
    Tick,
}

/// Something that happened at a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Where.
    pub source: SourceName,
    /// What.
    pub kind: EventKind,
    /// The patchset concerned; none for refs and timers.
    pub change: Option<Patchset>,
    /// The ref that moved.
    pub ref_update: Option<RefUpdate>,
    /// Timer only: the project, and the cron line that is due.
    pub timer: Option<(ProjectName, String)>,
    /// Who caused it.
    pub by: Account,
    /// The comment.
    pub comment: Option<String>,
    /// The votes that the event carries.
    pub approvals: Vec<(String, i32)>,
    /// `parent-change-enqueued` only: where.
    pub pipeline: Option<PipelineName>,
    /// Facts about the change, about what it needs and what needs it, as far as the source knows.
    pub facts: Vec<ChangeFacts>,
}

impl Event {
    /// An event with nothing but its kind.
    pub fn new(source: SourceName, kind: EventKind) -> Self {
        Self {
            source,
            kind,
            change: None,
            ref_update: None,
            timer: None,
            by: Account::default(),
            comment: None,
            approvals: Vec::new(),
            pipeline: None,
            facts: Vec::new(),
        }
    }
}

/// A commit and its tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tip {
    /// The commit.
    pub commit: Oid,
    /// Its tree.
    pub tree: Oid,
}

/// A branch of a speculative state that this item's own changes moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The project.
    pub project: ProjectName,
    /// The branch.
    pub branch: BranchName,
    /// Where it stood below this item: on the item ahead, or at the branch's real tip.
    pub base: Tip,
    /// Where it stands with it.
    pub tip: Tip,
}

/// A speculative state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merged {
    /// What its own changes (and for independent pipelines those below them) moved, in order; the last is the
    /// subject's own project.
    pub moved: Vec<Moved>,
}

/// Why a speculative state cannot be made. `Display` is a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "merge_failure", rename_all = "snake_case")]
pub enum MergeFailure {
    /// Changes contradict each other.
    #[error("{change} does not merge: conflict in {}", paths.join(", "))]
    Conflict {
        /// The change that did not fit.
        change: Patchset,
        /// Where; not all if there are many.
        paths: Vec<String>,
    },
    /// The way the project is merged does not allow it.
    #[error("{change} cannot be merged: {why}")]
    NotAllowed {
        /// The change.
        change: Patchset,
        /// Why, with the remedy.
        why: String,
    },
    /// Repository, network or disk: says nothing about the change.
    #[error("{project} cannot be fetched or merged now: {why}")]
    Infrastructure {
        /// The project.
        project: ProjectName,
        /// Why, with the remedy.
        why: String,
    },
}

/// How a build ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildResult {
    /// Zuul's and Jenkins's word: `SUCCESS`, `FAILURE`, `TIMED_OUT`, `LOST`…; only `SUCCESS` passes.
    pub word: String,
    /// Who has to look at it. Infrastructure is tried again.
    pub class: OutcomeClass,
    /// One sentence; none for a success.
    pub reason: Option<String>,
}

impl BuildResult {
    /// The word that passes.
    pub const SUCCESS: &'static str = "SUCCESS";

    /// The word for a job that is not defined.
    pub const NOT_REGISTERED: &'static str = "NOT_REGISTERED";

    /// A success.
    pub fn success() -> Self {
        Self { word: Self::SUCCESS.to_owned(), class: OutcomeClass::Product, reason: None }
    }

    /// The product failed its test.
    pub fn failure() -> Self {
        Self { word: "FAILURE".to_owned(), class: OutcomeClass::Product, reason: None }
    }

    /// The infrastructure failed.
    pub fn lost(reason: &str) -> Self {
        Self { word: "LOST".to_owned(), class: OutcomeClass::Infrastructure, reason: Some(reason.to_owned()) }
    }

    /// The job never ran: nothing says what it does, or what is said cannot be done. That is no fault of the change.
    pub fn not_registered(reason: String) -> Self {
        Self { word: Self::NOT_REGISTERED.to_owned(), class: OutcomeClass::Policy, reason: Some(reason) }
    }

    /// True if nothing says what the job does.
    pub fn is_not_registered(&self) -> bool {
        self.word == Self::NOT_REGISTERED
    }

    /// True if it passed.
    pub fn is_success(&self) -> bool {
        self.word == Self::SUCCESS
    }
}

/// How a landing ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "landing", rename_all = "snake_case")]
pub enum LandResult {
    /// Every member is in its branch, and each tip's tree is the tested one.
    Landed {
        /// The tips afterwards, in the order of the request's members.
        tips: Vec<Tip>,
    },
    /// Nothing was done: a branch no longer stands where it was tested.
    BaseMoved {
        /// The project.
        project: ProjectName,
        /// The branch.
        branch: BranchName,
        /// Where it stands.
        found: Tip,
    },
    /// Nothing was done: the source refuses.
    Refused {
        /// What it said.
        why: String,
    },
    /// A branch moved to a tree that nobody tested. The alarm.
    TreeMismatch {
        /// The project.
        project: ProjectName,
        /// The branch.
        branch: BranchName,
        /// Where it stands.
        found: Tip,
        /// Those that are in as they were tested.
        landed: Vec<InBranch>,
    },
    /// Some members are in, one is refused.
    Partial {
        /// Those that are in.
        landed: Vec<InBranch>,
        /// The one that is not.
        refused: Patchset,
        /// What the source said.
        why: String,
    },
}

/// A change that is in its branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InBranch {
    /// Which.
    pub patchset: Patchset,
    /// The project.
    pub project: ProjectName,
    /// The branch.
    pub branch: BranchName,
    /// The branch's tip right after it went in.
    pub tip: Tip,
}

/// What an operator can want.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Let a change into a pipeline whatever its triggers and requirements.
    Enqueue {
        /// The pipeline.
        pipeline: PipelineName,
        /// The change.
        patchset: Patchset,
        /// See [`Event::facts`].
        facts: Vec<ChangeFacts>,
    },
    /// Let a ref into a pipeline.
    EnqueueRef {
        /// The pipeline.
        pipeline: PipelineName,
        /// The ref.
        update: RefUpdate,
    },
    /// Take a change out.
    Dequeue {
        /// The pipeline.
        pipeline: PipelineName,
        /// The change.
        change: ChangeId,
    },
    /// Take a change out even while it is being landed, because its landing does not end; its queue is held then.
    EndLanding {
        /// The pipeline.
        pipeline: PipelineName,
        /// The change.
        change: ChangeId,
    },
    /// Put changes at the head of their queue, in this order.
    Promote {
        /// The pipeline.
        pipeline: PipelineName,
        /// The changes.
        changes: Vec<ChangeId>,
    },
    /// Keep the workspace of the next failures of a job.
    Autohold {
        /// The project.
        project: ProjectName,
        /// The job.
        job: JobName,
        /// Of this change only.
        change: Option<ChangeId>,
        /// How many.
        count: u32,
        /// For people.
        reason: String,
    },
    /// No longer.
    AutoholdDelete {
        /// Its number.
        id: i64,
    },
    /// Let a held queue land again.
    Release {
        /// The pipeline.
        pipeline: PipelineName,
        /// The queue.
        queue: QueueName,
    },
    /// Hold a queue: it tests, and lands nothing.
    Hold {
        /// The pipeline.
        pipeline: PipelineName,
        /// The queue.
        queue: QueueName,
        /// For people.
        reason: String,
    },
}

/// What a step leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// For whoever sent the input.
    pub answer: Result<Answer, Refusal>,
    /// What to do, in order; rows first.
    pub effects: Vec<Effect>,
}

/// What the sender of an input hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Taken.
    Done,
    /// What came of an event in each pipeline that knows its project: an item, or why not.
    Event(Vec<(PipelineName, Result<ItemId, Ignored>)>),
    /// The autohold has this number.
    Autohold(i64),
}

/// Something to do after a step. Each may be repeated after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Store this row.
    Save(Box<GateRow>),
    /// For the merger.
    Merge(Merge),
    /// Run this.
    StartBuild(Box<BuildRequest>),
    /// Stop this; nobody wants its result.
    CancelBuild(Uuid),
    /// Tell this, once.
    Report(Box<Report>),
    /// Land this.
    Land(Box<LandRequest>),
    /// Ask the source about these changes.
    Refresh(Vec<ChangeId>),
    /// A change has merged: every other open change of its project comes back as an event
    /// [`EventKind::ProjectChangeMerged`] of the source `zuul`.
    Offer {
        /// The change that has merged.
        merged: Patchset,
        /// Its project.
        project: ProjectName,
    },
    /// Pages want to know.
    Changed(PipelineName),
}

/// For the merger. What it hears about one queue is in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merge {
    /// Merge these.
    Make(MergeRequest),
    /// A state that was made before a restart.
    Adopt {
        /// Which.
        merge: MergeId,
        /// On which it stands.
        ahead: Option<MergeId>,
        /// What it is.
        merged: Merged,
        /// Its identity.
        identity: Uuid,
    },
    /// Nobody needs this any more.
    Forget(MergeId),
}

/// A speculative state to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeRequest {
    /// Which.
    pub merge: MergeId,
    /// The state below it; none for the branches as they are. It may still be in the making, and may fail: then this
    /// one needs no answer.
    pub ahead: Option<MergeId>,
    /// The name of its refs.
    pub identity: Uuid,
    /// What to merge, in order.
    pub changes: Vec<ToMerge>,
}

/// A change to merge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToMerge {
    /// Which.
    pub patchset: Patchset,
    /// Its project.
    pub project: ProjectName,
    /// Its branch.
    pub branch: BranchName,
    /// Its commit.
    pub revision: Oid,
    /// Where it is fetched from.
    pub fetch_ref: String,
    /// How.
    pub mode: MergeMode,
}

/// A build to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRequest {
    /// Its identity.
    pub uuid: Uuid,
    /// For which item.
    pub item: ItemId,
    /// The job.
    pub job: Arc<super::config::JobDef>,
    /// Who goes first.
    pub precedence: Precedence,
    /// The pipeline.
    pub pipeline: PipelineName,
    /// Zuul's parameters (§3.1 of the reference): `ZUUL_*`, `BASE_LOG_PATH`, `LOG_PATH`.
    pub params: BTreeMap<String, String>,
    /// The changes in the tree, ahead first, own last.
    pub changes: Vec<Patchset>,
    /// Keep the workspace if it fails, and why.
    pub hold: Option<String>,
}

/// A telling, kept until it is delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The item and a running number: a report with the same id is the same report.
    pub id: (ItemId, u32),
    /// What about.
    pub about: Subject,
    /// Its project.
    pub project: ProjectName,
    /// In which pipeline.
    pub pipeline: PipelineName,
    /// How.
    pub action: ReportAction,
    /// The text.
    pub message: String,
}

/// Changes to land together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandRequest {
    /// Whose.
    pub item: ItemId,
    /// Which speculative state.
    pub merge: MergeId,
    /// How.
    pub way: LandingWay,
    /// What, in order.
    pub members: Vec<Landing>,
    /// The votes and words that go with it.
    pub reports: Vec<Report>,
}

/// A change to land.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landing {
    /// Which.
    pub patchset: Patchset,
    /// Its commit.
    pub revision: Oid,
    /// The project.
    pub project: ProjectName,
    /// The branch.
    pub branch: BranchName,
    /// Where the branch must stand.
    pub base: Tip,
    /// What was tested.
    pub tested: Tip,
}

/// When something is due, for tests and drivers.
pub type Due = Option<Timestamp>;
