//! Posts of products: what they come to, and what was posted before.

use super::PostedJob;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A product to be posted, or only planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostProduct {
    /// Settings and flags: `DISTRI`, `VERSION`, `FLAVOR`, `ARCH`, `BUILD`, `_OBSOLETE`, …
    pub settings: BTreeMap<String, String>,
    /// Scenario definitions (`JobScenarios-01.yaml`) in the place of the server's templates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenarios: Option<super::templates::TemplateFile>,
}

/// Something that is to be said about a job: why it was not made, or what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// For example `install@64bit`.
    pub job: String,
    /// One sentence each.
    pub why: Vec<String>,
    /// Whether the job was made all the same, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<bool>,
}

/// What a post came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductPosted {
    /// The number of the post.
    pub id: i64,
    /// The jobs, parents first.
    pub jobs: Vec<PostedJob>,
    /// The jobs of older builds that were ended, or have stepped back.
    #[serde(default)]
    pub obsoleted: Vec<i64>,
    /// What could not be made, or not as it was meant.
    pub failed: Vec<Remark>,
    /// What was not asked for.
    pub left_out: Vec<Remark>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// A post in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductRun {
    /// Its number.
    pub id: i64,
    /// When.
    pub posted: String,
    /// Who.
    pub by: String,
    /// What was asked for, secrets covered.
    pub settings: BTreeMap<String, String>,
    /// The jobs that were made.
    pub jobs: Vec<i64>,
    /// The jobs of older builds that were ended for it, or have stepped back.
    pub obsoleted: Vec<i64>,
    /// What could not be made, or not as it was meant.
    pub failed: Vec<Remark>,
    /// What was not asked for.
    pub left_out: Vec<Remark>,
    /// Why nothing at all was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What somebody has written beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Who has cancelled it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_by: Option<String>,
}

/// A job of a post as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductJob {
    /// Its number; of one that was started anew the newest clone's.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The state in one word, for example `running`.
    pub state: String,
    /// The result in openQA's words; `none` until it has ended.
    pub result: String,
}

/// Answer to `GET products/{id}/jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductJobs {
    /// The oldest first.
    pub jobs: Vec<ProductJob>,
}

/// Something for people beside a post.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProductNote {
    /// The text; empty takes it away.
    pub note: String,
}

/// What cancelling a post came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductCancelled {
    /// How many of its jobs had not ended.
    pub cancelled: usize,
}

/// Answer to `GET products`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductRuns {
    /// The newest first.
    pub products: Vec<ProductRun>,
}
