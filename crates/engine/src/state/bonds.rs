//! Which open jobs belong together and which wait for others.
//!
//! Jobs that are bound by parallel and direct relations are a *unit*: its starters begin in one step, each on a slot of
//! its own, and what is directly chained follows on the slot of its parent. A unit waits until every job outside that
//! one of its members starts after has passed. Most jobs are a unit by themselves, of which nothing is kept here.

use super::State;
use super::fallout::Fallout;
use crate::ids::JobId;
use crate::job::JobState;
use crate::outcome::Outcome;
use crate::reason::{Relative, WaitReason};
use crate::relations::{Parent, Relation};
use crate::rows::{Hold, JobRow};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Default)]
pub(super) struct Bonds {
    /// The children of each job that is open or kept.
    pub(super) children: BTreeMap<JobId, BTreeSet<(Relation, JobId)>>,
    /// The unit of each member, for units of more than one job; a unit is named by its first member.
    unit_of: BTreeMap<JobId, JobId>,
    /// The members of such units, ended ones too.
    units: BTreeMap<JobId, BTreeSet<JobId>>,
    /// What a unit waits for: open jobs outside of it.
    blocked: BTreeMap<JobId, BTreeSet<JobId>>,
}

impl Bonds {
    /// The unit that a job belongs to.
    pub(super) fn unit(&self, job: JobId) -> JobId {
        self.unit_of.get(&job).copied().unwrap_or(job)
    }

    /// True if other jobs begin with it or follow it directly.
    pub(super) fn is_bound(&self, job: JobId) -> bool {
        self.unit_of.contains_key(&job)
    }

    /// The members of a unit, ended ones too.
    pub(super) fn members(&self, unit: JobId) -> Vec<JobId> {
        match self.units.get(&unit) {
            Some(members) => members.iter().copied().collect(),
            None => vec![unit],
        }
    }

    /// Takes note of a job's relations. Returns the units that became one with its own.
    pub(super) fn bind(&mut self, job: JobId, parents: &[Parent]) -> BTreeSet<JobId> {
        let mut merged = BTreeSet::new();
        for Parent { relation, job: parent } in parents {
            self.children.entry(*parent).or_default().insert((*relation, job));
            if *relation != Relation::Chained {
                merged.insert(self.unit(*parent));
            }
        }
        if merged.is_empty() {
            return merged;
        }
        merged.insert(self.unit(job));
        let mut members = BTreeSet::new();
        for unit in &merged {
            members.extend(self.units.remove(unit).unwrap_or_else(|| BTreeSet::from([*unit])));
            self.blocked.remove(unit);
        }
        let Some(first) = members.first().copied() else { return merged };
        for member in &members {
            self.unit_of.insert(*member, first);
        }
        self.units.insert(first, members);
        merged
    }

    /// Nothing is known of a job any more.
    pub(super) fn forget(&mut self, row: &JobRow) {
        self.children.remove(&row.id);
        for parent in &row.parents {
            if let Some(children) = self.children.get_mut(&parent.job) {
                children.remove(&(parent.relation, row.id));
                if children.is_empty() {
                    self.children.remove(&parent.job);
                }
            }
        }
        if let Some(unit) = self.unit_of.remove(&row.id) {
            self.units.remove(&unit);
            self.blocked.remove(&unit);
        } else {
            self.blocked.remove(&row.id);
        }
    }
}

/// True for a setting that says no.
fn is_off(row: &JobRow, key: &str) -> bool {
    row.settings.get(key) == Some("0")
}

impl State {
    /// An open job, or one that has ended and is kept for its relatives.
    pub(super) fn row(&self, id: JobId) -> Option<&JobRow> {
        self.jobs.get(&id).or_else(|| self.ended.get(&id))
    }

    pub(super) fn relative(&self, id: JobId) -> Relative {
        let label = self.row(id).or_else(|| self.known.get(&id)).map(JobRow::label);
        Relative { job: id, label: label.unwrap_or_default() }
    }

    pub(super) fn children(&self, id: JobId) -> Vec<(Relation, JobId)> {
        self.bonds.children.get(&id).map(|children| children.iter().copied().collect()).unwrap_or_default()
    }

    /// The job directly before it.
    pub(super) fn direct_parent(&self, id: JobId) -> Option<JobId> {
        let parents = &self.row(id)?.parents;
        let direct = parents.iter().find(|parent| parent.relation == Relation::DirectlyChained)?;
        self.row(direct.job).map(|row| row.id)
    }

