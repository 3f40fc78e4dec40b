//! Assets: uploads, versions, and what a job begins with.
//!
//! An upload grows as a file; completed, its bytes become a blob and its row in one transaction the newest version of
//! its name. Versions do not change, so that two jobs that publish one name are two versions and nothing between.

mod cleanup;
mod missing;
mod present;

pub(crate) use cleanup::{clean_every, watch};
pub(crate) use present::asset;

use crate::app::App;
use crate::fault::Fault;
use assay_engine::assets::{AssetKey, AssetKind, candidates, reads};
use assay_engine::ids::{JobId, Timestamp};
use assay_engine::relations::{Parent, Relation};
use assay_engine::rows::JobRow;
use assay_proto::api::assets::{JobAsset, JobAssets, NewUpload, Removed, UploadState};
use assay_store::blobs::{OpenBlob, Sha256};
use assay_store::{
    AssetFiles, AssetId, AssetStore, AssetVersion, Epoch, Store, StoreError, StoredJob, Upload,
};
use axum::http::StatusCode;
use camino::Utf8Path;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What the server does with assets.
pub(crate) struct Assets {
    files: AssetFiles,
    store: Arc<dyn Store>,
    epoch: OnceLock<Epoch>,
    /// Held to read between the moment when a blob is made and that when its row is stored, and to write while blobs
    /// without rows are removed.
    placing: tokio::sync::RwLock<()>,
    /// Of one upload one piece at a time.
    turns: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Assets {
    pub(crate) fn open(data: &Utf8Path, store: Arc<dyn Store>) -> Result<Self, StoreError> {
        Ok(Self {
            files: AssetFiles::open(data)?,
            store,
            epoch: OnceLock::new(),
            placing: tokio::sync::RwLock::default(),
            turns: Mutex::default(),
        })
    }

    /// This process leads now: removes what an earlier one left half done.
    pub(crate) async fn lead(&self, epoch: Epoch) -> Result<(), StoreError> {
        let _ = self.epoch.set(epoch);
        self.files.sweep(&self.rows().uploads().await?).await?;
        let known: BTreeSet<Sha256> =
            self.rows().assets().await?.iter().map(|version| version.blob.sha256).collect();
        for sha in self.files.stored().await? {
            if !known.contains(&sha) {
                self.files.remove(sha).await?;
            }
        }
        Ok(())
    }

    fn rows(&self) -> &dyn AssetStore {
        self.store.assets()
    }

    fn epoch(&self) -> Result<Epoch, StoreError> {
        self.epoch.get().copied().ok_or(StoreError::Stopped)
    }

    fn turn(&self, id: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(id.to_owned()).or_default().clone()
    }

    async fn known(&self, id: &str) -> Result<Upload, StoreError> {
        let gone = || StoreError::NoUpload { upload: id.chars().take(40).collect() };
        self.rows().upload(id).await?.ok_or_else(gone)
    }

    /// Begins an upload; refused if there is no room for it.
    pub(crate) async fn begin(&self, new: NewUpload, at: Timestamp) -> Result<UploadState, Fault> {
        let sha256 = new.sha256.as_deref().map(str::parse).transpose()?;
        let name = match new.private_of {
            Some(job) => new.name.private_of(job),
            None => new.name.clone(),
        };
        let kind = new.kind.unwrap_or_else(|| AssetKind::of_file(new.name.as_str()));
        let upload = Upload {
            id: uuid::Uuid::new_v4().simple().to_string(),
            asset: AssetKey { kind, name },
            size: new.size,
            sha256,
            private_of: new.private_of,
            by: new.job.map(|job| (job, new.setting.unwrap_or_default())),
            created_at: at,
        };
        self.files.begin(&upload).await?;
        self.rows().begin_upload(self.epoch()?, &upload).await?;
        Ok(state(&upload, 0))
    }

    /// How far an upload has come.
    pub(crate) async fn progress(&self, id: &str) -> Result<UploadState, StoreError> {
        let upload = self.known(id).await?;
        Ok(state(&upload, self.files.length(id).await?))
    }

    /// Adds a piece.
    pub(crate) async fn append(
        &self,
        id: &str,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<UploadState, StoreError> {
        let turn = self.turn(id);
        let _mine = turn.lock().await;
        let upload = self.known(id).await?;
        let offset = self.files.append(&upload, offset, bytes).await?;
        Ok(state(&upload, offset))
    }

    /// Checks the bytes and publishes them.
    pub(crate) async fn complete(&self, id: &str, at: Timestamp) -> Result<AssetVersion, StoreError> {
        let turn = self.turn(id);
        let _mine = turn.lock().await;
        let upload = self.known(id).await?;
        let placing = self.placing.read().await;
        let blob = self.files.finish(&upload).await?;
        let version = self.rows().publish(self.epoch()?, &upload, blob, at).await?;
        drop(placing);
        self.files.abandon(id).await?;
        Ok(version)
    }

    /// The versions of a name, the newest first.
    pub(crate) async fn versions(&self, asset: &AssetKey) -> Result<Vec<AssetVersion>, StoreError> {
        self.rows().asset(asset).await
    }

    /// Publishes a file of the data directory, which is gone then.
    pub(crate) async fn import(
        &self,
        asset: &AssetKey,
        file: &Utf8Path,
        at: Timestamp,
    ) -> Result<AssetVersion, StoreError> {
        let size = fs_err::tokio::metadata(file).await.map_err(StoreError::File)?.len();
        let upload = Upload {
            id: uuid::Uuid::new_v4().simple().to_string(),
            asset: asset.clone(),
            size,
            sha256: None,
            private_of: None,
            by: None,
            created_at: at,
        };
        self.rows().begin_upload(self.epoch()?, &upload).await?;
        self.files.place(&upload, file).await?;
        self.complete(&upload.id, at).await
    }

    /// Gives an upload up.
    pub(crate) async fn abandon(&self, id: &str) -> Result<(), StoreError> {
        let turn = self.turn(id);
        let _mine = turn.lock().await;
        self.known(id).await?;
        self.rows().end_upload(self.epoch()?, id).await?;
        self.files.abandon(id).await
    }

    /// Removes versions, except those that open jobs began with, and the bytes that no other version has.
    pub(crate) async fn remove(&self, versions: &[AssetVersion]) -> Result<Removed, StoreError> {
        let ids: Vec<AssetId> = versions.iter().map(|version| version.id).collect();
        let gone = self.rows().remove_assets(self.epoch()?, &ids).await?;
        let _alone = self.placing.write().await;
        for version in versions.iter().filter(|version| gone.contains(&version.id)) {
            if !self.rows().is_asset_blob(version.blob.sha256).await? {
                self.files.remove(version.blob.sha256).await?;
            }
        }
        let kept = ids.iter().filter(|id| !gone.contains(id)).map(|id| id.0).collect();
        Ok(Removed { removed: gone.iter().map(|id| id.0).collect(), kept })
    }

    /// The size of the newest version of each name.
    pub(crate) async fn sizes(&self) -> Result<BTreeMap<AssetKey, u64>, StoreError> {
        let versions = self.rows().assets().await?;
        // The newest comes first, so it is entered last.
        Ok(versions.into_iter().rev().map(|version| (version.asset, version.blob.size)).collect())
    }

    /// Says whether a name is never cleaned; false if there is no such asset.
    pub(crate) async fn fix(&self, asset: &AssetKey, fixed: bool) -> Result<bool, StoreError> {
        self.rows().fix_asset(self.epoch()?, asset, fixed).await
    }

    /// The bytes of a version.
    pub(crate) async fn content(&self, sha256: Sha256) -> Result<Option<OpenBlob>, StoreError> {
        self.files.get(sha256).await
    }

    /// What a job begins with: fixed the first time, the same ever after.
    pub(crate) async fn pin(&self, job: &StoredJob, at: Timestamp) -> Result<JobAssets, StoreError> {
        let parents = parents(&job.row);
        let wanted: Vec<_> =
            reads(plain(job)).into_iter().filter(assay_engine::assets::Read::is_fetched).collect();
        let names: Vec<_> =
            wanted.iter().map(|read| (read.setting.clone(), candidates(&read.asset, &parents))).collect();
        let found = if names.is_empty() {
            Vec::new()
        } else {
            self.rows().pin(self.epoch()?, job.row.id, &names, at).await?
        };
        let found: BTreeMap<_, _> = found.into_iter().map(|used| (used.setting.clone(), used)).collect();
        let assets = wanted.into_iter().map(|read| match found.get(&read.setting) {
            Some(used) => present::job_asset(used),
            None => JobAsset {
                setting: read.setting,
                role: assay_store::AssetRole::Reads.word().to_owned(),
                kind: read.asset.kind,
                name: read.asset.name,
                version: None,
            },
        });
        Ok(JobAssets { assets: assets.collect() })
    }

    /// What a job began with and made.
    pub(crate) async fn of_job(&self, job: JobId) -> Result<JobAssets, StoreError> {
        let used = self.rows().job_assets(job).await?;
        Ok(JobAssets { assets: used.iter().map(present::job_asset).collect() })
    }
}

fn state(upload: &Upload, offset: u64) -> UploadState {
    let AssetKey { kind, name } = upload.asset.clone();
    UploadState { id: upload.id.clone(), kind, name, size: upload.size, offset }
}

/// A job's settings as they are given.
fn plain(job: &StoredJob) -> impl Iterator<Item = (&str, &str)> {
    job.row.settings.iter().map(|(name, setting)| (name, setting.value.as_str()))
}

/// The jobs whose private assets this one finds under their plain names.
fn parents(job: &JobRow) -> Vec<JobId> {
    let before = |parent: &&Parent| parent.relation != Relation::Parallel;
    job.parents.iter().filter(before).map(|parent| parent.job).collect()
}

impl App {
    /// An asset is there: what jobs need that read it is known now.
    pub(crate) async fn published(&self, version: &AssetVersion) {
        let size = BTreeMap::from([(version.asset.clone(), version.blob.size)]);
        self.engine.tell(assay_engine::io::Input::AssetSizes(size)).await;
    }

    /// Refuses what a worker says of a job that it cannot have.
    pub(crate) async fn running_job(&self, id: JobId) -> Result<StoredJob, Fault> {
        let job = self.store.job(id).await?.ok_or_else(|| Fault::no_job(id))?;
        if job.row.active_attempt().is_none() {
            return Err(Fault::new(
                StatusCode::CONFLICT,
                format!("No worker has job {id} now."),
                "Only the worker that has a job may begin it and publish what it made.",
            ));
        }
        Ok(job)
    }
}
