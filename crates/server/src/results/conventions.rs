//! How Assay's own jobs and modules become results: item, type, test case, scenario, groups, in the words that
//! `resultsdb_conventions` and Fedora's reporter made customary.

use crate::record::Run;
use assay_engine::decision::Subject;
use assay_engine::ids::Timestamp;
use assay_engine::job_settings::JobSettings;
use assay_engine::outcome::Outcome;
use assay_engine::rows::JobRow;
use assay_engine::rules::{FoundElsewhere, Item};
use assay_records::step::{Artifact, ModuleResult, TaskResult};
use assay_store::{GroupOf, NewResult};
use std::collections::BTreeMap;

/// Bytes of a name that can be indexed.
pub(crate) const LONGEST_NAME: usize = 500;

pub(crate) fn uuid5(namespace: uuid::Uuid, name: &str) -> uuid::Uuid {
    let mut hashed = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    hashed.update(namespace.as_bytes());
    hashed.update(name.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hashed.finish().as_ref()[..16]);
    uuid::Builder::from_sha1_bytes(bytes).into_uuid()
}

/// The group that everybody calls the same: its UUID comes from its names.
pub(crate) fn group(namespace: &str, name: &str, ref_url: Option<String>) -> GroupOf {
    let ascii = |text: &str| text.chars().filter(char::is_ascii).collect::<String>();
    let uuid = uuid5(uuid5(uuid::Uuid::NAMESPACE_DNS, &ascii(namespace)), &ascii(name));
    GroupOf { uuid: uuid.to_string(), description: Some(cut(&format!("{namespace}.{name}"))), ref_url }
}

/// Text that every database takes, and that is short enough for an index.
pub(crate) fn cut(text: &str) -> String {
    let mut cut = text.replace('\0', "\u{FFFD}");
    if cut.len() > LONGEST_NAME {
        let end = (0..=LONGEST_NAME).rev().find(|at| cut.is_char_boundary(*at)).unwrap_or(0);
        cut.truncate(end);
    }
    cut
}

/// `NAME-20240601.n.0`, `Fedora-40-20240401.0`.
fn is_compose(build: &str) -> bool {
    let Some((_, last)) = build.rsplit_once('-') else { return false };
    let mut parts = last.split('.');
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let date = parts.next().is_some_and(|date| date.len() == 8 && digits(date));
    let rest: Vec<&str> = parts.collect();
    date && match rest[..] {
        [respin] => digits(respin),
        [letter, respin] => matches!(letter, "n" | "t" | "d" | "ci" | "nightly" | "test") && digits(respin),
        _ => false,
    }
}

/// What a build is one of: builds of one series are compared with each other. None for what has no earlier ones, as updates.
pub(crate) fn series(kind: &str, build: &str) -> Option<String> {
    match kind {
        "compose" => {
            // `Fedora-Rawhide-20240601.n.0`: everything before the date, and the kind of compose.
            let (name, date) = build.rsplit_once('-')?;
            let kind = date.split('.').nth(1).filter(|kind| !kind.bytes().all(|byte| byte.is_ascii_digit()));
            Some(format!("compose {name} {}", kind.unwrap_or_default()))
        }
        "koji_build" => Some(format!("koji_build {}", build.rsplitn(3, '-').nth(2)?)),
        "build" => Some("build".to_owned()),
        _ => None,
    }
}

/// The kind of a build of which only the name is known, where one of this series is looked for.
pub(crate) fn kind_of(build: &str, series: &str) -> &'static str {
    match build {
        build if build.starts_with("Update-") => "bodhi_update",
        build if is_compose(build) => "compose",
        _ if series.starts_with("koji_build ") => "koji_build",
        _ => "build",
    }
}

/// What a job tests: as its settings say (`ITEM`, `ITEM_TYPE`), or as they are customary.
pub(crate) fn subject(settings: &JobSettings) -> Subject {
    let subject = |kind: &str, item: &str| Subject { kind: cut(kind), item: cut(item) };
    if let Some(item) = settings.get("ITEM") {
        return subject(settings.get("ITEM_TYPE").unwrap_or("build"), item);
    }
    if let Some(update) = settings.get("ADVISORY") {
        return subject("bodhi_update", update);
    }
    if let (Some(project), Some(change)) = (settings.get("ZUUL_PROJECT"), settings.get("ZUUL_CHANGE")) {
        let patchset = settings.get("ZUUL_PATCHSET").unwrap_or("1");
        return subject("change", &format!("{project}/{change},{patchset}"));
    }
    if let (Some(project), Some(tip)) = (settings.get("ZUUL_PROJECT"), settings.get("ZUUL_NEWREV")) {
        return subject("git_commit", &format!("{project}@{tip}"));
    }
    match settings.get("BUILD") {
        Some(build) if build.starts_with("Update-") => subject("bodhi_update", &build["Update-".len()..]),
        Some(build) if is_compose(build) => subject("compose", build),
        Some(build) => {
            let parts = ["DISTRI", "VERSION"].iter().filter_map(|key| settings.get(key)).chain([build]);
            subject("build", &parts.collect::<Vec<_>>().join("-"))
        }
        None => subject("job", &settings.to_settings().job_name()),
    }
}

