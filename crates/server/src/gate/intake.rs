//! The intake: what happens outside is stored in the inbox, then completed with what its source says of the change, then
//! given to the gate. An event that is stored is dealt with, whatever is killed meanwhile.
//!
//! Events are given to the gate in the order in which they came. One whose source does not answer loses its turn, and
//! only what is about the same change waits with it.

use super::lander::Pauses;
use super::ports::{Consumes, Decider, Facts, Undecided};
use crate::app::App;
use assay_connect::{Arrival, News};
use assay_engine::gate::change::ChangeFacts;
use assay_engine::gate::config::EventKind;
use assay_engine::gate::ids::{ChangeId, Patchset, ProjectName, SourceName};
use assay_engine::gate::io::{Event, Input};
use assay_proto::clock::Clock;
use assay_store::{Epoch, NewEvent, Store, StoreError, StoredEvent};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Hears why events wait: the source's name, and what is wrong, or `None` when that is over.
pub(crate) trait Watcher: Send + Sync {
    fn note(&self, source: &SourceName, why: Option<String>);
}

impl Watcher for App {
    fn note(&self, source: &SourceName, why: Option<String>) {
        let mut status = self.gate.edit();
        match why {
            Some(why) => drop(status.waiting.insert(source.clone(), why)),
            None => drop(status.waiting.remove(source)),
        }
    }
}

/// Hears of what arrives before it is stored: what it does with that must do no harm if the event is lost again.
pub(crate) trait Ears: Send + Sync {
    fn hear(&self, source: &SourceName, arrival: &Arrival);
}

/// The inbox and the way from it to the gate.
pub(crate) struct Intake {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) epoch: Epoch,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) decider: Arc<dyn Decider>,
    pub(crate) facts: Arc<dyn Facts>,
    pub(crate) pauses: Pauses,
    watcher: Arc<dyn Watcher>,
    ears: Arc<dyn Ears>,
    stored: mpsc::UnboundedSender<Work>,
    turns: Turns,
}

/// Whose turn it is: the events that have been begun and not been given to the gate yet.
#[derive(Default)]
struct Turns(watch::Sender<BTreeSet<i64>>);

impl Turns {
    /// The longest that an event which is ready waits for an earlier one.
    const PATIENCE: Duration = Duration::from_secs(2);

    fn open(&self, event: i64) {
        self.0.send_if_modified(|open| open.insert(event));
    }

    fn close(&self, event: i64) {
        self.0.send_if_modified(|open| open.remove(&event));
    }

    /// Waits until every earlier event has been given to the gate, or has had its time.
    async fn wait(&self, event: i64) {
        let mut open = self.0.subscribe();
        let first = open.wait_for(|open| open.first().is_none_or(|first| *first >= event));
        if tokio::time::timeout(Self::PATIENCE, first).await.is_err() {
            self.0.send_modify(|open| *open = open.split_off(&event));
        }
    }
}

/// Something for the intake's task.
enum Work {
    Event(Box<StoredEvent>),
    Refresh(ChangeId),
    /// A change has merged: every other open change of its project becomes an event.
    Offer(Patchset, ProjectName),
}

/// The intake's end of the inbox.
pub(crate) struct Incoming(mpsc::UnboundedReceiver<Work>);

/// What is dealt with in order: everything about one change, or about none.
type Lane = (SourceName, Option<u64>);

/// What waits, lane by lane.
#[derive(Default)]
struct Lanes {
    waiting: HashMap<Lane, VecDeque<Work>>,
    busy: HashSet<Lane>,
    /// How many lanes of each source are busy: a source that is down keeps its own places and no others.
    begun: HashMap<SourceName, usize>,
    /// Lanes that wait and are not busy, by source and what is first in them.
    ready: BTreeMap<SourceName, BTreeSet<(i64, Lane)>>,
}

impl Lanes {
    fn add(&mut self, work: Work) {
        let lane = lane_of(&work);
        let queue = self.waiting.entry(lane.clone()).or_default();
        let order = order_of(&work);
        queue.push_back(work);
        if queue.len() == 1 && !self.busy.contains(&lane) {
            self.is_ready(order, lane);
        }
    }

    fn is_ready(&mut self, order: i64, lane: Lane) {
        self.ready.entry(lane.0.clone()).or_default().insert((order, lane));
    }

