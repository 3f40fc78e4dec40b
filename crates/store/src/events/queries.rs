//! Events in SQL that both databases understand.

use super::{
    EffectState, EffectsDone, EndedJob, EventStore, Matched, MessageFilter, MessageSource, MessageState,
    NewMessage, PANICKED, RuleHits, SourceRole, SourceTally, StoredEffect, StoredMessage, group,
};
use crate::codec::{Fields, ROWS_AT_ONCE, contains_pattern, json, pieces, time, tuples};
use crate::error::StoreError;
use crate::jobs::Select;
use crate::sql::{Backend, Sql, Statement, Value};
use crate::types::Epoch;
use assay_engine::ids::{JobId, Timestamp};
use assay_engine::rules::Planned;
use std::collections::{BTreeMap, BTreeSet};

const COLUMNS: &str = "id, source, bus, received_at, state, caused, recovered, generation, dedupe_key, topic, headers, \
                       body, sent_at";
const EFFECT_COLUMNS: &str = "body, event, state, due_at, caused, planned_at";
/// Keys in one question.
const KEYS_AT_ONCE: usize = 200;

fn message(row: Vec<Value>) -> Result<StoredMessage, StoreError> {
    let mut fields = Fields::new("messages", row);
    let mut stored = StoredMessage {
        id: fields.int()?,
        source: fields.text()?,
        bus: fields.text()?,
        received_at: fields.time()?,
        state: fields.word(MessageState::from_word)?,
        caused: fields.optional_text()?,
        recovered: fields.int()? != 0,
        generation: fields.unsigned()?,
        message: NewMessage {
            dedupe_key: fields.text()?,
            topic: fields.text()?,
            headers: fields.text()?,
            body: fields.text()?,
            sent_at: fields.optional_time()?,
            parked: None,
            news: None,
            news_since: None,
        },
    };
    if stored.state == MessageState::Parked {
        stored.message.parked.clone_from(&stored.caused);
    }
    Ok(stored)
}

fn effect(row: Vec<Value>) -> Result<StoredEffect, StoreError> {
    let mut fields = Fields::new("effects", row);
    Ok(StoredEffect {
        planned: fields.json()?,
        event: fields.int()?,
        state: fields.word(EffectState::from_word)?,
        due_at: fields.time()?,
        caused: fields.optional_text()?,
        at: fields.time()?,
    })
}

/// What another source has brought before was not lost: the bus was only later.
fn brought_after_all(bus: &str, messages: &[NewMessage]) -> Vec<Statement> {
    let one = |messages: &[NewMessage]| {
        let mut select = Select::new("UPDATE messages SET recovered = 0 WHERE bus = ".to_owned());
        select.value(bus.into());
        select.sql.push_str(" AND recovered = 1 AND (");
        select.one_of("dedupe_key", messages.iter().map(|message| message.dedupe_key.as_str().into()));
        let told =
            || messages.iter().filter_map(|message| Some((message.news.as_deref()?, message.news_since)));
        let once: Vec<Value> =
            told().filter(|(_, since)| since.is_none()).map(|(news, _)| news.into()).collect();
        if !once.is_empty() {
            select.sql.push_str(" OR ");
            select.one_of("news", once);
        }
        for (news, since) in told().filter_map(|(news, since)| Some((news, since?))) {
            select.sql.push_str(" OR (news = ");
            select.value(news.into());
            select.sql.push_str(" AND COALESCE(sent_at, received_at) >= ");
            select.value(since.0.into());
            select.sql.push(')');
        }
        select.sql.push(')');
        select.statement()
    };
    messages.chunks(KEYS_AT_ONCE).map(one).collect()
}

/// A source's cursors are apart from those of the gate's sources.
fn cursor_name(source: &str) -> String {
    format!("source/{source}")
}

fn save_cursor(source: &str, name: &str, value: Option<&str>) -> Statement {
    let key = [cursor_name(source).into(), name.into()];
    match (key, value) {
        ([source, name], Some(value)) => Statement::new(
            "INSERT INTO cursors (source, name, value) VALUES ($1, $2, $3) \
             ON CONFLICT (source, name) DO UPDATE SET value = excluded.value",
            [source, name, value.into()],
        ),
        (key, None) => Statement::new("DELETE FROM cursors WHERE source = $1 AND name = $2", key),
    }
}

