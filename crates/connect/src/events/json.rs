//! Reading JSON over HTTP, and files of this machine by `file://`.

use crate::http::Http;
use assay_engine::ids::Timestamp;
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
    /// Whether asking again helps.
    pub hope: Hope,
}

/// Whether asking again helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hope {
    /// Once somebody has mended something.
    Mended,
    /// There is nothing at this address; what is being made may come, and what is wrong or was removed does not.
    Missing,
    /// No.
    Never,
}

impl NoDocument {
    pub(crate) fn later(why: impl Into<String>) -> Self {
        Self { why: why.into(), hope: Hope::Mended }
    }

    pub(crate) fn never(why: impl Into<String>) -> Self {
        Self { why: why.into(), hope: Hope::Never }
    }
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
        self.look(url).await?.ok_or_else(|| none(url))
    }

    /// Reads a text; `None` if there is nothing at this address.
    pub async fn look(&self, url: &str) -> Result<Option<String>, NoDocument> {
        Ok(self.look_dated(url).await?.map(|(text, _)| text))
    }

    /// The same with the time of the server.
    async fn look_dated(&self, url: &str) -> Result<Option<(String, Option<Timestamp>)>, NoDocument> {
        let Some(http) = &self.http else {
            let path = url.strip_prefix("file://").unwrap_or(url);
            return match fs_err::read_to_string(path) {
                Ok(text) => Ok(Some((text, None))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(NoDocument::later(error.to_string())),
            };
        };
        let asked = tokio::time::timeout(PATIENCE, http.ask(Method::GET, url, None, None)).await;
        let later = |why: String| NoDocument::later(format!("{url}: {why}"));
        let answer = asked.map_err(|_| later(format!("no answer within {} s", PATIENCE.as_secs())))?;
        let answer = answer.map_err(|error| later(error.why))?;
        if answer.status == StatusCode::OK {
            return Ok(Some((answer.body, answer.date)));
        }
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let gone = answer.status == StatusCode::GONE || answer.status == StatusCode::BAD_REQUEST;
        let words = words(&answer.body).map(|words| format!(": {words}")).unwrap_or_default();
        let why = format!("{url} answers {}{words}", answer.status);
        Err(if gone { NoDocument::never(why) } else { NoDocument::later(why) })
    }

    /// Reads a document; `None` if there is nothing at this address.
    pub async fn find(&self, url: &str) -> Result<Option<Value>, NoDocument> {
        self.look(url).await?.map(|text| parse(url, &text)).transpose()
    }

    /// Reads a document.
    pub async fn get(&self, url: &str) -> Result<Value, NoDocument> {
        parse(url, &self.text(url).await?)
    }

    /// Reads a document, and what time it is at its server: ours may jump. `now` is for servers that do not say.
    pub async fn dated(&self, url: &str, now: Timestamp) -> Result<(Value, Timestamp), NoDocument> {
        let (text, date) = self.look_dated(url).await?.ok_or_else(|| none(url))?;
        Ok((parse(url, &text)?, date.unwrap_or(now)))
    }
}

fn none(url: &str) -> NoDocument {
    let why = if url.starts_with("file://") { "is not there" } else { "answers 404 Not Found" };
    NoDocument { why: format!("{url} {why}"), hope: Hope::Missing }
}

fn parse(url: &str, text: &str) -> Result<Value, NoDocument> {
    serde_json::from_str(text).map_err(|error| NoDocument::later(format!("{url} is not JSON: {error}")))
}

/// What a server says of a request that it refuses, as Bodhi and others do.
fn words(body: &str) -> Option<String> {
    let body: Value = serde_json::from_str(body).ok()?;
    let said = [&body["errors"][0]["description"], &body["error"], &body["message"]];
    said.into_iter().find_map(|words| words.as_str().map(str::to_owned))
}
