//! A new configuration while everything runs: queues, results and windows are kept as far as they still have a place.

use super::Gate;
use super::change::Subject;
use super::config::{Config, JobDef, Manager, Pipeline};
use super::enqueue::{branch_queue, own_queue};
use super::ids::{ItemId, Patchset, PipelineName, ProjectName, QueueName};
use super::item::{Item, ItemJob, ItemPhase, JobState, MergeState};
use super::jobs;
use super::reason::{EvictReason, HoldReason, ResetReason};
use super::report::Kind;
use super::rows::GateRow;
use super::snapshot::{ChangeQueue, QueueKey};
use crate::ids::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What was in force until now.
struct Before {
    config: Arc<Config>,
    shared: Arc<BTreeMap<(PipelineName, ProjectName), QueueName>>,
}

/// What a queue hands on to the one that takes its place.
#[derive(Default)]
struct Memory {
    window: Option<u32>,
    holds: Vec<(HoldReason, Timestamp)>,
}

impl Gate {
    pub(super) fn configure(&mut self, config: Arc<Config>) {
        self.scratch.rows.push(GateRow::Config(Arc::clone(&config)));
        let before = Before { config: Arc::clone(&self.held.config), shared: Arc::clone(&self.held.shared) };
        self.put_in_force(config);
        for id in self.held.items.keys().copied().collect::<Vec<_>>() {
            self.refit(id, &before.config);
        }
        self.regroup(&before);
        self.recount_semaphores();
        let keys: Vec<QueueKey> = self.held.queues.keys().cloned().collect();
        self.scratch.queues.extend(keys);
        let names: Vec<_> = self.held.config.pipelines.iter().map(|pipeline| pipeline.name.clone()).collect();
        self.scratch.pipelines.extend(names);
        // A reconfiguration ends a pipeline's being disabled.
        for row in self.held.pipelines.values_mut().filter(|row| row.failures > 0 || row.disabled) {
            row.failures = 0;
            row.disabled = false;
            self.scratch.rows.push(GateRow::Pipeline(row.clone()));
        }
    }

    pub(super) fn put_in_force(&mut self, config: Arc<Config>) {
        let shared = config
            .pipelines
            .iter()
            .flat_map(|pipeline| pipeline.queues.iter().map(move |queue| (pipeline, queue)))
            .flat_map(|(pipeline, queue)| {
                queue
                    .projects
                    .iter()
                    .map(|project| ((pipeline.name.clone(), project.clone()), queue.name.clone()))
            })
            .collect();
        let holding = config.jobs.values().filter(|job| job.hold_following).map(|job| job.name.clone());
        self.held.holding = Arc::new(holding.collect());
        self.held.shared = Arc::new(shared);
        self.held.config = config;
    }

    /// Gives an item the jobs of the configuration, with the results that it has under the one `before`.
    pub(super) fn refit(&mut self, id: ItemId, before: &Config) {
        let Some(item) = self.held.items.get(&id).cloned() else { return };
        if item.phase != ItemPhase::Testing {
            return;
        }
        let Some(pipeline) = self.held.pipeline(&item.pipeline).cloned() else {
            let what = format!("there is no pipeline {} any more", item.pipeline);
            let reason = EvictReason::Unconfigured { what };
            if let Some(gone) = before.pipeline(&item.pipeline) {
                self.report_by(gone, id, &Kind::Evicted(reason.clone()));
            }
            return self.evict(id, reason);
        };
        let new = jobs::list(&self.held.config, &pipeline, &jobs::targets(&item));
        if new.is_empty() {
            let what = format!("no job of pipeline {} applies to it", item.pipeline);
            return self.evict(id, EvictReason::Unconfigured { what });
        }
        if before.pipeline(&pipeline.name).is_some_and(|old| old.manager != pipeline.manager) {
            return self.reshape(id, &pipeline);
        }
        if self.take_merge_modes(id) {
            return self.reset(id, ResetReason::Reconfigured);
        }
        let has_jobs = matches!(item.buildset.state, MergeState::Done(_) | MergeState::NotNeeded { .. });
        if has_jobs {
            self.replace_jobs(id, &item, new, before);
        }
    }

    fn replace_jobs(&mut self, id: ItemId, item: &Item, mut new: Vec<ItemJob>, before: &Config) {
        let mut old: BTreeMap<_, ItemJob> =
            item.buildset.jobs.iter().map(|job| (job.job.clone(), job.clone())).collect();
        for (index, job) in new.iter_mut().enumerate() {
            let was = jobs::definition(before, &job.job);
            if !does_the_same(&was, &jobs::definition(&self.held.config, &job.job)) {
                continue; // what it gave says nothing of what it is now
            }
            let Some(before) = old.remove(&job.job) else { continue };
            job.lost = before.lost;
            // Whether a job is skipped follows from its parent, which may be another one now.
            job.state = if before.state == JobState::Skipped { JobState::Waiting } else { before.state };
            if let JobState::Running(build) = &job.state {
                self.running.insert(build.uuid, (id, index));
            }
        }
        for gone in old.values() {
            if let JobState::Running(build) = &gone.state {
                self.running.remove(&build.uuid);
                self.effect(super::io::Effect::CancelBuild(build.uuid));
            }
        }
        if new != item.buildset.jobs
            && let Some(item) = self.edit(id)
        {
            item.buildset.jobs = new;
        }
    }

