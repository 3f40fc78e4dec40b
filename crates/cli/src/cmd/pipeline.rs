//! `assay pipeline …`: what is in the gate's pipelines, and what operators do about it.

use super::reverts;
use crate::client::{API, Client, encoded};
use crate::exit::{CliError, Code};
use crate::ui::put;
use crate::{Common, ui};
use assay_proto::api::gate::{
    Acknowledge, Autohold, AutoholdList, BuildStatus, ConfigReload, Dequeue, Done, Enqueue, EnqueueRef,
    GateStatus, HoldQueue, ItemStatus, NewAutohold, PipelineStatus, Promote, QueueStatus, Reverts,
};

/// Pipelines of the gate.
#[derive(clap::Subcommand)]
pub(crate) enum Pipeline {
    /// What is in the pipelines: items, their jobs, and what each waits for.
    #[command(after_help = "Examples:\n  assay pipeline status\n  assay pipeline status gate --json")]
    Status {
        /// Only this pipeline.
        pipeline: Option<String>,
    },
    /// Let a change in, whatever the pipeline's triggers and requirements say.
    #[command(
        after_help = "Examples:\n  assay pipeline enqueue gate 1234,5\n  assay pipeline enqueue check 1234"
    )]
    Enqueue {
        /// The pipeline.
        pipeline: String,
        /// The change; without its patchset, the newest.
        #[arg(value_name = "N[,PS]")]
        change: String,
        /// Where the change lives (default: the pipeline's source).
        #[arg(long)]
        source: Option<String>,
    },
    /// Let a ref in, as if it had just moved.
    #[command(
        after_help = "Examples:\n  assay pipeline enqueue-ref post org/project master --newrev 8c1e0d4f6b7a29330e5d1c2b3a49586772819abc"
    )]
    EnqueueRef {
        /// The pipeline.
        pipeline: String,
        /// The project.
        project: String,
        /// A branch, or a full name such as refs/tags/1.0.
        #[arg(value_name = "REF")]
        name: String,
        /// The commit before (default: none, a new ref).
        #[arg(long)]
        oldrev: Option<String>,
        /// The commit after.
        #[arg(long)]
        newrev: String,
    },
    /// Take a change out; what stands on it is tested anew.
    #[command(
        after_help = "Examples:\n  assay pipeline dequeue gate 1234\n  assay pipeline dequeue gate 1234 --force   # its landing does not end"
    )]
    Dequeue {
        /// The pipeline.
        pipeline: String,
        /// The change.
        #[arg(value_name = "N[,PS]")]
        change: String,
        /// Where the change lives (default: the pipeline's source).
        #[arg(long)]
        source: Option<String>,
        /// Also while it is being landed. Nobody knows then whether it is in its branch, so its queue is held.
        #[arg(long)]
        force: bool,
    },
    /// Put changes at the head of their queue, in this order, each after what it needs.
    #[command(after_help = "Example:\n  assay pipeline promote gate 1300,2 1234,5")]
    Promote {
        /// The pipeline.
        pipeline: String,
        /// The changes.
        #[arg(value_name = "N[,PS]", required = true)]
        changes: Vec<String>,
        /// Where the changes live (default: the pipeline's source).
        #[arg(long)]
        source: Option<String>,
    },
    /// Hold a queue: it tests, and lands nothing.
    #[command(after_help = "Example:\n  assay pipeline hold gate integrated --reason 'release day'")]
    Hold {
        /// The pipeline.
        pipeline: String,
        /// The queue; needed only if there are several.
        queue: Option<String>,
        /// For people.
        #[arg(long)]
        reason: String,
    },
    /// Let a held queue land again.
    #[command(after_help = "Example:\n  assay pipeline release gate integrated")]
    Release {
        /// The pipeline.
        pipeline: String,
        /// The queue; needed only if there are several.
        queue: Option<String>,
    },
    /// The commands that revert what landed when another part of the same landing was refused.
    ///
    /// Prints a shell script that clones each repository, reverts what landed there and pushes the reverts for review. Run
    /// twice it updates the same changes.
    #[command(
        after_help = "Examples:\n  assay pipeline reverts gate integrated\n  assay pipeline reverts gate | sh\n  assay pipeline reverts gate --git 'https://review.example.org/a/{project}' | sh"
    )]
    Reverts {
        /// The pipeline.
        pipeline: String,
        /// The queue; needed only if there are several.
        queue: Option<String>,
        /// Where the repositories are, with {project} for the project (default: the connection's host by SSH, with the
        /// login of your SSH configuration).
        #[arg(long, value_name = "URL")]
        git: Option<String>,
    },
    /// Keep the workspaces of the next failures of a job.
    #[command(subcommand)]
    Autohold(AutoholdCommand),
    /// Take the commits of a branch that no receipt covers as they are: the alarm ends, and what comes next is looked at.
    #[command(after_help = "Example:\n  assay pipeline acknowledge org/project master")]
    Acknowledge {
        /// The project.
        project: String,
        /// The branch.
        branch: String,
    },
    /// Read the configuration again; a bad one leaves the one before in force.
    #[command(after_help = "Example:\n  assay pipeline reload")]
    Reload,
}

