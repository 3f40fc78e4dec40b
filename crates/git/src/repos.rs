//! The bare repositories, one per project, and what is fetched into them.

use crate::error::{GitError, remedy, tidy};
use crate::merge::Cache;
use crate::name::{BranchName, CommitId, NameError, ProjectName, RefName, TreeId};
use crate::object::{Entry, RawCommit, parse_tree};
use crate::run::{Call, CallError, Done, Git};
use crate::state::Tip;
use camino::{Utf8Path, Utf8PathBuf};
use gix::ObjectId;
use gix::objs::{Kind, Write as _};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

/// For what happens on this machine only.
const LOCAL: Duration = Duration::from_mins(10);

/// Where a project's repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its URL.
    pub url: String,
    /// Environment of git for this project, for example `GIT_SSH_COMMAND`.
    pub env: Vec<(String, String)>,
}

impl Remote {
    /// A repository that needs no more than its URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), env: Vec::new() }
    }

    /// The password in the URL, if there is one.
    pub(crate) fn secret(&self) -> Option<&str> {
        let (user, _) = self.url.split_once("://")?.1.split('/').next()?.rsplit_once('@')?;
        user.split_once(':').map(|(_, password)| password)
    }
}

/// What to fetch, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refspec(String);

impl Refspec {
    /// All branches; those that are gone there are removed here.
    pub fn branches() -> Self {
        Self("+refs/heads/*:refs/heads/*".into())
    }

    /// All tags.
    pub fn tags() -> Self {
        Self("+refs/tags/*:refs/tags/*".into())
    }

    /// One reference, under its own name.
    pub fn one(name: &RefName) -> Self {
        Self(format!("+{name}:{name}"))
    }

    /// Any refspec `[+]FROM:TO`; `*` may stand once on each side.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (from, to) = text.strip_prefix('+').unwrap_or(text).split_once(':').unwrap_or((text, text));
        for side in [from, to] {
            side.replacen('*', "x", 1).parse::<RefName>()?;
        }
        Ok(Self(format!("+{from}:{to}")))
    }
}

/// The repositories of one directory. Cheap to clone; all methods may be called from any thread, and block it.
#[derive(Clone)]
pub struct Repos(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    dir: Utf8PathBuf,
    pub(crate) git: Git,
    projects: RwLock<BTreeMap<ProjectName, Arc<Repository>>>,
    pub(crate) cache: Mutex<Cache>,
}

