//! The outbox in SQL that both databases understand.

use super::{EntryFilter, EntryState, NUMBER, NewEntry, OutboxStore, StoredEntry, TargetTally};
use crate::codec::{Fields, time};
use crate::error::StoreError;
use crate::gate::Tried;
use crate::jobs::Select;
use crate::sql::{Backend, Sql, Statement, Value};
use crate::types::Epoch;
use assay_engine::ids::Timestamp;

const COLUMNS: &str = "id, target, key, kind, about, body, at, state, attempts, next_try, note, ended_at";

fn entry(row: Vec<Value>) -> Result<StoredEntry, StoreError> {
    let mut fields = Fields::new("outbox", row);
    Ok(StoredEntry {
        id: fields.int()?,
        target: fields.text()?,
        key: fields.text()?,
        kind: fields.text()?,
        about: fields.text()?,
        body: fields.text()?,
        at: fields.time()?,
        state: fields.word(EntryState::from_word)?,
        attempts: fields.unsigned()?,
        next_try: fields.optional_time()?,
        note: fields.optional_text()?,
        ended_at: fields.optional_time()?,
    })
}

/// What stores entries, after whatever gives the numbers in them.
pub(crate) fn entry_statements(entries: &[NewEntry]) -> Vec<Statement> {
    entry_statements_if(entries, None)
}

/// The same if a condition is true: SQL whose parameters begin with `$12`, and their values.
pub(crate) fn entry_statements_if(
    entries: &[NewEntry],
    condition: Option<(&'static str, &[Value])>,
) -> Vec<Statement> {
    let (condition, more) = condition.unwrap_or(("1 = 1", &[]));
    let mut statements = Vec::new();
    for entry in entries {
        statements.push(Statement::new("UPDATE numbers SET last = last + 1 WHERE name = 'outbox'", []));
        let (of, after) = entry.numbered.map_or(("outbox", 0), |(of, after)| (of.name(), after));
        let mut values: Vec<Value> = vec![
            entry.target.as_str().into(),
            entry.key.as_str().into(),
            entry.kind.as_str().into(),
            entry.about.as_str().into(),
            entry.body.as_str().into(),
            entry.at.0.into(),
            time(entry.due),
            EntryState::Waiting.word().into(),
            NUMBER.to_string().into(),
            of.into(),
            after.into(),
        ];
        values.extend_from_slice(more);
        // Typed, because PostgreSQL does not look from a SELECT's list to the columns that it goes into.
        let number = "CAST((SELECT last FROM numbers WHERE name = $10) - CAST($11 AS BIGINT) AS TEXT)";
        let sql = format!(
            "INSERT INTO outbox (id, target, key, kind, about, body, at, state, attempts, next_try) \
             SELECT (SELECT last FROM numbers WHERE name = 'outbox'), CAST($1 AS TEXT), \
             REPLACE(CAST($2 AS TEXT), CAST($9 AS TEXT), {number}), CAST($3 AS TEXT), CAST($4 AS TEXT), \
             REPLACE(CAST($5 AS TEXT), CAST($9 AS TEXT), {number}), CAST($6 AS BIGINT), CAST($8 AS TEXT), 0, \
             CAST($7 AS BIGINT) WHERE {condition} ON CONFLICT (target, key) DO NOTHING"
        );
        statements.push(Statement::built(sql, values));
    }
    statements
}

fn tried_statement(id: i64, tried: &Tried) -> Statement {
    match tried {
        Tried::Done { at, note } => Statement::new(
            "UPDATE outbox SET state = 'delivered', next_try = NULL, note = $2, ended_at = $3 \
             WHERE id = $1 AND state = 'waiting'",
            [id.into(), note.clone().into(), at.0.into()],
        ),
        Tried::Skipped { at, note } => Statement::new(
            "UPDATE outbox SET state = 'skipped', next_try = NULL, note = $2, ended_at = $3 \
             WHERE id = $1 AND state = 'waiting'",
            [id.into(), note.as_str().into(), at.0.into()],
        ),
        Tried::Later { at, error } => Statement::new(
            "UPDATE outbox SET attempts = attempts + 1, next_try = $3, note = $2 WHERE id = $1 AND state = 'waiting'",
            [id.into(), error.as_str().into(), at.0.into()],
        ),
        Tried::Never { error } => Statement::new(
            "UPDATE outbox SET state = 'refused', attempts = attempts + 1, next_try = NULL, note = $2, ended_at = at \
             WHERE id = $1 AND state = 'waiting'",
            [id.into(), error.as_str().into()],
        ),
    }
}

impl<B: Backend> Sql<B> {
    async fn outbox_entries(
        &self,
        doing: &'static str,
        select: Select,
    ) -> Result<Vec<StoredEntry>, StoreError> {
        self.backend.query(doing, select.statement()).await?.into_iter().map(entry).collect()
    }

    async fn change_entries(
        &self,
        doing: &'static str,
        epoch: Epoch,
        mut select: Select,
        ids: &[i64],
    ) -> Result<Vec<i64>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        select.sql.push_str(" WHERE state IN ('waiting', 'skipped', 'refused', 'dropped') AND ");
        select.one_of("id", ids.iter().map(|id| Value::from(*id)));
        select.sql.push_str(" RETURNING id");
        let rows = self.know(doing, epoch, vec![select.statement()]).await?;
        rows.into_iter().map(|row| Fields::new("outbox", row).int()).collect()
    }
}

