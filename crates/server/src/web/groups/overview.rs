//! `/group_overview/{id}` and `/parent_group_overview/{id}`: all builds of a group, and what is said about it.

use super::builds::{Build, BuildView, Name, Review, Tags, Teller, natural};
use super::{Chosen, LONG, Loaded, Wanted, group_told, load, ordered};
use crate::api::openqa::params::Params;
use crate::app::App;
use crate::auth::Sender;
use crate::catalog::Catalog;
use crate::fault::Fault;
use crate::remarks;
use crate::web::comments::{self, Comments};
use crate::web::frame::Frame;
use askama::Template;
use assay_engine::ids::GroupId;
use assay_proto::api::groups::GroupBuilds;
use assay_store::{CommentTarget, Group, ParentGroup};
use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "group.html")]
struct GroupPage {
    frame: Frame,
    name: String,
    /// Name and number of the parent group.
    parent: Option<(String, i64)>,
    description: String,
    builds: Vec<BuildView>,
    limits: Vec<(usize, bool)>,
    only_tagged: bool,
    newer: Option<String>,
    older: Option<String>,
    /// Where its templates are.
    templates: String,
    /// Where what it keeps is said.
    properties: String,
    comments: Comments,
}

/// A build of a parent group, and of each of its groups.
struct Row {
    whole: BuildView,
    /// Name and number of the group, and its part.
    parts: Vec<(String, i64, BuildView)>,
}

#[derive(Template)]
#[template(path = "parent_group.html")]
struct ParentPage {
    frame: Frame,
    name: String,
    description: String,
    /// Names and numbers.
    groups: Vec<(String, i64)>,
    rows: Vec<Row>,
    limits: Vec<(usize, bool)>,
    only_tagged: bool,
    newer: Option<String>,
    older: Option<String>,
    comments: Comments,
}

fn no_group(id: &str) -> Fault {
    Fault::not_found(format!("There is no group {id}."), "See the dashboard for those that there are.")
}

pub(super) fn found<'c>(catalog: &'c Catalog, id: &str) -> Result<&'c Arc<Group>, Fault> {
    id.parse().ok().and_then(|id: i64| catalog.groups.get(&id)).ok_or_else(|| no_group(id))
}

fn found_parent<'c>(catalog: &'c Catalog, id: &str) -> Result<&'c Arc<ParentGroup>, Fault> {
    id.parse().ok().and_then(|id: i64| catalog.parents.get(&id)).ok_or_else(|| no_group(id))
}

fn limits(wanted: &Wanted) -> Vec<(usize, bool)> {
    [LONG, 20, 50, 100, 400].map(|limit| (limit, limit == wanted.limit(LONG))).into()
}

/// Where the builds are that come before those that are wanted, and those after them if there are `more`.
fn turns(base: &str, wanted: &Wanted, more: bool) -> (Option<String>, Option<String>) {
    let limit = wanted.limit(LONG);
    let address = |skip: usize| {
        let tagged = if wanted.only_tagged() { "&only_tagged=1" } else { "" };
        format!("{base}?limit_builds={limit}&skip={skip}{tagged}")
    };
    let newer = (wanted.skip > 0).then(|| address(wanted.skip.saturating_sub(limit)));
    (newer, more.then(|| address(wanted.skip.saturating_add(limit))))
}

/// To be made before what the page shows is read: it hears of what changes from then on.
fn frame(app: &App) -> Frame {
    let mut frame = Frame::new(app.clock.now());
    frame.builds = true;
    frame.events = Some(app.changes());
    frame
}

