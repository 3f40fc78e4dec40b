//! What is to be decided about: written with what makes it so, removed when it has been decided. Nothing of it is lost
//! with a process, and what has been decided once is not decided again at every start.
//!
//! A subject has one row for everything new that is known of it, and one for each moment from which on something that
//! counted counts no more. `round` tells whether something came while it was being decided.

use super::write::inserts;
use super::{DecisionRow, Undecided};
use crate::codec::{Fields, one_number};
use crate::error::StoreError;
use crate::jobs::Select;
use crate::sql::{Backend, Sql, Statement, Value};
use crate::types::Epoch;
use assay_engine::decision::Subject;
use assay_engine::ids::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Due at any time: something new is known already.
pub(super) const AT_ONCE: Timestamp = Timestamp(i64::MIN);

/// Has subjects decided about, each from a moment on.
pub(super) fn due_statements<'a>(due: impl Iterator<Item = (Timestamp, &'a str, &'a str)>) -> Vec<Statement> {
    // No statement may touch a row twice.
    let due: BTreeSet<(i64, &str, &str)> = due.map(|(at, kind, item)| (at.0, kind, item)).collect();
    let row = |(at, kind, item): (i64, &str, &str)| -> Vec<Value> {
        vec![at.into(), kind.into(), item.into(), 1_i64.into()]
    };
    inserts(
        "undecided (due_at, subject_type, subject_identifier, round)",
        due.into_iter().map(row).collect(),
        " ON CONFLICT (due_at, subject_type, subject_identifier) DO UPDATE SET round = undecided.round + 1",
    )
}

/// The same at once.
pub(super) fn new_statements<'a>(subjects: impl Iterator<Item = &'a Subject>) -> Vec<Statement> {
    due_statements(subjects.map(|subject| (AT_ONCE, subject.kind.as_str(), subject.item.as_str())))
}

fn subject(fields: &mut Fields) -> Result<Subject, StoreError> {
    Ok(Subject { kind: fields.text()?, item: fields.text()? })
}

impl<B: Backend> Sql<B> {
    pub(super) async fn list_undecided(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Undecided>, StoreError> {
        let sql = "SELECT due_at, subject_type, subject_identifier, round FROM undecided WHERE due_at <= $1 \
                   ORDER BY due_at, subject_type, subject_identifier LIMIT $2";
        let rows = self.query("list what is undecided", sql, vec![now.0.into(), i64::from(limit).into()]);
        let one = |row| {
            let mut fields = Fields::new("undecided", row);
            Ok(Undecided { due: fields.time()?, subject: subject(&mut fields)?, round: fields.int()? })
        };
        rows.await?.into_iter().map(one).collect()
    }

    pub(super) async fn first_undecided(&self, after: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        // A number, so that there is one row with one column whatever there is.
        let sql = "SELECT COALESCE(MIN(due_at), -1) FROM undecided WHERE due_at > $1";
        let rows = self.query("look for what is undecided", sql, vec![after.0.max(0).into()]).await?;
        Ok(Some(one_number("undecided", &rows)?).filter(|at| *at >= 0).map(Timestamp))
    }

    pub(super) async fn store_undecided(
        &self,
        epoch: Epoch,
        subjects: &[Subject],
        due: Timestamp,
    ) -> Result<(), StoreError> {
        let rows = subjects.iter().map(|one| (due, one.kind.as_str(), one.item.as_str()));
        self.know("note what is to be decided", epoch, due_statements(rows)).await.map(drop)
    }

    pub(super) async fn remove_undecided(&self, epoch: Epoch, done: &[Undecided]) -> Result<(), StoreError> {
        let one = |done: &Undecided| {
            let values: [Value; 4] = [
                done.due.0.into(),
                done.subject.kind.as_str().into(),
                done.subject.item.as_str().into(),
                done.round.into(),
            ];
            let sql = "DELETE FROM undecided WHERE due_at = $1 AND subject_type = $2 AND subject_identifier = $3 \
                       AND round = $4";
            Statement::new(sql, values)
        };
        self.know("note what is decided", epoch, done.iter().map(one).collect()).await.map(drop)
    }

    pub(super) async fn list_newest(&self, items: &[String]) -> Result<Vec<DecisionRow>, StoreError> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let columns = super::decide::DECISION_COLUMNS;
        let mut select = Select::new(format!(
            "SELECT {columns} FROM decisions WHERE id IN (SELECT MAX(id) FROM decisions WHERE "
        ));
        select.one_of("subject_identifier", items.iter().map(|item| Value::from(item.as_str())));
        select.sql.push_str(
            " GROUP BY subject_identifier, subject_type, product_version, context) ORDER BY id DESC",
        );
        let rows = self.backend.query("list the newest decisions", select.statement()).await?;
        rows.into_iter().map(super::decide::decision).collect()
    }

    pub(super) async fn list_decided(
        &self,
        contexts: &[String],
        since: Timestamp,
    ) -> Result<Vec<Subject>, StoreError> {
        if contexts.is_empty() {
            return Ok(Vec::new());
        }
        let sql = "SELECT DISTINCT subject_type, subject_identifier FROM decisions WHERE at >= ".to_owned();
        let mut select = Select::new(sql);
        select.value(since.0.into());
        select.sql.push_str(" AND ");
        select.one_of("context", contexts.iter().map(|context| Value::from(context.as_str())));
        select.sql.push_str(" ORDER BY subject_type, subject_identifier");
        let rows = self.backend.query("list what was decided about", select.statement()).await?;
        rows.into_iter().map(|row| subject(&mut Fields::new("decisions", row))).collect()
    }

    pub(super) async fn list_bases(&self) -> Result<BTreeMap<String, String>, StoreError> {
        let sql = "SELECT context, basis FROM decision_bases";
        let one = |row| {
            let mut fields = Fields::new("decision_bases", row);
            Ok((fields.text()?, fields.text()?))
        };
        self.query("read what was decided by", sql, vec![]).await?.into_iter().map(one).collect()
    }

    pub(super) async fn store_bases(
        &self,
        epoch: Epoch,
        bases: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        let mut statements = vec![Statement::new("DELETE FROM decision_bases", [])];
        let rows = bases.iter().map(|(context, basis)| vec![context.as_str().into(), basis.as_str().into()]);
        statements.extend(inserts("decision_bases (context, basis)", rows.collect(), ""));
        self.know("note what is decided by", epoch, statements).await.map(drop)
    }
}
