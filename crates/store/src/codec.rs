//! Rows of the engine to statements, and rows of the database to rows of the engine. A row that Assay could not have
//! written is an error that names the table, never a guess.

use crate::error::StoreError;
use crate::sql::{Statement, Value};
use crate::types::{JobSummary, StoredAttempt, Streams};
use assay_engine::ids::{AttemptId, FencingToken, GroupId, JobId, ProductRunId, Timestamp};
use assay_engine::job::{End, StateWord};
use assay_engine::outcome::{Outcome, OutcomeClass};
use assay_engine::rows::{
    AttemptRow, JobRow, LocksRow, ProductRunRow, QueueRow, Retries, ShareRow, WorkerRow,
};
use assay_engine::sched::fair::Party;
use assay_engine::settings::ClassSet;
use assay_engine::work::Phase;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A row's values, taken one after the other.
pub(crate) struct Fields {
    table: &'static str,
    values: std::vec::IntoIter<Value>,
}

impl Fields {
    pub(crate) fn new(table: &'static str, row: Vec<Value>) -> Self {
        Self { table, values: row.into_iter() }
    }

    pub(crate) fn broken(&self, problem: impl std::fmt::Display) -> StoreError {
        StoreError::BrokenRow { table: self.table, problem: problem.to_string() }
    }

    pub(crate) fn optional_int(&mut self) -> Result<Option<i64>, StoreError> {
        match self.values.next() {
            Some(Value::Int(value)) => Ok(value),
            Some(Value::Text(None)) => Ok(None),
            other => Err(self.broken(format_args!("expected a number, found {other:?}"))),
        }
    }

    pub(crate) fn int(&mut self) -> Result<i64, StoreError> {
        self.optional_int()?.ok_or_else(|| self.broken("expected a number, found NULL"))
    }

    pub(crate) fn unsigned<T: TryFrom<i64>>(&mut self) -> Result<T, StoreError> {
        let value = self.int()?;
        T::try_from(value).map_err(|_| self.broken(format_args!("{value} is out of range")))
    }

    pub(crate) fn optional_time(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.optional_int()?.map(Timestamp))
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, StoreError> {
        Ok(Timestamp(self.int()?))
    }

    pub(crate) fn optional_text(&mut self) -> Result<Option<String>, StoreError> {
        match self.values.next() {
            Some(Value::Text(value)) => Ok(value),
            Some(Value::Int(None)) => Ok(None),
            other => Err(self.broken(format_args!("expected text, found {other:?}"))),
        }
    }

    pub(crate) fn text(&mut self) -> Result<String, StoreError> {
        self.optional_text()?.ok_or_else(|| self.broken("expected text, found NULL"))
    }

    pub(crate) fn word<T>(&mut self, known: impl Fn(&str) -> Option<T>) -> Result<T, StoreError> {
        let word = self.text()?;
        known(&word).ok_or_else(|| self.broken(format_args!("{word:?} is no word that Assay knows")))
    }

    pub(crate) fn optional_word<T>(
        &mut self,
        known: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let Some(word) = self.optional_text()? else { return Ok(None) };
        match known(&word) {
            Some(value) => Ok(Some(value)),
            None => Err(self.broken(format_args!("{word:?} is no word that Assay knows"))),
        }
    }

    fn parsed<T: std::str::FromStr<Err = String>>(&mut self) -> Result<T, StoreError> {
        self.text()?.parse().map_err(|problem: String| self.broken(problem))
    }

    pub(crate) fn optional_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StoreError> {
        let Some(text) = self.optional_text()? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| self.broken(error))
    }

    pub(crate) fn json<T: DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        self.optional_json()?.ok_or_else(|| self.broken("expected JSON, found NULL"))
    }
}

/// The only number of the only row.
pub(crate) fn one_number(table: &'static str, rows: &[Vec<Value>]) -> Result<i64, StoreError> {
    let problem =
        || StoreError::BrokenRow { table, problem: "expected exactly one row with a number".to_owned() };
    match rows {
        [row] => Fields::new(table, row.clone()).int(),
        _ => Err(problem()),
    }
}

pub(crate) fn json(table: &'static str, value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::BrokenRow { table, problem: error.to_string() })
}

pub(crate) fn time(at: Option<Timestamp>) -> Value {
    Value::Int(at.map(|at| at.0))
}

fn word(word: Option<&'static str>) -> Value {
    Value::Text(word.map(str::to_owned))
}

