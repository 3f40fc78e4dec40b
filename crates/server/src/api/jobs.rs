//! Jobs: post, list, show, wait, cancel.

use super::job_id;
use crate::app::App;
use crate::auth::Sender;
use crate::catalog::Catalog;
use crate::fault::Fault;
use assay_engine::ids::{GroupId, JobId};
use assay_engine::io::{Answer, Input, NewJob};
use assay_engine::job::StateWord;
use assay_engine::outcome::Outcome;
use assay_engine::product;
use assay_engine::rows::JobRow;
use assay_engine::settings::Settings;
use assay_proto::api::{CancelJob, Deleted, Event, Job, JobList, PostJob, PostedJob, PostedJobs, SetResult};
use assay_store::{JobFilter, StoredJob};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// Jobs in one request.
const MAX_JOBS: usize = 10_000;
/// Jobs in one answer.
const MAX_LIMIT: u32 = 500;
/// The longest wait, seconds.
const MAX_WAIT: f64 = 600.0;

/// `POST jobs`
pub(super) async fn post(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    body: Bytes,
) -> Result<(StatusCode, Json<PostedJobs>), Fault> {
    let jobs = read_jobs(&body)?
        .into_iter()
        .map(|job| NewJob { priority: job.priority, ..NewJob::new(Settings::from_request(job.settings)) });
    let input = app.resolve_tasks(Input::PostJobs { jobs: jobs.collect() }).await?;
    match app.engine.ask(input).await? {
        Answer::Posted(ids) => {
            for id in &ids {
                app.audit(&sender.name, "job_create", json!({ "id": id.0 }));
            }
            let posted = |id: JobId| PostedJob { id, url: format!("/jobs/{id}") };
            Ok((StatusCode::CREATED, Json(PostedJobs { jobs: ids.into_iter().map(posted).collect() })))
        }
        other => Err(unexpected(&other)),
    }
}

fn unexpected(answer: &Answer) -> Fault {
    tracing::error!(?answer, "the engine gave an answer to another question");
    Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "The engine gave a strange answer.", "Report it as a bug.")
}

/// One job or a list of them. Every fault names the job.
fn read_jobs(body: &[u8]) -> Result<Vec<PostJob>, Fault> {
    const HELP: &str =
        r#"Send {"settings": {"TEST": "hello", …}, "priority": 50} or a list of such objects."#;
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| Fault::bad(format!("The request is not JSON: {error}."), HELP))?;
    let list = match value {
        Value::Array(list) => list,
        one => vec![one],
    };
    if list.len() > MAX_JOBS {
        let error = format!("The request has {} jobs; at most {MAX_JOBS} are allowed.", list.len());
        return Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, error, "Post them in several requests."));
    }
    let read = |(index, value): (usize, Value)| {
        serde_json::from_value(value)
            .map_err(|error| Fault::bad(format!("Job {} of the request: {error}.", index + 1), HELP))
    };
    list.into_iter().enumerate().map(read).collect()
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct ListQuery {
    #[serde(default)]
    state: String,
    #[serde(default)]
    result: String,
    #[serde(default)]
    q: String,
    /// The name of a group, or its number.
    #[serde(default)]
    group: String,
    #[serde(default)]
    distri: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    flavor: String,
    #[serde(default)]
    arch: String,
    #[serde(default)]
    test: String,
    #[serde(default)]
    machine: String,
    #[serde(default)]
    build: String,
    limit: Option<u32>,
    before: Option<i64>,
}

impl ListQuery {
    fn filter(&self, catalog: &Catalog) -> Result<JobFilter, Fault> {
        let mut groups = Vec::new();
        for name in words(&self.group) {
            let found = catalog.group_named(&name).map(|group| group.id);
            let numbered = || name.parse().ok().filter(|id| catalog.groups.contains_key(id));
            groups.push(Some(GroupId(found.or_else(numbered).ok_or_else(|| {
                let names = catalog.groups.values().map(|group| group.name.as_str());
                let error = format!("There is no group {name:?}{}.", product::nearest(&name, names));
                Fault::not_found(error, "See /admin/groups.")
            })?)));
        }
        Ok(JobFilter {
            groups,
            distri: words(&self.distri),
            version: words(&self.version),
            flavor: words(&self.flavor),
            arch: words(&self.arch),
            test: words(&self.test),
            machine: words(&self.machine),
            build: words(&self.build),
            ..filter_of(&self.state, &self.result, &self.q)?
        })
    }
}

