//! Carries the steps of a scenario out in the world.

use crate::check::Violation;
use crate::gerrit::{Footer, Upload};
use crate::scenario::{
    ChangeSpec, Expect, GerritSpec, HoldSpec, PushSpec, QueueSpec, RefSpec, Scenario, Source, Step,
    TimingSpec, UploadSpec,
};
use crate::world::{HoldRule, Timing, World};
use assay_engine::gate::change::{ChangeStatus, RefUpdate};
use assay_engine::gate::config::{Config, EventKind};
use assay_engine::gate::ids::{BranchName, Oid, Patchset, PipelineName, ProjectName, QueueName};
use assay_engine::gate::io::{Command, Event};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The most inputs that a step may lead to before everything is at rest.
const SETTLE_LIMIT: u64 = 200_000;

/// Makes configurations of what scenarios say.
pub type Resolve<'r> = dyn Fn(&Source) -> Result<Arc<Config>, String> + 'r;

/// Why a scenario cannot be played.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlayError {
    /// The configuration is wrong.
    #[error("the configuration of the scenario cannot be used:\n{0}")]
    Config(String),
    /// A step names what does not exist.
    #[error("step {step}: {what}")]
    Step {
        /// Which, from 1.
        step: usize,
        /// What is wrong, with the remedy.
        what: String,
    },
}

/// A scenario on its way.
pub struct Player<'r> {
    /// The world.
    pub world: World,
    /// How a change's patchsets are made.
    specs: BTreeMap<u64, ChangeSpec>,
    resolve: &'r Resolve<'r>,
    timed: bool,
    refs: HashMap<(String, String), Oid>,
    refs_made: u64,
    /// What an `expect` step or the end missed.
    pub misses: Vec<String>,
}

impl<'r> Player<'r> {
    /// The world of a scenario, before its first step.
    pub fn new(scenario: &Scenario, resolve: &'r Resolve<'r>) -> Result<Self, PlayError> {
        let mut world = World::new(scenario.seed);
        world.timing = timing(&scenario.timing);
        world.faults = scenario.faults;
        world.slots = scenario.workers;
        world.outcomes.chances = scenario.chances;
        world.outcomes.rules = scenario.outcomes.iter().map(|rule| (rule.clone(), 0)).collect();
        if !scenario.labels.is_empty() {
            world.gerrit.labels = scenario
                .labels
                .iter()
                .map(|(label, (lowest, highest))| (label.clone(), *lowest, *highest))
                .collect();
        }
        let mut player = Self {
            world,
            specs: scenario.changes.clone(),
            resolve,
            timed: scenario.timed,
            refs: HashMap::new(),
            refs_made: 0,
            misses: Vec::new(),
        };
        if let Some(source) = &scenario.config {
            let config = resolve(source).map_err(PlayError::Config)?;
            player.world.configure(config);
        }
        player.create_all().map_err(|what| PlayError::Step { step: 0, what })?;
        Ok(player)
    }

    /// All changes, those that others stand on first.
    fn create_all(&mut self) -> Result<(), String> {
        for (number, spec) in &self.specs.clone() {
            let same = spec.same_id_as.map(crate::gerrit::change_id);
            let branch = BranchName::from(spec.branch.as_deref().unwrap_or("master"));
            let project = ProjectName::from(spec.project.as_str());
            let world = &mut self.world;
            world.gerrit.create(&mut world.git, *number, &project, &branch, same.as_deref());
        }
        let mut waiting: Vec<u64> =
            self.specs.iter().filter(|(_, spec)| !spec.later).map(|(number, _)| *number).collect();
        while !waiting.is_empty() {
            let before = waiting.len();
            let mut rest = Vec::new();
            for number in waiting {
                let upload = self.upload_of(number, &UploadSpec::default());
                let world = &mut self.world;
                if world.gerrit.upload(&mut world.git, number, upload).is_some() {
                    self.initial_votes(number, None);
                } else {
                    rest.push(number);
                }
            }
            if rest.len() == before {
                return Err(format!(
                    "changes {rest:?} stand on parents that do not exist, or on each other; declare the parents under \
                     `changes`"
                ));
            }
            waiting = rest;
        }
        Ok(())
    }

