//! Receipts: what landed is signed for, stored, and published in its repository.

use super::lander::Pauses;
use super::ports::{Ground, Ledger, Trouble};
use super::repos::Repositories;
use assay_engine::gate::change::ChangeFacts;
use assay_engine::gate::config::LandingWay;
use assay_engine::gate::ids::{BranchName, ItemId, Oid, ProjectName};
use assay_engine::gate::io::{LandRequest, LandResult, Landing, Tip};
use assay_engine::gate::item::{Build, Item, ItemChange, ItemPhase, JobState};
use assay_engine::gate::snapshot::Snapshot;
use assay_engine::ids::Timestamp;
use assay_git::Signature;
use assay_proto::clock::Clock;
use assay_records::receipt::{
    Approval, Change, Job, Member, ObjectId, Point, Receipt, ReusedFrom, Server, Signer, Times, Way,
};
use assay_store::{Epoch, Store, StoredReceipt, Tried};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The longest that a publication may take.
const DEADLINE: Duration = Duration::from_mins(2);
/// Receipts of one project in one publication.
const TOGETHER: u32 = 100;

/// A project whose receipts could not be published.
struct Failing {
    tries: u32,
    /// Not before.
    next: Timestamp,
}

/// Signs, stores and publishes.
#[derive(Clone)]
pub(crate) struct Receipts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) epoch: Epoch,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) signer: Arc<Signer>,
    pub(crate) ground: Arc<dyn Ground>,
    pub(crate) repositories: Repositories,
    pub(crate) pauses: Pauses,
    /// There is something to publish.
    pub(crate) news: Arc<Notify>,
}

/// What a request was to do with a branch: to move it from its first member's base to its last member's tested tree.
struct Landed<'a> {
    first: &'a Landing,
    last: &'a Landing,
    /// Where the branch was moved to, if all its members are in: with some of them it has a tree that nobody tested.
    tip: Option<Tip>,
}

impl Receipts {
    /// Signs for what has landed and stores it: for the branches of a request that are as they were tested, whatever has
    /// become of its others. May be repeated: what is stored stays.
    pub(crate) async fn sign(
        &self,
        request: &LandRequest,
        result: &LandResult,
        held: &Snapshot,
    ) -> Result<(), Trouble> {
        let landed = by_branch(&request.members, result);
        if landed.iter().all(|one| one.tip.is_none()) {
            return Ok(());
        }
        let trouble = |error: assay_store::StoreError| Trouble(error.to_string());
        let item = self.store.gate().item(request.item).await.map_err(trouble)?;
        let item = item.ok_or_else(|| Trouble(format!("item {} is not in the store", request.item)))?;
        for one in &landed {
            let Some(tip) = &one.tip else { continue };
            // A change that adds nothing has moved nothing.
            if tip.commit == one.first.base.commit {
                continue;
            }
            let receipt = self.receipt(request, &item, (one, tip), &landed, held).await?;
            let body =
                String::from_utf8(receipt.sign(&self.signer)).map_err(|error| Trouble(error.to_string()))?;
            let stored = StoredReceipt {
                project: one.last.project.clone(),
                branch: one.last.branch.clone(),
                commit: tip.commit.clone(),
                item: request.item,
                body,
                signed_at: self.clock.now(),
                published_at: None,
                attempts: 0,
                last_error: None,
            };
            self.store.gate().save_receipt(self.epoch, &stored).await.map_err(trouble)?;
        }
        self.news.notify_one();
        Ok(())
    }

