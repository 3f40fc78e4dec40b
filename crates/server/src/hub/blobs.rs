//! `/worker/v1/blobs/{sha256}`: pictures and needles go up before the steps that name them.

use crate::api;
use crate::app::App;
use crate::fault::Fault;
use assay_store::blobs::Sha256;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use futures_util::StreamExt;
use std::sync::Arc;

/// The largest blob that a worker may store.
const MAX_BLOB: u64 = 256 * 1024 * 1024;

/// `PUT /worker/v1/blobs/{sha256}`: `201` stored, `200` was there already, `422` the bytes have another hash.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    Path(sha): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Fault> {
    let sha: Sha256 = sha.parse()?;
    let too_large = || {
        let error = format!("A blob may have at most {MAX_BLOB} bytes.");
        Fault::new(StatusCode::PAYLOAD_TOO_LARGE, error, "Send less.")
    };
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_BLOB) {
        return Err(too_large());
    }
    if app.blobs.size(sha).await?.is_some() && app.blobs.keep(sha).await? {
        return Ok(StatusCode::OK);
    }
    let mut writer = app.blobs.writer(Some(sha)).await?;
    let mut written = 0;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            Fault::bad(format!("The body broke off after {written} bytes: {error}."), "Send the blob again.")
        })?;
        written += chunk.len() as u64;
        if written > MAX_BLOB {
            return Err(too_large());
        }
        writer.write(&chunk).await?;
    }
    writer.finish().await?;
    Ok(StatusCode::CREATED)
}

/// `GET` and `HEAD /worker/v1/blobs/{sha256}`
pub(crate) async fn get(State(app): State<Arc<App>>, Path(sha): Path<String>) -> Result<Response, Fault> {
    api::serve_blob(&app, &sha).await
}
