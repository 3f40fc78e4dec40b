//! The one place that decides: a task that owns the engine's state.
//!
//! It takes what has come in, steps the engine, stores the rows of all steps in one transaction, and only then sends
//! and answers. When storing fails, the state is dropped and made anew from the store: nobody has heard of what was
//! not stored.

use crate::app::App;
use crate::fault::Fault;
use assay_engine::ids::{AttemptId, Timestamp};
use assay_engine::io::{Answer, Change, Effect, Input, Step};
use assay_engine::reason::Refusal;
use assay_engine::state::State;
use assay_engine::work::Timing;
use assay_proto::api::Event;
use assay_store::{Batch, Epoch, StoreError, Streams};
use axum::http::StatusCode;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Inputs that may wait; beyond it requests are told to come later.
const QUEUE: usize = 1024;
/// Inputs in one transaction.
const GROUP: usize = 256;
/// Pause before the store is tried again, growing to 25 times as much.
const RETRY: Duration = Duration::from_millis(200);

/// Where an answer goes.
type Asker = oneshot::Sender<Result<Answer, Fault>>;

/// Something for the driver.
enum Work {
    Input {
        input: Input,
        answer: Option<Asker>,
    },
    /// The streams of an ended attempt have become blobs.
    Closed {
        attempt: AttemptId,
        streams: Streams,
        stored: oneshot::Sender<()>,
    },
}

/// The way to the driver.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    work: mpsc::Sender<Work>,
    /// Heartbeats have a lane of their own: they must be heard however long the queue is.
    beats: mpsc::Sender<Input>,
}

/// The driver's end.
pub(crate) struct Inbox {
    work: mpsc::Receiver<Work>,
    beats: mpsc::Receiver<Input>,
}

/// A way to the driver and the driver's end of it.
pub(crate) fn channel() -> (Engine, Inbox) {
    let (work, work_in) = mpsc::channel(QUEUE);
    let (beats, beats_in) = mpsc::channel(QUEUE);
    (Engine { work, beats }, Inbox { work: work_in, beats: beats_in })
}

impl Engine {
    /// A request: refused at once when the queue is full.
    pub(crate) async fn ask(&self, input: Input) -> Result<Answer, Fault> {
        let (answer, hear) = oneshot::channel();
        let work = Work::Input { input, answer: Some(answer) };
        self.work.try_send(work).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Fault::later("The server has too much to do.", 1),
            mpsc::error::TrySendError::Closed(_) => Fault::later("The server is stopping.", 5),
        })?;
        hear.await.unwrap_or_else(|_| Err(Fault::later("The server is stopping.", 5)))
    }

    /// A worker's word: waits for room, so that its connection is read no faster than it is dealt with.
    pub(crate) async fn tell(&self, input: Input) {
        let _ = self.work.send(Work::Input { input, answer: None }).await;
    }

    /// A heartbeat: dropped when there are too many, the next one follows soon.
    pub(crate) fn beat(&self, input: Input) {
        let _ = self.beats.try_send(input);
    }

    /// Stores the streams of an ended attempt; false if they are not stored (they are closed again at the next start).
    pub(crate) async fn closed(&self, attempt: AttemptId, streams: Streams) -> bool {
        let (stored, hear) = oneshot::channel();
        let sent = self.work.send(Work::Closed { attempt, streams, stored }).await;
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
}

