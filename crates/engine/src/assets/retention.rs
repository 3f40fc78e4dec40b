//! What is kept, and why: facts in, a verdict about each thing out.
//!
//! Assets are kept within the budget of a group, the newest used first; what a waiting or running job needs and what is
//! fixed stays in any case. Of jobs the logs, screenshots, results and finally the jobs themselves go by age, which is
//! longer for important builds.

use super::AssetKey;
use crate::ids::{JobId, Timestamp};
use std::collections::BTreeMap;
use std::fmt;

const DAY: i64 = 24 * 3600;

/// Days; 0 is for ever.
pub type Days = u32;

/// A budget of bytes: a group's, or a parent group's for all its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// For people.
    pub name: String,
    /// How many bytes of assets it keeps.
    pub bytes: u64,
}

/// A version of an asset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssetFact {
    /// The version's number, greater for later ones.
    pub id: i64,
    /// What it is a version of.
    pub asset: AssetKey,
    /// Its length.
    pub bytes: u64,
    /// When it was published or last read.
    pub used_at: Timestamp,
    /// It is the newest of its name, and the name is never to be cleaned.
    pub fixed: bool,
    /// A job that has not ended and needs it.
    pub needed_by: Option<JobId>,
    /// The newest job of each budget that used it; numbers of [`AssetFacts::budgets`].
    pub users: BTreeMap<usize, JobId>,
}

/// Everything that is known of assets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AssetFacts {
    /// The budgets.
    pub budgets: Vec<Budget>,
    /// The versions.
    pub assets: Vec<AssetFact>,
    /// How long assets stay that no job of a group has used.
    pub untracked: Days,
}

/// What is said about a thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict<T> {
    /// The thing.
    pub what: T,
    /// Whether it stays.
    pub keep: bool,
    /// Why.
    pub why: Why,
}

/// Why something stays or goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Its name is fixed.
    Fixed,
    /// A job that has not ended needs it.
    Needed(JobId),
    /// It fits into a budget.
    InBudget {
        /// Whose.
        group: String,
        /// What is left of it.
        left: u64,
    },
    /// It does not fit into any budget of the groups that used it.
    OverBudget {
        /// The one with most room.
        group: String,
        /// Its room.
        left: u64,
    },
    /// No group's job has used it, but it is young.
    Untracked {
        /// Days until it goes.
        days: i64,
    },
    /// No group's job has used it for so long.
    UntrackedTooLong {
        /// The limit.
        limit: Days,
    },
    /// Kept for ever.
    ForEver {
        /// Why it is important, if it is.
        important: Option<String>,
    },
    /// Not old enough.
    Young {
        /// Days until it goes.
        days: i64,
        /// Why it is important, if it is.
        important: Option<String>,
    },
    /// Too old.
    Old {
        /// The limit.
        limit: Days,
        /// Why it is important, if it is.
        important: Option<String>,
    },
    /// The job has not ended.
    Open,
    /// Another job that has not ended builds on it.
    Parent(JobId),
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

fn days(count: i64) -> String {
    if count == 1 { "1 day".to_owned() } else { format!("{count} days") }
}

fn because(important: Option<&String>) -> String {
    important.map(|why| format!(", important ({why})")).unwrap_or_default()
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed => f.write_str("its name is fixed"),
            Self::Needed(job) => write!(f, "job {job} has not ended and needs it"),
            Self::InBudget { group, left } => {
                write!(f, "within the budget of {group}, which has {} left", gigabytes(*left))
            }
            Self::OverBudget { group, left } => {
                write!(f, "more than the budget of {group}, which has {} left", gigabytes(*left))
            }
            Self::Untracked { days: count } => {
                write!(f, "no job of a group uses it; it goes in {}", days(*count))
            }
            Self::UntrackedTooLong { limit } => {
                write!(f, "no job of a group has used it for {}", days(i64::from(*limit)))
            }
            Self::ForEver { important } => write!(f, "kept for ever{}", because(important.as_ref())),
            Self::Young { days: count, important } => {
                write!(f, "it goes in {}{}", days(*count), because(important.as_ref()))
            }
            Self::Old { limit, important } => {
                write!(f, "older than {}{}", days(i64::from(*limit)), because(important.as_ref()))
            }
            Self::Open => f.write_str("the job has not ended"),
            Self::Parent(job) => write!(f, "job {job} has not ended and builds on it"),
        }
    }
}

/// A verdict about each version. Order of `assets` does not matter; the verdicts begin with what was used last.
pub fn assets(facts: &AssetFacts, now: Timestamp) -> Vec<Verdict<&AssetFact>> {
    let mut left: Vec<u64> = facts.budgets.iter().map(|budget| budget.bytes).collect();
    let mut order: Vec<&AssetFact> = facts.assets.iter().collect();
    let newest = |asset: &AssetFact| asset.users.values().max().copied();
    order.sort_by_key(|asset| std::cmp::Reverse((newest(asset), asset.used_at, asset.id)));
    // What stays in any case takes its room first, so that the rest of the budget is what there really is.
    let mut taken = BTreeMap::new();
    for asset in order.iter().filter(|asset| held(asset).is_some() && !asset.fixed) {
        if let Some(group) = roomiest(asset, &left) {
            left[group] = left[group].saturating_sub(asset.bytes);
            taken.insert(asset.id, group);
        }
    }
    let mut judge = |asset: &AssetFact| {
        if let Some(why) = held(asset) {
            return (true, why);
        }
        let Some(group) = roomiest(asset, &left) else { return untracked(asset, facts.untracked, now) };
        let name = facts.budgets[group].name.clone();
        match left[group].checked_sub(asset.bytes) {
            Some(rest) => {
                left[group] = rest;
                (true, Why::InBudget { group: name, left: rest })
            }
            None => (false, Why::OverBudget { group: name, left: left[group] }),
        }
    };
    order
        .into_iter()
        .map(|what| {
            let (keep, why) = judge(what);
            Verdict { what, keep, why }
        })
        .collect()
}

