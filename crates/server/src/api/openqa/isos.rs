//! Posts of products: `isos`.

use super::params::Params;
use super::{Admin, Operator, Wrong, number};
use crate::api::jobs::cancel_open;
use crate::app::App;
use crate::fault::Fault;
use crate::products::{NotPosted, Posted, noted};
use crate::templates;
use assay_engine::ids::{JobId, ProductRunId};
use assay_engine::io::Input;
use assay_engine::job::StateWord;
use assay_engine::outcome::Outcome;
use assay_engine::product::{self, Plan, Refused, Request};
use assay_engine::rows::ProductRunRow;
use assay_engine::settings::{COVERED, is_secret_name};
use assay_formats::openqa::scenarios;
use assay_store::{JobFilter, JobSummary, RunFilter, RunMark, SettingsMap, StoreError};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Jobs of one ISO that are removed at once.
const MOST: u32 = 10_000;
/// Jobs of a post that are asked for at once: databases limit the values of a query, and a post may have more jobs.
const JOBS_AT_ONCE: u32 = 500;
/// The longest note, bytes.
pub(crate) const LONGEST_NOTE: usize = 16 * 1024;
/// Posts of one product that are looked through for the newest that was not refused.
const RECENT: u32 = 50;
/// How many clones are followed from a job to the one that counts.
const CLONES: usize = 50;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/isos", post(create))
        .route("/isos/job_stats", get(job_stats))
        .route("/isos/{id}", get(show).delete(remove))
        .route("/isos/{id}/cancel", post(cancel))
        .route("/experimental/isos/note", put(note))
}

/// Parameters that are not settings.
const RESERVED: [&str; 2] = ["async", "scheduled_product_clone_id"];

/// Scenario definitions as text, and as the name of a file on the server, which is refused.
const SCENARIOS: [&str; 2] = ["SCENARIO_DEFINITIONS_YAML", "SCENARIO_DEFINITIONS_YAML_FILE"];

/// Reads the scenario definitions of a post; they stand in the place of the server's templates. Their text stays with
/// the post, so that it can be posted again, unless there are secrets in it.
pub(crate) fn scenarios(
    pairs: &mut Vec<(String, String)>,
    name: &str,
) -> Result<Option<product::Catalog>, Wrong> {
    let [text, file] =
        SCENARIOS.map(|name| pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone()));
    if file.is_some_and(|file| !file.is_empty()) {
        return Err(Wrong::bad(
            "SCENARIO_DEFINITIONS_YAML_FILE names a file on the server, which nobody may have read for them; \
             send the text with `--param-file SCENARIO_DEFINITIONS_YAML=FILE`.",
        ));
    }
    pairs.retain(|(key, _)| key != SCENARIOS[1]);
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let loaded = scenarios::load(name, &text);
    let errors: Vec<_> =
        loaded.diagnostics.iter().filter(|found| found.is_error()).map(ToString::to_string).collect();
    match loaded.value {
        Some(catalog) if errors.is_empty() => {
            templates::not_covered(own(&catalog)).map_err(Wrong::bad)?;
            if has_secrets(&catalog) {
                let texts = pairs.iter_mut().filter(|(key, _)| key == SCENARIOS[0]);
                texts.for_each(|(_, text)| COVERED.clone_into(text));
            }
            Ok(Some(catalog))
        }
        _ => Err(Wrong::bad(errors.join("\n"))),
    }
}

fn own(catalog: &product::Catalog) -> impl Iterator<Item = &SettingsMap> {
    (catalog.machines.values().map(|one| &one.settings))
        .chain(catalog.suites.values().map(|one| &one.settings))
        .chain(catalog.media.values().map(|one| &one.settings))
        .chain(catalog.templates.values().flatten().map(|one| &one.settings))
}

fn has_secrets(catalog: &product::Catalog) -> bool {
    own(catalog).flat_map(|settings| settings.keys()).any(|key| is_secret_name(key))
}

/// Slashes that clients have escaped once more than needed.
pub(super) fn restored(value: &str) -> String {
    value.replace("%2F", "/").replace("%2f", "/")
}

