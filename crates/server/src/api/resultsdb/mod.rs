//! `/api/v2.0`: ResultsDB's API, by its addresses, parameters and answers.
//!
//! What is different on purpose is in `docs/coming-from-resultsdb.md`.

mod filter;
mod post;
mod shape;

use crate::app::App;
use crate::auth::Sender;
use crate::fault::Fault;
use assay_store::{NameFilter, ResultFilter, StoreError};
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use filter::Pairs;
pub(crate) use post::{object, time as parse_time, value};
use serde_json::{Value, json};
use shape::Place;
pub(crate) use shape::{moment, origin, result_value};
use std::sync::Arc;

/// The most bytes of a request.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// Whether an address is one of these APIs, whose clients read `message`.
pub(crate) fn is_ours(uri: &Uri) -> bool {
    uri.path().starts_with("/api/v2.0") || uri.path().starts_with("/api/v1.0")
}

pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v2.0", get(index))
        .route("/api/v2.0/", get(index))
        .route("/api/v2.0/healthcheck", get(health))
        .route("/api/v2.0/results", get(results).post(post::result))
        .route("/api/v2.0/results/latest", get(latest))
        .route("/api/v2.0/results/{id}", get(result))
        .route("/api/v2.0/groups", get(groups).post(post::group))
        .route("/api/v2.0/groups/{uuid}", get(group))
        .route("/api/v2.0/groups/{uuid}/results", get(results_of_group))
        .route("/api/v2.0/testcases", get(testcases).post(post::testcase))
        .route("/api/v2.0/testcases/{*name}", get(testcase))
        .route("/api/v2.0/{*rest}", axum::routing::any(unknown))
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

/// What a client of these APIs hears when something cannot be done: `{"message": …}`.
#[derive(Debug, Clone)]
pub(crate) struct Wrong {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    /// What is wrong with which part of the request.
    validation: Vec<Value>,
    retry_after: Option<HeaderValue>,
}

impl Wrong {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), validation: Vec::new(), retry_after: None }
    }

    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// A part of the request is not as it must be.
    pub(crate) fn part(part: &str, input: &Value, why: &str) -> Self {
        let shown = input.to_string();
        let shown: String = shown.chars().take(200).collect();
        let entry = json!({ "loc": [part], "input": shown, "msg": why, "type": "value_error" });
        Self { validation: vec![entry], ..Self::bad(format!("{part}: {why}")) }
    }

    /// All of several.
    pub(crate) fn all(mut wrong: Vec<Self>) -> Option<Self> {
        let first = wrong.first().cloned()?;
        let message = wrong.iter().map(|one| one.message.as_str()).collect::<Vec<_>>().join("; ");
        let validation = wrong.iter_mut().flat_map(|one| std::mem::take(&mut one.validation)).collect();
        Some(Self { message, validation, ..first })
    }
}

impl From<Fault> for Wrong {
    fn from(fault: Fault) -> Self {
        let status = fault.status;
        let message = format!("{} {}", fault.error, fault.help);
        let retry_after = fault.into_response().headers().get(header::RETRY_AFTER).cloned();
        Self { retry_after, ..Self::new(status, message.trim()) }
    }
}

impl From<StoreError> for Wrong {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TooBroad { .. } => Self::bad(error.to_string()),
            other => Fault::from(other).into(),
        }
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        let mut body = json!({ "message": self.message });
        if !self.validation.is_empty() {
            body["validation_error"] = Value::Array(self.validation);
        }
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let way = HeaderValue::from_static("Basic realm=\"Assay\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, way);
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

/// An operator sent the request: who may post results and waivers, of whatever test case. A task that posts with a token
/// of its own will be another kind of sender, and be held here to the test cases that its repository owns.
pub(crate) struct Poster(pub(crate) Sender);

impl<S: Sync> FromRequestParts<S> for Poster {
    type Rejection = Wrong;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Wrong> {
        let sender = parts.extensions.get::<Sender>();
        let Some(sender) = sender else { return Err(Wrong::new(StatusCode::UNAUTHORIZED, "Who are you?")) };
        sender.must_be_operator().map_err(Wrong::from)?;
        Ok(Self(sender.clone()))
    }
}

async fn unknown() -> Wrong {
    Wrong::not_found("Not found")
}

async fn wrong_method(method: Method) -> Wrong {
    Wrong::new(StatusCode::METHOD_NOT_ALLOWED, format!("The method {method} is not allowed here."))
}

/// 300, as in ResultsDB: there is a choice.
async fn index(State(app): State<Arc<App>>, place: Place) -> Response {
    let base = &place.base;
    let settings = app.results.settings();
    let body = json!({
        "message": "You probably want one of these addresses.",
        "documentation": "https://docs.fedoraproject.org/en-US/resultsdb/",
        "groups": format!("{base}/groups"),
        "results": format!("{base}/results"),
        "testcases": format!("{base}/testcases"),
        "outcomes": settings.outcomes().collect::<Vec<_>>(),
    });
    (StatusCode::MULTIPLE_CHOICES, Json(body)).into_response()
}

async fn health(State(app): State<Arc<App>>) -> Response {
    let looked = app.store.results().results(&ResultFilter { limit: 1, ..ResultFilter::default() }).await;
    match looked {
        Ok(_) => Json(json!({ "message": "Health check OK" })).into_response(),
        Err(error) => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            (status, Json(json!({ "message": format!("Unable to communicate with database: {error}") })))
                .into_response()
        }
    }
}

