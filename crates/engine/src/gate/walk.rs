//! The walk over a queue: nearest non-failing item, speculative states, jobs, and who leaves.
//!
//! The items keep their order; their `ahead` pointers form a tree. Whoever stands on a failing item is put onto the
//! nearest one ahead that does not fail, and starts anew. A failing item leaves only when nothing is ahead of it: its
//! failure may be another's.

use super::Gate;
use super::change::Subject;
use super::config::Manager;
use super::ids::{ItemId, MergeId, Patchset};
use super::io::{Effect, Merge, MergeFailure, MergeRequest, Merged};
use super::item::{Item, ItemPhase, JobState, MergeState};
use super::jobs;
use super::reason::{EvictReason, ResetReason};
use super::snapshot::{QueueKey, Snapshot, failing_itself, is_active};
use std::collections::BTreeSet;

/// The first wait after the infrastructure failed a merge; it doubles up to [`MERGE_BACKOFF_MAX_US`].
const MERGE_BACKOFF_US: i64 = 5_000_000;
const MERGE_BACKOFF_MAX_US: i64 = 300_000_000;

/// What a walk has come past.
#[derive(Default)]
struct Seen {
    /// The nearest item ahead that does not fail.
    nearest: Option<ItemId>,
    /// Items that fail, by themselves or for what they need.
    failing: BTreeSet<ItemId>,
    /// Of the nearest and those that it stands on, one lets nothing behind it start (hold-following-changes).
    holding: bool,
}

impl Seen {
    fn passed(&mut self, held: &Snapshot, item: &Item) {
        self.nearest = Some(item.id);
        self.holding |= held.holds_back(item).is_some();
    }
}

impl Gate {
    pub(super) fn walk(&mut self, key: &QueueKey) {
        let Some(queue) = self.held.queues.get(key) else { return };
        let Some(manager) = self.held.pipeline(&key.0).map(|pipeline| pipeline.manager) else {
            // Its pipeline is gone, and what is being landed is all that can be in it.
            if queue.items.is_empty() {
                self.drop_queue(key);
            }
            return;
        };
        let mut seen = Seen::default();
        let mut index = 0;
        let (items, window) = (queue.items.clone(), queue.window);
        for id in items {
            // A landing or a failure on the way changes the window.
            let window = self.held.queues.get(key).map_or(window, |queue| queue.window);
            self.process(manager, id, (index, window), &mut seen);
            index += usize::from(self.held.items.contains_key(&id));
        }
        if self.held.queues.get(key).is_some_and(|queue| queue.items.is_empty())
            && manager != Manager::Dependent
        {
            self.drop_queue(key);
        }
    }

    fn process(&mut self, manager: Manager, id: ItemId, (index, window): (usize, u32), seen: &mut Seen) {
        let Some(item) = self.held.items.get(&id).cloned() else { return };
        if matches!(item.phase, ItemPhase::Landing { .. }) {
            seen.passed(&self.held, &item);
            return;
        }
        if manager == Manager::Dependent {
            if let Some(needed) = self.lost_need(&item) {
                self.evict(id, EvictReason::NeedLost { needed });
                return;
            }
            if let Some(needed) = self.failing_need(&item, seen) {
                seen.failing.insert(id);
                self.stop(&item, &needed);
                return;
            }
            if item.ahead != seen.nearest {
                self.put_onto(id, seen.nearest);
            }
        }
        drop(item);
        if is_active(index, window) {
            self.advance(id, seen.holding);
        }
        let Some(item) = self.held.items.get(&id).cloned() else { return };
        if item.ahead.is_none() && is_complete(&item) && (manager != Manager::Serial || index == 0) {
            self.finish(id);
        }
        let Some(item) = self.held.items.get(&id) else { return };
        if failing_itself(item).is_empty() {
            seen.passed(&self.held, item);
        } else {
            seen.failing.insert(id);
        }
    }

    /// A need that is failing, of an item ahead.
    fn failing_need(&self, item: &Item, seen: &Seen) -> Option<Patchset> {
        let fails = |need: &&Patchset| {
            let place = (item.pipeline.clone(), need.change.clone());
            self.held.by_change.get(&place).is_some_and(|id| seen.failing.contains(id))
        };
        item.needs.iter().find(fails).cloned()
    }

    /// A need that is neither merged nor in the queue. In another queue of the pipeline nothing orders the two.
    fn lost_need(&self, item: &Item) -> Option<Patchset> {
        let there = |need: &&Patchset| {
            self.held.item_of(&item.pipeline, &need.change).is_some_and(|other| {
                other.queue == item.queue && other.changes.iter().any(|own| own.merge.patchset == **need)
            })
        };
        item.needs.iter().find(|need| !there(need)).cloned()
    }

    /// What it needs fails: its builds are for nothing.
    fn stop(&mut self, item: &Item, needed: &Patchset) {
        let busy = item.buildset.jobs.iter().any(|job| matches!(job.state, JobState::Running(_)))
            || matches!(item.buildset.state, MergeState::Asked);
        if busy {
            self.reset(item.id, ResetReason::AheadFailing { ahead: needed.to_string() });
        }
    }

