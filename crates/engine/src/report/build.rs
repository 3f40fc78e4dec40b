//! The build report: what a build's tests say, compared with those of another build.

use super::JobFact;
use crate::outcome::Outcome;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What a test found out about the system that it installed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SystemFacts {
    /// Packages by name, with their versions.
    pub packages: BTreeMap<String, String>,
    /// Services.
    pub services: BTreeSet<String>,
    /// Memory in use, in KiB.
    pub memory: Option<u64>,
    /// Disk in use, in KiB.
    pub disk: Option<u64>,
    /// CPU in use, in percent.
    pub cpu: Option<f64>,
    /// The load of the last minute.
    pub load: Option<f64>,
}

impl SystemFacts {
    /// Adds what an uploaded file says, by its name; true if it says something.
    pub fn read(&mut self, name: &str, text: &str) -> bool {
        let name = name.rsplit('/').next().unwrap_or(name);
        let name = name.split_once("rpms.log").map_or(name, |_| "rpms.log");
        let ends = |end: &str| name.ends_with(end);
        if ends("rpms.log") || ends("packages.txt") {
            self.packages.extend(text.lines().filter_map(package));
        } else if ends("services.log") || ends("services.txt") {
            let services = text.split_whitespace().filter(|word| word.ends_with(".service"));
            self.services.extend(services.map(str::to_owned));
        } else if ends("free.log") || ends("free.txt") {
            self.memory = text.lines().find(|line| line.starts_with("Mem:")).and_then(|line| nth(line, 2));
        } else if ends("df.log") || ends("df.txt") {
            let root = text.lines().find(|line| line.split_whitespace().last() == Some("/"));
            self.disk = root.and_then(|line| nth(line, 2));
        } else if ends("top.log") || ends("top.txt") {
            self.cpu = text.lines().rfind(|line| line.contains("Cpu(s)")).and_then(busy);
            self.load = text.lines().find_map(|line| {
                let (_, rest) = line.split_once("load average:")?;
                rest.split(',').next()?.trim().parse().ok()
            });
        } else {
            return false;
        }
        true
    }
}

fn nth(line: &str, number: usize) -> Option<u64> {
    line.split_whitespace().nth(number)?.parse().ok()
}

/// The whole without what is idle: `%Cpu(s):  1.0 us, 0.5 sy, …, 98.0 id`.
fn busy(line: &str) -> Option<f64> {
    let idle = line.split([',', ':']).map(str::trim).find_map(|part| part.strip_suffix("id"))?;
    idle.trim().parse::<f64>().ok().map(|idle| ((100.0 - idle) * 10.0).round() / 10.0)
}

/// `name-1:2.3-4.fc44.x86_64` or `name 2.3-4` to its name and its version.
fn package(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    if let Some((name, version)) = line.split_once(char::is_whitespace) {
        return Some((name.to_owned(), version.trim().to_owned()));
    }
    let mut parts = line.rsplitn(3, '-');
    let (release, version, name) = (parts.next()?, parts.next()?, parts.next()?);
    Some((name.to_owned(), format!("{version}-{release}")))
}

/// A job of a build: the newest of its scenario.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BuildJob {
    /// Its number.
    pub id: i64,
    /// `TEST`
    pub test: String,
    /// `FLAVOR`
    pub flavor: String,
    /// `ARCH`
    pub arch: String,
    /// `MACHINE`
    pub machine: String,
    /// Its test case.
    pub testcase: String,
    /// Where its result says that it ran.
    pub scenario: Option<String>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why.
    pub reason: Option<String>,
    /// Bugs that people named.
    pub bugs: Vec<String>,
    /// Modules that failed, or that failed softly.
    pub modules: Vec<String>,
    /// What it found out.
    pub system: Option<SystemFacts>,
}

impl BuildJob {
    /// Of a job as others are told of it.
    pub fn of(job: &JobFact) -> Self {
        let get = |key: &str| job.get(key).unwrap_or_default().to_owned();
        Self {
            id: job.id,
            test: job.get("TEST").unwrap_or(&job.name).to_owned(),
            flavor: get("FLAVOR"),
            arch: get("ARCH"),
            machine: get("MACHINE"),
            testcase: job.testcase.clone(),
            outcome: job.outcome,
            reason: job.reason.clone(),
            ..Self::default()
        }
    }

