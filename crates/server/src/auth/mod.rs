//! Who may do what. Reading is open (role viewer); operators work with jobs and with what is in the gate; admins change
//! what there is; workers need the worker token. People have a key each, with which they sign as openQA's clients do or
//! which they send as a token; the admin and the operator token of the data directory are for whoever runs the server.
//!
//! A browser on this machine is a way in for any web page: by a form that posts to loopback, or by a name that is
//! made to point here (DNS rebinding). So requests without a token must name the server by a loopback name when it
//! listens on loopback, and none that changes something may come from another site.

pub(crate) mod once;
pub(crate) mod signature;

use crate::api::{openqa, resultsdb};
use crate::app::App;
use crate::datadir::Tokens;
use crate::fault::Fault;
use crate::people::{People, Person, session};
use assay_engine::work::Held;
use assay_store::UserRole;
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use ring::hmac;
use sha2::{Digest, Sha256};
use signature::{Refused, Signature};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What the sender of a request may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Look.
    Viewer,
    /// Post, restart, cancel, comment; move what is in the gate: enqueue, dequeue, promote, autohold.
    Operator,
    /// Everything that people do.
    Admin,
    /// What workers do.
    Worker,
}

impl From<UserRole> for Role {
    fn from(role: UserRole) -> Self {
        match role {
            UserRole::Viewer => Self::Viewer,
            UserRole::Operator => Self::Operator,
            UserRole::Admin => Self::Admin,
        }
    }
}

tokio::task_local! {
    /// Who looks at the page that is being made; for the head that all pages have.
    static VIEWER: Viewer;
}

/// Who looks at a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Viewer {
    /// Empty if nobody knows.
    pub(crate) name: String,
    pub(crate) role: Role,
}

impl Viewer {
    /// Whoever the request at hand came from.
    pub(crate) fn here() -> Option<Self> {
        VIEWER.try_with(Clone::clone).ok().filter(|viewer| !viewer.name.is_empty())
    }

    /// The role's word.
    pub(crate) fn word(&self) -> &'static str {
        match self.role {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
            Role::Worker => "worker",
        }
    }
}

/// Who sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sender {
    pub(crate) role: Role,
    /// Their name; empty if nobody knows.
    pub(crate) name: String,
    /// Why the signature that came along does not count.
    pub(crate) refused: Option<Refused>,
}

impl Sender {
    /// Somebody with a name.
    pub(crate) fn must_be_known(&self) -> Result<(), Fault> {
        if self.name.is_empty() || self.refused.is_some() { Err(self.fault("viewer")) } else { Ok(()) }
    }

    /// Somebody who may work with jobs.
    pub(crate) fn must_be_operator(&self) -> Result<(), Fault> {
        if self.is_operator() { Ok(()) } else { Err(self.fault("operator")) }
    }

    /// Somebody who may do everything.
    pub(crate) fn must_be_admin(&self) -> Result<(), Fault> {
        if self.role == Role::Admin { Ok(()) } else { Err(self.fault("admin")) }
    }

    pub(crate) fn is_operator(&self) -> bool {
        matches!(self.role, Role::Operator | Role::Admin)
    }

