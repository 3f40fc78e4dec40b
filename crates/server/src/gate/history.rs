//! `/api/assay/v1/gate/history`: what happened to the gate, as JSON lines, to be replayed against another configuration.
//!
//! First the configuration in force, then the events in the order in which they arrived, each with the facts that were
//! known when it was dealt with, then the builds that ended, in the order of their ends:
//!
//! ```text
//! {"config": {"hash": "…", "pipelines": […], …}}
//! {"at_us": 1795219200000000, "event": {"source": "gerrit", "kind": "patchset-created", …}}
//! {"at_us": 1795219260000000, "build": {"uuid": "…", "job": "unit", "changes": [{"change": …, "patchset": 2}], "ahead": […], "tree": "…", "result": {…}, …}}
//! ```
//!
//! `changes` are the item's own, `ahead` those below them in the tested state that were not in their branches yet.

use crate::app::App;
use assay_connect::News;
use assay_engine::gate::ids::{ItemId, MergeId, Patchset, Uuid};
use assay_engine::gate::item::{Item, ItemChange};
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
use std::collections::btree_map::Entry;
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
            let mut tested = Tested::default();
            let mut lines = Vec::new();
            for build in &builds {
                lines.push(build_line(build, &tested.of(app, (build.item, build.buildset)).await?));
            }
            Ok(last.map(|next| (text(lines.into_iter()), next)))
        }
    }
}

/// What was tested by the builds of a page, as far as it is still there.
#[derive(Default)]
struct Tested {
    items: BTreeMap<ItemId, Option<Arc<Item>>>,
    on: BTreeMap<ItemId, BTreeMap<u32, Option<MergeId>>>,
}

/// The item's own changes, and those below them.
#[derive(Default)]
struct Changes {
    own: Vec<Patchset>,
    ahead: Vec<Patchset>,
}

impl Tested {
    async fn of(&mut self, app: &App, (item, buildset): (ItemId, u32)) -> Result<Changes, StoreError> {
        let Some(found) = self.item(app, item).await? else { return Ok(Changes::default()) };
        let patchsets = |changes: &[ItemChange]| -> Vec<Patchset> {
            changes.iter().map(|change| change.merge.patchset.clone()).collect()
        };
        let mut ahead = Vec::new();
        let mut on = self.on(app, MergeId { item, buildset }).await?;
        // A state cannot stand on itself; a damaged store could say so.
        let mut seen = BTreeSet::new();
        while let Some(below) = on.filter(|below| seen.insert(*below)) {
            if let Some(item) = self.item(app, below.item).await? {
                ahead.push(patchsets(&item.changes));
            }
            on = self.on(app, below).await?;
        }
        ahead.reverse();
        ahead.push(patchsets(&found.below));
        Ok(Changes { own: patchsets(&found.changes), ahead: ahead.concat() })
    }

    async fn item(&mut self, app: &App, id: ItemId) -> Result<Option<Arc<Item>>, StoreError> {
        if let Some(known) = self.items.get(&id) {
            return Ok(known.clone());
        }
        let item = app.store.gate().item(id).await?;
        self.items.insert(id, item.clone());
        Ok(item)
    }

    async fn on(&mut self, app: &App, state: MergeId) -> Result<Option<MergeId>, StoreError> {
        let sets = match self.on.entry(state.item) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let sets = app.store.gate().buildsets(state.item).await?;
                place.insert(sets.into_iter().map(|set| (set.number, set.on)).collect())
            }
        };
        Ok(sets.get(&state.buildset).copied().flatten())
    }
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

fn build_line(build: &StoredBuild, tested: &Changes) -> Value {
    json!({
        "at_us": build.ended_at.map(|at| at.0),
        "build": {
            "uuid": build.uuid,
            "item": build.item,
            "buildset": build.buildset,
            "job": build.job,
            "changes": tested.own,
            "ahead": tested.ahead,
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