    /// What is the same of all its runs.
    fn key(&self) -> [&str; 4] {
        [&self.test, &self.flavor, &self.arch, &self.machine]
    }
}

/// How a job did, for the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Did {
    Pass,
    Soft,
    Fail,
    NotRun,
    Open,
}

fn did(outcome: Option<Outcome>) -> Did {
    match outcome {
        None => Did::Open,
        Some(Outcome::Passed) => Did::Pass,
        Some(Outcome::Softfailed) => Did::Soft,
        Some(Outcome::Failed | Outcome::Incomplete | Outcome::TimeoutExceeded | Outcome::ParallelFailed) => {
            Did::Fail
        }
        Some(
            Outcome::UserCancelled
            | Outcome::Skipped
            | Outcome::Obsoleted
            | Outcome::ParallelRestarted
            | Outcome::UserRestarted,
        ) => Did::NotRun,
    }
}

/// A build and its jobs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Build {
    /// `BUILD`
    pub name: String,
    /// Its jobs.
    pub jobs: Vec<BuildJob>,
}

/// What is decided about a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildVerdict {
    /// For what.
    pub context: String,
    /// For which release.
    pub product_version: String,
    /// May it go on?
    pub satisfied: bool,
    /// One sentence.
    pub summary: String,
    /// The tests that it requires.
    #[serde(default)]
    pub required: Vec<RequiredTest>,
}

/// A test that a decision requires.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RequiredTest {
    /// Its test case.
    pub testcase: String,
    /// Where; anywhere if it does not say.
    #[serde(default)]
    pub scenario: Option<String>,
    /// For which architecture; for any if it does not say.
    #[serde(default)]
    pub architecture: Option<String>,
}

impl RequiredTest {
    fn is(&self, job: &BuildJob) -> bool {
        self.testcase == job.testcase
            && (self.scenario.is_none() || self.scenario == job.scenario)
            && self.architecture.as_ref().is_none_or(|arch| *arch == job.arch)
    }
}

/// A test in a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportLine {
    /// Its job.
    pub job: i64,
    /// `arch flavor test@machine`
    pub name: String,
    /// How it ended, in openQA's words; none if it has not.
    pub outcome: Option<String>,
    /// Why, and what people said it is.
    #[serde(default)]
    pub notes: Vec<String>,
    /// A decision requires it.
    pub gating: bool,
    /// The job of the build that this one is compared with.
    pub before: Option<i64>,
}

/// A change of the system that a test installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemChange {
    /// The test.
    pub name: String,
    /// Its job.
    pub job: i64,
    /// The job before.
    pub before: i64,
    /// In words, one each.
    pub changes: Vec<String>,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BuildReport {
    /// The build.
    pub build: String,
    /// The one that it is compared with.
    pub against: Option<String>,
    /// Where more is to be seen.
    pub url: String,
    /// Tests.
    pub total: usize,
    /// Of these, passed or passed softly.
    pub passed: usize,
    /// Tests by outcome.
    pub outcomes: BTreeMap<String, usize>,
    /// What is decided.
    pub verdicts: Vec<BuildVerdict>,
    /// Media that the build before had, or that are expected, and that nothing was tested of.
    pub missing_images: Vec<String>,
    /// Failed, and did not before.
    pub new_failures: Vec<ReportLine>,
    /// Failed, as before.
    pub old_failures: Vec<ReportLine>,
    /// Passed softly, and did not before.
    pub new_soft: Vec<ReportLine>,
    /// Passed softly, as before.
    pub old_soft: Vec<ReportLine>,
    /// Passed, and failed before.
    pub fixed: Vec<ReportLine>,
    /// Was not run.
    pub skipped: Vec<ReportLine>,
    /// Has not ended.
    pub open: Vec<ReportLine>,
    /// Ran before, and is not there.
    pub gone: Vec<ReportLine>,
    /// What changed on the systems.
    pub system: Vec<SystemChange>,
}

impl BuildReport {
    /// In one line.
    pub fn summary(&self) -> String {
        let mut parts = vec![format!("{}/{} passed", self.passed, self.total)];
        let counts = [
            (self.new_failures.len(), "new failure"),
            (self.old_failures.len(), "old failure"),
            (self.fixed.len(), "fixed"),
            (self.skipped.len(), "not run"),
            (self.open.len(), "still open"),
            (self.missing_images.len(), "missing image"),
        ];
        for (count, word) in counts.into_iter().filter(|(count, _)| *count > 0) {
            let plural =
                if count > 1 && (word.ends_with("failure") || word.ends_with("image")) { "s" } else { "" };
            parts.push(format!("{count} {word}{plural}"));
        }
        for verdict in &self.verdicts {
            let word = if verdict.satisfied { "passes" } else { "does not pass" };
            parts.push(format!("{word} {}", verdict.context));
        }
        parts.join(", ")
    }

