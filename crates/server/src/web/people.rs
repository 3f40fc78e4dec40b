//! `/admin/users`: who may do what; `/login/keys`: somebody's own keys.

use super::frame::{Frame, Moment};
use super::login;
use crate::api::openqa::params::Params;
use crate::app::App;
use crate::auth::{Sender, Viewer};
use crate::fault::{Fault, PageFault};
use askama::Template;
use assay_store::UserRole;
use axum::Router;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde_json::json;
use std::sync::Arc;

/// How long keys may live, days; the first is usual.
pub(super) const LIVES: [i64; 3] = [365, 90, 30];
const DAY_SECONDS: i64 = 24 * 3_600;
const ROLES: [UserRole; 3] = [UserRole::Viewer, UserRole::Operator, UserRole::Admin];

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/admin/users", get(page).post(change))
        .route("/login/keys", post(make))
        .route("/login/keys/revoke", post(revoke))
        .route("/api_keys", get(|| async { Redirect::to("/login") }))
}

/// Somebody who has signed in at least once, or has a key.
struct Row {
    name: String,
    roles: Vec<(&'static str, bool)>,
    keys: usize,
    /// When one of the keys was used last.
    used: Option<Moment>,
    since: Moment,
}

#[derive(Template)]
#[template(path = "users.html")]
struct UsersPage {
    frame: Frame,
    users: Vec<Row>,
    saved: Option<String>,
}

/// `GET /admin/users`
async fn page(State(app): State<Arc<App>>, Extension(sender): Extension<Sender>, params: Params) -> Response {
    let rendered = sender.must_be_admin().map(|()| build(&app, params.given("saved").map(str::to_owned)));
    super::page(&app, rendered)
}

fn build(app: &App, saved: Option<String>) -> UsersPage {
    let now = app.clock.now();
    let row = |(user, keys): (assay_store::User, Vec<assay_store::StoredKey>)| Row {
        roles: ROLES.iter().map(|role| (role.word(), *role == user.role)).collect(),
        keys: keys.len(),
        used: keys.iter().filter_map(|key| key.last_used_at).max().map(|at| Moment::new(at, now)),
        since: Moment::new(user.created_at, now),
        name: user.name,
    };
    UsersPage { frame: Frame::new(now), users: app.people.list().into_iter().map(row).collect(), saved }
}

/// `POST /admin/users`: another role for somebody.
async fn change(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    params: Params,
) -> Response {
    let changed = async {
        sender.must_be_admin()?;
        let (name, word) = (params.get("user").unwrap_or_default(), params.get("role").unwrap_or_default());
        let role = ROLES.into_iter().find(|role| role.word() == word);
        let role = role.ok_or_else(|| {
            Fault::bad(format!("{word:?} is no role."), "Choose viewer, operator or admin.")
        })?;
        let before = app.people.user(name);
        let user = app.people.set_role(name, role).await?.ok_or_else(|| {
            Fault::not_found(format!("There is no user {name:?}."), "Perhaps somebody has removed them.")
        })?;
        if before.is_none_or(|before| before.role != role) {
            app.audit(&sender.name, "user_update", json!({"user": user.name, "role": word}));
        }
        Ok::<_, Fault>(user.name)
    };
    match changed.await {
        Ok(name) => {
            let name = super::frame::percent_encoded(&name);
            Redirect::to(&format!("/admin/users?saved={name}")).into_response()
        }
        Err(fault) => refused(&app, fault),
    }
}

fn refused(app: &App, fault: Fault) -> Response {
    PageFault(fault, Frame::new(app.clock.now())).into_response()
}

/// A key of whoever looks at the page.
pub(super) struct OwnKey {
    pub(super) key: String,
    pub(super) since: Moment,
    pub(super) expires: Option<Moment>,
    pub(super) expired: bool,
    pub(super) used: Option<Moment>,
}

/// The keys of somebody who is a user of this server; none of whoever only holds a token.
pub(super) fn own(app: &App, viewer: Option<&Viewer>) -> Option<Vec<OwnKey>> {
    let name = &viewer?.name;
    let now = app.clock.now();
    let keys = app.people.keys_of(name)?;
    let shown = |key: assay_store::StoredKey| OwnKey {
        since: Moment::new(key.created_at, now),
        expires: key.expires_at.map(|at| Moment::new(at, now)),
        expired: key.expires_at.is_some_and(|at| at <= now),
        used: key.last_used_at.map(|at| Moment::new(at, now)),
        key: key.key,
    };
    Some(keys.into_iter().map(shown).collect())
}

/// `POST /login/keys`: a key of one's own; its secret is shown now and never again.
async fn make(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    headers: HeaderMap,
    params: Params,
) -> Response {
    let made = async {
        sender.must_be_known()?;
        let user = app.people.user(&sender.name).ok_or_else(|| {
            let help = "Sign in as somebody, or use `assay key create`.";
            Fault::new(axum::http::StatusCode::FORBIDDEN, "Keys are made for people.", help)
        })?;
        let days = params.given("days").map_or(Ok(LIVES[0]), str::parse);
        let days = days.ok().filter(|days| LIVES.contains(days));
        let days = days.ok_or_else(|| Fault::bad("The key would not live.", "Choose one of the times."))?;
        let expires = app.clock.now().plus_seconds(days * DAY_SECONDS);
        let made = app.people.add_key(&user.name, None, Some(expires)).await?;
        app.audit(&user.name, "user_update", json!({"key": made.stored.key}));
        Ok::<_, Fault>((made.stored.key, made.secret))
    };
    match made.await {
        Ok((key, secret)) => login::with_key(&app, &headers, key, secret),
        Err(fault) => refused(&app, fault),
    }
}

/// `POST /login/keys/revoke`
async fn revoke(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    params: Params,
) -> Response {
    let revoked = async {
        sender.must_be_known()?;
        let key = params.get("key").unwrap_or_default();
        if app.people.owner(key).as_deref() != Some(sender.name.as_str()) {
            return Err(Fault::not_found("You have no such key.", "It may have been revoked before."));
        }
        app.people.remove_key(key).await?;
        app.audit(&sender.name, "user_update", json!({ "revoked": key }));
        Ok(())
    };
    match revoked.await {
        Ok(()) => Redirect::to("/login").into_response(),
        Err(fault) => refused(&app, fault),
    }
}
