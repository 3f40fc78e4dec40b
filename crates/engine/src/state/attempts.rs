//! Attempts advance and end, each exactly once.

use super::timers::Timer;
use super::{Settled, State};
use crate::ids::{AttemptId, ConnectionId, JobId, WorkerName};
use crate::io::{Change, Effect};
use crate::job::{End, JobState, Retry};
use crate::outcome::{Outcome, OutcomeClass};
use crate::reason::{AfterLoss, EndReason, FenceReason, Loss, LostHow, clean};
use crate::relations::Relation;
use crate::rows::{AttemptRow, Row};
use crate::work::{Held, Phase, Report};

impl State {
    pub(super) fn phase(&mut self, connection: ConnectionId, held: Held, phase: Phase) {
        let Some(name) = self.speaker(connection) else { return };
        if !self.judge(connection, &name, held) {
            return;
        }
        let id = held.attempt;
        let (Some(job), Some(row)) = (self.jobs.get_mut(&id.job), self.attempts.get_mut(&id)) else { return };
        let Ok(state) = job.state.clone().advance(phase) else { return }; // said before
        job.state = state;
        row.phase = phase;
        if phase >= Phase::Running {
            self.note_begun(id);
        }
        if let Some(row) = self.attempts.get(&id).cloned() {
            self.save(Row::Attempt(row));
        }
        self.save_job(id.job);
        self.tell_parents(id.job);
    }

    /// Notes when an attempt's machine or script began.
    fn note_begun(&mut self, id: AttemptId) {
        let (Some(job), Some(row)) = (self.jobs.get_mut(&id.job), self.attempts.get_mut(&id)) else { return };
        if row.started_at.is_none() {
            row.started_at = Some(self.now);
            job.started_at = Some(self.now);
            self.note_build_begun(id);
        }
    }

    pub(super) fn finished(&mut self, connection: ConnectionId, held: Held, report: &Report) {
        let Some(name) = self.speaker(connection) else { return };
        if !self.judge(connection, &name, held) {
            return;
        }
        let report = Report {
            reason: report.reason.as_deref().map(clean).filter(|text| !text.is_empty()),
            ..report.clone()
        };
        let end = End {
            outcome: report.outcome,
            class: report.class,
            reason: EndReason::Reported { text: report.reason.clone() },
            at: self.now,
        };
        if end.outcome.is_verdict() {
            self.note_begun(held.attempt); // also if word of it never came
        }
        let retry = self.retry_elsewhere(held.attempt, &report, &name);
        self.end_attempt(held.attempt, end.clone());
        let (now, reason) = (self.now, end.reason);
        let job = held.attempt.job;
        if retry.is_some() {
            self.change_job(job, Some(name), false, |state| state.lose(retry, reason, now));
        } else {
            let broken =
                report.outcome == Outcome::Incomplete && report.class == OutcomeClass::Infrastructure;
            self.change_job(job, Some(name), broken, |state| state.finish(&report, now));
        }
        self.send(connection, crate::io::Message::FinishedAck { attempt: held.attempt });
    }

    pub(super) fn lease_ended(&mut self, id: AttemptId, overdue_us: i64) {
        let Some(row) = self.attempts.get(&id) else { return };
        let held = Held { attempt: id, token: row.token };
        let for_us = self.timing.lease_us + overdue_us;
        let connection = self.workers.get(&row.worker).and_then(|worker| worker.connection);
        let how = match connection {
            Some(_) => LostHow::NotReported { for_us },
            None => LostHow::Silent { for_us },
        };
        self.lose(id, how);
        if let Some(connection) = connection {
            self.send_fenced(connection, held, FenceReason::Ended { attempt: id });
        }
    }

    pub(super) fn cancel_ignored(&mut self, id: AttemptId) {
        let (Some(row), Some(by)) = (self.attempts.get(&id), self.cancelled_by(id.job)) else { return };
        let held = Held { attempt: id, token: row.token };
        let connection = self.workers.get(&row.worker).and_then(|worker| worker.connection);
        let reason = EndReason::CancelIgnored {
            by: by.clone(),
            worker: row.worker.clone(),
            after_us: self.timing.cancel_grace_us,
        };
        let end = End::with(Outcome::UserCancelled, reason.clone(), self.now);
        self.end_attempt(id, end);
        let now = self.now;
        self.change_job(id.job, None, false, |state| state.lose(None, reason, now));
        if let Some(connection) = connection {
            self.send_fenced(connection, held, FenceReason::Ended { attempt: id });
        }
    }

