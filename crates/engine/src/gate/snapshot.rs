//! What the gate holds at one moment, cheap to clone, and every question about it: why, how long, what fails.

use super::change::ChangeFacts;
use super::config::{Config, Manager, Pipeline};
use super::history::{self, Estimate};
use super::ids::{ChangeId, ItemId, JobName, Patchset, PipelineName, ProjectName, QueueName, SemaphoreName};
use super::io::BuildResult;
use super::item::{Build, Item, ItemChange, ItemJob, ItemPhase, JobState, MergeState};
use super::reason::{FailReason, HoldReason, Wait};
use super::rows::{AutoholdRow, DurationsRow, PipelineRow};
use crate::ids::Timestamp;
use crate::outcome::OutcomeClass;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A queue by pipeline and name.
pub type QueueKey = (PipelineName, QueueName);

/// A change queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeQueue {
    /// Its items, the first first.
    pub items: Vec<ItemId>,
    /// How many of them are tested at once; 0 for all.
    pub window: u32,
    /// Why it lands nothing, and since when.
    pub hold: Option<(HoldReason, Timestamp)>,
    /// The holds below that one: a release brings the next one up.
    pub below: Vec<(HoldReason, Timestamp)>,
}

impl ChangeQueue {
    /// Every hold, the one that is to be released first before the others.
    pub fn holds(&self) -> impl Iterator<Item = &(HoldReason, Timestamp)> {
        self.hold.iter().chain(&self.below)
    }

    /// Adds a hold. Of what operators want there is the latest, below what has to be looked at.
    pub(super) fn add_hold(&mut self, reason: HoldReason, at: Timestamp) {
        let wanted = |reason: &HoldReason| matches!(reason, HoldReason::Operator { .. });
        let mut all: Vec<_> = self.hold.take().into_iter().chain(self.below.drain(..)).collect();
        if wanted(&reason) {
            all.retain(|(other, _)| !wanted(other));
            all.push((reason, at));
        } else if !all.iter().any(|(other, _)| *other == reason) {
            let place = all.iter().position(|(other, _)| wanted(other)).unwrap_or(all.len());
            all.insert(place, (reason, at));
        }
        self.put_holds(all);
    }

    /// Ends the first hold.
    pub(super) fn release(&mut self) {
        let below = std::mem::take(&mut self.below);
        self.put_holds(below);
    }

    fn put_holds(&mut self, all: Vec<(HoldReason, Timestamp)>) {
        let mut all = all.into_iter();
        self.hold = all.next();
        self.below = all.collect();
    }

    /// True if the item at `index` is to be tested.
    pub fn is_active(&self, index: usize) -> bool {
        is_active(index, self.window)
    }
}

/// True if the item at `index` is within the window.
pub(super) fn is_active(index: usize, window: u32) -> bool {
    window == 0 || index < window as usize
}

/// What the gate holds.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The configuration in force.
    pub config: Arc<Config>,
    /// Items that have not ended.
    pub items: BTreeMap<ItemId, Arc<Item>>,
    /// Queues with items or a memory.
    pub queues: BTreeMap<QueueKey, ChangeQueue>,
    /// Pipelines with failures in a row.
    pub pipelines: BTreeMap<PipelineName, PipelineRow>,
    /// The latest durations of jobs.
    pub durations: BTreeMap<JobName, Arc<DurationsRow>>,
    /// Requests to keep workspaces.
    pub autoholds: BTreeMap<i64, AutoholdRow>,
    /// Changes that items know of.
    pub changes: BTreeMap<ChangeId, Arc<ChangeFacts>>,
    /// Who holds semaphores.
    pub(super) semaphores: BTreeMap<SemaphoreName, Vec<ItemId>>,
    /// The item of a change in a pipeline.
    pub(super) by_change: BTreeMap<(PipelineName, ChangeId), ItemId>,
    /// The queue that a project shares in a pipeline.
    pub(super) shared: Arc<BTreeMap<(PipelineName, ProjectName), QueueName>>,
    /// Jobs with hold-following-changes.
    pub(super) holding: Arc<BTreeSet<JobName>>,
}

impl Snapshot {
    /// A pipeline's definition.
    pub fn pipeline(&self, name: &PipelineName) -> Option<&Arc<Pipeline>> {
        self.config.pipeline(name)
    }

