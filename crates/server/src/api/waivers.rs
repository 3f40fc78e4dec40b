//! `/api/v1.0/waivers`: WaiverDB's API.

use super::resultsdb::{Poster, Wrong, moment, object, origin, parse_time, value};
use crate::app::App;
use crate::auth::{Role, Sender};
use crate::results::conventions::subject_of;
use assay_engine::decision::{Subject, glob_match};
use assay_engine::ids::Timestamp;
use assay_engine::report::bus::waived;
use assay_store::{ResultId, Waiver, WaiverChoice, WaiverFilter};
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Waivers in one answer, and in one request.
const MOST: u32 = 1000;
/// Bytes of a comment.
const LONGEST: usize = 16 * 1024;

pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1.0/waivers/", get(list).post(create))
        .route("/api/v1.0/waivers", get(list).post(create))
        .route("/api/v1.0/waivers/+filtered", post(filtered))
        .route("/api/v1.0/waivers/+by-subjects-and-testcases", post(by_subjects))
        .route("/api/v1.0/waivers/{id}", get(show))
        .route("/api/v1.0/permissions", get(permissions))
}

/// A waiver as WaiverDB tells it, and when it expires.
pub(crate) fn shape(waiver: &Waiver) -> Value {
    json!({
        "id": waiver.id,
        "subject_type": waiver.subject_type,
        "subject_identifier": waiver.subject_identifier,
        "subject": waived(&waiver.subject_type, &waiver.subject_identifier),
        "testcase": waiver.testcase,
        "scenario": waiver.scenario,
        "username": waiver.username,
        "proxied_by": waiver.proxied_by,
        "product_version": waiver.product_version,
        "waived": waiver.waived,
        "comment": waiver.comment,
        "timestamp": moment(waiver.at),
        "expires": waiver.expires_at.map(moment),
    })
}

fn number(pairs: &BTreeMap<String, String>, key: &str, default: u32) -> Result<u32, Wrong> {
    match pairs.get(key) {
        None => Ok(default),
        Some(text) => {
            let number = text.parse().ok().filter(|number| *number > 0);
            number.ok_or_else(|| {
                Wrong::part(key, &Value::from(text.as_str()), "expected a whole number from 1 on")
            })
        }
    }
}

/// `a` or `a,b`
fn since(text: Option<&str>, choice: &mut WaiverChoice) -> Result<(), Wrong> {
    let mut times = text.unwrap_or_default().split(',').filter(|text| !text.is_empty()).map(|text| {
        let text = Value::from(text);
        parse_time(&text)
            .ok_or_else(|| Wrong::part("since", &text, "expected a time such as 2024-06-01T12:00:00"))
    });
    choice.since = times.next().transpose()?;
    choice.until = times.next().transpose()?;
    Ok(())
}

/// Which waivers are meant, by the words that both kinds of question have.
fn choice_of(app: &App, text: impl Fn(&str) -> Option<String>) -> WaiverChoice {
    WaiverChoice {
        subject_types: text("subject_type").map(|kind| kinds(app, &kind)).unwrap_or_default(),
        subject_identifier: text("subject_identifier"),
        testcase: text("testcase"),
        scenario: text("scenario"),
        product_version: text("product_version"),
        username: text("username"),
        proxied_by: text("proxied_by"),
        ..WaiverChoice::default()
    }
}

fn kinds(app: &App, kind: &str) -> Vec<String> {
    app.results.settings().decisions.subject_type(kind).names()
}

/// WaiverDB's clients do not know that a waiver can expire: to them one that has is obsolete.
fn alive_at(app: &App, obsolete_too: bool) -> Option<Timestamp> {
    (!obsolete_too).then(|| app.clock.now())
}

