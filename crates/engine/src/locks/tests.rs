use super::*;
use proptest::prelude::*;

fn op(text: &str) -> LockOp {
    let words: Vec<&str> = text.split(' ').collect();
    let name = words.get(1).copied().unwrap_or_default().to_owned();
    let owner =
        words.iter().find_map(|word| word.strip_prefix("where=")).map(|id| JobId(id.parse().expect("an id")));
    match words[0] {
        "create" => LockOp::MutexCreate { name },
        "lock" => LockOp::MutexLock { name, owner },
        "try" => LockOp::MutexTryLock { name, owner },
        "unlock" => LockOp::MutexUnlock { name },
        "wait" => LockOp::MutexWait { name, owner },
        "barrier" => LockOp::BarrierCreate { name, tasks: words[2].parse().expect("a number") },
        "meet" => LockOp::BarrierWait { name, owner, check_dead_job: words.contains(&"check") },
        "trymeet" => LockOp::BarrierTryWait { name },
        "destroy" => LockOp::BarrierDestroy { name },
        other => panic!("{other}"),
    }
}

/// Plays lines like `1 lock a`, `2 ends`, each with who is answered what: `1:yes`, `2:no`, `3:some words of the refusal`.
fn play(lines: &[(&str, &[&str])]) -> ClusterLocks {
    let mut locks = ClusterLocks::default();
    let mut ask = 0;
    for (line, expected) in lines {
        let (job, what) = line.split_once(' ').expect("a job");
        let job = JobId(job.parse().expect("a number"));
        ask += 1;
        let told = if what == "ends" { locks.ended(job) } else { locks.ask(job, ask, op(what)) };
        assert_eq!(told.len(), expected.len(), "{line}: {told:?}");
        for (told, expected) in told.iter().zip(*expected) {
            let (job, answer) = expected.split_once(':').expect("a job");
            assert_eq!(told.job.0.to_string(), job, "{line}: {told:?}");
            match &told.answer {
                LockAnswer::Yes => assert_eq!(answer, "yes", "{line}"),
                LockAnswer::No => assert_eq!(answer, "no", "{line}"),
                LockAnswer::Refused { why } => {
                    assert!(why.contains(answer) && answer.len() > 3, "{line}: {why}");
                }
            }
        }
    }
    locks
}

#[test]
fn mutexes() {
    play(&[
        ("1 lock a", &[]),
        ("2 try a", &["2:no"]),
        ("2 create a", &["2:yes", "1:yes"]),
        ("2 create a", &["2:there is a mutex a already, made by job 2"]),
        ("1 lock a", &["1:yes"]),
        ("2 lock a", &[]),
        ("3 wait a", &[]),
        ("2 unlock a", &["2:mutex a is held by job 1"]),
        ("2 lock a", &[]),
        ("1 unlock a", &["1:yes", "2:yes"]),
        ("2 unlock a", &["2:yes", "3:yes"]),
        ("2 unlock a", &["2:yes"]),
        ("2 unlock b", &["2:there is no mutex b"]),
        ("2 meet a", &["2:a is a mutex"]),
        ("2 destroy a", &["2:a is a mutex, not a barrier"]),
        ("2 create ", &["2:1 to 200 bytes"]),
    ]);
}

#[test]
fn a_mutex_of_a_certain_job() {
    play(&[
        ("1 create a", &["1:yes"]),
        ("3 lock a where=2", &[]),
        ("1 lock a where=1", &["1:yes"]),
        ("2 ends", &["3:job 2, which was to make a, has ended"]),
        ("3 lock a where=2", &["3:job 2, which was to make a, has ended"]),
    ]);
}

#[test]
fn what_a_job_made_and_held_ends_with_it() {
    let locks = play(&[
        ("1 create a", &["1:yes"]),
        ("1 barrier b 3", &["1:yes"]),
        ("2 create c", &["2:yes"]),
        ("1 lock c", &["1:yes"]),
        ("3 lock c", &[]),
        ("1 ends", &["3:yes"]),
        ("2 lock a", &["2:job 1, which had made a, has ended"]),
    ]);
    assert_eq!(locks.locks().keys().collect::<Vec<_>>(), ["c"]);
}

