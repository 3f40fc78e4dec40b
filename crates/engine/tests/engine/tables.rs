//! Small facts, one by one.

use crate::world::World;
use assay_engine::ids::{AttemptId, ConnectionId, FencingToken, JobId, Timestamp, WorkerName};
use assay_engine::io::{Answer, Effect, Hello, Input, Message, NewJob, Verdict};
use assay_engine::job::{Active, End, JobState, Retry, StateWord, Stopping};
use assay_engine::outcome::{Outcome, OutcomeClass};
use assay_engine::reason::{AfterLoss, BadJob, EndReason, FenceReason, Loss, LostHow, Refusal, WaitReason};
use assay_engine::relations::{Parent, ParentRef, Relation};
use assay_engine::rows::{Row, Rows};
use assay_engine::sched::restart::{self, JobFacts, RestartOptions, RestartRequest};
use assay_engine::settings::{ClassSet, MAX_SETTINGS_BYTES, Provenance, Setting, Settings};
use assay_engine::state::State;
use assay_engine::work::{Held, Phase, Report, Timing, WorkPhase};
use std::collections::BTreeMap;
use std::fmt::Write as _;

fn worker(name: &str) -> WorkerName {
    name.parse().expect("a name")
}

fn report(outcome: Outcome, reason: Option<&str>) -> Report {
    Report { outcome, class: outcome.class(), reason: reason.map(str::to_owned) }
}

fn every_state() -> Vec<JobState> {
    let active = |phase, cancelled_by: Option<&str>| {
        let stopping = cancelled_by.map(Stopping::cancelled);
        JobState::Active(Active { attempt: 1, token: FencingToken(9), phase, stopping })
    };
    let end = || End::with(Outcome::UserCancelled, EndReason::Cancelled { by: "a".to_owned() }, Timestamp(5));
    let mut states = vec![JobState::Scheduled { attempt: 1, lost_on: None }];
    states.extend(Phase::ALL.map(|phase| active(phase, None)));
    states.push(active(Phase::Running, Some("a")));
    states.extend([JobState::Done(end()), JobState::Cancelled(end())]);
    states
}

/// Which transition takes which state where; `-` is a refusal.
#[test]
fn transitions() {
    let at = Timestamp(7);
    let lost = || {
        EndReason::Lost(Loss {
            worker: worker("w"),
            host: "h".to_owned(),
            phase: Phase::Running,
            how: LostHow::NotResumed,
            then: AfterLoss::Retried { attempt: 2 },
        })
    };
    let retry = || Some(Retry { attempt: 2, lost_on: worker("w") });
    let word = |result: Result<JobState, _>| result.map_or("-", |state: JobState| state.openqa_state());
    let mut table = String::new();
    for state in every_state() {
        let row = [
            state.openqa_state(),
            state.openqa_result(),
            word(state.clone().assign(FencingToken(1))),
            word(state.clone().advance(Phase::Running)),
            word(state.clone().stop(Stopping::cancelled("b"), at)),
            word(state.clone().finish(&report(Outcome::Passed, None), at)),
            word(state.clone().lose(retry(), lost(), at)),
            word(state.clone().lose(None, lost(), at)),
        ];
        table.push_str(&row.join(" "));
        table.push('\n');
    }
    //                state     result         assign   advance   cancel    finish lose+retry lose
    assert_eq!(
        table,
        "scheduled none assigned - cancelled - - -\n\
         assigned none - running cancelled done scheduled done\n\
         setup none - running cancelled done scheduled done\n\
         running none - - cancelled done scheduled done\n\
         uploading none - - cancelled done scheduled done\n\
         cancelled user_cancelled - - - done done done\n\
         done user_cancelled - - - - - -\n\
         cancelled user_cancelled - - - - - -\n"
    );
    let refused = every_state()[0].clone().finish(&report(Outcome::Passed, None), at).unwrap_err();
    assert_eq!(refused.to_string(), "a job that is scheduled cannot be finished by a worker");
}

