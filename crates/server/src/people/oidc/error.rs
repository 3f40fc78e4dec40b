//! Why somebody is not signed in, each with what to do about it.

use crate::fault::Fault;
use axum::http::StatusCode;

/// Why a sign-in by a provider came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OidcError {
    #[error("There is no provider {0:?} to sign in with.")]
    UnknownProvider(String),
    #[error("{provider} does not answer: {why}.")]
    Unreachable { provider: String, why: String },
    #[error("What {provider} publishes about itself cannot be used: {why}.")]
    Discovery { provider: String, why: String },
    #[error("The secret for {provider} cannot be had: {why}.")]
    Secret { provider: String, why: String },
    #[error("This sign-in is unknown, or was finished before, or took too long.")]
    NoAttempt,
    #[error("This sign-in was begun in another browser, or later once more in this one.")]
    OtherBrowser,
    #[error("{provider} did not let you in: {why}.")]
    Declined { provider: String, why: String },
    #[error("{provider} did not take the code that it gave: {why}.")]
    Code { provider: String, why: String },
    #[error("{provider} did not say who you are: its answer has no ID token.")]
    NoIdToken { provider: String },
    #[error("What {provider} says about you cannot be read: {why}.")]
    Unreadable { provider: String, why: String },
    #[error("The signature of {provider}'s ID token is wrong: {why}.")]
    Signature { provider: String, why: String },
    #[error("{provider}'s ID token is signed with a key that {provider} does not publish.")]
    UnknownKey { provider: String },
    #[error("{provider}'s ID token is from another issuer: {why}.")]
    Issuer { provider: String, why: String },
    #[error("{provider}'s ID token is not for this server alone: {why}.")]
    Audience { provider: String, why: String },
    #[error("{provider}'s ID token has expired.")]
    Expired { provider: String },
    #[error("{provider}'s ID token belongs to another sign-in.")]
    Nonce { provider: String },
    #[error("The user info of {provider} cannot be used: {why}.")]
    UserInfo { provider: String, why: String },
    #[error("{provider} does not say how you are called: the claim {claim} is missing.")]
    NoName { provider: String, claim: String },
    #[error("{provider} calls you {name:?}, which is no name for a user here.")]
    BadName { provider: String, name: String },
    #[error("{user} is another person here: at {title} that name belongs to another account than yours.")]
    OtherPerson { user: String, title: String },
    #[error("No random numbers could be had.")]
    NoChance,
}

impl OidcError {
    /// What to do.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            Self::UnknownProvider(_) => {
                "Sign in at /login; providers are sections [sign-in.NAME] of assay.toml."
            }
            Self::Unreachable { .. } => {
                "Try again in a moment; if it stays so, an admin looks whether this server reaches the issuer."
            }
            Self::Discovery { .. } => {
                "An admin compares `issuer` in assay.toml with what the provider's own pages call it, letter by letter."
            }
            Self::Secret { .. } => {
                "An admin puts the client's secret into the first line of client-secret-file."
            }
            Self::NoAttempt | Self::OtherBrowser | Self::Expired { .. } => {
                "Begin again at /login; if it stays so, an admin compares this server's clock with the provider's."
            }
            Self::Declined { .. } => {
                "Begin again at /login and agree, or ask the provider's people for access."
            }
            Self::Code { .. } => {
                "An admin compares client-id and the secret with the provider's, and the address of the callback: it begins with `url` of [gate]."
            }
            Self::NoIdToken { .. } => {
                "An admin makes sure that the client is one of OpenID Connect, with the scope openid."
            }
            Self::Unreadable { .. } | Self::UserInfo { .. } => {
                "Begin again at /login; if it stays so, tell an admin, who finds it in the server's log."
            }
            Self::Signature { .. } => {
                "Do not go on from this network. The provider has to sign with RS256, ES256 or EdDSA and a key that it publishes; tell an admin."
            }
            Self::UnknownKey { .. } => {
                "Begin again at /login; if it stays so, the provider's keys and its tokens do not belong together: tell an admin."
            }
            Self::Issuer { .. } | Self::Audience { .. } => {
                "An admin compares issuer and client-id in assay.toml with the provider's."
            }
            Self::Nonce { .. } => {
                "Do not go on: somebody may have given you their sign-in. Begin again at /login."
            }
            Self::NoName { .. } => {
                "An admin adds the scope that brings the claim, or names another with name-claim."
            }
            Self::BadName { .. } => {
                "Letters, digits and ._+@- are taken, 80 at most; an admin can name another claim with name-claim."
            }
            Self::OtherPerson { .. } => {
                "If the name is yours now, or your account was made anew, an admin removes that user (DELETE /api/assay/v1/users/NAME); then sign in again."
            }
            Self::NoChance => "Look at the system's log.",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::UnknownProvider(_) => StatusCode::NOT_FOUND,
            Self::NoAttempt | Self::OtherBrowser => StatusCode::BAD_REQUEST,
            Self::Declined { .. } | Self::BadName { .. } | Self::OtherPerson { .. } => StatusCode::FORBIDDEN,
            Self::Secret { .. } | Self::NoChance => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_GATEWAY,
        }
    }
}

impl From<OidcError> for Fault {
    fn from(error: OidcError) -> Self {
        Self::new(error.status(), error.to_string(), error.help())
    }
}
