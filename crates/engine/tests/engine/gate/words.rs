//! What is told, byte for byte: reports that scripts read, the parameters of jobs, and what an item waits for.

use super::{Rig, UNIT, config, edit_job, edit_pipeline, gate, id, tree};
use assay_engine::gate::change::{ChangeFacts, RefUpdate};
use assay_engine::gate::config::{Config, EventKind, JobDef, Manager, Places, ReportAction, Trigger};
use assay_engine::gate::ids::Patchset;
use assay_engine::gate::io::{Answer, BuildResult, Command, Event, Input, MergeFailure};
use assay_engine::gate::pattern::Pattern;
use assay_engine::gate::reason::{Ignored, Wait};
use assay_engine::ids::Timestamp;
use assay_engine::outcome::OutcomeClass;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const SECOND: i64 = 1_000_000;

/// Three jobs in check, of which `docs` does not vote and `late` runs after `slow`.
fn told() -> Config {
    let mut config = config(&[("check", Manager::Independent)], &[("a", &["unit", "docs", "slow"])], &[]);
    config.jobs.insert("late".into(), Arc::new(JobDef::new("late")));
    edit_job(&mut config, "docs", |job| job.voting = false);
    config.places = Places {
        git_url: "http://git".to_owned(),
        logs_url: Some("http://logs/".to_owned()),
        status_url: Some("http://status".to_owned()),
        url_pattern: None,
        job_name_in_report: true,
        report_times: true,
    };
    config
}

impl Rig {
    /// Ends a job that has run for so many seconds; its log's address.
    fn ends_after(&mut self, number: u64, job: &str, seconds: i64, result: BuildResult) -> String {
        let build = self.build(number, job);
        self.step(Input::BuildStarted { build, at: Timestamp(self.now + SECOND), by: None }).expect("taken");
        self.now += (seconds - 1) * SECOND;
        let request = self.builds.iter().find(|request| request.uuid == build).expect("a request");
        let url = format!("http://logs/{}/", request.params["LOG_PATH"]);
        self.step(Input::BuildEnded { build, result }).expect("taken");
        url
    }

    fn last(&self) -> &str {
        &self.reports.last().expect("a report").message
    }
}

#[test]
fn reports_are_byte_for_byte_as_scripts_read_them() {
    let mut config = told();
    edit_pipeline(&mut config, |pipeline| {
        pipeline.messages.footer = "The footer.".to_owned();
        pipeline.reporters.start = pipeline.reporters.failure.clone();
    });
    let mut rig = Rig::new(config);
    rig.enqueue(12_345, "a");
    assert_eq!(rig.last(), "Starting check jobs.\nhttp://status\nThe footer.");
    let unit = rig.ends_after(12_345, "unit", 200, BuildResult::success());
    let docs = rig.ends_after(12_345, "docs", 7, BuildResult::failure());
    let slow = rig.ends_after(12_345, "slow", 3_723, BuildResult::success());
    assert!(unit.starts_with("http://logs/45/12345/1/check/unit/"), "{unit}");
    let expected = format!(
        "Build succeeded.\n\n- unit {unit} : SUCCESS in 3m 20s\n- docs {docs} : FAILURE in 7s (non-voting)\n- slow {slow} \
         : SUCCESS in 1h 02m 03s\n\nThe footer."
    );
    assert_eq!(rig.last(), expected);
}

#[test]
fn a_failure_names_what_was_skipped_and_how_the_rest_ended() {
    let mut config = told();
    tree(&mut config, "a", "slow", &["late"]);
    let mut rig = Rig::new(config);
    rig.enqueue(5, "a");
    let timed_out = BuildResult { word: "TIMED_OUT".to_owned(), class: OutcomeClass::Test, reason: None };
    let slow = rig.ends_after(5, "slow", 60, timed_out);
    assert!(slow.starts_with("http://logs/5/5/1/check/slow/"), "as Zuul: the last two characters: {slow}");
    let expected = format!("Build failed.\n\n- slow {slow} : TIMED_OUT in 1m 00s\n- late late : SKIPPED\n");
    assert_eq!(rig.last(), expected);
}

