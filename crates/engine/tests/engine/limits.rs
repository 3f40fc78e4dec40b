//! Limits on what runs at once: never exceeded, nothing idle for nothing, nobody forgotten, through restarts.

use crate::world::World;
use assay_engine::ids::{ConnectionId, GroupId, JobId};
use assay_engine::io::{Answer, Hello, Input, NewJob};
use assay_engine::job::JobState;
use assay_engine::outcome::Outcome;
use assay_engine::reason::WaitReason;
use assay_engine::relations::{ParentRef, Relation};
use assay_engine::sched::limits::{Limit, Limits};
use assay_engine::settings::{ClassSet, Settings};
use assay_engine::work::{Held, Report, Timing};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn limits(pairs: &[(Limit, u32)]) -> Limits {
    Limits(pairs.iter().cloned().collect())
}

fn semaphore(name: &str) -> Limit {
    Limit::Semaphore(name.to_owned())
}

struct Floor {
    world: World,
    connections: u64,
    slots: Vec<(&'static str, u32)>,
}

impl Floor {
    fn new(limits: Limits, slots: &[(&'static str, u32)]) -> Self {
        let mut world = World::new(Timing { lease_us: 1 << 50, ..Timing::default() });
        world.input(Input::Tick).0.expect("the first input");
        world.db.limits = limits.clone();
        world.input(Input::Limits(limits)).0.expect("limits are taken");
        let mut floor = Self { world, connections: 0, slots: slots.to_vec() };
        floor.connect();
        floor
    }

    fn connect(&mut self) {
        for (classes, slots) in self.slots.clone() {
            self.connections += 1;
            let holds =
                self.world.db.running().filter(|row| row.worker.as_str() == classes.replace(',', "-"));
            let holds = holds.map(|row| Held { attempt: row.id, token: row.token }).collect();
            let hello = Hello {
                name: classes.replace(',', "-").parse().expect("a name"),
                instance: "i".into(),
                host: "h".into(),
                version: "1".into(),
                slots,
                classes: ClassSet::parse(classes),
                holds,
            };
            let connection = ConnectionId(self.connections);
            self.world.input(Input::Hello { connection, hello }).0.expect("a worker is let in");
        }
    }

    fn restart(&mut self) {
        self.world.restart();
        self.connect();
    }

    fn post(&mut self, jobs: Vec<NewJob>) -> Vec<JobId> {
        match self.world.input(Input::PostJobs { jobs }).0 {
            Ok(Answer::Posted(ids)) => ids,
            other => panic!("{other:?}"),
        }
    }

    fn running(&self) -> Vec<JobId> {
        self.world.db.running().map(|row| row.id.job).collect()
    }

    fn finish(&mut self, job: JobId) {
        let row = self.world.db.running().find(|row| row.id.job == job).expect("it runs").clone();
        let at = self.slots.iter().position(|(name, _)| name.replace(',', "-") == row.worker.as_str());
        let connection =
            ConnectionId(self.connections - self.slots.len() as u64 + 1 + at.expect("a worker") as u64);
        let held = Held { attempt: row.id, token: row.token };
        let report = Report { outcome: Outcome::Passed, class: Outcome::Passed.class(), reason: None };
        self.world.input(Input::Finished { connection, held, report }).0.expect("taken");
    }

    fn why(&self, job: JobId) -> String {
        self.world.state.wait_reason(job).map(ToString::to_string).unwrap_or_default()
    }

    /// Nothing exceeds its limit, and nothing waits that could run.
    fn check(&self, limits: &Limits) {
        let mut used: BTreeMap<Limit, u32> = BTreeMap::new();
        for job in self.running() {
            for limit in limits.of(&self.world.db.jobs[&job]) {
                *used.entry(limit).or_default() += 1;
            }
        }
        for (limit, used) in &used {
            assert!(*used <= limits.most(limit), "{used} {limit}");
        }
        let full = |limit: &Limit| used.get(limit).copied().unwrap_or(0) >= limits.most(limit);
        let free = |job: &assay_engine::rows::JobRow| {
            self.slots.iter().any(|(classes, slots)| {
                let name = classes.replace(',', "-");
                let taken = self.world.db.running().filter(|row| row.worker.as_str() == name).count();
                ClassSet::parse(classes).offers(&job.classes) && taken < *slots as usize
            })
        };
        for job in self.world.state.open_jobs() {
            let waits = matches!(job.state, JobState::Scheduled { .. });
            if waits && free(job) {
                assert!(
                    limits.of(job).iter().any(full),
                    "job {} waits for nothing: {}",
                    job.id,
                    self.why(job.id)
                );
                assert!(matches!(job.wait, Some(WaitReason::Limit { .. })), "{}", self.why(job.id));
            }
        }
    }
}

fn job(settings: &[(&str, &str)], group: Option<i64>) -> NewJob {
    let pairs = [("TEST", "t")].into_iter().chain(settings.iter().copied());
    NewJob { group: group.map(GroupId), ..NewJob::new(Settings::from_request(pairs)) }
}

#[test]
fn a_semaphore_is_for_one_unless_it_says_otherwise() {
    let two = limits(&[(semaphore("pool"), 2)]);
    let mut floor = Floor::new(two, &[("a", 10)]);
    let post = |name: &str| job(&[("WORKER_CLASS", "a"), ("SEMAPHORES", name)], None);
    let ids = floor.post(vec![
        post("repo"),
        post("repo"),
        post("pool"),
        post("pool, repo"),
        post("pool"),
        post("pool"),
    ]);
    assert_eq!(floor.running(), [ids[0], ids[2], ids[4]]);
    assert_eq!(
        floor.why(ids[1]),
        "no more than 1 jobs with semaphore repo may run at once; wait, or raise the limit in [limits] of assay.toml"
    );
    assert!(floor.why(ids[5]).contains("no more than 2 jobs with semaphore pool"));
    floor.restart();
    floor.finish(ids[0]);
    assert_eq!(floor.running(), [ids[1], ids[2], ids[4]]);
    floor.finish(ids[2]);
    assert_eq!(floor.running(), [ids[1], ids[4], ids[5]], "the fourth waits for the other");
    floor.finish(ids[1]);
    assert_eq!(floor.running(), [ids[4], ids[5]]);
    floor.finish(ids[4]);
    assert_eq!(floor.running(), [ids[3], ids[5]]);
}

#[test]
fn a_cluster_gets_what_it_needs_at_once() {
    let mut floor = Floor::new(limits(&[(semaphore("s"), 2)]), &[("a", 10)]);
    let post = |with: Option<usize>| NewJob {
        parents: with.map(|place| (Relation::Parallel, ParentRef::Posted(place))).into_iter().collect(),
        ..job(&[("WORKER_CLASS", "a"), ("SEMAPHORES", "s")], None)
    };
    let first = floor.post(vec![post(None)]);
    let pair = floor.post(vec![post(None), post(Some(0))]);
    let later = floor.post(vec![post(None)]);
    assert_eq!(floor.running(), first, "the other half is left for the cluster");
    assert!(floor.why(pair[0]).contains("no more than 2 jobs with semaphore s"), "{}", floor.why(pair[0]));
    floor.finish(first[0]);
    assert_eq!(floor.running(), pair);
    let three = floor.post(vec![post(None), post(Some(0)), post(Some(0))]);
    assert!(floor.why(three[0]).contains("3 of its cluster would have to"), "{}", floor.why(three[0]));
    floor.finish(pair[0]);
    assert_eq!(floor.running(), [pair[1], later[0]], "what can never begin keeps nothing");
}

#[test]
fn limits_that_change() {
    let mut floor = Floor::new(limits(&[(Limit::Running, 1)]), &[("a", 10)]);
    let ids = floor.post((0..4).map(|_| job(&[("WORKER_CLASS", "a")], Some(1))).collect());
    assert_eq!(floor.running(), ids[..1]);
    for (pairs, running) in [
        (vec![(Limit::Running, 3)], 3),
        (vec![(Limit::Group(GroupId(1)), 2)], 3),
        (vec![(Limit::Class("a".into()), 4)], 4),
    ] {
        let new = limits(&pairs);
        floor.world.db.limits = new.clone();
        floor.world.input(Input::Limits(new)).0.expect("taken");
        assert_eq!(floor.running().len(), running, "{pairs:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn nothing_waits_for_nothing(
        most in prop::collection::vec(1..4_u32, 5),
        posts in prop::collection::vec((0..4_usize, 0..4_usize, 0..3_i64, 0..3_i32), 1..30),
        steps in prop::collection::vec((0..10_usize, any::<bool>()), 0..40),
    ) {
        let limits = limits(&[
            (Limit::Running, most[0] + 2),
            (Limit::Class("b".into()), most[1]),
            (Limit::Group(GroupId(1)), most[2]),
            (semaphore("x"), most[3]),
            (semaphore("y"), most[4]),
        ]);
        let mut floor = Floor::new(limits.clone(), &[("a", 2), ("b", 3), ("a,b", 2)]);
        let mut steps = steps.into_iter();
        for (class, names, group, priority) in posts {
            let classes = ["a", "b", "a,b", "b"][class];
            let names = ["", "x", "y", "x,y"][names];
            let settings = [("WORKER_CLASS", classes), ("SEMAPHORES", names)];
            let new = NewJob { priority: Some(priority), ..job(&settings, (group > 0).then_some(group)) };
            floor.post(vec![new]);
            floor.check(&limits);
            if let Some((which, restart)) = steps.next() {
                if restart {
                    floor.restart();
                }
                let running = floor.running();
                if !running.is_empty() {
                    floor.finish(running[which % running.len()]);
                }
                floor.check(&limits);
            }
        }
        while let Some(job) = floor.running().first().copied() {
            floor.finish(job);
            floor.check(&limits);
        }
        prop_assert_eq!(floor.world.state.open_jobs().count(), 0, "everything has had its turn");
    }
}
