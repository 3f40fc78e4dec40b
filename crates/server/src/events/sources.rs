//! Starts the sources, and stores what they bring.

use super::settings::{SourceKind, SourceSettings};
use crate::ServerError;
use crate::app::App;
use assay_connect::events::amqp::Amqp;
use assay_connect::events::poll::{Polled, Poller, Polling};
use assay_connect::events::{Incoming, MessageInbox, MessageSource, NotStored, Received};
use assay_connect::pace::Backoff;
use assay_engine::ids::Timestamp;
use assay_engine::rules::{news, recurs};
use assay_store::{EndedJob, JobFilter, MessageSource as From, NewMessage, SourceRole};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often ends of jobs are looked for.
const SOON: Duration = Duration::from_millis(500);

/// News that two sources tell, each with a time by a clock of its own, are the same if the times are no further apart:
/// clocks differ, and a message without a time has that of its arrival. What is lost of something that comes back sooner
/// is found only by who knows when it was there before.
pub(super) const NEAR: i64 = 600;

/// Where one source's messages go.
pub(super) struct Inbox {
    pub(super) app: Arc<App>,
    pub(super) source: String,
    pub(super) bus: String,
    pub(super) role: SourceRole,
}

fn new_message(incoming: &Incoming, now: Timestamp) -> NewMessage {
    let Incoming { key, topic, headers, body, sent_at, since, apart, parked } = incoming.clone();
    let news = if parked.is_none() { news(&topic, &body) } else { None };
    let near = since.or(sent_at).unwrap_or(now).plus_seconds(-NEAR);
    let news_since = recurs(&topic).then(|| apart.map_or(near, |apart| apart.max(near)));
    NewMessage { dedupe_key: key, topic, headers, body, sent_at, parked, news, news_since }
}

#[async_trait::async_trait]
impl MessageInbox for Inbox {
    async fn receive(&self, received: &Received) -> Result<u64, NotStored> {
        let now = self.app.clock.now();
        let messages: Vec<NewMessage> =
            received.messages.iter().map(|incoming| new_message(incoming, now)).collect();
        for parked in messages.iter().filter_map(|message| message.parked.as_ref()) {
            tracing::warn!(source = self.source, why = parked, "an event is parked");
        }
        let from = From { name: &self.source, bus: &self.bus, role: self.role };
        let store = self.app.store.events();
        let new =
            store.receive_messages(self.app.outside.epoch, &from, now, &messages, &received.cursors).await;
        let new = new.map_err(|error| NotStored(error.to_string()))?;
        if new > 0 {
            self.app.outside.arrived.notify_one();
            if self.role.backs() {
                tracing::warn!(
                    source = self.source,
                    bus = self.bus,
                    new,
                    "events that the other source should have brought"
                );
            }
        }
        Ok(new)
    }

    async fn cursors(&self) -> Result<BTreeMap<String, String>, NotStored> {
        let cursors = self.app.store.events().message_cursors(&self.source).await;
        cursors.map_err(|error| NotStored(error.to_string()))
    }

    fn report(&self, report: Result<&str, &str>) {
        let mut state = self.app.outside.state();
        let health = state.health.entry(self.source.clone()).or_default();
        match report {
            Ok(doing) => {
                doing.clone_into(&mut health.doing);
                health.trouble = None;
            }
            Err(why) => {
                tracing::warn!(
                    source = self.source,
                    why,
                    "a source of events does not work; it is tried again"
                );
                health.trouble = Some(why.to_owned());
            }
        }
    }
}

impl Inbox {
    /// Of a source by its name.
    pub(super) fn of(app: &Arc<App>, name: &str) -> Self {
        let settings = app.outside.settings.get();
        let bus = settings.map_or(name, |settings| settings.bus(name)).to_owned();
        let role = settings.map_or(SourceRole::Bus, |settings| settings.role(name));
        Self { app: app.clone(), source: name.to_owned(), role, bus }
    }
}

/// Starts a source.
pub(super) fn start(app: &Arc<App>, name: &str, settings: &SourceSettings) -> Result<(), ServerError> {
    let inbox = Inbox::of(app, name);
    let backoff = Backoff::default();
    let polling = |poller: Box<dyn Poller>, every| {
        Box::new(Polling { poller, every, backoff, clock: app.clock.clone() }) as Box<dyn MessageSource>
    };
    let mut source = match &settings.kind {
        SourceKind::Webhook(hook) => {
            if let Err(error) = fs_err::read(&hook.secret_file) {
                return Err(ServerError::Gate(format!("source {name}: {error}")));
            }
            inbox.report(Ok("waiting for requests"));
            return Ok(());
        }
        SourceKind::Amqp(options) => Box::new(Amqp::new((**options).clone(), backoff)),
        SourceKind::Timer { cron, topic, body } => {
            let timer = Timer { cron: cron.clone(), topic: topic.clone(), body: body.clone() };
            polling(Box::new(timer), Duration::from_secs(1))
        }
        SourceKind::Jobs => polling(Box::new(Jobs { app: Arc::downgrade(app) }), SOON),
        SourceKind::Poll { every, what } => {
            let poller = super::pollers::poller(what)
                .map_err(|why| ServerError::Gate(format!("source {name}: {why}")))?;
            polling(poller, *every)
        }
    };
    let stop = app.shutdown.clone();
    app.tasks.spawn(async move { source.run(&inbox, &stop).await });
    Ok(())
}

