//! Requests that count once: `Assay-Once: SECONDS-RANDOM`.
//!
//! A token says who sends, not that they send it now. A request with this field is refused when it comes a second time,
//! and when its time is too far off to be remembered; see `docs/adr/0010-once.md`.

use super::{Role, is_safe};
use crate::fault::Fault;
use assay_engine::ids::Timestamp;
use axum::http::{HeaderMap, Method, StatusCode, header};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The field of a request.
const FIELD: &str = "assay-once";
/// How far the clocks may be apart, seconds; as for signatures.
const TOLERANCE: i64 = 300;
/// How many requests are remembered: more than a server answers in ten minutes to those who send this field.
const MOST: usize = 1_000_000;
/// How long the random part may be, characters.
const RANDOM: std::ops::RangeInclusive<usize> = 16..=64;

/// What was sent lately.
#[derive(Debug)]
pub(crate) struct Once {
    /// Nothing from before is remembered, so that nothing from before counts. Seconds.
    since: i64,
    /// By time, so that the old ones go first.
    seen: Mutex<BTreeSet<(i64, [u8; 32])>>,
    /// Requests with a token that change something have to have the field.
    required: AtomicBool,
}

impl Once {
    /// Remembers from `now` on.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { since: seconds(now), seen: Mutex::default(), required: AtomicBool::new(false) }
    }

    /// Says whether requests with a token that change something have to have the field.
    pub(crate) fn require(&self, required: bool) {
        self.required.store(required, Ordering::Relaxed);
    }

    /// Refuses a request without the field that has to have it. Signatures have a window of their own, browsers a cookie
    /// that other sites cannot send.
    pub(crate) fn demands(&self, role: Role, method: &Method, headers: &HeaderMap) -> Result<(), Fault> {
        let lacks = headers.contains_key(header::AUTHORIZATION) && !headers.contains_key(FIELD);
        if lacks && role != Role::Worker && !is_safe(method) && self.required.load(Ordering::Relaxed) {
            return Err(Fault::new(
                StatusCode::FORBIDDEN,
                "This server wants every change by a token to count once, and Assay-Once is missing.",
                "Send Assay-Once: SECONDS-RANDOM, the time since 1970 and 16 to 64 random letters and digits.",
            ));
        }
        Ok(())
    }

    /// Refuses a request of `who` that has come before. One without the field may come as often as it likes, and for
    /// nobody nothing is remembered.
    pub(crate) fn allows(&self, who: &str, headers: &HeaderMap, now: Timestamp) -> Result<(), Fault> {
        match headers.get(FIELD) {
            Some(value) if !who.is_empty() => self.first(who, value.to_str().unwrap_or_default(), now),
            _ => Ok(()),
        }
    }

    fn first(&self, who: &str, value: &str, now: Timestamp) -> Result<(), Fault> {
        let at = time_of(value).ok_or_else(|| {
            Fault::bad(
                "Assay-Once cannot be read.",
                "Send SECONDS-RANDOM: the time since 1970, and 16 to 64 random letters and digits.",
            )
        })?;
        let now = seconds(now);
        if now.abs_diff(at) > TOLERANCE.unsigned_abs() || at < self.since {
            return Err(Fault::new(
                StatusCode::FORBIDDEN,
                "The time of Assay-Once is too far off, or before the start of this server.",
                "Set the clock, and send the request with a new Assay-Once.",
            ));
        }
        let entry = (at, Sha256::digest(format!("{who}\0{value}")).into());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Everything before this is refused by its time alone.
        *seen = seen.split_off(&(now - TOLERANCE, [0; 32]));
        if seen.len() >= MOST {
            return Err(Fault::later("Too many requests with Assay-Once are remembered.", 60));
        }
        if !seen.insert(entry) {
            return Err(Fault::new(
                StatusCode::CONFLICT,
                "This request has come before, and counts once.",
                "If you mean it again, send it with a new Assay-Once.",
            ));
        }
        Ok(())
    }
}

fn seconds(at: Timestamp) -> i64 {
    at.0.div_euclid(1_000_000)
}

fn time_of(value: &str) -> Option<i64> {
    let (time, random) = value.split_once('-')?;
    let fits = RANDOM.contains(&random.len()) && random.bytes().all(|byte| byte.is_ascii_alphanumeric());
    time.parse().ok().filter(|time| fits && *time >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_795_219_200;
    const RANDOM: &str = "0123456789abcdefXYZ";

    fn at(seconds: i64) -> Timestamp {
        Timestamp((START + seconds) * 1_000_000)
    }

    #[test]
    fn each_counts_once_and_only_while_it_is_remembered() {
        let once = Once::new(at(0));
        let ask = |who: &str, value: String, now: i64| {
            let mut headers = HeaderMap::new();
            headers.insert(FIELD, value.parse().expect("a field"));
            once.allows(who, &headers, at(now)).map_err(|fault| fault.status.as_u16())
        };
        let made = |seconds: i64| format!("{}-{RANDOM}", START + seconds);
        // In this order, on one server: who, what, when, and what comes of it.
        for (who, value, now, want) in [
            ("ann", made(10), 10, Ok(())),
            ("ann", made(10), 10, Err(409)),
            ("ann", made(10), 309, Err(409)),
            ("bob", made(10), 310, Ok(())),
            ("ann", made(10), 311, Err(403)),
            ("ann", made(611), 311, Ok(())),
            ("ann", made(612), 311, Err(403)),
            ("ann", made(611), 911, Err(409)),
            ("ann", made(-1), 0, Err(403)),
            ("", made(10), 10, Ok(())),
            ("", made(10), 10, Ok(())),
            ("ann", String::new(), 10, Err(400)),
            ("ann", format!("{START}-short"), 10, Err(400)),
            ("ann", format!("-{START}-{RANDOM}"), 10, Err(400)),
            ("ann", format!("{START}-{}", "a".repeat(65)), 10, Err(400)),
            ("ann", format!("{}-{RANDOM}", i64::MAX), 10, Err(403)),
        ] {
            assert_eq!(ask(who, value.clone(), now), want, "{who} {value} at {now}");
        }
        assert_eq!(once.allows("ann", &HeaderMap::new(), at(0)).map_err(|fault| fault.status), Ok(()));
        let later = Once::new(at(1000));
        assert!(later.first("ann", &made(999), at(1000)).is_err(), "what an earlier server may have seen");
        assert!(later.first("ann", &made(1000), at(1000)).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn anything_may_stand_in_the_field(value in "\\PC{0,80}") {
            let once = Once::new(at(0));
            let _ = once.first("ann", &value, at(0));
            proptest::prop_assert!(once.first("ann", &value, at(0)).is_err());
        }
    }
}
