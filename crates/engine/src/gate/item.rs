//! An item of a pipeline: what is under test, its buildset, its builds, and how it ends.

use super::change::Subject;
use super::ids::{
    BranchName, ItemId, JobName, MergeId, Oid, Patchset, PipelineName, ProjectName, QueueName, Uuid,
};
use super::io::{BuildResult, LandRequest, MergeFailure, Merged, ToMerge};
use super::reason::{EvictReason, FailReason};
use crate::ids::{JobId, Timestamp, WorkerName};
use serde::{Deserialize, Serialize};

/// An item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its number; never used twice.
    pub id: ItemId,
    /// The pipeline.
    pub pipeline: PipelineName,
    /// The queue; of an independent pipeline each item has one of its own.
    pub queue: QueueName,
    /// Orders the items of a queue; the item's number, until somebody promotes.
    pub position: i64,
    /// What it is about.
    pub subject: Subject,
    /// The subject's project.
    pub project: ProjectName,
    /// The subject's branch or ref; empty for timers.
    pub branch: BranchName,
    /// Its changes, landed together: one, or the members of a cycle. None for refs and timers.
    pub changes: Vec<ItemChange>,
    /// Changes that are merged below it only for its sake (independent pipelines), in order.
    pub below: Vec<ItemChange>,
    /// The unmerged changes that it needs, each of which is in an item ahead.
    pub needs: Vec<Patchset>,
    /// What it needed and is in its branch since: its source may go on calling that open for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub met: Vec<Patchset>,
    /// It was let in because it fulfils what its pipeline requires, and stays only as long as it does. Not so what a
    /// person let in by hand.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
    /// The item that it is tested on.
    pub ahead: Option<ItemId>,
    /// When it was let in.
    pub enqueued_at: Timestamp,
    /// Who or what let it in.
    pub because: String,
    /// What is being tested, numbered anew whenever it stands on something else.
    pub buildset: Buildset,
    /// How far its landing is.
    pub phase: ItemPhase,
    /// Reports made so far; numbers the next.
    pub reports: u32,
}

/// A change of an item with what is needed to merge and report it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemChange {
    /// What to merge.
    pub merge: ToMerge,
    /// Changed files; none if unknown.
    pub files: Option<Vec<String>>,
    /// First line of the message.
    pub subject: String,
    /// Where people see it.
    pub url: Option<String>,
    /// The owner's name.
    pub owner: String,
    /// The `I…` id.
    pub change_id: Option<String>,
}

/// One state under test and its jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buildset {
    /// From 1.
    pub number: u32,
    /// The name of its refs.
    pub identity: Uuid,
    /// The state that it was merged on, if an item was ahead then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<MergeId>,
    /// Its speculative state.
    pub state: MergeState,
    /// Since when it is in that state.
    #[serde(default)]
    pub since: Timestamp,
    /// How often the infrastructure failed to make it.
    pub merge_tries: u32,
    /// Its jobs in the order of the report; empty until the state is there.
    pub jobs: Vec<ItemJob>,
    /// Why it is new: what made the one before worthless.
    pub because: Option<super::reason::ResetReason>,
}

/// How far a speculative state is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum MergeState {
    /// Not asked for yet.
    Waiting,
    /// The merger has it.
    Asked,
    /// It is there.
    Done(Merged),
    /// Refs and timers need none.
    NotNeeded {
        /// What is tested; none for a timer.
        commit: Option<Oid>,
    },
    /// It cannot be made.
    Failed(MergeFailure),
    /// The infrastructure failed it; tried again at the time.
    Backoff {
        /// When.
        until: Timestamp,
        /// What went wrong last.
        why: MergeFailure,
    },
}

/// A job of a buildset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemJob {
    /// The job.
    pub job: JobName,
    /// Its failure fails the item. Frozen with the buildset.
    pub voting: bool,
    /// The job in the list that must succeed first.
    pub parent: Option<usize>,
    /// How far it is.
    pub state: JobState,
    /// Runs that the infrastructure failed.
    pub lost: Vec<Build>,
}

/// One run of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Its identity.
    pub uuid: Uuid,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// When a worker began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub result: Option<BuildResult>,
    /// What carries it out, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<Runner>,
}

/// What carries a build out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runner {
    /// The job that it is.
    pub job: JobId,
    /// Who runs it.
    pub worker: WorkerName,
}

/// How far a job of a buildset is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum JobState {
    /// Not started; why is derived.
    Waiting,
    /// Asked for.
    Running(Build),
    /// Ended, by the product, the test, or a policy.
    Ended(Build),
    /// Its result on the very same trees stands for it.
    Reused {
        /// The build that gave it.
        build: Build,
    },
    /// It will not run: the job above it did not succeed, or there is no state to run on.
    Skipped,
    /// The infrastructure failed it too often; tried again at the time.
    Backoff {
        /// When.
        until: Timestamp,
        /// How often it has come to this.
        rounds: u32,
    },
}

/// How far an item is on its way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum ItemPhase {
    /// Being tested.
    Testing,
    /// Passed, and being landed. The intent.
    Landing {
        /// What was asked for.
        request: Box<LandRequest>,
        /// Since when.
        since: Timestamp,
    },
    /// Out. Final.
    Ended(ItemEnd),
}

/// How an item ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemEnd {
    /// How.
    pub outcome: ItemOutcome,
    /// When.
    pub at: Timestamp,
    /// Why it failed, if it did.
    pub failures: Vec<FailReason>,
}

/// How an item ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum ItemOutcome {
    /// In its branch.
    Landed {
        /// The tips afterwards.
        tips: Vec<super::io::Tip>,
    },
    /// All voting jobs passed; nothing to land.
    Passed,
    /// It failed.
    Failed,
    /// It was never let in.
    Refused {
        /// Why.
        reason: super::reason::EnqueueRefusal,
    },
    /// It was taken out.
    Evicted {
        /// Why.
        reason: EvictReason,
    },
}

impl Buildset {
    /// Goes on to another state.
    pub(super) fn enter(&mut self, state: MergeState, now: Timestamp) {
        self.state = state;
        self.since = now;
    }
}

impl Item {
    /// The state that it is or will be tested on.
    pub fn merge_id(&self) -> MergeId {
        MergeId { item: self.id, buildset: self.buildset.number }
    }

    /// True if it has this change, whatever the patchset.
    pub fn has_change(&self, change: &super::ids::ChangeId) -> bool {
        self.changes.iter().any(|own| own.merge.patchset.change == *change)
    }

    /// True while it is in its queue.
    pub fn is_live(&self) -> bool {
        !matches!(self.phase, ItemPhase::Ended(_))
    }
}

impl JobState {
    /// The result once there is one.
    pub fn result(&self) -> Option<&BuildResult> {
        self.build().and_then(|build| build.result.as_ref())
    }

    /// The run that counts.
    pub fn build(&self) -> Option<&Build> {
        match self {
            Self::Running(build) | Self::Ended(build) | Self::Reused { build } => Some(build),
            Self::Waiting | Self::Skipped | Self::Backoff { .. } => None,
        }
    }

    /// True if it will not change any more.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Ended(_) | Self::Reused { .. } | Self::Skipped)
    }

    /// True if it ended with a success.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Ended(_) | Self::Reused { .. })
            && self.result().is_some_and(BuildResult::is_success)
    }
}
