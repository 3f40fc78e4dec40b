//! Talks to a server's API.

pub(crate) use assay_engine::address::encoded;

use crate::Common;
use crate::exit::{CliError, Code};
use crate::{paths, ui};
use assay_proto::api::assets::UPLOAD_OFFSET;
use assay_proto::clock::{Clock as _, SystemClock};
use camino::Utf8Path;
use fs_err as fs;
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

/// Where Assay's own interface is.
pub(crate) const API: &str = "/api/assay/v1";

/// A connection to the server of a data directory, or of `$ASSAY_SERVER`.
pub(crate) struct Client {
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
    url: String,
    token: Option<String>,
}

/// Conditions as the query of an address; those that were not given are left out.
pub(crate) fn query<const N: usize>(conditions: [(&str, Option<String>); N]) -> String {
    let mut query = String::new();
    for (key, value) in conditions {
        if let Some(value) = value {
            let before = if query.is_empty() { "?" } else { "&" };
            query.extend([before, key, "=", &encoded(&value)]);
        }
    }
    query
}

/// What makes a request count once, whoever sends it again: docs/adr/0010-once.md.
fn once() -> String {
    let seconds = SystemClock.now().0.div_euclid(1_000_000);
    format!("{seconds}-{}", uuid::Uuid::new_v4().simple())
}

/// The address of the server that uses the data directory.
pub(crate) fn server_url(data: &Utf8Path) -> Result<String, CliError> {
    if let Ok(url) = std::env::var("ASSAY_SERVER") {
        return Ok(url.trim_end_matches('/').to_owned());
    }
    let file = data.join("server.json");
    let text = fs::read_to_string(&file)
        .map_err(|_| CliError::infrastructure(format!("no server has run on {data} yet; start one with `assay up`, or name the directory with --data, or a server with ASSAY_SERVER=http://HOST:PORT")))?;
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    value["url"].as_str().map(|url| url.trim_end_matches('/').to_owned()).ok_or_else(|| {
        CliError::infrastructure(format!("{file} does not name a server; start one with `assay up`"))
    })
}

impl Client {
    pub(crate) fn new(common: &Common) -> Result<Self, CliError> {
        let data = paths::data_dir(common)?;
        let url = server_url(&data)?;
        let token = match std::env::var("ASSAY_TOKEN") {
            Ok(token) => Some(token),
            Err(_) => fs::read_to_string(data.join("tokens/admin")).ok(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .no_proxy()
            .build()
            .map_err(|error| CliError::infrastructure(error.to_string()))?;
        Ok(Self { runtime, http, url, token: token.map(|token| token.trim().to_owned()) })
    }

    /// Prints an answer as JSON with the server's address, so that paths become links.
    pub(crate) fn print<T: Serialize>(&self, answer: T) {
        #[derive(Serialize)]
        struct At<'a, T> {
            server: &'a str,
            #[serde(flatten)]
            answer: T,
        }
        ui::print_json(&At { server: self.url(), answer });
    }

    /// The server's address, for links.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let changes = method != Method::GET;
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if changes {
            request = request.header("Assay-Once", once());
        }
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, CliError> {
        let answer = self.runtime.block_on(request.send()).map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body: Value = self.runtime.block_on(answer.json()).unwrap_or_default();
        // ResultsDB's, WaiverDB's and Greenwave's APIs have a message.
        let error =
            body["error"].as_str().or(body["message"].as_str()).unwrap_or("the server gave no reason");
        let told = match status {
            StatusCode::NOT_FOUND => CliError::not_found(error),
            status if status.is_client_error() => CliError::usage(error),
            status => CliError::infrastructure(format!("{} (HTTP {status})", error.trim_end_matches('.'))),
        };
        Err(told.with_help(body["help"].as_str().unwrap_or_default()))
    }

    fn unreachable(&self, error: &reqwest::Error) -> CliError {
        CliError::infrastructure(format!(
            "the server at {} does not answer ({error}); is it running? Start it with `assay up`",
            self.url
        ))
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        let answer = self.send(self.request(Method::GET, path))?;
        self.parse(answer)
    }

    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, CliError> {
        let answer = self.send(self.request(Method::POST, path).json(body))?;
        self.parse(answer)
    }

    /// Puts something in the place of what is there.
    pub(crate) fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, CliError> {
        let answer = self.send(self.request(Method::PUT, path).json(body))?;
        self.parse(answer)
    }

    /// Posts what counts once however often it is sent; true if this was the first time.
    pub(crate) fn post_once(
        &self,
        path: &str,
        body: &impl serde::Serialize,
        once: &str,
    ) -> Result<bool, CliError> {
        let request = self.request(Method::POST, path).header("Idempotency-Key", once).json(body);
        Ok(self.send(request)?.status() == StatusCode::CREATED)
    }

    pub(crate) fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        let answer = self.send(self.request(Method::DELETE, path))?;
        self.parse(answer)
    }

