//! Limits on what runs at once, and fair shares: never exceeded, nothing idle for nothing, nobody forgotten, through
//! restarts.

use crate::world::World;
use assay_engine::assets::{AssetKey, AssetKind};
use assay_engine::ids::{ConnectionId, GroupId, JobId};
use assay_engine::io::{Answer, Hello, Input, NewJob};
use assay_engine::job::JobState;
use assay_engine::outcome::Outcome;
use assay_engine::reason::WaitReason;
use assay_engine::relations::{ParentRef, Relation};
use assay_engine::sched::disk::Room;
use assay_engine::sched::limits::{Limit, Limits};
use assay_engine::settings::{ClassSet, Settings};
use assay_engine::work::{Held, Report, Timing};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn limits(pairs: &[(Limit, u32)]) -> Limits {
    Limits { jobs: pairs.iter().cloned().collect(), ..Limits::default() }
}

fn semaphore(name: &str) -> Limit {
    Limit::Semaphore(name.to_owned())
}

struct Floor {
    world: World,
    connections: u64,
    slots: Vec<(&'static str, u32)>,
    /// What the disks of a worker can take; without it, the worker does not say.
    rooms: BTreeMap<&'static str, Room>,
}

impl Floor {
    fn new(limits: Limits, slots: &[(&'static str, u32)]) -> Self {
        let mut world = World::new(Timing { lease_us: 1 << 50, ..Timing::default() });
        world.input(Input::Tick).0.expect("the first input");
        world.db.limits = limits.clone();
        world.input(Input::Limits(limits)).0.expect("limits are taken");
        let mut floor = Self { world, connections: 0, slots: slots.to_vec(), rooms: BTreeMap::new() };
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
                host: format!("host-{}", classes.replace(',', "-")),
                version: "1".into(),
                slots,
                classes: ClassSet::parse(classes),
                holds,
                room: self.rooms.get(classes).copied(),
                once: false,
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
        let connection = self.connection(at.expect("a worker"));
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

/// The groups whose jobs begin, in order; with a restart of the server after each job, or without any.
fn served(limit: Limits, restarts: bool) -> Vec<i64> {
    let mut floor = Floor::new(limit, &[("a,b", 2)]);
    let post =
        |class: &str, group: i64| job(&[("WORKER_CLASS", class)], (group > 0).then_some(GroupId(group).0));
    floor.post(vec![post("a", 1); 300]);
    floor.post(vec![post("a", 2), post("b", 2), post("a", 2), post("a", 0), post("b", 0)]);
    let mut order = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    while order.len() < 40 {
        let new: Vec<JobId> = floor.running().into_iter().filter(|id| seen.insert(*id)).collect();
        order.extend(new.iter().map(|id| floor.world.db.jobs[id].group.map_or(0, |group| group.0)));
        if restarts {
            floor.restart();
        }
        let oldest = floor.running()[0];
        floor.finish(oldest);
    }
    order
}

#[test]
fn groups_take_turns_and_a_restart_changes_nothing() {
    let semaphores = limits(&[(Limit::Class("a".to_owned()), 1), (Limit::Running, 2)]);
    for limit in [Limits::default(), semaphores] {
        let order = served(limit.clone(), false);
        assert_eq!(served(limit, true), order);
        let last_of = |group: i64| order.iter().rposition(|of| *of == group).expect("it was served");
        assert!(last_of(2) < 14 && last_of(0) < 14, "300 jobs of group 1 do not come first: {order:?}");
    }
}

#[test]
fn clusters_take_turns_too_and_the_reason_says_so() {
    let mut floor = Floor::new(Limits::default(), &[("a", 2)]);
    let pair = |group: i64| {
        let first = job(&[("WORKER_CLASS", "a")], Some(group));
        let parents = vec![(Relation::Parallel, ParentRef::Posted(0))];
        vec![first.clone(), NewJob { parents, ..first }]
    };
    for _ in 0..20 {
        floor.post(pair(1));
    }
    let late =
        floor.post(vec![job(&[("WORKER_CLASS", "a")], Some(2)), job(&[("WORKER_CLASS", "a")], Some(3))]);
    assert_eq!(
        floor.why(late[0]),
        "all 2 slots with class a are busy; 2 groups wait and take turns at equal priority, however many jobs each has; \
         wait, or start another worker"
    );
    for id in floor.running() {
        floor.finish(id);
    }
    assert_eq!(floor.running(), late, "group 1 has had its turn");
    // A job that changes its group counts for the new one at once, waiting or running.
    let others =
        floor.post(vec![job(&[("WORKER_CLASS", "a")], Some(2)), job(&[("WORKER_CLASS", "a")], Some(4))]);
    for (job, group) in [(late[0], 4), (others[1], 5)] {
        let edit = Input::Edit { job, priority: None, group: Some(Some(GroupId(group))) };
        floor.world.input(edit).0.expect("edited");
    }
    floor.finish(late[1]);
    floor.restart();
    assert_eq!(floor.world.db.jobs[&others[1]].group, Some(GroupId(5)));
}

#[test]
fn a_reason_names_only_a_cluster_that_keeps_what_the_job_needs() {
    let mut floor = Floor::new(Limits::default(), &[("a", 1), ("a,b", 1), ("c", 1)]);
    let post = |class: &str| job(&[("WORKER_CLASS", class)], None);
    let long = floor.post(vec![post("c")]);
    let parents = vec![(Relation::Parallel, ParentRef::Posted(0))];
    let cluster = floor.post(vec![post("b"), NewJob { parents, ..post("c") }]);
    let singles = floor.post(vec![post("a"), post("a"), post("c")]);
    assert_eq!(floor.running(), [long[0], singles[0]]);
    let kept = format!("or kept for {} (t)", cluster[0]);
    assert!(floor.why(singles[1]).contains(&kept), "{}", floor.why(singles[1]));
    assert!(
        floor.why(singles[2]).starts_with("the only slot with class c is busy; "),
        "{}",
        floor.why(singles[2])
    );
    floor.finish(long[0]);
    assert_eq!(floor.running(), [cluster[0], cluster[1], singles[0]]);
    assert!(!floor.why(singles[1]).contains("kept"), "{}", floor.why(singles[1]));
}

const GIB: u64 = 1 << 30;

impl Floor {
    fn connection(&self, worker: usize) -> ConnectionId {
        ConnectionId(self.connections - self.slots.len() as u64 + 1 + worker as u64)
    }

    /// A worker's disk has so much room now.
    fn set_room(&mut self, worker: usize, gib: u64) {
        let room = Room { pool: gib * GIB, cache: gib * GIB, shared: true };
        self.rooms.insert(self.slots[worker].0, room);
        let (connection, name) = (self.connection(worker), self.slots[worker].0.replace(',', "-"));
        let holds = self.world.db.running().filter(|row| row.worker.as_str() == name);
        let holds = holds.map(|row| Held { attempt: row.id, token: row.token }).collect();
        self.world.input(Input::Heartbeat { connection, holds, room: Some(room) }).0.expect("taken");
    }

    fn needed(&self, job: JobId) -> u64 {
        let settings = &self.world.db.jobs[&job].settings;
        let blank = if settings.get("NUMDISKS").is_some() { settings.get("HDDSIZEGB") } else { None };
        blank.map_or(0, |gib| gib.parse().expect("a number"))
    }

    fn taken(&self, worker: usize) -> (u64, u32) {
        let name = self.slots[worker].0.replace(',', "-");
        let running: Vec<JobId> =
            self.world.db.running().filter(|row| row.worker.as_str() == name).map(|row| row.id.job).collect();
        (running.iter().map(|job| self.needed(*job)).sum(), running.len() as u32)
    }

    /// Nothing waits that a host has slot and disk for.
    fn check_disks(&self, rooms: &[u64]) {
        for job in self.world.state.open_jobs().filter(|job| matches!(job.state, JobState::Scheduled { .. }))
        {
            for (worker, (classes, slots)) in self.slots.iter().enumerate() {
                let (taken, running) = self.taken(worker);
                let needed = self.needed(job.id);
                let fits = needed == 0 || taken + needed <= rooms[worker];
                let could = ClassSet::parse(classes).offers(&job.classes) && running < *slots && fits;
                assert!(!could, "job {} of {needed} GiB waits: {}", job.id, self.why(job.id));
            }
        }
    }
}

fn sized(class: &str, gib: u64) -> NewJob {
    let gib = gib.to_string();
    let disks = [("NUMDISKS", "1"), ("HDDSIZEGB", gib.as_str())];
    let given = if gib == "0" { &disks[..0] } else { &disks[..] };
    let settings: Vec<_> = [("WORKER_CLASS", class)].iter().chain(given).copied().collect();
    job(&settings, None)
}

#[test]
fn a_job_goes_where_the_disk_is_and_says_what_is_missing() {
    let mut floor = Floor::new(Limits::default(), &[("a", 2), ("a,b", 2)]);
    let anywhere = floor.post(vec![sized("a", 900)]);
    assert_eq!(floor.running(), anywhere, "who says nothing gets everything");
    floor.finish(anywhere[0]);
    floor.set_room(0, 10);
    floor.set_room(1, 30);
    let ids = floor.post(vec![sized("a", 20), sized("a", 20), sized("a", 9), sized("a", 0)]);
    assert_eq!(floor.running(), [ids[0], ids[2], ids[3]], "a larger job holds up no smaller one");
    let worker =
        |job: JobId| floor.world.db.running().find(|row| row.id.job == job).map(|row| row.host.clone());
    assert_eq!([worker(ids[0]), worker(ids[2])], [Some("host-a-b".into()), Some("host-a".into())]);
    assert_eq!(
        floor.why(ids[1]),
        "needs 20.0 GiB of disk for its assets and blank disks, and host host-a-b, which has most, has 10.0 GiB left \
         beside what runs there; wait, make room there, or start a worker on a host with more"
    );
    floor.restart();
    assert!(floor.why(ids[1]).starts_with("needs 20.0 GiB"), "{}", floor.why(ids[1]));
    floor.set_room(1, 40);
    assert!(floor.running().contains(&ids[1]), "{}", floor.why(ids[1]));
    floor.finish(ids[0]);
    // What an asset takes is known when it is published; a floor counts for every job.
    let reader = floor.post(vec![job(&[("WORKER_CLASS", "b"), ("HDD_1", "x.qcow2")], None)]);
    assert!(floor.running().contains(&reader[0]), "nothing is known of x.qcow2");
    let name = "x.qcow2".parse().expect("a name");
    let sizes = [(AssetKey { kind: AssetKind::Hdd, name }, 50 * GIB)].into();
    floor.world.input(Input::AssetSizes(sizes)).0.expect("taken");
    floor.finish(reader[0]);
    let reader = floor.post(vec![job(&[("WORKER_CLASS", "b"), ("HDD_1", "x.qcow2")], None)]);
    assert!(floor.why(reader[0]).starts_with("needs 50.0 GiB"), "{}", floor.why(reader[0]));
    let most = Limits { disk_floor: 60 * GIB, ..Limits::default() };
    floor.world.input(Input::Limits(most)).0.expect("taken");
    let small = floor.post(vec![sized("b", 0)]);
    assert!(floor.why(small[0]).starts_with("needs 60.0 GiB"), "{}", floor.why(small[0]));
}

#[test]
fn a_cluster_begins_where_all_of_it_has_room() {
    let mut floor = Floor::new(Limits::default(), &[("a", 2), ("a,b", 2)]);
    floor.set_room(0, 10);
    floor.set_room(1, 25);
    let pair = || {
        let parents = vec![(Relation::Parallel, ParentRef::Posted(0))];
        vec![sized("a", 12), NewJob { parents, ..sized("a", 12) }]
    };
    let first = floor.post(pair());
    assert_eq!(floor.running(), first);
    let second = floor.post(pair());
    assert!(floor.why(second[0]).starts_with("needs 12.0 GiB"), "{}", floor.why(second[0]));
    let single = floor.post(vec![sized("a", 9)]);
    assert!(floor.running().contains(&single[0]), "{}", floor.why(single[0]));
    for id in first {
        floor.finish(id);
    }
    assert!(second.iter().all(|id| floor.running().contains(id)), "{}", floor.why(second[0]));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_disk_is_promised_twice(steps in prop::collection::vec((0..5_u8, 0..3_usize, 0..45_u64), 1..60)) {
        let mut floor = Floor::new(Limits::default(), &[("a", 2), ("a,b", 3), ("b", 1)]);
        let mut rooms = [20, 30, 10];
        for (worker, gib) in rooms.into_iter().enumerate() {
            floor.set_room(worker, gib);
        }
        let mut seen = std::collections::BTreeSet::new();
        for (what, which, gib) in steps {
            match what {
                0 | 1 => drop(floor.post(vec![sized(["a", "b", "a,b"][which], gib)])),
                2 => if let Some(first) = floor.running().first().copied() {
                    floor.finish(first);
                },
                3 => {
                    rooms[which] = gib;
                    floor.set_room(which, gib);
                }
                _ => floor.restart(),
            }
            for job in floor.running().into_iter().filter(|job| seen.insert(*job)).collect::<Vec<_>>() {
                let row = floor.world.db.running().find(|row| row.id.job == job).expect("it runs");
                let worker = floor.slots.iter().position(|(name, _)| name.replace(',', "-") == row.worker.as_str());
                let worker = worker.expect("a worker");
                let (taken, _) = floor.taken(worker);
                prop_assert!(floor.needed(job) == 0 || taken <= rooms[worker], "{taken} of {}", rooms[worker]);
            }
            floor.check_disks(&rooms);
        }
        for worker in 0..3 {
            floor.set_room(worker, 500);
        }
        while let Some(first) = floor.running().first().copied() {
            floor.finish(first);
        }
        prop_assert_eq!(floor.world.state.open_jobs().count(), 0);
    }
}
