//! `/events` and `/rules`: what happened outside, and what it led to.

use super::frame::{Frame, Moment, percent_encoded};
use crate::app::App;
use crate::events::api::ListQuery;
use crate::fault::Fault;
use askama::Template;
use assay_proto::api::events as wire;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::get;
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/events", get(list)).route("/events/{id}", get(show)).route("/rules", get(rules))
}

struct EventRow {
    event: wire::OutsideEvent,
    at: Moment,
}

struct SourceRow {
    source: wire::EventSource,
    last: Option<Moment>,
}

#[derive(Template)]
#[template(path = "events.html")]
struct EventsPage {
    frame: Frame,
    q: String,
    source: String,
    states: Vec<(&'static str, bool)>,
    led: bool,
    rows: Vec<EventRow>,
    sources: Vec<SourceRow>,
    filtered: bool,
    older: Option<String>,
}

async fn list(State(app): State<Arc<App>>, Query(query): Query<ListQuery>) -> Response {
    super::page(&app, build(&app, query).await)
}

async fn build(app: &App, query: ListQuery) -> Result<EventsPage, Fault> {
    let now = app.clock.now();
    let text = |text: &Option<String>| text.clone().unwrap_or_default().trim().to_owned();
    let (q, source, state) = (text(&query.q), text(&query.source), text(&query.state));
    let led = text(&query.led);
    let found = app.list_events(query).await?;
    let words = [("q", &q), ("source", &source), ("state", &state), ("led", &led)];
    let parts = words.into_iter().filter(|(_, value)| !value.is_empty());
    let parts: Vec<String> = parts.map(|(key, value)| format!("{key}={}", percent_encoded(value))).collect();
    let older = found.next_before.map(|before| {
        let parts: Vec<String> = parts.iter().cloned().chain([format!("before={before}")]).collect();
        format!("/events?{}", parts.join("&"))
    });
    let sources = app.list_sources().await?.into_iter();
    Ok(EventsPage {
        frame: Frame::new(now),
        states: ["received", "matched", "parked"].map(|word| (word, word == state)).to_vec(),
        led: !led.is_empty(),
        filtered: !parts.is_empty(),
        older,
        rows: found
            .events
            .into_iter()
            .map(|event| EventRow { at: Moment::of_text(&event.received, now), event })
            .collect(),
        sources: sources
            .map(|source| SourceRow {
                last: source.last.as_deref().map(|at| Moment::of_text(at, now)),
                source,
            })
            .collect(),
        q,
        source,
    })
}

#[derive(Template)]
#[template(path = "event.html")]
struct EventPage {
    frame: Frame,
    event: wire::OutsideEvent,
    at: Moment,
    headers: String,
    body: String,
}

async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    super::page(&app, one(&app, &id).await)
}

async fn one(app: &App, id: &str) -> Result<EventPage, Fault> {
    let now = app.clock.now();
    let absent = || {
        Fault::not_found(
            format!("There is no event {id}."),
            "See the list of events for those that there are.",
        )
    };
    let mut event = app.show_event(id.parse().map_err(|_| absent())?).await?;
    let pretty = |value: Option<serde_json::Value>| match value.unwrap_or_default() {
        serde_json::Value::String(text) => text,
        value => serde_json::to_string_pretty(&value).unwrap_or_default(),
    };
    Ok(EventPage {
        frame: Frame::new(now),
        at: Moment::of_text(&event.received, now),
        headers: pretty(event.headers.take()),
        body: pretty(event.body.take()),
        event,
    })
}

struct RuleRow {
    rule: wire::Rule,
    last: Option<Moment>,
    last_failed: Option<Moment>,
}

#[derive(Template)]
#[template(path = "rules.html")]
struct RulesPage {
    frame: Frame,
    rows: Vec<RuleRow>,
    findings: Vec<String>,
}

async fn rules(State(app): State<Arc<App>>) -> Response {
    let now = app.clock.now();
    let page = app.list_rules().await.map(|found| RulesPage {
        frame: Frame::new(now),
        findings: found.findings,
        rows: found
            .rules
            .into_iter()
            .map(|rule| {
                let moment = |at: &Option<String>| at.as_deref().map(|at| Moment::of_text(at, now));
                RuleRow { last: moment(&rule.last), last_failed: moment(&rule.last_failed), rule }
            })
            .collect(),
    });
    super::page(&app, page)
}
