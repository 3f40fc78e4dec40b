//! What results are found by.

use crate::error::StoreError;
use crate::jobs::Select;
use crate::sql::{Backend, Sql};
use sha2::{Digest, Sha256};

/// Values of a pattern, or alternatives of a condition, that can be looked for at once.
pub(super) const MOST_VALUES: usize = 1000;
/// So many characters of a value can be found by a pattern.
pub(super) const WORD_CHARS: usize = 256;

/// What of a result is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// A key of its data.
    Data(String),
    /// The name of its test case.
    Testcase,
    /// The name of a group.
    Group,
    /// Its outcome.
    Outcome,
}

/// One of these values, or one that is like one of these patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// What is compared.
    pub field: Field,
    /// Equal to one of these.
    pub is: Vec<String>,
    /// `*` stands for anything. For data and test cases.
    pub like: Vec<String>,
}

impl Condition {
    /// The field is one of these.
    pub fn is(field: Field, values: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { field, is: values.into_iter().map(Into::into).collect(), like: Vec::new() }
    }

    /// A key of the data has one of these values.
    pub fn data(key: &str, values: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::is(Field::Data(key.to_owned()), values)
    }
}

impl Field {
    /// The term of a value.
    pub(super) fn term(&self, value: &str) -> i64 {
        let mut hash = Sha256::new();
        match self {
            Self::Data(key) => {
                hash.update(b"d");
                hash.update(key.as_bytes());
            }
            Self::Testcase => hash.update(b"t"),
            Self::Group => hash.update(b"g"),
            Self::Outcome => hash.update(b"o"),
        }
        hash.update([0]);
        hash.update(value.as_bytes());
        let digest = hash.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        i64::from_be_bytes(first)
    }

    /// Few results share a value, whatever it is.
    pub(super) fn is_narrow(&self) -> bool {
        matches!(self, Self::Data(key) if key == "item")
    }
}

/// The beginning of a value, by which patterns find it.
pub(super) fn word(value: &str) -> &str {
    value.char_indices().nth(WORD_CHARS).map_or(value, |(at, _)| &value[..at])
}

/// `column` is like a pattern with `*`, and where a plain beginning of it lets an index help.
pub(super) fn like<B: Backend>(select: &mut Select, column: &str, pattern: &str) {
    let plain = pattern.split('*').next().unwrap_or_default();
    select.sql.push('(');
    if !plain.is_empty() {
        select.sql.push_str(column);
        select.sql.push_str(" >= ");
        select.value(plain.into());
        select.sql.push_str(" AND ");
        // No text that begins with `plain` is greater than this one.
        select.sql.push_str(column);
        select.sql.push_str(" <= ");
        select.value(format!("{plain}\u{10FFFF}").into());
        select.sql.push_str(" AND ");
    }
    select.sql.push_str(column);
    select.sql.push_str(B::LIKE.0);
    select.value((B::LIKE.1)(pattern).into());
    select.sql.push_str(B::LIKE.2);
    select.sql.push(')');
}

impl<B: Backend> Sql<B> {
    /// The terms that a condition is fulfilled by: any of them.
    pub(super) async fn terms_of(&self, condition: &Condition) -> Result<Vec<i64>, StoreError> {
        let mut terms: Vec<i64> = condition.is.iter().map(|value| condition.field.term(value)).collect();
        for pattern in &condition.like {
            let mut select = if let Field::Data(key) = &condition.field {
                let mut select = Select::new("SELECT term FROM result_words WHERE key = ".to_owned());
                select.value(key.as_str().into());
                select.sql.push_str(" AND ");
                like::<B>(&mut select, "value", pattern);
                select
            } else {
                let mut select = Select::new("SELECT name FROM testcases WHERE ".to_owned());
                like::<B>(&mut select, "name", pattern);
                select
            };
            select.sql.push_str(" LIMIT ");
            select.value((MOST_VALUES as i64 + 1).into());
            for row in self.backend.query("look for values", select.statement()).await? {
                terms.extend(row.into_iter().filter_map(|value| match value {
                    crate::sql::Value::Int(term) => term,
                    crate::sql::Value::Text(name) => name.map(|name| condition.field.term(&name)),
                }));
            }
        }
        terms.sort_unstable();
        terms.dedup();
        if terms.len() > MOST_VALUES {
            return Err(StoreError::TooBroad { most: MOST_VALUES });
        }
        Ok(terms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_tell_fields_keys_and_values_apart() {
        let fields = [
            Field::Data("item".into()),
            Field::Data("type".into()),
            Field::Data(String::new()),
            Field::Testcase,
            Field::Group,
            Field::Outcome,
        ];
        let mut terms: Vec<i64> =
            fields.iter().flat_map(|field| ["", "a", "b"].map(|value| field.term(value))).collect();
        terms.sort_unstable();
        terms.dedup();
        assert_eq!(terms.len(), 18);
        // What is stored: another hash would lose every result that there is.
        assert_eq!(Field::Data("item".into()).term("bash-5.2.26-1.fc40"), TERM_OF_AN_ITEM);
    }

    const TERM_OF_AN_ITEM: i64 = -6_312_309_005_724_433_100;

    #[test]
    fn words_are_cut_between_characters() {
        assert_eq!(word("short"), "short");
        assert_eq!(word(&"ü".repeat(300)).chars().count(), WORD_CHARS);
    }
}
