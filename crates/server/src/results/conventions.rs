//! How Assay's own jobs and modules become results: item, type, test case, scenario, groups, in the words that
//! `resultsdb_conventions` and Fedora's reporter made customary.

use super::settings::ResultsSettings;
use crate::record::Run;
use assay_engine::decision::{Subject, space};
use assay_engine::ids::Timestamp;
use assay_engine::job_settings::JobSettings;
use assay_engine::outcome::Outcome;
use assay_engine::report::withheld;
use assay_engine::rows::JobRow;
use assay_engine::rules::{FoundElsewhere, Item};
use assay_records::step::{Artifact, ModuleResult, TaskResult};
use assay_store::{GroupOf, NewResult};
use std::collections::BTreeMap;

/// Bytes of a name that can be indexed.
pub(crate) const LONGEST_NAME: usize = 500;

/// Builds of Fedora CoreOS, and how `BUILD` begins for them.
const FCOSBUILD: &str = "fcosbuild";
const COREOS: &str = "Fedora-CoreOS-";
/// The key of a result that says why other systems do not hear of it.
pub(crate) const WITHHELD: &str = "not_reported";
/// Who says what a job's result says.
pub(crate) const SOURCE: Option<&str> = Some("assay");

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

/// A compose as its name tells it: `Fedora-Cloud-44-20240401.t.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Compose<'a> {
    short: &'a str,
    version: &'a str,
    date: &'a str,
    kind: &'static str,
    respin: &'a str,
}

impl<'a> Compose<'a> {
    fn read(id: &'a str) -> Option<Self> {
        if !is_compose(id) {
            return None;
        }
        let mut parts = id.rsplitn(3, '-');
        let (last, version, short) = (parts.next()?, parts.next()?, parts.next()?);
        let mut parts = last.split('.');
        let (date, second, third) = (parts.next()?, parts.next()?, parts.next());
        let kind = match (second, third) {
            (_, None) => "production",
            ("n" | "nightly", _) => "nightly",
            ("t" | "test", _) => "test",
            ("d", _) => "development",
            _ => "ci",
        };
        Some(Self { short, version, date, kind, respin: third.unwrap_or(second) })
    }
}

/// The stream of a build of Fedora CoreOS, which the third part of its version names.
fn stream(build: &str) -> Option<&'static str> {
    Some(match build.split('.').nth(2)? {
        "1" => "next",
        "2" => "testing",
        "3" => "stable",
        "10" => "next-devel",
        "20" => "testing-devel",
        "91" => "rawhide",
        "92" => "branched",
        _ => return None,
    })
}

/// An image of a compose or a build.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Image {
    file: String,
    subvariant: String,
    kind: String,
    format: String,
    arch: String,
}

impl Image {
    /// The one that a job tests, as `TEST_TARGET` names the setting that has it.
    fn of(settings: &JobSettings) -> Option<Self> {
        let target = settings.get("TEST_TARGET")?;
        let is_medium = target == "ISO" || target.strip_prefix("HDD_").is_some_and(|rest| !rest.is_empty());
        let file = settings.get(target).filter(|_| is_medium)?;
        let mut file = file.rsplit('/').next().unwrap_or(file).to_owned();
        // `Subvariant-type-format`, where `_` stands for what would be `-` in one of them.
        let flavor: Vec<&str> = settings.get("FLAVOR").unwrap_or_default().split('-').collect();
        let part = |number: usize| (flavor.len() == 3).then(|| flavor[number].replace('_', "-"));
        let extension = |name: &str| name.rsplit_once('.').map(|(_, extension)| extension.to_owned());
        let format = part(2).or(extension(&file))?;
        // It was unpacked when it was fetched.
        let is_packed = |name: &str| extension(name).as_deref() == Some("xz");
        if is_packed(&format) && !is_packed(&file) {
            file.push_str(".xz");
        }
        Some(Self {
            file,
            subvariant: settings.get("SUBVARIANT").map(str::to_owned).or(part(0))?,
            kind: settings.get("IMAGETYPE").map(str::to_owned).or(part(1))?,
            format,
            arch: settings.get("ARCH")?.to_owned(),
        })
    }
}

