//! Starting jobs anew: which jobs are cloned with them, which stay, and which end. A declared table, computed first and
//! shown, then carried out in one step.

use crate::ids::{GroupId, JobId};
use crate::io::NewJob;
use crate::job::StateWord;
use crate::outcome::Outcome;
use crate::reason::Relative;
use crate::relations::{Parent, ParentRef, Relation};
use crate::rows::JobRow;
use crate::settings::{Provenance, Setting};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestartRequest {
    /// The jobs to start anew.
    pub jobs: Vec<JobId>,
    /// How.
    pub options: RestartOptions,
    /// Who asks.
    pub by: String,
    /// Only the plan is wanted.
    pub plan_only: bool,
}

/// openQA's options of a restart, and Assay's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "they are the switches of openQA's API, each by itself")]
pub struct RestartOptions {
    /// Direct parents are cloned without asking.
    pub force: bool,
    /// What a worker has is left alone.
    pub skip_aborting_jobs: bool,
    /// No parent is cloned.
    pub skip_parents: bool,
    /// No child is cloned.
    pub skip_children: bool,
    /// Children that have passed are not cloned.
    pub skip_ok_result_children: bool,
    /// The old jobs know nothing of their clones and go on if they are open (openQA's `clone=0`).
    pub copy_only: bool,
    /// The priority of all clones; else each has that of the job it was made from.
    pub priority: Option<i32>,
    /// Settings of all clones: a value, or `None` to leave the setting out. `KEY+` appends to the value.
    pub set: BTreeMap<String, Option<String>>,
    /// The group of all clones; the inner `None` is no group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Option<GroupId>>,
}

/// What a job is to the restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It is to be started anew.
    Root,
    /// A cloned job starts after it.
    ChainedParent,
    /// A cloned job starts directly after it.
    DirectParent,
    /// A cloned job runs in parallel with it.
    ParallelParent,
    /// It starts after a cloned job.
    ChainedChild,
    /// It starts directly after a cloned job.
    DirectChild,
    /// It runs in parallel with a cloned job.
    ParallelChild,
}

/// How far a job has come, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// No worker has it.
    Waiting,
    /// A worker was chosen and has not answered.
    Starting,
    /// A worker has it.
    Running,
    /// It has passed.
    Passed,
    /// It has ended without passing.
    NotPassed,
    /// It has been cloned before.
    Cloned,
}

/// What the table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is cloned; if it is open, it ends.
    Clone,
    /// It stays as it is.
    Stay(Stay),
    /// Its newest clone is looked at in its place.
    Follow,
    /// The clone that exists is the answer.
    Exists,
}

/// Why a job stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stay {
    /// It has not begun, so there is nothing to start anew.
    WaitsAnyway,
    /// It is not over yet; the clones wait for it.
    StillOpen,
    /// It has passed, and what it made can be used again.
    Passed,
    /// It was cloned before.
    ClonedBefore,
    /// A worker has it, and the request spares those.
    Spared,
    /// The request leaves parents out.
    ParentsLeftOut,
    /// The request leaves children out.
    ChildrenLeftOut,
    /// It has passed, and the request leaves such children out.
    PassedChildrenLeftOut,
}

impl fmt::Display for Stay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WaitsAnyway => "it has not begun yet",
            Self::StillOpen => "it is not over yet; the clones wait for it",
            Self::Passed => "it has passed",
            Self::ClonedBefore => "it was started anew before",
            Self::Spared => "a worker has it, and what runs is to be left alone",
            Self::ParentsLeftOut => "parents are to be left out",
            Self::ChildrenLeftOut => "children are to be left out",
            Self::PassedChildrenLeftOut => "it has passed, and such children are to be left out",
        })
    }
}

/// The columns of [`TABLE`].
pub const STANDINGS: [Standing; 6] = [
    Standing::Waiting,
    Standing::Starting,
    Standing::Running,
    Standing::Passed,
    Standing::NotPassed,
    Standing::Cloned,
];

