//! What is to be decided about, and for what: subjects that a result speaks of, releases that a subject belongs to, and
//! what changes decisions although nothing new is found.

use super::{ITEM, Policies, Rule, Subject, SubjectType, Template, glob_match};
use crate::ids::Timestamp;
use crate::rules::split_nvr;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

impl Policies {
    /// True if a policy is about it, for whatever release and purpose.
    pub fn concerns(&self, subject: &Subject) -> bool {
        let kind = self.subject_type(&subject.kind);
        self.policies.iter().any(|policy| policy.is_about(&kind, subject))
    }

    /// The subjects of policies that a result with this data is evidence of.
    pub fn subjects_of(&self, data: &BTreeMap<String, Vec<String>>) -> BTreeSet<Subject> {
        let mut subjects = BTreeSet::new();
        let is_known = |name: &str| self.subject_types.iter().any(|kind| kind.is_called(name));
        let named = data.get("type").into_iter().flatten().filter(|name| !is_known(name));
        let unknown: Vec<SubjectType> = named.map(|name| SubjectType::named(name)).collect();
        for kind in self.subject_types.iter().chain(&unknown) {
            for query in kind.queries(ITEM) {
                subjects.extend(items(&query, data).map(|item| Subject { kind: kind.id.clone(), item }));
            }
        }
        subjects.retain(|subject| self.concerns(subject));
        subjects
    }

    /// For which releases and purposes policies want something of a subject. Its name tells the release; else `versions`
    /// do, which are those that it was tested as: `40`, `Rawhide`. Where neither tells a release that a policy is for, every
    /// release counts that a policy names outright.
    pub fn purposes(&self, subject: &Subject, versions: &BTreeSet<String>) -> BTreeSet<(String, String)> {
        let kind = self.subject_type(&subject.kind);
        let policies: Vec<_> =
            self.policies.iter().filter(|policy| policy.is_about(&kind, subject)).collect();
        let names = releases(&kind, &subject.item);
        let (mut told, mut outright) = (BTreeSet::new(), BTreeSet::new());
        for policy in &policies {
            for pattern in &policy.product_versions {
                let before_glob = pattern.split(['*', '?', '[']).next().unwrap_or_default();
                if before_glob.len() == pattern.len() {
                    outright.insert(pattern.clone());
                }
                // `fedora-` of `fedora-*`, `fedora-4?` and `fedora-40`.
                let stem = before_glob.rfind('-').map_or("", |dash| &before_glob[..=dash]);
                let of_results = versions.iter().filter(|_| names.is_empty() && !stem.is_empty());
                let of_results = of_results.map(|version| format!("{stem}{}", version.to_lowercase()));
                told.extend(names.iter().cloned().chain(of_results).filter(|name| glob_match(pattern, name)));
            }
        }
        let releases = if told.is_empty() { outright } else { told };
        let mut purposes = BTreeSet::new();
        for release in releases {
            for policy in &policies {
                if policy.product_versions.iter().any(|pattern| glob_match(pattern, &release)) {
                    let contexts = policy.contexts.iter().cloned();
                    purposes.extend(contexts.map(|context| (release.clone(), context)));
                }
            }
        }
        purposes
    }

    /// By what is decided at this moment, for each purpose: texts that are other ones if policies, the templates that they
    /// look at, or what of them is valid have changed.
    pub fn bases(&self, templates: &[Template], at: Timestamp) -> BTreeMap<String, String> {
        let mut bases: BTreeMap<String, String> = BTreeMap::new();
        let kinds = format!("{:?}", self.subject_types);
        for policy in &self.policies {
            let mut text = format!("{policy:?}");
            for rule in &policy.rules {
                match rule {
                    Rule::Passing(rule) => {
                        let _ = write!(text, "{}", u8::from(rule.is_valid(at)));
                    }
                    Rule::Templates(rule) => {
                        for template in templates.iter().filter(|template| rule.fits(template)) {
                            let _ = write!(text, "{template:?}");
                        }
                    }
                    // What a package brings belongs to the commit that it was built from.
                    Rule::Remote(_) => {}
                }
            }
            for context in &policy.contexts {
                bases.entry(context.clone()).or_insert_with(|| kinds.clone()).push_str(&text);
            }
        }
        bases
    }