/// What is said of a result by the conventions for what was tested.
#[derive(Debug, Default)]
struct Said {
    /// Names of conventions.
    words: Vec<&'static str>,
    data: Vec<(&'static str, String)>,
    groups: Vec<GroupOf>,
}

impl Said {
    fn group(&mut self, namespace: &str, name: &str, ref_url: Option<String>, source: Option<&str>) {
        self.groups.push(group(namespace, name, ref_url));
        self.groups.extend(source.map(|source| group(source, name, None)));
    }

    /// Of an item. `source` is who found it, `bodhi` where updates are seen, `location` where a compose is.
    fn of(subject: &Subject, source: Option<&str>, bodhi: &str, location: Option<&str>) -> Self {
        let groups = source.map(|source| group("source", source, None)).into_iter().collect();
        let mut said = Self { words: vec!["result"], groups, ..Self::default() };
        let item = subject.item.as_str();
        match subject.kind.as_str() {
            "bodhi_update" => {
                said.words.push("fedora.bodhi");
                said.group("bodhi", item, Some(format!("{bodhi}/updates/{item}")), source);
            }
            "compose" => {
                if let Some(compose) = Compose::read(item) {
                    said.words.extend(["productmd.compose", "fedora.compose"]);
                    said.data = [
                        ("productmd.compose.name", compose.short),
                        ("productmd.compose.short", compose.short),
                        ("productmd.compose.version", compose.version),
                        ("productmd.compose.date", compose.date),
                        ("productmd.compose.type", compose.kind),
                        ("productmd.compose.respin", compose.respin),
                        ("productmd.compose.id", item),
                    ]
                    .map(|(key, value)| (key, value.to_owned()))
                    .to_vec();
                }
                said.group("compose", item, location.map(str::to_owned), source);
            }
            FCOSBUILD => {
                said.words.push("fedoracoreos.build");
                said.data.push(("fedoracoreos.build.version", item.to_owned()));
                said.data.extend(stream(item).map(|stream| ("fedoracoreos.build.stream", stream.to_owned())));
                said.group(FCOSBUILD, item, None, source);
            }
            kind => said.group(kind, item, None, source),
        }
        said
    }

    /// Of an image of this item, whose file's name takes its place; nothing of images of other things.
    fn image(&mut self, subject: &Subject, image: &Image, source: Option<&str>) -> bool {
        let Image { subvariant, kind, format, arch, .. } = image;
        match subject.kind.as_str() {
            "compose" if self.words.contains(&"productmd.compose") => {
                self.words.extend(["productmd.image", "fedora.image"]);
                self.data.extend([
                    ("productmd.image.arch", arch.clone()),
                    ("productmd.image.disc_number", "1".to_owned()),
                    ("productmd.image.format", format.clone()),
                    ("productmd.image.subvariant", subvariant.clone()),
                    ("productmd.image.type", kind.clone()),
                ]);
                let id = format!("{subvariant}.{kind}.{format}.{arch}.1").to_lowercase();
                self.group("image", &id, None, source);
                true
            }
            FCOSBUILD => {
                self.words.push("fedoracoreos.image");
                let platform = if format == "qcow2" { "qemu" } else { "metal" };
                self.data.extend([
                    ("fedoracoreos.image.arch", arch.clone()),
                    ("fedoracoreos.image.format", format.clone()),
                    ("fedoracoreos.image.platform", platform.to_owned()),
                ]);
                let id = format!("fedoracoreos.{platform}.{format}.{arch}");
                self.group("image", &id, None, source);
                true
            }
            _ => false,
        }
    }

