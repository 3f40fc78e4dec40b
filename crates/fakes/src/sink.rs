//! An HTTP server that keeps what it gets, and answers as it is told: for webhooks.

use crate::web::{Web, lock};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    /// For example `POST`.
    pub method: String,
    /// With the query.
    pub path: String,
    /// By small names.
    pub headers: BTreeMap<String, String>,
    /// The body, as text.
    pub body: String,
}

/// The server; dropping it ends it.
pub struct HttpSink {
    web: Web,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    got: Mutex<Vec<Got>>,
    answers: Mutex<VecDeque<(u16, String)>>,
}

impl HttpSink {
    /// Listens on a free port of loopback.
    pub async fn start() -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let routes = Router::new().fallback(take).with_state(shared.clone());
        Ok(Self { web: Web::start(routes).await?, shared })
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> &str {
        self.web.url()
    }

    /// What came.
    pub fn got(&self) -> Vec<Got> {
        lock(&self.shared.got).clone()
    }

    /// The next request is answered with this status, in place of 200.
    pub fn answer_next(&self, status: u16) {
        self.say_next(status, "");
    }

    /// The same with a body.
    pub fn say_next(&self, status: u16, body: &str) {
        lock(&self.shared.answers).push_back((status, body.to_owned()));
    }
}

async fn take(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    lock(&shared.got).push(Got {
        method: method.to_string(),
        path: uri.to_string(),
        headers: headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    let (status, said) = lock(&shared.answers).pop_front().unwrap_or((200, String::new()));
    (StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT), said)
}
