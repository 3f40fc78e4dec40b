//! Templates of a group as YAML: `job_templates_scheduling`.

use super::groups::no_group;
use super::params::Params;
use super::{Admin, Wrong};
use crate::app::App;
use crate::auth::Sender;
use crate::catalog::{Catalog, Draft};
use crate::products::for_planning;
use crate::templates::{self, Counts};
use assay_engine::ids::GroupId;
use assay_engine::product::Template;
use assay_formats::diagnostic::Diagnostic;
use assay_formats::openqa::group;
use assay_store::{CatalogRow, Group};
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<App>> {
    let mut router = Router::new();
    for root in ["/job_templates_scheduling", "/experimental/job_templates_scheduling"] {
        router = router
            .route(root, get(all).post(save_named))
            // As openqa-dump-templates asks for it.
            .route(&format!("{root}/"), get(all))
            .route(&format!("{root}/{{group}}"), get(one).post(save).put(save));
    }
    router
}

/// The group's YAML as it was written, or as its templates would be written. With secrets that the reader may not see
/// it is always the latter: where in a text a secret stands is hard to say.
pub(crate) fn yaml_of(catalog: &Catalog, group: &Group, secrets: bool) -> String {
    let planned = for_planning(catalog);
    let own = planned.templates.into_values().flatten();
    let mut own: Vec<Template> = own.filter(|template| template.group == Some(GroupId(group.id))).collect();
    let mut hidden = false;
    if !secrets {
        for template in &mut own {
            hidden |= templates::cover(&mut template.settings);
        }
    }
    match &group.template {
        Some(text) if secrets || !(hidden || templates::names_secrets(text)) => text.clone(),
        _ => group::dump(&own),
    }
}

fn find<'c>(catalog: &'c Catalog, group: &str) -> Result<&'c Arc<Group>, Wrong> {
    let by_number = group.parse::<i64>().ok().and_then(|id| catalog.groups.get(&id));
    by_number.or_else(|| catalog.group_named(group)).ok_or_else(no_group)
}

fn wants_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("json"))
}

fn told(headers: &HeaderMap, json: Value, yaml: String) -> Response {
    if wants_json(headers) {
        return Json(json).into_response();
    }
    ([(header::CONTENT_TYPE, "text/yaml; charset=utf-8")], yaml).into_response()
}

async fn all(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    headers: HeaderMap,
) -> Response {
    let catalog = app.library.now();
    let text = |group: &Arc<Group>| yaml_of(&catalog, group, sender.is_operator());
    let texts: BTreeMap<_, _> =
        catalog.groups.values().map(|group| (group.name.clone(), text(group))).collect();
    let mut yaml = String::from("---\n");
    for (name, text) in &texts {
        let _ = writeln!(yaml, "{}: |", json!(name));
        for line in text.lines() {
            let _ = writeln!(yaml, "  {line}");
        }
    }
    let json = texts.into_iter().map(|(name, text)| (name, Value::String(text))).collect::<Map<_, _>>();
    told(&headers, Value::Object(json), yaml)
}

