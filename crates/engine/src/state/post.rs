//! Jobs are made, edited, made obsolete, and taken out.

use super::State;
use crate::ids::{GroupId, JobId, ProductRunId};
use crate::io::{Answer, Change, Effect, NewJob, Obsolete};
use crate::job::{End, JobState, Stopping};
use crate::outcome::Outcome;
use crate::product::downloads_of;
use crate::reason::{EndReason, Refusal, clean};
use crate::relations::{self, Node, Parent, ParentRef, Relation};
use crate::rows::{Hold, JobRow, ProductRun, ProductRunRow, Retries, Row};
use crate::settings::DEFAULT_PRIORITY;
use std::collections::{BTreeMap, BTreeSet};

impl State {
    pub(super) fn post(&mut self, jobs: Vec<NewJob>) -> Result<Answer, Refusal> {
        if jobs.is_empty() {
            return Err(Refusal::NoJobs);
        }
        self.make_jobs(jobs, None).map(Answer::Posted)
    }

    pub(super) fn post_product(
        &mut self,
        jobs: Vec<NewJob>,
        run: ProductRun,
        obsolete: Option<Obsolete>,
    ) -> Result<Answer, Refusal> {
        let id = ProductRunId(self.last_run + 1);
        let open_before = self.last_job;
        let jobs = self.make_jobs(jobs, Some(id))?;
        self.last_run = id.0;
        let obsoleted = obsolete.map_or(Vec::new(), |obsolete| {
            let by = format!("product run {id}");
            self.make_obsolete(&Obsolete { by, ..obsolete }, JobId(open_before))
        });
        let (created_at, made) = (self.now, jobs.clone());
        self.save(Row::Run(ProductRunRow { id, run, jobs: made, obsoleted: obsoleted.clone(), created_at }));
        Ok(Answer::Product { run: id, jobs, obsoleted })
    }

    /// Makes all of the jobs, or none.
    pub(super) fn make_jobs(
        &mut self,
        mut jobs: Vec<NewJob>,
        run: Option<ProductRunId>,
    ) -> Result<Vec<JobId>, Refusal> {
        for (index, job) in jobs.iter_mut().enumerate() {
            job.settings.check().map_err(|problem| Refusal::BadJob { number: index + 1, problem })?;
            job.settings = std::mem::take(&mut job.settings).with_defaults();
        }
        if jobs.iter().any(|job| !job.parents.is_empty()) {
            self.check_parents(&jobs)?;
        }
        let base = self.last_job;
        let id = |place: usize| JobId(base + 1 + i64::try_from(place).unwrap_or(i64::MAX - base - 1));
        let ids: Vec<JobId> = (0..jobs.len()).map(id).collect();
        let mut units = BTreeSet::new();
        for (job, id) in jobs.into_iter().zip(&ids) {
            let parent = |(relation, parent): (Relation, ParentRef)| Parent {
                relation,
                job: match parent {
                    ParentRef::Posted(place) => ids[place],
                    ParentRef::Job(job) => job,
                },
            };
            let parents: BTreeSet<Parent> = job.parents.iter().copied().map(parent).collect();
            let row = self.new_row(*id, job, run, parents.into_iter().collect());
            units.insert(*id);
            self.unsaved.insert(*id);
            for merged in self.bonds.bind(*id, &row.parents) {
                self.unqueue(merged);
            }
            self.jobs.insert(row);
        }
        self.last_job = base + i64::try_from(ids.len()).unwrap_or(0);
        let units: BTreeSet<JobId> = units.into_iter().map(|id| self.bonds.unit(id)).collect();
        for unit in units {
            self.find_blockers(unit);
            self.settle(unit);
        }
        for id in &ids {
            self.unsaved.remove(id);
            self.save_job(*id);
            self.fetch(*id);
        }
        for id in &ids {
            self.skip_after_failure(*id);
        }
        Ok(ids)
    }

