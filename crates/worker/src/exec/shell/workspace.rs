//! The workspace: repositories as gerrit-git-prep and zuul-cloner make them, from the host's cache.

use super::cache::{Cache, Mirror, repository};
use super::git::{Git, GitError};
use super::recorder::Recorder;
use super::sandbox::{JobDirs, OWN};
use crate::exec::{Attempt, infrastructure, usage};
use assay_proto::task::{Checkout, CloneRule, Tree, Workspace};
use assay_proto::worker::Report;
use assay_records::step::StepResult;
use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use fs_err as fs;
use regex::Regex;
use std::collections::BTreeMap;
use std::time::Duration;

/// A workspace that is ready.
pub(super) struct Prepared {
    /// Objects of repositories, and the name under which the job sees them.
    pub(super) objects: Vec<(Utf8PathBuf, String)>,
    /// Held until nothing of the job is alive.
    pub(super) leases: Vec<std::fs::File>,
}

/// Why there is no workspace.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WorkspaceError {
    /// The task asks for something impossible.
    #[error("{0}")]
    Task(String),
    /// A repository or the host failed.
    #[error("{0}")]
    Host(String),
}

impl WorkspaceError {
    pub(super) fn report(&self) -> Report {
        match self {
            Self::Task(why) => usage(why.clone()),
            Self::Host(why) => infrastructure(why.clone()),
        }
    }
}

/// Where a tree's commit comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// A speculative ref, for this branch.
    Zuul { refname: String, branch: String },
    /// A tag.
    Tag(String),
    /// A commit that was merged or tagged.
    Commit(String),
    /// The tip of a branch.
    Tip(String),
}

/// Makes the workspace.
pub(super) async fn prepare(
    attempt: &Attempt,
    wanted: &Workspace,
    dirs: &JobDirs,
    recorder: &mut Recorder<'_>,
) -> Result<Prepared, WorkspaceError> {
    let budget = Duration::from_secs(wanted.budget_s);
    let late = || WorkspaceError::Host(format!("the workspace was not ready within {} s", wanted.budget_s));
    tokio::time::timeout(budget, prepare_all(attempt, wanted, dirs, recorder))
        .await
        .unwrap_or_else(|_| Err(late()))
}

async fn prepare_all(
    attempt: &Attempt,
    wanted: &Workspace,
    dirs: &JobDirs,
    recorder: &mut Recorder<'_>,
) -> Result<Prepared, WorkspaceError> {
    let places = places(wanted)?;
    let on_host = |url: &str| url.starts_with('/') || url.starts_with("file:");
    let local = on_host(&wanted.origin) || wanted.zuul_url.as_deref().is_some_and(on_host);
    let mirrors = attempt.host.cache.join("git");
    let cache = Cache::open(mirrors.clone(), local)
        .map_err(|error| WorkspaceError::Host(format!("the git cache cannot be used: {error}")))?;
    let mut hidden = attempt.host.hide.clone();
    hidden.push(mirrors);
    let git = Git { writable: vec![dirs.workspace.clone()], hidden, local, ..Git::default() };
    let mut maker = Maker { wanted, dirs, cache, git, mirrors: BTreeMap::new() };
    for (checkout, dest) in places {
        let began_us = recorder.now_us();
        let made = maker.tree(checkout, &dest).await;
        let (result, title) = match &made {
            Ok(said) => (StepResult::Ok, format!("{} in {dest}: {said}", checkout.name)),
            Err(error) => (StepResult::Fail, error.to_string()),
        };
        recorder.say(&title);
        recorder.step("checkout", began_us, result, &title, "");
        made?;
    }
    let (mut objects, mut leases) = (Vec::new(), Vec::new());
    for mirror in maker.mirrors.into_values() {
        fs::create_dir_all(dirs.own.join("git").join(&mirror.key))
            .map_err(|error| WorkspaceError::Host(error.to_string()))?;
        objects.push((mirror.path.join("objects"), mirror.key));
        leases.push(mirror.lease);
    }
    Ok(Prepared { objects, leases })
}

struct Maker<'a> {
    wanted: &'a Workspace,
    dirs: &'a JobDirs,
    cache: Cache,
    git: Git,
    mirrors: BTreeMap<String, Mirror>,
}

