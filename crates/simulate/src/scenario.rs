//! What a scenario file says (`docs/protocols/gate-scenario.md`).

use crate::outcome::{Chances, ChangeRef, Rule};
use crate::time::{Length, Range};
use crate::world::{Faults, Restart};
use assay_engine::gate::config::Config;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A story about the gate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Scenario {
    /// What it shows.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// The configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Source>,
    /// Labels that a submit needs, with their lowest and highest value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, (i32, i32)>,
    /// Steps are carried out at their times; otherwise everything comes to rest after each.
    #[serde(skip_serializing_if = "is_default")]
    pub timed: bool,
    /// For everything by chance.
    #[serde(skip_serializing_if = "is_default")]
    pub seed: u64,
    /// How long things take.
    #[serde(skip_serializing_if = "is_default")]
    pub timing: TimingSpec,
    /// What goes wrong by chance.
    #[serde(skip_serializing_if = "is_default")]
    pub faults: Faults,
    /// How jobs end by chance.
    #[serde(skip_serializing_if = "is_default")]
    pub chances: Chances,
    /// How many builds can run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// How jobs end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<Rule>,
    /// Changes by number.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub changes: BTreeMap<u64, ChangeSpec>,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// What must have come of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Where a configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The text of a Zuul layout.
    Zuul(String),
    /// The text of Assay's own YAML.
    Assay(String),
    /// A file with a Zuul layout, relative to the scenario.
    ZuulFile(String),
    /// A file with Assay's own YAML, relative to the scenario.
    AssayFile(String),
    /// As the engine has it.
    Compiled(Arc<Config>),
}

/// How long things take. What is not given happens at once; jobs take a minute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TimingSpec {
    /// An event until it is known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<Range>,
    /// A speculative merge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge: Option<Range>,
    /// Until a landing is begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub land: Option<Range>,
    /// From there until its end is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub landed: Option<Range>,
    /// Until a worker begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Range>,
    /// A job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<Range>,
    /// Jobs with a time of their own; `*` for any text.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub jobs: BTreeMap<String, Range>,
}

/// A change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ChangeSpec {
    /// Its project.
    pub project: String,
    /// Its branch; `master` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Changes that are its git parents.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<ChangeRef>,
    /// Changes that its footers name by Change-Id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<u64>,
    /// Changes that its footers name by address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends_on_url: Vec<u64>,
    /// The change whose Change-Id it shares (the same change on another branch).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_id_as: Option<u64>,
    /// Changed files; `[]` is a merge commit that does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<String>>,
    /// Two changes with a word in common do not merge, unless one has seen the other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<String>,
    /// Votes that it has from the start; Code-Review+2 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub votes: Option<BTreeMap<String, i32>>,
    /// It is uploaded by a step.
    #[serde(skip_serializing_if = "is_default")]
    pub later: bool,
}

/// One or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMore<T> {
    /// One.
    One(T),
    /// Several.
    More(Vec<T>),
}

impl<T> OneOrMore<T> {
    /// All of them.
    pub fn all(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::More(more) => more,
        }
    }
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The event of a change's newest patchset.
    Created(OneOrMore<u64>),
    /// A new patchset (the first, if the change is for later), and its event.
    Upload(UploadSpec),
    /// The vote that triggers a gate: Approved+1.
    Approve(OneOrMore<u64>),
    /// Votes; 0 takes one back.
    Vote(VoteSpec),
    /// Words.
    Comment(CommentSpec),
    /// A change is given up.
    Abandon(OneOrMore<u64>),
    /// A change is taken up again.
    Restore(OneOrMore<u64>),
    /// Somebody merges a change.
    MergeByHand(OneOrMore<u64>),
    /// Somebody pushes past the review.
    Push(PushSpec),
    /// A tag or branch appears, moves or goes.
    Ref(RefSpec),
    /// A timer trigger's time has come, for every project of its pipelines.
    Timer(String),
    /// Builds that begin from now on do not end by themselves.
    Hold(HoldSpec),
    /// Held builds end.
    Release(HoldSpec),
    /// No build is held any more.
    Unhold,
    /// Rules before those that there are.
    Outcomes(Vec<Rule>),
    /// Another configuration.
    Reconfigure(Source),
    /// The server dies and comes back.
    Restart(Restart),
    /// Time passes.
    Advance(Length),
    /// Time passes up to this long after the start.
    Until(Length),
    /// The review system answers or does not.
    Gerrit(GerritSpec),
    /// Projects that cannot be fetched; `[]` for none.
    Unreachable(Vec<String>),
    /// Let a change in whatever its triggers and requirements.
    Enqueue(PlaceSpec),
    /// Let a ref in.
    EnqueueRef(EnqueueRefSpec),
    /// Take a change out.
    Dequeue(PlaceSpec),
    /// Changes to the head of their queue.
    Promote(PromoteSpec),
    /// Keep workspaces of failures.
    Autohold(AutoholdSpec),
    /// A queue lands nothing until it is released.
    HoldQueue(QueueSpec),
    /// A queue lands again.
    ReleaseQueue(QueueSpec),
    /// Steps at the same time: nothing comes to rest between them.
    Together(Vec<Step>),
    /// What must be so now.
    Expect(Box<Expect>),
}

