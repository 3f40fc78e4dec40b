//! openQA's signed requests: HMAC-SHA1 over the request target and the time, and what clients make of that.

use assay_engine::ids::Timestamp;
use axum::http::{HeaderMap, Uri};
use ring::hmac;

/// How far a client's clock may be off, and so how long a signed request can be sent again.
const TOLERANCE_SECONDS: f64 = 300.0;

/// What a signed request carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) key: String,
    hash: Vec<u8>,
    /// As sent: Python sends a fraction, and the text is signed.
    time: String,
}

/// Why a signature does not count. The words are openQA's, people search for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    NoKey,
    UnknownKey,
    Expired,
    Skewed,
    Forged,
    BadToken,
    NotPrivate,
}

impl Refused {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::NoKey => "no api key",
            Self::UnknownKey => "api key unknown",
            Self::Expired => "api key expired",
            Self::Skewed => {
                "timestamp mismatch - check whether clocks on the local host and the web UI host are in sync"
            }
            Self::Forged => "invalid signature",
            Self::BadToken => "invalid personal access token",
            Self::NotPrivate => "personal access token can only be used via HTTPS or from localhost",
        }
    }
}

impl Signature {
    /// The signature of a request; `None` if it has none. A key alone is a signature that does not count.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let hash = hex::decode(text("x-api-hash").unwrap_or_default()).unwrap_or_default();
        Some(Self { key: text("x-api-key")?, hash, time: text("x-api-microtime").unwrap_or_default() })
    }

    /// Whether `secret` made it, for this address, about now.
    pub(crate) fn check(&self, uri: &Uri, secret: &[u8], now: Timestamp) -> Result<(), Refused> {
        let signed_at: f64 = self.time.parse().map_err(|_| Refused::Skewed)?;
        let off = (signed_at - now.0 as f64 / 1e6).abs();
        if !off.is_finite() || off > TOLERANCE_SECONDS {
            return Err(Refused::Skewed);
        }
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let made = |target: String| hmac::verify(&key, (target + &self.time).as_bytes(), &self.hash).is_ok();
        if spellings(target).into_iter().any(made) { Ok(()) } else { Err(Refused::Forged) }
    }
}

/// The spellings of an address that clients sign: as sent; or as openQA's server would write it, with `+` for spaces in
/// the query and without a bare `~`.
fn spellings(target: &str) -> Vec<String> {
    let plus = match target.split_once('?') {
        Some((path, query)) => format!("{path}?{}", query.replace("%20", "+")),
        None => target.to_owned(),
    };
    let mut all = vec![target.to_owned(), plus.clone(), target.replace('~', "%7E"), plus.replace('~', "%7E")];
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"SSSS";

    fn check(target: &str, time: &str, hash: &str, now: i64) -> Result<(), Refused> {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-api-key", "K"), ("x-api-microtime", time), ("x-api-hash", hash)] {
            headers.insert(name, value.parse().unwrap());
        }
        let signature = Signature::of(&headers).unwrap();
        signature.check(&target.parse().unwrap(), SECRET, Timestamp(now * 1_000_000))
    }

    /// What the real clients sent, captured on the wire.
    const CAPTURED: [(&str, &str, &str); 5] = [
        ("/api/v1/isos", "1795167835", "5def21dc37396b8eac569bd76371e630e1dbc525"),
        (
            "/api/v1/jobs?latest=1&test=a+b%7Ec&x=%C3%A9%2F%3A%2B%2C",
            "1795167835",
            "680ad0804521a8fb048e21c8129ff504fb2d4ff8",
        ),
        (
            "/api/v1/isos?DISTRI=fedora&VERSION=a+b~c&X=%C3%A9%2F%3A%2B",
            "1795167836.4616146",
            "c836a3e41028a2530a4eb446e7f5241f2c610a8d",
        ),
        ("/api/v1/jobs?ids=1%2C2&latest=1", "1795167836.4638426", "a42a56f6bf11817229cca2604b182dc1dc168c95"),
        ("/api/v1/isos?DISTRI=fedora&ISO=a.iso", "1795167837", "77b8b404ced2cfad2c1ffc5008ab40d56ba6a722"),
    ];

    #[test]
    fn real_clients_are_understood() {
        for (target, time, hash) in CAPTURED {
            for now in [1_795_167_836, 1_795_167_836 + 298, 1_795_167_836 - 298] {
                assert_eq!(check(target, time, hash, now), Ok(()), "{target} at {now}");
            }
        }
    }

    #[test]
    fn what_is_not_as_signed_is_refused() {
        let (target, time, hash) = CAPTURED[0];
        let now = 1_795_167_835;
        let cases = [
            (target, time, hash, now + 301, Refused::Skewed),
            (target, time, hash, now - 301, Refused::Skewed),
            (target, "1795167836", hash, now, Refused::Forged),
            (target, "1795167835.0", hash, now, Refused::Forged),
            ("/api/v1/jobs", time, hash, now, Refused::Forged),
            ("/api/v1/isos?a=b", time, hash, now, Refused::Forged),
            (target, time, "5def21dc37396b8eac569bd76371e630e1dbc526", now, Refused::Forged),
            (target, time, "5def21", now, Refused::Forged),
            (target, time, "zz", now, Refused::Forged),
            (target, time, "", now, Refused::Forged),
            (target, "", hash, now, Refused::Skewed),
            (target, "NaN", hash, now, Refused::Skewed),
            (target, "inf", hash, now, Refused::Skewed),
            (target, "soon", hash, now, Refused::Skewed),
        ];
        for (target, time, hash, now, want) in cases {
            assert_eq!(check(target, time, hash, now), Err(want), "{target} {time:?} {hash:?} at {now}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_signature(time in "\\PC{0,20}", hash in "[0-9a-f]{40}", target in "/[a-z~%?=&0-9]{0,20}") {
            if let Ok(uri) = target.parse::<Uri>()
                && let Ok(value) = axum::http::HeaderValue::from_str(&time)
            {
                let mut headers = HeaderMap::new();
                headers.insert("x-api-key", axum::http::HeaderValue::from_static("K"));
                headers.insert("x-api-microtime", value);
                headers.insert("x-api-hash", hash.parse().unwrap());
                let checked = Signature::of(&headers).unwrap().check(&uri, SECRET, Timestamp(0));
                proptest::prop_assert!(checked.is_err());
            }
        }
    }
}
