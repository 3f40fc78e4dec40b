//! Why something waits, was refused, was reset or taken out. `Display` is a sentence for people.

use super::ids::{
    BranchName, ChangeId, ItemId, JobName, Patchset, PipelineName, ProjectName, QueueName, SemaphoreName,
};
use super::io::{InBranch, MergeFailure};
use crate::ids::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Why an event did not let anything into a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "ignored", rename_all = "snake_case")]
pub enum Ignored {
    /// No trigger matches the event; what kept the nearest one from matching.
    #[error("no trigger of the pipeline matches: {nearest}")]
    NoTrigger {
        /// The first thing that did not fit.
        nearest: String,
        /// That trigger listens to events of this kind.
        #[serde(default)]
        listens: bool,
    },
    /// The change was refused.
    #[error("{0}")]
    Refused(#[from] EnqueueRefusal),
    /// It is there already.
    #[error("it is in the pipeline already, as item {item}")]
    AlreadyThere {
        /// The item.
        item: ItemId,
    },
}

/// Why a change cannot be in a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "refused", rename_all = "snake_case")]
pub enum EnqueueRefusal {
    /// The project has no jobs there.
    #[error(
        "project {project} has no jobs in pipeline {pipeline}; add some to its entry in the configuration"
    )]
    NoJobsConfigured {
        /// The project.
        project: ProjectName,
        /// The pipeline.
        pipeline: PipelineName,
    },
    /// Every job was filtered away.
    #[error(
        "no job of pipeline {pipeline} applies to {change}: files, branch or skip-if leave none, so nothing would be \
         tested; let a job (noop, if need be) apply to it"
    )]
    NoJobsApply {
        /// The change.
        change: Patchset,
        /// The pipeline.
        pipeline: PipelineName,
    },
    /// Every job was filtered away from a ref or a time.
    #[error("no job of pipeline {pipeline} applies to {what}: the branches of its jobs leave none")]
    NoJobsForRef {
        /// The ref or the time.
        what: String,
        /// The pipeline.
        pipeline: PipelineName,
    },
    /// A ref or a time in a pipeline that lands changes.
    #[error(
        "pipeline {pipeline} lands changes, and there is no change to land; use a pipeline with another manager"
    )]
    NothingToLand {
        /// The pipeline.
        pipeline: PipelineName,
    },
    /// A requirement does not hold.
    #[error("{what}")]
    Requirement {
        /// Which, and what it looks for.
        what: String,
    },
    /// The source would not merge it.
    #[error("{change} cannot be merged yet: {what}")]
    NotSubmittable {
        /// The change.
        change: Patchset,
        /// What is missing.
        what: String,
    },
    /// It is not open any more.
    #[error("{change} is {status}")]
    Closed {
        /// The change.
        change: Patchset,
        /// The source's word.
        status: String,
    },
    /// It is not the newest patchset.
    #[error("{patchset} is not the newest patchset; {current} is")]
    NotCurrent {
        /// What was asked for.
        patchset: Patchset,
        /// The newest.
        current: u32,
    },
    /// It needs a change of an other queue.
    #[error(
        "{change} needs {needed} of project {project}, which does not share a change queue with it in pipeline \
         {pipeline}; merge {needed} first, or put both projects into one queue"
    )]
    OtherQueue {
        /// The change.
        change: Patchset,
        /// What it needs.
        needed: Patchset,
        /// Whose that is.
        project: ProjectName,
        /// The pipeline.
        pipeline: PipelineName,
    },
    /// It needs an old patchset.
    #[error("{change} stands on {needed}, which is not the newest patchset (that is {current}); rebase it")]
    OutdatedNeed {
        /// The change.
        change: Patchset,
        /// What it needs.
        needed: Patchset,
        /// The newest.
        current: u32,
    },
    /// What it needs cannot be in the pipeline.
    #[error("{change} needs {needed}, and {why}")]
    Needed {
        /// The change.
        change: Patchset,
        /// What it needs.
        needed: Patchset,
        /// Why that cannot be.
        why: Box<EnqueueRefusal>,
    },
    /// What it needs is not known to the source.
    #[error("{change} depends on {what}, which the source does not know; correct the footer")]
    UnknownNeed {
        /// The change.
        change: Patchset,
        /// The footer's value.
        what: String,
    },
    /// It needs itself.
    #[error(
        "changes need each other in a circle: {}; break it, or allow cycles for the queue",
        path.iter().map(ToString::to_string).collect::<Vec<_>>().join(" → ")
    )]
    Cycle {
        /// From the change back to itself.
        path: Vec<Patchset>,
    },
    /// The source said nothing of it.
    #[error("nothing is known of {change}; the source does not know it, or did not answer")]
    Unknown {
        /// The change.
        change: ChangeId,
    },
}