impl Maker<'_> {
    /// Makes one tree and says what it stands at. A mirror that turns out to be broken is made anew, once.
    async fn tree(&mut self, checkout: &Checkout, dest: &Utf8Path) -> Result<String, WorkspaceError> {
        let project = &checkout.name;
        if !self.mirrors.contains_key(project) {
            let mirror =
                self.cache.mirror(&self.wanted.origin, project).await.map_err(WorkspaceError::Host)?;
            self.mirrors.insert(project.clone(), mirror);
        }
        match self.try_tree(checkout, dest).await {
            Err(Failure::Local(error)) => {
                tracing::warn!(%error, project, "a tree cannot be made; fetching the project anew");
                let mirror =
                    self.cache.repaired(&self.wanted.origin, project).await.map_err(WorkspaceError::Host)?;
                self.mirrors.insert(project.clone(), mirror);
                self.clear(dest)?;
                self.try_tree(checkout, dest).await.map_err(|failure| failure.of(project))
            }
            other => other.map_err(|failure| failure.of(project)),
        }
    }

    fn clear(&self, dest: &Utf8Path) -> Result<(), WorkspaceError> {
        let tree = self.dirs.workspace.join(dest);
        crate::attempt::remove_tree(&tree);
        fs::create_dir_all(&tree).map_err(|error| WorkspaceError::Host(error.to_string()))
    }

    async fn try_tree(&self, checkout: &Checkout, dest: &Utf8Path) -> Result<String, Failure> {
        let project = &checkout.name;
        let Some(mirror) = self.mirrors.get(project) else {
            return Err(Failure::Said(format!("{project} has no mirror")));
        };
        let tree = inside(&self.dirs.workspace, dest)?;
        let git = Git { readable: vec![mirror.path.clone()], ..self.git.clone() };
        git.run(&tree, &["init", "--quiet", "--template=", "."]).await?;
        let alternates = tree.join(".git/objects/info/alternates");
        let link = |objects: &str| {
            fs::write(&alternates, format!("{objects}\n")).map_err(|error| Failure::Said(error.to_string()))
        };
        link(mirror.path.join("objects").as_str())?;
        let refs = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
        // The mirror is named by its path, which is no protocol that a submodule could use.
        let copy = Git { local: true, ..git.clone() };
        copy.run(
            &tree,
            &["fetch", "--quiet", "--no-write-fetch-head", mirror.path.as_str(), refs[0], refs[1]],
        )
        .await?;
        git.run(&tree, &["remote", "add", "origin", &mirror.url]).await?;
        if let Some(zuul) = &self.wanted.zuul_url {
            git.run(&tree, &["remote", "add", "zuul", &repository(zuul, project)]).await?;
            git.run(&tree, &["config", "remote.zuul.fetch", "+refs/zuul/*:refs/remotes/zuul/*"]).await?;
        }
        let source = self.source(&git, checkout, mirror).await?;
        let commit = self.commit(&git, &tree, &source, mirror, project).await?;
        git.run(&tree, &["checkout", "--quiet", "--force", "--detach", &commit]).await?;
        if tree.join(".gitmodules").is_file() {
            let update = ["submodule", "--quiet", "update", "--init", "--recursive"];
            git.run(&tree, &update)
                .await
                .map_err(|error| Failure::Said(format!("its submodules: {error}")))?;
        }
        link(&format!("{OWN}/git/{}", mirror.key))?;
        Ok(format!("{} ({})", commit, source.words()))
    }

    /// Which of the candidates there is.
    async fn source(&self, git: &Git, checkout: &Checkout, mirror: &Mirror) -> Result<Source, Failure> {
        let candidates =
            candidates(self.wanted, checkout, &mirror.default, |branch| mirror.heads.contains_key(branch));
        let refs: Vec<&str> = candidates
            .iter()
            .filter_map(|one| match one {
                Source::Zuul { refname, .. } => Some(refname.as_str()),
                _ => None,
            })
            .collect();
        let found = match &self.wanted.zuul_url {
            Some(zuul) if !refs.is_empty() => self.zuul_refs(git, zuul, &checkout.name, &refs).await?,
            _ => String::new(),
        };
        let there = |source: &Source| match source {
            Source::Zuul { refname, .. } => found.lines().any(|line| line.ends_with(&format!("\t{refname}"))),
            Source::Tip(branch) => mirror.heads.contains_key(branch),
            Source::Tag(_) | Source::Commit(_) => true,
        };
        let source = candidates.iter().find(|source| there(source)).cloned().ok_or_else(|| {
            let names: Vec<String> = candidates.iter().map(Source::words).collect();
            Failure::Said(format!("it has none of: {}", names.join(", ")))
        })?;
        // The change's own project without its change would be a test of something else.
        let own_ref = self.wanted.zuul_ref.as_deref();
        let first = candidates.first();
        let is_own = self.wanted.project.as_ref() == Some(&checkout.name);
        if is_own
            && first != Some(&source)
            && matches!(first, Some(Source::Zuul { refname, .. }) if Some(refname.as_str()) == own_ref)
        {
            let zuul = self.wanted.zuul_url.as_deref().unwrap_or("(no zuul_url)");
            return Err(Failure::Said(format!("{} is not at {zuul}", own_ref.unwrap_or_default())));
        }
        Ok(source)
    }

    async fn zuul_refs(
        &self,
        git: &Git,
        zuul: &str,
        project: &str,
        refs: &[&str],
    ) -> Result<String, Failure> {
        let url = repository(zuul, project);
        let args = [&["ls-remote", url.as_str()], refs].concat();
        match git.run(&self.dirs.workspace, &args).await {
            // A project without a change in the queue need not be there.
            Err(error) if error.is_no_repository() => Ok(String::new()),
            other => other.map_err(|error| Failure::Said(format!("its refs at {url}: {}", error.complaint))),
        }
    }

    /// The commit, with everything that belongs to it in the tree's repository.
    async fn commit(
        &self,
        git: &Git,
        tree: &Utf8Path,
        source: &Source,
        mirror: &Mirror,
        project: &str,
    ) -> Result<String, Failure> {
        let from_zuul = self.wanted.zuul_url.as_deref().map(|zuul| repository(zuul, project));
        let remote = |error: GitError| Failure::Said(format!("{}: {}", source.words(), error.complaint));
        let parse = async |name: &str| {
            let commit =
                git.run(tree, &["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")]).await;
            commit.map(|text| text.trim().to_owned())
        };
        match source {
            Source::Zuul { refname, branch } => {
                let url = from_zuul.unwrap_or_default();
                let to = format!("refs/remotes/zuul/{branch}");
                git.run(tree, &["fetch", "--quiet", "--no-tags", &url, &format!("+{refname}:{to}")])
                    .await
                    .map_err(remote)?;
                let commit = parse(&to).await?;
                let own = self.wanted.project.as_deref() == Some(project)
                    && self.wanted.zuul_ref.as_ref() == Some(refname);
                match &self.wanted.commit {
                    Some(wanted) if own && *wanted != commit => {
                        Err(Failure::Said(format!("{refname} is {commit}, and the job is about {wanted}")))
                    }
                    _ => Ok(commit),
                }
            }
            Source::Tag(tag) => {
                let url = from_zuul.unwrap_or_else(|| mirror.url.clone());
                let spec = format!("+{tag}:{tag}");
                match git.run(tree, &["fetch", "--quiet", "--no-tags", &url, &spec]).await {
                    // Known already: the mirror has all tags of the origin.
                    Err(error) if parse(tag).await.is_err() => Err(remote(error)),
                    _ => Ok(parse(tag).await?),
                }
            }
            Source::Commit(commit) => {
                if parse(commit).await.is_err() {
                    let url = from_zuul.as_deref().unwrap_or(&mirror.url);
                    git.run(tree, &["fetch", "--quiet", "--no-tags", url, commit]).await.map_err(remote)?;
                }
                Ok(parse(commit).await?)
            }
            Source::Tip(branch) => Ok(parse(&format!("refs/remotes/origin/{branch}")).await?),
        }
    }
}

