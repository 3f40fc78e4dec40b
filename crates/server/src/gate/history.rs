//! `/api/assay/v1/gate/history`: what happened to the gate, as JSON lines, to be replayed against another configuration.
//!
//! First the configuration in force, then the events in the order in which they arrived, each with the facts that were
//! known when it was dealt with, then the builds that ended, in the order of their ends:
//!
//! ```text
//! {"config": {"hash": "…", "pipelines": […], …}}
//! {"at_us": 1795219200000000, "event": {"source": "gerrit", "kind": "patchset-created", …}}
//! {"at_us": 1795219260000000, "build": {"uuid": "…", "job": "unit", "changes": [{"change": …, "patchset": 2}], "tree": "…", "result": {…}, …}}
//! ```

use crate::app::App;
use assay_connect::News;
use assay_engine::gate::ids::{ItemId, Uuid};
use assay_engine::gate::item::Item;
use assay_engine::ids::Timestamp;
use assay_store::{EventId, EventState, StoreError, StoredBuild, StoredEvent};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rows that are read at once.
const PAGE: u32 = 500;

pub(crate) fn router() -> Router<Arc<App>> {
    Router::new().route("/api/assay/v1/gate/history", get(history))
}

/// How far it has been written.
enum Place {
    Start,
    Events(EventId),
    Builds(Timestamp, Uuid),
}

async fn history(State(app): State<Arc<App>>) -> Response {
    let lines = stream::try_unfold((app, Place::Start), |(app, place)| async move {
        let Some((lines, next)) = page(&app, place).await? else { return Ok::<_, StoreError>(None) };
        Ok(Some((Bytes::from(lines), (app, next))))
    });
    let fields = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"gate-history.jsonl\""),
    ];
    (fields, Body::from_stream(lines)).into_response()
}

async fn page(app: &App, place: Place) -> Result<Option<(String, Place)>, StoreError> {
    let gate = app.store.gate();
    match place {
        Place::Start => {
            let config = json!({ "config": *app.gate().config });
            Ok(Some((text([config].into_iter()), Place::Events(EventId(0)))))
        }
        Place::Events(after) => {
            let events = gate.events_after(after, PAGE).await?;
            let next = match events.last() {
                Some(last) => Place::Events(last.id),
                None => Place::Builds(Timestamp(0), Uuid(0)),
            };
            Ok(Some((text(events.iter().filter_map(event_line)), next)))
        }
        Place::Builds(ended, uuid) => {
            let builds = gate.builds_after((ended, uuid), PAGE).await?;
            let last = builds.last().map(|last| Place::Builds(last.ended_at.unwrap_or(ended), last.uuid));
            let items = items_of(app, &builds).await?;
            Ok(last.map(|next| (text(builds.iter().map(|build| build_line(build, &items))), next)))
        }
    }
}

/// The items of these builds, as far as they are still there.
async fn items_of(app: &App, builds: &[StoredBuild]) -> Result<BTreeMap<ItemId, Arc<Item>>, StoreError> {
    let ids: BTreeSet<ItemId> = builds.iter().map(|build| build.item).collect();
    let mut items = BTreeMap::new();
    for id in ids {
        if let Some(item) = app.store.gate().item(id).await? {
            items.insert(id, item);
        }
    }
    Ok(items)
}

fn text(lines: impl Iterator<Item = Value>) -> String {
    lines.map(|line| line.to_string() + "\n").collect()
}

fn event_line(event: &StoredEvent) -> Option<Value> {
    // One that nothing has been decided about has no facts, and is not history yet.
    let dealt_with = event.state == EventState::Consumed;
    match serde_json::from_str(&event.body).ok().filter(|_| dealt_with)? {
        News::Event(happened) => Some(json!({ "at_us": event.received_at.0, "event": happened })),
        News::Changed(_) => None,
    }
}

fn build_line(build: &StoredBuild, items: &BTreeMap<ItemId, Arc<Item>>) -> Value {
    let item = items.get(&build.item);
    let changes: Vec<_> =
        item.iter().flat_map(|item| &item.changes).map(|change| &change.merge.patchset).collect();
    json!({
        "at_us": build.ended_at.map(|at| at.0),
        "build": {
            "uuid": build.uuid,
            "item": build.item,
            "buildset": build.buildset,
            "job": build.job,
            "changes": changes,
            "project": build.project,
            "pipeline": build.pipeline,
            "branch": build.branch,
            "voting": build.voting,
            "tree": build.tree,
            "asked_at": build.asked_at,
            "started_at": build.started_at,
            "result": build.result,
        },
    })
}
