//! Whether what the gate says when it refuses a change or takes one out is so in the world: a gate that kept everything
//! out would break no other rule.

use crate::check::Checks;
use crate::gerrit::Change;
use crate::required;
use crate::world::World;
use assay_engine::gate::change::{LabelStatus, SubmitRecord};
use assay_engine::gate::config::{JobNode, Manager, Pipeline, ReportAction, Requirements, normal_label};
use assay_engine::gate::ids::{Patchset, PipelineName, ProjectName};
use assay_engine::gate::item::Item;
use assay_engine::gate::reason::{EnqueueRefusal, EvictReason};
use std::collections::BTreeSet;

/// What is not so about a refusal.
pub(crate) fn is_so(world: &World, pipeline: &PipelineName, reason: &EnqueueRefusal) -> Result<(), String> {
    let config = world.config();
    let Some(definition) = config.pipeline(pipeline) else { return Ok(()) };
    let so = match reason {
        EnqueueRefusal::NoJobsConfigured { project, .. } => {
            config.projects.get(project).and_then(|it| it.pipelines.get(pipeline)).is_none_or(Vec::is_empty)
        }
        EnqueueRefusal::NoJobsApply { change, .. } => {
            model(world, change).is_none_or(|change| has_filters(world, pipeline, &change.project))
        }
        EnqueueRefusal::NoJobsForRef { .. } => true,
        EnqueueRefusal::NothingToLand { .. } => definition.manager == Manager::Dependent,
        EnqueueRefusal::Requirement { .. } => {
            definition.require != Requirements::default() || !definition.reject.is_empty()
        }
        EnqueueRefusal::NotSubmittable { change, .. } => {
            model(world, change).is_some_and(|change| is_obstructed(world, definition, change))
        }
        EnqueueRefusal::Closed { change, .. } => {
            model(world, change).is_some_and(|change| !change.status.is_open())
        }
        EnqueueRefusal::NotCurrent { patchset, .. } => {
            model(world, patchset).is_some_and(|change| change.current() != patchset.patchset)
        }
        EnqueueRefusal::OutdatedNeed { needed, .. } => {
            model(world, needed).is_some_and(|change| change.current() != needed.patchset)
        }
        EnqueueRefusal::OtherQueue { change, needed, .. } => {
            let queue = |patchset| model(world, patchset).map(|change| queue_of(definition, &change.project));
            needs(world, change, needed) && queue(change) != queue(needed)
        }
        EnqueueRefusal::Needed { change, needed, why } => {
            if !needs(world, change, needed) {
                return Err(format!("{change} does not need {needed}"));
            }
            return is_so(world, pipeline, why);
        }
        EnqueueRefusal::UnknownNeed { what, .. } => {
            let named = |change: &Change| {
                change.change_id.eq_ignore_ascii_case(what) || what.ends_with(&format!("/{}", change.number))
            };
            let has_it = |change: &Change| change.current() > 0 && named(change);
            !world.gerrit.changes.values().any(has_it)
        }
        EnqueueRefusal::Cycle { path } => {
            let steps = path
                .windows(2)
                .all(|pair| world.gerrit.needs(pair[0].change.number).contains(&pair[1].change.number));
            path.len() > 2 && path.first() == path.last() && steps
        }
        EnqueueRefusal::Unknown { change } => {
            world.gerrit.changes.get(&change.number).is_none_or(|change| change.current() == 0)
        }
    };
    if so { Ok(()) } else { Err("that is not so".to_owned()) }
}

/// Whether an item is taken out for a reason that holds at this moment; what can only be judged at the end is not.
pub(crate) fn eviction_is_so(world: &World, checks: &Checks, item: &Item, reason: &EvictReason) -> bool {
    let config = world.config();
    let models = || item.changes.iter().filter_map(|own| model(world, &own.merge.patchset));
    match reason {
        EvictReason::NotSubmittable { .. } => config
            .pipeline(&item.pipeline)
            .is_none_or(|pipeline| models().any(|change| is_obstructed(world, pipeline, change))),
        EvictReason::NeedsChanged { .. } => {
            let known = |number: u64| {
                item.needs.iter().any(|need| need.change.number == number)
                    || item.changes.iter().any(|own| own.merge.patchset.change.number == number)
            };
            models().any(|change| world.gerrit.needs(change.number).into_iter().any(|need| !known(need)))
        }
        EvictReason::Partial { .. } => checks.refused.contains(&item.id),
        EvictReason::Newer { by } => *by > item.id,
        EvictReason::Dequeued { by } => by == crate::world::OPERATOR,
        EvictReason::Superseded { .. }
        | EvictReason::Abandoned
        | EvictReason::MergedElsewhere
        | EvictReason::NeedLost { .. }
        | EvictReason::RequirementLost { .. }
        | EvictReason::Unconfigured { .. }
        | EvictReason::TreeMismatch { .. } => true,
    }
}