    /// Refused in words of Assay's API.
    fn fault(&self, needed: &str) -> Fault {
        let (status, why) = match (self.refused, self.name.as_str()) {
            (Some(refused), _) => {
                (StatusCode::FORBIDDEN, format!("This request is refused: {}.", refused.text()))
            }
            (None, "") => (StatusCode::UNAUTHORIZED, format!("This needs the role {needed}.")),
            (None, name) => {
                (StatusCode::FORBIDDEN, format!("This needs the role {needed}, which {name} does not have."))
            }
        };
        Fault::new(
            status,
            why,
            "Send `Authorization: Bearer TOKEN` with the token of tokens/admin in the server's data directory or with USER:KEY:SECRET of `assay key create`, or start the server with --trust-loopback to try it out.",
        )
    }
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

impl Guard {
    fn job_mac(&self, held: Held) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.admin);
        let Held { attempt, token } = held;
        let text = format!("job token {} {} {}", attempt.job.0, attempt.number, token.0);
        hex::encode(hmac::sign(&key, text.as_bytes()).as_ref())
    }

    /// What stands in an address that only its owner knows: of a feed, and of an end of mails.
    pub(crate) fn address_mac(&self, what: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.admin);
        hex::encode(&hmac::sign(&key, format!("address {what}").as_bytes()).as_ref()[..16])
    }

    /// True if it is the one of this address.
    pub(crate) fn is_address_mac(&self, what: &str, mac: &str) -> bool {
        same(&digest(&self.address_mac(what)), &digest(mac))
    }

    /// What the test of an attempt shows to be that; it is worth nothing once the attempt has ended.
    pub(crate) fn job_token(&self, held: Held) -> String {
        format!("{}-{}-{}", held.attempt.job.0, held.attempt.number, self.job_mac(held))
    }

    pub(crate) fn is_job_token(&self, held: Held, token: &str) -> bool {
        same(&digest(&self.job_token(held)), &digest(token))
    }

    /// Who sent a request, or why it is refused whatever it wants.
    fn sender(
        &self,
        people: &Arc<People>,
        peer: IpAddr,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Sender, Fault> {
        let known = |person: Person| Sender { role: person.role.into(), name: person.name, refused: None };
        if let Some(token) = personal_token(headers) {
            let person =
                if is_private(peer, headers) { people.bearer(&token) } else { Err(Refused::NotPrivate) };
            return person.map(known).map_err(|refused| {
                let help =
                    "Send USER:KEY:SECRET of a key that has not expired, by HTTPS or from this machine.";
                Fault::new(StatusCode::FORBIDDEN, refused.text(), help)
            });
        }
        let signed = |signature| people.signer(&signature, &signed_for(peer, method, uri, headers));
        let refused = match Signature::of(headers).map(signed) {
            Some(Ok(person)) => return Ok(known(person)),
            Some(Err(refused)) => Some(refused),
            None => None,
        };
        let found = self.role(peer, method, uri, headers)?;
        if refused.is_none()
            && !headers.contains_key(header::AUTHORIZATION)
            && let Some(person) = session::cookie_of(headers).and_then(|cookie| people.session(cookie))
        {
            if !is_safe(method) {
                own_page(headers)?;
            }
            return Ok(known(person));
        }
        // Somebody who signs wants to be that somebody, or nobody.
        let by_token = headers.contains_key(header::AUTHORIZATION);
        let role = if refused.is_some() && !by_token { Role::Viewer } else { found };
        let name = match role {
            Role::Admin => "admin",
            Role::Operator => "operator",
            Role::Viewer | Role::Worker => "",
        };
        Ok(Sender { role, name: name.to_owned(), refused: refused.filter(|_| !by_token) })
    }
}

/// `user:key:secret` of the Authorization header; `None` if that says something else, such as what a proxy asked for.
pub(crate) fn personal_token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    let token = match scheme.to_ascii_lowercase().as_str() {
        "bearer" => rest.trim().to_owned(),
        "basic" => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
            String::from_utf8(bytes).ok()?
        }
        _ => return None,
    };
    (token.matches(':').count() == 2).then_some(token)
}

/// Nobody on the way can read it: from this machine, or by a proxy here that was spoken to by HTTPS.
fn is_private(peer: IpAddr, headers: &HeaderMap) -> bool {
    let by_proxy = FORWARDED.iter().any(|name| headers.contains_key(*name));
    let https = headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes() == b"https");
    peer.to_canonical().is_loopback() && (https || !by_proxy)
}

/// Where openQA's proxies ask whether somebody may do what they ask for elsewhere (nginx: `auth_request`).
const ASKED_BY_PROXIES: &str = "/api/v1/auth";

