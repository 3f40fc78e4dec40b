//! What must hold of the gate at every moment. The numbers are those of the project's list of invariants.

use crate::content::Content;
use crate::outcome::ChangeRef;
use crate::required::{self, Required};
use crate::rows::{Database, difference};
use crate::world::{BuildRecord, BuildState, StateRecord, World, revisions};
use assay_engine::gate::Gate;
use assay_engine::gate::change::ChangeStatus;
use assay_engine::gate::config::{Config, Manager, NOOP};
use assay_engine::gate::ids::{ItemId, JobName, PipelineName, SemaphoreName, Uuid};
use assay_engine::gate::io::{LandRequest, LandResult, Landing};
use assay_engine::gate::item::{Item, ItemJob, ItemOutcome, ItemPhase, JobState, MergeState};
use assay_engine::gate::reason::{FailReason, Wait};
use assay_engine::gate::snapshot::Snapshot;
use assay_engine::outcome::OutcomeClass;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{invariant} does not hold after input {step}: {what}")]
pub struct Violation {
    /// Which one of the list.
    pub invariant: &'static str,
    /// After which input.
    pub step: u64,
    /// What was seen.
    pub what: String,
}

impl Violation {
    /// Of this invariant; the step is filled in when it is recorded.
    pub fn new(invariant: &'static str, what: String) -> Self {
        Self { invariant, step: 0, what }
    }
}

/// The checker and what it remembers.
#[derive(Debug, Default)]
pub struct Checks {
    /// The expensive ones after every so many inputs; 0 for never.
    pub whole_every: u64,
    /// An input is about to be repeated: what is seen now is half of it.
    pub(crate) is_paused: bool,
    /// What was found; the first is what matters.
    pub violations: Vec<Violation>,
    step: u64,
    live: HashMap<(ItemId, JobName), Uuid>,
    semaphores_in_use: bool,
    /// Somebody has pushed between a look and a submit.
    pub sneaked: bool,
    /// Items as a serial gate would take them.
    pub order: BTreeMap<PipelineName, Vec<ItemId>>,
    /// Items whose landing was refused by the review system.
    pub refused: BTreeSet<ItemId>,
    /// The configuration under which each item was judged last.
    pub(crate) judged: BTreeMap<ItemId, Arc<Config>>,
}

impl Checks {
    /// True once something was found.
    pub fn is_broken(&self) -> bool {
        !self.violations.is_empty()
    }

    /// True if what is checked after every input is checked after this one.
    pub(crate) fn looks(&self) -> bool {
        self.whole_every == 1 && !self.is_paused
    }

    /// Records a violation.
    pub fn found(&mut self, mut violation: Violation) {
        violation.step = self.step;
        self.violations.push(violation);
    }

    fn require(&mut self, holds: bool, invariant: &'static str, what: impl FnOnce() -> String) {
        if !holds {
            self.found(Violation::new(invariant, what()));
        }
    }

    /// A row of an item is about to be stored in place of `before`.
    pub(crate) fn item_saved(&mut self, world: &World, before: Option<&Item>, item: &Item) {
        let Some(before) = before else {
            self.is_new(world, item);
            return;
        };
        self.require(before.is_live() || before == item, "I20", || {
            format!("item {} has ended and is changed", item.id)
        });
        self.require(before.buildset.number <= item.buildset.number, "I20", || {
            format!("item {} goes back to buildset {}", item.id, item.buildset.number)
        });
        if before.buildset.number < item.buildset.number {
            self.require(item.buildset.because.is_some(), "I8", || {
                format!("item {} starts anew for no reason", item.id)
            });
            self.goes_behind_the_landed(&world.database, item);
        }
        let was_landing = matches!(before.phase, ItemPhase::Landing { .. });
        match &item.phase {
            ItemPhase::Landing { request, .. } if !was_landing => self.is_landing(world, item, request),
            ItemPhase::Ended(end) if before.is_live() => {
                self.has_ended(world, item, &end.outcome, &end.failures);
            }
            _ => {}
        }
    }

