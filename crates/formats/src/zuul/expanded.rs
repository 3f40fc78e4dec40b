//! A configuration as one JSON document, in which the work of templates and stanzas for many jobs is done: for
//! comparisons with what Zuul 2.6 makes of a layout.

use super::queues::made_name;
use assay_engine::gate::config::{Config, JobDef, JobNode, Manager, Pipeline};
use assay_engine::gate::ids::ProjectName;
use assay_engine::gate::pattern::Pattern;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// `{pipelines: {NAME: {manager, projects: {PROJECT: tree}, queues: [{name, projects}]}}, jobs: {NAME: attributes}}`. A
/// tree is a list of names and `{job, children}`; a queue whose name would list too many projects has none.
pub fn expanded_json(config: &Config) -> Value {
    let pipelines = config.pipelines.iter().map(|it| (it.name.to_string(), pipeline(config, it)));
    let jobs = config.jobs.iter().map(|(name, def)| (name.to_string(), job(def)));
    json!({"pipelines": pipelines.collect::<Map<_, _>>(), "jobs": jobs.collect::<Map<_, _>>()})
}

fn pipeline(config: &Config, pipeline: &Pipeline) -> Value {
    let has = |project: &&std::sync::Arc<assay_engine::gate::config::Project>| {
        project.pipelines.contains_key(&pipeline.name)
    };
    let projects = config.projects.values().filter(has);
    let trees: Map<String, Value> = projects
        .clone()
        .filter_map(|project| Some((project.name.to_string(), tree(project.pipelines.get(&pipeline.name)?))))
        .collect();
    let manager = match pipeline.manager {
        Manager::Independent => "IndependentPipelineManager",
        Manager::Dependent => "DependentPipelineManager",
        Manager::Supercedent => "SupercedentPipelineManager",
        Manager::Serial => "SerialPipelineManager",
    };
    let mut queues = Vec::new();
    if pipeline.manager == Manager::Dependent {
        // Those that share none have one each.
        let shared: BTreeSet<&ProjectName> =
            pipeline.queues.iter().flat_map(|queue| &queue.projects).collect();
        let alone = projects.filter(|project| !shared.contains(&project.name));
        queues.extend(alone.map(|project| (vec![project.name.as_str()], Some(project.name.as_str()))));
        for queue in &pipeline.queues {
            let members: Vec<&str> = queue.projects.iter().map(ProjectName::as_str).collect();
            let shortened = queue.name.as_str() == made_name(&queue.projects)
                && queue.name.as_str() != members.join(", ");
            queues.push((members, Some(queue.name.as_str()).filter(|_| !shortened)));
        }
    }
    queues.sort();
    let queues: Vec<Value> =
        queues.into_iter().map(|(projects, name)| json!({"name": name, "projects": projects})).collect();
    json!({"manager": manager, "projects": trees, "queues": queues})
}

fn tree(nodes: &[JobNode]) -> Value {
    let node = |node: &JobNode| match node.children.as_slice() {
        [] => json!(node.job),
        children => json!({"job": node.job, "children": tree(children)}),
    };
    nodes.iter().map(node).collect()
}

fn job(job: &JobDef) -> Value {
    let texts = |patterns: &[Pattern]| patterns.iter().map(Pattern::as_str).collect::<Vec<_>>().into();
    let (branches, files): (Value, Value) = (texts(&job.branches), texts(&job.files));
    json!({
        "attempts": job.attempts,
        "branches": branches,
        "failure_message": job.failure_message,
        "files": files,
        "hold": job.hold_following,
        "mutex": job.semaphores.first(),
        "parameter_function": job.parameter_function,
        "queue_name": job.queue_name,
        "skip_if": !job.skip_if.is_empty(),
        "success_pattern": job.success_pattern,
        "tags": job.tags,
        "voting": job.voting,
    })
}
