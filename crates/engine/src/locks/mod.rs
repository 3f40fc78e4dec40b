//! Mutexes and barriers between the jobs of a parallel cluster: what openQA's `lockapi` asks for.
//!
//! A question is answered when it can be: at once, or when another job does what it waits for. A question may be asked
//! again with its number, by a worker that was cut off; then it gets the answer that it had. Names belong to the
//! cluster, and what a job has created or holds ends with the job.

#[cfg(test)]
mod tests;

use crate::ids::JobId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A cluster, named by the first of its jobs.
pub type ClusterId = JobId;

/// The most locks that a cluster may have, and the longest name in bytes.
const MOST_LOCKS: usize = 1000;
const LONGEST_NAME: usize = 200;

/// What a test asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum LockOp {
    /// Makes a mutex that nobody holds.
    MutexCreate {
        /// Its name.
        name: String,
    },
    /// Waits until the mutex is there and free, and takes it.
    MutexLock {
        /// Its name.
        name: String,
        /// Only one that this job has created.
        #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
        owner: Option<JobId>,
    },
    /// Takes the mutex if it is there and free.
    MutexTryLock {
        /// Its name.
        name: String,
        /// Only one that this job has created.
        #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
        owner: Option<JobId>,
    },
    /// Gives the mutex back.
    MutexUnlock {
        /// Its name.
        name: String,
    },
    /// Waits until the mutex is there and free, and leaves it so.
    MutexWait {
        /// Its name.
        name: String,
        /// Only one that this job has created.
        #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
        owner: Option<JobId>,
    },
    /// Makes a barrier for so many jobs.
    BarrierCreate {
        /// Its name.
        name: String,
        /// How many have to come.
        tasks: u32,
    },
    /// Waits until the barrier is there and as many as it wants have come.
    BarrierWait {
        /// Its name.
        name: String,
        /// Only one that this job has created.
        #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
        owner: Option<JobId>,
        /// Give up once a job of the cluster has ended.
        #[serde(default)]
        check_dead_job: bool,
    },
    /// Passes the barrier if this is the last one that it waits for.
    BarrierTryWait {
        /// Its name.
        name: String,
    },
    /// Removes the barrier; whoever waits at it goes on waiting until it is made again.
    BarrierDestroy {
        /// Its name.
        name: String,
    },
}

impl LockOp {
    /// The lock's name.
    pub fn name(&self) -> &str {
        match self {
            Self::MutexCreate { name }
            | Self::MutexLock { name, .. }
            | Self::MutexTryLock { name, .. }
            | Self::MutexUnlock { name }
            | Self::MutexWait { name, .. }
            | Self::BarrierCreate { name, .. }
            | Self::BarrierWait { name, .. }
            | Self::BarrierTryWait { name }
            | Self::BarrierDestroy { name } => name,
        }
    }

    fn owner(&self) -> Option<JobId> {
        match self {
            Self::MutexLock { owner, .. }
            | Self::MutexTryLock { owner, .. }
            | Self::MutexWait { owner, .. }
            | Self::BarrierWait { owner, .. } => *owner,
            _ => None,
        }
    }

    fn waits(&self) -> bool {
        matches!(self, Self::MutexLock { .. } | Self::MutexWait { .. } | Self::BarrierWait { .. })
    }
}

/// What a test hears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum LockAnswer {
    /// It is done.
    Yes,
    /// It is not to be had now. Only for what does not wait.
    No,
    /// It will never be.
    Refused {
        /// One sentence.
        why: String,
    },
}

/// An answer and whom it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The job.
    pub job: JobId,
    /// The number of its question.
    pub ask: u64,
    /// The answer.
    pub answer: LockAnswer,
}

/// What keeps a job from passing a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// It is not there.
    Missing {
        /// `mutex` or `barrier`.
        kind: &'static str,
    },
    /// Another job has the mutex.
    Held {
        /// Which.
        by: JobId,
    },
    /// Too few have come to the barrier.
    Few {
        /// How many have.
        come: u32,
        /// How many have to.
        tasks: u32,
    },
}

/// A lock as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Lock {
    /// One at a time.
    Mutex {
        /// Who made it.
        owner: JobId,
        /// Who has it.
        held_by: Option<JobId>,
    },
    /// All together.
    Barrier {
        /// Who made it.
        owner: JobId,
        /// How many have to come.
        tasks: u32,
        /// Who has come.
        here: BTreeSet<JobId>,
    },
}

