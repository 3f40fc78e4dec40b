//! What lands, what holds a queue, and what a new configuration makes of both.

use super::{Rig, UNIT, config, edit_job, edit_pipeline, gate, id, tip};
use assay_engine::gate::change::{ChangeFacts, RefUpdate};
use assay_engine::gate::config::{EventKind, Manager, ReportAction};
use assay_engine::gate::ids::{ItemId, Patchset};
use assay_engine::gate::io::{BuildResult, Command, Event, Input, LandResult};
use assay_engine::gate::reason::{HoldReason, Refusal};
use assay_engine::ids::Timestamp;

impl Rig {
    fn base_moved_of(&mut self, what: &str) {
        let item = self.gate.held().items.values().next().cloned().expect("an item");
        let result =
            LandResult::BaseMoved { project: "a".into(), branch: "master".into(), found: tip("elsewhere") };
        self.step(Input::Landed { item: item.id, result }).expect("taken");
        let left: Vec<_> = self.gate.held().items.values().map(|item| item.phase.clone()).collect();
        assert!(left.is_empty(), "{what}: {left:?}");
    }
}

#[test]
fn a_branch_of_a_project_with_its_own_queue_moves() {
    let mut rig = Rig::new(gate(&[("a", UNIT)], &[]));
    rig.enqueue(1, "a");
    let before = rig.build(1, "unit");
    rig.moves("a", "foreign");
    assert_ne!(rig.build(1, "unit"), before, "it goes on above a tip that is gone");
}

#[test]
fn a_patchset_superseded_while_it_was_being_landed_is_not_landed_afterwards() {
    let mut rig = Rig::new(gate(&[("a", UNIT)], &[]));
    rig.enqueue(1, "a");
    rig.pass(1);
    assert!(rig.is_landing(1));
    let newer = ChangeFacts { current_patchset: 2, ..rig.facts(1, "a") };
    rig.step(Input::Facts(vec![newer])).expect("taken");
    rig.base_moved(1);
    assert!(!rig.has(1), "the old patchset is tested again, to be landed");
}

#[test]
fn a_configuration_without_a_place_for_what_is_being_landed() {
    for (what, new) in [
        ("no pipeline", config(&[("check", Manager::Independent)], &[("a", UNIT)], &[])),
        ("no job", gate(&[("a", &[])], &[])),
    ] {
        let mut rig = Rig::new(gate(&[("a", UNIT)], &[]));
        rig.enqueue(1, "a");
        rig.pass(1);
        rig.configure(new);
        rig.base_moved_of(what);
    }
}

#[test]
fn a_need_that_a_new_configuration_puts_into_another_queue() {
    let projects: &[(&str, &[&str])] = &[("a", UNIT), ("b", UNIT)];
    let mut rig = Rig::new(gate(projects, &[("both", &["a", "b"])]));
    rig.enqueue(1, "a");
    let child = rig.child(2, "b", 1);
    rig.comment(child);
    assert_eq!(rig.queue(), [1, 2]);
    rig.configure(gate(projects, &[]));
    if rig.has(2) {
        rig.pass(2);
    }
    assert!(rig.lands.is_empty(), "it lands before what it needs");
}

#[test]
fn a_pipeline_gets_another_manager() {
    for (from, to) in [
        (Manager::Dependent, Manager::Independent),
        (Manager::Independent, Manager::Dependent),
        (Manager::Dependent, Manager::Serial),
        (Manager::Supercedent, Manager::Dependent),
    ] {
        let of = |manager| config(&[("p", manager)], &[("a", UNIT)], &[("both", &["a"])]);
        let mut rig = Rig::new(of(from));
        rig.enqueue(1, "a");
        let child = rig.child(2, "a", 1);
        rig.comment(child);
        rig.configure(of(to));
        for _ in 0..9 {
            for item in rig.items() {
                for job in &item.buildset.jobs {
                    if let Some(build) = job.state.build().filter(|build| build.result.is_none()) {
                        let result = BuildResult::success();
                        rig.step(Input::BuildEnded { build: build.uuid, result }).expect("taken");
                    }
                }
            }
            for request in std::mem::take(&mut rig.lands) {
                for member in &request.members {
                    assert_eq!(member.base, tip("base"), "{from:?} {to:?}");
                    assert!(
                        member.tested.commit.as_str().ends_with(&member.patchset.to_string()),
                        "{member:?}"
                    );
                }
                let tips = request.members.iter().map(|member| member.tested.clone()).collect();
                let result = LandResult::Landed { tips };
                rig.step(Input::Landed { item: request.item, result }).expect("taken");
            }
        }
        assert_eq!(rig.queue(), [0u64; 0], "{from:?} {to:?}");
    }
}