/// The policy: for each role what happens by [`STANDINGS`], before the options of the request are looked at.
#[rustfmt::skip]
pub const TABLE: [(Role, [Decision; 6]); 7] = {
    use Decision::{Clone, Exists, Follow, Stay as S};
    use Stay::{ClonedBefore, Passed, StillOpen, WaitsAnyway};
    [
        //                     waiting         starting        running       passed     not passed  cloned before
        (Role::Root,          [S(WaitsAnyway), S(WaitsAnyway), Clone,        Clone,     Clone,      Exists]),
        (Role::ChainedParent, [S(StillOpen),   S(StillOpen),   S(StillOpen), S(Passed), Clone,      Follow]),
        (Role::DirectParent,  [Clone,          Clone,          Clone,        Clone,     Clone,      Follow]),
        (Role::ParallelParent,[Clone,          Clone,          Clone,        Clone,     Clone,      S(ClonedBefore)]),
        (Role::ChainedChild,  [Clone,          Clone,          Clone,        Clone,     Clone,      S(ClonedBefore)]),
        (Role::DirectChild,   [Clone,          Clone,          Clone,        Clone,     Clone,      S(ClonedBefore)]),
        (Role::ParallelChild, [Clone,          Clone,          Clone,        Clone,     Clone,      S(ClonedBefore)]),
    ]
};

/// A job as the plan sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFacts {
    /// Its number.
    pub id: JobId,
    /// For people.
    pub label: String,
    /// How far it has come.
    pub state: StateWord,
    /// How it ended, if it has.
    pub outcome: Option<Outcome>,
    /// What it depends on.
    pub parents: Vec<Parent>,
    /// The job that was made from it.
    pub cloned_as: Option<JobId>,
}

impl From<&JobRow> for JobFacts {
    fn from(row: &JobRow) -> Self {
        Self {
            id: row.id,
            label: row.label(),
            state: row.state.word(),
            outcome: row.state.end().map(|end| end.outcome),
            parents: row.parents.clone(),
            cloned_as: row.cloned_as,
        }
    }
}

impl JobFacts {
    /// Its column in the table.
    pub fn standing(&self) -> Standing {
        match (self.cloned_as, self.outcome, self.state) {
            (Some(_), ..) => Standing::Cloned,
            (None, Some(outcome), _) if outcome.is_ok() => Standing::Passed,
            (None, Some(_), _) => Standing::NotPassed,
            (None, None, StateWord::Scheduled) => Standing::Waiting,
            (None, None, StateWord::Assigned) => Standing::Starting,
            (None, None, _) => Standing::Running,
        }
    }

    fn relative(&self) -> Relative {
        Relative { job: self.id, label: self.label.clone() }
    }
}

/// What a restart does, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RestartPlan {
    /// The jobs that are cloned, the oldest first.
    pub clones: Vec<PlannedClone>,
    /// The jobs that stay as they are, and why.
    pub stays: Vec<PlannedStay>,
    /// The jobs that end, because their clone takes their place.
    pub ends: Vec<PlannedEnd>,
    /// Jobs of the request that have been cloned before, and their newest clone: nothing is done again.
    pub exists: Vec<(JobId, JobId)>,
}

/// A job that is cloned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedClone {
    /// Which.
    #[serde(flatten)]
    pub job: Relative,
    /// Its role.
    pub role: Role,
    /// The job that brought it in; none for those of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<Relative>,
    /// The clone, once it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clone: Option<JobId>,
}

impl PlannedClone {
    /// Why, as a clause for people.
    pub fn why(&self) -> String {
        let Some(through) = &self.through else { return "it was asked for".to_owned() };
        match self.role {
            Role::Root => "it was asked for".to_owned(),
            Role::ChainedParent => format!("{through} starts after it, and it did not pass"),
            Role::DirectParent => format!("{through} has to start directly after it on the same slot"),
            Role::ParallelParent | Role::ParallelChild => format!("{through} runs in parallel with it"),
            Role::ChainedChild => format!("it starts after {through}"),
            Role::DirectChild => format!("it starts directly after {through}"),
        }
    }
}

/// A job that stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStay {
    /// Which.
    #[serde(flatten)]
    pub job: Relative,
    /// Its role.
    pub role: Role,
    /// Why.
    pub why: Stay,
}

/// A job that ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedEnd {
    /// Which.
    #[serde(flatten)]
    pub job: Relative,
    /// With this result.
    pub outcome: Outcome,
}

