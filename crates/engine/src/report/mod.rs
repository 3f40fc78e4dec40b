//! What others are told: facts as they were when they were decided, who wants which, and the words of other systems.

pub mod build;
pub mod bus;
pub mod people;
pub mod wiki;

use crate::decision::{Verdict, glob_match};
use crate::ids::Timestamp;
use crate::outcome::{Outcome, OutcomeClass};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What a fact is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FactKind {
    /// A job was posted.
    JobCreate,
    /// Its machine runs.
    JobStart,
    /// It ended, however it did.
    JobDone,
    /// It was started anew as another one.
    JobRestart,
    /// Somebody cancelled it.
    JobCancel,
    /// Somebody said something.
    CommentCreate,
    /// Somebody said something else.
    CommentUpdate,
    /// Somebody took it back.
    CommentDelete,
    /// A result was stored.
    ResultNew,
    /// A waiver was given.
    WaiverNew,
    /// A decision is another one than before.
    DecisionUpdate,
    /// The last job of a build ended.
    BuildDone,
}

impl FactKind {
    /// True if facts of this kind may have a value of this name ([`Fact::value`]).
    pub fn has(self, key: &str) -> bool {
        let setting = key == "group" || key.starts_with(|c: char| c.is_ascii_uppercase());
        match self {
            Self::CommentCreate | Self::CommentUpdate | Self::CommentDelete => {
                matches!(key, "user" | "group")
            }
            Self::ResultNew => matches!(key, "item" | "item_type" | "testcase" | "outcome" | "scenario"),
            Self::WaiverNew => matches!(key, "item" | "item_type" | "testcase" | "user" | "product_version"),
            Self::DecisionUpdate => {
                matches!(key, "item" | "item_type" | "context" | "product_version" | "satisfied")
            }
            Self::BuildDone => setting || key == "item",
            _ => setting || matches!(key, "item" | "item_type" | "testcase" | "outcome"),
        }
    }

    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::JobCreate,
        Self::JobStart,
        Self::JobDone,
        Self::JobRestart,
        Self::JobCancel,
        Self::CommentCreate,
        Self::CommentUpdate,
        Self::CommentDelete,
        Self::ResultNew,
        Self::WaiverNew,
        Self::DecisionUpdate,
        Self::BuildDone,
    ];

    /// In two words.
    pub fn word(self) -> &'static str {
        match self {
            Self::JobCreate => "job.create",
            Self::JobStart => "job.start",
            Self::JobDone => "job.done",
            Self::JobRestart => "job.restart",
            Self::JobCancel => "job.cancel",
            Self::CommentCreate => "comment.create",
            Self::CommentUpdate => "comment.update",
            Self::CommentDelete => "comment.delete",
            Self::ResultNew => "result.new",
            Self::WaiverNew => "waiver.new",
            Self::DecisionUpdate => "decision.update",
            Self::BuildDone => "build.done",
        }
    }
}

/// A job as it was.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobFact {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its settings, without secrets.
    pub settings: BTreeMap<String, String>,
    /// Its group.
    pub group: Option<i64>,
    /// The kind of what it tests.
    pub item_type: String,
    /// What it tests.
    pub item: String,
    /// Its test case.
    pub testcase: String,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Who has to look at it.
    pub class: Option<OutcomeClass>,
    /// Why it ended like that.
    pub reason: Option<String>,
    /// The job that it was made from.
    pub clone_of: Option<i64>,
    /// The job that was made from it.
    pub cloned_as: Option<i64>,
    /// It was started anew by itself.
    #[serde(default)]
    pub auto: bool,
    /// Jobs of its build that have not ended.
    pub remaining: u64,
    /// When that was.
    pub at: i64,
}

impl JobFact {
    /// A setting.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The test and where it ran: `install x86_64 Server-dvd-iso uefi`.
    pub fn label(&self) -> String {
        let test = self.get("TEST").unwrap_or(&self.name);
        let rest = ["FLAVOR", "ARCH", "MACHINE"].into_iter().filter_map(|key| self.get(key));
        [test].into_iter().chain(rest).collect::<Vec<_>>().join(" ")
    }

    /// Why no system of results hears of it: people asked for it, or it was given up before it could tell anything of what
    /// it tests. Who listens to all jobs does hear of it.
    pub fn withheld(&self) -> Option<String> {
        withheld(|key| self.get(key), self.outcome)
    }

