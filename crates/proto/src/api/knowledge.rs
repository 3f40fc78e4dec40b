//! What changed since a scenario last passed, who did what, and needles made from a screen.
//!
//! | request | body → answer | role |
//! |---|---|---|
//! | `GET jobs/ID/investigation?against=` | → [`Investigation`] | |
//! | `GET audit?user=&event=&q=&before=&limit=` | → [`AuditList`] | operator |
//! | `POST jobs/ID/needles/preview` | [`NeedleDraft`] → [`NeedlePreview`] | operator |
//! | `POST jobs/ID/needles` | [`NeedleDraft`] → [`SavedNeedle`] | operator |

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A job in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRef {
    /// Its number.
    pub id: i64,
    /// Its result.
    pub result: String,
    /// `BUILD`.
    pub build: Option<String>,
    /// When it ended, RFC 3339.
    pub finished: Option<String>,
}

/// What is not the same: what it was and what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Of what.
    pub name: String,
    /// In the last good job; `None` if it was not there.
    pub before: Option<String>,
    /// In the job that is compared with it; `None` if it is not there any more.
    pub after: Option<String>,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Its number, hex.
    pub id: String,
    /// Who wrote it.
    pub author: String,
    /// When, RFC 3339.
    pub at: String,
    /// The first line of its message.
    pub subject: String,
    /// The files that it changed.
    pub files: Vec<String>,
}

/// What came in between two commits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CommitLog {
    /// The newest first.
    pub commits: Vec<Commit>,
    /// Why they are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

/// What changed since a job's scenario last passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Investigation {
    /// The job.
    pub job: JobRef,
    /// The newest job before it that passed; without one nothing is compared.
    pub last_good: Option<JobRef>,
    /// The oldest job after that which did not.
    pub first_bad: Option<JobRef>,
    /// What the last good job is compared with: the job itself, or the first bad one if that was asked for.
    pub compared: JobRef,
    /// What may be the cause, the likeliest first.
    pub suspects: Vec<String>,
    /// Settings that differ; values of secrets are covered.
    pub settings: Vec<Difference>,
    /// What was recorded of tests and needles, where it differs.
    pub tests: Vec<Difference>,
    /// Files that differ, by the setting that names them.
    pub assets: Vec<Difference>,
    /// Host and programs that differ.
    pub environment: Vec<Difference>,
    /// Commits that changed tests.
    pub tests_log: CommitLog,
    /// Commits that changed needles.
    pub needles_log: CommitLog,
}

/// Something that somebody did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// Grows with every event.
    pub id: i64,
    /// When, RFC 3339.
    pub at: String,
    /// Who; empty for the server itself.
    pub user: String,
    /// openQA's word for it, for example `iso_create`.
    pub event: String,
    /// More about it.
    pub data: Value,
}

/// What was done, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditList {
    /// The events.
    pub events: Vec<AuditEvent>,
    /// Ask with this as `before` for the next page, if there may be one.
    pub next_before: Option<i64>,
}

/// A needle that is being made from the screen of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeedleDraft {
    /// SHA-256 of the picture, hex: one that the job has.
    pub screenshot: String,
    /// The file name without `.json`.
    #[serde(default)]
    pub name: String,
    /// What tests ask for.
    pub tags: Vec<String>,
    /// Areas as in a needle's file.
    pub area: Vec<Value>,
    /// Properties as in a needle's file.
    #[serde(default)]
    pub properties: Vec<Value>,
    /// For the commit; made from name and job if empty.
    #[serde(default)]
    pub message: String,
    /// A needle of that name may be there.
    #[serde(default)]
    pub overwrite: bool,
}

/// How a draft fits a screen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScreenMatch {
    /// The screen's job.
    pub job: i64,
    /// Its module.
    pub module: String,
    /// The step.
    pub step: u32,
    /// SHA-256 of the picture, hex.
    pub screenshot: String,
    /// Every area reaches its level.
    pub matched: bool,
    /// 0 to 1; as openQA shows it.
    pub similarity: f64,
    /// The match areas where they fit best: x, y, width, height, similarity, ok.
    pub areas: Vec<(u32, u32, u32, u32, f64, bool)>,
    /// What the step asked for, if it looked for something.
    pub tags: Vec<String>,
    /// Whether the step itself found what it looked for.
    pub found: bool,
}

/// How a draft fits this screen and the last ones of the scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeedlePreview {
    /// The first is the step's own screen.
    pub screens: Vec<ScreenMatch>,
    /// What is odd with the needle but does no harm.
    pub warnings: Vec<String>,
}

/// A needle that was saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedNeedle {
    /// Its name.
    pub name: String,
    /// Its JSON file, as an absolute path on the server.
    pub file: String,
    /// The commit, hex; `None` if just this needle was there already, or if nothing is committed here.
    pub commit: Option<String>,
    /// A mail for `git am` in place of a commit: the needles are fetched from elsewhere, where this server does not push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
}