/// The words of a comma list.
fn words(text: &str) -> Vec<String> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// Comma lists of state and result words to a filter; a wrong word is refused with the right ones.
pub(crate) fn filter_of(state: &str, result: &str, q: &str) -> Result<JobFilter, Fault> {
    let unknown = |what: &str, word: &str, known: Vec<&str>| {
        Fault::bad(format!("{word:?} is not a {what}."), format!("Use one of {}.", known.join(", ")))
    };
    let mut states = Vec::new();
    for word in words(state) {
        let meant = StateWord::meant_by(&word);
        if meant.is_empty() {
            return Err(unknown("state", &word, StateWord::ALL.iter().map(|state| state.word()).collect()));
        }
        states.extend(meant);
    }
    let mut outcomes = Vec::new();
    for word in words(result) {
        let meant = Outcome::meant_by(&word);
        if meant.is_empty() {
            return Err(unknown(
                "result",
                &word,
                Outcome::ALL.iter().map(|outcome| outcome.openqa()).collect(),
            ));
        }
        outcomes.extend(meant);
    }
    let text = Some(q.trim().to_owned()).filter(|text| !text.is_empty());
    Ok(JobFilter { states, outcomes, text, ..JobFilter::default() })
}

/// `GET jobs`
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<JobList>, Fault> {
    let limit = query.limit.unwrap_or(100).clamp(1, MAX_LIMIT);
    let filter = query.filter(&app.library.now())?;
    // One more than asked for tells whether there are more.
    let filter = JobFilter { limit: limit + 1, before: query.before.map(JobId), ..filter };
    let mut stored = app.store.jobs(&filter).await?;
    let more = stored.len() > limit as usize;
    stored.truncate(limit as usize);
    let mut jobs = Vec::new();
    for job in &stored {
        jobs.push(app.present(job).await?);
    }
    let next_before = jobs.last().filter(|_| more).map(|job| job.id);
    Ok(Json(JobList { jobs, next_before }))
}

pub(crate) async fn stored(app: &App, id: JobId) -> Result<StoredJob, Fault> {
    app.store.job(id).await?.ok_or_else(|| Fault::no_job(id))
}

/// `GET jobs/{id}`
pub(super) async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Job>, Fault> {
    let job = stored(&app, job_id(&id)?).await?;
    Ok(Json(app.present(&job).await?))
}

#[derive(Debug, Deserialize)]
pub(super) struct WaitQuery {
    timeout: Option<f64>,
}

/// `GET jobs/{id}/wait`
pub(super) async fn wait(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(query): Query<WaitQuery>,
) -> Result<Json<Job>, Fault> {
    let id = job_id(&id)?;
    let seconds = query.timeout.unwrap_or(60.0);
    if !seconds.is_finite() || seconds < 0.0 {
        return Err(Fault::bad("The timeout is not a number of seconds.", "Use for example timeout=60."));
    }
    // Listening begins before the first look, so that no change is missed in between.
    let mut events = app.events.subscribe();
    let finals = async {
        loop {
            let job = stored(&app, id).await?;
            if job.row.state.is_final() {
                return Ok(job);
            }
            loop {
                match events.recv().await {
                    Ok(Event::Job { id: changed }) if changed == id => break,
                    Ok(Event::Missed) | Err(RecvError::Lagged(_)) => break,
                    Ok(_) => {}
                    Err(RecvError::Closed) => return Err(Fault::later("The server is stopping.", 5)),
                }
            }
        }
    };
    let job = tokio::select! {
        job = finals => job?,
        () = tokio::time::sleep(Duration::from_secs_f64(seconds.min(MAX_WAIT))) => stored(&app, id).await?,
        () = app.shutdown.cancelled() => return Err(Fault::later("The server is stopping.", 5)),
    };
    Ok(Json(app.present(&job).await?))
}

/// `POST jobs/{id}/cancel`
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Job>, Fault> {
    let id = job_id(&id)?;
    let request: CancelJob = if body.is_empty() {
        CancelJob::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| {
            Fault::bad(format!("The request cannot be read: {error}."), r#"Send nothing, or {"by": "NAME"}."#)
        })?
    };
    // So that a job that never was and one that is over get answers of their own.
    let job = stored(&app, id).await?;
    let by = request.by.filter(|by| !by.trim().is_empty()).unwrap_or_else(|| "an administrator".into());
    let by: String = by.chars().take(100).collect();
    cancel_one(&app, (id, job.row.state.word()), &sender, &by).await?;
    let job = stored(&app, id).await?;
    Ok(Json(app.present(&job).await?))
}

