//! Builds as jobs: what a worker is told of them, and what the gate hears. And what is kept or used again.

use super::{Rig, UNIT, config, edit_job, edit_pipeline, id};
use assay_engine::gate::config::{Config, EventKind, Manager};
use assay_engine::gate::ids::{Patchset, ProjectName};
use assay_engine::gate::io::{self as gate, BuildResult, Command, Merge, Merged, Moved};
use assay_engine::ids::{ConnectionId, Timestamp};
use assay_engine::io::{Effect, Hello, Input, Message};
use assay_engine::outcome::{Outcome, OutcomeClass};
use assay_engine::settings::ClassSet;
use assay_engine::state::State;
use assay_engine::work::{Held, Report, Timing, WorkPhase};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const WORKER: ConnectionId = ConnectionId(1);

/// A server's state with a gate in it, one worker, and a merger that makes every state at once.
struct Server {
    state: State,
    now: Timestamp,
    assigned: Vec<(Held, BTreeMap<String, String>)>,
    reports: Vec<gate::Report>,
}

impl Server {
    fn new(config: Config) -> Self {
        let now = Timestamp(1_700_000_000_000_000);
        let state = State::new(Timing::default(), now);
        let mut server = Self { state, now, assigned: Vec::new(), reports: Vec::new() };
        server.gate(gate::Input::Configure(Arc::new(config)));
        let hello = Hello {
            name: "w".parse().expect("a name"),
            instance: "1".to_owned(),
            host: "h".to_owned(),
            version: "1".to_owned(),
            slots: 9,
            classes: ClassSet::parse("arm,fast,shell,qemu_x86_64"),
            holds: Vec::new(),
            room: None,
            once: false,
        };
        server.step(Input::Hello { connection: WORKER, hello });
        server
    }

    fn step(&mut self, input: Input) {
        let step = self.state.step(input, self.now);
        for effect in step.effects {
            match effect {
                Effect::Send { message: Message::Assign { held, settings, .. }, .. } => {
                    self.assigned.push((held, settings));
                }
                Effect::Gate(gate::Effect::Merge(Merge::Make(request))) => {
                    let moved = request.changes.iter().map(|change| Moved {
                        project: change.project.clone(),
                        branch: change.branch.clone(),
                        base: super::tip("base"),
                        tip: super::tip("tip"),
                    });
                    let result = Ok(Merged { moved: moved.collect() });
                    self.gate(gate::Input::Merged { merge: request.merge, result });
                }
                Effect::Gate(gate::Effect::Report(report)) => self.reports.push(*report),
                _ => {}
            }
        }
    }

    fn gate(&mut self, input: gate::Input) {
        self.step(Input::Gate(Box::new(input)));
    }

    fn comment(&mut self, rig: &Rig, number: u64) {
        let mut event = gate::Event::new("gerrit".into(), EventKind::CommentAdded);
        event.facts = vec![rig.facts(number, "a")];
        event.change = Some(Patchset { change: id(number), patchset: 1 });
        self.gate(gate::Input::Event(Box::new(event)));
    }

    fn finished(&mut self, outcome: Outcome) {
        let held = self.assigned.last().expect("assigned").0;
        let report = Report { outcome, class: OutcomeClass::Product, reason: None };
        self.step(Input::Finished { connection: WORKER, held, report });
    }
}

fn check(jobs: &[&str]) -> Config {
    let mut config = config(&[("check", Manager::Independent)], &[("a", jobs)], &[]);
    for job in jobs {
        edit_job(&mut config, job, |job| job.task = Some("{}".into()));
    }
    config
}

#[test]
fn a_build_says_what_its_worker_must_offer_and_that_its_workspace_is_kept() {
    let mut config = check(UNIT);
    edit_job(&mut config, "unit", |job| job.labels = BTreeSet::from(["arm".to_owned(), "fast".to_owned()]));
    let rig = Rig::new(config.clone());
    let mut server = Server::new(config);
    server.comment(&rig, 1);
    let settings = &server.assigned.last().expect("a worker has it").1;
    assert_eq!(settings["WORKER_CLASS"], "arm,fast");
    assert!(!settings.contains_key("HOLD_WORKSPACE"));
    let (project, job, reason) = ("a".into(), "unit".into(), "look at it".to_owned());
    let command = Command::Autohold { project, job, change: None, count: 1, reason };
    server.gate(gate::Input::Command { command, by: "op".to_owned() });
    server.comment(&rig, 2);
    assert_eq!(server.assigned.last().expect("assigned").1["HOLD_WORKSPACE"], "autohold 1 by op: look at it");
}

