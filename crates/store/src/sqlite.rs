//! SQLite: one writer, a few readers, on disk when COMMIT returns.

use crate::disk;
use crate::error::{DatabaseError, StoreError};
use crate::sql::{Backend, Statement, Value};
use camino::{Utf8Path, Utf8PathBuf};
use rusqlite::config::DbConfig;
use rusqlite::types::{FromSqlError, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, Row, ToSql, TransactionBehavior, params_from_iter};
use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long to wait for another process to let go of the database.
const BUSY: Duration = Duration::from_secs(5);
/// More than these two at once do not read faster.
const READERS: usize = 2;

/// KiB of the database that each reader keeps in memory.
const READER_CACHE: i64 = 8 * 1024;
/// The same of the writer, which touches leaves all over the indexes of results.
const WRITER_CACHE: i64 = 32 * 1024;

/// Statements that stay prepared; rows go into tables in four sizes of statements each.
const STATEMENTS: usize = 256;

pub(crate) struct Sqlite {
    path: Utf8PathBuf,
    /// A single connection: a second writer would only wait, and a reader that turns writer fails at once.
    writer: Arc<Pool>,
    readers: Arc<Pool>,
}

/// Connections that are used by one thread at a time each. What is done with one is done in one go on a thread that may
/// wait: every change of threads costs as much as a small statement.
struct Pool {
    path: Utf8PathBuf,
    reads_only: bool,
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
}

impl Pool {
    fn new(path: &Utf8Path, connections: usize, reads_only: bool) -> Arc<Self> {
        let turns = Arc::new(Semaphore::new(connections));
        Arc::new(Self { path: path.to_owned(), reads_only, idle: Mutex::default(), turns })
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open(&self.path)?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; \
             PRAGMA synchronous = FULL; \
             PRAGMA foreign_keys = ON; \
             PRAGMA wal_autocheckpoint = 4096 -- pages: 16 MiB, so that few commits pay for moving it",
        )?;
        steady(&connection, true)?;
        let kibibytes = if self.reads_only { READER_CACHE } else { WRITER_CACHE };
        connection.pragma_update(None, "cache_size", -kibibytes)?;
        if self.reads_only {
            connection.pragma_update(None, "query_only", true)?;
        }
        Ok(connection)
    }

    /// Does it with a connection, once one is free; it is done even if nobody waits for it any more.
    async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<rusqlite::Result<T>, StoreError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| StoreError::Stopped)?;
        let pool = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let idle = pool.idle().pop();
            let mut connection = idle.map_or_else(|| pool.connect(), Ok)?;
            let done = act(&mut connection);
            pool.idle().push(connection);
            drop(turn);
            done
        });
        done.await.map_err(|_| StoreError::Stopped)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the connections, when the last use of them has ended.
    async fn close(&self, connections: usize) {
        let all = u32::try_from(connections).unwrap_or(u32::MAX);
        drop(self.turns.acquire_many(all).await);
        self.turns.close();
        self.idle().clear();
    }
}

impl Sqlite {
    pub(crate) async fn open(path: &str) -> Result<Self, StoreError> {
        let path = Utf8PathBuf::from(path);
        let (writer, readers) = (Pool::new(&path, 1, false), Pool::new(&path, READERS, true));
        writer.with(|_| Ok(())).await?.map_err(|source| open_error(&path, source))?;
        Ok(Self { path, writer, readers })
    }

    fn error(&self, doing: &'static str, source: rusqlite::Error) -> StoreError {
        if is_full(&source) {
            return disk::disk_full(directory(&self.path));
        }
        StoreError::Database { doing, source: DatabaseError::Sqlite(source) }
    }
}

fn directory(path: &Utf8Path) -> &Utf8Path {
    match path.parent() {
        Some(parent) if !parent.as_str().is_empty() => parent,
        _ => Utf8Path::new("."),
    }
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

fn open_error(path: &Utf8Path, source: rusqlite::Error) -> StoreError {
    if is_full(&source) {
        return disk::disk_full(directory(path));
    }
    let help = "check that the directory exists, that its files can be written, and that the file is an SQLite database";
    StoreError::Open { url: format!("sqlite:{path}"), source: DatabaseError::Sqlite(source), help }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Int(Some(number)) => ValueRef::Integer(*number),
            Self::Text(Some(text)) => ValueRef::Text(text.as_bytes()),
            Self::Int(None) | Self::Text(None) => ValueRef::Null,
        }))
    }
}

