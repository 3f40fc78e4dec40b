//! `assay up` and its clients: jobs, losses of server and worker, and who may do what.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use assay_proto::api::Job;
use assay_records::step::Record;
use assay_tests::{Place, Signal, Suite, Up, asking, eventually, http, signal};
use fs_err as fs;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// cli; hlt
const NOTHING: &[u8] = &[0xfa, 0xf4];

/// GRUB, and then a wait of some seconds in which something can be killed.
fn grub_that_waits(place: &Place, seconds: u32) -> Suite {
    let body = format!(
        "t.assert_screen(\"grub-menu\", timeout = 60)
        t.wait_serial(\"never\", timeout = {seconds})
        t.send_key(\"c\")
        t.assert_screen(\"grub-prompt\", timeout = 20)"
    );
    place.suite("s").grub().module("waits", "", &body)
}

/// What a job left behind, without the times.
struct Left {
    steps: Vec<String>,
    log: Vec<String>,
    serial: String,
    blobs: usize,
}

async fn left(up: &Up<'_>, job: i64) -> Left {
    let mut blobs = 0;
    let mut steps = Vec::new();
    for record in serde_json::from_value::<Vec<Record>>(up.get(&format!("jobs/{job}/steps")).await).unwrap() {
        let Record::Step(step) = &record else { continue };
        steps.push(format!("{} {} {:?}", step.module, step.call, step.result));
        if let Some(shot) = &step.screenshot {
            let path = format!("/api/assay/v1/blobs/{}", shot.sha256);
            let png = up.anonymous(Method::GET, &path).send().await.unwrap().bytes().await.unwrap();
            assert!(png.starts_with(b"\x89PNG"), "{}", shot.sha256);
            blobs += 1;
        }
    }
    let log = up.stream(job, "autoinst-log.txt", None).await;
    assert!(log.ends_with('\n'), "the log is cut off");
    let text = |line: &str| line.split_once("] ").map_or(line, |(_, text)| text).to_owned();
    for line in up.stream(job, "journal.jsonl", None).await.lines() {
        serde_json::from_str::<assay_records::journal::Line>(line).unwrap();
    }
    let serial = up.stream(job, "serial0.txt", None).await;
    Left { steps, log: log.lines().map(text).collect(), serial, blobs }
}

#[tokio::test]
async fn a_job_outlives_its_server_and_is_shown_whole() {
    let place = Place::new();
    let suite = grub_that_waits(&place, 4);
    let mut up = Up::start(&place, &[]).await;
    let first = up.url.clone();
    let settings = [("CASEDIR", suite.dir())];
    let undisturbed = up.post(&settings).await;
    assert_eq!(up.wait(undisturbed).await.result, "passed");
    let job = up.post(&settings).await;
    up.follow(job, "autoinst-log.txt", "wait_serial").await;
    let (worker, qemu) = (up.worker().await, place.qemu().await);
    assert_eq!(up.end_by(Signal::KILL).await, None);
    assert!(qemu.lives(), "the machine does not need the server");

    let up = Up::start(&place, &[]).await;
    assert_ne!(up.url, first, "it comes back at another port, and the worker finds it");
    let ended = up.wait(job).await;
    assert_eq!((ended.result.as_str(), ended.attempts.len()), ("passed", 1), "{ended:#?}");
    assert_eq!(up.worker().await, worker, "the worker lived on");
    let (wanted, got) = (left(&up, undisturbed).await, left(&up, job).await);
    assert_eq!(got.steps, wanted.steps);
    assert_eq!(got.log, wanted.log);
    assert_eq!((got.serial, got.blobs), (wanted.serial, wanted.blobs));
    up.stop().await;
}

#[tokio::test]
async fn a_job_that_ends_while_the_server_is_away_is_not_lost() {
    let place = Place::new();
    let mut up = Up::start(&place, &[]).await;
    let go = place.join("go");
    let settings = [("BACKEND", "dummy"), ("DUMMY_FLOOD", "3"), ("DUMMY_WAIT_FILE", go.as_str())];
    let job = up.post(&settings).await;
    up.follow(job, "steps.jsonl", "module_started").await;
    up.end_by(Signal::KILL).await;
    fs::write(&go, "").unwrap();
    let pool = place.data().join("worker");
    let log = || {
        let folder =
            fs::read_dir(&pool).unwrap().flatten().map(|entry| entry.path()).find(|path| path.is_dir())?;
        let text = fs::read_to_string(folder.join("autoinst-log.txt")).ok()?;
        text.ends_with("dummy attempt ends\n").then_some(text)
    };
    let written = eventually("the end of the attempt without a server", log).await;
    let up = Up::start(&place, &[]).await;
    let ended = up.wait(job).await;
    assert_eq!((ended.result.as_str(), ended.attempts.len()), ("passed", 1), "{ended:#?}");
    let read = up.stream(job, "autoinst-log.txt", None).await;
    assert!(read == written, "{} bytes written, {} shown", written.len(), read.len());
    up.stop().await;
}

#[tokio::test]
async fn a_worker_that_dies_takes_its_machine_along_and_the_job_is_tried_again() {
    let place = Place::new();
    let suite = grub_that_waits(&place, 2);
    let up = Up::start(&place, &[]).await;
    let job = up.post(&[("CASEDIR", suite.dir())]).await;
    up.follow(job, "autoinst-log.txt", "wait_serial").await;
    let (worker, qemu) = (up.worker().await, place.qemu().await);
    signal(worker, Signal::KILL);
    eventually("the end of the machine", || (!qemu.lives()).then_some(())).await;
    let ended = up.wait(job).await;
    assert_eq!(ended.result, "passed", "{ended:#?}");
    let [lost, passed] = ended.attempts.as_slice() else { panic!("{:#?}", ended.attempts) };
    assert_eq!((lost.result.as_str(), lost.class.as_deref()), ("incomplete", Some("infrastructure")));
    let why = lost.reason.as_deref().unwrap();
    assert!(why.starts_with("worker ") && why.ends_with("; retried as attempt 2"), "{why}");
    assert_eq!((passed.number, passed.result.as_str()), (2, "passed"));
    let first = up.stream(job, "autoinst-log.txt", Some(1)).await;
    assert!(first.contains("wait_serial"), "what the lost attempt had said is kept: {first}");
    assert!(up.stream(job, "autoinst-log.txt", Some(2)).await.contains("module waits ends: Passed"));
    assert_ne!(up.worker().await, worker);
    up.stop().await;
}

#[tokio::test]
async fn a_job_whose_workers_die_twice_is_given_up() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    let job = up.post(&[("BACKEND", "dummy"), ("DUMMY_VANISH", "always")]).await;
    let ended = up.wait(job).await;
    assert_eq!((ended.result.as_str(), ended.attempts.len()), ("incomplete", 2), "{ended:#?}");
    let why = ended.reason.as_deref().unwrap();
    assert!(why.ends_with("; not retried again after 2 attempts"), "{why}");
    place.run(&["job", "wait", &job.to_string()]).await.expect(3).says("not retried again");
    let next = up.post(&[("BACKEND", "dummy")]).await;
    assert_eq!(up.wait(next).await.result, "passed", "the next worker works");
    up.stop().await;
}

#[tokio::test]
async fn a_job_that_is_cancelled_lets_go_of_its_machine() {
    let place = Place::new();
    let suite = grub_that_waits(&place, 100);
    let up = Up::start(&place, &[]).await;
    let job = up.post(&[("CASEDIR", suite.dir())]).await;
    let waiting = up.post(&[("BACKEND", "dummy")]).await;
    up.follow(job, "autoinst-log.txt", "wait_serial").await;
    let qemu = place.qemu().await;
    let mut cancel = place.assay(&["job", "cancel", &job.to_string()]);
    cancel.env("USER", "eve");
    place.run_command(cancel).await.expect(0);
    let ended = up.wait(job).await;
    assert_eq!((ended.state.as_str(), ended.result.as_str()), ("done", "user_cancelled"), "{ended:#?}");
    assert!(ended.reason.as_deref().unwrap().contains("cancelled by eve"), "{ended:#?}");
    eventually("the end of the machine", || (!qemu.lives()).then_some(())).await;
    assert_eq!(up.wait(waiting).await.result, "passed", "the slot is free again");

    let never = up.post(&[("WORKER_CLASS", "nobody")]).await;
    place.run(&["job", "cancel", &never.to_string()]).await.expect(0).says("cancelled");
    assert_eq!(up.wait(never).await.state, "cancelled");
    up.stop().await;
}

#[tokio::test]
async fn sigterm_ends_everything_and_the_job_goes_on_later() {
    let place = Place::new();
    let suite = grub_that_waits(&place, 3);
    let up = Up::start(&place, &[]).await;
    let job = up.post(&[("CASEDIR", suite.dir())]).await;
    up.follow(job, "autoinst-log.txt", "wait_serial").await;
    place.qemu().await;
    up.stop().await;
    let up = Up::start(&place, &[]).await;
    let ended = up.wait(job).await;
    assert_eq!((ended.result.as_str(), ended.attempts.len()), ("passed", 2), "{ended:#?}");
    up.stop().await;
}

#[tokio::test]
async fn jobs_run_by_priority() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    let go = place.join("go");
    let busy = up.post(&[("BACKEND", "dummy"), ("DUMMY_WAIT_FILE", go.as_str())]).await;
    up.until(busy, "a running job", |job| job.state == "running").await;
    let mut jobs = Vec::new();
    for priority in [60, 40, 50, 40] {
        jobs.push((up.post_with(&[("BACKEND", "dummy")], Some(priority)).await, priority));
    }
    let waiting = up.job(jobs[0].0).await;
    assert_eq!(waiting.state, "scheduled");
    let why = waiting.reason.as_deref().unwrap();
    assert!(why.contains("slot") && why.contains("dummy") && why.contains("busy"), "{why}");
    fs::write(&go, "").unwrap();
    let mut started = Vec::new();
    for (job, priority) in &jobs {
        let ended = up.wait(*job).await;
        assert_eq!(ended.result, "passed");
        started.push((ended.started.unwrap(), *job, *priority));
    }
    started.sort();
    let order: Vec<_> = started.into_iter().map(|(_, job, priority)| (priority, job)).collect();
    assert!(order.is_sorted(), "{order:?}");
    up.stop().await;
}

#[tokio::test]
async fn a_class_that_nobody_offers_is_named() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    up.until_online().await;
    let job = up.post(&[("WORKER_CLASS", "qemu_s390x")]).await;
    let waits = |job: &Job| {
        job.state == "scheduled" && job.reason.as_deref().is_some_and(|why| why.contains("class"))
    };
    let waiting = up.until(job, "a reason", waits).await;
    let why = waiting.reason.unwrap();
    assert!(why.starts_with("no online worker offers class qemu_s390x"), "{why}");
    assert!(why.contains("qemu_x86_64"), "the nearest that there is: {why}");
    place.run(&["job", "list", "--state", "scheduled"]).await.expect(0).says("qemu_s390x");
    up.stop().await;
}

