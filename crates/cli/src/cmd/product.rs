//! `assay product …`: what is tested of a build, and why not more.

use super::import::read;
use crate::client::{Client, encoded};
use crate::exit::{CliError, Code};
use crate::ui::count;
use crate::{Common, paths, ui};
use assay_engine::product::Plan;
use assay_proto::api::products::{PostProduct, ProductPosted, ProductRun, ProductRuns, Remark};
use assay_proto::api::templates::TemplateFile;
use camino::Utf8PathBuf;

const API: &str = "/api/assay/v1/products";

/// Products (media): post a build, see what would be made of it, and what was posted.
#[derive(clap::Subcommand)]
pub(crate) enum Product {
    /// Post a build: make all jobs that the templates say, or none.
    #[command(
        after_help = "Examples:\n  assay product post DISTRI=fedora VERSION=43 FLAVOR=Server-dvd-iso ARCH=x86_64 BUILD=43.1 ISO=server.iso\n  \
                      assay product post DISTRI=opensuse VERSION=Tumbleweed FLAVOR=DVD ARCH=x86_64 BUILD=20261121 _OBSOLETE=1\n  \
                      assay product post … TEST=install_default,update _SKIP_CHAINED_DEPS=1\n  \
                      assay product post --scenarios scenario-definitions.yaml DISTRI=demo VERSION=1 FLAVOR=DVD ARCH=x86_64\n\
                      Exits with 1 if no job was made."
    )]
    Post(Words),
    /// Say what a post would make, and why not the rest. Nothing is stored.
    #[command(
        after_help = "Example:\n  assay product plan DISTRI=fedora VERSION=43 FLAVOR=Server-dvd-iso ARCH=x86_64 BUILD=43.1\n  \
                      assay product plan --scenarios scenario-definitions.yaml DISTRI=demo VERSION=1 FLAVOR=DVD ARCH=x86_64\n\
                      Exits with 1 if no job would be made."
    )]
    Plan(Words),
    /// Show a post: what was asked for, its jobs, and why there are not more.
    #[command(after_help = "Example:\n  assay product show 12")]
    Show {
        /// Its number, as `assay product list` has it.
        id: i64,
    },
    /// List what was posted, the newest first.
    #[command(after_help = "Example:\n  assay product list --build 43.1")]
    List {
        /// Only this build.
        #[arg(long)]
        build: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
}

#[derive(clap::Args)]
pub(crate) struct Words {
    /// Settings and flags.
    #[arg(value_name = "NAME=VALUE", required = true)]
    words: Vec<String>,
    /// Scenario definitions (JobScenarios-01.yaml) in the place of the server's templates.
    #[arg(long, value_name = "FILE")]
    scenarios: Option<Utf8PathBuf>,
}

impl Words {
    fn request(&self) -> Result<PostProduct, CliError> {
        let scenarios = match &self.scenarios {
            Some(path) => Some(TemplateFile { name: path.to_string(), text: read(path)? }),
            None => None,
        };
        Ok(PostProduct { settings: paths::settings(&self.words)?, scenarios })
    }
}

impl Product {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let client = Client::new(common)?;
        match self {
            Self::Post(words) => post(common, &client, &words),
            Self::Plan(words) => {
                let plan: Plan = client.post(&format!("{API}/plan"), &words.request()?)?;
                if common.json {
                    ui::print_json(&plan);
                } else {
                    show(&plan);
                }
                Ok(if plan.refused.is_some() || plan.jobs.is_empty() { Code::Negative } else { Code::Ok })
            }
            Self::Show { id } => {
                let run: ProductRun = client.get(&format!("{API}/{id}"))?;
                if common.json {
                    ui::print_json(&run);
                } else {
                    show_run(&client, &run);
                }
                Ok(Code::Ok)
            }
            Self::List { build, limit } => {
                let build = build.map(|build| format!("&build={}", encoded(&build))).unwrap_or_default();
                let runs: ProductRuns = client.get(&format!("{API}?limit={limit}{build}"))?;
                if common.json {
                    ui::print_json(&runs);
                    return Ok(Code::Ok);
                }
                let rows = runs.products.iter().map(|run| {
                    let get = |key: &str| run.settings.get(key).cloned().unwrap_or_default();
                    let product = ["DISTRI", "VERSION", "FLAVOR", "ARCH"].map(get).join("-");
                    let counts =
                        [run.jobs.len(), run.failed.len(), run.left_out.len()].map(|n| n.to_string());
                    let [jobs, failed, left_out] = counts;
                    vec![
                        run.id.to_string(),
                        run.posted.clone(),
                        run.by.clone(),
                        product,
                        get("BUILD"),
                        state(run).to_owned(),
                        jobs,
                        failed,
                        left_out,
                    ]
                });
                let header =
                    ["id", "posted", "by", "product", "build", "state", "jobs", "failed", "left out"];
                println!("{}", ui::table(&header, rows));
                Ok(Code::Ok)
            }
        }
    }
}

