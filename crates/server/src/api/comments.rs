//! Comments on jobs.

use super::{job_id, jobs, openqa};
use crate::app::App;
use crate::auth::Sender;
use crate::fault::Fault;
use crate::web::frame::rfc3339;
use assay_engine::knowledge::words;
use assay_proto::api::{Comment, CommentList, NewComment};
use assay_store::{CommentId, CommentTarget};
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use std::sync::Arc;

/// Whoever is known may speak.
pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/jobs/{id}/comments", get(list).post(create))
}

fn shown(comment: &assay_store::Comment) -> Comment {
    Comment {
        id: comment.id.0,
        author: comment.author.clone(),
        text: comment.text.clone(),
        bugs: words::bugrefs(&comment.text),
        created: rfc3339(comment.created_at),
        updated: rfc3339(comment.updated_at),
    }
}

async fn target(app: &App, id: &str) -> Result<CommentTarget, Fault> {
    Ok(CommentTarget::Job(jobs::stored(app, job_id(id)?).await?.row.id))
}

async fn list(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<CommentList>, Fault> {
    let target = target(&app, &id).await?;
    let comments = app.store.knowledge().comments(target).await?;
    Ok(Json(CommentList { comments: comments.iter().map(shown).collect() }))
}

async fn create(
    Extension(sender): Extension<Sender>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Comment>), Fault> {
    sender.must_be_known()?;
    let new: NewComment = serde_json::from_slice(&body).map_err(|error| {
        Fault::bad(format!("The request cannot be read: {error}."), r#"Send {"text": "boo#1"}."#)
    })?;
    let target = target(&app, &id).await?;
    let id = openqa::say(&app, &sender, target, &new.text).await?;
    let made = app.store.knowledge().comment(CommentId(id)).await?;
    let made =
        made.ok_or_else(|| Fault::not_found("The comment is gone again.", "Somebody has removed it."))?;
    Ok((StatusCode::CREATED, Json(shown(&made))))
}