/// The name of a test case's part: small letters, and `_` for whatever is no letter, digit or `_`.
pub(crate) fn sanitised(name: &str) -> String {
    let mut out = String::new();
    for c in name.to_lowercase().chars() {
        match c {
            c if c.is_alphanumeric() || c == '_' => out.push(c),
            _ if out.ends_with('_') => {}
            _ => out.push('_'),
        }
    }
    out
}

/// The test case of a job; also that of a template, before there is a job.
pub(crate) fn testcase(kind: &str, test: &str) -> String {
    let space = match kind {
        "bodhi_update" => "update",
        "change" | "git_commit" => "gate",
        other => other,
    };
    cut(&format!("{space}.{}", sanitised(test)))
}

/// `DISTRI.FLAVOR.ARCH.MACHINE`, what there is of it.
pub(crate) fn scenario<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    let parts: Vec<&str> =
        ["DISTRI", "FLAVOR", "ARCH", "MACHINE"].iter().filter_map(|key| get(key)).collect();
    (!parts.is_empty()).then(|| cut(&parts.join(".")))
}

/// The outcome as ResultsDB has it.
pub(crate) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "PASSED",
        Outcome::Softfailed => "INFO",
        Outcome::Failed | Outcome::ParallelFailed | Outcome::Skipped => "FAILED",
        Outcome::Incomplete => "CRASHED",
        Outcome::TimeoutExceeded
        | Outcome::UserCancelled
        | Outcome::Obsoleted
        | Outcome::ParallelRestarted
        | Outcome::UserRestarted => "NEEDS_INSPECTION",
    }
}

pub(crate) fn outcome_of_module(result: ModuleResult) -> &'static str {
    match result {
        ModuleResult::Passed => "PASSED",
        ModuleResult::Softfailed => "INFO",
        ModuleResult::Failed => "FAILED",
        // Not run, or not to its end.
        ModuleResult::None | ModuleResult::Running | ModuleResult::Skipped | ModuleResult::Cancelled => {
            "NEEDS_INSPECTION"
        }
    }
}

/// What all results of a job have in common. `url` is where this server is.
pub(crate) fn of_job(job: &JobRow, url: &str) -> NewResult {
    let settings = &job.settings;
    let subject = subject(settings);
    let test = settings.get("TEST").unwrap_or(&job.name);
    let job_url = format!("{url}/jobs/{}", job.id);
    let mut data: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut set = |key: &str, value: Option<&str>| {
        if let Some(value) = value {
            data.insert(key.to_owned(), vec![cut(value)]);
        }
    };
    let scenario = scenario(|key| settings.get(key));
    for (key, value) in [
        ("item", Some(subject.item.as_str())),
        ("type", Some(subject.kind.as_str())),
        ("scenario", scenario.as_deref()),
        ("arch", settings.get("ARCH")),
        ("system_architecture", settings.get("ARCH")),
        ("version", settings.get("VERSION")),
        ("firmware", settings.get("UEFI").map(|_| "uefi")),
        ("source", Some("assay")),
        ("meta.conventions", Some("result")),
        ("job", Some(&job.id.to_string())),
    ] {
        set(key, value);
    }
    let namespace = match subject.kind.as_str() {
        "bodhi_update" => "bodhi",
        kind => kind,
    };
    let of_item = group(namespace, &subject.item, None);
    NewResult {
        testcase: settings.get("TESTCASE").map_or_else(|| testcase(&subject.kind, test), cut),
        at: job.created_at,
        ref_url: Some(job_url),
        groups: vec![group("source", "assay", None), of_item, group("assay", &subject.item, None)],
        data,
        ..NewResult::default()
    }
}

/// What a task found of an item. `whole` is what the results of its job have in common.
pub(crate) fn of_task(found: &TaskResult, whole: &NewResult, run: &Run, url: &str) -> NewResult {
    let mut result = whole.clone();
    for (key, values) in &found.data {
        // The store of results has no keys with a colon, and those of the job are the job's.
        if !key.contains(':') && !["job", "source", "meta.conventions"].contains(&key.as_str()) {
            result.data.insert(cut(key), values.iter().map(|value| cut(value)).collect());
        }
    }
    let first =
        |key: &str| result.data.get(key).and_then(|values| values.first()).cloned().unwrap_or_default();
    let (kind, item) = (first("type"), first("item"));
    let namespace = if kind == "bodhi_update" { "bodhi" } else { kind.as_str() };
    result.groups =
        vec![group("source", "assay", None), group(namespace, &item, None), group("assay", &item, None)];
    result.testcase = cut(&found.testcase);
    result.outcome.clone_from(&found.outcome);
    result.note = found.note.as_ref().map(|note| note.replace('\0', "\u{FFFD}"));
    if let Some(artifact) = &found.artifact {
        let published = run.artifacts.iter().find(|one| one.path == *artifact);
        let blob = |one: &Artifact| format!("{url}/api/assay/v1/blobs/{}", one.sha256);
        if let Some(log) = published.map(blob).or_else(|| artifact.contains("://").then(|| cut(artifact))) {
            result.ref_url = Some(log);
        }
    }
    result
}

