//! Events outside, rules, composes and updates.
//!
//! | request | answer |
//! |---|---|
//! | `GET inbox?source=&state=&led=&q=&before=&limit=` | [`OutsideEvents`], the newest first |
//! | `GET inbox/{id}` | [`OutsideEvent`] |
//! | `POST inbox/{id}/replay` ([`Replay`], may be empty; operator) | [`OutsideEvent`] |
//! | `GET sources` | [`EventSources`] |
//! | `GET rules` | [`Rules`] |
//! | `POST rules/reload` (operator) | [`RulesReload`] |
//! | `POST schedule/compose` ([`ScheduleCompose`]; operator), `POST schedule/update` ([`ScheduleUpdate`]; operator), `POST schedule/candidate` ([`ScheduleCandidate`]; operator) | [`Scheduled`] |
//! | `GET schedule/releases` | a list of [`ReleaseLife`] |
//! | `POST hooks/{name}` (signed by the hook's secret) | `202`; the event is stored |

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// An effect of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleEffect {
    /// It happens once under this key.
    pub key: String,
    /// The rule.
    pub rule: String,
    /// What it is about.
    pub item: Option<String>,
    /// `waiting`, `held`, `done`, `refused`, `logged`
    pub state: String,
    /// What, in one line.
    pub what: String,
    /// The event that caused it first.
    pub event: i64,
    /// Not before.
    pub due: String,
    /// The jobs that it came to.
    #[serde(default)]
    pub jobs: Vec<i64>,
    /// The result that it stored.
    #[serde(default)]
    pub result: Option<i64>,
    /// Why it waits or is refused.
    pub why: Option<String>,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideEvent {
    /// Its number.
    pub id: i64,
    /// The source that brought it first.
    pub source: String,
    /// What tells it from others of its bus.
    pub key: String,
    /// Its topic.
    pub topic: String,
    /// When it was stored.
    pub received: String,
    /// When it was sent, if it says.
    pub sent: Option<String>,
    /// What it is about, if that is known of its topic.
    #[serde(default)]
    pub about: Option<String>,
    /// `received`, `matched`, `parked`
    pub state: String,
    /// Why it is parked.
    pub parked: Option<String>,
    /// Another source should have brought it.
    pub recovered: bool,
    /// The rules that match.
    #[serde(default)]
    pub rules: Vec<String>,
    /// The rules that match and cannot be carried out, and why.
    #[serde(default)]
    pub failed: Vec<FailedRule>,
    /// What it led to, also if another event caused it first; not in lists.
    #[serde(default)]
    pub effects: Vec<RuleEffect>,
    /// How many effects it led to.
    pub effect_count: usize,
    /// Not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Value>,
    /// Not in lists. Text if it is not JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}

/// A rule that matches and cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRule {
    /// Which.
    pub rule: String,
    /// Why.
    pub why: String,
}

/// Events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideEvents {
    /// The newest first.
    pub events: Vec<OutsideEvent>,
    /// `before` for the next ones.
    pub next_before: Option<i64>,
}

/// How an event is replayed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// What it caused is caused once more.
    #[serde(default)]
    pub force: bool,
}

/// A source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventSource {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub doing: String,
    /// Why it does not work.
    pub trouble: Option<String>,
    /// Events that it brought first.
    pub events: u64,
    /// Of these, what another source should have brought.
    pub recovered: u64,
    /// Of these, what is parked.
    pub parked: u64,
    /// What it brought and was known already.
    pub known: u64,
    /// When it brought the last one.
    pub last: Option<String>,
}

/// All sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventSources {
    /// By name.
    pub sources: Vec<EventSource>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// For people.
    pub description: String,
    /// The file and the line.
    pub place: String,
    /// It does something.
    pub enabled: bool,
    /// What has to be so.
    pub when: String,
    /// What it runs.
    pub runs: Vec<String>,
    /// How often it had something to do.
    pub effects: u64,
    /// When that was last.
    pub last: Option<String>,
    /// How often it matched and could not be carried out.
    #[serde(default)]
    pub failed: u64,
    /// When that was last.
    #[serde(default)]
    pub last_failed: Option<String>,
}

/// The rules that are in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// In the order of their files.
    pub rules: Vec<Rule>,
    /// What is wrong with them, or was with those that were not taken.
    pub findings: Vec<String>,
}

/// What a reading of the rules came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesReload {
    /// They are in force now.
    pub in_force: bool,
    /// What was found.
    pub findings: Vec<String>,
}

/// A compose to schedule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleCompose {
    /// Its address.
    pub location: String,
    /// Only these; none means all.
    #[serde(default)]
    pub flavors: Vec<String>,
    /// Only these; none means all.
    #[serde(default)]
    pub arches: Vec<String>,
    /// Once more.
    #[serde(default)]
    pub force: bool,
    /// Settings besides: `BUILD` ends with `-EXTRA` then, and nothing of it is reported.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// Only say what would be posted.
    #[serde(default)]
    pub dry_run: bool,
}

/// An update to schedule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleUpdate {
    /// `FEDORA-2026-0a1b2c3d4e`
    pub id: String,
    /// `F44`; without it, it is asked of Bodhi, as are the builds and the groups.
    #[serde(default)]
    pub release: Option<String>,
    /// Its builds; without them, they are asked of Bodhi.
    #[serde(default)]
    pub builds: Vec<String>,
    /// Groups of the critical path; absent if it is not on it, empty for all.
    #[serde(default)]
    pub groups: Option<Vec<String>>,
    /// Only these; none means all.
    #[serde(default)]
    pub flavors: Vec<String>,
    /// Only these; none means all.
    #[serde(default)]
    pub arches: Vec<String>,
    /// Once more.
    #[serde(default)]
    pub force: bool,
    /// Settings besides: `BUILD` ends with `-EXTRA` then, and nothing of it is reported.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// Only say what would be posted.
    #[serde(default)]
    pub dry_run: bool,
}

/// Something to schedule that is tested as an update is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleCandidate {
    /// `koji_task`, `koji_tag` or `copr`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Numbers of tasks with blanks between them, a tag, or `OWNER/PROJECT`.
    pub id: String,
    /// `F44`
    pub release: String,
    /// Only these; none means all.
    #[serde(default)]
    pub flavors: Vec<String>,
    /// Only these; none means all.
    #[serde(default)]
    pub arches: Vec<String>,
    /// Once more.
    #[serde(default)]
    pub force: bool,
    /// Settings besides: `BUILD` ends with `-EXTRA` then, and nothing of it is reported.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// Only say what would be posted.
    #[serde(default)]
    pub dry_run: bool,
}

/// A post that is planned or known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledPost {
    /// It happens once under this key.
    pub key: String,
    /// What, in one line.
    #[serde(default)]
    pub what: String,
    /// What is posted.
    pub settings: BTreeMap<String, String>,
    /// It was posted before, or waits since then.
    pub known: bool,
    /// As of an [`RuleEffect`]; none of a dry run.
    pub state: Option<String>,
    /// The jobs that it came to.
    #[serde(default)]
    pub jobs: Vec<i64>,
    /// Why it waits or is refused; of a dry run, why it would be refused.
    pub why: Option<String>,
}

/// What is scheduled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduled {
    /// Its type and its name.
    pub item: String,
    /// What is posted for it.
    pub posts: Vec<ScheduledPost>,
}

/// A release and where it is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseLife {
    /// `F44`
    pub name: String,
    /// `44`
    pub version: String,
    /// `rawhide`, `branched`, `current`, `ended`
    pub life: String,
}
