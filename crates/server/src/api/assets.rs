//! Assets; the objects and the table of requests are `assay_proto::api::assets`.

use super::{job_id, jobs, range};
use crate::app::App;
use crate::assets::asset;
use crate::auth::{Admin, Sender};
use crate::fault::Fault;
use assay_engine::assets::{AssetKey, AssetKind};
use assay_proto::api::assets::{
    Asset, AssetDetail, AssetJob, AssetList, Cleanup, CleanupReport, FixAsset, JobAssets, MAX_PIECE,
    NewUpload, Removed, UPLOAD_OFFSET, UploadState,
};
use assay_store::AssetVersion;
use assay_store::StoreError;
use assay_store::blobs::{OpenBlob, Sha256};
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Extension, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::SeekFrom;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// Bytes that are read at once.
const BUFFER: usize = 256 * 1024;
/// Jobs that are shown of a version.
const JOBS: u32 = 50;

/// For people and programs.
pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/assets", get(list))
        .route("/assets/uploads", post(begin))
        .route("/assets/cleanup", post(cleanup))
        .route("/jobs/cleanup", post(clean_jobs))
        .route("/assets/{kind}/{name}", get(show).delete(remove))
        .route("/assets/{kind}/{name}/content", get(content))
        .route("/assets/{kind}/{name}/fix", post(fix))
        .route("/jobs/{id}/assets", get(of_job))
        .merge(uploads())
}

/// For workers.
pub(crate) fn worker_router() -> Router<Arc<App>> {
    Router::new()
        .route("/assets/uploads", post(begin_for_job))
        .route("/assets/blobs/{sha256}", get(blob))
        .route("/jobs/{id}/assets", post(pin))
        .merge(uploads())
}

fn uploads() -> Router<Arc<App>> {
    Router::new()
        .route("/assets/uploads/{id}", get(progress).patch(append).delete(abandon))
        .route("/assets/uploads/{id}/complete", post(complete))
        .layer(DefaultBodyLimit::max(MAX_PIECE))
}

#[derive(Debug, Default, Deserialize)]
struct ListQuery {
    kind: Option<AssetKind>,
    q: Option<String>,
    #[serde(default)]
    versions: u8,
}

async fn list(State(app): State<Arc<App>>, Query(query): Query<ListQuery>) -> Result<Json<AssetList>, Fault> {
    let wanted = query.q.unwrap_or_default().to_lowercase();
    let mut names = BTreeSet::new();
    let mut assets = Vec::new();
    for version in app.store.assets().assets().await? {
        let newest = names.insert(version.asset.clone());
        let fits = query.kind.is_none_or(|kind| kind == version.asset.kind)
            && version.asset.name.as_str().to_lowercase().contains(&wanted);
        if fits && (newest || query.versions > 0) {
            assets.push(asset(&version, newest));
        }
    }
    Ok(Json(AssetList { assets }))
}

#[derive(Debug, Default, Deserialize)]
struct VersionQuery {
    version: Option<i64>,
}

/// The versions of the asset in an address, at least one.
async fn versions(app: &App, kind: &str, name: &str) -> Result<Vec<AssetVersion>, Fault> {
    let none = || {
        Fault::not_found(
            format!("There is no asset {kind}/{name}."),
            "`assay asset list` shows those that there are; kinds are iso, hdd, repo and other.",
        )
    };
    let kind = AssetKind::from_word(kind).ok_or_else(none)?;
    let name = name.parse().map_err(|_| none())?;
    let versions = app.store.assets().asset(&AssetKey { kind, name }).await?;
    if versions.is_empty() { Err(none()) } else { Ok(versions) }
}

/// The version of that number, or the newest.
fn chosen(versions: &[AssetVersion], number: Option<i64>) -> Result<&AssetVersion, Fault> {
    let found = versions.iter().find(|version| number.is_none_or(|number| version.id.0 == number));
    found.ok_or_else(|| {
        let error = format!("There is no version {} of this asset.", number.unwrap_or_default());
        Fault::not_found(error, "`assay asset show` shows the versions that there are.")
    })
}

