//! Builds: started, cancelled, ended, tried again, and their results kept for others.

use super::Gate;
use super::config::{JobDef, Manager, NOOP};
use super::history;
use super::ids::{BranchName, ItemId, JobName, ProjectName, Uuid};
use super::io::{BuildRequest, BuildResult, Effect};
use super::item::{Build, Item, ItemJob, JobState, MergeState, Runner};
use super::jobs;
use super::params::Ancestry;
use super::rows::{DurationsRow, EvidenceRow, GateRow};
use crate::ids::Timestamp;
use crate::outcome::OutcomeClass;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

/// The first wait after a job has used up its attempts on failing infrastructure; it doubles up to
/// [`INFRA_BACKOFF_MAX_US`].
const INFRA_BACKOFF_US: i64 = 300_000_000;
const INFRA_BACKOFF_MAX_US: i64 = 3_600_000_000;

/// Of so many uses of an evidence one is a run after all.
const SAMPLE: u32 = 20;

/// Results that are kept to stand for others.
const EVIDENCE_KEPT: usize = 10_000;

impl Gate {
    /// Starts every job that can start, and settles those that need no worker.
    pub(super) fn start_jobs(&mut self, id: ItemId) {
        let Some(item) = self.held.items.get(&id).cloned() else { return };
        let waiting = |(_, job): &(usize, &ItemJob)| job.state == JobState::Waiting;
        let waiting = item.buildset.jobs.iter().enumerate().filter(waiting).map(|(index, _)| index);
        let mut ancestry = None;
        for index in waiting {
            self.start_job(id, index, &mut ancestry);
        }
    }

    fn start_job(&mut self, id: ItemId, index: usize, ancestry: &mut Option<Ancestry>) {
        let Some(item) = self.held.items.get(&id).cloned() else { return };
        let job = &item.buildset.jobs[index];
        if job.state != JobState::Waiting {
            return;
        }
        if let Some(parent) = job.parent.map(|parent| &item.buildset.jobs[parent].state) {
            if !parent.is_final() {
                return;
            }
            if !parent.is_success() {
                return self.set_job(id, index, JobState::Skipped);
            }
        }
        let definition = jobs::definition(&self.held.config, &job.job);
        if definition.name.as_str() == NOOP {
            let build = self.instant(&item, index);
            return self.set_job(id, index, JobState::Ended(build));
        }
        if let Some(build) = self.known_result(&item, &definition) {
            return self.set_job(id, index, JobState::Reused { build });
        }
        if self.held.semaphore_held(&job.job).is_none() {
            let ancestry = ancestry.get_or_insert_with(|| Ancestry::of(&self.held, &item));
            self.start(&item, index, definition, ancestry);
        }
    }

    fn set_job(&mut self, id: ItemId, index: usize, state: JobState) {
        if let Some(job) = self.edit(id).and_then(|item| item.buildset.jobs.get_mut(index)) {
            job.state = state;
        }
        self.touch_queue_of(id);
    }

    fn build_uuid(&self, item: &Item, index: usize) -> Uuid {
        // By name, time and configuration: after a new one a job may stand in another's place, be another one, or come
        // back.
        let ItemJob { job, lost, .. } = &item.buildset.jobs[index];
        let (set, tries, now) = (item.merge_id(), lost.len(), self.now.0);
        let hash = &self.held.config.hash;
        self.uuid(&format!("build {set} {job} {tries} {now} {hash}"))
    }

    fn instant(&self, item: &Item, index: usize) -> Build {
        Build {
            uuid: self.build_uuid(item, index),
            asked_at: self.now,
            started_at: Some(self.now),
            ended_at: Some(self.now),
            result: Some(BuildResult::success()),
            runner: None,
        }
    }

    fn start(&mut self, item: &Item, index: usize, definition: Arc<JobDef>, ancestry: &Ancestry) {
        let Some(pipeline) = self.held.pipeline(&item.pipeline).cloned() else { return };
        let uuid = self.build_uuid(item, index);
        let params = self.params(item, &definition, uuid, ancestry);
        let request = BuildRequest {
            uuid,
            item: item.id,
            precedence: pipeline.precedence,
            pipeline: pipeline.name.clone(),
            params,
            changes: ancestry.changes.clone(),
            hold: self.hold_reason(item, &definition.name),
            job: Arc::clone(&definition),
        };
        for semaphore in &definition.semaphores {
            self.held.semaphores.entry(semaphore.clone()).or_default().push(item.id);
        }
        self.running.insert(uuid, (item.id, index));
        self.effect(Effect::StartBuild(Box::new(request)));
        let build =
            Build { uuid, asked_at: self.now, started_at: None, ended_at: None, result: None, runner: None };
        self.set_job(item.id, index, JobState::Running(build));
    }

