//! The gate: what is in it, and what operators can do about it.

use super::{gate_history, gate_view, read};
use crate::app::App;
use crate::auth::Sender;
use crate::fault::Fault;
use assay_engine::gate::change::RefUpdate;
use assay_engine::gate::ids::{ChangeId, Oid, Patchset, PipelineName, QueueName, SourceName};
use assay_engine::gate::io::{self, Command};
use assay_engine::gate::reason::HoldReason;
use assay_engine::gate::snapshot::{ChangeQueue, Snapshot};
use assay_engine::io::{Answer, Input};
use assay_proto::api::gate as api;
use axum::body::Bytes;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/gate", get(status))
        .route("/gate/enqueue", post(enqueue))
        .route("/gate/enqueue-ref", post(enqueue_ref))
        .route("/gate/dequeue", post(dequeue))
        .route("/gate/end-landing", post(end_landing))
        .route("/gate/acknowledge", post(acknowledge))
        .route("/gate/promote", post(promote))
        .route("/gate/hold", post(hold))
        .route("/gate/release", post(release))
        .route("/gate/reverts", get(reverts))
        .route("/gate/reload", post(reload))
        .route("/gate/autoholds", get(autoholds).post(add_autohold))
        .route("/gate/autoholds/{id}", delete(delete_autohold))
        .route("/changes/{number}", get(change))
        .route("/changes/{number}/why", get(change_why))
        .route("/changes/{source}/{number}", get(change_of))
        .route("/changes/{source}/{number}/why", get(change_why_of))
        .route("/receipts/key", get(receipt_key))
        .route("/receipts/{item}/{commit}", get(receipt))
}

/// Who wants it.
#[derive(Debug)]
struct Who {
    /// For the reasons on pages: who is said to want it.
    by: String,
    /// For the audit log: who has sent the request.
    sender: String,
}

#[derive(Debug, Default, Deserialize)]
struct SaidBy {
    #[serde(default)]
    by: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = Response;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let Query(SaidBy { by }) =
            Query::from_request_parts(parts, state).await.map_err(IntoResponse::into_response)?;
        let sender = parts.extensions.get::<Sender>().map(|sender| sender.name.clone()).unwrap_or_default();
        Ok(Self { by, sender })
    }
}

impl Who {
    fn name(&self) -> String {
        let by: String = self.by.chars().filter(|c| !c.is_control()).take(100).collect();
        if by.trim().is_empty() { "an operator".to_owned() } else { by }
    }
}

/// What is noted of a command that was carried out.
fn noted(command: &Command) -> (&'static str, Value) {
    match command {
        Command::Enqueue { pipeline, patchset, .. } => {
            ("gate_enqueue", json!({"pipeline": pipeline.as_str(), "change": patchset.to_string()}))
        }
        Command::EnqueueRef { pipeline, update } => (
            "gate_enqueue",
            json!({
                "pipeline": pipeline.as_str(), "project": update.project.as_str(), "ref": update.name.as_str(),
                "commit": update.new.as_str(),
            }),
        ),
        Command::Dequeue { pipeline, change } => {
            ("gate_dequeue", json!({"pipeline": pipeline.as_str(), "change": change.to_string()}))
        }
        Command::EndLanding { pipeline, change } => {
            ("gate_end_landing", json!({"pipeline": pipeline.as_str(), "change": change.to_string()}))
        }
        Command::Promote { pipeline, changes } => {
            let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
            ("gate_promote", json!({"pipeline": pipeline.as_str(), "changes": changes}))
        }
        Command::Autohold { project, job, change, count, reason } => (
            "gate_autohold",
            json!({
                "project": project.as_str(), "job": job.as_str(), "count": count, "reason": reason,
                "change": change.as_ref().map(ToString::to_string),
            }),
        ),
        Command::AutoholdDelete { id } => ("gate_autohold_delete", json!({ "id": id })),
        Command::Release { pipeline, queue } => {
            ("gate_release", json!({"pipeline": pipeline.as_str(), "queue": queue.as_str()}))
        }
        Command::Hold { pipeline, queue, reason } => {
            ("gate_hold", json!({"pipeline": pipeline.as_str(), "queue": queue.as_str(), "reason": reason}))
        }
    }
}

