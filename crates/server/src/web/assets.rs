//! `/files`: images and other files that jobs read, how large they are, and what keeps them.

use super::frame::{Frame, Moment, bytes, percent_encoded};
use crate::app::App;
use crate::fault::Fault;
use askama::Template;
use assay_engine::ids::{GroupId, JobId};
use assay_store::{AssetId, AssetUse};
use axum::Router;
use axum::extract::{Query, State};
use axum::response::{Redirect, Response};
use axum::routing::get;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rows of the page.
const ROWS: usize = 1000;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/files", get(page))
        .route("/admin/assets", get(|| async { Redirect::permanent("/files") }))
}

#[derive(Debug, Default, Deserialize)]
struct FilesQuery {
    #[serde(default)]
    q: String,
    /// `going` for those that the next cleaning removes.
    #[serde(default)]
    show: String,
}

struct Row {
    name: String,
    href: String,
    size: String,
    groups: Vec<String>,
    last_job: Option<JobId>,
    used: Option<Moment>,
    fixed: bool,
    /// A newer file of the same name is what jobs get.
    replaced: bool,
    keep: bool,
    why: String,
}

struct GroupSum {
    name: String,
    count: usize,
    size: String,
    limit: Option<String>,
}

#[derive(Template)]
#[template(path = "assets.html")]
struct AssetsPage {
    frame: Frame,
    query: FilesQuery,
    rows: Vec<Row>,
    left_out: usize,
    groups: Vec<GroupSum>,
    total: String,
    going: String,
}

async fn page(State(app): State<Arc<App>>, Query(query): Query<FilesQuery>) -> Response {
    super::page(&app, build(&app, query).await)
}

async fn build(app: &App, query: FilesQuery) -> Result<AssetsPage, Fault> {
    let now = app.clock.now();
    let report = app.clean(true).await?;
    let verdicts: BTreeMap<i64, (bool, String)> = report
        .verdicts
        .into_iter()
        .filter_map(|verdict| Some((verdict.version?, (verdict.keep, verdict.why))))
        .collect();
    let mut uses: BTreeMap<AssetId, Vec<AssetUse>> = BTreeMap::new();
    for used in app.store.assets().asset_uses().await? {
        uses.entry(used.asset).or_default().push(used);
    }
    let catalog = app.library.now();
    let named = |group: Option<GroupId>| match group {
        None => "no group".to_owned(),
        Some(group) => {
            catalog.groups.get(&group.0).map_or(format!("group {group}"), |group| group.name.clone())
        }
    };
    let (mut rows, mut total, mut names) = (Vec::new(), 0, BTreeSet::new());
    let mut sums: BTreeMap<Option<GroupId>, (usize, u64)> = BTreeMap::new();
    for version in app.store.assets().assets().await? {
        total += version.blob.size;
        let users = uses.get(&version.id).map(Vec::as_slice).unwrap_or_default();
        for used in users {
            let sum = sums.entry(used.group).or_default();
            *sum = (sum.0 + 1, sum.1 + version.blob.size);
        }
        let (keep, why) = verdicts.get(&version.id.0).cloned().unwrap_or((true, String::new()));
        let name = version.asset.to_string();
        let replaced = !names.insert(version.asset.clone());
        let fits = name.to_lowercase().contains(&query.q.trim().to_lowercase());
        if !fits || (query.show == "going" && keep) {
            continue;
        }
        rows.push(Row {
            href: format!(
                "/api/assay/v1/assets/{}/{}/content?version={}",
                version.asset.kind.word(),
                percent_encoded(version.asset.name.as_str()),
                version.id.0
            ),
            name,
            size: bytes(version.blob.size),
            groups: users.iter().map(|used| named(used.group)).collect(),
            last_job: users.iter().map(|used| used.job).max(),
            used: version.used_at.map(|at| Moment::new(at, now)),
            fixed: version.fixed,
            replaced,
            keep,
            why,
        });
    }
    let left_out = rows.len().saturating_sub(ROWS);
    rows.truncate(ROWS);
    let sum = |(group, (count, size)): (Option<GroupId>, (usize, u64))| GroupSum {
        name: named(group),
        count,
        size: bytes(size),
        limit: group
            .and_then(|group| catalog.groups.get(&group.0))
            .and_then(|group| group.properties.size_limit_gb)
            .map(|limit| format!("{limit} GiB")),
    };
    Ok(AssetsPage {
        frame: Frame::new(now),
        groups: sums.into_iter().map(sum).collect(),
        total: bytes(total),
        going: bytes(report.bytes),
        rows,
        left_out,
        query,
    })
}
