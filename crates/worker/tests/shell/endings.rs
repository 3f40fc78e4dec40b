//! What ends a job before it is done, and that nothing of it is alive then.

use super::bench::{Bench, Ended, Never, PATIENCE, When, phase, printed, task};
use assay_proto::task::{PhaseName, Task};
use assay_worker::exec::Stop;
use fs_err as fs;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::process::Stdio;

/// Processes of the host whose command line holds this.
fn alive(mark: &str) -> Vec<i32> {
    let has = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(mark))
    };
    let pids = fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(has).collect()
}

/// A number of seconds that no other test sleeps.
fn mark() -> String {
    format!("8{}{}", std::process::id(), uuid::Uuid::new_v4().as_u128() % 1_000_000)
}

fn with_collect(run: &str) -> Task {
    Task {
        post: phase(&["echo post ran after $ASSAY_OUTCOME"]),
        collect: phase(&["echo collect ran"]),
        ..task(run)
    }
}

async fn timed_out(task: &Task, phase: PhaseName) -> Ended {
    let bench = Bench::new();
    bench.run_at(task, &When { bench: &bench, phase, budget: "ready", grace: "still here" }).await
}

#[tokio::test]
async fn a_job_that_obeys_the_soft_stop_ends_in_its_own_way() {
    let mut task =
        with_collect("trap 'echo tidy; exit 0' TERM; (sleep infinity & wait) & echo ready; wait; wait");
    task.run.budget_s = 5;
    let ended = timed_out(&task, PhaseName::Run).await;
    assert_eq!((ended.outcome(), ended.report.class.word()), ("timeout_exceeded", "test"));
    assert_eq!(ended.reason(), "timeout: run exceeded its budget of 5 s");
    let at = |text: &str| ended.console.find(text).unwrap_or_else(|| panic!("{text}: {}", ended.console));
    assert!(at("it has 30 s to end") < at("tidy"));
    assert!(at("tidy") < at("post ran after timeout_exceeded") && at("post ran") < at("collect ran"));
    assert!(!ended.console.contains("killed"), "{}", ended.console);
}

#[tokio::test]
async fn a_job_that_obeys_nothing_is_killed_with_all_it_has_started() {
    let mark = mark();
    let script = format!(
        "setsid nohup sleep {mark} >/dev/null 2>&1 & trap 'echo still here' TERM; echo ready; while :; do sleep {mark} & wait || true; done"
    );
    let ended = timed_out(&with_collect(&script), PhaseName::Run).await;
    assert_eq!(ended.outcome(), "timeout_exceeded");
    assert!(
        ended.console.contains("[assay] run: still there after 30 s of grace, killed\n"),
        "{}",
        ended.console
    );
    assert!(ended.console.contains("collect ran"), "{}", ended.console);
    assert_eq!(alive(&mark), [] as [i32; 0]);
}

#[tokio::test]
async fn time_of_the_other_phases() {
    let stuck = "echo ready; sleep infinity";
    let pre = Task { pre: phase(&[stuck]), ..with_collect("echo never") };
    let ended = timed_out(&pre, PhaseName::Pre).await;
    assert_eq!((ended.outcome(), ended.report.class.word()), ("timeout_exceeded", "infrastructure"));
    assert!(ended.console.contains("collect ran") && !ended.console.contains("never"), "{}", ended.console);
    let collect = Task { collect: phase(&[stuck]), ..task("true") };
    let ended = timed_out(&collect, PhaseName::Collect).await;
    assert_eq!(ended.outcome(), "passed", "what collect does is not part of the verdict");
}

#[tokio::test]
async fn daemons_end_with_their_phase() {
    let mark = mark();
    let script = format!("setsid sleep {mark} & (nohup sleep {mark} >/dev/null 2>&1 &) ; echo begun");
    let mut task = task(&script);
    task.post = phase(&["ps -e -o args= | grep -c '[s]leep' || echo nobody"]);
    let bench = Bench::new();
    let ended = bench.run_at(&task, &Never).await;
    assert_eq!(ended.outcome(), "passed", "{}", ended.console);
    assert!(ended.console.contains("nobody\n"), "{}", ended.console);
    assert_eq!(alive(&mark), [] as [i32; 0]);
}

#[tokio::test]
async fn a_cancelled_job_leaves_its_logs_and_a_superseded_one_does_not() {
    let table = [
        (Stop::Cancelled("by hand".into()), "user_cancelled", true),
        (Stop::Superseded("patchset 3 is here".into()), "user_cancelled", false),
        (Stop::Shutdown, "incomplete", false),
    ];
    for (stop, outcome, collected) in table {
        let bench = Bench::new();
        let mut task = with_collect("mkdir logs; echo x > logs/x; echo ready; sleep infinity");
        task.artifacts = vec!["logs/".into()];
        let (ended, ()) = tokio::join!(bench.run_at(&task, &Never), async {
            printed(&bench, "ready").await;
            bench.stop.send_replace(Some(stop.clone()));
        });
        assert_eq!((ended.outcome(), ended.reason()), (outcome, stop.sentence().as_str()));
        assert_eq!(ended.console.contains("collect ran"), collected, "{}", ended.console);
        assert_eq!(ended.artifacts.len(), usize::from(collected));
        assert!(!ended.console.contains("post ran"));
    }
}

