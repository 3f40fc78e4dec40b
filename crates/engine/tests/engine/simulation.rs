//! Flaky workers, lost and repeated messages, restarts at any step, jumps of the clock. The world checks what must
//! hold after every step; here, that everything ends once the faults stop.

use crate::world::{Out, World};
use assay_engine::ids::{ConnectionId, GroupId, JobId, WorkerName};
use assay_engine::io::{Answer, Deprioritize, Hello, Input, Message, NewJob, Obsolete, Verdict};
use assay_engine::outcome::Outcome;
use assay_engine::relations::{ParentRef, Relation};
use assay_engine::sched::disk::Room;
use assay_engine::sched::restart::{RestartOptions, RestartRequest};
use assay_engine::settings::{ClassSet, Settings};
use assay_engine::work::{Held, Report, Timing, WorkPhase};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

const SECOND: i64 = 1_000_000;

#[derive(Debug, Clone)]
enum Action {
    Post {
        classes: usize,
        priority: i32,
        count: usize,
    },
    PostCluster {
        shape: usize,
        classes: usize,
        retries: u32,
        after: Option<usize>,
    },
    Cancel {
        job: usize,
    },
    /// Starts a job anew, with the options whose bits are set.
    StartAnew {
        job: usize,
        options: u32,
    },
    Priority {
        job: usize,
        priority: i32,
    },
    Obsolete {
        limit: Option<i32>,
    },
    Connect {
        worker: usize,
    },
    /// The connection breaks; the server hears of it or not.
    Break {
        worker: usize,
        heard: bool,
    },
    /// The process dies, and another one of the same name will come.
    Kill {
        worker: usize,
        heard: bool,
    },
    Deliver {
        worker: usize,
    },
    /// A message comes to nothing within the worker.
    Ignore {
        worker: usize,
    },
    /// The worker loses track of an attempt.
    Forget {
        worker: usize,
    },
    Work {
        worker: usize,
        outcome: usize,
    },
    Beat {
        worker: usize,
    },
    /// Something the worker said before, once more.
    Repeat {
        worker: usize,
        which: usize,
    },
    Pass {
        us: i64,
    },
    Leap {
        us: i64,
    },
    Restart,
}

/// How many jobs, and who depends on whom. `-` is a chain, `=` a direct one, `|` is parallel.
type Shape = (usize, &'static [(usize, char, usize)]);

/// Clusters.
const SHAPES: [Shape; 9] = [
    (3, &[(1, '-', 0), (2, '-', 1)]),
    (2, &[(1, '|', 0)]),
    (4, &[(1, '=', 0), (2, '=', 1), (3, '=', 0)]),
    (3, &[(2, '-', 0), (2, '-', 1)]),
    (4, &[(1, '|', 0), (2, '|', 0), (3, '-', 1)]),
    (3, &[(1, '|', 0), (2, '=', 1)]),
    (5, &[(1, '-', 0), (2, '|', 1), (3, '=', 2), (4, '-', 3)]),
    (4, &[(1, '=', 0), (3, '-', 2), (1, '-', 2), (2, '-', 3)]),
    (4, &[(1, '|', 0), (2, '-', 0), (3, '|', 2), (3, '-', 1)]),
];

const CLASSES: [&str; 4] = ["dummy", "qemu_x86_64", "dummy,qemu_x86_64", "tap"];
/// Name, slots, classes.
const WORKERS: [(&str, u32, &str); 3] =
    [("a:1", 1, "dummy,qemu_x86_64"), ("b:1", 2, "dummy"), ("b:2", 1, "dummy,tap")];

fn action() -> impl Strategy<Value = Action> {
    let worker = 0..WORKERS.len();
    prop_oneof![
        3 => (0..CLASSES.len(), 0..3_i32, 1..4_usize)
            .prop_map(|(classes, priority, count)| Action::Post { classes, priority, count }),
        3 => (0..SHAPES.len(), 0..3_usize, 0..2_u32, prop::option::of(any::<usize>()))
            .prop_map(|(shape, classes, retries, after)| Action::PostCluster { shape, classes, retries, after }),
        1 => any::<usize>().prop_map(|job| Action::Cancel { job }),
        2 => (any::<usize>(), 0..64_u32).prop_map(|(job, options)| Action::StartAnew { job, options }),
        1 => (any::<usize>(), 0..3_i32).prop_map(|(job, priority)| Action::Priority { job, priority }),
        1 => prop::option::of(1..60_i32).prop_map(|limit| Action::Obsolete { limit }),
        4 => worker.clone().prop_map(|worker| Action::Connect { worker }),
        1 => (worker.clone(), any::<bool>()).prop_map(|(worker, heard)| Action::Break { worker, heard }),
        1 => (worker.clone(), any::<bool>()).prop_map(|(worker, heard)| Action::Kill { worker, heard }),
        6 => worker.clone().prop_map(|worker| Action::Deliver { worker }),
        1 => worker.clone().prop_map(|worker| Action::Ignore { worker }),
        1 => worker.clone().prop_map(|worker| Action::Forget { worker }),
        6 => (worker.clone(), 0..4_usize).prop_map(|(worker, outcome)| Action::Work { worker, outcome }),
        3 => worker.clone().prop_map(|worker| Action::Beat { worker }),
        2 => (worker, any::<usize>()).prop_map(|(worker, which)| Action::Repeat { worker, which }),
        4 => (0..8 * SECOND).prop_map(|us| Action::Pass { us }),
        1 => (-7200 * SECOND..7200 * SECOND).prop_map(|us| Action::Leap { us }),
        1 => Just(Action::Restart),
    ]
}

/// How far a worker has come with an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Taken,
    Running,
    /// Reported, and not acknowledged yet.
    Reported(Outcome),
}

