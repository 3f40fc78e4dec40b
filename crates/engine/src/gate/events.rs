//! What happened at a source: newer facts first, then what they do to items that are there, then triggers.

use super::Gate;
use super::change::{ChangeFacts, RefUpdate, Subject};
use super::config::{EventKind, Manager, Pipeline, Trigger};
use super::enqueue::refusal_head;
use super::filter;
use super::ids::{ChangeId, ItemId, Oid, Patchset, PipelineName, ProjectName};
use super::io::Event;
use super::item::{Item, ItemPhase, MergeState};
use super::reason::{EnqueueRefusal, EvictReason, Ignored, ResetReason};
use super::snapshot::QueueKey;
use std::sync::Arc;

/// What came of an event in one pipeline.
pub(super) type Outcome = (PipelineName, Result<ItemId, Ignored>);

impl Gate {
    pub(super) fn event(&mut self, event: &Event) -> Vec<Outcome> {
        self.facts(event.facts.clone());
        self.note(event);
        let pipelines = self.held.config.pipelines.clone();
        let mut outcomes = Vec::new();
        // The gate of which a person asked for what it has no jobs for; another one may have some.
        let mut jobless = None;
        for pipeline in &pipelines {
            let Some(outcome) = self.trigger(pipeline, event) else { continue };
            if let Err(Ignored::Refused(reason @ EnqueueRefusal::NoJobsConfigured { .. })) = &outcome {
                jobless = jobless.or_else(|| Some((pipeline, reason.clone())));
            }
            outcomes.push((pipeline.name.clone(), outcome));
        }
        let none_takes_it = |(_, outcome): &Outcome| {
            matches!(
                outcome,
                Err(Ignored::NoTrigger { .. } | Ignored::Refused(EnqueueRefusal::NoJobsConfigured { .. }))
            )
        };
        if let (Some((pipeline, reason)), Some(patchset)) = (jobless, &event.change)
            && outcomes.iter().all(none_takes_it)
            && pipeline.triggers.iter().any(|trigger| self.is_asked_by_vote(pipeline, trigger, event))
        {
            self.admonish(pipeline, patchset, &reason, &because_of(event));
        }
        outcomes
    }

    /// True if somebody has voted that a change be landed: not a program to which a trigger is limited, and not an answer
    /// to what is told here.
    fn is_asked_by_vote(&self, pipeline: &Pipeline, trigger: &Trigger, event: &Event) -> bool {
        let facts = event.change.as_ref().and_then(|patchset| self.held.changes.get(&patchset.change));
        pipeline.manager == Manager::Dependent
            && !trigger.approvals.is_empty()
            && trigger.usernames.is_empty()
            && trigger.emails.is_empty()
            && !answers_us(pipeline, event)
            && filter::trigger_matches(trigger, event, facts.map(AsRef::as_ref), self.now).is_ok()
    }

    /// Takes what a source says, unless something newer is known, and does what follows from it.
    pub(super) fn facts(&mut self, facts: Vec<ChangeFacts>) {
        let mut news = Vec::new();
        for fact in facts {
            let id = fact.id.clone();
            self.scratch.changes.insert(id.clone());
            let known = self.held.changes.get(&id);
            if known.is_some_and(|known| known.as_of > fact.as_of || **known == fact) {
                continue;
            }
            if let Some(old) = known.cloned() {
                self.known.remove(&old);
            }
            self.known.add(&fact);
            self.held.changes.insert(id.clone(), Arc::new(fact));
            news.push(id);
        }
        for id in news {
            self.check_users(&id);
        }
    }

    /// Something else is known of a change now: items that have it may have to go.
    pub(super) fn check_users(&mut self, change: &ChangeId) {
        let Some(facts) = self.held.changes.get(change).cloned() else { return };
        for id in self.users.get(change).cloned().unwrap_or_default() {
            let Some(item) = self.held.items.get(&id).cloned() else { continue };
            if !matches!(item.phase, ItemPhase::Testing) {
                continue; // the landing looks for itself
            }
            let Some(own) = item.changes.iter().find(|own| own.merge.patchset.change == *change) else {
                continue;
            };
            let Some(pipeline) = self.held.pipeline(&item.pipeline).cloned() else { continue };
            let older = own.merge.patchset.patchset < facts.current_patchset;
            if older && pipeline.dequeue_on_new_patchset {
                self.evict(id, EvictReason::Superseded { by: facts.current_patchset });
            } else if facts.status == super::change::ChangeStatus::Abandoned {
                self.evict(id, EvictReason::Abandoned);
            } else if pipeline.manager == Manager::Dependent {
                self.check_gated(id, &pipeline, &facts, older);
            }
        }
    }

