//! `assay job restart` and `assay job clone`

use crate::Common;
use crate::client::{API, Client};
use crate::exit::{CliError, Code};
use assay_engine::ids::{GroupId, JobId};
use assay_engine::product::nearest;
use assay_engine::sched::restart::RestartOptions;
use assay_proto::api::restart::{Restart as Answer, RestartJobs};
use serde::Deserialize;
use std::collections::BTreeMap;

#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command")]
#[derive(clap::Args)]
pub(crate) struct Restart {
    /// Their numbers.
    #[arg(required = true)]
    jobs: Vec<i64>,
    /// Only say what would be done, and why.
    #[arg(long)]
    plan: bool,
    /// Clone direct parents too, which take the same slot.
    #[arg(long)]
    force: bool,
    /// Leave alone what runs.
    #[arg(long)]
    skip_running: bool,
    /// Clone no parents.
    #[arg(long)]
    skip_parents: bool,
    /// Clone no children.
    #[arg(long)]
    skip_children: bool,
    /// Clone no children that have passed.
    #[arg(long)]
    skip_passed_children: bool,
    /// The priority of all clones; lower is earlier.
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<i32>,
    /// A setting of all clones: NAME=VALUE, NAME+=SUFFIX, or NAME= to leave it out. May be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// The group of all clones, by its name or its number; 0 for none.
    #[arg(long)]
    group: Option<String>,
    /// What is said about the jobs that are started anew: a bug, a label, anything.
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
}

#[derive(clap::Args)]
pub(crate) struct Clone {
    /// Its number.
    job: i64,
    /// Settings of the copy: NAME=VALUE, NAME+=SUFFIX, or NAME= to leave one out.
    #[arg(value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// Copy the jobs that depend on it too.
    #[arg(long)]
    with_children: bool,
    /// Only say what would be done, and why.
    #[arg(long)]
    plan: bool,
    /// The priority of the copies; lower is earlier.
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<i32>,
}

/// `NAME=VALUE`, `NAME+=SUFFIX` and `NAME=` as the server wants them.
fn changes(words: &[String]) -> Result<BTreeMap<String, Option<String>>, CliError> {
    let change = |word: &String| match word.split_once('=') {
        Some((name, value)) if !name.trim_end_matches('+').is_empty() => {
            Ok((name.to_owned(), Some(value.to_owned()).filter(|value| !value.is_empty())))
        }
        _ => Err(CliError::usage(format!("{word:?} is no setting; write NAME=VALUE, NAME+=SUFFIX or NAME="))),
    };
    words.iter().map(change).collect()
}

/// The number of a group that is given by its name or its number; none for `0`.
fn group_of(client: &Client, text: &str) -> Result<Option<GroupId>, CliError> {
    #[derive(Deserialize)]
    struct Group {
        id: i64,
        name: String,
    }
    if text == "0" {
        return Ok(None);
    }
    let groups: Vec<Group> = client.get("/api/v1/job_groups")?;
    let named = groups.iter().find(|group| group.name == text);
    let numbered = || groups.iter().find(|group| group.id.to_string() == text);
    match named.or_else(numbered) {
        Some(group) => Ok(Some(GroupId(group.id))),
        None => Err(CliError::not_found(format!(
            "there is no group {text:?}{}",
            nearest(text, groups.iter().map(|group| group.name.as_str()))
        ))),
    }
}

impl Restart {
    pub(super) fn run(self, common: &Common, client: &Client) -> Result<Code, CliError> {
        let options = RestartOptions {
            force: self.force,
            skip_aborting_jobs: self.skip_running,
            skip_parents: self.skip_parents,
            skip_children: self.skip_children,
            skip_ok_result_children: self.skip_passed_children,
            priority: self.priority,
            set: changes(&self.set)?,
            group: self.group.map(|group| group_of(client, &group)).transpose()?,
            ..RestartOptions::default()
        };
        let jobs = self.jobs.into_iter().map(JobId).collect();
        ask(common, client, RestartJobs { jobs, options, comment: self.comment }, self.plan)
    }
}

impl Clone {
    pub(super) fn run(self, common: &Common, client: &Client) -> Result<Code, CliError> {
        let options = RestartOptions {
            copy_only: true,
            force: true,
            skip_children: !self.with_children,
            priority: self.priority,
            set: changes(&self.settings)?,
            ..RestartOptions::default()
        };
        ask(common, client, RestartJobs { jobs: vec![JobId(self.job)], options, comment: None }, self.plan)
    }
}

fn ask(common: &Common, client: &Client, request: RestartJobs, plan: bool) -> Result<Code, CliError> {
    let plan = if plan { "?plan=1" } else { "" };
    let answer: Answer = client.post(&format!("{API}/jobs/restart{plan}"), &request)?;
    if common.json {
        client.print(answer);
    } else {
        print(client, &answer);
    }
    Ok(Code::Ok)
}

fn print(client: &Client, answer: &Answer) {
    for clone in &answer.clones {
        let done = match clone.clone {
            Some(id) => format!("is cloned as {}/jobs/{id}", client.url()),
            None => "would be cloned".to_owned(),
        };
        println!("{} ({}) {done}, because {}", clone.job, clone.label, clone.why);
    }
    for end in &answer.ends {
        let word = if answer.done { "ends" } else { "would end" };
        println!("{} ({}) {word} as {}", end.job, end.label, end.result);
    }
    for stay in &answer.stays {
        println!("{} ({}) stays: {}", stay.job, stay.label, stay.why);
    }
    for warning in &answer.warnings {
        println!("warning: {warning}");
    }
    for exists in &answer.exists {
        println!("{} was started anew before: {}/jobs/{}", exists.job, client.url(), exists.clone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_set_extended_and_left_out() {
        let words = ["A=1", "TEST+=-x", "B=", "C=a=b"].map(str::to_owned);
        let changes = changes(&words).expect("settings");
        let pairs: Vec<_> = changes.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        assert_eq!(pairs, [("A", Some("1")), ("B", None), ("C", Some("a=b")), ("TEST+", Some("-x"))]);
        for wrong in ["A", "=x", "+=x"] {
            assert!(super::changes(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