#[async_trait::async_trait]
impl<B: Backend> OutboxStore for Sql<B> {
    async fn add_entries(&self, epoch: Epoch, entries: &[NewEntry]) -> Result<(), StoreError> {
        self.know("store what is to be told", epoch, entry_statements(entries)).await.map(drop)
    }

    async fn next_entries(&self, target: &str, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        let mut select =
            Select::new(format!("SELECT {COLUMNS} FROM outbox WHERE state = 'waiting' AND target = "));
        select.value(target.into());
        select.sql.push_str(" ORDER BY id LIMIT ");
        select.value(i64::from(limit).into());
        self.outbox_entries("read what is to be told", select).await
    }

    async fn due_entries(
        &self,
        target: &str,
        now: Timestamp,
        limit: u32,
    ) -> Result<(Vec<StoredEntry>, Option<Timestamp>), StoreError> {
        let mut select =
            Select::new(format!("SELECT {COLUMNS} FROM outbox WHERE state = 'waiting' AND target = "));
        select.value(target.into());
        select.sql.push_str(" AND COALESCE(next_try, 0) <= ");
        select.value(now.0.into());
        select.sql.push_str(" ORDER BY id LIMIT ");
        select.value(i64::from(limit).into());
        let due = self.outbox_entries("read what is to be told", select).await?;
        let sql =
            "SELECT MIN(next_try) FROM outbox WHERE state = 'waiting' AND target = $1 AND next_try > $2";
        let rows = self.query("read what is to be told", sql, vec![target.into(), now.0.into()]).await?;
        let next =
            rows.into_iter().next().map(|row| Fields::new("outbox", row).optional_time()).transpose()?;
        Ok((due, next.flatten()))
    }

    async fn entries_tried(&self, epoch: Epoch, tried: &[(i64, Tried)]) -> Result<(), StoreError> {
        let statements = tried.iter().map(|(id, tried)| tried_statement(*id, tried)).collect();
        self.know("note what was told", epoch, statements).await.map(drop)
    }

    async fn entries(&self, filter: &EntryFilter) -> Result<Vec<StoredEntry>, StoreError> {
        let mut select = Select::new(format!("SELECT {COLUMNS} FROM outbox WHERE 1 = 1"));
        if let Some(target) = &filter.target {
            select.compare("target = ", target.as_str().into());
        }
        if let Some(state) = filter.state {
            select.compare("state = ", state.word().into());
        }
        if let Some((kind, about)) = &filter.about {
            select.compare("kind = ", kind.as_str().into());
            select.compare("about = ", about.as_str().into());
        }
        if let Some(before) = filter.before {
            select.compare("id < ", before.into());
        }
        select.sql.push_str(" ORDER BY id DESC LIMIT ");
        select.value(i64::from(filter.limit).into());
        self.outbox_entries("list what is to be told", select).await
    }

    async fn entry(&self, id: i64) -> Result<Option<StoredEntry>, StoreError> {
        let mut select = Select::new(format!("SELECT {COLUMNS} FROM outbox WHERE id = "));
        select.value(id.into());
        Ok(self.outbox_entries("read what is to be told", select).await?.pop())
    }

