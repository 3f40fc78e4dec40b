//! The lines of `gerrit stream-events`.

use super::attributes::WHOLE;
use super::{ApprovalAttr, ChangeAttr, Obj, ParseError, PatchsetAttr, RefUpdateAttr, excerpt, json};
use assay_engine::gate::change::Account;
use assay_engine::ids::Timestamp;
use serde_json::Value;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamEvent {
    /// When Gerrit made it; old versions do not say.
    pub created_on: Option<Timestamp>,
    /// What happened.
    pub what: What,
}

/// What happened. Changes and patchsets are boxed, they are large.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the members have the names of Gerrit's own documentation")]
pub enum What {
    /// `patchset-created`
    PatchsetCreated { change: Box<ChangeAttr>, patchset: Box<PatchsetAttr>, uploader: Account },
    /// `draft-published`
    DraftPublished { change: Box<ChangeAttr>, patchset: Box<PatchsetAttr>, uploader: Account },
    /// `comment-added`; the comment includes what was said on the patchset as a whole.
    CommentAdded {
        change: Box<ChangeAttr>,
        patchset: Box<PatchsetAttr>,
        author: Account,
        approvals: Vec<ApprovalAttr>,
        comment: String,
        patchset_comments: Vec<String>,
    },
    /// `change-merged`
    ChangeMerged {
        change: Box<ChangeAttr>,
        patchset: Box<PatchsetAttr>,
        submitter: Account,
        new_rev: Option<String>,
    },
    /// `change-abandoned`
    ChangeAbandoned {
        change: Box<ChangeAttr>,
        patchset: Option<Box<PatchsetAttr>>,
        abandoner: Account,
        reason: Option<String>,
    },
    /// `change-restored`
    ChangeRestored {
        change: Box<ChangeAttr>,
        patchset: Option<Box<PatchsetAttr>>,
        restorer: Account,
        reason: Option<String>,
    },
    /// `ref-updated`
    RefUpdated { submitter: Account, update: RefUpdateAttr },
    /// `batch-ref-updated`
    BatchRefUpdated { submitter: Account, updates: Vec<RefUpdateAttr> },
    /// `reviewer-added`
    ReviewerAdded { change: Box<ChangeAttr>, reviewer: Account, adder: Account },
    /// `reviewer-deleted`: takes the reviewer's votes along.
    ReviewerDeleted {
        change: Box<ChangeAttr>,
        reviewer: Account,
        remover: Account,
        approvals: Vec<ApprovalAttr>,
        comment: Option<String>,
    },
    /// `vote-deleted`
    VoteDeleted {
        change: Box<ChangeAttr>,
        reviewer: Account,
        remover: Account,
        approvals: Vec<ApprovalAttr>,
        comment: Option<String>,
    },
    /// `topic-changed`
    TopicChanged { change: Box<ChangeAttr>, changer: Account, old_topic: Option<String> },
    /// `hashtags-changed`
    HashtagsChanged {
        change: Box<ChangeAttr>,
        editor: Account,
        added: Vec<String>,
        removed: Vec<String>,
        hashtags: Vec<String>,
    },
    /// `wip-state-changed`
    WipStateChanged { change: Box<ChangeAttr>, changer: Account },
    /// `private-state-changed`
    PrivateStateChanged { change: Box<ChangeAttr>, changer: Account },
    /// `merge-failed` (old versions)
    MergeFailed { change: Box<ChangeAttr>, submitter: Account, reason: Option<String> },
    /// `project-created`
    ProjectCreated { project: String, head: Option<String> },
    /// `project-head-updated`
    ProjectHeadUpdated { project: String, old_head: Option<String>, new_head: Option<String> },
    /// `ref-replicated`, `ref-replication-done` and what else replication tells.
    RefReplicated { project: Option<String>, name: Option<String> },
    /// `dropped-output`: Gerrit threw events away, because we were too slow.
    DroppedOutput,
    /// A type that we do not know, kept as it came.
    Unknown { kind: String, body: Value },
}

impl What {
    /// The change it is about.
    pub fn change(&self) -> Option<&ChangeAttr> {
        match self {
            Self::PatchsetCreated { change, .. }
            | Self::DraftPublished { change, .. }
            | Self::CommentAdded { change, .. }
            | Self::ChangeMerged { change, .. }
            | Self::ChangeAbandoned { change, .. }
            | Self::ChangeRestored { change, .. }
            | Self::ReviewerAdded { change, .. }
            | Self::ReviewerDeleted { change, .. }
            | Self::VoteDeleted { change, .. }
            | Self::TopicChanged { change, .. }
            | Self::HashtagsChanged { change, .. }
            | Self::WipStateChanged { change, .. }
            | Self::PrivateStateChanged { change, .. }
            | Self::MergeFailed { change, .. } => Some(change),
            _ => None,
        }
    }
}

/// Reads a line of the event stream.
pub fn event(line: &str) -> Result<StreamEvent, ParseError> {
    let value = json(line)?;
    let object =
        Obj::of(&value).ok_or_else(|| ParseError::Shape { expected: "an object", line: excerpt(line) })?;
    let kind = object.text("type").ok_or_else(|| ParseError::Missing {
        what: "an event".to_owned(),
        field: "type",
        line: excerpt(line),
    })?;
    let reader = Reader { kind, object, line };
    Ok(StreamEvent { created_on: object.seconds("eventCreatedOn"), what: reader.what(&value)? })
}

/// A line whose type is known.
struct Reader<'a> {
    kind: String,
    object: Obj<'a>,
    line: &'a str,
}

