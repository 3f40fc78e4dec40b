//! `/api/v1.0/decision`: Greenwave's API.

use super::resultsdb::{Wrong, object, parse_time, result_value};
use super::waivers::{self, old_subject};
use crate::app::App;
use crate::results::decisions::Decided;
use crate::results::{known, remote};
use assay_engine::decision::{
    Decision, PassingRule, Policies, Question, RemoteRule, Requirement, Rule, Subject, TemplateRule,
};
use assay_formats::policy;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use axum::response::Redirect;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Subjects in one question, and purposes.
const MOST: usize = 100;

pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1.0/decision", post(ask))
        .route("/api/v1.0/policies", get(policies))
        .route("/api/v1.0/subject_types", get(subject_types))
        .route("/api/v1.0/testcases", get(testcases))
        .route("/api/v1.0/validate-gating-yaml", post(validate))
        .route("/api/v1.0/about", get(about))
        .route("/api/v1.0/version", get(|| async { Redirect::to("/api/v1.0/about") }))
        .route("/api/v1.0/metrics", get(|| async { Redirect::temporary("/metrics") }))
        .route("/api/v1.0/config", get(config))
        .route("/api/v1.0", get(config))
        .route("/api/v1.0/", get(config))
        .route("/api/v1.0/{*rest}", axum::routing::any(|| async { Wrong::not_found("Not found") }))
}

async fn about() -> Json<Value> {
    Json(json!({ "version": env!("CARGO_PKG_VERSION"), "auth_method": "Bearer", "server": "Assay" }))
}

async fn config(State(app): State<Arc<App>>) -> Json<Value> {
    let settings = app.results.settings();
    let superusers = &settings.proxies;
    Json(json!({
        "superusers": superusers,
        "outcomes_passed": ["PASSED", "INFO"],
        "outcomes_error": ["ERROR"],
        "outcomes_incomplete": ["QUEUED", "RUNNING"],
        "distinct_latest_results_on": ["scenario", "system_architecture", "system_variant"],
        "policies": settings.decisions.policies.len(),
    }))
}

fn rule_shape(rule: &Rule) -> Value {
    match rule {
        Rule::Passing(PassingRule { testcase, scenario, valid_since, valid_until }) => json!({
            "rule": "PassingTestCaseRule",
            "test_case_name": testcase,
            "scenario": scenario,
            "valid_since": valid_since.map(super::resultsdb::moment),
            "valid_until": valid_until.map(super::resultsdb::moment),
        }),
        Rule::Remote(RemoteRule { sources, required }) => json!({
            "rule": "RemoteRule", "sources": sources, "required": required,
        }),
        Rule::Templates(TemplateRule { group, distri, version, flavor, arch, test }) => json!({
            "rule": "JobTemplates", "group": group, "distri": distri, "version": version, "flavor": flavor,
            "arch": arch, "test": test,
        }),
    }
}

async fn policies(State(app): State<Arc<App>>) -> Json<Value> {
    let settings = app.results.settings();
    let shapes = settings.decisions.policies.iter().map(|policy| {
        json!({
            "id": policy.id,
            "product_versions": policy.product_versions,
            "decision_context": policy.contexts.first(),
            "decision_contexts": policy.contexts,
            "subject_type": policy.subject_types.first(),
            "subject_types": policy.subject_types,
            "packages": policy.packages,
            "excluded_packages": policy.excluded_packages,
            "rules": policy.rules.iter().map(rule_shape).collect::<Vec<_>>(),
            "relevance_key": Value::Null,
            "relevance_value": Value::Null,
        })
    });
    Json(json!({ "policies": shapes.collect::<Vec<_>>() }))
}

async fn subject_types(State(app): State<Arc<App>>) -> Json<Value> {
    let settings = app.results.settings();
    let shapes = settings.decisions.subject_types.iter().map(|kind| {
        json!({
            "id": kind.id, "aliases": kind.aliases, "is_nvr": kind.is_nvr, "item_key": kind.item_key,
            "is_koji_build": kind.is_nvr, "ignore_missing_policy": kind.ignore_missing_policy,
            "result_queries": kind.result_queries,
        })
    });
    Json(json!({ "subject_types": shapes.collect::<Vec<_>>() }))
}

/// The test cases that a policy may name.
async fn testcases(State(app): State<Arc<App>>) -> Result<Json<Value>, Wrong> {
    Ok(Json(json!({ "testcases": known::tests(&app).await?.testcases })))
}

