//! What the small HTTP servers of this crate share.

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, Uri, header};
use axum::response::Response;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A server on a free port of loopback; dropping it ends it.
pub(crate) struct Web {
    url: String,
    _task: JoinSet<()>,
}

impl Web {
    /// Listens and answers by `routes`.
    pub(crate) async fn start(routes: Router) -> anyhow::Result<Self> {
        let (listener, url) = listen().await?;
        Ok(Self::on(listener, url, routes))
    }

    /// The same where it listens already, so that answers can name its address.
    pub(crate) fn on(listener: TcpListener, url: String, routes: Router) -> Self {
        Self { url, _task: serve(listener, routes) }
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

/// Takes a free port of loopback, and says its address, `http://127.0.0.1:PORT`.
pub(crate) async fn listen() -> anyhow::Result<(TcpListener, String)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    Ok((listener, url))
}

/// Answers by `routes` until the task is dropped.
pub(crate) fn serve(listener: TcpListener, routes: Router) -> JoinSet<()> {
    let mut task = JoinSet::new();
    task.spawn(async move { drop(axum::serve(listener, routes).await) });
    task
}

/// What time a server says it is; the machine's, unless it is told otherwise.
#[derive(Clone, Default)]
pub(crate) struct Wall(Arc<Mutex<Option<i64>>>);

impl Wall {
    /// From now on it says that it is this time (seconds since 1970).
    pub(crate) fn set(&self, seconds: i64) {
        *lock(&self.0) = Some(seconds);
    }

    /// What it says, if it was told.
    pub(crate) fn told(&self) -> Option<i64> {
        *lock(&self.0)
    }

    /// Answers say it.
    pub(crate) fn on(&self, routes: Router) -> Router {
        async fn dated(State(wall): State<Wall>, mut answer: Response) -> Response {
            let at = wall.told().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
            let text = at.map(|at| at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
            if let Some(value) = text.and_then(|text| HeaderValue::from_str(&text).ok()) {
                answer.headers_mut().insert(header::DATE, value);
            }
            answer
        }
        routes.layer(axum::middleware::map_response_with_state(self.clone(), dated))
    }
}

/// Names and values of a form, as often as they are there: it is written as queries are.
pub(crate) fn pairs(form: &str) -> Vec<(String, String)> {
    let uri: Option<Uri> = format!("/?{form}").parse().ok();
    let query = uri.and_then(|uri| Query::try_from_uri(&uri).ok());
    query.map(|Query(pairs)| pairs).unwrap_or_default()
}

/// Locks it, also if somebody panicked with the lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
