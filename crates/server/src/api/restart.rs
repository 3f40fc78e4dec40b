//! Starting jobs anew, and their priority.

use super::job_id;
use super::jobs::stored;
use crate::app::App;
use crate::auth::Sender;
use crate::fault::Fault;
use assay_engine::ids::JobId;
use assay_engine::io::{Answer, Input};
use assay_engine::sched::restart::{PlannedClone, RestartOptions, RestartPlan, RestartRequest};
use assay_proto::api::Job;
use assay_proto::api::restart::{Restart, RestartJobs, SetPriority};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
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
    app: &Arc<App>,
    jobs: Vec<JobId>,
    options: RestartOptions,
    sender: &Sender,
    plan_only: bool,
) -> Result<Json<Restart>, Fault> {
    let by = if sender.name.is_empty() { "an operator".to_owned() } else { sender.name.clone() };
    let request = RestartRequest { jobs, options, by, plan_only };
    match app.engine.ask(Input::Restart(request.clone())).await? {
        Answer::Restarted(plan) => {
            if !plan_only {
                audited(app, &sender.name, &plan);
            }
            let warnings = app.missing_in_plan(&plan, &request).await?;
            Ok(Json(Restart { warnings, ..Restart::new(plan, !plan_only) }))
        }
        other => {
            tracing::error!(answer = ?other, "the engine gave an answer to another question");
            let text = "The engine gave a strange answer.";
            Err(Fault::new(StatusCode::INTERNAL_SERVER_ERROR, text, "Report it as a bug."))
        }
    }
}

/// Notes which jobs were started anew by whom, if any were.
pub(crate) fn audited(app: &Arc<App>, user: &str, plan: &RestartPlan) {
    let pair = |clone: &PlannedClone| Some(json!({ clone.job.job.0.to_string(): clone.clone?.0 }));
    let made: Vec<_> = plan.clones.iter().filter_map(pair).collect();
    if !made.is_empty() {
        app.audit(user, "jobs_restart", json!(made));
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
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Job>, Fault> {
    let id = job_id(&id)?;
    let request: SetPriority = serde_json::from_slice(&body).map_err(|error| {
        Fault::bad(format!("The request cannot be read: {error}."), r#"Send {"priority": 40}."#)
    })?;
    let before = stored(&app, id).await?.row.priority;
    app.engine.ask(Input::Edit { job: id, priority: Some(request.priority), group: None }).await?;
    if before != request.priority {
        app.audit(&sender.name, "job_update", json!({"id": id.0, "priority": request.priority}));
    }
    Ok(Json(app.present(&stored(&app, id).await?).await?))
}
