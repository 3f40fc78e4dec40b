//! The one place that decides: a task that owns the engine's state.
//!
//! It takes what has come in, steps the engine, stores the rows of all steps in one transaction, and only then sends
//! and answers. When storing fails, the state is dropped and made anew from the store ([`recovery`]): nobody has heard
//! of what was not stored.

mod recovery;
#[cfg(test)]
mod tests;

use crate::app::App;
use crate::company::Company;
use crate::fault::{Fault, sentence};
use crate::gate::Consumes;
use crate::results::JobResults;
use crate::told::Touched;
use assay_engine::ids::{AttemptId, JobId, Timestamp};
use assay_engine::io::{Answer, Change, Effect, Input, Needs, Step};
use assay_engine::reason::Refusal;
use assay_engine::rows::{Row, Rows};
use assay_engine::sched::restart::Refused as Restart;
use assay_engine::state::State;
use assay_engine::work::Timing;
use assay_proto::api::Event;
use assay_store::{Batch, Epoch, JobFilter, NewResult, StoreError, Streams};
use axum::http::StatusCode;
use recovery::{Backoff, Suspects};
use serde_json::json;
use std::collections::{BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Inputs that may wait; beyond it requests are told to come later.
const QUEUE: usize = 1024;
/// Inputs in one transaction.
const GROUP: usize = 256;

/// Where an answer goes.
type Asker = oneshot::Sender<Result<Answer, Fault>>;

/// Something for the driver.
#[expect(clippy::large_enum_variant, reason = "nearly everything that waits is an input")]
enum Work {
    Input {
        input: Input,
        answer: Option<Asker>,
        /// What it deals with.
        settles: Option<Settles>,
    },
    /// The streams of an ended attempt have become blobs.
    Closed { attempt: AttemptId, streams: Streams, results: Vec<NewResult>, stored: oneshot::Sender<()> },
}

/// What an input deals with; that it does is stored with what is decided.
#[derive(Debug, Clone)]
enum Settles {
    /// An event of the gate's inbox.
    Event(Consumes),
    /// Effects of rules, by their keys.
    Effects(Vec<String>),
}

impl Work {
    fn tick() -> Self {
        Self::Input { input: Input::Tick, answer: None, settles: None }
    }

    /// Somebody waits for an answer.
    fn is_asked(&self) -> bool {
        matches!(self, Self::Input { answer: Some(_), .. })
    }
}

/// The way to the driver.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    work: mpsc::Sender<Work>,
    /// Heartbeats have a lane of their own: they must be heard however long the queue is.
    beats: mpsc::Sender<Input>,
    /// How much of the work is waited for by somebody.
    asked: Arc<AtomicUsize>,
}

/// The driver's end.
pub(crate) struct Inbox {
    work: mpsc::Receiver<Work>,
    beats: mpsc::Receiver<Input>,
    asked: Arc<AtomicUsize>,
}

impl Inbox {
    /// This was taken out.
    fn took<'a>(&self, work: impl IntoIterator<Item = &'a Work>) {
        let asked = work.into_iter().filter(|work| work.is_asked()).count();
        self.asked.fetch_sub(asked, Ordering::Relaxed);
    }
}

/// A way to the driver and the driver's end of it.
pub(crate) fn channel() -> (Engine, Inbox) {
    let (work, work_in) = mpsc::channel(QUEUE);
    let (beats, beats_in) = mpsc::channel(QUEUE);
    let asked = Arc::<AtomicUsize>::default();
    (Engine { work, beats, asked: Arc::clone(&asked) }, Inbox { work: work_in, beats: beats_in, asked })
}