#[test]
fn a_ref_cannot_be_landed() {
    let mut rig = Rig::new(gate(&[("a", UNIT)], &[]));
    let update = RefUpdate { project: "a".into(), name: "v1".into(), old: "0".into(), new: "1".into() };
    let _ = rig.command(Command::EnqueueRef { pipeline: "gate".into(), update });
    for build in std::mem::take(&mut rig.builds) {
        let result = BuildResult::success();
        rig.step(Input::BuildEnded { build: build.uuid, result }).expect("taken");
    }
    assert!(rig.items().is_empty(), "{:?}", rig.items());
}

#[test]
fn the_result_of_an_old_definition_does_not_stand_for_the_new_one() {
    let with_task = |task: &str| {
        let mut config =
            config(&[("check", Manager::Independent), ("gate", Manager::Dependent)], &[("a", UNIT)], &[]);
        edit_job(&mut config, "unit", |job| {
            job.hermetic = true;
            job.task = Some(task.into());
        });
        edit_pipeline(&mut config, |pipeline| {
            if pipeline.manager == Manager::Dependent {
                pipeline.triggers.clear();
            }
        });
        config
    };
    for (new, builds) in [("old", 1), ("new", 2)] {
        let mut rig = Rig::new(with_task("old"));
        rig.enqueue(1, "a");
        rig.configure(with_task(new));
        rig.pass(1);
        let facts = vec![rig.facts(1, "a")];
        let patchset = Patchset { change: id(1), patchset: 1 };
        rig.command(Command::Enqueue { pipeline: "gate".into(), patchset, facts }).expect("let in");
        assert_eq!(rig.builds.len(), builds, "{new}");
    }
}

#[test]
fn what_landed_before_a_restart_is_not_needed_after_it() {
    let mut rig = Rig::new(gate(&[("a", UNIT)], &[]));
    rig.enqueue(1, "a");
    let child = rig.child(2, "a", 1);
    rig.comment(child);
    rig.pass(1);
    rig.land(1);
    rig.restart();
    let late = ChangeFacts { subject: "Looked at again".to_owned(), ..rig.child(2, "a", 1) };
    rig.step(Input::Facts(vec![late])).expect("taken");
    assert!(rig.has(2), "{:?}", rig.reports);
    let stale = rig.facts(1, "a");
    let again = ChangeFacts { subject: "And again".to_owned(), ..rig.child(2, "a", 1) };
    rig.step(Input::Facts(vec![stale, again])).expect("taken");
    assert!(rig.has(2), "{:?}", rig.reports);
}

#[test]
fn windows_and_holds_stay_with_their_projects() {
    let projects: &[(&str, &[&str])] = &[("a", UNIT), ("b", UNIT)];
    let mut rig = Rig::new(gate(projects, &[("a, b", &["a", "b"])]));
    rig.enqueue(1, "a");
    rig.end(1, "unit", BuildResult::failure());
    let hold = Command::Hold { pipeline: "gate".into(), queue: "a, b".into(), reason: "look".to_owned() };
    rig.command(hold).expect("held");
    rig.enqueue(2, "b");
    rig.configure(gate(projects, &[("renamed", &["a", "b"])]));
    let held = rig.gate.held();
    let queue = held.queue_of(&rig.of(2)).expect("a queue");
    assert_eq!((queue.window, queue.hold.is_some()), (10, true));
    rig.restart();
    // Another window for new queues: those that are there keep theirs, and the rows say so.
    let mut other = gate(projects, &[("renamed", &["a", "b"])]);
    edit_pipeline(&mut other, |pipeline| pipeline.window.start = 5);
    rig.configure(other);
    rig.restart();
}

