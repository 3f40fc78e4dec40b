//! datagrepper: what a bus carried while nobody listened.

use super::json::Fetcher;
use super::poll::{Polled, Poller, number_of};
use super::{Incoming, Received, incoming, sent_at};
use crate::http::encoded;
use assay_engine::ids::Timestamp;
use async_trait::async_trait;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

const CURSOR: &str = "until";
/// Where the next answer of a look begins that needs several.
const CATCHING_UP: &str = "catching up";
/// Messages in one answer; the service allows no more.
const ROWS: u64 = 100;
/// What is not known of the past is not asked for further back than this.
const FIRST_LOOK: i64 = 3_600;

/// Asks for the messages of a time, an answer after the other, a little of the time before again.
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

/// Where the next answer begins, in whole seconds, and which page of it: there may be more messages in a second than an
/// answer has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    start: i64,
    page: u64,
}

impl Place {
    fn read(text: &str) -> Option<Self> {
        let (start, page) = text.split_once(' ').unwrap_or((text, "1"));
        Some(Self { start: start.parse().ok()?, page: page.parse().ok()? })
    }

    fn written(self) -> String {
        format!("{} {}", self.start, self.page)
    }

    /// After a full answer whose last message was sent at this time.
    fn after(self, last: Option<Timestamp>) -> Self {
        match last.map(|last| last.0.div_euclid(1_000_000)).filter(|last| *last > self.start) {
            Some(start) => Self { start, page: 1 },
            None => Self { page: self.page + 1, ..self },
        }
    }
}

impl Datagrepper {
    async fn ask(&self, from: &str, page: u64, now: Timestamp) -> Result<(Value, Timestamp), String> {
        let mut url = format!("{}/v2/search?{from}&order=asc&rows_per_page={ROWS}&page={page}", self.url);
        for topic in &self.topics {
            url.extend(["&topic=", &encoded(topic)]);
        }
        self.fetcher.dated(&url, now).await.map_err(|error| error.why)
    }
}

