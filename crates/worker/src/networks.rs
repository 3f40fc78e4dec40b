//! The networks of clusters, as far as this worker's machines are in them: one switch for each, and a way to the machines
//! on other workers, which leads through the server.

use assay_engine::ids::JobId;
use assay_vm::switch::{Sender, Switch};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Frames that may wait for the connection to the server.
const QUEUE: usize = 1024;

/// A frame on its way to the server, and the channel of its network.
pub(crate) type Outgoing = (u32, Arc<[u8]>);

/// A cluster's network.
type Network = (JobId, String);

/// All networks of this worker; its clones are the same.
#[derive(Clone)]
pub struct Networks(Arc<Inner>);

struct Inner {
    nets: Mutex<Nets>,
    to_server: mpsc::Sender<Outgoing>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Nets {
    last: u32,
    nets: BTreeMap<Network, Net>,
}

struct Net {
    channel: u32,
    switch: Switch,
    users: usize,
    uplink: Sender,
    /// Carries what may be for a machine elsewhere.
    _carrier: JoinSet<()>,
}

/// A machine's part in a network; the network ends with the last of them.
pub(crate) struct Membership {
    networks: Networks,
    network: Network,
    /// To plug the machine's cards into.
    pub(crate) switch: Switch,
}

impl Networks {
    /// None yet, and what is to go to the server.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Outgoing>) {
        let (to_server, receiver) = mpsc::channel(QUEUE);
        let inner = Inner { nets: Mutex::default(), to_server, changes: watch::Sender::new(0) };
        (Self(Arc::new(inner)), receiver)
    }

    /// Takes part in a cluster's network.
    pub(crate) fn join(&self, cluster: JobId, name: &str) -> Membership {
        let network = (cluster, name.to_owned());
        let mut nets = self.nets();
        if !nets.nets.contains_key(&network) {
            nets.last = nets.last.wrapping_add(1);
            let net = self.net(nets.last);
            nets.nets.insert(network.clone(), net);
        }
        let mut switch = Switch::new();
        if let Some(net) = nets.nets.get_mut(&network) {
            net.users += 1;
            switch = net.switch.clone();
        }
        drop(nets);
        self.0.changes.send_modify(|count| *count += 1);
        Membership { networks: self.clone(), network, switch }
    }

    fn net(&self, channel: u32) -> Net {
        let switch = Switch::new();
        let mut port = switch.plug();
        let (uplink, to_server) = (port.sender(), self.0.to_server.clone());
        let mut carrier = JoinSet::new();
        carrier.spawn(async move {
            while let Some(frame) = port.receive().await {
                // Full while the server is away: lost, as on any Ethernet.
                let _ = to_server.try_send((channel, frame));
            }
        });
        Net { channel, switch, users: 0, uplink, _carrier: carrier }
    }

    /// The networks that there are, by channel.
    pub(crate) fn channels(&self) -> BTreeMap<u32, Network> {
        self.nets().nets.iter().map(|(network, net)| (net.channel, network.clone())).collect()
    }

    /// Changes with [`Self::channels`].
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// A binary message came from the server: a frame from a machine elsewhere. What is none is dropped.
    pub(crate) fn arrived(&self, message: &[u8]) {
        let Some((channel, frame)) = message.split_first_chunk() else { return };
        let channel = u32::from_be_bytes(*channel);
        let uplink =
            self.nets().nets.values().find(|net| net.channel == channel).map(|net| net.uplink.clone());
        if let Some(uplink) = uplink.filter(|_| frame.len() <= assay_vm::switch::MAX_FRAME) {
            uplink.send(frame);
        }
    }

    fn nets(&self) -> MutexGuard<'_, Nets> {
        self.0.nets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut nets = self.networks.nets();
        if let Some(net) = nets.nets.get_mut(&self.network) {
            net.users -= 1;
            if net.users == 0 {
                nets.nets.remove(&self.network);
            }
        }
        drop(nets);
        self.networks.0.changes.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(to: u8, from: u8) -> Vec<u8> {
        [[to; 6].as_slice(), &[from; 6], &[8, 0]].concat()
    }

    #[tokio::test]
    async fn machines_of_one_cluster_share_a_switch_and_its_way_out() {
        let (networks, mut to_server) = Networks::new();
        let (cluster, other) = (JobId(7), JobId(8));
        let (one, two) = (networks.join(cluster, "fixed"), networks.join(cluster, "fixed"));
        let third = networks.join(other, "fixed");
        let (mut one_card, mut two_card, mut third_card) =
            (one.switch.plug(), two.switch.plug(), third.switch.plug());
        one_card.send(&frame(0xff, 2));
        assert_eq!(two_card.receive().await.as_deref(), Some(frame(0xff, 2).as_slice()));
        assert_eq!(to_server.recv().await, Some((1, frame(0xff, 2).into())));
        // What is known to be here does not go out.
        two_card.send(&frame(2, 4));
        assert_eq!(one_card.receive().await.as_deref(), Some(frame(2, 4).as_slice()));
        // From elsewhere, and back there only.
        networks.arrived(&[&[0, 0, 0, 1], frame(2, 6).as_slice()].concat());
        assert_eq!(one_card.receive().await.as_deref(), Some(frame(2, 6).as_slice()));
        one_card.send(&frame(6, 2));
        assert_eq!(to_server.recv().await, Some((1, frame(6, 2).into())));
        networks.arrived(&[0, 0]);
        networks.arrived(&[&[0, 0, 0, 9], frame(2, 6).as_slice()].concat());
        third_card.send(&frame(2, 8));
        assert_eq!(to_server.recv().await, Some((2, frame(2, 8).into())), "nothing else came out meanwhile");
        assert_eq!(networks.channels().len(), 2);
        drop((one, two));
        assert_eq!(networks.channels().into_keys().collect::<Vec<_>>(), [2]);
        drop((one_card, two_card));
        networks.arrived(&[&[0, 0, 0, 2], frame(8, 6).as_slice()].concat());
        assert_eq!(third_card.receive().await.as_deref(), Some(frame(8, 6).as_slice()));
    }
}
