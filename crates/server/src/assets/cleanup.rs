//! Cleaning: gathers the facts, has them judged ([`assay_engine::assets::retention`]), and carries the verdicts out.

use super::{Assets, parents, plain};
use crate::app::App;
use crate::catalog::Catalog;
use assay_engine::assets::retention::{self, AssetFact, AssetFacts, Budget, Days};
use assay_engine::assets::{AssetKey, candidates, reads};
use assay_engine::ids::JobId;
use assay_engine::job::StateWord;
use assay_proto::api::assets::{CleanupReport, CleanupVerdict};
use assay_store::{AssetId, AssetVersion, JobFilter, StoreError, StoredJob};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How often assets are cleaned, and how soon after the start.
const EVERY: Duration = Duration::from_hours(1);
const FIRST: Duration = Duration::from_mins(10);
/// How long assets stay that no job of a group has used.
const UNTRACKED: Days = 14;
/// How long an upload may take that no job makes.
const UPLOAD_DAYS: i64 = 3;
/// What a group's limit is counted in, and what it is unless the group says otherwise.
const GIGABYTE: u64 = 1 << 30;
const DEFAULT_GIGABYTES: i64 = 100;
/// Jobs in one question.
const PAGE: u32 = 1000;

/// Cleans until the server stops.
pub(crate) async fn watch(app: Arc<App>) {
    let clean = |app: Arc<App>| async move { app.clean(false).await };
    clean_every((FIRST, EVERY), "assets", app, clean).await;
}

/// Cleans the first time after a while, then regularly, until the server stops.
pub(crate) async fn clean_every<F>(
    (first, every): (Duration, Duration),
    what: &str,
    app: Arc<App>,
    clean: impl Fn(Arc<App>) -> F,
) where
    F: Future<Output = Result<CleanupReport, StoreError>>,
{
    let mut wait = first;
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = app.shutdown.cancelled() => return,
        }
        wait = every;
        match clean(app.clone()).await {
            Ok(report) if report.verdicts.iter().any(|verdict| !verdict.keep) => {
                tracing::info!(what, bytes = report.bytes, "what had its time was removed");
            }
            Ok(_) => {}
            Err(error) => tracing::error!(what, %error, "what had its time could not be removed"),
        }
    }
}

impl App {
    /// Removes what has had its time; `dry_run` only says so.
    pub(crate) async fn clean(&self, dry_run: bool) -> Result<CleanupReport, StoreError> {
        let versions = self.assets.rows().assets().await?;
        let open = self.open_jobs().await?;
        let budgets = Budgets::of(&self.library.now());
        let facts = self.assets.facts(&versions, &open, budgets).await?;
        let judged = retention::assets(&facts, self.clock.now());
        let going: BTreeSet<i64> =
            judged.iter().filter(|verdict| !verdict.keep).map(|verdict| verdict.what.id).collect();
        let mut bytes = 0;
        let verdicts = judged.iter().map(|verdict| {
            bytes += if verdict.keep { 0 } else { verdict.what.bytes };
            CleanupVerdict {
                what: verdict.what.asset.to_string(),
                part: "asset".to_owned(),
                version: Some(verdict.what.id),
                bytes: Some(verdict.what.bytes),
                keep: verdict.keep,
                why: verdict.why.to_string(),
            }
        });
        let verdicts = verdicts.collect();
        if !dry_run {
            let going: Vec<_> =
                versions.iter().filter(|version| going.contains(&version.id.0)).cloned().collect();
            self.assets.remove(&going).await?;
            self.drop_uploads(&open).await?;
        }
        Ok(CleanupReport { dry_run, verdicts, bytes })
    }

    pub(crate) async fn open_jobs(&self) -> Result<Vec<StoredJob>, StoreError> {
        let states: Vec<_> = StateWord::ALL.into_iter().filter(|state| !state.is_final()).collect();
        let mut open = Vec::new();
        loop {
            let before = open.last().map(|job: &StoredJob| job.row.id);
            let filter = JobFilter { states: states.clone(), before, limit: PAGE, ..JobFilter::default() };
            let page = self.store.jobs(&filter).await?;
            let more = page.len() == PAGE as usize;
            open.extend(page);
            if !more {
                return Ok(open);
            }
        }
    }

    /// Gives up uploads of jobs that have ended, and those of people that have been left for days.
    async fn drop_uploads(&self, open: &[StoredJob]) -> Result<(), StoreError> {
        let open: BTreeSet<JobId> = open.iter().map(|job| job.row.id).collect();
        let oldest = self.clock.now().plus_seconds(-UPLOAD_DAYS * 24 * 3600);
        for upload in self.assets.rows().uploads().await? {
            let over = match &upload.by {
                Some((job, _)) => !open.contains(job),
                None => upload.created_at < oldest,
            };
            if over {
                self.assets.abandon(&upload.id).await?;
            }
        }
        Ok(())
    }
}

