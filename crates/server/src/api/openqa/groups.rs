//! Job groups and parent groups.

use super::params::Params;
use super::scheduling::yaml_of;
use super::{Admin, Wrong, number};
use crate::app::App;
use crate::auth::Sender;
use crate::catalog::{Catalog, Draft};
use crate::templates::names_secrets;
use assay_engine::settings::is_secret_name;
use assay_store::{CatalogRow, EntryKind, Group, GroupProperties, ParentGroup};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What a group says that nobody says anything about.
const DEFAULTS: [(&str, i64); 11] = [
    ("size_limit_gb", 100),
    ("keep_logs_in_days", 30),
    ("keep_important_logs_in_days", 120),
    ("keep_results_in_days", 365),
    ("keep_important_results_in_days", 0),
    ("keep_jobs_in_days", 730),
    ("keep_important_jobs_in_days", 0),
    ("default_priority", 50),
    ("build_version_sort", 1),
    ("carry_over_bugrefs", 1),
    ("ignore_on_dashboard", 0),
];

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/job_groups", get(list).post(create))
        .route("/job_groups/{id}", get(show).put(update).post(update).delete(remove))
        .route("/parent_groups", get(list_parents).post(create_parent))
        .route(
            "/parent_groups/{id}",
            get(show_parent).put(update_parent).post(update_parent).delete(remove_parent),
        )
}

