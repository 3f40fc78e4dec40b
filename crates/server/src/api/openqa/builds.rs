//! How the builds of a group did.

use super::params::Params;
use super::{Wrong, groups, number};
use crate::app::App;
use assay_engine::ids::{GroupId, Timestamp};
use assay_engine::knowledge::words;
use assay_engine::outcome::Outcome;
use assay_store::{CommentTarget, JobFilter, JobSummary};
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Builds that are told if nobody says how many, and at most.
const BUILDS: (usize, usize) = (10, 1_000);
/// The newest jobs that are looked through.
const JOBS: u32 = 25_000;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/job_groups/{id}/build_results", get(build_results))
}

/// What became of the jobs of a build. Of a scenario only its newest job counts.
#[derive(Debug, Default, PartialEq, Eq)]
struct Build {
    passed: usize,
    softfailed: usize,
    failed: usize,
    skipped: usize,
    unfinished: usize,
    newest: Timestamp,
    distris: BTreeSet<String>,
}

impl Build {
    fn count(&mut self, job: &JobSummary) {
        match job.outcome {
            None => self.unfinished += 1,
            Some(Outcome::Passed) => self.passed += 1,
            Some(Outcome::Softfailed) => self.softfailed += 1,
            Some(outcome) if outcome.is_aborted() => self.skipped += 1,
            Some(_) => self.failed += 1,
        }
        self.newest = self.newest.max(job.created_at);
        self.distris.extend(job.distri.clone());
    }

    fn total(&self) -> usize {
        self.passed + self.softfailed + self.failed + self.skipped + self.unfinished
    }
}

/// A build's version and name.
type Name = (String, String);

/// Counts jobs, which come the newest first.
fn by_build(jobs: &[JobSummary]) -> BTreeMap<Name, Build> {
    let (mut builds, mut seen) = (BTreeMap::<Name, Build>::new(), BTreeSet::new());
    for job in jobs {
        let Some(build) = job.build.clone() else { continue };
        let name = (job.version.clone().unwrap_or_default(), build);
        let scenario = [&job.distri, &job.flavor, &job.arch, &job.test, &job.machine];
        if seen.insert((name.clone(), scenario.map(Clone::clone))) {
            builds.entry(name).or_default().count(job);
        }
    }
    builds
}

async fn build_results(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let id = number(&id)?;
    let catalog = app.library.now();
    let group = catalog.groups.get(&id).ok_or_else(groups::no_group)?;
    let most = params.number("limit_builds")?.unwrap_or(BUILDS.0).min(BUILDS.1);
    let filter = JobFilter { groups: vec![Some(GroupId(id))], limit: JOBS, ..JobFilter::default() };
    let mut builds: Vec<_> = by_build(&app.store.summaries(&filter).await?).into_iter().collect();
    if let Some(days) = params.number::<f64>("time_limit_days")? {
        let oldest = app.clock.now().plus_seconds(-(days * 86_400.0) as i64);
        builds.retain(|(_, build)| build.newest >= oldest);
    }
    let comments = app.store.knowledge().comments(CommentTarget::Group(id)).await?;
    let tags = words::tagged(GroupId(id), comments.iter().map(|said| said.text.as_str()));
    let is_tagged = |(version, build): &Name| tags.iter().any(|tag| tag.is_of(version, build));
    if params.flag("only_tagged") {
        builds.retain(|(name, _)| is_tagged(name));
    }
    builds.sort_by(|a, b| (b.1.newest, &b.0).cmp(&(a.1.newest, &a.0)));
    builds.truncate(most);
    let max_jobs = builds.iter().map(|(_, build)| build.total()).max().unwrap_or(0);
    let told = builds.iter().map(|(name, build)| {
        let (version, number) = name;
        let total = build.total();
        json!({
            "key": format!("{version}-{number}"),
            "build": number,
            "version": version,
            "distris": build.distris.iter().map(|distri| (distri.clone(), json!(1))).collect::<serde_json::Map<_, _>>(),
            "escaped_build": crate::web::frame::percent_encoded(number),
            "escaped_version": crate::web::frame::percent_encoded(version),
            "date": super::at(build.newest),
            "passed": build.passed,
            "softfailed": build.softfailed,
            "failed": build.failed,
            "skipped": build.skipped,
            "unfinished": build.unfinished,
            "total": total,
            "all_passed": i64::from(build.passed == total),
            "tagged": i64::from(is_tagged(name)),
        })
    });
    Ok(Json(json!({
        "group": groups::group(&catalog, group),
        "build_results": told.collect::<Vec<_>>(),
        "max_jobs": max_jobs,
    })))
}
