//! `assay outbox …`: what others are told, and how that goes.

use crate::client::{Client, query};
use crate::exit::{CliError, Code};
use crate::{Common, ui};
use assay_proto::api::outbox::{Outbox as Listed, OutboxChanged, OutboxChoice, OutboxEntry};

const API: &str = "/api/assay/v1/outbox";

/// What others are told: what waits, what was refused, and what to do about it.
#[derive(clap::Subcommand)]
pub(crate) enum Outbox {
    /// List who is told and what, the newest first.
    #[command(
        after_help = "Examples:\n  assay outbox list\n  assay outbox list --state refused\n  assay outbox list --target bus --limit 20 --json"
    )]
    List {
        /// Only to this reporter.
        #[arg(long)]
        target: Option<String>,
        /// Only in this state: waiting, delivered, skipped, refused or dropped.
        #[arg(long)]
        state: Option<String>,
        /// Only before this number.
        #[arg(long, value_name = "ID")]
        before: Option<i64>,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Show an entry with what is told.
    #[command(after_help = "Example:\n  assay outbox show 12")]
    Show {
        /// The entry's number.
        id: i64,
    },
    /// Have entries told again, at once: also those that were skipped, refused or given up.
    #[command(
        after_help = "Examples:\n  assay outbox retry 12 13\n  assay outbox retry --target wiki      all of it that are not told\n  \
                      assay outbox retry --target wiki --state skipped      what was not sent while the server was staging"
    )]
    Retry(Which),
    /// Give entries up, so that those behind them are told.
    #[command(
        after_help = "Examples:\n  assay outbox drop 12\n  assay outbox drop --target wiki      all of it that are not told"
    )]
    Drop(Which),
}

/// Which entries.
#[derive(clap::Args)]
pub(crate) struct Which {
    /// Numbers of entries.
    #[arg(required_unless_present = "target", conflicts_with = "target")]
    ids: Vec<i64>,
    /// All of this reporter that wait or were refused.
    #[arg(long)]
    target: Option<String>,
    /// Of this reporter those in this state instead.
    #[arg(long, requires = "target")]
    state: Option<String>,
}

impl Which {
    fn choice(self) -> OutboxChoice {
        OutboxChoice { ids: self.ids, target: self.target, state: self.state }
    }
}

impl Outbox {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let client = Client::new(common)?;
        match self {
            Self::List { target, state, before, limit } => {
                let query = query([
                    ("limit", Some(limit.to_string())),
                    ("target", target),
                    ("state", state),
                    ("before", before.map(|id| id.to_string())),
                ]);
                let list: Listed = client.get(&format!("{API}{query}"))?;
                if common.json {
                    ui::print_json(&list);
                } else {
                    print(list);
                }
                Ok(Code::Ok)
            }
            Self::Show { id } => {
                let entry: OutboxEntry = client.get(&format!("{API}/{id}"))?;
                ui::print_json(&entry);
                Ok(Code::Ok)
            }
            Self::Retry(which) => change(common, &client, "retry", which, "told again"),
            Self::Drop(which) => change(common, &client, "drop", which, "given up"),
        }
    }
}

fn change(common: &Common, client: &Client, verb: &str, which: Which, done: &str) -> Result<Code, CliError> {
    let asked = which.choice();
    let wanted = asked.ids.len();
    let changed: OutboxChanged = client.post(&format!("{API}/{verb}"), &asked)?;
    if common.json {
        ui::print_json(&changed);
    } else {
        println!("{} {done}", changed.ids.len());
        if changed.ids.len() < wanted {
            eprintln!("the others are not there, or are told already");
        }
    }
    Ok(Code::Ok)
}

fn print(list: Listed) {
    if list.staging {
        println!("staging: nothing is sent, and what would be is logged");
    }
    let rows = list.targets.into_iter().map(|one| {
        let numbers = [one.waiting, one.delivered, one.skipped, one.refused].map(|number| number.to_string());
        let [waiting, delivered, skipped, refused] = numbers;
        let lag = if one.lag > 0 { format!("{} s", one.lag) } else { String::new() };
        let doing = one.trouble.unwrap_or(one.doing);
        vec![
            one.target,
            one.driver,
            doing,
            waiting,
            lag,
            one.attempts.to_string(),
            delivered,
            skipped,
            refused,
        ]
    });
    let heads = ["reporter", "driver", "doing", "waiting", "lag", "tries", "told", "not sent", "refused"];
    println!("{}", ui::table(&heads, rows));
    let rows = list.entries.into_iter().map(|entry| {
        let tries = ui::count(entry.attempts as usize, "try");
        let tries = if entry.attempts > 0 { format!(" ({tries})") } else { String::new() };
        let state = format!("{}{tries}", entry.state);
        vec![
            entry.id.to_string(),
            entry.at,
            entry.target,
            entry.kind,
            entry.about,
            state,
            entry.note.unwrap_or_default(),
        ]
    });
    println!("{}", ui::table(&["id", "at", "reporter", "what", "about", "state", "note"], rows));
}