fn model<'w>(world: &'w World, patchset: &Patchset) -> Option<&'w Change> {
    world.gerrit.changes.get(&patchset.change.number)
}

/// True if a submit would be refused once the pipeline has given its own votes.
fn is_obstructed(world: &World, pipeline: &Pipeline, change: &Change) -> bool {
    let own: BTreeSet<String> = pipeline.reporters.success.iter().flat_map(ReportAction::labels).collect();
    let foreign = |record: SubmitRecord| match record {
        SubmitRecord::NotReady { labels } => labels.iter().any(|label| {
            !matches!(label.status, LabelStatus::Ok | LabelStatus::May)
                && !own.contains(&normal_label(&label.label))
        }),
        SubmitRecord::Ok => false,
        SubmitRecord::Error { .. } => true,
    };
    change.wip || foreign(world.gerrit.record(change))
}

/// True if a change needs another one, over any number of steps.
fn needs(world: &World, change: &Patchset, needed: &Patchset) -> bool {
    let mut open = vec![change.change.number];
    let mut seen = BTreeSet::new();
    while let Some(next) = open.pop() {
        if next == needed.change.number && !seen.is_empty() {
            return true;
        }
        if seen.insert(next) {
            open.extend(world.gerrit.needs(next));
        }
    }
    false
}

fn queue_of<'p>(pipeline: &'p Pipeline, project: &'p ProjectName) -> &'p str {
    let shared = pipeline.queues.iter().find(|queue| queue.projects.contains(project));
    shared.map_or(project.as_str(), |queue| queue.name.as_str())
}

/// True if a job of a project may not apply to a change.
fn has_filters(world: &World, pipeline: &PipelineName, project: &ProjectName) -> bool {
    let config = world.config();
    let mut open: Vec<&JobNode> = config
        .projects
        .get(project)
        .and_then(|it| it.pipelines.get(pipeline))
        .into_iter()
        .flatten()
        .collect();
    while let Some(node) = open.pop() {
        if config.jobs.get(&node.job).is_some_and(|job| required::has_filters(job)) {
            return true;
        }
        open.extend(&node.children);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gerrit::Upload;
    use assay_engine::gate::ids::BranchName;

    /// What the gate could say and what is not so is found.
    #[test]
    fn a_lie_is_found() {
        let scenario = crate::simulate::plan(1, crate::simulate::Size::Short);
        let config = match &scenario.config {
            Some(crate::scenario::Source::Compiled(config)) => std::sync::Arc::clone(config),
            other => panic!("{other:?}"),
        };
        let project = config.projects.keys().next().cloned().expect("a project");
        let mut world = World::new(1);
        world.configure(config);
        for number in 1..=2 {
            let branch = BranchName::from("master");
            world.gerrit.create(&mut world.git, number, &project, &branch, None);
            world.gerrit.upload(&mut world.git, number, Upload::default()).expect("uploaded");
        }
        let patchset = |number| Patchset { change: world.gerrit.id(number), patchset: 1 };
        let (change, needed) = (patchset(1), patchset(2));
        let gate = PipelineName::from("gate");
        let unknown = EnqueueRefusal::Unknown { change: change.change.clone() };
        for lie in [
            EnqueueRefusal::NoJobsConfigured { project: project.clone(), pipeline: gate.clone() },
            EnqueueRefusal::NoJobsApply { change: change.clone(), pipeline: gate.clone() },
            EnqueueRefusal::Requirement { what: "no".to_owned() },
            EnqueueRefusal::Closed { change: change.clone(), status: "MERGED".to_owned() },
            EnqueueRefusal::NotCurrent { patchset: change.clone(), current: 2 },
            EnqueueRefusal::OutdatedNeed { change: change.clone(), needed: needed.clone(), current: 2 },
            EnqueueRefusal::Cycle { path: vec![change.clone(), needed.clone(), change.clone()] },
            EnqueueRefusal::Needed { change, needed, why: Box::new(unknown.clone()) },
            unknown,
        ] {
            assert!(is_so(&world, &gate, &lie).is_err(), "{lie}");
        }
        let not_yet = EnqueueRefusal::NotSubmittable { change: patchset(1), what: "a vote".to_owned() };
        assert!(is_so(&world, &gate, &not_yet).is_ok(), "nobody has voted");
    }
}