/// A `LIKE` pattern for columns in lower case, to be used with `ESCAPE '\'`.
pub(crate) fn contains_pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.to_lowercase().chars().filter(|c| *c != '\0') {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

/// How rows of a table are stored in place of those with the same key.
pub(crate) struct Upsert {
    pub(crate) table: &'static str,
    pub(crate) columns: &'static str,
    /// What is compared to find the row that is there.
    pub(crate) key: &'static str,
    /// What may have changed in it.
    pub(crate) changing: &'static [&'static str],
    /// A column that is never NULL, and when the row that is there is the same thing's. If it is another's the column
    /// is set to NULL, which the database refuses, and with it the whole transaction.
    pub(crate) same: Option<(&'static str, &'static str)>,
}

/// How many rows go into one statement. Only few numbers, so that statements stay prepared.
pub(crate) const ROWS_AT_ONCE: [usize; 3] = [32, 4, 1];

/// Rows in pieces of these sizes, of which the last is 1.
pub(crate) fn pieces(rows: Vec<Vec<Value>>, sizes: &[usize]) -> Vec<Vec<Vec<Value>>> {
    let mut pieces = Vec::new();
    let mut rows = rows.into_iter();
    for size in sizes {
        while rows.len() >= *size {
            pieces.push(rows.by_ref().take(*size).collect());
        }
    }
    pieces
}

/// `($1, $2), ($3, $4)` for rows.
pub(crate) fn tuples(rows: &[Vec<Value>]) -> String {
    let mut number = 0;
    let mut place = |_: &Value| {
        number += 1;
        format!("${number}")
    };
    let mut places = |row: &Vec<Value>| row.iter().map(&mut place).collect::<Vec<_>>().join(", ");
    let tuples: Vec<_> = rows.iter().map(|row| format!("({})", places(row))).collect();
    tuples.join(", ")
}

impl Upsert {
    /// The statements that store `rows`, whose keys differ.
    pub(crate) fn statements(&self, rows: Vec<Vec<Value>>) -> Vec<Statement> {
        pieces(rows, &ROWS_AT_ONCE).into_iter().map(|rows| self.statement(rows)).collect()
    }

    fn statement(&self, rows: Vec<Vec<Value>>) -> Statement {
        let change = |column: &&str| match self.same {
            Some((asserting, same)) if asserting == *column => {
                format!("{column} = CASE WHEN {same} THEN excluded.{column} END")
            }
            _ => format!("{column} = excluded.{column}"),
        };
        let changes: Vec<_> = self.changing.iter().map(change).collect();
        let sql = format!(
            "INSERT INTO {} ({}) VALUES {} ON CONFLICT ({}) DO UPDATE SET {}",
            self.table,
            self.columns,
            tuples(&rows),
            self.key,
            changes.join(", ")
        );
        Statement::built(sql, rows.into_iter().flatten().collect())
    }
}

/// What cannot change after a job was made is left alone.
pub(crate) const JOBS: Upsert = Upsert {
    table: "jobs",
    columns: "id, name, priority, classes, settings, state, detail, outcome, outcome_class, reason, search, \
              created_at, started_at, finished_at, distri, version, flavor, arch, test, machine, build, group_id, run, \
              parents, clone_of, cloned_as, retries, hold, wait, blocked_by",
    key: "id",
    changing: &[
        "group_id",
        "cloned_as",
        "retries",
        "hold",
        "wait",
        "blocked_by",
        "priority",
        "state",
        "detail",
        "outcome",
        "outcome_class",
        "reason",
        "search",
        "started_at",
        "finished_at",
    ],
    same: Some(("priority", "jobs.created_at = excluded.created_at AND jobs.name = excluded.name")),
};

pub(crate) fn job_values(job: &JobRow) -> Result<Vec<Value>, StoreError> {
    let end = job.state.end();
    let reason = end.and_then(End::text);
    let main = |key: &str| Value::Text(job.settings.get(key).map(str::to_owned));
    let search = format!("{}\n{}", job.name, reason.as_deref().unwrap_or_default()).to_lowercase();
    Ok(vec![
        job.id.0.into(),
        job.name.as_str().into(),
        i64::from(job.priority).into(),
        job.classes.to_string().into(),
        json("jobs", &job.settings)?.into(),
        job.state.word().word().into(),
        json("jobs", &job.state)?.into(),
        word(end.map(|end| end.outcome.openqa())),
        word(end.map(|end| end.class.word())),
        reason.into(),
        search.into(),
        job.created_at.0.into(),
        time(job.started_at),
        time(end.map(|end| end.at)),
        main("DISTRI"),
        main("VERSION"),
        main("FLAVOR"),
        main("ARCH"),
        main("TEST"),
        main("MACHINE"),
        main("BUILD"),
        Value::Int(job.group.map(|group| group.0)),
        Value::Int(job.run.map(|run| run.0)),
        optional_json("jobs", (!job.parents.is_empty()).then_some(&job.parents))?,
        Value::Int(job.clone_of.map(|id| id.0)),
        Value::Int(job.cloned_as.map(|id| id.0)),
        optional_json("jobs", (job.retries != Retries::default()).then_some(&job.retries))?,
        optional_json("jobs", job.hold.as_ref())?,
        optional_json("jobs", job.wait.as_ref())?,
        Value::Int(job.blocked_by().map(|id| id.0)),
    ])
}