/// Cancels a job in a person's name; false if it was over already.
pub(crate) async fn cancel_one(
    app: &Arc<App>,
    (job, state): (JobId, StateWord),
    sender: &Sender,
    by: &str,
) -> Result<bool, Fault> {
    if state.is_final() {
        return Ok(false);
    }
    let by = by.chars().filter(|c| !c.is_control()).take(300).collect();
    app.engine.ask(Input::CancelJob { job, by }).await?;
    app.audit(&sender.name, "job_cancel", json!({ "id": job.0 }));
    Ok(true)
}

/// Gives a job another priority in a person's name.
pub(crate) async fn prioritise(
    app: &Arc<App>,
    job: &JobRow,
    priority: i32,
    sender: &Sender,
) -> Result<(), Fault> {
    app.engine.ask(Input::Edit { job: job.id, priority: Some(priority), group: None }).await?;
    if job.priority != priority {
        app.audit(&sender.name, "job_update", json!({"id": job.id.0, "priority": priority}));
    }
    Ok(())
}

/// Ends a job with this result, whatever its worker does, in a person's name; a job that has ended gets another.
pub(crate) async fn conclude(
    app: &Arc<App>,
    job: JobId,
    (outcome, reason): (Outcome, &str),
    sender: &Sender,
) -> Result<(), Fault> {
    let (by, reason) = (sender.name.clone(), reason.to_owned());
    app.engine.ask(Input::SetDone { job, outcome, by, reason }).await?;
    app.audit(&sender.name, "job_done", json!({"id": job.0, "result": outcome.openqa()}));
    Ok(())
}

/// Removes a job that has ended, in a person's name.
pub(crate) async fn delete_one(app: &Arc<App>, job: JobId, sender: &Sender) -> Result<(), Fault> {
    match app.engine.ask(Input::DeleteJob { job }).await? {
        Answer::Done => {}
        other => return Err(unexpected(&other)),
    }
    app.audit(&sender.name, "job_delete", json!({ "id": job.0 }));
    Ok(())
}

/// `POST jobs/{id}/result`
pub(super) async fn set_result(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Job>, Fault> {
    let id = job_id(&id)?;
    let request: SetResult = serde_json::from_slice(&body).map_err(|error| {
        let help = r#"Send {"result": "softfailed", "reason": "seen by eye"}."#;
        Fault::bad(format!("The request cannot be read: {error}."), help)
    })?;
    let outcome = Outcome::from_openqa(&request.result).ok_or_else(|| {
        let known: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.openqa()).collect();
        Fault::bad(
            format!("{:?} is not a result.", request.result),
            format!("Use one of {}.", known.join(", ")),
        )
    })?;
    let job = stored(&app, id).await?;
    conclude(&app, job.row.id, (outcome, request.reason.as_deref().unwrap_or_default()), &sender).await?;
    Ok(Json(app.present(&stored(&app, id).await?).await?))
}

/// `DELETE jobs/{id}`
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
) -> Result<Json<Deleted>, Fault> {
    let job = stored(&app, job_id(&id)?).await?.row.id;
    delete_one(&app, job, &sender).await?;
    Ok(Json(Deleted { id: job.0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_or_named() {
        let jobs = read_jobs(br#"[{"settings":{"TEST":"a"}},{"settings":{},"priority":3}]"#).unwrap();
        assert_eq!((jobs.len(), jobs[1].priority), (2, Some(3)));
        let cases: [(&[u8], &str); 5] = [
            (b"{", "not JSON"),
            (br#"{"settings":{"A":5}}"#, "Job 1"),
            (br#"[{"settings":{}},{"setings":{}}]"#, "Job 2 of the request: unknown field `setings`"),
            (br#"[{"settings":{}},7]"#, "Job 2"),
            (b"\xff", "not JSON"),
        ];
        for (body, want) in cases {
            let error = read_jobs(body).unwrap_err().error;
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn filters_are_read_or_corrected() {
        let filter = filter_of("running, done", "failed", " grub ").unwrap();
        assert_eq!(filter.states, [StateWord::Running, StateWord::Done]);
        assert_eq!((filter.outcomes, filter.text), (vec![Outcome::Failed], Some("grub".into())));
        let fault = filter_of("finished", "", "").unwrap_err();
        assert!(fault.help.contains("scheduled, assigned"), "{}", fault.help);
    }
}
