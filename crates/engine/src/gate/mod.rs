//! The gate: events let changes into pipelines, changes are tested on what is ahead of them, and what passed lands.
//!
//! [`Gate::step`] takes an [`io::Input`] and the time and returns [`io::Effect`]s. The algorithms are Zuul's (nearest
//! non-failing item, adaptive window, shared change queues); where Zuul is silent, this one gives a [`reason`].

mod builds;
pub mod change;
mod commands;
pub mod config;
mod configure;
mod enqueue;
mod events;
mod filter;
pub mod history;
pub mod ids;
pub mod io;
pub mod item;
mod jobs;
mod known;
mod landing;
mod needs;
mod params;
pub mod pattern;
pub mod reason;
mod rebuild;
mod report;
pub mod rows;
pub mod snapshot;
mod walk;

pub use params::{build_logs, log_path};

use crate::ids::Timestamp;
use ids::{BranchName, ChangeId, ItemId, MergeId, Oid, PipelineName, ProjectName, Uuid};
use io::{Answer, Effect, Input, Merge, Step};
use item::{Item, ItemJob, JobState, MergeState};
use reason::Refusal;
use rows::{EvidenceRow, GateRow};
use sha2::{Digest, Sha256};
use snapshot::{QueueKey, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everything that is in a pipeline, and what is needed to decide about it.
#[derive(Debug, Clone)]
pub struct Gate {
    /// Random bits of this server: build UUIDs are made of it.
    seed: u128,
    now: Timestamp,
    held: Snapshot,
    last_item: i64,
    last_autohold: i64,
    evidence: BTreeMap<String, EvidenceRow>,
    /// Which job of which item a running build is.
    running: BTreeMap<Uuid, (ItemId, usize)>,
    /// Items that know of a change: have it, stand on it, or need it.
    users: BTreeMap<ChangeId, BTreeSet<ItemId>>,
    /// When an item has to be looked at again.
    due: BTreeMap<ItemId, Timestamp>,
    /// Tips that own landings made, the newest last: a ref that moved there is no news.
    own_tips: Vec<(ProjectName, BranchName, Oid)>,
    /// Indexes over the changes that are held.
    known: known::Known,
    /// The latest landings: facts about them may be late.
    landed: known::Latest,
    /// The latest merged changes whose projects' open changes have been asked for.
    offered: known::Latest,
    /// The latest patchsets whose authors have been told what is still missing.
    admonished: known::Latest,
    /// States that the merger has, or is about to have.
    merger_has: BTreeSet<MergeId>,
    /// True until the first input after a rebuild.
    resuming: bool,
    scratch: Scratch,
}

/// What the step in progress has touched, and what it leads to.
#[derive(Debug, Clone, Default)]
struct Scratch {
    items: BTreeSet<ItemId>,
    queues: BTreeSet<QueueKey>,
    /// Queues whose window or hold changed.
    queue_rows: BTreeSet<QueueKey>,
    /// Queues of the items that have waited for a semaphore.
    semaphore_freed: bool,
    pipelines: BTreeSet<PipelineName>,
    changes: BTreeSet<ChangeId>,
    /// Items that left in this step, and the words for it.
    left: BTreeMap<ItemId, (String, String)>,
    rows: Vec<GateRow>,
    effects: Vec<Effect>,
}

impl Gate {
    /// A gate without a configuration: nothing gets in.
    pub fn new(seed: u128) -> Self {
        Self::rebuild(rows::GateRows::default(), seed)
    }

    /// Takes one input. The rows among the effects come first and must be stored before anything else is acted on.
    pub fn step(&mut self, input: Input, now: Timestamp) -> Step {
        self.now = self.now.max(now);
        if std::mem::take(&mut self.resuming) {
            self.resume();
        }
        let answer = self.take(input);
        self.settle();
        self.flush();
        let scratch = std::mem::take(&mut self.scratch);
        let rows = scratch.rows.into_iter().map(|row| Effect::Save(Box::new(row)));
        let changed = scratch.pipelines.into_iter().map(Effect::Changed);
        Step { answer, effects: rows.chain(scratch.effects).chain(changed).collect() }
    }

    fn take(&mut self, input: Input) -> Result<Answer, Refusal> {
        match input {
            Input::Configure(config) => self.configure(config),
            Input::Event(event) => return Ok(Answer::Event(self.event(&event))),
            Input::Facts(facts) => self.facts(facts),
            Input::Merged { merge, result } => self.merged(merge, result),
            Input::BuildStarted { build, at, by } => self.build_started(build, at, by),
            Input::BuildEnded { build, result } => self.build_ended(build, result),
            Input::Landed { item, result } => self.landed(item, result),
            Input::Command { command, by } => return self.command(command, &by),
            Input::Tick => self.tick(),
        }
        Ok(Answer::Done)
    }

    /// When to send the next [`Input::Tick`].
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.due.values().min().copied()
    }

    /// Builds that it waits for.
    pub fn running_builds(&self) -> impl Iterator<Item = Uuid> {
        self.running.keys().copied()
    }

    /// What it holds, for pages.
    pub fn snapshot(&self) -> Snapshot {
        self.held.clone()
    }

    /// What it holds.
    pub fn held(&self) -> &Snapshot {
        &self.held
    }

    fn tick(&mut self) {
        let due: Vec<ItemId> =
            self.due.iter().filter(|(_, at)| **at <= self.now).map(|(id, _)| *id).collect();
        for id in due {
            self.end_backoff(id);
        }
    }

    /// Walks the queues that were touched until nothing changes any more.
    fn settle(&mut self) {
        loop {
            if std::mem::take(&mut self.scratch.semaphore_freed) {
                self.serve_semaphore_waiters();
                continue;
            }
            let Some(key) = self.scratch.queues.pop_first() else { break };
            self.walk(&key);
        }
    }

    /// Walks the queues of items that can have their semaphores now, whoever waits longest first: nobody waits for
    /// ever.
    fn serve_semaphore_waiters(&mut self) {
        let held = &self.held;
        let waits = |job: &ItemJob| job.state == JobState::Waiting && held.config.needs_semaphore(&job.job);
        let waiting = held.items.values().filter(|item| item.buildset.jobs.iter().any(waits));
        let waiting: Vec<ItemId> = waiting.map(|item| item.id).collect();
        let mut walked = BTreeSet::new();
        for id in waiting {
            let Some(item) = self.held.items.get(&id) else { continue };
            let key = (item.pipeline.clone(), item.queue.clone());
            let can_have = |job: &ItemJob| {
                job.state == JobState::Waiting
                    && self.held.config.needs_semaphore(&job.job)
                    && self.held.semaphore_held(&job.job).is_none()
            };
            if item.buildset.jobs.iter().any(can_have) && walked.insert(key.clone()) {
                self.scratch.queues.remove(&key);
                self.walk(&key);
            }
        }
    }

    /// The item for a change of it; notes that it is to be stored.
    fn edit(&mut self, id: ItemId) -> Option<&mut Item> {
        let item = self.held.items.get_mut(&id)?;
        self.scratch.items.insert(id);
        if !self.scratch.pipelines.contains(&item.pipeline) {
            self.scratch.pipelines.insert(item.pipeline.clone());
        }
        Some(Arc::make_mut(item))
    }

    fn touch_queue_of(&mut self, id: ItemId) {
        if let Some(item) = self.held.items.get(&id) {
            self.scratch.queues.insert((item.pipeline.clone(), item.queue.clone()));
        }
    }

    fn effect(&mut self, effect: Effect) {
        self.scratch.effects.push(effect);
    }

    /// The rows of everything that the step touched.
    fn flush(&mut self) {
        for id in std::mem::take(&mut self.scratch.items) {
            let Some(item) = self.held.items.get(&id) else { continue };
            let item = Arc::clone(item);
            match due_of(&item) {
                Some(at) => self.due.insert(id, at),
                None => self.due.remove(&id),
            };
            self.scratch.rows.push(GateRow::Item(item));
        }
        for key in std::mem::take(&mut self.scratch.queue_rows) {
            self.save_queue(&key);
        }
        for id in std::mem::take(&mut self.scratch.changes) {
            self.keep_or_forget(&id);
        }
    }

    fn save_queue(&mut self, key: &QueueKey) {
        let (pipeline, name) = key.clone();
        // Only a gate's window is a memory.
        let gated = self.held.pipeline(&pipeline).is_some_and(|it| it.manager == config::Manager::Dependent);
        let queue = self.held.queues.get(key).filter(|queue| gated || queue.hold.is_some());
        let row = rows::QueueRow {
            pipeline,
            queue: name,
            window: queue.map_or(0, |queue| queue.window),
            hold: queue.and_then(|queue| queue.hold.clone()),
            below: queue.map(|queue| queue.below.clone()).unwrap_or_default(),
        };
        self.scratch.rows.push(GateRow::Queue(row));
    }

    /// Forgets a queue that has nothing in it. If it was stored, then a row says that nothing is left of it.
    fn drop_queue(&mut self, key: &QueueKey) {
        let dependent = self.held.pipeline(&key.0).is_none_or(|it| it.manager == config::Manager::Dependent);
        if self.held.queues.remove(key).is_some_and(|queue| queue.hold.is_some() || dependent) {
            self.scratch.queue_rows.insert(key.clone());
        }
    }

    /// Stores what is known of a change while an item knows it, and drops it afterwards.
    fn keep_or_forget(&mut self, id: &ChangeId) {
        let used = self.users.get(id).is_some_and(|users| !users.is_empty());
        if used {
            if let Some(facts) = self.held.changes.get(id) {
                self.scratch.rows.push(GateRow::Change(Arc::clone(facts)));
            }
        } else {
            self.users.remove(id);
            if let Some(facts) = self.held.changes.remove(id) {
                self.known.remove(&facts);
                self.scratch.rows.push(GateRow::ForgetChange(id.clone()));
            }
        }
    }

    /// 128 bits that nobody else has: of the server's seed and what they stand for.
    fn uuid(&self, what: &str) -> Uuid {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_be_bytes());
        hash.update(what.as_bytes());
        let bytes: [u8; 16] = hash.finalize()[..16].try_into().unwrap_or_default();
        Uuid(u128::from_be_bytes(bytes))
    }

    fn forget_merge(&mut self, merge: MergeId) {
        if self.merger_has.remove(&merge) {
            self.effect(Effect::Merge(Merge::Forget(merge)));
        }
    }
}

/// When an item has to be looked at again.
fn due_of(item: &Item) -> Option<Timestamp> {
    let merge = match &item.buildset.state {
        MergeState::Backoff { until, .. } => Some(*until),
        _ => None,
    };
    let job = item.buildset.jobs.iter().filter_map(|job| match job.state {
        JobState::Backoff { until, .. } => Some(until),
        _ => None,
    });
    job.chain(merge).min()
}
