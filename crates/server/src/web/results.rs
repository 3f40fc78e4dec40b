//! `/results`: what was found; `/item`: everything known about what was tested.

use super::frame::{Badge, Frame, Moment, percent_encoded};
use crate::api::waivers::counts;
use crate::app::App;
use crate::fault::Fault;
use crate::results::decisions;
use askama::Template;
use assay_engine::decision::{GatingFile, Question, Requirement, Subject, Verdict};
use assay_engine::ids::Timestamp;
use assay_store::{Condition, Field, ResultFilter, StoredResult, Waiver};
use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Results of a page.
const PAGE: u32 = 50;
/// Rows of an item's table, and waivers.
const MOST: usize = 500;
/// Decisions of an item's history.
const HISTORY: u32 = 50;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/results", get(search)).route("/item", get(item))
}

fn badge(outcome: &str) -> Badge {
    Badge::of(match outcome {
        "PASSED" => "passed",
        "INFO" => "info",
        "FAILED" => "failed",
        "QUEUED" => "queued",
        "RUNNING" => "running",
        "CRASHED" | "ERROR" => "crashed",
        _ => "needs_inspection",
    })
}

/// Where everything about an item is.
pub(super) fn item_href(kind: &str, item: &str) -> String {
    format!("/item?type={}&item={}", percent_encoded(kind), percent_encoded(item))
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Search {
    q: String,
    testcase: String,
    item: String,
    outcome: String,
    page: u64,
}

struct Row {
    id: i64,
    badge: Badge,
    testcase: String,
    kind: String,
    item: String,
    scenario: String,
    note: String,
    at: Moment,
    href: Option<String>,
}

/// Only addresses that a browser may follow from here.
fn link(url: Option<&String>) -> Option<String> {
    url.filter(|url| url.starts_with("https://") || url.starts_with("http://")).cloned()
}

fn row(result: &StoredResult, now: Timestamp) -> Row {
    let values = result.values();
    let first = |key: &str| values.get(key).and_then(|list| list.first()).cloned().unwrap_or_default();
    Row {
        id: result.id.0,
        badge: badge(&result.outcome),
        testcase: result.testcase.clone(),
        kind: first("type"),
        item: first("item"),
        scenario: first("scenario"),
        note: result.note.clone().unwrap_or_default(),
        at: Moment::new(result.at, now),
        href: link(result.ref_url.as_ref()),
    }
}

impl Row {
    fn item_href(&self) -> String {
        item_href(&self.kind, &self.item)
    }
}

#[derive(Template)]
#[template(path = "results.html")]
struct SearchPage {
    frame: Frame,
    query: Search,
    outcomes: Vec<(String, bool)>,
    rows: Vec<Row>,
    narrowed: bool,
    newer: Option<String>,
    older: Option<String>,
}

fn search_href(query: &Search, page: u64) -> String {
    let words =
        [("testcase", &query.testcase), ("item", &query.item), ("outcome", &query.outcome), ("q", &query.q)];
    let words = words.into_iter().filter(|(_, value)| !value.trim().is_empty());
    let mut parts: Vec<String> =
        words.map(|(key, value)| format!("{key}={}", percent_encoded(value.trim()))).collect();
    if page > 0 {
        parts.push(format!("page={page}"));
    }
    if parts.is_empty() { "/results".to_owned() } else { format!("/results?{}", parts.join("&")) }
}

/// A text that may have `*`.
fn condition(field: Field, text: &str) -> Option<Condition> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    Some(if text.contains('*') {
        Condition { field, is: Vec::new(), like: vec![text.to_owned()] }
    } else {
        Condition::is(field, [text])
    })
}

async fn search(State(app): State<Arc<App>>, Query(query): Query<Search>) -> Response {
    super::page(&app, build_search(&app, query).await)
}

