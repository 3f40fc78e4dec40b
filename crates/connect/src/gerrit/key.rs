//! By what an arrival is recognised when it comes again, on whichever way.

use super::parse::{ApprovalAttr, StreamEvent, What};
use assay_engine::gate::change::Account;
use assay_engine::gate::io::Event;
use assay_engine::ids::Timestamp;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt::Write;

/// The key of an arrival: what it is, and when it was where that can happen again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Type, change, patchset, and a digest of author and text.
    pub identity: String,
    /// Gerrit's own time in seconds; none for what can happen only once.
    pub at: Option<i64>,
    /// Found by looking, so that the time may be off by some seconds.
    pub found: bool,
}

impl Key {
    /// For storing.
    pub fn to_text(&self) -> String {
        let mut text = self.identity.clone();
        if let Some(at) = self.at {
            let _ = write!(text, " {}{at}", if self.found { '~' } else { '@' });
        }
        text
    }

    /// What was stored.
    pub fn from_text(text: &str) -> Self {
        let parts = text.rsplit_once(' ').and_then(|(identity, time)| {
            let found = time.starts_with('~');
            let at = time.strip_prefix(['~', '@'])?.parse().ok()?;
            Some(Self { identity: identity.to_owned(), at: Some(at), found })
        });
        parts.unwrap_or_else(|| Self { identity: text.to_owned(), at: None, found: false })
    }

    /// Of something that can happen only once.
    pub(super) fn once(identity: String) -> Self {
        Self { identity, at: None, found: false }
    }

    pub(super) fn live(identity: String, at: Option<Timestamp>) -> Self {
        Self { identity, at: at.map(seconds), found: false }
    }

    pub(super) fn found(identity: String, at: Timestamp) -> Self {
        Self { identity, at: Some(seconds(at)), found: true }
    }
}

fn seconds(at: Timestamp) -> i64 {
    at.0.div_euclid(1_000_000)
}

/// The identities of what happens.
pub(super) mod identity {
    use super::{Account, ApprovalAttr, Event, digest};

    pub(in crate::gerrit) fn patchset(number: u64, patchset: u32) -> String {
        format!("patchset-created {number},{patchset}")
    }

    pub(in crate::gerrit) fn published(number: u64, patchset: u32) -> String {
        format!("draft-published {number},{patchset}")
    }

    pub(in crate::gerrit) fn merged(number: u64) -> String {
        format!("change-merged {number}")
    }

    pub(in crate::gerrit) fn abandoned(number: u64) -> String {
        format!("change-abandoned {number}")
    }

    pub(in crate::gerrit) fn restored(number: u64) -> String {
        format!("change-restored {number}")
    }

    pub(in crate::gerrit) fn changed(kind: &str, number: u64) -> String {
        format!("{kind} {number}")
    }

    /// The text says which votes there were; without a text the votes themselves do.
    pub(in crate::gerrit) fn comment(
        number: u64,
        patchset: u32,
        by: &Account,
        text: &str,
        votes: &[ApprovalAttr],
    ) -> String {
        let who = by.username.as_ref().or(by.email.as_ref()).or(by.name.as_ref());
        let mut parts = vec![who.map(String::as_str).unwrap_or_default().to_owned(), text.trim().to_owned()];
        if text.trim().is_empty() {
            parts.extend(votes.iter().map(|vote| format!("{:?}={}", vote.label, vote.value)));
        }
        format!("comment-added {number},{patchset} {}", digest(&parts))
    }

    pub(in crate::gerrit) fn ref_updated(event: &Event) -> String {
        let Some(update) = &event.ref_update else { return "ref-updated".to_owned() };
        let [old, new] = [&update.old, &update.new].map(|id| id.as_str().get(..16).unwrap_or(id.as_str()));
        let place = digest(&[update.project.to_string(), update.name.to_string()]);
        format!("ref-updated {place} {old} {new}")
    }
}

fn digest(parts: &[String]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(&hash.finalize()[..8])
}

