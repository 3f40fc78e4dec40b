//! The gate's queries in SQL that both databases understand.

use super::batch::{BUILD_COLUMNS, report_key};
use super::{
    EventId, EventState, GateStore, NewEvent, StoredBuild, StoredBuildset, StoredEvent, StoredReceipt,
    StoredReport, Tried, WaitingReport,
};
use crate::codec::Fields;
use crate::error::StoreError;
use crate::outbox::{EntryState, OutboxStore as _};
use crate::sql::{Backend, Sql, Statement, Value, still_leader};
use crate::types::{Batch, Epoch};
use assay_engine::gate::ids::{
    BranchName, ItemId, JobName, Oid, PipelineName, ProjectName, SourceName, Uuid,
};
use assay_engine::gate::item::Item;
use assay_engine::gate::rows::GateRows;
use assay_engine::ids::{JobId, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Evidence that is loaded: the latest of it.
const EVIDENCE: i64 = 20_000;

const EVENT_COLUMNS: &str = "id, source, dedupe_key, received_at, change_number, body, state, caused";
const REPORT_COLUMNS: &str = "body, state, attempts, next_try, note, ended_at";
const RECEIPT_COLUMNS: &str =
    "project, branch, commit_id, item, body, signed_at, published_at, attempts, last_error";

fn item(row: Vec<Value>) -> Result<Arc<Item>, StoreError> {
    Fields::new("gate_items", row).json()
}

fn build(row: Vec<Value>) -> Result<StoredBuild, StoreError> {
    let mut fields = Fields::new("gate_builds", row);
    let uuid = Uuid::try_from(fields.text()?).map_err(|problem| fields.broken(problem))?;
    Ok(StoredBuild {
        uuid,
        item: ItemId(fields.int()?),
        buildset: fields.unsigned()?,
        job: fields.text()?.into(),
        project: fields.text()?.into(),
        pipeline: fields.text()?.into(),
        branch: fields.text()?.into(),
        voting: fields.int()? != 0,
        tree: fields.optional_text()?.map(Oid::from),
        asked_at: fields.time()?,
        started_at: fields.optional_time()?,
        ended_at: fields.optional_time()?,
        result: fields.optional_json()?,
    })
}

fn event(row: Vec<Value>) -> Result<StoredEvent, StoreError> {
    let mut fields = Fields::new("inbox", row);
    Ok(StoredEvent {
        id: EventId(fields.int()?),
        source: fields.text()?.into(),
        dedupe_key: fields.text()?,
        received_at: fields.time()?,
        change: fields.optional_int()?.map(|number| number as u64),
        body: fields.text()?,
        state: fields.word(EventState::from_word)?,
        caused: fields.optional_text()?,
    })
}

fn report(row: Vec<Value>) -> Result<StoredReport, StoreError> {
    let mut fields = Fields::new("outbox", row);
    Ok(StoredReport {
        report: fields.json()?,
        state: fields.word(EntryState::from_word)?,
        attempts: fields.unsigned()?,
        next_try: fields.optional_time()?,
        note: fields.optional_text()?,
        ended_at: fields.optional_time()?,
    })
}

fn receipt(row: Vec<Value>) -> Result<StoredReceipt, StoreError> {
    let mut fields = Fields::new("receipts", row);
    Ok(StoredReceipt {
        project: fields.text()?.into(),
        branch: fields.text()?.into(),
        commit: fields.text()?.into(),
        item: ItemId(fields.int()?),
        body: fields.text()?,
        signed_at: fields.time()?,
        published_at: fields.optional_time()?,
        attempts: fields.unsigned()?,
        last_error: fields.optional_text()?,
    })
}

fn job_id(mut rows: Vec<Vec<Value>>) -> Result<Option<JobId>, StoreError> {
    rows.pop().map(|row| Ok(JobId(Fields::new("gate_jobs", row).int()?))).transpose()
}

/// The most that an SQL LIMIT needs to say.
const ALL: i64 = i64::MAX;

fn before(id: Option<i64>) -> Value {
    id.unwrap_or(i64::MAX).into()
}

impl<B: Backend> Sql<B> {
    async fn list<T>(
        &self,
        doing: &'static str,
        sql: String,
        values: Vec<Value>,
        read: impl Fn(Vec<Value>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.backend.query(doing, Statement::built(sql, values)).await?.into_iter().map(read).collect()
    }

    /// One statement of the leader.
    async fn lead(&self, doing: &'static str, epoch: Epoch, statement: Statement) -> Result<(), StoreError> {
        let guard = Some(still_leader(epoch, &Batch::default()));
        self.backend.write(doing, guard, vec![statement]).await.map(drop)
    }

    async fn load_kinds(&self, rows: &mut GateRows) -> Result<(), StoreError> {
        let sql = "SELECT kind, body FROM gate_rows WHERE kind <> 'evidence' ORDER BY kind, key";
        for row in self.query("load the gate", sql, vec![]).await? {
            let mut fields = Fields::new("gate_rows", row);
            match fields.text()?.as_str() {
                "queue" => rows.queues.push(fields.json()?),
                "pipeline" => rows.pipelines.push(fields.json()?),
                "change" => rows.changes.push(fields.json()?),
                "durations" => rows.durations.push(fields.json()?),
                "autohold" => rows.autoholds.push(fields.json()?),
                "config" => rows.config = Some(fields.json()?),
                other => return Err(fields.broken(format_args!("{other:?} is no kind that Assay knows"))),
            }
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl<B: Backend> GateStore for Sql<B> {
    async fn load_gate(&self) -> Result<GateRows, StoreError> {
        let doing = "load the gate";
        let mut rows = GateRows::default();
        for row in
            self.query(doing, "SELECT last_item, last_autohold FROM leader WHERE id = 1", vec![]).await?
        {
            let mut fields = Fields::new("leader", row);
            (rows.last_item, rows.last_autohold) = (fields.int()?, fields.int()?);
        }
        self.load_kinds(&mut rows).await?;
        let sql = "SELECT body FROM gate_items WHERE ended_at IS NULL ORDER BY id".to_owned();
        rows.items = self.list(doing, sql, vec![], item).await?;
        let sql =
            "SELECT body FROM gate_rows WHERE kind = 'evidence' ORDER BY at DESC, key LIMIT $1".to_owned();
        let evidence = |row| Fields::new("gate_rows", row).json();
        rows.evidence = self.list(doing, sql, vec![EVIDENCE.into()], evidence).await?;
        // As databases sort text as their locale says, and the gate has its own order.
        rows.queues.sort_by(|a, b| (&a.pipeline, &a.queue).cmp(&(&b.pipeline, &b.queue)));
        rows.pipelines.sort_by(|a, b| a.pipeline.cmp(&b.pipeline));
        rows.changes.sort_by(|a, b| a.id.cmp(&b.id));
        rows.durations.sort_by(|a, b| a.job.cmp(&b.job));
        rows.evidence.sort_by(|a, b| a.key.cmp(&b.key));
        rows.autoholds.sort_by_key(|row| row.id);
        Ok(rows)
    }

    async fn item(&self, id: ItemId) -> Result<Option<Arc<Item>>, StoreError> {
        let sql = "SELECT body FROM gate_items WHERE id = $1".to_owned();
        Ok(self.list("read an item", sql, vec![id.0.into()], item).await?.pop())
    }

    async fn items_of_change(
        &self,
        source: &SourceName,
        number: u64,
        limit: u32,
    ) -> Result<Vec<Arc<Item>>, StoreError> {
        let sql = "SELECT i.body FROM gate_item_changes c JOIN gate_items i ON i.id = c.item \
                   WHERE c.source = $1 AND c.number = $2 ORDER BY i.id DESC LIMIT $3";
        let values = vec![source.as_str().into(), (number as i64).into(), i64::from(limit).into()];
        self.list("list the items of a change", sql.to_owned(), values, item).await
    }

    async fn recent_items(
        &self,
        pipeline: Option<&PipelineName>,
        before_item: Option<ItemId>,
        limit: u32,
    ) -> Result<Vec<Arc<Item>>, StoreError> {
        let before_item = before(before_item.map(|item| item.0));
        let (sql, values) = match pipeline {
            Some(pipeline) => (
                "SELECT body FROM gate_items WHERE pipeline = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
                vec![pipeline.as_str().into(), before_item, i64::from(limit).into()],
            ),
            None => (
                "SELECT body FROM gate_items WHERE id < $1 ORDER BY id DESC LIMIT $2",
                vec![before_item, i64::from(limit).into()],
            ),
        };
        self.list("list items", sql.to_owned(), values, item).await
    }

    async fn buildsets(&self, item: ItemId) -> Result<Vec<StoredBuildset>, StoreError> {
        let sql = "SELECT body FROM gate_buildsets WHERE item = $1 ORDER BY number".to_owned();
        let read = |row| Fields::new("gate_buildsets", row).json();
        self.list("list buildsets", sql, vec![item.0.into()], read).await
    }

    async fn builds_of_item(&self, item: ItemId) -> Result<Vec<StoredBuild>, StoreError> {
        let sql = format!(
            "SELECT {BUILD_COLUMNS} FROM gate_builds WHERE item = $1 ORDER BY buildset, asked_at, job, uuid"
        );
        self.list("list the builds of an item", sql, vec![item.0.into()], build).await
    }

    async fn build(&self, uuid: Uuid) -> Result<Option<StoredBuild>, StoreError> {
        let sql = format!("SELECT {BUILD_COLUMNS} FROM gate_builds WHERE uuid = $1");
        Ok(self.list("read a build", sql, vec![uuid.to_string().into()], build).await?.pop())
    }

    async fn builds_of_job(
        &self,
        job: &JobName,
        before_time: Option<Timestamp>,
        limit: u32,
    ) -> Result<Vec<StoredBuild>, StoreError> {
        let sql = format!(
            "SELECT {BUILD_COLUMNS} FROM gate_builds WHERE job = $1 AND asked_at < $2 \
             ORDER BY asked_at DESC, uuid LIMIT $3"
        );
        let values = vec![job.as_str().into(), before(before_time.map(|at| at.0)), i64::from(limit).into()];
        self.list("list the builds of a job", sql, values, build).await
    }

    async fn job_of_build(&self, uuid: Uuid) -> Result<Option<JobId>, StoreError> {
        let sql = "SELECT job FROM gate_jobs WHERE uuid = $1";
        job_id(self.query("find the job of a build", sql, vec![uuid.to_string().into()]).await?)
    }

    async fn job_of_log_path(&self, path: &str) -> Result<Option<JobId>, StoreError> {
        let sql = "SELECT job FROM gate_jobs WHERE log_path = $1 ORDER BY job DESC LIMIT 1";
        job_id(self.query("find the job of a log", sql, vec![path.into()]).await?)
    }

    async fn reports_of_item(&self, item: ItemId) -> Result<Vec<StoredReport>, StoreError> {
        let sql = format!("SELECT {REPORT_COLUMNS} FROM outbox WHERE item = $1 ORDER BY id");
        self.list("list the reports of an item", sql, vec![item.0.into()], report).await
    }

    async fn undelivered(&self) -> Result<Vec<StoredReport>, StoreError> {
        let sql = format!(
            "SELECT {REPORT_COLUMNS} FROM outbox WHERE state = 'waiting' AND item IS NOT NULL ORDER BY id"
        );
        self.list("list reports to deliver", sql, vec![], report).await
    }

    async fn undelivered_keys(&self) -> Result<Vec<WaitingReport>, StoreError> {
        let sql = "SELECT item, key, attempts, next_try FROM outbox WHERE state = 'waiting' AND item IS NOT NULL \
                   ORDER BY id";
        self.list("list reports to deliver", sql.to_owned(), vec![], |row| {
            let mut fields = Fields::new("outbox", row);
            let item = ItemId(fields.int()?);
            let number = |key: &str| key.rsplit_once('.')?.1.parse().ok();
            Ok(WaitingReport {
                id: (item, fields.word(number)?),
                attempts: fields.unsigned()?,
                next_try: fields.optional_time()?,
            })
        })
        .await
    }

    async fn report(&self, id: (ItemId, u32)) -> Result<Option<StoredReport>, StoreError> {
        let sql = format!("SELECT {REPORT_COLUMNS} FROM outbox WHERE item = $1 AND key = $2");
        let values = vec![id.0.0.into(), report_key(id).into()];
        Ok(self.list("read a report", sql, values, report).await?.pop())
    }

    async fn report_tried(&self, epoch: Epoch, id: (ItemId, u32), tried: &Tried) -> Result<(), StoreError> {
        let sql = "SELECT id FROM outbox WHERE item = $1 AND key = $2";
        let rows = self.query("find a report", sql, vec![id.0.0.into(), report_key(id).into()]).await?;
        let Some(row) = rows.into_iter().next() else { return Ok(()) };
        let entry = Fields::new("outbox", row).int()?;
        self.entries_tried(epoch, &[(entry, tried.clone())]).await
    }

    async fn receive(
        &self,
        epoch: Epoch,
        source: &SourceName,
        at: Timestamp,
        events: &[NewEvent],
        cursors: &[(String, Option<String>)],
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let mut statements = Vec::new();
        for (name, value) in cursors {
            let key = [Value::from(source.as_str()), name.as_str().into()];
            statements.push(match (key, value) {
                ([source, name], Some(value)) => Statement::new(
                    "INSERT INTO cursors (source, name, value) VALUES ($1, $2, $3) \
                     ON CONFLICT (source, name) DO UPDATE SET value = excluded.value",
                    [source, name, value.as_str().into()],
                ),
                (key, None) => Statement::new("DELETE FROM cursors WHERE source = $1 AND name = $2", key),
            });
        }
        let mut highest = Statement::new("SELECT last_event FROM leader WHERE id = 1", []);
        for event in events {
            // The leader's row is locked by the guard, so its counter is nobody else's.
            statements.push(Statement::new("UPDATE leader SET last_event = last_event + 1 WHERE id = 1", []));
            statements.push(Statement::new(
                "INSERT INTO inbox (id, source, dedupe_key, received_at, change_number, body, state) \
                 SELECT last_event, $1, $2, $3, $4, $5, 'received' FROM leader WHERE id = 1 \
                 ON CONFLICT (source, dedupe_key) DO NOTHING",
                [
                    source.as_str().into(),
                    event.dedupe_key.as_str().into(),
                    at.0.into(),
                    event.change.map(|number| number as i64).into(),
                    event.body.as_str().into(),
                ],
            ));
        }
        if !events.is_empty() {
            let sql = format!(
                "SELECT {EVENT_COLUMNS} FROM inbox WHERE id > (SELECT last_event FROM leader WHERE id = 1) - $1 ORDER BY id"
            );
            highest = Statement::built(sql, vec![(events.len() as i64).into()]);
        }
        statements.push(highest);
        let guard = Some(still_leader(epoch, &Batch::default()));
        let rows = self.backend.write("receive events", guard, statements).await?;
        if events.is_empty() {
            return Ok(Vec::new());
        }
        rows.into_iter().map(event).collect()
    }

    async fn cursors(&self, source: &SourceName) -> Result<BTreeMap<String, String>, StoreError> {
        let sql = "SELECT name, value FROM cursors WHERE source = $1".to_owned();
        let read = |row| {
            let mut fields = Fields::new("cursors", row);
            Ok((fields.text()?, fields.text()?))
        };
        let pairs =
            self.list("read the cursors of a source", sql, vec![source.as_str().into()], read).await?;
        Ok(pairs.into_iter().collect())
    }

    async fn recent_keys(&self, source: &SourceName, since: Timestamp) -> Result<Vec<String>, StoreError> {
        let sql =
            "SELECT dedupe_key FROM inbox WHERE source = $1 AND received_at >= $2 ORDER BY id".to_owned();
        let read = |row| Fields::new("inbox", row).text();
        self.list("list recent events", sql, vec![source.as_str().into(), since.0.into()], read).await
    }

    async fn unconsumed(&self) -> Result<Vec<StoredEvent>, StoreError> {
        let sql = format!("SELECT {EVENT_COLUMNS} FROM inbox WHERE state = 'received' ORDER BY id");
        self.list("list events to deal with", sql, vec![], event).await
    }

    async fn event(&self, id: EventId) -> Result<Option<StoredEvent>, StoreError> {
        let sql = format!("SELECT {EVENT_COLUMNS} FROM inbox WHERE id = $1");
        Ok(self.list("read an event", sql, vec![id.0.into()], event).await?.pop())
    }

    async fn park(&self, epoch: Epoch, event: EventId, why: &str) -> Result<(), StoreError> {
        let sql = "UPDATE inbox SET state = 'parked', caused = $2 WHERE id = $1 AND state = 'received'";
        self.lead("put an event aside", epoch, Statement::new(sql, [event.0.into(), why.into()])).await
    }

    async fn prune_events(&self, epoch: Epoch, before: Timestamp, limit: u32) -> Result<u32, StoreError> {
        let sql = "DELETE FROM inbox WHERE id IN (SELECT id FROM inbox WHERE state <> 'received' AND received_at < $1 \
                   ORDER BY id LIMIT $2) RETURNING id";
        let statement = Statement::new(sql, [before.0.into(), i64::from(limit).into()]);
        let guard = Some(still_leader(epoch, &Batch::default()));
        let rows = self.backend.write("remove old events", guard, vec![statement]).await?;
        Ok(rows.len() as u32)
    }

    async fn events(&self, before_id: Option<EventId>, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        let sql = format!("SELECT {EVENT_COLUMNS} FROM inbox WHERE id < $1 ORDER BY id DESC LIMIT $2");
        let values = vec![before(before_id.map(|id| id.0)), i64::from(limit).into()];
        self.list("list events", sql, values, event).await
    }

    async fn events_after(&self, after: EventId, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        let sql = format!("SELECT {EVENT_COLUMNS} FROM inbox WHERE id > $1 ORDER BY id LIMIT $2");
        self.list("list events", sql, vec![after.0.into(), i64::from(limit).into()], event).await
    }

    async fn builds_after(
        &self,
        (ended, uuid): (Timestamp, Uuid),
        limit: u32,
    ) -> Result<Vec<StoredBuild>, StoreError> {
        let sql = format!(
            "SELECT {BUILD_COLUMNS} FROM gate_builds WHERE ended_at > $1 OR (ended_at = $1 AND uuid > $2) \
             ORDER BY ended_at, uuid LIMIT $3"
        );
        let values = vec![ended.0.into(), uuid.to_string().into(), i64::from(limit).into()];
        self.list("list ended builds", sql, values, build).await
    }

    async fn events_of_change(
        &self,
        source: &SourceName,
        number: u64,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let sql = format!(
            "SELECT {EVENT_COLUMNS} FROM inbox WHERE source = $1 AND change_number = $2 ORDER BY id DESC LIMIT $3"
        );
        let values = vec![source.as_str().into(), (number as i64).into(), i64::from(limit).into()];
        self.list("list the events of a change", sql, values, event).await
    }

    async fn save_receipt(&self, epoch: Epoch, receipt: &StoredReceipt) -> Result<(), StoreError> {
        let statement = Statement::new(
            "INSERT INTO receipts (project, branch, commit_id, item, body, signed_at, attempts) \
             VALUES ($1, $2, $3, $4, $5, $6, 0) ON CONFLICT DO NOTHING",
            [
                receipt.project.as_str().into(),
                receipt.branch.as_str().into(),
                receipt.commit.as_str().into(),
                receipt.item.0.into(),
                receipt.body.as_str().into(),
                receipt.signed_at.0.into(),
            ],
        );
        self.lead("store a receipt", epoch, statement).await
    }

    async fn unpublished(&self) -> Result<Vec<ProjectName>, StoreError> {
        let sql = "SELECT DISTINCT project FROM receipts WHERE published_at IS NULL ORDER BY project";
        let project = |row| Ok(Fields::new("receipts", row).text()?.into());
        self.list("list projects with receipts to publish", sql.to_owned(), vec![], project).await
    }

    async fn unpublished_of(
        &self,
        project: &ProjectName,
        limit: u32,
    ) -> Result<Vec<StoredReceipt>, StoreError> {
        let sql = format!(
            "SELECT {RECEIPT_COLUMNS} FROM receipts WHERE published_at IS NULL AND project = $1 \
             ORDER BY signed_at, item, branch, commit_id LIMIT $2"
        );
        let values = vec![project.as_str().into(), i64::from(limit).into()];
        self.list("list receipts to publish", sql, values, receipt).await
    }

    async fn receipts_tried(
        &self,
        epoch: Epoch,
        receipts: &[StoredReceipt],
        tried: &Tried,
    ) -> Result<(), StoreError> {
        let (published, error) = match tried {
            Tried::Done { at, note } => (Some(at.0), note.clone()),
            Tried::Skipped { at, note } => (Some(at.0), Some(note.clone())),
            Tried::Later { error, .. } | Tried::Never { error } => (None, Some(error.clone())),
        };
        let statement = |receipt: &StoredReceipt| {
            Statement::new(
                "UPDATE receipts SET published_at = $4, attempts = attempts + 1, last_error = $5 \
                 WHERE project = $1 AND branch = $2 AND commit_id = $3",
                [
                    receipt.project.as_str().into(),
                    receipt.branch.as_str().into(),
                    receipt.commit.as_str().into(),
                    published.into(),
                    error.clone().into(),
                ],
            )
        };
        self.know("note a publication", epoch, receipts.iter().map(statement).collect()).await.map(drop)
    }

    async fn receipt(
        &self,
        project: &ProjectName,
        branch: &BranchName,
        commit: &Oid,
    ) -> Result<Option<StoredReceipt>, StoreError> {
        let sql = format!(
            "SELECT {RECEIPT_COLUMNS} FROM receipts WHERE project = $1 AND branch = $2 AND commit_id = $3"
        );
        let values = vec![project.as_str().into(), branch.as_str().into(), commit.as_str().into()];
        Ok(self.list("read a receipt", sql, values, receipt).await?.pop())
    }

    async fn receipts_of_item(&self, item: ItemId) -> Result<Vec<StoredReceipt>, StoreError> {
        let sql = format!(
            "SELECT {RECEIPT_COLUMNS} FROM receipts WHERE item = $1 ORDER BY project, branch, commit_id LIMIT $2"
        );
        self.list("list the receipts of an item", sql, vec![item.0.into(), ALL.into()], receipt).await
    }
}