impl Engine {
    /// A request: refused at once when the queue is full.
    pub(crate) async fn ask(&self, input: Input) -> Result<Answer, Fault> {
        let room = self.work.try_reserve().map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => Fault::later("The server has too much to do.", 1),
            mpsc::error::TrySendError::Closed(()) => Fault::later("The server is stopping.", 5),
        })?;
        self.asking(room, input, None)
            .await
            .unwrap_or_else(|_| Err(Fault::later("The server is stopping.", 5)))
    }

    /// A worker's word: waits for room, so that its connection is read no faster than it is dealt with.
    pub(crate) async fn tell(&self, input: Input) {
        let _ = self.work.send(Work::Input { input, answer: None, settles: None }).await;
    }

    /// An input for the gate, and the event of the inbox that it deals with: waits for room. `None` if the server stops.
    pub(crate) async fn gate(
        &self,
        input: assay_engine::gate::io::Input,
        consumes: Option<Consumes>,
    ) -> Option<Result<assay_engine::gate::io::Answer, Fault>> {
        let room = self.work.reserve().await.ok()?;
        let asked = self.asking(room, Input::Gate(Box::new(input)), consumes.map(Settles::Event));
        Some(asked.await.ok()?.map(|answer| match answer {
            Answer::Gate(answer) => answer,
            _ => assay_engine::gate::io::Answer::Done,
        }))
    }

    /// An input that carries out effects of rules: waits for room. `None` if the server stops.
    pub(crate) async fn carry_out(&self, input: Input, keys: Vec<String>) -> Option<Result<Answer, Fault>> {
        let room = self.work.reserve().await.ok()?;
        self.asking(room, input, Some(Settles::Effects(keys))).await.ok()
    }

    /// Asks where there is room; where the answer comes.
    fn asking(
        &self,
        room: mpsc::Permit<'_, Work>,
        input: Input,
        settles: Option<Settles>,
    ) -> oneshot::Receiver<Result<Answer, Fault>> {
        let (answer, hear) = oneshot::channel();
        self.asked.fetch_add(1, Ordering::Relaxed);
        room.send(Work::Input { input, answer: Some(answer), settles });
        hear
    }

    /// How many wait for an answer to what nobody has looked at yet.
    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// How many inputs wait for a decision.
    pub(crate) fn waiting(&self) -> usize {
        self.work.max_capacity() - self.work.capacity()
    }

    /// A heartbeat: dropped when there are too many, the next one follows soon.
    pub(crate) fn beat(&self, input: Input) {
        let _ = self.beats.try_send(input);
    }

    /// Stores the streams of an ended attempt and what its modules found; false if they are not stored (they are closed again at the next start).
    pub(crate) async fn closed(&self, attempt: AttemptId, streams: Streams, results: Vec<NewResult>) -> bool {
        let (stored, hear) = oneshot::channel();
        let sent = self.work.send(Work::Closed { attempt, streams, results, stored }).await;
        sent.is_ok() && hear.await.is_ok()
    }
}

/// What happens after a group is stored.
#[derive(Default)]
struct Group {
    batch: Batch,
    effects: Vec<Effect>,
    answers: Vec<(Asker, Result<Answer, Refusal>)>,
    closed: Vec<oneshot::Sender<()>>,
    /// Attempts whose streams and results are in it.
    results_of: BTreeSet<AttemptId>,
    touched: Touched,
    /// Something of the gate is different.
    gate: bool,
}

impl Group {
    fn take(&mut self, step: Step, answer: Option<Asker>, settles: Option<Settles>) {
        for effect in step.effects {
            match effect {
                Effect::Save(row) => {
                    self.gate |= matches!(*row, Row::Gate(_));
                    self.touched.row(&row);
                    self.batch.push(*row);
                }
                other => {
                    self.gate |= matches!(other, Effect::Notify(Change::Gate(_)));
                    self.effects.push(other);
                }
            }
        }
        match settles {
            Some(Settles::Event(Consumes { event, body })) => {
                self.batch.consumed(event, crate::gate::caused(&step.answer), body);
            }
            Some(Settles::Effects(keys)) => {
                self.batch.carried_out(crate::events::carried_out(keys, &step.answer));
            }
            None => {}
        }
        self.answers.extend(answer.map(|sender| (sender, step.answer)));
    }

    /// Nothing of it was stored, or nobody knows; everybody who waits hears so.
    fn fail(self, why: &str) {
        for (sender, _) in self.answers {
            let error = format!("The request may not have been stored: {why}");
            let _ = sender.send(Err(Fault::later(error, 2)));
        }
    }
}

/// Why the driver ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It was asked to.
    Asked,
    /// Another server leads now.
    Deposed,
    /// The engine panics whatever it is given.
    Broken,
}

/// Why the state has to be made anew.
enum Trouble {
    Deposed,
    Store(StoreError),
    /// The engine panicked over an input; it is left out.
    Panic {
        /// The second time, over one that cannot be left out.
        for_good: bool,
    },
}

/// The rows with the limits in force and the sizes of assets, and with random bits of their own, of which the gate makes the names of its builds.
pub(crate) async fn seeded(rows: Rows, app: &App) -> Result<Rows, StoreError> {
    let (limits, asset_sizes) = (app.limits(), app.assets.sizes().await?);
    let mut bits = [0; 16];
    // Without a source of chance the time and the numbers of items still tell builds apart.
    let _ = getrandom::fill(&mut bits);
    Ok(Rows { seed: u128::from_ne_bytes(bits), limits, asset_sizes, ..rows })
}

/// The engine's step; a parameter, so that tests can have one that panics.
type Stepper = fn(&mut State, Input, Timestamp) -> Step;