#[async_trait]
impl Poller for Datagrepper {
    /// One answer: what it has is stored before the next one is asked for. Its counts are estimates; only an answer that is
    /// not full is the last one.
    async fn poll(&self, cursors: &BTreeMap<String, String>, now: Timestamp) -> Result<Polled, String> {
        let known = number_of(cursors, CURSOR);
        let going_on = cursors.get(CATCHING_UP).and_then(|text| Place::read(text));
        let overlap = self.overlap.as_secs() as i64;
        let place = going_on.or(known.map(|since| Place { start: since - overlap, page: 1 }));
        let (answer, there) = match place {
            Some(place) => self.ask(&format!("start={}", place.start), place.page, now).await?,
            // By the clock there: ours may be wrong.
            None => self.ask(&format!("delta={}", FIRST_LOOK + overlap), 1, now).await?,
        };
        // What is younger is left to the bus.
        let end = there.0.div_euclid(1_000_000) - self.settle.as_secs() as i64;
        let mut messages = read(&answer)?;
        let rows = answer["raw_messages"].as_array().map_or(0, Vec::len) as u64;
        let last = messages.last().and_then(|message| message.sent_at);
        let is_young = |at: Timestamp| at.0.div_euclid(1_000_000) > end;
        let more = rows >= ROWS && !last.is_some_and(is_young);
        messages.retain(|message| !message.sent_at.is_some_and(is_young));
        let cursors = if more {
            let place = place.unwrap_or(Place { start: end - FIRST_LOOK - overlap, page: 1 }).after(last);
            vec![(CATCHING_UP.to_owned(), Some(place.written()))]
        } else {
            let caught_up = going_on.map(|_| (CATCHING_UP.to_owned(), None));
            [(CURSOR.to_owned(), Some(end.to_string()))].into_iter().chain(caught_up).collect()
        };
        Ok(Polled { received: Received { messages, cursors }, more, trouble: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_fakes::datagrepper::FakeDatagrepper;
    use serde_json::json;

    const NOON: i64 = 1_795_262_400;

    /// Looks until there is no more, with cursors as an inbox keeps them; our clock says `ours`. The keys, by answers.
    async fn look(
        source: &Datagrepper,
        cursors: &mut BTreeMap<String, String>,
        ours: i64,
    ) -> Vec<Vec<String>> {
        let mut answers = Vec::new();
        loop {
            let polled = source.poll(cursors, Timestamp(ours * 1_000_000)).await.unwrap();
            answers.push(polled.received.messages.iter().map(|message| message.key.clone()).collect());
            for (name, value) in polled.received.cursors {
                match value {
                    Some(value) => cursors.insert(name, value),
                    None => cursors.remove(&name),
                };
            }
            if !polled.more {
                return answers;
            }
        }
    }

    #[tokio::test]
    async fn counts_that_are_too_low_and_clocks_that_are_wrong_lose_nothing() {
        let grepper = FakeDatagrepper::start().await.unwrap();
        grepper.says_it_is(NOON);
        grepper.counts_badly();
        let mut ids = Vec::new();
        let mut carry = |count: usize, at: &dyn Fn(usize) -> i64| {
            let from = ids.len();
            for number in from..from + count {
                let id = format!("{number:04}");
                grepper.carried(&id, "org.t.x", json!({}), at(number - from));
                ids.push(id);
            }
            ids.clone()
        };
        carry(120, &|number| NOON - 3_000 + number as i64);
        // More in a second than answers have room for.
        carry(250, &|_| NOON - 2_000);
        let all = carry(130, &|number| NOON - 1_000 + number as i64);
        let source =
            Datagrepper::new(grepper.url(), &[], Duration::from_mins(1), Duration::from_secs(100)).unwrap();
        let mut cursors = BTreeMap::new();
        // Our clock is three days ahead.
        let ahead = NOON + 3 * 86_400;
        let answers = look(&source, &mut cursors, ahead).await;
        assert!(answers.len() >= 6 && answers.iter().all(|keys| keys.len() <= 100), "{}", answers.len());
        let found: std::collections::BTreeSet<String> = answers.concat().into_iter().collect();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), all);
        assert_eq!(
            cursors,
            BTreeMap::from([(CURSOR.to_owned(), (NOON - 100).to_string())]),
            "by their clock"
        );

        // What is young is left to the bus, and found once it is not.
        let more = carry(2, &|number| NOON + 500 + 200 * number as i64);
        grepper.says_it_is(NOON + 750);
        assert_eq!(look(&source, &mut cursors, 0).await, [[more[500].clone()]]);
        grepper.says_it_is(NOON + 900);
        assert_eq!(look(&source, &mut cursors, ahead).await, [[more[501].clone()]]);

        // An answer that does not come leaves what was stored before it behind.
        let late = carry(250, &|number| NOON + 1_000 + number as i64);
        grepper.says_it_is(NOON + 2_000);
        let first = source.poll(&cursors, Timestamp(0)).await.unwrap();
        assert!(first.more && first.received.messages.len() == 100);
        cursors.extend(first.received.cursors.into_iter().filter_map(|(name, value)| Some((name, value?))));
        let rest = look(&source, &mut cursors, 0).await.concat();
        assert!(late[502 + 100..].iter().all(|key| rest.contains(key)) && !rest.contains(&late[502]));
    }

    proptest::proptest! {
        #[test]
        fn places_are_read_as_they_are_written(start: i64, page: u64, last: Option<i64>, text: String) {
            let place = Place { start, page: page / 2 };
            proptest::prop_assert_eq!(Place::read(&place.written()), Some(place));
            let next = place.after(last.map(Timestamp));
            proptest::prop_assert!((next.start, next.page) > (place.start, place.page), "it goes on");
            let _ = Place::read(&text);
        }
    }
}