    /// How its project is merged now; true if that is another way for one of its changes.
    fn take_merge_modes(&mut self, id: ItemId) -> bool {
        let config = Arc::clone(&self.held.config);
        let mode = |project: &ProjectName| {
            config.projects.get(project).map(|project| project.merge_mode).unwrap_or_default()
        };
        let Some(item) = self.held.items.get(&id) else { return false };
        if item.changes.iter().chain(&item.below).all(|own| own.merge.mode == mode(&own.merge.project)) {
            return false;
        }
        if let Some(item) = self.edit(id) {
            for own in item.changes.iter_mut().chain(&mut item.below) {
                own.merge.mode = mode(&own.merge.project);
            }
        }
        true
    }

    /// Its pipeline has another manager: what it needs goes below it, or has to be ahead of it, and it starts anew.
    fn reshape(&mut self, id: ItemId, pipeline: &Arc<Pipeline>) {
        let Some(item) = self.held.items.get(&id).cloned() else { return };
        let ordered = matches!(pipeline.manager, Manager::Dependent | Manager::Serial);
        if pipeline.manager == Manager::Dependent && !matches!(item.subject, Subject::Change(_)) {
            let what = format!("pipeline {} lands changes now", pipeline.name);
            return self.evict(id, EvictReason::Unconfigured { what });
        }
        let facts =
            |own: &super::item::ItemChange| self.held.changes.get(&own.merge.patchset.change).cloned();
        let own: Vec<_> = item.changes.iter().filter_map(facts).collect();
        let (mut below, mut needs) = (Vec::new(), Vec::new());
        for facts in &own {
            if ordered {
                needs.extend(self.direct_needs(facts, false).unwrap_or_default());
                continue;
            }
            match self.below(pipeline, facts) {
                Ok(more) => below.extend(more),
                Err(why) => return self.evict(id, EvictReason::Unconfigured { what: why.to_string() }),
            }
        }
        let mut seen = BTreeSet::new();
        below.retain(|own| !item.has_change(&own.merge.patchset.change));
        below.retain(|own| seen.insert(own.merge.patchset.change.clone()));
        needs.retain(|need| !item.has_change(&need.change));
        needs.retain(|need| seen.insert(need.change.clone()));
        for change in seen {
            self.users.entry(change.clone()).or_default().insert(id);
            self.scratch.changes.insert(change);
        }
        self.take_merge_modes(id);
        self.reset_one(id, ResetReason::Reconfigured);
        if let Some(item) = self.edit(id) {
            (item.below, item.needs, item.ahead) = (below, needs, None);
        }
        self.forget_unused(&item, id);
        for own in &item.changes {
            self.check_users(&own.merge.patchset.change);
        }
    }

    /// Changes that it knew before it got another shape, and does not know any more.
    fn forget_unused(&mut self, old: &Item, id: ItemId) {
        let now =
            self.held.items.get(&id).map(|item| super::enqueue::known_changes(item)).unwrap_or_default();
        for change in super::enqueue::known_changes(old).difference(&now) {
            if let Some(users) = self.users.get_mut(change) {
                users.remove(&id);
            }
            self.scratch.changes.insert(change.clone());
        }
    }

    /// Puts every item into the queue that it has now, in the order that they had. Windows and holds go with the
    /// projects.
    fn regroup(&mut self, before: &Before) {
        let mut memories = self.memories(before);
        let mut items: Vec<Arc<Item>> = self.held.items.values().cloned().collect();
        items.sort_by_key(|item| (item.position, item.id));
        let old = std::mem::take(&mut self.held.queues);
        for item in items {
            let name = self.queue_now(&item, before);
            if name != item.queue
                && let Some(item) = self.edit(item.id)
            {
                item.queue = name.clone();
            }
            let key = (item.pipeline.clone(), name);
            if !self.held.queues.contains_key(&key) {
                let memory = memories.remove(&key).unwrap_or_default();
                self.remember(key.clone(), memory);
            }
            if let Some(queue) = self.held.queues.get_mut(&key) {
                queue.items.push(item.id);
            }
        }
        for (key, memory) in memories {
            let dependent = self.held.pipeline(&key.0).is_some_and(|it| it.manager == Manager::Dependent);
            if dependent {
                self.remember(key, memory);
            }
        }
        let stored = |queue: &ChangeQueue| (queue.window, queue.holds().cloned().collect::<Vec<_>>());
        let keys: BTreeSet<QueueKey> = old.keys().chain(self.held.queues.keys()).cloned().collect();
        let differs = |key: &QueueKey| old.get(key).map(stored) != self.held.queues.get(key).map(stored);
        self.scratch.queue_rows.extend(keys.into_iter().filter(differs));
        self.part_from_needs();
    }

