//! Gerrit's events, none lost: the stream, and a look at what happened while there was none.
//!
//! The stream is opened first. Then everything that was touched since the cursor, and some time before, is asked for
//! and turned into the events that would have come. What comes twice is recognised by its key. Until that look has
//! succeeded the cursor stays where it was, while live events go on.

use super::convert::{self, Meaning};
use super::error::GerritError;
use super::found::{self, Find, Refs};
use super::key::{self, Key, Recent, identity};
use super::parse::{self, ChangeAttr, StreamEvent};
use super::ssh::Connection;
use super::{Detail, Gerrit};
use crate::inbox::{Arrival, Batch, Cursor, Inbox, News, Start, Tips};
use crate::pace::Backoff;
use assay_engine::gate::ids::ProjectName;
use assay_engine::gate::io::Event;
use assay_engine::ids::Timestamp;
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use russh::{Channel, ChannelMsg, client};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// How events are read.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceOptions {
    /// A look goes back so much further than it must: changes become visible in queries a little late.
    pub overlap: Duration,
    /// The time of an event and that of what is found of it differ by at most so many seconds.
    pub tolerance: i64,
    /// Between tries to connect, and between tries to look or to store.
    pub backoff: Backoff,
    /// Projects whose branches and tags are compared when the stream was interrupted.
    pub projects: BTreeSet<ProjectName>,
    /// Gerrit takes the command a little before it begins to send: so long after it a second look is taken.
    pub settle: Duration,
    /// A look is taken so often although nothing seems to be missing, over all the time since the last one.
    pub resync: Option<Duration>,
    /// The cursor moves at least so often.
    pub idle: Duration,
    /// The most events that are stored at once.
    pub batch: usize,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            overlap: Duration::from_mins(2),
            tolerance: 10,
            backoff: Backoff::default(),
            projects: BTreeSet::new(),
            settle: Duration::from_secs(5),
            resync: Some(Duration::from_mins(15)),
            idle: Duration::from_secs(30),
            batch: 500,
        }
    }
}

/// Whether there is a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Not yet, or not any more.
    Down {
        /// Since when.
        since: Timestamp,
        /// Why, with a remedy.
        why: String,
        /// Tries that failed since.
        tries: u32,
    },
    /// Yes.
    Up {
        /// Since when.
        since: Timestamp,
    },
}

/// How the source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Whether there is a stream.
    pub link: Link,
    /// When the last event arrived.
    pub last_event: Option<Timestamp>,
    /// How long that one took to get here, in microseconds, by both clocks.
    pub lag_us: Option<i64>,
    /// Up to here nothing is missing.
    pub complete_to: Timestamp,
    /// Looks that succeeded.
    pub looks: u64,
    /// Why the last look failed, if it did.
    pub look_trouble: Option<String>,
    /// Why the inbox takes nothing, if so.
    pub inbox_trouble: Option<String>,
    /// Events handed over.
    pub stored: u64,
    /// Of them those that were found by looking.
    pub found: u64,
    /// Events that had arrived before.
    pub duplicates: u64,
    /// Lines that could not be read.
    pub unreadable: u64,
}

/// The source of a Gerrit's events.
pub struct GerritSource {
    gerrit: Gerrit,
    options: SourceOptions,
    /// Everything up to here is stored. Moves only while nothing is missing.
    since: Timestamp,
    /// When the last look that succeeded was begun; what was thrown away silently since is not found yet.
    looked: Timestamp,
    /// History begins with the first connection.
    first: bool,
    tips: Tips,
    recent: Recent,
    ahead_us: Option<i64>,
    health: watch::Sender<Health>,
    wish: Arc<Notify>,
}

/// What a look brought.
struct Look {
    begun: Timestamp,
    from: Timestamp,
    rows: Vec<ChangeAttr>,
    /// Projects, their refs, and whether those are all.
    refs: Vec<(ProjectName, Refs, bool)>,
}

/// Why a conversation has come to its end.
struct Ended(String);

