//! Bodhi: updates that are to be tested, whatever the bus said of them.

use super::json::{Fetcher, NoDocument};
use super::poll::{Polled, Poller, number_of};
use super::{Incoming, Received, apart, polled};
use crate::http::encoded;
use assay_engine::compose::{Life, Release, Update};
use assay_engine::ids::Timestamp;
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const CURSOR: &str = "modified";
/// What was submitted for stable at the last look, in lines.
const SUBMITTED: &str = "submitted";
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

/// What it says of updates and releases when it is asked.
impl Bodhi {
    /// An update as it is now, and its status; `None` if there is none of this name.
    pub async fn update(&self, id: &str) -> Result<Option<(Update, String)>, NoDocument> {
        let found = self.fetcher.find(&format!("{}/updates/{}", self.url, encoded(id))).await?;
        found
            .map(|found| {
                let why = || format!("{} does not say what {id} is of; is it a Bodhi?", self.url);
                read_update(&found["update"]).ok_or_else(|| NoDocument::later(why()))
            })
            .transpose()
    }

    /// The releases of Fedora itself, the oldest first.
    pub async fn releases(&self) -> Result<Vec<Release>, NoDocument> {
        let mut all = Vec::new();
        let mut page = 1;
        loop {
            let url = format!("{}/releases/?rows_per_page={ROWS}&page={page}", self.url);
            let answer = self.fetcher.get(&url).await?;
            all.extend(answer["releases"].as_array().into_iter().flatten().cloned());
            if page >= answer["pages"].as_u64().unwrap_or(1) {
                break;
            }
            page += 1;
        }
        Ok(read_releases(&all))
    }
}

/// What is scheduled of an update, and its status.
fn read_update(update: &Value) -> Option<(Update, String)> {
    let groups = update["critpath_groups"].as_str().unwrap_or_default();
    let groups: Vec<String> = groups.split_whitespace().map(str::to_owned).collect();
    let builds = update["builds"].as_array()?.iter().filter_map(|build| build["nvr"].as_str());
    let found = Update {
        id: update["alias"].as_str()?.to_owned(),
        release: update["release"]["name"].as_str()?.to_owned(),
        builds: builds.map(str::to_owned).collect(),
        groups: (update["critpath"] == true || !groups.is_empty()).then_some(groups),
        automatic: update["release"]["create_automatic_updates"].as_bool(),
    };
    Some((found, update["status"].as_str().unwrap_or_default().to_owned()))
}

/// Those that are `F` and a number: others are of containers, of flatpaks, or of other distributions.
fn read_releases(all: &[Value]) -> Vec<Release> {
    let number = |release: &&Value| {
        let name = release["name"].as_str()?;
        name.strip_prefix('F')?.parse::<u32>().ok()
    };
    let mut numbered: Vec<(u32, &Value)> =
        all.iter().filter_map(|release| Some((number(&release)?, release))).collect();
    numbered.sort_by_key(|(number, _)| *number);
    let newest = numbered.last().map(|(number, _)| *number);
    let one = |(number, release): &(u32, &Value)| {
        let life = match release["state"].as_str()? {
            "current" => Life::Current,
            // What is not released: the newest has not been branched.
            "pending" if Some(*number) == newest => Life::Rawhide,
            "pending" | "frozen" => Life::Branched,
            _ => Life::Ended,
        };
        let automatic = release["create_automatic_updates"].as_bool();
        let found = Release::in_life(release["name"].as_str()?, &number.to_string(), life);
        Some(Release { automatic, ..found })
    };
    numbered.iter().filter_map(one).collect()
}

/// An update's builds in their order, and a key that it has as long as it consists of them; none for one without builds.
fn known_by<'u>(update: &'u Value, kind: &str) -> Option<(String, Vec<&'u str>)> {
    let alias = update["alias"].as_str()?;
    let mut nvrs: Vec<&str> =
        update["builds"].as_array()?.iter().filter_map(|build| build["nvr"].as_str()).collect();
    if nvrs.is_empty() {
        return None;
    }
    nvrs.sort_unstable();
    let key = format!("{kind}/{alias}/{}", nvrs.join(" "));
    let key = if key.len() > 200 { super::key_of(alias, &Value::Null, key.as_bytes()) } else { key };
    Some((key, nvrs))
}

