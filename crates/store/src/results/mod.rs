//! Results of tests as ResultsDB keeps them, waivers, and decisions: what is asked for years later.
//!
//! A result is one row that never changes. What it can be found by (an outcome, a test case, a group, each value of its
//! data) is a *term*: 64 bits of a hash. `result_terms` has for each term the results that carry it, in the order of
//! time, so that the newest twenty with an item are twenty steps in one index whatever else there is; every further
//! condition is one look into the same index. `result_words` knows the values behind terms, for patterns.

mod decide;
mod find;
mod terms;
mod undecided;
mod write;

pub use terms::{Condition, Field};
pub(crate) use write::{Known, result_statements};

use crate::error::StoreError;
use crate::outbox::NewEntry;
use crate::types::Epoch;
use assay_engine::decision::Subject;
use assay_engine::ids::Timestamp;
use std::collections::BTreeMap;

/// A result's number: greater for later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResultId(pub i64);

/// A group that a result belongs to; made if it is not there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupOf {
    /// Its name for programs; a UUID by custom.
    pub uuid: String,
    /// Its name for people, if it is to be changed.
    pub description: Option<String>,
    /// Where it is described, if that is to be changed.
    pub ref_url: Option<String>,
}

/// A result that is to be stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewResult {
    /// Its number, which nothing else has.
    pub id: i64,
    /// The name of the test case; made if it is not there.
    pub testcase: String,
    /// Where the test case is described, if that is to be changed.
    pub testcase_ref_url: Option<String>,
    /// When it was found.
    pub at: Timestamp,
    /// In capitals.
    pub outcome: String,
    /// A remark.
    pub note: Option<String>,
    /// Where the test's logs are.
    pub ref_url: Option<String>,
    /// What it belongs to.
    pub groups: Vec<GroupOf>,
    /// Everything else: each key with its values.
    pub data: BTreeMap<String, Vec<String>>,
    /// What tells that it has been stored already; no two results have the same.
    pub dedupe: Option<String>,
    /// What is to be decided about because of it; noted with it.
    pub subjects: Vec<Subject>,
}

/// A stored result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResult {
    /// Its number.
    pub id: ResultId,
    /// The name of the test case.
    pub testcase: String,
    /// Where the test case is described.
    pub testcase_ref_url: Option<String>,
    /// When it was found.
    pub at: Timestamp,
    /// In capitals.
    pub outcome: String,
    /// A remark.
    pub note: Option<String>,
    /// Where the test's logs are.
    pub ref_url: Option<String>,
    /// The groups' names as a JSON list of texts.
    pub groups: String,
    /// The data as a JSON object of lists of texts, keys in order.
    pub data: String,
}

impl StoredResult {
    /// The data, read.
    pub fn values(&self) -> BTreeMap<String, Vec<String>> {
        serde_json::from_str(&self.data).unwrap_or_default()
    }
}

/// A group of results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultGroup {
    /// Its name for programs.
    pub uuid: String,
    /// Its name for people.
    pub description: Option<String>,
    /// Where it is described.
    pub ref_url: Option<String>,
    /// How many results it has.
    pub results: u64,
}

/// A test case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Testcase {
    /// Its name.
    pub name: String,
    /// Where it is described.
    pub ref_url: Option<String>,
}

/// Which results.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResultFilter {
    /// All of these hold.
    pub conditions: Vec<Condition>,
    /// Not found earlier than this.
    pub since: Option<Timestamp>,
    /// Not found later than this.
    pub until: Option<Timestamp>,
    /// The oldest first; else the newest.
    pub oldest_first: bool,
    /// So many are left out.
    pub offset: u64,
    /// At most so many.
    pub limit: u32,
}

/// Which groups or test cases; what is empty does not restrict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NameFilter {
    /// Called like one of these (a test case's name, a group's UUID).
    pub names: Vec<String>,
    /// A group's description is one of these.
    pub descriptions: Vec<String>,
    /// The name of a test case, or the description of a group, is like one of these, where `*` stands for anything.
    pub like: Vec<String>,
    /// So many are left out.
    pub offset: u64,
    /// At most so many.
    pub limit: u32,
}

