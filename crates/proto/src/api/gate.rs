//! Objects of `/api/assay/v1/gate`, `/changes` and `/receipts`. Times are RFC 3339; lengths of time are seconds.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Answer to `GET gate`: what is in the pipelines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateStatus {
    /// Hash of the configuration in force; none if nothing is gated.
    pub config: Option<String>,
    /// What somebody has to look at: a source that does not answer, a refused configuration, a commit without receipt.
    pub troubles: Vec<String>,
    /// Reporters log instead of sending.
    pub staging: bool,
    /// In the order of the configuration.
    pub pipelines: Vec<PipelineStatus>,
    /// Requests to keep workspaces.
    pub autoholds: Vec<Autohold>,
}

/// A pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PipelineStatus {
    /// Its name.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// `independent`, `dependent`, `supercedent` or `serial`.
    pub manager: String,
    /// Failures in a row.
    pub failures: u32,
    /// It reports to its `disabled` reporters only.
    pub disabled: bool,
    /// Those with items, held, or of another window than at the start.
    pub queues: Vec<QueueStatus>,
}

/// A change queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Its name.
    pub name: String,
    /// How many items are tested at once; 0 for all.
    pub window: u32,
    /// Why it lands nothing.
    pub hold: Option<Hold>,
    /// The first first.
    pub items: Vec<ItemStatus>,
}

/// A held queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// One sentence.
    pub text: String,
    /// The same for programs.
    pub reason: Value,
    /// Since when.
    pub since: String,
}

/// A sentence, and the same for programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// One sentence.
    pub text: String,
    /// The engine's value.
    pub reason: Value,
}

/// An item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemStatus {
    /// Its number.
    pub id: i64,
    /// `N,PS`, a ref, or a timer.
    pub subject: String,
    /// The pipeline.
    pub pipeline: String,
    /// The queue.
    pub queue: String,
    /// The project.
    pub project: String,
    /// The branch or ref.
    pub branch: String,
    /// Its changes.
    pub changes: Vec<ItemChange>,
    /// The item that it is tested on.
    pub ahead: Option<i64>,
    /// It is within the window.
    pub active: bool,
    /// `testing`, `landing`, or how it ended: `landed`, `passed`, `failed`, `refused`, `evicted`.
    pub state: String,
    /// When it was let in.
    pub enqueued: String,
    /// Who or what let it in.
    pub because: String,
    /// When it ended.
    pub ended: Option<String>,
    /// The number of its buildset, from 1.
    pub buildset: u32,
    /// The name of its speculative state.
    pub identity: String,
    /// Why the buildset before this one was thrown away.
    pub reset: Option<Said>,
    /// Why it fails, or why it ended.
    pub failing: Vec<Said>,
    /// What it waits for; the first is what to look at. Empty when it is about to leave, or has.
    pub why: Vec<Said>,
    /// How long it will still take; none without history for each of its jobs.
    pub remaining: Option<Remaining>,
    /// Its jobs.
    pub jobs: Vec<BuildStatus>,
}

/// An estimate of history, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Remaining {
    /// Half of the latest successes took no longer.
    pub p50: f64,
    /// Nine of ten of them took no longer.
    pub p90: f64,
    /// Not all that it counts has begun: how long that will wait is not in it.
    pub without_waiting: bool,
}

/// A change of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemChange {
    /// Where it lives.
    pub source: String,
    /// Its number.
    pub number: u64,
    /// Its patchset.
    pub patchset: u32,
    /// The commit.
    pub revision: String,
    /// First line of the message.
    pub subject: String,
    /// Where people see it.
    pub url: Option<String>,
    /// Who owns it.
    pub owner: String,
}

/// A job of an item, or a build of history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildStatus {
    /// The job.
    pub name: String,
    /// Its failure fails the item.
    pub voting: bool,
    /// `waiting`, `queued`, `running`, `ended`, `reused`, `skipped`, `backoff` or `stopped`.
    pub state: String,
    /// Zuul's word, once it has ended: `SUCCESS`, `FAILURE`, …
    pub result: Option<String>,
    /// `product`, `test`, `infrastructure` or `policy`, once it has ended.
    pub class: Option<String>,
    /// Why it ended as it did.
    pub reason: Option<String>,
    /// The build.
    pub uuid: Option<String>,
    /// The item's buildset that it is of.
    pub buildset: u32,
    /// When it was asked for.
    pub asked: Option<String>,
    /// When a worker began.
    pub started: Option<String>,
    /// When it ended.
    pub ended: Option<String>,
    /// What history says that it takes, seconds.
    pub estimate: Option<Remaining>,
    /// Its logs, as a path on this server.
    pub log: Option<String>,
    /// Runs of this buildset that the infrastructure failed.
    pub lost: usize,
}

/// Answer to `GET changes/{source}/{number}`: what happened to a change, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangeHistory {
    /// Where it lives.
    pub source: String,
    /// Its number.
    pub number: u64,
    /// What is known of it.
    pub subject: Option<String>,
    /// Where people see it.
    pub url: Option<String>,
    /// Its items that have not ended: what they wait for.
    pub now: Vec<ItemStatus>,
    /// Everything that happened, the first first.
    pub events: Vec<Happened>,
    /// The items, the newest first, with every build.
    pub items: Vec<ItemStatus>,
    /// Of its landings.
    pub receipts: Vec<ReceiptStatus>,
}

