//! A server with jobs of every kind on its pages and a gate full of changes, for looking at the pages while working on
//! them: `cargo run -p assay-server --example showcase -- 127.0.0.1:9530 500`

#[path = "../tests/server/common/gated.rs"]
mod gated;
#[path = "../tests/server/common/run.rs"]
mod run;

use anyhow::Context;
use assay_engine::outcome::Outcome;
use assay_engine::work::WorkPhase;
use assay_fakes::{Assigned, Connection, ScriptedWorker};
use assay_proto::clock::{Clock as _, SystemClock};
use assay_proto::worker::Stream;
use assay_records::step::{ModuleResult, StepResult};
use assay_server::{ServerConfig, ServerHandle, serve};
use serde_json::json;
use sha2::Digest as _;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9530".into());
    let dir = tempfile::tempdir()?;
    let place = camino::Utf8PathBuf::try_from(dir.path().to_owned())?;
    let path = place.join("data");
    let count = std::env::args().nth(2).map_or(Ok(40), |count| count.parse())?;
    let scene = gated::Scene { count, worker: true, now: SystemClock.now() };
    let file = gated::prepare(&place, &path, &scene).await;
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let mut config = ServerConfig::new(path, listen.parse()?);
    config.ready = Some(ready);
    config.config = Some(file);
    // The worker of the gate's builds never comes back.
    config.timing.lease_us *= 1000;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { serve(config, CancellationToken::new()).await.map_err(anyhow::Error::from) });
    let Ok(server) = is_ready.await else {
        return tasks.join_next().await.context("the server ended")??;
    };
    eprintln!("{}", server.url);
    tasks.spawn(fill(server));
    tokio::signal::ctrl_c().await?;
    Ok(())
}

async fn fill(server: ServerHandle) -> anyhow::Result<()> {
    for test in [
        "install_default@uefi",
        "grub",
        "grub",
        "install_text",
        "update_cockpit",
        "desktop_login",
        "long_name_".repeat(9).as_str(),
    ] {
        post(&server, test, "dummy").await?;
    }
    post(&server, "needs_arm", "qemu_aarch64").await?;
    let mut worker = ScriptedWorker::new(&server.url, &server.worker_token, "rack1:1").connect(&[]).await?;
    let second = ScriptedWorker::new(&server.url, &server.worker_token, "rack2:1");
    finish(&server, &mut worker, Outcome::Passed, None).await?;
    finish(
        &server,
        &mut worker,
        Outcome::Failed,
        Some("module shell failed: no candidate needle matched tag 'shell-prompt' within 30 s"),
    )
    .await?;
    finish(&server, &mut worker, Outcome::Softfailed, Some("a workaround needle matched: boot-bsc12345"))
        .await?;
    finish(&server, &mut worker, Outcome::Incomplete, Some("QEMU ended by itself: exit status 1: Could not open '/iso/none.iso': No such file or directory; correct ISO")).await?;
    finish(
        &server,
        &mut worker,
        Outcome::TimeoutExceeded,
        Some("MAX_JOB_TIME of 7200 s ran out in module install"),
    )
    .await?;
    let assigned = worker.expect_assign().await?;
    live(&server, worker, &assigned, second).await
}

async fn post(server: &ServerHandle, test: &str, class: &str) -> anyhow::Result<()> {
    let settings = json!({
        "TEST": test, "DISTRI": "fedora", "VERSION": "44", "FLAVOR": "Server-dvd-iso", "ARCH": "x86_64", "BUILD": "20261121.n.0",
        "WORKER_CLASS": class, "CASEDIR": "examples/grub", "ISO": "/usr/lib/grub-rescue/grub-rescue-cdrom.iso", "QEMURAM": "1024",
        "APPEND": "console=ttyS0 it's quiet",
    });
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
    let request = client.post(format!("{}/api/assay/v1/jobs", server.url)).bearer_auth(&server.admin_token);
    request.json(&json!({"settings": settings})).send().await?.error_for_status()?;
    Ok(())
}

async fn put(server: &ServerHandle, bytes: Vec<u8>) -> anyhow::Result<String> {
    let sha = hex::encode(sha2::Sha256::digest(&bytes));
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
    let request =
        client.put(format!("{}/worker/v1/blobs/{sha}", server.url)).bearer_auth(&server.worker_token);
    request.body(bytes).send().await?.error_for_status()?;
    Ok(sha)
}

const NEEDLE: &[u8] = br#"{"tags":["shell-prompt"],"area":[
    {"type":"match","xpos":60,"ypos":96,"width":420,"height":60},
    {"type":"exclude","xpos":800,"ypos":10,"width":200,"height":40},
    {"type":"match","xpos":636,"ypos":556,"width":308,"height":128}]}"#;