    fn new_row(&mut self, id: JobId, job: NewJob, run: Option<ProductRunId>, parents: Vec<Parent>) -> JobRow {
        JobRow {
            id,
            name: job.settings.job_name(),
            priority: job.priority.unwrap_or(DEFAULT_PRIORITY),
            classes: self.sharer.classes(&job.settings.classes()),
            settings: self.sharer.settings(&job.settings.into()),
            group: job.group,
            run,
            parents,
            clone_of: job.clone_of,
            cloned_as: None,
            retries: Retries { left: job.retries, ..Retries::default() },
            hold: job.hold,
            wait: None,
            state: JobState::Scheduled { attempt: 1, lost_on: None },
            created_at: self.now,
            started_at: None,
        }
    }

    /// Whether the dependencies can be met, those on jobs that exist included.
    fn check_parents(&self, jobs: &[NewJob]) -> Result<(), Refusal> {
        let mut nodes: Vec<Node> = Vec::new();
        let mut places: BTreeMap<JobId, usize> = BTreeMap::new();
        for (index, job) in jobs.iter().enumerate() {
            let mut parents = Vec::new();
            for (relation, parent) in &job.parents {
                match parent {
                    ParentRef::Posted(place) => parents.push((*relation, *place)),
                    ParentRef::Job(id) => self.check_existing(index + 1, *relation, *id)?,
                }
            }
            let label = (job.settings.get("TEST"), job.settings.get("MACHINE"));
            let name = match label {
                (Some(test), Some(machine)) => format!("{test}@{machine}"),
                (test, _) => test.unwrap_or_default().to_owned(),
            };
            nodes.push(Node { name, classes: job.settings.classes().to_string(), parents });
        }
        // Jobs that exist, as far as new ones join them.
        let existing =
            jobs.iter().flat_map(|job| &job.parents).filter_map(|(relation, parent)| match parent {
                ParentRef::Job(id) if *relation != Relation::Chained => Some(*id),
                _ => None,
            });
        let mut next: Vec<JobId> = existing.collect();
        if next.is_empty() {
            return Ok(relations::check(&nodes)?);
        }
        while let Some(id) = next.pop() {
            let Some(row) = self.jobs.get(&id) else { continue };
            if places.contains_key(&id) {
                continue;
            }
            places.insert(id, nodes.len());
            let classes = row.classes.to_string();
            nodes.push(Node { name: format!("{} ({id})", row.label()), classes, parents: Vec::new() });
            next.extend(row.parents.iter().map(|parent| parent.job));
            next.extend(self.children(id).into_iter().map(|(_, child)| child));
        }
        for (id, place) in &places {
            let parents = self.jobs.get(id).map(|row| row.parents.clone()).unwrap_or_default();
            let inside =
                parents.iter().filter_map(|parent| Some((parent.relation, *places.get(&parent.job)?)));
            nodes[*place].parents = inside.collect();
        }
        for (index, job) in jobs.iter().enumerate() {
            for (relation, parent) in &job.parents {
                if let ParentRef::Job(id) = parent
                    && let Some(place) = places.get(id)
                {
                    nodes[index].parents.push((*relation, *place));
                }
            }
        }
        Ok(relations::check(&nodes)?)
    }

    fn check_existing(&self, number: usize, relation: Relation, parent: JobId) -> Result<(), Refusal> {
        let open = self.jobs.contains_key(&parent);
        if !open && !self.ended.contains_key(&parent) && !self.known.contains_key(&parent) {
            return Err(Refusal::NoParent { number, parent });
        }
        if relation != Relation::Chained && (!open || self.has_begun(self.bonds.unit(parent))) {
            return Err(Refusal::TooLate { number, relation, parent });
        }
        Ok(())
    }

    /// A job whose parent has ended already without passing never begins.
    fn skip_after_failure(&mut self, id: JobId) {
        let Some(row) = self.jobs.get(&id) else { return };
        let ended = row.parents.iter().filter(|parent| !self.jobs.contains_key(&parent.job));
        let failed = ended
            .filter_map(|parent| Some((parent.job, self.outcome_of(parent.job)?)))
            .find(|(_, outcome)| !outcome.is_ok());
        if let Some((parent, outcome)) = failed {
            let reason = EndReason::ParentFailed { parent: self.relative(parent), outcome };
            self.stop(id, Stopping { outcome: Outcome::Skipped, reason });
        }
    }