/// Nobody runs them, so there are no logs to send people to: as Zuul, their lines have the name alone.
#[test]
fn jobs_that_nobody_runs_have_no_address() {
    let mut config = told();
    config.jobs.insert("noop".into(), Arc::new(JobDef::new("noop")));
    tree(&mut config, "a", "slow", &["noop", "docs"]);
    let mut rig = Rig::new(config);
    rig.enqueue(5, "a");
    let slow = rig.ends_after(5, "slow", 1, BuildResult::success());
    rig.ends_after(5, "docs", 1, BuildResult::not_registered("nothing says what `docs` does".to_owned()));
    let lines = format!(
        "- slow {slow} : SUCCESS in 1s\n- noop noop : SUCCESS in 0s\n- docs docs : NOT_REGISTERED in 1s (non-voting)\n"
    );
    assert!(rig.last().contains(&lines), "{}", rig.last());
}

#[test]
fn words_and_addresses_of_jobs_replace_the_usual_ones() {
    let mut config = told();
    edit_job(&mut config, "unit", |job| {
        job.success_message = Some("fine".to_owned());
        job.success_pattern = Some("http://x/{job.name}/{change.number}".to_owned());
    });
    edit_job(&mut config, "docs", |job| {
        job.failure_message = Some("broken".to_owned());
        // A field that there is not: the usual address.
        job.failure_pattern = Some("http://x/{no.such}".to_owned());
    });
    edit_job(&mut config, "slow", |job| job.success_pattern = Some("http://only-of-a-success".to_owned()));
    let mut rig = Rig::new(config.clone());
    rig.enqueue(77, "a");
    rig.ends_after(77, "unit", 1, BuildResult::success());
    let docs = rig.ends_after(77, "docs", 1, BuildResult::failure());
    let slow = rig.ends_after(77, "slow", 1, BuildResult::failure());
    let lines = format!(
        "- unit http://x/unit/77 : fine in 1s\n- docs {docs} : broken in 1s (non-voting)\n- slow {slow} : FAILURE in 1s\n"
    );
    assert_eq!(rig.last(), format!("Build failed.\n\n{lines}"));

    config.places = Places { url_pattern: Some("http://all/{job.name}".to_owned()), ..Places::default() };
    let mut rig = Rig::new(config);
    rig.enqueue(77, "a");
    for job in ["unit", "docs", "slow"] {
        rig.ends_after(77, job, 1, BuildResult::success());
    }
    let lines = "- http://x/unit/77 : fine\n- http://all/docs : SUCCESS (non-voting)\n- http://only-of-a-success : SUCCESS\n";
    assert_eq!(rig.last(), format!("Build succeeded.\n\n{lines}"));
}

#[test]
fn what_does_not_merge_and_what_only_the_infrastructure_failed() {
    let mut config = told();
    edit_pipeline(&mut config, |pipeline| {
        pipeline.reporters.merge_failure = Some(vec![ReportAction::Review {
            source: "gerrit".into(),
            labels: vec![("Verified".to_owned(), -2)],
            submit: false,
            flags: Vec::new(),
        }]);
    });
    let votes = |rig: &Rig| match &rig.reports.last().expect("a report").action {
        ReportAction::Review { labels, .. } => labels.clone(),
        other => panic!("{other:?}"),
    };
    let mut rig = Rig::new(config);
    rig.merges = false;
    rig.enqueue(1, "a");
    let merge = rig.asked.pop().expect("asked").merge;
    let change = Patchset { change: id(1), patchset: 1 };
    let result = Err(MergeFailure::Conflict { change, paths: vec!["README".to_owned()] });
    rig.step(Input::Merged { merge, result }).expect("taken");
    let head = "Merge Failed.\n\nThis change or one of its cross-repo dependencies was unable to be automatically merged with \
                the current state of its repository. Please rebase the change and upload a new patchset.";
    assert_eq!(rig.last(), format!("{head}\n\n1,1 does not merge: conflict in README"));
    assert_eq!(votes(&rig), [("Verified".to_owned(), -2)], "reporters of their own");

    rig.merges = true;
    rig.enqueue(2, "a");
    rig.ends_after(2, "docs", 1, BuildResult::success());
    rig.ends_after(2, "slow", 1, BuildResult::success());
    for _ in 0..3 {
        rig.ends_after(2, "unit", 1, BuildResult::lost("the worker is gone"));
    }
    let head = "The infrastructure failed; this says nothing about the change.\n\n- unit http://logs/2/2/1/check/unit/";
    assert!(rig.last().starts_with(head) && rig.last().contains("/ : RETRY_LIMIT in 1s\n"), "{}", rig.last());
    assert!(votes(&rig).is_empty(), "without a vote");
}