fn values(row: &Row<'_>, columns: usize) -> rusqlite::Result<Vec<Value>> {
    let value = |index: usize| {
        let raw = row.get_ref(index)?;
        let unfit = |error: FromSqlError| {
            rusqlite::Error::FromSqlConversionFailure(index, raw.data_type(), Box::new(error))
        };
        Ok(match raw {
            ValueRef::Null => Value::Text(None),
            ValueRef::Integer(number) => Value::Int(Some(number)),
            text => Value::Text(Some(text.as_str().map_err(unfit)?.to_owned())),
        })
    };
    (0..columns).map(value).collect()
}

/// SQLite counts `$1` as a name, and numbers names as they come.
fn numbered(sql: &str) -> Cow<'_, str> {
    if sql.contains('$') {
        let mut parts = sql.split('$');
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            text.push(if part.starts_with(|c: char| c.is_ascii_digit()) { '?' } else { '$' });
            text.push_str(part);
        }
        return Cow::Owned(text);
    }
    Cow::Borrowed(sql)
}

/// Whether statements stay as they were prepared. Else SQLite looks at the values and prepares many anew at each use.
fn steady(connection: &Connection, on: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, on).map(drop)
}

/// The rows that a statement answers with.
fn run(connection: &Connection, statement: &Statement) -> rusqlite::Result<Vec<Vec<Value>>> {
    // Which rows fit a pattern is found in an index only where the pattern is known.
    let is_search = statement.sql.as_str().contains(Sqlite::LIKE.0);
    if !is_search {
        return run_prepared(connection, statement);
    }
    steady(connection, false)?;
    let rows = run_prepared(connection, statement);
    steady(connection, true)?;
    rows
}

fn run_prepared(connection: &Connection, statement: &Statement) -> rusqlite::Result<Vec<Vec<Value>>> {
    let mut prepared = connection.prepare_cached(&numbered(statement.sql.as_str()))?;
    let columns = prepared.column_count();
    let mut answers = prepared.query(params_from_iter(&statement.values))?;
    let mut rows = Vec::new();
    while let Some(row) = answers.next()? {
        rows.push(values(row, columns)?);
    }
    Ok(rows)
}

/// Only `*` is special.
fn glob(pattern: &str) -> String {
    let mut glob = String::new();
    for c in pattern.chars() {
        match c {
            '?' | '[' => glob.extend(['[', c, ']']),
            c => glob.push(c),
        }
    }
    glob
}

/// One transaction; `None` if the guard changed nothing.
fn write_on(
    connection: &mut Connection,
    guard: Option<Statement>,
    statements: &[Statement],
) -> rusqlite::Result<Option<Vec<Vec<Value>>>> {
    // Dropped before COMMIT, for whatever reason, the transaction is rolled back.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if let Some(guard) = guard {
        run(&transaction, &guard)?;
        if transaction.changes() == 0 {
            return Ok(None);
        }
    }
    let mut rows = Vec::new();
    for statement in statements {
        rows = run(&transaction, statement)?;
    }
    transaction.commit()?;
    Ok(Some(rows))
}

#[async_trait::async_trait]
impl Backend for Sqlite {
    const ID: &'static str = "INTEGER PRIMARY KEY";
    const SETTING: &'static str = "json_extract(settings, '$.KEY.value')";
    // There is no function that takes a text apart, but one for JSON, in which a comma has no other spelling.
    const HAS_PART: (&'static str, &'static str, &'static str) = (
        "EXISTS (SELECT 1 FROM json_each('[' || REPLACE(json_quote(",
        "), ',', '\",\"') || ']') AS part WHERE TRIM(part.value, ",
        ") = ",
    );
    const ACTION: &'static str = "json_extract(body, '$.action.KEY')";
    const FIND: &'static str = "instr";
    const BYTES: &'static str = "TEXT";
    const CLUSTERED: &'static str = " WITHOUT ROWID";
    const JSON_ROWS: (&'static str, &'static str) = ("json_group_array(json_array(", "))");
    const LIKE: (&'static str, fn(&str) -> String, &'static str) = (" GLOB ", glob, "");

    async fn snapshot(
        &self,
        doing: &'static str,
        statements: Vec<Statement>,
    ) -> Result<Vec<Vec<Vec<Value>>>, StoreError> {
        let read = self.readers.with(move |connection| {
            // A transaction sees what was there at its first look.
            let transaction = connection.transaction()?;
            statements.iter().map(|statement| run(&transaction, statement)).collect()
        });
        read.await?.map_err(|source| self.error(doing, source))
    }

    async fn query(&self, doing: &'static str, statement: Statement) -> Result<Vec<Vec<Value>>, StoreError> {
        let read = self.readers.with(move |connection| run(connection, &statement));
        read.await?.map_err(|source| self.error(doing, source))
    }

