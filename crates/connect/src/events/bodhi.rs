//! Bodhi: updates that are to be tested, whatever the bus said of them.

use super::json::Fetcher;
use super::poll::{Polled, Poller};
use super::{Incoming, Received, polled};
use crate::http::encoded;
use assay_engine::ids::Timestamp;
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const CURSOR: &str = "modified";
const ROWS: u64 = 100;
/// At the first look, and how much is asked for again at each.
const OVERLAP: i64 = 3_600;

/// Asks for updates that were modified.
#[derive(Debug)]
pub struct Bodhi {
    fetcher: Fetcher,
    url: String,
    releases: Vec<String>,
    prefix: String,
}

impl Bodhi {
    /// Of an address such as `https://bodhi.fedoraproject.org`; topics begin with `prefix`, as those of the bus.
    pub fn new(url: &str, releases: &[String], prefix: &str) -> Result<Self, String> {
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { fetcher: Fetcher::new(&url)?, url, releases: releases.to_vec(), prefix: prefix.to_owned() })
    }
}

/// The message that the bus would have carried for an update, so that the same rules fit; none for one without builds.
pub fn message(update: &Value, prefix: &str) -> Option<Incoming> {
    let alias = update["alias"].as_str()?;
    let mut nvrs: Vec<&str> =
        update["builds"].as_array()?.iter().filter_map(|build| build["nvr"].as_str()).collect();
    if nvrs.is_empty() {
        return None;
    }
    nvrs.sort_unstable();
    let key = format!("bodhi/{alias}/{}", nvrs.join(" "));
    let key = if key.len() > 200 { super::key_of(alias, &Value::Null, key.as_bytes()) } else { key };
    let builds: Vec<Value> = nvrs.iter().map(|nvr| json!({"type": "koji-build", "nvr": nvr})).collect();
    let body = json!({
        "agent": "assay",
        "re-trigger": false,
        "artifact": {"type": "koji-build-group", "builds": builds},
        "update": update,
    });
    let topic = format!("{prefix}.bodhi.update.status.testing.koji-build-group.build.complete");
    Some(polled(&key, &topic, &body))
}

#[async_trait]
impl Poller for Bodhi {
    async fn poll(&self, cursors: &BTreeMap<String, String>, now: Timestamp) -> Result<Polled, String> {
        let now = now.0.div_euclid(1_000_000);
        let known = cursors.get(CURSOR).and_then(|text| text.parse::<i64>().ok());
        let since = known.unwrap_or(now).min(now) - OVERLAP;
        let since = jiff::Timestamp::from_second(since).map_err(|error| error.to_string())?;
        let since = since.strftime("%Y-%m-%d %H:%M:%S").to_string();
        let mut releases = String::new();
        for release in &self.releases {
            releases.extend(["&releases=", &encoded(release)]);
        }
        let mut received = Received::default();
        let mut page = 1;
        loop {
            let url = format!(
                "{}/updates/?status=pending&status=testing&modified_since={}&rows_per_page={ROWS}&page={page}{releases}",
                self.url,
                encoded(&since)
            );
            let answer = self.fetcher.get(&url).await.map_err(|error| error.why)?;
            let updates = answer["updates"].as_array().ok_or("the answer has no updates; is it a Bodhi?")?;
            received.messages.extend(updates.iter().filter_map(|update| message(update, &self.prefix)));
            if page >= answer["pages"].as_u64().unwrap_or(1) {
                break;
            }
            page += 1;
        }
        let until = known.map_or(now, |known| known.max(now));
        received.cursors.push((CURSOR.to_owned(), Some(until.to_string())));
        Ok(Polled { received, more: false })
    }
}
