//! The objects of which events and rows are made.

use super::Obj;
use assay_engine::gate::change::Account;
use assay_engine::ids::Timestamp;

/// A change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangeAttr {
    /// Its number.
    pub number: u64,
    /// The project.
    pub project: String,
    /// The branch, without `refs/heads/`.
    pub branch: String,
    /// The topic.
    pub topic: Option<String>,
    /// The `I…` id.
    pub change_id: Option<String>,
    /// First line of the message.
    pub subject: Option<String>,
    /// Who made it.
    pub owner: Account,
    /// Where people see it.
    pub url: Option<String>,
    /// The whole message.
    pub message: Option<String>,
    /// Hashtags.
    pub hashtags: Vec<String>,
    /// When it was made.
    pub created_on: Option<Timestamp>,
    /// When anything about it was different last.
    pub last_updated: Option<Timestamp>,
    /// When it was merged, where that is told (REST).
    pub submitted_on: Option<Timestamp>,
    /// Who had it merged, where that is told.
    pub submitter: Option<Account>,
    /// Whether it can still be merged.
    pub open: Option<bool>,
    /// `NEW`, `DRAFT`, `MERGED`, `ABANDONED`, and in old versions `SUBMITTED`.
    pub status: Option<String>,
    /// Seen by few.
    pub private: bool,
    /// Not ready.
    pub wip: bool,
    /// Where it stands in a query's order (old versions).
    pub sort_key: Option<String>,
    /// Messages, oldest first.
    pub comments: Vec<CommentAttr>,
    /// The newest patchset.
    pub current_patchset: Option<PatchsetAttr>,
    /// All patchsets, if asked for.
    pub patchsets: Vec<PatchsetAttr>,
    /// The changes that its git parents are, if asked for.
    pub depends_on: Vec<DependencyAttr>,
    /// The changes whose git parent it is, if asked for.
    pub needed_by: Vec<DependencyAttr>,
    /// What the submit rules say, if asked for.
    pub submit_records: Vec<SubmitRecordAttr>,
}

/// A patchset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PatchsetAttr {
    /// From 1.
    pub number: u32,
    /// The commit.
    pub revision: Option<String>,
    /// The commit's parents.
    pub parents: Vec<String>,
    /// Where it is fetched from.
    pub fetch_ref: Option<String>,
    /// Who pushed it.
    pub uploader: Option<Account>,
    /// Who wrote it.
    pub author: Option<Account>,
    /// When it was pushed.
    pub created_on: Option<Timestamp>,
    /// `REWORK`, `TRIVIAL_REBASE`, `NO_CODE_CHANGE`, `NO_CHANGE`, `MERGE_FIRST_PARENT_UPDATE`.
    pub kind: Option<String>,
    /// Votes.
    pub approvals: Vec<ApprovalAttr>,
    /// Files; `None` if not told.
    pub files: Option<Vec<FileAttr>>,
    /// Lines added.
    pub insertions: Option<i64>,
    /// Lines removed; Gerrit counts them below zero.
    pub deletions: Option<i64>,
}

/// A vote.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApprovalAttr {
    /// The label's name: its description, or what a well-known type stands for.
    pub label: Option<String>,
    /// Gerrit's type: a name, or an old four-letter code.
    pub kind: Option<String>,
    /// The vote.
    pub value: i32,
    /// What it was before, if it is different.
    pub old_value: Option<i32>,
    /// When it was given.
    pub granted_on: Option<Timestamp>,
    /// Who gave it.
    pub by: Account,
}

/// A file of a patchset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileAttr {
    /// Its path.
    pub file: String,
    /// `ADDED`, `MODIFIED`, `DELETED`, `RENAMED`, `COPIED`, `REWRITE`.
    pub kind: Option<String>,
    /// Where it was before.
    pub old: Option<String>,
    /// Lines added.
    pub insertions: i64,
    /// Lines removed; Gerrit counts them below zero.
    pub deletions: i64,
}

/// A message on a change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommentAttr {
    /// When.
    pub at: Option<Timestamp>,
    /// Who.
    pub by: Account,
    /// The text.
    pub message: String,
    /// What a robot marked it with (REST only).
    pub tag: Option<String>,
    /// The patchset it is about (REST only).
    pub patchset: Option<u32>,
    /// Its name (REST only).
    pub id: Option<String>,
    /// What was said with it on the patchset as a whole; newer versions leave that out of the text.
    pub notes: Vec<String>,
}

