//! `assay job …`

use crate::client::{API, Client, query};
use crate::exit::{CliError, Code};
use crate::{Common, paths, ui};
use assay_proto::api::restart::SetPriority;
use assay_proto::api::{
    CancelJob, Comment, CommentList, Job as ApiJob, JobList, NewComment, NumberOrName, PostJob, PostedJobs,
};
use assay_worker::suite::default_settings;
use camino::Utf8Path;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

/// Jobs on a server.
#[derive(clap::Subcommand)]
pub(crate) enum Job {
    /// Post a job.
    #[command(
        after_help = "Examples:\n  assay job post examples/grub\n  assay job post mytests ISO=/images/my.iso QEMURAM=2048 --priority 40\n  \
                            assay job post BACKEND=dummy TEST=try DUMMY_SLEEP=3\n  assay job post mytests TEST=upgrade --group fedora --after 12\n  \
                            assay job wait $(assay job post examples/grub --quiet)"
    )]
    Post(Post),
    /// List jobs, newest first.
    #[command(
        after_help = "Examples:\n  assay job list --state running\n  assay job list --build 43.1 --result not_ok --json | jq '.jobs[].id'\n  \
                      assay job list --group fedora --test install -q kernel"
    )]
    List(List),
    /// Show a job: state, reason, attempts, settings.
    #[command(after_help = "Examples:\n  assay job show 12\n  assay job show 12 --explain")]
    Show {
        /// Its number.
        job: i64,
        /// Say of each setting where it comes from and what it overrode.
        #[arg(long)]
        explain: bool,
    },
    /// Say why a job waits, or why it ended as it did.
    #[command(after_help = "Examples:\n  assay job why 12\n  assay job why 12 --json | jq -r .reason")]
    Why {
        /// Its number.
        job: i64,
    },
    /// Say what changed since the job's scenario last passed.
    #[command(
        after_help = "Examples:\n  assay job investigate 12\n  assay job investigate 12 --against first_bad\n  \
                      assay job investigate 12 --json | jq .suspects"
    )]
    Investigate {
        /// Its number.
        job: i64,
        /// What the last good job is compared with: this job, or the first bad one, without what came after it.
        #[arg(long, value_enum, default_value_t = super::investigate::Against::This)]
        against: super::investigate::Against,
    },
    /// Start jobs anew: clones of them and of what the policy adds.
    #[command(
        after_help = "Examples:\n  assay job restart 12 --plan\n  assay job restart 12 13 --set QEMURAM=4096\n  \
                            assay job restart 12 --force --skip-children"
    )]
    Restart(super::restart::Restart),
    /// Copy a job with other settings; the job itself does not change.
    #[command(
        after_help = "Examples:\n  assay job clone 12 QEMURAM=4096 TEST+=-big\n  assay job clone 12 DEBUG="
    )]
    Clone(super::restart::Clone),
    /// Change the priority of a job that waits; lower is earlier.
    #[command(after_help = "Example:\n  assay job prio 12 30")]
    Prio {
        /// Its number.
        job: i64,
        /// The new priority.
        #[arg(allow_negative_numbers = true)]
        priority: i32,
    },
    /// Say something about a job, or list what was said.
    #[command(
        after_help = "Examples:\n  assay job comment 12 'boo#1 again'\n  assay job comment 12 'label:force_result:softfailed:known noise'\n  \
                      assay job comment 12            what was said"
    )]
    Comment {
        /// Its number.
        job: i64,
        /// What to say; without it the comments are listed.
        text: Option<String>,
    },
    /// Print a job's log.
    #[command(after_help = "Examples:\n  assay job log 12 --follow\n  assay job log 12 --file serial0.txt")]
    Log(Log),
    /// Cancel a job.
    #[command(after_help = "Example:\n  assay job cancel 12")]
    Cancel {
        /// Its number.
        job: i64,
    },
    /// Remove logs, screenshots, results and jobs that have had their time; the server does so every day by itself.
    #[command(
        after_help = "Examples:\n  assay job cleanup --dry-run     what would go, and why the rest stays\n  \
                            assay job cleanup --dry-run --json | jq '.verdicts[] | select(.keep | not)'"
    )]
    Cleanup {
        /// Remove nothing, only say.
        #[arg(long)]
        dry_run: bool,
    },
    /// Wait until jobs have ended; the exit code is the worst verdict.
    #[command(after_help = "Examples:\n  assay job wait 12 13\n  assay job wait 12 --timeout 600 --json")]
    Wait(Wait),
}

