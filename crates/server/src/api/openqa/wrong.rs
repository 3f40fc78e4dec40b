//! What a client of openQA's API hears when something cannot be done.

use crate::fault::Fault;
use assay_store::StoreError;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// `{"error": …}` with a status.
#[derive(Debug, Clone)]
pub(crate) struct Wrong {
    status: StatusCode,
    body: Value,
}

impl Wrong {
    pub(crate) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, body: json!({ "error": error.into() }) }
    }

    pub(crate) fn bad(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    pub(crate) fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    /// All that is wrong with parameters, in openQA's words.
    pub(crate) fn parameters(missing: &[&str], invalid: &[&str]) -> Self {
        let invalid = invalid.iter().map(|name| format!("{name} invalid"));
        let missing = missing.iter().map(|name| format!("{name} missing"));
        let all: Vec<_> = invalid.chain(missing).collect();
        Self::bad(format!("Erroneous parameters ({})", all.join(", ")))
    }

    /// The same for people.
    pub(crate) fn fault(self) -> Fault {
        self.told("Go back, and correct what was sent.")
    }

    /// The same for clients of Assay's own API.
    pub(crate) fn told(self, help: &str) -> Fault {
        let error = match self.body.get("error") {
            Some(Value::String(error)) => error.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        Fault::new(self.status, error, help)
    }

    /// The same with more in the answer.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.body[name] = value.into();
        self
    }
}

impl From<Fault> for Wrong {
    fn from(fault: Fault) -> Self {
        Self::new(fault.status, format!("{} {}", fault.error, fault.help).trim().to_owned())
    }
}

impl From<StoreError> for Wrong {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Duplicate { .. } => Self::new(StatusCode::CONFLICT, error.to_string()),
            other => Fault::from(other).into(),
        }
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}
