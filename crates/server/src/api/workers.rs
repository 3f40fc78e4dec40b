//! Workers: list, drain, forget.

use crate::app::App;
use crate::auth::Operator;
use crate::fault::Fault;
use assay_engine::ids::WorkerName;
use assay_engine::io::Input;
use assay_proto::api::{DrainWorker, WorkerList};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde_json::json;
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/workers", get(list))
        .route("/workers/{name}", delete(forget))
        .route("/workers/{name}/drain", post(drain))
}

async fn list(State(app): State<Arc<App>>) -> Result<Json<WorkerList>, Fault> {
    Ok(Json(WorkerList { workers: app.present_workers().await? }))
}

fn named(name: &str) -> Result<WorkerName, Fault> {
    name.parse().map_err(|error: String| {
        Fault::not_found(format!("There is no worker {name:?}: {error}."), "`assay worker list` shows them.")
    })
}

async fn drain(
    operator: Operator,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<WorkerList>, Fault> {
    let DrainWorker { drained } = serde_json::from_slice(&body).map_err(|error| {
        Fault::bad(format!("The request cannot be read: {error}."), r#"Send {"drained": true}."#)
    })?;
    let worker = named(&name)?;
    let by = drained.then(|| operator.0.name.clone());
    app.engine.ask(Input::Drain { worker, by }).await?;
    app.audit(&operator.0.name, "worker_drain", json!({"name": name, "drained": drained}));
    let mut workers = app.present_workers().await?;
    workers.retain(|worker| worker.name == name);
    Ok(Json(WorkerList { workers }))
}

async fn forget(
    operator: Operator,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<String>, Fault> {
    app.engine.ask(Input::ForgetWorker { worker: named(&name)? }).await?;
    app.audit(&operator.0.name, "worker_delete", json!({ "name": name }));
    Ok(Json(name))
}
