//! `/admin/groups`: all groups and parent groups, and a form for another one.

use crate::api::openqa;
use crate::api::openqa::params::Params;
use crate::app::App;
use crate::auth::Sender;
use crate::fault::Fault;
use crate::web::frame::Frame;
use askama::Template;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Redirect, Response};
use std::sync::Arc;

struct Row {
    id: i64,
    name: String,
    templates: usize,
}

#[derive(Template)]
#[template(path = "groups.html")]
struct GroupsPage {
    frame: Frame,
    /// Parent groups with theirs; those without a parent come last, under no name.
    parents: Vec<(i64, String, Vec<Row>)>,
    refused: Option<Fault>,
    name: String,
    parent: String,
    may: bool,
}

fn build(app: &App, sender: &Sender, params: &Params, refused: Option<Fault>) -> GroupsPage {
    let catalog = app.library.now();
    let rows = |parent: Option<i64>| -> Vec<Row> {
        let own = catalog.groups.values().filter(|group| group.parent == parent);
        let templates = |id: i64| catalog.templates.values().filter(|template| template.group == id).count();
        own.map(|group| Row { id: group.id, name: group.name.clone(), templates: templates(group.id) })
            .collect()
    };
    let above = catalog.parents.values();
    let above = above.map(|parent| (parent.id, parent.name.clone(), rows(Some(parent.id))));
    let mut frame = Frame::new(app.clock.now());
    frame.builds = true;
    GroupsPage {
        frame,
        parents: above.chain([(0, String::new(), rows(None))]).collect(),
        refused,
        name: params.get("name").unwrap_or_default().to_owned(),
        parent: params.get("parent_id").unwrap_or_default().to_owned(),
        may: sender.must_be_admin().is_ok(),
    }
}

/// `GET /admin/groups`
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    params: Params,
) -> Response {
    crate::web::page(&app, Ok(build(&app, &sender, &params, None)))
}

/// `POST /admin/groups`: a group, or with `parent=1` a parent group.
pub(super) async fn make(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    params: Params,
) -> Response {
    let made = async {
        sender.must_be_admin()?;
        let (page, id) = if params.flag("is_parent") {
            ("parent_group_overview", openqa::groups::make_parent(&app, &sender, &params).await)
        } else {
            ("group_overview", openqa::groups::make(&app, &sender, &params).await)
        };
        Ok(format!("/{page}/{}", id.map_err(openqa::Wrong::fault)?))
    };
    match made.await {
        Ok(page) => Redirect::to(&page).into_response(),
        Err(fault) => {
            let fault: Fault = fault;
            let status = fault.status;
            let mut answer = crate::web::page(&app, Ok(build(&app, &sender, &params, Some(fault))));
            *answer.status_mut() = status;
            answer
        }
    }
}
