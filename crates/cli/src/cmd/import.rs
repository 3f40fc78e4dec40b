//! `assay import …`

use crate::exit::{CliError, Code};
use crate::ui::count;
use crate::{Common, ui};
use assay_engine::gate::config::Config;
use assay_formats::assay;
use assay_formats::diagnostic::Diagnostic;
use assay_formats::zuul::{self, Functions, Options, QueueExplanation};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;

/// Reads what other systems are configured with.
#[derive(clap::Subcommand)]
pub(crate) enum Import {
    /// Read a Zuul 2 layout.yaml: check every rule, say which queues it makes and why.
    #[command(
        after_help = "Examples:\n  assay import zuul layout.yaml                  check it, show its queues\n  \
                      assay import zuul layout.yaml --out config     write it as Assay's own YAML\n  \
                      assay import zuul layout.yaml --json           everything expanded\n\n\
                      Exit code 2 if there is an error; warnings alone are 0."
    )]
    Zuul(Zuul),
}

/// `assay import zuul`
#[derive(clap::Args)]
pub(crate) struct Zuul {
    /// The layout.
    layout: Utf8PathBuf,
    #[command(flatten)]
    reading: Reading,
    /// Write Assay's own YAML, equal in meaning, into this directory.
    #[arg(long, value_name = "DIR")]
    out: Option<Utf8PathBuf>,
}

impl Import {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        match self {
            Self::Zuul(zuul) => zuul.run(common),
        }
    }
}

/// How a layout is read.
#[derive(clap::Args)]
pub(crate) struct Reading {
    /// Let the job `noop` of the layout join projects into one queue, as Zuul does.
    #[arg(long)]
    noop_joins: bool,
    /// What Python parameter functions do, as YAML (docs/coming-from-zuul.md).
    #[arg(long, value_name = "FILE")]
    functions: Option<Utf8PathBuf>,
}

impl Reading {
    pub(super) fn is_given(&self) -> bool {
        self.noop_joins || self.functions.is_some()
    }

    pub(super) fn import(&self, layout: &Utf8Path) -> Result<zuul::Import, CliError> {
        let text = read(layout)?;
        let mut functions = Functions::default();
        if let Some(file) = &self.functions {
            let text = read(file)?;
            functions.extend(&text, file.as_str()).map_err(|found| {
                let said: Vec<String> = found.iter().map(ToString::to_string).collect();
                CliError::usage(said.join("\n"))
            })?;
        }
        let options = Options { noop_joins: self.noop_joins, functions };
        Ok(zuul::import(&text, layout.as_str(), &options))
    }
}

impl Zuul {
    fn run(&self, common: &Common) -> Result<Code, CliError> {
        let import = self.reading.import(&self.layout)?;
        let Some(config) = &import.config else {
            if common.json {
                ui::print_json(&json!({"diagnostics": import.diagnostics}));
            } else {
                say(&import.diagnostics);
                let errors = import.diagnostics.iter().filter(|found| found.is_error()).count();
                eprintln!("{}: {}, nothing imported", self.layout, count(errors, "error"));
            }
            return Ok(Code::Usage);
        };
        say(&import.diagnostics);
        say(&assay_formats::remarks(config, self.layout.as_str()));
        if let Some(dir) = &self.out {
            write(dir, config)?;
        }
        if common.json {
            ui::print_json(&zuul::expanded_json(config));
        } else {
            summarise(config, &import.queues);
            if let Some(dir) = &self.out {
                println!("\nwritten to {dir}; check it with `assay config check {dir}`");
            }
        }
        // The program ends here; to take ten thousand projects apart first would be lost time.
        std::mem::forget(import);
        Ok(Code::Ok)
    }
}

/// A text file; what is not UTF-8 in it is an error of its own, with its line.
pub(crate) fn read(file: &Utf8Path) -> Result<String, CliError> {
    let bytes = fs_err::read(file).map_err(|error| CliError::unreadable(file, &error))?;
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = before.split(|byte| *byte == b'\n').count();
        CliError::usage(format!("{file}:{line}: error: this is no UTF-8; save the file as UTF-8"))
    })
}

/// Findings are talk.
fn say(diagnostics: &[Diagnostic]) {
    for found in diagnostics {
        eprintln!("{found}");
        if let Some(excerpt) = found.excerpt.as_ref().filter(|_| found.is_error()) {
            eprintln!("    {}", excerpt.trim());
        }
    }
}

/// Writes all files or none: each is complete before it has its name.
fn write(dir: &Utf8Path, config: &Config) -> Result<(), CliError> {
    fs_err::create_dir_all(dir)?;
    let files = assay::to_files(config);
    for (name, _) in &files {
        if dir.join(name).exists() {
            return Err(CliError::usage(format!(
                "{} is already there and would be lost; give another directory",
                dir.join(name)
            )));
        }
    }
    for (name, text) in &files {
        let unfinished = dir.join(format!(".{name}.new"));
        fs_err::write(&unfinished, text)?;
        fs_err::rename(&unfinished, dir.join(name))?;
    }
    Ok(())
}

fn summarise(config: &Config, queues: &[QueueExplanation]) {
    println!(
        "{}, {}, {}",
        count(config.pipelines.len(), "pipeline"),
        count(config.projects.len(), "project"),
        count(config.jobs.len(), "job")
    );
    let rows = config.pipelines.iter().map(|pipeline| {
        let projects = config.projects.values();
        let projects = projects.filter(|project| project.pipelines.contains_key(&pipeline.name)).count();
        let shared: usize = pipeline.queues.iter().map(|queue| queue.projects.len()).sum();
        let queues = match pipeline.manager {
            assay_engine::gate::config::Manager::Dependent => {
                format!("{} shared, {} alone", pipeline.queues.len(), projects.saturating_sub(shared))
            }
            _ => String::new(),
        };
        vec![
            pipeline.name.to_string(),
            format!("{:?}", pipeline.manager).to_lowercase(),
            projects.to_string(),
            queues,
        ]
    });
    println!("\n{}", ui::table(&["pipeline", "manager", "projects", "queues"], rows));
    for queue in queues {
        let named = if queue.named { ", named by a job" } else { "" };
        println!(
            "\nqueue {:?} of {}: {}{named}",
            queue.name.as_str(),
            queue.pipeline,
            count(queue.projects.len(), "project")
        );
        for join in queue.joins.iter().take(REASONS) {
            let projects: Vec<&str> =
                join.projects.iter().map(assay_engine::gate::ids::ProjectName::as_str).collect();
            let more = projects.len().saturating_sub(NAMES);
            let names = projects[..projects.len().min(NAMES)].join(", ");
            let names = if more > 0 { format!("{names} and {more} more") } else { names };
            println!("  {} joins {names}", join.job);
        }
        if queue.joins.len() > REASONS {
            let more = count(queue.joins.len() - REASONS, "more job");
            println!("  and {more} that several of them have");
        }
    }
}

/// Reasons shown of a queue.
const REASONS: usize = 12;
/// Projects shown of a reason.
const NAMES: usize = 6;
