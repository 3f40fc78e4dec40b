//! Waivers and decisions.

use super::undecided::{AT_ONCE, due_statements};
use super::{DecisionRow, EvidenceFilter, ReleaseTally, Waiver, WaiverChoice, WaiverFilter};
use crate::codec::{Fields, one_number, time};
use crate::error::StoreError;
use crate::jobs::Select;
use crate::outbox::{NewEntry, entry_statements, entry_statements_if};
use crate::sql::{Backend, Sql, Statement, Value};
use crate::types::Epoch;
use std::fmt::Write as _;

const COLUMNS: &str = "w.id, w.at, w.subject_type, w.subject_identifier, w.testcase, w.scenario, w.username, w.proxied_by, \
                       w.product_version, w.waived, w.comment, w.expires_at";

/// A newer waiver takes the place of one with the same of these.
const SAME: &str = "n.id > w.id AND n.subject_type = w.subject_type AND n.subject_identifier = w.subject_identifier \
                    AND n.testcase = w.testcase AND COALESCE(n.scenario, '') = COALESCE(w.scenario, '')";
const SAME_PERSON: &str = " AND n.username = w.username AND n.product_version = w.product_version";

pub(super) fn waiver(row: Vec<Value>) -> Result<Waiver, StoreError> {
    let mut fields = Fields::new("waivers", row);
    Ok(Waiver {
        id: fields.int()?,
        at: fields.time()?,
        subject_type: fields.text()?,
        subject_identifier: fields.text()?,
        testcase: fields.text()?,
        scenario: fields.optional_text()?,
        username: fields.text()?,
        proxied_by: fields.optional_text()?,
        product_version: fields.text()?,
        waived: fields.int()? != 0,
        comment: fields.text()?,
        expires_at: fields.optional_time()?,
    })
}

pub(super) fn decision(row: Vec<Value>) -> Result<DecisionRow, StoreError> {
    let mut fields = Fields::new("decisions", row);
    Ok(DecisionRow {
        id: fields.int()?,
        at: fields.time()?,
        subject_type: fields.text()?,
        subject_identifier: fields.text()?,
        product_version: fields.text()?,
        context: fields.text()?,
        satisfied: fields.int()? != 0,
        summary: fields.text()?,
        body: fields.text()?,
        told: fields.optional_text()?,
    })
}

/// Of `d`: there is no newer decision about the same.
const NEWEST: &str = "NOT EXISTS (SELECT 1 FROM decisions AS n WHERE n.subject_identifier = d.subject_identifier AND \
                      n.subject_type = d.subject_type AND n.product_version = d.product_version AND \
                      n.context = d.context AND n.id > d.id)";

pub(super) const DECISION_COLUMNS: &str =
    "id, at, subject_type, subject_identifier, product_version, context, satisfied, summary, body, told";

fn equal(select: &mut Select, column: &str, compare: &str, value: Option<Value>) {
    if let Some(value) = value {
        let _ = write!(select.sql, " AND {column} {compare} ");
        select.value(value);
    }
}

fn choice(select: &mut Select, choice: &WaiverChoice) {
    select.sql.push_str("(1 = 1");
    equal(select, "w.id", "=", choice.id.map(Value::from));
    if !choice.subject_types.is_empty() {
        select.sql.push_str(" AND ");
        select.one_of("w.subject_type", choice.subject_types.iter().map(|kind| Value::from(kind.as_str())));
    }
    for (column, value) in [
        ("w.subject_identifier", &choice.subject_identifier),
        ("w.testcase", &choice.testcase),
        ("w.scenario", &choice.scenario),
        ("w.product_version", &choice.product_version),
        ("w.username", &choice.username),
        ("w.proxied_by", &choice.proxied_by),
    ] {
        equal(select, column, "=", value.as_deref().map(Value::from));
    }
    equal(select, "w.at", ">=", choice.since.map(|at| at.0.into()));
    equal(select, "w.at", "<=", choice.until.map(|at| at.0.into()));
    select.sql.push(')');
}

