//! A job's life: states with data, transitions that may refuse, and openQA's words for them.

use crate::ids::{FencingToken, Timestamp, WorkerName};
use crate::outcome::{Outcome, OutcomeClass};
use crate::reason::EndReason;
use crate::work::{Phase, Report};
use serde::{Deserialize, Serialize};

/// Where a job is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum JobState {
    /// Waits for a worker; why is in the [`crate::rows::QueueRow`] of its classes.
    Scheduled {
        /// The number that the next attempt will have.
        attempt: u32,
        /// The worker that lost the attempt before; another one is preferred.
        lost_on: Option<WorkerName>,
    },
    /// A worker has it.
    Active(Active),
    /// An attempt ended it. Final.
    Done(End),
    /// Cancelled while no worker had it. Final.
    Cancelled(End),
}

/// A job that a worker has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// The attempt's number.
    pub attempt: u32,
    /// The attempt's token.
    pub token: FencingToken,
    /// How far it has come.
    pub phase: Phase,
    /// Set once it is to end early; the worker is stopping it.
    #[serde(alias = "cancelled_by")]
    pub stopping: Option<Stopping>,
}

/// How a job will end whose worker is stopping it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredStopping")]
pub struct Stopping {
    /// The result.
    pub outcome: Outcome,
    /// Why.
    pub reason: EndReason,
}

/// Rows of older versions have the name of who cancelled.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredStopping {
    By(String),
    Full { outcome: Outcome, reason: EndReason },
}

impl From<StoredStopping> for Stopping {
    fn from(stored: StoredStopping) -> Self {
        match stored {
            StoredStopping::By(by) => Self::cancelled(by),
            StoredStopping::Full { outcome, reason } => Self { outcome, reason },
        }
    }
}

impl Stopping {
    /// A person cancels.
    pub fn cancelled(by: impl Into<String>) -> Self {
        Self { outcome: Outcome::UserCancelled, reason: EndReason::Cancelled { by: by.into() } }
    }

    /// Who or what stops it, as the end of "cancelled by …".
    pub fn by(&self) -> String {
        match &self.reason {
            EndReason::Cancelled { by } => by.clone(),
            reason => format!("the server ({reason})"),
        }
    }

    fn end(self, at: Timestamp) -> End {
        End::with(self.outcome, self.reason, at)
    }
}

/// The next try at a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Its number.
    pub attempt: u32,
    /// Who lost the one before.
    pub lost_on: WorkerName,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The result.
    pub outcome: Outcome,
    /// Who has to look at it.
    pub class: OutcomeClass,
    /// Why.
    pub reason: EndReason,
    /// When.
    pub at: Timestamp,
}

/// The state in one word, for lists and filters. The words are openQA's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateWord {
    /// Waits for a worker.
    Scheduled,
    /// A worker was chosen and has not answered.
    Assigned,
    /// The worker prepares.
    Setup,
    /// The machine runs.
    Running,
    /// The worker sends the last results.
    Uploading,
    /// Ended.
    Done,
    /// Cancelled before a worker had it.
    Cancelled,
}

impl StateWord {
    /// Every word, in the order of a job's life.
    pub const ALL: [Self; 7] = [
        Self::Scheduled,
        Self::Assigned,
        Self::Setup,
        Self::Running,
        Self::Uploading,
        Self::Done,
        Self::Cancelled,
    ];

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Assigned => "assigned",
            Self::Setup => "setup",
            Self::Running => "running",
            Self::Uploading => "uploading",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state that `word` names.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }

    /// The states that one of openQA's words means: one of them, or a group of them.
    pub fn meant_by(word: &str) -> Vec<Self> {
        let fits: fn(Self) -> bool = match word {
            "pre_execution" => |state| state == Self::Scheduled,
            "pristine" => |state| matches!(state, Self::Scheduled | Self::Assigned),
            "execution" => |state| !state.is_final() && state != Self::Scheduled,
            "pending" => |state| !state.is_final(),
            "final" => Self::is_final,
            _ => return Self::from_word(word).into_iter().collect(),
        };
        Self::ALL.into_iter().filter(|state| fits(*state)).collect()
    }

    /// True if nothing will change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled)
    }
}

/// A transition that the state does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {} cannot {what}", from.word())]
pub struct IllegalTransition {
    /// The state it is in.
    pub from: StateWord,
    /// What was asked.
    pub what: &'static str,
}

impl JobState {
    /// The state in one word.
    pub fn word(&self) -> StateWord {
        match self {
            Self::Scheduled { .. } => StateWord::Scheduled,
            Self::Active(active) => match active.phase {
                Phase::Assigned => StateWord::Assigned,
                Phase::Setup => StateWord::Setup,
                Phase::Running => StateWord::Running,
                Phase::Uploading => StateWord::Uploading,
            },
            Self::Done(_) => StateWord::Done,
            Self::Cancelled(_) => StateWord::Cancelled,
        }
    }

