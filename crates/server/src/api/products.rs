//! Posts of products: post, plan, list.

use super::openqa::isos;
use crate::app::App;
use crate::auth::Sender;
use crate::fault::{Fault, sentence};
use crate::products::noted;
use crate::web::frame::rfc3339;
use assay_engine::ids::ProductRunId;
use assay_engine::outcome::Outcome;
use assay_engine::product::{Catalog, Plan, Refused, Request};
use assay_engine::rows::{ProductRunRow, RunProblem};
use assay_proto::api::PostedJob;
use assay_proto::api::products::{
    PostProduct, ProductCancelled, ProductJob, ProductJobs, ProductNote, ProductPosted, ProductRun,
    ProductRuns, Remark,
};
use assay_store::{JobSummary, RunFilter, RunMark};
use axum::body::Bytes;
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use std::sync::Arc;

/// Posts in one answer if nobody says how many, and at most.
pub(crate) const USUAL: u32 = 50;
const MOST: u32 = 500;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/products", get(list).post(create))
        .route("/products/plan", post(plan))
        .route("/products/{id}", get(show))
        .route("/products/{id}/jobs", get(jobs))
        .route("/products/{id}/cancel", post(cancel))
        .route("/products/{id}/note", put(note))
}

fn read(body: &[u8]) -> Result<(Request, Option<Catalog>), Fault> {
    const HELP: &str =
        r#"Send {"settings": {"DISTRI": "fedora", "VERSION": "43", "FLAVOR": "…", "ARCH": "x86_64", …}}."#;
    let post: PostProduct = serde_json::from_slice(body)
        .map_err(|error| Fault::bad(format!("The request cannot be read: {error}."), HELP))?;
    let mut pairs: Vec<_> = post.settings.into_iter().collect();
    let mut name = "SCENARIO_DEFINITIONS_YAML".to_owned();
    if let Some(file) = post.scenarios {
        pairs.push((name, file.text));
        name = file.name;
    }
    let scenarios = isos::scenarios(&mut pairs, &name).map_err(|wrong| {
        let fault = wrong.fault();
        Fault::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            fault.error,
            "Correct the scenario definitions; nothing was made.",
        )
    })?;
    Fault::if_covered(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())))?;
    let request = Request::parse(pairs).map_err(|bad| Fault::bad(sentence(&bad.to_string()), ""))?;
    Ok((request, scenarios))
}

fn planned(app: &App, request: &Request, scenarios: Option<Catalog>) -> Plan {
    match scenarios {
        Some(scenarios) => app.plan_scenarios(request, scenarios),
        None => app.plan_product(request),
    }
}

fn refused(refused: &Refused) -> Fault {
    let status = match refused {
        Refused::NoProduct { .. } | Refused::NoTemplates { .. } | Refused::NoGroup { .. } => {
            StatusCode::NOT_FOUND
        }
        Refused::NoJobs => StatusCode::BAD_REQUEST,
    };
    Fault::new(status, sentence(&refused.to_string()), "See `assay product plan` for what would be made.")
}

/// What a post would come to: nothing is stored.
async fn plan(State(app): State<Arc<App>>, body: Bytes) -> Result<Json<Plan>, Fault> {
    let (request, scenarios) = read(&body)?;
    let mut plan = planned(&app, &request, scenarios);
    app.tell_old_jobs(&mut plan).await?;
    Ok(Json(plan))
}

async fn create(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    body: Bytes,
) -> Result<(StatusCode, Json<ProductPosted>), Fault> {
    let (request, scenarios) = read(&body)?;
    let plan = planned(&app, &request, scenarios);
    let posted = match app.post_planned(plan, &request, &sender.name).await? {
        Ok(posted) => posted,
        Err(not) => {
            return Err(not
                .plan
                .refused
                .as_ref()
                .map_or_else(|| Fault::bad("Nothing was made.", ""), refused));
        }
    };
    app.audit(&sender.name, "iso_create", noted(posted.run, &request.posted));
    let job = |id: assay_engine::ids::JobId| PostedJob { id, url: format!("/jobs/{id}") };
    let left = posted.plan.left_out.iter().map(|left| Remark {
        job: left.job.clone(),
        why: vec![left.sentence()],
        made: None,
    });
    let failed = posted.plan.failed.iter().map(|one| Remark {
        job: one.job.clone(),
        why: one.problems.clone(),
        made: Some(one.made.is_some()),
    });
    Ok((
        StatusCode::CREATED,
        Json(ProductPosted {
            id: posted.run.0,
            jobs: posted.jobs.iter().copied().map(job).collect(),
            obsoleted: posted.obsoleted.iter().map(|job| job.0).collect(),
            failed: failed.collect(),
            left_out: left.collect(),
            notes: posted.plan.notes.clone(),
        }),
    ))
}

