//! Comments that name a bug go over to the next job of the scenario that fails the same way.

use crate::app::App;
use crate::record::{Run, step_subject};
use assay_engine::ids::{AttemptId, JobId};
use assay_engine::knowledge::carry::{DEPTH, Failure, Module, Next, Walk, carried, is_carried};
use assay_engine::outcome::Outcome;
use assay_engine::rows::JobRow;
use assay_records::step::ModuleResult;
use assay_store::{Comment, CommentId, CommentTarget, StoreError};
use serde_json::json;
use std::sync::Arc;

/// A module's result in openQA's words, as far as failures are told apart by it.
fn word(result: ModuleResult) -> &'static str {
    match result {
        ModuleResult::Failed => "failed",
        ModuleResult::Softfailed => "softfailed",
        ModuleResult::Passed => "passed",
        ModuleResult::None | ModuleResult::Running | ModuleResult::Skipped | ModuleResult::Cancelled => {
            "none"
        }
    }
}

fn failure(outcome: Outcome, reason: Option<&str>, run: &Run) -> Failure {
    let titles: Vec<Vec<String>> =
        run.modules.iter().map(|module| module.steps.iter().map(step_subject).collect()).collect();
    let modules = run.modules.iter().zip(&titles).map(|(module, titles)| Module {
        name: &module.plan.name,
        result: word(module.result),
        titles,
    });
    Failure::of(outcome, reason, modules)
}

impl App {
    /// An attempt has ended. If its job ended with it and failed as an earlier one did, what was said there is said here
    /// too. May be done again: what has come over does not come twice.
    pub(crate) async fn carry_over(self: &Arc<Self>, attempt: AttemptId) -> Result<(), StoreError> {
        let Some(job) = self.store.job(attempt.job).await? else { return Ok(()) };
        let Some(end) = job.row.state.end() else { return Ok(()) };
        let outcome = end.outcome;
        if outcome == Outcome::Passed || outcome.is_aborted() || !self.carries_over(&job.row) {
            return Ok(());
        }
        let knowledge = self.store.knowledge();
        // Those that came to a verdict, as in openQA, and those that ended like this one.
        let alike = |past: &Outcome| past.is_verdict() || *past == outcome;
        let alike = Outcome::ALL.into_iter().filter(alike).collect();
        let earlier = self.earlier_with(&job.row, alike, DEPTH).await?;
        if earlier.is_empty() {
            return Ok(());
        }
        let ids: Vec<JobId> = earlier.iter().map(|job| job.id).collect();
        let said = knowledge.comments_of_jobs(&ids).await?;
        let own = knowledge.comments(CommentTarget::Job(job.row.id)).await?;
        // Nearly always there is nothing to take over, and then no steps are read.
        if said.is_empty() || own.iter().any(|comment| is_carried(&comment.text)) {
            return Ok(());
        }
        let text = job.row.state.end().map(|end| end.reason.to_string());
        let run = self.last_run(job.row.id).await?;
        let Some(mut walk) = Walk::from(failure(outcome, text.as_deref(), &run)) else { return Ok(()) };
        for past in &earlier {
            let Some(ended) = past.outcome else { continue };
            let theirs = match ended {
                Outcome::Passed => Failure::Good,
                _ => failure(ended, past.reason.as_deref(), &self.last_run(past.id).await?),
            };
            match walk.look(theirs) {
                Next::GiveUp => return Ok(()),
                Next::GoOn => {}
                Next::Same => {
                    let about: Vec<&Comment> =
                        said.iter().filter(|comment| comment.target == CommentTarget::Job(past.id)).collect();
                    let texts = about.iter().map(|comment| comment.text.as_str());
                    if let Some((place, text)) = carried(past.id.0, texts) {
                        return self.take_over(job.row.id, past.id, about[place], text).await;
                    }
                }
            }
        }
        Ok(())
    }

    async fn take_over(
        self: &Arc<Self>,
        job: JobId,
        from: JobId,
        comment: &Comment,
        text: String,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let taken = Comment {
            id: CommentId(0),
            target: CommentTarget::Job(job),
            author: comment.author.clone(),
            text,
            created_at: now,
            updated_at: now,
        };
        let id = self.keep_comment(&taken).await?;
        self.audit(
            "",
            "comment_create",
            json!({"id": id.0, "job_id": job.0, "taken_over_from_job_id": from.0}),
        );
        Ok(())
    }

    /// What the job's group says, else its parent group; else yes.
    fn carries_over(&self, job: &JobRow) -> bool {
        let catalog = self.library.now();
        let group = job.group.and_then(|group| catalog.groups.get(&group.0));
        let parent = group.and_then(|group| group.parent).and_then(|parent| catalog.parents.get(&parent));
        let own = group.and_then(|group| group.properties.carry_over_bugrefs);
        let inherited = parent.and_then(|parent| parent.properties.carry_over_bugrefs);
        own.or(inherited).is_none_or(|word| word != 0)
    }
}