/// A worker process, and what is under way to it.
#[derive(Debug)]
struct Process {
    index: usize,
    generation: u32,
    connection: Option<ConnectionId>,
    inbox: VecDeque<Message>,
    runs: BTreeMap<Held, Progress>,
    said: Vec<(Held, Option<WorkPhase>, Outcome)>,
}

impl Process {
    fn name(&self) -> WorkerName {
        WORKERS[self.index].0.parse().expect("a name")
    }

    fn hello(&self) -> Hello {
        let (_, slots, classes) = WORKERS[self.index];
        Hello {
            name: self.name(),
            instance: format!("process {}", self.generation),
            host: "host".to_owned(),
            version: "1".to_owned(),
            slots,
            classes: ClassSet::parse(classes),
            holds: self.runs.keys().copied().collect(),
            room: None,
            once: false,
        }
    }

    /// Does as a message says.
    fn obey(&mut self, message: Message) {
        match message {
            Message::Welcome { holds, .. } => {
                for hold in holds {
                    if let Verdict::Fenced(_) = hold.verdict {
                        self.runs.remove(&hold.held);
                    }
                }
            }
            Message::Refused(_) => self.connection = None,
            Message::Assign { held, .. } => drop(self.runs.entry(held).or_insert(Progress::Taken)),
            Message::Cancel { held, .. } => {
                if let Some(progress) = self.runs.get_mut(&held) {
                    *progress = Progress::Reported(Outcome::UserCancelled);
                }
            }
            Message::Fenced { held, .. } => drop(self.runs.remove(&held)),
            Message::Answer { .. } => {}
            Message::FinishedAck { attempt } => self.runs.retain(|held, _| held.attempt != attempt),
        }
    }
}

struct Simulation {
    world: World,
    processes: Vec<Process>,
    next_connection: u64,
    jobs: Vec<JobId>,
    /// The room on the disk of the first worker, GiB; the others do not say.
    room: u64,
}

impl Simulation {
    fn new() -> Self {
        let process = |index| Process {
            index,
            generation: 0,
            connection: None,
            inbox: VecDeque::new(),
            runs: BTreeMap::new(),
            said: Vec::new(),
        };
        let processes = (0..WORKERS.len()).map(process).collect();
        Self {
            world: World::new(Timing::default()),
            processes,
            next_connection: 0,
            jobs: Vec::new(),
            room: 12,
        }
    }

    fn input(&mut self, input: Input) -> Option<Answer> {
        let (answer, out) = self.world.input(input);
        self.route(out);
        answer.ok()
    }

    fn route(&mut self, out: Out) {
        for (connection, message) in out.sent {
            if let Some(process) = self.processes.iter_mut().find(|p| p.connection == Some(connection)) {
                process.inbox.push_back(message);
            }
        }
        for (connection, _) in out.closed {
            if let Some(process) = self.processes.iter_mut().find(|p| p.connection == Some(connection)) {
                // What was sent before is still read, then the worker sees the end.
                for message in std::mem::take(&mut process.inbox) {
                    process.obey(message);
                }
                process.connection = None;
            }
        }
    }

    fn connect(&mut self, index: usize) {
        let process = &mut self.processes[index];
        if process.connection.is_some() {
            return;
        }
        self.next_connection += 1;
        let connection = ConnectionId(self.next_connection);
        process.connection = Some(connection);
        let hello = process.hello();
        let hello = Hello { room: self.room_of(index), ..hello };
        self.input(Input::Hello { connection, hello });
    }

    fn room_of(&self, index: usize) -> Option<Room> {
        let gib = self.room << 30;
        (index == 0).then_some(Room { pool: gib, cache: gib, shared: true })
    }

