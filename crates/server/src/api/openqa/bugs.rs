//! Bugs that comments name: programs beside the server ask for those that are worth a look, and say what they found.

use super::params::Params;
use super::{Operator, Wrong, number};
use crate::app::App;
use assay_engine::knowledge::words;
use assay_store::{Bug, BugFacts, BugFilter, BugId, StoreError};
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Bugs in one answer, usually and at most.
pub(crate) const ROWS: (u32, u32) = (1_000, 10_000);
/// How old, in seconds, what is known has to be before it is worth asking again.
const STALE: i64 = 3_600;
/// The longest text about a bug, bytes.
pub(crate) const LONGEST: usize = 4_096;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/bugs", get(list).post(create))
        .route("/bugs/{id}", get(show).put(update).post(update).delete(remove))
}

fn no_bug() -> Wrong {
    Wrong::not_found("Bug does not exist")
}

fn shown(bug: &Bug) -> Value {
    let flag = |flag: Option<bool>| flag.map(i64::from);
    json!({
        "id": bug.id.0,
        "bugid": bug.bugid,
        "title": bug.facts.title,
        "priority": bug.facts.priority,
        "assigned": flag(bug.facts.assigned),
        "assignee": bug.facts.assignee,
        "open": flag(bug.facts.open),
        "status": bug.facts.status,
        "resolution": bug.facts.resolution,
        "existing": i64::from(bug.existing),
        "refreshed": i64::from(bug.refreshed),
        "t_created": super::at(bug.created_at),
        "t_updated": super::at(bug.updated_at),
    })
}

/// The bugs that a request asks for, and whether there are more than this page of them.
pub(crate) async fn listed(
    app: &App,
    params: &Params,
    (limit, offset): (u32, u32),
) -> Result<(Vec<Bug>, bool), Wrong> {
    let now = app.clock.now();
    let stale = params.number::<i64>("delta")?.unwrap_or(STALE);
    let filter = BugFilter {
        created_after: params.number::<i64>("created_since")?.map(|seconds| now.plus_seconds(-seconds)),
        stale_at: params.flag("refreshable").then(|| now.plus_seconds(-stale)),
        // One more than asked for tells whether there are more.
        limit: limit + 1,
        offset,
    };
    let mut bugs = app.store.knowledge().bugs(&filter).await?;
    let more = bugs.len() > limit as usize;
    bugs.truncate(limit as usize);
    Ok((bugs, more))
}

/// Numbers and names of bugs.
async fn list(State(app): State<Arc<App>>, params: Params) -> Result<(HeaderMap, Json<Value>), Wrong> {
    let (limit, offset) = params.page(ROWS.0, ROWS.1)?;
    let (bugs, more) = listed(&app, &params, (limit, offset)).await?;
    let names: Map<_, _> = bugs.into_iter().map(|bug| (bug.id.0.to_string(), json!(bug.bugid))).collect();
    Ok((params.links("/api/v1/bugs", (limit, offset), more), Json(json!({ "bugs": names }))))
}

async fn found(app: &App, id: &str) -> Result<Bug, Wrong> {
    let id = number(id).map_err(|_| no_bug())?;
    app.store.knowledge().bug(BugId(id)).await?.ok_or_else(no_bug)
}

async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Value>, Wrong> {
    Ok(Json(shown(&found(&app, &id).await?)))
}

/// Whether a text may be said about a bug.
pub(crate) fn is_text(text: &str) -> bool {
    text.len() <= LONGEST && !text.contains('\0')
}

/// A bug of which nothing is known but its name; `None` if a text is not the name of one.
pub(crate) fn new(app: &App, name: &str) -> Option<Bug> {
    let [bugid]: [String; 1] = words::bugrefs(name).try_into().ok()?;
    let now = app.clock.now();
    Some(Bug {
        id: BugId(0),
        bugid,
        facts: BugFacts::default(),
        existing: true,
        refreshed: false,
        created_at: now,
        updated_at: now,
    })
}

/// Notes a bug in an operator's name.
pub(crate) async fn note(app: &Arc<App>, by: &str, bug: &Bug) -> Result<BugId, StoreError> {
    let id = app.store.knowledge().add_bug(app.library.epoch(), bug).await?;
    app.audit(by, "bug_create", json!({"id": id.0, "bugid": bug.bugid}));
    Ok(id)
}

/// Keeps what is known of a bug now, in an operator's name, who holds [`App::rewriting`] since it was read.
pub(crate) async fn keep(app: &Arc<App>, by: &str, bug: Bug) -> Result<(), StoreError> {
    let bug = Bug { updated_at: app.clock.now(), ..bug };
    app.store.knowledge().change_bug(app.library.epoch(), &bug).await?;
    app.audit(by, "bug_update", json!({"id": bug.id.0, "bugid": bug.bugid}));
    Ok(())
}

/// Forgets a bug in an operator's name; false if there is none.
pub(crate) async fn forget(app: &Arc<App>, by: &str, id: BugId) -> Result<bool, StoreError> {
    // Nobody is told that a bug was changed that is gone.
    let _rewriting = app.rewriting.lock().await;
    let Some(bug) = app.store.knowledge().bug(id).await? else { return Ok(false) };
    let removed = app.store.knowledge().remove_bug(app.library.epoch(), id).await?;
    if removed {
        app.audit(by, "bug_delete", json!({"id": id.0, "bugid": bug.bugid}));
    }
    Ok(removed)
}

/// What a request says about a bug, over what was known.
fn read(params: &Params, mut bug: Bug) -> Result<Bug, Wrong> {
    let text = |name: &'static str, before: Option<String>| match params.get(name) {
        None => Ok(before),
        Some(text) if !is_text(text) => Err(Wrong::parameters(&[], &[name])),
        Some(text) => Ok(Some(text.to_owned()).filter(|text| !text.is_empty())),
    };
    let flag = |name: &'static str, before: Option<bool>| match params.get(name).map(str::trim) {
        None => Ok(before),
        Some("") => Ok(None),
        Some("0" | "false") => Ok(Some(false)),
        Some("1" | "true") => Ok(Some(true)),
        Some(_) => Err(Wrong::parameters(&[], &[name])),
    };
    let facts = bug.facts;
    bug.facts = BugFacts {
        title: text("title", facts.title)?,
        priority: text("priority", facts.priority)?,
        assigned: flag("assigned", facts.assigned)?,
        assignee: text("assignee", facts.assignee)?,
        open: flag("open", facts.open)?,
        status: text("status", facts.status)?,
        resolution: text("resolution", facts.resolution)?,
    };
    bug.existing = flag("existing", Some(bug.existing))?.unwrap_or(true);
    bug.refreshed = flag("refreshed", Some(bug.refreshed))?.unwrap_or(false);
    Ok(bug)
}

async fn create(
    operator: Operator,
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let [name] = params.required(["bugid"])?;
    let bug = new(&app, name).ok_or_else(|| Wrong::parameters(&[], &["bugid"]))?;
    let id = note(&app, &operator.0.name, &read(&params, bug)?).await?;
    Ok(Json(json!({ "id": id.0 })))
}

async fn update(
    operator: Operator,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let _rewriting = app.rewriting.lock().await;
    let before = found(&app, &id).await?;
    let id = before.id;
    keep(&app, &operator.0.name, read(&params, before)?).await?;
    Ok(Json(json!({ "id": id.0 })))
}

async fn remove(
    operator: Operator,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Wrong> {
    let id = BugId(number(&id).map_err(|_| no_bug())?);
    if !forget(&app, &operator.0.name, id).await? {
        return Err(no_bug());
    }
    Ok(Json(json!({ "result": 1 })))
}