/// A change that needs or is needed by another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DependencyAttr {
    /// Its number.
    pub number: u64,
    /// The patchset.
    pub patchset: Option<u32>,
    /// The `I…` id.
    pub change_id: Option<String>,
    /// The commit.
    pub revision: Option<String>,
    /// Whether that is its newest patchset.
    pub is_current: Option<bool>,
}

/// What a submit rule says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubmitRecordAttr {
    /// `OK`, `NOT_READY`, `RULE_ERROR`, `CLOSED`, `FORCED`.
    pub status: String,
    /// Each label.
    pub labels: Vec<SubmitLabelAttr>,
    /// What is wrong with the rule.
    pub error: Option<String>,
}

/// What a submit rule says of a label.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubmitLabelAttr {
    /// The label.
    pub label: String,
    /// `OK`, `REJECT`, `NEED`, `MAY`, `IMPOSSIBLE`.
    pub status: String,
}

/// A ref that moved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RefUpdateAttr {
    /// The project.
    pub project: String,
    /// As Gerrit names it, with or without `refs/heads/`.
    pub name: String,
    /// Before.
    pub old: String,
    /// After.
    pub new: String,
}

/// The name of a label from an approval's description and type.
pub(super) fn label_name(description: Option<String>, kind: Option<&str>) -> Option<String> {
    let well_known = || {
        let name = match kind? {
            "CRVW" | "Code-Review" => "Code-Review",
            "VRIF" | "Verified" => "Verified",
            "APRV" | "Approved" => "Approved",
            "Workflow" => "Workflow",
            _ => return None,
        };
        Some(name.to_owned())
    };
    description.or_else(well_known)
}

impl ChangeAttr {
    /// Reads a change; `None` without number, project or branch.
    pub(super) fn read(object: Obj<'_>) -> Option<Self> {
        let branch = object.text("branch")?;
        let mut comments: Vec<CommentAttr> = object.objects("comments").map(CommentAttr::read).collect();
        add_notes(object, &mut comments);
        Some(Self {
            number: object.number("number")?,
            project: object.text("project")?,
            branch: branch.strip_prefix("refs/heads/").unwrap_or(&branch).to_owned(),
            topic: object.text("topic"),
            change_id: object.text("id"),
            subject: object.text("subject"),
            owner: object.account("owner").unwrap_or_default(),
            url: object.text("url"),
            message: object.text("commitMessage"),
            hashtags: object.texts("hashtags"),
            created_on: object.seconds("createdOn"),
            last_updated: object.seconds("lastUpdated"),
            submitted_on: None,
            submitter: None,
            open: object.value("open").map(|_| object.flag("open")),
            status: object.text("status"),
            private: object.flag("private"),
            wip: object.flag("wip"),
            sort_key: object.text("sortKey"),
            comments,
            current_patchset: object.object("currentPatchSet").and_then(PatchsetAttr::read),
            patchsets: object.objects("patchSets").filter_map(PatchsetAttr::read).collect(),
            depends_on: object.objects("dependsOn").filter_map(DependencyAttr::read).collect(),
            needed_by: object.objects("neededBy").filter_map(DependencyAttr::read).collect(),
            submit_records: object.objects("submitRecords").map(SubmitRecordAttr::read).collect(),
        })
    }
}

/// Gives messages what their authors said with them on the patchset as a whole. SSH does not say which belongs to which:
/// in order if there are as many of both, else all to each.
fn add_notes(change: Obj<'_>, comments: &mut [CommentAttr]) {
    for patchset in change.objects("patchSets") {
        let Some(number) = patchset.number::<u32>("number") else { continue };
        let head = format!("Patch Set {number}:");
        let mut by_author: Vec<(Account, Vec<String>)> = Vec::new();
        for note in patchset.objects("comments").filter(|note| note.text("file").as_deref() == Some(WHOLE)) {
            let (by, text) =
                (note.account("reviewer").unwrap_or_default(), note.text("message").unwrap_or_default());
            match by_author.iter_mut().find(|(author, _)| *author == by) {
                Some((_, notes)) => notes.push(text),
                None => by_author.push((by, vec![text])),
            }
        }
        for (author, notes) in by_author {
            let theirs = |comment: &&mut CommentAttr| {
                comment.by == author && comment.has_notes() && comment.message.starts_with(&head)
            };
            let messages: Vec<&mut CommentAttr> = comments.iter_mut().filter(theirs).collect();
            let in_order = messages.len() == notes.len();
            for (at, message) in messages.into_iter().enumerate() {
                message.notes = if in_order { vec![notes[at].clone()] } else { notes.clone() };
            }
        }
    }
}