fn refused(run: ProductRunId, plan: &Plan, refused: &Refused) -> Response {
    let status = match refused {
        // As in openQA, whose clients post many media and go on where there is nothing to do.
        Refused::NoProduct { .. } => StatusCode::OK,
        Refused::NoTemplates { .. } => StatusCode::NOT_FOUND,
        Refused::NoGroup { .. } | Refused::NoJobs => StatusCode::BAD_REQUEST,
    };
    let failed: BTreeMap<_, _> = plan.failed.iter().map(|one| (one.job.as_str(), &one.problems)).collect();
    let body = json!({
        "scheduled_product_id": run.0, "error": refused.to_string(), "count": 0, "ids": [], "failed": failed,
    });
    (status, Json(body)).into_response()
}

fn failures(posted: &Posted) -> Value {
    let one = |failed: &assay_engine::product::Failed| match failed.made.and_then(|at| posted.jobs.get(at)) {
        Some(id) => json!({"job_id": id.0, "job_name": failed.job, "error_messages": failed.problems}),
        None => json!({"job_name": failed.job, "error_messages": failed.problems}),
    };
    posted.plan.failed.iter().map(one).collect()
}

/// The settings of an earlier post, to be posted again. What was secret in it has to be `given` anew.
pub(crate) async fn settings_of(
    app: &App,
    post: i64,
    given: impl Fn(&str) -> bool,
) -> Result<Vec<(String, String)>, Wrong> {
    let run = app.store.product_run(ProductRunId(post)).await?;
    let run =
        run.ok_or_else(|| Wrong::not_found("Scheduled product to clone settings from does not exist."))?;
    let lost = run.run.settings.iter().find(|(key, value)| *value == COVERED && !given(key));
    if let Some((key, _)) = lost {
        return Err(Wrong::bad(format!(
            "Post {post} had a secret in {key}, which is not kept in clear; give {key} again."
        )));
    }
    Ok(run.run.settings.into_iter().collect())
}

/// Posts what is asked for, and notes it.
pub(crate) async fn post_settings(
    app: &Arc<App>,
    mut pairs: Vec<(String, String)>,
    by: &str,
) -> Result<Result<Posted, NotPosted>, Wrong> {
    let scenarios = scenarios(&mut pairs, SCENARIOS[0])?;
    let request = Request::parse(pairs).map_err(|bad| Wrong::bad(bad.to_string()))?;
    let plan = match scenarios {
        Some(scenarios) => app.plan_scenarios(&request, scenarios),
        None => app.plan_product(&request),
    };
    let done = app.post_planned(plan, &request, by).await?;
    if let Ok(posted) = &done {
        app.audit(by, "iso_create", noted(posted.run, &request.posted));
    }
    Ok(done)
}

async fn create(operator: Operator, State(app): State<Arc<App>>, params: Params) -> Result<Response, Wrong> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    if let Some(earlier) = params.number::<i64>("scheduled_product_clone_id")? {
        let given = |key: &str| params.pairs().iter().any(|(name, _)| name.to_uppercase() == key);
        pairs.extend(settings_of(&app, earlier, given).await?);
    }
    let given = params.pairs().iter().filter(|(key, _)| !RESERVED.contains(&key.as_str()));
    let given: Vec<_> = given.map(|(key, value)| (key.to_uppercase(), restored(value))).collect();
    Fault::if_covered(given.iter().map(|(key, value)| (key.as_str(), value.as_str())))?;
    pairs.extend(given);
    let posted = match post_settings(&app, pairs, &operator.0.name).await? {
        Ok(posted) => posted,
        Err(NotPosted { run, plan }) => {
            return Ok(match &plan.refused {
                Some(why) => refused(run, &plan, why),
                None => Wrong::bad("Nothing was made.").into_response(),
            });
        }
    };
    let id = posted.run.0;
    if params.flag("async") {
        // It is done already; the numbers are for clients that ask for its end.
        return Ok(
            Json(json!({"gru_task_id": id, "minion_job_id": id, "scheduled_product_id": id})).into_response()
        );
    }
    let ids: Vec<_> = posted.jobs.iter().map(|job| job.0).collect();
    let answer = json!({
        "scheduled_product_id": id, "count": ids.len(), "ids": ids, "failed": failures(&posted),
        "notes": posted.plan.notes,
    });
    Ok(Json(answer).into_response())
}

