//! Who may do what. Reading is open (role viewer); changing needs the admin token, or for what is in the gate the
//! operator token; workers need the worker token.
//!
//! A browser on this machine is a way in for any web page: by a form that posts to loopback, or by a name that is
//! made to point here (DNS rebinding). So requests without a token must name the server by a loopback name when it
//! listens on loopback, and none that changes something may come from another site.

use crate::app::App;
use crate::datadir::Tokens;
use crate::fault::Fault;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What the sender of a request may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Look.
    Viewer,
    /// Move what is in the gate: enqueue, dequeue, promote, autohold.
    Operator,
    /// Everything that people do.
    Admin,
    /// What workers do.
    Worker,
}

/// Decides about requests.
#[derive(Debug)]
pub(crate) struct Guard {
    admin: [u8; 32],
    operator: [u8; 32],
    worker: [u8; 32],
    trust_loopback: bool,
    listens_on_loopback: bool,
}

impl Guard {
    pub(crate) fn new(tokens: &Tokens, trust_loopback: bool, bound: SocketAddr) -> Self {
        Self {
            admin: digest(&tokens.admin),
            operator: digest(&tokens.operator),
            worker: digest(&tokens.worker),
            trust_loopback,
            listens_on_loopback: bound.ip().is_loopback(),
        }
    }