fn optional_json(table: &'static str, value: Option<&impl Serialize>) -> Result<Value, StoreError> {
    Ok(Value::Text(value.map(|value| json(table, value)).transpose()?))
}

pub(crate) fn job(row: Vec<Value>) -> Result<JobRow, StoreError> {
    let mut fields = Fields::new("jobs", row);
    Ok(JobRow {
        id: JobId(fields.int()?),
        name: fields.text()?,
        priority: fields.unsigned()?,
        classes: ClassSet::parse(&fields.text()?),
        settings: fields.json()?,
        state: fields.json()?,
        created_at: fields.time()?,
        started_at: fields.optional_time()?,
        group: fields.optional_int()?.map(GroupId),
        run: fields.optional_int()?.map(ProductRunId),
        parents: fields.optional_json()?.unwrap_or_default(),
        clone_of: fields.optional_int()?.map(JobId),
        cloned_as: fields.optional_int()?.map(JobId),
        retries: fields.optional_json()?.unwrap_or_default(),
        hold: fields.optional_json()?,
        wait: fields.optional_json()?,
    })
}

/// A job of a list, as the database tells it: an array in the order of [`SUMMARY_COLUMNS`].
#[derive(Deserialize)]
struct Summary<'t> {
    id: i64,
    name: String,
    distri: Option<String>,
    version: Option<String>,
    flavor: Option<String>,
    arch: Option<String>,
    test: Option<String>,
    machine: Option<String>,
    build: Option<String>,
    state: &'t str,
    #[serde(borrow)]
    outcome: Option<&'t str>,
    #[serde(borrow)]
    class: Option<&'t str>,
    reason: Option<String>,
    priority: i32,
    group: Option<i64>,
    run: Option<i64>,
    clone_of: Option<i64>,
    cloned_as: Option<i64>,
    blocked_by: Option<i64>,
    created_at: i64,
    started_at: Option<i64>,
    finished_at: Option<i64>,
}

/// The columns of [`summaries`].
pub(crate) const SUMMARY_COLUMNS: &str = "id, name, distri, version, flavor, arch, test, machine, build, state, outcome, \
                                          outcome_class, reason, priority, group_id, run, clone_of, cloned_as, blocked_by, \
                                          created_at, started_at, finished_at";

/// Jobs of a list that has come as JSON: for thousands of rows that takes a third of the time.
pub(crate) fn summaries(rows: Vec<Vec<Value>>) -> Result<Vec<JobSummary>, StoreError> {
    let mut fields = Fields::new("jobs", rows.into_iter().next().unwrap_or_default());
    let text = fields.text()?;
    let rows: Vec<Summary<'_>> = serde_json::from_str(&text).map_err(|error| fields.broken(error))?;
    rows.into_iter().map(|row| summary(&fields, row)).collect()
}

fn summary(jobs: &Fields, row: Summary<'_>) -> Result<JobSummary, StoreError> {
    let unknown = |word: &str| jobs.broken(format_args!("{word:?} is no word that Assay knows"));
    let class_of = |word: &str| OutcomeClass::ALL.into_iter().find(|class| class.word() == word);
    Ok(JobSummary {
        id: JobId(row.id),
        name: row.name,
        distri: row.distri,
        version: row.version,
        flavor: row.flavor,
        arch: row.arch,
        test: row.test,
        machine: row.machine,
        build: row.build,
        state: StateWord::from_word(row.state).ok_or_else(|| unknown(row.state))?,
        outcome: row
            .outcome
            .map(|word| Outcome::from_openqa(word).ok_or_else(|| unknown(word)))
            .transpose()?,
        class: row.class.map(|word| class_of(word).ok_or_else(|| unknown(word))).transpose()?,
        reason: row.reason,
        priority: row.priority,
        group: row.group.map(GroupId),
        run: row.run.map(ProductRunId),
        clone_of: row.clone_of.map(JobId),
        cloned_as: row.cloned_as.map(JobId),
        blocked_by: row.blocked_by.map(JobId),
        created_at: Timestamp(row.created_at),
        started_at: row.started_at.map(Timestamp),
        finished_at: row.finished_at.map(Timestamp),
    })
}