#[tokio::test]
async fn a_flood_of_log_arrives_whole() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    let job = up.post(&[("BACKEND", "dummy"), ("DUMMY_FLOOD", "50")]).await;
    let ended = up.wait(job).await;
    assert_eq!(ended.result, "passed", "{ended:#?}");
    let log = up.stream(job, "autoinst-log.txt", None).await;
    assert_eq!(log.len() as u64, ended.attempts[0].streams["autoinst-log.txt"]);
    let mut lines = log.lines();
    assert!(lines.next().unwrap().ends_with("dummy attempt begins"));
    assert!(lines.next_back().unwrap().ends_with("dummy attempt ends"));
    let flood = 50 * 1024 * 1024;
    let middle = &log[log.find("flood").unwrap()..][..flood];
    let line = &middle[..1024];
    assert!(middle.as_bytes().chunks(1024).all(|one| one == line.as_bytes()), "the flood is damaged");
    let part = up.request(Method::GET, &format!("/api/assay/v1/jobs/{job}/streams/autoinst-log.txt"));
    let part = part.header("Range", "bytes=1000000-1000009").send().await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.text().await.unwrap(), log[1_000_000..1_000_010]);
    up.stop().await;
}

#[tokio::test]
async fn only_who_may_changes_something() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    let body = json!({ "settings": { "TEST": "x", "BACKEND": "dummy" } });
    let post = |request: reqwest::RequestBuilder| async { request.json(&body).send().await.unwrap() };
    let path = "/api/assay/v1/jobs";
    let refused = post(up.anonymous(Method::POST, path)).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let why: Value = refused.json().await.unwrap();
    assert!(why["help"].as_str().unwrap().contains("tokens/admin"), "{why}");
    let wrong = post(up.anonymous(Method::POST, path).bearer_auth("0".repeat(64))).await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    let worker = fs::read_to_string(place.data().join("tokens/worker")).unwrap();
    let as_worker = post(up.anonymous(Method::POST, path).bearer_auth(worker.trim())).await;
    assert_eq!(as_worker.status(), StatusCode::UNAUTHORIZED, "a worker posts no jobs");
    assert_eq!(post(up.request(Method::POST, path)).await.status(), StatusCode::CREATED);
    let look = up.anonymous(Method::GET, path).send().await.unwrap();
    assert_eq!(look.status(), StatusCode::OK, "reading is open");
    let mut command = place.assay(&["job", "post", "TEST=x", "BACKEND=dummy"]);
    command.env("ASSAY_TOKEN", "nonsense");
    place.run_command(command).await.expect(2).says("not one of this server's");
    up.stop().await;
}

