//! Finding results.

use super::terms::{MOST_VALUES, like};
use super::write::{group_statement, result_statements, testcase_statement};
use super::{
    DecisionRow, Evidence, EvidenceFilter, GroupOf, NameFilter, NewResult, ReleaseTally, ResultFilter,
    ResultGroup, ResultId, ResultStore, StoredResult, Testcase, Undecided, Waiver, WaiverFilter,
};
use crate::codec::{Fields, one_number};
use crate::error::StoreError;
use crate::jobs::Select;
use crate::outbox::{NewEntry, entry_statements};
use crate::sql::{Backend, Sql, Statement, Value};
use crate::types::Epoch;
use assay_engine::decision::Subject;
use assay_engine::ids::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;

pub(super) const COLUMNS: &str =
    "r.id, r.testcase, t.ref_url, r.at, r.outcome, r.note, r.ref_url, r.group_uuids, r.data";

/// Results that are looked at in one piece when the newest of each kind are looked for: few first, for most questions
/// are about few.
const PIECES: [u32; 3] = [200, 2_000, 20_000];
/// Results that are looked at before a question for the newest of each kind is refused.
const MOST_LOOKED_AT: usize = 500_000;
/// How far the results of a term are counted to know which condition leaves the fewest.
const COUNTED: i64 = 500;
/// So many `SELECT`s become one by `UNION`: SQLite takes no more than 500.
const UNITED: usize = 400;

pub(super) fn result(row: Vec<Value>) -> Result<StoredResult, StoreError> {
    let mut fields = Fields::new("results", row);
    Ok(StoredResult {
        id: ResultId(fields.int()?),
        testcase: fields.text()?,
        testcase_ref_url: fields.optional_text()?,
        at: fields.time()?,
        outcome: fields.text()?,
        note: fields.optional_text()?,
        ref_url: fields.optional_text()?,
        groups: fields.text()?,
        data: fields.text()?,
    })
}

/// A filter whose conditions are terms.
struct Sought {
    /// All of these; each is fulfilled by any of its terms. The first leaves the fewest.
    all: Vec<Vec<i64>>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    oldest_first: bool,
}

/// The result of `d` has one of the terms of each of these too.
fn also(select: &mut Select, all: &[Vec<i64>]) {
    for terms in all {
        // A value and no join: the planner may not turn it round.
        select.sql.push_str(" AND (SELECT 1 FROM result_terms AS x WHERE ");
        select.one_of("x.term", terms.iter().map(|term| Value::from(*term)));
        select.sql.push_str(" AND x.at = d.at AND x.result = d.result LIMIT 1) = 1");
    }
}

impl Sought {
    fn times(&self, select: &mut Select, table: &str) {
        for (time, compare) in [(self.since, ">="), (self.until, "<=")] {
            if let Some(time) = time {
                let _ = write!(select.sql, " AND {table}.at {compare} ");
                select.value(time.0.into());
            }
        }
    }

    /// `SELECT columns` of what is sought, in order.
    fn select(&self, columns: &str, offset: u64, limit: u32) -> Statement {
        let order = if self.oldest_first { "ASC" } else { "DESC" };
        let offset = i64::try_from(offset).unwrap_or(i64::MAX).min(i64::MAX / 2);
        let reach = offset + i64::from(limit);
        // Which results these are is known before anything of them is read.
        let mut select = Select::new(format!("SELECT {columns} FROM (SELECT u.at, u.result FROM ("));
        match self.all.split_first() {
            None => {
                select.sql.push_str("SELECT a.at AS at, a.id AS result FROM results AS a WHERE 1 = 1");
                self.times(&mut select, "a");
                let _ = write!(select.sql, " ORDER BY a.at {order}, a.id {order} LIMIT ");
                select.value(reach.into());
            }
            Some((first, others)) => {
                let is_nested = first.len() > UNITED;
                if is_nested {
                    select.sql.push_str("SELECT * FROM (");
                }
                for (number, term) in first.iter().enumerate() {
                    if number > 0 && number.is_multiple_of(UNITED) {
                        let _ = write!(select.sql, ") AS g{number} UNION SELECT * FROM (");
                    } else if number > 0 {
                        select.sql.push_str(" UNION "); // each result once, whichever of its values fit
                    }
                    select.sql.push_str("SELECT * FROM (SELECT d.at AS at, d.result AS result FROM result_terms AS d WHERE d.term = ");
                    select.value((*term).into());
                    self.times(&mut select, "d");
                    also(&mut select, others);
                    let _ = write!(select.sql, " ORDER BY d.at {order}, d.result {order} LIMIT ");
                    select.value(reach.into());
                    let _ = write!(select.sql, ") AS p{number}");
                }
                if is_nested {
                    select.sql.push_str(") AS g0");
                }
            }
        }
        let _ = write!(select.sql, ") AS u ORDER BY u.at {order}, u.result {order} LIMIT ");
        select.value(i64::from(limit).into());
        if offset > 0 {
            select.sql.push_str(" OFFSET ");
            select.value(offset.into());
        }
        let _ = write!(
            select.sql,
            ") AS f JOIN results AS r ON r.id = f.result JOIN testcases AS t ON t.name = r.testcase \
             ORDER BY f.at {order}, f.result {order}"
        );
        select.statement()
    }
}