fn post(common: &Common, client: &Client, words: &Words) -> Result<Code, CliError> {
    let posted: ProductPosted = client.post(API, &words.request()?)?;
    let code = if posted.jobs.is_empty() { Code::Negative } else { Code::Ok };
    if common.json {
        ui::print_json(&posted);
        return Ok(code);
    }
    println!("product {}: {}", posted.id, count(posted.jobs.len(), "job"));
    for job in &posted.jobs {
        println!("  {}{}", client.url(), job.url);
    }
    older(client, &posted.obsoleted);
    failures(&posted.failed);
    if !posted.left_out.is_empty() {
        println!(
            "not asked for: {}; `assay product show {}` says why",
            count(posted.left_out.len(), "template"),
            posted.id
        );
    }
    for note in &posted.notes {
        println!("note: {note}");
    }
    Ok(code)
}

/// What it means that something failed.
fn word(made: bool) -> &'static str {
    if made { "not as it was meant" } else { "not made" }
}

fn failures(remarks: &[Remark]) {
    for remark in remarks {
        println!("{}: {}: {}", word(remark.made.unwrap_or(false)), remark.job, remark.why.join("; "));
    }
}

/// What became of a post as a whole.
fn state(run: &ProductRun) -> &'static str {
    match (&run.cancelled_by, &run.refused) {
        (Some(_), _) => "cancelled",
        (None, Some(_)) => "refused",
        (None, None) => "scheduled",
    }
}

/// Jobs of older builds that a post took the place of.
fn older(client: &Client, jobs: &[i64]) {
    for job in jobs {
        println!("ended, or stepped back: {}/jobs/{job}", client.url());
    }
}

fn show_run(client: &Client, run: &ProductRun) {
    let by = if run.by.is_empty() { String::new() } else { format!(" by {}", run.by) };
    let (state, jobs) = (state(run), count(run.jobs.len(), "job"));
    println!("product {}, posted {}{by}: {state}, {jobs}", run.id, run.posted);
    for (what, text) in [("refused", &run.refused), ("cancelled by", &run.cancelled_by), ("note", &run.note)]
    {
        if let Some(text) = text {
            println!("{what}: {text}");
        }
    }
    for (name, value) in &run.settings {
        // Scenario definitions: the whole text is in `--json`.
        match value.lines().count() {
            0 | 1 => println!("  {name}={value}"),
            lines => println!("  {name}=({lines} lines)"),
        }
    }
    for job in &run.jobs {
        println!("made: {}/jobs/{job}", client.url());
    }
    older(client, &run.obsoleted);
    failures(&run.failed);
    for left in &run.left_out {
        println!("left out: {}: {}", left.job, left.why.join("; "));
    }
}

fn show(plan: &Plan) {
    /// Lines about older jobs.
    const OLDER: usize = 20;
    if let Some(refused) = &plan.refused {
        println!("refused: {refused}");
    }
    let rows = plan.jobs.iter().enumerate().map(|(place, job)| {
        let parent =
            |(relation, at): &(assay_engine::relations::Relation, usize)| format!("{relation} {}", at + 1);
        let parents: Vec<_> = job.parents.iter().map(parent).collect();
        vec![(place + 1).to_string(), job.label(), job.priority.to_string(), parents.join(", ")]
    });
    if !plan.jobs.is_empty() {
        println!("{}", ui::table(&["#", "job", "priority", "depends"], rows));
    } else if plan.refused.is_none() {
        println!("no jobs");
    }
    for failed in &plan.failed {
        println!("{}: {}: {}", word(failed.made.is_some()), failed.job, failed.problems.join("; "));
    }
    for left in &plan.left_out {
        println!("left out: {}: {}", left.job, left.sentence());
    }
    for old in plan.old_jobs.iter().take(OLDER) {
        println!("older: {}", old.sentence());
    }
    if plan.old_jobs.len() > OLDER {
        println!("older: {} more; `--json` has them all", plan.old_jobs.len() - OLDER);
    }
    for download in &plan.downloads {
        println!("fetched first: {} from {}", download.download.name, download.download.url);
    }
    for note in &plan.notes {
        println!("note: {note}");
    }
}
