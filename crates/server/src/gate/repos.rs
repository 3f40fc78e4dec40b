//! The repositories: the merger's machine and the lander's ground.

use super::merger::{Branches, Machine, Wish};
use super::ports::{Ground, Move, Pushed, Trouble};
use super::settings::Connection;
use super::warm;
use assay_engine::gate::config::{Config, MergeMode};
use assay_engine::gate::ids::{BranchName, MergeId, Oid, ProjectName, SourceName, Uuid};
use assay_engine::gate::io::{Landing, MergeFailure, MergeRequest, Merged, Moved, Tip, ToMerge};
use assay_engine::gate::snapshot::Snapshot;
use assay_engine::ids::Timestamp;
use assay_git::{GerritType, GitError, Message, Mode, PushRefusal, Refspec, Remote, Repos, Signature};
use assay_proto::clock::Clock;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;

/// The longest that a conversation with a remote may take.
const DEADLINE: Duration = Duration::from_mins(2);
/// So far back on a branch a landing is looked for.
const BACK: usize = 1000;

/// The repositories of all projects, made known when they are needed.
#[derive(Clone)]
pub(crate) struct Repositories {
    pub(crate) repos: Repos,
    connections: Arc<RwLock<BTreeMap<SourceName, Connection>>>,
    state: Utf8PathBuf,
    /// Where projects come from: by the configuration, or by a change of theirs.
    sources: Arc<Mutex<HashMap<ProjectName, SourceName>>>,
    fresh: Arc<Mutex<Fresh>>,
    /// Projects whose source does not merge contents: two changes of one file conflict there.
    whole_files: Arc<Mutex<BTreeSet<ProjectName>>>,
}

/// When the branches of projects were fetched, as long as nothing has moved that we know of.
#[derive(Default)]
struct Fresh {
    fetched: HashMap<ProjectName, Timestamp>,
    /// Counts what has moved.
    moves: u64,
}

/// Branches fetched so long ago are good enough for what began then: for a change, its event and its merge.
const LATELY: Duration = Duration::from_secs(1);

impl Repositories {
    /// Opens the directory `git` of the data directory.
    pub(crate) fn open(
        data: &Utf8Path,
        connections: BTreeMap<SourceName, Connection>,
    ) -> Result<Self, GitError> {
        let repos = Repos::open(&data.join("git"))?;
        let (state, connections) = (data.join("gate"), Arc::new(RwLock::new(connections)));
        let (sources, fresh, whole_files) = (Arc::default(), Arc::default(), Arc::default());
        Ok(Self { repos, connections, state, sources, fresh, whole_files })
    }

