//! The statement: what a receipt says.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::envelope::PAYLOAD_TYPE;
use super::key::Signer;

/// in-toto's type of a statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// The type of our predicate. Fields may be added to it; a field that changes its meaning makes a new type.
pub const PREDICATE_TYPE: &str = "https://assay.dev/receipt/v1";

/// Everything that is known about a landing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The server that landed it.
    pub server: Server,
    /// The project.
    pub project: String,
    /// The branch, without `refs/heads/`.
    pub branch: String,
    /// The item of the gate.
    pub item: String,
    /// The changes that landed in this project and branch, in their order.
    pub changes: Vec<Change>,
    /// What the tested state was built on: the branch, or the state of the item ahead.
    pub base: Point,
    /// What the jobs ran on.
    pub tested: Point,
    /// The tip of the branch afterwards; the receipt is about this commit.
    pub landed: Point,
    /// The tip of the branch before.
    pub predecessor: Point,
    /// How it landed.
    pub way: Way,
    /// How the changes were merged, in the gate's or Gerrit's word for it.
    pub mode: String,
    /// The pipeline.
    pub pipeline: String,
    /// The change queue.
    pub queue: String,
    /// Hash of the configuration under which the decision was made.
    pub policy: String,
    /// The jobs that were required, and those that only advised.
    pub jobs: Vec<Job>,
    /// The approvals that let the changes in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
    /// Failed jobs that somebody took the responsibility for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waivers: Vec<Waiver>,
    /// When it happened.
    pub times: Times,
    /// The other projects and branches of the same item, which landed with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
}

/// The server that landed a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its address, or its name.
    pub id: String,
    /// Assay's version.
    pub version: String,
}

/// A change in the patchset that landed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Its number.
    pub number: u64,
    /// The patchset.
    pub patchset: u32,
    /// The patchset's commit.
    pub revision: ObjectId,
    /// Gerrit's Change-Id.
    pub change_id: String,
    /// Its project.
    pub project: String,
    /// Its branch, without `refs/heads/`.
    pub branch: String,
}

/// A commit and its tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// The commit.
    pub commit: ObjectId,
    /// Its tree.
    pub tree: ObjectId,
}

/// How a change landed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Way {
    /// Assay pushed the tested commit itself, expecting the old tip.
    Push,
    /// The review system merged that revision; the tree was compared afterwards.
    Submit,
    /// A word of a later version; such a receipt is not accepted.
    Other(String),
}

/// A job of the item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Its name.
    pub name: String,
    /// 32 hexadecimal digits.
    pub uuid: String,
    /// `passed`, `softfailed`, `failed` or another outcome.
    pub outcome: String,
    /// False if it only advises.
    pub voting: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// Its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_url: Option<String>,
    /// The tree of the project and branch that it ran on.
    pub tree: ObjectId,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// The earlier run on the same tree whose result this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reused_from: Option<ReusedFrom>,
}

/// An earlier run of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReusedFrom {
    /// The job's uuid.
    pub uuid: String,
    /// The item it ran for.
    pub item: String,
}

/// A vote that was needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The change.
    pub change: u64,
    /// The patchset it was given to.
    pub patchset: u32,
    /// The label.
    pub label: String,
    /// The value.
    pub value: i32,
    /// Who gave it.
    pub by: String,
}

/// A failed job that did not stop the landing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiver {
    /// The job.
    pub job: String,
    /// Who answers for it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Until when it counted, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

/// When things happened, RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// The item entered the queue.
    pub enqueued: String,
    /// All its jobs had ended.
    pub decided: String,
    /// The branch was seen to have moved.
    pub landed: String,
}

/// Another project and branch of the same item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The project.
    pub project: String,
    /// The branch, without `refs/heads/`.
    pub branch: String,
    /// Its tested state.
    pub tested: Point,
    /// Its tip afterwards, if it landed before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landed: Option<Point>,
}

/// The statement around a receipt, as in-toto has it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Statement<P> {
    #[serde(rename = "_type")]
    pub(super) kind: String,
    pub(super) subject: Vec<Subject>,
    pub(super) predicate_type: String,
    pub(super) predicate: P,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Subject {
    pub(super) name: String,
    /// `gitCommit` and `gitTree`.
    pub(super) digest: BTreeMap<String, String>,
}

/// The name of a landing's subject.
pub fn subject_name(project: &str, branch: &str) -> String {
    format!("{project}@refs/heads/{branch}")
}

impl Receipt {
    /// The bytes that are signed and stored: the statement as JSON without white space, fields in the order of their
    /// declaration. They are never made anew from what was read.
    pub fn payload(&self) -> Vec<u8> {
        let digest = [
            ("gitCommit".to_owned(), self.landed.commit.to_string()),
            ("gitTree".to_owned(), self.landed.tree.to_string()),
        ];
        let statement = Statement {
            kind: STATEMENT_TYPE.into(),
            subject: vec![Subject { name: subject_name(&self.project, &self.branch), digest: digest.into() }],
            predicate_type: PREDICATE_TYPE.into(),
            predicate: self,
        };
        // Strings, numbers and lists only: there is nothing that JSON could refuse.
        serde_json::to_vec(&statement).unwrap_or_default()
    }

    /// The signed receipt, as it is stored.
    pub fn sign(&self, signer: &Signer) -> Vec<u8> {
        signer.sign(PAYLOAD_TYPE, &self.payload()).to_bytes()
    }
}

impl From<String> for Way {
    fn from(word: String) -> Self {
        match word.as_str() {
            "push" => Self::Push,
            "submit" => Self::Submit,
            _ => Self::Other(word),
        }
    }
}

impl From<Way> for String {
    fn from(way: Way) -> Self {
        match way {
            Way::Push => "push".into(),
            Way::Submit => "submit".into(),
            Way::Other(word) => word,
        }
    }
}

/// The name of a git object: 40 (SHA-1) or 64 (SHA-256) hexadecimal digits in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectId(String);

/// A text that is not the name of a git object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an object id; write all 40 or 64 hexadecimal digits in lower case")]
pub struct ObjectIdError(String);

impl ObjectId {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ObjectId {
    type Error = ObjectIdError;

    fn try_from(text: String) -> Result<Self, ObjectIdError> {
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if digits && matches!(text.len(), 40 | 64) {
            Ok(Self(text))
        } else {
            Err(ObjectIdError(text.chars().take(80).collect()))
        }
    }
}

impl std::str::FromStr for ObjectId {
    type Err = ObjectIdError;

    fn from_str(text: &str) -> Result<Self, ObjectIdError> {
        text.to_owned().try_into()
    }
}

impl From<ObjectId> for String {
    fn from(id: ObjectId) -> Self {
        id.0
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
