//! SQLite: one writer, a few readers, on disk when COMMIT returns.

use crate::disk;
use crate::error::StoreError;
use crate::sql::{Backend, Statement, Value};
use camino::{Utf8Path, Utf8PathBuf};
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Arguments, ConnectOptions, Connection, Row, SqliteConnection, TypeInfo, ValueRef};
use std::time::Duration;

/// How long to wait for another process to let go of the database.
const BUSY: Duration = Duration::from_secs(5);

pub(crate) struct Sqlite {
    path: Utf8PathBuf,
    /// A single connection: a second writer would only wait, and a reader that turns writer fails at once.
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Sqlite {
    pub(crate) async fn open(path: &str) -> Result<Self, StoreError> {
        let path = Utf8PathBuf::from(path);
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            .pragma("cache_size", "-1024") // KiB
            .pragma("wal_autocheckpoint", "4096") // pages: 16 MiB, so that few commits pay for moving it
            .statement_cache_capacity(64)
            .disable_statement_logging();
        let readers = options.clone().pragma("query_only", "on");
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(BUSY * 4)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false) // it is a thread of this process, and asking it costs as much as a small query
            .connect_with(options)
            .await
            .map_err(|source| open_error(&path, source))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(2)
            .acquire_timeout(BUSY * 4)
            .test_before_acquire(false)
            .connect_lazy_with(readers);
        Ok(Self { path, writer, readers })
    }

    fn error(&self, doing: &'static str, source: sqlx::Error) -> StoreError {
        if is_full(&source) {
            return disk::disk_full(directory(&self.path));
        }
        StoreError::Database { doing, source }
    }
}

fn directory(path: &Utf8Path) -> &Utf8Path {
    match path.parent() {
        Some(parent) if !parent.as_str().is_empty() => parent,
        _ => Utf8Path::new("."),
    }
}

/// SQLITE_FULL.
fn is_full(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code == "13")
}

fn open_error(path: &Utf8Path, source: sqlx::Error) -> StoreError {
    if is_full(&source) {
        return disk::disk_full(directory(path));
    }
    let help = "check that the directory exists, that its files can be written, and that the file is an SQLite database";
    StoreError::Open { url: format!("sqlite:{path}"), source, help }
}

fn arguments(values: Vec<Value>) -> Result<SqliteArguments, sqlx::Error> {
    let mut arguments = SqliteArguments::default();
    for value in values {
        match value {
            Value::Int(value) => arguments.add(value),
            Value::Text(value) => arguments.add(value),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

fn values(row: &SqliteRow) -> Result<Vec<Value>, sqlx::Error> {
    let value = |index: usize| {
        let raw = row.try_get_raw(index)?;
        Ok(match raw.type_info().name() {
            _ if raw.is_null() => Value::Text(None),
            "INTEGER" => Value::Int(Some(row.try_get(index)?)),
            _ => Value::Text(Some(row.try_get(index)?)),
        })
    };
    (0..row.len()).map(value).collect()
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
async fn write_on(
    connection: &mut SqliteConnection,
    guard: Option<Statement>,
    statements: Vec<Statement>,
) -> Result<Option<Vec<Vec<Value>>>, sqlx::Error> {
    // Dropped before COMMIT, for whatever reason, the transaction is rolled back.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    if let Some(guard) = guard {
        let query = sqlx::query_with(guard.sql, arguments(guard.values)?);
        if query.execute(&mut *transaction).await?.rows_affected() == 0 {
            return Ok(None);
        }
    }
    let mut rows = Vec::new();
    for statement in statements {
        let query = sqlx::query_with(statement.sql, arguments(statement.values)?);
        rows = query.fetch_all(&mut *transaction).await?;
    }
    transaction.commit().await?;
    rows.iter().map(values).collect::<Result<_, _>>().map(Some)
}

#[async_trait::async_trait]
impl Backend for Sqlite {
    const ID: &'static str = "INTEGER PRIMARY KEY";
    const SETTING: &'static str = "json_extract(settings, '$.KEY.value')";
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
        let read = async {
            // A transaction sees what was there at its first look.
            let mut transaction = self.readers.begin().await?;
            let mut answers = Vec::new();
            for statement in statements {
                let query = sqlx::query_with(statement.sql, arguments(statement.values)?);
                let rows = query.fetch_all(&mut *transaction).await?;
                answers.push(rows.iter().map(values).collect::<Result<_, _>>()?);
            }
            transaction.commit().await?;
            Ok(answers)
        };
        read.await.map_err(|source| self.error(doing, source))
    }

    async fn query(&self, doing: &'static str, statement: Statement) -> Result<Vec<Vec<Value>>, StoreError> {
        let read = async {
            let query = sqlx::query_with(statement.sql, arguments(statement.values)?);
            query.fetch_all(&self.readers).await?.iter().map(values).collect::<Result<_, _>>()
        };
        read.await.map_err(|source| self.error(doing, source))
    }

    async fn write(
        &self,
        doing: &'static str,
        guard: Option<Statement>,
        statements: Vec<Statement>,
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        let written = async {
            let mut connection = self.writer.acquire().await?;
            let written = write_on(&mut connection, guard, statements).await;
            if written.is_err() {
                // After some errors, a full disk for one, SQLite has already rolled back, and the pool's idea of the
                // connection is wrong for good.
                connection.close_on_drop();
            }
            written
        };
        match written.await {
            Ok(Some(rows)) => Ok(rows),
            Ok(None) => Err(StoreError::Deposed),
            Err(source) => Err(self.error(doing, source)),
        }
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await; // last, so that it moves the log into the database
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

    async fn pragma(pool: &SqlitePool, name: &'static str) -> String {
        let row = sqlx::query(name).fetch_one(pool).await.unwrap();
        row.try_get::<String, _>(0).or_else(|_| row.try_get::<i64, _>(0).map(|n| n.to_string())).unwrap()
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
        let refused = sqlx::query("CREATE TABLE x (y BIGINT)").execute(&sqlite.readers).await;
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
            async move { sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&writer).await.unwrap() }
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
        let run = async |sql: &'static str| drop(sqlx::query(sql).execute(&writer).await.unwrap());
        run("UPDATE numbers SET last = 4 WHERE name = 'outbox'").await;
        run("INSERT INTO outbox (id, target, key, kind, about, body, at, state, attempts) \
             VALUES (4, 'bus', 'k', 'job.done', 'x', '{}', 9, 'waiting', 0)")
        .await;
        for (number, state) in [(1, "delivered"), (2, "undeliverable"), (3, "waiting")] {
            let body = format!(
                r#"{{"id":[7,{number}],"about":{{"kind":"timer","project":"a/b","at":0}},"project":"a/b","pipeline":"check",
                    "action":{{"report":"sql","source":"db","score":null}},"message":"m"}}"#
            );
            let sql = "INSERT INTO gate_reports (item, number, body, state, attempts, last_error, delivered_at) \
                       VALUES (7, $1, $2, $3, 2, 'why', CASE WHEN $3 = 'delivered' THEN 30 END)";
            sqlx::query(sql).bind(number).bind(body).bind(state).execute(&writer).await.unwrap();
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