    pub(super) fn cancel(&mut self, id: JobId, by: &str) -> Result<Answer, Refusal> {
        if !self.jobs.contains_key(&id) {
            return Err(Refusal::NotOpen { job: id });
        }
        self.stop(id, Stopping::cancelled(clean(by)));
        Ok(if self.jobs.contains_key(&id) { Answer::Cancelling } else { Answer::Cancelled })
    }

    #[expect(clippy::option_option, reason = "no new group, none at all, and a group are three things")]
    pub(super) fn edit(
        &mut self,
        id: JobId,
        priority: Option<i32>,
        group: Option<Option<GroupId>>,
    ) -> Result<Answer, Refusal> {
        let waits = |row: &JobRow| matches!(row.state, JobState::Scheduled { .. });
        if priority.is_some() && !self.jobs.get(&id).is_some_and(waits) {
            let known = self.jobs.contains_key(&id) || self.known.contains_key(&id);
            return Err(if known { Refusal::NotWaiting { job: id } } else { Refusal::NoJob { job: id } });
        }
        if self.jobs.contains_key(&id) {
            if let Some(group) = group {
                self.set_group(id, group);
            }
            self.set_priority(id, priority);
            self.save_job(id);
            return Ok(Answer::Done);
        }
        let row = self.ended.get(&id).or_else(|| self.known.get(&id));
        let mut row = row.cloned().ok_or(Refusal::NoJob { job: id })?;
        row.group = group.unwrap_or(row.group);
        self.save_ended(row);
        Ok(Answer::Done)
    }

    /// From now on what the job waits for, or has, counts for the new group.
    fn set_group(&mut self, id: JobId, group: Option<GroupId>) {
        let unit = self.bonds.unit(id);
        self.unqueue(unit);
        let attempt = self.jobs.get(&id).and_then(JobRow::active_attempt);
        if let Some(attempt) = attempt {
            self.uncount(attempt);
        }
        if let Some(job) = self.jobs.get_mut(&id) {
            job.group = group;
        }
        if let Some(attempt) = attempt {
            self.count(attempt);
        }
        self.settle(unit);
    }

