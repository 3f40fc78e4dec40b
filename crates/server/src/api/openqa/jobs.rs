//! Jobs: list, one, post, cancel, priority, result, removal.

use super::job_view::{self, Relatives};
use super::params::Params;
use super::{Operator, Wrong, number};
use crate::api::jobs::{cancel_all, cancel_one, conclude, delete_one, edit, prioritise};
use crate::app::App;
use crate::auth::{Role, Sender};
use crate::catalog::Catalog;
use crate::told::{Form, Mark};
use crate::web::matrix;
use assay_engine::decision::glob_match;
use assay_engine::ids::{GroupId, JobId};
use assay_engine::job::StateWord;
use assay_engine::outcome::Outcome;
use assay_engine::settings::is_secret_name;
use assay_store::{Column, Group, JobFilter, Scope, StoreError, StoredJob};
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use regex::{Regex, RegexBuilder};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;

/// Jobs in one answer, usually and at most.
const ROWS: (u32, u32) = (1_000, 10_000);
/// Jobs in an overview.
const OVERVIEW: u32 = 10_000;
/// How many of the newest jobs are looked through for a value in a list.
const WINDOW: u32 = 20_000;
/// How many of the newest jobs are looked through for a module.
const MODULES_WINDOW: u32 = 2_000;
/// How many jobs with all their settings are read at once.
const PIECE: u32 = 1_000;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/jobs", get(list).post(super::post_jobs::create))
        .route("/jobs/overview", get(overview))
        .route("/jobs/cancel", post(cancel_many))
        .route("/jobs/{id}", get(show).put(update).delete(remove))
        .route("/jobs/{id}/details", get(details))
        .route("/jobs/{id}/cancel", post(cancel))
        .route("/jobs/{id}/prio", post(prio))
        .route("/jobs/{id}/set_done", post(set_done))
        .route("/experimental/jobs/{id}/status", get(status))
        .route("/job_settings/jobs", get(by_setting))
        .route("/job_groups/{id}/jobs", get(of_group))
}

pub(super) fn no_job() -> Wrong {
    Wrong::not_found("Job does not exist")
}

/// The job of an address.
pub(super) async fn found(app: &App, id: &str) -> Result<StoredJob, Wrong> {
    let id: i64 = id.parse().map_err(|_| no_job())?;
    app.store.job(JobId(id)).await?.ok_or_else(no_job)
}

pub(crate) fn texts(params: &Params, name: &str) -> Vec<String> {
    params.list(name).into_iter().map(str::to_owned).collect()
}

