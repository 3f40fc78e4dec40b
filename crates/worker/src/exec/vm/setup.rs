//! From a job's settings to something that can be started: tests, needles, machine.

use super::sources::Sources;
use crate::assets::Fetched;
use crate::exec::{Attempt, infrastructure, usage};
use crate::suite::{self, NeedleStore};
use assay_engine::assets::publications;
use assay_engine::outcome::{Outcome, OutcomeClass};
use assay_engine::product::fill_in;
use assay_proto::diagnostic::Diagnostic;
use assay_proto::worker::Report;
use assay_records::step::ModulePlan;
use assay_script::Suite;
use assay_vm::{Accelerator, Isolation, Machine, MachineSpec};
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Everything that is known before the machine starts.
pub(super) struct Setup {
    pub(super) settings: BTreeMap<String, String>,
    pub(super) suite: Arc<Suite>,
    pub(super) needles: Arc<NeedleStore>,
    pub(super) spec: MachineSpec,
    pub(super) scale: f64,
    pub(super) max_job_time: Duration,
    fingerprint: String,
    /// The commit that the tests were at, if they are a git checkout.
    commit: Option<String>,
    casedir: Utf8PathBuf,
    sources: Sources,
    assets: Fetched,
}

/// Reads tests, needles and settings, and checks them all, before anything is started.
pub(super) async fn prepare(attempt: &Attempt, sources: Sources, assets: Fetched) -> Result<Setup, Report> {
    let attempt = attempt.clone();
    let work = move || prepare_blocking(&attempt, sources, assets);
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(infrastructure(format!("set-up failed: {error}"))))
}

/// `MAX_SETUP_TIME` is over.
pub(super) fn too_slow(limit: Duration) -> Report {
    let reason = format!("timeout: setup exceeded MAX_SETUP_TIME={} s", limit.as_secs());
    Report { outcome: Outcome::TimeoutExceeded, class: OutcomeClass::Infrastructure, reason: Some(reason) }
}

fn prepare_blocking(attempt: &Attempt, sources: Sources, assets: Fetched) -> Result<Setup, Report> {
    let casedir = casedir(&attempt.settings)?;
    let needle_dir = needle_dir(&casedir, attempt.settings.get("NEEDLES_DIR"))?;
    // Whoever can push to a repository must not choose which program the host runs as QEMU: as in openQA, the settings
    // of fetched tests are the job's alone.
    let mut settings = if sources.tests_commit().is_some() {
        BTreeMap::new()
    } else {
        suite::default_settings(&casedir).map_err(|finding| refused(attempt, &[finding]))?
    };
    settings.extend(attempt.settings.clone());
    let settings = filled_in(settings)?;
    let schedule: Option<Vec<String>> = settings.get("SCHEDULE").map(|list| {
        list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
    });
    let client = attempt.host.run.join("python");
    fs_err::create_dir_all(&client).map_err(|error| infrastructure(error.to_string()))?;
    let (suite, warnings) =
        suite::load_tests(&casedir, schedule.as_deref(), &client, attempt.host.unsandboxed)
            .map_err(|findings| refused(attempt, &findings))?;
    let (needles, broken) = NeedleStore::load_from(&casedir, &needle_dir);
    for finding in warnings.iter().chain(&broken) {
        attempt.log(&finding.to_string());
    }
    let fingerprint =
        suite::fingerprint(&casedir).map_err(|error| usage(format!("the tests cannot be read: {error}")))?;
    let spec = MachineSpec::from_settings(&assets.located(&settings), &casedir)
        .map_err(|problems| usage(problems.to_string()))?;
    publications(&settings).map_err(|error| usage(error.to_string()))?;
    let merged = Attempt { settings: settings.clone(), ..attempt.clone() };
    let scale = merged.number_setting("TIMEOUT_SCALE", 1.0)?;
    let max_job_time =
        Duration::from_secs_f64((merged.number_setting("MAX_JOB_TIME", 7200.0)? * scale).min(1e7));
    if scale <= 0.0 {
        return Err(usage("TIMEOUT_SCALE must be more than 0; 1 is usual, 3 suits a slow host"));
    }
    Ok(Setup {
        settings,
        suite: Arc::new(suite),
        needles: Arc::new(needles),
        spec,
        scale,
        max_job_time,
        fingerprint,
        commit: sources.tests_commit().map(str::to_owned).or_else(|| commit_of(&casedir)),
        casedir,
        sources,
        assets,
    })
}

