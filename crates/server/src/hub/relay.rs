//! Frames between workers that carry machines of one cluster.
//!
//! Each worker switches between its own machines; what may be for a machine elsewhere comes here and goes to the worker
//! that a frame from that machine's address came from last, or to every other worker of the network if none has. Nobody
//! waits: a frame for a worker that does not read them is lost, as on any Ethernet, and counted.

use assay_engine::ids::ConnectionId;
use assay_engine::locks::ClusterId;
use axum::body::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Frames that may wait for one worker.
const QUEUE: usize = 512;
/// Networks that one worker may take part in, and the longest name of one in bytes.
const MOST_NETWORKS: usize = 1000;
const LONGEST_NAME: usize = 200;

/// Addresses of machines that one network may know.
const MOST_ADDRESSES: usize = 4096;

type Network = (ClusterId, String);
type Address = [u8; 6];

/// The workers of a network, and which machines are behind which of them.
#[derive(Debug, Default)]
struct Plugs {
    workers: BTreeMap<ConnectionId, Plug>,
    behind: HashMap<Address, ConnectionId>,
}

impl Plugs {
    /// Takes note of where a frame comes from; the worker that it is for, if that is known.
    fn learn(&mut self, from: ConnectionId, frame: &[u8]) -> Option<ConnectionId> {
        let (to, rest) = frame.split_first_chunk::<6>()?;
        let (source, _) = rest.split_first_chunk::<6>()?;
        // The lowest bit of the first byte says that it is for many.
        let is_one = |address: &Address| address[0] & 1 == 0;
        if is_one(source) && (self.behind.contains_key(source) || self.behind.len() < MOST_ADDRESSES) {
            self.behind.insert(*source, from);
        }
        self.behind.get(to).copied().filter(|_| is_one(to))
    }
}

/// All networks that go through this server.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    networks: Mutex<HashMap<Network, Plugs>>,
    lost: AtomicU64,
}

/// A worker's end of a network: where its frames go, and under which number.
#[derive(Debug, Clone)]
struct Plug {
    channel: u32,
    frames: mpsc::Sender<Bytes>,
}

impl Relay {
    fn networks(&self) -> MutexGuard<'_, HashMap<Network, Plugs>> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many frames were lost because a worker did not read them.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// One worker's part in the networks. Dropping it pulls all its plugs.
pub(super) struct Line {
    relay: Arc<Relay>,
    id: ConnectionId,
    frames: mpsc::Sender<Bytes>,
    channels: BTreeMap<u32, Network>,
}

impl Line {
    /// A connection's line, and what comes out of it: binary messages for the worker.
    pub(super) fn new(relay: Arc<Relay>, id: ConnectionId) -> (Self, mpsc::Receiver<Bytes>) {
        let (frames, receiver) = mpsc::channel(QUEUE);
        (Self { relay, id, frames, channels: BTreeMap::new() }, receiver)
    }

    /// Takes part in a network from now on.
    pub(super) fn plug(&mut self, cluster: ClusterId, network: String, channel: u32) -> Result<(), String> {
        if network.is_empty() || network.len() > LONGEST_NAME {
            return Err(format!("the name of a network has 1 to {LONGEST_NAME} bytes"));
        }
        if self.channels.len() >= MOST_NETWORKS {
            return Err(format!("a worker takes part in {MOST_NETWORKS} networks at most"));
        }
        self.unplug(channel);
        let network = (cluster, network);
        let plug = Plug { channel, frames: self.frames.clone() };
        self.relay.networks().entry(network.clone()).or_default().workers.insert(self.id, plug);
        self.channels.insert(channel, network);
        Ok(())
    }

    /// No more.
    pub(super) fn unplug(&mut self, channel: u32) {
        let Some(network) = self.channels.remove(&channel) else { return };
        let mut networks = self.relay.networks();
        if let Some(plugs) = networks.get_mut(&network) {
            plugs.workers.remove(&self.id);
            plugs.behind.retain(|_, id| *id != self.id);
            if plugs.workers.is_empty() {
                networks.remove(&network);
            }
        }
    }

