//! What products are scheduled from: the templates of groups, with a check as one types, and the tables that they name.

use super::frame::{Frame, percent_encoded};
use crate::api::openqa;
use crate::api::openqa::params::Params;
use crate::app::App;
use crate::auth::Sender;
use crate::catalog::{Catalog, Draft};
use crate::fault::{Fault, PageFault};
use crate::templates::{self, Counts};
use askama::Template;
use assay_engine::settings::{COVERED, is_secret_name};
use assay_formats::diagnostic::Diagnostic;
use assay_formats::openqa::group;
use assay_store::{Group, SettingsMap};
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use std::sync::Arc;

/// Rows of a table on one page.
const ROWS: usize = 500;
/// The longest templates that are looked at, bytes.
const MAX_TEXT: usize = 2 * 1024 * 1024;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/admin/job_templates", get(overview))
        .route("/admin/job_templates/{group}", get(page).post(save))
        .route("/admin/job_templates/{group}/check", post(check))
        .route("/admin/machines", get(machines))
        .route("/admin/products", get(products))
        .route("/admin/test_suites", get(suites))
}

/// A template of a group.
struct Row {
    test: String,
    product: String,
    machine: String,
    priority: String,
    settings: Vec<String>,
}

#[derive(Template)]
#[template(path = "templates.html")]
struct TemplatesPage {
    frame: Frame,
    id: i64,
    name: String,
    yaml: String,
    /// What the text is compared with when it is saved: nobody's change is lost.
    reference: String,
    findings: Vec<Diagnostic>,
    rows: Vec<Row>,
    left_out: usize,
    may: bool,
    saved: bool,
}

/// One of the tables.
#[derive(Template)]
#[template(path = "table.html")]
struct TablePage {
    frame: Frame,
    title: &'static str,
    path: &'static str,
    q: String,
    heads: &'static [&'static str],
    rows: Vec<(Vec<String>, Vec<String>)>,
    total: usize,
}

#[derive(Template)]
#[template(path = "templates_of.html")]
struct OverviewPage {
    frame: Frame,
    /// Name, number, how many templates, and whether they are written as YAML.
    groups: Vec<(String, i64, usize, bool)>,
}

fn frame(app: &App) -> Frame {
    let mut frame = Frame::new(app.clock.now());
    frame.builds = true;
    frame
}

fn found<'c>(catalog: &'c Catalog, id: &str) -> Result<&'c Arc<Group>, Fault> {
    id.parse().ok().and_then(|id: i64| catalog.groups.get(&id)).ok_or_else(|| {
        Fault::not_found(
            format!("There is no group {id}."),
            "See /admin/job_templates for those that there are.",
        )
    })
}

/// `KEY=VALUE`, as anybody may see it.
fn shown(settings: &SettingsMap) -> Vec<String> {
    let value =
        |key: &str, value: &str| if is_secret_name(key) { COVERED.to_owned() } else { value.to_owned() };
    settings.iter().map(|(key, text)| format!("{key}={}", value(key, text))).collect()
}

fn rows(catalog: &Catalog, group: i64) -> Vec<Row> {
    let mut rows: Vec<_> = catalog
        .templates
        .values()
        .filter(|template| template.group == group)
        .map(|template| {
            let suite = template.test_suite.and_then(|id| catalog.suites.get(&id));
            let product = catalog.products.get(&template.product);
            let name = Some(template.name.clone()).filter(|name| !name.is_empty());
            Row {
                test: name.or_else(|| suite.map(|suite| suite.name.clone())).unwrap_or_default(),
                product: product
                    .map(|one| [&*one.distri, &one.version, &one.flavor, &one.arch].join(" "))
                    .unwrap_or_default(),
                machine: catalog
                    .machines
                    .get(&template.machine)
                    .map(|one| one.name.clone())
                    .unwrap_or_default(),
                priority: template.prio.map(|prio| prio.to_string()).unwrap_or_default(),
                settings: shown(&template.settings),
            }
        })
        .collect();
    rows.sort_by(|left, right| {
        (&left.test, &left.product, &left.machine).cmp(&(&right.test, &right.product, &right.machine))
    });
    rows
}

/// `GET /admin/job_templates/{group}`
async fn page(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    params: Params,
) -> Response {
    let rendered = build(&app, &sender, &id, None, params.flag("saved"));
    super::page(&app, rendered)
}

fn build(
    app: &App,
    sender: &Sender,
    id: &str,
    text: Option<&str>,
    saved: bool,
) -> Result<TemplatesPage, Fault> {
    let catalog = app.library.now();
    let group = found(&catalog, id)?;
    let stored = openqa::scheduling::yaml_of(&catalog, group, sender.must_be_admin().is_ok());
    let yaml = text.unwrap_or(&stored).to_owned();
    let mut rows = rows(&catalog, group.id);
    let left_out = rows.len().saturating_sub(ROWS);
    rows.truncate(ROWS);
    Ok(TemplatesPage {
        frame: frame(app),
        id: group.id,
        name: group.name.clone(),
        findings: findings(&catalog, group, &yaml).1,
        yaml,
        reference: stored,
        rows,
        left_out,
        may: sender.must_be_admin().is_ok(),
        saved,
    })
}