/// Drives the engine until `shutdown`.
pub(crate) async fn drive(
    app: Arc<App>,
    inbox: Inbox,
    state: State,
    epoch: Epoch,
    shutdown: CancellationToken,
) -> Ended {
    drive_with(app, inbox, state, epoch, shutdown, State::step).await
}

async fn drive_with(
    app: Arc<App>,
    mut inbox: Inbox,
    mut state: State,
    epoch: Epoch,
    shutdown: CancellationToken,
    step: Stepper,
) -> Ended {
    let mut driver = Driver {
        timing: *state.timing(),
        app,
        epoch,
        shutdown,
        step,
        backoff: Backoff::default(),
        suspects: Suspects::default(),
        // The first tick stores what the restart itself has changed.
        waiting: VecDeque::from([Work::tick()]),
        results: JobResults::new(&state),
        company: Company::default(),
    };
    loop {
        let Some(mut group) = driver.next(&mut inbox, &state).await else { return Ended::Asked };
        let turned = driver.turn(&mut state, &mut group).await;
        // What a panic left untouched comes first when there is a state again. Workers repeat themselves.
        group.retain(|work| work.is_asked() || matches!(work, Work::Closed { .. }));
        driver.waiting.extend(group);
        let Err(trouble) = turned else { continue };
        match driver.recover(trouble, &mut inbox).await {
            Ok(recovered) => {
                driver.results = JobResults::new(&recovered);
                state = recovered;
            }
            Err(ended) => return ended,
        }
        driver.waiting.push_front(Work::tick());
    }
}

struct Driver {
    app: Arc<App>,
    epoch: Epoch,
    timing: Timing,
    shutdown: CancellationToken,
    step: Stepper,
    backoff: Backoff,
    suspects: Suspects,
    /// Work that comes before what is in the inbox.
    waiting: VecDeque<Work>,
    results: JobResults,
    company: Company,
}

impl Driver {
    fn now(&self) -> Timestamp {
        self.app.clock.now()
    }

