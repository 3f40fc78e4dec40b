//! A virtual world around the real gate: it carries effects out, brings answers back, and can lose, delay, repeat and
//! reorder what is not stored.

use crate::chance::{happens, mix};
use crate::check::{Checks, Violation};
use crate::content::Content;
use crate::gerrit::{Gerrit, OWN_LOGIN, Review, Upload, person};
use crate::git::{BranchIx, Git, Speculation};
use crate::outcome::{ChangeRef, Outcomes, Run, glob};
use crate::rows::Database;
use assay_engine::gate::Gate;
use assay_engine::gate::change::ChangeStatus;
use assay_engine::gate::config::{Config, EventKind, JobDef, Precedence, ReportAction};
use assay_engine::gate::ids::{
    BranchName, ChangeId, ItemId, JobName, MergeId, Patchset, PipelineName, ProjectName, Uuid,
};
use assay_engine::gate::io::{
    Answer, BuildRequest, BuildResult, Command, Effect, Event, Input, LandRequest, Merge, MergeFailure,
    MergeRequest, Report, Step, Tip,
};
use assay_engine::gate::item::{Item, ItemPhase};
use assay_engine::gate::reason::{EnqueueRefusal, Ignored, Refusal};
use assay_engine::gate::rows::GateRow;
use assay_engine::ids::Timestamp;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

/// How long things take, microseconds, from and to.
pub type Span = (i64, i64);

/// How long things take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// An event until it is known here.
    pub event: Span,
    /// The merger.
    pub merge: Span,
    /// Until a landing is begun.
    pub land: Span,
    /// Until its end is known.
    pub landed: Span,
    /// Until a worker begins.
    pub start: Span,
    /// A job without a duration of its own.
    pub job: Span,
    /// Jobs with one; `*` for any text.
    pub jobs: Vec<(String, Span)>,
}

impl Default for Timing {
    /// Everything at once, except that jobs take a minute.
    fn default() -> Self {
        let now = (0, 0);
        let job = (60_000_000, 60_000_000);
        Self { event: now, merge: now, land: now, landed: now, start: now, job, jobs: Vec::new() }
    }
}

/// What goes wrong by chance, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Faults {
    /// An event or an answer comes twice.
    pub twice: u32,
    /// A merge fails for want of a disk.
    pub merger: u32,
    /// A landing is refused.
    pub refusal: u32,
    /// Somebody pushes between the look at a branch and the submit.
    pub sneak: u32,
}

/// Something under way.
#[derive(Debug)]
pub(crate) enum Delivery {
    Event(Box<Event>),
    Facts(Vec<ChangeId>),
    Answer(Input),
    BuildStarts(Uuid),
    BuildEnds(Uuid),
    Land(Box<LandRequest>),
    Report(Box<Report>),
}

impl Delivery {
    /// What the server itself would have to remember to do it: gone with its memory.
    fn is_volatile(&self) -> bool {
        matches!(self, Self::Facts(_) | Self::Answer(_) | Self::Land(_) | Self::Report(_))
    }
}

#[derive(Debug)]
struct Pending {
    due: Timestamp,
    order: u64,
    what: Delivery,
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.order) == (other.due, other.order)
    }
}
impl Eq for Pending {}
impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Pending {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

/// How far a build is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildState {
    /// Waits for a worker.
    Queued,
    /// Runs.
    Running,
    /// Would have ended if somebody had not held it.
    Held,
    /// Ended.
    Ended(BuildResult),
    /// Nobody wanted it any more.
    Cancelled,
}

/// A build.
#[derive(Debug, Clone)]
pub struct BuildRecord {
    /// Its identity.
    pub uuid: Uuid,
    /// For which item.
    pub item: ItemId,
    /// The job.
    pub job: JobName,
    /// The pipeline.
    pub pipeline: PipelineName,
    /// Who goes first.
    pub precedence: Precedence,
    /// The changes in its tree, as the request says.
    pub changes: Vec<Patchset>,
    /// The speculative state; none for refs and timers.
    pub state: Option<Uuid>,
    /// The projects whose trees its result depends on; none if it may depend on anything.
    pub hermetic: Option<BTreeSet<ProjectName>>,
    /// What it holds while it runs.
    pub semaphores: BTreeSet<assay_engine::gate::ids::SemaphoreName>,
    /// Asked for.
    pub asked_at: Timestamp,
    /// Begun.
    pub started_at: Option<Timestamp>,
    /// Over.
    pub ended_at: Option<Timestamp>,
    /// How far it is.
    pub phase: BuildState,
    /// Keep the workspace if it fails.
    pub hold: Option<String>,
}

impl BuildRecord {
    /// True while somebody waits for its end.
    pub fn is_live(&self) -> bool {
        matches!(self.phase, BuildState::Queued | BuildState::Running | BuildState::Held)
    }
}

/// A speculative state as the merger made it; never forgotten here.
#[derive(Debug, Clone)]
pub struct StateRecord {
    /// What it is.
    pub speculation: Speculation,
    /// All branches when the first of its chain was merged.
    pub elsewhere: Content,
}