    /// Makes `ahead` what an item stands on.
    fn put_onto(&mut self, id: ItemId, ahead: Option<ItemId>) {
        let Some(item) = self.held.items.get(&id) else { return };
        let name = |held: &Self, id: ItemId| held.held.items.get(&id).map(|item| item.subject.to_string());
        let reason = match item.ahead {
            Some(old) => match (self.scratch.left.get(&old), name(self, old)) {
                (Some((ahead, why)), _) => ResetReason::AheadLeft { ahead: ahead.clone(), why: why.clone() },
                (None, Some(ahead)) if self.is_failing(old) => ResetReason::AheadFailing { ahead },
                (None, ahead) => ResetReason::AheadReset { ahead: ahead.unwrap_or_default() },
            },
            None => ResetReason::AheadReset {
                ahead: ahead.and_then(|ahead| name(self, ahead)).unwrap_or_default(),
            },
        };
        if let Some(item) = self.edit(id) {
            item.ahead = ahead;
        }
        self.reset(id, reason);
    }

    fn is_failing(&self, id: ItemId) -> bool {
        self.held.items.get(&id).is_some_and(|item| !self.held.failing(item).is_empty())
    }

    /// Throws an item's buildset away for a new one, and those of all items that stand on it.
    pub(super) fn reset(&mut self, id: ItemId, reason: ResetReason) {
        let Some(item) = self.held.items.get(&id).cloned() else { return };
        let key = (item.pipeline.clone(), item.queue.clone());
        let Some(queue) = self.held.queues.get(&key) else { return };
        let behind =
            queue.items.iter().skip_while(|other| **other != id).skip(1).copied().collect::<Vec<_>>();
        self.reset_one(id, reason);
        let cascade = ResetReason::AheadReset { ahead: item.subject.to_string() };
        let mut affected = BTreeSet::from([id]);
        for other in behind {
            let ahead = self.held.items.get(&other).and_then(|item| item.ahead);
            if ahead.is_some_and(|ahead| affected.contains(&ahead)) {
                affected.insert(other);
                self.reset_one(other, cascade.clone());
            }
        }
        self.scratch.queues.insert(key);
    }

    pub(super) fn reset_one(&mut self, id: ItemId, reason: ResetReason) {
        let Some(item) = self.held.items.get(&id) else { return };
        let untouched = item.buildset.state == MergeState::Waiting && item.buildset.jobs.is_empty();
        if untouched {
            return;
        }
        let (merge, number) = (item.merge_id(), item.buildset.number);
        self.cancel_builds(id);
        self.forget_merge(merge);
        let buildset = self.new_buildset(id, number + 1, Some(reason));
        if let Some(item) = self.edit(id) {
            item.buildset = buildset;
            item.phase = ItemPhase::Testing;
        }
    }

    /// Asks for the state, makes the list of jobs, starts what can start.
    fn advance(&mut self, id: ItemId, held_back: bool) {
        let Some(item) = self.held.items.get(&id) else { return };
        match item.buildset.state {
            MergeState::Waiting => self.ask_for_state(id),
            MergeState::Done(_) | MergeState::NotNeeded { .. } if held_back => {}
            MergeState::Done(_) | MergeState::NotNeeded { .. } => self.start_jobs(id),
            MergeState::Asked | MergeState::Failed(_) | MergeState::Backoff { .. } => {}
        }
    }

    fn ask_for_state(&mut self, id: ItemId) {
        let Some(item) = self.held.items.get(&id).cloned() else { return };
        let commit = match &item.subject {
            Subject::Change(_) => return self.ask_merger(&item),
            Subject::Ref(update) if update.is_delete() => None,
            Subject::Ref(update) => Some(update.new.clone()),
            Subject::Timer { .. } => None,
        };
        let now = self.now;
        if let Some(item) = self.edit(id) {
            item.buildset.enter(MergeState::NotNeeded { commit }, now);
        }
        self.list_jobs(id);
        self.start_jobs(id);
    }

    fn ask_merger(&mut self, item: &Item) {
        let ahead = match item.ahead.and_then(|ahead| self.held.items.get(&ahead)).cloned() {
            None => None,
            Some(ahead) => match ahead.buildset.state {
                MergeState::Asked => Some(ahead.merge_id()),
                MergeState::Done(_) => {
                    self.adopt(&ahead);
                    Some(ahead.merge_id())
                }
                _ => return, // asked when that one is there
            },
        };
        let changes = item.below.iter().chain(&item.changes).map(|own| own.merge.clone()).collect();
        let merge = item.merge_id();
        let request = MergeRequest { merge, ahead, identity: item.buildset.identity, changes };
        self.merger_has.insert(merge);
        self.effect(Effect::Merge(Merge::Make(request)));
        let now = self.now;
        if let Some(item) = self.edit(item.id) {
            item.buildset.on = ahead;
            item.buildset.enter(MergeState::Asked, now);
        }
    }