    /// The sender's role, or why the request is refused.
    pub(crate) fn role(
        &self,
        peer: IpAddr,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Role, Fault> {
        if let Some(token) = headers.get(header::AUTHORIZATION) {
            return self.by_token(token.as_bytes());
        }
        let host = host_of(uri, headers);
        let local_name = host.as_deref().is_some_and(is_loopback_name);
        if self.listens_on_loopback && !local_name {
            return Err(Fault::new(
                StatusCode::MISDIRECTED_REQUEST,
                format!("This server answers to loopback names only, not to {:?}.", host.unwrap_or_default()),
                "Use 127.0.0.1 or localhost in the address, or send a token.",
            ));
        }
        if !is_safe(method) {
            same_site(headers, host.as_deref())?;
        }
        let trusted = self.trust_loopback
            && peer.to_canonical().is_loopback()
            && local_name
            && !FORWARDED.iter().any(|name| headers.contains_key(*name));
        Ok(if trusted { Role::Admin } else { Role::Viewer })
    }

    fn by_token(&self, value: &[u8]) -> Result<Role, Fault> {
        let token = value.strip_prefix(b"Bearer ").unwrap_or_default().trim_ascii();
        let given: [u8; 32] = Sha256::digest(token).into();
        // All comparisons always, each over all bytes: the time says nothing about the token.
        match (same(&given, &self.admin), same(&given, &self.operator), same(&given, &self.worker)) {
            (true, _, _) => Ok(Role::Admin),
            (_, true, _) => Ok(Role::Operator),
            (_, _, true) => Ok(Role::Worker),
            _ => Err(Fault::new(
                StatusCode::UNAUTHORIZED,
                "This token is not one of this server's.",
                "Send `Authorization: Bearer TOKEN` with the token of tokens/admin (or tokens/worker for workers) in the server's data directory.",
            )),
        }
    }
}

/// What a proxy adds: the sender is somewhere else, whatever the address says.
const FORWARDED: [&str; 3] = ["forwarded", "x-forwarded-for", "via"];

/// Refuses what another site's page makes a browser send.
fn same_site(headers: &HeaderMap, host: Option<&str>) -> Result<(), Fault> {
    let refuse = |origin: &str| {
        Err(Fault::new(
            StatusCode::FORBIDDEN,
            format!("A page of {origin} may not change anything here."),
            "Use this server's own pages, the command line, or a token.",
        ))
    };
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or("an unreadable origin");
        let its_host = origin.split_once("://").map(|(_, host)| host);
        if its_host.is_none() || its_host != host {
            return refuse(origin);
        }
    }
    let site = headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
    if matches!(site, Some("cross-site" | "same-site")) {
        return refuse("another site");
    }
    Ok(())
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn host_of(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let by_header = headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    by_header.or_else(|| uri.authority().map(ToString::to_string))
}

/// `localhost`, a loopback address, with or without a port.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn same(left: &[u8; 32], right: &[u8; 32]) -> bool {
    left.iter().zip(right).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

/// Finds every request's [`Role`] and refuses those that have none.
pub(crate) async fn find_role(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    match app.guard.role(peer.ip(), request.method(), request.uri(), request.headers()) {
        Ok(role) => {
            request.extensions_mut().insert(role);
            next.run(request).await
        }
        Err(fault) => fault.into_response(),
    }
}

/// What operators may change.
fn is_operated(path: &str) -> bool {
    let what = path.split_once("/gate/").map_or("", |(_, what)| what);
    matches!(what, "enqueue" | "enqueue-ref" | "dequeue" | "promote" | "autoholds")
        || what.starts_with("autoholds/")
}

/// Why somebody may not do this, if that is so: only admins change things, and operators what is theirs.
fn may_change(role: Option<Role>, method: &Method, path: &str) -> Result<(), Fault> {
    let operated = is_operated(path);
    if is_safe(method) || role == Some(Role::Admin) || (operated && role == Some(Role::Operator)) {
        return Ok(());
    }
    let why = if operated {
        "Changing what is in the gate needs the admin or the operator token."
    } else {
        "Changing something needs the admin token."
    };
    Err(Fault::new(
        StatusCode::UNAUTHORIZED,
        why,
        "Send `Authorization: Bearer TOKEN` with the token of tokens/admin in the server's data directory (of tokens/operator for what is in the gate), or start the server with --trust-loopback to try it out.",
    ))
}

/// Lets only those change things who may.
pub(crate) async fn admins_change(request: Request, next: Next) -> Response {
    let role = request.extensions().get().copied();
    match may_change(role, request.method(), request.uri().path()) {
        Ok(()) => next.run(request).await,
        Err(fault) => fault.into_response(),
    }
}

/// Lets only workers in.
pub(crate) async fn workers_only(request: Request, next: Next) -> Response {
    if request.extensions().get() == Some(&Role::Worker) {
        return next.run(request).await;
    }
    Fault::new(
        StatusCode::UNAUTHORIZED,
        "Workers need the worker token.",
        "Send `Authorization: Bearer TOKEN` with the token of tokens/worker in the server's data directory.",
    )
    .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMIN: &str = "aaaa";
    const WORKER: &str = "bbbb";
    const OPERATOR: &str = "dddd";

    fn ask(
        trust: bool,
        bound: &str,
        peer: &str,
        method: &Method,
        fields: &[(&str, &str)],
    ) -> Result<Role, u16> {
        let tokens = Tokens { admin: ADMIN.into(), worker: WORKER.into(), operator: OPERATOR.into() };
        let guard = Guard::new(&tokens, trust, bound.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap());
        }
        let answer = guard.role(peer.parse().unwrap(), method, &Uri::from_static("/x"), &headers);
        answer.map_err(|fault| fault.status.as_u16())
    }