    /// The members of a unit that are open.
    pub(super) fn open_members(&self, unit: JobId) -> Vec<JobId> {
        self.bonds.members(unit).into_iter().filter(|id| self.jobs.contains_key(id)).collect()
    }

    /// True if a worker has, or has had, a member of the unit.
    pub(super) fn has_begun(&self, unit: JobId) -> bool {
        let begun = |id| match self.row(id).map(|row| &row.state) {
            Some(JobState::Active(_) | JobState::Done(_)) => true,
            Some(JobState::Scheduled { .. } | JobState::Cancelled(_)) | None => false,
        };
        self.bonds.members(unit).into_iter().any(begun)
    }

    /// Finds out anew what a unit waits for.
    pub(super) fn find_blockers(&mut self, unit: JobId) {
        let open = self.open_members(unit);
        let parents = open.iter().filter_map(|id| self.jobs.get(id)).flat_map(|row| &row.parents);
        let chained = parents.filter(|parent| parent.relation == Relation::Chained);
        let outside = chained
            .filter(|parent| self.jobs.contains_key(&parent.job) && self.bonds.unit(parent.job) != unit);
        let blockers: BTreeSet<JobId> = outside.map(|parent| parent.job).collect();
        if blockers.is_empty() {
            self.bonds.blocked.remove(&unit);
        } else {
            self.bonds.blocked.insert(unit, blockers);
        }
    }

    /// Puts a unit where it belongs: among those that wait for others, or into a queue.
    pub(super) fn settle(&mut self, unit: JobId) {
        self.unqueue(unit);
        let open = self.open_members(unit);
        let waiting = |id: &JobId| matches!(self.jobs[id].state, JobState::Scheduled { .. });
        let held = open.iter().any(|id| self.jobs[id].hold.is_some());
        let starters: Vec<JobId> = match open.iter().all(waiting) {
            _ if held || self.bonds.blocked.contains_key(&unit) => Vec::new(),
            true => open.iter().copied().filter(|id| self.is_starter(*id)).collect(),
            false => Vec::new(), // it has begun, and the rest follows by itself
        };
        match &starters[..] {
            [] => {}
            [one] => self.enqueue(*one),
            several => self.enqueue_cluster(unit, several.to_vec()),
        }
        for id in open {
            self.note_wait(id);
        }
    }

    /// True if a job begins with its unit and does not follow another.
    fn is_starter(&self, id: JobId) -> bool {
        self.direct_parent(id).is_none_or(|parent| self.ended.contains_key(&parent))
    }

    /// Stores why a job waits, if the reason is its own and has changed.
    pub(super) fn note_wait(&mut self, id: JobId) {
        let wait = self.own_wait(id);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.wait != wait {
            job.wait = wait;
            if !self.unsaved.contains(&id) {
                self.save_job(id);
            }
        }
    }

    /// Why a job waits, if that is not the reason of its queue.
    fn own_wait(&self, id: JobId) -> Option<WaitReason> {
        let row = self.jobs.get(&id)?;
        match row.state {
            JobState::Scheduled { .. } => {}
            JobState::Active(_) => return self.talk_wait(id),
            JobState::Done(_) | JobState::Cancelled(_) => return None,
        }
        if let Some(Hold::Assets { names, trouble }) = &row.hold {
            return Some(WaitReason::Assets { names: names.clone(), trouble: trouble.clone() });
        }
        let unit = self.bonds.unit(id);
        let blockers = self.bonds.blocked.get(&unit);
        if let Some(blockers) = blockers
            && let Some(reason) = self.blocked_by(row, blockers, None)
        {
            return Some(reason);
        }
        if let Some(after) = self.direct_parent(id) {
            return Some(WaitReason::Next { after: self.relative(after) });
        }
        let others = || self.open_members(unit).into_iter().filter(|other| *other != id);
        if let Some(blockers) = blockers {
            let through =
                |other: JobId| self.blocked_by(self.jobs.get(&other)?, blockers, Some(self.relative(other)));
            return others().find_map(through);
        }
        if self.bonds.is_bound(id)
            && let Some(held) = others().find(|other| self.jobs[other].hold.is_some())
        {
            let (first, relation) = (self.relative(held), Relation::Parallel);
            return Some(WaitReason::Parents { first, relation, through: None, more: 0 });
        }
        self.limit_wait(id).or_else(|| self.disk_wait(id)).or_else(|| self.cluster_wait(unit))
    }