    /// Whether the workspace of a failure is to be kept, and why.
    fn hold_reason(&self, item: &Item, job: &JobName) -> Option<String> {
        let row = self.held.autoholds.values().find(|row| self.autohold_fits(row.id, item, job))?;
        Some(format!("autohold {} by {}: {}", row.id, row.by, row.reason))
    }

    fn autohold_fits(&self, id: i64, item: &Item, job: &JobName) -> bool {
        self.held.autoholds.get(&id).is_some_and(|row| {
            row.left > 0
                && row.project == item.project
                && row.job == *job
                && row.change.as_ref().is_none_or(|change| item.has_change(change))
        })
    }

    /// Stops what runs for an item.
    pub(super) fn cancel_builds(&mut self, id: ItemId) {
        let Some(item) = self.held.items.get(&id).cloned() else { return };
        for job in &item.buildset.jobs {
            if let JobState::Running(build) = &job.state {
                self.running.remove(&build.uuid);
                self.free_semaphores(id, &job.job);
                self.effect(Effect::CancelBuild(build.uuid));
            }
        }
    }

    fn free_semaphores(&mut self, id: ItemId, job: &JobName) {
        let definition = jobs::definition(&self.held.config, job);
        for semaphore in &definition.semaphores {
            if let Some(holders) = self.held.semaphores.get_mut(semaphore)
                && let Some(place) = holders.iter().position(|holder| *holder == id)
            {
                holders.remove(place);
                self.scratch.semaphore_freed = true;
            }
        }
    }

    /// A worker has begun a build; said again, nothing.
    pub(super) fn build_started(&mut self, uuid: Uuid, at: Timestamp, by: Option<Runner>) {
        let Some((id, index)) = self.running.get(&uuid).copied() else { return };
        let state = self.held.items.get(&id).and_then(|item| item.buildset.jobs.get(index));
        if state.is_none_or(|job| job.state.build().is_none_or(|build| build.started_at.is_some())) {
            return;
        }
        let job = self.edit(id).and_then(|item| item.buildset.jobs.get_mut(index));
        if let Some(JobState::Running(build)) = job.map(|job| &mut job.state) {
            build.started_at = Some(at.max(build.asked_at));
            build.runner = by;
        }
    }

    pub(super) fn build_ended(&mut self, uuid: Uuid, result: BuildResult) {
        let Some((id, index)) = self.running.remove(&uuid) else { return };
        let Some(item) = self.held.items.get(&id).cloned() else { return };
        let Some(JobState::Running(build)) = item.buildset.jobs.get(index).map(|job| &job.state) else {
            return;
        };
        let name = item.buildset.jobs[index].job.clone();
        self.free_semaphores(id, &name);
        let build = Build { ended_at: Some(self.now), result: Some(result.clone()), ..build.clone() };
        if result.class == OutcomeClass::Infrastructure && !result.is_success() {
            self.lost(&item, index, build);
        } else {
            self.keep(&item, &name, &build);
            self.set_job(id, index, JobState::Ended(build));
        }
    }

    /// The infrastructure failed a build: again, later, or never.
    fn lost(&mut self, item: &Item, index: usize, build: Build) {
        let job = &item.buildset.jobs[index];
        let definition = jobs::definition(&self.held.config, &job.job);
        let lost = job.lost.len() as u32 + 1;
        let gated = self.held.manager(item) == Manager::Dependent && decides(&item.buildset.jobs, index);
        let state = if lost < definition.attempts {
            JobState::Waiting
        } else if gated {
            // What only the infrastructure explains evicts nobody: it is tried again, ever more slowly.
            let rounds = lost - definition.attempts;
            let wait = (INFRA_BACKOFF_US << rounds.min(8)).min(INFRA_BACKOFF_MAX_US);
            JobState::Backoff { until: Timestamp(self.now.0 + wait), rounds: rounds + 1 }
        } else {
            let reason = build.result.as_ref().and_then(|result| result.reason.clone());
            let result =
                BuildResult { word: "RETRY_LIMIT".to_owned(), class: OutcomeClass::Infrastructure, reason };
            JobState::Ended(Build { result: Some(result), ..build.clone() })
        };
        if let Some(job) = self.edit(item.id).and_then(|item| item.buildset.jobs.get_mut(index)) {
            job.lost.push(build);
            job.state = state;
        }
        self.touch_queue_of(item.id);
    }

