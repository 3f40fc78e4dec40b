//! The state machine: one input at a time, what it leads to, and when to look again.

mod attempts;
mod bonds;
mod builds;
mod clusters;
mod disk;
mod dispatch;
mod fallout;
mod limited;
mod pool;
mod post;
mod table;
mod talk;
mod timers;
mod workers;

use crate::gate::Gate;
use crate::gate::ids::Uuid;
use crate::ids::{AttemptId, ConnectionId, FencingToken, JobId, Timestamp, WorkerName};
use crate::io::{Answer, Change, Effect, Input, Message, Step, Verdict};
use crate::job::{JobState, Stopping};
use crate::job_settings::Sharer;
use crate::reason::{EndReason, FenceReason, Refusal, WaitReason};
use crate::rows::{
    AttemptRow, JobRow, LocksRow, OfflineReason, Row, Rows, SETTLED_WINDOW, ShareRow, WorkerRow, WorkerStatus,
};
use crate::sched::disk::Room;
use crate::sched::fair::Shares;
use crate::settings::ClassSet;
use crate::work::{Held, Timing};
use bonds::Bonds;
use clusters::Clusters;
use disk::Disks;
use dispatch::Queue;
use fallout::Fallout;
use limited::Limited;
use pool::Pool;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use table::Table;
use talk::Talk;
use timers::{Timer, Timers};

/// A worker, and what it has.
#[derive(Debug, Clone)]
struct Worker {
    row: WorkerRow,
    connection: Option<ConnectionId>,
    /// What it runs as far as the server knows. All under the row's instance.
    attempts: BTreeSet<AttemptId>,
    /// What its disks can take, if it has said so on this connection.
    room: Option<Room>,
    /// It ends after one attempt.
    once: bool,
}

/// An attempt that has ended, as long as somebody may still ask for it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Settled {
    attempt: AttemptId,
    /// Its worker reported the end, and may ask for the acknowledgement again.
    reported: bool,
}

/// Everything that is open: jobs, attempts, workers, leases.
#[derive(Debug, Clone)]
pub struct State {
    timing: Timing,
    /// The time for records; never goes back.
    now: Timestamp,
    timers: Timers,
    jobs: Table,
    /// Final jobs of units that have open members.
    ended: Table,
    bonds: Bonds,
    attempts: BTreeMap<AttemptId, AttemptRow>,
    settled: BTreeMap<FencingToken, Settled>,
    workers: BTreeMap<WorkerName, Worker>,
    connections: BTreeMap<ConnectionId, WorkerName>,
    queues: BTreeMap<ClassSet, Queue>,
    clusters: Clusters,
    pool: Pool,
    limited: Limited,
    disks: Disks,
    /// What each group has of the slots.
    shares: Shares,
    talk: Talk,
    /// What jobs have in common.
    sharer: Sharer,
    last_job: i64,
    last_run: i64,
    last_token: i64,
    gate: Gate,
    /// The open jobs that are builds of the gate.
    builds: BTreeMap<Uuid, JobId>,
    /// What the gate has to be told before the step ends.
    news: Vec<crate::gate::io::Input>,
    /// True until the first tick after a rebuild.
    resuming: bool,
    /// Workers whose row says that they are online, although the server has restarted.
    to_mark_offline: BTreeSet<WorkerName>,
    /// What the step in progress has to look at before it ends.
    roomy_workers: BTreeSet<WorkerName>,
    grown_queues: BTreeSet<ClassSet>,
    doubtful_reasons: BTreeSet<ClassSet>,
    /// Rows of final jobs that came with the input.
    known: BTreeMap<JobId, JobRow>,
    /// Jobs that are being made, which are stored when they are complete.
    unsaved: BTreeSet<JobId>,
    /// What other jobs have yet to feel.
    fallout: VecDeque<Fallout>,
    /// What the step in progress leads to.
    effects: Vec<Effect>,
    changes: BTreeSet<Change>,
}

/// The most microseconds that a clock is thought to have been put back.
const SETBACK: i64 = 86_400_000_000;

impl State {
    /// The greatest number that a job ever had.
    pub fn last_job(&self) -> JobId {
        JobId(self.last_job)
    }

    /// Nothing yet.
    pub fn new(timing: Timing, now: Timestamp) -> Self {
        Self::rebuild(Rows::default(), timing, now)
    }