    /// What comes next, of a source that is not busy enough; its lane is busy until it is said to be free.
    fn next(&mut self) -> Option<(Lane, Work)> {
        let has_place = |source: &SourceName| self.begun.get(source).is_none_or(|begun| *begun < AT_ONCE);
        let firsts = self.ready.iter().filter(|(source, _)| has_place(source));
        let (_, source) =
            firsts.filter_map(|(source, ready)| Some((ready.first()?.0, source.clone()))).min()?;
        let ready = self.ready.get_mut(&source)?;
        let (_, lane) = ready.pop_first()?;
        if ready.is_empty() {
            self.ready.remove(&source);
        }
        let work = self.waiting.get_mut(&lane)?.pop_front()?;
        self.busy.insert(lane.clone());
        *self.begun.entry(source).or_default() += 1;
        Some((lane, work))
    }

    fn is_free(&mut self, lane: Lane) {
        self.busy.remove(&lane);
        if let Some(begun) = self.begun.get_mut(&lane.0) {
            *begun -= 1;
            if *begun == 0 {
                self.begun.remove(&lane.0);
            }
        }
        match self.waiting.get(&lane).and_then(VecDeque::front).map(order_of) {
            Some(next) => self.is_ready(next, lane),
            None => drop(self.waiting.remove(&lane)),
        }
    }
}

/// The source of events that the gate itself causes, as triggers name it.
const OWN_SOURCE: &str = "zuul";

/// Conversations with one source at one time.
const AT_ONCE: usize = 32;

impl Intake {
    pub(crate) fn new(
        (store, epoch): (Arc<dyn Store>, Epoch),
        clock: Arc<dyn Clock>,
        decider: Arc<dyn Decider>,
        facts: Arc<dyn Facts>,
        pauses: Pauses,
        watcher: Arc<dyn Watcher>,
        ears: Arc<dyn Ears>,
    ) -> (Arc<Self>, Incoming) {
        let (stored, incoming) = mpsc::unbounded_channel();
        let turns = Turns::default();
        (
            Arc::new(Self { store, epoch, clock, decider, facts, pauses, watcher, ears, stored, turns }),
            Incoming(incoming),
        )
    }

    /// Stores events and how far their source has been read. When this returns, they will be dealt with.
    pub(crate) async fn receive(
        &self,
        source: &SourceName,
        arrivals: &[Arrival],
        cursors: &[(String, Option<String>)],
    ) -> Result<(), StoreError> {
        let event = |arrival: &Arrival| {
            let body = serde_json::to_string(&arrival.news).unwrap_or_default();
            NewEvent {
                dedupe_key: arrival.key.clone(),
                change: arrival.news.change().map(|id| id.number),
                body,
            }
        };
        for arrival in arrivals {
            self.ears.hear(source, arrival);
        }
        let events: Vec<_> = arrivals.iter().map(event).collect();
        let new = self.store.gate().receive(self.epoch, source, self.clock.now(), &events, cursors).await?;
        for event in new {
            let _ = self.stored.send(Work::Event(Box::new(event)));
        }
        Ok(())
    }

    /// Asks a source about a change and tells the gate.
    pub(crate) fn refresh(&self, change: ChangeId) {
        let _ = self.stored.send(Work::Refresh(change));
    }

    /// Has the other open changes of a project told that one of it has merged.
    pub(crate) fn offer(&self, merged: Patchset, project: ProjectName) {
        let _ = self.stored.send(Work::Offer(merged, project));
    }