    /// What is the same of all runs of one test: the key of "another outcome than before".
    pub fn scenario(&self) -> String {
        let keys = ["DISTRI", "VERSION", "FLAVOR", "ARCH", "TEST", "MACHINE"];
        keys.map(|key| self.get(key).unwrap_or_default()).join("/")
    }
}

/// What somebody said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommentFact {
    /// Its number.
    pub id: i64,
    /// About this job.
    pub job: Option<i64>,
    /// About this group.
    pub group: Option<i64>,
    /// What.
    pub text: String,
    /// Who.
    pub user: String,
    /// When it was said first.
    pub created: i64,
    /// When it was said like this.
    pub updated: i64,
}

/// Why systems of results do not hear of a job with these settings, which ended like this.
pub fn withheld<'v>(get: impl Fn(&str) -> Option<&'v str>, outcome: Option<Outcome>) -> Option<String> {
    let build = get("BUILD").unwrap_or_default();
    if let Some(word) = ["NOREPORT", "EXTRA"].into_iter().find(|word| build.ends_with(word)) {
        return Some(format!("BUILD ends with {word}"));
    }
    if get("KOJITASK").is_some_and(|task| !task.is_empty()) {
        return Some("it is of a task of Koji (KOJITASK)".to_owned());
    }
    if get("TEST_TARGET") == Some("NONE") {
        return Some("TEST_TARGET is NONE".to_owned());
    }
    match outcome {
        Some(outcome @ (Outcome::UserCancelled | Outcome::Obsoleted)) => {
            Some(format!("it ended as {}", outcome.openqa()))
        }
        _ => None,
    }
}

/// A result of a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultFact {
    /// Its number.
    pub id: i64,
    /// The test case.
    pub testcase: String,
    /// The outcome, in ResultsDB's words.
    pub outcome: String,
    /// The kind of what was tested.
    pub item_type: Option<String>,
    /// What was tested.
    pub item: Option<String>,
    /// Where.
    pub scenario: Option<String>,
    /// It comes from a job or a module of this server.
    pub own: bool,
    /// Why other systems of results do not hear of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<String>,
    /// Where more is to be seen.
    pub url: Option<String>,
}

/// A waiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaiverFact {
    /// Its number.
    pub id: i64,
    /// The kind of what was tested.
    pub subject_type: String,
    /// What was tested.
    pub subject_identifier: String,
    /// The test case.
    pub testcase: String,
    /// Only in this scenario.
    pub scenario: Option<String>,
    /// Who gave it.
    pub username: String,
    /// Who gave it for them.
    pub proxied_by: Option<String>,
    /// For which release.
    pub product_version: String,
    /// False takes earlier ones back.
    pub waived: bool,
    /// Why.
    pub comment: String,
    /// When.
    pub at: i64,
}

/// A decision that is another one than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionFact {
    /// The kind of what was tested.
    pub subject_type: String,
    /// What was tested.
    pub subject_identifier: String,
    /// For which release.
    pub product_version: String,
    /// For what.
    pub context: String,
    /// May it go on?
    pub satisfied: bool,
    /// One sentence.
    pub summary: String,
    /// As Greenwave's API tells it.
    pub decision: Value,
    /// What was decided before: may it go on, and one sentence.
    pub before: Option<(bool, String)>,
    /// The same as Greenwave's API told it; null if nothing was decided, or an older server decided it.
    #[serde(default)]
    pub previous: Value,
    /// What was tested, as it was written before it had a type and an identifier; null if an older server decided.
    #[serde(default)]
    pub subject: Value,
    /// The number of the decision before; 0 if there was none.
    #[serde(default)]
    pub after: i64,
    /// When.
    pub at: i64,
}

impl DecisionFact {
    /// Worth a comment: it may go on or may not any more, or something has failed that had not before. What is only still
    /// missing is none, and neither is one requirement more that is fulfilled.
    pub fn is_news(&self) -> bool {
        match &self.before {
            Some((before, _)) if *before != self.satisfied => return true,
            None if self.satisfied => {
                let fulfilled = self.decision["satisfied_requirements"].as_array();
                return fulfilled.is_some_and(|all| !all.is_empty());
            }
            _ => {}
        }
        let before = failures(&self.previous);
        failures(&self.decision).iter().any(|failure| !before.contains(failure))
    }
}

/// Where which tests, or files of rules, have failed; what could not be had says nothing.
fn failures(decision: &Value) -> Vec<[&Value; 4]> {
    let silent = [Verdict::Missing, Verdict::FileUnreachable].map(|verdict| verdict.word(false));
    let open = decision["unsatisfied_requirements"].as_array().into_iter().flatten();
    let failed = open.filter(|one| !silent.iter().any(|word| one["type"] == *word));
    let keys = ["testcase", "scenario", "system_architecture", "system_variant"];
    failed.map(|one| keys.map(|key| &one[key])).collect()
}

