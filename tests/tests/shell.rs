//! Shell jobs through `assay up`: what they leave behind, and what is left of them when a worker is killed.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use assay_proto::task::{Phase, Secret, ShellStep, Task};
use assay_records::step::Record;
use assay_tests::{Place, Signal, Up, eventually, signal};
use fs_err as fs;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::collections::BTreeMap;

fn phase(script: &str) -> Phase {
    Phase { steps: vec![ShellStep { script: script.into(), ..ShellStep::default() }], ..Phase::default() }
}

async fn post(up: &Up<'_>, task: &Task) -> i64 {
    let settings: BTreeMap<String, String> = task.to_settings().unwrap();
    let pairs: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    up.post(&pairs).await
}

async fn records(up: &Up<'_>, job: i64) -> Vec<Record> {
    serde_json::from_value(up.get(&format!("jobs/{job}/steps")).await).unwrap()
}

#[tokio::test]
async fn a_shell_job_leaves_its_console_artifacts_and_test_cases() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    let mut task = Task {
        name: "e2e".into(),
        run: phase(
            "echo token=$TOKEN; mkdir logs; echo kept > logs/kept.log; printf '1..2\\nok 1\\nnot ok 2 - no\\n' > a.tap; exit 1",
        ),
        collect: phase("echo collected after $ASSAY_OUTCOME"),
        artifacts: vec!["logs/**".into()],
        results: vec!["*.tap".into()],
        ..Task::default()
    };
    task.run.secrets = vec!["TOKEN".into()];
    task.secrets.insert("TOKEN".into(), Secret("open-sesame".into()));
    let job = post(&up, &task).await;
    let ended = up.wait(job).await;
    assert_eq!(
        (ended.result.as_str(), ended.reason.as_deref()),
        ("failed", Some("run: step 1: exit code 1"))
    );
    let console = up.stream(job, "console.txt", None).await;
    let (time, line) = console.lines().nth(1).unwrap().split_once(" | ").unwrap();
    assert!(line == "token=***" && time.len() == "2015-02-03 04:05:06.789".len(), "{console}");
    assert!(console.contains(" | collected after failed\n"), "{console}");

    let mut kept = None;
    let mut failing = Vec::new();
    for record in records(&up, job).await {
        match record {
            Record::Artifact(artifact) if artifact.path == "logs/kept.log" => kept = Some(artifact),
            Record::TestCases(cases) => failing.extend(cases.failing.into_iter().map(|case| case.name)),
            _ => {}
        }
    }
    let kept = kept.unwrap();
    assert_eq!((kept.size, kept.content_type.as_str()), (5, "text/plain; charset=utf-8"));
    assert_eq!(failing, ["no"]);
    let blob = up.request(Method::GET, &format!("/api/assay/v1/blobs/{}", kept.sha256)).send().await.unwrap();
    assert_eq!((blob.status(), blob.text().await.unwrap().as_str()), (StatusCode::OK, "kept\n"));

    for path in [format!("/jobs/{job}"), format!("/api/assay/v1/jobs/{job}")] {
        let page = up.request(Method::GET, &path).send().await.unwrap().text().await.unwrap();
        assert!(!page.contains("open-sesame"), "{path}");
    }
    let other = up.post(&[("BACKEND", "shell"), ("TASK", "{")]).await;
    let refused = up.wait(other).await;
    assert_eq!(refused.result, "incomplete");
    assert!(refused.reason.unwrap().contains("TASK is not a task"));
    up.stop().await;
}

/// Processes named `sleep` with this argument.
fn sleepers(mark: &str) -> Vec<u32> {
    let is_one = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line == format!("sleep\0{mark}\0").into_bytes()
    };
    let pids = fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_one).collect()
}

#[tokio::test]
async fn with_a_killed_worker_its_job_dies_and_is_tried_again() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    let mark = format!("77{}.25", std::process::id());
    let task = Task {
        name: "e2e".into(),
        run: phase(&format!(
            "setsid sleep {mark} >/dev/null 2>&1 & trap '' TERM HUP; echo begun; sleep {mark}"
        )),
        collect: phase("echo collected"),
        ..Task::default()
    };
    let job = post(&up, &task).await;
    up.follow(job, "console.txt", "begun").await;
    let two = || Some(sleepers(&mark)).filter(|pids| pids.len() == 2);
    let first = eventually("both processes", two).await;
    signal(up.worker().await, Signal::KILL);
    eventually("the end of the first", || {
        first.iter().all(|pid| !sleepers(&mark).contains(pid)).then_some(())
    })
    .await;
    // The next worker tries again, and that one is cancelled: its logs are still collected.
    up.until(job, "a second attempt", |job| job.attempts.len() == 2).await;
    let second = eventually("both processes again", two).await;
    place.run(&["job", "cancel", &job.to_string()]).await.expect(0);
    up.follow(job, "console.txt", "it has 30 s to end").await;
    // It obeys no TERM; nobody has to wait for its grace in this test.
    for pid in second {
        signal(pid, Signal::KILL);
    }
    let ended = up.wait(job).await;
    let results: Vec<_> = ended.attempts.iter().map(|attempt| attempt.result.as_str()).collect();
    assert_eq!(results, ["incomplete", "user_cancelled"], "{ended:#?}");
    let console = up.stream(job, "console.txt", None).await;
    assert!(console.contains(" | collected\n"), "{console}");
    let words: Value = up.get(&format!("jobs/{job}")).await;
    assert_eq!(words["settings"]["WORKER_CLASS"]["value"], "shell");
    assert!(sleepers(&mark).is_empty());
    up.stop().await;
}

#[tokio::test]
async fn a_task_runs_without_a_server() {
    let place = Place::new();
    let (file, out) = (place.join("task.json"), place.join("out"));
    let mut task =
        Task { name: "alone".into(), run: phase("echo $TOKEN | tr a-z A-Z; exit 3"), ..Task::default() };
    task.run.secrets = vec!["TOKEN".into()];
    task.secrets.insert("TOKEN".into(), Secret("open-sesame".into()));
    fs::write(&file, serde_json::to_string(&task).unwrap()).unwrap();
    let arguments = ["run", "--task", file.as_str(), "--out", out.as_str()];
    place.run(&arguments).await.expect(1).says("run: step 1: exit code 3");
    let console = fs::read_to_string(out.join("console.txt")).unwrap();
    assert!(
        console.contains(" | OPEN-SESAME\n"),
        "what a job does to a secret on purpose is its own: {console}"
    );
    let record: String = ["vars.json", "steps.jsonl", "autoinst-log.txt", "result.json"]
        .map(|name| fs::read_to_string(out.join(name)).unwrap())
        .concat();
    assert!(!record.contains("open-sesame"), "{record}");
    fs::write(&file, "{\"name\": \"x\", \"runs\": {}}").unwrap();
    place.run(&arguments).await.expect(2).says("unknown field `runs`");
}
