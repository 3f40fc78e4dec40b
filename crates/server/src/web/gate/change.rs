//! `/change/SOURCE/N`: what happened to a change, and why.

use crate::api::gate_history;
use crate::app::App;
use crate::fault::Fault;
use crate::web::frame::{Badge, Frame, Moment, span};
use askama::Template;
use assay_engine::gate::ids::ChangeId;
use assay_engine::ids::Timestamp;
use assay_proto::api::gate as api;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use std::sync::Arc;

#[derive(Template)]
#[template(path = "change.html")]
struct ChangePage {
    frame: Frame,
    change: api::ChangeHistory,
    now: Vec<NowView>,
    days: Vec<(String, Vec<EventView>)>,
    items: Vec<ItemView>,
    receipts: Vec<(api::ReceiptStatus, Moment)>,
}

/// An item that has not ended.
struct NowView {
    item: api::ItemStatus,
    badge: Badge,
    place: String,
    since: Moment,
    /// Half and nine of ten of the latest successes took no longer; whether something of it has yet to begin.
    remaining: Option<(String, String, bool)>,
}

/// Something that happened.
struct EventView {
    time: String,
    at: Moment,
    mood: &'static str,
    happened: api::Happened,
}

/// An item with its builds, buildset by buildset.
struct ItemView {
    item: api::ItemStatus,
    badge: Badge,
    enqueued: Moment,
    took: String,
    buildsets: Vec<(u32, Vec<BuildView>)>,
}

struct BuildView {
    build: api::BuildStatus,
    badge: Badge,
    took: String,
}

/// `GET /change/{number}`: the only change with this number.
pub(super) async fn by_number(State(app): State<Arc<App>>, Path(number): Path<String>) -> Response {
    match gate_history::find(&app, None, &number).await {
        Ok(change) => {
            let source = crate::web::frame::percent_encoded(change.source.as_str());
            Redirect::to(&format!("/change/{source}/{}", change.number)).into_response()
        }
        Err(fault) => crate::web::page(&app, Err::<ChangePage, _>(fault)),
    }
}

/// `GET /change/{source}/{number}`
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Path((source, number)): Path<(String, String)>,
) -> Response {
    let rendered = match gate_history::find(&app, Some(&source), &number).await {
        Ok(change) => build(&app, &change).await,
        Err(fault) => Err(fault),
    };
    crate::web::page(&app, rendered)
}

fn time(text: &str) -> Timestamp {
    text.parse::<jiff::Timestamp>().map_or(Timestamp(0), |at| Timestamp(at.as_microsecond()))
}

async fn build(app: &App, id: &ChangeId) -> Result<ChangePage, Fault> {
    let changes = app.changes();
    let change = gate_history::change(app, id).await?;
    let now_at = app.clock.now();
    let snapshot = app.gate();
    let now = (change.now.iter())
        .map(|item| {
            let key = (item.pipeline.as_str().into(), item.queue.as_str().into());
            let queue = snapshot.queues.get(&key).map(|queue| &queue.items);
            let place = queue.and_then(|items| {
                let at = items.iter().position(|id| id.0 == item.id)?;
                (items.len() > 1).then(|| format!("{} of {} in queue {}", at + 1, items.len(), item.queue))
            });
            NowView {
                badge: Badge::of(now_word(item)),
                place: place.unwrap_or_default(),
                since: Moment::new(time(&item.enqueued), now_at),
                remaining: item
                    .remaining
                    .map(|left| (seconds(left.p50), seconds(left.p90), left.without_waiting)),
                item: item.clone(),
            }
        })
        .collect();
    let mut days: Vec<(String, Vec<EventView>)> = Vec::new();
    for happened in &change.events {
        let at = Moment::new(time(&happened.at), now_at);
        let (day, clock) = at.full.split_once(' ').unwrap_or((at.full.as_str(), ""));
        let view = EventView {
            time: clock.trim_end_matches(" UTC").to_owned(),
            mood: match happened.mood.as_str() {
                "ok" => "ok",
                "bad" => "fail",
                _ => "none",
            },
            happened: happened.clone(),
            at: at.clone(),
        };
        match days.last_mut() {
            Some((last, views)) if last == day => views.push(view),
            _ => days.push((day.to_owned(), vec![view])),
        }
    }
    let receipts =
        change.receipts.iter().map(|receipt| (receipt.clone(), Moment::new(time(&receipt.signed), now_at)));
    let mut frame = Frame::new(now_at);
    frame.gate = true;
    frame.events = Some(changes);
    Ok(ChangePage {
        frame,
        now,
        days,
        items: change.items.iter().map(|item| item_view(item, now_at)).collect(),
        receipts: receipts.collect(),
        change,
    })
}

fn seconds(seconds: f64) -> String {
    span((seconds * 1e6) as i64)
}

fn now_word(item: &api::ItemStatus) -> &'static str {
    match item.state.as_str() {
        "landing" => "landing",
        _ if !item.failing.is_empty() => "failing",
        _ if item.jobs.iter().any(|job| job.uuid.is_some()) => "running",
        _ => "waiting",
    }
}

fn item_view(item: &api::ItemStatus, now: Timestamp) -> ItemView {
    let word = match item.state.as_str() {
        "landed" => "landed",
        "passed" => "passed",
        "failed" | "refused" => "failed",
        "evicted" => "evicted",
        _ => now_word(item),
    };
    let enqueued = time(&item.enqueued);
    let until = item.ended.as_deref().map_or(now, time);
    let mut buildsets: Vec<(u32, Vec<BuildView>)> = Vec::new();
    for build in &item.jobs {
        let view = build_view(build);
        match buildsets.last_mut() {
            Some((number, views)) if *number == build.buildset => views.push(view),
            _ => buildsets.push((build.buildset, vec![view])),
        }
    }
    buildsets.reverse();
    ItemView {
        item: item.clone(),
        badge: Badge::of(word),
        enqueued: Moment::new(enqueued, now),
        took: span(until.micros_since(enqueued)),
        buildsets,
    }
}

fn build_view(build: &api::BuildStatus) -> BuildView {
    let kind = match (build.state.as_str(), build.result.as_deref(), build.class.as_deref()) {
        ("running", ..) => "running",
        ("queued", ..) => "queued",
        ("waiting", ..) => "waiting",
        ("skipped", ..) => "skipped",
        ("stopped", ..) => "cancelled",
        (_, Some("SUCCESS"), _) => "passed",
        (_, _, Some("infrastructure")) => "incomplete",
        _ => "failed",
    };
    let took = match (&build.started, &build.ended) {
        (Some(from), Some(to)) => span(time(to).micros_since(time(from))),
        _ => String::new(),
    };
    BuildView { build: build.clone(), badge: Badge::of(kind), took }
}