/// The body is a file of policies: 200 if it is right, 400 with everything that is wrong.
async fn validate(State(app): State<Arc<App>>, body: Bytes) -> Result<Json<Value>, Wrong> {
    let text = String::from_utf8(body.to_vec()).map_err(|_| Wrong::bad("The file is not UTF-8."))?;
    let known = known::all_tests(&app).await?;
    // As packages bring them, or as this server has them.
    let mut loaded = policy::load_remote("policy", &text, known.as_ref());
    if loaded.policies.is_none() {
        let ours = policy::load(&[("policy", &text)], known.as_ref());
        if ours.policies.is_some() {
            loaded = ours;
        }
    }
    let found: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
    match loaded.policies {
        None => Err(Wrong::bad(found.join("\n"))),
        Some(policies) if policies.policies.is_empty() => Err(Wrong::bad("No policies defined")),
        Some(_) if found.is_empty() => Ok(Json(json!({ "message": "All OK" }))),
        Some(_) => Ok(Json(json!({ "message": "All OK", "warnings": found }))),
    }
}

fn texts(map: &Map<String, Value>, key: &str) -> Result<Vec<String>, Wrong> {
    let wrong =
        || Wrong::part(key, map.get(key).unwrap_or(&Value::Null), "expected a text or a list of texts");
    match map.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text.clone()]),
        Some(Value::Array(list)) => {
            list.iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

fn numbers(map: &Map<String, Value>, key: &str) -> Result<BTreeSet<i64>, Wrong> {
    let wrong = || Wrong::part(key, map.get(key).unwrap_or(&Value::Null), "expected a list of numbers");
    match map.get(key) {
        None | Some(Value::Null) => Ok(BTreeSet::new()),
        Some(Value::Array(list)) => list.iter().map(|one| one.as_i64().ok_or_else(wrong)).collect(),
        Some(_) => Err(wrong()),
    }
}

fn subjects(map: &Map<String, Value>) -> Result<Vec<Subject>, Wrong> {
    let text = |key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
    let subjects = match (text("subject_type"), text("subject_identifier"), map.get("subject")) {
        (Some(kind), Some(item), None | Some(Value::Null)) => vec![Subject { kind, item }],
        // Who sends both means the list.
        (_, _, Some(Value::Array(list))) => list
            .iter()
            .map(|one| match one {
                Value::Object(one) => old_subject(one),
                other => Err(Wrong::part("subject", other, "expected a list of objects")),
            })
            .collect::<Result<_, _>>()?,
        (_, _, Some(other)) if !other.is_null() => {
            return Err(Wrong::part("subject", other, "Invalid subject, must be a list of items"));
        }
        (Some(_), None, _) => return Err(Wrong::bad("Missing required \"subject_identifier\" parameter")),
        (None, Some(_), _) => return Err(Wrong::bad("Missing required \"subject_type\" parameter")),
        _ => {
            return Err(Wrong::bad(
                "Missing required subject: send subject_type and subject_identifier, or subject.",
            ));
        }
    };
    match subjects.len() {
        0 => Err(Wrong::bad("The list of subjects is empty.")),
        count if count > MOST => {
            Err(Wrong::bad(format!("{count} subjects are too many; ask about at most {MOST}.")))
        }
        _ => Ok(subjects),
    }
}

/// A question as Greenwave takes it; whether the answer is to have the evidence; and as of when.
fn question(
    app: &App,
    map: &Map<String, Value>,
) -> Result<(Question, bool, Option<assay_engine::ids::Timestamp>), Wrong> {
    let product_version = match map.get("product_version") {
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        None => return Err(Wrong::bad("Missing required product version")),
        Some(other) => return Err(Wrong::part("product_version", other, "expected a text")),
    };
    let contexts: BTreeSet<String> = texts(map, "decision_context")?.into_iter().collect();
    if contexts.len() > MOST {
        let count = contexts.len();
        return Err(Wrong::bad(format!("{count} decision contexts are too many; ask for at most {MOST}.")));
    }
    let rules = match map.get("rules") {
        None | Some(Value::Null) => None,
        Some(Value::Array(list)) if list.is_empty() => None,
        Some(rules) => {
            let (read, found) = policy::load_rules("rules", &rules.to_string());
            let lines = || found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            let rules = read.ok_or_else(|| Wrong::bad(lines()))?;
            remote::may_be_asked(&app.results.settings().remote, &rules).map_err(Wrong::bad)?;
            Some(rules)
        }
    };
    match (contexts.is_empty(), rules.is_some()) {
        (true, false) => return Err(Wrong::bad("Either decision_context or rules is required.")),
        (false, true) => return Err(Wrong::bad("Cannot have both decision_context and rules")),
        _ => {}
    }
    let verbose = match map.get("verbose") {
        None => false,
        Some(Value::Bool(verbose)) => *verbose,
        Some(other) => return Err(Wrong::part("verbose", other, "Invalid verbose flag, must be a bool")),
    };
    let when = match map.get("when") {
        None | Some(Value::Null) => None,
        Some(value) => {
            let why = "Invalid \"when\" parameter, must be in ISO8601 format";
            Some(parse_time(value).ok_or_else(|| Wrong::part("when", value, why))?)
        }
    };
    let question = Question {
        product_version,
        contexts: contexts.into_iter().collect(),
        rules,
        subjects: subjects(map)?,
        ignored_results: numbers(map, "ignore_result")?,
        ignored_waivers: numbers(map, "ignore_waiver")?,
        at: when.unwrap_or_else(|| app.clock.now()),
    };
    Ok((question, verbose, when))
}

/// A subject as it was written before it had a type and an identifier.
pub(crate) fn item(subject: &Subject, policies: &Policies) -> Value {
    match policies.subject_type(&subject.kind).item_key.clone() {
        Some(key) => json!({ key: subject.item }),
        None => json!({ "type": subject.kind, "item": subject.item }),
    }
}

fn requirement(one: &Requirement, policies: &Policies) -> Value {
    let result = one.result.as_ref();
    let subject = &one.subject;
    let mut shape = json!({
        "type": one.word(),
        "testcase": one.testcase,
        "subject_type": subject.kind,
        "subject_identifier": subject.item,
        "scenario": one.scenario,
        "system_architecture": result.and_then(|result| result.architecture.clone()),
        "system_variant": result.and_then(|result| result.variant.clone()),
        "source": result.and_then(|result| result.source.clone()),
        "item": item(subject, policies),
        "policies": one.policies,
    });
    if let Some(result) = result {
        shape["result_id"] = result.id.into();
        if one.verdict == assay_engine::decision::Verdict::Errored {
            shape["error_reason"] = result.error_reason.clone().into();
        }
    }
    if let Some(file) = &one.file {
        let (key, value) = remote::told(one.verdict, file);
        shape[key] = value;
        shape["sources"] = json!(file.sources);
    }
    if let Some(waiver) = one.waiver {
        shape["waiver_id"] = waiver.into();
    }
    shape
}

/// A decision as Greenwave tells it, with the policies that it was made by.
pub(crate) fn told(decision: &Decision, policies: &Policies) -> Value {
    let requirement = |one: &Requirement| requirement(one, policies);
    let (satisfied, unsatisfied): (Vec<_>, Vec<_>) =
        decision.requirements.iter().partition(|requirement| requirement.is_satisfied());
    json!({
        "policies_satisfied": decision.is_satisfied(),
        "summary": decision.summary(),
        "satisfied_requirements": satisfied.into_iter().map(&requirement).collect::<Vec<_>>(),
        "unsatisfied_requirements": unsatisfied.into_iter().map(&requirement).collect::<Vec<_>>(),
        "applicable_policies": decision.policies,
    })
}

fn shape(decided: &Decided, question: &Question, base: Option<&str>, policies: &Policies) -> Value {
    let mut body = told(&decided.decision, policies);
    if question.rules.is_some()
        && let Some(body) = body.as_object_mut()
    {
        body.remove("applicable_policies");
    }
    if let Some(base) = base {
        let results = decided.evidence.iter().flat_map(|seen| &seen.results);
        body["results"] = results.map(|result| result_value(result, base)).collect();
        let waivers = decided.evidence.iter().flat_map(|seen| &seen.waivers);
        body["waivers"] =
            waivers.filter(|waiver| waivers::counts(waiver, question.at)).map(waivers::shape).collect();
    }
    body
}

async fn ask(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Wrong> {
    let map = object(&headers, body)?;
    let (question, verbose, when) = question(&app, &map)?;
    let decided = app.decide(&question, when).await?;
    // One that nobody has thought of does not go on with the others.
    if let Some(subject) = decided.decision.uncovered.first() {
        return Err(Wrong::not_found(format!(
            "Found no applicable policies for {} subjects at gate(s) {} in {}",
            subject.kind,
            question.contexts.join(", "),
            question.product_version
        )));
    }
    // What was asked now is the answer that counts from now on; questions about the past or with exceptions are not.
    let plain = when.is_none() && question.ignored_results.is_empty() && question.ignored_waivers.is_empty();
    if plain && let Err(error) = app.remember(&question, &decided).await {
        // The history lacks an entry; the answer is right all the same.
        tracing::warn!(%error, "a decision cannot be remembered");
    }
    let base = verbose.then(|| format!("{}/api/v2.0", super::resultsdb::origin(&headers)));
    Ok(Json(shape(&decided, &question, base.as_deref(), &decided.settings.decisions)))
}