async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    uri: Uri,
    Query(pairs): Query<BTreeMap<String, String>>,
) -> Result<Json<Value>, Wrong> {
    let page = number(&pairs, "page", 1)?;
    let limit = number(&pairs, "limit", 10)?.min(MOST);
    let text = |key: &str| pairs.get(key).filter(|text| !text.is_empty()).cloned();
    let mut choice = choice_of(&app, text);
    since(pairs.get("since").map(String::as_str), &mut choice)?;
    let obsolete_too =
        pairs.get("include_obsolete").is_some_and(|text| matches!(text.as_str(), "true" | "1" | "True"));
    let filter = WaiverFilter {
        any: vec![choice],
        obsolete_too,
        alive_at: alive_at(&app, obsolete_too),
        per_person: true,
        offset: u64::from(page - 1) * u64::from(limit),
        limit: limit + 1,
    };
    let mut found = app.store.results().waivers(&filter).await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let link = |page: u32| {
        let others: Vec<String> = uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|part| !part.is_empty() && !part.starts_with("page="))
            .map(str::to_owned)
            .chain([format!("page={page}")])
            .collect();
        format!("{}{}?{}", origin(&headers), uri.path(), others.join("&"))
    };
    Ok(Json(json!({
        "data": found.iter().map(shape).collect::<Vec<_>>(),
        "first": link(1),
        "prev": (page > 1).then(|| link(page - 1)),
        "next": more.then(|| link(page + 1)),
        "last": Value::Null,
    })))
}

async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Value>, Wrong> {
    let none = || Wrong::not_found("Waiver not found");
    let choice = WaiverChoice { id: Some(id.parse().map_err(|_| none())?), ..WaiverChoice::default() };
    let filter = WaiverFilter { any: vec![choice], obsolete_too: true, limit: 1, ..WaiverFilter::default() };
    let found = app.store.results().waivers(&filter).await?.pop().ok_or_else(none)?;
    Ok(Json(shape(&found)))
}

/// All of several choices, not paged.
async fn any_of(app: &App, any: Vec<WaiverChoice>, obsolete_too: bool) -> Result<Json<Value>, Wrong> {
    if any.is_empty() {
        return Ok(Json(json!({ "data": [] })));
    }
    let alive_at = alive_at(app, obsolete_too);
    let filter = WaiverFilter { any, obsolete_too, alive_at, per_person: false, offset: 0, limit: 10_000 };
    let found = app.store.results().waivers(&filter).await?;
    Ok(Json(json!({ "data": found.iter().map(shape).collect::<Vec<_>>() })))
}

fn objects<'v>(map: &'v Map<String, Value>, key: &str) -> Result<Vec<&'v Map<String, Value>>, Wrong> {
    let wrong =
        || Wrong::part(key, map.get(key).unwrap_or(&Value::Null), "expected a list of objects, at most 1000");
    let list = map
        .get(key)
        .and_then(Value::as_array)
        .filter(|list| list.len() <= MOST as usize)
        .ok_or_else(wrong)?;
    list.iter().map(|one| one.as_object().ok_or_else(wrong)).collect()
}

fn flag(map: &Map<String, Value>, key: &str, default: bool) -> Result<bool, Wrong> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(Wrong::part(key, other, "expected true or false")),
    }
}