    fn upload_of(&self, number: u64, over: &UploadSpec) -> Upload {
        let none = ChangeSpec::default();
        let spec = self.specs.get(&number).unwrap_or(&none);
        let parents = over.parents.as_ref().unwrap_or(&spec.parents);
        let ids = over.depends_on.as_ref().unwrap_or(&spec.depends_on);
        let mut footers: Vec<Footer> = ids.iter().map(|other| Footer::Id(*other)).collect();
        footers.extend(spec.depends_on_url.iter().map(|other| Footer::Url(*other)));
        let files = over.files.as_ref().or(spec.files.as_ref()).cloned();
        let files = files.unwrap_or_else(|| vec![format!("file-{number}")]);
        Upload {
            parents: parents.iter().map(|parent| (parent.number, parent.patchset.unwrap_or(0))).collect(),
            footers,
            files: (!files.is_empty()).then_some(files),
            conflicts: over.conflicts.as_ref().unwrap_or(&spec.conflicts).clone(),
        }
    }

    fn initial_votes(&mut self, number: u64, over: Option<&BTreeMap<String, i32>>) {
        let usual = BTreeMap::from([("Code-Review".to_owned(), 2)]);
        let own = self.specs.get(&number).and_then(|spec| spec.votes.clone());
        let votes = over.cloned().or(own).unwrap_or(usual);
        let by = crate::gerrit::person("reviewer");
        for (label, value) in votes {
            self.world.gerrit.vote(number, &label, value, &by, self.world.now);
        }
    }

    /// All steps, then rest.
    pub fn play(&mut self, scenario: &Scenario) -> Result<(), PlayError> {
        for (at, step) in scenario.steps.iter().enumerate() {
            self.step(step).map_err(|what| PlayError::Step { step: at + 1, what })?;
            if !self.timed {
                self.rest();
            }
        }
        if self.timed {
            self.finish();
        }
        if let Some(expect) = &scenario.expect {
            self.expect("at the end", expect);
        }
        Ok(())
    }

    fn rest(&mut self) {
        if !self.world.settle(SETTLE_LIMIT) && !self.world.checks.is_broken() {
            let what = format!("{SETTLE_LIMIT} inputs and no rest");
            self.world.checks.found(Violation::new("I24", what));
        }
        self.world.whole_check();
    }

    /// No faults any more; everything that is left is carried out.
    fn finish(&mut self) {
        self.world.heal();
        if !self.world.drain(SETTLE_LIMIT) && !self.world.checks.is_broken() {
            self.world.release_queues();
            self.world.drain(SETTLE_LIMIT);
        }
        self.world.end_check();
    }

