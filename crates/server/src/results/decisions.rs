//! Decisions about what results are of: asked for, and made again whenever [`super::anew`] says so.

use super::conventions::{self, LONGEST_NAME};
use super::remote::Seen;
use super::settings::ResultsSettings;
use crate::app::App;
use assay_engine::decision::{
    Decision, Found, Known, Policies, Question, Requirement, Subject, Template, Verdict, Waived, decide,
    needs,
};
use assay_engine::ids::Timestamp;
use assay_engine::report::{DecisionFact, Fact, FactKind};
use assay_store::{
    Condition, DecisionRow, Evidence, EvidenceFilter, NewEntry, NewResult, StoreError, StoredResult, Waiver,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// So often a decision that was overtaken is made again. Only a leader that does not know yet that it is none could do it.
const TRIES: u32 = 3;
/// So many releases and purposes that somebody asked for are decided about again, of each item; the newest.
const ASKED: usize = 200;

/// Releases and purposes.
pub(crate) type Purposes = BTreeSet<(String, String)>;

/// What decisions need from elsewhere, by releases and purposes; nothing for those that need nothing.
type Ahead = BTreeMap<(String, String), Seen>;

/// The templates of the catalog, as a rule about them sees them.
pub(crate) fn templates(catalog: &crate::catalog::Catalog) -> Vec<Template> {
    let of = |template: &Arc<assay_store::JobTemplate>| {
        let product = catalog.products.get(&template.product)?;
        let machine = catalog.machines.get(&template.machine)?;
        let suite = template.test_suite.and_then(|id| catalog.suites.get(&id));
        let suite = suite.map_or("", |suite| suite.name.as_str());
        let test = if template.name.is_empty() { suite } else { template.name.as_str() };
        let get = |key: &str| match key {
            "DISTRI" => Some(product.distri.as_str()),
            "FLAVOR" => Some(product.flavor.as_str()),
            "ARCH" => Some(product.arch.as_str()),
            "MACHINE" => Some(machine.name.as_str()),
            _ => None,
        };
        Some(Template {
            group: catalog.groups.get(&template.group).map(|group| group.name.clone()).unwrap_or_default(),
            distri: product.distri.clone(),
            version: product.version.clone(),
            flavor: product.flavor.clone(),
            arch: product.arch.clone(),
            test: test.to_owned(),
            testcase: conventions::sanitised(test),
            scenario: conventions::scenario(get),
        })
    };
    catalog.templates.values().filter_map(of).collect()
}

fn found(result: &StoredResult) -> Found {
    let mut values = result.values();
    let mut first =
        |key: &str| values.get_mut(key).filter(|list| !list.is_empty()).map(|list| list.swap_remove(0));
    Found {
        id: result.id.0,
        testcase: result.testcase.clone(),
        at: result.at,
        outcome: result.outcome.clone(),
        scenario: first("scenario"),
        architecture: first("system_architecture"),
        variant: first("system_variant"),
        source: first("source"),
        error_reason: first("error_reason"),
    }
}

fn waived(waiver: &Waiver) -> Waived {
    Waived {
        id: waiver.id,
        testcase: waiver.testcase.clone(),
        scenario: waiver.scenario.clone(),
        product_version: waiver.product_version.clone(),
        waived: waiver.waived,
        expires_at: waiver.expires_at,
    }
}

fn known(seen: &Evidence) -> Known {
    Known {
        results: seen.results.iter().map(found).collect(),
        waivers: seen.waivers.iter().map(waived).collect(),
        ..Known::default()
    }
}

/// What was decided, and what from.
pub(crate) struct Decided {
    pub(crate) decision: Decision,
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) settings: Arc<ResultsSettings>,
    known: Vec<Known>,
    templates: Vec<Template>,
}

/// The requirements without what changes although nothing changes: the numbers of results, and where a test is under way
/// that is missing as before.
fn remembered(decision: &Decision) -> String {
    let one = |requirement: &Requirement| -> Value {
        let result = requirement.result.as_ref().filter(|_| requirement.verdict != Verdict::Missing);
        json!({
            "type": requirement.word(),
            "testcase": requirement.testcase,
            "scenario": if result.is_some() { &requirement.scenario } else { &requirement.required_in },
            "architecture": result.and_then(|result| result.architecture.clone()),
            "waiver": requirement.waiver,
        })
    };
    let mut there = BTreeSet::new();
    let all = decision.requirements.iter().map(one).filter(|one| there.insert(one.to_string()));
    Value::from(all.collect::<Vec<_>>()).to_string()
}