#[derive(clap::Args)]
pub(crate) struct Post {
    /// A test directory, and settings as NAME=VALUE; its vars.json gives the settings that you leave out.
    #[arg(value_name = "DIR | NAME=VALUE", required = true)]
    words: Vec<String>,
    /// Lower is earlier.
    #[arg(long)]
    priority: Option<i32>,
    /// The group that it belongs to: its name or its number.
    #[arg(long)]
    group: Option<String>,
    /// Start it when these jobs have passed; several with commas.
    #[arg(long, value_name = "JOB", value_delimiter = ',')]
    after: Vec<i64>,
    /// Start it when this job has passed, on the same slot, with nothing between.
    #[arg(long, value_name = "JOB", value_delimiter = ',')]
    directly_after: Vec<i64>,
    /// Start it together with these jobs, which must not have begun.
    #[arg(long, value_name = "JOB", value_delimiter = ',')]
    parallel: Vec<i64>,
    /// Print only the number.
    #[arg(short, long)]
    quiet: bool,
}

#[derive(clap::Args)]
pub(crate) struct List {
    /// Only this state: scheduled, assigned, setup, running, uploading, done, cancelled.
    #[arg(long)]
    state: Option<String>,
    /// Only this result: passed, softfailed, failed, incomplete, …
    #[arg(long)]
    result: Option<String>,
    /// Only these builds; several with commas, as with all of these.
    #[arg(long)]
    build: Option<String>,
    /// Only these suites.
    #[arg(long)]
    test: Option<String>,
    /// Only jobs of this group: its name or its number.
    #[arg(long)]
    group: Option<String>,
    /// Only these architectures.
    #[arg(long)]
    arch: Option<String>,
    /// Only these flavors.
    #[arg(long)]
    flavor: Option<String>,
    /// Only these machines.
    #[arg(long)]
    machine: Option<String>,
    /// Only jobs with this text in the name or the reason.
    #[arg(short = 'q', long = "search", value_name = "TEXT")]
    search: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Only jobs with a lower number.
    #[arg(long)]
    before: Option<i64>,
}

#[derive(clap::Args)]
pub(crate) struct Log {
    /// Its number.
    job: i64,
    /// Go on until the job has ended.
    #[arg(short, long)]
    follow: bool,
    /// Another stream of the job: steps.jsonl, serial0.txt, journal.jsonl.
    #[arg(long, default_value = "autoinst-log.txt")]
    file: String,
}

#[derive(clap::Args)]
pub(crate) struct Wait {
    /// Their numbers.
    #[arg(required = true)]
    jobs: Vec<i64>,
    /// Give up after so many seconds.
    #[arg(long)]
    timeout: Option<u64>,
}

#[derive(Serialize)]
struct Jobs {
    jobs: Vec<ApiJob>,
}

/// Why a job is where it is.
#[derive(Serialize)]
struct Why {
    job: i64,
    state: String,
    result: String,
    reason: Option<String>,
}

