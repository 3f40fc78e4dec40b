//! Whom this server asks outside, and who did not answer.

use assay_engine::ids::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// So long a host is not asked again that did not answer: not everything that is to be asked of it waits for the same silence.
pub(crate) const SILENCE_S: i64 = 60;
/// Hosts that are remembered.
const MOST: usize = 1000;

/// Whether somebody may be asked for what is not known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Others,
    Nobody,
}

/// A question to somebody outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Whom {
    /// Who is asked.
    pub(crate) host: String,
    /// What for.
    pub(crate) what: String,
}

impl Whom {
    /// Who has what is at this address.
    pub(crate) fn at(url: &str, what: &str) -> Self {
        Self { host: host_of(url).to_owned(), what: format!("{url} {what}") }
    }
}

/// The host of an address, with its port; what has none stands for itself.
fn host_of(url: &str) -> &str {
    let host = match url.split_once("://") {
        Some((_, rest)) => rest.split('/').next(),
        // `git@host:path`, as ssh has it.
        None => url.split_once(':').map(|(host, _)| host).filter(|host| !host.contains('/')),
    };
    let host = host.and_then(|host| host.rsplit('@').next());
    host.filter(|host| !host.is_empty()).unwrap_or(url)
}

/// A host that did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Silence {
    pub(crate) host: String,
    /// It is not asked before then.
    pub(crate) until: Timestamp,
}

/// Hosts that did not answer a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Silent(Mutex<BTreeMap<String, Timestamp>>);

impl Silent {
    /// Remembers a host that does not answer.
    pub(crate) fn note(&self, host: &str, now: Timestamp) -> Silence {
        let until = now.plus_seconds(SILENCE_S);
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= MOST {
            hosts.clear();
        }
        hosts.insert(host.to_owned(), until);
        Silence { host: host.to_owned(), until }
    }

    /// It answers.
    pub(crate) fn forget(&self, host: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(host);
    }

    /// The silence of a host, for a while.
    pub(crate) fn of(&self, host: &str, now: Timestamp) -> Option<Silence> {
        let until = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(host).copied()?;
        // A clock that was put back does not make it longer.
        let is_so = now < until && until <= now.plus_seconds(SILENCE_S);
        is_so.then(|| Silence { host: host.to_owned(), until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host() {
        for (url, host) in [
            ("https://git.example.org/tests/bash.git", "git.example.org"),
            ("git://127.0.0.1:9418/x", "127.0.0.1:9418"),
            ("ssh://ann:secret@git.example.org/x", "git.example.org"),
            ("git@git.example.org:tests/bash", "git.example.org"),
            ("/srv/git/with:colon", "/srv/git/with:colon"),
            ("file:///srv/git/x", "file:///srv/git/x"),
        ] {
            assert_eq!(Whom::at(url, "main").host, host, "{url}");
        }
    }

    #[test]
    fn a_silence_is_remembered_for_a_while() {
        let (silent, now) = (Silent::default(), Timestamp(1_000_000_000));
        assert_eq!(silent.of("h", now), None);
        let silence = silent.note("h", now);
        assert_eq!(silence.until, now.plus_seconds(SILENCE_S));
        assert_eq!(silent.of("h", now.plus_seconds(SILENCE_S - 1)), Some(silence));
        for at in [SILENCE_S, -1] {
            assert_eq!(silent.of("h", now.plus_seconds(at)), None, "{at}");
        }
        assert_eq!(silent.of("another", now), None);
        silent.forget("h");
        assert_eq!(silent.of("h", now), None, "it has answered somebody else");
    }
}