/// A build whose last job has ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct BuildFact {
    /// `DISTRI`
    pub distri: String,
    /// `VERSION`
    pub version: String,
    /// `BUILD`
    pub build: String,
    /// The job that ended last.
    pub last: i64,
    /// When.
    pub at: i64,
    /// Who is told wants only what jobs like these say: settings and what they are like.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub only: BTreeMap<String, Vec<String>>,
    /// Who is told does not want what jobs like these say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub without: BTreeMap<String, Vec<String>>,
    /// Who is told wants only bad news.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub errors: bool,
}

impl BuildFact {
    /// True if some of its jobs may be left out.
    pub fn is_part(&self) -> bool {
        !self.only.is_empty() || !self.without.is_empty()
    }
}

/// Something that was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Fact {
    /// A job was posted.
    JobCreate(JobFact),
    /// A job's machine runs.
    JobStart(JobFact),
    /// A job ended.
    JobDone(JobFact),
    /// A job was started anew: this one, which has the old one's number.
    JobRestart(JobFact),
    /// A job was cancelled.
    JobCancel(JobFact),
    /// Somebody said something.
    CommentCreate(CommentFact),
    /// Somebody said something else.
    CommentUpdate(CommentFact),
    /// Somebody took it back.
    CommentDelete(CommentFact),
    /// A result was stored.
    ResultNew(ResultFact),
    /// A waiver was given.
    WaiverNew(WaiverFact),
    /// A decision is another one.
    DecisionUpdate(DecisionFact),
    /// A build has ended.
    BuildDone(BuildFact),
}

impl Fact {
    /// What it is of.
    pub fn kind(&self) -> FactKind {
        match self {
            Self::JobCreate(_) => FactKind::JobCreate,
            Self::JobStart(_) => FactKind::JobStart,
            Self::JobDone(_) => FactKind::JobDone,
            Self::JobRestart(_) => FactKind::JobRestart,
            Self::JobCancel(_) => FactKind::JobCancel,
            Self::CommentCreate(_) => FactKind::CommentCreate,
            Self::CommentUpdate(_) => FactKind::CommentUpdate,
            Self::CommentDelete(_) => FactKind::CommentDelete,
            Self::ResultNew(_) => FactKind::ResultNew,
            Self::WaiverNew(_) => FactKind::WaiverNew,
            Self::DecisionUpdate(_) => FactKind::DecisionUpdate,
            Self::BuildDone(_) => FactKind::BuildDone,
        }
    }

    /// The job that it is about.
    pub fn job(&self) -> Option<&JobFact> {
        match self {
            Self::JobCreate(job)
            | Self::JobStart(job)
            | Self::JobDone(job)
            | Self::JobRestart(job)
            | Self::JobCancel(job) => Some(job),
            _ => None,
        }
    }

    /// Why other systems of results do not hear of it.
    pub fn withheld(&self) -> Option<String> {
        match self {
            Self::ResultNew(result) => result.withheld.clone(),
            _ => self.job().and_then(JobFact::withheld),
        }
    }

    /// Tells it from all other facts; the same each time it is made.
    pub fn key(&self) -> String {
        let word = self.kind().word();
        match self {
            Self::CommentCreate(comment) => format!("{word}/{}", comment.id),
            Self::CommentUpdate(comment) | Self::CommentDelete(comment) => {
                format!("{word}/{}/{}", comment.id, comment.updated)
            }
            Self::ResultNew(result) => format!("{word}/{}", result.id),
            Self::WaiverNew(waiver) => format!("{word}/{}", waiver.id),
            // Of decisions about the same no two follow the same one; clocks may stand still.
            Self::DecisionUpdate(decision) => format!(
                "{word}/{}/{}/{}/{}/{}",
                decision.subject_type,
                decision.subject_identifier,
                decision.product_version,
                decision.context,
                decision.after
            ),
            Self::BuildDone(build) => format!("{word}/{}", build.last),
            _ => format!("{word}/{}", self.job().map_or(0, |job| job.id)),
        }
    }