    /// Notes where the projects of a configuration come from.
    pub(crate) fn learn(&self, config: &Config) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        for project in config.projects.values() {
            let pipelines =
                config.pipelines.iter().filter(|pipeline| project.pipelines.contains_key(&pipeline.name));
            if let Some(pipeline) = pipelines.into_iter().next() {
                sources.insert(project.name.clone(), pipeline.source.clone());
            }
        }
    }

    /// Notes whether the source of a project merges the contents of files, as it said.
    pub(crate) fn merges_content(&self, project: &ProjectName, content: Option<bool>) {
        let mut whole_files = self.whole_files.lock().unwrap_or_else(PoisonError::into_inner);
        if content == Some(false) {
            whole_files.insert(project.clone());
        } else {
            whole_files.remove(project);
        }
    }

    /// How a change of a project is merged.
    fn mode(&self, project: &ProjectName, mode: MergeMode) -> Mode {
        let whole_files = self.whole_files.lock().unwrap_or_else(PoisonError::into_inner);
        let content_merge = !whole_files.contains(project);
        let gerrit = |submit| Mode::Gerrit { submit, content_merge };
        match mode {
            MergeMode::Merge => Mode::Merge,
            MergeMode::MergeResolve => Mode::Resolve,
            MergeMode::CherryPick => Mode::CherryPick,
            MergeMode::FastForwardOnly => gerrit(GerritType::FastForwardOnly),
            MergeMode::MergeIfNecessary => gerrit(GerritType::MergeIfNecessary),
            MergeMode::MergeAlways => gerrit(GerritType::MergeAlways),
            MergeMode::RebaseIfNecessary => gerrit(GerritType::RebaseIfNecessary),
            MergeMode::RebaseAlways => gerrit(GerritType::RebaseAlways),
        }
    }

    /// True if something configured is about this project.
    pub(crate) fn knows(&self, project: &ProjectName) -> bool {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).contains_key(project)
    }

    fn fresh(&self) -> MutexGuard<'_, Fresh> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Some branch has moved: those that were fetched before are not as they are now.
    pub(crate) fn have_moved(&self) {
        let mut fresh = self.fresh();
        fresh.moves += 1;
        fresh.fetched.clear();
    }

    fn note_source(&self, project: &ProjectName, source: &SourceName) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if !sources.contains_key(project) {
            sources.insert(project.clone(), source.clone());
        }
    }

    /// Where what belongs to connections is kept.
    pub(crate) fn state(&self) -> &Utf8Path {
        &self.state
    }

    fn connection(&self, source: &SourceName) -> Option<Connection> {
        self.connections.read().unwrap_or_else(PoisonError::into_inner).get(source).cloned()
    }

    /// Where people push changes for a project's repository: at the host that reviews them.
    pub(crate) fn address(&self, project: &ProjectName) -> Option<String> {
        let source = self.sources.lock().unwrap_or_else(PoisonError::into_inner).get(project).cloned()?;
        let Connection { host, port, .. } = self.connection(&source)?;
        Some(format!("ssh://{host}:{port}/{project}"))
    }

    /// Puts other connections in force, for the repositories that are known, too.
    pub(crate) fn connect(&self, connections: BTreeMap<SourceName, Connection>) {
        *self.connections.write().unwrap_or_else(PoisonError::into_inner) = connections;
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (project, source) in &sources {
            let Ok(name) = project.as_str().parse() else { continue };
            if let (Ok(_), Some(connection)) = (self.repos.path(&name), self.connection(source)) {
                let remote = remote(source, &connection, &self.state, project);
                if let Err(error) = self.repos.add(&name, remote) {
                    tracing::error!(%project, %error, "the repository keeps its old remote");
                }
            }
        }
        self.have_moved();
    }

    /// Makes a project's repository known, if it is not yet.
    pub(crate) fn project(&self, project: &ProjectName) -> Result<assay_git::ProjectName, Trouble> {
        let name: assay_git::ProjectName = project.as_str().parse().map_err(trouble)?;
        if self.repos.path(&name).is_ok() {
            return Ok(name);
        }
        let source = self.sources.lock().unwrap_or_else(PoisonError::into_inner).get(project).cloned();
        let source = source.ok_or_else(|| Trouble(format!("nothing is configured for project {project}")))?;
        let connection = self.connection(&source).ok_or_else(|| {
            Trouble(format!("there is no connection {source} for project {project}; add it to assay.toml"))
        })?;
        self.repos.add(&name, remote(&source, &connection, &self.state, project)).map_err(trouble)?;
        Ok(name)
    }
}

/// Where a project's repository is: as configured, else by SSH as Gerrit serves it.
fn remote(source: &SourceName, connection: &Connection, state: &Utf8Path, project: &ProjectName) -> Remote {
    let url = match &connection.git {
        Some(pattern) => pattern.replace("{project}", project.as_str()),
        None => format!("ssh://{}@{}:{}/{project}", connection.user, connection.host, connection.port),
    };
    let mut words = warm::ssh(connection, state);
    if let Some(socket) = warm::socket(connection, state, source.as_str()) {
        words.extend(["-o".to_owned(), format!("ControlPath={socket}")]);
    }
    let quoted = |word: &String| format!("'{}'", word.replace('\'', "'\\''"));
    let ssh = words.iter().map(quoted).collect::<Vec<_>>().join(" ");
    Remote { url, env: vec![("GIT_SSH_COMMAND".to_owned(), ssh)] }
}

fn trouble(error: impl std::fmt::Display) -> Trouble {
    Trouble(error.to_string())
}

fn tip(tip: assay_git::Tip) -> Tip {
    Tip { commit: tip.commit.to_string().into(), tree: tip.tree.to_string().into() }
}