async fn command(app: &Arc<App>, command: Command, by: Who) -> Result<io::Answer, Fault> {
    let (event, data) = noted(&command);
    let input = io::Input::Command { command, by: by.name() };
    match app.engine.ask(Input::Gate(Box::new(input))).await? {
        Answer::Gate(answer) => {
            app.audit(&by.sender, event, data);
            Ok(answer)
        }
        other => {
            tracing::error!(?other, "the engine gave an answer to another question");
            let error = "The engine gave a strange answer.";
            Err(Fault::new(StatusCode::INTERNAL_SERVER_ERROR, error, "Report it as a bug."))
        }
    }
}

fn done(text: String, item: Option<i64>) -> Json<api::Done> {
    Json(api::Done { done: text, item })
}

#[derive(Debug, Deserialize)]
struct StatusQuery {
    pipeline: Option<String>,
}

/// `GET gate`
async fn status(
    State(app): State<Arc<App>>,
    Query(query): Query<StatusQuery>,
) -> Result<Json<api::GateStatus>, Fault> {
    gate_view::status(&app, query.pipeline.as_deref()).map(Json)
}

/// The pipeline's own source, unless another is named.
fn source_of(snapshot: &Snapshot, pipeline: &str, named: Option<String>) -> Result<SourceName, Fault> {
    gate_view::known_pipeline(snapshot, pipeline)?;
    let own = snapshot.pipeline(&PipelineName::from(pipeline)).map(|pipeline| pipeline.source.clone());
    Ok(named.map_or_else(|| own.unwrap_or_else(|| "gerrit".into()), SourceName::from))
}

/// `1234` or `1234,5`.
fn numbers(text: &str) -> Result<(u64, Option<u32>), Fault> {
    let (number, patchset) = match text.split_once(',') {
        Some((number, patchset)) => (number, Some(patchset.trim().parse::<u32>())),
        None => (text, None),
    };
    match (number.trim().parse(), patchset.transpose()) {
        (Ok(number), Ok(patchset)) => Ok((number, patchset)),
        _ => Err(Fault::bad(format!("{text:?} is not a change."), "Write 1234,5 or 1234.")),
    }
}

/// `POST gate/enqueue`
async fn enqueue(State(app): State<Arc<App>>, by: Who, body: Bytes) -> Result<Json<api::Done>, Fault> {
    let wanted: api::Enqueue = read(&body, r#"Send {"pipeline": "gate", "change": "1234,5"}."#)?;
    let (number, patchset) = numbers(&wanted.change)?;
    let source = source_of(&app.gate(), &wanted.pipeline, wanted.source)?;
    let change = ChangeId { source, number };
    let facts = app.facts_of(&change).await?;
    let newest = facts.iter().find(|facts| facts.id == change).map(|facts| facts.current_patchset);
    let Some(patchset) = patchset.or(newest) else {
        let error = format!("{} does not know change {number}.", change.source);
        return Err(Fault::not_found(error, "Correct the number, or name another source."));
    };
    let patchset = Patchset { change, patchset };
    let what = patchset.to_string();
    let pipeline = PipelineName::from(wanted.pipeline);
    let answer = command(&app, Command::Enqueue { pipeline: pipeline.clone(), patchset, facts }, by).await?;
    let item = item_of(&answer);
    Ok(done(format!("{what} is in pipeline {pipeline}"), item))
}

fn item_of(answer: &io::Answer) -> Option<i64> {
    let io::Answer::Event(pipelines) = answer else { return None };
    pipelines.iter().find_map(|(_, outcome)| outcome.as_ref().ok()).map(|item| item.0)
}

/// `POST gate/enqueue-ref`
async fn enqueue_ref(State(app): State<Arc<App>>, by: Who, body: Bytes) -> Result<Json<api::Done>, Fault> {
    let help = r#"Send {"pipeline": "post", "project": "P", "ref": "master", "newrev": "COMMIT"}."#;
    let wanted: api::EnqueueRef = read(&body, help)?;
    gate_view::known_pipeline(&app.gate(), &wanted.pipeline)?;
    let old = wanted.oldrev.unwrap_or_else(|| "0".repeat(wanted.newrev.len()));
    for id in [&old, &wanted.newrev] {
        if !matches!(id.len(), 40 | 64) || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Fault::bad(format!("{id:?} is not a commit."), "Give all 40 hexadecimal digits."));
        }
    }
    let update = RefUpdate {
        project: wanted.project.into(),
        name: wanted.name.as_str().into(),
        old: Oid::from(old.to_ascii_lowercase()),
        new: Oid::from(wanted.newrev.to_ascii_lowercase()),
    };
    let pipeline = PipelineName::from(wanted.pipeline);
    let answer = command(&app, Command::EnqueueRef { pipeline: pipeline.clone(), update }, by).await?;
    let item = item_of(&answer);
    Ok(done(format!("{} is in pipeline {pipeline}", wanted.name), item))
}

