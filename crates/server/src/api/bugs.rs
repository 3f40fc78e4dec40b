//! Bugs that comments name; the objects and the table of requests are `assay_proto::api::bugs`.

use super::openqa::bugs::{self, LONGEST, ROWS};
use super::openqa::params::Params;
use super::{merged, number};
use crate::app::App;
use crate::auth::Operator;
use crate::fault::Fault;
use crate::web::frame::rfc3339;
use assay_engine::knowledge::words;
use assay_proto::api::Deleted;
use assay_proto::api::bugs::{Bug, BugFacts, BugList};
use assay_store::{BugId, StoreError};
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use std::sync::Arc;

const LIST: &str = "Use for example refreshable=1, delta=3600, created_since=86400, limit=100 and offset=0.";

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/bugs", get(list).post(create))
        .route("/bugs/{id}", get(show).patch(change).delete(remove))
}

fn facts(bug: &assay_store::Bug) -> BugFacts {
    let assay_store::BugFacts { title, priority, assigned, assignee, open, status, resolution } =
        bug.facts.clone();
    BugFacts {
        bugid: bug.bugid.clone(),
        title,
        priority,
        assigned,
        assignee,
        open,
        status,
        resolution,
        existing: Some(bug.existing),
        refreshed: Some(bug.refreshed),
    }
}

fn shown(bug: &assay_store::Bug) -> Bug {
    Bug {
        id: bug.id.0,
        url: words::bug_address(&bug.bugid),
        facts: facts(bug),
        created: rfc3339(bug.created_at),
        updated: rfc3339(bug.updated_at),
    }
}

fn unreadable(error: &serde_json::Error) -> Fault {
    let help =
        r#"Send for example {"bugid": "boo#1", "title": "It breaks", "open": true, "refreshed": true}."#;
    Fault::bad(format!("The request cannot be read: {error}."), help)
}

/// What is said of a bug in the place of what was known.
fn with(bug: assay_store::Bug, said: BugFacts) -> Result<assay_store::Bug, Fault> {
    let BugFacts {
        bugid: _,
        title,
        priority,
        assigned,
        assignee,
        open,
        status,
        resolution,
        existing,
        refreshed,
    } = said;
    // An empty text says nothing.
    let [title, priority, assignee, status, resolution] =
        [title, priority, assignee, status, resolution].map(|text| text.filter(|text| !text.is_empty()));
    let texts = [&title, &priority, &assignee, &status, &resolution];
    if texts.into_iter().flatten().any(|text| !bugs::is_text(text)) {
        let help = format!("Send at most {LONGEST} bytes each, without a NUL.");
        return Err(Fault::bad("A text about the bug cannot be kept.", help));
    }
    Ok(assay_store::Bug {
        facts: assay_store::BugFacts { title, priority, assigned, assignee, open, status, resolution },
        existing: existing.unwrap_or(true),
        refreshed: refreshed.unwrap_or(false),
        ..bug
    })
}

async fn found(app: &App, id: i64) -> Result<assay_store::Bug, Fault> {
    app.store.knowledge().bug(BugId(id)).await?.ok_or_else(|| absent(id))
}

fn absent(id: i64) -> Fault {
    Fault::not_found(format!("There is no bug {id}."), "GET /api/assay/v1/bugs has those that there are.")
}

async fn list(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Json<BugList>, Fault> {
    let params = Params::of_query(query.as_deref().unwrap_or_default());
    let page = params.page(ROWS.0, ROWS.1).map_err(|wrong| wrong.told(LIST))?;
    let (bugs, more) = bugs::listed(&app, &params, page).await.map_err(|wrong| wrong.told(LIST))?;
    Ok(Json(BugList { bugs: bugs.iter().map(shown).collect(), more }))
}

async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Bug>, Fault> {
    Ok(Json(shown(&found(&app, number(&id)?).await?)))
}

async fn create(
    operator: Operator,
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<(StatusCode, Json<Bug>), Fault> {
    let said: BugFacts = serde_json::from_slice(&body).map_err(|error| unreadable(&error))?;
    let bug = bugs::new(&app, &said.bugid).ok_or_else(|| {
        let help = "Send \"bugid\": TRACKER#NUMBER such as boo#1 or gh#os/tests#7, or the bug's address.";
        Fault::bad(format!("{:?} is not the name of one bug.", said.bugid), help)
    })?;
    let (name, bug) = (bug.bugid.clone(), with(bug, said)?);
    let id = bugs::note(&app, &operator.0.name, &bug).await.map_err(|error| match error {
        StoreError::Duplicate { .. } => {
            let help = "Find its number in GET /api/assay/v1/bugs, and change what is said there.";
            Fault::new(StatusCode::CONFLICT, format!("The bug {name} is noted already."), help)
        }
        other => other.into(),
    })?;
    Ok((StatusCode::CREATED, Json(shown(&found(&app, id.0).await?))))
}

async fn change(
    operator: Operator,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Bug>, Fault> {
    let number = number(&id)?;
    let _rewriting = app.rewriting.lock().await;
    let before = found(&app, number).await?;
    let id = before.id.0;
    let said = merged(&facts(&before), &body).map_err(|error| unreadable(&error))?;
    if said.bugid != before.bugid {
        let error = format!("Bug {id} is {}, and stays that.", before.bugid);
        return Err(Fault::bad(error, "Leave bugid out, or note another bug."));
    }
    bugs::keep(&app, &operator.0.name, with(before, said)?).await?;
    Ok(Json(shown(&found(&app, id).await?)))
}

async fn remove(
    operator: Operator,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Deleted>, Fault> {
    let id = number(&id)?;
    if bugs::forget(&app, &operator.0.name, BugId(id)).await? {
        return Ok(Json(Deleted { id }));
    }
    Err(absent(id))
}
