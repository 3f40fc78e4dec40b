//! What was said about a job or a group, and the way to say more.

use super::frame::{Frame, Moment};
use crate::api::openqa;
use crate::api::openqa::params::Params;
use crate::app::App;
use crate::auth::Sender;
use crate::fault::{Fault, PageFault};
use crate::remarks;
use askama::Template;
use assay_store::{Comment, CommentTarget, UserRole};
use axum::response::{IntoResponse, Redirect, Response};
use std::sync::Arc;

/// openQA's word for a comment that stands first on the page of its group.
const PINNED: &str = "pinned-description";

/// A comment.
struct Said {
    id: i64,
    author: String,
    /// Safe to show.
    html: String,
    at: Moment,
    changed: bool,
}

/// All comments on something, with a form if the reader may add one.
#[derive(Template)]
#[template(path = "comments.html")]
pub(super) struct Comments {
    all: Vec<Said>,
    /// Those that are to stand first. Safe to show.
    pinned: Vec<String>,
    action: Option<String>,
}

// What people wrote was made safe by `remarks::html`; the rest is escaped by the template.
impl askama::filters::HtmlSafe for Comments {}

impl Comments {
    /// `action` is where a form sends what is said.
    pub(super) async fn of(
        app: &App,
        target: CommentTarget,
        sender: &Sender,
        action: String,
    ) -> Result<Self, Fault> {
        let now = app.clock.now();
        let comments = app.store.knowledge().comments(target).await?;
        let pins = |comment: &&Comment| comment.text.contains(PINNED) && may_pin(app, &comment.author);
        let pinned = comments.iter().filter(pins).map(|comment| remarks::html(&comment.text)).collect();
        let said = comments.into_iter().map(|comment| Said {
            id: comment.id.0,
            html: remarks::html(&comment.text),
            at: Moment::new(comment.created_at, now),
            changed: comment.updated_at > comment.created_at,
            author: comment.author,
        });
        Ok(Self { all: said.collect(), pinned, action: Some(action).filter(|_| !sender.name.is_empty()) })
    }

    pub(super) fn pinned(&self) -> &[String] {
        &self.pinned
    }

    pub(super) fn count(&self) -> usize {
        self.all.len()
    }
}

/// Whether what somebody says may stand first, as in openQA: operators and admins, of whom the two of the server's tokens
/// are no users.
fn may_pin(app: &App, author: &str) -> bool {
    match app.people.user(author) {
        Some(user) => matches!(user.role, UserRole::Operator | UserRole::Admin),
        None => matches!(author, "operator" | "admin"),
    }
}

/// Adds what a form says and leads back to `page`.
pub(super) async fn post(
    app: &Arc<App>,
    sender: &Sender,
    target: Result<CommentTarget, Fault>,
    params: Params,
    page: &str,
) -> Response {
    let added = async {
        let target = target?;
        sender.must_be_known()?;
        openqa::comment(app, sender, target, &params.with_plain_lines()).await
    };
    match added.await {
        Ok(id) => Redirect::to(&format!("{page}#comment-{id}")).into_response(),
        Err(fault) => PageFault(fault, Frame::new(app.clock.now())).into_response(),
    }
}
