//! Letting things in: requirements, what a change needs ahead of it, itself, and what needs it behind it.

use super::change::{ChangeFacts, ChangeStatus, Subject};
use super::config::{EventKind, Manager, MergeMode, Pipeline};
use super::ids::{BranchName, ChangeId, ItemId, Patchset, PipelineName, ProjectName, QueueName};
use super::io::{Effect, Event, ToMerge};
use super::item::{Buildset, Item, ItemChange, ItemEnd, ItemOutcome, ItemPhase, MergeState};
use super::jobs::{self, Target};
use super::reason::{EnqueueRefusal, EvictReason, Ignored, ResetReason};
use super::report::{Kind, comment};
use super::rows::GateRow;
use super::snapshot::{ChangeQueue, QueueKey};
use super::{Gate, filter};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Gate {
    /// Lets a change into a pipeline with what it needs, or says why not. `strict`: its requirements must hold.
    pub(super) fn add_change(
        &mut self,
        pipeline: &Arc<Pipeline>,
        patchset: &Patchset,
        because: &str,
        strict: bool,
    ) -> Result<ItemId, Ignored> {
        if let Some(item) = self.held.item_of(&pipeline.name, &patchset.change)
            && item.changes.iter().any(|own| own.merge.patchset == *patchset)
        {
            return Err(Ignored::AlreadyThere { item: item.id });
        }
        let facts = self.fit(pipeline, &patchset.change, Some(patchset.patchset), strict)?;
        match pipeline.manager {
            Manager::Dependent | Manager::Serial => self.add_in_order(pipeline, &facts, because, strict),
            Manager::Independent | Manager::Supercedent => self.add_alone(pipeline, &facts, because),
        }
    }

    /// The facts of a change that may be in the pipeline, or why it may not.
    fn fit(
        &self,
        pipeline: &Pipeline,
        change: &ChangeId,
        patchset: Option<u32>,
        strict: bool,
    ) -> Result<Arc<ChangeFacts>, EnqueueRefusal> {
        let facts = self.held.changes.get(change).cloned();
        let facts = facts.ok_or_else(|| EnqueueRefusal::Unknown { change: change.clone() })?;
        let own = facts.patchset();
        if let Some(wanted) = patchset.filter(|wanted| *wanted != facts.current_patchset) {
            let patchset = Patchset { change: change.clone(), patchset: wanted };
            return Err(EnqueueRefusal::NotCurrent { patchset, current: facts.current_patchset });
        }
        let gated = pipeline.manager == Manager::Dependent;
        // What the gate has landed its source may go on calling open for a while.
        let landed = self.landed.contains(&own);
        if gated && (landed || !facts.status.is_open()) {
            let status = if landed { ChangeStatus::Merged } else { facts.status };
            return Err(EnqueueRefusal::Closed { change: own, status: status.word().to_owned() });
        }
        if !jobs::has_jobs(&self.held.config, pipeline, &facts.project) {
            let (project, pipeline) = (facts.project.clone(), pipeline.name.clone());
            return Err(EnqueueRefusal::NoJobsConfigured { project, pipeline });
        }
        let change = self.item_change(&facts);
        if jobs::list(&self.held.config, pipeline, &[Target::of(&change)]).is_empty() {
            return Err(EnqueueRefusal::NoJobsApply { change: own, pipeline: pipeline.name.clone() });
        }
        if gated {
            filter::can_merge(pipeline, &facts)
                .map_err(|what| EnqueueRefusal::NotSubmittable { change: own.clone(), what })?;
        }
        if strict {
            filter::requirements_hold(pipeline, &facts, own.patchset, self.now)
                .map_err(|what| EnqueueRefusal::Requirement { what })?;
        }
        Ok(facts)
    }

    /// Into a shared queue, with what it needs ahead and what needs it behind.
    fn add_in_order(
        &mut self,
        pipeline: &Arc<Pipeline>,
        facts: &ChangeFacts,
        because: &str,
        strict: bool,
    ) -> Result<ItemId, Ignored> {
        let queue = self.queue_name(pipeline, &facts.project);
        let groups = self.needs_in_order(&facts.id, true)?;
        let mut fitting = Vec::new();
        for group in groups {
            if let Some(group) = self.fit_group(pipeline, &queue, facts, &group, strict)? {
                fitting.push(group);
            }
        }
        let mut last = None;
        for group in &fitting {
            last = Some(self.add_group(pipeline, &queue, group, because, strict));
        }
        let own = self.held.by_change.get(&(pipeline.name.clone(), facts.id.clone())).copied();
        let own = own.or(last).ok_or_else(|| EnqueueRefusal::Unknown { change: facts.id.clone() })?;
        let is_there =
            |item: &Arc<Item>| item.changes.iter().any(|change| change.merge.patchset == facts.patchset());
        if !self.held.items.get(&own).is_some_and(is_there) {
            return Err(Ignored::AlreadyThere { item: own }); // an older patchset, which is being landed
        }
        // Depth first: what needs the change itself comes before what needs only those ahead of it.
        for added in fitting.iter().rev().flatten() {
            self.add_behind(pipeline, &queue, &added.id, strict);
        }
        Ok(own)
    }

    /// The facts of a group that may go in; none if it is in already.
    fn fit_group(
        &self,
        pipeline: &Pipeline,
        queue: &QueueName,
        wanted: &ChangeFacts,
        group: &[ChangeId],
        strict: bool,
    ) -> Result<Option<Vec<Arc<ChangeFacts>>>, EnqueueRefusal> {
        // In another queue it is no help: nothing orders that one and this.
        let there =
            |id: &ChangeId| self.held.item_of(&pipeline.name, id).is_some_and(|item| item.queue == *queue);
        if group.iter().all(there) {
            return Ok(None);
        }
        if group.len() > 1 && !cycles_allowed(pipeline, queue) {
            return Err(EnqueueRefusal::Cycle { path: self.circle(group) });
        }
        let mut fitting = Vec::new();
        for id in group {
            let fits = self.fit(pipeline, id, None, strict).and_then(|facts| {
                let own = self.queue_name(pipeline, &facts.project);
                if own == *queue {
                    return Ok(facts);
                }
                Err(EnqueueRefusal::OtherQueue {
                    change: wanted.patchset(),
                    needed: facts.patchset(),
                    project: facts.project.clone(),
                    pipeline: pipeline.name.clone(),
                })
            });
            fitting.push(fits.map_err(|why| self.because_of(wanted, id, why))?);
        }
        Ok(Some(fitting))
    }

    fn because_of(&self, wanted: &ChangeFacts, id: &ChangeId, why: EnqueueRefusal) -> EnqueueRefusal {
        match why {
            why @ EnqueueRefusal::OtherQueue { .. } => why,
            why if *id == wanted.id => why,
            why => {
                let needed = self.held.changes.get(id).map(|facts| facts.patchset());
                let needed = needed.unwrap_or(Patchset { change: id.clone(), patchset: 0 });
                EnqueueRefusal::Needed { change: wanted.patchset(), needed, why: Box::new(why) }
            }
        }
    }

    /// What needs `change`, may be in the pipeline, and shares the queue; each with what needs it, depth first.
    fn add_behind(&mut self, pipeline: &Arc<Pipeline>, queue: &QueueName, change: &ChangeId, strict: bool) {
        for id in self.needing(change) {
            let there = self.held.by_change.contains_key(&(pipeline.name.clone(), id.clone()));
            let facts = self.held.changes.get(&id).cloned();
            let Some(facts) = facts.filter(|_| !there) else { continue };
            if self.queue_name(pipeline, &facts.project) == *queue {
                let because = format!("needs {change}");
                let _ = self.add_change(pipeline, &facts.patchset(), &because, strict);
            }
        }
    }

    /// One change, or the members of a circle, at the end of the queue.
    fn add_group(
        &mut self,
        pipeline: &Arc<Pipeline>,
        queue: &QueueName,
        group: &[Arc<ChangeFacts>],
        because: &str,
        strict: bool,
    ) -> ItemId {
        let mut needs: Vec<Patchset> = Vec::new();
        for facts in group {
            needs.extend(self.direct_needs(facts, false).unwrap_or_default());
        }
        needs.retain(|need| !group.iter().any(|facts| facts.id == need.change));
        let changes = group.iter().map(|facts| self.item_change(facts)).collect();
        let subject = Subject::Change(group[group.len() - 1].patchset());
        let key = (pipeline.name.clone(), queue.clone());
        let ahead = match pipeline.manager {
            Manager::Dependent => self.held.queues.get(&key).and_then(|queue| queue.items.last().copied()),
            _ => None,
        };
        self.insert(pipeline, queue.clone(), subject, changes, Vec::new(), needs, ahead, because, strict)
    }

    /// Into a queue of its own, with what it needs merged below it.
    fn add_alone(
        &mut self,
        pipeline: &Arc<Pipeline>,
        facts: &ChangeFacts,
        because: &str,
    ) -> Result<ItemId, Ignored> {
        let below = self.below(pipeline, facts)?;
        let subject = Subject::Change(facts.patchset());
        let queue = match pipeline.manager {
            Manager::Supercedent => branch_queue(&facts.project, &facts.branch),
            _ => own_queue(self.last_item + 1),
        };
        let changes = vec![self.item_change(facts)];
        Ok(self.insert(pipeline, queue, subject, changes, below, Vec::new(), None, because, false))
    }

    /// What is merged below a change only for its sake.
    pub(super) fn below(
        &self,
        pipeline: &Pipeline,
        facts: &ChangeFacts,
    ) -> Result<Vec<ItemChange>, EnqueueRefusal> {
        let mut below = Vec::new();
        if pipeline.ignore_dependencies || facts.status == ChangeStatus::Merged {
            return Ok(below);
        }
        for group in self.needs_in_order(&facts.id, true)? {
            if group.len() > 1 && !self.cycles_allowed_anywhere(&group) {
                return Err(EnqueueRefusal::Cycle { path: self.circle(&group) });
            }
            for id in group.iter().filter(|id| **id != facts.id) {
                let Some(needed) = self.held.changes.get(id) else { continue };
                if needed.status == ChangeStatus::Abandoned {
                    let status = needed.status.word().to_owned();
                    let closed = EnqueueRefusal::Closed { change: needed.patchset(), status };
                    return Err(self.because_of(facts, id, closed));
                }
                below.push(self.item_change(needed));
            }
        }
        Ok(below)
    }

    fn cycles_allowed_anywhere(&self, group: &[ChangeId]) -> bool {
        let projects: BTreeSet<&ProjectName> =
            group.iter().filter_map(|id| self.held.changes.get(id)).map(|facts| &facts.project).collect();
        let queues = self.held.config.pipelines.iter().flat_map(|pipeline| &pipeline.queues);
        queues
            .filter(|queue| queue.allow_cycles)
            .any(|queue| projects.iter().all(|project| queue.projects.contains(*project)))
    }

    /// A ref or a timer.
    pub(super) fn add_subject(
        &mut self,
        pipeline: &Arc<Pipeline>,
        subject: Subject,
        because: &str,
    ) -> Result<ItemId, Ignored> {
        let (project, branch) = match &subject {
            Subject::Ref(update) => (update.project.clone(), update.name.clone()),
            Subject::Timer { project, .. } => (project.clone(), BranchName::from("")),
            Subject::Change(patchset) => {
                return Err(EnqueueRefusal::Unknown { change: patchset.change.clone() }.into());
            }
        };
        if !jobs::has_jobs(&self.held.config, pipeline, &project) {
            let pipeline = pipeline.name.clone();
            return Err(EnqueueRefusal::NoJobsConfigured { project, pipeline }.into());
        }
        if pipeline.manager == Manager::Dependent {
            return Err(EnqueueRefusal::NothingToLand { pipeline: pipeline.name.clone() }.into());
        }
        let target = Target::of_subject(&subject, &project);
        if jobs::list(&self.held.config, pipeline, &[target]).is_empty() {
            let (what, pipeline) = (subject.to_string(), pipeline.name.clone());
            return Err(EnqueueRefusal::NoJobsForRef { what, pipeline }.into());
        }
        // A time that comes again while its item is there waits for no second one.
        let equal = |other: &Subject| match (other, &subject) {
            (Subject::Timer { project: one, .. }, Subject::Timer { project: other, .. }) => one == other,
            (one, other) => one == other,
        };
        let same = |item: &&Arc<Item>| item.pipeline == pipeline.name && equal(&item.subject);
        if let Some(item) = self.held.items.values().find(same) {
            return Err(Ignored::AlreadyThere { item: item.id });
        }
        let queue = match pipeline.manager {
            Manager::Supercedent => branch_queue(&project, &branch),
            Manager::Independent => own_queue(self.last_item + 1),
            Manager::Dependent | Manager::Serial => self.queue_name(pipeline, &project),
        };
        Ok(self.insert(pipeline, queue, subject, Vec::new(), Vec::new(), Vec::new(), None, because, false))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of an item; a struct for them would be the item"
    )]
    fn insert(
        &mut self,
        pipeline: &Arc<Pipeline>,
        queue: QueueName,
        subject: Subject,
        changes: Vec<ItemChange>,
        below: Vec<ItemChange>,
        needs: Vec<Patchset>,
        ahead: Option<ItemId>,
        because: &str,
        strict: bool,
    ) -> ItemId {
        self.last_item += 1;
        let id = ItemId(self.last_item);
        let (project, branch) = match (&subject, changes.last()) {
            (_, Some(own)) => (own.merge.project.clone(), own.merge.branch.clone()),
            (Subject::Ref(update), _) => (update.project.clone(), update.name.clone()),
            (Subject::Timer { project, .. }, _) => (project.clone(), BranchName::from("")),
            (Subject::Change(_), None) => (ProjectName::from(""), BranchName::from("")),
        };
        let item = Item {
            id,
            pipeline: pipeline.name.clone(),
            queue,
            position: id.0,
            subject,
            project,
            branch,
            changes,
            below,
            needs,
            met: Vec::new(),
            strict,
            ahead,
            enqueued_at: self.now,
            because: because.to_owned(),
            buildset: self.new_buildset(id, 1, None),
            phase: ItemPhase::Testing,
            reports: 0,
        };
        self.hold(Arc::new(item));
        self.scratch.items.insert(id);
        self.scratch.pipelines.insert(pipeline.name.clone());
        self.touch_queue_of(id);
        if pipeline.manager == Manager::Supercedent {
            self.drop_waiting(id);
        }
        self.report(id, &Kind::Start);
        self.tell_children(pipeline, id);
        id
    }

    /// Puts an item into every index and at the end of its queue.
    pub(super) fn hold(&mut self, item: Arc<Item>) {
        let id = item.id;
        for change in item.changes.iter().map(|own| &own.merge.patchset.change) {
            self.held.by_change.insert((item.pipeline.clone(), change.clone()), id);
        }
        for change in known_changes(&item) {
            self.users.entry(change.clone()).or_default().insert(id);
            self.scratch.changes.insert(change);
        }
        let key = (item.pipeline.clone(), item.queue.clone());
        if !self.held.queues.contains_key(&key) {
            let queue = Self::first_queue(self.held.pipeline(&item.pipeline).map(AsRef::as_ref));
            self.held.queues.insert(key.clone(), queue);
            if self.held.manager(&item) == Manager::Dependent {
                self.scratch.queue_rows.insert(key.clone());
            }
        }
        if let Some(queue) = self.held.queues.get_mut(&key) {
            queue.items.push(id);
        }
        self.held.items.insert(id, item);
    }

    /// A queue with nothing in it.
    pub(super) fn first_queue(pipeline: Option<&Pipeline>) -> ChangeQueue {
        let window = match pipeline.map(|pipeline| (pipeline.manager, pipeline.window.start)) {
            Some((Manager::Dependent, start)) => start,
            Some((Manager::Serial | Manager::Supercedent, _)) => 1,
            _ => 0,
        };
        ChangeQueue { items: Vec::new(), window, hold: None, below: Vec::new() }
    }

    /// Supercedent: of those that wait, only the newest stays.
    fn drop_waiting(&mut self, newest: ItemId) {
        let Some(item) = self.held.items.get(&newest) else { return };
        let key: QueueKey = (item.pipeline.clone(), item.queue.clone());
        let Some(queue) = self.held.queues.get(&key) else { return };
        for id in queue.items.iter().skip(1).copied().filter(|id| *id != newest).collect::<Vec<_>>() {
            self.evict(id, EvictReason::Newer { by: newest });
        }
    }

    /// Pipelines may be triggered by what is let into another one: its known dependants are offered to them.
    fn tell_children(&mut self, pipeline: &Pipeline, id: ItemId) {
        let kind = EventKind::ParentChangeEnqueued;
        let listening = self.listening(kind);
        if listening.is_empty() {
            return;
        }
        let Some(item) = self.held.items.get(&id).cloned() else { return };
        for own in &item.changes {
            for child in self.needing(&own.merge.patchset.change) {
                let Some(facts) = self.held.changes.get(&child).cloned() else { continue };
                let mut event = Event::new("zuul".into(), kind);
                event.change = Some(facts.patchset());
                event.pipeline = Some(pipeline.name.clone());
                for other in &listening {
                    let matches = |trigger: &super::config::Trigger| {
                        filter::trigger_matches(trigger, &event, Some(&facts), self.now).is_ok()
                    };
                    if other.triggers.iter().any(matches) {
                        let _ = self.add_change(other, &facts.patchset(), kind.word(), true);
                    }
                }
            }
        }
    }

    /// Pipelines may be triggered by what has merged in a project: its open changes are asked for, once.
    pub(super) fn offer_open(&mut self, merged: &Patchset, project: &ProjectName) {
        if self.listening(EventKind::ProjectChangeMerged).is_empty() || !self.offered.add(merged.clone()) {
            return;
        }
        self.effect(Effect::Offer { merged: merged.clone(), project: project.clone() });
    }

    /// The pipelines with a trigger that names one of our own kinds of event.
    fn listening(&self, kind: EventKind) -> Vec<Arc<Pipeline>> {
        let listens = |pipeline: &&Arc<Pipeline>| {
            let mut named = pipeline.triggers.iter().flat_map(|trigger| &trigger.events);
            named.any(|pattern| pattern.matches_start(kind.word()))
        };
        self.held.config.pipelines.iter().filter(listens).cloned().collect()
    }

    /// The queue of a project in a pipeline with an order.
    pub(super) fn queue_name(&self, pipeline: &Pipeline, project: &ProjectName) -> QueueName {
        let shared = self.held.shared.get(&(pipeline.name.clone(), project.clone()));
        shared.cloned().unwrap_or_else(|| QueueName::from(project.as_str()))
    }

    pub(super) fn item_change(&self, facts: &ChangeFacts) -> ItemChange {
        let mode = self.held.config.projects.get(&facts.project).map(|project| project.merge_mode);
        ItemChange {
            merge: ToMerge {
                patchset: facts.patchset(),
                project: facts.project.clone(),
                branch: facts.branch.clone(),
                revision: facts.revision.clone(),
                fetch_ref: facts.fetch_ref.clone(),
                mode: mode.unwrap_or(MergeMode::MergeResolve),
            },
            files: facts.files.clone(),
            subject: facts.subject.clone(),
            url: facts.url.clone(),
            owner: facts.owner.display().to_owned(),
            change_id: facts.change_id.clone(),
        }
    }

    pub(super) fn new_buildset(&self, id: ItemId, number: u32, because: Option<ResetReason>) -> Buildset {
        Buildset {
            number,
            identity: self.uuid(&format!("buildset {id} {number}")),
            on: None,
            state: MergeState::Waiting,
            since: self.now,
            merge_tries: 0,
            jobs: Vec::new(),
            because,
        }
    }

    /// Tells the author of a change why it is not let in where the trigger says that it should be, unless that is plain to
    /// see at the source, or something is missing that people may still give: of that see `tell_what_is_missing`.
    pub(super) fn tell_refusal(
        &mut self,
        pipeline: &Arc<Pipeline>,
        patchset: &Patchset,
        reason: &EnqueueRefusal,
        because: &str,
    ) {
        match reason {
            EnqueueRefusal::Requirement { .. }
            | EnqueueRefusal::NotSubmittable { .. }
            | EnqueueRefusal::NoJobsConfigured { .. }
            | EnqueueRefusal::Closed { .. }
            | EnqueueRefusal::NotCurrent { .. }
            | EnqueueRefusal::Unknown { .. } => {}
            EnqueueRefusal::NoJobsApply { .. } if pipeline.manager != Manager::Dependent => {}
            EnqueueRefusal::Needed { .. } => self.admonish(pipeline, patchset, reason, because),
            _ => self.tell(pipeline, patchset, reason, because),
        }
    }

    /// Tells the author what is missing, once of each patchset.
    pub(super) fn admonish(
        &mut self,
        pipeline: &Arc<Pipeline>,
        patchset: &Patchset,
        reason: &EnqueueRefusal,
        because: &str,
    ) {
        if self.admonished.add(patchset.clone()) {
            self.tell(pipeline, patchset, reason, because);
        }
    }

    fn tell(
        &mut self,
        pipeline: &Arc<Pipeline>,
        patchset: &Patchset,
        reason: &EnqueueRefusal,
        because: &str,
    ) {
        let Some(facts) = self.held.changes.get(&patchset.change).cloned() else { return };
        self.last_item += 1;
        let id = ItemId(self.last_item);
        let own = self.item_change(&facts);
        let end = ItemEnd {
            outcome: ItemOutcome::Refused { reason: reason.clone() },
            at: self.now,
            failures: Vec::new(),
        };
        let item = Item {
            id,
            pipeline: pipeline.name.clone(),
            queue: QueueName::from(""),
            position: id.0,
            subject: Subject::Change(patchset.clone()),
            project: facts.project.clone(),
            branch: facts.branch.clone(),
            changes: vec![own],
            below: Vec::new(),
            needs: Vec::new(),
            met: Vec::new(),
            strict: false,
            ahead: None,
            enqueued_at: self.now,
            because: because.to_owned(),
            buildset: self.new_buildset(id, 1, None),
            phase: ItemPhase::Ended(end),
            reports: 1,
        };
        let report = comment(pipeline, &item, 0, &format!("{}{reason}.", refusal_head(&pipeline.name)));
        self.scratch.rows.push(GateRow::Item(Arc::new(item)));
        self.scratch.rows.push(GateRow::Report(Box::new(report.clone())));
        self.effect(Effect::Report(Box::new(report)));
    }
}

/// How a refusal begins that is told to authors.
pub(super) fn refusal_head(pipeline: &PipelineName) -> String {
    format!("Not let into {pipeline}: ")
}

fn cycles_allowed(pipeline: &Pipeline, queue: &QueueName) -> bool {
    pipeline.queues.iter().any(|def| def.name == *queue && def.allow_cycles)
}

/// Every change that an item has, stands on, or needs.
pub(super) fn known_changes(item: &Item) -> BTreeSet<ChangeId> {
    let own = item.changes.iter().chain(&item.below).map(|own| own.merge.patchset.change.clone());
    own.chain(item.needs.iter().map(|need| need.change.clone())).collect()
}

pub(super) fn own_queue(item: i64) -> QueueName {
    QueueName::from(format!("item {item}"))
}

pub(super) fn branch_queue(project: &ProjectName, branch: &BranchName) -> QueueName {
    QueueName::from(format!("{project} {branch}"))
}