    async fn write(
        &self,
        doing: &'static str,
        guard: Option<Statement>,
        statements: Vec<Statement>,
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        let written = self.writer.with(move |connection| write_on(connection, guard, &statements));
        match written.await? {
            Ok(Some(rows)) => Ok(rows),
            Ok(None) => Err(StoreError::Deposed),
            Err(source) => Err(self.error(doing, source)),
        }
    }

    async fn close(&self) {
        self.readers.close(READERS).await;
        self.writer.close(1).await; // last, so that it moves the log into the database
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, Store};
    use assay_engine::io::{Input, NewJob};
    use assay_engine::settings::Settings;
    use assay_engine::state::State;
    use assay_engine::work::Timing;

    async fn opened(dir: &tempfile::TempDir) -> Sqlite {
        Sqlite::open(dir.path().join("x.db").to_str().unwrap()).await.unwrap()
    }

    async fn pragma(pool: &Arc<Pool>, sql: &'static str) -> String {
        let rows =
            pool.with(move |connection| run(connection, &Statement::new(sql, []))).await.unwrap().unwrap();
        match &rows[0][0] {
            Value::Text(text) => text.clone().unwrap(),
            Value::Int(number) => number.unwrap().to_string(),
        }
    }

    async fn execute(pool: &Arc<Pool>, sql: String) -> rusqlite::Result<()> {
        pool.with(move |connection| connection.execute_batch(&sql)).await.unwrap()
    }

    #[test]
    fn parameters_keep_their_numbers() {
        for (sql, expected) in [
            ("SELECT 1", "SELECT 1"),
            ("x = x + $2 WHERE y = $1", "x = x + ?2 WHERE y = ?1"),
            ("json_extract(x, '$.KEY.value') = $10", "json_extract(x, '$.KEY.value') = ?10"),
        ] {
            assert_eq!(numbered(sql), expected);
        }
    }

    #[tokio::test]
    async fn commits_survive_a_loss_of_power() {
        let dir = tempfile::tempdir().unwrap();
        let sqlite = opened(&dir).await;
        for (name, value) in
            [("PRAGMA journal_mode", "wal"), ("PRAGMA synchronous", "2"), ("PRAGMA foreign_keys", "1")]
        {
            assert_eq!(pragma(&sqlite.writer, name).await, value, "{name}");
        }
        let refused = execute(&sqlite.readers, "CREATE TABLE x (y BIGINT)".to_owned()).await;
        assert!(refused.is_err(), "a reader cannot write");
    }