    fn disconnect(&mut self, index: usize, heard: bool) {
        let process = &mut self.processes[index];
        process.inbox.clear();
        if let Some(connection) = process.connection.take()
            && heard
        {
            self.input(Input::Disconnected { connection });
        }
    }

    /// Does the next thing for one attempt, or says again what was not acknowledged.
    fn work(&mut self, index: usize, outcome: Outcome) {
        let process = &mut self.processes[index];
        let Some((held, progress)) = process.runs.iter_mut().next() else { return };
        let held = *held;
        let phase = match *progress {
            Progress::Taken => {
                *progress = Progress::Running;
                Some(WorkPhase::Running)
            }
            Progress::Running => {
                *progress = Progress::Reported(outcome);
                None
            }
            Progress::Reported(_) => None,
        };
        let outcome = match *progress {
            Progress::Reported(outcome) => outcome,
            _ => Outcome::Passed,
        };
        process.said.push((held, phase, outcome));
        self.say(index, held, phase, outcome);
    }

    fn say(&mut self, index: usize, held: Held, phase: Option<WorkPhase>, outcome: Outcome) {
        let Some(connection) = self.processes[index].connection else { return };
        let input = if let Some(phase) = phase {
            Input::Phase { connection, held, phase }
        } else {
            let report = Report { outcome, class: outcome.class(), reason: Some("because".to_owned()) };
            Input::Finished { connection, held, report }
        };
        self.input(input);
    }

    fn beat(&mut self, index: usize) {
        let process = &self.processes[index];
        if let Some(connection) = process.connection {
            let holds = process.runs.keys().copied().collect();
            let room = self.room_of(index);
            self.input(Input::Heartbeat { connection, holds, room });
        }
    }

    fn post(&mut self, classes: &str, priority: i32, count: usize) {
        let settings = Settings::from_request([
            ("TEST", "t"),
            ("WORKER_CLASS", classes),
            ("NUMDISKS", if count == 3 { "1" } else { "0" }),
        ]);
        let group = (count != 2).then_some(GroupId(i64::from(priority.rem_euclid(3)) + count as i64));
        let job = NewJob { priority: Some(priority), group, ..NewJob::new(settings) };
        if let Some(Answer::Posted(ids)) = self.input(Input::PostJobs { jobs: vec![job; count] }) {
            self.jobs.extend(ids);
        }
    }

    fn post_cluster(&mut self, shape: usize, classes: usize, retries: u32, after: Option<usize>) {
        let (count, edges) = SHAPES[shape];
        let after = after.and_then(|after| self.jobs.get(after % self.jobs.len().max(1)).copied());
        let job = |place: usize| {
            // A direct chain needs the same classes throughout; few workers can take several of the others at once.
            let classes = if classes == 2 && place == 0 && shape == 1 { "tap" } else { "dummy" };
            let test = format!("{shape}{}", char::from(b'a' + place as u8));
            let spare = if shape.is_multiple_of(2) { "0" } else { "1" };
            let settings = Settings::from_request([
                ("TEST", test.as_str()),
                ("WORKER_CLASS", classes),
                ("PARALLEL_CANCEL_WHOLE_CLUSTER", spare),
                ("PARALLEL_ONE_HOST_ONLY", spare),
                ("NUMDISKS", spare),
            ]);
            let own = edges.iter().filter(|(child, ..)| *child == place);
            let relation = |word: char| match word {
                '-' => Relation::Chained,
                '=' => Relation::DirectlyChained,
                _ => Relation::Parallel,
            };
            let mut parents: Vec<_> =
                own.map(|(_, word, parent)| (relation(*word), ParentRef::Posted(*parent))).collect();
            parents.extend(after.filter(|_| place == 0).map(|job| (Relation::Chained, ParentRef::Job(job))));
            NewJob { retries, parents, ..NewJob::new(settings) }
        };
        let jobs = (0..count).map(job).collect();
        if let Some(Answer::Posted(ids)) = self.input(Input::PostJobs { jobs }) {
            self.jobs.extend(ids);
        }
    }

