//! How items leave: landed, passed, failed, taken out; and what that does to the window and to those behind.

use super::Gate;
use super::change::RefUpdate;
use super::config::{Growth, Manager, Pipeline, ReportAction, WindowConfig};
use super::ids::{ItemId, Patchset};
use super::io::{Effect, LandRequest, LandResult, Landing, Tip};
use super::item::{Item, ItemEnd, ItemOutcome, ItemPhase, MergeState};
use super::reason::{EvictReason, FailReason, HoldReason, ResetReason};
use super::report::Kind;
use super::rows::{GateRow, PipelineRow};
use super::snapshot::QueueKey;
use std::sync::Arc;

/// Own landings whose ref events may still come.
const OWN_TIPS_KEPT: usize = 1_000;

impl Gate {
    /// Everything is tested and nothing is ahead.
    pub(super) fn finish(&mut self, id: ItemId) {
        let Some(item) = self.held.items.get(&id).cloned() else { return };
        let failures = self.held.failing(&item);
        let gated = self.held.manager(&item) == Manager::Dependent;
        if !failures.is_empty() {
            self.fail(&item, failures);
        } else if gated {
            self.land(&item);
        } else {
            self.report(id, &Kind::Success);
            self.note_result(&item, true);
            self.leave(id, ItemOutcome::Passed, Vec::new());
        }
    }

    fn fail(&mut self, item: &Item, failures: Vec<FailReason>) {
        let kind = match failures.first() {
            Some(FailReason::Merge(_)) => Kind::MergeFailure,
            _ if self.held.only_infrastructure_failed(item) => Kind::Infrastructure,
            _ if self.held.failed_untested(item) => Kind::Undefined,
            _ => Kind::Failure,
        };
        self.report(item.id, &kind);
        if matches!(failures.first(), Some(FailReason::JobFailed { .. })) && kind != Kind::Undefined {
            self.resize_window(item, |window| (window.decrease, false));
        }
        self.note_result(item, false);
        self.leave(item.id, ItemOutcome::Failed, failures);
    }

    fn land(&mut self, item: &Item) {
        let Some(pipeline) = self.held.pipeline(&item.pipeline).cloned() else { return };
        let MergeState::Done(merged) = &item.buildset.state else { return };
        if self.held.queue_of(item).is_none_or(|queue| queue.hold.is_some()) {
            return;
        }
        let members = item.changes.iter().zip(&merged.moved).map(|(own, moved)| Landing {
            patchset: own.merge.patchset.clone(),
            revision: own.merge.revision.clone(),
            project: moved.project.clone(),
            branch: moved.branch.clone(),
            base: moved.base.clone(),
            tested: moved.tip.clone(),
        });
        let members = members.collect();
        let reports = self.reviews(&pipeline, item.id);
        let request =
            LandRequest { item: item.id, merge: item.merge_id(), way: pipeline.landing, members, reports };
        self.effect(Effect::Land(Box::new(request.clone())));
        let since = self.now;
        if let Some(item) = self.edit(item.id) {
            item.phase = ItemPhase::Landing { request: Box::new(request), since };
        }
        self.touch_queue_of(item.id);
    }

    /// The end of a landing.
    pub(super) fn landed(&mut self, id: ItemId, result: LandResult) {
        let Some(item) = self.held.items.get(&id).cloned() else { return };
        let ItemPhase::Landing { request, .. } = &item.phase else { return };
        match result {
            LandResult::Landed { tips } => self.is_landed(&item, request, tips),
            LandResult::BaseMoved { project, branch, found } => {
                let found = found.commit.to_string();
                self.test_again(&item, ResetReason::BaseMoved { project, branch, found });
            }
            LandResult::Refused { why } => {
                self.report(id, &Kind::DidNotLand(why.clone()));
                self.note_result(&item, false);
                self.leave(id, ItemOutcome::Failed, vec![FailReason::DidNotLand { why }]);
            }
            LandResult::TreeMismatch { project, branch, found, landed } => {
                let found = found.commit.to_string();
                // In their branches are those that were found there, and the one whose branch has another tree. What
                // comes after it was not tried.
                let is_in = |member: &Landing| landed.iter().any(|one| one.patchset == member.patchset);
                let odd = request
                    .members
                    .iter()
                    .find(|member| member.project == project && member.branch == branch && !is_in(member))
                    .map(|member| member.patchset.clone());
                for patchset in landed.iter().map(|one| &one.patchset).chain(&odd) {
                    self.satisfy(patchset);
                }
                if let Some(change) =
                    odd.or_else(|| item.changes.last().map(|own| own.merge.patchset.clone()))
                {
                    let (project, branch, found) = (project.clone(), branch.clone(), found.clone());
                    self.hold_queue(&item, HoldReason::TreeMismatch { change, project, branch, found });
                }
                self.evict(id, EvictReason::TreeMismatch { project, branch, found });
            }
            LandResult::Partial { landed, refused, why } => {
                let commits = landed;
                let landed: Vec<_> = commits.iter().map(|one| one.patchset.clone()).collect();
                for patchset in &landed {
                    self.satisfy(patchset);
                }
                let hold = HoldReason::Partial {
                    landed: landed.clone(),
                    commits,
                    refused: refused.clone(),
                    why: why.clone(),
                };
                self.hold_queue(&item, hold);
                self.evict(id, EvictReason::Partial { landed, refused, why });
            }
        }
    }

