//! Assets: their versions, which job used which, and uploads in progress. The bytes are in [`AssetFiles`].

mod files;
mod queries;

pub use files::AssetFiles;

use crate::blobs::{BlobRef, Sha256};
use crate::error::StoreError;
use crate::types::Epoch;
use assay_engine::assets::AssetKey;
use assay_engine::ids::{GroupId, JobId, Timestamp};

/// A version's number: greater for later ones, over all names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssetId(pub i64);

/// A version of an asset. It never changes; a new one takes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssetVersion {
    /// Its number.
    pub id: AssetId,
    /// Kind and name; a private one's name begins with its job's number.
    pub asset: AssetKey,
    /// The bytes.
    pub blob: BlobRef,
    /// The job whose it is, if it is private.
    pub private_of: Option<JobId>,
    /// The job that made it.
    pub published_by: Option<JobId>,
    /// The name is never cleaned.
    pub fixed: bool,
    /// When it was published.
    pub created_at: Timestamp,
    /// When a job last began with it.
    pub used_at: Option<Timestamp>,
}

/// What is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Names the upload; 32 hex digits.
    pub id: String,
    /// Kind and name, as it will be called.
    pub asset: AssetKey,
    /// How many bytes there will be.
    pub size: u64,
    /// Their hash, if it was announced.
    pub sha256: Option<Sha256>,
    /// The job whose it will be, if it is private.
    pub private_of: Option<JobId>,
    /// The job that makes it, and the setting that asks for it.
    pub by: Option<(JobId, String)>,
    /// When it was begun.
    pub created_at: Timestamp,
}

/// What a job does with an asset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AssetRole {
    /// It began with it.
    Reads,
    /// It made it.
    Publishes,
}

impl AssetRole {
    /// The word that is stored.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Publishes => "publishes",
        }
    }

    /// The role that `word` names.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Reads, Self::Publishes].into_iter().find(|role| role.word() == word)
    }
}

/// A version that a job used; known even after the version is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobAsset {
    /// The job.
    pub job: JobId,
    /// What it did with it.
    pub role: AssetRole,
    /// The setting that named it.
    pub setting: String,
    /// The version.
    pub id: AssetId,
    /// Its kind and name.
    pub asset: AssetKey,
    /// Its bytes.
    pub blob: BlobRef,
}

/// The newest job of a group that used a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssetUse {
    /// The version.
    pub asset: AssetId,
    /// The group; none for jobs without one.
    pub group: Option<GroupId>,
    /// The job.
    pub job: JobId,
    /// A job of the group that used it has not ended.
    pub open: bool,
}

/// What is stored of assets. Whoever writes must lead, as in [`crate::Store::commit`].
#[async_trait::async_trait]
pub trait AssetStore: Send + Sync {
    /// Every version, the newest first.
    async fn assets(&self) -> Result<Vec<AssetVersion>, StoreError>;

    /// The versions of a name, the newest first.
    async fn asset(&self, asset: &AssetKey) -> Result<Vec<AssetVersion>, StoreError>;

    /// Begins an upload.
    async fn begin_upload(&self, epoch: Epoch, upload: &Upload) -> Result<(), StoreError>;

    /// An upload in progress.
    async fn upload(&self, id: &str) -> Result<Option<Upload>, StoreError>;

    /// All uploads in progress, the oldest first.
    async fn uploads(&self) -> Result<Vec<Upload>, StoreError>;

    /// Gives an upload up; false if there is none.
    async fn end_upload(&self, epoch: Epoch, id: &str) -> Result<bool, StoreError>;

    /// Publishes what was uploaded, and ends the upload: both or nothing. [`StoreError::NoUpload`] if it has ended.
    async fn publish(
        &self,
        epoch: Epoch,
        upload: &Upload,
        blob: BlobRef,
        at: Timestamp,
    ) -> Result<AssetVersion, StoreError>;

    /// A job begins: each setting gets the newest version of the first of its names that there is, and keeps it however
    /// often the job begins again. Settings for which there is nothing are left out.
    async fn pin(
        &self,
        epoch: Epoch,
        job: JobId,
        reads: &[(String, Vec<AssetKey>)],
        at: Timestamp,
    ) -> Result<Vec<JobAsset>, StoreError>;

    /// What a job used and made.
    async fn job_assets(&self, job: JobId) -> Result<Vec<JobAsset>, StoreError>;

    /// The jobs that used or made a version, the newest first.
    async fn asset_jobs(&self, asset: AssetId, limit: u32) -> Result<Vec<JobAsset>, StoreError>;

    /// Of every version and group: the newest job that used it, and whether one has not ended.
    async fn asset_uses(&self) -> Result<Vec<AssetUse>, StoreError>;

    /// Says whether a name is never to be cleaned; false if there is no such asset.
    async fn fix_asset(&self, epoch: Epoch, asset: &AssetKey, fixed: bool) -> Result<bool, StoreError>;

    /// Removes versions, except those with which a job that has not ended began. Those that are gone now.
    async fn remove_assets(&self, epoch: Epoch, assets: &[AssetId]) -> Result<Vec<AssetId>, StoreError>;

    /// True if a version has these bytes.
    async fn is_asset_blob(&self, sha256: Sha256) -> Result<bool, StoreError>;
}
