//! `/audit`: who did what.

use super::frame::{Frame, Moment, percent_encoded};
use crate::api::knowledge::{AuditQuery, events};
use crate::app::App;
use crate::auth::Operator;
use crate::fault::{Fault, PageFault};
use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use std::sync::Arc;

/// What is noted, in openQA's words where it has one, for the form.
const EVENTS: [&str; 58] = [
    "asset_cleanup",
    "asset_delete",
    "asset_register",
    "asset_update",
    "bug_create",
    "bug_delete",
    "bug_update",
    "comment_create",
    "comment_delete",
    "comment_update",
    "event_replay",
    "gate_acknowledge",
    "gate_autohold",
    "gate_autohold_delete",
    "gate_dequeue",
    "gate_end_landing",
    "gate_enqueue",
    "gate_hold",
    "gate_promote",
    "gate_release",
    "gate_reload",
    "iso_cancel",
    "iso_create",
    "iso_delete",
    "iso_note",
    "job_cancel",
    "job_cancel_by_settings",
    "job_cleanup",
    "job_create",
    "job_delete",
    "job_done",
    "job_update",
    "job_update_result",
    "jobgroup_create",
    "jobgroup_delete",
    "jobgroup_update",
    "jobs_restart",
    "jobtemplate_create",
    "jobtemplate_delete",
    "needle_modify",
    "notices_change",
    "notices_delete",
    "notices_end",
    "outbox_drop",
    "outbox_retry",
    "results_left_out",
    "rules_reload",
    "schedule",
    "table_create",
    "table_delete",
    "table_update",
    "user_deleted",
    "user_login",
    "user_logout",
    "user_update",
    "waiver_create",
    "worker_delete",
    "worker_drain",
];

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/audit", get(page))
        .route("/admin/auditlog", get(|| async { Redirect::permanent("/audit") }))
}

struct Row {
    id: i64,
    at: Moment,
    user: String,
    event: String,
    data: String,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    frame: Frame,
    query: AuditQuery,
    choices: Vec<(&'static str, bool)>,
    rows: Vec<Row>,
    newest: String,
    older: Option<String>,
}

fn href(query: &AuditQuery, before: Option<i64>) -> String {
    let words = [("user", &query.user), ("event", &query.event), ("q", &query.q)];
    let mut parts: Vec<String> = words
        .into_iter()
        .filter(|(_, value)| !value.trim().is_empty())
        .map(|(key, value)| format!("{key}={}", percent_encoded(value.trim())))
        .collect();
    parts.extend(before.map(|id| format!("before={id}")));
    if parts.is_empty() { "/audit".to_owned() } else { format!("/audit?{}", parts.join("&")) }
}

async fn page(
    operator: Result<Operator, Fault>,
    State(app): State<Arc<App>>,
    Query(query): Query<AuditQuery>,
) -> Response {
    match operator {
        Ok(_) => super::page(&app, build(&app, query).await),
        Err(fault) => PageFault(fault, Frame::new(app.clock.now())).into_response(),
    }
}

async fn build(app: &App, query: AuditQuery) -> Result<AuditPage, Fault> {
    let now = app.clock.now();
    let found = events(app, &query).await?;
    let row = |event: assay_proto::api::knowledge::AuditEvent| Row {
        id: event.id,
        at: Moment::of_text(&event.at, now),
        user: event.user,
        event: event.event,
        data: event.data.to_string(),
    };
    Ok(AuditPage {
        frame: Frame::new(now),
        choices: EVENTS.iter().map(|event| (*event, query.event == *event)).collect(),
        newest: href(&query, None),
        older: found.next_before.map(|before| href(&query, Some(before))),
        rows: found.events.into_iter().map(row).collect(),
        query,
    })
}

#[cfg(test)]
mod tests {
    use super::EVENTS;
    use camino::Utf8Path;

    /// The words that a source file notes.
    fn noted(text: &str) -> Vec<String> {
        let word = |rest: &str| {
            let literals = rest.split('"').skip(1).step_by(2).take(3);
            let is_word =
                |one: &&str| one.len() > 4 && one.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            // The first is who did it, where it is this program.
            literals.filter(is_word).find(|one| *one != "assay").map(str::to_owned)
        };
        // In two parts, so that this file has none.
        let noted = text.split(concat!(".aud", "it(")).skip(1);
        let mut words: Vec<_> = noted.filter_map(|rest| word(rest.split(';').next()?)).collect();
        // What operators tell the gate has its word by the command.
        if !text.contains("const EVENTS") {
            let commands = text.split("\"gate_").skip(1).filter_map(|rest| rest.split('"').next());
            let is_word = |one: &&str| one.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            words.extend(commands.filter(is_word).map(|word| format!("gate_{word}")));
        }
        words
    }

    fn files(dir: &Utf8Path, found: &mut Vec<String>) {
        for entry in dir.read_dir_utf8().unwrap() {
            let path = entry.unwrap().path().to_owned();
            if path.is_dir() {
                files(&path, found);
            } else if path.extension() == Some("rs") {
                found.push(fs_err::read_to_string(path).unwrap());
            }
        }
    }

    #[test]
    fn the_form_offers_what_is_noted_and_nothing_else() {
        let mut texts = Vec::new();
        files(&Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut texts);
        let mut words: Vec<_> = texts.iter().flat_map(|text| noted(text)).collect();
        words.sort();
        words.dedup();
        assert_eq!(words, EVENTS);
    }
}
