//! Sources of general events: messages with a topic and a body, for rules.
//!
//! Each is a pure reader of what the system says and a client. A client hands over what it has read with
//! [`MessageInbox::receive`] and lets the system forget it, or moves its cursor, only when that has come back.

pub mod amqp;
pub mod bodhi;
pub mod composes;
pub mod datagrepper;
pub mod git;
pub mod hook;
pub mod json;
pub mod koji;
pub mod poll;

use assay_engine::ids::Timestamp;
use async_trait::async_trait;
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;

/// A message as a source brings it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The same however often and by whichever source of its bus it comes.
    pub key: String,
    /// Its topic.
    pub topic: String,
    /// An object as JSON.
    pub headers: String,
    /// JSON; or, of what is parked, as much of it as can be shown.
    pub body: String,
    /// When it was sent, as far as it says.
    pub sent_at: Option<Timestamp>,
    /// What it tells happened after this; known if a look has found it.
    pub since: Option<Timestamp>,
    /// The same happened shortly before, and what was told until this time was of then; known if a look has found both.
    pub apart: Option<Timestamp>,
    /// Why nothing can be done with it.
    pub parked: Option<String>,
}

/// What was read, and how far the source has got with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Received {
    /// In the order of arrival.
    pub messages: Vec<Incoming>,
    /// Cursors that change; none to forget one.
    pub cursors: Vec<(String, Option<String>)>,
}

/// Where messages are stored.
#[async_trait]
pub trait MessageInbox: Send + Sync {
    /// Stores messages and cursors; comes back when they are durable. How many were new.
    async fn receive(&self, received: &Received) -> Result<u64, NotStored>;

    /// How far the source has been read.
    async fn cursors(&self) -> Result<BTreeMap<String, String>, NotStored>;

    /// What the source is doing, for people; `Err` if it does not work.
    fn report(&self, state: Result<&str, &str>);
}

/// Messages could not be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("events cannot be stored: {0}")]
pub struct NotStored(pub String);

/// Brings messages until it is cancelled.
#[async_trait]
pub trait MessageSource: Send {
    /// Runs; comes back only when `cancel` is cancelled.
    async fn run(&mut self, inbox: &dyn MessageInbox, cancel: &CancellationToken);
}

/// The most bytes of a message that nothing can be done with that are kept.
const SHOWN: usize = 64 * 1024;

/// A message of these bytes: with a body that is JSON, or parked with the reason.
pub(crate) fn incoming(
    (key, topic): (&str, &str),
    headers: serde_json::Value,
    bytes: &[u8],
    most: usize,
    sent_at: Option<Timestamp>,
) -> Incoming {
    let mut parked = None;
    let mut body = String::new();
    if bytes.len() > most {
        parked = Some(format!("the message has {} bytes; at most {most} are taken (max-body)", bytes.len()));
    } else {
        match json_text(bytes) {
            Ok(text) => text.clone_into(&mut body),
            Err(why) => parked = Some(format!("the body is not JSON: {why}")),
        }
    }
    if let (None, true) = (&parked, body.contains("\\u0000")) {
        parked = Some("the body has a NUL character, which databases do not store".to_owned());
    }
    if parked.is_some() {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]);
        body = shown.replace('\0', "\u{fffd}");
    }
    let (topic, cut) = sane(topic);
    if cut && parked.is_none() {
        parked = Some("the topic is empty, longer than 255 bytes, or has control characters".to_owned());
    }
    Incoming {
        key: storable_key(key),
        topic,
        headers: headers.to_string().replace("\\u0000", "\u{fffd}"),
        body,
        sent_at,
        since: None,
        apart: None,
        parked,
    }
}

/// The text of a body that can be read again, so not one that is nested too deep.
fn json_text(bytes: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    serde_json::from_str::<serde_json::Value>(text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// The key itself, or, where it is too long or too strange to be stored, one that no other key has.
fn storable_key(key: &str) -> String {
    use sha2::Digest as _;
    let (kept, changed) = sane(key);
    if changed { format!("sha256:{}", hex::encode(sha2::Sha256::digest(key))) } else { kept }
}

/// A message that the bus would have carried for what a look at the truth has found.
pub(crate) fn polled(key: &str, topic: &str, body: &serde_json::Value) -> Incoming {
    let headers = serde_json::json!({"polled": true});
    incoming((key, topic), headers, body.to_string().as_bytes(), usize::MAX, None)
}

/// Until when what was told of the same that happened twice was of the first time.
pub(crate) fn apart(before: Timestamp, at: Timestamp) -> Timestamp {
    // The clocks of a system, of its database and of its bus are no further apart, in microseconds.
    const CLOCKS: i64 = 30_000_000;
    Timestamp(at.0 - ((at.0 - before.0) / 2).max(CLOCKS))
}

/// When a message of fedora-messaging was sent, as its headers say.
pub(crate) fn sent_at(headers: &serde_json::Value) -> Option<Timestamp> {
    let at: jiff::Timestamp = headers["sent-at"].as_str()?.parse().ok()?;
    Some(Timestamp(at.as_microsecond()))
}

/// A name that can be stored and shown, and whether it had to be changed for that.
fn sane(text: &str) -> (String, bool) {
    let kept: String = text.chars().filter(|c| !c.is_control()).take(255).collect();
    let changed = kept != text || kept.is_empty();
    (kept, changed)
}

/// For a message without a key: what it consists of.
pub(crate) fn key_of(topic: &str, headers: &serde_json::Value, bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    hash.update(topic.as_bytes());
    hash.update([0]);
    hash.update(headers.to_string().as_bytes());
    hash.update([0]);
    hash.update(bytes);
    format!("sha256:{}", hex::encode(hash.finalize()))
}
