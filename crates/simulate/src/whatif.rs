//! The recorded events of a server, replayed on the real engine under another configuration.
//!
//! What people did is replayed at its time: uploads, votes, comments, pushes. What the recorded gate did is not: the
//! gate of the replay lands, and what follows from a landing follows from that. How jobs end and how long they take is
//! taken from the record where it can be, and sampled from it where not; how often which was done is part of the answer.

use crate::chance::mix;
use assay_engine::gate::Gate;
use assay_engine::gate::change::{ChangeFacts, ChangeStatus, RefUpdate, SubmitRecord};
use assay_engine::gate::config::{Config, EventKind, Manager};
use assay_engine::gate::ids::{
    BranchName, ChangeId, ItemId, JobName, MergeId, Oid, Patchset, PipelineName, ProjectName, Uuid,
};
use assay_engine::gate::io::{
    BuildRequest, BuildResult, Effect, Event, Input, LandRequest, LandResult, Merge, MergeRequest, Merged,
    Moved, Tip,
};
use assay_engine::gate::item::{Item, ItemOutcome, ItemPhase};
use assay_engine::gate::rows::GateRow;
use assay_engine::ids::Timestamp;
use assay_engine::outcome::OutcomeClass;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

/// A speculative merge, until a landing begins, until a worker begins.
const MERGE_US: i64 = 50_000;
const LAND_US: i64 = 1_000_000;
const START_US: i64 = 1_000_000;
/// A job of which nothing at all is known.
const UNKNOWN_JOB_US: i64 = 600_000_000;
/// A push and the merge of a change that come so close together are one thing.
const SAME_US: i64 = 60_000_000;
/// After the last event the gate gets so long to come to an end.
const AFTERWARDS_US: i64 = 7 * 86_400_000_000;

/// What was recorded.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Events with the time at which they arrived, the oldest first.
    pub events: Vec<(Timestamp, Event)>,
    /// Builds that ended.
    pub builds: Vec<RecordedBuild>,
    /// What was in force when it was read out.
    pub config: Option<Arc<Config>>,
}

/// A build that was recorded.
#[derive(Debug, Clone, Deserialize)]
pub struct RecordedBuild {
    /// The job.
    pub job: JobName,
    /// The pipeline.
    pub pipeline: PipelineName,
    /// The item's own changes; empty for refs and timers.
    #[serde(default)]
    pub changes: Vec<Patchset>,
    /// Those below them that were not in their branches yet.
    #[serde(default)]
    pub ahead: Vec<Patchset>,
    /// The tree that was tested.
    #[serde(default)]
    pub tree: Option<Oid>,
    /// When a worker began.
    pub started_at: Option<Timestamp>,
    /// How it ended.
    pub result: Option<BuildResult>,
    /// When it ended; beside it in the line.
    #[serde(skip)]
    pub ended_at: Option<Timestamp>,
}

impl RecordedBuild {
    fn took_us(&self) -> Option<i64> {
        Some(self.ended_at?.micros_since(self.started_at?))
    }
}

#[derive(Deserialize)]
struct Line {
    at_us: Option<i64>,
    event: Option<Box<Event>>,
    build: Option<RecordedBuild>,
    config: Option<Box<Config>>,
}

/// Reads what `GET /api/assay/v1/gate/history` gives.
pub fn parse(text: &str, file: &str) -> Result<History, String> {
    let mut history = History::default();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |why: String| format!("{file}:{}: {why}", number + 1);
        let line: Line = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        let at = line.at_us.map(Timestamp);
        match (at, line.event, line.build, line.config) {
            (Some(at), Some(event), None, None) => history.events.push((at, *event)),
            (ended_at, None, Some(build), None) => history.builds.push(RecordedBuild { ended_at, ..build }),
            (_, None, None, Some(config)) => history.config = Some(Arc::new(*config)),
            _ => {
                return Err(wrong("expected `at_us` with either `event` or `build`, or `config`".to_owned()));
            }
        }
    }
    history.events.sort_by_key(|(at, _)| *at);
    Ok(history)
}