    /// The state as openQA's API tells it: there a job is `cancelled` as soon as somebody cancels it, and becomes
    /// `done` when its worker has stopped.
    pub fn openqa_state(&self) -> &'static str {
        match self {
            Self::Active(Active { stopping: Some(_), .. }) => StateWord::Cancelled.word(),
            other => other.word().word(),
        }
    }

    /// The result as openQA's API tells it; `none` until there is one.
    pub fn openqa_result(&self) -> &'static str {
        match self {
            Self::Scheduled { .. } | Self::Active(Active { stopping: None, .. }) => "none",
            Self::Active(Active { stopping: Some(stopping), .. }) => stopping.outcome.openqa(),
            Self::Done(end) | Self::Cancelled(end) => end.outcome.openqa(),
        }
    }

    /// How it ended, once it has.
    pub fn end(&self) -> Option<&End> {
        match self {
            Self::Scheduled { .. } | Self::Active(_) => None,
            Self::Done(end) | Self::Cancelled(end) => Some(end),
        }
    }

    /// True if nothing will change any more.
    pub fn is_final(&self) -> bool {
        self.end().is_some()
    }

    /// The number of the attempt that runs or will run next; none once it has ended.
    pub fn attempt_number(&self) -> Option<u32> {
        match self {
            Self::Scheduled { attempt, .. } => Some(*attempt),
            Self::Active(active) => Some(active.attempt),
            Self::Done(_) | Self::Cancelled(_) => None,
        }
    }

    /// A worker gets it.
    pub fn assign(self, token: FencingToken) -> Result<Self, IllegalTransition> {
        match self {
            Self::Scheduled { attempt, .. } => {
                Ok(Self::Active(Active { attempt, token, phase: Phase::Assigned, stopping: None }))
            }
            other => Err(other.refuse("be assigned")),
        }
    }

    /// Its worker has come to `phase`; an earlier phase than the present one is refused.
    pub fn advance(self, phase: Phase) -> Result<Self, IllegalTransition> {
        match self {
            Self::Active(active) if active.phase < phase => Ok(Self::Active(Active { phase, ..active })),
            other => Err(other.refuse("advance to an earlier or the same phase")),
        }
    }

    /// It is to end early: it ends at once if no worker has it, else the worker has to stop it first.
    pub fn stop(self, stopping: Stopping, at: Timestamp) -> Result<Self, IllegalTransition> {
        match self {
            Self::Scheduled { .. } => Ok(Self::Cancelled(stopping.end(at))),
            Self::Active(active) if active.stopping.is_none() => {
                Ok(Self::Active(Active { stopping: Some(stopping), ..active }))
            }
            other => Err(other.refuse("be cancelled")),
        }
    }

    /// Its worker reports the end. What was cancelled ends as cancelled, whatever the worker found.
    pub fn finish(self, report: &Report, at: Timestamp) -> Result<Self, IllegalTransition> {
        match self {
            Self::Active(Active { stopping: Some(stopping), .. }) => Ok(Self::Done(stopping.end(at))),
            Self::Active(_) => {
                let reason = EndReason::Reported { text: report.reason.clone() };
                Ok(Self::Done(End { outcome: report.outcome, class: report.class, reason, at }))
            }
            other => Err(other.refuse("be finished by a worker")),
        }
    }

    /// Its attempt ends without a report: back to the queue as `retry`, or to the end for `reason`.
    pub fn lose(
        self,
        retry: Option<Retry>,
        reason: EndReason,
        at: Timestamp,
    ) -> Result<Self, IllegalTransition> {
        match (self, retry) {
            (Self::Active(Active { stopping: None, .. }), Some(Retry { attempt, lost_on })) => {
                Ok(Self::Scheduled { attempt, lost_on: Some(lost_on) })
            }
            (Self::Active(Active { stopping: Some(stopping), .. }), _) => {
                let reason = match reason {
                    ignored @ EndReason::CancelIgnored { .. } => ignored,
                    _ => stopping.reason,
                };
                Ok(Self::Done(End::with(stopping.outcome, reason, at)))
            }
            (Self::Active(_), None) => Ok(Self::Done(End::with(Outcome::Incomplete, reason, at))),
            (other, _) => Err(other.refuse("be lost")),
        }
    }

    fn refuse(&self, what: &'static str) -> IllegalTransition {
        IllegalTransition { from: self.word(), what }
    }
}

impl End {
    /// The reason in one sentence; none for what passed without a word.
    pub fn text(&self) -> Option<String> {
        match &self.reason {
            EndReason::Reported { text: None } if self.outcome == Outcome::Passed => None,
            reason => Some(reason.to_string()),
        }
    }

    /// An end with the outcome's own class.
    pub fn with(outcome: Outcome, reason: EndReason, at: Timestamp) -> Self {
        Self { outcome, class: outcome.class(), reason, at }
    }
}
