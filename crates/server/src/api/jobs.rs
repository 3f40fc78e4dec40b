//! Jobs: post, list, show, wait, change, cancel, conclude, delete.

use super::openqa::Wrong;
use super::openqa::post_jobs;
use super::{job_id, merged, read};
use crate::app::App;
use crate::auth::Sender;
use crate::catalog::Catalog;
use crate::fault::Fault;
use crate::groups;
use crate::templates;
use crate::whom::Ask;
use assay_engine::ids::{GroupId, JobId};
use assay_engine::io::{Answer, Input, NewJob};
use assay_engine::job::StateWord;
use assay_engine::outcome::Outcome;
use assay_engine::product;
use assay_engine::relations::{ParentRef, Relation};
use assay_engine::rows::JobRow;
use assay_engine::settings::Settings;
use assay_proto::api::{
    CancelJob, CancelJobs, ChangeJob, Deleted, Event, Job, JobList, JobsCancelled, NumberOrName, PostJob,
    PostedJob, PostedJobs, SetResult,
};
use assay_store::{JobFilter, SettingsMap, StoreError, StoredJob};
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
/// Jobs cancelled by one request.
const MAX_CANCELLED: u32 = 10_000;
/// Jobs in one answer.
const MAX_LIMIT: u32 = 500;
/// The longest wait, seconds.
const MAX_WAIT: f64 = 600.0;

/// How parameters of openQA's API begin that are no settings, and the fields that say the same here.
const FIELDS: [(&str, &str); 4] = [
    ("_GROUP", "group"),
    ("_START_DIRECTLY_AFTER", "directly_after"),
    ("_START_", "after"),
    ("_PARALLEL", "parallel"),
];

/// `POST jobs`
pub(super) async fn post(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    body: Bytes,
) -> Result<(StatusCode, Json<PostedJobs>), Fault> {
    let jobs = new_jobs(&app.library.now(), read_jobs(&body)?)?;
    let ids = post_all(&app, jobs, &sender.name).await?;
    let posted = |id: JobId| PostedJob { id, url: format!("/jobs/{id}") };
    Ok((StatusCode::CREATED, Json(PostedJobs { jobs: ids.into_iter().map(posted).collect() })))
}

