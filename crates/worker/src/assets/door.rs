//! The way to the server's assets for one job. The server may be away for a while, and come back elsewhere.

use super::AssetError;
use super::cache::{Source, Take};
use crate::link::ServerAddress;
use assay_engine::ids::JobId;
use assay_proto::api::ApiError;
use assay_proto::api::assets::{Asset, JobAsset, JobAssets, NewUpload, UPLOAD_OFFSET, UploadState};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// How long a request may be repeated while the server is away.
const PATIENCE: Duration = Duration::from_mins(10);
/// How long the server may be silent within an answer.
const SILENCE: Duration = Duration::from_mins(1);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The way.
#[derive(Debug, Clone)]
pub struct Door {
    job: JobId,
    server: ServerAddress,
    token: String,
    http: reqwest::Client,
}

impl Door {
    /// For a job that this worker has.
    pub fn new(job: JobId, server: ServerAddress, token: &str) -> Result<Self, AssetError> {
        let http =
            reqwest::Client::builder().connect_timeout(SILENCE).read_timeout(SILENCE).no_proxy().build();
        let http = http.map_err(|error| AssetError::Unreachable(error.to_string()))?;
        Ok(Self { job, server, token: token.to_owned(), http })
    }

    /// The job.
    pub(super) fn job(&self) -> JobId {
        self.job
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, AssetError> {
        let server = self.server.resolve().map_err(AssetError::Unreachable)?;
        Ok(self.http.request(method, format!("{server}/worker/v1{path}")).bearer_auth(&self.token))
    }

    /// Sends a request, once.
    async fn send(&self, request: RequestBuilder) -> Result<Response, AssetError> {
        let unreachable = |error: reqwest::Error| AssetError::Unreachable(error.to_string());
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let said = match answer.json::<ApiError>().await {
            Ok(said) => format!("{} {}", said.error, said.help),
            Err(_) => format!("HTTP {status}"),
        };
        // A full disk may be cleared, and a server that is busy or changes its place is back soon.
        let passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        Err(if passing { AssetError::Unreachable(said) } else { AssetError::Refused(said) })
    }

    /// Sends what `request` makes until there is an answer.
    async fn insist<T: DeserializeOwned>(
        &self,
        request: impl Fn() -> Result<RequestBuilder, AssetError>,
    ) -> Result<T, AssetError> {
        let began = tokio::time::Instant::now();
        let mut pause = Duration::from_millis(100);
        loop {
            let answered = async {
                let answer = self.send(request()?).await?;
                answer.json().await.map_err(|error| AssetError::Unreachable(error.to_string()))
            };
            match answered.await {
                Err(AssetError::Unreachable(why)) if began.elapsed() < PATIENCE => {
                    tracing::warn!(job = %self.job, why, "an asset waits for the server; trying again");
                }
                other => return other,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// What the job begins with.
    pub(super) async fn pin(&self) -> Result<Vec<JobAsset>, AssetError> {
        let path = format!("/jobs/{}/assets", self.job);
        let pinned: JobAssets = self.insist(|| self.request(Method::POST, &path)).await?;
        Ok(pinned.assets)
    }

    /// Begins to publish.
    pub(super) async fn begin(&self, new: &NewUpload) -> Result<UploadState, AssetError> {
        self.insist(|| Ok(self.request(Method::POST, "/assets/uploads")?.json(new))).await
    }

    /// How far the server has come.
    pub(super) async fn progress(&self, id: &str) -> Result<UploadState, AssetError> {
        self.insist(|| self.request(Method::GET, &format!("/assets/uploads/{id}"))).await
    }

    /// Sends a piece; may be repeated.
    pub(super) async fn append(
        &self,
        id: &str,
        offset: u64,
        piece: reqwest::Body,
    ) -> Result<UploadState, AssetError> {
        let request = self.request(Method::PATCH, &format!("/assets/uploads/{id}"))?;
        let answer = self.send(request.header(UPLOAD_OFFSET, offset).body(piece)).await?;
        answer.json().await.map_err(|error| AssetError::Unreachable(error.to_string()))
    }

    /// Publishes.
    pub(super) async fn complete(&self, id: &str) -> Result<Asset, AssetError> {
        let path = format!("/assets/uploads/{id}/complete");
        // The server hashes all of it before it answers.
        let request = || Ok(self.request(Method::POST, &path)?.timeout(PATIENCE));
        self.insist(request).await
    }
}

#[async_trait::async_trait]
impl Source for Door {
    async fn read(&self, sha256: &str, offset: u64, each: &mut Take<'_>) -> Result<(), AssetError> {
        let mut request = self.request(Method::GET, &format!("/assets/blobs/{sha256}"))?;
        if offset > 0 {
            request = request.header(reqwest::header::RANGE, format!("bytes={offset}-"));
        }
        let mut answer = self.send(request).await?;
        if offset > 0 && answer.status() != StatusCode::PARTIAL_CONTENT {
            return Err(AssetError::Refused("it does not send a part of an asset".to_owned()));
        }
        while let Some(bytes) =
            answer.chunk().await.map_err(|error| AssetError::Unreachable(error.to_string()))?
        {
            each(&bytes)?;
        }
        Ok(())
    }
}
