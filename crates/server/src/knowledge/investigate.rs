//! What changed since a job's scenario last passed.

use crate::app::App;
use crate::fault::Fault;
use crate::record::Run;
use crate::web::frame::rfc3339;
use assay_engine::ids::{JobId, Timestamp};
use assay_engine::job_settings::JobSettings;
use assay_engine::knowledge::investigate::{self, DEPTH, Differences, Evidence, Suspect, bounds};
use assay_engine::settings::{COVERED, is_secret_name};
use assay_git::checkout::{self, Checkout};
use assay_proto::api::knowledge::{Commit, CommitLog, Difference, Investigation, JobRef};
use assay_records::history::{self, PastCommit};
use assay_store::{AssetRole, StoreError, StoredJob};
use camino::Utf8PathBuf;
use std::collections::BTreeMap;

/// Commits that are listed.
const COMMITS: u32 = 100;
/// Facts about tests, as workers record them.
const TESTS: [&str; 4] = ["tests", "tests commit", "needles", "needles commit"];
/// What differs between any two attempts and tells nothing.
const NOISE: [&str; 2] = ["command line", "console"];

/// What the last good job is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Against {
    /// The job that is asked about.
    This,
    /// The first of the scenario that did not pass since: what is later is left out.
    FirstBad,
}

/// The commit of a job's tests.
fn commit(evidence: &Evidence) -> Option<&str> {
    evidence.tests.get("tests commit")?.split(' ').next()
}

fn plain(settings: &JobSettings) -> BTreeMap<String, String> {
    let shown = |key: &str, value: &str| if is_secret_name(key) { COVERED } else { value }.to_owned();
    settings.iter().map(|(key, setting)| (key.to_owned(), shown(key, &setting.value))).collect()
}

fn told(differences: Vec<investigate::Difference>) -> Vec<Difference> {
    let one =
        |one: investigate::Difference| Difference { name: one.name, before: one.before, after: one.after };
    differences.into_iter().map(one).collect()
}

impl App {
    async fn evidence(&self, job: &StoredJob, run: &Run) -> Result<Evidence, StoreError> {
        let mut assets = BTreeMap::new();
        for used in self.store.assets().job_assets(job.row.id).await? {
            if used.role == AssetRole::Reads {
                assets.insert(used.setting.clone(), format!("{} (sha256 {})", used.asset, used.blob.sha256));
            }
        }
        let (mut tests, mut environment) = (BTreeMap::new(), BTreeMap::new());
        for (name, value) in &run.facts {
            // Assets are recorded by the settings that name them.
            if TESTS.contains(&name.as_str()) {
                tests.insert(name.clone(), value.clone());
            } else if !NOISE.contains(&name.as_str()) && job.row.settings.setting(name).is_none() {
                environment.insert(name.clone(), value.clone());
            }
        }
        if let Some(attempt) = self.store.attempts(job.row.id).await?.last() {
            environment.insert("host".to_owned(), attempt.row.host.clone());
        }
        let ended = job.row.state.end().is_some();
        Ok(Evidence { settings: plain(&job.row.settings), tests, assets, environment, ended })
    }

    /// What changed since the job's scenario last passed.
    pub(crate) async fn investigation(&self, id: JobId, against: Against) -> Result<Investigation, Fault> {
        let job = self.store.job(id).await?.ok_or_else(|| Fault::no_job(id))?;
        let earlier = self.earlier(&job.row, DEPTH).await?;
        let known = earlier.iter().filter_map(|job| Some((job.id, job.outcome?)));
        let found = bounds((id, job.row.state.end().map(|end| end.outcome)), known);
        let first_bad = match found.first_bad {
            Some(first) => self.store.job(first).await?,
            None => None,
        };
        let compared = match (against, &first_bad) {
            (Against::FirstBad, Some(first)) => first,
            (Against::FirstBad, None) => {
                let error = format!("Nothing of the scenario of job {id} has failed since it last passed.");
                return Err(Fault::not_found(error, "Ask without against=first_bad, or about a failure."));
            }
            (Against::This, _) => &job,
        };
        let mut told = Investigation {
            job: reference(&job),
            last_good: None,
            first_bad: first_bad.as_ref().map(reference),
            compared: reference(compared),
            suspects: Vec::new(),
            settings: Vec::new(),
            tests: Vec::new(),
            assets: Vec::new(),
            environment: Vec::new(),
            tests_log: CommitLog::default(),
            needles_log: CommitLog::default(),
        };
        let Some(good) = found.last_good else { return Ok(told) };
        let Some(good) = self.store.job(good).await? else { return Ok(told) };
        told.last_good = Some(reference(&good));
        self.compare(&mut told, &good, compared).await?;
        Ok(told)
    }

    async fn compare(
        &self,
        answer: &mut Investigation,
        good: &StoredJob,
        job: &StoredJob,
    ) -> Result<(), StoreError> {
        let before = self.evidence(good, &self.last_run(good.row.id).await?).await?;
        let run = self.last_run(job.row.id).await?;
        let after = self.evidence(job, &run).await?;
        let differences = Differences::between(&before, &after);
        answer.suspects =
            differences.suspects().into_iter().map(Suspect::sentence).map(str::to_owned).collect();
        answer.settings = told(differences.settings);
        answer.tests = told(differences.tests);
        answer.assets = told(differences.assets);
        answer.environment = told(differences.environment);
        let commits = commit(&before).zip(commit(&after)).map(|(a, b)| (a.to_owned(), b.to_owned()));
        let needles = before.tests.get("needles commit").zip(after.tests.get("needles commit"));
        if let Some((from, to)) = commits.as_ref().filter(|_| run.histories.contains_key("tests")) {
            let own = needles.map(|(from, to)| (from.as_str(), to.as_str()));
            (answer.tests_log, answer.needles_log) = noted(&run.histories, (from.as_str(), to.as_str()), own);
            return Ok(());
        }
        let dir = job.row.settings.get("CASEDIR").map(Utf8PathBuf::from);
        let logs = tokio::task::spawn_blocking(move || logs(dir, commits)).await;
        (answer.tests_log, answer.needles_log) = logs.unwrap_or_default();
        Ok(())
    }
}

