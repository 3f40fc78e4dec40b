//! What became of a job, and the total tables to other systems' words.

use serde::{Deserialize, Serialize};

/// How an attempt or a job ended. The words are openQA's (its `result` column).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every important module passed.
    Passed,
    /// Passed, with a known workaround or a recorded soft failure.
    Softfailed,
    /// An important module failed.
    Failed,
    /// The test could not be carried out: machine, worker, or set-up.
    Incomplete,
    /// `MAX_JOB_TIME` or `MAX_SETUP_TIME` ran out.
    TimeoutExceeded,
    /// A person cancelled it.
    UserCancelled,
    /// It never began: a job that it depends on did not pass, or it was part of what was started anew.
    Skipped,
    /// A newer build took its place.
    Obsoleted,
    /// It was stopped because a job beside it did not pass.
    ParallelFailed,
    /// It was stopped because a job beside it was started anew.
    ParallelRestarted,
    /// It was stopped because a person started it anew.
    UserRestarted,
}

/// Who has to look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeClass {
    /// The thing under test is good, or is not.
    Product,
    /// The test itself is wrong.
    Test,
    /// Machines, workers, network, disks.
    Infrastructure,
    /// A person or a rule decided.
    Policy,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 11] = [
        Self::Passed,
        Self::Softfailed,
        Self::Failed,
        Self::Incomplete,
        Self::TimeoutExceeded,
        Self::UserCancelled,
        Self::Skipped,
        Self::Obsoleted,
        Self::ParallelFailed,
        Self::ParallelRestarted,
        Self::UserRestarted,
    ];

    /// The outcome that openQA calls `word`.
    pub fn from_openqa(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.openqa() == word)
    }

    /// The outcomes that one of openQA's words means: one of them, or a class of them.
    pub fn meant_by(word: &str) -> Vec<Self> {
        let fits: fn(Self) -> bool = match word {
            "ok" => Self::is_ok,
            "not_ok" => |outcome| !outcome.is_ok(),
            "complete" => Self::is_verdict,
            "not_complete" => |outcome| !outcome.is_verdict() && !outcome.is_aborted(),
            "aborted" => Self::is_aborted,
            _ => return Self::from_openqa(word).into_iter().collect(),
        };
        Self::ALL.into_iter().filter(|outcome| fits(*outcome)).collect()
    }

    /// The default class of this outcome; a cause that is known better (a broken test) overrides it.
    pub fn class(self) -> OutcomeClass {
        match self {
            Self::Passed | Self::Softfailed | Self::Failed => OutcomeClass::Product,
            Self::TimeoutExceeded => OutcomeClass::Test,
            Self::Incomplete => OutcomeClass::Infrastructure,
            Self::UserCancelled
            | Self::Skipped
            | Self::Obsoleted
            | Self::ParallelFailed
            | Self::ParallelRestarted
            | Self::UserRestarted => OutcomeClass::Policy,
        }
    }

    /// openQA's word for it.
    pub fn openqa(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Softfailed => "softfailed",
            Self::Failed => "failed",
            Self::Incomplete => "incomplete",
            Self::TimeoutExceeded => "timeout_exceeded",
            Self::UserCancelled => "user_cancelled",
            Self::Skipped => "skipped",
            Self::Obsoleted => "obsoleted",
            Self::ParallelFailed => "parallel_failed",
            Self::ParallelRestarted => "parallel_restarted",
            Self::UserRestarted => "user_restarted",
        }
    }

    /// True if somebody or something stopped it or kept it from starting, so that it says nothing of the product.
    pub fn is_aborted(self) -> bool {
        self.class() == OutcomeClass::Policy
    }

    /// True for passed and softfailed.
    pub fn is_ok(self) -> bool {
        matches!(self, Self::Passed | Self::Softfailed)
    }

    /// True if the test itself came to it, and so has begun.
    pub fn is_verdict(self) -> bool {
        self.is_ok() || self == Self::Failed
    }
}

impl OutcomeClass {
    /// Every class.
    pub const ALL: [Self; 4] = [Self::Product, Self::Test, Self::Infrastructure, Self::Policy];

    /// The word that is stored and shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Test => "test",
            Self::Infrastructure => "infrastructure",
            Self::Policy => "policy",
        }
    }
}
