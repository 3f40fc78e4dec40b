//! `/api/assay/v1`; the objects are `assay_proto::api`.

pub(crate) mod assets;
mod bugs;
mod comments;
pub(crate) mod decision;
mod events;
mod files;
mod gate;
mod gate_door;
pub(crate) mod gate_history;
pub(crate) mod gate_view;
mod groups;
mod health;
pub(crate) mod jobs;
pub(crate) mod knowledge;
pub(crate) mod openapi;
pub(crate) mod openqa;
mod overview;
pub(crate) mod people;
pub(crate) mod products;
mod range;
pub(crate) mod releases;
pub(crate) mod restart;
pub(crate) mod resultsdb;
mod templates;
pub(crate) mod waivers;
mod workers;

use crate::app::App;
use crate::auth;
use crate::fault::{Fault, as_faults};
use assay_engine::ids::JobId;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::sync::Arc;

pub(crate) use files::{FileQuery, MAX_STEPS, attempt_of, followed, serve_blob, serve_stream};
pub(crate) use health::{healthz, metrics};
pub(crate) use jobs::filter_of;

/// The most bytes of a request.
const MAX_BODY: usize = 8 * 1024 * 1024;

pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/jobs", get(jobs::list).post(jobs::post))
        .route("/jobs/{id}", get(jobs::show).patch(jobs::change).delete(jobs::delete))
        .route("/jobs/cancel", post(jobs::cancel_some))
        .route("/jobs/{id}/wait", get(jobs::wait))
        .route("/jobs/{id}/cancel", post(jobs::cancel))
        .route("/jobs/{id}/result", post(jobs::set_result))
        .route("/jobs/{id}/steps", get(files::steps))
        .route("/jobs/{id}/streams/{file}", get(files::stream))
        .route("/blobs/{sha256}", get(files::blob))
        .merge(assets::router())
        .route("/events", get(events::listen))
        .merge(gate::router().layer(axum::middleware::from_fn(auth::admins_change)))
        .merge(bugs::router())
        .merge(groups::router())
        .merge(knowledge::router())
        .merge(overview::router())
        .merge(people::router())
        .merge(products::router())
        .merge(templates::router())
        .merge(restart::router())
        .merge(openapi::router())
        .merge(workers::router())
        .merge(releases::router())
        .merge(crate::events::api::router())
        .merge(crate::reporting::api::router())
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(axum::middleware::from_fn(auth::operators_change))
        .merge(comments::router().merge(people::own_keys()).layer(DefaultBodyLimit::max(MAX_BODY)))
        .layer(axum::middleware::from_fn(as_faults))
}

async fn unknown() -> Fault {
    Fault::not_found("There is nothing at this address.", "See /api for what there is.")
}

/// What a request says; `help` is for whoever sent something else.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8], help: &str) -> Result<T, Fault> {
    serde_json::from_slice(body)
        .map_err(|error| Fault::bad(format!("The request cannot be read: {error}."), help))
}

/// The number of something else than a job in an address.
pub(crate) fn number(text: &str) -> Result<i64, Fault> {
    let number = text.parse().ok().filter(|&number: &i64| number > 0);
    number
        .ok_or_else(|| Fault::not_found(format!("{text:?} is not a number of anything."), "Use digits only."))
}

/// What is there with what a request says in its place: what it does not name stays, and null takes away (RFC 7396).
pub(crate) fn merged<T: Serialize + DeserializeOwned>(before: &T, body: &[u8]) -> serde_json::Result<T> {
    let said: Map<String, Value> = serde_json::from_slice(body)?;
    let mut all = serde_json::to_value(before)?;
    // An object can be left out, not be null: without it nothing is said. Any other null is read as it is.
    let objects: Vec<String> = (all.as_object().into_iter().flatten())
        .filter(|(name, value)| value.is_object() && said.get(*name).is_some_and(Value::is_null))
        .map(|(name, _)| name.clone())
        .collect();
    lay_over(&mut all, Value::Object(said));
    if let Value::Object(all) = &mut all {
        all.retain(|name, _| !objects.contains(name));
    }
    serde_json::from_value(all)
}

fn lay_over(before: &mut Value, said: Value) {
    match (before, said) {
        (Value::Object(before), Value::Object(said)) => {
            for (name, value) in said {
                lay_over(before.entry(name).or_insert(Value::Null), value);
            }
        }
        (before, said) => *before = said,
    }
}

/// A job's number in an address.
pub(crate) fn job_id(text: &str) -> Result<JobId, Fault> {
    let number = text.parse().ok().filter(|&number: &i64| number > 0);
    number
        .map(JobId)
        .ok_or_else(|| Fault::not_found(format!("{text:?} is not a job's number."), "Use digits only."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_proto::api::groups::GroupSettings;

    #[test]
    fn what_is_not_named_stays_and_null_takes_away() {
        let before = br#"{"name":"g","parent":1,"properties":{"keep_logs_in_days":3,"default_priority":9}}"#;
        let before: GroupSettings = serde_json::from_slice(before).unwrap();
        let after = br#"{"parent":null,"sort_order":2,"properties":{"keep_logs_in_days":null}}"#;
        let after = merged(&before, after).unwrap();
        assert_eq!((after.name.as_str(), after.parent, after.sort_order), ("g", None, Some(2)));
        let properties = &after.properties;
        assert_eq!((properties.keep_logs_in_days, properties.default_priority), (None, Some(9)));
        let after = merged(&before, br#"{"properties":null}"#).unwrap();
        assert_eq!((after.name.as_str(), after.properties.keep_logs_in_days), ("g", None));
        for (body, want) in [
            (&br#"{"nam":"g"}"#[..], "unknown field `nam`"),
            (br#"{"properties":{"keep_log_in_days":1}}"#, "unknown field `keep_log_in_days`"),
            (br#"{"properties":{"carry_over_bugrefs":1}}"#, "expected a boolean"),
            (br#"{"name":null}"#, "expected a string"),
            (b"[]", "expected a map"),
            (b"", "EOF"),
        ] {
            let error = merged(&before, body).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}
