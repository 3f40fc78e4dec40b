//! Rows as the API tells them.

use crate::web::frame::rfc3339;
use assay_proto::api::assets::{Asset, AssetContent, JobAsset};
use assay_store::AssetVersion;

/// A version; `newest`: what jobs that begin now get under its name.
pub(crate) fn asset(version: &AssetVersion, newest: bool) -> Asset {
    Asset {
        id: version.id.0,
        kind: version.asset.kind,
        name: version.asset.name.clone(),
        sha256: version.blob.sha256.to_string(),
        size: version.blob.size,
        newest,
        fixed: version.fixed,
        private_of: version.private_of,
        published_by: version.published_by,
        created: rfc3339(version.created_at),
        used: version.used_at.map(rfc3339),
    }
}

/// What a job used.
pub(super) fn job_asset(used: &assay_store::JobAsset) -> JobAsset {
    JobAsset {
        setting: used.setting.clone(),
        role: used.role.word().to_owned(),
        kind: used.asset.kind,
        name: used.asset.name.clone(),
        version: Some(AssetContent {
            id: used.id.0,
            sha256: used.blob.sha256.to_string(),
            size: used.blob.size,
        }),
    }
}
