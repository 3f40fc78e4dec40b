//! A Bodhi, as far as those who read, comment and waive need it: updates and releases with filters and pages, a session
//! for a token, a token against forgery. Forms and JSON are taken alike.

mod read;

use crate::web::{Wall, Web, lock, pairs};
use axum::body::Bytes;
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
    wall: Wall,
    shared: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// In the order of their making.
    updates: Vec<Value>,
    releases: Vec<Value>,
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
        let (listener, url) = crate::web::listen().await?;
        let provider = url.clone();
        let routes = Router::new()
            .route("/updates/", get(read::updates))
            .route("/updates/{id}", get(read::update))
            .route("/updates/{id}/get-test-results", get(read::test_results))
            .route("/releases/", get(read::releases))
            .route("/releases/{name}", get(read::release))
            .route("/builds/{nvr}", get(read::build))
            // Its provider of tokens, which bodhi-client asks where its places are.
            .route("/.well-known/openid-configuration", get(|| async move { read::provider(&provider) }))
            .route("/oidc/login-token", get(login))
            .route("/csrf", get(csrf))
            .route("/comments/", get(comments).post(comment))
            .route("/updates/{id}/waive-test-results", post(waive))
            .with_state(shared.clone());
        let wall = Wall::default();
        let bodhi = Self { web: Web::on(listener, url, wall.on(routes)), wall, shared };
        bodhi.release("F44", "current");
        bodhi.update(UPDATE, "F44", &["bash-5.3-1.fc44"]);
        Ok(bodhi)
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> &str {
        self.web.url()
    }

    /// From now on it says that it is this time (seconds since 1970).
    pub fn says_it_is(&self, seconds: i64) {
        self.wall.set(seconds);
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

    /// There is a release, `F44` or `EPEL-10`; its state is `pending`, `frozen`, `current` or `archived`.
    pub fn release(&self, name: &str, state: &str) {
        let release = read::new_release(name, state);
        let mut inner = lock(&self.shared);
        inner.releases.retain(|known| known["name"] != name);
        inner.releases.push(release);
    }

    /// There is an update of builds that is pending.
    pub fn update(&self, alias: &str, release: &str, nvrs: &[&str]) {
        let mut inner = lock(&self.shared);
        let release = inner.releases.iter().find(|known| known["name"] == release).cloned();
        let update = read::new_update(alias, release.unwrap_or_default(), nvrs);
        inner.updates.push(update);
    }

    /// Something of an update is another.
    pub fn change(&self, alias: &str, key: &str, value: Value) {
        let mut inner = lock(&self.shared);
        let found = inner.updates.iter_mut().find(|update| update["alias"] == alias);
        if let Some(update) = found {
            update[key] = value;
        }
    }

    /// An update was modified at a time (seconds since 1970).
    pub fn modified(&self, alias: &str, at: i64) {
        let at = jiff::Timestamp::from_second(at).unwrap_or_default();
        self.change(alias, "date_modified", json!(at.strftime("%Y-%m-%d %H:%M:%S").to_string()));
    }

    /// All sessions end.
    pub fn end_sessions(&self) {
        lock(&self.shared).sessions += 1;
    }

    /// Somebody else comments.
    pub fn said(&self, alias: &str, who: &str, text: &str) {
        lock(&self.shared).say(alias, who, json!({"text": text, "karma": 0}));
    }

    /// The next post is taken, and its answer is lost.
    pub fn lose_next(&self) {
        lock(&self.shared).lose = true;
    }
}

impl Inner {
    /// Adds a comment to an update, if there is one.
    fn say(&mut self, alias: &str, who: &str, said: Value) -> Option<Value> {
        let id = self.comments.len() + 1;
        let update = self.updates.iter_mut().find(|update| update["alias"] == alias)?;
        let comment = json!({
            "id": id, "text": said["text"], "karma": said["karma"], "update": alias, "timestamp": "2026-11-21 10:00:00",
            "user": {"name": who},
        });
        if let Some(comments) = update["comments"].as_array_mut() {
            comments.push(comment.clone());
        }
        self.comments.push(comment.clone());
        Some(comment)
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

/// What was posted, as JSON or as a form.
fn posted(headers: &HeaderMap, body: &Bytes) -> Value {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/json") {
        return serde_json::from_slice(body).unwrap_or_default();
    }
    let mut all = serde_json::Map::new();
    for (key, value) in pairs(&String::from_utf8_lossy(body)) {
        match all.get_mut(&key) {
            Some(Value::Array(values)) => values.push(value.into()),
            // A list of one looks like a text.
            _ if key == "tests" => drop(all.insert(key, json!([value]))),
            _ => drop(all.insert(key, value.into())),
        }
    }
    Value::Object(all)
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
    // The newest first.
    let comments: Vec<Value> = comments.into_iter().rev().filter(|one| one["update"] == wanted).collect();
    Json(json!({"comments": comments, "page": 1, "pages": 1, "rows_per_page": 20, "total": comments.len()}))
}

async fn comment(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let body = posted(&headers, &body);
    let mut inner = lock(&shared);
    if let Some(answer) = refused(&inner, &headers, &body) {
        return answer;
    }
    let alias = body["update"].as_str().unwrap_or_default().to_owned();
    let Some(comment) = inner.say(&alias, "assay", body) else {
        return wrong(StatusCode::NOT_FOUND, "update", "Invalid update specified");
    };
    if std::mem::take(&mut inner.lose) {
        return wrong(StatusCode::BAD_GATEWAY, "proxy", "the answer was lost");
    }
    (StatusCode::CREATED, Json(json!({"comment": comment, "caveats": []}))).into_response()
}

async fn waive(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body = posted(&headers, &body);
    let mut inner = lock(&shared);
    if let Some(answer) = refused(&inner, &headers, &body) {
        return answer;
    }
    let Some(update) = inner.updates.iter().find(|update| update["alias"] == id.as_str()).cloned() else {
        return read::no_update();
    };
    inner.waived.push(json!({"comment": body["comment"], "tests": body["tests"]}));
    Json(json!({ "update": update })).into_response()
}
