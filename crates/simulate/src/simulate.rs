//! Days of a gate out of a seed, with faults; what must hold is checked all the time.

use crate::chance::{Dice, mix};
use crate::check::Violation;
use crate::oracle;
use crate::outcome::{Chances, ChangeRef, Rule};
use crate::player::{PlayError, Player, Resolve};
use crate::scenario::{
    ChangeSpec, GerritSpec, OneOrMore, PlaceSpec, PromoteSpec, PushSpec, Scenario, Source, Step, TimingSpec,
    UploadSpec, VoteSpec,
};
use crate::time::{Length, Range};
use crate::world::{Faults, Restart};
use assay_engine::gate::config::{
    Config, JobDef, JobNode, LandingWay, Manager, MergeMode, Messages, Pipeline, Precedence, Project,
    QueueDef, ReportAction, Reporters, Requirements, Trigger, WindowConfig,
};
use assay_engine::gate::ids::{JobName, ProjectName};
use assay_engine::gate::pattern::Pattern;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

/// How much happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// 100 changes with 4 jobs each, one in ten broken, 2 % flakes, 5 restarts.
    Day,
    /// A dozen changes and everything that can go wrong.
    Short,
}

/// What came of a seed.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Inputs that the gate took.
    pub steps: u64,
    /// Builds that were started.
    pub builds: usize,
    /// Changes that merged.
    pub merged: usize,
    /// What did not hold.
    pub violations: Vec<Violation>,
}

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const JOBS: usize = 4;
/// The job that a new configuration brings.
const ONE_MORE: &str = "job-more";

/// A seed's scenario.
pub fn plan(seed: u64, size: Size) -> Scenario {
    Planner { dice: Dice::new(mix(seed, 0x51A)), size, scenario: Scenario::default(), at: Vec::new() }
        .plan(seed)
}

struct Planner {
    dice: Dice,
    size: Size,
    scenario: Scenario,
    /// Steps with their times.
    at: Vec<(i64, Step)>,
}

impl Planner {
    fn plan(mut self, seed: u64) -> Scenario {
        let day = self.size == Size::Day;
        let changes = if day { 100 } else { 4 + self.dice.below(12) };
        let span = if day { 8 * HOUR } else { HOUR };
        let projects: Vec<String> = (0..=self.dice.below(4)).map(|number| format!("p{number}")).collect();
        let queues = 1 + usize::from(!day && projects.len() > 2 && self.dice.happens(300));
        let config = self.config(&projects, queues);
        self.scenario = Scenario {
            about: format!("seed {seed}"),
            config: Some(Source::Compiled(Arc::new(config))),
            timed: true,
            seed,
            timing: Self::timing(),
            chances: Chances { flake: 20, lost: if self.dice.happens(500) { 30 } else { 0 } },
            faults: self.faults(),
            workers: self.dice.happens(300).then(|| 2 + self.dice.below(20) as usize),
            ..Scenario::default()
        };
        for number in 1..=changes {
            self.change(number, &projects, changes);
            let at = self.dice.below(span as u64) as i64;
            self.at.push((at, Step::Approve(OneOrMore::One(number))));
        }
        self.breakage(changes, &projects, queues);
        let restarts = if day { 5 } else { self.dice.below(4) };
        for _ in 0..restarts {
            let how = *self
                .dice
                .pick(&[Restart::Idle, Restart::BeforeCommit, Restart::AfterCommit])
                .unwrap_or(&Restart::Idle);
            let at = self.dice.below(span as u64 + HOUR as u64) as i64;
            self.at.push((at, Step::Restart(how)));
        }
        if !day {
            self.trouble(changes, &projects, span);
        }
        self.at.sort_by_key(|(at, _)| *at);
        for (at, step) in self.at {
            self.scenario.steps.push(Step::Until(Length(at)));
            self.scenario.steps.push(step);
        }
        self.scenario
    }

    fn timing() -> TimingSpec {
        let range = |from, to| Some(Range(from, to));
        TimingSpec {
            event: range(0, 3_000_000),
            merge: range(10_000, 2_000_000),
            land: range(100_000, 3_000_000),
            landed: range(0, 2_000_000),
            start: range(0, 10_000_000),
            job: range(5 * MINUTE, 25 * MINUTE),
            jobs: BTreeMap::new(),
        }
    }