    /// What it is about, for people.
    pub fn about(&self) -> String {
        match self {
            Self::CommentCreate(comment) | Self::CommentUpdate(comment) | Self::CommentDelete(comment) => {
                match (comment.job, comment.group) {
                    (Some(job), _) => format!("job {job}"),
                    (None, Some(group)) => format!("group {group}"),
                    (None, None) => "a comment".to_owned(),
                }
            }
            Self::ResultNew(result) => match &result.item {
                Some(item) => format!("{item}: {}", result.testcase),
                None => result.testcase.clone(),
            },
            Self::WaiverNew(waiver) => format!("{}: {}", waiver.subject_identifier, waiver.testcase),
            Self::DecisionUpdate(decision) => {
                format!("{} for {}", decision.subject_identifier, decision.context)
            }
            Self::BuildDone(build) => format!("build {}", build.build),
            _ => self.job().map_or_else(String::new, |job| format!("job {}: {}", job.id, job.label())),
        }
    }

    /// What filters look at: a setting of a job, or one of `item`, `item_type`, `testcase`, `outcome`, `group`, `user`,
    /// `context`, `product_version`, `satisfied`.
    pub fn value(&self, key: &str) -> Option<Cow<'_, str>> {
        let text = |text: &str| Some(Cow::Owned(text.to_owned()));
        let number = |number: Option<i64>| number.map(|number| Cow::Owned(number.to_string()));
        match (self, key) {
            (Self::CommentCreate(one) | Self::CommentUpdate(one) | Self::CommentDelete(one), key) => {
                match key {
                    "user" => text(&one.user),
                    "group" => number(one.group),
                    _ => None,
                }
            }
            (Self::ResultNew(one), key) => match key {
                "item" => one.item.as_deref().map(Cow::Borrowed),
                "item_type" => one.item_type.as_deref().map(Cow::Borrowed),
                "testcase" => text(&one.testcase),
                "outcome" => text(&one.outcome),
                "scenario" => one.scenario.as_deref().map(Cow::Borrowed),
                _ => None,
            },
            (Self::WaiverNew(one), key) => match key {
                "item" => text(&one.subject_identifier),
                "item_type" => text(&one.subject_type),
                "testcase" => text(&one.testcase),
                "user" => text(&one.username),
                "product_version" => text(&one.product_version),
                _ => None,
            },
            (Self::DecisionUpdate(one), key) => match key {
                "item" => text(&one.subject_identifier),
                "item_type" => text(&one.subject_type),
                "context" => text(&one.context),
                "product_version" => text(&one.product_version),
                "satisfied" => text(if one.satisfied { "yes" } else { "no" }),
                _ => None,
            },
            (Self::BuildDone(one), key) => match key {
                "DISTRI" => text(&one.distri),
                "VERSION" => text(&one.version),
                "BUILD" | "item" => text(&one.build),
                _ => None,
            },
            (_, key) => {
                let job = self.job()?;
                match key {
                    "item" => text(&job.item),
                    "item_type" => text(&job.item_type),
                    "testcase" => text(&job.testcase),
                    "outcome" => text(job.outcome?.openqa()),
                    "group" => number(job.group),
                    key => job.get(key).map(Cow::Borrowed),
                }
            }
        }
    }
}

/// Which facts somebody wants.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Wants {
    /// Kinds, where `*` stands for anything: `job.*`.
    pub events: Vec<String>,
    /// Each of these values has to be like one of these, where `*` stands for anything.
    #[serde(default)]
    pub matching: BTreeMap<String, Vec<String>>,
    /// None of these values may be like one of these.
    #[serde(default, rename = "not", skip_serializing_if = "BTreeMap::is_empty")]
    pub without: BTreeMap<String, Vec<String>>,
}

/// Keys and what values are like.
type Patterns = BTreeMap<String, Vec<String>>;

impl Wants {
    /// What jobs of a build have to be like for those who want part of its report, and what they may not be like.
    pub fn of_jobs(&self) -> (Patterns, Patterns) {
        let of_jobs = |all: &Patterns| {
            let of_jobs = all.iter().filter(|(key, _)| is_of_jobs(key));
            of_jobs.map(|(key, patterns)| (key.clone(), patterns.clone())).collect()
        };
        (of_jobs(&self.matching), of_jobs(&self.without))
    }

    /// Keys that no fact of the wanted kinds has: nothing would ever be told.
    pub fn strange_keys(&self) -> impl Iterator<Item = &str> {
        let kinds: Vec<FactKind> = FactKind::ALL.into_iter().filter(|kind| self.kind(*kind)).collect();
        let keys = self.matching.keys().chain(self.without.keys()).map(String::as_str);
        keys.filter(move |key| !kinds.iter().any(|kind| kind.has(key)))
    }

