//! `assay notify …`: what people want to hear of.

use super::import::read;
use crate::client::{Client, encoded};
use crate::exit::{CliError, Code};
use crate::{Common, ui};
use assay_proto::api::outbox::NoticesOf;
use camino::Utf8PathBuf;
use serde_json::Value;

/// What people want to hear of: rules, mails, a feed.
#[derive(clap::Subcommand)]
pub(crate) enum Notify {
    /// Show somebody's rules and the address of their feed.
    #[command(after_help = "Example:\n  assay notify show ann")]
    Show {
        /// Whose.
        name: String,
    },
    /// Keep rules from a file of JSON.
    #[command(
        after_help = "Example:\n  assay notify set ann rules.json\n\nrules.json:\n  {\"mail\": \"ann@example.org\", \"quiet\": {\"from\": 1320, \"to\": 420, \"ahead\": 60},\n   \"rules\": [{\"name\": \"failures\", \"wants\": {\"events\": [\"job.done\"], \"matching\": {\"outcome\": [\"failed\"]}},\n              \"on_change\": true, \"digest\": \"hourly\"}]}"
    )]
    Set {
        /// Whose.
        name: String,
        /// The file.
        file: Utf8PathBuf,
    },
    /// Forget somebody's rules.
    #[command(after_help = "Example:\n  assay notify remove ann")]
    Remove {
        /// Whose.
        name: String,
    },
}

impl Notify {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let client = Client::new(common)?;
        let path = |name: &str| format!("/api/assay/v1/notices/{}", encoded(name));
        let shown: NoticesOf = match self {
            Self::Show { name } => client.get(&path(&name))?,
            Self::Set { name, file } => {
                let rules: Value = serde_json::from_str(&read(&file)?).map_err(|error| {
                    CliError::usage(format!(
                        "{file}: {error}; write JSON, as `assay notify set --help` shows"
                    ))
                })?;
                client.put(&path(&name), &rules)?
            }
            Self::Remove { name } => client.delete(&path(&name))?,
        };
        if common.json {
            ui::print_json(&shown);
            return Ok(Code::Ok);
        }
        println!("feed: {}", shown.feed);
        if !shown.mail_works {
            eprintln!("this server has no mail server ([mail] of assay.toml): there are no mails");
        }
        println!("{}", serde_json::to_string_pretty(&shown.notices).unwrap_or_default());
        Ok(Code::Ok)
    }
}