    /// True if there is something that somebody has to look at.
    pub fn has_errors(&self) -> bool {
        !self.is_good() || !self.old_failures.is_empty()
    }

    /// True if nothing failed that did not fail before, nothing is missing, and no decision is negative.
    pub fn is_good(&self) -> bool {
        self.new_failures.is_empty()
            && self.missing_images.is_empty()
            && self.verdicts.iter().all(|verdict| verdict.satisfied)
    }
}

/// The media of a build.
fn images(build: &Build) -> BTreeSet<String> {
    let with = build.jobs.iter().filter(|job| !job.flavor.is_empty());
    with.map(|job| format!("{} {}", job.flavor, job.arch)).collect()
}

/// Compares a build with another one. `expected` are media (`FLAVOR ARCH`) that have to be there.
pub fn compare(
    now: &Build,
    before: Option<&Build>,
    verdicts: Vec<BuildVerdict>,
    expected: &[String],
) -> BuildReport {
    let old: BTreeMap<[&str; 4], &BuildJob> =
        before.iter().flat_map(|build| &build.jobs).map(|job| (job.key(), job)).collect();
    let required: Vec<&RequiredTest> = verdicts.iter().flat_map(|verdict| &verdict.required).collect();
    let line = |job: &BuildJob, before: Option<&BuildJob>| ReportLine {
        job: job.id,
        name: name(job),
        outcome: job.outcome.map(|outcome| outcome.openqa().to_owned()),
        notes: notes(job),
        gating: required.iter().any(|test| test.is(job)),
        before: before.map(|job| job.id),
    };
    let mut report = BuildReport {
        build: now.name.clone(),
        against: before.map(|build| build.name.clone()),
        total: now.jobs.len(),
        ..BuildReport::default()
    };
    let mut jobs: Vec<&BuildJob> = now.jobs.iter().collect();
    jobs.sort_by_key(|job| (&job.arch, &job.flavor, &job.test, &job.machine, job.id));
    for job in &jobs {
        let earlier = old.get(&job.key()).copied();
        let word = job.outcome.map_or("none", Outcome::openqa);
        *report.outcomes.entry(word.to_owned()).or_default() += 1;
        let then = earlier.map(|job| did(job.outcome));
        let list = match (did(job.outcome), then) {
            (Did::Fail, Some(Did::Fail)) => &mut report.old_failures,
            (Did::Fail, _) => &mut report.new_failures,
            (Did::Soft, Some(Did::Soft)) => &mut report.old_soft,
            (Did::Soft, _) => &mut report.new_soft,
            (Did::Pass, Some(Did::Fail)) => &mut report.fixed,
            (Did::NotRun, _) => &mut report.skipped,
            (Did::Open, _) => &mut report.open,
            (Did::Pass, _) => continue,
        };
        list.push(line(job, earlier));
    }
    report.passed = jobs.iter().filter(|job| job.outcome.is_some_and(Outcome::is_ok)).count();
    let there: BTreeSet<[&str; 4]> = now.jobs.iter().map(BuildJob::key).collect();
    let gone = old.values().filter(|job| !there.contains(&job.key()));
    report.gone = gone.map(|job| line(job, Some(job))).collect();
    let media = images(now);
    let wanted: BTreeSet<String> =
        before.map(images).unwrap_or_default().into_iter().chain(expected.iter().cloned()).collect();
    report.missing_images = wanted.difference(&media).cloned().collect();
    report.system = jobs.iter().filter_map(|job| system(job, old.get(&job.key()).copied()?)).collect();
    report.verdicts = verdicts;
    report
}

fn name(job: &BuildJob) -> String {
    let mut name = [&job.arch, &job.flavor, &job.test]
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(" ");
    if !job.machine.is_empty() {
        let _ = write!(name, "@{}", job.machine);
    }
    name
}

fn notes(job: &BuildJob) -> Vec<String> {
    let modules = (!job.modules.is_empty()).then(|| format!("modules: {}", job.modules.join(", ")));
    let bugs = job.bugs.iter().cloned();
    job.reason.iter().cloned().chain(modules).chain(bugs).collect()
}

