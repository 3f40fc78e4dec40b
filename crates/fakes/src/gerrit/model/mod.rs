//! The state of the fake Gerrit, without any protocol or git: projects, changes, patchsets, votes and submit rules.
//! What happens here is what Gerrit would do; the callers have looked at the repository already.

pub mod json;
pub mod labels;
pub mod query;
#[cfg(test)]
mod tests;

pub use labels::{LabelRule, LabelState, RecordStatus, SubmitRecord};

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// A person or a robot with an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The number that REST uses.
    pub id: u64,
    /// The name used to log in.
    pub username: String,
    /// The full name.
    pub name: String,
    /// The address.
    pub email: String,
    /// Group names; everybody is in `registered`.
    pub groups: BTreeSet<String>,
    /// Public keys in OpenSSH's one-line form.
    pub keys: Vec<String>,
    /// The password for HTTP.
    pub password: Option<String>,
}

/// How a project lands changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmitType {
    /// Only a change whose parent is the branch's tip.
    FastForwardOnly,
    /// A merge commit, unless the change is on the tip.
    MergeIfNecessary,
    /// Always a merge commit.
    MergeAlways,
    /// A rebased commit, unless the change is on the tip.
    RebaseIfNecessary,
    /// Always a new commit, with footers that name the review.
    RebaseAlways,
    /// Always a new commit with footers, whatever the change's parent is.
    CherryPick,
}

impl SubmitType {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::FastForwardOnly,
        Self::MergeIfNecessary,
        Self::MergeAlways,
        Self::RebaseIfNecessary,
        Self::RebaseAlways,
        Self::CherryPick,
    ];

    /// The word in Gerrit's protocols.
    pub fn word(self) -> &'static str {
        match self {
            Self::FastForwardOnly => "FAST_FORWARD_ONLY",
            Self::MergeIfNecessary => "MERGE_IF_NECESSARY",
            Self::MergeAlways => "MERGE_ALWAYS",
            Self::RebaseIfNecessary => "REBASE_IF_NECESSARY",
            Self::RebaseAlways => "REBASE_ALWAYS",
            Self::CherryPick => "CHERRY_PICK",
        }
    }

    /// Reads the word of Gerrit's protocols, or the one with dashes in small letters.
    pub fn parse(word: &str) -> Option<Self> {
        let word = word.to_ascii_uppercase().replace('-', "_");
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// Whether the landed commit has a new name although nothing is in its way.
    pub fn always_rewrites(self) -> bool {
        matches!(self, Self::RebaseAlways | Self::CherryPick)
    }
}

/// A project; its repository is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its name, with slashes.
    pub name: String,
    /// How it lands changes.
    pub submit_type: SubmitType,
    /// What `HEAD` points to.
    pub head: String,
    /// What people read about it.
    pub description: String,
}

/// Name, address and time in a commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ident {
    /// Name.
    pub name: String,
    /// Address.
    pub email: String,
    /// Seconds.
    pub when: i64,
}

/// What happened to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Its path now.
    pub path: String,
    /// Its path before, if renamed or copied.
    pub old_path: Option<String>,
    /// git's letter: A, M, D, R, C, T.
    pub letter: char,
    /// Lines added.
    pub insertions: u64,
    /// Lines removed.
    pub deletions: u64,
}

/// All that is asked of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommitInfo {
    /// Its name.
    pub id: String,
    /// Its tree.
    pub tree: String,
    /// Its parents.
    pub parents: Vec<String>,
    /// Who wrote it.
    pub author: Ident,
    /// Who made the commit.
    pub committer: Ident,
    /// The whole message.
    pub message: String,
    /// What it changes against its first parent.
    pub files: Vec<FileChange>,
}

impl CommitInfo {
    /// The first line.
    pub fn subject(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }

    /// The values of a footer in the last paragraph.
    pub fn footers<'a>(&'a self, name: &str) -> Vec<&'a str> {
        let last = self.message.trim_end().rsplit("\n\n").next().unwrap_or_default();
        last.lines()
            .filter_map(|line| line.split_once(':'))
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }
}

/// What a patchset changes against the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Anything.
    Rework,
    /// The same difference on another parent.
    TrivialRebase,
    /// Only the message.
    NoCodeChange,
    /// Nothing but names and times.
    NoChange,
}