async fn detail(app: &App, versions: Vec<AssetVersion>) -> Result<Json<AssetDetail>, Fault> {
    let jobs = match versions.first() {
        Some(newest) => app.store.assets().asset_jobs(newest.id, JOBS).await?,
        None => Vec::new(),
    };
    let job = |used: assay_store::JobAsset| AssetJob {
        job: used.job,
        role: used.role.word().to_owned(),
        setting: used.setting,
    };
    let versions = versions.iter().enumerate().map(|(place, version)| asset(version, place == 0));
    Ok(Json(AssetDetail { versions: versions.collect(), jobs: jobs.into_iter().map(job).collect() }))
}

async fn show(
    State(app): State<Arc<App>>,
    Path((kind, name)): Path<(String, String)>,
) -> Result<Json<AssetDetail>, Fault> {
    detail(&app, versions(&app, &kind, &name).await?).await
}

async fn fix(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path((kind, name)): Path<(String, String)>,
    Json(wanted): Json<FixAsset>,
) -> Result<Json<AssetDetail>, Fault> {
    let found = versions(&app, &kind, &name).await?;
    app.assets.fix(&found[0].asset, wanted.fixed).await?;
    let asset = found[0].asset.to_string();
    app.audit(&admin.0.name, "asset_update", json!({ "asset": asset, "fixed": wanted.fixed }));
    detail(&app, versions(&app, &kind, &name).await?).await
}

async fn remove(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path((kind, name)): Path<(String, String)>,
    Query(query): Query<VersionQuery>,
) -> Result<Json<Removed>, Fault> {
    let mut found = versions(&app, &kind, &name).await?;
    if query.version.is_some() {
        found = vec![chosen(&found, query.version)?.clone()];
    }
    let removed = app.assets.remove(&found).await?;
    if removed.removed.is_empty() {
        return Err(Fault::new(
            StatusCode::CONFLICT,
            format!("A job that has not ended needs {kind}/{name}."),
            "Wait for it, or cancel it; `assay asset show` names the jobs.",
        ));
    }
    let gone = json!({ "asset": format!("{kind}/{name}"), "versions": removed.removed });
    app.audit(&admin.0.name, "asset_delete", gone);
    Ok(Json(removed))
}

async fn content(
    State(app): State<Arc<App>>,
    Path((kind, name)): Path<(String, String)>,
    Query(query): Query<VersionQuery>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let found = versions(&app, &kind, &name).await?;
    serve(&app, chosen(&found, query.version)?.blob.sha256, &headers).await
}

async fn blob(
    State(app): State<Arc<App>>,
    Path(sha): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    serve(&app, sha.parse()?, &headers).await
}

/// The bytes, or those of them that the headers ask for.
pub(crate) async fn serve(app: &App, sha: Sha256, headers: &HeaderMap) -> Result<Response, Fault> {
    let Some(OpenBlob { size, mut reader }) = app.assets.content(sha).await? else {
        return Err(Fault::not_found(
            format!("The bytes {sha} are not here any more."),
            "The asset was removed; publish it again, and restart the job.",
        ));
    };
    let wanted = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let (status, start, end) = match range::wanted(wanted, size) {
        range::Wanted::All => (StatusCode::OK, 0, size),
        range::Wanted::Part { start, end } => (StatusCode::PARTIAL_CONTENT, start, end),
        range::Wanted::Nothing => {
            let place = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, place).into_response());
        }
    };
    reader.seek(SeekFrom::Start(start)).await.map_err(StoreError::File)?;
    let bytes = tokio_util::io::ReaderStream::with_capacity(reader.take(end - start), BUFFER);
    let mut fields = HeaderMap::new();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    fields.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    fields.insert(header::CONTENT_LENGTH, (end - start).into());
    let tag = format!("\"{sha}\"").parse::<HeaderValue>();
    let place = format!("bytes {start}-{}/{size}", end.saturating_sub(1)).parse::<HeaderValue>();
    if let (Ok(tag), Ok(place)) = (tag, place) {
        fields.insert(header::ETAG, tag);
        if status == StatusCode::PARTIAL_CONTENT {
            fields.insert(header::CONTENT_RANGE, place);
        }
    }
    Ok((status, fields, Body::from_stream(bytes)).into_response())
}

async fn begin(
    State(app): State<Arc<App>>,
    Json(new): Json<NewUpload>,
) -> Result<(StatusCode, Json<UploadState>), Fault> {
    for job in [new.private_of, new.job].into_iter().flatten() {
        jobs::stored(&app, job).await?;
    }
    Ok((StatusCode::CREATED, Json(app.assets.begin(new, app.clock.now()).await?)))
}

