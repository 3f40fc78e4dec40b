//! `assay run DIR`: the same executor as a worker's, without a server.

use crate::exit::{CliError, Code};
use crate::{Common, paths, ui};
use assay_engine::outcome::{Outcome, OutcomeClass};
use assay_proto::task::Task;
use assay_proto::task_run::{self, TaskRun};
use assay_proto::worker::{Report, Stream};
use assay_records::step::{ModuleResult, Record, Step, StepBody, TaskResult};
use assay_worker::attempt::AttemptDir;
use assay_worker::exec::{self, Attempt, HostOptions, ScreenTap, Stop};
use assay_worker::suite::default_settings;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

/// Run a test directory here, without a server.
///
/// DIR holds tests/*.star (or *.py), needles/ and, if you like, vars.json with default settings. The record of the
/// run (steps.jsonl, autoinst-log.txt, serial0.txt, journal.jsonl, console.txt, blobs/, result.json) goes to --out.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  assay run examples/grub\n  assay run mytests ISO=/images/my.iso QEMURAM=2048 --out /tmp/result\n  \
                        assay run mytests SCHEDULE=boot,login --json | jq .outcome\n  \
                        assay run --task unit-tests.json --out /tmp/result\n  \
                        assay run --task tasks/rpmlint --item hello-1.0-1 --type koji_build --packages ./rpms\n  \
                        assay run --task tasks/rpmlint --item bash-5.3-1.fc44 --koji https://kojipkgs.fedoraproject.org\n  \
                        assay run --task mytask --item bash-5.3-1.fc44 --machine fedora-44.qcow2 --machine QEMURAM=4096"
)]
pub(crate) struct Run {
    /// The test directory.
    #[arg(required_unless_present = "task")]
    dir: Option<Utf8PathBuf>,
    /// Run this instead: a shell job as JSON (docs/gating.md), or the folder of a task (docs/tasks.md). What it prints
    /// goes to console.txt.
    #[arg(long, value_name = "FILE|DIR", conflicts_with = "dir")]
    task: Option<Utf8PathBuf>,
    /// Settings, as openQA's variables: ISO=… HDD_1=… QEMURAM=…
    #[arg(value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// Where the record goes (default: a new folder under the data directory).
    #[arg(long, value_name = "DIR")]
    out: Option<Utf8PathBuf>,
    /// Run external test programs without a sandbox where none can be had.
    #[arg(long)]
    unsandboxed: bool,
    // Last, as what follows would come under its heading.
    #[command(flatten)]
    item: LookedAt,
}

/// What a task looks at.
#[derive(clap::Args)]
#[command(next_help_heading = "What a task looks at")]
struct LookedAt {
    /// For example a build, bash-5.3-1.fc44.
    #[arg(long, requires = "task")]
    item: Option<String>,
    /// What the item is: koji_build, bodhi_update, koji_tag, …
    #[arg(long = "type", requires = "task", default_value = "koji_build")]
    kind: String,
    /// For which architecture (default: this machine's).
    #[arg(long, requires = "task")]
    arch: Option<String>,
    /// A build that belongs to the item, if that is none itself. May be given again.
    #[arg(long = "build", value_name = "NVR", requires = "task")]
    builds: Vec<String>,
    /// A folder with the packages, here or on the web, in place of Koji's.
    #[arg(long, value_name = "DIR|URL", requires = "task")]
    packages: Option<String>,
    /// The build before, for tasks that compare.
    #[arg(long, value_name = "NVR", requires = "task")]
    baseline: Option<String>,
    /// A folder with the packages of the build before.
    #[arg(long, value_name = "DIR|URL", requires = "task")]
    baseline_packages: Option<String>,
    /// A repository of packages that the task reads. May be given again.
    #[arg(long = "repository", value_name = "NAME=DIR|URL", requires = "task")]
    repositories: Vec<String>,
    /// Where Koji's packages are.
    #[arg(long, value_name = "URL", requires = "task")]
    koji: Option<String>,
    /// Run the task in a virtual machine of its own: the image of its disk, which is not changed, or a variable of it
    /// (KERNEL=FILE, QEMURAM=4096). May be given again.
    #[arg(long = "machine", value_name = "FILE|NAME=VALUE", requires = "task")]
    machine: Vec<String>,
    /// Something else that the task wants to know. May be given again.
    #[arg(long = "input", value_name = "KEY=VALUE", requires = "task")]
    inputs: Vec<String>,
}

