//! Sources that are asked again and again.

use super::{MessageInbox, MessageSource, Received};
use crate::pace::Backoff;
use assay_engine::ids::Timestamp;
use assay_proto::clock::Clock;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Looks at the truth outside, and says what is new since the cursors.
#[async_trait]
pub trait Poller: Send + Sync {
    /// Looks once. `more`: there is more, to be looked at without a pause.
    async fn poll(&self, cursors: &BTreeMap<String, String>, now: Timestamp) -> Result<Polled, String>;
}

/// What a look has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Polled {
    /// Messages and cursors.
    pub received: Received,
    /// There is more.
    pub more: bool,
    /// What could not be looked at, beside what was; it is looked at again.
    pub trouble: Option<String>,
}

/// A cursor that is a number.
pub(super) fn number_of(cursors: &BTreeMap<String, String>, cursor: &str) -> Option<i64> {
    cursors.get(cursor).and_then(|text| text.parse().ok())
}

/// A poller as a source.
pub struct Polling {
    /// What looks.
    pub poller: Box<dyn Poller>,
    /// The pause between looks.
    pub every: Duration,
    /// The pauses after a failure.
    pub backoff: Backoff,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Polling {
    async fn look(&self, inbox: &dyn MessageInbox) -> Result<(), String> {
        loop {
            let cursors = inbox.cursors().await.map_err(|error| error.to_string())?;
            let polled = self.poller.poll(&cursors, self.clock.now()).await?;
            if polled.received != Received::default() {
                inbox.receive(&polled.received).await.map_err(|error| error.to_string())?;
            }
            if !polled.more {
                inbox.report(polled.trouble.as_deref().map_or(Ok("looked"), Err));
                return Ok(());
            }
        }
    }
}

#[async_trait]
impl MessageSource for Polling {
    async fn run(&mut self, inbox: &dyn MessageInbox, cancel: &CancellationToken) {
        let mut failed = 0;
        loop {
            let looked = tokio::select! {
                () = cancel.cancelled() => return,
                looked = self.look(inbox) => looked,
            };
            let pause = match looked {
                Ok(()) => {
                    failed = 0;
                    self.every
                }
                Err(why) => {
                    failed += 1;
                    inbox.report(Err(&why));
                    self.backoff.draw(failed).min(self.every.max(Duration::from_secs(1)))
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
