//! `outbox` and `reports` of the API.

use super::build::{self, Asked};
use super::people::PREFIX;
use super::tellers::lag;
use crate::app::App;
use crate::auth::Sender;
use crate::fault::Fault;
use crate::web::frame::rfc3339;
use assay_engine::report::build::{BuildReport, text};
use assay_proto::api::outbox as wire;
use assay_store::{EntryFilter, EntryState, GATE_TARGET, StoredEntry};
use axum::extract::{Extension, Path, Query, State};
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Entries in one answer.
const MOST: u32 = 500;

pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/outbox", get(list))
        .route("/outbox/{id}", get(show))
        .route("/outbox/retry", post(retry))
        .route("/outbox/drop", post(give_up))
        .route("/reports/builds/{build}", get(report))
        .route("/reports/builds/{build}/text", get(report_text))
        .route("/reports/builds/{build}/html", get(report_html))
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct OutboxQuery {
    pub(crate) target: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) before: Option<i64>,
    pub(crate) limit: Option<u32>,
}

async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<OutboxQuery>,
) -> Result<Json<wire::Outbox>, Fault> {
    Ok(Json(app.list_outbox(query).await?))
}

fn entry(stored: &StoredEntry, whole: bool) -> wire::OutboxEntry {
    wire::OutboxEntry {
        id: stored.id,
        target: stored.target.clone(),
        key: stored.key.clone(),
        kind: stored.kind.clone(),
        about: stored.about.clone(),
        at: rfc3339(stored.at),
        state: stored.state.word().to_owned(),
        attempts: stored.attempts,
        next_try: stored.next_try.map(rfc3339),
        note: stored.note.clone(),
        ended: stored.ended_at.map(rfc3339),
        body: whole.then(|| serde_json::from_str(&stored.body).unwrap_or_default()),
    }
}

/// What to do about entries of a reporter that was removed or renamed.
fn nobody_tells(name: &str) -> String {
    format!(
        "nobody tells them: there is no [reporter.{name}] in assay.toml any more. If it was renamed give it its old name; \
         else say `assay outbox drop --target {name}`"
    )
}

fn no_entry(id: impl std::fmt::Display) -> Fault {
    Fault::not_found(format!("There is no entry {id} in the outbox."), "See `assay outbox list`.")
}

async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<wire::OutboxEntry>, Fault> {
    let number = id.parse().map_err(|_| no_entry(&id))?;
    let stored = app.store.outbox().entry(number).await?.ok_or_else(|| no_entry(&id))?;
    Ok(Json(entry(&stored, true)))
}

fn state(word: &str) -> Result<EntryState, Fault> {
    let help = "Use waiting, delivered, skipped, refused or dropped.";
    EntryState::from_word(word).ok_or_else(|| Fault::bad(format!("{word:?} is no state of an entry."), help))
}

fn choice(body: &[u8]) -> Result<wire::OutboxChoice, Fault> {
    let help = r#"Send {"ids": [12]} or {"target": "NAME"}."#;
    let choice: wire::OutboxChoice = serde_json::from_slice(body)
        .map_err(|error| Fault::bad(format!("The request cannot be read: {error}."), help))?;
    if choice.ids.is_empty() == choice.target.is_none() {
        return Err(Fault::bad("Name entries, or a target.", help));
    }
    if choice.state.is_some() && choice.target.is_none() {
        return Err(Fault::bad("A state is of a target's entries.", help));
    }
    Ok(choice)
}

impl App {
    /// The entries that are meant and are not told.
    async fn chosen(&self, choice: &wire::OutboxChoice) -> Result<Vec<i64>, Fault> {
        let Some(target) = &choice.target else { return Ok(choice.ids.clone()) };
        let states = match &choice.state {
            Some(word) => vec![state(word)?],
            None => vec![EntryState::Waiting, EntryState::Refused],
        };
        let mut ids = Vec::new();
        for state in states {
            let filter = EntryFilter {
                target: Some(target.clone()),
                state: Some(state),
                limit: 10_000,
                ..EntryFilter::default()
            };
            ids.extend(self.store.outbox().entries(&filter).await?.iter().map(|entry| entry.id));
        }
        let known = async || -> Result<bool, Fault> {
            let configured = self.reporting.settings().is_some_and(|all| all.reporters.contains_key(target));
            let told = async || self.store.outbox().target_tallies().await;
            Ok(configured || told().await?.iter().any(|tally| tally.target == *target))
        };
        if ids.is_empty() && !known().await? {
            let help = "See `assay outbox list` for those that there are.";
            return Err(Fault::not_found(format!("There is no reporter {target:?}."), help));
        }
        Ok(ids)
    }

    /// Entries as they are shown, and how their targets do.
    pub(crate) async fn list_outbox(&self, query: OutboxQuery) -> Result<wire::Outbox, Fault> {
        let some = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let state = some(query.state).map(|word| state(&word));
        let limit = query.limit.unwrap_or(50).clamp(1, MOST);
        let filter = EntryFilter {
            target: some(query.target),
            state: state.transpose()?,
            before: query.before,
            limit: limit + 1,
            about: None,
        };
        let mut stored = self.store.outbox().entries(&filter).await?;
        let more = stored.len() > limit as usize;
        stored.truncate(limit as usize);
        Ok(wire::Outbox {
            staging: self.reporting.is_staging(),
            targets: self.list_targets().await?,
            next_before: stored.last().filter(|_| more).map(|entry| entry.id),
            entries: stored.iter().map(|one| entry(one, false)).collect(),
        })
    }

