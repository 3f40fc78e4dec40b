//! From policies and what is known to a decision.

use super::{
    Found, Known, PassingRule, Policies, Policy, Rule, Subject, SubjectType, Template, Waived, remote,
};
use crate::ids::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// For which release.
    pub product_version: String,
    /// What is to be done: the policies for any of these count. Empty if `rules` are given.
    pub contexts: Vec<String>,
    /// These rules instead of policies.
    pub rules: Option<Vec<Rule>>,
    /// What is decided about.
    pub subjects: Vec<Subject>,
    /// Results that do not count.
    pub ignored_results: BTreeSet<i64>,
    /// Waivers that do not count.
    pub ignored_waivers: BTreeSet<i64>,
    /// When.
    pub at: Timestamp,
}

/// What became of a requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The newest result is good.
    Passed,
    /// There is no result, or the newest says that there will be one.
    Missing,
    /// The newest result is bad.
    Failed,
    /// The test could not be carried out.
    Errored,
    /// The file of rules that the package brings was read.
    FileFetched,
    /// It is not there and has to be.
    FileMissing,
    /// It is wrong.
    FileInvalid,
    /// Nobody can say whether it is there.
    FileUnreachable,
    /// A policy leaves the package out.
    Excluded,
}

impl Verdict {
    /// Of an outcome.
    fn of(outcome: &str) -> Self {
        match outcome {
            "PASSED" | "INFO" => Self::Passed,
            "QUEUED" | "RUNNING" => Self::Missing,
            "ERROR" => Self::Errored,
            _ => Self::Failed,
        }
    }

    /// Greenwave's word for it.
    pub fn word(self, waived: bool) -> &'static str {
        match (self, waived) {
            (Self::Passed, _) => "test-result-passed",
            (Self::Missing, false) => "test-result-missing",
            (Self::Missing, true) => "test-result-missing-waived",
            (Self::Failed, false) => "test-result-failed",
            (Self::Failed, true) => "test-result-failed-waived",
            (Self::Errored, false) => "test-result-errored",
            (Self::Errored, true) => "test-result-errored-waived",
            (Self::FileFetched, _) => "fetched-gating-yaml",
            (Self::FileMissing, false) => "missing-gating-yaml",
            (Self::FileMissing, true) => "missing-gating-yaml-waived",
            (Self::FileInvalid, false) => "invalid-gating-yaml",
            (Self::FileInvalid, true) => "invalid-gating-yaml-waived",
            (Self::FileUnreachable, false) => "failed-fetch-gating-yaml",
            (Self::FileUnreachable, true) => "failed-fetch-gating-yaml-waived",
            (Self::Excluded, _) => "excluded",
        }
    }
}

/// A requirement and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Whose.
    pub subject: Subject,
    /// The test case.
    pub testcase: String,
    /// Where: as the rule says, or as the result does.
    pub scenario: Option<String>,
    /// Where, as the rule says.
    pub required_in: Option<String>,
    /// The newest result, if there is one.
    pub result: Option<Found>,
    /// What became of it.
    pub verdict: Verdict,
    /// The waiver by which it is fulfilled nevertheless.
    pub waiver: Option<i64>,
    /// The policies that require it.
    pub policies: Vec<String>,
    /// Of a file of rules: which one. Its test case is what became of it, by which it can be waived.
    pub file: Option<GatingFile>,
}

/// A file of rules that a package brings, or should.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GatingFile {
    /// Where it is, or was looked for.
    pub sources: Vec<String>,
    /// What is wrong.
    pub why: Option<String>,
}

impl GatingFile {
    /// What is wrong, else where it is or was looked for.
    pub fn remark(&self) -> String {
        self.why.clone().unwrap_or_else(|| self.sources.join(", "))
    }
}

impl Requirement {
    /// One that no test fulfils: its test case is what became of it.
    pub(super) fn untested(subject: &Subject, verdict: Verdict, policies: Vec<String>) -> Self {
        Self {
            subject: subject.clone(),
            testcase: verdict.word(false).to_owned(),
            scenario: None,
            required_in: None,
            result: None,
            verdict,
            waiver: None,
            policies,
            file: None,
        }
    }

    /// True if it is fulfilled.
    pub fn is_satisfied(&self) -> bool {
        matches!(self.verdict, Verdict::Passed | Verdict::FileFetched | Verdict::Excluded)
            || self.waiver.is_some()
    }

