//! A gate with its Gerrit: `assay staging gerrit`, a configuration, and what a test does to changes.

use crate::binary::{Started, repository};
use crate::place::Place;
use crate::processes::{asking, eventually};
use crate::server::Up;
use crate::{PATIENCE, http};
use camino::Utf8PathBuf;
use fs_err as fs;
use serde_json::{Value, json};

/// A Gerrit that runs, and the files that a server beside it needs.
pub struct Gerrit {
    _process: Started,
    announced: Utf8PathBuf,
    /// Its address for REST, git and switches.
    pub url: String,
    http: reqwest::Client,
}

impl Gerrit {
    /// Starts one with project `tools`, `alice` who approves and `assay` who verifies and lands; writes
    /// `assay.toml`, which gates by the configuration in `config`.
    pub async fn start(place: &Place, config: &str) -> Self {
        let announced = place.join("gerrit.json");
        let dir = place.join("gerrit");
        let process = place.start(&[
            "staging",
            "gerrit",
            "--dir",
            dir.as_str(),
            "--project",
            "tools",
            "--user",
            "alice:core,admin",
            "--user",
            "assay:ci",
            "--ready-file",
            announced.as_str(),
        ]);
        let line = eventually("the Gerrit's addresses", || fs::read_to_string(&announced).ok()).await;
        let line: Value = serde_json::from_str(&line).unwrap();
        let url = line["url"].as_str().unwrap().trim_end_matches('/').to_owned();
        keygen(place).await;
        let port = line["ssh"].as_str().unwrap().rsplit(':').next().unwrap();
        let text = format!(
            "[connection.gerrit]\ndriver = \"gerrit\"\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"assay\"\n\
             key = \"id\"\n\n[gate]\nconfig = {config:?}\n"
        );
        fs::write(place.join("assay.toml"), text).unwrap();
        Self { _process: process, announced, url, http: http() }
    }

    /// The file with its addresses.
    pub fn announced(&self) -> &str {
        self.announced.as_str()
    }

    /// One of its switches.
    pub async fn fake(&self, what: &str, body: Value) -> Value {
        let request = self.http.post(format!("{}/fake/{what}", self.url)).json(&body);
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{what} {body}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// How many requests have met a trouble.
    pub async fn troubles(&self) -> u64 {
        let answer = self.http.get(format!("{}/fake/troubles", self.url)).send().await.unwrap();
        answer.json().await.unwrap()
    }

    /// Waits until so many streams of events are open.
    pub async fn until_streams(&self, count: u64) {
        let answer =
            self.http.get(format!("{}/fake/streams?at_least={count}", self.url)).send().await.unwrap();
        assert!(answer.status().is_success());
    }

    /// A change with one file, on the branch as it is; its number.
    pub async fn upload(&self, subject: &str, file: &str, content: &str) -> u64 {
        let made = self
            .fake(
                "upload",
                json!({"project": "tools", "user": "alice", "subject": subject, "files": {file: content}}),
            )
            .await;
        made["number"].as_u64().unwrap()
    }

    /// Alice approves a change.
    pub async fn approve(&self, change: u64) {
        let review = json!({"user": "alice", "number": change, "labels": {"Code-Review": 2, "Workflow": 1}});
        self.fake("review", review).await;
    }

    /// A change as REST tells it.
    pub async fn change(&self, number: u64) -> Value {
        let url = format!("{}/a/changes/{number}/detail", self.url);
        let answer = self.http.get(url).basic_auth("alice", Some("alice")).send().await.unwrap();
        let text = answer.text().await.unwrap();
        serde_json::from_str(text.trim_start_matches(")]}'"))
            .unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Waits until a change is in its branch.
    pub async fn until_merged(&self, up: &Up<'_>, number: u64) {
        let merged = async || (self.change(number).await["status"] == "MERGED").then_some(());
        about(up, number, "to be merged", merged).await;
    }
}

/// Waits until a landed change's receipt is in its repository.
pub async fn published(up: &Up<'_>, change: u64) {
    let receipt = async || is_published(&story(up, change).await).then_some(());
    about(up, change, "to have published receipts", receipt).await;
}

/// True once what landed with a change has receipts in its repositories: those who need each other have one in each.
pub fn is_published(story: &Value) -> bool {
    let receipts = story["receipts"].as_array().map_or(&[][..], Vec::as_slice);
    !receipts.is_empty() && receipts.iter().all(|receipt| receipt["published"].is_string())
}

/// What a server has to say of a change.
pub async fn story(up: &Up<'_>, change: u64) -> Value {
    get(up, &format!("changes/{change}")).await
}

async fn get(up: &Up<'_>, path: &str) -> Value {
    let answer = http().get(format!("{}/api/assay/v1/{path}", up.url)).send().await.unwrap();
    answer.json().await.unwrap_or_default()
}

/// Waits for something about a change; if it does not come, what the server says of it is said.
async fn about<T>(up: &Up<'_>, change: u64, what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    // Less than the patience of `asking`.
    if let Ok(found) = tokio::time::timeout(PATIENCE * 2 / 3, asking(what, ask)).await {
        return found;
    }
    let (story, gate) = (story(up, change).await, get(up, "gate").await);
    panic!("in vain: change {change} {what}: {story:#}\n{gate:#}");
}

async fn keygen(place: &Place) {
    let mut command = place.command("ssh-keygen");
    let key = place.join("id");
    command.args(["-q", "-t", "ed25519", "-N", "", "-f", key.as_str()]);
    let done = command.status().await.expect("ssh-keygen (openssh-client)");
    assert!(done.success());
}

/// The example that the demo shows.
pub fn example() -> Utf8PathBuf {
    repository().join("examples/gate")
}