    /// The state that `rows` describe, after a restart: nobody is connected, and each lease is granted anew, so that
    /// workers have the time to come back. The first input must be [`Input::Tick`], which stores what the restart
    /// itself has changed.
    ///
    /// What is stored was stored before: a clock that was put back meanwhile does not make later things earlier. One that
    /// is behind by more than a day was wrong before, and is believed.
    pub fn rebuild(rows: Rows, timing: Timing, now: Timestamp) -> Self {
        let newest = rows.newest().filter(|newest| newest.micros_since(now) <= SETBACK);
        let mut state = Self {
            timing,
            now: newest.map_or(now, |newest| newest.max(now)),
            timers: Timers::new(now),
            jobs: Table::default(),
            ended: Table::default(),
            bonds: Bonds::default(),
            attempts: BTreeMap::new(),
            settled: BTreeMap::new(),
            workers: BTreeMap::new(),
            connections: BTreeMap::new(),
            queues: BTreeMap::new(),
            clusters: Clusters::default(),
            pool: Pool::default(),
            limited: Limited::new(rows.limits),
            disks: Disks::new(rows.asset_sizes),
            shares: Shares::stored(rows.shares),
            talk: Talk::default(),
            sharer: Sharer::default(),
            last_job: rows.last_job,
            last_run: rows.last_run,
            last_token: rows.last_token,
            gate: Gate::rebuild(rows.gate, rows.seed),
            builds: BTreeMap::new(),
            news: Vec::new(),
            resuming: true,
            to_mark_offline: BTreeSet::new(),
            roomy_workers: BTreeSet::new(),
            grown_queues: BTreeSet::new(),
            doubtful_reasons: BTreeSet::new(),
            known: BTreeMap::new(),
            unsaved: BTreeSet::new(),
            fallout: VecDeque::new(),
            effects: Vec::new(),
            changes: BTreeSet::new(),
        };
        for row in rows.workers {
            if matches!(row.status, WorkerStatus::Online { .. }) {
                state.to_mark_offline.insert(row.name.clone());
            }
            let worker = Worker { connection: None, attempts: BTreeSet::new(), room: None, once: false, row };
            state.workers.insert(worker.row.name.clone(), worker);
        }
        for row in rows.queues {
            state.queues.insert(row.classes.clone(), Queue::stored(row.reason));
            state.doubtful_reasons.insert(row.classes);
        }
        for LocksRow { cluster, locks } in rows.locks {
            state.talk.locks.extend(locks.map(|locks| (cluster, locks)));
        }
        state.rebuild_jobs(rows.jobs, rows.relatives);
        for row in rows.attempts {
            state.rebuild_attempt(row);
        }
        state.forget_settled();
        state
    }

