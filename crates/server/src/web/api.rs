//! `/api`: what programs may ask, for people.

use super::frame::Frame;
use crate::api::openapi::{self, Body, Endpoint, Place};
use crate::app::App;
use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/api", get(page)).route("/api/", get(page))
}

#[derive(Debug, Default, Deserialize)]
struct Search {
    #[serde(default)]
    q: String,
}

struct Field {
    name: &'static str,
    place: &'static str,
    required: bool,
    text: &'static str,
}

struct Operation {
    id: String,
    method: &'static str,
    path: &'static str,
    role: &'static str,
    summary: &'static str,
    fields: Vec<Field>,
    body: Option<String>,
    answer: Option<String>,
    curl: String,
}

struct Family {
    name: String,
    operations: Vec<Operation>,
}

#[derive(Template)]
#[template(path = "api.html")]
struct ApiPage {
    frame: Frame,
    q: String,
    families: Vec<Family>,
    shown: usize,
    total: usize,
}

/// What crosses, as people read it.
fn text(body: &Body) -> String {
    match body {
        Body::Bytes(kind) => kind.clone(),
        Body::Object { name, example: None } => {
            format!("{name} {}", pretty(&openapi::example(name)))
        }
        Body::Object { name, example: Some(example) } => format!("{name} {}", pretty(example)),
        Body::Example(example) => pretty(example),
    }
}

fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn operation(endpoint: &'static Endpoint) -> Operation {
    let field = |field: &'static openapi::Field| Field {
        name: &field.name,
        place: if field.place == Place::Query { "query" } else { "form or query" },
        required: field.required,
        text: &field.text,
    };
    Operation {
        id: endpoint.operation_id(),
        method: &endpoint.method,
        path: &endpoint.path,
        role: endpoint.role.word(),
        summary: &endpoint.summary,
        fields: endpoint.fields.iter().map(field).collect(),
        body: endpoint.body.as_ref().map(text),
        answer: endpoint.answer.as_ref().map(text),
        curl: endpoint.curl(),
    }
}

/// All words that are looked for are in what is told of the address.
fn fits(endpoint: &Endpoint, words: &[String]) -> bool {
    let names: Vec<_> = endpoint.fields.iter().map(|field| field.name.as_str()).collect();
    let told = [&endpoint.method, &endpoint.path, &endpoint.summary].map(String::as_str).join(" ");
    let told = format!("{told} {} {}", endpoint.role.word(), names.join(" ")).to_lowercase();
    words.iter().all(|word| told.contains(word))
}

async fn page(State(app): State<Arc<App>>, Query(search): Query<Search>) -> Response {
    let q: String = search.q.trim().chars().take(200).collect();
    let words: Vec<_> = q.to_lowercase().split_whitespace().map(str::to_owned).collect();
    let (mut families, mut shown): (Vec<Family>, _) = (Vec::new(), 0);
    for endpoint in openapi::endpoints().filter(|endpoint| fits(endpoint, &words)) {
        shown += 1;
        let name = endpoint.tag();
        match families.iter_mut().find(|family| family.name == name) {
            Some(family) => family.operations.push(operation(endpoint)),
            None => families.push(Family { name, operations: vec![operation(endpoint)] }),
        }
    }
    let frame = Frame::new(app.clock.now());
    super::page(&app, Ok(ApiPage { frame, q, families, shown, total: openapi::endpoints().count() }))
}
