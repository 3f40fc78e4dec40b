//! A random walk: whatever comes, nothing hangs, and the rows say all.

use super::{Rig, UNIT, config, edit_job, edit_pipeline, id, tip, tree};
use assay_engine::gate::change::{ChangeFacts, ChangeStatus, RefUpdate, SubmitRecord};
use assay_engine::gate::config::{Config, EventKind, Manager};
use assay_engine::gate::ids::{MergeId, Patchset, Uuid};
use assay_engine::gate::io::{
    BuildRequest, BuildResult, Command, Event, Input, LandRequest, LandResult, MergeFailure,
};
use assay_engine::gate::item::{ItemPhase, MergeState};
use std::collections::{BTreeMap, BTreeSet};

/// Small numbers that look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let index = self.roll(all.len().max(1) as u64) as usize;
        all.get(index)
    }
}

/// A configuration like the others of this dice, and different in something.
fn some_config(dice: &mut Dice) -> Config {
    const MANAGERS: [Manager; 4] =
        [Manager::Dependent, Manager::Independent, Manager::Serial, Manager::Supercedent];
    let mut pipelines = vec![("gate", Manager::Dependent), ("check", Manager::Independent)];
    if dice.roll(6) == 0 {
        pipelines[0].1 = MANAGERS[dice.roll(4) as usize];
    }
    if dice.roll(12) == 0 {
        pipelines.remove(0);
    }
    let jobs: &[&str] = [UNIT, &["unit", "slow"], &["unit", "slow", "docs"]][dice.roll(3) as usize];
    let b_jobs: &[&str] = if dice.roll(8) == 0 { &[] } else { jobs };
    let queues: &[(&str, &[&str])] = match dice.roll(7) {
        0..=3 => &[("both", &["a", "b"])],
        4 => &[("other", &["a", "b"])],
        _ => &[],
    };
    let mut config = config(&pipelines, &[("a", jobs), ("b", b_jobs)], queues);
    if jobs.len() > 1 && dice.roll(3) == 0 {
        tree(&mut config, "a", "unit", &["slow"]);
        edit_job(&mut config, "unit", |job| job.voting = false);
    }
    let (task, start, hermetic) = (dice.roll(3), [0, 2, 20][dice.roll(3) as usize], dice.roll(2) == 0);
    edit_job(&mut config, "unit", |job| {
        job.task = Some(task.to_string().into());
        job.semaphores = BTreeSet::from(["mutex".into()]);
        job.hold_following = task == 1;
        job.hermetic = hermetic;
    });
    edit_pipeline(&mut config, |pipeline| {
        pipeline.window.start = start;
        pipeline.queues.iter_mut().for_each(|queue| queue.allow_cycles = task == 2);
    });
    config.hash = dice.roll(u64::from(u32::MAX)).to_string();
    config
}

impl Rig {
    fn running(&self) -> Vec<Uuid> {
        self.gate.running_builds().collect()
    }

    /// What must hold whatever happened.
    fn check(&self, ended: &BTreeSet<Uuid>, landed: &BTreeSet<u64>) {
        let held = self.gate.held();
        let alive =
            |build: &&BuildRequest| !ended.contains(&build.uuid) && !self.cancelled.contains(&build.uuid);
        let alive: Vec<&BuildRequest> = self.builds.iter().filter(alive).collect();
        let uuids: BTreeSet<Uuid> = alive.iter().map(|build| build.uuid).collect();
        assert_eq!(
            uuids,
            self.running().into_iter().collect(),
            "builds that nobody waits for, or that never were"
        );
        assert_eq!(uuids.len(), alive.len(), "a build is started twice");
        let holders = alive.iter().filter(|build| !build.job.semaphores.is_empty()).count();
        assert!(holders <= 1, "the mutex is held by {holders}");
        assert_eq!(self.items().len(), held.items.len(), "an item is in no queue");
        let made = held.items.values().filter(|item| matches!(item.buildset.state, MergeState::Done(_)));
        let made: BTreeSet<MergeId> = made.map(|item| item.merge_id()).collect();
        assert!(made.is_subset(&self.kept), "{made:?} are looked at, and {:?} kept", self.kept);
        let idle =
            |merge: &&MergeId| !made.contains(merge) && self.asked.iter().all(|own| own.merge != **merge);
        assert_eq!(self.kept.iter().find(idle), None, "a state that nobody needs is kept");
        for item in held.items.values() {
            let once: BTreeSet<_> = item.buildset.jobs.iter().map(|job| &job.job).collect();
            assert_eq!(once.len(), item.buildset.jobs.len());
            assert!(!held.why(item.id).is_empty(), "nobody knows what it waits for: {item:?}");
        }
        for request in &self.lands {
            let own: BTreeSet<u64> = request.members.iter().map(|it| it.patchset.change.number).collect();
            for number in &own {
                let parent = parent_of(*number);
                assert!(
                    parent.is_none_or(|parent| landed.contains(&parent) || own.contains(&parent)),
                    "{number} lands before {parent:?}"
                );
            }
            if let Some(item) = held.items.get(&request.item)
                && matches!(&item.phase, ItemPhase::Landing { request: current, .. } if **current == *request)
            {
                let mut voting = item.buildset.jobs.iter().filter(|job| job.voting);
                assert!(voting.all(|job| job.state.is_success()), "{item:?}");
            }
        }
    }
}

