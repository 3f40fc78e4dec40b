//! Comments on jobs, groups and parent groups.

use super::params::Params;
use super::{Admin, Operator, Person, Wrong, number};
use crate::app::App;
use crate::auth::{Role, Sender};
use crate::fault::Fault;
use crate::remarks;
use assay_engine::ids::JobId;
use assay_engine::knowledge::words::{self, NoResult};
use assay_engine::outcome::Outcome;
use assay_engine::report::Fact;
use assay_store::{Comment, CommentId, CommentTarget};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;

/// The longest comment, bytes.
const MAX_TEXT: usize = 64 * 1024;
/// So many characters of a comment are in the audit log.
const NOTED: usize = 500;
/// What may be said, for those who tried something else by Assay's own API.
pub(crate) const SAY: &str =
    "Send {\"text\": …}: not empty, at most 64 KiB, and label:force_result:… only as an operator.";

/// What is commented.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Job,
    Group,
    ParentGroup,
}

pub(super) fn router() -> Router<Arc<App>> {
    let mut router = Router::new().route("/comments", post(create_many).delete(remove_many));
    for (path, kind) in [
        ("/jobs/{id}/comments", Kind::Job),
        ("/groups/{id}/comments", Kind::Group),
        ("/parent_groups/{id}/comments", Kind::ParentGroup),
    ] {
        router = router
            .route(
                path,
                get(move |app, id| list(kind, app, id))
                    .post(move |person, app, id, params| create(kind, person, app, id, params)),
            )
            .route(
                &format!("{path}/{{comment}}"),
                get(move |app, ids| show(kind, app, ids))
                    .put(move |person, app, ids, params| update(kind, person, app, ids, params))
                    .delete(move |admin, app, ids| remove(kind, admin, app, ids)),
            );
    }
    router
}

async fn target(app: &App, kind: Kind, id: &str) -> Result<CommentTarget, Wrong> {
    let id = number(id)?;
    let catalog = app.library.now();
    match kind {
        Kind::Job => {
            app.store
                .job(JobId(id))
                .await?
                .ok_or_else(|| Wrong::not_found(format!("Job {id} does not exist")))?;
            Ok(CommentTarget::Job(JobId(id)))
        }
        Kind::Group if catalog.groups.contains_key(&id) => Ok(CommentTarget::Group(id)),
        Kind::ParentGroup if catalog.parents.contains_key(&id) => Ok(CommentTarget::ParentGroup(id)),
        Kind::Group => Err(Wrong::not_found(format!("Job group {id} does not exist"))),
        Kind::ParentGroup => Err(Wrong::not_found(format!("Parent group {id} does not exist"))),
    }
}

fn shown(comment: &Comment) -> Value {
    let time = |at: assay_engine::ids::Timestamp| {
        let at = jiff::Timestamp::from_microsecond(at.0).unwrap_or_default();
        at.strftime("%Y-%m-%d %H:%M:%S +0000").to_string()
    };
    json!({
        "id": comment.id.0,
        "text": comment.text,
        "renderedMarkdown": remarks::html(&comment.text),
        "bugrefs": words::bugrefs(&comment.text),
        "created": time(comment.created_at),
        "updated": time(comment.updated_at),
        "userName": comment.author,
    })
}

fn text_of(params: &Params) -> Result<&str, Wrong> {
    allowed(params.get("text").ok_or_else(|| Wrong::parameters(&["text"], &[]))?)
}

fn allowed(text: &str) -> Result<&str, Wrong> {
    if text.trim().is_empty() || text.contains('\0') {
        return Err(Wrong::parameters(&[], &["text"]));
    }
    if text.len() > MAX_TEXT {
        let error = format!("The comment has {} bytes; at most {MAX_TEXT} are allowed", text.len());
        return Err(Wrong::new(StatusCode::PAYLOAD_TOO_LARGE, error));
    }
    Ok(text)
}

