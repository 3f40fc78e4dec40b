//! Decisions about what results are of: asked for, and made again whenever something new is known.

use super::conventions;
use crate::app::App;
use assay_engine::decision::{Decision, Found, Known, Question, Subject, Template, Waived, decide};
use assay_engine::ids::Timestamp;
use assay_engine::report::{DecisionFact, Fact, FactKind};
use assay_store::{
    Condition, DecisionRow, Evidence, EvidenceFilter, NewEntry, NewResult, StoreError, StoredResult, Waiver,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Subjects of which something new is known.
#[derive(Debug, Default)]
pub(crate) struct News {
    subjects: Mutex<BTreeSet<Subject>>,
    come: Notify,
}

/// Earlier decisions that are looked at to know what is asked of a subject.
const ASKED: u32 = 50;
/// Results whose subjects are decided about again at the start: what came just before the end may not have been.
const AT_START: u32 = 500;

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
}

/// The requirements without what changes although nothing changes: the numbers of results.
fn remembered(decision: &Decision) -> String {
    let one = |requirement: &assay_engine::decision::Requirement| -> Value {
        json!({
            "type": requirement.word(),
            "testcase": requirement.testcase,
            "scenario": requirement.scenario,
            "architecture": requirement.result.as_ref().and_then(|result| result.architecture.clone()),
            "waiver": requirement.waiver,
        })
    };
    Value::from(decision.requirements.iter().map(one).collect::<Vec<_>>()).to_string()
}

impl App {
    /// What is known of a subject at one moment; with `until`, as it was then.
    pub(crate) async fn evidence_of(
        &self,
        subject: &Subject,
        until: Option<Timestamp>,
    ) -> Result<Evidence, StoreError> {
        let kind = self.results.settings().decisions.subject_type(&subject.kind);
        let query = |query: BTreeMap<String, Vec<String>>| {
            query.into_iter().map(|(key, values)| Condition::data(&key, values)).collect::<Vec<_>>()
        };
        let filter = EvidenceFilter {
            any: kind.queries(&subject.item).into_iter().map(query).collect(),
            testcases: Vec::new(),
            subject_types: kind.names(),
            subject_identifier: subject.item.clone(),
            until,
        };
        self.store.results().evidence(&filter).await
    }

    /// Decides. With `as_of`, as it would have been decided then.
    pub(crate) async fn decide(
        &self,
        question: &Question,
        as_of: Option<Timestamp>,
    ) -> Result<Decided, StoreError> {
        let mut evidence = Vec::new();
        for subject in &question.subjects {
            evidence.push(self.evidence_of(subject, as_of).await?);
        }
        let known: Vec<Known> = evidence.iter().map(known).collect();
        let known = self.with_elsewhere(question, &known).await;
        let decision = self.decide_from(question, &known, &templates(&self.library.now()));
        Ok(Decided { decision, evidence })
    }

    fn decide_from(&self, question: &Question, known: &[Known], templates: &[Template]) -> Decision {
        decide(&self.results.settings().decisions, question, known, templates)
    }

    /// These results have been stored.
    pub(crate) fn found(&self, results: &[NewResult]) {
        if self.results.settings().decisions.policies.is_empty() {
            return;
        }
        self.heard(results.iter().filter_map(|result| conventions::subject_of(&result.data)));
    }

    /// Something new is known of these.
    pub(crate) fn heard(&self, subjects: impl Iterator<Item = Subject>) {
        let news = &self.results.news;
        let mut waiting = news.subjects.lock().unwrap_or_else(PoisonError::into_inner);
        let before = waiting.len();
        waiting.extend(subjects);
        if waiting.len() > before {
            news.come.notify_one();
        }
    }

    /// Remembers a decision about one subject if it is another one than before.
    pub(crate) async fn remember(
        &self,
        subject: &Subject,
        product_version: &str,
        context: &str,
        decision: &Decision,
    ) -> Result<bool, StoreError> {
        let row = DecisionRow {
            at: self.clock.now(),
            subject_type: subject.kind.clone(),
            subject_identifier: subject.item.clone(),
            product_version: product_version.to_owned(),
            context: context.to_owned(),
            satisfied: decision.is_satisfied(),
            summary: decision.summary(),
            body: remembered(decision),
        };
        let told = self.told_of_decision(&row, decision).await?;
        let new = self.store.results().remember_told_decision(self.results.epoch(), &row, &told).await?;
        self.reporting.stored(told.iter().map(|entry| entry.target.as_str()));
        Ok(new)
    }

