//! Events of outside systems, and what rules make of them.

mod queries;

pub(crate) use queries::settle;

use crate::error::StoreError;
use crate::types::Epoch;
use assay_engine::ids::{JobId, Timestamp};
use assay_engine::rules::Planned;
use std::collections::BTreeMap;

/// How far an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageState {
    /// Stored, and no rule has seen it.
    Received,
    /// All rules have seen it; what they want is stored.
    Matched,
    /// Put aside: nothing can be done with it. What it caused says why.
    Parked,
}

impl MessageState {
    /// The word that is stored.
    pub fn word(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Matched => "matched",
            Self::Parked => "parked",
        }
    }

    /// The state that `word` names.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Received, Self::Matched, Self::Parked].into_iter().find(|state| state.word() == word)
    }
}

/// A message to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// Tells it from all others of its bus, however often and by whichever source it comes.
    pub dedupe_key: String,
    /// Its topic.
    pub topic: String,
    /// Headers as JSON.
    pub headers: String,
    /// The body: JSON, unless it is parked.
    pub body: String,
    /// When it was sent, as far as it says.
    pub sent_at: Option<Timestamp>,
    /// Why nothing can be done with it.
    pub parked: Option<String>,
    /// What it tells, the same in whichever message it is told.
    pub news: Option<String>,
    /// Such news comes again and again: what was told before this time was something else. None: it comes once.
    pub news_since: Option<Timestamp>,
}

/// How a source gets along with the others of its bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceRole {
    /// It is the bus itself.
    Bus,
    /// It is the bus itself, and others bring what it loses: what it brings after all was not lost.
    Backed,
    /// It brings messages of the bus: what the bus has not brought is recovered.
    Backs,
    /// It looks for itself and tells in messages of its own what the bus should have told: news that the bus has told
    /// are not stored again, unless they may have come again since.
    Reconciles,
}

impl SourceRole {
    /// What it brings is what another source of its bus should have brought.
    pub fn backs(self) -> bool {
        matches!(self, Self::Backs | Self::Reconciles)
    }
}

/// A job that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedJob {
    /// In this commit; 0 for those that ended before commits were noted.
    pub commit: i64,
    /// Which.
    pub job: JobId,
    /// When.
    pub at: Timestamp,
}

/// Where messages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageSource<'a> {
    /// The source's name.
    pub name: &'a str,
    /// What it brings messages of; sources of one bus bring the same ones.
    pub bus: &'a str,
    /// What it does beside other sources of its bus.
    pub role: SourceRole,
}

/// A stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its number.
    pub id: i64,
    /// The source that brought it first.
    pub source: String,
    /// The source's bus.
    pub bus: String,
    /// When it was stored.
    pub received_at: Timestamp,
    /// How far it is.
    pub state: MessageState,
    /// What came of the rules, as JSON; or why it is parked.
    pub caused: Option<String>,
    /// Another source of the bus should have brought it.
    pub recovered: bool,
    /// How often it was replayed by force: effects happen once each time.
    pub generation: u32,
    /// The rest.
    pub message: NewMessage,
}

/// The reason of a message that is put aside because of a rule and not of itself begins so: it can be replayed.
pub const PANICKED: &str = "a rule panicked over it";

/// How far an effect is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EffectState {
    /// To be carried out when it is due.
    Waiting,
    /// Waits for jobs of its rule to end.
    Held,
    /// Carried out.
    Done,
    /// Cannot be carried out. What it caused says why.
    Refused,
    /// Staging: only written down.
    Logged,
}

impl EffectState {
    /// The word that is stored.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Held => "held",
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Logged => "logged",
        }
    }

    /// The state that `word` names.
    pub fn from_word(word: &str) -> Option<Self> {
        let all = [Self::Waiting, Self::Held, Self::Done, Self::Refused, Self::Logged];
        all.into_iter().find(|state| state.word() == word)
    }
}

/// An effect, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEffect {
    /// What.
    pub planned: Planned,
    /// The event that caused it first.
    pub event: i64,
    /// How far it is.
    pub state: EffectState,
    /// Not before.
    pub due_at: Timestamp,
    /// What came of it, as JSON.
    pub caused: Option<String>,
    /// When it was planned; of what was only written down before, when somebody wanted it once more.
    pub at: Timestamp,
}

impl StoredEffect {
    /// What goes together has the same; none if it goes alone.
    pub fn group(&self) -> Option<String> {
        group(&self.planned)
    }
}

/// What goes together.
pub(crate) fn group(planned: &Planned) -> Option<String> {
    planned.batch.as_ref().map(|batch| format!("{}/{}", planned.rule, batch.by))
}

/// An event that all rules have seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched {
    /// Which.
    pub event: i64,
    /// What came of the rules, as JSON; with `parked`, why.
    pub caused: String,
    /// Put aside.
    pub parked: bool,
    /// The rules that match and cannot be carried out.
    pub failed: Vec<String>,
    /// What is to be done. What is known by its key changes nothing, unless it was only written down.
    pub effects: Vec<Planned>,
}

/// Effects that an input of the engine carries out, to be stored with what it decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectsDone {
    /// Their keys.
    pub keys: Vec<String>,
    /// How far they are now.
    pub state: EffectState,
    /// What came of it, as JSON.
    pub caused: String,
}

/// How often a rule had something to do, and how often it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleHits {
    /// The rule.
    pub rule: String,
    /// Its effects.
    pub effects: u64,
    /// When the last one was planned.
    pub last: Option<Timestamp>,
    /// How often it matched and could not be carried out.
    pub failed: u64,
    /// When that was last.
    pub last_failed: Option<Timestamp>,
}

