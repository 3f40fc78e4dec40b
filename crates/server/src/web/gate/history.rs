//! `/jobs/NAME/history`: how long a job of the gate takes, how it ends, and how often one tree gives two results.

use crate::app::App;
use crate::fault::Fault;
use crate::web::frame::{Badge, Frame, Moment, percent_encoded, span};
use askama::Template;
use assay_engine::gate::history;
use assay_engine::gate::ids::{JobName, Oid, ProjectName};
use assay_engine::gate::io::BuildResult;
use assay_engine::ids::Timestamp;
use assay_engine::outcome::OutcomeClass;
use assay_store::StoredBuild;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Builds that the figures are of, and that are shown.
const BUILDS: u32 = 500;
const SHOWN: usize = 100;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Paging {
    /// Only builds asked for before this time, microseconds.
    before: Option<i64>,
}

#[derive(Template)]
#[template(path = "job_history.html")]
struct HistoryPage {
    frame: Frame,
    name: String,
    figures: Figures,
    bars: Vec<Bar>,
    rows: Vec<Row>,
    older: Option<String>,
    is_first: bool,
}

/// What the builds say together.
#[derive(Debug, PartialEq, Eq)]
struct Figures {
    builds: usize,
    passed: usize,
    failed: usize,
    infrastructure: usize,
    /// Of the successes.
    p50: Option<i64>,
    p90: Option<i64>,
    flakes: Flakes,
}

/// How often one tree gave different results.
#[derive(Debug, Default, PartialEq, Eq)]
struct Flakes {
    trees: usize,
    /// Tested more than once.
    repeated: usize,
    /// Of these, with successes and failures.
    flaky: usize,
}

/// A build as a bar: how long it took, and how it ended.
struct Bar {
    x: usize,
    y: usize,
    height: usize,
    kind: &'static str,
    title: String,
}

struct Row {
    badge: Badge,
    word: String,
    reason: String,
    item: i64,
    project: String,
    branch: String,
    pipeline: String,
    log: Option<String>,
    href: Option<String>,
    subject: String,
    took: String,
    at: Moment,
    flaky: bool,
}

/// `GET /jobs/{name}/history`
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(paging): Query<Paging>,
) -> Response {
    let rendered = build(&app, &name, &paging).await;
    crate::web::page(&app, rendered)
}

async fn build(app: &App, name: &str, paging: &Paging) -> Result<HistoryPage, Fault> {
    let job = JobName::from(name);
    let before = paging.before.map(Timestamp);
    let builds = app.store.gate().builds_of_job(&job, before, BUILDS).await?;
    if builds.is_empty() && before.is_none() && !app.gate().config.jobs.contains_key(&job) {
        return Err(Fault::not_found(
            format!("There is no job {name:?} in the gate."),
            "See the pipelines for the jobs that there are.",
        ));
    }
    let now = app.clock.now();
    let flaky = flaky_trees(&builds);
    let mut rows = Vec::new();
    for build in builds.iter().take(SHOWN) {
        let item = app.store.gate().item(build.item).await?;
        let subject = item.as_ref().map(|item| item.subject.to_string()).unwrap_or_default();
        let result = build.result.as_ref();
        rows.push(Row {
            badge: Badge::of(kind(build)),
            word: result.map(|result| result.word.clone()).unwrap_or_default(),
            reason: result.and_then(|result| result.reason.clone()).unwrap_or_default(),
            item: build.item.0,
            project: build.project.to_string(),
            branch: build.branch.to_string(),
            pipeline: build.pipeline.to_string(),
            log: item.as_ref().and_then(|item| crate::api::gate_view::stored_build(item, build).log),
            href: item.as_ref().and_then(|item| super::board::change_href(item)),
            subject,
            took: took(build).map(span).unwrap_or_default(),
            at: Moment::new(build.asked_at, now),
            flaky: tree(build).is_some_and(|tree| flaky.contains_key(&tree)),
        });
    }
    let older = builds.get(SHOWN - 1).filter(|_| builds.len() > SHOWN);
    let mut frame = Frame::new(now);
    frame.gate = true;
    Ok(HistoryPage {
        frame,
        figures: figures(&builds),
        bars: bars(&builds),
        rows,
        older: older
            .map(|build| format!("/jobs/{}/history?before={}", percent_encoded(name), build.asked_at.0)),
        is_first: before.is_none(),
        name: name.to_owned(),
    })
}

fn kind(build: &StoredBuild) -> &'static str {
    match &build.result {
        None if build.started_at.is_some() => "none",
        None => "queued",
        Some(result) if result.is_success() => "passed",
        Some(result) if result.class == OutcomeClass::Infrastructure => "incomplete",
        Some(_) => "failed",
    }
}

fn took(build: &StoredBuild) -> Option<i64> {
    Some(build.ended_at?.micros_since(build.started_at?))
}

fn tree(build: &StoredBuild) -> Option<(ProjectName, Oid)> {
    Some((build.project.clone(), build.tree.clone()?))
}