#[test]
fn a_superseded_patchset_is_told_where_it_has_to_be_approved_again() {
    for manager in [Manager::Dependent, Manager::Independent] {
        let mut rig = Rig::new(config(&[("gate", manager)], &[("a", UNIT)], &[]));
        rig.enqueue(1, "a");
        let newer = ChangeFacts { current_patchset: 2, ..rig.facts(1, "a") };
        rig.step(Input::Facts(vec![newer])).expect("taken");
        assert!(!rig.has(1));
        let told: Vec<_> =
            rig.reports.iter().map(|report| (report.message.as_str(), &report.action)).collect();
        if manager == Manager::Dependent {
            let [(text, ReportAction::Review { labels, .. })] = told.as_slice() else { panic!("{told:?}") };
            assert_eq!(*text, "Taken out of gate: patchset 2 took its place; approve it again.\n");
            assert!(labels.is_empty(), "without a vote");
        } else {
            assert!(told.is_empty(), "{told:?}");
        }
    }
}

#[test]
fn parameters_are_zuuls() {
    let mut config = config(
        &[("gate", Manager::Dependent), ("post", Manager::Independent)],
        &[("a", UNIT), ("b", UNIT)],
        &[("both", &["a", "b"])],
    );
    config.places.git_url = "http://git".to_owned();
    edit_job(&mut config, "unit", |job| job.voting = false);
    let mut rig = Rig::new(config);
    edit_triggers_away(&mut rig);
    let enqueue = |rig: &mut Rig, facts: ChangeFacts| {
        let patchset = facts.patchset();
        rig.command(Command::Enqueue { pipeline: "gate".into(), patchset, facts: vec![facts] }).expect("in");
    };
    let first = rig.facts(5, "a");
    enqueue(&mut rig, first);
    let second = ChangeFacts {
        current_patchset: 12,
        branch: "stable".into(),
        fetch_ref: "refs/changes/34/1234/12".to_owned(),
        ..rig.facts(1234, "b")
    };
    enqueue(&mut rig, second);
    let new = "1234567890abcdef1234567890abcdef12345678";
    let old = "fedcba0987654321fedcba0987654321fedcba09";
    let update =
        RefUpdate { project: "a".into(), name: "refs/tags/v1".into(), old: old.into(), new: new.into() };
    rig.command(Command::EnqueueRef { pipeline: "post".into(), update }).expect("in");
    let mut event = Event::new("timer".into(), EventKind::Timer);
    event.timer = Some(("b".into(), "0 0 * * *".to_owned()));
    rig.step(Input::Event(Box::new(event))).expect("taken");

    let refs = |of: &Rig, number: u64| format!("Z{}", of.of(number).buildset.identity);
    let (z5, z1234) = (refs(&rig, 5), refs(&rig, 1234));
    let common = |project: &str, pipeline: &str| {
        [
            ("ZUUL_PROJECT", project),
            ("ZUUL_PIPELINE", pipeline),
            ("ZUUL_URL", "http://git"),
            ("ZUUL_VOTING", "0"),
        ]
        .map(|(name, value)| (name, value.to_owned()))
    };
    let change = |pairs: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
        pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
    };
    let five = "a:master:refs/changes/05/5/1";
    let wanted = [
        [
            common("a", "gate").to_vec(),
            change(&[
                ("ZUUL_BRANCH", "master"),
                ("ZUUL_CHANGES", five),
                ("ZUUL_CHANGE_IDS", "5,1"),
                ("ZUUL_CHANGE", "5"),
                ("ZUUL_PATCHSET", "1"),
                ("ZUUL_REF", &format!("refs/zuul/master/{z5}")),
                ("ZUUL_COMMIT", "a/5,1"),
                ("BASE_LOG_PATH", "5/5/1"),
            ]),
        ]
        .concat(),
        [
            common("b", "gate").to_vec(),
            change(&[
                ("ZUUL_BRANCH", "stable"),
                ("ZUUL_CHANGES", &format!("{five}^b:stable:refs/changes/34/1234/12")),
                ("ZUUL_CHANGE_IDS", "5,1 1234,12"),
                ("ZUUL_CHANGE", "1234"),
                ("ZUUL_PATCHSET", "12"),
                ("ZUUL_REF", &format!("refs/zuul/stable/{z1234}")),
                ("ZUUL_COMMIT", "b/1234,12"),
                ("BASE_LOG_PATH", "34/1234/12"),
            ]),
        ]
        .concat(),
        [
            common("a", "post").to_vec(),
            change(&[
                ("ZUUL_REF", "refs/tags/v1"),
                ("ZUUL_REFNAME", "refs/tags/v1"),
                ("ZUUL_OLDREV", old),
                ("ZUUL_NEWREV", new),
                ("ZUUL_SHORT_OLDREV", "fedcba0"),
                ("ZUUL_SHORT_NEWREV", "1234567"),
                ("ZUUL_COMMIT", new),
                ("BASE_LOG_PATH", &format!("12/{new}")),
            ]),
        ]
        .concat(),
        [common("b", "post").to_vec(), change(&[("BASE_LOG_PATH", "")])].concat(),
    ];
    assert_eq!(rig.builds.len(), wanted.len());
    for (build, wanted) in rig.builds.iter().zip(wanted) {
        let uuid = build.uuid.to_string();
        let base = &wanted[wanted.len() - 1].1;
        let slash = if base.is_empty() { "" } else { "/" };
        let log_path = format!("{base}{slash}{}/unit/{}", build.pipeline, &uuid[..7]);
        let mut all: BTreeMap<String, String> =
            wanted.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        all.extend([("ZUUL_UUID".to_owned(), uuid), ("LOG_PATH".to_owned(), log_path)]);
        assert_eq!(build.params, all);
    }
}

