//! `/jobs/{id}/restart`: what starting a job anew would do, and doing it.

use super::frame::Frame;
use crate::api;
use crate::api::openqa::params::Params;
use crate::app::App;
use crate::auth::Sender;
use crate::catalog::Catalog;
use crate::fault::{Fault, PageFault};
use askama::Template;
use assay_engine::ids::{GroupId, JobId};
use assay_engine::sched::restart::RestartOptions;
use assay_proto::api::restart::Restart;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The switches: the name in the form, the option of the command line, and what is written beside it.
const SWITCHES: [(&str, &str, &str); 5] = [
    ("skip_parents", "--skip-parents", "no parents"),
    ("skip_children", "--skip-children", "no children"),
    ("skip_ok_result_children", "--skip-passed-children", "no children that have passed"),
    ("skip_aborting_jobs", "--skip-running", "leave alone what runs"),
    ("force", "--force", "direct parents too"),
];

struct Switch {
    name: &'static str,
    label: &'static str,
    on: bool,
}

#[derive(Template)]
#[template(path = "restart.html")]
struct RestartPage {
    frame: Frame,
    id: JobId,
    name: String,
    switches: Vec<Switch>,
    priority: String,
    set: String,
    comment: String,
    /// Numbers and names of the groups, and whether it is chosen.
    groups: Vec<(i64, String, bool)>,
    plan: Option<Restart>,
    refused: Option<Fault>,
    /// Which jobs the plan clones.
    seen: String,
    /// The plan is another one than what was agreed to.
    changed: bool,
    may: bool,
    command: String,
}

/// The settings to change, one in a line.
fn changes(params: &Params) -> impl Iterator<Item = &str> {
    params.get("set").unwrap_or_default().lines().map(str::trim).filter(|line| !line.is_empty())
}

/// What a form asks for.
fn options(catalog: &Catalog, params: &Params) -> Result<RestartOptions, Fault> {
    let priority = params.given("priority").map(|text| text.trim().parse());
    let help = "Write a whole number; lower is earlier.";
    let priority = priority.transpose().map_err(|_| Fault::bad("The priority is not a number.", help))?;
    let mut set = BTreeMap::new();
    for line in changes(params) {
        let (key, value) = line.split_once('=').ok_or_else(|| {
            Fault::bad(
                format!("{line:?} is no setting."),
                "Write KEY=VALUE, or KEY= to leave it out, one in a line.",
            )
        })?;
        set.insert(key.trim().to_owned(), Some(value.trim().to_owned()).filter(|value| !value.is_empty()));
    }
    let group = match params.given("group") {
        None => None,
        Some(text) => {
            let id: i64 = text
                .parse()
                .ok()
                .filter(|id| *id == 0 || catalog.groups.contains_key(id))
                .ok_or_else(|| {
                    Fault::bad(format!("There is no group {text:?}."), "Choose one of those that there are.")
                })?;
            Some((id != 0).then_some(GroupId(id)))
        }
    };
    Ok(RestartOptions {
        group,
        skip_parents: params.flag("skip_parents"),
        skip_children: params.flag("skip_children"),
        skip_ok_result_children: params.flag("skip_ok_result_children"),
        skip_aborting_jobs: params.flag("skip_aborting_jobs"),
        force: params.flag("force"),
        priority,
        set,
        ..RestartOptions::default()
    })
}

/// The same for the command line.
fn command(id: JobId, catalog: &Catalog, params: &Params) -> String {
    let mut words = vec![format!("assay job restart {id}")];
    let on = SWITCHES.iter().filter(|(name, ..)| params.flag(name));
    words.extend(on.map(|(_, option, _)| (*option).to_owned()));
    words.extend(
        params.given("priority").map(|value| format!("--priority {}", super::job::quoted(value.trim()))),
    );
    for line in changes(params) {
        words.push(format!("--set {}", super::job::quoted(line)));
    }
    if let Some(group) = params.given("group") {
        let named = group.parse().ok().and_then(|id: i64| catalog.groups.get(&id));
        words.push(format!(
            "--group {}",
            named.map_or_else(|| "0".into(), |group| super::job::quoted(&group.name))
        ));
    }
    words.extend(params.given("comment").map(|text| format!("--comment {}", super::job::quoted(text))));
    words.join(" ")
}