fn fields(properties: &GroupProperties) -> Map<String, Value> {
    match serde_json::to_value(properties) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// What a group, its parent or the defaults say.
fn said_of(catalog: &Catalog, group: &Group) -> Map<String, Value> {
    let parent = group.parent.and_then(|id| catalog.parents.get(&id));
    let inherited = parent.map(|parent| fields(&parent.properties)).unwrap_or_default();
    let mut shown = fields(&group.properties);
    for (name, value) in &mut shown {
        // The size of assets is not inherited.
        if value.is_null() && name != "size_limit_gb" {
            *value = inherited.get(name).cloned().unwrap_or_default();
        }
        if value.is_null() {
            *value = DEFAULTS.iter().find(|(known, _)| known == name).map(|(_, value)| *value).into();
        }
    }
    shown
}

/// A group as everybody may read it.
pub(crate) fn group(catalog: &Catalog, group: &Group) -> Value {
    let mut shown = said_of(catalog, group);
    shown.insert("id".to_owned(), json!(group.id));
    shown.insert("name".to_owned(), json!(group.name));
    shown.insert("parent_id".to_owned(), json!(group.parent));
    shown.insert("description".to_owned(), json!(group.description));
    shown.insert("sort_order".to_owned(), json!(group.sort_order));
    let template = group.template.as_deref();
    let template = template.map(|text| {
        if has_secrets(catalog, group, text) { yaml_of(catalog, group, false) } else { text.to_owned() }
    });
    shown.insert("template".to_owned(), json!(template));
    Value::Object(shown)
}

/// True if a group's YAML may hold a secret, however it is written there.
fn has_secrets(catalog: &Catalog, group: &Group, text: &str) -> bool {
    let mut own = catalog.templates.values().filter(|template| template.group == group.id);
    names_secrets(text) || own.any(|template| template.settings.keys().any(|key| is_secret_name(key)))
}

/// How many days a group keeps its jobs; `None` is for ever.
pub(super) fn keeps_jobs(app: &App, id: i64) -> Option<i64> {
    let catalog = app.library.now();
    let days = said_of(&catalog, catalog.groups.get(&id)?).get("keep_jobs_in_days")?.as_i64()?;
    (days > 0).then_some(days)
}

fn parent_group(parent: &ParentGroup) -> Value {
    let mut shown = Map::new();
    for (name, value) in fields(&parent.properties) {
        let inheritable =
            name.starts_with("keep_") || matches!(name.as_str(), "default_priority" | "carry_over_bugrefs");
        let value = match (value, DEFAULTS.iter().find(|(known, _)| *known == name)) {
            (Value::Null, Some((_, default))) => json!(default),
            (value, _) => value,
        };
        let name = if inheritable && name != "default_priority" { format!("default_{name}") } else { name };
        shown.insert(name, value);
    }
    shown.insert("id".to_owned(), json!(parent.id));
    shown.insert("name".to_owned(), json!(parent.name));
    shown.insert("description".to_owned(), json!(parent.description));
    shown.insert("sort_order".to_owned(), json!(parent.sort_order));
    Value::Object(shown)
}

/// What a request says about a group's properties, in place of what was said before. What neither says comes from the
/// parent, if there is one.
fn properties(
    params: &Params,
    before: &GroupProperties,
    parent: Option<&ParentGroup>,
) -> Result<GroupProperties, Wrong> {
    let mut said = fields(before);
    let mut invalid = Vec::new();
    for (name, value) in &mut said {
        let given = params.get(name).or_else(|| params.get(&format!("default_{name}")));
        match given.map(str::trim) {
            None => {}
            Some("") => *value = Value::Null,
            Some(text) => match text.parse::<i64>() {
                Ok(number) => *value = json!(number),
                Err(_) => invalid.push(name.clone()),
            },
        }
    }
    if !invalid.is_empty() {
        return Err(Wrong::parameters(&[], &invalid.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    let properties: GroupProperties =
        serde_json::from_value(Value::Object(said)).map_err(|error| Wrong::bad(error.to_string()))?;
    ages(&properties, parent)?;
    Ok(properties)
}

/// Logs go before results, and results before jobs; 0 is for ever. What a group does not say itself counts as well.
fn ages(properties: &GroupProperties, parent: Option<&ParentGroup>) -> Result<(), Wrong> {
    let (said, inherited) = (fields(properties), parent.map(|parent| fields(&parent.properties)));
    let days = |name: &str| {
        let own = said.get(name).and_then(Value::as_i64);
        let inherited = || inherited.as_ref()?.get(name)?.as_i64();
        let usual = || DEFAULTS.iter().find(|(known, _)| *known == name).map(|(_, days)| *days);
        own.or_else(inherited).or_else(usual).unwrap_or_default()
    };
    for (shorter, longer) in [
        ("keep_logs_in_days", "keep_results_in_days"),
        ("keep_results_in_days", "keep_jobs_in_days"),
        ("keep_important_logs_in_days", "keep_important_results_in_days"),
        ("keep_important_results_in_days", "keep_important_jobs_in_days"),
    ] {
        let (short, long) = (days(shorter), days(longer));
        if long != 0 && (short == 0 || short > long) {
            let for_ever = |days: i64| if days == 0 { "for ever".to_owned() } else { days.to_string() };
            return Err(Wrong::bad(format!(
                "Erroneous parameters ({shorter} invalid): {shorter} would be {}, {longer} is {}; logs are kept no longer than results, and results no longer than jobs",
                for_ever(short),
                for_ever(long),
            )));
        }
    }
    Ok(())
}

fn name_of(params: &Params) -> Result<&str, Wrong> {
    let [name] = params.required(["name"])?;
    let name = name.trim();
    if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
        return Err(Wrong::parameters(&[], &["name"]));
    }
    Ok(name)
}

/// The store's refusal of a second name, as a client understands it.
fn taken(error: Wrong, what: &str, name: &str) -> Wrong {
    if error.status() == StatusCode::CONFLICT { no_second(what, name) } else { error }
}

/// openQA's clients look at `already_exists`.
fn no_second(what: &str, name: &str) -> Wrong {
    Wrong::new(StatusCode::CONFLICT, format!("There is a {what} {name:?} already."))
        .with("already_exists", true)
}

async fn list(State(app): State<Arc<App>>) -> Json<Value> {
    let catalog = app.library.now();
    Json(catalog.groups.values().map(|one| group(&catalog, one)).collect())
}

async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Value>, Wrong> {
    let catalog = app.library.now();
    let found = catalog.groups.get(&number(&id)?).ok_or_else(no_group)?;
    Ok(Json(json!([group(&catalog, found)])))
}

pub(super) fn no_group() -> Wrong {
    Wrong::not_found("Group does not exist")
}

fn parent_of(params: &Params, catalog: &Catalog) -> Result<Option<i64>, Wrong> {
    match params.number::<i64>("parent_id")? {
        Some(parent) if !catalog.parents.contains_key(&parent) => Err(Wrong::parameters(&[], &["parent_id"])),
        parent => Ok(parent),
    }
}

async fn create(admin: Admin, State(app): State<Arc<App>>, params: Params) -> Result<Json<Value>, Wrong> {
    Ok(Json(json!({ "id": make(&app, &admin.0, &params).await? })))
}

/// Makes a group of what a request says.
pub(crate) async fn make(app: &Arc<App>, admin: &Sender, params: &Params) -> Result<i64, Wrong> {
    let name = name_of(params)?;
    let made = |draft: &mut Draft| -> Result<i64, Wrong> {
        let group = Group {
            id: draft.new_id(EntryKind::Group),
            parent: parent_of(params, &draft.catalog)?,
            name: name.to_owned(),
            description: params.given("description").map(str::to_owned),
            sort_order: params.number("sort_order")?,
            template: None,
            properties: GroupProperties::default(),
        };
        let parent = group.parent.and_then(|id| draft.catalog.parents.get(&id));
        let properties = properties(params, &group.properties, parent.map(|parent| &**parent))?;
        let (id, group) = (group.id, Group { properties, ..group });
        draft.put(CatalogRow::Group(group));
        Ok(id)
    };
    let id = app.library.change(made).await.map_err(|error| taken(error, "job group", name))?;
    app.audit(&admin.name, "jobgroup_create", json!({"id": id, "name": name}));
    Ok(id)
}

async fn update(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let id = number(&id)?;
    change(&app, &admin.0, id, &params).await?;
    Ok(Json(json!({ "id": id })))
}

/// Changes what a request says of a group; the rest stays.
pub(crate) async fn change(app: &Arc<App>, admin: &Sender, id: i64, params: &Params) -> Result<(), Wrong> {
    let put = |draft: &mut Draft| -> Result<(), Wrong> {
        let group = changed(&draft.catalog, id, params)?;
        draft.put(CatalogRow::Group(group));
        Ok(())
    };
    let name = params.get("name").unwrap_or_default();
    app.library.change(put).await.map_err(|error| taken(error, "job group", name))?;
    app.audit(&admin.name, "jobgroup_update", json!({ "id": id }));
    Ok(())
}

/// Why the same would be refused, if it would. Nothing is changed.
pub(crate) fn check(catalog: &Catalog, id: i64, params: &Params) -> Result<(), Wrong> {
    let group = changed(catalog, id, params)?;
    let alike = |other: &&Arc<Group>| (other.parent, &other.name) == (group.parent, &group.name);
    let is_taken = catalog.groups.values().filter(alike).any(|other| other.id != id);
    if is_taken { Err(no_second("job group", &group.name)) } else { Ok(()) }
}

/// A group as a request wants it.
fn changed(catalog: &Catalog, id: i64, params: &Params) -> Result<Group, Wrong> {
    let before = catalog.groups.get(&id).ok_or_else(no_group)?;
    let name = if params.get("name").is_some() { name_of(params)?.to_owned() } else { before.name.clone() };
    let parent = match params.get("parent_id") {
        None => before.parent,
        Some(_) => parent_of(params, catalog)?,
    };
    let above = parent.and_then(|id| catalog.parents.get(&id));
    let properties = properties(params, &before.properties, above.map(|above| &**above))?;
    let description = match params.get("description") {
        None => before.description.clone(),
        Some(text) => Some(text.to_owned()).filter(|text| !text.is_empty()),
    };
    let sort_order = params.number("sort_order")?.or(before.sort_order);
    Ok(Group { id, parent, name, description, sort_order, template: before.template.clone(), properties })
}

async fn remove(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Wrong> {
    let id = number(&id)?;
    if app.group_has_jobs(id).await? {
        return Err(Wrong::new(StatusCode::CONFLICT, format!("Job group {id} is not empty")));
    }
    let removed = |draft: &mut Draft| -> Result<(), Wrong> {
        draft.catalog.groups.get(&id).ok_or_else(no_group)?;
        let templates = draft.catalog.templates.values().filter(|template| template.group == id);
        for template in templates.map(|template| template.id).collect::<Vec<_>>() {
            draft.remove(EntryKind::JobTemplate, template);
        }
        draft.remove(EntryKind::Group, id);
        Ok(())
    };
    app.library.change(removed).await?;
    app.audit(&admin.0.name, "jobgroup_delete", json!({ "id": id }));
    Ok(Json(json!({ "id": id })))
}

async fn list_parents(State(app): State<Arc<App>>) -> Json<Value> {
    Json(app.library.now().parents.values().map(|parent| parent_group(parent)).collect())
}

async fn show_parent(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Value>, Wrong> {
    let catalog = app.library.now();
    let parent = catalog.parents.get(&number(&id)?).ok_or_else(no_group)?;
    Ok(Json(json!([parent_group(parent)])))
}

async fn create_parent(
    admin: Admin,
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    Ok(Json(json!({ "id": make_parent(&app, &admin.0, &params).await? })))
}

/// Makes a parent group of what a request says.
pub(crate) async fn make_parent(app: &Arc<App>, admin: &Sender, params: &Params) -> Result<i64, Wrong> {
    let name = name_of(params)?;
    let made = |draft: &mut Draft| -> Result<i64, Wrong> {
        let id = draft.new_id(EntryKind::ParentGroup);
        draft.put(CatalogRow::ParentGroup(ParentGroup {
            id,
            name: name.to_owned(),
            description: params.given("description").map(str::to_owned),
            sort_order: params.number("sort_order")?,
            properties: properties(params, &GroupProperties::default(), None)?,
        }));
        Ok(id)
    };
    let id = app.library.change(made).await.map_err(|error| taken(error, "parent group", name))?;
    app.audit(&admin.name, "jobgroup_create", json!({"parent_group": id, "name": name}));
    Ok(id)
}

async fn update_parent(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let id = number(&id)?;
    let changed = |draft: &mut Draft| -> Result<(), Wrong> {
        let before = draft.catalog.parents.get(&id).ok_or_else(no_group)?.clone();
        let name =
            if params.get("name").is_some() { name_of(&params)?.to_owned() } else { before.name.clone() };
        let parent = ParentGroup {
            id,
            name,
            description: params.get("description").map(str::to_owned).or_else(|| before.description.clone()),
            sort_order: params.number("sort_order")?.or(before.sort_order),
            properties: properties(&params, &before.properties, None)?,
        };
        // What its groups have from it must fit what they say themselves.
        for group in draft.catalog.groups.values().filter(|group| group.parent == Some(id)) {
            let fits = ages(&group.properties, Some(&parent));
            fits.map_err(|wrong| wrong.with("job_group", group.name.as_str()))?;
        }
        draft.put(CatalogRow::ParentGroup(parent));
        Ok(())
    };
    let name = params.get("name").unwrap_or_default();
    app.library.change(changed).await.map_err(|error| taken(error, "parent group", name))?;
    app.audit(&admin.0.name, "jobgroup_update", json!({ "parent_group": id }));
    Ok(Json(json!({ "id": id })))
}

async fn remove_parent(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Wrong> {
    let id = number(&id)?;
    let removed = |draft: &mut Draft| -> Result<(), Wrong> {
        draft.catalog.parents.get(&id).ok_or_else(no_group)?;
        if draft.catalog.groups.values().any(|group| group.parent == Some(id)) {
            return Err(Wrong::new(StatusCode::CONFLICT, format!("Parent group {id} is not empty")));
        }
        draft.remove(EntryKind::ParentGroup, id);
        Ok(())
    };
    app.library.change(removed).await?;
    app.audit(&admin.0.name, "jobgroup_delete", json!({ "parent_group": id }));
    Ok(Json(json!({ "id": id })))
}
