//! `…/edit` beside a step: a needle is drawn on its screen, tried, and saved. The page works with the API; see
//! `editor.js`.

use super::frame::{Frame, percent_encoded};
use super::job::{chosen, run_of};
use super::step::StepQuery;
use crate::api;
use crate::app::App;
use crate::fault::Fault;
use crate::needles::needle_dir;
use askama::Template;
use assay_engine::ids::JobId;
use assay_records::step::{Step, StepBody};
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::get;
use camino::Utf8PathBuf;
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/jobs/{id}/steps/{module}/{number}/edit", get(page))
        .route("/tests/{id}/modules/{module}/steps/{number}/edit", get(page))
}

/// A needle to take areas from.
struct Candidate {
    name: String,
    json: String,
    tags: String,
    percent: String,
}

#[derive(Template)]
#[template(path = "edit.html")]
struct EditPage {
    frame: Frame,
    job_id: JobId,
    job_name: String,
    module: String,
    number: u32,
    step_href: String,
    screenshot: String,
    width: u32,
    height: u32,
    tags: String,
    name: String,
    candidates: Vec<Candidate>,
    directory: Option<String>,
}

async fn page(
    State(app): State<Arc<App>>,
    Path((id, module, number)): Path<(String, String, String)>,
    Query(query): Query<StepQuery>,
) -> Response {
    super::page(&app, build(&app, &id, &module, &number, &query).await)
}

async fn build(
    app: &App,
    id: &str,
    module: &str,
    number: &str,
    query: &StepQuery,
) -> Result<EditPage, Fault> {
    let missing = || {
        let error = format!("Step {number} of {module} has no screen.");
        Fault::not_found(error, "See the job's page for its steps.")
    };
    let id = api::job_id(id)?;
    let job = app.store.job(id).await?.ok_or_else(|| Fault::no_job(id))?;
    let choice = super::job::JobQuery { attempt: query.attempt };
    let attempt = chosen(&app.store.attempts(id).await?, &choice)?.ok_or_else(missing)?;
    let run = run_of(app, &attempt).await?;
    let wanted: u32 = number.parse().map_err(|_| missing())?;
    let is_it = |step: &&Step| step.module == module && step.number == wanted;
    let step = run.steps().find(is_it).ok_or_else(missing)?;
    let picture = step.screenshot.as_ref().ok_or_else(missing)?;
    let (tags, candidates) = match &step.body {
        StepBody::Look { tags, matched, candidates, .. } => {
            let candidate = |hit: &assay_records::step::NeedleHit| {
                Some(Candidate {
                    name: hit.name.clone(),
                    json: hit.json.clone()?,
                    tags: hit.tags.join(" "),
                    percent: super::cards::average(hit),
                })
            };
            (tags.clone(), matched.iter().chain(candidates).filter_map(candidate).collect())
        }
        _ => (Vec::new(), Vec::new()),
    };
    let day = jiff::Timestamp::from_microsecond(app.clock.now().0).unwrap_or_default().strftime("%Y%m%d");
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-+".contains(c) { c } else { '-' };
    let stem: String = tags.first().map_or(module, String::as_str).chars().map(plain).collect();
    Ok(EditPage {
        frame: Frame::new(app.clock.now()),
        job_id: id,
        job_name: job.row.name.clone(),
        step_href: format!("/jobs/{id}/steps/{}/{wanted}{}", percent_encoded(module), choice.suffix()),
        module: module.to_owned(),
        number: wanted,
        screenshot: picture.sha256.clone(),
        width: picture.width,
        height: picture.height,
        tags: tags.join(" "),
        name: format!("{stem}-{day}"),
        candidates,
        directory: needle_dir(&job.row.settings).map(Utf8PathBuf::into_string),
    })
}
