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
use assay_records::receipt::{Audit, CommitFacts, ObjectId, ReceiptProblem, Signer, TrustFile, audit};
use assay_store::Epoch;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Between two rounds.
const EVERY: Duration = Duration::from_mins(10);
/// The longest that a fetch may take.
const DEADLINE: Duration = Duration::from_mins(2);
/// In the store's cursors.
const SOURCE: &str = "auditor";

/// Looks after branches.
#[derive(Clone)]
pub(crate) struct Auditor {
    pub(crate) app: Arc<App>,
    pub(crate) epoch: Epoch,
    pub(crate) signer: Arc<Signer>,
    pub(crate) repositories: Repositories,
    /// Something has landed, or somebody wants a round.
    pub(crate) wish: Arc<Notify>,
}

impl Auditor {
    /// Goes its rounds until the end.
    pub(crate) async fn run(self, end: CancellationToken) {
        loop {
            let held = self.app.gate();
            for project in gated(&held.config) {
                let round = self.round(&project);
                let done = tokio::select! {
                    () = end.cancelled() => return,
                    done = round => done,
                };
                if let Err(Trouble(why)) = done {
                    tracing::warn!(%project, why, "the branches cannot be audited now");
                }
            }
            tokio::select! {
                () = end.cancelled() => return,
                () = self.wish.notified() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    /// One project.
    async fn round(&self, project: &ProjectName) -> Result<(), Trouble> {
        let store = self.app.store.clone();
        let trouble = |error: assay_store::StoreError| Trouble(error.to_string());
        let source = SourceName::from(SOURCE);
        let starts = store.gate().cursors(&source).await.map_err(trouble)?;
        // Looked at before the branches are: what begins to land now is there for the next round.
        let busy = being_landed(&self.app.gate());
        let unpublished: BTreeMap<String, Vec<u8>> = store
            .gate()
            .unpublished()
            .await
            .map_err(trouble)?
            .into_iter()
            .filter(|receipt| receipt.project == *project)
            .map(|receipt| (receipt.commit.to_string(), receipt.body.into_bytes()))
            .collect();
        let (auditor, name) = (self.clone(), project.clone());
        let walk = move || auditor.walk(&name, &starts, &unpublished);
        let walked =
            tokio::task::spawn_blocking(walk).await.map_err(|error| Trouble(error.to_string()))??;
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
                self.alarm(key, uncovered);
            }
        }
        if !moved.is_empty() {
            let now = self.app.clock.now();
            store.gate().receive(self.epoch, &source, now, &[], &moved).await.map_err(trouble)?;
        }
        Ok(())
    }

    fn alarm(&self, key: (ProjectName, BranchName), commits: Vec<(Oid, String)>) {
        let since = self.app.clock.now();
        let mut status = self.app.gate.edit();
        let known = status.alarms.get(&key).is_some_and(|alarm| alarm.commits == commits);
        if !known {
            for (commit, problem) in &commits {
                tracing::error!(project = %key.0, branch = %key.1, %commit, problem, "a commit that no receipt covers");
            }
            status.alarms.insert(key, Alarm { commits, since });
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
            let trust = self.trust(project, &branch, start)?;
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
            let found = audit(project.as_str(), branch.as_str(), &tip_id, &trust, lookup, is_ancestor)?;
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