/// What came of a replay.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Changes that merged.
    pub merges: usize,
    /// From the first event to the last landing or event.
    pub hours: f64,
    /// Per hour of that time.
    pub merges_per_hour: f64,
    /// From being let into a dependent pipeline to being merged; half of the merged changes waited no longer.
    pub wait_p50_us: Option<i64>,
    /// 95 of 100 waited no longer.
    pub wait_p95_us: Option<i64>,
    /// Workers were busy for so long, cancelled builds included.
    pub machine_hours: f64,
    /// Builds that were begun.
    pub builds: usize,
    /// Builds that were cancelled.
    pub cancelled: usize,
    /// Items of dependent pipelines that failed.
    pub failed: usize,
    /// Items that were still in a pipeline at the end.
    pub left: usize,
    /// Where the ends of builds come from.
    pub sources: Sources,
    /// Jobs that were begun and of which nothing was recorded.
    pub unknown_jobs: BTreeSet<JobName>,
}

/// How many builds ended as they did for which reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sources {
    /// The job was recorded on the very tree, by the changes in it, or on others of the change always with one result.
    pub recorded: usize,
    /// It was recorded on other trees of the change with different results; that of the likest tree was taken.
    pub recorded_by_tree: usize,
    /// It was recorded, but not on the change: one of its recorded ends was drawn.
    pub sampled: usize,
    /// It was never recorded: one of all recorded ends was drawn.
    pub assumed: usize,
}

/// What every replay takes for granted, for people.
pub const ASSUMPTIONS: [&str; 4] = [
    "people act as recorded, whatever the gate does: votes (the gate's own included), uploads, comments",
    "every change merges textually, and every landing is accepted",
    "a merge takes 50 ms, a landing 1 s, the start of a build 1 s once a worker is free",
    "builds that the infrastructure lost are not repeated: their ends are left out of the record",
];

#[derive(Debug)]
enum Happens {
    Recorded(usize),
    Input(Box<Input>),
    BuildEnds(Uuid),
    Land(Box<LandRequest>),
}

struct Due(Timestamp, u64, Happens);

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// Recorded ends: how, and how long it took.
type Ends = Vec<(BuildResult, i64)>;

/// How a job ended on one tree.
#[derive(Clone)]
struct OnTree {
    tree: Option<Oid>,
    /// The changes in it that were not in their branches yet, without the own ones.
    ahead: BTreeSet<Patchset>,
    result: BuildResult,
    took: i64,
}

/// That of the trees with exactly these changes, or else the one that differs from it by the fewest.
fn likest<'r>(known: &'r [OnTree], ahead: &BTreeSet<Patchset>) -> Option<&'r OnTree> {
    known.iter().min_by_key(|one| one.ahead.symmetric_difference(ahead).count())
}

/// What is known of how jobs end.
#[derive(Default)]
struct Record {
    /// Of a job on a change, the last one for each tree.
    on_change: HashMap<(JobName, ChangeId, u32), Vec<OnTree>>,
    of_job: HashMap<JobName, Ends>,
    all: Ends,
}

impl Record {
    fn new(builds: &[RecordedBuild]) -> Self {
        let mut record = Self::default();
        for build in builds {
            let (Some(result), Some(took)) = (&build.result, build.took_us()) else { continue };
            if result.class == OutcomeClass::Infrastructure || result.class == OutcomeClass::Policy {
                continue;
            }
            if let Some(own) = build.changes.last() {
                let key = (build.job.clone(), own.change.clone(), own.patchset);
                let known = record.on_change.entry(key).or_default();
                known.retain(|one| one.tree != build.tree || one.tree.is_none());
                known.push(OnTree {
                    tree: build.tree.clone(),
                    ahead: build.ahead.iter().cloned().collect(),
                    result: result.clone(),
                    took,
                });
            }
            record.of_job.entry(build.job.clone()).or_default().push((result.clone(), took));
            record.all.push((result.clone(), took));
        }
        record
    }
}

