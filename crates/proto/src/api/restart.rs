//! Starting jobs anew, and their priority.

use assay_engine::ids::JobId;
use assay_engine::sched::restart::{RestartOptions, RestartPlan};
use serde::{Deserialize, Serialize};

/// Body of `POST jobs/restart`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartJobs {
    /// The jobs to start anew.
    pub jobs: Vec<JobId>,
    /// How.
    #[serde(default)]
    pub options: RestartOptions,
    /// What is said about those of the jobs that are started anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// What a restart does or has done, for each job with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// False for a plan.
    pub done: bool,
    /// The jobs that are cloned.
    pub clones: Vec<Cloned>,
    /// The jobs that stay as they are.
    pub stays: Vec<Stays>,
    /// The jobs that end, because a clone takes their place.
    pub ends: Vec<Ends>,
    /// Jobs of the request that were started anew before: nothing is done again.
    pub exists: Vec<Exists>,
    /// What may keep the clones from passing, as sentences: files that are not here.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// A job that is cloned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cloned {
    /// Its number.
    pub job: JobId,
    /// For example `install@64bit`.
    pub label: String,
    /// Why, as a clause.
    pub why: String,
    /// The clone, once it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clone: Option<JobId>,
}

/// A job that stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stays {
    /// Its number.
    pub job: JobId,
    /// For example `install@64bit`.
    pub label: String,
    /// Why, as a clause.
    pub why: String,
}

/// A job that ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// Its number.
    pub job: JobId,
    /// For example `install@64bit`.
    pub label: String,
    /// openQA's word for how.
    pub result: String,
}

/// A job that was started anew before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exists {
    /// Its number.
    pub job: JobId,
    /// Its newest clone.
    pub clone: JobId,
}

impl Restart {
    /// A plan, or what it has come to.
    pub fn new(plan: RestartPlan, done: bool) -> Self {
        let clones = plan.clones.into_iter().map(|clone| Cloned {
            why: clone.why(),
            job: clone.job.job,
            label: clone.job.label,
            clone: clone.clone,
        });
        let stays = plan.stays.into_iter().map(|stay| Stays {
            job: stay.job.job,
            label: stay.job.label,
            why: stay.why.to_string(),
        });
        let ends = plan.ends.into_iter().map(|end| Ends {
            job: end.job.job,
            label: end.job.label,
            result: end.outcome.openqa().to_owned(),
        });
        Self {
            done,
            clones: clones.collect(),
            stays: stays.collect(),
            ends: ends.collect(),
            exists: plan.exists.into_iter().map(|(job, clone)| Exists { job, clone }).collect(),
            warnings: Vec::new(),
        }
    }
}

/// Body of `POST jobs/{id}/priority`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPriority {
    /// Lower is earlier.
    pub priority: i32,
}
