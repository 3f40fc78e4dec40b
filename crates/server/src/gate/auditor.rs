//! The auditor: walks the gated branches and names every commit since the gate's start that no receipt covers.
//!
//! The start of a branch is where it stood when it was first looked at; a clean walk moves it on.

use super::ports::Trouble;
use super::receipts::being_landed;
use super::repos::Repositories;
use super::status::Alarm;
use crate::app::App;
use assay_engine::gate::config::{Config, Manager};
use assay_engine::gate::ids::{BranchName, Oid, ProjectName, SourceName};
use assay_git::{CommitId, History, Refspec};
use assay_records::receipt::{
    Audit, CommitFacts, ObjectId, ReceiptProblem, Signer, TrustFile, Uncovered, audit,
};
use assay_store::{Epoch, StoreError};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Between two rounds.
const EVERY: Duration = Duration::from_mins(10);
/// The longest that a fetch may take.
const DEADLINE: Duration = Duration::from_mins(2);
/// Projects that are looked at at the same time: a remote that hangs keeps the others waiting only if this many do.
const AT_ONCE: usize = 4;
/// Commits of one alarm that are named; the others are counted.
const NAMED: usize = 100;
/// In the store's cursors.
const SOURCE: &str = "auditor";

/// Projects that somebody wants a look at.
#[derive(Default)]
pub(crate) struct Wishes {
    projects: Mutex<BTreeSet<ProjectName>>,
    news: Notify,
    /// How often alarms of a project were ended by hand. Held while that, or what a walk has found, is stored: a walk that
    /// began before is out of date.
    acknowledged: tokio::sync::Mutex<BTreeMap<ProjectName, u64>>,
}

impl Wishes {
    pub(crate) fn wish(&self, projects: impl IntoIterator<Item = ProjectName>) {
        self.projects.lock().unwrap_or_else(PoisonError::into_inner).extend(projects);
        self.news.notify_one();
    }

    /// What has been wished since the last time.
    async fn next(&self) -> BTreeSet<ProjectName> {
        loop {
            let some = std::mem::take(&mut *self.projects.lock().unwrap_or_else(PoisonError::into_inner));
            if !some.is_empty() {
                return some;
            }
            self.news.notified().await;
        }
    }
}

/// What is to be walked, and what is being walked.
#[derive(Default)]
struct Due {
    /// Comes before the round, which takes its time with many projects.
    wished: BTreeSet<ProjectName>,
    round: BTreeSet<ProjectName>,
    walking: BTreeSet<ProjectName>,
}

impl Due {
    /// The next one. One that is being walked is walked again only when that is over.
    fn begin(&mut self) -> Option<ProjectName> {
        let free = |project: &&ProjectName| !self.walking.contains(*project);
        let project = self.wished.iter().find(free).or_else(|| self.round.iter().find(free))?.clone();
        self.wished.remove(&project);
        self.round.remove(&project);
        self.walking.insert(project.clone());
        Some(project)
    }
}

/// Looks after branches.
#[derive(Clone)]
pub(crate) struct Auditor {
    pub(crate) app: Arc<App>,
    pub(crate) epoch: Epoch,
    pub(crate) signer: Arc<Signer>,
    pub(crate) repositories: Repositories,
    pub(crate) wishes: Arc<Wishes>,
}

impl Auditor {
    /// Goes its rounds until the end.
    pub(crate) async fn run(self, end: CancellationToken) {
        let mut rounds = tokio::time::interval(EVERY);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut due = Due::default();
        let mut walks = FuturesUnordered::new();
        loop {
            while walks.len() < AT_ONCE
                && let Some(project) = due.begin()
            {
                let this = &self;
                walks.push(async move { (this.round(&project).await, project) });
            }
            tokio::select! {
                () = end.cancelled() => return,
                _ = rounds.tick() => {
                    let projects = self.projects();
                    // What nobody walks any more is not vouched for here, and never will be.
                    self.app.gate.edit().alarms.retain(|(project, _), _| projects.contains(project));
                    due.round.extend(projects);
                }
                wished = self.wishes.next() => {
                    due.wished.extend(self.projects().into_iter().filter(|project| wished.contains(project)));
                }
                Some((done, project)) = walks.next() => {
                    due.walking.remove(&project);
                    self.note(&project, done.err());
                }
            }
        }
    }

    /// What is audited by the configuration that is in force; of others nothing is said any more.
    fn projects(&self) -> Vec<ProjectName> {
        let projects = gated(&self.app.gate().config);
        self.app.gate.edit().unaudited.retain(|project, _| projects.contains(project));
        projects
    }

    /// Whether a project could be audited, for those who look after the gate.
    fn note(&self, project: &ProjectName, trouble: Option<Trouble>) {
        let mut status = self.app.gate.edit();
        let Some(Trouble(why)) = trouble else {
            if status.unaudited.remove(project).is_some() {
                tracing::info!(%project, "the branches are audited again");
            }
            return;
        };
        if status.unaudited.insert(project.clone(), why.clone()).is_none() {
            tracing::warn!(%project, why, "the branches cannot be audited now");
        }
    }

