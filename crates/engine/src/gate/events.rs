//! What happened at a source: newer facts first, then what they do to items that are there, then triggers.

use super::Gate;
use super::change::{ChangeFacts, RefUpdate, Subject};
use super::config::{EventKind, Manager, Pipeline, Trigger, normal_label};
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
        let mut missing = Vec::new();
        for pipeline in &pipelines {
            let Some((outcome, asked)) = self.trigger(pipeline, event) else { continue };
            if let (true, Err(Ignored::Refused(reason))) = (asked, &outcome)
                && is_missing(reason)
            {
                missing.push((pipeline, reason.clone()));
            }
            outcomes.push((pipeline.name.clone(), outcome));
        }
        let takes_it = |(_, outcome): &Outcome| matches!(outcome, Ok(_) | Err(Ignored::AlreadyThere { .. }));
        if let Some(patchset) = &event.change
            && !missing.is_empty()
            && !outcomes.iter().any(takes_it)
        {
            self.tell_what_is_missing(patchset, missing, &because_of(event));
        }
        outcomes
    }

    /// Tells the author what keeps a change out of the gate that somebody has voted it into, where no other pipeline takes
    /// it. Of a project that is in none of the configuration nothing is said: others may gate it.
    fn tell_what_is_missing(
        &mut self,
        patchset: &Patchset,
        missing: Vec<(&Arc<Pipeline>, EnqueueRefusal)>,
        because: &str,
    ) {
        let facts = self.held.changes.get(&patchset.change);
        let ours = facts.is_some_and(|facts| self.held.config.projects.contains_key(&facts.project));
        let jobless = |reason: &EnqueueRefusal| matches!(reason, EnqueueRefusal::NoJobsConfigured { .. });
        let nearest = missing.iter().find(|(_, reason)| !jobless(reason)).or(missing.first());
        if let Some((pipeline, reason)) = nearest.filter(|(_, reason)| ours || !jobless(reason)) {
            self.admonish(pipeline, patchset, reason, because);
        }
    }

    /// True if somebody has voted that a change be landed: not a program to which a trigger is limited, not a pipeline with
    /// the vote that it gives, and not in an answer to what is told here.
    fn is_asked_by_vote(&self, pipeline: &Pipeline, trigger: &Trigger, event: &Event) -> bool {
        let pipelines = &self.held.config.pipelines;
        let by_us = |label: &String| {
            let label = normal_label(label);
            pipelines.iter().any(|pipeline| filter::own_labels(pipeline).contains(&label))
        };
        pipeline.manager == Manager::Dependent
            && trigger.usernames.is_empty()
            && trigger.emails.is_empty()
            && !answers_us(pipeline, event)
            && trigger.approvals.iter().any(|(label, _)| !by_us(label))
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
                self.check_gated(&item, &pipeline, &facts, older);
            }
        }
    }

    fn check_gated(&mut self, item: &Item, pipeline: &Pipeline, facts: &ChangeFacts, older: bool) {
        let id = item.id;
        if facts.status == super::change::ChangeStatus::Merged {
            self.merged_elsewhere(id, facts);
        } else if older {
            self.evict(id, EvictReason::Superseded { by: facts.current_patchset });
        } else if let Err(what) = filter::can_merge(pipeline, facts) {
            self.evict(id, EvictReason::NotSubmittable { what });
        } else if item.strict
            && let Err(what) = filter::votes_still_hold(pipeline, facts, self.now)
        {
            self.evict(id, EvictReason::RequirementLost { what });
        } else if let Some(what) = self.needs_changed(id) {
            self.evict(id, EvictReason::NeedsChanged { what });
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

    /// What an event does in one pipeline, and whether somebody's vote asked for it; none if the pipeline does not know the
    /// project.
    fn trigger(
        &mut self,
        pipeline: &Arc<Pipeline>,
        event: &Event,
    ) -> Option<(Result<ItemId, Ignored>, bool)> {
        let facts = match &event.change {
            Some(patchset) => Some(self.held.changes.get(&patchset.change).cloned()?),
            None => None,
        };
        // The first that listens to such events, or else the first.
        let mut missed = None;
        for trigger in &pipeline.triggers {
            match filter::trigger_matches(trigger, event, facts.as_deref(), self.now) {
                Ok(()) => {
                    let asked = self.is_asked_by_vote(pipeline, trigger, event);
                    return self.let_in(pipeline, event).map(|outcome| (outcome, asked));
                }
                Err(nearest) => {
                    let listens = filter::listens(trigger, event).is_ok();
                    if missed.as_ref().is_none_or(|(_, before)| listens && !before) {
                        missed = Some((nearest, listens));
                    }
                }
            }
        }
        missed.map(|(nearest, listens)| (Err(Ignored::NoTrigger { nearest, listens }), false))
    }

    fn let_in(&mut self, pipeline: &Arc<Pipeline>, event: &Event) -> Option<Result<ItemId, Ignored>> {
        let because = because_of(event);
        let subject = match (&event.change, &event.ref_update, &event.timer) {
            (Some(patchset), ..) => {
                let outcome = self.add_change(pipeline, patchset, &because, true);
                // Nobody has asked for what is offered after every landing.
                if !answers_us(pipeline, event)
                    && event.kind != EventKind::ProjectChangeMerged
                    && let Err(Ignored::Refused(reason)) = &outcome
                {
                    self.tell_refusal(pipeline, patchset, reason, &because);
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

/// True for what people may still give to a change, or to its project.
fn is_missing(reason: &EnqueueRefusal) -> bool {
    matches!(
        reason,
        EnqueueRefusal::Requirement { .. }
            | EnqueueRefusal::NotSubmittable { .. }
            | EnqueueRefusal::NoJobsConfigured { .. }
    )
}

/// A refusal is a comment, and so an event itself: it must not be answered by another one.
fn answers_us(pipeline: &Pipeline, event: &Event) -> bool {
    let own = refusal_head(&pipeline.name);
    event.comment.as_deref().is_some_and(|comment| comment.contains(&own))
}