    /// Others may have landed past an item that failed; if it is tested anew, because a new configuration does not ask
    /// for what it failed, then that is on what they landed.
    fn goes_behind_the_landed(&mut self, database: &Database, item: &Item) {
        let Some(order) = self.order.get_mut(&item.pipeline) else { return };
        let landed = |id: &ItemId| {
            database.ended.get(id).is_some_and(|other| {
                other.queue == item.queue
                    && matches!(&other.phase, ItemPhase::Ended(end)
                        if matches!(end.outcome, ItemOutcome::Landed { .. }))
            })
        };
        let (own, last) = (order.iter().position(|id| *id == item.id), order.iter().rposition(landed));
        if let (Some(own), Some(last)) = (own, last)
            && own < last
        {
            order[own..=last].rotate_left(1);
        }
    }

    /// Nobody lands past somebody who does not fail.
    fn overtakes_nobody(&mut self, world: &World, item: &Item) {
        let snapshot = world.gate.held();
        let ahead = self.order.get(&item.pipeline).into_iter().flatten();
        let passed = ahead
            .take_while(|id| **id != item.id)
            .filter_map(|id| snapshot.items.get(id))
            .find(|other| other.is_live() && other.queue == item.queue && snapshot.failing(other).is_empty());
        let passed = passed.map(|other| other.id);
        self.require(passed.is_none(), "I4", || {
            format!("item {} lands past item {passed:?}, which does not fail", item.id)
        });
    }

    fn is_new(&mut self, world: &World, item: &Item) {
        if !item.is_live() {
            return;
        }
        self.order.entry(item.pipeline.clone()).or_default().push(item.id);
        let config = world.config();
        let keeps_old = config.pipeline(&item.pipeline).is_some_and(|it| !it.dequeue_on_new_patchset);
        for change in &item.changes {
            let own = &change.merge.patchset;
            let id = &own.change;
            let same = |other: &Item| {
                if keeps_old {
                    return other.changes.iter().any(|change| change.merge.patchset == *own);
                }
                other.has_change(id)
            };
            let twin = world
                .database
                .items
                .values()
                .find(|other| other.id != item.id && other.pipeline == item.pipeline && same(other));
            let twin = twin.map(|twin| twin.id);
            self.require(twin.is_none(), "I28", || {
                format!("change {id} is in {} twice: items {} and {twin:?}", item.pipeline, item.id)
            });
        }
    }

    /// Decided to land: everything is tested, on that very tree, and what it needs is in or comes with it.
    fn is_landing(&mut self, world: &World, item: &Item, request: &LandRequest) {
        self.judged.insert(item.id, world.config());
        self.overtakes_nobody(world, item);
        let Some(state) = world.states.get(&item.buildset.identity) else {
            self.found(Violation::new("I1", format!("item {} lands a state that was never made", item.id)));
            return;
        };
        for member in &request.members {
            let branch = world.git.find_branch(&member.project, &member.branch);
            let spot = state.speculation.spots.iter().find(|spot| Some(spot.branch) == branch);
            let of_branch =
                |other: &&Landing| (&other.project, &other.branch) == (&member.project, &member.branch);
            let last = request.members.iter().rfind(of_branch);
            let is_last = last.is_some_and(|last| last.patchset == member.patchset);
            self.require(!is_last || spot.is_some_and(|spot| spot.tip == member.tested), "I1", || {
                format!("{} lands as {:?}, and its state is {spot:?}", member.patchset, member.tested)
            });
        }
        self.require(item.ahead.is_none(), "I4", || {
            format!("item {} lands before item {:?}, on which it stands", item.id, item.ahead)
        });
        self.all_passed(world, item, state);
        self.require(request.members.len() == item.changes.len(), "I4", || {
            format!("item {} lands {} of its {} changes", item.id, request.members.len(), item.changes.len())
        });
        let together: BTreeSet<u64> =
            request.members.iter().map(|member| member.patchset.change.number).collect();
        for member in &request.members {
            let number = member.patchset.change.number;
            let Some(change) = world.gerrit.changes.get(&number) else { continue };
            if change.current() != member.patchset.patchset {
                continue;
            }
            for need in world.gerrit.needs(number) {
                let open = world
                    .gerrit
                    .changes
                    .get(&need)
                    .is_some_and(|need| need.status.is_open() && need.current() > 0);
                self.require(!open || together.contains(&need), "I4", || {
                    format!("change {number} lands before change {need}, which it needs")
                });
            }
        }
    }

