//! What the end of a job means for others: released, skipped, stopped, followed on its slot, or started anew.

use super::State;
use super::timers::Timer;
use crate::ids::{JobId, WorkerName};
use crate::job::{JobState, Stopping};
use crate::outcome::Outcome;
use crate::reason::{EndReason, Refusal};
use crate::relations::Relation;
use crate::sched::restart::{self, JobFacts, RestartOptions, RestartRequest};
use std::collections::BTreeMap;

/// Something that other jobs have yet to feel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fallout {
    /// A job has ended.
    Ended {
        job: JobId,
        /// Where the slot is that it leaves; none if it had none or the slot is lost.
        slot: Option<WorkerName>,
        /// Its worker was lost, or something around it broke, and it could not be tried again by itself.
        broken: bool,
    },
    /// A worker is stopping it, and its relatives need not wait for that.
    Stopping { job: JobId, outcome: Outcome },
}

/// Why the server starts a job anew by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// `RETRY=`
    Failed,
    /// Its cluster broke.
    Broken,
}

impl State {
    /// Ends a job that no worker has, or has its worker stop it; false if it has ended or is being stopped.
    pub(super) fn stop(&mut self, id: JobId, stopping: Stopping) -> bool {
        let outcome = stopping.outcome;
        let Some(job) = self.jobs.get_mut(&id) else { return false };
        let Ok(state) = job.state.clone().stop(stopping, self.now) else { return false };
        job.state = state;
        if let Some(attempt) = job.active_attempt() {
            self.save_job(id);
            self.timers.set(Timer::Cancel(attempt), self.timing.cancel_grace_us);
            self.send_cancel(attempt);
            self.fallout.push_back(Fallout::Stopping { job: id, outcome });
        } else {
            self.unqueue(self.bonds.unit(id));
            self.retire(id, None, false);
        }
        true
    }

