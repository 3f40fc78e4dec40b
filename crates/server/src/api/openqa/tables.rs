//! Machines, test suites and products (media): one shape, three tables.

use super::params::Params;
use super::{Admin, Wrong, number};
use crate::app::App;
use crate::auth::Sender;
use crate::catalog::{Catalog, Draft};
use crate::templates;
use assay_store::{CatalogRow, EntryKind, Machine, Product, SettingsMap, TestSuite};
use axum::extract::{Extension, Path, State};
use axum::http::HeaderMap;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rows in one answer, usually and at most.
const ROWS: (u32, u32) = (10_000, 100_000);

/// One of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Machines,
    TestSuites,
    Products,
}

pub(super) fn router() -> Router<Arc<App>> {
    let mut router = Router::new();
    for table in [Table::Machines, Table::TestSuites, Table::Products] {
        let all = format!("/{}", table.path());
        let one = format!("{all}/{{id}}");
        router = router
            .route(
                &all,
                get(move |app, sender, params| async move { list(table, app, sender, params) })
                    .post(move |admin, app, params| create(table, admin, app, params)),
            )
            .route(
                &one,
                get(move |app, sender, id| async move { show(table, app, sender, id) })
                    .put(move |admin, app, id, params| update(table, admin, app, id, params))
                    .post(move |admin, app, id, params| update(table, admin, app, id, params))
                    .delete(move |admin, app, id| remove(table, admin, app, id)),
            );
    }
    router
}

/// Settings as openQA lists them.
pub(super) fn listed(settings: &SettingsMap, secrets: bool) -> Value {
    let mut settings = settings.clone();
    if !secrets {
        templates::cover(&mut settings);
    }
    settings.iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
}

impl Table {
    fn title(self) -> &'static str {
        match self {
            Self::Machines => "Machines",
            Self::TestSuites => "TestSuites",
            Self::Products => "Products",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Machines => "machines",
            Self::TestSuites => "test_suites",
            Self::Products => "products",
        }
    }

    fn kind(self) -> EntryKind {
        match self {
            Self::Machines => EntryKind::Machine,
            Self::TestSuites => EntryKind::TestSuite,
            Self::Products => EntryKind::Product,
        }
    }

    /// What has to be said of a row, what tells it from all others first, and what may be said.
    fn columns(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Machines => (&["name", "backend"], &["description"]),
            Self::TestSuites => (&["name"], &["description"]),
            Self::Products => (&["distri", "version", "arch", "flavor"], &["name", "description"]),
        }
    }

    fn rows(self, catalog: &Catalog, secrets: bool) -> Vec<Value> {
        match self {
            Self::Machines => catalog.machines.values().map(|row| machine(row, secrets)).collect(),
            Self::TestSuites => catalog.suites.values().map(|row| suite(row, secrets)).collect(),
            Self::Products => catalog.products.values().map(|row| product(row, secrets)).collect(),
        }
    }

    fn contains(self, catalog: &Catalog, id: i64) -> bool {
        match self {
            Self::Machines => catalog.machines.contains_key(&id),
            Self::TestSuites => catalog.suites.contains_key(&id),
            Self::Products => catalog.products.contains_key(&id),
        }
    }

    /// What templates know the row by.
    fn names(self, catalog: &Catalog, id: i64) -> Names {
        let named = |name: &str| vec![("name", name.to_owned())];
        let found = match self {
            Self::Machines => catalog.machines.get(&id).map(|row| named(&row.name)),
            Self::TestSuites => catalog.suites.get(&id).map(|row| named(&row.name)),
            Self::Products => catalog.products.get(&id).map(|row| {
                let values = [&row.distri, &row.version, &row.arch, &row.flavor].map(Clone::clone);
                ["distri", "version", "arch", "flavor"].into_iter().zip(values).collect()
            }),
        };
        found.unwrap_or_default()
    }

    /// The templates that use the row.
    fn users(self, catalog: &Catalog, id: i64) -> Vec<Arc<assay_store::JobTemplate>> {
        let uses = |template: &&Arc<assay_store::JobTemplate>| match self {
            Self::Machines => template.machine == id,
            Self::TestSuites => template.test_suite == Some(id),
            Self::Products => template.product == id,
        };
        catalog.templates.values().filter(uses).cloned().collect()
    }
}

