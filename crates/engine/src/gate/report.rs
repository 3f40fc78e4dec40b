//! What is told to whom, in the words and with the lines that Zuul's users' scripts read.

use super::Gate;
use super::change::Subject;
use super::config::{Manager, Messages, Pipeline, ReportAction};
use super::ids::{ItemId, PipelineName, ProjectName};
use super::io::{Effect, Report};
use super::item::{Build, Item, ItemChange, ItemJob, JobState, MergeState};
use super::jobs;
use super::reason::EvictReason;
use super::rows::GateRow;
use std::fmt::Write as _;

/// What a report is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Start,
    Success,
    /// What remains to be told of a success after the landing has delivered the reviews.
    Landed,
    Failure,
    /// Only the infrastructure failed: told without a vote.
    Infrastructure,
    /// Nothing says what its jobs do: told without a vote.
    Undefined,
    MergeFailure,
    DidNotLand(String),
    Evicted(EvictReason),
}

impl Gate {
    /// Stores and sends the reports of a kind.
    pub(super) fn report(&mut self, id: ItemId, kind: &Kind) {
        let pipeline = self.held.items.get(&id).and_then(|item| self.held.pipeline(&item.pipeline));
        if let Some(pipeline) = pipeline.cloned() {
            self.report_by(&pipeline, id, kind);
        }
    }

    /// Stores and sends the reports of a kind as a pipeline makes them that may be gone.
    pub(super) fn report_by(&mut self, pipeline: &Pipeline, id: ItemId, kind: &Kind) {
        for report in self.reports_for(pipeline, id, kind) {
            self.scratch.rows.push(GateRow::Report(Box::new(report.clone())));
            self.effect(Effect::Report(Box::new(report)));
        }
    }

    /// The reports of a kind, numbered.
    pub(super) fn reports_for(&mut self, pipeline: &Pipeline, id: ItemId, kind: &Kind) -> Vec<Report> {
        let Some(item) = self.held.items.get(&id).cloned() else { return Vec::new() };
        let actions = self.actions(pipeline, kind);
        if actions.is_empty() {
            return Vec::new();
        }
        let message = self.message(pipeline, &item, kind);
        let told = actions.into_iter().flat_map(|action| {
            let about = abouts(&item, &action);
            about.into_iter().map(move |(about, project)| (action.clone(), about, project))
        });
        let first = item.reports;
        let reports: Vec<Report> = (first..)
            .zip(told)
            .map(|(number, (action, about, project))| Report {
                id: (id, number),
                about,
                project,
                pipeline: pipeline.name.clone(),
                action,
                message: message.clone(),
            })
            .collect();
        if let Some(item) = self.edit(id) {
            item.reports += reports.len() as u32;
        }
        reports
    }

    fn actions(&self, pipeline: &Pipeline, kind: &Kind) -> Vec<ReportAction> {
        let reporters = &pipeline.reporters;
        let disabled = self.held.pipelines.get(&pipeline.name).is_some_and(|row| row.disabled);
        if disabled {
            return match kind {
                Kind::Start | Kind::Evicted(_) => Vec::new(),
                Kind::Landed => without_reviews(&reporters.disabled),
                _ => reporters.disabled.clone(),
            };
        }
        match kind {
            Kind::Start => reporters.start.clone(),
            Kind::Success => reporters.success.clone(),
            Kind::Landed => without_reviews(&reporters.success),
            Kind::Failure | Kind::DidNotLand(_) | Kind::Evicted(EvictReason::NeedLost { .. }) => {
                reporters.failure.clone()
            }
            Kind::Infrastructure | Kind::Undefined => {
                reporters.failure.iter().map(ReportAction::without_votes).collect()
            }
            Kind::MergeFailure => {
                reporters.merge_failure.clone().unwrap_or_else(|| reporters.failure.clone())
            }
            Kind::Evicted(reason) if is_told(pipeline, reason) => {
                reporters.failure.iter().map(ReportAction::without_votes).collect()
            }
            Kind::Evicted(_) => Vec::new(),
        }
    }

    fn message(&self, pipeline: &Pipeline, item: &Item, kind: &Kind) -> String {
        let Messages { success, failure, merge_failure, footer } = &pipeline.messages;
        let mut text = match kind {
            Kind::Start => self.start_message(&pipeline.name),
            Kind::Success | Kind::Landed => format!("{success}\n\n{}", self.job_lines(item)),
            Kind::Failure => format!("{failure}\n\n{}{}", self.job_lines(item), undefined(item)),
            Kind::Infrastructure => format!(
                "The infrastructure failed; this says nothing about the change.\n\n{}",
                self.job_lines(item)
            ),
            Kind::Undefined => format!(
                "Jobs could not be run; this says nothing about the change.\n\n{}{}",
                self.job_lines(item),
                undefined(item)
            ),
            Kind::MergeFailure => match &item.buildset.state {
                MergeState::Failed(why) => format!("{merge_failure}\n\n{why}"),
                _ => merge_failure.clone(),
            },
            Kind::DidNotLand(why) => {
                format!("{failure}\n\nThe change was tested, and then not merged: {why}\n")
            }
            Kind::Evicted(EvictReason::NeedLost { .. }) => {
                "This change depends on a change that failed to merge.\n".to_owned()
            }
            Kind::Evicted(reason @ EvictReason::Superseded { .. }) => {
                format!("Taken out of {}: {reason}; approve it again.\n", pipeline.name)
            }
            Kind::Evicted(reason) => format!("Taken out of {}: {reason}.\n", pipeline.name),
        };
        if !footer.is_empty() {
            text.push('\n');
            text.push_str(footer);
        }
        text
    }