    /// Puts it into a result.
    fn into(self, result: &mut NewResult) {
        let data = self.data.into_iter().map(|(key, value)| (key.to_owned(), vec![cut(&value)]));
        result.data.extend(data);
        result.data.insert("meta.conventions".to_owned(), vec![self.words.join(" ")]);
        result.groups = self.groups;
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
        FCOSBUILD => Some(format!("{FCOSBUILD} {}", stream(build.strip_prefix(COREOS).unwrap_or(build))?)),
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
        build if build.starts_with(COREOS) => FCOSBUILD,
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
        Some(build) if build.starts_with(COREOS) => subject(FCOSBUILD, &build[COREOS.len()..]),
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
    cut(&format!("{}.{}", space(kind), sanitised(test)))
}

/// The test case of a job: as it or its task says, or as it is customary.
pub(crate) fn testcase_of(settings: &JobSettings, kind: &str, name: &str) -> String {
    let customary = || testcase(kind, settings.get("TEST").unwrap_or(name));
    crate::tasks::testcase(settings).map_or_else(customary, cut)
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

/// What a result with this data is of: of an image it is what the image belongs to.
pub(crate) fn subject_of(data: &BTreeMap<String, Vec<String>>) -> Option<Subject> {
    let first = |key: &str| data.get(key).and_then(|values| values.first()).cloned();
    let kind = first("type")?;
    let whole = match kind.as_str() {
        "compose" => first("productmd.compose.id"),
        FCOSBUILD => first("fedoracoreos.build.version"),
        _ => None,
    };
    Some(Subject { item: whole.or_else(|| first("item"))?, kind })
}

/// What all results of a job have in common.
pub(crate) fn of_job(job: &JobRow, places: &ResultsSettings) -> NewResult {
    let settings = &job.settings;
    let subject = subject(settings);
    let job_url = format!("{}/jobs/{}", places.url, job.id);
    let mut data: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut set = |key: &str, value: Option<&str>| {
        if let Some(value) = value {
            data.insert(key.to_owned(), vec![cut(value)]);
        }
    };
    let mut said = Said::of(&subject, SOURCE, &places.bodhi, settings.get("LOCATION"));
    let image = Image::of(settings).filter(|image| said.image(&subject, image, SOURCE));
    let scenario = scenario(|key| settings.get(key));
    let machine = ["bodhi_update", "compose", FCOSBUILD].contains(&subject.kind.as_str());
    let firmware = if settings.get("UEFI").is_some() { Some("uefi") } else { machine.then_some("bios") };
    let withheld = withheld(|key| settings.get(key), job.state.end().map(|end| end.outcome));
    for (key, value) in [
        ("item", Some(image.as_ref().map_or(subject.item.as_str(), |image| &image.file))),
        ("type", Some(subject.kind.as_str())),
        ("scenario", scenario.as_deref()),
        ("arch", settings.get("ARCH")),
        ("system_architecture", settings.get("ARCH")),
        ("version", settings.get("VERSION")),
        ("firmware", firmware),
        ("source", SOURCE),
        ("job", Some(&job.id.to_string())),
        (WITHHELD, withheld.as_deref()),
    ] {
        set(key, value);
    }
    let mut result = NewResult {
        testcase: testcase_of(settings, &subject.kind, &job.name),
        at: job.created_at,
        ref_url: Some(job_url),
        data,
        ..NewResult::default()
    };
    said.into(&mut result);
    result
}

/// What a task found of an item. `whole` is what the results of its job have in common.
pub(crate) fn of_task(
    found: &TaskResult,
    whole: &NewResult,
    run: &Run,
    places: &ResultsSettings,
) -> NewResult {
    let url = &places.url;
    let mut result = whole.clone();
    for (key, values) in &found.data {
        // The store of results has no keys with a colon, and those of the job are the job's.
        if !key.contains(':') && !["job", "source", "meta.conventions", WITHHELD].contains(&key.as_str()) {
            result.data.insert(cut(key), values.iter().map(|value| cut(value)).collect());
        }
    }
    let first =
        |key: &str| result.data.get(key).and_then(|values| values.first()).cloned().unwrap_or_default();
    let (kind, item) = (first("type"), first("item"));
    if whole.data.get("item").is_none_or(|items| items.first() != Some(&item)) {
        // It is of something else than its job.
        let of_job = |key: &str| key.starts_with("productmd.") || key.starts_with("fedoracoreos.");
        result.data.retain(|key, _| !of_job(key) || found.data.contains_key(key));
        Said::of(&Subject { kind, item }, SOURCE, &places.bodhi, None).into(&mut result);
    }
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
pub(crate) fn found_elsewhere(
    found: &FoundElsewhere,
    item: &Item,
    key: &str,
    at: Timestamp,
    bodhi: &str,
) -> NewResult {
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
    let subject = Subject { kind: item.kind.clone(), item: item.id.clone() };
    let source = found.source.as_deref();
    // Its data stay as they were told; it is in the groups where others look for it.
    result.groups = Said::of(&subject, source, bodhi, None).groups;
    if let Some(source) = source {
        result.data.insert("source".to_owned(), vec![cut(source)]);
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
    fn images_are_what_the_target_names() {
        let of = |settings: &[(&str, &str)]| {
            let asked = Settings::from_request(settings.iter().map(|(k, v)| (*k, (*v).to_owned())));
            let image = Image::of(&JobSettings::from(asked))?;
            Some(format!(
                "{} {} {} {} {}",
                image.file, image.subvariant, image.kind, image.format, image.arch
            ))
        };
        let flavor = ("FLAVOR", "Silverblue-dvd_ostree-iso");
        let arch = ("ARCH", "x86_64");
        for (settings, expected) in [
            (
                &[("TEST_TARGET", "ISO"), ("ISO", "a.iso"), flavor, arch][..],
                Some("a.iso Silverblue dvd-ostree iso x86_64"),
            ),
            (
                &[
                    ("TEST_TARGET", "HDD_2"),
                    ("HDD_2", "dir/m.raw"),
                    ("FLAVOR", "Minimal-raw_xz-raw.xz"),
                    arch,
                ],
                Some("m.raw.xz Minimal raw-xz raw.xz x86_64"),
            ),
            (
                &[
                    ("TEST_TARGET", "HDD_1"),
                    ("HDD_1", "c.qcow2"),
                    ("SUBVARIANT", "Cloud"),
                    ("IMAGETYPE", "cloud"),
                    arch,
                ],
                Some("c.qcow2 Cloud cloud qcow2 x86_64"),
            ),
            (&[("TEST_TARGET", "ISO"), flavor, arch], None),
            (&[("TEST_TARGET", "COMPOSE"), ("ISO", "a.iso"), flavor, arch], None),
            (&[("TEST_TARGET", "TEST"), ("TEST", "a.iso"), flavor, arch], None),
            (&[("ISO", "a.iso"), flavor, arch], None),
            (&[("TEST_TARGET", "ISO"), ("ISO", "a.iso"), ("FLAVOR", "universal"), arch], None),
        ] {
            assert_eq!(of(settings).as_deref(), expected, "{settings:?}");
        }
        for (id, expected) in [
            ("Fedora-Rawhide-20230502.n.0", Some(("Fedora", "Rawhide", "20230502", "nightly", "0"))),
            ("Fedora-Cloud-44-20230502.2", Some(("Fedora-Cloud", "44", "20230502", "production", "2"))),
            ("Fedora-44-20230502.t.1", Some(("Fedora", "44", "20230502", "test", "1"))),
            ("Rawhide-20230502.n.0", None),
            ("0091", None),
        ] {
            let found = Compose::read(id).map(|one| (one.short, one.version, one.date, one.kind, one.respin));
            assert_eq!(found, expected, "{id}");
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
            (&[("BUILD", "Fedora-CoreOS-44.20260101.3.0")], "fcosbuild", "44.20260101.3.0"),
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
            ("fcosbuild", "Fedora-CoreOS-44.20260102.3.0", "Fedora-CoreOS-44.20260101.3.0", true),
            ("fcosbuild", "Fedora-CoreOS-44.20260102.3.0", "Fedora-CoreOS-44.20260101.2.0", false),
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