/// A waiver: somebody says that a missing or bad result does not count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waiver {
    /// Its number; 0 before it is stored.
    pub id: i64,
    /// When it was given.
    pub at: Timestamp,
    /// The kind of what was tested.
    pub subject_type: String,
    /// What was tested.
    pub subject_identifier: String,
    /// The test case.
    pub testcase: String,
    /// Only in this scenario; without it in all.
    pub scenario: Option<String>,
    /// Who says so.
    pub username: String,
    /// Who said so for them.
    pub proxied_by: Option<String>,
    /// For which release.
    pub product_version: String,
    /// False takes earlier ones back.
    pub waived: bool,
    /// Why.
    pub comment: String,
    /// From then on it does not count any more.
    pub expires_at: Option<Timestamp>,
}

/// Which waivers: those that one of the choices lets through; with no choice all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WaiverFilter {
    /// Any of these.
    pub any: Vec<WaiverChoice>,
    /// Also those that a newer one has taken the place of.
    pub obsolete_too: bool,
    /// Only those that have not expired by then.
    pub alive_at: Option<Timestamp>,
    /// What has to be the same of a newer waiver that takes the place of an older: also who gave it and for which release.
    pub per_person: bool,
    /// So many are left out.
    pub offset: u64,
    /// At most so many.
    pub limit: u32,
}

/// What a waiver has to be like; `None` does not restrict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WaiverChoice {
    /// The number.
    pub id: Option<i64>,
    /// Kind of subject: any of these.
    pub subject_types: Vec<String>,
    /// Subject.
    pub subject_identifier: Option<String>,
    /// Test case.
    pub testcase: Option<String>,
    /// Scenario.
    pub scenario: Option<String>,
    /// Release.
    pub product_version: Option<String>,
    /// Author.
    pub username: Option<String>,
    /// Who posted it.
    pub proxied_by: Option<String>,
    /// Not earlier.
    pub since: Option<Timestamp>,
    /// Not later.
    pub until: Option<Timestamp>,
}

/// What a decision is made from, all seen at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// The newest first.
    pub results: Vec<StoredResult>,
    /// The newest first; those that are taken back or have expired are there.
    pub waivers: Vec<Waiver>,
}

/// What evidence is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EvidenceFilter {
    /// Results that one of these lets through.
    pub any: Vec<Vec<Condition>>,
    /// Of these test cases; all if none is named.
    pub testcases: Vec<String>,
    /// The kinds that the subject of a waiver may have.
    pub subject_types: Vec<String>,
    /// The subject of waivers.
    pub subject_identifier: String,
    /// Nothing later than this.
    pub until: Option<Timestamp>,
}

/// A decision as it is remembered: only when it is another one than before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DecisionRow {
    /// Its number: greater for later ones; 0 before it is stored.
    pub id: i64,
    /// When it was made.
    pub at: Timestamp,
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
    /// Every requirement, as JSON: what tells it from another decision.
    pub body: String,
    /// The whole as it is told, as JSON; kept until the next one about the same.
    pub told: Option<String>,
}

/// A subject that is to be decided about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Undecided {
    /// What is to be decided about.
    pub subject: Subject,
    /// From when on.
    pub due: Timestamp,
    /// Grows whenever something new is known.
    pub round: i64,
}

/// A release, and how many subjects wait for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseTally {
    /// Its name, as decisions have it.
    pub product_version: String,
    /// Subjects and purposes of which the newest decision says that they may not go on.
    pub waiting: u64,
    /// Those that may.
    pub satisfied: u64,
    /// When something was decided last.
    pub last: Option<Timestamp>,
}

/// What is kept of results. Whoever writes must lead, as in [`crate::Store::commit`].
#[async_trait::async_trait]
pub trait ResultStore: Send + Sync {
    /// The greatest number of a result; the next ones are the leader's to give.
    async fn last_result(&self) -> Result<i64, StoreError>;

    /// Stores results: all of them, or nothing. When this returns `Ok`, they are on disk.
    /// [`StoreError::Duplicate`] if one was stored before.
    async fn add_results(&self, epoch: Epoch, results: &[NewResult]) -> Result<(), StoreError>;

    /// The same with what is to be told of them; the results as they are stored. Their numbers should be near each other:
    /// what is between them is read, too.
    async fn add_told_results(
        &self,
        epoch: Epoch,
        results: &[NewResult],
        told: &[NewEntry],
    ) -> Result<Vec<StoredResult>, StoreError>;

    /// The numbers of results that were stored under these words.
    async fn deduped(&self, words: &[String]) -> Result<BTreeMap<String, ResultId>, StoreError>;

    /// One result.
    async fn result(&self, id: ResultId) -> Result<Option<StoredResult>, StoreError>;