impl Kind {
    /// The word in Gerrit's protocols.
    pub fn word(self) -> &'static str {
        match self {
            Self::Rework => "REWORK",
            Self::TrivialRebase => "TRIVIAL_REBASE",
            Self::NoCodeChange => "NO_CODE_CHANGE",
            Self::NoChange => "NO_CHANGE",
        }
    }
}

/// One vote of one account on one label; there is no second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// The label.
    pub label: String,
    /// The value; zero is no vote and not kept.
    pub value: i8,
    /// Who.
    pub by: String,
    /// Seconds.
    pub granted_on: i64,
}

/// A version of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patchset {
    /// From 1.
    pub number: u32,
    /// The commit.
    pub commit: CommitInfo,
    /// Who pushed it.
    pub uploader: String,
    /// Seconds.
    pub created_on: i64,
    /// Against the one before.
    pub kind: Kind,
    /// Votes.
    pub votes: Vec<Vote>,
}

/// A message on a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// Seconds.
    pub on: i64,
    /// Who.
    pub by: String,
    /// The patchset it is about.
    pub patchset: u32,
    /// The text as Gerrit shows it.
    pub text: String,
    /// Robots mark theirs.
    pub tag: Option<String>,
    /// Comments on files.
    pub inline: Vec<Inline>,
}

/// A comment on a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inline {
    /// Path.
    pub file: String,
    /// Line, zero for the whole file.
    pub line: u64,
    /// Text.
    pub message: String,
}

/// Open, or how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Under review.
    New,
    /// Landed as this commit.
    Merged {
        /// The commit.
        commit: String,
        /// Who submitted or pushed it.
        by: String,
        /// Seconds.
        on: i64,
    },
    /// Given up.
    Abandoned,
}

impl Status {
    /// The word in Gerrit's protocols.
    pub fn word(&self) -> &'static str {
        match self {
            Self::New => "NEW",
            Self::Merged { .. } => "MERGED",
            Self::Abandoned => "ABANDONED",
        }
    }
}

/// A change under review, or once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Number.
    pub number: u64,
    /// Project.
    pub project: String,
    /// Branch, without `refs/heads/`.
    pub branch: String,
    /// `I` and forty digits.
    pub change_id: String,
    /// Topic, or empty.
    pub topic: String,
    /// Who made it.
    pub owner: String,
    /// Where it stands.
    pub status: Status,
    /// Versions, never empty.
    pub patchsets: Vec<Patchset>,
    /// Messages.
    pub comments: Vec<Comment>,
    /// Who was asked for a review.
    pub reviewers: BTreeSet<String>,
    /// Hashtags.
    pub hashtags: BTreeSet<String>,
    /// Not ready for review.
    pub wip: bool,
    /// Seen by few.
    pub private: bool,
    /// Seconds.
    pub created_on: i64,
    /// Seconds.
    pub last_updated: i64,
}

impl Change {
    /// The newest version.
    pub fn current(&self) -> &Patchset {
        self.patchsets.last().expect("a change has a patchset")
    }

    /// The newest version.
    pub fn current_mut(&mut self) -> &mut Patchset {
        self.patchsets.last_mut().expect("a change has a patchset")
    }

    /// Whether it is under review.
    pub fn is_open(&self) -> bool {
        self.status == Status::New
    }

    /// A version by number.
    pub fn patchset(&self, number: u32) -> Option<&Patchset> {
        self.patchsets.iter().find(|patchset| patchset.number == number)
    }

    /// The ref of a version.
    pub fn ref_of(&self, patchset: u32) -> String {
        format!("refs/changes/{:02}/{}/{patchset}", self.number % 100, self.number)
    }

    /// `PROJECT~BRANCH~CHANGE-ID` with the project's slashes escaped.
    pub fn triplet(&self) -> String {
        format!("{}~{}~{}", escape(&self.project), escape(&self.branch), self.change_id)
    }
}

/// Escapes a name for use as one segment of a path.
pub fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('/', "%2F").replace(' ', "+")
}

/// Something that the event stream tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The type's word.
    pub kind: &'static str,
    /// The whole object.
    pub body: Value,
}

/// Why the model did not do it, in the words that the user gets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such thing.
    #[error("{0} not found")]
    NotFound(String),
    /// There is, but not for this account.
    #[error("{0}")]
    Forbidden(String),
    /// Not in this state.
    #[error("{0}")]
    Conflict(String),
    /// The request makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// The server's own fault.
    #[error("internal server error: {0}")]
    Internal(String),
}

