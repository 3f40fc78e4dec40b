//! What the API is, for programs (`/api/assay/v1/openapi.json`, OpenAPI 3.1) and for people (`/api`).
//!
//! Addresses are in `endpoints.txt`, a block each; the objects are read from the source of `assay_proto::api`, so that
//! they are what is sent. A test walks the routers: no address lacks here, and none is here that there is not.

mod endpoints;
mod schema;
#[cfg(test)]
mod tests;

pub(crate) use endpoints::{Access, Body, Endpoint, Field, Place};
pub(crate) use schema::example;

use crate::app::App;
use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/openapi.json", get(serve))
}

static ENDPOINTS: LazyLock<Vec<Endpoint>> = LazyLock::new(endpoints::all);
static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut text = serde_json::to_string_pretty(&document()).unwrap_or_default();
    text.push('\n');
    text
});

/// Every address, in the order of the document.
pub(crate) fn endpoints() -> impl Iterator<Item = &'static Endpoint> {
    ENDPOINTS.iter()
}

async fn serve() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")], DOCUMENT.as_str())
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// What crosses in one direction.
fn content(body: &Body) -> Value {
    match body {
        Body::Object { name, example } => {
            let mut media = json!({"schema": reference(name)});
            if let Some(example) = example {
                media["example"] = example.clone();
            }
            json!({"application/json": media})
        }
        Body::Example(example) => {
            json!({"application/json": {"schema": schema::of_example(example), "example": example}})
        }
        Body::Bytes(kind) => json!({ kind: {} }),
    }
}

fn parameter(endpoint: &Endpoint, name: &str) -> Value {
    let numbered =
        ["/jobs/{id}", "groups/{id}", "/bugs/{id}"].iter().any(|part| endpoint.path.contains(part));
    let integer = numbered && name == "id" || name == "comment";
    let kind = if integer { "integer" } else { "string" };
    json!({"name": name, "in": "path", "required": true, "schema": {"type": kind}})
}

fn operation(endpoint: &Endpoint) -> Value {
    let mut parameters: Vec<Value> =
        endpoint.path_parameters().map(|name| parameter(endpoint, name)).collect();
    let query = endpoint.fields.iter().filter(|field| field.place == Place::Query);
    parameters.extend(query.map(|field| {
        json!({
            "name": field.name, "in": "query", "required": field.required, "description": field.text,
            "schema": {"type": "string"},
        })
    }));
    let success = if endpoint.created { "201" } else { "200" };
    let mut responses = Map::new();
    let mut answer = json!({"description": "Done."});
    if let Some(body) = &endpoint.answer {
        answer["content"] = content(body);
    }
    responses.insert(success.to_owned(), answer);
    let error = if endpoint.is_openqa() { "OpenqaError" } else { "ApiError" };
    let wrong = json!({
        "description": "Not done; the answer says why.",
        "content": {"application/json": {"schema": reference(error)}},
    });
    responses.insert("default".to_owned(), wrong);
    let mut operation = json!({
        "operationId": endpoint.operation_id(),
        "tags": [endpoint.tag()],
        "summary": endpoint.summary,
        "x-assay-role": endpoint.role.word(),
        "parameters": parameters,
        "responses": responses,
    });
    operation["security"] = match endpoint.role {
        Access::Public => json!([{}, {"bearer": []}]),
        Access::Test => json!([{"jobToken": []}]),
        Access::Known | Access::Operator | Access::Admin => {
            json!([{"bearer": []}, {"basic": []}, {"signature": []}])
        }
    };
    let form: Vec<_> = endpoint.fields.iter().filter(|field| field.place == Place::Form).collect();
    if !form.is_empty() {
        let properties: Map<_, _> = form
            .iter()
            .map(|field| (field.name.clone(), json!({"type": "string", "description": field.text})))
            .collect();
        let required: Vec<_> = form.iter().filter(|field| field.required).map(|field| &field.name).collect();
        let mut schema = json!({"type": "object", "properties": properties});
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        operation["requestBody"] = json!({
            "required": !required.is_empty(),
            "content": {
                "application/x-www-form-urlencoded": {"schema": schema},
                "application/json": {"schema": schema},
            },
        });
    } else if let Some(body) = &endpoint.body {
        operation["requestBody"] = json!({"required": true, "content": content(body)});
    }
    operation
}

const INTRODUCTION: &str = "Assay's own API is below /api/assay/v1; its errors are ApiError. openQA's API v1 is below /api/v1, \
     as openQA's clients use it; parameters of it may be in the query, in a form or in JSON. What differs from openQA is in \
     docs/coming-from-openqa.md. Times are RFC 3339 in UTC. Reading is open to everybody unless an address says otherwise \
     (x-assay-role).";

/// The whole description.
pub(crate) fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    let mut tags = BTreeSet::new();
    for endpoint in endpoints() {
        tags.insert(endpoint.tag());
        let path = paths.entry(endpoint.path.clone()).or_insert_with(|| json!({}));
        path[endpoint.method.to_lowercase()] = operation(endpoint);
    }
    let tags: Vec<_> = tags.into_iter().map(|name| json!({ "name": name })).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Assay",
            "version": env!("CARGO_PKG_VERSION"),
            "description": INTRODUCTION,
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schema::all(),
            "securitySchemes": {
                "bearer": {
                    "type": "http", "scheme": "bearer",
                    "description": "USER:KEY:SECRET of `assay key create`, or a token of the data directory.",
                },
                "basic": {"type": "http", "scheme": "basic", "description": "USER and KEY:SECRET."},
                "signature": {
                    "type": "apiKey", "in": "header", "name": "X-API-Key",
                    "description": "With X-API-Microtime and X-API-Hash (HMAC-SHA1 of address and time), as openQA's clients sign.",
                },
                "jobToken": {
                    "type": "apiKey", "in": "header", "name": "X-API-JobToken",
                    "description": "The setting JOBTOKEN of a running job.",
                },
            },
        },
    })
}
