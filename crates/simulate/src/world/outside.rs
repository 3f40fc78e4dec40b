//! The review system, and the people at it.

use super::agenda::Delivery;
use super::{World, revisions};
use crate::chance::happens;
use crate::content::Content;
use crate::gerrit::{OWN_LOGIN, Review, Upload, person};
use crate::outcome::ChangeRef;
use assay_engine::gate::change::ChangeStatus;
use assay_engine::gate::config::{EventKind, ReportAction};
use assay_engine::gate::ids::{BranchName, PipelineName, ProjectName};
use assay_engine::gate::io::{Event, Input, Report};

impl World {
    pub(super) fn event_arrives(&mut self, mut event: Event) {
        if let Some(patchset) = &event.change {
            event.facts = self.gerrit.facts_around(patchset.change.number, self.now);
        }
        if event.kind == EventKind::RefUpdated {
            event.facts.clear();
        }
        self.feed(Input::Event(Box::new(event)));
    }

    pub(super) fn report(&mut self, report: Report) {
        if let Some((_, delivered)) = self.database.reports.get_mut(&report.id) {
            *delivered = true;
        }
        self.tell(&report);
    }

    /// Delivers a report, once.
    pub(crate) fn tell(&mut self, report: &Report) {
        if !self.delivered.insert(report.id) {
            return;
        }
        let line = report.message.lines().next().unwrap_or_default().to_owned();
        self.note("report", |_| format!("{} to {}: {line}", report.pipeline, report.about));
        let ReportAction::Review { labels, submit, .. } = &report.action else {
            self.elsewhere.push(format!("{} {}: {line}", report.pipeline, report.about));
            return;
        };
        let assay_engine::gate::change::Subject::Change(patchset) = &report.about else { return };
        let number = patchset.change.number;
        let own = person(OWN_LOGIN);
        let Some(change) = self.gerrit.changes.get_mut(&number) else { return };
        change.reviews.push(Review {
            patchset: patchset.patchset,
            labels: labels.clone(),
            message: report.message.clone(),
        });
        // Votes on an old patchset are taken and change nothing of the new one.
        if patchset.patchset == change.current() {
            for (label, value) in labels {
                self.gerrit.vote(number, label, *value, &own, self.now);
            }
        }
        let mut event = self.gerrit.event(EventKind::CommentAdded, number, &own);
        event.change = Some(patchset.clone());
        event.approvals.clone_from(labels);
        event.comment = Some(format!("Patch Set {}:\n\n{}", patchset.patchset, report.message));
        self.announce(event);
        if *submit && !self.is_dependent(&report.pipeline) {
            self.submit_alone(patchset);
        }
    }

    pub(super) fn is_dependent(&self, pipeline: &PipelineName) -> bool {
        let config = self.config();
        config
            .pipeline(pipeline)
            .is_some_and(|pipeline| pipeline.manager == assay_engine::gate::config::Manager::Dependent)
    }

    /// An event at the review system; it is known here later, perhaps twice.
    pub fn announce(&mut self, event: Event) {
        let delay = self.span(self.timing.event);
        if happens(self.chance(), self.faults.twice) {
            let again = self.span(self.timing.event);
            self.later(delay + again, Delivery::Event(Box::new(event.clone())));
        }
        self.later(delay, Delivery::Event(Box::new(event)));
    }

    /// A new patchset, and its event; refused if the change is closed.
    pub fn upload(&mut self, number: u64, upload: Upload) {
        let is_open = |change: &crate::gerrit::Change| change.status.is_open();
        if !self.gerrit.changes.get(&number).is_some_and(is_open) {
            return;
        }
        if self.gerrit.upload(&mut self.git, number, upload).is_some() {
            let event = self.gerrit.event(EventKind::PatchsetCreated, number, &person("owner"));
            self.announce(event);
        }
    }

    /// Votes and a comment, and their event.
    pub fn comment(&mut self, number: u64, by: &str, votes: &[(String, i32)], comment: &str) {
        let by = person(by);
        for (label, value) in votes {
            self.gerrit.vote(number, label, *value, &by, self.now);
        }
        let mut event = self.gerrit.event(EventKind::CommentAdded, number, &by);
        event.approvals = votes.to_vec();
        event.comment = Some(comment.to_owned());
        self.announce(event);
    }

    /// A change is given up, or taken up again.
    pub fn set_status(&mut self, number: u64, status: ChangeStatus, kind: EventKind) {
        if let Some(change) = self.gerrit.changes.get_mut(&number) {
            if change.status == ChangeStatus::Merged {
                return;
            }
            change.status = status;
            if status == ChangeStatus::Abandoned {
                self.given_up.insert(number);
            }
            let event = self.gerrit.event(kind, number, &person("owner"));
            self.announce(event);
        }
    }

    /// Somebody pushes past the review; `drop` are changes that the branch loses by it.
    pub fn foreign_push(
        &mut self,
        project: &ProjectName,
        name: &BranchName,
        conflicts: &[String],
        drop: &[u64],
    ) {
        let branch = self.git.branch(project, name);
        let old = self.git.branches[branch].tip.commit.clone();
        let mut lost = Content::default();
        for number in drop {
            lost.extend(&revisions(&self.gerrit, ChangeRef { number: *number, patchset: None }));
        }
        let mut content = self.git.branches[branch].content.without(&lost);
        let revision = self.git.upload(content.clone(), conflicts, None);
        content.insert(revision);
        let tip = self.git.set(branch, content);
        self.note("push", |_| format!("somebody pushes to {project} {name}"));
        let event = self.gerrit.ref_event(project, name, old, tip.commit);
        self.announce(event);
    }
}
