//! As much of HTTP as a benchmark needs: answers in JSON of one request for each connection, and connections that stay.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What a form is sent as.
const FORM: &str = "application/x-www-form-urlencoded";
/// The peers need it: a product of 1,000 jobs keeps openQA busy for minutes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(10);

/// `HOST:PORT` of `http://HOST:PORT/`.
pub(super) fn address(url: &str) -> Result<String> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url} is no http address"))?;
    Ok(rest.trim_end_matches('/').to_owned())
}

/// Asks `address` for `path`; an answer that is no success is an error.
pub(super) fn ask(address: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let answer = text(address, path, body)?;
    serde_json::from_str(&answer).with_context(|| format!("{path} answered {answer:?}"))
}

/// The same of what need not be JSON.
pub(super) fn text(address: &str, path: &str, body: Option<&Value>) -> Result<String> {
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
    let read = stream.read_to_end(&mut answer);
    read.with_context(|| format!("{method} {path}: no answer within {} s", PATIENCE.as_secs()))?;
    let answer = String::from_utf8(answer).context("the answer is no text")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if !status.starts_with('2') {
        bail!("{method} {path}: {status}: {}", body.trim());
    }
    Ok(body.to_owned())
}

/// A stream of events.
pub(super) struct Events(BufReader<TcpStream>);

impl Events {
    pub(super) fn open(address: &str, path: &str) -> Result<Self> {
        let mut stream = connect(address)?;
        write!(stream.get_mut(), "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        Ok(Self(stream))
    }

    /// Waits for the data of the next event.
    pub(super) fn next(&mut self) -> Result<String> {
        let mut line = String::new();
        while self.0.read_line(&mut line).context("no event came")? > 0 {
            if let Some(data) = line.strip_prefix("data:") {
                return Ok(data.trim().to_owned());
            }
            line.clear();
        }
        bail!("the stream of events ended")
    }
}

/// A connection that stays, as browsers and clients have one, with a token.
pub(super) struct Client {
    stream: BufReader<TcpStream>,
    address: String,
    authorization: String,
    /// The server ends the connection after so many requests.
    is_over: bool,
}

fn connect(address: &str) -> Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

impl Client {
    pub(super) fn new(address: &str, token: &str) -> Result<Self> {
        Self::with(address, &format!("Bearer {token}"))
    }

    /// With the value of the header `Authorization`.
    pub(super) fn with(address: &str, authorization: &str) -> Result<Self> {
        let (stream, address) = (connect(address)?, address.to_owned());
        Ok(Self { stream, address, authorization: authorization.to_owned(), is_over: false })
    }

    /// Looks at a page that may lead elsewhere.
    pub(super) fn visit(&mut self, path: &str) -> Result<()> {
        let (status, _) = self.exchange("GET", path, FORM, "")?;
        if status.starts_with('2') || status.starts_with('3') { Ok(()) } else { bail!("{path}: {status}") }
    }

    /// The body of what is at `path`.
    pub(super) fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        self.ask("GET", path, FORM, "")
    }

    /// Sends `form`, which is escaped already.
    pub(super) fn post(&mut self, path: &str, form: &str) -> Result<Value> {
        let body = self.ask("POST", path, FORM, form)?;
        // openQA says nothing of templates that it has taken.
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).with_context(|| format!("{path} answered no JSON"))
    }

    /// Sends JSON.
    pub(super) fn post_json(&mut self, path: &str, body: &Value) -> Result<Value> {
        let body = self.ask("POST", path, "application/json", &body.to_string())?;
        serde_json::from_slice(&body).with_context(|| format!("{path} answered no JSON"))
    }

    fn ask(&mut self, method: &str, path: &str, kind: &str, form: &str) -> Result<Vec<u8>> {
        let (status, body) = self.exchange(method, path, kind, form)?;
        if !status.starts_with('2') {
            bail!("{method} {path}: {status}: {}", String::from_utf8_lossy(&body).trim());
        }
        Ok(body)
    }

    /// The status and the body.
    fn exchange(&mut self, method: &str, path: &str, kind: &str, form: &str) -> Result<(String, Vec<u8>)> {
        if self.is_over {
            (self.stream, self.is_over) = (connect(&self.address)?, false);
        }
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\n\
             Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{form}",
            self.address,
            self.authorization,
            form.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        let mut next = |stream: &mut BufReader<TcpStream>| -> Result<String> {
            line.clear();
            stream.read_line(&mut line)?;
            Ok(line.trim_end().to_owned())
        };
        let status = next(&mut self.stream)?;
        let (mut length, mut chunked) = (0, false);
        loop {
            let header = next(&mut self.stream)?.to_ascii_lowercase();
            match header.split_once(':') {
                Some(("content-length", value)) => length = value.trim().parse()?,
                Some(("transfer-encoding", _)) => chunked = true,
                Some(("connection", value)) => self.is_over = value.trim() == "close",
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        while chunked {
            let size = usize::from_str_radix(&next(&mut self.stream)?, 16).context("a chunk's size")?;
            let from = body.len();
            body.resize(from + size, 0);
            self.stream.read_exact(&mut body[from..])?;
            next(&mut self.stream)?;
            chunked = size > 0;
        }
        let status = status.split_once(' ').map(|(_, status)| status.to_owned());
        Ok((status.context("no HTTP answer")?, body))
    }
}