    /// Every voting job that the configuration asks for has passed, in a build that was run.
    fn all_passed(&mut self, world: &World, item: &Item, state: &StateRecord) {
        let required = required::jobs(&world.config(), item);
        self.require(!required.is_empty(), "I6", || format!("item {} passes without a job", item.id));
        for wanted in required.iter().filter(|wanted| wanted.job.voting) {
            let name = &wanted.job.name;
            let Some(job) = item.buildset.jobs.iter().find(|job| job.job == *name) else {
                self.found(Violation::new("I2", format!("item {} passes without {name}", item.id)));
                continue;
            };
            self.require(job.state.is_success(), "I2", || {
                format!("item {} passes, and {name} is {:?}", item.id, job.state)
            });
            if name.as_str() != NOOP {
                self.was_run(world, item, job, wanted, state);
            }
        }
    }

    fn was_run(&mut self, world: &World, item: &Item, job: &ItemJob, wanted: &Required, state: &StateRecord) {
        let Some(build) = job.state.build() else { return };
        let Some(record) = world.builds.get(&build.uuid) else {
            self.found(Violation::new("I5", format!("build {} was never run", build.uuid)));
            return;
        };
        let passed = matches!(&record.phase, BuildState::Ended(result) if result.is_success());
        self.require(passed && record.job.name == job.job, "I5", || {
            format!("item {} takes {record:?} for a success of {}", item.id, job.job)
        });
        self.require(!required::is_other_work(&record.job, &wanted.job), "I5", || {
            format!("item {} takes {record:?} for {:?}", item.id, wanted.job)
        });
        self.same_tree(world, item, job, record, state);
    }

    /// A result counts only for the tree that it was given on.
    fn same_tree(
        &mut self,
        world: &World,
        item: &Item,
        job: &ItemJob,
        record: &BuildRecord,
        state: &StateRecord,
    ) {
        if record.state == Some(item.buildset.identity) {
            return;
        }
        let reused = matches!(job.state, JobState::Reused { .. });
        let tested = record.state.and_then(|state| world.states.get(&state));
        let seen = |state: &StateRecord| state.visible(&world.git, record.hermetic.as_ref());
        let equal = record.hermetic.is_some() && tested.is_some_and(|tested| seen(tested) == seen(state));
        self.require(reused && equal, "I5", || {
            format!("item {} takes the result of {} from another tree", item.id, job.job)
        });
    }

    fn has_ended(&mut self, world: &World, item: &Item, outcome: &ItemOutcome, failures: &[FailReason]) {
        if matches!(outcome, ItemOutcome::Passed | ItemOutcome::Failed) {
            self.judged.insert(item.id, world.config());
        }
        match outcome {
            ItemOutcome::Landed { .. } => self.has_landed(world, item),
            ItemOutcome::Passed => {
                if let (MergeState::Done(_), Some(state)) =
                    (&item.buildset.state, world.states.get(&item.buildset.identity))
                {
                    self.all_passed(world, item, state);
                }
            }
            ItemOutcome::Failed => self.has_failed(world, item, failures),
            ItemOutcome::Evicted { reason } => {
                let so = crate::refusal::eviction_is_so(world, self, item, reason);
                self.require(so, "I7", || {
                    format!("item {} ({}) is taken out: {reason}, and that is not so", item.id, item.subject)
                });
            }
            ItemOutcome::Refused { .. } => {}
        }
    }

