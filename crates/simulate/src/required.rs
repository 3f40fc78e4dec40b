//! What the configuration asks of an item, read from the configuration and not from the gate's own list: a gate that
//! forgets a job must be found.

use assay_engine::gate::config::{Config, JobDef, JobNode};
use assay_engine::gate::ids::ProjectName;
use assay_engine::gate::item::Item;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A job that must have passed if it votes.
#[derive(Debug, Clone)]
pub(crate) struct Required {
    /// What it is.
    pub job: Arc<JobDef>,
    /// The one in the list that must succeed first.
    pub parent: Option<usize>,
}

/// The jobs of an item, each once, those above first. Whether a job with filters applies is the gate's word: it is
/// in the list if the item has it.
pub(crate) fn jobs(config: &Config, item: &Item) -> Vec<Required> {
    let projects: BTreeSet<&ProjectName> = match item.changes.as_slice() {
        [] => BTreeSet::from([&item.project]),
        changes => changes.iter().map(|change| &change.merge.project).collect(),
    };
    let mut found = Vec::new();
    for project in projects {
        let tree = config.projects.get(project).and_then(|it| it.pipelines.get(&item.pipeline));
        for node in tree.into_iter().flatten() {
            add(config, item, node, None, &mut found);
        }
    }
    found
}

fn add(config: &Config, item: &Item, node: &JobNode, parent: Option<usize>, found: &mut Vec<Required>) {
    let job = config.jobs.get(&node.job).cloned();
    let job = job.unwrap_or_else(|| Arc::new(JobDef::new(node.job.clone())));
    let applies = !has_filters(&job) || item.buildset.jobs.iter().any(|own| own.job == node.job);
    let mut below = parent;
    if applies {
        let known = found.iter().position(|other| other.job.name == node.job);
        below = Some(known.unwrap_or(found.len()));
        if known.is_none() {
            found.push(Required { job, parent });
        }
    }
    for child in &node.children {
        add(config, item, child, below, found);
    }
}

/// True if a job may not apply to a change.
pub(crate) fn has_filters(job: &JobDef) -> bool {
    !job.branches.is_empty() || !job.files.is_empty() || !job.skip_if.is_empty()
}

/// True if a result under one definition says nothing of the other.
pub(crate) fn is_other_work(one: &JobDef, other: &JobDef) -> bool {
    (&one.task, &one.env, &one.projects, one.hermetic)
        != (&other.task, &other.env, &other.projects, other.hermetic)
}
