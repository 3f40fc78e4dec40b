//! What operators can do: enqueue, dequeue, promote, hold, release, keep workspaces.

use super::Gate;
use super::change::Subject;
use super::config::{Manager, Pipeline};
use super::ids::{ChangeId, ItemId, PipelineName, QueueName};
use super::io::{Answer, Command};
use super::item::{Item, ItemPhase, MergeState};
use super::reason::{EvictReason, HoldReason, Ignored, Refusal, ResetReason};
use super::rows::{AutoholdRow, GateRow};
use super::snapshot::{ChangeQueue, QueueKey};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// As somebody would say it.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enqueue { pipeline, patchset, .. } => write!(f, "enqueue {patchset} in {pipeline}"),
            Self::EnqueueRef { pipeline, update } => {
                write!(f, "enqueue {} of {} in {pipeline}", update.name, update.project)
            }
            Self::Dequeue { pipeline, change } => write!(f, "dequeue {change} from {pipeline}"),
            Self::EndLanding { pipeline, change } => write!(f, "end the landing of {change} in {pipeline}"),
            Self::Promote { pipeline, changes } => {
                let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
                write!(f, "promote {} in {pipeline}", changes.join(", "))
            }
            Self::Autohold { project, job, change, count, reason } => {
                write!(f, "keep the workspace of {count} failures of {job} in {project}")?;
                if let Some(change) = change {
                    write!(f, ", change {change}")?;
                }
                write!(f, ": {reason}")
            }
            Self::AutoholdDelete { id } => write!(f, "delete autohold {id}"),
            Self::Release { pipeline, queue } => write!(f, "release queue {queue} of {pipeline}"),
            Self::Hold { pipeline, queue, reason } => write!(f, "hold queue {queue} of {pipeline}: {reason}"),
        }
    }
}

impl Gate {
    pub(super) fn command(&mut self, command: Command, by: &str) -> Result<Answer, Refusal> {
        let by = crate::reason::clean(by);
        match command {
            Command::Enqueue { pipeline, patchset, facts } => {
                let pipeline = self.known_pipeline(&pipeline)?;
                self.facts(facts);
                let outcome = self.add_change(&pipeline, &patchset, &format!("{by} enqueued it"), false);
                enqueued(&pipeline, outcome)
            }
            Command::EnqueueRef { pipeline, update } => {
                let pipeline = self.known_pipeline(&pipeline)?;
                let because = format!("{by} enqueued it");
                let outcome = self.add_subject(&pipeline, Subject::Ref(update), &because);
                enqueued(&pipeline, outcome)
            }
            Command::Dequeue { pipeline, change } => self.dequeue(&pipeline, &change, by),
            Command::EndLanding { pipeline, change } => self.end_landing(&pipeline, &change, by),
            Command::Promote { pipeline, changes } => self.promote(&pipeline, &changes, &by),
            Command::Autohold { project, job, change, count, reason } => {
                self.last_autohold += 1;
                let (id, count) = (self.last_autohold, count.max(1));
                let reason = crate::reason::clean(&reason);
                let row = AutoholdRow { id, project, job, change, left: count, reason, by };
                self.scratch.rows.push(GateRow::Autohold(row.clone()));
                self.held.autoholds.insert(id, row);
                Ok(Answer::Autohold(id))
            }
            Command::AutoholdDelete { id } => {
                let row = self.held.autoholds.remove(&id).ok_or(Refusal::NoSuchAutohold { id })?;
                self.scratch.rows.push(GateRow::Autohold(AutoholdRow { left: 0, ..row }));
                Ok(Answer::Done)
            }
            Command::Hold { pipeline, queue, reason } => {
                let key = self.known_queue(&pipeline, &queue)?;
                let (hold, now) =
                    (HoldReason::Operator { by, reason: crate::reason::clean(&reason) }, self.now);
                self.edit_holds(key, |queue| queue.add_hold(hold, now));
                Ok(Answer::Done)
            }
            Command::Release { pipeline, queue } => {
                let key = self.known_queue(&pipeline, &queue)?;
                if self.held.queues.get(&key).is_none_or(|queue| queue.hold.is_none()) {
                    return Err(Refusal::NotHeld { queue });
                }
                self.edit_holds(key, ChangeQueue::release);
                Ok(Answer::Done)
            }
        }
    }

    fn known_pipeline(&self, name: &PipelineName) -> Result<Arc<Pipeline>, Refusal> {
        let found = self.held.pipeline(name).cloned();
        found.ok_or_else(|| {
            let similar =
                |other: &&Arc<Pipeline>| strsim::jaro_winkler(other.name.as_str(), name.as_str()) > 0.7;
            let known = self.held.config.pipelines.iter().find(similar).map(|known| known.name.clone());
            Refusal::NoSuchPipeline { pipeline: name.clone(), known }
        })
    }

    fn known_queue(&self, pipeline: &PipelineName, queue: &QueueName) -> Result<QueueKey, Refusal> {
        self.known_pipeline(pipeline)?;
        let key = (pipeline.clone(), queue.clone());
        if self.held.queues.contains_key(&key) {
            return Ok(key);
        }
        Err(Refusal::NoSuchQueue { pipeline: key.0, queue: key.1 })
    }

    fn edit_holds(&mut self, key: QueueKey, edit: impl FnOnce(&mut ChangeQueue)) {
        if let Some(queue) = self.held.queues.get_mut(&key) {
            edit(queue);
        }
        self.scratch.pipelines.insert(key.0.clone());
        self.scratch.queue_rows.insert(key.clone());
        self.scratch.queues.insert(key);
    }

