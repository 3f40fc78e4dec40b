//! The store in SQL that SQLite and PostgreSQL both understand. What differs is in [`Backend`].

use crate::codec::{self, Fields};
use crate::error::StoreError;
use crate::results::{Known, ResultStore, result_statements};
use crate::schema::{VERSION_TABLE, VERSIONS};
use crate::types::{
    Batch, BuildTally, Epoch, GroupBuild, JobFilter, JobSummary, RunFilter, StoredAttempt, StoredJob,
};
use crate::{GateStore, KnowledgeStore, Store, builds, gate, jobs};
use assay_engine::ids::{AttemptId, GroupId, JobId, ProductRunId};
use assay_engine::job::StateWord;
use assay_engine::job_settings::Sharer;
use assay_engine::relations::Parent;
use assay_engine::rows::{ProductRunRow, Rows, SETTLED_WINDOW, WorkerRow};
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};
use std::collections::BTreeMap;

/// A value on its way into or out of a database. The two kinds of NULL are for PostgreSQL, which wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

/// PostgreSQL has no NUL in a text, and refuses the whole transaction over one: texts from outside lose theirs on the way in,
/// in both databases.
fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{FFFD}") } else { text }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(without_nul(value)))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::from(value.to_owned())
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value.map(without_nul))
    }
}

/// A statement with the values for `$1`, `$2`, …
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) sql: SqlStr,
    pub(crate) values: Vec<Value>,
}

impl Statement {
    pub(crate) fn new<const N: usize>(sql: &'static str, values: [Value; N]) -> Self {
        Self { sql: sql.into_sql_str(), values: values.into() }
    }

    /// A statement put together here, from constants and numbered parameters only.
    pub(crate) fn built(sql: String, values: Vec<Value>) -> Self {
        Self { sql: AssertSqlSafe(sql).into_sql_str(), values }
    }
}

/// What SQLite and PostgreSQL do differently.
#[async_trait::async_trait]
pub(crate) trait Backend: Send + Sync {
    /// What a table has as primary key when that is a number.
    const ID: &'static str;

    /// The value of setting `KEY` in a job's JSON.
    const SETTING: &'static str;