impl Group {
    fn take(&mut self, step: Step, answer: Option<Asker>) {
        for effect in step.effects {
            match effect {
                Effect::Save(row) => self.batch.push(*row),
                other => self.effects.push(other),
            }
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
}

/// Why the state has to be made anew.
enum Trouble {
    Deposed,
    Store(StoreError),
    /// The engine panicked over an input; it is left out.
    Panic,
}

/// Drives the engine until `shutdown`.
pub(crate) async fn drive(
    app: Arc<App>,
    mut inbox: Inbox,
    mut state: State,
    epoch: Epoch,
    shutdown: CancellationToken,
) -> Ended {
    let mut driver = Driver { timing: *state.timing(), app, epoch, shutdown };
    // The first tick stores what the restart itself has changed.
    let mut first = Some(Work::Input { input: Input::Tick, answer: None });
    loop {
        let group = match first.take() {
            Some(work) => vec![work],
            None => match driver.next(&mut inbox, &state).await {
                Some(group) => group,
                None => return Ended::Asked,
            },
        };
        let trouble = match driver.turn(&mut state, group).await {
            Ok(()) => continue,
            Err(trouble) => trouble,
        };
        match trouble {
            Trouble::Deposed => {
                tracing::error!("another server has taken over this database; this one stops");
                return Ended::Deposed;
            }
            Trouble::Store(error) => {
                tracing::error!(%error, "storing failed; the state is made anew from the store");
            }
            Trouble::Panic => {
                tracing::error!("the engine panicked; the input is left out and the state made anew");
            }
        }
        // Workers dial again and say what they hold; that is how the new state gets to know them.
        driver.app.hub.close_all("the server has to start its decisions anew from its store");
        match driver.rebuild().await {
            Some(rebuilt) => state = rebuilt,
            None => return Ended::Asked,
        }
        first = Some(Work::Input { input: Input::Tick, answer: None });
    }
}

struct Driver {
    app: Arc<App>,
    epoch: Epoch,
    timing: Timing,
    shutdown: CancellationToken,
}

impl Driver {
    fn now(&self) -> Timestamp {
        self.app.clock.now()
    }

    /// Waits for work and takes what is there; `None` at the end.
    async fn next(&self, inbox: &mut Inbox, state: &State) -> Option<Vec<Work>> {
        let until_due =
            state.next_deadline().map(|at| Duration::from_micros(at.micros_since(self.now()) as u64));
        let due = async {
            match until_due {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let tick = || Work::Input { input: Input::Tick, answer: None };
        let beat = |input| Work::Input { input, answer: None };
        let first = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return None,
            Some(input) = inbox.beats.recv() => beat(input),
            Some(work) = inbox.work.recv() => work,
            () = due => tick(),
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
        // What is due is dealt with even if work never ceases to come.
        if state.next_deadline().is_some_and(|at| at <= self.now()) {
            group.push(tick());
        }
        Some(group)
    }

    /// Steps, stores, and lets the world know.
    async fn turn(&mut self, state: &mut State, work: Vec<Work>) -> Result<(), Trouble> {
        let mut group = Group::default();
        for work in work {
            match work {
                Work::Input { input, answer } => {
                    let now = self.now();
                    let kind = kind_of(&input);
                    let stepped = std::panic::catch_unwind(AssertUnwindSafe(|| state.step(input, now)));
                    let Ok(step) = stepped else {
                        tracing::error!(input = kind, "the engine panicked over this input");
                        let text = "This request made the engine fail; it was left out.";
                        let help = "Report it as a bug with the server's log.";
                        let fault = Fault::new(StatusCode::INTERNAL_SERVER_ERROR, text, help);
                        let _ = answer.map(|sender| sender.send(Err(fault)));
                        group.fail("the state had to be made anew.");
                        return Err(Trouble::Panic);
                    };
                    group.take(step, answer);
                }
                Work::Closed { attempt, streams, stored } => {
                    group.batch.push_streams(attempt, streams);
                    group.closed.push(stored);
                }
            }
        }
        if !group.batch.is_empty()
            && let Err(error) = self.app.store.commit(self.epoch, &group.batch).await
        {
            group.fail(&error.to_string());
            return Err(if matches!(error, StoreError::Deposed) {
                Trouble::Deposed
            } else {
                Trouble::Store(error)
            });
        }
        self.release(group);
        Ok(())
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
                }),
                Effect::AttemptEnded(attempt) => self.app.close_streams(attempt),
            }
        }
        for (sender, answer) in group.answers {
            let _ = sender.send(answer.map_err(|refusal| refused(&refusal)));
        }
        for stored in group.closed {
            let _ = stored.send(());
        }
    }

    /// Makes the state anew, however long the store is away; `None` at the end.
    async fn rebuild(&self) -> Option<State> {
        let mut pause = RETRY;
        loop {
            match self.app.store.load().await {
                Ok(rows) => return Some(State::rebuild(rows, self.timing, self.now())),
                Err(error) => tracing::error!(%error, "the store cannot be read; it is tried again"),
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return None,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY * 25),
            }
        }
    }
}

fn refused(refusal: &Refusal) -> Fault {
    let (status, help) = match refusal {
        Refusal::BadJob { .. } | Refusal::NoJobs => {
            (StatusCode::BAD_REQUEST, "Correct the settings and post again.")
        }
        Refusal::NotOpen { .. } => (StatusCode::CONFLICT, "Look at the job's page for how it ended."),
    };
    let text = refusal.to_string();
    let text = text[..1].to_uppercase() + &text[1..];
    Fault::new(status, if text.ends_with('.') { text } else { text + "." }, help)
}

fn kind_of(input: &Input) -> &'static str {
    match input {
        Input::PostJobs { .. } => "post jobs",
        Input::CancelJob { .. } => "cancel job",
        Input::Hello { .. } => "hello",
        Input::Disconnected { .. } => "disconnected",
        Input::Heartbeat { .. } => "heartbeat",
        Input::Phase { .. } => "phase",
        Input::Finished { .. } => "finished",
        Input::Tick => "tick",
    }
}
