//! `/releases` and `/release`: what releases wait for.

use super::frame::{Badge, Frame, Moment, percent_encoded};
use super::results::item_href;
use crate::api::releases::WaitsQuery;
use crate::app::App;
use crate::fault::Fault;
use askama::Template;
use assay_proto::api::releases::{ReleaseStanding, WaitingItem};
use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Requirements of an item that are shown at once.
const SHOWN: usize = 5;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/releases", get(list)).route("/release", get(show))
}

/// Where a release's page is.
pub(super) fn release_href(version: &str) -> String {
    format!("/release?version={}", percent_encoded(version))
}

struct ReleaseRow {
    release: ReleaseStanding,
    href: String,
    last: Option<Moment>,
}

#[derive(Template)]
#[template(path = "releases.html")]
struct ReleasesPage {
    frame: Frame,
    rows: Vec<ReleaseRow>,
}

async fn list(State(app): State<Arc<App>>) -> Response {
    super::page(&app, build_list(&app).await)
}

async fn build_list(app: &App) -> Result<ReleasesPage, Fault> {
    let now = app.clock.now();
    let row = |release: ReleaseStanding| ReleaseRow {
        href: release_href(&release.product_version),
        last: release.last.as_deref().map(|at| Moment::of_text(at, now)),
        release,
    };
    let rows = app.release_standings().await?.into_iter().map(row).collect();
    Ok(ReleasesPage { frame: Frame::new(now), rows })
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ReleaseQuery {
    version: String,
    context: String,
}

struct UnmetRow {
    badge: Badge,
    testcase: String,
    scenario: String,
}

struct ItemRow {
    href: String,
    since: Moment,
    shown: Vec<UnmetRow>,
    others: Vec<UnmetRow>,
    item: WaitingItem,
}

#[derive(Template)]
#[template(path = "release.html")]
struct ReleasePage {
    frame: Frame,
    version: String,
    contexts: Vec<(String, bool)>,
    rows: Vec<ItemRow>,
    more: bool,
}

async fn show(State(app): State<Arc<App>>, Query(query): Query<ReleaseQuery>) -> Response {
    super::page(&app, build(&app, query).await)
}

async fn build(app: &App, query: ReleaseQuery) -> Result<ReleasePage, Fault> {
    let now = app.clock.now();
    let (version, context) = (query.version.trim().to_owned(), query.context.trim().to_owned());
    let asked = WaitsQuery { context: Some(context.clone()), limit: None };
    let found = app.release_waits(&version, &asked).await?;
    let mut contexts: BTreeSet<String> = found.items.iter().map(|item| item.context.clone()).collect();
    if !context.is_empty() {
        contexts.insert(context.clone());
    }
    let row = |item: WaitingItem| {
        let mut unmet: Vec<UnmetRow> = item
            .waits_for
            .iter()
            .map(|one| UnmetRow {
                badge: Badge::of(match one.what.as_str() {
                    "test-result-missing" => "missing",
                    "test-result-errored" => "crashed",
                    _ => "failed",
                }),
                testcase: one.testcase.clone(),
                scenario: one.scenario.clone().unwrap_or_default(),
            })
            .collect();
        // One that would be alone among the others is shown with the rest.
        let others = if unmet.len() > SHOWN + 1 { unmet.split_off(SHOWN) } else { Vec::new() };
        ItemRow {
            href: item_href(&item.item_type, &item.item),
            since: Moment::of_text(&item.since, now),
            shown: unmet,
            others,
            item,
        }
    };
    Ok(ReleasePage {
        frame: Frame::new(now),
        version,
        contexts: contexts
            .into_iter()
            .map(|one| (one == context, one))
            .map(|(chosen, one)| (one, chosen))
            .collect(),
        more: found.more,
        rows: found.items.into_iter().map(row).collect(),
    })
}