/// A new patchset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct UploadSpec {
    /// Of which change.
    pub change: u64,
    /// As before if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parents: Option<Vec<ChangeRef>>,
    /// As before if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depends_on: Option<Vec<u64>>,
    /// As before if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<String>>,
    /// As before if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<Vec<String>>,
    /// Votes that it has; as the change at the start if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub votes: Option<BTreeMap<String, i32>>,
}

/// Votes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VoteSpec {
    /// On which change.
    pub change: u64,
    /// Label and value.
    pub votes: BTreeMap<String, i32>,
    /// Whose; `reviewer` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A comment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommentSpec {
    /// On which change.
    pub change: u64,
    /// The words.
    pub text: String,
    /// Whose; `reviewer` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A push past the review.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushSpec {
    /// To which project.
    pub project: String,
    /// To which branch; `master` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// What it touches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<String>,
    /// Changes that the branch loses by it (a forced push).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<u64>,
}

/// A ref that moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefSpec {
    /// Of which project.
    pub project: String,
    /// Its name: `refs/tags/1.0`.
    pub name: String,
    /// It goes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub delete: bool,
}

/// Builds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HoldSpec {
    /// The job; `*` (as if not given) for any text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The change under test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<u64>,
    /// Not more than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
}

/// The review system's condition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GerritSpec {
    /// It answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up: Option<bool>,
    /// The next submit of this change is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refuse: Option<u64>,
    /// In thousandths: somebody pushes between the look at a branch and the submit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sneak: Option<u32>,
}

/// A change in a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceSpec {
    /// The pipeline.
    pub pipeline: String,
    /// The change.
    pub change: u64,
}

/// A ref to let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnqueueRefSpec {
    /// The pipeline.
    pub pipeline: String,
    /// The project.
    pub project: String,
    /// The ref.
    pub name: String,
}

/// Changes to promote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromoteSpec {
    /// The pipeline.
    pub pipeline: String,
    /// The changes, the first first.
    pub changes: Vec<u64>,
}

/// Workspaces to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoholdSpec {
    /// The project.
    pub project: String,
    /// The job.
    pub job: String,
    /// Of this change only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<u64>,
    /// How many; 1 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueSpec {
    /// The pipeline.
    pub pipeline: String,
    /// The queue; the first that has items if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
}

/// What must be so. What is not given is not looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Expect {
    /// The merged changes in the order in which they merged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merged: Option<Vec<u64>>,
    /// Where changes stand: `NEW`, `MERGED`, `ABANDONED`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub status: BTreeMap<u64, String>,
    /// All builds, in any order: `JOB N,PS N,PS RESULT`; `CANCELLED`, `running` or `held` instead of a result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builds: Option<Vec<String>>,
    /// How many builds there were, cancelled ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_count: Option<usize>,
    /// How many builds of a job have ended, cancelled ones not counted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ended: BTreeMap<String, usize>,
    /// The builds that wait for a worker, run or are held, in any order: `JOB N,PS N,PS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<Vec<String>>,
    /// The failed builds whose workspace is kept, in any order: `JOB N,PS N,PS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<Vec<String>>,
    /// Changes (or projects of refs and timers) in a pipeline, in order.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub queue: BTreeMap<String, Vec<u64>>,
    /// How many items a pipeline has.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub items: BTreeMap<String, usize>,
    /// On which change a change of a dependent pipeline stands; 0 for none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ahead: BTreeMap<u64, u64>,
    /// The window of `PIPELINE` or `PIPELINE/QUEUE`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub window: BTreeMap<String, u32>,
    /// How often Assay spoke on a change.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub reports: BTreeMap<u64, usize>,
    /// Assay's last vote on a change's label.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub votes: BTreeMap<u64, BTreeMap<String, i32>>,
    /// Words that must be in something that Assay said on a change.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub said: BTreeMap<u64, OneOrMore<String>>,
    /// Words that must not be in anything that Assay said on a change.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unsaid: BTreeMap<u64, OneOrMore<String>>,
    /// Words that must be in why a change was not let in; 0 for commands without a change.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<u64, String>,
    /// Words that must be in the first reason for a change's waiting.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub waits: BTreeMap<u64, String>,
    /// Words that must be in how a change's last item ended.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub outcome: BTreeMap<u64, String>,
    /// Words that must be in why a queue (`PIPELINE` or `PIPELINE/QUEUE`) is held; `no` if it is not.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<String, String>,
}