    /// Deals with what is in the inbox and with what comes, until the end.
    pub(crate) async fn run(self: Arc<Self>, mut incoming: Incoming, end: CancellationToken) {
        let Some(old) = self.take_up(&end).await else { return };
        let mut taken_up: HashSet<_> = old.iter().map(|event| event.id).collect();
        let mut lanes = Lanes::default();
        for event in old {
            lanes.add(Work::Event(Box::new(event)));
        }
        let mut tasks: JoinSet<Lane> = JoinSet::new();
        loop {
            while let Some((lane, work)) = lanes.next() {
                let intake = self.clone();
                let order = order_of(&work);
                // Only what is begun has a turn: what waits behind another event of its change holds nobody up.
                if let Work::Event(_) = &work {
                    self.turns.open(order);
                }
                tasks.spawn(async move {
                    intake.deal_with(work).await;
                    intake.turns.close(order);
                    lane
                });
            }
            tokio::select! {
                () = end.cancelled() => return,
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    if let Ok(lane) = ended {
                        lanes.is_free(lane);
                    }
                }
                Some(work) = incoming.0.recv() => {
                    // What was stored while the inbox was read at the start comes twice: read there, and said.
                    let twice = matches!(&work, Work::Event(event) if taken_up.remove(&event.id));
                    if !twice {
                        lanes.add(work);
                    }
                }
            }
        }
    }

    /// What an earlier server, or this one before its start, has stored, the first first; `None` at the end.
    async fn take_up(&self, end: &CancellationToken) -> Option<Vec<StoredEvent>> {
        let mut tries = 0;
        loop {
            match self.store.gate().unconsumed().await {
                Ok(events) => return Some(events),
                Err(error) => tracing::warn!(%error, "the inbox cannot be read; it is tried again"),
            }
            tries += 1;
            tokio::select! {
                () = end.cancelled() => return None,
                () = tokio::time::sleep(self.pauses.after(tries)) => {}
            }
        }
    }

    async fn deal_with(&self, work: Work) {
        let event = match work {
            Work::Event(event) => event,
            Work::Refresh(change) => {
                let facts = self.facts_of(&change, None).await;
                if let Err(why) = self.decider.decide(Input::Facts(facts), None).await {
                    tracing::warn!(%change, %why, "the gate does not take facts");
                }
                return;
            }
            Work::Offer(merged, project) => return self.tell_open(&merged, &project).await,
        };
        let news = match serde_json::from_str::<News>(&event.body) {
            Ok(news) => news,
            Err(error) => return self.park(&event, &format!("it cannot be read: {error}")).await,
        };
        let facts = match news.change() {
            Some(change) => self.facts_of(change, Some(&event)).await,
            None => Vec::new(),
        };
        let news = match news {
            News::Event(happened) => News::Event(Box::new(Event { facts: facts.clone(), ..*happened })),
            changed @ News::Changed(_) => changed,
        };
        let consumes = Consumes { event: event.id, body: serde_json::to_string(&news).ok() };
        let input = match news {
            News::Event(happened) => Input::Event(happened),
            News::Changed(_) => Input::Facts(facts),
        };
        self.turns.wait(event.id.0).await;
        // Once it is in the gate's queue the next one may follow: they are decided in one group.
        let mut decision = self.decider.decide(input, Some(consumes));
        let decided = match futures_util::poll!(decision.as_mut()) {
            Poll::Ready(decided) => decided,
            Poll::Pending => {
                self.turns.close(event.id.0);
                decision.await
            }
        };
        match decided {
            Ok(_) | Err(Undecided::Stopping) => {}
            Err(Undecided::Refused(why)) => self.park(&event, &why).await,
        }
    }

    /// Stores an event for every other open change of the project, however long its source takes. Twice told, it is
    /// stored once.
    async fn tell_open(&self, merged: &Patchset, project: &ProjectName) {
        let kind = EventKind::ProjectChangeMerged;
        let mut tries = 0;
        loop {
            tries += 1;
            let told = match self.facts.open(&merged.change.source, project).await {
                Ok(mut open) => {
                    open.retain(|other| other.change != merged.change);
                    let arrivals = open.into_iter().map(|other| Arrival {
                        key: format!("{} {merged} {other}", kind.word()),
                        at: self.clock.now(),
                        news: News::Event(Box::new(Event {
                            change: Some(other),
                            ..Event::new(OWN_SOURCE.into(), kind)
                        })),
                        made: None,
                    });
                    let arrivals: Vec<Arrival> = arrivals.collect();
                    self.receive(&OWN_SOURCE.into(), &arrivals, &[]).await.map_err(|error| error.to_string())
                }
                Err(trouble) => Err(trouble.0),
            };
            let Err(why) = told else { return };
            tracing::warn!(%project, why, "the open changes of a project are not told of a merge yet");
            tokio::time::sleep(self.pauses.after(tries)).await;
        }
    }

    /// What the source says, however long it takes.
    /// An event that they are for loses its turn when they do not come at once.
    async fn facts_of(&self, change: &ChangeId, event: Option<&StoredEvent>) -> Vec<ChangeFacts> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.facts.facts(change).await {
                Ok(facts) => {
                    if tries > 1 {
                        self.watcher.note(&change.source, None);
                    }
                    return facts;
                }
                Err(trouble) => {
                    tracing::warn!(%change, why = %trouble, "a source does not answer; its events wait");
                    if let Some(event) = event {
                        self.turns.close(event.id.0);
                    }
                    self.watcher.note(&change.source, Some(trouble.0));
                }
            }
            tokio::time::sleep(self.pauses.after(tries)).await;
        }
    }

    async fn park(&self, event: &StoredEvent, why: &str) {
        tracing::error!(event = event.id.0, source = %event.source, why, "an event is put aside");
        if let Err(error) = self.store.gate().park(self.epoch, event.id, why).await {
            tracing::error!(%error, "it could not be put aside; it is tried again at the next start");
        }
    }
}