/// Keeping workspaces.
#[derive(clap::Subcommand)]
pub(crate) enum AutoholdCommand {
    /// Keep the next failures.
    #[command(
        after_help = "Example:\n  assay pipeline autohold add org/project tempest-full --change 1234 --count 2 --reason 'looking at the race'"
    )]
    Add {
        /// The project.
        project: String,
        /// The job.
        job: String,
        /// Of this change only.
        #[arg(long, value_name = "N")]
        change: Option<String>,
        /// Where the change lives.
        #[arg(long)]
        source: Option<String>,
        /// How many failures.
        #[arg(long, default_value_t = 1)]
        count: u32,
        /// For people.
        #[arg(long)]
        reason: String,
    },
    /// What is to be kept.
    #[command(after_help = "Example:\n  assay pipeline autohold list")]
    List,
    /// No longer.
    #[command(after_help = "Example:\n  assay pipeline autohold delete 3")]
    Delete {
        /// Its number.
        id: i64,
    },
}

impl Pipeline {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let client = Client::new(common)?;
        let at = |what: &str| format!("{API}/gate/{what}?by={}", encoded(&user()));
        match self {
            Self::Status { pipeline } => return status(common, &client, pipeline.as_deref()),
            Self::Enqueue { pipeline, change, source } => {
                done(common, &client.post(&at("enqueue"), &Enqueue { pipeline, change, source })?);
            }
            Self::EnqueueRef { pipeline, project, name, oldrev, newrev } => {
                let wanted = EnqueueRef { pipeline, project, name, oldrev, newrev };
                done(common, &client.post(&at("enqueue-ref"), &wanted)?);
            }
            Self::Dequeue { pipeline, change, source, force } => {
                let what = if force { "end-landing" } else { "dequeue" };
                done(common, &client.post(&at(what), &Dequeue { pipeline, change, source })?);
            }
            Self::Promote { pipeline, changes, source } => {
                done(common, &client.post(&at("promote"), &Promote { pipeline, changes, source })?);
            }
            Self::Acknowledge { project, branch } => {
                done(common, &client.post(&at("acknowledge"), &Acknowledge { project, branch })?);
            }
            Self::Hold { pipeline, queue, reason } => {
                let wanted = HoldQueue { pipeline, queue, reason: Some(reason) };
                done(common, &client.post(&at("hold"), &wanted)?);
            }
            Self::Release { pipeline, queue } => {
                done(common, &client.post(&at("release"), &HoldQueue { pipeline, queue, reason: None })?);
            }
            Self::Reverts { pipeline, queue, git } => {
                let queue = queue.map(|queue| format!("&queue={}", encoded(&queue))).unwrap_or_default();
                let path = format!("{API}/gate/reverts?pipeline={}{queue}", encoded(&pipeline));
                let found: Reverts = client.get(&path)?;
                if common.json {
                    ui::print_json(&found);
                } else {
                    put(&reverts::script(&found, git.as_deref())?);
                }
            }
            Self::Autohold(command) => command.run(common, &client, at)?,
            Self::Reload => {
                let reloaded: ConfigReload = client.post(&at("reload"), &())?;
                if common.json {
                    ui::print_json(&reloaded);
                } else {
                    reloaded.findings.iter().for_each(|finding| eprintln!("{finding}"));
                    println!("the configuration is in force: {}", reloaded.hash);
                }
            }
        }
        Ok(Code::Ok)
    }
}

impl AutoholdCommand {
    fn run(self, common: &Common, client: &Client, at: impl Fn(&str) -> String) -> Result<(), CliError> {
        match self {
            Self::Add { project, job, change, source, count, reason } => {
                let wanted = NewAutohold { project, job, change, source, count, reason };
                let made: Autohold = client.post(&at("autoholds"), &wanted)?;
                if common.json {
                    ui::print_json(&made);
                } else {
                    println!(
                        "autohold {}: the next {} of {} {}",
                        made.id,
                        failures(made.left),
                        made.project,
                        made.job
                    );
                }
            }
            Self::List => {
                let list: AutoholdList = client.get(&format!("{API}/gate/autoholds"))?;
                if common.json {
                    ui::print_json(&list);
                } else {
                    println!("{}", autoholds(&list.autoholds));
                }
            }
            Self::Delete { id } => done(common, &client.delete(&at(&format!("autoholds/{id}")))?),
        }
        Ok(())
    }
}