fn seen(plan: &Restart) -> String {
    plan.clones.iter().map(|clone| clone.job.to_string()).collect::<Vec<_>>().join(",")
}

/// `GET /jobs/{id}/restart`
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    params: Params,
) -> Response {
    let rendered = build(&app, &sender, &id, &params, false).await;
    super::page(&app, rendered)
}

async fn build(
    app: &Arc<App>,
    sender: &Sender,
    id: &str,
    params: &Params,
    changed: bool,
) -> Result<RestartPage, Fault> {
    let id = api::job_id(id)?;
    let job = app.store.job(id).await?.ok_or_else(|| Fault::no_job(id))?;
    let catalog = app.library.now();
    let planned = match options(&catalog, params) {
        Ok(options) => api::restart::ask(app, vec![id], options, None, sender, true).await.map(|plan| plan.0),
        Err(fault) => Err(fault),
    };
    let (plan, refused) = match planned {
        Ok(plan) => (Some(plan), None),
        Err(fault) if fault.status.is_client_error() => (None, Some(fault)),
        Err(fault) => return Err(fault),
    };
    let mut frame = Frame::new(app.clock.now());
    frame.home = true;
    Ok(RestartPage {
        frame,
        id,
        name: if job.row.name.is_empty() { "(unnamed)".into() } else { job.row.name.clone() },
        switches: SWITCHES.map(|(name, _, label)| Switch { name, label, on: params.flag(name) }).into(),
        priority: params.get("priority").unwrap_or_default().to_owned(),
        set: params.get("set").unwrap_or_default().to_owned(),
        seen: plan.as_ref().map(seen).unwrap_or_default(),
        comment: params.get("comment").unwrap_or_default().to_owned(),
        groups: catalog
            .groups
            .values()
            .map(|group| (group.id, group.name.clone(), params.get("group") == Some(&group.id.to_string())))
            .collect(),
        plan,
        refused,
        changed,
        may: sender.must_be_operator().is_ok(),
        command: command(id, &catalog, params),
    })
}

/// `POST /jobs/{id}/restart`: does what was shown. If it would be something else by now, that is shown first.
pub(super) async fn post(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    params: Params,
) -> Response {
    match restart(&app, &sender, &id, &params).await {
        Ok(Some(job)) => Redirect::to(&format!("/jobs/{job}")).into_response(),
        Ok(None) => {
            let rendered = build(&app, &sender, &id, &params, true).await;
            super::page(&app, rendered)
        }
        Err(fault) => PageFault(fault, Frame::new(app.clock.now())).into_response(),
    }
}

/// The job that was made, or was there; none if the plan has changed.
async fn restart(app: &Arc<App>, sender: &Sender, id: &str, params: &Params) -> Result<Option<JobId>, Fault> {
    sender.must_be_operator()?;
    let id = api::job_id(id)?;
    let options = options(&app.library.now(), params)?;
    let comment = params.given("comment");
    let plan = api::restart::ask(app, vec![id], options.clone(), comment, sender, true).await?.0;
    if seen(&plan) != params.get("seen").unwrap_or_default() {
        return Ok(None);
    }
    let done = api::restart::ask(app, vec![id], options, comment, sender, false).await?.0;
    let made = done.clones.iter().find(|clone| clone.job == id).and_then(|clone| clone.clone);
    let there = done.exists.iter().find(|exists| exists.job == id).map(|exists| exists.clone);
    Ok(Some(made.or(there).unwrap_or(id)))
}