async fn build_search(app: &App, query: Search) -> Result<SearchPage, Fault> {
    let now = app.clock.now();
    let mut conditions: Vec<Condition> = Vec::new();
    conditions.extend(condition(Field::Testcase, &query.testcase));
    conditions.extend(condition(Field::Data("item".into()), &query.item));
    if !query.outcome.is_empty() {
        conditions.push(Condition::is(Field::Outcome, [query.outcome.as_str()]));
    }
    // `scenario=…`: anything that results say of themselves.
    for word in query.q.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap_or(("item", word));
        conditions.extend(condition(Field::Data(key.to_owned()), value));
    }
    let narrowed = !conditions.is_empty();
    let filter = ResultFilter {
        conditions,
        offset: query.page.min(100_000) * u64::from(PAGE),
        limit: PAGE + 1,
        ..ResultFilter::default()
    };
    let mut found = app.store.results().results(&filter).await?;
    let more = found.len() > PAGE as usize;
    found.truncate(PAGE as usize);
    let settings = app.results.settings();
    Ok(SearchPage {
        frame: Frame::new(now),
        outcomes: settings.outcomes().map(|word| (word.to_owned(), word == query.outcome)).collect(),
        rows: found.iter().map(|result| row(result, now)).collect(),
        narrowed,
        newer: query.page.checked_sub(1).map(|page| search_href(&query, page)),
        older: more.then(|| search_href(&query, query.page + 1)),
        query,
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ItemQuery {
    #[serde(rename = "type")]
    kind: String,
    item: String,
}

struct RequirementRow {
    badge: Badge,
    testcase: String,
    scenario: String,
    /// Of a file of rules: what is wrong with it, else where it is or was looked for.
    file: String,
    waiver: Option<String>,
    href: Option<String>,
    policies: String,
}

struct DecisionView {
    product_version: String,
    context: String,
    badge: Badge,
    summary: String,
    open: bool,
    requirements: Vec<RequirementRow>,
    release_href: String,
}

struct Cell {
    badge: Badge,
    at: Moment,
    note: String,
    href: Option<String>,
    mark: Option<Mark>,
}

/// The waiver that concerns a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    id: i64,
    /// A decision takes it in place of the result.
    waives: bool,
}

/// What waivers say of results.
struct Marks<'w> {
    /// Those that count, by test case and scenario.
    counting: BTreeMap<(&'w str, Option<&'w str>), i64>,
    /// Those that decisions took, by the result that did not fulfil a requirement.
    taken: BTreeMap<i64, i64>,
}

impl Marks<'_> {
    fn of(&self, result: &StoredResult, scenario: &str) -> Option<Mark> {
        if let Some(id) = self.taken.get(&result.id.0) {
            return Some(Mark { id: *id, waives: true });
        }
        let counts = |scenario| self.counting.get(&(result.testcase.as_str(), scenario));
        let id = counts(Some(scenario)).or_else(|| counts(None))?;
        Some(Mark { id: *id, waives: false })
    }
}

struct TestRow {
    testcase: String,
    /// What its scenarios have in common.
    scenario: String,
    scenarios: BTreeSet<String>,
    required: bool,
    /// By architecture, all that there are.
    cells: Vec<(String, Option<Cell>)>,
}

struct WaiverRow {
    id: i64,
    testcase: String,
    scenario: String,
    who: String,
    why: String,
    product_version: String,
    at: Moment,
    until: Option<String>,
    state: &'static str,
}

struct HistoryRow {
    at: Moment,
    product_version: String,
    context: String,
    badge: Badge,
    summary: String,
}

#[derive(Template)]
#[template(path = "item.html")]
struct ItemPage {
    frame: Frame,
    subject: Subject,
    decisions: Vec<DecisionView>,
    architectures: Vec<String>,
    tests: Vec<TestRow>,
    left_out: usize,
    waivers: Vec<WaiverRow>,
    history: Vec<HistoryRow>,
    results_href: String,
}

async fn item(State(app): State<Arc<App>>, Query(query): Query<ItemQuery>) -> Response {
    super::page(&app, build_item(&app, query).await)
}