    /// When the next rule begins or ends to be valid after this moment.
    pub fn next_change(&self, after: Timestamp) -> Option<Timestamp> {
        let moments = self.rules().flat_map(|rule| match rule {
            Rule::Passing(rule) => [rule.valid_since, rule.valid_until],
            Rule::Templates(_) | Rule::Remote(_) => [None, None],
        });
        moments.flatten().filter(|at| *at > after).min()
    }

    /// True if a rule may need what only others know: when something was built, or what a package brings.
    pub fn asks_elsewhere(&self) -> bool {
        self.rules().any(Rule::asks_elsewhere)
    }

    /// True if a rule looks at templates.
    pub fn look_at_templates(&self) -> bool {
        self.rules().any(|rule| matches!(rule, Rule::Templates(_)))
    }
}

/// The items by which a query finds a result with this data.
fn items<'a>(
    query: &'a BTreeMap<String, Vec<String>>,
    data: &'a BTreeMap<String, Vec<String>>,
) -> impl Iterator<Item = String> + 'a {
    let is_open = |wanted: &[String]| wanted.iter().any(|value| value.contains(ITEM));
    let has = move |key: &str, wanted: &[String]| {
        data.get(key).is_some_and(|values| values.iter().any(|value| wanted.contains(value)))
    };
    let fits = query.iter().all(|(key, wanted)| is_open(wanted) || has(key, wanted));
    let open = query.iter().find(|(_, wanted)| fits && is_open(wanted));
    let found = open.into_iter().flat_map(move |(key, wanted)| {
        let values = data.get(key).into_iter().flatten();
        values.flat_map(move |value| {
            wanted.iter().filter_map(move |wanted| {
                let (before, after) = wanted.split_once(ITEM)?;
                Some(value.strip_prefix(before)?.strip_suffix(after)?.to_owned())
            })
        })
    });
    // Of several keys that name the item all have to name the same.
    found.filter(move |item| {
        let filled = |wanted: &[String]| -> Vec<String> {
            wanted.iter().map(|wanted| wanted.replace(ITEM, item)).collect()
        };
        query.iter().all(|(key, wanted)| has(key, &filled(wanted)))
    })
}

/// The releases that an item's name tells, in the words of Bodhi: those of `Fedora-Cloud-40-20240401.0`, of
/// `bash-5.2-1.fc40`.
fn releases(kind: &SubjectType, item: &str) -> Vec<String> {
    if kind.is_nvr {
        let release = split_nvr(item).map_or("", |(_, _, release)| release);
        return release.split('.').flat_map(of_dist_tag).collect();
    }
    let mut parts = item.rsplitn(3, '-');
    let (Some(last), Some(version), Some(short)) = (parts.next(), parts.next(), parts.next()) else {
        return Vec::new();
    };
    // A compose's name ends with its date, and more after a dot.
    let is_date = |date: &str| date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
    if !last.split_once('.').is_some_and(|(date, _)| is_date(date)) {
        return Vec::new();
    }
    // Bodhi knows a release, whatever is composed of it.
    let name = short.split('-').next().unwrap_or(short);
    vec![format!("{name}-{version}").to_lowercase()]
}

fn of_dist_tag(tag: &str) -> Vec<String> {
    let number = |prefix: &str| {
        let number = tag.strip_prefix(prefix)?;
        let number = number.split('_').next().unwrap_or_default();
        (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
    };
    match (number("fc"), number("el")) {
        (Some(version), _) => vec![format!("fedora-{version}")],
        (_, Some(version)) => vec![format!("epel-{version}"), format!("rhel-{version}")],
        _ if tag.starts_with("eln") => vec!["fedora-eln".to_owned()],
        _ => Vec::new(),
    }
}