fn names_paged(select: &mut Select, filter: &NameFilter) {
    select.sql.push_str(" LIMIT ");
    select.value(i64::from(filter.limit).into());
    if filter.offset > 0 {
        select.sql.push_str(" OFFSET ");
        select.value(i64::try_from(filter.offset).unwrap_or(i64::MAX).into());
    }
}

/// `(column IN … OR likes)`, if there is anything.
fn any_name<B: Backend>(select: &mut Select, name: (&str, &[String]), pattern: (&str, &[String])) {
    if name.1.is_empty() && pattern.1.is_empty() {
        return;
    }
    select.sql.push_str(" AND (");
    if !name.1.is_empty() {
        select.one_of(name.0, name.1.iter().map(|name| Value::from(name.as_str())));
    }
    for (index, one) in pattern.1.iter().enumerate() {
        if index > 0 || !name.1.is_empty() {
            select.sql.push_str(" OR ");
        }
        like::<B>(select, pattern.0, one);
    }
    select.sql.push(')');
}

fn within_bounds(filter: &NameFilter) -> Result<(), StoreError> {
    let most = filter.names.len().max(filter.descriptions.len()).max(filter.like.len());
    if most > MOST_VALUES { Err(StoreError::TooBroad { most: MOST_VALUES }) } else { Ok(()) }
}

impl<B: Backend> Sql<B> {
    /// `None` if nothing can fit.
    async fn sought(&self, filter: &ResultFilter) -> Result<Option<Sought>, StoreError> {
        let (mut all, mut weights) = (Vec::new(), Vec::new());
        for condition in &filter.conditions {
            let terms = self.terms_of(condition).await?;
            if terms.is_empty() {
                return Ok(None);
            }
            weights.push(i64::from(!condition.field.is_narrow()));
            all.push(terms);
        }
        if all.len() > 1 && !weights.contains(&0) {
            weights = self.weights(&all).await?;
        }
        let mut weighed: Vec<_> = weights.into_iter().zip(all).collect();
        weighed.sort_by_key(|(weight, _)| *weight);
        Ok(Some(Sought {
            all: weighed.into_iter().map(|(_, terms)| terms).collect(),
            since: filter.since,
            until: filter.until,
            oldest_first: filter.oldest_first,
        }))
    }

    /// How many results each condition leaves, up to [`COUNTED`].
    async fn weights(&self, all: &[Vec<i64>]) -> Result<Vec<i64>, StoreError> {
        let mut select = Select::new("SELECT".to_owned());
        for (index, terms) in all.iter().enumerate() {
            let before = if index == 0 { " " } else { ", " };
            let _ =
                write!(select.sql, "{before}(SELECT COUNT(*) FROM (SELECT 1 FROM result_terms AS x WHERE ");
            select.one_of("x.term", terms.iter().map(|term| Value::from(*term)));
            let _ = write!(select.sql, " LIMIT {COUNTED}) AS c{index})");
        }
        let rows = self.backend.query("weigh conditions", select.statement()).await?;
        let mut counts = Fields::new("result_terms", rows.into_iter().next().unwrap_or_default());
        all.iter().map(|_| counts.int()).collect()
    }

    async fn list_results(&self, statement: Statement) -> Result<Vec<StoredResult>, StoreError> {
        self.backend.query("list results", statement).await?.into_iter().map(result).collect()
    }
}

