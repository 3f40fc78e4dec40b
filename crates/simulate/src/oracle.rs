//! A naive gate that tests one change at a time, in the order of the queue, and lands what passes. The real one must
//! come to the same end (I7).

use crate::check::Violation;
use crate::content::Content;
use crate::outcome::Run;
use crate::required::{self, Required};
use crate::world::{StateRecord, World, revisions, workspace};
use assay_engine::gate::change::ChangeStatus;
use assay_engine::gate::config::{Manager, NOOP};
use assay_engine::gate::ids::{Patchset, QueueName};
use assay_engine::gate::io::MergeFailure;
use assay_engine::gate::item::{Item, ItemEnd, ItemOutcome, ItemPhase};
use assay_engine::gate::reason::{EvictReason, FailReason};
use assay_engine::ids::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// The serial gate of one world.
struct Serial<'w> {
    world: &'w mut World,
    /// What it has landed, in each queue and branch.
    landed: BTreeMap<(QueueName, usize), Content>,
    /// Everything that the real gate landed.
    all: Content,
    found: Vec<Violation>,
}

/// What differs from the serial gate.
pub fn differences(world: &mut World) -> Vec<Violation> {
    let all = world
        .database
        .ended
        .values()
        .filter(|item| matches!(outcome(item), Some(ItemOutcome::Landed { .. })))
        .flat_map(|item| &item.changes)
        .filter_map(|change| world.git.revision(&change.merge.revision))
        .collect();
    let config = world.config();
    let mut serial = Serial { world, landed: BTreeMap::new(), all, found: Vec::new() };
    for pipeline in &config.pipelines {
        let order = serial.world.checks.order.get(&pipeline.name).cloned().unwrap_or_default();
        for id in order {
            let Some(item) = serial.world.database.ended.get(&id).cloned() else { continue };
            serial.item(&item, pipeline.manager);
        }
    }
    serial.branches_hold_it();
    serial.found
}

fn outcome(item: &Item) -> Option<&ItemOutcome> {
    match &item.phase {
        ItemPhase::Ended(end) => Some(&end.outcome),
        _ => None,
    }
}

