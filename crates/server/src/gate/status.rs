//! How the gate's loops are, for pages, metrics and `why`.

use assay_connect::gerrit::Health;
use assay_engine::gate::ids::{BranchName, ItemId, Oid, ProjectName, SourceName};
use assay_engine::ids::Timestamp;
use assay_formats::diagnostic::Diagnostic;
use std::collections::BTreeMap;
use tokio::sync::watch;

/// How the loops are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    /// What keeps landings.
    pub(crate) landings: BTreeMap<ItemId, String>,
    /// What keeps events of a source.
    pub(crate) waiting: BTreeMap<SourceName, String>,
    /// How each source is.
    pub(crate) sources: BTreeMap<SourceName, watch::Receiver<Health>>,
    /// What is tested in another way than it is merged.
    pub(crate) merging: BTreeMap<ProjectName, Vec<String>>,
    /// The configuration.
    pub(crate) config: ConfigStatus,
    /// What keeps the receipts of projects from being published.
    pub(crate) unpublished: BTreeMap<ProjectName, String>,
    /// What keeps branches from being audited.
    pub(crate) unaudited: BTreeMap<ProjectName, String>,
    /// Commits without a receipt that were made after the gate's start.
    pub(crate) alarms: BTreeMap<(ProjectName, BranchName), Alarm>,
    /// Reporters log instead of sending.
    pub(crate) staging: bool,
}

impl Status {
    /// How many commits nobody vouches for.
    pub(crate) fn uncovered(&self) -> usize {
        self.alarms.values().map(Alarm::count).sum()
    }
}

/// What came of the latest reading of the configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigStatus {
    /// When the configuration in force was read.
    pub(crate) loaded_at: Option<Timestamp>,
    /// Its hash.
    pub(crate) hash: Option<String>,
    /// What was found at the latest reading, in force or not.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// False if the latest reading was refused, and the configuration before it stays in force.
    pub(crate) in_force: bool,
}

impl Alarm {
    /// How many commits nobody vouches for.
    pub(crate) fn count(&self) -> usize {
        self.commits.len() + self.more
    }
}

/// Commits that nobody vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alarm {
    /// The newest commits, the newest first, and what is wrong with each.
    pub(crate) commits: Vec<(Oid, String)>,
    /// How many others there are.
    pub(crate) more: usize,
    /// Where the branch stood.
    pub(crate) tip: Oid,
    /// When they were found.
    pub(crate) since: Timestamp,
}
