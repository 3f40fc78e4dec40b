//! Jobs that wait because no host that could run them has the disk for it. They wait apart from the queues, like those
//! that wait for a limit, beside others that need the same; when a disk has more room, the first of each kind is tried.

use super::State;
use super::pool::Offer;
use crate::assets::AssetKey;
use crate::ids::{AttemptId, ConnectionId, JobId, WorkerName};
use crate::io::Answer;
use crate::reason::WaitReason;
use crate::relations::Relation;
use crate::sched::disk::{Need, Room};
use crate::sched::fair::{Line, Party};
use crate::settings::ClassSet;
use std::collections::BTreeMap;

#[derive(Debug, Clone, Default)]
pub(super) struct Disks {
    /// The sizes of assets, as far as they are known.
    sizes: BTreeMap<AssetKey, u64>,
    /// What running attempts need, and on which host.
    taken_by: BTreeMap<AttemptId, (String, Need)>,
    taken: BTreeMap<String, Need>,
    parked: BTreeMap<(ClassSet, Need), Line>,
    waits: BTreeMap<JobId, ((ClassSet, Need), WaitReason)>,
    /// Something may fit now.
    changed: bool,
}

impl Disks {
    pub(super) fn new(sizes: BTreeMap<AssetKey, u64>) -> Self {
        Self { sizes, ..Self::default() }
    }

    /// Whether a worker's host can hold what is needed.
    pub(super) fn fits(&self, offer: &Offer, need: Need) -> bool {
        offer.room.is_none_or(|room| room.holds(need, self.taken_on(&offer.host)))
    }

    fn taken_on(&self, host: &str) -> Need {
        self.taken.get(host).copied().unwrap_or_default()
    }

    /// The jobs that wait for a disk.
    pub(super) fn waiting(&self) -> Vec<JobId> {
        self.waits.keys().copied().collect()
    }

    /// Somebody has more room, or there is somebody more.
    pub(super) fn note_change(&mut self) {
        self.changed |= !self.parked.is_empty();
    }
}

impl State {
    /// What a job needs of its host, and what follows it on its slot.
    pub(super) fn need_of(&self, id: JobId) -> Need {
        let Some(job) = self.jobs.get(&id) else { return Need::default() };
        let own = Need::of(job, &self.disks.sizes, self.limited.floor());
        if !self.bonds.is_bound(id) {
            return own;
        }
        let direct =
            self.children(id).into_iter().filter(|(relation, _)| *relation == Relation::DirectlyChained);
        direct.fold(own, |need, (_, child)| need.or(self.need_of(child)))
    }

    /// The sizes of assets have become known.
    pub(super) fn learn_sizes(&mut self, sizes: BTreeMap<AssetKey, u64>) -> Answer {
        self.disks.sizes.extend(sizes);
        self.look_at_disks();
        Answer::Done
    }

    /// A worker says what its disks can take.
    pub(super) fn set_room(&mut self, connection: ConnectionId, room: Option<Room>) {
        let Some(name) = self.connections.get(&connection).cloned() else { return };
        let Some(worker) = self.workers.get_mut(&name) else { return };
        let Some(room) = room.filter(|room| worker.room != Some(*room)) else { return };
        let more = worker.room.is_some_and(|before| room.pool > before.pool || room.cache > before.cache);
        worker.room = Some(room);
        self.pool.set_room(&name, room);
        // Heartbeats are many: what waits is looked at only when it may help.
        if more {
            self.disks.note_change();
            self.clusters.disks_have_changed();
        }
    }

    fn look_at_disks(&mut self) {
        self.disks.note_change();
        self.clusters.limits_have_changed();
    }

    /// An attempt runs on a host.
    pub(super) fn take_disk(&mut self, id: AttemptId) {
        let Some(host) = self.attempts.get(&id).map(|row| row.host.clone()) else { return };
        self.free_disk(id);
        let need = self.need_of(id.job);
        if need.total() > 0 {
            let taken = self.disks.taken.entry(host.clone()).or_default();
            *taken = taken.and(need);
            self.disks.taken_by.insert(id, (host, need));
        }
    }

    /// An attempt has ended.
    pub(super) fn free_disk(&mut self, id: AttemptId) {
        let Some((host, need)) = self.disks.taken_by.remove(&id) else { return };
        if let Some(taken) = self.disks.taken.get_mut(&host) {
            *taken = taken.without(need);
            if *taken == Need::default() {
                self.disks.taken.remove(&host);
            }
        }
        self.look_at_disks();
    }

