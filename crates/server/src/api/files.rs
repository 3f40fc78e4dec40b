//! Streams and blobs.

use super::{job_id, jobs, range};
use crate::app::App;
use crate::fault::Fault;
use assay_engine::ids::{AttemptId, JobId};
use assay_proto::worker::Stream;
use assay_store::blobs::{OpenBlob, Sha256};
use assay_store::{StoreError, StoredAttempt};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// Bytes of a stream that are read at once.
const PIECE: usize = 64 * 1024;
/// How often to look whether a worker has taken up an attempt.
const LOOK: Duration = Duration::from_millis(500);
/// Blobs up to this size are checked before they are sent, bytes; pictures and needles are.
const CHECKED: u64 = 8 * 1024 * 1024;
/// The largest record that is read as a whole.
pub(crate) const MAX_STEPS: usize = 64 * 1024 * 1024;

#[derive(Debug, Default, Deserialize)]
pub(crate) struct FileQuery {
    pub(crate) attempt: Option<u32>,
    #[serde(default)]
    pub(crate) follow: u8,
    /// Where to begin; for `follow`, which takes no `Range`.
    pub(crate) from: Option<u64>,
    /// So many lines come before that, for pages that number them.
    pub(crate) lines: Option<u64>,
}

/// The attempt of this number, or the last one.
pub(crate) async fn attempt_of(app: &App, job: JobId, number: Option<u32>) -> Result<StoredAttempt, Fault> {
    jobs::stored(app, job).await?;
    let attempts = app.store.attempts(job).await?;
    let found = match number {
        Some(number) => attempts.into_iter().find(|attempt| attempt.row.id.number == number),
        None => attempts.into_iter().next_back(),
    };
    found.ok_or_else(|| match number {
        Some(number) => {
            Fault::not_found(format!("Job {job} has no attempt {number}."), "See the job's page.")
        }
        None => Fault::not_found(format!("Job {job} has not been tried yet."), "Wait until a worker has it."),
    })
}

/// `GET jobs/{id}/steps`
pub(super) async fn steps(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(query): Query<FileQuery>,
) -> Result<Json<Vec<Value>>, Fault> {
    let attempt = attempt_of(&app, job_id(&id)?, query.attempt).await?;
    let bytes = app.read_stream(&attempt, Stream::Steps, 0, MAX_STEPS).await?;
    let whole = bytes.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n"));
    Ok(Json(whole.filter_map(|line| serde_json::from_slice(line).ok()).collect()))
}

/// `GET jobs/{id}/streams/{file}`
pub(super) async fn stream(
    State(app): State<Arc<App>>,
    Path((id, file)): Path<(String, String)>,
    Query(query): Query<FileQuery>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let stream = Stream::ALL.into_iter().find(|stream| stream.file_name() == file).ok_or_else(|| {
        let names: Vec<_> = Stream::ALL.iter().map(|stream| stream.file_name()).collect();
        Fault::not_found(format!("There is no stream {file:?}."), format!("Use one of {}.", names.join(", ")))
    })?;
    serve_stream(app, job_id(&id)?, stream, &query, &headers).await
}

/// A stream, or a part of it, or what it grows by.
pub(crate) async fn serve_stream(
    app: Arc<App>,
    job: JobId,
    stream: Stream,
    query: &FileQuery,
    headers: &HeaderMap,
) -> Result<Response, Fault> {
    let attempt = attempt_of(&app, job, query.attempt).await?;
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    let safe = [(header::CACHE_CONTROL, "no-cache"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    if query.follow > 0 {
        let from = query.from.unwrap_or(0);
        let body = Body::from_stream(followed(app, attempt.row.id, stream, from));
        return Ok((kind, safe, body).into_response());
    }
    let size = app.stream_len(&attempt, stream).await?;
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let (status, start, end) = match range::wanted(range, size) {
        range::Wanted::All => (StatusCode::OK, 0, size),
        range::Wanted::Part { start, end } => (StatusCode::PARTIAL_CONTENT, start, end),
        range::Wanted::Nothing => {
            let place = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, place).into_response());
        }
    };
    let mut response =
        (status, kind, safe, Body::from_stream(piecewise(app, attempt, stream, start, end))).into_response();
    let fields = response.headers_mut();
    fields.insert(header::ACCEPT_RANGES, header::HeaderValue::from_static("bytes"));
    fields.insert(header::CONTENT_LENGTH, (end - start).into());
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(place) = format!("bytes {start}-{}/{size}", end - 1).parse()
    {
        fields.insert(header::CONTENT_RANGE, place);
    }
    Ok(response)
}