/// Why nothing is started anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No job named.
    #[error("the request names no job to start anew")]
    NoJobs,
    /// A job of the request does not exist.
    #[error("there is no job {0}")]
    NoSuchJob(JobId),
    /// The direct parents have to run again, which was not asked for.
    #[error(
        "job {child} has to start directly after {parent} on the same slot, so {parent} has to be started anew as well; ask for \
         that with force, or start {parent} anew, or leave parents out"
    )]
    DirectParent {
        /// The job.
        child: Relative,
        /// Its direct parent.
        parent: Relative,
    },
    /// A setting that is none.
    #[error("with these settings {0} is no job: {1}")]
    Setting(String, String),
}

impl Refused {
    /// True if the same request with `force` would be carried out.
    pub fn enforceable(&self) -> bool {
        matches!(self, Self::DirectParent { .. })
    }
}

/// How much of a cloned job's relatives is looked at: of what was brought in as a parent, only what must begin with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Breadth {
    Narrow,
    Full,
}

struct Walk<'a> {
    facts: &'a BTreeMap<JobId, JobFacts>,
    children: BTreeMap<JobId, Vec<(Relation, JobId)>>,
    options: &'a RestartOptions,
    roots: BTreeSet<JobId>,
    clones: BTreeMap<JobId, (Role, Option<JobId>)>,
    stays: BTreeMap<JobId, (Role, Stay)>,
    exists: Vec<(JobId, JobId)>,
    /// What is copied of each line of clones, by the newest of the line.
    copied: BTreeMap<JobId, JobId>,
    expanded: BTreeMap<JobId, Breadth>,
    queue: VecDeque<(JobId, Breadth)>,
}

/// Says what a restart does. `facts` has the jobs of the request, everything related to them, and their clones.
pub fn plan(facts: &BTreeMap<JobId, JobFacts>, request: &RestartRequest) -> Result<RestartPlan, Refused> {
    if request.jobs.is_empty() {
        return Err(Refused::NoJobs);
    }
    let mut children: BTreeMap<JobId, Vec<(Relation, JobId)>> = BTreeMap::new();
    for job in facts.values() {
        for parent in &job.parents {
            children.entry(parent.job).or_default().push((parent.relation, job.id));
        }
    }
    let mut walk = Walk {
        facts,
        children,
        options: &request.options,
        roots: request.jobs.iter().copied().collect(),
        clones: BTreeMap::new(),
        stays: BTreeMap::new(),
        exists: Vec::new(),
        copied: BTreeMap::new(),
        expanded: BTreeMap::new(),
        queue: VecDeque::new(),
    };
    for root in walk.roots.clone() {
        if !facts.contains_key(&root) {
            return Err(Refused::NoSuchJob(root));
        }
        walk.visit(root, Role::Root, None);
    }
    while let Some((job, breadth)) = walk.queue.pop_front() {
        walk.expand(job, breadth);
    }
    walk.refusal()?;
    Ok(walk.told())
}

/// The newest clone of a clone of `job`, or `job` itself.
pub fn newest(facts: &BTreeMap<JobId, JobFacts>, job: JobId) -> JobId {
    let mut at = job;
    while let Some(next) = facts.get(&at).and_then(|facts| facts.cloned_as)
        && next > at
    {
        at = next;
    }
    at
}

fn decision(role: Role, standing: Standing) -> Decision {
    let row = TABLE.iter().find(|(own, _)| *own == role);
    let column = STANDINGS.iter().position(|own| *own == standing);
    match (row, column) {
        (Some((_, row)), Some(column)) => row[column],
        _ => Decision::Stay(Stay::StillOpen),
    }
}

