//! What a new build does to the open jobs of older ones.

use super::{OldBuilds, PlannedJob, Request};
use crate::ids::{GroupId, JobId};
use crate::io::{Deprioritize, Obsolete};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How far a job steps back with every post.
const STEP: i32 = 10;

/// An open job, as far as this decision needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenJob {
    /// The job.
    pub job: JobId,
    /// Its main settings, `BUILD` among them.
    pub settings: BTreeMap<String, String>,
    /// Its group.
    pub group: Option<GroupId>,
    /// Its priority.
    pub priority: i32,
    /// True if somebody has commented on it.
    pub commented: bool,
}

impl OpenJob {
    fn get(&self, key: &str) -> &str {
        self.settings.get(key).map_or("", String::as_str)
    }
}

/// A build that somebody has tagged on a group's page.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BuildTag {
    /// On which group's.
    pub group: GroupId,
    /// Which build: `BUILD` or `VERSION-BUILD`.
    pub build: String,
}

impl BuildTag {
    /// True if this build of this version is meant.
    pub fn is_of(&self, version: &str, build: &str) -> bool {
        let of_version = || self.build.strip_prefix(version)?.strip_prefix('-');
        self.build == build || of_version() == Some(build)
    }
}

/// Why a job stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spared {
    /// Somebody has commented on it.
    Commented,
    /// Its build is tagged.
    Tagged,
}

/// What happens to an open job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It ends.
    Obsoleted,
    /// It gets this priority.
    StepsBack(i32),
    /// It would be meant, and stays.
    Spared(Spared),
}

/// An open job of an older build that a post means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldJob {
    /// The job.
    pub job: JobId,
    /// For example `install@64bit`.
    pub name: String,
    /// Its `BUILD`.
    pub build: String,
    /// What happens to it.
    pub fate: Fate,
}

impl OldJob {
    /// One sentence.
    pub fn sentence(&self) -> String {
        let Self { job, name, build, fate } = self;
        let what = match fate {
            Fate::Obsoleted => "would end as obsoleted".to_owned(),
            Fate::StepsBack(priority) => format!("would step back to priority {priority}"),
            Fate::Spared(Spared::Commented) => "would stay: somebody has commented on it".to_owned(),
            Fate::Spared(Spared::Tagged) => "would stay: its build is tagged".to_owned(),
        };
        format!("job {job}, {name} of build {build}, {what}")
    }
}

/// What is to happen, by the first of the new jobs; nothing if that has no build.
pub(super) fn decide(request: &Request, jobs: &[PlannedJob]) -> Option<Obsolete> {
    let deprioritize = match request.old_builds {
        OldBuilds::Stay => return None,
        OldBuilds::Obsolete => None,
        OldBuilds::Deprioritize { limit } => Some(Deprioritize { step: STEP, limit }),
    };
    let first = jobs.first()?;
    first.settings.get("BUILD")?;
    let keys = ["DISTRI", "VERSION", "FLAVOR", "ARCH"].into_iter();
    let keys = keys.chain(request.only_same_build.then_some("BUILD"));
    let matching = keys.filter_map(|key| Some((key.to_owned(), first.settings.get(key)?.to_owned())));
    Some(Obsolete { matching: matching.collect(), deprioritize, ..Obsolete::default() })
}

/// Why `job` stays whatever is posted, if it does.
pub fn spared(job: &OpenJob, tags: &BTreeSet<BuildTag>) -> Option<Spared> {
    if job.commented {
        return Some(Spared::Commented);
    }
    let group = job.group?;
    let (version, build) = (job.get("VERSION"), job.get("BUILD"));
    tags.iter().any(|tag| tag.group == group && tag.is_of(version, build)).then_some(Spared::Tagged)
}

/// What happens to each of the open jobs that are meant; the others are not in the answer.
pub fn fates<'j>(
    obsolete: &Obsolete,
    open: impl IntoIterator<Item = &'j OpenJob>,
    tags: &BTreeSet<BuildTag>,
) -> Vec<OldJob> {
    let meant = |job: &&OpenJob| {
        obsolete.matching.iter().all(|(key, value)| job.get(key) == value)
            && obsolete.except_build.as_deref() != Some(job.get("BUILD"))
    };
    let fate = |job: &OpenJob| {
        if let Some(why) = spared(job, tags) {
            return Fate::Spared(why);
        }
        match obsolete.deprioritize {
            Some(Deprioritize { step, limit }) if job.priority.saturating_add(step) <= limit => {
                Fate::StepsBack(job.priority.saturating_add(step))
            }
            _ => Fate::Obsoleted,
        }
    };
    let told = |job: &OpenJob| OldJob {
        job: job.job,
        name: super::label(job.get("TEST"), job.get("MACHINE")),
        build: job.get("BUILD").to_owned(),
        fate: fate(job),
    };
    open.into_iter().filter(meant).map(told).collect()
}
