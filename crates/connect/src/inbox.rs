//! How events are handed over: stored with their keys before the cursor moves.

use assay_engine::gate::ids::{BranchName, ChangeId, Oid, ProjectName};
use assay_engine::gate::io::Event;
use assay_engine::ids::Timestamp;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a source stores what arrives.
#[async_trait]
pub trait Inbox: Send + Sync {
    /// Stores the arrivals whose key is not stored yet and, with or after them and never before, the cursor, then the
    /// tips. Comes back when they are durable. On an error the source offers the same batch again.
    async fn store(&self, batch: &Batch) -> Result<(), InboxError>;
}

/// The inbox could not store a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the inbox cannot store events: {0}")]
pub struct InboxError(pub String);

/// What arrived, and how far the source has got with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// In the order of arrival.
    pub arrivals: Vec<Arrival>,
    /// Replaces the stored cursor, if there is one.
    pub cursor: Option<Cursor>,
    /// Replaces the stored tips, if there are some.
    pub tips: Option<Tips>,
}

/// How far a source has been read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Everything that was known outside up to here is in the inbox. Our own clock's time.
    pub since: Timestamp,
    /// Keys of what arrived shortly before, by which it is recognised when it is found again.
    pub recent: Vec<String>,
    /// How far the other clock is ahead of ours, in microseconds, as far as can be seen.
    #[serde(default)]
    pub ahead_us: Option<i64>,
}

impl Cursor {
    /// For storing.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What was stored.
    pub fn from_text(text: &str) -> Result<Self, InboxError> {
        serde_json::from_str(text)
            .map_err(|error| InboxError(format!("the stored cursor is unreadable: {error}")))
    }
}

/// Where branches and tags stood when they were seen last.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tips(pub BTreeMap<ProjectName, BTreeMap<BranchName, Oid>>);

impl Tips {
    /// For storing.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What was stored.
    pub fn from_text(text: &str) -> Result<Self, InboxError> {
        serde_json::from_str(text)
            .map_err(|error| InboxError(format!("the stored tips are unreadable: {error}")))
    }

    /// Where a branch stood.
    pub fn tip(&self, project: &ProjectName, name: &BranchName) -> Option<&Oid> {
        self.0.get(project)?.get(name)
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// The same for the same thing, however often it arrives.
    pub key: String,
    /// When it arrived here.
    pub at: Timestamp,
    /// What.
    pub news: News,
    /// A patchset that has just been made, if this is about one: what can be fetched before anybody asks for it.
    #[serde(default)]
    pub made: Option<MadePatchset>,
}

/// Where a new patchset is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadePatchset {
    /// Its project.
    pub project: ProjectName,
    /// Its commit.
    pub revision: Oid,
    /// Where it is fetched from.
    pub fetch_ref: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "news", rename_all = "snake_case")]
pub enum News {
    /// Something that can let changes into pipelines. Its facts are not filled in yet.
    Event(Box<Event>),
    /// Something about a change is different: a vote taken back, its topic, its readiness. Its facts must be read again.
    Changed(ChangeId),
}

impl News {
    /// The change concerned.
    pub fn change(&self) -> Option<&ChangeId> {
        match self {
            Self::Event(event) => event.change.as_ref().map(|patchset| &patchset.change),
            Self::Changed(change) => Some(change),
        }
    }
}

/// What the inbox knows when a source starts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Start {
    /// The stored cursor; `None` the first time: then history begins now.
    pub cursor: Option<Cursor>,
    /// The stored tips.
    pub tips: Tips,
}
