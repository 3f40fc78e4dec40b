//! The worker protocol: reconnections, resumes, duplicates, fencing, loss.

use crate::common::{Server, client, run, sha256};
use assay_engine::ids::{AttemptId, FencingToken};
use assay_engine::outcome::Outcome;
use assay_engine::work::{Held, WorkPhase};
use assay_fakes::{Assigned, Connection, Refused};
use assay_proto::worker::{Stream, ToServer};
use reqwest::StatusCode;

/// A job on its worker, running.
async fn running(server: &Server) -> anyhow::Result<(i64, Connection, Held)> {
    let id = server.post_dummy().await;
    let mut worker = server.worker("w1").connect(&[]).await?;
    let Assigned { held, .. } = worker.expect_assign().await?;
    worker.phase(held, WorkPhase::Setup).await?;
    worker.phase(held, WorkPhase::Running).await?;
    server.until(id, "running", |job| job.state == "running").await;
    Ok((id, worker, held))
}

async fn log_of(server: &Server, id: i64, attempt: u32) -> String {
    let path = format!("/api/assay/v1/jobs/{id}/streams/autoinst-log.txt?attempt={attempt}");
    let response = client().get(server.url(&path)).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response.text().await.unwrap()
}

#[tokio::test]
async fn a_worker_comes_back_and_goes_on_where_the_server_stands() -> anyhow::Result<()> {
    let server = Server::start().await;
    let (id, mut worker, held) = running(&server).await?;
    worker.append(held, Stream::Log, 0, b"one two ").await?;
    worker.expect_acked(held.attempt, Stream::Log, 8).await?;
    worker.vanish();
    let mut worker = server.worker("w1").connect(&[held]).await?;
    let verdict = &worker.verdicts[0];
    assert!(verdict.go_on);
    assert_eq!(verdict.offsets.get(&Stream::Log), Some(&8));
    // Sent again from the beginning, with what is new: nothing is doubled.
    worker.append(held, Stream::Log, 0, b"one two three").await?;
    worker.expect_acked(held.attempt, Stream::Log, 13).await?;
    worker.append(held, Stream::Log, 4, b"two").await?;
    worker.expect_acked(held.attempt, Stream::Log, 13).await?;
    worker.finish(held, Outcome::Passed, None).await?;
    worker.expect_finished_ack(held.attempt).await?;
    let job = server.finished(id).await;
    assert_eq!((job.attempts.len(), job.result.as_str()), (1, "passed"));
    assert_eq!(log_of(&server, id, 1).await, "one two three");
    Ok(())
}