struct Running {
    job: JobName,
    own: Option<Patchset>,
    /// The changes below its own.
    ahead: BTreeSet<Patchset>,
    since: Option<Timestamp>,
    /// How it will end, once it has begun.
    end: Option<(BuildResult, Basis)>,
}

/// Where the end of a build comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Basis {
    Recorded,
    RecordedByTree,
    Sampled,
    Assumed,
}

impl Sources {
    fn count(&mut self, from: Basis) {
        *match from {
            Basis::Recorded => &mut self.recorded,
            Basis::RecordedByTree => &mut self.recorded_by_tree,
            Basis::Sampled => &mut self.sampled,
            Basis::Assumed => &mut self.assumed,
        } += 1;
    }
}

struct Replay<'h> {
    history: &'h History,
    record: Record,
    gate: Gate,
    now: Timestamp,
    agenda: BinaryHeap<Reverse<Due>>,
    order: u64,
    seed: u64,
    slots: Option<usize>,
    busy: usize,
    queued: BTreeSet<(assay_engine::gate::config::Precedence, u64, Uuid)>,
    builds: HashMap<Uuid, Running>,
    /// How often a job that was never recorded on a patchset has run on it.
    runs: HashMap<(JobName, ChangeId, u32), u64>,
    states: HashMap<MergeId, BTreeMap<(ProjectName, BranchName), Tip>>,
    tips: BTreeMap<(ProjectName, BranchName), Tip>,
    /// The latest facts of each change, as recorded.
    facts: BTreeMap<ChangeId, ChangeFacts>,
    landed: BTreeSet<ChangeId>,
    /// In a dependent pipeline at some time: this gate decides about their merging.
    gated: BTreeSet<ChangeId>,
    waits: Vec<i64>,
    last_landing: Timestamp,
    machine_us: i64,
    figures: Figures,
}

/// Replays `history` under `config` with so many workers; none for as many as it takes.
pub fn replay(history: &History, config: &Arc<Config>, workers: Option<usize>, seed: u64) -> Figures {
    let start = history.events.first().map_or(Timestamp(0), |(at, _)| *at);
    let mut replay = Replay {
        history,
        record: Record::new(&history.builds),
        gate: Gate::new(u128::from(mix(seed, 1))),
        now: start,
        agenda: BinaryHeap::new(),
        order: 0,
        seed,
        slots: workers,
        busy: 0,
        queued: BTreeSet::new(),
        builds: HashMap::new(),
        runs: HashMap::new(),
        states: HashMap::new(),
        tips: BTreeMap::new(),
        facts: BTreeMap::new(),
        landed: BTreeSet::new(),
        gated: BTreeSet::new(),
        waits: Vec::new(),
        last_landing: start,
        machine_us: 0,
        figures: Figures::default(),
    };
    replay.feed(Input::Configure(Arc::clone(config)));
    for (number, (at, _)) in history.events.iter().enumerate() {
        replay.at(*at, Happens::Recorded(number));
    }
    replay.run();
    replay.sum_up(start)
}

