//! What the test of a job asks the server about the other jobs of its cluster: openQA's `lockapi` and `mmapi`.

use crate::ids::JobId;
use crate::locks::{ClusterId, LockAnswer, LockOp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A question. Those that wait are answered when they can be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "question", rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// About a mutex or a barrier.
    Lock {
        /// What.
        lock: LockOp,
    },
    /// It waits no more for the answer to an earlier question. Answers as that one, if that was answered meanwhile.
    GiveUp {
        /// The earlier question's number.
        waits_for: u64,
    },
    /// The jobs that run in parallel with it as its children, and their states.
    Children {},
    /// Those of them that are in a state.
    ChildrenInState {
        /// `scheduled`, `running` or `done`, as openQA counts them.
        state: String,
    },
    /// The jobs that it runs in parallel with as their child.
    Parents {},
    /// Facts of a job.
    JobInfo {
        /// Which.
        job: JobId,
    },
    /// Waits until each of its children has ended.
    WaitForChildren {},
    /// Waits until none of its children has yet to start.
    WaitForChildrenToStart {},
}

/// What a question comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// It is done, or has come to be.
    Yes,
    /// It is not to be had now.
    No,
    /// It will never be.
    Refused {
        /// One sentence.
        why: String,
    },
    /// Jobs and their states.
    Jobs {
        /// In the order of their numbers.
        jobs: Vec<JobInState>,
    },
    /// A job's facts.
    Job {
        /// The facts.
        job: Box<JobInfo>,
    },
}

/// A job and its state in openQA's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobInState {
    /// Its number.
    pub id: JobId,
    /// Its state.
    pub state: String,
}

/// What a test may know of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobInfo {
    /// Its number.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// `TEST`
    pub test: String,
    /// Its state in openQA's word.
    pub state: String,
    /// Its result in openQA's word; `none` before its end.
    pub result: String,
    /// Its settings, secrets left out.
    pub settings: BTreeMap<String, String>,
}

/// A job's place among those that it runs in parallel with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The cluster.
    pub cluster: ClusterId,
    /// The job's number in it, from 0.
    pub number: u16,
}

impl From<LockAnswer> for Reply {
    fn from(answer: LockAnswer) -> Self {
        match answer {
            LockAnswer::Yes => Self::Yes,
            LockAnswer::No => Self::No,
            LockAnswer::Refused { why } => Self::Refused { why },
        }
    }
}
