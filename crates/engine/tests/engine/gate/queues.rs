//! What is let into a queue, and what is tested there in which order.

use super::{Rig, UNIT, config, edit_job, edit_pipeline, gate, id, tree};
use assay_engine::gate::change::{ChangeFacts, ChangeStatus, RefUpdate};
use assay_engine::gate::config::{EventKind, Manager};
use assay_engine::gate::ids::Patchset;
use assay_engine::gate::io::{BuildResult, Command, Event, Input};
use assay_engine::gate::pattern::Pattern;
use std::collections::BTreeSet;

#[test]
fn promoting_in_a_serial_pipeline_starts_nothing_beside_what_runs() {
    for manager in [Manager::Serial, Manager::Supercedent] {
        let mut rig = Rig::new(config(&[("deploy", manager)], &[("a", UNIT)], &[]));
        rig.enqueue(1, "a");
        rig.enqueue(2, "a");
        rig.command(Command::Promote { pipeline: "deploy".into(), changes: vec![id(2)] }).expect("promoted");
        assert_eq!(rig.builds.len(), 1, "{manager:?}");
    }
}

#[test]
fn a_branch_that_moved_is_seen_past_a_change_that_waits_for_what_it_needs() {
    let mut rig = Rig::new(gate(&[("a", UNIT), ("b", &["unit", "slow"])], &[("both", &["a", "b"])]));
    rig.enqueue(1, "b");
    let child = rig.child(2, "a", 1);
    rig.comment(child);
    rig.enqueue(3, "a");
    rig.end(1, "unit", BuildResult::failure());
    let before = rig.build(3, "unit");
    rig.moves("a", "foreign");
    assert_ne!(rig.build(3, "unit"), before);
}

#[test]
fn a_time_that_is_due_again_while_the_last_runs() {
    let mut rig = Rig::new(config(&[("periodic", Manager::Independent)], &[("a", UNIT)], &[]));
    for _ in 0..2 {
        let mut event = Event::new("gerrit".into(), EventKind::PatchsetCreated);
        event.timer = Some(("a".into(), "0 0 * * *".to_owned()));
        rig.step(Input::Event(Box::new(event))).expect("taken");
    }
    assert_eq!(rig.items().len(), 1);
}

#[test]
fn nothing_is_said_to_have_passed_where_no_job_applies() {
    let mut config = config(&[("post", Manager::Independent)], &[("a", UNIT)], &[]);
    edit_job(&mut config, "unit", |job| job.branches = vec![Pattern::new("stable").expect("a pattern")]);
    let mut rig = Rig::new(config);
    let update = RefUpdate { project: "a".into(), name: "master".into(), old: "0".into(), new: "1".into() };
    let refused = rig.command(Command::EnqueueRef { pipeline: "post".into(), update });
    assert!(refused.is_err() && rig.reports.is_empty(), "{refused:?} {:?}", rig.reports);
}

#[test]
fn a_refusal_is_not_answered() {
    let mut rig = Rig::new(gate(&[("a", UNIT), ("b", UNIT)], &[]));
    let mut event = Event::new("gerrit".into(), EventKind::CommentAdded);
    event.facts = vec![rig.child(2, "b", 1), rig.facts(1, "a")];
    event.change = Some(Patchset { change: id(2), patchset: 1 });
    rig.step(Input::Event(Box::new(event.clone()))).expect("taken");
    assert_eq!(rig.reports.len(), 1);
    event.comment = Some(format!("Patch Set 1:\n\n{}", rig.reports[0].message));
    rig.step(Input::Event(Box::new(event))).expect("taken");
    assert_eq!(rig.reports.len(), 1, "it answers itself, for ever");
}

#[test]
fn a_required_job_below_one_that_does_not_vote() {
    let mut config = gate(&[("a", &["build", "unit"])], &[]);
    tree(&mut config, "a", "build", UNIT);
    edit_job(&mut config, "build", |job| job.voting = false);
    let mut rig = Rig::new(config.clone());
    rig.enqueue(1, "a");
    rig.end(1, "build", BuildResult::failure());
    assert!(rig.lands.is_empty(), "it lands, and a job that must pass has never run");
    assert!(!rig.has(1) && rig.reports.iter().any(|report| report.message.contains("unit : SKIPPED")));

    let mut rig = Rig::new(config);
    rig.enqueue(1, "a");
    for _ in 0..3 {
        rig.end(1, "build", BuildResult::lost("the worker is gone"));
    }
    assert!(rig.has(1), "the infrastructure alone puts it out: {:?}", rig.reports);
}