/// These bytes of a stream, piece by piece.
fn piecewise(
    app: Arc<App>,
    attempt: StoredAttempt,
    stream: Stream,
    start: u64,
    end: u64,
) -> impl stream::Stream<Item = Result<Bytes, StoreError>> {
    stream::try_unfold((app, attempt, start), move |(app, attempt, at)| async move {
        let want = PIECE.min((end - at) as usize);
        let bytes = if want == 0 { Vec::new() } else { app.read_stream(&attempt, stream, at, want).await? };
        if bytes.is_empty() {
            return Ok(None);
        }
        let next = at + bytes.len() as u64;
        Ok(Some((Bytes::from(bytes), (app, attempt, next))))
    })
}

/// A stream as it grows, until its attempt has ended or the server stops.
pub(crate) fn followed(
    app: Arc<App>,
    id: AttemptId,
    stream: Stream,
    from: u64,
) -> impl stream::Stream<Item = Result<Bytes, StoreError>> {
    stream::try_unfold((app, from), move |(app, at)| async move {
        loop {
            // In this order: an end that is seen before a read finds nothing means that nothing more comes.
            let live = app.live.get(id);
            let mut growth = live.as_ref().map(|live| live.growth());
            let ended = match &live {
                Some(live) => live.has_ended().await,
                None => false,
            };
            let Some(attempt) = app.attempt(id).await? else { return Ok(None) };
            // Without a `Live` the attempt is over, or no worker has taken it up yet.
            let over = ended || live.is_none() && attempt.row.end.is_some();
            let bytes = app.read_stream(&attempt, stream, at, PIECE).await?;
            if !bytes.is_empty() {
                let next = at + bytes.len() as u64;
                return Ok(Some((Bytes::from(bytes), (app, next))));
            }
            if over {
                return Ok(None);
            }
            let more = async {
                match &mut growth {
                    // An error: the `Live` is gone, and the next look finds out why.
                    Some(growth) => drop(growth.changed().await),
                    None => tokio::time::sleep(LOOK).await,
                }
            };
            tokio::select! {
                () = more => {}
                () = app.shutdown.cancelled() => return Ok(None),
            }
        }
    })
}

/// Bytes from which a blob's kind is found.
const KIND_FROM: usize = 1024;

/// How a blob is shown, found from its first bytes: nothing that a browser would run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlobKind {
    Png,
    Text,
    Other,
}

impl BlobKind {
    pub(crate) fn of(start: &[u8]) -> Self {
        if start.starts_with(b"\x89PNG\r\n\x1a\n") {
            return Self::Png;
        }
        // The bytes may have been cut within a character.
        let text = match std::str::from_utf8(start) {
            Ok(text) => Some(text),
            Err(error) if error.error_len().is_none() => {
                std::str::from_utf8(&start[..error.valid_up_to()]).ok()
            }
            Err(_) => None,
        };
        if text.is_some_and(|text| !text.contains('\0')) { Self::Text } else { Self::Other }
    }
}

/// `GET blobs/{sha256}`
pub(super) async fn blob(State(app): State<Arc<App>>, Path(sha): Path<String>) -> Result<Response, Fault> {
    serve_blob(&app, &sha).await
}

/// A blob with safe headers.
pub(crate) async fn serve_blob(app: &App, sha: &str) -> Result<Response, Fault> {
    let sha: Sha256 = sha.parse()?;
    let Some(OpenBlob { size, mut reader }) = app.blobs.open(sha).await? else {
        return Err(Fault::not_found(format!("There is no blob {sha}."), "It was never stored here."));
    };
    let (kind, body) = if size <= CHECKED {
        // What has rotted on the disk must not pass for what the machine showed.
        let bytes = app.blobs.get_verified(sha).await?.unwrap_or_default();
        (BlobKind::of(&bytes[..bytes.len().min(KIND_FROM)]), Body::from(bytes))
    } else {
        let mut start = vec![0; KIND_FROM];
        reader.read_exact(&mut start).await.map_err(StoreError::File)?;
        let kind = BlobKind::of(&start);
        let whole = std::io::Cursor::new(start).chain(reader);
        (kind, Body::from_stream(tokio_util::io::ReaderStream::with_capacity(whole, PIECE)))
    };
    let kind = match kind {
        BlobKind::Png => "image/png",
        BlobKind::Text => "text/plain; charset=utf-8",
        BlobKind::Other => "application/octet-stream",
    };
    let fields = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_LENGTH, size.to_string()),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox".to_owned()),
    ];
    Ok((fields, body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pictures_and_plain_text_are_shown() {
        assert_eq!(BlobKind::of(b"\x89PNG\r\n\x1a\nrest"), BlobKind::Png);
        assert_eq!(BlobKind::of(b"<html><script>alert(1)</script>"), BlobKind::Text);
        assert_eq!(BlobKind::of("caf\u{e9}".as_bytes().split_at(4).0), BlobKind::Text);
        assert_eq!(BlobKind::of(b"\x00\x01"), BlobKind::Other);
        assert_eq!(BlobKind::of(b"GIF89a\xff\xff"), BlobKind::Other);
        assert_eq!(BlobKind::of(b""), BlobKind::Text);
    }
}
