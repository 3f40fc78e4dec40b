//! What the test of a running job asks about its cluster: `lockapi` and `mmapi` over HTTP.
//!
//! The sender shows by `X-API-JobToken` which job it is; a job's token is its setting `JOBTOKEN`, and ends with the
//! attempt. Whoever waits asks again and again, as openQA's tests do: 409 is "not now", 410 "never".

use super::Wrong;
use super::params::Params;
use crate::app::App;
use assay_engine::ids::{AttemptId, JobId};
use assay_engine::io::{Answer, Input};
use assay_engine::locks::LockOp;
use assay_engine::talk::{Question, Reply};
use assay_engine::work::Held;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/whoami", get(whoami))
        .route("/mutex", post(make_mutex))
        .route("/mutex/{name}", post(use_mutex))
        .route("/barrier", post(make_barrier))
        .route("/barrier/{name}", post(wait_at_barrier).delete(remove_barrier))
        .route("/mm/children", get(children))
        .route("/mm/children/{state}", get(children_in_state))
        .route("/mm/parents", get(parents))
}

/// The attempt whose test sent the request.
struct Test(Held);

fn refused() -> Wrong {
    Wrong::new(
        StatusCode::FORBIDDEN,
        "invalid jobtoken: send X-API-JobToken with the JOBTOKEN of a job that is running",
    )
}

impl FromRequestParts<Arc<App>> for Test {
    type Rejection = Wrong;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Wrong> {
        let token = parts.headers.get("x-api-jobtoken").and_then(|token| token.to_str().ok());
        let token = token.ok_or_else(refused)?;
        let mut words = token.split('-');
        let (job, number) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (Ok(job), Ok(number)) = (job.parse(), number.parse()) else { return Err(refused()) };
        let attempt = app.attempt(AttemptId { job: JobId(job), number }).await?.ok_or_else(refused)?;
        let held = Held { attempt: attempt.row.id, token: attempt.row.token };
        if attempt.row.end.is_some() || !app.guard.is_job_token(held, token) {
            return Err(refused());
        }
        Ok(Self(held))
    }
}

impl Test {
    async fn ask(&self, app: &App, question: Question) -> Result<Reply, Wrong> {
        match app.engine.ask(Input::AskNow { held: self.0, question }).await? {
            Answer::Reply(reply) => Ok(*reply),
            other => {
                tracing::error!(answer = ?other, "the engine gave an answer to another question");
                Err(Wrong::new(StatusCode::INTERNAL_SERVER_ERROR, "The engine gave a strange answer."))
            }
        }
    }

    /// `ack` and `nack`; the reason of a refusal is in a header, because openQA's tests compare the text.
    async fn lock(&self, app: &App, lock: LockOp, never: StatusCode) -> Result<Response, Wrong> {
        Ok(match self.ask(app, Question::Lock { lock }).await? {
            Reply::Yes => "ack".into_response(),
            Reply::Refused { why } => {
                let fits = |c: char| c == ' ' || c.is_ascii_graphic();
                let why: String = why.chars().map(|c| if fits(c) { c } else { '?' }).collect();
                (never, [("x-assay-reason", why)], "nack").into_response()
            }
            _ => (StatusCode::CONFLICT, "nack").into_response(),
        })
    }

    async fn jobs(&self, app: &App, question: Question) -> Result<Vec<(i64, String)>, Wrong> {
        match self.ask(app, question).await? {
            Reply::Jobs { jobs } => Ok(jobs.into_iter().map(|job| (job.id.0, job.state)).collect()),
            Reply::Refused { why } => Err(Wrong::bad(why)),
            _ => Ok(Vec::new()),
        }
    }
}

async fn whoami(test: Test) -> Json<Value> {
    Json(json!({ "id": test.0.attempt.job.0 }))
}

fn named(params: &Params) -> Result<String, Wrong> {
    let [name] = params.required(["name"])?;
    Ok(name.to_owned())
}

async fn make_mutex(test: Test, State(app): State<Arc<App>>, params: Params) -> Result<Response, Wrong> {
    let name = named(&params)?;
    test.lock(&app, LockOp::MutexCreate { name }, StatusCode::CONFLICT).await
}

/// The job that a lock has to be of.
fn maker(params: &Params) -> Result<Option<JobId>, Wrong> {
    Ok(params.number::<i64>("where")?.map(JobId))
}

async fn use_mutex(
    test: Test,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, Wrong> {
    let owner = maker(&params)?;
    match params.given("action") {
        Some("lock") => test.lock(&app, LockOp::MutexLock { name, owner }, StatusCode::GONE).await,
        Some("unlock") => test.lock(&app, LockOp::MutexUnlock { name }, StatusCode::CONFLICT).await,
        Some(_) => Err(Wrong::parameters(&[], &["action"])),
        None => Err(Wrong::parameters(&["action"], &[])),
    }
}

async fn make_barrier(test: Test, State(app): State<Arc<App>>, params: Params) -> Result<Response, Wrong> {
    params.required(["name", "tasks"])?;
    let (name, tasks) = (named(&params)?, params.number::<u32>("tasks")?.unwrap_or(0));
    test.lock(&app, LockOp::BarrierCreate { name, tasks }, StatusCode::CONFLICT).await
}

async fn wait_at_barrier(
    test: Test,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, Wrong> {
    let (owner, check_dead_job) = (maker(&params)?, params.flag("check_dead_job"));
    test.lock(&app, LockOp::BarrierWait { name, owner, check_dead_job }, StatusCode::GONE).await
}

async fn remove_barrier(
    test: Test,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, Wrong> {
    test.lock(&app, LockOp::BarrierDestroy { name }, StatusCode::CONFLICT).await
}

async fn children(test: Test, State(app): State<Arc<App>>) -> Result<Json<Value>, Wrong> {
    let jobs = test.jobs(&app, Question::Children {}).await?;
    let states: Map<_, _> = jobs.into_iter().map(|(id, state)| (id.to_string(), json!(state))).collect();
    Ok(Json(json!({ "jobs": states })))
}

fn ids(jobs: Vec<(i64, String)>) -> Json<Value> {
    let ids: Vec<_> = jobs.into_iter().map(|(id, _)| id).collect();
    Json(json!({ "jobs": ids }))
}

async fn children_in_state(
    test: Test,
    State(app): State<Arc<App>>,
    Path(state): Path<String>,
) -> Result<Json<Value>, Wrong> {
    Ok(ids(test.jobs(&app, Question::ChildrenInState { state }).await?))
}

async fn parents(test: Test, State(app): State<Arc<App>>) -> Result<Json<Value>, Wrong> {
    Ok(ids(test.jobs(&app, Question::Parents {}).await?))
}
