//! Job templates, one by one. Those of a group written as YAML are in `scheduling`.

use super::params::Params;
use super::tables::{listed, settings};
use super::{Admin, Wrong, number};
use crate::app::App;
use crate::auth::Sender;
use crate::catalog::{Catalog, Draft};
use crate::templates;
use assay_store::{CatalogRow, EntryKind, Group, JobTemplate};
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;

/// Templates in one answer, usually and at most.
const ROWS: (u32, u32) = (5_000, 20_000);

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/job_templates", get(list).post(create))
        .route("/job_templates/{id}", get(show).delete(remove))
}

fn shown(catalog: &Catalog, template: &JobTemplate, secrets: bool) -> Value {
    let product = catalog.products.get(&template.product);
    let machine = catalog.machines.get(&template.machine);
    let suite = template.test_suite.and_then(|id| catalog.suites.get(&id));
    let group = catalog.groups.get(&template.group);
    let mut shown = json!({
        "id": template.id,
        "prio": template.prio,
        "group_name": group.map(|group| group.name.clone()),
        "product": product.map(|product| json!({
            "id": product.id, "distri": product.distri, "version": product.version, "arch": product.arch,
            "flavor": product.flavor, "group": product.name,
        })),
        "machine": machine.map(|machine| json!({"id": machine.id, "name": machine.name})),
        "test_suite": suite.map(|suite| json!({"id": suite.id, "name": suite.name})),
    });
    if !template.name.is_empty() {
        shown["name"] = json!(template.name);
    }
    if !template.settings.is_empty() {
        shown["settings"] = listed(&template.settings, secrets);
    }
    shown
}

async fn list(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    params: Params,
) -> Result<(HeaderMap, Json<Value>), Wrong> {
    let (limit, offset) = params.page(ROWS.0, ROWS.1)?;
    let catalog = app.library.now();
    let is = |name: &str, value: Option<&str>| params.get(name).is_none_or(|wanted| value == Some(wanted));
    let wanted = |template: &&Arc<JobTemplate>| {
        let product = catalog.products.get(&template.product);
        let of =
            |column: fn(&assay_store::Product) -> &String| product.map(|product| column(product).as_str());
        is("machine_name", catalog.machines.get(&template.machine).map(|machine| machine.name.as_str()))
            && is(
                "test_suite_name",
                template.test_suite.and_then(|id| catalog.suites.get(&id)).map(|suite| suite.name.as_str()),
            )
            && is("group_name", catalog.groups.get(&template.group).map(|group| group.name.as_str()))
            && is("distri", of(|product| &product.distri))
            && is("version", of(|product| &product.version))
            && is("arch", of(|product| &product.arch))
            && is("flavor", of(|product| &product.flavor))
            && is("id", Some(&template.id.to_string()))
    };
    let found = catalog.templates.values().filter(wanted);
    let (links, found) = params.page_of("/api/v1/job_templates", (limit, offset), found);
    let rows = found.into_iter().map(|template| shown(&catalog, template, sender.is_operator()));
    Ok((links, Json(json!({"JobTemplates": rows.collect::<Vec<_>>()}))))
}

