//! `assay waiver …`

use crate::client::{Client, encoded};
use crate::exit::{CliError, Code};
use crate::{Common, ui};
use serde_json::{Value, json};

const API: &str = "/api/v1.0/waivers/";

/// Waivers: a missing or bad result that does not count, with who says so and why.
#[derive(clap::Subcommand)]
pub(crate) enum Waiver {
    /// Waive results of a test case for an item.
    #[command(
        after_help = "Examples:\n  assay waiver create compose.install --item Fedora-40-20240401.0 --type compose --product-version fedora-40 \\\n      \
                      --comment 'fails on the mirror only, bug 123'\n  \
                      assay waiver create update.login --item FEDORA-2024-1 --type bodhi_update --product-version fedora-40 \\\n      \
                      --scenario fedora.updates-server.x86_64.64bit --expires 2024-07-01 --comment 'bug 7'\n  \
                      assay waiver create compose.install --item X --type compose --product-version fedora-40 --revoke --comment fixed"
    )]
    Create(Create),
    /// List waivers, the newest first.
    #[command(after_help = "Example:\n  assay waiver list --item Fedora-40-20240401.0")]
    List(List),
}

#[derive(clap::Args)]
pub(crate) struct Create {
    /// The test case.
    testcase: String,
    /// What was tested.
    #[arg(long)]
    item: String,
    /// The kind of what was tested.
    #[arg(long = "type")]
    kind: String,
    /// For which release.
    #[arg(long)]
    product_version: String,
    /// Why.
    #[arg(long)]
    comment: String,
    /// Only in this scenario.
    #[arg(long)]
    scenario: Option<String>,
    /// Until when it counts: 2024-07-01 or 2024-07-01T12:00:00.
    #[arg(long)]
    expires: Option<String>,
    /// Take back what was waived before.
    #[arg(long)]
    revoke: bool,
}

#[derive(clap::Args)]
pub(crate) struct List {
    /// What was tested.
    #[arg(long)]
    item: Option<String>,
    /// The test case.
    #[arg(long)]
    testcase: Option<String>,
    /// Who gave it.
    #[arg(long)]
    user: Option<String>,
    /// Also those that a newer one has taken the place of, and those that have expired.
    #[arg(long)]
    obsolete: bool,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: u32,
}

impl Waiver {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let client = Client::new(common)?;
        match self {
            Self::Create(create) => create.run(common, &client),
            Self::List(list) => list.run(common, &client),
        }
    }
}

impl Create {
    fn run(&self, common: &Common, client: &Client) -> Result<Code, CliError> {
        let body = json!({
            "testcase": self.testcase, "subject_type": self.kind, "subject_identifier": self.item,
            "product_version": self.product_version, "comment": self.comment, "scenario": self.scenario,
            "expires": self.expires, "waived": !self.revoke,
        });
        let made: Value = client.post(API, &body)?;
        if common.json {
            ui::print_json(&made);
        } else {
            println!("{}", made["id"]);
        }
        Ok(Code::Ok)
    }
}

impl List {
    fn run(&self, common: &Common, client: &Client) -> Result<Code, CliError> {
        let mut path = format!("{API}?limit={}&include_obsolete={}", self.limit, self.obsolete);
        for (key, value) in
            [("subject_identifier", &self.item), ("testcase", &self.testcase), ("username", &self.user)]
        {
            if let Some(value) = value {
                path = format!("{path}&{key}={}", encoded(value));
            }
        }
        let found: Value = client.get(&path)?;
        if common.json {
            ui::print_json(&found);
            return Ok(Code::Ok);
        }
        let list = found["data"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let rows = list.iter().map(|waiver| {
            let waived = waiver["waived"].as_bool().unwrap_or(true);
            vec![
                waiver["id"].to_string(),
                text(&waiver["timestamp"]).chars().take(19).collect(),
                text(&waiver["username"]),
                if waived { "waived" } else { "taken back" }.to_owned(),
                text(&waiver["testcase"]),
                text(&waiver["subject_identifier"]),
                text(&waiver["scenario"]),
                text(&waiver["expires"]),
                text(&waiver["comment"]),
            ]
        });
        let header = ["ID", "WHEN", "WHO", "WHAT", "TEST CASE", "ITEM", "SCENARIO", "EXPIRES", "WHY"];
        println!("{}", ui::table(&header, rows));
        Ok(Code::Ok)
    }
}
