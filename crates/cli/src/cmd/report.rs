//! `assay report …`: reports about builds.

use crate::Common;
use crate::client::{Client, encoded, query};
use crate::exit::{CliError, Code};
use serde_json::Value;

/// Reports about builds.
#[derive(clap::Subcommand)]
pub(crate) enum Report {
    /// Say what failed, what is fixed and what is missing in a build, compared with another one. The exit code is 1 if
    /// there is a new failure, a missing image, or a decision that is not satisfied.
    #[command(
        after_help = "Examples:\n  assay report build Fedora-Rawhide-20261121.n.0\n  assay report build 0091 --against 0087 --format html > report.html\n  assay report build 0091 --expect 'Server-dvd-iso x86_64' --json"
    )]
    Build {
        /// The build.
        build: String,
        /// Compare with this build; else with the one of the same product that was posted before.
        #[arg(long, value_name = "BUILD")]
        against: Option<String>,
        /// Only jobs with this DISTRI.
        #[arg(long)]
        distri: Option<String>,
        /// Only jobs with this VERSION.
        #[arg(long)]
        version: Option<String>,
        /// A medium that has to be there: FLAVOR and ARCH.
        #[arg(long, value_name = "FLAVOR ARCH")]
        expect: Vec<String>,
        /// How it is printed.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

/// How a report is printed.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// As mails have it.
    Text,
    /// A page.
    Html,
    /// For programs.
    Json,
}

impl Report {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let Self::Build { build, against, distri, version, expect, format } = self;
        let client = Client::new(common)?;
        let expect = (!expect.is_empty()).then(|| expect.join(","));
        let query =
            query([("against", against), ("distri", distri), ("version", version), ("expect", expect)]);
        let path = format!("/api/assay/v1/reports/builds/{}", encoded(&build));
        let report: Value = client.get(&format!("{path}{query}"))?;
        match if common.json { Format::Json } else { format } {
            Format::Json => crate::ui::print_json(&report),
            Format::Text => println!("{}", client.text(&format!("{path}/text{query}"))?.trim_end()),
            Format::Html => println!("{}", client.text(&format!("{path}/html{query}"))?.trim_end()),
        }
        let any = |key: &str| report[key].as_array().is_some_and(|list| !list.is_empty());
        let unsatisfied =
            report["verdicts"].as_array().into_iter().flatten().any(|one| one["satisfied"] == false);
        let bad = any("new_failures") || any("missing_images") || unsatisfied;
        Ok(if bad { Code::Negative } else { Code::Ok })
    }
}
