//! The HTTP server: who asks, what goes wrong, and where the request goes.

use super::core::Core;
use super::faults::Trouble;
use super::handle::Handle;
use super::model::Refusal;
use super::wire;
use super::{control, rest};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::serve::IncomingStream;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use std::io::Read as _;
use std::sync::{Arc, PoisonError};
use tokio::net::{TcpListener, TcpStream};

/// The largest body that is taken: a push.
const LARGEST: usize = 1 << 30;

/// A connection that can be closed without an answer.
#[derive(Debug, Clone)]
struct Socket(Option<Arc<std::net::TcpStream>>);

impl Socket {
    fn cut(&self) {
        if let Some(stream) = &self.0 {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

struct Listener {
    inner: TcpListener,
    core: Arc<Core>,
}

impl Listener {
    async fn next(&self) -> std::io::Result<(TcpStream, Socket)> {
        let (stream, _) = self.inner.accept().await?;
        stream.set_nodelay(true)?;
        let stream = stream.into_std()?;
        let other = Arc::new(stream.try_clone()?);
        let mut sockets = self.core.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.retain(|socket| socket.strong_count() > 0);
        sockets.push(Arc::downgrade(&other));
        Ok((TcpStream::from_std(stream)?, Socket(Some(other))))
    }
}

impl axum::serve::Listener for Listener {
    type Io = TcpStream;
    type Addr = Socket;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            if let Ok(pair) = self.next().await {
                return pair;
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(Socket(None))
    }
}

impl Connected<IncomingStream<'_, Listener>> for Socket {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.remote_addr().clone()
    }
}

/// Serves until the server ends.
pub(crate) async fn serve(handle: Handle, listener: TcpListener) {
    let core = handle.core.clone();
    let app = Router::new().fallback(answer).with_state(handle);
    let listener = Listener { inner: listener, core: core.clone() };
    let service = app.into_make_service_with_connect_info::<Socket>();
    tokio::select! {
        () = core.cancel.cancelled() => {}
        _ = axum::serve(listener, service).into_future() => {}
    }
}

/// A request whose path, query and user are known.
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// Segments of the path without `/a`, still escaped.
    pub(crate) path: Vec<String>,
    /// Pairs of the query, unescaped.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) user: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Asked {
    /// All values of one name in the query.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A number in the query.
    pub(crate) fn number(&self, names: &[&str]) -> Option<usize> {
        self.query.iter().find(|(key, _)| names.contains(&key.as_str()))?.1.parse().ok()
    }

    /// The body as JSON; nothing for an empty one.
    pub(crate) fn json(&self) -> Result<serde_json::Value, Refusal> {
        if self.body.is_empty() {
            return Ok(serde_json::Value::Null);
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| Refusal::BadRequest(format!("the body is no JSON: {error}")))
    }

    /// Who asks; nobody is refused.
    pub(crate) fn user(&self) -> Result<&str, Refusal> {
        self.user.as_deref().ok_or_else(|| Refusal::Forbidden("authentication required".into()))
    }
}

/// Undoes the escapes of a URL.
pub(crate) fn unescape(text: &str, plus_is_blank: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match (byte, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(value)) => {
                out.push(value);
                at += 2;
            }
            (b'+', _) if plus_is_blank => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

async fn answer(
    State(handle): State<Handle>,
    ConnectInfo(socket): ConnectInfo<Socket>,
    request: Request,
) -> Response {
    let response = respond(&handle, request).await;
    response.unwrap_or_else(|| {
        socket.cut();
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    })
}

/// The answer, or nothing if the connection is to be dropped.
async fn respond(handle: &Handle, request: Request) -> Option<Response> {
    let core = &handle.core;
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, LARGEST).await else { return None };
    let raw = parts.uri.path();
    let (path, must_login) = match raw.strip_prefix("/a/") {
        Some(rest) => (format!("/{rest}"), true),
        None => (raw.to_owned(), false),
    };
    let segments: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let query =
        parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescape(name, true), unescape(value, true))
        });
    let user = login(core, &parts.headers).await;
    let mut asked = Asked {
        method: parts.method,
        path: segments,
        query: query.collect(),
        user: None,
        headers: parts.headers,
        body,
    };
    if asked.path.first().is_some_and(|first| first == "fake") {
        return Some(control::answer(handle, &asked).await);
    }
    match user {
        Ok(user) => asked.user = user,
        Err(()) => return Some(login_first()),
    }
    if must_login && asked.user.is_none() {
        return Some(login_first());
    }
    let lost = match core.faults.meet(&format!("http:{} {path}", asked.method)).await {
        Some(Trouble::Fails) => {
            return Some((StatusCode::INTERNAL_SERVER_ERROR, "Internal server error\n").into_response());
        }
        Some(Trouble::AnswerLost) => true,
        _ => false,
    };
    let response = match git(core, &asked).await {
        Some(response) => Some(response),
        None => rest::answer(core, &asked).await,
    };
    response.filter(|_| !lost)
}