    fn faults(&mut self) -> Faults {
        if self.size == Size::Day {
            return Faults { twice: 10, ..Faults::default() };
        }
        let mut some = |per_mille| if self.dice.happens(400) { per_mille } else { 0 };
        Faults { twice: some(100), merger: some(30), refusal: some(30), sneak: some(30) }
    }

    fn change(&mut self, number: u64, projects: &[String], changes: u64) {
        let project = self.dice.pick(projects).cloned().unwrap_or_default();
        let mut spec = ChangeSpec { project, ..ChangeSpec::default() };
        let older: Vec<u64> = self
            .scenario
            .changes
            .iter()
            .filter(|(_, other)| other.project == spec.project)
            .map(|(number, _)| *number)
            .collect();
        if self.dice.happens(120)
            && let Some(parent) = self.dice.pick(&older)
        {
            spec.parents.push(ChangeRef { number: *parent, patchset: None });
        }
        if self.dice.happens(100) {
            // Mostly an older one; now and then one that is still to come, so that there are cycles.
            let end = if self.dice.happens(200) { changes } else { number.max(2) - 1 };
            let other = 1 + self.dice.below(end);
            if other != number {
                spec.depends_on.push(other);
            }
        }
        if self.dice.happens(if self.size == Size::Day { 40 } else { 150 }) {
            spec.conflicts.push(format!("key {}", self.dice.below(4)));
        }
        self.scenario.changes.insert(number, spec);
    }

    /// One change in ten breaks a job; now and then two do so together.
    fn breakage(&mut self, changes: u64, projects: &[String], queues: usize) {
        let queue = |scenario: &Scenario, number: u64| {
            let project = &scenario.changes[&number].project;
            projects.iter().position(|name| name == project).unwrap_or(0) % queues
        };
        for number in 1..=changes {
            let job = format!("job{}", self.dice.below(JOBS as u64));
            let change = ChangeRef { number, patchset: None };
            let mut with = Vec::new();
            if self.dice.happens(100) {
                with.push(change);
            } else if self.dice.happens(30) {
                let other = 1 + self.dice.below(changes);
                if queue(&self.scenario, other) == queue(&self.scenario, number) {
                    with.extend([change, ChangeRef { number: other, patchset: None }]);
                }
            }
            if !with.is_empty() {
                self.scenario.outcomes.push(breaks(job, with));
            }
        }
    }

    /// What people do.
    fn trouble(&mut self, changes: u64, projects: &[String], span: i64) {
        for _ in 0..self.dice.below(8) {
            let at = self.dice.below(span as u64 + HOUR as u64) as i64;
            let change = 1 + self.dice.below(changes);
            let project = self.dice.pick(projects).cloned().unwrap_or_default();
            let gate = "gate".to_owned();
            let step = match self.dice.below(12) {
                0 => Step::Upload(UploadSpec { change, ..UploadSpec::default() }),
                1 => Step::Vote(VoteSpec {
                    change,
                    votes: BTreeMap::from([("Code-Review".to_owned(), 0)]),
                    by: None,
                }),
                2 => Step::Abandon(OneOrMore::One(change)),
                3 => Step::Push(PushSpec { project, branch: None, conflicts: Vec::new(), drop: Vec::new() }),
                4 => Step::Promote(PromoteSpec { pipeline: gate, changes: vec![change] }),
                5 => Step::Dequeue(PlaceSpec { pipeline: gate, change }),
                6 => Step::Enqueue(PlaceSpec { pipeline: gate, change }),
                7 => Step::MergeByHand(OneOrMore::One(change)),
                8 => {
                    self.at.push((
                        at + 10 * MINUTE,
                        Step::Gerrit(GerritSpec { up: Some(true), ..GerritSpec::default() }),
                    ));
                    Step::Gerrit(GerritSpec { up: Some(false), ..GerritSpec::default() })
                }
                9 => {
                    self.at.push((at + 5 * MINUTE, Step::Unreachable(Vec::new())));
                    Step::Unreachable(vec![project])
                }
                10 => self.reconfigure(changes),
                _ => Step::Approve(OneOrMore::One(change)),
            };
            self.at.push((at, step));
            if self.dice.happens(300) {
                self.at.push((at + MINUTE, Step::Restore(OneOrMore::One(change))));
                self.at.push((at + 2 * MINUTE, Step::Approve(OneOrMore::One(change))));
            }
        }
    }