/// What a job depends on, for walks from parent to child.
pub(crate) const PARENTS: Upsert = Upsert {
    table: "job_parents",
    columns: "job, parent, relation",
    key: "job, parent, relation",
    changing: &["relation"],
    same: None,
};

pub(crate) fn parent_values(job: &JobRow) -> impl Iterator<Item = Vec<Value>> + '_ {
    let mut seen = std::collections::BTreeSet::new();
    let once = job.parents.iter().filter(move |parent| seen.insert(**parent));
    once.map(|parent| vec![job.id.0.into(), parent.job.0.into(), parent.relation.number().into()])
}

pub(crate) const RUNS: Upsert = Upsert {
    table: "product_runs",
    columns: "id, distri, version, flavor, arch, build, created_at, jobs, obsoleted, body, webhook",
    key: "id",
    changing: &["created_at"],
    same: Some(("created_at", "product_runs.created_at = excluded.created_at")),
};

pub(crate) fn run_values(run: &ProductRunRow) -> Result<Vec<Value>, StoreError> {
    let main = |key: &str| Value::Text(run.run.settings.get(key).cloned());
    Ok(vec![
        run.id.0.into(),
        main("DISTRI"),
        main("VERSION"),
        main("FLAVOR"),
        main("ARCH"),
        main("BUILD"),
        run.created_at.0.into(),
        json("product_runs", &run.jobs)?.into(),
        json("product_runs", &run.obsoleted)?.into(),
        json("product_runs", &run.run)?.into(),
        Value::Text(run.run.webhook.clone()),
    ])
}

/// The columns of [`run`].
pub(crate) const RUN_COLUMNS: &str = "id, created_at, jobs, obsoleted, body";

pub(crate) fn run(row: Vec<Value>) -> Result<ProductRunRow, StoreError> {
    let mut fields = Fields::new("product_runs", row);
    Ok(ProductRunRow {
        id: ProductRunId(fields.int()?),
        created_at: fields.time()?,
        jobs: fields.json()?,
        obsoleted: fields.json()?,
        run: fields.json()?,
    })
}

/// The streams are stored by [`save_streams`] alone.
pub(crate) const ATTEMPTS: Upsert = Upsert {
    table: "attempts",
    columns: "job, number, token, worker, instance, host, phase, assigned_at, started_at, finished_at, outcome, \
              outcome_class, reason",
    key: "job, number",
    changing: &["phase", "started_at", "finished_at", "outcome", "outcome_class", "reason"],
    same: Some(("phase", "attempts.token = excluded.token")),
};

pub(crate) fn attempt_values(attempt: &AttemptRow) -> Result<Vec<Value>, StoreError> {
    let end = attempt.end.as_ref();
    let reason = end.map(|end| json("attempts", &end.reason)).transpose()?;
    Ok(vec![
        attempt.id.job.0.into(),
        i64::from(attempt.id.number).into(),
        attempt.token.0.into(),
        attempt.worker.as_str().into(),
        attempt.instance.as_str().into(),
        attempt.host.as_str().into(),
        attempt.phase.word().into(),
        attempt.assigned_at.0.into(),
        time(attempt.started_at),
        time(end.map(|end| end.at)),
        word(end.map(|end| end.outcome.openqa())),
        word(end.map(|end| end.class.word())),
        reason.into(),
    ])
}

pub(crate) fn attempt(row: Vec<Value>) -> Result<StoredAttempt, StoreError> {
    let mut fields = Fields::new("attempts", row);
    let id = AttemptId { job: JobId(fields.int()?), number: fields.unsigned()? };
    let token = FencingToken(fields.int()?);
    let worker = fields.parsed()?;
    let (instance, host) = (fields.text()?, fields.text()?);
    let phase = fields.word(|word| Phase::ALL.into_iter().find(|phase| phase.word() == word))?;
    let (assigned_at, started_at) = (fields.time()?, fields.optional_time()?);
    let finished_at = fields.optional_time()?;
    let outcome = fields.optional_word(Outcome::from_openqa)?;
    let class = fields.optional_word(|word| OutcomeClass::ALL.into_iter().find(|c| c.word() == word))?;
    let reason = fields.optional_json()?;
    let end = match (finished_at, outcome, class, reason) {
        (None, None, None, None) => None,
        (Some(at), Some(outcome), Some(class), Some(reason)) => Some(End { outcome, class, reason, at }),
        _ => return Err(fields.broken(format_args!("attempt {id} has ended only in part"))),
    };
    let streams = fields.optional_json()?;
    let row = AttemptRow { id, token, worker, instance, host, phase, assigned_at, started_at, end };
    Ok(StoredAttempt { row, streams })
}