    fn anywhere(&self, pipeline: &PipelineName, change: &ChangeId) -> Result<Arc<Item>, Refusal> {
        self.known_pipeline(pipeline)?;
        let item = self.held.item_of(pipeline, change).cloned();
        item.ok_or_else(|| Refusal::NotThere { change: change.clone(), pipeline: pipeline.clone() })
    }

    fn there(&self, pipeline: &PipelineName, change: &ChangeId) -> Result<Arc<Item>, Refusal> {
        let item = self.anywhere(pipeline, change)?;
        match item.phase {
            ItemPhase::Landing { .. } => Err(Refusal::BeingLanded { change: change.clone() }),
            _ => Ok(item),
        }
    }

    fn dequeue(&mut self, pipeline: &PipelineName, change: &ChangeId, by: String) -> Result<Answer, Refusal> {
        let item = self.there(pipeline, change)?;
        self.evict(item.id, EvictReason::Dequeued { by });
        Ok(Answer::Done)
    }

    /// Takes out what is being landed. Nobody knows then whether it is in its branch, so nothing lands on top of it
    /// before somebody has looked.
    fn end_landing(
        &mut self,
        pipeline: &PipelineName,
        change: &ChangeId,
        by: String,
    ) -> Result<Answer, Refusal> {
        let item = self.anywhere(pipeline, change)?;
        if matches!(item.phase, ItemPhase::Landing { .. }) {
            self.hold_queue(&item, HoldReason::Abandoned { change: change.clone(), by: by.clone() });
        }
        self.evict(item.id, EvictReason::Dequeued { by });
        Ok(Answer::Done)
    }

    /// Puts the items of `changes` first, each after what it needs; what is being landed stays before them.
    fn promote(
        &mut self,
        pipeline: &PipelineName,
        changes: &[ChangeId],
        by: &str,
    ) -> Result<Answer, Refusal> {
        let mut wanted = Vec::new();
        for change in changes {
            wanted.push(self.there(pipeline, change)?);
        }
        let Some(first) = wanted.first().cloned() else { return Ok(Answer::Done) };
        if self.held.manager(&first) == Manager::Independent {
            return Ok(Answer::Done); // nothing there waits for another
        }
        if let Some((other, change)) =
            wanted.iter().zip(changes).find(|(other, _)| other.queue != first.queue)
        {
            let _ = other;
            return Err(Refusal::NotOneQueue { change: change.clone() });
        }
        let key = (first.pipeline.clone(), first.queue.clone());
        let Some(queue) = self.held.queues.get(&key) else { return Ok(Answer::Done) };
        let old = queue.items.clone();
        let mut new: Vec<ItemId> = Vec::new();
        let mut seen = BTreeSet::new();
        // What is being landed stays first, and so does what runs where only one may.
        let one_by_one = self.held.manager(&first) != Manager::Dependent;
        let stays = |id: &&ItemId| {
            self.held.items.get(id).is_some_and(|item| {
                let has_begun = item.buildset.state != MergeState::Waiting;
                matches!(item.phase, ItemPhase::Landing { .. }) || (one_by_one && has_begun)
            })
        };
        let first_ones: Vec<ItemId> = old.iter().filter(stays).copied().collect();
        let wanted =
            first_ones.into_iter().chain(wanted.iter().map(|item| item.id)).chain(old.iter().copied());
        for id in wanted {
            self.with_needs(id, &mut seen, &mut new);
        }
        new.retain(|id| old.contains(id));
        self.reorder(&key, &old, new, by);
        Ok(Answer::Done)
    }

    /// Appends an item after what it needs.
    fn with_needs(&self, id: ItemId, seen: &mut BTreeSet<ItemId>, order: &mut Vec<ItemId>) {
        if !seen.insert(id) {
            return;
        }
        let Some(item) = self.held.items.get(&id) else { return };
        for need in &item.needs {
            if let Some(needed) = self.held.item_of(&item.pipeline, &need.change) {
                self.with_needs(needed.id, seen, order);
            }
        }
        order.push(id);
    }

    fn reorder(&mut self, key: &QueueKey, old: &[ItemId], new: Vec<ItemId>, by: &str) {
        let mut positions: Vec<i64> =
            old.iter().filter_map(|id| self.held.items.get(id)).map(|item| item.position).collect();
        positions.sort_unstable();
        let mut ahead = None;
        for (id, position) in new.iter().zip(positions) {
            let landing = self.held.items.get(id).is_some_and(|item| item.phase != ItemPhase::Testing);
            let moved = self.held.items.get(id).is_some_and(|item| item.position != position);
            if moved && let Some(item) = self.edit(*id) {
                item.position = position;
            }
            let stands = self.held.items.get(id).map(|item| item.ahead);
            if moved
                && !landing
                && stands != Some(ahead)
                && self.held.pipeline(&key.0).is_some_and(|p| p.manager == Manager::Dependent)
            {
                if let Some(item) = self.edit(*id) {
                    item.ahead = ahead;
                }
                self.reset(*id, ResetReason::Promoted { by: by.to_owned() });
            }
            ahead = Some(*id);
        }
        if let Some(queue) = self.held.queues.get_mut(key) {
            queue.items = new;
        }
        self.scratch.queues.insert(key.clone());
    }
}

fn enqueued(pipeline: &Pipeline, outcome: Result<ItemId, Ignored>) -> Result<Answer, Refusal> {
    match outcome {
        Ok(item) => Ok(Answer::Event(vec![(pipeline.name.clone(), Ok(item))])),
        Err(Ignored::Refused(refusal)) => Err(Refusal::Refused(refusal)),
        Err(Ignored::AlreadyThere { item }) => Err(Refusal::AlreadyThere { item }),
        Err(ignored @ Ignored::NoTrigger { .. }) => {
            Ok(Answer::Event(vec![(pipeline.name.clone(), Err(ignored))]))
        }
    }
}