impl Gerrit {
    /// The source of its events, going on where the inbox says.
    pub fn source(&self, options: SourceOptions, start: Start) -> GerritSource {
        let now = self.shared.clock.now();
        let first = start.cursor.is_none();
        let cursor = start.cursor.unwrap_or(Cursor { since: now, recent: Vec::new(), ahead_us: None });
        let link = Link::Down { since: now, why: "not connected yet".to_owned(), tries: 0 };
        let health = Health {
            link,
            last_event: None,
            lag_us: None,
            complete_to: cursor.since,
            looks: 0,
            look_trouble: None,
            inbox_trouble: None,
            stored: 0,
            found: 0,
            duplicates: 0,
            unreadable: 0,
        };
        GerritSource {
            gerrit: self.clone(),
            options,
            since: cursor.since,
            looked: cursor.since,
            first,
            tips: start.tips,
            recent: Recent::new(&cursor.recent, cursor.since),
            ahead_us: cursor.ahead_us,
            health: watch::channel(health).0,
            wish: Arc::new(Notify::new()),
        }
    }
}

#[async_trait]
impl crate::Source for GerritSource {
    async fn run(&mut self, inbox: &dyn Inbox, cancel: &CancellationToken) {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = self.work(inbox) => {}
        }
    }
}

impl GerritSource {
    /// How it is, and every change of that.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Wakes it to take a look although nothing seems to be missing.
    pub fn look_again(&self) -> Arc<Notify> {
        self.wish.clone()
    }

    fn now(&self) -> Timestamp {
        self.gerrit.shared.clock.now()
    }

    async fn work(&mut self, inbox: &dyn Inbox) {
        let mut failed = 0;
        loop {
            let why = match self.open().await {
                Ok((connection, channel)) => {
                    let looks = self.health.borrow().looks;
                    let Ended(why) = self.converse(inbox, connection, channel).await;
                    if self.health.borrow().looks > looks {
                        failed = 0;
                    }
                    why
                }
                Err(error) => error.to_string(),
            };
            failed += 1;
            tracing::warn!(source = %self.gerrit.source_name(), why, "no event stream");
            let now = self.now();
            self.health.send_modify(|health| {
                let since = if let Link::Down { since, .. } = health.link { since } else { now };
                health.link = Link::Down { since, why, tries: failed };
            });
            sleep(self.options.backoff.draw(failed)).await;
        }
    }

    async fn open(&self) -> Result<(Connection, Channel<client::Msg>), GerritError> {
        let ssh = &self.gerrit.shared.options.ssh;
        let connection = Connection::open(ssh).await?;
        let start = connection.start("gerrit stream-events");
        let channel = tokio::time::timeout(ssh.connect, start).await.map_err(|_| {
            GerritError::TimedOut { what: "the event stream".to_owned(), after: ssh.connect, sent: false }
        })??;
        Ok((connection, channel))
    }

    /// Reads and stores until the stream ends.
    async fn converse(
        &mut self,
        inbox: &dyn Inbox,
        connection: Connection,
        mut channel: Channel<client::Msg>,
    ) -> Ended {
        let early = match accepted(&mut channel, self.gerrit.shared.options.ssh.connect).await {
            Ok(early) => early,
            Err(ended) => return ended,
        };
        let (to, mut lines) = mpsc::channel(1024);
        let read = read_lines(channel, to, early);
        let since = self.now();
        self.health.send_modify(|health| health.link = Link::Up { since });
        let work = self.dispose(inbox, &mut lines);
        tokio::pin!(read, work);
        let why = tokio::select! {
            // What has been read is stored before the end is noticed: `dispose` ends when the lines do.
            () = &mut work => (&mut read).now_or_never().flatten(),
            why = &mut read => { work.await; why }
        };
        drop(connection);
        Ended(why.unwrap_or_else(|| "Gerrit ended the event stream".to_owned()))
    }

