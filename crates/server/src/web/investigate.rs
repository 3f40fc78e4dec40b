//! `/tests/{id}/investigation`: what changed since the scenario last passed.

use super::frame::{Badge, Frame};
use crate::api;
use crate::app::App;
use crate::fault::Fault;
use crate::knowledge::investigate::{Against, as_openqa};
use askama::Template;
use assay_proto::api::knowledge::{CommitLog, Difference, Investigation, JobRef};
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::Value;
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/tests/{id}/investigation", get(page))
        .route("/jobs/{id}/investigation", get(page))
        .route("/tests/{id}/investigation_ajax", get(ajax))
}

#[derive(Template)]
#[template(path = "investigation.html")]
struct InvestigationPage {
    frame: Frame,
    found: Investigation,
}

impl InvestigationPage {
    fn parts(&self) -> [(&'static str, &'static str, &Vec<Difference>); 4] {
        [
            ("settings", "Settings", &self.found.settings),
            ("tests", "Tests and needles", &self.found.tests),
            ("assets", "Files", &self.found.assets),
            ("environment", "Environment", &self.found.environment),
        ]
    }

    fn logs(&self) -> [(&'static str, &'static str, &CommitLog); 2] {
        [
            ("tests-log", "Commits to tests", &self.found.tests_log),
            ("needles-log", "Commits to needles", &self.found.needles_log),
        ]
    }

    #[expect(clippy::unused_self, reason = "templates call methods, not functions")]
    fn badge(&self, job: &JobRef) -> Badge {
        Badge::of(&job.result)
    }
}

async fn page(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    super::page(&app, build(&app, &id).await)
}

async fn build(app: &App, id: &str) -> Result<InvestigationPage, Fault> {
    let found = app.investigation(api::job_id(id)?, Against::This).await?;
    Ok(InvestigationPage { frame: Frame::new(app.clock.now()), found })
}

async fn ajax(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Value>, Fault> {
    Ok(Json(as_openqa(&app.investigation(api::job_id(&id)?, Against::This).await?)))
}
