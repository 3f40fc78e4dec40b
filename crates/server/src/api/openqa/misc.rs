//! Who one is, which keys one has, and what addresses there are.

use super::params::Params;
use super::{Admin, Person, Wrong};
use crate::app::App;
use assay_engine::ids::Timestamp;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;

/// How long a key lasts if nobody says.
const YEAR_SECONDS: i64 = 365 * 24 * 3600;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/auth", get(auth))
        .route("/routes", get(routes))
        .route("/users/me/api_keys", get(keys).post(add_key))
        .route("/users/me/api_keys/{key}", delete(remove_key))
        .route("/user/{name}", delete(remove_user))
}

async fn auth(_: Person) -> &'static str {
    "ok"
}

/// What there is, for people who look for it.
const ROUTES: &[(&str, &str)] = &[
    ("GET", "auth"),
    ("GET", "routes"),
    ("GET POST DELETE", "users/me/api_keys[/:key]"),
    ("DELETE", "user/:name"),
    ("GET POST", "jobs"),
    ("GET", "jobs/overview"),
    ("POST", "jobs/cancel, jobs/restart"),
    ("GET PUT DELETE", "jobs/:id"),
    ("GET", "jobs/:id/details"),
    ("POST", "jobs/:id/restart, jobs/:id/duplicate, jobs/:id/cancel, jobs/:id/prio, jobs/:id/set_done"),
    ("GET", "experimental/jobs/:id/status"),
    ("GET", "job_settings/jobs"),
    ("GET POST", "assets"),
    ("GET DELETE", "assets/:id, assets/:type/:name"),
    ("POST", "assets/cleanup"),
    ("POST", "isos"),
    ("GET", "isos/job_stats, isos/:id"),
    ("DELETE", "isos/:name"),
    ("POST", "isos/:name/cancel"),
    ("GET", "job_groups/:id/jobs, job_groups/:id/build_results"),
    ("GET POST", "job_groups"),
    ("GET PUT DELETE", "job_groups/:id"),
    ("GET POST", "parent_groups"),
    ("GET PUT DELETE", "parent_groups/:id"),
    ("GET POST", "machines, products, test_suites"),
    ("GET PUT POST DELETE", "machines/:id, products/:id, test_suites/:id"),
    ("GET POST", "job_templates"),
    ("GET DELETE", "job_templates/:id"),
    ("GET POST", "job_templates_scheduling[/:group]"),
    ("GET", "workers[/:id]"),
    ("GET POST", "jobs/:id/comments, groups/:id/comments, parent_groups/:id/comments"),
    ("GET PUT DELETE", "…/comments/:comment"),
    ("POST DELETE", "comments"),
];

async fn routes() -> Json<Value> {
    let route = |(methods, path): &(&str, &str)| json!({"methods": methods.split(' ').collect::<Vec<_>>(), "path": format!("/api/v1/{path}")});
    Json(json!({"routes": ROUTES.iter().map(route).collect::<Vec<_>>()}))
}

async fn keys(person: Person, State(app): State<Arc<App>>) -> Json<Value> {
    let mine = app.people.list().into_iter().find(|(user, _)| user.name == person.0.name);
    let keys = mine.map(|(_, keys)| keys).unwrap_or_default();
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

/// Somebody's own key: only people who are known have some, not whoever holds the admin token.
async fn add_key(person: Person, State(app): State<Arc<App>>, params: Params) -> Result<Json<Value>, Wrong> {
    let unknown = || Wrong::new(StatusCode::FORBIDDEN, "Keys are made for people; see `assay key create`.");
    let user = app.people.user(&person.0.name).ok_or_else(unknown)?;
    let expires_at = match params.given("t_expiration") {
        None => app.clock.now().plus_seconds(YEAR_SECONDS),
        Some(text) => moment(text).ok_or_else(|| Wrong::parameters(&[], &["t_expiration"]))?,
    };
    let made = app.people.add_key(&user.name, None, Some(expires_at)).await?;
    app.audit(&user.name, "user_update", json!({"key": made.stored.key}));
    Ok(Json(json!({
        "key": made.stored.key, "secret": made.secret, "t_expiration": super::at(expires_at),
    })))
}

/// A time as people and programs write it; without a zone it is UTC.
fn moment(text: &str) -> Option<Timestamp> {
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
    if app.people.owner(&key).as_deref() != Some(person.0.name.as_str()) {
        return Err(Wrong::not_found("Api key does not exist"));
    }
    app.people.remove_key(&key).await?;
    app.audit(&person.0.name, "user_update", json!({ "revoked": key }));
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
