//! Bugs that comments name: programs beside the server ask for those that are worth a look, and say what they found.
//!
//! | request | body → answer | role |
//! |---|---|---|
//! | `GET bugs?refreshable=&delta=&created_since=&limit=&offset=`, `GET bugs/ID` | → [`BugList`], [`Bug`] | |
//! | `POST bugs` | [`BugFacts`] → [`Bug`] | operator |
//! | `PATCH bugs/ID` | [`BugFacts`] → [`Bug`]; what is not said stays, `null` takes away | operator |
//! | `DELETE bugs/ID` | → [`Deleted`](super::Deleted) | operator |

use serde::{Deserialize, Serialize};

/// What is known of a bug.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BugFacts {
    /// For example `boo#1`; a new bug must have it, and it never changes.
    #[serde(default)]
    pub bugid: String,
    /// In one line.
    pub title: Option<String>,
    /// The tracker's word.
    pub priority: Option<String>,
    /// Whether somebody works on it.
    pub assigned: Option<bool>,
    /// Who.
    pub assignee: Option<String>,
    /// Whether it is open.
    pub open: Option<bool>,
    /// The tracker's word.
    pub status: Option<String>,
    /// The tracker's word.
    pub resolution: Option<String>,
    /// False if the tracker does not know it; true unless given.
    pub existing: Option<bool>,
    /// True once the tracker was asked.
    pub refreshed: Option<bool>,
}

/// A bug.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bug {
    /// Its number here.
    pub id: i64,
    /// Where it is, if its tracker is known.
    pub url: Option<String>,
    /// What is known of it.
    pub facts: BugFacts,
    /// When it was first named.
    pub created: String,
    /// When something was last found out about it.
    pub updated: String,
}

/// Bugs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BugList {
    /// By number.
    pub bugs: Vec<Bug>,
    /// There are more; ask with a greater `offset`.
    pub more: bool,
}