impl Walk<'_> {
    fn visit(&mut self, id: JobId, role: Role, through: Option<JobId>) {
        let id = if role == Role::Root { id } else { self.copied_for(id) };
        let Some(job) = self.facts.get(&id) else { return };
        let standing = job.standing();
        let mut decision = decision(role, standing);
        // A copy takes nothing's place, so that it can be made of anything.
        let copied = role == Role::Root
            || decision == Decision::Stay(Stay::ClonedBefore)
            || (decision == Decision::Follow && self.clones.contains_key(&id));
        if self.options.copy_only && copied {
            decision = Decision::Clone;
        }
        let runs = matches!(standing, Standing::Starting | Standing::Running);
        if decision == Decision::Clone && runs && self.options.skip_aborting_jobs {
            decision = Decision::Stay(Stay::Spared);
        }
        let is_child = matches!(role, Role::ChainedChild | Role::DirectChild | Role::ParallelChild);
        if decision == Decision::Clone
            && is_child
            && standing == Standing::Passed
            && self.options.skip_ok_result_children
        {
            decision = Decision::Stay(Stay::PassedChildrenLeftOut);
        }
        match decision {
            Decision::Clone => {
                self.clones.entry(id).or_insert((role, through));
                self.copied.entry(newest(self.facts, id)).or_insert(id);
                let breadth = match role {
                    Role::ChainedParent | Role::DirectParent => Breadth::Narrow,
                    _ => Breadth::Full,
                };
                self.queue.push_back((id, breadth));
            }
            Decision::Stay(why) => self.stay(id, role, why),
            Decision::Follow => {
                let passed = job.outcome.is_some_and(Outcome::is_ok);
                let newest = newest(self.facts, id);
                if role == Role::ChainedParent && passed {
                    self.stay(id, role, Stay::Passed);
                } else if newest != id {
                    self.visit(newest, role, through);
                }
            }
            Decision::Exists => {
                let newest = newest(self.facts, id);
                self.exists.push((id, newest));
            }
        }
    }

    /// What is copied in the place of `id`: of a job and its clones a copy has one only, whichever it met first.
    fn copied_for(&self, id: JobId) -> JobId {
        if !self.options.copy_only || self.clones.contains_key(&id) {
            return id;
        }
        self.copied.get(&newest(self.facts, id)).copied().unwrap_or(id)
    }

    fn stay(&mut self, id: JobId, role: Role, why: Stay) {
        self.stays.entry(id).or_insert((role, why));
    }

    /// The children of a job. A copy is made of the newest, where one was started anew without its parent.
    fn children_of(&self, id: JobId) -> Vec<(Relation, JobId)> {
        let mut children = self.children.get(&id).cloned().unwrap_or_default();
        if self.options.copy_only {
            let siblings: BTreeSet<JobId> = children.iter().map(|(_, child)| *child).collect();
            let clone = |child: &JobId| self.facts.get(child).and_then(|job| job.cloned_as);
            children.retain(|(_, child)| clone(child).is_none_or(|clone| !siblings.contains(&clone)));
        }
        children
    }

    fn expand(&mut self, id: JobId, breadth: Breadth) {
        if self.expanded.get(&id).is_some_and(|before| *before >= breadth) {
            return;
        }
        self.expanded.insert(id, breadth);
        let Some(job) = self.facts.get(&id) else { return };
        for parent in &job.parents {
            let role = match parent.relation {
                Relation::Chained => Role::ChainedParent,
                Relation::DirectlyChained => Role::DirectParent,
                Relation::Parallel => Role::ParallelParent,
            };
            if !self.options.skip_parents {
                self.visit(parent.job, role, Some(id));
            } else if !self.roots.contains(&parent.job) {
                self.stay(parent.job, role, Stay::ParentsLeftOut);
            }
        }
        for (relation, child) in self.children_of(id) {
            let role = match relation {
                Relation::Chained => Role::ChainedChild,
                Relation::DirectlyChained => Role::DirectChild,
                Relation::Parallel => Role::ParallelChild,
            };
            if breadth == Breadth::Narrow && relation != Relation::Parallel {
                continue;
            }
            if !self.options.skip_children {
                self.visit(child, role, Some(id));
            } else if !self.roots.contains(&child) {
                self.stay(child, role, Stay::ChildrenLeftOut);
            }
        }
    }

    fn refusal(&self) -> Result<(), Refused> {
        let through = |through: &JobId| self.facts.get(through).map(JobFacts::relative);
        for (job, (role, child)) in &self.clones {
            if *role == Role::DirectParent
                && !self.options.force
                && let Some(child) = child.as_ref().and_then(through)
                && let Some(parent) = self.facts.get(job)
            {
                return Err(Refused::DirectParent { child, parent: parent.relative() });
            }
        }
        Ok(())
    }

    fn told(mut self) -> RestartPlan {
        let mut plan = RestartPlan { exists: std::mem::take(&mut self.exists), ..RestartPlan::default() };
        for (id, (role, why)) in &self.stays {
            if let Some(job) = self.facts.get(id)
                && !self.clones.contains_key(&self.copied_for(*id))
            {
                plan.stays.push(PlannedStay { job: job.relative(), role: *role, why: *why });
            }
        }
        for (id, (role, through)) in self.clones {
            let Some(job) = self.facts.get(&id) else { continue };
            let through = through.and_then(|id| self.facts.get(&id)).map(JobFacts::relative);
            plan.clones.push(PlannedClone { job: job.relative(), role, through, clone: None });
            let outcome = match job.standing() {
                _ if self.options.copy_only => continue,
                Standing::Waiting => Outcome::Skipped,
                Standing::Starting | Standing::Running if role == Role::Root => Outcome::UserRestarted,
                Standing::Starting | Standing::Running => Outcome::ParallelRestarted,
                Standing::Passed | Standing::NotPassed | Standing::Cloned => continue,
            };
            plan.ends.push(PlannedEnd { job: job.relative(), outcome });
        }
        plan
    }
}