    /// Tells the merger of a state that it does not know since a restart, and of those below it.
    pub(super) fn adopt(&mut self, item: &Item) {
        if self.merger_has.contains(&item.merge_id()) {
            return;
        }
        let mut unknown = Vec::new();
        let mut next = Some(item.clone());
        while let Some(item) = next {
            let MergeState::Done(merged) = &item.buildset.state else { break };
            if self.merger_has.contains(&item.merge_id()) {
                break;
            }
            let ahead = item.ahead.and_then(|ahead| self.held.items.get(&ahead));
            let below = ahead.map(|ahead| ahead.merge_id());
            unknown.push((item.merge_id(), below, merged.clone(), item.buildset.identity));
            next = ahead.map(|ahead| ahead.as_ref().clone());
        }
        for (merge, ahead, merged, identity) in unknown.into_iter().rev() {
            self.merger_has.insert(merge);
            self.effect(Effect::Merge(Merge::Adopt { merge, ahead, merged, identity }));
        }
    }

    /// The merger's answer.
    pub(super) fn merged(&mut self, merge: MergeId, result: Result<Merged, MergeFailure>) {
        let Some(item) = self.held.items.get(&merge.item) else { return };
        if item.merge_id() != merge || item.buildset.state != MergeState::Asked {
            return;
        }
        let (id, now) = (merge.item, self.now);
        match result {
            Ok(merged) => {
                if let Some(item) = self.edit(id) {
                    item.buildset.enter(MergeState::Done(merged), now);
                }
                self.list_jobs(id);
            }
            Err(why @ MergeFailure::Infrastructure { .. }) => self.merge_backoff(id, why),
            Err(why) => {
                self.forget_merge(merge);
                if let Some(item) = self.edit(id) {
                    item.buildset.enter(MergeState::Failed(why), now);
                }
                self.list_jobs(id);
                self.skip_all(id);
            }
        }
        self.touch_queue_of(id);
    }

    fn merge_backoff(&mut self, id: ItemId, why: MergeFailure) {
        let now = self.now;
        if let Some(item) = self.held.items.get(&id) {
            self.merger_has.remove(&item.merge_id());
        }
        if let Some(item) = self.edit(id) {
            let wait = MERGE_BACKOFF_US << item.buildset.merge_tries.min(6);
            let until = crate::ids::Timestamp(now.0 + wait.min(MERGE_BACKOFF_MAX_US));
            item.buildset.merge_tries += 1;
            item.buildset.enter(MergeState::Backoff { until, why }, now);
        }
        self.unask_behind(id);
    }

    /// The merger drops what stands on a state that could not be made: it is asked again afterwards.
    fn unask_behind(&mut self, id: ItemId) {
        let Some(queue) = self.held.items.get(&id).and_then(|item| self.held.queue_of(item)) else { return };
        let mut affected = BTreeSet::from([id]);
        for other in queue.items.clone() {
            let Some(item) = self.held.items.get(&other) else { continue };
            let stands_on = item.ahead.is_some_and(|ahead| affected.contains(&ahead));
            if !stands_on || item.buildset.state != MergeState::Asked {
                continue;
            }
            affected.insert(other);
            self.merger_has.remove(&item.merge_id());
            let now = self.now;
            if let Some(item) = self.edit(other) {
                item.buildset.enter(MergeState::Waiting, now);
            }
        }
    }

    /// A wait is over.
    pub(super) fn end_backoff(&mut self, id: ItemId) {
        let now = self.now;
        if let Some(item) = self.edit(id) {
            if matches!(item.buildset.state, MergeState::Backoff { until, .. } if until <= now) {
                item.buildset.enter(MergeState::Waiting, now);
            }
            for job in &mut item.buildset.jobs {
                if matches!(job.state, JobState::Backoff { until, .. } if until <= now) {
                    job.state = JobState::Waiting;
                }
            }
        }
        self.touch_queue_of(id);
    }

    /// The jobs of an item as the configuration has them now.
    pub(super) fn list_jobs(&mut self, id: ItemId) {
        let Some(item) = self.held.items.get(&id) else { return };
        let Some(pipeline) = self.held.pipeline(&item.pipeline) else { return };
        let jobs = jobs::list(&self.held.config, pipeline, &jobs::targets(item));
        if let Some(item) = self.edit(id) {
            item.buildset.jobs = jobs;
        }
    }

    fn skip_all(&mut self, id: ItemId) {
        if let Some(item) = self.edit(id) {
            for job in &mut item.buildset.jobs {
                job.state = JobState::Skipped;
            }
        }
    }
}

/// True if nothing of an item's buildset will change any more.
fn is_complete(item: &Item) -> bool {
    let has_state =
        !matches!(item.buildset.state, MergeState::Waiting | MergeState::Asked | MergeState::Backoff { .. });
    has_state && item.buildset.jobs.iter().all(|job| job.state.is_final())
}
