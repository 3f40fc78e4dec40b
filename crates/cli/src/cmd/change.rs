//! `assay change …`: what happened to a change, and what it waits for.

use super::pipeline::encoded;
use crate::client::Client;
use crate::exit::{CliError, Code};
use crate::{Common, ui};
use assay_proto::api::gate::{ChangeHistory, ItemStatus};
use serde::Serialize;

const API: &str = "/api/assay/v1";

/// Changes in the gate.
#[derive(clap::Subcommand)]
pub(crate) enum Change {
    /// What a change waits for, since when, and what would release it. Exits 1 while it fails in a pipeline.
    #[command(
        after_help = "Examples:\n  assay change why 1234\n  assay change why 1234 --source gerrit --json"
    )]
    Why {
        /// Its number.
        #[arg(value_name = "N")]
        number: String,
        /// Where it lives; needed only if several sources have such a number.
        #[arg(long)]
        source: Option<String>,
    },
    /// Everything that happened to a change, in order.
    #[command(after_help = "Examples:\n  assay change show 1234\n  assay change show 1234 --json")]
    Show {
        /// Its number.
        #[arg(value_name = "N")]
        number: String,
        /// Where it lives; needed only if several sources have such a number.
        #[arg(long)]
        source: Option<String>,
    },
}

/// An answer with the server's address, so that paths become links.
#[derive(Serialize)]
struct At<'a, T: Serialize> {
    server: &'a str,
    #[serde(flatten)]
    answer: T,
}

#[derive(Serialize)]
struct Items {
    items: Vec<ItemStatus>,
}

fn path(number: &str, source: Option<&str>) -> String {
    match source {
        Some(source) => format!("{API}/changes/{}/{}", encoded(source), encoded(number)),
        None => format!("{API}/changes/{}", encoded(number)),
    }
}

impl Change {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let client = Client::new(common)?;
        match self {
            Self::Why { number, source } => {
                let path = path(&number, source.as_deref());
                let items: Vec<ItemStatus> = client.get(&format!("{path}/why"))?;
                let code =
                    if items.iter().any(|item| !item.failing.is_empty()) { Code::Negative } else { Code::Ok };
                if common.json {
                    ui::print_json(&At { server: client.url(), answer: Items { items } });
                } else if items.is_empty() {
                    println!(
                        "change {number} is in no pipeline; `assay change show {number}` says what happened to it"
                    );
                } else {
                    items.iter().for_each(print_why);
                }
                Ok(code)
            }
            Self::Show { number, source } => {
                let history: ChangeHistory = client.get(&path(&number, source.as_deref()))?;
                if common.json {
                    ui::print_json(&At { server: client.url(), answer: history });
                } else {
                    show(&client, &history);
                }
                Ok(Code::Ok)
            }
        }
    }
}

fn print_why(item: &ItemStatus) {
    println!("{} in {} (queue {}), since {}", item.subject, item.pipeline, item.queue, item.enqueued);
    for said in &item.failing {
        println!("  ✘ {}", said.text);
    }
    if item.why.is_empty() {
        println!("  it is about to leave");
    }
    for said in &item.why {
        println!("  {}", said.text);
    }
    if let Some(left) = item.remaining {
        let (p50, p90) = ((left.p50 * 1e6) as u64, (left.p90 * 1e6) as u64);
        println!(
            "  {} to {} left, by the latest successes of its jobs",
            ui::duration(p50),
            ui::duration(p90)
        );
    }
}

fn show(client: &Client, history: &ChangeHistory) {
    println!("{} {}", history.number, history.subject.as_deref().unwrap_or_default());
    println!("{}/change/{}/{}", client.url(), encoded(&history.source), history.number);
    for item in &history.now {
        println!();
        print_why(item);
    }
    println!();
    for event in &history.events {
        let sign = match event.mood.as_str() {
            "ok" => "✔",
            "bad" => "✘",
            _ => " ",
        };
        println!("{}  {sign} {}", event.at, event.text);
    }
    for receipt in &history.receipts {
        let valid = match &receipt.problem {
            None => "valid".to_owned(),
            Some(problem) => format!("NOT valid: {problem}"),
        };
        println!("\nreceipt of {} on {} {}: {valid}", receipt.commit, receipt.project, receipt.branch);
        println!("{}{}", client.url(), receipt.href);
    }
}
