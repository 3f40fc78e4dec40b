//! Limits of `assay.toml`.

use crate::common::Server;
use assay_engine::outcome::Outcome;
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
