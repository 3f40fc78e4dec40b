//! The thin thread: post a job, a worker takes it, streams, finishes; the API and the pages show it.

use crate::common::{Server, client, run};
use assay_engine::outcome::Outcome;
use assay_engine::work::WorkPhase;
use assay_proto::worker::Stream;
use assay_records::step::{ModuleResult, StepResult};
use reqwest::StatusCode;

#[tokio::test]
async fn a_job_from_its_post_to_its_page() -> anyhow::Result<()> {
    let server = Server::start().await;
    let id = server.post_dummy().await;
    let waiting = server.job(id).await;
    assert_eq!((waiting.state.as_str(), waiting.result.as_str()), ("scheduled", "none"));
    assert!(waiting.reason.unwrap().contains("assay worker"), "a waiting job says why");

    let mut worker = server.worker("w1").connect(&[]).await?;
    let assigned = worker.expect_assign().await?;
    assert_eq!((assigned.job.0, assigned.name.as_str()), (id, "hello"));
    assert_eq!(assigned.settings["BACKEND"], "dummy");
    let held = assigned.held;
    worker.phase(held, WorkPhase::Setup).await?;
    worker.phase(held, WorkPhase::Running).await?;
    let shot = server.put_blob(&run::screen(1, 8)).await;
    let steps = run::lines(&[
        run::plan(&["boot", "shell"]),
        run::environment(),
        run::started("boot", 10),
        run::found("boot", 1, "grub", &shot, run::hit("grub-menu", 1.0, true, None, None)),
        run::ended("boot", ModuleResult::Passed, 900, 890),
        run::started("shell", 1000),
    ]);
    let length = worker.append(held, Stream::Steps, 0, &steps).await?;
    worker.expect_acked(held.attempt, Stream::Steps, length).await?;
    let job = server.until(id, "running with progress", |job| job.state == "running").await;
    let progress = job.progress.expect("steps have come");
    assert_eq!((progress.module.as_deref(), progress.begun, progress.modules), (Some("shell"), 2, 2));
    let (_, page) = server.page("/").await;
    assert!(page.contains("shell (2 of 2)"), "the list shows how far it is");
    let (_, page) = server.page(&format!("/jobs/{id}")).await;
    assert!(page.contains("live.png-stream") && page.contains(&shot), "{page}");

    let rest = run::lines(&[
        run::text("shell", 1, "hello <b>", "all's well & good", StepResult::Ok),
        run::ended("shell", ModuleResult::Passed, 2000, 1000),
    ]);
    let length = worker.append(held, Stream::Steps, length, &rest).await?;
    worker.append(held, Stream::Log, 0, b"did it\n").await?;
    worker.append(held, Stream::Serial0, 0, b"\x1b[1mlogin:\x1b[0m\r\n").await?;
    worker.phase(held, WorkPhase::Uploading).await?;
    server.pass(4).await;
    worker.finish(held, Outcome::Passed, None).await?;
    worker.expect_finished_ack(held.attempt).await?;

    let job = server.finished(id).await;
    assert_eq!((job.state.as_str(), job.result.as_str(), job.reason), ("done", "passed", None));
    assert_eq!(job.worker.as_deref(), Some("w1"));
    assert_eq!(job.attempts[0].streams["steps.jsonl"], length);
    let (status, page) = server.page(&format!("/jobs/{id}")).await;
    assert_eq!(status, StatusCode::OK);
    for part in [
        "passed",
        "hello &#60;b&#62;",
        "all&#39;s well &#38; good",
        "did it",
        "login:",
        "accelerator",
        "assay run",
    ] {
        assert!(page.contains(part), "the page lacks {part:?}");
    }
    assert!(!page.contains("live.png-stream") && !page.contains('\x1b'));
    let (status, page) = server.page(&format!("/jobs/{id}/steps/boot/1")).await;
    assert_eq!(status, StatusCode::OK);
    for part in ["100 %", "grub-menu (matched)", "tests/boot.star:7", "rel=\"next\""] {
        assert!(page.contains(part), "the step's page lacks {part:?}");
    }
    let (_, steps) = server.get(&format!("/api/assay/v1/jobs/{id}/steps")).await;
    assert_eq!(steps.as_array().map(Vec::len), Some(8));
    let blob = client().get(server.url(&format!("/api/assay/v1/blobs/{shot}"))).send().await?;
    assert_eq!(blob.headers()["content-type"], "image/png");
    assert_eq!(blob.bytes().await?.to_vec(), run::screen(1, 8));
    Ok(())
}
