//! Units with several starters: all begin in one step, or none does. The first cluster of its kind keeps the slots that
//! become free for it until it has all it needs, if the workers that are online suffice at all.

use super::State;
use super::pool::{Demand, Offer, Pool, Slots, rarest};
use super::timers::Timer;
use crate::ids::{JobId, WorkerName};
use crate::reason::{Relative, WaitReason};
use crate::sched::fair::{Line, Party, Turn};
use crate::settings::ClassSet;
use std::collections::{BTreeMap, BTreeSet};

/// A cluster that has waited so long since it was posted comes before everything else.
const OVERDUE_US: i64 = 15 * 60 * 1_000_000;

/// Of so many clusters of a kind the stored reason is kept up to date; the others follow when they get nearer.
const EXPLAINED: usize = 64;

/// Clusters that wait for the same slots.
#[derive(Debug, Clone, Default)]
struct Kind {
    /// By the first of their starters.
    units: Line,
    /// All classes that are wanted.
    classes: ClassSet,
    pool: Enough,
    /// A limit, or a disk, keeps the first of them from beginning.
    full: Option<WaitReason>,
}

/// Whether the online workers together have the slots that a kind of cluster wants.
#[derive(Debug, Clone, Copy, Default)]
enum Enough {
    /// To be found out.
    #[default]
    Unknown,
    Yes,
    /// None is left for the slot at this place.
    No(usize),
}

/// The slots that are kept.
#[derive(Debug, Clone, Default)]
struct Kept {
    /// For each slot, the cluster that it is kept for, by the first of its starters.
    slots: BTreeMap<WorkerName, Vec<JobId>>,
    /// The same by each class that is offered there, the oldest cluster first.
    by_class: BTreeMap<String, BTreeSet<(JobId, WorkerName)>>,
}

impl Kept {
    fn keep(&mut self, worker: &WorkerName, classes: &ClassSet, cluster: JobId) {
        self.slots.entry(worker.clone()).or_default().push(cluster);
        for class in classes.iter() {
            self.by_class.entry(class.to_owned()).or_default().insert((cluster, worker.clone()));
        }
    }

    /// The oldest cluster that a slot with these classes is kept for.
    fn oldest(&self, needed: &ClassSet, pool: &Pool) -> Option<JobId> {
        let offers =
            |worker: &WorkerName| pool.offer(worker).is_some_and(|offer| offer.classes.offers(needed));
        let mut slots = rarest(&self.by_class, needed)?.iter();
        slots.find(|(_, worker)| offers(worker)).map(|(cluster, _)| *cluster)
    }