/// What is known by its key stays as it is. What was only written down while staging has not been done: it waits anew, as
/// and since it is planned now.
const KNOWN: &str = "ON CONFLICT (key) DO UPDATE SET state = excluded.state, caused = NULL, body = excluded.body, \
                     group_key = excluded.group_key, due_at = excluded.due_at, planned_at = excluded.planned_at \
                     WHERE effects.state = 'logged'";

/// New effects.
fn insert_effects(at: Timestamp, event: i64, planned: &[Planned]) -> Result<Vec<Statement>, StoreError> {
    let mut statements = Vec::new();
    let mut alone = Vec::new();
    // PostgreSQL takes no row twice in one statement.
    let mut keys = BTreeSet::new();
    for one in planned.iter().filter(|one| keys.insert(one.key.as_str())) {
        let (kind, id) = one.item.as_ref().map_or(("", ""), |item| (item.kind.as_str(), item.id.as_str()));
        let row = vec![
            one.key.as_str().into(),
            event.into(),
            one.rule.as_str().into(),
            kind.into(),
            id.into(),
            json("effects", one)?.into(),
            at.0.into(),
        ];
        let (Some(group), Some(batch)) = (group(one), &one.batch) else {
            alone.push(row);
            continue;
        };
        let mut values = row;
        values.extend([group.into(), (at.0.saturating_add(batch.window)).into()]);
        let sql = format!(
            "INSERT INTO effects (key, event, rule, item_type, item, body, planned_at, state, group_key, due_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, 'waiting', $8, COALESCE((SELECT MIN(due_at) FROM effects \
             WHERE group_key = $8 AND state = 'waiting'), $9)) {KNOWN}"
        );
        statements.push(Statement::built(sql, values));
    }
    for rows in pieces(alone, &ROWS_AT_ONCE) {
        let sql = format!(
            "INSERT INTO effects (key, event, rule, item_type, item, body, planned_at, state, due_at) \
             SELECT column1, column2, column3, column4, column5, column6, column7, 'waiting', column7 \
             FROM (VALUES {}) AS new WHERE 1 = 1 {KNOWN}",
            tuples(&rows)
        );
        statements.push(Statement::built(sql, rows.into_iter().flatten().collect()));
    }
    Ok(statements)
}

/// Counts something that leaves no row behind.
fn tally(what: &'static str, name: &str, number: u64, at: Timestamp) -> Statement {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    Statement::new(
        "INSERT INTO tallies (what, name, number, last) VALUES ($1, $2, $3, $4) ON CONFLICT (what, name) \
         DO UPDATE SET number = tallies.number + excluded.number, last = excluded.last",
        [what.into(), name.into(), number.into(), at.0.into()],
    )
}

/// What notes the end of effects; only of those that are not ended yet.
pub(crate) fn settle(done: &EffectsDone) -> Vec<Statement> {
    let piece = |keys: &[String]| {
        let mut select = Select::new("UPDATE effects SET state = ".to_owned());
        select.value(done.state.word().into());
        select.sql.push_str(", caused = ");
        select.value(done.caused.as_str().into());
        select.sql.push_str(" WHERE state IN ('waiting', 'held') AND ");
        select.one_of("key", keys.iter().map(|key| key.as_str().into()));
        select.statement()
    };
    done.keys.chunks(KEYS_AT_ONCE).map(piece).collect()
}

impl<B: Backend> Sql<B> {
    async fn effects(
        &self,
        doing: &'static str,
        tail: &str,
        values: Vec<Value>,
    ) -> Result<Vec<StoredEffect>, StoreError> {
        let sql = format!("SELECT {EFFECT_COLUMNS} FROM effects WHERE {tail}");
        let rows = self.backend.query(doing, Statement::built(sql, values)).await?;
        rows.into_iter().map(effect).collect()
    }

    /// What is counted of sources or rules: how often, and when it was last.
    async fn tallies(&self, what: &'static str) -> Result<BTreeMap<String, (u64, Timestamp)>, StoreError> {
        let sql = "SELECT name, number, last FROM tallies WHERE what = $1";
        let rows = self.query("read what is counted of events", sql, vec![what.into()]).await?;
        let read = |row| {
            let mut fields = Fields::new("tallies", row);
            Ok((fields.text()?, (fields.unsigned()?, fields.time()?)))
        };
        rows.into_iter().map(read).collect()
    }

    async fn message_rows(
        &self,
        doing: &'static str,
        tail: &str,
        values: Vec<Value>,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM messages WHERE {tail}");
        let rows = self.backend.query(doing, Statement::built(sql, values)).await?;
        rows.into_iter().map(message).collect()
    }
}

