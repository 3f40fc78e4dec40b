//! Files that jobs read and that are not here.

use super::parents;
use crate::app::App;
use assay_engine::assets::{AssetKey, candidates, publications, reads};
use assay_engine::ids::JobId;
use assay_engine::rows::JobRow;
use assay_engine::sched::restart::{RestartPlan, RestartRequest, clone_of};
use assay_engine::settings::Settings;
use assay_store::StoreError;
use std::collections::{BTreeMap, BTreeSet};

impl App {
    /// The files that a job reads and that are not here.
    pub(crate) async fn missing_assets(&self, job: &JobRow) -> Result<Vec<String>, StoreError> {
        self.missing(&job.settings.to_settings(), &parents(job), &BTreeSet::new()).await
    }

    /// What jobs with these settings would read, neither here nor among what will be made before.
    async fn missing(
        &self,
        settings: &Settings,
        parents: &[JobId],
        made: &BTreeSet<String>,
    ) -> Result<Vec<String>, StoreError> {
        let plain = settings.0.iter().map(|(name, setting)| (name.as_str(), setting.value.as_str()));
        // What has an address is fetched before the job begins.
        let fetched = |setting: &str| settings.0.contains_key(&format!("{setting}_URL"));
        let mut missing = Vec::new();
        for read in reads(plain).into_iter().filter(|read| read.is_fetched() && !fetched(&read.setting)) {
            let there = made.contains(read.asset.name.as_str())
                || self.is_here(&candidates(&read.asset, parents)).await?;
            let name = read.asset.to_string();
            if !there && !missing.contains(&name) {
                missing.push(name);
            }
        }
        Ok(missing)
    }

    async fn is_here(&self, candidates: &[AssetKey]) -> Result<bool, StoreError> {
        for asset in candidates {
            if !self.store.assets().asset(asset).await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A sentence for each job of a plan whose clone would read files that are not here and that no other clone makes.
    pub(crate) async fn missing_in_plan(
        &self,
        plan: &RestartPlan,
        request: &RestartRequest,
    ) -> Result<Vec<String>, StoreError> {
        let mut clones = Vec::new();
        for clone in &plan.clones {
            let Some(job) = self.store.job(clone.job.job).await? else { continue };
            // A setting that cannot be is refused elsewhere.
            let Ok(new) = clone_of(&job.row, request) else { continue };
            clones.push((clone, job.row, new.settings));
        }
        let made: BTreeMap<JobId, BTreeSet<String>> =
            clones.iter().map(|(_, row, settings)| (row.id, makes(settings))).collect();
        let mut sentences = Vec::new();
        for (clone, row, settings) in &clones {
            let parents = parents(row);
            let before = parents.iter().filter_map(|parent| made.get(parent)).flatten().cloned().collect();
            let missing = self.missing(settings, &parents, &before).await?;
            if !missing.is_empty() {
                let (files, are) = if missing.len() == 1 { ("The file", "is") } else { ("The files", "are") };
                let (job, label, names) = (clone.job.job, &clone.job.label, missing.join(", "));
                sentences.push(format!(
                    "{files} {names} {are} not here, and job {job} ({label}) reads {0}: unless CASEDIR brings {0} along, upload \
                     {0} before its clone begins.",
                    if missing.len() == 1 { "it" } else { "them" }
                ));
            }
        }
        Ok(sentences)
    }
}

/// The names that a job with these settings publishes.
fn makes(settings: &Settings) -> BTreeSet<String> {
    let plain = settings.0.iter().map(|(name, setting)| (name.clone(), setting.value.clone())).collect();
    let names = publications(&plain).unwrap_or_default().into_iter();
    names.map(|publication| publication.name.as_str().to_owned()).collect()
}