impl Replay<'_> {
    fn at(&mut self, due: Timestamp, what: Happens) {
        self.order += 1;
        self.agenda.push(Reverse(Due(due, self.order, what)));
    }

    fn later(&mut self, delay: i64, what: Happens) {
        self.at(Timestamp(self.now.0 + delay), what);
    }

    fn run(&mut self) {
        let end = self.history.events.last().map_or(0, |(at, _)| at.0) + AFTERWARDS_US;
        loop {
            let due = self.agenda.peek().map(|next| next.0.0);
            let deadline = self.gate.next_deadline();
            let Some(next) = due.into_iter().chain(deadline).min().filter(|next| next.0 <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if due.is_some_and(|due| due <= next)
                && let Some(Reverse(Due(_, _, what))) = self.agenda.pop()
            {
                self.happen(what);
            } else {
                self.feed(Input::Tick);
            }
        }
    }

    fn happen(&mut self, what: Happens) {
        match what {
            Happens::Recorded(number) => self.recorded(number),
            Happens::Input(input) => self.feed(*input),
            Happens::BuildEnds(build) => self.build_ends(build),
            Happens::Land(request) => self.land(&request),
        }
    }

    /// An event of the record, unless it is the recorded gate's doing.
    fn recorded(&mut self, number: usize) {
        let (_, event) = &self.history.events[number];
        for facts in &event.facts {
            let newer = self.facts.get(&facts.id).is_none_or(|old| old.as_of <= facts.as_of);
            if newer {
                self.facts.insert(facts.id.clone(), facts.clone());
            }
        }
        let decided_here = match event.kind {
            EventKind::ChangeMerged => {
                event.change.as_ref().is_some_and(|own| self.gated.contains(&own.change))
            }
            EventKind::RefUpdated => self.is_of_a_gated_merge(number),
            // After its own landings this gate is told by the replay.
            EventKind::ProjectChangeMerged => true,
            _ => false,
        };
        if decided_here {
            return;
        }
        if event.kind == EventKind::ChangeMerged
            && let Some(own) = &event.change
        {
            self.landed.insert(own.change.clone());
        }
        let mut event = event.clone();
        event.facts = event.facts.iter().map(|facts| self.as_here(facts)).collect();
        self.feed(Input::Event(Box::new(event)));
    }

    /// True if a push of the record is the merge of a change that this gate merges by itself.
    fn is_of_a_gated_merge(&self, number: usize) -> bool {
        let (at, event) = &self.history.events[number];
        let Some(update) = &event.ref_update else { return false };
        let near = |other: &&(Timestamp, Event)| other.0.0.abs_diff(at.0) <= SAME_US as u64;
        let before = self.history.events[..number].iter().rev().take_while(near);
        let after = self.history.events[number..].iter().take_while(near);
        before.chain(after).filter(|(_, other)| other.kind == EventKind::ChangeMerged).any(|(_, other)| {
            let Some(own) = &other.change else { return false };
            let of_branch = |facts: &ChangeFacts| {
                facts.id == own.change && facts.project == update.project && facts.branch == update.name
            };
            self.gated.contains(&own.change) && other.facts.iter().any(of_branch)
        })
    }

    /// Recorded facts with what this gate has done, and without what only the recorded one did.
    fn as_here(&self, facts: &ChangeFacts) -> ChangeFacts {
        let mut facts = facts.clone();
        facts.as_of = self.now;
        if self.landed.contains(&facts.id) {
            facts.status = ChangeStatus::Merged;
        } else if facts.status == ChangeStatus::Merged && self.gated.contains(&facts.id) {
            facts.status = ChangeStatus::New;
            facts.submit_records = vec![SubmitRecord::Ok];
        }
        facts
    }

    fn feed(&mut self, input: Input) {
        self.now = Timestamp(self.now.0 + 1);
        let step = self.gate.step(input, self.now);
        for effect in step.effects {
            match effect {
                Effect::Save(row) => {
                    if let GateRow::Item(item) = *row {
                        self.item_saved(&item);
                    }
                }
                Effect::Merge(merge) => self.merge(merge),
                Effect::StartBuild(request) => self.start(&request),
                Effect::CancelBuild(build) => self.cancel(build),
                Effect::Land(request) => self.later(LAND_US, Happens::Land(request)),
                Effect::Refresh(ids) => {
                    let known = ids.iter().filter_map(|id| self.facts.get(id));
                    let facts = known.map(|facts| self.as_here(facts)).collect();
                    self.later(0, Happens::Input(Box::new(Input::Facts(facts))));
                }
                Effect::Offer { merged, project } => self.offer(&merged, &project),
                Effect::Report(_) | Effect::Changed(_) => {}
            }
        }
    }

    /// Tells the open changes of a project that are known here that one of it has merged.
    fn offer(&mut self, merged: &Patchset, project: &ProjectName) {
        let of_project = self.facts.values().filter(|facts| facts.project == *project);
        let open: Vec<ChangeFacts> = of_project
            .map(|facts| self.as_here(facts))
            .filter(|facts| facts.status.is_open() && facts.id != merged.change)
            .collect();
        for facts in open {
            let mut event = Event::new("zuul".into(), EventKind::ProjectChangeMerged);
            event.change = Some(facts.patchset());
            event.facts = vec![facts];
            self.later(0, Happens::Input(Box::new(Input::Event(Box::new(event)))));
        }
    }

    fn item_saved(&mut self, item: &Item) {
        let config = &self.gate.held().config;
        let manager = config.pipeline(&item.pipeline).map(|pipeline| pipeline.manager);
        if manager != Some(Manager::Dependent) {
            return;
        }
        let own = item.changes.iter().map(|change| change.merge.patchset.change.clone());
        match &item.phase {
            ItemPhase::Testing | ItemPhase::Landing { .. } => self.gated.extend(own),
            ItemPhase::Ended(end) => match end.outcome {
                ItemOutcome::Landed { .. } => {
                    self.waits.extend(item.changes.iter().map(|_| end.at.micros_since(item.enqueued_at)));
                    self.last_landing = end.at;
                }
                ItemOutcome::Failed => self.figures.failed += 1,
                _ => {}
            },
        }
    }

    fn merge(&mut self, merge: Merge) {
        match merge {
            Merge::Make(request) => self.make(&request),
            Merge::Adopt { .. } => {}
            Merge::Forget(merge) => drop(self.states.remove(&merge)),
        }
    }

    fn make(&mut self, request: &MergeRequest) {
        let mut state = request.ahead.and_then(|ahead| self.states.get(&ahead)).cloned().unwrap_or_default();
        let mut moved = Vec::new();
        for change in &request.changes {
            let place = (change.project.clone(), change.branch.clone());
            let base =
                state.get(&place).or_else(|| self.tips.get(&place)).cloned().unwrap_or_else(|| tip("", ""));
            let new = tip(base.tree.as_str(), change.revision.as_str());
            state.insert(place.clone(), new.clone());
            moved.push(Moved { project: place.0, branch: place.1, base, tip: new });
        }
        self.states.insert(request.merge, state);
        let answer = Input::Merged { merge: request.merge, result: Ok(Merged { moved }) };
        self.later(MERGE_US, Happens::Input(Box::new(answer)));
    }

    fn start(&mut self, request: &BuildRequest) {
        let (own, ahead) = match request.changes.split_last() {
            Some((own, ahead)) => (Some(own.clone()), ahead.iter().cloned().collect()),
            None => (None, BTreeSet::new()),
        };
        let job = request.job.name.clone();
        self.builds.insert(request.uuid, Running { job, own, ahead, since: None, end: None });
        self.order += 1;
        self.queued.insert((request.precedence, self.order, request.uuid));
        self.dispatch();
    }

    fn dispatch(&mut self) {
        while self.slots.is_none_or(|slots| self.busy < slots) {
            let Some((_, _, uuid)) = self.queued.pop_first() else { break };
            let since = Timestamp(self.now.0 + START_US);
            let Some(mut build) = self.builds.remove(&uuid) else { continue };
            let (result, took, from) = self.end_of(&build);
            if from == Basis::Assumed && !self.figures.unknown_jobs.contains(&build.job) {
                self.figures.unknown_jobs.insert(build.job.clone());
            }
            (build.since, build.end) = (Some(since), Some((result, from)));
            self.builds.insert(uuid, build);
            self.busy += 1;
            self.figures.builds += 1;
            self.at(
                since,
                Happens::Input(Box::new(Input::BuildStarted { build: uuid, at: since, by: None })),
            );
            self.at(Timestamp(since.0 + took), Happens::BuildEnds(uuid));
        }
    }

    /// How this run of a job ends, how long it takes, and how that is known.
    fn end_of(&mut self, build: &Running) -> (BuildResult, i64, Basis) {
        let Running { job, own, ahead, .. } = build;
        let key = own.as_ref().map(|own| (job.clone(), own.change.clone(), own.patchset));
        if let Some(known) = key.as_ref().and_then(|key| self.record.on_change.get(key))
            && let Some(likest) = likest(known, ahead)
        {
            let agreed = known.iter().all(|one| one.result.word == likest.result.word);
            let from = if agreed || likest.ahead == *ahead { Basis::Recorded } else { Basis::RecordedByTree };
            return (likest.result.clone(), likest.took, from);
        }
        let run = key.map_or(0, |key| {
            let runs = self.runs.entry(key).or_default();
            *runs += 1;
            *runs
        });
        let draw = mix(self.seed, mix(crate::chance::hash(1, job.as_str().as_bytes()), run))
            ^ own.as_ref().map_or(0, |own| mix(own.change.number, u64::from(own.patchset)));
        let pick = |ends: &Ends| ends.get((draw % ends.len().max(1) as u64) as usize).cloned();
        if let Some((result, took)) = self.record.of_job.get(job).and_then(pick) {
            return (result, took, Basis::Sampled);
        }
        let (result, took) =
            pick(&self.record.all).unwrap_or_else(|| (BuildResult::success(), UNKNOWN_JOB_US));
        (result, took, Basis::Assumed)
    }

    fn build_ends(&mut self, uuid: Uuid) {
        let Some(build) = self.builds.remove(&uuid) else { return };
        self.free(&build);
        if let Some((result, from)) = build.end {
            self.figures.sources.count(from);
            self.feed(Input::BuildEnded { build: uuid, result });
        }
        self.dispatch();
    }

    fn cancel(&mut self, uuid: Uuid) {
        let Some(build) = self.builds.remove(&uuid) else { return };
        self.figures.cancelled += 1;
        if build.since.is_some() {
            self.free(&build);
        } else {
            self.queued.retain(|(_, _, other)| *other != uuid);
        }
        self.dispatch();
    }

    fn free(&mut self, build: &Running) {
        self.busy = self.busy.saturating_sub(1);
        self.machine_us += build.since.map_or(0, |since| self.now.micros_since(since).max(0)); // cancelled before a worker had begun
    }

    fn land(&mut self, request: &LandRequest) {
        let mut events = Vec::new();
        for member in &request.members {
            let place = (member.project.clone(), member.branch.clone());
            let old = self.tips.insert(place, member.tested.clone());
            let change = member.patchset.change.clone();
            self.landed.insert(change.clone());
            let source = change.source.clone();
            let facts = self.facts.get(&change).map(|facts| self.as_here(facts));
            let mut merged = Event::new(source.clone(), EventKind::ChangeMerged);
            merged.change = Some(member.patchset.clone());
            merged.facts = facts.into_iter().collect();
            let mut moved = Event::new(source, EventKind::RefUpdated);
            moved.ref_update = Some(RefUpdate {
                project: member.project.clone(),
                name: member.branch.clone(),
                old: old.map_or_else(|| member.base.commit.clone(), |tip| tip.commit),
                new: member.tested.commit.clone(),
            });
            events.extend([merged, moved]);
        }
        let tips = request.members.iter().map(|member| member.tested.clone()).collect();
        self.feed(Input::Landed { item: request.item, result: LandResult::Landed { tips } });
        for event in events {
            self.later(LAND_US, Happens::Input(Box::new(Input::Event(Box::new(event)))));
        }
    }

    fn sum_up(mut self, start: Timestamp) -> Figures {
        let last_event = self.history.events.last().map_or(start, |(at, _)| *at);
        let hours = last_event.max(self.last_landing).micros_since(start) as f64 / 3.6e9;
        self.waits.sort_unstable();
        let at = |percent: usize| {
            let last = self.waits.len().checked_sub(1)?;
            self.waits.get((last * percent).div_ceil(100)).copied()
        };
        let left: BTreeSet<ItemId> = self.gate.held().items.keys().copied().collect();
        Figures {
            merges: self.waits.len(),
            hours,
            merges_per_hour: if hours > 0.0 { self.waits.len() as f64 / hours } else { 0.0 },
            wait_p50_us: at(50),
            wait_p95_us: at(95),
            machine_hours: self.machine_us as f64 / 3.6e9,
            left: left.len(),
            ..self.figures
        }
    }
}

