//! The server is stopped or killed in the middle, or cannot start.

use crate::common::postgres::Database;
use crate::common::watched::{Halt, Watched};
use crate::common::{BEGINNING, Server};
use crate::openqa::{PRODUCT, catalog};
use crate::people::Key;
use assay_engine::ids::Timestamp;
use assay_engine::outcome::Outcome;
use assay_engine::work::WorkPhase;
use assay_proto::clock::ManualClock;
use assay_proto::worker::Stream;
use assay_server::ServerFile;
use reqwest::Method;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn a_killed_server_goes_on_where_it_was() -> anyhow::Result<()> {
    let server = Server::start().await;
    let waiting = server.post(serde_json::json!({"TEST": "later", "WORKER_CLASS": "other"})).await;
    let id = server.post_dummy().await;
    let mut worker = server.worker("w1").connect(&[]).await?;
    let held = worker.expect_assign().await?.held;
    worker.phase(held, WorkPhase::Running).await?;
    worker.append(held, Stream::Log, 0, b"before ").await?;
    worker.expect_acked(held.attempt, Stream::Log, 7).await?;
    server.until(id, "running", |job| job.state == "running").await;
    let old_tokens = server.handle.clone();

    let server = server.kill_and_restart().await;
    assert_eq!(server.handle.worker_token, old_tokens.worker_token);
    worker.expect_closed().await?;
    // The worker is away for a while; the leases began anew.
    server.pass(10).await;
    let job = server.job(id).await;
    assert_eq!((job.state.as_str(), job.attempts.len()), ("running", 1));
    let mut worker = server.worker("w1").connect(&[held]).await?;
    assert!(worker.verdicts[0].go_on);
    assert_eq!(worker.verdicts[0].offsets.get(&Stream::Log), Some(&7));
    worker.append(held, Stream::Log, 7, b"after").await?;
    worker.finish(held, Outcome::Passed, None).await?;
    worker.expect_finished_ack(held.attempt).await?;
    let job = server.finished(id).await;
    assert_eq!((job.result.as_str(), job.attempts.len()), ("passed", 1));
    assert_eq!(job.attempts[0].streams["autoinst-log.txt"], 12);
    let waiting = server.job(waiting).await;
    assert_eq!(waiting.state, "scheduled");
    assert!(waiting.reason.unwrap().contains("class other"));
    Ok(())
}

#[tokio::test]
async fn streams_that_were_not_closed_are_closed_at_the_next_start() -> anyhow::Result<()> {
    let server = Server::start().await;
    let mut ids = Vec::new();
    let mut worker = server.worker("w1").connect(&[]).await?;
    for _ in 0..5 {
        let id = server.post_dummy().await;
        let held = worker.expect_assign().await?.held;
        worker.append(held, Stream::Log, 0, &vec![b'x'; 100_000]).await?;
        worker.finish(held, Outcome::Passed, None).await?;
        worker.expect_finished_ack(held.attempt).await?;
        ids.push(id);
    }
    // Killed at an arbitrary moment of closing.
    let server = server.kill_and_restart().await;
    for &id in &ids {
        assert_eq!(server.finished(id).await.attempts[0].streams["autoinst-log.txt"], 100_000);
    }
    // What an orderly stop leaves open is closed at the next start, beside other work.
    let server = server.stop_and_restart().await;
    let emptied = async {
        while fs_err::read_dir(server.dir.join("spool")).unwrap().count() > 0 {
            server.job(ids[0]).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), emptied).await.expect("every stream becomes a blob");
    for &id in &ids {
        assert_eq!(server.job(id).await.attempts[0].streams["autoinst-log.txt"], 100_000);
    }
    Ok(())
}

#[tokio::test]
async fn a_worker_that_does_not_come_back_after_a_restart_is_lost() -> anyhow::Result<()> {
    let server = Server::start().await;
    let id = server.post_dummy().await;
    let mut worker = server.worker("w1").connect(&[]).await?;
    let held = worker.expect_assign().await?.held;
    worker.phase(held, WorkPhase::Running).await?;
    server.until(id, "running", |job| job.state == "running").await;
    let server = server.kill_and_restart().await;
    server.pass(20).await;
    let job = server.until(id, "lost", |job| job.state == "scheduled").await;
    assert_eq!(job.attempts[0].result, "incomplete");
    Ok(())
}

#[tokio::test]
async fn a_post_that_is_killed_is_there_as_a_whole_or_not_at_all() -> anyhow::Result<()> {
    for (halt, count) in [(Halt::Before, 0), (Halt::After, 2)] {
        let dir = tempfile::tempdir()?;
        killed_at_its_commit(halt, count, &format!("sqlite:{}", dir.path().join("jobs.db").display()))
            .await?;
        if let Some(database) = Database::new(&format!("killed_{count}")) {
            killed_at_its_commit(halt, count, &database.url).await?;
        }
    }
    Ok(())
}

