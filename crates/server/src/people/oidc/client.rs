//! The conversation with one provider.

use super::error::OidcError;
use super::settings::ProviderSettings;
use assay_connect::http::{Http, NoAnswer, secret};
use assay_engine::ids::Timestamp;
use assay_proto::clock::Clock;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreClientAuthMethod, CoreErrorResponseType, CoreGenderClaim,
    CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreProviderMetadata,
    CoreResponseType, CoreRevocableToken, CoreRevocationErrorResponse, CoreTokenIntrospectionResponse,
    CoreTokenType,
};
use openidconnect::{
    AccessToken, AdditionalClaims, AsyncHttpClient, AuthType, AuthenticationFlow, AuthorizationCode,
    ClaimsVerificationError, Client, ClientId, ClientSecret, CsrfToken, DiscoveryError,
    EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse,
    IdTokenFields, IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, RequestTokenError, Scope, SignatureVerificationError, StandardErrorResponse,
    StandardTokenResponse, SubjectIdentifier, TokenResponse as _, UserInfoClaims,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// The longest answer that is read.
const LONGEST_ANSWER: usize = 1024 * 1024;
/// What a provider publishes is asked for again after so long: a key that was taken back is not trusted for ever.
const KEPT_SECONDS: i64 = 3600;

/// Claims that the specification does not name.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Others(Map<String, Value>);

impl AdditionalClaims for Others {}

type Fields = IdTokenFields<
    Others,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;
type Tokens = StandardTokenResponse<Fields, CoreTokenType>;
type Talk = Client<
    Others,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    Tokens,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// Asks, and waits no longer than it should.
struct Caller {
    http: Http,
    deadline: Duration,
    https: bool,
}

impl<'c> AsyncHttpClient<'c> for Caller {
    type Error = NoAnswer;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, NoAnswer>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            if self.https && request.uri().scheme_str() != Some("https") {
                let why = format!("{} is not https, as its issuer is", request.uri());
                return Err(NoAnswer { why, sent: false });
            }
            let late = |_| NoAnswer { why: format!("nothing came within {:?}", self.deadline), sent: true };
            tokio::time::timeout(self.deadline, self.http.send(request)).await.map_err(late)?
        })
    }
}

/// What a provider published, and how it is spoken to.
struct Published {
    metadata: CoreProviderMetadata,
    caller: Caller,
    at: Timestamp,
}

/// A provider.
pub(super) struct Provider {
    pub(super) settings: ProviderSettings,
    published: tokio::sync::Mutex<Option<Arc<Published>>>,
}

/// What goes to the provider, and what has to be remembered of it.
pub(super) struct Request {
    pub(super) address: String,
    pub(super) state: String,
    pub(super) nonce: Nonce,
    pub(super) verifier: PkceCodeVerifier,
}

/// What a provider says about somebody, verified.
pub(super) struct Said {
    pub(super) subject: String,
    pub(super) claims: Map<String, Value>,
}

impl Provider {
    pub(super) fn new(settings: ProviderSettings) -> Self {
        Self { settings, published: tokio::sync::Mutex::default() }
    }

    fn title(&self) -> String {
        self.settings.title.clone()
    }

    /// What it published not long ago, and after `stale`.
    async fn published(
        &self,
        clock: &dyn Clock,
        deadline: Duration,
        stale: Option<&Arc<Published>>,
    ) -> Result<Arc<Published>, OidcError> {
        let mut held = self.published.lock().await;
        if let Some(published) = held.as_ref()
            && !stale.is_some_and(|stale| Arc::ptr_eq(stale, published))
            && clock.now() < published.at.plus_seconds(KEPT_SECONDS)
        {
            return Ok(published.clone());
        }
        let wrong = |why: String| OidcError::Discovery { provider: self.title(), why };
        let https = self.settings.is_https();
        let http = Http::new(https, self.settings.ca_file.as_deref(), LONGEST_ANSWER).map_err(wrong)?;
        let caller = Caller { http, deadline, https };
        let issuer =
            IssuerUrl::new(self.settings.issuer.clone()).map_err(|error| wrong(error.to_string()))?;
        let found = CoreProviderMetadata::discover_async(issuer, &caller).await;
        let metadata = found.map_err(|error| match error {
            DiscoveryError::Request(NoAnswer { why, .. }) => {
                OidcError::Unreachable { provider: self.title(), why }
            }
            DiscoveryError::Response(status, ..) => {
                OidcError::Unreachable { provider: self.title(), why: format!("it says {status}") }
            }
            DiscoveryError::Parse(error) => wrong(error.to_string()),
            other => wrong(other.to_string()),
        })?;
        let published = Arc::new(Published { metadata, caller, at: clock.now() });
        *held = Some(published.clone());
        Ok(published)
    }