    fn check_gated(&mut self, id: ItemId, pipeline: &Pipeline, facts: &ChangeFacts, older: bool) {
        if facts.status == super::change::ChangeStatus::Merged {
            self.merged_elsewhere(id, facts);
        } else if older {
            self.evict(id, EvictReason::Superseded { by: facts.current_patchset });
        } else if let Err(what) = filter::can_merge(pipeline, facts) {
            self.evict(id, EvictReason::NotSubmittable { what });
        } else if let Err(what) = self.still_wanted(id, pipeline, facts) {
            self.evict(id, EvictReason::RequirementLost { what });
        } else if let Some(what) = self.needs_changed(id) {
            self.evict(id, EvictReason::NeedsChanged { what });
        }
    }

    /// Whether the votes of a change are still as its pipeline wants them, if they were looked at when it came.
    fn still_wanted(&self, id: ItemId, pipeline: &Pipeline, facts: &ChangeFacts) -> Result<(), String> {
        match self.held.items.get(&id) {
            Some(item) if item.strict => filter::votes_still_hold(pipeline, facts, self.now),
            _ => Ok(()),
        }
    }

    /// Somebody merged a change past the gate: what stood on it has its content, in a state that is not the branch's.
    fn merged_elsewhere(&mut self, id: ItemId, facts: &ChangeFacts) {
        self.satisfy(&facts.patchset());
        self.evict(id, EvictReason::MergedElsewhere);
    }

    /// What an event says by itself, whatever the facts are.
    fn note(&mut self, event: &Event) {
        match (event.kind, &event.change, &event.ref_update) {
            (EventKind::PatchsetCreated | EventKind::DraftPublished, Some(patchset), _) => {
                self.superseded(patchset);
            }
            (EventKind::ChangeAbandoned, Some(patchset), _) => {
                for id in self.testing(patchset) {
                    self.evict(id, EvictReason::Abandoned);
                }
            }
            (EventKind::ChangeMerged, Some(patchset), _) => {
                if let Some(facts) = self.held.changes.get(&patchset.change).cloned() {
                    self.offer_open(patchset, &facts.project);
                }
            }
            (EventKind::RefUpdated, _, Some(update)) => self.ref_moved(update),
            _ => {}
        }
    }

    /// Items that have a change and are not being landed.
    fn testing(&self, patchset: &Patchset) -> Vec<ItemId> {
        let users = self.users.get(&patchset.change).cloned().unwrap_or_default();
        let testing = |id: &ItemId| {
            self.held
                .items
                .get(id)
                .is_some_and(|item| item.has_change(&patchset.change) && item.phase == ItemPhase::Testing)
        };
        users.into_iter().filter(testing).collect()
    }

    fn superseded(&mut self, by: &Patchset) {
        for id in self.testing(by) {
            let Some(item) = self.held.items.get(&id) else { continue };
            let older = item.changes.iter().any(|own| {
                own.merge.patchset.change == by.change && own.merge.patchset.patchset < by.patchset
            });
            let dequeues = self.held.pipeline(&item.pipeline).is_some_and(|pipeline| {
                pipeline.dequeue_on_new_patchset || pipeline.manager == Manager::Dependent
            });
            if older && dequeues {
                self.evict(id, EvictReason::Superseded { by: by.patchset });
            }
        }
    }

    /// A branch moved. If the gate did not move it, every state above the old tip is worthless.
    fn ref_moved(&mut self, update: &RefUpdate) {
        let ours = |(project, branch, commit): &(_, _, Oid)| {
            *project == update.project && *branch == update.name && *commit == update.new
        };
        if self.own_tips.iter().any(ours) {
            return;
        }
        for key in self.gated_queues(&update.project) {
            self.base_moved(&key, update);
        }
    }

    /// A pipeline moved a branch: to all others that land on it, that is as if somebody else had.
    pub(super) fn base_moved_for_others(&mut self, by: &PipelineName, update: &RefUpdate) {
        for key in self.gated_queues(&update.project).iter().filter(|key| key.0 != *by) {
            self.base_moved(key, update);
        }
    }