#[tokio::test]
async fn loopback_is_trusted_only_when_told_and_never_for_other_sites() {
    let place = Place::new();
    let up = Up::start(&place, &["--trust-loopback"]).await;
    let body = json!({ "settings": { "TEST": "x", "BACKEND": "dummy" } });
    let post = || up.anonymous(Method::POST, "/api/assay/v1/jobs").json(&body);
    assert_eq!(post().send().await.unwrap().status(), StatusCode::CREATED);
    let own = post().header("Origin", &up.url).send().await.unwrap();
    assert_eq!(own.status(), StatusCode::CREATED, "the server's own pages");
    for (name, value) in
        [("Origin", "https://evil.example"), ("Origin", "null"), ("Sec-Fetch-Site", "cross-site")]
    {
        let refused = post().header(name, value).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{name}: {value}");
    }
    let rebound = http().get(&up.url).header("Host", "evil.example").send().await.unwrap();
    assert_eq!(rebound.status(), StatusCode::MISDIRECTED_REQUEST);
    up.stop().await;
}

#[tokio::test]
async fn a_log_is_followed_to_its_end() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    let go = place.join("go");
    let job = up.post(&[("BACKEND", "dummy"), ("DUMMY_WAIT_FILE", go.as_str())]).await;
    up.follow(job, "steps.jsonl", "module_started").await;
    let mut follower = place.start(&["job", "log", &job.to_string(), "--follow"]);
    assert!(follower.line().await.unwrap().ends_with("dummy attempt begins"));
    fs::write(&go, "").unwrap();
    let rest = follower.end().await;
    assert!(rest.expect(0).stdout.ends_with("dummy attempt ends\n"), "{rest:?}");
    up.wait(job).await;
    let whole = place.run(&["job", "log", &job.to_string()]).await;
    assert_eq!(whole.expect(0).stdout, up.stream(job, "autoinst-log.txt", None).await);
    up.stop().await;
}