/// The one question whose answer is remembered.
fn question_about(subject: &Subject, product_version: &str, context: &str, at: Timestamp) -> Question {
    Question {
        product_version: product_version.to_owned(),
        contexts: vec![context.to_owned()],
        subjects: vec![subject.clone()],
        at,
        ..Question::default()
    }
}

/// The newest decision about a subject, whose kind is named as it is remembered.
fn newest_about<'a>(
    newest: &'a [DecisionRow],
    subject: &Subject,
    product_version: &str,
    context: &str,
) -> Option<&'a DecisionRow> {
    newest.iter().find(|row| {
        row.subject_type == subject.kind
            && row.subject_identifier == subject.item
            && row.product_version == product_version
            && row.context == context
    })
}

/// A subject by its kind's own name: whoever calls it by an alias means the same.
fn own_name(policies: &Policies, subject: &Subject) -> Subject {
    Subject { kind: policies.subject_type(&subject.kind).id, item: subject.item.clone() }
}

/// For which releases and purposes a subject is decided about: those that somebody has asked for, and those that policies
/// have something to say of.
pub(crate) fn purposes(
    policies: &Policies,
    subject: &Subject,
    newest: &[DecisionRow],
    evidence: &Evidence,
) -> Purposes {
    let kind = policies.subject_type(&subject.kind);
    let asked = newest
        .iter()
        .filter(|row| row.subject_identifier == subject.item && kind.is_called(&row.subject_type))
        .take(ASKED);
    // Only jobs say by it what the item was tested as; with others it may be the version of anything.
    let of_job = |result: &StoredResult| {
        let mut values = result.values();
        let source = values.get("source").and_then(|values| values.first());
        if source.map(String::as_str) == conventions::SOURCE { values.remove("version") } else { None }
    };
    let versions: BTreeSet<String> = evidence.results.iter().filter_map(of_job).flatten().collect();
    let mut purposes = policies.purposes(subject, &versions);
    purposes.extend(asked.map(|row| (row.product_version.clone(), row.context.clone())));
    purposes
}

impl App {
    /// What is known of a subject at one moment.
    pub(crate) async fn evidence_of(
        &self,
        policies: &Policies,
        subject: &Subject,
    ) -> Result<Evidence, StoreError> {
        let mut evidence = self.evidence_of_all(policies, std::slice::from_ref(subject), None).await?;
        Ok(evidence.pop().unwrap_or_default())
    }

    /// What is known of subjects, of all at the same moment; with `until`, as it was then.
    async fn evidence_of_all(
        &self,
        policies: &Policies,
        subjects: &[Subject],
        until: Option<Timestamp>,
    ) -> Result<Vec<Evidence>, StoreError> {
        let filter = |subject: &Subject| {
            let kind = policies.subject_type(&subject.kind);
            let query = |query: BTreeMap<String, Vec<String>>| {
                query.into_iter().map(|(key, values)| Condition::data(&key, values)).collect::<Vec<_>>()
            };
            EvidenceFilter {
                any: kind.queries(&subject.item).into_iter().map(query).collect(),
                testcases: Vec::new(),
                subject_types: kind.names(),
                subject_identifier: subject.item.clone(),
                until,
            }
        };
        let filters: Vec<EvidenceFilter> = subjects.iter().map(filter).collect();
        self.store.results().evidence(&filters).await
    }

    /// Decides. With `as_of`, as it would have been decided then.
    pub(crate) async fn decide(
        &self,
        question: &Question,
        as_of: Option<Timestamp>,
    ) -> Result<Decided, StoreError> {
        let settings = self.results.settings();
        let evidence = self.evidence_of_all(&settings.decisions, &question.subjects, as_of).await?;
        let mut known: Vec<Known> = evidence.iter().map(known).collect();
        for (known, seen) in known.iter_mut().zip(self.seen_elsewhere(&settings, question).await) {
            seen.add_to(known);
        }
        let templates = templates(&self.library.now());
        let decision = decide(&settings.decisions, question, &known, &templates);
        Ok(Decided { decision, evidence, settings, known, templates })
    }

