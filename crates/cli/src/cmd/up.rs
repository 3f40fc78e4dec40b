//! `assay up` and `assay server`.

use crate::cmd::run::Interrupts;
use crate::exit::{CliError, Code};
use crate::{Common, paths, ui};
use assay_server::{ServerConfig, ServerError, ServerHandle, serve};
use assay_worker::lock::pool_holder;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use std::cell::Cell;
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
                        assay up --trust-loopback       requests from this machine act as admin: to try things out")]
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
    config.trust_loopback = options.trust_loopback;
    config.store_url = options.store.clone();
    config.ready = Some(ready);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(serve(config, shutdown.clone()));
    let serving = Cell::new(false);
    let supervise = async {
        // A server that cannot start says why by itself.
        let Ok(handle) = is_ready.await else { return std::future::pending().await };
        serving.set(true);
        announce(common, options, &handle)?;
        match slots {
            Some(slots) => keep_worker(&data, slots, &shutdown).await,
            None => std::future::pending().await,
        }
    };
    let mut signals = Interrupts::new()?;
    let mut supervise = std::pin::pin!(supervise);
    let ended = tokio::select! {
        ended = tasks.join_next() => server_end(ended),
        ended = &mut supervise => ended,
        () = signals.next() => Ok(()),
    };
    // The worker goes first: a server that is gone would only make it dial.
    // A server that never was has none: the worker in the directory belongs to the server that is there.
    if serving.get() {
        shutdown_worker(&data, slots).await;
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
            error @ (ServerError::Listen { .. } | ServerError::InUse { .. } | ServerError::BadToken { .. }),
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

/// Keeps one worker running: starts it, and starts it again when it dies. One that outlived an earlier server is
/// left alone as long as it lives.
async fn keep_worker(data: &Utf8Path, slots: u32, shutdown: &CancellationToken) -> Result<(), CliError> {
    let pool = data.join("worker");
    let mut pause = Duration::from_millis(200);
    loop {
        while pool_holder(&pool).is_some() {
            tokio::time::sleep(LOOK).await;
        }
        let mut child = start_worker(data, slots)?;
        let began = tokio::time::Instant::now();
        let status = child.wait().await?;
        if shutdown.is_cancelled() {
            return Ok(());
        }
        if status.code() == Some(Code::Usage as i32) {
            return Err(CliError::infrastructure(
                "the worker cannot work with this server; see its message above",
            ));
        }
        tracing::warn!(%status, "the worker ended; starting another one");
        if began.elapsed() > Duration::from_mins(1) {
            pause = Duration::from_millis(200);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(30));
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

/// Asks the worker to end, and waits until it has.
async fn shutdown_worker(data: &Utf8Path, slots: Option<u32>) {
    let pool = data.join("worker");
    let Some(holder) = slots.and_then(|_| pool_holder(&pool)) else { return };
    let Some(pid) = i32::try_from(holder).ok().and_then(rustix::process::Pid::from_raw) else { return };
    if rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_err() {
        return;
    }
    let gone = async {
        while pool_holder(&pool) == Some(holder) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(10), gone).await.is_err() {
        tracing::warn!(pid = holder, "the worker does not end; it is left to itself");
    }
}