    /// The tree in the branch is the tree that was tested.
    fn has_landed(&mut self, world: &World, item: &Item) {
        let state = world.states.get(&item.buildset.identity);
        for change in &item.changes {
            let patchset = &change.merge.patchset;
            let model = world.gerrit.changes.get(&patchset.change.number);
            let merged = model.is_some_and(|model| {
                model.status == ChangeStatus::Merged && model.newest().oid == change.merge.revision
            });
            self.require(merged, "I1", || format!("{patchset} counts as landed, and is not merged"));
            self.require(model.is_none_or(|model| model.current() == patchset.patchset), "I3", || {
                format!("{patchset} counts as landed, and is not the newest patchset")
            });
        }
        let last = item.changes.last().map(|change| change.merge.patchset.change.number);
        let landed = last.and_then(|number| world.merged_tips.get(&number));
        let Some((branch, tip)) = landed else { return };
        let tested =
            state.and_then(|state| state.speculation.spots.iter().find(|spot| spot.branch == *branch));
        self.require(tested.is_some_and(|tested| tested.tip.tree == tip.tree), "I1", || {
            format!("item {} landed as {tip:?}, and was tested as {tested:?}", item.id)
        });
    }

    fn has_failed(&mut self, world: &World, item: &Item, failures: &[FailReason]) {
        self.require(!failures.is_empty(), "I8", || format!("item {} failed for no reason", item.id));
        let only_jobs = failures.iter().all(|reason| matches!(reason, FailReason::JobFailed { .. }));
        self.require(!only_jobs || item.ahead.is_none(), "I8", || {
            format!("item {} is blamed while it stands on item {:?}", item.id, item.ahead)
        });
        // Only a gate may not put anybody out for what the infrastructure did.
        let gated = is_dependent(world, &item.pipeline);
        let required = required::jobs(&world.config(), item);
        for reason in failures {
            let FailReason::JobFailed { jobs } = reason else { continue };
            let voting = |name: &JobName| required.iter().any(|it| it.job.voting && it.job.name == *name);
            let culprit = jobs.iter().filter(|name| voting(name)).any(|name| {
                let job = item.buildset.jobs.iter().find(|job| job.job == *name);
                let build = job.and_then(|job| job.state.build());
                let record = build.and_then(|build| world.builds.get(&build.uuid));
                record.is_some_and(|record| {
                    let ours = record.state == Some(item.buildset.identity) || record.state.is_none();
                    let product = matches!(&record.phase, BuildState::Ended(result)
                        if !result.is_success() && (!gated || result.class != OutcomeClass::Infrastructure));
                    ours && product
                })
            });
            self.require(culprit, "I8", || {
                format!("item {} is put out, and no job failed it on its tree: {jobs:?}", item.id)
            });
        }
    }

    /// A build is about to be started.
    pub(crate) fn build_starts(&mut self, world: &World, record: &BuildRecord) {
        self.require(!world.builds.contains_key(&record.uuid), "I10", || {
            format!("build {} is started twice", record.uuid)
        });
        let key = (record.item, record.job.name.clone());
        let other = self.live.insert(key, record.uuid);
        let running = other.and_then(|other| world.builds.get(&other)).is_some_and(BuildRecord::is_live);
        self.require(!running, "I10", || format!("{} of item {} runs twice", record.job.name, record.item));
        self.semaphores_in_use |= !record.job.semaphores.is_empty();
        let Some(state) = record.state.and_then(|state| world.states.get(&state)) else { return };
        let content = state.speculation.content();
        // What landed since the state was made is no news to the job.
        let mut root = state.speculation.root();
        let spots = &state.speculation.spots;
        for spot in spots {
            root.extend(&world.git.branches[spot.branch].content);
        }
        let mut told = Content::default();
        for patchset in &record.changes {
            let change = ChangeRef { number: patchset.change.number, patchset: Some(patchset.patchset) };
            told.extend(&revisions(&world.gerrit, change));
        }
        let made = content.without(&root);
        let dependent = is_dependent(world, &record.pipeline);
        self.require(content.covers(&told) && (!dependent || told.covers(&made)), "I5", || {
            format!(
                "{} of item {} says it tests {}, and its tree holds {made:?}",
                record.job.name,
                record.item,
                crate::world::list(&record.changes)
            )
        });
    }

    /// The order of a queue was changed: what has ended stays before what lives.
    pub(crate) fn promoted(&mut self, database: &Database) {
        for order in self.order.values_mut() {
            order.sort_by_key(|id| match database.items.get(id) {
                None => (0, 0),
                Some(item) => (1, item.position),
            });
        }
    }