#[test]
fn whoever_waits_longest_for_a_semaphore_has_it_next() {
    let mut config = config(&[("check", Manager::Independent)], &[("a", UNIT)], &[]);
    edit_job(&mut config, "unit", |job| job.semaphores = BTreeSet::from(["mutex".into()]));
    let mut rig = Rig::new(config);
    for number in 1..=12 {
        rig.enqueue(number, "a");
    }
    for number in 1..=12 {
        let (started, expected) = (rig.builds.len(), rig.of(number).id);
        assert_eq!(rig.builds[started - 1].item, expected);
        rig.pass(number);
    }
}

#[test]
fn a_disabled_pipeline_tells_a_success_once() {
    let mut config = gate(&[("a", UNIT)], &[]);
    edit_pipeline(&mut config, |pipeline| {
        pipeline.disable_after = Some(1);
        pipeline.reporters.disabled = pipeline.reporters.failure.clone();
    });
    let mut rig = Rig::new(config);
    rig.enqueue(1, "a");
    rig.end(1, "unit", BuildResult::failure());
    rig.reports.clear();
    rig.enqueue(2, "a");
    rig.pass(2);
    rig.land(2);
    assert_eq!((rig.lands[0].reports.len(), rig.reports.len()), (1, 0), "{:?}", rig.reports);
}

#[test]
fn what_has_landed_is_not_let_in_again_by_a_late_event() {
    let mut rig = Rig::new(gate(&[("a", UNIT)], &[]));
    rig.enqueue(1, "a");
    rig.pass(1);
    rig.land(1);
    let stale = rig.facts(1, "a");
    rig.comment(stale);
    assert!(!rig.has(1), "what is in its branch is tested to be landed");
}

#[test]
fn a_newer_patchset_takes_the_old_one_out_of_a_gate_even_without_facts() {
    let mut config = gate(&[("a", UNIT)], &[]);
    edit_pipeline(&mut config, |pipeline| pipeline.dequeue_on_new_patchset = false);
    let mut rig = Rig::new(config);
    rig.enqueue(1, "a");
    let mut event = Event::new("gerrit".into(), EventKind::PatchsetCreated);
    event.change = Some(Patchset { change: id(1), patchset: 2 });
    rig.step(Input::Event(Box::new(event))).expect("taken");
    assert!(!rig.has(1), "an old patchset goes on to be landed");
}

#[test]
fn a_rerun_that_fails_ends_the_use_of_an_old_success() {
    let mut config = config(&[("one", Manager::Independent), ("two", Manager::Serial)], &[("a", UNIT)], &[]);
    edit_job(&mut config, "unit", |job| job.hermetic = true);
    edit_pipeline(&mut config, |pipeline| pipeline.triggers.clear());
    let mut rig = Rig::new(config);
    let mut runs = 0;
    for round in 0..60 {
        let facts = vec![rig.facts(1, "a")];
        let patchset = Patchset { change: id(1), patchset: 1 };
        rig.command(Command::Enqueue { pipeline: "two".into(), patchset, facts }).expect("let in");
        if !rig.has(1) {
            continue; // the first result stood for it
        }
        runs += 1;
        let result = if round == 0 { BuildResult::success() } else { BuildResult::failure() };
        rig.end(1, "unit", result);
    }
    // Some reuse, then a sample fails, and everything runs from there on.
    assert!((40..=42).contains(&runs), "{runs}");
}

