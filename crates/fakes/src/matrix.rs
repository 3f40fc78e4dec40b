//! A Matrix homeserver with rooms, as far as those who send messages need it: a transaction is taken once.

use crate::web::{Web, lock};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The token that it knows.
pub const TOKEN: &str = "syt_assay";
/// The room that there is, and its alias.
pub const ROOM: (&str, &str) = ("!abc:example.org", "#qa:example.org");

/// The homeserver; dropping it ends it.
pub struct Homeserver {
    web: Web,
    shared: Arc<Mutex<Room>>,
}

#[derive(Default)]
struct Room {
    /// Events by transaction, in order.
    sent: BTreeMap<String, usize>,
    events: Vec<Value>,
    /// So many are refused first, as too many at once.
    busy: u32,
}

impl Homeserver {
    /// Listens on a free port of loopback.
    pub async fn start() -> anyhow::Result<Self> {
        let shared = Arc::new(Mutex::new(Room::default()));
        let routes = Router::new()
            .route("/_matrix/client/v3/directory/room/{alias}", get(directory))
            .route("/_matrix/client/v3/rooms/{room}/send/{kind}/{transaction}", put(send))
            .with_state(shared.clone());
        Ok(Self { web: Web::start(routes).await?, shared })
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> &str {
        self.web.url()
    }

    /// The contents of the messages, in order.
    pub fn messages(&self) -> Vec<Value> {
        lock(&self.shared).events.clone()
    }

    /// Refuses the next messages as too many at once.
    pub fn busy_for(&self, messages: u32) {
        lock(&self.shared).busy = messages;
    }
}

type Answer = (StatusCode, Json<Value>);

fn wrong(status: StatusCode, code: &str, error: &str) -> Answer {
    (status, Json(json!({"errcode": code, "error": error})))
}

fn stranger(headers: &HeaderMap) -> Option<Answer> {
    let token = headers.get("authorization").and_then(|value| value.to_str().ok());
    (token != Some(&format!("Bearer {TOKEN}")))
        .then(|| wrong(StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN", "Unrecognised access token"))
}

async fn directory(Path(alias): Path<String>) -> Answer {
    if alias == ROOM.1 {
        return (StatusCode::OK, Json(json!({"room_id": ROOM.0, "servers": ["example.org"]})));
    }
    wrong(StatusCode::NOT_FOUND, "M_NOT_FOUND", "Room alias not found")
}

async fn send(
    State(shared): State<Arc<Mutex<Room>>>,
    Path((room, kind, transaction)): Path<(String, String, String)>,
    headers: HeaderMap,
    Json(content): Json<Value>,
) -> Answer {
    if let Some(answer) = stranger(&headers) {
        return answer;
    }
    if room != ROOM.0 || kind != "m.room.message" {
        return wrong(StatusCode::FORBIDDEN, "M_FORBIDDEN", "User not in room");
    }
    let mut inner = lock(&shared);
    if inner.busy > 0 {
        inner.busy -= 1;
        return wrong(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", "Too Many Requests");
    }
    let next = inner.events.len();
    let number = *inner.sent.entry(transaction).or_insert(next);
    if number == next {
        inner.events.push(content);
    }
    (StatusCode::OK, Json(json!({"event_id": format!("${number}:example.org")})))
}
