//! Tests and needles that are named by an address, `URL#REF`: fetched through the host's git cache, and kept as one tree
//! for each commit, which all jobs of the host share.
//!
//! A tree has no repository in it. It stays as long as a job stands on it, and the newest of each repository stay longer.

use crate::exec::shell::cache::{Cache, Mirror, lock};
use crate::exec::shell::git::{Git, GitError};
use crate::exec::{Attempt, infrastructure, usage};
use assay_git::checkout::{Commit, LOG, read_log};
use assay_proto::worker::Report;
use assay_records::history::PastCommit;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use std::collections::BTreeMap;

/// The settings that may name a repository.
const SETTINGS: [&str; 2] = ["CASEDIR", "NEEDLES_DIR"];
/// Trees of one repository that stay though no job uses them.
const KEPT: usize = 3;
/// How many of the newest commits are noted, and how many files of each.
const COMMITS: &str = "--max-count=60";
const FILES: usize = 20;

/// Where the tests and needles of an attempt are, held until the attempt is over.
#[derive(Debug, Default)]
pub(super) struct Sources {
    trees: BTreeMap<&'static str, Tree>,
}

/// The files of a commit.
#[derive(Debug)]
struct Tree {
    path: Utf8PathBuf,
    commit: String,
    /// As the setting gave it.
    address: String,
    /// The newest commits up to this one.
    history: Vec<PastCommit>,
    _lease: std::fs::File,
}

/// A repository and what of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    /// Everything before the repository's own name.
    origin: String,
    project: String,
    /// A branch, a tag or a commit; none for the branch that the repository's `HEAD` names.
    reference: Option<String>,
}

impl Address {
    /// What a setting names; none if that is a path of this host.
    fn of(setting: &str, value: &str) -> Result<Option<Self>, String> {
        let value = value.trim();
        let Some((scheme, _)) = value.split_once("://") else { return Ok(None) };
        if !matches!(scheme, "http" | "https" | "git" | "ssh" | "file") {
            return Err(format!(
                "{setting}={value:?}: tests are fetched by http, https, git, ssh or file, not by {scheme:?}"
            ));
        }
        let (url, reference) = match value.split_once('#') {
            Some((url, reference)) => (url, Some(reference)),
            None => (value, None),
        };
        let bad = |c: char| c.is_whitespace() || c.is_control();
        let parts = url.trim_end_matches('/').rsplit_once('/').filter(|(origin, project)| {
            origin.len() > scheme.len() + 3 && !project.is_empty() && !matches!(*project, "." | "..")
        });
        let Some((origin, project)) = parts.filter(|_| !url.contains(bad)) else {
            return Err(format!(
                "{setting}={value:?} names no repository; write URL#REF, for example https://example.org/tests.git#main"
            ));
        };
        let odd = |reference: &str| {
            reference.is_empty()
                || reference.starts_with('-')
                || reference.contains(bad)
                || reference.contains([':', '^', '~', '@', '*', '?', '[', '\\'])
                || reference.contains("..")
        };
        if let Some(reference) = reference.filter(|reference| odd(reference)) {
            return Err(format!(
                "{setting}={value:?}: {reference:?} is no branch, tag or commit; leave out the # for the usual branch"
            ));
        }
        let reference = reference.map(str::to_owned);
        Ok(Some(Self { origin: origin.to_owned(), project: project.to_owned(), reference }))
    }
}

impl Sources {
    /// Fetches what the settings name by an address.
    pub(super) async fn fetch(attempt: &Attempt) -> Result<Self, Report> {
        let mut sources = Self::default();
        for setting in SETTINGS {
            let Some(value) = attempt.settings.get(setting) else { continue };
            let Some(address) = Address::of(setting, value).map_err(usage)? else { continue };
            attempt.log(&format!("fetching {setting}={value}"));
            let tree = tree(attempt, setting, value, &address).await?;
            attempt.log(&format!("{setting}={value} is commit {}", tree.commit));
            sources.trees.insert(setting, tree);
        }
        Ok(sources)
    }