    fn rebuild_jobs(&mut self, jobs: Vec<JobRow>, relatives: Vec<JobRow>) {
        let mut units = BTreeSet::new();
        for row in &jobs {
            if let Some(uuid) = Self::build_of(row) {
                self.builds.insert(uuid, row.id);
            }
            units.insert(row.id);
        }
        for row in jobs.iter().chain(&relatives) {
            self.bonds.bind(row.id, &row.parents);
        }
        self.jobs = jobs.into_iter().collect();
        self.ended = relatives.into_iter().collect();
        let units: BTreeSet<JobId> = units.into_iter().map(|id| self.bonds.unit(id)).collect();
        // Reasons are as stored until the first tick.
        self.unsaved = self.jobs.keys().collect();
        for unit in units {
            let waits: Vec<_> =
                self.open_members(unit).into_iter().map(|id| (id, self.jobs[&id].wait.clone())).collect();
            self.find_blockers(unit);
            self.settle(unit);
            for (id, wait) in waits {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.wait = wait;
                }
            }
        }
        self.unsaved.clear();
    }

    fn rebuild_attempt(&mut self, row: AttemptRow) {
        if let Some(end) = &row.end {
            let settled = Settled { attempt: row.id, reported: end.reason.is_report() };
            self.settled.insert(row.token, settled);
            return;
        }
        self.timers.set(Timer::Lease(row.id), self.timing.lease_us);
        if self.cancelled_by(row.id.job).is_some() {
            self.timers.set(Timer::Cancel(row.id), self.timing.cancel_grace_us);
        }
        if let Some(worker) = self.workers.get_mut(&row.worker) {
            worker.attempts.insert(row.id);
        }
        let id = row.id;
        self.attempts.insert(id, row);
        self.count(id);
    }

    /// Takes one input. The rows among the effects must be stored before anything else of the result is acted on.
    /// `now` is the clock; it may jump.
    pub fn step(&mut self, input: Input, now: Timestamp) -> Step {
        self.timers.observe(now, self.timing.lease_us / 2);
        self.now = self.now.max(now);
        let answer = self.take(input);
        self.settle_fallout();
        self.tell_gate();
        self.dispatch();
        self.known.clear();
        let changes = std::mem::take(&mut self.changes);
        let mut effects = std::mem::take(&mut self.effects);
        effects.extend(changes.into_iter().map(Effect::Notify));
        Step { answer, effects }
    }

    fn take(&mut self, input: Input) -> Result<Answer, Refusal> {
        match input {
            Input::PostJobs { jobs } => return self.post(jobs),
            Input::CancelJob { job, by } => return self.cancel(job, &by),
            Input::Hello { connection, hello } => self.hello(connection, hello),
            Input::Disconnected { connection } => self.disconnected(connection),
            Input::Heartbeat { connection, holds, room } => {
                self.set_room(connection, room);
                self.heartbeat(connection, &holds);
            }
            Input::Phase { connection, held, phase } => self.phase(connection, held, phase.into()),
            Input::Finished { connection, held, report } => self.finished(connection, held, &report),
            Input::Ask { connection, held, ask, question } => self.ask(connection, held, ask, question),
            Input::Drain { worker, by } => return self.drain(&worker, by.as_deref()),
            Input::ForgetWorker { worker } => return self.forget_worker(&worker),
            Input::AskNow { held, question } => return self.ask_now(held, question),
            Input::SetDone { job, outcome, by, reason } => {
                return self.set_done(job, outcome, &by, &reason);
            }
            Input::PostProduct { jobs, run, obsolete } => return self.post_product(jobs, run, obsolete),
            Input::Restart(request) => return self.restart(&request),
            Input::Edit { job, priority, group } => return self.edit(job, priority, group),
            Input::Obsolete(obsolete) => {
                let last = JobId(self.last_job);
                return Ok(Answer::Obsoleted(self.make_obsolete(&obsolete, last)));
            }
            Input::Release { job, failed } => return self.release(job, failed),
            Input::FetchFails { job, why } => self.fetch_fails(job, &why),
            Input::ForceResult { job, outcome, by, reason } => {
                return self.force_result(job, outcome, &by, &reason);
            }
            Input::DeleteJob { job } => return self.delete(job),
            Input::Known { rows, then } => {
                let rows = rows.into_iter().filter(|row| row.state.end().is_some());
                self.known = rows.map(|row| (row.id, row)).collect();
                return self.take(*then);
            }
            Input::Gate(input) => {
                return self.gate_input(*input).map(Answer::Gate).map_err(Refusal::Gate);
            }
            Input::Limits(limits) => return Ok(self.set_limits(limits)),
            Input::AssetSizes(sizes) => return Ok(self.learn_sizes(sizes)),
            Input::Tick => self.tick(),
        }
        Ok(Answer::Done)
    }

    /// When to send the next [`Input::Tick`]; `None` while nothing can become due.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let own = self.timers.next(self.timing.heartbeat_us);
        own.into_iter().chain(self.gate_deadline()).min()
    }

    /// The times that it works with.
    pub fn timing(&self) -> &Timing {
        &self.timing
    }

    /// The gate.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// An open job.
    pub fn job(&self, id: JobId) -> Option<&JobRow> {
        self.jobs.get(&id)
    }

    /// All open jobs by number.
    pub fn open_jobs(&self) -> impl Iterator<Item = &JobRow> {
        self.jobs.values()
    }

    /// Why an open job does not run, or what its test waits for; `None` if it goes on or is not open.
    pub fn wait_reason(&self, id: JobId) -> Option<&WaitReason> {
        let job = self.jobs.get(&id)?;
        match job.state {
            JobState::Scheduled { .. } => {
                job.wait.as_ref().or_else(|| self.queues.get(&job.classes)?.reason.as_ref())
            }
            JobState::Active(_) => job.wait.as_ref(),
            JobState::Done(_) | JobState::Cancelled(_) => None,
        }
    }

    /// Whether what comes over `connection` about an attempt counts. Ask this before storing bytes of its streams.
    pub fn verdict(&self, connection: ConnectionId, held: &Held) -> Verdict {
        match self.connections.get(&connection) {
            Some(worker) => self.verdict_for(worker, held),
            None => Verdict::Fenced(FenceReason::NotHeld { attempt: held.attempt }),
        }
    }

    fn verdict_for(&self, worker: &WorkerName, held: &Held) -> Verdict {
        if let Some(row) = self.attempts.get(&held.attempt)
            && row.token == held.token
            && row.worker == *worker
        {
            return Verdict::GoOn { phase: row.phase };
        }
        match self.settled.get(&held.token) {
            Some(settled) if settled.attempt == held.attempt && settled.reported => Verdict::Finished,
            Some(settled) if settled.attempt == held.attempt => {
                Verdict::Fenced(FenceReason::Ended { attempt: held.attempt })
            }
            _ => Verdict::Fenced(FenceReason::NotHeld { attempt: held.attempt }),
        }
    }

    /// What is stored, in comparable form: a rebuilt state has the same facts as the one that wrote the rows.
    pub fn facts(&self) -> Facts {
        let worker = |worker: &Worker| {
            let row = &worker.row;
            (row.name.clone(), row.instance.clone(), row.slots, row.classes.clone(), worker.attempts.clone())
        };
        let queue = |(classes, queue): (&ClassSet, &Queue)| {
            let jobs: BTreeSet<_> = queue.jobs.iter().collect();
            (classes.clone(), jobs.into_iter().collect(), queue.reason.clone())
        };
        Facts {
            jobs: self.jobs.values().cloned().collect(),
            attempts: self.attempts.values().cloned().collect(),
            settled: self.settled.iter().map(|(token, s)| (*token, s.attempt, s.reported)).collect(),
            workers: self.workers.values().map(worker).collect(),
            queues: self.queues.iter().map(queue).collect(),
            relatives: self.ended.values().cloned().collect(),
            clusters: self.clusters.waiting(),
            limited: self.limited.waiting(),
            disk: self.disks.waiting(),
            shares: self.shares.rows(),
            locks: self.talk.locks.clone(),
            last_job: self.last_job,
            last_run: self.last_run,
            last_token: self.last_token,
            gate: self.gate.rows(),
        }
    }

    fn tick(&mut self) {
        if std::mem::take(&mut self.resuming) {
            self.mend_builds();
            self.look_at_limits();
            let held: Vec<JobId> =
                self.jobs.values().filter(|row| row.hold.is_some()).map(|row| row.id).collect();
            for id in held {
                self.fetch(id);
            }
        }
        self.news.push(crate::gate::io::Input::Tick);
        for name in std::mem::take(&mut self.to_mark_offline) {
            if self.workers.get(&name).is_some_and(|worker| worker.connection.is_none()) {
                self.set_offline(&name, OfflineReason::ServerRestarted);
            }
        }
        for (timer, overdue_us) in self.timers.take_due() {
            match timer {
                Timer::Silence(worker) => self.silent(&worker),
                Timer::Cancel(attempt) => self.cancel_ignored(attempt),
                Timer::Lease(attempt) => self.lease_ended(attempt, overdue_us),
                Timer::Overdue(unit) => self.overdue(unit),
            }
        }
    }

    fn save(&mut self, row: Row) {
        self.effects.push(Effect::Save(Box::new(row)));
    }

    fn save_job(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get(&id).cloned() {
            self.save(Row::Job(job));
            self.changes.insert(Change::Job(id));
            self.note_build(id);
        }
    }

    fn send(&mut self, connection: ConnectionId, message: Message) {
        self.effects.push(Effect::Send { connection, message });
    }

    /// Why a job that a worker has is being stopped.
    fn stopping(&self, id: JobId) -> Option<&EndReason> {
        match &self.jobs.get(&id)?.state {
            JobState::Active(active) => active.stopping.as_ref().map(|stopping| &stopping.reason),
            _ => None,
        }
    }

    /// Who or what stops a job that a worker has.
    fn cancelled_by(&self, id: JobId) -> Option<String> {
        match &self.jobs.get(&id)?.state {
            JobState::Active(active) => active.stopping.as_ref().map(Stopping::by),
            _ => None,
        }
    }

    /// Keeps what the rows of [`Rows`] would bring back, and no more.
    fn forget_settled(&mut self) {
        let oldest = FencingToken(self.last_token - SETTLED_WINDOW + 1);
        self.settled = self.settled.split_off(&oldest);
    }
}