fn lane_of(work: &Work) -> Lane {
    match work {
        Work::Event(event) => (event.source.clone(), event.change),
        Work::Refresh(change) => (change.source.clone(), Some(change.number)),
        Work::Offer(..) => (OWN_SOURCE.into(), None),
    }
}

/// Events by their number, which grows with their arrival; what is no event comes after them.
fn order_of(work: &Work) -> i64 {
    match work {
        Work::Event(event) => event.id.0,
        Work::Refresh(_) | Work::Offer(..) => i64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::super::ports::Trouble;
    use super::*;
    use assay_engine::gate::io::Answer;
    use assay_proto::clock::SystemClock;
    use assay_store::{Batch, EventState};
    use std::sync::Mutex;
    use tokio::sync::{Notify, Semaphore};

    /// A source that can be down, as a whole or for one change, and a gate that writes down what it hears.
    struct World {
        store: Arc<dyn Store>,
        epoch: Epoch,
        up: Semaphore,
        stuck: Mutex<Option<u64>>,
        /// As the gate's: what came first is decided first.
        queue: tokio::sync::Mutex<()>,
        heard: Mutex<Vec<String>>,
        news: Notify,
        stopping: std::sync::atomic::AtomicBool,
        waiting: Mutex<BTreeMap<SourceName, String>>,
    }

    impl Ears for World {
        fn hear(&self, _: &SourceName, _: &Arrival) {}
    }

    impl Watcher for World {
        fn note(&self, source: &SourceName, why: Option<String>) {
            let mut waiting = self.waiting.lock().unwrap();
            match why {
                Some(why) => drop(waiting.insert(source.clone(), why)),
                None => drop(waiting.remove(source)),
            }
        }
    }

    #[async_trait::async_trait]
    impl Facts for World {
        async fn facts(&self, change: &ChangeId) -> Result<Vec<ChangeFacts>, Trouble> {
            if change.source.as_str() == "down" || *self.stuck.lock().unwrap() == Some(change.number) {
                tokio::task::yield_now().await;
                return Err(Trouble("no answer".to_owned()));
            }
            self.up.acquire().await.unwrap().forget();
            Ok(Vec::new())
        }

        async fn open(&self, source: &SourceName, _: &ProjectName) -> Result<Vec<Patchset>, Trouble> {
            self.up.acquire().await.unwrap().forget();
            let of = |number| Patchset { change: ChangeId { source: source.clone(), number }, patchset: 2 };
            Ok([1, 2, 3].map(of).to_vec())
        }
    }

    #[async_trait::async_trait]
    impl Decider for World {
        async fn decide(&self, input: Input, consumes: Option<Consumes>) -> Result<Answer, Undecided> {
            if self.stopping.load(std::sync::atomic::Ordering::SeqCst) {
                return Err(Undecided::Stopping);
            }
            let said = match input {
                Input::Event(event) if event.kind == EventKind::ChangeAbandoned => {
                    return Err(Undecided::Refused("the gate fails over it".to_owned()));
                }
                Input::Event(event) => format!("{} {}", event.kind.word(), event.change.unwrap()),
                other => format!("{other:?}"),
            };
            let _turn = self.queue.lock().await;
            if let Some(Consumes { event, body }) = consumes {
                let mut batch = Batch::default();
                batch.consumed(event, "{}".to_owned(), body);
                self.store.commit(self.epoch, &batch).await.unwrap();
            }
            self.heard.lock().unwrap().push(said);
            self.news.notify_one();
            Ok(Answer::Done)
        }
    }

    impl World {
        async fn heard(&self, count: usize) -> Vec<String> {
            let all = async {
                while self.heard.lock().unwrap().len() < count {
                    self.news.notified().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), all).await.expect("in time");
            self.heard.lock().unwrap().clone()
        }
    }

    async fn world(dir: &tempfile::TempDir) -> Arc<World> {
        let path = dir.path().join("x.db");
        let store = assay_store::open(&format!("sqlite:{}", path.to_str().unwrap())).await.unwrap();
        let epoch = store.acquire_leadership().await.unwrap();
        Arc::new(World {
            store,
            epoch,
            up: Semaphore::new(0),
            stuck: Mutex::default(),
            queue: tokio::sync::Mutex::default(),
            heard: Mutex::default(),
            news: Notify::new(),
            stopping: std::sync::atomic::AtomicBool::new(false),
            waiting: Mutex::default(),
        })
    }

    fn start(world: &Arc<World>, tasks: &mut JoinSet<()>) -> (Arc<Intake>, CancellationToken) {
        let pauses = Pauses { first: Duration::ZERO, most: Duration::ZERO };
        let at = (world.store.clone(), world.epoch);
        let (intake, incoming) = Intake::new(
            at,
            Arc::new(SystemClock),
            world.clone(),
            world.clone(),
            pauses,
            world.clone(),
            world.clone(),
        );
        let end = CancellationToken::new();
        tasks.spawn(intake.clone().run(incoming, end.clone()));
        (intake, end)
    }

    fn event(key: &str, kind: EventKind, number: u64) -> Arrival {
        event_of("gerrit", key, kind, number)
    }

    fn event_of(source: &str, key: &str, kind: EventKind, number: u64) -> Arrival {
        let change = ChangeId { source: source.into(), number };
        let change = Some(Patchset { change, patchset: 1 });
        let news = News::Event(Box::new(Event { change, ..Event::new("gerrit".into(), kind) }));
        Arrival { key: key.to_owned(), at: SystemClock.now(), news, made: None }
    }

    #[tokio::test]
    async fn one_change_waits_and_the_others_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let world = world(&dir).await;
        let mut tasks = JoinSet::new();
        let (intake, _end) = start(&world, &mut tasks);
        *world.stuck.lock().unwrap() = Some(1);
        world.up.add_permits(100);
        let arrivals = [
            event("a", EventKind::PatchsetCreated, 1),
            event("b", EventKind::CommentAdded, 1),
            event("c", EventKind::PatchsetCreated, 2),
            event("a", EventKind::PatchsetCreated, 1),
        ];
        intake.receive(&"gerrit".into(), &arrivals, &[]).await.unwrap();
        assert_eq!(world.heard(1).await, ["patchset-created 2,1"]);
        let waiting = || world.waiting.lock().unwrap().clone();
        while waiting().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(waiting()[&SourceName::from("gerrit")], "no answer");
        *world.stuck.lock().unwrap() = None;
        assert_eq!(
            world.heard(3).await[1..],
            ["patchset-created 1,1", "comment-added 1,1"],
            "in their order, once"
        );
        assert!(waiting().is_empty());
        assert_eq!(world.store.gate().unconsumed().await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_source_that_is_down_takes_no_place_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let world = world(&dir).await;
        let mut tasks = JoinSet::new();
        let (intake, _end) = start(&world, &mut tasks);
        world.up.add_permits(1);
        let many = 1..=AT_ONCE as u64 + 8;
        let down: Vec<_> = many
            .map(|number| event_of("down", &number.to_string(), EventKind::CommentAdded, number))
            .collect();
        intake.receive(&"down".into(), &down, &[]).await.unwrap();
        intake.receive(&"gerrit".into(), &[event("a", EventKind::CommentAdded, 1)], &[]).await.unwrap();
        assert_eq!(world.heard(1).await, ["comment-added 1,1"]);
    }

    #[tokio::test]
    async fn the_other_open_changes_of_a_project_are_told_of_a_merge_once() {
        let dir = tempfile::tempdir().unwrap();
        let world = world(&dir).await;
        let mut tasks = JoinSet::new();
        let (intake, _end) = start(&world, &mut tasks);
        world.up.add_permits(100);
        let change = ChangeId { source: "gerrit".into(), number: 1 };
        for _ in 0..2 {
            intake.offer(Patchset { change: change.clone(), patchset: 1 }, "p".into());
        }
        let change = ChangeId { number: 3, ..change };
        intake.offer(Patchset { change, patchset: 2 }, "p".into());
        let mut heard = world.heard(4).await;
        heard.sort();
        let told = |number: u64| format!("project-change-merged {number},2");
        assert_eq!(heard, [told(1), told(2), told(2), told(3)]);
    }

    #[tokio::test]
    async fn events_of_different_changes_keep_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let world = world(&dir).await;
        let mut tasks = JoinSet::new();
        let (intake, _end) = start(&world, &mut tasks);
        let kind = EventKind::CommentAdded;
        let arrivals: Vec<_> =
            (1..=100).map(|number| event(&number.to_string(), kind, 101 - number)).collect();
        intake.receive(&"gerrit".into(), &arrivals, &[]).await.unwrap();
        world.up.add_permits(100);
        let wanted: Vec<_> = (1..=100).rev().map(|number| format!("comment-added {number},1")).collect();
        assert_eq!(world.heard(100).await, wanted);
    }

    #[tokio::test]
    async fn what_was_stored_is_dealt_with_by_the_next_server() {
        let dir = tempfile::tempdir().unwrap();
        let world = world(&dir).await;
        let mut tasks = JoinSet::new();
        let (intake, _) = start(&world, &mut tasks);
        let source = "gerrit".into();
        let cursor = [("events".to_owned(), Some("7".to_owned()))];
        intake.receive(&source, &[event("a", EventKind::PatchsetCreated, 1)], &cursor).await.unwrap();
        tasks.shutdown().await; // killed while the source does not answer
        assert_eq!(world.store.gate().cursors(&source).await.unwrap()["events"], "7");
        world.up.add_permits(100);
        world.stopping.store(true, std::sync::atomic::Ordering::SeqCst);
        let (_, end) = start(&world, &mut tasks);
        end.cancel();
        tasks.join_next().await;
        assert_eq!(
            world.store.gate().unconsumed().await.unwrap().len(),
            1,
            "a stopping server consumes nothing"
        );
        world.stopping.store(false, std::sync::atomic::Ordering::SeqCst);
        let (intake, _end) = start(&world, &mut tasks);
        assert_eq!(world.heard(1).await, ["patchset-created 1,1"]);
        intake.receive(&source, &[event("a", EventKind::PatchsetCreated, 1)], &[]).await.unwrap();
        intake.receive(&source, &[event("b", EventKind::CommentAdded, 1)], &[]).await.unwrap();
        assert_eq!(world.heard(2).await[1], "comment-added 1,1", "what came before is not dealt with again");
    }

    #[tokio::test]
    async fn what_cannot_be_dealt_with_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let world = world(&dir).await;
        let mut tasks = JoinSet::new();
        let torn = NewEvent { dedupe_key: "torn".to_owned(), change: Some(1), body: "{".to_owned() };
        let gate = world.store.gate();
        gate.receive(world.epoch, &"gerrit".into(), SystemClock.now(), &[torn], &[]).await.unwrap();
        world.up.add_permits(100);
        let (intake, _end) = start(&world, &mut tasks);
        let arrivals = [event("a", EventKind::ChangeAbandoned, 1), event("b", EventKind::CommentAdded, 1)];
        intake.receive(&"gerrit".into(), &arrivals, &[]).await.unwrap();
        assert_eq!(world.heard(1).await, ["comment-added 1,1"]);
        let states: Vec<_> =
            gate.events(None, 9).await.unwrap().into_iter().map(|event| event.state).collect();
        assert_eq!(states, [EventState::Consumed, EventState::Parked, EventState::Parked]);
        let why = gate.events(None, 9).await.unwrap()[1].caused.clone();
        assert_eq!(why.as_deref(), Some("the gate fails over it"));
    }
}
