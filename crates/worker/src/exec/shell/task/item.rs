//! What a task looks at: packages of builds from Koji's folders, the build before, what repositories hold, and the
//! description of it all as JSON.

use super::super::recorder::Recorder;
use super::super::sandbox::{JobDirs, WORKSPACE};
use super::super::workspace::WorkspaceError;
use super::{ARTIFACTS, RESULTS, rpm};
use assay_connect::files::{Entry, Files, NoFile, is_remote};
use assay_formats::task_header::{PackageKind, TaskHeader, Wanted};
use assay_proto::task_run::{BASELINE_PACKAGES, PACKAGES, REPOSITORIES, TOPURL, TaskRun, TaskSource};
use assay_records::step::StepResult;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The description, in the workspace.
pub(super) const INPUT: &str = "input.json";
/// The version of the description.
const VERSION: u32 = 1;
/// The longest list of what a repository holds.
const LONGEST_INDEX: u64 = 1 << 20;

impl From<NoFile> for WorkspaceError {
    fn from(error: NoFile) -> Self {
        match error {
            NoFile::Later(why) | NoFile::Silence(why) => Self::Host(why),
            NoFile::Missing(_) | NoFile::Refused(_) => Self::Task(error.to_string()),
        }
    }
}

/// Fetches it all.
pub(super) async fn fetch(
    wanted: &TaskRun,
    header: &TaskHeader,
    dirs: &JobDirs,
    most: u64,
    recorder: &mut Recorder<'_>,
) -> Result<(), WorkspaceError> {
    let local = matches!(wanted.source, TaskSource::Directory(_));
    let files = Files::new(local).map_err(WorkspaceError::Host)?;
    let mut fetcher = Fetcher { files, header, wanted, top: &dirs.workspace, left: most, recorder };
    for dir in ["work", RESULTS, ARTIFACTS] {
        fetcher.dir(dir)?;
    }
    let packages = fetcher.packages().await?;
    let baseline = fetcher.baseline().await?;
    let repositories = fetcher.repositories().await?;
    let within = |dir: &str| format!("{WORKSPACE}/{dir}");
    let koji = json!({"topurl": wanted.topurl, "hub": wanted.hub});
    let input = json!({
        "version": VERSION,
        "task": header.name,
        "testcase": header.testcase,
        "item": wanted.item,
        "type": wanted.kind,
        "revision": wanted.revision,
        "arch": wanted.arch,
        "workdir": within("work"),
        "artifacts": within(ARTIFACTS),
        "results": within(RESULTS),
        "builds": wanted.builds,
        "packages": packages,
        "baseline": baseline,
        "repositories": repositories,
        "koji": koji,
        "inputs": wanted.inputs,
    });
    let text = serde_json::to_vec_pretty(&input).unwrap_or_default();
    fs::write(dirs.workspace.join(INPUT), text).map_err(|error| WorkspaceError::Host(error.to_string()))
}

struct Fetcher<'a, 'b> {
    files: Files,
    header: &'a TaskHeader,
    wanted: &'a TaskRun,
    top: &'a Utf8Path,
    /// Bytes that may still come.
    left: u64,
    recorder: &'a mut Recorder<'b>,
}

impl Fetcher<'_, '_> {
    fn dir(&self, name: &str) -> Result<Utf8PathBuf, WorkspaceError> {
        let dir = self.top.join(name);
        fs::create_dir_all(&dir).map_err(|error| WorkspaceError::Host(error.to_string()))?;
        Ok(dir)
    }

    /// Packages of the item, as the description has them.
    async fn packages(&mut self) -> Result<Vec<Value>, WorkspaceError> {
        if self.header.packages.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(folder) = self.wanted.packages.clone() {
            return self.take_from_folder("packages", &folder, &self.wanted.builds).await;
        }
        if self.wanted.builds.is_empty() {
            return Err(WorkspaceError::Task(format!(
                "the task {} wants packages of {}, and nothing says which builds belong to it; name them with NVRS, or a folder with {PACKAGES}",
                self.header.name, self.wanted.item
            )));
        }
        let mut all = Vec::new();
        for build in &self.wanted.builds {
            all.extend(self.take_from_koji("packages", build).await?);
        }
        Ok(all)
    }

