//! May it go on? Policies name the tests that have to pass for a subject; a decision compares them with results and
//! waivers, requirement by requirement, as Greenwave does.
//!
//! Pure: what the results and waivers are, and what time it is, comes from outside, all seen at one moment.

mod glob;
mod judge;
mod remote;
mod scope;
#[cfg(test)]
mod tests;

pub use glob::glob_match;
pub use judge::{Decision, GatingFile, Question, Requirement, Verdict, decide, space};
pub use remote::{Needs, Origin, RemoteFile, RemoteRule, address, needs, needs_origin, wrong_template};

use crate::ids::Timestamp;
use crate::rules::split_nvr;
use std::collections::BTreeMap;

/// Stands for the item in a kind's queries.
const ITEM: &str = "{item}";

/// All policies, and the kinds of subjects they speak of.
#[derive(Debug, Clone, PartialEq)]
pub struct Policies {
    /// The kinds of subjects; the first one of a name counts.
    pub subject_types: Vec<SubjectType>,
    /// In the order of the files.
    pub policies: Vec<Policy>,
}

impl Default for Policies {
    fn default() -> Self {
        Self { subject_types: SubjectType::shipped(), policies: Vec::new() }
    }
}

impl Policies {
    /// The rules of all policies.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.policies.iter().flat_map(|policy| &policy.rules)
    }

    /// The kind of that name or alias; of an unknown name, a kind without peculiarities.
    pub fn subject_type(&self, name: &str) -> SubjectType {
        self.subject_types
            .iter()
            .find(|kind| kind.is_called(name))
            .cloned()
            .unwrap_or_else(|| SubjectType::named(name))
    }

    /// The policies that apply; whether their rules are taken is said by the names of packages.
    pub fn applicable(&self, subject: &Subject, product_version: &str, contexts: &[String]) -> Vec<&Policy> {
        let kind = self.subject_type(&subject.kind);
        let fits = |policy: &&Policy| policy.applies(&kind, product_version, contexts);
        self.policies.iter().filter(fits).collect()
    }
}

/// A policy: what has to pass before something is done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Its name.
    pub id: String,
    /// For which releases; patterns.
    pub product_versions: Vec<String>,
    /// For what is to be done.
    pub contexts: Vec<String>,
    /// For which kinds of subjects; patterns.
    pub subject_types: Vec<String>,
    /// Its rules are only for these packages, if any are named; patterns.
    pub packages: Vec<String>,
    /// They are not for these; patterns.
    pub excluded_packages: Vec<String>,
    /// What has to pass.
    pub rules: Vec<Rule>,
}

impl Policy {
    /// As with Greenwave, whatever package it is: what is not required of a package is decided nevertheless.
    fn applies(&self, kind: &SubjectType, product_version: &str, contexts: &[String]) -> bool {
        contexts.iter().any(|context| self.contexts.contains(context))
            && any(&self.product_versions, product_version)
            && self.is_for(kind)
    }

    /// True if it wants something of such a subject, for whatever release and purpose.
    fn is_about(&self, kind: &SubjectType, subject: &Subject) -> bool {
        self.is_for(kind) && self.takes_in(kind, subject)
    }

    fn is_for(&self, kind: &SubjectType) -> bool {
        std::iter::once(&kind.id).chain(&kind.aliases).any(|name| any(&self.subject_types, name))
    }

    /// True if the subject's package is one that it leaves out by name.
    fn excludes(&self, kind: &SubjectType, subject: &Subject) -> bool {
        package(kind, subject).is_some_and(|package| any(&self.excluded_packages, package))
    }

    /// True if its rules are for the subject, as far as that is said by the names of packages.
    fn takes_in(&self, kind: &SubjectType, subject: &Subject) -> bool {
        let named = || package(kind, subject).is_some_and(|package| any(&self.packages, package));
        (self.packages.is_empty() || named()) && !self.excludes(kind, subject)
    }
}

fn package<'a>(kind: &SubjectType, subject: &'a Subject) -> Option<&'a str> {
    kind.is_nvr.then(|| split_nvr(&subject.item)).flatten().map(|(name, ..)| name)
}

fn any(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| glob_match(pattern, text))
}

/// What has to pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// A test case.
    Passing(PassingRule),
    /// Every test that these job templates make: no rule can require a job that never runs.
    Templates(TemplateRule),
    /// What the package itself says.
    Remote(RemoteRule),
}

impl Rule {
    /// True if it may need what only others know: when something was built, or what a package brings.
    pub fn asks_elsewhere(&self) -> bool {
        match self {
            Self::Passing(rule) => rule.valid_since.is_some() || rule.valid_until.is_some(),
            Self::Templates(_) => false,
            Self::Remote(_) => true,
        }
    }
}

/// A test case that has to pass.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct PassingRule {
    /// The test case.
    pub testcase: String,
    /// In this scenario; without it in every scenario that there are results of.
    pub scenario: Option<String>,
    /// Not before this moment.
    pub valid_since: Option<Timestamp>,
    /// Not from this moment on.
    pub valid_until: Option<Timestamp>,
}

impl PassingRule {
    /// True if it counts at this moment.
    pub fn is_valid(&self, at: Timestamp) -> bool {
        self.valid_since.is_none_or(|since| at >= since) && self.valid_until.is_none_or(|until| at < until)
    }
}

/// Job templates that a rule is about; `None` does not restrict. All but the group are patterns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TemplateRule {
    /// The job group.
    pub group: Option<String>,
    /// `DISTRI`.
    pub distri: Option<String>,
    /// `VERSION`.
    pub version: Option<String>,
    /// `FLAVOR`.
    pub flavor: Option<String>,
    /// `ARCH`.
    pub arch: Option<String>,
    /// `TEST`.
    pub test: Option<String>,
}

