//! Jobs that wait because as many as may run at once do. Each waits apart from the queues, beside others that wait for
//! the same; when there is room again, the first of each set of classes goes back to its queue, and the next follows
//! when that one has begun. So a step costs what has changed, however many wait.

use super::State;
use crate::ids::{AttemptId, JobId};
use crate::io::Answer;
use crate::reason::WaitReason;
use crate::sched::fair::{Line, Party};
use crate::sched::limits::{Limit, Limits};
use crate::settings::ClassSet;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Default)]
pub(super) struct Limited {
    limits: Limits,
    /// How many run.
    used: BTreeMap<Limit, u32>,
    /// What each running attempt counts for.
    counted: BTreeMap<AttemptId, BTreeSet<Limit>>,
    /// What is left for a cluster that needs more.
    kept: BTreeMap<Limit, u32>,
    parked: BTreeMap<Limit, BTreeMap<ClassSet, Line>>,
    waits_for: BTreeMap<JobId, Limit>,
    /// Where there may be room now.
    freed: BTreeSet<Limit>,
}

impl Limited {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// What every job needs of its host's disk at least.
    pub(super) fn floor(&self) -> u64 {
        self.limits.disk_floor
    }

    fn room(&self, limit: &Limit) -> u32 {
        let count = |of: &BTreeMap<Limit, u32>| of.get(limit).copied().unwrap_or(0);
        self.limits.most(limit).saturating_sub(count(&self.used)).saturating_sub(count(&self.kept))
    }

    /// What each job that waits like this waits for.
    pub(super) fn waiting(&self) -> Vec<(JobId, Limit)> {
        self.waits_for.iter().map(|(job, limit)| (*job, limit.clone())).collect()
    }

    fn note_freed(&mut self, limits: impl IntoIterator<Item = Limit>) {
        let parked = &self.parked;
        self.freed.extend(limits.into_iter().filter(|limit| parked.contains_key(limit)));
    }
}

impl State {
    /// Other limits are in force.
    pub(super) fn set_limits(&mut self, limits: Limits) -> Answer {
        if self.limited.limits != limits {
            self.limited.limits = limits;
            self.limited.used.clear();
            for id in std::mem::take(&mut self.limited.counted).into_keys() {
                self.count(id);
            }
            self.look_at_limits();
        }
        Answer::Done
    }

    /// Whoever waits for a limit is looked at again.
    pub(super) fn look_at_limits(&mut self) {
        self.limited.freed.extend(self.limited.parked.keys().cloned());
        self.clusters.limits_have_changed();
        // Where they stay, their reason may have another number now.
        let waiting: Vec<JobId> = self.limited.waits_for.keys().copied().collect();
        for id in waiting {
            self.note_wait(id);
        }
    }

    /// An attempt runs.
    pub(super) fn count(&mut self, id: AttemptId) {
        let Some(job) = self.jobs.get(&id.job) else { return };
        self.shares.begin(id, Party::of(job), &job.classes);
        let limits = self.limited.limits.of(job);
        self.take_disk(id);
        for limit in &limits {
            *self.limited.used.entry(limit.clone()).or_default() += 1;
        }
        self.limited.note_freed(limits.clone());
        self.limited.counted.insert(id, limits);
    }

    /// An attempt has ended.
    pub(super) fn uncount(&mut self, id: AttemptId) {
        self.shares.end(id);
        self.free_disk(id);
        let limits = self.limited.counted.remove(&id).unwrap_or_default();
        if !limits.is_empty() {
            self.clusters.limits_have_changed();
        }
        for limit in &limits {
            if let Some(used) = self.limited.used.get_mut(limit) {
                *used -= 1;
                if *used == 0 {
                    self.limited.used.remove(limit);
                }
            }
        }
        self.limited.note_freed(limits);
    }

    /// Puts a job aside that may not begin now; false if it may.
    pub(super) fn park(&mut self, id: JobId) -> bool {
        let Some(job) = self.jobs.get(&id) else { return false };
        let limits = self.limited.limits.of(job);
        let Some(full) = limits.iter().find(|limit| self.limited.room(limit) == 0).cloned() else {
            return false;
        };
        self.unqueue_one(id);
        self.park_for(id, full);
        // Another may have what it does not take now.
        self.limited.note_freed(limits);
        self.note_wait(id);
        true
    }

