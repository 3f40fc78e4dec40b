//! `/audit`: who did what.

use super::frame::{Frame, Moment, percent_encoded};
use crate::api::knowledge::{AuditQuery, events};
use crate::app::App;
use crate::auth::Operator;
use crate::fault::{Fault, PageFault};
use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use std::sync::Arc;

/// openQA's words for what people do, for the form; others are found by the address.
const EVENTS: [&str; 18] = [
    "asset_delete",
    "asset_register",
    "comment_create",
    "comment_delete",
    "comment_update",
    "iso_cancel",
    "iso_create",
    "iso_delete",
    "job_cancel",
    "job_delete",
    "job_update",
    "jobs_restart",
    "jobtemplate_create",
    "jobtemplate_delete",
    "needle_modify",
    "table_update",
    "user_deleted",
    "user_update",
];

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/audit", get(page))
        .route("/admin/auditlog", get(|| async { Redirect::permanent("/audit") }))
}

struct Row {
    id: i64,
    at: Moment,
    user: String,
    event: String,
    data: String,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    frame: Frame,
    query: AuditQuery,
    choices: Vec<(&'static str, bool)>,
    rows: Vec<Row>,
    newest: String,
    older: Option<String>,
}

fn href(query: &AuditQuery, before: Option<i64>) -> String {
    let words = [("user", &query.user), ("event", &query.event), ("q", &query.q)];
    let mut parts: Vec<String> = words
        .into_iter()
        .filter(|(_, value)| !value.trim().is_empty())
        .map(|(key, value)| format!("{key}={}", percent_encoded(value.trim())))
        .collect();
    parts.extend(before.map(|id| format!("before={id}")));
    if parts.is_empty() { "/audit".to_owned() } else { format!("/audit?{}", parts.join("&")) }
}

async fn page(
    operator: Result<Operator, Fault>,
    State(app): State<Arc<App>>,
    Query(query): Query<AuditQuery>,
) -> Response {
    match operator {
        Ok(_) => super::page(&app, build(&app, query).await),
        Err(fault) => PageFault(fault, Frame::new(app.clock.now())).into_response(),
    }
}

async fn build(app: &App, query: AuditQuery) -> Result<AuditPage, Fault> {
    let now = app.clock.now();
    let found = events(app, &query).await?;
    let row = |event: assay_proto::api::knowledge::AuditEvent| Row {
        id: event.id,
        at: Moment::of_text(&event.at, now),
        user: event.user,
        event: event.event,
        data: event.data.to_string(),
    };
    Ok(AuditPage {
        frame: Frame::new(now),
        choices: EVENTS.iter().map(|event| (*event, query.event == *event)).collect(),
        newest: href(&query, None),
        older: found.next_before.map(|before| href(&query, Some(before))),
        rows: found.events.into_iter().map(row).collect(),
        query,
    })
}
