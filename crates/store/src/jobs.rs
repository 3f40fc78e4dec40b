//! Lists of jobs, their relatives, and posts of products.

use crate::CLUSTER_LIMIT;
use crate::codec::{self, Fields, SUMMARY_COLUMNS};
use crate::error::StoreError;
use crate::sql::{Backend, JOB_COLUMNS, Sql, Statement, Value};
use crate::types::{Column, JobFilter, RunFilter, Scope};
use assay_engine::ids::JobId;
use assay_engine::product::search_values;
use assay_engine::relations::{Parent, Relation};
use assay_engine::rows::{JobRow, ProductRunRow};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Puts together `SELECT` statements whose conditions vary.
pub(crate) struct Select {
    pub(crate) sql: String,
    values: Vec<Value>,
}

impl Select {
    pub(crate) fn new(sql: String) -> Self {
        Self { sql, values: Vec::new() }
    }

    pub(crate) fn value(&mut self, value: Value) {
        self.values.push(value);
        let _ = write!(self.sql, "${}", self.values.len());
    }

    pub(crate) fn compare(&mut self, condition: &str, value: Value) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
        self.value(value);
    }

    /// `column IN (…)`, without an `AND`.
    pub(crate) fn one_of(&mut self, column: &str, values: impl IntoIterator<Item = Value>) {
        let mut before = " IN (";
        self.sql.push_str(column);
        for value in values {
            self.sql.push_str(before);
            self.value(value);
            before = ", ";
        }
        self.sql.push(')');
    }

    fn restrict<T: Into<Value>>(&mut self, column: &str, values: impl IntoIterator<Item = T>) {
        let values: Vec<Value> = values.into_iter().map(Into::into).collect();
        if !values.is_empty() {
            self.sql.push_str(" AND ");
            self.one_of(column, values);
        }
    }

    pub(crate) fn statement(self) -> Statement {
        Statement::built(self.sql, self.values)
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// How `settings` has a key as JSON; cannot be the inside of a value, where quotes have a backslash.
fn key_as_stored(key: &str) -> String {
    format!("{}:{{\"value\":", quoted(key))
}

/// The same with its value.
fn setting_as_stored(key: &str, value: &str) -> String {
    format!("{}{},", key_as_stored(key), quoted(value))
}

/// Settings that openQA keeps in several rows, one for each part between commas.
fn is_list(key: &str) -> bool {
    // Such a name can stand within the statement itself.
    let is_plain = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '+'));
    key == "WORKER_CLASS" || key.strip_suffix("[]").is_some_and(is_plain)
}

/// Asks for a setting's value, of a list for one of its parts: those that [`search_values`] finds.
fn setting<B: Backend>(select: &mut Select, key: &str, value: &str) {
    let find = B::FIND;
    let has = |select: &mut Select, before: &str, text: String| {
        let _ = write!(select.sql, "{before}{find}(settings, ");
        select.value(text.into());
        select.sql.push_str(") > 0");
    };
    let whole = setting_as_stored(key, value);
    if !is_list(key) || search_values(key, value) != [value] {
        has(select, " AND ", whole);
        return;
    }
    // Reading JSON takes many times as long as looking for a text in it: only what cannot be told without is read.
    has(select, " AND (", whole);
    let begin = setting_as_stored(key, "");
    has(select, " OR (", begin.trim_end_matches("\",").to_owned());
    let quoted = serde_json::Value::from(value).to_string();
    has(select, " AND ", quoted.trim_matches('"').to_owned());
    let list = B::SETTING.replace("KEY", &format!("\"{key}\""));
    let (before_list, before_blanks, before_part) = B::HAS_PART;
    let _ = write!(select.sql, " AND {before_list}{list}{before_blanks}");
    select.value(blanks().into());
    select.sql.push_str(before_part);
    select.value(value.into());
    select.sql.push_str(")))");
}

/// What [`search_values`] trims from the parts of a list.
fn blanks() -> String {
    ('\0'..='\u{3000}').filter(|c| c.is_whitespace()).collect()
}

