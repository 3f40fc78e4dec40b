//! Jobs side by side: the matrix of a build, and the history of a scenario.

use super::{job_id, jobs};
use crate::api::openqa::params::Params;
use crate::app::App;
use crate::fault::Fault;
use crate::web::history::{self, around};
use crate::web::matrix;
use assay_proto::api::overview::{Overview, ScenarioHistory};
use axum::extract::{Path, Query, RawQuery, State};
use axum::routing::get;
use axum::{Json, Router};
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/overview", get(overview)).route("/jobs/{id}/history", get(of_scenario))
}

/// What `/tests/overview` shows with these parameters.
async fn overview(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Json<Overview>, Fault> {
    let params = Params::of_query(query.as_deref().unwrap_or_default());
    Ok(Json(matrix::find(&app, &params).await?.told()))
}

/// What the part *Scenario* of a job's page shows with these parameters.
async fn of_scenario(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(asked): Query<history::Asked>,
) -> Result<Json<ScenarioHistory>, Fault> {
    let job = jobs::stored(&app, job_id(&id)?).await?.row;
    let around = around(&app, &job, &asked).await?.ok_or_else(|| {
        let error = format!("Job {} has no TEST, so it is of no scenario.", job.id);
        Fault::not_found(error, "Ask for a job that has one.")
    })?;
    Ok(Json(around.told()))
}
