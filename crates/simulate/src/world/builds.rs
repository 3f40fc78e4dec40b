//! Workers: builds wait, run, are held, end.

use super::agenda::Delivery;
use super::records::{BuildRecord, BuildState, HoldRule};
use super::{World, list, revisions, workspace};
use crate::chance::happens;
use crate::check::Violation;
use crate::outcome::{Run, glob};
use assay_engine::gate::ids::{JobName, Uuid};
use assay_engine::gate::io::{BuildRequest, BuildResult, Input};
use std::sync::Arc;

fn fits(hold: &HoldRule, job: &JobName, of: Option<u64>) -> bool {
    glob(&hold.job, job.as_str()) && (hold.of.is_none() || hold.of == of)
}

impl World {
    pub(super) fn start_build(&mut self, request: &BuildRequest) {
        let state = request.params.get("ZUUL_REF").and_then(|name| name.rsplit_once("/Z"));
        let state = state.and_then(|(_, identity)| Uuid::try_from(identity.to_owned()).ok());
        let record = BuildRecord {
            uuid: request.uuid,
            item: request.item,
            job: Arc::clone(&request.job),
            pipeline: request.pipeline.clone(),
            precedence: request.precedence,
            changes: request.changes.clone(),
            state,
            hermetic: self.database.items.get(&request.item).and_then(|item| workspace(&request.job, item)),
            asked_at: self.now,
            started_at: None,
            ended_at: None,
            phase: BuildState::Queued,
            hold: request.hold.clone(),
        };
        let mut checks = std::mem::take(&mut self.checks);
        checks.build_starts(self, &record);
        self.checks = checks;
        self.note("build", |_| format!("{} for {} asked for", record.job.name, list(&record.changes)));
        self.build_order.push(request.uuid);
        self.builds.insert(request.uuid, record);
        self.order += 1;
        self.queued.insert((request.precedence, self.order, request.uuid));
        self.dispatch();
    }

    pub(super) fn dispatch(&mut self) {
        while self.slots.is_none_or(|slots| self.running < slots) {
            let Some((_, _, build)) = self.queued.pop_first() else { break };
            self.running += 1;
            let delay = self.span(self.timing.start);
            self.later(delay, Delivery::BuildStarts(build));
        }
    }

    pub(super) fn build_starts(&mut self, uuid: Uuid) {
        let Some(build) = self.builds.get_mut(&uuid) else { return };
        if build.phase != BuildState::Queued {
            return;
        }
        build.phase = BuildState::Running;
        build.started_at = Some(self.now);
        let job = build.job.name.clone();
        let of = build.changes.last().map(|patchset| patchset.change.number);
        let held = self.holds.iter().any(|hold| fits(hold, &job, of));
        self.feed(Input::BuildStarted { build: uuid, at: self.now, by: None });
        if held {
            if let Some(build) = self.builds.get_mut(&uuid)
                && build.phase == BuildState::Running
            {
                build.phase = BuildState::Held;
            }
            return;
        }
        let own = self.timing.jobs.iter().find(|(pattern, _)| glob(pattern, job.as_str()));
        let span = own.map_or(self.timing.job, |(_, span)| *span);
        let delay = self.span(span);
        self.later(delay, Delivery::BuildEnds(uuid));
    }

    pub(super) fn build_ends(&mut self, uuid: Uuid) {
        let Some(build) = self.builds.get(&uuid).filter(|build| build.is_live()).cloned() else { return };
        let result = self.decide(&build);
        self.running = self.running.saturating_sub(1);
        if let Some(build) = self.builds.get_mut(&uuid) {
            build.phase = BuildState::Ended(result.clone());
            build.ended_at = Some(self.now);
        }
        self.note("build", |_| format!("{} for {} {}", build.job.name, list(&build.changes), result.word));
        let input = Input::BuildEnded { build: uuid, result };
        self.maybe_twice(0, &input);
        self.feed(input);
        self.dispatch();
    }

    /// How this build ends.
    pub(super) fn decide(&mut self, build: &BuildRecord) -> BuildResult {
        let state = build.state.and_then(|state| self.states.get(&state)).cloned();
        let tree = state.map(|state| state.visible(&self.git, build.hermetic.as_ref())).unwrap_or_default();
        let lost = self.build_order.iter().filter_map(|uuid| self.builds.get(uuid)).filter(|other| {
            other.job.name == build.job.name
                && other.item == build.item
                && other.state == build.state
                && matches!(&other.phase, BuildState::Ended(result)
                    if result.class == assay_engine::outcome::OutcomeClass::Infrastructure)
        });
        let lost = if self.outcomes.chances.lost == 0 { 0 } else { lost.count() as u32 };
        let of = build.changes.last().map(|patchset| patchset.change.number);
        let run = Run { job: build.job.name.as_str(), of, tree: &tree, lost };
        let gerrit = &self.gerrit;
        self.outcomes.decide(run, |change| revisions(gerrit, change))
    }

    pub(super) fn cancel_build(&mut self, uuid: Uuid) {
        let Some(build) = self.builds.get_mut(&uuid) else {
            self.checks
                .found(Violation::new("I9", format!("build {uuid} is cancelled and was never started")));
            return;
        };
        if !build.is_live() {
            return;
        }
        let was_queued = self.queued.iter().find(|(_, _, other)| *other == uuid).copied();
        build.phase = BuildState::Cancelled;
        build.ended_at = Some(self.now);
        let text = format!("{} for {} cancelled", build.job.name, list(&build.changes));
        self.note("build", |_| text);
        match was_queued {
            Some(entry) => {
                self.queued.remove(&entry);
            }
            None => self.running = self.running.saturating_sub(1),
        }
        if happens(self.chance(), self.faults.twice) {
            let late = Input::BuildEnded { build: uuid, result: crate::outcome::result("ABORTED") };
            self.later(1_000_000, Delivery::Answer(late));
        }
        self.dispatch();
    }

    /// Ends builds that are held and fit.
    pub fn release(&mut self, rule: &HoldRule, at_most: Option<usize>) {
        let fit: Vec<Uuid> = self
            .build_order
            .iter()
            .filter(|uuid| {
                let build = &self.builds[uuid];
                let of = build.changes.last().map(|patchset| patchset.change.number);
                build.phase == BuildState::Held && fits(rule, &build.job.name, of)
            })
            .take(at_most.unwrap_or(usize::MAX))
            .copied()
            .collect();
        for build in fit {
            self.later(0, Delivery::BuildEnds(build));
        }
    }
}
