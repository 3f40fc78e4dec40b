//! The gate's pages: pipelines, changes, histories of jobs, and Zuul's status document.

mod board;
mod change;
mod history;
mod lanes;
mod status;
mod zuul;

use crate::api::gate_view;
use crate::app::App;
use crate::fault::Fault;
use crate::web::frame::{Frame, percent_encoded};
use askama::Template;
use assay_engine::gate::snapshot::Snapshot;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::routing::get;
use axum::{Extension, Router};
use board::Board;
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Between two messages to one reader.
const PAUSE: Duration = Duration::from_millis(250);

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/gate", get(page))
        .route("/gate/live", get(live))
        .route("/status", get(status::all))
        .route("/status.json", get(status::all))
        .route("/status/change/{id}", get(status::change))
        .route("/change/{number}", get(change::by_number))
        .route("/change/{source}/{number}", get(change::page))
        .route("/jobs/{id}/history", get(history::page))
        .layer(Extension(Arc::new(Boards::default())))
        .layer(Extension(Arc::new(status::Cache::default())))
}

/// The newest board, which all readers share.
#[derive(Default)]
pub(super) struct Boards(Mutex<Newest>);

#[derive(Default)]
struct Newest {
    snapshot: Option<Arc<Snapshot>>,
    board: Arc<Board>,
    /// Of this process, so that a page that has seen another one notices.
    version: u64,
    begun_us: i64,
}

impl Boards {
    /// The board of the newest snapshot, and its version.
    fn newest(&self, app: &App) -> (Arc<Board>, String) {
        let snapshot = app.gate();
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.snapshot.as_ref().is_none_or(|held| !Arc::ptr_eq(held, &snapshot)) {
            let now = app.clock.now();
            newest.board = Arc::new(Board::new(&snapshot, &newest.board, now));
            newest.snapshot = Some(snapshot);
            newest.version += 1;
            if newest.begun_us == 0 {
                newest.begun_us = now.0;
            }
        }
        (newest.board.clone(), format!("{}.{}", newest.begun_us, newest.version))
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Filter {
    #[serde(default)]
    pipeline: String,
    #[serde(default)]
    q: String,
    /// The version of the board that the page has.
    #[serde(default)]
    version: String,
}

#[derive(Template)]
#[template(path = "gate.html")]
struct GatePage {
    frame: Frame,
    filter: Filter,
    configured: bool,
    troubles: Vec<String>,
    staging: bool,
    items: usize,
    chips: Vec<(String, String, usize)>,
    board: String,
    live: String,
    version: String,
}

/// `GET /gate`
async fn page(
    State(app): State<Arc<App>>,
    Extension(boards): Extension<Arc<Boards>>,
    Query(filter): Query<Filter>,
) -> Response {
    super::page(&app, build(&app, &boards, filter))
}

fn build(app: &App, boards: &Boards, filter: Filter) -> Result<GatePage, Fault> {
    let snapshot = app.gate();
    if !filter.pipeline.is_empty() {
        gate_view::known_pipeline(&snapshot, &filter.pipeline)?;
    }
    let (board, version) = boards.newest(app);
    let count = |name: &str| {
        let own = snapshot.queues.iter().filter(|((pipeline, _), _)| pipeline.as_str() == name);
        own.map(|(_, queue)| queue.items.len()).sum()
    };
    let chips = (snapshot.config.pipelines.iter())
        .map(|pipeline| {
            let name = pipeline.name.to_string();
            let href = format!("/gate?pipeline={}", percent_encoded(&name));
            let count = count(&name);
            (name, href, count)
        })
        .collect();
    let mut frame = Frame::new(app.clock.now());
    frame.gate = true;
    let query = format!("pipeline={}&q={}", percent_encoded(&filter.pipeline), percent_encoded(&filter.q));
    Ok(GatePage {
        frame,
        configured: !snapshot.config.pipelines.is_empty(),
        troubles: gate_view::troubles(app),
        staging: app.gate.status().staging,
        items: snapshot.items.len(),
        chips,
        board: board.filtered(&filter.pipeline, &filter.q).html(),
        live: format!("/gate/live?{query}"),
        version,
        filter,
    })
}

/// `GET /gate/live`: what changes on the board, as server-sent events. The first is `stale` if the page has another
/// version than is current: then it has to be fetched again.
async fn live(
    State(app): State<Arc<App>>,
    Extension(boards): Extension<Arc<Boards>>,
    Query(filter): Query<Filter>,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let mut snapshots = app.gate.watch();
    snapshots.mark_changed();
    let (board, version) = boards.newest(&app);
    let reader = Reader {
        shown: Arc::new(board.filtered(&filter.pipeline, &filter.q)),
        stale: filter.version != version,
        next: Instant::now(),
        filter,
        app,
        boards,
        snapshots,
    };
    Sse::new(stream::unfold(reader, Reader::next))
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

/// Browsers leave out events without data.
fn stale() -> sse::Event {
    sse::Event::default().event("stale").data("look at everything again")
}

/// Somebody who looks at the board.
struct Reader {
    app: Arc<App>,
    boards: Arc<Boards>,
    filter: Filter,
    snapshots: tokio::sync::watch::Receiver<Arc<Snapshot>>,
    shown: Arc<Board>,
    stale: bool,
    next: Instant,
}

impl Reader {
    async fn next(mut self) -> Option<(Result<sse::Event, Infallible>, Self)> {
        if std::mem::take(&mut self.stale) {
            return Some((Ok(stale()), self));
        }
        loop {
            tokio::select! {
                changed = self.snapshots.changed() => changed.ok()?,
                () = self.app.shutdown.cancelled() => return None,
            }
            tokio::time::sleep_until(self.next).await;
            self.snapshots.mark_unchanged();
            self.next = Instant::now() + PAUSE;
            let (board, version) = self.boards.newest(&self.app);
            let board = Arc::new(board.filtered(&self.filter.pipeline, &self.filter.q));
            let same_pipelines = board.pipelines.iter().map(|one| &one.key).eq(self
                .shown
                .pipelines
                .iter()
                .map(|one| &one.key));
            let update = board.changes_since(&self.shown);
            self.shown = board;
            if !same_pipelines {
                return Some((Ok(stale()), self));
            }
            if let Some(update) = update {
                let event = sse::Event::default().id(version).json_data(&update).unwrap_or_default();
                return Some((Ok(event), self));
            }
        }
    }
}