#[tokio::test]
async fn a_gap_is_refused_with_the_offset_that_is_wanted() -> anyhow::Result<()> {
    let server = Server::start().await;
    let (_, mut worker, held) = running(&server).await?;
    worker.append(held, Stream::Log, 0, b"12345").await?;
    worker.expect_acked(held.attempt, Stream::Log, 5).await?;
    worker.append(held, Stream::Log, 9, b"x").await?;
    match worker.expect_refused().await? {
        Refused::Message { reason, retry: true } => assert!(reason.contains("send from 5 on"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let worker = server.worker("w1").connect(&[held]).await?;
    assert_eq!(worker.verdicts[0].offsets.get(&Stream::Log), Some(&5));
    Ok(())
}

#[tokio::test]
async fn the_end_is_acknowledged_as_often_as_it_is_told() -> anyhow::Result<()> {
    let server = Server::start().await;
    let (id, mut worker, held) = running(&server).await?;
    worker.append(held, Stream::Log, 0, b"all").await?;
    worker.finish(held, Outcome::Failed, Some("module shell failed")).await?;
    worker.expect_finished_ack(held.attempt).await?;
    worker.finish(held, Outcome::Passed, None).await?;
    worker.expect_finished_ack(held.attempt).await?;
    worker.vanish();
    // As if the acknowledgement had been lost: the worker still holds it.
    let mut worker = server.worker("w1").connect(&[held]).await?;
    assert!(!worker.verdicts[0].go_on);
    worker.expect_finished_ack(held.attempt).await?;
    let job = server.finished(id).await;
    assert_eq!((job.result.as_str(), job.reason.as_deref()), ("failed", Some("module shell failed")));
    Ok(())
}

#[tokio::test]
async fn a_lost_worker_costs_its_attempt_and_late_writes_are_refused() -> anyhow::Result<()> {
    let server = Server::start().await;
    let (id, mut worker, held) = running(&server).await?;
    worker.append(held, Stream::Log, 0, b"before\n").await?;
    worker.expect_acked(held.attempt, Stream::Log, 7).await?;
    worker.vanish();
    server.pass(20).await;
    let job = server.until(id, "waiting again", |job| job.state == "scheduled").await;
    assert_eq!(job.attempts[0].result, "incomplete");
    let reason = job.attempts[0].reason.clone().unwrap();
    assert!(reason.contains("no sign of life") && reason.contains("attempt 2"), "{reason}");

    let mut second = server.worker("w2").connect(&[]).await?;
    let again = second.expect_assign().await?;
    assert_eq!(again.held.attempt.number, 2);
    assert!(again.held.token > held.token);
    second.phase(again.held, WorkPhase::Running).await?;

    // The first one wakes up.
    let mut late = server.worker("w1").connect(&[held]).await?;
    assert!(!late.verdicts[0].go_on);
    late.append(held, Stream::Log, 7, b"late\n").await?;
    late.expect_fenced(held).await?;
    late.finish(held, Outcome::Passed, None).await?;
    late.expect_fenced(held).await?;
    // Nor may it write under the other's attempt.
    let stolen = Held { attempt: again.held.attempt, token: held.token };
    late.append(stolen, Stream::Log, 0, b"stolen").await?;
    late.expect_fenced(stolen).await?;

    second.append(again.held, Stream::Log, 0, b"second\n").await?;
    second.finish(again.held, Outcome::Passed, None).await?;
    second.expect_finished_ack(again.held.attempt).await?;
    let job = server.finished(id).await;
    assert_eq!((job.result.as_str(), job.worker.as_deref()), ("passed", Some("w2")));
    assert_eq!(log_of(&server, id, 1).await, "before\n");
    assert_eq!(log_of(&server, id, 2).await, "second\n");
    let (_, page) = server.page(&format!("/jobs/{id}")).await;
    assert!(
        page.contains("Attempt 1") && page.contains("no sign of life"),
        "the page tells of the lost attempt"
    );
    Ok(())
}

#[tokio::test]
async fn a_job_that_loses_its_worker_twice_ends_incomplete() -> anyhow::Result<()> {
    let server = Server::start().await;
    let (id, worker, _) = running(&server).await?;
    worker.vanish();
    server.pass(20).await;
    let mut second = server.worker("w2").connect(&[]).await?;
    let held = second.expect_assign().await?.held;
    second.phase(held, WorkPhase::Running).await?;
    // A phase that were heard only after the time has passed would be a sign of life.
    server.until(id, "running again", |job| job.state == "running").await;
    second.vanish();
    server.pass(20).await;
    let job = server.finished(id).await;
    assert_eq!((job.result.as_str(), job.attempts.len()), ("incomplete", 2));
    assert!(job.reason.unwrap().contains("not retried again"), "says that there is no third");
    Ok(())
}

#[tokio::test]
async fn a_second_process_of_one_name_is_turned_away_for_the_time_being() -> anyhow::Result<()> {
    let server = Server::start().await;
    let first = server.worker("w1");
    let connection = first.connect(&[]).await?;
    match first.another_process("w1/2").try_connect(&[]).await? {
        Err(Refused::Message { reason, retry: true }) => {
            assert!(reason.contains("fake.example") && reason.contains("--name"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    // The same process may connect again; the newer connection counts.
    let newer = first.connect(&[]).await?;
    let mut older = connection;
    older.expect_closed().await?;
    newer.vanish();
    Ok(())
}

#[tokio::test]
async fn hello_is_checked() -> anyhow::Result<()> {
    let server = Server::start().await;
    let good = server.worker("w1");
    let mut other_version = good.clone();
    other_version.protocol = 99;
    match other_version.try_connect(&[]).await? {
        Err(Refused::Message { reason, retry: false }) => {
            assert!(reason.contains("speaks version 1") && reason.contains("99"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let mut nameless = good.clone();
    nameless.name = "no good name".into();
    assert!(matches!(nameless.try_connect(&[]).await?, Err(Refused::Message { retry: false, .. })));
    let mut idle = good.clone();
    idle.slots = 0;
    assert!(matches!(idle.try_connect(&[]).await?, Err(Refused::Message { retry: false, .. })));
    let mut stranger = good.clone();
    stranger.token = "0".repeat(64);
    assert_eq!(stranger.try_connect(&[]).await?.unwrap_err(), Refused::Status(401));
    let mut admin = good.clone();
    admin.token.clone_from(&server.handle.admin_token);
    assert_eq!(admin.try_connect(&[]).await?.unwrap_err(), Refused::Status(401));

    let mut early = good.open().await?.expect("the token is good");
    early.heartbeat(&[]).await?;
    match early.expect_refused().await? {
        Refused::Message { reason, .. } => assert!(reason.contains("hello"), "{reason}"),
        other @ Refused::Status(_) => panic!("{other:?}"),
    }
    Ok(())
}

#[tokio::test]
async fn nonsense_ends_the_connection_with_a_sentence_and_costs_nothing_else() -> anyhow::Result<()> {
    let server = Server::start().await;
    let (id, mut worker, held) = running(&server).await?;
    let nonsense = ["what?", "{}", r#"{"type":"dance"}"#, "[1,2", "\u{0}"];
    for text in nonsense {
        worker.send_text(text).await?;
        match worker.expect_refused().await? {
            Refused::Message { reason, retry: true } => {
                assert!(reason.contains("cannot be read"), "{reason}");
            }
            other => panic!("{text}: {other:?}"),
        }
        worker = server.worker("w1").connect(&[held]).await?;
        assert!(worker.verdicts[0].go_on, "{text}");
    }
    worker.send_binary(vec![1, 2, 3]).await?;
    assert!(matches!(worker.expect_refused().await?, Refused::Message { retry: true, .. }));
    let mut worker = server.worker("w1").connect(&[held]).await?;
    worker.send(&ToServer::Append { held, stream: Stream::Log, offset: 0, data: "&&&".into() }).await?;
    assert!(matches!(worker.expect_refused().await?, Refused::Message { retry: true, .. }));
    // Over 1 MiB: the server does not read it to its end.
    let mut worker = server.worker("w1").connect(&[held]).await?;
    let _ = worker.send_text(&"x".repeat(1_100_000)).await;
    worker.expect_closed().await?;
    let mut worker = server.worker("w1").connect(&[held]).await?;
    worker.finish(held, Outcome::Passed, None).await?;
    worker.expect_finished_ack(held.attempt).await?;
    assert_eq!(server.finished(id).await.attempts.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_token_that_never_was_is_fenced() -> anyhow::Result<()> {
    let server = Server::start().await;
    let mut worker = server.worker("w1").connect(&[]).await?;
    let held = Held { attempt: "77.1".parse::<AttemptId>().unwrap(), token: FencingToken(5) };
    worker.append(held, Stream::Log, 0, b"x").await?;
    worker.expect_fenced(held).await?;
    worker.phase(held, WorkPhase::Running).await?;
    worker.expect_fenced(held).await?;
    worker.heartbeat(&[held]).await?;
    worker.expect_fenced(held).await?;
    Ok(())
}

#[tokio::test]
async fn a_running_job_is_cancelled_by_its_worker() -> anyhow::Result<()> {
    let server = Server::start().await;
    let (id, mut worker, held) = running(&server).await?;
    let path = format!("/api/assay/v1/jobs/{id}/cancel");
    let (status, body) =
        server.ask(reqwest::Method::POST, &path, Some(serde_json::json!({"by": "ada"}))).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(worker.expect_cancel(held).await?.contains("ada"));
    worker.append(held, Stream::Log, 0, b"stopped\n").await?;
    worker.finish(held, Outcome::UserCancelled, Some("cancelled by ada")).await?;
    worker.expect_finished_ack(held.attempt).await?;
    let job = server.finished(id).await;
    assert_eq!((job.result.as_str(), job.reason.as_deref()), ("user_cancelled", Some("cancelled by ada")));
    assert_eq!(log_of(&server, id, 1).await, "stopped\n");
    Ok(())
}

#[tokio::test]
async fn pictures_come_only_while_somebody_watches() -> anyhow::Result<()> {
    let server = Server::start().await;
    let (id, mut worker, held) = running(&server).await?;
    let path = format!("/jobs/{id}/live.png-stream");
    let mut watching = client().get(server.url(&path)).send().await?;
    assert!(watching.headers()["content-type"].to_str()?.starts_with("multipart/x-mixed-replace"));
    worker.expect_watch(held.attempt, true).await?;
    let png = run::screen(1, 3);
    worker.screen(held, &png).await?;
    let mut seen = Vec::new();
    while !seen.ends_with(b"--assay-screen\r\n") || seen.len() < png.len() {
        seen.extend(watching.chunk().await?.expect("the stream goes on"));
    }
    assert!(seen.windows(png.len()).any(|part| part == png));
    drop(watching);
    worker.expect_watch(held.attempt, false).await?;
    // A worker that comes back hears of those who watch.
    let again = client().get(server.url(&path)).send().await?;
    worker.expect_watch(held.attempt, true).await?;
    worker.vanish();
    let mut worker = server.worker("w1").connect(&[held]).await?;
    worker.expect_watch(held.attempt, true).await?;
    worker.finish(held, Outcome::Passed, None).await?;
    worker.expect_finished_ack(held.attempt).await?;
    again.bytes().await?;
    server.finished(id).await;
    assert_eq!(server.page(&path).await.0, StatusCode::GONE);
    Ok(())
}

#[tokio::test]
async fn a_log_is_followed_to_its_end() -> anyhow::Result<()> {
    let server = Server::start().await;
    let (id, mut worker, held) = running(&server).await?;
    worker.append(held, Stream::Log, 0, b"begin ").await?;
    worker.expect_acked(held.attempt, Stream::Log, 6).await?;
    let path = format!("/api/assay/v1/jobs/{id}/streams/autoinst-log.txt?follow=1");
    let mut follow = client().get(server.url(&path)).send().await?;
    assert_eq!(follow.chunk().await?.as_deref(), Some(&b"begin "[..]));
    let large = vec![b'x'; 200_000];
    worker.append(held, Stream::Log, 6, &large).await?;
    worker.finish(held, Outcome::Passed, None).await?;
    assert_eq!(follow.bytes().await?.len(), large.len());
    Ok(())
}

#[tokio::test]
async fn blobs_are_checked_and_kept_once() -> anyhow::Result<()> {
    let server = Server::start().await;
    let bytes = run::screen(4, 4);
    let sha = sha256(&bytes);
    let at = server.url(&format!("/worker/v1/blobs/{sha}"));
    let token = &server.handle.worker_token;
    let status = |response: reqwest::Response| response.status().as_u16();
    let head = || client().head(&at).bearer_auth(token).send();
    let put = |body: Vec<u8>| client().put(&at).bearer_auth(token).body(body).send();
    assert_eq!(status(head().await?), 404);
    assert_eq!(status(put(b"something else".to_vec()).await?), 422);
    assert_eq!(status(head().await?), 404, "what has another hash is not kept");
    assert_eq!(status(put(bytes.clone()).await?), 201);
    assert_eq!(status(put(bytes.clone()).await?), 200);
    assert_eq!(status(head().await?), 200);
    assert_eq!(client().get(&at).bearer_auth(token).send().await?.bytes().await?.to_vec(), bytes);
    for wrong in ["x", "../../tokens/admin", &sha.to_uppercase(), &sha[1..]] {
        let at = server.url(&format!("/worker/v1/blobs/{}", wrong.replace('/', "%2F")));
        assert_eq!(status(client().put(at).bearer_auth(token).body("x").send().await?), 400, "{wrong}");
    }
    let admin = client().put(&at).bearer_auth(&server.handle.admin_token).body(bytes).send().await?;
    assert_eq!(status(admin), 401, "blobs are the workers'");
    Ok(())
}
