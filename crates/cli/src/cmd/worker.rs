//! `assay worker`

use crate::client::{Client, encoded};
use crate::cmd::run::Interrupts;
use crate::exit::{CliError, Code};
use crate::{Common, paths, ui};
use assay_proto::api::{DrainWorker, WorkerList};
use assay_worker::exec::HostOptions;
use assay_worker::link::{self, ServerAddress, WorkerConfig, WorkerError};
use camino::Utf8PathBuf;
use fs_err as fs;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const API: &str = "/api/assay/v1/workers";

/// Start a worker for a server, or look after those that there are.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  assay worker                                     for the server of this machine's data directory\n  \
                        assay worker --server http://ci.example.org:8484 --token-file worker.token --name rack1:1\n  \
                        assay worker --class shell,disposable --once     runs one job and ends, for a machine that is thrown away\n  \
                        assay worker list                                those of the server\n  \
                        assay worker drain rack1:1                       finishes what it runs, gets nothing new"
)]
pub(crate) struct Worker {
    #[command(subcommand)]
    command: Option<WorkerCommand>,
    #[command(flatten)]
    start: Start,
}

/// What can be done with workers of a server.
#[derive(clap::Subcommand)]
enum WorkerCommand {
    /// List workers: what they offer, what they run, since when.
    #[command(
        after_help = "Examples:\n  assay worker list\n  assay worker list --json | jq '.workers[] | select(.online | not)'"
    )]
    List,
    /// Have a worker finish what it runs and get nothing new.
    #[command(
        after_help = "Examples:\n  assay worker drain rack1:1\n  assay worker drain rack1:1 --end     it gets work again"
    )]
    Drain {
        /// Its name.
        name: String,
        /// It gets work again.
        #[arg(long)]
        end: bool,
    },
    /// Take a worker off the list that is not connected and has nothing.
    #[command(after_help = "Example:\n  assay worker forget rack1:1")]
    Forget {
        /// Its name.
        name: String,
    },
}

impl WorkerCommand {
    fn run(self, common: &Common) -> Result<Code, CliError> {
        let client = Client::new(common)?;
        let list = match self {
            Self::List => client.get::<WorkerList>(API)?,
            Self::Drain { name, end } => {
                client.post(&format!("{API}/{}/drain", encoded(&name)), &DrainWorker { drained: !end })?
            }
            Self::Forget { name } => {
                let name: String = client.delete(&format!("{API}/{}", encoded(&name)))?;
                if common.json {
                    ui::print_json(&serde_json::json!({ "forgotten": name }));
                } else {
                    println!("worker {name} is forgotten");
                }
                return Ok(Code::Ok);
            }
        };
        if common.json {
            ui::print_json(&list);
        } else {
            println!("{}", table(&list));
        }
        Ok(Code::Ok)
    }
}

fn table(list: &WorkerList) -> comfy_table::Table {
    let rows = list.workers.iter().map(|worker| {
        let jobs: Vec<_> = worker.jobs.iter().map(ToString::to_string).collect();
        let state = match (&worker.offline_reason, &worker.drained_by) {
            (Some(why), _) => format!("offline: {why}"),
            (None, Some(by)) => format!("drained by {by}"),
            (None, None) if jobs.is_empty() => "idle".to_owned(),
            (None, None) => "running".to_owned(),
        };
        vec![
            worker.name.clone(),
            state,
            format!("{}/{}", jobs.len(), worker.slots),
            jobs.join(" "),
            worker.classes.join(","),
            worker.disk.map_or_else(|| "?".to_owned(), |room| room.to_string()),
            worker.since.clone(),
        ]
    });
    ui::table(&["WORKER", "STATE", "SLOTS", "JOBS", "OFFERS", "FREE", "SINCE"], rows)
}

