//! Templates from files: load, check, dump.

use crate::app::App;
use crate::auth::{Admin, Sender};
use crate::catalog::{Catalog, Draft};
use crate::fault::Fault;
use crate::templates::{self, Counts, Placed, located};
use assay_engine::product::Template;
use assay_formats::openqa::fif::{self, GroupRules};
use assay_formats::openqa::{Changes, GroupFile, group, scenarios, tables};
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
    /// Definitions beside the tests, which are posted with a product and never kept.
    Scenarios,
    Fif,
    Tables,
}

fn kind_of(file: &TemplateFile) -> Kind {
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(&file.text) {
        let by_name =
            ["Machines", "Products", "TestSuites", "Profiles"].iter().any(|key| value[key].is_object());
        return if by_name { Kind::Fif } else { Kind::Tables };
    }
    let begins = |keys: &[&str]| file.text.lines().any(|line| keys.iter().any(|key| line.starts_with(key)));
    match (begins(&["scenarios:"]), begins(&["job_templates:", "machines:"]), begins(&["products:"])) {
        (false, true, _) => Kind::Scenarios,
        (true, ..) | (_, _, true) => Kind::Group,
        _ => Kind::Tables,
    }
}

/// Everything that files say.
#[derive(Default)]
struct Read {
    changes: Changes,
    warnings: Vec<String>,
    placed: Vec<Placed>,
}

impl Read {
    /// What of all templates cannot be made as it is meant, now that they are in the catalog.
    fn impossible(&self, catalog: &Catalog) -> Vec<String> {
        let mut said = Vec::new();
        for Placed { file: name, text, templates, .. } in &self.placed {
            let (templates, places): (Vec<_>, Vec<_>) =
                templates.iter().map(|(one, place)| (one, *place)).unzip();
            let found = templates::impossible(catalog, &templates);
            said.extend(templates::warnings(name, text, &places, found).iter().map(ToString::to_string));
        }
        let others: Vec<_> = self.changes.templates.iter().map(|grouped| &grouped.template).collect();
        let found = templates::impossible(catalog, &others);
        let at = |number: usize| self.changes.templates.get(number).map_or("", |grouped| grouped.at.as_str());
        said.extend(found.iter().map(|(number, why)| located(at(*number), &format!("warning: {why}"))));
        // Groups within tables; those that are files of their own are above.
        for group in self.changes.groups.iter().filter(|group| !group.at.is_empty()) {
            let found = templates::impossible(catalog, &group.templates.iter().collect::<Vec<_>>());
            said.extend(found.iter().map(|(_, why)| {
                located(&group.at, &format!("warning: in the YAML of the group {}: {why}", group.name))
            }));
        }
        said
    }
}

/// What is wrong with scenario definitions, and what posts of their products would not make; nothing is kept.
fn read_scenarios(file: &TemplateFile, check: bool) -> Result<Vec<String>, Vec<String>> {
    let loaded = scenarios::load_placed(&file.name, &file.text);
    let mut said: Vec<_> = loaded.diagnostics.iter().map(ToString::to_string).collect();
    let Some((definitions, placed)) = loaded.value else { return Err(said) };
    if !check {
        said.push(format!(
            "{}: error: these are scenario definitions, which no server keeps; post them: `assay product post --scenarios FILE …`",
            file.name
        ));
        return Err(said);
    }
    let (own, places): (Vec<_>, Vec<_>) = placed.iter().map(|(template, place)| (template, *place)).unzip();
    let tried = templates::tried(&definitions, &own);
    let found = templates::warnings(&file.name, &file.text, &places, tried.impossible);
    said.extend(found.iter().map(ToString::to_string));
    for (medium, made) in tried.made {
        let all = own.iter().filter(|template| template.medium == *medium).count();
        said.push(format!("{}: note: {medium}: {made} jobs of {all} scenarios", file.name));
    }
    Ok(said)
}

/// Reads all files; everything that is wrong with any of them, and what was said besides, is the error.
fn read(request: &LoadTemplates, catalog: &Catalog) -> Result<Read, Vec<String>> {
    let known = templates::known(catalog);
    let Read { changes: mut all, mut warnings, mut placed } = Read::default();
    let mut wrong = Vec::new();
    let (overlaid, single): (Vec<_>, Vec<_>) =
        request.files.iter().partition(|file| matches!(kind_of(file), Kind::Fif));
    let (mut notes, mut refused) = (Vec::new(), Vec::new());
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
            Kind::Scenarios => match read_scenarios(file, request.check) {
                Ok(said) => notes.extend(said),
                Err(said) => refused.extend(said),
            },
            Kind::Group => {
                let stem = file.name.rsplit('/').next().unwrap_or(&file.name);
                let stem = stem.trim_end_matches(".yaml").trim_end_matches(".yml");
                let name = request.group.clone().unwrap_or_else(|| stem.to_owned());
                let loaded = group::load_placed(&file.name, &file.text, Some(&known));
                let group = |all: Vec<(Template, _)>| {
                    let templates = all.iter().map(|(template, _)| template.clone()).collect();
                    placed.push(Placed {
                        group: name.clone(),
                        file: file.name.clone(),
                        text: file.text.clone(),
                        templates: all,
                    });
                    Changes {
                        groups: vec![GroupFile {
                            name,
                            text: file.text.clone(),
                            templates,
                            at: String::new(),
                        }],
                        ..Changes::default()
                    }
                };
                take(assay_formats::openqa::Loaded {
                    value: loaded.value.map(group),
                    diagnostics: loaded.diagnostics,
                });
            }
            Kind::Fif | Kind::Tables => take(tables::load(&file.name, &file.text, Some(&known))),
        }
    }
    warnings.extend(notes);
    wrong.extend(refused);
    if wrong.is_empty() {
        Ok(Read { changes: all, warnings, placed })
    } else {
        warnings.extend(wrong);
        Err(warnings)
    }
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
    let read = read(&request, &app.library.now()).map_err(Refused::Findings)?;
    let edit = |draft: &mut Draft| -> Result<(Counts, Vec<String>), Refused> {
        let said = || read.warnings.iter().cloned();
        let loaded = templates::load(draft, &read.changes, &read.placed);
        let counts = loaded.map_err(|wrong| Refused::Findings(said().chain(wrong).collect()))?;
        Ok((counts, said().chain(read.impossible(&draft.catalog)).collect()))
    };
    let (counts, warnings) =
        if request.check { app.library.preview(edit).await? } else { app.library.change(edit).await? };
    if !request.check {
        let names: Vec<_> = request.files.iter().map(|file| file.name.as_str()).collect();
        app.audit(&admin.0.name, "table_update", json!({ "files": names }));
    }
    let Counts { made, changed, same, removed } = counts;
    Ok(Json(LoadedTemplates { made, changed, same, removed, warnings }))
}