/// Every third change stands on the one before it.
fn parent_of(number: u64) -> Option<u64> {
    number.is_multiple_of(3).then(|| number - 1)
}

#[test]
fn whatever_happens_nothing_hangs_and_the_rows_say_all() {
    for seed in 0..1_000 {
        let mut dice = Dice(seed);
        let mut rig = Rig::new(some_config(&mut dice));
        let (mut ended, mut landed) = (BTreeSet::new(), BTreeSet::new());
        let mut patchsets: BTreeMap<u64, u32> = BTreeMap::new();
        for _ in 0..dice.roll(80) {
            rig.something(&mut dice, &mut ended, &mut landed, &mut patchsets);
            rig.check(&ended, &landed);
        }
        rig.drain(&mut ended, &mut landed);
        assert_eq!(rig.queue(), [0u64; 0], "seed {seed}");
        assert!(rig.items().is_empty(), "seed {seed}");
    }
}

impl Rig {
    fn some_facts(
        &self,
        dice: &mut Dice,
        number: u64,
        landed: &BTreeSet<u64>,
        patchsets: &BTreeMap<u64, u32>,
    ) -> ChangeFacts {
        let current = |number: u64| patchsets.get(&number).copied().unwrap_or(1);
        let parent = parent_of(number);
        let status = match (landed.contains(&number), dice.roll(20)) {
            (true, _) => ChangeStatus::Merged,
            (false, 0) => ChangeStatus::Abandoned,
            (false, _) => ChangeStatus::New,
        };
        let circle = (number == 7 || number == 8).then(|| format!("Depends-On: https://x/{}", 15 - number));
        let not_ready = SubmitRecord::Error { why: "no".to_owned() };
        let ready = if dice.roll(9) == 0 { not_ready } else { SubmitRecord::Ok };
        ChangeFacts {
            current_patchset: current(number),
            message: circle.unwrap_or_default(),
            submit_records: vec![ready],
            parents: parent
                .map(|at| Patchset { change: id(at), patchset: current(at) })
                .into_iter()
                .collect(),
            status,
            ..self.facts(number, if number.is_multiple_of(2) { "a" } else { "b" })
        }
    }

    fn something(
        &mut self,
        dice: &mut Dice,
        ended: &mut BTreeSet<Uuid>,
        landed: &mut BTreeSet<u64>,
        patchsets: &mut BTreeMap<u64, u32>,
    ) {
        let number = 1 + dice.roll(9);
        match dice.roll(24) {
            20 => self.catch_up(dice.roll(2) == 0),
            21 => {
                let update =
                    RefUpdate { project: "a".into(), name: "v1".into(), old: "0".into(), new: "1".into() };
                drop(self.command(Command::EnqueueRef { pipeline: "check".into(), update }));
            }
            22 => {
                self.now += 600_000_000;
                self.step(Input::Tick).expect("taken");
            }
            23 => self.answer_merger(dice.roll(4)),
            0..=4 => {
                let mut event = Event::new("gerrit".into(), EventKind::CommentAdded);
                let other = (number == 7 || number == 8).then(|| 15 - number);
                let all = parent_of(number).into_iter().chain(other).chain([number]);
                event.facts = all.map(|number| self.some_facts(dice, number, landed, patchsets)).collect();
                event.change = event.facts.last().map(ChangeFacts::patchset);
                self.step(Input::Event(Box::new(event))).expect("taken");
            }
            5..=10 => {
                if let Some(build) = dice.pick(&self.running()).copied() {
                    ended.insert(build);
                    let result = match dice.roll(8) {
                        0 => BuildResult::failure(),
                        1 => BuildResult::lost("gone"),
                        _ => BuildResult::success(),
                    };
                    self.step(Input::BuildEnded { build, result }).expect("taken");
                }
            }
            11..=13 => {
                if let Some(request) = (!self.lands.is_empty()).then(|| self.lands.remove(0)) {
                    self.end_landing(&request, dice.roll(6), landed);
                }
            }
            14 => self.configure(some_config(dice)),
            15 => self.restart_and_land_again(),
            16 => {
                *patchsets.entry(number).or_insert(1) += u32::from(!landed.contains(&number));
                let facts = self.some_facts(dice, number, landed, patchsets);
                self.step(Input::Facts(vec![facts])).expect("taken");
            }
            17 => drop(self.command(Command::Promote { pipeline: "gate".into(), changes: vec![id(number)] })),
            18 => drop(self.command(Command::Dequeue { pipeline: "gate".into(), change: id(number) })),
            _ => self.moves(if dice.roll(2) == 0 { "a" } else { "b" }, &dice.roll(99).to_string()),
        }
    }