/// A patchset that is named must be the one that is there: another one was not meant.
fn is_meant(
    snapshot: &Snapshot,
    pipeline: &PipelineName,
    change: &ChangeId,
    patchset: Option<u32>,
) -> Result<(), Fault> {
    let own = snapshot.item_of(pipeline, change).and_then(|item| {
        let mut patchsets = item.changes.iter().map(|own| &own.merge.patchset);
        patchsets.find(|own| own.change == *change).map(|own| own.patchset)
    });
    match (patchset, own) {
        (Some(wanted), Some(own)) if wanted != own => Err(Fault::new(
            StatusCode::CONFLICT,
            format!("Pipeline {pipeline} has patchset {own} of change {change}, not {wanted}."),
            format!("Say {},{own}, or {} for whichever is there.", change.number, change.number),
        )),
        _ => Ok(()),
    }
}

/// The item that is to be taken out: where it is, and what change it is asked for by.
fn unwanted(snapshot: &Snapshot, body: &[u8]) -> Result<(PipelineName, ChangeId), Fault> {
    let wanted: api::Dequeue = read(body, r#"Send {"pipeline": "gate", "change": "1234"}."#)?;
    let (number, patchset) = numbers(&wanted.change)?;
    let source = source_of(snapshot, &wanted.pipeline, wanted.source)?;
    let pipeline = PipelineName::from(wanted.pipeline);
    let change = ChangeId { source, number };
    is_meant(snapshot, &pipeline, &change, patchset)?;
    Ok((pipeline, change))
}

/// `POST gate/dequeue`
async fn dequeue(State(app): State<Arc<App>>, by: Who, body: Bytes) -> Result<Json<api::Done>, Fault> {
    let snapshot = app.gate();
    let (pipeline, change) = unwanted(&snapshot, &body)?;
    let number = change.number;
    command(&app, Command::Dequeue { pipeline: pipeline.clone(), change }, by).await?;
    Ok(done(format!("{number} is no longer in pipeline {pipeline}"), None))
}

/// `POST gate/end-landing`
async fn end_landing(State(app): State<Arc<App>>, by: Who, body: Bytes) -> Result<Json<api::Done>, Fault> {
    let snapshot = app.gate();
    let (pipeline, change) = unwanted(&snapshot, &body)?;
    let number = change.number;
    let command_of = Command::EndLanding { pipeline: pipeline.clone(), change: change.clone() };
    command(&app, command_of, by).await?;
    let Some(item) = snapshot.item_of(&pipeline, &change) else {
        return Ok(done(format!("{number} is no longer in pipeline {pipeline}"), None));
    };
    app.end_landing(item.id);
    let held =
        app.gate().queues.get(&(pipeline.clone(), item.queue.clone())).and_then(|queue| queue.hold.clone());
    let held = held.map(|(why, _)| format!("; queue {} is held: {why}", item.queue)).unwrap_or_default();
    Ok(done(format!("{number} is no longer in pipeline {pipeline}{held}"), Some(item.id.0)))
}

/// `POST gate/acknowledge`
async fn acknowledge(State(app): State<Arc<App>>, by: Who, body: Bytes) -> Result<Json<api::Done>, Fault> {
    let wanted: api::Acknowledge = read(&body, r#"Send {"project": "P", "branch": "master"}."#)?;
    let (project, branch) = (wanted.project.as_str().into(), wanted.branch.as_str().into());
    let Some(alarm) = app.acknowledge(&project, &branch).await? else {
        let error = format!("No commit of {project} {branch} is without a receipt.");
        return Err(Fault::not_found(
            error,
            "`assay pipeline status` names the branches that have such commits.",
        ));
    };
    let (count, tip) = (alarm.count(), alarm.tip);
    let data = json!({
        "project": project.as_str(), "branch": branch.as_str(), "commits": count, "tip": tip.as_str(),
    });
    app.audit(&by.sender, "gate_acknowledge", data);
    Ok(done(
        format!("{count} commits of {project} {branch} are taken as they are; it is walked from {tip} on"),
        None,
    ))
}

/// `POST gate/promote`
async fn promote(State(app): State<Arc<App>>, by: Who, body: Bytes) -> Result<Json<api::Done>, Fault> {
    let help = r#"Send {"pipeline": "gate", "changes": ["1234,5", "1300"]}."#;
    let wanted: api::Promote = read(&body, help)?;
    if wanted.changes.is_empty() {
        return Err(Fault::bad("There is no change to promote.", help));
    }
    let snapshot = app.gate();
    let source = source_of(&snapshot, &wanted.pipeline, wanted.source)?;
    let pipeline = PipelineName::from(wanted.pipeline);
    let mut changes = Vec::new();
    for text in &wanted.changes {
        let (number, patchset) = numbers(text)?;
        let change = ChangeId { source: source.clone(), number };
        is_meant(&snapshot, &pipeline, &change, patchset)?;
        changes.push(change);
    }
    command(&app, Command::Promote { pipeline: pipeline.clone(), changes }, by).await?;
    Ok(done(format!("{} is at the head of its queue in {pipeline}", wanted.changes.join(", ")), None))
}

/// The queue that is meant: the one named, or the only one there is.
fn queue_of(snapshot: &Snapshot, wanted: &api::HoldQueue) -> Result<(PipelineName, QueueName), Fault> {
    gate_view::known_pipeline(snapshot, &wanted.pipeline)?;
    let pipeline = PipelineName::from(wanted.pipeline.as_str());
    if let Some(queue) = &wanted.queue {
        return Ok((pipeline, queue.as_str().into()));
    }
    let own = snapshot.queues.keys().filter(|(name, _)| *name == pipeline);
    let queues: Vec<&QueueName> = own.map(|(_, queue)| queue).collect();
    match queues.as_slice() {
        [only] => Ok((pipeline, (*only).clone())),
        [] => Err(Fault::not_found(
            format!("Pipeline {pipeline} has no queue with items in it."),
            "There is nothing to hold.",
        )),
        several => {
            let names: BTreeSet<&str> = several.iter().map(|queue| queue.as_str()).collect();
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            Err(Fault::bad(
                format!("Pipeline {pipeline} has several queues."),
                format!("Name one of {names}."),
            ))
        }
    }
}

/// `POST gate/hold`
async fn hold(State(app): State<Arc<App>>, by: Who, body: Bytes) -> Result<Json<api::Done>, Fault> {
    let help = r#"Send {"pipeline": "gate", "queue": "integrated", "reason": "why"}."#;
    let wanted: api::HoldQueue = read(&body, help)?;
    let Some(reason) = wanted.reason.clone().filter(|reason| !reason.trim().is_empty()) else {
        return Err(Fault::bad("A queue is held for a reason, and there is none.", help));
    };
    let (pipeline, queue) = queue_of(&app.gate(), &wanted)?;
    let hold = Command::Hold { pipeline, queue: queue.clone(), reason };
    command(&app, hold, by).await?;
    Ok(done(format!("queue {queue} tests, and lands nothing until it is released"), None))
}

/// `POST gate/release`
async fn release(State(app): State<Arc<App>>, by: Who, body: Bytes) -> Result<Json<api::Done>, Fault> {
    let wanted: api::HoldQueue = read(&body, r#"Send {"pipeline": "gate", "queue": "integrated"}."#)?;
    let (pipeline, queue) = queue_of(&app.gate(), &wanted)?;
    command(&app, Command::Release { pipeline: pipeline.clone(), queue: queue.clone() }, by).await?;
    let next = app.gate().queues.get(&(pipeline, queue.clone())).and_then(|queue| queue.hold.clone());
    Ok(done(
        match next {
            Some((why, _)) => format!("that hold of queue {queue} is over; there is another: {why}"),
            None => format!("queue {queue} lands again"),
        },
        None,
    ))
}

#[derive(Debug, Deserialize)]
struct Queue {
    pipeline: String,
    queue: Option<String>,
}

/// `GET gate/reverts?pipeline=gate&queue=integrated`
async fn reverts(
    State(app): State<Arc<App>>,
    Query(Queue { pipeline, queue }): Query<Queue>,
) -> Result<Json<api::Reverts>, Fault> {
    let snapshot = app.gate();
    let wanted = api::HoldQueue { pipeline, queue, reason: None };
    let key = queue_of(&snapshot, &wanted)?;
    let mut holds = snapshot.queues.get(&key).into_iter().flat_map(ChangeQueue::holds);
    let partial = holds.find_map(|(reason, _)| match reason {
        HoldReason::Partial { commits, .. } => Some((reason, commits)),
        _ => None,
    });
    let Some((reason, commits)) = partial else {
        let help = "Reverts are offered while a queue is held because a part of a landing was refused; \
                    `assay pipeline status` says what is held and why.";
        return Err(Fault::not_found(
            format!("Nothing landed in part in queue {} of {}.", key.1, key.0),
            help,
        ));
    };
    let commits = commits.iter().map(|one| api::Revert {
        change: one.patchset.to_string(),
        project: one.project.to_string(),
        branch: one.branch.to_string(),
        commit: one.tip.commit.to_string(),
        git: app.git_address(&one.project),
    });
    Ok(Json(api::Reverts {
        pipeline: key.0.to_string(),
        queue: key.1.to_string(),
        why: reason.to_string(),
        commits: commits.collect(),
    }))
}

/// `POST gate/reload`
async fn reload(by: Who, State(app): State<Arc<App>>) -> Result<Json<api::ConfigReload>, Fault> {
    let reloaded = app.reload_gate().await.ok_or_else(|| Fault::later("The server is starting.", 1))?;
    let findings: Vec<String> = reloaded.diagnostics.iter().map(ToString::to_string).collect();
    if let Some(hash) = reloaded.hash {
        app.audit(&by.sender, "gate_reload", json!({ "hash": hash }));
        return Ok(Json(api::ConfigReload { hash, findings }));
    }
    let error = format!("The configuration is not taken:\n{}", findings.join("\n"));
    let help = "The one before stays in force; correct these and reload.";
    Err(Fault::new(StatusCode::UNPROCESSABLE_ENTITY, error, help))
}

/// `GET gate/autoholds`
async fn autoholds(State(app): State<Arc<App>>) -> Json<api::AutoholdList> {
    let autoholds = app.gate().autoholds.values().map(gate_view::autohold).collect();
    Json(api::AutoholdList { autoholds })
}

/// `POST gate/autoholds`
async fn add_autohold(
    State(app): State<Arc<App>>,
    by: Who,
    body: Bytes,
) -> Result<(StatusCode, Json<api::Autohold>), Fault> {
    let help = r#"Send {"project": "P", "job": "J", "count": 1, "reason": "why"}."#;
    let wanted: api::NewAutohold = read(&body, help)?;
    if wanted.count == 0 {
        return Err(Fault::bad("An autohold of no failures would keep nothing.", help));
    }
    let snapshot = app.gate();
    if !snapshot.config.jobs.contains_key(wanted.job.as_str()) {
        return Err(Fault::not_found(
            format!("There is no job {:?} in the configuration.", wanted.job),
            "Correct its name; failures of a job that never runs are never kept.",
        ));
    }
    let change = match &wanted.change {
        Some(text) => {
            Some(ChangeId { source: only_source(&snapshot, wanted.source)?, number: numbers(text)?.0 })
        }
        None => None,
    };
    let autohold = Command::Autohold {
        project: wanted.project.as_str().into(),
        job: wanted.job.as_str().into(),
        change: change.clone(),
        count: wanted.count,
        reason: wanted.reason.clone(),
    };
    let said = by.name();
    let answer = command(&app, autohold, by).await?;
    let io::Answer::Autohold(id) = answer else {
        let error = "The engine gave a strange answer.";
        return Err(Fault::new(StatusCode::INTERNAL_SERVER_ERROR, error, "Report it as a bug."));
    };
    let autohold = api::Autohold {
        id,
        project: wanted.project,
        job: wanted.job,
        change: change.map(|change| change.number),
        left: wanted.count,
        reason: wanted.reason,
        by: said,
    };
    Ok((StatusCode::CREATED, Json(autohold)))
}

/// The source that is named, or the only one that pipelines have.
fn only_source(snapshot: &Snapshot, named: Option<String>) -> Result<SourceName, Fault> {
    if let Some(named) = named {
        return Ok(named.into());
    }
    let sources: BTreeSet<&SourceName> =
        snapshot.config.pipelines.iter().map(|pipeline| &pipeline.source).collect();
    match sources.into_iter().collect::<Vec<_>>().as_slice() {
        [only] => Ok((*only).clone()),
        _ => Err(Fault::bad("Changes come from several sources.", "Name one with \"source\".")),
    }
}

/// `DELETE gate/autoholds/{id}`
async fn delete_autohold(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    by: Who,
) -> Result<Json<api::Done>, Fault> {
    let unknown =
        || Fault::not_found(format!("There is no autohold {id}."), "See the list for those there are.");
    let number: i64 = id.parse().map_err(|_| unknown())?;
    if !app.gate().autoholds.contains_key(&number) {
        return Err(unknown());
    }
    command(&app, Command::AutoholdDelete { id: number }, by).await?;
    Ok(done(format!("autohold {number} is no more"), None))
}

/// `GET changes/{number}`
async fn change(
    State(app): State<Arc<App>>,
    Path(number): Path<String>,
) -> Result<Json<api::ChangeHistory>, Fault> {
    let change = gate_history::find(&app, None, &number).await?;
    gate_history::change(&app, &change).await.map(Json)
}

/// `GET changes/{source}/{number}`
async fn change_of(
    State(app): State<Arc<App>>,
    Path((source, number)): Path<(String, String)>,
) -> Result<Json<api::ChangeHistory>, Fault> {
    let change = gate_history::find(&app, Some(&source), &number).await?;
    gate_history::change(&app, &change).await.map(Json)
}

/// `GET changes/{number}/why`
async fn change_why(
    State(app): State<Arc<App>>,
    Path(number): Path<String>,
) -> Result<Json<api::ChangeWhy>, Fault> {
    let change = gate_history::find(&app, None, &number).await?;
    gate_history::why(&app, &change).await.map(Json)
}

/// `GET changes/{source}/{number}/why`
async fn change_why_of(
    State(app): State<Arc<App>>,
    Path((source, number)): Path<(String, String)>,
) -> Result<Json<api::ChangeWhy>, Fault> {
    let change = gate_history::find(&app, Some(&source), &number).await?;
    gate_history::why(&app, &change).await.map(Json)
}

/// `GET receipts/{item}/{commit}`: the bytes that were signed, to be kept beside the commit.
async fn receipt(
    State(app): State<Arc<App>>,
    Path((item, commit)): Path<(String, String)>,
) -> Result<Response, Fault> {
    let item = gate_history::item_id(&item)?;
    let receipts = app.store.gate().receipts_of_item(item).await?;
    let Some(receipt) = receipts.into_iter().find(|receipt| receipt.commit.as_str() == commit) else {
        let error = format!("Item {item} has no receipt of {commit}.");
        return Err(Fault::not_found(error, "See the change's page for its receipts."));
    };
    let name = format!("attachment; filename=\"receipt-{commit}.json\"");
    Ok((
        [(header::CONTENT_TYPE, "application/json".to_owned()), (header::CONTENT_DISPOSITION, name)],
        receipt.body,
    )
        .into_response())
}

/// `GET receipts/key`
async fn receipt_key(State(app): State<Arc<App>>) -> Result<Json<api::ReceiptKey>, Fault> {
    let key = app.receipt_key().ok_or_else(|| Fault::later("The server is starting.", 1))?;
    let name: String = key.key_id().chars().take(16).collect();
    Ok(Json(api::ReceiptKey { trust: key.to_trust_line(&name), key_id: key.key_id() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read() {
        for (text, want) in [
            ("1234,5", Some((1234, Some(5)))),
            ("1234", Some((1234, None))),
            (" 7 , 1 ", Some((7, Some(1)))),
            ("", None),
            ("a,1", None),
            ("1,", None),
            ("1,-2", None),
        ] {
            assert_eq!(numbers(text).ok(), want, "{text:?}");
        }
    }
}