#[derive(clap::Args)]
struct Start {
    /// The server (default: the one that uses the data directory).
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// File with the worker token (default: tokens/worker in the data directory).
    #[arg(long, value_name = "FILE")]
    token_file: Option<Utf8PathBuf>,
    /// Name, unique on the server (default: the host's name and ":1").
    #[arg(long)]
    name: Option<String>,
    /// Attempts at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    slots: u32,
    /// What it offers to jobs, as WORKER_CLASS: separated by commas.
    #[arg(long, default_value = "qemu_x86_64,dummy,shell", value_delimiter = ',')]
    class: Vec<String>,
    /// Run one job and end: for a machine that is made anew for each, and for the class `disposable`.
    #[arg(long, conflicts_with = "slots")]
    once: bool,
    /// Where attempts are kept while they run (default: worker/ in the data directory).
    #[arg(long, value_name = "DIR")]
    pool: Option<Utf8PathBuf>,
    /// Gigabytes of assets that this host keeps; what is used least recently goes first.
    #[arg(long, value_name = "GB", default_value_t = 50)]
    asset_cache: u64,
    /// Run external test programs without a sandbox where none can be had.
    #[arg(long)]
    unsandboxed: bool,
    /// Live in a session of its own and end after ten minutes without a server and without work: for `assay up`.
    #[arg(long, hide = true)]
    detached: bool,
}

impl Worker {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        match self.command {
            Some(command) => command.run(common),
            None => self.start.run(common),
        }
    }

    /// Whether it stays, and so says what it does.
    pub(crate) fn is_service(&self) -> bool {
        self.command.is_none()
    }
}

impl Start {
    fn run(self, common: &Common) -> Result<Code, CliError> {
        if self.detached {
            // The terminal's hang-up and Ctrl-C are for the server. That it is a session leader already is no harm.
            let _ = rustix::process::setsid();
        }
        let data = paths::data_dir(common)?;
        let config = self.config(&data)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let shutdown = CancellationToken::new();
        let result = runtime.block_on(async {
            let mut signals = Interrupts::new()
                .map_err(|error| WorkerError::Io(std::io::Error::other(error.to_string())))?;
            let work = link::run(config, shutdown.clone());
            tokio::pin!(work);
            tokio::select! {
                result = &mut work => return result,
                () = signals.next() => {}
            }
            shutdown.cancel();
            work.await
        });
        match result {
            Ok(()) => Ok(Code::Ok),
            Err(
                error @ (WorkerError::Refused(_)
                | WorkerError::Unauthorized
                | WorkerError::Address(_)
                | WorkerError::Pool(_)),
            ) => Err(CliError::usage(error.to_string())),
            Err(error) => Err(CliError::infrastructure(error.to_string())),
        }
    }

    fn config(&self, data: &camino::Utf8Path) -> Result<WorkerConfig, CliError> {
        let server = match &self.server {
            Some(server) => ServerAddress::Fixed(server.clone()),
            None => ServerAddress::File(data.join("server.json")),
        };
        let token_file = self.token_file.clone().unwrap_or_else(|| data.join("tokens/worker"));
        let token = fs::read_to_string(&token_file).map_err(|error| {
            CliError::usage(format!("the worker token cannot be read: {error}; copy tokens/worker from the server's data directory and name it with --token-file"))
        })?;
        let host = host_name();
        let pool = match &self.pool {
            Some(pool) => paths::absolute(pool)?,
            None => data.join("worker"),
        };
        let give_up = self.detached.then_some(Duration::from_mins(10));
        Ok(WorkerConfig {
            server,
            token: token.trim().to_owned(),
            name: self.name.clone().unwrap_or_else(|| format!("{host}:1")),
            host,
            slots: self.slots,
            classes: self
                .class
                .iter()
                .map(|class| class.trim().to_owned())
                .filter(|class| !class.is_empty())
                .collect(),
            host_options: Arc::new(HostOptions {
                asset_limit: self.asset_cache.saturating_mul(1_000_000_000),
                ..paths::worker_host_options(data, &pool, self.unsandboxed)
            }),
            pool,
            once: self.once,
            give_up,
        })
    }
}

/// The host's name, cleaned to what a worker's name may hold.
pub(crate) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let clean: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).take(64).collect();
    if clean.is_empty() { "localhost".into() } else { clean }
}