fn reference(job: &StoredJob) -> JobRef {
    let end = job.row.state.end();
    JobRef {
        id: job.row.id.0,
        result: end.map_or("none", |end| end.outcome.openqa()).to_owned(),
        build: job.row.settings.get("BUILD").map(str::to_owned),
        finished: end.map(|end| rfc3339(end.at)),
    }
}

/// The same of tests that were fetched, from what the worker has noted of their repository.
fn noted(
    histories: &BTreeMap<String, Vec<PastCommit>>,
    tests: (&str, &str),
    needles: Option<(&str, &str)>,
) -> (CommitLog, CommitLog) {
    let since = |what: &str, (from, to): (&str, &str)| {
        let all = histories.get(what).map_or(&[][..], Vec::as_slice);
        let found = history::since(all, from).unwrap_or_default();
        let lost = from != to && !all.iter().any(|commit| commit.id == from);
        let unknown = lost.then(|| {
            format!(
                "{from} is not among the newest {} commits before {to}, which is all that was noted",
                all.len()
            )
        });
        (found, unknown)
    };
    let is_needle = |file: &String| file.starts_with("needles/");
    let log = |(commits, unknown): (Vec<&PastCommit>, Option<String>),
               wanted: &dyn Fn(&PastCommit) -> bool| CommitLog {
        commits: commits.into_iter().filter(|one| wanted(one)).take(COMMITS as usize).map(past).collect(),
        unknown,
    };
    let other = |one: &PastCommit| one.files.is_empty() || one.files.iter().any(|file| !is_needle(file));
    let drawn = |one: &PastCommit| one.files.iter().any(is_needle);
    let needles = match needles {
        Some(own) => log(since("needles", own), &|_| true),
        None => log(since("tests", tests), &drawn),
    };
    (log(since("tests", tests), &other), needles)
}

fn past(commit: &PastCommit) -> Commit {
    Commit {
        id: commit.id.clone(),
        author: commit.author.clone(),
        at: rfc3339(Timestamp(commit.at.saturating_mul(1_000_000))),
        subject: commit.subject.clone(),
        files: commit.files.clone(),
    }
}

/// The commits of tests and those of needles.
fn logs(dir: Option<Utf8PathBuf>, commits: Option<(String, String)>) -> (CommitLog, CommitLog) {
    let unknown = |why: String| {
        let log = CommitLog { commits: Vec::new(), unknown: Some(why) };
        (log.clone(), log)
    };
    let Some((from, to)) = commits else {
        return unknown("the commit of the tests was not recorded in both jobs".to_owned());
    };
    if from == to {
        return (CommitLog::default(), CommitLog::default());
    }
    let Some(dir) = dir else { return unknown("the job has no CASEDIR".to_owned()) };
    if dir.as_str().contains("://") {
        return unknown(format!(
            "the tests are fetched from {dir}, and the worker has noted no commits; look there for what came between {from} and {to}"
        ));
    }
    let found = Checkout::of(&dir).and_then(|checkout| {
        let tests = checkout.between((&from, &to), &[".", ":(exclude)needles"], COMMITS)?;
        Ok((tests, checkout.between((&from, &to), &["needles"], COMMITS)?))
    });
    match found {
        Ok((tests, needles)) => (log(tests), log(needles)),
        Err(error) => unknown(error.to_string()),
    }
}

fn log(commits: Vec<checkout::Commit>) -> CommitLog {
    let one = |commit: checkout::Commit| Commit {
        id: commit.id,
        author: commit.author,
        at: rfc3339(Timestamp(commit.at.saturating_mul(1_000_000))),
        subject: commit.subject,
        files: commit.files,
    };
    CommitLog { commits: commits.into_iter().map(one).collect(), unknown: None }
}

/// As openQA's page asks for it: names and texts.
pub(crate) fn as_openqa(found: &Investigation) -> serde_json::Value {
    use serde_json::json;
    let link = |job: &JobRef| json!({"type": "link", "link": format!("/tests/{}", job.id), "text": job.id.to_string()});
    let engine = |list: &[Difference]| {
        let one = |one: &Difference| investigate::Difference {
            name: one.name.clone(),
            before: one.before.clone(),
            after: one.after.clone(),
        };
        investigate::as_lines(&list.iter().map(one).collect::<Vec<_>>())
    };
    let text = |log: &CommitLog| {
        let one = |commit: &Commit| format!("{} {}", &commit.id[..commit.id.len().min(12)], commit.subject);
        let lines: Vec<String> = log.commits.iter().map(one).collect();
        match (&log.unknown, lines.is_empty()) {
            (Some(why), _) => why.clone(),
            (None, true) => "No changes recorded".to_owned(),
            (None, false) => lines.join("\n"),
        }
    };
    let mut answer = json!({
        "last_good": found.last_good.as_ref().map_or(json!("not found"), &link),
        "first_bad": found.first_bad.as_ref().map_or(json!("not found"), &link),
    });
    if found.last_good.is_some() {
        answer["diff_to_last_good"] = json!(engine(&found.settings));
        answer["diff_packages_to_last_good"] = json!(engine(&found.environment));
        answer["test_log"] = json!(text(&found.tests_log));
        answer["needles_log"] = json!(text(&found.needles_log));
    }
    answer
}