fn own_tip(tip: &Tip) -> Option<assay_git::Tip> {
    Some(assay_git::Tip { commit: tip.commit.as_str().parse().ok()?, tree: tip.tree.as_str().parse().ok()? })
}

/// What the merger merges with.
pub(crate) struct RepoMachine {
    repositories: Repositories,
    clock: Arc<dyn Clock>,
    /// Items that the merger need not know of have names too.
    snapshot: watch::Receiver<Arc<Snapshot>>,
}

impl RepoMachine {
    pub(crate) fn new(
        repositories: Repositories,
        clock: Arc<dyn Clock>,
        snapshot: watch::Receiver<Arc<Snapshot>>,
    ) -> Self {
        Self { repositories, clock, snapshot }
    }

    /// What has to be fetched for these wishes, and whether the branches are part of it.
    fn missing(
        &self,
        project: &ProjectName,
        name: &assay_git::ProjectName,
        wishes: &[Wish],
    ) -> (BTreeMap<Oid, Refspec>, bool) {
        let repos = &self.repositories.repos;
        let mut missing = BTreeMap::new();
        for (revision, fetch_ref) in wishes.iter().flat_map(|wish| &wish.changes) {
            let here = revision.as_str().parse().is_ok_and(|commit| repos.tip_of(name, commit).is_ok());
            if let (false, Ok(refspec)) = (here, Refspec::parse(fetch_ref)) {
                missing.insert(revision.clone(), refspec);
            }
        }
        let fetched = self.repositories.fresh().fetched.get(project).copied();
        let age = fetched.map(|at| self.clock.now().micros_since(at));
        let is_fresh = age.is_some_and(|age| (0..LATELY.as_micros() as i64).contains(&age));
        // A state that knows nothing of the project needs its branches, too, once.
        let unknown = || repos.branch_tips(name).map_or(true, |tips| tips.is_empty());
        let branches = wishes.iter().any(|wish| match wish.branches {
            Branches::Now => true,
            Branches::Lately => !is_fresh,
            Branches::Once => fetched.is_none() && unknown(),
        });
        (missing, branches)
    }

    fn infrastructure(project: &ProjectName, why: impl std::fmt::Display) -> MergeFailure {
        MergeFailure::Infrastructure { project: project.clone(), why: why.to_string() }
    }

    fn one(
        &self,
        below: &assay_git::State,
        change: &ToMerge,
    ) -> Result<(assay_git::State, Moved), MergeFailure> {
        let broken = |why: &dyn std::fmt::Display| Self::infrastructure(&change.project, why);
        let project = self.repositories.project(&change.project).map_err(|why| broken(&why))?;
        let not_allowed = |why: &dyn std::fmt::Display| MergeFailure::NotAllowed {
            change: change.patchset.clone(),
            why: why.to_string(),
        };
        let branch: assay_git::BranchName =
            change.branch.as_str().parse().map_err(|why| not_allowed(&why))?;
        let revision = change.revision.as_str().parse().map_err(|why| not_allowed(&why))?;
        let _: assay_git::RefName = change.fetch_ref.parse().map_err(|why| not_allowed(&why))?;
        let repos = &self.repositories.repos;
        repos.tip_of(&project, revision).map_err(|why| broken(&why))?;
        let mut below = below.clone();
        if below.tip(&project, &branch).is_none() {
            let tips = repos.branch_tips(&project).map_err(|why| broken(&why))?;
            if let Some(tip) = tips.get(&branch) {
                below = below.with_base(project.clone(), branch.clone(), *tip);
            }
        }
        let base = below.tip(&project, &branch);
        let merge = assay_git::ToMerge {
            project,
            branch: branch.clone(),
            number: change.patchset.change.number,
            patchset: change.patchset.patchset,
            revision,
            mode: self.repositories.mode(&change.project, change.mode),
            message: Message {
                merge: format!("Merge change {} into {branch}\n", change.patchset),
                footers: Vec::new(),
            },
        };
        let committer = Signature {
            name: "Assay".to_owned(),
            email: "assay@localhost".to_owned(),
            seconds: self.clock.now().0 / 1_000_000,
        };
        let made = repos.merge(&below, &merge, &committer).map_err(|failure| match failure {
            assay_git::MergeFailure::Conflict { paths, .. } => {
                MergeFailure::Conflict { change: change.patchset.clone(), paths: paths.first }
            }
            assay_git::MergeFailure::Repository(error) => broken(&error),
            other => not_allowed(&other),
        })?;
        let new = assay_git::Tip { commit: made.commit, tree: made.tree };
        let base = base.unwrap_or(new);
        let (project, branch) = (change.project.clone(), change.branch.clone());
        Ok((made.state, Moved { project, branch, base: tip(base), tip: tip(new) }))
    }
}

