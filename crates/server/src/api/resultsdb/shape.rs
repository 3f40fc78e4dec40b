//! Answers, as ResultsDB's clients read them.

use super::filter::Page;
use super::{Wrong, field};
use crate::web::frame::{percent_encoded, percent_encoded_path};
use assay_engine::ids::Timestamp;
use assay_store::{ResultGroup, StoredResult, Testcase};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

/// Where the request went to: addresses in answers begin with it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// `http://HOST/api/v2.0`
    pub(super) base: String,
    /// The address of the request.
    path: String,
    query: String,
}

/// `http://HOST`, as the client knows this server.
pub(crate) fn origin(headers: &axum::http::HeaderMap) -> String {
    let host = field(headers, "x-forwarded-host").or_else(|| field(headers, "host")).unwrap_or("localhost");
    let scheme = if field(headers, "x-forwarded-proto") == Some("https") { "https" } else { "http" };
    format!("{scheme}://{host}")
}

impl<S: Sync> FromRequestParts<S> for Place {
    type Rejection = Wrong;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Wrong> {
        let origin = origin(&parts.headers);
        Ok(Self {
            base: format!("{origin}/api/v2.0"),
            path: format!("{origin}{}", parts.uri.path()),
            query: parts.uri.query().unwrap_or_default().to_owned(),
        })
    }
}

impl Place {
    /// The same question, another page.
    fn at_page(&self, page: u64) -> String {
        let name =
            |part: &&str| !part.is_empty() && !matches!(part.split('=').next(), Some("page" | "callback"));
        let mut parts: Vec<String> = self.query.split('&').filter(name).map(str::to_owned).collect();
        parts.push(format!("page={page}"));
        format!("{}?{}", self.path, parts.join("&"))
    }

    pub(super) fn paged(&self, entries: impl Iterator<Item = String>, page: Page, more: bool) -> Response {
        let link = |page: Option<u64>| page.map_or("null".to_owned(), |page| text(&self.at_page(page)));
        let next = link(more.then(|| page.number + 1));
        let previous = link(page.number.checked_sub(1));
        json(
            StatusCode::OK,
            format!("{{\"data\":[{}],\"next\":{next},\"prev\":{previous}}}", joined(entries)),
        )
    }

    pub(super) fn unpaged(entries: impl Iterator<Item = String>) -> Response {
        json(StatusCode::OK, format!("{{\"data\":[{}]}}", joined(entries)))
    }
}

fn joined(entries: impl Iterator<Item = String>) -> String {
    let mut out = String::new();
    for entry in entries {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(&entry);
    }
    out
}

/// An answer that is JSON already.
pub(super) fn json(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn text(text: &str) -> String {
    Value::from(text).to_string()
}

fn optional(value: Option<&str>) -> String {
    value.map_or_else(|| "null".to_owned(), text)
}

/// `2026-11-20T09:32:49.607041`: UTC, without saying so, and without a fraction if there is none.
pub(crate) fn moment(at: Timestamp) -> String {
    let time = jiff::Timestamp::from_microsecond(at.0).unwrap_or_default();
    let format = if at.0.rem_euclid(1_000_000) == 0 { "%Y-%m-%dT%H:%M:%S" } else { "%Y-%m-%dT%H:%M:%S.%6f" };
    time.strftime(format).to_string()
}

/// The data and the groups are stored as they are told.
pub(super) fn result(result: &StoredResult, base: &str) -> String {
    let StoredResult { id, data, groups, .. } = result;
    format!(
        "{{\"data\":{data},\"groups\":{groups},\"href\":{},\"id\":{},\"note\":{},\"outcome\":{},\"ref_url\":{},\
         \"submit_time\":\"{}\",\"testcase\":{}}}",
        text(&format!("{base}/results/{}", id.0)),
        id.0,
        optional(result.note.as_deref()),
        text(&result.outcome),
        optional(result.ref_url.as_deref()),
        moment(result.at),
        of_testcase(&result.testcase, result.testcase_ref_url.as_deref(), base),
    )
}

/// The same as a value.
pub(crate) fn result_value(stored: &StoredResult, base: &str) -> Value {
    serde_json::from_str(&result(stored, base)).unwrap_or_default()
}

fn of_testcase(name: &str, ref_url: Option<&str>, base: &str) -> String {
    format!(
        "{{\"href\":{},\"name\":{},\"ref_url\":{}}}",
        text(&format!("{base}/testcases/{}", percent_encoded_path(name))),
        text(name),
        optional(ref_url)
    )
}

pub(super) fn testcase(testcase: &Testcase, base: &str) -> String {
    of_testcase(&testcase.name, testcase.ref_url.as_deref(), base)
}

pub(super) fn group(group: &ResultGroup, base: &str) -> String {
    let uuid = percent_encoded(&group.uuid);
    format!(
        "{{\"description\":{},\"href\":{},\"ref_url\":{},\"results\":{},\"results_count\":{},\"uuid\":{}}}",
        optional(group.description.as_deref()),
        text(&format!("{base}/groups/{uuid}")),
        optional(group.ref_url.as_deref()),
        text(&format!("{base}/results?groups={uuid}")),
        group.results,
        text(&group.uuid),
    )
}