impl Job {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let client = Client::new(common)?;
        match self {
            Self::Post(post) => post.run(common, &client),
            Self::List(list) => list.run(common, &client),
            Self::Show { job, explain } => {
                let job: ApiJob = client.get(&format!("{API}/jobs/{job}"))?;
                if common.json {
                    client.print(job);
                } else {
                    show(&client, &job, explain);
                }
                Ok(Code::Ok)
            }
            Self::Why { job } => {
                let job: ApiJob = client.get(&format!("{API}/jobs/{job}"))?;
                if common.json {
                    let why = Why { job: job.id.0, state: job.state, result: job.result, reason: job.reason };
                    client.print(why);
                } else {
                    let reason = job.reason.as_deref().unwrap_or("there is nothing to say");
                    println!(
                        "job {} is {}: {reason}",
                        job.id,
                        if job.is_final() { &job.result } else { &job.state }
                    );
                }
                Ok(Code::Ok)
            }
            Self::Investigate { job, against } => super::investigate::run(common, &client, job, against),
            Self::Restart(restart) => restart.run(common, &client),
            Self::Clone(clone) => clone.run(common, &client),
            Self::Prio { job, priority } => {
                let path = format!("{API}/jobs/{job}/priority");
                let job: ApiJob = client.post(&path, &SetPriority { priority })?;
                if common.json {
                    client.print(&job);
                } else {
                    println!("job {} has priority {}", job.id, job.priority);
                }
                Ok(Code::Ok)
            }
            Self::Comment { job, text } => comment(common, &client, job, text),
            Self::Log(log) => log.run(common, &client),
            Self::Cleanup { dry_run } => super::asset::cleanup(common, &client, "jobs/cleanup", dry_run),
            Self::Cancel { job } => {
                let by = std::env::var("USER").ok().filter(|user| !user.is_empty());
                let job: ApiJob = client.post(&format!("{API}/jobs/{job}/cancel"), &CancelJob { by })?;
                if common.json {
                    client.print(&job);
                } else {
                    println!("job {} is {}", job.id, job.state);
                }
                Ok(Code::Ok)
            }
            Self::Wait(wait) => wait.run(common, &client),
        }
    }
}

impl Post {
    fn run(&self, common: &Common, client: &Client) -> Result<Code, CliError> {
        let numbers = |jobs: &[i64]| jobs.iter().copied().map(NumberOrName::Number).collect();
        let post = PostJob {
            settings: self.settings()?,
            priority: self.priority,
            group: self.group.clone().map(NumberOrName::Name),
            use_catalog: false,
            after: numbers(&self.after),
            directly_after: numbers(&self.directly_after),
            parallel: numbers(&self.parallel),
        };
        let posted: PostedJobs = client.post(&format!("{API}/jobs"), &post)?;
        if common.json {
            client.print(posted);
            return Ok(Code::Ok);
        }
        for job in posted.jobs {
            if self.quiet {
                println!("{}", job.id);
            } else {
                println!("job {}: {}{}", job.id, client.url(), job.url);
            }
        }
        Ok(Code::Ok)
    }

    fn settings(&self) -> Result<BTreeMap<String, String>, CliError> {
        let (dirs, pairs): (Vec<String>, Vec<String>) =
            self.words.iter().cloned().partition(|word| !word.contains('='));
        let given = paths::settings(&pairs)?;
        let Some(dir) = dirs.first() else { return Ok(given) };
        if dirs.len() > 1 {
            return Err(CliError::usage(format!(
                "one test directory is one job; {:?} is a second one",
                dirs[1]
            )));
        }
        let dir = paths::absolute(Utf8Path::new(dir))?;
        if !dir.is_dir() {
            return Err(CliError::not_found(format!("there is no directory {dir}")));
        }
        let mut settings = default_settings(&dir).map_err(|finding| CliError::usage(finding.to_string()))?;
        settings.insert("CASEDIR".into(), dir.to_string());
        settings.extend(given);
        Ok(settings)
    }
}