/// How numbers look in events and query results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numbers {
    /// As strings, as Gerrit did until 2.14.
    Strings,
    /// As integers, since 2.15.
    #[default]
    Integers,
}

/// Who may do what beside voting: names of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// Submit.
    pub submit: BTreeSet<String>,
    /// Push to branches and tags.
    pub push: BTreeSet<String>,
    /// Push what is not a fast-forward, delete branches.
    pub force_push: BTreeSet<String>,
    /// Make projects.
    pub create_project: BTreeSet<String>,
    /// Abandon and restore what others own.
    pub abandon: BTreeSet<String>,
    /// Read the event stream.
    pub stream_events: BTreeSet<String>,
}

impl Default for Rights {
    fn default() -> Self {
        let groups = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            submit: groups(&["core", "ci"]),
            push: groups(&["admin", "ci"]),
            force_push: groups(&["admin"]),
            create_project: groups(&["admin"]),
            abandon: groups(&["core", "ci", "admin"]),
            stream_events: groups(&["registered"]),
        }
    }
}

/// Everything that the fake knows.
#[derive(Debug, Clone)]
pub struct World {
    /// By username.
    pub accounts: BTreeMap<String, Account>,
    /// By name.
    pub projects: BTreeMap<String, Project>,
    /// By number.
    pub changes: BTreeMap<u64, Change>,
    /// Labels of every project.
    pub labels: Vec<LabelRule>,
    /// Who may do what.
    pub rights: Rights,
    /// The shape of numbers.
    pub numbers: Numbers,
    /// `http://HOST:PORT`, for links.
    pub url: String,
    /// `HOST:PORT` of the SSH server, for advice.
    pub ssh: String,
    /// Most rows of one answer to a query.
    pub page: usize,
    /// The highest number given so far.
    pub last_number: u64,
    /// Where a commit of a patchset is: `(project, commit)` to number and patchset.
    pub by_commit: BTreeMap<(String, String), (u64, u32)>,
}

impl World {
    /// Whether an account is in one of the groups.
    pub fn in_group(&self, username: &str, groups: &BTreeSet<String>) -> bool {
        self.accounts
            .get(username)
            .is_some_and(|account| groups.contains("registered") || !account.groups.is_disjoint(groups))
    }

    /// A change by number.
    pub fn change(&self, number: u64) -> Result<&Change, Refusal> {
        self.changes.get(&number).ok_or_else(|| Refusal::NotFound(format!("change {number}")))
    }

    /// A change by number.
    pub fn change_mut(&mut self, number: u64) -> Result<&mut Change, Refusal> {
        self.changes.get_mut(&number).ok_or_else(|| Refusal::NotFound(format!("change {number}")))
    }

    /// The change of a Change-Id on a branch.
    pub fn by_change_id(&self, project: &str, branch: &str, change_id: &str) -> Option<&Change> {
        self.changes.values().find(|change| {
            change.change_id == change_id && change.project == project && change.branch == branch
        })
    }

    /// The changes whose patchset a commit is.
    pub fn change_of_commit(&self, project: &str, commit: &str) -> Option<(&Change, u32)> {
        let (number, patchset) = self.by_commit.get(&(project.to_owned(), commit.to_owned()))?;
        Some((self.changes.get(number)?, *patchset))
    }

    /// The change on this branch that has, or had, this commit as a patchset.
    pub fn on_branch(&self, project: &str, branch: &str, commit: &str) -> Option<(&Change, u32)> {
        if let Some(found) =
            self.change_of_commit(project, commit).filter(|(change, _)| change.branch == branch)
        {
            return Some(found);
        }
        let here =
            self.changes.values().filter(|change| change.project == project && change.branch == branch);
        here.flat_map(|change| change.patchsets.iter().map(move |patchset| (change, patchset)))
            .find(|(_, patchset)| patchset.commit.id == commit)
            .map(|(change, patchset)| (change, patchset.number))
    }

