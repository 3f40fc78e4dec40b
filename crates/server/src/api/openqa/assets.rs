//! Assets, as openQA tells them: one row for each name. Its newest version is meant.

use super::params::Params;
use super::{Admin, Operator, Wrong, at, number};
use crate::app::App;
use assay_engine::assets::{AssetKey, AssetKind};
use assay_store::AssetVersion;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Assets in one answer, usually and at most.
const ROWS: (u32, u32) = (500, 5_000);

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/assets", get(list).post(register))
        .route("/assets/cleanup", post(cleanup))
        .route("/assets/{id}", get(show).delete(remove))
        .route("/assets/{kind}/{name}", get(show_named).delete(remove_named))
}

fn shown(version: &AssetVersion) -> Value {
    json!({
        "id": version.id.0,
        "type": version.asset.kind.word(),
        "name": version.asset.name.as_str(),
        "size": version.blob.size,
        "checksum": version.blob.sha256.to_string(),
        "fixed": i64::from(version.fixed),
        "t_created": at(version.created_at),
        "t_updated": at(version.used_at.unwrap_or(version.created_at)),
    })
}

async fn list(State(app): State<Arc<App>>, params: Params) -> Result<Json<Value>, Wrong> {
    let (limit, offset) = params.page(ROWS.0, ROWS.1)?;
    let mut names = BTreeSet::new();
    let mut newest = app.store.assets().assets().await?;
    newest.retain(|version| names.insert(version.asset.clone()));
    newest.sort_by_key(|version| version.id);
    let page = newest.iter().skip(offset as usize).take(limit as usize);
    Ok(Json(json!({ "assets": page.map(shown).collect::<Vec<_>>() })))
}

fn no_asset() -> Wrong {
    Wrong::not_found("Asset does not exist")
}

/// All versions of a name, the newest first, at least one.
async fn named(app: &App, kind: &str, name: &str) -> Result<Vec<AssetVersion>, Wrong> {
    let kind = AssetKind::from_word(kind).ok_or_else(no_asset)?;
    let name = name.parse().map_err(|_| no_asset())?;
    let versions = app.store.assets().asset(&AssetKey { kind, name }).await?;
    if versions.is_empty() { Err(no_asset()) } else { Ok(versions) }
}

/// All versions of the name that this is the number of a version of.
async fn numbered(app: &App, id: &str) -> Result<Vec<AssetVersion>, Wrong> {
    let id = number(id)?;
    let found = app.store.assets().assets().await?.into_iter().find(|version| version.id.0 == id);
    let asset = found.ok_or_else(no_asset)?.asset;
    Ok(app.store.assets().asset(&asset).await?)
}

async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Value>, Wrong> {
    numbered(&app, &id).await?.first().map(|newest| Json(shown(newest))).ok_or_else(no_asset)
}

async fn show_named(
    State(app): State<Arc<App>>,
    Path((kind, name)): Path<(String, String)>,
) -> Result<Json<Value>, Wrong> {
    named(&app, &kind, &name).await?.first().map(|newest| Json(shown(newest))).ok_or_else(no_asset)
}

/// openQA's clients say by this that a file lies in a folder of the server. Here files come by uploads, so that this
/// tells whether one has come.
async fn register(_: Operator, State(app): State<Arc<App>>, params: Params) -> Result<Json<Value>, Wrong> {
    let [kind, name] = params.required(["type", "name"])?;
    match named(&app, kind, name).await {
        Ok(versions) => Ok(Json(json!({ "id": versions[0].id.0 }))),
        Err(_) => Err(Wrong::bad(format!(
            "There is no asset {kind}/{name}; publish it with `assay asset upload`, no folder is looked into."
        ))),
    }
}

async fn gone(app: &Arc<App>, admin: &Admin, versions: &[AssetVersion]) -> Result<Json<Value>, Wrong> {
    let removed = app.assets.remove(versions).await?;
    let name = versions.first().map(|version| version.asset.to_string()).unwrap_or_default();
    if removed.removed.is_empty() {
        let why = format!("A job that has not ended needs {name}; cancel it, or wait for it.");
        return Err(Wrong::new(StatusCode::CONFLICT, why));
    }
    app.audit(&admin.0.name, "asset_delete", json!({ "asset": name }));
    Ok(Json(json!({ "count": removed.removed.len() })))
}

async fn remove(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Wrong> {
    let versions = numbered(&app, &id).await?;
    gone(&app, &admin, &versions).await
}

async fn remove_named(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path((kind, name)): Path<(String, String)>,
) -> Result<Json<Value>, Wrong> {
    let versions = named(&app, &kind, &name).await?;
    gone(&app, &admin, &versions).await
}

async fn cleanup(admin: Admin, State(app): State<Arc<App>>) -> Result<Json<Value>, Wrong> {
    let report = app.clean(false).await?;
    app.audit(&admin.0.name, "asset_cleanup", json!({}));
    Ok(Json(json!({ "status": "ok", "report": report })))
}
