//! A server with its worker, and its API.

use crate::PATIENCE;
use crate::binary::Started;
use crate::place::Place;
use crate::processes::{self, eventually};
use assay_proto::api::Job;
use camino::Utf8PathBuf;
use fs_err as fs;
use reqwest::{Method, RequestBuilder, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// A client without proxies.
pub fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}

/// The signature of a webhook's body: HMAC-SHA-256, as forges write it.
pub fn signature(secret: &str, body: &str) -> String {
    let mut pad = [0x36_u8; 64];
    let mut outer = [0x5c_u8; 64];
    for (at, byte) in secret.bytes().enumerate() {
        pad[at] ^= byte;
        outer[at] ^= byte;
    }
    let inner = Sha256::new().chain_update(pad).chain_update(body).finalize();
    format!("sha256={}", hex::encode(Sha256::new().chain_update(outer).chain_update(inner).finalize()))
}

/// Settings of a job to be posted.
pub type Post<'a> = &'a [(&'a str, &'a str)];

/// `assay up` (or `assay server`) that answers.
pub struct Up<'a> {
    place: &'a Place,
    process: Started,
    pid: u32,
    /// Where.
    pub url: String,
    http: reqwest::Client,
    token: String,
}

impl<'a> Up<'a> {
    /// `assay up` on the place's data directory and a free port.
    pub async fn start(place: &'a Place, more: &[&str]) -> Self {
        Self::start_as(place, "up", more).await
    }

    /// The same with another command.
    pub async fn start_as(place: &'a Place, command: &str, more: &[&str]) -> Self {
        let arguments = [&[command, "--listen", "127.0.0.1:0", "--json"], more].concat();
        let mut process = place.start(&arguments);
        let url = announced(&mut process).await;
        let pid = process.pid();
        Self::reach(place, process, pid, url)
    }

    /// `assay up` on a data directory that has so many bytes.
    pub async fn start_on_small_disk(place: &'a Place, bytes: u64) -> Self {
        fs::create_dir(place.data()).unwrap();
        let mut command = place.command("bwrap");
        let (size, data) = (bytes.to_string(), place.data());
        command.args(["--dev-bind", "/", "/", "--size", &size, "--tmpfs", data.as_str(), "--"]);
        let up = place.assay(&["up", "--listen", "127.0.0.1:0", "--json"]);
        command.arg(up.as_std().get_program()).args(up.as_std().get_args());
        let mut process = place.start_command(command);
        let url = announced(&mut process).await;
        let server = || place.processes().into_iter().find(|one| one.program() == "assay");
        let pid = eventually("the server within bubblewrap", server).await.pid;
        Self::reach(place, process, pid, url)
    }

    fn reach(place: &'a Place, process: Started, pid: u32, url: String) -> Self {
        let mut up = Self { place, process, pid, url, http: http(), token: String::new() };
        fs::read_to_string(up.data().join("tokens/admin")).unwrap().trim().clone_into(&mut up.token);
        up
    }

    /// The data directory as the server sees it.
    pub fn data(&self) -> Utf8PathBuf {
        Utf8PathBuf::from(format!("/proc/{}/root{}", self.pid, self.place.data()))
    }

    /// Process id of the server.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Process id of the worker, once it holds its pool.
    pub async fn worker(&self) -> u32 {
        let lock = self.data().join("worker/worker.lock");
        let alive = |pid: u32| self.place.processes().iter().any(|process| process.pid == pid);
        let holder = || fs::read_to_string(&lock).ok()?.trim().parse().ok().filter(|pid| alive(*pid));
        eventually("a worker", holder).await
    }

    /// Ends the server by a signal and waits for its end.
    pub async fn end_by(&mut self, signal: Signal) -> Option<i32> {
        processes::signal(self.pid(), signal);
        self.process.exit().await
    }

    /// Asks it to end, and insists that nothing is left.
    pub async fn stop(mut self) {
        assert_eq!(self.end_by(Signal::TERM).await, Some(0));
        self.place.nothing_left().await;
    }