    /// A landing has come to an end at the review system.
    pub(crate) fn landing_done(&mut self, request: &LandRequest, result: &LandResult) {
        if matches!(result, LandResult::Refused { .. } | LandResult::Partial { .. }) {
            self.refused.insert(request.item);
        }
    }

    /// Everything that must hold now.
    pub(crate) fn after_step(&mut self, world: &World) {
        self.step = world.steps;
        if self.is_paused {
            return;
        }
        if self.semaphores_in_use {
            self.semaphores(world);
        }
        if self.whole_every > 0 && world.steps.is_multiple_of(self.whole_every) {
            self.whole(world);
        }
    }

    fn semaphores(&mut self, world: &World) {
        let mut held: BTreeMap<&SemaphoreName, u32> = BTreeMap::new();
        let live =
            self.live.values().filter_map(|uuid| world.builds.get(uuid)).filter(|build| build.is_live());
        for build in live {
            for semaphore in &build.job.semaphores {
                *held.entry(semaphore).or_default() += 1;
            }
        }
        let config = world.config();
        let over = held
            .into_iter()
            .find(|(name, count)| *count > config.semaphores.get(*name).copied().unwrap_or(1).max(1))
            .map(|(name, count)| format!("{count} builds hold {name}"));
        if let Some(what) = over {
            self.found(Violation::new("I15", what));
        }
    }

    /// The expensive ones.
    pub(crate) fn whole(&mut self, world: &World) {
        let rebuilt = Gate::rebuild(world.database.rows(), 0);
        if let Some(difference) = difference(&rebuilt.rows(), &world.gate.rows()) {
            self.found(Violation::new("I28", format!("rebuilt is not what lives: {difference}")));
        }
        let snapshot = world.gate.held();
        for queue in snapshot.queues.values() {
            for (index, id) in queue.items.iter().enumerate() {
                let Some(item) = snapshot.items.get(id) else {
                    self.found(Violation::new(
                        "I24",
                        format!("a queue holds item {id}, which does not exist"),
                    ));
                    continue;
                };
                self.stands_on_sound(snapshot, item);
                self.waits_for_something(world, snapshot, item, queue.is_active(index));
            }
        }
        self.builds_are_wanted(world, snapshot);
    }

    /// Nobody stands on somebody who fails, unless it fails itself because of what it needs: then it stays where it is.
    fn stands_on_sound(&mut self, snapshot: &Snapshot, item: &Item) {
        let Some(ahead) = item.ahead.and_then(|ahead| snapshot.items.get(&ahead)) else { return };
        let failing = snapshot.failing(ahead);
        let needs =
            snapshot.failing(item).iter().any(|reason| matches!(reason, FailReason::NeededFailing { .. }));
        self.require(failing.is_empty() || needs, "I25", || {
            format!("item {} stands on item {}, which fails: {failing:?}", item.id, ahead.id)
        });
    }

    /// Every wait has a reason that is true in the world.
    fn waits_for_something(&mut self, world: &World, snapshot: &Snapshot, item: &Item, active: bool) {
        let waits = snapshot.why(item.id);
        self.require(!waits.is_empty(), "I24", || {
            format!("item {} ({}) waits and nothing says for what: {item:?}", item.id, item.subject)
        });
        for wait in &waits {
            let real = match wait {
                Wait::Running { job, .. } | Wait::Worker { job, .. } => {
                    let uuid = self.live.get(&(item.id, job.clone()));
                    uuid.and_then(|uuid| world.builds.get(uuid)).is_some_and(BuildRecord::is_live)
                }
                Wait::MergeBackoff { until, .. } | Wait::InfraBackoff { until, .. } => {
                    world.gate.next_deadline().is_some_and(|deadline| deadline <= *until)
                }
                Wait::Merging { .. } => world.is_awaited(item.merge_id()) || item.ahead.is_some(),
                Wait::Landing { .. } => world.is_landing(item.id),
                _ => true,
            };
            self.require(real, "I24", || format!("item {} says \"{wait}\", and that is not so", item.id));
            let since = wait.since();
            self.require(since >= item.enqueued_at && since <= world.now, "I24", || {
                format!(
                    "item {} says \"{wait}\" since {since:?}, and is there since {:?}",
                    item.id, item.enqueued_at
                )
            });
        }
        if active && matches!(item.buildset.state, MergeState::Done(_) | MergeState::NotNeeded { .. }) {
            let waiting = item.buildset.jobs.iter().filter(|job| job.state == JobState::Waiting);
            for job in waiting {
                let named = waits.iter().any(|wait| match wait {
                    Wait::Parent { job: name, .. } | Wait::Semaphore { job: name, .. } => *name == job.job,
                    Wait::HoldFollowing { .. } | Wait::NeedFailing { .. } | Wait::Turn { .. } => true,
                    _ => false,
                });
                self.require(named, "I16", || {
                    format!("{} of item {} could run and does not", job.job, item.id)
                });
            }
        }
    }

