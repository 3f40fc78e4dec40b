//! What every part of the server shares.

use crate::auth::Guard;
use crate::driver::Engine;
use crate::hub::Hub;
use crate::live::LiveAttempts;
use assay_engine::ids::AttemptId;
use assay_proto::api::Event;
use assay_proto::clock::Clock;
use assay_proto::worker::Stream;
use assay_store::blobs::Blobs;
use assay_store::spool::Spool;
use assay_store::{Store, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How much of the steps is looked at at once when an attempt is taken up.
const PIECE: usize = 1024 * 1024;

/// The server.
pub(crate) struct App {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) spool: Spool,
    pub(crate) guard: Guard,
    pub(crate) engine: Engine,
    pub(crate) hub: Hub,
    pub(crate) live: LiveAttempts,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Cancelled when the server is to end.
    pub(crate) shutdown: CancellationToken,
    /// Everything that runs beside the listener.
    pub(crate) tasks: TaskTracker,
}

impl App {
    /// Tells pages and waiters.
    pub(crate) fn publish(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// An attempt is carried by a worker, or may be: its streams may grow from where they are.
    pub(crate) async fn take_up(&self, attempt: AttemptId) -> Result<BTreeMap<Stream, u64>, StoreError> {
        let lengths = self.spool.lens(attempt).await?;
        let live = self.live.begin(attempt);
        let steps = lengths.get(Stream::Steps.file_name()).copied().unwrap_or(0);
        while live.seen() < steps {
            let from = live.seen();
            let piece = self.spool.read(attempt, Stream::Steps.file_name(), from, PIECE).await?;
            if piece.is_empty() {
                break;
            }
            live.feed(from, &piece);
        }
        Ok(Stream::ALL
            .into_iter()
            .filter_map(|stream| Some((stream, *lengths.get(stream.file_name())?)))
            .collect())
    }

    /// The attempt has ended: makes blobs of its streams. If that fails they stay in the spool, where pages find them,
    /// and the next start tries again.
    pub(crate) fn close_streams(self: &Arc<Self>, attempt: AttemptId) {
        let app = self.clone();
        self.tasks.spawn(async move {
            app.live.begin(attempt).end().await;
            match app.spool.close(attempt).await {
                Ok(streams) => {
                    if app.engine.closed(attempt, streams).await
                        && let Err(error) = app.spool.remove(attempt).await
                    {
                        tracing::warn!(%attempt, %error, "the spool of a closed attempt cannot be removed");
                    }
                }
                Err(error) => {
                    tracing::error!(%attempt, %error, "streams cannot be closed; they stay in the spool");
                }
            }
            app.live.forget(attempt);
            app.publish(Event::Job { id: attempt.job });
        });
    }
}