/// What a request asks of jobs. All words that mean nothing are said at once.
pub(crate) fn filter(app: &App, params: &Params) -> Result<JobFilter, Wrong> {
    let mut invalid: Vec<String> = params
        .pairs()
        .iter()
        .filter_map(|(name, _)| name.strip_suffix("[]").unwrap_or(name).strip_suffix("__not"))
        .filter(|name| !INVERTED.contains(name) && Column::ALL.iter().all(|column| column.name() != *name))
        .map(|name| format!("{name}__not"))
        .collect();
    let mut filter = JobFilter::default();
    for id in params.list("ids") {
        match id.parse() {
            Ok(id) => filter.ids.push(JobId(id)),
            Err(_) => invalid.push("ids".to_owned()),
        }
    }
    let mut nothing = false;
    if let Some(states) = chosen(params, "state", &StateWord::ALL, StateWord::meant_by, &mut invalid) {
        nothing |= states.is_empty();
        filter.states = states;
    }
    let results: Vec<_> = Outcome::ALL.into_iter().map(Some).chain([None]).collect();
    let meant = |word: &str| match word {
        "none" => vec![None],
        word => Outcome::meant_by(word).into_iter().map(Some).collect(),
    };
    if let Some(results) = chosen(params, "result", &results, meant, &mut invalid) {
        nothing |= results.is_empty();
        filter.unfinished_too = results.contains(&None);
        filter.outcomes = results.into_iter().flatten().collect();
    }
    if nothing {
        filter.ids = vec![NO_JOB];
    }
    for (name, into) in [("groupid", true), ("not_groupid", false)] {
        for id in params.list(name) {
            match id.parse::<i64>() {
                Ok(0) if into => filter.groups.push(None),
                Ok(id) if into => filter.groups.push(Some(GroupId(id))),
                Ok(id) => filter.not_groups.push(GroupId(id)),
                Err(_) => invalid.push(name.to_owned()),
            }
        }
    }
    match params.given("scope") {
        None => {}
        Some("current") => filter.scope = Scope::Current,
        Some("relevant") => filter.scope = Scope::Relevant,
        Some(_) => invalid.push("scope".to_owned()),
    }
    if !invalid.is_empty() {
        invalid.dedup();
        return Err(Wrong::parameters(&[], &invalid.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    named_groups(&app.library.now(), params, &mut filter);
    for column in Column::ALL {
        let unlike = params.list(&format!("{}__not", column.name())).into_iter();
        filter.unlike.extend(unlike.map(|value| (column, value.to_owned())));
    }
    filter.distri = texts(params, "distri");
    filter.version = texts(params, "version");
    filter.flavor = texts(params, "flavor");
    filter.arch = texts(params, "arch");
    filter.test = texts(params, "test");
    filter.machine = texts(params, "machine");
    filter.build = texts(params, "build");
    for (name, key) in [("iso", "ISO"), ("hdd_1", "HDD_1"), ("worker_class", "WORKER_CLASS")] {
        filter.settings.extend(params.given(name).map(|value| (key.to_owned(), value.to_owned())));
    }
    for pair in params.all("job_setting") {
        let (key, value) = pair.split_once('=').ok_or_else(|| Wrong::parameters(&[], &["job_setting"]))?;
        not_secret(key)?;
        filter.settings.push((key.to_owned(), value.to_owned()));
    }
    filter.latest = params.flag("latest");
    filter.before = params.number("before")?.map(JobId);
    filter.after = params.number("after")?.map(JobId);
    Ok(filter)
}

/// Parameters that may be turned round by `__not`, beside the columns.
const INVERTED: [&str; 3] = ["state", "result", "modules_result"];
/// The number of no job, for a list that nothing can be in.
const NO_JOB: JobId = JobId(-1);

/// Of all values those that a parameter asks for and that its `__not` does not; `None` if neither is given. Words that
/// mean nothing are named.
fn chosen<T: Copy + PartialEq>(
    params: &Params,
    name: &str,
    all: &[T],
    meaning: impl Fn(&str) -> Vec<T>,
    invalid: &mut Vec<String>,
) -> Option<Vec<T>> {
    let mut values = |name: &str| {
        let words = params.list(name);
        let meant: Vec<_> = words.iter().map(|word| meaning(word)).collect();
        if meant.iter().any(Vec::is_empty) {
            invalid.push(name.to_owned());
        }
        (!words.is_empty()).then(|| meant.concat())
    };
    let (wanted, unwanted) = (values(name), values(&format!("{name}__not")));
    if wanted.is_none() && unwanted.is_none() {
        return None;
    }
    let fits = |value: &T| {
        wanted.as_ref().is_none_or(|wanted| wanted.contains(value))
            && unwanted.as_ref().is_none_or(|unwanted| !unwanted.contains(value))
    };
    Some(all.iter().copied().filter(fits).collect())
}

/// The groups that are asked for or left out by their names: one, or those that patterns fit.
fn named_groups(catalog: &Catalog, params: &Params, filter: &mut JobFilter) {
    let fitting = |name: &str| {
        let patterns = params.list(name);
        let fits = |group: &&Arc<Group>| patterns.iter().any(|pattern| glob_match(pattern, &group.name));
        catalog.groups.values().filter(fits).map(|group| GroupId(group.id)).collect::<Vec<_>>()
    };
    if let Some(name) = params.given("group") {
        let named = catalog.groups.values().filter(|group| group.name == name);
        filter.groups.extend(named.map(|group| Some(GroupId(group.id))));
    }
    filter.groups.extend(fitting("group_glob").into_iter().map(Some));
    let by_name = params.given("group").is_some() || !params.list("group_glob").is_empty();
    if by_name && filter.groups.is_empty() {
        filter.groups.push(Some(GroupId(-1)));
    }
    filter.not_groups.extend(fitting("not_group_glob"));
}

async fn list(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    params: Params,
) -> Result<(HeaderMap, Bytes), Wrong> {
    let (limit, offset) = params.page(ROWS.0, ROWS.1)?;
    // One more than asked for tells whether there are more.
    let mut filter = JobFilter { limit: limit + 1, offset, ..filter(&app, &params)? };
    if let Some(wanted) = Modules::of(&params)? {
        (filter.ids, filter.offset) = (with_modules(&app, &filter, &wanted).await?, 0);
    }
    let unredacted = params.flag("unredacted") && may_see_secrets(&sender);
    let known = if unredacted { None } else { listed_from_texts(&app, &filter).await? };
    let mut texts = if let Some(texts) = known {
        texts
    } else {
        let mark = app.told.mark();
        listed(&app, &app.store.jobs(&filter).await?, unredacted, mark).await?
    };
    let more = texts.len() > limit as usize;
    texts.truncate(limit as usize);
    let mut body = Vec::with_capacity(texts.iter().map(|text| text.len() + 1).sum::<usize>() + 16);
    body.extend_from_slice(b"{\"jobs\":[");
    for (number, text) in texts.iter().rev().enumerate() {
        if number > 0 {
            body.push(b',');
        }
        body.extend_from_slice(text);
    }
    body.extend_from_slice(b"]}");
    let mut headers = params.links("/api/v1/jobs", (limit, offset), more);
    headers.insert(header::CONTENT_TYPE, JSON);
    Ok((headers, body.into()))
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The entries of these jobs in a list, in the same order.
async fn listed(
    app: &App,
    jobs: &[StoredJob],
    unredacted: bool,
    mark: Mark,
) -> Result<Vec<Bytes>, StoreError> {
    let mut relatives = Relatives::of(app, jobs).await?;
    relatives.unredacted = unredacted;
    let mut texts = Vec::with_capacity(jobs.len());
    for job in jobs {
        let mut told = relatives.job(job);
        let (modules, settled) = job_view::modules_of(app, job).await?;
        told["modules"] = modules.into();
        let text = Bytes::from(told.to_string());
        // Whether its parents have passed is not among what is known to change.
        if !unredacted && settled && job.row.parents.is_empty() {
            app.told.keep(mark, relatives.catalog(), Form::Listed, job.row.id, text.clone());
        }
        texts.push(text);
    }
    Ok(texts)
}

/// What a request asks of the modules of jobs.
pub(crate) struct Modules {
    names: Vec<String>,
    results: Option<Vec<&'static str>>,
    /// Of the name, or of the folder and the name.
    pattern: Option<Regex>,
    /// One of these has failed.
    failed: Vec<String>,
}

/// The memory that a pattern of a request may have, bytes.
const PATTERN: usize = 1 << 20;

impl Modules {
    pub(crate) fn of(params: &Params) -> Result<Option<Self>, Wrong> {
        let names = texts(params, "modules");
        let known =
            |word: &str| job_view::MODULE_RESULTS.into_iter().filter(|known| *known == word).collect();
        let mut invalid = Vec::new();
        let results = chosen(params, "modules_result", &job_view::MODULE_RESULTS, known, &mut invalid);
        if let Some(name) = invalid.first() {
            return Err(Wrong::parameters(&[], &[name]));
        }
        let pattern = params.given("module_re").map(|text| {
            let pattern = RegexBuilder::new(text).size_limit(PATTERN).build();
            pattern.map_err(|_| Wrong::parameters(&[], &["module_re"]))
        });
        let (pattern, failed) = (pattern.transpose()?, texts(params, "failed_modules"));
        let any = !names.is_empty() || results.is_some() || pattern.is_some() || !failed.is_empty();
        Ok(any.then_some(Self { names, results, pattern, failed }))
    }

    fn fits(&self, module: &Value) -> bool {
        let matches = |pattern: &Regex| {
            let word = |key: &str| module[key].as_str().unwrap_or_default();
            let (folder, name) = (word("category"), word("name"));
            pattern.is_match(name) || pattern.is_match(&format!("{folder}/{name}"))
        };
        (self.names.is_empty() || self.names.iter().any(|name| module["name"] == name.as_str()))
            && self.results.as_ref().is_none_or(|all| all.iter().any(|result| module["result"] == *result))
            && self.pattern.as_ref().is_none_or(matches)
    }

    fn has_failed(&self, module: &Value) -> bool {
        module["result"] == "failed" && self.failed.iter().any(|name| module["name"] == name.as_str())
    }

    async fn fit(&self, app: &App, job: &StoredJob) -> Result<bool, StoreError> {
        let modules = job_view::modules_of(app, job).await?.0;
        let failed = self.failed.is_empty() || modules.iter().any(|module| self.has_failed(module));
        Ok(failed && modules.iter().any(|module| self.fits(module)))
    }

    /// Those of the jobs, the newest first, that have such a module; and whether there are more than are looked at.
    pub(crate) async fn among(
        &self,
        app: &App,
        jobs: &[JobId],
    ) -> Result<(HashSet<JobId>, bool), StoreError> {
        let most = jobs.len().min(MODULES_WINDOW as usize);
        let mut fit = HashSet::new();
        for piece in jobs[..most].chunks(PIECE as usize) {
            let filter = JobFilter { ids: piece.to_vec(), limit: PIECE, ..JobFilter::default() };
            for job in app.store.jobs(&filter).await? {
                if self.fit(app, &job).await? {
                    fit.insert(job.row.id);
                }
            }
        }
        Ok((fit, most < jobs.len()))
    }
}

/// Those of the newest jobs of a filter, on its page, that have such a module; a number that no job has if there are
/// none.
async fn with_modules(app: &App, filter: &JobFilter, wanted: &Modules) -> Result<Vec<JobId>, Wrong> {
    let (mut ids, mut before, mut left) = (Vec::new(), filter.before, MODULES_WINDOW);
    let enough = filter.offset as usize + filter.limit as usize;
    while left > 0 && ids.len() < enough {
        let limit = left.min(PIECE);
        let jobs = app.store.jobs(&JobFilter { before, limit, offset: 0, ..filter.clone() }).await?;
        for job in &jobs {
            if wanted.fit(app, job).await? {
                ids.push(job.row.id);
            }
        }
        left -= limit;
        before = jobs.last().map(|job| job.row.id);
        if jobs.len() < limit as usize {
            break;
        }
    }
    let mut page: Vec<_> = ids.into_iter().skip(filter.offset as usize).take(filter.limit as usize).collect();
    if page.is_empty() {
        page.push(NO_JOB);
    }
    Ok(page)
}

/// The same with as few rows read as possible; `None` if something has changed meanwhile, so that what was chosen might
/// not be what is told.
async fn listed_from_texts(app: &App, filter: &JobFilter) -> Result<Option<Vec<Bytes>>, StoreError> {
    let (mark, catalog) = (app.told.mark(), app.library.now());
    let ids = app.store.ids(filter).await?;
    let mut texts = app.told.texts(&catalog, Form::Listed, &ids);
    let pairs = || ids.iter().zip(&texts);
    let missing: Vec<_> = pairs().filter(|(_, text)| text.is_none()).map(|(id, _)| *id).collect();
    if missing.len() > ids.len() / 2 {
        return Ok(None);
    }
    if !missing.is_empty() {
        let limit = u32::try_from(missing.len()).unwrap_or(u32::MAX);
        let jobs = app.store.jobs(&JobFilter { ids: missing, limit, ..JobFilter::default() }).await?;
        let mut made = jobs.iter().map(|job| job.row.id).zip(listed(app, &jobs, false, mark).await?);
        let mut next = made.next();
        for (id, text) in ids.iter().zip(&mut texts) {
            if next.as_ref().is_some_and(|(made, _)| made == id) {
                *text = next.take().map(|(_, text)| text);
                next = made.next();
            }
        }
    }
    Ok(if app.told.mark() == mark { texts.into_iter().collect() } else { None })
}

fn may_see_secrets(sender: &Sender) -> bool {
    matches!(sender.role, Role::Operator | Role::Admin)
}

/// The job that took the place of this one, at the end of all clones.
async fn followed(app: &App, job: StoredJob, params: &Params) -> Result<StoredJob, Wrong> {
    let mut job = job;
    if params.flag("follow") {
        while let Some(next) = job.row.cloned_as.filter(|next| *next > job.row.id) {
            job = app.store.job(next).await?.ok_or_else(no_job)?;
        }
    }
    Ok(job)
}

/// A job, and whether this stays as it is until rows of the job change.
async fn told(
    app: &App,
    sender: &Sender,
    id: &str,
    params: &Params,
    with_details: bool,
) -> Result<(Value, bool), Wrong> {
    let job = followed(app, found(app, id).await?, params).await?;
    told_of(app, sender, job, params, with_details).await
}

async fn told_of(
    app: &App,
    sender: &Sender,
    job: StoredJob,
    params: &Params,
    with_details: bool,
) -> Result<(Value, bool), Wrong> {
    let jobs = [job];
    let mut relatives = Relatives::of(app, &jobs).await?;
    relatives.unredacted = params.flag("unredacted") && may_see_secrets(sender);
    let mut told = relatives.job(&jobs[0]);
    if params.flag("check_assets") {
        told["missing_assets"] = json!(app.missing_assets(&jobs[0].row).await?);
    }
    let attempts = app.store.attempts(jobs[0].row.id).await?;
    let Some(attempt) = attempts.last() else {
        told["modules"] = json!([]);
        if with_details {
            for name in ["testresults", "logs", "ulogs"] {
                told[name] = json!([]);
            }
        }
        return Ok((json!({ "job": told }), jobs[0].row.parents.is_empty()));
    };
    let run = job_view::run_of(app, attempt).await?;
    told["modules"] = run.modules.iter().map(job_view::module).collect();
    told["assigned_worker_id"] = json!(super::workers::id_of(attempt.row.worker.as_str(), 1));
    if with_details {
        told["testresults"] = run.modules.iter().map(job_view::details).collect();
        let mut logs: Vec<_> = app.sizes(attempt).await?.into_keys().collect();
        logs.push("vars.json".to_owned());
        told["logs"] = json!(logs);
        told["ulogs"] = run.artifacts.iter().map(|file| super::files::flat(&file.path)).collect();
    }
    let settled = attempt.row.end.is_some() && attempt.streams.is_some() && jobs[0].row.parents.is_empty();
    Ok((json!({ "job": told }), settled))
}

async fn show(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    params: Params,
) -> Result<([(HeaderName, HeaderValue); 1], Bytes), Wrong> {
    // Only what everybody gets is kept.
    let usual = params.pairs().is_empty();
    let (mark, catalog) = (app.told.mark(), app.library.now());
    let number = JobId(id.parse().map_err(|_| no_job())?);
    let kept = app.told.texts(&catalog, Form::Shown, &[number]).pop().flatten().filter(|_| usual);
    let text = if let Some(text) = kept {
        text
    } else {
        let (told, changes_with_rows) = told(&app, &sender, &id, &params, false).await?;
        let text = Bytes::from(told.to_string());
        if usual && changes_with_rows {
            app.told.keep(mark, &catalog, Form::Shown, number, text.clone());
        }
        text
    };
    Ok(([(header::CONTENT_TYPE, JSON)], text))
}

async fn details(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    Ok(Json(told(&app, &sender, &id, &params, true).await?.0))
}

async fn status(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let job = followed(&app, found(&app, &id).await?, &params).await?;
    Ok(Json(json!({
        "id": job.row.id.0,
        "state": job.row.state.openqa_state(),
        "result": job.row.state.openqa_result(),
        "blocked_by_id": job.row.blocked_by().map(|id| id.0),
    })))
}

/// The jobs of the matrix, the oldest first: of each scenario of a build the newest job, if it is wanted.
async fn overview(State(app): State<Arc<App>>, params: Params) -> Result<Json<Value>, Wrong> {
    let (limit, offset) = params.page(OVERVIEW, OVERVIEW)?;
    let found = matrix::find(&app, &params).await?;
    let mut jobs: Vec<_> = found.wanted().skip(offset as usize).take(limit as usize).collect();
    jobs.reverse();
    Ok(Json(jobs.iter().map(|job| json!({"id": job.id.0, "name": job.name})).collect()))
}

/// All jobs of a group; with `expired=1` those that have ended and are older than it keeps jobs.
async fn of_group(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let id = number(&id)?;
    if !app.library.now().groups.contains_key(&id) {
        return Err(super::groups::no_group());
    }
    let filter = JobFilter { groups: vec![Some(GroupId(id))], limit: u32::MAX, ..JobFilter::default() };
    let jobs = app.store.summaries(&filter).await?;
    let expired = params.flag("expired");
    let days = if expired { crate::groups::keeps_jobs(&app, id) } else { None };
    let oldest = days.map(|days| app.clock.now().plus_seconds(-days * 86_400));
    let is_meant = |job: &&assay_store::JobSummary| {
        !expired || (job.state.is_final() && oldest.is_some_and(|oldest| job.created_at < oldest))
    };
    let mut ids: Vec<_> = jobs.iter().filter(is_meant).map(|job| job.id.0).collect();
    ids.reverse();
    Ok(Json(json!({ "ids": ids })))
}

/// A secret that can be asked for can be guessed.
fn not_secret(key: &str) -> Result<(), Wrong> {
    let why = || format!("Jobs are not looked for by {key}: it is a secret.");
    if is_secret_name(key) { Err(Wrong::new(StatusCode::BAD_REQUEST, why())) } else { Ok(()) }
}

/// Jobs with a setting of that value, or with that value in its comma list.
async fn by_setting(State(app): State<Arc<App>>, params: Params) -> Result<Json<Value>, Wrong> {
    let [key] = params.required(["key"])?;
    not_secret(key)?;
    if let Some(value) = params.get("value") {
        let settings = vec![(key.to_owned(), value.to_owned())];
        let filter = JobFilter { settings, limit: WINDOW, ..JobFilter::default() };
        let ids: Vec<_> = app.store.summaries(&filter).await?.iter().map(|job| job.id.0).collect();
        return Ok(Json(json!({ "jobs": ids })));
    }
    let wanted = params.given("list_value").ok_or_else(|| Wrong::parameters(&["value"], &[]))?;
    let holds = |job: &StoredJob| {
        job.row.settings.get(key).is_some_and(|value| value.split(',').any(|one| one.trim() == wanted))
    };
    let (mut ids, mut before, mut seen) = (Vec::new(), None, 0);
    while seen < WINDOW {
        let jobs = app.store.jobs(&JobFilter { before, limit: PIECE, ..JobFilter::default() }).await?;
        ids.extend(jobs.iter().filter(|job| holds(job)).map(|job| job.row.id.0));
        seen += PIECE;
        before = jobs.last().map(|job| job.row.id);
        if jobs.len() < PIECE as usize {
            break;
        }
    }
    Ok(Json(json!({ "jobs": ids })))
}

async fn cancel(
    operator: Operator,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let job = found(&app, &id).await?;
    let by = match params.given("reason") {
        Some(reason) => format!("{} ({reason})", operator.0.name),
        None => operator.0.name.clone(),
    };
    let job = (job.row.id, job.row.name.as_str(), job.row.state.word());
    let was_open = cancel_one(&app, job, &operator.0, &by).await?;
    Ok(Json(json!({ "result": u8::from(was_open) })))
}

/// Cancels all open jobs with these settings; at least one setting has to be given.
async fn cancel_many(
    operator: Operator,
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let given = params.pairs().iter().filter(|(_, value)| !value.is_empty());
    let settings: Vec<_> = given.map(|(key, value)| (key.to_uppercase(), value.clone())).collect();
    if settings.is_empty() {
        return Err(Wrong::bad("Say by settings which jobs are meant; without any it would be all of them."));
    }
    let filter = JobFilter { settings, ..JobFilter::default() };
    let cancelled = cancel_all(&app, filter, &operator.0).await?;
    Ok(Json(json!({ "result": cancelled })))
}

async fn prio(
    operator: Operator,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let job = found(&app, &id).await?;
    params.required(["prio"])?;
    if let Some(priority) = params.number::<i32>("prio")? {
        prioritise(&app, &job.row, priority, &operator.0).await?;
    }
    Ok(Json(json!({ "result": 1 })))
}

/// `PUT jobs/N`: the priority and the group, as JSON.
async fn update(
    operator: Operator,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let job = found(&app, &id).await?;
    let Some(Value::Object(fields)) = &params.json else {
        return Err(Wrong::bad("Send a JSON object with group_id or priority."));
    };
    let unknown: Vec<_> =
        fields.keys().filter(|name| !matches!(name.as_str(), "group_id" | "priority")).collect();
    if let Some(name) = unknown.first() {
        let error = format!("Column {name} cannot be set; group_id and priority can, settings never change");
        return Err(Wrong::bad(error));
    }
    let priority = params.number::<i32>("priority")?.unwrap_or(job.row.priority);
    let group = match fields.get("group_id") {
        None => job.row.group,
        Some(Value::Null) => None,
        Some(_) => {
            let id = params.number::<i64>("group_id")?.unwrap_or(0);
            if id != 0 && !app.library.now().groups.contains_key(&id) {
                return Err(super::groups::no_group());
            }
            (id != 0).then_some(GroupId(id))
        }
    };
    edit(&app, &job.row, (priority, group), &operator.0).await?;
    Ok(Json(json!({ "job_id": job.row.id.0 })))
}

/// Ends a job with this result, whatever its worker does; a job that has ended gets another.
async fn set_done(
    operator: Operator,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let job = found(&app, &id).await?;
    let word = match (params.given("result"), params.flag("newbuild")) {
        (Some(word), _) => word,
        (None, true) => "obsoleted",
        (None, false) => return Err(Wrong::parameters(&["result"], &[])),
    };
    let outcome = Outcome::from_openqa(word).ok_or_else(|| Wrong::parameters(&[], &["result"]))?;
    if let Some(worker) = params.number::<i64>("worker_id")? {
        let attempts = app.store.attempts(job.row.id).await?;
        let own = attempts.last().map(|attempt| super::workers::id_of(attempt.row.worker.as_str(), 1));
        if own != Some(worker) {
            let error = format!("Refusing to set result of job {id}: worker {worker} does not have it");
            return Err(Wrong::bad(error));
        }
    }
    let reason = params.given("reason").unwrap_or_default();
    conclude(&app, &job.row, (outcome, reason), &operator.0).await?;
    Ok(Json(json!({"result": word, "reason": reason})))
}

async fn remove(
    operator: Operator,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Wrong> {
    let job = found(&app, &id).await?;
    delete_one(&app, &job.row, &operator.0).await?;
    Ok(Json(json!({ "result": 1 })))
}