    /// One job less or one more for everybody, or a job that does something else from now on.
    fn reconfigure(&mut self, changes: u64) -> Step {
        let Some(Source::Compiled(config)) = &self.scenario.config else { return Step::Unhold };
        let mut config = config.as_ref().clone();
        let kind = self.dice.below(3);
        let _ = write!(config.hash, "+{kind}");
        match kind {
            0 => {
                let last = format!("job{}", JOBS - 1);
                every_tree(&mut config, |nodes| nodes.retain(|node| node.job.as_str() != last));
            }
            1 => {
                let one_more = JobNode { job: ONE_MORE.into(), children: Vec::new() };
                config.jobs.insert(one_more.job.clone(), Arc::new(JobDef::new(ONE_MORE)));
                every_tree(&mut config, |nodes| nodes.push(one_more.clone()));
                let broken_by = ChangeRef { number: 1 + self.dice.below(changes), patchset: None };
                self.scenario.outcomes.push(breaks(ONE_MORE.to_owned(), vec![broken_by]));
            }
            _ => {
                let number = self.dice.below(JOBS as u64);
                let name = JobName::from(format!("job{number}").as_str());
                if let Some(job) = config.jobs.get_mut(&name) {
                    Arc::make_mut(job).env.insert("EDITION".to_owned(), "2".to_owned());
                }
            }
        }
        Step::Reconfigure(Source::Compiled(Arc::new(config)))
    }

    fn config(&mut self, projects: &[String], queues: usize) -> Config {
        let swarm = self.size == Size::Short;
        let mut jobs = BTreeMap::new();
        for number in 0..JOBS {
            let name = format!("job{number}");
            let mut job = JobDef::new(name.as_str());
            if swarm {
                job.voting = number == 0 || !self.dice.happens(150);
                job.hold_following = self.dice.happens(60);
                job.hermetic = self.dice.happens(150);
                if job.hermetic && self.dice.happens(500) {
                    job.projects
                        .extend(self.dice.pick(projects).map(|name| ProjectName::from(name.as_str())));
                }
                if self.dice.happens(60) {
                    job.semaphores.insert("one".into());
                }
            }
            jobs.insert(job.name.clone(), Arc::new(job));
        }
        let tree = self.tree(swarm);
        let check = swarm && self.dice.happens(400);
        let mut pipelines = Vec::new();
        if check {
            pipelines.push(Arc::new(pipeline("check", Manager::Independent, "patchset-created", &[], 1)));
        }
        let mut gate = pipeline("gate", Manager::Dependent, "comment-added", &[("Approved", 1)], 2);
        let allow_cycles = self.dice.happens(500);
        gate.queues = (0..queues)
            .map(|number| QueueDef {
                name: format!("queue{number}").as_str().into(),
                projects: projects
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| at % queues == number)
                    .map(|(_, name)| ProjectName::from(name.as_str()))
                    .collect(),
                allow_cycles,
            })
            .collect();
        if self.dice.happens(300) {
            gate.landing = LandingWay::Push;
        }
        if swarm && self.dice.happens(300) {
            gate.window.start = 1 + self.dice.below(6) as u32;
            gate.window.floor = 1;
        }
        pipelines.push(Arc::new(gate));
        let project = |name: &String| {
            let name = ProjectName::from(name.as_str());
            let trees = pipelines.iter().map(|pipeline| (pipeline.name.clone(), tree.clone())).collect();
            let project = Project { name: name.clone(), merge_mode: MergeMode::Merge, pipelines: trees };
            (name, Arc::new(project))
        };
        Config {
            hash: "simulated".to_owned(),
            projects: projects.iter().map(project).collect(),
            pipelines,
            jobs,
            ..Config::default()
        }
    }

    fn tree(&mut self, swarm: bool) -> Vec<JobNode> {
        let leaf =
            |number: usize| JobNode { job: format!("job{number}").as_str().into(), children: Vec::new() };
        let mut nodes: Vec<JobNode> = (0..JOBS).map(leaf).collect();
        if swarm && self.dice.happens(300) {
            let child = nodes.remove(1);
            nodes[0].children.push(child);
        }
        nodes
    }
}