    /// A request with the admin token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(&self.token)
    }

    /// A request without any token.
    pub fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// Uploads bytes as an asset.
    pub async fn upload(&self, name: &str, bytes: &[u8]) {
        let uploads = "/api/assay/v1/assets/uploads";
        let new = json!({"name": name, "size": bytes.len()});
        let begun = self.request(Method::POST, uploads).json(&new).send().await.unwrap();
        assert_eq!(begun.status(), StatusCode::CREATED);
        let begun: Value = begun.json().await.unwrap();
        let path = format!("{uploads}/{}", begun["id"].as_str().unwrap());
        let piece = self.request(Method::PATCH, &path).header("upload-offset", 0).body(bytes.to_vec());
        assert_eq!(piece.send().await.unwrap().status(), StatusCode::OK);
        let done = self.request(Method::POST, &format!("{path}/complete")).send().await.unwrap();
        assert_eq!(done.status(), StatusCode::CREATED);
    }

    /// `GET` below the API's root.
    pub async fn get(&self, path: &str) -> Value {
        let answer = self.request(Method::GET, &format!("/api/assay/v1/{path}")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.json().await.unwrap()
    }

    /// Waits until a target has nothing to tell any more.
    pub async fn told(&self, target: &str) {
        crate::asking("everything is told", async || {
            let all = self.get("outbox").await;
            let one = all["targets"].as_array()?.iter().find(|one| one["target"] == target)?.clone();
            let told = one["delivered"].as_i64()? + one["skipped"].as_i64()?;
            (one["waiting"] == 0 && told > 0).then_some(())
        })
        .await;
    }

    /// A stream of a job's last attempt, or of the given one.
    pub async fn stream(&self, job: i64, file: &str, attempt: Option<u32>) -> String {
        let query = attempt.map(|number| format!("?attempt={number}")).unwrap_or_default();
        let path = format!("/api/assay/v1/jobs/{job}/streams/{file}{query}");
        let answer = self.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.text().await.unwrap()
    }

    /// Posts a job; `TEST` is filled in.
    pub async fn post(&self, settings: Post<'_>) -> i64 {
        self.post_with(settings, None).await
    }

    /// The same with a priority.
    pub async fn post_with(&self, settings: Post<'_>, priority: Option<i32>) -> i64 {
        let mut body = json!({ "settings": { "TEST": "e2e" } });
        for (name, value) in settings {
            body["settings"][*name] = json!(value);
        }
        if let Some(priority) = priority {
            body["priority"] = json!(priority);
        }
        let answer = self.request(Method::POST, "/api/assay/v1/jobs").json(&body).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, StatusCode::CREATED, "{text}");
        let posted: Value = serde_json::from_str(&text).unwrap();
        posted["jobs"][0]["id"].as_i64().unwrap()
    }

    /// The job as it is now.
    pub async fn job(&self, job: i64) -> Job {
        serde_json::from_value(self.get(&format!("jobs/{job}")).await).unwrap()
    }

    /// Waits until the job is over.
    pub async fn wait(&self, job: i64) -> Job {
        let value = self.get(&format!("jobs/{job}/wait?timeout={}", PATIENCE.as_secs() - 1)).await;
        let job: Job = serde_json::from_value(value).unwrap();
        assert!(job.is_final(), "not over in time: {job:#?}");
        job
    }

    /// Reads a stream as it grows until it holds `text`, and answers what was read so far.
    pub async fn follow(&self, job: i64, file: &str, text: &str) -> String {
        self.until(job, "an attempt", |job| !job.attempts.is_empty()).await;
        let path = format!("/api/assay/v1/jobs/{job}/streams/{file}?follow=1");
        let mut answer = self.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let mut read = Vec::new();
        while let Some(chunk) = answer.chunk().await.unwrap() {
            read.extend_from_slice(&chunk);
            let so_far = String::from_utf8_lossy(&read);
            if so_far.contains(text) {
                return so_far.into_owned();
            }
        }
        panic!("{file} ended without {text:?}: {}", String::from_utf8_lossy(&read))
    }

    /// Waits for the job to be as wanted, by the server's own events.
    pub async fn until(&self, job: i64, what: &str, wanted: impl Fn(&Job) -> bool) -> Job {
        let path = format!("/api/assay/v1/events?job={job}");
        // Listening begins before the first look, so that no change is missed in between.
        let mut events = self.request(Method::GET, &path).send().await.unwrap();
        let found = async {
            loop {
                let now = self.job(job).await;
                if wanted(&now) {
                    return now;
                }
                assert!(events.chunk().await.unwrap().is_some(), "the events ended");
            }
        };
        if let Ok(found) = tokio::time::timeout(PATIENCE, found).await {
            return found;
        }
        panic!("in vain: {what}: {:#?}", self.job(job).await)
    }

    /// Waits until a worker is connected, by the server's own events.
    pub async fn until_online(&self) {
        let mut events = self.request(Method::GET, "/api/assay/v1/events").send().await.unwrap();
        let online = async {
            while self.get("workers").await["workers"]
                .as_array()
                .unwrap()
                .iter()
                .all(|one| one["online"] == false)
            {
                assert!(events.chunk().await.unwrap().is_some(), "the events ended");
            }
        };
        tokio::time::timeout(PATIENCE.min(Duration::from_mins(1)), online).await.expect("a worker in time");
    }
}

/// The address that a server announces on standard output.
async fn announced(process: &mut Started) -> String {
    let mut text = String::new();
    while let Some(line) = process.line().await {
        text.push_str(&line);
        if let Ok(said) = serde_json::from_str::<Value>(&text) {
            return said["url"].as_str().unwrap().to_owned();
        }
    }
    panic!("no server; standard output was {text:?}")
}