/// The columns that templates know a row by, with what is in them.
type Names = Vec<(&'static str, String)>;

/// Groups whose YAML names one of these templates are changed there alone.
fn not_by_yaml(catalog: &Catalog, users: &[Arc<assay_store::JobTemplate>]) -> Result<(), Wrong> {
    let groups = users.iter().filter_map(|template| catalog.groups.get(&template.group));
    let by_yaml = groups.filter(|group| group.template.is_some()).map(|group| group.name.clone());
    let by_yaml: BTreeSet<_> = by_yaml.collect();
    if by_yaml.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = by_yaml.into_iter().collect();
    Err(Wrong::bad(format!("Groups {} must be updated through the YAML template", names.join(", "))))
}

fn described(mut row: Value, description: Option<&String>, settings: Value) -> Value {
    if let Some(description) = description {
        row["description"] = json!(description);
    }
    row["settings"] = settings;
    row
}

fn machine(row: &Machine, secrets: bool) -> Value {
    let columns = json!({"id": row.id, "name": row.name, "backend": row.backend});
    described(columns, None, listed(&row.settings, secrets))
}

fn suite(row: &TestSuite, secrets: bool) -> Value {
    let columns = json!({"id": row.id, "name": row.name});
    described(columns, row.description.as_ref(), listed(&row.settings, secrets))
}

fn product(row: &Product, secrets: bool) -> Value {
    let columns = json!({
        "id": row.id, "name": row.name, "distri": row.distri, "version": row.version, "arch": row.arch,
        "flavor": row.flavor,
    });
    described(columns, row.description.as_ref(), listed(&row.settings, secrets))
}

fn list(
    table: Table,
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    params: Params,
) -> Result<(HeaderMap, Json<Value>), Wrong> {
    let (limit, offset) = params.page(ROWS.0, ROWS.1)?;
    let wanted = |row: &Value| {
        // openQA finds rows by what they are known by; a machine's backend is none of that.
        let (required, _) = table.columns();
        required
            .iter()
            .filter(|name| **name != "backend")
            .all(|name| params.get(name).is_none_or(|value| row[name] == value))
    };
    let rows = table.rows(&app.library.now(), sender.is_operator()).into_iter().filter(wanted);
    let (links, rows) = params.page_of(&format!("/api/v1/{}", table.path()), (limit, offset), rows);
    Ok((links, Json(json!({ table.title(): rows }))))
}

fn show(
    table: Table,
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Wrong> {
    let id = number(&id)?;
    let rows = table.rows(&app.library.now(), sender.is_operator());
    let row = rows.into_iter().find(|row| row["id"] == id);
    let row = row.ok_or_else(|| Wrong::not_found("Not found"))?;
    Ok(Json(json!({ table.title(): [row] })))
}

/// Settings of a request: `settings[KEY]=VALUE`, or in JSON an object or a list of `{key, value}`.
pub(super) fn settings(params: &Params) -> Result<SettingsMap, Wrong> {
    let mut settings = params.bracketed("settings");
    match params.json.as_ref().map(|json| &json["settings"]) {
        None | Some(Value::Null) => {}
        Some(Value::Object(fields)) => {
            for (key, value) in fields {
                settings.insert(key.clone(), setting(key, value)?);
            }
        }
        Some(Value::Array(list)) => {
            for one in list {
                let key = one["key"].as_str().ok_or_else(|| Wrong::parameters(&[], &["settings"]))?;
                settings.insert(key.to_owned(), setting(key, &one["value"])?);
            }
        }
        Some(_) => return Err(Wrong::parameters(&[], &["settings"])),
    }
    let bad =
        |key: &str| key.is_empty() || key.contains(|c: char| c.is_whitespace() || c.is_control() || c == '=');
    if let Some((key, _)) = settings.iter().find(|(key, value)| bad(key) || value.contains('\0')) {
        return Err(Wrong::bad(format!("Setting {key:?} has a name or a value that is not allowed.")));
    }
    templates::not_covered([&settings]).map_err(Wrong::bad)?;
    Ok(settings)
}

fn setting(key: &str, value: &Value) -> Result<String, Wrong> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(Wrong::bad(format!("Setting {key:?} is not a text."))),
    }
}