    /// One project.
    async fn round(&self, project: &ProjectName) -> Result<(), Trouble> {
        let store = self.app.store.clone();
        let trouble = |error: assay_store::StoreError| Trouble(error.to_string());
        let source = SourceName::from(SOURCE);
        let ended_by_hand = self.wishes.acknowledged.lock().await.get(project).copied();
        let starts = store.gate().cursors(&source).await.map_err(trouble)?;
        // Looked at before the branches are: what begins to land now is there for the next round.
        let busy = being_landed(&self.app.gate());
        let unpublished: BTreeMap<String, Vec<u8>> = store
            .gate()
            .unpublished_of(project, u32::MAX)
            .await
            .map_err(trouble)?
            .into_iter()
            .map(|receipt| (receipt.commit.to_string(), receipt.body.into_bytes()))
            .collect();
        let (auditor, name) = (self.clone(), project.clone());
        let walk = move || auditor.walk(&name, &starts, &unpublished);
        let walked =
            tokio::task::spawn_blocking(walk).await.map_err(|error| Trouble(error.to_string()))??;
        let acknowledged = self.wishes.acknowledged.lock().await;
        if acknowledged.get(project).copied() != ended_by_hand {
            // From where it is to be walked now is not where this walk ended.
            self.wishes.wish([project.clone()]);
            return Ok(());
        }
        // A branch that is gone is vouched for by nobody.
        let walks = |branch: &BranchName| walked.iter().any(|(other, ..)| other == branch);
        self.app.gate.edit().alarms.retain(|(other, branch), _| other != project || walks(branch));
        // A landing that came to its end during the walk has its receipt in the store by now, or is still under way.
        let busy: BTreeSet<_> = busy.into_iter().chain(being_landed(&self.app.gate())).collect();
        let mut moved = Vec::new();
        for (branch, tip, audit) in walked {
            let key = (project.clone(), branch.clone());
            let mut uncovered = Vec::new();
            for one in audit.into_iter().flat_map(|audit| audit.uncovered) {
                let commit = Oid::from(one.commit.as_str());
                let stored = store.gate().receipt(project, &branch, &commit).await.map_err(trouble)?;
                // A receipt that was found and is wrong stays wrong, whatever is in the store.
                if stored.is_none() || one.problem != ReceiptProblem::Missing {
                    uncovered.push((commit, one.problem.to_string()));
                }
            }
            if uncovered.is_empty() {
                moved.push((cursor(project, &branch), Some(tip.to_string())));
                self.app.gate.edit().alarms.remove(&key);
            } else if !busy.contains(&key) {
                self.alarm(key, uncovered, tip);
            }
        }
        if !moved.is_empty() {
            let now = self.app.clock.now();
            store.gate().receive(self.epoch, &source, now, &[], &moved).await.map_err(trouble)?;
        }
        Ok(())
    }

    fn alarm(&self, key: (ProjectName, BranchName), mut commits: Vec<(Oid, String)>, tip: CommitId) {
        let more = commits.len().saturating_sub(NAMED);
        commits.truncate(NAMED);
        let (since, tip) = (self.app.clock.now(), Oid::from(tip.to_string()));
        let mut status = self.app.gate.edit();
        let known =
            status.alarms.get(&key).is_some_and(|alarm| alarm.commits == commits && alarm.more == more);
        if !known {
            for (commit, problem) in &commits {
                tracing::error!(project = %key.0, branch = %key.1, %commit, problem, "a commit that no receipt covers");
            }
            if more > 0 {
                tracing::error!(project = %key.0, branch = %key.1, more, "and more commits that no receipt covers");
            }
            status.alarms.insert(key, Alarm { commits, more, tip, since });
        }
    }