impl LookedAt {
    /// As settings of a job.
    fn settings(&self, task: &Utf8Path) -> Result<BTreeMap<String, String>, CliError> {
        let item = self.item.clone().ok_or_else(|| {
            CliError::usage(format!(
                "{task} is a task; say what it is to look at with --item, for example --item bash-5.3-1.fc44"
            ))
        })?;
        // What is a folder here is none in the sandbox.
        let place = |text: &String| match text {
            url if url.contains("://") => Ok(url.clone()),
            path => paths::absolute(Utf8Path::new(path)).map(Utf8PathBuf::into_string),
        };
        let mut settings = BTreeMap::from([
            ("BACKEND".to_owned(), task_run::BACKEND.to_owned()),
            (task_run::DIR.to_owned(), task.to_string()),
            ("ITEM".to_owned(), item),
            ("ITEM_TYPE".to_owned(), self.kind.clone()),
            ("ARCH".to_owned(), self.arch.clone().unwrap_or_else(|| std::env::consts::ARCH.to_owned())),
            (task_run::BUILDS.to_owned(), self.builds.join(" ")),
        ]);
        let mut repositories = Vec::new();
        for text in &self.repositories {
            let (name, url) = text.split_once('=').ok_or_else(|| {
                CliError::usage(format!("{text:?} is no repository; write NAME=DIRECTORY or NAME=ADDRESS"))
            })?;
            repositories.push(format!("{name}={}", place(&url.to_owned())?));
        }
        settings.insert(task_run::REPOSITORIES.to_owned(), repositories.join(" "));
        for text in &self.inputs {
            let (key, value) = text
                .split_once('=')
                .filter(|(key, _)| !key.is_empty())
                .ok_or_else(|| CliError::usage(format!("{text:?} is no input; write KEY=VALUE")))?;
            settings.insert(format!("{}{}", task_run::INPUT, key.to_uppercase()), value.to_owned());
        }
        for (key, value) in [
            (task_run::PACKAGES, self.packages.as_ref().map(place).transpose()?),
            (task_run::BASELINE, self.baseline.clone()),
            (task_run::BASELINE_PACKAGES, self.baseline_packages.as_ref().map(place).transpose()?),
            (task_run::TOPURL, self.koji.clone()),
        ] {
            settings.extend(value.map(|value| (key.to_owned(), value)));
        }
        for text in &self.machine {
            let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            let variable =
                text.split_once('=').filter(|(key, _)| !key.is_empty() && key.chars().all(is_name));
            let (key, value) = variable.unwrap_or(("HDD_1", text));
            let is_file = matches!(key, "HDD_1" | "ISO" | "KERNEL" | "INITRD");
            let value = if is_file { place(&value.to_owned())? } else { value.to_owned() };
            settings.insert(key.to_owned(), value);
            settings.insert(task_run::MACHINE.to_owned(), "of its own".to_owned());
        }
        TaskRun::from_settings(&settings).map_err(|error| CliError::usage(error.to_string()))?;
        Ok(settings)
    }
}

/// What `--json` prints and `result.json` holds.
#[derive(Serialize)]
struct Summary {
    outcome: Outcome,
    class: OutcomeClass,
    reason: Option<String>,
    duration_us: u64,
    out: Utf8PathBuf,
    modules: Vec<ModuleLine>,
    /// Of a task.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    results: Vec<TaskResult>,
}

#[derive(Serialize, Clone)]
struct ModuleLine {
    name: String,
    result: ModuleResult,
    duration_us: u64,
    steps: usize,
}

impl Run {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let (dir, settings) = self.what()?;
        let data = paths::data_dir(common)?;
        let out = match &self.out {
            Some(out) => given_out(out, &dir)?,
            None => fresh_out(&data.join("runs"))?,
        };
        let host = paths::host_options(&data, self.unsandboxed);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let summary = runtime.block_on(execute(common, settings, &out, host))?;
        runtime.shutdown_timeout(Duration::from_secs(1));
        if common.json {
            ui::print_json(&summary);
        } else {
            show(&summary);
        }
        // A task that did not end has found nothing; a test that did not has failed.
        let is_endless = self.item.item.is_some() && summary.outcome == Outcome::TimeoutExceeded;
        Ok(if is_endless { Code::Usage } else { code(summary.outcome, summary.class) })
    }
}

impl Run {
    /// What is to be run: where it is, and its settings.
    fn what(&self) -> Result<(Utf8PathBuf, BTreeMap<String, String>), CliError> {
        if let Some(file) = &self.task {
            let file = paths::absolute(file)?;
            if file.is_dir() {
                let settings = self.item.settings(&file)?;
                return Ok((file, settings));
            }
            let text = fs::read_to_string(&file).map_err(|error| CliError::not_found(error.to_string()))?;
            let wrong = |why: String| CliError::usage(format!("{file}: {why}"));
            let task: Task = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
            task.check().map_err(|error| wrong(error.to_string()))?;
            let settings = task.to_settings().map_err(|error| wrong(error.to_string()))?;
            return Ok((file, settings));
        }
        let dir = paths::absolute(self.dir.as_deref().unwrap_or(Utf8Path::new(".")))?;
        if !dir.is_dir() {
            return Err(CliError::not_found(format!("there is no directory {dir}")));
        }
        let mut settings = default_settings(&dir).map_err(|finding| CliError::usage(finding.to_string()))?;
        settings.extend(paths::settings(&self.settings)?);
        settings.insert("CASEDIR".into(), dir.to_string());
        Ok((dir, settings))
    }
}

