//! HTTP and HTTPS, as little of it as an API needs.
//!
//! This is hyper with rustls and ring. The workspace's reqwest has no TLS on purpose: features are shared by all crates
//! of a build, and with rustls but without a process-wide provider every client in every crate would panic.

pub(crate) use assay_engine::address::encoded;

use assay_engine::ids::Timestamp;
use camino::Utf8Path;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::sync::Arc;

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
    /// What time it is there.
    pub(crate) date: Option<Timestamp>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NoAnswer {
    /// What went wrong.
    pub why: String,
    /// The request may have got there.
    pub sent: bool,
}

/// The body of an answer as it arrives.
#[derive(Debug)]
pub struct Pieces(Incoming);

impl Pieces {
    /// The next piece; `None` at the end. An end before everything has come is an error.
    pub async fn next(&mut self) -> Option<Result<Bytes, NoAnswer>> {
        loop {
            let frame = self.0.frame().await?;
            match frame.map(hyper::body::Frame::into_data) {
                Ok(Ok(data)) => return Some(Ok(data)),
                Ok(Err(_)) => {} // trailers
                Err(error) => return Some(Err(NoAnswer { why: chain(&error), sent: true })),
            }
        }
    }
}

/// A client with its pool of connections.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    longest_answer: usize,
}

impl Http {
    /// Trusts the certificates of the system, or only those of a PEM file. Certificates are read only if `https` is wanted.
    pub fn new(https: bool, ca_file: Option<&Utf8Path>, longest_answer: usize) -> Result<Self, String> {
        let tls = tls_config(https, ca_file)?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), longest_answer })
    }

    /// Sends a request and reads the whole answer. Deadlines are the caller's.
    pub(crate) async fn ask(
        &self,
        method: Method,
        uri: &str,
        authorization: Option<&str>,
        body: Option<String>,
    ) -> Result<Answer, NoAnswer> {
        let uri: Uri = uri
            .parse()
            .map_err(|error| NoAnswer { why: format!("{uri} is no address: {error}"), sent: false })?;
        let mut request = Request::builder().method(method).uri(uri).header("accept", "application/json");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json; charset=utf-8");
        }
        let request = request
            .body(body.unwrap_or_default().into_bytes())
            .map_err(|error| NoAnswer { why: error.to_string(), sent: false })?;
        let answer = self.send(request).await?;
        let body = String::from_utf8_lossy(answer.body()).into_owned();
        Ok(Answer { status: answer.status(), body, date: date(&answer) })
    }

    /// Sends any request; the body of the answer comes in pieces. A redirect is an answer too. Deadlines are the
    /// caller's.
    pub async fn open(&self, request: Request<Vec<u8>>) -> Result<Response<Pieces>, NoAnswer> {
        let mut request = request.map(|body| Full::new(Bytes::from(body)));
        request.headers_mut().insert("user-agent", HeaderValue::from_static("assay"));
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|error| NoAnswer { sent: !error.is_connect(), why: chain(&error) })?;
        Ok(answer.map(Pieces))
    }

    /// Sends any request and reads the whole answer; a redirect is an answer too. Deadlines are the caller's.
    pub async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, NoAnswer> {
        let (parts, body) = self.open(request).await?.into_parts();
        let body = Limited::new(body.0, self.longest_answer).collect().await;
        let body = body.map_err(|error| NoAnswer { why: chain(error.as_ref()), sent: true })?.to_bytes();
        Ok(Response::from_parts(parts, body.into()))
    }
}

/// What time it is where an answer comes from, to a second.
pub(crate) fn date<B>(answer: &Response<B>) -> Option<Timestamp> {
    let text = answer.headers().get("date")?.to_str().ok()?;
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Timestamp(at.as_microsecond()))
}

/// What to trust: the certificates of the system, or those of a PEM file; they are read only if they are wanted.
pub(crate) fn tls_config(wanted: bool, ca_file: Option<&Utf8Path>) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    if wanted {
        match ca_file {
            Some(file) => add_file(&mut roots, file)?,
            None => add_system(&mut roots)?,
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// An error with what caused it.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn add_file(roots: &mut rustls::RootCertStore, file: &Utf8Path) -> Result<(), String> {
    let wrong = |why: String| format!("{file} cannot be used as certificates to trust: {why}");
    let pem = fs_err::read(file).map_err(|error| wrong(error.to_string()))?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("there is none in it".to_owned())) } else { Ok(()) }
}

fn add_system(roots: &mut rustls::RootCertStore) -> Result<(), String> {
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err("this system has no certificates to trust; install its ca-certificates, or name a file"
            .to_owned());
    }
    Ok(())
}

/// A file with a secret in its first line.
pub fn secret(file: &Utf8Path) -> Result<String, String> {
    let text = fs_err::read_to_string(file).map_err(|error| error.to_string())?;
    let secret = text.lines().next().unwrap_or_default().trim().to_owned();
    if secret.is_empty() { Err(format!("{file} is empty")) } else { Ok(secret) }
}
