//! What a job needs of its host's disks, and whether a host has it.
//!
//! A worker tells how much its file systems can still take. The cache of assets counts as free there, for what nobody
//! uses makes room; so an asset counts for every job that reads it, cached or not, and for as long as the job runs. A
//! blank disk counts with the size that the job gives it, although it takes that only when it is written to.

use crate::assets::{AssetKey, candidates, reads};
use crate::ids::JobId;
use crate::relations::Relation;
use crate::rows::JobRow;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The most blank disks that a machine has.
const MOST_DISKS: u64 = 9;
/// The size of a blank disk that has none of its own, GiB.
const BLANK_GIB: u64 = 10;

/// What a worker's file systems can still take, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Where machines have their disks: what is free.
    pub pool: u64,
    /// Where assets are kept: what is free, and what is there already.
    pub cache: u64,
    /// Both are one file system.
    pub shared: bool,
}

/// What is free, for people: `12.5 GiB`, or of both file systems.
impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pool, cache, shared } = *self;
        if shared {
            return write!(f, "{}", Bytes(pool));
        }
        write!(f, "{} for machines, {} for assets", Bytes(pool), Bytes(cache))
    }
}

/// What a job needs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Need {
    /// For its blank disks, its logs and pictures.
    pub disks: u64,
    /// For the assets that it reads.
    pub assets: u64,
}

impl Need {
    /// In all.
    pub fn total(self) -> u64 {
        self.disks.saturating_add(self.assets)
    }

    /// This and that.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            disks: self.disks.saturating_add(other.disks),
            assets: self.assets.saturating_add(other.assets),
        }
    }

    /// This without that.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self {
            disks: self.disks.saturating_sub(other.disks),
            assets: self.assets.saturating_sub(other.assets),
        }
    }

    /// As much as either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { disks: self.disks.max(other.disks), assets: self.assets.max(other.assets) }
    }

    /// What a job needs, as far as its settings say; `floor` at least.
    pub fn of(job: &JobRow, sizes: &BTreeMap<AssetKey, u64>, floor: u64) -> Self {
        let value = |key: &str| job.settings.get(key);
        let number = |key: &str| value(key).and_then(|text| text.trim().parse::<u64>().ok());
        let machine = !matches!(value("BACKEND"), Some("dummy" | "shell"));
        let count = number("NUMDISKS").filter(|_| machine).unwrap_or(0).min(MOST_DISKS);
        let size = |disk: u64| number(&format!("HDDSIZEGB_{disk}")).or_else(|| number("HDDSIZEGB"));
        let blank = (1..=count).filter(|disk| value(&format!("HDD_{disk}")).is_none());
        let gib: u64 = blank.map(|disk| size(disk).unwrap_or(BLANK_GIB).min(1 << 20)).sum();
        let before = job.parents.iter().filter(|parent| parent.relation != Relation::Parallel);
        let parents: Vec<JobId> = before.map(|parent| parent.job).collect();
        let plain = job.settings.iter().map(|(name, setting)| (name, setting.value.as_str()));
        // Two settings that name one asset read one file.
        let read: BTreeSet<AssetKey> = reads(plain)
            .into_iter()
            .filter(crate::assets::Read::is_fetched)
            .filter_map(|read| {
                candidates(&read.asset, &parents).into_iter().find(|key| sizes.contains_key(key))
            })
            .collect();
        let assets =
            read.iter().filter_map(|key| sizes.get(key)).fold(0_u64, |sum, size| sum.saturating_add(*size));
        let disks = gib << 30;
        Self { disks: disks.max(floor.saturating_sub(assets)), assets }
    }
}

impl Room {
    /// Whether there is room for `need` beside what is taken.
    pub fn holds(self, need: Need, taken: Need) -> bool {
        // A job that needs nothing has room even where what is taken is more than there is.
        let fits = |room: u64, wanted: u64, taken: u64| wanted == 0 || wanted.saturating_add(taken) <= room;
        if self.shared {
            return fits(self.cache, need.total(), taken.total());
        }
        fits(self.pool, need.disks, taken.disks) && fits(self.cache, need.assets, taken.assets)
    }

    /// What is left of it, for people.
    pub fn left(self, taken: Need) -> u64 {
        if self.shared {
            return self.cache.saturating_sub(taken.total());
        }
        self.pool.saturating_sub(taken.disks).min(self.cache.saturating_sub(taken.assets))
    }
}