    /// The settings with paths of this host in the place of addresses, as isotovideo shows them to a test.
    pub(super) fn located(&self, settings: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut located = settings.clone();
        for (setting, tree) in &self.trees {
            located.insert((*setting).to_owned(), tree.path.to_string());
        }
        located
    }

    /// The tests' address, if they were fetched.
    pub(super) fn tests_address(&self) -> Option<&str> {
        self.trees.get("CASEDIR").map(|tree| tree.address.as_str())
    }

    /// The commit of the tests, if they were fetched.
    pub(super) fn tests_commit(&self) -> Option<&str> {
        self.trees.get("CASEDIR").map(|tree| tree.commit.as_str())
    }

    /// What came before the commits of tests and needles.
    pub(super) fn histories(&self) -> impl Iterator<Item = (&'static str, &[PastCommit])> {
        let named = [("tests", "CASEDIR"), ("needles", "NEEDLES_DIR")];
        named
            .into_iter()
            .filter_map(|(what, setting)| Some((what, self.trees.get(setting)?.history.as_slice())))
    }

    /// Where needles of their own come from, and their commit.
    pub(super) fn facts(&self) -> Vec<(String, String)> {
        let Some(tree) = self.trees.get("NEEDLES_DIR") else { return Vec::new() };
        vec![("needles".to_owned(), tree.address.clone()), ("needles commit".to_owned(), tree.commit.clone())]
    }
}

/// The tree of the commit that an address names now.
async fn tree(attempt: &Attempt, setting: &str, value: &str, address: &Address) -> Result<Tree, Report> {
    let failed = |why: String| infrastructure(format!("{setting}={value}: {why}"));
    let disk = |error: std::io::Error| failed(format!("the git cache cannot be used: {error}"));
    let root = attempt.host.cache.join("git");
    let cache = Cache::open(root.clone(), address.origin.starts_with("file:")).map_err(disk)?;
    let mirror = cache.mirror(&address.origin, &address.project).await.map_err(&failed)?;
    let trees = attempt.host.cache.join("trees");
    fs::create_dir_all(&trees).map_err(disk)?;
    let local = mirror.url.starts_with("file:");
    let git = Git { writable: vec![trees.clone()], local, ..Git::default() };
    match make(&git, &trees, &mirror, address).await {
        Ok((path, commit, lease)) => {
            let history = history(&fs::read_to_string(log_of(&path)).unwrap_or_default());
            Ok(Tree { path, commit, address: value.to_owned(), history, _lease: lease })
        }
        Err(Failed::NoSuch(reference)) => Err(usage(format!(
            "{setting}={value}: the repository has no branch, tag or commit {reference:?}"
        ))),
        Err(Failed::Git(error)) => Err(failed(error.to_string())),
        Err(Failed::Submodules(error)) => Err(failed(format!("its submodules: {error}"))),
        Err(Failed::Disk(error)) => Err(failed(error.to_string())),
    }
}

enum Failed {
    NoSuch(String),
    Git(GitError),
    Submodules(GitError),
    Disk(std::io::Error),
}

impl From<GitError> for Failed {
    fn from(error: GitError) -> Self {
        Self::Git(error)
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::Disk(error)
    }
}

/// Makes the tree unless it is there, and answers its path, its commit and the promise that it stays.
async fn make(
    git: &Git,
    trees: &Utf8Path,
    mirror: &Mirror,
    address: &Address,
) -> Result<(Utf8PathBuf, String, std::fs::File), Failed> {
    // Held while trees of the repository come and go.
    let _turn = lock(trees.join(format!("{}.lock", mirror.key)), true).await?;
    let begun = format!("{}.new-", mirror.key);
    for entry in trees.read_dir_utf8()?.flatten().filter(|entry| entry.file_name().starts_with(&begun)) {
        crate::attempt::remove_tree(entry.path());
    }
    let fresh = trees.join(format!("{begun}{}", uuid::Uuid::new_v4().simple()));
    fs::create_dir_all(&fresh)?;
    let made = checkout(git, trees, &fresh, mirror, address).await;
    if fresh.exists() {
        crate::attempt::remove_tree(&fresh);
    }
    made
}

