//! The gate's configuration, compiled: pipelines, projects and jobs, checked by `formats` and swapped in as one input.

use super::ids::{JobName, PipelineName, ProjectName, QueueName, SemaphoreName, SourceName};
use super::pattern::Pattern;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everything that is configured.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Config {
    /// SHA-256 of what it was read from; the policy that receipts name.
    pub hash: String,
    /// Pipelines in the order in which they are configured.
    pub pipelines: Vec<Arc<Pipeline>>,
    /// Projects by name.
    pub projects: BTreeMap<ProjectName, Arc<Project>>,
    /// Jobs by name.
    pub jobs: BTreeMap<JobName, Arc<JobDef>>,
    /// How many may hold a semaphore at once; one that is not here is a mutex.
    pub semaphores: BTreeMap<SemaphoreName, u32>,
    /// Where things are found.
    pub places: Places,
}

/// Addresses that go into parameters and reports.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Places {
    /// Where workers fetch speculative states: `ZUUL_URL`.
    pub git_url: String,
    /// What `LOG_PATH` is below; none and reports name jobs only.
    pub logs_url: Option<String>,
    /// The page of what is going on, for start reports.
    pub status_url: Option<String>,
    /// The address in reports for jobs without one of their own, with `{…}` fields as in Zuul's `url_pattern`.
    pub url_pattern: Option<String>,
    /// Report lines begin with the job's name.
    pub job_name_in_report: bool,
    /// Report lines end with the duration.
    pub report_times: bool,
}

impl Config {
    /// A pipeline by name.
    pub fn pipeline(&self, name: &PipelineName) -> Option<&Arc<Pipeline>> {
        self.pipelines.iter().find(|pipeline| pipeline.name == *name)
    }

    /// True if a job holds a semaphore while it runs.
    pub(super) fn needs_semaphore(&self, job: &JobName) -> bool {
        self.jobs.get(job).is_some_and(|job| !job.semaphores.is_empty())
    }
}

/// How a pipeline treats its items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Manager {
    /// Every item by itself, with what it needs merged below it.
    Independent,
    /// In order, each on the ones ahead, and merged when it passes.
    Dependent,
    /// For each project and branch the newest only: one runs, one waits.
    Supercedent,
    /// In order, one at a time.
    Serial,
}

/// Who goes first when workers are short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precedence {
    /// First.
    High,
    /// The default.
    #[default]
    Normal,
    /// Last.
    Low,
}

/// How a dependent pipeline lands what passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LandingWay {
    /// Asks the source to submit, and compares the tree afterwards.
    #[default]
    Submit,
    /// Pushes the tested commits, expecting the old tip.
    Push,
}

/// A pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipeline {
    /// Its name.
    pub name: PipelineName,
    /// For people.
    pub description: Option<String>,
    /// How it treats its items.
    pub manager: Manager,
    /// Where its changes and git repositories are.
    pub source: SourceName,
    /// Who goes first.
    pub precedence: Precedence,
    /// What lets something in; any of them.
    pub triggers: Vec<Trigger>,
    /// What must hold of a change; all of them.
    pub require: Requirements,
    /// What must not hold of a change's votes; none of them.
    pub reject: Vec<ApprovalFilter>,
    /// Whom to tell what.
    pub reporters: Reporters,
    /// The words of its reports.
    pub messages: Messages,
    /// A new patchset takes the place of the old.
    pub dequeue_on_new_patchset: bool,
    /// Independent only: what a change needs is not merged below it.
    pub ignore_dependencies: bool,
    /// After so many failures in a row only the `disabled` reporters are used.
    pub disable_after: Option<u32>,
    /// How many items at the head are tested at once.
    pub window: WindowConfig,
    /// Its shared change queues; dependent and serial only. A project in none has a queue of its own.
    pub queues: Vec<QueueDef>,
    /// Dependent only: how it lands what passed.
    pub landing: LandingWay,
}

/// A queue that several projects share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueDef {
    /// Its name.
    pub name: QueueName,
    /// Its projects.
    pub projects: BTreeSet<ProjectName>,
    /// Changes that need each other are tested and landed together; otherwise they are refused.
    pub allow_cycles: bool,
}