    /// Deals with lines and looks until there are no more lines.
    async fn dispose(&mut self, inbox: &dyn Inbox, lines: &mut mpsc::Receiver<Line>) {
        let start = Instant::now();
        let mut idle = interval_at(start + self.options.idle, self.options.idle);
        idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let period = self.options.resync.unwrap_or(Duration::from_hours(24 * 365));
        let mut resync = interval_at(start + period, period);
        let wish = self.wish.clone();
        // The look under way; when to take the next one; whether something went missing since this one began.
        let mut look: Option<BoxFuture<'static, Result<Look, GerritError>>> = Some(self.look());
        let mut due: Option<Instant> = None;
        let mut settled = false;
        let mut missing = false;
        let mut failed = 0;
        let mut buffer = Vec::new();
        loop {
            tokio::select! {
                count = lines.recv_many(&mut buffer, self.options.batch) => {
                    if count == 0 {
                        return;
                    }
                    let complete = look.is_none() && due.is_none();
                    let heard = self.hear(&mut buffer);
                    let lost = heard.lost;
                    self.hand_over(inbox, heard.arrivals, 0, (complete && !lost).then_some(heard.at), heard.tips).await;
                    if lost {
                        missing |= look.is_some();
                        due = due.or(Some(Instant::now() + heard.patience));
                    }
                }
                result = async { match &mut look { Some(look) => look.await, None => std::future::pending().await } } => {
                    look = None;
                    match result {
                        Ok(found) => {
                            failed = 0;
                            due = missing.then(Instant::now);
                            missing = false;
                            if !std::mem::replace(&mut settled, true) {
                                due = Some(start + self.options.settle);
                            }
                            self.found(inbox, found, due.is_none()).await;
                        }
                        Err(error) => {
                            failed += 1;
                            tracing::warn!(source = %self.gerrit.source_name(), %error, "looking for missed events failed");
                            self.health.send_modify(|health| health.look_trouble = Some(error.to_string()));
                            due = Some(Instant::now() + self.options.backoff.draw(failed));
                        }
                    }
                }
                () = async { match due { Some(due) => sleep_until(due).await, None => std::future::pending().await } },
                    if look.is_none() =>
                {
                    due = None;
                    look = Some(self.look());
                }
                () = wish.notified() => {
                    missing |= look.is_some();
                    due = due.or(Some(Instant::now()));
                }
                _ = resync.tick() => due = due.or(Some(Instant::now())),
                _ = idle.tick(), if look.is_none() && due.is_none() => {
                    // A dead connection is noticed after a while only; so far back nothing is certain.
                    let blind = micros(self.gerrit.shared.options.ssh.blind_time());
                    let certain = Timestamp(self.now().0.saturating_sub(blind));
                    if certain > self.since {
                        self.hand_over(inbox, Vec::new(), 0, Some(certain), false).await;
                    }
                }
            }
        }
    }

    /// How far back a look must go.
    fn floor(&self) -> Timestamp {
        if self.options.resync.is_some() { self.since.min(self.looked) } else { self.since }
    }