    async fn receipt(
        &self,
        request: &LandRequest,
        item: &Item,
        (landed, tip): (&Landed<'_>, &Tip),
        all: &[Landed<'_>],
        held: &Snapshot,
    ) -> Result<Receipt, Trouble> {
        let Landed { first, last, .. } = landed;
        let predecessor = match request.way {
            LandingWay::Push => first.base.clone(),
            LandingWay::Submit => predecessor(self.ground.as_ref(), first, tip).await?,
        };
        let here =
            |change: &&ItemChange| change.merge.project == last.project && change.merge.branch == last.branch;
        let others = all.iter().filter(|other| !std::ptr::eq(*other, landed));
        Ok(Receipt {
            server: Server {
                id: self.signer.key_id().chars().take(16).collect(),
                version: VERSION.to_owned(),
            },
            project: last.project.to_string(),
            branch: last.branch.to_string(),
            item: request.item.to_string(),
            changes: item.changes.iter().filter(here).map(change).collect::<Result<_, _>>()?,
            base: point(&first.base)?,
            tested: point(&last.tested)?,
            landed: point(tip)?,
            predecessor: point(&predecessor)?,
            way: match request.way {
                LandingWay::Push => Way::Push,
                LandingWay::Submit => Way::Submit,
            },
            mode: item.changes.iter().find(here).map(|change| word(&change.merge.mode)).unwrap_or_default(),
            pipeline: item.pipeline.to_string(),
            queue: item.queue.to_string(),
            policy: held.config.hash.clone(),
            jobs: self.jobs(item, &last.tested.tree, held).await?,
            approvals: item.changes.iter().filter(here).flat_map(|change| approvals(change, held)).collect(),
            waivers: Vec::new(),
            times: Times {
                enqueued: time(item.enqueued_at),
                decided: time(decided_at(item).unwrap_or_else(|| self.clock.now())),
                landed: time(self.clock.now()),
            },
            members: others.map(member).collect::<Result<_, _>>()?,
        })
    }

    async fn jobs(&self, item: &Item, tree: &Oid, held: &Snapshot) -> Result<Vec<Job>, Trouble> {
        let mut jobs = Vec::new();
        for job in &item.buildset.jobs {
            let Some(build) = job.state.build() else { continue };
            let reused_from = match &job.state {
                JobState::Reused { build } => {
                    let from = self.store.gate().build(build.uuid).await;
                    let from = from.map_err(|error| Trouble(error.to_string()))?;
                    let item = from.map(|from| from.item.to_string()).unwrap_or_default();
                    Some(ReusedFrom { uuid: build.uuid.to_string(), item })
                }
                _ => None,
            };
            jobs.push(Job {
                name: job.job.to_string(),
                uuid: build.uuid.to_string(),
                outcome: outcome(build),
                voting: job.voting,
                attempts: job.lost.len() as u32 + 1,
                log_url: held.config.places.logs(item, &job.job, build),
                tree: id(tree)?,
                started: build.started_at.map(time),
                ended: build.ended_at.map(time),
                reused_from,
            });
        }
        Ok(jobs)
    }

    /// Publishes what is stored and not published yet, until the end. `note` hears what keeps the receipts of a project,
    /// and `None` when that is over.
    pub(crate) async fn publish(
        self,
        note: impl Fn(&ProjectName, Option<&str>) + Send + Sync,
        end: CancellationToken,
    ) {
        let mut failing = BTreeMap::new();
        loop {
            let pause = match self.publish_all(&mut failing, &note).await {
                Ok(pause) => pause,
                Err(Trouble(why)) => {
                    tracing::warn!(why, "receipts cannot be read now; it is tried again");
                    Some(self.pauses.after(4))
                }
            };
            let again = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = end.cancelled() => return,
                () = self.news.notified() => {}
                () = again => {}
            }
        }
    }

    /// Every project whose time has come is tried, whatever becomes of the others; how long until the next one's.
    async fn publish_all(
        &self,
        failing: &mut BTreeMap<ProjectName, Failing>,
        note: &(impl Fn(&ProjectName, Option<&str>) + Sync),
    ) -> Result<Option<Duration>, Trouble> {
        let projects = self.store.gate().unpublished().await.map_err(|error| Trouble(error.to_string()))?;
        failing.retain(|project, _| projects.contains(project));
        for project in projects {
            let tries = match failing.get(&project) {
                Some(held) if held.next > self.clock.now() => continue,
                Some(held) => held.tries + 1,
                None => 1,
            };
            match self.publish_project(&project).await {
                Ok(()) => {
                    failing.remove(&project);
                    note(&project, None);
                }
                Err(Trouble(why)) => {
                    tracing::warn!(%project, why, "receipts cannot be published now; it is tried again");
                    note(&project, Some(&why));
                    let pause = self.pauses.after(tries).as_micros() as i64;
                    failing.insert(project, Failing { tries, next: Timestamp(self.clock.now().0 + pause) });
                }
            }
        }
        let now = self.clock.now();
        let wait = |held: &Failing| Duration::from_micros((held.next.0 - now.0).max(0) as u64);
        Ok(failing.values().map(wait).min())
    }

    /// Everything that a project has to publish, up to the first trouble.
    async fn publish_project(&self, project: &ProjectName) -> Result<(), Trouble> {
        let trouble = |error: assay_store::StoreError| Trouble(error.to_string());
        loop {
            let some = self.store.gate().unpublished_of(project, TOGETHER).await.map_err(trouble)?;
            if some.is_empty() {
                return Ok(());
            }
            let published = self.publish_some(project, &some).await;
            let tried = match &published {
                Ok(()) => Tried::Done { at: self.clock.now(), note: None },
                Err(Trouble(why)) => Tried::Later { at: self.clock.now(), error: why.clone() },
            };
            self.store.gate().receipts_tried(self.epoch, &some, &tried).await.map_err(trouble)?;
            published?;
        }
    }

    async fn publish_some(&self, project: &ProjectName, receipts: &[StoredReceipt]) -> Result<(), Trouble> {
        let mut files = Vec::new();
        for receipt in receipts {
            let commit = receipt.commit.as_str().parse();
            files.push((
                commit.map_err(|error| Trouble(format!("{error}")))?,
                receipt.body.clone().into_bytes(),
            ));
        }
        let committer = Signature {
            name: "Assay".to_owned(),
            email: "assay@localhost".to_owned(),
            seconds: self.clock.now().0 / 1_000_000,
        };
        let (repositories, project) = (self.repositories.clone(), project.clone());
        let publish = move || {
            let name = repositories.project(&project)?;
            let published = repositories.repos.publish_receipts(&name, &files, &committer, DEADLINE);
            published.map_err(|error| Trouble(error.to_string()))
        };
        tokio::task::spawn_blocking(publish).await.unwrap_or_else(|error| Err(Trouble(error.to_string())))
    }
}

/// What a branch was before `tip` was landed on it with `first` as the first member.
///
/// The base is behind another parent than the first where an author has merged the branch into what is landed.
pub(super) async fn predecessor(ground: &dyn Ground, first: &Landing, tip: &Tip) -> Result<Tip, Trouble> {
    if let Some(below) = ground.below(&first.project, &tip.commit, &first.base.tree).await? {
        return Ok(below);
    }
    if ground.contains(&first.project, &tip.commit, &first.base.commit).await? {
        return Ok(first.base.clone());
    }
    Err(Trouble(format!("{} has no parent with the tested base", tip.commit)))
}

/// The receipts in the store.
pub(super) struct StoredLedger(pub(super) Arc<dyn Store>);

#[async_trait::async_trait]
impl Ledger for StoredLedger {
    async fn signed_for(
        &self,
        project: &ProjectName,
        branch: &BranchName,
        commit: &Oid,
    ) -> Result<Option<ItemId>, Trouble> {
        let stored = self.0.gate().receipt(project, branch, commit).await;
        Ok(stored.map_err(|error| Trouble(error.to_string()))?.map(|receipt| receipt.item))
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn by_branch<'a>(members: &'a [Landing], result: &LandResult) -> Vec<Landed<'a>> {
    let mut landed: Vec<Landed<'a>> = Vec::new();
    for (index, landing) in members.iter().enumerate() {
        let tip = match result {
            LandResult::Landed { tips } => tips.get(index),
            LandResult::TreeMismatch { landed, .. } | LandResult::Partial { landed, .. } => {
                landed.iter().find(|one| one.patchset == landing.patchset).map(|one| &one.tip)
            }
            LandResult::BaseMoved { .. } | LandResult::Refused { .. } => None,
        };
        let same =
            |one: &&mut Landed<'a>| one.last.project == landing.project && one.last.branch == landing.branch;
        match landed.iter_mut().find(same) {
            Some(one) => (one.last, one.tip) = (landing, tip.filter(|_| one.tip.is_some()).cloned()),
            None => landed.push(Landed { first: landing, last: landing, tip: tip.cloned() }),
        }
    }
    landed
}

fn id(oid: &Oid) -> Result<ObjectId, Trouble> {
    ObjectId::try_from(oid.to_string()).map_err(|error| Trouble(error.to_string()))
}

fn point(tip: &Tip) -> Result<Point, Trouble> {
    Ok(Point { commit: id(&tip.commit)?, tree: id(&tip.tree)? })
}

fn change(change: &ItemChange) -> Result<Change, Trouble> {
    let merge = &change.merge;
    Ok(Change {
        number: merge.patchset.change.number,
        patchset: merge.patchset.patchset,
        revision: id(&merge.revision)?,
        change_id: change.change_id.clone().unwrap_or_default(),
        project: merge.project.to_string(),
        branch: merge.branch.to_string(),
    })
}

fn member(landed: &Landed<'_>) -> Result<Member, Trouble> {
    Ok(Member {
        project: landed.last.project.to_string(),
        branch: landed.last.branch.to_string(),
        tested: point(&landed.last.tested)?,
        landed: landed.tip.as_ref().map(point).transpose()?,
    })
}

fn approvals(change: &ItemChange, held: &Snapshot) -> Vec<Approval> {
    let patchset = &change.merge.patchset;
    let facts: Option<&Arc<ChangeFacts>> = held.changes.get(&patchset.change);
    let facts = facts.filter(|facts| facts.current_patchset == patchset.patchset);
    let approval = |vote: &assay_engine::gate::change::Approval| {
        Some(Approval {
            change: patchset.change.number,
            patchset: patchset.patchset,
            label: vote.label.clone()?,
            value: vote.value,
            by: vote.by.display().to_owned(),
        })
    };
    facts.into_iter().flat_map(|facts| facts.approvals.iter().filter_map(approval)).collect()
}

fn outcome(build: &Build) -> String {
    match &build.result {
        Some(result) if result.is_success() => "passed".to_owned(),
        Some(result) => result.word.to_lowercase(),
        None => "unknown".to_owned(),
    }
}

fn decided_at(item: &Item) -> Option<Timestamp> {
    match &item.phase {
        ItemPhase::Landing { since, .. } => Some(*since),
        ItemPhase::Ended(end) => Some(end.at),
        ItemPhase::Testing => None,
    }
}

/// The configuration's word for a value.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// RFC 3339.
fn time(at: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(at.0).map(|at| at.to_string()).unwrap_or_default()
}

/// Branches whose landings are under way: what they made may not have its receipt yet.
pub(crate) fn being_landed(held: &Snapshot) -> BTreeSet<(ProjectName, BranchName)> {
    let requests = held.items.values().filter_map(|item| match &item.phase {
        ItemPhase::Landing { request, .. } => Some(request),
        _ => None,
    });
    let members = requests.flat_map(|request| &request.members);
    members.map(|landing| (landing.project.clone(), landing.branch.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_proto::clock::ManualClock;
    use camino::Utf8Path;
    use std::sync::Mutex;

    #[tokio::test]
    async fn a_project_that_takes_no_receipts_is_tried_once_in_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let store = assay_store::open(&format!("sqlite:{}", dir.join("x.db"))).await.unwrap();
        let epoch = store.acquire_leadership().await.unwrap();
        for (project, count) in [("a", TOGETHER + 9), ("b", 1)] {
            for number in 0..count {
                let receipt = StoredReceipt {
                    project: project.into(),
                    branch: "master".into(),
                    commit: format!("{number:040x}").into(),
                    item: ItemId(1),
                    body: "{}".to_owned(),
                    signed_at: Timestamp(i64::from(number)),
                    published_at: None,
                    attempts: 0,
                    last_error: None,
                };
                store.gate().save_receipt(epoch, &receipt).await.unwrap();
            }
        }
        let repositories = Repositories::open(dir, BTreeMap::new()).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp(1)));
        let receipts = Receipts {
            store: store.clone(),
            epoch,
            clock: clock.clone(),
            signer: Arc::new(Signer::from_seed(&[1; 32])),
            ground: Arc::new(repositories.clone()),
            repositories,
            pauses: Pauses { first: Duration::from_secs(1), most: Duration::from_secs(4) },
            news: Arc::default(),
        };
        let noted = Mutex::new(BTreeMap::new());
        let note = |project: &ProjectName, why: Option<&str>| {
            noted.lock().unwrap().insert(project.to_string(), why.map(str::to_owned));
        };
        let attempts = async || -> u32 {
            let left = store.gate().unpublished_of(&"a".into(), u32::MAX).await.unwrap();
            left.iter().map(|receipt| receipt.attempts).sum()
        };
        let mut failing = BTreeMap::new();
        for (advance, pause, expected) in
            [(0, 1000, 1), (0, 1000, 1), (1_000_000, 2000, 2), (500_000, 1500, 2)]
        {
            clock.advance(advance);
            let next = receipts.publish_all(&mut failing, &note).await.unwrap();
            assert_eq!(next, Some(Duration::from_millis(pause)));
            assert_eq!(attempts().await, expected * TOGETHER, "no further than the first trouble");
        }
        let noted = noted.into_inner().unwrap();
        assert!(noted.len() == 2 && noted.values().all(Option::is_some), "{noted:?}");
    }
}