fn system(job: &BuildJob, before: &BuildJob) -> Option<SystemChange> {
    let (now, then) = (job.system.as_ref()?, before.system.as_ref()?);
    let mut changes = Vec::new();
    let names = |from: &SystemFacts, than: &SystemFacts| {
        let only = from.packages.keys().filter(|name| !than.packages.contains_key(*name));
        only.cloned().collect::<Vec<_>>()
    };
    if !now.packages.is_empty() && !then.packages.is_empty() {
        for (word, list) in [("packages added", names(now, then)), ("packages removed", names(then, now))] {
            if !list.is_empty() {
                changes.push(format!("{} {word}: {}", list.len(), list.join(", ")));
            }
        }
    }
    if !now.services.is_empty() && !then.services.is_empty() {
        for (word, list) in [
            ("services added", now.services.difference(&then.services)),
            ("services removed", then.services.difference(&now.services)),
        ] {
            let list: Vec<&str> = list.map(String::as_str).collect();
            if !list.is_empty() {
                changes.push(format!("{} {word}: {}", list.len(), list.join(", ")));
            }
        }
    }
    // What changes less than that changes from run to run.
    for (word, now, then) in
        [("memory in use", now.memory, then.memory), ("disk in use", now.disk, then.disk)]
    {
        if let (Some(now), Some(then)) = (now, then)
            && then > 0
            && now.abs_diff(then) * 20 > then
        {
            let percent = (now as f64 - then as f64) / then as f64 * 100.0;
            changes.push(format!("{word}: {} MiB, was {} MiB ({percent:+.0} %)", now / 1024, then / 1024));
        }
    }
    if let (Some(now), Some(then)) = (now.cpu, then.cpu)
        && (now - then).abs() >= 10.0
    {
        changes.push(format!("CPU in use: {now} %, was {then} %"));
    }
    if let (Some(now), Some(then)) = (now.load, then.load)
        && (now - then).abs() >= 1.0
    {
        changes.push(format!("load: {now}, was {then}"));
    }
    (!changes.is_empty()).then(|| SystemChange { name: name(job), job: job.id, before: before.id, changes })
}