/// The window of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowConfig {
    /// At the start; 0 for no limit.
    pub start: u32,
    /// Never less.
    pub floor: u32,
    /// Never more; none for no limit.
    pub ceiling: Option<u32>,
    /// After a landing.
    pub increase: Growth,
    /// After a failure.
    pub decrease: Growth,
}

impl Default for WindowConfig {
    /// Zuul's: 20, not below 3, one more after a landing, half after a failure.
    fn default() -> Self {
        Self {
            start: 20,
            floor: 3,
            ceiling: None,
            increase: Growth::Linear(1),
            decrease: Growth::Exponential(2),
        }
    }
}

/// A change of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Growth {
    /// By so many.
    Linear(u32),
    /// By this factor.
    Exponential(u32),
}

/// What happened at a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A new patchset.
    PatchsetCreated,
    /// A draft became public (Gerrit up to 2.14).
    DraftPublished,
    /// Given up.
    ChangeAbandoned,
    /// Taken up again.
    ChangeRestored,
    /// In its branch.
    ChangeMerged,
    /// A comment or a vote.
    CommentAdded,
    /// A branch or tag moved.
    RefUpdated,
    /// A due time.
    Timer,
    /// Ours: a change of the same project has landed.
    ProjectChangeMerged,
    /// Ours: a change that this one needs has been enqueued.
    ParentChangeEnqueued,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::PatchsetCreated,
        Self::DraftPublished,
        Self::ChangeAbandoned,
        Self::ChangeRestored,
        Self::ChangeMerged,
        Self::CommentAdded,
        Self::RefUpdated,
        Self::Timer,
        Self::ProjectChangeMerged,
        Self::ParentChangeEnqueued,
    ];

    /// Gerrit's and Zuul's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::PatchsetCreated => "patchset-created",
            Self::DraftPublished => "draft-published",
            Self::ChangeAbandoned => "change-abandoned",
            Self::ChangeRestored => "change-restored",
            Self::ChangeMerged => "change-merged",
            Self::CommentAdded => "comment-added",
            Self::RefUpdated => "ref-updated",
            Self::Timer => "timer",
            Self::ProjectChangeMerged => "project-change-merged",
            Self::ParentChangeEnqueued => "parent-change-enqueued",
        }
    }
}

/// What lets something into a pipeline. An empty list does not restrict; the entries of a list are alternatives,
/// the lists must all match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// From which source; `timer` and `zuul` are Assay's own.
    pub source: SourceName,
    /// Patterns for [`EventKind::word`], matched from the start.
    pub events: Vec<Pattern>,
    /// For the change's branch, matched from the start.
    pub branches: Vec<Pattern>,
    /// For the name of a ref that moved, matched from the start.
    pub refs: Vec<Pattern>,
    /// A deleted ref does not match.
    pub ignore_deletes: bool,
    /// Found anywhere in the comment.
    pub comments: Vec<Pattern>,
    /// Found anywhere in the mail address of whoever caused it.
    pub emails: Vec<Pattern>,
    /// Found anywhere in the login of whoever caused it.
    pub usernames: Vec<Pattern>,
    /// Votes that the event itself must carry; all of them, label and exact value.
    pub approvals: Vec<(String, i32)>,
    /// What must hold of the change's votes.
    pub require: Vec<ApprovalFilter>,
    /// What must not hold of them.
    pub reject: Vec<ApprovalFilter>,
    /// Timer only: when; five or six fields of cron.
    pub time: Option<String>,
    /// `parent-change-enqueued` only: in which pipelines.
    pub pipelines: Vec<Pattern>,
}

impl Trigger {
    /// One that restricts nothing.
    pub fn of(source: SourceName) -> Self {
        Self {
            source,
            events: Vec::new(),
            branches: Vec::new(),
            refs: Vec::new(),
            ignore_deletes: true,
            comments: Vec::new(),
            emails: Vec::new(),
            usernames: Vec::new(),
            approvals: Vec::new(),
            require: Vec::new(),
            reject: Vec::new(),
            time: None,
            pipelines: Vec::new(),
        }
    }
}

