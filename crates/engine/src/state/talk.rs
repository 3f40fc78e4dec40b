//! What tests ask about their clusters: locks, and the jobs beside them.

use super::State;
use crate::ids::{ConnectionId, JobId};
use crate::io::{Answer, Message};
use crate::job::{JobState, StateWord};
use crate::locks::{ClusterId, ClusterLocks, LockAnswer, Obstacle, Told};
use crate::reason::{Refusal, WaitReason};
use crate::relations::Relation;
use crate::rows::{JobRow, LocksRow, Row};
use crate::settings::is_secret_name;
use crate::talk::{JobInState, JobInfo, Place, Question, Reply};
use crate::work::Held;
use std::collections::{BTreeMap, BTreeSet};

/// What has been asked and is not over.
#[derive(Debug, Clone, Default)]
pub(super) struct Talk {
    /// Stored, row by row.
    pub(super) locks: BTreeMap<ClusterId, ClusterLocks>,
    /// Parents that wait for their children, the number of the question, and whether it is only for their start. Not
    /// stored: after a restart the workers ask again.
    children: BTreeMap<JobId, (u64, bool)>,
}

impl State {
    /// A test asks something.
    pub(super) fn ask(&mut self, connection: ConnectionId, held: Held, ask: u64, question: Question) {
        let Some(name) = self.speaker(connection) else { return };
        if !self.judge(connection, &name, held) {
            return;
        }
        let job = held.attempt.job;
        self.talk.children.remove(&job);
        let reply = match question {
            Question::Lock { lock } => {
                let members = self.labels_beside(job);
                let told = self.change_locks(job, |locks| {
                    locks.know(members);
                    locks.ask(job, ask, lock)
                });
                return self.tell_all(job, told);
            }
            Question::GiveUp { waits_for } => {
                if !self.talk.locks.contains_key(&self.cluster_of(job)) {
                    self.note_wait(job);
                    return self.answer(job, ask, Reply::No);
                }
                let told = self.change_locks(job, |locks| vec![locks.give_up(job, ask, waits_for)]);
                return self.tell_all(job, told);
            }
            Question::Children {} => self.jobs_in_state(&self.children_beside(job), None),
            Question::ChildrenInState { state } => {
                self.jobs_in_state(&self.children_beside(job), Some(&state))
            }
            Question::Parents {} => self.jobs_in_state(&self.parents_beside(job), None),
            Question::JobInfo { job: other } => self.facts_of(other),
            Question::WaitForChildren {} | Question::WaitForChildrenToStart {} => {
                let to_start = matches!(question, Question::WaitForChildrenToStart {});
                self.talk.children.insert(job, (ask, to_start));
                return self.look_at_children(job);
            }
        };
        self.answer(job, ask, reply);
    }

    /// The same by somebody who does not wait for the answer.
    pub(super) fn ask_now(&mut self, held: Held, question: Question) -> Result<Answer, Refusal> {
        let job = held.attempt.job;
        if self.attempts.get(&held.attempt).is_none_or(|row| row.token != held.token) {
            return Err(Refusal::NotOpen { job });
        }
        let reply = match question {
            Question::Lock { lock } => {
                let members = self.labels_beside(job);
                let mut answer = LockAnswer::No;
                let told = self.change_locks(job, |locks| {
                    locks.know(members);
                    let (own, told) = locks.now(job, &lock);
                    answer = own;
                    told
                });
                self.tell_all(job, told);
                answer.into()
            }
            Question::GiveUp { .. } => Reply::No,
            Question::Children {} => self.jobs_in_state(&self.children_beside(job), None),
            Question::ChildrenInState { state } => {
                self.jobs_in_state(&self.children_beside(job), Some(&state))
            }
            Question::Parents {} => self.jobs_in_state(&self.parents_beside(job), None),
            Question::JobInfo { job: other } => self.facts_of(other),
            Question::WaitForChildren {} => self.none_left(job, false),
            Question::WaitForChildrenToStart {} => self.none_left(job, true),
        };
        Ok(Answer::Reply(Box::new(reply)))
    }