/// Every waiver of a subject: which of them count is the decision's to say.
pub(super) fn waivers_of(filter: &EvidenceFilter) -> Statement {
    let mut select = Select::new(format!("SELECT {COLUMNS} FROM waivers AS w WHERE "));
    let of = WaiverChoice {
        subject_types: filter.subject_types.clone(),
        subject_identifier: Some(filter.subject_identifier.clone()),
        until: filter.until,
        ..WaiverChoice::default()
    };
    choice(&mut select, &of);
    select.sql.push_str(" ORDER BY w.id DESC");
    select.statement()
}

impl<B: Backend> Sql<B> {
    pub(super) async fn store_waivers(
        &self,
        epoch: Epoch,
        waivers: &[Waiver],
        told: &[NewEntry],
    ) -> Result<Vec<i64>, StoreError> {
        let count = i64::try_from(waivers.len()).unwrap_or(i64::MAX);
        let number = "UPDATE numbers SET last = last + $1 WHERE name = 'waivers'";
        let mut statements = vec![Statement::new(number, [count.into()])];
        for (waiver, later) in waivers.iter().zip((0..count).rev()) {
            statements.push(Statement::new(
                "INSERT INTO waivers (id, at, subject_type, subject_identifier, testcase, scenario, username, proxied_by, \
                 product_version, waived, comment, expires_at) VALUES \
                 ((SELECT last FROM numbers WHERE name = 'waivers') - $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
                [
                    later.into(),
                    time(Some(waiver.at)),
                    waiver.subject_type.as_str().into(),
                    waiver.subject_identifier.as_str().into(),
                    waiver.testcase.as_str().into(),
                    waiver.scenario.clone().into(),
                    waiver.username.as_str().into(),
                    waiver.proxied_by.clone().into(),
                    waiver.product_version.as_str().into(),
                    i64::from(waiver.waived).into(),
                    waiver.comment.as_str().into(),
                    time(waiver.expires_at),
                ],
            ));
        }
        // It is decided about now, and again from the moment on from which a waiver does not count.
        statements.extend(due_statements(waivers.iter().flat_map(|waiver| {
            let due = std::iter::once(AT_ONCE).chain(waiver.expires_at);
            due.map(|at| (at, waiver.subject_type.as_str(), waiver.subject_identifier.as_str()))
        })));
        statements.extend(entry_statements(told));
        statements.push(Statement::new("SELECT last FROM numbers WHERE name = 'waivers'", []));
        let last = one_number("numbers", &self.know("store waivers", epoch, statements).await?)?;
        Ok((last - count + 1..=last).collect())
    }

    pub(super) async fn list_waivers(&self, filter: &WaiverFilter) -> Result<Vec<Waiver>, StoreError> {
        let mut select = Select::new(format!("SELECT {COLUMNS} FROM waivers AS w WHERE 1 = 1"));
        for (index, one) in filter.any.iter().enumerate() {
            select.sql.push_str(if index == 0 { " AND (" } else { " OR " });
            choice(&mut select, one);
        }
        if !filter.any.is_empty() {
            select.sql.push(')');
        }
        if !filter.obsolete_too {
            let person = if filter.per_person { SAME_PERSON } else { "" };
            let _ = write!(select.sql, " AND NOT EXISTS (SELECT 1 FROM waivers AS n WHERE {SAME}{person})");
        }
        if let Some(at) = filter.alive_at {
            select.sql.push_str(" AND (w.expires_at IS NULL OR w.expires_at > ");
            select.value(at.0.into());
            select.sql.push(')');
        }
        select.sql.push_str(" ORDER BY w.id DESC LIMIT ");
        select.value(i64::from(filter.limit).into());
        if filter.offset > 0 {
            select.sql.push_str(" OFFSET ");
            select.value(i64::try_from(filter.offset).unwrap_or(i64::MAX).into());
        }
        self.backend.query("list waivers", select.statement()).await?.into_iter().map(waiver).collect()
    }

