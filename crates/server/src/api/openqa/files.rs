//! Files of one job, where openQA's clients look for them: `/tests/N/file/NAME`, `/image/…`.

use super::job_view;
use crate::api::{FileQuery, assets, attempt_of, serve_blob, serve_stream};
use crate::app::App;
use crate::fault::Fault;
use assay_engine::assets::{AssetKey, AssetKind};
use assay_engine::ids::JobId;
use assay_engine::settings::{COVERED, is_secret_name};
use assay_proto::worker::Stream;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Routes outside the API.
pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/tests/{id}/file/{name}", get(file))
        .route("/tests/{id}/logfile/{name}", get(file))
        .route("/tests/{id}/asset/{kind}/{name}", get(asset))
        .route("/image/{first}/{second}/{name}", get(picture))
        .route("/image/{first}/{second}/.thumbs/{name}", get(picture))
}

/// A published file's name without folders.
pub(super) fn flat(path: &str) -> String {
    path.replace('/', "-")
}

fn job(id: &str) -> Result<JobId, Fault> {
    crate::api::job_id(id)
}

async fn file(
    State(app): State<Arc<App>>,
    Path((id, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let job = job(&id)?;
    if let Some(stream) = Stream::ALL.into_iter().find(|stream| stream.file_name() == name) {
        return serve_stream(app, job, stream, &FileQuery::default(), &headers).await;
    }
    if name == "vars.json" {
        return vars(&app, job).await;
    }
    let attempt = attempt_of(&app, job, None).await?;
    let run = job_view::run_of(&app, &attempt).await?;
    if let Some(artifact) = run.artifacts.iter().find(|artifact| flat(&artifact.path) == name) {
        return serve_blob(&app, &artifact.sha256).await;
    }
    if let Some(step) = run.steps().find(|step| job_view::text_name(step) == name)
        && let Some(text) = job_view::text_of(step)
    {
        return Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response());
    }
    if let Some(stem) = name.strip_suffix(".png")
        && let Some(step) = run.steps().find(|step| format!("{}-{}", step.module, step.number) == stem)
        && let Some(picture) = &step.screenshot
    {
        return serve_blob(&app, &picture.sha256).await;
    }
    Err(Fault::not_found(format!("Job {job} has no file {name:?}."), "See jobs/N/details for those it has."))
}

/// The settings as os-autoinst's `vars.json`.
async fn vars(app: &App, id: JobId) -> Result<Response, Fault> {
    let job = app.store.job(id).await?.ok_or_else(|| Fault::no_job(id))?;
    let value =
        |key: &str, value: &str| if is_secret_name(key) { COVERED.to_owned() } else { value.to_owned() };
    let mut vars: BTreeMap<&str, String> =
        job.row.settings.iter().map(|(key, setting)| (key, value(key, &setting.value))).collect();
    vars.insert("NAME", format!("{:08}-{}", id.0, job.row.name));
    Ok(axum::Json(vars).into_response())
}

/// An asset as the job began with it, else as it is now.
async fn asset(
    State(app): State<Arc<App>>,
    Path((id, kind, name)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let id = job(&id)?;
    let absent = || Fault::not_found(format!("There is no asset {kind}/{name}."), "See the job's settings.");
    let key = key(&kind, &name).ok_or_else(absent)?;
    app.store.job(id).await?.ok_or_else(|| Fault::no_job(id))?;
    let of_job = app.store.assets().job_assets(id).await?;
    let pinned = of_job.into_iter().find(|used| used.asset == key).map(|used| used.blob);
    let blob = match pinned {
        Some(blob) => blob,
        None => app.store.assets().asset(&key).await?.into_iter().next().ok_or_else(absent)?.blob,
    };
    assets::serve(&app, blob.sha256, &headers).await
}

fn key(kind: &str, name: &str) -> Option<AssetKey> {
    Some(AssetKey { kind: AssetKind::from_word(kind)?, name: name.parse().ok()? })
}

async fn picture(
    State(app): State<Arc<App>>,
    Path((first, second, name)): Path<(String, String, String)>,
) -> Result<Response, Fault> {
    let rest = name.strip_suffix(".png").unwrap_or(&name);
    serve_blob(&app, &format!("{first}{second}{rest}")).await
}