    /// Remembers what was decided for each subject and purpose of a question about now, without exceptions: that is the
    /// answer that counts from now on.
    pub(crate) async fn remember(&self, question: &Question, decided: &Decided) -> Result<(), StoreError> {
        let policies = &decided.settings.decisions;
        let named =
            |context: &&String| policies.policies.iter().any(|policy| policy.contexts.contains(context));
        let contexts: Vec<&String> = question.contexts.iter().filter(named).collect();
        if contexts.is_empty() {
            return Ok(()); // By rules of its own: that is nobody else's answer.
        }
        let items: BTreeSet<String> = question.subjects.iter().map(|subject| subject.item.clone()).collect();
        let newest = self.store.results().newest_decisions(&items.into_iter().collect::<Vec<_>>()).await?;
        let seen = decided.evidence.iter().zip(&decided.known);
        for (subject, (evidence, known)) in question.subjects.iter().zip(seen) {
            let subject = own_name(policies, subject);
            // Anybody may ask about anything: what nobody knows and no policy leads to is not kept for ever.
            let is_known = !evidence.results.is_empty()
                || !evidence.waivers.is_empty()
                || purposes(policies, &subject, &newest, evidence)
                    .iter()
                    .any(|(release, _)| *release == question.product_version);
            if !is_known {
                continue;
            }
            let mut others = Purposes::new();
            for &context in &contexts {
                let one = question_about(&subject, &question.product_version, context, question.at);
                let known = std::slice::from_ref(known);
                let decision = decide(policies, &one, known, &decided.templates);
                let before = newest_about(&newest, &subject, &question.product_version, context);
                // Of what no policy says anything nothing was decided.
                if !decision.policies.is_empty()
                    && before.is_none_or(|before| before.body != remembered(&decision))
                {
                    others.insert((question.product_version.clone(), context.clone()));
                }
            }
            // From what is known by then: what was seen here may be older than what was remembered meanwhile.
            if !others.is_empty() {
                self.decide_anew(&subject, Some(&others)).await?;
            }
        }
        Ok(())
    }

