//! A provider of OpenID Connect: it lets the person in that the test has chosen, without asking, and signs for real.

mod keys;

pub use keys::Algorithm;

use crate::web::{listen, lock, serve};
use anyhow::Context;
use assay_proto::clock::Clock;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use keys::SigningKey;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::task::JoinSet;

/// The client that the provider knows.
pub const CLIENT: &str = "assay";
/// The client's secret.
pub const SECRET: &str = "s3cret of/the+client";
/// A token is good for so many seconds.
const LIFE: i64 = 300;

/// Whom the provider lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// `sub`
    pub subject: String,
    /// All other claims: `preferred_username`, `groups`.
    pub claims: Map<String, Value>,
}

impl Person {
    /// Somebody with a name and groups.
    pub fn new(subject: &str, name: &str, groups: &[&str]) -> Self {
        let mut claims = Map::new();
        claims.insert("preferred_username".to_owned(), json!(name));
        claims.insert("groups".to_owned(), json!(groups));
        Self { subject: subject.to_owned(), claims }
    }

    /// The same with another claim.
    #[must_use]
    pub fn with(mut self, claim: &str, value: Value) -> Self {
        self.claims.insert(claim.to_owned(), value);
        self
    }
}

/// What the provider does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The token carries another attempt's nonce.
    WrongNonce,
    /// The token carries no nonce.
    NoNonce,
    /// The token is for another client.
    WrongAudience,
    /// The token is for this client and for another.
    TwoAudiences,
    /// The token has expired.
    Expired,
    /// The token is signed with a key that only says that it is the published one.
    Forged,
    /// The token is signed with a key that is not published.
    UnpublishedKey,
    /// The token is not signed, and says so.
    Unsigned,
    /// The token is signed with the client's secret.
    SharedSecret,
    /// The token is from another issuer.
    WrongIssuer,
    /// The discovery document is another issuer's.
    WrongDiscovery,
    /// The answer of the token endpoint has no ID token.
    NoIdToken,
    /// The ID token is no token.
    Garbage,
    /// The user info is somebody else's.
    OtherPerson,
    /// The person says no.
    Declined,
    /// Every answer is 500.
    Broken,
    /// No answer ever comes.
    Silent,
}

struct Grant {
    person: Person,
    redirect_uri: String,
    challenge: String,
    nonce: Option<String>,
}

struct Inner {
    person: Person,
    trouble: Option<Trouble>,
    by_user_info: bool,
    key: SigningKey,
    keys_made: u32,
    grants: BTreeMap<String, Grant>,
    access: BTreeMap<String, Person>,
    counter: u32,
    discoveries: u32,
}

struct Shared {
    issuer: String,
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

/// The provider; dropping it ends it.
pub struct FakeProvider {
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

impl FakeProvider {
    /// Listens on a free port of loopback.
    pub async fn start(clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let (listener, issuer) = listen().await?;
        let inner = Inner {
            person: Person::new("1001", "ann", &[]),
            trouble: None,
            by_user_info: false,
            key: SigningKey::new(Algorithm::Rs256, "key-1")?,
            keys_made: 1,
            grants: BTreeMap::new(),
            access: BTreeMap::new(),
            counter: 0,
            discoveries: 0,
        };
        let shared = Arc::new(Shared { issuer, clock, inner: Mutex::new(inner) });
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(jwks))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .route("/userinfo", get(user_info))
            .layer(axum::middleware::from_fn_with_state(shared.clone(), misbehave))
            .with_state(shared.clone());
        Ok(Self { shared, _task: serve(listener, routes) })
    }

    /// `http://127.0.0.1:PORT`
    pub fn issuer(&self) -> &str {
        &self.shared.issuer
    }

    /// Who is let in from now on.
    pub fn set_person(&self, person: Person) {
        self.shared.inner().person = person;
    }

    /// What is done wrong from now on.
    pub fn set_trouble(&self, trouble: Option<Trouble>) {
        self.shared.inner().trouble = trouble;
    }

    /// Whether claims come by the user info endpoint only, as the specification has it for code flows.
    pub fn set_by_user_info(&self, by_user_info: bool) {
        self.shared.inner().by_user_info = by_user_info;
    }

    /// Signs with a new key from now on; the old one is published no longer.
    pub fn rotate(&self, algorithm: Algorithm) -> anyhow::Result<()> {
        let mut inner = self.shared.inner();
        inner.keys_made += 1;
        inner.key = SigningKey::new(algorithm, &format!("key-{}", inner.keys_made))?;
        Ok(())
    }

