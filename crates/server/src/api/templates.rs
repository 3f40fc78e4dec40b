//! Templates from files: load, check, dump.

use crate::app::App;
use crate::auth::{Admin, Sender};
use crate::catalog::{Catalog, Draft};
use crate::fault::Fault;
use crate::templates::{self, Counts, Placed, located};
use assay_engine::product::Template;
use assay_formats::openqa::fif::{self, GroupRules};
use assay_formats::openqa::{Changes, GroupFile, Known, group, scenarios, tables};
use assay_proto::api::templates::{
    EntryChange, LoadTemplates, LoadedTemplates, TemplateChange, TemplateFile,
};
use assay_store::StoreError;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use camino::Utf8Path;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/templates", get(dump).post(load))
}

/// As `openqa-load-templates` takes it.
async fn dump(State(app): State<Arc<App>>, Extension(sender): Extension<Sender>) -> String {
    tables::dump(&templates::all(&app.library.now(), sender.is_operator()))
}

/// What kind of file it is.
enum Kind {
    Group,
    /// Definitions beside the tests, which are posted with a product and never kept.
    Scenarios,
    Fif,
    Tables,
}

/// The name tells YAML from data: in a broken file the text is a bad witness. What stands in it tells the rest.
fn kind_of(file: &TemplateFile) -> Kind {
    let begins = |keys: &[&str]| file.text.lines().any(|line| keys.iter().any(|key| line.starts_with(key)));
    let is_yaml = match Utf8Path::new(&file.name).extension() {
        Some("yaml" | "yml") => true,
        Some("json") => false,
        _ => begins(&["scenarios:", "job_templates:", "machines:", "products:"]),
    };
    if is_yaml {
        let beside_tests = begins(&["job_templates:", "machines:"]) && !begins(&["scenarios:"]);
        if beside_tests { Kind::Scenarios } else { Kind::Group }
    } else if fif::is_fif(&file.text) {
        Kind::Fif
    } else {
        Kind::Tables
    }
}