fn failures(count: u32) -> String {
    if count == 1 { "failure".to_owned() } else { format!("{count} failures") }
}

fn autoholds(list: &[Autohold]) -> comfy_table::Table {
    let rows = list.iter().map(|one| {
        let change = one.change.map(|change| change.to_string()).unwrap_or_default();
        vec![
            one.id.to_string(),
            one.project.clone(),
            one.job.clone(),
            change,
            one.left.to_string(),
            one.by.clone(),
            one.reason.clone(),
        ]
    });
    ui::table(&["ID", "PROJECT", "JOB", "CHANGE", "LEFT", "BY", "REASON"], rows)
}

fn done(common: &Common, done: &Done) {
    if common.json {
        ui::print_json(done);
    } else {
        println!("{}", done.done);
    }
}

fn user() -> String {
    std::env::var("USER").ok().filter(|user| !user.is_empty()).unwrap_or_else(|| "an operator".to_owned())
}

fn status(common: &Common, client: &Client, pipeline: Option<&str>) -> Result<Code, CliError> {
    let query = pipeline.map(|name| format!("?pipeline={}", encoded(name))).unwrap_or_default();
    let status: GateStatus = client.get(&format!("{API}/gate{query}"))?;
    if common.json {
        client.print(&status);
        return Ok(Code::Ok);
    }
    let mut text = String::new();
    if status.config.is_none() {
        text.push_str("nothing is gated; start the server with --config and a [gate] section\n");
    }
    let staging = status.staging.then_some("staging: reports are logged and not sent");
    for trouble in status.troubles.iter().map(String::as_str).chain(staging) {
        text.extend(["! ", trouble, "\n"]);
    }
    status.pipelines.iter().for_each(|pipeline| write_pipeline(&mut text, pipeline));
    if !status.autoholds.is_empty() {
        text.extend(["\n", &autoholds(&status.autoholds).to_string(), "\n"]);
    }
    put(&text);
    Ok(Code::Ok)
}

fn write_pipeline(text: &mut String, pipeline: &PipelineStatus) {
    let items: usize = pipeline.queues.iter().map(|queue| queue.items.len()).sum();
    let disabled = if pipeline.disabled { ", disabled after failures" } else { "" };
    let items = ui::count(items, "item");
    let head = format!("{} ({}): {items}{disabled}\n", pipeline.name, pipeline.manager);
    text.push_str(&head);
    for queue in &pipeline.queues {
        if queue.items.is_empty() && queue.hold.is_none() {
            continue;
        }
        if pipeline.manager != "independent" {
            let window = if queue.window > 0 { format!(", window {}", queue.window) } else { String::new() };
            text.extend(["  queue ", &queue.name, &window, "\n"]);
        }
        if let Some(hold) = &queue.hold {
            text.extend(["    HELD since ", &hold.since, ": ", &hold.text, "\n"]);
        }
        write_items(text, queue);
    }
}

fn write_items(text: &mut String, queue: &QueueStatus) {
    for (index, item) in queue.items.iter().enumerate() {
        if queue.window > 0 && index == queue.window as usize {
            text.push_str("    ---- window ----\n");
        }
        text.extend(["    ", &line(item), "\n"]);
        for said in item.failing.iter().take(3) {
            text.extend(["        ✘ ", &said.text, "\n"]);
        }
        if let Some(first) = item.why.first() {
            text.extend(["        ", &first.text, "\n"]);
        }
    }
}

/// `12  1234,5  org/project master  running 2/5: A subject`
fn line(item: &ItemStatus) -> String {
    let ended = |job: &&BuildStatus| matches!(job.state.as_str(), "ended" | "reused" | "skipped");
    let jobs = format!("{}/{}", item.jobs.iter().filter(ended).count(), item.jobs.len());
    let subject = item.changes.last().map(|change| change.subject.as_str()).unwrap_or_default();
    let state = match item.state.as_str() {
        "testing" if !item.active => "waiting",
        "testing" if !item.failing.is_empty() => "failing",
        state => state,
    };
    let left = item.remaining.map(|left| format!(", {} left", ui::duration((left.p50 * 1e6) as u64)));
    let left = left.unwrap_or_default();
    format!("{}  {} {}  {state}, jobs {jobs}{left}  {subject}", item.subject, item.project, item.branch)
}
