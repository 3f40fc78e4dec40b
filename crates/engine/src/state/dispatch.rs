//! Who gets what, and why the rest waits. Jobs that need the same classes share a queue, ordered by priority and then as
//! is fair ([`crate::sched::fair`]); between steps no queue has both a job and a worker with room for it.

use super::State;
use super::pool::{Intake, Offer, SlotCount};
use super::timers::Timer;
use crate::ids::{AttemptId, FencingToken, JobId, WorkerName};
use crate::io::{Change, Effect, Message, USED_UP};
use crate::job::JobState;
use crate::reason::{DrainedSlots, WaitReason};
use crate::rows::{AttemptRow, QueueRow, Row};
use crate::sched::fair::{Line, Party, Turn};
use crate::settings::ClassSet;
use crate::work::{Held, Phase};
use std::collections::BTreeSet;

/// The jobs that wait for the same classes.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    pub(super) jobs: Line,
    /// As stored.
    pub(super) reason: Option<WaitReason>,
    /// The slots of the online workers that offer the classes.
    slots: SlotCount,
}

impl Queue {
    pub(super) fn stored(reason: Option<WaitReason>) -> Self {
        Self { reason, ..Self::default() }
    }
}

impl State {
    pub(super) fn enqueue(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        // Put aside as it was before the restart; whether that still holds is seen at the first tick.
        match job.wait.as_ref().filter(|_| self.resuming) {
            Some(WaitReason::Limit { limit, .. }) => {
                let limit = limit.clone();
                return self.park_for(id, limit);
            }
            Some(disk @ WaitReason::Disk { .. }) => {
                let disk = disk.clone();
                return self.park_for_disk(id, disk);
            }
            _ => {}
        }
        let pool = &self.pool;
        let queue = self
            .queues
            .entry(job.classes.clone())
            .or_insert_with(|| Queue { slots: pool.slots(&job.classes), ..Queue::default() });
        queue.jobs.insert(job.priority, Party::of(job), job.id);
        self.grown_queues.insert(job.classes.clone());
    }

    /// Takes a unit out of the queue that it is in, if it is in one.
    pub(super) fn unqueue(&mut self, unit: JobId) {
        self.dequeue_cluster(unit);
        for id in self.bonds.members(unit) {
            self.unpark(id);
            self.unpark_from_disk(id);
            if self.unqueue_one(id) {
                self.left_queue(id);
            }
        }
    }

    /// Takes a job out of its queue; false if it is in none.
    pub(super) fn unqueue_one(&mut self, id: JobId) -> bool {
        let Some(job) = self.jobs.get(&id) else { return false };
        let Some(queue) = self.queues.get_mut(&job.classes) else { return false };
        let was_there = queue.jobs.remove(job.priority, Party::of(job), id);
        if was_there {
            self.doubtful_reasons.insert(job.classes.clone());
        }
        was_there
    }

    /// Puts what a worker offers into the indexes (or takes it out while it is not connected).
    pub(super) fn place(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get(name) else { return };
        let new = worker.connection.map(|_| Offer {
            classes: worker.row.classes.clone(),
            host: worker.row.host.clone(),
            slots: worker.row.slots,
            load: u32::try_from(worker.attempts.len()).unwrap_or(u32::MAX).saturating_add(self.kept(name)),
            intake: match worker.row.drained_by.as_deref() {
                None => Intake::Open,
                Some(USED_UP) => Intake::UsedUp,
                Some(_) => Intake::Drained,
            },
            room: worker.room,
        });
        let old = self.pool.place(name, new.clone());
        let open = new.as_ref().is_some_and(|offer| offer.intake == Intake::Open);
        if self.pool.has_room(name) && open {
            self.roomy_workers.insert(name.clone());
            self.disks.note_change();
        }
        let size = |offer: &Option<Offer>| {
            offer.as_ref().map(|offer| (offer.classes.clone(), offer.slots, offer.host.clone(), offer.intake))
        };
        if size(&old) == size(&new) {
            return;
        }
        self.clusters.pool_has_changed();
        for (classes, queue) in &mut self.queues {
            let slots = |offer: &Option<Offer>| {
                offer.as_ref().map(|offer| offer.slots_for(classes)).unwrap_or_default()
            };
            queue.slots = queue.slots.plus(slots(&new)).minus(slots(&old));
            self.doubtful_reasons.insert(classes.clone());
        }
    }

    /// Gives work to whoever has got room and room to whatever has come, then says why the rest waits.
    pub(super) fn dispatch(&mut self) {
        self.wake();
        self.dispatch_clusters();
        self.dispatch_singles(None);
        while self.wake() {
            self.dispatch_singles(None);
        }
        // Assigning makes workers fuller, never roomier, so nothing has come up meanwhile.
        self.roomy_workers.clear();
        for classes in std::mem::take(&mut self.grown_queues) {
            self.doubtful_reasons.insert(classes);
        }
        while let Some(classes) = self.doubtful_reasons.pop_first() {
            self.explain(classes);
        }
    }