    /// The build before and its packages.
    async fn baseline(&mut self) -> Result<Value, WorkspaceError> {
        if self.header.baseline == Wanted::No {
            return Ok(Value::Null);
        }
        let build = self.wanted.baseline.as_deref();
        let mut named = json!(build);
        let packages = if let Some(folder) = self.wanted.baseline_packages.clone() {
            self.take_from_folder("baseline", &folder, self.wanted.baseline.as_slice()).await?
        } else if let Some(build) = build {
            self.take_from_koji("baseline", build).await?
        } else {
            return Ok(Value::Null);
        };
        // Where nobody names it, its packages do.
        if let [first, more @ ..] = &packages[..]
            && named.is_null()
            && more.iter().all(|one| one["build"] == first["build"])
        {
            named = first["build"].clone();
        }
        Ok(json!({"build": named, "packages": packages}))
    }

    /// All packages of a folder that the task wants, which belong to these builds.
    async fn take_from_folder(
        &mut self,
        to: &str,
        folder: &str,
        builds: &[String],
    ) -> Result<Vec<Value>, WorkspaceError> {
        let entries = self.files.list(folder).await?;
        let mut packages = Vec::new();
        for entry in entries {
            let Some(arch) = arch_of(&entry.name).map(str::to_owned) else { continue };
            packages.extend(self.package(to, &entry, &arch, None).await?);
        }
        let dir = self.top.join(to);
        let of: Vec<Option<String>> =
            packages.iter().map(|one| rpm::build_of(&dir.join(file(one)))).collect();
        for (package, build) in packages.iter_mut().zip(belong_to(&of, builds)) {
            package["build"] = json!(build);
        }
        if packages.is_empty() {
            let key = if to == "packages" { PACKAGES } else { BASELINE_PACKAGES };
            return Err(WorkspaceError::Task(format!(
                "{key}={folder} has no package of {} that the task {} looks at",
                self.wanted.arch, self.header.name
            )));
        }
        Ok(packages)
    }

    /// The packages of a build that the task wants, where Koji has them.
    async fn take_from_koji(&mut self, to: &str, build: &str) -> Result<Vec<Value>, WorkspaceError> {
        let topurl = self.wanted.topurl.as_deref().ok_or_else(|| {
            WorkspaceError::Task(format!(
                "the packages of {build} are wanted and the job has no {TOPURL}; set koji-topurl in [tasks] of assay.toml, or \
                 name a folder with {PACKAGES}"
            ))
        })?;
        let (name, version, release) = nvr(build).ok_or_else(|| {
            WorkspaceError::Task(format!("{build:?} is no build; expected NAME-VERSION-RELEASE"))
        })?;
        let base = format!("{}/packages/{name}/{version}/{release}", topurl.trim_end_matches('/'));
        let mut packages = Vec::new();
        let mut there = false;
        for arch in self.arches() {
            let entries = match self.files.list(&format!("{base}/{arch}")).await {
                Err(NoFile::Missing(_)) => continue,
                listed => listed?,
            };
            there = true;
            for entry in entries.iter().filter(|entry| arch_of(&entry.name) == Some(arch.as_str())) {
                packages.extend(self.package(to, entry, &arch, Some(build)).await?);
            }
        }
        if !there {
            return Err(WorkspaceError::Task(format!(
                "{build} has nothing for {} at {base}",
                self.wanted.arch
            )));
        }
        Ok(packages)
    }

    /// Folders of a build that may hold something for the task.
    fn arches(&self) -> BTreeSet<String> {
        let mut arches = BTreeSet::new();
        let kinds = &self.header.packages;
        if kinds.contains(&PackageKind::Binary) || kinds.contains(&PackageKind::Debug) {
            arches.extend([rpm_arch(&self.wanted.arch).to_owned(), "noarch".to_owned()]);
        }
        if kinds.contains(&PackageKind::Source) {
            arches.insert("src".to_owned());
        }
        arches
    }

