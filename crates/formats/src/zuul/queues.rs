//! Shared change queues: projects whose jobs in a dependent pipeline overlap share one.

use super::job::Stanza;
use super::layout::Jobs;
use super::project::Project;
use crate::diagnostic::Place;
use crate::read::Reader;
use assay_engine::gate::config::{Manager, NOOP, Pipeline, QueueDef};
use assay_engine::gate::ids::{JobName, PipelineName, ProjectName, QueueName};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A name made of the names of projects is at most so long; beyond it, the first and the number of the others are named.
const NAME_BYTES: usize = 80;

/// A shared queue and why it is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueExplanation {
    /// Its pipeline.
    pub pipeline: PipelineName,
    /// Its name.
    pub name: QueueName,
    /// True if a job's `queue-name` named it.
    pub named: bool,
    /// Its projects.
    pub projects: BTreeSet<ProjectName>,
    /// The jobs that several of them have, those that join most first.
    pub joins: Vec<Join>,
}

/// A job that joins projects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Join {
    /// The job.
    pub job: JobName,
    /// Those that have it.
    pub projects: BTreeSet<ProjectName>,
}

/// The name of a queue that no job names: its projects', or the first one's and how many more there are.
pub(super) fn made_name(projects: &BTreeSet<ProjectName>) -> String {
    let names: Vec<&str> = projects.iter().map(ProjectName::as_str).collect();
    let all = names.join(", ");
    if all.len() <= NAME_BYTES || names.len() < 2 {
        return all;
    }
    format!("{} and {} more", names[0], names.len() - 1)
}

/// Gives the dependent pipelines their queues. A project alone has its own queue without being told.
pub(super) fn share(
    reader: &mut Reader<'_, '_>,
    mut pipelines: Vec<Pipeline>,
    projects: &[Project],
    jobs: &Jobs<'_>,
    stanzas: &[Stanza],
    noop_joins: bool,
) -> (Vec<Pipeline>, Vec<QueueExplanation>) {
    let mut explained = Vec::new();
    for (number, pipeline) in pipelines.iter_mut().enumerate() {
        if pipeline.manager != Manager::Dependent {
            continue;
        }
        let groups = groups(number, projects, jobs, noop_joins);
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        for group in groups {
            let members: BTreeSet<ProjectName> =
                group.members.iter().map(|member| projects[*member].name.as_ref().into()).collect();
            let assigned = assigned_name(reader, &group, jobs, stanzas);
            if group.members.len() < 2 && assigned.is_none() {
                continue;
            }
            let named = assigned.is_some();
            let mut name = assigned.unwrap_or_else(|| made_name(&members));
            let count = names.entry(name.clone()).or_default();
            *count += 1;
            if *count > 1 {
                let place = projects[group.members[0]].place;
                let message = format!(
                    "two queues of `{}` are called `{name}` although no job joins them; the second is called `{name} ({count})`",
                    pipeline.name
                );
                reader.sink.warning("queue-name", place, message);
                name = format!("{name} ({count})");
            }
            let name: QueueName = name.into();
            pipeline.queues.push(QueueDef {
                name: name.clone(),
                projects: members.clone(),
                allow_cycles: false,
            });
            explained.push(QueueExplanation {
                pipeline: pipeline.name.clone(),
                name,
                named,
                projects: members,
                joins: joins(&group, projects, jobs),
            });
        }
    }
    (pipelines, explained)
}

/// Projects that belong together.
struct Group {
    /// Sorted by name.
    members: Vec<usize>,
    /// Their jobs, each with who has it.
    jobs: BTreeMap<u32, Vec<usize>>,
}

/// The connected parts of projects and jobs, by the name of their first project.
fn groups(pipeline: usize, projects: &[Project], jobs: &Jobs<'_>, noop_joins: bool) -> Vec<Group> {
    let mut order: Vec<usize> =
        (0..projects.len()).filter(|at| projects[*at].levels.contains_key(&pipeline)).collect();
    order.sort_by(|a, b| projects[*a].name.cmp(&projects[*b].name));
    let mut sets = Sets((0..order.len()).collect());
    // By job, the first project in the order that has it.
    let mut first: HashMap<u32, usize> = HashMap::with_capacity(jobs.len());
    let mut of_project: Vec<Vec<u32>> = Vec::with_capacity(order.len());
    for (rank, project) in order.iter().enumerate() {
        let mut has = Vec::new();
        if let Some(level) = projects[*project].levels.get(&pipeline) {
            level.visit(&mut |job| has.push(job));
        }
        has.sort_unstable();
        has.dedup();
        for job in &has {
            if !noop_joins && jobs.def(*job).name.as_str() == NOOP {
                continue;
            }
            let other = *first.entry(*job).or_insert(rank);
            sets.join(other, rank);
        }
        of_project.push(has);
    }
    let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
    for (rank, project) in order.iter().enumerate() {
        let group = groups
            .entry(sets.root(rank))
            .or_insert_with(|| Group { members: Vec::new(), jobs: BTreeMap::new() });
        group.members.push(*project);
        for job in &of_project[rank] {
            group.jobs.entry(*job).or_default().push(*project);
        }
    }
    groups.into_values().collect()
}

/// Disjoint sets; the smallest member is the root.
struct Sets(Vec<usize>);

impl Sets {
    fn root(&mut self, mut at: usize) -> usize {
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

/// The one name that jobs of the group give it.
fn assigned_name(
    reader: &mut Reader<'_, '_>,
    group: &Group,
    jobs: &Jobs<'_>,
    stanzas: &[Stanza],
) -> Option<String> {
    let named = group.jobs.keys().filter_map(|job| Some((*job, jobs.def(*job).queue_name.as_deref()?)));
    let mut named: Vec<(u32, &str)> = named.collect();
    named.sort_unstable();
    let (job, name) = *named.first()?;
    for (other, second) in named.iter().filter(|(_, second)| *second != name) {
        let (job, other) = (jobs.name(job), jobs.name(*other));
        let place = |name: &JobName| stanzas.iter().find(|stanza| *stanza.name == *name.as_str());
        let place = place(&other).map_or_else(Place::default, |stanza| stanza.place);
        let message = format!(
            "more than one name for one change queue: `{other}` calls it `{second}`, `{job}` calls it `{name}`; expected one name, or jobs that do not join these projects"
        );
        reader.sink.error("queue-name", place, message);
    }
    Some(name.to_owned())
}

fn joins(group: &Group, projects: &[Project], jobs: &Jobs<'_>) -> Vec<Join> {
    let shared = group.jobs.iter().filter(|(_, owners)| owners.len() > 1);
    let mut joins: Vec<Join> = shared
        .map(|(job, owners)| Join {
            job: jobs.name(*job),
            projects: owners.iter().map(|owner| projects[*owner].name.as_ref().into()).collect(),
        })
        .collect();
    joins.sort_by(|a, b| b.projects.len().cmp(&a.projects.len()).then_with(|| a.job.cmp(&b.job)));
    joins
}