#[test]
fn the_window_of_a_queue_outlives_a_new_configuration_and_a_restart() {
    let mut rig = Rig::new(gate(&[("a", UNIT)], &[]));
    rig.enqueue(1, "a");
    let mut other = gate(&[("a", UNIT)], &[]);
    edit_pipeline(&mut other, |pipeline| pipeline.window.start = 5);
    rig.configure(other);
    let window = |rig: &Rig| rig.gate.held().queue_of(&rig.of(1)).expect("a queue").window;
    let live = window(&rig);
    rig.restart();
    assert_eq!(window(&rig), live);
}

#[test]
fn a_hold_does_not_end_another_one() {
    let mut rig = Rig::new(gate(&[("a", UNIT)], &[]));
    let key = || ("gate".into(), "a".into());
    let hold = |reason: &str| {
        let (pipeline, queue) = key();
        Command::Hold { pipeline, queue, reason: reason.to_owned() }
    };
    let release = || {
        let (pipeline, queue) = key();
        Command::Release { pipeline, queue }
    };
    let words = |rig: &Rig| {
        let queue = rig.gate.held().queues.values().next().expect("a queue");
        let words = |(reason, _): &(HoldReason, Timestamp)| match reason {
            HoldReason::Operator { reason, .. } => reason.clone(),
            HoldReason::TreeMismatch { change, .. } => format!("mismatch {change}"),
            other => format!("{other:?}"),
        };
        queue.holds().map(words).collect::<Vec<_>>()
    };
    let item = rig.enqueue(1, "a");
    rig.enqueue(2, "a");
    rig.pass(1);
    assert!(rig.is_landing(1));
    rig.command(hold("release day")).expect("held");
    let (project, branch) = ("a".into(), "master".into());
    let result = LandResult::TreeMismatch { project, branch, found: tip("odd"), landed: Vec::new() };
    rig.step(Input::Landed { item, result }).expect("taken");
    assert_eq!(words(&rig), ["mismatch 1,1", "release day"]);
    rig.command(hold("release week")).expect("held");
    rig.restart();
    assert_eq!(words(&rig), ["mismatch 1,1", "release week"], "of an operator's holds there is the latest");
    rig.command(release()).expect("released");
    rig.pass(2);
    assert!(!rig.is_landing(2), "what has been looked at does not end what somebody wants");
    rig.command(release()).expect("released");
    assert!(rig.is_landing(2) && rig.command(release()).is_err());
}

#[test]
fn of_a_cycle_only_what_was_tried_is_in_after_a_mismatch() {
    let mut config = gate(&[("a", UNIT), ("b", UNIT)], &[("both", &["a", "b"])]);
    edit_pipeline(&mut config, |pipeline| pipeline.queues.iter_mut().for_each(|it| it.allow_cycles = true));
    let mut rig = Rig::new(config);
    let circle = |rig: &Rig, number: u64, project: &str, other: u64| ChangeFacts {
        message: format!("Depends-On: https://x/{other}"),
        ..rig.facts(number, project)
    };
    let mut event = Event::new("gerrit".into(), EventKind::CommentAdded);
    event.facts = vec![circle(&rig, 1, "a", 2), circle(&rig, 2, "b", 1)];
    event.change = Some(event.facts[0].patchset());
    rig.step(Input::Event(Box::new(event))).expect("taken");
    for (number, project, parent) in [(3, "a", 1), (4, "b", 2)] {
        let facts = rig.child(number, project, parent);
        rig.comment(facts);
        assert_eq!(rig.of(number).needs.len(), 1);
    }
    let item = rig.of(1).id;
    for job in rig.of(1).buildset.jobs.clone() {
        rig.end(1, job.job.as_str(), BuildResult::success());
    }
    assert!(rig.is_landing(1));
    let request = rig.lands.last().expect("a landing").clone();
    let odd = request.members.first().expect("two").clone();
    let left = request.members[1].patchset.change.number;
    let (project, branch) = (odd.project.clone(), odd.branch.clone());
    let result = LandResult::TreeMismatch { project, branch, found: tip("odd"), landed: Vec::new() };
    rig.step(Input::Landed { item, result }).expect("taken");
    let with_need = |number: u64| rig.has(number) && !rig.of(number).needs.is_empty();
    // What needs the one that was never tried has lost what it needs; what needs the odd one has it.
    let (of_odd, of_left) = if left == 2 { (3, 4) } else { (4, 3) };
    assert!(rig.has(of_odd) && !with_need(of_odd), "{:?}", rig.queue());
    assert!(!rig.has(of_left), "it needs what is not in its branch: {:?}", rig.queue());
}

