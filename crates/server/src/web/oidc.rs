//! To a provider of OpenID Connect, and back with somebody whom it knows.

use super::frame::Frame;
use super::login;
use crate::app::App;
use crate::fault::{Fault, PageFault};
use crate::people::oidc::{Known, Returned};
use crate::people::session::{NewTicket, cookie_named};
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use std::sync::Arc;

/// The cookie that binds a sign-in to the browser that began it.
const COOKIE: &str = "assay_sign_in";

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/login/oidc/{name}", get(begin)).route("/login/oidc/{name}/callback", get(callback))
}

#[derive(Deserialize)]
struct Next {
    #[serde(default)]
    next: String,
}

fn cookie(value: &str, seconds: i64, https: bool) -> String {
    let secure = if https { "; Secure" } else { "" };
    format!("{COOKIE}={value}; Path=/login/oidc; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}

fn refused(app: &App, fault: impl Into<Fault>) -> Response {
    PageFault(fault.into(), Frame::new(app.clock.now())).into_response()
}

/// `GET /login/oidc/NAME?next=/…`
async fn begin(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(Next { next }): Query<Next>,
) -> Response {
    match app.providers.begin(&name, &next).await {
        Ok(begun) => {
            let cookie = cookie(&begun.browser, begun.seconds, app.providers.is_https());
            let headers = [
                (header::SET_COOKIE, cookie),
                (header::LOCATION, begun.address),
                (header::CACHE_CONTROL, "no-store".to_owned()),
            ];
            (StatusCode::SEE_OTHER, headers).into_response()
        }
        Err(error) => {
            tracing::warn!(provider = name, %error, "a sign-in cannot begin");
            refused(&app, error)
        }
    }
}

/// `GET /login/oidc/NAME/callback?state=…&code=…`
async fn callback(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(returned): Query<Returned>,
    headers: HeaderMap,
) -> Response {
    let (known, next) = match app.providers.finish(&name, returned, cookie_named(COOKIE, &headers)).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(provider = name, %error, "a sign-in was refused");
            return refused(&app, error);
        }
    };
    match sign_in(&app, &known).await {
        Ok(session) => {
            let mut answer = login::signed_in(&app, &headers, &session, &next);
            let forget = cookie("", 0, app.providers.is_https());
            if let Ok(forget) = HeaderValue::from_str(&forget) {
                answer.headers_mut().append(header::SET_COOKIE, forget);
            }
            answer
        }
        Err(fault) => refused(&app, fault),
    }
}

/// Begins the session of somebody whom a provider knows.
async fn sign_in(app: &App, known: &Known) -> Result<NewTicket, Fault> {
    let user = app.people.user_of_provider(known).await?;
    let (Known { provider, groups, .. }, subject) = (known, &known.identity.subject);
    tracing::info!(user = user.name, provider, subject, ?groups, role = user.role.word(), "signed in");
    app.people.begin_session(user).await
}
