//! What becomes of jobs that have ended: parts of them go by age, pictures when nobody names them any more.

use crate::common::{Server, client, run};
use assay_engine::outcome::Outcome;
use assay_proto::worker::{Stream, WorkPhase};
use assay_records::step::{Artifact, Record};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

const DAY: i64 = 24 * 3600 * 1_000_000;

struct World {
    server: Server,
    worker: assay_fakes::worker::Connection,
}

impl World {
    async fn post(&self, settings: Value) -> i64 {
        let (status, body) = self.server.ask(Method::POST, "/api/v1/jobs", Some(settings)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body["id"].as_i64().unwrap()
    }

    /// Runs the next job; it looks at these pictures and uploads this file.
    async fn run(&mut self, pictures: &[&str], file: &[u8]) -> anyhow::Result<i64> {
        let held = self.worker.expect_assign().await?.held;
        self.worker.phase(held, WorkPhase::Running).await?;
        let artifact = Artifact {
            path: "x.txt".into(),
            size: file.len() as u64,
            sha256: self.server.put_blob(file).await,
            content_type: "text/plain".into(),
            at_us: 1,
        };
        let mut records = vec![run::plan(&["boot"]), Record::Artifact(artifact)];
        records.extend((1..).zip(pictures).map(|(number, shot)| run::looked("boot", number, shot)));
        self.worker.append(held, Stream::Steps, 0, &run::lines(&records)).await?;
        self.worker.append(held, Stream::Log, 0, format!("log of {file:?}").as_bytes()).await?;
        self.worker.finish(held, Outcome::Passed, None).await?;
        self.worker.expect_finished_ack(held.attempt).await?;
        let id = held.attempt.job.0;
        self.server
            .until(id, "its streams are closed", |job| {
                job.attempts.iter().all(|attempt| attempt.finished.is_some())
            })
            .await;
        Ok(id)
    }

    /// Cleans, and tells what is said of these jobs: `KEEP?PART why`.
    async fn clean(&self, dry_run: bool, job: i64) -> Vec<String> {
        let wanted = json!({ "dry_run": dry_run });
        let (status, report) =
            self.server.ask(Method::POST, "/api/assay/v1/jobs/cleanup", Some(wanted)).await;
        assert_eq!(status, StatusCode::OK, "{report}");
        let told = |verdict: &Value| {
            let sign = if verdict["keep"] == true { '+' } else { '-' };
            format!("{sign}{} {}", verdict["part"].as_str().unwrap(), verdict["why"].as_str().unwrap())
        };
        let all = report["verdicts"].as_array().unwrap().iter();
        all.filter(|verdict| verdict["what"] == format!("job {job}")).map(told).collect()
    }

    async fn has(&self, sha: &str) -> bool {
        self.server.get(&format!("/api/assay/v1/blobs/{sha}")).await.0 == StatusCode::OK
    }

    fn days_pass(&self, days: i64) {
        self.server.clock.advance(days * DAY);
        // The blobs are as old as the clock says.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(now.tv_sec.unsigned_abs())
            - Duration::from_hours(72);
        for shelf in fs_err::read_dir(self.server.dir.join("blobs")).unwrap() {
            for file in fs_err::read_dir(shelf.unwrap().path()).unwrap() {
                fs_err::File::options()
                    .write(true)
                    .open(file.unwrap().path())
                    .unwrap()
                    .set_modified(old)
                    .unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_job_that_a_tracker_leads_to_is_linked_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = camino::Utf8Path::from_path(dir.path()).unwrap().join("assay.toml");
    fs_err::write(&file, "[pages]\nrecognized-referers = [\"Bugs.example.org\"]\n").unwrap();
    let server = Server::start_with(|config| config.config = Some(file.clone())).await;
    let id = server.post(json!({"TEST": "t", "WORKER_CLASS": "none"})).await;
    let said = async |referer: &str| {
        let request = client().get(server.url(&format!("/jobs/{id}"))).header("referer", referer);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{referer}");
        server.get(&format!("/api/v1/jobs/{id}/comments")).await.1.as_array().unwrap().len()
    };
    for referer in ["https://example.org/", "https://bugs.example.org.evil/", "bugs.example.org:x", "/"] {
        assert_eq!(said(referer).await, 0, "{referer}");
    }
    let forces = "https://BUGS.example.org:8443/5?label:force_result:passed";
    for referer in [forces, "https://bugs.example.org/"] {
        assert_eq!(said(referer).await, 1, "{referer}");
    }
    let (_, comments) = server.get(&format!("/api/v1/jobs/{id}/comments")).await;
    assert_eq!(comments[0]["text"], "label:linked A page of bugs.example.org leads to this job.");
    let (_, audit) = server.get("/api/assay/v1/audit?event=comment_create").await;
    assert_eq!(audit["events"][0]["data"]["linked_from"], "bugs.example.org", "{audit}");
    assert_eq!(server.get("/jobs/99").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn old_jobs_go_in_parts() -> anyhow::Result<()> {
    let server = Server::start().await;
    let ages = json!({
        "name": "g", "keep_logs_in_days": 10, "keep_screenshots_in_days": 15, "keep_results_in_days": 20,
        "keep_jobs_in_days": 30, "keep_important_logs_in_days": 40, "keep_important_results_in_days": 50,
    });
    let (status, group) = server.ask(Method::POST, "/api/v1/job_groups", Some(ages)).await;
    assert_eq!(status, StatusCode::OK, "{group}");
    let tag = json!({"text": "tag:2:important:GM"});
    server.ask(Method::POST, &format!("/api/v1/groups/{}/comments", group["id"]), Some(tag)).await;
    let (own, shared) = (server.put_blob(b"own").await, server.put_blob(b"shared").await);
    let file = crate::common::sha256(b"one");
    let worker = server.worker("w").connect(&[]).await?;
    let mut world = World { server, worker };
    let job =
        |build: &str| json!({"TEST": "t", "BACKEND": "dummy", "BUILD": build, "_GROUP_ID": group["id"]});
    let mut ids = Vec::new();
    for (build, pictures, text) in
        [("1", vec![own.as_str(), &shared], "one"), ("2", vec![&shared], "two"), ("3", vec![], "three")]
    {
        world.post(job(build)).await;
        ids.push(world.run(&pictures, text.as_bytes()).await?);
    }
    let [plain, important, parent] = ids[..] else { panic!("{ids:?}") };
    // Somebody outside speaks of it, until the comment is taken back.
    let path = format!("/api/v1/jobs/{plain}/comments");
    let said = json!({"text": "label:linked a bug says so"});
    let (_, comment) = world.server.ask(Method::POST, &path, Some(said)).await;
    assert_eq!(
        world.clean(true, plain).await[0],
        "+logs it goes in 40 days, important (linked from elsewhere)"
    );
    let (status, answer) = world.server.ask(Method::DELETE, &format!("{path}/{}", comment["id"]), None).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    world
        .post(json!({"TEST": "child", "WORKER_CLASS": "none", "_START_AFTER_JOBS": parent.to_string()}))
        .await;

    world.days_pass(12);
    let said = [
        "-logs older than 10 days",
        "+screenshots it goes in 3 days",
        "+results it goes in 8 days",
        "+job it goes in 18 days",
    ];
    assert_eq!(world.clean(true, plain).await, said);
    assert_eq!(world.clean(false, plain).await, said, "nothing had gone");
    assert_eq!(world.clean(true, plain).await, said[1..], "the logs have");
    assert!(!world.has(&file).await && world.has(&own).await && world.has(&shared).await);
    let (status, log) =
        world.server.get(&format!("/api/assay/v1/jobs/{plain}/streams/autoinst-log.txt")).await;
    assert!(status == StatusCode::NOT_FOUND || log == "", "{status} {log}");
    let (_, page) = world.server.page(&format!("/jobs/{plain}")).await;
    assert!(
        page.contains("The logs and files were removed on") && page.contains("older than 10 days"),
        "{page}"
    );
    assert!(page.contains("It has been removed.") && !page.contains("The screenshots were"), "{page}");
    assert!(!page.contains("removed.jsonl"), "{page}");
    let left = world.clean(true, parent).await;
    assert!(left.iter().all(|said| said.ends_with("has not ended and builds on it")), "{left:?}");

    world.days_pass(5);
    assert_eq!(world.clean(false, plain).await[0], "-screenshots older than 15 days");
    assert!(!world.has(&own).await && world.has(&shared).await, "the other job has the same picture");
    let (_, page) = world.server.page(&format!("/jobs/{plain}")).await;
    for said in ["The logs and files were removed", "The screenshots were removed", "older than 15 days"] {
        assert!(page.contains(said), "{said}: {page}");
    }
    let (_, steps) = world.server.get(&format!("/api/assay/v1/jobs/{plain}/steps")).await;
    assert!(steps.to_string().contains("boot"), "{steps}");
    let kept = world.clean(true, important).await;
    assert_eq!(
        kept[..2],
        ["+logs it goes in 23 days, important (GM)", "+screenshots it goes in 33 days, important (GM)"]
    );

    world.days_pass(15);
    world.clean(false, plain).await;
    assert_eq!(world.server.get(&format!("/api/assay/v1/jobs/{plain}")).await.0, StatusCode::NOT_FOUND);
    assert!(world.has(&shared).await);
    world.days_pass(25);
    assert_eq!(world.clean(false, important).await[1], "-screenshots older than 50 days, important (GM)");
    assert!(!world.has(&shared).await);
    assert_eq!(world.clean(true, important).await, ["+job kept for ever, important (GM)"]);
    Ok(())
}