async fn begin_for_job(
    State(app): State<Arc<App>>,
    Json(new): Json<NewUpload>,
) -> Result<(StatusCode, Json<UploadState>), Fault> {
    let Some(job) = new.job.filter(|job| new.private_of.is_none_or(|private| private == *job)) else {
        return Err(Fault::bad("A worker publishes for one of its jobs only.", "Give `job`."));
    };
    app.running_job(job).await?;
    Ok((StatusCode::CREATED, Json(app.assets.begin(new, app.clock.now()).await?)))
}

/// The state with its offset as a header, too, so that `HEAD` is enough to go on.
fn with_offset(state: UploadState) -> Response {
    let offset = [(UPLOAD_OFFSET, state.offset.to_string())];
    (offset, [(header::CACHE_CONTROL, "no-store")], Json(state)).into_response()
}

async fn progress(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response, Fault> {
    Ok(with_offset(app.assets.progress(&id).await?))
}

async fn append(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Fault> {
    let offset = offset_of(&headers, body.len() as u64).ok_or_else(|| {
        Fault::bad(
            "The request does not say where its bytes begin.",
            "Send `Upload-Offset: N`, or `Content-Range: bytes N-M/SIZE` that fits the body.",
        )
    })?;
    Ok(with_offset(app.assets.append(&id, offset, body.into()).await?))
}

/// Where a piece of `length` bytes begins.
fn offset_of(headers: &HeaderMap, length: u64) -> Option<u64> {
    if let Some(offset) = headers.get(UPLOAD_OFFSET) {
        return offset.to_str().ok()?.parse().ok();
    }
    let range = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (first, last) = range.strip_prefix("bytes ")?.split_once('/')?.0.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (last.checked_add(1)?.checked_sub(first)? == length).then_some(first)
}

async fn complete(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Asset>), Fault> {
    let version = app.assets.complete(&id, app.clock.now()).await?;
    app.published(&version).await;
    // What a job publishes is in its record.
    if sender.is_operator() {
        let told = json!({"asset": version.asset.to_string(), "version": version.id.0});
        app.audit(&sender.name, "asset_register", told);
    }
    tracing::info!(asset = %version.asset, version = version.id.0, size = version.blob.size, "published");
    Ok((StatusCode::CREATED, Json(asset(&version, true))))
}

async fn abandon(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    app.assets.abandon(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn cleanup(
    admin: Admin,
    State(app): State<Arc<App>>,
    Json(wanted): Json<Cleanup>,
) -> Result<Json<CleanupReport>, Fault> {
    let report = app.clean(wanted.dry_run).await?;
    if !wanted.dry_run {
        app.audit(&admin.0.name, "asset_cleanup", json!({}));
    }
    Ok(Json(report))
}

async fn clean_jobs(
    admin: Admin,
    State(app): State<Arc<App>>,
    Json(wanted): Json<Cleanup>,
) -> Result<Json<CleanupReport>, Fault> {
    let report = app.clean_jobs(wanted.dry_run).await?;
    if !wanted.dry_run {
        app.audit(&admin.0.name, "job_cleanup", json!({}));
    }
    Ok(Json(report))
}

async fn of_job(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<JobAssets>, Fault> {
    let id = job_id(&id)?;
    jobs::stored(&app, id).await?;
    Ok(Json(app.assets.of_job(id).await?))
}

async fn pin(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<JobAssets>, Fault> {
    let job = app.running_job(job_id(&id)?).await?;
    Ok(Json(app.assets.pin(&job, app.clock.now()).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_piece_begins() {
        for (name, value, length, expected) in [
            (UPLOAD_OFFSET, "0", 5, Some(0)),
            (UPLOAD_OFFSET, "18446744073709551615", 5, Some(u64::MAX)),
            (UPLOAD_OFFSET, "-1", 5, None),
            ("content-range", "bytes 5-9/10", 5, Some(5)),
            ("content-range", "bytes 5-9/*", 5, Some(5)),
            ("content-range", "bytes 5-9/10", 4, None),
            ("content-range", "bytes 9-5/10", 5, None),
            ("content-range", "bytes 0-18446744073709551615/10", 0, None),
            ("content-range", "bytes */10", 5, None),
            ("range", "bytes=0-4", 5, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap());
            assert_eq!(offset_of(&headers, length), expected, "{name}: {value}");
        }
    }
}