/// The address that a signature is to be for: the request's own, or what a proxy on this machine was asked for. The
/// latter only where nothing but the answer depends on it, and once: with two of them, one is the client's.
fn signed_for(peer: IpAddr, method: &Method, uri: &Uri, headers: &HeaderMap) -> Uri {
    let by_proxy = is_safe(method) && uri.path() == ASKED_BY_PROXIES && peer.to_canonical().is_loopback();
    let mut given = headers.get_all("x-original-uri").iter();
    match (given.next(), given.next()) {
        // What cannot be read was not signed: the request's own address is not either.
        (Some(original), None) if by_proxy => {
            Uri::try_from(original.as_bytes()).unwrap_or_else(|_| uri.clone())
        }
        _ => uri.clone(),
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

/// Refuses to change something for a browser that does not say which page wants it: all that know `SameSite` do.
fn own_page(headers: &HeaderMap) -> Result<(), Fault> {
    // What they say has been compared by `same_site`.
    if headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site") {
        return Ok(());
    }
    let why = "This browser does not say which page it comes from.";
    Err(Fault::new(StatusCode::FORBIDDEN, why, "Use a browser of this decade, the command line, or a token."))
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

/// Finds every request's [`Sender`] and refuses those that have none.
pub(crate) async fn find_role(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let found = app.guard.sender(&app.people, peer.ip(), request.method(), request.uri(), request.headers());
    let found = found.and_then(|sender| {
        app.once.demands(sender.role, request.method(), request.headers())?;
        app.once.allows(&sender.name, request.headers(), app.clock.now())?;
        Ok(sender)
    });
    match found {
        Ok(sender) => {
            let viewer = Viewer { name: sender.name.clone(), role: sender.role };
            request.extensions_mut().insert(sender);
            VIEWER.scope(viewer, next.run(request)).await
        }
        Err(fault) if openqa::is_openqa(request.uri()) => openqa::Wrong::from(fault).into_response(),
        Err(fault) if resultsdb::is_ours(request.uri()) => resultsdb::Wrong::from(fault).into_response(),
        Err(fault) => fault.into_response(),
    }
}

fn sender_of(request: &Request) -> Option<&Sender> {
    request.extensions().get()
}

/// Lets only operators change things.
pub(crate) async fn operators_change(request: Request, next: Next) -> Response {
    match sender_of(&request) {
        _ if is_safe(request.method()) => next.run(request).await,
        Some(sender) if !sender.is_operator() => sender.fault("operator").into_response(),
        _ => next.run(request).await,
    }
}

/// What of the gate operators may change.
fn is_operated(path: &str) -> bool {
    let what = path.split_once("/gate/").map_or("", |(_, what)| what);
    matches!(what, "enqueue" | "enqueue-ref" | "dequeue" | "promote" | "autoholds")
        || what.starts_with("autoholds/")
}

/// Why the sender may not do this, if that is so: only admins change the gate, and operators what is theirs.
fn may_change(sender: Option<&Sender>, method: &Method, path: &str) -> Result<(), Fault> {
    let operated = is_operated(path);
    match sender {
        _ if is_safe(method) => Ok(()),
        Some(sender) if operated && !sender.is_operator() => Err(sender.fault("operator")),
        Some(sender) if !operated && sender.role != Role::Admin => Err(sender.fault("admin")),
        _ => Ok(()),
    }
}

/// Lets only those change the gate who may.
pub(crate) async fn admins_change(request: Request, next: Next) -> Response {
    match may_change(sender_of(&request), request.method(), request.uri().path()) {
        Ok(()) => next.run(request).await,
        Err(fault) => fault.into_response(),
    }
}

/// An admin sent the request.
#[derive(Debug, Clone)]
pub(crate) struct Admin(pub(crate) Sender);

impl<S: Sync> FromRequestParts<S> for Admin {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
        match parts.extensions.get::<Sender>() {
            Some(sender) if sender.role == Role::Admin => Ok(Self(sender.clone())),
            Some(sender) => Err(sender.fault("admin")),
            None => Err(Sender { role: Role::Viewer, name: String::new(), refused: None }.fault("admin")),
        }
    }
}

/// An operator or an admin sent the request.
#[derive(Debug, Clone)]
pub(crate) struct Operator(pub(crate) Sender);

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
        match parts.extensions.get::<Sender>() {
            Some(sender) if sender.is_operator() => Ok(Self(sender.clone())),
            Some(sender) => Err(sender.fault("operator")),
            None => Err(Sender { role: Role::Viewer, name: String::new(), refused: None }.fault("operator")),
        }
    }
}

/// Lets only workers in.
pub(crate) async fn workers_only(request: Request, next: Next) -> Response {
    if sender_of(&request).is_some_and(|sender| sender.role == Role::Worker) {
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
    fn only_a_proxy_here_says_what_was_signed_and_only_where_it_asks() {
        let (get, post, here) = (&Method::GET, &Method::POST, "127.0.0.1");
        let (auth, wanted) = ("/api/v1/auth", "/elsewhere/a?b=c%20d");
        let cases = [
            (here, get, auth, vec![wanted], wanted),
            ("::ffff:127.0.0.1", get, auth, vec![wanted], wanted),
            ("192.0.2.7", get, auth, vec![wanted], auth),
            (here, post, auth, vec![wanted], auth),
            (here, get, "/api/v1/isos/1", vec![wanted], "/api/v1/isos/1"),
            (here, get, "/api/v1/auth/x", vec![wanted], "/api/v1/auth/x"),
            (here, get, auth, vec![wanted, "/other"], auth),
            (here, get, auth, vec![""], auth),
            (here, get, auth, vec![], auth),
        ];
        for (number, (peer, method, path, given, want)) in cases.into_iter().enumerate() {
            let mut headers = HeaderMap::new();
            for value in given {
                headers.append("x-original-uri", value.parse().unwrap());
            }
            let uri = signed_for(peer.parse().unwrap(), method, &Uri::from_static(path), &headers);
            assert_eq!(uri.to_string(), want, "case {number}");
        }
    }

    #[test]
    fn operators_change_what_is_in_the_gate_and_nothing_else() {
        let status = |role, method: &Method, path| {
            let sender = Sender { role, name: String::new(), refused: None };
            may_change(Some(&sender), method, path).map_or_else(|fault| fault.status.as_u16(), |()| 200)
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
            ("/gate/end-landing", 401),
            ("/gate/acknowledge", 401),
        ] {
            assert_eq!(status(Role::Operator, &Method::POST, path), operator, "{path}");
            assert_eq!(status(Role::Admin, &Method::POST, path), 200, "{path}");
            assert_eq!(status(Role::Viewer, &Method::POST, path), 401, "{path}");
            assert_eq!(status(Role::Worker, &Method::POST, path), 401, "{path}");
            assert_eq!(status(Role::Viewer, &Method::GET, path), 200, "{path}");
        }
    }
}
