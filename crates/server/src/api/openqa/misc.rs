//! Who one is, which keys one has, and what addresses there are.

use super::params::Params;
use super::{Admin, Person, Wrong};
use crate::api::openapi;
use crate::api::people::{YEAR_SECONDS, add_own_key, remove_own_key};
use crate::app::App;
use assay_engine::ids::Timestamp;
use axum::extract::{Path, State};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/auth", get(auth))
        .route("/routes", get(routes))
        .route("/users/me/api_keys", get(keys).post(add_key))
        .route("/users/me/api_keys/{key}", delete(remove_key))
        .route("/user/{name}", delete(remove_user))
        .route("/users/me", delete(remove_myself))
        .route("/feature", post(feature))
}

async fn auth(_: Person) -> &'static str {
    "ok"
}

/// What there is, for people and programs that look for it.
async fn routes() -> Json<Value> {
    let all = openapi::endpoints().filter(|one| one.is_openqa()).map(|one| {
        json!({"methods": [one.method], "path": one.path, "description": one.summary, "role": one.role.word()})
    });
    Json(json!({"routes": all.collect::<Vec<_>>()}))
}

async fn keys(person: Person, State(app): State<Arc<App>>) -> Json<Value> {
    let keys = app.people.keys_of(&person.0.name).unwrap_or_default();
    let shown = |key: &assay_store::StoredKey| {
        json!({
            "key": key.key,
            "t_created": super::at(key.created_at),
            "t_expiration": key.expires_at.map(super::at),
            "t_last_used": key.last_used_at.map(super::at),
        })
    };
    Json(json!({"api_keys": keys.iter().map(shown).collect::<Vec<_>>()}))
}

async fn add_key(person: Person, State(app): State<Arc<App>>, params: Params) -> Result<Json<Value>, Wrong> {
    let expires_at = match params.given("t_expiration") {
        None => app.clock.now().plus_seconds(YEAR_SECONDS),
        Some(text) => moment(text).ok_or_else(|| Wrong::parameters(&[], &["t_expiration"]))?,
    };
    let made = add_own_key(&app, &person.0, expires_at).await?;
    Ok(Json(json!({
        "key": made.stored.key, "secret": made.secret, "t_expiration": super::at(expires_at),
    })))
}

/// A time as people and programs write it; without a zone it is UTC.
pub(crate) fn moment(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let zoned = text.parse::<jiff::Timestamp>().ok();
    let plain = || text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    let at = zoned.or_else(|| plain().map(|zoned| zoned.timestamp()))?;
    Some(Timestamp(at.as_microsecond()))
}

async fn remove_key(
    person: Person,
    State(app): State<Arc<App>>,
    Path(key): Path<String>,
) -> Result<Json<Value>, Wrong> {
    if !remove_own_key(&app, &person.0, &key).await? {
        return Err(Wrong::not_found("Api key does not exist"));
    }
    Ok(Json(json!({ "result": 1 })))
}

async fn remove_user(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Wrong> {
    if !app.people.remove_user(&name).await? {
        return Err(Wrong::not_found("User does not exist"));
    }
    app.audit(&admin.0.name, "user_deleted", json!({ "name": name }));
    Ok(Json(json!({ "result": 1 })))
}

/// Somebody leaves.
async fn remove_myself(person: Person, State(app): State<Arc<App>>) -> Result<Json<Value>, Wrong> {
    if !app.people.remove_user(&person.0.name).await? {
        return Err(Wrong::not_found("User does not exist"));
    }
    app.audit(&person.0.name, "user_deleted", json!({ "name": person.0.name }));
    Ok(Json(json!({ "result": 1 })))
}

/// How much somebody has seen of openQA's tour of its pages; there is none here.
async fn feature(_: Person, params: Params) -> Result<&'static str, Wrong> {
    params.required(["version"])?;
    params.number::<i64>("version")?;
    Ok("ok")
}
