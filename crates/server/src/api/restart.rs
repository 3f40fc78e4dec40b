//! Starting jobs anew, and their priority.

use super::jobs::{prioritise, stored};
use super::{job_id, openqa};
use crate::app::App;
use crate::auth::Sender;
use crate::fault::Fault;
use assay_engine::ids::JobId;
use assay_engine::io::{Answer, Input};
use assay_engine::sched::restart::{PlannedClone, RestartOptions, RestartPlan, RestartRequest};
use assay_proto::api::Job;
use assay_proto::api::restart::{Restart, RestartJobs, SetPriority};
use assay_store::CommentTarget;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
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

/// Options of a restart, with a comment beside them.
fn read_options(body: &[u8]) -> Result<(RestartOptions, Option<String>), Fault> {
    const HELP: &str =
        r#"Send nothing, or options such as {"force": true, "set": {"KEY": "VALUE"}, "comment": "boo#1"}."#;
    let unreadable = |error| Fault::bad(format!("The request cannot be read: {error}."), HELP);
    if body.is_empty() {
        return Ok((RestartOptions::default(), None));
    }
    let mut said: Value = serde_json::from_slice(body).map_err(unreadable)?;
    let comment = said.as_object_mut().and_then(|fields| fields.remove("comment")).unwrap_or_default();
    let comment = serde_json::from_value(comment).map_err(unreadable)?;
    Ok((serde_json::from_value(said).map_err(unreadable)?, comment))
}

/// Clones have the secrets of what they are made from; what covers one takes the place of none. Nor does anybody say
/// what the server found out of a task.
pub(crate) fn settable(options: &RestartOptions) -> Result<(), Fault> {
    Fault::if_covered(options.set.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_deref()?))))?;
    // `KEY+` changes KEY as well.
    let mut names = options.set.keys().map(|key| key.strip_suffix('+').unwrap_or(key));
    if let Some(name) = names.find(|name| crate::tasks::is_resolved(name)) {
        return Err(Fault::bad(
            format!(
                "{name} says what a task is and what its results may be called; the server found it out."
            ),
            "A job that is started anew runs the same task. Post a new job with TASK, and with TASK_REF or TASK_COMMIT.",
        ));
    }
    Ok(())
}

/// The plan of a restart, or what carrying it out came to. A comment is written on those of the jobs that are started
/// anew.
pub(crate) async fn ask(
    app: &Arc<App>,
    jobs: Vec<JobId>,
    options: RestartOptions,
    comment: Option<&str>,
    sender: &Sender,
    plan_only: bool,
) -> Result<Json<Restart>, Fault> {
    let comment = comment.map(|text| openqa::sayable(sender, text)).transpose()?;
    settable(&options)?;
    if let Some(Some(group)) = options.group
        && !app.library.now().groups.contains_key(&group.0)
    {
        return Err(Fault::not_found(format!("There is no group {}.", group.0), "See /api/v1/job_groups."));
    }
    let by = if sender.name.is_empty() { "an operator".to_owned() } else { sender.name.clone() };
    let request = RestartRequest { jobs, options, by, plan_only };
    match app.engine.ask(Input::Restart(request.clone())).await? {
        Answer::Restarted(plan) => {
            let mut warnings = app.missing_in_plan(&plan, &request).await?;
            if !plan_only {
                audited(app, &sender.name, &plan);
                if let Some(text) = comment {
                    warnings.extend(remark(app, sender, &plan, &request.jobs, text).await);
                }
            }
            Ok(Json(Restart { warnings, ..Restart::new(plan, !plan_only) }))
        }
        other => {
            tracing::error!(answer = ?other, "the engine gave an answer to another question");
            let text = "The engine gave a strange answer.";
            Err(Fault::new(StatusCode::INTERNAL_SERVER_ERROR, text, "Report it as a bug."))
        }
    }
}

/// Says something about those of the jobs that were started anew; what could not be said, as sentences.
pub(crate) async fn remark(
    app: &Arc<App>,
    sender: &Sender,
    plan: &RestartPlan,
    jobs: &[JobId],
    text: &str,
) -> Vec<String> {
    let mut unsaid = Vec::new();
    let made = plan.clones.iter().filter(|clone| clone.clone.is_some()).map(|clone| clone.job.job);
    for job in made.filter(|job| jobs.contains(job)) {
        if let Err(fault) = openqa::say(app, sender, CommentTarget::Job(job), text).await {
            unsaid.push(format!("The comment on job {job} was not written: {}", fault.error));
        }
    }
    unsaid
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
    ask(&app, vec![job_id(&id)?], options, None, &sender, true).await
}

/// `POST jobs/{id}/restart`
async fn restart_job(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    Query(query): Query<PlanQuery>,
    body: Bytes,
) -> Result<Json<Restart>, Fault> {
    let (options, comment) = read_options(&body)?;
    ask(&app, vec![job_id(&id)?], options, comment.as_deref(), &sender, query.only()).await
}

/// `POST jobs/restart`
async fn restart_jobs(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Query(query): Query<PlanQuery>,
    body: Bytes,
) -> Result<Json<Restart>, Fault> {
    let RestartJobs { jobs, options, comment } =
        super::read(&body, r#"Send {"jobs": [12, 13], "options": {…}}."#)?;
    ask(&app, jobs, options, comment.as_deref(), &sender, query.only()).await
}

/// `POST jobs/{id}/priority`
async fn set_priority(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Job>, Fault> {
    let id = job_id(&id)?;
    let request: SetPriority = super::read(&body, r#"Send {"priority": 40}."#)?;
    prioritise(&app, &stored(&app, id).await?.row, request.priority, &sender).await?;
    Ok(Json(app.present(&stored(&app, id).await?).await?))
}