/// The places of jobs that are cloned in this order. Made once for all of them: a request may have many.
#[derive(Debug)]
pub struct Places {
    own: BTreeMap<JobId, usize>,
    /// By the newest clone of each.
    lines: BTreeMap<JobId, usize>,
}

impl Places {
    /// Of the jobs in `clones`.
    pub fn new(facts: &BTreeMap<JobId, JobFacts>, clones: &[JobId]) -> Self {
        let (mut own, mut lines) = (BTreeMap::new(), BTreeMap::new());
        for (place, clone) in clones.iter().enumerate() {
            own.entry(*clone).or_insert(place);
            lines.entry(newest(facts, *clone)).or_insert(place);
        }
        Self { own, lines }
    }
}

/// What the clone of `job` depends on, if it is cloned together with the jobs of `places`.
pub fn parents_of_clone(
    facts: &BTreeMap<JobId, JobFacts>,
    places: &Places,
    job: &JobFacts,
) -> Vec<(Relation, ParentRef)> {
    let mut parents = Vec::new();
    for Parent { relation, job: parent } in &job.parents {
        let newest = newest(facts, *parent);
        let passed = |id| facts.get(&id).and_then(|job| job.outcome).map(Outcome::is_ok);
        // A copy may be made of any of a job and its clones.
        let cloned = places.own.get(parent).or_else(|| places.lines.get(&newest)).copied();
        let found = match (cloned, relation) {
            (Some(place), relation) => Some((*relation, ParentRef::Posted(place))),
            (None, Relation::Chained) if passed(*parent) == Some(true) => {
                Some((Relation::Chained, ParentRef::Job(*parent)))
            }
            // What has ended without passing and is not cloned is left behind: it could only stop the clone.
            (None, Relation::Chained) => {
                (passed(newest) != Some(false)).then_some((Relation::Chained, ParentRef::Job(newest)))
            }
            // Its slot is another one's now.
            (None, Relation::DirectlyChained) => {
                (passed(*parent) == Some(true)).then_some((Relation::Chained, ParentRef::Job(*parent)))
            }
            (None, Relation::Parallel) => {
                let waits = facts.get(&newest).is_some_and(|job| job.standing() == Standing::Waiting);
                waits.then_some((Relation::Parallel, ParentRef::Job(newest)))
            }
        };
        parents.extend(found);
    }
    parents.sort_unstable();
    parents.dedup();
    parents
}

/// The job that takes the place of `row`; its parents are for [`parents_of_clone`].
pub fn clone_of(row: &JobRow, request: &RestartRequest) -> Result<NewJob, Refused> {
    let mut settings = row.settings.to_settings();
    for (key, value) in &request.options.set {
        let (name, appends) = match key.strip_suffix('+') {
            Some(name) => (name, true),
            None => (key.as_str(), false),
        };
        let before = settings.0.remove(name);
        let Some(value) = value else { continue };
        let value = match &before {
            Some(before) if appends => format!("{}{value}", before.value),
            _ => value.clone(),
        };
        let setting = Setting::new(value, Provenance::Restart);
        let setting = match before {
            Some(before) => setting.overriding(before),
            None => setting,
        };
        settings.0.insert(name.to_owned(), setting);
    }
    settings.check().map_err(|problem| Refused::Setting(row.label(), problem.to_string()))?;
    Ok(NewJob {
        priority: Some(request.options.priority.unwrap_or(row.priority)),
        group: request.options.group.unwrap_or(row.group),
        clone_of: Some(row.id),
        ..NewJob::new(settings)
    })
}
