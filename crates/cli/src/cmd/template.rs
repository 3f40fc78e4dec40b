//! `assay template …`: what products are scheduled from, as files.

use super::import::read;
use crate::client::Client;
use crate::exit::{CliError, Code};
use crate::{Common, ui};
use assay_proto::api::templates::{LoadTemplates, LoadedTemplates, TemplateChange, TemplateFile};
use camino::Utf8PathBuf;

const API: &str = "/api/assay/v1/templates";

/// Templates: machines, products, test suites, and which of them are tested together.
#[derive(clap::Subcommand)]
pub(crate) enum Template {
    /// Put files into the server's catalog: all of it, or nothing. What is there of the same name is changed.
    #[command(
        after_help = "Examples:\n  assay template load templates.json             as openqa-load-templates takes it, JSON or Perl's data\n  \
                      assay template load templates.fif.json templates-updates.fif.json\n  \
                      assay template load --group 'Fedora 43' fedora-43.yaml    the YAML of a job group"
    )]
    Load(Files),
    /// Say what is wrong with files, and what loading them would change. Nothing is changed.
    #[command(
        after_help = "Examples:\n  assay template check templates.json\n  assay template check --group 'Fedora 43' fedora-43.yaml\n  \
                      assay template check scenario-definitions.yaml            as they stand beside tests; `product post --scenarios` posts them"
    )]
    Check(Files),
    /// Print the whole catalog as `openqa-load-templates` takes it.
    #[command(after_help = "Example:\n  assay template dump >templates.json")]
    Dump,
}

#[derive(clap::Args)]
pub(crate) struct Files {
    /// The files.
    #[arg(required = true)]
    files: Vec<Utf8PathBuf>,
    /// The group of a YAML file (default: the file's name), or of all templates of Fedora's format (default: Fedora's rules).
    #[arg(long)]
    group: Option<String>,
}

impl Template {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let client = Client::new(common)?;
        match self {
            Self::Load(files) => files.send(common, &client, false),
            Self::Check(files) => files.send(common, &client, true),
            Self::Dump => {
                println!("{}", client.text(API)?.trim_end());
                Ok(Code::Ok)
            }
        }
    }
}

impl Files {
    fn send(self, common: &Common, client: &Client, check: bool) -> Result<Code, CliError> {
        let mut files = Vec::new();
        for path in &self.files {
            files.push(TemplateFile { name: path.to_string(), text: read(path)? });
        }
        let loaded: LoadedTemplates = client.post(API, &LoadTemplates { files, group: self.group, check })?;
        if common.json {
            ui::print_json(&loaded);
            return Ok(Code::Ok);
        }
        for warning in &loaded.warnings {
            eprintln!("{warning}");
        }
        if check {
            name(&loaded.changes);
        }
        let LoadedTemplates { made, changed, same, removed, .. } = loaded;
        let would = if check { "would be " } else { "" };
        let gone = if removed > 0 { format!(", {removed} {would}removed") } else { String::new() };
        println!("{made} {would}new, {changed} {would}changed, {same} as they were{gone}");
        Ok(Code::Ok)
    }
}

/// Names what would not stay as it is. A whole catalog would push away what else is said.
fn name(changes: &[TemplateChange]) {
    const MOST: usize = 40;
    for TemplateChange { change, kind, name } in changes.iter().take(MOST) {
        println!("{}: {} {name}", change.word(), kind.replace('_', " "));
    }
    if changes.len() > MOST {
        println!("… and {} more; `--json` has them all", changes.len() - MOST);
    }
}
