//! What people know and set up: users and their keys, the catalog that products are scheduled from, comments, what was
//! posted, and who did what.
//!
//! None of it is the engine's: a step that depends on it carries in its input what it needs.

mod bugs;
mod catalog;
mod queries;

pub use bugs::{Bug, BugFacts, BugFilter, BugId, RunMark};
pub use catalog::{
    CatalogChange, CatalogRow, EntryId, EntryKind, Group, GroupProperties, JobTemplate, Machine, ParentGroup,
    Product, SettingsMap, TestSuite,
};

use crate::error::StoreError;
use crate::outbox::NewEntry;
use crate::types::Epoch;
use assay_engine::ids::{JobId, ProductRunId, Timestamp};
use std::collections::BTreeMap;

/// What somebody may do; each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UserRole {
    /// Look.
    Viewer,
    /// Post, restart, cancel, comment.
    Operator,
    /// Everything.
    Admin,
}

impl UserRole {
    /// Every role, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The word that is stored and shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role that `word` names.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }
}

/// A user's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(pub i64);

/// Somebody who may sign requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The number.
    pub id: UserId,
    /// The name, unique.
    pub name: String,
    /// What they may do.
    pub role: UserRole,
    /// Since when they are known.
    pub created_at: Timestamp,
}

/// A key for signing requests. The secret is sealed by the server: the database alone does not give it away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// The public half.
    pub key: String,
    /// Whose it is.
    pub user: UserId,
    /// The sealed secret.
    pub sealed: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, roughly.
    pub last_used_at: Option<Timestamp>,
}

/// What lets a browser in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TicketKind {
    /// Once, to sign in.
    Setup,
    /// As often as it likes: it is signed in.
    Session,
}

impl TicketKind {
    /// The word that is stored.
    pub fn word(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Session => "session",
        }
    }

    /// The kind of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Setup, Self::Session].into_iter().find(|kind| kind.word() == word)
    }
}

/// What somebody was given to sign in or to stay signed in. The database alone does not give it away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// SHA-256 of what its owner has, in hexadecimal digits.
    pub hash: String,
    /// What it is good for.
    pub kind: TicketKind,
    /// Whose it is.
    pub user: UserId,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Timestamp,
}

/// Some tickets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tickets {
    /// All of a user.
    Of(UserId),
    /// Those that have expired by then.
    ExpiredBy(Timestamp),
}

/// What a comment is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommentTarget {
    /// A job.
    Job(JobId),
    /// A job group.
    Group(i64),
    /// A parent group.
    ParentGroup(i64),
}

/// A comment's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommentId(pub i64);

/// A comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// The number.
    pub id: CommentId,
    /// What it is about.
    pub target: CommentTarget,
    /// Who wrote it.
    pub author: String,
    /// Markdown.
    pub text: String,
    /// When it was written.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// Something that somebody did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// Grows with every event; 0 before it is stored.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Who; empty for the server itself.
    pub user: String,
    /// openQA's word for it, for example `iso_create`.
    pub event: String,
    /// More about it, as JSON.
    pub data: String,
}

/// Which events to list; `None` does not restrict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// By whom.
    pub user: Option<String>,
    /// Of this kind, for example `iso_create`.
    pub event: Option<String>,
    /// With this text in the data; capitals do not matter.
    pub text: Option<String>,
    /// With a lower number than this: the next page.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

/// Who somebody is at a provider of OpenID Connect, for good: names change, and are given to others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The provider's issuer.
    pub issuer: String,
    /// What it calls them.
    pub subject: String,
}

/// People: those who are known, and their keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct People {
    /// By number.
    pub users: Vec<User>,
    /// By age.
    pub keys: Vec<StoredKey>,
    /// By age; also those that have expired.
    pub tickets: Vec<Ticket>,
    /// Who is who at providers; a user is at most one.
    pub identities: Vec<(Identity, UserId)>,
}

/// What is stored of people, of what they set up and of what they say.
///
/// Whoever writes must lead, as in [`crate::Store::commit`].
#[async_trait::async_trait]
pub trait KnowledgeStore: Send + Sync {
    /// Everybody, with all keys.
    async fn people(&self) -> Result<People, StoreError>;

    /// A new user. [`StoreError::Duplicate`] if there is one of that name.
    async fn add_user(
        &self,
        epoch: Epoch,
        name: &str,
        role: UserRole,
        at: Timestamp,
    ) -> Result<UserId, StoreError>;

    /// A user is the one whom a provider means. [`StoreError::Duplicate`] if either is bound already.
    async fn bind_user(&self, epoch: Epoch, user: UserId, identity: &Identity) -> Result<(), StoreError>;

    /// Another role for a user.
    async fn set_role(&self, epoch: Epoch, user: UserId, role: UserRole) -> Result<(), StoreError>;