    fn none_left(&self, job: JobId, to_start: bool) -> Reply {
        if self.children_left(job, to_start).is_empty() { Reply::Yes } else { Reply::No }
    }

    /// A job has another state: its parents may have waited for that.
    pub(super) fn tell_parents(&mut self, job: JobId) {
        if self.talk.children.is_empty() {
            return;
        }
        for parent in self.parents_beside(job) {
            self.look_at_children(parent);
        }
    }

    /// An attempt has ended, and with it what its job held.
    pub(super) fn silence(&mut self, job: JobId) {
        self.talk.children.remove(&job);
        let cluster = self.cluster_of(job);
        if !self.talk.locks.contains_key(&cluster) {
            return;
        }
        let told = self.change_locks(job, |locks| locks.ended(job));
        self.tell_all(job, told);
        let is_over = |id: &JobId| *id == job || !self.jobs.contains_key(id);
        if self.beside(job).iter().all(is_over) {
            self.talk.locks.remove(&cluster);
            self.save(Row::Locks(LocksRow { cluster, locks: None }));
        }
    }

    /// What the test of a running job waits for.
    pub(super) fn talk_wait(&self, job: JobId) -> Option<WaitReason> {
        if let Some((_, to_start)) = self.talk.children.get(&job) {
            let left = self.children_left(job, *to_start);
            let first = self.relative(*left.first()?);
            return Some(WaitReason::Children { first, more: left.len() - 1, to_start: *to_start });
        }
        let (name, obstacle) = self.talk.locks.get(&self.cluster_of(job))?.obstacle(job)?;
        Some(match obstacle {
            Obstacle::Missing { kind } => WaitReason::NoLock { lock: kind.to_owned(), name: name.to_owned() },
            Obstacle::Held { by } => WaitReason::Mutex { name: name.to_owned(), held_by: self.relative(by) },
            Obstacle::Few { come, tasks } => WaitReason::Barrier { name: name.to_owned(), come, tasks },
        })
    }

    /// A job's place in its cluster.
    pub(super) fn place_of(&self, job: JobId) -> Place {
        let beside = self.beside(job);
        let number = beside.iter().position(|id| *id == job).and_then(|at| u16::try_from(at).ok());
        Place { cluster: beside.first().copied().unwrap_or(job), number: number.unwrap_or_default() }
    }

    fn cluster_of(&self, job: JobId) -> ClusterId {
        self.place_of(job).cluster
    }

    /// A job and all that runs in parallel with it, over any number of steps, ended ones too.
    fn beside(&self, job: JobId) -> BTreeSet<JobId> {
        let mut beside = BTreeSet::from([job]);
        if !self.bonds.is_bound(job) {
            return beside;
        }
        let mut next = vec![job];
        while let Some(id) = next.pop() {
            let related = self.parents_beside(id).into_iter().chain(self.children_beside(id));
            next.extend(related.filter(|id| beside.insert(*id)).collect::<Vec<_>>());
        }
        beside
    }

    fn labels_beside(&self, job: JobId) -> BTreeMap<JobId, String> {
        self.beside(job).into_iter().map(|id| (id, self.relative(id).label)).collect()
    }

    fn parents_beside(&self, job: JobId) -> Vec<JobId> {
        let parents = self.row(job).map(|row| row.parents.as_slice()).unwrap_or_default();
        let parallel = parents.iter().filter(|parent| parent.relation == Relation::Parallel);
        parallel.map(|parent| parent.job).filter(|id| self.row(*id).is_some()).collect()
    }

    fn children_beside(&self, job: JobId) -> Vec<JobId> {
        let parallel =
            |(relation, child): (Relation, JobId)| (relation == Relation::Parallel).then_some(child);
        self.children(job).into_iter().filter_map(parallel).collect()
    }