    fn parse<T: DeserializeOwned>(&self, answer: reqwest::Response) -> Result<T, CliError> {
        self.runtime.block_on(answer.json()).map_err(|error| {
            CliError::infrastructure(format!(
                "the server's answer is unreadable: {error}; are both of the same version?"
            ))
        })
    }

    /// An answer that is text.
    pub(crate) fn text(&self, path: &str) -> Result<String, CliError> {
        let answer = self.send(self.request(Method::GET, path))?;
        self.runtime.block_on(answer.text()).map_err(|error| self.unreachable(&error))
    }

    /// A stream of a job as text.
    pub(crate) fn stream(&self, job: i64, file: &str) -> Result<String, CliError> {
        let answer =
            self.send(self.request(Method::GET, &format!("/api/assay/v1/jobs/{job}/streams/{file}")))?;
        let bytes = self.runtime.block_on(answer.bytes()).map_err(|error| self.unreachable(&error))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What a path gives, as text; `each` hears how many bytes have come.
    pub(crate) fn download(&self, path: &str, mut each: impl FnMut(usize)) -> Result<String, CliError> {
        let mut answer = self.send(self.request(Method::GET, path))?;
        let mut bytes = Vec::new();
        while let Some(chunk) =
            self.runtime.block_on(answer.chunk()).map_err(|error| self.unreachable(&error))?
        {
            bytes.extend_from_slice(&chunk);
            each(bytes.len());
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A stream of a job as it grows, until the job has ended.
    pub(crate) fn follow(&self, job: i64, file: &str, mut each: impl FnMut(&[u8])) -> Result<(), CliError> {
        let path = format!("/api/assay/v1/jobs/{job}/streams/{file}?follow=1");
        let mut answer = self.send(self.request(Method::GET, &path))?;
        while let Some(chunk) =
            self.runtime.block_on(answer.chunk()).map_err(|error| self.unreachable(&error))?
        {
            each(&chunk);
        }
        Ok(())
    }

    /// Sends a piece of an upload. A connection that breaks is mended for a while: a piece may be sent twice.
    pub(crate) fn piece<T: DeserializeOwned>(
        &self,
        path: &str,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<T, CliError> {
        let mut pause = Duration::from_millis(100);
        loop {
            let request = self.request(Method::PATCH, path).header(UPLOAD_OFFSET, offset).body(bytes.clone());
            match self.send(request) {
                Ok(answer) => return self.parse(answer),
                Err(error) if error.code == Code::Infrastructure && pause < Duration::from_secs(10) => {
                    self.runtime.block_on(tokio::time::sleep(pause));
                    pause *= 2;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Bytes from `offset` on, piece by piece.
    pub(crate) fn fetch(
        &self,
        path: &str,
        offset: u64,
        mut each: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), CliError> {
        let mut request = self.request(Method::GET, path);
        if offset > 0 {
            request = request.header(reqwest::header::RANGE, format!("bytes={offset}-"));
        }
        let mut answer = self.send(request)?;
        while let Some(chunk) =
            self.runtime.block_on(answer.chunk()).map_err(|error| self.unreachable(&error))?
        {
            each(&chunk)?;
        }
        Ok(())
    }

    /// A blob's bytes.
    pub(crate) fn blob(&self, sha256: &str) -> Result<Vec<u8>, CliError> {
        let answer = self.send(self.request(Method::GET, &format!("/api/assay/v1/blobs/{sha256}")))?;
        let bytes = self.runtime.block_on(answer.bytes()).map_err(|error| self.unreachable(&error))?;
        Ok(bytes.to_vec())
    }
}
