//! Users and their keys. Admins only, but for everybody's own keys: also the list says who may do what.

use super::read;
use crate::app::App;
use crate::auth::{Admin, Sender};
use crate::fault::Fault;
use crate::people::NewKey as NewStoredKey;
use crate::web::frame::rfc3339;
use assay_engine::ids::Timestamp;
use assay_proto::api::people::{
    ApiKey, ChangeUser, MadeKey, NewKey, NewOwnKey, NewSetupToken, OwnKeys, SetupToken, User, UserList,
};
use assay_store::{StoredKey, UserRole};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use serde_json::json;
use std::sync::Arc;

/// The longest life of a key, days.
const MAX_DAYS: u32 = 36_500;
/// How long somebody's own key lasts if they do not say.
pub(crate) const YEAR_SECONDS: i64 = 365 * 24 * 3600;
/// The life of a setup token, hours.
const DEFAULT_HOURS: u32 = 24;
const MAX_HOURS: u32 = 24 * 30;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/users", get(list))
        .route("/users/{name}", delete(remove_user).post(change_user))
        .route("/users/{name}/sessions", delete(end_sessions))
        .route("/setup-tokens", post(invite))
        .route("/keys", post(add_key))
        .route("/keys/{key}", delete(remove_key))
}

/// Whoever is known has keys.
pub(super) fn own_keys() -> Router<Arc<App>> {
    Router::new()
        .route("/keys/mine", get(list_mine).post(add_mine))
        .route("/keys/mine/{key}", delete(remove_mine))
}

fn role(word: &str) -> Result<UserRole, Fault> {
    UserRole::from_word(word)
        .ok_or_else(|| Fault::bad(format!("{word:?} is no role."), "Use viewer, operator or admin."))
}

fn shown(key: &StoredKey, now: Timestamp) -> ApiKey {
    ApiKey {
        key: key.key.clone(),
        created: rfc3339(key.created_at),
        expires: key.expires_at.map(rfc3339),
        expired: key.expires_at.is_some_and(|expires| expires <= now),
        last_used: key.last_used_at.map(rfc3339),
    }
}

/// The only answer with the secret.
fn told(made: NewStoredKey, now: Timestamp) -> MadeKey {
    let key = shown(&made.stored, now);
    MadeKey { key, secret: made.secret, user: made.user.name, role: made.user.role.word().to_owned() }
}

async fn list(_: Admin, State(app): State<Arc<App>>) -> Json<UserList> {
    let now = app.clock.now();
    let user = |(user, keys): (assay_store::User, Vec<StoredKey>)| User {
        name: user.name,
        role: user.role.word().to_owned(),
        created: rfc3339(user.created_at),
        keys: keys.iter().map(|key| shown(key, now)).collect(),
    };
    Json(UserList { users: app.people.list().into_iter().map(user).collect() })
}

