//! From rows to what is told of them.

use super::Hub;
use crate::app::App;
use crate::results::conventions::{self, LONGEST_NAME};
use assay_engine::ids::Timestamp;
use assay_engine::reason::EndReason;
use assay_engine::report::{BuildFact, CommentFact, Fact, FactKind, JobFact, ResultFact, WaiverFact, Wants};
use assay_engine::rows::JobRow;
use assay_engine::settings::is_secret_name;
use assay_store::{
    Comment, CommentId, CommentTarget, NUMBER, NewEntry, NewResult, NumberOf, StoreError, Waiver,
};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Longer values of settings are left out.
const LONGEST: usize = 2_000;
/// Stands for a number that the database gives; no number is like it.
const LATER: i64 = i64::MIN;

/// A job as others are told of it.
pub(crate) fn job(row: &JobRow, remaining: u64, at: Timestamp) -> JobFact {
    let subject = conventions::subject(&row.settings);
    let told = |(key, setting): (&str, &assay_engine::settings::Setting)| {
        let fits = !is_secret_name(key) && setting.value.len() <= LONGEST;
        fits.then(|| (key.to_owned(), setting.value.clone()))
    };
    let end = row.state.end();
    JobFact {
        id: row.id.0,
        name: row.name.clone(),
        settings: row.settings.iter().filter_map(told).collect(),
        group: row.group.map(|group| group.0),
        testcase: conventions::testcase_of(&row.settings, &subject.kind, &row.name),
        item_type: subject.kind,
        item: subject.item,
        outcome: end.map(|end| end.outcome),
        class: end.map(|end| end.class),
        reason: end.and_then(|end| match &end.reason {
            EndReason::Reported { text: None } => None,
            reason => Some(conventions::cut(&reason.to_string())),
        }),
        clone_of: row.clone_of.map(|job| job.0),
        cloned_as: row.cloned_as.map(|job| job.0),
        auto: row.retries.tries() > 0,
        remaining,
        at: end.map_or(at, |end| end.at).0,
    }
}

/// True if somebody cancelled it.
fn is_cancelled(row: &JobRow) -> bool {
    let reason = row.state.end().map(|end| &end.reason);
    matches!(reason, Some(EndReason::Cancelled { .. } | EndReason::CancelIgnored { .. }))
}

pub(crate) fn result(result: &NewResult) -> ResultFact {
    let first = |key: &str| result.data.get(key).and_then(|values| values.first()).cloned();
    ResultFact {
        id: result.id,
        testcase: result.testcase.clone(),
        outcome: result.outcome.clone(),
        item_type: first("type"),
        item: first("item"),
        scenario: first("scenario"),
        own: result.dedupe.as_ref().is_some_and(|word| word.starts_with("job/")),
        withheld: first(conventions::WITHHELD),
        url: result.ref_url.clone(),
    }
}

/// What is told of waivers that are about to be stored; their numbers come with that.
pub(crate) fn waivers(hub: &Hub, waivers: &[Waiver]) -> Vec<NewEntry> {
    let mut entries = Vec::new();
    for (waiver, after) in waivers.iter().zip((0..waivers.len() as i64).rev()) {
        let fact = Fact::WaiverNew(WaiverFact {
            id: LATER,
            subject_type: waiver.subject_type.clone(),
            subject_identifier: waiver.subject_identifier.clone(),
            testcase: waiver.testcase.clone(),
            scenario: waiver.scenario.clone(),
            username: waiver.username.clone(),
            proxied_by: waiver.proxied_by.clone(),
            product_version: waiver.product_version.clone(),
            waived: waiver.waived,
            comment: waiver.comment.clone(),
            at: waiver.at.0,
        });
        entries.extend(numbered(hub.entries(&[fact], waiver.at), NumberOf::Waivers, after));
    }
    entries
}

/// Entries whose number the database gives.
pub(crate) fn numbered(entries: Vec<NewEntry>, of: NumberOf, after: i64) -> Vec<NewEntry> {
    let later = LATER.to_string();
    let (here, number) = (format!("\"id\":{later}"), format!("\"id\":{NUMBER}"));
    let one = |entry: NewEntry| NewEntry {
        key: entry.key.replace(&later, &NUMBER.to_string()),
        // Within a text quotation marks have a backslash before them.
        body: entry.body.replacen(&here, &number, 1),
        numbered: Some((of, after)),
        ..entry
    };
    entries.into_iter().map(one).collect()
}

/// Which build: `DISTRI`, `VERSION`, `BUILD`.
type Build = (String, String, String);

fn build_of(row: &JobRow) -> Option<Build> {
    let get = |key: &str| row.settings.get(key).unwrap_or_default().to_owned();
    let build = get("BUILD");
    (!build.is_empty()).then(|| (get("DISTRI"), get("VERSION"), build))
}