/// Due times of a cron line.
struct Timer {
    cron: String,
    topic: String,
    body: String,
}

#[async_trait::async_trait]
impl Poller for Timer {
    async fn poll(&self, cursors: &BTreeMap<String, String>, now: Timestamp) -> Result<Polled, String> {
        const CURSOR: &str = "due";
        let cron = crate::gate::timers::parse(&self.cron)?;
        let mut received = Received::default();
        let since = cursors.get(CURSOR).and_then(|text| text.parse().ok()).map(Timestamp);
        let due = match since {
            None => None,
            Some(since) if since == now => return Ok(Polled::default()),
            // The clock was put back: what was due once is known by its key, and what is due next is not waited for until
            // the clock is where it was.
            Some(since) if since > now => None,
            Some(since) => crate::gate::timers::latest(&cron, since, now),
        };
        if let Some(at) = due {
            received.messages.push(Incoming {
                key: format!("{} {}", at.0, self.cron),
                topic: self.topic.clone(),
                headers: "{}".to_owned(),
                body: self.body.clone(),
                sent_at: Some(at),
                since: None,
                apart: None,
                parked: None,
            });
        }
        if since.is_none_or(|since| since > now) || due.is_some() {
            received.cursors.push((CURSOR.to_owned(), Some(now.0.to_string())));
        }
        Ok(Polled { received, more: false, trouble: None })
    }
}

/// Jobs of this server that have ended.
struct Jobs {
    app: std::sync::Weak<App>,
}

#[async_trait::async_trait]
impl Poller for Jobs {
    async fn poll(&self, cursors: &BTreeMap<String, String>, _: Timestamp) -> Result<Polled, String> {
        /// The commit of the last job that was told, and its number.
        const CURSOR: &str = "commit";
        /// When the last one ended, as it was noted once: clocks jump.
        const OLD: &str = "ended";
        const TOGETHER: u32 = 256;
        let Some(app) = self.app.upgrade() else { return Ok(Polled::default()) };
        let store = app.store.events();
        let cursor = cursors.get(CURSOR).and_then(|text| text.split_once(' '));
        let cursor =
            cursor.and_then(|(commit, id)| Some((commit.parse::<i64>().ok()?, id.parse::<i64>().ok()?)));
        let save = |commit: i64, id: i64| {
            let old = cursors.contains_key(OLD).then(|| (OLD.to_owned(), None));
            [(CURSOR.to_owned(), Some(format!("{commit} {id}")))].into_iter().chain(old).collect()
        };
        let after = match cursor {
            Some(cursor) => cursor,
            // Some of the last ones were told; they are known by their keys.
            None if cursors.contains_key(OLD) => (-1, 0),
            None => {
                let last = store.last_commit().await.map_err(|error| error.to_string())?;
                let received = Received { messages: Vec::new(), cursors: save(last, i64::MAX) };
                return Ok(Polled { received, ..Polled::default() });
            }
        };
        let ended = store.ended_jobs(after, TOGETHER).await.map_err(|error| error.to_string())?;
        let Some(last) = ended.last().copied() else { return Ok(Polled::default()) };
        let ids = ended.iter().map(|one| one.job).collect();
        let filter = JobFilter { ids, limit: TOGETHER, ..JobFilter::default() };
        let jobs = app.store.jobs(&filter).await.map_err(|error| error.to_string())?;
        let message = |one: &EndedJob| {
            jobs.iter().find(|job| job.row.id == one.job).map(|job| job_done(&job.row, one.at))
        };
        let received = Received {
            messages: ended.iter().filter_map(message).collect(),
            cursors: save(last.commit, last.job.0),
        };
        Ok(Polled { received, more: ended.len() == TOGETHER as usize, trouble: None })
    }
}

fn job_done(job: &assay_engine::rows::JobRow, at: Timestamp) -> Incoming {
    let end = job.state.end();
    let get = |key: &str| job.settings.get(key);
    let settings: BTreeMap<&str, &str> = job
        .settings
        .iter()
        .filter(|(key, _)| !assay_engine::settings::is_secret_name(key))
        .map(|(key, setting)| (key, setting.value.as_str()))
        .collect();
    let body = json!({
        "id": job.id.0,
        "result": end.map(|end| end.outcome.openqa()),
        "item_type": get("ITEM_TYPE"),
        "item": get("ITEM"),
        "revision": get("ITEM_REVISION"),
        "test": get("TEST"),
        "arch": get("ARCH"),
        "rule": get("ASSAY_RULE"),
        "restart_of": job.clone_of.map(|of| of.0),
        "retry": job.retries.tries(),
        "settings": settings,
    });
    Incoming {
        key: format!("job/{}", job.id.0),
        topic: "assay.job.done".to_owned(),
        headers: "{}".to_owned(),
        body: body.to_string(),
        sent_at: Some(at),
        since: None,
        apart: None,
        parked: None,
    }
}
