//! SQLite: one writer, a few readers, on disk when COMMIT returns.

use crate::disk;
use crate::error::StoreError;
use crate::sql::{Backend, Statement, Value};
use camino::{Utf8Path, Utf8PathBuf};
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Arguments, ConnectOptions, Row, TypeInfo, ValueRef};
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
            .statement_cache_capacity(32)
            .disable_statement_logging();
        let readers = options.clone().pragma("query_only", "on");
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(BUSY * 4)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await
            .map_err(|source| open_error(&path, source))?;
        let readers =
            SqlitePoolOptions::new().max_connections(2).acquire_timeout(BUSY * 4).connect_lazy_with(readers);
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

#[async_trait::async_trait]
impl Backend for Sqlite {
    const ID: &'static str = "INTEGER PRIMARY KEY";

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
            // Dropped before COMMIT, for whatever reason, the transaction is rolled back.
            let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
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