    /// A change and patchset by what a client names: `12,3`, `12`, or a commit, whole or abbreviated.
    pub fn find_patchset(&self, project: Option<&str>, name: &str) -> Result<(u64, u32), Refusal> {
        let missing = || Refusal::BadRequest(format!("\"{name}\" is not a valid patch set"));
        if let Some((number, patchset)) = name.split_once(',') {
            let (number, patchset) = number.parse().ok().zip(patchset.parse().ok()).ok_or_else(missing)?;
            return match self.changes.get(&number).filter(|change| change.patchset(patchset).is_some()) {
                Some(_) => Ok((number, patchset)),
                None => Err(Refusal::BadRequest(format!("\"{name}\" no such patch set"))),
            };
        }
        if name.len() >= 7 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let mut found = self.by_commit.iter().filter(|((of, commit), _)| {
                commit.starts_with(name) && project.is_none_or(|project| project == of)
            });
            if let (Some((_, place)), None) = (found.next(), found.next()) {
                return Ok(*place);
            }
        }
        let number: u64 = name.parse().map_err(|_| missing())?;
        Ok((number, self.change(number)?.current().number))
    }

    /// Adds a change with its first patchset.
    pub fn add_change(&mut self, new: NewChange, now: i64) -> u64 {
        self.last_number += 1;
        let number = self.last_number;
        self.by_commit.insert((new.project.clone(), new.commit.id.clone()), (number, 1));
        let first = Patchset {
            number: 1,
            commit: new.commit,
            uploader: new.owner.clone(),
            created_on: now,
            kind: Kind::Rework,
            votes: Vec::new(),
        };
        let change = Change {
            number,
            project: new.project,
            branch: new.branch,
            change_id: new.change_id,
            topic: String::new(),
            owner: new.owner,
            status: Status::New,
            patchsets: vec![first],
            comments: Vec::new(),
            reviewers: BTreeSet::new(),
            hashtags: BTreeSet::new(),
            wip: false,
            private: false,
            created_on: now,
            last_updated: now,
        };
        self.changes.insert(number, change);
        number
    }

    /// Adds a version; votes that the labels' rules carry over are carried over.
    pub fn add_patchset(
        &mut self,
        number: u64,
        commit: CommitInfo,
        uploader: &str,
        kind: Kind,
        now: i64,
    ) -> Result<u32, Refusal> {
        let labels = self.labels.clone();
        let change = self.change_mut(number)?;
        let patchset = change.current().number + 1;
        let kept = |vote: &&Vote| {
            labels
                .iter()
                .find(|label| label.name == vote.label)
                .is_some_and(|label| label.carries(vote, kind))
        };
        let votes = change.current().votes.iter().filter(kept).cloned().collect();
        let place = (change.project.clone(), commit.id.clone());
        change.patchsets.push(Patchset {
            number: patchset,
            commit,
            uploader: uploader.to_owned(),
            created_on: now,
            kind,
            votes,
        });
        change.last_updated = now;
        self.by_commit.insert(place, (number, patchset));
        Ok(patchset)
    }

    /// Votes and comments, all or nothing; only the newest version can be voted on.
    pub fn review(
        &mut self,
        user: &str,
        number: u64,
        patchset: u32,
        review: &Review,
        now: i64,
    ) -> Result<Event, Refusal> {
        let mut votes = Vec::new();
        for (label, value) in &review.labels {
            votes.push((self.may_vote(user, label, *value, review.strict)?, *value));
        }
        let change = self.change_mut(number)?;
        if !votes.is_empty() {
            if matches!(change.status, Status::Abandoned) {
                return Err(Refusal::Conflict("change is abandoned".into()));
            }
            if change.current().number != patchset {
                return Err(Refusal::Conflict(format!(
                    "patch set {patchset} is not the current one; votes go to patch set {}",
                    change.current().number
                )));
            }
        }
        let mut applied = Vec::new();
        for ((label, low, high), value) in votes {
            let value = value.clamp(low, high);
            applied.push((label.clone(), value, change.current_mut().vote(user, &label, value, now)));
        }
        let text = review.text(patchset, &applied);
        change.reviewers.extend((change.owner != user).then(|| user.to_owned()));
        change.last_updated = now;
        change.comments.push(Comment {
            on: now,
            by: user.to_owned(),
            patchset,
            text: text.clone(),
            tag: review.tag.clone(),
            inline: review.inline.clone(),
        });
        self.comment_added(number, patchset, user, &text, &applied, &review.inline, now)
    }

    /// Gives up a change.
    pub fn abandon(&mut self, user: &str, number: u64, reason: &str, now: i64) -> Result<Event, Refusal> {
        self.own_or(user, number, "abandon")?;
        self.set_status(user, number, &Status::New, Status::Abandoned, "Abandoned", reason, now)?;
        self.with_reason("change-abandoned", "abandoner", user, number, reason, now)
    }

    /// Takes up an abandoned change.
    pub fn restore(&mut self, user: &str, number: u64, reason: &str, now: i64) -> Result<Event, Refusal> {
        self.own_or(user, number, "restore")?;
        self.set_status(user, number, &Status::Abandoned, Status::New, "Restored", reason, now)?;
        self.with_reason("change-restored", "restorer", user, number, reason, now)
    }

    /// Marks a change as landed.
    pub fn merged(&mut self, user: &str, number: u64, commit: &str, now: i64) -> Result<Event, Refusal> {
        let change = self.change_mut(number)?;
        change.status = Status::Merged { commit: commit.to_owned(), by: user.to_owned(), on: now };
        change.last_updated = now;
        let patchset = change.current().number;
        change.comments.push(Comment {
            on: now,
            by: user.to_owned(),
            patchset,
            text: format!("Change has been successfully merged as {commit}"),
            tag: Some("autogenerated:gerrit:merged".into()),
            inline: Vec::new(),
        });
        self.change_merged(number, user, commit, now)
    }

    fn own_or(&self, user: &str, number: u64, what: &str) -> Result<(), Refusal> {
        if self.change(number)?.owner == user || self.in_group(user, &self.rights.abandon) {
            return Ok(());
        }
        Err(Refusal::Forbidden(format!("{what} not permitted")))
    }

    #[expect(clippy::too_many_arguments, reason = "two callers, both above")]
    fn set_status(
        &mut self,
        user: &str,
        number: u64,
        from: &Status,
        to: Status,
        word: &str,
        reason: &str,
        now: i64,
    ) -> Result<(), Refusal> {
        let change = self.change_mut(number)?;
        if change.status != *from {
            return Err(Refusal::Conflict(format!("change is {}", change.status.word().to_lowercase())));
        }
        change.status = to;
        change.last_updated = now;
        let text = if reason.is_empty() { word.to_owned() } else { format!("{word}\n\n{reason}") };
        let patchset = change.current().number;
        change.comments.push(Comment {
            on: now,
            by: user.to_owned(),
            patchset,
            text,
            tag: None,
            inline: Vec::new(),
        });
        Ok(())
    }
}