impl List {
    fn run(&self, common: &Common, client: &Client) -> Result<Code, CliError> {
        let query = query([
            ("limit", Some(self.limit.to_string())),
            ("state", self.state.clone()),
            ("result", self.result.clone()),
            ("build", self.build.clone()),
            ("test", self.test.clone()),
            ("group", self.group.clone()),
            ("arch", self.arch.clone()),
            ("flavor", self.flavor.clone()),
            ("machine", self.machine.clone()),
            ("q", self.search.clone()),
            ("before", self.before.map(|before| before.to_string())),
        ]);
        let list: JobList = client.get(&format!("{API}/jobs{query}"))?;
        if common.json {
            client.print(list);
        } else {
            println!("{}", verdicts(&list.jobs));
            if let Some(before) = list.next_before {
                eprintln!("more with --before {before}");
            }
        }
        Ok(Code::Ok)
    }
}

fn comment(common: &Common, client: &Client, job: i64, text: Option<String>) -> Result<Code, CliError> {
    let path = format!("{API}/jobs/{job}/comments");
    let comments = match text {
        Some(text) => vec![client.post::<Comment>(&path, &NewComment { text })?],
        None => client.get::<CommentList>(&path)?.comments,
    };
    if common.json {
        client.print(CommentList { comments });
        return Ok(Code::Ok);
    }
    let rows = comments
        .into_iter()
        .map(|comment| vec![comment.id.to_string(), comment.author, comment.created, comment.text]);
    println!("{}", ui::table(&["ID", "WHO", "WHEN", "WHAT"], rows));
    Ok(Code::Ok)
}

impl Log {
    fn run(&self, common: &Common, client: &Client) -> Result<Code, CliError> {
        if common.json {
            let mut bytes = Vec::new();
            if self.follow {
                client.follow(self.job, &self.file, |piece| bytes.extend_from_slice(piece))?;
            } else {
                bytes.extend(client.stream(self.job, &self.file)?.into_bytes());
            }
            let text = String::from_utf8_lossy(&bytes);
            ui::print_json(&serde_json::json!({"job": self.job, "file": self.file, "text": text}));
            return Ok(Code::Ok);
        }
        let print = |bytes: &[u8]| {
            let mut out = std::io::stdout().lock();
            // A closed pipe (`| head`) ends the output, not the program's health.
            let _ = out.write_all(bytes).and_then(|()| out.flush());
        };
        if self.follow {
            client.follow(self.job, &self.file, print)?;
        } else {
            print(client.stream(self.job, &self.file)?.as_bytes());
        }
        Ok(Code::Ok)
    }
}

impl Wait {
    fn run(&self, common: &Common, client: &Client) -> Result<Code, CliError> {
        let ids: std::collections::BTreeSet<i64> = self.jobs.iter().copied().collect();
        let deadline = self.timeout.map(|seconds| tokio::time::Instant::now() + Duration::from_secs(seconds));
        let board = Board::new(ui::can_draw() && !common.json);
        let bars: Vec<Option<ProgressBar>> = ids.iter().map(|_| board.bar()).collect();
        let mut done: BTreeMap<i64, ApiJob> = BTreeMap::new();
        loop {
            for (id, bar) in
                ids.iter().zip(&bars).filter(|(id, _)| !done.contains_key(id)).collect::<Vec<_>>()
            {
                let job: ApiJob = client.get(&format!("{API}/jobs/{id}"))?;
                if let Some(bar) = bar {
                    draw(bar, &job);
                }
                if job.is_final() {
                    done.insert(*id, job);
                }
            }
            let Some(first) = ids.iter().find(|id| !done.contains_key(id)) else { break };
            if deadline.is_some_and(|deadline| tokio::time::Instant::now() >= deadline) {
                return Err(CliError::infrastructure(format!(
                    "job {first} has not ended in time; `assay job show {first}` says why"
                )));
            }
            // Returns early when this job ends; the others are looked at once a second.
            let _: ApiJob = client.get(&format!("{API}/jobs/{first}/wait?timeout=1"))?;
        }
        for bar in bars.into_iter().flatten() {
            bar.finish_and_clear();
        }
        let jobs: Vec<ApiJob> = ids.iter().filter_map(|id| done.remove(id)).collect();
        let code = jobs.iter().map(code).max_by_key(|code| *code as u8).unwrap_or(Code::Ok);
        if common.json {
            client.print(Jobs { jobs });
        } else {
            println!("{}", verdicts(&jobs));
        }
        Ok(code)
    }
}