/// What files may name: what the catalog has, and what any of them makes.
fn known(files: &[(Kind, &TemplateFile)], catalog: &Catalog) -> Known {
    let mut known = templates::known(catalog);
    for (kind, file) in files {
        match kind {
            Kind::Tables => known.add(&tables::readable(&file.text)),
            Kind::Fif => known.add(&fif::readable(&file.text)),
            Kind::Group | Kind::Scenarios => {}
        }
    }
    known
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
    let files: Vec<_> = request.files.iter().map(|file| (kind_of(file), file)).collect();
    let known = known(&files, catalog);
    let Read { changes: mut all, mut warnings, mut placed } = Read::default();
    let mut wrong = Vec::new();
    let (overlaid, single): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|(kind, _)| matches!(kind, Kind::Fif));
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
        let sources: Vec<_> =
            overlaid.iter().map(|(_, file)| (file.name.as_str(), file.text.as_str())).collect();
        let rules = request.group.as_deref().map_or_else(GroupRules::fedora, GroupRules::one);
        take(fif::load(&sources, &rules, Some(&known)));
    }
    for (kind, file) in single {
        match kind {
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

/// What the audit log says of a load.
fn noted(request: &LoadTemplates, changes: &[TemplateChange]) -> Value {
    let files: Vec<_> = request.files.iter().map(|file| file.name.as_str()).collect();
    let mut noted = json!({ "files": files });
    templates::note_changes(&mut noted, changes);
    noted
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
    let Counts { same, changes } = counts;
    if !request.check && !changes.is_empty() {
        app.audit(&admin.0.name, "table_update", noted(&request, &changes));
    }
    let count = |change| changes.iter().filter(|one| one.change == change).count();
    Ok(Json(LoadedTemplates {
        made: count(EntryChange::New),
        changed: count(EntryChange::Changed),
        same,
        removed: count(EntryChange::Removed),
        changes,
        warnings,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: &str = r#"{"Machines": [{"name": "m", "backend": "qemu", "settings": []}],
"Products": [{"name": "", "distri": "d", "version": "1", "flavor": "f", "arch": "a", "settings": []}],
"TestSuites": [{"name": "install", "settings": []}]}"#;
    const GROUP: &str = "defaults: {a: {machine: m, priority: 5}}
products: {p: {distri: d, flavor: f, version: '1'}}
scenarios: {a: {p: [install]}}
";

    fn request(files: &[(&str, &str)]) -> LoadTemplates {
        let file =
            |&(name, text): &(&str, &str)| TemplateFile { name: name.to_owned(), text: text.to_owned() };
        LoadTemplates { files: files.iter().map(file).collect(), group: None, check: true }
    }

    fn read_new(files: &[(&str, &str)]) -> Result<Read, String> {
        read(&request(files), &Catalog::default()).map_err(|wrong| wrong.join("\n"))
    }

    #[test]
    fn files_of_one_load_may_name_what_the_others_make() {
        let read = read_new(&[("g.yaml", GROUP), ("t.json", TABLES)]).unwrap();
        assert_eq!(read.changes.groups[0].templates.len(), 1);
        let fif = r#"{"Machines": {"m": {"backend": "qemu", "settings": {}}},
"Products": {"p": {"distri": "d", "version": "1", "flavor": "f", "arch": "a", "settings": {}}},
"TestSuites": {"install": {"settings": {}, "profiles": {}}}, "Profiles": {}} # a comment"#;
        read_new(&[("g.yaml", GROUP), ("t.fif.json", fif)]).unwrap();
        // What else is wrong with the other file takes no name away.
        let wrong = TABLES.replace("\"TestSuites\"", "\"Tests\": 1, \"TestSuites\"");
        let said = read_new(&[("g.yaml", GROUP), ("t.json", &wrong)]).err().unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("t.json:3:1: error: unknown key `Tests`"), "{said}");
    }

    #[test]
    fn the_name_of_a_broken_file_tells_what_it_is() {
        for (name, text, expected) in [
            ("bad.yaml", "a: [1", "error: "),
            ("empty.yml", "", "there is nothing in it; expected `products` and `scenarios`"),
            ("broken.json", "Products: [", "expected plain data, as JSON or as Perl writes it"),
            ("t.json", "{\"x\":\nscenarios: {}", "expected plain data"),
            ("t.yaml", TABLES, "unknown key `Machines` of a job group"),
        ] {
            let said = read_new(&[(name, text)]).err().unwrap();
            assert!(said.starts_with(name) && said.contains(expected), "{said}");
        }
    }

    #[test]
    fn what_would_change_is_named() {
        let read = read_new(&[("t.json", TABLES), ("g.yaml", GROUP)]).unwrap();
        let mut draft = Draft::of(Catalog::default());
        let load =
            |draft: &mut Draft, read: &Read| templates::load(draft, &read.changes, &read.placed).unwrap();
        let named = |counts: &Counts| -> Vec<String> {
            let line = |one: &assay_proto::api::templates::TemplateChange| {
                format!("{:?} {} {}", one.change, one.kind, one.name)
            };
            counts.changes.iter().map(line).collect()
        };
        assert_eq!(
            named(&load(&mut draft, &read)),
            [
                "New machine m",
                "New test_suite install",
                "New product d-1-f-a",
                "New job_template install@m for d-1-f-a"
            ]
        );
        assert_eq!(named(&load(&mut draft, &read)), [""; 0]);
        let other = read_new(&[
            ("t.json", &TABLES.replace("qemu", "dummy")),
            ("g.yaml", &GROUP.replace("[install]", "[{other: {testsuite: install}}]")),
        ]);
        assert_eq!(
            named(&load(&mut draft, &other.unwrap())),
            [
                "Changed machine m",
                "Removed job_template install@m for d-1-f-a",
                "New job_template other@m for d-1-f-a"
            ]
        );
    }
}