/// `GET /group_overview/{id}` and `/group_overview/{id}.json`
pub(super) async fn group(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Response {
    if let Some(id) = id.strip_suffix(".json") {
        return group_json(&app, id, &wanted).await.into_response();
    }
    let rendered = group_page(&app, &sender, &id, &wanted).await;
    crate::web::page(&app, rendered)
}

/// The builds of a group that are wanted, and what is tagged.
async fn of_group(
    app: &App,
    catalog: &Catalog,
    group: &Arc<Group>,
    wanted: &Wanted,
) -> Result<(Chosen, Tags), Fault> {
    let mut loaded = load(app, catalog, &[group], wanted, wanted.page(LONG)).await?;
    Ok((loaded.groups.remove(&GroupId(group.id)).unwrap_or_default(), loaded.tags))
}

async fn group_json(app: &App, id: &str, wanted: &Wanted) -> Result<Json<Value>, Fault> {
    let catalog = app.library.now();
    let group = found(&catalog, id)?;
    let (chosen, tags) = of_group(app, &catalog, group, wanted).await?;
    let teller = Teller { now: app.clock.now(), tags: &tags };
    Ok(Json(group_told(group, &chosen, &teller)))
}

/// The builds of a group for Assay's own API.
pub(crate) async fn builds_of_group(
    app: &App,
    catalog: &Catalog,
    group: &Arc<Group>,
    wanted: &Wanted,
) -> Result<GroupBuilds, Fault> {
    let (chosen, tags) = of_group(app, catalog, group, wanted).await?;
    let teller = Teller { now: app.clock.now(), tags: &tags };
    let builds = chosen.builds.iter().map(|(name, build)| teller.row(&[GroupId(group.id)], name, build));
    Ok(GroupBuilds { builds: builds.collect(), more: chosen.more })
}

/// The same of all groups of a parent together.
pub(crate) async fn builds_of_parent(
    app: &App,
    catalog: &Catalog,
    parent: &ParentGroup,
    wanted: &Wanted,
) -> Result<GroupBuilds, Fault> {
    let (_, loaded) = of_parent(app, catalog, parent, wanted).await?;
    let teller = Teller { now: app.clock.now(), tags: &loaded.tags };
    let (rows, more) = together(&loaded, wanted);
    let builds = rows.iter().map(|(name, build, groups)| teller.row(groups, name, build));
    Ok(GroupBuilds { builds: builds.collect(), more })
}

async fn group_page(app: &App, sender: &Sender, id: &str, wanted: &Wanted) -> Result<GroupPage, Fault> {
    let catalog = app.library.now();
    let group = found(&catalog, id)?;
    let frame = frame(app);
    let (chosen, tags) = of_group(app, &catalog, group, wanted).await?;
    let teller = Teller { now: app.clock.now(), tags: &tags };
    let parent = group.parent.and_then(|id| catalog.parents.get(&id));
    let (target, base) = (CommentTarget::Group(group.id), format!("/group_overview/{}", group.id));
    let own = [GroupId(group.id)];
    let (newer, older) = turns(&base, wanted, chosen.more);
    Ok(GroupPage {
        frame,
        name: group.name.clone(),
        parent: parent.map(|parent| (parent.name.clone(), parent.id)),
        description: remarks::html(group.description.as_deref().unwrap_or_default()),
        builds: chosen.builds.iter().map(|(name, build)| teller.view(&own, name, build)).collect(),
        limits: limits(wanted),
        only_tagged: wanted.only_tagged(),
        newer,
        older,
        templates: format!("/admin/job_templates/{}", group.id),
        properties: format!("{base}/properties"),
        comments: Comments::of(app, target, sender, format!("{base}/comments")).await?,
    })
}

/// A build of several groups, and which these are.
type Whole = (Name, Build, Vec<GroupId>);

/// The page that is wanted of the builds of all groups together, the highest first, and whether there are more.
fn together(loaded: &Loaded, wanted: &Wanted) -> (Vec<Whole>, bool) {
    let mut all: BTreeMap<&Name, (Build, Vec<GroupId>)> = BTreeMap::new();
    for (group, chosen) in &loaded.groups {
        for (name, build) in &chosen.builds {
            let (whole, groups) = all.entry(name).or_default();
            whole.merge(build);
            groups.push(*group);
        }
    }
    let mut rows: Vec<_> =
        all.into_iter().map(|(name, (build, groups))| (name.clone(), build, groups)).collect();
    rows.sort_by(|(left, ..), (right, ..)| {
        natural(&right.0, &left.0).then_with(|| natural(&right.1, &left.1))
    });
    let (skip, limit) = wanted.page(LONG);
    let more = rows.len() > skip.saturating_add(limit) || loaded.groups.values().any(|chosen| chosen.more);
    (rows.into_iter().skip(skip).take(limit).collect(), more)
}

/// `GET /parent_group_overview/{id}` and `/parent_group_overview/{id}.json`
pub(super) async fn parent(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Response {
    if let Some(id) = id.strip_suffix(".json") {
        return parent_json(&app, id, &wanted).await.into_response();
    }
    let rendered = parent_page(&app, &sender, &id, &wanted).await;
    crate::web::page(&app, rendered)
}

/// The groups of a parent, and their builds.
async fn of_parent<'c>(
    app: &App,
    catalog: &'c Catalog,
    parent: &ParentGroup,
    wanted: &Wanted,
) -> Result<(Vec<&'c Arc<Group>>, Loaded), Fault> {
    let groups = ordered(catalog.groups.values().filter(|group| group.parent == Some(parent.id)));
    // Which builds are on a page follows from those of all groups together: each may have all of them.
    let (skip, limit) = wanted.page(LONG);
    let loaded = load(app, catalog, &groups, wanted, (0, skip.saturating_add(limit))).await?;
    Ok((groups, loaded))
}

async fn parent_json(app: &App, id: &str, wanted: &Wanted) -> Result<Json<Value>, Fault> {
    let catalog = app.library.now();
    let parent = found_parent(&catalog, id)?;
    let (_, loaded) = of_parent(app, &catalog, parent, wanted).await?;
    let teller = Teller { now: app.clock.now(), tags: &loaded.tags };
    let (rows, _) = together(&loaded, wanted);
    let builds = rows.iter().map(|(name, build, groups)| teller.told(groups, name, build));
    Ok(Json(json!({
        "group": {"id": parent.id, "name": parent.name},
        "build_results": builds.collect::<Vec<_>>(),
    })))
}

async fn parent_page(app: &App, sender: &Sender, id: &str, wanted: &Wanted) -> Result<ParentPage, Fault> {
    let catalog = app.library.now();
    let parent = found_parent(&catalog, id)?;
    let frame = frame(app);
    let (groups, loaded) = of_parent(app, &catalog, parent, wanted).await?;
    let teller = Teller { now: app.clock.now(), tags: &loaded.tags };
    let row = |(name, build, ids): Whole| {
        let part = |id: &GroupId| {
            let (_, part) = loaded.groups.get(id)?.builds.iter().find(|(its, _)| *its == name)?;
            let group = catalog.groups.get(&id.0)?;
            Some((group.name.clone(), group.id, teller.view(&[*id], &name, part)))
        };
        Row { whole: teller.view(&ids, &name, &build), parts: ids.iter().filter_map(part).collect() }
    };
    let (rows, more) = together(&loaded, wanted);
    let rows = rows.into_iter().map(row).collect();
    let (target, base) =
        (CommentTarget::ParentGroup(parent.id), format!("/parent_group_overview/{}", parent.id));
    let (newer, older) = turns(&base, wanted, more);
    Ok(ParentPage {
        frame,
        name: parent.name.clone(),
        description: remarks::html(parent.description.as_deref().unwrap_or_default()),
        groups: groups.iter().map(|group| (group.name.clone(), group.id)).collect(),
        rows,
        limits: limits(wanted),
        only_tagged: wanted.only_tagged(),
        newer,
        older,
        comments: Comments::of(app, target, sender, format!("{base}/comments")).await?,
    })
}

/// `POST /group_overview/{id}/comments`
pub(super) async fn comment_group(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    params: Params,
) -> Response {
    let target = found(&app.library.now(), &id).map(|group| CommentTarget::Group(group.id));
    comments::post(&app, &sender, target, params, &format!("/group_overview/{id}")).await
}

/// `POST /parent_group_overview/{id}/comments`
pub(super) async fn comment_parent(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    params: Params,
) -> Response {
    let target = found_parent(&app.library.now(), &id).map(|group| CommentTarget::ParentGroup(group.id));
    comments::post(&app, &sender, target, params, &format!("/parent_group_overview/{id}")).await
}