/// From now on only the timer lets anything in by itself.
fn edit_triggers_away(rig: &mut Rig) {
    let mut config = rig.gate.held().config.as_ref().clone();
    edit_pipeline(&mut config, |pipeline| {
        if pipeline.manager == Manager::Independent {
            pipeline.triggers[0].source = "timer".into();
            pipeline.triggers[0].events.clear();
        } else {
            pipeline.triggers.clear();
        }
    });
    rig.configure(config);
}

#[test]
fn every_wait_says_since_when_and_what_would_release_it() {
    let mut config = gate(&[("a", &["unit", "slow"])], &[]);
    tree(&mut config, "a", "unit", &["slow"]);
    edit_job(&mut config, "unit", |job| {
        job.semaphores = BTreeSet::from(["lab".into()]);
        job.labels = BTreeSet::from(["arm".to_owned(), "fast".to_owned()]);
    });
    edit_pipeline(&mut config, |pipeline| pipeline.window.start = 3);
    let mut rig = Rig::new(config);
    let first = |rig: &Rig, number: u64| {
        let wait = rig.gate.held().why(rig.of(number).id).into_iter().next().expect("a reason");
        (wait.to_string(), wait.since())
    };
    rig.merges = false;
    rig.enqueue(1, "a");
    let asked = Timestamp(rig.now);
    assert_eq!(
        first(&rig, 1),
        ("its speculative state is being made; its jobs start when it is there".to_owned(), asked)
    );
    rig.merges = true;
    let request = rig.asked.pop().expect("asked");
    rig.make(&request);
    let asked = Timestamp(rig.now);
    let text = "job unit waits for a worker that offers arm and fast; it starts when one is free";
    assert_eq!(first(&rig, 1), (text.to_owned(), asked));
    for number in 2..=4 {
        rig.enqueue(number, "a");
    }
    let (window, came) = first(&rig, 4);
    assert!(window.ends_with("it starts when it is among the first 3"), "{window}");
    assert_eq!(came, rig.of(4).enqueued_at);
    let (semaphore, since) = first(&rig, 2);
    assert!(semaphore.contains("semaphore lab, which item 1 holds"), "{semaphore}");
    assert_eq!(since, rig.of(2).buildset.since);
    assert!(since > rig.of(2).enqueued_at, "from when it could have run");

    let build = rig.build(1, "unit");
    let at = Timestamp(rig.now);
    rig.step(Input::BuildStarted { build, at, by: None }).expect("taken");
    assert_eq!(first(&rig, 1).1, at);
    let waits = rig.gate.held().why(rig.of(1).id);
    let Some(Wait::Parent { since, .. }) = waits.get(1) else { panic!("{waits:?}") };
    assert_eq!(*since, rig.of(1).buildset.since);
    rig.end(1, "unit", BuildResult::success());
    rig.command(Command::Hold { pipeline: "gate".into(), queue: "a".into(), reason: "look".to_owned() })
        .expect("held");
    rig.end(1, "slow", BuildResult::success());
    let text =
        "the queue is held: op holds it: look; it lands again when it is released (assay pipeline release)";
    assert_eq!(first(&rig, 1), (text.to_owned(), Timestamp(rig.now)), "since it was tested, which was later");
    rig.end(2, "unit", BuildResult::success());
    rig.end(2, "slow", BuildResult::success());
    let (ahead, since) = first(&rig, 2);
    assert!(ahead.starts_with("everything is tested; it leaves after item 1"), "{ahead}");
    assert_eq!(since, Timestamp(rig.now));
}