fn conditions<B: Backend>(select: &mut Select, filter: &JobFilter) {
    select.restrict("id", filter.ids.iter().map(|id| id.0));
    select.restrict("state", filter.states.iter().map(|state| state.word()));
    if !filter.outcomes.is_empty() {
        select.sql.push_str(" AND (");
        select.one_of("outcome", filter.outcomes.iter().map(|outcome| outcome.openqa().into()));
        select.sql.push_str(if filter.unfinished_too { " OR outcome IS NULL)" } else { ")" });
    } else if filter.unfinished_too {
        select.sql.push_str(" AND outcome IS NULL");
    }
    for (column, values) in [
        ("distri", &filter.distri),
        ("version", &filter.version),
        ("flavor", &filter.flavor),
        ("arch", &filter.arch),
        ("test", &filter.test),
        ("machine", &filter.machine),
        ("build", &filter.build),
    ] {
        select.restrict(column, values.iter().map(String::as_str));
    }
    for column in Column::ALL {
        let unlike = filter.unlike.iter().filter(|(of, _)| *of == column);
        let values: Vec<Value> = unlike.map(|(_, value)| value.as_str().into()).collect();
        if !values.is_empty() {
            let name = column.name();
            let _ = write!(select.sql, " AND ({name} IS NULL OR NOT ");
            select.one_of(name, values);
            select.sql.push(')');
        }
    }
    let columns = ["distri", "version", "flavor", "arch", "test", "machine"];
    for (column, value) in columns.into_iter().zip(filter.scenario.iter().flatten()) {
        match value {
            Some(value) => select.compare(&format!("{column} = "), value.as_str().into()),
            None => {
                let _ = write!(select.sql, " AND {column} IS NULL");
            }
        }
    }
    groups(select, filter);
    if let Some(run) = filter.run {
        select.compare("run = ", run.0.into());
    }
    for (key, value) in &filter.settings {
        setting::<B>(select, key, value);
    }
    for key in &filter.without {
        let _ = write!(select.sql, " AND {}(settings, ", B::FIND);
        select.value(key_as_stored(key).into());
        select.sql.push_str(") = 0");
    }
    if let Some(text) = &filter.text {
        select.compare("search LIKE ", codec::contains_pattern(text).into());
        select.sql.push_str(" ESCAPE '\\'");
    }
    match filter.scope {
        Scope::All => {}
        Scope::Current => select.sql.push_str(" AND cloned_as IS NULL"),
        Scope::Relevant => select.sql.push_str(
            " AND (outcome IS NULL OR outcome <> 'obsoleted') AND (cloned_as IS NULL OR EXISTS (SELECT 1 FROM jobs AS c \
             WHERE c.id = jobs.cloned_as AND c.finished_at IS NULL))",
        ),
    }
    if let Some(before) = filter.before {
        select.compare("id < ", before.0.into());
    }
    if let Some(after) = filter.after {
        select.compare("id > ", after.0.into());
    }
    if let Some(until) = filter.posted_until {
        select.compare("created_at <= ", until.0.into());
    }
}

fn groups(select: &mut Select, filter: &JobFilter) {
    let wanted: Vec<Value> = filter.groups.iter().flatten().map(|group| group.0.into()).collect();
    let none_too = filter.groups.contains(&None);
    match (wanted.is_empty(), none_too) {
        (true, false) => {}
        (true, true) => select.sql.push_str(" AND group_id IS NULL"),
        (false, none_too) => {
            select.sql.push_str(" AND (");
            select.one_of("group_id", wanted);
            select.sql.push_str(if none_too { " OR group_id IS NULL)" } else { ")" });
        }
    }
    if !filter.not_groups.is_empty() {
        select.sql.push_str(" AND (group_id IS NULL OR NOT ");
        select.one_of("group_id", filter.not_groups.iter().map(|group| group.0.into()));
        select.sql.push(')');
    }
}

/// `SELECT columns` of the jobs that a filter lets through.
pub(crate) fn select_jobs<B: Backend>(columns: &str, filter: &JobFilter) -> Statement {
    selected::<B>(columns, filter).statement()
}