#[test]
fn barriers() {
    play(&[
        ("2 meet b", &[]),
        ("1 barrier b 0", &["1:barrier b needs at least one task"]),
        ("1 barrier b 3", &["1:yes"]),
        ("1 trymeet b", &["1:no"]),
        ("1 meet b", &[]),
        ("3 meet b", &["1:yes", "2:yes", "3:yes"]),
        // And once more.
        ("3 meet b", &[]),
        ("1 meet b", &[]),
        ("2 trymeet b", &["1:yes", "2:yes", "3:yes"]),
        ("3 meet b", &[]),
        ("1 destroy b", &["1:yes"]),
        ("1 destroy b", &["1:yes"]),
        ("1 barrier b 1", &["1:yes", "3:yes"]),
    ]);
}

#[test]
fn a_barrier_that_would_never_fill() {
    play(&[
        ("1 barrier b 3", &["1:yes"]),
        ("2 meet b", &[]),
        ("3 meet b check", &[]),
        ("4 ends", &["3:job 4 of the cluster has ended; barrier b would never fill"]),
        ("1 meet b", &[]),
        ("3 meet b", &["1:yes", "2:yes", "3:yes"]),
    ]);
}

#[test]
fn a_question_asked_again_has_its_answer() {
    let mut locks = ClusterLocks::default();
    let (one, two) = (JobId(1), JobId(2));
    let told = |job, ask| vec![Told { job, ask, answer: LockAnswer::Yes }];
    assert_eq!(locks.ask(one, 1, op("create a")), told(one, 1));
    assert_eq!(locks.ask(one, 1, op("create a")), told(one, 1));
    assert_eq!(locks.ask(one, 2, op("lock a")), told(one, 2));
    assert_eq!(locks.ask(two, 1, op("lock a")), []);
    assert_eq!(locks.ask(two, 1, op("lock a")), []);
    assert_eq!(locks.ask(one, 3, op("unlock a")).len(), 2);
    assert_eq!(locks.ask(two, 1, op("lock a")), told(two, 1));
    let stored = serde_json::to_string(&locks).expect("JSON");
    assert_eq!(serde_json::from_str::<ClusterLocks>(&stored).expect("locks"), locks);
}

proptest! {
    #[test]
    fn one_at_a_time_and_nobody_is_forgotten(steps in prop::collection::vec((1_i64..4, 0..7_usize), 0..80)) {
        let mut locks = ClusterLocks::default();
        let words = ["create a", "lock a", "try a", "unlock a", "wait a", "barrier b 2", "meet b"];
        let mut inside: BTreeSet<JobId> = BTreeSet::new();
        for (ask, (job, word)) in (1..).zip(steps) {
            let job = JobId(job);
            let told = locks.ask(job, ask, op(words[word]));
            if word == 3 && told.iter().any(|told| told.job == job && told.answer == LockAnswer::Yes) {
                inside.remove(&job);
            }
            for told in &told {
                let waited_to_lock = told.answer == LockAnswer::Yes
                    && matches!(&locks.locks().get("a"), Some(Lock::Mutex { held_by: Some(holder), .. }) if *holder == told.job);
                if waited_to_lock {
                    inside.insert(told.job);
                }
            }
            prop_assert!(inside.len() <= 1, "{inside:?}");
            // Nobody waits for what is free.
            let free = matches!(locks.locks().get("a"), Some(Lock::Mutex { held_by: None, .. }));
            let for_a = locks.waiting().filter(|(_, op)| op.name() == "a").count();
            prop_assert!(!free || for_a == 0);
            let at_b = locks.waiting().filter(|(_, op)| op.name() == "b").count();
            prop_assert!(at_b < 2 || !locks.locks().contains_key("b"));
        }
    }
}
