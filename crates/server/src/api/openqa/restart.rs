//! Starting jobs anew.

use super::jobs::found;
use super::params::Params;
use super::{Operator, Wrong};
use crate::api::restart::{audited, remark};
use crate::app::App;
use assay_engine::ids::{GroupId, JobId};
use assay_engine::io::{Answer, Input};
use assay_engine::sched::restart::{RestartOptions, RestartPlan, RestartRequest, Role, Stay};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/jobs/restart", post(several))
        .route("/jobs/{id}/restart", post(one))
        .route("/jobs/{id}/duplicate", post(duplicate))
}

fn options(app: &App, params: &Params) -> Result<RestartOptions, Wrong> {
    let mut options = RestartOptions {
        force: params.flag("force"),
        skip_aborting_jobs: params.flag("skip_aborting_jobs"),
        skip_parents: params.flag("skip_parents"),
        skip_children: params.flag("skip_children"),
        skip_ok_result_children: params.flag("skip_ok_result_children"),
        copy_only: params.get("clone").is_some_and(|value| value == "0"),
        priority: params.number("prio")?,
        ..RestartOptions::default()
    };
    for pair in params.all("set") {
        let (key, value) = pair.split_once('=').ok_or_else(|| Wrong::parameters(&[], &["set"]))?;
        match key {
            "_GROUP_ID" | "_GROUP" => options.group = Some(group(app, key, value)?),
            _ => drop(options.set.insert(key.to_uppercase(), Some(value.to_owned()))),
        }
    }
    Ok(options)
}

fn group(app: &App, key: &str, value: &str) -> Result<Option<GroupId>, Wrong> {
    if value.is_empty() || value == "0" {
        return Ok(None);
    }
    let catalog = app.library.now();
    let known = match key {
        "_GROUP" => catalog.group_named(value).map(|group| group.id),
        _ => value.parse().ok().filter(|id| catalog.groups.contains_key(id)),
    };
    known.map(|id| Some(GroupId(id))).ok_or_else(|| Wrong::bad(format!("There is no job group {value:?}")))
}

/// What openQA's clients read of a plan that was carried out.
fn told(plan: &RestartPlan, more: Vec<String>) -> Value {
    let pairs = plan.clones.iter().filter_map(|clone| Some((clone.job.job, clone.clone?)));
    let pairs: Vec<_> = pairs.chain(plan.exists.iter().copied()).collect();
    let result: Vec<_> = pairs.iter().map(|(old, new)| json!({ old.0.to_string(): new.0 })).collect();
    let urls: Vec<_> =
        pairs.iter().map(|(old, new)| json!({ old.0.to_string(): format!("/tests/{new}") })).collect();
    let again =
        plan.exists.iter().map(|(old, new)| format!("Specified job {old} has already been cloned as {new}"));
    let stays = plan.stays.iter().filter(|stay| stay.role == Role::Root || stay.why == Stay::Spared);
    let stays = stays.map(|stay| format!("Job {} was not started anew: {}", stay.job.job, stay.why));
    let warnings: Vec<_> = again.chain(stays).chain(more).collect();
    let mut told = json!({"result": result, "test_url": urls});
    if !warnings.is_empty() {
        told["warnings"] = json!(warnings);
    }
    told
}

async fn restart(
    app: &Arc<App>,
    operator: &Operator,
    jobs: Vec<JobId>,
    params: &Params,
) -> Result<(RestartPlan, Value), Wrong> {
    let comment = params.given("comment").map(|text| super::sayable(&operator.0, text)).transpose()?;
    let by = operator.0.name.clone();
    let request = RestartRequest { jobs: jobs.clone(), options: options(app, params)?, by, plan_only: false };
    let answer = app.engine.ask(Input::Restart(request.clone())).await;
    let plan = match answer {
        Ok(Answer::Restarted(plan)) => plan,
        Ok(other) => {
            tracing::error!(answer = ?other, "the engine gave an answer to another question");
            return Err(Wrong::new(StatusCode::INTERNAL_SERVER_ERROR, "The engine gave a strange answer."));
        }
        Err(fault) => {
            let (error, enforceable) = (fault.error.clone(), fault.status == StatusCode::CONFLICT);
            let wrong = Wrong::from(fault).with("result", json!([])).with("errors", json!([error]));
            return Err(if enforceable { wrong.with("enforceable", 1) } else { wrong });
        }
    };
    audited(app, &operator.0.name, &plan);
    let mut warnings = app.missing_in_plan(&plan, &request).await?;
    if let Some(text) = comment {
        warnings.extend(remark(app, &operator.0, &plan, &jobs, text).await);
    }
    let told = told(&plan, warnings);
    Ok((plan, told))
}

async fn several(
    operator: Operator,
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let mut jobs = Vec::new();
    for id in params.list("jobs") {
        jobs.push(found(&app, id).await?.row.id);
    }
    if jobs.is_empty() {
        return Err(Wrong::parameters(&["jobs"], &[]));
    }
    Ok(Json(restart(&app, &operator, jobs, &params).await?.1))
}

async fn one(
    operator: Operator,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let job = found(&app, &id).await?.row.id;
    Ok(Json(restart(&app, &operator, vec![job], &params).await?.1))
}

/// The same, with the number of the clone for old clients.
async fn duplicate(
    operator: Operator,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let job = found(&app, &id).await?.row.id;
    let (plan, mut told) = restart(&app, &operator, vec![job], &params).await?;
    let made = plan.clones.iter().find(|clone| clone.job.job == job).and_then(|clone| clone.clone);
    let made = made.or_else(|| plan.exists.iter().find(|(old, _)| *old == job).map(|(_, new)| *new));
    told["id"] = json!(made.map(|id| id.0));
    Ok(Json(told))
}