    /// True if it is a test that has to pass, and neither a file of rules nor that a package is left out.
    pub fn is_test(&self) -> bool {
        self.file.is_none() && self.verdict != Verdict::Excluded
    }

    /// Greenwave's word for what became of it.
    pub fn word(&self) -> &'static str {
        self.verdict.word(self.waiver.is_some())
    }
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// Every requirement, in the order of the policies.
    pub requirements: Vec<Requirement>,
    /// The policies that apply.
    pub policies: Vec<String>,
    /// Subjects that no policy applies to although one should.
    pub uncovered: Vec<Subject>,
}

impl Decision {
    /// May it go on?
    pub fn is_satisfied(&self) -> bool {
        self.requirements.iter().all(Requirement::is_satisfied)
    }

    /// One sentence about the tests, after one about files of rules if there is trouble with them.
    pub fn summary(&self) -> String {
        let (tests, others): (Vec<_>, Vec<_>) = self.requirements.iter().partition(|one| one.is_test());
        let mut said = Vec::new();
        for (verdict, what) in [
            (Verdict::FileMissing, "missing remote rule file"),
            (Verdict::FileInvalid, "invalid remote rule file"),
            (Verdict::FileUnreachable, "failed fetch of remote rule file"),
        ] {
            match others.iter().filter(|one| !one.is_satisfied() && one.verdict == verdict).count() {
                0 => {}
                1 => said.push(format!("1 error due to {what}")),
                count => said.push(format!("{count} errors due to {what}s")),
            }
        }
        said.push(Self::summary_of(&tests));
        said.join(". ")
    }

    fn summary_of(tests: &[&Requirement]) -> String {
        let total = tests.len();
        if total == 0 {
            return "No tests are required".to_owned();
        }
        if tests.iter().all(|test| test.is_satisfied()) {
            return format!("All required tests ({total} total) have passed or been waived");
        }
        let s = |count: usize| if count == 1 { "" } else { "s" };
        let mut parts = vec![format!("Of {total} required test{}", s(total))];
        for (verdict, one, many) in [
            (Verdict::Errored, "error", "errors"),
            (Verdict::Missing, "result missing", "results missing"),
            (Verdict::Failed, "test failed", "tests failed"),
        ] {
            let open =
                |requirement: &&&Requirement| !requirement.is_satisfied() && requirement.verdict == verdict;
            match tests.iter().filter(open).count() {
                0 => {}
                1 => parts.push(format!("1 {one}")),
                count => parts.push(format!("{count} {many}")),
            }
        }
        parts.join(", ")
    }
}

/// What rules require of a subject, each once, with the policies that say so.
fn required(
    rules: &[(&str, &Rule)],
    kind: &str,
    templates: &[Template],
    at: Timestamp,
) -> Vec<(PassingRule, Vec<String>)> {
    let mut required: Vec<(PassingRule, Vec<String>)> = Vec::new();
    let mut place: BTreeMap<PassingRule, usize> = BTreeMap::new();
    let mut add = |policy: &str, rule: PassingRule| {
        let at = *place.entry(rule.clone()).or_insert_with(|| {
            required.push((rule, Vec::new()));
            required.len() - 1
        });
        if !policy.is_empty() && !required[at].1.iter().any(|other| other == policy) {
            required[at].1.push(policy.to_owned());
        }
    };
    for (policy, rule) in rules {
        match rule {
            Rule::Passing(rule) => {
                if rule.is_valid(at) {
                    let (testcase, scenario) = (rule.testcase.clone(), rule.scenario.clone());
                    add(policy, PassingRule { testcase, scenario, ..PassingRule::default() });
                }
            }
            // In its place is what its file says.
            Rule::Remote(_) => {}
            Rule::Templates(rule) => {
                for template in templates.iter().filter(|template| rule.fits(template)) {
                    let testcase = format!("{}.{}", space(kind), template.testcase);
                    let scenario = template.scenario.clone();
                    add(policy, PassingRule { testcase, scenario, ..PassingRule::default() });
                }
            }
        }
    }
    required
}

/// What the names of test cases begin with for a kind of subject, where that is not the kind's own name.
pub fn space(kind: &str) -> &str {
    match kind {
        "bodhi_update" => "update",
        "change" | "git_commit" => "gate",
        other => other,
    }
}