    /// The merger's next answer. Of what stands on a state that it could not make it says nothing.
    fn answer_merger(&mut self, how: u64) {
        if self.asked.is_empty() {
            return;
        }
        let request = self.asked.remove(0);
        let change = request.changes.last().expect("something to merge");
        let (project, change) = (change.project.clone(), change.patchset.clone());
        let why = match how {
            0 => MergeFailure::Conflict { change, paths: vec!["README".to_owned()] },
            1 => MergeFailure::Infrastructure { project, why: "the disk is full".to_owned() },
            _ => return self.make(&request),
        };
        let mut dropped = BTreeSet::from([request.merge]);
        self.asked.retain(|other| {
            let stands = other.ahead.is_some_and(|ahead| dropped.contains(&ahead));
            !stands || !dropped.insert(other.merge)
        });
        self.step(Input::Merged { merge: request.merge, result: Err(why) }).expect("taken");
    }

    /// The merger answers everything, and from now on at once.
    fn catch_up(&mut self, merges: bool) {
        self.merges = false;
        while merges && !self.asked.is_empty() {
            self.answer_merger(9);
        }
        self.merges = merges;
    }

    /// A landing that was on its way when the server stopped is asked for again.
    fn restart_and_land_again(&mut self) {
        self.lands.clear();
        self.asked.clear();
        self.restart();
    }

    fn end_landing(&mut self, request: &LandRequest, how: u64, landed: &mut BTreeSet<u64>) {
        let first = request.members.first().expect("something to land");
        let (project, branch, found) = (first.project.clone(), first.branch.clone(), tip("elsewhere"));
        let result = match how {
            0 => LandResult::BaseMoved { project, branch, found },
            1 => LandResult::Refused { why: "no".to_owned() },
            2 => LandResult::TreeMismatch { project, branch, found, landed: Vec::new() },
            _ => LandResult::Landed { tips: request.members.iter().map(|it| it.tested.clone()).collect() },
        };
        // A tree that nobody tested came of the first; the others were not tried.
        let in_branch = [0, 0, 1].get(how as usize).copied().unwrap_or(request.members.len());
        landed.extend(request.members[..in_branch].iter().map(|member| member.patchset.change.number));
        self.step(Input::Landed { item: request.item, result }).expect("taken");
    }

    /// From here on everything works.
    fn drain(&mut self, ended: &mut BTreeSet<Uuid>, landed: &mut BTreeSet<u64>) {
        for _ in 0..200 {
            self.catch_up(true);
            for (pipeline, queue) in self.gate.held().queues.keys().cloned().collect::<Vec<_>>() {
                let _ = self.command(Command::Release { pipeline, queue });
            }
            for build in self.running() {
                if self.gate.running_builds().any(|running| running == build) {
                    ended.insert(build);
                    self.step(Input::BuildEnded { build, result: BuildResult::success() }).expect("taken");
                }
            }
            for request in std::mem::take(&mut self.lands) {
                self.end_landing(&request, 9, landed);
            }
            self.now += 3_600_000_000;
            self.step(Input::Tick).expect("taken");
            self.check(ended, landed);
            if self.items().is_empty() {
                return;
            }
        }
    }
}