#[test]
fn needs_that_meet_again_are_looked_at_once() {
    let mut rig = Rig::new(gate(&[("a", &["unit", "slow"])], &[]));
    rig.enqueue(1, "a");
    for number in 2..=70 {
        let message = (number.max(4) - 3..number).map(|need| format!("Depends-On: https://x/{need}\n"));
        let facts = ChangeFacts { message: message.collect(), ..rig.facts(number, "a") };
        rig.comment(facts);
    }
    let held = rig.gate.snapshot();
    assert!(held.failing(&rig.of(70)).is_empty());
    rig.end(1, "unit", BuildResult::failure());
    let last = rig.of(70);
    assert_eq!(rig.gate.held().failing(&last).len(), 1);
}

#[test]
fn a_long_series_is_let_in_from_either_end() {
    for from in [1, 999] {
        let mut rig = Rig::new(gate(&[("a", UNIT)], &[]));
        let mut event = Event::new("gerrit".into(), EventKind::CommentAdded);
        event.facts = (2..=999).map(|number| rig.child(number, "a", number - 1)).collect();
        event.facts.push(rig.facts(1, "a"));
        event.change = Some(Patchset { change: id(from), patchset: 1 });
        rig.step(Input::Event(Box::new(event))).expect("taken");
        assert_eq!(rig.queue(), (1..=999).collect::<Vec<u64>>(), "from {from}");
    }
}

#[test]
fn a_pipeline_that_goes_tells_the_authors() {
    let mut rig = Rig::new(gate(&[("a", UNIT)], &[]));
    rig.enqueue(1, "a");
    rig.configure(config(&[("check", Manager::Independent)], &[("a", UNIT)], &[]));
    let told: Vec<_> = rig.reports.iter().map(|report| report.message.as_str()).collect();
    assert!(told.iter().any(|text| text.contains("there is no pipeline gate any more")), "{told:?}");
}

#[test]
fn two_gates_land_on_one_branch() {
    let mut config =
        config(&[("gate", Manager::Dependent), ("fast", Manager::Dependent)], &[("a", UNIT)], &[]);
    edit_pipeline(&mut config, |pipeline| pipeline.triggers.clear());
    let mut rig = Rig::new(config);
    for (number, pipeline) in [(1, "gate"), (2, "fast")] {
        let facts = vec![rig.facts(number, "a")];
        let patchset = Patchset { change: id(number), patchset: 1 };
        rig.command(Command::Enqueue { pipeline: pipeline.into(), patchset, facts }).expect("let in");
    }
    let before = rig.build(1, "unit");
    rig.pass(2);
    rig.land(2);
    assert_ne!(rig.build(1, "unit"), before, "it goes on above a tip that is gone");
}

#[test]
fn the_open_changes_of_a_project_are_asked_for_once_after_a_merge() {
    for listens in [false, true] {
        let mut config =
            config(&[("gate", Manager::Dependent), ("look", Manager::Independent)], &[("a", UNIT)], &[]);
        edit_pipeline(&mut config, |pipeline| {
            if pipeline.manager == Manager::Independent {
                let trigger = &mut pipeline.triggers[0];
                let kind = if listens { "project-change-merged" } else { "change-merged" };
                trigger.source = "zuul".into();
                trigger.events = vec![Pattern::new(kind).expect("a pattern")];
            }
        });
        let mut rig = Rig::new(config);
        rig.enqueue(1, "a");
        rig.pass(1);
        rig.land(1);
        let merged = |rig: &mut Rig, number: u64| {
            let mut event = Event::new("gerrit".into(), EventKind::ChangeMerged);
            event.facts = vec![ChangeFacts { status: ChangeStatus::Merged, ..rig.facts(number, "a") }];
            event.change = Some(Patchset { change: id(number), patchset: 1 });
            rig.step(Input::Event(Box::new(event))).expect("taken");
        };
        merged(&mut rig, 1);
        merged(&mut rig, 2);
        merged(&mut rig, 2);
        assert_eq!(rig.offers.len(), if listens { 2 } else { 0 });
        let mut event = Event::new("zuul".into(), EventKind::ProjectChangeMerged);
        event.facts = vec![rig.facts(3, "a")];
        event.change = Some(Patchset { change: id(3), patchset: 1 });
        rig.step(Input::Event(Box::new(event))).expect("taken");
        assert_eq!(rig.has(3), listens);
    }
}