async fn one(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(group): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Wrong> {
    let catalog = app.library.now();
    let text = yaml_of(&catalog, find(&catalog, &group)?, sender.is_operator());
    Ok(told(&headers, Value::String(text.clone()), text))
}

async fn save_named(admin: Admin, State(app): State<Arc<App>>, params: Params) -> Result<Json<Value>, Wrong> {
    let [name] = params.required(["name"])?;
    keep(&app, &admin.0, name, &params).await
}

async fn save(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path(group): Path<String>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    keep(&app, &admin.0, &group, &params).await
}

/// Everything that is wrong with it at once, as a list.
fn bad(findings: Vec<String>) -> Wrong {
    Wrong::bad("").with("error", findings)
}

/// Puts what an admin sent in the place of a group's templates, or says what it would come to.
pub(crate) async fn keep(
    app: &Arc<App>,
    admin: &Sender,
    group: &str,
    params: &Params,
) -> Result<Json<Value>, Wrong> {
    let [text, schema] = params.required(["template", "schema"])?;
    if schema != group::SCHEMA {
        return Err(Wrong::parameters(&[], &["schema"]));
    }
    let catalog = app.library.now();
    let before = find(&catalog, group)?.clone();
    let old = yaml_of(&catalog, &before, true);
    if let Some(reference) = params.given("reference")
        && reference.trim() != old.trim()
    {
        return Err(Wrong::bad("Template was modified")
            .with("template", old)
            .with("job_group_id", before.id));
    }
    let loaded = group::load_placed(&before.name, text, Some(&templates::known(&catalog)));
    let Some(placed) = loaded.value else {
        return Err(bad(loaded.diagnostics.iter().map(ToString::to_string).collect()));
    };
    let (wanted, places): (Vec<_>, Vec<_>) = placed.into_iter().unzip();
    templates::not_covered(wanted.iter().map(|template| &template.settings)).map_err(|why| bad(vec![why]))?;
    let preview = params.flag("preview");
    let group = Group { template: Some(text.to_owned()), ..Group::clone(&before) };
    let edit = |draft: &mut Draft| -> Result<(Vec<i64>, Counts, Vec<Diagnostic>), Wrong> {
        let mut counts = Counts::default();
        let refused = |wrong| {
            let found = templates::refusals(&group.name, text, &places, wrong);
            bad(found.iter().map(ToString::to_string).collect())
        };
        let ids = templates::replace(draft, &group, &wanted, &mut counts).map_err(refused)?;
        draft.put(CatalogRow::Group(group.clone()));
        let found = templates::impossible(&draft.catalog, &wanted.iter().collect::<Vec<_>>());
        Ok((ids, counts, templates::warnings(&group.name, text, &places, found)))
    };
    let (ids, counts, impossible) =
        if preview { app.library.preview(edit).await? } else { app.library.change(edit).await? };
    if !preview {
        let mut noted = json!({"job_group_id": before.id, "group": before.name, "ids": ids});
        templates::note_changes(&mut noted, &counts.changes);
        app.audit(&admin.name, "jobtemplate_create", noted);
    }
    let mut answer = json!({"job_group_id": before.id, "ids": ids, "changes": changes(&old, text)});
    if preview {
        answer["preview"] = json!(1);
    }
    if params.flag("expand") {
        answer["result"] = json!(group::dump(&wanted));
    }
    let warnings: Vec<_> = loaded.diagnostics.iter().chain(&impossible).map(ToString::to_string).collect();
    if !warnings.is_empty() {
        answer["warnings"] = json!(warnings);
    }
    Ok(Json(answer))
}

/// The lines that go and those that come, as a diff; nothing if there are none.
fn changes(old: &str, new: &str) -> Option<String> {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let begin = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[begin..], &new[begin..]);
    let end = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[..old.len() - end], &new[..new.len() - end]);
    if old.is_empty() && new.is_empty() {
        return None;
    }
    let mut text = format!("@@ -{},{} +{},{} @@\n", begin + 1, old.len(), begin + 1, new.len());
    for (sign, lines) in [('-', old), ('+', new)] {
        for line in lines {
            text.push(sign);
            text.push_str(line);
            text.push('\n');
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::changes;

    #[test]
    fn only_what_differs_is_told() {
        assert_eq!(changes("a\nb\n", "a\nb\n"), None);
        assert_eq!(changes("a\nb\nc\n", "a\nx\ny\nc\n").unwrap(), "@@ -2,1 +2,2 @@\n-b\n+x\n+y\n");
        assert_eq!(changes("a\na\n", "a\n").unwrap(), "@@ -2,1 +2,0 @@\n-a\n");
        assert_eq!(changes("", "a\n").unwrap(), "@@ -1,0 +1,1 @@\n+a\n");
    }
}
