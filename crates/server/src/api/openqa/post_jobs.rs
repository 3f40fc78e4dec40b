//! `POST jobs`: one job, or several that depend on each other, from settings.

use super::isos::restored;
use super::params::Params;
use super::{Operator, Wrong};
use crate::api::resultsdb::origin;
use crate::app::App;
use crate::catalog::Catalog;
use crate::fault::Fault;
use crate::whom::Ask;
use assay_engine::ids::{GroupId, JobId};
use assay_engine::io::{Answer, Input, NewJob};
use assay_engine::product::{self, MediumKey, Request};
use assay_engine::relations::{ParentRef, Relation};
use assay_engine::settings::{Settings, is_covered};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Jobs in one request.
const MOST: usize = 10_000;

/// Parameters that name other jobs of the request, and those that name jobs that exist.
const RELATIONS: [(&str, &str, Relation); 3] = [
    ("_START_AFTER", "_START_AFTER_JOBS", Relation::Chained),
    ("_START_DIRECTLY_AFTER", "_START_DIRECTLY_AFTER_JOBS", Relation::DirectlyChained),
    ("_PARALLEL", "_PARALLEL_JOBS", Relation::Parallel),
];

pub(crate) type Pairs = BTreeMap<String, String>;

/// A request, by suffix; the job without one is the only one, or what all have in common.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    jobs: Vec<(String, Pairs)>,
    suffixed: bool,
}

