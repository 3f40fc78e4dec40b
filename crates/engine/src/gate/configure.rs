//! A new configuration while everything runs: queues, results and windows are kept as far as they still have a place.

use super::Gate;
use super::config::{Config, Manager};
use super::ids::ItemId;
use super::item::{Item, ItemJob, ItemPhase, JobState, MergeState};
use super::jobs;
use super::reason::EvictReason;
use super::rows::GateRow;
use super::snapshot::{ChangeQueue, QueueKey};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Gate {
    pub(super) fn configure(&mut self, config: Arc<Config>) {
        self.scratch.rows.push(GateRow::Config(Arc::clone(&config)));
        self.put_in_force(config);
        for id in self.held.items.keys().copied().collect::<Vec<_>>() {
            self.refit(id);
        }
        self.regroup();
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
        self.held.shared = Arc::new(shared);
        self.held.config = config;
    }

    /// Gives an item the jobs of the new configuration, with the results it has.
    fn refit(&mut self, id: ItemId) {
        let Some(item) = self.held.items.get(&id).cloned() else { return };
        if item.phase != ItemPhase::Testing {
            return;
        }
        let Some(pipeline) = self.held.pipeline(&item.pipeline).cloned() else {
            let what = format!("there is no pipeline {} any more", item.pipeline);
            return self.evict(id, EvictReason::Unconfigured { what });
        };
        let new = jobs::list(&self.held.config, &pipeline, &jobs::targets(&item));
        if new.is_empty() {
            let what = format!("no job of pipeline {} applies to it", item.pipeline);
            return self.evict(id, EvictReason::Unconfigured { what });
        }
        let has_jobs = matches!(item.buildset.state, MergeState::Done(_) | MergeState::NotNeeded { .. });
        if has_jobs {
            self.replace_jobs(id, &item, new);
        }
    }

    fn replace_jobs(&mut self, id: ItemId, item: &Item, mut new: Vec<ItemJob>) {
        let mut old: BTreeMap<_, ItemJob> =
            item.buildset.jobs.iter().map(|job| (job.job.clone(), job.clone())).collect();
        for (index, job) in new.iter_mut().enumerate() {
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

    /// Puts every item into the queue that it has now, in the order that they had.
    fn regroup(&mut self) {
        let mut items: Vec<Arc<Item>> = self.held.items.values().cloned().collect();
        items.sort_by_key(|item| (item.position, item.id));
        let old = std::mem::take(&mut self.held.queues);
        for (key, queue) in old {
            let kept = ChangeQueue { items: Vec::new(), ..queue };
            self.held.queues.insert(key, kept);
        }
        for item in items {
            let Some(pipeline) = self.held.pipeline(&item.pipeline).cloned() else { continue };
            let ordered = matches!(pipeline.manager, Manager::Dependent | Manager::Serial);
            let name = if ordered { self.queue_name(&pipeline, &item.project) } else { item.queue.clone() };
            if name != item.queue
                && let Some(item) = self.edit(item.id)
            {
                item.queue = name.clone();
            }
            let window = match pipeline.manager {
                Manager::Dependent => pipeline.window.start,
                Manager::Serial | Manager::Supercedent => 1,
                Manager::Independent => 0,
            };
            let queue = self
                .held
                .queues
                .entry((item.pipeline.clone(), name))
                .or_insert_with(|| ChangeQueue { items: Vec::new(), window, hold: None });
            queue.items.push(item.id);
        }
        let keep = |key: &QueueKey, queue: &ChangeQueue| {
            let dependent =
                self.held.config.pipeline(&key.0).is_some_and(|p| p.manager == Manager::Dependent);
            !queue.items.is_empty() || dependent
        };
        let gone: Vec<QueueKey> = self
            .held
            .queues
            .iter()
            .filter(|(key, queue)| !keep(key, queue))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.held.queues.remove(&key);
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
