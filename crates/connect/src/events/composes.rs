//! A directory of composes: those that are finished, by their own STATUS.

use super::json::Fetcher;
use super::poll::{Polled, Poller};
use super::{Incoming, Received, polled};
use assay_engine::ids::Timestamp;
use async_trait::async_trait;
use serde_json::json;
use std::collections::BTreeMap;

const CURSOR: &str = "seen";
/// Composes that are looked at in one go: the last ones by date.
const MOST: usize = 50;

/// Lists the directory, on this machine or as a web server shows it.
#[derive(Debug)]
pub struct Composes {
    fetcher: Fetcher,
    url: String,
    releases: Vec<String>,
    prefix: String,
}

impl Composes {
    /// Of an address such as `https://kojipkgs.fedoraproject.org/compose/rawhide`; only composes whose name begins with one
    /// of `releases`, if there are any.
    pub fn new(url: &str, releases: &[String], prefix: &str) -> Result<Self, String> {
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { fetcher: Fetcher::new(&url)?, url, releases: releases.to_vec(), prefix: prefix.to_owned() })
    }

    async fn names(&self) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        if let Some(path) = self.url.strip_prefix("file://") {
            for entry in fs_err::read_dir(path).map_err(|error| error.to_string())? {
                let entry = entry.map_err(|error| error.to_string())?;
                names.extend(entry.file_name().into_string().ok());
            }
        } else {
            names = listed(&self.fetcher.text(&format!("{}/", self.url)).await.map_err(|error| error.why)?);
        }
        let wanted = |name: &String| {
            self.releases.is_empty() || self.releases.iter().any(|one| name.starts_with(one.as_str()))
        };
        names.retain(|name| is_compose(name) && wanted(name));
        names.sort_by_cached_key(|name| when(name));
        names.dedup();
        Ok(names.split_off(names.len().saturating_sub(MOST)))
    }
}