#[async_trait::async_trait]
impl<B: Backend> EventStore for Sql<B> {
    async fn receive_messages(
        &self,
        epoch: Epoch,
        source: &MessageSource<'_>,
        at: Timestamp,
        messages: &[NewMessage],
        cursors: &[(String, Option<String>)],
    ) -> Result<u64, StoreError> {
        let mut statements: Vec<Statement> =
            cursors.iter().map(|(name, value)| save_cursor(source.name, name, value.as_deref())).collect();
        let rows = messages.iter().zip(1_i64..).map(|(message, number)| {
            let state = if message.parked.is_some() { MessageState::Parked } else { MessageState::Received };
            vec![
                number.into(),
                source.name.into(),
                source.bus.into(),
                at.0.into(),
                state.word().into(),
                message.parked.clone().into(),
                i64::from(source.role.backs()).into(),
                message.dedupe_key.as_str().into(),
                message.topic.as_str().into(),
                message.headers.as_str().into(),
                message.body.as_str().into(),
                time(message.sent_at),
                message.news.clone().into(),
                time(message.news_since),
            ]
        });
        let untold = match source.role {
            // Of what comes again and again only what others told near its time is the same; what the source itself has
            // told before is known by its key.
            SourceRole::Reconciles => {
                "NOT EXISTS (SELECT 1 FROM messages AS told WHERE told.bus = column3 AND told.news = column13 AND \
                 (column14 IS NULL OR (told.source <> column2 AND COALESCE(told.sent_at, told.received_at) >= column14)))"
            }
            SourceRole::Bus | SourceRole::Backed | SourceRole::Backs => "1 = 1",
        };
        for rows in pieces(rows.collect(), &ROWS_AT_ONCE) {
            let sql = format!(
                "INSERT INTO messages (id, source, bus, received_at, state, caused, recovered, generation, dedupe_key, topic, \
                 headers, body, sent_at, news) SELECT (SELECT last FROM numbers WHERE name = 'messages') + column1, column2, \
                 column3, column4, column5, column6, column7, 0, column8, column9, column10, column11, column12, column13 \
                 FROM (VALUES {}) AS new WHERE {untold} ON CONFLICT (bus, dedupe_key) DO NOTHING",
                tuples(&rows)
            );
            statements.push(Statement::built(sql, rows.into_iter().flatten().collect()));
        }
        if source.role == SourceRole::Backed {
            statements.extend(brought_after_all(source.bus, messages));
        }
        let count = messages.len() as i64;
        if count > 0 {
            let sql = "UPDATE numbers SET last = last + $1 WHERE name = 'messages'";
            statements.push(Statement::new(sql, [count.into()]));
            let sql = "INSERT INTO tallies (what, name, number, last) SELECT 'known', $1, known, $2 FROM (SELECT $3 - COUNT(*) \
                       AS known FROM messages WHERE id > (SELECT last FROM numbers WHERE name = 'messages') - $3) AS these \
                       WHERE known > 0 ON CONFLICT (what, name) DO UPDATE SET number = tallies.number + excluded.number, \
                       last = excluded.last";
            statements.push(Statement::new(sql, [source.name.into(), at.0.into(), count.into()]));
        }
        let sql = "SELECT COUNT(*) FROM messages WHERE id > (SELECT last FROM numbers WHERE name = 'messages') - $1";
        statements.push(Statement::new(sql, [count.into()]));
        let rows = self.know("receive messages", epoch, statements).await?;
        Ok(u64::try_from(crate::codec::one_number("messages", &rows)?).unwrap_or(0))
    }

    async fn message_cursors(&self, source: &str) -> Result<BTreeMap<String, String>, StoreError> {
        let sql = "SELECT name, value FROM cursors WHERE source = $1";
        let rows = self.query("read the cursors of a source", sql, vec![cursor_name(source).into()]).await?;
        let read = |row| {
            let mut fields = Fields::new("cursors", row);
            Ok((fields.text()?, fields.text()?))
        };
        rows.into_iter().map(read).collect()
    }

    async fn unmatched(&self, limit: u32) -> Result<Vec<StoredMessage>, StoreError> {
        let values = vec![i64::from(limit).into()];
        self.message_rows("list events to match", "state = 'received' ORDER BY id LIMIT $1", values).await
    }

