//! Machines in a network of their cluster. What sends is the boot program of the card, which asks for an address.

use std::collections::{BTreeMap, BTreeSet};

use assay_vm::switch::{Port, Switch};
use assay_vm::{Machine, MachineOptions};

use crate::common::{Place, spec};

async fn asking(place: &Place, switch: &Switch, number: u16) -> Machine {
    let networks = BTreeMap::from([("fixed".to_owned(), switch.clone())]);
    let spec = spec(&[("NICTYPE", "tap"), ("BOOTFROM", "n"), ("QEMURAM", "64")]);
    let dir = place.path().join(format!("machine{number}"));
    let options = MachineOptions { networks, number, ..MachineOptions::default() };
    Machine::start(&spec, &dir, options).await.expect("a machine")
}

/// The addresses of the next cards that ask for an address by DHCP.
async fn who_asks(port: &mut Port, count: usize) -> BTreeSet<[u8; 6]> {
    let mut cards = BTreeSet::new();
    while cards.len() < count {
        let frame = port.receive().await.expect("a frame");
        // UDP over IPv4 from port 68 to port 67, to everybody.
        let dhcp = frame.get(12..14) == Some(&[8, 0])
            && frame.get(23) == Some(&17)
            && frame.get(34..38) == Some(&[0, 68, 0, 67]);
        if dhcp && frame[..6] == [0xff; 6] {
            cards.insert(frame[6..12].try_into().expect("six bytes"));
        }
    }
    cards
}

#[tokio::test]
async fn two_machines_in_one_network() {
    let place = Place::new();
    let (switch, other) = (Switch::new(), Switch::new());
    let (mut port, mut elsewhere) = (switch.plug(), other.plug());
    let (one, two, alone) =
        tokio::join!(asking(&place, &switch, 1), asking(&place, &switch, 0x1234), asking(&place, &other, 3));
    let cards = who_asks(&mut port, 2).await;
    assert_eq!(cards, BTreeSet::from([[0x52, 0x54, 0, 0, 1, 0], [0x52, 0x54, 0, 0x12, 0x34, 0]]));
    assert_eq!(who_asks(&mut elsewhere, 1).await, BTreeSet::from([[0x52, 0x54, 0, 0, 3, 0]]));
    for machine in [one, two, alone] {
        machine.stop().await;
    }
    assert!(!place.path().join("machine1/net0.sock").exists());
}