impl Reader<'_> {
    fn missing(&self, field: &'static str) -> ParseError {
        ParseError::Missing { what: self.kind.clone(), field, line: excerpt(self.line) }
    }

    fn change(&self) -> Result<Box<ChangeAttr>, ParseError> {
        let change = self.object.object("change").and_then(ChangeAttr::read);
        change.map(Box::new).ok_or_else(|| self.missing("change"))
    }

    fn patchset(&self) -> Result<Box<PatchsetAttr>, ParseError> {
        let patchset = self.object.object("patchSet").and_then(PatchsetAttr::read);
        patchset.map(Box::new).ok_or_else(|| self.missing("patchSet"))
    }

    fn account(&self, name: &str) -> Account {
        self.object.account(name).unwrap_or_default()
    }

    fn approvals(&self) -> Vec<ApprovalAttr> {
        self.object.objects("approvals").map(ApprovalAttr::read).collect()
    }

    fn what(&self, body: &Value) -> Result<What, ParseError> {
        let object = self.object;
        let reason = || object.text("reason");
        Ok(match self.kind.as_str() {
            "patchset-created" => What::PatchsetCreated {
                change: self.change()?,
                patchset: self.patchset()?,
                uploader: self.account("uploader"),
            },
            "draft-published" => What::DraftPublished {
                change: self.change()?,
                patchset: self.patchset()?,
                uploader: self.account("uploader"),
            },
            "comment-added" => What::CommentAdded {
                change: self.change()?,
                patchset: self.patchset()?,
                author: self.account("author"),
                approvals: self.approvals(),
                comment: object.text("comment").unwrap_or_default(),
                patchset_comments: patchset_comments(object),
            },
            "change-merged" => What::ChangeMerged {
                change: self.change()?,
                patchset: self.patchset()?,
                submitter: self.account("submitter"),
                new_rev: object.text("newRev"),
            },
            "change-abandoned" => What::ChangeAbandoned {
                change: self.change()?,
                patchset: self.patchset().ok(),
                abandoner: self.account("abandoner"),
                reason: reason(),
            },
            "change-restored" => What::ChangeRestored {
                change: self.change()?,
                patchset: self.patchset().ok(),
                restorer: self.account("restorer"),
                reason: reason(),
            },
            "ref-updated" => {
                let update = object.object("refUpdate").and_then(RefUpdateAttr::read);
                let update = update.ok_or_else(|| self.missing("refUpdate"))?;
                What::RefUpdated { submitter: self.account("submitter"), update }
            }
            "batch-ref-updated" => What::BatchRefUpdated {
                submitter: self.account("submitter"),
                updates: object.objects("refUpdates").filter_map(RefUpdateAttr::read).collect(),
            },
            "dropped-output" => What::DroppedOutput,
            _ => return self.minor(body),
        })
    }

    /// The types that start nothing by themselves.
    fn minor(&self, body: &Value) -> Result<What, ParseError> {
        let object = self.object;
        Ok(match self.kind.as_str() {
            "reviewer-added" => What::ReviewerAdded {
                change: self.change()?,
                reviewer: self.account("reviewer"),
                adder: self.account("adder"),
            },
            "reviewer-deleted" => What::ReviewerDeleted {
                change: self.change()?,
                reviewer: self.account("reviewer"),
                remover: self.account("remover"),
                approvals: self.approvals(),
                comment: object.text("comment"),
            },
            "vote-deleted" => What::VoteDeleted {
                change: self.change()?,
                reviewer: self.account("reviewer"),
                remover: object.account("remover").unwrap_or_else(|| self.account("deleter")),
                approvals: self.approvals(),
                comment: object.text("comment"),
            },
            "topic-changed" => What::TopicChanged {
                change: self.change()?,
                changer: self.account("changer"),
                old_topic: object.text("oldTopic"),
            },
            "hashtags-changed" => What::HashtagsChanged {
                change: self.change()?,
                editor: self.account("editor"),
                added: object.texts("added"),
                removed: object.texts("removed"),
                hashtags: object.texts("hashtags"),
            },
            "wip-state-changed" => {
                What::WipStateChanged { change: self.change()?, changer: self.account("changer") }
            }
            "private-state-changed" => {
                What::PrivateStateChanged { change: self.change()?, changer: self.account("changer") }
            }
            "merge-failed" => What::MergeFailed {
                change: self.change()?,
                submitter: self.account("submitter"),
                reason: object.text("reason"),
            },
            "project-created" => {
                let project = object.text("projectName").ok_or_else(|| self.missing("projectName"))?;
                What::ProjectCreated { project, head: object.text("headName") }
            }
            "project-head-updated" => {
                let project = object.text("projectName").ok_or_else(|| self.missing("projectName"))?;
                What::ProjectHeadUpdated {
                    project,
                    old_head: object.text("oldHead"),
                    new_head: object.text("newHead"),
                }
            }
            "ref-replicated" | "ref-replication-done" | "ref-replication-scheduled" => {
                What::RefReplicated { project: object.text("project"), name: object.text("ref") }
            }
            kind => What::Unknown { kind: kind.to_owned(), body: body.clone() },
        })
    }
}

/// What was said on the patchset as a whole; newer versions leave it out of the comment.
fn patchset_comments(object: Obj<'_>) -> Vec<String> {
    let whole = object.object("patchSetComments");
    let list = whole.into_iter().flat_map(|files| files.objects(WHOLE));
    list.filter_map(|comment| comment.text("message")).collect()
}