/// Why a command is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "refusal", rename_all = "snake_case")]
pub enum Refusal {
    /// No such pipeline.
    #[error("there is no pipeline {pipeline}{}", nearest(known.as_ref()))]
    NoSuchPipeline {
        /// What was asked for.
        pipeline: PipelineName,
        /// The most similar.
        known: Option<PipelineName>,
    },
    /// No such queue.
    #[error("pipeline {pipeline} has no queue {queue} with items in it")]
    NoSuchQueue {
        /// The pipeline.
        pipeline: PipelineName,
        /// What was asked for.
        queue: QueueName,
    },
    /// The change is not there.
    #[error("change {change} is not in pipeline {pipeline}")]
    NotThere {
        /// The change.
        change: ChangeId,
        /// The pipeline.
        pipeline: PipelineName,
    },
    /// The changes to promote do not share a queue.
    #[error("changes to promote must share a queue; {change} is in another one than the first")]
    NotOneQueue {
        /// The first that does not.
        change: ChangeId,
    },
    /// The change cannot be in the pipeline.
    #[error("{0}")]
    Refused(#[from] EnqueueRefusal),
    /// It is in already.
    #[error("it is in the pipeline already, as item {item}")]
    AlreadyThere {
        /// The item.
        item: ItemId,
    },
    /// It is being landed.
    #[error(
        "{change} is being landed at this moment; wait for the end of it, or end it by force (assay pipeline dequeue --force)"
    )]
    BeingLanded {
        /// The change.
        change: ChangeId,
    },
    /// No such autohold.
    #[error("there is no autohold {id}")]
    NoSuchAutohold {
        /// What was asked for.
        id: i64,
    },
    /// The queue is not held.
    #[error("queue {queue} is not held")]
    NotHeld {
        /// The queue.
        queue: QueueName,
    },
}

fn nearest(known: Option<&PipelineName>) -> String {
    known.map_or_else(String::new, |known| format!("; the nearest is {known}"))
}

/// Why an item is failing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "fails", rename_all = "snake_case")]
pub enum FailReason {
    /// The jobs that failed.
    #[error("at least one job failed")]
    JobFailed {
        /// Which.
        jobs: Vec<JobName>,
    },
    /// It does not merge.
    #[error("it has a merge conflict")]
    Merge(MergeFailure),
    /// What it needs is failing.
    #[error("a needed change is failing")]
    NeededFailing {
        /// Which.
        needed: Vec<Patchset>,
    },
    /// The source did not merge it.
    #[error("it did not merge")]
    DidNotLand {
        /// What the source said.
        why: String,
    },
}

/// Why an item was taken out of its queue without a verdict on itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "evicted", rename_all = "snake_case")]
pub enum EvictReason {
    /// A newer patchset came.
    #[error("patchset {by} took its place")]
    Superseded {
        /// Its number.
        by: u32,
    },
    /// A newer item of the same branch waits (supercedent).
    #[error("item {by} is newer and tests the same branch")]
    Newer {
        /// Which.
        by: ItemId,
    },
    /// It was abandoned.
    #[error("the change was abandoned")]
    Abandoned,
    /// It merged without us.
    #[error("the change was merged by somebody else")]
    MergedElsewhere,
    /// A vote it needs is gone.
    #[error("{what}")]
    NotSubmittable {
        /// What is missing.
        what: String,
    },
    /// A vote that the pipeline requires is gone, or one that it rejects is there.
    #[error("it is not as the pipeline wants it any more: {what}")]
    RequirementLost {
        /// Which.
        what: String,
    },
    /// What it needs did not merge.
    #[error("it needs {needed}, which is not in the queue any more and did not merge")]
    NeedLost {
        /// Which.
        needed: Patchset,
    },
    /// Its needs changed.
    #[error("what it depends on has changed: {what}")]
    NeedsChanged {
        /// How.
        what: String,
    },
    /// The configuration no longer has jobs for it, or lost its pipeline.
    #[error("the configuration has no place for it any more: {what}")]
    Unconfigured {
        /// What is missing.
        what: String,
    },
    /// An operator took it out.
    #[error("{by} took it out")]
    Dequeued {
        /// Who.
        by: String,
    },
    /// It landed as something that was not tested.
    #[error("{project} {branch} stands at {found}, whose tree nobody tested")]
    TreeMismatch {
        /// The project.
        project: ProjectName,
        /// The branch.
        branch: BranchName,
        /// The commit.
        found: String,
    },
    /// Half of it landed.
    #[error("{refused} was refused after {} had landed: {why}", landed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Partial {
        /// Those in their branches.
        landed: Vec<Patchset>,
        /// The one that is not.
        refused: Patchset,
        /// What the source said.
        why: String,
    },
}

