//! Which online workers offer what, and who has room: the indexes behind dispatch.

use crate::ids::WorkerName;
use crate::sched::disk::Room;
use crate::settings::ClassSet;
use std::collections::{BTreeMap, BTreeSet};

/// Whether a worker gets anything new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intake {
    Open,
    /// It has the one job that it runs, and ends with that.
    UsedUp,
    /// Somebody drained it: it finishes what it has, and its slots stay out until somebody ends that.
    Drained,
}

/// An online worker as dispatch sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) classes: ClassSet,
    pub(super) host: String,
    pub(super) slots: u32,
    /// How many slots are taken, or kept for a cluster.
    pub(super) load: u32,
    pub(super) intake: Intake,
    /// What its host's disks can take, if it is known.
    pub(super) room: Option<Room>,
}

impl Offer {
    fn has_room(&self) -> bool {
        self.load < self.slots
    }

    /// How many slots it has for jobs with these classes: those that can be had, and those that are drained.
    pub(super) fn slots_for(&self, needed: &ClassSet) -> SlotCount {
        let slots = if self.classes.offers(needed) { u64::from(self.slots) } else { 0 };
        match self.intake {
            Intake::Open | Intake::UsedUp => SlotCount { usable: slots, drained: 0 },
            Intake::Drained => SlotCount { usable: 0, drained: slots },
        }
    }
}

/// How many slots of online workers there are for some classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SlotCount {
    /// Free, or busy for now.
    pub(super) usable: u64,
    /// On workers that somebody drained.
    pub(super) drained: u64,
}

impl SlotCount {
    pub(super) fn plus(self, more: Self) -> Self {
        Self { usable: self.usable + more.usable, drained: self.drained + more.drained }
    }

    pub(super) fn minus(self, less: Self) -> Self {
        Self { usable: self.usable - less.usable, drained: self.drained - less.drained }
    }
}

/// What is wanted at once: a slot for each of these.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Demand {
    /// In order.
    pub(super) slots: Vec<ClassSet>,
    /// All on one host.
    pub(super) one_host: bool,
}

/// Which slots are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slots {
    /// Those that are free.
    Free,
    /// All of the online workers that are not drained.
    All,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Pool {
    offers: BTreeMap<WorkerName, Offer>,
    /// Online workers by class.
    online: BTreeMap<String, BTreeSet<WorkerName>>,
    /// Online workers with room by class, the least loaded first.
    room: BTreeMap<String, BTreeSet<(u32, WorkerName)>>,
    /// Online workers that somebody drained, by class.
    drained: BTreeMap<String, BTreeSet<WorkerName>>,
}

impl Pool {
    /// Puts a worker's offer in place of its former one (`None`: it is not online). Returns the former one.
    pub(super) fn place(&mut self, name: &WorkerName, offer: Option<Offer>) -> Option<Offer> {
        let before = self.offers.remove(name);
        if let Some(old) = &before {
            for class in old.classes.iter() {
                remove_from(&mut self.online, class, name);
                remove_from(&mut self.room, class, &(old.load, name.clone()));
                remove_from(&mut self.drained, class, name);
            }
        }
        if let Some(new) = offer {
            for class in new.classes.iter() {
                self.online.entry(class.to_owned()).or_default().insert(name.clone());
                if new.has_room() && new.intake == Intake::Open {
                    self.room.entry(class.to_owned()).or_default().insert((new.load, name.clone()));
                }
                if new.intake == Intake::Drained {
                    self.drained.entry(class.to_owned()).or_default().insert(name.clone());
                }
            }
            self.offers.insert(name.clone(), new);
        }
        before
    }