    /// A job has become final: it leaves the open ones.
    pub(super) fn retire(&mut self, id: JobId, slot: Option<WorkerName>, broken: bool) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.wait = None;
            job.hold = None;
        }
        self.save_job(id);
        if let Some(row) = self.jobs.remove(&id) {
            self.ended.insert(row);
            self.fallout.push_back(Fallout::Ended { job: id, slot, broken });
            self.silence(id);
            self.tell_parents(id);
        }
    }

    /// Lets the relatives of what has ended feel it, until nothing more comes of it.
    pub(super) fn settle_fallout(&mut self) {
        while let Some(fallout) = self.fallout.pop_front() {
            match fallout {
                // Ended by hand with a good result: the others go on.
                Fallout::Stopping { outcome, .. } if outcome.is_ok() => {}
                Fallout::Stopping { job, outcome } => self.stop_dependants(job, outcome),
                Fallout::Ended { job, slot, broken } => {
                    let outcome = self.outcome_of(job).unwrap_or(Outcome::Incomplete);
                    if outcome.is_ok() {
                        self.release_children(job);
                    } else {
                        self.try_again(job, outcome, broken);
                        self.stop_dependants(job, outcome);
                    }
                    self.follow(job, slot);
                    let unit = self.bonds.unit(job);
                    if !self.has_begun(unit) {
                        self.settle(unit);
                    }
                    self.forget_ended(job);
                }
            }
        }
    }

    fn stop_dependants(&mut self, id: JobId, outcome: Outcome) {
        for (relation, other) in self.dependants(id) {
            let Some(row) = self.jobs.get(&other) else { continue };
            let waits = matches!(row.state, JobState::Scheduled { .. });
            let stopping = match relation {
                Relation::Parallel => Stopping {
                    outcome: if waits { Outcome::Skipped } else { Outcome::ParallelFailed },
                    reason: EndReason::ParallelFailed { relative: self.relative(id), outcome },
                },
                Relation::Chained | Relation::DirectlyChained if waits => Stopping {
                    outcome: Outcome::Skipped,
                    reason: EndReason::ParentFailed { parent: self.relative(id), outcome },
                },
                Relation::Chained | Relation::DirectlyChained => continue,
            };
            self.stop(other, stopping);
        }
    }

    /// The next job of a direct chain takes the slot that `id` leaves.
    fn follow(&mut self, id: JobId, slot: Option<WorkerName>) {
        if !self.bonds.is_bound(id) {
            return;
        }
        let Some(next) = self.next_in_chain(id) else { return };
        if let Some(worker) = slot.filter(|worker| self.pool.has_room(worker)) {
            self.assign(next, &worker);
            return;
        }
        let reason = EndReason::SlotLost { after: self.relative(id) };
        self.stop(next, Stopping { outcome: Outcome::Skipped, reason });
    }

    /// Starts a job anew by itself, if it may be.
    fn try_again(&mut self, id: JobId, outcome: Outcome, broken: bool) {
        let Some(row) = self.ended.get(&id) else { return };
        if outcome.is_aborted() || row.cloned_as.is_some() || Self::build_of(row).is_some() {
            return;
        }
        let again = if broken && self.bonds.is_bound(id) && row.retries.lost < self.timing.lost_retries {
            Again::Broken
        } else if row.retries.left > 0 {
            Again::Failed
        } else {
            return;
        };
        let by = match again {
            Again::Failed => "RETRY".to_owned(),
            Again::Broken => "the loss of its worker".to_owned(),
        };
        let options = RestartOptions { force: true, ..RestartOptions::default() };
        let request = RestartRequest { jobs: vec![id], options, by, plan_only: false };
        let _ = self.carry_out(&request, Some(again));
    }

    /// What the plan of a restart has to know: everything related to its jobs, as far as it is here.
    fn restart_facts(&self, jobs: &[JobId]) -> BTreeMap<JobId, JobFacts> {
        let mut facts = BTreeMap::new();
        let mut next: Vec<JobId> = self.known.keys().chain(jobs).copied().collect();
        while let Some(id) = next.pop() {
            if facts.contains_key(&id) {
                continue;
            }
            let Some(row) = self.row(id).or_else(|| self.known.get(&id)) else { continue };
            next.extend(row.parents.iter().map(|parent| parent.job));
            next.extend(self.children(id).into_iter().map(|(_, child)| child));
            next.extend(row.cloned_as);
            facts.insert(id, JobFacts::from(row));
        }
        facts
    }

    /// Jobs are started anew, as the plan says.
    pub(super) fn restart(&mut self, request: &RestartRequest) -> Result<crate::io::Answer, Refusal> {
        self.carry_out(request, None).map(crate::io::Answer::Restarted)
    }

    fn carry_out(
        &mut self,
        request: &RestartRequest,
        again: Option<Again>,
    ) -> Result<restart::RestartPlan, Refusal> {
        let facts = self.restart_facts(&request.jobs);
        let mut plan = restart::plan(&facts, request)?;
        if request.plan_only || plan.clones.is_empty() {
            return Ok(plan);
        }
        let old: Vec<JobId> = plan.clones.iter().map(|clone| clone.job.job).collect();
        let places = restart::Places::new(&facts, &old);
        let mut jobs = Vec::new();
        for id in &old {
            let row = self.row(*id).or_else(|| self.known.get(id));
            let (Some(row), Some(own)) = (row, facts.get(id)) else { continue };
            let mut job = restart::clone_of(row, request)?;
            job.parents = restart::parents_of_clone(&facts, &places, own);
            jobs.push(job);
        }
        let ids = self.make_jobs(jobs, None)?;
        for (clone, id) in plan.clones.iter_mut().zip(&ids) {
            clone.clone = Some(*id);
        }
        for (old, new) in old.iter().zip(&ids) {
            self.count_retry(*old, *new, again);
            if !request.options.copy_only {
                self.note_clone(*old, *new);
            }
        }
        for end in &plan.ends {
            let clone = old.iter().position(|id| *id == end.job.job).and_then(|at| ids.get(at).copied());
            let through = plan.clones.iter().find(|clone| clone.job.job == end.job.job);
            let through = through.and_then(|clone| clone.through.clone());
            let reason = EndReason::Restarted { by: crate::reason::clean(&request.by), through, clone };
            self.stop(end.job.job, Stopping { outcome: end.outcome, reason });
        }
        Ok(plan)
    }

    /// The clone knows how often its ancestors were started anew, and why.
    fn count_retry(&mut self, old: JobId, new: JobId, again: Option<Again>) {
        let Some(again) = again else { return };
        let Some(mut retries) = self.row(old).map(|row| row.retries) else { return };
        match again {
            Again::Failed
                if self.outcome_of(old).is_some_and(|outcome| !outcome.is_aborted() && !outcome.is_ok()) =>
            {
                retries.left = retries.left.saturating_sub(1);
                retries.failed += 1;
            }
            Again::Failed => retries.along += 1,
            Again::Broken => retries.lost += 1,
        }
        if let Some(job) = self.jobs.get_mut(&new) {
            job.retries = retries;
        }
        self.save_job(new);
    }

    fn note_clone(&mut self, old: JobId, new: JobId) {
        if let Some(job) = self.jobs.get_mut(&old) {
            job.cloned_as = Some(new);
            self.save_job(old);
        } else if let Some(row) = self.ended.get_mut(&old).or_else(|| self.known.get_mut(&old)) {
            row.cloned_as = Some(new);
            let row = row.clone();
            self.save_ended(row);
        }
    }
}