/// The key of an event of the stream; refs have keys of their own.
pub(super) fn of_stream(event: &StreamEvent) -> Option<Key> {
    let at = event.created_on;
    Some(match &event.what {
        What::PatchsetCreated { change, patchset, .. } => {
            Key::once(identity::patchset(change.number, patchset.number))
        }
        What::DraftPublished { change, patchset, .. } => {
            Key::once(identity::published(change.number, patchset.number))
        }
        What::ChangeMerged { change, .. } => Key::once(identity::merged(change.number)),
        What::ChangeAbandoned { change, .. } => Key::live(identity::abandoned(change.number), at),
        What::ChangeRestored { change, .. } => Key::live(identity::restored(change.number), at),
        What::CommentAdded { change, patchset, author, approvals, comment, .. } => {
            Key::live(identity::comment(change.number, patchset.number, author, comment, approvals), at)
        }
        What::ReviewerDeleted { change, .. } => {
            Key::live(identity::changed("reviewer-deleted", change.number), at)
        }
        What::VoteDeleted { change, .. } => Key::live(identity::changed("vote-deleted", change.number), at),
        What::TopicChanged { change, .. } => Key::live(identity::changed("topic-changed", change.number), at),
        What::HashtagsChanged { change, .. } => {
            Key::live(identity::changed("hashtags-changed", change.number), at)
        }
        What::WipStateChanged { change, .. } => {
            Key::live(identity::changed("wip-state-changed", change.number), at)
        }
        What::PrivateStateChanged { change, .. } => {
            Key::live(identity::changed("private-state-changed", change.number), at)
        }
        What::MergeFailed { change, .. } => Key::live(identity::changed("merge-failed", change.number), at),
        _ => return None,
    })
}

/// What arrived lately. Times are Gerrit's.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// For each identity its times: Gerrit's, whether found by looking, and ours at arrival.
    seen: HashMap<String, Vec<(Option<i64>, bool, Timestamp)>>,
}

impl Recent {
    pub(super) fn new(keys: &[String], arrived: Timestamp) -> Self {
        let mut recent = Self::default();
        for key in keys {
            recent.add(&Key::from_text(key), arrived);
        }
        recent
    }

    /// True if it has arrived before: at the same time, or, if one of both was found by looking, at nearly the same.
    pub(super) fn knows(&self, key: &Key, tolerance: i64) -> bool {
        let Some(seen) = self.seen.get(&key.identity) else { return false };
        seen.iter().any(|(at, found, _)| match (at, key.at) {
            (Some(a), Some(b)) if *found || key.found => (a - b).abs() <= tolerance,
            (a, b) => *a == b,
        })
    }

    pub(super) fn add(&mut self, key: &Key, arrived: Timestamp) {
        self.seen.entry(key.identity.clone()).or_default().push((key.at, key.found, arrived));
    }

    /// Forgets what arrived before.
    pub(super) fn forget_before(&mut self, before: Timestamp) {
        self.seen.retain(|_, times| {
            times.retain(|(_, _, arrived)| *arrived >= before);
            !times.is_empty()
        });
    }

    /// What arrived from a time on, for storing.
    pub(super) fn keys_since(&self, since: Timestamp) -> Vec<String> {
        let keys = self.seen.iter().flat_map(|(identity, times)| {
            let kept = times.iter().filter(|(_, _, arrived)| *arrived >= since);
            kept.map(|(at, found, _)| Key { identity: identity.clone(), at: *at, found: *found }.to_text())
        });
        let mut keys: Vec<String> = keys.collect();
        keys.sort();
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_stored_and_compared() {
        let at = |seconds: i64| Timestamp(seconds * 1_000_000);
        let live = Key::live("comment-added 5,1 ab".to_owned(), Some(at(100)));
        let keys = [
            live.clone(),
            Key::found("change-abandoned 5".to_owned(), at(-7)),
            Key::once("change-merged 5".to_owned()),
        ];
        for key in &keys {
            assert_eq!(Key::from_text(&key.to_text()), *key);
        }
        let mut recent = Recent::default();
        for key in &keys {
            recent.add(key, at(1000));
        }
        let found = |seconds| Key::found(live.identity.clone(), at(seconds));
        let again = |seconds| Key::live(live.identity.clone(), Some(at(seconds)));
        for (key, known) in [
            (live.clone(), true),
            (found(100), true),
            (found(92), true),
            (found(111), false),
            // Two live ones are the same only at the same time.
            (again(101), false),
            (Key::live("change-abandoned 5".to_owned(), Some(at(0))), true),
            (Key::once("change-merged 5".to_owned()), true),
            (Key::once("change-merged 6".to_owned()), false),
        ] {
            assert_eq!(recent.knows(&key, 10), known, "{key:?}");
        }
        assert_eq!(recent.keys_since(at(1000)).len(), 3);
        assert!(recent.keys_since(at(1001)).is_empty());
        recent.forget_before(at(1001));
        assert!(!recent.knows(&live, 10));
    }
}
