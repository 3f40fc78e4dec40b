//! GRUB on a CD: screen, keyboard, serial port, power.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use assay_vm::{Ended, Frame, FrameSource, Machine, MachineOptions, Power, Shutdown, TypingPace};

use crate::common::{GRUB_ISO, PATIENCE, Place, frame, pixel, serial};

/// GRUB's menu marks the chosen entry by a grey bar from edge to edge.
fn menu(frame: &Frame) -> bool {
    (frame.image.width(), frame.image.height()) == (720, 400) && pixel(frame, 600, 72) == [0xa8; 3]
}

/// Whether the `>` of GRUB's prompt stands in this line of text.
fn prompt(frame: &Frame, line: u32) -> bool {
    !menu(frame) && (0..16).any(|y| (36..45).any(|x| pixel(frame, x, line * 16 + y) != [0; 3]))
}

async fn booted(place: &Place, options: MachineOptions) -> Machine {
    let machine = place.start(&[("ISO", GRUB_ISO)], options).await.unwrap();
    frame(&machine, "GRUB's menu", menu).await;
    machine
}

/// From the menu to a command line whose output also goes to the serial port.
async fn command_line(machine: &Machine) {
    let pace = TypingPace::default();
    machine.send_key("c", pace).await.unwrap();
    // GRUB keeps 15 keys while it loads its modules: wait for the prompt as a test does.
    frame(machine, "GRUB's prompt", |f| prompt(f, 8)).await;
    machine.type_string("serial --unit=0 --speed=115200\n", pace).await.unwrap();
    frame(machine, "GRUB's second prompt", |f| prompt(f, 9)).await;
    machine.type_string("terminal_output console serial\n", pace).await.unwrap();
    serial(machine, "grub>", 0).await;
}

#[tokio::test]
async fn boot_type_see_and_stop() {
    let place = Place::new();
    let journal = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&journal);
    let observer = move |f: &Frame| assert_eq!(seen.fetch_add(1, Ordering::SeqCst) + 1, f.seq);
    let options = MachineOptions { observer: Some(Arc::new(observer)), ..MachineOptions::default() };
    let machine = booted(&place, options).await;

    let before = machine.frames().borrow().clone();
    machine.send_key("down", TypingPace::default()).await.unwrap();
    let after = frame(&machine, "the bar on the second entry", |f| pixel(f, 600, 88) == [0xa8; 3]).await;
    assert!(after.seq > before.seq && after.at > before.at);
    let changed = |r: &assay_vm::Rect| r.x <= 600 && 600 < r.x + r.w && r.y <= 88 && 88 < r.y + r.h;
    assert!(after.dirty.iter().any(changed) || after.seq > before.seq + 1, "{:?}", after.dirty);

    command_line(&machine).await;
    let at = serial(&machine, "grub>", 0).await;
    machine.type_string("echo 'Hello, \"World\"! ~{a|b}'\n", TypingPace::default()).await.unwrap();
    let at = serial(&machine, "\rHello, \"World\"! ~{a|b}", at).await;
    let at = serial(&machine, "grub>", at).await;

    // And it listens to the port, once it is told so.
    machine.type_string("terminal_input serial\n", TypingPace::default()).await.unwrap();
    let at = serial(&machine, "grub>", at).await;
    machine.serial_write(b"echo by wire\r").await.unwrap();
    serial(&machine, "\rby wire", at).await;

    machine.serial_write(b"halt\r").await.unwrap();
    let mut off = machine.shutdown();
    let off = tokio::time::timeout(PATIENCE, off.wait_for(Option::is_some)).await.unwrap().unwrap().clone();
    assert_eq!(off, Some(Shutdown::Guest("guest-shutdown".to_owned())));
    assert!(machine.facts().qemu_version.starts_with(|c: char| c.is_ascii_digit()));
    assert_eq!(journal.load(Ordering::SeqCst), machine.frames().borrow().seq);

    machine.power(Power::On).await.unwrap();
    assert_eq!(*machine.shutdown().borrow(), None);
    frame(&machine, "GRUB's menu after power on", menu).await;
    machine.eject_cd().await.unwrap();
    let dir = place.path().join("machine");
    assert_eq!(machine.stop().await, Ended::Stopped);
    let left: Vec<_> = fs_err::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["serial0.txt"]);
}

/// The figure in `TypingPace::default` comes from this test with ASSAY_TYPING_RUNS=50.
#[tokio::test]
async fn no_key_is_lost() {
    let runs = std::env::var("ASSAY_TYPING_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    let pace = std::env::var("ASSAY_TYPING_MS")
        .ok()
        .and_then(|n| n.parse().ok())
        .map(std::time::Duration::from_millis);
    let pace = pace.map_or_else(TypingPace::default, |ms| TypingPace { hold: ms, gap: ms });
    let place = Place::new();
    let machine = booted(&place, MachineOptions::default()).await;
    command_line(&machine).await;
    let mut at = serial(&machine, "grub>", 0).await;
    for run in 0..runs {
        let text: String =
            (0..195).map(|i: u32| char::from(b"abcXYZ019.-_/"[((i * 7 + run) % 13) as usize])).collect();
        let start = tokio::time::Instant::now();
        machine.type_string(&format!("echo {text}"), pace).await.unwrap();
        eprintln!("200 keys in {:?}", start.elapsed());
        machine.type_string("\n", TypingPace::default()).await.unwrap();
        // The answer stands on a line of its own; what was typed is broken by the width of the screen.
        at = serial(&machine, &format!("\r{}", &text[..60]), at).await;
        at = serial(&machine, &text[140..], at).await;
        at = serial(&machine, "grub>", at).await;
    }
}