#[test]
fn what_was_cancelled_ends_as_cancelled_whatever_the_worker_found() {
    let state = every_state()[5].clone();
    for ended in [
        state.clone().finish(&report(Outcome::Passed, None), Timestamp(7)),
        state.lose(None, EndReason::Reported { text: None }, Timestamp(7)),
    ] {
        let end = ended.unwrap().end().cloned().unwrap();
        assert_eq!((end.outcome, end.class), (Outcome::UserCancelled, OutcomeClass::Policy));
        assert_eq!(end.reason, EndReason::Cancelled { by: "a".to_owned() });
    }
}

#[test]
fn words_lead_back() {
    for state in StateWord::ALL {
        assert_eq!(StateWord::from_word(state.word()), Some(state));
        assert_eq!(serde_json::to_value(state).unwrap(), state.word());
    }
    for outcome in Outcome::ALL {
        assert_eq!(Outcome::from_openqa(outcome.openqa()), Some(outcome));
        assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.openqa());
    }
    for class in OutcomeClass::ALL {
        assert_eq!(serde_json::to_value(class).unwrap(), class.word());
    }
    for phase in Phase::ALL {
        assert_eq!(serde_json::to_value(phase).unwrap(), phase.word());
    }
    let finals: Vec<_> = StateWord::ALL.into_iter().filter(|state| state.is_final()).collect();
    assert_eq!(finals, [StateWord::Done, StateWord::Cancelled]);
    assert_eq!((StateWord::from_word("Done"), Outcome::from_openqa("none")), (None, None));
}