/// Why a tree could not be made.
enum Failure {
    /// Something that a new mirror may mend.
    Local(GitError),
    /// Something that it does not.
    Said(String),
}

impl From<GitError> for Failure {
    fn from(error: GitError) -> Self {
        Self::Local(error)
    }
}

impl Failure {
    fn of(self, project: &str) -> WorkspaceError {
        WorkspaceError::Host(match self {
            Self::Local(error) => format!("{project} cannot be checked out: {error}"),
            Self::Said(why) => format!("{project} cannot be checked out: {why}"),
        })
    }
}

impl Source {
    fn words(&self) -> String {
        match self {
            Self::Zuul { refname, .. } => refname.clone(),
            Self::Tag(tag) => tag.clone(),
            Self::Commit(commit) => format!("commit {commit}"),
            Self::Tip(branch) => format!("tip of {branch}"),
        }
    }
}

/// Where a tree's commit may come from, the best first. zuul.md §6.1, and what the real tools do where a branch exists:
/// its tip is better than another branch's speculative ref.
fn candidates(
    wanted: &Workspace,
    checkout: &Checkout,
    default: &str,
    has: impl Fn(&str) -> bool,
) -> Vec<Source> {
    let own = wanted.project.as_deref() == Some(checkout.name.as_str());
    let branch = checkout.branch.as_deref().or(wanted.branch.as_deref()).unwrap_or(default);
    let tip = Source::Tip(if has(branch) { branch } else { default }.to_owned());
    if checkout.tree == Tree::Old {
        return vec![tip];
    }
    if own && checkout.branch.is_none() {
        if let Some(tag) = wanted.zuul_ref.as_ref().filter(|name| name.starts_with("refs/tags/")) {
            return vec![Source::Tag(tag.clone())];
        }
        if let Some(commit) = &wanted.newrev {
            return vec![Source::Commit(commit.clone())];
        }
    }
    let mut found = Vec::new();
    let mut add = |branch: &str| {
        let identity = wanted.zuul_ref.as_deref().and_then(identity);
        let source = identity.map(|id| Source::Zuul {
            refname: format!("refs/zuul/{branch}/{id}"),
            branch: branch.to_owned(),
        });
        found.extend(source.filter(|source| !found.contains(source)));
    };
    add(branch);
    if !has(branch) {
        if let Some(change) = wanted.branch.as_deref().filter(|change| has(change)) {
            add(change);
        }
        add(default);
    }
    found.push(tip);
    found
}

