//! Groups of jobs and their builds; the objects and the table of requests are `assay_proto::api::groups`.

use super::{merged, number};
use crate::app::App;
use crate::auth::Admin;
use crate::catalog::Catalog;
use crate::fault::Fault;
use crate::groups::{self, Refused};
use crate::web::{BuildsWanted, builds_of_group, builds_of_parent};
use assay_proto::api::Deleted;
use assay_proto::api::groups::{
    GroupBuilds, GroupList, GroupProperties, GroupSettings, JobGroup, ParentGroupList, ParentGroupSettings,
    ParentJobGroup,
};
use assay_store::{Group, GroupProperties as Stored, ParentGroup};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::Value;
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/groups", get(list).post(create))
        .route("/groups/{id}", get(show).patch(change).delete(remove))
        .route("/groups/{id}/builds", get(builds))
        .route("/parent-groups", get(list_parents).post(create_parent))
        .route("/parent-groups/{id}", get(show_parent).patch(change_parent).delete(remove_parent))
        .route("/parent-groups/{id}/builds", get(builds_below))
}

/// What is stored as a number is yes or no here, where it is nothing else.
fn told(said: &Stored) -> GroupProperties {
    let yes = |number: Option<i64>| number.map(|number| number != 0);
    GroupProperties {
        size_limit_gb: said.size_limit_gb,
        exclusively_kept_asset_size: said.exclusively_kept_asset_size,
        keep_logs_in_days: said.keep_logs_in_days,
        keep_important_logs_in_days: said.keep_important_logs_in_days,
        keep_screenshots_in_days: said.keep_screenshots_in_days,
        keep_important_screenshots_in_days: said.keep_important_screenshots_in_days,
        keep_results_in_days: said.keep_results_in_days,
        keep_important_results_in_days: said.keep_important_results_in_days,
        keep_jobs_in_days: said.keep_jobs_in_days,
        keep_important_jobs_in_days: said.keep_important_jobs_in_days,
        default_priority: said.default_priority,
        build_version_sort: said.build_version_sort,
        carry_over_bugrefs: yes(said.carry_over_bugrefs),
        ignore_on_dashboard: yes(said.ignore_on_dashboard),
        always_show_version: yes(said.always_show_version),
    }
}

fn stored(said: &GroupProperties) -> Stored {
    Stored {
        size_limit_gb: said.size_limit_gb,
        exclusively_kept_asset_size: said.exclusively_kept_asset_size,
        keep_logs_in_days: said.keep_logs_in_days,
        keep_important_logs_in_days: said.keep_important_logs_in_days,
        keep_screenshots_in_days: said.keep_screenshots_in_days,
        keep_important_screenshots_in_days: said.keep_important_screenshots_in_days,
        keep_results_in_days: said.keep_results_in_days,
        keep_important_results_in_days: said.keep_important_results_in_days,
        keep_jobs_in_days: said.keep_jobs_in_days,
        keep_important_jobs_in_days: said.keep_important_jobs_in_days,
        default_priority: said.default_priority,
        build_version_sort: said.build_version_sort,
        carry_over_bugrefs: said.carry_over_bugrefs.map(i64::from),
        ignore_on_dashboard: said.ignore_on_dashboard.map(i64::from),
        always_show_version: said.always_show_version.map(i64::from),
    }
}

/// What counts where this is said.
fn effective(own: &Stored, parent: Option<&Stored>) -> GroupProperties {
    let all = Value::Object(groups::effective(own, parent));
    told(&serde_json::from_value(all).unwrap_or_default())
}

fn shown(catalog: &Catalog, group: &Group) -> JobGroup {
    JobGroup {
        id: group.id,
        name: group.name.clone(),
        parent: group.parent,
        description: group.description.clone(),
        sort_order: group.sort_order,
        properties: told(&group.properties),
        effective: effective(&group.properties, groups::inherited(catalog, group)),
    }
}

fn parent_shown(catalog: &Catalog, parent: &ParentGroup) -> ParentJobGroup {
    let below = catalog.groups.values().filter(|group| group.parent == Some(parent.id));
    ParentJobGroup {
        id: parent.id,
        name: parent.name.clone(),
        description: parent.description.clone(),
        sort_order: parent.sort_order,
        properties: told(&parent.properties),
        effective: effective(&parent.properties, None),
        groups: below.map(|group| group.id).collect(),
    }
}

