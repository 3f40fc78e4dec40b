//! Starting jobs anew, and their priority.

use super::job_id;
use super::jobs::stored;
use crate::app::App;
use crate::auth::Sender;
use crate::fault::Fault;
use assay_engine::ids::JobId;
use assay_engine::io::{Answer, Input};
use assay_engine::sched::restart::{RestartOptions, RestartRequest};
use assay_proto::api::Job;
use assay_proto::api::restart::{Restart, RestartJobs, SetPriority};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/jobs/restart", post(restart_jobs))
        .route("/jobs/{id}/restart", get(planned).post(restart_job))
        .route("/jobs/{id}/priority", post(set_priority))
}

#[derive(Debug, Default, Deserialize)]
struct PlanQuery {
    /// `1` for a plan only.
    #[serde(default)]
    plan: String,
}

impl PlanQuery {
    fn only(&self) -> bool {
        !matches!(self.plan.as_str(), "" | "0")
    }
}

fn read<T: DeserializeOwned + Default>(body: &[u8], help: &str) -> Result<T, Fault> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body)
        .map_err(|error| Fault::bad(format!("The request cannot be read: {error}."), help))
}

const OPTIONS_HELP: &str = r#"Send nothing, or options such as {"force": true, "set": {"KEY": "VALUE"}}."#;

/// The plan of a restart, or what carrying it out came to.
pub(crate) async fn ask(
    app: &App,
    jobs: Vec<JobId>,
    options: RestartOptions,
    sender: &Sender,
    plan_only: bool,
) -> Result<Json<Restart>, Fault> {
    let by = if sender.name.is_empty() { "an operator".to_owned() } else { sender.name.clone() };
    match app.engine.ask(Input::Restart(RestartRequest { jobs, options, by, plan_only })).await? {
        Answer::Restarted(plan) => Ok(Json(Restart::new(plan, !plan_only))),
        other => {
            tracing::error!(answer = ?other, "the engine gave an answer to another question");
            let text = "The engine gave a strange answer.";
            Err(Fault::new(StatusCode::INTERNAL_SERVER_ERROR, text, "Report it as a bug."))
        }
    }
}

/// `GET jobs/{id}/restart`: the plan without options.
async fn planned(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
) -> Result<Json<Restart>, Fault> {
    let options = RestartOptions { force: true, ..RestartOptions::default() };
    ask(&app, vec![job_id(&id)?], options, &sender, true).await
}

/// `POST jobs/{id}/restart`
async fn restart_job(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    Query(query): Query<PlanQuery>,
    body: Bytes,
) -> Result<Json<Restart>, Fault> {
    let options = read(&body, OPTIONS_HELP)?;
    ask(&app, vec![job_id(&id)?], options, &sender, query.only()).await
}

/// `POST jobs/restart`
async fn restart_jobs(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Query(query): Query<PlanQuery>,
    body: Bytes,
) -> Result<Json<Restart>, Fault> {
    let request: RestartJobs = serde_json::from_slice(&body).map_err(|error| {
        let help = r#"Send {"jobs": [12, 13], "options": {…}}."#;
        Fault::bad(format!("The request cannot be read: {error}."), help)
    })?;
    ask(&app, request.jobs, request.options, &sender, query.only()).await
}

/// `POST jobs/{id}/priority`
async fn set_priority(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Job>, Fault> {
    let id = job_id(&id)?;
    let request: SetPriority = serde_json::from_slice(&body).map_err(|error| {
        Fault::bad(format!("The request cannot be read: {error}."), r#"Send {"priority": 40}."#)
    })?;
    stored(&app, id).await?;
    app.engine.ask(Input::Edit { job: id, priority: Some(request.priority), group: None }).await?;
    Ok(Json(app.present(&stored(&app, id).await?).await?))
}
