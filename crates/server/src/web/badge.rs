//! `/tests/latest`, and how jobs stand as a small picture for pages elsewhere: `/tests/N/badge`.

use super::frame::Frame;
use super::matrix;
use crate::api::openqa;
use crate::api::openqa::params::Params;
use crate::app::App;
use crate::fault::{Fault, PageFault};
use askama::Template;
use assay_engine::ids::JobId;
use assay_engine::outcome::Outcome;
use assay_store::{JobFilter, JobSummary};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use std::fmt::Write as _;
use std::sync::Arc;

/// Letters of a label that are shown.
const LABEL: usize = 60;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/tests/latest", get(latest))
        .route("/tests/latest/badge", get(latest_badge))
        .route("/tests/overview/badge", get(overview_badge))
        .route("/tests/{id}/badge", get(job_badge))
}

#[derive(Template)]
#[template(path = "badge.svg", escape = "html")]
struct BadgeImage {
    label: String,
    word: String,
    color: &'static str,
    /// Widths in pixels; letters are about seven wide.
    left: usize,
    right: usize,
}

impl BadgeImage {
    fn new(label: &str, word: String) -> Self {
        let label: String = label.chars().filter(|c| !c.is_control()).take(LABEL).collect();
        let color = match word.split(' ').next().unwrap_or_default() {
            "passed" => "#2e7d32",
            "softfailed" => "#9a6700",
            "failed" | "incomplete" | "timeout_exceeded" | "parallel_failed" => "#b3261e",
            "scheduled" | "assigned" | "setup" | "running" | "uploading" => "#1f56c3",
            _ => "#5f6368",
        };
        let wide = |text: &str| text.chars().count() * 7 + 12;
        Self { left: wide(&label), right: wide(&word), label, word, color }
    }
}

/// The result, or the state while there is none.
fn word(job: &JobSummary) -> &'static str {
    job.outcome.map_or_else(|| job.state.word(), Outcome::openqa)
}

fn image(params: &Params, jobs: &[&JobSummary]) -> Response {
    let mut told = stands(jobs).to_owned();
    if params.flag("show_build")
        && let Some(build) = jobs.first().and_then(|job| job.build.as_deref())
    {
        let build: String = build.chars().take(LABEL).collect();
        let _ = write!(told, " ({build})");
    }
    let badge = BadgeImage::new(params.given("label").unwrap_or("tests"), told);
    match badge.render() {
        Ok(svg) => {
            let fields = [(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "no-cache")];
            (fields, svg).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "a badge cannot be drawn");
            Fault::bad("The badge cannot be drawn.", "Report it as a bug.").into_response()
        }
    }
}

/// One word for several jobs: the worst result, else what they still do.
fn stands(jobs: &[&JobSummary]) -> &'static str {
    const ORDER: [&str; 8] = [
        "failed",
        "timeout_exceeded",
        "incomplete",
        "parallel_failed",
        "running",
        "scheduled",
        "softfailed",
        "passed",
    ];
    let words: Vec<_> = jobs
        .iter()
        .map(|job| match word(job) {
            "assigned" | "setup" | "uploading" if jobs.len() > 1 => "running",
            word => word,
        })
        .collect();
    let worst = ORDER.into_iter().find(|word| words.contains(word));
    worst.or(words.first().copied()).unwrap_or("none")
}

/// The newest job that an address asks for.
async fn asked(app: &App, params: &Params) -> Result<Vec<JobSummary>, Fault> {
    let filter = openqa::jobs::filter(app, params).map_err(openqa::Wrong::fault)?;
    Ok(app.store.summaries(&JobFilter { latest: false, limit: 1, ..filter }).await?)
}

fn refused(app: &App, fault: Fault) -> Response {
    PageFault(fault, Frame::new(app.clock.now())).into_response()
}

/// `GET /tests/latest?test=…`: to the newest job that fits.
async fn latest(State(app): State<Arc<App>>, params: Params) -> Response {
    match asked(&app, &params).await {
        Ok(jobs) => match jobs.first() {
            Some(job) => Redirect::to(&format!("/jobs/{}", job.id)).into_response(),
            None => refused(
                &app,
                Fault::not_found(
                    "No job fits.",
                    "Ask by distri, version, flavor, arch, test, machine or build.",
                ),
            ),
        },
        Err(fault) => refused(&app, fault),
    }
}

async fn latest_badge(State(app): State<Arc<App>>, params: Params) -> Response {
    match asked(&app, &params).await {
        Ok(jobs) => image(&params, &jobs.iter().collect::<Vec<_>>()),
        Err(fault) => refused(&app, fault),
    }
}

async fn job_badge(State(app): State<Arc<App>>, Path(id): Path<String>, params: Params) -> Response {
    let found = async {
        let id: JobId = crate::api::job_id(&id)?;
        let jobs =
            app.store.summaries(&JobFilter { ids: vec![id], limit: 1, ..JobFilter::default() }).await?;
        if jobs.is_empty() { Err(Fault::no_job(id)) } else { Ok(jobs) }
    };
    match found.await {
        Ok(jobs) => image(&params, &jobs.iter().collect::<Vec<_>>()),
        Err(fault) => refused(&app, fault),
    }
}

/// Of the jobs of the matrix.
async fn overview_badge(State(app): State<Arc<App>>, params: Params) -> Response {
    match matrix::find(&app, &params).await {
        Ok(found) => image(&params, &found.wanted().collect::<Vec<_>>()),
        Err(fault) => refused(&app, fault),
    }
}