#[async_trait::async_trait]
impl<B: Backend> ResultStore for Sql<B> {
    async fn last_result(&self) -> Result<i64, StoreError> {
        self.known.forget();
        let rows = self.query("count results", "SELECT COALESCE(MAX(id), 0) FROM results", vec![]).await?;
        one_number("results", &rows)
    }

    async fn add_results(&self, epoch: Epoch, results: &[NewResult]) -> Result<(), StoreError> {
        let (statements, learned) = result_statements(&self.known, results)?;
        self.know("store results", epoch, statements).await?;
        self.known.learn(learned);
        Ok(())
    }

    async fn add_told_results(
        &self,
        epoch: Epoch,
        results: &[NewResult],
        told: &[NewEntry],
    ) -> Result<Vec<StoredResult>, StoreError> {
        let (mut statements, learned) = result_statements(&self.known, results)?;
        statements.extend(entry_statements(told));
        // Read in the same turn: another one would cost as much as the rest.
        let ids: BTreeSet<i64> = results.iter().map(|result| result.id).collect();
        let (first, last) = (ids.first().copied().unwrap_or(0), ids.last().copied().unwrap_or(0));
        let sql = format!(
            "SELECT {COLUMNS} FROM results AS r JOIN testcases AS t ON t.name = r.testcase \
             WHERE r.id BETWEEN $1 AND $2"
        );
        statements.push(Statement::built(sql, vec![first.into(), last.into()]));
        let rows = self.know("store results", epoch, statements).await?;
        self.known.learn(learned);
        let stored = rows.into_iter().map(result).collect::<Result<Vec<_>, _>>()?;
        // Numbers between them may be others'.
        Ok(stored.into_iter().filter(|one| ids.contains(&one.id.0)).collect())
    }

    async fn deduped(&self, words: &[String]) -> Result<BTreeMap<String, ResultId>, StoreError> {
        let mut found = BTreeMap::new();
        for some in words.chunks(MOST_VALUES) {
            let mut select = Select::new("SELECT dedupe, id FROM results WHERE ".to_owned());
            select.one_of("dedupe", some.iter().map(|word| Value::from(word.as_str())));
            for row in self.backend.query("look for results", select.statement()).await? {
                let mut fields = Fields::new("results", row);
                found.insert(fields.text()?, ResultId(fields.int()?));
            }
        }
        Ok(found)
    }

