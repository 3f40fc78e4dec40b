//! Knowledge in SQL that both databases understand.

use super::{
    AuditEvent, AuditFilter, Bug, BugFilter, BugId, CatalogChange, CatalogRow, Comment, CommentId,
    CommentTarget, EntryKind, Identity, KnowledgeStore, People, RunMark, StoredKey, Ticket, TicketKind,
    Tickets, User, UserId, UserRole,
};
use crate::codec::{Fields, contains_pattern, json, one_number, time};
use crate::error::StoreError;
use crate::outbox::{NewEntry, entry_statements};
use crate::sql::{Backend, Sql, Statement, Value, still_leader};
use crate::types::{Batch, Epoch};
use assay_engine::ids::{JobId, ProductRunId, Timestamp};
use std::collections::BTreeMap;

const COMMENT_COLUMNS: &str = "id, target_kind, target, author, text, created_at, updated_at";

/// Jobs in one question for their comments.
const JOBS_AT_ONCE: usize = 500;

fn user(row: Vec<Value>) -> Result<User, StoreError> {
    let mut fields = Fields::new("users", row);
    Ok(User {
        id: UserId(fields.int()?),
        name: fields.text()?,
        role: fields.word(UserRole::from_word)?,
        created_at: fields.time()?,
    })
}

fn key(row: Vec<Value>) -> Result<StoredKey, StoreError> {
    let mut fields = Fields::new("api_keys", row);
    Ok(StoredKey {
        key: fields.text()?,
        user: UserId(fields.int()?),
        sealed: fields.text()?,
        created_at: fields.time()?,
        expires_at: fields.optional_time()?,
        last_used_at: fields.optional_time()?,
    })
}

fn ticket(row: Vec<Value>) -> Result<Ticket, StoreError> {
    let mut fields = Fields::new("tickets", row);
    Ok(Ticket {
        hash: fields.text()?,
        kind: fields.word(TicketKind::from_word)?,
        user: UserId(fields.int()?),
        created_at: fields.time()?,
        expires_at: fields.time()?,
    })
}

fn identity(row: Vec<Value>) -> Result<(Identity, UserId), StoreError> {
    let mut fields = Fields::new("identities", row);
    Ok((Identity { issuer: fields.text()?, subject: fields.text()? }, UserId(fields.int()?)))
}

fn entry(row: Vec<Value>) -> Result<CatalogRow, StoreError> {
    let mut fields = Fields::new("catalog", row);
    Ok(match fields.word(EntryKind::from_word)? {
        EntryKind::Machine => CatalogRow::Machine(fields.json()?),
        EntryKind::TestSuite => CatalogRow::TestSuite(fields.json()?),
        EntryKind::Product => CatalogRow::Product(fields.json()?),
        EntryKind::JobTemplate => CatalogRow::JobTemplate(fields.json()?),
        EntryKind::Group => CatalogRow::Group(fields.json()?),
        EntryKind::ParentGroup => CatalogRow::ParentGroup(fields.json()?),
    })
}

fn body(row: &CatalogRow) -> Result<String, StoreError> {
    match row {
        CatalogRow::Machine(row) => json("catalog", row),
        CatalogRow::TestSuite(row) => json("catalog", row),
        CatalogRow::Product(row) => json("catalog", row),
        CatalogRow::JobTemplate(row) => json("catalog", row),
        CatalogRow::Group(row) => json("catalog", row),
        CatalogRow::ParentGroup(row) => json("catalog", row),
    }
}

impl CommentTarget {
    fn parts(self) -> (&'static str, i64) {
        match self {
            Self::Job(job) => ("job", job.0),
            Self::Group(group) => ("group", group),
            Self::ParentGroup(group) => ("parent_group", group),
        }
    }

    fn from_parts(kind: &str, id: i64) -> Option<Self> {
        Some(match kind {
            "job" => Self::Job(JobId(id)),
            "group" => Self::Group(id),
            "parent_group" => Self::ParentGroup(id),
            _ => return None,
        })
    }
}