/// What a request makes of a group.
fn group_from(before: &Group, body: &[u8]) -> Result<Group, Refused> {
    let said = GroupSettings {
        name: before.name.clone(),
        parent: before.parent,
        description: before.description.clone(),
        sort_order: before.sort_order,
        properties: told(&before.properties),
    };
    let said = merged(&said, body).map_err(|error| Refused::Unreadable(error.to_string()))?;
    Ok(Group {
        name: said.name,
        parent: said.parent,
        description: said.description.filter(|text| !text.is_empty()),
        sort_order: said.sort_order,
        properties: stored(&said.properties),
        ..before.clone()
    })
}

/// What a request makes of a parent group.
fn parent_from(before: &ParentGroup, body: &[u8]) -> Result<ParentGroup, Refused> {
    let said = ParentGroupSettings {
        name: before.name.clone(),
        description: before.description.clone(),
        sort_order: before.sort_order,
        properties: told(&before.properties),
    };
    let said = merged(&said, body).map_err(|error| Refused::Unreadable(error.to_string()))?;
    Ok(ParentGroup {
        id: before.id,
        name: said.name,
        description: said.description.filter(|text| !text.is_empty()),
        sort_order: said.sort_order,
        properties: stored(&said.properties),
    })
}

async fn list(State(app): State<Arc<App>>) -> Json<GroupList> {
    let catalog = app.library.now();
    Json(GroupList { groups: catalog.groups.values().map(|group| shown(&catalog, group)).collect() })
}

fn one(app: &App, id: i64) -> Result<Json<JobGroup>, Fault> {
    let catalog = app.library.now();
    Ok(Json(shown(&catalog, groups::found(&catalog, id)?)))
}

async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<JobGroup>, Fault> {
    one(&app, number(&id)?)
}

async fn create(
    admin: Admin,
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<(StatusCode, Json<JobGroup>), Fault> {
    let id = groups::make(&app, &admin.0, group_from(&Group::default(), &body)?).await?;
    Ok((StatusCode::CREATED, one(&app, id)?))
}

async fn change(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<JobGroup>, Fault> {
    let id = number(&id)?;
    groups::change(&app, &admin.0, id, |before| group_from(before, &body)).await?;
    one(&app, id)
}

async fn remove(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Deleted>, Fault> {
    let id = number(&id)?;
    groups::remove(&app, &admin.0, id).await?;
    Ok(Json(Deleted { id }))
}

async fn list_parents(State(app): State<Arc<App>>) -> Json<ParentGroupList> {
    let catalog = app.library.now();
    let all = catalog.parents.values().map(|parent| parent_shown(&catalog, parent));
    Json(ParentGroupList { parent_groups: all.collect() })
}

fn one_parent(app: &App, id: i64) -> Result<Json<ParentJobGroup>, Fault> {
    let catalog = app.library.now();
    Ok(Json(parent_shown(&catalog, groups::found_parent(&catalog, id)?)))
}

async fn show_parent(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<ParentJobGroup>, Fault> {
    one_parent(&app, number(&id)?)
}

async fn create_parent(
    admin: Admin,
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<(StatusCode, Json<ParentJobGroup>), Fault> {
    let id = groups::make_parent(&app, &admin.0, parent_from(&ParentGroup::default(), &body)?).await?;
    Ok((StatusCode::CREATED, one_parent(&app, id)?))
}

async fn change_parent(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<ParentJobGroup>, Fault> {
    let id = number(&id)?;
    groups::change_parent(&app, &admin.0, id, |before| parent_from(before, &body)).await?;
    one_parent(&app, id)
}

async fn remove_parent(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Deleted>, Fault> {
    let id = number(&id)?;
    groups::remove_parent(&app, &admin.0, id).await?;
    Ok(Json(Deleted { id }))
}

async fn builds(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(wanted): Query<BuildsWanted>,
) -> Result<Json<GroupBuilds>, Fault> {
    let catalog = app.library.now();
    let group = groups::found(&catalog, number(&id)?)?;
    Ok(Json(builds_of_group(&app, &catalog, group, &wanted).await?))
}

async fn builds_below(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(wanted): Query<BuildsWanted>,
) -> Result<Json<GroupBuilds>, Fault> {
    let catalog = app.library.now();
    let parent = groups::found_parent(&catalog, number(&id)?)?;
    Ok(Json(builds_of_parent(&app, &catalog, parent, &wanted).await?))
}