/// Where comments on a patchset as a whole are.
pub(super) const WHOLE: &str = "/PATCHSET_LEVEL";

impl PatchsetAttr {
    pub(super) fn read(object: Obj<'_>) -> Option<Self> {
        let files = object.value("files").and_then(|list| list.as_array());
        Some(Self {
            number: object.number("number")?,
            revision: object.text("revision"),
            parents: object.texts("parents"),
            fetch_ref: object.text("ref"),
            uploader: object.account("uploader"),
            author: object.account("author"),
            created_on: object.seconds("createdOn"),
            kind: object.text("kind"),
            approvals: object.objects("approvals").map(ApprovalAttr::read).collect(),
            files: files.map(|_| object.objects("files").filter_map(FileAttr::read).collect()),
            insertions: object.number("sizeInsertions"),
            deletions: object.number("sizeDeletions"),
        })
    }
}

impl ApprovalAttr {
    pub(super) fn read(object: Obj<'_>) -> Self {
        let kind = object.text("type");
        Self {
            label: label_name(object.text("description"), kind.as_deref()),
            kind,
            value: object.number("value").unwrap_or_default(),
            old_value: object.number("oldValue"),
            granted_on: object.seconds("grantedOn"),
            by: object.account("by").unwrap_or_default(),
        }
    }
}

impl FileAttr {
    fn read(object: Obj<'_>) -> Option<Self> {
        Some(Self {
            file: object.text("file")?,
            kind: object.text("type"),
            old: object.text("fileOld"),
            insertions: object.number("insertions").unwrap_or_default(),
            deletions: object.number("deletions").unwrap_or_default(),
        })
    }
}

impl CommentAttr {
    /// True if the text says that there are comments besides it: `(1 comment)`, `(2 comments)`.
    pub fn has_notes(&self) -> bool {
        self.message.lines().any(|line| {
            let count = line.trim().strip_prefix('(').and_then(|rest| rest.split_once(" comment"));
            count.is_some_and(|(count, _)| count.bytes().all(|byte| byte.is_ascii_digit()))
        })
    }

    fn read(object: Obj<'_>) -> Self {
        Self {
            at: object.seconds("timestamp"),
            by: object.account("reviewer").unwrap_or_default(),
            message: object.text("message").unwrap_or_default(),
            tag: object.text("tag"),
            patchset: None,
            id: None,
            notes: Vec::new(),
        }
    }
}

impl DependencyAttr {
    fn read(object: Obj<'_>) -> Option<Self> {
        // refs/changes/34/1234/5
        let place = object.text("ref");
        let mut parts = place.iter().flat_map(|place| place.rsplit('/'));
        let patchset = parts.next().and_then(|part| part.parse().ok());
        let number = parts.next().and_then(|part| part.parse().ok());
        Some(Self {
            number: object.number("number").or(number)?,
            patchset,
            change_id: object.text("id"),
            revision: object.text("revision"),
            is_current: object.value("isCurrentPatchSet").map(|_| object.flag("isCurrentPatchSet")),
        })
    }
}

impl SubmitRecordAttr {
    pub(super) fn read(object: Obj<'_>) -> Self {
        let label = |object: Obj<'_>| {
            let label = object.text("label")?;
            Some(SubmitLabelAttr { label, status: object.text("status").unwrap_or_default() })
        };
        Self {
            status: object.text("status").unwrap_or_default(),
            labels: object.objects("labels").filter_map(label).collect(),
            error: object.text("errorMessage").or_else(|| object.text("error_message")),
        }
    }
}

impl RefUpdateAttr {
    pub(super) fn read(object: Obj<'_>) -> Option<Self> {
        const NONE: &str = "0000000000000000000000000000000000000000";
        Some(Self {
            project: object.text("project")?,
            name: object.text("refName")?,
            old: object.text("oldRev").unwrap_or_else(|| NONE.to_owned()),
            new: object.text("newRev").unwrap_or_else(|| NONE.to_owned()),
        })
    }
}