/// Two modules; with `failed`, the second one fails.
async fn steps(server: &ServerHandle, failed: bool) -> anyhow::Result<Vec<u8>> {
    let shot = put(server, run::screen(3, 6)).await?;
    let menu = put(server, run::screen(1, 12)).await?;
    let other = put(server, run::screen(2, 9)).await?;
    let json = put(server, NEEDLE.to_vec()).await?;
    let hit = |name, similarity, ok, png: &str| run::hit(name, similarity, ok, Some(png), Some(&json));
    let mut records = vec![
        run::plan(&["boot", "shell", "install", "halt"]),
        run::environment(),
        run::started("boot", 1),
        run::looked("boot", 1, &other),
        run::found("boot", 2, "bootloader", &menu, hit("bootloader-grub-20260101", 0.997, true, &menu)),
        run::text(
            "boot",
            3,
            "kernel command line",
            "BOOT_IMAGE=/images/pxeboot/vmlinuz\ninst.stage2=hd:LABEL=F44 console=ttyS0\n",
            StepResult::Ok,
        ),
        run::serial("boot", 4, "login: ", Some("Debian GNU/Linux 12 debian ttyS0\n\ndebian login: ")),
        run::ended("boot", ModuleResult::Passed, 4_200_000, 4_150_000),
        run::started("shell", 4_300_000),
        run::found("shell", 1, "console", &shot, hit("console-root", 0.981, true, &other)),
    ];
    if failed {
        let candidates = vec![
            hit("shell-prompt-dark", 0.912, false, &other),
            hit("shell-prompt-20251224", 0.744, false, &menu),
            hit("shell-prompt-old", 0.301, false, &shot),
        ];
        records.push(run::missed("shell", 2, "shell-prompt", &shot, candidates));
        records.push(run::text("shell", 3, "Failed", "no candidate needle matched tag 'shell-prompt' within 30 s\n  tests/shell.star:8 in run\n    t.assert_screen(\"shell-prompt\")\n", StepResult::Fail));
        records.push(run::ended("shell", ModuleResult::Failed, 36_000_000, 31_700_000));
        records.push(run::ended("install", ModuleResult::Skipped, 36_000_000, 0));
        records.push(run::ended("halt", ModuleResult::Skipped, 36_000_000, 0));
    } else {
        for module in ["shell", "install", "halt"] {
            records.push(run::started(module, 4_300_000));
            records.push(run::found(module, 2, "shell-prompt", &shot, hit("shell-prompt", 1.0, true, &shot)));
            records.push(run::ended(module, ModuleResult::Passed, 7_000_000, 900_000));
        }
    }
    Ok(run::lines(&records))
}

async fn finish(
    server: &ServerHandle,
    worker: &mut Connection,
    outcome: Outcome,
    reason: Option<&str>,
) -> anyhow::Result<()> {
    let held = worker.expect_assign().await?.held;
    worker.phase(held, WorkPhase::Setup).await?;
    worker.phase(held, WorkPhase::Running).await?;
    if outcome != Outcome::Incomplete {
        worker.append(held, Stream::Steps, 0, &steps(server, !outcome.is_ok()).await?).await?;
        worker
            .append(held, Stream::Serial0, 0, b"\x1b[0;32m[  OK  ]\x1b[0m Started getty.\r\ndebian login: ")
            .await?;
    }
    let lines: Vec<_> =
        (1..60).map(|n| format!("[{n:>3}.{:03}] step {n} of the worker's log", n * 37 % 1000)).collect();
    let log = lines.join("\n");
    worker.append(held, Stream::Log, 0, log.as_bytes()).await?;
    worker.finish(held, outcome, reason).await?;
    worker.expect_finished_ack(held.attempt).await
}

/// One job runs as long as this does; its picture changes twice a second while somebody watches.
async fn live(
    server: &ServerHandle,
    mut worker: Connection,
    assigned: &Assigned,
    second: ScriptedWorker,
) -> anyhow::Result<()> {
    let held = assigned.held;
    let mut idle = second.connect(&[]).await?;
    let also = idle.expect_assign().await?.held;
    idle.phase(also, WorkPhase::Setup).await?;
    worker.phase(held, WorkPhase::Setup).await?;
    worker.phase(held, WorkPhase::Running).await?;
    let all = steps(server, false).await?;
    let some = all.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(9).map_or(0, |(at, _)| at + 1);
    worker.append(held, Stream::Steps, 0, &all[..some]).await?;
    let mut logged = 0;
    for beat in 0u32.. {
        let line = format!("[{beat:>4}] looking for shell-prompt\n");
        logged = worker.append(held, Stream::Log, logged, line.as_bytes()).await?;
        worker.heartbeat(&[held]).await?;
        idle.heartbeat(&[also]).await?;
        worker.screen(held, &run::screen(beat % 7, 3 + beat % 9)).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}