async fn checkout(
    git: &Git,
    trees: &Utf8Path,
    fresh: &Utf8Path,
    mirror: &Mirror,
    address: &Address,
) -> Result<(Utf8PathBuf, String, std::fs::File), Failed> {
    git.run(fresh, &["init", "--quiet", "--template=", "."]).await?;
    fs::write(fresh.join(".git/objects/info/alternates"), format!("{}/objects\n", mirror.path))?;
    let refs = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
    // The mirror is named by its path, which is no protocol that a submodule could use.
    let copy = Git { local: true, ..git.clone() };
    let args = ["fetch", "--quiet", "--no-write-fetch-head", mirror.path.as_str(), refs[0], refs[1]];
    copy.run(fresh, &args).await?;
    let commit = commit(git, fresh, mirror, address).await?;
    let path = trees.join(format!("{}-{commit}", mirror.key));
    let lease = lock(Utf8PathBuf::from(format!("{path}.lock")), false).await?;
    if !log_of(&path).exists() {
        let log = [&LOG[..], &[COMMITS, commit.as_str(), "--"]].concat();
        fs::write(log_of(&path), git.run(fresh, &log).await?)?;
    }
    if !path.exists() {
        git.run(fresh, &["checkout", "--quiet", "--force", "--detach", &commit]).await?;
        if fresh.join(".gitmodules").is_file() {
            // Addresses that begin with `../` are beside this one.
            git.run(fresh, &["remote", "add", "origin", &mirror.url]).await?;
            let update = ["submodule", "--quiet", "update", "--init", "--recursive"];
            git.run(fresh, &update).await.map_err(Failed::Submodules)?;
        }
        drop_repositories(fresh)?;
        drop_ways_out(fresh, fresh)?;
        fs::rename(fresh, &path)?;
    }
    // The time of its last use.
    fs::write(format!("{path}.lock"), b"used")?;
    sweep(trees, &mirror.key, &path);
    Ok((path, commit, lease))
}

/// Where the commits up to a tree's are noted.
fn log_of(tree: &Utf8Path) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{tree}.log"))
}

/// The commits that git has listed.
fn history(text: &str) -> Vec<PastCommit> {
    let one = |commit: Commit| PastCommit {
        id: commit.id,
        parents: commit.parents,
        author: commit.author,
        at: commit.at,
        subject: commit.subject,
        files: commit.files.into_iter().take(FILES).collect(),
    };
    read_log(text).into_iter().map(one).collect()
}

/// Removes the repository of a tree, and what names those of its submodules.
fn drop_repositories(dir: &Utf8Path) -> std::io::Result<()> {
    for entry in dir.read_dir_utf8()? {
        let entry = entry?;
        match (entry.file_name(), entry.file_type()?.is_dir()) {
            (".git", true) => crate::attempt::remove_tree(entry.path()),
            (".git", false) => fs::remove_file(entry.path())?,
            (_, true) => drop_repositories(entry.path())?,
            (_, false) => {}
        }
    }
    Ok(())
}

