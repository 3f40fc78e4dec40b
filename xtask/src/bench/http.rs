//! As much of HTTP as a benchmark needs: one request for each connection, answers in JSON.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// `HOST:PORT` of `http://HOST:PORT/`.
pub(super) fn address(url: &str) -> Result<String> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url} is no http address"))?;
    Ok(rest.trim_end_matches('/').to_owned())
}

/// Asks `address` for `path`; an answer that is no success is an error.
pub(super) fn ask(address: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let (method, body) = match body {
        Some(body) => ("POST", body.to_string()),
        None => ("GET", String::new()),
    };
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer).context("the answer is no text")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if !status.starts_with('2') {
        bail!("{method} {path}: {status}: {}", body.trim());
    }
    serde_json::from_str(body).with_context(|| format!("{path} answered {body:?}"))
}