    async fn result(&self, id: ResultId) -> Result<Option<StoredResult>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM results AS r JOIN testcases AS t ON t.name = r.testcase WHERE r.id = $1"
        );
        Ok(self.list_results(Statement::built(sql, vec![id.0.into()])).await?.pop())
    }

    async fn results(&self, filter: &ResultFilter) -> Result<Vec<StoredResult>, StoreError> {
        match self.sought(filter).await? {
            Some(sought) if filter.limit > 0 => {
                self.list_results(sought.select(COLUMNS, filter.offset, filter.limit)).await
            }
            _ => Ok(Vec::new()),
        }
    }

    async fn latest(&self, filter: &ResultFilter, keys: &[String]) -> Result<Vec<StoredResult>, StoreError> {
        let Some(mut sought) = self.sought(filter).await? else { return Ok(Vec::new()) };
        sought.oldest_first = false;
        let mut found: Vec<StoredResult> = Vec::new();
        let mut newest: HashMap<String, Timestamp> = HashMap::new();
        let mut kinds = HashSet::new();
        let (mut looked_at, mut last): (usize, Option<(Timestamp, HashSet<ResultId>)>) = (0, None);
        for piece in PIECES.iter().chain(std::iter::repeat(&PIECES[2])) {
            if let Some((at, _)) = &last {
                sought.until = Some(*at);
            }
            let rows = self.list_results(sought.select(COLUMNS, 0, *piece)).await?;
            let whole = rows.len() < *piece as usize;
            let ends_at = rows.last().map(|row| row.at);
            let mut fresh = 0;
            let mut at_end = HashSet::new();
            for row in rows {
                if Some(row.at) == ends_at {
                    at_end.insert(row.id);
                }
                if last.as_ref().is_some_and(|(_, seen)| seen.contains(&row.id)) {
                    continue;
                }
                fresh += 1;
                if keys.is_empty() {
                    if *newest.entry(row.testcase.clone()).or_insert(row.at) == row.at {
                        found.push(row);
                    }
                } else {
                    let mut values = row.values();
                    let kind: Vec<_> = keys.iter().map(|key| values.remove(key)).collect();
                    if kinds.insert((row.testcase.clone(), kind)) {
                        found.push(row);
                    }
                }
            }
            looked_at += fresh;
            if whole {
                break;
            }
            // More results of one moment than a piece has cannot be told apart by time.
            if looked_at > MOST_LOOKED_AT || fresh == 0 {
                return Err(StoreError::TooBroad { most: MOST_LOOKED_AT });
            }
            last = ends_at.map(|at| (at, at_end));
        }
        Ok(found)
    }

    async fn result_groups(&self, filter: &NameFilter) -> Result<Vec<ResultGroup>, StoreError> {
        within_bounds(filter)?;
        let sql = "SELECT uuid, description, ref_url, results FROM result_groups WHERE 1 = 1";
        let mut select = Select::new(sql.to_owned());
        any_name::<B>(&mut select, ("uuid", &filter.names), ("", &[]));
        any_name::<B>(&mut select, ("description", &filter.descriptions), ("description", &filter.like));
        select.sql.push_str(" ORDER BY created_at DESC, uuid");
        names_paged(&mut select, filter);
        let group = |row| {
            let mut fields = Fields::new("result_groups", row);
            Ok(ResultGroup {
                uuid: fields.text()?,
                description: fields.optional_text()?,
                ref_url: fields.optional_text()?,
                results: fields.unsigned()?,
            })
        };
        self.backend.query("list groups", select.statement()).await?.into_iter().map(group).collect()
    }

    async fn put_group(&self, epoch: Epoch, group: &GroupOf, at: Timestamp) -> Result<(), StoreError> {
        self.known.forget();
        self.know("store a group", epoch, vec![group_statement(group, at, 0)]).await.map(drop)
    }

    async fn testcases(&self, filter: &NameFilter) -> Result<Vec<Testcase>, StoreError> {
        within_bounds(filter)?;
        let mut select = Select::new("SELECT name, ref_url FROM testcases WHERE 1 = 1".to_owned());
        any_name::<B>(&mut select, ("name", &filter.names), ("name", &filter.like));
        select.sql.push_str(" ORDER BY name");
        names_paged(&mut select, filter);
        let testcase = |row| {
            let mut fields = Fields::new("testcases", row);
            Ok(Testcase { name: fields.text()?, ref_url: fields.optional_text()? })
        };
        self.backend.query("list test cases", select.statement()).await?.into_iter().map(testcase).collect()
    }

    async fn put_testcase(&self, epoch: Epoch, testcase: &Testcase) -> Result<(), StoreError> {
        self.known.forget();
        self.know("store a test case", epoch, vec![testcase_statement(testcase)]).await.map(drop)
    }

    async fn add_told_waivers(
        &self,
        epoch: Epoch,
        waivers: &[Waiver],
        told: &[NewEntry],
    ) -> Result<Vec<i64>, StoreError> {
        self.store_waivers(epoch, waivers, told).await
    }

    async fn waivers(&self, filter: &WaiverFilter) -> Result<Vec<Waiver>, StoreError> {
        self.list_waivers(filter).await
    }

    async fn evidence(&self, filters: &[EvidenceFilter]) -> Result<Vec<Evidence>, StoreError> {
        let (mut statements, mut counts) = (Vec::new(), Vec::new());
        for filter in filters {
            let before = statements.len();
            for conditions in &filter.any {
                let results = ResultFilter {
                    conditions: conditions.clone(),
                    until: filter.until,
                    ..ResultFilter::default()
                };
                let sought = self.sought(&results).await?;
                statements.extend(sought.map(|sought| sought.of_testcases(&filter.testcases)));
            }
            counts.push(statements.len() - before);
            statements.push(super::decide::waivers_of(filter));
        }
        let mut answers = self.backend.snapshot("look at the evidence", statements).await?.into_iter();
        let mut all = Vec::new();
        for (filter, count) in filters.iter().zip(counts) {
            let results = answers.by_ref().take(count).flatten().map(result);
            let mut results: Vec<StoredResult> = results.collect::<Result<_, _>>()?;
            results.sort_by_key(|result| std::cmp::Reverse((result.at, result.id)));
            results.dedup_by_key(|result| result.id);
            // A term is a hash: what a decision is made from is compared with the value itself.
            results.retain(|result| {
                let values = result.values();
                filter.any.iter().any(|all| all.iter().all(|condition| fits(condition, result, &values)))
            });
            let waivers = answers.next().unwrap_or_default().into_iter().map(super::decide::waiver);
            all.push(Evidence { results, waivers: waivers.collect::<Result<_, _>>()? });
        }
        Ok(all)
    }

    async fn remember_decision(
        &self,
        epoch: Epoch,
        decision: &DecisionRow,
        before: i64,
        told: &[NewEntry],
    ) -> Result<bool, StoreError> {
        self.store_decision(epoch, decision, before, told).await
    }

    async fn newest_decisions(&self, items: &[String]) -> Result<Vec<DecisionRow>, StoreError> {
        self.list_newest(items).await
    }

    async fn undecided(&self, now: Timestamp, limit: u32) -> Result<Vec<Undecided>, StoreError> {
        self.list_undecided(now, limit).await
    }

    async fn next_undecided(&self, after: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        self.first_undecided(after).await
    }

    async fn decide_again(
        &self,
        epoch: Epoch,
        subjects: &[Subject],
        due: Timestamp,
    ) -> Result<(), StoreError> {
        self.store_undecided(epoch, subjects, due).await
    }

    async fn was_decided(&self, epoch: Epoch, done: &[Undecided]) -> Result<(), StoreError> {
        self.remove_undecided(epoch, done).await
    }

    async fn decided_subjects(
        &self,
        contexts: &[String],
        since: Timestamp,
    ) -> Result<Vec<Subject>, StoreError> {
        self.list_decided(contexts, since).await
    }

    async fn decision_bases(&self) -> Result<BTreeMap<String, String>, StoreError> {
        self.list_bases().await
    }

    async fn put_decision_bases(
        &self,
        epoch: Epoch,
        bases: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        self.store_bases(epoch, bases).await
    }

    async fn decisions(
        &self,
        subject_types: &[String],
        subject: &str,
        limit: u32,
    ) -> Result<Vec<DecisionRow>, StoreError> {
        self.list_decisions(subject_types, subject, limit).await
    }

    async fn waiting_decisions(
        &self,
        product_version: &str,
        context: Option<&str>,
        limit: u32,
    ) -> Result<Vec<DecisionRow>, StoreError> {
        self.list_waiting(product_version, context, limit).await
    }

    async fn releases(&self) -> Result<Vec<ReleaseTally>, StoreError> {
        self.list_releases().await
    }
}