/// A post as openQA tells it.
pub(super) fn shown(run: &ProductRunRow, mark: &RunMark) -> Value {
    let setting = |key: &str| run.run.settings.get(key).cloned();
    let failed = run.run.failed.iter().map(|problem| {
        let made = problem.made.and_then(|at| run.jobs.get(at)).map(|job| job.0);
        json!({"job_name": problem.job, "job_id": made, "error_messages": problem.problems})
    });
    let status = match (&mark.cancelled_by, &run.run.refused) {
        (Some(_), _) => "cancelled",
        (None, Some(_)) => "fatal_error",
        (None, None) => "scheduled",
    };
    let mut results = json!({
        "successful_job_ids": run.jobs.iter().map(|job| job.0).collect::<Vec<_>>(),
        "failed_job_info": failed.collect::<Vec<_>>(),
    });
    if let Some(why) = &run.run.refused {
        results["error"] = json!(why);
    }
    json!({
        "id": run.id.0,
        "distri": setting("DISTRI"), "version": setting("VERSION"), "flavor": setting("FLAVOR"),
        "arch": setting("ARCH"), "build": setting("BUILD"), "iso": setting("ISO"),
        "status": status,
        "note": mark.note,
        "cancelled_by": mark.cancelled_by,
        "webhook_id": run.run.webhook,
        "settings": run.run.settings,
        "user": run.run.by,
        "t_created": super::at(run.created_at),
        "t_updated": super::at(run.created_at),
        "results": results,
    })
}

async fn show(
    _: Operator,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let run = app.store.product_run(ProductRunId(number(&id)?)).await?;
    let run = run.ok_or_else(no_run)?;
    let marks = app.store.knowledge().run_marks(&[run.id]).await?;
    let mut shown = shown(&run, marks.get(&run.id).unwrap_or(&RunMark::default()));
    if params.flag("include_job_ids") {
        shown["job_ids"] = run.jobs.iter().map(|job| job.0).collect();
    }
    Ok(Json(shown))
}

/// Posts of the product that a request names.
fn of_product(params: &Params) -> Result<RunFilter, Wrong> {
    let names = ["distri", "version", "flavor", "arch", "build"];
    let [distri, version, flavor, arch, build] = params.required(names)?.map(|value| Some(value.to_owned()));
    Ok(RunFilter { distri, version, flavor, arch, build, ..RunFilter::default() })
}

/// The jobs of a post as they stand: of one that was started anew its newest clone counts.
pub(crate) async fn standing(app: &App, run: &ProductRunRow) -> Result<Vec<JobSummary>, StoreError> {
    let mut ids = run.jobs.clone();
    let mut found = Vec::new();
    for _ in 0..=CLONES {
        // The one with the lowest number comes first, in all of them together too.
        ids.sort_unstable();
        ids.dedup();
        found.clear();
        // Without numbers there is no part: a filter would let every job through.
        for ids in ids.chunks(JOBS_AT_ONCE as usize) {
            let filter = JobFilter {
                ids: ids.to_vec(),
                limit: JOBS_AT_ONCE,
                oldest_first: true,
                ..JobFilter::default()
            };
            found.extend(app.store.summaries(&filter).await?);
        }
        let next: BTreeMap<_, _> = found.iter().filter_map(|job| Some((job.id, job.cloned_as?))).collect();
        if next.is_empty() {
            break;
        }
        for id in &mut ids {
            *id = next.get(id).copied().unwrap_or(*id);
        }
    }
    Ok(found)
}

/// How the jobs of the newest post stand.
async fn job_stats(_: Operator, State(app): State<Arc<App>>, params: Params) -> Result<Json<Value>, Wrong> {
    let filter = RunFilter { limit: RECENT, ..of_product(&params)? };
    // Those that were refused have no jobs to tell about.
    let runs = app.store.product_runs(&filter).await?;
    let Some(run) = runs.into_iter().find(|run| run.run.refused.is_none()) else {
        return Ok(Json(json!({})));
    };
    let mut stats: BTreeMap<&str, BTreeMap<&str, Vec<i64>>> = BTreeMap::new();
    for job in standing(&app, &run).await? {
        let result = job.outcome.map_or("none", Outcome::openqa);
        stats.entry(job.state.word()).or_default().entry(result).or_default().push(job.id.0);
    }
    let entry = |ids: Vec<i64>| json!({"job_ids": ids, "scheduled_product_ids": [run.id.0]});
    let told: BTreeMap<_, BTreeMap<_, _>> = stats
        .into_iter()
        .map(|(state, results)| {
            (state, results.into_iter().map(|(result, ids)| (result, entry(ids))).collect())
        })
        .collect();
    Ok(Json(json!(told)))
}