#[tokio::test]
async fn the_command_line_tells_the_verdicts() {
    let place = Place::new();
    let up = Up::start(&place, &["--slots", "2"]).await;
    let mut ids = Vec::new();
    for result in ["passed", "softfailed", "failed", "incomplete"] {
        let setting = format!("DUMMY_RESULT={result}");
        let posted = place.run(&["job", "post", "TEST=cli", "BACKEND=dummy", &setting, "--quiet"]).await;
        ids.push(posted.expect(0).stdout.trim().to_owned());
    }
    for (id, code) in ids.iter().zip([0, 0, 1, 3]) {
        place.run(&["job", "wait", id, "--timeout", "100"]).await.expect(code);
    }
    let all: Vec<&str> = ids.iter().map(String::as_str).collect();
    place.run(&[&["job", "wait"], &all[..]].concat()).await.expect(3);
    place.run(&[&["job", "wait"], &all[..3]].concat()).await.expect(1);
    let show = place.run(&["job", "show", &ids[2], "--json"]).await.expect(0).json();
    assert_eq!((show["result"].as_str(), show["reason"].as_str()), (Some("failed"), Some("dummy failure")));
    assert_eq!(
        show["settings"]["WORKER_CLASS"],
        json!({ "value": "dummy", "from": "default", "origin": "Assay's default" })
    );
    let list = place.run(&["job", "list", "--result", "failed", "--json"]).await.expect(0).json();
    assert_eq!(list["jobs"].as_array().unwrap().len(), 1);
    place.run(&["job", "list", "--state", "finished"]).await.expect(2).says("scheduled, assigned");
    up.stop().await;
}

#[tokio::test]
async fn a_needle_is_made_from_a_job() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    let suite = place.suite("s").grub().module("menu", "", "t.assert_screen(\"grub-menu\", timeout = 60)");
    let posted = place.run(&["job", "post", suite.dir(), "--quiet"]).await;
    let job = posted.expect(0).stdout.trim().to_owned();
    place.run(&["job", "wait", &job]).await.expect(0);
    let name = suite.join("needles/mine");
    let make =
        ["needle", "new", "--job", &job, "--step", "menu/1", "--tag", "mine", "--area", "50,304,560,48"];
    place.run(&[&make[..], &[name.as_str()]].concat()).await.expect(0);
    let (needle, scene) = (format!("{name}.json"), suite.join("needles/grub-menu.png"));
    place.run(&["needle", "match", &needle, scene.as_str()]).await.expect(0);
    let missing =
        ["needle", "new", "--job", &job, "--step", "menu/9", "--tag", "x", "--area", "0,0,9,9", "x"];
    place.run(&missing).await.expect(4).says("there is no step menu/9 with a screenshot");
    up.stop().await;
}