fn selected<B: Backend>(columns: &str, filter: &JobFilter) -> Select {
    let mut select = Select::new(format!("SELECT {columns} FROM jobs WHERE 1 = 1"));
    narrowed::<B>(&mut select, filter);
    select.sql.push_str(if filter.oldest_first { " ORDER BY id LIMIT " } else { " ORDER BY id DESC LIMIT " });
    select.value(i64::from(filter.limit).into());
    if filter.offset > 0 {
        select.sql.push_str(" OFFSET ");
        select.value(i64::from(filter.offset).into());
    }
    select
}

/// A list for [`codec::summaries`].
pub(crate) fn summarise_jobs<B: Backend>(filter: &JobFilter) -> Statement {
    let (before, after) = B::JSON_ROWS;
    let mut select = selected::<B>(SUMMARY_COLUMNS, filter);
    select.sql = format!("SELECT {before}{SUMMARY_COLUMNS}{after} FROM ({}) AS s", select.sql);
    select.statement()
}

pub(crate) fn count_jobs<B: Backend>(filter: &JobFilter) -> Statement {
    let mut select = Select::new("SELECT COUNT(*) FROM jobs WHERE 1 = 1".to_owned());
    narrowed::<B>(&mut select, filter);
    select.statement()
}

fn narrowed<B: Backend>(select: &mut Select, filter: &JobFilter) {
    if filter.latest {
        select.sql.push_str(" AND id IN (SELECT MAX(id) FROM jobs WHERE 1 = 1");
        conditions::<B>(select, filter);
        select.sql.push_str(" GROUP BY distri, version, flavor, arch, test, machine)");
    } else {
        conditions::<B>(select, filter);
    }
}

/// What takes a job out of all tables.
pub(crate) fn delete_job(id: JobId) -> [Statement; 5] {
    [
        Statement::new("DELETE FROM attempts WHERE job = $1", [id.0.into()]),
        Statement::new("DELETE FROM job_parents WHERE job = $1 OR parent = $1", [id.0.into()]),
        Statement::new("UPDATE jobs SET cloned_as = NULL WHERE cloned_as = $1", [id.0.into()]),
        Statement::new("UPDATE jobs SET clone_of = NULL WHERE clone_of = $1", [id.0.into()]),
        Statement::new("DELETE FROM jobs WHERE id = $1", [id.0.into()]),
    ]
}

/// How many numbers are asked for in one statement.
const IDS_AT_ONCE: usize = 500;

impl<B: Backend> Sql<B> {
    /// The edges of `job_parents` whose `column` is one of `ids`.
    async fn edges(
        &self,
        column: &str,
        ids: &BTreeSet<JobId>,
        tight: bool,
    ) -> Result<Vec<(JobId, Parent)>, StoreError> {
        let mut edges = Vec::new();
        let ids: Vec<JobId> = ids.iter().copied().collect();
        for some in ids.chunks(IDS_AT_ONCE) {
            let mut select = Select::new("SELECT job, parent, relation FROM job_parents WHERE ".to_owned());
            select.one_of(column, some.iter().map(|id| id.0.into()));
            if tight {
                select.sql.push_str(" AND relation <> 1");
            }
            let rows = self.backend.query("read what jobs depend on", select.statement()).await?;
            for row in rows {
                edges.push(edge(row)?);
            }
        }
        Ok(edges)
    }

    pub(crate) async fn children_of(&self, jobs: &[JobId]) -> Result<Vec<(JobId, Parent)>, StoreError> {
        let mut edges = self.edges("parent", &jobs.iter().copied().collect(), false).await?;
        edges.sort_unstable();
        Ok(edges)
    }

    pub(crate) async fn rows_of(&self, ids: &BTreeSet<JobId>) -> Result<Vec<JobRow>, StoreError> {
        let ids: Vec<JobId> = ids.iter().copied().collect();
        let mut jobs = Vec::new();
        for some in ids.chunks(IDS_AT_ONCE) {
            let mut select = Select::new(format!("SELECT {JOB_COLUMNS} FROM jobs WHERE "));
            select.one_of("id", some.iter().map(|id| id.0.into()));
            for row in self.backend.query("read jobs", select.statement()).await? {
                jobs.push(codec::job(row)?);
            }
        }
        jobs.sort_by_key(|job| job.id);
        Ok(jobs)
    }