impl StateRecord {
    /// Everything that a job in it can see: all of it, or only these projects.
    pub fn visible(&self, git: &Git, only: Option<&BTreeSet<ProjectName>>) -> Content {
        let Some(only) = only else {
            let mut all = self.elsewhere.clone();
            all.extend(&self.speculation.content());
            return all;
        };
        let mut all = Content::default();
        let spots = self.speculation.spots.iter();
        spots
            .filter(|spot| only.contains(&git.branches[spot.branch].project))
            .for_each(|spot| all.extend(&spot.content));
        all
    }
}

/// A line of the time line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Microseconds since the start.
    pub at_us: i64,
    /// What it is about: `event`, `item`, `build`, `merge`, `report`, `land`, `restart`, `refused`…
    pub what: &'static str,
    /// In words.
    pub text: String,
}

/// Builds that do not end by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRule {
    /// The job; `*` for any text.
    pub job: String,
    /// The change under test; none for any.
    pub of: Option<u64>,
}

/// How the server dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Between two steps.
    Idle,
    /// After the next step was decided, before it was stored.
    BeforeCommit,
    /// After the next step was stored, before anything of it was carried out.
    AfterCommit,
}

/// The world.
pub struct World {
    /// The time.
    pub now: Timestamp,
    /// When it began.
    pub start: Timestamp,
    /// The gate under test.
    pub gate: Gate,
    gate_seed: u128,
    /// What is stored.
    pub database: Database,
    /// The review system.
    pub gerrit: Gerrit,
    /// The repositories.
    pub git: Git,
    /// The merger's memory.
    merger: HashMap<MergeId, Rc<StateRecord>>,
    /// Every state that was ever made, by the name of its refs.
    pub states: HashMap<Uuid, Rc<StateRecord>>,
    /// Every build.
    pub builds: HashMap<Uuid, BuildRecord>,
    /// In the order in which they were asked for.
    pub build_order: Vec<Uuid>,
    /// Changes in the order in which they merged.
    pub merged: Vec<u64>,
    /// Where its branch stood right after each of them.
    pub merged_tips: HashMap<u64, (BranchIx, Tip)>,
    /// How jobs end.
    pub outcomes: Outcomes,
    /// How long things take.
    pub timing: Timing,
    /// What goes wrong.
    pub faults: Faults,
    /// Builds that do not end by themselves.
    pub holds: Vec<HoldRule>,
    /// How many builds can run at once; none for any number.
    pub slots: Option<usize>,
    running: usize,
    queued: BTreeSet<(Precedence, u64, Uuid)>,
    /// Projects that cannot be fetched.
    pub broken: BTreeSet<ProjectName>,
    /// The review system answers.
    pub is_up: bool,
    deferred: Vec<Delivery>,
    agenda: BinaryHeap<Reverse<Pending>>,
    order: u64,
    seed: u64,
    /// The time line, if somebody wants it.
    pub notes: Option<Vec<Note>>,
    /// What must always hold.
    pub checks: Checks,
    dying: Option<Restart>,
    /// Events that let nothing in: the change, the pipeline, why.
    pub refused: Vec<(Option<u64>, PipelineName, String)>,
    /// Reports delivered.
    pub delivered: BTreeSet<(ItemId, u32)>,
    /// Inputs so far.
    pub steps: u64,
    /// Changes that were abandoned at some time.
    pub given_up: BTreeSet<u64>,
    /// Reports that went elsewhere than to a change, as text.
    pub elsewhere: Vec<String>,
}

/// Who gives the commands of scenarios.
pub(crate) const OPERATOR: &str = "operator";

/// 2026-01-01T00:00:00Z.
pub const EPOCH: Timestamp = Timestamp(1_767_225_600_000_000);

impl World {
    /// A world with nothing in it.
    pub fn new(seed: u64) -> Self {
        let gate_seed = u128::from(mix(seed, 1)) << 64 | u128::from(mix(seed, 2));
        Self {
            now: EPOCH,
            start: EPOCH,
            gate: Gate::new(gate_seed),
            gate_seed,
            database: Database::default(),
            gerrit: Gerrit::new("gerrit".into()),
            git: Git::default(),
            merger: HashMap::new(),
            states: HashMap::new(),
            builds: HashMap::new(),
            build_order: Vec::new(),
            merged: Vec::new(),
            merged_tips: HashMap::new(),
            outcomes: Outcomes { seed, ..Outcomes::default() },
            timing: Timing::default(),
            faults: Faults::default(),
            holds: Vec::new(),
            slots: None,
            running: 0,
            queued: BTreeSet::new(),
            broken: BTreeSet::new(),
            is_up: true,
            deferred: Vec::new(),
            agenda: BinaryHeap::new(),
            order: 0,
            seed,
            notes: None,
            checks: Checks::default(),
            dying: None,
            refused: Vec::new(),
            delivered: BTreeSet::new(),
            steps: 0,
            given_up: BTreeSet::new(),
            elsewhere: Vec::new(),
        }
    }

