//! `assay product …`: what is tested of a build, and why not more.

use crate::client::{Client, encoded};
use crate::exit::{CliError, Code};
use crate::{Common, paths, ui};
use assay_engine::product::Plan;
use assay_proto::api::products::{PostProduct, ProductPosted, ProductRuns, Remark};

const API: &str = "/api/assay/v1/products";

/// Products (media): post a build, see what would be made of it, and what was posted.
#[derive(clap::Subcommand)]
pub(crate) enum Product {
    /// Post a build: make all jobs that the templates say, or none.
    #[command(
        after_help = "Examples:\n  assay product post DISTRI=fedora VERSION=43 FLAVOR=Server-dvd-iso ARCH=x86_64 BUILD=43.1 ISO=server.iso\n  \
                      assay product post DISTRI=opensuse VERSION=Tumbleweed FLAVOR=DVD ARCH=x86_64 BUILD=20261121 _OBSOLETE=1\n  \
                      assay product post … TEST=install_default,update _SKIP_CHAINED_DEPS=1"
    )]
    Post(Words),
    /// Say what a post would make, and why not the rest. Nothing is stored.
    #[command(
        after_help = "Example:\n  assay product plan DISTRI=fedora VERSION=43 FLAVOR=Server-dvd-iso ARCH=x86_64 BUILD=43.1"
    )]
    Plan(Words),
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
}

impl Words {
    fn request(&self) -> Result<PostProduct, CliError> {
        Ok(PostProduct { settings: paths::settings(&self.words)? })
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
                Ok(if plan.refused.is_some() { Code::Negative } else { Code::Ok })
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
                        jobs,
                        failed,
                        left_out,
                    ]
                });
                let header = ["id", "posted", "by", "product", "build", "jobs", "failed", "left out"];
                println!("{}", ui::table(&header, rows));
                Ok(Code::Ok)
            }
        }
    }
}

fn post(common: &Common, client: &Client, words: &Words) -> Result<Code, CliError> {
    let posted: ProductPosted = client.post(API, &words.request()?)?;
    if common.json {
        ui::print_json(&posted);
        return Ok(Code::Ok);
    }
    println!("product {}: {} jobs", posted.id, posted.jobs.len());
    for job in &posted.jobs {
        println!("  {}{}", client.url(), job.url);
    }
    remarks("not as it was meant", &posted.failed);
    if !posted.left_out.is_empty() {
        println!("{} templates were not asked for; `assay product plan` says why", posted.left_out.len());
    }
    for note in &posted.notes {
        println!("note: {note}");
    }
    Ok(Code::Ok)
}

fn remarks(title: &str, remarks: &[Remark]) {
    for remark in remarks {
        println!("{title}: {}: {}", remark.job, remark.why.join("; "));
    }
}

fn show(plan: &Plan) {
    if let Some(refused) = &plan.refused {
        println!("refused: {refused}");
    }
    let rows = plan.jobs.iter().enumerate().map(|(place, job)| {
        let parent =
            |(relation, at): &(assay_engine::relations::Relation, usize)| format!("{relation} {}", at + 1);
        let parents: Vec<_> = job.parents.iter().map(parent).collect();
        vec![(place + 1).to_string(), job.label(), job.priority.to_string(), parents.join(", ")]
    });
    println!("{}", ui::table(&["#", "job", "priority", "depends"], rows));
    for failed in &plan.failed {
        println!("not as it was meant: {}: {}", failed.job, failed.problems.join("; "));
    }
    for left in &plan.left_out {
        println!("left out: {}: {}", left.job, left.sentence());
    }
    for download in &plan.downloads {
        println!("fetched first: {} from {}", download.download.name, download.download.url);
    }
    for note in &plan.notes {
        println!("note: {note}");
    }
}
