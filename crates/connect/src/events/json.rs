//! Reading JSON over HTTP, and files of this machine by `file://`.

use crate::http::Http;
use hyper::{Method, StatusCode};
use serde_json::Value;
use std::time::Duration;

/// The longest document: a compose's images are some megabytes.
const LONGEST: usize = 64 << 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Why there is no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoDocument {
    /// One sentence.
    pub why: String,
    /// Asking again would not help.
    pub for_good: bool,
}

/// Reads documents.
#[derive(Debug, Clone)]
pub struct Fetcher {
    http: Option<Http>,
}

impl Fetcher {
    /// For addresses like this one.
    pub fn new(url: &str) -> Result<Self, String> {
        if url.starts_with("file:///") {
            return Ok(Self { http: None });
        }
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(format!("{url} is no address; it begins with http://, https:// or file:///"));
        }
        Ok(Self { http: Some(Http::new(url.starts_with("https://"), None, LONGEST)?) })
    }

    /// Reads a text.
    pub async fn text(&self, url: &str) -> Result<String, NoDocument> {
        let none = || NoDocument { why: format!("there is no {url}"), for_good: false };
        self.look(url).await?.ok_or_else(none)
    }

    /// Reads a text; `None` if there is nothing at this address.
    async fn look(&self, url: &str) -> Result<Option<String>, NoDocument> {
        let Some(http) = &self.http else {
            let path = url.strip_prefix("file://").unwrap_or(url);
            return match fs_err::read_to_string(path) {
                Ok(text) => Ok(Some(text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(NoDocument { why: error.to_string(), for_good: false }),
            };
        };
        let asked = tokio::time::timeout(PATIENCE, http.ask(Method::GET, url, None, None)).await;
        let later = |why: String| NoDocument { why: format!("{url}: {why}"), for_good: false };
        let answer = asked.map_err(|_| later(format!("no answer within {} s", PATIENCE.as_secs())))?;
        let answer = answer.map_err(|error| later(error.why))?;
        if answer.status == StatusCode::OK {
            return Ok(Some(answer.body));
        }
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let gone = answer.status == StatusCode::GONE || answer.status == StatusCode::BAD_REQUEST;
        let words = words(&answer.body).map(|words| format!(": {words}")).unwrap_or_default();
        Err(NoDocument { why: format!("{url} answers {}{words}", answer.status), for_good: gone })
    }

    /// Reads a document; `None` if there is nothing at this address.
    pub async fn find(&self, url: &str) -> Result<Option<Value>, NoDocument> {
        self.look(url).await?.map(|text| parse(url, &text)).transpose()
    }

    /// Reads a document.
    pub async fn get(&self, url: &str) -> Result<Value, NoDocument> {
        parse(url, &self.text(url).await?)
    }
}

fn parse(url: &str, text: &str) -> Result<Value, NoDocument> {
    serde_json::from_str(text)
        .map_err(|error| NoDocument { why: format!("{url} is not JSON: {error}"), for_good: false })
}

/// What a server says of a request that it refuses, as Bodhi and others do.
fn words(body: &str) -> Option<String> {
    let body: Value = serde_json::from_str(body).ok()?;
    let said = [&body["errors"][0]["description"], &body["error"], &body["message"]];
    said.into_iter().find_map(|words| words.as_str().map(str::to_owned))
}