async fn list(kind: Kind, State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Value>, Wrong> {
    let target = target(&app, kind, &id).await?;
    Ok(Json(app.store.knowledge().comments(target).await?.iter().map(shown).collect()))
}

/// The comment, if it is about what the address says.
async fn found(app: &App, kind: Kind, (id, comment): (&str, &str)) -> Result<Comment, Wrong> {
    let target = target(app, kind, id).await?;
    let absent = || Wrong::not_found(format!("Comment {comment} does not exist"));
    let number: i64 = comment.parse().map_err(|_| absent())?;
    let found = app.store.knowledge().comment(CommentId(number)).await?;
    found.filter(|comment| comment.target == target).ok_or_else(absent)
}

async fn show(
    kind: Kind,
    State(app): State<Arc<App>>,
    Path((id, comment)): Path<(String, String)>,
) -> Result<Json<Value>, Wrong> {
    Ok(Json(shown(&found(&app, kind, (&id, &comment)).await?)))
}

/// The result that a comment on a job gives; who may do that. On a group the words say nothing.
fn may_say<'t>(
    sender: &Sender,
    about_job: bool,
    text: &'t str,
) -> Result<Option<(Outcome, Option<&'t str>)>, Wrong> {
    if !about_job {
        return Ok(None);
    }
    let forces = words::to_be_forced(text).map_err(|NoResult(word)| {
        let known: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.openqa()).collect();
        let error = format!("Invalid result '{word}' for force_result; use one of {}", known.join(", "));
        Wrong::bad(error)
    });
    let by_operator = matches!(sender.role, Role::Operator | Role::Admin);
    if !by_operator && !matches!(forces, Ok(None)) {
        return Err(Wrong::new(StatusCode::FORBIDDEN, "Operator level required to force a result"));
    }
    forces
}

/// What is noted of a comment: what it is about, and so much of its text that one finds it by its words.
fn noted(comment: &Comment) -> Value {
    let mut noted = json!({"id": comment.id.0, "text": excerpt(&comment.text)});
    match comment.target {
        CommentTarget::Job(job) => noted["job_id"] = json!(job.0),
        CommentTarget::Group(group) => noted["group_id"] = json!(group),
        CommentTarget::ParentGroup(parent) => noted["parent_group_id"] = json!(parent),
    }
    noted
}

fn excerpt(text: &str) -> String {
    let mut excerpt: String = text.chars().take(NOTED).collect();
    if excerpt.len() < text.len() {
        excerpt.push('…');
    }
    excerpt
}

async fn add(app: &Arc<App>, sender: &Sender, target: CommentTarget, text: &str) -> Result<i64, Wrong> {
    let forced = may_say(sender, matches!(target, CommentTarget::Job(_)), text)?;
    let now = app.clock.now();
    let mut comment = Comment {
        id: CommentId(0),
        target,
        author: sender.name.clone(),
        text: text.to_owned(),
        created_at: now,
        updated_at: now,
    };
    if let (CommentTarget::Job(job), Some(forced)) = (target, forced) {
        app.force(job, forced, &sender.name).await?;
    }
    comment.id = app.keep_comment(&comment).await?;
    app.store.knowledge().bugs_named(app.library.epoch(), &words::bugrefs(text), now).await?;
    app.audit(&sender.name, "comment_create", noted(&comment));
    Ok(comment.id.0)
}

/// What a form of a page says, which has looked at who sends it.
pub(crate) async fn comment(
    app: &Arc<App>,
    sender: &Sender,
    target: CommentTarget,
    params: &Params,
) -> Result<i64, Fault> {
    let text = text_of(params).map_err(Wrong::fault)?;
    add(app, sender, target, text).await.map_err(Wrong::fault)
}

/// A text that a sender may say about a job, before anything is done for whose sake it is said.
pub(crate) fn sayable<'t>(sender: &Sender, text: &'t str) -> Result<&'t str, Fault> {
    let text = allowed(text).map_err(Wrong::fault)?;
    may_say(sender, true, text).map_err(Wrong::fault)?;
    Ok(text)
}

/// What Assay's own API says.
pub(crate) async fn say(
    app: &Arc<App>,
    sender: &Sender,
    target: CommentTarget,
    text: &str,
) -> Result<i64, Fault> {
    let said = async { add(app, sender, target, allowed(text)?).await };
    said.await.map_err(|wrong: Wrong| wrong.told(SAY))
}

async fn create(
    kind: Kind,
    person: Person,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let target = target(&app, kind, &id).await?;
    let id = add(&app, &person.0, target, text_of(&params)?).await?;
    Ok(Json(json!({ "id": id })))
}