    /// What was touched since the last look, and where the refs stand.
    fn look(&self) -> BoxFuture<'static, Result<Look, GerritError>> {
        let gerrit = self.gerrit.clone();
        let projects = self.options.projects.clone();
        let (begun, from, first) = (self.now(), self.floor(), self.first);
        let age = (begun.micros_since(from) + micros(self.options.overlap)).div_euclid(1_000_000) + 1;
        async move {
            let rows = if first {
                Vec::new()
            } else {
                // Gerrit's own clock counts the age, so ours may be wrong.
                gerrit.shared.rows(&format!("NOT age:{age}s"), Detail::History).await?
            };
            let refs = |project: ProjectName| {
                let gerrit = gerrit.clone();
                async move {
                    match gerrit.shared.refs(project.as_str()).await {
                        Ok((list, all)) => {
                            let named = list
                                .into_iter()
                                .filter_map(|(name, tip)| Some((convert::ref_name(&name)?, tip.into())));
                            Ok(Some((project, named.collect(), all)))
                        }
                        Err(error) if error.is_temporary() => Err(error),
                        Err(error) => {
                            tracing::warn!(%project, %error, "the branches of a project cannot be compared");
                            Ok(None)
                        }
                    }
                }
            };
            let refs = stream::iter(projects).map(refs).buffer_unordered(4);
            let refs: Vec<Option<(ProjectName, Refs, bool)>> = refs.try_collect().await?;
            Ok(Look { begun, from, rows, refs: refs.into_iter().flatten().collect() })
        }
        .boxed()
    }

    /// Hands over what a look brought.
    async fn found(&mut self, inbox: &dyn Inbox, look: Look, complete: bool) {
        let source = self.gerrit.source_name().clone();
        let ahead = self.ahead_us.unwrap_or(0);
        let cutoff = look.from.0.saturating_sub(micros(self.options.overlap)).saturating_add(ahead);
        let mut finds: Vec<Find> = Vec::new();
        for row in &look.rows {
            self.gerrit.shared.cache().void(row.number);
            finds.extend(found::of_change(&source, row, Timestamp(cutoff)));
        }
        let mut tips_moved = false;
        for (project, refs, all) in look.refs {
            let refs = &self.with_tags(&project, refs, all);
            let project = &project;
            let at = Timestamp(look.begun.0.saturating_add(ahead));
            finds.extend(found::of_refs(&source, project, &self.tips, refs, at));
            if self.tips.0.get(project) != Some(refs) {
                tips_moved = true;
                self.tips.0.insert(project.clone(), refs.clone());
            }
        }
        finds.sort_by_key(|find| find.at);
        let at = self.now();
        let mut arrivals = Vec::new();
        for find in finds {
            arrivals.extend(self.admit(&find.key, at, find.news));
        }
        let events = arrivals.iter().filter(|arrival| matches!(arrival.news, News::Event(_))).count();
        let to = complete.then_some(look.begun.max(self.since));
        self.first = false;
        self.looked = look.begun;
        self.hand_over(inbox, arrivals, events as u64, to, tips_moved).await;
        self.health.send_modify(|health| {
            health.looks += 1;
            health.look_trouble = None;
        });
    }

    /// The refs with the tags that we know, if Gerrit tells none.
    fn with_tags(&self, project: &ProjectName, mut refs: Refs, all: bool) -> Refs {
        let known = self.tips.0.get(project).into_iter().flatten();
        for (name, tip) in known.filter(|(name, _)| !all && found::is_tag(name)) {
            refs.entry(name.clone()).or_insert_with(|| tip.clone());
        }
        refs
    }

    /// Reads lines and takes what is new.
    fn hear(&mut self, lines: &mut Vec<Line>) -> Heard {
        let at = self.now();
        let mut heard =
            Heard { arrivals: Vec::new(), at, lost: false, patience: Duration::ZERO, tips: false };
        for line in lines.drain(..) {
            let event = match line {
                Line::Whole(line) => parse::event(&line).map_err(|error| error.to_string()),
                Line::TooLong => Err("a line is longer than any event".to_owned()),
            };
            match event {
                Ok(event) => self.take(&event, &mut heard),
                Err(error) => {
                    tracing::warn!(source = %self.gerrit.source_name(), error, "an event cannot be read");
                    self.health.send_modify(|health| health.unreadable += 1);
                    // Looking tells what it was. If all are unreadable, not for each of them.
                    heard.lost = true;
                    heard.patience = heard.patience.max(self.options.idle);
                }
            }
        }
        heard
    }

    fn take(&mut self, event: &StreamEvent, heard: &mut Heard) {
        let at = heard.at;
        self.gerrit.shared.cache().hear(event);
        if let Some(created) = event.created_on {
            let ahead = created.0 - at.0;
            self.ahead_us = Some(self.ahead_us.map_or(ahead, |known| known.max(ahead)));
        }
        self.health.send_modify(|health| {
            health.last_event = Some(at);
            health.lag_us = event.created_on.map(|created| at.micros_since(created));
        });
        match convert::meaning(self.gerrit.source_name(), event) {
            Meaning::Events(events) => {
                for one in events {
                    if let Some(key) = self.key_of(event, &one, heard) {
                        let arrival = self.admit(&key, at, News::Event(Box::new(one)));
                        let made = convert::made(event);
                        heard.arrivals.extend(arrival.map(|arrival| Arrival { made, ..arrival }));
                    }
                }
            }
            Meaning::Changed(change) => {
                if let Some(key) = key::of_stream(event) {
                    heard.arrivals.extend(self.admit(&key, at, News::Changed(change)));
                }
            }
            Meaning::Dropped => heard.lost = true,
            Meaning::Nothing => {}
        }
    }

    /// An event's key; none if a look has told it already, in another way.
    fn key_of(&mut self, event: &StreamEvent, one: &Event, heard: &mut Heard) -> Option<Key> {
        let Some(update) = &one.ref_update else { return key::of_stream(event) };
        let key = Key::live(identity::ref_updated(one), event.created_on);
        let told = self.tips.tip(&update.project, &update.name).is_some_and(|tip| *tip == update.new);
        if told && !self.recent.knows(&key, 0) {
            self.health.send_modify(|health| health.duplicates += 1);
            return None;
        }
        let refs = self.tips.0.entry(update.project.clone()).or_default();
        let moved = if update.is_delete() {
            refs.remove(&update.name).is_some()
        } else {
            refs.insert(update.name.clone(), update.new.clone()).as_ref() != Some(&update.new)
        };
        heard.tips |= moved;
        Some(key)
    }

    /// What has not arrived before.
    fn admit(&mut self, key: &Key, at: Timestamp, news: News) -> Option<Arrival> {
        // When a ref was moved is not told where it is found.
        let is_ref = matches!(&news, News::Event(event) if event.ref_update.is_some());
        let tolerance = if is_ref { i64::MAX } else { self.options.tolerance };
        if self.recent.knows(key, tolerance) {
            self.health.send_modify(|health| health.duplicates += 1);
            return None;
        }
        self.recent.add(key, at);
        Some(Arrival { key: key.to_text(), at, news, made: None })
    }

    /// What arrived before this cannot be found by a look that goes back to `from`.
    fn before(&self, from: Timestamp) -> Timestamp {
        Timestamp(from.0.saturating_sub(2 * micros(self.options.overlap)))
    }

    /// Stores, however long it takes. `to` is up to where nothing is missing now.
    async fn hand_over(
        &mut self,
        inbox: &dyn Inbox,
        arrivals: Vec<Arrival>,
        found: u64,
        to: Option<Timestamp>,
        tips: bool,
    ) {
        if let Some(to) = to {
            self.since = self.since.max(to);
            self.recent.forget_before(self.before(self.floor()));
        }
        if arrivals.is_empty() && to.is_none() && !tips {
            return;
        }
        let cursor = Cursor {
            since: self.since,
            recent: self.recent.keys_since(self.before(self.since)),
            ahead_us: self.ahead_us,
        };
        let stored = arrivals.len() as u64;
        // Before the first look history has not begun: a restart begins it anew.
        let batch = Batch {
            arrivals,
            cursor: (!self.first).then_some(cursor),
            tips: tips.then(|| self.tips.clone()),
        };
        let mut failed = 0;
        while let Err(error) = inbox.store(&batch).await {
            failed += 1;
            tracing::error!(source = %self.gerrit.source_name(), %error, "events wait");
            self.health.send_modify(|health| health.inbox_trouble = Some(error.to_string()));
            sleep(self.options.backoff.draw(failed)).await;
        }
        let complete_to = self.since;
        self.health.send_modify(|health| {
            health.inbox_trouble = None;
            health.stored += stored;
            health.found += found;
            health.complete_to = complete_to;
        });
    }
}

