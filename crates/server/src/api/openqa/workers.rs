//! Workers, as openQA shows them: one row for each slot.

use super::{Operator, Wrong, number};
use crate::app::App;
use assay_engine::ids::WorkerName;
use assay_engine::io::Input;
use assay_proto::api::Worker;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/workers", get(list).post(register)).route("/workers/{id}", get(show).delete(forget))
}

/// A number that stays the same as long as the worker has its name; workers have no numbers here.
pub(super) fn id_of(name: &str, slot: u32) -> i64 {
    let digest = Sha256::digest(format!("{name}\0{slot}"));
    let start: [u8; 4] = [digest[0], digest[1], digest[2], digest[3]];
    i64::from(u32::from_be_bytes(start) & 0x7fff_ffff).max(1)
}

fn shown(worker: &Worker) -> impl Iterator<Item = Value> {
    (1..=worker.slots.max(1)).map(|slot| {
        let job = worker.jobs.get(slot as usize - 1);
        let status = match (worker.online, job) {
            (false, _) => "dead",
            (true, Some(_)) => "running",
            (true, None) => "idle",
        };
        let alive = i64::from(worker.online);
        let mut row = json!({
            "id": id_of(&worker.name, slot),
            "host": worker.name,
            "instance": slot,
            "status": status,
            "alive": alive,
            "connected": alive,
            "websocket": alive,
            "error": worker.offline_reason,
            "properties": {
                "WORKER_CLASS": worker.classes.join(","),
                "WORKER_HOSTNAME": worker.host,
                "VERSION": worker.version,
            },
        });
        if let Some(job) = job {
            row["jobid"] = json!(job.0);
        }
        row
    })
}

async fn list(State(app): State<Arc<App>>) -> Result<Json<Value>, Wrong> {
    let workers = app.present_workers().await?;
    Ok(Json(json!({"workers": workers.iter().flat_map(shown).collect::<Vec<_>>()})))
}

async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Value>, Wrong> {
    let id = number(&id)?;
    let workers = app.present_workers().await?;
    let found = workers.iter().flat_map(shown).find(|row| row["id"] == id);
    let found = found.ok_or_else(|| Wrong::not_found("Worker does not exist"))?;
    Ok(Json(json!({ "worker": found })))
}

/// openQA's workers speak another protocol.
async fn register(_: Operator) -> Wrong {
    Wrong::new(
        StatusCode::NOT_IMPLEMENTED,
        "openQA's workers cannot join this server; start `assay worker --server URL --token-file FILE` on the host instead",
    )
}

/// Forgets a worker that is gone.
async fn forget(
    operator: Operator,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Wrong> {
    let id = number(&id)?;
    let workers = app.present_workers().await?;
    let is_meant = |worker: &&Worker| (1..=worker.slots.max(1)).any(|slot| id_of(&worker.name, slot) == id);
    let worker = workers.iter().find(is_meant).ok_or_else(|| Wrong::not_found("Worker not found."))?;
    if worker.online {
        return Err(Wrong::bad(format!("Worker {} status is not offline.", worker.name)));
    }
    let name: WorkerName = worker.name.parse().map_err(|error: String| Wrong::bad(error))?;
    app.engine.ask(Input::ForgetWorker { worker: name }).await?;
    app.audit(&operator.0.name, "worker_delete", json!({ "name": worker.name }));
    Ok(Json(json!({"message": format!("Worker {} has been removed", worker.name)})))
}
