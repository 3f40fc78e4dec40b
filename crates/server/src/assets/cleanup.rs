//! Cleaning: gathers the facts, has them judged ([`assay_engine::assets::retention`]), and carries the verdicts out.

use super::{Assets, parents, plain};
use crate::app::App;
use assay_engine::assets::retention::{self, AssetFact, AssetFacts, Budget, Days};
use assay_engine::assets::{AssetKey, candidates, reads};
use assay_engine::ids::JobId;
use assay_engine::job::StateWord;
use assay_proto::api::assets::{CleanupReport, CleanupVerdict};
use assay_store::{AssetVersion, JobFilter, StoreError, StoredJob};
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
/// Jobs in one question.
const PAGE: u32 = 1000;

/// Cleans until the server stops.
pub(crate) async fn watch(app: Arc<App>) {
    let mut wait = FIRST;
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = app.shutdown.cancelled() => return,
        }
        wait = EVERY;
        match app.clean(false).await {
            Ok(report) if report.verdicts.iter().any(|verdict| !verdict.keep) => {
                tracing::info!(bytes = report.bytes, "assets were cleaned");
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "assets could not be cleaned"),
        }
    }
}

impl App {
    /// Removes what has had its time; `dry_run` only says so.
    pub(crate) async fn clean(&self, dry_run: bool) -> Result<CleanupReport, StoreError> {
        let versions = self.assets.rows().assets().await?;
        let open = self.open_jobs().await?;
        let facts = self.assets.facts(&versions, &open).await?;
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

    async fn open_jobs(&self) -> Result<Vec<StoredJob>, StoreError> {
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
    async fn facts(&self, versions: &[AssetVersion], open: &[StoredJob]) -> Result<AssetFacts, StoreError> {
        let mut newest: BTreeMap<&AssetKey, &AssetVersion> = BTreeMap::new();
        for version in versions {
            let known = newest.entry(&version.asset).or_insert(version);
            if known.id < version.id {
                *known = version;
            }
        }
        let needed = needed_by(open, &newest);
        let uses = self.rows().asset_uses().await?;
        let uses: BTreeMap<_, _> = uses.into_iter().map(|used| (used.asset, used)).collect();
        let budgets: Vec<Budget> = Vec::new();
        let fact = |version: &AssetVersion| {
            let is_newest = newest.get(&version.asset).is_some_and(|newest| newest.id == version.id);
            let used = uses.get(&version.id);
            let begun = used.filter(|used| used.open).map(|used| used.job);
            let by_name = is_newest.then(|| needed.get(&version.asset).copied()).flatten();
            AssetFact {
                id: version.id.0,
                asset: version.asset.clone(),
                bytes: version.blob.size,
                used_at: version.used_at.unwrap_or(version.created_at).max(version.created_at),
                fixed: version.fixed && is_newest,
                needed_by: begun.or(by_name),
                users: BTreeMap::new(),
            }
        };
        Ok(AssetFacts { budgets, assets: versions.iter().map(fact).collect(), untracked: UNTRACKED })
    }
}

/// The names that open jobs will look for, and one job for each.
fn needed_by(open: &[StoredJob], newest: &BTreeMap<&AssetKey, &AssetVersion>) -> BTreeMap<AssetKey, JobId> {
    let mut needed = BTreeMap::new();
    for job in open {
        let parents = parents(job);
        for read in reads(plain(job)) {
            let names = candidates(&read.asset, &parents);
            if let Some(found) = names.into_iter().find(|name| newest.contains_key(name)) {
                needed.entry(found).or_insert(job.row.id);
            }
        }
    }
    needed
}