fn every_tree(config: &mut Config, mut change: impl FnMut(&mut Vec<JobNode>)) {
    for project in config.projects.values_mut() {
        Arc::make_mut(project).pipelines.values_mut().for_each(&mut change);
    }
}

/// A job fails wherever all of these changes are.
pub(crate) fn breaks(job: String, with: Vec<ChangeRef>) -> Rule {
    Rule { job, of: None, with, without: Vec::new(), times: None, result: "FAILURE".to_owned() }
}

/// A pipeline that votes Verified.
pub fn pipeline(name: &str, manager: Manager, event: &str, approvals: &[(&str, i32)], vote: i32) -> Pipeline {
    let review = |value, submit| ReportAction::Review {
        source: "gerrit".into(),
        labels: vec![("Verified".to_owned(), value)],
        submit,
        flags: Vec::new(),
    };
    let trigger = Trigger {
        events: Pattern::new(event).into_iter().collect(),
        approvals: approvals.iter().map(|(label, value)| ((*label).to_owned(), *value)).collect(),
        ..Trigger::of("gerrit".into())
    };
    let gated = manager == Manager::Dependent;
    Pipeline {
        name: name.into(),
        description: None,
        manager,
        source: "gerrit".into(),
        precedence: if gated { Precedence::High } else { Precedence::Normal },
        triggers: vec![trigger],
        require: Requirements::default(),
        reject: Vec::new(),
        reporters: Reporters {
            success: vec![review(vote, gated)],
            failure: vec![review(-vote, false)],
            ..Reporters::default()
        },
        messages: Messages::default(),
        dequeue_on_new_patchset: true,
        ignore_dependencies: false,
        disable_after: None,
        window: WindowConfig::default(),
        queues: Vec::new(),
        landing: LandingWay::Submit,
    }
}

/// Plays a scenario with all checks; `whole_every` inputs the expensive ones.
pub fn run(scenario: &Scenario, whole_every: u64, resolve: &Resolve<'_>) -> Result<Outcome, PlayError> {
    let mut player = Player::new(scenario, resolve)?;
    player.world.checks.whole_every = whole_every;
    player.play(scenario)?;
    let mut world = player.world;
    let mut violations = std::mem::take(&mut world.checks.violations);
    if violations.is_empty() {
        violations = oracle::differences(&mut world);
    }
    Ok(Outcome {
        steps: world.steps,
        builds: world.build_order.len(),
        merged: world.merged.len(),
        violations,
    })
}

/// Resolves what the simulation's own scenarios hold.
pub fn compiled(source: &Source) -> Result<Arc<Config>, String> {
    match source {
        Source::Compiled(config) => Ok(Arc::clone(config)),
        _ => Err("only a compiled configuration can be used here".to_owned()),
    }
}

/// A smaller scenario that breaks the same invariant.
pub fn minimise(scenario: &Scenario, invariant: &str, resolve: &Resolve<'_>) -> Scenario {
    smallest(scenario, &|candidate| {
        run(candidate, 1, resolve)
            .is_ok_and(|outcome| outcome.violations.first().is_some_and(|first| first.invariant == invariant))
    })
}

/// Steps, rules and changes are left out as long as it breaks.
fn smallest(scenario: &Scenario, breaks: &impl Fn(&Scenario) -> bool) -> Scenario {
    let mut best = scenario.clone();
    loop {
        let before = (best.steps.len(), best.outcomes.len(), best.changes.len());
        shrink(
            &mut best,
            breaks,
            |scenario| scenario.steps.len(),
            |scenario, at, count| {
                let end = (at + count).min(scenario.steps.len());
                scenario.steps.drain(at..end);
            },
        );
        shrink(
            &mut best,
            breaks,
            |scenario| scenario.outcomes.len(),
            |scenario, at, count| {
                let end = (at + count).min(scenario.outcomes.len());
                scenario.outcomes.drain(at..end);
            },
        );
        shrink(
            &mut best,
            breaks,
            |scenario| scenario.changes.len(),
            |scenario, at, count| {
                let gone: BTreeSet<u64> = scenario.changes.keys().skip(at).take(count).copied().collect();
                scenario.changes.retain(|number, _| !gone.contains(number));
            },
        );
        for simpler in simpler(&best) {
            if breaks(&simpler) {
                best = simpler;
            }
        }
        if before == (best.steps.len(), best.outcomes.len(), best.changes.len()) {
            return best;
        }
    }
}

