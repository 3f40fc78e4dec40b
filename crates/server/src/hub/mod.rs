//! The workers' end of the server: their sockets and their blobs. The prose is `docs/protocols/worker.md`.

pub(crate) mod blobs;
mod connection;
mod relay;
pub(crate) mod socket;

use assay_engine::ids::{ConnectionId, WorkerName};
use assay_engine::io::Message;
use assay_proto::worker::Room;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Messages for one worker that may wait in memory; a worker that lets more pile up is disconnected.
const PENDING: usize = 256;

/// Something for a connection's task.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Message(Message),
    Close(String),
    /// `refused`, then the end.
    Refuse {
        reason: String,
        retry: bool,
    },
}

/// All open worker connections.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    last: AtomicU64,
    connections: Mutex<HashMap<ConnectionId, mpsc::Sender<Outgoing>>>,
    /// The networks between workers.
    relay: Arc<relay::Relay>,
    /// What the disks of workers could take when they last said it.
    rooms: Mutex<HashMap<WorkerName, Room>>,
}

impl Hub {
    fn connections(&self) -> MutexGuard<'_, HashMap<ConnectionId, mpsc::Sender<Outgoing>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection; its task takes what comes out of the receiver and ends when there is nothing more.
    pub(crate) fn register(&self) -> (ConnectionId, mpsc::Receiver<Outgoing>) {
        let id = ConnectionId(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        let (sender, receiver) = mpsc::channel(PENDING);
        self.connections().insert(id, sender);
        (id, receiver)
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<WorkerName, Room>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a worker's disks can take, as it last said.
    pub(crate) fn room(&self, worker: &WorkerName) -> Option<Room> {
        self.rooms().get(worker).copied()
    }

    fn note_room(&self, worker: &WorkerName, room: Room) {
        self.rooms().insert(worker.clone(), room);
    }

    /// How many frames between machines of clusters were lost because a worker did not read them.
    pub(crate) fn frames_lost(&self) -> u64 {
        self.relay.lost()
    }

    fn unregister(&self, id: ConnectionId) {
        self.connections().remove(&id);
    }

    /// Passes a message on. Never waits: a connection that does not take its messages is cut, and the worker's next
    /// hello sorts it out.
    pub(crate) fn send(&self, id: ConnectionId, message: Message) {
        self.pass(id, Outgoing::Message(message));
    }

    /// Ends a connection after what was sent before.
    pub(crate) fn close(&self, id: ConnectionId, reason: &str) {
        self.pass(id, Outgoing::Close(reason.to_owned()));
        self.unregister(id);
    }

    /// Ends a connection and says why; with `retry` the worker dials again.
    pub(crate) fn refuse(&self, id: ConnectionId, reason: &str, retry: bool) {
        self.pass(id, Outgoing::Refuse { reason: reason.to_owned(), retry });
        self.unregister(id);
    }

    /// Ends all connections; their workers dial again.
    pub(crate) fn refuse_all(&self, reason: &str) {
        for (_, sender) in self.connections().drain() {
            let _ = sender.try_send(Outgoing::Refuse { reason: reason.to_owned(), retry: true });
        }
    }

    fn pass(&self, id: ConnectionId, outgoing: Outgoing) {
        let mut connections = self.connections();
        let Some(sender) = connections.get(&id) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = sender.try_send(outgoing) {
            tracing::warn!(connection = id.0, "a worker does not read its messages; it is disconnected");
            connections.remove(&id);
        }
    }
}
