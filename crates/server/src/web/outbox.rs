//! `/outbox`: what others are told; `/reports/builds/BUILD`: what a build's tests say.

use super::frame::{Frame, Moment, percent_encoded};
use crate::app::App;
use crate::fault::Fault;
use crate::reporting::api::{OutboxQuery, ReportQuery};
use crate::reporting::build::lists;
use askama::Template;
use assay_engine::report::build::{BuildReport, ReportLine};
use assay_proto::api::outbox as wire;
use assay_store::EntryState;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::get;
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/outbox", get(list)).route("/reports/builds/{build}", get(report))
}

struct EntryRow {
    entry: wire::OutboxEntry,
    at: Moment,
}

struct TargetRow {
    target: wire::OutboxTarget,
    oldest: Option<Moment>,
    last: Option<Moment>,
}

#[derive(Template)]
#[template(path = "outbox.html")]
struct OutboxPage {
    frame: Frame,
    staging: bool,
    target: String,
    states: Vec<(&'static str, bool)>,
    rows: Vec<EntryRow>,
    targets: Vec<TargetRow>,
    filtered: bool,
    older: Option<String>,
}

async fn list(State(app): State<Arc<App>>, Query(query): Query<OutboxQuery>) -> Response {
    super::page(&app, build(&app, query).await)
}

async fn build(app: &App, query: OutboxQuery) -> Result<OutboxPage, Fault> {
    let now = app.clock.now();
    let text = |text: &Option<String>| text.clone().unwrap_or_default().trim().to_owned();
    let (target, state) = (text(&query.target), text(&query.state));
    let found = app.list_outbox(query).await?;
    let words = [("target", &target), ("state", &state)];
    let parts = words.into_iter().filter(|(_, value)| !value.is_empty());
    let parts: Vec<String> = parts.map(|(key, value)| format!("{key}={}", percent_encoded(value))).collect();
    let older = found.next_before.map(|before| {
        let parts: Vec<String> = parts.iter().cloned().chain([format!("before={before}")]).collect();
        format!("/outbox?{}", parts.join("&"))
    });
    let moment = |at: &Option<String>| at.as_deref().map(|at| Moment::of_text(at, now));
    Ok(OutboxPage {
        frame: Frame::new(now),
        staging: found.staging,
        states: EntryState::ALL.map(EntryState::word).map(|word| (word, word == state)).to_vec(),
        filtered: !parts.is_empty(),
        older,
        rows: found
            .entries
            .into_iter()
            .map(|entry| EntryRow { at: Moment::of_text(&entry.at, now), entry })
            .collect(),
        targets: found
            .targets
            .into_iter()
            .map(|target| TargetRow { oldest: moment(&target.oldest), last: moment(&target.last), target })
            .collect(),
        target,
    })
}

struct ListPart {
    id: &'static str,
    title: &'static str,
    rows: Vec<ReportLine>,
}

#[derive(Template)]
#[template(path = "report.html")]
struct ReportPage {
    frame: Frame,
    summary: String,
    lists: Vec<ListPart>,
    report: BuildReport,
    text_href: String,
    against_href: String,
}

async fn report(
    State(app): State<Arc<App>>,
    Path(build): Path<String>,
    Query(query): Query<ReportQuery>,
) -> Response {
    super::page(&app, build_page(&app, build, query).await)
}

async fn build_page(app: &App, build: String, query: ReportQuery) -> Result<ReportPage, Fault> {
    let report = app.build_report(&query.asked(build)).await?;
    let part = |(id, title, lines): (&'static str, &'static str, &[ReportLine])| ListPart {
        id,
        title,
        rows: lines.to_vec(),
    };
    let lists = lists(&report).into_iter().map(part).collect();
    let against = report.against.as_deref().map(|build| format!("?against={}", percent_encoded(build)));
    let against_href = crate::reporting::build::address("", report.against.as_deref().unwrap_or_default());
    Ok(ReportPage {
        against_href,
        frame: Frame::new(app.clock.now()),
        summary: report.summary(),
        lists,
        text_href: format!(
            "/api/assay/v1/reports/builds/{}/text{}",
            percent_encoded(&report.build),
            against.unwrap_or_default()
        ),
        report,
    })
}