    fn set_priority(&mut self, id: JobId, priority: Option<i32>) {
        let Some(priority) = priority else { return };
        let unit = self.bonds.unit(id);
        self.unqueue(unit);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.priority = priority;
        }
        self.settle(unit);
    }

    /// Ends, or puts back, the open jobs up to `last` that something newer takes the place of.
    pub(super) fn make_obsolete(&mut self, obsolete: &Obsolete, last: JobId) -> Vec<JobId> {
        let meant = |row: &JobRow| {
            let has = |(key, value): (&String, &String)| row.settings.get(key) == Some(value.as_str());
            let build = row.settings.get("BUILD");
            obsolete.matching.iter().all(has)
                && (obsolete.except_build.is_none() || obsolete.except_build.as_deref() != build)
                && !obsolete.spared.contains(&row.id)
        };
        let jobs: Vec<JobId> = self.jobs.range(..=last).filter(|row| meant(row)).map(|row| row.id).collect();
        let mut changed = Vec::new();
        for id in jobs {
            let Some(row) = self.jobs.get(&id) else { continue };
            let later = obsolete.deprioritize.map(|by| (row.priority.saturating_add(by.step), by.limit));
            match later {
                Some((priority, limit)) if priority <= limit => {
                    if matches!(row.state, JobState::Scheduled { .. }) {
                        self.set_priority(id, Some(priority));
                    } else if let Some(row) = self.jobs.get_mut(&id) {
                        row.priority = priority;
                    }
                    self.save_job(id);
                    changed.push(id);
                }
                _ => {
                    let reason = EndReason::Obsoleted { by: clean(&obsolete.by) };
                    if self.stop(id, Stopping { outcome: Outcome::Obsoleted, reason }) {
                        changed.push(id);
                    }
                }
            }
        }
        changed
    }

    /// What a job was held for is there, or cannot be had.
    pub(super) fn release(&mut self, id: JobId, failed: Option<String>) -> Result<Answer, Refusal> {
        let Some(job) = self.jobs.get_mut(&id) else { return Err(Refusal::NotOpen { job: id }) };
        if job.hold.take().is_none() {
            return Ok(Answer::Done);
        }
        match failed {
            None => {
                self.settle(self.bonds.unit(id));
                self.save_job(id);
            }
            Some(what) => {
                let reason = EndReason::NotAvailable { what: clean(&what) };
                self.stop(id, Stopping { outcome: Outcome::Incomplete, reason });
            }
        }
        Ok(Answer::Done)
    }

    /// What a job is held for is to be fetched.
    pub(super) fn fetch(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get(&id)
            && matches!(job.hold, Some(Hold::Assets { .. }))
        {
            let downloads = downloads_of(&job.settings).collect();
            self.effects.push(Effect::Fetch { job: id, downloads });
        }
    }

    pub(super) fn fetch_fails(&mut self, id: JobId, why: &str) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(Hold::Assets { trouble, .. }) = &mut job.hold else { return };
        let why = Some(clean(why));
        if *trouble != why {
            *trouble = why;
            self.note_wait(id);
        }
    }

    pub(super) fn force_result(
        &mut self,
        id: JobId,
        outcome: Outcome,
        by: &str,
        text: &str,
    ) -> Result<Answer, Refusal> {
        let row =
            self.ended.get(&id).or_else(|| self.known.get(&id)).filter(|_| !self.jobs.contains_key(&id));
        let Some(mut row) = row.cloned() else {
            let open = self.jobs.contains_key(&id);
            return Err(if open { Refusal::StillOpen { job: id } } else { Refusal::NoJob { job: id } });
        };
        let Some(end) = row.state.end() else { return Err(Refusal::StillOpen { job: id }) };
        let reason = EndReason::Forced { by: clean(by), before: end.outcome, text: clean(text) };
        let end = End { outcome, class: outcome.class(), reason, at: end.at };
        row.state = match row.state {
            JobState::Cancelled(_) => JobState::Cancelled(end),
            _ => JobState::Done(end),
        };
        self.save_ended(row);
        Ok(Answer::Done)
    }

    /// Ends an open job with this result; one that has ended gets it in place of its own.
    pub(super) fn set_done(
        &mut self,
        id: JobId,
        outcome: Outcome,
        by: &str,
        text: &str,
    ) -> Result<Answer, Refusal> {
        if !self.jobs.contains_key(&id) {
            return self.force_result(id, outcome, by, text);
        }
        let reason = EndReason::SetDone { by: clean(by), text: clean(text) };
        if !self.stop(id, Stopping { outcome, reason }) {
            return Err(Refusal::StillOpen { job: id });
        }
        Ok(if self.jobs.contains_key(&id) { Answer::Cancelling } else { Answer::Done })
    }

    pub(super) fn delete(&mut self, id: JobId) -> Result<Answer, Refusal> {
        if self.jobs.contains_key(&id) || self.ended.contains_key(&id) {
            return Err(Refusal::StillOpen { job: id });
        }
        self.known.remove(&id).ok_or(Refusal::NoJob { job: id })?;
        self.save(Row::Deleted(id));
        self.changes.insert(Change::Job(id));
        Ok(Answer::Done)
    }

    /// Stores a job that has ended.
    pub(super) fn save_ended(&mut self, row: JobRow) {
        let id = row.id;
        if let Some(own) = self.ended.get_mut(&id) {
            *own = row.clone();
        }
        self.known.insert(id, row.clone());
        self.save(Row::Job(row));
        self.changes.insert(Change::Job(id));
    }
}