    /// One step.
    pub fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Created(numbers) => self.each(numbers.all(), |player, number| {
                let by = crate::gerrit::person("owner");
                let event = player.world.gerrit.event(EventKind::PatchsetCreated, number, &by);
                player.world.announce(event);
            }),
            Step::Upload(spec) => {
                self.known(spec.change)?;
                let upload = self.upload_of(spec.change, spec);
                self.world.upload(spec.change, upload);
                self.initial_votes(spec.change, spec.votes.as_ref());
                Ok(())
            }
            Step::Approve(numbers) => self.each(numbers.all(), |player, number| {
                player.world.comment(
                    number,
                    "reviewer",
                    &[("Approved".to_owned(), 1)],
                    "Patch Set 1: Approved+1",
                );
            }),
            Step::Vote(spec) => {
                self.known(spec.change)?;
                let votes: Vec<(String, i32)> =
                    spec.votes.iter().map(|(label, value)| (label.clone(), *value)).collect();
                let by = spec.by.as_deref().unwrap_or("reviewer");
                self.world.comment(spec.change, by, &votes, "Patch Set 1:");
                Ok(())
            }
            Step::Comment(spec) => {
                self.known(spec.change)?;
                let text = format!("Patch Set 1:\n\n{}", spec.text);
                self.world.comment(spec.change, spec.by.as_deref().unwrap_or("reviewer"), &[], &text);
                Ok(())
            }
            Step::Abandon(numbers) => self.each(numbers.all(), |player, number| {
                player.world.set_status(number, ChangeStatus::Abandoned, EventKind::ChangeAbandoned);
            }),
            Step::Restore(numbers) => self.each(numbers.all(), |player, number| {
                player.world.set_status(number, ChangeStatus::New, EventKind::ChangeRestored);
            }),
            Step::MergeByHand(numbers) => {
                self.each(numbers.all(), |player, number| player.world.merge_by_hand(number))
            }
            Step::Push(spec) => {
                self.push(spec);
                Ok(())
            }
            Step::Ref(spec) => {
                self.ref_moves(spec);
                Ok(())
            }
            Step::Timer(time) => {
                self.timer(time);
                Ok(())
            }
            other => self.step_of_the_server(other),
        }
    }

    fn step_of_the_server(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Hold(spec) => self.world.holds.push(rule(spec)),
            Step::Release(spec) => self.world.release(&rule(spec), spec.count),
            Step::Unhold => {
                self.world.holds.clear();
                self.world.release(&HoldRule { job: "*".to_owned(), of: None }, None);
            }
            Step::Outcomes(rules) => {
                let new = rules.iter().map(|rule| (rule.clone(), 0));
                self.world.outcomes.rules.splice(0..0, new);
            }
            Step::Reconfigure(source) => {
                let config = (self.resolve)(source)?;
                self.world.configure(config);
            }
            Step::Restart(how) => self.world.die(*how),
            Step::Advance(length) => {
                let end = self.world.now.0 + length.0;
                self.world.run_until(assay_engine::ids::Timestamp(end));
            }
            Step::Until(length) => {
                let end = self.world.start.0 + length.0;
                self.world.run_until(assay_engine::ids::Timestamp(end));
            }
            Step::Gerrit(spec) => self.gerrit(spec),
            Step::Unreachable(projects) => {
                self.world.broken = projects.iter().map(|name| ProjectName::from(name.as_str())).collect();
            }
            Step::Together(steps) => {
                for step in steps {
                    self.step(step)?;
                }
            }
            Step::Expect(expect) => self.expect("in between", expect),
            command => return self.command(command),
        }
        Ok(())
    }

    fn command(&mut self, step: &Step) -> Result<(), String> {
        let command = match step {
            Step::Enqueue(spec) => {
                let now = self.world.now;
                let current = self.known(spec.change)?;
                Command::Enqueue {
                    pipeline: spec.pipeline.as_str().into(),
                    patchset: Patchset { change: self.world.gerrit.id(spec.change), patchset: current },
                    facts: self.world.gerrit.facts_around(spec.change, now),
                }
            }
            Step::EnqueueRef(spec) => {
                let update = self.ref_update(&spec.project, &spec.name, false);
                Command::EnqueueRef { pipeline: spec.pipeline.as_str().into(), update }
            }
            Step::Dequeue(spec) => Command::Dequeue {
                pipeline: spec.pipeline.as_str().into(),
                change: self.world.gerrit.id(spec.change),
            },
            Step::Promote(spec) => Command::Promote {
                pipeline: spec.pipeline.as_str().into(),
                changes: spec.changes.iter().map(|number| self.world.gerrit.id(*number)).collect(),
            },
            Step::Autohold(spec) => Command::Autohold {
                project: spec.project.as_str().into(),
                job: spec.job.as_str().into(),
                change: spec.change.map(|number| self.world.gerrit.id(number)),
                count: spec.count.unwrap_or(1),
                reason: "the scenario wants it".to_owned(),
            },
            Step::HoldQueue(spec) => {
                let (pipeline, queue) = self.queue(spec)?;
                Command::Hold { pipeline, queue, reason: "the scenario wants it".to_owned() }
            }
            Step::ReleaseQueue(spec) => {
                let (pipeline, queue) = self.queue(spec)?;
                Command::Release { pipeline, queue }
            }
            _ => return Ok(()),
        };
        self.world.command(command);
        Ok(())
    }

    fn queue(&self, spec: &QueueSpec) -> Result<(PipelineName, QueueName), String> {
        let pipeline = PipelineName::from(spec.pipeline.as_str());
        let queue = if let Some(queue) = &spec.queue {
            Some(QueueName::from(queue.as_str()))
        } else {
            let queues = self.world.gate.held().queues.iter();
            let mut own = queues.filter(|((name, _), _)| *name == pipeline);
            let busy = own.find(|(_, queue)| !queue.items.is_empty() || queue.hold.is_some());
            busy.map(|((_, name), _)| name.clone())
        };
        let queue = queue
            .ok_or_else(|| format!("no queue of pipeline {pipeline} has items; say which with `queue`"))?;
        Ok((pipeline, queue))
    }

    /// The number of the newest patchset of a change of the scenario.
    fn known(&self, number: u64) -> Result<u32, String> {
        let change = self.world.gerrit.changes.get(&number);
        let change =
            change.ok_or_else(|| format!("there is no change {number}; declare it under `changes`"))?;
        Ok(change.current())
    }

    fn each(&mut self, numbers: &[u64], act: impl Fn(&mut Self, u64)) -> Result<(), String> {
        for number in numbers {
            if self.known(*number)? == 0 {
                return Err(format!("change {number} has no patchset yet; `upload` it first"));
            }
            act(self, *number);
        }
        Ok(())
    }

    fn push(&mut self, spec: &PushSpec) {
        let project = ProjectName::from(spec.project.as_str());
        let branch = BranchName::from(spec.branch.as_deref().unwrap_or("master"));
        self.world.foreign_push(&project, &branch, &spec.conflicts, &spec.drop);
    }

    fn ref_update(&mut self, project: &str, name: &str, delete: bool) -> RefUpdate {
        let zeros = Oid::from("0".repeat(40));
        self.refs_made += 1;
        let new = if delete { zeros.clone() } else { Oid::from(format!("{:040x}", self.refs_made)) };
        let key = (project.to_owned(), name.to_owned());
        let old = self.refs.insert(key, new.clone()).unwrap_or(zeros);
        RefUpdate { project: project.into(), name: name.into(), old, new }
    }

    fn ref_moves(&mut self, spec: &RefSpec) {
        let update = self.ref_update(&spec.project, &spec.name, spec.delete);
        let event = self.world.gerrit.ref_event(&update.project, &update.name, update.old, update.new);
        self.world.announce(event);
    }

    fn timer(&mut self, time: &str) {
        let config = self.world.config();
        let due = config
            .pipelines
            .iter()
            .filter(|pipeline| pipeline.triggers.iter().any(|trigger| trigger.time.as_deref() == Some(time)));
        let mut projects: Vec<ProjectName> = due
            .flat_map(|pipeline| {
                let has = |name: &ProjectName| {
                    config
                        .projects
                        .get(name)
                        .is_some_and(|project| project.pipelines.contains_key(&pipeline.name))
                };
                config.projects.keys().filter(move |name| has(name)).cloned().collect::<Vec<_>>()
            })
            .collect();
        projects.sort();
        projects.dedup();
        for project in projects {
            let mut event = Event::new("timer".into(), EventKind::Timer);
            event.timer = Some((project, time.to_owned()));
            self.world.announce(event);
        }
    }

    fn gerrit(&mut self, spec: &GerritSpec) {
        if let Some(up) = spec.up {
            self.world.set_up(up);
        }
        if let Some(sneak) = spec.sneak {
            self.world.faults.sneak = sneak;
        }
        if let Some(change) = spec.refuse.and_then(|number| self.world.gerrit.changes.get_mut(&number)) {
            change.refuse = Some("the scenario wants it".to_owned());
        }
    }

    fn expect(&mut self, when: &str, expect: &Expect) {
        let misses = crate::expect::misses(&self.world, expect);
        self.misses.extend(misses.into_iter().map(|miss| format!("{when}: {miss}")));
    }
}

fn rule(spec: &HoldSpec) -> HoldRule {
    HoldRule { job: spec.job.clone().unwrap_or_else(|| "*".to_owned()), of: spec.change }
}

fn timing(spec: &TimingSpec) -> Timing {
    let usual = Timing::default();
    let span = |given: Option<crate::time::Range>, usual| given.map_or(usual, |range| (range.0, range.1));
    Timing {
        event: span(spec.event, usual.event),
        merge: span(spec.merge, usual.merge),
        land: span(spec.land, usual.land),
        landed: span(spec.landed, usual.landed),
        start: span(spec.start, usual.start),
        job: span(spec.job, usual.job),
        jobs: spec.jobs.iter().map(|(job, range)| (job.clone(), (range.0, range.1))).collect(),
    }
}