    /// An attempt is lost: its job is tried again, or ends.
    pub(super) fn lose(&mut self, id: AttemptId, how: LostHow) {
        let Some(AttemptRow { worker, host, phase, .. }) = self.attempts.get(&id) else { return };
        // The gate counts the attempts at its builds itself, each of which is a job.
        let is_build = self.jobs.get(&id.job).is_some_and(|job| Self::build_of(job).is_some());
        let alone = self.can_be_tried_again(id.job);
        let retry = (id.number <= self.timing.lost_retries && !is_build && alone)
            .then(|| Retry { attempt: id.number + 1, lost_on: worker.clone() });
        let lost = self.jobs.get(&id.job).map_or(0, |job| job.retries.lost);
        let then = match (self.cancelled_by(id.job), &retry) {
            (Some(by), _) => AfterLoss::Cancelled { by },
            (None, Some(retry)) => AfterLoss::Retried { attempt: retry.attempt },
            (None, None) if !alone && !is_build && lost < self.timing.lost_retries => AfterLoss::Cloned,
            (None, None) => AfterLoss::GivenUp { attempts: id.number },
        };
        let loss = Loss { worker: worker.clone(), host: host.clone(), phase: *phase, how, then };
        let reason = EndReason::Lost(loss);
        self.end_attempt(id, End::with(Outcome::Incomplete, reason.clone(), self.now));
        let now = self.now;
        self.change_job(id.job, None, true, |state| state.lose(retry, reason, now));
    }

    /// Ends an attempt for good and frees its slot.
    fn end_attempt(&mut self, id: AttemptId, end: End) {
        let Some(mut row) = self.attempts.remove(&id) else { return };
        self.uncount(id);
        self.timers.clear(&Timer::Lease(id));
        self.timers.clear(&Timer::Cancel(id));
        self.settled.insert(row.token, Settled { attempt: id, reported: end.reason.is_report() });
        self.forget_settled();
        if let Some(worker) = self.workers.get_mut(&row.worker) {
            worker.attempts.remove(&id);
        }
        let name = row.worker.clone();
        self.place(&name);
        row.end = Some(end);
        self.save(Row::Attempt(row));
        self.changes.insert(Change::Worker(name));
        self.effects.push(Effect::AttemptEnded(id));
    }

    /// True if a job may begin again by itself: nothing began beside it, and nothing came directly before it.
    fn can_be_tried_again(&self, id: JobId) -> bool {
        let parallel = |(relation, _): &(Relation, JobId)| *relation == Relation::Parallel;
        let tight = |row: &crate::rows::JobRow| {
            row.parents
                .iter()
                .any(|parent| parent.relation != Relation::Chained && self.row(parent.job).is_some())
        };
        !self.bonds.is_bound(id)
            || !(self.jobs.get(&id).is_some_and(tight) || self.children(id).iter().any(parallel))
    }

    /// The next try of a job whose worker says that the machinery failed, if another worker could do better.
    fn retry_elsewhere(&self, id: AttemptId, report: &Report, worker: &WorkerName) -> Option<Retry> {
        let broken = report.outcome == Outcome::Incomplete && report.class == OutcomeClass::Infrastructure;
        let job = self.jobs.get(&id.job)?;
        let may = broken
            && id.number <= self.timing.lost_retries
            && self.cancelled_by(id.job).is_none()
            && Self::build_of(job).is_none()
            && self.can_be_tried_again(id.job)
            && self.pool.another_offers(&job.classes, worker);
        may.then(|| Retry { attempt: id.number + 1, lost_on: worker.clone() })
    }

    /// Takes a job on by a transition that its attempt's end calls for: into the queue again, or out of the books. `slot`
    /// is where it leaves a slot, and `broken` says that the machinery failed.
    fn change_job(
        &mut self,
        id: JobId,
        slot: Option<WorkerName>,
        broken: bool,
        transition: impl FnOnce(JobState) -> Result<JobState, crate::job::IllegalTransition>,
    ) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Ok(state) = transition(job.state.clone()) else { return };
        job.state = state;
        if job.state.end().is_some() {
            self.retire(id, slot, broken);
        } else {
            job.started_at = None;
            self.silence(id);
            self.save_job(id);
            self.settle(self.bonds.unit(id));
        }
    }
}
