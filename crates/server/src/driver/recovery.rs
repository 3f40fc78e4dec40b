//! From trouble back to a state that is the store's.

use super::{Driver, Ended, Inbox, Trouble, Work};
use crate::app::App;
use crate::fault::Fault;
use assay_engine::ids::{AttemptId, ConnectionId, WorkerName};
use assay_engine::io::Input;
use assay_engine::state::State;
use assay_proto::api::Event;
use assay_store::StoreError;
use axum::http::StatusCode;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a worker hears whose message has made the engine panic twice.
pub(super) const BANNED: &str =
    "this worker's message makes the server fail every time; report it as a bug with the server's log";

/// What the sender of a request that the engine panicked over hears.
pub(super) fn panicked() -> Fault {
    let text = "This request made the engine fail; it was left out.";
    Fault::new(StatusCode::INTERNAL_SERVER_ERROR, text, "Report it as a bug with the server's log.")
}

/// The pause before the next try: 50 ms, doubling to 2 s.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(Duration::from_millis(50))
    }
}

impl Backoff {
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Duration::from_secs(2));
        pause
    }
}

/// What an input is about, for those that come again by themselves when the state was made anew.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Hello(WorkerName),
    Heartbeat(Vec<AttemptId>),
    Phase(AttemptId),
    Finished(AttemptId),
    Ask(AttemptId),
    Tick,
}

/// Inputs that the engine has panicked over. One that does it twice would do it for ever.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    panics: BTreeMap<Subject, u32>,
    /// Attempts that ended in a transaction which the database refused: how often, and why.
    refused: BTreeMap<AttemptId, (u32, String)>,
}

/// Panics over one subject until it is given to the engine no more.
const PATIENCE: u32 = 2;

impl Suspects {
    pub(super) fn subject(input: &Input) -> Option<Subject> {
        match input {
            Input::Hello { hello, .. } => Some(Subject::Hello(hello.name.clone())),
            Input::Heartbeat { holds, .. } => {
                Some(Subject::Heartbeat(holds.iter().map(|held| held.attempt).collect()))
            }
            Input::Phase { held, .. } => Some(Subject::Phase(held.attempt)),
            Input::Finished { held, .. } => Some(Subject::Finished(held.attempt)),
            Input::Ask { held, .. } => Some(Subject::Ask(held.attempt)),
            Input::Tick => Some(Subject::Tick),
            Input::Known { then, .. } => Self::subject(then),
            Input::PostJobs { .. }
            | Input::PostProduct { .. }
            | Input::Restart(_)
            | Input::Edit { .. }
            | Input::Obsolete(_)
            | Input::Release { .. }
            | Input::FetchFails { .. }
            | Input::Limits(_)
            | Input::AssetSizes(_)
            | Input::ForceResult { .. }
            | Input::SetDone { .. }
            | Input::AskNow { .. }
            | Input::Drain { .. }
            | Input::ForgetWorker { .. }
            | Input::DeleteJob { .. }
            | Input::CancelJob { .. }
            | Input::Disconnected { .. }
            | Input::Gate(_) => None,
        }
    }

    /// The store has refused what was stored together with the ends of these attempts.
    pub(super) fn note_refusal(&mut self, attempts: &BTreeSet<AttemptId>, why: &str) {
        for attempt in attempts {
            let entry = self.refused.entry(*attempt).or_default();
            *entry = (entry.0 + 1, why.to_owned());
        }
    }

    /// True if the end of an attempt is to be stored by itself.
    pub(super) fn is_refused(&self, attempt: AttemptId) -> bool {
        self.refused.contains_key(&attempt)
    }

    /// Why the results of an attempt are left out, if they were refused by themselves, too.
    pub(super) fn left_out(&self, attempt: AttemptId) -> Option<String> {
        self.refused.get(&attempt).filter(|(count, _)| *count >= PATIENCE).map(|(_, why)| why.clone())
    }

    /// The connection that sent an input which is not to reach the engine any more.
    pub(super) fn banned(&self, input: &Input) -> Option<ConnectionId> {
        if self.panics.is_empty() {
            return None;
        }
        let count = self.panics.get(&Self::subject(input)?).copied().unwrap_or(0);
        connection_of(input).filter(|_| count >= PATIENCE)
    }

    /// Counts a panic; true if it is one too many over something that cannot be left out.
    pub(super) fn note(&mut self, subject: Option<Subject>) -> bool {
        let Some(subject) = subject else { return false };
        let inevitable = subject == Subject::Tick;
        let count = self.panics.entry(subject).or_insert(0);
        *count += 1;
        inevitable && *count >= PATIENCE
    }
}