    /// True if some fact of this kind may be wanted.
    pub fn kind(&self, kind: FactKind) -> bool {
        self.events.iter().any(|pattern| glob_match(pattern, kind.word()))
    }

    /// True if this one is wanted.
    pub fn fact(&self, fact: &Fact) -> bool {
        self.kind(fact.kind())
            && self.matching.iter().all(|(key, patterns)| {
                // Of a build it is looked at when its jobs are: who wants some of them gets that part of the report.
                let later = matches!(fact, Fact::BuildDone(_)) && is_of_jobs(key);
                later || fact.value(key).is_some_and(|value| is_like(patterns, &value))
            })
            && !self.without.iter().any(|(key, patterns)| {
                let later = matches!(fact, Fact::BuildDone(_)) && is_of_jobs(key);
                !later && fact.value(key).is_some_and(|value| is_like(patterns, &value))
            })
    }

    /// The patterns for kinds that fit none.
    pub fn strange(&self) -> impl Iterator<Item = &str> {
        let fits = |pattern: &&String| FactKind::ALL.iter().any(|kind| glob_match(pattern, kind.word()));
        self.events.iter().filter(move |pattern| !fits(pattern)).map(String::as_str)
    }
}

/// True if a value is like one of these.
pub fn is_like(patterns: &[String], value: &str) -> bool {
    patterns.iter().any(|pattern| glob_match(pattern, value))
}

/// True for what jobs of one build differ in: settings and groups.
fn is_of_jobs(key: &str) -> bool {
    let of_build = matches!(key, "DISTRI" | "VERSION" | "BUILD");
    key == "group" || key.starts_with(|c: char| c.is_ascii_uppercase()) && !of_build
}

/// Settings that others are told: what names the job and what it tests; nothing that may be a secret.
pub fn telling(key: &str) -> bool {
    const TOLD: [&str; 22] = [
        "BUILD",
        "TEST",
        "ARCH",
        "MACHINE",
        "FLAVOR",
        "DISTRI",
        "VERSION",
        "ISO",
        "HDD_1",
        "HDD_2",
        "ADVISORY",
        "ITEM",
        "ITEM_TYPE",
        "TEST_TARGET",
        "SUBVARIANT",
        "IMAGETYPE",
        "UEFI",
        "LABEL",
        "KOJITASK",
        "TAG",
        "TEST_SUITE_NAME",
        "DESKTOP",
    ];
    TOLD.contains(&key) || key.starts_with("ADVISORY_NVRS") || key == "ZUUL_PROJECT" || key == "ZUUL_CHANGE"
}

/// `2026-11-21T10:00:00Z`
pub fn rfc3339(micros: i64) -> String {
    let (date, [hour, minute, second]) = civil(micros);
    format!("{date}T{hour:02}:{minute:02}:{second:02}Z")
}

/// `2026-11-21 10:00:00`
pub fn plain_time(micros: i64) -> String {
    let (date, [hour, minute, second]) = civil(micros);
    format!("{date} {hour:02}:{minute:02}:{second:02}")
}

/// The date and the time of day in UTC: days since 1970 to a date, by the well-known way of counting years from March.
fn civil(micros: i64) -> (String, [i64; 3]) {
    let seconds = micros.div_euclid(1_000_000);
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (format!("{year:04}-{month:02}-{day:02}"), [rest / 3_600, rest % 3_600 / 60, rest % 60])
}