/// `KEY=V` is for all jobs, `KEY:SUFFIX=V` for one of them.
fn by_suffix(params: &Params) -> Wanted {
    let mut common = Pairs::new();
    let mut jobs: Vec<(String, Pairs)> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (key, value) in params.pairs().iter().filter(|(key, _)| key != "is_clone_job") {
        let value = restored(value);
        match key.split_once(':') {
            Some((key, suffix)) if !suffix.is_empty() => {
                let at = *places.entry(suffix.to_owned()).or_insert_with(|| {
                    jobs.push((suffix.to_owned(), Pairs::new()));
                    jobs.len() - 1
                });
                jobs[at].1.insert(key.to_uppercase(), value);
            }
            _ => drop(common.insert(key.to_uppercase(), value)),
        }
    }
    if jobs.is_empty() {
        return Wanted { jobs: vec![(String::new(), common)], suffixed: false };
    }
    for (_, pairs) in &mut jobs {
        for (key, value) in &common {
            pairs.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    Wanted { jobs, suffixed: true }
}

/// The group that a job asks for; `0` is none. A clone comes with the group that it had elsewhere: if there is none of
/// that number here, it has none.
fn group(catalog: &Catalog, pairs: &mut Pairs, is_clone: bool) -> Result<Option<GroupId>, Wrong> {
    let (id, name) = (pairs.remove("_GROUP_ID"), pairs.remove("_GROUP"));
    match (id.as_deref().map(str::trim), name.as_deref()) {
        (Some("0"), _) | (None | Some(""), None | Some("" | "0")) => Ok(None),
        (None | Some(""), Some(name)) => match catalog.group_named(name) {
            Some(group) => Ok(Some(GroupId(group.id))),
            None => Err(Wrong::bad(format!("There is no job group {name:?}"))),
        },
        (Some(id), _) => match id.parse::<i64>().ok().filter(|id| catalog.groups.contains_key(id)) {
            Some(id) => Ok(Some(GroupId(id))),
            None if is_clone => Ok(None),
            None => Err(Wrong::bad(format!("There is no job group {id}"))),
        },
    }
}

/// What the catalog says about such a job, with what was posted over it: product, machine and suite, as for posts of
/// products. Of a job of which the catalog knows nothing, `+VAR` and placeholders count all the same.
pub(crate) fn with_catalog(catalog: &Catalog, pairs: &Pairs) -> Result<Settings, Wrong> {
    let plain = || -> Result<Settings, Wrong> {
        let mut settings = Settings::from_request(pairs.clone());
        product::finish(&mut settings).map_err(Wrong::bad)?;
        Ok(settings)
    };
    let test = pairs.get("TEST").cloned().unwrap_or_default();
    let Ok(request) =
        Request::parse(pairs.iter().filter(|(key, _)| key.as_str() != "TEST" && key.as_str() != "MACHINE"))
    else {
        return plain();
    };
    let key = MediumKey {
        distri: request.get("DISTRI").to_owned(),
        version: request.get("VERSION").to_owned(),
        flavor: request.get("FLAVOR").to_owned(),
        arch: request.get("ARCH").to_owned(),
    };
    let known = catalog.products.values().find(|row| crate::products::medium_key(row) == key);
    let machine =
        pairs.get("MACHINE").and_then(|name| catalog.machines.values().find(|row| row.name == *name));
    let suite = catalog.suites.values().find(|row| row.name == test);
    if machine.is_none() && suite.is_none() && known.is_none() {
        return plain();
    }
    let medium = known.map_or(product::Medium { key: key.clone(), ..product::Medium::default() }, |row| {
        crate::products::medium(row)
    });
    let (machine, suite) =
        (machine.map(|row| crate::products::machine(row)), suite.map(|row| crate::products::suite(row)));
    let global = product::SettingsMap::clone(&catalog.global);
    let mut small = product::Catalog { global, ..product::Catalog::default() };
    small.add_template(product::Template {
        name: test,
        medium: key,
        machine: machine.as_ref().map(|machine| machine.name.clone()),
        suite: suite.as_ref().map(|suite| suite.name.clone()),
        ..product::Template::default()
    });
    small.add_medium(medium);
    if let Some(machine) = machine {
        small.add_machine(machine);
    }
    if let Some(suite) = suite {
        small.add_suite(suite);
    }
    let plan = product::plan(&small, &request);
    match plan.jobs.into_iter().next() {
        Some(job) => {
            let mut settings = job.settings;
            for key in ["MACHINE", "BACKEND", "NAME"] {
                if let (None, Some(value)) = (settings.get(key), pairs.get(key)) {
                    let setting = assay_engine::settings::Setting::new(
                        value.clone(),
                        assay_engine::settings::Provenance::Request,
                    );
                    settings.0.insert(key.to_owned(), setting);
                }
            }
            Ok(settings)
        }
        None if plan.failed.is_empty() => plain(),
        None => {
            let problems: Vec<String> = plan.failed.into_iter().flat_map(|failed| failed.problems).collect();
            Err(Wrong::bad(problems.join("; ")))
        }
    }
}

fn priority(catalog: &Catalog, pairs: &mut Pairs, group: Option<GroupId>) -> Result<Option<i32>, Wrong> {
    let given = ["_PRIORITY", "PRIO"].map(|key| pairs.remove(key));
    if let Some(text) = given.into_iter().flatten().find(|text| !text.trim().is_empty()) {
        return text.trim().parse().map(Some).map_err(|_| Wrong::parameters(&[], &["_PRIORITY"]));
    }
    let group = group.and_then(|id| catalog.groups.get(&id.0));
    Ok(group.and_then(|group| crate::groups::usual_priority(catalog, group)))
}

/// Takes the relations out of the settings.
fn parents(
    pairs: &mut Pairs,
    suffixes: &BTreeMap<String, usize>,
) -> Result<Vec<(Relation, ParentRef)>, Wrong> {
    let mut found = Vec::new();
    for (posted, existing, relation) in RELATIONS {
        for suffix in split(pairs.remove(posted)) {
            let at = suffixes.get(&suffix).ok_or_else(|| {
                Wrong::bad(format!("{posted} names the suffix {suffix:?}, which no job of this request has"))
            })?;
            found.push((relation, ParentRef::Posted(*at)));
        }
        for id in split(pairs.remove(existing)) {
            let id = id.parse().map_err(|_| Wrong::parameters(&[], &[existing]))?;
            found.push((relation, ParentRef::Job(JobId(id))));
        }
    }
    Ok(found)
}

fn split(list: Option<String>) -> Vec<String> {
    let list = list.unwrap_or_default();
    list.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect()
}

/// The job of this server that a job was cloned from, if it says so.
fn cloned_here(pairs: &Pairs, headers: &HeaderMap) -> Option<JobId> {
    let (_, address) = pairs.get("CLONED_FROM")?.split_once("://")?;
    let (host, id) = address.split_once("/tests/")?;
    let here = origin(headers);
    here.split_once("://")?.1.eq_ignore_ascii_case(host).then(|| id.parse().map(JobId).ok())?
}

/// openqa-clone-job does not ask for secrets, and posts what covers them. Those of a job of this server are known here.
async fn uncover(app: &App, wanted: &mut Wanted, headers: &HeaderMap) -> Result<(), Wrong> {
    for (_, pairs) in &mut wanted.jobs {
        if !pairs.iter().any(|(key, value)| is_covered(key, value)) {
            continue;
        }
        let Some(original) = cloned_here(pairs, headers) else { continue };
        let Some(original) = app.store.job(original).await? else { continue };
        for (key, value) in pairs.iter_mut().filter(|(key, value)| is_covered(key, value)) {
            // An empty one is covered as well.
            if let Some(secret) = original.row.settings.setting(key) {
                value.clone_from(&secret.value);
            }
        }
    }
    Ok(())
}

fn read(catalog: &Catalog, wanted: &Wanted, is_clone: bool) -> Result<Vec<NewJob>, Wrong> {
    let suffixes = wanted.jobs.iter().enumerate().map(|(at, (suffix, _))| (suffix.clone(), at)).collect();
    let mut jobs = Vec::new();
    for (suffix, pairs) in &wanted.jobs {
        let mut pairs = pairs.clone();
        pairs.remove("NAME");
        if pairs.get("TEST").is_none_or(|test| test.trim().is_empty()) {
            let which = if suffix.is_empty() { String::new() } else { format!(" of job {suffix:?}") };
            return Err(Wrong::bad(format!("TEST field mandatory{which}")));
        }
        Fault::if_covered(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())))?;
        let parents = parents(&mut pairs, &suffixes)?;
        let group = group(catalog, &mut pairs, is_clone)?;
        let priority = priority(catalog, &mut pairs, group)?;
        let settings = if is_clone { Settings::from_request(pairs) } else { with_catalog(catalog, &pairs)? };
        jobs.push(NewJob { priority, group, parents, ..NewJob::new(settings) });
    }
    Ok(jobs)
}

