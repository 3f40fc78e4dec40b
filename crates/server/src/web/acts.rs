//! What operators do to jobs by a form: cancel one, give it another priority, and one thing to all failures of a matrix.

use super::frame::{Frame, percent_encoded};
use super::matrix;
use crate::api;
use crate::api::openqa;
use crate::api::openqa::params::Params;
use crate::app::App;
use crate::auth::Sender;
use crate::fault::{Fault, PageFault};
use assay_engine::ids::JobId;
use assay_engine::sched::restart::RestartOptions;
use assay_store::CommentTarget;
use axum::Router;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::post;
use std::fmt::Write as _;
use std::sync::Arc;

/// The most failures that are started anew or commented at once.
const MOST: usize = 1_000;
/// Fields of the form of a matrix, which are no filters.
pub(super) const FIELDS: [&str; 3] = ["act", "say", "seen"];

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/jobs/{id}/cancel", post(cancel)).route("/jobs/{id}/priority", post(priority))
}

/// What somebody sees who has sent a form: the page that what was done leads to, or why it was not done.
pub(super) fn answer(app: &App, done: Result<String, Fault>) -> Response {
    match done {
        Ok(page) => Redirect::to(&page).into_response(),
        Err(fault) => PageFault(fault, Frame::new(app.clock.now())).into_response(),
    }
}

/// `POST /jobs/{id}/cancel`
async fn cancel(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
) -> Response {
    let done = async {
        sender.must_be_operator()?;
        let job = api::jobs::stored(&app, api::job_id(&id)?).await?;
        let job = job.row;
        api::jobs::cancel_one(&app, (job.id, &job.name, job.state.word()), &sender, &sender.name).await?;
        Ok(format!("/jobs/{}", job.id))
    };
    answer(&app, done.await)
}

/// `POST /jobs/{id}/priority`
async fn priority(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    params: Params,
) -> Response {
    let done = async {
        sender.must_be_operator()?;
        let job = api::jobs::stored(&app, api::job_id(&id)?).await?;
        let text = params.get("priority").unwrap_or_default().trim();
        let wanted = text.parse().map_err(|_| {
            Fault::bad(format!("{text:?} is no priority."), "Write a whole number; lower is earlier.")
        })?;
        api::jobs::prioritise(&app, &job.row, wanted, &sender).await?;
        Ok(format!("/jobs/{}", job.row.id))
    };
    answer(&app, done.await)
}

/// `POST /tests/overview?…`: one thing to the failures of this matrix, or to what has not ended. If other jobs failed
/// meanwhile, they are shown first.
pub(super) async fn many(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    params: Params,
) -> Response {
    let params = params.with_plain_lines();
    match act(&app, &sender, &params).await {
        Ok(true) => Redirect::to(&address(&params)).into_response(),
        Ok(false) => super::page(&app, matrix::build(&app, &sender, &params, true).await),
        Err(fault) => answer(&app, Err(fault)),
    }
}

/// The matrix that a form was sent from.
pub(super) fn address(params: &Params) -> String {
    let mut address = "/tests/overview?".to_owned();
    for (name, value) in params.pairs().iter().filter(|(name, _)| !FIELDS.contains(&name.as_str())) {
        let _ = write!(address, "{}={}&", percent_encoded(name), percent_encoded(value));
    }
    address.trim_end_matches(['&', '?']).to_owned()
}

/// False if nothing was done because the failures are others than those that were looked at.
async fn act(app: &Arc<App>, sender: &Sender, params: &Params) -> Result<bool, Fault> {
    sender.must_be_operator()?;
    let found = matrix::find(app, params).await?;
    let failures = found.failures();
    let said = params.given("say").map(str::trim).filter(|text| !text.is_empty());
    let said = said.map(|text| openqa::sayable(sender, text)).transpose()?;
    let act = params.given("act").unwrap_or_default();
    if act == "cancel" {
        for job in found.open() {
            // Meanwhile it may have ended by itself.
            let job = (job.id, job.name.as_str(), job.state);
            let _ended = api::jobs::cancel_one(app, job, sender, &sender.name).await;
        }
        return Ok(true);
    }
    if matrix::fingerprint(&failures) != params.get("seen").unwrap_or_default() {
        return Ok(false);
    }
    if failures.len() > MOST {
        let error = format!("{} jobs at once are too many.", failures.len());
        return Err(Fault::bad(error, format!("Restrict what is shown to {MOST} failures.")));
    }
    match (act, said) {
        ("restart", said) => {
            let options = RestartOptions { force: true, ..RestartOptions::default() };
            let _answer = api::restart::ask(app, failures, options, said, sender, false).await?;
        }
        ("comment", Some(text)) => say(app, sender, &failures, text).await?,
        ("comment", None) => return Err(Fault::bad("There is no comment.", "Go back, and write one.")),
        _ => return Err(Fault::bad(format!("{act:?} cannot be done."), "Use one of the form's buttons.")),
    }
    Ok(true)
}

async fn say(app: &Arc<App>, sender: &Sender, jobs: &[JobId], text: &str) -> Result<(), Fault> {
    for job in jobs {
        openqa::say(app, sender, CommentTarget::Job(*job), text).await?;
    }
    Ok(())
}
