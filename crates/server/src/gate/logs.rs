//! `/logs/$LOG_PATH`: a build's console and what it published, at the address that its job knows before it starts.

use super::ansi::Renderer;
use crate::api::{FileQuery, MAX_STEPS, attempt_of, followed, serve_blob, serve_stream};
use crate::app::App;
use crate::fault::{Fault, PageFault};
use crate::web::frame::{Frame, bytes as size_words, percent_encoded_path as encoded};
use askama::Template;
use assay_engine::ids::JobId;
use assay_proto::worker::Stream;
use assay_records::step::{Artifact, Record};
use assay_store::StoredAttempt;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use futures_util::{StreamExt as _, stream};
use std::sync::Arc;

/// Bytes of a console that its page shows at first: the end of it, if it is longer.
const SHOWN: u64 = 4 << 20;

pub(crate) fn router() -> Router<Arc<App>> {
    Router::new().route("/logs/{*path}", get(serve))
}

async fn serve(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    Query(query): Query<FileQuery>,
    headers: HeaderMap,
) -> Response {
    let frame = Frame::new(app.clock.now());
    match answer(app, &path, query, headers).await {
        Ok(response) => response,
        Err(fault) => PageFault(fault, frame).into_response(),
    }
}

async fn answer(app: Arc<App>, path: &str, query: FileQuery, headers: HeaderMap) -> Result<Response, Fault> {
    let (job, log_path, file) = find(&app, path).await?;
    match file {
        None => Ok(Redirect::permanent(&format!("/logs/{}/", encoded(log_path))).into_response()),
        Some("") => directory(&app, job, log_path, &query).await,
        Some("console.html") if query.follow > 0 => rows(app, job, &query).await,
        Some("console.html") => console(&app, job, log_path, &query).await,
        Some(file) => match Stream::ALL.into_iter().find(|stream| stream.file_name() == file) {
            Some(stream) => serve_stream(app, job, stream, &query, &headers).await,
            None => artifact(&app, job, file, &query).await,
        },
    }
}

/// The job of an address, its log path, and the file below it; no file if the address lacks the last slash.
async fn find<'p>(app: &App, path: &'p str) -> Result<(JobId, &'p str, Option<&'p str>), Fault> {
    // A log path ends with the first seven digits of its build's name.
    let is_short = |part: &str| part.len() == 7 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut end = 0;
    for part in path.split('/').take(20) {
        end += part.len();
        if is_short(part)
            && let Some(job) = app.store.gate().job_of_log_path(&path[..end]).await?
        {
            return Ok((job, &path[..end], path[end..].strip_prefix('/')));
        }
        end += 1;
    }
    Err(Fault::not_found(
        format!("There is no build with its logs at {path:?}."),
        "A build has this address from the moment in which its job is made; see the change's page for its builds.",
    ))
}

async fn artifacts(app: &App, attempt: &StoredAttempt) -> Result<Vec<Artifact>, Fault> {
    let steps = app.read_stream(attempt, Stream::Steps, 0, MAX_STEPS).await?;
    let records = steps.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let artifacts = records.filter_map(|record| match record {
        Record::Artifact(artifact) => Some(artifact),
        _ => None,
    });
    Ok(artifacts.collect())
}

async fn artifact(app: &App, job: JobId, file: &str, query: &FileQuery) -> Result<Response, Fault> {
    let attempt = attempt_of(app, job, query.attempt).await?;
    let found = artifacts(app, &attempt).await?.into_iter().rev().find(|artifact| artifact.path == file);
    let found = found.ok_or_else(|| {
        Fault::not_found(format!("The build has published no file {file:?}."), "See the list of its files.")
    })?;
    let mut response = serve_blob(app, &found.sha256).await?;
    // The address names a build, and another attempt at it may publish another file.
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-cache"));
    Ok(response)
}

#[derive(Template)]
#[template(path = "log_dir.html")]
struct Directory<'a> {
    frame: Frame,
    name: &'a str,
    job: JobId,
    state: String,
    started: bool,
    files: Vec<(String, String, String)>,
}

