//! Job trees of projects and templates.

use crate::diagnostic::Place;
use crate::read::{Fields, Reader};
use crate::yaml::{Kind, Node};
use assay_engine::gate::config::{JobDef, JobNode, NOOP};
use assay_engine::gate::ids::{JobName, PipelineName};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Job trees by pipeline.
#[derive(Default)]
pub(super) struct Trees(BTreeMap<PipelineName, Vec<JobNode>>);

impl Trees {
    /// Adds others behind them. A job that is there already stays where it is, and gets the others' children.
    pub(super) fn add(&mut self, others: &Self) {
        for (pipeline, nodes) in &others.0 {
            merge(self.0.entry(pipeline.clone()).or_default(), nodes);
        }
    }

    /// The finished trees. A job that waits for itself is an error.
    pub(super) fn finish(
        self,
        reader: &mut Reader<'_, '_>,
        place: Place,
    ) -> BTreeMap<PipelineName, Vec<JobNode>> {
        for (pipeline, nodes) in &self.0 {
            check(reader, place, pipeline, nodes);
        }
        self.0
    }
}

/// Refuses a job that waits for itself, and warns of one that is there twice.
pub(crate) fn check(reader: &mut Reader<'_, '_>, place: Place, pipeline: &PipelineName, nodes: &[JobNode]) {
    // Beside each other no job is twice.
    if nodes.iter().all(|node| node.children.is_empty()) {
        return;
    }
    let mut seen = BTreeSet::new();
    walk(nodes, &mut Vec::new(), &mut |path, job| {
        if let Some(from) = path.iter().position(|above| *above == job) {
            let circle: Vec<&str> = path[from..].iter().chain([&job]).map(|job| job.as_str()).collect();
            let message = format!("in `{pipeline}` the job `{job}` waits for itself: {}", circle.join(" → "));
            reader.sink.error("circular", place, message);
        } else if !seen.insert(job) {
            let message =
                format!("in `{pipeline}` the job `{job}` stands in two places of the tree; it runs once");
            reader.sink.warning("twice", place, message);
        }
    });
}

fn walk<'n>(
    nodes: &'n [JobNode],
    path: &mut Vec<&'n JobName>,
    visit: &mut impl FnMut(&[&'n JobName], &'n JobName),
) {
    for node in nodes {
        visit(path, &node.job);
        path.push(&node.job);
        walk(&node.children, path, visit);
        path.pop();
    }
}

/// True if the job that needs no worker is among them.
pub(super) fn has_noop(nodes: &[JobNode]) -> bool {
    nodes.iter().any(|node| node.job.as_str() == NOOP || has_noop(&node.children))
}

fn merge(into: &mut Vec<JobNode>, nodes: &[JobNode]) {
    let mut places: HashMap<JobName, usize> =
        into.iter().enumerate().map(|(at, node)| (node.job.clone(), at)).collect();
    for node in nodes {
        let at = *places.entry(node.job.clone()).or_insert_with(|| {
            into.push(JobNode { job: node.job.clone(), children: Vec::new() });
            into.len() - 1
        });
        merge(&mut into[at].children, &node.children);
    }
}

/// Reads the trees under the names of pipelines; all other keys are unknown.
pub(super) fn read(
    reader: &mut Reader<'_, '_>,
    fields: &mut Fields<'_>,
    what: &str,
    pipelines: &[PipelineName],
    jobs: &BTreeMap<JobName, Arc<JobDef>>,
) -> Trees {
    let mut trees = Trees::default();
    for entry in fields.rest() {
        let key = &*entry.key.text;
        if let Some(pipeline) = pipelines.iter().find(|pipeline| pipeline.as_str() == key) {
            let mut nodes = Vec::new();
            level(reader, &entry.value, key, jobs, &mut nodes);
            merge(trees.0.entry(pipeline.clone()).or_default(), &nodes);
        } else {
            let message = format!("unknown key `{key}` of {what}; expected the name of a pipeline");
            let known = pipelines.iter().map(PipelineName::as_str).chain(["merge-mode", "templates"]);
            reader.sink.unknown("unknown-key", entry.key.place, message, key, known);
        }
    }
    trees
}

/// A name, a mapping from names to what follows them, or a list of these.
fn level(
    reader: &mut Reader<'_, '_>,
    node: &Node,
    what: &str,
    jobs: &BTreeMap<JobName, Arc<JobDef>>,
    into: &mut Vec<JobNode>,
) {
    match &node.kind {
        Kind::List(items) => {
            for item in items {
                level(reader, item, what, jobs, into);
            }
        }
        Kind::Map(entries) => {
            for entry in entries {
                let job = known(reader, &entry.key.text, entry.key.place, jobs);
                let mut children = Vec::new();
                level(reader, &entry.value, &entry.key.text, jobs, &mut children);
                into.push(JobNode { job, children });
            }
        }
        Kind::Scalar { .. } => {
            if let Some(name) = reader.name(node, what) {
                into.push(JobNode { job: known(reader, name, node.place, jobs), children: Vec::new() });
            }
        }
    }
}

fn known(
    reader: &mut Reader<'_, '_>,
    name: &str,
    place: Place,
    jobs: &BTreeMap<JobName, Arc<JobDef>>,
) -> JobName {
    if let Some((name, _)) = jobs.get_key_value(name) {
        return name.clone();
    }
    if name != NOOP {
        let message = format!("there is no job `{name}`");
        reader.sink.unknown(
            "unknown-job",
            place,
            message,
            name,
            jobs.keys().map(JobName::as_str).chain([NOOP]),
        );
    }
    name.into()
}
