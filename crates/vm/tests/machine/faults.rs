//! QEMU absent, too old, dying, killed, hanging: one sentence, and the right class.

use std::time::Duration;

use assay_vm::{Class, Ended, Machine, MachineError, MachineOptions, TypingPace};
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{GRUB_ISO, PATIENCE, Place};

async fn failure(place: &Place, settings: &[(&str, &str)], options: MachineOptions) -> MachineError {
    match place.start(settings, options).await {
        Ok(_) => panic!("the machine started"),
        Err(e) => e,
    }
}

async fn end(machine: &Machine) -> MachineError {
    let mut ended = machine.ended();
    let end = tokio::time::timeout(PATIENCE, ended.wait_for(Option::is_some)).await.unwrap().unwrap().clone();
    match end {
        Some(Ended::Failed(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn signal(machine: &Machine, signal: Signal) {
    let pid = Pid::from_raw(machine.qemu_pid().unwrap().cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[tokio::test]
async fn absent() {
    let error = failure(&Place::new(), &[("QEMU", "qemu-of-nowhere")], MachineOptions::default()).await;
    assert!(
        error.to_string().starts_with("QEMU was not found: there is no program \"qemu-of-nowhere\"."),
        "{error}"
    );
    assert_eq!(error.class(), Class::Infrastructure);
}

#[tokio::test]
async fn too_old() {
    let place = Place::new();
    let fake = place.script(
        "#!/bin/sh\n[ \"$1\" = --version ] && { echo 'QEMU emulator version 5.2.0 (Debian)'; exit; }\n\
         echo 'qemu: -display none: no such thing' >&2; exit 1\n",
    );
    let error = failure(&place, &[("QEMU", fake.as_str())], MachineOptions::default()).await;
    let wanted =
        MachineError::QemuTooOld { binary: fake.canonicalize_utf8().unwrap(), version: "5.2.0".to_owned() };
    assert_eq!(error, wanted);
}

#[tokio::test]
async fn dies_at_start() {
    let place = Place::new();
    let error = failure(&place, &[("QEMU_APPEND", "device no-such-device")], MachineOptions::default()).await;
    let said = error.to_string();
    assert!(
        said.contains("exit code 1") && said.contains("'no-such-device' is not a valid device model"),
        "{said}"
    );
    assert!(
        said.contains("See whether these settings are right: QEMU_APPEND=device no-such-device."),
        "{said}"
    );
    assert_eq!(error.class(), Class::Usage);
    let fake = place.script("#!/bin/sh\necho no luck >&2; exit 7\n");
    let error = failure(&place, &[("QEMU", fake.as_str())], MachineOptions::default()).await;
    assert!(
        error.to_string().starts_with("QEMU ended at start (exit code 7). It said:\nno luck\n"),
        "{error}"
    );
    assert_eq!(error.class(), Class::Infrastructure);
    assert!(!place.path().join("machine/qmp.sock").exists());
}

#[tokio::test]
async fn hangs_at_start() {
    let place = Place::new();
    let fake = place.script("#!/bin/sh\nexec sleep 600\n");
    let options = MachineOptions { start_deadline: Duration::from_millis(200), ..MachineOptions::default() };
    let error = failure(&place, &[("QEMU", fake.as_str())], options).await;
    assert!(
        error.to_string().starts_with("QEMU hangs: it did not answer its start within 200 ms"),
        "{error}"
    );
}

#[tokio::test]
async fn killed_in_the_middle() {
    let place = Place::new();
    let machine = place.start(&[("ISO", GRUB_ISO)], MachineOptions::default()).await.unwrap();
    // A call that is under way gets the reason, too.
    let text = "a".repeat(100_000);
    let typing = machine.type_string(&text, TypingPace::default());
    let killing = async { signal(&machine, Signal::KILL) };
    let (typed, ()) = tokio::join!(typing, killing);
    let error = end(&machine).await;
    assert_eq!(typed.unwrap_err(), error);
    assert!(
        error.to_string().starts_with("QEMU ended in the middle of the run (killed by signal 9)."),
        "{error}"
    );
    assert_eq!(machine.resume().await.unwrap_err(), error);
    assert_eq!(machine.stop().await, Ended::Failed(error));
}

#[tokio::test]
async fn hangs() {
    let place = Place::new();
    let options = MachineOptions {
        ping_interval: Duration::from_millis(50),
        hang_after: Duration::from_millis(500),
        ..MachineOptions::default()
    };
    let machine = place.start(&[("ISO", GRUB_ISO)], options).await.unwrap();
    signal(&machine, Signal::STOP);
    let error = end(&machine).await;
    assert!(
        error.to_string().starts_with("QEMU hangs: it did not answer query-status within 500 ms"),
        "{error}"
    );
    assert_eq!(error.class(), Class::Infrastructure);
}

#[tokio::test]
async fn a_hanging_machine_can_be_stopped() {
    let place = Place::new();
    let machine = place.start(&[("ISO", GRUB_ISO)], MachineOptions::default()).await.unwrap();
    signal(&machine, Signal::STOP);
    assert_eq!(tokio::time::timeout(PATIENCE, machine.stop()).await.unwrap(), Ended::Stopped);
}

#[tokio::test]
async fn an_unknown_key_is_the_tests_fault() {
    let place = Place::new();
    let machine = place.start(&[("ISO", GRUB_ISO)], MachineOptions::default()).await.unwrap();
    let error = machine.send_key("ctrl-entre", TypingPace::default()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no key named \"entre\" in \"ctrl-entre\"; did you mean \"enter\"?"
    );
    assert_eq!(error.class(), Class::Usage);
}
