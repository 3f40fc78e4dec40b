//! Jobs side by side: the matrix of a build, and the history of a scenario.
//!
//! | request | answer |
//! |---|---|
//! | `GET overview?…` with the parameters of `/tests/overview` | [`Overview`] |
//! | `GET jobs/ID/history?previous_limit=&next_limit=&history_result=` | [`ScenarioHistory`] |

use super::groups::BuildCounts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A job of the matrix: the newest of its scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverviewJob {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// `DISTRI`.
    pub distri: Option<String>,
    /// `VERSION`.
    pub version: Option<String>,
    /// `BUILD`.
    pub build: Option<String>,
    /// `FLAVOR`; with the architecture the column.
    pub flavor: Option<String>,
    /// `ARCH`.
    pub arch: Option<String>,
    /// `TEST`; with the machine the row.
    pub test: Option<String>,
    /// `MACHINE`.
    pub machine: Option<String>,
    /// Its group.
    pub group_id: Option<i64>,
    /// openQA's word.
    pub state: String,
    /// openQA's word; `none` until it has ended.
    pub result: String,
    /// Why it ended as it did.
    pub reason: Option<String>,
    /// The bugs that comments on it name, with their addresses.
    pub bugs: BTreeMap<String, String>,
    /// The labels that comments on it give.
    pub labels: Vec<String>,
    /// How many comments there are.
    pub comments: usize,
}

/// The newest job of each scenario of a build, as far as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// Which builds; if none was asked for, the newest.
    pub build: Vec<String>,
    /// What all jobs of the build are that have a place in the matrix, whether their result is wanted or not.
    pub counts: BuildCounts,
    /// The newest first.
    pub jobs: Vec<OverviewJob>,
    /// Not everything was looked at: there is more than one matrix holds.
    pub limit_exceeded: bool,
}

/// A job of a scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScenarioJob {
    /// Its number.
    pub id: i64,
    /// `BUILD`.
    pub build: Option<String>,
    /// openQA's word.
    pub state: String,
    /// openQA's word; `none` until it has ended.
    pub result: String,
    /// Why it ended as it did.
    pub reason: Option<String>,
    /// When it was posted.
    pub created: String,
}

/// The jobs of a scenario around one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScenarioHistory {
    /// The newest first; the job itself is among them.
    pub jobs: Vec<ScenarioJob>,
    /// The next newer one.
    pub next: Option<i64>,
    /// The next older one.
    pub previous: Option<i64>,
    /// The newest of all that are wanted.
    pub newest: Option<i64>,
    /// There are newer ones than those that are told.
    pub more_newer: bool,
    /// There are older ones.
    pub more_older: bool,
}