    /// The queue of an item.
    pub fn queue_of(&self, item: &Item) -> Option<&ChangeQueue> {
        self.queues.get(&(item.pipeline.clone(), item.queue.clone()))
    }

    /// The item of a change in a pipeline.
    pub fn item_of(&self, pipeline: &PipelineName, change: &ChangeId) -> Option<&Arc<Item>> {
        self.items.get(self.by_change.get(&(pipeline.clone(), change.clone()))?)
    }

    pub(super) fn manager(&self, item: &Item) -> Manager {
        self.pipeline(&item.pipeline).map_or(Manager::Independent, |pipeline| pipeline.manager)
    }

    /// Why an item is failing; empty while it is not.
    pub fn failing(&self, item: &Item) -> Vec<FailReason> {
        let mut known = BTreeMap::from([(item.id, false)]);
        let mut is_failing = |need: &&Patchset| {
            self.item_of(&item.pipeline, &need.change).is_some_and(|needed| self.fails(needed, &mut known))
        };
        let mut reasons = Vec::new();
        let needed: Vec<Patchset> = item.needs.iter().filter(|need| is_failing(need)).cloned().collect();
        if !needed.is_empty() {
            reasons.push(FailReason::NeededFailing { needed });
        }
        reasons.extend(failing_itself(item));
        reasons
    }

    /// Whether an item or anything that it needs fails; each is looked at once.
    fn fails(&self, item: &Item, known: &mut BTreeMap<ItemId, bool>) -> bool {
        if let Some(known) = known.get(&item.id) {
            return *known;
        }
        known.insert(item.id, false);
        let fails = !failing_itself(item).is_empty()
            || item.needs.iter().any(|need| {
                self.item_of(&item.pipeline, &need.change).is_some_and(|needed| self.fails(needed, known))
            });
        known.insert(item.id, fails);
        fails
    }

    /// True if nothing but the infrastructure failed an item.
    pub fn only_infrastructure_failed(&self, item: &Item) -> bool {
        failed_by_nothing_but(item, |result| result.class == OutcomeClass::Infrastructure)
    }

    /// True if what failed an item says nothing about its change: jobs that are not defined, or the infrastructure.
    pub fn failed_untested(&self, item: &Item) -> bool {
        failed_by_nothing_but(item, |result| {
            result.class == OutcomeClass::Infrastructure || result.is_not_registered()
        })
    }

    /// The changes in an item's tree: those of the items it stands on, what is below it, its own.
    pub fn changes_in(&self, item: &Item) -> Vec<ItemChange> {
        self.tree_of(item).into_iter().cloned().collect()
    }

    pub(super) fn tree_of<'a>(&'a self, item: &'a Item) -> Vec<&'a ItemChange> {
        let mut chain: Vec<&Item> = self.chain(item).collect();
        chain.reverse();
        chain.into_iter().flat_map(|item| item.below.iter().chain(&item.changes)).collect()
    }

    /// An item, and those that it stands on, the nearest first.
    pub(super) fn chain<'a>(&'a self, item: &'a Item) -> impl Iterator<Item = &'a Item> {
        let ahead = |item: &&'a Item| item.ahead.and_then(|id| self.items.get(&id)).map(AsRef::as_ref);
        std::iter::successors(Some(item), ahead)
    }

    /// Why an item is not further. The first entry is what to look at; none when it is about to leave.
    pub fn why(&self, id: ItemId) -> Vec<Wait> {
        let Some(item) = self.items.get(&id) else { return Vec::new() };
        let Some(queue) = self.queue_of(item) else { return Vec::new() };
        if let ItemPhase::Landing { since, .. } = item.phase {
            return vec![Wait::Landing { since }];
        }
        let index = queue.items.iter().position(|other| *other == id).unwrap_or(0);
        let since = item.buildset.since;
        if matches!(self.manager(item), Manager::Serial | Manager::Supercedent) && index > 0 {
            return vec![Wait::Turn { item: queue.items[0], since }];
        }
        if !queue.is_active(index) {
            return vec![Wait::Window { ahead: index, window: queue.window, since }];
        }
        let mut waits = Vec::new();
        match &item.buildset.state {
            MergeState::Waiting => waits.push(self.state_waits(item)),
            MergeState::Asked => waits.push(Wait::Merging { since }),
            MergeState::Backoff { until, why, .. } => {
                waits.push(Wait::MergeBackoff { why: why.clone(), since, until: *until });
            }
            MergeState::Done(_) | MergeState::NotNeeded { .. } | MergeState::Failed(_) => {
                let is_waiting = |job: &ItemJob| job.state == JobState::Waiting;
                waits.extend(self.need_failing(item).filter(|_| item.buildset.jobs.iter().any(is_waiting)));
                waits.extend(item.buildset.jobs.iter().filter_map(|job| self.job_waits(item, job)));
            }
        }
        if waits.is_empty() {
            let since = tested_since(item);
            if let Some(ahead) = item.ahead {
                waits.push(Wait::Ahead { item: ahead, since });
            } else if let Some((reason, held)) = &queue.hold {
                waits.push(Wait::Held { reason: reason.clone(), since: since.max(*held) });
            }
        }
        waits
    }

