//! `assay config …`

use super::import::{Reading, read};
use crate::exit::{CliError, Code};
use crate::ui::count;
use crate::{Common, ui};
use assay_formats::assay::{self, Loaded};
use assay_formats::diagnostic::Diagnostic;
use assay_formats::zuul::Import;
use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

/// What is tested, and how.
#[derive(clap::Subcommand)]
pub(crate) enum Config {
    /// Check pipelines, queues, projects and jobs: everything that is wrong, with its place.
    #[command(
        after_help = "Examples:\n  assay config check config              all *.yaml of a directory\n  \
                      assay config check a.yaml b.yaml       these files as one configuration\n  \
                      assay config check --layout layout.yaml jobs    what Zuul's layout runs, and what that does\n\n\
                      Exit code 2 if there is an error; warnings alone are 0."
    )]
    Check {
        /// Directories of *.yaml files, or files (default: the current directory).
        #[arg(value_name = "DIR|FILE")]
        paths: Vec<Utf8PathBuf>,
        /// Zuul 2's layout.yaml; DIR and FILE say what its jobs do.
        #[arg(long, value_name = "FILE")]
        layout: Option<Utf8PathBuf>,
        #[command(flatten)]
        reading: Reading,
    },
}

#[derive(Serialize)]
struct Checked {
    files: Vec<String>,
    errors: usize,
    warnings: usize,
    pipelines: usize,
    projects: usize,
    jobs: usize,
    /// None if there is an error.
    hash: Option<String>,
    findings: Vec<Diagnostic>,
}

impl Config {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let Self::Check { mut paths, layout, reading } = self;
        if paths.is_empty() && layout.is_none() {
            paths.push(".".into());
        }
        if layout.is_none() && reading.is_given() {
            let message = "--noop-joins and --functions are about a layout; add --layout FILE";
            return Err(CliError::usage(message));
        }
        let checked = check(&paths, layout.as_deref(), &reading)?;
        if common.json {
            ui::print_json(&checked);
        } else {
            show(&checked);
        }
        Ok(if checked.errors > 0 { Code::Usage } else { Code::Ok })
    }
}

/// The `*.yaml` and `*.yml` files of a directory by name, or the file itself.
pub(super) fn files(path: &Utf8Path) -> Result<Vec<Utf8PathBuf>, CliError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in path.read_dir_utf8()? {
        let path = entry?.into_path();
        let path = path.strip_prefix("./").map(ToOwned::to_owned).unwrap_or(path);
        if matches!(path.extension(), Some("yaml" | "yml")) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(CliError::not_found(format!(
            "{path} holds no *.yaml; docs/gating.md shows what goes there"
        )));
    }
    Ok(files)
}

fn check(paths: &[Utf8PathBuf], layout: Option<&Utf8Path>, reading: &Reading) -> Result<Checked, CliError> {
    let mut names = Vec::new();
    for path in paths {
        names.extend(files(path)?);
    }
    let texts: Vec<String> = names.iter().map(|file| read(file)).collect::<Result<_, _>>()?;
    let sources: Vec<(&str, &str)> =
        names.iter().zip(&texts).map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let Loaded { config, mut diagnostics } = match layout {
        None => assay::load(&sources),
        Some(layout) => over(layout, reading, &sources)?,
    };
    if let (Some(config), Some(first)) = (&config, layout.or(paths.first().map(AsRef::as_ref))) {
        diagnostics.extend(assay_formats::remarks(config, first.as_str()));
    }
    let errors = diagnostics.iter().filter(|found| found.is_error()).count();
    let of = |count: fn(&assay_engine::gate::config::Config) -> usize| config.as_ref().map_or(0, count);
    Ok(Checked {
        files: layout.into_iter().chain(names.iter().map(AsRef::as_ref)).map(ToString::to_string).collect(),
        errors,
        warnings: diagnostics.len() - errors,
        pipelines: of(|config| config.pipelines.len()),
        projects: of(|config| config.projects.len()),
        jobs: of(|config| config.jobs.len()),
        hash: config.as_ref().map(|config| config.hash.clone()),
        findings: diagnostics,
    })
}

/// A layout, with files that say what its jobs do.
fn over(layout: &Utf8Path, reading: &Reading, sources: &[(&str, &str)]) -> Result<Loaded, CliError> {
    let Import { config, diagnostics, .. } = reading.import(layout)?;
    if sources.is_empty() {
        return Ok(Loaded { config, diagnostics });
    }
    let mut read = assay::load_over(config, sources);
    read.diagnostics.splice(..0, diagnostics);
    Ok(read)
}

fn show(checked: &Checked) {
    for found in &checked.findings {
        println!("{found}");
        if let Some(excerpt) = found.excerpt.as_ref().filter(|_| found.is_error()) {
            println!("    {}", excerpt.trim());
        }
    }
    let Some(hash) = &checked.hash else {
        println!("{}, {}", count(checked.errors, "error"), count(checked.warnings, "warning"));
        return;
    };
    println!(
        "{}, {}, {}: no errors, {}; hash {}",
        count(checked.pipelines, "pipeline"),
        count(checked.projects, "project"),
        count(checked.jobs, "job"),
        count(checked.warnings, "warning"),
        &hash[..12]
    );
}
