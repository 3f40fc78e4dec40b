//! `/api/assay/v1`; the objects are `assay_proto::api`.

pub(crate) mod assets;
mod comments;
pub(crate) mod decision;
mod events;
mod files;
mod gate;
mod gate_door;
pub(crate) mod gate_history;
pub(crate) mod gate_view;
mod health;
pub(crate) mod jobs;
pub(crate) mod knowledge;
pub(crate) mod openapi;
pub(crate) mod openqa;
mod people;
mod products;
mod range;
pub(crate) mod releases;
pub(crate) mod restart;
pub(crate) mod resultsdb;
mod templates;
pub(crate) mod waivers;
mod workers;

use crate::app::App;
use crate::auth;
use crate::fault::Fault;
use assay_engine::ids::JobId;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use std::sync::Arc;

pub(crate) use files::{FileQuery, MAX_STEPS, attempt_of, followed, serve_blob, serve_stream};
pub(crate) use health::{healthz, metrics};
pub(crate) use jobs::filter_of;

/// The most bytes of a request.
const MAX_BODY: usize = 8 * 1024 * 1024;

pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/jobs", get(jobs::list).post(jobs::post))
        .route("/jobs/{id}", get(jobs::show))
        .route("/jobs/{id}/wait", get(jobs::wait))
        .route("/jobs/{id}/cancel", post(jobs::cancel))
        .route("/jobs/{id}/steps", get(files::steps))
        .route("/jobs/{id}/streams/{file}", get(files::stream))
        .route("/blobs/{sha256}", get(files::blob))
        .merge(assets::router())
        .route("/events", get(events::listen))
        .merge(gate::router().layer(axum::middleware::from_fn(auth::admins_change)))
        .merge(knowledge::router())
        .merge(people::router())
        .merge(products::router())
        .merge(templates::router())
        .merge(restart::router())
        .merge(openapi::router())
        .merge(workers::router())
        .merge(releases::router())
        .merge(crate::events::api::router())
        .merge(crate::reporting::api::router())
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(axum::middleware::from_fn(auth::operators_change))
        .merge(comments::router().layer(DefaultBodyLimit::max(MAX_BODY)))
}

async fn unknown() -> Fault {
    Fault::not_found("There is nothing at this address.", "See /api for what there is.")
}

/// A job's number in an address.
pub(crate) fn job_id(text: &str) -> Result<JobId, Fault> {
    let number = text.parse().ok().filter(|&number: &i64| number > 0);
    number
        .map(JobId)
        .ok_or_else(|| Fault::not_found(format!("{text:?} is not a job's number."), "Use digits only."))
}