    /// Why the state of an active item has not been asked for.
    fn state_waits(&self, item: &Item) -> Wait {
        let since = item.buildset.since;
        let ahead = || match item.ahead {
            None => Wait::Merging { since },
            Some(ahead) => Wait::StateAhead { item: ahead, since },
        };
        self.need_failing(item).unwrap_or_else(ahead)
    }

    /// What an item needs fails: nothing is started for it.
    fn need_failing(&self, item: &Item) -> Option<Wait> {
        self.failing(item).into_iter().find_map(|reason| match reason {
            FailReason::NeededFailing { needed } => {
                let needed = needed.into_iter().next()?;
                let there = self.item_of(&item.pipeline, &needed.change);
                let failed = there.map_or(item.enqueued_at, |there| failing_since(there));
                Some(Wait::NeedFailing { needed, since: failed.max(item.enqueued_at) })
            }
            _ => None,
        })
    }

    fn job_waits(&self, item: &Item, job: &ItemJob) -> Option<Wait> {
        let name = job.job.clone();
        match &job.state {
            JobState::Ended(_) | JobState::Reused { .. } | JobState::Skipped => None,
            JobState::Running(Build { started_at: Some(since), .. }) => {
                Some(Wait::Running { job: name, since: *since })
            }
            JobState::Running(build) => {
                let labels = self.config.jobs.get(&name).map(|job| job.labels.clone());
                Some(Wait::Worker { job: name, labels: labels.unwrap_or_default(), since: build.asked_at })
            }
            JobState::Backoff { until, .. } => {
                let why = job.lost.last().and_then(|build| build.result.as_ref());
                let why = why.and_then(|result| result.reason.clone()).unwrap_or_default();
                let (lost, since, until) = (job.lost.len(), could_since(item, job), *until);
                Some(Wait::InfraBackoff { job: name, lost, why, since, until })
            }
            JobState::Waiting => {
                let since = could_since(item, job);
                if let Some((holder, held_by)) = self.held_back(item) {
                    return Some(Wait::HoldFollowing { item: holder, job: held_by, since });
                }
                if let Some(parent) = job.parent {
                    let parent = &item.buildset.jobs[parent];
                    if !parent.state.is_final() {
                        return Some(Wait::Parent { job: name, parent: parent.job.clone(), since });
                    }
                }
                let (semaphore, holder) = self.semaphore_held(&name)?;
                Some(Wait::Semaphore { job: name, semaphore, holder, since })
            }
        }
    }

    /// The job ahead that must succeed before this item starts anything.
    pub(super) fn held_back(&self, item: &Item) -> Option<(ItemId, JobName)> {
        if self.holding.is_empty() {
            return None;
        }
        self.chain(item).skip(1).find_map(|other| Some((other.id, self.holds_back(other)?.job.clone())))
    }

