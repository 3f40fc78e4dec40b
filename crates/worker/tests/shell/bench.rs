//! A job on a worker without a server.

use assay_proto::task::{Phase, PhaseName, Secret, ShellStep, Task};
use assay_proto::worker::{Report, Stream};
use assay_records::step::Record;
use assay_worker::attempt::AttemptDir;
use assay_worker::exec::shell::{self, Deadline, Over, Pace, run_at};
use assay_worker::exec::{Attempt, HostOptions, ScreenTap, Stop};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::Instant;

/// Far beyond what a slow machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// A host with room for one job.
pub(crate) struct Bench {
    tmp: TempDir,
    pub(crate) attempt: AttemptDir,
    pub(crate) stop: watch::Sender<Option<Stop>>,
    pub(crate) began: Instant,
    /// The worker's data directory.
    pub(crate) data: Utf8PathBuf,
}

/// A folder over HTTP, until it is dropped.
pub(crate) struct Served {
    process: Child,
    /// `http://127.0.0.1:PORT`
    pub(crate) url: String,
}

impl Served {
    pub(crate) fn start(folder: &Utf8Path) -> Self {
        let mut command = Command::new("python3");
        command.args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]).current_dir(folder);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = std::io::BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut said, &mut line).unwrap();
        let port = line.split_whitespace().skip_while(|word| *word != "port").nth(1).unwrap();
        Self { process, url: format!("http://127.0.0.1:{port}") }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// What a job came to.
pub(crate) struct Ended {
    pub(crate) report: Report,
    /// The console without its times.
    pub(crate) console: String,
    pub(crate) records: Vec<Record>,
    /// Paths and contents.
    pub(crate) artifacts: Vec<(String, String)>,
    pub(crate) dir: Utf8PathBuf,
}

impl Ended {
    pub(crate) fn outcome(&self) -> &'static str {
        self.report.outcome.openqa()
    }

    pub(crate) fn reason(&self) -> &str {
        self.report.reason.as_deref().unwrap_or_default()
    }
}

/// Paths and contents of what was published.
fn artifacts(records: &[Record], dir: &Utf8Path) -> Vec<(String, String)> {
    let artifacts = records.iter().filter_map(|record| match record {
        Record::Artifact(artifact) => Some(artifact),
        _ => None,
    });
    let read =
        |sha: &str| String::from_utf8_lossy(&fs::read(dir.join("blobs").join(sha)).unwrap()).into_owned();
    artifacts.map(|artifact| (artifact.path.clone(), read(&artifact.sha256))).collect()
}

impl Bench {
    pub(crate) fn new() -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let data = Utf8Path::from_path(tmp.path()).unwrap().join("data");
        let attempt = AttemptDir::create(&Utf8Path::from_path(tmp.path()).unwrap().join("attempt"), false);
        let stop = watch::Sender::new(None);
        Self { attempt: attempt.unwrap(), tmp, stop, began: Instant::now(), data }
    }

    /// Another job on the same host.
    pub(crate) fn beside(other: &Self) -> Self {
        Self { data: other.data.clone(), ..Self::new() }
    }

    pub(crate) fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.tmp.path()).unwrap()
    }

    pub(crate) fn attempt(&self, task: &Task) -> Attempt {
        let data = &self.data;
        fs::create_dir_all(data.join("tokens")).unwrap();
        let host = HostOptions {
            cache: data.join("cache"),
            run: data.join("run"),
            hide: vec![data.join("tokens")],
            asset_limit: assay_worker::exec::ASSET_LIMIT,
            unsandboxed: false,
        };
        Attempt {
            number: 1,
            settings: task.to_settings().unwrap(),
            dir: self.attempt.clone(),
            stop: self.stop.subscribe(),
            tap: ScreenTap::default(),
            began: self.began,
            assets: None,
            cluster: None,
            host: Arc::new(host),
        }
    }

    /// Runs a job whose deadlines come by `pace`.
    pub(crate) async fn run_at(&self, task: &Task, pace: &dyn Pace) -> Ended {
        let attempt = self.attempt(task);
        self.ended(run_at(&attempt, pace)).await
    }

    /// Runs the task of a folder with these settings.
    pub(crate) async fn run_task(&self, settings: &[(&str, &str)], pace: &dyn Pace) -> Ended {
        let mut attempt = self.attempt(&Task::default());
        attempt.settings =
            settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.ended(Box::pin(shell::task::run_at(&attempt, pace))).await
    }

    async fn ended(&self, run: impl Future<Output = Report>) -> Ended {
        let report = tokio::time::timeout(PATIENCE, run).await;
        let report = report.unwrap_or_else(|_| panic!("it does not end: {}", self.console()));
        let dir = self.attempt.path().to_owned();
        assert!(!dir.join("job").exists(), "the job's folders are gone");
        let steps = fs::read_to_string(dir.join(Stream::Steps.file_name())).unwrap();
        let records: Vec<_> = steps.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let artifacts = artifacts(&records, &dir);
        Ended { report, console: self.console(), records, artifacts, dir }
    }

    /// The console so far, without its times.
    pub(crate) fn console(&self) -> String {
        let text = fs::read_to_string(self.attempt.path().join(Stream::Console.file_name())).unwrap();
        text.lines().flat_map(|line| [line.get(26..).unwrap_or("(no time)"), "\n"]).collect()
    }
}

/// Runs a job that needs no deadline.
pub(crate) async fn run(task: &Task) -> Ended {
    Bench::new().run_at(task, &Never).await
}

/// A job of `run` alone.
pub(crate) fn task(script: &str) -> Task {
    Task { name: "job".into(), run: phase(&[script]), ..Task::default() }
}

/// A phase of these scripts.
pub(crate) fn phase(scripts: &[&str]) -> Phase {
    let step = |script: &&str| ShellStep { script: (*script).to_owned(), ..ShellStep::default() };
    Phase { steps: scripts.iter().map(step).collect(), ..Phase::default() }
}

pub(crate) fn secret(value: &str) -> Secret {
    Secret(value.to_owned())
}

/// No time is ever over.
pub(crate) struct Never;

impl Pace for Never {
    fn over(&self, _: PhaseName, _: Deadline, _: Duration) -> Over<'_> {
        Box::pin(std::future::pending())
    }
}

/// A phase's time is over when the console says so.
pub(crate) struct When<'a> {
    pub(crate) bench: &'a Bench,
    pub(crate) phase: PhaseName,
    /// The budget is over when this has been printed, ...
    pub(crate) budget: &'static str,
    /// ... and the grace when this has.
    pub(crate) grace: &'static str,
}

impl Pace for When<'_> {
    fn over(&self, phase: PhaseName, deadline: Deadline, _: Duration) -> Over<'_> {
        let text = match deadline {
            _ if phase != self.phase => return Box::pin(std::future::pending()),
            Deadline::Budget => self.budget,
            Deadline::Grace => self.grace,
        };
        Box::pin(printed(self.bench, text))
    }
}

/// Waits until the console has this line.
pub(crate) async fn printed(bench: &Bench, text: &str) {
    let mut grown = bench.attempt.grown();
    while !bench.console().lines().any(|line| line == text) {
        grown.changed().await.unwrap();
    }
}