/// One project's repository.
pub(crate) struct Repository {
    pub(crate) name: ProjectName,
    pub(crate) path: Utf8PathBuf,
    git: Git,
    remote: RwLock<Remote>,
    objects: gix::ThreadSafeRepository,
    /// Read: objects without references are in use. Written: such objects are removed.
    pub(crate) in_use: RwLock<()>,
    /// Fetches and pushes of one project wait for each other.
    network: Mutex<()>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it guards is whole between statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Repos {
    /// Opens the directory, or makes it, and looks whether git is new enough.
    pub fn open(dir: &Utf8Path) -> Result<Self, GitError> {
        Self::open_with(dir, "git")
    }

    /// The same with another git program.
    pub fn open_with(dir: &Utf8Path, program: &str) -> Result<Self, GitError> {
        fs_err::create_dir_all(dir)?;
        let dir = dir.canonicalize_utf8()?;
        let git = Git::new(program);
        let call = Call { dir: &dir, arguments: &["version"], env: &[], stdin: b"", deadline: LOCAL };
        let done = git.run(&call).map_err(|error| match error {
            CallError::Start(source) | CallError::Io(source) => GitError::NoGit { source },
            CallError::Deadline => GitError::NoGit { source: std::io::ErrorKind::TimedOut.into() },
        })?;
        let found = String::from_utf8_lossy(&done.out).trim().to_owned();
        if version(&found).is_none_or(|version| version < (2, 39)) {
            return Err(GitError::OldGit { found });
        }
        let (projects, cache) = (RwLock::default(), Mutex::default());
        Ok(Self(Arc::new(Inner { dir, git, projects, cache })))
    }

    /// Makes a project known, and its repository if there is none; for a known project, changes where its remote is.
    pub fn add(&self, project: &ProjectName, remote: Remote) -> Result<(), GitError> {
        if let Ok(known) = self.repository(project) {
            *known.remote.write().unwrap_or_else(PoisonError::into_inner) = remote;
            return Ok(());
        }
        let path = self.0.dir.join(format!("{project}.git"));
        if !path.join("HEAD").is_file() {
            self.init(project, &path)?;
        }
        remove_torn(&path)?;
        remove_locks(&path)?;
        let options = gix::open::Options::isolated();
        let objects = gix::ThreadSafeRepository::open_opts(path.as_std_path(), options).map_err(|error| {
            GitError::Damaged { project: project.clone(), text: error.to_string(), path: path.to_string() }
        })?;
        let repository = Repository {
            name: project.clone(),
            path,
            git: self.0.git.clone(),
            remote: RwLock::new(remote),
            objects,
            in_use: RwLock::default(),
            network: Mutex::default(),
        };
        let mut projects = self.0.projects.write().unwrap_or_else(PoisonError::into_inner);
        projects.entry(project.clone()).or_insert_with(|| Arc::new(repository));
        Ok(())
    }

    /// The projects that were added.
    pub fn projects(&self) -> Vec<ProjectName> {
        self.0.projects.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Where a project's repository lies.
    pub fn path(&self, project: &ProjectName) -> Result<Utf8PathBuf, GitError> {
        Ok(self.repository(project)?.path.clone())
    }

    pub(crate) fn repository(&self, project: &ProjectName) -> Result<Arc<Repository>, GitError> {
        let projects = self.0.projects.read().unwrap_or_else(PoisonError::into_inner);
        projects.get(project).cloned().ok_or_else(|| GitError::NoSuchProject { project: project.clone() })
    }

    fn init(&self, project: &ProjectName, path: &Utf8Path) -> Result<(), GitError> {
        fs_err::create_dir_all(path)?;
        // A HEAD that leads nowhere: what merges do must not depend on attributes that some branch has.
        let arguments = [
            "init",
            "--quiet",
            "--bare",
            "--template=",
            "--object-format=sha1",
            "--initial-branch=assay/none",
            ".",
        ];
        let call = Call { dir: path, arguments: &arguments, env: &[], stdin: b"", deadline: LOCAL };
        let failed = |text| GitError::Git { project: project.clone(), doing: "make a repository", text };
        match self.0.git.run(&call) {
            Ok(done) if done.code == Some(0) => Ok(()),
            Ok(done) => Err(failed(tidy(&done.err, None))),
            Err(error) => Err(failed(format!("{error:?}"))),
        }
    }

    /// Fetches from a project's remote.
    pub fn fetch(
        &self,
        project: &ProjectName,
        refspecs: &[Refspec],
        deadline: Duration,
    ) -> Result<(), GitError> {
        self.repository(project)?.fetch(refspecs, deadline)
    }

    /// Sees to it that a change's revision is here; true if it had to be fetched.
    ///
    /// A revision that is here is not fetched again, and then the remote is not asked at all.
    pub fn ensure(
        &self,
        project: &ProjectName,
        reference: &RefName,
        revision: CommitId,
        deadline: Duration,
    ) -> Result<bool, GitError> {
        let repository = self.repository(project)?;
        if repository.has_commit(revision) {
            return Ok(false);
        }
        repository.fetch(&[Refspec::one(reference)], deadline)?;
        if repository.has_commit(revision) {
            return Ok(true);
        }
        Err(GitError::missing(project, "revision", revision))
    }

    /// The branches as they were fetched last, with their trees.
    pub fn branch_tips(&self, project: &ProjectName) -> Result<BTreeMap<BranchName, Tip>, GitError> {
        let repository = self.repository(project)?;
        let mut tips = BTreeMap::new();
        for (name, id) in repository.references("refs/heads/")? {
            // Names that cannot be gated are not branches for us.
            if let Some(branch) = name.strip_prefix("refs/heads/").and_then(|name| name.parse().ok()) {
                tips.insert(branch, repository.tip(CommitId(id))?);
            }
        }
        Ok(tips)
    }

    /// What the remote has now; `patterns` as `git ls-remote` takes them, none for all.
    pub fn ls_remote(
        &self,
        project: &ProjectName,
        patterns: &[&str],
        deadline: Duration,
    ) -> Result<BTreeMap<String, CommitId>, GitError> {
        self.repository(project)?.ls_remote(patterns, deadline)
    }

    /// The commit and tree of a commit that is here.
    pub fn tip_of(&self, project: &ProjectName, commit: CommitId) -> Result<Tip, GitError> {
        self.repository(project)?.tip(commit)
    }

    /// The tree of a commit that is here.
    pub fn tree_of(&self, project: &ProjectName, commit: CommitId) -> Result<TreeId, GitError> {
        Ok(self.tip_of(project, commit)?.tree)
    }

    /// Whether `commit` is `tip` or an ancestor of it. A commit that is not here is not contained.
    pub fn contains(&self, project: &ProjectName, tip: CommitId, commit: CommitId) -> Result<bool, GitError> {
        let repository = self.repository(project)?;
        if !repository.has_commit(commit) {
            return Ok(false);
        }
        repository.is_ancestor(&repository.handle(), commit.0, tip.0)
    }
}

/// `git version 2.39.5 (Apple)` → (2, 39).
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.strip_prefix("git version ")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Removes objects that a loss of power has left empty, so that they can be written again.
fn remove_torn(path: &Utf8Path) -> std::io::Result<()> {
    for shard in fs_err::read_dir(path.join("objects"))?.flatten() {
        if shard.file_name().len() != 2 {
            continue;
        }
        for object in fs_err::read_dir(shard.path())?.flatten() {
            if object.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == 0) {
                fs_err::remove_file(object.path())?;
            }
        }
    }
    Ok(())
}

/// Removes the locks of references that a killed process has left: nobody else writes here, and none would go away by
/// itself. Git's and gix's are files `NAME.lock` beside what they lock.
fn remove_locks(path: &Utf8Path) -> std::io::Result<()> {
    let is_lock = |entry: &fs_err::DirEntry| entry.file_name().to_string_lossy().ends_with(".lock");
    for entry in fs_err::read_dir(path)?.flatten().filter(is_lock) {
        fs_err::remove_file(entry.path())?;
    }
    let mut folders = vec![path.join("refs").into_std_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder)?.flatten() {
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if is_lock(&entry) {
                fs_err::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

impl Repository {
    pub(crate) fn remote(&self) -> Remote {
        self.remote.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Held while objects without references must not be removed.
    pub(crate) fn using(&self) -> RwLockReadGuard<'_, ()> {
        self.in_use.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn on_network(&self) -> MutexGuard<'_, ()> {
        lock(&self.network)
    }

    /// For reading and writing objects on this thread.
    pub(crate) fn handle(&self) -> gix::Repository {
        let mut handle = self.objects.to_thread_local();
        handle.object_cache_size_if_unset(4 << 20);
        handle
    }

    pub(crate) fn damaged(&self, text: impl ToString) -> GitError {
        GitError::Damaged {
            project: self.name.clone(),
            text: tidy(&text.to_string(), None),
            path: self.path.to_string(),
        }
    }

    pub(crate) fn failed(&self, doing: &'static str, text: impl ToString) -> GitError {
        let secret = self.remote();
        GitError::Git { project: self.name.clone(), doing, text: tidy(&text.to_string(), secret.secret()) }
    }

    /// Runs git here, without the network.
    pub(crate) fn git(
        &self,
        doing: &'static str,
        arguments: &[&str],
        stdin: &[u8],
    ) -> Result<Done, GitError> {
        let call = Call { dir: &self.path, arguments, env: &[], stdin, deadline: LOCAL };
        self.git.run(&call).map_err(|error| self.no_end(error, doing, LOCAL))
    }

    /// Runs git with the environment of the project's remote.
    pub(crate) fn git_remote(&self, arguments: &[&str], deadline: Duration) -> Result<Done, CallError> {
        let env = self.remote().env;
        self.git.run(&Call { dir: &self.path, arguments, env: &env, stdin: b"", deadline })
    }

    pub(crate) fn no_end(&self, error: CallError, doing: &'static str, after: Duration) -> GitError {
        match error {
            CallError::Start(source) => GitError::NoGit { source },
            CallError::Deadline => GitError::Timeout { project: self.name.clone(), doing, after },
            CallError::Io(source) => GitError::File(source),
        }
    }

    pub(crate) fn cannot_fetch(&self, done: &Done) -> GitError {
        let why = tidy(&done.err, self.remote().secret());
        GitError::CannotFetch { project: self.name.clone(), remedy: remedy(&why), why }
    }

    pub(crate) fn fetch(&self, refspecs: &[Refspec], deadline: Duration) -> Result<(), GitError> {
        let _network = self.on_network();
        let url = self.remote().url;
        let mut arguments = vec![
            "fetch",
            "--quiet",
            "--prune",
            "--no-tags",
            "--no-write-fetch-head",
            "--force",
            "--end-of-options",
            &url,
        ];
        arguments.extend(refspecs.iter().map(|spec| spec.0.as_str()));
        let done = self
            .git_remote(&arguments, deadline)
            .map_err(|error| self.no_end(error, "fetching", deadline))?;
        if done.code == Some(0) { Ok(()) } else { Err(self.cannot_fetch(&done)) }
    }

    pub(crate) fn ls_remote(
        &self,
        patterns: &[&str],
        deadline: Duration,
    ) -> Result<BTreeMap<String, CommitId>, GitError> {
        let url = self.remote().url;
        let mut arguments = vec!["ls-remote", "--quiet", "--end-of-options", &url];
        arguments.extend(patterns);
        let done = self
            .git_remote(&arguments, deadline)
            .map_err(|error| self.no_end(error, "looking at the references of", deadline))?;
        if done.code != Some(0) {
            return Err(self.cannot_fetch(&done));
        }
        let text = String::from_utf8_lossy(&done.out);
        let pair = |line: &str| {
            let (id, name) = line.split_once('\t')?;
            Some((name.to_owned(), id.parse().ok()?))
        };
        Ok(text.lines().filter_map(pair).collect())
    }

    /// References below a prefix that ends in a slash.
    pub(crate) fn references(&self, prefix: &str) -> Result<Vec<(String, ObjectId)>, GitError> {
        let handle = self.handle();
        let platform = handle.references().map_err(|error| self.damaged(error))?;
        let mut found = Vec::new();
        for reference in platform.prefixed(prefix).map_err(|error| self.damaged(error))? {
            let reference = reference.map_err(|error| self.damaged(error))?;
            if let Some(id) = reference.target().try_id() {
                found.push((reference.name().as_bstr().to_string(), id.to_owned()));
            }
        }
        Ok(found)
    }

    /// What a reference stands for.
    pub(crate) fn reference(&self, name: &str) -> Result<Option<ObjectId>, GitError> {
        let handle = self.handle();
        let found = handle.try_find_reference(name).map_err(|error| self.damaged(error))?;
        Ok(found.and_then(|reference| reference.target().try_id().map(ToOwned::to_owned)))
    }

    pub(crate) fn has_commit(&self, commit: CommitId) -> bool {
        self.handle()
            .try_find_object(commit.0)
            .is_ok_and(|found| found.is_some_and(|object| object.kind == Kind::Commit))
    }

    /// An object's bytes.
    pub(crate) fn bytes(
        &self,
        handle: &gix::Repository,
        id: ObjectId,
        kind: Kind,
        what: &'static str,
    ) -> Result<Vec<u8>, GitError> {
        let found =
            handle.try_find_object(id).map_err(|error| self.damaged(format!("{what} {id}: {error}")))?;
        let object = found.ok_or_else(|| GitError::missing(&self.name, what, CommitId(id)))?;
        if object.kind != kind {
            return Err(self.damaged(format!("{id} is no {what} but a {}", object.kind)));
        }
        Ok(object.detach().data)
    }

    pub(crate) fn commit(&self, handle: &gix::Repository, id: ObjectId) -> Result<RawCommit, GitError> {
        let bytes = self.bytes(handle, id, Kind::Commit, "commit")?;
        RawCommit::parse(&bytes).map_err(|why| self.damaged(format!("commit {id} has {why}")))
    }

    pub(crate) fn entries(&self, handle: &gix::Repository, id: ObjectId) -> Result<Vec<Entry>, GitError> {
        let bytes = self.bytes(handle, id, Kind::Tree, "tree")?;
        parse_tree(&bytes).map_err(|why| self.damaged(format!("tree {id} has {why}")))
    }

    pub(crate) fn tip(&self, commit: CommitId) -> Result<Tip, GitError> {
        let raw = self.commit(&self.handle(), commit.0)?;
        Ok(Tip { commit, tree: TreeId(raw.tree) })
    }

    pub(crate) fn write(
        &self,
        handle: &gix::Repository,
        kind: Kind,
        bytes: &[u8],
    ) -> Result<ObjectId, GitError> {
        handle.write_buf(kind, bytes).map_err(|error| self.failed("write an object", error))
    }

    /// The best common ancestors.
    pub(crate) fn bases(
        &self,
        handle: &gix::Repository,
        one: ObjectId,
        two: ObjectId,
    ) -> Result<Vec<ObjectId>, GitError> {
        let bases = handle.merge_bases_many(one, &[two]).map_err(|error| self.damaged(error))?;
        Ok(bases.into_iter().map(gix::Id::detach).collect())
    }

    pub(crate) fn is_ancestor(
        &self,
        handle: &gix::Repository,
        old: ObjectId,
        new: ObjectId,
    ) -> Result<bool, GitError> {
        Ok(old == new || self.bases(handle, old, new)?.contains(&old))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_git() {
        assert_eq!(version("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(version("git version 2.47.3"), Some((2, 47)));
        assert_eq!(version("git version three"), None);
    }

    #[test]
    fn the_password_of_a_url() {
        let secret = |url: &str| Remote::new(url).secret().map(ToOwned::to_owned);
        assert_eq!(secret("https://user:pw@host/x:y@z"), Some("pw".into()));
        assert_eq!(secret("ssh://user@host:29418/x"), None);
        assert_eq!(secret("/some/dir"), None);
    }

    #[test]
    fn refspecs() {
        assert_eq!(Refspec::parse("refs/a/*:refs/b/*").map(|spec| spec.0), Ok("+refs/a/*:refs/b/*".into()));
        for bad in [
            "--upload-pack=x",
            "refs/a b:refs/a",
            "refs/a:",
            "x:y",
            "refs/*/*:refs/x",
            "refs/a:refs/b:refs/c",
        ] {
            assert!(Refspec::parse(bad).is_err(), "{bad}");
        }
    }
}