async fn killed_at_its_commit(halt: Halt, count: usize, address: &str) -> anyhow::Result<()> {
    let watched = Arc::new(Watched::new(assay_store::open(address).await?));
    let given: Arc<dyn assay_store::Store> = watched.clone();
    let server = Server::start_with(|config| config.store = Some(given)).await;
    let admin = Key::make(&server, "a", "admin", None).await;
    catalog(&server, &admin).await;
    watched.halt(halt);
    let post = admin.ask(&server, Method::POST, "/api/v1/isos", &PRODUCT);
    tokio::select! {
        answer = post => panic!("nobody could know it yet, and yet: {answer:?}"),
        () = watched.halted() => {}
    }
    drop(watched);
    let again = assay_store::open(address).await?;
    let server = server.kill_and_restart_with(|config| config.store = Some(again)).await;
    let (_, jobs) = server.get("/api/v1/jobs").await;
    let (_, runs) = server.get("/api/assay/v1/products").await;
    let ids: Vec<_> = jobs["jobs"].as_array().unwrap().iter().map(|job| job["id"].clone()).collect();
    assert_eq!(ids.len(), count, "{address} {halt:?}: {jobs}");
    assert_eq!(runs["products"].as_array().map(Vec::len), Some(count / 2), "{address} {halt:?}: {runs}");
    if count > 0 {
        assert_eq!(runs["products"][0]["jobs"], serde_json::json!(ids));
    }
    // It goes on as if nothing had been.
    let (status, posted) = admin.ask(&server, Method::POST, "/api/v1/isos", &PRODUCT).await;
    assert_eq!((status, posted["count"].as_i64()), (200, Some(2)), "{address} {halt:?}: {posted}");
    Ok(())
}

#[tokio::test]
async fn two_servers_on_one_directory_or_port() -> anyhow::Result<()> {
    let server = Server::start().await;
    let clock = || Arc::new(ManualClock::new(Timestamp(BEGINNING)));
    let file = ServerFile::read(&server.dir)?.expect("the server says where it is");
    assert_eq!(file.url, server.handle.url);
    let error = Server::on(&server.dir, clock(), |_| {}).await.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains(&server.handle.url) && error.contains("--data"), "{error}");
    let other = tempfile::tempdir()?;
    let path = camino::Utf8PathBuf::try_from(other.path().to_owned())?;
    let address = server.handle.address;
    let error = Server::on(&path, clock(), |config| config.listen = address)
        .await
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(error.contains("--listen 127.0.0.1:0") && error.contains(&address.to_string()), "{error}");
    let unusable = "/proc/nowhere".into();
    let error =
        Server::on(camino::Utf8Path::new("/proc/nowhere"), clock(), |config| config.data = unusable).await;
    let error = error.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("/proc/nowhere") && error.contains("--data"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_lost_the_leadership_decides_nothing_more() -> anyhow::Result<()> {
    let mut server = Server::start().await;
    let other = assay_store::open(&format!("sqlite:{}", server.dir.join("assay.db"))).await?;
    other.acquire_leadership().await?;
    let body = serde_json::json!({"settings": {"TEST": "late"}});
    let asked = crate::common::client().post(server.url("/api/assay/v1/jobs")).json(&body);
    // It may have noticed before, and be on its way out.
    if let Ok(answer) = asked.bearer_auth(&server.handle.admin_token).send().await {
        assert_eq!(answer.status().as_u16(), 503);
    }
    let error = server.ended().await.unwrap_err().to_string();
    assert!(error.contains("another server"), "{error}");
    assert!(other.jobs(&assay_store::JobFilter::default()).await?.is_empty(), "nothing was stored");
    Ok(())
}

#[tokio::test]
async fn a_stopped_server_leaves_and_says_nothing_more() -> anyhow::Result<()> {
    let server = Server::start().await;
    let mut worker = server.worker("w1").connect(&[]).await?;
    let dir = server.dir.clone();
    let mut events = crate::common::client().get(server.url("/api/assay/v1/events")).send().await?;
    server.stop().await?;
    worker.expect_closed().await?;
    while events.chunk().await.ok().flatten().is_some() {}
    assert_eq!(ServerFile::read(&dir)?, None);
    Ok(())
}

#[tokio::test]
async fn what_a_dead_server_left_in_the_spool_goes_at_the_next_start() -> anyhow::Result<()> {
    let server = Server::start().await;
    let id = server.post_dummy().await;
    let mut worker = server.worker("w1").connect(&[]).await?;
    let held = worker.expect_assign().await?.held;
    worker.append(held, Stream::Log, 0, b"whole").await?;
    worker.finish(held, Outcome::Passed, None).await?;
    worker.expect_finished_ack(held.attempt).await?;
    let left = server.dir.join("spool").join(held.attempt.to_string());
    server.until(id, "streams closed", |_| !left.exists()).await;
    // As if it had died between storing the references and removing the files.
    fs_err::create_dir_all(&left)?;
    fs_err::write(left.join("autoinst-log.txt"), "whole")?;
    let server = server.stop_and_restart().await;
    assert!(!left.exists(), "its streams are blobs already");
    assert_eq!(server.job(id).await.attempts[0].streams["autoinst-log.txt"], 5);
    Ok(())
}

#[tokio::test]
async fn the_health_says_what_cannot_be_written() -> anyhow::Result<()> {
    let server = Server::start().await;
    let aside = server.dir.join("aside");
    for place in ["blobs/tmp", "spool"] {
        assert_eq!(server.page("/healthz").await, (reqwest::StatusCode::OK, "ok\n".to_owned()));
        fs_err::rename(server.dir.join(place), &aside)?;
        let (status, text) = server.page("/healthz").await;
        assert_eq!(status.as_u16(), 503, "{text}");
        assert!(text.contains(place) && text.contains("cannot be written"), "{text}");
        fs_err::rename(&aside, server.dir.join(place))?;
    }
    assert_eq!(server.page("/healthz").await.0, reqwest::StatusCode::OK);
    Ok(())
}