/// A commit on `base` that holds `revision`; equal for equal arguments.
fn tip(base: &str, revision: &str) -> Tip {
    let (a, b) = (crate::chance::hash(1, base.as_bytes()), crate::chance::hash(2, revision.as_bytes()));
    let id = |salt| Oid::from(format!("{:016x}{:016x}{salt:08x}", mix(a, b), mix(b, a)));
    Tip { commit: id(1_u32), tree: id(2) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gerrit::{Gerrit, Upload, person};
    use crate::git::Git;
    use crate::play::resolve;
    use crate::scenario::Source;

    fn config(pipeline: &str, jobs: &str) -> Arc<Config> {
        let text = format!(
            "pipelines:\n  - name: gate\n    manager: dependent\n    trigger: {{event: comment-added, approval: {{Approved: 1}}}}\n    \
             success: [{{review: {{Verified: 2}}, submit: true}}]\n    failure: [{{review: {{Verified: -2}}}}]\n{pipeline}\
             projects:\n  lib: {{gate: {jobs}}}\njobs:\n  unit: {{run: make check}}\n  slow: {{run: make slow}}\n"
        );
        resolve(&Source::Assay(text), &|name| Err(name.to_owned())).expect("a configuration")
    }

    /// Ten changes, approved a minute apart, recorded by a server whose gate ran `unit` for half an hour; the third fails.
    fn history() -> String {
        let mut gerrit = Gerrit::new("gerrit".into());
        let mut git = Git::default();
        let mut lines = Vec::new();
        for number in 1..=10 {
            gerrit.create(&mut git, number, &"lib".into(), &"master".into(), None);
            gerrit.upload(
                &mut git,
                number,
                Upload { files: Some(vec!["a".to_owned()]), ..Upload::default() },
            );
            let at = Timestamp(number as i64 * 60_000_000);
            for (label, value) in [("Code-Review", 2), ("Approved", 1)] {
                gerrit.vote(number, label, value, &person("reviewer"), at);
            }
            let mut event = gerrit.event(EventKind::CommentAdded, number, &person("reviewer"));
            event.approvals = vec![("Approved".to_owned(), 1)];
            event.facts = gerrit.facts_around(number, at);
            lines.push(serde_json::json!({"at_us": at.0, "event": event}).to_string());
            let patchset = Patchset { change: gerrit.id(number), patchset: 1 };
            let result = if number == 3 { BuildResult::failure() } else { BuildResult::success() };
            lines.push(
                serde_json::json!({"at_us": at.0 + 1_800_000_000, "build": {
                    "job": "unit", "pipeline": "gate", "changes": [patchset], "tree": format!("{number:040}"),
                    "started_at": at, "result": result,
                }})
                .to_string(),
            );
        }
        lines.join("\n")
    }

    #[test]
    fn a_narrow_window_costs_time_and_a_wide_one_machines() {
        let history = parse(&history(), "history").expect("a history");
        let wide = replay(&history, &config("    window: 20\n", "[unit]"), None, 1);
        let narrow =
            replay(&history, &config("    window: {start: 1, floor: 1, ceiling: 1}\n", "[unit]"), None, 1);
        for figures in [&wide, &narrow] {
            assert_eq!((figures.merges, figures.failed, figures.left), (9, 1, 0), "{figures:?}");
            assert_eq!(figures.sources.sampled + figures.sources.assumed, 0, "{figures:?}");
        }
        // One after the other takes ten half hours; all at once two: once with the third, once without.
        assert!(narrow.hours > 5.0 && wide.hours < 1.5, "{narrow:?} {wide:?}");
        assert!(narrow.wait_p95_us > wide.wait_p95_us && wide.merges_per_hour > 3.0 * narrow.merges_per_hour);
        assert!(wide.machine_hours > narrow.machine_hours && wide.cancelled > 0 && narrow.cancelled == 0);
        // Few workers make the wide window slow as well, and a replay can be repeated.
        let few = replay(&history, &config("    window: 20\n", "[unit]"), Some(1), 1);
        assert!(few.merges == 9 && few.wait_p50_us > wide.wait_p50_us, "{few:?}");
        assert_eq!(few, replay(&history, &config("    window: 20\n", "[unit]"), Some(1), 1));
    }

    #[test]
    fn a_result_is_that_of_the_likest_tree() {
        let change = |number| Patchset { change: Gerrit::new("gerrit".into()).id(number), patchset: 1 };
        let build = |tree: &str, ahead: &[u64], word: &str| RecordedBuild {
            job: "unit".into(),
            pipeline: "gate".into(),
            changes: vec![change(9)],
            ahead: ahead.iter().map(|number| change(*number)).collect(),
            tree: Some(tree.into()),
            started_at: Some(Timestamp(0)),
            ended_at: Some(Timestamp(7)),
            result: Some(BuildResult { word: word.to_owned(), ..BuildResult::success() }),
        };
        let builds =
            [build("a", &[], "SUCCESS"), build("b", &[1], "FAILURE"), build("c", &[1, 2], "FAILURE")];
        let record = Record::new(&builds);
        let known = &record.on_change[&("unit".into(), change(9).change, 1)];
        for (ahead, tree) in [(&[][..], "a"), (&[1], "b"), (&[2, 1], "c"), (&[3], "a"), (&[1, 2, 3], "c")] {
            let ahead: BTreeSet<_> = ahead.iter().map(|number| change(*number)).collect();
            assert_eq!(
                likest(known, &ahead).and_then(|one| one.tree.clone()),
                Some(tree.into()),
                "{ahead:?}"
            );
        }
    }

    #[test]
    fn what_never_ran_is_assumed_and_told() {
        let history = parse(&history(), "history").expect("a history");
        let config = config("", "[unit, slow]");
        let figures = replay(&history, &config, None, 1);
        // `other` is in the configuration, and no project runs it.
        assert_eq!(figures.unknown_jobs, ["slow".into()].into());
        assert!(figures.sources.assumed >= 10 && figures.sources.recorded >= 10, "{figures:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in ".{0,200}", cut in 0_usize..4000, with in ".{0,3}") {
            let _ = parse(&text, "h");
            let mut good = history();
            let at = (0..=cut.min(good.len())).rev().find(|at| good.is_char_boundary(*at)).unwrap_or(0);
            good.insert_str(at, &with);
            let _ = parse(&good, "h");
        }
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        for (text, expected) in [
            ("{}", "h:1: expected `at_us`"),
            ("\n{\"at_us\": 1, \"event\": {}}", "h:2: missing field"),
            ("nonsense", "h:1: expected"),
        ] {
            let found = parse(text, "h").expect_err(text);
            assert!(found.contains(expected), "{found}");
        }
    }
}
