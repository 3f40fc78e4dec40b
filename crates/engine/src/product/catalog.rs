//! What products are scheduled from: media, machines, suites, templates and groups, by name.

use super::priority::PriorityRules;
use crate::ids::GroupId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Settings by name.
pub type SettingsMap = BTreeMap<String, String>;

/// What a medium is known by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct MediumKey {
    /// `DISTRI`, in small letters.
    pub distri: String,
    /// `VERSION`; `*` in it stands for anything.
    pub version: String,
    /// `FLAVOR`
    pub flavor: String,
    /// `ARCH`
    pub arch: String,
}

/// openQA's way: `distri-version-flavor-arch`.
impl fmt::Display for MediumKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}-{}", self.distri, self.version, self.flavor, self.arch)
    }
}

/// What is installed or booted; openQA's "product".
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Medium {
    /// What it is known by.
    pub key: MediumKey,
    /// For people; may be empty.
    pub name: String,
    /// Settings of its jobs.
    pub settings: SettingsMap,
}

impl Medium {
    /// The name, or what it is known by.
    pub fn label(&self) -> String {
        if self.name.is_empty() { self.key.to_string() } else { self.name.clone() }
    }
}

/// A kind of machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Machine {
    /// The name, unique.
    pub name: String,
    /// What runs it: `qemu`.
    pub backend: String,
    /// Settings of its jobs.
    pub settings: SettingsMap,
    /// The priority of jobs whose template has none; only scenario definitions have it.
    pub priority: Option<i32>,
}

/// What is tested.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Suite {
    /// The name, unique.
    pub name: String,
    /// For people.
    pub description: String,
    /// Settings of its jobs.
    pub settings: SettingsMap,
}

/// That a suite runs for a medium on a machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Template {
    /// The name of the scenario if it is not the suite's; else empty.
    pub name: String,
    /// The medium.
    pub medium: MediumKey,
    /// The machine's name; none only in scenario definitions.
    pub machine: Option<String>,
    /// The suite's name; without one the template says all itself.
    pub suite: Option<String>,
    /// The group of its jobs.
    pub group: Option<GroupId>,
    /// The priority if it is not the group's.
    pub priority: Option<i32>,
    /// For people.
    pub description: String,
    /// Settings of its jobs.
    pub settings: SettingsMap,
}

impl Template {
    /// What its jobs are called: the name, or the suite's.
    pub fn test(&self) -> &str {
        if self.name.is_empty() { self.suite.as_deref().unwrap_or_default() } else { &self.name }
    }
}

/// A job group, as far as scheduling needs it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Group {
    /// The name, unique within the parent.
    pub name: String,
    /// The parent group's name.
    pub parent: Option<String>,
    /// For people.
    pub description: String,
    /// The priority of jobs whose template has none: its own, or the parent's.
    pub default_priority: Option<i32>,
}

impl Group {
    /// `Parent / Group`
    pub fn full_name(&self) -> String {
        match &self.parent {
            Some(parent) => format!("{parent} / {}", self.name),
            None => self.name.clone(),
        }
    }
}

/// Where the templates come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The server's catalog.
    #[default]
    Catalog,
    /// Scenario definitions beside the tests. openQA lets their media and machines override their templates; here the
    /// order is the same everywhere, and [`super::Plan::notes`] names what differs for it.
    Scenarios,
}

/// Everything that a product can be scheduled from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Catalog {
    /// Settings of all jobs, from the server's configuration.
    pub global: SettingsMap,
    /// Media by what they are known by.
    pub media: BTreeMap<MediumKey, Medium>,
    /// Machines by name.
    pub machines: BTreeMap<String, Machine>,
    /// Suites by name.
    pub suites: BTreeMap<String, Suite>,
    /// Templates by medium, in the order in which their jobs are made.
    pub templates: BTreeMap<MediumKey, Vec<Template>>,
    /// Groups by number.
    pub groups: BTreeMap<GroupId, Group>,
    /// What makes jobs wait longer.
    pub priorities: PriorityRules,
    /// Where the templates come from.
    pub origin: Origin,
}

impl Catalog {
    /// Adds a medium.
    pub fn add_medium(&mut self, medium: Medium) {
        self.media.insert(medium.key.clone(), medium);
    }

    /// Adds a machine.
    pub fn add_machine(&mut self, machine: Machine) {
        self.machines.insert(machine.name.clone(), machine);
    }

    /// Adds a suite.
    pub fn add_suite(&mut self, suite: Suite) {
        self.suites.insert(suite.name.clone(), suite);
    }

    /// Adds a template behind those of its medium.
    pub fn add_template(&mut self, template: Template) {
        self.templates.entry(template.medium.clone()).or_default().push(template);
    }
}
