//! A COPR, as far as those who look need it: projects and their builds.

use crate::web::{Web, lock};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The server; dropping it ends it.
pub struct FakeCopr {
    web: Web,
    shared: Shared,
}

/// Numbers of builds that ended well, by `OWNER/PROJECT`.
type Shared = Arc<Mutex<BTreeMap<String, Vec<i64>>>>;

impl FakeCopr {
    /// Listens on a free port of loopback.
    pub async fn start() -> anyhow::Result<Self> {
        let shared = Shared::default();
        let routes = Router::new()
            .route("/api_3/project", get(project))
            .route("/api_3/build/list", get(builds))
            .with_state(shared.clone());
        Ok(Self { web: Web::start(routes).await?, shared })
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> &str {
        self.web.url()
    }

    /// There is a project with these builds.
    pub fn project(&self, name: &str, builds: &[i64]) {
        lock(&self.shared).insert(name.to_owned(), builds.to_vec());
    }
}

type Names = Query<BTreeMap<String, String>>;

/// The project that is meant, and its builds.
fn found(shared: &Shared, names: &BTreeMap<String, String>) -> Result<(String, Vec<i64>), Box<Response>> {
    let get = |key: &str| names.get(key).cloned().unwrap_or_default();
    let name = format!("{}/{}", get("ownername"), get("projectname"));
    let builds = lock(shared).get(&name).cloned();
    builds.map(|builds| (name.clone(), builds)).ok_or_else(|| {
        let error = json!({"error": format!("Project {name} does not exist.")});
        Box::new((StatusCode::NOT_FOUND, Json(error)).into_response())
    })
}

async fn project(State(shared): State<Shared>, Query(names): Names) -> Response {
    found(&shared, &names)
        .map_or_else(|answer| *answer, |(name, _)| Json(json!({"full_name": name})).into_response())
}

async fn builds(State(shared): State<Shared>, Query(names): Names) -> Response {
    let (_, mut builds) = match found(&shared, &names) {
        Ok(found) => found,
        Err(answer) => return *answer,
    };
    builds.sort_unstable();
    if names.get("order_type").map(String::as_str) == Some("DESC") {
        builds.reverse();
    }
    let limit = names.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(100);
    let items: Vec<Value> =
        builds.into_iter().take(limit).map(|id| json!({"id": id, "state": "succeeded"})).collect();
    Json(json!({"items": items, "meta": {}})).into_response()
}
