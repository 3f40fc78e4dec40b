//! Users and the keys they sign requests with. All of it is for admins, but for everybody's own keys.

use serde::{Deserialize, Serialize};

/// A key to be made. The user is made too if there is none of that name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// Whose it is.
    pub user: String,
    /// `viewer`, `operator` or `admin`; for a new user `operator` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// After so many days it is refused; never if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_days: Option<u32>,
}

/// A key that somebody makes for themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOwnKey {
    /// After so many days it is refused; 365 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_days: Option<u32>,
}

/// Answer to `GET keys/mine`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnKeys {
    /// The oldest first.
    pub keys: Vec<ApiKey>,
}

/// A key that was just made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeKey {
    /// The key.
    #[serde(flatten)]
    pub key: ApiKey,
    /// Its secret; it is not shown again.
    pub secret: String,
    /// Whose it is.
    pub user: String,
    /// What that user may do.
    pub role: String,
}

/// A key without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// The public half.
    pub key: String,
    /// When it was made.
    pub created: String,
    /// From when on it is refused.
    pub expires: Option<String>,
    /// It is refused now.
    pub expired: bool,
    /// When it was last used, to the minute.
    pub last_used: Option<String>,
}

/// Another role for a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeUser {
    /// `viewer`, `operator` or `admin`.
    pub role: String,
}

/// Somebody who may sign requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name.
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
    /// Since when they are known.
    pub created: String,
    /// Their keys, the oldest first.
    pub keys: Vec<ApiKey>,
}

/// Answer to `GET users`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserList {
    /// By name.
    pub users: Vec<User>,
}

/// `POST setup-tokens`: lets somebody sign in once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSetupToken {
    /// Who; the user is made if there is none of that name.
    pub user: String,
    /// What a new user may do (default: operator).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// After so many hours it is refused (default: 24).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_hours: Option<u32>,
}

/// Answer to `POST setup-tokens`; the token is never shown again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupToken {
    /// What is typed at `/login`.
    pub token: String,
    /// Who signs in with it.
    pub user: String,
    /// What they may do.
    pub role: String,
    /// When it expires.
    pub expires: String,
}

/// The names of the sections that clients look for: the host for openQA's own, with its port for the Python client.
pub fn conf_sections(url: &str) -> Vec<&str> {
    let place = url.split_once("://").map_or(url, |(_, rest)| rest);
    let place = place.split('/').next().unwrap_or(place);
    let host = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => place.split(':').next().unwrap_or(place),
    };
    if host == place { vec![host] } else { vec![host, place] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_hosts() {
        assert_eq!(conf_sections("http://127.0.0.1:9526"), ["127.0.0.1", "127.0.0.1:9526"]);
        assert_eq!(conf_sections("https://openqa.example.com/"), ["openqa.example.com"]);
        assert_eq!(conf_sections("http://[::1]:9526"), ["::1", "[::1]:9526"]);
    }
}
