//! Workers come, stay in touch, and go.

use super::timers::Timer;
use super::{State, Worker};
use crate::ids::{AttemptId, ConnectionId, WorkerName};
use crate::io::{Answer, Change, Effect, Hello, HoldVerdict, Message, USED_UP, Verdict};
use crate::reason::{FenceReason, HelloRefusal, LostHow, Refusal, clean};
use crate::rows::{OfflineReason, Row, WorkerRow, WorkerStatus};
use crate::work::{Held, Phase};
use std::collections::BTreeSet;

impl State {
    pub(super) fn hello(&mut self, connection: ConnectionId, hello: Hello) {
        if let Some(refusal) = self.refusal(&hello) {
            let reason = format!("refused: {refusal}");
            self.send(connection, Message::Refused(refusal));
            self.effects.push(Effect::Close { connection, reason });
            return;
        }
        let name = hello.name.clone();
        let verdicts = self.verdicts(&hello);
        self.connect(connection, &hello);
        self.send(
            connection,
            Message::Welcome {
                lease_us: self.timing.lease_us,
                heartbeat_us: self.timing.heartbeat_us,
                holds: verdicts.clone(),
            },
        );
        for HoldVerdict { held, verdict, .. } in verdicts {
            match verdict {
                Verdict::GoOn { .. } => self.resume(held),
                Verdict::Finished => self.send(connection, Message::FinishedAck { attempt: held.attempt }),
                Verdict::Fenced(_) => {} // the welcome says so
            }
        }
        let brought: BTreeSet<Held> = hello.holds.into_iter().collect();
        for id in self.attempts_of(&name) {
            let Some(row) = self.attempts.get(&id) else { continue };
            if !brought.contains(&Held { attempt: id, token: row.token }) {
                self.not_brought(id);
            }
        }
    }

    /// Why this worker must not be let in.
    fn refusal(&self, hello: &Hello) -> Option<HelloRefusal> {
        let name = hello.name.clone();
        if hello.slots == 0 {
            return Some(HelloRefusal::NoSlots { name });
        }
        if hello.classes.is_empty() {
            return Some(HelloRefusal::NoClasses { name });
        }
        let worker = self.workers.get(&name)?;
        if worker.row.instance == hello.instance {
            return None;
        }
        let host = worker.row.host.clone();
        if let (Some(_), WorkerStatus::Online { since }) = (worker.connection, &worker.row.status) {
            let for_s = self.now.micros_since(*since) / 1_000_000;
            return Some(HelloRefusal::NameConnected { name, host, for_s });
        }
        let attempt = *worker.attempts.first()?;
        let left_us = self.timers.left_us(&Timer::Lease(attempt));
        Some(HelloRefusal::NameHolds { name, host, attempt, left_s: (left_us + 999_999) / 1_000_000 })
    }

    fn verdicts(&self, hello: &Hello) -> Vec<HoldVerdict> {
        let judge = |held: &Held| HoldVerdict {
            held: *held,
            verdict: self.verdict_for(&hello.name, held),
            place: self.place_of(held.attempt.job),
        };
        hello.holds.iter().map(judge).collect()
    }

    fn connect(&mut self, connection: ConnectionId, hello: &Hello) {
        let name = &hello.name;
        if let Some(before) = self.workers.get(name).and_then(|worker| worker.connection) {
            self.connections.remove(&before);
            let reason = format!("worker {name} has connected anew");
            self.effects.push(Effect::Close { connection: before, reason });
        }
        let row = WorkerRow {
            name: name.clone(),
            instance: hello.instance.clone(),
            host: hello.host.clone(),
            version: hello.version.clone(),
            slots: hello.slots,
            classes: hello.classes.clone(),
            status: WorkerStatus::Online { since: self.now },
            drained_by: self.workers.get(name).and_then(|worker| {
                // A new process of that name is another worker.
                let anew = worker.row.instance != hello.instance;
                worker.row.drained_by.clone().filter(|by| !(anew && by == USED_UP))
            }),
        };
        let attempts = self.attempts_of(name);
        self.workers.insert(
            name.clone(),
            Worker { row, connection: Some(connection), attempts, room: hello.room, once: hello.once },
        );
        self.connections.insert(connection, name.clone());
        self.timers.set(Timer::Silence(name.clone()), self.timing.lease_us);
        self.place(name);
        self.save_worker(name);
    }

    /// An attempt that came back with its worker goes on.
    fn resume(&mut self, held: Held) {
        self.timers.set(Timer::Lease(held.attempt), self.timing.lease_us);
        if self.cancelled_by(held.attempt.job).is_some() {
            self.send_cancel(held.attempt);
        }
    }