    /// The job for which those behind an item wait.
    pub(super) fn holds_back<'a>(&self, item: &'a Item) -> Option<&'a ItemJob> {
        if self.holding.is_empty() {
            return None;
        }
        item.buildset.jobs.iter().find(|job| !job.state.is_success() && self.holding.contains(&job.job))
    }

    /// A semaphore that a job needs and cannot have now, and one of its holders.
    pub(super) fn semaphore_held(&self, job: &JobName) -> Option<(SemaphoreName, ItemId)> {
        let definition = self.config.jobs.get(job)?;
        definition.semaphores.iter().find_map(|semaphore| {
            let holders = self.semaphores.get(semaphore)?;
            let most = self.config.semaphores.get(semaphore).copied().unwrap_or(1);
            let full = holders.len() >= most as usize;
            holders.first().filter(|_| full).map(|holder| (semaphore.clone(), *holder))
        })
    }

    /// How long an item will still take: its longest job, and not less than what it stands on. None until there is
    /// history for every job that has not ended.
    pub fn estimate(&self, id: ItemId, now: Timestamp) -> Option<Estimate> {
        let mut total = Estimate { p50_us: 0, p90_us: 0, begun: true };
        let mut next = self.items.get(&id);
        while let Some(item) = next {
            for job in item.buildset.jobs.iter().filter(|job| !job.state.is_final()) {
                let left = self.job_estimate(job, now)?;
                total.p50_us = total.p50_us.max(left.p50_us);
                total.p90_us = total.p90_us.max(left.p90_us);
                total.begun &= left.begun;
            }
            if item.buildset.jobs.is_empty() {
                return None;
            }
            next = item.ahead.and_then(|ahead| self.items.get(&ahead));
        }
        Some(total)
    }

    /// How long a job will still take.
    pub fn job_estimate(&self, job: &ItemJob, now: Timestamp) -> Option<Estimate> {
        let whole = history::estimate(&self.durations.get(&job.job)?.latest_us)?;
        let started = job.state.build().and_then(|build| build.started_at);
        let done = started.map_or(0, |at| now.micros_since(at));
        let left = |us: i64| (us - done).max(0);
        Some(Estimate { p50_us: left(whole.p50_us), p90_us: left(whole.p90_us), begun: started.is_some() })
    }
}

/// Since when a job could run as far as its item goes: its state is there, the job above it has ended, and so has the
/// last run that the infrastructure failed.
fn could_since(item: &Item, job: &ItemJob) -> Timestamp {
    let above = job.parent.and_then(|parent| item.buildset.jobs[parent].state.build());
    let ended = above.into_iter().chain(job.lost.last()).filter_map(|build| build.ended_at);
    ended.fold(item.buildset.since, Timestamp::max)
}

/// Since when everything of an item is tested; of a result that stood for another run, since there was a state.
fn tested_since(item: &Item) -> Timestamp {
    let ended = item.buildset.jobs.iter().filter_map(|job| job.state.build()?.ended_at);
    ended.fold(item.buildset.since, Timestamp::max)
}

/// Since when an item that fails does: its first job that must pass and did not, or its merge.
fn failing_since(item: &Item) -> Timestamp {
    let failed = item.buildset.jobs.iter().filter(|job| job.voting && !job.state.is_success());
    let first = failed.filter_map(|job| job.state.build()?.ended_at).min();
    first.unwrap_or(item.buildset.since)
}

/// Why an item is failing, whatever its needs are.
pub(super) fn failing_itself(item: &Item) -> Vec<FailReason> {
    if let MergeState::Failed(failure) = &item.buildset.state {
        return vec![FailReason::Merge(failure.clone())];
    }
    let missed = || item.buildset.jobs.iter().filter(|job| job.voting && !job.state.is_success());
    let named = |job: &ItemJob| job.job.clone();
    let ended = missed().filter(|job| matches!(job.state, JobState::Ended(_)));
    let mut jobs: Vec<JobName> = ended.map(named).collect();
    if jobs.is_empty() {
        // Below a job that does not vote: it had to pass, and will never run.
        jobs = missed().filter(|job| job.state == JobState::Skipped).map(named).collect();
    }
    if jobs.is_empty() { Vec::new() } else { vec![FailReason::JobFailed { jobs }] }
}

/// True if every voting job of an item that failed ended as `fits` says, or stands below one that did.
fn failed_by_nothing_but(item: &Item, fits: impl Fn(&BuildResult) -> bool) -> bool {
    if let MergeState::Failed(_) = item.buildset.state {
        return false;
    }
    let jobs = &item.buildset.jobs;
    let mut failed = jobs.iter().filter(|job| job.voting && !job.state.is_success()).peekable();
    failed.peek().is_some()
        && failed.all(|job| {
            let above = |job: &&ItemJob| job.parent.map(|parent| &jobs[parent]);
            let mut line = std::iter::successors(Some(job), above);
            let root = line.find(|job| job.state != JobState::Skipped).and_then(|job| job.state.result());
            root.is_some_and(&fits)
        })
}
