//! `assay decision …`

use super::import::read;
use crate::client::{Client, encoded, query};
use crate::exit::{CliError, Code};
use crate::{Common, ui};
use assay_formats::policy::{self, KnownTests};
use assay_proto::api::releases::{ReleaseStanding, ReleaseWaits};
use camino::Utf8PathBuf;
use serde_json::{Value, json};

/// May it go on? Policies, results and waivers, requirement by requirement.
#[derive(clap::Subcommand)]
pub(crate) enum Decision {
    /// Ask for a decision. Ends with 1 if it may not go on.
    #[command(
        after_help = "Examples:\n  assay decision ask Fedora-40-20240401.0 --type compose --product-version fedora-40 --context compose_release\n  \
                      assay decision ask FEDORA-2024-1 --type bodhi_update --product-version fedora-40 --context bodhi_update_push_stable --json\n  \
                      assay decision ask X --type compose --product-version fedora-40 --context release --when 2024-06-01T12:00:00"
    )]
    Ask(Ask),
    /// Say what a release waits for; without a name, how the releases stand. Ends with 1 if something waits.
    #[command(
        after_help = "Examples:\n  assay decision waiting\n  assay decision waiting fedora-44 --context bodhi_update_push_stable"
    )]
    Waiting {
        /// The release, as policies and those who ask call it.
        release: Option<String>,
        /// Only for this purpose.
        #[arg(long, requires = "release")]
        context: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 200)]
        limit: u32,
    },
    /// Say everything that is wrong with files of policies. Ends with 2 if something is, with 1 if only tests are named that
    /// nobody knows.
    #[command(
        after_help = "Examples:\n  assay decision check policies/*.yaml\n  assay decision check --known policies/*.yaml"
    )]
    Check {
        /// The files.
        #[arg(required = true)]
        files: Vec<Utf8PathBuf>,
        /// Ask the server which test cases there are, and warn of others: no result of them, and no template that makes one.
        #[arg(long)]
        known: bool,
    },
}

#[derive(clap::Args)]
pub(crate) struct Ask {
    /// What was tested.
    item: String,
    /// The kind of what was tested.
    #[arg(long = "type")]
    kind: String,
    /// For which release.
    #[arg(long)]
    product_version: String,
    /// What is to be done, as the policies call it.
    #[arg(long, required = true)]
    context: Vec<String>,
    /// As it would have been decided then.
    #[arg(long)]
    when: Option<String>,
}

impl Decision {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        match self {
            Self::Ask(ask) => ask.run(common, &Client::new(common)?),
            Self::Waiting { release, context, limit } => waiting(common, release.as_deref(), context, limit),
            Self::Check { files, known } => check(common, &files, known),
        }
    }
}

fn waiting(
    common: &Common,
    release: Option<&str>,
    context: Option<String>,
    limit: u32,
) -> Result<Code, CliError> {
    let client = Client::new(common)?;
    let Some(release) = release else {
        let all: Vec<ReleaseStanding> = client.get("/api/assay/v1/releases")?;
        let any = all.iter().any(|one| one.waiting > 0);
        if common.json {
            ui::print_json(&all);
        } else {
            let rows = all.into_iter().map(|one| {
                let counts = [one.waiting, one.satisfied].map(|count| count.to_string());
                let [waiting, satisfied] = counts;
                vec![one.product_version, waiting, satisfied, one.last.unwrap_or_default()]
            });
            println!("{}", ui::table(&["release", "waiting", "may go on", "last"], rows));
        }
        return Ok(if any { Code::Negative } else { Code::Ok });
    };
    let query = query([("context", context), ("limit", Some(limit.to_string()))]);
    let found: ReleaseWaits = client.get(&format!("/api/assay/v1/releases/{}{query}", encoded(release)))?;
    let any = !found.items.is_empty();
    if common.json {
        ui::print_json(&found);
    } else {
        for item in &found.items {
            println!("{} {} ({}): {}", item.item_type, item.item, item.context, item.summary);
            for one in &item.waits_for {
                let scenario =
                    one.scenario.as_ref().map(|scenario| format!(" {scenario}")).unwrap_or_default();
                println!("  {} {}{scenario}", one.what, one.testcase);
            }
        }
        if found.more {
            println!("there are more; see --limit");
        }
    }
    Ok(if any { Code::Negative } else { Code::Ok })
}

