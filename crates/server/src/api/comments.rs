//! Comments on jobs, groups and parent groups, and the tags of builds, which are comments on groups.

use super::{job_id, jobs, openqa};
use crate::app::App;
use crate::auth::{Admin, Sender};
use crate::fault::Fault;
use crate::groups::{found, found_parent};
use crate::web::frame::rfc3339;
use assay_engine::knowledge::words;
use assay_proto::api::groups::{BuildTag, BuildTags};
use assay_proto::api::{Comment, CommentList, Deleted, NewComment};
use assay_store::{CommentId, CommentTarget};
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use std::sync::Arc;

/// What is commented.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Job,
    Group,
    ParentGroup,
}

/// Whoever is known may speak.
pub(super) fn router() -> Router<Arc<App>> {
    let mut router = Router::new()
        .route("/groups/{id}/tags", get(tags).post(tag))
        .route("/groups/{id}/tags/{build}/{kind}", delete(untag));
    for (path, kind) in [
        ("/jobs/{id}/comments", Kind::Job),
        ("/groups/{id}/comments", Kind::Group),
        ("/parent-groups/{id}/comments", Kind::ParentGroup),
    ] {
        router = router
            .route(
                path,
                get(move |app, id| list(kind, app, id))
                    .post(move |sender, app, id, body| create(kind, sender, app, id, body)),
            )
            .route(
                &format!("{path}/{{comment}}"),
                get(move |app, ids| show(kind, app, ids))
                    .put(move |sender, app, ids, body| update(kind, sender, app, ids, body))
                    .delete(move |admin, app, ids| remove(kind, admin, app, ids)),
            );
    }
    router
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

async fn target(app: &App, kind: Kind, id: &str) -> Result<CommentTarget, Fault> {
    let catalog = app.library.now();
    Ok(match kind {
        Kind::Job => CommentTarget::Job(jobs::stored(app, job_id(id)?).await?.row.id),
        Kind::Group => CommentTarget::Group(found(&catalog, super::number(id)?)?.id),
        Kind::ParentGroup => CommentTarget::ParentGroup(found_parent(&catalog, super::number(id)?)?.id),
    })
}

/// The comment, if it is about what the address says.
async fn said(app: &App, kind: Kind, (id, comment): (&str, &str)) -> Result<assay_store::Comment, Fault> {
    let target = target(app, kind, id).await?;
    let number = super::number(comment)?;
    let found = app.store.knowledge().comment(CommentId(number)).await?;
    found.filter(|comment| comment.target == target).ok_or_else(|| {
        let error = format!("There is no comment {number} here.");
        Fault::not_found(error, "List the comments for those that there are.")
    })
}

fn read(body: &[u8]) -> Result<NewComment, Fault> {
    super::read(body, r#"Send {"text": "boo#1"}."#)
}

async fn list(
    kind: Kind,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<CommentList>, Fault> {
    let target = target(&app, kind, &id).await?;
    let comments = app.store.knowledge().comments(target).await?;
    Ok(Json(CommentList { comments: comments.iter().map(shown).collect() }))
}

async fn show(
    kind: Kind,
    State(app): State<Arc<App>>,
    Path((id, comment)): Path<(String, String)>,
) -> Result<Json<Comment>, Fault> {
    Ok(Json(shown(&said(&app, kind, (&id, &comment)).await?)))
}

async fn stored(app: &App, id: CommentId) -> Result<Comment, Fault> {
    let made = app.store.knowledge().comment(id).await?;
    let made =
        made.ok_or_else(|| Fault::not_found("The comment is gone again.", "Somebody has removed it."))?;
    Ok(shown(&made))
}

async fn create(
    kind: Kind,
    Extension(sender): Extension<Sender>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Comment>), Fault> {
    sender.must_be_known()?;
    let new = read(&body)?;
    let target = target(&app, kind, &id).await?;
    let id = openqa::say(&app, &sender, target, &new.text).await?;
    Ok((StatusCode::CREATED, Json(stored(&app, CommentId(id)).await?)))
}

async fn update(
    kind: Kind,
    Extension(sender): Extension<Sender>,
    State(app): State<Arc<App>>,
    Path((id, comment)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Comment>, Fault> {
    sender.must_be_known()?;
    let new = read(&body)?;
    let before = said(&app, kind, (&id, &comment)).await?;
    if before.author != sender.name {
        let error = format!("The comment is {}'s; only its author changes it.", before.author);
        return Err(Fault::new(StatusCode::FORBIDDEN, error, "Add a comment of your own."));
    }
    openqa::rewrite(&app, &sender, &before, &new.text).await.map_err(|wrong| wrong.told(openqa::SAY))?;
    Ok(Json(stored(&app, before.id).await?))
}

async fn remove(
    kind: Kind,
    admin: Admin,
    State(app): State<Arc<App>>,
    Path((id, comment)): Path<(String, String)>,
) -> Result<Json<Deleted>, Fault> {
    let before = said(&app, kind, (&id, &comment)).await?;
    let id = before.id.0;
    let gone = openqa::unsay(&app, &admin.0, &[before]).await;
    gone.map_err(|wrong| wrong.told("Leave it: it says why the result is what it is."))?;
    Ok(Json(Deleted { id }))
}

/// The tags that hold after all comments of a group.
async fn tags_of(app: &App, group: CommentTarget) -> Result<Json<BuildTags>, Fault> {
    let comments = app.store.knowledge().comments(group).await?;
    let held = words::tags(comments.iter().map(|comment| comment.text.as_str())).into_iter();
    let tag = |tag: words::TagWord<'_>| BuildTag {
        build: tag.build.to_owned(),
        kind: tag.kind.to_owned(),
        what: tag.what.map(str::to_owned),
    };
    Ok(Json(BuildTags { tags: held.map(tag).collect() }))
}

async fn tags(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<BuildTags>, Fault> {
    tags_of(&app, target(&app, Kind::Group, &id).await?).await
}

/// The comment that gives a tag, or takes it away. What would be read as something else than it was meant is refused.
fn worded(tag: &BuildTag, removed: bool) -> Result<String, Fault> {
    let BuildTag { build, kind, what } = tag;
    let sign = if removed { "-" } else { "" };
    let what = what.as_deref().filter(|what| !what.is_empty());
    let text = format!("tag:{build}:{sign}{kind}{}", what.map(|what| format!(":{what}")).unwrap_or_default());
    let meant = words::TagWord { build, kind, what, removed };
    if words::tag(&text).as_ref() == Some(&meant) {
        return Ok(text);
    }
    Err(Fault::bad(
        format!("{text:?} is no tag of a build."),
        r#"Send {"build": "43-20261121.n.0", "kind": "important", "what": "GM"}: one word each, without a colon in build and kind."#,
    ))
}

async fn tag(
    Extension(sender): Extension<Sender>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<BuildTags>), Fault> {
    sender.must_be_known()?;
    let help = r#"Send {"build": "43-20261121.n.0", "kind": "important"}."#;
    let tag: BuildTag = super::read(&body, help)?;
    let group = target(&app, Kind::Group, &id).await?;
    openqa::say(&app, &sender, group, &worded(&tag, false)?).await?;
    Ok((StatusCode::CREATED, tags_of(&app, group).await?))
}

async fn untag(
    Extension(sender): Extension<Sender>,
    State(app): State<Arc<App>>,
    Path((id, build, kind)): Path<(String, String, String)>,
) -> Result<Json<BuildTags>, Fault> {
    sender.must_be_known()?;
    let group = target(&app, Kind::Group, &id).await?;
    let Json(held) = tags_of(&app, group).await?;
    if !held.tags.iter().any(|tag| tag.build == build && tag.kind == kind) {
        let error = format!("The build {build:?} has no tag {kind:?}.");
        return Err(Fault::not_found(error, "List the tags of the group for those that there are."));
    }
    openqa::say(&app, &sender, group, &worded(&BuildTag { build, kind, what: None }, true)?).await?;
    tags_of(&app, group).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_worded_as_they_are_read() {
        let tag = |build: &str, kind: &str, what: Option<&str>| BuildTag {
            build: build.to_owned(),
            kind: kind.to_owned(),
            what: what.map(str::to_owned),
        };
        for (one, removed, want) in [
            (tag("43-7", "important", None), false, "tag:43-7:important"),
            (tag("43-7", "published", Some("GM")), false, "tag:43-7:published:GM"),
            (tag("43-7", "important", Some("")), false, "tag:43-7:important"),
            (tag("43-7", "important", None), true, "tag:43-7:-important"),
        ] {
            assert_eq!(worded(&one, removed).unwrap(), want);
        }
        for one in [
            tag("", "important", None),
            tag("7", "", None),
            tag("7", "-important", None),
            tag("a:b", "important", None),
            tag("7", "very important", None),
            tag("7", "important", Some("two words")),
        ] {
            assert_eq!(worded(&one, false).unwrap_err().status, StatusCode::BAD_REQUEST, "{one:?}");
        }
    }
}
