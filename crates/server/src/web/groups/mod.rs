//! Groups and their builds: the dashboard, the pages of a group and of a parent group, and the same as JSON.

mod admin;
pub(super) mod builds;
mod overview;
mod properties;

pub(crate) use overview::{builds_of_group, builds_of_parent};

use super::frame::Frame;
use super::index;
use crate::app::App;
use crate::catalog::Catalog;
use crate::fault::Fault;
use askama::Template;
use assay_engine::ids::{GroupId, Timestamp};
use assay_store::{CommentTarget, Group, GroupBuild};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use builds::{Build, BuildView, Name, Review, Sort, Tags, Teller};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Builds of each group on the dashboard, and on the page of a group, if nobody says how many; and at most.
const SHORT: usize = 3;
const LONG: usize = 10;
const MOST: usize = 400;
/// Builds are counted so many at a time, so that a statement does not get too long.
const AT_ONCE: usize = 500;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(page))
        .route("/admin/groups", get(admin::page).post(admin::make))
        .route("/dashboard_build_results.json", get(told))
        .route("/group_overview/{id}", get(overview::group))
        .route("/group_overview/{id}/comments", post(overview::comment_group))
        .route("/group_overview/{id}/properties", get(properties::page).post(properties::save))
        .route("/group_overview/{id}/properties/check", post(properties::check))
        .route("/parent_group_overview/{id}", get(overview::parent))
        .route("/parent_group_overview/{id}/comments", post(overview::comment_parent))
}

/// What a page of builds is asked for.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Wanted {
    /// This text is in the name of the group or of its parent.
    #[serde(default)]
    group: String,
    limit_builds: Option<usize>,
    /// So many builds are left out.
    #[serde(default)]
    skip: usize,
    /// Anything but 0 for builds with a tag only.
    #[serde(default)]
    only_tagged: String,
    /// Only builds with a job that is not older.
    time_limit_days: Option<f64>,
}

impl Wanted {
    fn only_tagged(&self) -> bool {
        !matches!(self.only_tagged.as_str(), "" | "0")
    }

    fn limit(&self, usual: usize) -> usize {
        self.limit_builds.unwrap_or(usual).clamp(1, MOST)
    }

    /// So many builds are left out, and so many are shown.
    fn page(&self, usual: usize) -> (usize, usize) {
        (self.skip, self.limit(usual))
    }
}

/// The builds of a group that were asked for, the first first.
#[derive(Debug, Default)]
struct Chosen {
    builds: Vec<(Name, Build)>,
    /// There are more.
    more: bool,
}

/// Builds of groups with what became of them.
struct Loaded {
    groups: BTreeMap<GroupId, Chosen>,
    tags: Tags,
}

fn sort_of(catalog: &Catalog, group: &Group) -> Sort {
    let inherited = crate::groups::inherited(catalog, group).and_then(|parent| parent.build_version_sort);
    Sort::of(group.properties.build_version_sort.or(inherited))
}