/// Removes links that lead out of the tree: nobody reads the host's files by pushing a link to them.
fn drop_ways_out(root: &Utf8Path, dir: &Utf8Path) -> std::io::Result<()> {
    for entry in dir.read_dir_utf8()? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            drop_ways_out(root, entry.path())?;
        } else if kind.is_symlink() {
            let inside = entry
                .path()
                .canonicalize_utf8()
                .is_ok_and(|target| root.canonicalize_utf8().is_ok_and(|root| target.starts_with(root)));
            if !inside {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

/// The commit that is wanted: of a branch before a tag of that name, as git's own `--branch`.
async fn commit(git: &Git, tree: &Utf8Path, mirror: &Mirror, address: &Address) -> Result<String, Failed> {
    let parse = async |name: &str| {
        let name = format!("{name}^{{commit}}");
        git.run(tree, &["rev-parse", "--verify", "--quiet", &name]).await.map(|text| text.trim().to_owned())
    };
    let Some(wanted) = &address.reference else {
        return Ok(parse(&format!("refs/remotes/origin/{}", mirror.default)).await?);
    };
    let branch = wanted.strip_prefix("refs/heads/").unwrap_or(wanted);
    let tag = wanted.strip_prefix("refs/tags/").unwrap_or(wanted);
    for name in [format!("refs/remotes/origin/{branch}"), format!("refs/tags/{tag}")] {
        if let Ok(commit) = parse(&name).await {
            return Ok(commit);
        }
    }
    let is_hex = wanted.len() >= 7 && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex && let Ok(commit) = parse(wanted).await {
        return Ok(commit);
    }
    // Not among branches and tags, but the server may give it: the commit of a pull request, for example.
    if (is_hex && wanted.len() == 40) || wanted.starts_with("refs/") {
        let spec = format!("+{wanted}:refs/assay/wanted");
        if git.run(tree, &["fetch", "--quiet", "--no-tags", &mirror.url, &spec]).await.is_ok() {
            return Ok(parse("refs/assay/wanted").await?);
        }
    }
    Err(Failed::NoSuch(wanted.clone()))
}

/// Removes trees of a repository that no job uses, but for the newest.
fn sweep(trees: &Utf8Path, key: &str, but: &Utf8Path) {
    let mut found = Vec::new();
    for entry in trees.read_dir_utf8().into_iter().flatten().flatten() {
        let path = entry.path().to_owned();
        let commit = entry.file_name().strip_prefix(key).and_then(|rest| rest.strip_prefix('-'));
        let is_tree = commit.is_some_and(|commit| commit.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if is_tree && path != but {
            let used = fs::metadata(format!("{path}.lock")).and_then(|file| file.modified()).ok();
            found.push((used, path));
        }
    }
    found.sort();
    found.reverse();
    for (_, path) in found.into_iter().skip(KEPT - 1) {
        let held = fs::File::open(format!("{path}.lock"));
        if held.is_ok_and(|file| file.into_parts().0.try_lock().is_ok()) {
            let _ = fs::remove_file(log_of(&path));
            crate::attempt::remove_tree(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses() {
        let table = [
            ("/srv/tests", Ok(None)),
            ("relative/dir", Ok(None)),
            ("https://h/os/tests.git#abc", Ok(Some(("https://h/os", "tests.git", Some("abc"))))),
            ("https://h/os/tests.git/", Ok(Some(("https://h/os", "tests.git", None)))),
            (
                "ssh://git@h/tests#refs/pull/3/head",
                Ok(Some(("ssh://git@h", "tests", Some("refs/pull/3/head")))),
            ),
            ("file:///srv/tests#v1.0", Ok(Some(("file:///srv", "tests", Some("v1.0"))))),
            ("ext::sh -c x://y", Err("not by")),
            ("ftp://h/x", Err("not by \"ftp\"")),
            ("https://h", Err("names no repository")),
            ("https:///", Err("names no repository")),
            ("https://h/a b", Err("names no repository")),
            ("https://h/a#", Err("is no branch")),
            ("https://h/a#--upload-pack=x", Err("is no branch")),
            ("https://h/a#a..b", Err("is no branch")),
            ("https://h/a#a b", Err("is no branch")),
        ];
        for (value, want) in table {
            match (Address::of("CASEDIR", value), want) {
                (Ok(found), Ok(want)) => {
                    let found = found
                        .as_ref()
                        .map(|one| (one.origin.as_str(), one.project.as_str(), one.reference.as_deref()));
                    assert_eq!(found, want, "{value}");
                }
                (Err(said), Err(part)) => assert!(said.contains(part), "{value}: {said}"),
                (found, _) => panic!("{value}: {found:?}"),
            }
        }
    }

    fn git(dir: &Utf8Path, args: &[&str]) {
        let output = std::process::Command::new("git")
            .args(["-c", "protocol.file.allow=always", "-c", "user.name=a", "-c", "user.email=a@b"])
            .args(args)
            .current_dir(dir)
            .output()
            .expect("git");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    #[tokio::test]
    async fn submodules_are_there_and_leave_no_repository() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = Utf8Path::from_path(dir.path()).expect("UTF-8");
        for (name, file) in [("deep.git", "deep.star"), ("lib.git", "lib.star"), ("tests.git", "main.star")] {
            fs::create_dir(dir.join(name)).expect("made");
            git(&dir.join(name), &["init", "-q", "-b", "main"]);
            fs::write(dir.join(name).join(file), "x = 1\n").expect("written");
        }
        std::os::unix::fs::symlink("/etc/passwd", dir.join("lib.git/out")).expect("linked");
        for (name, below) in [("deep.git", None), ("lib.git", Some("deep")), ("tests.git", Some("lib"))] {
            if let Some(below) = below {
                let address = format!("../{below}.git");
                // A relative address is taken from where the repository itself came from.
                git(&dir.join(name), &["remote", "add", "origin", dir.join(name).as_str()]);
                git(&dir.join(name), &["submodule", "--quiet", "add", &address, below]);
            }
            git(&dir.join(name), &["add", "."]);
            git(&dir.join(name), &["commit", "-q", "-m", "x"]);
        }
        let (origin, cache) = (format!("file://{dir}"), dir.join("cache"));
        let mirrors = Cache::open(cache.join("git"), true).expect("a cache");
        let trees = cache.join("trees");
        fs::create_dir(&trees).expect("made");
        let runner = Git { writable: vec![trees.clone()], local: true, ..Git::default() };
        let fetched = async |project: &str| {
            let mirror = mirrors.mirror(&origin, project).await.expect("a mirror");
            let address =
                Address::of("CASEDIR", &format!("{origin}/{project}")).expect("right").expect("one");
            make(&runner, &trees, &mirror, &address).await
        };
        let Ok((tree, ..)) = fetched("tests.git").await else { panic!("it was not fetched") };
        for file in ["main.star", "lib/lib.star", "lib/deep/deep.star"] {
            assert!(tree.join(file).is_file(), "{file}");
        }
        for gone in [".git", "lib/.git", "lib/deep/.git", "lib/out"] {
            assert!(tree.join(gone).symlink_metadata().is_err(), "{gone}");
        }

        // One that cannot be fetched is named, and leaves nothing behind.
        fs::remove_dir_all(dir.join("deep.git")).expect("removed");
        fs::write(dir.join("tests.git/main.star"), "x = 2\n").expect("written");
        git(&dir.join("tests.git"), &["commit", "-q", "-a", "-m", "x"]);
        let Err(Failed::Submodules(error)) = fetched("tests.git").await else { panic!("it was fetched") };
        assert!(error.to_string().contains("deep"), "{error}");
        let trees = trees
            .read_dir_utf8()
            .expect("there")
            .filter(|one| one.as_ref().is_ok_and(|one| one.path().is_dir()));
        assert_eq!(trees.count(), 1, "the one of the first commit");
    }

    proptest! {
        #[test]
        fn no_address_becomes_an_option(value in "(https?://)?[-a-z/#:.~^@ ]{0,20}") {
            if let Ok(Some(address)) = Address::of("CASEDIR", &value) {
                prop_assert!(address.origin.starts_with(|c: char| c.is_ascii_lowercase()) && address.origin.contains("://"));
                prop_assert!(!address.project.is_empty());
                prop_assert!(!address.reference.is_some_and(|reference| reference.starts_with('-')));
            }
        }
    }
}