    /// True if a list has a part that, without what is trimmed from it, is a text: what comes before the list, between
    /// the list and what is trimmed, and before the text.
    const HAS_PART: (&'static str, &'static str, &'static str);

    /// The value of `KEY` of what a report of the gate does.
    const ACTION: &'static str;

    /// The function that finds a text in a text: its place from 1, or 0.
    const FIND: &'static str;

    /// A text that is compared byte by byte.
    const BYTES: &'static str;

    /// What a table has whose rows are kept in the order of their key.
    const CLUSTERED: &'static str;

    /// How a text is compared with a pattern whose `*` stands for anything: what comes before the pattern, how the pattern
    /// is written, and what comes after it.
    const LIKE: (&'static str, fn(&str) -> String, &'static str);

    /// Rows of columns as one text: an array of arrays in JSON. What comes before the columns, and after them.
    const JSON_ROWS: (&'static str, &'static str);

    /// Reads several answers as they are at one moment.
    async fn snapshot(
        &self,
        doing: &'static str,
        statements: Vec<Statement>,
    ) -> Result<Vec<Vec<Vec<Value>>>, StoreError>;

    /// Reads.
    async fn query(&self, doing: &'static str, statement: Statement) -> Result<Vec<Vec<Value>>, StoreError>;

    /// Writes in one transaction. If `guard` changes no row, nothing is written: [`StoreError::Deposed`]. Returns the
    /// rows of the last statement.
    async fn write(
        &self,
        doing: &'static str,
        guard: Option<Statement>,
        statements: Vec<Statement>,
    ) -> Result<Vec<Vec<Value>>, StoreError>;

    async fn close(&self);
}

/// The store on either database.
pub(crate) struct Sql<B> {
    pub(crate) backend: B,
    /// What of results need not be stored again.
    pub(crate) known: Known,
}

impl<B: Backend> Sql<B> {
    /// The store with its tables up to date.
    pub(crate) async fn migrated(backend: B) -> Result<Self, StoreError> {
        Self::migrated_to(backend, VERSIONS.last().map_or(0, |version| version.number)).await
    }

    /// The same up to a version.
    pub(crate) async fn migrated_to(backend: B, known: i64) -> Result<Self, StoreError> {
        let store = Self { backend, known: Known::default() };
        let found = store.version().await?;
        if found > known {
            return Err(StoreError::NewerSchema { found, known });
        }
        for version in VERSIONS.iter().filter(|version| version.number > found && version.number <= known) {
            store.migrate_to(version).await?;
        }
        Ok(store)
    }

    /// The version of the tables, 0 if there are none.
    async fn version(&self) -> Result<i64, StoreError> {
        let doing = "read the version of the tables";
        let made = self.backend.write(doing, None, vec![Self::ddl(VERSION_TABLE)]).await;
        let read = Statement::new("SELECT COALESCE(MAX(version), 0) FROM schema_version", []);
        match (made, self.backend.query(doing, read).await) {
            // Another process may have made the table at the same moment, which PostgreSQL calls an error.
            (_, Ok(rows)) => codec::one_number("schema_version", &rows),
            (Err(error), Err(_)) | (Ok(_), Err(error)) => Err(error),
        }
    }

    async fn migrate_to(&self, version: &crate::schema::Version) -> Result<(), StoreError> {
        // Of several processes that come this far at once, the first inserts the row; the others wait for it to
        // commit, insert nothing, and have nothing to do any more.
        let claim = "INSERT INTO schema_version (version) VALUES ($1) ON CONFLICT DO NOTHING";
        let claim = Statement::new(claim, [version.number.into()]);
        let statements = version.statements.iter().map(|sql| Self::ddl(sql)).collect();
        match self.backend.write("make the tables", Some(claim), statements).await {
            Ok(_) | Err(StoreError::Deposed) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn ddl(sql: &str) -> Statement {
        let mut sql =
            sql.replace("{ID}", B::ID).replace("{BYTES}", B::BYTES).replace("{CLUSTERED}", B::CLUSTERED);
        for key in ["DISTRI", "VERSION", "FLAVOR", "ARCH", "TEST", "MACHINE", "BUILD"] {
            let place = format!("{{SETTING:{key}}}");
            if sql.contains(&place) {
                sql = sql.replace(&place, &B::SETTING.replace("KEY", key));
            }
        }
        for key in ["source", "report"] {
            sql = sql.replace(&format!("{{ACTION:{key}}}"), &B::ACTION.replace("KEY", key));
        }
        Statement::built(sql, Vec::new())
    }

    pub(crate) async fn query(
        &self,
        doing: &'static str,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        self.backend.query(doing, Statement { sql: sql.into_sql_str(), values }).await
    }
}

/// How many open jobs are read at once.
const PIECE: usize = 1_000;

pub(crate) const JOB_COLUMNS: &str = "id, name, priority, classes, settings, detail, created_at, started_at, group_id, \
                                      run, parents, clone_of, cloned_as, retries, hold, wait";
const ATTEMPT_COLUMNS: &str = "job, number, token, worker, instance, host, phase, assigned_at, started_at, \
                               finished_at, outcome, outcome_class, reason, streams";

/// The guard of every deciding transaction: it changes the leader's row only while the leader is the leader.
pub(crate) fn still_leader(epoch: Epoch, batch: &Batch) -> Statement {
    let last_job = batch.jobs.keys().last().map_or(0, |id| id.0);
    let last_run = batch.runs.keys().last().map_or(0, |id| id.0);
    let last_token = batch.attempts.values().map(|row| row.token.0).max().unwrap_or(0);
    Statement::new(
        "UPDATE leader SET commits = commits + 1, \
         last_job = CASE WHEN last_job < $2 THEN $2 ELSE last_job END, \
         last_token = CASE WHEN last_token < $3 THEN $3 ELSE last_token END, \
         last_item = CASE WHEN last_item < $4 THEN $4 ELSE last_item END, \
         last_autohold = CASE WHEN last_autohold < $5 THEN $5 ELSE last_autohold END, \
         last_run = CASE WHEN last_run < $6 THEN $6 ELSE last_run END \
         WHERE id = 1 AND epoch = $1",
        [
            epoch.0.into(),
            last_job.into(),
            last_token.into(),
            batch.gate.last_item().into(),
            batch.gate.last_autohold().into(),
            last_run.into(),
        ],
    )
}

/// Notes the commit in which jobs come to their ends: its number, which the guard has counted, grows.
fn endings(batch: &Batch) -> Vec<Statement> {
    let ended = batch.jobs.values().filter(|job| job.state.is_final());
    let note = |ids: Vec<Vec<Value>>| {
        let mut update = jobs::Select::new(
            "UPDATE jobs SET ended_in = (SELECT commits FROM leader WHERE id = 1) WHERE ended_in IS NULL AND ".to_owned(),
        );
        update.one_of("id", ids.into_iter().flatten());
        update.statement()
    };
    let ids = ended.map(|job| vec![job.id.0.into()]).collect();
    codec::pieces(ids, &codec::ROWS_AT_ONCE).into_iter().map(note).collect()
}

#[async_trait::async_trait]
impl<B: Backend> Store for Sql<B> {
    async fn acquire_leadership(&self) -> Result<Epoch, StoreError> {
        let sql = "UPDATE leader SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch";
        let rows = self.backend.write("take the leadership", None, vec![Statement::new(sql, [])]).await?;
        Ok(Epoch(codec::one_number("leader", &rows)?))
    }

    async fn reacquire(&self, epoch: Epoch) -> Result<(), StoreError> {
        // A COMMIT in doubt was sent after its guard had locked the leader's row; so this update waits for its end. The
        // epoch stays: a new one could not be told from another server's if this very answer were lost.
        self.backend
            .write("keep the leadership", Some(still_leader(epoch, &Batch::default())), Vec::new())
            .await?;
        Ok(())
    }

    async fn commit(&self, epoch: Epoch, batch: &Batch) -> Result<(), StoreError> {
        let mut statements = Vec::new();
        let jobs: Result<_, _> = batch.jobs.values().map(codec::job_values).collect();
        statements.extend(codec::JOBS.statements(jobs?));
        statements.extend(endings(batch));
        let parents = batch.jobs.values().flat_map(codec::parent_values).collect();
        statements.extend(codec::PARENTS.statements(parents));
        let runs: Result<_, _> = batch.runs.values().map(codec::run_values).collect();
        statements.extend(codec::RUNS.statements(runs?));
        let attempts: Result<_, _> = batch.attempts.values().map(codec::attempt_values).collect();
        statements.extend(codec::ATTEMPTS.statements(attempts?));
        let workers: Result<_, _> = batch.workers.values().flatten().map(codec::worker_values).collect();
        statements.extend(codec::WORKERS.statements(workers?));
        for (name, _) in batch.workers.iter().filter(|(_, row)| row.is_none()) {
            statements.push(Statement::new("DELETE FROM workers WHERE name = $1", [name.as_str().into()]));
        }
        for queue in batch.queues.values() {
            statements.push(codec::save_queue(queue)?);
        }
        for locks in batch.locks.values() {
            statements.push(codec::save_locks(locks)?);
        }
        statements.extend(codec::SHARES.statements(batch.shares.values().map(codec::share_values).collect()));
        for (attempt, streams) in &batch.streams {
            statements.push(codec::save_streams(*attempt, streams)?);
        }
        statements.extend(gate::job_statements(batch.jobs.values()));
        statements.extend(batch.gate.statements(batch.decided_at())?);
        statements.extend(batch.effects.iter().flat_map(crate::events::settle));
        statements.extend(batch.deleted.iter().flat_map(|id| jobs::delete_job(*id)));
        let (of_results, learned) = result_statements(&self.known, &batch.results)?;
        statements.extend(of_results);
        statements.extend(crate::outbox::entry_statements(&batch.outbox));
        self.backend.write("store a step", Some(still_leader(epoch, batch)), statements).await?;
        self.known.learn(learned);
        Ok(())
    }

    async fn load(&self) -> Result<Rows, StoreError> {
        let doing = "load what is open";
        let sql = "SELECT last_job, last_token, last_run FROM leader WHERE id = 1";
        let (mut rows, mut sharer) = (Rows::default(), Sharer::default());
        for row in self.query(doing, sql, vec![]).await? {
            let mut fields = Fields::new("leader", row);
            (rows.last_job, rows.last_token, rows.last_run) = (fields.int()?, fields.int()?, fields.int()?);
        }
        // In pieces: as they come from the database they take several times the room of what is made of them.
        let sql = format!(
            "SELECT {JOB_COLUMNS} FROM jobs WHERE finished_at IS NULL AND id > $1 ORDER BY id LIMIT {PIECE}"
        );
        loop {
            let last = rows.jobs.last().map_or(0, |job| job.id.0);
            let piece = self.backend.query(doing, Statement::built(sql.clone(), vec![last.into()])).await?;
            let more = piece.len() == PIECE;
            for row in piece {
                let mut job = codec::job(row)?;
                job.settings = sharer.settings(&job.settings);
                job.classes = sharer.classes(&job.classes);
                rows.jobs.push(job);
            }
            if !more {
                break;
            }
        }
        rows.relatives = self.final_relatives(&rows.jobs).await?;
        // Two queries, each on its own index; attempts that both find are of no consequence if taken once.
        let sql = format!("SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE finished_at IS NULL ORDER BY token");
        for row in self.backend.query(doing, Statement::built(sql, vec![])).await? {
            rows.attempts.push(codec::attempt(row)?.row);
        }
        let sql = format!(
            "SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE token > $1 AND finished_at IS NOT NULL ORDER BY token"
        );
        let oldest = rows.last_token - SETTLED_WINDOW;
        for row in self.backend.query(doing, Statement::built(sql, vec![oldest.into()])).await? {
            rows.attempts.push(codec::attempt(row)?.row);
        }
        rows.workers = self.workers().await?;
        for row in self.query(doing, "SELECT classes, reason FROM queues", vec![]).await? {
            rows.queues.push(codec::queue(row)?);
        }
        for row in
            self.query(doing, "SELECT cluster, body FROM cluster_locks ORDER BY cluster", vec![]).await?
        {
            rows.locks.push(codec::locks(row)?);
        }
        for row in
            self.query(doing, "SELECT party, class, served FROM shares ORDER BY party, class", vec![]).await?
        {
            rows.shares.push(codec::share(row)?);
        }
        rows.gate = self.load_gate().await?;
        Ok(rows)
    }

    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<StoredJob>, StoreError> {
        let select = jobs::select_jobs::<B>(JOB_COLUMNS, filter);
        let rows = self.backend.query("list jobs", select).await?;
        let jobs: Vec<_> = rows.into_iter().map(codec::job).collect::<Result<_, _>>()?;
        self.with_reasons(jobs).await
    }

    async fn summaries(&self, filter: &JobFilter) -> Result<Vec<JobSummary>, StoreError> {
        let select = jobs::summarise_jobs::<B>(filter);
        codec::summaries(self.backend.query("list jobs", select).await?)
    }

    async fn ids(&self, filter: &JobFilter) -> Result<Vec<JobId>, StoreError> {
        let rows = self.backend.query("list jobs", jobs::select_jobs::<B>("id", filter)).await?;
        rows.into_iter().map(|row| Ok(JobId(Fields::new("jobs", row).int()?))).collect()
    }

    async fn count(&self, filter: &JobFilter) -> Result<u64, StoreError> {
        let rows = self.backend.query("count jobs", jobs::count_jobs::<B>(filter)).await?;
        Ok(u64::try_from(codec::one_number("jobs", &rows)?).unwrap_or(0))
    }

    async fn group_builds(&self, groups: &[GroupId]) -> Result<Vec<GroupBuild>, StoreError> {
        let rows = self.backend.query("list builds", builds::of_groups(groups)).await?;
        rows.into_iter().map(builds::group_build).collect()
    }

    async fn tallies(&self, builds: &[(GroupId, String)]) -> Result<Vec<BuildTally>, StoreError> {
        if builds.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.backend.query("count the jobs of builds", builds::tallies(builds)).await?;
        rows.into_iter().map(builds::tally).collect()
    }

    async fn cluster(&self, jobs: &[JobId], clones: bool) -> Result<Vec<StoredJob>, StoreError> {
        let rows = self.cluster_of(jobs, clones).await?;
        self.with_reasons(rows).await
    }

    async fn children(&self, jobs: &[JobId]) -> Result<Vec<(JobId, Parent)>, StoreError> {
        self.children_of(jobs).await
    }

    async fn product_run(&self, id: ProductRunId) -> Result<Option<ProductRunRow>, StoreError> {
        let sql = format!("SELECT {} FROM product_runs WHERE id = $1", codec::RUN_COLUMNS);
        let rows = self.backend.query("read a post of a product", Statement::built(sql, vec![id.0.into()]));
        rows.await?.into_iter().map(codec::run).next().transpose()
    }

    async fn product_runs(&self, filter: &RunFilter) -> Result<Vec<ProductRunRow>, StoreError> {
        self.runs(filter).await
    }

    async fn job(&self, id: JobId) -> Result<Option<StoredJob>, StoreError> {
        let sql = format!("SELECT {JOB_COLUMNS} FROM jobs WHERE id = $1");
        let rows = self.backend.query("read a job", Statement::built(sql, vec![id.0.into()])).await?;
        let jobs = rows.into_iter().map(codec::job).collect::<Result<_, _>>()?;
        Ok(self.with_reasons(jobs).await?.pop())
    }

    async fn attempts(&self, job: JobId) -> Result<Vec<StoredAttempt>, StoreError> {
        let sql = format!("SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE job = $1 ORDER BY number");
        let rows = self.backend.query("list attempts", Statement::built(sql, vec![job.0.into()])).await?;
        rows.into_iter().map(codec::attempt).collect()
    }

    async fn counts(&self) -> Result<BTreeMap<StateWord, u64>, StoreError> {
        let mut counts: BTreeMap<_, _> = StateWord::ALL.into_iter().map(|state| (state, 0)).collect();
        for row in self.query("count jobs", "SELECT state, COUNT(*) FROM jobs GROUP BY state", vec![]).await?
        {
            let mut fields = Fields::new("jobs", row);
            let state = fields.word(StateWord::from_word)?;
            counts.insert(state, fields.unsigned()?);
        }
        Ok(counts)
    }

    async fn workers(&self) -> Result<Vec<WorkerRow>, StoreError> {
        let sql = "SELECT name, instance, host, version, slots, classes, status, drained_by FROM workers";
        let rows = self.query("list workers", sql, vec![]).await?;
        let mut workers: Vec<_> = rows.into_iter().map(codec::worker).collect::<Result<_, _>>()?;
        workers.sort_by(|a, b| a.name.cmp(&b.name)); // here, because databases sort text as their locale says
        Ok(workers)
    }

    async fn unclosed(&self) -> Result<Vec<AttemptId>, StoreError> {
        let sql = "SELECT job, number FROM attempts WHERE finished_at IS NOT NULL AND streams IS NULL ORDER BY token";
        let rows = self.query("list attempts with open streams", sql, vec![]).await?;
        rows.into_iter().map(codec::attempt_id).collect()
    }

    fn gate(&self) -> &dyn GateStore {
        self
    }

    fn knowledge(&self) -> &dyn KnowledgeStore {
        self
    }

    fn assets(&self) -> &dyn crate::AssetStore {
        self
    }

    fn results(&self) -> &dyn ResultStore {
        self
    }

    fn events(&self) -> &dyn crate::EventStore {
        self
    }

    fn outbox(&self) -> &dyn crate::OutboxStore {
        self
    }

    async fn close(&self) {
        self.backend.close().await;
    }
}

impl<B: Backend> Sql<B> {
    /// Adds to scheduled jobs why they wait.
    async fn with_reasons(
        &self,
        jobs: Vec<assay_engine::rows::JobRow>,
    ) -> Result<Vec<StoredJob>, StoreError> {
        let mut reasons = BTreeMap::new();
        if jobs.iter().any(|job| job.state.word() == StateWord::Scheduled) {
            for row in self.query("read why jobs wait", "SELECT classes, reason FROM queues", vec![]).await? {
                let queue = codec::queue(row)?;
                reasons.insert(queue.classes, queue.reason);
            }
        }
        let wait = |job: &assay_engine::rows::JobRow| match job.state.word() {
            StateWord::Scheduled => job.wait.clone().or_else(|| reasons.get(&job.classes).cloned().flatten()),
            _ => None,
        };
        Ok(jobs.into_iter().map(|row| StoredJob { wait: wait(&row), row }).collect())
    }
}