    /// The queues that a project's changes land from.
    fn gated_queues(&self, project: &ProjectName) -> Vec<QueueKey> {
        let pipelines = self.held.config.pipelines.iter();
        let gated = pipelines.filter(|pipeline| pipeline.manager == Manager::Dependent);
        gated.map(|pipeline| (pipeline.name.clone(), self.queue_name(pipeline, project))).collect()
    }

    fn base_moved(&mut self, key: &QueueKey, update: &RefUpdate) {
        let Some(queue) = self.held.queues.get(key) else { return };
        let own = |item: &&Arc<Item>| {
            item.changes
                .iter()
                .any(|change| change.merge.project == update.project && change.merge.branch == update.name)
        };
        let concerned: Vec<Arc<Item>> =
            queue.items.iter().filter_map(|id| self.held.items.get(id)).filter(own).cloned().collect();
        // A landing moves the branch, and looks at where it stands.
        if concerned.iter().any(|item| item.phase != ItemPhase::Testing) {
            return;
        }
        // One that fails has been left where it was tested, and has its verdict; one whose need fails has no state.
        // The others stand on the first.
        let sound = concerned.iter().filter(|item| self.held.failing(item).is_empty());
        let mut states = sound.filter_map(|item| match &item.buildset.state {
            MergeState::Done(merged) => Some((item, merged)),
            _ => None,
        });
        let Some((first, merged)) = states.next() else { return };
        let stands_on_tip = merged.moved.iter().any(|moved| {
            moved.project == update.project && moved.branch == update.name && moved.base.commit == update.new
        });
        if !stands_on_tip {
            let reason = ResetReason::BaseMoved {
                project: update.project.clone(),
                branch: update.name.clone(),
                found: update.new.to_string(),
            };
            self.reset(first.id, reason);
        }
    }

    /// What an event does in one pipeline; none if the pipeline does not know the project.
    fn trigger(&mut self, pipeline: &Arc<Pipeline>, event: &Event) -> Option<Result<ItemId, Ignored>> {
        let facts = match &event.change {
            Some(patchset) => Some(self.held.changes.get(&patchset.change).cloned()?),
            None => None,
        };
        // The first that listens to such events, or else the first.
        let mut missed = None;
        for trigger in &pipeline.triggers {
            match filter::trigger_matches(trigger, event, facts.as_deref(), self.now) {
                Ok(()) => return self.let_in(pipeline, trigger, event),
                Err(nearest) => {
                    let listens = filter::listens(trigger, event).is_ok();
                    if missed.as_ref().is_none_or(|(_, before)| listens && !before) {
                        missed = Some((nearest, listens));
                    }
                }
            }
        }
        missed.map(|(nearest, listens)| Err(Ignored::NoTrigger { nearest, listens }))
    }

    fn let_in(
        &mut self,
        pipeline: &Arc<Pipeline>,
        trigger: &Trigger,
        event: &Event,
    ) -> Option<Result<ItemId, Ignored>> {
        let because = because_of(event);
        let subject = match (&event.change, &event.ref_update, &event.timer) {
            (Some(patchset), ..) => {
                let outcome = self.add_change(pipeline, patchset, &because, true);
                // Nobody has asked for what is offered after every landing.
                if !answers_us(pipeline, event)
                    && event.kind != EventKind::ProjectChangeMerged
                    && let Err(Ignored::Refused(reason)) = &outcome
                {
                    let asked = self.is_asked_by_vote(pipeline, trigger, event);
                    self.tell_refusal(pipeline, patchset, reason, &because, asked);
                }
                return Some(outcome);
            }
            (None, Some(update), _) => Subject::Ref(update.clone()),
            (None, None, Some((project, _))) => Subject::Timer { project: project.clone(), at: self.now },
            (None, None, None) => return None,
        };
        Some(self.add_subject(pipeline, subject, &because))
    }
}

/// Who or what lets something in.
fn because_of(event: &Event) -> String {
    match &event.by.username {
        Some(by) => format!("{} by {by}", event.kind.word()),
        None => event.kind.word().to_owned(),
    }
}

/// A refusal is a comment, and so an event itself: it must not be answered by another one.
fn answers_us(pipeline: &Pipeline, event: &Event) -> bool {
    let own = refusal_head(&pipeline.name);
    event.comment.as_deref().is_some_and(|comment| comment.contains(&own))
}
