//! The pages: rendered on the server, complete without JavaScript, live with it.

mod acts;
mod api;
mod assets;
mod audit;
mod badge;
mod cards;
mod catalog;
mod cluster;
mod comments;
mod events;
pub(crate) mod frame;
mod gate;
mod groups;
pub(crate) mod history;
mod index;
mod investigate;
mod job;
pub(crate) mod login;
pub(crate) mod matrix;
mod needle_list;
mod needles;
mod notices;
mod oidc;
mod outbox;
mod people;
mod posts;
mod published;
mod releases;
mod restart;
mod results;
mod screen;
mod search;
mod step;
mod workers;

use crate::app::App;
use crate::fault::{Fault, PageFault};
use askama::Template;
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue, Uri, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use frame::Frame;
use std::sync::Arc;

pub(crate) use groups::builds::{Tags, is_important};
pub(crate) use groups::{Wanted as BuildsWanted, builds_of_group, builds_of_parent};

pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/tests", get(index::page))
        .route("/jobs", get(|| async { Redirect::permanent("/tests") }))
        .merge(groups::router())
        .merge(matrix::router())
        .merge(catalog::router())
        .route("/jobs/{id}", get(job::page))
        .route("/jobs/{id}/steps/{module}/{number}", get(step::page))
        .route("/jobs/{id}/restart", get(restart::page).post(restart::post))
        .route("/jobs/{id}/comments", post(job::comment))
        .route("/jobs/{id}/live.png-stream", get(screen::watch))
        .route("/tests/{id}", get(|Path(id): Path<String>| async move { to_job(&id) }))
        .merge(gate::router())
        .merge(investigate::router())
        .merge(releases::router())
        .merge(needles::router())
        .merge(needle_list::router())
        .merge(search::router())
        .merge(workers::router())
        .merge(api::router())
        .merge(audit::router())
        .merge(badge::router())
        .merge(results::router())
        .merge(events::router())
        .merge(outbox::router())
        .merge(assets::router())
        .merge(posts::router())
        .merge(login::router())
        .merge(people::router())
        .merge(notices::router())
        .merge(acts::router())
        .merge(oidc::router())
        .route("/assets/{name}", get(frame::asset))
        .route("/favicon.ico", get(|| async { Redirect::permanent("/assets/favicon.svg") }))
        .fallback(elsewhere)
}

fn to_job(id: &str) -> Response {
    Redirect::to(&format!("/jobs/{}", frame::percent_encoded(id))).into_response()
}

/// `/t123` leads to job 123, as in openQA; anything else is nowhere.
async fn elsewhere(State(app): State<Arc<App>>, uri: Uri) -> Response {
    let number =
        uri.path().strip_prefix("/t").filter(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()));
    if let Some(number) = number {
        return to_job(number);
    }
    let fault =
        Fault::not_found("There is no such page.", "Perhaps the list of jobs leads to what you look for.");
    PageFault(fault, Frame::new(app.clock.now())).into_response()
}

/// A page or, as a page, why there is none.
fn page(app: &App, rendered: Result<impl Template, Fault>) -> Response {
    let html = rendered.and_then(|page| {
        let broken = |error| {
            tracing::error!(%error, "a page cannot be rendered");
            Fault::bad("This page cannot be rendered.", "Report it as a bug with the server's log.")
        };
        page.render().map_err(broken)
    });
    match html {
        Ok(html) => ([(header::CACHE_CONTROL, "no-store")], Html(html)).into_response(),
        Err(fault) => PageFault(fault, Frame::new(app.clock.now())).into_response(),
    }
}

/// Headers that every answer gets unless it has stricter ones.
pub(crate) async fn safe_headers(request: Request, next: Next) -> Response {
    const FIELDS: [(HeaderName, &str); 4] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    let mut response = next.run(request).await;
    for (name, value) in FIELDS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