    /// Copies one package, if the task wants it.
    async fn package(
        &mut self,
        to: &str,
        entry: &Entry,
        arch: &str,
        build: Option<&str>,
    ) -> Result<Option<Value>, WorkspaceError> {
        let kind = kind_of(&entry.name, arch);
        if !self.header.packages.contains(&kind) || !self.arches().contains(arch) {
            return Ok(None);
        }
        let path = self.dir(to)?.join(&entry.name);
        self.copy(&entry.url, &path).await?;
        let word = match kind {
            PackageKind::Binary => "binary",
            PackageKind::Source => "source",
            PackageKind::Debug => "debug",
        };
        let path = format!("{WORKSPACE}/{to}/{}", entry.name);
        Ok(Some(json!({"path": path, "arch": arch, "kind": word, "build": build})))
    }

    async fn copy(&mut self, url: &str, to: &Utf8Path) -> Result<(), WorkspaceError> {
        let began_us = self.recorder.now_us();
        let size = self.files.fetch(url, to, self.left).await?;
        self.left -= size;
        let title = format!("{} ({size} bytes)", to.file_name().unwrap_or_default());
        self.recorder.step("fetch", began_us, StepResult::Ok, &title, url);
        Ok(())
    }

    /// What the repositories hold; of a folder on this machine the packages as well, which the task does not see otherwise.
    async fn repositories(&mut self) -> Result<Vec<Value>, WorkspaceError> {
        if !self.header.repositories {
            return Ok(Vec::new());
        }
        let mut all = Vec::new();
        for (name, url) in &self.wanted.repositories {
            let dir = format!("repositories/{name}");
            let repodata = self.dir(&format!("{dir}/repodata"))?;
            let index = repodata.join("repomd.xml");
            let missing = |error: NoFile| match error {
                NoFile::Missing(_) => WorkspaceError::Task(format!(
                    "{REPOSITORIES}: {name}={url} is no repository of packages: it has no repodata/repomd.xml"
                )),
                other => other.into(),
            };
            self.files
                .fetch(&format!("{url}/repodata/repomd.xml"), &index, LONGEST_INDEX)
                .await
                .map_err(missing)?;
            let text = fs::read_to_string(&index).map_err(|error| WorkspaceError::Task(error.to_string()))?;
            for href in lists(&text) {
                let file = href.rsplit('/').next().unwrap_or_default();
                self.copy(&format!("{url}/{href}"), &repodata.join(file)).await?;
            }
            let remote = is_remote(url);
            if !remote {
                for entry in self.files.list(url).await? {
                    if arch_of(&entry.name).is_some() {
                        let to = self.top.join(&dir).join(&entry.name);
                        self.copy(&entry.url, &to).await?;
                    }
                }
            }
            let path = format!("{WORKSPACE}/{dir}");
            let url = if remote { url.clone() } else { format!("file://{path}") };
            all.push(json!({"name": name, "url": url, "path": path}));
        }
        Ok(all)
    }
}

/// The name of a package's file.
fn file(package: &Value) -> &str {
    package["path"].as_str().and_then(|path| path.rsplit('/').next()).unwrap_or_default()
}

/// The builds that packages of a folder belong to. Each says of itself of which it is; packages that are all of one build
/// are of the one that is looked at, whatever it was called when they were made, and those that do not say it are of the
/// first.
fn belong_to(said: &[Option<String>], wanted: &[String]) -> Vec<Option<String>> {
    let different: BTreeSet<&String> = said.iter().flatten().collect();
    let only = match wanted {
        [one] if different.len() <= 1 => Some(one),
        _ => None,
    };
    let of = |said: &Option<String>| only.or(said.as_ref()).or(wanted.first()).cloned();
    said.iter().map(of).collect()
}

/// Name, version and release.
fn nvr(build: &str) -> Option<(&str, &str, &str)> {
    let (rest, release) = build.rsplit_once('-')?;
    let (name, version) = rest.rsplit_once('-')?;
    let good = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._+~^-".contains(c))
    };
    [name, version, release].into_iter().all(good).then_some((name, version, release))
}