/// `Z…` of `refs/zuul/BRANCH/Z…`.
fn identity(zuul_ref: &str) -> Option<&str> {
    let (_, identity) = zuul_ref.strip_prefix("refs/zuul/")?.rsplit_once('/')?;
    Some(identity).filter(|identity| !identity.is_empty())
}

/// Every tree with its place, outer ones first.
fn places(wanted: &Workspace) -> Result<Vec<(&Checkout, Utf8PathBuf)>, WorkspaceError> {
    let wrong = |why: String| Err(WorkspaceError::Task(why));
    let rules = rules(&wanted.clonemap)?;
    let mut places: Vec<(&Checkout, Utf8PathBuf)> = Vec::new();
    for checkout in &wanted.projects {
        let dest = match &checkout.dest {
            Some(dest) => dest.clone(),
            None => mapped(&rules, &checkout.name),
        };
        let mut place = Utf8PathBuf::new();
        for part in Utf8Path::new(&dest).components() {
            match part {
                Utf8Component::Normal(name) if name != ".git" => place.push(name),
                Utf8Component::CurDir => {}
                _ => {
                    return wrong(format!(
                        "{} goes to {dest:?}, which is no place in the workspace",
                        checkout.name
                    ));
                }
            }
        }
        if let Some((other, _)) = places.iter().find(|(_, other)| *other == place) {
            return wrong(format!("{} and {} both go to {dest:?}", other.name, checkout.name));
        }
        places.push((checkout, place));
    }
    places.sort_by_key(|(_, place)| place.components().count());
    Ok(places)
}

fn rules(clonemap: &[CloneRule]) -> Result<Vec<(Regex, &str)>, WorkspaceError> {
    let rule = |rule: &CloneRule| {
        let why = |error| format!("the clonemap's {:?} is no regular expression: {error}", rule.name);
        Regex::new(&format!("^(?:{})$", rule.name)).map_err(|error| WorkspaceError::Task(why(error)))
    };
    clonemap.iter().map(|one| Ok((rule(one)?, one.dest.as_str()))).collect()
}

fn mapped(rules: &[(Regex, &str)], project: &str) -> String {
    let Some((found, dest)) = rules.iter().find_map(|(name, dest)| Some((name.captures(project)?, *dest)))
    else {
        return project.to_owned();
    };
    let mut text = String::new();
    let mut characters = dest.chars().peekable();
    while let Some(one) = characters.next() {
        match characters.peek().and_then(|next| next.to_digit(10)) {
            Some(group) if one == '\\' => {
                characters.next();
                text.push_str(found.get(group as usize).map_or("", |group| group.as_str()));
            }
            _ => text.push(one),
        }
    }
    text
}