    async fn told_before(
        &self,
        message: i64,
        pollers: &[&str],
        near: i64,
    ) -> Result<Option<(String, String)>, StoreError> {
        if pollers.is_empty() {
            return Ok(None);
        }
        let apart = |one: &str| {
            format!(
                "ABS(COALESCE(told.sent_at, told.received_at) - COALESCE({one}.sent_at, {one}.received_at))"
            )
        };
        let (own, twin) = (apart("own"), apart("twin"));
        let polled =
            (3..).take(pollers.len()).map(|number| format!("${number}")).collect::<Vec<_>>().join(", ");
        // What the bus has told since, and at least as near, was the same time: this one is another.
        let sql = format!(
            "SELECT told.bus, told.dedupe_key FROM messages AS own JOIN messages AS told ON told.bus = own.bus \
             AND told.news = own.news WHERE own.id = $1 AND own.source NOT IN ({polled}) AND told.id < own.id \
             AND told.source IN ({polled}) AND {own} <= $2 AND NOT EXISTS (SELECT 1 FROM messages AS twin \
             WHERE twin.bus = own.bus AND twin.news = own.news AND twin.id > told.id AND twin.id < own.id \
             AND twin.source NOT IN ({polled}) AND {twin} <= {own}) ORDER BY {own}, told.id LIMIT 1"
        );
        let mut values: Vec<Value> = vec![message.into(), near.saturating_mul(1_000_000).into()];
        values.extend(pollers.iter().map(|&name| Value::from(name)));
        let rows = self.backend.query("look who told it before", Statement::built(sql, values)).await?;
        let read = |row| {
            let mut fields = Fields::new("messages", row);
            Ok((fields.text()?, fields.text()?))
        };
        rows.into_iter().next().map(read).transpose()
    }

    async fn match_messages(
        &self,
        epoch: Epoch,
        at: Timestamp,
        matched: &[Matched],
    ) -> Result<(), StoreError> {
        let mut statements = Vec::new();
        let mut failed: BTreeMap<&str, u64> = BTreeMap::new();
        for rule in matched.iter().flat_map(|one| &one.failed) {
            *failed.entry(rule).or_default() += 1;
        }
        statements.extend(failed.into_iter().map(|(rule, times)| tally("failed", rule, times, at)));
        for one in matched {
            statements.extend(insert_effects(at, one.event, &one.effects)?);
            let state = if one.parked { MessageState::Parked } else { MessageState::Matched };
            statements.push(Statement::new(
                "UPDATE messages SET state = $2, caused = $3 WHERE id = $1",
                [one.event.into(), state.word().into(), one.caused.as_str().into()],
            ));
        }
        self.know("store what rules want", epoch, statements).await.map(drop)
    }

    async fn due_effects(&self, now: Timestamp, limit: u32) -> Result<Vec<StoredEffect>, StoreError> {
        let tail = "state = 'waiting' AND due_at <= $1 ORDER BY due_at, event, key LIMIT $2";
        self.effects("list effects that are due", tail, vec![now.0.into(), i64::from(limit).into()]).await
    }

    async fn next_effect(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT MIN(due_at) FROM effects WHERE state = 'waiting' AND due_at > $1";
        let rows = self.query("look for the next effect", sql, vec![now.0.into()]).await?;
        match rows.into_iter().next() {
            Some(row) => Fields::new("effects", row).optional_time(),
            None => Ok(None),
        }
    }

    async fn held_effects(&self, limit: u32) -> Result<Vec<StoredEffect>, StoreError> {
        let sql = format!(
            "SELECT {EFFECT_COLUMNS} FROM (SELECT {EFFECT_COLUMNS}, key, ROW_NUMBER() OVER (PARTITION BY rule ORDER BY event, key) \
             AS place FROM effects WHERE state = 'held') AS held WHERE place <= $1 ORDER BY event, key"
        );
        let statement = Statement::built(sql, vec![i64::from(limit).into()]);
        let rows = self.backend.query("list effects that are held", statement).await?;
        rows.into_iter().map(effect).collect()
    }

    async fn postpone_effects(
        &self,
        epoch: Epoch,
        keys: &[String],
        until: Timestamp,
        why: &str,
    ) -> Result<(), StoreError> {
        let piece = |keys: &[String]| {
            let mut select = Select::new("UPDATE effects SET state = 'waiting', due_at = ".to_owned());
            select.value(until.0.into());
            select.sql.push_str(", caused = ");
            select.value(why.into());
            select.sql.push_str(" WHERE state IN ('waiting', 'held') AND ");
            select.one_of("key", keys.iter().map(|key| key.as_str().into()));
            select.statement()
        };
        let statements = keys.chunks(KEYS_AT_ONCE).map(piece).collect();
        self.know("postpone effects", epoch, statements).await.map(drop)
    }