/// What must hold of a change to be let in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Requirements {
    /// Each must be met by one vote.
    pub approvals: Vec<ApprovalFilter>,
    /// Open or not.
    pub open: Option<bool>,
    /// The newest patchset or not.
    pub current_patchset: Option<bool>,
    /// One of these words of the source; empty for any.
    pub status: Vec<String>,
}

/// What one single vote must be like.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ApprovalFilter {
    /// The voter's login, found anywhere.
    pub username: Option<Pattern>,
    /// The voter's mail address, found anywhere.
    pub email: Option<Pattern>,
    /// Given before now less this many microseconds.
    pub older_than_us: Option<i64>,
    /// Given not before now less this many microseconds.
    pub newer_than_us: Option<i64>,
    /// Label and values, one of which it must have; labels compare as [`normal_label`] makes them.
    pub labels: Vec<(String, Vec<i32>)>,
}

/// A label as it is compared: lower case, spaces as hyphens.
pub fn normal_label(label: &str) -> String {
    label.to_lowercase().replace(' ', "-")
}

/// Whom a pipeline tells what.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reporters {
    /// When an item has been let in.
    pub start: Vec<ReportAction>,
    /// When it passed.
    pub success: Vec<ReportAction>,
    /// When it failed.
    pub failure: Vec<ReportAction>,
    /// When it could not be merged; `failure` if not given.
    pub merge_failure: Option<Vec<ReportAction>>,
    /// Instead of all others once the pipeline is disabled.
    pub disabled: Vec<ReportAction>,
}

/// One telling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum ReportAction {
    /// A comment on the change with votes.
    Review {
        /// Which connection.
        source: SourceName,
        /// Labels and values.
        labels: Vec<(String, i32)>,
        /// Ask for the change to be merged.
        submit: bool,
        /// Further options of `gerrit review` as they are: `force-message`.
        flags: Vec<(String, String)>,
    },
    /// A mail.
    Mail {
        /// Which connection.
        source: SourceName,
        /// From.
        from: Option<String>,
        /// To.
        to: String,
        /// The subject; `{change}`, `{pipeline}` are filled in.
        subject: Option<String>,
    },
    /// A row in a database of results (Zuul's `sql`); kept, not sent.
    Sql {
        /// Which connection.
        source: SourceName,
        /// The score it is stored with.
        score: Option<i32>,
    },
}

impl ReportAction {
    /// The labels that it votes on, as [`normal_label`] writes them.
    pub fn labels(&self) -> impl Iterator<Item = String> {
        let labels = match self {
            Self::Review { labels, .. } => labels.as_slice(),
            Self::Mail { .. } | Self::Sql { .. } => &[],
        };
        labels.iter().map(|(label, _)| normal_label(label))
    }

    /// The same words to the same people; nothing is voted, and nothing is to be merged.
    #[must_use]
    pub fn without_votes(&self) -> Self {
        match self {
            Self::Review { source, flags, .. } => Self::Review {
                source: source.clone(),
                labels: Vec::new(),
                submit: false,
                flags: flags.clone(),
            },
            other => other.clone(),
        }
    }
}

/// The words of a pipeline's reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    /// First line when it passed.
    pub success: String,
    /// First line when it failed.
    pub failure: String,
    /// The whole report when it could not be merged.
    pub merge_failure: String,
    /// Below every report.
    pub footer: String,
}

impl Default for Messages {
    fn default() -> Self {
        Self {
            success: "Build succeeded.".to_owned(),
            failure: "Build failed.".to_owned(),
            merge_failure: "Merge Failed.\n\nThis change or one of its cross-repo dependencies was unable to be \
                            automatically merged with the current state of its repository. Please rebase the change \
                            and upload a new patchset."
                .to_owned(),
            footer: String::new(),
        }
    }
}

