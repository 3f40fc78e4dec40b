//! Assets: the objects that cross the API. Prose is in `docs/assets.md`.
//!
//! | request | answer |
//! |---|---|
//! | `GET assets?kind=&q=&versions=1` | [`AssetList`], the newest first |
//! | `GET assets/{kind}/{name}` | [`AssetDetail`] |
//! | `GET assets/{kind}/{name}/content?version=ID` | the bytes; `Range` is understood |
//! | `DELETE assets/{kind}/{name}?version=ID` | [`Removed`]; without a version all of them |
//! | `POST assets/{kind}/{name}/fix` ([`FixAsset`]) | [`AssetDetail`] |
//! | `POST assets/uploads` ([`NewUpload`]) | `201` [`UploadState`]; `507` if there is no room |
//! | `GET assets/uploads/{id}` | [`UploadState`]; the header `Upload-Offset` says the same |
//! | `PATCH assets/uploads/{id}` with `Upload-Offset: N` or `Content-Range: bytes N-M/SIZE` | [`UploadState`]; the bytes are on disk. `409` if bytes before them are missing |
//! | `POST assets/uploads/{id}/complete` | `201` [`Asset`]; `422` if the hash is another one than was announced |
//! | `DELETE assets/uploads/{id}` | gives it up |
//! | `POST assets/cleanup` ([`Cleanup`]) | [`CleanupReport`] |
//! | `POST jobs/cleanup` ([`Cleanup`]) | [`CleanupReport`]: of logs, screenshots, results and jobs |
//! | `GET jobs/{id}/assets` | [`JobAssets`]: what the job began with and made |
//!
//! Workers have the uploads and `assets/{sha256}` below `/worker/v1`, and `POST jobs/{id}/assets`, which fixes what a job
//! begins with ([`JobAssets`]).

use assay_engine::assets::{AssetKind, AssetName};
use assay_engine::ids::JobId;
use serde::{Deserialize, Serialize};

/// The most bytes of one piece of an upload.
pub const MAX_PIECE: usize = 16 * 1024 * 1024;

/// The header that says where a piece begins, and how far an upload has come.
pub const UPLOAD_OFFSET: &str = "upload-offset";

/// An upload to begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUpload {
    /// The name, as jobs will give it.
    pub name: AssetName,
    /// The kind; without it what the name's ending says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<AssetKind>,
    /// How many bytes there will be.
    pub size: u64,
    /// Their SHA-256 in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Only for jobs that start after this one, which find it under `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_of: Option<JobId>,
    /// The job that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// The setting of the job that asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
}

/// How far an upload has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadState {
    /// Names the upload.
    pub id: String,
    /// The asset's kind.
    pub kind: AssetKind,
    /// The asset's name; of a private one with the job's number before it.
    pub name: AssetName,
    /// Bytes that were announced.
    pub size: u64,
    /// Bytes that are on the server's disk: where to go on.
    pub offset: u64,
}

/// A version of an asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asset {
    /// The version's number.
    pub id: i64,
    /// The kind.
    pub kind: AssetKind,
    /// The name.
    pub name: AssetName,
    /// Its bytes' SHA-256 in hex.
    pub sha256: String,
    /// How many bytes.
    pub size: u64,
    /// The newest of its name: what jobs that begin now get.
    pub newest: bool,
    /// The name is never cleaned.
    pub fixed: bool,
    /// The job whose it is, if it is private.
    pub private_of: Option<JobId>,
    /// The job that made it.
    pub published_by: Option<JobId>,
    /// When it was published.
    pub created: String,
    /// When a job last began with it.
    pub used: Option<String>,
}

/// Answer to `GET assets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetList {
    /// The newest first.
    pub assets: Vec<Asset>,
}

/// Everything about a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetDetail {
    /// Its versions, the newest first.
    pub versions: Vec<Asset>,
    /// The jobs that used or made the newest one, the newest first.
    pub jobs: Vec<AssetJob>,
}

/// A job that used an asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetJob {
    /// The job.
    pub job: JobId,
    /// `reads` or `publishes`.
    pub role: String,
    /// The setting.
    pub setting: String,
}

/// What is to become of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixAsset {
    /// True: never clean it.
    pub fixed: bool,
}

/// Answer to `DELETE assets/…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Versions that are gone.
    pub removed: Vec<i64>,
    /// Versions that jobs need which have not ended.
    pub kept: Vec<i64>,
}

/// What a job reads or has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobAsset {
    /// The setting that names it.
    pub setting: String,
    /// `reads` or `publishes`.
    pub role: String,
    /// The kind.
    pub kind: AssetKind,
    /// The name; a private one's begins with a job's number.
    pub name: AssetName,
    /// The version; `None` if the server has no asset of that name.
    pub version: Option<AssetContent>,
}

/// The bytes of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetContent {
    /// The version's number.
    pub id: i64,
    /// SHA-256 in hex.
    pub sha256: String,
    /// How many bytes.
    pub size: u64,
}

/// The assets of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobAssets {
    /// By setting.
    pub assets: Vec<JobAsset>,
}

/// A cleaning.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cleanup {
    /// Only say what would go and why the rest stays.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a cleaning comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanupReport {
    /// Nothing was removed.
    pub dry_run: bool,
    /// A verdict about everything.
    pub verdicts: Vec<CleanupVerdict>,
    /// Bytes that went, or would go.
    pub bytes: u64,
}

/// What is said about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanupVerdict {
    /// For example `hdd/disk.qcow2`, or `job 12`.
    pub what: String,
    /// `asset`, `logs`, `screenshots`, `results` or `job`.
    pub part: String,
    /// The version of an asset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// Bytes, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Whether it stays.
    pub keep: bool,
    /// Why: one clause.
    pub why: String,
}
