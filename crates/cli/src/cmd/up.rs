//! `assay up` and `assay server`.

use crate::cmd::run::Interrupts;
use crate::exit::{CliError, Code};
use crate::{Common, paths, ui};
use assay_server::{ServerConfig, ServerError, ServerHandle, serve};
use assay_worker::lock::pool_holder;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Start the server and one worker on this machine.
///
/// Everything is kept in the data directory: database, pictures, logs, and the tokens that API clients and workers need.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  assay up\n  assay up --data /srv/assay --listen 127.0.0.1:8080\n  \
                        assay up --trust-loopback       requests from this machine act as admin: to try things out\n  \
                        assay up --config assay.toml    gate the projects of a Gerrit")]
pub(crate) struct Up {
    #[command(flatten)]
    server: ServerOptions,
    /// Attempts that the worker runs at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    slots: u32,
}

/// Start the server alone.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  assay server --listen 127.0.0.1:8080\n  \
                        assay server --store postgres://assay@/assay?host=/run/postgresql")]
pub(crate) struct Server {
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(clap::Args)]
struct ServerOptions {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8484")]
    listen: SocketAddr,
    /// assay.toml: what is gated (docs/gating.md), which events are heard and what they lead to (docs/events.md), results
    /// (docs/results.md), who is told (docs/reporting.md), settings of all jobs (docs/running-a-server.md).
    #[arg(long, value_name = "FILE")]
    config: Option<Utf8PathBuf>,
    /// Requests from this machine act as admin, without a token.
    #[arg(long)]
    trust_loopback: bool,
    /// Another database than the one in the data directory: postgres://… or sqlite:PATH.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Write the server's address to this file once it answers.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<Utf8PathBuf>,
}

impl Server {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        block_on(common, &self.server, None)
    }
}

impl Up {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        block_on(common, &self.server, Some(self.slots))
    }
}

fn block_on(common: &Common, options: &ServerOptions, slots: Option<u32>) -> Result<Code, CliError> {
    let data = paths::data_dir(common)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(run(common, options, data, slots))
}

async fn run(
    common: &Common,
    options: &ServerOptions,
    data: Utf8PathBuf,
    slots: Option<u32>,
) -> Result<Code, CliError> {
    let shutdown = CancellationToken::new();
    let (ready, is_ready) = oneshot::channel();
    let mut config = ServerConfig::new(data.clone(), options.listen);
    config.config = options.config.as_deref().map(paths::absolute).transpose()?;
    config.trust_loopback = options.trust_loopback;
    config.store_url = options.store.clone();
    config.ready = Some(ready);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(serve(config, shutdown.clone()));
    let stop_worker = CancellationToken::new();
    let supervise = async {
        let handle = tokio::select! {
            handle = is_ready => handle,
            () = stop_worker.cancelled() => return Ok(()),
        };
        // A server that cannot start says why by itself.
        if let Ok(handle) = handle {
            announce(common, options, &handle)?;
            if let Some(slots) = slots {
                return keep_worker(&data, slots, &stop_worker).await;
            }
        }
        stop_worker.cancelled().await;
        Ok(())
    };
    let mut signals = Interrupts::new()?;
    let mut supervise = std::pin::pin!(supervise);
    let mut supervised = false;
    let ended = tokio::select! {
        ended = tasks.join_next() => server_end(ended),
        ended = &mut supervise => {
            supervised = true;
            ended
        }
        () = signals.next() => Ok(()),
    };
    // The worker goes first: a server that is gone would only make it dial.
    stop_worker.cancel();
    if !supervised {
        supervise.await?;
    }
    shutdown.cancel();
    while let Some(end) = tasks.join_next().await {
        server_end(Some(end))?;
    }
    ended.map(|()| Code::Ok)
}

fn server_end(end: Option<Result<Result<(), ServerError>, tokio::task::JoinError>>) -> Result<(), CliError> {
    match end {
        None | Some(Ok(Ok(()))) => Ok(()),
        Some(Ok(Err(
            error @ (ServerError::Listen { .. }
            | ServerError::InUse { .. }
            | ServerError::BadToken { .. }
            | ServerError::BadKey { .. }
            | ServerError::Config(_)
            | ServerError::Gate(_)),
        ))) => Err(CliError::usage(error.to_string())),
        Some(Ok(Err(error))) => Err(CliError::infrastructure(error.to_string())),
        Some(Err(error)) => Err(CliError::infrastructure(format!("the server failed: {error}"))),
    }
}

fn announce(common: &Common, options: &ServerOptions, handle: &ServerHandle) -> Result<(), CliError> {
    if common.json {
        ui::print_json(&serde_json::json!({ "url": handle.url }));
    } else {
        println!("Assay is at {}", handle.url);
    }
    if let Some(file) = &options.ready_file {
        // Renamed into place: who waits for the file finds it whole.
        let draft = Utf8PathBuf::from(format!("{file}.new"));
        fs::write(&draft, format!("{}\n", handle.url))?;
        fs::rename(&draft, file)?;
    }
    Ok(())
}

/// How often to look at a worker that an earlier server has started.
const LOOK: Duration = Duration::from_secs(1);

/// Keeps one worker running until `stop`: starts it, and starts it again when it dies. One that outlived an earlier
/// server is left alone as long as it lives. At the end the worker, whoever started it, is asked to end too.
async fn keep_worker(data: &Utf8Path, slots: u32, stop: &CancellationToken) -> Result<(), CliError> {
    let pool = data.join("worker");
    let mut pause = Duration::from_millis(200);
    loop {
        while let Some(holder) = pool_holder(&pool) {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => {
                    end_holder(&pool, holder).await;
                    return Ok(());
                }
            }
        }
        let mut child = start_worker(data, slots)?;
        let began = tokio::time::Instant::now();
        let status = tokio::select! {
            status = child.wait() => status?,
            () = stop.cancelled() => return end_child(child).await,
        };
        if status.code() == Some(Code::Usage as i32) {
            return Err(CliError::infrastructure(
                "the worker cannot work with this server; see its message above",
            ));
        }
        tracing::warn!(%status, "the worker ended; starting another one");
        if began.elapsed() > Duration::from_mins(1) {
            pause = Duration::from_millis(200);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return Ok(()),
        }
        pause = (pause * 2).min(Duration::from_secs(30));
    }
}

/// How long a worker may take to end.
const FAREWELL: Duration = Duration::from_secs(10);

/// Asks our own worker to end, and waits until it has; it may be so young that it holds no pool yet.
async fn end_child(mut child: Child) -> Result<(), CliError> {
    if let Some(pid) = child.id() {
        terminate(pid);
    }
    if tokio::time::timeout(FAREWELL, child.wait()).await.is_err() {
        tracing::warn!("the worker does not end; it is killed");
        child.kill().await?;
    }
    Ok(())
}

/// Asks a worker that an earlier server started to end, and waits until it has.
async fn end_holder(pool: &Utf8Path, holder: u32) {
    terminate(holder);
    let gone = async {
        while pool_holder(pool) == Some(holder) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(FAREWELL, gone).await.is_err() {
        tracing::warn!(pid = holder, "the worker does not end; it is left to itself");
    }
}

fn terminate(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        // Gone already is as good.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

fn start_worker(data: &Utf8Path, slots: u32) -> Result<Child, CliError> {
    let binary = std::env::current_exe()?;
    let child = Command::new(binary)
        .args(["worker", "--detached", "--data", data.as_str(), "--slots", &slots.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    Ok(child)
}