    /// Waits for work and takes what is there; `None` at the end.
    async fn next(&mut self, inbox: &mut Inbox, state: &State) -> Option<VecDeque<Work>> {
        if self.shutdown.is_cancelled() {
            return None;
        }
        if !self.waiting.is_empty() {
            return Some(std::mem::take(&mut self.waiting));
        }
        let until_due =
            state.next_deadline().map(|at| Duration::from_micros(at.micros_since(self.now()) as u64));
        let due = async {
            match until_due {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let results_due = self.results.due();
        let results = async {
            match results_due {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let beat = |input| Work::Input { input, answer: None, settles: None };
        let first = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return None,
            Some(input) = inbox.beats.recv() => beat(input),
            Some(work) = inbox.work.recv() => work,
            () = due => Work::tick(),
            () = results => Work::tick(),
        };
        let mut group = vec![first];
        while let Ok(input) = inbox.beats.try_recv() {
            group.push(beat(input));
        }
        while group.len() < GROUP
            && let Ok(work) = inbox.work.try_recv()
        {
            group.push(work);
        }
        self.company.gather(&mut inbox.work, &mut group, GROUP, Work::is_asked).await;
        inbox.took(&group);
        // What is due is dealt with even if work never ceases to come.
        if state.next_deadline().is_some_and(|at| at <= self.now()) {
            group.push(Work::tick());
        }
        Some(group.into())
    }

    /// Steps, stores, and lets the world know. After a panic what was not looked at is left in `work`.
    async fn turn(&mut self, state: &mut State, work: &mut VecDeque<Work>) -> Result<(), Trouble> {
        while !work.is_empty() {
            self.turn_some(state, work).await?;
        }
        Ok(())
    }

    /// One transaction: all of `work`, or what comes before an input that needs rows of the store.
    async fn turn_some(&mut self, state: &mut State, work: &mut VecDeque<Work>) -> Result<(), Trouble> {
        let mut group = Group::default();
        let mut first = true;
        while let Some(next) = work.pop_front() {
            let next = match next {
                Work::Input { input, answer, settles } => {
                    let needs = input.needs(|id| state.job(id).is_some());
                    if needs.is_empty() {
                        Work::Input { input, answer, settles }
                    } else if !first {
                        // What it needs may be in what is not stored yet.
                        work.push_front(Work::Input { input, answer, settles });
                        break;
                    } else {
                        match self.knowing(input, &needs).await {
                            Ok(input) => Work::Input { input, answer, settles },
                            Err(error) => {
                                let text = format!("The store cannot be read: {error}.");
                                let _ = answer.map(|sender| sender.send(Err(Fault::later(text, 2))));
                                continue;
                            }
                        }
                    }
                }
                other @ Work::Closed { .. } => other,
            };
            let alone = std::mem::replace(&mut first, false);
            match next {
                Work::Input { input, answer, settles } => {
                    if let Some(connection) = self.suspects.banned(&input) {
                        self.app.hub.refuse(connection, recovery::BANNED, false);
                        continue;
                    }
                    let now = self.now();
                    let kind = kind_of(&input);
                    let subject = Suspects::subject(&input);
                    let step = self.step;
                    let stepped = std::panic::catch_unwind(AssertUnwindSafe(|| step(state, input, now)));
                    let Ok(step) = stepped else {
                        tracing::error!(input = kind, "the engine panicked over this input");
                        let _ = answer.map(|sender| sender.send(Err(recovery::panicked())));
                        group.fail("the state had to be made anew.");
                        return Err(Trouble::Panic { for_good: self.suspects.note(subject) });
                    };
                    group.take(step, answer, settles);
                }
                Work::Closed { attempt, streams, mut results, stored } => {
                    let suspected = self.suspects.is_refused(attempt);
                    if suspected {
                        if !alone {
                            // By itself: what the store says then is about nothing else.
                            work.push_front(Work::Closed { attempt, streams, results, stored });
                            break;
                        }
                        self.leave_out(attempt, &mut results);
                    }
                    group.results_of.insert(attempt);
                    group.batch.push_streams(attempt, streams);
                    for entry in self.app.reporting.of_results(&results, self.now()) {
                        group.batch.tell(entry);
                    }
                    for mut result in results {
                        self.app.note_subjects(&mut result);
                        group.batch.push_result(result);
                    }
                    group.touched.job(attempt.job);
                    group.closed.push(stored);
                    if suspected {
                        break;
                    }
                }
            }
        }
        if let Err(error) = self.results.add_to(&self.app, state, &mut group.batch, self.now()).await {
            group.fail(&error.to_string());
            return Err(Trouble::from(error));
        }
        if !group.batch.is_empty() {
            self.app.told.changes(&group.touched);
            group.batch.decided(self.now());
            let stored = self.app.store.commit(self.epoch, &group.batch).await;
            self.app.told.changed();
            if let Err(error) = stored {
                if error.is_refusal() {
                    self.suspects.note_refusal(&group.results_of, &error.to_string());
                }
                group.fail(&error.to_string());
                return Err(Trouble::from(error));
            }
            self.backoff = Backoff::default();
            self.app.results.found(group.batch.results());
            self.app.reporting.stored(group.batch.targets());
        }
        if group.gate {
            self.app.gate.publish(state.gate().snapshot());
        }
        self.company.stored(group.answers.len(), self.app.engine.asked());
        self.release(group);
        Ok(())
    }

    /// Results that the store has refused together with everything else: one more time by themselves, and then never again.
    fn leave_out(&mut self, attempt: AttemptId, results: &mut Vec<NewResult>) {
        let Some(why) = self.suspects.left_out(attempt).filter(|_| !results.is_empty()) else { return };
        tracing::error!(%attempt, why, "the store does not take the results of an attempt; they are left out");
        let data =
            json!({"job": attempt.job.0, "attempt": attempt.number, "results": results.len(), "why": why});
        self.app.audit("assay", "results_left_out", data);
        results.clear();
    }

    /// An input with the rows that only the store has.
    async fn knowing(&self, input: Input, needs: &Needs) -> Result<Input, StoreError> {
        let clusters: Vec<JobId> = needs.clusters.iter().copied().collect();
        let mut rows = Vec::new();
        if !clusters.is_empty() {
            rows.extend(self.app.store.cluster(&clusters, true).await?.into_iter().map(|job| job.row));
        }
        if !needs.jobs.is_empty() {
            let ids: Vec<JobId> = needs.jobs.iter().copied().collect();
            let limit = u32::try_from(ids.len()).unwrap_or(u32::MAX);
            let filter = JobFilter { ids, limit, ..JobFilter::default() };
            rows.extend(self.app.store.jobs(&filter).await?.into_iter().map(|job| job.row));
        }
        Ok(Input::Known { rows, then: Box::new(input) })
    }

    fn release(&self, group: Group) {
        for effect in group.effects {
            match effect {
                Effect::Save(_) => {}
                Effect::Send { connection, message } => self.app.hub.send(connection, message),
                Effect::Close { connection, reason } => self.app.hub.close(connection, &reason),
                Effect::Notify(change) => self.app.publish(match change {
                    Change::Job(id) => Event::Job { id },
                    Change::Worker(_) => Event::Workers,
                    Change::Queue(_) => Event::Queue,
                    Change::Gate(pipeline) => Event::Gate { pipeline: pipeline.to_string() },
                }),
                Effect::AttemptEnded(attempt) => self.app.close_streams(attempt),
                Effect::Fetch { job, downloads } => self.app.downloads.want(job, downloads),
                Effect::Gate(effect) => self.app.gate.carry_out(effect),
            }
        }
        for (sender, answer) in group.answers {
            let _ = sender.send(answer.map_err(|refusal| refused(&refusal)));
        }
        for stored in group.closed {
            let _ = stored.send(());
        }
    }
}

fn refused(refusal: &Refusal) -> Fault {
    let (status, help) = match refusal {
        Refusal::BadJob { .. }
        | Refusal::NoJobs
        | Refusal::Impossible(_)
        | Refusal::NoParent { .. }
        | Refusal::TooLate { .. } => (StatusCode::BAD_REQUEST, "Correct the settings and post again."),
        Refusal::NoWorker { .. } => {
            (StatusCode::NOT_FOUND, "`assay worker list` shows those that there are.")
        }
        Refusal::WorkerBusy { .. } => (StatusCode::CONFLICT, "Stop its process first."),
        Refusal::NoJob { .. } => (StatusCode::NOT_FOUND, "See the list of jobs for those that there are."),
        Refusal::StillOpen { .. } | Refusal::NotWaiting { .. } => {
            (StatusCode::CONFLICT, "Look at the job's page for how far it is.")
        }
        Refusal::Restart(refused) if refused.enforceable() => (
            StatusCode::CONFLICT,
            "See what would be started anew: `assay job restart --plan`, or plan=1 of the API.",
        ),
        Refusal::Restart(Restart::NoSuchJob(_)) => {
            (StatusCode::NOT_FOUND, "See the list of jobs for those that there are.")
        }
        Refusal::Restart(_) => (StatusCode::BAD_REQUEST, "See the list of jobs for those that there are."),
        Refusal::Gate(refusal) => gate_refused(refusal),
        Refusal::NotOpen { .. } => (StatusCode::CONFLICT, "Look at the job's page for how it ended."),
    };
    Fault::new(status, sentence(&refusal.to_string()), help)
}

fn gate_refused(refusal: &assay_engine::gate::reason::Refusal) -> (StatusCode, &'static str) {
    use assay_engine::gate::reason::Refusal as Gate;
    match refusal {
        Gate::NoSuchPipeline { .. } | Gate::NoSuchQueue { .. } => {
            (StatusCode::NOT_FOUND, "`assay pipeline status` shows those that there are.")
        }
        Gate::NotThere { .. } => (StatusCode::NOT_FOUND, "See the change's page for what happened to it."),
        Gate::NoSuchAutohold { .. } => (StatusCode::NOT_FOUND, "See the list for those that there are."),
        Gate::NotOneQueue { .. } => {
            (StatusCode::BAD_REQUEST, "Promote the changes of each queue by themselves.")
        }
        Gate::Refused(_) => (StatusCode::CONFLICT, "Correct that, and enqueue it again."),
        Gate::AlreadyThere { .. } | Gate::BeingLanded { .. } => {
            (StatusCode::CONFLICT, "See the change's page for how far it is.")
        }
        Gate::NotHeld { .. } => (StatusCode::CONFLICT, "There is nothing to release."),
    }
}

fn kind_of(input: &Input) -> &'static str {
    match input {
        Input::PostJobs { .. } => "post jobs",
        Input::PostProduct { .. } => "post product",
        Input::Restart(_) => "restart",
        Input::Edit { .. } => "edit job",
        Input::Obsolete(_) => "obsolete",
        Input::Release { .. } => "release",
        Input::FetchFails { .. } => "fetch fails",
        Input::Limits(_) => "limits",
        Input::AssetSizes(_) => "sizes of assets",
        Input::ForceResult { .. } => "force result",
        Input::SetDone { .. } => "set done",
        Input::AskNow { .. } => "ask now",
        Input::ForgetWorker { .. } => "forget worker",
        Input::Drain { .. } => "drain",
        Input::DeleteJob { .. } => "delete job",
        Input::Known { then, .. } => kind_of(then),
        Input::CancelJob { .. } => "cancel job",
        Input::Hello { .. } => "hello",
        Input::Disconnected { .. } => "disconnected",
        Input::Heartbeat { .. } => "heartbeat",
        Input::Phase { .. } => "phase",
        Input::Finished { .. } => "finished",
        Input::Ask { .. } => "ask",
        Input::Gate(_) => "gate",
        Input::Tick => "tick",
    }
}