    /// Every build that runs is wanted by an item, and the other way round.
    fn builds_are_wanted(&mut self, world: &World, snapshot: &Snapshot) {
        let mut wanted = BTreeSet::new();
        for item in snapshot.items.values() {
            for job in &item.buildset.jobs {
                if let JobState::Running(build) = &job.state {
                    wanted.insert(build.uuid);
                    let live = world.builds.get(&build.uuid).is_some_and(BuildRecord::is_live);
                    self.require(live, "I9", || {
                        format!("item {} waits for build {}, which does not run", item.id, build.uuid)
                    });
                }
            }
        }
        self.live.retain(|_, uuid| world.builds.get(uuid).is_some_and(BuildRecord::is_live));
        let lost: Vec<Uuid> = self.live.values().filter(|uuid| !wanted.contains(uuid)).copied().collect();
        for uuid in lost {
            self.found(Violation::new("I9", format!("build {uuid} runs and nobody waits for it")));
        }
    }

    /// When nothing is under way any more and the faults have stopped.
    pub fn at_end(&mut self, world: &World) {
        self.whole(world);
        let stuck: Vec<String> = world
            .database
            .items
            .values()
            .map(|item| format!("{} (item {})", item.subject, item.id))
            .collect();
        self.require(stuck.is_empty(), "I24", || format!("still in a queue: {}", stuck.join(", ")));
        for item in world.database.ended.values() {
            let missing = (0..=item.reports).any(|number| {
                world.database.reports.contains_key(&(item.id, number))
                    && !world.delivered.contains(&(item.id, number))
            });
            self.require(!missing, "I19", || format!("a report of item {} was never delivered", item.id));
            self.is_told(world, item);
        }
        for facts in world.gate.held().changes.values() {
            let real = world.gerrit.facts(facts.id.number, facts.as_of);
            self.require(real.is_none_or(|real| real == **facts), "I18", || {
                format!("what is known of change {} is not what is so", facts.id)
            });
        }
    }

    /// A verdict was told.
    fn is_told(&mut self, world: &World, item: &Item) {
        let config = world.config();
        let Some(pipeline) = config.pipeline(&item.pipeline) else { return };
        let ItemPhase::Ended(end) = &item.phase else { return };
        let reporters = match end.outcome {
            ItemOutcome::Landed { .. } | ItemOutcome::Passed => &pipeline.reporters.success,
            ItemOutcome::Failed => &pipeline.reporters.failure,
            ItemOutcome::Evicted { .. } | ItemOutcome::Refused { .. } => return,
        };
        let told = world.delivered.range((item.id, 0)..=(item.id, u32::MAX)).count();
        let disabled = pipeline.disable_after.is_some();
        let least = reporters.len() + pipeline.reporters.start.len();
        self.require(disabled || told >= least, "I19", || {
            format!("item {} ended, and {told} of {least} reports were delivered", item.id)
        });
    }
}

fn is_dependent(world: &World, pipeline: &PipelineName) -> bool {
    world.config().pipeline(pipeline).is_some_and(|pipeline| pipeline.manager == Manager::Dependent)
}

#[cfg(test)]
mod lies;