    /// Results. [`StoreError::TooBroad`] if a pattern fits more values than can be looked for.
    async fn results(&self, filter: &ResultFilter) -> Result<Vec<StoredResult>, StoreError>;

    /// The newest result of each test case and values of these keys, the newest first; without keys all that are as new
    /// as the newest of their test case. `offset`, `limit` and the order do not count.
    async fn latest(&self, filter: &ResultFilter, keys: &[String]) -> Result<Vec<StoredResult>, StoreError>;

    /// Groups, the newest first.
    async fn result_groups(&self, filter: &NameFilter) -> Result<Vec<ResultGroup>, StoreError>;

    /// Makes or changes a group.
    async fn put_group(&self, epoch: Epoch, group: &GroupOf, at: Timestamp) -> Result<(), StoreError>;

    /// Test cases by name.
    async fn testcases(&self, filter: &NameFilter) -> Result<Vec<Testcase>, StoreError>;

    /// Makes or changes a test case.
    async fn put_testcase(&self, epoch: Epoch, testcase: &Testcase) -> Result<(), StoreError>;

    /// Stores waivers, all or none; their numbers.
    async fn add_waivers(&self, epoch: Epoch, waivers: &[Waiver]) -> Result<Vec<i64>, StoreError> {
        self.add_told_waivers(epoch, waivers, &[]).await
    }

    /// The same with what is to be told of them.
    async fn add_told_waivers(
        &self,
        epoch: Epoch,
        waivers: &[Waiver],
        told: &[NewEntry],
    ) -> Result<Vec<i64>, StoreError>;

    /// Waivers, the newest first.
    async fn waivers(&self, filter: &WaiverFilter) -> Result<Vec<Waiver>, StoreError>;

    /// What is known of subjects, all at one moment and in their order.
    async fn evidence(&self, filters: &[EvidenceFilter]) -> Result<Vec<Evidence>, StoreError>;

    /// Remembers a decision and what is to be told of it, if the newest one about the same still is `before` (0: there is
    /// none): what is told compares with that one. True if it is remembered.
    async fn remember_decision(
        &self,
        epoch: Epoch,
        decision: &DecisionRow,
        before: i64,
        told: &[NewEntry],
    ) -> Result<bool, StoreError>;

    /// The newest decision about each purpose of items with these names, of whatever kind.
    async fn newest_decisions(&self, items: &[String]) -> Result<Vec<DecisionRow>, StoreError>;

    /// What is to be decided about by now: of results and waivers, since they were stored; of waivers that expire, since
    /// then; and what [`ResultStore::decide_again`] names.
    async fn undecided(&self, now: Timestamp, limit: u32) -> Result<Vec<Undecided>, StoreError>;

    /// When something is to be decided about that is not yet at this moment.
    async fn next_undecided(&self, after: Timestamp) -> Result<Option<Timestamp>, StoreError>;

    /// Has subjects decided about from a moment on; what is new goes first.
    async fn decide_again(
        &self,
        epoch: Epoch,
        subjects: &[Subject],
        due: Timestamp,
    ) -> Result<(), StoreError>;

    /// They have been decided about, as far as nothing has come since these were read.
    async fn was_decided(&self, epoch: Epoch, done: &[Undecided]) -> Result<(), StoreError>;

    /// Subjects about which something was decided since then for one of these purposes.
    async fn decided_subjects(
        &self,
        contexts: &[String],
        since: Timestamp,
    ) -> Result<Vec<Subject>, StoreError>;

    /// By what was decided, for each purpose, as [`ResultStore::put_decision_bases`] was told.
    async fn decision_bases(&self) -> Result<BTreeMap<String, String>, StoreError>;

    /// By what is decided from now on; in place of all that was.
    async fn put_decision_bases(
        &self,
        epoch: Epoch,
        bases: &BTreeMap<String, String>,
    ) -> Result<(), StoreError>;

    /// What was decided about a subject, the newest first.
    async fn decisions(
        &self,
        subject_types: &[String],
        subject: &str,
        limit: u32,
    ) -> Result<Vec<DecisionRow>, StoreError>;

    /// The newest decision of each subject and purpose for a release, if by it the subject may not go on; the newest first.
    async fn waiting_decisions(
        &self,
        product_version: &str,
        context: Option<&str>,
        limit: u32,
    ) -> Result<Vec<DecisionRow>, StoreError>;

    /// Releases about which something was decided, by name.
    async fn releases(&self) -> Result<Vec<ReleaseTally>, StoreError>;
}