    fn talk(&self, published: &Published, redirect: &str) -> Result<Talk, OidcError> {
        let secret = secret(&self.settings.client_secret_file)
            .map_err(|why| OidcError::Secret { provider: self.title(), why })?;
        let wrong = |why: String| OidcError::Discovery { provider: self.title(), why };
        let redirect = RedirectUrl::new(redirect.to_owned()).map_err(|error| wrong(error.to_string()))?;
        let client_id = ClientId::new(self.settings.client_id.clone());
        let metadata = published.metadata.clone();
        // It is so unless the provider says otherwise.
        let body_only = metadata
            .token_endpoint_auth_methods_supported()
            .is_some_and(|methods| !methods.contains(&CoreClientAuthMethod::ClientSecretBasic));
        let auth = if body_only { AuthType::RequestBody } else { AuthType::BasicAuth };
        let talk = Talk::from_provider_metadata(metadata, client_id, Some(ClientSecret::new(secret)));
        Ok(talk.set_redirect_uri(redirect).set_auth_type(auth))
    }

    /// The address that the browser is sent to.
    pub(super) async fn begin(
        &self,
        clock: &dyn Clock,
        deadline: Duration,
        redirect: &str,
    ) -> Result<Request, OidcError> {
        let published = self.published(clock, deadline, None).await?;
        let talk = self.talk(&published, redirect)?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let (address, state, nonce) = talk
            .authorize_url(
                AuthenticationFlow::<CoreResponseType>::AuthorizationCode,
                CsrfToken::new_random,
                Nonce::new_random,
            )
            .add_scopes(self.settings.scopes.iter().cloned().map(Scope::new))
            .set_pkce_challenge(challenge)
            .url();
        let scheme = address.scheme();
        if scheme != "https" && (scheme != "http" || self.settings.is_https()) {
            let why = format!("its authorization_endpoint begins with {scheme}:");
            return Err(OidcError::Discovery { provider: self.title(), why });
        }
        Ok(Request { address: address.into(), state: state.into_secret(), nonce, verifier })
    }