    async fn reopen_effects(&self, epoch: Epoch, keys: &[String], now: Timestamp) -> Result<u64, StoreError> {
        let mut count = 0;
        for some in keys.chunks(KEYS_AT_ONCE) {
            let mut select =
                Select::new("UPDATE effects SET state = 'waiting', caused = NULL, due_at = ".to_owned());
            select.value(now.0.into());
            select.sql.push_str(", planned_at = CASE WHEN state = 'logged' THEN ");
            select.value(now.0.into());
            select.sql.push_str(" ELSE planned_at END WHERE state IN ('refused', 'logged') AND ");
            select.one_of("key", some.iter().map(|key| key.as_str().into()));
            select.sql.push_str(" RETURNING key");
            count += self.know("open effects again", epoch, vec![select.statement()]).await?.len() as u64;
        }
        Ok(count)
    }

    async fn settle_effects(&self, epoch: Epoch, done: &[EffectsDone]) -> Result<(), StoreError> {
        let statements = done.iter().flat_map(settle).collect();
        self.know("note what became of effects", epoch, statements).await.map(drop)
    }

    async fn expand_effect(
        &self,
        epoch: Epoch,
        at: Timestamp,
        event: i64,
        done: &EffectsDone,
        effects: &[Planned],
    ) -> Result<(), StoreError> {
        let mut statements = insert_effects(at, event, effects)?;
        statements.extend(settle(done));
        self.know("store the parts of an effect", epoch, statements).await.map(drop)
    }

    async fn effects_by_key(&self, keys: &[String]) -> Result<Vec<StoredEffect>, StoreError> {
        let mut found = Vec::new();
        for some in keys.chunks(KEYS_AT_ONCE) {
            let mut select = Select::new(format!("SELECT {EFFECT_COLUMNS} FROM effects WHERE "));
            select.one_of("key", some.iter().map(|key| key.as_str().into()));
            let rows = self.backend.query("read effects", select.statement()).await?;
            found.extend(rows.into_iter().map(effect).collect::<Result<Vec<_>, _>>()?);
        }
        Ok(found)
    }

    async fn effects_of(&self, events: &[i64]) -> Result<Vec<StoredEffect>, StoreError> {
        let mut found = Vec::new();
        for some in events.chunks(KEYS_AT_ONCE) {
            let mut select = Select::new(format!("SELECT {EFFECT_COLUMNS} FROM effects WHERE "));
            select.one_of("event", some.iter().map(|event| (*event).into()));
            select.sql.push_str(" ORDER BY event, key");
            let rows = self.backend.query("read what events caused", select.statement()).await?;
            found.extend(rows.into_iter().map(effect).collect::<Result<Vec<_>, _>>()?);
        }
        Ok(found)
    }

    async fn message(&self, id: i64) -> Result<Option<StoredMessage>, StoreError> {
        Ok(self.message_rows("read an event", "id = $1", vec![id.into()]).await?.pop())
    }