/// Makes the folder of a tree. Trees that are there already may hold links to anywhere.
fn inside(workspace: &Utf8Path, dest: &Utf8Path) -> Result<Utf8PathBuf, Failure> {
    let cannot = |error: std::io::Error| Failure::Said(format!("its folder {dest} cannot be made: {error}"));
    let top = workspace.canonicalize_utf8().map_err(cannot)?;
    let mut at = top;
    for part in dest.components() {
        at.push(part);
        match fs::symlink_metadata(&at) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => {
                return Err(Failure::Said(format!(
                    "its folder {dest} would stand in a link or a file of another tree"
                )));
            }
            Err(_) => fs::create_dir(&at).map_err(cannot)?,
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(wanted: &Workspace, checkout: &Checkout, branches: &[&str]) -> String {
        let sources = candidates(wanted, checkout, "master", |branch| branches.contains(&branch));
        sources.iter().map(Source::words).collect::<Vec<_>>().join(" > ")
    }

    #[test]
    fn where_a_tree_comes_from() {
        let change = Workspace {
            zuul_ref: Some("refs/zuul/stable/x/Z1".into()),
            branch: Some("stable/x".into()),
            project: Some("own".into()),
            ..Workspace::default()
        };
        let post = Workspace {
            zuul_ref: Some("refs/heads/master".into()),
            newrev: Some("abc".into()),
            ..change.clone()
        };
        let tag = Workspace {
            zuul_ref: Some("refs/tags/1.0".into()),
            newrev: Some("abc".into()),
            branch: None,
            ..change.clone()
        };
        let timer = Workspace::default();
        let of = |name: &str, branch: &str, tree: Tree| Checkout {
            name: name.into(),
            branch: Some(branch).filter(|branch| !branch.is_empty()).map(str::to_owned),
            tree,
            ..Checkout::default()
        };
        let all = ["master", "stable/x", "stable/y"];
        let table: &[(&Workspace, Checkout, &[&str], &str)] = &[
            (&change, of("own", "", Tree::New), &all, "refs/zuul/stable/x/Z1 > tip of stable/x"),
            (
                &change,
                of("lib", "", Tree::New),
                &["master"],
                "refs/zuul/stable/x/Z1 > refs/zuul/master/Z1 > tip of master",
            ),
            (&change, of("lib", "stable/y", Tree::New), &all, "refs/zuul/stable/y/Z1 > tip of stable/y"),
            (
                &change,
                of("lib", "stable/z", Tree::New),
                &all,
                "refs/zuul/stable/z/Z1 > refs/zuul/stable/x/Z1 > refs/zuul/master/Z1 > tip of master",
            ),
            (&change, of("own", "stable/y", Tree::Old), &all, "tip of stable/y"),
            (&change, of("own", "", Tree::Old), &all, "tip of stable/x"),
            (&change, of("own", "stable/gone", Tree::Old), &all, "tip of master"),
            (&post, of("own", "", Tree::New), &all, "commit abc"),
            (&post, of("lib", "", Tree::New), &all, "tip of stable/x"),
            (&post, of("own", "stable/y", Tree::New), &all, "tip of stable/y"),
            (&tag, of("own", "", Tree::New), &all, "refs/tags/1.0"),
            (&tag, of("lib", "", Tree::New), &all, "tip of master"),
            (&timer, of("lib", "", Tree::New), &all, "tip of master"),
            (&timer, of("lib", "stable/x", Tree::New), &all, "tip of stable/x"),
        ];
        for (wanted, checkout, branches, sources) in table {
            assert_eq!(words(wanted, checkout, branches), *sources, "{checkout:?}");
        }
    }

    #[test]
    fn where_a_tree_goes() {
        let rule = |name: &str, dest: &str| CloneRule { name: name.into(), dest: dest.into() };
        let project = |name: &str, dest: Option<&str>| Checkout {
            name: name.into(),
            dest: dest.map(str::to_owned),
            ..Checkout::default()
        };
        let wanted = |projects: Vec<Checkout>| Workspace {
            projects,
            clonemap: vec![rule("openstack/(.*)-(.*)", r"lib/\2/\1"), rule("openstack/o.*", "never")],
            ..Workspace::default()
        };
        let good = wanted(vec![
            project("a/b", None),
            project("openstack/oslo-config", None),
            project("openstack/nova", Some("./new//nova/")),
            project("own", Some(".")),
        ]);
        let placed: Vec<_> =
            places(&good).unwrap().into_iter().map(|(one, place)| format!("{}={place}", one.name)).collect();
        assert_eq!(
            placed,
            ["own=", "a/b=a/b", "openstack/nova=new/nova", "openstack/oslo-config=lib/config/oslo"]
        );
        let why = |projects| places(&wanted(projects)).unwrap_err().to_string();
        assert_eq!(
            why(vec![project("lib/b/a", None), project("openstack/a-b", None)]),
            "lib/b/a and openstack/a-b both go to \"lib/b/a\""
        );
        for dest in ["../x", "/etc", "a/../../b", ".git/hooks"] {
            assert!(why(vec![project("p", Some(dest))]).contains("is no place in the workspace"), "{dest}");
        }
        let bad = Workspace { clonemap: vec![rule("(z", "bad")], ..Workspace::default() };
        assert!(places(&bad).unwrap_err().to_string().contains("is no regular expression"));
    }
}
