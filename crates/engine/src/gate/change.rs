//! What is known of changes: facts from their source, never decisions.

use super::config::normal_label;
use super::ids::{BranchName, ChangeId, Oid, Patchset, ProjectName};
use crate::ids::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// What a pipeline has under test.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Subject {
    /// A patchset that is not merged yet.
    Change(Patchset),
    /// A branch or tag that has moved.
    Ref(RefUpdate),
    /// A project at a time of a timer trigger.
    Timer {
        /// The project.
        project: ProjectName,
        /// The due time, so that each is made once.
        at: Timestamp,
    },
}

/// A ref that moved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RefUpdate {
    /// The project.
    pub project: ProjectName,
    /// As the source names it: `master`, `refs/tags/1.0`.
    pub name: BranchName,
    /// Before; zeros for a new ref.
    pub old: Oid,
    /// After; zeros for a deleted ref.
    pub new: Oid,
}

impl RefUpdate {
    /// True if the ref is gone now.
    pub fn is_delete(&self) -> bool {
        self.new.as_str().bytes().all(|digit| digit == b'0')
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change(patchset) => patchset.fmt(f),
            Self::Ref(update) => write!(f, "{} {}", update.project, update.name),
            Self::Timer { project, .. } => write!(f, "{project} (timer)"),
        }
    }
}

/// A person or a robot, as the source knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Account {
    /// Full name.
    pub name: Option<String>,
    /// Mail address.
    pub email: Option<String>,
    /// Login.
    pub username: Option<String>,
}

impl Account {
    /// The best word for it.
    pub fn display(&self) -> &str {
        let words = [&self.name, &self.username, &self.email];
        words.into_iter().flatten().next().map_or("somebody", String::as_str)
    }
}

/// A vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The label's name, as it is described: `Code-Review`. None if the source gave none; such a vote matches nothing.
    pub label: Option<String>,
    /// The vote.
    pub value: i32,
    /// Who gave it.
    pub by: Account,
    /// When it was given.
    pub granted_at: Option<Timestamp>,
}

/// Where a change stands at its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ChangeStatus {
    /// Open.
    New,
    /// Open, and not yet for everybody (Gerrit up to 2.14).
    Draft,
    /// In its branch.
    Merged,
    /// Given up.
    Abandoned,
}

impl ChangeStatus {
    /// Gerrit's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "NEW",
            Self::Draft => "DRAFT",
            Self::Merged => "MERGED",
            Self::Abandoned => "ABANDONED",
        }
    }

    /// True while it can still be merged.
    pub fn is_open(self) -> bool {
        matches!(self, Self::New | Self::Draft)
    }
}

/// What the source's submit rules say (Gerrit's submit records).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum SubmitRecord {
    /// It could be merged now.
    Ok,
    /// Not before these labels are right.
    NotReady {
        /// Each label the rule looks at.
        labels: Vec<SubmitLabel>,
    },
    /// The rule itself is broken, or the change is closed.
    Error {
        /// What the source said.
        why: String,
    },
}

impl SubmitRecord {
    /// What keeps a change from being merged by this rule, in words; nothing if it may be. Labels that are `granted`
    /// (as [`normal_label`] writes them) are about to be given.
    pub fn missing(&self, granted: &BTreeSet<String>) -> Vec<String> {
        let labels = match self {
            Self::Ok => return Vec::new(),
            Self::Error { why } => return vec![why.clone()],
            Self::NotReady { labels } if labels.is_empty() => {
                return vec!["something is needed, and the rule does not say what".to_owned()];
            }
            Self::NotReady { labels } => labels,
        };
        let missing = labels.iter().filter_map(|label| {
            let own = granted.contains(&normal_label(&label.label));
            let name = &label.label;
            match label.status {
                LabelStatus::Ok | LabelStatus::May => None,
                LabelStatus::Need | LabelStatus::Reject if own => None,
                LabelStatus::Need => Some(format!("label {name} is needed")),
                LabelStatus::Reject => Some(format!("label {name} is vetoed")),
                LabelStatus::Impossible => Some(format!("nobody may give label {name}")),
            }
        });
        missing.collect()
    }
}

/// One label of a submit rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitLabel {
    /// The label.
    pub label: String,
    /// How it stands.
    pub status: LabelStatus,
}

/// How a label stands in a submit rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LabelStatus {
    /// Satisfied.
    Ok,
    /// Not needed.
    May,
    /// Needed and not there.
    Need,
    /// Vetoed.
    Reject,
    /// Nobody could ever satisfy it.
    Impossible,
}