impl Serial<'_> {
    fn require(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.found.push(Violation { invariant: "I7", step: self.world.steps, what: what() });
        }
    }

    fn item(&mut self, item: &Item, manager: Manager) {
        let ItemPhase::Ended(end) = &item.phase else { return };
        let gated = manager == Manager::Dependent;
        let state = self.world.states.get(&item.buildset.identity).cloned();
        match &end.outcome {
            ItemOutcome::Landed { .. } | ItemOutcome::Passed => {
                if let Some(state) = state {
                    if gated {
                        self.same_base(item, &state);
                    }
                    let failing = self.failing(item, &state);
                    let pure = self.world.outcomes.is_pure();
                    self.require(failing.is_empty() || !pure, || {
                        format!(
                            "item {} ({}) passed, and the serial gate fails it: {failing:?}",
                            item.id, item.subject
                        )
                    });
                }
                if matches!(end.outcome, ItemOutcome::Landed { .. }) {
                    self.land(item);
                }
            }
            ItemOutcome::Failed => self.failed(item, end, gated),
            ItemOutcome::Evicted { reason } => self.evicted(item, reason, end.at),
            // Looked at when it was said.
            ItemOutcome::Refused { .. } => {}
        }
    }

    fn land(&mut self, item: &Item) {
        for change in &item.changes {
            let branch = self.world.git.find_branch(&change.merge.project, &change.merge.branch);
            let revision = self.world.git.revision(&change.merge.revision);
            if let (Some(branch), Some(revision)) = (branch, revision) {
                self.landed.entry((item.queue.clone(), branch)).or_default().insert(revision);
            }
        }
    }

    fn own(&self, item: &Item) -> Content {
        item.changes.iter().filter_map(|change| self.world.git.revision(&change.merge.revision)).collect()
    }

    /// The item's last state is what the serial gate has landed, and the item, and what others pushed.
    fn same_base(&mut self, item: &Item, state: &StateRecord) {
        let own = self.own(item);
        for spot in &state.speculation.spots {
            let landed = self.landed.get(&(item.queue.clone(), spot.branch)).cloned().unwrap_or_default();
            let others: Content = spot.content.iter().filter(|number| !own.has(*number)).collect();
            let by_gate: Content = others.iter().filter(|number| self.all.has(*number)).collect();
            let surplus = by_gate.without(&landed);
            let missing = landed.without(&by_gate);
            let branch = &self.world.git.branches[spot.branch];
            let name = format!("{} {}", branch.project, branch.name);
            let strangers = others.without(&branch.content);
            let told = (self.names(&surplus), self.names(&missing), self.names(&strangers));
            self.require(surplus.is_empty() && missing.is_empty() && strangers.is_empty(), || {
                format!(
                    "item {} ({}) was judged on {name} with {:?} too many, {:?} missing, and {:?} that never landed",
                    item.id, item.subject, told.0, told.1, told.2
                )
            });
        }
    }

    fn names(&self, content: &Content) -> Vec<String> {
        let name = |number: usize| match &self.world.git.revisions[number].patchset {
            Some(patchset) => patchset.to_string(),
            None => format!("push {number}"),
        };
        content.iter().map(name).collect()
    }

    /// The voting jobs that the configuration asked for when the item was judged, and that fail on this state.
    fn failing(&mut self, item: &Item, state: &StateRecord) -> Vec<String> {
        let config = self.world.checks.judged.get(&item.id).cloned().unwrap_or_else(|| self.world.config());
        let of = item.changes.last().map(|change| change.merge.patchset.change.number);
        let mut fails: Vec<bool> = Vec::new();
        let mut names = Vec::new();
        for Required { job, parent } in required::jobs(&config, item) {
            let tree = state.visible(&self.world.git, workspace(&job, item).as_ref());
            let run = Run { job: job.name.as_str(), of, tree: &tree, lost: 0 };
            let gerrit = &self.world.gerrit;
            let itself = job.name.as_str() != NOOP
                && !self.world.outcomes.verdict(run, |change| revisions(gerrit, change));
            let above = parent.is_some_and(|parent| fails[parent]);
            fails.push(itself || above);
            if job.voting && (itself || above) {
                names.push(job.name.to_string());
            }
        }
        names
    }

    fn failed(&mut self, item: &Item, end: &ItemEnd, gated: bool) {
        for reason in &end.failures {
            match reason {
                FailReason::JobFailed { .. } => {
                    let Some(state) = self.world.states.get(&item.buildset.identity).cloned() else {
                        continue;
                    };
                    if gated {
                        self.same_base(item, &state);
                    }
                    let failing = self.failing(item, &state);
                    let pure = self.world.outcomes.is_pure();
                    self.require(!failing.is_empty() || !pure || !gated, || {
                        format!("item {} ({}) failed, and the serial gate passes it", item.id, item.subject)
                    });
                }
                FailReason::Merge(MergeFailure::Conflict { .. }) if gated => self.conflicts(item),
                FailReason::DidNotLand { why } => {
                    let refused = self.world.checks.refused.contains(&item.id);
                    self.require(refused, || {
                        format!("item {} did not land, and nobody refused it: {why}", item.id)
                    });
                }
                FailReason::NeededFailing { needed } => {
                    let landed = needed.iter().find(|need| self.has_landed(need, end.at)).cloned();
                    self.require(landed.is_none(), || {
                        format!("item {} failed for {landed:?}, which landed", item.id)
                    });
                }
                FailReason::Merge(_) => {}
            }
        }
    }

    fn has_landed(&self, patchset: &Patchset, before: Timestamp) -> bool {
        let landed = |item: &&std::sync::Arc<Item>| {
            matches!(&item.phase, ItemPhase::Ended(end)
                if end.at < before && matches!(end.outcome, ItemOutcome::Landed { .. }))
                && item.changes.iter().any(|change| change.merge.patchset == *patchset)
        };
        self.world.database.ended.values().any(|item| landed(&item))
    }

    /// The serial gate cannot merge it either.
    fn conflicts(&mut self, item: &Item) {
        let mut branches: BTreeMap<usize, Content> = BTreeMap::new();
        let mut clash = false;
        for change in &item.changes {
            let branch = self.world.git.find_branch(&change.merge.project, &change.merge.branch);
            let revision = self.world.git.revision(&change.merge.revision);
            let (Some(branch), Some(revision)) = (branch, revision) else { continue };
            let real = &self.world.git.branches[branch].content;
            let base = branches.entry(branch).or_insert_with(|| {
                // What others pushed may or may not have been there: only it could make a difference.
                let mut base: Content = real.iter().filter(|number| !self.all.has(*number)).collect();
                base.extend(&self.landed.get(&(item.queue.clone(), branch)).cloned().unwrap_or_default());
                base
            });
            match self.world.git.merge(base, revision) {
                Ok(merged) => *base = merged,
                Err(_) => clash = true,
            }
        }
        self.require(clash, || {
            format!("item {} ({}) has a merge conflict, and the serial gate merges it", item.id, item.subject)
        });
    }

    fn evicted(&mut self, item: &Item, reason: &EvictReason, at: Timestamp) {
        let numbers: BTreeSet<u64> =
            item.changes.iter().map(|change| change.merge.patchset.change.number).collect();
        let changes = || numbers.iter().filter_map(|number| self.world.gerrit.changes.get(number));
        let so = match reason {
            EvictReason::Superseded { by } => changes().any(|change| change.current() >= *by),
            EvictReason::MergedElsewhere => changes().any(|change| change.status == ChangeStatus::Merged),
            EvictReason::Abandoned => numbers.iter().any(|number| self.world.given_up.contains(number)),
            EvictReason::NeedLost { needed } => !self.has_landed(needed, at),
            // The others are looked at when they happen.
            _ => true,
        };
        self.require(so, || format!("item {} was taken out because {reason}, and that is not so", item.id));
    }

    /// What the real branches hold of what the gate landed is what the serial gate landed.
    fn branches_hold_it(&mut self) {
        for number in 0..self.world.git.branches.len() {
            let branch = &self.world.git.branches[number];
            let real: Content = branch.content.iter().filter(|number| self.all.has(*number)).collect();
            let mut serial = Content::default();
            let mine = self.landed.iter().filter(|((_, branch), _)| *branch == number);
            mine.for_each(|(_, content)| serial.extend(content));
            let name = format!("{} {}", branch.project, branch.name);
            let told = (self.names(&real.without(&serial)), self.names(&serial.without(&real)));
            self.require(told.0.is_empty() && told.1.is_empty(), || {
                format!("{name} holds {:?} too many, and {:?} is missing", told.0, told.1)
            });
        }
    }
}