    /// A frame from the worker goes to the others. One for a channel that has just been unplugged is dropped.
    pub(super) fn carry(&self, channel: u32, frame: &[u8]) {
        let Some(network) = self.channels.get(&channel) else { return };
        let mut networks = self.relay.networks();
        let Some(plugs) = networks.get_mut(network) else { return };
        let only = plugs.learn(self.id, frame);
        let meant = |id: &ConnectionId| *id != self.id && only.is_none_or(|only| only == *id);
        let others = plugs.workers.iter().filter(|(id, _)| meant(id));
        let others: Vec<Plug> = others.map(|(_, plug)| plug.clone()).collect();
        drop(networks);
        for plug in others {
            let message = [&plug.channel.to_be_bytes(), frame].concat();
            if plug.frames.try_send(message.into()).is_err() {
                let lost = self.relay.lost.fetch_add(1, Ordering::Relaxed) + 1;
                // Now and then, however many there are.
                if lost.is_power_of_two() {
                    tracing::warn!(
                        lost,
                        "frames between machines of clusters are lost: a worker does not read them"
                    );
                }
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        for channel in self.channels.keys().copied().collect::<Vec<_>>() {
            self.unplug(channel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_go_to_the_others_of_the_network_and_nobody_waits() {
        let relay = Arc::new(Relay::default());
        let line = |id| Line::new(relay.clone(), ConnectionId(id));
        let ((mut one, mut to_one), (mut two, mut to_two), (mut other, mut to_other)) =
            (line(1), line(2), line(3));
        let cluster = assay_engine::ids::JobId(7);
        one.plug(cluster, "fixed".into(), 1).expect("a plug");
        two.plug(cluster, "fixed".into(), 5).expect("a plug");
        other.plug(cluster, "other".into(), 1).expect("a plug");
        assert!(two.plug(cluster, String::new(), 6).is_err());
        one.carry(1, b"hello");
        one.carry(2, b"nowhere");
        assert_eq!(to_two.try_recv().expect("a frame"), b"\0\0\0\x05hello".as_slice());
        assert!(to_one.try_recv().is_err() && to_two.try_recv().is_err() && to_other.try_recv().is_err());
        for _ in 0..QUEUE + 2 {
            two.carry(5, b"x");
        }
        assert_eq!(relay.lost(), 2);
        two.unplug(5);
        one.carry(1, b"late");
        assert!(to_two.try_recv().is_err());
        drop((one, two, other));
        assert!(relay.networks().is_empty());
    }

    #[test]
    fn a_frame_goes_to_the_worker_that_has_the_machine() {
        let relay = Arc::new(Relay::default());
        let cluster = assay_engine::ids::JobId(7);
        let mut lines: Vec<_> = (1..4).map(|id| Line::new(relay.clone(), ConnectionId(id))).collect();
        for (line, _) in &mut lines {
            line.plug(cluster, "fixed".into(), 1).expect("a plug");
        }
        let frame = |to: u8, from: u8| [[2, 0, 0, 0, 0, to], [2, 0, 0, 0, 0, from]].concat();
        let mut send = |from: usize, frame: &[u8]| -> Vec<usize> {
            lines[from].0.carry(1, frame);
            let got =
                lines.iter_mut().enumerate().filter_map(|(at, (_, inbox))| inbox.try_recv().ok().map(|_| at));
            got.collect()
        };
        assert_eq!(send(0, &frame(9, 10)), [1, 2], "nobody knows where 9 is");
        assert_eq!(send(1, &frame(10, 9)), [0]);
        assert_eq!(send(0, &frame(9, 10)), [1]);
        assert_eq!(send(0, &[&[255; 6][..], &[2, 0, 0, 0, 0, 10]].concat()), [1, 2], "for all");
        assert_eq!(send(2, &frame(0, 9)), [0, 1], "9 has moved");
        assert_eq!(send(0, &frame(9, 10)), [2]);
        assert_eq!(send(0, b"short"), [1, 2]);
        drop(lines.remove(2));
        let (from, to) = lines.split_at_mut(1);
        from[0].0.carry(1, &frame(9, 10));
        assert!(to[0].1.try_recv().is_ok(), "it is looked for again");
    }
}