#[test]
fn a_landing_that_does_not_end_is_ended_by_force() {
    let mut rig = Rig::new(gate(&[("a", UNIT)], &[]));
    rig.enqueue(1, "a");
    rig.enqueue(2, "a");
    rig.pass(1);
    let dequeue = Command::Dequeue { pipeline: "gate".into(), change: id(1) };
    assert!(matches!(rig.command(dequeue), Err(Refusal::BeingLanded { .. })));
    rig.command(Command::EndLanding { pipeline: "gate".into(), change: id(1) }).expect("ended");
    rig.pass(2);
    assert!(!rig.has(1) && !rig.is_landing(2), "nobody knows what the branch is");
    rig.restart();
    let hold = rig.gate.held().queues.values().find_map(|queue| queue.hold.clone()).expect("held").0;
    assert!(hold.to_string().starts_with("op ended the landing of 1"), "{hold}");
    let result = LandResult::Refused { why: "too late".to_owned() };
    rig.step(Input::Landed { item: ItemId(1), result }).expect("an answer that comes later changes nothing");
    rig.command(Command::Release { pipeline: "gate".into(), queue: "a".into() }).expect("released");
    assert!(rig.is_landing(2));
}

#[test]
fn a_hold_goes_with_its_queue() {
    let mut rig = Rig::new(config(&[("check", Manager::Independent)], &[("a", UNIT)], &[]));
    let item = rig.enqueue(1, "a");
    let queue = rig.of(1).queue.clone();
    rig.command(Command::Hold { pipeline: "check".into(), queue, reason: "look".to_owned() }).expect("held");
    rig.pass(1);
    assert!(!rig.gate.held().items.contains_key(&item));
    rig.command(Command::Autohold {
        project: "a".into(),
        job: "unit".into(),
        change: None,
        count: 0,
        reason: String::new(),
    })
    .expect("taken");
}

#[test]
fn a_job_that_nobody_defined_is_told_without_a_vote() {
    let undefined = || BuildResult::not_registered("nothing says what unit does".to_owned());
    let mut rig = Rig::new(gate(&[("a", &["unit", "lint"])], &[]));
    let window = |rig: &Rig| rig.gate.held().queues.values().next().map(|queue| queue.window);
    rig.enqueue(1, "a");
    let before = window(&rig);
    rig.end(1, "unit", undefined());
    rig.end(1, "lint", BuildResult::success());
    assert!(!rig.has(1));
    let report = rig.reports.last().expect("a report");
    let ReportAction::Review { labels, submit, .. } = &report.action else { panic!("{:?}", report.action) };
    assert!(labels.is_empty() && !submit, "{labels:?}");
    for line in ["this says nothing about the change", ": NOT_REGISTERED", "\nnothing says what unit does\n"]
    {
        assert!(report.message.contains(line), "{line} is not in\n{}", report.message);
    }
    rig.enqueue(2, "a");
    assert_eq!(window(&rig), before, "the window is as it was");

    // A job that failed is a fault of the change all the same.
    rig.end(2, "unit", undefined());
    rig.end(2, "lint", BuildResult::failure());
    let report = rig.reports.last().expect("a report");
    let ReportAction::Review { labels, .. } = &report.action else { panic!("{:?}", report.action) };
    assert_eq!(labels, &[("Verified".to_owned(), -1)]);
    assert!(report.message.contains("\nnothing says what unit does\n"), "{}", report.message);
}