    pub(crate) async fn cluster_of(&self, jobs: &[JobId], clones: bool) -> Result<Vec<JobRow>, StoreError> {
        let mut found: BTreeMap<JobId, JobRow> = BTreeMap::new();
        let mut seen: BTreeSet<JobId> = jobs.iter().copied().collect();
        let mut edge_of: BTreeSet<JobId> = seen.clone();
        while !edge_of.is_empty() && seen.len() <= CLUSTER_LIMIT {
            let rows = self.rows_of(&edge_of).await?;
            let mut next: BTreeSet<JobId> = BTreeSet::new();
            for row in rows {
                next.extend(row.parents.iter().map(|parent| parent.job));
                next.extend(row.cloned_as.filter(|_| clones));
                found.insert(row.id, row);
            }
            next.extend(self.edges("parent", &edge_of, false).await?.into_iter().map(|(child, _)| child));
            edge_of = next.difference(&seen).copied().collect();
            seen.extend(&edge_of);
        }
        Ok(found.into_values().collect())
    }

    /// Final jobs that are bound to `open` ones by parallel and direct relations.
    pub(crate) async fn final_relatives(&self, open: &[JobRow]) -> Result<Vec<JobRow>, StoreError> {
        let known: BTreeSet<JobId> = open.iter().map(|job| job.id).collect();
        let mut next: BTreeSet<JobId> = BTreeSet::new();
        let bound = |job: &JobRow| -> Vec<JobId> {
            let tight = job.parents.iter().filter(|parent| parent.relation != Relation::Chained);
            tight.map(|parent| parent.job).collect()
        };
        for job in open {
            next.extend(bound(job));
        }
        // Children of open jobs that have ended, found by one walk over what is bound and open.
        let sql = "SELECT p.job, p.parent, p.relation FROM job_parents AS p JOIN jobs AS j ON j.id = p.parent \
                   WHERE p.relation <> 1 AND j.finished_at IS NULL";
        for row in self.query("load what is open", sql, vec![]).await? {
            next.insert(edge(row)?.0);
        }
        let mut found: BTreeMap<JobId, JobRow> = BTreeMap::new();
        loop {
            next.retain(|id| !known.contains(id) && !found.contains_key(id));
            if next.is_empty() {
                return Ok(found.into_values().collect());
            }
            let rows = self.rows_of(&next).await?;
            let children = self.edges("parent", &next, true).await?;
            next = children.into_iter().map(|(child, _)| child).collect();
            if rows.is_empty() {
                return Ok(found.into_values().collect()); // what was deleted
            }
            for row in rows {
                next.extend(bound(&row));
                found.insert(row.id, row);
            }
        }
    }

    pub(crate) async fn runs(&self, filter: &RunFilter) -> Result<Vec<ProductRunRow>, StoreError> {
        let mut select = Select::new(format!("SELECT {} FROM product_runs WHERE 1 = 1", codec::RUN_COLUMNS));
        for (column, value) in [
            ("distri", &filter.distri),
            ("version", &filter.version),
            ("flavor", &filter.flavor),
            ("arch", &filter.arch),
            ("build", &filter.build),
            ("webhook", &filter.webhook),
        ] {
            select.restrict(column, value.as_deref());
        }
        if let Some(before) = filter.before {
            select.compare("id < ", before.0.into());
        }
        select.sql.push_str(" ORDER BY id DESC LIMIT ");
        select.value(i64::from(if filter.limit == 0 { 100 } else { filter.limit }).into());
        let rows = self.backend.query("list posts of products", select.statement()).await?;
        rows.into_iter().map(codec::run).collect()
    }
}

fn edge(row: Vec<Value>) -> Result<(JobId, Parent), StoreError> {
    let mut fields = Fields::new("job_parents", row);
    let (child, parent, number) = (JobId(fields.int()?), JobId(fields.int()?), fields.int()?);
    let relation = Relation::from_number(number)
        .ok_or_else(|| fields.broken(format_args!("{number} is no relation that Assay knows")))?;
    Ok((child, Parent { relation, job: parent }))
}