    /// Puts a job aside that is in no queue.
    pub(super) fn park_for(&mut self, id: JobId, limit: Limit) {
        let Some(job) = self.jobs.get(&id) else { return };
        let beside = self.limited.parked.entry(limit.clone()).or_default();
        beside.entry(job.classes.clone()).or_default().insert(job.priority, Party::of(job), id);
        self.limited.waits_for.insert(id, limit);
    }

    /// Takes a job back that was put aside, if it was.
    pub(super) fn unpark(&mut self, id: JobId) {
        let Some(limit) = self.limited.waits_for.remove(&id) else { return };
        let (Some(job), Some(beside)) = (self.jobs.get(&id), self.limited.parked.get_mut(&limit)) else {
            return;
        };
        if let Some(jobs) = beside.get_mut(&job.classes) {
            jobs.remove(job.priority, Party::of(job), id);
            if jobs.is_empty() {
                beside.remove(&job.classes);
            }
        }
        if beside.is_empty() {
            self.limited.parked.remove(&limit);
        }
    }

    /// A job has left its queue without having begun, perhaps: who waits for the same may be next.
    pub(super) fn left_queue(&mut self, id: JobId) {
        if !self.limited.parked.is_empty()
            && let Some(job) = self.jobs.get(&id)
        {
            let limits = self.limited.limits.of(job);
            self.limited.note_freed(limits);
        }
    }

    /// Puts those back into their queues for whom there is room now; false if nobody was.
    pub(super) fn wake(&mut self) -> bool {
        let mut woken = Vec::new();
        for limit in std::mem::take(&mut self.limited.freed) {
            if self.limited.room(&limit) > 0 {
                let beside = self.limited.parked.get(&limit).into_iter().flatten();
                let first = |(classes, jobs): (&ClassSet, &Line)| jobs.first(classes, &self.shares);
                woken.extend(beside.filter_map(first).map(|turn| turn.job));
            }
        }
        woken.extend(self.fitting());
        // What is woken is not put aside again, even before the first tick.
        let resuming = std::mem::take(&mut self.resuming);
        for id in &woken {
            self.unpark(*id);
            self.unpark_from_disk(*id);
            self.enqueue(*id);
            self.note_wait(*id);
        }
        self.resuming = resuming;
        !woken.is_empty()
    }

    /// Why a job waits that was put aside.
    pub(super) fn limit_wait(&self, id: JobId) -> Option<WaitReason> {
        let limit = self.limited.waits_for.get(&id)?.clone();
        let most = self.limited.limits.most(&limit);
        Some(WaitReason::Limit { limit, most, needs: 1 })
    }

    fn demand_of(&self, starters: &[JobId]) -> BTreeMap<Limit, u32> {
        let mut demand = BTreeMap::new();
        for limit in
            starters.iter().filter_map(|id| self.jobs.get(id)).flat_map(|job| self.limited.limits.of(job))
        {
            *demand.entry(limit).or_default() += 1;
        }
        demand
    }

    /// What keeps jobs from beginning together. What there is of it is left for them, unless that would never do.
    pub(super) fn full_for(&mut self, starters: &[JobId]) -> Option<WaitReason> {
        let demand = self.demand_of(starters);
        let (limit, needs) = demand.iter().find(|(limit, needs)| self.limited.room(limit) < **needs)?;
        let most = self.limited.limits.most(limit);
        let why = WaitReason::Limit { limit: limit.clone(), most, needs: *needs };
        let possible = demand.iter().all(|(limit, needs)| self.limited.limits.most(limit) >= *needs);
        if possible {
            for (limit, needs) in demand {
                let left = self.limited.room(&limit).min(needs);
                *self.limited.kept.entry(limit).or_default() += left;
            }
        }
        Some(why)
    }

    /// Nothing is left for clusters any more.
    pub(super) fn forget_kept(&mut self) {
        let kept = std::mem::take(&mut self.limited.kept);
        self.limited.note_freed(kept.into_keys());
    }
}
