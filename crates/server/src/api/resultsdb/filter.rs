//! Parameters of requests for lists.

use super::Wrong;
use super::post::time;
use assay_engine::ids::Timestamp;
use assay_store::{Condition, Field, ResultFilter};
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde_json::Value;

/// The most entries of a page.
const MAX_LIMIT: u32 = 1000;
const LIMIT: u32 = 20;

/// Parameters that are no keys of a result's data. `callback` was JSONP's.
const KNOWN: [&str; 11] = [
    "page",
    "limit",
    "since",
    "outcome",
    "groups",
    "testcases",
    "testcases:like",
    "_sort",
    "_distinct_on",
    "callback",
    "_",
];

/// The parameters of a request in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Pairs(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Pairs {
    type Rejection = Wrong;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Wrong> {
        let Query(pairs) = Query::<Vec<(String, String)>>::from_request_parts(parts, state)
            .await
            .map_err(|error| Wrong::bad(format!("The parameters cannot be read: {error}")))?;
        Ok(Self(pairs))
    }
}

/// Which part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) number: u64,
    pub(super) limit: u32,
}

impl Page {
    pub(super) fn offset(self) -> u64 {
        self.number.saturating_mul(u64::from(self.limit))
    }
}

impl Pairs {
    fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// All values of a key, also those that stand in one with commas.
    pub(super) fn values(&self, key: &str) -> Vec<String> {
        let values = self.all(key).flat_map(|value| value.split(','));
        values.filter(|value| !value.is_empty()).map(str::to_owned).collect()
    }

    pub(super) fn page(&self) -> Result<Page, Wrong> {
        let number = |key: &str| {
            let value = self.all(key).last();
            value.map(|text| {
                text.trim()
                    .parse::<i64>()
                    .map_err(|_| Wrong::part(key, &Value::from(text), "Input should be a whole number"))
            })
        };
        let page = number("page").transpose()?.unwrap_or(0).max(0);
        let limit = number("limit").transpose()?.unwrap_or(i64::from(LIMIT));
        if limit < 0 {
            return Err(Wrong::part("limit", &Value::from(limit), "Input should not be negative"));
        }
        Ok(Page {
            number: u64::try_from(page).unwrap_or(0),
            limit: u32::try_from(limit).unwrap_or(MAX_LIMIT).min(MAX_LIMIT),
        })
    }

    pub(super) fn distinct_on(&self) -> Vec<String> {
        self.values("_distinct_on")
    }

    /// What of results is asked for. Wrong words are refused with the right ones.
    pub(super) fn filter(&self, outcomes: &[String]) -> Result<ResultFilter, Wrong> {
        let mut filter = ResultFilter { limit: LIMIT, ..ResultFilter::default() };
        let mut add = |field: Field, is: Vec<String>, like: Vec<String>| {
            filter.conditions.push(Condition { field, is, like });
        };
        let given = |key: &str| self.all(key).next().is_some();
        if given("outcome") {
            let wanted: Vec<String> =
                self.values("outcome").iter().map(|outcome| outcome.trim().to_uppercase()).collect();
            if let Some(unknown) = wanted.iter().find(|outcome| !outcomes.contains(outcome)) {
                let why = format!("must be one of: {}", outcomes.join(", "));
                return Err(Wrong::part("outcome", &Value::from(unknown.as_str()), &why));
            }
            add(Field::Outcome, wanted, Vec::new());
        }
        if given("groups") {
            add(Field::Group, self.values("groups"), Vec::new());
        }
        if given("testcases") || given("testcases:like") {
            add(Field::Testcase, self.values("testcases"), self.values("testcases:like"));
        }
        let mut seen: Vec<&str> = Vec::new();
        for (name, _) in &self.0 {
            if KNOWN.contains(&name.as_str()) || seen.contains(&name.as_str()) {
                continue;
            }
            seen.push(name);
            if let Some(key) = name.strip_suffix(":like") {
                add(Field::Data(key.to_owned()), Vec::new(), self.values(name));
            } else {
                // A value may be empty, though not one of several.
                let values = self.values(name);
                let is = if values.is_empty() { vec![String::new()] } else { values };
                add(Field::Data(name.clone()), is, Vec::new());
            }
        }
        // Only this way and that: anything else is the newest first.
        filter.oldest_first = self.all("_sort").last() == Some("asc:submit_time");
        let times = self.values("since");
        let moment = |text: &String| -> Result<Timestamp, Wrong> {
            let why = "expected a time such as 2024-06-01T12:00:00";
            time(&Value::from(text.as_str()))
                .ok_or_else(|| Wrong::part("since", &Value::from(text.as_str()), why))
        };
        filter.since = times.first().map(moment).transpose()?;
        filter.until = times.get(1).map(moment).transpose()?;
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Pairs {
        Pairs(list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn parameters_become_conditions() {
        let outcomes = ["PASSED".to_owned(), "FAILED".to_owned()];
        let filter = |list: &[(&str, &str)]| pairs(list).filter(&outcomes);
        let found = filter(&[
            ("item", "a,b"),
            ("type", "x"),
            ("item", "c"),
            ("testcases", "t"),
            ("testcases:like", "u.*"),
            ("scenario:like", "*z"),
            ("outcome", "passed"),
            ("callback", "x"),
            ("_sort", "asc:submit_time"),
            ("since", "2024-01-02T03:04:05,2024-01-02T03:04:06.5"),
            ("empty", ""),
        ])
        .expect("it is right");
        let data = |key: &str, values: &[&str]| Condition::data(key, values.iter().copied());
        assert_eq!(
            found.conditions,
            [
                Condition::is(Field::Outcome, ["PASSED"]),
                Condition { field: Field::Testcase, is: vec!["t".into()], like: vec!["u.*".into()] },
                data("item", &["a", "b", "c"]),
                data("type", &["x"]),
                Condition { field: Field::Data("scenario".into()), is: vec![], like: vec!["*z".into()] },
                data("empty", &[""]),
            ]
        );
        assert!(found.oldest_first);
        assert_eq!(found.until.map(|until| until.0 - found.since.expect("since").0), Some(1_500_000));
        for (list, message) in [
            (&[("outcome", "GOOD")][..], "outcome: must be one of: PASSED, FAILED"),
            (&[("since", "soon")], "since: expected a time"),
        ] {
            let wrong = filter(list).expect_err("it is wrong");
            assert!(wrong.message.starts_with(message), "{}", wrong.message);
        }
    }

    #[test]
    fn pages_are_counted_from_nought() {
        for (list, want) in [
            (&[][..], Some((0, 20))),
            (&[("page", "2"), ("limit", "5")], Some((10, 5))),
            (&[("page", "-1"), ("limit", "0")], Some((0, 0))),
            (&[("limit", "99999999999")], Some((0, 1000))),
            (&[("page", "x")], None),
            (&[("limit", "-1")], None),
        ] {
            let page = pairs(list).page().ok();
            assert_eq!(page.map(|page| (page.offset(), page.limit)), want, "{list:?}");
        }
    }
}