impl Lock {
    fn owner(&self) -> JobId {
        match self {
            Self::Mutex { owner, .. } | Self::Barrier { owner, .. } => *owner,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Mutex { .. } => "mutex",
            Self::Barrier { .. } => "barrier",
        }
    }
}

/// The locks of one cluster, as they are stored: locks by name, the last answered question of each job, who has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterLocks {
    locks: BTreeMap<String, Lock>,
    answered: BTreeMap<JobId, (u64, LockAnswer)>,
    ended: BTreeSet<JobId>,
    waiting: BTreeMap<JobId, (u64, LockOp)>,
    /// Locks that went with their maker, and who that was.
    #[serde(default)]
    gone: BTreeMap<String, JobId>,
    /// The jobs of the cluster and their names for people; empty if nobody has said.
    #[serde(default)]
    members: BTreeMap<JobId, String>,
    /// Barriers that were passed by jobs which only look now and then and have not looked since.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    passed: BTreeMap<JobId, BTreeSet<String>>,
}

impl ClusterLocks {
    /// Who belongs to the cluster, and their names for people.
    pub fn know(&mut self, members: BTreeMap<JobId, String>) {
        self.members = members;
    }

    /// A job asks; its questions have growing numbers. Says who is answered now, this job or others.
    pub fn ask(&mut self, job: JobId, ask: u64, op: LockOp) -> Vec<Told> {
        if let Some((last, answer)) = self.answered.get(&job)
            && ask <= *last
        {
            return vec![Told { job, ask, answer: answer.clone() }];
        }
        if self.waiting.get(&job).is_some_and(|(number, _)| *number == ask) {
            return Vec::new();
        }
        // Who asks something new has given up what it waited for.
        self.leave(job);
        self.waiting.insert(job, (ask, op));
        self.settle(job)
    }

    /// A job that waits by asking again and again asks. Whoever comes to a barrier like this counts as there from then on.
    /// The second value is who else is answered by that.
    pub fn now(&mut self, job: JobId, op: &LockOp) -> (LockAnswer, Vec<Told>) {
        let mut told = Vec::new();
        let seen = match op {
            LockOp::BarrierWait { name, .. } => {
                self.passed.get_mut(&job).is_some_and(|names| names.remove(name))
            }
            _ => false,
        };
        if seen {
            self.passed.retain(|_, names| !names.is_empty());
            return (LockAnswer::Yes, told);
        }
        let answer = match self.attempt(job, op) {
            Attempt::Wait => LockAnswer::No,
            Attempt::Answer(answer) => answer,
            Attempt::Together(mut jobs) => {
                jobs.remove(&job);
                self.pass_together(op.name(), jobs, &mut told);
                LockAnswer::Yes
            }
        };
        told.extend(self.settle_all());
        (answer, told)
    }

    /// A job waits no more for the answer to its question `given_up`. If that was answered meanwhile, that is the answer.
    pub fn give_up(&mut self, job: JobId, ask: u64, given_up: u64) -> Told {
        let answer = match self.answered.get(&job) {
            Some((last, answer)) if *last == given_up || *last >= ask => answer.clone(),
            _ => LockAnswer::No,
        };
        self.leave(job);
        self.answered.insert(job, (ask, answer.clone()));
        Told { job, ask, answer }
    }

    /// What keeps a job from going on, and the name of the lock that it waits for.
    pub fn obstacle(&self, job: JobId) -> Option<(&str, Obstacle)> {
        let (_, op) = self.waiting.get(&job)?;
        let kind = if matches!(op, LockOp::BarrierWait { .. }) { "barrier" } else { "mutex" };
        let lock =
            self.locks.get(op.name()).filter(|lock| op.owner().is_none_or(|owner| owner == lock.owner()));
        let obstacle = match lock {
            Some(Lock::Mutex { held_by: Some(by), .. }) => Obstacle::Held { by: *by },
            Some(Lock::Barrier { here, tasks, .. }) => {
                Obstacle::Few { come: u32::try_from(here.len()).unwrap_or(u32::MAX), tasks: *tasks }
            }
            Some(Lock::Mutex { held_by: None, .. }) | None => Obstacle::Missing { kind },
        };
        Some((op.name(), obstacle))
    }