#[test]
fn a_job_that_ends_at_once_has_its_time_in_the_report() {
    let mut config = check(UNIT);
    config.places.report_times = true;
    config.places.job_name_in_report = true;
    let rig = Rig::new(config.clone());
    for phases in
        [&[][..], &[WorkPhase::Setup], &[WorkPhase::Uploading], &[WorkPhase::Setup, WorkPhase::Running]]
    {
        let mut server = Server::new(config.clone());
        server.comment(&rig, 1);
        for phase in phases {
            let held = server.assigned[0].0;
            server.step(Input::Phase { connection: WORKER, held, phase: *phase });
        }
        server.finished(Outcome::Passed);
        let told: Vec<&str> = server.reports.iter().map(|report| report.message.as_str()).collect();
        assert_eq!(told, ["Build succeeded.\n\n- unit unit : SUCCESS in 0s\n"], "{phases:?}");
    }
}

#[test]
fn an_autohold_is_for_failures_of_one_job_and_counts_them() {
    let mut config =
        config(&[("check", Manager::Independent)], &[("a", &["unit", "docs"]), ("b", UNIT)], &[]);
    edit_job(&mut config, "docs", |job| job.voting = false);
    let mut rig = Rig::new(config);
    let autohold = |rig: &mut Rig, project: &str, change: Option<u64>, count: u32| {
        let (project, change) = (ProjectName::from(project), change.map(id));
        let (job, reason) = ("unit".into(), "look".to_owned());
        rig.command(Command::Autohold { project, job, change, count, reason }).expect("taken");
    };
    let held = |rig: &Rig, number: u64| -> Vec<String> {
        let build =
            rig.builds.iter().filter(|build| build.changes.last().expect("one").change.number == number);
        build.filter(|build| build.hold.is_some()).map(|build| build.job.name.to_string()).collect()
    };
    let left = |rig: &Rig| rig.gate.held().autoholds.values().map(|row| row.left).collect::<Vec<_>>();
    autohold(&mut rig, "a", None, 2);
    rig.enqueue(1, "a");
    rig.enqueue(2, "b");
    assert_eq!((held(&rig, 1), held(&rig, 2)), (vec!["unit".to_owned()], vec![]), "of that project and job");
    rig.end(1, "unit", BuildResult::success());
    rig.end(2, "unit", BuildResult::failure());
    rig.end(1, "docs", BuildResult::failure());
    assert_eq!(left(&rig), [2], "neither a success counts, nor another project or job");
    for number in [3, 4] {
        rig.enqueue(number, "a");
        rig.end(number, "unit", BuildResult::lost("the worker is gone"));
        rig.end(number, "unit", BuildResult::failure());
        rig.restart();
    }
    assert_eq!(left(&rig), [0u32; 0], "each failure of the product once, whatever was lost before");
    rig.enqueue(5, "a");
    assert_eq!(held(&rig, 5), [""; 0]);
    autohold(&mut rig, "a", Some(7), 1);
    rig.enqueue(6, "a");
    rig.enqueue(7, "a");
    assert_eq!((held(&rig, 6), held(&rig, 7)), (vec![], vec!["unit".to_owned()]), "of that change");
}

#[test]
fn of_twenty_uses_of_a_result_one_is_a_run_after_all() {
    let mut config = config(&[("again", Manager::Serial)], &[("a", UNIT)], &[]);
    edit_job(&mut config, "unit", |job| job.hermetic = true);
    edit_pipeline(&mut config, |pipeline| pipeline.triggers.clear());
    let mut rig = Rig::new(config);
    let mut runs = Vec::new();
    for round in 0..65 {
        let facts = vec![rig.facts(1, "a")];
        let patchset = Patchset { change: id(1), patchset: 1 };
        rig.command(Command::Enqueue { pipeline: "again".into(), patchset, facts }).expect("let in");
        if rig.has(1) {
            runs.push(round);
            rig.pass(1);
        }
        if round == 30 {
            rig.restart(); // how often it was used is kept
        }
    }
    assert_eq!(runs, [0, 20, 40, 60]);
}
