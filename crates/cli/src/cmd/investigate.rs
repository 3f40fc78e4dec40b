//! `assay job investigate`

use crate::client::{API, Client};
use crate::exit::{CliError, Code};
use crate::{Common, ui};
use assay_proto::api::knowledge::{CommitLog, Difference, Investigation, JobRef};

/// What is compared with the last good job.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Against {
    /// The job itself.
    This,
    /// The first job of the scenario that did not pass since.
    FirstBad,
}

pub(super) fn run(common: &Common, client: &Client, job: i64, against: Against) -> Result<Code, CliError> {
    let query = if against == Against::FirstBad { "?against=first_bad" } else { "" };
    let found: Investigation = client.get(&format!("{API}/jobs/{job}/investigation{query}"))?;
    if common.json {
        client.print(found);
        return Ok(Code::Ok);
    }
    println!("job {}  {}", found.job.id, ui::result_word(&found.job.result));
    println!("{}/jobs/{}/investigation", client.url(), found.job.id);
    println!("last good  {}", named(found.last_good.as_ref()));
    println!("first bad  {}", named(found.first_bad.as_ref()));
    if found.last_good.is_none() {
        println!("\nno earlier job of this scenario has passed, so there is nothing to compare with");
        return Ok(Code::Ok);
    }
    if found.compared.result == "none" {
        println!("\nthis job has not ended: what it runs with is compared then");
    }
    if !found.suspects.is_empty() {
        println!("\nwhat may be the cause:");
    }
    for suspect in &found.suspects {
        println!("  {suspect}");
    }
    for (title, list) in [
        ("SETTING", &found.settings),
        ("TESTS", &found.tests),
        ("FILE", &found.assets),
        ("ENVIRONMENT", &found.environment),
    ] {
        if !list.is_empty() {
            println!("\n{}", differences(title, list, against));
        }
    }
    for (title, log) in [("tests", &found.tests_log), ("needles", &found.needles_log)] {
        print_log(title, log);
    }
    Ok(Code::Ok)
}

fn named(job: Option<&JobRef>) -> String {
    let Some(job) = job else { return "none".to_owned() };
    let build = job.build.as_ref().map(|build| format!(" build {build}")).unwrap_or_default();
    format!("{}{build} ({})", job.id, job.result)
}

fn differences(title: &str, list: &[Difference], against: Against) -> comfy_table::Table {
    let after = if against == Against::FirstBad { "FIRST BAD" } else { "THIS JOB" };
    let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
    let rows = list.iter().map(|one| vec![one.name.clone(), word(&one.before), word(&one.after)]);
    ui::table(&[title, "LAST GOOD", after], rows)
}

fn print_log(title: &str, log: &CommitLog) {
    match &log.unknown {
        Some(why) => println!("\ncommits to {title}: not known: {why}"),
        None if log.commits.is_empty() => println!("\ncommits to {title}: none"),
        None => {
            println!("\ncommits to {title}:");
            for commit in &log.commits {
                let id = commit.id.get(..10).unwrap_or(&commit.id);
                println!("  {id} {} ({})", commit.subject, commit.author);
            }
        }
    }
}