/// Bytes for people: `12.5 GiB`.
#[derive(Debug, Clone, Copy)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: u64 = 1 << 20;
        match self.0 {
            less if less < MIB << 10 => write!(f, "{} MiB", less.div_ceil(MIB)),
            more => write!(f, "{:.1} GiB", more as f64 / (MIB << 10) as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Answer, Input, NewJob};
    use crate::settings::Settings;
    use crate::state::State;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    fn need(settings: &[(&str, &str)], floor: u64) -> (u64, u64) {
        let pairs = [("TEST", "t")].into_iter().chain(settings.iter().copied());
        let mut state = State::new(crate::work::Timing::default(), crate::ids::Timestamp(0));
        let jobs = vec![NewJob::new(Settings::from_request(pairs))];
        let Ok(Answer::Posted(ids)) = state.step(Input::PostJobs { jobs }, crate::ids::Timestamp(0)).answer
        else {
            panic!("not posted")
        };
        let sizes = [("iso/a.iso", 3 * GIB), ("hdd/b.qcow2", 2 * GIB)];
        let key = |text: &str| {
            let (kind, name) = text.split_once('/').expect("kind and name");
            AssetKey {
                kind: crate::assets::AssetKind::from_word(kind).expect("a kind"),
                name: name.parse().expect("a name"),
            }
        };
        let sizes = sizes.map(|(name, size)| (key(name), size)).into();
        let need = Need::of(state.job(ids[0]).expect("it is open"), &sizes, floor);
        (need.disks / GIB, need.assets / GIB)
    }

    #[test]
    fn settings_say_what_a_job_needs() {
        for (settings, floor, wanted) in [
            (&[][..], 0, (0, 0)),
            (&[("NUMDISKS", "2")], 0, (20, 0)),
            (&[("NUMDISKS", "2"), ("HDDSIZEGB", "40"), ("HDDSIZEGB_2", "5")], 0, (45, 0)),
            (&[("NUMDISKS", "2"), ("HDD_1", "b.qcow2"), ("HDDSIZEGB", "40")], 0, (40, 2)),
            (&[("ISO", "a.iso"), ("ISO_1", "a.iso"), ("HDD_1", "none.qcow2")], 0, (0, 3)),
            (&[("ISO", "a.iso")], 5, (2, 3)),
            (&[("ISO", "a.iso"), ("NUMDISKS", "1")], 5, (10, 3)),
            (&[("NUMDISKS", "9999999"), ("HDDSIZEGB", "1")], 0, (9, 0)),
            (&[("NUMDISKS", "2"), ("BACKEND", "dummy")], 0, (0, 0)),
            (&[("NUMDISKS", "many"), ("HDDSIZEGB", "-1")], 0, (0, 0)),
        ] {
            assert_eq!(need(settings, floor * GIB), wanted, "{settings:?}");
        }
    }

    #[test]
    fn bytes_are_told_in_their_unit() {
        let told = [0, 1, 5 << 20, GIB, 12 * GIB + GIB / 2].map(|bytes| Bytes(bytes).to_string());
        assert_eq!(told, ["0 MiB", "1 MiB", "5 MiB", "1.0 GiB", "12.5 GiB"]);
        let room = |shared| Room { pool: 12 * GIB, cache: 5 << 20, shared }.to_string();
        assert_eq!([room(true), room(false)], ["12.0 GiB", "12.0 GiB for machines, 5 MiB for assets"]);
    }

    proptest! {
        #[test]
        fn what_fits_leaves_room(
            pool in any::<u64>(), cache in any::<u64>(), shared in any::<bool>(),
            disks in any::<u64>(), assets in any::<u64>(), more in any::<u64>(),
        ) {
            let (room, need) = (Room { pool, cache, shared }, Need { disks, assets });
            let taken = Need { disks: more, assets: 0 };
            prop_assert!(room.holds(Need::default(), taken));
            if room.holds(need, taken) {
                prop_assert!(room.holds(need, Need::default()), "with less taken it fits all the more");
                prop_assert!(disks <= pool.max(cache) && assets <= cache);
            }
            prop_assert!(room.left(taken) <= room.left(Need::default()));
            prop_assert_eq!(need.and(taken).without(taken).assets, assets);
        }
    }
}
