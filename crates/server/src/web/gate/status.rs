//! `/status.json`, as dashboards of Zuul 2 fetch it: from any site, every few seconds.

use super::zuul::{self, Beside};
use crate::api::gate_view;
use crate::app::App;
use assay_engine::gate::snapshot::Snapshot;
use assay_engine::ids::Timestamp;
use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::{Arc, Mutex, PoisonError};

/// For how long a document is good, seconds.
const EXPIRY: i64 = 1;

/// The latest document.
#[derive(Default)]
pub(crate) struct Cache(Mutex<Option<Cached>>);

#[derive(Clone)]
struct Cached {
    made_at: Timestamp,
    snapshot: Arc<Snapshot>,
    body: axum::body::Bytes,
}

/// `GET /status.json`, `GET /status`
pub(super) async fn all(State(app): State<Arc<App>>, Extension(cache): Extension<Arc<Cache>>) -> Response {
    let (now, snapshot) = (app.clock.now(), app.gate());
    let held = cache.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let fresh = held.filter(|held| {
        Arc::ptr_eq(&held.snapshot, &snapshot) && now.micros_since(held.made_at) < EXPIRY * 1_000_000
    });
    if let Some(cached) = fresh {
        return answer(cached.made_at, cached.body);
    }
    let beside = beside(&app, &snapshot).await;
    let document = zuul::document(&snapshot, &beside, now);
    let body: axum::body::Bytes = serde_json::to_vec(&document).unwrap_or_default().into();
    let cached = Cached { made_at: now, snapshot, body: body.clone() };
    *cache.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(cached);
    answer(now, body)
}

/// `GET /status/change/N,PS`
pub(super) async fn change(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    let now = app.clock.now();
    let items = zuul::change(&app.gate(), &workers(&app).await, &id, now);
    answer(now, serde_json::to_vec(&items).unwrap_or_default().into())
}

async fn beside(app: &App, snapshot: &Snapshot) -> Beside {
    let status = app.gate.status();
    let mut words = gate_view::troubles(app);
    for ((_, name), queue) in &snapshot.queues {
        words.extend(queue.hold.as_ref().map(|(why, _)| format!("queue {name} is held: {why}")));
    }
    // Events wait only while a source does not answer; the store is not asked for nothing.
    let waiting = if status.waiting.is_empty() {
        0
    } else {
        app.store.gate().unconsumed().await.map_or(0, |events| events.len())
    };
    Beside {
        message: (!words.is_empty()).then(|| words.join("; ")),
        trigger_events: waiting,
        result_events: app.engine.waiting(),
        configured_at: status.config.loaded_at.unwrap_or_default(),
        workers: workers(app).await,
    }
}

async fn workers(app: &App) -> zuul::Workers {
    let rows = app.store.workers().await.unwrap_or_default();
    rows.into_iter().map(|row| (row.name.clone(), row)).collect()
}

fn answer(made_at: Timestamp, body: axum::body::Bytes) -> Response {
    let caching = HeaderValue::from_static("public, max-age=1");
    let fields = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        // Without it the browser of a dashboard elsewhere would not hand the document over.
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin")),
        (header::CACHE_CONTROL, caching),
        (header::LAST_MODIFIED, http_date(made_at)),
        (header::EXPIRES, http_date(made_at.plus_seconds(EXPIRY))),
    ];
    (StatusCode::OK, fields, body).into_response()
}

/// `Sat, 21 Nov 2026 03:58:00 GMT`
fn http_date(at: Timestamp) -> HeaderValue {
    let text = jiff::Timestamp::from_microsecond(at.0)
        .map(|at| at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
        .unwrap_or_default();
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}