    fn start_anew(&mut self, job: JobId, bits: u32) {
        let bit = |place: u32| bits & (1 << place) != 0;
        let options = RestartOptions {
            force: bit(0),
            skip_aborting_jobs: bit(1),
            skip_parents: bit(2),
            skip_children: bit(3),
            skip_ok_result_children: bit(4),
            // Copies that join the parents of the first would make clusters too large for all workers.
            copy_only: bit(5) && bit(3) && !bit(2),
            ..RestartOptions::default()
        };
        let request = RestartRequest { jobs: vec![job], options, by: "x".to_owned(), plan_only: true };
        let planned = self.input(Input::Restart(request.clone()));
        let done = self.input(Input::Restart(RestartRequest { plan_only: false, ..request.clone() }));
        let (Some(Answer::Restarted(plan)), Some(Answer::Restarted(mut done))) = (planned, done) else {
            return;
        };
        let clones: Vec<JobId> = done.clones.iter_mut().filter_map(|clone| clone.clone.take()).collect();
        assert_eq!(plan, done, "what is shown is what is done");
        self.jobs.extend(&clones);
        if !request.options.copy_only {
            let again = self.input(Input::Restart(RestartRequest { plan_only: false, ..request }));
            let Some(Answer::Restarted(again)) = again else { panic!("the second time is refused") };
            assert!(again.clones.is_empty(), "the second time makes {:?}", again.clones);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Post { classes, priority, count } => self.post(CLASSES[classes], priority, count),
            Action::Cancel { job } => {
                if let Some(job) = self.jobs.get(job % self.jobs.len().max(1)).copied() {
                    self.input(Input::CancelJob { job, by: "somebody".to_owned() });
                }
            }
            Action::PostCluster { shape, classes, retries, after } => {
                self.post_cluster(shape, classes, retries, after);
            }
            Action::StartAnew { job, options } => {
                if let Some(job) = self.jobs.get(job % self.jobs.len().max(1)).copied() {
                    self.start_anew(job, options);
                }
            }
            Action::Priority { job, priority } => {
                if let Some(job) = self.jobs.get(job % self.jobs.len().max(1)).copied() {
                    let group = Some((priority % 2 == 0).then_some(GroupId(2)));
                    self.input(Input::Edit { job, priority: Some(priority), group });
                }
            }
            Action::Obsolete { limit } => {
                let deprioritize = limit.map(|limit| Deprioritize { step: 10, limit });
                let matching = [("TEST".to_owned(), "0b".to_owned())].into();
                self.input(Input::Obsolete(Obsolete { matching, deprioritize, ..Obsolete::default() }));
            }
            Action::Connect { worker } => self.connect(worker),
            Action::Break { worker, heard } => self.disconnect(worker, heard),
            Action::Kill { worker, heard } => {
                self.disconnect(worker, heard);
                self.processes[worker].generation += 1;
                self.processes[worker].runs.clear();
            }
            Action::Deliver { worker } => {
                if let Some(message) = self.processes[worker].inbox.pop_front() {
                    self.processes[worker].obey(message);
                }
            }
            Action::Ignore { worker } => drop(self.processes[worker].inbox.pop_front()),
            Action::Forget { worker } => drop(self.processes[worker].runs.pop_first()),
            Action::Work { worker, outcome } => {
                let outcomes =
                    [Outcome::Passed, Outcome::Failed, Outcome::Softfailed, Outcome::TimeoutExceeded];
                self.work(worker, outcomes[outcome]);
            }
            Action::Beat { worker } => self.beat(worker),
            Action::Repeat { worker, which } => {
                let said = &self.processes[worker].said;
                if let Some((held, phase, outcome)) = said.get(which % said.len().max(1)).copied() {
                    self.say(worker, held, phase, outcome);
                }
            }
            Action::Pass { us } => {
                self.room = us.unsigned_abs() % 40;
                let out = self.world.pass(us);
                self.route(out);
            }
            Action::Leap { us } => {
                let out = self.world.leap(us);
                self.route(out);
            }
            Action::Restart => {
                let out = self.world.restart();
                for index in 0..self.processes.len() {
                    self.disconnect(index, false);
                }
                self.route(out);
            }
        }
    }

    /// No more faults: workers connect, obey, work and beat. Then every job must end, and soon.
    fn settle(&mut self) {
        self.room = 40;
        for _ in 0..600 {
            if self.world.db.jobs.values().all(|job| job.state.is_final()) {
                return;
            }
            for index in 0..self.processes.len() {
                self.connect(index);
                while let Some(message) = self.processes[index].inbox.pop_front() {
                    self.processes[index].obey(message);
                }
                self.work(index, Outcome::Passed);
                self.beat(index);
            }
            let out = self.world.pass(SECOND);
            self.route(out);
        }
        let open: Vec<_> = self.world.db.jobs.values().filter(|job| !job.state.is_final()).collect();
        panic!("I9: these jobs never end: {open:#?}");
    }
}

/// `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let cases =
        if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { 200 };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn whatever_happens_no_job_is_lost_doubled_or_stuck(actions in prop::collection::vec(action(), 1..120)) {
        let mut simulation = Simulation::new();
        for action in actions {
            simulation.act(action);
        }
        simulation.settle();
        for job in &simulation.jobs {
            prop_assert!(simulation.world.db.jobs[job].state.is_final());
        }
    }
}