async fn add_key(
    admin: Admin,
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<(StatusCode, Json<MadeKey>), Fault> {
    let new: NewKey = read(&body, r#"Send {"user": "ann", "role": "operator", "expires_days": 365}."#)?;
    if new.expires_days.is_some_and(|days| days == 0 || days > MAX_DAYS) {
        return Err(Fault::bad(
            "The key would not live.",
            "Give 1 to 36500 days, or none for a key without end.",
        ));
    }
    let role = new.role.as_deref().map(role).transpose()?;
    let expires = |days: u32| app.clock.now().plus_seconds(i64::from(days) * 24 * 3600);
    let made = app.people.add_key(&new.user, role, new.expires_days.map(expires)).await?;
    app.audit(&admin.0.name, "user_update", json!({"user": new.user, "key": made.stored.key}));
    Ok((StatusCode::CREATED, Json(told(made, app.clock.now()))))
}

/// Somebody's own key: only people who are known have some, not whoever holds the admin token.
pub(crate) async fn add_own_key(
    app: &Arc<App>,
    sender: &Sender,
    expires_at: Timestamp,
) -> Result<NewStoredKey, Fault> {
    let unknown =
        || Fault::new(StatusCode::FORBIDDEN, "Keys are made for people.", "See `assay key create`.");
    let user = app.people.user(&sender.name).ok_or_else(unknown)?;
    let made = app.people.add_key(&user.name, None, Some(expires_at)).await?;
    app.audit(&user.name, "user_update", json!({"key": made.stored.key}));
    Ok(made)
}

/// Revokes a key of the sender; false if they have none like it.
pub(crate) async fn remove_own_key(app: &Arc<App>, sender: &Sender, key: &str) -> Result<bool, Fault> {
    if app.people.owner(key).as_deref() != Some(sender.name.as_str()) {
        return Ok(false);
    }
    app.people.remove_key(key).await?;
    app.audit(&sender.name, "user_update", json!({ "revoked": key }));
    Ok(true)
}

async fn list_mine(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
) -> Result<Json<OwnKeys>, Fault> {
    sender.must_be_known()?;
    let now = app.clock.now();
    let keys = app.people.keys_of(&sender.name).unwrap_or_default();
    Ok(Json(OwnKeys { keys: keys.iter().map(|key| shown(key, now)).collect() }))
}

async fn add_mine(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    body: Bytes,
) -> Result<(StatusCode, Json<MadeKey>), Fault> {
    sender.must_be_known()?;
    let new: NewOwnKey = if body.is_empty() {
        NewOwnKey::default()
    } else {
        read(&body, r#"Send nothing, or {"expires_days": 365}."#)?
    };
    let seconds = match new.expires_days {
        None => YEAR_SECONDS,
        Some(days) if days == 0 || days > MAX_DAYS => {
            return Err(Fault::bad("The key would not live.", format!("Give 1 to {MAX_DAYS} days.")));
        }
        Some(days) => i64::from(days) * 24 * 3600,
    };
    let made = add_own_key(&app, &sender, app.clock.now().plus_seconds(seconds)).await?;
    Ok((StatusCode::CREATED, Json(told(made, app.clock.now()))))
}

async fn remove_mine(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(key): Path<String>,
) -> Result<Json<serde_json::Value>, Fault> {
    sender.must_be_known()?;
    if !remove_own_key(&app, &sender, &key).await? {
        return Err(Fault::not_found(
            format!("You have no key {key:?}."),
            "See GET /api/assay/v1/keys/mine.",
        ));
    }
    Ok(Json(json!({ "revoked": key })))
}

async fn invite(
    admin: Admin,
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<(StatusCode, Json<SetupToken>), Fault> {
    let help = r#"Send {"user": "ann", "role": "operator", "expires_hours": 24}."#;
    let new: NewSetupToken = read(&body, help)?;
    let hours = new.expires_hours.unwrap_or(DEFAULT_HOURS);
    if hours == 0 || hours > MAX_HOURS {
        return Err(Fault::bad("The token would not live.", format!("Give 1 to {MAX_HOURS} hours.")));
    }
    let role = new.role.as_deref().map(role).transpose()?;
    let made = app.people.invite(&new.user, role, i64::from(hours) * 3600).await?;
    app.audit(
        &admin.0.name,
        "user_update",
        json!({"user": new.user, "setup_token_until": rfc3339(made.expires_at)}),
    );
    let answer = SetupToken {
        token: made.secret,
        user: made.user.name,
        role: made.user.role.word().to_owned(),
        expires: rfc3339(made.expires_at),
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

async fn end_sessions(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<serde_json::Value>, Fault> {
    if !app.people.end_sessions(&name).await? {
        return Err(no_user(&name));
    }
    app.audit(&admin.0.name, "user_update", json!({ "signed_out": name }));
    Ok(Json(json!({ "signed_out": name })))
}

async fn remove_key(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path(key): Path<String>,
) -> Result<Json<serde_json::Value>, Fault> {
    if !app.people.remove_key(&key).await? {
        return Err(Fault::not_found(format!("There is no key {key:?}."), "See `assay key list`."));
    }
    app.audit(&admin.0.name, "user_update", json!({ "revoked": key }));
    Ok(Json(json!({ "revoked": key })))
}

fn no_user(name: &str) -> Fault {
    Fault::not_found(format!("There is no user {name:?}."), "See `assay key list`.")
}

async fn change_user(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<serde_json::Value>, Fault> {
    let change: ChangeUser = read(&body, r#"Send {"role": "operator"}."#)?;
    let user = app.people.set_role(&name, role(&change.role)?).await?.ok_or_else(|| no_user(&name))?;
    app.audit(&admin.0.name, "user_update", json!({"user": name, "role": change.role}));
    Ok(Json(json!({"name": user.name, "role": user.role.word()})))
}

async fn remove_user(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<serde_json::Value>, Fault> {
    if !app.people.remove_user(&name).await? {
        return Err(no_user(&name));
    }
    app.audit(&admin.0.name, "user_deleted", json!({ "name": name }));
    Ok(Json(json!({ "removed": name })))
}