/// Now, for facts.
pub fn micros(at: Timestamp) -> i64 {
    at.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(settings: &[(&str, &str)]) -> JobFact {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        JobFact { id: 7, settings, outcome: Some(Outcome::Failed), ..JobFact::default() }
    }

    #[test]
    fn wants_are_kinds_and_values() {
        let fact = Fact::JobDone(job(&[("BUILD", "Fedora-Rawhide-1"), ("TEST", "install")]));
        for (events, matching, wanted) in [
            (&["*"][..], &[][..], true),
            (&["job.*"], &[("BUILD", "Fedora-*")], true),
            (&["job.done"], &[("BUILD", "Fedora-*"), ("outcome", "failed")], true),
            (&["job.done"], &[("outcome", "passed")], false),
            (&["job.done"], &[("FLAVOR", "*")], false),
            (&["job.create", "build.*"], &[], false),
            (&[], &[], false),
        ] {
            let matching = matching
                .iter()
                .map(|(key, value): &(&str, &str)| ((*key).to_owned(), vec![(*value).to_owned()]));
            let wants = Wants {
                events: events.iter().map(|one| (*one).to_owned()).collect(),
                matching: matching.collect(),
                without: BTreeMap::new(),
            };
            assert_eq!(wants.fact(&fact), wanted, "{wants:?}");
            let not = Wants { events: wants.events, matching: BTreeMap::new(), without: wants.matching };
            let has_all = not.without.is_empty()
                || not
                    .without
                    .iter()
                    .all(|(key, patterns)| !fact.value(key).is_some_and(|value| is_like(patterns, &value)));
            assert_eq!(not.fact(&fact), not.kind(FactKind::JobDone) && has_all, "{not:?}");
        }
        let strange = |events: &str, key: &str| {
            let matching = BTreeMap::from([(key.to_owned(), vec!["*".to_owned()])]);
            let wants = Wants { events: vec![events.to_owned()], matching, ..Wants::default() };
            wants.strange_keys().count() == 1
        };
        assert!(
            strange("build.done", "user") && strange("result.*", "BUILD") && strange("waiver.*", "outcome")
        );
        assert!(!strange("build.done", "FLAVOR") && !strange("*", "user") && !strange("job.done", "group"));
        let wants = Wants { events: vec!["job.don".into(), "result.*".into()], ..Wants::default() };
        assert_eq!(wants.strange().collect::<Vec<_>>(), ["job.don"]);
        let read: Fact = serde_json::from_str(&serde_json::to_string(&fact).unwrap()).unwrap();
        assert_eq!((read.key(), read), ("job.done/7".to_owned(), fact));
    }

    #[test]
    fn who_wants_some_jobs_hears_of_every_build_that_may_have_them() {
        // As docs/reporting.md has it.
        let list = |patterns: &[&str]| patterns.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let wants = Wants {
            events: list(&["build.done"]),
            matching: [
                ("BUILD".to_owned(), list(&["Fedora-*"])),
                ("FLAVOR".to_owned(), list(&["Server-*", "Cloud-*"])),
            ]
            .into(),
            without: [("ARCH".to_owned(), list(&["s390x"])), ("VERSION".to_owned(), list(&["40"]))].into(),
        };
        let old = BuildFact { build: "Fedora-40".into(), version: "40".into(), ..BuildFact::default() };
        assert!(!wants.fact(&Fact::BuildDone(old)));
        let build = |build: &str| {
            Fact::BuildDone(BuildFact { build: build.to_owned(), last: 7, ..BuildFact::default() })
        };
        assert!(wants.fact(&build("Fedora-Rawhide-20261121.n.0")) && !wants.fact(&build("Update-FEDORA-1")));
        let flavors = [("FLAVOR".to_owned(), list(&["Server-*", "Cloud-*"]))].into();
        assert_eq!(wants.of_jobs(), (flavors, [("ARCH".to_owned(), list(&["s390x"]))].into()));
    }

    #[test]
    fn what_no_system_of_results_hears_of() {
        for (settings, outcome, why) in [
            (&[("BUILD", "Fedora-Rawhide-1")][..], Outcome::Failed, None),
            (&[("BUILD", "Kojitask-1-NOREPORT"), ("KOJITASK", "1")], Outcome::Passed, Some("NOREPORT")),
            (&[("BUILD", "Fedora-Rawhide-1-EXTRA")], Outcome::Passed, Some("EXTRA")),
            (&[("BUILD", "EXTRA-1")], Outcome::Passed, None),
            (&[("KOJITASK", "1")], Outcome::Passed, Some("KOJITASK")),
            (&[("KOJITASK", "")], Outcome::Passed, None),
            (&[("TEST_TARGET", "NONE")], Outcome::Passed, Some("TEST_TARGET")),
            (&[("TEST_TARGET", "ISO")], Outcome::UserCancelled, Some("user_cancelled")),
            (&[], Outcome::Obsoleted, Some("obsoleted")),
            (&[], Outcome::Incomplete, None),
        ] {
            let fact = Fact::JobDone(JobFact { outcome: Some(outcome), ..job(settings) });
            let found = fact.withheld();
            assert_eq!(found.is_some(), why.is_some(), "{settings:?} {outcome:?}");
            assert!(found.unwrap_or_default().contains(why.unwrap_or_default()), "{settings:?}");
        }
    }

    #[test]
    fn times() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_795_255_200_999_999, "2026-11-21T10:00:00Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(micros), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn every_time_can_be_written(micros: i64) {
            proptest::prop_assert!(rfc3339(micros).ends_with('Z'));
        }
    }
}
