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

use crate::http::{Http, NoAnswer};
use hyper::{Request, Response, StatusCode};
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
    /// To be tried again.
    Later(String),
    /// Trying again would not help.
    Never(String),
}

/// Sends a request within the deadline.
pub(crate) async fn send(http: &Http, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, NoAnswer> {
    let late = || NoAnswer { why: format!("no answer within {} s", DEADLINE.as_secs()), sent: true };
    tokio::time::timeout(DEADLINE, http.send(request)).await.unwrap_or_else(|_| Err(late()))
}

/// Text of an answer for people: one line, not long.
pub(crate) fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().take(300).collect()
}

/// What a refusal means: a request that is wrong stays wrong; a login, an address or a server can be mended.
pub(crate) fn refused(who: &str, status: StatusCode, body: &[u8]) -> Told {
    let text = format!("{who} answers {status}: {}", excerpt(body));
    let mendable = matches!(status.as_u16(), 401 | 403 | 404 | 405 | 407 | 408 | 409 | 423 | 425 | 429);
    if status.is_client_error() && !mendable { Told::Never(text) } else { Told::Later(text) }
}

/// A request with a body; addresses and headers that are none are a reason.
pub(crate) fn request(
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Result<Request<Vec<u8>>, String> {
    let mut request = Request::builder().method(method).uri(uri).header("accept", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).map_err(|error| format!("{uri}: {error}"))
}

/// Text for a part of an address.
pub(crate) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests;