/// The builds of some groups, of each `limit` after `skip`: three questions to the database, however many groups there
/// are.
async fn load(
    app: &App,
    catalog: &Catalog,
    groups: &[&Arc<Group>],
    wanted: &Wanted,
    (skip, limit): (usize, usize),
) -> Result<Loaded, Fault> {
    let ids: Vec<GroupId> = groups.iter().map(|group| GroupId(group.id)).collect();
    let ends = (ids.iter().min().map_or(1, |id| id.0), ids.iter().max().map_or(0, |id| id.0));
    let (first, last) = (CommentTarget::Group(ends.0), CommentTarget::Group(ends.1));
    let tags = Tags::of(&app.store.knowledge().comments_within(first, last).await?);
    let mut there: BTreeMap<GroupId, Vec<GroupBuild>> = BTreeMap::new();
    for build in app.store.group_builds(if ids.len() < AT_ONCE { &ids } else { &[] }).await? {
        there.entry(build.group).or_default().push(build);
    }
    let mut chosen: BTreeMap<GroupId, (Vec<String>, bool)> = BTreeMap::new();
    for group in groups {
        let Some(mut builds) = there.remove(&GroupId(group.id)) else { continue };
        if wanted.only_tagged() {
            let name = |build: &GroupBuild| (build.version.clone().unwrap_or_default(), build.build.clone());
            builds.retain(|build| !tags.on(build.group, &name(build)).is_empty());
        }
        let sort = sort_of(catalog, group);
        builds.sort_by(|left, right| sort.compare(left, right));
        let more = builds.len() > skip.saturating_add(limit);
        let page = builds.into_iter().skip(skip).take(limit);
        chosen.insert(GroupId(group.id), (page.map(|build| build.build).collect(), more));
    }
    let pairs: Vec<(GroupId, String)> = chosen
        .iter()
        .flat_map(|(group, (builds, _))| builds.iter().map(|build| (*group, build.clone())))
        .collect();
    let mut tallies = Vec::new();
    for pairs in pairs.chunks(AT_ONCE) {
        tallies.extend(app.store.tallies(pairs).await?);
    }
    let oldest = wanted.time_limit_days.map(|days| app.clock.now().plus_seconds(-(days * 86_400.0) as i64));
    let mut loaded = BTreeMap::new();
    for (group, found) in builds::by_group(&tallies) {
        let (order, more) = chosen.remove(&group).unwrap_or_default();
        let mut builds: Vec<_> = found.into_iter().collect();
        builds.retain(|(_, build)| oldest.is_none_or(|oldest| build.newest_at >= oldest));
        let place = |name: &Name| order.iter().position(|build| *build == name.1);
        builds.sort_by(|(left, _), (right, _)| {
            place(left).cmp(&place(right)).then_with(|| builds::natural(&right.0, &left.0))
        });
        loaded.insert(group, Chosen { builds, more });
    }
    Ok(Loaded { groups: loaded, tags })
}

/// A group with builds.
struct GroupView {
    id: i64,
    name: String,
    builds: Vec<BuildView>,
    more: bool,
}

/// Groups under one heading.
struct Section {
    /// Name and number of the parent group.
    parent: Option<(String, i64)>,
    groups: Vec<GroupView>,
}

#[derive(Template)]
#[template(path = "dashboard.html")]
struct Dashboard {
    frame: Frame,
    wanted: Wanted,
    sections: Vec<Section>,
    /// Name and number of groups that have no build.
    bare: Vec<(String, i64)>,
    limits: Vec<(usize, bool)>,
}

/// In the order that somebody gave them, then by name.
fn ordered<'c>(groups: impl Iterator<Item = &'c Arc<Group>>) -> Vec<&'c Arc<Group>> {
    let mut groups: Vec<_> = groups.collect();
    groups.sort_by_key(|group| (group.sort_order.unwrap_or(i64::MAX), group.name.clone(), group.id));
    groups
}

/// The groups that the dashboard is asked for.
fn shown<'c>(catalog: &'c Catalog, wanted: &Wanted) -> Vec<&'c Arc<Group>> {
    let text = wanted.group.trim().to_lowercase();
    let named = |name: &str| name.to_lowercase().contains(&text);
    ordered(catalog.groups.values().filter(|group| {
        let parent = group.parent.and_then(|id| catalog.parents.get(&id));
        let inherited = parent.and_then(|parent| parent.properties.ignore_on_dashboard);
        let hidden = group.properties.ignore_on_dashboard.or(inherited).is_some_and(|value| value != 0);
        let fits = text.is_empty() || named(&group.name) || parent.is_some_and(|parent| named(&parent.name));
        fits && !hidden
    }))
}