impl Ask {
    fn run(&self, common: &Common, client: &Client) -> Result<Code, CliError> {
        let mut body = json!({
            "product_version": self.product_version, "decision_context": self.context,
            "subject_type": self.kind, "subject_identifier": self.item,
        });
        if let Some(when) = &self.when {
            body["when"] = json!(when);
        }
        let decision: Value = client.post("/api/v1.0/decision", &body)?;
        let satisfied = decision["policies_satisfied"].as_bool().unwrap_or(false);
        if common.json {
            ui::print_json(&decision);
        } else {
            let lists = ["unsatisfied_requirements", "satisfied_requirements"];
            let all: Vec<&Value> =
                lists.iter().filter_map(|key| decision[*key].as_array()).flatten().collect();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let rows = all.iter().map(|one| {
                let number = |key: &str| if one[key].is_i64() { one[key].to_string() } else { String::new() };
                vec![
                    text(&one["type"]).trim_start_matches("test-result-").to_owned(),
                    text(&one["testcase"]),
                    text(&one["scenario"]),
                    number("result_id"),
                    number("waiver_id"),
                ]
            });
            println!("{}", ui::table(&["WHAT", "TEST CASE", "SCENARIO", "RESULT", "WAIVER"], rows));
            for line in all.into_iter().filter_map(remark) {
                println!("{line}");
            }
            println!("{}", text(&decision["summary"]));
        }
        Ok(if satisfied { Code::Ok } else { Code::Negative })
    }
}

/// Of a file of rules: what is wrong with it, else where it is or was looked for.
fn remark(requirement: &Value) -> Option<String> {
    let sources = requirement["sources"].as_array()?.iter().filter_map(Value::as_str);
    let why = ["details", "error"].iter().find_map(|key| requirement[*key].as_str());
    let remark = why.map_or_else(|| sources.collect::<Vec<_>>().join(", "), str::to_owned);
    Some(format!("{}: {remark}", requirement["testcase"].as_str()?))
}

/// The tests that the server knows.
fn known_tests(common: &Common) -> Result<KnownTests, CliError> {
    let answer: Value = Client::new(common)?.get("/api/v1.0/testcases")?;
    let names = answer["testcases"].as_array().into_iter().flatten().filter_map(Value::as_str);
    Ok(KnownTests { testcases: names.map(str::to_owned).collect() })
}

fn check(common: &Common, files: &[Utf8PathBuf], ask: bool) -> Result<Code, CliError> {
    let known = ask.then(|| known_tests(common)).transpose()?;
    let mut texts = Vec::new();
    for file in files {
        texts.push((file.as_str(), read(file)?));
    }
    let sources: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let loaded = policy::load(&sources, known.as_ref());
    if common.json {
        ui::print_json(&loaded.diagnostics);
    } else {
        for found in &loaded.diagnostics {
            println!("{found}");
        }
        if let Some(policies) = &loaded.policies {
            println!("{}", ui::count(policies.policies.len(), "policy"));
        }
    }
    Ok(match (loaded.policies, &loaded.diagnostics[..]) {
        (None, _) => Code::Usage,
        (Some(_), []) => Code::Ok,
        (Some(_), _) => Code::Negative,
    })
}

#[cfg(test)]
mod tests {
    use super::remark;
    use serde_json::json;

    #[test]
    fn files_of_rules_are_spoken_of() {
        let file = |more: serde_json::Value| {
            let mut one = json!({"testcase": "some-gating-yaml", "sources": ["http://x/1", "http://x/2"]});
            one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            remark(&one).unwrap()
        };
        for (more, said) in [
            (json!({"details": "x:3:1: error: unknown key"}), "x:3:1: error: unknown key"),
            (json!({"error": "x answers 502"}), "x answers 502"),
            (json!({"error": null}), "http://x/1, http://x/2"),
            (json!({"source": "http://x/1", "sources": ["http://x/1"]}), "http://x/1"),
        ] {
            assert_eq!(file(more), format!("some-gating-yaml: {said}"));
        }
        assert_eq!(remark(&json!({"testcase": "t", "error_reason": "no room"})), None);
    }
}