    async fn message_id(&self, bus: &str, dedupe_key: &str) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT id FROM messages WHERE bus = $1 AND dedupe_key = $2";
        let rows = self.query("look for an event", sql, vec![bus.into(), dedupe_key.into()]).await?;
        rows.into_iter().next().map(|row| Fields::new("messages", row).int()).transpose()
    }

    async fn messages(&self, filter: &MessageFilter) -> Result<Vec<StoredMessage>, StoreError> {
        let mut select = Select::new(format!("SELECT {COLUMNS} FROM messages WHERE id < "));
        select.value(filter.before.unwrap_or(i64::MAX).into());
        if let Some(source) = &filter.source {
            select.sql.push_str(" AND source = ");
            select.value(source.as_str().into());
        }
        if let Some(state) = filter.state {
            select.sql.push_str(" AND state = ");
            select.value(state.word().into());
        }
        if filter.led {
            // What was known before belongs to another event, and is named by this one.
            select.sql.push_str(
                " AND (caused LIKE '{\"effects\":[\"%' OR EXISTS (SELECT 1 FROM effects WHERE event = messages.id))",
            );
        }
        if let Some(text) = &filter.text {
            select.sql.push_str(" AND (LOWER(topic) LIKE ");
            select.value(contains_pattern(text).into());
            select.sql.push_str(" ESCAPE '\\' OR LOWER(body) LIKE ");
            select.value(contains_pattern(text).into());
            select.sql.push_str(" ESCAPE '\\')");
        }
        select.sql.push_str(" ORDER BY id DESC LIMIT ");
        select.value(i64::from(filter.limit).into());
        let rows = self.backend.query("list events", select.statement()).await?;
        rows.into_iter().map(message).collect()
    }

    async fn replay(&self, epoch: Epoch, id: i64, force: bool) -> Result<bool, StoreError> {
        let sql = "UPDATE messages SET state = 'received', caused = NULL, generation = generation + $2 \
                   WHERE id = $1 AND (state <> 'parked' OR caused LIKE $3) RETURNING id";
        let ours = format!("{PANICKED}%");
        let statement = Statement::new(sql, [id.into(), i64::from(force).into(), ours.into()]);
        Ok(!self.know("replay an event", epoch, vec![statement]).await?.is_empty())
    }

    async fn ended_jobs(&self, (commit, id): (i64, i64), limit: u32) -> Result<Vec<EndedJob>, StoreError> {
        // A bound of its own, so that the index is used.
        let sql = "SELECT ended_in, id, finished_at FROM jobs WHERE ended_in >= $1 AND (ended_in > $1 OR id > $2) \
                   ORDER BY ended_in, id LIMIT $3";
        let values = vec![commit.into(), id.into(), i64::from(limit).into()];
        let rows = self.query("list jobs that have ended", sql, values).await?;
        let read = |row| {
            let mut fields = Fields::new("jobs", row);
            Ok(EndedJob { commit: fields.int()?, job: JobId(fields.int()?), at: fields.time()? })
        };
        rows.into_iter().map(read).collect()
    }

    async fn last_commit(&self) -> Result<i64, StoreError> {
        let rows = self.query("count commits", "SELECT commits FROM leader WHERE id = 1", vec![]).await?;
        crate::codec::one_number("leader", &rows)
    }

    async fn prune_messages(&self, epoch: Epoch, before: Timestamp, limit: u32) -> Result<u32, StoreError> {
        let sql = "DELETE FROM messages WHERE id IN (SELECT id FROM messages WHERE state <> 'received' AND received_at < $1 \
                   ORDER BY id LIMIT $2) RETURNING id";
        let statement = Statement::new(sql, [before.0.into(), i64::from(limit).into()]);
        Ok(self.know("remove old messages", epoch, vec![statement]).await?.len() as u32)
    }

    async fn rule_hits(&self) -> Result<Vec<RuleHits>, StoreError> {
        let sql = "SELECT rule, COUNT(*), MAX(planned_at) FROM effects GROUP BY rule ORDER BY rule";
        let rows = self.query("count what rules did", sql, vec![]).await?;
        let read = |row| {
            let mut fields = Fields::new("effects", row);
            let (rule, effects, last) = (fields.text()?, fields.unsigned()?, fields.optional_time()?);
            Ok(RuleHits { rule, effects, last, failed: 0, last_failed: None })
        };
        let mut hits = rows.into_iter().map(read).collect::<Result<Vec<_>, StoreError>>()?;
        for (rule, (failed, last)) in self.tallies("failed").await? {
            match hits.iter_mut().find(|one| one.rule == rule) {
                Some(one) => (one.failed, one.last_failed) = (failed, Some(last)),
                None => hits.push(RuleHits { rule, effects: 0, last: None, failed, last_failed: Some(last) }),
            }
        }
        Ok(hits)
    }

    async fn source_tallies(&self) -> Result<Vec<SourceTally>, StoreError> {
        let sql = "SELECT source, COUNT(*), COUNT(CASE WHEN recovered = 1 THEN 1 END), \
                   COUNT(CASE WHEN state = 'parked' THEN 1 END), MAX(received_at) FROM messages \
                   GROUP BY source ORDER BY source";
        let rows = self.query("count what sources brought", sql, vec![]).await?;
        let read = |row| {
            let mut fields = Fields::new("messages", row);
            Ok(SourceTally {
                source: fields.text()?,
                messages: fields.unsigned()?,
                recovered: fields.unsigned()?,
                parked: fields.unsigned()?,
                known: 0,
                last: fields.optional_time()?,
            })
        };
        let mut tallies = rows.into_iter().map(read).collect::<Result<Vec<_>, StoreError>>()?;
        for (source, (known, _)) in self.tallies("known").await? {
            match tallies.iter_mut().find(|one| one.source == source) {
                Some(one) => one.known = known,
                None => {
                    tallies.push(SourceTally {
                        source,
                        messages: 0,
                        recovered: 0,
                        parked: 0,
                        known,
                        last: None,
                    });
                }
            }
        }
        Ok(tallies)
    }
}
