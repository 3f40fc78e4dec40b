//! What changed, who did what, and needles from screens; the objects and the table of requests are
//! `assay_proto::api::knowledge`.

use super::job_id;
use crate::app::App;
use crate::auth::Operator;
use crate::fault::Fault;
use crate::knowledge::investigate::Against;
use crate::web::frame::rfc3339;
use assay_proto::api::knowledge::{
    AuditEvent, AuditList, Investigation, NeedleDraft, NeedlePreview, SavedNeedle,
};
use assay_store::{AuditFilter, StoreError};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use std::sync::Arc;

/// Events in one answer.
const EVENTS: u32 = 1000;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/jobs/{id}/investigation", get(investigation))
        .route("/audit", get(audit))
        .route("/jobs/{id}/needles/preview", post(preview))
        .route("/jobs/{id}/needles", post(save))
}

/// What is compared with the last good job.
#[derive(Debug, Clone, Default, Deserialize)]
struct AgainstQuery {
    #[serde(default)]
    against: String,
}

impl AgainstQuery {
    fn read(&self) -> Result<Against, Fault> {
        match self.against.as_str() {
            "" | "this" => Ok(Against::This),
            "first_bad" => Ok(Against::FirstBad),
            other => {
                let error = format!("{other:?} is nothing that is compared with the last good job.");
                Err(Fault::bad(error, "Use against=this or against=first_bad."))
            }
        }
    }
}

async fn investigation(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(query): Query<AgainstQuery>,
) -> Result<Json<Investigation>, Fault> {
    Ok(Json(app.investigation(job_id(&id)?, query.read()?).await?))
}

/// Which events; empty words do not restrict, so that a form can be sent as it is.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct AuditQuery {
    #[serde(default)]
    pub(crate) user: String,
    #[serde(default)]
    pub(crate) event: String,
    #[serde(default)]
    pub(crate) q: String,
    pub(crate) before: Option<i64>,
    limit: Option<u32>,
}

/// A page of events.
pub(crate) async fn events(app: &App, query: &AuditQuery) -> Result<AuditList, StoreError> {
    let limit = query.limit.unwrap_or(100).clamp(1, EVENTS);
    let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let filter = AuditFilter {
        user: given(&query.user),
        event: given(&query.event),
        text: given(&query.q),
        before: query.before,
        // One more than asked for tells whether there are more.
        limit: limit + 1,
    };
    app.store_noted().await;
    let mut events = app.store.knowledge().audit_events(&filter).await?;
    let more = events.len() > limit as usize;
    events.truncate(limit as usize);
    let next_before = events.last().filter(|_| more).map(|event| event.id);
    let shown = |event: assay_store::AuditEvent| AuditEvent {
        id: event.id,
        at: rfc3339(event.at),
        user: event.user,
        event: event.event,
        data: serde_json::from_str(&event.data).unwrap_or(serde_json::Value::String(event.data)),
    };
    Ok(AuditList { events: events.into_iter().map(shown).collect(), next_before })
}

async fn audit(
    _: Operator,
    State(app): State<Arc<App>>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<AuditList>, Fault> {
    Ok(Json(events(&app, &query).await?))
}

fn draft(body: &[u8]) -> Result<NeedleDraft, Fault> {
    serde_json::from_slice(body).map_err(|error| {
        let help = r#"Send {"screenshot": SHA256, "name": "…", "tags": […], "area": […]}."#;
        Fault::bad(format!("The needle cannot be read: {error}."), help)
    })
}

async fn preview(
    _: Operator,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<NeedlePreview>, Fault> {
    Ok(Json(app.preview_needle(job_id(&id)?, draft(&body)?).await?))
}

async fn save(
    operator: Operator,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<SavedNeedle>), Fault> {
    let saved = app.save_needle(job_id(&id)?, draft(&body)?, &operator.0.name).await?;
    Ok((StatusCode::CREATED, Json(saved)))
}
