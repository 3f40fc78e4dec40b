//! What carries an attempt out.

pub mod dummy;
pub mod shell;
pub mod vm;

pub use assay_engine::settings::is_secret_name;

use crate::assets::Door;
use crate::attempt::AttemptDir;
use crate::link::ServerAddress;
use crate::networks::Networks;
use crate::questions::Questions;
use assay_engine::ids::JobId;
use assay_engine::outcome::{Outcome, OutcomeClass};
use assay_proto::task_run;
use assay_proto::worker::{Place, Report};
use camino::Utf8PathBuf;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio::time::Instant;

/// Why an attempt has to stop before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// A person or the server wants it so; the sentence says why.
    Cancelled(String),
    /// A newer change has made it pointless: not even its logs are wanted.
    Superseded(String),
    /// The attempt belongs to somebody else by now: nothing more of it is reported.
    Fenced(String),
    /// This process is ending.
    Shutdown,
}

impl Stop {
    /// As a sentence.
    pub fn sentence(&self) -> String {
        match self {
            Self::Cancelled(why) | Self::Superseded(why) | Self::Fenced(why) => why.clone(),
            Self::Shutdown => "the worker was stopped".into(),
        }
    }
}

/// Where viewers of the live picture get their frames while the machine runs.
pub type ScreenTap = Arc<Mutex<Option<watch::Receiver<assay_vm::Frame>>>>;

/// One attempt as an executor gets it.
#[derive(Clone)]
pub struct Attempt {
    /// The number of the try, from 1.
    pub number: u32,
    /// The job's settings.
    pub settings: BTreeMap<String, String>,
    /// Where the record grows.
    pub dir: AttemptDir,
    /// Set when the attempt has to stop.
    pub stop: watch::Receiver<Option<Stop>>,
    /// The live picture.
    pub tap: ScreenTap,
    /// When the attempt began.
    pub began: Instant,
    /// The jobs beside it; none without a server.
    pub cluster: Option<Cluster>,
    /// The way to the server's assets; none without a server.
    pub assets: Option<Door>,
    /// The host's part.
    pub host: Arc<HostOptions>,
}

/// The way from an attempt to the jobs beside it.
#[derive(Clone)]
pub struct Cluster {
    /// The attempt's job.
    pub job: JobId,
    /// Where that is among them.
    pub place: Place,
    /// What its test asks the server.
    pub questions: Questions,
    /// The networks of this worker.
    pub networks: Networks,
    /// Where the server is.
    pub server: ServerAddress,
}

/// The usual [`HostOptions::asset_limit`]: openQA's, 50 GB.
pub const ASSET_LIMIT: u64 = 50_000_000_000;

/// What the host decides for every attempt.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// Where probes and downloads are kept between runs.
    pub cache: Utf8PathBuf,
    /// Where the sockets and overlays of running machines live; short, because socket paths are limited.
    pub run: Utf8PathBuf,
    /// Directories that a machine's QEMU must not see: tokens.
    pub hide: Vec<Utf8PathBuf>,
    /// Bytes of assets that the host keeps, beside those that are in use.
    pub asset_limit: u64,
    /// Run external test programs without a sandbox where none can be had.
    pub unsandboxed: bool,
}

impl Attempt {
    /// Microseconds since the attempt began.
    pub fn elapsed_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// A line in the log.
    pub fn log(&self, line: &str) {
        self.dir.log(self.elapsed_us(), line);
    }

    /// Waits until the attempt has to stop.
    pub async fn stopped(&self) -> Stop {
        let mut stop = self.stop.clone();
        loop {
            if let Some(reason) = stop.borrow_and_update().clone() {
                return reason;
            }
            if stop.changed().await.is_err() {
                return Stop::Shutdown;
            }
        }
    }

    /// A number from the settings, or `default`; what is no number is an error that names the variable.
    pub fn number_setting(&self, name: &str, default: f64) -> Result<f64, Report> {
        match self.settings.get(name) {
            None => Ok(default),
            Some(text) => {
                text.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0).ok_or_else(|| {
                    usage(format!(
                        "{name}={text:?} is not a number; give seconds, for example {name}={default}"
                    ))
                })
            }
        }
    }
}

/// Carries `attempt` out and says how it ended.
pub async fn run(attempt: &Attempt) -> Report {
    if let Some(sentence) = attempt.dir.failure() {
        return infrastructure(sentence);
    }
    let backend = attempt.settings.get("BACKEND").map_or("qemu", String::as_str);
    let report = match backend {
        "qemu" => vm::run(attempt).await,
        "dummy" => dummy::run(attempt).await,
        "shell" => shell::run(attempt).await,
        task_run::BACKEND => shell::task::run(attempt).await,
        other => usage(format!("BACKEND={other:?} is unknown; this worker has qemu, shell, task and dummy")),
    };
    match attempt.dir.failure() {
        Some(sentence) if report.outcome != Outcome::UserCancelled => infrastructure(sentence),
        _ => report,
    }
}

/// Could not be carried out because of the machine or the host.
pub fn infrastructure(reason: impl Into<String>) -> Report {
    incomplete(OutcomeClass::Infrastructure, reason)
}

/// Could not be carried out because of what the job asks for.
pub fn usage(reason: impl Into<String>) -> Report {
    incomplete(OutcomeClass::Test, reason)
}

fn incomplete(class: OutcomeClass, reason: impl Into<String>) -> Report {
    Report { outcome: Outcome::Incomplete, class, reason: Some(reason.into()) }
}

/// Stopped from outside.
pub fn stopped(stop: &Stop) -> Report {
    match stop {
        Stop::Shutdown => infrastructure(stop.sentence()),
        Stop::Cancelled(why) | Stop::Superseded(why) | Stop::Fenced(why) => {
            Report { outcome: Outcome::UserCancelled, class: OutcomeClass::Policy, reason: Some(why.clone()) }
        }
    }
}