    /// Decides about a subject from what is known now, for these purposes or for all there are, and remembers each
    /// decision that is another one than before.
    pub(crate) async fn decide_anew(
        &self,
        subject: &Subject,
        purposes: Option<&Purposes>,
    ) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            let settings = self.results.settings();
            let subject = own_name(&settings.decisions, subject);
            let ahead = self.look_ahead(&settings, &subject, purposes).await?;
            // One after another: what is remembered last has been decided from what was known last.
            let _alone = self.results.news.deciding().await;
            if !Arc::ptr_eq(&settings, &self.results.settings()) {
                continue;
            }
            // First, so that an outage becomes no decision for good, whenever this process ends.
            if ahead.values().any(Seen::is_in_doubt) {
                self.results.doubt(&*self.store, &subject, self.clock.now()).await?;
            } else if purposes.is_none() {
                self.results.is_clear(&subject);
            }
            if self.decide_once(&settings.decisions, &subject, purposes, &ahead).await? {
                return Ok(());
            }
        }
        Err(StoreError::Overtaken { item: subject.item.clone() })
    }

    /// Asks elsewhere for what a decision will need, so that the others do not wait for that.
    async fn look_ahead(
        &self,
        settings: &ResultsSettings,
        subject: &Subject,
        asked: Option<&Purposes>,
    ) -> Result<Ahead, StoreError> {
        let mut ahead = Ahead::new();
        let policies = &settings.decisions;
        if !policies.asks_elsewhere() {
            return Ok(ahead);
        }
        let all;
        let purposes = if let Some(asked) = asked {
            asked
        } else {
            let newest = self.store.results().newest_decisions(std::slice::from_ref(&subject.item)).await?;
            all = purposes(policies, subject, &newest, &self.evidence_of(policies, subject).await?);
            &all
        };
        for (product_version, context) in purposes {
            let question = question_about(subject, product_version, context, self.clock.now());
            if let Some(seen) = self.seen_elsewhere(settings, &question).await.pop() {
                ahead.insert((product_version.clone(), context.clone()), seen);
            }
        }
        Ok(ahead)
    }

    /// False if another decision was remembered meanwhile, or if something is needed from elsewhere that nobody has asked for
    /// yet: what is new may be of another release.
    async fn decide_once(
        &self,
        policies: &Policies,
        subject: &Subject,
        asked: Option<&Purposes>,
        ahead: &Ahead,
    ) -> Result<bool, StoreError> {
        // First, so that nothing is known of them that is not in the evidence.
        let newest = self.store.results().newest_decisions(std::slice::from_ref(&subject.item)).await?;
        let evidence = self.evidence_of(policies, subject).await?;
        let all = asked.is_none().then(|| purposes(policies, subject, &newest, &evidence));
        let Some(purposes) = asked.or(all.as_ref()).filter(|purposes| !purposes.is_empty()) else {
            return Ok(true);
        };
        let mut known = [known(&evidence)];
        let templates = templates(&self.library.now());
        for purpose @ (product_version, context) in purposes {
            let question = question_about(subject, product_version, context, self.clock.now());
            match ahead.get(purpose) {
                Some(seen) => seen.add_to(&mut known[0]),
                None if needs(policies, &question, subject).is_empty() => {}
                None => return Ok(false),
            }
            let decision = decide(policies, &question, &known, &templates);
            let before = newest_about(&newest, subject, product_version, context);
            let body = remembered(&decision);
            // Where no policy says anything any more, what was decided stays.
            if decision.policies.is_empty() || before.is_some_and(|before| before.body == body) {
                continue;
            }
            let whole = crate::api::decision::told(&decision, policies);
            let row = DecisionRow {
                id: 0,
                at: question.at,
                subject_type: subject.kind.clone(),
                subject_identifier: subject.item.clone(),
                product_version: product_version.clone(),
                context: context.clone(),
                satisfied: decision.is_satisfied(),
                summary: decision.summary(),
                body,
                told: Some(whole.to_string()),
            };
            let told = self.told_of_decision(&row, whole, before, policies);
            let before = before.map_or(0, |before| before.id);
            let epoch = self.results.epoch();
            if !self.store.results().remember_decision(epoch, &row, before, &told).await? {
                return Ok(false);
            }
            tracing::info!(item = subject.item, context, summary = row.summary, "decided anew");
            self.reporting.stored(told.iter().map(|entry| entry.target.as_str()));
        }
        Ok(true)
    }

    /// What is told of a decision that is another one than before.
    fn told_of_decision(
        &self,
        row: &DecisionRow,
        decision: Value,
        before: Option<&DecisionRow>,
        policies: &Policies,
    ) -> Vec<NewEntry> {
        if !self.reporting.wants(FactKind::DecisionUpdate) {
            return Vec::new();
        }
        let subject = Subject { kind: row.subject_type.clone(), item: row.subject_identifier.clone() };
        let previous = before.and_then(|before| before.told.as_deref());
        let fact = Fact::DecisionUpdate(DecisionFact {
            subject_type: row.subject_type.clone(),
            subject_identifier: row.subject_identifier.clone(),
            product_version: row.product_version.clone(),
            context: row.context.clone(),
            satisfied: row.satisfied,
            summary: row.summary.clone(),
            decision,
            before: before.map(|before| (before.satisfied, before.summary.clone())),
            previous: previous.and_then(|told| serde_json::from_str(told).ok()).unwrap_or_default(),
            subject: crate::api::decision::item(&subject, policies),
            after: before.map_or(0, |before| before.id),
            at: row.at.0,
        });
        self.reporting.entries(&[fact], row.at)
    }

    /// Notes in a result that is about to be stored what is to be decided about because of it.
    pub(crate) fn note_subjects(&self, result: &mut NewResult) {
        let settings = self.results.settings();
        result.subjects = subjects_of(&settings.decisions, &result.data).into_iter().collect();
    }
}

/// What is to be decided about because of a result with this data.
pub(super) fn subjects_of(policies: &Policies, data: &BTreeMap<String, Vec<String>>) -> BTreeSet<Subject> {
    if policies.policies.is_empty() {
        return BTreeSet::new();
    }
    let mut subjects = policies.subjects_of(data);
    // A result of an image is one of what the image is part of, and nobody decides about the image.
    if let Some(whole) = conventions::subject_of(data) {
        let whole = own_name(policies, &whole);
        let item = data.get("item").and_then(|values| values.first());
        subjects.retain(|one| one.kind != whole.kind || one.item == whole.item || Some(&one.item) != item);
        if policies.concerns(&whole) {
            subjects.insert(whole);
        }
    }
    // What databases cannot have as a key.
    subjects.retain(|one| one.item.len().max(one.kind.len()) <= LONGEST_NAME);
    subjects.retain(|one| !one.item.contains('\0') && !one.kind.contains('\0'));
    subjects
}
