//! A server around the engine that keeps rows as a database would, and checks after every step what must always hold.

use assay_engine::ids::{AttemptId, ConnectionId, JobId, ProductRunId, Timestamp, WorkerName};
use assay_engine::io::{Answer, Effect, Input, Message, Verdict};
use assay_engine::job::{End, JobState, StateWord};
use assay_engine::reason::{EndReason, Refusal};
use assay_engine::relations::Relation;
use assay_engine::rows::{
    AttemptRow, JobRow, LocksRow, ProductRunRow, QueueRow, Row, Rows, SETTLED_WINDOW, ShareRow, WorkerRow,
    WorkerStatus,
};
use assay_engine::sched::fair::Party;
use assay_engine::sched::limits::Limits;
use assay_engine::settings::ClassSet;
use assay_engine::state::State;
use assay_engine::work::Timing;
use std::collections::{BTreeMap, BTreeSet};

/// What a database would hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Db {
    pub(crate) jobs: BTreeMap<JobId, JobRow>,
    pub(crate) attempts: BTreeMap<AttemptId, AttemptRow>,
    pub(crate) workers: BTreeMap<WorkerName, WorkerRow>,
    pub(crate) queues: BTreeMap<ClassSet, QueueRow>,
    pub(crate) runs: BTreeMap<ProductRunId, ProductRunRow>,
    pub(crate) locks: BTreeMap<JobId, LocksRow>,
    pub(crate) shares: BTreeMap<(Party, String), ShareRow>,
    pub(crate) limits: Limits,
    /// The highest number that a job ever had.
    last_job: i64,
}

impl Db {
    fn save(&mut self, row: Row) {
        match row {
            Row::Job(row) => {
                self.last_job = self.last_job.max(row.id.0);
                let before = self.jobs.insert(row.id, row.clone());
                if let Some(before) = before.filter(|before| before.state.is_final()) {
                    let forced =
                        matches!(row.state.end(), Some(End { reason: EndReason::Forced { .. }, .. }));
                    let same = JobRow { cloned_as: row.cloned_as, group: row.group, ..before.clone() };
                    assert!(forced || same == row, "I9: job {} was final and changed to {row:?}", row.id);
                    assert!(
                        before.cloned_as.is_none() || before.cloned_as == row.cloned_as,
                        "I12: two clones"
                    );
                }
            }
            Row::Attempt(row) => {
                let before = self.attempts.insert(row.id, row.clone());
                let had_ended = before.as_ref().is_some_and(|before| before.end.is_some());
                assert!(!had_ended, "I9: attempt {} had ended and changed", row.id);
                if before.is_none() {
                    let newest = self.attempts.values().filter(|other| other.id != row.id);
                    let newest = newest.map(|other| other.token).max();
                    assert!(newest < Some(row.token), "I10: the token of {} is not newer", row.id);
                }
            }
            Row::Worker(row) => drop(self.workers.insert(row.name.clone(), row)),
            Row::NoWorker(name) => drop(self.workers.remove(&name)),
            Row::Queue(row) if row.reason.is_none() => drop(self.queues.remove(&row.classes)),
            Row::Queue(row) => drop(self.queues.insert(row.classes.clone(), row)),
            Row::Deleted(job) => drop(self.jobs.remove(&job)),
            Row::Locks(row) if row.locks.is_none() => drop(self.locks.remove(&row.cluster)),
            Row::Locks(row) => drop(self.locks.insert(row.cluster, row)),
            Row::Share(row) => drop(self.shares.insert((row.party, row.class.clone()), row)),
            Row::Run(row) => drop(self.runs.insert(row.id, row)),
            Row::Gate(row) => panic!("nothing of this world is gated: {row:?}"),
        }
    }

