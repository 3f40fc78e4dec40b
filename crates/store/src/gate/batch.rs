//! Rows of the gate on their way into the database.

use super::{EventId, GATE_TARGET, StoredBuild, StoredBuildset};
use crate::codec::{Upsert, json, time};
use crate::error::StoreError;
use crate::outbox::{NewEntry, entry_statements};
use crate::sql::{Statement, Value};
use assay_engine::gate::config::ReportAction;
use assay_engine::gate::ids::{ItemId, Uuid};
use assay_engine::gate::io::Report;
use assay_engine::gate::item::{Build, Item, ItemJob, ItemPhase, MergeState};
use assay_engine::gate::rows::GateRow;
use assay_engine::ids::Timestamp;
use assay_engine::rows::JobRow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What one batch stores of the gate. Of several rows with one key the last is kept; of builds and buildsets, which an
/// item's row only shows for a time, every one that was ever in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct GateBatch {
    rows: BTreeMap<(&'static str, String), GateRow>,
    items: BTreeMap<ItemId, Arc<Item>>,
    buildsets: BTreeMap<(ItemId, u32), StoredBuildset>,
    builds: BTreeMap<Uuid, StoredBuild>,
    reports: BTreeMap<(ItemId, u32), Report>,
    /// What was caused, and the completed body.
    pub(crate) consumed: BTreeMap<EventId, (String, Option<String>)>,
}

impl GateBatch {
    pub(crate) fn push(&mut self, row: GateRow) {
        match row {
            GateRow::Item(item) => self.push_item(item),
            GateRow::Report(report) => drop(self.reports.insert(report.id, *report)),
            other => drop(self.rows.insert(other.key(), other)),
        }
    }

    fn push_item(&mut self, item: Arc<Item>) {
        let set = &item.buildset;
        let stored = StoredBuildset {
            number: set.number,
            identity: set.identity,
            ahead: item.ahead,
            on: set.on,
            because: set.because.clone(),
        };
        self.buildsets.insert((item.id, set.number), stored);
        for job in &set.jobs {
            for build in job.lost.iter().chain(own_build(job)) {
                self.builds.insert(build.uuid, stored_build(&item, job, build));
            }
        }
        self.items.insert(item.id, item);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.items.is_empty() && self.reports.is_empty() && self.consumed.is_empty()
    }

    pub(crate) fn last_item(&self) -> i64 {
        self.items.keys().last().map_or(0, |id| id.0)
    }

    pub(crate) fn last_autohold(&self) -> i64 {
        let holds = self.rows.values().filter_map(|row| match row {
            GateRow::Autohold(row) => Some(row.id),
            _ => None,
        });
        holds.max().unwrap_or(0)
    }

    pub(crate) fn statements(&self, at: Timestamp) -> Result<Vec<Statement>, StoreError> {
        let mut statements = Vec::new();
        let mut saved = Vec::new();
        for ((kind, key), row) in &self.rows {
            match row_body(row)? {
                Some((at, body)) => {
                    saved.push(vec![(*kind).into(), key.as_str().into(), at.into(), body.into()]);
                }
                None => statements.push(Statement::new(
                    "DELETE FROM gate_rows WHERE kind = $1 AND key = $2",
                    [(*kind).into(), key.as_str().into()],
                )),
            }
        }
        statements.extend(ROWS.statements(saved));
        let items: Result<_, _> = self.items.values().map(|item| item_values(item)).collect();
        statements.extend(ITEMS.statements(items?));
        statements.extend(
            ITEM_CHANGES.statements(self.items.values().flat_map(|item| change_values(item)).collect()),
        );
        let buildsets: Result<_, _> = self.buildsets.iter().map(buildset_values).collect();
        statements.extend(BUILDSETS.statements(buildsets?));
        let builds: Result<_, _> = self.builds.values().map(build_values).collect();
        statements.extend(BUILDS.statements(builds?));
        for report in self.reports.values() {
            statements.extend(report_statements(report, at)?);
        }
        for (event, (caused, body)) in &self.consumed {
            statements.push(Statement::new(
                "UPDATE inbox SET state = 'consumed', caused = $2, body = COALESCE($3, body) WHERE id = $1",
                [event.0.into(), caused.as_str().into(), body.clone().into()],
            ));
        }
        Ok(statements)
    }
}

/// The build that counts; a reused one is another item's, and stored as that item's.
fn own_build(job: &ItemJob) -> Option<&Build> {
    match &job.state {
        assay_engine::gate::item::JobState::Reused { .. } => None,
        other => other.build(),
    }
}

fn stored_build(item: &Item, job: &ItemJob, build: &Build) -> StoredBuild {
    let tree = match &item.buildset.state {
        MergeState::Done(merged) => merged.moved.last().map(|moved| moved.tip.tree.clone()),
        _ => None,
    };
    StoredBuild {
        uuid: build.uuid,
        item: item.id,
        buildset: item.buildset.number,
        job: job.job.clone(),
        project: item.project.clone(),
        pipeline: item.pipeline.clone(),
        branch: item.branch.clone(),
        voting: job.voting,
        tree,
        asked_at: build.asked_at,
        started_at: build.started_at,
        ended_at: build.ended_at,
        result: build.result.clone(),
    }
}