    /// The disks of a worker's host can take so much now.
    pub(super) fn set_room(&mut self, name: &WorkerName, room: Room) {
        if let Some(offer) = self.offers.get_mut(name) {
            offer.room = Some(room);
        }
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

    /// The least loaded worker with room that offers all of `needed` and `fits`; `avoid` only if there is no other.
    pub(super) fn find(
        &self,
        needed: &ClassSet,
        avoid: Option<&WorkerName>,
        fits: &dyn Fn(&Offer) -> bool,
    ) -> Option<WorkerName> {
        let offers_all =
            |name: &WorkerName| self.offers.get(name).is_some_and(|o| o.classes.offers(needed) && fits(o));
        let mut last_resort = None;
        for (_, name) in rarest(&self.room, needed)? {
            if offers_all(name) {
                if Some(name) != avoid {
                    return Some(name.clone());
                }
                last_resort = Some(name.clone());
            }
        }
        last_resort
    }

    /// A worker for each slot of a demand, as far as there are enough: as many as possible.
    pub(super) fn share_out(
        &self,
        demand: &Demand,
        slots: Slots,
        fits: &dyn Fn(&Offer) -> bool,
    ) -> Vec<Option<WorkerName>> {
        let candidates = self.candidates_for(demand, slots, fits);
        if !demand.one_host {
            return Sharing::of(&demand.slots, &candidates, slots, None).done();
        }
        let hosts: BTreeSet<&str> =
            candidates.values().flatten().map(|(_, offer)| offer.host.as_str()).collect();
        // What is free on a host that is too small for all of it is of no use.
        let all = self.candidates_for(demand, Slots::All, &|_| true);
        let suffices = |host: &str| {
            let shared = Sharing::of(&demand.slots, &all, Slots::All, Some(host)).done();
            shared.iter().all(Option::is_some)
        };
        let shared = hosts.into_iter().filter(|host| slots == Slots::All || suffices(host)).map(|host| {
            let shared = Sharing::of(&demand.slots, &candidates, slots, Some(host)).done();
            (shared.iter().flatten().count(), shared)
        });
        // The first host of those where most is possible.
        let best = shared.reduce(|best, other| if other.0 > best.0 { other } else { best });
        best.map_or_else(|| vec![None; demand.slots.len()], |(_, shared)| shared)
    }

    /// Who could take each kind of slot of a demand.
    fn candidates_for<'d>(
        &self,
        demand: &'d Demand,
        slots: Slots,
        fits: &dyn Fn(&Offer) -> bool,
    ) -> BTreeMap<&'d ClassSet, Vec<(&WorkerName, &Offer)>> {
        let kinds: BTreeSet<&ClassSet> = demand.slots.iter().collect();
        let of = |classes| {
            let mut candidates = self.candidates(classes, slots);
            candidates.retain(|(_, offer)| fits(offer));
            (classes, candidates)
        };
        kinds.into_iter().map(of).collect()
    }

    fn candidates(&self, needed: &ClassSet, slots: Slots) -> Vec<(&WorkerName, &Offer)> {
        let offer = |name| {
            let offer = self.offers.get_key_value(name)?;
            offer.1.classes.offers(needed).then_some(offer)
        };
        match slots {
            Slots::Free => {
                let free = rarest(&self.room, needed).into_iter().flatten();
                free.filter_map(|(_, name)| offer(name)).collect()
            }
            Slots::All => {
                let online = self.online_with(needed);
                online.filter(|(_, offer)| offer.intake != Intake::Drained).collect()
            }
        }
    }

    /// The online workers that offer all of `needed`.
    fn online_with(&self, needed: &ClassSet) -> impl Iterator<Item = (&WorkerName, &Offer)> {
        let online = rarest(&self.online, needed).into_iter().flatten();
        let offers = online.filter_map(move |name| self.offers.get_key_value(name));
        offers.filter(move |(_, offer)| offer.classes.offers(needed))
    }

    /// What the online workers offer that offer all of `needed` and get something new.
    pub(super) fn offering(&self, needed: &ClassSet) -> impl Iterator<Item = &Offer> {
        self.online_with(needed).map(|(_, offer)| offer).filter(|offer| offer.intake == Intake::Open)
    }

    /// The first of the drained workers that offer all of `needed`.
    pub(super) fn first_drained(&self, needed: &ClassSet) -> Option<&WorkerName> {
        let offers = |name: &&WorkerName| self.offers.get(*name).is_some_and(|o| o.classes.offers(needed));
        rarest(&self.drained, needed)?.iter().find(offers)
    }

    /// True if a worker other than `worker` is online and offers all of `needed`.
    pub(super) fn another_offers(&self, needed: &ClassSet, worker: &WorkerName) -> bool {
        self.online_with(needed).any(|(name, _)| name != worker)
    }

    /// How many slots the online workers have that offer all of `needed`.
    pub(super) fn slots(&self, needed: &ClassSet) -> SlotCount {
        let all = self.offers.values().map(|offer| offer.slots_for(needed));
        all.fold(SlotCount::default(), SlotCount::plus)
    }

    /// A class of `needed` that no online worker offers, and the most similar one that is offered.
    pub(super) fn not_offered<'a>(&self, needed: &'a ClassSet) -> Option<(&'a str, Option<&str>)> {
        let missing = needed.iter().find(|class| !self.online.contains_key(*class))?;
        let likeness = |class: &&String| (strsim::jaro_winkler(class, missing) * 1000.0) as u32;
        let nearest = self.online.keys().max_by_key(likeness).filter(|class| likeness(class) >= 700);
        Some((missing, nearest.map(String::as_str)))
    }
}