    /// What `Store::load` gives.
    pub(crate) fn rows(&self) -> Rows {
        let last_token = self.attempts.values().map(|row| row.token.0).max().unwrap_or(0);
        let needed = |row: &&AttemptRow| row.end.is_none() || row.token.0 > last_token - SETTLED_WINDOW;
        Rows {
            jobs: self.jobs.values().filter(|job| !job.state.is_final()).cloned().collect(),
            relatives: self.relatives(),
            attempts: self.attempts.values().filter(needed).cloned().collect(),
            workers: self.workers.values().cloned().collect(),
            queues: self.queues.values().cloned().collect(),
            locks: self.locks.values().cloned().collect(),
            shares: self.shares.values().cloned().collect(),
            last_job: self.last_job,
            last_run: self.runs.keys().last().map_or(0, |id| id.0),
            last_token,
            limits: self.limits.clone(),
            ..Rows::default()
        }
    }

    /// Final jobs that are bound to open ones.
    fn relatives(&self) -> Vec<JobRow> {
        let open = self.jobs.values().filter(|job| !job.state.is_final());
        let mut seen: BTreeSet<JobId> = open.map(|job| job.id).collect();
        let mut next: Vec<JobId> = seen.iter().copied().collect();
        let bound = |row: &JobRow| -> Vec<JobId> {
            row.parents.iter().filter(|p| p.relation != Relation::Chained).map(|p| p.job).collect()
        };
        while let Some(id) = next.pop() {
            let Some(row) = self.jobs.get(&id) else { continue };
            let children = self.jobs.values().filter(|row| bound(row).contains(&id)).map(|row| row.id);
            next.extend(
                bound(row).into_iter().chain(children).filter(|id| seen.insert(*id)).collect::<Vec<_>>(),
            );
        }
        let all = seen.iter().filter_map(|id| self.jobs.get(id));
        all.filter(|job| job.state.is_final()).cloned().collect()
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &AttemptRow> {
        self.attempts.values().filter(|row| row.end.is_none())
    }
}

/// What came out of a step, rows aside.
#[derive(Debug, Default)]
pub(crate) struct Out {
    pub(crate) sent: Vec<(ConnectionId, Message)>,
    pub(crate) closed: Vec<(ConnectionId, String)>,
}

pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) db: Db,
    pub(crate) now: Timestamp,
    timing: Timing,
    /// When an attempt's worker last gave a sign that it has it.
    signs: BTreeMap<AttemptId, Timestamp>,
    /// Which worker speaks over which connection, as the engine was told.
    connections: BTreeMap<ConnectionId, WorkerName>,
}

impl World {
    pub(crate) fn new(timing: Timing) -> Self {
        let now = Timestamp(1_700_000_000_000_000);
        Self {
            state: State::new(timing, now),
            db: Db::default(),
            now,
            timing,
            signs: BTreeMap::new(),
            connections: BTreeMap::new(),
        }
    }

    /// Takes an input, stores the rows, and checks everything.
    pub(crate) fn input(&mut self, input: Input) -> (Result<Answer, Refusal>, Out) {
        self.note_signs(&input);
        let is_tick = matches!(input, Input::Tick);
        let input = self.with_known(input);
        let step = self.state.step(input, self.now);
        let mut out = Out::default();
        let mut ended = BTreeSet::new();
        let running_before: BTreeSet<AttemptId> = self.db.running().map(|row| row.id).collect();
        for effect in step.effects {
            match effect {
                Effect::Save(row) => self.db.save(*row),
                Effect::Send { connection, message } => {
                    self.note_sent(connection, &message);
                    out.sent.push((connection, message));
                }
                Effect::Close { connection, reason } => {
                    self.connections.remove(&connection);
                    out.closed.push((connection, reason));
                }
                Effect::AttemptEnded(attempt) => drop(ended.insert(attempt)),
                Effect::Notify(_) | Effect::Fetch { .. } => {}
                Effect::Gate(effect) => panic!("nothing of this world is gated: {effect:?}"),
            }
        }
        let running: BTreeSet<AttemptId> = self.db.running().map(|row| row.id).collect();
        for gone in running_before.difference(&running) {
            assert!(ended.contains(gone), "{gone} ended without AttemptEnded");
        }
        for new in running.difference(&running_before) {
            self.check_new_attempt(*new);
            self.check_relations(*new);
            self.signs.insert(*new, self.now);
        }
        self.signs.retain(|attempt, _| running.contains(attempt));
        self.check();
        if is_tick {
            self.check_leases();
        }
        (step.answer, out)
    }

