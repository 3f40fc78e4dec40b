//! `assay audit …`

use crate::client::{API, Client, encoded};
use crate::exit::{CliError, Code};
use crate::{Common, ui};
use assay_proto::api::knowledge::AuditList;

/// Who did what.
#[derive(clap::Subcommand)]
pub(crate) enum Audit {
    /// List what was done, the newest first.
    #[command(
        after_help = "Examples:\n  assay audit list --user ann\n  assay audit list --event iso_create --limit 20\n  \
                      assay audit list --text 43.1 --json"
    )]
    List(List),
}

#[derive(clap::Args)]
pub(crate) struct List {
    /// Only what this person did.
    #[arg(long)]
    user: Option<String>,
    /// Only this, in openQA's word: iso_create, jobs_restart, needle_modify, …
    #[arg(long)]
    event: Option<String>,
    /// Only with this text in the data.
    #[arg(long)]
    text: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Only events with a lower number.
    #[arg(long)]
    before: Option<i64>,
}

impl Audit {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let client = Client::new(common)?;
        match self {
            Self::List(list) => list.run(common, &client),
        }
    }
}

impl List {
    fn run(&self, common: &Common, client: &Client) -> Result<Code, CliError> {
        let mut path = format!("{API}/audit?limit={}", self.limit);
        for (name, value) in [("user", &self.user), ("event", &self.event), ("q", &self.text)] {
            if let Some(value) = value {
                path = format!("{path}&{name}={}", encoded(value));
            }
        }
        if let Some(before) = self.before {
            path = format!("{path}&before={before}");
        }
        let found: AuditList = client.get(&path)?;
        if common.json {
            client.print(found);
            return Ok(Code::Ok);
        }
        let rows = found.events.iter().map(|event| {
            let user = if event.user.is_empty() { "–".to_owned() } else { event.user.clone() };
            vec![event.id.to_string(), event.at.clone(), user, event.event.clone(), event.data.to_string()]
        });
        println!("{}", ui::table(&["ID", "WHEN", "WHO", "EVENT", "DATA"], rows));
        if let Some(before) = found.next_before {
            eprintln!("more with --before {before}");
        }
        Ok(Code::Ok)
    }
}
