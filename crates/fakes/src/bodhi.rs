//! A Bodhi, as far as those who comment and waive need it: a session for a token, a token against forgery.

use crate::web::{Web, lock};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The access token that it knows.
pub const TOKEN: &str = "access-token";
/// The update that there is.
pub const UPDATE: &str = "FEDORA-2026-0a1b2c3d4e";

/// The server; dropping it ends it.
pub struct FakeBodhi {
    web: Web,
    shared: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    comments: Vec<Value>,
    waived: Vec<Value>,
    /// Sessions that were given; the last one is good.
    sessions: u32,
    csrf: u32,
    /// The next post is taken, and its answer is an error.
    lose: bool,
}

type Shared = Arc<Mutex<Inner>>;

impl FakeBodhi {
    /// Listens on a free port of loopback.
    pub async fn start() -> anyhow::Result<Self> {
        let shared = Shared::default();
        let routes = Router::new()
            .route("/oidc/login-token", get(login))
            .route("/csrf", get(csrf))
            .route("/comments/", get(comments).post(comment))
            .route("/updates/{id}/waive-test-results", post(waive))
            .with_state(shared.clone());
        Ok(Self { web: Web::start(routes).await?, shared })
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> &str {
        self.web.url()
    }

    /// The texts of comments.
    pub fn comments(&self) -> Vec<String> {
        let comments = lock(&self.shared).comments.clone();
        comments.iter().filter_map(|one| one["text"].as_str().map(str::to_owned)).collect()
    }

    /// What was waived.
    pub fn waived(&self) -> Vec<Value> {
        lock(&self.shared).waived.clone()
    }

    /// All sessions end.
    pub fn end_sessions(&self) {
        lock(&self.shared).sessions += 1;
    }

    /// The next post is taken, and its answer is lost.
    pub fn lose_next(&self) {
        lock(&self.shared).lose = true;
    }
}

fn wrong(status: StatusCode, name: &str, description: &str) -> Response {
    let errors = json!([{"location": "body", "name": name, "description": description}]);
    (status, Json(json!({"status": "error", "errors": errors}))).into_response()
}

async fn login(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if token != Some(&format!("Bearer {TOKEN}")) {
        return wrong(StatusCode::UNAUTHORIZED, "token", "invalid token");
    }
    let mut inner = lock(&shared);
    inner.sessions += 1;
    let cookie = format!("auth_tkt=session-{}; Path=/; HttpOnly", inner.sessions);
    (StatusCode::OK, [(header::SET_COOKIE, cookie)], Json(json!({"user": {"name": "assay"}}))).into_response()
}

async fn csrf(State(shared): State<Shared>) -> Json<Value> {
    let mut inner = lock(&shared);
    inner.csrf += 1;
    Json(json!({"csrf_token": format!("csrf-{}", inner.csrf)}))
}

/// Why a post is not taken.
fn refused(inner: &Inner, headers: &HeaderMap, body: &Value) -> Option<Response> {
    let cookie = headers.get(header::COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if cookie != format!("auth_tkt=session-{}", inner.sessions) {
        return Some(wrong(StatusCode::FORBIDDEN, "session", "not logged in"));
    }
    (body["csrf_token"] != format!("csrf-{}", inner.csrf))
        .then(|| wrong(StatusCode::BAD_REQUEST, "csrf_token", "CSRF tokens do not match."))
}

async fn comments(
    State(shared): State<Shared>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Json<Value> {
    let comments = lock(&shared).comments.clone();
    let wanted = query.get("updates").cloned().unwrap_or_default();
    let comments: Vec<Value> = comments.into_iter().filter(|one| one["update"] == wanted).collect();
    Json(json!({"comments": comments, "page": 1, "pages": 1, "rows_per_page": 20, "total": comments.len()}))
}

async fn comment(State(shared): State<Shared>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let mut inner = lock(&shared);
    if let Some(answer) = refused(&inner, &headers, &body) {
        return answer;
    }
    if body["update"] != UPDATE {
        return wrong(StatusCode::NOT_FOUND, "update", "Invalid update specified");
    }
    let comment = json!({"id": inner.comments.len() + 1, "text": body["text"], "karma": body["karma"], "update": UPDATE});
    inner.comments.push(comment.clone());
    if std::mem::take(&mut inner.lose) {
        return wrong(StatusCode::BAD_GATEWAY, "proxy", "the answer was lost");
    }
    (StatusCode::CREATED, Json(json!({"comment": comment, "caveats": []}))).into_response()
}

async fn waive(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let mut inner = lock(&shared);
    if let Some(answer) = refused(&inner, &headers, &body) {
        return answer;
    }
    if id != UPDATE {
        return wrong(StatusCode::NOT_FOUND, "id", "Invalid update id");
    }
    inner.waived.push(json!({"comment": body["comment"], "tests": body["tests"]}));
    Json(json!({"update": {"alias": UPDATE}})).into_response()
}