    #[test]
    fn roles() {
        use Role::{Admin, Operator, Viewer, Worker};
        let (get, post) = (&Method::GET, &Method::POST);
        let (local, wide) = ("127.0.0.1:9526", "0.0.0.0:9526");
        let here = ("host", "127.0.0.1:9526");
        let cases = [
            (false, local, "127.0.0.1", get, vec![here], Ok(Viewer)),
            (false, local, "127.0.0.1", get, vec![("host", "localhost:9526")], Ok(Viewer)),
            (false, local, "::1", get, vec![("host", "[::1]:9526")], Ok(Viewer)),
            (false, local, "127.0.0.1", get, vec![("host", "evil.example")], Err(421)),
            (false, local, "127.0.0.1", get, vec![("host", "localhost.evil.example")], Err(421)),
            (false, local, "127.0.0.1", get, vec![("host", "127.0.0.1.evil.example")], Err(421)),
            (true, local, "127.0.0.1", post, vec![("host", "evil.example")], Err(421)),
            (false, local, "127.0.0.1", get, vec![], Err(421)),
            (true, local, "127.0.0.1", post, vec![here], Ok(Admin)),
            (true, local, "127.0.0.1", post, vec![here, ("origin", "http://127.0.0.1:9526")], Ok(Admin)),
            (true, local, "127.0.0.1", post, vec![here, ("origin", "http://127.0.0.1:80")], Err(403)),
            (true, local, "127.0.0.1", post, vec![here, ("origin", "http://evil.example")], Err(403)),
            (true, local, "127.0.0.1", post, vec![here, ("origin", "null")], Err(403)),
            (true, local, "127.0.0.1", post, vec![here, ("sec-fetch-site", "cross-site")], Err(403)),
            (true, local, "127.0.0.1", post, vec![here, ("forwarded", "for=192.0.2.7")], Ok(Viewer)),
            (true, local, "127.0.0.1", post, vec![here, ("x-forwarded-for", "192.0.2.7")], Ok(Viewer)),
            (true, local, "127.0.0.1", post, vec![here, ("via", "1.1 proxy")], Ok(Viewer)),
            (true, wide, "192.0.2.7", post, vec![("host", "ci.example")], Ok(Viewer)),
            (true, wide, "192.0.2.7", post, vec![here], Ok(Viewer)),
            (true, wide, "127.0.0.1", post, vec![("host", "ci.example")], Ok(Viewer)),
            (false, wide, "192.0.2.7", get, vec![("host", "ci.example")], Ok(Viewer)),
            (false, local, "127.0.0.1", post, vec![("authorization", "Bearer aaaa")], Ok(Admin)),
            (false, local, "127.0.0.1", post, vec![("authorization", "Bearer bbbb")], Ok(Worker)),
            (true, local, "127.0.0.1", post, vec![here, ("authorization", "Bearer dddd")], Ok(Operator)),
            (true, local, "127.0.0.1", post, vec![here, ("authorization", "Bearer cccc")], Err(401)),
            (true, local, "127.0.0.1", get, vec![here, ("authorization", "Bearer ")], Err(401)),
            (true, local, "127.0.0.1", get, vec![here, ("authorization", "aaaa")], Err(401)),
        ];
        for (number, (trust, bound, peer, method, fields, want)) in cases.into_iter().enumerate() {
            assert_eq!(ask(trust, bound, peer, method, &fields), want, "case {number}: {fields:?}");
        }
    }
    #[test]
    fn operators_change_what_is_in_the_gate_and_nothing_else() {
        let status = |role, method: &Method, path| {
            may_change(Some(role), method, path).map_or_else(|fault| fault.status.as_u16(), |()| 200)
        };
        for (path, operator) in [
            ("/gate/enqueue", 200),
            ("/api/assay/v1/gate/enqueue-ref", 200),
            ("/gate/dequeue", 200),
            ("/gate/promote", 200),
            ("/gate/autoholds", 200),
            ("/gate/autoholds/7", 200),
            ("/gate/reload", 401),
            ("/gate/hold", 401),
            ("/jobs", 401),
            ("/jobs/1/cancel", 401),
        ] {
            assert_eq!(status(Role::Operator, &Method::POST, path), operator, "{path}");
            assert_eq!(status(Role::Admin, &Method::POST, path), 200, "{path}");
            assert_eq!(status(Role::Viewer, &Method::POST, path), 401, "{path}");
            assert_eq!(status(Role::Worker, &Method::POST, path), 401, "{path}");
            assert_eq!(status(Role::Viewer, &Method::GET, path), 200, "{path}");
        }
    }
}