/// When and what; none for what is to be removed.
fn row_body(row: &GateRow) -> Result<Option<(i64, String)>, StoreError> {
    const TABLE: &str = "gate_rows";
    Ok(match row {
        GateRow::Autohold(row) if row.left == 0 => None,
        GateRow::Queue(row) => Some((0, json(TABLE, row)?)),
        GateRow::Pipeline(row) => Some((0, json(TABLE, row)?)),
        GateRow::Change(row) => Some((0, json(TABLE, row)?)),
        GateRow::Durations(row) => Some((0, json(TABLE, row)?)),
        GateRow::Evidence(row) => Some((row.build.asked_at.0, json(TABLE, row)?)),
        GateRow::Autohold(row) => Some((0, json(TABLE, row)?)),
        GateRow::Config(row) => Some((0, json(TABLE, row)?)),
        // Items and reports are in tables of their own.
        GateRow::ForgetChange(_) | GateRow::Item(_) | GateRow::Report(_) => None,
    })
}

const ROWS: Upsert = Upsert {
    table: "gate_rows",
    columns: "kind, key, at, body",
    key: "kind, key",
    changing: &["at", "body"],
    same: None,
};

const ITEMS: Upsert = Upsert {
    table: "gate_items",
    columns: "id, pipeline, project, ended_at, body",
    key: "id",
    changing: &["pipeline", "project", "ended_at", "body"],
    same: None,
};

fn item_values(item: &Item) -> Result<Vec<Value>, StoreError> {
    let ended = match &item.phase {
        ItemPhase::Ended(end) => Some(end.at),
        ItemPhase::Testing | ItemPhase::Landing { .. } => None,
    };
    Ok(vec![
        item.id.0.into(),
        item.pipeline.as_str().into(),
        item.project.as_str().into(),
        time(ended),
        json("gate_items", item)?.into(),
    ])
}

const ITEM_CHANGES: Upsert = Upsert {
    table: "gate_item_changes",
    columns: "source, number, item",
    key: "source, number, item",
    changing: &["item"],
    same: None,
};

fn change_values(item: &Item) -> impl Iterator<Item = Vec<Value>> {
    item.changes.iter().map(|change| {
        let id = &change.merge.patchset.change;
        vec![id.source.as_str().into(), (id.number as i64).into(), item.id.0.into()]
    })
}

const BUILDSETS: Upsert = Upsert {
    table: "gate_buildsets",
    columns: "item, number, body",
    key: "item, number",
    changing: &["body"],
    same: None,
};

fn buildset_values((key, set): (&(ItemId, u32), &StoredBuildset)) -> Result<Vec<Value>, StoreError> {
    Ok(vec![key.0.0.into(), i64::from(key.1).into(), json("gate_buildsets", set)?.into()])
}

pub(super) const BUILD_COLUMNS: &str = "uuid, item, buildset, job, project, pipeline, branch, voting, tree, asked_at, \
                                        started_at, ended_at, result";

const BUILDS: Upsert = Upsert {
    table: "gate_builds",
    columns: BUILD_COLUMNS,
    key: "uuid",
    changing: &["started_at", "ended_at", "result"],
    same: None,
};

fn build_values(build: &StoredBuild) -> Result<Vec<Value>, StoreError> {
    let result = build.result.as_ref().map(|result| json("gate_builds", result)).transpose()?;
    Ok(vec![
        build.uuid.to_string().into(),
        build.item.0.into(),
        i64::from(build.buildset).into(),
        build.job.as_str().into(),
        build.project.as_str().into(),
        build.pipeline.as_str().into(),
        build.branch.as_str().into(),
        i64::from(build.voting).into(),
        build.tree.as_ref().map(ToString::to_string).into(),
        build.asked_at.0.into(),
        time(build.started_at),
        time(build.ended_at),
        result.into(),
    ])
}

/// What tells a report from all others to its target.
pub(crate) fn report_key((item, number): (ItemId, u32)) -> String {
    format!("{}.{number}", item.0)
}

/// A report as something to be told, and whose it is. One that is there is the same one, and may be told already.
fn report_statements(report: &Report, at: Timestamp) -> Result<Vec<Statement>, StoreError> {
    let (ReportAction::Review { source, .. }
    | ReportAction::Mail { source, .. }
    | ReportAction::Sql { source, .. }) = &report.action;
    let kind = match &report.action {
        ReportAction::Review { .. } => "gate.review",
        ReportAction::Mail { .. } => "gate.mail",
        ReportAction::Sql { .. } => "gate.sql",
    };
    let (target, key) = (format!("{GATE_TARGET}{source}"), report_key(report.id));
    let entry = NewEntry {
        target: target.clone(),
        key: key.clone(),
        kind: kind.to_owned(),
        about: format!("{} in {}", report.about, report.pipeline),
        body: json("outbox", report)?,
        at,
        due: None,
        numbered: None,
    };
    let mut statements = entry_statements(&[entry]);
    statements.push(Statement::new(
        "UPDATE outbox SET item = $1 WHERE target = $2 AND key = $3",
        [report.id.0.0.into(), target.into(), key.into()],
    ));
    Ok(statements)
}

/// For jobs that are new, what build they run and where its logs are.
pub(crate) fn job_statements<'a>(jobs: impl Iterator<Item = &'a JobRow>) -> Vec<Statement> {
    let new = jobs.filter(|job| !job.state.word().is_final());
    let built = new.filter_map(|job| Some((job, job.settings.get("ZUUL_UUID")?)));
    let statement = |(job, uuid): (&JobRow, &str)| {
        Statement::new(
            "INSERT INTO gate_jobs (uuid, job, log_path) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            [uuid.into(), job.id.0.into(), job.settings.get("LOG_PATH").map(str::to_owned).into()],
        )
    };
    built.map(statement).collect()
}