/// How many templates a text has, none if it is refused, and what is to be said about it.
fn findings(catalog: &Catalog, group: &Group, text: &str) -> (Option<usize>, Vec<Diagnostic>) {
    let loaded = group::load_placed(&group.name, text, Some(&templates::known(catalog)));
    let mut found = loaded.diagnostics;
    let Some(placed) = loaded.value else { return (None, found) };
    let (wanted, places): (Vec<_>, Vec<_>) = placed.into_iter().unzip();
    let mut draft = Draft::of(catalog.clone());
    if let Err(wrong) = templates::replace(&mut draft, group, &wanted, &mut Counts::default()) {
        found.extend(templates::refusals(&group.name, text, &places, wrong));
        return (None, found);
    }
    let impossible = templates::impossible(&draft.catalog, &wanted.iter().collect::<Vec<_>>());
    found.extend(templates::warnings(&group.name, text, &places, impossible));
    (Some(wanted.len()), found)
}

/// What a text would come to.
#[derive(Debug, Serialize)]
struct Checked {
    findings: Vec<Diagnostic>,
    /// How many templates it has; none if it is refused.
    templates: Option<usize>,
}

/// `POST /admin/job_templates/{group}/check`: what is wrong with a text, with lines. Changes nothing.
async fn check(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Checked>, Fault> {
    sender.must_be_known()?;
    let catalog = app.library.now();
    let group = found(&catalog, &id)?.clone();
    let text = params.get("template").unwrap_or_default().to_owned();
    if text.len() > MAX_TEXT {
        return Err(Fault::bad(
            "The templates are too long to be checked here.",
            "Use `assay template check`.",
        ));
    }
    let checked = tokio::task::spawn_blocking(move || findings(&catalog, &group, &text));
    let (templates, findings) = checked.await.map_err(|error| {
        tracing::error!(%error, "templates cannot be checked");
        Fault::bad("The check did not end.", "Report it as a bug with the templates.")
    })?;
    Ok(Json(Checked { findings, templates }))
}

/// `POST /admin/job_templates/{group}`
async fn save(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    params: Params,
) -> Response {
    match keep(&app, &sender, &id, &params.with_plain_lines()).await {
        Ok(()) => {
            Redirect::to(&format!("/admin/job_templates/{}?saved=1", percent_encoded(&id))).into_response()
        }
        Err(fault) => PageFault(fault, Frame::new(app.clock.now())).into_response(),
    }
}

async fn keep(app: &Arc<App>, sender: &Sender, id: &str, params: &Params) -> Result<(), Fault> {
    sender.must_be_admin()?;
    let group = found(&app.library.now(), id)?.id.to_string();
    openqa::scheduling::keep(app, sender, &group, params).await.map(drop).map_err(openqa::Wrong::fault)
}

/// `GET /admin/job_templates`
async fn overview(State(app): State<Arc<App>>) -> Response {
    let catalog = app.library.now();
    let templates = |id: i64| catalog.templates.values().filter(|template| template.group == id).count();
    let mut groups: Vec<_> = catalog
        .groups
        .values()
        .map(|group| (group.name.clone(), group.id, templates(group.id), group.template.is_some()))
        .collect();
    groups.sort();
    super::page(&app, Ok(OverviewPage { frame: frame(&app), groups }))
}

/// The rows that have a text in them, as many as fit on a page.
fn table(
    app: &App,
    params: &Params,
    (title, path): (&'static str, &'static str),
    heads: &'static [&'static str],
    rows: impl Iterator<Item = (Vec<String>, Vec<String>)>,
) -> Response {
    let q = params.get("q").unwrap_or_default().trim().to_owned();
    let wanted = q.to_lowercase();
    let fits = |(cells, settings): &(Vec<String>, Vec<String>)| {
        cells.iter().chain(settings).any(|text| text.to_lowercase().contains(&wanted))
    };
    let mut rows: Vec<_> = rows.filter(fits).collect();
    rows.sort();
    let total = rows.len();
    rows.truncate(ROWS);
    super::page(app, Ok(TablePage { frame: frame(app), title, path, q, heads, rows, total }))
}

/// `GET /admin/machines`
async fn machines(State(app): State<Arc<App>>, params: Params) -> Response {
    let catalog = app.library.now();
    let rows = catalog
        .machines
        .values()
        .map(|one| (vec![one.name.clone(), one.backend.clone()], shown(&one.settings)));
    table(&app, &params, ("Machines", "/admin/machines"), &["Name", "Backend"], rows)
}

/// `GET /admin/products`
async fn products(State(app): State<Arc<App>>, params: Params) -> Response {
    let catalog = app.library.now();
    let rows = catalog.products.values().map(|one| {
        let cells = [&one.distri, &one.version, &one.flavor, &one.arch, &one.name].map(Clone::clone);
        (cells.to_vec(), shown(&one.settings))
    });
    let heads = &["Distribution", "Version", "Flavor", "Architecture", "Name"];
    table(&app, &params, ("Products", "/admin/products"), heads, rows)
}

/// `GET /admin/test_suites`
async fn suites(State(app): State<Arc<App>>, params: Params) -> Response {
    let catalog = app.library.now();
    let rows = catalog.suites.values().map(|one| {
        (vec![one.name.clone(), one.description.clone().unwrap_or_default()], shown(&one.settings))
    });
    table(&app, &params, ("Test suites", "/admin/test_suites"), &["Name", "Description"], rows)
}