    /// Writes a line of the time line; `text` is made only if somebody wants it.
    pub(crate) fn note(&mut self, what: &'static str, text: impl FnOnce(&Self) -> String) {
        if self.notes.is_none() {
            return;
        }
        let at_us = self.now.micros_since(self.start);
        let text = text(self);
        if let Some(notes) = &mut self.notes {
            notes.push(Note { at_us, what, text });
        }
    }

    fn chance(&mut self) -> u64 {
        self.order += 1;
        mix(self.seed ^ 0xFA17, self.order)
    }

    fn span(&mut self, (from, to): Span) -> i64 {
        from + (self.chance() % ((to - from).max(0) as u64 + 1)) as i64
    }

    pub(crate) fn later(&mut self, delay: i64, what: Delivery) {
        self.order += 1;
        let due = Timestamp(self.now.0 + delay);
        self.agenda.push(Reverse(Pending { due, order: self.order, what }));
    }

    fn maybe_twice(&mut self, delay: i64, answer: &Input) {
        if happens(self.chance(), self.faults.twice) {
            let again = delay + self.span((0, 5_000_000));
            self.later(again, Delivery::Answer(answer.clone()));
        }
    }

    /// When something is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.agenda.peek().map(|next| next.0.due)
    }

    /// Carries out what is due up to `end`, then it is `end`. The gate's own deadlines count.
    pub fn run_until(&mut self, end: Timestamp) {
        while !self.checks.is_broken() {
            let due = self.next_due();
            let deadline = self.gate.next_deadline();
            let next = due.into_iter().chain(deadline).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if due.is_some_and(|due| due <= next) {
                self.deliver_next();
            } else {
                self.feed(Input::Tick);
            }
        }
        self.now = self.now.max(end);
    }

    /// Carries everything out until nothing is under way, at most `limit` inputs; false if something still is. The
    /// gate's own deadlines count only while something else is to come.
    pub fn settle(&mut self, limit: u64) -> bool {
        let last = self.steps + limit;
        while let Some(due) = self.next_due() {
            if self.steps >= last || self.checks.is_broken() {
                return false;
            }
            match self.gate.next_deadline() {
                Some(deadline) if deadline < due => {
                    self.now = self.now.max(deadline);
                    self.feed(Input::Tick);
                }
                _ => {
                    self.now = self.now.max(due);
                    self.deliver_next();
                }
            }
        }
        true
    }

    fn deliver_next(&mut self) {
        if let Some(Reverse(next)) = self.agenda.pop() {
            self.deliver(next.what);
        }
    }

    fn deliver(&mut self, what: Delivery) {
        let outside =
            matches!(what, Delivery::Event(_) | Delivery::Facts(_) | Delivery::Land(_) | Delivery::Report(_));
        if outside && !self.is_up {
            self.deferred.push(what);
            return;
        }
        match what {
            Delivery::Event(event) => self.event_arrives(*event),
            Delivery::Facts(ids) => {
                let facts = ids.iter().filter_map(|id| self.gerrit.facts(id.number, self.now)).collect();
                self.feed(Input::Facts(facts));
            }
            Delivery::Answer(input) => self.feed(input),
            Delivery::BuildStarts(build) => self.build_starts(build),
            Delivery::BuildEnds(build) => self.build_ends(build),
            Delivery::Land(request) => self.land(*request),
            Delivery::Report(report) => self.report(*report),
        }
    }

    fn event_arrives(&mut self, mut event: Event) {
        if let Some(patchset) = &event.change {
            event.facts = self.gerrit.facts_around(patchset.change.number, self.now);
        }
        if event.kind == EventKind::RefUpdated {
            event.facts.clear();
        }
        self.feed(Input::Event(Box::new(event)));
    }

    /// One input: decided, stored, carried out; or lost by a death in between.
    pub fn feed(&mut self, input: Input) {
        self.now = Timestamp(self.now.0 + 1);
        self.steps += 1;
        let dying = self.dying.take();
        let durable = matches!(
            input,
            Input::Event(_)
                | Input::BuildEnded { .. }
                | Input::BuildStarted { .. }
                | Input::Command { .. }
                | Input::Configure(_)
        );
        if dying == Some(Restart::BeforeCommit) {
            let _ = self.gate.step(input.clone(), self.now);
            // What led to the input has not happened for the gate yet.
            self.checks.is_paused = true;
            self.restart();
            self.checks.is_paused = false;
            if durable {
                self.feed(input);
            }
            return;
        }
        let change = match &input {
            Input::Event(event) => event.change.as_ref().map(|patchset| patchset.change.number),
            Input::Command { command: Command::Enqueue { patchset, .. }, .. } => Some(patchset.change.number),
            _ => None,
        };
        let asked = match &input {
            Input::Command { command: Command::Enqueue { pipeline, .. }, .. } => Some(pipeline.clone()),
            _ => None,
        };
        let about = self.notes.is_some().then(|| Self::tell_input(&input)).flatten();
        let again = (self.checks.looks() && comes_again(&input)).then(|| input.clone());
        let step = self.gate.step(input, self.now);
        if let Some(input) = again {
            self.feed_again(input);
        }
        if let Some((what, text)) = about {
            self.note(what, |_| text);
        }
        self.answer(change, asked.as_ref(), &step);
        let effects = self.store(step);
        if dying == Some(Restart::AfterCommit) {
            self.restart();
        } else {
            for effect in effects {
                self.carry_out(effect);
            }
        }
        self.check();
    }

    /// Answers and facts that come again change nothing.
    fn feed_again(&mut self, input: Input) {
        let is_facts = matches!(input, Input::Facts(_));
        let mut twin = self.gate.clone();
        let step = twin.step(input, self.now);
        // Facts may be stored again, as they are.
        let changed = if is_facts { twin.rows() != self.gate.rows() } else { !step.effects.is_empty() };
        if changed {
            let what = format!("an answer comes twice, and leads to {:?}", step.effects);
            self.checks.found(Violation::new("I17", what));
        }
    }

    fn check(&mut self) {
        let mut checks = std::mem::take(&mut self.checks);
        checks.after_step(self);
        self.checks = checks;
    }

    fn refusal_is_so(&mut self, pipeline: &PipelineName, reason: &EnqueueRefusal) {
        if let Err(why) = crate::refusal::is_so(self, pipeline, reason) {
            let what = format!("{pipeline} refuses a change because \"{reason}\", and {why}");
            self.checks.found(Violation::new("I7", what));
        }
    }

    fn answer(&mut self, change: Option<u64>, asked: Option<&PipelineName>, step: &Step) {
        match &step.answer {
            Ok(Answer::Event(verdicts)) => {
                for (pipeline, verdict) in verdicts {
                    if let Err(why) = verdict {
                        if let Ignored::Refused(reason) = why {
                            self.refusal_is_so(pipeline, reason);
                        }
                        let text = why.to_string();
                        self.note("ignored", |_| format!("{pipeline}: {text}"));
                        self.refused.push((change, pipeline.clone(), text));
                    }
                }
            }
            Ok(Answer::Done | Answer::Autohold(_)) => {}
            Err(refusal) => {
                if let (Refusal::Refused(reason), Some(pipeline)) = (refusal, asked) {
                    self.refusal_is_so(pipeline, reason);
                }
                let text = refusal.to_string();
                self.note("refused", |_| text.clone());
                self.refused.push((change, PipelineName::from(""), text));
            }
        }
    }

    fn tell_input(input: &Input) -> Option<(&'static str, String)> {
        let told = match input {
            Input::Configure(_) => ("configure", "a new configuration".to_owned()),
            Input::Event(event) => {
                let about = match (&event.change, &event.ref_update, &event.timer) {
                    (Some(patchset), _, _) => patchset.to_string(),
                    (_, Some(update), _) => format!("{} {}", update.project, update.name),
                    (_, _, Some((project, time))) => format!("{project} {time}"),
                    _ => String::new(),
                };
                let votes: Vec<String> =
                    event.approvals.iter().map(|(label, value)| format!(" {label}{value:+}")).collect();
                ("event", format!("{} {about}{}", event.kind.word(), votes.concat()))
            }
            Input::Command { command, by } => ("command", format!("{by}: {command:?}")),
            Input::Merged { merge, result: Err(why) } => ("merge", format!("{merge}: {why}")),
            Input::Landed { item, result } => ("landed", format!("item {item}: {}", land_word(result))),
            _ => return None,
        };
        Some(told)
    }

    /// Stores what is to be stored; starts and ends of builds are in the same transaction. Returns the rest.
    fn store(&mut self, step: Step) -> Vec<Effect> {
        let mut rest = Vec::new();
        for effect in step.effects {
            match effect {
                Effect::Save(row) => {
                    self.saved(&row);
                    self.database.save(*row);
                }
                Effect::StartBuild(request) => self.start_build(&request),
                Effect::CancelBuild(build) => self.cancel_build(build),
                other => rest.push(other),
            }
        }
        rest
    }

    fn saved(&mut self, row: &GateRow) {
        let GateRow::Item(item) = row else {
            if let GateRow::Queue(queue) = row {
                self.note("queue", |_| {
                    let hold = queue.hold.as_ref().map(|(why, _)| format!(", held: {why}"));
                    format!(
                        "{} {}: window {}{}",
                        queue.pipeline,
                        queue.queue,
                        queue.window,
                        hold.unwrap_or_default()
                    )
                });
            }
            return;
        };
        let before = self.database.item(item.id).cloned();
        let mut checks = std::mem::take(&mut self.checks);
        checks.item_saved(self, before.as_deref(), item);
        self.checks = checks;
        if self.notes.is_none() {
            return;
        }
        let name = format!("{} {} (item {})", item.pipeline, item.subject, item.id);
        match &before {
            None => self.note("item", |_| format!("{name} is in: {}", item.because)),
            Some(before) if before.buildset.number != item.buildset.number => {
                let because = item.buildset.because.as_ref().map(ToString::to_string).unwrap_or_default();
                self.note("reset", |_| format!("{name} starts anew: {because}"));
            }
            Some(_) => {}
        }
        if let ItemPhase::Ended(end) = &item.phase
            && before.as_ref().is_none_or(|before| before.is_live())
        {
            let word = outcome_word(&end.outcome);
            let why: Vec<String> = end.failures.iter().map(ToString::to_string).collect();
            self.note("out", |_| format!("{name} {word} {}", why.join(", ")));
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Merge(merge) => self.merge(merge),
            Effect::Report(report) => self.later(0, Delivery::Report(report)),
            Effect::Land(request) => {
                let delay = self.span(self.timing.land);
                self.later(delay, Delivery::Land(request));
            }
            Effect::Refresh(ids) => {
                let delay = self.span(self.timing.event);
                self.later(delay, Delivery::Facts(ids));
            }
            Effect::Offer { merged, project } => {
                for event in self.gerrit.open_of(&merged, &project) {
                    self.announce(event);
                }
            }
            Effect::Save(_) | Effect::StartBuild(_) | Effect::CancelBuild(_) | Effect::Changed(_) => {}
        }
    }

    fn merge(&mut self, merge: Merge) {
        match merge {
            Merge::Make(request) => self.make_merge(&request),
            Merge::Adopt { merge, identity, merged, .. } => {
                if let Some(state) = self.states.get(&identity) {
                    self.merger.insert(merge, Rc::clone(state));
                } else {
                    self.checks.found(Violation::new(
                        "I28",
                        format!("{merge} is to be adopted and was never made: {merged:?}"),
                    ));
                }
            }
            Merge::Forget(merge) => {
                self.merger.remove(&merge);
            }
        }
    }

    fn make_merge(&mut self, request: &MergeRequest) {
        let below = match request.ahead {
            None => {
                let mut elsewhere = Content::default();
                self.git.branches.iter().for_each(|branch| elsewhere.extend(&branch.content));
                Rc::new(StateRecord { speculation: Speculation::default(), elsewhere })
            }
            Some(ahead) => match self.merger.get(&ahead) {
                Some(state) => Rc::clone(state),
                // It failed or is forgotten; nobody waits for this one.
                None => return,
            },
        };
        let delay = self.span(self.timing.merge);
        let broken = request.changes.iter().find(|change| self.broken.contains(&change.project));
        let unlucky = happens(self.chance(), self.faults.merger);
        let failing = broken.or_else(|| request.changes.first().filter(|_| unlucky));
        let result = if let Some(change) = failing {
            let why = "the repository cannot be fetched".to_owned();
            Err(MergeFailure::Infrastructure { project: change.project.clone(), why })
        } else {
            self.git.speculate(&below.speculation, &request.changes).map(|(speculation, merged)| {
                let state = Rc::new(StateRecord { speculation, elsewhere: below.elsewhere.clone() });
                self.merger.insert(request.merge, Rc::clone(&state));
                self.states.insert(request.identity, state);
                merged
            })
        };
        let answer = Input::Merged { merge: request.merge, result };
        self.maybe_twice(delay, &answer);
        self.later(delay, Delivery::Answer(answer));
    }

    fn start_build(&mut self, request: &BuildRequest) {
        let state = request.params.get("ZUUL_REF").and_then(|name| name.rsplit_once("/Z"));
        let state = state.and_then(|(_, identity)| Uuid::try_from(identity.to_owned()).ok());
        let record = BuildRecord {
            uuid: request.uuid,
            item: request.item,
            job: request.job.name.clone(),
            pipeline: request.pipeline.clone(),
            precedence: request.precedence,
            changes: request.changes.clone(),
            state,
            hermetic: self.database.items.get(&request.item).and_then(|item| workspace(&request.job, item)),
            semaphores: request.job.semaphores.clone(),
            asked_at: self.now,
            started_at: None,
            ended_at: None,
            phase: BuildState::Queued,
            hold: request.hold.clone(),
        };
        let mut checks = std::mem::take(&mut self.checks);
        checks.build_starts(self, &record);
        self.checks = checks;
        self.note("build", |_| format!("{} for {} asked for", record.job, list(&record.changes)));
        self.build_order.push(request.uuid);
        self.builds.insert(request.uuid, record);
        self.order += 1;
        self.queued.insert((request.precedence, self.order, request.uuid));
        self.dispatch();
    }

    fn dispatch(&mut self) {
        while self.slots.is_none_or(|slots| self.running < slots) {
            let Some((_, _, build)) = self.queued.pop_first() else { break };
            self.running += 1;
            let delay = self.span(self.timing.start);
            self.later(delay, Delivery::BuildStarts(build));
        }
    }

    fn build_starts(&mut self, uuid: Uuid) {
        let Some(build) = self.builds.get_mut(&uuid) else { return };
        if build.phase != BuildState::Queued {
            return;
        }
        build.phase = BuildState::Running;
        build.started_at = Some(self.now);
        let job = build.job.clone();
        let of = build.changes.last().map(|patchset| patchset.change.number);
        let held = self.holds.iter().any(|hold| fits(hold, &job, of));
        self.feed(Input::BuildStarted { build: uuid, at: self.now });
        if held {
            if let Some(build) = self.builds.get_mut(&uuid)
                && build.phase == BuildState::Running
            {
                build.phase = BuildState::Held;
            }
            return;
        }
        let own = self.timing.jobs.iter().find(|(pattern, _)| glob(pattern, job.as_str()));
        let span = own.map_or(self.timing.job, |(_, span)| *span);
        let delay = self.span(span);
        self.later(delay, Delivery::BuildEnds(uuid));
    }

    fn build_ends(&mut self, uuid: Uuid) {
        let Some(build) = self.builds.get(&uuid).filter(|build| build.is_live()).cloned() else { return };
        let result = self.decide(&build);
        self.running = self.running.saturating_sub(1);
        if let Some(build) = self.builds.get_mut(&uuid) {
            build.phase = BuildState::Ended(result.clone());
            build.ended_at = Some(self.now);
        }
        self.note("build", |_| format!("{} for {} {}", build.job, list(&build.changes), result.word));
        let input = Input::BuildEnded { build: uuid, result };
        self.maybe_twice(0, &input);
        self.feed(input);
        self.dispatch();
    }

    /// How this build ends.
    fn decide(&mut self, build: &BuildRecord) -> BuildResult {
        let state = build.state.and_then(|state| self.states.get(&state)).cloned();
        let tree = state.map(|state| state.visible(&self.git, build.hermetic.as_ref())).unwrap_or_default();
        let lost = self.build_order.iter().filter_map(|uuid| self.builds.get(uuid)).filter(|other| {
            other.job == build.job
                && other.item == build.item
                && other.state == build.state
                && matches!(&other.phase, BuildState::Ended(result)
                    if result.class == assay_engine::outcome::OutcomeClass::Infrastructure)
        });
        let lost = if self.outcomes.chances.lost == 0 { 0 } else { lost.count() as u32 };
        let of = build.changes.last().map(|patchset| patchset.change.number);
        let run = Run { job: build.job.as_str(), of, tree: &tree, lost };
        let gerrit = &self.gerrit;
        self.outcomes.decide(run, |change| revisions(gerrit, change))
    }

    fn cancel_build(&mut self, uuid: Uuid) {
        let Some(build) = self.builds.get_mut(&uuid) else {
            self.checks
                .found(Violation::new("I9", format!("build {uuid} is cancelled and was never started")));
            return;
        };
        if !build.is_live() {
            return;
        }
        let was_queued = self.queued.iter().find(|(_, _, other)| *other == uuid).copied();
        build.phase = BuildState::Cancelled;
        build.ended_at = Some(self.now);
        let text = format!("{} for {} cancelled", build.job, list(&build.changes));
        self.note("build", |_| text);
        match was_queued {
            Some(entry) => {
                self.queued.remove(&entry);
            }
            None => self.running = self.running.saturating_sub(1),
        }
        if happens(self.chance(), self.faults.twice) {
            let late = Input::BuildEnded { build: uuid, result: crate::outcome::result("ABORTED") };
            self.later(1_000_000, Delivery::Answer(late));
        }
        self.dispatch();
    }

    fn report(&mut self, report: Report) {
        if let Some((_, delivered)) = self.database.reports.get_mut(&report.id) {
            *delivered = true;
        }
        self.tell(&report);
    }

    /// Delivers a report, once.
    pub(crate) fn tell(&mut self, report: &Report) {
        if !self.delivered.insert(report.id) {
            return;
        }
        let line = report.message.lines().next().unwrap_or_default().to_owned();
        self.note("report", |_| format!("{} to {}: {line}", report.pipeline, report.about));
        let ReportAction::Review { labels, submit, .. } = &report.action else {
            self.elsewhere.push(format!("{} {}: {line}", report.pipeline, report.about));
            return;
        };
        let assay_engine::gate::change::Subject::Change(patchset) = &report.about else { return };
        let number = patchset.change.number;
        let own = person(OWN_LOGIN);
        let Some(change) = self.gerrit.changes.get_mut(&number) else { return };
        change.reviews.push(Review {
            patchset: patchset.patchset,
            labels: labels.clone(),
            message: report.message.clone(),
        });
        // Votes on an old patchset are taken and change nothing of the new one.
        if patchset.patchset == change.current() {
            for (label, value) in labels {
                self.gerrit.vote(number, label, *value, &own, self.now);
            }
        }
        let mut event = self.gerrit.event(EventKind::CommentAdded, number, &own);
        event.change = Some(patchset.clone());
        event.approvals.clone_from(labels);
        event.comment = Some(format!("Patch Set {}:\n\n{}", patchset.patchset, report.message));
        self.announce(event);
        if *submit && !self.is_dependent(&report.pipeline) {
            self.submit_alone(patchset);
        }
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.database.config.clone().unwrap_or_default()
    }

    /// True if an answer of the merger is under way.
    pub(crate) fn is_awaited(&self, id: MergeId) -> bool {
        self.agenda.iter().any(|pending| {
            matches!(&pending.0.what, Delivery::Answer(Input::Merged { merge, .. }) if *merge == id)
        })
    }

    /// True if a landing or its answer is under way.
    pub(crate) fn is_landing(&self, id: ItemId) -> bool {
        let is_it = |what: &Delivery| match what {
            Delivery::Land(request) => request.item == id,
            Delivery::Answer(Input::Landed { item, .. }) => *item == id,
            _ => false,
        };
        self.agenda.iter().any(|pending| is_it(&pending.0.what)) || self.deferred.iter().any(is_it)
    }

    fn is_dependent(&self, pipeline: &PipelineName) -> bool {
        let config = self.config();
        config
            .pipeline(pipeline)
            .is_some_and(|pipeline| pipeline.manager == assay_engine::gate::config::Manager::Dependent)
    }

    /// An event at the review system; it is known here later, perhaps twice.
    pub fn announce(&mut self, event: Event) {
        let delay = self.span(self.timing.event);
        if happens(self.chance(), self.faults.twice) {
            let again = self.span(self.timing.event);
            self.later(delay + again, Delivery::Event(Box::new(event.clone())));
        }
        self.later(delay, Delivery::Event(Box::new(event)));
    }

    /// The server dies (now, or at the next input) and comes back.
    pub fn die(&mut self, how: Restart) {
        match how {
            Restart::Idle => self.restart(),
            Restart::BeforeCommit | Restart::AfterCommit => self.dying = Some(how),
        }
    }

    fn restart(&mut self) {
        self.note("restart", |_| "the server dies and comes back".to_owned());
        self.merger.clear();
        // What else would be under way is asked for again.
        let agenda = std::mem::take(&mut self.agenda);
        self.agenda = agenda.into_iter().filter(|pending| !pending.0.what.is_volatile()).collect();
        self.deferred.retain(|what| !what.is_volatile());
        let rows = self.database.rows();
        let known: Vec<ChangeId> = rows.changes.iter().map(|facts| facts.id.clone()).collect();
        self.gate = Gate::rebuild(rows, self.gate_seed);
        let undelivered: Vec<Box<Report>> = self
            .database
            .reports
            .values()
            .filter(|(_, delivered)| !delivered)
            .map(|(report, _)| report.clone())
            .collect();
        for report in undelivered {
            self.later(0, Delivery::Report(report));
        }
        self.feed(Input::Tick);
        // The catch-up: what the review system says now of everything that is known.
        let delay = self.span(self.timing.event);
        self.later(delay, Delivery::Facts(known));
    }

    /// The review system stops answering, or answers again.
    pub fn set_up(&mut self, is_up: bool) {
        self.is_up = is_up;
        if is_up {
            let deferred = std::mem::take(&mut self.deferred);
            for what in deferred {
                self.later(0, what);
            }
        }
    }

    /// Ends builds that are held and fit.
    pub fn release(&mut self, rule: &HoldRule, at_most: Option<usize>) {
        let fit: Vec<Uuid> = self
            .build_order
            .iter()
            .filter(|uuid| {
                let build = &self.builds[uuid];
                let of = build.changes.last().map(|patchset| patchset.change.number);
                build.phase == BuildState::Held && fits(rule, &build.job, of)
            })
            .take(at_most.unwrap_or(usize::MAX))
            .copied()
            .collect();
        for build in fit {
            self.later(0, Delivery::BuildEnds(build));
        }
    }

    /// A command of an operator.
    pub fn command(&mut self, command: Command) {
        let promotes = matches!(command, Command::Promote { .. });
        let refused = self.refused.len();
        self.feed(Input::Command { command, by: OPERATOR.to_owned() });
        if promotes && self.refused.len() == refused {
            self.checks.promoted(&self.database);
        }
    }

    /// A new configuration.
    pub fn configure(&mut self, config: Arc<Config>) {
        for project in config.projects.keys() {
            self.git.branch(project, &BranchName::from("master"));
        }
        self.feed(Input::Configure(config));
    }

    /// A new patchset, and its event; refused if the change is closed.
    pub fn upload(&mut self, number: u64, upload: Upload) {
        let is_open = |change: &crate::gerrit::Change| change.status.is_open();
        if !self.gerrit.changes.get(&number).is_some_and(is_open) {
            return;
        }
        if self.gerrit.upload(&mut self.git, number, upload).is_some() {
            let event = self.gerrit.event(EventKind::PatchsetCreated, number, &person("owner"));
            self.announce(event);
        }
    }

    /// Votes and a comment, and their event.
    pub fn comment(&mut self, number: u64, by: &str, votes: &[(String, i32)], comment: &str) {
        let by = person(by);
        for (label, value) in votes {
            self.gerrit.vote(number, label, *value, &by, self.now);
        }
        let mut event = self.gerrit.event(EventKind::CommentAdded, number, &by);
        event.approvals = votes.to_vec();
        event.comment = Some(comment.to_owned());
        self.announce(event);
    }

    /// A change is given up, or taken up again.
    pub fn set_status(&mut self, number: u64, status: ChangeStatus, kind: EventKind) {
        if let Some(change) = self.gerrit.changes.get_mut(&number) {
            if change.status == ChangeStatus::Merged {
                return;
            }
            change.status = status;
            if status == ChangeStatus::Abandoned {
                self.given_up.insert(number);
            }
            let event = self.gerrit.event(kind, number, &person("owner"));
            self.announce(event);
        }
    }

    /// Somebody pushes past the review; `drop` are changes that the branch loses by it.
    pub fn foreign_push(
        &mut self,
        project: &ProjectName,
        name: &BranchName,
        conflicts: &[String],
        drop: &[u64],
    ) {
        let branch = self.git.branch(project, name);
        let old = self.git.branches[branch].tip.commit.clone();
        let mut lost = Content::default();
        for number in drop {
            lost.extend(&revisions(&self.gerrit, ChangeRef { number: *number, patchset: None }));
        }
        let mut content = self.git.branches[branch].content.without(&lost);
        let revision = self.git.upload(content.clone(), conflicts, None);
        content.insert(revision);
        let tip = self.git.set(branch, content);
        self.note("push", |_| format!("somebody pushes to {project} {name}"));
        let event = self.gerrit.ref_event(project, name, old, tip.commit);
        self.announce(event);
    }

    /// The expensive checks, now.
    pub fn whole_check(&mut self) {
        let mut checks = std::mem::take(&mut self.checks);
        checks.whole(self);
        self.checks = checks;
    }

    /// The checks for when everything is over.
    pub fn end_check(&mut self) {
        let mut checks = std::mem::take(&mut self.checks);
        checks.at_end(self);
        self.checks = checks;
    }

    /// Nothing goes wrong any more.
    pub fn heal(&mut self) {
        self.faults = Faults::default();
        self.outcomes.chances.lost = 0;
        self.broken.clear();
        self.holds.clear();
        self.set_up(true);
        self.release(&HoldRule { job: "*".to_owned(), of: None }, None);
    }

    /// Whatever holds a queue is released.
    pub fn release_queues(&mut self) {
        let queues = &self.gate.held().queues;
        let held: Vec<_> =
            queues.iter().filter(|(_, queue)| queue.hold.is_some()).map(|(key, _)| key.clone()).collect();
        for (pipeline, queue) in held {
            self.command(Command::Release { pipeline, queue });
        }
    }

    /// Ticks and everything else until the gate is empty or nothing comes any more; false if something is left.
    pub fn drain(&mut self, limit: u64) -> bool {
        let last = self.steps + limit;
        while self.steps < last && !self.checks.is_broken() {
            let next = self.next_due().into_iter().chain(self.gate.next_deadline()).min();
            let Some(next) = next else { break };
            self.run_until(next.max(self.now));
        }
        self.database.items.is_empty()
    }

    pub(crate) fn is_unlucky(&mut self, per_mille: u32) -> bool {
        happens(self.chance(), per_mille)
    }

    pub(crate) fn landing_answer(&mut self, input: Input) {
        let delay = self.span(self.timing.landed);
        self.maybe_twice(delay, &input);
        self.later(delay, Delivery::Answer(input));
    }
}