    /// As the server does: with the rows that only the store has.
    fn with_known(&self, input: Input) -> Input {
        let needs = input.needs(|id| self.state.job(id).is_some());
        if needs.is_empty() {
            return input;
        }
        let mut rows: BTreeSet<JobId> = needs.jobs;
        let mut next: Vec<JobId> = needs.clusters.into_iter().collect();
        while let Some(id) = next.pop() {
            if let Some(row) = self.db.jobs.get(&id)
                && rows.insert(id)
            {
                next.extend(row.parents.iter().map(|parent| parent.job));
                next.extend(row.cloned_as);
                let children = self.db.jobs.values();
                next.extend(children.filter(|job| job.parents.iter().any(|p| p.job == id)).map(|job| job.id));
            }
        }
        let rows = rows.iter().filter_map(|id| self.db.jobs.get(id).cloned()).collect();
        Input::Known { rows, then: Box::new(input) }
    }

    /// What begins may begin: everything before it has passed, a direct parent has just left the slot, and everything
    /// beside it begins in the same step.
    fn check_relations(&self, id: AttemptId) {
        let row = &self.db.jobs[&id.job];
        let worker = &self.db.attempts[&id].worker;
        for parent in &row.parents {
            let Some(other) = self.db.jobs.get(&parent.job) else { continue };
            let passed = other.state.end().is_some_and(|end| end.outcome.is_ok());
            match parent.relation {
                Relation::Chained => assert!(passed, "{id} began before {} had passed", other.id),
                Relation::DirectlyChained => {
                    assert!(passed, "{id} began before {} had passed", other.id);
                    assert!(id.number == 1, "{id} began twice after {}", other.id);
                    let mut slots = self.db.attempts.values().filter(|row| row.id.job == other.id);
                    assert_eq!(slots.next_back().map(|row| &row.worker), Some(worker), "{id} is elsewhere");
                }
                Relation::Parallel => {}
            }
        }
        for other in self.beside(id.job) {
            let other = &self.db.jobs[&other];
            let begins = other.active_attempt().is_some_and(|attempt| {
                self.db.attempts[&attempt].assigned_at == self.db.attempts[&id].assigned_at
            });
            // With PARALLEL_CANCEL_WHOLE_CLUSTER=0 the rest begins without one that was cancelled.
            assert!(begins || other.state.is_final(), "{id} began without {}", other.id);
        }
    }

    /// The jobs that run in parallel with one, over any number of steps.
    fn beside(&self, id: JobId) -> BTreeSet<JobId> {
        let mut seen = BTreeSet::from([id]);
        let mut next = vec![id];
        let parallel = |row: &JobRow| -> Vec<JobId> {
            row.parents.iter().filter(|p| p.relation == Relation::Parallel).map(|p| p.job).collect()
        };
        while let Some(id) = next.pop() {
            let children = self.db.jobs.values().filter(|row| parallel(row).contains(&id)).map(|row| row.id);
            let related = parallel(&self.db.jobs[&id]).into_iter().chain(children);
            next.extend(related.filter(|id| seen.insert(*id)).collect::<Vec<_>>());
        }
        seen.remove(&id);
        seen
    }

