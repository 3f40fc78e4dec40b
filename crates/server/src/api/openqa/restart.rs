//! Starting jobs anew.

use super::jobs::found;
use super::params::Params;
use super::{Operator, Wrong};
use crate::api::restart::{audited, remark, settable};
use crate::app::App;
use assay_engine::ids::{GroupId, JobId};
use assay_engine::io::{Answer, Input};
use assay_engine::sched::restart::{RestartOptions, RestartPlan, RestartRequest, Role, Stay};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::BTreeMap;
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
    settable(&options)?;
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

/// The clones of a plan by the job of the request for whose sake they were made.
fn by_root(plan: &RestartPlan) -> BTreeMap<JobId, BTreeMap<JobId, JobId>> {
    let through: BTreeMap<JobId, JobId> =
        plan.clones.iter().filter_map(|clone| Some((clone.job.job, clone.through.as_ref()?.job))).collect();
    let made = plan.clones.iter().filter_map(|clone| Some((clone.job.job, clone.clone?)));
    let mut clusters: BTreeMap<JobId, BTreeMap<JobId, JobId>> = BTreeMap::new();
    for (old, new) in made.chain(plan.exists.iter().copied()) {
        let mut root = old;
        while let Some(by) = through.get(&root) {
            root = *by;
        }
        clusters.entry(root).or_default().insert(old, new);
    }
    clusters
}

/// What openQA's clients read of a plan that was carried out: an object for each job of the request, in its order.
fn told(plan: &RestartPlan, jobs: &[JobId], more: Vec<String>) -> Value {
    let mut clusters = by_root(plan);
    let (mut result, mut urls) = (Vec::new(), Vec::new());
    for cluster in jobs.iter().filter_map(|job| clusters.remove(job)) {
        let each = |told: fn(JobId) -> Value| -> Value {
            cluster.iter().map(|(old, new)| (old.0.to_string(), told(*new))).collect()
        };
        result.push(each(|new| json!(new.0)));
        urls.push(each(|new| json!(format!("/tests/{new}"))));
    }
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
    (jobs, options): (Vec<JobId>, RestartOptions),
    params: &Params,
) -> Result<Value, Wrong> {
    let comment = params.given("comment").map(|text| super::sayable(&operator.0, text)).transpose()?;
    let by = operator.0.name.clone();
    let request = RestartRequest { jobs: jobs.clone(), options, by, plan_only: false };
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
    Ok(told(&plan, &jobs, warnings))
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
    let options = options(&app, &params)?;
    Ok(Json(restart(&app, &operator, (jobs, options), &params).await?))
}

async fn one(
    operator: Operator,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let job = found(&app, &id).await?.row.id;
    let options = options(&app, &params)?;
    Ok(Json(restart(&app, &operator, (vec![job], options), &params).await?))
}

/// The same for old clients: with the number of the clone, direct parents are not asked about, and unless told otherwise
/// nothing that runs ends. A copy ends nothing anyway.
async fn duplicate(
    operator: Operator,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let job = found(&app, &id).await?.row.id;
    let mut options = options(&app, &params)?;
    options.force |= params.get("force").is_none();
    options.skip_aborting_jobs |= params.get("skip_aborting_jobs").is_none() && !options.copy_only;
    let mut told = restart(&app, &operator, (vec![job], options), &params).await?;
    if let Some(made) = told["result"][0].get(job.to_string()).cloned() {
        told["id"] = made;
    }
    Ok(Json(told))
}