/// What is stored as JSON must be readable by the next version: changing these texts needs a migration.
#[test]
fn stored_json() {
    let classes = ClassSet::parse(" tap, dummy,,tap ");
    let loss = Loss {
        worker: worker("a:1"),
        host: "h".to_owned(),
        phase: Phase::Setup,
        how: LostHow::Silent { for_us: 15_000_000 },
        then: AfterLoss::GivenUp { attempts: 2 },
    };
    let end = End::with(Outcome::Incomplete, EndReason::Lost(loss), Timestamp(3));
    let [scheduled, assigned] = [0, 1].map(|index: usize| every_state()[index].clone());
    let texts = [
        serde_json::to_string(&scheduled),
        serde_json::to_string(&assigned),
        serde_json::to_string(&JobState::Done(end.clone())),
        serde_json::to_string(&WaitReason::NoWorkerOnline),
        serde_json::to_string(&WaitReason::AllBusy {
            classes,
            slots: 2,
            parties: 1,
            kept_for: None,
            drained: None,
        }),
        serde_json::to_string(&Settings::from_request([("A", "b")])),
    ]
    .map(Result::unwrap);
    assert_eq!(
        texts,
        [
            r#"{"state":"scheduled","attempt":1,"lost_on":null}"#,
            r#"{"state":"active","attempt":1,"token":9,"phase":"assigned","stopping":null}"#,
            r#"{"state":"done","outcome":"incomplete","class":"infrastructure","reason":{"why":"lost","worker":"a:1","host":"h","phase":"setup","how":{"how":"silent","for_us":15000000},"then":{"then":"given_up","attempts":2}},"at":3}"#,
            r#"{"why":"no_worker_online"}"#,
            r#"{"why":"all_busy","classes":"dummy,tap","slots":2}"#,
            r#"{"A":{"value":"b","from":"request"}}"#,
        ]
    );
    assert_eq!(serde_json::from_str::<JobState>(&texts[2]).unwrap(), JobState::Done(end));
    assert_eq!(serde_json::from_str::<JobState>(&texts[1]).unwrap(), assigned);
    // As the first version wrote it.
    for (by, stopping) in [("null", None), ("\"alice\"", Some(Stopping::cancelled("alice")))] {
        let old =
            format!(r#"{{"state":"active","attempt":1,"token":9,"phase":"running","cancelled_by":{by}}}"#);
        let active = Active { attempt: 1, token: FencingToken(9), phase: Phase::Running, stopping };
        assert_eq!(serde_json::from_str::<JobState>(&old).unwrap(), JobState::Active(active));
    }
}

/// A clock that was put back while the server was down does not make later things earlier; one that was far ahead was wrong.
#[test]
fn clocks_that_were_put_back() {
    const HOUR: i64 = 3_600_000_000;
    let noon = Timestamp(500_000 * HOUR);
    let post = || Input::PostJobs { jobs: vec![NewJob::new(Settings::from_request([("TEST", "t")]))] };
    let saved = |state: &mut State, input, now| {
        let effects = state.step(input, now).effects.into_iter();
        let job = |effect| match effect {
            Effect::Save(row) => match *row {
                Row::Job(job) => Some(job),
                _ => None,
            },
            _ => None,
        };
        effects.filter_map(job).collect::<Vec<_>>()
    };
    for (ahead, kept) in [(2, true), (23, true), (48, false)] {
        let then = Timestamp(noon.0 + ahead * HOUR);
        let mut before = State::new(Timing::default(), then);
        saved(&mut before, Input::Tick, then);
        let jobs = saved(&mut before, post(), then);
        assert_eq!(jobs[0].created_at, then);
        let rows = Rows { last_job: 1, jobs, ..Rows::default() };
        let mut after = State::rebuild(rows, Timing::default(), noon);
        saved(&mut after, Input::Tick, noon);
        let new = saved(&mut after, post(), noon);
        let new = new.iter().find(|job| job.id == JobId(2)).expect("the new job");
        assert_eq!(new.created_at, if kept { then } else { noon }, "{ahead}");
    }
}

#[test]
fn names_of_jobs() {
    let name = |pairs: &[(&str, &str)]| Settings::from_request(pairs.iter().copied()).job_name();
    assert_eq!(name(&[("TEST", "a b/c"), ("MACHINE", "64bit")]), "a_b_c@64bit");
    assert_eq!(name(&[("TEST", "t"), ("BUILD", "20"), ("DISTRI", "x"), ("FLAVOR", "")]), "x-Build20-t");
    assert_eq!(name(&[("TEST", "größe")]), "gr__e");
}

#[test]
fn default_classes() {
    let classes = |pairs: &[(&str, &str)]| {
        let settings = Settings::from_request(pairs.iter().copied()).with_defaults();
        (settings.classes().to_string(), settings.0["WORKER_CLASS"].from.clone())
    };
    assert_eq!(classes(&[]), ("qemu_x86_64".to_owned(), Provenance::Default));
    assert_eq!(classes(&[("ARCH", "aarch64")]), ("qemu_aarch64".to_owned(), Provenance::Default));
    assert_eq!(
        classes(&[("BACKEND", "dummy"), ("ARCH", "s390x")]),
        ("dummy".to_owned(), Provenance::Default)
    );
    assert_eq!(classes(&[("WORKER_CLASS", "b,a")]), ("a,b".to_owned(), Provenance::Request));
    assert_eq!(classes(&[("WORKER_CLASS", "")]).0, "qemu_x86_64");
}

#[test]
fn bad_settings() {
    let check = |key: &str, value: &str| Settings::from_request([("TEST", "t"), (key, value)]).check();
    assert_eq!(check("A", "any thing = ü\n"), Ok(()));
    for key in ["", "A B", "A=B", "A\0", "A\u{a0}"] {
        assert_eq!(check(key, "x"), Err(BadJob::Key { key: key.to_owned() }));
    }
    assert_eq!(check("A", "\0"), Err(BadJob::NulByte { key: "A".to_owned() }));
    let large = "x".repeat(MAX_SETTINGS_BYTES);
    assert_eq!(
        check("A", &large),
        Err(BadJob::TooLarge { bytes: large.len() + 6, limit: MAX_SETTINGS_BYTES })
    );
    assert_eq!(Settings::default().check(), Err(BadJob::NoTest));
    assert_eq!(Settings::from_request([("TEST", "")]).check(), Err(BadJob::NoTest));
    assert_eq!(Settings::from_request([("TEST", "?grub_2*.,:/#@+- ü")]).check(), Ok(()));
}

#[test]
fn ids_as_text() {
    assert_eq!("12.3".parse::<AttemptId>(), Ok(AttemptId { job: JobId(12), number: 3 }));
    for wrong in ["12", "12.", ".1", "a.1", "1.-1", "1.2.3", ""] {
        assert!(wrong.parse::<AttemptId>().is_err(), "{wrong}");
    }
    for wrong in ["", "a b", "ä", "a/b", &"x".repeat(101)] {
        assert!(wrong.parse::<WorkerName>().unwrap_err().contains("is not a worker name"), "{wrong}");
    }
    assert_eq!(worker("host.example:1").to_string(), "host.example:1");
}

fn hello(world: &mut World, name: &str, connection: u64, slots: u32) -> Vec<(ConnectionId, Message)> {
    let hello = Hello {
        name: worker(name),
        instance: "i".to_owned(),
        host: "h".to_owned(),
        version: "1".to_owned(),
        slots,
        classes: ClassSet::parse("dummy"),
        holds: Vec::new(),
        room: None,
        once: false,
    };
    world.input(Input::Hello { connection: ConnectionId(connection), hello }).1.sent
}

fn post(world: &mut World, count: usize) -> Vec<(ConnectionId, Message)> {
    let settings = Settings::from_request([("TEST", "t"), ("BACKEND", "dummy")]);
    world.input(Input::PostJobs { jobs: vec![NewJob::new(settings); count] }).1.sent
}

fn assigned(sent: &[(ConnectionId, Message)]) -> Vec<(u64, Held)> {
    let assign = |(connection, message): &(ConnectionId, Message)| match message {
        Message::Assign { held, .. } => Some((connection.0, *held)),
        _ => None,
    };
    sent.iter().filter_map(assign).collect()
}

#[test]
fn jobs_spread_over_workers() {
    let mut world = World::new(Timing::default());
    hello(&mut world, "a", 1, 3);
    hello(&mut world, "b", 2, 2);
    let sent = post(&mut world, 6);
    let to: Vec<u64> = assigned(&sent).into_iter().map(|(connection, _)| connection).collect();
    assert_eq!(to, [1, 2, 1, 2, 1], "the least loaded first, by name if equal");
    assert!(world.state.wait_reason(JobId(6)).is_some());
}

#[test]
fn a_word_under_another_token_or_connection_does_not_count() {
    let mut world = World::new(Timing::default());
    hello(&mut world, "a", 1, 1);
    hello(&mut world, "b", 2, 1);
    let sent = post(&mut world, 1);
    let [(1, held)] = assigned(&sent)[..] else { panic!("{sent:?}") };
    let go_on = Verdict::GoOn { phase: Phase::Assigned };
    assert_eq!(world.state.verdict(ConnectionId(1), &held), go_on);
    let not_held = Verdict::Fenced(FenceReason::NotHeld { attempt: held.attempt });
    let forged = Held { token: FencingToken(held.token.0 + 1), ..held };
    for (connection, held) in [(1, forged), (2, held), (3, held)] {
        assert_eq!(world.state.verdict(ConnectionId(connection), &held), not_held);
        let connection = ConnectionId(connection);
        let report = report(Outcome::Passed, None);
        let (_, out) = world.input(Input::Finished { connection, held, report });
        assert!(out.sent.iter().all(|(_, m)| matches!(m, Message::Fenced { .. })), "{out:?}");
        assert_eq!(out.closed.len(), usize::from(connection.0 == 3), "an unknown connection is closed");
        assert_eq!(world.state.verdict(ConnectionId(1), &Held { ..world_held(&world) }), go_on);
    }
}

fn world_held(world: &World) -> Held {
    let row = world.db.running().next().expect("a running attempt");
    Held { attempt: row.id, token: row.token }
}

#[test]
fn heartbeats_and_repeated_phases_store_nothing() {
    let mut world = World::new(Timing::default());
    hello(&mut world, "a", 1, 1);
    post(&mut world, 1);
    let (connection, held) = (ConnectionId(1), world_held(&world));
    let phase = || Input::Phase { connection, held, phase: WorkPhase::Running };
    assert!(!world.state.clone().step(phase(), world.now).effects.is_empty());
    let (_, _) = world.input(phase());
    for input in [phase(), Input::Heartbeat { connection, holds: vec![held], room: None }, Input::Tick] {
        assert_eq!(world.state.step(input, world.now).effects, []);
    }
}

#[test]
fn texts_from_outside_are_made_fit_to_store() {
    let mut world = World::new(Timing::default());
    hello(&mut world, "a", 1, 1);
    post(&mut world, 1);
    let reason = format!("  a\0b\n{}", "ü".repeat(2_000));
    let report = report(Outcome::Failed, Some(&reason));
    let (connection, held) = (ConnectionId(1), world_held(&world));
    let (_, _) = world.input(Input::Finished { connection, held, report });
    let text = world.db.jobs[&JobId(1)].state.end().and_then(End::text).unwrap();
    assert!(text.starts_with("a b ü") && text.ends_with("ü…") && text.chars().count() == 1_001, "{text}");
}

#[test]
fn what_cannot_be_done_is_refused() {
    let mut world = World::new(Timing::default());
    assert_eq!(world.input(Input::PostJobs { jobs: Vec::new() }).0, Err(Refusal::NoJobs));
    let cancel = |job| Input::CancelJob { job: JobId(job), by: "a".to_owned() };
    assert_eq!(world.input(cancel(1)).0, Err(Refusal::NotOpen { job: JobId(1) }));
    post(&mut world, 1);
    assert_eq!(world.input(cancel(1)).0, Ok(Answer::Cancelled));
    let good = NewJob::new(Settings::from_request([("TEST", "t")]));
    let bad = NewJob::new(Settings::default());
    let (answer, _) = world.input(Input::PostJobs { jobs: vec![good, bad] });
    assert_eq!(answer, Err(Refusal::BadJob { number: 2, problem: BadJob::NoTest }));
    assert_eq!(world.db.jobs.len(), 1, "all or nothing");
}

#[test]
fn nothing_to_wait_for_means_no_deadline() {
    let mut world = World::new(Timing::default());
    assert_eq!(world.state.next_deadline(), None);
    post(&mut world, 1);
    assert_eq!(world.state.next_deadline(), None, "a job that waits for a worker needs no timer");
    hello(&mut world, "a", 1, 1);
    assert_eq!(world.state.next_deadline(), Some(world.now.plus_seconds(3)));
}

#[test]
fn values_keep_their_provenance() {
    let settings = Settings::from_request([("TEST", "t")]).with_defaults();
    assert_eq!(settings.0["TEST"], Setting::new("t", Provenance::Request));
    assert_eq!(settings.plain()["WORKER_CLASS"], "qemu_x86_64");
    assert_eq!(Settings::from_request([("A", "")]).get("A"), None, "empty is unset");
}

/// How a relative of the job that is started anew may stand: every state, with every outcome of those that have ended.
fn standings() -> Vec<(StateWord, Option<Outcome>)> {
    let open = StateWord::ALL.into_iter().filter(|state| !state.is_final()).map(|state| (state, None));
    let ended = Outcome::ALL.into_iter().map(|outcome| (StateWord::Done, Some(outcome)));
    let cancelled = [
        (StateWord::Cancelled, Some(Outcome::UserCancelled)),
        (StateWord::Cancelled, Some(Outcome::Skipped)),
    ];
    open.chain(ended).chain(cancelled).collect()
}

/// A failed job, one relative that stands like this, and, if the relative was cloned before, its clone.
fn family(
    relation: Relation,
    up: bool,
    standing: (StateWord, Option<Outcome>),
    cloned: bool,
) -> BTreeMap<JobId, JobFacts> {
    let (root, relative, clone) = (JobId(10), JobId(if up { 9 } else { 11 }), JobId(20));
    let facts = |id: JobId, (state, outcome), parents: Vec<Parent>| JobFacts {
        id,
        label: format!("job-{id}"),
        state,
        outcome,
        parents,
        cloned_as: None,
    };
    let on = |job| vec![Parent { relation, job }];
    let failed = (StateWord::Done, Some(Outcome::Failed));
    let (of_root, of_relative) = if up { (on(relative), vec![]) } else { (vec![], on(root)) };
    let mut all = BTreeMap::from([
        (root, facts(root, failed, of_root)),
        (
            relative,
            JobFacts { cloned_as: cloned.then_some(clone), ..facts(relative, standing, of_relative.clone()) },
        ),
    ]);
    if cloned {
        all.insert(clone, facts(clone, (StateWord::Scheduled, None), of_relative));
    }
    all
}

#[test]
fn a_restart_is_right_whatever_state_a_relative_is_in() {
    let mut seen = 0;
    for relation in Relation::ALL {
        for (up, cloned) in [(true, false), (true, true), (false, false), (false, true)] {
            for standing in standings() {
                let facts = family(relation, up, standing, cloned);
                let relative = JobId(if up { 9 } else { 11 });
                let ended = standing.0.is_final();
                // What openQA's documentation says, with the differences of docs/coming-from-openqa.md.
                let want = match (relation, up) {
                    _ if cloned => false,
                    (Relation::Chained, true) => ended && !standing.1.is_some_and(Outcome::is_ok),
                    _ => true,
                };
                let request = |force| RestartRequest {
                    jobs: vec![JobId(10)],
                    options: RestartOptions { force, ..RestartOptions::default() },
                    by: "ann".to_owned(),
                    plan_only: true,
                };
                let case = format!(
                    "{relation} {} {standing:?} cloned: {cloned}",
                    if up { "parent" } else { "child" }
                );
                let plan =
                    restart::plan(&facts, &request(true)).unwrap_or_else(|error| panic!("{case}: {error}"));
                let clones: Vec<JobId> = plan.clones.iter().map(|clone| clone.job.job).collect();
                assert!(clones.contains(&JobId(10)), "{case}: the job itself is not cloned: {clones:?}");
                assert_eq!(clones.contains(&relative), want, "{case}: {clones:?}");
                let once: std::collections::BTreeSet<_> = clones.iter().collect();
                assert_eq!(once.len(), clones.len(), "{case}: cloned twice");
                // What is open and gets a clone ends, and nothing else does.
                let ends: Vec<JobId> = plan.ends.iter().map(|end| end.job.job).collect();
                assert_eq!(ends.contains(&relative), want && !ended, "{case}: {ends:?}");
                assert!(!ends.contains(&JobId(10)), "{case}: the job has ended already");
                // Only a direct parent has to be agreed to; of one that was cloned before, its newest clone.
                let unforced = restart::plan(&facts, &request(false));
                let must_be_forced = relation == Relation::DirectlyChained && up;
                assert_eq!(unforced.is_err(), must_be_forced, "{case}: {unforced:?}");
                if let Err(refused) = unforced {
                    assert!(refused.enforceable(), "{case}: {refused}");
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 200, "{seen}");
}

/// Nobody has started those anew that had passed, or had not begun.
#[test]
fn a_retry_counts_for_the_whole_cluster() {
    let mut world = World::new(Timing::default());
    hello(&mut world, "a", 1, 4);
    let job = |settings: &[(&str, &str)], parents| {
        let settings = [("WORKER_CLASS", "dummy")].into_iter().chain(settings.iter().copied());
        NewJob { parents, ..NewJob::new(Settings::from_request(settings)) }
    };
    let on = |relation| vec![(relation, ParentRef::Posted(0))];
    let server = job(&[("TEST", "server"), ("RETRY", "2")], Vec::new());
    let client = job(&[("TEST", "client")], on(Relation::Parallel));
    let after = job(&[("TEST", "after")], on(Relation::Chained));
    world.input(Input::PostJobs { jobs: vec![server, client, after] }).0.expect("posted");
    let finish = |world: &mut World, job: i64, outcome| {
        let row = world.db.running().find(|row| row.id.job == JobId(job)).expect("it runs");
        let held = Held { attempt: row.id, token: row.token };
        let (connection, report) = (ConnectionId(1), report(outcome, None));
        world.input(Input::Finished { connection, held, report }).0.expect("taken");
    };
    for (round, first) in [(1, 1), (2, 4)] {
        finish(&mut world, first + 1, Outcome::Passed);
        finish(&mut world, first, Outcome::Failed);
        for id in first + 3..first + 6 {
            let row = &world.db.jobs[&JobId(id)];
            assert_eq!((row.retries.tries(), row.clone_of), (round, Some(JobId(id - 3))), "job {id}");
        }
    }
    assert_eq!(world.db.jobs[&JobId(7)].retries.left, 0, "only what failed has used up a retry");
    finish(&mut world, 8, Outcome::Passed);
    finish(&mut world, 7, Outcome::Failed);
    let request = RestartRequest { jobs: vec![JobId(7)], by: "ann".to_owned(), ..RestartRequest::default() };
    world.input(Input::Restart(request)).0.expect("started anew");
    for id in 10..13 {
        assert_eq!(world.db.jobs[&JobId(id)].retries.tries(), 0, "job {id}: somebody did it");
    }
}

/// What a clone depends on, for each relation to a parent: by how far the parent has come, and whether it is cloned too.
/// `+` is the parent's clone of the same restart, a number a job that is there, `-` that it depends on nothing.
#[test]
fn parents_of_clones() {
    let facts = |id: i64, state, outcome, cloned_as: Option<i64>| JobFacts {
        id: JobId(id),
        label: id.to_string(),
        state,
        outcome,
        parents: Vec::new(),
        cloned_as: cloned_as.map(JobId),
    };
    let done = |outcome| (StateWord::Done, Some(outcome));
    let parents = [
        ("waits", (StateWord::Scheduled, None), None),
        ("starts", (StateWord::Assigned, None), None),
        ("runs", (StateWord::Running, None), None),
        ("passed", done(Outcome::Passed), None),
        ("failed", done(Outcome::Failed), None),
        ("skipped", (StateWord::Cancelled, Some(Outcome::Skipped)), None),
        // Started anew before; the clone, job 2, stands so.
        ("failed, 2 waits", done(Outcome::Failed), Some((StateWord::Scheduled, None))),
        ("failed, 2 runs", done(Outcome::Failed), Some((StateWord::Running, None))),
        ("failed, 2 passed", done(Outcome::Failed), Some(done(Outcome::Passed))),
        ("failed, 2 failed", done(Outcome::Failed), Some(done(Outcome::Failed))),
        ("passed, 2 failed", done(Outcome::Passed), Some(done(Outcome::Failed))),
    ];
    let relations = [Relation::Chained, Relation::DirectlyChained, Relation::Parallel];
    let mut table = String::new();
    for (name, (state, outcome), clone) in parents {
        let mut all = BTreeMap::from([(JobId(1), facts(1, state, outcome, clone.map(|_| 2)))]);
        if let Some((state, outcome)) = clone {
            all.insert(JobId(2), facts(2, state, outcome, None));
        }
        let mut row = Vec::new();
        for relation in relations {
            let child = JobFacts {
                parents: vec![Parent { relation, job: JobId(1) }],
                ..facts(9, StateWord::Done, Some(Outcome::Failed), None)
            };
            // Alone, with the parent, and with the newest of it.
            for clones in [&[9][..], &[1, 9], &[2, 9]] {
                let clones: Vec<_> = clones.iter().copied().map(JobId).collect();
                let places = restart::Places::new(&all, &clones);
                let found = restart::parents_of_clone(&all, &places, &child);
                row.push(match found.as_slice() {
                    [] => "-".to_owned(),
                    [(kept, ParentRef::Posted(0))] if *kept == relation => "+".to_owned(),
                    [(kept, ParentRef::Job(job))] if *kept == relation => job.to_string(),
                    [(Relation::Chained, ParentRef::Job(job))] => format!("after {job}"),
                    other => format!("{other:?}"),
                });
            }
        }
        let _ = writeln!(table, "{name}: {}", row.join(" "));
    }
    // Chained: alone, with it, with 2; then directly chained; then parallel. "With 2" means nothing where there is no 2.
    assert_eq!(
        table,
        "waits: 1 + 1 - + - 1 + 1\n\
         starts: 1 + 1 - + - - + -\n\
         runs: 1 + 1 - + - - + -\n\
         passed: 1 + 1 after 1 + after 1 - + -\n\
         failed: - + - - + - - + -\n\
         skipped: - + - - + - - + -\n\
         failed, 2 waits: 2 + + - + + 2 + +\n\
         failed, 2 runs: 2 + + - + + - + +\n\
         failed, 2 passed: 2 + + - + + - + +\n\
         failed, 2 failed: - + + - + + - + +\n\
         passed, 2 failed: 1 + + after 1 + + - + +\n"
    );
}
