//! Groups of jobs: what they say and inherit, how their builds did, and which of these are tagged.
//!
//! A change says only what is to be different: what it does not name stays, and `null` takes away (RFC 7396).
//!
//! | request | body → answer | role |
//! |---|---|---|
//! | `GET groups`, `GET groups/ID` | → [`GroupList`], [`JobGroup`] | |
//! | `POST groups`, `PATCH groups/ID` | [`GroupSettings`] → [`JobGroup`] | admin |
//! | `DELETE groups/ID` | → [`Deleted`](super::Deleted) | admin |
//! | `GET parent-groups`, `GET parent-groups/ID` | → [`ParentGroupList`], [`ParentJobGroup`] | |
//! | `POST parent-groups`, `PATCH parent-groups/ID` | [`ParentGroupSettings`] → [`ParentJobGroup`] | admin |
//! | `DELETE parent-groups/ID` | → [`Deleted`](super::Deleted) | admin |
//! | `GET groups/ID/builds`, `GET parent-groups/ID/builds` | → [`GroupBuilds`] | |
//! | `GET groups/ID/tags` | → [`BuildTags`] | |
//! | `POST groups/ID/tags` | [`BuildTag`] → [`BuildTags`] | known |
//! | `DELETE groups/ID/tags/BUILD/KIND` | → [`BuildTags`] | known |

use serde::{Deserialize, Serialize};

/// What groups say about their jobs. What is null comes from the parent group, then from the defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupProperties {
    /// Gigabytes of assets; not inherited: where the parent group says a number, its groups share that one, whatever they
    /// say.
    pub size_limit_gb: Option<i64>,
    /// Gigabytes of assets that no other group uses; kept, without effect.
    pub exclusively_kept_asset_size: Option<i64>,
    /// Days; 0 for ever, as in what follows.
    pub keep_logs_in_days: Option<i64>,
    /// Days, for important builds.
    pub keep_important_logs_in_days: Option<i64>,
    /// Days; without it pictures go with the results.
    pub keep_screenshots_in_days: Option<i64>,
    /// Days, for important builds.
    pub keep_important_screenshots_in_days: Option<i64>,
    /// Days.
    pub keep_results_in_days: Option<i64>,
    /// Days, for important builds.
    pub keep_important_results_in_days: Option<i64>,
    /// Days.
    pub keep_jobs_in_days: Option<i64>,
    /// Days, for important builds.
    pub keep_important_jobs_in_days: Option<i64>,
    /// Priority of jobs whose template has none.
    pub default_priority: Option<i64>,
    /// 1 by version, 0 by the newest job, 2 by the oldest job.
    pub build_version_sort: Option<i64>,
    /// Whether comments with bugs go over to the next failure.
    pub carry_over_bugrefs: Option<bool>,
    /// Not on the dashboard.
    pub ignore_on_dashboard: Option<bool>,
    /// Builds are shown with their version; kept, without effect.
    pub always_show_version: Option<bool>,
}

/// What a job group is to be; everything but the name may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSettings {
    /// Unique within its parent group; a new group must have one.
    #[serde(default)]
    pub name: String,
    /// The number of its parent group.
    pub parent: Option<i64>,
    /// Markdown.
    pub description: Option<String>,
    /// Its place among its siblings.
    pub sort_order: Option<i64>,
    /// What it says itself.
    #[serde(default)]
    pub properties: GroupProperties,
}

/// A job group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobGroup {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The number of its parent group.
    pub parent: Option<i64>,
    /// Markdown.
    pub description: Option<String>,
    /// Its place among its siblings.
    pub sort_order: Option<i64>,
    /// What it says itself.
    pub properties: GroupProperties,
    /// What counts: what it says, else what its parent group says, else the default.
    pub effective: GroupProperties,
}

/// All job groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupList {
    /// By number.
    pub groups: Vec<JobGroup>,
}

/// What a parent group is to be; everything but the name may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParentGroupSettings {
    /// Unique; a new group must have one.
    #[serde(default)]
    pub name: String,
    /// Markdown.
    pub description: Option<String>,
    /// Its place among its siblings.
    pub sort_order: Option<i64>,
    /// What its groups inherit.
    #[serde(default)]
    pub properties: GroupProperties,
}

/// A parent group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentJobGroup {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Markdown.
    pub description: Option<String>,
    /// Its place among its siblings.
    pub sort_order: Option<i64>,
    /// What it says itself.
    pub properties: GroupProperties,
    /// What counts for a group of it that says nothing.
    pub effective: GroupProperties,
    /// The numbers of its groups.
    pub groups: Vec<i64>,
}

/// All parent groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentGroupList {
    /// By number.
    pub parent_groups: Vec<ParentJobGroup>,
}

/// How many jobs are what; of each scenario the newest job counts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BuildCounts {
    /// Passed.
    pub passed: u64,
    /// Passed with something to look at.
    pub softfailed: u64,
    /// Failed.
    pub failed: u64,
    /// Incomplete, or out of time.
    pub incomplete: u64,
    /// Ended by somebody or something else: cancelled, obsoleted, skipped, another one has failed.
    pub cancelled: u64,
    /// A worker has them.
    pub running: u64,
    /// They wait.
    pub scheduled: u64,
}

/// A build, as a row of the dashboard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupBuild {
    /// `BUILD`.
    pub build: String,
    /// `VERSION`; empty if the jobs have none.
    pub version: String,
    /// `DISTRI` of its jobs.
    pub distris: Vec<String>,
    /// When its newest job was posted.
    pub newest: String,
    /// What its jobs are.
    pub counts: BuildCounts,
    /// All of them.
    pub total: u64,
    /// Every failure has a comment, or everything has passed.
    pub reviewed: bool,
    /// What it is tagged with: `KIND`, or `KIND: what`.
    pub tags: Vec<String>,
    /// It is tagged as important: what it has is kept longer.
    pub important: bool,
    /// Its matrix, as a path on this server.
    pub url: String,
}

/// Builds of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupBuilds {
    /// In the order that the group wants.
    pub builds: Vec<GroupBuild>,
    /// There are more; ask with a greater `skip`.
    pub more: bool,
}

/// A tag of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildTag {
    /// `BUILD` or `VERSION-BUILD`.
    pub build: String,
    /// One word, such as `important` or `published`.
    pub kind: String,
    /// One more word, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
}

/// The tags of a group's builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildTags {
    /// The first first.
    pub tags: Vec<BuildTag>,
}