    /// Gives the slots that are free to the jobs at the head of the queues; only to those before `bound`, if there is one.
    pub(super) fn dispatch_singles(&mut self, bound: Option<Turn>) {
        let comes = |turn: Turn| bound.is_none_or(|bound| turn < bound);
        for worker in self.roomy_workers.clone() {
            while self.pool.has_room(&worker)
                && let Some((turn, classes)) = self.first_job_for(&worker)
                && comes(turn)
                && (self.park(turn.job)
                    || self.park_for_room(turn.job)
                    || self.assign_first(&classes, turn.job))
            {}
        }
        let grown =
            self.grown_queues.iter().filter_map(|classes| Some((self.turn_in(classes)?, classes.clone())));
        let mut heads: BTreeSet<(Turn, ClassSet)> = grown.collect();
        while let Some((seen, classes)) = heads.pop_first() {
            let Some(turn) = self.turn_in(&classes).filter(|turn| comes(*turn)) else { continue };
            if turn > seen {
                // Its party has got something from another queue meanwhile.
                heads.insert((turn, classes));
                continue;
            }
            if self.worker_for(&classes, turn.job, &|_| true).is_none() {
                continue;
            }
            if self.park(turn.job) || self.park_for_room(turn.job) || self.assign_first(&classes, turn.job) {
                heads.extend(self.turn_in(&classes).map(|turn| (turn, classes)));
            }
        }
    }

    /// Whose turn it is in a queue.
    fn turn_in(&self, classes: &ClassSet) -> Option<Turn> {
        self.queues.get(classes)?.jobs.first(classes, &self.shares)
    }

    /// The best worker for a job that waits, if one has room and `fits`.
    fn worker_for(&self, classes: &ClassSet, id: JobId, fits: &dyn Fn(&Offer) -> bool) -> Option<WorkerName> {
        let JobState::Scheduled { lost_on, .. } = &self.jobs.get(&id)?.state else { return None };
        self.pool.find(classes, lost_on.as_ref(), fits)
    }

    fn first_job_for(&self, worker: &WorkerName) -> Option<(Turn, ClassSet)> {
        let offer = self.pool.offer(worker)?;
        let fitting = offer.classes.offered(&self.queues);
        let heads =
            fitting.filter_map(|(classes, queue)| Some((queue.jobs.first(classes, &self.shares)?, classes)));
        heads.min().map(|(turn, classes)| (turn, classes.clone()))
    }

    /// Hands the first job of a queue to the best worker for it; false if there is none.
    fn assign_first(&mut self, classes: &ClassSet, id: JobId) -> bool {
        let need = self.need_of(id);
        let worker = self.worker_for(classes, id, &|offer| self.disks.fits(offer, need));
        worker.is_some_and(|worker| self.assign(id, &worker))
    }

    /// Hands a job to a worker that has room.
    pub(super) fn assign(&mut self, id: JobId, worker: &WorkerName) -> bool {
        let Some(job) = self.jobs.get(&id) else { return false };
        let JobState::Scheduled { attempt, .. } = &job.state else { return false };
        let attempt = AttemptId { job: id, number: *attempt };
        let token = FencingToken(self.last_token + 1);
        let Ok(assigned) = job.state.clone().assign(token) else { return false };
        let served = self.shares.serve(Party::of(job), &job.classes, token);
        self.last_token = token.0;
        self.forget_settled();
        let bound = self.bonds.is_bound(id);
        self.unqueue(self.bonds.unit(id));
        if let Some(job) = self.jobs.get_mut(&id) {
            job.state = assigned;
            job.wait = None;
        }
        self.save_job(id);
        for row in served {
            self.save(Row::Share(row));
        }
        self.hand_out(attempt, token, worker);
        if bound {
            for member in self.open_members(self.bonds.unit(id)) {
                self.note_wait(member);
            }
        }
        true
    }

    fn hand_out(&mut self, id: AttemptId, token: FencingToken, name: &WorkerName) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.attempts.insert(id);
        let once = worker.once;
        if once {
            worker.row.drained_by = Some(USED_UP.to_owned());
        }
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
        self.count(id);
        self.save(Row::Attempt(row));
        self.changes.insert(Change::Worker(name.clone()));
        self.timers.set(Timer::Lease(id), self.timing.lease_us);
        self.place(name);
        if once {
            self.save_worker(name);
        }
        self.send_assign(id);
    }

    pub(super) fn send_assign(&mut self, id: AttemptId) {
        let (Some(row), Some(job)) = (self.attempts.get(&id), self.jobs.get(&id.job)) else { return };
        let message = Message::Assign {
            held: Held { attempt: id, token: row.token },
            name: job.name.clone(),
            settings: job.settings.plain(),
            place: self.place_of(id.job),
        };
        if let Some(connection) = self.workers.get(&row.worker).and_then(|worker| worker.connection) {
            self.effects.push(Effect::Send { connection, message });
        }
    }

    /// Stores why a queue waits, if that has changed.
    fn explain(&mut self, classes: ClassSet) {
        let Some(queue) = self.queues.get(&classes) else { return };
        let (slots, parties) = (queue.slots, queue.jobs.parties());
        let reason = (parties > 0).then(|| self.wait_reason_of(&classes, slots, parties));
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

    fn wait_reason_of(&self, classes: &ClassSet, slots: SlotCount, parties: usize) -> WaitReason {
        if self.pool.is_empty() {
            return WaitReason::NoWorkerOnline;
        }
        if let Some((class, nearest)) = self.pool.not_offered(classes) {
            let nearest = nearest.map(str::to_owned);
            return WaitReason::ClassNotOffered { class: class.to_owned(), nearest };
        }
        let classes = classes.clone();
        // Those with the rarest of the classes are looked through for it, so only if one of them offers all.
        let first_drained = (slots.drained > 0).then(|| self.pool.first_drained(&classes)).flatten();
        let drained = first_drained.map(|first| DrainedSlots { slots: slots.drained, first: first.clone() });
        match (slots.usable, drained) {
            (0, None) => WaitReason::ClassesNotTogether { classes },
            (0, Some(drained)) => WaitReason::AllDrained { classes, drained },
            (slots, drained) => {
                let kept_for = self.kept_for(&classes);
                WaitReason::AllBusy { classes, slots, parties, kept_for, drained }
            }
        }
    }
}