async fn show(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Wrong> {
    let catalog = app.library.now();
    let template = catalog
        .templates
        .get(&number(&id)?)
        .ok_or_else(|| Wrong::not_found("Job template does not exist"))?;
    Ok(Json(json!({ "JobTemplates": [shown(&catalog, template, sender.is_operator())] })))
}

/// Groups whose templates are written as YAML are changed by that YAML alone.
fn not_by_yaml(group: &Group) -> Result<(), Wrong> {
    match &group.template {
        Some(_) => {
            Err(Wrong::bad(format!("Group \"{}\" must be updated through the YAML template", group.name)))
        }
        None => Ok(()),
    }
}

/// What a template is made of, by numbers or by names. All that there is not is said at once.
fn parts(params: &Params, draft: &mut Draft) -> Result<JobTemplate, Wrong> {
    if params.given("machine_id").is_some() {
        return parts_by_number(params, draft);
    }
    let [group, machine, suite, distri, version, arch, flavor] = params.required([
        "group_name",
        "machine_name",
        "test_suite_name",
        "distri",
        "version",
        "arch",
        "flavor",
    ])?;
    let catalog = &draft.catalog;
    let mut absent = Vec::new();
    let found_machine = catalog.machine_named(machine).map(|machine| machine.id);
    let found_suite = catalog.suite_named(suite).map(|suite| suite.id);
    let found_product = catalog.product_like(distri, version, arch, flavor).map(|product| product.id);
    if found_machine.is_none() {
        absent.push(format!("machine {machine:?}"));
    }
    if found_suite.is_none() {
        absent.push(format!("test suite {suite:?}"));
    }
    if found_product.is_none() {
        absent.push(format!("product {distri}-{version}-{flavor}-{arch}"));
    }
    let (Some(machine), Some(suite), Some(product)) = (found_machine, found_suite, found_product) else {
        return Err(Wrong::bad(format!("There is no {}", absent.join(", no "))));
    };
    let group = if let Some(group) = catalog.group_named(group) {
        not_by_yaml(group)?;
        group.id
    } else {
        let made = Group { id: draft.new_id(EntryKind::Group), name: group.to_owned(), ..Group::default() };
        let id = made.id;
        draft.put(CatalogRow::Group(made));
        id
    };
    Ok(JobTemplate { group, product, machine, test_suite: Some(suite), ..JobTemplate::default() })
}

fn parts_by_number(params: &Params, draft: &Draft) -> Result<JobTemplate, Wrong> {
    params.required(["group_id", "product_id", "machine_id", "test_suite_id"])?;
    let id = |name: &'static str| Ok::<i64, Wrong>(params.number(name)?.unwrap_or_default());
    let template = JobTemplate {
        group: id("group_id")?,
        product: id("product_id")?,
        machine: id("machine_id")?,
        test_suite: Some(id("test_suite_id")?),
        ..JobTemplate::default()
    };
    let catalog = &draft.catalog;
    let group = catalog.groups.get(&template.group);
    let known = [
        ("group_id", group.is_some()),
        ("product_id", catalog.products.contains_key(&template.product)),
        ("machine_id", catalog.machines.contains_key(&template.machine)),
        ("test_suite_id", template.test_suite.is_some_and(|suite| catalog.suites.contains_key(&suite))),
    ];
    let unknown: Vec<_> = known.into_iter().filter(|(_, known)| !known).map(|(name, _)| name).collect();
    if !unknown.is_empty() {
        return Err(Wrong::parameters(&[], &unknown));
    }
    group.map_or(Ok(()), |group| not_by_yaml(group))?;
    Ok(template)
}

async fn create(admin: Admin, State(app): State<Arc<App>>, params: Params) -> Result<Json<Value>, Wrong> {
    let (prio, settings) = (params.number("prio")?, settings(&params)?);
    let made = |draft: &mut Draft| -> Result<(i64, Value), Wrong> {
        let parts = parts(&params, draft)?;
        let id = draft.new_id(EntryKind::JobTemplate);
        let name = params.given("name").unwrap_or_default().to_owned();
        let row = JobTemplate { id, prio, settings, name, ..parts };
        if let Some(other) = templates::same_scenario(&draft.catalog, &row) {
            return Err(Wrong::new(StatusCode::CONFLICT, templates::taken(&draft.catalog, other)));
        }
        let noted = templates::noted(&draft.catalog, &row);
        draft.put(CatalogRow::JobTemplate(row));
        Ok((id, noted))
    };
    let (id, noted) = app.library.change(made).await?;
    app.audit(&admin.0.name, "jobtemplate_create", noted);
    Ok(Json(json!({ "id": id, "ids": [id] })))
}

async fn remove(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Wrong> {
    let id = number(&id)?;
    let removed = |draft: &mut Draft| -> Result<Value, Wrong> {
        let absent = || Wrong::not_found("Job template does not exist");
        let template = draft.catalog.templates.get(&id).ok_or_else(absent)?;
        if let Some(group) = draft.catalog.groups.get(&template.group) {
            not_by_yaml(group)?;
        }
        let noted = templates::noted(&draft.catalog, template);
        draft.remove(EntryKind::JobTemplate, id);
        Ok(noted)
    };
    let noted = app.library.change(removed).await?;
    app.audit(&admin.0.name, "jobtemplate_delete", noted);
    Ok(Json(json!({ "result": 1 })))
}
