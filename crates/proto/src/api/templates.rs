//! Templates from files.

use serde::{Deserialize, Serialize};

/// A file with templates, in any of openQA's formats or Fedora's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateFile {
    /// Its name, for messages; that of a group's YAML names the group.
    pub name: String,
    /// What stands in it.
    pub text: String,
}

/// Files to be loaded together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadTemplates {
    /// The files; later ones of Fedora's format lie over earlier ones.
    pub files: Vec<TemplateFile>,
    /// The group of a YAML file, or of all templates of Fedora's format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Only say what is wrong and what would be changed.
    #[serde(default)]
    pub check: bool,
}

/// What becomes of an entry of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryChange {
    /// It was not there.
    New,
    /// It is different now.
    Changed,
    /// It is not there any more.
    Removed,
}

impl EntryChange {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

/// An entry of the catalog that does not stay as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateChange {
    /// What becomes of it.
    pub change: EntryChange,
    /// `machine`, `product`, `test_suite`, `job_template` or `group`.
    pub kind: String,
    /// For example `install@64bit for fedora-43-Server-x86_64`.
    pub name: String,
}

/// What loading came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedTemplates {
    /// New entries.
    pub made: usize,
    /// Entries that were there and are different now.
    pub changed: usize,
    /// Entries that were there as they should be.
    pub same: usize,
    /// Templates of a group's YAML that are not in it any more.
    #[serde(default)]
    pub removed: usize,
    /// What is new, different or removed, by name.
    #[serde(default)]
    pub changes: Vec<TemplateChange>,
    /// What is worth knowing.
    pub warnings: Vec<String>,
}