/// The report as text, as mails have it. `url` is where this server is.
pub fn text(report: &BuildReport, url: &str) -> String {
    let mut out = String::new();
    match report.missing_images.as_slice() {
        [] => out.push_str("No missing expected images.\n"),
        images => {
            out.push_str("Missing expected images:\n");
            for image in images {
                out.extend(["  ", image, "\n"]);
            }
        }
    }
    for verdict in &report.verdicts {
        let word = if verdict.satisfied { "PASSES" } else { "FAILS" };
        let _ = writeln!(
            out,
            "\nBuild {word} {} ({}): {}",
            verdict.context, verdict.product_version, verdict.summary
        );
    }
    let than = report.against.as_deref().unwrap_or("no earlier build");
    let _ = writeln!(out, "\nCompared with {than}.\nPassed: {}/{}", report.passed, report.total);
    let lists = [
        (format!("New failures (not failed in {than})"), &report.new_failures),
        (format!("Old failures (failed in {than}, too)"), &report.old_failures),
        (format!("New soft failures (not in {than})"), &report.new_soft),
        (format!("Old soft failures (in {than}, too)"), &report.old_soft),
        (format!("Newly passing (failed in {than})"), &report.fixed),
        ("Not run".to_owned(), &report.skipped),
        ("Not ended yet".to_owned(), &report.open),
        (format!("Only in {than}"), &report.gone),
    ];
    for (title, lines) in lists.iter().filter(|(_, lines)| !lines.is_empty()) {
        let _ = writeln!(out, "\n{title}: {}", lines.len());
        for line in *lines {
            let gating = if line.gating { "**GATING** " } else { "" };
            let outcome = line.outcome.as_deref().unwrap_or("none");
            let _ = writeln!(
                out,
                "\nID: {}\tTest: {gating}{} ({outcome})\nURL: {url}/jobs/{}",
                line.job, line.name, line.job
            );
            for note in &line.notes {
                out.extend(["  ", note, "\n"]);
            }
        }
    }
    for change in &report.system {
        let _ = writeln!(out, "\nInstalled system changes in test {}:", change.name);
        for what in &change.changes {
            out.extend(["  ", what, "\n"]);
        }
        let _ = writeln!(
            out,
            "Previous test data: {url}/jobs/{}\nCurrent test data: {url}/jobs/{}",
            change.before, change.job
        );
    }
    let _ = writeln!(out, "\n{}", report.url);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn job(id: i64, test: &str, outcome: Option<Outcome>) -> BuildJob {
        BuildJob {
            id,
            test: test.to_owned(),
            flavor: "Server-dvd-iso".to_owned(),
            arch: "x86_64".to_owned(),
            machine: "uefi".to_owned(),
            testcase: format!("compose.{test}"),
            outcome,
            ..BuildJob::default()
        }
    }

    #[test]
    fn a_build_and_the_one_before() {
        use Outcome::{Failed, Incomplete, Passed, Skipped, Softfailed, UserCancelled};
        let row = [
            ("a", Some(Passed), Some(Passed), ""),
            ("b", Some(Failed), Some(Passed), "fixed"),
            ("c", Some(Passed), Some(Failed), "new"),
            ("d", Some(Incomplete), Some(Failed), "old"),
            ("e", Some(Softfailed), Some(Softfailed), "old soft"),
            ("f", Some(Passed), Some(Softfailed), "new soft"),
            ("g", Some(Passed), Some(Skipped), "skipped"),
            ("h", Some(UserCancelled), Some(Incomplete), "new"),
            ("i", Some(Passed), None, "open"),
        ];
        let mut before = Build { name: "1".into(), jobs: Vec::new() };
        let mut now = Build { name: "2".into(), jobs: Vec::new() };
        for (number, (test, then, is, _)) in (0..).zip(row) {
            before.jobs.push(job(number, test, then));
            now.jobs.push(job(100 + number, test, is));
        }
        let cloud = BuildJob { flavor: "Cloud-qcow2".into(), ..job(50, "boot", Some(Passed)) };
        before.jobs.push(cloud);
        let verdict = BuildVerdict {
            context: "sync".into(),
            product_version: "rawhide".into(),
            satisfied: false,
            summary: "Of 1 required test, 1 test failed".into(),
            required: vec![RequiredTest { testcase: "compose.c".into(), ..RequiredTest::default() }],
        };
        let report = compare(&now, Some(&before), vec![verdict], &["Everything-boot-iso x86_64".into()]);
        let lists = [
            ("new", &report.new_failures),
            ("old", &report.old_failures),
            ("new soft", &report.new_soft),
            ("old soft", &report.old_soft),
            ("fixed", &report.fixed),
            ("skipped", &report.skipped),
            ("open", &report.open),
        ];
        for (test, _, _, wanted) in row {
            let name = format!("x86_64 Server-dvd-iso {test}@uefi");
            let found: Vec<&str> = lists
                .iter()
                .filter(|(_, list)| list.iter().any(|line| line.name == name))
                .map(|(word, _)| *word)
                .collect();
            assert_eq!(found, if wanted.is_empty() { vec![] } else { vec![wanted] }, "{test}");
        }
        assert_eq!(report.missing_images, ["Cloud-qcow2 x86_64", "Everything-boot-iso x86_64"]);
        assert_eq!((report.passed, report.total, report.gone.len()), (4, 9, 1));
        assert!(report.new_failures[0].gating && !report.is_good());
        let said = text(&report, "http://x");
        for part in [
            "Missing expected images:\n  Cloud-qcow2 x86_64\n",
            "Build FAILS sync (rawhide): Of 1 required test",
            "\nCompared with 1.\nPassed: 4/9\n",
            "New failures (not failed in 1): 2",
            "ID: 102\tTest: **GATING** x86_64 Server-dvd-iso c@uefi (failed)\nURL: http://x/jobs/102\n",
            "Newly passing (failed in 1): 1",
        ] {
            assert!(said.contains(part), "{part} is not in\n{said}");
        }
        let alone = compare(&now, None, Vec::new(), &[]);
        assert_eq!(
            (alone.new_failures.len(), alone.old_failures.len(), alone.missing_images.len()),
            (3, 0, 0)
        );
        assert_eq!(alone.summary(), "4/9 passed, 3 new failures, 1 not run, 1 still open");
    }

    #[test]
    fn a_test_is_required_where_the_decision_says_so() {
        let failed = |arch: &str, scenario: &str| BuildJob {
            arch: arch.into(),
            scenario: Some(scenario.into()),
            ..job(1, "install", Some(Outcome::Failed))
        };
        let required = |scenario: Option<&str>, architecture: Option<&str>| RequiredTest {
            testcase: "compose.install".into(),
            scenario: scenario.map(str::to_owned),
            architecture: architecture.map(str::to_owned),
        };
        let here = failed("x86_64", "fedora.Server-dvd-iso.x86_64.uefi");
        for (test, is) in [
            (required(None, None), true),
            (required(Some("fedora.Server-dvd-iso.x86_64.uefi"), Some("x86_64")), true),
            (required(Some("fedora.Server-dvd-iso.x86_64.64bit"), None), false),
            (required(None, Some("aarch64")), false),
            (RequiredTest { testcase: "compose.boot".into(), ..RequiredTest::default() }, false),
        ] {
            let verdict = BuildVerdict {
                context: "sync".into(),
                product_version: "rawhide".into(),
                satisfied: false,
                summary: String::new(),
                required: vec![test.clone()],
            };
            let now = Build { name: "2".into(), jobs: vec![here.clone()] };
            let report = compare(&now, None, vec![verdict], &[]);
            assert_eq!(report.new_failures[0].gating, is, "{test:?}");
        }
    }

    #[test]
    fn systems_are_compared() {
        let facts = |packages: &str, services: &str, memory: u64, cpu: &str| {
            let mut facts = SystemFacts::default();
            assert!(facts.read("x/rpms.log", packages) && facts.read("services.log", services));
            assert!(facts.read("free.log", &format!("       total used\nMem: 4000000 {memory} 5\n")));
            assert!(facts.read("df.log", "Filesystem 1K-blocks Used\n/dev/vda1 100 50 50 50% /\n"));
            assert!(facts.read(
                "top.log",
                &format!("top - 1:00 load average: 0.10, 0.2\n%Cpu(s):  1.0 us,  0.5 sy, {cpu} id\n")
            ));
            assert!(!facts.read("journal.log", "x"));
            facts
        };
        let then = facts("bash-5.2-1.fc44.x86_64\nzsh-5-1.x86_64", "a.service b.service", 1_000_000, "98.0");
        let now = facts("bash-5.3-1.fc44.x86_64\nfish-4-1.x86_64", "a.service c.service", 1_200_000, "80.0");
        assert_eq!(then.packages["bash"], "5.2-1.fc44.x86_64");
        let with = |id, facts: &SystemFacts| BuildJob {
            system: Some(facts.clone()),
            ..job(id, "install", Some(Outcome::Passed))
        };
        let change = system(&with(2, &now), &with(1, &then)).unwrap();
        assert_eq!(
            change.changes,
            [
                "1 packages added: fish",
                "1 packages removed: zsh",
                "1 services added: c.service",
                "1 services removed: b.service",
                "memory in use: 1171 MiB, was 976 MiB (+20 %)",
                "CPU in use: 20 %, was 2 %",
            ]
        );
        assert_eq!(system(&with(2, &then), &with(1, &then)), None);
    }

    proptest! {
        #[test]
        fn every_job_is_counted_once(outcomes in prop::collection::vec((0_usize..12, 0_usize..12), 0..30)) {
            let of = |number: usize| Outcome::ALL.get(number).copied();
            let mut now = Build::default();
            let mut before = Build::default();
            for (number, (then, is)) in outcomes.iter().enumerate() {
                before.jobs.push(job(number as i64, &number.to_string(), of(*then)));
                now.jobs.push(job(1000 + number as i64, &number.to_string(), of(*is)));
            }
            let report = compare(&now, Some(&before), Vec::new(), &[]);
            let passing = now.jobs.iter().filter(|job| job.outcome == Some(Outcome::Passed)).count();
            let listed = report.new_failures.len() + report.old_failures.len() + report.new_soft.len() + report.old_soft.len()
                + report.skipped.len() + report.open.len();
            prop_assert_eq!(listed + passing, outcomes.len());
            prop_assert!(report.fixed.len() <= passing);
            prop_assert_eq!(report.outcomes.values().sum::<usize>(), outcomes.len());
        }

        #[test]
        fn any_file_can_be_read(name in "(rpms|services|free|df|top)\\.log", text in "\\PC{0,80}|[ -~\n]{0,200}") {
            SystemFacts::default().read(&name, &text);
        }
    }
}