    /// Puts a job aside for which workers have a slot, but none of their hosts the disk; false if there is one, or no slot.
    pub(super) fn park_for_room(&mut self, id: JobId) -> bool {
        let Some(job) = self.jobs.get(&id) else { return false };
        let need = self.need_of(id);
        if need.total() == 0 {
            return false;
        }
        let fits = |offer: &Offer| self.disks.fits(offer, need);
        if self.pool.find(&job.classes, None, &|_| true).is_none()
            || self.pool.find(&job.classes, None, &fits).is_some()
        {
            return false;
        }
        let reason = self.disk_reason(&[job.classes.clone()], need);
        self.unqueue_one(id);
        self.park_for_disk(id, reason);
        self.note_wait(id);
        true
    }

    /// Puts a job aside that is in no queue.
    pub(super) fn park_for_disk(&mut self, id: JobId, reason: WaitReason) {
        let need = self.need_of(id);
        let Some(job) = self.jobs.get(&id) else { return };
        let key = (job.classes.clone(), need);
        self.disks.parked.entry(key.clone()).or_default().insert(job.priority, Party::of(job), id);
        self.disks.waits.insert(id, (key, reason));
    }

    /// Takes a job back that was put aside, if it was.
    pub(super) fn unpark_from_disk(&mut self, id: JobId) {
        let Some((key, _)) = self.disks.waits.remove(&id) else { return };
        let (Some(job), Some(line)) = (self.jobs.get(&id), self.disks.parked.get_mut(&key)) else { return };
        line.remove(job.priority, Party::of(job), id);
        if line.is_empty() {
            self.disks.parked.remove(&key);
        } else {
            // Another may have what it does not take now.
            self.disks.changed = true;
        }
    }

    /// Those for whom there is a disk and a slot now, the first of each kind.
    pub(super) fn fitting(&mut self) -> Vec<JobId> {
        if !std::mem::take(&mut self.disks.changed) {
            return Vec::new();
        }
        let first = |((classes, _), line): (&(ClassSet, Need), &Line)| {
            let turn = line.first(classes, &self.shares)?;
            let need = self.need_of(turn.job);
            self.pool.find(classes, None, &|offer| self.disks.fits(offer, need)).map(|_| turn.job)
        };
        self.disks.parked.iter().filter_map(first).collect()
    }

    /// Why a job waits that was put aside.
    pub(super) fn disk_wait(&self, id: JobId) -> Option<WaitReason> {
        self.disks.waits.get(&id).map(|(_, reason)| reason.clone())
    }

    /// No host has `need` for jobs with these classes: the one with most room is named.
    fn disk_reason(&self, classes: &[ClassSet], need: Need) -> WaitReason {
        let left = |offer: &Offer| offer.room.map_or(0, |room| room.left(self.disks.taken_on(&offer.host)));
        let hosts = classes.iter().flat_map(|classes| self.pool.offering(classes));
        let best = hosts.map(|offer| (left(offer), offer.host.clone())).max();
        let (free, host) = best.unwrap_or_default();
        WaitReason::Disk { host, need: need.total(), free }
    }

    /// What keeps jobs from beginning together on these workers, if their disks do.
    pub(super) fn no_room_for(
        &self,
        starters: &[JobId],
        workers: &[Option<WorkerName>],
    ) -> Option<WaitReason> {
        let mut wanted: BTreeMap<&str, (Need, Option<Room>)> = BTreeMap::new();
        for (starter, worker) in starters.iter().zip(workers) {
            let Some(offer) = worker.as_ref().and_then(|name| self.pool.offer(name)) else { continue };
            let (need, room) = wanted.entry(offer.host.as_str()).or_default();
            *need = need.and(self.need_of(*starter));
            *room = room.or(offer.room);
        }
        let short = wanted.into_iter().find(|(host, (need, room))| {
            room.is_some_and(|room| !room.holds(*need, self.disks.taken_on(host)))
        });
        short.map(|(host, (need, room))| WaitReason::Disk {
            host: host.to_owned(),
            need: need.total(),
            free: room.map_or(0, |room| room.left(self.disks.taken_on(host))),
        })
    }

    /// What each of these jobs needs at most.
    pub(super) fn most_needed(&self, starters: &[JobId]) -> Need {
        starters.iter().fold(Need::default(), |most, id| most.or(self.need_of(*id)))
    }

    /// Where none of the workers with room has the disk for the largest of these jobs, that is the reason.
    pub(super) fn none_has_room(&self, starters: &[JobId]) -> Option<WaitReason> {
        let need = self.most_needed(starters);
        if need.total() == 0 {
            return None;
        }
        let classes: Vec<ClassSet> =
            starters.iter().filter_map(|id| self.jobs.get(id)).map(|job| job.classes.clone()).collect();
        let mut offers = classes.iter().flat_map(|classes| self.pool.offering(classes)).peekable();
        offers.peek()?;
        (!offers.any(|offer| self.disks.fits(offer, need))).then(|| self.disk_reason(&classes, need))
    }
}
