//! Who gets what, and why the rest waits. Jobs that need the same classes share a queue, ordered by priority and
//! number; between steps no queue has both a job and a worker with room for it.

use super::State;
use super::pool::Offer;
use super::timers::Timer;
use crate::ids::{AttemptId, FencingToken, JobId, WorkerName};
use crate::io::{Change, Effect, Message};
use crate::job::JobState;
use crate::reason::WaitReason;
use crate::rows::{AttemptRow, JobRow, QueueRow, Row};
use crate::settings::ClassSet;
use crate::work::{Held, Phase};
use std::collections::BTreeSet;

/// The jobs that wait for the same classes.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    pub(super) jobs: BTreeSet<(i32, JobId)>,
    /// As stored.
    pub(super) reason: Option<WaitReason>,
    /// How many slots the online workers that offer the classes have.
    slots: u64,
}

impl Queue {
    pub(super) fn stored(reason: Option<WaitReason>) -> Self {
        Self { reason, ..Self::default() }
    }
}

impl State {
    pub(super) fn enqueue(&mut self, job: &JobRow) {
        let pool = &self.pool;
        let queue = self
            .queues
            .entry(job.classes.clone())
            .or_insert_with(|| Queue { slots: pool.slots(&job.classes), ..Queue::default() });
        queue.jobs.insert((job.priority, job.id));
        self.grown_queues.insert(job.classes.clone());
    }

    pub(super) fn dequeue(&mut self, classes: &ClassSet, key: (i32, JobId)) {
        if let Some(queue) = self.queues.get_mut(classes) {
            queue.jobs.remove(&key);
            self.doubtful_reasons.insert(classes.clone());
        }
    }

    /// Puts what a worker offers into the indexes (or takes it out while it is not connected).
    pub(super) fn place(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get(name) else { return };
        let new = worker.connection.map(|_| Offer {
            classes: worker.row.classes.clone(),
            slots: worker.row.slots,
            load: u32::try_from(worker.attempts.len()).unwrap_or(u32::MAX),
        });
        let old = self.pool.place(name, new.clone());
        if self.pool.has_room(name) {
            self.roomy_workers.insert(name.clone());
        }
        let size = |offer: &Option<Offer>| offer.as_ref().map(|o| (o.classes.clone(), o.slots));
        if size(&old) == size(&new) {
            return;
        }
        for (classes, queue) in &mut self.queues {
            let slots = |offer: &Option<Offer>| match offer {
                Some(offer) if offer.classes.offers(classes) => u64::from(offer.slots),
                _ => 0,
            };
            queue.slots = queue.slots + slots(&new) - slots(&old);
            self.doubtful_reasons.insert(classes.clone());
        }
    }

    /// Gives work to whoever has got room and room to whatever has come, then says why the rest waits.
    pub(super) fn dispatch(&mut self) {
        while let Some(worker) = self.roomy_workers.pop_first() {
            while self.pool.has_room(&worker)
                && let Some((classes, job)) = self.first_job_for(&worker)
                && self.assign_first(&classes, job)
            {}
        }
        while let Some(classes) = self.grown_queues.pop_first() {
            while let Some((_, job)) = self.queues.get(&classes).and_then(|queue| queue.jobs.first().copied())
                && self.assign_first(&classes, job)
            {}
            self.doubtful_reasons.insert(classes);
        }
        // Assigning makes workers fuller, never roomier, so nothing has come up meanwhile.
        self.roomy_workers.clear();
        while let Some(classes) = self.doubtful_reasons.pop_first() {
            self.explain(classes);
        }
    }

    fn first_job_for(&self, worker: &WorkerName) -> Option<(ClassSet, JobId)> {
        let offer = self.pool.offer(worker)?;
        let fitting = self.queues.iter().filter(|(classes, _)| offer.classes.offers(classes));
        let heads = fitting.filter_map(|(classes, queue)| Some((queue.jobs.first()?, classes)));
        heads.min_by_key(|(head, _)| **head).map(|((_, job), classes)| (classes.clone(), *job))
    }

    /// Hands the first job of a queue to the best worker for it; false if there is none.
    fn assign_first(&mut self, classes: &ClassSet, id: JobId) -> bool {
        let Some(job) = self.jobs.get(&id) else { return false };
        let JobState::Scheduled { attempt, lost_on } = &job.state else { return false };
        let Some(worker) = self.pool.find(classes, lost_on.as_ref()) else { return false };
        let attempt = AttemptId { job: id, number: *attempt };
        let token = FencingToken(self.last_token + 1);
        let Ok(assigned) = job.state.clone().assign(token) else { return false };
        let key = (job.priority, id);
        self.last_token = token.0;
        self.forget_settled();
        self.dequeue(classes, key);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.state = assigned;
        }
        self.save_job(id);
        self.hand_out(attempt, token, &worker);
        true
    }

    fn hand_out(&mut self, id: AttemptId, token: FencingToken, name: &WorkerName) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.attempts.insert(id);
        let row = AttemptRow {
            id,
            token,
            worker: name.clone(),
            instance: worker.row.instance.clone(),
            host: worker.row.host.clone(),
            phase: Phase::Assigned,
            assigned_at: self.now,
            started_at: None,
            end: None,
        };
        self.attempts.insert(id, row.clone());
        self.save(Row::Attempt(row));
        self.changes.insert(Change::Worker(name.clone()));
        self.timers.set(Timer::Lease(id), self.timing.lease_us);
        self.place(name);
        self.send_assign(id);
    }

    pub(super) fn send_assign(&mut self, id: AttemptId) {
        let (Some(row), Some(job)) = (self.attempts.get(&id), self.jobs.get(&id.job)) else { return };
        let message = Message::Assign {
            held: Held { attempt: id, token: row.token },
            name: job.name.clone(),
            settings: job.settings.plain(),
        };
        if let Some(connection) = self.workers.get(&row.worker).and_then(|worker| worker.connection) {
            self.effects.push(Effect::Send { connection, message });
        }
    }

    /// Stores why a queue waits, if that has changed.
    fn explain(&mut self, classes: ClassSet) {
        let Some(queue) = self.queues.get(&classes) else { return };
        let reason = (!queue.jobs.is_empty()).then(|| self.wait_reason_of(&classes, queue.slots));
        let Some(queue) = self.queues.get_mut(&classes) else { return };
        let changed = queue.reason != reason;
        queue.reason.clone_from(&reason);
        if queue.jobs.is_empty() {
            self.queues.remove(&classes);
        }
        if changed {
            self.changes.insert(Change::Queue(classes.clone()));
            self.save(Row::Queue(QueueRow { classes, reason }));
        }
    }

    fn wait_reason_of(&self, classes: &ClassSet, slots: u64) -> WaitReason {
        if self.pool.is_empty() {
            return WaitReason::NoWorkerOnline;
        }
        if let Some((class, nearest)) = self.pool.not_offered(classes) {
            let nearest = nearest.map(str::to_owned);
            return WaitReason::ClassNotOffered { class: class.to_owned(), nearest };
        }
        match slots {
            0 => WaitReason::ClassesNotTogether { classes: classes.clone() },
            slots => WaitReason::AllBusy { classes: classes.clone(), slots },
        }
    }
}
