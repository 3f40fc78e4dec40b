//! A virtual world around the real gate: it carries effects out, brings answers back, and can lose, delay, repeat and
//! reorder what is not stored.

mod agenda;
mod builds;
mod merges;
mod outside;
mod records;
mod steps;
mod words;

pub use records::{BuildRecord, BuildState, HoldRule, Note, StateRecord};
pub(crate) use words::land_word;
pub use words::{list, outcome_word};

use crate::chance::{happens, mix};
use crate::check::Checks;
use crate::content::Content;
use crate::gerrit::Gerrit;
use crate::git::{BranchIx, Git};
use crate::outcome::{ChangeRef, Outcomes};
use crate::rows::Database;
use agenda::{Delivery, Pending};
use assay_engine::gate::Gate;
use assay_engine::gate::config::{Config, JobDef, Precedence};
use assay_engine::gate::ids::{BranchName, ChangeId, ItemId, MergeId, PipelineName, ProjectName, Uuid};
use assay_engine::gate::io::{Command, Input, Report, Tip};
use assay_engine::gate::item::Item;
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

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.database.config.clone().unwrap_or_default()
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
    let own = item.changes.iter().map(|change| &change.merge.project).chain([&item.project]);
    job.hermetic.then(|| job.projects.iter().chain(own).cloned().collect())
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