/// What some lines said.
struct Heard {
    arrivals: Vec<Arrival>,
    at: Timestamp,
    /// Something went missing.
    lost: bool,
    /// How long looking for it can wait.
    patience: Duration,
    /// Refs moved.
    tips: bool,
}

/// A line of the stream.
enum Line {
    Whole(String),
    TooLong,
}

/// No event is longer.
const LONGEST_LINE: usize = 16 << 20;

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4)
}

/// Waits until the server has taken the command; what it has said by then.
async fn accepted(channel: &mut Channel<client::Msg>, deadline: Duration) -> Result<Vec<u8>, Ended> {
    let wait = async {
        loop {
            match channel.wait().await {
                Some(ChannelMsg::Success) => return Ok(Vec::new()),
                Some(ChannelMsg::Data { data }) => return Ok(data.to_vec()),
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    return Err(String::from_utf8_lossy(&data).trim().to_owned());
                }
                Some(ChannelMsg::WindowAdjusted { .. }) => {}
                _ => return Err("Gerrit does not take the command stream-events".to_owned()),
            }
        }
    };
    let late = || Ended("Gerrit did not begin the event stream in time".to_owned());
    tokio::time::timeout(deadline, wait).await.map_err(|_| late())?.map_err(Ended)
}

/// Reads lines until the stream ends; what it complained of.
async fn read_lines(
    mut channel: Channel<client::Msg>,
    to: mpsc::Sender<Line>,
    early: Vec<u8>,
) -> Option<String> {
    let mut rest = early;
    let mut complaint = Vec::new();
    let mut skipping = false;
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => rest.extend_from_slice(&data),
            ChannelMsg::ExtendedData { data, .. } => complaint.extend_from_slice(&data),
            _ => continue,
        }
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).trim().to_owned();
            let whole = !std::mem::take(&mut skipping);
            if whole && !line.is_empty() && to.send(Line::Whole(line)).await.is_err() {
                return None;
            }
        }
        if rest.len() > LONGEST_LINE {
            rest.clear();
            if !std::mem::replace(&mut skipping, true) && to.send(Line::TooLong).await.is_err() {
                return None;
            }
        }
    }
    let said = String::from_utf8_lossy(&complaint).trim().to_owned();
    (!said.is_empty()).then(|| format!("Gerrit ended the event stream: {}", parse::excerpt(&said)))
}
