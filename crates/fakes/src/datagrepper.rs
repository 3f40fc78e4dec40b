//! A datagrepper: what a bus carried, by time, topic and id, in pages; in the shapes of fedmsg (`/raw`) and of
//! fedora-messaging (`/v2/search`).

use crate::web::{Wall, Web, lock};
use assay_proto::clock::{Clock as _, SystemClock};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// In answers without `rows_per_page`, and the most.
const ROWS: (usize, usize) = (25, 100);

/// The server; dropping it ends it.
pub struct FakeDatagrepper {
    web: Web,
    shared: Shared,
}

type Shared = Arc<Inner>;

#[derive(Default)]
struct Inner {
    messages: Mutex<Vec<Message>>,
    wall: Wall,
    /// It says that there is one page only.
    counts_badly: AtomicBool,
}

struct Message {
    id: String,
    topic: String,
    body: Value,
    /// Seconds since 1970.
    sent: i64,
}

impl Message {
    /// As fedora-messaging has it.
    fn plain(&self) -> Value {
        let at = jiff::Timestamp::from_second(self.sent).unwrap_or_default();
        let at = at.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string();
        let headers = json!({"fedora_messaging_schema": "base.message", "fedora_messaging_severity": 20, "sent-at": at, "priority": 0});
        json!({"id": self.id, "topic": self.topic, "headers": headers, "body": self.body, "queue": null})
    }

    /// As fedmsg had it.
    fn enveloped(&self) -> Value {
        json!({
            "i": 0, "msg_id": self.id, "timestamp": self.sent as f64, "topic": self.topic, "msg": self.body,
            "source_name": "datanommer", "source_version": "1.4.5", "headers": {}, "username": null,
        })
    }
}

impl FakeDatagrepper {
    /// Listens on a free port of loopback.
    pub async fn start() -> anyhow::Result<Self> {
        let shared = Shared::default();
        let routes = Router::new()
            .route("/raw", get(raw))
            .route("/raw/", get(raw))
            .route("/v2/search", get(|State(all), query| async move { search(&all, query, Message::plain) }))
            .route("/id", get(|State(all), query| async move { by_id(&all, query, Message::enveloped) }))
            .route("/v2/id", get(|State(all), query| async move { by_id(&all, query, Message::plain) }))
            .with_state(shared.clone());
        Ok(Self { web: Web::start(shared.wall.on(routes)).await?, shared })
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> &str {
        self.web.url()
    }

    /// From now on it says that it is this time (seconds since 1970).
    pub fn says_it_is(&self, seconds: i64) {
        self.shared.wall.set(seconds);
    }

    /// From now on it says that all it has fits into one page: its counts are estimates.
    pub fn counts_badly(&self) {
        self.shared.counts_badly.store(true, Ordering::Relaxed);
    }

    /// The bus carried a message, sent at a time (seconds since 1970).
    pub fn carried(&self, id: &str, topic: &str, body: Value, sent: i64) {
        lock(&self.shared.messages).push(Message { id: id.to_owned(), topic: topic.to_owned(), body, sent });
    }
}

type Pairs = Query<Vec<(String, String)>>;

fn wrong(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({"error": error, "arguments": {}}))).into_response()
}

/// A time as seconds since 1970, or as ISO 8601 writes it.
fn time(text: &str) -> Option<f64> {
    let iso = || text.parse::<jiff::Timestamp>().ok().map(|at| at.as_second() as f64);
    text.parse().ok().or_else(iso)
}

async fn raw(State(all): State<Shared>, query: Pairs) -> Response {
    search(&all, query, Message::enveloped)
}

fn search(shared: &Shared, Query(pairs): Pairs, shown: fn(&Message) -> Value) -> Response {
    let get = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let number = |name: &str, usual: usize| match get(name) {
        None => Some(usual),
        Some(text) => text.parse::<usize>().ok(),
    };
    let (Some(page), Some(rows)) = (number("page", 1), number("rows_per_page", ROWS.0)) else {
        return wrong(StatusCode::BAD_REQUEST, "page and rows_per_page are numbers");
    };
    if page == 0 || rows == 0 || rows > ROWS.1 {
        return wrong(StatusCode::BAD_REQUEST, "page must be > 0, and rows_per_page must be > 0 and <= 100");
    }
    let mut limits = [None, None];
    for (limit, name) in limits.iter_mut().zip(["start", "end"]) {
        if let Some(text) = get(name) {
            *limit = time(text);
            if limit.is_none() {
                return wrong(StatusCode::BAD_REQUEST, &format!("{name} is no time"));
            }
        }
    }
    // Without a beginning, so long ago.
    if let (None, Some(delta)) = (limits[0], get("delta").and_then(|text| text.parse::<f64>().ok())) {
        let end = limits[1].unwrap_or_else(|| {
            shared.wall.told().map_or_else(|| SystemClock.now().0 as f64 / 1e6, |seconds| seconds as f64)
        });
        limits = [Some(end - delta), Some(end)];
    }
    let topics: Vec<&str> =
        pairs.iter().filter(|(key, _)| key == "topic").map(|(_, value)| value.as_str()).collect();
    let messages = lock(&shared.messages);
    let mut found: Vec<&Message> = messages
        .iter()
        .filter(|message| {
            let sent = message.sent as f64;
            limits[0].is_none_or(|start| sent >= start)
                && limits[1].is_none_or(|end| sent <= end)
                && (topics.is_empty() || topics.contains(&message.topic.as_str()))
        })
        .collect();
    found.sort_by_key(|message| message.sent);
    if get("order") != Some("asc") {
        found.reverse();
    }
    let total = if shared.counts_badly.load(Ordering::Relaxed) { found.len().min(rows) } else { found.len() };
    let raw: Vec<Value> = found.into_iter().skip((page - 1) * rows).take(rows).map(shown).collect();
    let arguments =
        json!({"page": page, "rows_per_page": rows, "start": limits[0], "end": limits[1], "topics": topics});
    Json(json!({"raw_messages": raw, "count": raw.len(), "total": total, "pages": total.div_ceil(rows), "arguments": arguments}))
        .into_response()
}

fn by_id(shared: &Shared, Query(pairs): Pairs, shown: fn(&Message) -> Value) -> Response {
    let Some((_, id)) = pairs.iter().find(|(key, _)| key == "id") else {
        return wrong(StatusCode::BAD_REQUEST, "You must specify an id");
    };
    let messages = lock(&shared.messages);
    let found = messages.iter().find(|message| message.id == *id);
    found.map_or_else(
        || wrong(StatusCode::NOT_FOUND, "No such message"),
        |message| Json(shown(message)).into_response(),
    )
}
