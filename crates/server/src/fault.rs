//! What a request hears when it cannot be done: a status, one sentence, and what to do.

use crate::web::frame::Frame;
use askama::Template;
use assay_engine::settings::{COVERED, is_covered};
use assay_proto::api::ApiError;
use assay_store::StoreError;
use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};

/// An error of the API; see [`ApiError`].
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) status: StatusCode,
    pub(crate) error: String,
    pub(crate) help: String,
    retry_after: Option<u32>,
}

impl Fault {
    pub(crate) fn new(status: StatusCode, error: impl Into<String>, help: impl Into<String>) -> Self {
        Self { status, error: error.into(), help: help.into(), retry_after: None }
    }

    pub(crate) fn bad(error: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, help)
    }

    pub(crate) fn not_found(error: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error, help)
    }

    pub(crate) fn no_job(id: impl std::fmt::Display) -> Self {
        Self::not_found(format!("There is no job {id}."), "See the list of jobs for those that there are.")
    }

    /// Refuses settings of which one only covers a secret, as somebody reads them who may not see it: the job would run
    /// with the cover.
    pub(crate) fn if_covered<'s>(settings: impl IntoIterator<Item = (&'s str, &'s str)>) -> Result<(), Self> {
        match settings.into_iter().find(|(key, value)| is_covered(key, value)) {
            Some((key, _)) => Err(Self::bad(
                format!("{key} has the value {COVERED}, which only covers a secret."),
                format!("Give the secret itself ({key}=…), or leave the setting out or empty ({key}=)."),
            )),
            None => Ok(()),
        }
    }

    /// Not now; again in `seconds`.
    pub(crate) fn later(error: impl Into<String>, seconds: u32) -> Self {
        let help = format!("Try again in {seconds} s.");
        Self { retry_after: Some(seconds), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, error, help) }
    }
}

/// What the engine says, as a sentence by itself. Its texts begin with a word, never with somebody's name.
pub(crate) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    let end = if text.ends_with('.') { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        let (status, help) = match &error {
            StoreError::DiskFull { .. } => (StatusCode::INSUFFICIENT_STORAGE, "Make room; nothing was lost."),
            StoreError::BadHash { .. } | StoreError::BadStream { .. } => {
                (StatusCode::BAD_REQUEST, "Correct the address.")
            }
            StoreError::NoUpload { .. } => (StatusCode::NOT_FOUND, "Begin the upload anew."),
            StoreError::UploadOffset { .. } => {
                (StatusCode::CONFLICT, "Ask for the upload's offset, and go on from there.")
            }
            StoreError::UploadSize { .. } => {
                (StatusCode::BAD_REQUEST, "Send as many bytes as were announced.")
            }
            StoreError::TooBroad { .. } => (StatusCode::BAD_REQUEST, "Write more of what you look for."),
            StoreError::HashMismatch { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "Send the bytes again."),
            StoreError::Stopped | StoreError::Deposed => {
                return Self::later(error.to_string(), 5);
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "The server's log says more."),
        };
        if status.is_server_error() {
            tracing::error!(%error, "a request failed");
        }
        Self::new(status, error.to_string(), help)
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let body = Json(ApiError { error: self.error, help: self.help });
        let mut response = (self.status, body).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The longest text of a refusal.
const MAX_TEXT: usize = 4096;

/// What axum refuses by itself, such as a body that is too long or a query that is none, as every other fault is told.
pub(crate) async fn as_faults(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let response = next.run(request).await;
    let status = response.status();
    let is_told = |kind: &HeaderValue| kind.as_bytes().starts_with(b"application/json");
    let kind = response.headers().get(header::CONTENT_TYPE);
    if !(status.is_client_error() || status.is_server_error()) || kind.is_some_and(is_told) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = axum::body::to_bytes(body, MAX_TEXT).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let (error, help) = match status {
        StatusCode::PAYLOAD_TOO_LARGE => (
            "The request is too long.".to_owned(),
            "Send less at once; most addresses take 8 MiB.".to_owned(),
        ),
        // Which it takes, axum says in a header later on.
        StatusCode::METHOD_NOT_ALLOWED => (
            format!("This address does not take {method}."),
            "The header Allow says what it takes.".to_owned(),
        ),
        StatusCode::RANGE_NOT_SATISFIABLE => (
            "There is nothing where the range begins.".to_owned(),
            "Content-Range says how much there is.".to_owned(),
        ),
        _ if text.is_empty() => (sentence(&status.to_string()), "See /api for what there is.".to_owned()),
        _ => (sentence(&text), "See /api for what this address takes.".to_owned()),
    };
    let mut told = Fault::new(status, error, help).into_response();
    for (name, value) in &parts.headers {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            told.headers_mut().insert(name, value.clone());
        }
    }
    told
}

/// The same for people.
#[derive(Debug)]
pub(crate) struct PageFault(pub(crate) Fault, pub(crate) Frame);

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    frame: &'a Frame,
    error: &'a str,
    help: &'a str,
}

impl IntoResponse for PageFault {
    fn into_response(self) -> Response {
        let page = ErrorPage { frame: &self.1, error: &self.0.error, help: &self.0.help };
        match page.render() {
            Ok(html) => (self.0.status, Html(html)).into_response(),
            Err(_) => self.0.into_response(),
        }
    }
}