/// What is left to the worker is filled in here, once all settings are known. The tests and needles were fetched before,
/// so their places stay; so do the files that the server has found by its own settings.
fn filled_in(mut settings: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Report> {
    settings
        .entry("WORKER_HOSTNAME".to_owned())
        .or_insert_with(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
    let mut filled = fill_in(&settings).map_err(usage)?;
    settings.retain(|key, _| key == "CASEDIR" || key == "NEEDLES_DIR");
    filled.append(&mut settings);
    Ok(filled)
}

fn casedir(settings: &BTreeMap<String, String>) -> Result<Utf8PathBuf, Report> {
    let Some(dir) = settings.get("CASEDIR") else {
        return Err(usage("the job has no CASEDIR; set it to the directory that holds tests/ and needles/"));
    };
    let dir = Utf8PathBuf::from(dir);
    if !dir.is_absolute() {
        return Err(usage(format!(
            "CASEDIR={dir:?} is not an absolute path; the worker cannot know where it starts. Give one, or an address: \
             https://example.org/tests.git#main"
        )));
    }
    if !dir.join("tests").is_dir() {
        return Err(usage(format!(
            "CASEDIR={dir} has no folder tests/; is the path right, and is it on this worker's host?"
        )));
    }
    Ok(dir)
}

/// Where the needles are: in the tests, unless the job says otherwise.
fn needle_dir(casedir: &Utf8Path, given: Option<&String>) -> Result<Utf8PathBuf, Report> {
    let Some(given) = given.map(|given| given.trim()).filter(|given| !given.is_empty()) else {
        return Ok(casedir.join("needles"));
    };
    let dir = casedir.join(given);
    if dir.is_dir() {
        return Ok(dir);
    }
    Err(usage(format!(
        "NEEDLES_DIR={given} is no folder; give a folder of CASEDIR, a path of this worker's host, or an address: \
         https://example.org/needles.git#main"
    )))
}

/// The tests are wrong: all findings go to the log, the first to the reason.
fn refused(attempt: &Attempt, findings: &[Diagnostic]) -> Report {
    for finding in findings {
        attempt.log(&finding.to_string());
    }
    let first = findings.iter().find(|finding| finding.is_error()).or(findings.first());
    let first = first.map_or_else(|| "the tests are refused".to_owned(), ToString::to_string);
    let more = match findings.iter().filter(|finding| finding.is_error()).count() {
        0 | 1 => String::new(),
        n => format!(" (and {} more; `assay test check DIR` shows all)", n - 1),
    };
    usage(format!("tests died: {first}{more}"))
}

/// Where the checkout of the tests is, for those who look for what changed; a directory without git has none.
fn commit_of(casedir: &Utf8Path) -> Option<String> {
    let head = assay_git::checkout::Checkout::of(casedir).ok()?.head().ok()??;
    Some(if head.changed { format!("{} with changes", head.commit) } else { head.commit })
}

impl Setup {
    pub(super) fn plan(&self) -> Vec<ModulePlan> {
        let plan = |module: &assay_script::Module| ModulePlan {
            name: module.name.clone(),
            file: module.file.clone(),
            flags: module.flags,
        };
        self.suite.modules().iter().map(plan).collect()
    }

    pub(super) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// What somebody needs to know to do the same again.
    pub(super) fn facts(&self, machine: &Machine) -> Vec<(String, String)> {
        let tests = self.sources.tests_address().unwrap_or(self.casedir.as_str());
        let mut facts = vec![
            ("tests".to_owned(), format!("{tests} (sha256 {})", self.fingerprint)),
            ("assay".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ];
        if let Some(commit) = &self.commit {
            facts.push(("tests commit".to_owned(), commit.clone()));
        }
        facts.extend(self.sources.facts());
        facts.extend(self.assets.facts.iter().cloned());
        let machine = machine.facts();
        let isolation = match &machine.isolation {
            Isolation::Namespaces => "own network, process and IPC namespaces".to_owned(),
            Isolation::RestrictedNetwork { why } => format!("restricted user network only: {why}"),
        };
        facts.push(("qemu".to_owned(), machine.qemu_version.clone()));
        facts.push((
            "accelerator".to_owned(),
            format!("{}: {}", accelerator_name(machine.accelerator.accelerator), machine.accelerator.why),
        ));
        facts.push(("isolation".to_owned(), isolation));
        facts.push(("command line".to_owned(), machine.command_line.join(" ")));
        facts
    }
}

fn accelerator_name(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_engine::product::finish;
    use assay_engine::settings::Settings;

    #[test]
    fn what_the_server_leaves_to_the_worker_is_filled_in() {
        let after = |pairs: &[(&str, &str)]| {
            let mut settings = Settings::from_request(pairs.iter().copied());
            finish(&mut settings).expect("the server has nothing against it");
            filled_in(settings.plain())
        };
        let settings = after(&[
            ("APPEND", "host=%%WORKER_HOSTNAME%% class=%%WORKER_CLASS%% %NOBODY%."),
            ("WORKER_CLASS", "qemu_x86_64"),
            ("CASEDIR", "/tests/%NOBODY%"),
            ("WHEN", "+%d.%m"),
        ]);
        let settings = settings.expect("nothing is wrong");
        let host = settings["WORKER_HOSTNAME"].as_str();
        assert!(!host.is_empty());
        assert_eq!(settings["APPEND"], format!("host={host} class=qemu_x86_64 ."));
        assert_eq!((settings["CASEDIR"].as_str(), settings["WHEN"].as_str()), ("/tests/%NOBODY%", "+%d.%m"));
        let refused =
            after(&[("NOTE", "%%_SECRET_A%%"), ("_SECRET_A", "b")]).err().and_then(|end| end.reason);
        assert!(refused.is_some_and(|reason| reason.contains("_SECRET_NOTE")));
    }
}
