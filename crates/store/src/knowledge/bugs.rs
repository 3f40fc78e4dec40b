//! Bugs that comments name, and what is written beside posts of products.

use super::queries::{count, list};
use crate::codec::{Fields, json, one_number};
use crate::error::StoreError;
use crate::jobs::Select;
use crate::sql::{Backend, Sql, Statement, Value};
use crate::types::Epoch;
use assay_engine::ids::{ProductRunId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A bug's number here; that of its tracker is in its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BugId(pub i64);

/// What a tracker says about a bug.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BugFacts {
    /// In one line.
    pub title: Option<String>,
    /// The tracker's word.
    pub priority: Option<String>,
    /// Whether somebody works on it.
    pub assigned: Option<bool>,
    /// Who.
    pub assignee: Option<String>,
    /// Whether it is open.
    pub open: Option<bool>,
    /// The tracker's word.
    pub status: Option<String>,
    /// The tracker's word.
    pub resolution: Option<String>,
}

/// A bug that somebody has named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bug {
    /// Its number here; 0 before it is stored.
    pub id: BugId,
    /// For example `boo#12`; unique.
    pub bugid: String,
    /// What its tracker says.
    pub facts: BugFacts,
    /// Whether the tracker knows it.
    pub existing: bool,
    /// Whether the tracker was asked.
    pub refreshed: bool,
    /// When it was first named.
    pub created_at: Timestamp,
    /// When something was last found out about it.
    pub updated_at: Timestamp,
}

/// Which bugs to list; `None` does not restrict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BugFilter {
    /// First named after this.
    pub created_after: Option<Timestamp>,
    /// Those that the tracker was never asked about, and those that exist and were last asked about before this.
    pub stale_at: Option<Timestamp>,
    /// At most so many.
    pub limit: u32,
    /// Without the first so many.
    pub offset: u32,
}

/// What is written beside a post of a product.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunMark {
    /// For people.
    pub note: Option<String>,
    /// Who has cancelled it.
    pub cancelled_by: Option<String>,
}

const COLUMNS: &str = "id, bugid, facts, known, refreshed, created_at, updated_at";

fn bug(row: Vec<Value>) -> Result<Bug, StoreError> {
    let mut fields = Fields::new("bugs", row);
    Ok(Bug {
        id: BugId(fields.int()?),
        bugid: fields.text()?,
        facts: fields.json()?,
        existing: fields.int()? != 0,
        refreshed: fields.int()? != 0,
        created_at: fields.time()?,
        updated_at: fields.time()?,
    })
}

fn values(bug: &Bug) -> Result<[Value; 6], StoreError> {
    Ok([
        bug.bugid.as_str().into(),
        json("bugs", &bug.facts)?.into(),
        i64::from(bug.existing).into(),
        i64::from(bug.refreshed).into(),
        bug.created_at.0.into(),
        bug.updated_at.0.into(),
    ])
}

impl<B: Backend> Sql<B> {
    pub(super) async fn list_bugs(&self, filter: &BugFilter) -> Result<Vec<Bug>, StoreError> {
        let mut select = Select::new(format!("SELECT {COLUMNS} FROM bugs WHERE 1 = 1"));
        if let Some(after) = filter.created_after {
            select.compare("created_at > ", after.0.into());
        }
        if let Some(before) = filter.stale_at {
            select
                .compare("(refreshed = 0 OR known = 1) AND (refreshed = 0 OR updated_at < ", before.0.into());
            select.sql.push(')');
        }
        select.sql.push_str(" ORDER BY id LIMIT ");
        select.value(i64::from(filter.limit).into());
        select.sql.push_str(" OFFSET ");
        select.value(i64::from(filter.offset).into());
        list(self.backend.query("list bugs", select.statement()).await?, bug)
    }

    pub(super) async fn one_bug(&self, id: BugId) -> Result<Option<Bug>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM bugs WHERE id = $1");
        let rows = self.backend.query("read a bug", Statement::built(sql, vec![id.0.into()])).await?;
        Ok(list(rows, bug)?.pop())
    }

    pub(super) async fn insert_bug(&self, epoch: Epoch, bug: &Bug) -> Result<BugId, StoreError> {
        let insert = Statement::new(
            "INSERT INTO bugs (id, bugid, facts, known, refreshed, created_at, updated_at) \
             VALUES ((SELECT last FROM numbers WHERE name = 'bugs'), $1, $2, $3, $4, $5, $6) RETURNING id",
            values(bug)?,
        );
        let rows = self.know("add a bug", epoch, vec![count("bugs"), insert]).await?;
        one_number("bugs", &rows).map(BugId)
    }

    pub(super) async fn update_bug(&self, epoch: Epoch, bug: &Bug) -> Result<(), StoreError> {
        let [bugid, facts, known, refreshed, _, updated_at] = values(bug)?;
        let sql = "UPDATE bugs SET bugid = $2, facts = $3, known = $4, refreshed = $5, updated_at = $6 WHERE id = $1";
        let statement = Statement::new(sql, [bug.id.0.into(), bugid, facts, known, refreshed, updated_at]);
        self.know("change a bug", epoch, vec![statement]).await.map(drop)
    }

    pub(super) async fn delete_bug(&self, epoch: Epoch, id: BugId) -> Result<bool, StoreError> {
        let statement = Statement::new("DELETE FROM bugs WHERE id = $1 RETURNING id", [id.0.into()]);
        Ok(!self.know("remove a bug", epoch, vec![statement]).await?.is_empty())
    }

    pub(super) async fn name_bugs(
        &self,
        epoch: Epoch,
        names: &[String],
        at: Timestamp,
    ) -> Result<(), StoreError> {
        if names.is_empty() {
            return Ok(());
        }
        let facts = json("bugs", &BugFacts::default())?;
        let insert = |name: &String| {
            Statement::new(
                "INSERT INTO bugs (id, bugid, facts, known, refreshed, created_at, updated_at) \
                 VALUES ((SELECT last FROM numbers WHERE name = 'bugs'), $1, $2, 1, 0, $3, $3) \
                 ON CONFLICT (bugid) DO NOTHING",
                [name.as_str().into(), facts.as_str().into(), at.0.into()],
            )
        };
        let statements = names.iter().flat_map(|name| [count("bugs"), insert(name)]).collect();
        self.know("note the bugs of a comment", epoch, statements).await.map(drop)
    }

    pub(super) async fn marks_of_runs(
        &self,
        runs: &[ProductRunId],
    ) -> Result<BTreeMap<ProductRunId, RunMark>, StoreError> {
        if runs.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut select = Select::new("SELECT id, note, cancelled_by FROM product_runs WHERE ".to_owned());
        select.one_of("id", runs.iter().map(|run| run.0.into()));
        let rows = self.backend.query("read what is written beside posts", select.statement()).await?;
        let mark = |row| -> Result<_, StoreError> {
            let mut fields = Fields::new("product_runs", row);
            let id = ProductRunId(fields.int()?);
            Ok((id, RunMark { note: fields.optional_text()?, cancelled_by: fields.optional_text()? }))
        };
        rows.into_iter().map(mark).collect()
    }

    pub(super) async fn write_mark(
        &self,
        epoch: Epoch,
        run: ProductRunId,
        mark: &RunMark,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE product_runs SET note = $2, cancelled_by = $3 WHERE id = $1";
        let values = [run.0.into(), Value::Text(mark.note.clone()), Value::Text(mark.cancelled_by.clone())];
        self.know("write beside a post", epoch, vec![Statement::new(sql, values)]).await.map(drop)
    }
}
