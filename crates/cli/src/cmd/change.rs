//! `assay change …`: what happened to a change, and what it waits for.

use crate::client::{API, Client, encoded};
use crate::exit::{CliError, Code};
use crate::ui::put;
use crate::{Common, ui};
use assay_proto::api::gate::{ChangeHistory, ChangeWhy, ItemStatus};

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
                let answer: ChangeWhy = client.get(&format!("{path}/why"))?;
                let ChangeWhy { items, last } = &answer;
                let code =
                    if items.iter().any(|item| !item.failing.is_empty()) { Code::Negative } else { Code::Ok };
                if common.json {
                    client.print(answer);
                } else if items.is_empty() {
                    let mut lines = vec![format!(
                        "change {number} is in no pipeline; `assay change show {number}` says what happened to it"
                    )];
                    lines.extend(last.iter().map(|event| format!("  {}  {}", event.at, event.text)));
                    put(&(lines.join("\n") + "\n"));
                } else {
                    let lines: Vec<String> = items.iter().flat_map(why).collect();
                    put(&(lines.join("\n") + "\n"));
                }
                Ok(code)
            }
            Self::Show { number, source } => {
                let history: ChangeHistory = client.get(&path(&number, source.as_deref()))?;
                if common.json {
                    client.print(history);
                } else {
                    show(&client, &history);
                }
                Ok(Code::Ok)
            }
        }
    }
}

fn why(item: &ItemStatus) -> Vec<String> {
    let (pipeline, queue) = (&item.pipeline, &item.queue);
    let mut lines = vec![format!("{} in {pipeline} (queue {queue}), since {}", item.subject, item.enqueued)];
    lines.extend(item.failing.iter().map(|said| format!("  ✘ {}", said.text)));
    if item.why.is_empty() {
        lines.push("  it is about to leave".to_owned());
    }
    lines.extend(item.why.iter().map(|said| format!("  {}", said.text)));
    lines.extend(item.remaining.map(|left| {
        let [p50, p90] = [left.p50, left.p90].map(|seconds| ui::duration((seconds * 1e6) as u64));
        let waits = if left.without_waiting { "; what waits before it begins comes on top" } else { "" };
        format!("  {p50} to {p90} left, by the latest successes of its jobs{waits}")
    }));
    lines
}

fn show(client: &Client, history: &ChangeHistory) {
    let mut lines = vec![
        format!("{} {}", history.number, history.subject.as_deref().unwrap_or_default()),
        format!("{}/change/{}/{}", client.url(), encoded(&history.source), history.number),
    ];
    for item in &history.now {
        lines.push(String::new());
        lines.extend(why(item));
    }
    lines.push(String::new());
    lines.extend(history.events.iter().map(|event| {
        let sign = match event.mood.as_str() {
            "ok" => "✔",
            "bad" => "✘",
            _ => " ",
        };
        format!("{}  {sign} {}", event.at, event.text)
    }));
    for receipt in &history.receipts {
        let valid = match &receipt.problem {
            None => "valid".to_owned(),
            Some(problem) => format!("NOT valid: {problem}"),
        };
        let (commit, project, branch) = (&receipt.commit, &receipt.project, &receipt.branch);
        lines.push(format!("\nreceipt of {commit} on {project} {branch}: {valid}"));
        lines.push(format!("{}{}", client.url(), receipt.href));
    }
    put(&(lines.join("\n") + "\n"));
}