/// Posts jobs in a person's name, and notes each.
pub(crate) async fn post_all(app: &Arc<App>, jobs: Vec<NewJob>, by: &str) -> Result<Vec<JobId>, Fault> {
    let input = app.resolve_tasks(Input::PostJobs { jobs }, Ask::Others).await?;
    let names: Vec<String> = match &input {
        Input::PostJobs { jobs } => jobs.iter().map(|job| job.settings.job_name()).collect(),
        _ => Vec::new(),
    };
    match app.engine.ask(input).await? {
        Answer::Posted(ids) => {
            for (id, name) in ids.iter().zip(names) {
                app.audit(by, "job_create", json!({"id": id.0, "name": name}));
            }
            Ok(ids)
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

fn new_jobs(catalog: &Catalog, posts: Vec<PostJob>) -> Result<Vec<NewJob>, Fault> {
    let count = posts.len();
    let placed = |(index, post): (usize, PostJob)| {
        new_job(catalog, post, count).map_err(|fault| {
            let error = format!("Job {} of the request: {}", index + 1, fault.error);
            Fault::new(fault.status, error, fault.help)
        })
    };
    posts.into_iter().enumerate().map(placed).collect()
}

/// A job of a request that has `count` of them.
fn new_job(catalog: &Catalog, post: PostJob, count: usize) -> Result<NewJob, Fault> {
    for key in post.settings.keys() {
        let begins = |(begin, _): &&(&str, &str)| {
            key.get(..begin.len()).is_some_and(|start| start.eq_ignore_ascii_case(begin))
        };
        if let Some((_, field)) = FIELDS.iter().find(begins) {
            let help = format!("Use the field {field:?} beside \"settings\".");
            return Err(Fault::bad(format!("{key} is not a setting."), help));
        }
    }
    let parents = parents(&post, count)?;
    let group = post.group.as_ref().map(|group| group_named(catalog, group)).transpose()?.flatten();
    let usual = || groups::usual_priority(catalog, catalog.groups.get(&group?.0)?);
    let priority = post.priority.or_else(usual);
    let settings = if post.use_catalog {
        if post.settings.get("TEST").is_none_or(|test| test.trim().is_empty()) {
            return Err(Fault::bad("\"use_catalog\" needs the setting TEST.", "Name the suite with it."));
        }
        let told = |wrong: Wrong| wrong.told("Correct the settings, or those that the catalog has.");
        post_jobs::with_catalog(catalog, &post.settings).map_err(told)?
    } else {
        Settings::from_request(post.settings)
    };
    Fault::if_covered(settings.0.iter().map(|(key, setting)| (key.as_str(), setting.value.as_str())))?;
    Ok(NewJob { priority, group, parents, ..NewJob::new(settings) })
}

/// The group of that name, else of that number.
fn group_called(catalog: &Catalog, name: &str) -> Option<GroupId> {
    let named = catalog.group_named(name).map(|group| group.id);
    let numbered = || name.trim().parse().ok().filter(|id| catalog.groups.contains_key(id));
    named.or_else(numbered).map(GroupId)
}

/// The group that a request names; 0 is none.
fn group_named(catalog: &Catalog, group: &NumberOrName) -> Result<Option<GroupId>, Fault> {
    let (found, said) = match group {
        NumberOrName::Number(id) => (catalog.groups.contains_key(id).then_some(GroupId(*id)), id.to_string()),
        NumberOrName::Name(name) => (group_called(catalog, name), name.clone()),
    };
    if said.trim() == "0" {
        return Ok(None);
    }
    let absent = || Fault::bad(format!("There is no job group {said:?}."), "See GET /api/assay/v1/groups.");
    found.map(Some).ok_or_else(absent)
}

/// What a job depends on.
fn parents(post: &PostJob, count: usize) -> Result<Vec<(Relation, ParentRef)>, Fault> {
    let fields = [
        ("after", &post.after, Relation::Chained),
        ("directly_after", &post.directly_after, Relation::DirectlyChained),
        ("parallel", &post.parallel, Relation::Parallel),
    ];
    let mut found = Vec::new();
    for (field, named, relation) in fields {
        for one in named {
            let parent = parent(one, count).ok_or_else(|| {
                let said = match one {
                    NumberOrName::Number(number) => number.to_string(),
                    NumberOrName::Name(name) => format!("{name:?}"),
                };
                let help = format!(
                    r##"Use the number of a job, or "#1" to "#{count}" for the jobs of this request in their order."##
                );
                Fault::bad(format!("{field:?} names {said}, which is no job."), help)
            })?;
            found.push((relation, parent));
        }
    }
    Ok(found)
}

fn parent(named: &NumberOrName, count: usize) -> Option<ParentRef> {
    let existing = |id: i64| (id > 0).then_some(ParentRef::Job(JobId(id)));
    match named {
        NumberOrName::Number(id) => existing(*id),
        NumberOrName::Name(text) => match text.trim().strip_prefix('#') {
            Some(place) => {
                let place = place.parse::<usize>().ok().filter(|place| (1..=count).contains(place))?;
                Some(ParentRef::Posted(place - 1))
            }
            None => existing(text.trim().parse().ok()?),
        },
    }
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
            groups.push(Some(group_called(catalog, &name).ok_or_else(|| {
                let names = catalog.groups.values().map(|group| group.name.as_str());
                let error = format!("There is no group {name:?}{}.", product::nearest(&name, names));
                Fault::not_found(error, "See /admin/groups.")
            })?));
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
        read(&body, r#"Send nothing, or {"by": "NAME"}."#)?
    };
    // So that a job that never was and one that is over get answers of their own.
    let job = stored(&app, id).await?;
    let by = request.by.filter(|by| !by.trim().is_empty()).unwrap_or_else(|| "an administrator".into());
    let by: String = by.chars().take(100).collect();
    cancel_one(&app, (id, &job.row.name, job.row.state.word()), &sender, &by).await?;
    let job = stored(&app, id).await?;
    Ok(Json(app.present(&job).await?))
}

/// Cancels a job in a person's name; false if it was over already.
pub(crate) async fn cancel_one(
    app: &Arc<App>,
    (job, name, state): (JobId, &str, StateWord),
    sender: &Sender,
    by: &str,
) -> Result<bool, Fault> {
    if state.is_final() {
        return Ok(false);
    }
    let by = by.chars().filter(|c| !c.is_control()).take(300).collect();
    app.engine.ask(Input::CancelJob { job, by }).await?;
    app.audit(&sender.name, "job_cancel", json!({"id": job.0, "name": name}));
    Ok(true)
}

/// `POST jobs/cancel`
pub(super) async fn cancel_some(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    body: Bytes,
) -> Result<Json<JobsCancelled>, Fault> {
    const HELP: &str = r#"Send for example {"settings": {"TEST": "install"}, "build": "43.1", "group": "fedora"}; without any it would be all jobs."#;
    let request: CancelJobs = read(&body, HELP)?;
    let group = request.group.as_ref().map(|group| group_named(&app.library.now(), group)).transpose()?;
    let settings: Vec<_> = request.settings.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let build: Vec<_> = request.build.into_iter().filter(|build| !build.is_empty()).collect();
    if group.is_none() && settings.is_empty() && build.is_empty() {
        return Err(Fault::bad("The request does not say which jobs are meant.", HELP));
    }
    let groups = group.into_iter().collect();
    let cancelled =
        cancel_all(&app, JobFilter { settings, build, groups, ..JobFilter::default() }, &sender).await?;
    Ok(Json(JobsCancelled { cancelled }))
}

/// Cancels the open ones of these jobs; how many.
pub(crate) async fn cancel_open(app: &App, filter: JobFilter, by: &str) -> Result<usize, StoreError> {
    let states = StateWord::ALL.into_iter().filter(|state| !state.is_final()).collect();
    let filter = JobFilter { states, limit: MAX_CANCELLED, ..filter };
    let mut cancelled = 0;
    for job in app.store.summaries(&filter).await? {
        let input = Input::CancelJob { job: job.id, by: by.to_owned() };
        // Meanwhile it may have ended by itself.
        cancelled += usize::from(app.engine.ask(input).await.is_ok());
    }
    Ok(cancelled)
}

/// The same in a person's name.
pub(crate) async fn cancel_all(app: &Arc<App>, filter: JobFilter, sender: &Sender) -> Result<usize, Fault> {
    let mut noted = chosen(&app.library.now(), &filter);
    let cancelled = cancel_open(app, filter, &sender.name).await?;
    if cancelled > 0 {
        noted["result"] = json!(cancelled);
        app.audit(&sender.name, "job_cancel_by_settings", noted);
    }
    Ok(cancelled)
}

/// What the audit log says of jobs that were chosen by settings, build and group.
fn chosen(catalog: &Catalog, filter: &JobFilter) -> Value {
    let mut settings: SettingsMap = filter.settings.iter().cloned().collect();
    templates::cover(&mut settings);
    let groups = filter.groups.iter().flatten().filter_map(|group| catalog.groups.get(&group.0));
    let groups: Vec<_> = groups.map(|group| group.name.as_str()).collect();
    json!({"settings": settings, "build": filter.build, "groups": groups})
}

/// `PATCH jobs/{id}`
pub(super) async fn change(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Job>, Fault> {
    let id = job_id(&id)?;
    let job = stored(&app, id).await?.row;
    let before =
        ChangeJob { group: job.group.map(|group| NumberOrName::Number(group.0)), priority: job.priority };
    let wanted = merged(&before, &body).map_err(|error| {
        let help = r#"Send what is to be different, for example {"group": "fedora", "priority": 40}."#;
        Fault::bad(format!("The request cannot be read: {error}."), help)
    })?;
    let group = if wanted.group == before.group {
        job.group
    } else {
        let named = |group| group_named(&app.library.now(), group);
        wanted.group.as_ref().map(named).transpose()?.flatten()
    };
    edit(&app, &job, (wanted.priority, group), &sender).await?;
    Ok(Json(app.present(&stored(&app, id).await?).await?))
}

/// Gives a job another priority and puts it into another group, or into none, in a person's name.
pub(crate) async fn edit(
    app: &Arc<App>,
    job: &JobRow,
    (priority, group): (i32, Option<GroupId>),
    sender: &Sender,
) -> Result<(), Fault> {
    let changed = Input::Edit {
        job: job.id,
        priority: (priority != job.priority).then_some(priority),
        group: (group != job.group).then_some(group),
    };
    app.engine.ask(changed).await?;
    if (priority, group) != (job.priority, job.group) {
        let group = group.map(|group| group.0);
        let data = json!({"id": job.id.0, "name": job.name, "priority": priority, "group_id": group});
        app.audit(&sender.name, "job_update", data);
    }
    Ok(())
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
        let data = json!({"id": job.id.0, "name": job.name, "priority": priority});
        app.audit(&sender.name, "job_update", data);
    }
    Ok(())
}

/// Ends a job with this result, whatever its worker does, in a person's name; a job that has ended gets another.
pub(crate) async fn conclude(
    app: &Arc<App>,
    job: &JobRow,
    (outcome, reason): (Outcome, &str),
    sender: &Sender,
) -> Result<(), Fault> {
    let done = Input::SetDone { job: job.id, outcome, by: sender.name.clone(), reason: reason.to_owned() };
    app.engine.ask(done).await?;
    let mut noted = json!({"id": job.id.0, "name": job.name, "result": outcome.openqa(), "reason": reason});
    if let (_, Some(old)) = app.before_forced(job.id).await? {
        noted["old_result"] = json!(old.openqa());
    }
    app.audit(&sender.name, "job_done", noted);
    Ok(())
}

/// Removes a job that has ended, in a person's name.
pub(crate) async fn delete_one(app: &Arc<App>, job: &JobRow, sender: &Sender) -> Result<(), Fault> {
    match app.engine.ask(Input::DeleteJob { job: job.id }).await? {
        Answer::Done => {}
        other => return Err(unexpected(&other)),
    }
    app.audit(&sender.name, "job_delete", json!({"id": job.id.0, "name": job.name}));
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
    let request: SetResult = read(&body, r#"Send {"result": "softfailed", "reason": "seen by eye"}."#)?;
    let outcome = Outcome::from_openqa(&request.result).ok_or_else(|| {
        let known: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.openqa()).collect();
        Fault::bad(
            format!("{:?} is not a result.", request.result),
            format!("Use one of {}.", known.join(", ")),
        )
    })?;
    let job = stored(&app, id).await?;
    conclude(&app, &job.row, (outcome, request.reason.as_deref().unwrap_or_default()), &sender).await?;
    Ok(Json(app.present(&stored(&app, id).await?).await?))
}

/// `DELETE jobs/{id}`
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
) -> Result<Json<Deleted>, Fault> {
    let job = stored(&app, job_id(&id)?).await?.row;
    delete_one(&app, &job, &sender).await?;
    Ok(Json(Deleted { id: job.id.0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_or_named() {
        let jobs = read_jobs(br#"[{"settings":{"TEST":"a"}},{"settings":{},"priority":3}]"#).unwrap();
        assert_eq!((jobs.len(), jobs[1].priority), (2, Some(3)));
        let cases: [(&[u8], &str); 6] = [
            (b"{", "not JSON"),
            (br#"{"settings":{"A":5}}"#, "Job 1"),
            (br#"[{"settings":{}},{"setings":{}}]"#, "Job 2 of the request: unknown field `setings`"),
            (br#"[{"settings":{}},7]"#, "Job 2"),
            (br#"{"settings":{},"group":true}"#, "Job 1 of the request: expected a number or a name"),
            (b"\xff", "not JSON"),
        ];
        for (body, want) in cases {
            let error = read_jobs(body).unwrap_err().error;
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn parents_are_jobs_or_places_from_one() {
        let name = |text: &str| NumberOrName::Name(text.to_owned());
        for (named, want) in [
            (NumberOrName::Number(7), Some(ParentRef::Job(JobId(7)))),
            (name(" 7 "), Some(ParentRef::Job(JobId(7)))),
            (name("#1"), Some(ParentRef::Posted(0))),
            (name("#2"), Some(ParentRef::Posted(1))),
            (name("#3"), None),
            (name("#0"), None),
            (name("#"), None),
            (name("client"), None),
            (NumberOrName::Number(0), None),
        ] {
            assert_eq!(parent(&named, 2), want, "{named:?}");
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