#[tokio::test]
async fn bad_jobs_end_with_their_sentence() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    let suite = place.suite("s").guest(NOTHING).module("a", "", "t.asert_screen(\"x\")");
    let cases: [(&[(&str, &str)], &str); 5] = [
        (&[("CASEDIR", suite.dir())], "did you mean `assert_screen`?"),
        (&[("CASEDIR", "/nonexistent")], "CASEDIR=/nonexistent has no folder tests/"),
        (&[("CASEDIR", "relative")], "is not an absolute path"),
        (&[("TEST", "x")], "the job has no CASEDIR"),
        (&[("BACKEND", "cloud")], "BACKEND=\"cloud\" is unknown"),
    ];
    for (settings, wanted) in cases {
        let job = up.post(settings).await;
        let ended = up.wait(job).await;
        assert_eq!((ended.result.as_str(), ended.attempts.len()), ("incomplete", 1), "{ended:#?}");
        assert!(ended.reason.as_deref().unwrap().contains(wanted), "{ended:#?}");
        place.run(&["job", "wait", &job.to_string()]).await.expect(2);
    }
    up.stop().await;
}

#[tokio::test]
async fn a_secret_of_a_job_is_shown_nowhere() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    let body = "t.type_string(t.get_required_var(\"_SECRET_KEY\"))\n        t.type_password()";
    let suite = place.suite("s").guest(NOTHING).module("a", "", body);
    let secrets = ["opensesame42", "correcthorse5"];
    let job =
        up.post(&[("CASEDIR", suite.dir()), ("_SECRET_KEY", secrets[0]), ("PASSWORD", secrets[1])]).await;
    let ended = up.wait(job).await;
    assert_eq!(ended.result, "passed", "{ended:#?}");
    let mut shown = serde_json::to_string(&ended).unwrap();
    for page in ["/".to_owned(), format!("/jobs/{job}")] {
        shown.push_str(&up.anonymous(Method::GET, &page).send().await.unwrap().text().await.unwrap());
    }
    for file in ["steps.jsonl", "autoinst-log.txt", "serial0.txt", "journal.jsonl"] {
        shown.push_str(&up.stream(job, file, None).await);
    }
    assert!(shown.contains("_SECRET_KEY"), "that there is one is no secret");
    for secret in secrets {
        assert!(!shown.contains(secret), "{secret}");
    }
    up.stop().await;
}

#[tokio::test]
async fn a_full_disk_is_named_and_all_goes_on_when_there_is_room() {
    let place = Place::new();
    let up = Up::start_on_small_disk(&place, 32 << 20).await;
    let before = up.post(&[("BACKEND", "dummy")]).await;
    assert_eq!(up.wait(before).await.result, "passed");
    let ballast = up.data().join("ballast");
    fs::write(&ballast, vec![0; 24 << 20]).unwrap();
    let job = up.post(&[("BACKEND", "dummy"), ("DUMMY_FLOOD", "8")]).await;
    // It is rather the job that fills the disk than what is posted below.
    asking("a worker for the job", async || (up.job(job).await.state != "scheduled").then_some(())).await;
    // Full is full: nothing can be posted, and the answer says what to do.
    let mut refused = None;
    while refused.is_none() {
        let body = json!({ "settings": { "TEST": "x", "BACKEND": "dummy", "WORKER_CLASS": "nobody" } });
        let answer = up.request(Method::POST, "/api/assay/v1/jobs").json(&body).send().await.unwrap();
        refused = Some(answer).filter(|answer| answer.status() == StatusCode::SERVICE_UNAVAILABLE);
    }
    let why: Value = refused.unwrap().json().await.unwrap();
    assert!(why["error"].as_str().unwrap().contains("the disk is full: "), "{why}");
    fs::remove_file(&ballast).unwrap();
    let ended = up.wait(job).await;
    // The ballast is gone as soon as the server has refused something; the job may not have met the end of the disk yet.
    if ended.result != "passed" {
        assert_eq!(ended.result, "incomplete", "{ended:#?}");
        assert!(ended.reason.as_deref().unwrap().contains("the disk is full"), "{ended:#?}");
    }
    let after = up.post(&[("BACKEND", "dummy")]).await;
    assert_eq!(up.wait(after).await.result, "passed");
    assert_eq!(up.job(before).await.result, "passed", "nothing was lost");
    up.stop().await;
}
