//! `/group_overview/{id}/properties`: what a group keeps, and how its builds are shown.

use super::overview::found;
use crate::api::openqa;
use crate::api::openqa::params::Params;
use crate::app::App;
use crate::auth::Sender;
use crate::fault::Fault;
use crate::web::frame::Frame;
use askama::Template;
use assay_store::{Group, GroupProperties};
use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;

/// What can be said, in the order of the form: the heading, and names with what is written beside them.
const SECTIONS: [(&str, &[(&str, &str)]); 4] = [
    (
        "Kept for so many days",
        &[
            ("keep_logs_in_days", "logs"),
            ("keep_screenshots_in_days", "pictures"),
            ("keep_results_in_days", "results"),
            ("keep_jobs_in_days", "jobs"),
        ],
    ),
    (
        "The same of important builds (0: for ever)",
        &[
            ("keep_important_logs_in_days", "logs"),
            ("keep_important_screenshots_in_days", "pictures"),
            ("keep_important_results_in_days", "results"),
            ("keep_important_jobs_in_days", "jobs"),
        ],
    ),
    (
        "Files",
        &[
            ("size_limit_gb", "at most, gigabytes"),
            (
                "exclusively_kept_asset_size",
                "of those that no other group uses, gigabytes (openQA's; kept, without effect)",
            ),
        ],
    ),
    (
        "Jobs and builds",
        &[
            ("default_priority", "priority of jobs whose template has none"),
            ("build_version_sort", "builds are in the order of"),
            ("carry_over_bugrefs", "comments with bugs go over to the next failure"),
            ("ignore_on_dashboard", "left out of the dashboard"),
            ("always_show_version", "builds with their version (openQA's; kept, without effect)"),
        ],
    ),
];

/// What the numbers of a property stand for, where they are no amounts.
fn choices(name: &str) -> &'static [(&'static str, &'static str)] {
    match name {
        "build_version_sort" => &[("1", "versions"), ("0", "their newest jobs"), ("2", "their oldest jobs")],
        "carry_over_bugrefs" | "ignore_on_dashboard" | "always_show_version" => &[("1", "yes"), ("0", "no")],
        _ => &[],
    }
}

struct Field {
    name: &'static str,
    label: &'static str,
    value: String,
    /// What counts while nothing is said.
    usual: String,
    /// Values with a word for each, in place of a number to type.
    choices: Vec<(String, String)>,
}

impl Field {
    fn new(name: &'static str, label: &'static str, value: String, usual: String) -> Self {
        let known = choices(name);
        let word = |value: &str| known.iter().find(|(number, _)| *number == value).map(|(_, word)| *word);
        let usual = word(&usual).map_or(usual, str::to_owned);
        let mut choices: Vec<_> =
            known.iter().map(|(number, word)| ((*number).to_owned(), (*word).to_owned())).collect();
        // What a client has set that means nothing is not lost by saving the rest.
        if !choices.is_empty() && !value.is_empty() && word(&value).is_none() {
            choices.push((value.clone(), value.clone()));
        }
        Self { name, label, value, usual, choices }
    }
}

#[derive(Template)]
#[template(path = "group_properties.html")]
struct PropertiesPage {
    frame: Frame,
    id: i64,
    name: String,
    description: String,
    sections: Vec<(&'static str, Vec<Field>)>,
    refused: Option<Fault>,
    may: bool,
    saved: bool,
}

fn text(value: &Value) -> String {
    value.as_i64().map(|number| number.to_string()).unwrap_or_default()
}

fn build(
    app: &App,
    sender: &Sender,
    id: &str,
    params: &Params,
    refused: Option<Fault>,
) -> Result<PropertiesPage, Fault> {
    let catalog = app.library.now();
    let group = found(&catalog, id)?;
    let own = serde_json::to_value(&group.properties).unwrap_or_default();
    let silent = Group { properties: GroupProperties::default(), ..Group::clone(group) };
    let usual = openqa::groups::group(&catalog, &silent);
    // What somebody has typed stays while it is refused.
    let typed = |name: &str| params.get(name).filter(|_| refused.is_some()).map(str::to_owned);
    let field = |(name, label): &(&'static str, &'static str)| {
        let value = typed(name).unwrap_or_else(|| text(&own[*name]));
        Field::new(name, label, value, text(&usual[*name]))
    };
    let sections = SECTIONS.iter().map(|(title, names)| (*title, names.iter().map(field).collect()));
    let mut frame = Frame::new(app.clock.now());
    frame.builds = true;
    Ok(PropertiesPage {
        frame,
        id: group.id,
        name: typed("name").unwrap_or_else(|| group.name.clone()),
        description: typed("description").unwrap_or_else(|| group.description.clone().unwrap_or_default()),
        sections: sections.collect(),
        may: sender.must_be_admin().is_ok(),
        saved: refused.is_none() && params.flag("saved"),
        refused,
    })
}

/// `GET /group_overview/{id}/properties`
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    params: Params,
) -> Response {
    crate::web::page(&app, build(&app, &sender, &id, &params, None))
}