impl Machine for RepoMachine {
    type State = assay_git::State;

    fn fetch(&self, project: &ProjectName, wishes: &[Wish]) -> HashMap<MergeId, String> {
        let in_vain = |why: &dyn std::fmt::Display, concerned: &dyn Fn(&Wish) -> bool| {
            let concerned = wishes.iter().filter(|wish| concerned(wish));
            concerned.filter_map(|wish| Some((wish.merge?, why.to_string()))).collect::<HashMap<_, _>>()
        };
        for wish in wishes {
            self.repositories.note_source(project, &wish.source);
        }
        let name = match self.repositories.project(project) {
            Ok(name) => name,
            Err(why) => return in_vain(&why, &|_| true),
        };
        let repos = &self.repositories.repos;
        let (missing, branches) = self.missing(project, &name, wishes);
        let (began, moves) = (self.clock.now(), self.repositories.fresh().moves);
        let of_branches = branches.then(Refspec::branches);
        let refspecs: Vec<_> = missing.values().cloned().chain(of_branches.clone()).collect();
        let mut failed = HashMap::new();
        match refspecs.as_slice() {
            [] => return failed,
            all => match repos.fetch(&name, all, DEADLINE) {
                Ok(()) => {}
                // A remote that hangs is not asked for one thing after the other.
                Err(error @ GitError::Timeout { .. }) => return in_vain(&error, &|_| true),
                // A reference that is gone does not take the others with it.
                Err(_) => {
                    if let Some(Err(error)) = of_branches.map(|one| repos.fetch(&name, &[one], DEADLINE)) {
                        return in_vain(&error, &|_| true);
                    }
                    for (revision, refspec) in &missing {
                        if let Err(error) = repos.fetch(&name, std::slice::from_ref(refspec), DEADLINE) {
                            let needs = |wish: &Wish| wish.changes.iter().any(|(one, _)| one == revision);
                            failed.extend(in_vain(&error, &needs));
                        }
                    }
                }
            },
        }
        let mut fresh = self.repositories.fresh();
        if branches && fresh.moves == moves {
            fresh.fetched.insert(project.clone(), began);
        }
        failed
    }

    fn start(&self, request: &MergeRequest) -> Result<Self::State, MergeFailure> {
        let mut tips = Vec::new();
        for project in request.changes.iter().map(|change| &change.project).collect::<BTreeSet<_>>() {
            let name =
                self.repositories.project(project).map_err(|why| Self::infrastructure(project, why))?;
            let found = self.repositories.repos.branch_tips(&name);
            let found = found.map_err(|why| Self::infrastructure(project, why))?;
            tips.extend(found.into_iter().map(|(branch, tip)| ((name.clone(), branch), tip)));
        }
        Ok(assay_git::State::new(tips))
    }

    fn merge(
        &self,
        below: &Self::State,
        request: &MergeRequest,
    ) -> Result<(Self::State, Merged), MergeFailure> {
        let mut state = below.clone();
        let mut moved = Vec::new();
        for change in &request.changes {
            let (next, one) = self.one(&state, change)?;
            state = next;
            moved.push(one);
        }
        Ok((state, Merged { moved }))
    }

