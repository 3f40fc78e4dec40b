//! `/healthz` and `/metrics`.

use crate::app::App;
use crate::fault::Fault;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::fmt::Write as _;
use std::sync::Arc;

/// `GET /healthz`: `200 ok` if the store answers, and if store, spool and blobs can be written; else 503 and why not.
pub(crate) async fn healthz(State(app): State<Arc<App>>) -> Result<&'static str, Fault> {
    if let Some(why) = app.trouble() {
        return Err(Fault::later(format!("{why}."), 5));
    }
    let unwell = |what: &str, error| Fault::later(format!("{what}: {error}."), 5);
    app.store.counts().await.map_err(|error| unwell("The store does not answer", error))?;
    app.spool.check_writable().await.map_err(|error| unwell("Streams cannot be written", error))?;
    app.blobs.check_writable().await.map_err(|error| unwell("Blobs cannot be written", error))?;
    Ok("ok\n")
}

/// `GET /metrics`: Prometheus text format.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Fault> {
    let mut text = String::from("# HELP assay_jobs Jobs by state.\n# TYPE assay_jobs gauge\n");
    for (state, count) in app.store.counts().await? {
        let _ = writeln!(text, "assay_jobs{{state=\"{}\"}} {count}", state.word());
    }
    let workers = app.present_workers().await?;
    let online: Vec<_> = workers.iter().filter(|worker| worker.online).collect();
    let slots: u32 = online.iter().map(|worker| worker.slots).sum();
    let busy: usize = workers.iter().map(|worker| worker.jobs.len()).sum();
    let gate = app.gate.status();
    let uncovered: usize = gate.uncovered();
    let held = app.gate().queues.values().filter(|queue| queue.hold.is_some()).count();
    let gauges = [
        ("assay_workers_online", "Workers that are connected.", online.len() as u64),
        ("assay_workers_known", "Workers that have ever connected.", workers.len() as u64),
        ("assay_slots", "Slots of connected workers.", u64::from(slots)),
        ("assay_slots_busy", "Slots that run an attempt.", busy as u64),
        ("assay_gate_items", "Items in the gate's pipelines.", app.gate().items.len() as u64),
        ("assay_gate_held_queues", "Queues of the gate that are held.", held as u64),
        (
            "assay_gate_landings_kept",
            "Landings that something keeps from going on.",
            gate.landings.len() as u64,
        ),
        (
            "assay_gate_uncovered_commits",
            "Commits on gated branches that no receipt covers.",
            uncovered as u64,
        ),
        (
            "assay_gate_unaudited_projects",
            "Gated projects whose branches could not be audited the last time.",
            gate.unaudited.len() as u64,
        ),
        (
            "assay_cluster_frames_lost",
            "Frames between machines of clusters that a worker did not read in time.",
            app.hub.frames_lost(),
        ),
    ];
    for (name, help, value) in gauges {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
    }
    let targets = app.list_targets().await?;
    text.push_str("# HELP assay_outbox_waiting What waits to be told.\n# TYPE assay_outbox_waiting gauge\n");
    for target in &targets {
        let _ =
            writeln!(text, "assay_outbox_waiting{{target=\"{}\"}} {}", label(&target.target), target.waiting);
    }
    text.push_str("# HELP assay_outbox_lag_seconds How long the oldest of it has waited.\n# TYPE assay_outbox_lag_seconds gauge\n");
    for target in &targets {
        let _ =
            writeln!(text, "assay_outbox_lag_seconds{{target=\"{}\"}} {}", label(&target.target), target.lag);
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// A name as the value of a label.
fn label(name: &str) -> String {
    name.replace(['"', '\\', '\n'], "_")
}