    fn start_message(&self, pipeline: &PipelineName) -> String {
        let mut text = format!("Starting {pipeline} jobs.");
        if let Some(url) = &self.held.config.places.status_url {
            text.push('\n');
            text.push_str(url);
        }
        text
    }

    /// `- NAME URL : RESULT in 3m 20s (non-voting)`, one line for each job.
    fn job_lines(&self, item: &Item) -> String {
        let mut text = String::new();
        for job in &item.buildset.jobs {
            text.push_str(&self.job_line(item, job));
        }
        text
    }

    fn job_line(&self, item: &Item, job: &ItemJob) -> String {
        let places = &self.held.config.places;
        let definition = jobs::definition(&self.held.config, &job.job);
        let build = job.state.build();
        let word = match &job.state {
            JobState::Skipped => "SKIPPED",
            state => state.result().map_or("CANCELED", |result| result.word.as_str()),
        };
        let (replaced, pattern) = match word {
            "SUCCESS" => (&definition.success_message, &definition.success_pattern),
            "FAILURE" => (&definition.failure_message, &definition.failure_pattern),
            _ => (&None, &None),
        };
        let word = replaced.as_deref().unwrap_or(word);
        let url = self.report_url(item, &definition, build, pattern.as_deref());
        let name = if places.job_name_in_report { format!("{} ", job.job) } else { String::new() };
        let times = build.filter(|_| places.report_times).and_then(duration).unwrap_or_default();
        let voting = if job.voting { "" } else { " (non-voting)" };
        format!("- {name}{url} : {word}{times}{voting}\n")
    }
}

/// Why jobs that are not defined did not run: the first of them, each in its line.
fn undefined(item: &Item) -> String {
    const SAID: usize = 5;
    let results = item.buildset.jobs.iter().filter_map(|job| job.state.result());
    let undefined: Vec<_> = results.filter(|result| result.is_not_registered()).collect();
    let mut text = String::new();
    for result in undefined.iter().take(SAID) {
        text.push('\n');
        text.push_str(result.reason.as_deref().unwrap_or_default());
    }
    match undefined.len().saturating_sub(SAID) {
        0 => {}
        1 => text.push_str("\nThe same holds for 1 other job."),
        more => {
            let _ = write!(text, "\nThe same holds for {more} other jobs.");
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// What a report is about: a review is written on each change of an item, everything else is told once.
fn abouts(item: &Item, action: &ReportAction) -> Vec<(Subject, ProjectName)> {
    match action {
        ReportAction::Review { .. } if !item.changes.is_empty() => {
            let change =
                |own: &ItemChange| (Subject::Change(own.merge.patchset.clone()), own.merge.project.clone());
            item.changes.iter().map(change).collect()
        }
        _ => vec![(item.subject.clone(), item.project.clone())],
    }
}

/// Who has to be told that an item was taken out. The rest is plain to see at the source, or somebody's own doing.
fn is_told(pipeline: &Pipeline, reason: &EvictReason) -> bool {
    match reason {
        // Elsewhere the new patchset is tested by itself; here nothing comes of it before it is approved.
        EvictReason::Superseded { .. } => pipeline.manager == Manager::Dependent,
        EvictReason::NotSubmittable { .. }
        | EvictReason::RequirementLost { .. }
        | EvictReason::NeedsChanged { .. }
        | EvictReason::NeedLost { .. }
        | EvictReason::TreeMismatch { .. }
        | EvictReason::Partial { .. }
        | EvictReason::Unconfigured { .. } => true,
        EvictReason::Newer { .. }
        | EvictReason::Abandoned
        | EvictReason::MergedElsewhere
        | EvictReason::Dequeued { .. } => false,
    }
}

/// What is left to tell when the landing has delivered the reviews.
fn without_reviews(actions: &[ReportAction]) -> Vec<ReportAction> {
    actions.iter().filter(|action| !matches!(action, ReportAction::Review { .. })).cloned().collect()
}

/// ` in 1h 02m 03s`, ` in 3m 20s`, ` in 7s`.
fn duration(build: &Build) -> Option<String> {
    let seconds = build.ended_at?.micros_since(build.started_at?) / 1_000_000;
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let mut text = " in ".to_owned();
    let written = match (hours, minutes) {
        (0, 0) => write!(text, "{seconds}s"),
        (0, _) => write!(text, "{minutes}m {seconds:02}s"),
        _ => write!(text, "{hours}h {minutes:02}m {seconds:02}s"),
    };
    written.is_ok().then_some(text)
}

/// A comment without votes.
pub(super) fn comment(pipeline: &Pipeline, item: &Item, number: u32, text: &str) -> Report {
    let source = pipeline.source.clone();
    Report {
        id: (item.id, number),
        about: item.subject.clone(),
        project: item.project.clone(),
        pipeline: pipeline.name.clone(),
        action: ReportAction::Review { source, labels: Vec::new(), submit: false, flags: Vec::new() },
        message: text.to_owned(),
    }
}
