//! Which jobs apply to a change: job trees and their filters.

use super::change::Subject;
use super::config::{Config, JobDef, JobNode, Pipeline};
use super::ids::{JobName, ProjectName};
use super::item::{Item, ItemChange, ItemJob, JobState};
use std::sync::Arc;

/// What the filters of jobs look at.
pub(super) struct Target<'a> {
    pub(super) project: &'a ProjectName,
    /// The branch of a change, or the ref; none for a timer.
    pub(super) branch: Option<&'a str>,
    /// Changed files; `None` if unknown or not a change.
    pub(super) files: Option<&'a [String]>,
}

impl<'a> Target<'a> {
    pub(super) fn of(change: &'a ItemChange) -> Self {
        Self {
            project: &change.merge.project,
            branch: Some(change.merge.branch.as_str()),
            files: change.files.as_deref(),
        }
    }

    /// Of a ref or a timer.
    pub(super) fn of_subject(subject: &'a Subject, project: &'a ProjectName) -> Self {
        let branch = match subject {
            Subject::Ref(update) => Some(update.name.as_str()),
            Subject::Change(_) | Subject::Timer { .. } => None,
        };
        Self { project, branch, files: None }
    }
}

/// What an item's jobs look at.
pub(super) fn targets(item: &Item) -> Vec<Target<'_>> {
    match &item.subject {
        Subject::Change(_) => item.changes.iter().map(Target::of).collect(),
        subject => vec![Target::of_subject(subject, &item.project)],
    }
}

/// The definition of a job; one without an entry has only its name.
pub(super) fn definition(config: &Config, job: &JobName) -> Arc<JobDef> {
    config.jobs.get(job).cloned().unwrap_or_else(|| Arc::new(JobDef::new(job.clone())))
}

/// True if the project has jobs in the pipeline.
pub(super) fn has_jobs(config: &Config, pipeline: &Pipeline, project: &ProjectName) -> bool {
    let jobs = config.projects.get(project).and_then(|project| project.pipelines.get(&pipeline.name));
    jobs.is_some_and(|jobs| !jobs.is_empty())
}

/// The jobs that apply to any of `targets`, in the order of the report, each once.
///
/// A job whose parent does not apply stands in the parent's place: a filtered parent never hides its children, which
/// would leave required jobs unrun.
pub(super) fn list(config: &Config, pipeline: &Pipeline, targets: &[Target<'_>]) -> Vec<ItemJob> {
    let mut jobs = Vec::new();
    for target in targets {
        let tree = config.projects.get(target.project).and_then(|p| p.pipelines.get(&pipeline.name));
        for node in tree.into_iter().flatten() {
            add(config, node, None, target, &mut jobs);
        }
    }
    jobs
}

fn add(config: &Config, node: &JobNode, parent: Option<usize>, target: &Target<'_>, jobs: &mut Vec<ItemJob>) {
    let definition = definition(config, &node.job);
    let mut below = parent;
    if applies(&definition, target) {
        let known = jobs.iter().position(|job| job.job == node.job);
        below = Some(known.unwrap_or(jobs.len()));
        if known.is_none() {
            let voting = definition.voting;
            let state = JobState::Waiting;
            jobs.push(ItemJob { job: node.job.clone(), voting, parent, state, lost: Vec::new() });
        }
    }
    for child in &node.children {
        add(config, child, below, target, jobs);
    }
}

/// Whether a job's filters let it run.
fn applies(job: &JobDef, target: &Target<'_>) -> bool {
    let on_branch =
        |pattern: &super::pattern::Pattern| target.branch.is_some_and(|branch| pattern.matches_start(branch));
    let branch_fits = job.branches.is_empty() || job.branches.iter().any(on_branch);
    let file_fits = job.files.is_empty()
        || target.files.is_some_and(|files| {
            files.iter().any(|file| job.files.iter().any(|pattern| pattern.matches_start(file)))
        });
    branch_fits && file_fits && !job.skip_if.iter().any(|rule| skips(rule, target))
}

fn skips(rule: &super::config::SkipIf, target: &Target<'_>) -> bool {
    let project = rule.project.as_ref().is_none_or(|pattern| pattern.matches_start(target.project.as_str()));
    let branch = rule
        .branch
        .as_ref()
        .is_none_or(|pattern| target.branch.is_some_and(|branch| pattern.matches_start(branch)));
    let all_files = rule.all_files_match_any.is_empty()
        || target.files.is_some_and(|files| {
            // A merge has no list of files; it is not skipped.
            !files.is_empty()
                && files
                    .iter()
                    .all(|file| rule.all_files_match_any.iter().any(|pattern| pattern.matches_start(file)))
        });
    let says_anything =
        rule.project.is_some() || rule.branch.is_some() || !rule.all_files_match_any.is_empty();
    says_anything && project && branch && all_files
}