async fn directory(app: &App, job: JobId, log_path: &str, query: &FileQuery) -> Result<Response, Fault> {
    let stored = app.store.job(job).await?.ok_or_else(|| Fault::no_job(job))?;
    let mut files = Vec::new();
    let attempt = attempt_of(app, job, query.attempt).await.ok();
    if let Some(attempt) = &attempt {
        for artifact in artifacts(app, attempt).await? {
            files.push((encoded(&artifact.path), artifact.path, size_words(artifact.size)));
        }
    }
    let state = match stored.row.state.end() {
        Some(end) => end.outcome.openqa().to_owned(),
        None => stored.row.state.word().word().to_owned(),
    };
    let frame = Frame::new(app.clock.now());
    page(&Directory { frame, name: log_path, job, state, started: attempt.is_some(), files })
}

#[derive(Template)]
#[template(path = "log.html")]
struct Console<'a> {
    frame: Frame,
    name: &'a str,
    job: JobId,
    left_out: Option<String>,
    rows: String,
    /// Where the page goes on reading while the job runs.
    follow: Option<String>,
}

async fn console(app: &App, job: JobId, log_path: &str, query: &FileQuery) -> Result<Response, Fault> {
    let attempt = attempt_of(app, job, query.attempt).await?;
    let size = app.stream_len(&attempt, Stream::Console).await?;
    let start = size.saturating_sub(SHOWN);
    let bytes = app.read_stream(&attempt, Stream::Console, start, SHOWN as usize).await?;
    // Whole lines only: the rest of the last one comes later, the first one has lost its beginning.
    let skip = if start == 0 { 0 } else { line_end(&bytes) };
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1).max(skip);
    let over = attempt.row.end.is_some() && app.live.get(attempt.row.id).is_none();
    let shown = if over { &bytes[skip..] } else { &bytes[skip..whole] };
    let mut renderer = Renderer::default();
    let lines: Vec<&[u8]> = shown.split_inclusive(|&byte| byte == b'\n').collect();
    let rows: String = lines.iter().map(|line| renderer.row(bare(line))).collect();
    let from = start + whole as u64;
    let follow = (!over).then(|| {
        format!("console.html?follow=1&attempt={}&from={from}&lines={}", attempt.row.id.number, lines.len())
    });
    let left_out = (start > 0).then(|| size_words(start));
    let frame = Frame::new(app.clock.now());
    page(&Console { frame, name: log_path, job, left_out, rows, follow })
}

fn line_end(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1)
}

/// The rows that a growing console gets, as they come: the page appends them.
async fn rows(app: Arc<App>, job: JobId, query: &FileQuery) -> Result<Response, Fault> {
    let attempt = attempt_of(&app, job, query.attempt).await?;
    let grown = followed(app, attempt.row.id, Stream::Console, query.from.unwrap_or(0)).boxed();
    let renderer = Renderer::after(query.lines.unwrap_or(0));
    let rows =
        stream::unfold((grown, renderer, Vec::new()), |(mut grown, mut renderer, mut rest)| async move {
            loop {
                match grown.next().await {
                    Some(Ok(more)) => {
                        rest.extend_from_slice(&more);
                        let whole = rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
                        let lines = rest[..whole].split_inclusive(|&byte| byte == b'\n');
                        let text: String = lines.map(|line| renderer.row(bare(line))).collect();
                        rest.drain(..whole);
                        if !text.is_empty() {
                            return Some((Ok(Bytes::from(text)), (grown, renderer, rest)));
                        }
                    }
                    Some(Err(error)) => return Some((Err(error), (grown, renderer, Vec::new()))),
                    None if rest.is_empty() => return None,
                    None => {
                        let text = renderer.row(&std::mem::take(&mut rest));
                        return Some((Ok(Bytes::from(text)), (grown, renderer, rest)));
                    }
                }
            }
        });
    let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    Ok((kind, Body::from_stream(rows)).into_response())
}

/// Without its end.
fn bare(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

fn page(page: &impl Template) -> Result<Response, Fault> {
    let html = page.render().map_err(|error| {
        tracing::error!(%error, "a page cannot be rendered");
        Fault::bad("This page cannot be rendered.", "Report it as a bug with the server's log.")
    })?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Html(html)).into_response())
}