impl Assets {
    async fn facts(
        &self,
        versions: &[AssetVersion],
        open: &[StoredJob],
        budgets: Budgets,
    ) -> Result<AssetFacts, StoreError> {
        let mut newest: BTreeMap<&AssetKey, &AssetVersion> = BTreeMap::new();
        for version in versions {
            let known = newest.entry(&version.asset).or_insert(version);
            if known.id < version.id {
                *known = version;
            }
        }
        let needed = needed_by(open, &newest);
        let mut users: BTreeMap<AssetId, BTreeMap<usize, JobId>> = BTreeMap::new();
        let mut begun = BTreeMap::new();
        for used in self.rows().asset_uses().await? {
            if used.open {
                begun.insert(used.asset, used.job);
            }
            if let Some(budget) = used.group.and_then(|group| budgets.of_group.get(&group.0)) {
                let newest = users.entry(used.asset).or_default().entry(*budget).or_insert(used.job);
                *newest = used.job.max(*newest);
            }
        }
        let fact = |version: &AssetVersion| {
            let is_newest = newest.get(&version.asset).is_some_and(|newest| newest.id == version.id);
            let by_name = is_newest.then(|| needed.get(&version.asset).copied()).flatten();
            AssetFact {
                id: version.id.0,
                asset: version.asset.clone(),
                bytes: version.blob.size,
                used_at: version.used_at.unwrap_or(version.created_at).max(version.created_at),
                fixed: version.fixed && is_newest,
                needed_by: begun.get(&version.id).copied().or(by_name),
                users: users.get(&version.id).cloned().unwrap_or_default(),
            }
        };
        Ok(AssetFacts {
            budgets: budgets.all,
            assets: versions.iter().map(fact).collect(),
            untracked: UNTRACKED,
        })
    }
}

/// The budgets of groups: a parent group's for all its groups, if it has one, else a group's own.
struct Budgets {
    all: Vec<Budget>,
    /// The place of each group's.
    of_group: BTreeMap<i64, usize>,
}

impl Budgets {
    fn of(catalog: &Catalog) -> Self {
        let bytes = |gigabytes: i64| gigabytes.unsigned_abs().saturating_mul(GIGABYTE);
        let mut found = Self { all: Vec::new(), of_group: BTreeMap::new() };
        let mut of_parent = BTreeMap::new();
        for (id, group) in &catalog.groups {
            let parent = group.parent.and_then(|parent| catalog.parents.get(&parent));
            let shared = parent.and_then(|parent| Some((parent, parent.properties.size_limit_gb?)));
            let mut add = |name: String, limit| {
                found.all.push(Budget { name, bytes: bytes(limit) });
                found.all.len() - 1
            };
            let place = if let Some((parent, limit)) = shared {
                *of_parent
                    .entry(parent.id)
                    .or_insert_with(|| add(format!("parent group {}", parent.name), limit))
            } else {
                let limit = group.properties.size_limit_gb.unwrap_or(DEFAULT_GIGABYTES);
                add(format!("group {}", group.name), limit)
            };
            found.of_group.insert(*id, place);
        }
        found
    }
}

/// The names that open jobs will look for, and one job for each.
fn needed_by(open: &[StoredJob], newest: &BTreeMap<&AssetKey, &AssetVersion>) -> BTreeMap<AssetKey, JobId> {
    let mut needed = BTreeMap::new();
    for job in open {
        let parents = parents(&job.row);
        for read in reads(plain(job)) {
            let names = candidates(&read.asset, &parents);
            if let Some(found) = names.into_iter().find(|name| newest.contains_key(name)) {
                needed.entry(found).or_insert(job.row.id);
            }
        }
    }
    needed
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_store::{Group, GroupProperties, ParentGroup};

    #[test]
    fn groups_of_a_parent_with_a_limit_share_it() {
        let mut catalog = Catalog::default();
        let limit = |size_limit_gb| GroupProperties { size_limit_gb, ..GroupProperties::default() };
        for (id, size) in [(1, Some(10)), (2, None)] {
            let parent =
                ParentGroup { id, name: format!("P{id}"), properties: limit(size), ..ParentGroup::default() };
            catalog.parents.insert(id, Arc::new(parent));
        }
        for (id, parent, size) in [
            (1, Some(1), Some(5)),
            (2, Some(1), None),
            (3, Some(2), Some(7)),
            (4, None, None),
            (5, Some(9), Some(0)),
        ] {
            let name = format!("G{id}");
            let group = Group { id, parent, name, properties: limit(size), ..Group::default() };
            catalog.groups.insert(id, Arc::new(group));
        }
        let found = Budgets::of(&catalog);
        let told = |id: i64| {
            let budget = &found.all[found.of_group[&id]];
            format!("{} {}", budget.name, budget.bytes >> 30)
        };
        assert_eq!(
            [1, 2, 3, 4, 5].map(told),
            ["parent group P1 10", "parent group P1 10", "group G3 7", "group G4 100", "group G5 0"]
        );
        assert_eq!(found.all.len(), 4);
    }
}