/// The message that the bus would have carried for an update that is to be tested, so that the same rules fit.
pub fn message(update: &Value, prefix: &str) -> Option<Incoming> {
    let (key, nvrs) = known_by(update, "bodhi")?;
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

/// When an update was submitted for stable, each time, as Bodhi notes it in a comment of its own; the first first.
fn submissions(update: &Value) -> Vec<Timestamp> {
    const SAYS: &str = "This update has been submitted for stable by ";
    let is_bodhis = |comment: &&Value| {
        comment["user"]["name"] == "bodhi"
            && comment["text"].as_str().is_some_and(|text| text.starts_with(SAYS))
    };
    let at = |comment: &Value| {
        let at: jiff::civil::DateTime = comment["timestamp"].as_str()?.parse().ok()?;
        let at = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        Some(Timestamp(at.as_microsecond()))
    };
    let comments = update["comments"].as_array().into_iter().flatten();
    let mut all: Vec<Timestamp> = comments.filter(is_bodhis).filter_map(at).collect();
    all.sort_unstable();
    all
}

/// The message that the bus would have carried for an update that was submitted for stable. Where Bodhi says when, that is
/// in its key: it may have been revoked and submitted again.
pub fn submitted(update: &Value, prefix: &str) -> Option<Incoming> {
    if update["request"] != "stable" {
        return None;
    }
    let (key, _) = known_by(update, "bodhi-stable")?;
    let body = json!({"agent": "assay", "update": update});
    let told = polled(&key, &format!("{prefix}.bodhi.update.request.stable"), &body);
    let all = submissions(update);
    let Some((&at, before)) = all.split_last() else { return Some(told) };
    Some(Incoming {
        key: format!("{key}/{}", at.0.div_euclid(1_000_000)),
        sent_at: Some(at),
        apart: before.last().map(|before| apart(*before, at)),
        ..told
    })
}

impl Bodhi {
    /// What is to be told of the updates that are on their way and that `filter` leaves, page by page.
    async fn look(
        &self,
        filter: &str,
        told: fn(&Value, &str) -> Option<Incoming>,
    ) -> Result<Vec<Incoming>, String> {
        let mut releases = String::new();
        for release in &self.releases {
            releases.extend(["&releases=", &encoded(release)]);
        }
        let mut found = Vec::new();
        let mut page = 1;
        loop {
            let url = format!(
                "{}/updates/?status=pending&status=testing&{filter}&rows_per_page={ROWS}&page={page}{releases}",
                self.url
            );
            let answer = self.fetcher.get(&url).await.map_err(|error| error.why)?;
            let updates = answer["updates"].as_array().ok_or("the answer has no updates; is it a Bodhi?")?;
            found.extend(updates.iter().filter_map(|update| told(update, &self.prefix)));
            if page >= answer["pages"].as_u64().unwrap_or(1) {
                return Ok(found);
            }
            page += 1;
        }
    }
}

/// An update that is submitted, if it was not at the last look. One of which Bodhi does not say when, and that was revoked in
/// between, is submitted anew, so the time of the look is in its key; it is stored with the cursor, so no other look tells it.
/// Nobody knows how long such ones of a first look are submitted: they are told unless anybody ever has.
fn newly(one: Incoming, last: Option<&BTreeSet<&str>>, looked: Timestamp, there: i64) -> Option<Incoming> {
    let is_timed = one.sent_at.is_some();
    // What was noted without its time, by an Assay that did not look for it.
    let noted = one.key.rsplit_once('/').filter(|_| is_timed).map(|(noted, _)| noted);
    let is_known = |last: &BTreeSet<&str>| {
        last.contains(one.key.as_str()) || noted.is_some_and(|key| last.contains(key))
    };
    match last {
        Some(last) if is_known(last) => None,
        _ if is_timed => Some(one),
        None => Some(Incoming { since: Some(Timestamp(0)), ..one }),
        Some(_) => Some(Incoming { key: format!("{}/{there}", one.key), since: Some(looked), ..one }),
    }
}

#[async_trait]
impl Poller for Bodhi {
    async fn poll(&self, cursors: &BTreeMap<String, String>, now: Timestamp) -> Result<Polled, String> {
        // By the clock there: ours may be wrong, and what is asked for is written by theirs.
        let known = number_of(cursors, CURSOR);
        let any = format!("{}/releases/?rows_per_page=1", self.url);
        let (_, there) = self.fetcher.dated(&any, now).await.map_err(|error| error.why)?;
        let there = there.0.div_euclid(1_000_000);
        let since = known.unwrap_or(there).min(there) - OVERLAP;
        let since = jiff::Timestamp::from_second(since).map_err(|error| error.to_string())?;
        let since = since.strftime("%Y-%m-%d %H:%M:%S").to_string();
        let mut messages = self.look(&format!("modified_since={}", encoded(&since)), message).await?;
        let mut cursors_now = vec![(CURSOR.to_owned(), Some(there.to_string()))];
        // To be submitted for stable is no modification to Bodhi; so all of these are looked at, which are few, and those are
        // told that were not among them at the last look.
        let all = self.look("request=stable", submitted).await?;
        let keys: BTreeSet<&str> = all.iter().map(|one| one.key.as_str()).collect();
        let keys = keys.into_iter().collect::<Vec<_>>().join("\n");
        if cursors.get(SUBMITTED) != Some(&keys) {
            cursors_now.push((SUBMITTED.to_owned(), Some(keys)));
        }
        let last = cursors.get(SUBMITTED).map(|text| text.lines().collect::<BTreeSet<_>>());
        let looked = Timestamp(known.unwrap_or(0).min(there) * 1_000_000);
        messages.extend(all.into_iter().filter_map(|one| newly(one, last.as_ref(), looked, there)));
        let received = Received { messages, cursors: cursors_now };
        Ok(Polled { received, more: false, trouble: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_and_their_lives() {
        let release = |name: &str, state: &str| json!({"name": name, "state": state});
        let all = [
            "F46 pending",
            "F44F current",
            "F45 frozen",
            "EPEL-10 current",
            "F44 current",
            "F9 archived",
            "ELN pending",
        ]
        .map(|text| text.split_once(' ').unwrap())
        .map(|(name, state)| release(name, state));
        let found = read_releases(&all);
        let lives: Vec<(&str, Life)> =
            found.iter().map(|release| (release.name.as_str(), release.life(20_000))).collect();
        let expected =
            [("F9", Life::Ended), ("F44", Life::Current), ("F45", Life::Branched), ("F46", Life::Rawhide)];
        assert_eq!(lives, expected);
    }

    #[test]
    fn an_update_is_told_of_as_the_bus_would() {
        let builds = json!([{"nvr": "b-1-1"}, {"nvr": "a-1-1"}]);
        let update = json!({"alias": "F-1", "request": "stable", "builds": builds});
        let tested = message(&update, "org.x").unwrap();
        assert_eq!(tested.key, "bodhi/F-1/a-1-1 b-1-1");
        let stable = submitted(&update, "org.x").unwrap();
        let (key, topic) = ("bodhi-stable/F-1/a-1-1 b-1-1", "org.x.bodhi.update.request.stable");
        assert_eq!((stable.key.as_str(), stable.topic.as_str()), (key, topic));
        assert_eq!(
            submitted(&json!({"alias": "F-1", "request": "testing", "builds": builds}), "org.x"),
            None
        );
        assert_eq!(message(&json!({"alias": "F-1", "builds": []}), "org.x"), None);
        let told = |last: Option<&[&str]>| {
            let last = last.map(|keys| keys.iter().copied().collect());
            newly(stable.clone(), last.as_ref(), Timestamp(7), 9).map(|one| (one.key, one.since))
        };
        assert_eq!(told(None), Some((key.to_owned(), Some(Timestamp(0)))));
        assert_eq!(told(Some(&[key])), None);
        assert_eq!(told(Some(&["other"])), Some((format!("{key}/9"), Some(Timestamp(7)))));
    }

    /// `2026-11-21 10:00:00`, and what is said then.
    const TEN: i64 = 1_795_255_200;

    fn said(who: &str, after: i64) -> Value {
        let at = jiff::Timestamp::from_second(TEN + after).unwrap();
        let at = at.strftime("%Y-%m-%d %H:%M:%S").to_string();
        json!({"user": {"name": who}, "text": "This update has been submitted for stable by ann. ", "timestamp": at})
    }

    #[test]
    fn what_was_noted_without_its_time_is_known() {
        let builds = json!([{"nvr": "a-1-1"}]);
        let update =
            json!({"alias": "F-1", "request": "stable", "builds": builds, "comments": [said("bodhi", 0)]});
        let one = submitted(&update, "org.x").unwrap();
        let told = |last: Option<&[&str]>| {
            let last = last.map(|keys| keys.iter().copied().collect());
            newly(one.clone(), last.as_ref(), Timestamp(7), 9)
        };
        for last in [None, Some(&["bodhi-stable/F-1/a-1-2", "bodhi-stable/F-1/a-1-1/1"][..])] {
            assert_eq!(told(last), Some(one.clone()), "{last:?}");
        }
        assert_eq!(told(Some(&["bodhi-stable/F-1/a-1-1"])), None);
    }

    #[tokio::test]
    async fn an_update_that_is_submitted_again_between_two_looks_is_told_again() {
        use assay_fakes::bodhi::{FakeBodhi, UPDATE};
        let fake = FakeBodhi::start().await.unwrap();
        fake.says_it_is(TEN + 7_200);
        fake.change(UPDATE, "request", json!("stable"));
        let bodhi = Bodhi::new(fake.url(), &[], "org.x").unwrap();
        let mut cursors = BTreeMap::new();
        let mut look = async |comments: &[Value]| {
            fake.change(UPDATE, "comments", json!(comments));
            let received = bodhi.poll(&cursors, Timestamp(0)).await.unwrap().received;
            cursors.extend(received.cursors.into_iter().filter_map(|(name, value)| Some((name, value?))));
            let found = received.messages.into_iter();
            found.map(|one| (one.key, one.sent_at, one.apart)).collect::<Vec<_>>()
        };
        let at = |after: i64| Some(Timestamp((TEN + after) * 1_000_000));
        let key = |after: i64| format!("bodhi-stable/{UPDATE}/bash-5.3-1.fc44/{}", TEN + after);
        assert_eq!(look(&[said("bodhi", 0)]).await, [(key(0), at(0), None)]);
        assert_eq!(look(&[said("bodhi", 0), said("ann", 60)]).await, [], "anybody can write that");
        let again = [said("bodhi", 0), said("bodhi", 3_600)];
        assert_eq!(look(&again).await, [(key(3_600), at(3_600), at(1_800))]);
        assert_eq!(look(&again).await, []);
    }

    #[test]
    fn critical_paths() {
        let update = |more: Value| {
            let mut update = json!({"alias": "F-1", "status": "testing", "release": {"name": "F44"}, "builds": [{"nvr": "b-1-1"}]});
            update.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            read_update(&update).unwrap().0.groups
        };
        assert_eq!(update(json!({"critpath": false, "critpath_groups": ""})), None);
        assert_eq!(
            update(json!({"critpath": true, "critpath_groups": null})),
            Some(Vec::new()),
            "all of them"
        );
        let two = update(json!({"critpath": true, "critpath_groups": "core critical-path-base"}));
        assert_eq!(two, Some(vec!["core".to_owned(), "critical-path-base".to_owned()]));
        assert_eq!(read_update(&json!({"alias": "x"})), None);
    }
}