    /// Workers of which others are kept than before.
    fn changed<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a WorkerName> {
        let workers = before.slots.keys().chain(self.slots.keys());
        workers.filter(move |worker| before.slots.get(*worker) != self.slots.get(*worker))
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Clusters {
    kinds: BTreeMap<Demand, Kind>,
    /// The kind, the priority and the party of each cluster.
    waiting: BTreeMap<JobId, (Demand, i32, Party)>,
    /// The starters in the order of the demand's slots.
    starters: BTreeMap<JobId, Vec<JobId>>,
    overdue: BTreeSet<JobId>,
    kept: Kept,
    /// Something is different since the slots were last shared out.
    changed: bool,
}

impl Clusters {
    /// Workers have come or gone: what they suffice for has to be found out anew.
    pub(super) fn pool_has_changed(&mut self) {
        for kind in self.kinds.values_mut() {
            kind.pool = Enough::Unknown;
        }
        self.changed |= !self.kinds.is_empty();
    }

    /// What keeps clusters from beginning may be different.
    pub(super) fn limits_have_changed(&mut self) {
        self.changed |= !self.kinds.is_empty();
    }

    /// A host's disk has more room.
    pub(super) fn disks_have_changed(&mut self) {
        let waits = |kind: &Kind| matches!(kind.full, Some(WaitReason::Disk { .. }));
        self.changed |= self.kinds.values().any(waits);
    }

    /// The clusters that could begin.
    pub(super) fn waiting(&self) -> Vec<JobId> {
        self.waiting.keys().copied().collect()
    }
}

impl State {
    /// How many free slots of a worker are kept for clusters that need several at once.
    pub fn kept(&self, worker: &WorkerName) -> u32 {
        self.clusters.kept.slots.get(worker).map_or(0, |slots| u32::try_from(slots.len()).unwrap_or(u32::MAX))
    }

    /// The oldest cluster that a slot with these classes is kept for.
    pub(super) fn kept_for(&self, classes: &ClassSet) -> Option<Relative> {
        self.clusters.kept.oldest(classes, &self.pool).map(|starter| self.relative(starter))
    }

    /// What waits for slots of which others are kept than before may wait for another reason.
    fn doubt_kept(&mut self, before: &Kept) {
        let changed = self.clusters.kept.changed(before);
        for offer in changed.filter_map(|worker| self.pool.offer(worker)) {
            let queues = offer.classes.offered(&self.queues).map(|(classes, _)| classes);
            self.doubtful_reasons.extend(queues.cloned());
        }
    }

    pub(super) fn enqueue_cluster(&mut self, unit: JobId, mut starters: Vec<JobId>) {
        let classes = |id: &JobId| self.jobs.get(id).map(|row| row.classes.clone()).unwrap_or_default();
        starters.sort_by_key(|id| (classes(id), *id));
        let slots = starters.iter().map(classes).collect();
        let rows = || starters.iter().filter_map(|id| self.jobs.get(id));
        let one_host =
            rows().any(|row| row.settings.get("PARALLEL_ONE_HOST_ONLY").is_some_and(|value| value != "0"));
        let demand = Demand { slots, one_host };
        let posted = rows().map(|row| row.created_at).min().unwrap_or(self.now);
        let waits_since = self.now.micros_since(posted);
        let priority = if self.clusters.overdue.contains(&unit) {
            i32::MIN
        } else {
            rows().map(|row| row.priority).min().unwrap_or_default()
        };
        if priority != i32::MIN {
            self.timers.set(Timer::Overdue(unit), (OVERDUE_US - waits_since).max(0));
        }
        let party = rows().next().map_or(Party::Ungrouped, Party::of);
        let kind = self.clusters.kinds.entry(demand.clone()).or_insert_with(|| Kind {
            classes: demand.slots.iter().flat_map(ClassSet::iter).collect(),
            ..Kind::default()
        });
        kind.units.insert(priority, party, unit);
        self.clusters.waiting.insert(unit, (demand, priority, party));
        self.clusters.starters.insert(unit, starters);
        self.clusters.changed = true;
    }

    pub(super) fn dequeue_cluster(&mut self, unit: JobId) {
        let Some((demand, priority, party)) = self.clusters.waiting.remove(&unit) else { return };
        self.clusters.starters.remove(&unit);
        self.timers.clear(&Timer::Overdue(unit));
        if let Some(kind) = self.clusters.kinds.get_mut(&demand) {
            kind.units.remove(priority, party, unit);
            if kind.units.is_empty() {
                self.clusters.kinds.remove(&demand);
            }
        }
        self.clusters.changed = true;
    }

    pub(super) fn overdue(&mut self, unit: JobId) {
        if self.clusters.waiting.contains_key(&unit) {
            self.clusters.overdue.insert(unit);
            self.settle(unit);
        }
    }

    /// Shares out the free slots between clusters and single jobs in their order.
    pub(super) fn dispatch_clusters(&mut self) {
        if self.clusters.kinds.is_empty() && self.clusters.kept.slots.is_empty() {
            self.forget_kept();
            self.clusters.changed = false;
            return;
        }
        if self.roomy_workers.is_empty() && self.grown_queues.is_empty() && !self.clusters.changed {
            return;
        }
        self.forget_kept();
        let kept_before = std::mem::take(&mut self.clusters.kept);
        for worker in kept_before.slots.keys() {
            self.place(worker);
        }
        let head = |demand: &Demand| Some((self.turn_of(demand)?, demand.clone()));
        let mut heads: BTreeSet<(Turn, Demand)> = self.clusters.kinds.keys().filter_map(head).collect();
        while let Some((seen, demand)) = heads.pop_first() {
            self.dispatch_singles(Some(seen));
            let Some(turn) = self.turn_of(&demand) else { continue };
            if turn > seen {
                // Its party has got something meanwhile.
                heads.insert((turn, demand));
                continue;
            }
            let starters = self.clusters.starters.get(&turn.job).cloned().unwrap_or_default();
            let full = self.full_for(&starters);
            if let Some(kind) = self.clusters.kinds.get_mut(&demand) {
                kind.full.clone_from(&full);
            }
            if full.is_some() {
                continue;
            }
            let need = self.most_needed(&starters);
            let fits = |offer: &Offer| self.disks.fits(offer, need);
            let shared = self.pool.share_out(&demand, Slots::Free, &fits);
            let complete = shared.iter().all(Option::is_some);
            let short =
                if complete { self.no_room_for(&starters, &shared) } else { self.none_has_room(&starters) };
            if short.is_some() {
                if let Some(kind) = self.clusters.kinds.get_mut(&demand) {
                    kind.full = short;
                }
            } else if complete {
                self.begin(turn.job, &shared);
                heads.extend(self.turn_of(&demand).map(|next| (next, demand)));
            } else if self.missing_of(&demand).is_none() {
                for worker in shared.into_iter().flatten() {
                    if let (Some(first), Some(offer)) = (starters.iter().min(), self.pool.offer(&worker)) {
                        self.clusters.kept.keep(&worker, &offer.classes, *first);
                    }
                    self.place(&worker);
                }
            }
        }
        self.doubt_kept(&kept_before);
        self.explain_clusters();
        self.clusters.changed = false;
    }

    /// Whose turn it is among the clusters of a kind.
    fn turn_of(&self, demand: &Demand) -> Option<Turn> {
        let kind = self.clusters.kinds.get(demand)?;
        kind.units.first(&kind.classes, &self.shares)
    }

    /// All starters of a unit are handed out.
    fn begin(&mut self, unit: JobId, workers: &[Option<WorkerName>]) {
        let starters = self.clusters.starters.get(&unit).cloned().unwrap_or_default();
        self.dequeue_cluster(unit);
        self.clusters.overdue.remove(&unit);
        for (starter, worker) in starters.into_iter().zip(workers.iter().flatten()) {
            self.assign(starter, worker);
        }
    }

    /// The first slot of a demand that the online workers do not have.
    fn missing_of(&mut self, demand: &Demand) -> Option<usize> {
        match self.clusters.kinds.get(demand).map_or(Enough::Yes, |kind| kind.pool) {
            Enough::Yes => None,
            Enough::No(place) => Some(place),
            Enough::Unknown => {
                let missing =
                    self.pool.share_out(demand, Slots::All, &|_| true).iter().position(Option::is_none);
                if let Some(kind) = self.clusters.kinds.get_mut(demand) {
                    kind.pool = missing.map_or(Enough::Yes, Enough::No);
                }
                missing
            }
        }
    }

    /// Stores why the first clusters of each kind wait, where that has changed.
    fn explain_clusters(&mut self) {
        let kinds: Vec<(Demand, Vec<JobId>)> = self
            .clusters
            .kinds
            .iter()
            .map(|(demand, kind)| {
                (demand.clone(), kind.units.iter().take(EXPLAINED).map(|(_, id)| id).collect())
            })
            .collect();
        for (demand, units) in kinds {
            self.missing_of(&demand);
            let starters = units.iter().filter_map(|unit| self.clusters.starters.get(unit)).flatten();
            for starter in starters.copied().collect::<Vec<_>>() {
                self.note_wait(starter);
            }
        }
    }

    /// Why the starters of a unit wait that could begin.
    pub(super) fn cluster_wait(&self, unit: JobId) -> Option<WaitReason> {
        let (demand, ..) = self.clusters.waiting.get(&unit)?;
        let kind = self.clusters.kinds.get(demand)?;
        if let Some(full) = &kind.full {
            return Some(full.clone());
        }
        let (slots, one_host) = (demand.slots.clone(), demand.one_host);
        let missing = match kind.pool {
            Enough::No(place) => slots.get(place).cloned(),
            Enough::Yes | Enough::Unknown => None,
        };
        Some(match missing {
            Some(missing) => {
                let drained = self.pool.first_drained(&missing).cloned();
                WaitReason::NotEnough { slots, missing, one_host, drained }
            }
            None => WaitReason::Together { slots, one_host },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::pool::Intake;

    #[test]
    fn the_oldest_cluster_is_found_by_what_its_slots_offer() {
        let (mut pool, mut kept) = (Pool::default(), Kept::default());
        let name = |name: &str| name.parse::<WorkerName>().expect("a name");
        for (worker, classes, clusters) in [
            ("w1", "a", &[7, 3][..]),
            ("w2", "a,b", &[5][..]),
            ("w3", "a,b,c", &[5, 9][..]),
            ("w4", "d", &[][..]),
        ] {
            let (host, classes) = ("h".to_owned(), ClassSet::parse(classes));
            for cluster in clusters {
                kept.keep(&name(worker), &classes, JobId(*cluster));
            }
            let offer = Offer { classes, host, slots: 2, load: 0, intake: Intake::Open, room: None };
            pool.place(&name(worker), Some(offer));
        }
        let oldest = |needed| kept.oldest(&ClassSet::parse(needed), &pool).map(|cluster| cluster.0);
        for (needed, found) in
            [("a", Some(3)), ("b", Some(5)), ("a,b", Some(5)), ("a,c", Some(5)), ("d", None), ("a,d", None)]
        {
            assert_eq!(oldest(needed), found, "{needed}");
        }
        assert_eq!(kept.by_class["c"].len(), 2, "only these are looked at for c");
        let before = Kept { slots: [(name("w1"), vec![JobId(7), JobId(3)])].into(), ..Kept::default() };
        let changed: Vec<_> = kept.changed(&before).map(ToString::to_string).collect();
        assert_eq!(changed, ["w2", "w3"]);
    }
}
