//! From stored rows to the objects of the API, which the pages use too.

use crate::app::App;
use crate::web::frame::rfc3339;
use assay_engine::ids::Timestamp;
use assay_engine::job::{End, JobState};
use assay_engine::reason::EndReason;
use assay_engine::rows::{WorkerRow, WorkerStatus};
use assay_engine::settings::{COVERED, is_secret_name};
use assay_proto::api;
use assay_proto::worker::Stream;
use assay_store::{StoreError, StoredAttempt, StoredJob};

/// Why a job waits, or why it ended as it did.
pub(crate) fn reason_of(job: &StoredJob) -> Option<String> {
    match &job.row.state {
        JobState::Scheduled { attempt: 1, .. } => job.wait.as_ref().map(ToString::to_string),
        JobState::Scheduled { attempt, .. } => {
            let wait = job.wait.as_ref().map(|wait| format!(": {wait}")).unwrap_or_default();
            Some(format!("waits for attempt {attempt}{wait}"))
        }
        JobState::Active(active) => match &active.stopping {
            Some(stopping) => Some(format!("{}; its worker is stopping it", stopping.reason)),
            None => job.row.wait.as_ref().map(ToString::to_string),
        },
        JobState::Done(end) | JobState::Cancelled(end) => reason_of_end(end),
    }
}

pub(crate) fn reason_of_end(end: &End) -> Option<String> {
    match &end.reason {
        EndReason::Reported { text: None } if end.outcome.is_ok() => None,
        reason => Some(reason.to_string()),
    }
}

/// From the machine's start (or, if it never started, from when a worker got it) to the end.
pub(crate) fn took_us(started: Option<Timestamp>, assigned: Timestamp, end: &End) -> i64 {
    end.at.micros_since(started.unwrap_or(assigned))
}

pub(crate) fn attempt(
    attempt: &StoredAttempt,
    streams: std::collections::BTreeMap<String, u64>,
) -> api::Attempt {
    let row = &attempt.row;
    api::Attempt {
        number: row.id.number,
        state: if row.end.is_some() { "done" } else { row.phase.word() }.into(),
        result: row.end.as_ref().map_or("none", |end| end.outcome.openqa()).into(),
        class: row.end.as_ref().map(|end| end.class.word().into()),
        reason: row.end.as_ref().and_then(reason_of_end),
        worker: row.worker.to_string(),
        host: row.host.clone(),
        started: rfc3339(row.assigned_at),
        finished: row.end.as_ref().map(|end| rfc3339(end.at)),
        streams,
    }
}

impl App {
    /// A job with its attempts.
    pub(crate) async fn present(&self, job: &StoredJob) -> Result<api::Job, StoreError> {
        let untried = matches!(job.row.state, JobState::Scheduled { attempt: 1, .. });
        let stored = if untried { Vec::new() } else { self.store.attempts(job.row.id).await? };
        let mut attempts = Vec::new();
        for one in &stored {
            attempts.push(attempt(one, self.sizes(one).await?));
        }
        let row = &job.row;
        let first = stored.first();
        Ok(api::Job {
            id: row.id,
            name: row.name.clone(),
            state: row.state.word().word().into(),
            result: row.state.end().map_or("none", |end| end.outcome.openqa()).into(),
            reason: reason_of(job),
            priority: row.priority,
            settings: (row.settings.iter())
                .map(|(key, setting)| {
                    let shown = |value: &str| if is_secret_name(key) { COVERED } else { value }.to_owned();
                    let over = setting.over.iter().map(|(from, value)| (from.to_string(), shown(value)));
                    let told = api::Setting {
                        value: shown(&setting.value),
                        from: setting.from.word().into(),
                        origin: setting.from.to_string(),
                        over: over.collect(),
                    };
                    (key.to_owned(), told)
                })
                .collect(),
            created: rfc3339(row.created_at),
            started: first.map(|first| rfc3339(first.row.started_at.unwrap_or(first.row.assigned_at))),
            finished: row.finished_at().map(rfc3339),
            worker: stored.last().map(|last| last.row.worker.to_string()),
            progress: row.active_attempt().and_then(|id| self.live.progress(id)),
            attempts,
            url: format!("/jobs/{}", row.id),
        })
    }

    /// The streams of an attempt and their lengths.
    pub(crate) async fn sizes(
        &self,
        attempt: &StoredAttempt,
    ) -> Result<std::collections::BTreeMap<String, u64>, StoreError> {
        if let Some(streams) = &attempt.streams {
            return Ok(streams
                .iter()
                .filter(|(name, _)| crate::retention::is_shown(name))
                .map(|(name, blob)| (name.clone(), blob.size))
                .collect());
        }
        let mut sizes = std::collections::BTreeMap::new();
        for stream in Stream::ALL {
            let size = self.stream_len(attempt, stream).await?;
            if size > 0 {
                sizes.insert(stream.file_name().to_owned(), size);
            }
        }
        Ok(sizes)
    }

    /// All workers, by name.
    pub(crate) async fn present_workers(&self) -> Result<Vec<api::Worker>, StoreError> {
        let active = assay_engine::job::StateWord::ALL
            .into_iter()
            .filter(|state| !state.is_final() && *state != assay_engine::job::StateWord::Scheduled)
            .collect();
        let filter =
            assay_store::JobFilter { states: active, limit: 10_000, ..assay_store::JobFilter::default() };
        let mut jobs = std::collections::BTreeMap::<String, Vec<_>>::new();
        for job in self.store.jobs(&filter).await? {
            if let Some(id) = job.row.active_attempt()
                && let Some(attempt) = self.attempt(id).await?
            {
                jobs.entry(attempt.row.worker.to_string()).or_default().push(job.row.id);
            }
        }
        let present = |row: WorkerRow| {
            let name = row.name.to_string();
            let (online, since) = match row.status {
                WorkerStatus::Online { since } => (true, since),
                WorkerStatus::Offline { since, .. } => (false, since),
            };
            api::Worker {
                jobs: jobs.remove(&name).unwrap_or_default(),
                host: row.host,
                online,
                offline_reason: match row.status {
                    WorkerStatus::Online { .. } => None,
                    WorkerStatus::Offline { why, .. } => Some(why.sentence().into()),
                },
                slots: row.slots,
                classes: row.classes.iter().map(str::to_owned).collect(),
                since: rfc3339(since),
                drained_by: row.drained_by,
                disk: self.hub.room(&row.name).filter(|_| online),
                version: row.version,
                name,
            }
        };
        Ok(self.store.workers().await?.into_iter().map(present).collect())
    }
}