/// Results that are looked at for one decision.
const MOST_EVIDENCE: i64 = 100_000;

impl Sought {
    /// Every result of these test cases, the newest first.
    fn of_testcases(&self, testcases: &[String]) -> Statement {
        let mut select = Select::new(format!(
            "SELECT {COLUMNS} FROM result_terms AS d JOIN results AS r ON r.id = d.result \
             JOIN testcases AS t ON t.name = r.testcase WHERE "
        ));
        if let Some((first, others)) = self.all.split_first() {
            select.one_of("d.term", first.iter().map(|term| Value::from(*term)));
            also(&mut select, others);
        } else {
            select.sql.push_str("1 = 0");
        }
        self.times(&mut select, "d");
        if !testcases.is_empty() && testcases.len() <= MOST_VALUES {
            select.sql.push_str(" AND ");
            select.one_of("r.testcase", testcases.iter().map(|name| Value::from(name.as_str())));
        }
        select.sql.push_str(" ORDER BY d.at DESC, d.result DESC LIMIT ");
        select.value(MOST_EVIDENCE.into());
        select.statement()
    }
}

fn fits(condition: &super::Condition, result: &StoredResult, values: &BTreeMap<String, Vec<String>>) -> bool {
    match &condition.field {
        super::Field::Data(key) if condition.like.is_empty() => {
            values.get(key).is_some_and(|values| values.iter().any(|value| condition.is.contains(value)))
        }
        super::Field::Testcase if condition.like.is_empty() => condition.is.contains(&result.testcase),
        super::Field::Outcome => condition.is.contains(&result.outcome),
        _ => true,
    }
}
