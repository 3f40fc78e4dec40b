//! What Gerrit said a moment ago, so that a long chain of changes does not cost a query for each pair of relatives.
//!
//! Entries live for a short time and are thrown away earlier when an event says that they are out of date. What a query
//! brings that began before such an event is not kept.

use super::parse::{ChangeAttr, StreamEvent, What};
use assay_engine::gate::change::DependsOn;
use assay_engine::ids::Timestamp;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// A change as it was told at a time.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) change: Arc<ChangeAttr>,
    /// When the question was asked.
    pub(super) at: Timestamp,
    /// Its relatives in both directions are all told.
    pub(super) whole: bool,
}

/// Numbers that a search brought, and when it was begun.
type Found = (Timestamp, BTreeSet<u64>);

/// The memory.
#[derive(Debug, Default)]
pub(super) struct Cache {
    life_us: i64,
    /// Counts what makes entries void.
    epoch: u64,
    /// The epoch in which a change was made void last.
    voided: HashMap<u64, u64>,
    /// What began before this is not kept.
    floor: u64,
    changes: HashMap<u64, Told>,
    /// Open changes whose message names this one.
    mentions: HashMap<u64, Found>,
    /// Changes with this Change-Id.
    ids: HashMap<String, Found>,
}

/// More void changes than this are not remembered one by one.
const MOST_VOIDED: usize = 10_000;
/// More changes than this are not kept.
const MOST: usize = 20_000;

impl Cache {
    pub(super) fn new(life: std::time::Duration) -> Self {
        Self { life_us: i64::try_from(life.as_micros()).unwrap_or(i64::MAX), ..Self::default() }
    }

    /// To be taken before a question is asked, and given with its answer.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    fn lives(&self, at: Timestamp, now: Timestamp) -> bool {
        now.micros_since(at) < self.life_us
    }

    pub(super) fn change(&self, number: u64, now: Timestamp) -> Option<Told> {
        self.changes.get(&number).filter(|told| self.lives(told.at, now)).cloned()
    }

    pub(super) fn mentions(&self, number: u64, now: Timestamp) -> Option<BTreeSet<u64>> {
        self.mentions.get(&number).filter(|(at, _)| self.lives(*at, now)).map(|(_, found)| found.clone())
    }

    pub(super) fn with_id(&self, id: &str, now: Timestamp) -> Option<BTreeSet<u64>> {
        self.ids.get(id).filter(|(at, _)| self.lives(*at, now)).map(|(_, found)| found.clone())
    }

    pub(super) fn put(&mut self, epoch: u64, told: Told) {
        let number = told.change.number;
        let voided = self.voided.get(&number).is_some_and(|voided| *voided > epoch);
        if voided || epoch < self.floor {
            return;
        }
        if self.changes.len() >= MOST {
            self.changes.clear();
        }
        self.changes.insert(number, told);
    }

    pub(super) fn put_mentions(&mut self, epoch: u64, number: u64, at: Timestamp, found: BTreeSet<u64>) {
        // A new mention may have come from any change, so any event since is one too many.
        if epoch == self.epoch {
            self.mentions.insert(number, (at, found));
        }
    }

    pub(super) fn put_id(&mut self, epoch: u64, id: &str, at: Timestamp, found: BTreeSet<u64>) {
        if epoch == self.epoch {
            self.ids.insert(id.to_owned(), (at, found));
        }
    }

    /// Forgets a change.
    pub(super) fn void(&mut self, number: u64) {
        self.epoch += 1;
        if self.voided.len() >= MOST_VOIDED {
            self.voided.clear();
            self.floor = self.epoch;
        }
        self.voided.insert(number, self.epoch);
        self.changes.remove(&number);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.epoch += 1;
        self.floor = self.epoch;
        self.changes.clear();
        self.mentions.clear();
        self.ids.clear();
        self.voided.clear();
    }

    /// Forgets what an event makes void.
    pub(super) fn hear(&mut self, event: &StreamEvent) {
        let Some(change) = event.what.change() else { return };
        self.void(change.number);
        let (What::PatchsetCreated { patchset, .. }
        | What::DraftPublished { patchset, .. }
        | What::ChangeMerged { patchset, .. }) = &event.what
        else {
            return;
        };
        // Its parents have a new child.
        let parents: Vec<u64> = self
            .changes
            .values()
            .filter(|told| {
                let revision = told.change.current_patchset.as_ref().and_then(|now| now.revision.as_ref());
                revision.is_some_and(|revision| patchset.parents.contains(revision))
            })
            .map(|told| told.change.number)
            .collect();
        for parent in parents {
            self.void(parent);
        }
        if let Some(id) = &change.change_id {
            self.ids.remove(id);
        }
        match &change.message {
            None => self.mentions.clear(),
            Some(message) => {
                for on in message.lines().filter_map(DependsOn::from_line) {
                    self.unmention(&on);
                }
            }
        }
    }

    /// Forgets who mentions the changes that a footer names.
    fn unmention(&mut self, on: &DependsOn) {
        match on {
            DependsOn::Url { number, .. } => {
                self.mentions.remove(number);
            }
            DependsOn::ChangeId { id } => {
                let changes = &self.changes;
                self.mentions.retain(|number, _| {
                    let known = changes.get(number).and_then(|told| told.change.change_id.as_ref());
                    known.is_some_and(|known| !known.eq_ignore_ascii_case(id))
                });
            }
        }
    }
}