/// What a request says of a row. All that is wrong with it is said at once.
fn read(table: Table, params: &Params) -> Result<(BTreeMap<&'static str, String>, SettingsMap), Wrong> {
    let (required, optional) = table.columns();
    let missing: Vec<_> = required.iter().copied().filter(|name| params.given(name).is_none()).collect();
    if !missing.is_empty() {
        return Err(Wrong::parameters(&missing, &[]));
    }
    let mut columns = BTreeMap::new();
    for name in required.iter().chain(optional) {
        if let Some(value) = params.get(name) {
            let too_long = value.len() > 64 * 1024 || (*name != "description" && value.len() > 255);
            if too_long || value.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
                return Err(Wrong::parameters(&[], &[*name]));
            }
            columns.insert(*name, value.to_owned());
        }
    }
    Ok((columns, settings(params)?))
}

fn put(
    table: Table,
    draft: &mut Draft,
    id: i64,
    columns: BTreeMap<&'static str, String>,
    settings: SettingsMap,
) {
    let text = |name: &str| columns.get(name).cloned().unwrap_or_default();
    let description = columns.get("description").cloned();
    draft.put(match table {
        Table::Machines => {
            CatalogRow::Machine(Machine { id, name: text("name"), backend: text("backend"), settings })
        }
        Table::TestSuites => {
            CatalogRow::TestSuite(TestSuite { id, name: text("name"), description, settings })
        }
        Table::Products => CatalogRow::Product(Product {
            id,
            name: text("name"),
            distri: text("distri"),
            version: text("version"),
            arch: text("arch"),
            flavor: text("flavor"),
            description,
            settings,
        }),
    });
}

/// What is noted of a change of a row.
fn noted(table: Table, id: i64, names: &Names) -> Value {
    let mut noted = json!({"table": table.title(), "id": id});
    for (column, value) in names {
        noted[*column] = json!(value);
    }
    noted
}

async fn create(
    table: Table,
    admin: Admin,
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let (columns, settings) = read(table, &params)?;
    let made = |draft: &mut Draft| -> Result<(i64, Names), Wrong> {
        let id = draft.new_id(table.kind());
        put(table, draft, id, columns, settings);
        Ok((id, table.names(&draft.catalog, id)))
    };
    let (id, names) = app.library.change(made).await?;
    app.audit(&admin.0.name, "table_create", noted(table, id, &names));
    Ok(Json(json!({ "id": id })))
}

async fn update(
    table: Table,
    admin: Admin,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let id = number(&id)?;
    let (columns, settings) = read(table, &params)?;
    let changed = |draft: &mut Draft| -> Result<Names, Wrong> {
        if !table.contains(&draft.catalog, id) {
            return Err(Wrong::not_found("Not found"));
        }
        // What a YAML names by its name keeps it.
        if table.names(&draft.catalog, id).iter().any(|(name, value)| columns.get(name) != Some(value)) {
            not_by_yaml(&draft.catalog, &table.users(&draft.catalog, id))?;
        }
        put(table, draft, id, columns, settings);
        Ok(table.names(&draft.catalog, id))
    };
    let names = app.library.change(changed).await?;
    app.audit(&admin.0.name, "table_update", noted(table, id, &names));
    Ok(Json(json!({ "result": 1, "id": id })))
}

async fn remove(
    table: Table,
    admin: Admin,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Wrong> {
    let id = number(&id)?;
    let removed = |draft: &mut Draft| -> Result<Names, Wrong> {
        if !table.contains(&draft.catalog, id) {
            return Err(Wrong::not_found("Not found"));
        }
        // Templates of tables go with it, as openqa-load-templates --clean wants; those of a YAML are changed there.
        let users = table.users(&draft.catalog, id);
        not_by_yaml(&draft.catalog, &users)?;
        for template in users {
            draft.remove(EntryKind::JobTemplate, template.id);
        }
        let names = table.names(&draft.catalog, id);
        draft.remove(table.kind(), id);
        Ok(names)
    };
    let names = app.library.change(removed).await?;
    app.audit(&admin.0.name, "table_delete", noted(table, id, &names));
    Ok(Json(json!({ "result": 1 })))
}