/// Decides. `known` has what is known of each subject of the question, in that order.
pub fn decide(policies: &Policies, question: &Question, known: &[Known], templates: &[Template]) -> Decision {
    let mut decision = Decision::default();
    for (subject, known) in question.subjects.iter().zip(known) {
        let kind = policies.subject_type(&subject.kind);
        let of_policies = policies.applicable(subject, &question.product_version, &question.contexts);
        if question.rules.is_none() {
            if of_policies.is_empty() && !kind.ignore_missing_policy {
                decision.uncovered.push(subject.clone());
            }
            for policy in &of_policies {
                if !decision.policies.contains(&policy.id) {
                    decision.policies.push(policy.id.clone());
                }
            }
            decision.requirements.extend(excluded(subject, &kind, &of_policies));
        }
        let rules = taken(&of_policies, question, subject, &kind);
        let remote::Expanded { rules, files } = remote::expand(rules, subject, &kind, known, question);
        decision.requirements.extend(files);
        let at = known.built_at.unwrap_or(question.at);
        for (rule, by) in required(&rules, &kind.id, templates, at) {
            for mut requirement in judge(subject, &rule, known, question) {
                requirement.policies.clone_from(&by);
                decision.requirements.push(requirement);
            }
        }
    }
    decision
}

/// The rules by which is decided about a subject, with the policies that they are of: the question's own are of none.
pub(super) fn taken<'a>(
    of_policies: &[&'a Policy],
    question: &'a Question,
    subject: &Subject,
    kind: &SubjectType,
) -> Vec<(Option<&'a Policy>, &'a Rule)> {
    if let Some(rules) = &question.rules {
        return rules.iter().map(|rule| (None, rule)).collect();
    }
    let taken = of_policies.iter().copied().filter(|policy| policy.takes_in(kind, subject));
    taken.flat_map(|policy| policy.rules.iter().map(move |rule| (Some(policy), rule))).collect()
}

/// What stands for the rules of policies that leave the subject's package out.
fn excluded(subject: &Subject, kind: &SubjectType, policies: &[&Policy]) -> Option<Requirement> {
    let by = policies.iter().filter(|policy| policy.excludes(kind, subject));
    let policies: Vec<String> = by.map(|policy| policy.id.clone()).collect();
    (!policies.is_empty()).then(|| Requirement::untested(subject, Verdict::Excluded, policies))
}

/// One requirement for each scenario, architecture and variant that there are results of; at least one.
fn judge(subject: &Subject, rule: &PassingRule, known: &Known, question: &Question) -> Vec<Requirement> {
    let mut seen = BTreeSet::new();
    let mut newest: Vec<&Found> = Vec::new();
    for result in &known.results {
        let fits = result.testcase == rule.testcase
            && rule.scenario.as_ref().is_none_or(|scenario| result.scenario.as_ref() == Some(scenario))
            && !question.ignored_results.contains(&result.id);
        if fits && seen.insert((&result.scenario, &result.architecture, &result.variant)) {
            newest.push(result);
        }
    }
    let requirement = |result: Option<&Found>| {
        let scenario = rule.scenario.clone().or_else(|| result?.scenario.clone());
        let verdict = result.map_or(Verdict::Missing, |result| Verdict::of(&result.outcome));
        let waiver = match verdict {
            Verdict::Passed => None,
            _ => waiver(&rule.testcase, scenario.as_ref(), &known.waivers, question),
        };
        Requirement {
            subject: subject.clone(),
            testcase: rule.testcase.clone(),
            scenario,
            required_in: rule.scenario.clone(),
            result: result.cloned(),
            verdict,
            waiver,
            policies: Vec::new(),
            file: None,
        }
    };
    if newest.is_empty() {
        return vec![requirement(None)];
    }
    newest.into_iter().map(|result| requirement(Some(result))).collect()
}

/// The waiver that counts: of each scope (everywhere, this scenario) the newest says whether it still is one.
pub(super) fn waiver(
    testcase: &str,
    scenario: Option<&String>,
    waivers: &[Waived],
    question: &Question,
) -> Option<i64> {
    let of = |scope: Option<&String>| {
        let mut these = waivers.iter().filter(|waiver| {
            waiver.testcase == testcase
                && waiver.scenario.as_ref() == scope
                && waiver.product_version == question.product_version
                && !question.ignored_waivers.contains(&waiver.id)
        });
        these
            .next()
            .filter(|newest| newest.waived && newest.expires_at.is_none_or(|expires| question.at < expires))
    };
    let here = scenario.and_then(|scenario| of(Some(scenario)));
    here.or_else(|| of(None)).map(|waiver| waiver.id)
}
