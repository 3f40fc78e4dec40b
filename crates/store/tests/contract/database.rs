//! Databases for one test each, and an engine that writes into them.

use assay_engine::ids::{ConnectionId, JobId, Timestamp};
use assay_engine::io::{Answer, Effect, Hello, Input, Message, NewJob};
use assay_engine::outcome::Outcome;
use assay_engine::settings::{ClassSet, Settings};
use assay_engine::state::State;
use assay_engine::work::{Held, Report, Timing};
use assay_store::{Batch, Epoch, Store, StoreError};
use camino::{Utf8Path, Utf8PathBuf};
use sqlx::{AssertSqlSafe, Connection};
use std::sync::Arc;

pub(crate) struct Database {
    pub(crate) url: String,
    /// SQLite's directory.
    _dir: Option<tempfile::TempDir>,
    /// Where to make and drop the database, and its name.
    postgres: Option<(String, String)>,
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path: Utf8PathBuf = Utf8Path::from_path(dir.path()).unwrap().join("a ü.db");
        Self { url: format!("sqlite:{path}"), _dir: Some(dir), postgres: None }
    }

    /// A new database on the server under test; `None` if there is to be none.
    pub(crate) async fn postgres(test: &str) -> Option<Self> {
        let Ok(server) = std::env::var("ASSAY_TEST_POSTGRES") else {
            let intended = std::env::var("ASSAY_TEST_NO_POSTGRES").is_ok_and(|value| value == "1");
            assert!(
                intended,
                "ASSAY_TEST_POSTGRES is not set; set it to what `scripts/postgres-for-tests start DIR` prints, or set \
                 ASSAY_TEST_NO_POSTGRES=1 to leave PostgreSQL out"
            );
            return None;
        };
        let name: String = format!("test_{}_{test}", std::process::id()).chars().take(63).collect();
        admin(&server, &format!("CREATE DATABASE {name}")).await;
        let (address, options) = server.split_once('?').unwrap_or((&server, ""));
        let (address, _) = address.rsplit_once('/').expect("a URL with a database");
        let url = format!("{address}/{name}?{options}");
        Some(Self { url, _dir: None, postgres: Some((server, name)) })
    }

    pub(crate) async fn remove(self) {
        if let Some((server, name)) = self.postgres {
            admin(&server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }

    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        assay_store::open(&self.url).await.unwrap()
    }

    /// Runs a statement behind the store's back.
    pub(crate) async fn tamper(&self, sql: &'static str) {
        match self.url.strip_prefix("sqlite:") {
            Some(path) => {
                rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
            }
            None => admin(&self.url, sql).await,
        }
    }

    /// Breaks all connections; SQLite has none.
    pub(crate) async fn break_connections(&self) {
        if let Some((server, name)) = &self.postgres {
            let sql =
                format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
            admin(server, &sql).await;
        }
    }
}

async fn admin(url: &str, sql: &str) {
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// A server's engine driver: steps, and commits what they lead to.
pub(crate) struct Driver {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) state: State,
    pub(crate) epoch: Epoch,
    pub(crate) now: Timestamp,
    /// What workers were told.
    pub(crate) sent: Vec<Message>,
}

pub(crate) const START: Timestamp = Timestamp(1_700_000_000_123_456);

impl Driver {
    pub(crate) async fn start(database: &Database) -> Self {
        let store = database.open().await;
        let epoch = store.acquire_leadership().await.unwrap();
        let state = State::rebuild(store.load().await.unwrap(), Timing::default(), START);
        Self { store, state, epoch, now: START, sent: Vec::new() }
    }

    /// One step, its rows as a batch.
    pub(crate) fn step(&mut self, input: Input) -> (Option<Answer>, Batch) {
        self.now = Timestamp(self.now.0 + 1_000);
        let step = self.state.step(input, self.now);
        let mut batch = Batch::default();
        for effect in step.effects {
            match effect {
                Effect::Save(row) => batch.push(*row),
                Effect::Send { message, .. } => self.sent.push(message),
                _ => {}
            }
        }
        (step.answer.ok(), batch)
    }

    pub(crate) async fn input(&mut self, input: Input) -> Option<Answer> {
        let (answer, batch) = self.step(input);
        self.store.commit(self.epoch, &batch).await.unwrap();
        answer
    }

    pub(crate) async fn post(&mut self, jobs: Vec<NewJob>) -> Vec<JobId> {
        match self.input(Input::PostJobs { jobs }).await {
            Some(Answer::Posted(ids)) => ids,
            other => panic!("posting gave {other:?}"),
        }
    }

    pub(crate) async fn hello(&mut self, name: &str, connection: u64, slots: u32) {
        let hello = Hello {
            name: name.parse().unwrap(),
            instance: "i".to_owned(),
            host: "höst".to_owned(),
            version: "1".to_owned(),
            slots,
            classes: ClassSet::parse("dummy,qemu_x86_64"),
            holds: Vec::new(),
            room: None,
            once: false,
        };
        self.input(Input::Hello { connection: ConnectionId(connection), hello }).await;
    }

    /// What was handed out last.
    pub(crate) fn last_assigned(&self) -> Held {
        let assigned = self.sent.iter().rev().find_map(|message| match message {
            Message::Assign { held, .. } => Some(*held),
            _ => None,
        });
        assigned.expect("something was assigned")
    }

    pub(crate) async fn finish(&mut self, connection: u64, outcome: Outcome, reason: &str) {
        let held = self.last_assigned();
        let report = Report { outcome, class: outcome.class(), reason: Some(reason.to_owned()) };
        self.input(Input::Finished { connection: ConnectionId(connection), held, report }).await;
    }

    /// What the store holds rebuilds to what is live.
    pub(crate) async fn check(&self) {
        let rebuilt = State::rebuild(self.store.load().await.unwrap(), Timing::default(), self.now);
        assert_eq!(rebuilt.facts(), self.state.facts());
    }
}

pub(crate) fn job(pairs: &[(&str, &str)]) -> NewJob {
    let settings = pairs.iter().copied().chain([("BACKEND", "dummy")]);
    NewJob::new(Settings::from_request(settings))
}

pub(crate) fn test_job(test: &str) -> NewJob {
    job(&[("TEST", test)])
}

pub(crate) fn is_deposed<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Deposed))
}
