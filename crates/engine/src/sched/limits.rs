//! How many jobs may run at once: in all, of a worker class, of a group, and of those that name a semaphore.

use crate::ids::GroupId;
use crate::rows::JobRow;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The setting with the semaphores that a job takes while it runs, with commas between them.
pub const SEMAPHORES: &str = "SEMAPHORES";

/// What is limited.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Running jobs in all.
    Running,
    /// Running jobs that need this worker class.
    Class(String),
    /// Running jobs of this group.
    Group(GroupId),
    /// Running jobs that name this semaphore.
    Semaphore(String),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("jobs"),
            Self::Class(class) => write!(f, "jobs with class {class}"),
            Self::Group(group) => write!(f, "jobs of group {group}"),
            Self::Semaphore(name) => write!(f, "jobs with semaphore {name}"),
        }
    }
}

/// The limits. What is not named has none; a semaphore that is not named is for one job at a time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// How many may run at once.
    pub jobs: BTreeMap<Limit, u32>,
    /// What every job needs of its host's disk at least, in bytes; see [`super::disk`].
    pub disk_floor: u64,
}

impl Limits {
    /// How many may run at once.
    pub fn most(&self, limit: &Limit) -> u32 {
        let usual = if matches!(limit, Limit::Semaphore(_)) { 1 } else { u32::MAX };
        self.jobs.get(limit).copied().unwrap_or(usual)
    }

    /// What a job counts for while it runs.
    pub fn of(&self, job: &JobRow) -> BTreeSet<Limit> {
        let named = job.settings.get(SEMAPHORES).unwrap_or_default().split(',').map(str::trim);
        let semaphores = named.filter(|name| !name.is_empty()).map(|name| Limit::Semaphore(name.to_owned()));
        let classes = job.classes.iter().map(|class| Limit::Class(class.to_owned()));
        let others = classes.chain(job.group.map(Limit::Group)).chain([Limit::Running]);
        semaphores.chain(others.filter(|limit| self.jobs.contains_key(limit))).collect()
    }
}
