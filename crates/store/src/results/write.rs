//! Storing results.

use super::terms::{Field, word};
use super::undecided::new_statements;
use super::{NewResult, Testcase};
use crate::codec::{json, pieces, time, tuples};
use crate::error::StoreError;
use crate::sql::{Statement, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

/// How many rows go into one statement. Only few numbers, so that statements stay prepared.
const ROWS_AT_ONCE: [usize; 4] = [64, 16, 4, 1];
/// What is remembered of rows that are there; beyond it everything is forgotten and learned anew.
const MOST_KNOWN: usize = 200_000;

/// Rows that are there already, so that they need not be stored with every result that mentions them. None of them is
/// ever removed; what can change of them is known only as long as this process leads.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Rows>);

/// What of a group can be changed: its description and its address.
type Described = (Option<String>, Option<String>);

#[derive(Debug, Default)]
struct Rows {
    words: HashSet<i64>,
    testcases: HashMap<String, Option<String>>,
    groups: HashMap<String, Described>,
}

/// What a transaction will have stored.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    words: Vec<i64>,
    testcases: Vec<Testcase>,
    groups: Vec<(String, Described)>,
}

impl Known {
    /// Another process may have led meanwhile.
    pub(crate) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Rows::default();
    }

    /// It is stored.
    pub(crate) fn learn(&self, learned: Learned) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.words.len() + rows.testcases.len() + rows.groups.len() > MOST_KNOWN {
            *rows = Rows::default();
        }
        rows.words.extend(learned.words);
        for Testcase { name, ref_url } in learned.testcases {
            let known = rows.testcases.entry(name).or_default();
            if ref_url.is_some() {
                *known = ref_url;
            }
        }
        for (uuid, (description, ref_url)) in learned.groups {
            let known = rows.groups.entry(uuid).or_default();
            known.0 = description.or(known.0.take());
            known.1 = ref_url.or(known.1.take());
        }
    }
}

/// `INSERT INTO head VALUES … tail`.
pub(super) fn inserts(head: &str, rows: Vec<Vec<Value>>, tail: &str) -> Vec<Statement> {
    let insert = |rows: Vec<Vec<Value>>| {
        let sql = format!("INSERT INTO {head} VALUES {}{tail}", tuples(&rows));
        Statement::built(sql, rows.into_iter().flatten().collect())
    };
    pieces(rows, &ROWS_AT_ONCE).into_iter().map(insert).collect()
}

/// What changes of a row that is there: what is given.
const KEEP_OR_CHANGE: &str =
    " ON CONFLICT (name) DO UPDATE SET ref_url = COALESCE(excluded.ref_url, testcases.ref_url)";

pub(super) fn testcase_statement(testcase: &Testcase) -> Statement {
    let sql = format!("INSERT INTO testcases (name, ref_url) VALUES ($1, $2){KEEP_OR_CHANGE}");
    Statement::built(sql, vec![testcase.name.as_str().into(), testcase.ref_url.clone().into()])
}

pub(super) fn group_statement(
    group: &super::GroupOf,
    at: assay_engine::ids::Timestamp,
    more: i64,
) -> Statement {
    Statement::new(
        "INSERT INTO result_groups (uuid, created_at, description, ref_url, results) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (uuid) DO UPDATE SET description = COALESCE(excluded.description, result_groups.description), \
         ref_url = COALESCE(excluded.ref_url, result_groups.ref_url), results = result_groups.results + excluded.results",
        [
            group.uuid.as_str().into(),
            time(Some(at)),
            group.description.clone().into(),
            group.ref_url.clone().into(),
            more.into(),
        ],
    )
}

/// All terms of a result, each once, and which of them are values of data.
fn terms(result: &NewResult) -> (BTreeSet<i64>, Vec<(i64, &str, &str)>) {
    let mut words = Vec::new();
    for (key, values) in &result.data {
        let field = Field::Data(key.clone());
        words.extend(values.iter().map(|value| (field.term(value), key.as_str(), value.as_str())));
    }
    let mut terms: BTreeSet<i64> = words.iter().map(|(term, ..)| *term).collect();
    terms.insert(Field::Testcase.term(&result.testcase));
    terms.insert(Field::Outcome.term(&result.outcome));
    terms.extend(result.groups.iter().map(|group| Field::Group.term(&group.uuid)));
    (terms, words)
}