fn login_first() -> Response {
    let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"Gerrit Code Review\"")];
    (StatusCode::UNAUTHORIZED, challenge, "Unauthorized\n").into_response()
}

/// Who has the name and password; nobody without any; an error with wrong ones.
async fn login(core: &Core, headers: &HeaderMap) -> Result<Option<String>, ()> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    if core.faults.refuses_logins() {
        return Err(());
    }
    let decoded =
        value.to_str().ok().and_then(|text| STANDARD.decode(text.strip_prefix("Basic ")?.trim()).ok());
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(())?;
    let (user, password) = text.split_once(':').ok_or(())?;
    let world = core.world.lock().await;
    match world.accounts.get(user) {
        Some(account) if account.password.as_deref() == Some(password) => Ok(Some(user.to_owned())),
        _ => Err(()),
    }
}

/// git's smart protocol, if that is what is asked for.
async fn git(core: &Core, asked: &Asked) -> Option<Response> {
    let (last, before) = asked.path.split_last()?;
    let (service, project, first) = match last.as_str() {
        "refs" => {
            let project = before.strip_suffix(&["info".to_owned()])?;
            (asked.values("service").next()?.to_owned(), project, true)
        }
        "git-upload-pack" | "git-receive-pack" => (last.clone(), before, false),
        _ => return None,
    };
    let project = unescape(&project.join("/"), false);
    let Ok(project) = super::commands::project_of(core, &project).await else {
        return Some((StatusCode::NOT_FOUND, "Repository not found\n").into_response());
    };
    Some(match smart(core, asked, &service, &project, first).await {
        Ok(response) => response,
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    })
}

async fn smart(
    core: &Core,
    asked: &Asked,
    service: &str,
    project: &str,
    first: bool,
) -> std::io::Result<Response> {
    let version = asked.headers.get("git-protocol").and_then(|value| value.to_str().ok());
    let mut out = Vec::new();
    let greet = |out: &mut Vec<u8>| {
        out.extend(wire::packet(format!("# service={service}\n").as_bytes()));
        out.extend(b"0000");
    };
    let body = plain_body(asked)?;
    match (service, first) {
        ("git-upload-pack", true) => {
            if !version.is_some_and(|version| version.contains("version=2")) {
                greet(&mut out);
            }
            let args = ["--stateless-rpc", "--advertise-refs"];
            wire::upload_pack(core, project, &args, version, tokio::io::empty(), &mut out).await?;
        }
        ("git-upload-pack", false) => {
            wire::upload_pack(core, project, &["--stateless-rpc"], version, body.as_slice(), &mut out)
                .await?;
        }
        ("git-receive-pack", _) if asked.user.is_none() => return Ok(login_first()),
        ("git-receive-pack", true) => {
            greet(&mut out);
            out.extend(core.advertise_receive(project).await?);
        }
        ("git-receive-pack", false) => {
            let user = asked.user.clone().unwrap_or_default();
            out = core.receive_pack(&user, project, &mut body.as_slice()).await?;
        }
        _ => return Ok((StatusCode::FORBIDDEN, "no such service\n").into_response()),
    }
    let kind = if first { "advertisement" } else { "result" };
    let headers = [
        (header::CONTENT_TYPE, format!("application/x-{service}-{kind}")),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
    ];
    Ok((headers, Body::from(out)).into_response())
}

/// The body, unpacked if it is packed.
fn plain_body(asked: &Asked) -> std::io::Result<Vec<u8>> {
    if asked.headers.get(header::CONTENT_ENCODING).is_none_or(|value| value != "gzip") {
        return Ok(asked.body.to_vec());
    }
    let mut out = Vec::new();
    GzDecoder::new(asked.body.as_ref()).take(LARGEST as u64).read_to_end(&mut out)?;
    Ok(out)
}