fn comment(row: Vec<Value>) -> Result<Comment, StoreError> {
    let mut fields = Fields::new("comments", row);
    let id = CommentId(fields.int()?);
    let (kind, target) = (fields.text()?, fields.int()?);
    let target = CommentTarget::from_parts(&kind, target)
        .ok_or_else(|| fields.broken(format_args!("{kind:?} is nothing that is commented")))?;
    Ok(Comment {
        id,
        target,
        author: fields.text()?,
        text: fields.text()?,
        created_at: fields.time()?,
        updated_at: fields.time()?,
    })
}

fn event(row: Vec<Value>) -> Result<AuditEvent, StoreError> {
    let mut fields = Fields::new("audit_events", row);
    Ok(AuditEvent {
        id: fields.int()?,
        at: fields.time()?,
        user: fields.text()?,
        event: fields.text()?,
        data: fields.text()?,
    })
}

/// How many events go into one statement.
const EVENTS_AT_ONCE: usize = 32;

/// The next number of `table`. In the same transaction `(SELECT last FROM numbers WHERE name = …)` is that number; two
/// transactions wait for each other here.
pub(super) fn count(table: &'static str) -> Statement {
    Statement::new("UPDATE numbers SET last = last + 1 WHERE name = $1", [table.into()])
}

pub(super) fn list<T>(
    rows: Vec<Vec<Value>>,
    read: impl Fn(Vec<Value>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    rows.into_iter().map(read).collect()
}

impl<B: Backend> Sql<B> {
    /// Statements of the leader, in one transaction; the rows of the last.
    pub(crate) async fn know(
        &self,
        doing: &'static str,
        epoch: Epoch,
        statements: Vec<Statement>,
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        let guard = Some(still_leader(epoch, &Batch::default()));
        self.backend.write(doing, guard, statements).await.map_err(|error| match error {
            StoreError::Database { source, .. } if source.is_duplicate() => StoreError::Duplicate { doing },
            other => other,
        })
    }
}

fn put(row: &CatalogRow) -> Result<[Statement; 2], StoreError> {
    let id = row.id();
    Ok([
        Statement::new(
            "UPDATE numbers SET last = CASE WHEN last < $2 THEN $2 ELSE last END WHERE name = $1",
            [id.kind.word().into(), id.id.into()],
        ),
        Statement::new(
            "INSERT INTO catalog (kind, id, name, body) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (kind, id) DO UPDATE SET name = excluded.name, body = excluded.body",
            [id.kind.word().into(), id.id.into(), row.unique_name().into(), body(row)?.into()],
        ),
    ])
}

#[async_trait::async_trait]
impl<B: Backend> KnowledgeStore for Sql<B> {
    async fn people(&self) -> Result<People, StoreError> {
        let doing = "read who is known";
        let sql = "SELECT id, name, role, created_at FROM users ORDER BY id";
        let users = list(self.query(doing, sql, vec![]).await?, user)?;
        let sql = "SELECT key, user_id, sealed, created_at, expires_at, last_used_at FROM api_keys \
                   ORDER BY created_at, key";
        let keys = list(self.query(doing, sql, vec![]).await?, key)?;
        let sql = "SELECT hash, kind, user_id, created_at, expires_at FROM tickets ORDER BY created_at, hash";
        let tickets = list(self.query(doing, sql, vec![]).await?, ticket)?;
        let sql = "SELECT issuer, subject, user_id FROM identities ORDER BY issuer, subject";
        let identities = list(self.query(doing, sql, vec![]).await?, identity)?;
        Ok(People { users, keys, tickets, identities })
    }

    async fn add_user(
        &self,
        epoch: Epoch,
        name: &str,
        role: UserRole,
        at: Timestamp,
    ) -> Result<UserId, StoreError> {
        let insert = Statement::new(
            "INSERT INTO users (id, name, role, created_at) \
             VALUES ((SELECT last FROM numbers WHERE name = 'users'), $1, $2, $3) RETURNING id",
            [name.into(), role.word().into(), at.0.into()],
        );
        let rows = self.know("add a user", epoch, vec![count("users"), insert]).await?;
        one_number("users", &rows).map(UserId)
    }

    async fn bind_user(&self, epoch: Epoch, user: UserId, identity: &Identity) -> Result<(), StoreError> {
        let sql = "INSERT INTO identities (issuer, subject, user_id) VALUES ($1, $2, $3)";
        let values = [identity.issuer.as_str().into(), identity.subject.as_str().into(), user.0.into()];
        self.know("bind a user", epoch, vec![Statement::new(sql, values)]).await.map(drop)
    }

    async fn set_role(&self, epoch: Epoch, user: UserId, role: UserRole) -> Result<(), StoreError> {
        let sql = "UPDATE users SET role = $2 WHERE id = $1";
        let statement = Statement::new(sql, [user.0.into(), role.word().into()]);
        self.know("change a user", epoch, vec![statement]).await.map(drop)
    }

    async fn remove_user(&self, epoch: Epoch, user: UserId) -> Result<(), StoreError> {
        let keys = Statement::new("DELETE FROM api_keys WHERE user_id = $1", [user.0.into()]);
        let tickets = Statement::new("DELETE FROM tickets WHERE user_id = $1", [user.0.into()]);
        let identities = Statement::new("DELETE FROM identities WHERE user_id = $1", [user.0.into()]);
        let users = Statement::new("DELETE FROM users WHERE id = $1", [user.0.into()]);
        self.know("remove a user", epoch, vec![keys, tickets, identities, users]).await.map(drop)
    }

    async fn add_ticket(&self, epoch: Epoch, ticket: &Ticket) -> Result<(), StoreError> {
        let insert = Statement::new(
            "INSERT INTO tickets (hash, kind, user_id, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)",
            [
                ticket.hash.as_str().into(),
                ticket.kind.word().into(),
                ticket.user.0.into(),
                ticket.created_at.0.into(),
                ticket.expires_at.0.into(),
            ],
        );
        self.know("add a ticket", epoch, vec![insert]).await.map(drop)
    }

    async fn remove_ticket(&self, epoch: Epoch, hash: &str) -> Result<bool, StoreError> {
        let sql = "DELETE FROM tickets WHERE hash = $1 RETURNING user_id";
        let rows = self.know("remove a ticket", epoch, vec![Statement::new(sql, [hash.into()])]).await?;
        Ok(!rows.is_empty())
    }

    async fn remove_tickets(&self, epoch: Epoch, which: Tickets) -> Result<(), StoreError> {
        let statement = match which {
            Tickets::Of(user) => Statement::new("DELETE FROM tickets WHERE user_id = $1", [user.0.into()]),
            Tickets::ExpiredBy(at) => {
                Statement::new("DELETE FROM tickets WHERE expires_at <= $1", [at.0.into()])
            }
        };
        self.know("remove tickets", epoch, vec![statement]).await.map(drop)
    }

    async fn add_key(&self, epoch: Epoch, key: &StoredKey) -> Result<(), StoreError> {
        let insert = Statement::new(
            "INSERT INTO api_keys (key, user_id, sealed, created_at, expires_at, last_used_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
            [
                key.key.as_str().into(),
                key.user.0.into(),
                key.sealed.as_str().into(),
                key.created_at.0.into(),
                time(key.expires_at),
                time(key.last_used_at),
            ],
        );
        self.know("add a key", epoch, vec![insert]).await.map(drop)
    }

    async fn key_used(&self, epoch: Epoch, key: &str, at: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE api_keys SET last_used_at = $2 WHERE key = $1";
        let statement = Statement::new(sql, [key.into(), at.0.into()]);
        self.know("note the use of a key", epoch, vec![statement]).await.map(drop)
    }

    async fn remove_key(&self, epoch: Epoch, key: &str) -> Result<bool, StoreError> {
        let sql = "DELETE FROM api_keys WHERE key = $1 RETURNING user_id";
        let rows = self.know("revoke a key", epoch, vec![Statement::new(sql, [key.into()])]).await?;
        Ok(!rows.is_empty())
    }

    async fn catalog(&self) -> Result<(Vec<CatalogRow>, BTreeMap<EntryKind, i64>), StoreError> {
        let doing = "read the catalog";
        let sql = "SELECT kind, body FROM catalog ORDER BY kind, id";
        let rows = list(self.query(doing, sql, vec![]).await?, entry)?;
        let mut last = BTreeMap::new();
        for row in self.query(doing, "SELECT name, last FROM numbers", vec![]).await? {
            let mut fields = Fields::new("numbers", row);
            if let Some(kind) = EntryKind::from_word(&fields.text()?) {
                last.insert(kind, fields.int()?);
            }
        }
        Ok((rows, last))
    }

    async fn change_catalog(&self, epoch: Epoch, changes: &[CatalogChange]) -> Result<(), StoreError> {
        let mut statements = Vec::new();
        for change in changes {
            match change {
                CatalogChange::Put(row) => statements.extend(put(row)?),
                CatalogChange::Remove(id) => statements.push(Statement::new(
                    "DELETE FROM catalog WHERE kind = $1 AND id = $2",
                    [id.kind.word().into(), id.id.into()],
                )),
            }
        }
        self.know("change the catalog", epoch, statements).await.map(drop)
    }

    async fn add_told_comment(
        &self,
        epoch: Epoch,
        comment: &Comment,
        told: &[NewEntry],
    ) -> Result<CommentId, StoreError> {
        let (kind, target) = comment.target.parts();
        let insert = Statement::new(
            "INSERT INTO comments (id, target_kind, target, author, text, created_at, updated_at) \
             VALUES ((SELECT last FROM numbers WHERE name = 'comments'), $1, $2, $3, $4, $5, $6) RETURNING id",
            [
                kind.into(),
                target.into(),
                comment.author.as_str().into(),
                comment.text.as_str().into(),
                comment.created_at.0.into(),
                comment.updated_at.0.into(),
            ],
        );
        let mut statements = vec![count("comments")];
        statements.extend(entry_statements(told));
        statements.push(insert);
        let rows = self.know("add a comment", epoch, statements).await?;
        one_number("comments", &rows).map(CommentId)
    }

    async fn edit_comment(
        &self,
        epoch: Epoch,
        comment: CommentId,
        text: &str,
        at: Timestamp,
        told: &[NewEntry],
    ) -> Result<(), StoreError> {
        let sql = "UPDATE comments SET text = $2, updated_at = $3 WHERE id = $1";
        let statement = Statement::new(sql, [comment.0.into(), text.into(), at.0.into()]);
        let statements = [vec![statement], entry_statements(told)].concat();
        self.know("change a comment", epoch, statements).await.map(drop)
    }

    async fn remove_comments(
        &self,
        epoch: Epoch,
        comments: &[CommentId],
        told: &[NewEntry],
    ) -> Result<(), StoreError> {
        let delete = |id: &CommentId| Statement::new("DELETE FROM comments WHERE id = $1", [id.0.into()]);
        let statements = comments.iter().map(delete).chain(entry_statements(told)).collect();
        self.know("remove comments", epoch, statements).await.map(drop)
    }

    async fn comment(&self, id: CommentId) -> Result<Option<Comment>, StoreError> {
        let sql = format!("SELECT {COMMENT_COLUMNS} FROM comments WHERE id = $1");
        let rows = self.backend.query("read a comment", Statement::built(sql, vec![id.0.into()])).await?;
        Ok(list(rows, comment)?.pop())
    }

    async fn comments(&self, target: CommentTarget) -> Result<Vec<Comment>, StoreError> {
        let (kind, target) = target.parts();
        let sql = format!(
            "SELECT {COMMENT_COLUMNS} FROM comments WHERE target_kind = $1 AND target = $2 ORDER BY id"
        );
        let statement = Statement::built(sql, vec![kind.into(), target.into()]);
        list(self.backend.query("list comments", statement).await?, comment)
    }

    async fn comments_of_jobs(&self, jobs: &[JobId]) -> Result<Vec<Comment>, StoreError> {
        let mut found = Vec::new();
        for jobs in jobs.chunks(JOBS_AT_ONCE) {
            let places: Vec<_> = (1..=jobs.len()).map(|number| format!("${number}")).collect();
            let sql = format!(
                "SELECT {COMMENT_COLUMNS} FROM comments WHERE target_kind = 'job' AND target IN ({}) ORDER BY id",
                places.join(", ")
            );
            let values = jobs.iter().map(|job| job.0.into()).collect();
            let rows = self.backend.query("list comments", Statement::built(sql, values)).await?;
            found.extend(list(rows, comment)?);
        }
        found.sort_by_key(|comment| comment.id);
        Ok(found)
    }

    async fn comments_within(
        &self,
        first: CommentTarget,
        last: CommentTarget,
    ) -> Result<Vec<Comment>, StoreError> {
        let ((kind, first), (_, last)) = (first.parts(), last.parts());
        let sql = format!(
            "SELECT {COMMENT_COLUMNS} FROM comments WHERE target_kind = $1 AND target BETWEEN $2 AND $3 ORDER BY id"
        );
        let statement = Statement::built(sql, vec![kind.into(), first.into(), last.into()]);
        list(self.backend.query("list comments", statement).await?, comment)
    }

    async fn audit(&self, epoch: Epoch, events: &[AuditEvent]) -> Result<(), StoreError> {
        let mut statements = Vec::new();
        for some in events.chunks(EVENTS_AT_ONCE) {
            let number = "UPDATE numbers SET last = last + $1 WHERE name = 'audit_events'";
            let count = i64::try_from(some.len()).unwrap_or(i64::MAX);
            statements.push(Statement::new(number, [count.into()]));
            let (mut rows, mut values) = (Vec::new(), Vec::new());
            for (event, later) in some.iter().zip((0..count).rev()) {
                let at = values.len();
                rows.push(format!(
                    "((SELECT last FROM numbers WHERE name = 'audit_events') - {later}, ${}, ${}, ${}, ${})",
                    at + 1,
                    at + 2,
                    at + 3,
                    at + 4
                ));
                values.push(event.at.0.into());
                values.extend([&event.user, &event.event, &event.data].map(|text| text.as_str().into()));
            }
            let sql =
                format!("INSERT INTO audit_events (id, at, author, event, data) VALUES {}", rows.join(", "));
            statements.push(Statement::built(sql, values));
        }
        self.know("note what was done", epoch, statements).await.map(drop)
    }

    async fn audit_events(&self, filter: &AuditFilter) -> Result<Vec<AuditEvent>, StoreError> {
        let sql = "SELECT id, at, author, event, data FROM audit_events WHERE id < $1 \
                   AND ($2 = '' OR author = $2) AND ($3 = '' OR event = $3) \
                   AND ($4 = '' OR lower(data) LIKE $4 ESCAPE '\\') ORDER BY id DESC LIMIT $5";
        let text = filter.text.as_deref().map(contains_pattern).unwrap_or_default();
        let values = vec![
            filter.before.unwrap_or(i64::MAX).into(),
            filter.user.as_deref().unwrap_or_default().into(),
            filter.event.as_deref().unwrap_or_default().into(),
            text.as_str().into(),
            i64::from(filter.limit).into(),
        ];
        list(self.query("list what was done", sql, values).await?, event)
    }

    async fn bugs(&self, filter: &BugFilter) -> Result<Vec<Bug>, StoreError> {
        self.list_bugs(filter).await
    }

    async fn bug(&self, bug: BugId) -> Result<Option<Bug>, StoreError> {
        self.one_bug(bug).await
    }

    async fn add_bug(&self, epoch: Epoch, bug: &Bug) -> Result<BugId, StoreError> {
        self.insert_bug(epoch, bug).await
    }

    async fn change_bug(&self, epoch: Epoch, bug: &Bug) -> Result<(), StoreError> {
        self.update_bug(epoch, bug).await
    }

    async fn remove_bug(&self, epoch: Epoch, bug: BugId) -> Result<bool, StoreError> {
        self.delete_bug(epoch, bug).await
    }

    async fn bugs_named(&self, epoch: Epoch, names: &[String], at: Timestamp) -> Result<(), StoreError> {
        self.name_bugs(epoch, names, at).await
    }

    async fn run_marks(&self, runs: &[ProductRunId]) -> Result<BTreeMap<ProductRunId, RunMark>, StoreError> {
        self.marks_of_runs(runs).await
    }

    async fn mark_run(&self, epoch: Epoch, run: ProductRunId, mark: &RunMark) -> Result<(), StoreError> {
        self.write_mark(epoch, run, mark).await
    }
}
