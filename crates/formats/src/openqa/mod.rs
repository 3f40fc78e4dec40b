//! openQA's files: what products are scheduled from, read into [`assay_engine::product`]'s catalog and written back.
//!
//! [`group`] reads the YAML of a job group (`JobTemplates-01`), [`scenarios`] the definitions beside the tests
//! (`JobScenarios-01`), [`tables`] what `openqa-load-templates` takes (JSON, or Perl's data without running it), [`fif`]
//! Fedora's format. Each gives everything that is wrong at once.

pub mod fif;
pub mod group;
mod literal;
pub mod scenarios;
pub mod tables;

use crate::diagnostic::{Diagnostic, Place, Sink};
use crate::read::Reader;
use crate::yaml::{Entry, Kind, Node};
use assay_engine::product::{Machine, Medium, MediumKey, SettingsMap, Suite, Template};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// What was read.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// None if there is an error.
    pub value: Option<T>,
    /// Everything that was found, in the order of the files.
    pub diagnostics: Vec<Diagnostic>,
}

impl<T> Loaded<T> {
    fn new(value: T, sink: Sink<'_>) -> Self {
        let value = (!sink.has_errors()).then_some(value);
        // What stands behind an anchor is read wherever the anchor is used.
        let mut diagnostics = sink.finish();
        diagnostics.dedup();
        Self { value, diagnostics }
    }
}

/// A template, and the name of its group: groups have numbers only on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grouped {
    /// The group.
    pub group: String,
    /// The template; its own group is empty.
    pub template: Template,
    /// Where it stands, as [`Sink::at`] writes it; empty if it comes from no file.
    pub at: String,
}

/// A group with its own YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupFile {
    /// The name.
    pub name: String,
    /// The YAML as it was written.
    pub text: String,
    /// What stands in it.
    pub templates: Vec<Template>,
    /// Where the YAML stands within another file, as [`Sink::at`] writes it; empty if it is a file of its own.
    pub at: String,
}

/// What a group keeps, where it stands and how its builds are shown, as a dump says it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupFacts {
    /// The name.
    pub name: String,
    /// The name of the parent group.
    pub parent: Option<String>,
    /// Markdown.
    pub description: Option<String>,
    /// The place among its siblings.
    pub sort_order: Option<i64>,
    /// Those of [`GROUP_NUMBERS`] that it says.
    pub numbers: BTreeMap<String, i64>,
}

/// openQA's columns of a group that are numbers.
pub const GROUP_NUMBERS: [&str; 15] = [
    "size_limit_gb",
    "exclusively_kept_asset_size",
    "keep_logs_in_days",
    "keep_important_logs_in_days",
    "keep_screenshots_in_days",
    "keep_important_screenshots_in_days",
    "keep_results_in_days",
    "keep_important_results_in_days",
    "keep_jobs_in_days",
    "keep_important_jobs_in_days",
    "default_priority",
    "build_version_sort",
    "carry_over_bugrefs",
    "ignore_on_dashboard",
    "always_show_version",
];

/// What a file wants the catalog to have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Machines.
    pub machines: Vec<Machine>,
    /// Media.
    pub media: Vec<Medium>,
    /// Test suites.
    pub suites: Vec<Suite>,
    /// Templates that are not in a group's YAML.
    pub templates: Vec<Grouped>,
    /// Groups with YAML.
    pub groups: Vec<GroupFile>,
    /// What else is said about groups.
    pub facts: Vec<GroupFacts>,
}

/// What the server has already: names that a file may use without making them.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Machines.
    pub machines: BTreeSet<String>,
    /// Test suites.
    pub suites: BTreeSet<String>,
    /// Media, as `distri-version-flavor-arch`.
    pub media: BTreeSet<String>,
}

impl Known {
    /// What `changes` make may be named as well.
    pub fn add(&mut self, changes: &Changes) {
        self.machines.extend(changes.machines.iter().map(|machine| machine.name.clone()));
        self.suites.extend(changes.suites.iter().map(|suite| suite.name.clone()));
        self.media.extend(changes.media.iter().map(|medium| medium.key.to_string()));
    }

    /// Refuses a machine that is not there.
    fn machine(&self, sink: &mut Sink<'_>, name: &str, place: Place) {
        Self::check(&self.machines, sink, "machine", name, place);
    }

    /// Refuses a test suite that is not there.
    fn suite(&self, sink: &mut Sink<'_>, name: &str, place: Place) {
        Self::check(&self.suites, sink, "test suite", name, place);
    }