    /// What is told of a decision if it is another one than before.
    async fn told_of_decision(
        &self,
        row: &DecisionRow,
        decision: &Decision,
    ) -> Result<Vec<NewEntry>, StoreError> {
        if !self.reporting.wants(FactKind::DecisionUpdate) {
            return Ok(Vec::new());
        }
        let kinds = std::slice::from_ref(&row.subject_type);
        let earlier = self.store.results().decisions(kinds, &row.subject_identifier, ASKED).await?;
        let same =
            |one: &&DecisionRow| one.product_version == row.product_version && one.context == row.context;
        let before = earlier.iter().find(same);
        if before.is_some_and(|before| before.body == row.body) {
            return Ok(Vec::new());
        }
        let fact = Fact::DecisionUpdate(DecisionFact {
            subject_type: row.subject_type.clone(),
            subject_identifier: row.subject_identifier.clone(),
            product_version: row.product_version.clone(),
            context: row.context.clone(),
            satisfied: row.satisfied,
            summary: row.summary.clone(),
            decision: crate::api::decision::told(decision, &self.results.settings().decisions),
            before: before.map(|before| (before.satisfied, before.summary.clone())),
            at: row.at.0,
        });
        Ok(self.reporting.entries(&[fact], row.at))
    }

    /// The same where a failure only means that the history lacks an entry.
    pub(crate) async fn remember_when_leading(
        &self,
        subject: &Subject,
        product_version: &str,
        context: &str,
        decision: &Decision,
    ) {
        if let Err(error) = self.remember(subject, product_version, context, decision).await {
            tracing::warn!(item = subject.item, %error, "a decision cannot be remembered");
        }
    }

    /// For which releases and purposes this subject is decided about: those that were asked for, and those that policies
    /// name outright.
    pub(crate) async fn purposes(&self, subject: &Subject) -> Result<BTreeSet<(String, String)>, StoreError> {
        let settings = self.results.settings();
        let kind = settings.decisions.subject_type(&subject.kind);
        let asked = self.store.results().decisions(&kind.names(), &subject.item, ASKED).await?;
        let mut purposes: BTreeSet<_> =
            asked.into_iter().map(|row| (row.product_version, row.context)).collect();
        for policy in &settings.decisions.policies {
            let plain = |version: &&String| !version.contains(['*', '?', '[']);
            for version in policy.product_versions.iter().filter(plain) {
                for context in &policy.contexts {
                    let contexts = std::slice::from_ref(context);
                    if !settings.decisions.applicable(subject, version, contexts).is_empty() {
                        purposes.insert((version.clone(), context.clone()));
                    }
                }
            }
        }
        Ok(purposes)
    }

    async fn decide_again(&self, subject: &Subject) -> Result<(), StoreError> {
        let purposes = self.purposes(subject).await?;
        if purposes.is_empty() {
            return Ok(());
        }
        let known = [known(&self.evidence_of(subject, None).await?)];
        let templates = templates(&self.library.now());
        for (product_version, context) in purposes {
            let question = Question {
                product_version: product_version.clone(),
                contexts: vec![context.clone()],
                subjects: vec![subject.clone()],
                at: self.clock.now(),
                ..Question::default()
            };
            let known = self.with_elsewhere(&question, &known).await;
            let decision = self.decide_from(&question, &known, &templates);
            if self.remember(subject, &product_version, &context, &decision).await? {
                tracing::info!(item = subject.item, context, summary = decision.summary(), "decided anew");
            }
        }
        Ok(())
    }
}

/// Decides again whenever something new is known, until the server ends.
pub(crate) async fn follow(app: Arc<App>) {
    let filter = assay_store::ResultFilter { limit: AT_START, ..assay_store::ResultFilter::default() };
    if !app.results.settings().decisions.policies.is_empty()
        && let Ok(recent) = app.store.results().results(&filter).await
    {
        app.heard(recent.iter().filter_map(|result| conventions::subject_of(&result.values())));
    }
    loop {
        let next = app.results.news.subjects.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
        let Some(subject) = next else {
            tokio::select! {
                () = app.results.news.come.notified() => continue,
                () = app.shutdown.cancelled() => return,
            }
        };
        if let Err(error) = app.decide_again(&subject).await {
            tracing::warn!(item = subject.item, %error, "it cannot be decided anew; it will be when it is asked for");
        }
    }
}
