//! `/api/v1`: what openQA's clients expect, by its addresses, parameters and answers.
//!
//! One file per family of addresses. What is different on purpose is in `docs/coming-from-openqa.md`.

mod assets;
pub(crate) mod bugs;
mod builds;
mod cluster;
mod comments;
pub(crate) mod files;
pub(crate) mod groups;
pub(crate) mod isos;
pub(crate) mod job_view;
pub(crate) mod jobs;
pub(crate) mod misc;
pub(crate) mod params;
pub(crate) mod post_jobs;
mod restart;
pub(crate) mod scheduling;
mod search;
mod tables;
mod templates;
mod webhooks;
mod workers;
mod wrong;

pub(crate) use comments::{SAY, comment, rewrite, say, sayable, unsay};
pub(crate) use search::Searches;
pub(crate) use wrong::Wrong;

use crate::app::App;
use crate::auth::signature::Refused;
use crate::auth::{Role, Sender};
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use std::sync::Arc;

/// The most bytes of a request.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// Whether an address is one of openQA's API.
pub(crate) fn is_openqa(uri: &Uri) -> bool {
    uri.path().starts_with("/api/v1/")
}

pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .merge(assets::router())
        .merge(bugs::router())
        .merge(builds::router())
        .merge(cluster::router())
        .merge(comments::router())
        .merge(groups::router())
        .merge(isos::router())
        .merge(jobs::router())
        .merge(misc::router())
        .merge(restart::router())
        .merge(scheduling::router())
        .merge(search::router())
        .merge(tables::router())
        .merge(templates::router())
        .merge(webhooks::router())
        .merge(workers::router())
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

async fn unknown() -> Wrong {
    Wrong::not_found("There is nothing at this address; GET /api/v1/routes lists what there is.")
}

/// Somebody with a name sent the request.
pub(super) struct Person(pub(super) Sender);

/// An operator sent the request.
pub(super) struct Operator(pub(super) Sender);

/// An admin sent the request.
pub(super) struct Admin(pub(super) Sender);

fn sender(parts: &Parts) -> Result<Sender, Wrong> {
    let nobody = |refused: Refused| Wrong::new(StatusCode::FORBIDDEN, refused.text());
    match parts.extensions.get::<Sender>() {
        Some(Sender { refused: Some(refused), .. }) => Err(nobody(*refused)),
        Some(sender) if !sender.name.is_empty() => Ok(sender.clone()),
        _ => Err(nobody(Refused::NoKey)),
    }
}

impl<S: Sync> FromRequestParts<S> for Person {
    type Rejection = Wrong;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Wrong> {
        sender(parts).map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = Wrong;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Wrong> {
        let sender = sender(parts)?;
        match sender.role {
            Role::Operator | Role::Admin => Ok(Self(sender)),
            Role::Viewer | Role::Worker => Err(Wrong::new(StatusCode::FORBIDDEN, "Operator level required")),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Admin {
    type Rejection = Wrong;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Wrong> {
        let sender = sender(parts)?;
        match sender.role {
            Role::Admin => Ok(Self(sender)),
            _ => Err(Wrong::new(StatusCode::FORBIDDEN, "Administrator level required")),
        }
    }
}

/// A number in an address, or an answer that says which thing it is not the number of.
fn number(text: &str) -> Result<i64, Wrong> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| Wrong::not_found("Not found"))
}

/// Times as openQA's API tells them.
fn at(time: assay_engine::ids::Timestamp) -> String {
    let second = jiff::Timestamp::from_microsecond(time.0).unwrap_or_default();
    second.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}