    /// What a result is good for beyond its item.
    fn keep(&mut self, item: &Item, name: &JobName, build: &Build) {
        let Some(result) = &build.result else { return };
        if result.is_success() {
            self.note_duration(name, build);
            let definition = jobs::definition(&self.held.config, name);
            if let Some(key) = self.evidence_key(item, &definition) {
                self.note_evidence(key, build);
            }
            return;
        }
        // What passed here before says nothing any more: the job is not what it was declared to be.
        let definition = jobs::definition(&self.held.config, name);
        let key = self.evidence_key(item, &definition);
        if let Some(key) = key.filter(|key| self.evidence.contains_key(key)) {
            self.note_evidence(key, build);
        }
        let fitting = self.held.autoholds.keys().copied().find(|id| self.autohold_fits(*id, item, name));
        if let Some(row) = fitting.and_then(|id| self.held.autoholds.get_mut(&id)) {
            row.left -= 1;
            let row = row.clone();
            if row.left == 0 {
                self.held.autoholds.remove(&row.id);
            }
            self.scratch.rows.push(GateRow::Autohold(row));
        }
    }

    fn note_duration(&mut self, name: &JobName, build: &Build) {
        let (Some(started), Some(ended)) = (build.started_at, build.ended_at) else { return };
        let row = self
            .held
            .durations
            .entry(name.clone())
            .or_insert_with(|| Arc::new(DurationsRow { job: name.clone(), latest_us: Vec::new() }));
        let latest = &mut Arc::make_mut(row).latest_us;
        latest.push(ended.micros_since(started));
        let surplus = latest.len().saturating_sub(history::KEPT);
        latest.drain(..surplus);
        let row = row.as_ref().clone();
        self.scratch.rows.push(GateRow::Durations(row));
    }

    fn note_evidence(&mut self, key: String, build: &Build) {
        let row = EvidenceRow { key: key.clone(), build: build.clone(), used: 0 };
        self.scratch.rows.push(GateRow::Evidence(row.clone()));
        self.evidence.insert(key, row);
        if self.evidence.len() > EVIDENCE_KEPT + EVIDENCE_KEPT / 10 {
            let mut ages: Vec<_> =
                self.evidence.values().map(|row| (row.build.ended_at, row.key.clone())).collect();
            ages.sort_unstable();
            for (_, key) in ages.iter().take(ages.len() - EVIDENCE_KEPT) {
                self.evidence.remove(key);
            }
        }
    }

    /// A success on the very same trees, if the job is declared to depend on nothing else; now and then the job runs
    /// all the same.
    fn known_result(&mut self, item: &Item, definition: &JobDef) -> Option<Build> {
        let key = self.evidence_key(item, definition)?;
        let row = self.evidence.get_mut(&key)?;
        if !row.build.result.as_ref().is_some_and(BuildResult::is_success) {
            return None;
        }
        row.used += 1;
        let row = row.clone();
        let build = row.build.clone();
        let sample = row.used % SAMPLE == 0;
        self.scratch.rows.push(GateRow::Evidence(row));
        (!sample).then_some(build)
    }

    /// What a hermetic job's result depends on: its definition and the tree of every project in its workspace. None
    /// if the job is not hermetic or not all of its trees are known.
    fn evidence_key(&self, item: &Item, definition: &JobDef) -> Option<String> {
        if !definition.hermetic || item.changes.is_empty() {
            return None;
        }
        if !matches!(item.buildset.state, MergeState::Done(_)) {
            return None;
        }
        let tree = |project: &ProjectName, branch: &BranchName| {
            let states = self.held.chain(item).filter_map(|item| match &item.buildset.state {
                MergeState::Done(merged) => Some(merged),
                _ => None,
            });
            let mut moved = states.flat_map(|merged| merged.moved.iter().rev());
            let moved = moved.find(|moved| moved.project == *project && moved.branch == *branch)?;
            Some(&moved.tip.tree)
        };
        let others = definition.projects.iter().map(|project| (project, &item.branch));
        let own = item.changes.iter().map(|own| (&own.merge.project, &own.merge.branch));
        let wanted: BTreeSet<_> = others.chain(own).collect();
        let mut hash = Sha256::new();
        hash.update(serde_json::to_vec(definition).ok()?);
        for (project, branch) in wanted {
            let tree = tree(project, branch)?;
            hash.update(format!("\0{project}\0{branch}\0{tree}"));
        }
        let hex = |mut text: String, byte: &u8| {
            let _ = write!(text, "{byte:02x}");
            text
        };
        Some(hash.finalize().iter().fold(String::new(), hex))
    }
}

/// True if an item cannot pass without this job: it votes, or one that votes stands below it.
fn decides(jobs: &[ItemJob], index: usize) -> bool {
    let line = |from: usize| std::iter::successors(Some(from), |at| jobs[*at].parent);
    (0..jobs.len()).any(|from| jobs[from].voting && line(from).any(|at| at == index))
}
