//! `webhooks/product`: a pull request becomes a post of a product, and ends it.

use super::params::Params;
use super::{Operator, Wrong, isos};
use crate::app::App;
use crate::auth::personal_token;
use crate::products;
use assay_engine::product::Request;
use assay_store::RunFilter;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;

/// Posts of one pull request that are looked for.
const MOST: u32 = 500;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/webhooks/product", post(product))
}

/// That the body is what GitHub signed with the token that the sender has.
fn check_signature(headers: &HeaderMap, body: &[u8]) -> Result<(), Wrong> {
    let forbidden = |why: &str| Wrong::new(StatusCode::FORBIDDEN, why);
    let token = personal_token(headers).ok_or_else(|| {
        forbidden(
            "Put USER:KEY:SECRET@ before the host of the payload URL, and the same as the webhook's secret",
        )
    })?;
    let given = headers.get("x-hub-signature-256").and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| hex::decode(value.strip_prefix("sha256=")?).ok());
    let given =
        given.ok_or_else(|| forbidden("X-Hub-Signature-256 is missing: give the webhook a secret"))?;
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, token.as_bytes());
    ring::hmac::verify(&key, body, &given)
        .map_err(|_| forbidden("X-Hub-Signature-256 does not fit: the webhook's secret is USER:KEY:SECRET"))
}

fn text<'v>(event: &'v Value, path: &str) -> Result<&'v str, Wrong> {
    event
        .pointer(path)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Wrong::bad(format!("The event of a pull request has no text at {path}")))
}

/// What is posted unless the address of the webhook says otherwise.
fn defaults(event: &Value) -> Result<Vec<(String, String)>, Wrong> {
    let sha = text(event, "/pull_request/head/sha")?;
    let repository = text(event, "/pull_request/head/repo/full_name")?;
    let clone = text(event, "/pull_request/head/repo/clone_url")?;
    let page = event.pointer("/pull_request/html_url").and_then(Value::as_str).unwrap_or_default();
    let pairs = [
        ("BUILD", format!("{repository}#{sha}")),
        ("CASEDIR", format!("{clone}#{sha}")),
        ("_PRIORITY", "100".to_owned()),
        ("GITHUB_REPO", repository.to_owned()),
        ("GITHUB_SHA", sha.to_owned()),
        ("GITHUB_PR_URL", page.to_owned()),
    ];
    Ok(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

async fn cancel(app: &Arc<App>, webhook: &str, by: &str) -> Result<usize, Wrong> {
    let filter = RunFilter { webhook: Some(webhook.to_owned()), limit: MOST, ..RunFilter::default() };
    let mut cancelled = 0;
    for run in app.store.product_runs(&filter).await? {
        cancelled += isos::cancel_run(app, &run, by).await?;
    }
    Ok(cancelled)
}

async fn product(
    operator: Operator,
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Wrong> {
    check_signature(&headers, &body)?;
    let kind = headers.get("x-github-event").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind == "ping" {
        return Ok(Json(json!({"message": "pong"})));
    }
    if kind != "pull_request" {
        return Err(Wrong::bad(format!("Event {kind:?} is not known; send pull_request events only")));
    }
    let event: Value = serde_json::from_slice(&body)
        .map_err(|error| Wrong::bad(format!("The event is not JSON: {error}; choose application/json")))?;
    let number = event.pointer("/pull_request/id").and_then(Value::as_i64);
    let number = number.ok_or_else(|| Wrong::bad("The event has no number at /pull_request/id"))?;
    let webhook = format!("gh:pr:{number}");
    let by = &operator.0.name;
    match text(&event, "/action")? {
        "opened" | "reopened" | "synchronize" => {}
        "closed" => {
            let cancelled = cancel(&app, &webhook, by).await?;
            return Ok(Json(json!({"message": "pull request closed", "cancelled": cancelled})));
        }
        other => return Ok(Json(json!({"message": format!("nothing is done for {other}")}))),
    }
    let mut pairs = defaults(&event)?;
    let params = Params::of_query(uri.query().unwrap_or_default());
    pairs.extend(params.pairs().iter().map(|(key, value)| (key.to_uppercase(), isos::restored(value))));
    let request = Request::parse(pairs).map_err(|bad| Wrong::bad(bad.to_string()))?;
    let request = Request { webhook: Some(webhook.clone()), ..request };
    cancel(&app, &webhook, by).await?;
    match app.post_product(&request, by).await? {
        Ok(posted) => {
            let mut noted = products::noted(posted.run, &request.posted);
            noted["webhook"] = json!(webhook);
            app.audit(by, "iso_create", noted);
            let ids: Vec<_> = posted.jobs.iter().map(|job| job.0).collect();
            Ok(Json(json!({"scheduled_product_id": posted.run.0, "count": ids.len(), "ids": ids})))
        }
        Err(refused) => {
            let why = refused.plan.refused.as_ref().map(ToString::to_string).unwrap_or_default();
            Err(Wrong::bad(why).with("scheduled_product_id", refused.run.0))
        }
    }
}