/// `Short-Version-YYYYMMDD.R`, with a type between.
fn is_compose(name: &str) -> bool {
    let Some((_, date)) = name.rsplit_once('-') else { return false };
    let mut parts = date.split('.');
    let day = parts.next().unwrap_or_default();
    day.len() == 8
        && day.bytes().all(|byte| byte.is_ascii_digit())
        && parts.next().is_some()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

/// Sorts composes by date, those of a day by their number, whatever they are called.
fn when(name: &str) -> (String, u64, String) {
    let date = name.rsplit_once('-').map_or("", |(_, date)| date);
    let (day, rest) = date.split_once('.').unwrap_or((date, ""));
    let respin = rest.rsplit('.').next().and_then(|respin| respin.parse().ok()).unwrap_or(0);
    (day.to_owned(), respin, name.to_owned())
}

/// Names in a web server's list of a directory.
pub fn listed(page: &str) -> Vec<String> {
    let names = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    names.map(|name| name.trim_end_matches('/').to_owned()).filter(|name| !name.contains('/')).collect()
}

fn message(url: &str, prefix: &str, id: &str, status: &str) -> Incoming {
    let body = json!({"compose_id": id, "status": status, "location": format!("{url}/{id}/compose")});
    let (key, topic) = (format!("compose/{id}/{status}"), format!("{prefix}.pungi.compose.status.change"));
    polled(&key, &topic, &body)
}

#[async_trait]
impl Poller for Composes {
    async fn poll(&self, cursors: &BTreeMap<String, String>, _now: Timestamp) -> Result<Polled, String> {
        let before = cursors.get(CURSOR);
        let seen: Vec<&str> = before.map(|text| text.split(' ').collect()).unwrap_or_default();
        let names = self.names().await?;
        let (mut received, mut trouble) = (Received::default(), None);
        let mut done: Vec<&str> = Vec::new();
        for name in &names {
            if seen.contains(&name.as_str()) {
                done.push(name);
                continue;
            }
            let status = match self.fetcher.look(&format!("{}/{name}/STATUS", self.url)).await {
                Ok(Some(status)) => status,
                // It has only begun, or is being removed.
                Ok(None) => continue,
                Err(error) => {
                    trouble = Some(error.why);
                    continue;
                }
            };
            let status = status.trim();
            if ["FINISHED", "FINISHED_INCOMPLETE", "DOOMED", "TERMINATED"].contains(&status) {
                // What was finished before anybody listened is no news.
                if before.is_some() {
                    received.messages.push(message(&self.url, &self.prefix, name, status));
                }
                done.push(name);
            }
        }
        // What cannot be looked at the first time may have been finished long ago.
        if before.is_none()
            && let Some(why) = trouble
        {
            return Err(why);
        }
        if before.is_none() || !received.messages.is_empty() {
            received.cursors.push((CURSOR.to_owned(), Some(done.join(" "))));
        }
        Ok(Polled { received, more: false, trouble })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finished_composes_once() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, status: Option<&str>| {
            let path = dir.path().join(name);
            fs_err::create_dir(&path).unwrap();
            if let Some(status) = status {
                fs_err::write(path.join("STATUS"), status).unwrap();
            }
        };
        make("Fedora-44-20261120.n.0", Some("FINISHED\n"));
        make("Fedora-44-20261121.n.0", Some("STARTED\n"));
        make("Fedora-44-20261121.n.1", None);
        make("latest-Fedora-44", None);
        let url = format!("file://{}", dir.path().display());
        let composes = Composes::new(&url, &["Fedora-44".to_owned()], "org.x").unwrap();
        let look = async |cursors: &mut BTreeMap<String, String>| {
            let polled = composes.poll(cursors, Timestamp(0)).await?;
            for (name, value) in polled.received.cursors {
                cursors.insert(name, value.unwrap());
            }
            let keys = polled.received.messages.into_iter().map(|message| message.key);
            Ok::<_, String>((keys.collect::<Vec<_>>(), polled.trouble))
        };
        let mut cursors = BTreeMap::new();
        let nothing = Ok((Vec::new(), None));
        assert_eq!(look(&mut cursors).await, nothing, "what was there before is no news");
        assert_eq!(look(&mut cursors).await, nothing);
        let status = |name: &str| dir.path().join(name).join("STATUS");
        // One that cannot be read does not stop the others, and is not taken for one that is not finished.
        fs_err::create_dir(status("Fedora-44-20261121.n.1")).unwrap();
        fs_err::write(status("Fedora-44-20261121.n.0"), "FINISHED_INCOMPLETE").unwrap();
        let (keys, trouble) = look(&mut cursors).await.unwrap();
        assert_eq!(keys, ["compose/Fedora-44-20261121.n.0/FINISHED_INCOMPLETE"]);
        assert!(trouble.is_some_and(|why| why.contains("Fedora-44-20261121.n.1/STATUS")));
        assert!(look(&mut BTreeMap::new()).await.is_err(), "at the first look it may be an old one");
        fs_err::remove_dir(status("Fedora-44-20261121.n.1")).unwrap();
        fs_err::write(status("Fedora-44-20261121.n.1"), "FINISHED").unwrap();
        assert_eq!(
            look(&mut cursors).await,
            Ok((vec!["compose/Fedora-44-20261121.n.1/FINISHED".to_owned()], None))
        );
        assert_eq!(look(&mut cursors).await, nothing);
        assert_eq!(
            listed("<a href=\"../\">x</a> <a href=\"Fedora-44-20261120.n.0/\">y</a>"),
            ["..", "Fedora-44-20261120.n.0"]
        );
    }

    #[test]
    fn the_last_ones_are_the_last_by_date() {
        let mut names = [
            "Fedora-Rawhide-20261121.n.10",
            "Fedora-Rawhide-20261121.n.9",
            "Fedora-44-20261122.0",
            "Fedora-Rawhide-20261119.n.0",
            "Fedora-Cloud-44-20261120.0",
        ];
        names.sort_by_cached_key(|name| when(name));
        assert_eq!(
            names.map(|name| name.rsplit_once('-').unwrap().1),
            ["20261119.n.0", "20261120.0", "20261121.n.9", "20261121.n.10", "20261122.0"]
        );
    }
}