fn held(asset: &AssetFact) -> Option<Why> {
    if asset.fixed {
        return Some(Why::Fixed);
    }
    asset.needed_by.map(Why::Needed)
}

/// Of the budgets that use the asset the one with most room, the first of several.
fn roomiest(asset: &AssetFact, left: &[u64]) -> Option<usize> {
    let known = asset.users.keys().copied().filter(|group| *group < left.len());
    known.max_by_key(|group| (left[*group], std::cmp::Reverse(*group)))
}

fn untracked(asset: &AssetFact, limit: Days, now: Timestamp) -> (bool, Why) {
    match age(asset.used_at, limit, now) {
        Age::ForEver => (true, Why::ForEver { important: None }),
        Age::Young { days } => (true, Why::Untracked { days }),
        Age::Old => (false, Why::UntrackedTooLong { limit }),
    }
}

enum Age {
    ForEver,
    Young { days: i64 },
    Old,
}

fn age(at: Timestamp, limit: Days, now: Timestamp) -> Age {
    if limit == 0 {
        return Age::ForEver;
    }
    let until = at.plus_seconds(i64::from(limit) * DAY);
    if now >= until {
        return Age::Old;
    }
    let day = DAY * 1_000_000;
    Age::Young { days: (until.micros_since(now) + day - 1) / day }
}

/// What is kept of a job, each as long as the next one at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Logs and files that it uploaded.
    Logs,
    /// Pictures of the screen.
    Screenshots,
    /// Its steps: what its page shows.
    Results,
    /// That there was a job.
    Job,
}

impl Part {
    /// Every part, the one that goes first before the others.
    pub const ALL: [Self; 4] = [Self::Logs, Self::Screenshots, Self::Results, Self::Job];

    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Screenshots => "screenshots",
            Self::Results => "results",
            Self::Job => "job",
        }
    }
}

/// How long the parts of a group's jobs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ages {
    /// In the order of [`Part::ALL`].
    pub usual: [Days; 4],
    /// The same for important builds.
    pub important: [Days; 4],
}

impl Default for Ages {
    /// openQA's: logs 30 days (120), results a year (for ever), jobs two years (for ever).
    fn default() -> Self {
        Self { usual: [30, 365, 365, 730], important: [120, 0, 0, 0] }
    }
}

impl Ages {
    /// The age of a part: never more than that of the parts that outlive it, and that of an important build never less
    /// than the usual one.
    pub fn limit(&self, part: Part, important: bool) -> Days {
        let shortest = |ages: &[Days; 4]| {
            let after = Part::ALL.iter().zip(ages).filter(|(of, _)| **of >= part).map(|(_, days)| *days);
            after.filter(|days| *days > 0).min().unwrap_or(0)
        };
        let usual = shortest(&self.usual);
        match (important, shortest(&self.important)) {
            (false, _) => usual,
            (true, 0) => 0,
            (true, _) if usual == 0 => 0,
            (true, longer) => longer.max(usual),
        }
    }
}

/// A job whose parts may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFact {
    /// Which.
    pub job: JobId,
    /// When it ended; never before that.
    pub ended_at: Option<Timestamp>,
    /// The ages of its group.
    pub ages: Ages,
    /// Why its build is important, if it is.
    pub important: Option<String>,
    /// A job that has not ended and that it is a parent of.
    pub parent_of: Option<JobId>,
    /// What is still there of it, the job itself left out.
    pub has: Vec<Part>,
}

/// A verdict about each part of each job that is still there.
pub fn jobs(facts: &[JobFact], now: Timestamp) -> Vec<Verdict<(JobId, Part)>> {
    let parts = |fact: &JobFact| {
        let there = fact.has.iter().copied().filter(|part| *part != Part::Job).chain([Part::Job]);
        there.map(|part| judge_part(fact, part, now)).collect::<Vec<_>>()
    };
    facts.iter().flat_map(parts).collect()
}

fn judge_part(fact: &JobFact, part: Part, now: Timestamp) -> Verdict<(JobId, Part)> {
    let important = fact.important.clone();
    let limit = fact.ages.limit(part, important.is_some());
    let (keep, why) = match (fact.ended_at, fact.parent_of) {
        (None, _) => (true, Why::Open),
        (_, Some(child)) => (true, Why::Parent(child)),
        (Some(ended), None) => match age(ended, limit, now) {
            Age::ForEver => (true, Why::ForEver { important }),
            Age::Young { days } => (true, Why::Young { days, important }),
            Age::Old => (false, Why::Old { limit, important }),
        },
    };
    Verdict { what: (fact.job, part), keep, why }
}

#[cfg(test)]
mod tests;