/// What somebody else has found, as a message told it. `key` tells it from all others.
pub(crate) fn found_elsewhere(found: &FoundElsewhere, item: &Item, key: &str, at: Timestamp) -> NewResult {
    let mut result = NewResult {
        testcase: cut(&found.testcase),
        at,
        outcome: found.outcome.clone(),
        note: found.note.clone(),
        ref_url: found.ref_url.clone(),
        dedupe: Some(format!("event/{key}")),
        ..NewResult::default()
    };
    let data = found.data.iter().filter(|(_, value)| !value.is_empty());
    let own =
        [("item", &item.id), ("type", &item.kind)].map(|(key, value)| (key.to_owned(), vec![cut(value)]));
    result.data = data.map(|(key, value)| (cut(key), vec![cut(value)])).chain(own).collect();
    let namespace = if item.kind == "bodhi_update" { "bodhi" } else { item.kind.as_str() };
    result.groups.push(group(namespace, &item.id, None));
    if let Some(source) = &found.source {
        result.data.insert("source".to_owned(), vec![cut(source)]);
        result.groups.extend([group("source", source, None), group(source, &item.id, None)]);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_engine::settings::Settings;

    #[test]
    fn groups_are_called_as_everybody_calls_them() {
        for (namespace, name, uuid) in [
            ("source", "openqa", "0f3309ea-6d4c-59b2-b422-d73e9b8511f3"),
            ("bodhi", "FEDORA-2020-424d2b310e", "3e1fbe7a-8afa-505b-8e7c-58315d014360"),
            ("compose", "Fedora-Rawhide-20230502.n.0", "0c35b550-fbc4-5f9c-bec0-eedf1c240ebb"),
        ] {
            let group = group(namespace, name, None);
            assert_eq!((group.uuid.as_str(), group.description), (uuid, Some(format!("{namespace}.{name}"))));
        }
    }

    #[test]
    fn jobs_say_what_they_test() {
        for (settings, kind, item) in [
            (&[("BUILD", "Fedora-Rawhide-20230502.n.0")][..], "compose", "Fedora-Rawhide-20230502.n.0"),
            (&[("BUILD", "Fedora-40-20240401.0")], "compose", "Fedora-40-20240401.0"),
            (&[("BUILD", "Update-FEDORA-2024-0a1b")], "bodhi_update", "FEDORA-2024-0a1b"),
            (&[("ADVISORY", "FEDORA-2024-1"), ("BUILD", "x")], "bodhi_update", "FEDORA-2024-1"),
            (&[("DISTRI", "opensuse"), ("VERSION", "15"), ("BUILD", "0091")], "build", "opensuse-15-0091"),
            (&[("BUILD", "a-20240101.x.y")], "build", "a-20240101.x.y"),
            (&[("ITEM", "bash-1"), ("ITEM_TYPE", "koji_build"), ("BUILD", "1")], "koji_build", "bash-1"),
            (&[("ZUUL_PROJECT", "a/b"), ("ZUUL_CHANGE", "7"), ("ZUUL_PATCHSET", "2")], "change", "a/b/7,2"),
            (&[("TEST", "hello")], "job", "hello"),
        ] {
            let asked = Settings::from_request(settings.iter().map(|(k, v)| (*k, (*v).to_owned())));
            let found = subject(&JobSettings::from(asked));
            assert_eq!((found.kind.as_str(), found.item.as_str()), (kind, item), "{settings:?}");
        }
        for (kind, build, other, same) in [
            ("compose", "Fedora-Rawhide-20261121.n.0", "Fedora-Rawhide-20261120.n.2", true),
            ("compose", "Fedora-44-20261121.0", "Fedora-44-20261120.n.0", false),
            ("compose", "Fedora-44-20261121.n.0", "Fedora-Cloud-44-20261120.n.0", false),
            ("compose", "Fedora-44-20261121.n.0", "Update-FEDORA-2026-1", false),
            ("bodhi_update", "Update-FEDORA-2026-2", "Update-FEDORA-2026-1", false),
            ("koji_build", "bash-5.3-2.fc44", "bash-5.3-1.fc44", true),
            ("koji_build", "bash-5.3-2.fc44", "sed-4.9-1.fc44", false),
            ("build", "0091", "0087", true),
            ("build", "0091", "Fedora-44-20261120.n.0", false),
        ] {
            let found = series(kind, build)
                .is_some_and(|own| series(kind_of(other, &own), other).as_ref() == Some(&own));
            assert_eq!(found, same, "{build} {other}");
        }
        assert_eq!(testcase("bodhi_update", "Base: SELinux--x"), "update.base_selinux_x");
        assert_eq!(testcase("compose", "install_default"), "compose.install_default");
    }
}