/// What a source has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceTally {
    /// The source.
    pub source: String,
    /// Messages that it brought first.
    pub messages: u64,
    /// Of these, what another source should have brought.
    pub recovered: u64,
    /// Of these, what is parked.
    pub parked: u64,
    /// What it brought besides and was stored before.
    pub known: u64,
    /// When it brought the last one.
    pub last: Option<Timestamp>,
}

/// Which events are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageFilter {
    /// Only before this number.
    pub before: Option<i64>,
    /// Only of this source.
    pub source: Option<String>,
    /// Only with this in the topic or in the body.
    pub text: Option<String>,
    /// Only in this state.
    pub state: Option<MessageState>,
    /// Only what led to something.
    pub led: bool,
    /// At most so many.
    pub limit: u32,
}

/// The part of the store for events. Lists are the newest first, unless they say otherwise.
#[async_trait::async_trait]
pub trait EventStore: Send + Sync {
    /// Stores messages and, in the same transaction, how far their source has been read. Returns how many are new.
    async fn receive_messages(
        &self,
        epoch: Epoch,
        source: &MessageSource<'_>,
        at: Timestamp,
        messages: &[NewMessage],
        cursors: &[(String, Option<String>)],
    ) -> Result<u64, StoreError>;

    /// How far a source has been read.
    async fn message_cursors(&self, source: &str) -> Result<BTreeMap<String, String>, StoreError>;

    /// Messages that no rule has seen, the oldest first.
    async fn unmatched(&self, limit: u32) -> Result<Vec<StoredMessage>, StoreError>;

    /// By which message (its bus and its key there) one of `pollers`, which tell what the bus has not told, has told before
    /// what this message of the bus tells: the nearest in time, if it is no further from it than `near` seconds and the bus
    /// has not told it yet. None of a poller's own message: it is stored because it is news.
    async fn told_before(
        &self,
        message: i64,
        pollers: &[&str],
        near: i64,
    ) -> Result<Option<(String, String)>, StoreError>;

    /// Stores what rules want of messages.
    async fn match_messages(
        &self,
        epoch: Epoch,
        at: Timestamp,
        matched: &[Matched],
    ) -> Result<(), StoreError>;

    /// Effects that are due, the oldest first.
    async fn due_effects(&self, now: Timestamp, limit: u32) -> Result<Vec<StoredEffect>, StoreError>;

    /// When the next effect is due of those that are not due yet.
    async fn next_effect(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError>;

    /// Effects that wait for jobs of their rule, the oldest first; at most `limit` of each rule.
    async fn held_effects(&self, limit: u32) -> Result<Vec<StoredEffect>, StoreError>;

    /// Effects that wait or are held wait, and are not due before `until`; what keeps them waiting is JSON.
    async fn postpone_effects(
        &self,
        epoch: Epoch,
        keys: &[String],
        until: Timestamp,
        why: &str,
    ) -> Result<(), StoreError>;

    /// Effects that were refused or only written down wait again, and are due; what was only written down is planned now.
    /// Returns how many.
    async fn reopen_effects(&self, epoch: Epoch, keys: &[String], now: Timestamp) -> Result<u64, StoreError>;

    /// Notes what became of effects by themselves.
    async fn settle_effects(&self, epoch: Epoch, done: &[EffectsDone]) -> Result<(), StoreError>;

    /// Adds effects of an event, due now, and notes what became of the one that they came from. What is known by its key
    /// changes nothing, unless it was only written down.
    async fn expand_effect(
        &self,
        epoch: Epoch,
        at: Timestamp,
        event: i64,
        done: &EffectsDone,
        effects: &[Planned],
    ) -> Result<(), StoreError>;

    /// The effects with these keys.
    async fn effects_by_key(&self, keys: &[String]) -> Result<Vec<StoredEffect>, StoreError>;

    /// The effects that events caused first.
    async fn effects_of(&self, events: &[i64]) -> Result<Vec<StoredEffect>, StoreError>;

    /// One message.
    async fn message(&self, id: i64) -> Result<Option<StoredMessage>, StoreError>;

    /// The number of a message.
    async fn message_id(&self, bus: &str, dedupe_key: &str) -> Result<Option<i64>, StoreError>;

    /// Messages.
    async fn messages(&self, filter: &MessageFilter) -> Result<Vec<StoredMessage>, StoreError>;

    /// Lets all rules see a message again. What it caused is not caused again, unless `force`. False if there is no such
    /// message, or if it was put aside and not because of a rule ([`PANICKED`]).
    async fn replay(&self, epoch: Epoch, id: i64, force: bool) -> Result<bool, StoreError>;

    /// Jobs that came to their end in this commit or later, and of this commit only those of greater numbers; the first
    /// first. A clock that was put back does not change their order.
    async fn ended_jobs(&self, after: (i64, i64), limit: u32) -> Result<Vec<EndedJob>, StoreError>;

    /// The number of the last commit.
    async fn last_commit(&self) -> Result<i64, StoreError>;

    /// Removes messages that were dealt with and are older than `before`, at most `limit`; how many were removed. What
    /// they caused stays.
    async fn prune_messages(&self, epoch: Epoch, before: Timestamp, limit: u32) -> Result<u32, StoreError>;

    /// How often rules had something to do.
    async fn rule_hits(&self) -> Result<Vec<RuleHits>, StoreError>;

    /// What sources have brought.
    async fn source_tallies(&self) -> Result<Vec<SourceTally>, StoreError>;
}