    async fn retry_entries(&self, epoch: Epoch, ids: &[i64]) -> Result<Vec<i64>, StoreError> {
        let select = Select::new(
            "UPDATE outbox SET state = 'waiting', next_try = NULL, ended_at = NULL, attempts = 0".to_owned(),
        );
        self.change_entries("have it told again", epoch, select, ids).await
    }

    async fn drop_entries(
        &self,
        epoch: Epoch,
        ids: &[i64],
        by: &str,
        at: Timestamp,
    ) -> Result<Vec<i64>, StoreError> {
        let mut select =
            Select::new("UPDATE outbox SET state = 'dropped', next_try = NULL, ended_at = ".to_owned());
        select.value(at.0.into());
        select.sql.push_str(", note = ");
        select.value(format!("given up by {by}").into());
        self.change_entries("give it up", epoch, select, ids).await
    }

    async fn target_tallies(&self) -> Result<Vec<TargetTally>, StoreError> {
        let sql = "SELECT target, COUNT(CASE WHEN state = 'waiting' THEN 1 END), \
                   MIN(CASE WHEN state = 'waiting' THEN at END), \
                   MIN(CASE WHEN state = 'waiting' AND attempts = 0 THEN COALESCE(next_try, at) \
                            WHEN state = 'waiting' THEN at END), \
                   COALESCE(MAX(CASE WHEN state = 'waiting' THEN attempts END), 0), \
                   COUNT(CASE WHEN state = 'delivered' THEN 1 END), COUNT(CASE WHEN state = 'skipped' THEN 1 END), \
                   COUNT(CASE WHEN state = 'refused' THEN 1 END), \
                   COUNT(CASE WHEN state = 'dropped' THEN 1 END), \
                   MAX(CASE WHEN state = 'delivered' THEN ended_at END) FROM outbox GROUP BY target ORDER BY target";
        let rows = self.query("count what is to be told", sql, vec![]).await?;
        let read = |row| {
            let mut fields = Fields::new("outbox", row);
            Ok(TargetTally {
                target: fields.text()?,
                waiting: fields.unsigned()?,
                oldest: fields.optional_time()?,
                due: fields.optional_time()?,
                attempts: fields.unsigned()?,
                delivered: fields.unsigned()?,
                skipped: fields.unsigned()?,
                refused: fields.unsigned()?,
                dropped: fields.unsigned()?,
                last: fields.optional_time()?,
            })
        };
        rows.into_iter().map(read).collect()
    }

    async fn waiting_targets(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT DISTINCT target FROM outbox WHERE state = 'waiting'";
        let rows = self.query("list who waits", sql, vec![]).await?;
        let mut targets = Vec::new();
        for row in rows {
            let target = Fields::new("outbox", row).text()?;
            // Here, because databases compare texts as their locale says.
            if target.starts_with(prefix) {
                targets.push(target);
            }
        }
        targets.sort();
        Ok(targets)
    }

    async fn notices(&self) -> Result<Vec<(String, String)>, StoreError> {
        let rows = self.query("read what people want", "SELECT name, body FROM notices", vec![]).await?;
        let read = |row| {
            let mut fields = Fields::new("notices", row);
            Ok((fields.text()?, fields.text()?))
        };
        rows.into_iter().map(read).collect()
    }

    async fn put_notices(
        &self,
        epoch: Epoch,
        name: &str,
        body: Option<&str>,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let statement = match body {
            Some(body) => Statement::new(
                "INSERT INTO notices (name, body, updated_at) VALUES ($1, $2, $3) \
                 ON CONFLICT (name) DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at",
                [name.into(), body.into(), at.0.into()],
            ),
            None => Statement::new("DELETE FROM notices WHERE name = $1", [name.into()]),
        };
        self.know("keep what somebody wants", epoch, vec![statement]).await.map(drop)
    }

    async fn prune_entries(&self, epoch: Epoch, before: Timestamp, limit: u32) -> Result<u32, StoreError> {
        // What the gate has told belongs to the history of its items.
        let sql = "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE \
                   state IN ('delivered', 'skipped', 'dropped') AND ended_at < $1 AND item IS NULL ORDER BY id LIMIT $2) RETURNING id";
        let statement = Statement::new(sql, [before.0.into(), i64::from(limit).into()]);
        Ok(self.know("remove what was told", epoch, vec![statement]).await?.len() as u32)
    }
}