/// The statements that store results, and what is known once they have been carried out.
pub(crate) fn result_statements(
    known: &Known,
    results: &[NewResult],
) -> Result<(Vec<Statement>, Learned), StoreError> {
    let mut learned = Learned::default();
    if results.is_empty() {
        return Ok((Vec::new(), learned));
    }
    let rows = known.0.lock().unwrap_or_else(PoisonError::into_inner);
    let mut statements = Vec::new();
    let (mut result_rows, mut term_rows, mut word_rows) = (Vec::new(), Vec::new(), Vec::new());
    let mut new_words = HashSet::new();
    let mut groups: BTreeMap<&str, (super::GroupOf, assay_engine::ids::Timestamp, i64)> = BTreeMap::new();
    for result in results {
        let is_known = rows
            .testcases
            .get(&result.testcase)
            .is_some_and(|known| result.testcase_ref_url.is_none() || *known == result.testcase_ref_url);
        if !is_known {
            let testcase =
                Testcase { name: result.testcase.clone(), ref_url: result.testcase_ref_url.clone() };
            statements.push(testcase_statement(&testcase));
            learned.testcases.push(testcase);
        }
        let mut uuids: Vec<&str> = Vec::new();
        for group in &result.groups {
            if uuids.contains(&group.uuid.as_str()) {
                continue;
            }
            uuids.push(&group.uuid);
            let entry = groups.entry(&group.uuid).or_insert_with(|| {
                (super::GroupOf { uuid: group.uuid.clone(), ..Default::default() }, result.at, 0)
            });
            entry.0.description = group.description.clone().or(entry.0.description.take());
            entry.0.ref_url = group.ref_url.clone().or(entry.0.ref_url.take());
            entry.2 += 1;
        }
        let (terms, words) = terms(result);
        for (term, key, value) in words {
            if !rows.words.contains(&term) && new_words.insert(term) {
                word_rows.push(vec![term.into(), key.into(), word(value).into()]);
            }
        }
        term_rows
            .extend(terms.into_iter().map(|term| vec![term.into(), time(Some(result.at)), result.id.into()]));
        result_rows.push(vec![
            result.id.into(),
            result.testcase.as_str().into(),
            time(Some(result.at)),
            result.outcome.as_str().into(),
            result.note.clone().into(),
            result.ref_url.clone().into(),
            json("results", &uuids)?.into(),
            json("results", &result.data)?.into(),
            result.dedupe.clone().into(),
        ]);
    }
    for (group, at, more) in groups.into_values() {
        let parts = (group.description.clone(), group.ref_url.clone());
        let same = |known: &Option<String>, new: &Option<String>| new.is_none() || known == new;
        match rows.groups.get(&group.uuid) {
            Some(there) if same(&there.0, &parts.0) && same(&there.1, &parts.1) => {
                let sql = "UPDATE result_groups SET results = results + $2 WHERE uuid = $1";
                statements.push(Statement::new(sql, [group.uuid.as_str().into(), more.into()]));
            }
            _ => {
                statements.push(group_statement(&group, at, more));
                learned.groups.push((group.uuid, parts));
            }
        }
    }
    // In the order of the key, for the index.
    term_rows.sort_unstable_by_key(|row: &Vec<Value>| match row[0] {
        Value::Int(term) => term,
        Value::Text(_) => None,
    });
    learned.words.extend(new_words);
    statements.extend(inserts("result_words (term, key, value)", word_rows, " ON CONFLICT DO NOTHING"));
    let columns = "results (id, testcase, at, outcome, note, ref_url, group_uuids, data, dedupe)";
    statements.extend(inserts(columns, result_rows, ""));
    statements.extend(inserts("result_terms (term, at, result)", term_rows, ""));
    statements.extend(new_statements(results.iter().flat_map(|result| &result.subjects)));
    Ok((statements, learned))
}