    /// A job has ended: what it made and held is gone.
    pub fn ended(&mut self, job: JobId) -> Vec<Told> {
        self.leave(job);
        self.answered.remove(&job);
        self.passed.remove(&job);
        self.ended.insert(job);
        let owned = self.locks.iter().filter(|(_, lock)| lock.owner() == job);
        self.gone.extend(owned.map(|(name, _)| (name.clone(), job)));
        self.locks.retain(|_, lock| lock.owner() != job);
        for lock in self.locks.values_mut() {
            if let Lock::Mutex { held_by, .. } = lock
                && *held_by == Some(job)
            {
                *held_by = None;
            }
        }
        self.settle_all()
    }

    /// Its locks by name.
    pub fn locks(&self) -> &BTreeMap<String, Lock> {
        &self.locks
    }

    /// What each job waits for.
    pub fn waiting(&self) -> impl Iterator<Item = (JobId, &LockOp)> {
        self.waiting.iter().map(|(job, (_, op))| (*job, op))
    }

    fn leave(&mut self, job: JobId) {
        self.waiting.remove(&job);
        for lock in self.locks.values_mut() {
            if let Lock::Barrier { here, .. } = lock {
                here.remove(&job);
            }
        }
    }

    /// Answers the job's question if it can be answered, then whatever that makes possible.
    fn settle(&mut self, job: JobId) -> Vec<Told> {
        let mut told = Vec::new();
        if self.try_to_answer(job, &mut told) {
            told.extend(self.settle_all());
        }
        told
    }

    fn try_to_answer(&mut self, job: JobId, told: &mut Vec<Told>) -> bool {
        let Some((_, op)) = self.waiting.get(&job).cloned() else { return false };
        match self.attempt(job, &op) {
            Attempt::Wait => return false,
            Attempt::Answer(answer) => told.extend(self.answer(job, answer)),
            Attempt::Together(jobs) => self.pass_together(op.name(), jobs, told),
        }
        true
    }

    /// These jobs pass a barrier; who is not waiting for an answer hears of it when it asks again.
    fn pass_together(&mut self, name: &str, jobs: BTreeSet<JobId>, told: &mut Vec<Told>) {
        for job in jobs {
            match self.answer(job, LockAnswer::Yes) {
                Some(one) => told.push(one),
                None => drop(self.passed.entry(job).or_default().insert(name.to_owned())),
            }
        }
    }

    /// Waiters in the order of their numbers; each answer may make others possible.
    fn settle_all(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        let mut again = true;
        while std::mem::take(&mut again) {
            for job in self.waiting.keys().copied().collect::<Vec<_>>() {
                again |= self.try_to_answer(job, &mut told);
            }
        }
        told
    }

    fn answer(&mut self, job: JobId, answer: LockAnswer) -> Option<Told> {
        let (ask, _) = self.waiting.remove(&job)?;
        // Who was refused does not count as one who has come.
        self.leave(job);
        self.answered.insert(job, (ask, answer.clone()));
        Some(Told { job, ask, answer })
    }

    fn attempt(&mut self, job: JobId, op: &LockOp) -> Attempt {
        let answer = match op {
            LockOp::MutexCreate { name } => self.create(name, Lock::Mutex { owner: job, held_by: None }),
            LockOp::BarrierCreate { tasks: 0, name } => {
                refused(format!("barrier {name} needs at least one task"))
            }
            LockOp::BarrierCreate { name, tasks } => {
                let lock = Lock::Barrier { owner: job, tasks: *tasks, here: BTreeSet::new() };
                self.create(name, lock)
            }
            LockOp::MutexUnlock { name } => self.unlock(job, name),
            LockOp::BarrierDestroy { name } => self.destroy(name),
            op => match self.pass(job, op) {
                Attempt::Wait if !op.waits() => LockAnswer::No,
                Attempt::Wait if self.is_alone(job) => {
                    let others = match self.members.len() {
                        1 => "no other job runs beside this one",
                        _ => "every other job of the cluster has ended",
                    };
                    refused(format!("nothing would ever come of {}: {others}", op.name()))
                }
                other => return other,
            },
        };
        Attempt::Answer(answer)
    }

    fn create(&mut self, name: &str, lock: Lock) -> LockAnswer {
        if name.is_empty() || name.len() > LONGEST_NAME {
            return refused(format!("the name of a lock has 1 to {LONGEST_NAME} bytes"));
        }
        match self.locks.get(name) {
            Some(old) => refused(format!(
                "there is a {} {name} already, made by job {}",
                old.kind(),
                self.who(old.owner())
            )),
            None if self.locks.len() >= MOST_LOCKS => {
                refused(format!("a cluster has {MOST_LOCKS} locks at most; destroy one"))
            }
            None => {
                self.gone.remove(name);
                self.locks.insert(name.to_owned(), lock);
                LockAnswer::Yes
            }
        }
    }

