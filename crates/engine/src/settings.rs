//! A job's settings with their provenance, and what follows from them: its name and the worker classes it needs.

use crate::reason::BadJob;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

/// The priority of a job that names none; lower is earlier (as in openQA).
pub const DEFAULT_PRIORITY: i32 = 50;

/// The most bytes that keys and values of one job may have together.
pub const MAX_SETTINGS_BYTES: usize = 256 * 1024;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// Assay's own default.
    Default,
    /// The server's configuration, for all jobs.
    Global,
    /// A product (medium), by name.
    Product(String),
    /// A machine, by name.
    Machine(String),
    /// A test suite, by name.
    Suite(String),
    /// A job template, by name.
    Template(String),
    /// A job group, by name.
    Group(String),
    /// Several of these, whose values were joined, as for `WORKER_CLASS`.
    Joined(Vec<Self>),
    /// One of these, by `+NAME`, which has won over what counts more elsewhere.
    Plus(Box<Self>),
    /// The request that posted the job.
    Request,
    /// The request that started the job anew.
    Restart,
    /// The gate, whose build the job is.
    Gate,
    /// The value before its `%PLACEHOLDERS%` were filled in; only ever among what was overridden.
    Placeholder,
}

impl Provenance {
    /// The kind in one word, for people and programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Global => "global",
            Self::Product(_) => "product",
            Self::Machine(_) => "machine",
            Self::Suite(_) => "suite",
            Self::Template(_) => "template",
            Self::Group(_) => "group",
            Self::Joined(_) => "joined",
            Self::Plus(from) => from.word(),
            Self::Request => "request",
            Self::Restart => "restart",
            Self::Gate => "gate",
            Self::Placeholder => "placeholder",
        }
    }
}

/// For people, for example `machine uefi` or `the request`.
impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("Assay's default"),
            Self::Global => f.write_str("the server's configuration"),
            Self::Product(name)
            | Self::Machine(name)
            | Self::Suite(name)
            | Self::Template(name)
            | Self::Group(name) => write!(f, "{} {name}", self.word()),
            Self::Joined(all) => {
                for (index, one) in all.iter().enumerate() {
                    let between = if index == 0 { "" } else { " and " };
                    write!(f, "{between}{one}")?;
                }
                Ok(())
            }
            Self::Plus(from) => write!(f, "{from}, which says it with +"),
            Self::Request => f.write_str("the request"),
            Self::Restart => f.write_str("the restart"),
            Self::Gate => f.write_str("the gate"),
            Self::Placeholder => f.write_str("the value before its placeholders were filled in"),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The value; every value is text.
    pub value: String,
    /// Where it came from.
    pub from: Provenance,
    /// What it overrode, the last first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub over: Vec<(Provenance, String)>,
}

impl Setting {
    /// A value that overrides nothing.
    pub fn new(value: impl Into<String>, from: Provenance) -> Self {
        Self { value: value.into(), from, over: Vec::new() }
    }

    /// This value in place of `before`, which it remembers.
    #[must_use]
    pub fn overriding(mut self, before: Self) -> Self {
        self.over.push((before.from, before.value));
        self.over.extend(before.over);
        self
    }

    /// One sentence for people: `HDD_1 from machine uefi, overridden by the request` is told of the present value.
    pub fn explain(&self, key: &str) -> String {
        use fmt::Write as _;
        let mut text = format!("{key}={} from {}", self.value, self.from);
        for (index, (from, value)) in self.over.iter().enumerate() {
            let word = if index == 0 { "; overrides" } else { "," };
            let _ = write!(text, "{word} {value:?} from {from}");
        }
        text
    }
}

/// A job's settings by name. As JSON: `{"ISO": {"value": "x.iso", "from": "request"}}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Settings(pub BTreeMap<String, Setting>);

