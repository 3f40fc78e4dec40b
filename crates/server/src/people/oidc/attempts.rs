//! Sign-ins that have begun: few, for minutes, each to be finished once and by the browser that began it.

use super::error::OidcError;
use assay_engine::ids::Timestamp;
use openidconnect::{Nonce, PkceCodeVerifier};
use std::collections::{BTreeMap, VecDeque};

/// So many at most; whoever comes then takes the place of the oldest.
const MOST: usize = 1000;
/// So long a provider may ask somebody for their password.
pub(super) const SECONDS: i64 = 600;

/// A sign-in that has begun.
pub(super) struct Attempt {
    pub(super) provider: String,
    /// What the browser was given as a cookie.
    pub(super) browser: String,
    pub(super) nonce: Nonce,
    pub(super) verifier: PkceCodeVerifier,
    /// Where the browser goes afterwards.
    pub(super) next: String,
    pub(super) expires_at: Timestamp,
}

/// All of them, by what the provider brings back as `state`.
#[derive(Default)]
pub(super) struct Attempts {
    by_state: BTreeMap<String, Attempt>,
    /// The oldest first.
    order: VecDeque<String>,
}

impl Attempts {
    pub(super) fn begin(&mut self, state: String, attempt: Attempt, now: Timestamp) {
        while let Some(oldest) = self.order.front() {
            let alive = self.by_state.get(oldest).is_some_and(|attempt| attempt.expires_at > now);
            if alive && self.order.len() < MOST {
                break;
            }
            self.by_state.remove(oldest);
            self.order.pop_front();
        }
        self.order.push_back(state.clone());
        self.by_state.insert(state, attempt);
    }

    /// Takes it, if this is its browser; it can be taken once. Another browser takes nothing from the one that began it.
    pub(super) fn take(
        &mut self,
        provider: &str,
        state: &str,
        browser: Option<&str>,
        now: Timestamp,
    ) -> Result<Attempt, OidcError> {
        let attempt = self.by_state.get(state).ok_or(OidcError::NoAttempt)?;
        if attempt.provider != provider || attempt.expires_at <= now {
            return Err(OidcError::NoAttempt);
        }
        if browser != Some(attempt.browser.as_str()) {
            return Err(OidcError::OtherBrowser);
        }
        self.by_state.remove(state).ok_or(OidcError::NoAttempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(expires_at: i64) -> Attempt {
        Attempt {
            provider: "fedora".to_owned(),
            browser: "b1".to_owned(),
            nonce: Nonce::new("n".to_owned()),
            verifier: PkceCodeVerifier::new("v".to_owned()),
            next: "/".to_owned(),
            expires_at: Timestamp(expires_at),
        }
    }

    #[test]
    fn once_in_time_by_the_same_browser() {
        let mut attempts = Attempts::default();
        attempts.begin("s".to_owned(), attempt(10), Timestamp(0));
        let mut take = |provider: &str, state: &str, browser: Option<&str>, now: i64| {
            attempts.take(provider, state, browser, Timestamp(now)).map(|attempt| attempt.next)
        };
        assert_eq!(take("fedora", "t", Some("b1"), 1), Err(OidcError::NoAttempt));
        assert_eq!(take("gitlab", "s", Some("b1"), 1), Err(OidcError::NoAttempt));
        assert_eq!(take("fedora", "s", Some("b2"), 1), Err(OidcError::OtherBrowser));
        assert_eq!(take("fedora", "s", None, 1), Err(OidcError::OtherBrowser));
        assert_eq!(take("fedora", "s", Some("b1"), 10), Err(OidcError::NoAttempt));
        assert_eq!(take("fedora", "s", Some("b1"), 9), Ok("/".to_owned()));
        assert_eq!(take("fedora", "s", Some("b1"), 9), Err(OidcError::NoAttempt));
    }

    #[test]
    fn they_do_not_pile_up() {
        let mut attempts = Attempts::default();
        for number in 0..MOST + 5 {
            attempts.begin(format!("s{number}"), attempt(10), Timestamp(0));
        }
        assert_eq!((attempts.by_state.len(), attempts.order.len()), (MOST, MOST));
        assert!(attempts.take("fedora", "s4", Some("b1"), Timestamp(1)).is_err());
        assert!(attempts.take("fedora", "s5", Some("b1"), Timestamp(1)).is_ok());
        attempts.begin("late".to_owned(), attempt(30), Timestamp(20));
        assert_eq!((attempts.by_state.len(), attempts.order.len()), (1, 1));
    }
}