    fn remember(&mut self, key: QueueKey, memory: Memory) {
        let mut queue = Self::first_queue(self.held.pipeline(&key.0).map(AsRef::as_ref));
        // Without a limit is another way to work, not a size.
        if let Some(window) = memory.window.filter(|window| *window > 0 && queue.window > 0) {
            queue.window = window;
        }
        for (reason, at) in memory.holds {
            queue.add_hold(reason, at);
        }
        self.held.queues.insert(key, queue);
    }

    /// What the queues that take the place of those that are there will know.
    fn memories(&self, before: &Before) -> BTreeMap<QueueKey, Memory> {
        let mut heirs: BTreeMap<QueueKey, BTreeSet<QueueName>> = BTreeMap::new();
        for ((pipeline, project), queue) in before.shared.iter() {
            if let Some(now) = self.held.pipeline(pipeline) {
                let key = (pipeline.clone(), queue.clone());
                heirs.entry(key).or_default().insert(self.queue_name(now, project));
            }
        }
        let mut memories: BTreeMap<QueueKey, Memory> = BTreeMap::new();
        for (key, queue) in &self.held.queues {
            let Some(now) = self.held.pipeline(&key.0) else { continue };
            let was = before.config.pipeline(&key.0).map(|pipeline| pipeline.manager);
            let ordered = |manager| matches!(manager, Manager::Dependent | Manager::Serial);
            let names = match was {
                Some(was) if ordered(was) && ordered(now.manager) => heirs
                    .remove(key)
                    .unwrap_or_else(|| BTreeSet::from([self.queue_name(now, &key.1.as_str().into())])),
                _ => BTreeSet::from([key.1.clone()]),
            };
            let gated = was == Some(Manager::Dependent) && now.manager == Manager::Dependent;
            for name in names {
                let memory = memories.entry((key.0.clone(), name)).or_default();
                let window = Some(queue.window).filter(|_| gated);
                memory.window = memory.window.into_iter().chain(window).min();
                memory.holds.extend(queue.holds().cloned());
            }
        }
        memories
    }

    /// The queue of an item under the configuration in force.
    fn queue_now(&self, item: &Item, before: &Before) -> QueueName {
        let Some(now) = self.held.pipeline(&item.pipeline) else { return item.queue.clone() };
        let kept = before.config.pipeline(&now.name).is_none_or(|was| was.manager == now.manager);
        match now.manager {
            Manager::Dependent | Manager::Serial => self.queue_name(now, &item.project),
            Manager::Independent | Manager::Supercedent if kept => item.queue.clone(),
            Manager::Independent => own_queue(item.id.0),
            Manager::Supercedent => branch_queue(&item.project, &item.branch),
        }
    }

    /// Takes out what needs something that is not ahead of it in its queue any more: nothing orders the two now.
    fn part_from_needs(&mut self) {
        for id in self.held.items.keys().copied().collect::<Vec<_>>() {
            let Some(item) = self.held.items.get(&id).cloned() else { continue };
            if item.phase != ItemPhase::Testing || self.held.manager(&item) != Manager::Dependent {
                continue;
            }
            let ahead = |other: &Arc<Item>| {
                other.queue == item.queue && (other.position, other.id) < (item.position, item.id)
            };
            let parted =
                |need: &&Patchset| !self.held.item_of(&item.pipeline, &need.change).is_some_and(&ahead);
            if let Some(need) = item.needs.iter().find(parted) {
                let what = format!("it needs {need}, which is not ahead of it in its queue");
                self.evict(id, EvictReason::Unconfigured { what });
            }
        }
    }

    /// Who holds which semaphore follows from what runs.
    pub(super) fn recount_semaphores(&mut self) {
        self.held.semaphores.clear();
        for item in self.held.items.values() {
            for job in item.buildset.jobs.iter().filter(|job| matches!(job.state, JobState::Running(_))) {
                for semaphore in &jobs::definition(&self.held.config, &job.job).semaphores {
                    self.held.semaphores.entry(semaphore.clone()).or_default().push(item.id);
                }
            }
        }
        self.scratch.semaphore_freed = true;
    }
}

/// True if two definitions of a job have the same work done: then a result under the one stands under the other.
fn does_the_same(one: &JobDef, other: &JobDef) -> bool {
    let work = |job: &JobDef| {
        (
            (job.task.clone(), job.env.clone(), job.projects.clone(), job.hermetic),
            (job.labels.clone(), job.single_use, job.parameter_function.clone()),
        )
    };
    work(one) == work(other)
}