fn remark(problem: &RunProblem) -> Remark {
    Remark { job: problem.job.clone(), why: problem.problems.clone(), made: None }
}

fn failure(problem: &RunProblem) -> Remark {
    Remark { made: Some(problem.made.is_some()), ..remark(problem) }
}

fn shown(row: &ProductRunRow, mark: Option<&RunMark>) -> ProductRun {
    ProductRun {
        id: row.id.0,
        posted: rfc3339(row.created_at),
        by: row.run.by.clone(),
        settings: row.run.settings.clone(),
        jobs: row.jobs.iter().map(|job| job.0).collect(),
        obsoleted: row.obsoleted.iter().map(|job| job.0).collect(),
        failed: row.run.failed.iter().map(failure).collect(),
        left_out: row.run.left_out.iter().map(remark).collect(),
        refused: row.run.refused.clone(),
        note: mark.and_then(|mark| mark.note.clone()),
        cancelled_by: mark.and_then(|mark| mark.cancelled_by.clone()),
    }
}

/// Which posts are listed. What is empty restricts nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ListQuery {
    pub(crate) distri: String,
    pub(crate) version: String,
    pub(crate) flavor: String,
    pub(crate) arch: String,
    pub(crate) build: String,
    pub(crate) before: Option<i64>,
    limit: Option<u32>,
}

impl ListQuery {
    /// So many of them, unless the address says otherwise.
    pub(crate) fn filter(&self, usual: u32) -> RunFilter {
        let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        RunFilter {
            distri: given(&self.distri),
            version: given(&self.version),
            flavor: given(&self.flavor),
            arch: given(&self.arch),
            build: given(&self.build),
            before: self.before.map(ProductRunId),
            limit: self.limit.unwrap_or(usual).clamp(1, MOST),
            ..RunFilter::default()
        }
    }
}

async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<ProductRuns>, Fault> {
    let filter = query.filter(USUAL);
    let runs = app.store.product_runs(&filter).await?;
    let ids: Vec<_> = runs.iter().map(|run| run.id).collect();
    let marks = app.store.knowledge().run_marks(&ids).await?;
    Ok(Json(ProductRuns { products: runs.iter().map(|run| shown(run, marks.get(&run.id))).collect() }))
}

/// The post of an address.
pub(crate) async fn found(app: &App, id: &str) -> Result<ProductRunRow, Fault> {
    let absent =
        || Fault::not_found(format!("There is no post of a product {id:?}."), "See `assay product list`.");
    let number = id.parse().map_err(|_| absent())?;
    app.store.product_run(ProductRunId(number)).await?.ok_or_else(absent)
}

async fn told(app: &App, run: &ProductRunRow) -> Result<Json<ProductRun>, Fault> {
    let marks = app.store.knowledge().run_marks(&[run.id]).await?;
    Ok(Json(shown(run, marks.get(&run.id))))
}

async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<ProductRun>, Fault> {
    told(&app, &found(&app, &id).await?).await
}

/// How the jobs of a post stand.
async fn jobs(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<ProductJobs>, Fault> {
    let run = found(&app, &id).await?;
    let job = |job: JobSummary| ProductJob {
        id: job.id.0,
        name: job.name,
        state: job.state.word().to_owned(),
        result: job.outcome.map_or("none", Outcome::openqa).to_owned(),
    };
    Ok(Json(ProductJobs { jobs: isos::standing(&app, &run).await?.into_iter().map(job).collect() }))
}

/// Cancels the jobs of a post that have not ended, in a person's name; how many those were.
pub(crate) async fn cancel_jobs(app: &Arc<App>, id: &str, by: &str) -> Result<usize, Fault> {
    let run = found(app, id).await?;
    let cancelled = isos::cancel_run(app, &run, by).await;
    let cancelled = cancelled.map_err(|wrong| wrong.told("See the server's log."))?;
    app.audit(by, "iso_cancel", noted(run.id, &run.run.settings));
    Ok(cancelled)
}

async fn cancel(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
) -> Result<Json<ProductCancelled>, Fault> {
    Ok(Json(ProductCancelled { cancelled: cancel_jobs(&app, &id, &sender.name).await? }))
}

/// Writes something for people beside a post.
async fn note(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<ProductRun>, Fault> {
    let help = r#"Send {"note": "the mirror was broken"}; an empty text takes the note away."#;
    let said: ProductNote = super::read(&body, help)?;
    if !isos::is_note(&said.note) {
        let help = format!("Send at most {} bytes without a NUL.", isos::LONGEST_NOTE);
        return Err(Fault::bad("The note cannot be kept.", help));
    }
    let run = found(&app, &id).await?;
    isos::note_run(&app, &run, &said.note, &sender.name).await?;
    told(&app, &run).await
}