impl Patchset {
    /// Sets a vote and returns the one before.
    fn vote(&mut self, by: &str, label: &str, value: i8, now: i64) -> i8 {
        let place = self.votes.iter().position(|vote| vote.by == by && vote.label == label);
        let old = place.map_or(0, |at| self.votes.remove(at).value);
        if value != 0 {
            self.votes.push(Vote { label: label.into(), value, by: by.into(), granted_on: now });
        }
        old
    }
}

/// A change that does not exist yet.
#[derive(Debug, Clone)]
pub struct NewChange {
    /// Project.
    pub project: String,
    /// Branch.
    pub branch: String,
    /// Change-Id.
    pub change_id: String,
    /// Who pushed it.
    pub owner: String,
    /// The commit.
    pub commit: CommitInfo,
}

/// What a reviewer says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Review {
    /// Text.
    pub message: String,
    /// Votes.
    pub labels: Vec<(String, i8)>,
    /// Refuse votes that are not allowed, rather than bring them into the allowed range.
    pub strict: bool,
    /// Robots mark theirs.
    pub tag: Option<String>,
    /// Comments on files.
    pub inline: Vec<Inline>,
}

impl Review {
    /// The text as Gerrit shows it: the patchset, what was voted, then what was said.
    fn text(&self, patchset: u32, applied: &[(String, i8, i8)]) -> String {
        let mut text = format!("Patch Set {patchset}:");
        for (label, value, _) in applied {
            if *value == 0 {
                let _ = write!(text, " -{label}");
            } else {
                let _ = write!(text, " {label}{value:+}");
            }
        }
        match self.inline.len() {
            0 => {}
            1 => text.push_str("\n\n(1 comment)"),
            many => {
                let _ = write!(text, "\n\n({many} comments)");
            }
        }
        if !self.message.is_empty() {
            text.push_str("\n\n");
            text.push_str(self.message.trim_end());
        }
        text
    }
}