/// What a change waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangeWhy {
    /// The items that have not ended.
    pub items: Vec<ItemStatus>,
    /// Of a change in no pipeline: the last thing that each has decided about it, or what an event that it is for has
    /// lacked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last: Vec<Happened>,
}

/// Something that happened to a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// When.
    pub at: String,
    /// `event`, `ignored`, `missed` (it lacks something for a pipeline that is for such events), `unheard` (by pipelines that do
    /// not listen to it), `enqueued`, `buildset`, `build`, `report`, `ended` or `receipt`.
    pub kind: String,
    /// The item concerned.
    pub item: Option<i64>,
    /// The pipeline concerned.
    pub pipeline: Option<String>,
    /// One sentence.
    pub text: String,
    /// `ok`, `bad`, or nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mood: String,
    /// Where there is more, as a path on this server.
    pub href: Option<String>,
    /// What was told, line by line as it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

/// A receipt of a landing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptStatus {
    /// The item.
    pub item: i64,
    /// The project.
    pub project: String,
    /// The branch.
    pub branch: String,
    /// The commit.
    pub commit: String,
    /// When it was signed.
    pub signed: String,
    /// When it was published in the repository.
    pub published: Option<String>,
    /// What keeps it from being published.
    pub trouble: Option<String>,
    /// True if it is valid by this server's own key.
    pub valid: bool,
    /// What is wrong with it.
    pub problem: Option<String>,
    /// Where it can be had, as a path on this server.
    pub href: String,
}

/// `POST gate/enqueue`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enqueue {
    /// The pipeline.
    pub pipeline: String,
    /// `N,PS`; the patchset may be left out for the newest.
    pub change: String,
    /// Where the change lives; the pipeline's source if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// `POST gate/enqueue-ref`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnqueueRef {
    /// The pipeline.
    pub pipeline: String,
    /// The project.
    pub project: String,
    /// The branch, or a full ref name.
    #[serde(rename = "ref")]
    pub name: String,
    /// Before; zeros if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldrev: Option<String>,
    /// After.
    pub newrev: String,
}

/// `POST gate/dequeue` and `POST gate/end-landing`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dequeue {
    /// The pipeline.
    pub pipeline: String,
    /// `N` or `N,PS`.
    pub change: String,
    /// Where the change lives; the pipeline's source if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// `POST gate/acknowledge`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledge {
    /// The project.
    pub project: String,
    /// The branch.
    pub branch: String,
}

/// `POST gate/promote`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promote {
    /// The pipeline.
    pub pipeline: String,
    /// `N` or `N,PS` each, in the order wanted.
    pub changes: Vec<String>,
    /// Where the changes live; the pipeline's source if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// `POST gate/hold` and `POST gate/release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldQueue {
    /// The pipeline.
    pub pipeline: String,
    /// The queue; may be left out if the pipeline has only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// For people; needed to hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What of a held queue's last landing is in its branches, to be reverted; answer to `GET gate/reverts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reverts {
    /// The pipeline.
    pub pipeline: String,
    /// The queue.
    pub queue: String,
    /// Why it is held.
    pub why: String,
    /// The commits, in the order in which they went in.
    pub commits: Vec<Revert>,
}

/// A commit to be reverted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revert {
    /// The change that went in with it: `N,PS`.
    pub change: String,
    /// The project.
    pub project: String,
    /// The branch.
    pub branch: String,
    /// The commit.
    pub commit: String,
    /// The repository's address for people, without a login; none if its connection is gone.
    pub git: Option<String>,
}

/// `POST gate/autoholds`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAutohold {
    /// The project.
    pub project: String,
    /// The job.
    pub job: String,
    /// Of this change only: `N`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// Where the change lives; the only source there is if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How many failures.
    pub count: u32,
    /// For people.
    pub reason: String,
}

/// A request to keep the workspaces of failed builds; answer to `POST gate/autoholds`, list of `GET gate/autoholds`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Autohold {
    /// Its number.
    pub id: i64,
    /// The project.
    pub project: String,
    /// The job.
    pub job: String,
    /// Of this change only.
    pub change: Option<u64>,
    /// How many are still to be kept.
    pub left: u32,
    /// For people.
    pub reason: String,
    /// Who wants it.
    pub by: String,
}

/// Answer to `GET gate/autoholds`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoholdList {
    /// By number.
    pub autoholds: Vec<Autohold>,
}

/// Answer to commands of the gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// One sentence: what was done.
    pub done: String,
    /// The item that is there now.
    pub item: Option<i64>,
}

/// Answer to `POST gate/reload`, when the configuration is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigReload {
    /// Its hash.
    pub hash: String,
    /// What was found all the same, each with file, line and column.
    pub findings: Vec<String>,
}

/// Answer to `GET receipts/key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptKey {
    /// A line for a trust file.
    pub trust: String,
    /// SHA-256 of the public key.
    pub key_id: String,
}