async fn build_item(app: &App, query: ItemQuery) -> Result<ItemPage, Fault> {
    let now = app.clock.now();
    let subject = Subject { kind: query.kind, item: query.item };
    if subject.item.is_empty() || subject.kind.is_empty() {
        return Err(Fault::bad(
            "An item has a type and a name.",
            "Use /item?type=compose&item=NAME, or search in /results.",
        ));
    }
    let policies = app.results.settings().decisions.clone();
    let evidence = app.evidence_of(&policies, &subject).await?;
    let newest = app.store.results().newest_decisions(std::slice::from_ref(&subject.item)).await?;
    let purposes = decisions::purposes(&policies, &subject, &newest, &evidence);
    let kinds = policies.subject_type(&subject.kind).names();
    let history = app.store.results().decisions(&kinds, &subject.item, HISTORY).await?;
    if evidence.results.is_empty() && evidence.waivers.is_empty() && purposes.is_empty() {
        let error = format!("Nothing is known of {} {}.", subject.kind, subject.item);
        return Err(Fault::not_found(
            error,
            "Search in /results; type and name have to be exactly as results say.",
        ));
    }
    let counting = counting(&evidence.waivers, now);
    let mut marks = Marks { counting: BTreeMap::new(), taken: BTreeMap::new() };
    for waiver in evidence.waivers.iter().filter(|waiver| counting.contains(&waiver.id)) {
        let concerns = (waiver.testcase.as_str(), waiver.scenario.as_deref());
        marks.counting.entry(concerns).or_insert(waiver.id);
    }
    let mut decisions = Vec::new();
    let mut required: BTreeSet<(String, String)> = BTreeSet::new();
    for (product_version, context) in purposes {
        let question = Question {
            product_version: product_version.clone(),
            contexts: vec![context.clone()],
            subjects: vec![subject.clone()],
            at: now,
            ..Question::default()
        };
        let decision = app.decide(&question, None).await?.decision;
        let taken =
            decision.requirements.iter().filter_map(|one| Some((one.result.as_ref()?.id, one.waiver?)));
        marks.taken.extend(taken);
        let tests = decision.requirements.iter().filter(|one| one.is_test());
        required.extend(tests.map(|one| (one.testcase.clone(), one.scenario.clone().unwrap_or_default())));
        decisions.push(DecisionView {
            requirements: decision.requirements.iter().map(requirement_row).collect(),
            badge: Badge::of(if decision.is_satisfied() { "passed" } else { "waiting" }),
            summary: decision.summary(),
            open: !decision.is_satisfied(),
            release_href: super::releases::release_href(&product_version),
            product_version,
            context,
        });
    }
    let (architectures, mut tests) = table(&evidence.results, &marks, now);
    for row in &mut tests {
        let is_required = |scenario: &str| required.contains(&(row.testcase.clone(), scenario.to_owned()));
        row.required = is_required("") || row.scenarios.iter().any(|scenario| is_required(scenario));
    }
    for (testcase, scenario) in &required {
        let there = tests.iter().any(|row| {
            row.testcase == *testcase && (scenario.is_empty() || row.scenarios.contains(scenario))
        });
        if !there {
            let cells = architectures.iter().map(|arch| (arch.clone(), None)).collect();
            let (testcase, scenario) = (testcase.clone(), scenario.clone());
            tests.push(TestRow { testcase, scenario, scenarios: BTreeSet::new(), required: true, cells });
        }
    }
    let left_out = tests.len().saturating_sub(MOST);
    tests.truncate(MOST);
    let waivers = evidence.waivers.iter().take(MOST).map(|waiver| waiver_row(waiver, &counting, now));
    let history = history.into_iter().map(|row| HistoryRow {
        at: Moment::new(row.at, now),
        badge: Badge::of(if row.satisfied { "passed" } else { "waiting" }),
        product_version: row.product_version,
        context: row.context,
        summary: row.summary,
    });
    Ok(ItemPage {
        frame: Frame::new(now),
        decisions,
        architectures,
        tests,
        left_out,
        waivers: waivers.collect(),
        history: history.collect(),
        results_href: format!("/results?item={}", percent_encoded(&subject.item)),
        subject,
    })
}

fn requirement_row(one: &Requirement) -> RequirementRow {
    RequirementRow {
        badge: match &one.result {
            Some(result) => badge(&result.outcome),
            None => Badge::of(match one.verdict {
                Verdict::Passed | Verdict::FileFetched | Verdict::Excluded => "passed",
                Verdict::Missing | Verdict::FileMissing => "missing",
                Verdict::Failed | Verdict::FileInvalid => "failed",
                Verdict::Errored | Verdict::FileUnreachable => "crashed",
            }),
        },
        testcase: one.testcase.clone(),
        scenario: one.scenario.clone().unwrap_or_default(),
        file: one.file.as_ref().map(GatingFile::remark).unwrap_or_default(),
        waiver: one.waiver.map(|id| format!("waiver-{id}")),
        href: one.result.as_ref().map(|result| format!("/api/v2.0/results/{}", result.id)),
        policies: one.policies.join(", "),
    }
}

fn waiver_row(waiver: &Waiver, counting: &BTreeSet<i64>, now: Timestamp) -> WaiverRow {
    WaiverRow {
        id: waiver.id,
        testcase: waiver.testcase.clone(),
        scenario: waiver.scenario.clone().unwrap_or_default(),
        who: match &waiver.proxied_by {
            Some(proxy) => format!("{} by {proxy}", waiver.username),
            None => waiver.username.clone(),
        },
        why: waiver.comment.clone(),
        product_version: waiver.product_version.clone(),
        at: Moment::new(waiver.at, now),
        until: waiver.expires_at.map(|at| Moment::new(at, now).full),
        state: match (waiver.waived, counts(waiver, now)) {
            (false, _) => "taken back",
            (true, false) => "expired",
            (true, true) if counting.contains(&waiver.id) => "counts",
            (true, true) => "replaced",
        },
    }
}

