//! Signing in and out.

use super::frame::Frame;
use super::page;
use super::people::{self, OwnKey};
use crate::app::App;
use crate::auth::{Role, Viewer};
use crate::fault::Fault;
use crate::people::session;
use askama::Template;
use assay_proto::api::people::conf_sections;
use axum::Router;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/login", get(show).post(sign_in)).route("/logout", post(sign_out))
}

#[derive(Template)]
#[template(path = "login.html")]
struct Login {
    frame: Frame,
    viewer: Option<Viewer>,
    /// They are who they are by a cookie, which can be taken away.
    by_cookie: bool,
    next: String,
    /// Names of providers, and what people call them.
    providers: Vec<(String, String)>,
    trouble: Option<String>,
    /// Their own keys, if they are somebody who can have some.
    keys: Option<Vec<OwnKey>>,
    /// How long another one may live, days.
    lives: [i64; 3],
    /// A section for clients' files with the key that was just made.
    made: Option<String>,
    is_admin: bool,
}

#[derive(Deserialize)]
struct Next {
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
struct Filled {
    token: String,
    #[serde(default)]
    next: String,
}

/// A page of this server, or its first page: nobody is sent elsewhere by a link that leads here.
pub(crate) fn local(next: &str) -> &str {
    let rest = next.strip_prefix('/').unwrap_or("/");
    let elsewhere = rest.starts_with(['/', '\\']) || next.chars().any(char::is_control);
    if elsewhere { "/" } else { next }
}

/// The browser speaks HTTPS, to a proxy before this server.
fn is_https(headers: &HeaderMap) -> bool {
    headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes() == b"https")
}

/// `GET /login`
async fn show(
    State(app): State<Arc<App>>,
    Query(Next { next }): Query<Next>,
    headers: HeaderMap,
) -> Response {
    answer(&app, &headers, &next, None, None)
}

/// The page with a key that was just made: its secret is shown now and never again.
pub(super) fn with_key(app: &App, headers: &HeaderMap, key: String, secret: String) -> Response {
    let place = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let section = |name: &str| format!("[{name}]\nkey = {key}\nsecret = {secret}\n");
    let made: Vec<_> = conf_sections(place).into_iter().map(section).collect();
    answer(app, headers, "", None, Some(made.concat()))
}

fn answer(
    app: &App,
    headers: &HeaderMap,
    next: &str,
    trouble: Option<String>,
    made: Option<String>,
) -> Response {
    let viewer = Viewer::here();
    let by_cookie = session::cookie_of(headers).is_some_and(|cookie| app.people.session(cookie).is_some());
    page(
        app,
        Ok(Login {
            frame: Frame::new(app.clock.now()),
            keys: people::own(app, viewer.as_ref()),
            lives: people::LIVES,
            made,
            is_admin: viewer.as_ref().is_some_and(|viewer| viewer.role == Role::Admin),
            viewer,
            by_cookie,
            next: local(next).to_owned(),
            providers: app.providers.list(),
            trouble,
        }),
    )
}

/// `POST /login`
async fn sign_in(State(app): State<Arc<App>>, headers: HeaderMap, Form(filled): Form<Filled>) -> Response {
    match app.people.redeem(&filled.token).await {
        Ok(session) => signed_in(&app, &headers, &session, &filled.next),
        Err(fault) => {
            let (status, trouble) = (fault.status, format!("{} {}", fault.error, fault.help));
            (status, answer(&app, &headers, &filled.next, Some(trouble), None)).into_response()
        }
    }
}

/// Gives the browser its cookie, and sends it where it came from.
pub(crate) fn signed_in(
    app: &Arc<App>,
    headers: &HeaderMap,
    session: &session::NewTicket,
    next: &str,
) -> Response {
    app.audit(&session.user.name, "user_login", json!({ "user": session.user.name }));
    let cookie = [(header::SET_COOKIE, session.cookie(is_https(headers)))];
    (cookie, Redirect::to(local(next))).into_response()
}

/// `POST /logout`
async fn sign_out(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Fault> {
    if let Some(cookie) = session::cookie_of(&headers) {
        let user = app.people.session(cookie);
        app.people.end_session(cookie).await?;
        if let Some(user) = user {
            app.audit(&user.name, "user_logout", json!({ "user": user.name }));
        }
    }
    let forget = [(header::SET_COOKIE, session::no_cookie())];
    Ok((StatusCode::SEE_OTHER, forget, [(header::LOCATION, "/login")]).into_response())
}

#[cfg(test)]
mod tests {
    use super::local;

    #[test]
    fn nobody_is_sent_elsewhere() {
        for (next, expected) in [
            ("/jobs/3?x=1#y", "/jobs/3?x=1#y"),
            ("/", "/"),
            ("", "/"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("https://evil.example", "/"),
            ("/a\r\nSet-Cookie: x=y", "/"),
        ] {
            assert_eq!(local(next), expected, "{next:?}");
        }
    }
}
