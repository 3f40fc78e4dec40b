//! `/api/assay/v1`.

use crate::common::{Server, client};
use assay_engine::outcome::Outcome;
use assay_proto::api::{JobList, WorkerList};
use assay_proto::worker::Stream;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const JOBS: &str = "/api/assay/v1/jobs";

#[tokio::test]
async fn jobs_are_made_all_or_none() {
    let server = Server::start().await;
    let good = json!({"settings": {"TEST": "a"}});
    let cases = [
        (json!([good, {"settings": {}}]), "job 2"),
        (json!([good, {"settings": {"TEST": 5}}]), "Job 2"),
        (json!([good, {"setings": {"TEST": "a"}}]), "setings"),
        (json!([]), "no job"),
        (json!("x"), "Job 1"),
        (json!([good, {"settings": {"TEST": "a", "bad key": "v"}}]), "bad key"),
        (json!([good, {"settings": {"TEST": "a\u{0}"}}]), "NUL"),
    ];
    for (body, want) in cases {
        let (status, answer) = server.ask(Method::POST, JOBS, Some(body.clone())).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {answer}");
        let error = answer["error"].as_str().unwrap().to_lowercase();
        assert!(error.contains(&want.to_lowercase()), "{body}: {answer}");
        assert!(!answer["help"].as_str().unwrap().is_empty());
    }
    let not_json =
        client().post(server.url(JOBS)).bearer_auth(&server.handle.admin_token).body("{\"a\":").send().await;
    assert_eq!(not_json.unwrap().status(), StatusCode::BAD_REQUEST);
    let large = json!([{"settings": {"TEST": "a", "X": "y".repeat(9_000_000)}}]);
    assert_eq!(server.ask(Method::POST, JOBS, Some(large)).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let (_, list) = server.get(JOBS).await;
    assert_eq!(list["jobs"], json!([]), "nothing was made of any of these");

    let body =
        json!([{"settings": {"TEST": "a", "NOTE": "grün ✓"}}, {"settings": {"TEST": "b"}, "priority": 7}]);
    let (status, answer) = server.ask(Method::POST, JOBS, Some(body)).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(answer["jobs"].as_array().unwrap().len(), 2);
    let first = server.job(answer["jobs"][0]["id"].as_i64().unwrap()).await;
    assert_eq!(first.settings["NOTE"].value, "grün ✓");
    assert_eq!(
        (first.settings["NOTE"].from.as_str(), first.settings["WORKER_CLASS"].from.as_str()),
        ("request", "default")
    );
    assert_eq!(server.job(answer["jobs"][1]["id"].as_i64().unwrap()).await.priority, 7);
}

#[tokio::test]
async fn what_is_not_there_is_said_so() {
    let server = Server::start().await;
    server.post_dummy().await;
    let cases = [
        ("/api/assay/v1/jobs/99", 404),
        ("/api/assay/v1/jobs/x", 404),
        ("/api/assay/v1/jobs/-1", 404),
        ("/api/assay/v1/jobs/99999999999999999999999", 404),
        ("/api/assay/v1/jobs/1/steps", 404),
        ("/api/assay/v1/jobs/1/streams/shadow", 404),
        ("/api/assay/v1/jobs/1/streams/..%2F..%2Ftokens%2Fadmin", 404),
        ("/api/assay/v1/jobs/99/wait", 404),
        ("/api/assay/v1/jobs/1/wait?timeout=NaN", 400),
        ("/api/assay/v1/jobs/1/wait?timeout=-1", 400),
        ("/api/assay/v1/jobs?state=sleeping", 400),
        ("/api/assay/v1/jobs?result=bad", 400),
        ("/api/assay/v1/jobs?limit=x", 400),
        ("/api/assay/v1/blobs/zz", 400),
        ("/api/assay/v1/nothing", 404),
        ("/jobs/99", 404),
        ("/jobs/x", 404),
        ("/jobs/1/steps/boot/1", 404),
        ("/jobs/1?attempt=3", 404),
        ("/tests?state=sleeping", 400),
        ("/nowhere", 404),
    ];
    for (path, want) in cases {
        let (status, answer) = server.get(path).await;
        assert_eq!(status.as_u16(), want, "{path}: {answer}");
    }
    let (status, answer) = server.ask(Method::POST, "/api/assay/v1/jobs/99/cancel", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{answer}");
}

#[tokio::test]
async fn every_refusal_has_an_error_and_a_remedy() {
    let server = Server::start().await;
    server.post_dummy().await;
    let long = json!({"text": "x".repeat(9_000_000)});
    let cases = [
        (Method::POST, "/jobs/1/comments", Some(long.clone()), 413),
        (Method::POST, "/jobs", Some(long), 413),
        (Method::GET, "/hooks/nobody", None, 405),
        (Method::PUT, "/jobs", None, 405),
        (Method::DELETE, "/jobs/1/comments", None, 405),
        (Method::GET, "/jobs?limit=x", None, 400),
        (Method::GET, "/jobs/%FF", None, 400),
        (Method::GET, "/nothing", None, 404),
    ];
    for (method, path, body, want) in cases {
        let request = client().request(method.clone(), server.url(&format!("/api/assay/v1{path}")));
        let request = request.bearer_auth(&server.handle.admin_token).json(&body);
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.unwrap();
        assert_eq!(status, want, "{method} {path}: {text}");
        assert_eq!(headers["content-type"], "application/json", "{method} {path}: {text}");
        assert_eq!(headers.contains_key("allow"), want == 405, "{method} {path}: {headers:?}");
        let told: Value = serde_json::from_str(&text).unwrap();
        let is_said = |name: &str| told[name].as_str().is_some_and(|text| !text.is_empty());
        assert!(is_said("error") && is_said("help"), "{method} {path}: {told}");
    }
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_once() {
    let server = Server::start().await;
    let id = server.post_dummy().await;
    for _ in 0..2 {
        let (status, job) = server.ask(Method::POST, &format!("{JOBS}/{id}/cancel"), None).await;
        assert_eq!(status, StatusCode::OK, "{job}");
        assert_eq!(
            (job["state"].as_str(), job["result"].as_str()),
            (Some("cancelled"), Some("user_cancelled"))
        );
    }
}

#[tokio::test]
async fn waiting_ends_with_the_job_or_the_time() -> anyhow::Result<()> {
    let server = Server::start().await;
    let id = server.post_dummy().await;
    let (status, job) = server.get(&format!("{JOBS}/{id}/wait?timeout=0")).await;
    assert_eq!((status, job["state"].as_str()), (StatusCode::OK, Some("scheduled")));
    let mut worker = server.worker("w1").connect(&[]).await?;
    let held = worker.expect_assign().await?.held;
    let (job, sent) =
        tokio::join!(server.finished(id), worker.finish(held, Outcome::Softfailed, Some("known")));
    sent?;
    assert_eq!((job.result.as_str(), job.reason.as_deref()), ("softfailed", Some("known")));
    Ok(())
}

#[tokio::test]
async fn streams_come_in_parts() -> anyhow::Result<()> {
    let server = Server::start().await;
    let id = server.post_dummy().await;
    let mut worker = server.worker("w1").connect(&[]).await?;
    let held = worker.expect_assign().await?.held;
    let bytes: Vec<u8> = (0..150_000u32).map(|n| (n % 251) as u8).collect();
    worker.append(held, Stream::Serial0, 0, &bytes).await?;
    worker.expect_acked(held.attempt, Stream::Serial0, 150_000).await?;
    let path = server.url(&format!("{JOBS}/{id}/streams/serial0.txt"));
    let part = async |range: &str| {
        let response = client().get(&path).header("range", range).send().await.unwrap();
        let place = response.headers().get("content-range").map(|place| place.to_str().unwrap().to_owned());
        (response.status().as_u16(), place, response.bytes().await.unwrap().to_vec())
    };
    for closed in [false, true] {
        if closed {
            worker.finish(held, Outcome::Passed, None).await?;
            worker.expect_finished_ack(held.attempt).await?;
        }
        assert_eq!(client().get(&path).send().await?.bytes().await?.to_vec(), bytes, "closed: {closed}");
        let (status, place, got) = part("bytes=70000-139999").await;
        assert_eq!((status, place.as_deref()), (206, Some("bytes 70000-139999/150000")));
        assert_eq!(got, bytes[70_000..140_000]);
        assert_eq!(part("bytes=-5").await.2, bytes[149_995..]);
        let (status, place, _) = part("bytes=150000-").await;
        assert_eq!((status, place.as_deref()), (416, Some("bytes */150000")));
    }
    Ok(())
}

#[tokio::test]
async fn ten_thousand_jobs_are_listed_page_by_page() {
    let server = Server::start().await;
    for batch in 0..4 {
        let job = |n: usize| json!({"settings": {"TEST": format!("test{}", batch * 2500 + n)}});
        let body = Value::Array((0..2500).map(job).collect());
        let (status, answer) = server.ask(Method::POST, JOBS, Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
    }
    let mut seen = Vec::new();
    let mut path = format!("{JOBS}?limit=500");
    loop {
        let (status, body) = server.get(&path).await;
        assert_eq!(status, StatusCode::OK);
        let list: JobList = serde_json::from_value(body).unwrap();
        assert!(list.jobs.len() <= 500);
        seen.extend(list.jobs.iter().map(|job| job.id.0));
        match list.next_before {
            Some(before) => path = format!("{JOBS}?limit=500&before={before}"),
            None => break,
        }
    }
    assert_eq!(seen, (1..=10_000).rev().collect::<Vec<_>>());
    let (_, found) = server.get(&format!("{JOBS}?q=TEST9999")).await;
    assert_eq!(found["jobs"].as_array().map(Vec::len), Some(1));
    let (_, capped) = server.get(&format!("{JOBS}?limit=100000")).await;
    assert_eq!(capped["jobs"].as_array().map(Vec::len), Some(500));
    let (status, page) = server.page("/").await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.len() < 100_000, "the front page stays small: {} bytes", page.len());
    assert!(page.contains("/tests?state=scheduled"));
}

#[tokio::test]
async fn workers_are_listed_with_what_they_do() -> anyhow::Result<()> {
    let server = Server::start().await;
    let id = server.post_dummy().await;
    let mut worker = server.worker("w1").connect(&[]).await?;
    worker.expect_assign().await?;
    let workers = async || {
        let (_, body) = server.get("/api/assay/v1/workers").await;
        serde_json::from_value::<WorkerList>(body).unwrap().workers
    };
    let list = workers().await;
    assert_eq!((list.len(), list[0].online, list[0].jobs[0].0), (1, true, id));
    let (_, metrics) = server.get("/metrics").await;
    let metrics = metrics.as_str().unwrap().to_owned();
    for line in ["assay_jobs{state=\"assigned\"} 1", "assay_workers_online 1", "assay_slots_busy 1"] {
        assert!(metrics.contains(line), "{metrics}");
    }
    assert_eq!(server.get("/healthz").await.1, Value::String("ok\n".into()));
    Ok(())
}