fn outcomes(app: &App) -> Vec<String> {
    app.results.settings().outcomes().map(str::to_owned).collect()
}

async fn results(State(app): State<Arc<App>>, place: Place, pairs: Pairs) -> Result<Response, Wrong> {
    list(&app, &place, &pairs, |_| {}).await
}

async fn list(
    app: &App,
    place: &Place,
    pairs: &Pairs,
    narrow: impl FnOnce(&mut ResultFilter),
) -> Result<Response, Wrong> {
    let page = pairs.page()?;
    let mut filter = pairs.filter(&outcomes(app))?;
    narrow(&mut filter);
    filter.offset = page.offset();
    filter.limit = page.limit + 1;
    let mut found = app.store.results().results(&filter).await?;
    let more = found.len() > page.limit as usize;
    found.truncate(page.limit as usize);
    let entries = found.iter().map(|result| shape::result(result, &place.base));
    Ok(place.paged(entries, page, more))
}

async fn latest(State(app): State<Arc<App>>, place: Place, pairs: Pairs) -> Result<Response, Wrong> {
    let filter = pairs.filter(&outcomes(&app))?;
    let keys = pairs.distinct_on();
    if !keys.is_empty() && filter.conditions.is_empty() && filter.since.is_none() {
        return Err(Wrong::bad("Please, provide at least one filter beside '_distinct_on'"));
    }
    let found = app.store.results().latest(&filter, &keys).await?;
    Ok(Place::unpaged(found.iter().map(|result| shape::result(result, &place.base))))
}

async fn result(
    State(app): State<Arc<App>>,
    place: Place,
    Path(id): Path<String>,
) -> Result<Response, Wrong> {
    let none = || Wrong::not_found("Result not found");
    let id = id.parse().map_err(|_| none())?;
    let found = app.store.results().result(assay_store::ResultId(id)).await?.ok_or_else(none)?;
    Ok(shape::json(StatusCode::OK, shape::result(&found, &place.base)))
}

async fn groups(State(app): State<Arc<App>>, place: Place, pairs: Pairs) -> Result<Response, Wrong> {
    let page = pairs.page()?;
    let filter = NameFilter {
        names: pairs.values("uuid"),
        descriptions: pairs.values("description"),
        like: pairs.values("description:like"),
        offset: page.offset(),
        limit: page.limit + 1,
    };
    let mut found = app.store.results().result_groups(&filter).await?;
    let more = found.len() > page.limit as usize;
    found.truncate(page.limit as usize);
    Ok(place.paged(found.iter().map(|group| shape::group(group, &place.base)), page, more))
}

async fn one_group(app: &App, uuid: &str) -> Result<Option<assay_store::ResultGroup>, Wrong> {
    let filter = NameFilter { names: vec![uuid.to_owned()], limit: 1, ..NameFilter::default() };
    Ok(app.store.results().result_groups(&filter).await?.pop())
}

async fn group(
    State(app): State<Arc<App>>,
    place: Place,
    Path(uuid): Path<String>,
) -> Result<Response, Wrong> {
    let found = one_group(&app, &uuid).await?.ok_or_else(|| Wrong::not_found("Group not found"))?;
    Ok(shape::json(StatusCode::OK, shape::group(&found, &place.base)))
}

async fn results_of_group(
    State(app): State<Arc<App>>,
    place: Place,
    pairs: Pairs,
    Path(uuid): Path<String>,
) -> Result<Response, Wrong> {
    let found = one_group(&app, &uuid).await?;
    found.ok_or_else(|| Wrong::not_found(format!("Group not found: {uuid}")))?;
    let of = assay_store::Condition::is(assay_store::Field::Group, [uuid]);
    list(&app, &place, &pairs, |filter| filter.conditions.push(of)).await
}

async fn testcases(State(app): State<Arc<App>>, place: Place, pairs: Pairs) -> Result<Response, Wrong> {
    let page = pairs.page()?;
    let filter = NameFilter {
        names: pairs.values("name"),
        like: pairs.values("name:like"),
        offset: page.offset(),
        limit: page.limit + 1,
        ..NameFilter::default()
    };
    let mut found = app.store.results().testcases(&filter).await?;
    let more = found.len() > page.limit as usize;
    found.truncate(page.limit as usize);
    Ok(place.paged(found.iter().map(|testcase| shape::testcase(testcase, &place.base)), page, more))
}

/// A test case, or its results: its name may have slashes.
async fn testcase(
    State(app): State<Arc<App>>,
    place: Place,
    pairs: Pairs,
    Path(path): Path<String>,
) -> Result<Response, Wrong> {
    let find = async |name: &str| {
        let filter = NameFilter { names: vec![name.to_owned()], limit: 1, ..NameFilter::default() };
        app.store.results().testcases(&filter).await.map(|mut found| found.pop())
    };
    if let Some(found) = find(&path).await? {
        return Ok(shape::json(StatusCode::OK, shape::testcase(&found, &place.base)));
    }
    let none = || Wrong::not_found("Testcase not found");
    let name = path.strip_suffix("/results").ok_or_else(none)?;
    find(name).await?.ok_or_else(none)?;
    let of = assay_store::Condition::is(assay_store::Field::Testcase, [name]);
    list(&app, &place, &pairs, |filter| filter.conditions.push(of)).await
}

/// For handlers that want the fields of a request.
pub(crate) fn field<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
