//! `releases`: what each waits for, by the newest decisions about its items.

use crate::app::App;
use crate::fault::Fault;
use crate::web::frame::rfc3339;
use assay_proto::api::releases as wire;
use assay_store::DecisionRow;
use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use std::sync::Arc;

/// Items in one answer.
const MOST: u32 = 1_000;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/releases", get(list)).route("/releases/{version}", get(show))
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WaitsQuery {
    pub(crate) context: Option<String>,
    pub(crate) limit: Option<u32>,
}

async fn list(State(app): State<Arc<App>>) -> Result<Json<Vec<wire::ReleaseStanding>>, Fault> {
    Ok(Json(app.release_standings().await?))
}

async fn show(
    State(app): State<Arc<App>>,
    Path(version): Path<String>,
    Query(query): Query<WaitsQuery>,
) -> Result<Json<wire::ReleaseWaits>, Fault> {
    Ok(Json(app.release_waits(&version, &query).await?))
}

/// A decision's requirements that are not fulfilled, as they were remembered.
fn unmet(row: &DecisionRow) -> Vec<wire::Unmet> {
    let body: serde_json::Value = serde_json::from_str(&row.body).unwrap_or_default();
    let one = |requirement: &serde_json::Value| {
        let what = requirement["type"].as_str()?;
        let open =
            !matches!(what, "test-result-passed" | "fetched-gating-yaml") && !what.ends_with("-waived");
        open.then(|| wire::Unmet {
            what: what.to_owned(),
            testcase: requirement["testcase"].as_str().unwrap_or_default().to_owned(),
            scenario: requirement["scenario"].as_str().map(str::to_owned),
        })
    };
    body.as_array().into_iter().flatten().filter_map(one).collect()
}

impl App {
    /// The releases about which something was decided.
    pub(crate) async fn release_standings(&self) -> Result<Vec<wire::ReleaseStanding>, Fault> {
        let one = |tally: assay_store::ReleaseTally| wire::ReleaseStanding {
            product_version: tally.product_version,
            waiting: tally.waiting,
            satisfied: tally.satisfied,
            last: tally.last.map(rfc3339),
        };
        Ok(self.store.results().releases().await?.into_iter().map(one).collect())
    }

    /// What a release waits for.
    pub(crate) async fn release_waits(
        &self,
        version: &str,
        query: &WaitsQuery,
    ) -> Result<wire::ReleaseWaits, Fault> {
        let limit = query.limit.unwrap_or(200).clamp(1, MOST);
        let context = query.context.as_deref().map(str::trim).filter(|context| !context.is_empty());
        let mut rows = self.store.results().waiting_decisions(version, context, limit + 1).await?;
        if rows.is_empty()
            && !self.store.results().releases().await?.iter().any(|one| one.product_version == version)
        {
            return Err(Fault::not_found(
                format!("Nothing was decided about the release {version:?}."),
                "See /releases for those that there are; something is decided when it is asked for, or when results come of what a policy for the release is about.",
            ));
        }
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let item = |row: DecisionRow| wire::WaitingItem {
            waits_for: unmet(&row),
            since: rfc3339(row.at),
            item_type: row.subject_type,
            item: row.subject_identifier,
            context: row.context,
            summary: row.summary,
        };
        let product_version = version.to_owned();
        Ok(wire::ReleaseWaits { product_version, items: rows.into_iter().map(item).collect(), more })
    }
}