/// The open jobs of builds, to know when one has ended.
#[derive(Debug, Default)]
pub(crate) struct Builds(BTreeMap<Build, BTreeSet<i64>>);

impl Builds {
    /// Of the jobs that are open.
    pub(crate) fn of<'a>(jobs: impl Iterator<Item = &'a JobRow>) -> Self {
        let mut builds = Self::default();
        jobs.filter(|job| !job.state.is_final()).for_each(|job| builds.add(job));
        builds
    }

    /// A job that has not ended.
    pub(crate) fn add(&mut self, row: &JobRow) {
        if let Some(build) = build_of(row) {
            self.0.entry(build).or_default().insert(row.id.0);
        }
    }

    /// A job has ended; how many of its build are open, and the build if it was the last one.
    pub(crate) fn end(&mut self, row: &JobRow) -> (u64, Option<BuildFact>) {
        let Some(build) = build_of(row) else { return (0, None) };
        let Some(open) = self.0.get_mut(&build) else { return (0, None) };
        let was_open = open.remove(&row.id.0);
        let left = open.len() as u64;
        if left > 0 {
            return (left, None);
        }
        self.0.remove(&build);
        let at = row.finished_at().map_or(0, |at| at.0);
        let (distri, version, build) = build;
        let last = row.id.0;
        (0, was_open.then_some(BuildFact { distri, version, build, last, at, ..BuildFact::default() }))
    }

    /// How many jobs of the same build are open.
    pub(crate) fn open(&self, row: &JobRow) -> u64 {
        build_of(row).and_then(|build| self.0.get(&build)).map_or(0, |open| open.len() as u64)
    }
}

/// What happened to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Happened {
    Posted,
    Started,
    Ended,
}

/// What is told of something that happened to a job; nothing if nobody is told anything, and then only the builds are kept.
pub(crate) fn of_job(
    hub: &Hub,
    row: &JobRow,
    happened: Happened,
    builds: &mut Builds,
    at: Timestamp,
) -> Vec<Fact> {
    let ended = (happened == Happened::Ended).then(|| builds.end(row));
    if hub.is_idle() {
        return Vec::new();
    }
    match (happened, ended) {
        (Happened::Posted, _) => {
            let fact = job(row, builds.open(row), at);
            let restarted = row.clone_of.map(|old| {
                Fact::JobRestart(JobFact {
                    id: old.0,
                    clone_of: None,
                    cloned_as: Some(row.id.0),
                    ..fact.clone()
                })
            });
            [Fact::JobCreate(fact)].into_iter().chain(restarted).collect()
        }
        (Happened::Started, _) => vec![Fact::JobStart(job(row, builds.open(row), at))],
        (Happened::Ended, ended) => {
            let (left, build) = ended.unwrap_or_default();
            let fact = job(row, left, at);
            let cancelled = is_cancelled(row).then(|| Fact::JobCancel(fact.clone()));
            let done = Fact::JobDone(fact);
            cancelled.into_iter().chain([done]).chain(build.map(Fact::BuildDone)).collect()
        }
    }
}

fn entry(
    target: String,
    key: String,
    fact: &Fact,
    at: Timestamp,
    due: Option<Timestamp>,
) -> Option<NewEntry> {
    let body = serde_json::to_string(fact).ok()?;
    let mut about = fact.about().replace('\0', "\u{FFFD}");
    if about.len() > LONGEST_NAME {
        about = conventions::cut(&about);
    }
    Some(NewEntry {
        target,
        key: key.replace('\0', "\u{FFFD}"),
        kind: fact.kind().word().to_owned(),
        about,
        // Databases do not take it, and JSON can do without.
        body: body.replace("\\u0000", "\\ufffd"),
        at,
        due: due.filter(|due| *due > at),
        numbered: None,
    })
}

/// Of a build what somebody wants of its report.
fn part_of<'f>(fact: &'f Fact, wants: &Wants, errors: bool) -> Cow<'f, Fact> {
    match fact {
        Fact::BuildDone(build) => {
            let (only, without) = wants.of_jobs();
            Cow::Owned(Fact::BuildDone(BuildFact { only, without, errors, ..build.clone() }))
        }
        other => Cow::Borrowed(other),
    }
}