/// Leaves out as many as possible, many at once first.
fn shrink(
    best: &mut Scenario,
    breaks: &impl Fn(&Scenario) -> bool,
    length: impl Fn(&Scenario) -> usize,
    leave_out: impl Fn(&mut Scenario, usize, usize),
) {
    let mut count = length(best).div_ceil(2);
    while count > 0 {
        let mut at = 0;
        while at < length(best) {
            let mut candidate = best.clone();
            leave_out(&mut candidate, at, count);
            if breaks(&candidate) {
                *best = candidate;
            } else {
                at += count;
            }
        }
        count /= 2;
    }
}

/// The same with one kind of chance less.
fn simpler(scenario: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut without = |change: &dyn Fn(&mut Scenario)| {
        let mut candidate = scenario.clone();
        change(&mut candidate);
        if candidate != *scenario {
            all.push(candidate);
        }
    };
    without(&|scenario| scenario.faults = Faults::default());
    without(&|scenario| scenario.chances = Chances::default());
    without(&|scenario| scenario.workers = None);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a hundred changes of short seeds, with everything that goes wrong there, so many merge at least.
    const LEAST_PER_CENT: usize = 33;

    /// The seeds of the test run. `ASSAY_SIMULATE_SEEDS` makes them more or fewer.
    #[test]
    fn seeds() {
        let count = std::env::var("ASSAY_SIMULATE_SEEDS").ok().and_then(|text| text.parse().ok());
        let count: u64 = count.unwrap_or(10_000);
        let (mut planned, mut merged) = (0, 0);
        for seed in 0..count {
            let scenario = plan(seed, Size::Short);
            let outcome = run(&scenario, 1, &compiled).expect("a plan can be played");
            planned += scenario.changes.len();
            merged += outcome.merged;
            if let Some(first) = outcome.violations.first() {
                let smallest = minimise(&scenario, first.invariant, &compiled);
                let text = serde_json::to_string(&smallest).expect("JSON");
                let text = text.replace(r#""config""#, "\n\"config\"").replace(r#""timed""#, "\n\"timed\"");
                panic!("seed {seed}: {first}\n{text}");
            }
        }
        // A gate that lets nothing in breaks nothing.
        assert!(merged * 100 >= planned * LEAST_PER_CENT, "{merged} of {planned} changes merged");
    }

    /// Of a day with a hundred changes there is left what a failure needs: here, that two changes meet and both merge.
    #[test]
    fn a_failure_is_made_small() {
        let mut scenario = plan(3, Size::Day);
        scenario.outcomes.clear();
        let merges = |scenario: &Scenario| {
            let mut player = Player::new(scenario, &compiled).ok()?;
            player.play(scenario).ok()?;
            Some(player.world.merged)
        };
        let all = merges(&scenario).expect("a plan can be played");
        let (first, last) = (all[0], *all.last().expect("some merged"));
        let small = smallest(&scenario, &|candidate| {
            merges(candidate).is_some_and(|merged| merged.contains(&first) && merged.contains(&last))
        });
        let left: Vec<u64> = small.changes.keys().copied().collect();
        assert!(left.contains(&first) && left.contains(&last) && left.len() < 6, "{left:?}");
        assert!(small.steps.len() < 8, "{:?}", small.steps);
        assert_eq!(small.chances, Chances::default());
    }

    #[test]
    fn a_seed_is_enough() {
        let twice = [0; 2].map(|_| {
            let outcome = run(&plan(3, Size::Day), 100, &compiled).expect("a plan can be played");
            (outcome.steps, outcome.builds, outcome.merged, outcome.violations)
        });
        assert_eq!(twice[0], twice[1]);
        assert_eq!(twice[0].3, []);
        assert!(twice[0].2 > 20 && twice[0].1 > 400, "{twice:?}");
    }
}