/// The architecture in the name of a package's file.
fn arch_of(file: &str) -> Option<&str> {
    file.strip_suffix(".rpm")?.rsplit_once('.').map(|(_, arch)| arch)
}

/// What Koji calls a family of machines, as packages call it.
fn rpm_arch(arch: &str) -> &str {
    match arch {
        "i386" => "i686",
        "armhfp" => "armv7hl",
        other => other,
    }
}

fn kind_of(file: &str, arch: &str) -> PackageKind {
    let debug = ["-debuginfo-", "-debugsource-", "-debuginfo-common-"];
    if arch == "src" {
        PackageKind::Source
    } else if debug.iter().any(|part| file.contains(part)) {
        PackageKind::Debug
    } else {
        PackageKind::Binary
    }
}

/// The lists of packages and of their files that a repository's index names.
fn lists(index: &str) -> Vec<String> {
    let attribute = |text: &str, before: &str| {
        let rest = &text[text.find(before)? + before.len()..];
        rest.split('"').next().map(str::to_owned)
    };
    let list = |data: &str| {
        let kind = attribute(data, "type=\"")?;
        let href = attribute(data, "<location href=\"")?;
        let wanted = matches!(kind.as_str(), "primary" | "filelists");
        let inside = !href.starts_with('/') && !href.contains("..") && !href.contains("://");
        (wanted && inside).then_some(href)
    };
    index.split("<data ").skip(1).filter_map(list).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_and_packages_by_their_names() {
        assert_eq!(nvr("python3-x-1.0~rc1-2.fc44"), Some(("python3-x", "1.0~rc1", "2.fc44")));
        for wrong in ["bash", "bash-1", "a-../..-1", "-1-1", "a-1-", "a/b-1-1"] {
            assert_eq!(nvr(wrong), None, "{wrong}");
        }
        for (file, arch, kind) in [
            ("bash-5.3-1.fc44.x86_64.rpm", "x86_64", PackageKind::Binary),
            ("bash-debuginfo-5.3-1.fc44.x86_64.rpm", "x86_64", PackageKind::Debug),
            ("bash-5.3-1.fc44.src.rpm", "src", PackageKind::Source),
        ] {
            assert_eq!(arch_of(file), Some(arch));
            assert_eq!(kind_of(file, arch), kind, "{file}");
        }
        assert_eq!(arch_of("build.log"), None);
    }

    #[test]
    fn packages_of_a_folder_belong_to_their_builds() {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let found = |said: &[&str], wanted: &[&str]| {
            let said: Vec<_> =
                said.iter().map(|text| (!text.is_empty()).then(|| (*text).to_owned())).collect();
            let found = belong_to(&said, &texts(wanted)).into_iter();
            found.map(Option::unwrap_or_default).collect::<Vec<_>>()
        };
        assert_eq!(found(&["a-1-1", "b-1-1", "a-1-1"], &["a-1-1"]), ["a-1-1", "b-1-1", "a-1-1"]);
        assert_eq!(found(&["b-1-1", "a-1-1", ""], &["a-1-1", "b-1-1"]), ["b-1-1", "a-1-1", "a-1-1"]);
        assert_eq!(found(&["a-1-1", "a-1-1", ""], &["a-1-1.fc44"]), ["a-1-1.fc44"; 3], "made elsewhere");
        assert_eq!(found(&["a-1-1", ""], &[]), ["a-1-1", ""]);
    }

    #[test]
    fn an_index_names_its_lists() {
        let index = r#"<repomd><data type="primary"><location href="repodata/1-primary.xml.gz"/></data>
            <data type="other"><location href="repodata/o.xml.gz"/></data>
            <data type="filelists"><checksum type="sha256">x</checksum><location href="../../etc/passwd"/></data>
            <data type="filelists"><location href="repodata/f.xml.zst"/></data></repomd>"#;
        assert_eq!(lists(index), ["repodata/1-primary.xml.gz", "repodata/f.xml.zst"]);
        assert!(lists("<data <data type=\"primary\"").is_empty());
    }
}