    pub(super) async fn store_decision(
        &self,
        epoch: Epoch,
        row: &DecisionRow,
        before: i64,
        told: &[NewEntry],
    ) -> Result<bool, StoreError> {
        // What is told comes first: afterwards the decision before is this one.
        let newest: [Value; 5] = [
            row.subject_type.as_str().into(),
            row.subject_identifier.as_str().into(),
            row.product_version.as_str().into(),
            row.context.as_str().into(),
            before.into(),
        ];
        let is_newest = "COALESCE((SELECT MAX(id) FROM decisions WHERE subject_type = $12 AND subject_identifier = $13 AND \
                         product_version = $14 AND context = $15), 0) = $16";
        let mut statements = entry_statements_if(told, Some((is_newest, &newest)));
        // As a whole only the newest is of use. Whatever is newer than `before` has done this already.
        statements.push(Statement::new("UPDATE decisions SET told = NULL WHERE id = $1", [before.into()]));
        let values = [
            time(Some(row.at)),
            row.subject_type.as_str().into(),
            row.subject_identifier.as_str().into(),
            row.product_version.as_str().into(),
            row.context.as_str().into(),
            i64::from(row.satisfied).into(),
            row.summary.as_str().into(),
            row.body.as_str().into(),
            row.told.clone().into(),
            before.into(),
        ];
        // Typed, because PostgreSQL does not look from a SELECT's list to the columns that it goes into.
        let insert = Statement::new(
            "INSERT INTO decisions (id, at, subject_type, subject_identifier, product_version, context, satisfied, \
             summary, body, told) SELECT (SELECT COALESCE(MAX(id), 0) + 1 FROM decisions), CAST($1 AS BIGINT), \
             CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS TEXT), CAST($6 AS BIGINT), \
             CAST($7 AS TEXT), CAST($8 AS TEXT), CAST($9 AS TEXT) WHERE COALESCE((SELECT MAX(id) FROM decisions WHERE \
             subject_type = $2 AND subject_identifier = $3 AND product_version = $4 AND context = $5), 0) = $10 \
             RETURNING id",
            values,
        );
        statements.push(insert);
        Ok(!self.know("remember a decision", epoch, statements).await?.is_empty())
    }

    pub(super) async fn list_waiting(
        &self,
        product_version: &str,
        context: Option<&str>,
        limit: u32,
    ) -> Result<Vec<DecisionRow>, StoreError> {
        let mut select = Select::new(format!(
            "SELECT {DECISION_COLUMNS} FROM decisions AS d WHERE {NEWEST} AND satisfied = 0 AND product_version = "
        ));
        select.value(product_version.into());
        if let Some(context) = context {
            select.sql.push_str(" AND context = ");
            select.value(context.into());
        }
        select.sql.push_str(" ORDER BY id DESC LIMIT ");
        select.value(i64::from(limit).into());
        let rows = self.backend.query("list what a release waits for", select.statement()).await?;
        rows.into_iter().map(decision).collect()
    }

    pub(super) async fn list_releases(&self) -> Result<Vec<ReleaseTally>, StoreError> {
        let sql = format!(
            "SELECT product_version, COUNT(CASE WHEN satisfied = 0 THEN 1 END), COUNT(CASE WHEN satisfied <> 0 THEN 1 END), \
             MAX(at) FROM decisions AS d WHERE {NEWEST} GROUP BY product_version ORDER BY product_version"
        );
        let rows = self.backend.query("list releases", Statement::built(sql, Vec::new())).await?;
        let read = |row| {
            let mut fields = Fields::new("decisions", row);
            Ok(ReleaseTally {
                product_version: fields.text()?,
                waiting: fields.unsigned()?,
                satisfied: fields.unsigned()?,
                last: fields.optional_time()?,
            })
        };
        rows.into_iter().map(read).collect()
    }

    pub(super) async fn list_decisions(
        &self,
        subject_types: &[String],
        subject: &str,
        limit: u32,
    ) -> Result<Vec<DecisionRow>, StoreError> {
        let mut select =
            Select::new(format!("SELECT {DECISION_COLUMNS} FROM decisions WHERE subject_identifier = "));
        select.value(subject.into());
        if !subject_types.is_empty() {
            select.sql.push_str(" AND ");
            select.one_of("subject_type", subject_types.iter().map(|kind| Value::from(kind.as_str())));
        }
        select.sql.push_str(" ORDER BY id DESC LIMIT ");
        select.value(i64::from(limit).into());
        self.backend.query("list decisions", select.statement()).await?.into_iter().map(decision).collect()
    }
}