async fn update(
    kind: Kind,
    person: Person,
    State(app): State<Arc<App>>,
    Path((id, comment)): Path<(String, String)>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let before = found(&app, kind, (&id, &comment)).await?;
    rewrite(&app, &person.0, &before, text_of(&params)?).await?;
    Ok(Json(json!({ "id": before.id.0 })))
}

/// Puts another text in the place of what somebody has said, who alone may do that.
pub(crate) async fn rewrite(
    app: &Arc<App>,
    sender: &Sender,
    before: &Comment,
    text: &str,
) -> Result<(), Wrong> {
    let text = allowed(text)?;
    if before.author != sender.name {
        return Err(Wrong::new(StatusCode::FORBIDDEN, "Forbidden (must be author)"));
    }
    let forced = may_say(sender, matches!(before.target, CommentTarget::Job(_)), text)?;
    // What was forced before is not forced anew: the result may have changed since, and other words are no reason.
    if let (CommentTarget::Job(job), Some(forced)) = (before.target, forced)
        && words::forced(&before.text) != Some(forced)
    {
        app.force(job, forced, &sender.name).await?;
    }
    let (epoch, now) = (app.library.epoch(), app.clock.now());
    let said = Comment { text: text.to_owned(), updated_at: now, ..before.clone() };
    let told = app.reporting.of_comment(&said, Fact::CommentUpdate, now);
    app.store.knowledge().edit_comment(epoch, before.id, text, now, &told).await?;
    app.reporting.stored(told.iter().map(|entry| entry.target.as_str()));
    app.store.knowledge().bugs_named(epoch, &words::bugrefs(text), now).await?;
    let mut noted = noted(&said);
    noted["old_text"] = json!(excerpt(&before.text));
    app.audit(&sender.name, "comment_update", noted);
    Ok(())
}

async fn remove(
    kind: Kind,
    admin: Admin,
    State(app): State<Arc<App>>,
    Path((id, comment)): Path<(String, String)>,
) -> Result<Json<Value>, Wrong> {
    let before = found(&app, kind, (&id, &comment)).await?;
    let id = before.id.0;
    unsay(&app, &admin.0, &[before]).await?;
    Ok(Json(json!({ "id": id })))
}

/// Removes comments in an admin's name: all or none.
pub(crate) async fn unsay(app: &Arc<App>, admin: &Sender, comments: &[Comment]) -> Result<(), Wrong> {
    comments.iter().try_for_each(removable)?;
    app.take_back(comments).await?;
    for comment in comments {
        let mut noted = noted(comment);
        noted["author"] = json!(comment.author);
        app.audit(&admin.name, "comment_delete", noted);
    }
    Ok(())
}

/// What gave a result stays: it says why the result is what it is.
fn removable(comment: &Comment) -> Result<(), Wrong> {
    if matches!(comment.target, CommentTarget::Job(_)) && words::forced(&comment.text).is_some() {
        return Err(Wrong::bad("Comment which forced a result cannot be deleted"));
    }
    Ok(())
}

/// `POST comments`: one text for several jobs.
async fn create_many(
    person: Operator,
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let text = text_of(&params)?;
    let jobs = params.list("job_id");
    if jobs.is_empty() {
        return Err(Wrong::parameters(&["job_id"], &[]));
    }
    let mut targets = Vec::new();
    for job in &jobs {
        targets.push(target(&app, Kind::Job, job).await?);
    }
    let mut created = Vec::new();
    for target in targets {
        let CommentTarget::Job(job) = target else { continue };
        created.push(json!({"id": add(&app, &person.0, target, text).await?, "job_id": job.0}));
    }
    Ok(Json(json!({"created": created, "failed": []})))
}

/// `DELETE comments`: several at once, all or none.
async fn remove_many(
    admin: Admin,
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let mut ids = Vec::new();
    for id in params.list("id") {
        let absent = || Wrong::not_found(format!("Comment {id} does not exist"));
        let id = CommentId(id.parse().map_err(|_| absent())?);
        ids.push(app.store.knowledge().comment(id).await?.ok_or_else(absent)?);
    }
    if ids.is_empty() {
        return Err(Wrong::parameters(&["id"], &[]));
    }
    unsay(&app, &admin.0, &ids).await?;
    Ok(Json(json!({ "deleted": ids.len() })))
}