    fn adopt(&self, below: Option<&Self::State>, merged: &Merged) -> Option<Self::State> {
        let mut state = below.cloned().unwrap_or_default();
        for moved in &merged.moved {
            let name = self.repositories.project(&moved.project).ok()?;
            let branch: assay_git::BranchName = moved.branch.as_str().parse().ok()?;
            let (base, new) = (own_tip(&moved.base)?, own_tip(&moved.tip)?);
            self.repositories.repos.tip_of(&name, new.commit).ok()?;
            if state.tip(&name, &branch).is_none() {
                state = state.with_base(name.clone(), branch.clone(), base);
            }
            state = state.with(&name, &branch, new);
        }
        Some(state)
    }

    fn publish(&self, state: &Self::State, identity: Uuid, merged: &Merged) -> Result<(), MergeFailure> {
        let last = merged.moved.last().map_or_else(|| "?".into(), |moved| moved.project.clone());
        let identity = identity.to_string().parse().map_err(|why| Self::infrastructure(&last, why))?;
        // A change that brings nothing moves nothing, and workers look for its ref all the same.
        let mut state = state.clone();
        for moved in &merged.moved {
            let parts = (self.repositories.project(&moved.project).ok(), moved.branch.as_str().parse().ok());
            if let ((Some(name), Some(branch)), Some(new)) = (parts, own_tip(&moved.tip)) {
                state = state.with(&name, &branch, new);
            }
        }
        self.repositories.repos.publish(&state, &identity).map_err(|why| Self::infrastructure(&last, why))
    }

    fn collect(&self, keep: &BTreeSet<Uuid>) {
        let held = self.snapshot.borrow().clone();
        let live = held.items.values().map(|item| item.buildset.identity).chain(keep.iter().copied());
        let live = live.filter_map(|identity| identity.to_string().parse().ok()).collect();
        match self.repositories.repos.collect(&live) {
            Ok(removed) => tracing::debug!(removed, "refs of old states are removed"),
            Err(error) => tracing::warn!(%error, "refs of old states cannot be removed"),
        }
    }
}

/// Runs what blocks on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(trouble(error)))
}

impl Repositories {
    fn look_now(&self, project: &ProjectName, branch: &BranchName) -> Result<Option<Tip>, Trouble> {
        let name = self.project(project)?;
        let parsed = branch.as_str().parse().map_err(trouble)?;
        let found = self.repos.look(&name, &parsed, DEADLINE).map_err(trouble)?;
        Ok(found.map(tip))
    }

    /// The commits from `tip` on, first parents only, with their trees.
    fn line(&self, project: &ProjectName, from: &Oid, most: usize) -> Result<Vec<Tip>, Trouble> {
        let name = self.project(project)?;
        let history = assay_git::History::open(&self.repos.path(&name).map_err(trouble)?).map_err(trouble)?;
        let mut next = Some(from.as_str().parse().map_err(trouble)?);
        let mut line = Vec::new();
        while let Some(commit) = next.take_if(|_| line.len() < most) {
            let tree = history.tree_of(commit).map_err(trouble)?;
            line.push(tip(assay_git::Tip { commit, tree }));
            next = history.first_parent(commit).map_err(trouble)?;
        }
        Ok(line)
    }
}

/// The place in a branch, the newest first, at which a change went in as it was tested. A merge commit that its author
/// made may have the branch as its second parent; where the branch is moved to it, it is the revision itself.
fn landed_in<'a>(line: &'a [Tip], landing: &Landing) -> Option<&'a Tip> {
    let on_base = |two: &[Tip]| two[1].tree == landing.base.tree || two[0].commit == landing.revision;
    let found = line.windows(2).find(|two| two[0].tree == landing.tested.tree && on_base(two));
    found.and_then(<[Tip]>::first)
}

/// Moves as git takes them.
fn wanted(moves: &[Move]) -> Result<Vec<assay_git::Move>, Trouble> {
    let wanted = |one: &Move| {
        Ok(assay_git::Move {
            branch: one.branch.as_str().parse().map_err(trouble)?,
            old: Some(one.from.as_str().parse().map_err(trouble)?),
            new: one.to.as_str().parse().map_err(trouble)?,
        })
    };
    moves.iter().map(wanted).collect()
}