impl Hub {
    /// Entries for all who want to be told of these facts.
    pub(crate) fn entries(&self, facts: &[Fact], at: Timestamp) -> Vec<NewEntry> {
        let mut entries = Vec::new();
        let people = self.people();
        for fact in facts {
            let reporters = self.settings().into_iter().flat_map(|settings| &settings.reporters);
            for (name, reporter) in reporters.filter(|(_, reporter)| reporter.wants.fact(fact)) {
                let fact = &part_of(fact, &reporter.wants, reporter.errors);
                entries.extend(entry(name.clone(), fact.key(), fact, at, None));
            }
            for (name, notices) in &*people {
                for rule in notices.wanting(name, fact) {
                    let key = format!("{}:{}", rule.name, fact.key());
                    let due = notices.due(rule, at);
                    let fact = &part_of(fact, &rule.wants, false);
                    entries.extend(entry(
                        format!("{}{name}", super::people::PREFIX),
                        key,
                        fact,
                        at,
                        Some(due),
                    ));
                }
            }
        }
        entries
    }

    /// True if nobody is told anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.settings().is_none() && self.people().is_empty()
    }

    /// True if somebody wants to be told of such facts.
    pub(crate) fn wants(&self, kind: FactKind) -> bool {
        let reporters = self.settings().into_iter().flat_map(|settings| settings.reporters.values());
        let people = self.people();
        let mut rules = people.values().flat_map(|notices| &notices.rules);
        reporters.map(|reporter| &reporter.wants).any(|wants| wants.kind(kind))
            || rules.any(|rule| rule.wants.kind(kind))
    }

    /// What is told of a comment.
    pub(crate) fn of_comment(
        &self,
        comment: &Comment,
        fact: fn(CommentFact) -> Fact,
        at: Timestamp,
    ) -> Vec<NewEntry> {
        let (job, group) = match comment.target {
            CommentTarget::Job(job) => (Some(job.0), None),
            CommentTarget::Group(group) => (None, Some(group)),
            CommentTarget::ParentGroup(_) => (None, None),
        };
        let said = CommentFact {
            id: comment.id.0,
            job,
            group,
            text: comment.text.clone(),
            user: comment.author.clone(),
            created: comment.created_at.0,
            updated: comment.updated_at.0,
        };
        self.entries(&[fact(said)], at)
    }

    /// What is told of results that are about to be stored.
    pub(crate) fn of_results(&self, results: &[NewResult], at: Timestamp) -> Vec<NewEntry> {
        if !self.wants(FactKind::ResultNew) {
            return Vec::new();
        }
        let facts: Vec<Fact> = results.iter().map(|one| Fact::ResultNew(result(one))).collect();
        self.entries(&facts, at)
    }
}

impl App {
    /// Stores a new comment, with what is told of it.
    pub(crate) async fn keep_comment(&self, comment: &Comment) -> Result<CommentId, StoreError> {
        let said = Comment { id: CommentId(LATER), ..comment.clone() };
        let told = self.reporting.of_comment(&said, Fact::CommentCreate, comment.created_at);
        let told = numbered(told, NumberOf::Comments, 0);
        let id = self.store.knowledge().add_told_comment(self.library.epoch(), comment, &told).await?;
        self.reporting.stored(told.iter().map(|entry| entry.target.as_str()));
        Ok(id)
    }

    /// Removes comments, with what is told of it.
    pub(crate) async fn take_back(&self, comments: &[Comment]) -> Result<(), StoreError> {
        let now = self.clock.now();
        let ids: Vec<CommentId> = comments.iter().map(|comment| comment.id).collect();
        let told = |one| self.reporting.of_comment(one, Fact::CommentDelete, now);
        let told: Vec<NewEntry> = comments.iter().flat_map(told).collect();
        self.store.knowledge().remove_comments(self.library.epoch(), &ids, &told).await?;
        self.reporting.stored(told.iter().map(|entry| entry.target.as_str()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_from_the_database_and_nowhere_else() {
        let trick = format!("\"id\":{LATER}");
        let fact = Fact::WaiverNew(WaiverFact {
            id: LATER,
            subject_type: trick.clone(),
            subject_identifier: trick.clone(),
            testcase: trick.clone(),
            scenario: None,
            username: trick.clone(),
            proxied_by: None,
            product_version: trick.clone(),
            waived: true,
            comment: trick,
            at: 0,
        });
        let entry = NewEntry {
            target: "t".into(),
            key: fact.key(),
            kind: "waiver.new".into(),
            about: String::new(),
            body: serde_json::to_string(&fact).unwrap(),
            at: Timestamp(0),
            due: None,
            numbered: None,
        };
        let entry = numbered(vec![entry], NumberOf::Waivers, 0).remove(0);
        assert_eq!(entry.key, format!("waiver.new/{NUMBER}"));
        assert_eq!(entry.body.matches(NUMBER).count(), 1);
        let read: Fact = serde_json::from_str(&entry.body.replace(NUMBER, "7")).unwrap();
        assert!(matches!(read, Fact::WaiverNew(waiver) if waiver.id == 7));
    }
}
