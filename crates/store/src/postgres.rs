//! PostgreSQL, where several servers share one database.

use crate::error::{DatabaseError, StoreError};
use crate::sql::{Backend, Statement, Value};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::{Arguments, ConnectOptions, Row, TypeInfo, ValueRef};
use std::str::FromStr;
use std::time::Duration;

pub(crate) struct Postgres {
    database: String,
    pool: PgPool,
}

impl Postgres {
    pub(crate) async fn open(url: &str) -> Result<Self, StoreError> {
        let shown = crate::redacted(url);
        let help = "check that PostgreSQL runs at that address, and that this user may use that database";
        let open_error =
            |source| StoreError::Open { url: shown.clone(), source: DatabaseError::Postgres(source), help };
        let options = PgConnectOptions::from_str(url)
            .map_err(open_error)?
            .application_name("assay")
            .options([("synchronous_commit", "on")])
            .statement_cache_capacity(64)
            .disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(6)
            .acquire_timeout(Duration::from_secs(20))
            .connect_with(options)
            .await
            .map_err(open_error)?;
        Ok(Self { database: shown, pool })
    }

    fn error(&self, doing: &'static str, source: sqlx::Error) -> StoreError {
        // disk_full
        if source
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .is_some_and(|code| code == "53100")
        {
            return StoreError::DiskFull {
                path: self.database.clone(),
                free: "an unknown number of".to_owned(),
            };
        }
        StoreError::Database { doing, source: DatabaseError::Postgres(source) }
    }
}

fn arguments(values: Vec<Value>) -> Result<PgArguments, sqlx::Error> {
    let mut arguments = PgArguments::default();
    for value in values {
        match value {
            Value::Int(value) => arguments.add(value),
            Value::Text(value) => arguments.add(value),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

fn values(row: &PgRow) -> Result<Vec<Value>, sqlx::Error> {
    let value = |index: usize| {
        let raw = row.try_get_raw(index)?;
        Ok(match raw.type_info().name() {
            "INT8" => Value::Int(row.try_get(index)?),
            _ => Value::Text(row.try_get(index)?),
        })
    };
    (0..row.len()).map(value).collect()
}

/// `*` stands for anything, and nothing else does.
fn like(pattern: &str) -> String {
    let mut like = String::new();
    for c in pattern.chars() {
        match c {
            '*' => like.push('%'),
            '%' | '_' | '\\' => like.extend(['\\', c]),
            c => like.push(c),
        }
    }
    like
}

#[async_trait::async_trait]
impl Backend for Postgres {
    const ID: &'static str = "BIGINT PRIMARY KEY";
    const SETTING: &'static str = "(settings::json #>> '{KEY,value}')";
    const HAS_PART: (&'static str, &'static str, &'static str) = (
        "EXISTS (SELECT 1 FROM unnest(string_to_array(",
        ", ',')) AS part(value) WHERE TRIM(part.value, ",
        ") = ",
    );
    const ACTION: &'static str = "(body::json #>> '{action,KEY}')";
    const FIND: &'static str = "strpos";
    const BYTES: &'static str = "TEXT COLLATE \"C\"";
    const CLUSTERED: &'static str = "";
    const JSON_ROWS: (&'static str, &'static str) =
        ("COALESCE(json_agg(json_build_array(", ")), '[]')::text");
    const LIKE: (&'static str, fn(&str) -> String, &'static str) = (" LIKE ", like, " ESCAPE '\\'");

    async fn snapshot(
        &self,
        doing: &'static str,
        statements: Vec<Statement>,
    ) -> Result<Vec<Vec<Vec<Value>>>, StoreError> {
        let read = async {
            let mut transaction =
                self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
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
            query.fetch_all(&self.pool).await?.iter().map(values).collect::<Result<_, _>>()
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
            let mut transaction = self.pool.begin().await?;
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
        self.pool.close().await;
    }
}