/// The waivers that count. As for decisions, the newest of a test case, a scenario and a release says whether there still
/// is one.
fn counting(waivers: &[Waiver], now: Timestamp) -> BTreeSet<i64> {
    let mut seen = BTreeSet::new();
    // The newest come first.
    let newest = waivers
        .iter()
        .filter(|waiver| seen.insert((&waiver.testcase, &waiver.scenario, &waiver.product_version)));
    newest.filter(|waiver| counts(waiver, now)).map(|waiver| waiver.id).collect()
}

/// What scenarios of several architectures have in common, and the machine: of `fedora.Server-dvd-iso.x86_64.64bit`,
/// `fedora.Server-dvd-iso` and `64bit`.
fn without_arch<'s>(scenario: &'s str, arch: &str) -> Option<(&'s str, &'s str)> {
    let mut parts = scenario.rsplitn(3, '.');
    let (machine, of_scenario, rest) = (parts.next()?, parts.next()?, parts.next()?);
    (of_scenario == arch).then_some((rest, machine))
}

/// A result's scenario and architecture.
fn place_of(result: &StoredResult) -> (String, String) {
    let values = result.values();
    let first = |key: &str| values.get(key).and_then(|list| list.first()).cloned();
    let arch = first("system_architecture").or_else(|| first("arch")).unwrap_or_default();
    (first("scenario").unwrap_or_default(), arch)
}

/// A row's scenarios, and its cells by architecture.
type Line = (BTreeSet<String>, BTreeMap<String, Cell>);

/// The newest result of each test case and scenario by architecture: what differs in its architecture alone is a row. What
/// runs on several machines of an architecture is a row for each machine.
fn table(results: &[StoredResult], marks: &Marks<'_>, now: Timestamp) -> (Vec<String>, Vec<TestRow>) {
    let places: Vec<(String, String)> = results.iter().map(place_of).collect();
    let mut machines: BTreeMap<(&str, &str, &str), BTreeSet<&str>> = BTreeMap::new();
    for (result, (scenario, arch)) in results.iter().zip(&places) {
        if let Some((rest, machine)) = without_arch(scenario, arch) {
            machines.entry((&result.testcase, rest, arch)).or_default().insert(machine);
        }
    }
    let several: BTreeSet<(&str, &str)> = machines
        .iter()
        .filter(|(_, machines)| machines.len() > 1)
        .map(|((testcase, rest, _), _)| (*testcase, *rest))
        .collect();
    let mut architectures = BTreeSet::new();
    let mut newest: BTreeMap<(String, String), Line> = BTreeMap::new();
    for (result, (scenario, arch)) in results.iter().zip(&places) {
        architectures.insert(arch.clone());
        let label = match without_arch(scenario, arch) {
            Some((rest, machine)) if several.contains(&(&*result.testcase, rest)) => {
                format!("{rest} {machine}")
            }
            Some((rest, _)) => rest.to_owned(),
            None => scenario.clone(),
        };
        let (scenarios, cells) = newest.entry((result.testcase.clone(), label)).or_default();
        scenarios.insert(scenario.clone());
        // The newest come first.
        cells.entry(arch.clone()).or_insert_with(|| Cell {
            badge: badge(&result.outcome),
            at: Moment::new(result.at, now),
            note: result.note.clone().unwrap_or_default(),
            href: link(result.ref_url.as_ref()),
            mark: marks.of(result, scenario),
        });
    }
    let architectures: Vec<String> = architectures.into_iter().collect();
    let rows = newest.into_iter().map(|((testcase, scenario), (scenarios, mut cells))| TestRow {
        testcase,
        scenario,
        scenarios,
        required: false,
        cells: architectures.iter().map(|arch| (arch.clone(), cells.remove(arch))).collect(),
    });
    let rows = rows.collect();
    (architectures, rows)
}

#[cfg(test)]
mod tests {
    use super::without_arch;

    #[test]
    fn scenarios_without_their_architecture() {
        for (scenario, arch, expected) in [
            ("fedora.Server-dvd-iso.x86_64.64bit", "x86_64", Some(("fedora.Server-dvd-iso", "64bit"))),
            (
                "fedora.Minimal-raw_xz-raw.xz.aarch64.aarch64",
                "aarch64",
                Some(("fedora.Minimal-raw_xz-raw.xz", "aarch64")),
            ),
            ("fedora.Server-dvd-iso.x86_64.64bit", "aarch64", None),
            ("fedora.x86_64", "x86_64", None),
            ("", "", None),
        ] {
            assert_eq!(without_arch(scenario, arch), expected, "{scenario} {arch}");
        }
    }
}