    /// A worker process came back without an attempt that it should have. If it never said that it took it, then the
    /// message was lost with the connection and is sent again: the process is the same, so nothing runs twice.
    fn not_brought(&mut self, id: AttemptId) {
        let never_taken = self.attempts.get(&id).is_some_and(|row| row.phase == Phase::Assigned);
        if never_taken && self.cancelled_by(id.job).is_none() {
            self.timers.set(Timer::Lease(id), self.timing.lease_us);
            self.send_assign(id);
        } else {
            self.lose(id, LostHow::NotResumed);
        }
    }

    /// A worker gets nothing new from now on, or gets work again (`by` is `None`).
    pub(super) fn drain(&mut self, name: &WorkerName, by: Option<&str>) -> Result<Answer, Refusal> {
        let worker = self.workers.get_mut(name).ok_or_else(|| Refusal::NoWorker { worker: name.clone() })?;
        worker.row.drained_by = by.map(clean);
        self.place(name);
        self.save_worker(name);
        Ok(Answer::Done)
    }

    /// A worker that is gone for good leaves the list.
    pub(super) fn forget_worker(&mut self, name: &WorkerName) -> Result<Answer, Refusal> {
        let worker = self.workers.get(name).ok_or_else(|| Refusal::NoWorker { worker: name.clone() })?;
        if worker.connection.is_some() || !worker.attempts.is_empty() {
            return Err(Refusal::WorkerBusy { worker: name.clone() });
        }
        self.workers.remove(name);
        self.save(Row::NoWorker(name.clone()));
        self.changes.insert(Change::Worker(name.clone()));
        Ok(Answer::Done)
    }

    pub(super) fn disconnected(&mut self, connection: ConnectionId) {
        if let Some(name) = self.connections.remove(&connection) {
            self.set_offline(&name, OfflineReason::Disconnected);
        }
    }

    /// A whole lease without a word over an open connection: its other end is gone.
    pub(super) fn silent(&mut self, name: &WorkerName) {
        let Some(connection) = self.workers.get(name).and_then(|worker| worker.connection) else { return };
        self.connections.remove(&connection);
        self.set_offline(name, OfflineReason::Silent);
        let reason = format!("worker {name} gave no sign of life for a whole lease");
        self.effects.push(Effect::Close { connection, reason });
    }

    pub(super) fn set_offline(&mut self, name: &WorkerName, why: OfflineReason) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.connection = None;
        worker.row.status = WorkerStatus::Offline { since: self.now, why };
        self.timers.clear(&Timer::Silence(name.clone()));
        self.place(name);
        self.save_worker(name);
    }

    pub(super) fn heartbeat(&mut self, connection: ConnectionId, holds: &[Held]) {
        let Some(name) = self.speaker(connection) else { return };
        for held in holds {
            self.judge(connection, &name, *held);
        }
    }

    /// The worker at the other end, which has just given a sign of life. An unknown connection is closed: its worker
    /// will connect and say hello.
    pub(super) fn speaker(&mut self, connection: ConnectionId) -> Option<WorkerName> {
        let Some(name) = self.connections.get(&connection).cloned() else {
            let reason = "no worker has said hello on this connection, or it was replaced".to_owned();
            self.effects.push(Effect::Close { connection, reason });
            return None;
        };
        self.timers.set(Timer::Silence(name.clone()), self.timing.lease_us);
        Some(name)
    }

    /// Renews the lease of an attempt that its worker names and returns true, or tells the worker that it has ended.
    pub(super) fn judge(&mut self, connection: ConnectionId, name: &WorkerName, held: Held) -> bool {
        match self.verdict_for(name, &held) {
            Verdict::GoOn { .. } => {
                self.timers.set(Timer::Lease(held.attempt), self.timing.lease_us);
                return true;
            }
            Verdict::Finished => self.send(connection, Message::FinishedAck { attempt: held.attempt }),
            Verdict::Fenced(reason) => self.send_fenced(connection, held, reason),
        }
        false
    }

    pub(super) fn send_fenced(&mut self, connection: ConnectionId, held: Held, reason: FenceReason) {
        self.send(connection, Message::Fenced { held, reason });
    }

    pub(super) fn send_cancel(&mut self, id: AttemptId) {
        let (Some(row), Some(reason)) = (self.attempts.get(&id), self.stopping(id.job)) else { return };
        let message = Message::Cancel {
            held: Held { attempt: id, token: row.token },
            reason: reason.to_string(),
            superseded: self.is_pointless(id.job),
        };
        if let Some(connection) = self.workers.get(&row.worker).and_then(|worker| worker.connection) {
            self.send(connection, message);
        }
    }

    pub(super) fn attempts_of(&self, name: &WorkerName) -> BTreeSet<AttemptId> {
        self.workers.get(name).map(|worker| worker.attempts.clone()).unwrap_or_default()
    }

    pub(super) fn save_worker(&mut self, name: &WorkerName) {
        if let Some(worker) = self.workers.get(name) {
            let row = Row::Worker(worker.row.clone());
            self.save(row);
            self.changes.insert(Change::Worker(name.clone()));
        }
    }
}
