//! Job groups and parent groups.

use super::params::Params;
use super::scheduling::yaml_of;
use super::{Admin, Wrong, number};
use crate::app::App;
use crate::auth::Sender;
use crate::catalog::Catalog;
use crate::groups::{self, Refused};
use crate::templates::names_secrets;
use assay_engine::settings::is_secret_name;
use assay_store::{Group, GroupProperties, ParentGroup};
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use std::sync::Arc;

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

/// A group as everybody may read it.
pub(crate) fn group(catalog: &Catalog, group: &Group) -> Value {
    let mut shown = groups::effective(&group.properties, groups::inherited(catalog, group));
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

fn parent_group(parent: &ParentGroup) -> Value {
    let mut shown = Map::new();
    for (name, value) in groups::effective(&parent.properties, None) {
        let inheritable =
            name.starts_with("keep_") || matches!(name.as_str(), "default_priority" | "carry_over_bugrefs");
        let name = if inheritable && name != "default_priority" { format!("default_{name}") } else { name };
        shown.insert(name, value);
    }
    shown.insert("id".to_owned(), json!(parent.id));
    shown.insert("name".to_owned(), json!(parent.name));
    shown.insert("description".to_owned(), json!(parent.description));
    shown.insert("sort_order".to_owned(), json!(parent.sort_order));
    Value::Object(shown)
}

/// What a request says about a group; what it does not say stays.
struct Said<'p> {
    name: Option<&'p str>,
    /// Another parent, or none any more.
    moves: bool,
    parent: Option<i64>,
    description: Option<&'p str>,
    sort_order: Option<i64>,
    properties: Map<String, Value>,
}

impl<'p> Said<'p> {
    fn read(params: &'p Params) -> Result<Self, Wrong> {
        let name = params.get("name").is_some().then(|| params.required(["name"])).transpose()?;
        Ok(Self {
            name: name.map(|[name]| name),
            moves: params.get("parent_id").is_some(),
            parent: params.number("parent_id")?,
            description: params.get("description"),
            sort_order: params.number("sort_order")?,
            properties: properties(params)?,
        })
    }

    fn of_group(self, before: &Group) -> Result<Group, Refused> {
        Ok(Group {
            parent: if self.moves { self.parent } else { before.parent },
            name: self.name.unwrap_or(&before.name).to_owned(),
            description: self.describe(before.description.as_ref()),
            sort_order: self.sort_order.or(before.sort_order),
            properties: laid_over(&before.properties, self.properties)?,
            ..before.clone()
        })
    }

    fn of_parent(self, before: &ParentGroup) -> Result<ParentGroup, Refused> {
        Ok(ParentGroup {
            id: before.id,
            name: self.name.unwrap_or(&before.name).to_owned(),
            description: self.describe(before.description.as_ref()),
            sort_order: self.sort_order.or(before.sort_order),
            properties: laid_over(&before.properties, self.properties)?,
        })
    }

    fn describe(&self, before: Option<&String>) -> Option<String> {
        match self.description {
            None => before.cloned(),
            Some(text) => Some(text.to_owned()).filter(|text| !text.is_empty()),
        }
    }
}

/// Those properties that a request names; null for one that is to be inherited again.
fn properties(params: &Params) -> Result<Map<String, Value>, Wrong> {
    let (mut said, mut invalid) = (Map::new(), Vec::new());
    for name in groups::fields(&GroupProperties::default()).keys() {
        let given = params.get(name).or_else(|| params.get(&format!("default_{name}")));
        match given.map(str::trim) {
            None => {}
            Some("") => drop(said.insert(name.clone(), Value::Null)),
            Some(text) => match text.parse::<i64>() {
                Ok(number) => drop(said.insert(name.clone(), json!(number))),
                Err(_) => invalid.push(name.clone()),
            },
        }
    }
    if !invalid.is_empty() {
        return Err(Wrong::parameters(&[], &invalid.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    Ok(said)
}

fn laid_over(before: &GroupProperties, said: Map<String, Value>) -> Result<GroupProperties, Refused> {
    let mut all = groups::fields(before);
    all.extend(said);
    serde_json::from_value(Value::Object(all)).map_err(|error| Refused::Unreadable(error.to_string()))
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

async fn create(admin: Admin, State(app): State<Arc<App>>, params: Params) -> Result<Json<Value>, Wrong> {
    Ok(Json(json!({ "id": make(&app, &admin.0, &params).await? })))
}

/// Makes a group of what a request says.
pub(crate) async fn make(app: &Arc<App>, admin: &Sender, params: &Params) -> Result<i64, Wrong> {
    params.required(["name"])?;
    Ok(groups::make(app, admin, Said::read(params)?.of_group(&Group::default())?).await?)
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
    let said = Said::read(params)?;
    Ok(groups::change(app, admin, id, |before| said.of_group(before)).await?)
}

/// Why the same would be refused, if it would. Nothing is changed.
pub(crate) fn check(catalog: &Catalog, id: i64, params: &Params) -> Result<(), Wrong> {
    let said = Said::read(params)?;
    Ok(groups::check(catalog, id, |before| said.of_group(before))?)
}

async fn remove(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Wrong> {
    let id = number(&id)?;
    groups::remove(&app, &admin.0, id).await?;
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
    params.required(["name"])?;
    Ok(groups::make_parent(app, admin, Said::read(params)?.of_parent(&ParentGroup::default())?).await?)
}

async fn update_parent(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let id = number(&id)?;
    let said = Said::read(&params)?;
    groups::change_parent(&app, &admin.0, id, |before| said.of_parent(before)).await?;
    Ok(Json(json!({ "id": id })))
}

async fn remove_parent(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Wrong> {
    let id = number(&id)?;
    groups::remove_parent(&app, &admin.0, id).await?;
    Ok(Json(json!({ "id": id })))
}