fn connection_of(input: &Input) -> Option<ConnectionId> {
    match input {
        Input::Hello { connection, .. }
        | Input::Disconnected { connection }
        | Input::Heartbeat { connection, .. }
        | Input::Phase { connection, .. }
        | Input::Ask { connection, .. }
        | Input::Finished { connection, .. } => Some(*connection),
        Input::Known { then, .. } => connection_of(then),
        Input::PostJobs { .. }
        | Input::PostProduct { .. }
        | Input::Restart(_)
        | Input::Edit { .. }
        | Input::Obsolete(_)
        | Input::Release { .. }
        | Input::FetchFails { .. }
        | Input::Limits(_)
        | Input::AssetSizes(_)
        | Input::ForceResult { .. }
        | Input::SetDone { .. }
        | Input::AskNow { .. }
        | Input::Drain { .. }
        | Input::ForgetWorker { .. }
        | Input::DeleteJob { .. }
        | Input::CancelJob { .. }
        | Input::Gate(_)
        | Input::Tick => None,
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Deposed => Self::Deposed,
            other => Self::Store(other),
        }
    }
}

impl Driver {
    /// Makes the state anew, however long the store is away. Until then whoever asks hears why it cannot be done.
    pub(super) async fn recover(&mut self, trouble: Trouble, inbox: &mut Inbox) -> Result<State, Ended> {
        let mut why = Self::explain(trouble)?;
        // Workers dial again and say what they hold; that is how the new state gets to know them.
        self.app.hub.refuse_all(&why);
        loop {
            self.app.set_trouble(Some(why.clone()));
            let pause = self.backoff.next();
            let attempt = async {
                tokio::time::sleep(pause).await;
                self.app.store.reacquire(self.epoch).await?;
                let rows = super::seeded(self.app.store.load().await?, &self.app).await?;
                Ok((rows, self.app.store.unclosed().await?))
            };
            let loaded: Result<_, StoreError> = tokio::select! {
                () = self.shutdown.cancelled() => return Err(Ended::Asked),
                loaded = attempt => loaded,
                () = turn_away(&self.app, inbox, &why) => return Err(Ended::Asked),
            };
            match loaded {
                Ok((rows, unclosed)) => {
                    let state = State::rebuild(rows, self.timing, self.now());
                    self.app.gate.publish(state.gate().snapshot());
                    self.app.told.forget();
                    self.app.set_trouble(None);
                    // A commit in doubt may have ended attempts and changed jobs without anybody having been told.
                    for attempt in unclosed {
                        self.app.close_streams(attempt);
                    }
                    self.app.publish(Event::Missed);
                    return Ok(state);
                }
                Err(error) => why = Self::explain(error.into())?,
            }
        }
    }

    /// Why the server decides nothing now, as one sentence; `Err` if it never will again.
    fn explain(trouble: Trouble) -> Result<String, Ended> {
        match trouble {
            Trouble::Deposed => {
                tracing::error!("another server has taken over this database; this one stops");
                Err(Ended::Deposed)
            }
            Trouble::Store(error) => {
                tracing::error!(%error, "the store fails; the state is made anew from it");
                Ok(format!("The server cannot store anything now: {error}"))
            }
            Trouble::Panic { for_good: false } => {
                tracing::error!("the engine panicked; the input is left out and the state made anew");
                Ok("The server has to make its state anew after a fault of its own".to_owned())
            }
            Trouble::Panic { for_good: true } => {
                tracing::error!("the engine panics whatever it is given; the server stops");
                Err(Ended::Broken)
            }
        }
    }
}

/// Answers everything that comes with `why`; ends when nothing can come any more.
async fn turn_away(app: &App, inbox: &mut Inbox, why: &str) {
    loop {
        let work = tokio::select! {
            Some(_) = inbox.beats.recv() => continue, // its connection is closed
            Some(work) = inbox.work.recv() => work,
            else => return,
        };
        inbox.took([&work]);
        match work {
            Work::Input { answer: Some(sender), .. } => {
                let _ = sender.send(Err(Fault::later(format!("{why}."), 2)));
            }
            Work::Input { input: Input::Hello { connection, .. }, answer: None, .. } => {
                app.hub.refuse(connection, why, true);
            }
            // Said again by a worker that dials again; streams that are not stored are closed after the recovery.
            Work::Input { answer: None, .. } | Work::Closed { .. } => {}
        }
    }
}