pub(super) async fn create(
    operator: Operator,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let mut wanted = by_suffix(&params);
    if wanted.jobs.len() > MOST {
        let error = format!("The request has {} jobs; at most {MOST} are allowed", wanted.jobs.len());
        return Err(Wrong::new(StatusCode::PAYLOAD_TOO_LARGE, error));
    }
    let is_clone = params.flag("is_clone_job");
    if is_clone {
        uncover(&app, &mut wanted, &headers).await?;
    }
    let jobs = read(&app.library.now(), &wanted, is_clone)?;
    let input = app.resolve_tasks(Input::PostJobs { jobs }, Ask::Others).await.map_err(Fault::from)?;
    let ids = match app.engine.ask(input).await? {
        Answer::Posted(ids) => ids,
        other => {
            tracing::error!(answer = ?other, "the engine gave an answer to another question");
            return Err(Wrong::new(StatusCode::INTERNAL_SERVER_ERROR, "The engine gave a strange answer."));
        }
    };
    for id in &ids {
        app.audit(&operator.0.name, "job_create", json!({ "id": id.0 }));
    }
    if let ([id], false) = (&ids[..], wanted.suffixed) {
        return Ok(Json(json!({ "id": id.0 })));
    }
    let suffixes = wanted.jobs.into_iter().map(|(suffix, _)| suffix);
    let ids = suffixes.zip(&ids).map(|(suffix, id)| (suffix, json!(id.0)));
    Ok(Json(json!({"ids": ids.collect::<Map<_, _>>()})))
}
