//! Which way a frame goes: a learning switch without I/O.

use std::collections::{BTreeMap, HashMap};

/// Bytes of an Ethernet header.
const HEADER: usize = 14;

/// How many addresses are remembered; a guest that makes up more only costs itself its oldest ones.
const ADDRESSES: usize = 1024;

/// One port of a switch. Never used again after it has been unplugged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub(crate) u64);

/// A hardware address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// True for multicast and broadcast: nobody can be learned to be there.
    fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes: Vec<String> = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        f.write_str(&bytes.join(":"))
    }
}

impl std::fmt::Debug for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an address like 52:54:00:12:34:56, not one of a group")]
pub struct NoMac;

impl std::str::FromStr for Mac {
    type Err = NoMac;

    fn from_str(text: &str) -> Result<Self, NoMac> {
        let hex = |word: &str| word.len() == 2 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let byte = |word: &str| u8::from_str_radix(word, 16).ok().filter(|_| hex(word));
        let bytes: Vec<u8> = text.split(':').map(byte).collect::<Option<_>>().ok_or(NoMac)?;
        let mac = Self(bytes.try_into().map_err(|_| NoMac)?);
        if mac.is_group() { Err(NoMac) } else { Ok(mac) }
    }
}

/// Where a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// To the port where its address was seen.
    To(PortId),
    /// To every port but its own.
    Flood,
    /// Nowhere: too short for a header, from a port that is not there, or its receiver is where it came from.
    Drop,
}

/// The addresses that were seen, and where.
#[derive(Debug, Default)]
pub struct Table {
    next_port: u64,
    /// Grows with every frame; tells which address is the oldest.
    clock: u64,
    /// Ports and how many addresses were learned at each.
    ports: BTreeMap<PortId, usize>,
    seen: HashMap<Mac, (PortId, u64)>,
    /// The same by age.
    by_age: BTreeMap<u64, Mac>,
}

impl Table {
    /// A new port.
    pub fn plug(&mut self) -> PortId {
        let port = PortId(self.next_port);
        self.next_port += 1;
        self.ports.insert(port, 0);
        port
    }

    /// Forgets a port and whoever was seen there.
    pub fn unplug(&mut self, port: PortId) {
        self.ports.remove(&port);
        let gone: Vec<Mac> =
            self.seen.iter().filter(|(_, (at, _))| *at == port).map(|(mac, _)| *mac).collect();
        for mac in gone {
            self.forget(mac);
        }
    }

    /// The ports, in the order in which they were plugged in.
    pub fn ports(&self) -> impl Iterator<Item = PortId> + '_ {
        self.ports.keys().copied()
    }

    /// Learns where the sender of a frame is and says where the frame goes.
    pub fn forward(&mut self, from: PortId, frame: &[u8]) -> Forward {
        let (Some(to), Some(sender)) = (mac(frame, 0), mac(frame, 6)) else { return Forward::Drop };
        if frame.len() < HEADER || !self.ports.contains_key(&from) {
            return Forward::Drop;
        }
        if !sender.is_group() {
            self.learn(sender, from);
        }
        match self.seen.get(&to) {
            Some((port, _)) if *port == from => Forward::Drop,
            Some((port, _)) => Forward::To(*port),
            None => Forward::Flood,
        }
    }

    fn learn(&mut self, mac: Mac, port: PortId) {
        self.forget(mac);
        // A port that makes up addresses pushes out its own before those of others.
        let share = ADDRESSES / self.ports.len().max(1);
        if self.ports.get(&port).is_some_and(|own| *own >= share.max(1)) {
            let oldest =
                self.by_age.values().find(|mac| self.seen.get(mac).is_some_and(|(at, _)| *at == port));
            if let Some(oldest) = oldest.copied() {
                self.forget(oldest);
            }
        }
        self.clock += 1;
        self.seen.insert(mac, (port, self.clock));
        self.by_age.insert(self.clock, mac);
        if let Some(own) = self.ports.get_mut(&port) {
            *own += 1;
        }
    }

    fn forget(&mut self, mac: Mac) {
        let Some((port, age)) = self.seen.remove(&mac) else { return };
        self.by_age.remove(&age);
        if let Some(own) = self.ports.get_mut(&port) {
            *own -= 1;
        }
    }
}

