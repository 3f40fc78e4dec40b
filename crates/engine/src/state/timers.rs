//! When something is due. A pause or a jump of the clock is not held against anybody.

use crate::ids::{AttemptId, JobId, Timestamp, WorkerName};
use std::collections::{BTreeMap, BTreeSet};

/// What is due. The order is the one in which things due in one tick are dealt with: a worker that is silent goes
/// offline before its leases end, so that none of its attempts comes back to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A connected worker has said nothing.
    Silence(WorkerName),
    /// A worker has not stopped what was cancelled.
    Cancel(AttemptId),
    /// A lease ends.
    Lease(AttemptId),
    /// A cluster has waited so long that it comes first.
    Overdue(JobId),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Timers {
    /// The clock as last seen; unlike the time of records it goes back when the clock does.
    clock: Timestamp,
    at: BTreeMap<Timer, Timestamp>,
    order: BTreeSet<(Timestamp, Timer)>,
}

impl Timers {
    pub(super) fn new(clock: Timestamp) -> Self {
        Self { clock, ..Self::default() }
    }

    /// Takes note of the clock. If it went back, or leapt by more than `leap_us`, then the clock was set or this
    /// process was stopped; workers could not have been heard meanwhile, so everything due moves by as much.
    pub(super) fn observe(&mut self, clock: Timestamp, leap_us: i64) {
        let moved = clock.0.saturating_sub(self.clock.0);
        self.clock = clock;
        if moved < 0 || moved > leap_us {
            for at in self.at.values_mut() {
                *at = Timestamp(at.0.saturating_add(moved));
            }
            self.order = self.at.iter().map(|(timer, at)| (*at, timer.clone())).collect();
        }
    }

    /// Makes `timer` due `after_us` from now, instead of when it was due before.
    pub(super) fn set(&mut self, timer: Timer, after_us: i64) {
        let at = Timestamp(self.clock.0.saturating_add(after_us));
        if let Some(before) = self.at.insert(timer.clone(), at) {
            self.order.remove(&(before, timer.clone()));
        }
        self.order.insert((at, timer));
    }

    pub(super) fn clear(&mut self, timer: &Timer) {
        if let Some(before) = self.at.remove(timer) {
            self.order.remove(&(before, timer.clone()));
        }
    }

    /// Microseconds until `timer` is due, 0 if it is due or not set.
    pub(super) fn left_us(&self, timer: &Timer) -> i64 {
        self.at.get(timer).map_or(0, |at| at.micros_since(self.clock))
    }

    /// Everything that is due, in the order of [`Timer`], with the microseconds by which it is overdue.
    pub(super) fn take_due(&mut self) -> BTreeMap<Timer, i64> {
        let mut due = BTreeMap::new();
        while let Some((at, _)) = self.order.first()
            && *at <= self.clock
            && let Some((at, timer)) = self.order.pop_first()
        {
            self.at.remove(&timer);
            due.insert(timer, self.clock.micros_since(at));
        }
        due
    }

    /// When to tick next: at the first thing due, but at least every `beat_us`, so that a leap of the clock shows.
    pub(super) fn next(&self, beat_us: i64) -> Option<Timestamp> {
        let (first, _) = self.order.first()?;
        Some((*first).min(Timestamp(self.clock.0.saturating_add(beat_us))))
    }
}
