//! Templates from files: load, check, dump.

use crate::app::App;
use crate::auth::{Admin, Sender};
use crate::catalog::{Catalog, Draft};
use crate::fault::Fault;
use crate::templates::{self, Counts};
use assay_formats::openqa::fif::{self, GroupRules};
use assay_formats::openqa::{Changes, GroupFile, group, tables};
use assay_proto::api::templates::{LoadTemplates, LoadedTemplates, TemplateFile};
use assay_store::StoreError;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/templates", get(dump).post(load))
}

/// As `openqa-load-templates` takes it.
async fn dump(State(app): State<Arc<App>>, Extension(sender): Extension<Sender>) -> String {
    tables::dump(&templates::all(&app.library.now(), sender.is_operator()))
}

/// What kind of file it is, by what stands in it.
enum Kind {
    Group,
    Fif,
    Tables,
}

fn kind_of(file: &TemplateFile) -> Kind {
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(&file.text) {
        let by_name =
            ["Machines", "Products", "TestSuites", "Profiles"].iter().any(|key| value[key].is_object());
        return if by_name { Kind::Fif } else { Kind::Tables };
    }
    let is_yaml =
        file.text.lines().any(|line| line.starts_with("scenarios:") || line.starts_with("products:"));
    if is_yaml { Kind::Group } else { Kind::Tables }
}

/// Reads all files; everything that is wrong with any of them is the error. Warnings are the second value.
fn read(request: &LoadTemplates, catalog: &Catalog) -> Result<(Changes, Vec<String>), Vec<String>> {
    let known = templates::known(catalog);
    let (mut all, mut wrong, mut warnings) = (Changes::default(), Vec::new(), Vec::new());
    let (overlaid, single): (Vec<_>, Vec<_>) =
        request.files.iter().partition(|file| matches!(kind_of(file), Kind::Fif));
    let mut take = |loaded: assay_formats::openqa::Loaded<Changes>| {
        let said = loaded.diagnostics.iter().map(ToString::to_string);
        match loaded.value {
            Some(changes) => {
                warnings.extend(said);
                all.machines.extend(changes.machines);
                all.media.extend(changes.media);
                all.suites.extend(changes.suites);
                all.templates.extend(changes.templates);
                all.groups.extend(changes.groups);
                all.facts.extend(changes.facts);
            }
            None => wrong.extend(said),
        }
    };
    if !overlaid.is_empty() {
        let sources: Vec<_> = overlaid.iter().map(|file| (file.name.as_str(), file.text.as_str())).collect();
        let rules = request.group.as_deref().map_or_else(GroupRules::fedora, GroupRules::one);
        take(fif::load(&sources, &rules, Some(&known)));
    }
    for file in single {
        match kind_of(file) {
            Kind::Group => {
                let stem = file.name.rsplit('/').next().unwrap_or(&file.name);
                let stem = stem.trim_end_matches(".yaml").trim_end_matches(".yml");
                let name = request.group.clone().unwrap_or_else(|| stem.to_owned());
                let loaded = group::load(&file.name, &file.text, Some(&known));
                let group = |templates| Changes {
                    groups: vec![GroupFile { name, text: file.text.clone(), templates }],
                    ..Changes::default()
                };
                take(assay_formats::openqa::Loaded {
                    value: loaded.value.map(group),
                    diagnostics: loaded.diagnostics,
                });
            }
            Kind::Fif | Kind::Tables => take(tables::load(&file.name, &file.text, Some(&known))),
        }
    }
    if wrong.is_empty() { Ok((all, warnings)) } else { Err(wrong) }
}

/// Why a change was not made.
enum Refused {
    Findings(Vec<String>),
    Store(StoreError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Findings(findings) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                findings.join("\n"),
                "Correct the files; nothing was changed.",
            ),
            Refused::Store(error) => error.into(),
        }
    }
}

/// Puts files into the catalog: all of it, or nothing.
async fn load(
    admin: Admin,
    State(app): State<Arc<App>>,
    body: Bytes,
) -> Result<Json<LoadedTemplates>, Fault> {
    let request: LoadTemplates = serde_json::from_slice(&body).map_err(|error| {
        let help = r#"Send {"files": [{"name": "templates.json", "text": "…"}], "check": false}."#;
        Fault::bad(format!("The request cannot be read: {error}."), help)
    })?;
    if request.files.is_empty() {
        return Err(Fault::bad("There is no file in the request.", "Send at least one."));
    }
    let (changes, warnings) = read(&request, &app.library.now()).map_err(Refused::Findings)?;
    let edit = |draft: &mut Draft| -> Result<Counts, Refused> {
        templates::load(draft, &changes).map_err(Refused::Findings)
    };
    let counts =
        if request.check { app.library.preview(edit).await? } else { app.library.change(edit).await? };
    if !request.check {
        let names: Vec<_> = request.files.iter().map(|file| file.name.as_str()).collect();
        app.audit(&admin.0.name, "table_update", json!({ "files": names }));
    }
    let Counts { made, changed, same } = counts;
    Ok(Json(LoadedTemplates { made, changed, same, warnings }))
}