/// The trigger that is for such events says what is missing, not the first one; a comment is not quoted whole.
#[test]
fn what_an_event_lacks_is_said_of_the_trigger_that_is_for_it() {
    let mut config = told();
    edit_pipeline(&mut config, |pipeline| {
        let of = |event: &str| Trigger {
            events: vec![Pattern::new(event).expect("a pattern")],
            ..Trigger::of("gerrit".into())
        };
        let asked =
            Trigger { comments: vec![Pattern::new("^recheck").expect("a pattern")], ..of("comment-added") };
        pipeline.triggers = vec![of("patchset-created"), asked];
    });
    let mut rig = Rig::new(config);
    let facts = rig.facts(1, "a");
    let mut said = |kind: EventKind, comment: &str| {
        let mut event = Event::new("gerrit".into(), kind);
        event.change = Some(facts.patchset());
        event.facts = vec![facts.clone()];
        event.comment = Some(comment.to_owned());
        let Answer::Event(pipelines) = rig.step(Input::Event(Box::new(event))).expect("taken") else {
            panic!("another answer")
        };
        pipelines.into_iter().next().expect("check").1.expect_err("it is ignored")
    };
    let long = "é".repeat(200);
    for (kind, comment, nearest, listens) in [
        (EventKind::CommentAdded, "nice", "comment \"nice\" does not match ^recheck".to_owned(), true),
        (
            EventKind::CommentAdded,
            long.as_str(),
            format!("comment \"{}\"… does not match ^recheck", "é".repeat(80)),
            true,
        ),
        (
            EventKind::ChangeMerged,
            "",
            "event \"change-merged\" does not match patchset-created".to_owned(),
            false,
        ),
    ] {
        assert_eq!(said(kind, comment), Ignored::NoTrigger { nearest, listens });
    }
}