impl Settings {
    /// Settings as a request posts them.
    pub fn from_request<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let setting = |value: V| Setting::new(value, Provenance::Request);
        Self(pairs.into_iter().map(|(key, value)| (key.into(), setting(value))).collect())
    }

    /// The value of `key`, if set and not empty: an empty value means "unset" wherever Assay reads a setting itself.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|setting| setting.value.as_str()).filter(|value| !value.is_empty())
    }

    /// Names and values without their provenance, as a worker gets them.
    pub fn plain(&self) -> BTreeMap<String, String> {
        self.0.iter().map(|(key, setting)| (key.clone(), setting.value.clone())).collect()
    }

    /// Fills in Assay's default for `WORKER_CLASS`: `dummy` or `shell` for a `BACKEND` of that name, `shell` for `task` without
    /// `TASK_MACHINE`, else `qemu_$ARCH`,
    /// and `ARCH` without a value is `x86_64`.
    #[must_use]
    pub fn with_defaults(mut self) -> Self {
        if self.get("WORKER_CLASS").is_none() {
            let class = match self.get("BACKEND") {
                Some(own @ ("dummy" | "shell")) => own.to_owned(),
                // The same workers run both, but for tasks that have a machine of their own.
                Some("task") if self.get("TASK_MACHINE").is_none() => "shell".to_owned(),
                _ => format!("qemu_{}", self.get("ARCH").unwrap_or("x86_64")),
            };
            self.0.insert("WORKER_CLASS".to_owned(), Setting::new(class, Provenance::Default));
        }
        self
    }

    /// openQA's job name: `DISTRI-VERSION-FLAVOR-ARCH-BuildBUILD-TEST@MACHINE`, absent parts left out, characters
    /// outside `[a-zA-Z0-9@._+:-]` replaced by `_`.
    pub fn job_name(&self) -> String {
        let mut parts = Vec::new();
        for key in ["DISTRI", "VERSION", "FLAVOR", "ARCH", "BUILD", "TEST"] {
            if let Some(value) = self.get(key) {
                parts.push(if key == "BUILD" { format!("Build{value}") } else { value.to_owned() });
            }
        }
        let mut name = parts.join("-");
        if let Some(machine) = self.get("MACHINE") {
            name = format!("{name}@{machine}");
        }
        let keep = |c: char| c.is_ascii_alphanumeric() || "@._+:-".contains(c);
        name.chars().map(|c| if keep(c) { c } else { '_' }).collect()
    }

    /// The worker classes that the job needs, all of them.
    pub fn classes(&self) -> ClassSet {
        ClassSet::parse(self.get("WORKER_CLASS").unwrap_or_default())
    }

    /// Refuses what cannot be stored or could not be meant.
    pub fn check(&self) -> Result<(), BadJob> {
        let mut bytes = 0;
        for (key, setting) in &self.0 {
            bytes += key.len() + setting.value.len();
            let wrong = |c: char| c.is_control() || c.is_whitespace() || c == '=';
            if key.is_empty() || key.contains(wrong) {
                return Err(BadJob::Key { key: key.clone() });
            }
            if setting.value.contains('\0') {
                return Err(BadJob::NulByte { key: key.clone() });
            }
        }
        if bytes > MAX_SETTINGS_BYTES {
            return Err(BadJob::TooLarge { bytes, limit: MAX_SETTINGS_BYTES });
        }
        if self.get("WORKER_CLASS").is_some() && self.classes().is_empty() {
            return Err(BadJob::NoClass);
        }
        let test = self.get("TEST").ok_or(BadJob::NoTest)?;
        let fits = |c: char| c.is_alphanumeric() || "?_ *.,:/#@+-".contains(c);
        if !test.chars().all(fits) {
            return Err(BadJob::Test { test: test.to_owned() });
        }
        Ok(())
    }
}

/// Worker classes, as a job needs them (all) or a worker offers them. Written with commas: `dummy,qemu_x86_64`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct ClassSet(Arc<BTreeSet<String>>);

impl ClassSet {
    /// Reads a comma list; spaces around names and empty names do not count.
    pub fn parse(text: &str) -> Self {
        let classes = text.split(',').map(str::trim).filter(|class| !class.is_empty());
        Self(Arc::new(classes.map(str::to_owned).collect()))
    }

    /// True if every class of `needed` is here.
    pub fn offers(&self, needed: &Self) -> bool {
        needed.0.is_subset(&self.0)
    }