    fn unlock(&mut self, job: JobId, name: &str) -> LockAnswer {
        match self.locks.get_mut(name) {
            Some(Lock::Mutex { held_by, .. }) if held_by.is_none_or(|holder| holder == job) => {
                *held_by = None;
                LockAnswer::Yes
            }
            Some(Lock::Mutex { held_by: Some(other), .. }) => {
                let other = *other;
                refused(format!("mutex {name} is held by job {}, which has to unlock it", self.who(other)))
            }
            Some(_) => refused(format!("{name} is a barrier, not a mutex")),
            None => refused(format!("there is no mutex {name}")),
        }
    }

    fn destroy(&mut self, name: &str) -> LockAnswer {
        match self.locks.get(name) {
            Some(Lock::Mutex { .. }) => refused(format!("{name} is a mutex, not a barrier")),
            // As good as removed.
            None => LockAnswer::Yes,
            Some(Lock::Barrier { .. }) => {
                self.locks.remove(name);
                LockAnswer::Yes
            }
        }
    }

    /// Through a mutex or a barrier.
    fn pass(&mut self, job: JobId, op: &LockOp) -> Attempt {
        let name = op.name();
        if let Some(why) = self.hopeless(op) {
            return Attempt::Answer(refused(why));
        }
        let Some(lock) = self.locks.get_mut(name) else { return Attempt::Wait };
        if op.owner().is_some_and(|owner| owner != lock.owner()) {
            return Attempt::Wait;
        }
        match (lock, op) {
            (Lock::Mutex { held_by, .. }, LockOp::MutexLock { .. } | LockOp::MutexTryLock { .. }) => {
                // Twice by one job would wait for ever for itself.
                let is_free = held_by.is_none_or(|holder| holder == job);
                if is_free {
                    *held_by = Some(job);
                }
                Attempt::yes_if(is_free)
            }
            (Lock::Mutex { held_by, .. }, LockOp::MutexWait { .. }) => {
                Attempt::yes_if(held_by.is_none_or(|holder| holder == job))
            }
            (
                Lock::Barrier { here, tasks, .. },
                LockOp::BarrierWait { .. } | LockOp::BarrierTryWait { .. },
            ) => {
                let come = here.len() + usize::from(!here.contains(&job));
                if come >= *tasks as usize {
                    let mut all = std::mem::take(here);
                    all.insert(job);
                    return Attempt::Together(all);
                }
                if op.waits() {
                    here.insert(job);
                }
                Attempt::Wait
            }
            (lock, _) => Attempt::Answer(refused(format!("{name} is a {}", lock.kind()))),
        }
    }

    /// Why waiting for it makes no sense.
    fn hopeless(&self, op: &LockOp) -> Option<String> {
        let name = op.name();
        if let Some(owner) = op.owner().filter(|owner| self.ended.contains(owner)) {
            return Some(format!("job {}, which was to make {name}, has ended", self.who(owner)));
        }
        if let Some(maker) = self.gone.get(name).filter(|_| !self.locks.contains_key(name)) {
            return Some(format!("job {}, which had made {name}, has ended", self.who(*maker)));
        }
        let LockOp::BarrierWait { check_dead_job: true, .. } = op else { return None };
        let dead = self.ended.first()?;
        Some(format!("job {} of the cluster has ended; barrier {name} would never fill", self.who(*dead)))
    }

    /// `12 (support_server)`
    fn who(&self, job: JobId) -> String {
        match self.members.get(&job) {
            Some(label) if !label.is_empty() => format!("{job} ({label})"),
            _ => job.to_string(),
        }
    }

    fn is_alone(&self, job: JobId) -> bool {
        let others = self.members.keys().filter(|member| **member != job);
        !self.members.is_empty() && others.into_iter().all(|member| self.ended.contains(member))
    }
}

/// What a question comes to now.
enum Attempt {
    Answer(LockAnswer),
    /// These jobs pass a barrier.
    Together(BTreeSet<JobId>),
    Wait,
}

impl Attempt {
    fn yes_if(there: bool) -> Self {
        if there { Self::Answer(LockAnswer::Yes) } else { Self::Wait }
    }
}

fn refused(why: String) -> LockAnswer {
    LockAnswer::Refused { why }
}
