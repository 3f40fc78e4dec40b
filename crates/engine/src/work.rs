//! What a worker and the server say to each other about an attempt, and the times they agree on.

use crate::ids::{AttemptId, FencingToken};
use crate::outcome::{Outcome, OutcomeClass};
use serde::{Deserialize, Serialize};
use std::fmt;

/// An attempt under its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Held {
    /// Which attempt.
    pub attempt: AttemptId,
    /// The token it was handed out with.
    pub token: FencingToken,
}

/// How far an attempt has come on its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkPhase {
    /// Taken; tests and assets are fetched and checked.
    Setup,
    /// The machine runs.
    Running,
    /// The last logs and pictures go up.
    Uploading,
}

/// How an attempt ended, as its worker says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The verdict.
    pub outcome: Outcome,
    /// Who has to look at it.
    pub class: OutcomeClass,
    /// One sentence; always there unless the outcome is `passed`.
    pub reason: Option<String>,
}

/// How far an attempt has come as the server sees it. Ordered; an attempt never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Handed to the worker, which has not said that it took it.
    Assigned,
    /// See [`WorkPhase::Setup`].
    Setup,
    /// See [`WorkPhase::Running`].
    Running,
    /// See [`WorkPhase::Uploading`].
    Uploading,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 4] = [Self::Assigned, Self::Setup, Self::Running, Self::Uploading];

    /// openQA's state word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Assigned => "assigned",
            Self::Setup => "setup",
            Self::Running => "running",
            Self::Uploading => "uploading",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl From<WorkPhase> for Phase {
    fn from(phase: WorkPhase) -> Self {
        match phase {
            WorkPhase::Setup => Self::Setup,
            WorkPhase::Running => Self::Running,
            WorkPhase::Uploading => Self::Uploading,
        }
    }
}

/// The times and bounds of the worker protocol, microseconds unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long a lease lasts without a sign of life.
    pub lease_us: i64,
    /// How often a worker says that it lives.
    pub heartbeat_us: i64,
    /// How long a worker may take to stop what was cancelled before it is fenced.
    pub cancel_grace_us: i64,
    /// How often a job is tried again after its worker was lost.
    pub lost_retries: u32,
}

impl Default for Timing {
    /// Lease 15 s, heartbeat 3 s, cancellation 60 s, one retry.
    fn default() -> Self {
        Self { lease_us: 15_000_000, heartbeat_us: 3_000_000, cancel_grace_us: 60_000_000, lost_retries: 1 }
    }
}