#[tokio::test]
async fn a_flood_on_the_console_is_cut_and_the_job_goes_on() {
    let mut task = task(
        "yes 'a line of the flood' | head -c 1G; echo; yes | tr -d '\\n' | head -c 1M; echo heard > heard",
    );
    task.limits.log_bytes = 100_000;
    task.post = phase(&["cat heard"]);
    task.artifacts = vec!["heard".into()];
    let ended = Bench::new().run_at(&task, &Never).await;
    assert_eq!(ended.outcome(), "passed", "{:.2000}", ended.console);
    assert!(ended.console.len() < 110_000, "{}", ended.console.len());
    assert!(ended.console.contains("more than limits.log_bytes=100000; it goes on unheard]"));
    assert!(ended.console.contains(" bytes of the console were left out\n"));
    let marked = ended.records.iter().any(|record| format!("{record:?}").contains("were left out"));
    assert!(marked, "the record says so too");
    assert_eq!(ended.artifacts, [("heard".to_owned(), "heard\n".to_owned())]);
}

#[tokio::test]
async fn a_job_that_fills_the_disk_is_stopped() {
    let mut task = with_collect(
        "for i in $(seq 40); do head -c 1M /dev/zero > $i; done; cp -r . /tmp/2; sleep infinity",
    );
    task.limits.disk_bytes = 48 << 20;
    let ended = Bench::new().run_at(&task, &Never).await;
    assert_eq!((ended.outcome(), ended.report.class.word()), ("failed", "product"), "{}", ended.console);
    assert!(ended.reason().ends_with("and may fill 50331648 (limits.disk_bytes)"), "{}", ended.reason());
    assert!(ended.console.contains("collect ran"), "{}", ended.console);

    let mut task = with_collect("head -c 64M /dev/zero > one");
    task.limits.disk_bytes = 16 << 20;
    let ended = Bench::new().run_at(&task, &Never).await;
    assert_eq!(ended.outcome(), "failed", "the kernel stops one large file: {}", ended.console);
}

#[tokio::test]
async fn a_fork_storm_and_a_hunger_for_memory_are_stopped() {
    let mut task = with_collect("for i in $(seq 400); do sleep infinity & done; wait");
    task.limits.processes = 100;
    let ended = Bench::new().run_at(&task, &Never).await;
    assert_eq!(ended.outcome(), "failed");
    // The kernel refuses more to an unprivileged worker's job; to root's it does not, and the worker kills it.
    let told = ended.reason().ends_with("and may run 100 (limits.processes)");
    assert!(told || ended.console.contains("fork: retry"), "{} {}", ended.reason(), ended.console);
    assert!(ended.console.contains("collect ran"), "{}", ended.console);

    let mut task = task_of("python3", "x = bytearray(96 << 20)\nimport signal\nsignal.pause()");
    task.limits.memory_bytes = 64 << 20;
    let ended = Bench::new().run_at(&task, &Never).await;
    assert!(ended.reason().ends_with("and may hold 67108864 (limits.memory_bytes)"), "{}", ended.reason());
}

fn task_of(shell: &str, script: &str) -> Task {
    let mut task = task(script);
    task.run.steps[0].shell = Some(shell.to_owned());
    task
}

/// Not a test of its own: the worker that [`with_its_worker_a_job_dies`] kills.
#[tokio::test]
#[ignore = "started by another test"]
async fn a_worker_to_be_killed() {
    let Ok(mark) = std::env::var("ASSAY_TEST_MARK") else { return };
    let script = format!("setsid sleep {mark} & trap '' TERM HUP; sleep {mark}");
    Bench::new().run_at(&task(&script), &Never).await;
}

#[tokio::test]
async fn with_its_worker_a_job_dies() {
    let mark = mark();
    let sleeper = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "sleep"
    };
    let tmp = tempfile::tempdir().unwrap();
    let mut worker = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "endings::a_worker_to_be_killed"])
        .env("ASSAY_TEST_MARK", &mark)
        .env("TMPDIR", tmp.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let born = async {
        loop {
            let sleepers: Vec<i32> = alive(&mark).into_iter().filter(sleeper).collect();
            if sleepers.len() >= 2 {
                return sleepers;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let sleepers = tokio::time::timeout(PATIENCE, born).await.unwrap();
    let open = |pid: &i32| pidfd_open(Pid::from_raw(*pid).unwrap(), PidfdFlags::empty()).unwrap();
    let watched: Vec<_> = sleepers.iter().map(open).collect();
    let pid = Pid::from_raw(worker.id().unwrap() as i32).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    worker.wait().await.unwrap();
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    for process in &watched {
        let mut ended = [PollFd::new(process, PollFlags::IN)];
        assert_eq!(poll(&mut ended, Some(&patience)).unwrap(), 1, "it dies");
    }
}

#[tokio::test]
async fn a_stronger_stop_cuts_the_grace_short_and_a_job_that_kills_everything_has_failed() {
    let bench = Bench::new();
    let task = with_collect(
        "trap 'echo still here' TERM; echo ready; while :; do sleep infinity & wait || true; done",
    );
    let (ended, ()) = tokio::join!(bench.run_at(&task, &Never), async {
        printed(&bench, "ready").await;
        bench.stop.send_replace(Some(Stop::Cancelled("by hand".into())));
        printed(&bench, "still here").await;
        bench.stop.send_replace(Some(Stop::Shutdown));
    });
    assert_eq!(ended.reason(), "by hand", "{}", ended.console);

    let ended = Bench::new().run_at(&with_collect("echo begun; kill -9 -1"), &Never).await;
    assert_eq!((ended.outcome(), ended.reason()), ("failed", "run: step 1: the sandbox ended under it"));
    assert!(ended.console.contains("begun\n") && ended.console.contains("collect ran"), "{}", ended.console);
}