    /// Nothing was landed. What has become known meanwhile was left to the landing, and counts from now on.
    fn test_again(&mut self, item: &Item, reason: ResetReason) {
        if let Some(item) = self.edit(item.id) {
            item.phase = ItemPhase::Testing;
        }
        self.reset(item.id, reason);
        let config = Arc::clone(&self.held.config);
        self.refit(item.id, &config);
        for own in &item.changes {
            self.check_users(&own.merge.patchset.change);
        }
    }

    fn is_landed(&mut self, item: &Item, request: &LandRequest, tips: Vec<Tip>) {
        for (member, tip) in request.members.iter().zip(&tips) {
            self.satisfy(&member.patchset);
            self.offer_open(&member.patchset, &member.project);
            let (project, branch, new) = (&member.project, &member.branch, &tip.commit);
            self.own_tips.push((project.clone(), branch.clone(), new.clone()));
            let (project, name, old) = (project.clone(), branch.clone(), member.base.commit.clone());
            self.base_moved_for_others(&item.pipeline, &RefUpdate { project, name, old, new: new.clone() });
        }
        let surplus = self.own_tips.len().saturating_sub(OWN_TIPS_KEPT);
        self.own_tips.drain(..surplus);
        self.report(item.id, &Kind::Landed);
        self.resize_window(item, |window| (window.increase, true));
        self.note_result(item, true);
        self.free_followers(item);
        self.leave(item.id, ItemOutcome::Landed { tips }, Vec::new());
    }

    /// Those behind stand on what is in the branch now; their builds go on.
    fn free_followers(&mut self, item: &Item) {
        let Some(queue) = self.held.queue_of(item) else { return };
        for other in queue.items.clone() {
            if self.held.items.get(&other).is_some_and(|other| other.ahead == Some(item.id))
                && let Some(other) = self.edit(other)
            {
                other.ahead = item.ahead;
            }
        }
    }

    /// A change is in its branch: nobody needs to wait for it any more.
    pub(super) fn satisfy(&mut self, patchset: &Patchset) {
        self.landed.add(patchset.clone());
        for id in self.users.get(&patchset.change).cloned().unwrap_or_default() {
            let needs = |item: &Item| item.needs.iter().any(|need| need.change == patchset.change);
            if self.held.items.get(&id).is_some_and(|item| needs(item))
                && let Some(item) = self.edit(id)
            {
                item.needs.retain(|need| need.change != patchset.change);
                item.met.push(patchset.clone());
                let forgotten = !super::enqueue::known_changes(item).contains(&patchset.change);
                if forgotten && let Some(users) = self.users.get_mut(&patchset.change) {
                    users.remove(&id);
                }
            }
            self.touch_queue_of(id);
        }
    }

    pub(super) fn hold_queue(&mut self, item: &Item, reason: HoldReason) {
        let key = (item.pipeline.clone(), item.queue.clone());
        let now = self.now;
        if let Some(queue) = self.held.queues.get_mut(&key) {
            queue.add_hold(reason, now);
            self.scratch.queue_rows.insert(key);
        }
    }

    fn resize_window(&mut self, item: &Item, way: impl Fn(&WindowConfig) -> (Growth, bool)) {
        let Some(pipeline) = self.held.pipeline(&item.pipeline).cloned() else { return };
        if pipeline.manager != Manager::Dependent {
            return;
        }
        let key: QueueKey = (item.pipeline.clone(), item.queue.clone());
        let Some(queue) = self.held.queues.get_mut(&key) else { return };
        let window = resized(queue.window, &pipeline.window, way(&pipeline.window));
        if window != queue.window {
            queue.window = window;
            self.scratch.queue_rows.insert(key.clone());
            self.scratch.queues.insert(key);
        }
    }