    /// How those who are told do.
    pub(crate) async fn list_targets(&self) -> Result<Vec<wire::OutboxTarget>, Fault> {
        let tallies = self.store.outbox().target_tallies().await?;
        let health = self.reporting.health().clone();
        let drivers: BTreeMap<String, &'static str> = self
            .reporting
            .settings()
            .map(|settings| {
                settings.reporters.iter().map(|(name, one)| (name.clone(), one.driver.word())).collect()
            })
            .unwrap_or_default();
        let names: BTreeSet<&String> =
            drivers.keys().chain(tallies.iter().map(|tally| &tally.target)).collect();
        let now = self.clock.now();
        let one = |name: &String| {
            let tally = tallies.iter().find(|tally| tally.target == *name);
            let health = health.get(name).cloned().unwrap_or_default();
            let driver = drivers.get(name).copied().unwrap_or_default();
            let oldest = tally.and_then(|tally| tally.oldest);
            let waiting = tally.map_or(0, |tally| tally.waiting);
            let is_gone = driver.is_empty() && !name.starts_with(PREFIX) && !name.starts_with(GATE_TARGET);
            wire::OutboxTarget {
                target: name.clone(),
                driver: driver.to_owned(),
                doing: if is_gone { "not configured any more".to_owned() } else { health.doing },
                trouble: health.trouble.or_else(|| (is_gone && waiting > 0).then(|| nobody_tells(name))),
                waiting,
                oldest: oldest.map(rfc3339),
                lag: tally.and_then(|tally| tally.due).map_or(0, |due| lag(now, due)),
                attempts: tally.map_or(0, |tally| tally.attempts),
                delivered: tally.map_or(0, |tally| tally.delivered),
                skipped: tally.map_or(0, |tally| tally.skipped),
                refused: tally.map_or(0, |tally| tally.refused),
                dropped: tally.map_or(0, |tally| tally.dropped),
                last: tally.and_then(|tally| tally.last).map(rfc3339),
                repetition: match driver {
                    "resultsdb" | "matrix" | "bodhi" | "mediawiki" => "once".to_owned(),
                    _ => "key".to_owned(),
                },
            }
        };
        let mut targets: Vec<wire::OutboxTarget> = names.into_iter().map(one).collect();
        for target in targets.iter_mut().filter(|target| target.target.starts_with(GATE_TARGET)) {
            self.fill_gate_target(target).await?;
        }
        Ok(targets)
    }

    /// The gate tells by itself, each change in order; how that goes is in what waits longest.
    async fn fill_gate_target(&self, target: &mut wire::OutboxTarget) -> Result<(), Fault> {
        "gate".clone_into(&mut target.driver);
        "telling what the gate decided".clone_into(&mut target.doing);
        "once".clone_into(&mut target.repetition);
        if target.waiting > 0 {
            let first = self.store.outbox().next_entries(&target.target, 1).await?.pop();
            target.trouble = first.and_then(|entry| entry.note);
        }
        Ok(())
    }

    fn told_again(&self, ids: &[i64]) {
        if !ids.is_empty() {
            let names: Vec<String> = self.reporting.health().keys().cloned().collect();
            self.reporting.stored(names.iter().map(String::as_str));
            self.gate.reports.notify_one();
        }
    }
}

async fn retry(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    body: axum::body::Bytes,
) -> Result<Json<wire::OutboxChanged>, Fault> {
    let ids = app.chosen(&choice(&body)?).await?;
    let ids = app.store.outbox().retry_entries(app.reporting.epoch, &ids).await?;
    app.told_again(&ids);
    app.audit(&sender.name, "outbox_retry", json!({ "ids": ids }));
    Ok(Json(wire::OutboxChanged { ids }))
}

async fn give_up(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    body: axum::body::Bytes,
) -> Result<Json<wire::OutboxChanged>, Fault> {
    let ids = app.chosen(&choice(&body)?).await?;
    let ids =
        app.store.outbox().drop_entries(app.reporting.epoch, &ids, &sender.name, app.clock.now()).await?;
    app.told_again(&ids);
    app.audit(&sender.name, "outbox_drop", json!({ "ids": ids }));
    Ok(Json(wire::OutboxChanged { ids }))
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct ReportQuery {
    pub(crate) against: Option<String>,
    pub(crate) distri: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) expect: Option<String>,
}

impl ReportQuery {
    pub(crate) fn asked(self, build: String) -> Asked {
        let some = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let expected = some(self.expect).unwrap_or_default();
        let expected = expected.split(',').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty());
        Asked {
            build,
            distri: some(self.distri),
            version: some(self.version),
            against: some(self.against),
            expected: expected.collect(),
            ..Asked::default()
        }
    }
}

async fn report(
    State(app): State<Arc<App>>,
    Path(build): Path<String>,
    Query(query): Query<ReportQuery>,
) -> Result<Json<BuildReport>, Fault> {
    Ok(Json(app.build_report(&query.asked(build)).await?))
}

async fn report_text(
    State(app): State<Arc<App>>,
    Path(build): Path<String>,
    Query(query): Query<ReportQuery>,
) -> Result<Response, Fault> {
    let report = app.build_report(&query.asked(build)).await?;
    let url = app.results.settings().url.clone();
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text(&report, &url)).into_response())
}

async fn report_html(
    State(app): State<Arc<App>>,
    Path(build): Path<String>,
    Query(query): Query<ReportQuery>,
) -> Result<Html<String>, Fault> {
    let report = app.build_report(&query.asked(build)).await?;
    let url = app.results.settings().url.clone();
    Ok(Html(build::html(&report, &url)))
}
