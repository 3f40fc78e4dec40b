//! What products are scheduled from. Numbers and columns are openQA's.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Settings by name.
pub type SettingsMap = BTreeMap<String, String>;

/// The kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// [`Machine`]
    Machine,
    /// [`TestSuite`]
    TestSuite,
    /// [`Product`]
    Product,
    /// [`JobTemplate`]
    JobTemplate,
    /// [`Group`]
    Group,
    /// [`ParentGroup`]
    ParentGroup,
}

impl EntryKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Machine, Self::TestSuite, Self::Product, Self::JobTemplate, Self::Group, Self::ParentGroup];

    /// The word that is stored.
    pub fn word(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::TestSuite => "test_suite",
            Self::Product => "product",
            Self::JobTemplate => "job_template",
            Self::Group => "group",
            Self::ParentGroup => "parent_group",
        }
    }

    /// The kind that `word` names.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// An entry's kind and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The kind.
    pub kind: EntryKind,
    /// The number, unique among its kind; never used again.
    pub id: i64,
}

/// A kind of machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Machine {
    /// The number.
    pub id: i64,
    /// The name, unique.
    pub name: String,
    /// What runs it.
    pub backend: String,
    /// Settings of jobs on it.
    pub settings: SettingsMap,
}

/// What is tested.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TestSuite {
    /// The number.
    pub id: i64,
    /// The name, unique.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// Settings of its jobs.
    pub settings: SettingsMap,
}

/// A medium.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Product {
    /// The number.
    pub id: i64,
    /// For people.
    pub name: String,
    /// `DISTRI`
    pub distri: String,
    /// `VERSION`; `*` in it stands for anything.
    pub version: String,
    /// `ARCH`
    pub arch: String,
    /// `FLAVOR`
    pub flavor: String,
    /// For people.
    pub description: Option<String>,
    /// Settings of its jobs.
    pub settings: SettingsMap,
}

/// That a suite runs for a product on a machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobTemplate {
    /// The number.
    pub id: i64,
    /// The group of its jobs.
    pub group: i64,
    /// The product.
    pub product: i64,
    /// The machine.
    pub machine: i64,
    /// The suite; without one the name alone says what is tested.
    pub test_suite: Option<i64>,
    /// The scenario's name if it is not the suite's.
    pub name: String,
    /// The priority if it is not the group's.
    pub prio: Option<i32>,
    /// For people.
    pub description: Option<String>,
    /// Settings of its jobs.
    pub settings: SettingsMap,
}

/// What groups say about their jobs. What is not said comes from the parent group, then from the defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupProperties {
    /// Gigabytes of assets.
    pub size_limit_gb: Option<i64>,
    /// Gigabytes of assets that no other group uses.
    pub exclusively_kept_asset_size: Option<i64>,
    /// Days.
    pub keep_logs_in_days: Option<i64>,
    /// Days, for important builds; 0 for ever.
    pub keep_important_logs_in_days: Option<i64>,
    /// Days; without it pictures go with the results.
    pub keep_screenshots_in_days: Option<i64>,
    /// Days, for important builds; 0 for ever.
    pub keep_important_screenshots_in_days: Option<i64>,
    /// Days.
    pub keep_results_in_days: Option<i64>,
    /// Days, for important builds; 0 for ever.
    pub keep_important_results_in_days: Option<i64>,
    /// Days.
    pub keep_jobs_in_days: Option<i64>,
    /// Days, for important builds; 0 for ever.
    pub keep_important_jobs_in_days: Option<i64>,
    /// Priority of jobs whose template has none.
    pub default_priority: Option<i64>,
    /// 1 by version, 0 newest job first, 2 oldest job first.
    pub build_version_sort: Option<i64>,
    /// Whether comments with bugs go over to the next failure.
    pub carry_over_bugrefs: Option<i64>,
    /// Not on the dashboard.
    pub ignore_on_dashboard: Option<i64>,
    /// Builds are shown with their version.
    pub always_show_version: Option<i64>,
}

/// A job group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Group {
    /// The number.
    pub id: i64,
    /// The parent group.
    pub parent: Option<i64>,
    /// The name, unique within the parent.
    pub name: String,
    /// Markdown.
    pub description: Option<String>,
    /// The place among its siblings.
    pub sort_order: Option<i64>,
    /// The YAML that its templates were made from.
    pub template: Option<String>,
    /// The rest.
    pub properties: GroupProperties,
}

/// A group of job groups.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ParentGroup {
    /// The number.
    pub id: i64,
    /// The name, unique.
    pub name: String,
    /// Markdown.
    pub description: Option<String>,
    /// The place among all.
    pub sort_order: Option<i64>,
    /// What its groups say unless they say something else.
    pub properties: GroupProperties,
}

/// An entry of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogRow {
    /// A kind of machine.
    Machine(Machine),
    /// What is tested.
    TestSuite(TestSuite),
    /// A medium.
    Product(Product),
    /// That a suite runs for a product on a machine.
    JobTemplate(JobTemplate),
    /// A job group.
    Group(Group),
    /// A group of job groups.
    ParentGroup(ParentGroup),
}

impl CatalogRow {
    /// Kind and number.
    pub fn id(&self) -> EntryId {
        let (kind, id) = match self {
            Self::Machine(row) => (EntryKind::Machine, row.id),
            Self::TestSuite(row) => (EntryKind::TestSuite, row.id),
            Self::Product(row) => (EntryKind::Product, row.id),
            Self::JobTemplate(row) => (EntryKind::JobTemplate, row.id),
            Self::Group(row) => (EntryKind::Group, row.id),
            Self::ParentGroup(row) => (EntryKind::ParentGroup, row.id),
        };
        EntryId { kind, id }
    }

    /// What no other entry of the kind may be called. The parts are apart by a character that is in none of them.
    pub(super) fn unique_name(&self) -> String {
        const BETWEEN: &str = "\u{1f}";
        match self {
            Self::Machine(row) => row.name.clone(),
            Self::TestSuite(row) => row.name.clone(),
            Self::Product(row) => {
                [&row.distri, &row.version, &row.arch, &row.flavor].map(String::as_str).join(BETWEEN)
            }
            Self::JobTemplate(row) => {
                let numbers = format!("{} {} {}", row.product, row.machine, row.test_suite.unwrap_or(0));
                [numbers.as_str(), row.name.as_str()].join(BETWEEN)
            }
            Self::Group(row) => {
                [row.parent.unwrap_or(0).to_string().as_str(), row.name.as_str()].join(BETWEEN)
            }
            Self::ParentGroup(row) => row.name.clone(),
        }
    }
}

/// A change of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogChange {
    /// Stores an entry in place of the one with its number.
    Put(Box<CatalogRow>),
    /// Removes an entry.
    Remove(EntryId),
}

impl CatalogChange {
    /// Stores an entry.
    pub fn put(row: CatalogRow) -> Self {
        Self::Put(Box::new(row))
    }
}