    #[tokio::test]
    async fn a_full_disk_is_called_that_and_ends_when_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let sqlite = opened(&dir).await;
        let connection = sqlite.writer.clone();
        let store = crate::sql::Sql::migrated(sqlite).await.unwrap();
        let epoch = store.acquire_leadership().await.unwrap();
        pragma(&connection, "PRAGMA max_page_count = 1").await; // no more than there are
        let mut state = State::new(Timing::default(), assay_engine::ids::Timestamp(0));
        let settings = Settings::from_request([("TEST", "t".to_owned()), ("X", "x".repeat(200_000))]);
        let step = state
            .step(Input::PostJobs { jobs: vec![NewJob::new(settings)] }, assay_engine::ids::Timestamp(1));
        let mut batch = Batch::default();
        for effect in step.effects {
            if let assay_engine::io::Effect::Save(row) = effect {
                batch.push(*row);
            }
        }
        let error = store.commit(epoch, &batch).await.unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, StoreError::DiskFull { .. }), "{message}");
        assert!(message.contains(dir.path().to_str().unwrap()) && message.contains("make room"), "{message}");
        pragma(&connection, "PRAGMA max_page_count = 100000").await;
        store.commit(epoch, &batch).await.unwrap();
    }

    /// Rows of the second version are read by this one, and are found by their scenario.
    #[tokio::test]
    async fn jobs_of_older_versions_are_brought_up_to_date() {
        let dir = tempfile::tempdir().unwrap();
        let sqlite = opened(&dir).await;
        let run = |sql: String| {
            let writer = sqlite.writer.clone();
            async move { execute(&writer, sql).await.unwrap() }
        };
        run(crate::schema::VERSION_TABLE.replace("{ID}", Sqlite::ID)).await;
        for version in crate::schema::VERSIONS.iter().filter(|version| version.number <= 2) {
            for statement in version.statements {
                run(statement.replace("{ID}", Sqlite::ID)).await;
            }
            run(format!("INSERT INTO schema_version (version) VALUES ({})", version.number)).await;
        }
        let settings = r#"{"BUILD":{"value":"1","from":"request"},"FLAVOR":{"value":"","from":"request"},
                           "TEST":{"value":"a ''b''","from":"default"}}"#;
        let detail = r#"{"state":"active","attempt":1,"token":9,"phase":"running","cancelled_by":"alice"}"#;
        run(format!(
            "INSERT INTO jobs (id, name, priority, classes, settings, state, detail, search, created_at) \
             VALUES (7, 'n', 50, 'dummy', '{settings}', 'running', '{detail}', 'n', 5)"
        ))
        .await;
        let store = crate::sql::Sql::migrated(sqlite).await.unwrap();
        let filter = crate::JobFilter {
            test: vec!["a 'b'".to_owned()],
            build: vec!["1".to_owned()],
            ..crate::JobFilter::default()
        };
        let [job] = &store.summaries(&filter).await.unwrap()[..] else { panic!("one job") };
        assert_eq!((job.id.0, job.flavor.as_deref(), job.group, job.blocked_by), (7, None, None, None));
        let row = store.job(job.id).await.unwrap().expect("the job").row;
        assert_eq!((row.parents.len(), row.retries.left, row.clone_of), (0, 0, None));
        let stopping = match row.state {
            assay_engine::job::JobState::Active(active) => active.stopping,
            other => panic!("{other:?}"),
        };
        assert_eq!(stopping, Some(assay_engine::job::Stopping::cancelled("alice")));
    }

    /// Reports of the gate that had a table of their own are entries of the outbox, after those that were there.
    #[tokio::test]
    async fn what_the_gate_had_to_tell_is_in_the_outbox() {
        let dir = tempfile::tempdir().unwrap();
        let sqlite = opened(&dir).await;
        let writer = sqlite.writer.clone();
        drop(crate::sql::Sql::migrated_to(sqlite, 13).await.unwrap());
        let run = async |sql: &str| execute(&writer, sql.to_owned()).await.unwrap();
        run("UPDATE numbers SET last = 4 WHERE name = 'outbox'").await;
        run("INSERT INTO outbox (id, target, key, kind, about, body, at, state, attempts) \
             VALUES (4, 'bus', 'k', 'job.done', 'x', '{}', 9, 'waiting', 0)")
        .await;
        for (number, state) in [(1, "delivered"), (2, "undeliverable"), (3, "waiting")] {
            let body = format!(
                r#"{{"id":[7,{number}],"about":{{"kind":"timer","project":"a/b","at":0}},"project":"a/b","pipeline":"check",
                    "action":{{"report":"sql","source":"db","score":null}},"message":"m"}}"#
            );
            run(&format!(
                "INSERT INTO gate_reports (item, number, body, state, attempts, last_error, delivered_at) \
                 VALUES (7, {number}, '{body}', '{state}', 2, 'why', CASE WHEN '{state}' = 'delivered' THEN 30 END)"
            ))
            .await;
        }
        let store = crate::sql::Sql::migrated(opened(&dir).await).await.unwrap();
        let filter = crate::EntryFilter { limit: 10, ..crate::EntryFilter::default() };
        let entries = store.outbox().entries(&filter).await.unwrap();
        let shown: Vec<_> = entries
            .iter()
            .map(|one| (one.id, one.target.as_str(), one.kind.as_str(), one.state.word(), one.at.0))
            .collect();
        assert_eq!(
            shown,
            [
                (7, "gate/db", "gate.sql", "waiting", 0),
                (6, "gate/db", "gate.sql", "refused", 0),
                (5, "gate/db", "gate.sql", "delivered", 30),
                (4, "bus", "job.done", "waiting", 9),
            ]
        );
        let item = assay_engine::gate::ids::ItemId(7);
        let of_item = store.gate().reports_of_item(item).await.unwrap();
        assert_eq!(of_item.len(), 3);
        assert_eq!((of_item[1].report.id, of_item[1].note.as_deref()), ((item, 2), Some("why")));
        assert_eq!(store.gate().undelivered_keys().await.unwrap()[0].id, (item, 3));
        let epoch = store.acquire_leadership().await.unwrap();
        let tried = crate::Tried::Done { at: assay_engine::ids::Timestamp(40), note: None };
        store.gate().report_tried(epoch, (item, 3), &tried).await.unwrap();
        assert_eq!(store.gate().undelivered().await.unwrap(), []);
    }

    #[tokio::test]
    async fn what_cannot_be_opened_says_where_and_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs_err::write(
            path("text.db"),
            "this is no database, but long enough to be looked at as if it were one",
        )
        .unwrap();
        for name in ["absent/x.db", "text.db", "."] {
            let error = Sqlite::open(&path(name)).await.err().unwrap_or_else(|| panic!("{name} was opened"));
            let message = error.to_string();
            assert!(
                message.contains(&path(name)) && message.contains("check that the directory exists"),
                "{message}"
            );
        }
    }
}