fn of_iso(name: &str) -> JobFilter {
    JobFilter { settings: vec![("ISO".to_owned(), name.to_owned())], ..JobFilter::default() }
}

/// Cancels what a post has made and what was started anew from it, and says so beside it; how many jobs that were.
pub(crate) async fn cancel_run(app: &App, run: &ProductRunRow, by: &str) -> Result<usize, Wrong> {
    let ids: Vec<JobId> = standing(app, run).await?.iter().map(|job| job.id).collect();
    let mut cancelled = 0;
    for ids in ids.chunks(JOBS_AT_ONCE as usize) {
        cancelled += cancel_open(app, JobFilter { ids: ids.to_vec(), ..JobFilter::default() }, by).await?;
    }
    let _rewriting = app.rewriting.lock().await;
    let knowledge = app.store.knowledge();
    let mut mark = knowledge.run_marks(&[run.id]).await?.remove(&run.id).unwrap_or_default();
    if mark.cancelled_by.is_none() {
        mark.cancelled_by = Some(by.to_owned());
        knowledge.mark_run(app.library.epoch(), run.id, &mark).await?;
    }
    Ok(cancelled)
}

/// By the number of a post, or by the name of an ISO.
async fn cancel(
    operator: Operator,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Wrong> {
    let by = &operator.0.name;
    let (cancelled, noted) = match name.parse::<i64>() {
        Ok(id) => {
            let run = app.store.product_run(ProductRunId(id)).await?.ok_or_else(no_run)?;
            (cancel_run(&app, &run, by).await?, noted(run.id, &run.run.settings))
        }
        Err(_) => (cancel_open(&app, of_iso(&name), by).await?, json!({ "iso": name })),
    };
    app.audit(by, "iso_cancel", noted);
    Ok(Json(json!({ "result": cancelled })))
}

/// Writes something for people beside the newest post of a product.
async fn note(operator: Operator, State(app): State<Arc<App>>, params: Params) -> Result<Json<Value>, Wrong> {
    let filter = RunFilter { limit: 1, ..of_product(&params)? };
    let text = params.get("note").ok_or_else(|| Wrong::parameters(&["note"], &[]))?;
    if !is_note(text) {
        return Err(Wrong::parameters(&[], &["note"]));
    }
    let run = app.store.product_runs(&filter).await?.pop().ok_or_else(no_run)?;
    let mark = note_run(&app, &run, text, &operator.0.name).await?;
    Ok(Json(json!({"scheduled_product_id": run.id.0, "note": mark.note})))
}

/// Whether a text may be written beside a post.
pub(crate) fn is_note(text: &str) -> bool {
    text.len() <= LONGEST_NOTE && !text.contains('\0')
}

/// Writes a text beside a post in an operator's name; an empty one takes away what is there.
pub(crate) async fn note_run(
    app: &Arc<App>,
    run: &ProductRunRow,
    text: &str,
    by: &str,
) -> Result<RunMark, StoreError> {
    let _rewriting = app.rewriting.lock().await;
    let knowledge = app.store.knowledge();
    let mut mark = knowledge.run_marks(&[run.id]).await?.remove(&run.id).unwrap_or_default();
    mark.note = Some(text.to_owned()).filter(|text| !text.is_empty());
    knowledge.mark_run(app.library.epoch(), run.id, &mark).await?;
    app.audit(by, "iso_note", noted(run.id, &run.run.settings));
    Ok(mark)
}

fn no_run() -> Wrong {
    Wrong::not_found("Scheduled product does not exist.")
}

async fn remove(
    admin: Admin,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Wrong> {
    cancel_open(&app, of_iso(&name), &admin.0.name).await?;
    let states = StateWord::ALL.into_iter().filter(|state| state.is_final()).collect();
    let ended = JobFilter { states, limit: MOST, ..of_iso(&name) };
    let mut removed = 0;
    for job in app.store.summaries(&ended).await? {
        removed += usize::from(app.engine.ask(Input::DeleteJob { job: job.id }).await.is_ok());
    }
    app.audit(&admin.0.name, "iso_delete", json!({ "iso": name }));
    Ok(Json(json!({ "count": removed })))
}
