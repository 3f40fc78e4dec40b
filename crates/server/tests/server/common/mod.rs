//! A real server for tests: in a runtime of its own, on a free port, on a directory of its own, with a clock that the
//! test moves.

pub(crate) mod events;
pub(crate) mod gated;
pub(crate) mod postgres;
pub(crate) mod run;
pub(crate) mod watched;

use assay_engine::ids::Timestamp;
use assay_fakes::ScriptedWorker;
use assay_proto::api::{Job, PostedJobs};
use assay_proto::clock::ManualClock;
use assay_server::{ServerConfig, ServerError, ServerHandle, serve};
use camino::{Utf8Path, Utf8PathBuf};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// 2026-11-21T00:00:00Z
pub(crate) const BEGINNING: i64 = 1_795_219_200_000_000;

/// A server. Dropped, it ends as if it were killed.
pub(crate) struct Server {
    pub(crate) handle: ServerHandle,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) dir: Utf8PathBuf,
    keep: Option<tempfile::TempDir>,
    runtime: Option<tokio::runtime::Runtime>,
    stop: CancellationToken,
    ended: Option<tokio::sync::oneshot::Receiver<Result<(), ServerError>>>,
}

impl Server {
    /// On a new directory.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let keep = tempfile::tempdir().unwrap();
        let dir = Utf8PathBuf::from_path_buf(keep.path().join("data")).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp(BEGINNING)));
        let mut server = Self::on(&dir, clock, change).await.unwrap();
        server.keep = Some(keep);
        server
    }

    /// On this directory.
    pub(crate) async fn on(
        dir: &Utf8Path,
        clock: Arc<ManualClock>,
        change: impl FnOnce(&mut ServerConfig),
    ) -> Result<Self, ServerError> {
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let mut config = ServerConfig::new(dir.to_owned(), "127.0.0.1:0".parse().unwrap());
        config.clock = clock.clone();
        config.ready = Some(ready);
        change(&mut config);
        let stop = CancellationToken::new();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (end, ended) = tokio::sync::oneshot::channel();
        let token = stop.clone();
        drop(runtime.handle().spawn(async move {
            let _ = end.send(serve(config, token).await);
        }));
        let dead = |runtime: tokio::runtime::Runtime| async move {
            tokio::task::spawn_blocking(move || drop(runtime)).await.unwrap();
        };
        let Ok(handle) = is_ready.await else {
            let error = ended.await.unwrap().unwrap_err();
            dead(runtime).await;
            return Err(error);
        };
        let (runtime, ended) = (Some(runtime), Some(ended));
        Ok(Self { handle, clock, dir: dir.to_owned(), keep: None, runtime, stop, ended })
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> Result<(), ServerError> {
        self.ended.take().unwrap().await.unwrap()
    }

    /// Asks it to end and waits.
    pub(crate) async fn stop(mut self) -> Result<(), ServerError> {
        self.stop.cancel();
        self.ended.take().unwrap().await.unwrap()
    }

    /// Asks it to end, waits, and starts another on its directory.
    pub(crate) async fn stop_and_restart(mut self) -> Self {
        let (keep, dir, clock) = (self.keep.take(), self.dir.clone(), self.clock.clone());
        self.stop().await.unwrap();
        let mut next = Self::on(&dir, clock, |_| {}).await.unwrap();
        next.keep = keep;
        next
    }

    /// Ends it at once, wherever it is, and starts another on its directory.
    pub(crate) async fn kill_and_restart(self) -> Self {
        self.kill_and_restart_with(|_| {}).await
    }

    /// The same, started as `change` says.
    pub(crate) async fn kill_and_restart_with(mut self, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let runtime = self.runtime.take().unwrap();
        let kill = move || runtime.shutdown_timeout(Duration::from_secs(10));
        tokio::task::spawn_blocking(kill).await.unwrap();
        let mut next = Self::on(&self.dir, self.clock.clone(), change).await.unwrap();
        next.keep = self.keep.take();
        next
    }

    /// What its clock says.
    pub(crate) fn clock_micros(&self) -> i64 {
        use assay_proto::clock::Clock as _;
        self.clock.now().0
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.handle.url)
    }

    /// Time passes. In pieces, because a leap is not held against workers.
    pub(crate) async fn pass(&self, seconds: i64) {
        for _ in 0..seconds {
            self.clock.advance(1_000_000);
            self.handle.tick().await;
        }
    }

    pub(crate) fn worker(&self, name: &str) -> ScriptedWorker {
        ScriptedWorker::new(&self.handle.url, &self.handle.worker_token, name)
    }

    /// As admin.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = client().request(method, self.url(path)).bearer_auth(&self.handle.admin_token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.ask(Method::GET, path, None).await
    }

    /// A page, as a browser without a token gets it.
    pub(crate) async fn page(&self, path: &str) -> (StatusCode, String) {
        let response = client().get(self.url(path)).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    /// Posts a job and returns its number.
    pub(crate) async fn post(&self, settings: Value) -> i64 {
        let (status, body) =
            self.ask(Method::POST, "/api/assay/v1/jobs", Some(json!({"settings": settings}))).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        let posted: PostedJobs = serde_json::from_value(body).unwrap();
        posted.jobs[0].id.0
    }

    pub(crate) async fn post_dummy(&self) -> i64 {
        self.post(json!({"TEST": "hello", "BACKEND": "dummy"})).await
    }

    pub(crate) async fn job(&self, id: i64) -> Job {
        let (status, body) = self.get(&format!("/api/assay/v1/jobs/{id}")).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_value(body).unwrap()
    }

    /// Waits until the job is final.
    pub(crate) async fn finished(&self, id: i64) -> Job {
        let (status, body) = self.get(&format!("/api/assay/v1/jobs/{id}/wait?timeout=20")).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let job: Job = serde_json::from_value(body).unwrap();
        assert!(job.is_final(), "job {id} is still {}", job.state);
        job
    }

    /// Waits until the job is as `wanted` says, by its events.
    pub(crate) async fn until(&self, id: i64, what: &str, wanted: impl Fn(&Job) -> bool) -> Job {
        let mut events =
            client().get(self.url(&format!("/api/assay/v1/events?job={id}"))).send().await.unwrap();
        let wait = async {
            loop {
                let job = self.job(id).await;
                if wanted(&job) {
                    return job;
                }
                events.chunk().await.unwrap().expect("the server ended");
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("never: {what}"))
    }

    pub(crate) async fn put_blob(&self, bytes: &[u8]) -> String {
        let sha = sha256(bytes);
        let response = client()
            .put(self.url(&format!("/worker/v1/blobs/{sha}")))
            .bearer_auth(&self.handle.worker_token)
            .body(bytes.to_vec())
            .send()
            .await
            .unwrap();
        assert!(response.status().is_success(), "{}", response.status());
        sha
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Asks again and again until there is an answer; `None` if there is none for long.
pub(crate) async fn asking<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let answer = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), answer).await.ok()
}

/// All of these parts are in a page.
pub(crate) fn has(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "the page lacks {part:?}:\n{page}");
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))
}

pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .timeout(Duration::from_secs(30))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .unwrap()
}