    fn blocked_by(
        &self,
        row: &JobRow,
        blockers: &BTreeSet<JobId>,
        through: Option<Relative>,
    ) -> Option<WaitReason> {
        let own = row.parents.iter().filter(|parent| parent.relation == Relation::Chained);
        let mut own = own.filter(|parent| blockers.contains(&parent.job));
        let first = self.relative(own.next()?.job);
        Some(WaitReason::Parents { first, relation: Relation::Chained, through, more: own.count() })
    }

    /// A job has passed: what waits for it may go on.
    pub(super) fn release_children(&mut self, id: JobId) {
        for (relation, child) in self.children(id) {
            if relation != Relation::Chained {
                continue;
            }
            let unit = self.bonds.unit(child);
            let Some(blockers) = self.bonds.blocked.get_mut(&unit) else { continue };
            blockers.remove(&id);
            if blockers.is_empty() {
                self.bonds.blocked.remove(&unit);
                self.settle(unit);
            } else {
                for member in self.open_members(unit) {
                    self.note_wait(member);
                }
            }
        }
    }

    /// The jobs that must not go on when a job does not pass, with what they have to do with it.
    pub(super) fn dependants(&self, id: JobId) -> Vec<(Relation, JobId)> {
        let mut all = self.children(id);
        let Some(row) = self.row(id) else { return all };
        for parent in row.parents.iter().filter(|parent| parent.relation == Relation::Parallel) {
            let Some(other) = self.jobs.get(&parent.job) else { continue };
            let spared = is_off(other, "PARALLEL_CANCEL_WHOLE_CLUSTER")
                && self.children(other.id).into_iter().any(|(relation, child)| {
                    relation == Relation::Parallel && child != id && self.goes_on(child)
                });
            if !spared {
                all.push((Relation::Parallel, other.id));
            }
        }
        all
    }

    /// True if a job is open and is not being stopped.
    fn goes_on(&self, id: JobId) -> bool {
        match self.jobs.get(&id).map(|row| &row.state) {
            Some(JobState::Scheduled { .. }) => true,
            Some(JobState::Active(active)) => active.stopping.is_none(),
            _ => false,
        }
    }

    /// The next job of the direct chain that `id` is in, if none of it runs.
    pub(super) fn next_in_chain(&self, id: JobId) -> Option<JobId> {
        let mut root = id;
        while let Some(parent) = self.direct_parent(root) {
            root = parent;
        }
        let mut next = None;
        let mut stack = vec![root];
        while let Some(at) = stack.pop() {
            let Some(row) = self.row(at) else { continue };
            match row.state {
                JobState::Active(_) => return None,
                JobState::Scheduled { .. } if next.is_none() && at != root => next = Some(at),
                _ => {}
            }
            let direct = self.children(at).into_iter();
            let direct: Vec<JobId> =
                direct.filter(|(r, _)| *r == Relation::DirectlyChained).map(|(_, child)| child).collect();
            stack.extend(direct.into_iter().rev());
        }
        let passed = |id: JobId| {
            self.ended.get(&id).and_then(|row| row.state.end()).is_some_and(|end| end.outcome.is_ok())
        };
        next.filter(|next| self.direct_parent(*next).is_some_and(passed))
    }

    /// A job that has ended is kept as long as a member of its unit is open.
    pub(super) fn forget_ended(&mut self, id: JobId) {
        let unit = self.bonds.unit(id);
        let members = self.bonds.members(unit);
        let unfelt = |member: &JobId| {
            self.fallout.iter().any(|f| matches!(f, Fallout::Ended { job, .. } if job == member))
        };
        let bound = members.len() > 1;
        if members.iter().any(|member| self.jobs.contains_key(member) || (bound && unfelt(member))) {
            return;
        }
        for member in members {
            if let Some(row) = self.ended.remove(&member) {
                self.bonds.forget(&row);
            }
        }
    }

    /// How a job ended that has.
    pub(super) fn outcome_of(&self, id: JobId) -> Option<Outcome> {
        let row = self.ended.get(&id).or_else(|| self.known.get(&id))?;
        row.state.end().map(|end| end.outcome)
    }
}