    /// Every branch of a project with its tip and, unless it is new, what the walk to its start found.
    fn walk(
        &self,
        project: &ProjectName,
        starts: &BTreeMap<String, String>,
        unpublished: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Vec<(BranchName, CommitId, Option<Audit>)>, Trouble> {
        let trouble = |error: &dyn std::fmt::Display| Trouble(error.to_string());
        let name = self.repositories.project(project)?;
        let repos = &self.repositories.repos;
        repos.fetch(&name, &[Refspec::branches()], DEADLINE).map_err(|error| trouble(&error))?;
        let history = History::open(&repos.path(&name).map_err(|error| trouble(&error))?);
        let history = history.map_err(|error| trouble(&error))?;
        let mut walked = Vec::new();
        for (branch, tip) in repos.branch_tips(&name).map_err(|error| trouble(&error))? {
            let branch = BranchName::from(branch.as_str());
            let Some(start) = starts.get(&cursor(project, &branch)) else {
                walked.push((branch, tip.commit, None));
                continue;
            };
            if *start == tip.commit.to_string() {
                walked.push((branch, tip.commit, None));
                continue;
            }
            // A branch that was set back, or to something else, is walked to where it left the way; what cannot be told
            // from its start is not walked at all.
            let from: CommitId = start.parse().map_err(|error| trouble(&error))?;
            let base = history.merge_base(from, tip.commit).map_err(|error| trouble(&error))?;
            let left = (base != Some(from)).then(|| -> Result<Uncovered, Trouble> {
                let problem = ReceiptProblem::StartNotInBranch(object(&from)?);
                Ok(Uncovered { commit: object(&tip.commit)?, problem })
            });
            let left = left.transpose()?;
            let Some(base) = base else {
                let found = Audit { uncovered: left.into_iter().collect(), ..Audit::default() };
                walked.push((branch, tip.commit, Some(found)));
                continue;
            };
            let trust = self.trust(project, &branch, &base.to_string())?;
            let receipt = |commit: CommitId| match unpublished.get(&commit.to_string()) {
                Some(bytes) => Ok(Some(bytes.clone())),
                None => repos.read_receipt(&name, commit),
            };
            let lookup = |commit: &ObjectId| {
                let commit: CommitId = commit.as_str().parse().map_err(|error| trouble(&error))?;
                let parent = history.first_parent(commit).map_err(|error| trouble(&error))?;
                Ok(CommitFacts {
                    tree: object(&history.tree_of(commit).map_err(|error| trouble(&error))?)?,
                    first_parent: parent.map(|parent| object(&parent)).transpose()?,
                    receipt: receipt(commit).map_err(|error| trouble(&error))?,
                })
            };
            let is_ancestor = |old: &ObjectId, new: &ObjectId| {
                let old = old.as_str().parse().map_err(|error| trouble(&error))?;
                let new = new.as_str().parse().map_err(|error| trouble(&error))?;
                history.is_ancestor(old, new).map_err(|error| trouble(&error))
            };
            let tip_id = object(&tip.commit)?;
            let mut found = audit(project.as_str(), branch.as_str(), &tip_id, &trust, lookup, is_ancestor)?;
            found.uncovered.splice(0..0, left);
            walked.push((branch, tip.commit, Some(found)));
        }
        Ok(walked)
    }

    /// Our own key, and where the walk ends.
    fn trust(&self, project: &ProjectName, branch: &BranchName, start: &str) -> Result<TrustFile, Trouble> {
        let key = self.signer.public_key().to_trust_line("assay");
        let text = format!("{}\nstart {project} {branch} {start}\n", key.trim_end());
        TrustFile::parse(&text).map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Trouble(errors.join("; "))
        })
    }
}

/// Ends the alarm of a branch: somebody has looked, and from where it stood then it is walked anew. The alarm that was.
pub(crate) async fn acknowledge(
    app: &App,
    epoch: Epoch,
    wishes: &Wishes,
    project: &ProjectName,
    branch: &BranchName,
) -> Result<Option<Alarm>, StoreError> {
    let mut acknowledged = wishes.acknowledged.lock().await;
    let key = (project.clone(), branch.clone());
    let Some(alarm) = app.gate.status().alarms.remove(&key) else { return Ok(None) };
    let moved = [(cursor(project, branch), Some(alarm.tip.to_string()))];
    let source = SourceName::from(SOURCE);
    app.store.gate().receive(epoch, &source, app.clock.now(), &[], &moved).await?;
    app.gate.edit().alarms.remove(&key);
    *acknowledged.entry(project.clone()).or_default() += 1;
    Ok(Some(alarm))
}

fn cursor(project: &ProjectName, branch: &BranchName) -> String {
    format!("{project}\u{1f}{branch}")
}

fn object(id: &impl std::fmt::Display) -> Result<ObjectId, Trouble> {
    ObjectId::try_from(id.to_string()).map_err(|error| Trouble(error.to_string()))
}

/// Projects with jobs in a pipeline that lands.
fn gated(config: &Config) -> Vec<ProjectName> {
    let lands = |pipeline: &assay_engine::gate::ids::PipelineName| {
        config.pipeline(pipeline).is_some_and(|pipeline| pipeline.manager == Manager::Dependent)
    };
    let projects = config.projects.values().filter(|project| project.pipelines.keys().any(lands));
    projects.map(|project| project.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wished_is_walked_first_and_again_when_it_is_being_walked() {
        let named =
            |names: &[&str]| names.iter().map(|name| ProjectName::from(*name)).collect::<BTreeSet<_>>();
        let mut due = Due { wished: named(&["m"]), round: named(&["a", "m", "z"]), ..Due::default() };
        assert_eq!(due.begin(), Some("m".into()), "wished, and not again for the round");
        due.wished = named(&["m"]);
        assert_eq!(due.begin(), Some("a".into()), "m is being walked");
        assert_eq!(due.begin(), Some("z".into()));
        assert_eq!(due.begin(), None, "m waits for its walk to end");
        due.walking.remove(&ProjectName::from("m"));
        assert_eq!(due.begin(), Some("m".into()));
        assert_eq!(due.begin(), None);
    }
}
