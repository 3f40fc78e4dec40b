//! datagrepper: what a bus carried while nobody listened.

use super::json::Fetcher;
use super::poll::{Polled, Poller};
use super::{Incoming, Received, incoming, sent_at};
use crate::http::encoded;
use assay_engine::ids::Timestamp;
use async_trait::async_trait;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

const CURSOR: &str = "until";
/// Messages in one answer; the service allows no more.
const ROWS: u64 = 100;
/// What is not known of the past is not asked for further back than this.
const FIRST_LOOK: i64 = 3_600;

/// Asks for the messages of a time, in pages, a little of the time before again.
#[derive(Debug)]
pub struct Datagrepper {
    fetcher: Fetcher,
    url: String,
    topics: Vec<String>,
    overlap: Duration,
    settle: Duration,
}

impl Datagrepper {
    /// Of an address such as `https://apps.fedoraproject.org/datagrepper`. What is younger than `settle` is left to
    /// the bus itself; `overlap` is asked for again, for messages that were stored late.
    pub fn new(url: &str, topics: &[String], overlap: Duration, settle: Duration) -> Result<Self, String> {
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { fetcher: Fetcher::new(&url)?, url, topics: topics.to_vec(), overlap, settle })
    }
}

/// The messages of an answer of `/v2/search`.
pub fn read(answer: &Value) -> Result<Vec<Incoming>, String> {
    let all =
        answer["raw_messages"].as_array().ok_or("the answer has no raw_messages; is it a datagrepper?")?;
    let one = |message: &Value| {
        let (id, topic) = (message["id"].as_str()?, message["topic"].as_str()?);
        let (headers, body) = (&message["headers"], message["body"].to_string());
        Some(incoming((id, topic), headers.clone(), body.as_bytes(), usize::MAX, sent_at(headers)))
    };
    Ok(all.iter().filter_map(one).collect())
}

#[async_trait]
impl Poller for Datagrepper {
    async fn poll(&self, cursors: &BTreeMap<String, String>, now: Timestamp) -> Result<Polled, String> {
        let now = now.0.div_euclid(1_000_000);
        let end = now - self.settle.as_secs() as i64;
        let since = cursors.get(CURSOR).and_then(|text| text.parse::<i64>().ok());
        let start = since.unwrap_or(end - FIRST_LOOK).min(end) - self.overlap.as_secs() as i64;
        let mut topics = String::new();
        for topic in &self.topics {
            topics.extend(["&topic=", &encoded(topic)]);
        }
        let mut received = Received::default();
        let mut page = 1;
        loop {
            let url = format!(
                "{}/v2/search?start={start}&end={end}&order=asc&rows_per_page={ROWS}&page={page}{topics}",
                self.url
            );
            let answer = self.fetcher.get(&url).await.map_err(|error| error.why)?;
            received.messages.extend(read(&answer)?);
            let pages = answer["pages"].as_u64().unwrap_or(1);
            if page >= pages {
                break;
            }
            page += 1;
        }
        // Of a clock that was put back the cursor goes along: more is asked for again, and nothing is left out.
        received.cursors.push((CURSOR.to_owned(), Some(end.to_string())));
        Ok(Polled { received, more: false })
    }
}