    /// Forgets a user and their keys; what they did stays.
    async fn remove_user(&self, epoch: Epoch, user: UserId) -> Result<(), StoreError>;

    /// A new key.
    async fn add_key(&self, epoch: Epoch, key: &StoredKey) -> Result<(), StoreError>;

    /// A key was used.
    async fn key_used(&self, epoch: Epoch, key: &str, at: Timestamp) -> Result<(), StoreError>;

    /// Revokes a key; false if there is none.
    async fn remove_key(&self, epoch: Epoch, key: &str) -> Result<bool, StoreError>;

    /// Stores a ticket.
    async fn add_ticket(&self, epoch: Epoch, ticket: &Ticket) -> Result<(), StoreError>;

    /// Removes a ticket; false if it is not there (any more): of two that use one, only one is told true.
    async fn remove_ticket(&self, epoch: Epoch, hash: &str) -> Result<bool, StoreError>;

    /// Removes the tickets of a kind that a user has, or all that expired before a time.
    async fn remove_tickets(&self, epoch: Epoch, which: Tickets) -> Result<(), StoreError>;

    /// The whole catalog, by kind and number, and the last number that each kind ever had.
    async fn catalog(&self) -> Result<(Vec<CatalogRow>, BTreeMap<EntryKind, i64>), StoreError>;

    /// Changes the catalog: all of it, or nothing. [`StoreError::Duplicate`] if two entries would be called the same.
    async fn change_catalog(&self, epoch: Epoch, changes: &[CatalogChange]) -> Result<(), StoreError>;

    /// A new comment; its number is made here, the one given does not count.
    async fn add_comment(&self, epoch: Epoch, comment: &Comment) -> Result<CommentId, StoreError> {
        self.add_told_comment(epoch, comment, &[]).await
    }

    /// The same with what is to be told of it.
    async fn add_told_comment(
        &self,
        epoch: Epoch,
        comment: &Comment,
        told: &[NewEntry],
    ) -> Result<CommentId, StoreError>;

    /// Another text for a comment.
    async fn edit_comment(
        &self,
        epoch: Epoch,
        comment: CommentId,
        text: &str,
        at: Timestamp,
        told: &[NewEntry],
    ) -> Result<(), StoreError>;

    /// Removes comments.
    async fn remove_comments(
        &self,
        epoch: Epoch,
        comments: &[CommentId],
        told: &[NewEntry],
    ) -> Result<(), StoreError>;

    /// One comment.
    async fn comment(&self, comment: CommentId) -> Result<Option<Comment>, StoreError>;

    /// What was said about something, the first first.
    async fn comments(&self, target: CommentTarget) -> Result<Vec<Comment>, StoreError>;

    /// What was said about any of these jobs, the first first.
    async fn comments_of_jobs(&self, jobs: &[JobId]) -> Result<Vec<Comment>, StoreError>;

    /// What was said about everything of one kind from the first number to the last, the first first.
    async fn comments_within(
        &self,
        first: CommentTarget,
        last: CommentTarget,
    ) -> Result<Vec<Comment>, StoreError>;

    /// What was done, in this order.
    async fn audit(&self, epoch: Epoch, events: &[AuditEvent]) -> Result<(), StoreError>;

    /// What was done, the newest first.
    async fn audit_events(&self, filter: &AuditFilter) -> Result<Vec<AuditEvent>, StoreError>;

    /// Bugs, the first named first.
    async fn bugs(&self, filter: &BugFilter) -> Result<Vec<Bug>, StoreError>;

    /// One bug.
    async fn bug(&self, bug: BugId) -> Result<Option<Bug>, StoreError>;

    /// A new bug; its number is made here. [`StoreError::Duplicate`] if there is one of that name.
    async fn add_bug(&self, epoch: Epoch, bug: &Bug) -> Result<BugId, StoreError>;

    /// What was found out about a bug.
    async fn change_bug(&self, epoch: Epoch, bug: &Bug) -> Result<(), StoreError>;

    /// Forgets a bug; false if there is none.
    async fn remove_bug(&self, epoch: Epoch, bug: BugId) -> Result<bool, StoreError>;

    /// Bugs of these names were spoken of; those that are known stay as they are.
    async fn bugs_named(&self, epoch: Epoch, names: &[String], at: Timestamp) -> Result<(), StoreError>;

    /// What is written beside these posts of products.
    async fn run_marks(&self, runs: &[ProductRunId]) -> Result<BTreeMap<ProductRunId, RunMark>, StoreError>;

    /// Writes something beside a post of a product, in place of what was there.
    async fn mark_run(&self, epoch: Epoch, run: ProductRunId, mark: &RunMark) -> Result<(), StoreError>;
}