/// A verdict on the tree: true for a success. What the infrastructure failed is none.
fn verdict(build: &StoredBuild) -> Option<bool> {
    let result = build.result.as_ref()?;
    let is_one = result.class != OutcomeClass::Infrastructure || result.is_success();
    is_one.then(|| BuildResult::is_success(result))
}

/// Trees with successes and failures.
fn flaky_trees(builds: &[StoredBuild]) -> BTreeMap<(ProjectName, Oid), (usize, usize)> {
    let mut trees = verdicts(builds);
    trees.retain(|_, (passed, failed)| *passed > 0 && *failed > 0);
    trees
}

fn verdicts(builds: &[StoredBuild]) -> BTreeMap<(ProjectName, Oid), (usize, usize)> {
    let mut trees: BTreeMap<_, (usize, usize)> = BTreeMap::new();
    for build in builds {
        let (Some(tree), Some(passed)) = (tree(build), verdict(build)) else { continue };
        let counts = trees.entry(tree).or_default();
        if passed { counts.0 += 1 } else { counts.1 += 1 }
    }
    trees
}

fn figures(builds: &[StoredBuild]) -> Figures {
    let successes: Vec<i64> =
        builds.iter().filter(|build| verdict(build) == Some(true)).filter_map(took).collect();
    let estimate = history::estimate(&successes);
    let trees = verdicts(builds);
    Figures {
        builds: builds.iter().filter(|build| build.result.is_some()).count(),
        passed: builds.iter().filter(|build| verdict(build) == Some(true)).count(),
        failed: builds.iter().filter(|build| verdict(build) == Some(false)).count(),
        infrastructure: builds
            .iter()
            .filter(|build| build.result.is_some() && verdict(build).is_none())
            .count(),
        p50: estimate.map(|estimate| estimate.p50_us),
        p90: estimate.map(|estimate| estimate.p90_us),
        flakes: Flakes {
            trees: trees.len(),
            repeated: trees.values().filter(|(passed, failed)| passed + failed > 1).count(),
            flaky: trees.values().filter(|(passed, failed)| *passed > 0 && *failed > 0).count(),
        },
    }
}

/// Bars of the chart, its width and its height in pixels.
const BARS: usize = 100;
const BAR: usize = 8;
const HEIGHT: usize = 90;

/// The latest builds, the newest at the right.
fn bars(builds: &[StoredBuild]) -> Vec<Bar> {
    let ended: Vec<_> = builds.iter().filter_map(|build| Some((build, took(build)?))).take(BARS).collect();
    let longest = ended.iter().map(|(_, took)| *took).max().unwrap_or(1).max(1);
    let bar = |(index, (build, took)): (usize, &(&StoredBuild, i64))| {
        let height = ((*took as f64 / longest as f64) * HEIGHT as f64).ceil().max(2.0) as usize;
        let word = build.result.as_ref().map(|result| result.word.as_str()).unwrap_or_default();
        Bar {
            x: (BARS - 1 - index) * BAR,
            y: HEIGHT - height,
            height,
            kind: kind(build),
            title: format!("{word} in {}", span(*took)),
        }
    };
    ended.iter().enumerate().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_engine::gate::ids::{ItemId, Uuid};

    fn build(tree: &str, result: Option<BuildResult>, seconds: i64) -> StoredBuild {
        StoredBuild {
            uuid: Uuid(1),
            item: ItemId(1),
            buildset: 1,
            job: "unit".into(),
            project: "p".into(),
            pipeline: "gate".into(),
            branch: "master".into(),
            voting: true,
            tree: (!tree.is_empty()).then(|| tree.into()),
            asked_at: Timestamp(0),
            started_at: Some(Timestamp(0)),
            ended_at: result.as_ref().map(|_| Timestamp(seconds * 1_000_000)),
            result,
        }
    }

    #[test]
    fn flakes_are_trees_with_both_results() {
        let (good, bad) = (|| Some(BuildResult::success()), || Some(BuildResult::failure()));
        let lost = || Some(BuildResult::lost("its worker vanished"));
        let builds = [
            build("a", good(), 10),
            build("a", bad(), 90),
            build("b", good(), 20),
            build("b", good(), 30),
            build("c", bad(), 1),
            build("d", good(), 40),
            build("d", lost(), 1),
            build("", good(), 50),
            build("e", None, 0),
        ];
        let figures = figures(&builds);
        assert_eq!(figures.flakes, Flakes { trees: 4, repeated: 2, flaky: 1 });
        assert_eq!((figures.passed, figures.failed, figures.infrastructure), (5, 2, 1));
        assert_eq!((figures.p50, figures.p90), (Some(30_000_000), Some(50_000_000)));
        assert_eq!(bars(&builds).len(), 8);
        assert!(bars(&builds).iter().all(|bar| bar.y + bar.height == HEIGHT && bar.x <= (BARS - 1) * BAR));
    }
}
