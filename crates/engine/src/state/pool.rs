//! Which online workers offer what, and who has room: the indexes behind dispatch.

use crate::ids::WorkerName;
use crate::settings::ClassSet;
use std::collections::{BTreeMap, BTreeSet};

/// An online worker as dispatch sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) classes: ClassSet,
    pub(super) slots: u32,
    /// How many slots are taken.
    pub(super) load: u32,
}

impl Offer {
    fn has_room(&self) -> bool {
        self.load < self.slots
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Pool {
    offers: BTreeMap<WorkerName, Offer>,
    /// Online workers by class.
    online: BTreeMap<String, BTreeSet<WorkerName>>,
    /// Online workers with room by class, the least loaded first.
    room: BTreeMap<String, BTreeSet<(u32, WorkerName)>>,
}

impl Pool {
    /// Puts a worker's offer in place of its former one (`None`: it is not online). Returns the former one.
    pub(super) fn place(&mut self, name: &WorkerName, offer: Option<Offer>) -> Option<Offer> {
        let before = self.offers.remove(name);
        if let Some(old) = &before {
            for class in old.classes.iter() {
                remove_from(&mut self.online, class, name);
                remove_from(&mut self.room, class, &(old.load, name.clone()));
            }
        }
        if let Some(new) = offer {
            for class in new.classes.iter() {
                self.online.entry(class.to_owned()).or_default().insert(name.clone());
                if new.has_room() {
                    self.room.entry(class.to_owned()).or_default().insert((new.load, name.clone()));
                }
            }
            self.offers.insert(name.clone(), new);
        }
        before
    }

    pub(super) fn offer(&self, name: &WorkerName) -> Option<&Offer> {
        self.offers.get(name)
    }

    pub(super) fn has_room(&self, name: &WorkerName) -> bool {
        self.offers.get(name).is_some_and(Offer::has_room)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.offers.is_empty()
    }

    /// The least loaded worker with room that offers all of `needed`; `avoid` only if there is no other.
    pub(super) fn find(&self, needed: &ClassSet, avoid: Option<&WorkerName>) -> Option<WorkerName> {
        let mut rarest: Option<&BTreeSet<(u32, WorkerName)>> = None;
        for class in needed.iter() {
            let workers = self.room.get(class)?;
            if rarest.is_none_or(|best| workers.len() < best.len()) {
                rarest = Some(workers);
            }
        }
        let offers_all = |name: &WorkerName| self.offers.get(name).is_some_and(|o| o.classes.offers(needed));
        let mut last_resort = None;
        for (_, name) in rarest? {
            if offers_all(name) {
                if Some(name) != avoid {
                    return Some(name.clone());
                }
                last_resort = Some(name.clone());
            }
        }
        last_resort
    }

    /// How many slots the online workers have that offer all of `needed`.
    pub(super) fn slots(&self, needed: &ClassSet) -> u64 {
        let all = self.offers.values().filter(|offer| offer.classes.offers(needed));
        all.map(|offer| u64::from(offer.slots)).sum()
    }

    /// A class of `needed` that no online worker offers, and the most similar one that is offered.
    pub(super) fn not_offered<'a>(&self, needed: &'a ClassSet) -> Option<(&'a str, Option<&str>)> {
        let missing = needed.iter().find(|class| !self.online.contains_key(*class))?;
        let likeness = |class: &&String| (strsim::jaro_winkler(class, missing) * 1000.0) as u32;
        let nearest = self.online.keys().max_by_key(likeness).filter(|class| likeness(class) >= 700);
        Some((missing, nearest.map(String::as_str)))
    }
}

fn remove_from<T: Ord>(map: &mut BTreeMap<String, BTreeSet<T>>, class: &str, item: &T) {
    if let Some(set) = map.get_mut(class) {
        set.remove(item);
        if set.is_empty() {
            map.remove(class);
        }
    }
}