async fn filtered(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Wrong> {
    let map = object(&headers, body)?;
    let mut any = Vec::new();
    for one in objects(&map, "filters")? {
        let text = |key: &str| one.get(key).and_then(Value::as_str).map(str::to_owned);
        let mut choice = choice_of(&app, text);
        since(one.get("since").and_then(Value::as_str), &mut choice)?;
        any.push(choice);
    }
    any_of(&app, any, flag(&map, "include_obsolete", false)?).await
}

/// Older than `+filtered`: each entry is a subject and a test case.
async fn by_subjects(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Wrong> {
    let map = object(&headers, body)?;
    let mut any = Vec::new();
    let of = |map: &Map<String, Value>, key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
    for one in objects(&map, "results")? {
        let subject = match (of(one, "subject_type"), of(one, "subject_identifier"), one.get("subject")) {
            (Some(kind), Some(item), _) => Some(Subject { kind, item }),
            (_, _, Some(Value::Object(subject))) => Some(old_subject(subject)?),
            _ => None,
        };
        let mut choice = WaiverChoice {
            subject_types: subject.iter().flat_map(|subject| kinds(&app, &subject.kind)).collect(),
            subject_identifier: subject.map(|subject| subject.item),
            testcase: of(one, "testcase"),
            product_version: of(&map, "product_version"),
            username: of(&map, "username"),
            proxied_by: of(&map, "proxied_by"),
            ..WaiverChoice::default()
        };
        since(map.get("since").and_then(Value::as_str), &mut choice)?;
        any.push(choice);
    }
    any_of(&app, any, flag(&map, "include_obsolete", false)?).await
}

/// A subject as it was written before it had a type and an identifier.
pub(super) fn old_subject(map: &Map<String, Value>) -> Result<Subject, Wrong> {
    let text = |key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
    let subject = |kind: &str, item: String| Ok(Subject { kind: kind.to_owned(), item });
    match (text("productmd.compose.id"), text("original_spec_nvr"), text("type"), text("item")) {
        (Some(compose), ..) => subject("compose", compose),
        (_, Some(nvr), ..) => subject("koji_build", nvr),
        (_, _, Some(kind), Some(item)) => {
            subject(if kind == "brew-build" { "koji_build" } else { &kind }, item)
        }
        _ => Err(Wrong::part(
            "subject",
            &Value::Object(map.clone()),
            "expected type and item, or original_spec_nvr, or productmd.compose.id",
        )),
    }
}

fn text(map: &Map<String, Value>, key: &str) -> Result<Option<String>, Wrong> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() > LONGEST => {
            Err(Wrong::part(key, &Value::Null, "it is too long"))
        }
        Some(Value::String(text)) if text.contains('\0') => {
            Err(Wrong::part(key, &Value::Null, "it has U+0000"))
        }
        Some(Value::String(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Some(other) => Err(Wrong::part(key, other, "expected a text")),
    }
}

/// Whether this person may waive this test case.
fn may_waive(app: &App, sender: &Sender, name: &str, testcase: &str) -> Result<(), Wrong> {
    let settings = app.results.settings();
    if sender.role == Role::Admin || settings.may_waive.is_empty() {
        return Ok(());
    }
    let allowed = settings.may_waive.iter().any(|entry| {
        let theirs = entry.users.is_empty() || entry.users.iter().any(|user| user == name);
        theirs && entry.testcases.iter().any(|pattern| glob_match(pattern, testcase))
    });
    if allowed {
        return Ok(());
    }
    let who: Vec<&str> = settings
        .may_waive
        .iter()
        .filter(|entry| entry.testcases.iter().any(|pattern| glob_match(pattern, testcase)))
        .map(|entry| entry.name.as_str())
        .collect();
    let who = match who[..] {
        [] => "nobody but administrators may".to_owned(),
        _ => format!("those of {} may", who.join(", ")),
    };
    Err(Wrong::new(
        StatusCode::FORBIDDEN,
        format!(
            "{name} is not authorized to waive results of the test case {testcase}: {who} ([results.may-waive] of assay.toml)"
        ),
    ))
}

/// The waiver that an object describes.
async fn read(app: &App, sender: &Sender, map: &Map<String, Value>) -> Result<Waiver, Wrong> {
    let mut testcase = text(map, "testcase")?;
    let mut scenario = text(map, "scenario")?;
    let subject = match (text(map, "subject_type")?, text(map, "subject_identifier")?, map.get("subject")) {
        (Some(kind), Some(item), _) => Subject { kind, item },
        (_, _, Some(Value::Object(subject))) => old_subject(subject)?,
        _ => {
            let wrong = || {
                Wrong::bad(
                    "Either result_id or subject_type and subject_identifier and testcase are required arguments.",
                )
            };
            let id = map.get("result_id").and_then(Value::as_i64).ok_or_else(wrong)?;
            let found = app.store.results().result(ResultId(id)).await?;
            let found = found.ok_or_else(|| Wrong::bad(format!("There is no result {id}.")))?;
            let values = found.values();
            let first = |key: &str| values.get(key).and_then(|values| values.first()).cloned();
            testcase = testcase.or(Some(found.testcase));
            scenario = scenario.or_else(|| first("scenario"));
            // Of an image it is what the image belongs to.
            match (first("original_spec_nvr"), subject_of(&values)) {
                (Some(nvr), _) => Subject { kind: "koji_build".into(), item: nvr },
                (None, Some(subject)) => subject,
                (None, None) => {
                    return Err(Wrong::bad(format!(
                        "Result {id} does not say what it is of: it has no item and type."
                    )));
                }
            }
        }
    };
    let kind = if subject.kind == "brew-build" { "koji_build".to_owned() } else { subject.kind };
    let required = |value: Option<String>, key: &str| {
        value.ok_or_else(|| Wrong::part(key, &Value::Null, &format!("{key} should not be empty")))
    };
    let testcase = required(testcase, "testcase")?;
    let comment = required(text(map, "comment")?, "comment")?;
    let product_version = required(text(map, "product_version")?, "product_version")?;
    let (username, proxied_by) = match text(map, "username")? {
        Some(user) if user != sender.name => {
            let proxy = sender.role == Role::Admin || app.results.settings().proxies.contains(&sender.name);
            if !proxy {
                let why = format!("user {} does not have the proxyuser ability", sender.name);
                return Err(Wrong::new(StatusCode::FORBIDDEN, why));
            }
            (user, Some(sender.name.clone()))
        }
        _ => (sender.name.clone(), None),
    };
    may_waive(app, sender, &username, &testcase)?;
    let now = app.clock.now();
    let expires_at = match map.get("expires") {
        None | Some(Value::Null) => None,
        Some(value) => {
            let at = parse_time(value).ok_or_else(|| {
                Wrong::part("expires", value, "expected a time such as 2024-06-01T12:00:00")
            })?;
            if at <= now {
                return Err(Wrong::part("expires", value, "expected a time that is still to come"));
            }
            Some(at)
        }
    };
    Ok(Waiver {
        id: 0,
        at: now,
        subject_type: kind,
        subject_identifier: subject.item,
        testcase,
        scenario,
        username,
        proxied_by,
        product_version,
        waived: flag(map, "waived", true)?,
        comment,
        expires_at,
    })
}

async fn create(
    State(app): State<Arc<App>>,
    Poster(sender): Poster,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Wrong> {
    let body = value(&headers, body)?;
    let (many, list) = match body {
        Value::Array(list) => (true, list),
        one => (false, vec![one]),
    };
    if list.len() > MOST as usize || list.is_empty() {
        return Err(Wrong::bad("Send one waiver, or a list of 1 to 1000."));
    }
    let mut waivers = Vec::new();
    for one in &list {
        let map = one.as_object().ok_or_else(|| Wrong::part("body", one, "Input should be an object"))?;
        waivers.push(read(&app, &sender, map).await?);
    }
    let told = crate::reporting::facts::waivers(&app.reporting, &waivers);
    let ids = app.store.results().add_told_waivers(app.results.epoch(), &waivers, &told).await?;
    app.reporting.stored(told.iter().map(|entry| entry.target.as_str()));
    for (waiver, id) in waivers.iter_mut().zip(ids) {
        waiver.id = id;
        app.audit(&sender.name, "waiver_create", shape(waiver));
    }
    app.results.wake();
    let shapes: Vec<Value> = waivers.iter().map(shape).collect();
    let body = if many { Value::Array(shapes) } else { shapes.into_iter().next().unwrap_or_default() };
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

async fn permissions(
    State(app): State<Arc<App>>,
    Query(pairs): Query<BTreeMap<String, String>>,
) -> Json<Value> {
    let settings = app.results.settings();
    let fits = |testcases: &[String]| {
        pairs.get("testcase").is_none_or(|name| testcases.iter().any(|pattern| glob_match(pattern, name)))
    };
    let entries = settings.may_waive.iter().filter(|entry| fits(&entry.testcases)).map(|entry| {
        json!({ "name": entry.name, "maintainers": [], "testcases": entry.testcases, "users": entry.users, "groups": [] })
    });
    Json(Value::from(entries.collect::<Vec<_>>()))
}

/// Whether a waiver counts at this moment.
pub(crate) fn counts(waiver: &Waiver, now: Timestamp) -> bool {
    waiver.waived && waiver.expires_at.is_none_or(|expires| now < expires)
}