fn mac(frame: &[u8], at: usize) -> Option<Mac> {
    Some(Mac(frame.get(at..at + 6)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(to: u8, from: u8) -> Vec<u8> {
        [[to; 6].as_slice(), &[from; 6], &[8, 0, 1, 2, 3]].concat()
    }

    #[test]
    fn learns_floods_and_forgets() {
        let mut table = Table::default();
        let (a, b, c) = (table.plug(), table.plug(), table.plug());
        assert_eq!(table.forward(a, &frame(0xff, 2)), Forward::Flood, "a broadcast");
        assert_eq!(table.forward(b, &frame(2, 4)), Forward::To(a), "the sender of the broadcast was learned");
        assert_eq!(table.forward(a, &frame(4, 2)), Forward::To(b));
        assert_eq!(table.forward(c, &frame(6, 8)), Forward::Flood, "nobody knows 6");
        assert_eq!(table.forward(a, &frame(2, 2)), Forward::Drop, "to itself");
        assert_eq!(table.forward(c, &frame(4, 2)), Forward::To(b), "2 has moved to c");
        assert_eq!(table.forward(b, &frame(2, 4)), Forward::To(c));
        table.unplug(c);
        assert_eq!(table.forward(b, &frame(2, 4)), Forward::Flood);
        assert_eq!(table.forward(c, &frame(4, 2)), Forward::Drop, "from nowhere");
        assert_eq!(table.ports().collect::<Vec<_>>(), [a, b]);
        assert_eq!(table.forward(a, &[1, 2, 3]), Forward::Drop, "no header");
        assert_eq!(
            table.forward(a, &frame(4, 1)),
            Forward::To(b),
            "a group is no sender, but the frame goes on"
        );
        assert_eq!(table.forward(b, &frame(1, 4)), Forward::Flood);
    }

    #[test]
    fn addresses_as_text() {
        let text = "52:54:00:12:34:56";
        assert_eq!(text.parse().map(|mac: Mac| mac.to_string()), Ok(text.to_owned()));
        for wrong in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:5",
            "52:54:00:12:34:+6",
            "53:54:00:12:34:56",
            text.repeat(2).as_str(),
        ] {
            assert_eq!(wrong.parse::<Mac>(), Err(NoMac), "{wrong}");
        }
    }

    #[test]
    fn a_port_that_makes_up_addresses_does_not_push_out_the_others() {
        let mut table = Table::default();
        let (a, b) = (table.plug(), table.plug());
        table.forward(a, &frame(0xff, 2));
        for number in 0..10_000_u32 {
            let mut flood = frame(0xff, 0);
            flood[8..12].copy_from_slice(&number.to_be_bytes());
            table.forward(b, &flood);
        }
        assert!(table.seen.len() <= ADDRESSES && table.by_age.len() == table.seen.len());
        assert_eq!(table.forward(b, &frame(2, 4)), Forward::To(a));
    }

    proptest! {
        #[test]
        fn hostile_frames_never_panic_and_go_to_ports_that_are_there(
            frames in prop::collection::vec((0_u64..5, prop::collection::vec(0_u8..4, 0..20), any::<bool>()), 0..60)
        ) {
            let mut table = Table::default();
            for _ in 0..3 {
                table.plug();
            }
            for (port, bytes, unplug) in frames {
                let from = PortId(port);
                if let Forward::To(to) = table.forward(from, &bytes) {
                    prop_assert!(to != from && table.ports().any(|port| port == to));
                }
                if unplug && port == 1 {
                    table.unplug(from);
                }
                prop_assert_eq!(table.by_age.len(), table.seen.len());
                prop_assert_eq!(table.ports.values().sum::<usize>(), table.seen.len());
            }
        }
    }
}