    fn children_left(&self, job: JobId, to_start: bool) -> Vec<JobId> {
        let left = |id: &JobId| match self.jobs.get(id).map(|row| row.state.word()) {
            None => false,
            Some(StateWord::Running | StateWord::Uploading) => !to_start,
            Some(_) => true,
        };
        self.children_beside(job).into_iter().filter(left).collect()
    }

    fn look_at_children(&mut self, job: JobId) {
        let Some((ask, to_start)) = self.talk.children.get(&job).copied() else { return };
        if self.children_left(job, to_start).is_empty() {
            self.talk.children.remove(&job);
            self.answer(job, ask, Reply::Yes);
        }
        self.note_wait(job);
    }

    fn jobs_in_state(&self, jobs: &[JobId], wanted: Option<&str>) -> Reply {
        let in_state = |id: &JobId| {
            let state = self.row(*id)?.state.word();
            let fits = match wanted {
                None => true,
                Some("scheduled") => matches!(state, StateWord::Scheduled | StateWord::Assigned),
                Some("running") => {
                    matches!(state, StateWord::Setup | StateWord::Running | StateWord::Uploading)
                }
                Some("done") => matches!(state, StateWord::Done | StateWord::Cancelled),
                Some(_) => false,
            };
            fits.then(|| JobInState { id: *id, state: state.word().to_owned() })
        };
        match wanted {
            None | Some("scheduled" | "running" | "done") => {
                Reply::Jobs { jobs: jobs.iter().filter_map(in_state).collect() }
            }
            Some(other) => Reply::Refused {
                why: format!("{other:?} is not a state of children; give scheduled, running or done"),
            },
        }
    }

    fn facts_of(&self, id: JobId) -> Reply {
        let Some(row) = self.row(id).or_else(|| self.known.get(&id)) else {
            return Reply::Refused { why: format!("there is no job {id}") };
        };
        let settings = row.settings.plain().into_iter().filter(|(name, _)| !is_secret_name(name)).collect();
        let end = |row: &JobRow| row.state.end().map_or("none", |end| end.outcome.openqa()).to_owned();
        let info = JobInfo {
            id,
            name: row.name.clone(),
            test: row.settings.get("TEST").unwrap_or_default().to_owned(),
            state: row.state.word().word().to_owned(),
            result: end(row),
            settings,
        };
        Reply::Job { job: Box::new(info) }
    }

    /// Changes the locks of a job's cluster and stores them.
    fn change_locks(&mut self, job: JobId, change: impl FnOnce(&mut ClusterLocks) -> Vec<Told>) -> Vec<Told> {
        let cluster = self.cluster_of(job);
        let ended: Vec<JobId> = if self.talk.locks.contains_key(&cluster) {
            Vec::new()
        } else {
            self.beside(job).into_iter().filter(|id| !self.jobs.contains_key(id)).collect()
        };
        let locks = self.talk.locks.entry(cluster).or_default();
        let before = locks.clone();
        for id in ended {
            locks.ended(id);
        }
        let told = change(locks);
        if *locks != before {
            let row = LocksRow { cluster, locks: Some(locks.clone()) };
            self.save(Row::Locks(row));
        }
        told
    }

    fn tell_all(&mut self, job: JobId, told: Vec<Told>) {
        for Told { job, ask, answer } in told {
            self.answer(job, ask, answer.into());
        }
        for id in self.beside(job) {
            if self.jobs.get(&id).is_some_and(|row| matches!(row.state, JobState::Active(_))) {
                self.note_wait(id);
            }
        }
    }

    /// Dropped if the worker is not there: it asks again when it is.
    fn answer(&mut self, job: JobId, ask: u64, reply: Reply) {
        let Some(attempt) = self.jobs.get(&job).and_then(JobRow::active_attempt) else { return };
        let Some(row) = self.attempts.get(&attempt) else { return };
        let held = Held { attempt, token: row.token };
        if let Some(connection) = self.workers.get(&row.worker).and_then(|worker| worker.connection) {
            self.send(connection, Message::Answer { held, ask, reply });
        }
    }
}