    /// Those of `sets` that are offered here, in order. Sets that begin alike stand together, and are passed over together
    /// if that beginning is not offered; so this costs what is found, not what there is.
    pub fn offered<'a, T>(&'a self, sets: &'a BTreeMap<Self, T>) -> impl Iterator<Item = (&'a Self, &'a T)> {
        let mut from: Bound<Self> = Bound::Unbounded;
        std::iter::from_fn(move || {
            loop {
                let rest: (Bound<&Self>, Bound<&Self>) = (from.as_ref(), Bound::Unbounded);
                let (set, value) = sets.range::<Self, _>(rest).next()?;
                if let Some(missing) = set.iter().find(|class| !self.0.contains(*class)) {
                    from = Bound::Included(self.next_after(set, missing)?);
                } else {
                    from = Bound::Excluded(set.clone());
                    return Some((set, value));
                }
            }
        })
    }

    /// Where to look for what is offered here after `set`, whose class `missing` is the first that is not: what begins as
    /// it does up to there is not.
    fn next_after(&self, set: &Self, missing: &str) -> Option<Self> {
        let mut begin: Vec<&str> = set.iter().take_while(|class| *class != missing).collect();
        let mut last = missing;
        loop {
            let greater: (Bound<&str>, Bound<&str>) = (Bound::Excluded(last), Bound::Unbounded);
            if let Some(next) = self.0.range::<str, _>(greater).next() {
                begin.push(next);
                return Some(begin.into_iter().collect());
            }
            last = begin.pop()?;
        }
    }

    /// The names in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// True if there is no class.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for ClassSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, class) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            f.write_str(class)?;
        }
        Ok(())
    }
}

impl<'a> FromIterator<&'a str> for ClassSet {
    fn from_iter<I: IntoIterator<Item = &'a str>>(classes: I) -> Self {
        Self(Arc::new(classes.into_iter().map(str::to_owned).collect()))
    }
}

impl From<String> for ClassSet {
    fn from(text: String) -> Self {
        Self::parse(&text)
    }
}

impl From<ClassSet> for String {
    fn from(set: ClassSet) -> Self {
        set.to_string()
    }
}

/// The most that `RETRY=` may ask for.
const MAX_RETRIES: u32 = 20;

/// How often `RETRY=N` (or `RETRY=N:description`) lets a job be started anew by itself.
pub fn retries(settings: &Settings) -> u32 {
    let number = settings.get("RETRY").and_then(|text| text.split(':').next()?.trim().parse().ok());
    number.unwrap_or(0_u32).min(MAX_RETRIES)
}

/// The setting by which a running test shows whose test it is; see `X-API-JobToken`.
pub const JOB_TOKEN: &str = "JOBTOKEN";

/// Settings with these names are never logged nor shown; only the worker gets their values. openQA's rule. A `+` before a
/// name only says that it counts more.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.trim_start_matches('+');
    name.starts_with("_SECRET_") || name.contains("PASSWORD") || name == JOB_TOKEN
}

/// What is shown instead of a secret.
pub const COVERED: &str = "***";

/// Whether this value only covers the secret of that name: it was read by somebody who may not see it.
pub fn is_covered(name: &str, value: &str) -> bool {
    value == COVERED && is_secret_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_begins_with_a_class_that_is_not_offered_is_passed_over() {
        let offered = ClassSet::parse("b,d,f");
        for (set, missing, next) in [
            ("a", "a", Some("b")),
            ("b,c", "c", Some("b,d")),
            ("b,c,d,e", "c", Some("b,d")),
            ("b,d,e", "e", Some("b,d,f")),
            ("b,d,g", "g", Some("b,f")),
            ("b,f,g", "g", Some("d")),
            ("f,g", "g", None),
            ("g", "g", None),
        ] {
            let found = offered.next_after(&ClassSet::parse(set), missing);
            assert_eq!(found, next.map(ClassSet::parse), "after {set}");
        }
    }

    fn any_classes() -> impl Strategy<Value = ClassSet> {
        prop::collection::btree_set("[a-f]", 0..5)
            .prop_map(|classes| classes.iter().map(String::as_str).collect())
    }

    proptest! {
        #[test]
        fn what_is_offered_is_found(
            offered in any_classes(), sets in prop::collection::btree_map(any_classes(), any::<u8>(), 0..40),
        ) {
            let found: Vec<_> = offered.offered(&sets).collect();
            let naive: Vec<_> = sets.iter().filter(|(set, _)| offered.offers(set)).collect();
            prop_assert_eq!(found, naive);
        }
    }
}
