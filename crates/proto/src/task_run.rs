//! What a task run is: a job of `BACKEND=task`, a program of somebody's own that looks at one item. The prose is
//! `docs/tasks.md`.

use std::collections::BTreeMap;

/// The value of `BACKEND`.
pub const BACKEND: &str = "task";
/// What was asked for: the name of a task that the server knows, or the address of its repository.
pub const TASK: &str = "TASK";
/// The address of the task's repository.
pub const URL: &str = "TASK_URL";
/// The folder in it; the repository itself if it is not set.
pub const PATH: &str = "TASK_PATH";
/// The branch or tag that was asked for.
pub const REF: &str = "TASK_REF";
/// The commit that is run.
pub const COMMIT: &str = "TASK_COMMIT";
/// Names that its results may begin with, separated by blanks; what the server says.
pub const NAMESPACES: &str = "TASK_NAMESPACES";
/// The test case that the header names at this commit; what the server says.
pub const TESTCASE: &str = "TASK_TESTCASE";
/// The test case that is asked for in its place.
pub const ASKED_TESTCASE: &str = "TESTCASE";
/// A folder of this machine in place of a repository: `assay run` alone.
pub const DIR: &str = "TASK_DIR";
/// Where Koji's packages are.
pub const TOPURL: &str = "KOJI_TOPURL";
/// Koji itself, for tasks that ask it.
pub const HUB: &str = "KOJI_HUB";
/// A folder of packages in place of Koji's.
pub const PACKAGES: &str = "PACKAGES_URL";
/// The build before, for tasks that compare.
pub const BASELINE: &str = "BASELINE";
/// Koji's tag whose newest build, other than the item, is the build before; the server asks Koji.
pub const BASELINE_TAG: &str = "BASELINE_TAG";
/// A folder with the packages of the build before.
pub const BASELINE_PACKAGES: &str = "BASELINE_URL";
/// Repositories of packages: `NAME=ADDRESS`, separated by blanks.
pub const REPOSITORIES: &str = "REPOSITORIES";
/// Builds that belong to an item that is none itself.
pub const BUILDS: &str = "NVRS";
/// Settings that begin so are given to the task, by the rest of their name in small letters.
pub const INPUT: &str = "INPUT_";
/// The virtual machine that the task runs in: the name of a section `[tasks.machine.NAME]`. Its disks and its size are in the
/// settings that tests of machines have, too.
pub const MACHINE: &str = "TASK_MACHINE";
/// The class that a worker offers whose machine is thrown away afterwards.
pub const DISPOSABLE: &str = "disposable";
/// The namespace that is everybody's.
pub const SCRATCH: &str = "scratch";

/// A job of `BACKEND=task`, as its settings say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRun {
    /// What it is called in messages.
    pub name: String,
    /// Where it comes from.
    pub source: TaskSource,
    /// What is looked at.
    pub item: String,
    /// What kind of thing that is.
    pub kind: String,
    /// Its revision, where it has one.
    pub revision: Option<String>,
    /// For which architecture.
    pub arch: String,
    /// Names that results may begin with; none where nobody restricts them.
    pub namespaces: Option<Vec<String>>,
    /// Builds whose packages are wanted.
    pub builds: Vec<String>,
    /// See [`TOPURL`].
    pub topurl: Option<String>,
    /// See [`HUB`].
    pub hub: Option<String>,
    /// See [`PACKAGES`].
    pub packages: Option<String>,
    /// See [`BASELINE`].
    pub baseline: Option<String>,
    /// See [`BASELINE_PACKAGES`].
    pub baseline_packages: Option<String>,
    /// Names and addresses.
    pub repositories: Vec<(String, String)>,
    /// See [`INPUT`].
    pub inputs: BTreeMap<String, String>,
    /// See [`MACHINE`].
    pub machine: Option<String>,
    /// The job has a machine that nobody else uses: a virtual one, or a worker that is thrown away afterwards.
    pub own_machine: bool,
}

/// Where a task comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskSource {
    /// A folder of a repository at a commit.
    Git {
        /// Its address.
        url: String,
        /// The commit.
        commit: String,
        /// The folder; empty for the repository itself.
        path: String,
    },
    /// A folder of this machine.
    Directory(String),
}