/// A worker's name, process, slots, classes and attempts.
pub type WorkerFacts = (WorkerName, String, u32, ClassSet, BTreeSet<AttemptId>);
/// A queue's classes, jobs with their priority in order, and reason.
pub type QueueFacts = (ClassSet, Vec<(i32, JobId)>, Option<WaitReason>);

/// What is stored of a [`State`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Open jobs.
    pub jobs: Vec<JobRow>,
    /// Running attempts.
    pub attempts: Vec<AttemptRow>,
    /// Recently ended attempts, and whether their worker reported the end.
    pub settled: Vec<(FencingToken, AttemptId, bool)>,
    /// Workers.
    pub workers: Vec<WorkerFacts>,
    /// Queues.
    pub queues: Vec<QueueFacts>,
    /// Final jobs that are kept for open ones.
    pub relatives: Vec<JobRow>,
    /// Clusters that could begin.
    pub clusters: Vec<JobId>,
    /// Jobs that wait for a limit.
    pub limited: Vec<(JobId, crate::sched::limits::Limit)>,
    /// Jobs that wait for a disk.
    pub disk: Vec<JobId>,
    /// When each party was served.
    pub shares: Vec<ShareRow>,
    /// Locks by cluster.
    pub locks: BTreeMap<JobId, crate::locks::ClusterLocks>,
    /// See [`Rows`].
    pub last_run: i64,
    /// See [`Rows`].
    pub last_job: i64,
    /// See [`Rows`].
    pub last_token: i64,
    /// The gate's.
    pub gate: crate::gate::rows::GateRows,
}