/// A place that the user names: it must be free, or hold an earlier record, which is replaced.
fn given_out(out: &Utf8Path, dir: &Utf8Path) -> Result<Utf8PathBuf, CliError> {
    let out = paths::absolute(out)?;
    let empty = !out.exists() || out.read_dir_utf8().is_ok_and(|mut entries| entries.next().is_none());
    let record = out.join(Stream::Steps.file_name()).exists() && out.join(Stream::Log.file_name()).exists();
    if dir.starts_with(&out) || !(empty || record) {
        return Err(CliError::usage(format!(
            "{out} holds something else than the record of a run; choose another --out"
        )));
    }
    if record && out.join("blobs").exists() {
        fs::remove_dir_all(out.join("blobs"))?;
    }
    Ok(out)
}

/// A new folder named by the time; two runs within one second get one each.
fn fresh_out(runs: &Utf8Path) -> Result<Utf8PathBuf, CliError> {
    fs::create_dir_all(runs)?;
    let time = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
    let names = std::iter::once(time.clone()).chain((2..1000).map(|number| format!("{time}-{number}")));
    for name in names {
        let out = runs.join(name);
        match fs::create_dir(&out) {
            Ok(()) => return Ok(out),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(CliError::infrastructure(format!("{runs} is full of runs of this second; name a place with --out")))
}

/// The exit code of a verdict.
pub(crate) fn code(outcome: Outcome, class: OutcomeClass) -> Code {
    match (outcome, class) {
        (Outcome::Passed | Outcome::Softfailed, _) => Code::Ok,
        (Outcome::Failed | Outcome::TimeoutExceeded, _) => Code::Negative,
        (Outcome::Incomplete, OutcomeClass::Test) => Code::Usage,
        // Outcomes of a server's rules are not those of a run without a server.
        (Outcome::Incomplete, _) => Code::Infrastructure,
        (outcome, _) if outcome.is_aborted() => Code::Infrastructure,
        (_, _) => Code::Negative,
    }
}

async fn execute(
    common: &Common,
    settings: BTreeMap<String, String>,
    out: &Utf8Path,
    host: HostOptions,
) -> Result<Summary, CliError> {
    let dir = AttemptDir::create(out, common.verbose > 0).map_err(|error| {
        CliError::infrastructure(format!(
            "the record cannot be kept in {out}: {error}; choose another place with --out"
        ))
    })?;
    let shown: BTreeMap<_, _> = settings.iter().filter(|(name, _)| !exec::is_secret_name(name)).collect();
    fs::write(out.join("vars.json"), serde_json::to_vec_pretty(&shown).unwrap_or_default())?;
    let run_dir = host.run.clone();
    let stop = watch::Sender::new(None);
    let began = Instant::now();
    let attempt = Attempt {
        number: 1,
        settings,
        dir: dir.clone(),
        stop: stop.subscribe(),
        tap: ScreenTap::default(),
        began,
        assets: None,
        cluster: None,
        host: Arc::new(host),
    };
    let mut progress = Progress::new(out, ui::can_draw() && !common.json && common.verbose == 0);
    let report = {
        let mut grown = dir.grown();
        let run = exec::run(&attempt);
        tokio::pin!(run);
        let mut signals = Interrupts::new()?;
        let mut interrupts = 0;
        loop {
            tokio::select! {
                report = &mut run => break report,
                changed = grown.changed() => if changed.is_ok() { progress.advance() },
                () = signals.next() => {
                    interrupts += 1;
                    if interrupts > 1 {
                        return Err(CliError::infrastructure("interrupted twice; the record may be incomplete"));
                    }
                    let _ = stop.send(Some(Stop::Cancelled("interrupted".into())));
                }
            }
        }
    };
    let _ = fs::remove_dir_all(&run_dir);
    progress.advance();
    progress.end();
    Ok(finish(report, out, began.elapsed(), progress))
}

fn finish(report: Report, out: &Utf8Path, took: Duration, progress: Progress) -> Summary {
    let summary = Summary {
        outcome: report.outcome,
        class: report.class,
        reason: report.reason,
        duration_us: took.as_micros() as u64,
        out: out.to_owned(),
        modules: progress.modules,
        results: progress.results,
    };
    let json = serde_json::to_vec_pretty(&summary).unwrap_or_default();
    // A full disk has its sentence in the report already; the verdict is still printed.
    if let Err(error) = fs::write(out.join("result.json"), json) {
        eprintln!("assay: {error}");
    }
    summary
}

/// Ctrl-C and SIGTERM; none is lost between two waits.
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    pub(crate) fn new() -> Result<Self, CliError> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Reads the steps stream as it grows.
struct Progress {
    path: Utf8PathBuf,
    at: u64,
    bar: Option<ProgressBar>,
    planned: usize,
    modules: Vec<ModuleLine>,
    results: Vec<TaskResult>,
    current_steps: usize,
}

impl Progress {
    fn new(out: &Utf8Path, draw: bool) -> Self {
        let bar = draw.then(|| {
            let style = ProgressStyle::with_template(
                "{spinner} {prefix} [{bar:24}] {pos}/{len} {elapsed} {wide_msg}",
            );
            let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar.with_message("preparing")
        });
        Self {
            path: out.join(Stream::Steps.file_name()),
            at: 0,
            bar,
            planned: 0,
            modules: Vec::new(),
            results: Vec::new(),
            current_steps: 0,
        }
    }

    /// Takes in what is new; a line that is not complete yet waits for the next time.
    fn advance(&mut self) {
        let Ok(mut file) = fs::File::open(&self.path) else { return };
        if file.seek(SeekFrom::Start(self.at)).is_err() {
            return;
        }
        let mut reader = BufReader::new(file);
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|n| n > 0) && line.ends_with('\n') {
            self.at += line.len() as u64;
            if let Ok(record) = serde_json::from_str::<Record>(&line) {
                self.take(record);
            }
            line.clear();
        }
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Plan { modules } => {
                self.planned = modules.len();
                if let Some(bar) = &self.bar {
                    bar.set_length(self.planned as u64);
                }
            }
            Record::ModuleStarted { module, .. } => {
                self.current_steps = 0;
                if let Some(bar) = &self.bar {
                    bar.set_prefix(module);
                }
            }
            Record::Step(step) => {
                self.current_steps += 1;
                if let Some(bar) = &self.bar {
                    bar.set_message(describe(&step));
                }
            }
            Record::ModuleEnded { module, result, duration_us, .. } => {
                let steps = std::mem::take(&mut self.current_steps);
                self.modules.push(ModuleLine { name: module, result, duration_us, steps });
                if let Some(bar) = &self.bar {
                    bar.set_position(self.modules.len() as u64);
                }
            }
            Record::Result(result) => self.results.push(result),
            Record::Environment { .. }
            | Record::History { .. }
            | Record::Artifact(_)
            | Record::TestCases(_) => {}
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn describe(step: &Step) -> String {
    match &step.body {
        StepBody::Look { matched: Some(hit), .. } => format!("{} {}", step.call, hit.name),
        StepBody::Look { tags, .. } => format!("{} {}: no match", step.call, tags.join(" | ")),
        StepBody::Text { title, .. } => title.clone(),
        StepBody::Serial { patterns, .. } => format!("{} {}", step.call, patterns.join(" | ")),
        StepBody::Screenshot => step.call.clone(),
    }
}

fn show(summary: &Summary) {
    let rows = summary.modules.iter().map(|module| {
        let word = serde_json::to_value(module.result).ok();
        let word = word.as_ref().and_then(serde_json::Value::as_str).unwrap_or("none");
        vec![
            module.name.clone(),
            ui::result_word(word),
            ui::duration(module.duration_us),
            module.steps.to_string(),
        ]
    });
    if !summary.modules.is_empty() {
        println!("{}", ui::table(&["MODULE", "RESULT", "TIME", "STEPS"], rows));
        println!();
    }
    let rows = summary.results.iter().map(|result| {
        let item = result.data.get("item").and_then(|items| items.first()).cloned().unwrap_or_default();
        let note = result.note.as_deref().and_then(|note| note.lines().next()).unwrap_or_default();
        vec![result.testcase.clone(), item, result.outcome.clone(), note.to_owned()]
    });
    if !summary.results.is_empty() {
        println!("{}", ui::table(&["TEST CASE", "ITEM", "OUTCOME", "NOTE"], rows));
        println!();
    }
    let mut foreign = summary.results.iter().map(|result| result.testcase.as_str());
    if let Some(testcase) = foreign.find(|testcase| !task_run::may_post(&[], testcase)) {
        println!(
            "A server takes {testcase} only from a repository that owns the name, by [[tasks.namespace]] of its assay.toml; \
             {}.… is everybody's.",
            task_run::SCRATCH
        );
    }
    println!("{} in {}", ui::result_word(summary.outcome.openqa()), ui::duration(summary.duration_us));
    if let Some(reason) = &summary.reason {
        println!("reason: {reason}");
    }
    println!("record: {}", summary.out);
}