    /// Failures in a row switch a pipeline to its `disabled` reporters.
    fn note_result(&mut self, item: &Item, passed: bool) {
        let Some(limit) = self.held.pipeline(&item.pipeline).and_then(|pipeline| pipeline.disable_after)
        else {
            return;
        };
        let name = item.pipeline.clone();
        let row = self.held.pipelines.entry(name.clone()).or_insert_with(|| PipelineRow {
            pipeline: name,
            failures: 0,
            disabled: false,
        });
        if passed {
            row.failures = 0;
        } else {
            row.failures += 1;
            row.disabled |= row.failures >= limit;
        }
        self.scratch.rows.push(GateRow::Pipeline(row.clone()));
    }

    /// Takes an item out without a verdict on itself.
    pub(super) fn evict(&mut self, id: ItemId, reason: EvictReason) {
        self.report(id, &Kind::Evicted(reason.clone()));
        self.leave(id, ItemOutcome::Evicted { reason }, Vec::new());
    }

    fn leave(&mut self, id: ItemId, outcome: ItemOutcome, failures: Vec<FailReason>) {
        self.cancel_builds(id);
        let why = match &outcome {
            ItemOutcome::Landed { .. } => "it landed".to_owned(),
            ItemOutcome::Passed => "it passed".to_owned(),
            ItemOutcome::Failed => "it failed".to_owned(),
            ItemOutcome::Evicted { reason } => reason.to_string(),
            ItemOutcome::Refused { reason } => reason.to_string(),
        };
        let at = self.now;
        if let Some(item) = self.edit(id) {
            item.phase = ItemPhase::Ended(ItemEnd { outcome, at, failures });
        }
        let Some(item) = self.held.items.remove(&id) else { return };
        self.forget_merge(item.merge_id());
        self.scratch.left.insert(id, (item.subject.to_string(), why));
        self.scratch.items.remove(&id);
        self.due.remove(&id);
        let key = (item.pipeline.clone(), item.queue.clone());
        if let Some(queue) = self.held.queues.get_mut(&key) {
            queue.items.retain(|other| *other != id);
        }
        for own in &item.changes {
            let place = (item.pipeline.clone(), own.merge.patchset.change.clone());
            if self.held.by_change.get(&place) == Some(&id) {
                self.held.by_change.remove(&place);
            }
        }
        for change in super::enqueue::known_changes(&item) {
            if let Some(users) = self.users.get_mut(&change) {
                users.remove(&id);
            }
            self.scratch.changes.insert(change);
        }
        self.scratch.rows.push(GateRow::Item(Arc::clone(&item)));
        self.scratch.queues.insert(key);
    }

    /// The reviews that a landing delivers itself.
    fn reviews(&mut self, pipeline: &Pipeline, id: ItemId) -> Vec<super::io::Report> {
        let all = self.reports_for(pipeline, id, &Kind::Success);
        all.into_iter().filter(|report| matches!(report.action, ReportAction::Review { .. })).collect()
    }
}

/// The window after a landing or a failure; 0 stays without limit.
fn resized(window: u32, config: &WindowConfig, (growth, up): (Growth, bool)) -> u32 {
    if window == 0 {
        return 0;
    }
    let next = match (growth, up) {
        (Growth::Linear(by), true) => window.saturating_add(by),
        (Growth::Linear(by), false) => window.saturating_sub(by),
        (Growth::Exponential(factor), true) => window.saturating_mul(factor.max(1)),
        (Growth::Exponential(factor), false) => window / factor.max(1),
    };
    // 0 would be no limit at all.
    next.min(config.ceiling.unwrap_or(u32::MAX)).max(config.floor).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows() {
        let config = WindowConfig { ceiling: Some(40), ..WindowConfig::default() };
        for (window, growth, up, expected) in [
            (20, Growth::Linear(1), true, 21),
            (20, Growth::Exponential(2), false, 10),
            (5, Growth::Exponential(2), false, 3),
            (4, Growth::Linear(3), false, 3),
            (30, Growth::Exponential(2), true, 40),
            (0, Growth::Exponential(2), false, 0),
        ] {
            assert_eq!(resized(window, &config, (growth, up)), expected, "{window} {growth:?}");
        }
    }
}