/// Why a buildset was thrown away for a new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reset", rename_all = "snake_case")]
pub enum ResetReason {
    /// The item that it stood on fails.
    #[error("{ahead} ahead of it fails")]
    AheadFailing {
        /// Which.
        ahead: String,
    },
    /// The item that it stood on was taken out.
    #[error("{ahead} ahead of it was taken out: {why}")]
    AheadLeft {
        /// Which.
        ahead: String,
        /// Why.
        why: String,
    },
    /// The item ahead got a new state itself.
    #[error("{ahead} ahead of it starts anew")]
    AheadReset {
        /// Which.
        ahead: String,
    },
    /// The branch moved.
    #[error("{project} {branch} moved to {found}, which the queue did not make")]
    BaseMoved {
        /// The project.
        project: ProjectName,
        /// The branch.
        branch: BranchName,
        /// Where to.
        found: String,
    },
    /// The configuration changed.
    #[error("the configuration has it tested in another way now")]
    Reconfigured,
    /// The order changed.
    #[error("{by} changed the order of the queue")]
    Promoted {
        /// Who.
        by: String,
    },
}

/// Why a queue lands nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "held", rename_all = "snake_case")]
pub enum HoldReason {
    /// A branch stands at a tree that nobody tested.
    #[error(
        "{change} landed, but {project} {branch} stands at {found}, whose tree is not the tested one; look at the \
         branch, then release the queue"
    )]
    TreeMismatch {
        /// The change.
        change: Patchset,
        /// The project.
        project: ProjectName,
        /// The branch.
        branch: BranchName,
        /// The commit found.
        found: String,
    },
    /// Half of a cycle landed.
    #[error(
        "{refused} was refused after {} had landed: {why}; revert what landed (assay pipeline reverts) or merge the rest, then release the queue",
        landed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    Partial {
        /// Those in their branches.
        landed: Vec<Patchset>,
        /// The same with the commits to revert, in the order in which they went in.
        #[serde(default)]
        commits: Vec<InBranch>,
        /// The one that is not.
        refused: Patchset,
        /// What the source said.
        why: String,
    },
    /// A landing was ended before it had come to its end.
    #[error(
        "{by} ended the landing of {change}, and nobody knows whether it is in its branch; look there, then release the \
         queue"
    )]
    Abandoned {
        /// The change.
        change: ChangeId,
        /// Who.
        by: String,
    },
    /// An operator wants it.
    #[error("{by} holds it: {reason}")]
    Operator {
        /// Who.
        by: String,
        /// For people.
        reason: String,
    },
}