pub(crate) fn attempt_id(row: Vec<Value>) -> Result<AttemptId, StoreError> {
    let mut fields = Fields::new("attempts", row);
    Ok(AttemptId { job: JobId(fields.int()?), number: fields.unsigned()? })
}

pub(crate) fn save_streams(attempt: AttemptId, streams: &Streams) -> Result<Statement, StoreError> {
    Ok(Statement::new(
        "UPDATE attempts SET streams = $3 WHERE job = $1 AND number = $2",
        [attempt.job.0.into(), i64::from(attempt.number).into(), json("attempts", streams)?.into()],
    ))
}

pub(crate) const WORKERS: Upsert = Upsert {
    table: "workers",
    columns: "name, instance, host, version, slots, classes, status, drained_by",
    key: "name",
    changing: &["instance", "host", "version", "slots", "classes", "status", "drained_by"],
    same: None,
};

pub(crate) fn worker_values(worker: &WorkerRow) -> Result<Vec<Value>, StoreError> {
    Ok(vec![
        worker.name.as_str().into(),
        worker.instance.as_str().into(),
        worker.host.as_str().into(),
        worker.version.as_str().into(),
        i64::from(worker.slots).into(),
        worker.classes.to_string().into(),
        json("workers", &worker.status)?.into(),
        Value::Text(worker.drained_by.clone()),
    ])
}

pub(crate) fn worker(row: Vec<Value>) -> Result<WorkerRow, StoreError> {
    let mut fields = Fields::new("workers", row);
    Ok(WorkerRow {
        name: fields.parsed()?,
        instance: fields.text()?,
        host: fields.text()?,
        version: fields.text()?,
        slots: fields.unsigned()?,
        classes: ClassSet::parse(&fields.text()?),
        status: fields.json()?,
        drained_by: fields.optional_text()?,
    })
}

pub(crate) fn save_queue(queue: &QueueRow) -> Result<Statement, StoreError> {
    let classes = queue.classes.to_string();
    let Some(reason) = &queue.reason else {
        return Ok(Statement::new("DELETE FROM queues WHERE classes = $1", [classes.into()]));
    };
    Ok(Statement::new(
        "INSERT INTO queues (classes, reason) VALUES ($1, $2) \
         ON CONFLICT (classes) DO UPDATE SET reason = excluded.reason",
        [classes.into(), json("queues", reason)?.into()],
    ))
}

pub(crate) fn queue(row: Vec<Value>) -> Result<QueueRow, StoreError> {
    let mut fields = Fields::new("queues", row);
    Ok(QueueRow { classes: ClassSet::parse(&fields.text()?), reason: Some(fields.json()?) })
}

pub(crate) const SHARES: Upsert = Upsert {
    table: "shares",
    columns: "party, class, served",
    key: "party, class",
    changing: &["served"],
    same: None,
};

pub(crate) fn share_values(row: &ShareRow) -> Vec<Value> {
    vec![row.party.number().into(), row.class.as_str().into(), row.served.0.into()]
}

pub(crate) fn share(row: Vec<Value>) -> Result<ShareRow, StoreError> {
    let mut fields = Fields::new("shares", row);
    Ok(ShareRow {
        party: Party::from_number(fields.int()?),
        class: fields.text()?,
        served: FencingToken(fields.int()?),
    })
}

pub(crate) fn save_locks(row: &LocksRow) -> Result<Statement, StoreError> {
    let cluster = row.cluster.0;
    let Some(locks) = &row.locks else {
        return Ok(Statement::new("DELETE FROM cluster_locks WHERE cluster = $1", [cluster.into()]));
    };
    Ok(Statement::new(
        "INSERT INTO cluster_locks (cluster, body) VALUES ($1, $2) \
         ON CONFLICT (cluster) DO UPDATE SET body = excluded.body",
        [cluster.into(), json("cluster_locks", locks)?.into()],
    ))
}

pub(crate) fn locks(row: Vec<Value>) -> Result<LocksRow, StoreError> {
    let mut fields = Fields::new("cluster_locks", row);
    Ok(LocksRow { cluster: JobId(fields.int()?), locks: Some(fields.json()?) })
}
