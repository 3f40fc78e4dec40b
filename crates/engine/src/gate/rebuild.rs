//! The gate from its rows after a restart, and what has to be asked again.

use super::config::Manager;
use super::ids::ItemId;
use super::io::{Effect, Merge, MergeRequest};
use super::item::{Item, ItemPhase, JobState, MergeState};
use super::rows::{GateRows, QueueRow};
use super::snapshot::{ChangeQueue, QueueKey, Snapshot};
use super::{Gate, Scratch, due_of};
use crate::ids::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Gate {
    /// The gate that wrote `rows`. The first input must be [`super::io::Input::Tick`]: it asks again for whatever was
    /// on its way.
    pub fn rebuild(rows: GateRows, seed: u128) -> Self {
        let mut gate = Self {
            seed,
            now: Timestamp(0),
            held: Snapshot::default(),
            last_item: rows.last_item,
            last_autohold: rows.last_autohold,
            evidence: rows.evidence.into_iter().map(|row| (row.key.clone(), row)).collect(),
            running: BTreeMap::new(),
            users: BTreeMap::new(),
            due: BTreeMap::new(),
            own_tips: Vec::new(),
            known: super::known::Known::default(),
            landed: super::known::Latest::default(),
            offered: super::known::Latest::default(),
            admonished: super::known::Latest::default(),
            merger_has: BTreeSet::new(),
            resuming: true,
            scratch: Scratch::default(),
        };
        gate.put_in_force(rows.config.unwrap_or_default());
        for row in rows.queues {
            let pipeline = gate.held.pipeline(&row.pipeline);
            let gated = pipeline.is_some_and(|pipeline| pipeline.manager == Manager::Dependent);
            if row.hold.is_none() && (!gated || row.window == 0) {
                continue; // nothing is left of it
            }
            let queue =
                ChangeQueue { items: Vec::new(), window: row.window, hold: row.hold, below: row.below };
            gate.held.queues.insert((row.pipeline, row.queue), queue);
        }
        for facts in rows.changes {
            gate.known.add(&facts);
            gate.held.changes.insert(facts.id.clone(), facts);
        }
        gate.held.pipelines = rows.pipelines.into_iter().map(|row| (row.pipeline.clone(), row)).collect();
        gate.held.durations =
            rows.durations.into_iter().map(|row| (row.job.clone(), Arc::new(row))).collect();
        gate.held.autoholds =
            rows.autoholds.into_iter().filter(|row| row.left > 0).map(|row| (row.id, row)).collect();
        let mut items = rows.items;
        items.sort_by_key(|item| (item.position, item.id));
        for item in items {
            for (index, job) in item.buildset.jobs.iter().enumerate() {
                if let JobState::Running(build) = &job.state {
                    gate.running.insert(build.uuid, (item.id, index));
                }
            }
            for met in &item.met {
                gate.landed.add(met.clone());
            }
            if let Some(at) = due_of(&item) {
                gate.due.insert(item.id, at);
            }
            gate.hold(item);
        }
        gate.recount_semaphores();
        gate.scratch = Scratch::default();
        gate
    }

    /// Asks again for everything that nobody may be working on any more, and for what may have changed meanwhile.
    pub(super) fn resume(&mut self) {
        let keys: Vec<QueueKey> = self.held.queues.keys().cloned().collect();
        for key in &keys {
            for id in self.held.queues[key].items.clone() {
                self.resume_item(id);
            }
        }
        let open = self.held.items.values().flat_map(|item| &item.changes);
        let changes: BTreeSet<_> = open.map(|own| own.merge.patchset.change.clone()).collect();
        if !changes.is_empty() {
            self.effect(Effect::Refresh(changes.into_iter().collect()));
        }
        self.scratch.queues.extend(keys);
    }

    fn resume_item(&mut self, id: ItemId) {
        let Some(item) = self.held.items.get(&id).cloned() else { return };
        match &item.buildset.state {
            MergeState::Asked => self.ask_again(&item),
            // Also where nothing stands on it: its builds look at its refs, which must not be collected.
            MergeState::Done(_) => self.adopt(&item),
            _ => {}
        }
        if let ItemPhase::Landing { request, .. } = &item.phase {
            self.effect(Effect::Land(request.clone()));
        }
    }

    fn ask_again(&mut self, item: &Item) {
        let ahead = item.ahead.and_then(|ahead| self.held.items.get(&ahead)).map(|ahead| ahead.merge_id());
        let changes = item.below.iter().chain(&item.changes).map(|own| own.merge.clone()).collect();
        let merge = item.merge_id();
        self.merger_has.insert(merge);
        let request = MergeRequest { merge, ahead, identity: item.buildset.identity, changes };
        self.effect(Effect::Merge(Merge::Make(request)));
    }

    /// What is stored of it, in comparable form: a rebuilt gate has the same.
    pub fn rows(&self) -> GateRows {
        let queue = |(key, queue): (&QueueKey, &ChangeQueue)| QueueRow {
            pipeline: key.0.clone(),
            queue: key.1.clone(),
            window: queue.window,
            hold: queue.hold.clone(),
            below: queue.below.clone(),
        };
        GateRows {
            config: Some(Arc::clone(&self.held.config)),
            items: self.held.items.values().cloned().collect(),
            last_item: self.last_item,
            queues: self
                .held
                .queues
                .iter()
                .filter(|(key, queue)| self.is_memorable(key, queue))
                .map(queue)
                .collect(),
            pipelines: self.held.pipelines.values().cloned().collect(),
            changes: self.held.changes.values().cloned().collect(),
            durations: self.held.durations.values().map(|row| row.as_ref().clone()).collect(),
            evidence: self.evidence.values().cloned().collect(),
            autoholds: self.held.autoholds.values().cloned().collect(),
            last_autohold: self.last_autohold,
        }
    }

    /// True if a queue differs from one that is made anew.
    fn is_memorable(&self, key: &QueueKey, queue: &ChangeQueue) -> bool {
        let pipeline = self.held.pipeline(&key.0).filter(|pipeline| pipeline.manager == Manager::Dependent);
        queue.hold.is_some() || pipeline.is_some_and(|pipeline| pipeline.window.start != queue.window)
    }
}