/// The projects that the result of a hermetic job depends on.
pub(crate) fn workspace(job: &JobDef, item: &Item) -> Option<BTreeSet<ProjectName>> {
    job.hermetic.then(|| job.projects.iter().chain([&item.project]).cloned().collect())
}

/// True for what outside may say twice, and what is not kept apart by a key as events are.
fn comes_again(input: &Input) -> bool {
    matches!(
        input,
        Input::Facts(_)
            | Input::Merged { .. }
            | Input::BuildStarted { .. }
            | Input::BuildEnded { .. }
            | Input::Landed { .. }
    )
}

fn fits(hold: &HoldRule, job: &JobName, of: Option<u64>) -> bool {
    glob(&hold.job, job.as_str()) && (hold.of.is_none() || hold.of == of)
}

/// The revisions of a change.
pub(crate) fn revisions(gerrit: &Gerrit, change: ChangeRef) -> Content {
    let Some(model) = gerrit.changes.get(&change.number) else { return Content::default() };
    let chosen = model
        .patchsets
        .iter()
        .enumerate()
        .filter(|(at, _)| change.patchset.is_none_or(|patchset| patchset as usize == at + 1));
    chosen.map(|(_, patchset)| patchset.revision).collect()
}

/// Patchsets as Zuul writes them.
pub fn list(patchsets: &[Patchset]) -> String {
    let words: Vec<String> = patchsets.iter().map(ToString::to_string).collect();
    words.join(" ")
}

/// How a landing ended, in words.
pub(crate) fn land_word(result: &assay_engine::gate::io::LandResult) -> String {
    use assay_engine::gate::io::LandResult as R;
    match result {
        R::Landed { .. } => "landed".to_owned(),
        R::BaseMoved { project, branch, .. } => format!("{project} {branch} has moved"),
        R::Refused { why } => format!("refused: {why}"),
        R::TreeMismatch { project, branch, .. } => format!("{project} {branch} holds a tree nobody tested"),
        R::Partial { refused, why, .. } => format!("partly; {refused} refused: {why}"),
    }
}

/// How an item ended, in one word and the reason for an eviction.
pub fn outcome_word(outcome: &assay_engine::gate::item::ItemOutcome) -> String {
    use assay_engine::gate::item::ItemOutcome as O;
    match outcome {
        O::Landed { .. } => "landed".to_owned(),
        O::Passed => "passed".to_owned(),
        O::Failed => "failed".to_owned(),
        O::Evicted { reason } => format!("evicted: {reason}"),
        O::Refused { reason } => format!("refused: {reason}"),
    }
}