/// A change as its source described it at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeFacts {
    /// Source and number.
    pub id: ChangeId,
    /// The newest patchset.
    pub current_patchset: u32,
    /// The newest patchset's commit.
    pub revision: Oid,
    /// Where a worker fetches it: `refs/changes/34/1234/5`.
    pub fetch_ref: String,
    /// The project.
    pub project: ProjectName,
    /// The target branch.
    pub branch: BranchName,
    /// The `I…` id; shared by the same change on other branches.
    pub change_id: Option<String>,
    /// First line of the message.
    pub subject: String,
    /// The whole commit message: its footers name what it depends on.
    pub message: String,
    /// Where people see it.
    pub url: Option<String>,
    /// Its owner.
    pub owner: Account,
    /// The topic, if it has one.
    pub topic: Option<String>,
    /// Where it stands.
    pub status: ChangeStatus,
    /// Marked work in progress: nothing may merge it.
    pub wip: bool,
    /// The votes on the newest patchset.
    pub approvals: Vec<Approval>,
    /// What the submit rules say.
    pub submit_records: Vec<SubmitRecord>,
    /// Files of the newest patchset with `/COMMIT_MSG` left out; `None` if the source did not say (a merge).
    pub files: Option<Vec<String>>,
    /// The unmerged changes among its git parents.
    pub parents: Vec<Patchset>,
    /// When the source said this. Older facts never replace newer ones.
    pub as_of: Timestamp,
}

impl ChangeFacts {
    /// The newest patchset.
    pub fn patchset(&self) -> Patchset {
        Patchset { change: self.id.clone(), patchset: self.current_patchset }
    }

    /// What its footers name, in order.
    pub fn depends_on(&self) -> Vec<DependsOn> {
        self.message.lines().filter_map(DependsOn::from_line).collect()
    }
}

/// A `Depends-On` footer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum DependsOn {
    /// By Change-Id: every open change with it.
    ChangeId {
        /// `I` and 40 hexadecimal digits.
        id: String,
    },
    /// By address of the change's page.
    Url {
        /// The address.
        url: String,
        /// The number at its end.
        number: u64,
    },
}

impl DependsOn {
    /// The footer in a line of a commit message: `Depends-On: I…` or `Depends-On: https://review/c/PROJECT/+/NUMBER`,
    /// case-insensitive, from the start of the line.
    pub fn from_line(line: &str) -> Option<Self> {
        const KEY: &str = "depends-on:";
        let head = line.get(..KEY.len())?;
        let value = line.get(KEY.len()..)?.trim();
        if !head.eq_ignore_ascii_case(KEY) {
            return None;
        }
        if let Some(digits) = value.strip_prefix(['I', 'i']) {
            let whole = digits.len() == 40 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            return whole.then(|| Self::ChangeId { id: format!("I{}", digits.to_ascii_lowercase()) });
        }
        let is_url = value.starts_with("http://") || value.starts_with("https://");
        // Gerrit's addresses: HOST/c/PROJECT/+/12/3, HOST/#/c/12/3, HOST/12.
        let after = ["/+/", "/#/c/", "/c/"].iter().find_map(|mark| value.split_once(mark));
        let digits = match after {
            Some((_, rest)) => rest.split(['/', ',']).next()?,
            None => value.trim_end_matches('/').rsplit('/').next()?,
        };
        let number = digits.parse().ok()?;
        is_url.then(|| Self::Url { url: value.to_owned(), number })
    }
}

impl fmt::Display for DependsOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChangeId { id } => f.write_str(id),
            Self::Url { url, .. } => f.write_str(url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn footers() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let by_id = Some(DependsOn::ChangeId { id: format!("I{id}") });
        let by_url = |url: &str, number| Some(DependsOn::Url { url: url.to_owned(), number });
        for (line, expected) in [
            (format!("Depends-On: I{id}"), by_id.clone()),
            (format!("depends-on:I{}", id.to_uppercase()), by_id),
            (format!(" Depends-On: I{id}"), None),
            (format!("Depends-On: I{}", &id[1..]), None),
            (
                "Depends-On: https://review.example/c/a/b/+/12".to_owned(),
                by_url("https://review.example/c/a/b/+/12", 12),
            ),
            (
                "Depends-On: http://review.example/#/c/12/3/".to_owned(),
                by_url("http://review.example/#/c/12/3/", 12),
            ),
            ("Depends-On: https://review.example/12".to_owned(), by_url("https://review.example/12", 12)),
            ("Depends-On: https://review.example/".to_owned(), None),
            ("Depends-On:".to_owned(), None),
            ("Depends-Öñ: x".to_owned(), None),
        ] {
            assert_eq!(DependsOn::from_line(&line), expected, "{line}");
        }
    }
}