    /// Refuses a medium that is not there.
    fn medium(&self, sink: &mut Sink<'_>, key: &MediumKey, place: Place) {
        // Where a part is missing, that has been said.
        if ![&key.distri, &key.version, &key.flavor, &key.arch].into_iter().any(String::is_empty) {
            Self::check(&self.media, sink, "product", &key.to_string(), place);
        }
    }

    fn check(known: &BTreeSet<String>, sink: &mut Sink<'_>, what: &str, name: &str, place: Place) {
        if !known.contains(name) {
            let message = format!("the {what} `{name}` does not exist; expected one that does");
            sink.unknown("unknown-name", place, message, name, known.iter().map(String::as_str));
        }
    }
}

/// Whether values that are no text are taken as they are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    /// Only text, as openQA's schema has it.
    Text,
    /// Numbers too.
    Any,
}

/// The entries of a mapping.
fn entries<'n>(reader: &mut Reader<'_, '_>, node: &'n Node, what: &str) -> &'n [Entry] {
    if let Kind::Map(entries) = &node.kind {
        return entries;
    }
    reader.expected(node, what, "a mapping from names");
    &[]
}

/// Settings as a mapping.
fn settings(reader: &mut Reader<'_, '_>, node: Option<&Arc<Node>>, values: Values) -> SettingsMap {
    let Some(node) = node else { return SettingsMap::new() };
    let mut all = SettingsMap::new();
    for entry in entries(reader, node, "settings") {
        setting_name(reader, &entry.key.text, entry.key.place);
        if let Some(value) = value(reader, &entry.value, &entry.key.text, values) {
            all.insert(entry.key.text.to_string(), value);
        }
    }
    all
}

fn value(reader: &mut Reader<'_, '_>, node: &Node, name: &str, values: Values) -> Option<String> {
    if values == Values::Text && matches!(node.kind, Kind::Scalar { plain: true, .. }) {
        let what = node.what(reader.dialect);
        if what != "text" {
            let message = format!("the value of `{name}` is {what}; settings are text: put it in quotes");
            reader.sink.error("type", node.place, message);
            return None;
        }
    }
    reader.text(node, name).map(str::to_owned)
}

/// openQA's rule for names of settings.
fn setting_name(reader: &mut Reader<'_, '_>, name: &str, place: Place) {
    let rest = name.trim_start_matches(|c: char| c.is_ascii_uppercase() || matches!(c, '_' | '+'));
    let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let rest = rest.strip_suffix("[]").unwrap_or(rest);
    if rest.len() == name.len() || !rest.chars().all(fits) {
        let message = format!("`{name}` is no name of a setting; expected capital letters, digits and `_`");
        reader.sink.error("setting-name", place, message);
    }
}

/// Names of products, suites and scenarios.
fn name_fits(name: &str) -> bool {
    !name.is_empty()
        && name.chars().all(|c| c.is_alphanumeric() || c.is_whitespace() && c != '\n' || "_*.+-".contains(c))
}

/// Refuses what is no name.
fn check_name(reader: &mut Reader<'_, '_>, what: &str, name: &str, place: Place) {
    if !name_fits(name) {
        let message =
            format!("`{name}` is no name of a {what}; expected letters, digits, spaces, and `_ * . + -`");
        reader.sink.error("name", place, message);
    }
}

/// A whole number with a sign, also written as text.
fn number(reader: &mut Reader<'_, '_>, node: &Node, what: &str) -> Option<i32> {
    let found = match &node.kind {
        Kind::Scalar { text, .. } => text.trim().parse().ok(),
        _ => None,
    };
    if found.is_none() {
        reader.expected(node, what, "a whole number");
    }
    found
}

/// One name or several, with their places.
fn names<'n>(reader: &mut Reader<'_, '_>, node: &'n Node, what: &str) -> Vec<(&'n str, Place)> {
    let nodes = crate::read::one_or_more(node);
    nodes.into_iter().filter_map(|node| Some((reader.name(node, what)?, node.place))).collect()
}

/// Refuses what comes a second time.
struct Once<K> {
    seen: HashSet<K>,
}

impl<K: std::hash::Hash + Eq> Once<K> {
    fn new() -> Self {
        Self { seen: HashSet::new() }
    }

    fn add(&mut self, sink: &mut Sink<'_>, key: K, place: Place, message: impl FnOnce() -> String) -> bool {
        let first = self.seen.insert(key);
        if !first {
            sink.error("duplicate-name", place, message());
        }
        first
    }
}