    /// Takes the code for what the provider says about its owner.
    pub(super) async fn finish(
        &self,
        clock: &Arc<dyn Clock>,
        deadline: Duration,
        redirect: &str,
        code: String,
        (nonce, verifier): (Nonce, PkceCodeVerifier),
    ) -> Result<Said, OidcError> {
        let provider = self.title();
        let published = self.published(clock.as_ref(), deadline, None).await?;
        let talk = self.talk(&published, redirect)?;
        let code = talk
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|error| OidcError::Discovery { provider: provider.clone(), why: error.to_string() })?;
        let tokens = code.set_pkce_verifier(verifier).request_async(&published.caller).await;
        let tokens = tokens.map_err(|error| self.no_tokens(error))?;
        let token = tokens.id_token().ok_or(OidcError::NoIdToken { provider })?;
        let mut read = verified(&talk, clock, token, &nonce);
        let mut latest = published.clone();
        if let Err(ClaimsVerificationError::SignatureVerification(
            SignatureVerificationError::NoMatchingKey,
        )) = read
        {
            // It may have changed its keys since.
            latest = self.published(clock.as_ref(), deadline, Some(&published)).await?;
            read = verified(&self.talk(&latest, redirect)?, clock, token, &nonce);
        }
        let mut said = read.map_err(|error| self.not_verified(error))?;
        if !said.claims.contains_key(&self.settings.name_claim)
            || !said.claims.contains_key(&self.settings.groups_claim)
        {
            self.ask_more(&talk, &latest.caller, tokens.access_token(), &mut said).await?;
        }
        Ok(said)
    }

    /// Many say nothing but the subject in the token, and the rest to whoever asks with it.
    async fn ask_more(
        &self,
        talk: &Talk,
        caller: &Caller,
        access: &AccessToken,
        said: &mut Said,
    ) -> Result<(), OidcError> {
        let subject = SubjectIdentifier::new(said.subject.clone());
        let Ok(request) = talk.user_info(access.clone(), Some(subject)) else { return Ok(()) };
        let wrong = |why: String| OidcError::UserInfo { provider: self.title(), why };
        let more: Result<UserInfoClaims<Others, CoreGenderClaim>, _> = request.request_async(caller).await;
        let more = more.map_err(|error| wrong(chain(&error)))?;
        for (claim, value) in object(&more).map_err(|error| wrong(error.to_string()))? {
            said.claims.entry(claim).or_insert(value);
        }
        Ok(())
    }

    fn no_tokens(
        &self,
        error: RequestTokenError<NoAnswer, StandardErrorResponse<CoreErrorResponseType>>,
    ) -> OidcError {
        let provider = self.title();
        match error {
            RequestTokenError::ServerResponse(said) => {
                OidcError::Code { provider, why: plain(&said.to_string()) }
            }
            RequestTokenError::Request(NoAnswer { why, .. }) => OidcError::Unreachable { provider, why },
            RequestTokenError::Parse(error, _) => OidcError::Unreadable { provider, why: error.to_string() },
            RequestTokenError::Other(why) => OidcError::Unreachable { provider, why: plain(&why) },
        }
    }

    fn not_verified(&self, error: ClaimsVerificationError) -> OidcError {
        let provider = self.title();
        match error {
            ClaimsVerificationError::Expired(_) => OidcError::Expired { provider },
            ClaimsVerificationError::InvalidAudience(why) => OidcError::Audience { provider, why },
            ClaimsVerificationError::InvalidIssuer(why) => OidcError::Issuer { provider, why },
            ClaimsVerificationError::InvalidNonce(_) => OidcError::Nonce { provider },
            ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey) => {
                OidcError::UnknownKey { provider }
            }
            ClaimsVerificationError::SignatureVerification(why) => {
                OidcError::Signature { provider, why: plain(&why.to_string()) }
            }
            other => OidcError::Unreadable { provider, why: plain(&other.to_string()) },
        }
    }
}

type IdToken = openidconnect::IdToken<
    Others,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;

fn verified(
    talk: &Talk,
    clock: &Arc<dyn Clock>,
    token: &IdToken,
    nonce: &Nonce,
) -> Result<Said, ClaimsVerificationError> {
    let now = || {
        chrono::DateTime::from_timestamp_micros(clock.now().0)
            .unwrap_or(chrono::DateTime::<chrono::Utc>::MAX_UTC)
    };
    let verifier = talk
        .id_token_verifier()
        // Never one that whoever knows the client's secret could use, and never none.
        .set_allowed_algs([
            CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
            CoreJwsSigningAlgorithm::EcdsaP256Sha256,
            CoreJwsSigningAlgorithm::EdDsa,
        ])
        .set_time_fn(now);
    let claims = token.claims(&verifier, nonce)?;
    let unreadable = |error: serde_json::Error| ClaimsVerificationError::Other(error.to_string());
    Ok(Said { subject: claims.subject().to_string(), claims: object(claims).map_err(unreadable)? })
}

fn object(claims: &impl Serialize) -> Result<Map<String, Value>, serde_json::Error> {
    serde_json::from_value(serde_json::to_value(claims)?)
}

/// Something that came from outside, as part of a sentence.
pub(super) fn plain(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    text.trim_end_matches('.').to_owned()
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    plain(&text)
}