/// The exit code of a job that has ended.
fn code(job: &ApiJob) -> Code {
    let class = job.attempts.last().and_then(|attempt| attempt.class.as_deref());
    match (job.result.as_str(), class) {
        ("passed" | "softfailed", _) => Code::Ok,
        ("failed" | "timeout_exceeded", _) => Code::Negative,
        ("incomplete", Some("test")) => Code::Usage,
        _ => Code::Infrastructure,
    }
}

/// Bars below each other, or none where nobody could see them.
struct Board(Option<MultiProgress>);

impl Board {
    fn new(draw: bool) -> Self {
        Self(draw.then(MultiProgress::new))
    }

    fn bar(&self) -> Option<ProgressBar> {
        let board = self.0.as_ref()?;
        let style =
            ProgressStyle::with_template("{spinner} {prefix} [{bar:20}] {pos}/{len} {elapsed} {wide_msg}");
        let bar = ProgressBar::new(1).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(120));
        Some(board.add(bar))
    }
}

fn draw(bar: &ProgressBar, job: &ApiJob) {
    bar.set_prefix(format!("{} {}", job.id, job.name));
    if let Some(progress) = &job.progress {
        bar.set_length(progress.modules as u64);
        bar.set_position(progress.begun.saturating_sub(1) as u64);
        bar.set_message(progress.module.clone().unwrap_or_else(|| job.state.clone()));
    } else {
        bar.set_message(job.reason.clone().unwrap_or_else(|| job.state.clone()));
    }
    if job.is_final() {
        bar.finish_with_message(ui::result_word(&job.result));
    }
}

fn verdicts(jobs: &[ApiJob]) -> comfy_table::Table {
    let rows = jobs.iter().map(|job| {
        let word = if job.is_final() { ui::result_word(&job.result) } else { job.state.clone() };
        vec![job.id.to_string(), job.name.clone(), word, took(job), job.reason.clone().unwrap_or_default()]
    });
    ui::table(&["JOB", "NAME", "RESULT", "TIME", "REASON"], rows)
}

fn took(job: &ApiJob) -> String {
    let parse = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    match (parse(&job.started), parse(&job.finished)) {
        (Some(from), Some(to)) => ui::duration((to.as_microsecond() - from.as_microsecond()).max(0) as u64),
        _ => String::new(),
    }
}

fn show(client: &Client, job: &ApiJob, explain: bool) {
    println!("job {}  {}", job.id, job.name);
    println!("{}{}", client.url(), job.url);
    println!("state    {}", job.state);
    println!("result   {}", ui::result_word(&job.result));
    if let Some(reason) = &job.reason {
        println!("reason   {reason}");
    }
    println!("priority {}", job.priority);
    println!("posted   {}", job.created);
    if !job.attempts.is_empty() {
        println!("\n{}", attempts(job));
    }
    let settings = job.settings.iter().map(|(name, setting)| {
        let mut from = if explain { setting.origin.clone() } else { setting.from.clone() };
        for (origin, value) in setting.over.iter().filter(|_| explain) {
            from = format!("{from}, over {value:?} from {origin}");
        }
        vec![name.clone(), setting.value.clone(), from]
    });
    println!("\n{}", ui::table(&["SETTING", "VALUE", "FROM"], settings));
}

fn attempts(job: &ApiJob) -> comfy_table::Table {
    let rows = job.attempts.iter().map(|attempt| {
        let word =
            if attempt.result == "none" { attempt.state.clone() } else { ui::result_word(&attempt.result) };
        vec![
            attempt.number.to_string(),
            word,
            attempt.worker.clone(),
            attempt.reason.clone().unwrap_or_default(),
        ]
    });
    ui::table(&["ATTEMPT", "RESULT", "WORKER", "REASON"], rows)
}