/// `POST /group_overview/{id}/properties`
pub(super) async fn save(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    params: Params,
) -> Response {
    let params = params.with_plain_lines();
    match keep(&app, &sender, &id, &params).await {
        Ok(id) => Redirect::to(&format!("/group_overview/{id}/properties?saved=1")).into_response(),
        Err(fault) => {
            let status = fault.status;
            let mut answer = crate::web::page(&app, build(&app, &sender, &id, &params, Some(fault)));
            *answer.status_mut() = status;
            answer
        }
    }
}

async fn keep(app: &Arc<App>, sender: &Sender, id: &str, params: &Params) -> Result<i64, Fault> {
    sender.must_be_admin()?;
    let id = found(&app.library.now(), id)?.id;
    openqa::groups::change(app, sender, id, params).await.map_err(openqa::Wrong::fault)?;
    Ok(id)
}

/// What saving would come to.
#[derive(Debug, Serialize)]
struct Checked {
    /// Why it would be refused.
    refused: Option<String>,
    /// The fields that this is about.
    fields: Vec<&'static str>,
}

/// `POST /group_overview/{id}/properties/check`: why what is typed would be refused. Changes nothing.
pub(super) async fn check(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<impl Serialize>, Fault> {
    sender.must_be_known()?;
    let catalog = app.library.now();
    let id = found(&catalog, &id)?.id;
    let wrong = openqa::groups::check(&catalog, id, &params.with_plain_lines()).err();
    let fault = wrong.map(openqa::Wrong::fault);
    let is_taken = fault.as_ref().is_some_and(|fault| fault.status == StatusCode::CONFLICT);
    let refused = fault.map(|fault| fault.error);
    let names = SECTIONS.iter().flat_map(|(_, names)| names.iter()).map(|(name, _)| *name).chain(["name"]);
    // openQA's words for whichever of them is meant.
    let is_meant = |name: &&str| {
        let words = [format!("{name} invalid"), format!("{name} missing")];
        is_taken && *name == "name"
            || refused.as_ref().is_some_and(|said| words.iter().any(|words| said.contains(words.as_str())))
    };
    let fields = names.filter(is_meant).collect();
    Ok(Json(Checked { refused, fields }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_words() {
        let field = |value: &str, usual: &str| {
            Field::new("build_version_sort", "", value.to_owned(), usual.to_owned())
        };
        let numbers =
            |field: &Field| field.choices.iter().map(|(number, _)| number.clone()).collect::<Vec<_>>();
        assert_eq!(
            (field("", "2").usual.as_str(), numbers(&field("0", "1"))),
            ("their oldest jobs", vec!["1".into(), "0".into(), "2".into()])
        );
        assert_eq!(numbers(&field("7", "1")).last().map(String::as_str), Some("7"));
        let days = Field::new("keep_jobs_in_days", "", "3".to_owned(), "30".to_owned());
        assert_eq!((days.usual.as_str(), days.choices.len()), ("30", 0));
    }

    #[test]
    fn the_form_has_every_property() {
        let all = serde_json::to_value(GroupProperties::default()).unwrap();
        let mut shown: Vec<_> =
            SECTIONS.iter().flat_map(|(_, names)| names.iter()).map(|(name, _)| *name).collect();
        shown.sort_unstable();
        let mut names: Vec<_> = all.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(shown, names);
    }
}
