//! Limits of `assay.toml`, and what does not fit on a worker's disks.

use crate::common::Server;
use assay_engine::outcome::Outcome;
use assay_proto::worker::Room;
use serde_json::json;

#[tokio::test]
async fn a_semaphore_keeps_the_second_job_waiting_also_after_a_kill() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = camino::Utf8PathBuf::from_path_buf(dir.path().join("assay.toml")).unwrap();
    fs_err::write(&file, "[limits.semaphores]\nlicenses = 2\n")?;
    let server = Server::start_with(|config| config.config = Some(file.clone())).await;
    let mut worker = server.worker("w");
    worker.slots = 5;
    let mut connection = worker.connect(&[]).await?;
    let job = || json!({"TEST": "t", "BACKEND": "dummy", "SEMAPHORES": "licenses"});
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(server.post(job()).await);
    }
    let first = connection.expect_assign().await?.held;
    let second = connection.expect_assign().await?.held;
    let why = server.job(ids[2]).await.reason.unwrap_or_default();
    assert!(why.starts_with("no more than 2 jobs with semaphore licenses may run at once"), "{why}");
    let server = server.kill_and_restart_with(|config| config.config = Some(file)).await;
    let mut worker = server.worker("w");
    worker.slots = 5;
    let mut connection = worker.connect(&[first, second]).await?;
    let why = server.job(ids[2]).await.reason.unwrap_or_default();
    assert!(why.starts_with("no more than 2 jobs with semaphore licenses may run at once"), "{why}");
    connection.finish(first, Outcome::Passed, None).await?;
    assert_eq!(connection.expect_assign().await?.held.attempt.job.0, ids[2]);
    Ok(())
}

#[tokio::test]
async fn a_job_waits_for_a_disk_that_can_hold_it() -> anyhow::Result<()> {
    let server = Server::start().await;
    let room = |gib: u64| Room { pool: gib << 30, cache: gib << 30, shared: true };
    let mut worker = server.worker("w");
    (worker.slots, worker.disk) = (5, Some(room(30)));
    let mut connection = worker.connect(&[]).await?;
    let blank = |gib: &str| json!({"TEST": "t", "WORKER_CLASS": "dummy", "NUMDISKS": "1", "HDDSIZEGB": gib});
    let large = server.post(blank("40")).await;
    let small = server.post(blank("20")).await;
    let held = connection.expect_assign().await?.held;
    assert_eq!(held.attempt.job.0, small, "what fits goes past what does not");
    let told = "needs 40.0 GiB of disk for its assets and blank disks, and host fake.example, which has most, has 30.0 GiB left";
    let why = server.job(large).await.reason.unwrap_or_default();
    assert!(why.starts_with(told), "{why}");
    // After a kill the reason is there before any worker is; then its disk has more room.
    let server = server.kill_and_restart().await;
    assert_eq!(server.job(large).await.reason, Some(why));
    let mut worker = server.worker("w");
    (worker.slots, worker.disk) = (5, Some(room(30)));
    let mut connection = worker.connect(&[held]).await?;
    connection.heartbeat_with(&[held], room(59)).await?;
    connection.heartbeat_with(&[held], room(60)).await?;
    let held = connection.expect_assign().await?.held;
    assert_eq!(held.attempt.job.0, large);

    // An asset counts as soon as it is there, also after a restart.
    server.publish("five.iso", &vec![7; 5 << 20]).await;
    let reader = server.post(json!({"TEST": "t", "WORKER_CLASS": "other", "ISO": "five.iso"})).await;
    let server = server.kill_and_restart().await;
    let mut worker = server.worker("v");
    (worker.classes, worker.host) = (vec!["other".into()], "b.example".into());
    worker.disk = Some(Room { pool: 60 << 30, cache: 4 << 20, shared: false });
    let mut connection = worker.connect(&[]).await?;
    let why = server.job(reader).await.reason.unwrap_or_default();
    assert!(
        why.starts_with("needs 5 MiB of disk")
            && why.contains("host b.example, which has most, has 4 MiB left"),
        "{why}"
    );
    connection.heartbeat_with(&[], Room { pool: 0, cache: 5 << 20, shared: false }).await?;
    assert_eq!(connection.expect_assign().await?.held.attempt.job.0, reader);
    Ok(())
}
