//! A directory of composes: those that are finished, by their own STATUS.

use super::json::Fetcher;
use super::poll::{Polled, Poller};
use super::{Incoming, Received, polled};
use assay_engine::ids::Timestamp;
use async_trait::async_trait;
use serde_json::json;
use std::collections::BTreeMap;

const CURSOR: &str = "seen";
/// Composes that are looked at in one go: the last ones by name.
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
        names.sort();
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
        let seen: Vec<&str> = cursors.get(CURSOR).map(|text| text.split(' ').collect()).unwrap_or_default();
        let names = self.names().await?;
        let mut received = Received::default();
        let mut done: Vec<&str> = Vec::new();
        for name in &names {
            if seen.contains(&name.as_str()) {
                done.push(name);
                continue;
            }
            // Not finished, or being removed: looked at again.
            let Ok(status) = self.fetcher.text(&format!("{}/{name}/STATUS", self.url)).await else {
                continue;
            };
            let status = status.trim();
            if ["FINISHED", "FINISHED_INCOMPLETE", "DOOMED", "TERMINATED"].contains(&status) {
                received.messages.push(message(&self.url, &self.prefix, name, status));
                done.push(name);
            }
        }
        if !received.messages.is_empty() {
            received.cursors.push((CURSOR.to_owned(), Some(done.join(" "))));
        }
        Ok(Polled { received, more: false })
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
        let first = composes.poll(&BTreeMap::new(), Timestamp(0)).await.unwrap();
        let keys: Vec<_> = first.received.messages.iter().map(|message| message.key.as_str()).collect();
        assert_eq!(keys, ["compose/Fedora-44-20261120.n.0/FINISHED"]);
        let cursors = BTreeMap::from([(CURSOR.to_owned(), first.received.cursors[0].1.clone().unwrap())]);
        assert_eq!(composes.poll(&cursors, Timestamp(0)).await.unwrap(), Polled::default());
        fs_err::write(dir.path().join("Fedora-44-20261121.n.0/STATUS"), "FINISHED_INCOMPLETE").unwrap();
        assert_eq!(composes.poll(&cursors, Timestamp(0)).await.unwrap().received.messages.len(), 1);
        assert_eq!(
            listed("<a href=\"../\">x</a> <a href=\"Fedora-44-20261120.n.0/\">y</a>"),
            ["..", "Fedora-44-20261120.n.0"]
        );
    }
}