/// Why a job's settings are no task run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskRunError {
    /// A setting is not there.
    #[error("the job has no {0}; {1}")]
    Missing(&'static str, &'static str),
    /// A setting says something else than is expected.
    #[error("{0}={1:?} {2}")]
    Wrong(&'static str, String, &'static str),
}

impl TaskRun {
    /// What a job's settings say.
    pub fn from_settings(settings: &BTreeMap<String, String>) -> Result<Self, TaskRunError> {
        let get = |key: &str| settings.get(key).map(String::as_str).filter(|value| !value.is_empty());
        let text = |key: &str| get(key).map(str::to_owned);
        let item = get("ITEM").ok_or(TaskRunError::Missing("ITEM", "it names what the task looks at"))?;
        let kind = get("ITEM_TYPE").ok_or(TaskRunError::Missing(
            "ITEM_TYPE",
            "it says what ITEM is, for example koji_build, bodhi_update or koji_tag",
        ))?;
        let source = source(&get)?;
        let name = get(TASK).or(match &source {
            TaskSource::Git { url, .. } => Some(url.as_str()),
            TaskSource::Directory(dir) => dir.rsplit('/').next(),
        });
        let words = |key: &str| {
            get(key).unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        let builds = if kind == "koji_build" { vec![item.to_owned()] } else { words(BUILDS) };
        let input = |(key, value): (&String, &String)| {
            Some((key.strip_prefix(INPUT)?.to_ascii_lowercase(), value.clone()))
        };
        Ok(Self {
            name: name.unwrap_or("task").to_owned(),
            source,
            item: item.to_owned(),
            kind: kind.to_owned(),
            revision: text("ITEM_REVISION"),
            arch: get("ARCH").unwrap_or("x86_64").to_owned(),
            namespaces: get(NAMESPACES).map(|_| words(NAMESPACES)),
            builds,
            topurl: text(TOPURL),
            hub: text(HUB),
            packages: text(PACKAGES),
            baseline: text(BASELINE),
            baseline_packages: text(BASELINE_PACKAGES),
            repositories: words(REPOSITORIES)
                .iter()
                .map(|word| repository(word))
                .collect::<Result<_, _>>()?,
            inputs: settings.iter().filter_map(input).collect(),
            machine: text(MACHINE),
            own_machine: has_machine(settings),
        })
    }

    /// True if a result of this name may be posted.
    pub fn may_post(&self, testcase: &str) -> bool {
        self.namespaces.as_ref().is_none_or(|own| may_post(own, testcase))
    }
}

/// True if one of `own` is `testcase`, or a beginning of it up to a dot. [`SCRATCH`] is everybody's.
pub fn may_post(own: &[String], testcase: &str) -> bool {
    let within = |space: &str| {
        testcase.strip_prefix(space).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    within(SCRATCH) || own.iter().any(|space| within(space))
}

/// True if a job's task gets a machine that nobody else uses.
pub fn has_machine(settings: &BTreeMap<String, String>) -> bool {
    let classes = settings.get("WORKER_CLASS").map(String::as_str).unwrap_or_default();
    let machine = settings.get(MACHINE).is_some_and(|name| !name.is_empty());
    machine || classes.split(',').any(|class| class.trim() == DISPOSABLE)
}

/// True if this is a whole commit id.
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// True if this can be a folder of a repository.
pub fn is_folder(path: &str) -> bool {
    !path.split('/').any(|part| part == ".." || part == ".git")
}

/// The address of a repository in two: where it is, and its name.
pub fn split_url(url: &str) -> Option<(&str, &str)> {
    let (origin, name) = url.trim_end_matches('/').rsplit_once('/')?;
    let odd = |c: char| !(c.is_ascii_alphanumeric() || "-._+~".contains(c));
    let good = !name.is_empty() && !name.starts_with(['-', '.']) && !name.contains(odd);
    // Not only `https:/` before it.
    let somewhere = origin.starts_with('/') || origin.trim_end_matches('/').contains('/');
    (good && somewhere).then_some((origin, name))
}

fn source<'a>(get: &impl Fn(&str) -> Option<&'a str>) -> Result<TaskSource, TaskRunError> {
    if let Some(dir) = get(DIR) {
        return Ok(TaskSource::Directory(dir.to_owned()));
    }
    let url = get(URL).ok_or(TaskRunError::Missing(
        URL,
        "the server finds it by TASK, the name of a task in [tasks] of assay.toml or the address of its repository",
    ))?;
    if split_url(url).is_none() || url.starts_with("ext::") || url.starts_with('-') {
        return Err(TaskRunError::Wrong(URL, url.to_owned(), "is no address of a git repository"));
    }
    let commit = get(COMMIT)
        .ok_or(TaskRunError::Missing(COMMIT, "a task runs at a commit; the server finds that of TASK_REF"))?;
    if !is_commit(commit) {
        return Err(TaskRunError::Wrong(COMMIT, commit.to_owned(), "is no whole commit id"));
    }
    let path = get(PATH).unwrap_or_default().trim_matches('/');
    if !is_folder(path) {
        return Err(TaskRunError::Wrong(PATH, path.to_owned(), "is no folder of a repository"));
    }
    Ok(TaskSource::Git { url: url.to_owned(), commit: commit.to_ascii_lowercase(), path: path.to_owned() })
}

fn repository(word: &str) -> Result<(String, String), TaskRunError> {
    let odd = |c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c));
    let good = word.split_once('=').filter(|(name, url)| {
        !name.is_empty() && !name.starts_with('.') && !name.contains(odd) && !url.is_empty()
    });
    let (name, url) = good.ok_or_else(|| {
        TaskRunError::Wrong(REPOSITORIES, word.to_owned(), "is no repository; write NAME=ADDRESS")
    })?;
    Ok((name.to_owned(), url.trim_end_matches('/').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn settings_become_a_run() {
        let commit = "a".repeat(40);
        let run = TaskRun::from_settings(&settings(&[
            ("TASK", "rpmlint"),
            ("TASK_URL", "https://git.example.org/tasks/checks.git"),
            ("TASK_PATH", "/rpmlint/"),
            ("TASK_COMMIT", &commit),
            ("ITEM", "bash-5.3-1.fc44"),
            ("ITEM_TYPE", "koji_build"),
            ("TASK_NAMESPACES", "dist.rpmlint pkg"),
            ("REPOSITORIES", "f44=https://dl.example.org/f44/"),
            ("INPUT_LEVEL", "strict"),
            ("WORKER_CLASS", "shell,disposable"),
        ]))
        .expect("good");
        assert_eq!((run.name.as_str(), run.arch.as_str(), run.own_machine), ("rpmlint", "x86_64", true));
        assert_eq!(
            run.source,
            TaskSource::Git {
                url: "https://git.example.org/tasks/checks.git".into(),
                commit,
                path: "rpmlint".into()
            }
        );
        assert_eq!(run.builds, ["bash-5.3-1.fc44"]);
        assert_eq!(run.repositories, [("f44".to_owned(), "https://dl.example.org/f44".to_owned())]);
        assert_eq!(run.inputs["level"], "strict");
        for (testcase, may) in [
            ("dist.rpmlint", true),
            ("dist.rpmlint.license", true),
            ("dist.rpmlinting", false),
            ("dist", false),
            ("pkg.bash.unit", true),
            ("scratch.mine", true),
            ("", false),
        ] {
            assert_eq!(run.may_post(testcase), may, "{testcase}");
        }
    }

    #[test]
    fn what_is_no_run_says_why() {
        let commit = "b".repeat(40);
        let good =
            [("ITEM", "x"), ("ITEM_TYPE", "t"), ("TASK_URL", "file:///srv/t"), ("TASK_COMMIT", &commit)];
        assert!(TaskRun::from_settings(&settings(&good)).is_ok());
        for (key, value, wanted) in [
            ("ITEM", "", "has no ITEM"),
            ("ITEM_TYPE", "", "has no ITEM_TYPE"),
            ("TASK_URL", "", "has no TASK_URL"),
            ("TASK_URL", "--upload-pack=x", "no address"),
            ("TASK_URL", "https://", "no address"),
            ("TASK_URL", "https://h/a b", "no address"),
            ("TASK_COMMIT", "", "has no TASK_COMMIT"),
            ("TASK_COMMIT", "main", "no whole commit"),
            ("TASK_PATH", "a/../..", "no folder"),
            ("REPOSITORIES", "https://x", "NAME=ADDRESS"),
        ] {
            let mut all = settings(&good);
            all.insert(key.to_owned(), value.to_owned());
            let error = TaskRun::from_settings(&all).expect_err(key).to_string();
            assert!(error.contains(wanted), "{key}={value}: {error}");
        }
    }
}