/// Slots given to workers one after the other; who came first moves on if that makes room.
struct Sharing<'a> {
    wanted: &'a [ClassSet],
    candidates: &'a BTreeMap<&'a ClassSet, Vec<(&'a WorkerName, &'a Offer)>>,
    slots: Slots,
    host: Option<&'a str>,
    taken: BTreeMap<&'a WorkerName, Vec<usize>>,
}

impl<'a> Sharing<'a> {
    fn of(
        wanted: &'a [ClassSet],
        candidates: &'a BTreeMap<&'a ClassSet, Vec<(&'a WorkerName, &'a Offer)>>,
        slots: Slots,
        host: Option<&'a str>,
    ) -> Self {
        let mut sharing = Self { wanted, candidates, slots, host, taken: BTreeMap::new() };
        for place in 0..wanted.len() {
            sharing.seat(place, &mut BTreeSet::new());
        }
        sharing
    }

    fn seat(&mut self, place: usize, tried: &mut BTreeSet<&'a WorkerName>) -> bool {
        let Some(candidates) = self.candidates.get(&self.wanted[place]) else { return false };
        for (name, offer) in candidates {
            let elsewhere = self.host.is_some_and(|host| host != offer.host);
            if elsewhere || !tried.insert(name) {
                continue;
            }
            let capacity = match self.slots {
                Slots::Free => offer.slots.saturating_sub(offer.load),
                Slots::All => offer.slots,
            } as usize;
            let seated = self.taken.entry(name).or_default();
            if seated.len() < capacity {
                seated.push(place);
                return true;
            }
            for (index, other) in seated.clone().into_iter().enumerate() {
                if self.wanted[other] != self.wanted[place] && self.seat(other, tried) {
                    if let Some(seated) = self.taken.get_mut(name) {
                        seated[index] = place;
                    }
                    return true;
                }
            }
        }
        false
    }

    fn done(self) -> Vec<Option<WorkerName>> {
        let mut shared = vec![None; self.wanted.len()];
        for (name, places) in self.taken {
            for place in places {
                shared[place] = Some(name.clone());
            }
        }
        shared
    }
}

/// Of what there is for each of the classes `needed`, the least: what is there for all of them is among it.
pub(super) fn rarest<'a, T>(
    by_class: &'a BTreeMap<String, BTreeSet<T>>,
    needed: &ClassSet,
) -> Option<&'a BTreeSet<T>> {
    let mut all = needed.iter().map(|class| by_class.get(class));
    let first = all.next()??;
    all.try_fold(first, |least, found| {
        found.map(|found| if found.len() < least.len() { found } else { least })
    })
}

fn remove_from<T: Ord>(map: &mut BTreeMap<String, BTreeSet<T>>, class: &str, item: &T) {
    if let Some(set) = map.get_mut(class) {
        set.remove(item);
        if set.is_empty() {
            map.remove(class);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(classes: &str, intake: Intake) -> Offer {
        let classes = ClassSet::parse(classes);
        Offer { classes, host: "h".to_owned(), slots: 2, load: 0, intake, room: None }
    }

    fn name(name: &str) -> WorkerName {
        name.parse().expect("a name")
    }

    #[test]
    fn drained_workers_are_found_by_what_they_offer() {
        let mut pool = Pool::default();
        for (worker, classes, intake) in [
            ("w1", "a", Intake::Drained),
            ("w2", "a,b", Intake::Open),
            ("w3", "a,b", Intake::Drained),
            ("w4", "a,b,c", Intake::Drained),
            ("w5", "d", Intake::UsedUp),
        ] {
            pool.place(&name(worker), Some(offer(classes, intake)));
        }
        let first =
            |pool: &Pool, needed| pool.first_drained(&ClassSet::parse(needed)).map(ToString::to_string);
        for (needed, found) in [
            ("a", Some("w1")),
            ("b", Some("w3")),
            ("a,b", Some("w3")),
            ("c", Some("w4")),
            ("d", None),
            ("a,d", None),
        ] {
            assert_eq!(first(&pool, needed).as_deref(), found, "{needed}");
        }
        let all = |workers: &[&str]| workers.iter().map(|worker| name(worker)).collect::<BTreeSet<_>>();
        assert_eq!(pool.drained["b"], all(&["w3", "w4"]), "only they are looked at for b");
        pool.place(&name("w3"), Some(offer("a,b", Intake::Open)));
        pool.place(&name("w4"), None);
        assert_eq!(first(&pool, "b"), None);
        assert_eq!(pool.drained, BTreeMap::from([("a".to_owned(), all(&["w1"]))]), "nothing is left behind");
    }
}