/// How a change becomes a commit on its branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MergeMode {
    /// `git merge`.
    Merge,
    /// `git merge -s resolve`: without looking for renames.
    #[default]
    MergeResolve,
    /// `git cherry-pick`.
    CherryPick,
    /// Gerrit's: only if the branch need not be merged.
    FastForwardOnly,
    /// Gerrit's: a merge commit unless fast-forward.
    MergeIfNecessary,
    /// Gerrit's: always a merge commit.
    MergeAlways,
    /// Gerrit's: rebased unless fast-forward.
    RebaseIfNecessary,
    /// Gerrit's: always a new commit.
    RebaseAlways,
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Its name.
    pub name: ProjectName,
    /// How its changes are merged.
    pub merge_mode: MergeMode,
    /// Its jobs in each pipeline, in the order of the report.
    pub pipelines: BTreeMap<PipelineName, Vec<JobNode>>,
}

/// A job in a project's tree, and what runs only after it succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobNode {
    /// The job.
    pub job: JobName,
    /// What follows it.
    pub children: Vec<JobNode>,
}

/// The job that succeeds at once and needs no worker.
pub const NOOP: &str = "noop";

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the configuration, not a state")]
pub struct JobDef {
    /// Its name.
    pub name: JobName,
    /// Its failure fails the item.
    pub voting: bool,
    /// Items behind start nothing until it succeeded.
    pub hold_following: bool,
    /// How often it is run at most when the infrastructure fails it.
    pub attempts: u32,
    /// What it holds while it runs.
    pub semaphores: BTreeSet<SemaphoreName>,
    /// For the change's branch or the ref, matched from the start; empty for any.
    pub branches: Vec<Pattern>,
    /// One changed file must match one of them from the start; empty for any.
    pub files: Vec<Pattern>,
    /// It does not run if any of these holds.
    pub skip_if: Vec<SkipIf>,
    /// In reports instead of `SUCCESS`.
    pub success_message: Option<String>,
    /// In reports instead of `FAILURE`.
    pub failure_message: Option<String>,
    /// The address in reports of a success.
    pub success_pattern: Option<String>,
    /// The address in reports of a failure.
    pub failure_pattern: Option<String>,
    /// For people and parameter rules.
    pub tags: BTreeSet<String>,
    /// Zuul's Python function; known by name only.
    pub parameter_function: Option<String>,
    /// The name a Zuul layout gives to the queue it makes.
    pub queue_name: Option<String>,
    /// What a worker must offer.
    pub labels: BTreeSet<String>,
    /// The worker or machine is used for this one run and then never again.
    pub single_use: bool,
    /// Variables besides Zuul's that it is given: what became of a parameter function. A task has its own in itself.
    pub env: BTreeMap<String, String>,
    /// Its result depends on the trees, its definition and nothing else: it may stand in for another run.
    pub hermetic: bool,
    /// Projects besides the change's own that it has in its workspace.
    pub projects: BTreeSet<ProjectName>,
    /// What the worker does (`proto::task`), JSON. None for a job that is defined elsewhere (imported).
    pub task: Option<Arc<str>>,
}

impl JobDef {
    /// A job that votes, with everything else left at its default.
    pub fn new(name: impl Into<JobName>) -> Self {
        Self {
            name: name.into(),
            voting: true,
            hold_following: false,
            attempts: 3,
            semaphores: BTreeSet::new(),
            branches: Vec::new(),
            files: Vec::new(),
            skip_if: Vec::new(),
            success_message: None,
            failure_message: None,
            success_pattern: None,
            failure_pattern: None,
            tags: BTreeSet::new(),
            parameter_function: None,
            queue_name: None,
            labels: BTreeSet::new(),
            single_use: false,
            env: BTreeMap::new(),
            hermetic: false,
            projects: BTreeSet::new(),
            task: None,
        }
    }
}

/// When a job need not run; what is given must all hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SkipIf {
    /// For the project, matched from the start.
    pub project: Option<Pattern>,
    /// For the branch, matched from the start.
    pub branch: Option<Pattern>,
    /// Every changed file matches one of them from the start.
    pub all_files_match_any: Vec<Pattern>,
}