/// Groups under their parents, in the order of parents and of groups without one.
fn sections(catalog: &Catalog, groups: &[&Arc<Group>], loaded: &Loaded, now: Timestamp) -> Vec<Section> {
    let teller = Teller { now, tags: &loaded.tags };
    let mut sections: Vec<((i64, String), Section)> = Vec::new();
    for group in groups {
        let id = GroupId(group.id);
        let Some(chosen) = loaded.groups.get(&id).filter(|chosen| !chosen.builds.is_empty()) else {
            continue;
        };
        let view = GroupView {
            id: group.id,
            name: group.name.clone(),
            builds: chosen.builds.iter().map(|(name, build)| teller.view(&[id], name, build)).collect(),
            more: chosen.more,
        };
        let parent = group.parent.and_then(|id| catalog.parents.get(&id));
        let heading = parent.map(|parent| (parent.name.clone(), parent.id));
        let under =
            |(_, section): &&mut ((i64, String), Section)| heading.is_some() && section.parent == heading;
        if let Some((_, section)) = sections.iter_mut().find(under) {
            section.groups.push(view);
            continue;
        }
        let (order, name) = match parent {
            Some(parent) => (parent.sort_order, &parent.name),
            None => (group.sort_order, &group.name),
        };
        let key = (order.unwrap_or(i64::MAX), name.clone());
        sections.push((key, Section { parent: heading, groups: vec![view] }));
    }
    sections.sort_by(|left, right| left.0.cmp(&right.0));
    sections.into_iter().map(|(_, section)| section).collect()
}

/// `GET /`: groups with their newest builds; while there are no groups, the list of jobs.
async fn page(
    State(app): State<Arc<App>>,
    Query(wanted): Query<Wanted>,
    Query(filter): Query<index::Filter>,
) -> Response {
    if let Some(href) = filter.elsewhere() {
        return axum::response::Redirect::to(&href).into_response();
    }
    if app.library.now().groups.is_empty() {
        return index::page(State(app), Query(filter)).await;
    }
    let rendered = dashboard(&app, wanted).await;
    super::page(&app, rendered)
}

async fn dashboard(app: &App, wanted: Wanted) -> Result<Dashboard, Fault> {
    let (catalog, changes) = (app.library.now(), app.changes());
    let groups = shown(&catalog, &wanted);
    let loaded = load(app, &catalog, &groups, &wanted, wanted.page(SHORT)).await?;
    let sections = sections(&catalog, &groups, &loaded, app.clock.now());
    let full: BTreeSet<i64> =
        sections.iter().flat_map(|section| &section.groups).map(|group| group.id).collect();
    let bare = groups.iter().filter(|group| !full.contains(&group.id));
    let bare = bare.map(|group| (group.name.clone(), group.id)).collect();
    let mut frame = Frame::new(app.clock.now());
    frame.builds = true;
    frame.events = Some(changes);
    let limits = [1, SHORT, 10, 50].map(|limit| (limit, limit == wanted.limit(SHORT)));
    Ok(Dashboard { frame, sections, bare, limits: limits.into(), wanted })
}

/// A group and its builds as JSON.
fn group_told(group: &Group, chosen: &Chosen, teller: &Teller<'_>) -> Value {
    let id = GroupId(group.id);
    let builds = chosen.builds.iter().map(|(name, build)| teller.told(&[id], name, build));
    json!({
        "group": {"id": group.id, "name": group.name, "parent_id": group.parent},
        "build_results": builds.collect::<Vec<_>>(),
        "max_jobs": chosen.builds.iter().map(|(_, build)| build.counts.total()).max().unwrap_or(0),
    })
}

/// `GET /dashboard_build_results.json`
async fn told(State(app): State<Arc<App>>, Query(wanted): Query<Wanted>) -> Result<Json<Value>, Fault> {
    let catalog = app.library.now();
    let groups = shown(&catalog, &wanted);
    let loaded = load(&app, &catalog, &groups, &wanted, wanted.page(SHORT)).await?;
    let teller = Teller { now: app.clock.now(), tags: &loaded.tags };
    let chosen = |group: &&&Arc<Group>| loaded.groups.contains_key(&GroupId(group.id));
    let results = groups.iter().filter(chosen);
    let results = results.map(|group| group_told(group, &loaded.groups[&GroupId(group.id)], &teller));
    Ok(Json(json!({ "results": results.collect::<Vec<_>>() })))
}