/// Why an item or one of its jobs is not further, for `why`: since when, and what would release it. The first one is what
/// to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "waits", rename_all = "snake_case")]
pub enum Wait {
    /// Too far behind.
    #[error(
        "{ahead} items are ahead of it and the window is {window}; it starts when it is among the first {window}"
    )]
    Window {
        /// Its place, from 0.
        ahead: usize,
        /// The window.
        window: u32,
        /// Since when.
        since: Timestamp,
    },
    /// The merger works.
    #[error("its speculative state is being made; its jobs start when it is there")]
    Merging {
        /// Since when.
        since: Timestamp,
    },
    /// What it needs fails.
    #[error(
        "it needs {needed}, which is failing; it goes on when that passes after all, and leaves with it if not"
    )]
    NeedFailing {
        /// Which.
        needed: Patchset,
        /// Since when.
        since: Timestamp,
    },
    /// The state below it is not there.
    #[error("its speculative state is made when that of item {item} ahead is there")]
    StateAhead {
        /// Which.
        item: ItemId,
        /// Since when.
        since: Timestamp,
    },
    /// Repository, network or disk.
    #[error("its speculative state could not be made: {why}; the next try is due")]
    MergeBackoff {
        /// What went wrong.
        why: MergeFailure,
        /// Since when.
        since: Timestamp,
        /// When it is tried again.
        until: Timestamp,
    },
    /// A worker has not begun yet.
    #[error("job {job} waits for a worker{}; it starts when one is free", offering(labels))]
    Worker {
        /// The job.
        job: JobName,
        /// What the worker must offer.
        labels: BTreeSet<String>,
        /// Since when.
        since: Timestamp,
    },
    /// A job runs.
    #[error("job {job} runs; it goes on when that has ended")]
    Running {
        /// The job.
        job: JobName,
        /// Since when.
        since: Timestamp,
    },
    /// The job above it runs.
    #[error("job {job} waits for {parent}, and starts when that has succeeded")]
    Parent {
        /// The job.
        job: JobName,
        /// The other.
        parent: JobName,
        /// Since when.
        since: Timestamp,
    },
    /// An other build holds the semaphore.
    #[error(
        "job {job} waits for semaphore {semaphore}, which item {holder} holds; whoever waits longest has it next"
    )]
    Semaphore {
        /// The job.
        job: JobName,
        /// The semaphore.
        semaphore: SemaphoreName,
        /// One of its holders.
        holder: ItemId,
        /// Since when.
        since: Timestamp,
    },
    /// A job ahead must succeed first.
    #[error("nothing starts until {job} of item {item} ahead has succeeded (hold-following-changes)")]
    HoldFollowing {
        /// Whose.
        item: ItemId,
        /// Which.
        job: JobName,
        /// Since when.
        since: Timestamp,
    },
    /// The infrastructure failed a job too often.
    #[error("the infrastructure failed job {job} {lost} times: {why}; the next try is due")]
    InfraBackoff {
        /// The job.
        job: JobName,
        /// How often.
        lost: usize,
        /// What went wrong last.
        why: String,
        /// Since when.
        since: Timestamp,
        /// When it is tried again.
        until: Timestamp,
    },
    /// Done, but not first.
    #[error("everything is tested; it leaves after item {item} ahead, on which it stands")]
    Ahead {
        /// Which.
        item: ItemId,
        /// Since when.
        since: Timestamp,
    },
    /// Being landed.
    #[error("it is being landed; it leaves when its branch has it")]
    Landing {
        /// Since when.
        since: Timestamp,
    },
    /// The queue is held.
    #[error("the queue is held: {reason}{}", end_of(reason))]
    Held {
        /// Why, with what has to be done.
        #[serde(flatten)]
        reason: HoldReason,
        /// Since when.
        since: Timestamp,
    },
    /// Serial: the one before is not done.
    #[error("item {item} ahead comes first; it starts when that has left")]
    Turn {
        /// Which.
        item: ItemId,
        /// Since when.
        since: Timestamp,
    },
}

impl Wait {
    /// Since when it waits for this.
    pub fn since(&self) -> Timestamp {
        match self {
            Self::Window { since, .. }
            | Self::Merging { since }
            | Self::NeedFailing { since, .. }
            | Self::StateAhead { since, .. }
            | Self::MergeBackoff { since, .. }
            | Self::Worker { since, .. }
            | Self::Running { since, .. }
            | Self::Parent { since, .. }
            | Self::Semaphore { since, .. }
            | Self::HoldFollowing { since, .. }
            | Self::InfraBackoff { since, .. }
            | Self::Ahead { since, .. }
            | Self::Landing { since }
            | Self::Held { since, .. }
            | Self::Turn { since, .. } => *since,
        }
    }
}

/// What ends a hold, where its reason does not say that.
fn end_of(hold: &HoldReason) -> &'static str {
    match hold {
        HoldReason::Operator { .. } => "; it lands again when it is released (assay pipeline release)",
        HoldReason::TreeMismatch { .. } | HoldReason::Partial { .. } | HoldReason::Abandoned { .. } => "",
    }
}

fn offering(labels: &BTreeSet<String>) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    format!(" that offers {}", labels.join(" and "))
}