    /// Lets time pass as the server does: with a tick whenever one is due.
    pub(crate) fn pass(&mut self, us: i64) -> Out {
        let end = Timestamp(self.now.0 + us);
        let mut all = Out::default();
        while let Some(due) = self.state.next_deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            let (_, out) = self.input(Input::Tick);
            all.sent.extend(out.sent);
            all.closed.extend(out.closed);
        }
        self.now = end;
        all
    }

    /// The clock is set, or the server's process was stopped. A short stop counts as time that passed.
    pub(crate) fn leap(&mut self, us: i64) -> Out {
        let mut out = self.input(Input::Tick).1;
        self.now = Timestamp(self.now.0 + us);
        if us < 0 || us > self.timing.lease_us / 2 {
            for sign in self.signs.values_mut() {
                *sign = Timestamp(sign.0 + us);
            }
        }
        let (_, after) = self.input(Input::Tick);
        out.sent.extend(after.sent);
        out.closed.extend(after.closed);
        out
    }

    /// The server dies and comes back with what is stored.
    pub(crate) fn restart(&mut self) -> Out {
        self.state = State::rebuild(self.db.rows(), self.timing, self.now);
        self.connections.clear();
        for sign in self.signs.values_mut() {
            *sign = self.now;
        }
        self.input(Input::Tick).1
    }

    fn note_signs(&mut self, input: &Input) {
        let mut seen = Vec::new();
        match input {
            Input::Hello { connection, hello } => {
                self.connections.insert(*connection, hello.name.clone());
            }
            Input::Disconnected { connection } => drop(self.connections.remove(connection)),
            Input::Heartbeat { connection, holds, .. } => {
                seen.extend(holds.iter().map(|held| (*connection, *held)));
            }
            Input::Phase { connection, held, .. } => seen.push((*connection, *held)),
            _ => {}
        }
        for (connection, held) in seen {
            if let Verdict::GoOn { .. } = self.state.verdict(connection, &held) {
                self.signs.insert(held.attempt, self.now);
            }
        }
    }

    fn note_sent(&mut self, connection: ConnectionId, message: &Message) {
        match message {
            Message::Welcome { holds, .. } => {
                let go_on = holds.iter().filter(|hold| matches!(hold.verdict, Verdict::GoOn { .. }));
                self.signs.extend(go_on.map(|hold| (hold.held.attempt, self.now)));
            }
            Message::Refused(_) => drop(self.connections.remove(&connection)),
            Message::Assign { held, .. } => {
                let worker = &self.db.attempts[&held.attempt].worker;
                assert_eq!(
                    self.connections.get(&connection),
                    Some(worker),
                    "assigned over a wrong connection"
                );
                self.signs.insert(held.attempt, self.now);
            }
            _ => {}
        }
    }

    fn check_new_attempt(&self, id: AttemptId) {
        let row = &self.db.attempts[&id];
        let worker = &self.db.workers[&row.worker];
        let taken = self.db.running().filter(|other| other.worker == row.worker).count();
        assert!(
            taken <= worker.slots as usize,
            "{} has {taken} attempts and {} slots",
            row.worker,
            worker.slots
        );
        assert!(
            worker.classes.offers(&self.db.jobs[&id.job].classes),
            "{id} went to a worker without its classes"
        );
        assert!(
            matches!(worker.status, WorkerStatus::Online { .. }),
            "{id} went to a worker that is not there"
        );
        assert!(id.number <= 1 + self.timing.lost_retries, "I11: {id} is one attempt too many");
        assert!(id.number == 1 || self.db.attempts.contains_key(&AttemptId { number: id.number - 1, ..id }));
    }

    fn check(&self) {
        let rebuilt = State::rebuild(self.db.rows(), self.timing, self.now);
        let (rebuilt, live) = (rebuilt.facts(), self.state.facts());
        for (rebuilt, live) in rebuilt.jobs.iter().zip(&live.jobs) {
            assert_eq!(rebuilt, live, "I28: rebuilt is not live");
        }
        assert_eq!((&rebuilt.queues, &rebuilt.clusters), (&live.queues, &live.clusters), "I28: queues");
        let ids = |rows: &[JobRow]| rows.iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids(&rebuilt.relatives), ids(&live.relatives), "I28: what is kept");
        assert_eq!(rebuilt, live, "I28: rebuilt is not live");
        for job in self.db.jobs.values() {
            self.check_job(job);
        }
        for row in self.db.running() {
            assert_eq!(
                self.db.jobs[&row.id.job].active_attempt(),
                Some(row.id),
                "I10: {} runs beside",
                row.id
            );
            assert_eq!(
                self.db.workers[&row.worker].instance, row.instance,
                "{} runs on a gone process",
                row.id
            );
        }
        for queue in self.db.queues.values() {
            let waits =
                |job: &&JobRow| job.classes == queue.classes && job.state.word() == StateWord::Scheduled;
            assert!(self.db.jobs.values().any(|job| waits(&job)), "{queue:?} has a reason and no job");
        }
    }

    fn check_job(&self, job: &JobRow) {
        let id = job.id;
        assert_eq!(self.state.job(id).is_some(), !job.state.is_final(), "I9: job {id} is lost or kept");
        let last = self.db.attempts.range(AttemptId { job: id, number: 0 }..);
        let last = last.take_while(|(attempt, _)| attempt.job == id).last().map(|(_, row)| row);
        match &job.state {
            JobState::Scheduled { attempt, .. } => {
                assert!(self.state.wait_reason(id).is_some(), "job {id} waits without a reason");
                let stored = job.wait.is_some() || self.db.queues.contains_key(&job.classes);
                assert!(stored, "the reason of job {id} is not stored");
                for parent in job.parents.iter().filter(|parent| parent.relation != Relation::Parallel) {
                    let end = self.db.jobs.get(&parent.job).and_then(|row| row.state.end());
                    assert!(
                        end.is_none_or(|end| end.outcome.is_ok()),
                        "{id} waits for ever for {}",
                        parent.job
                    );
                }
                assert_eq!(last.map_or(0, |row| row.id.number) + 1, *attempt);
                for (name, room) in self.room().into_iter().filter(|_| job.wait.is_none()) {
                    let fits = self.db.workers[&name].classes.offers(&job.classes);
                    assert!(!(fits && room > 0), "job {id} waits while {name} has room");
                }
            }
            JobState::Active(active) => {
                let row = &self.db.attempts[&AttemptId { job: id, number: active.attempt }];
                assert_eq!((row.token, row.phase, row.end.is_none()), (active.token, active.phase, true));
            }
            JobState::Done(end) => {
                let attempt =
                    last.and_then(|row| row.end.as_ref()).expect("a job that is done has an ended attempt");
                let stopped = matches!(
                    end.reason,
                    EndReason::Cancelled { .. }
                        | EndReason::CancelIgnored { .. }
                        | EndReason::ParallelFailed { .. }
                        | EndReason::Restarted { .. }
                        | EndReason::Obsoleted { .. }
                        | EndReason::Forced { .. }
                );
                assert!(stopped || attempt == end, "I10: job {id} has another end than its last attempt");
                let forced = matches!(end.reason, EndReason::Forced { .. });
                assert!(
                    !stopped || forced || end.outcome.is_aborted(),
                    "{id} was stopped and is {:?}",
                    end.outcome
                );
            }
            JobState::Cancelled(end) => {
                let missing = matches!(end.reason, EndReason::NotAvailable { .. } | EndReason::Forced { .. });
                assert!(missing || end.outcome.is_aborted(), "{id} never began and is {:?}", end.outcome);
                assert!(last.is_none_or(|row| row.end.is_some()));
            }
        }
        if let Some(clone) = job.cloned_as.and_then(|clone| self.db.jobs.get(&clone)) {
            assert_eq!(clone.clone_of, Some(id), "I12: {} is not the clone of {id}", clone.id);
        }
    }

    /// How many more attempts each connected worker could take.
    fn room(&self) -> BTreeMap<WorkerName, usize> {
        let connected: BTreeSet<&WorkerName> = self.connections.values().collect();
        let mut room = BTreeMap::new();
        for name in connected {
            let worker = &self.db.workers[name];
            if let WorkerStatus::Online { .. } = worker.status
                && worker.drained_by.is_none()
            {
                let taken = self.db.running().filter(|row| row.worker == *name).count();
                let taken = taken + self.state.kept(name) as usize;
                assert!(taken <= worker.slots as usize, "{name} keeps more slots than it has");
                room.insert(name.clone(), worker.slots as usize - taken);
            }
        }
        room
    }

    fn check_leases(&self) {
        for (attempt, sign) in &self.signs {
            let silent = self.now.micros_since(*sign);
            assert!(
                silent < self.timing.lease_us,
                "I11: {attempt} is still held after {silent} us of silence"
            );
        }
    }
}