/// A job that would be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Template {
    /// The job group's name.
    pub group: String,
    /// `DISTRI`.
    pub distri: String,
    /// `VERSION`.
    pub version: String,
    /// `FLAVOR`.
    pub flavor: String,
    /// `ARCH`.
    pub arch: String,
    /// `TEST`.
    pub test: String,
    /// What its result's test case will be called after the kind of the subject: `install` in `compose.install`.
    pub testcase: String,
    /// Its result's scenario.
    pub scenario: Option<String>,
}

impl TemplateRule {
    /// True if the rule is about this job.
    pub fn fits(&self, template: &Template) -> bool {
        let fits = |pattern: &Option<String>, text: &str| {
            pattern.as_ref().is_none_or(|pattern| glob_match(pattern, text))
        };
        self.group.as_ref().is_none_or(|group| *group == template.group)
            && fits(&self.distri, &template.distri)
            && (template.version == "*" || fits(&self.version, &template.version))
            && fits(&self.flavor, &template.flavor)
            && fits(&self.arch, &template.arch)
            && fits(&self.test, &template.test)
    }
}

/// A kind of subjects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubjectType {
    /// Its name.
    pub id: String,
    /// Other names of it.
    pub aliases: Vec<String>,
    /// Its items are `name-version-release`.
    pub is_nvr: bool,
    /// Where no policy applies nothing is required; else that is an error.
    pub ignore_missing_policy: bool,
    /// The key of a result's data that names the item; `item` unless said otherwise.
    pub item_key: Option<String>,
    /// How results of an item are found: any of these, each with keys of data and their values; `{item}` is the item.
    pub result_queries: Vec<BTreeMap<String, Vec<String>>>,
}

impl SubjectType {
    /// A kind without peculiarities.
    pub fn named(id: &str) -> Self {
        Self { id: id.to_owned(), ..Self::default() }
    }

    /// The kinds that everybody knows.
    pub fn shipped() -> Vec<Self> {
        let query = |pairs: &[(&str, &[&str])]| -> BTreeMap<String, Vec<String>> {
            let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
            pairs.iter().map(|(key, list)| ((*key).to_owned(), values(list))).collect()
        };
        vec![
            Self { ignore_missing_policy: true, ..Self::named("bodhi_update") },
            Self {
                item_key: Some("productmd.compose.id".to_owned()),
                result_queries: vec![
                    query(&[("type", &["compose"]), ("item", &[ITEM])]),
                    query(&[("productmd.compose.id", &[ITEM])]),
                ],
                ..Self::named("compose")
            },
            Self {
                aliases: vec!["brew-build".to_owned()],
                is_nvr: true,
                result_queries: vec![
                    query(&[("type", &["koji_build", "brew-build"]), ("item", &[ITEM])]),
                    query(&[("original_spec_nvr", &[ITEM])]),
                ],
                ..Self::named("koji_build")
            },
            Self { is_nvr: true, ..Self::named("redhat-container-image") },
            Self { is_nvr: true, ..Self::named("redhat-module") },
        ]
    }

    /// True if it or an alias of it has that name.
    pub fn is_called(&self, name: &str) -> bool {
        self.id == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// All names of it.
    pub fn names(&self) -> Vec<String> {
        std::iter::once(&self.id).chain(&self.aliases).cloned().collect()
    }

    /// How the results of an item are found.
    pub fn queries(&self, item: &str) -> Vec<BTreeMap<String, Vec<String>>> {
        if self.result_queries.is_empty() {
            let of = [("type".to_owned(), self.names()), ("item".to_owned(), vec![item.to_owned()])];
            return vec![of.into_iter().collect()];
        }
        let filled = |values: &Vec<String>| values.iter().map(|value| value.replace(ITEM, item)).collect();
        self.result_queries
            .iter()
            .map(|query| query.iter().map(|(key, values)| (key.clone(), filled(values))).collect())
            .collect()
    }
}

/// What is decided about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// Its kind, or an alias of it.
    pub kind: String,
    /// What it is called.
    pub item: String,
}

/// A result as far as a decision looks at it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Its number.
    pub id: i64,
    /// Its test case.
    pub testcase: String,
    /// When it was found.
    pub at: Timestamp,
    /// In capitals.
    pub outcome: String,
    /// Where.
    pub scenario: Option<String>,
    /// On which architecture.
    pub architecture: Option<String>,
    /// On which variant.
    pub variant: Option<String>,
    /// Who says so.
    pub source: Option<String>,
    /// Why it could not be carried out.
    pub error_reason: Option<String>,
}

/// A waiver as far as a decision looks at it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waived {
    /// Its number.
    pub id: i64,
    /// The test case.
    pub testcase: String,
    /// Only in this scenario.
    pub scenario: Option<String>,
    /// For which release.
    pub product_version: String,
    /// False takes earlier ones back.
    pub waived: bool,
    /// From then on it does not count.
    pub expires_at: Option<Timestamp>,
}

/// What is known of a subject; results and waivers the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// Results of the subject.
    pub results: Vec<Found>,
    /// Waivers of the subject.
    pub waivers: Vec<Waived>,
    /// When it was built, if somebody knows: rules that begin or end to count some day look at that, else at the question's
    /// time.
    pub built_at: Option<Timestamp>,
    /// What came of looking for files of rules, by the sources of the rules that stand for them.
    pub remote: BTreeMap<Vec<String>, RemoteFile>,
}
