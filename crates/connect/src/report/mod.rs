//! Clients that tell outside systems what was decided: brokers, result stores, chats, Bodhi, wikis, webhooks.
//!
//! Each says of every try what came of it; when, in which order and how often it is tried again is the outbox's.

pub mod amqp;
pub mod bodhi;
pub mod irc;
pub mod matrix;
pub mod resultsdb;
pub mod webhook;
pub mod wiki;

use crate::http::Http;
use hyper::{Request, Response};
use serde_json::Value;
use std::time::Duration;

/// The longest that one request may take.
const DEADLINE: Duration = Duration::from_mins(1);
/// The longest answer that is read.
pub const LONGEST_ANSWER: usize = 8 << 20;

/// What came of telling somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It is there; perhaps with a note for people.
    Done(Option<String>),
    /// It was not sent, and need not be: why.
    Skipped(String),
    /// To be tried again.
    Later(String),
    /// Trying again would not help.
    Never(String),
}

/// Asks within the deadline. Whatever keeps an answer from coming can be mended: addresses and headers that are none, too.
pub(crate) async fn ask(
    http: &Http,
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Result<Response<Vec<u8>>, Told> {
    let mut request = Request::builder().method(method).uri(uri).header("accept", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body).map_err(|error| Told::Later(format!("{uri}: {error}")))?;
    let answer = tokio::time::timeout(DEADLINE, http.send(request)).await;
    let answer = answer.map_err(|_| Told::Later(format!("no answer within {} s", DEADLINE.as_secs())))?;
    answer.map_err(|error| Told::Later(error.why))
}

/// What a good answer says; every other one is a refusal.
pub(crate) fn json(who: &str, answer: &Response<Vec<u8>>) -> Result<Value, Told> {
    if !answer.status().is_success() {
        return Err(refused(who, answer));
    }
    serde_json::from_slice(answer.body())
        .map_err(|error| Told::Later(format!("{who}'s answer is not JSON: {error}")))
}

/// Text of an answer for people: one line, not long.
pub(crate) fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().take(300).collect()
}

/// What a refusal means: a request that is wrong stays wrong; a login, an address or a server can be mended.
pub(crate) fn refused(who: &str, answer: &Response<Vec<u8>>) -> Told {
    let status = answer.status();
    let text = format!("{who} answers {status}: {}", excerpt(answer.body()));
    let mendable = matches!(status.as_u16(), 401 | 403 | 404 | 405 | 407 | 408 | 409 | 423 | 425 | 429);
    if status.is_client_error() && !mendable { Told::Never(text) } else { Told::Later(text) }
}

#[cfg(test)]
mod tests;