fn pushed(result: Result<(), PushRefusal>) -> Result<Pushed, Trouble> {
    Ok(match result {
        Ok(()) => Pushed::Done,
        Err(PushRefusal::StaleTip { .. } | PushRefusal::NotFastForward { .. }) => Pushed::Stale,
        Err(PushRefusal::Rejected { text, .. }) => Pushed::Rejected(text),
        Err(error @ (PushRefusal::Unreachable { .. } | PushRefusal::Repository(_))) => {
            return Err(trouble(error));
        }
        Err(error @ PushRefusal::InDoubt { .. }) => Pushed::InDoubt(error.to_string()),
    })
}

#[async_trait::async_trait]
impl Ground for Repositories {
    async fn look(&self, project: &ProjectName, branch: &BranchName) -> Result<Option<Tip>, Trouble> {
        let (repositories, project, branch) = (self.clone(), project.clone(), branch.clone());
        // Whoever looks expects a move.
        self.have_moved();
        blocking(move || repositories.look_now(&project, &branch)).await
    }

    async fn landed_as(&self, landing: &Landing, tip: &Tip) -> Result<Option<Tip>, Trouble> {
        let (repositories, project, from) = (self.clone(), landing.project.clone(), tip.commit.clone());
        let line = blocking(move || repositories.line(&project, &from, BACK)).await?;
        Ok(landed_in(&line, landing).cloned())
    }

    async fn below(&self, project: &ProjectName, commit: &Oid, tree: &Oid) -> Result<Option<Tip>, Trouble> {
        let (repositories, project, from) = (self.clone(), project.clone(), commit.clone());
        let line = blocking(move || repositories.line(&project, &from, BACK)).await?;
        Ok(line.into_iter().skip(1).find(|tip| tip.tree == *tree))
    }

    async fn contains(&self, project: &ProjectName, tip: &Oid, commit: &Oid) -> Result<bool, Trouble> {
        let (repositories, project) = (self.clone(), project.clone());
        let (tip, commit) =
            (tip.as_str().parse().map_err(trouble)?, commit.as_str().parse().map_err(trouble)?);
        blocking(move || {
            let name = repositories.project(&project)?;
            repositories.repos.contains(&name, tip, commit).map_err(trouble)
        })
        .await
    }

    async fn try_push(&self, project: &ProjectName, moves: &[Move]) -> Result<Pushed, Trouble> {
        let wanted = wanted(moves)?;
        let (repositories, project) = (self.clone(), project.clone());
        blocking(move || {
            let name = repositories.project(&project)?;
            pushed(repositories.repos.try_push(&name, &wanted, DEADLINE))
        })
        .await
    }

    async fn push(&self, project: &ProjectName, moves: &[Move]) -> Result<Pushed, Trouble> {
        let wanted = wanted(moves)?;
        let (repositories, project) = (self.clone(), project.clone());
        blocking(move || {
            let name = repositories.project(&project)?;
            let result = repositories.repos.push(&name, &wanted, DEADLINE);
            repositories.have_moved();
            pushed(result)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_engine::gate::ids::{ChangeId, Patchset};

    #[test]
    fn where_a_change_went_in() {
        let line = |text: &str| -> Vec<Tip> {
            let tip = |one: &str| {
                let (commit, tree) = one.split_once('=').unwrap();
                Tip { commit: commit.into(), tree: tree.into() }
            };
            text.split(' ').map(tip).collect()
        };
        let change = ChangeId { source: "gerrit".into(), number: 1 };
        let landing = Landing {
            patchset: Patchset { change, patchset: 1 },
            revision: "r".into(),
            project: "p".into(),
            branch: "b".into(),
            base: Tip { commit: "b".into(), tree: "0".into() },
            tested: Tip { commit: "t".into(), tree: "1".into() },
        };
        for (text, expected) in [
            ("x=2 m=1 b=0 a=9", Some("m")),
            ("x=2 m=1 f=3 b=0", None),
            ("m=1 x=0 n=1 b=0", Some("m")),
            // The author's own merge commit, whose first parent is the feature.
            ("x=2 r=1 f=7 a=9", Some("r")),
            ("x=2 r=4 f=7 a=9", None),
        ] {
            let found = landed_in(&line(text), &landing).map(|tip| tip.commit.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