    /// How often the discovery document was asked for.
    pub fn discoveries(&self) -> u32 {
        self.shared.inner().discoveries
    }
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

impl Inner {
    fn next(&mut self, what: &str) -> String {
        self.counter += 1;
        format!("{what}-{}", self.counter)
    }
}

async fn misbehave(
    State(shared): State<Arc<Shared>>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let trouble = shared.inner().trouble;
    match trouble {
        Some(Trouble::Broken) => (StatusCode::INTERNAL_SERVER_ERROR, "out of order").into_response(),
        Some(Trouble::Silent) => std::future::pending().await,
        _ => next.run(request).await,
    }
}

async fn discovery(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let issuer = &shared.issuer;
    let mut inner = shared.inner();
    inner.discoveries += 1;
    let elsewhere = inner.trouble == Some(Trouble::WrongDiscovery);
    let says = if elsewhere { "https://elsewhere.example".to_owned() } else { issuer.clone() };
    Json(json!({
        "issuer": says,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
        "jwks_uri": format!("{issuer}/jwks"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256", "EdDSA", "HS256", "none"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
    }))
}

async fn jwks(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({ "keys": [shared.inner().key.public()] }))
}

#[derive(Deserialize)]
struct Asked {
    response_type: String,
    client_id: String,
    redirect_uri: String,
    scope: String,
    state: String,
    nonce: Option<String>,
    code_challenge: String,
    code_challenge_method: String,
}

/// Sends the browser back at once, as the person that the test has chosen.
async fn authorize(State(shared): State<Arc<Shared>>, Query(asked): Query<Asked>) -> Response {
    let right = asked.response_type == "code"
        && asked.client_id == CLIENT
        && asked.code_challenge_method == "S256"
        && asked.scope.split(' ').any(|scope| scope == "openid");
    if !right {
        return (StatusCode::BAD_REQUEST, "this is no request for a code").into_response();
    }
    let mut inner = shared.inner();
    let answer = if inner.trouble == Some(Trouble::Declined) {
        "error=access_denied&error_description=no".to_owned()
    } else {
        let code = inner.next("code");
        let person = inner.person.clone();
        let (challenge, nonce) = (asked.code_challenge, asked.nonce);
        let grant = Grant { person, redirect_uri: asked.redirect_uri.clone(), challenge, nonce };
        inner.grants.insert(code.clone(), grant);
        format!("code={code}")
    };
    let location = format!("{}?{answer}&state={}", asked.redirect_uri, asked.state);
    (StatusCode::FOUND, [(header::LOCATION, location)]).into_response()
}

#[derive(Deserialize)]
struct Exchange {
    grant_type: String,
    code: String,
    redirect_uri: String,
    code_verifier: String,
}

async fn token(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: String) -> Response {
    match shared.exchange(&headers, &body) {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => {
            let body = json!({ "error": "invalid_grant", "error_description": error.to_string() });
            (StatusCode::BAD_REQUEST, Json(body)).into_response()
        }
    }
}

impl Shared {
    fn exchange(&self, headers: &HeaderMap, body: &str) -> anyhow::Result<Value> {
        let authorization =
            headers.get(header::AUTHORIZATION).context("the client does not say who it is")?;
        let basic = authorization.to_str()?.strip_prefix("Basic ").context("not Basic")?;
        let expected = format!("{CLIENT}:s3cret+of%2Fthe%2Bclient");
        anyhow::ensure!(STANDARD.decode(basic)? == expected.as_bytes(), "this is not the client's secret");
        let Query(exchange) = Query::<Exchange>::try_from_uri(&format!("/?{body}").parse()?)?;
        let mut inner = self.inner();
        let grant = inner.grants.remove(&exchange.code).context("the code is unknown or was used")?;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(exchange.code_verifier));
        anyhow::ensure!(exchange.grant_type == "authorization_code", "no such grant");
        anyhow::ensure!(exchange.redirect_uri == grant.redirect_uri, "another redirect_uri");
        anyhow::ensure!(challenge == grant.challenge, "this is not the verifier of the challenge");
        let access = inner.next("access");
        inner.access.insert(access.clone(), grant.person.clone());
        let mut answer = json!({ "access_token": access, "token_type": "Bearer", "expires_in": LIFE });
        if inner.trouble != Some(Trouble::NoIdToken) {
            answer["id_token"] = json!(self.id_token(&inner, &grant)?);
        }
        Ok(answer)
    }

    fn id_token(&self, inner: &Inner, grant: &Grant) -> anyhow::Result<String> {
        let trouble = inner.trouble;
        let now = self.clock.now().0 / 1_000_000;
        let mut claims = if inner.by_user_info { Map::new() } else { grant.person.claims.clone() };
        let issuer = match trouble {
            Some(Trouble::WrongIssuer) => "https://elsewhere.example",
            _ => &self.issuer,
        };
        let audience = match trouble {
            Some(Trouble::WrongAudience) => json!("another"),
            Some(Trouble::TwoAudiences) => json!([CLIENT, "another"]),
            _ => json!(CLIENT),
        };
        let nonce = match trouble {
            Some(Trouble::WrongNonce) => Some("the nonce of another attempt"),
            Some(Trouble::NoNonce) => None,
            _ => grant.nonce.as_deref(),
        };
        let expires = if trouble == Some(Trouble::Expired) { now - 1 } else { now + LIFE };
        claims.extend([
            ("iss".to_owned(), json!(issuer)),
            ("sub".to_owned(), json!(grant.person.subject)),
            ("aud".to_owned(), audience),
            ("iat".to_owned(), json!(expires - LIFE)),
            ("exp".to_owned(), json!(expires)),
        ]);
        claims.extend(nonce.map(|nonce| ("nonce".to_owned(), json!(nonce))));
        let claims = Value::Object(claims);
        let another = |name: &str| SigningKey::new(Algorithm::Es256, name);
        match trouble {
            Some(Trouble::Garbage) => Ok("no.token.at-all".to_owned()),
            Some(Trouble::Unsigned) => Ok(keys::unsigned(&claims)),
            Some(Trouble::SharedSecret) => Ok(keys::with_secret(SECRET, &claims)),
            Some(Trouble::UnpublishedKey) => another("key-0")?.sign(&claims),
            Some(Trouble::Forged) => inner.key.forger()?.sign(&claims),
            _ => inner.key.sign(&claims),
        }
    }
}

async fn user_info(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let inner = shared.inner();
    let given =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let Some(person) = given.and_then(|token| inner.access.get(token)) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let mut claims = person.claims.clone();
    let subject = match inner.trouble {
        Some(Trouble::OtherPerson) => "somebody else",
        _ => &person.subject,
    };
    claims.insert("sub".to_owned(), json!(subject));
    Json(Value::Object(claims)).into_response()
}
