//! What QEMU is to the host: nothing listens, and nothing outlives us.

use std::collections::HashSet;
use std::process::Stdio;
use std::time::Duration;

use assay_vm::{Isolation, MachineOptions};
use camino::Utf8Path;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;

use crate::common::{GRUB_ISO, PATIENCE, Place};

/// An open connection from QEMU: it ends when QEMU does, however that comes about.
struct Lifeline {
    listener: UnixListener,
    append: String,
}

impl Lifeline {
    fn new(dir: &Utf8Path) -> Self {
        let path = dir.join("lifeline");
        let listener = UnixListener::bind(&path).unwrap();
        Self { listener, append: format!("chardev socket,id=lifeline,path={path}") }
    }

    async fn connected(&self) -> UnixStream {
        tokio::time::timeout(PATIENCE, self.listener.accept()).await.unwrap().unwrap().0
    }
}

async fn ends(mut line: UnixStream) {
    let mut buffer = [0; 1];
    let read = tokio::time::timeout(PATIENCE, line.read(&mut buffer)).await.expect("QEMU lives on");
    assert!(matches!(read, Ok(0) | Err(_)));
}

/// Sockets of the process that are open for connections or datagrams from a network.
fn listening(pid: u32) -> Vec<String> {
    let own: HashSet<String> = fs_err::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|e| fs_err::read_link(e.unwrap().path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|l| Some(l.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    assert!(own.len() >= 3, "QMP, VNC and serial are sockets: {own:?}");
    let mut found = Vec::new();
    for (file, states) in [("tcp", &["0A"][..]), ("tcp6", &["0A"]), ("udp", &["07"]), ("udp6", &["07"])] {
        for line in
            fs_err::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default().lines().skip(1)
        {
            let columns: Vec<&str> = line.split_whitespace().collect();
            if states.contains(&columns[3]) && own.contains(columns[9]) {
                found.push(format!("{file} {}", columns[1]));
            }
        }
    }
    found
}

#[tokio::test]
async fn nothing_listens_and_dropping_kills() {
    let place = Place::new();
    let lifeline = Lifeline::new(place.path());
    let settings = [("ISO", GRUB_ISO), ("QEMU_APPEND", lifeline.append.as_str())];
    let machine = place.start(&settings, MachineOptions::default()).await.unwrap();
    let line = lifeline.connected().await;
    let pid = machine.qemu_pid().unwrap();
    assert_eq!(listening(pid), [""; 0]);
    if machine.facts().isolation == Isolation::Namespaces {
        let namespace = |p: &str| fs_err::read_link(format!("/proc/{p}/ns/net")).unwrap();
        assert_ne!(namespace(&pid.to_string()), namespace("self"));
    }
    drop(machine);
    ends(line).await;
    assert!(!place.path().join("machine/vnc.sock").exists());
}

/// Runs [`holder`] in a process of its own, kills that, and sees the machine die.
async fn dies_with(path: Option<&Utf8Path>, expected: &str) {
    let place = Place::new();
    let lifeline = Lifeline::new(place.path());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["process::holder", "--exact", "--nocapture"]);
    command.env("ASSAY_TEST_HOLD", place.path()).env("ASSAY_TEST_APPEND", &lifeline.append);
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let mut holder = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let line = lifeline.connected().await;
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let isolation = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, said)) = line.split_once("isolation: ") {
                return said.to_owned();
            }
        }
        panic!("the holder said nothing");
    };
    let isolation = tokio::time::timeout(PATIENCE, isolation).await.unwrap();
    assert!(isolation.contains(expected), "{isolation}");
    holder.kill().await.unwrap();
    ends(line).await;
}

#[tokio::test]
async fn dies_with_its_owner() {
    dies_with(None, "").await;
}

/// Programs that the machine is started with; nothing else is in PATH.
fn programs() -> Place {
    let place = Place::new();
    for name in ["qemu-system-x86_64", "setpriv"] {
        let target = fs_err::canonicalize(format!("/usr/bin/{name}")).unwrap();
        fs_err::os::unix::fs::symlink(target, place.path().join(name)).unwrap();
    }
    place
}

#[tokio::test]
async fn without_bubblewrap_it_runs_restricted_and_dies_with_its_owner() {
    dies_with(Some(programs().path()), "bubblewrap is not installed").await;
}

#[tokio::test]
async fn without_namespaces_it_runs_restricted_and_dies_with_its_owner() {
    let place = programs();
    let refusing =
        place.script("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1\n");
    fs_err::rename(refusing, place.path().join("bwrap")).unwrap();
    dies_with(Some(place.path()), "bubblewrap said: No permissions to create new namespace").await;
}

/// Not a test by itself: a process that owns a machine and waits to be killed.
#[tokio::test]
async fn holder() {
    let (Ok(dir), Ok(append)) = (std::env::var("ASSAY_TEST_HOLD"), std::env::var("ASSAY_TEST_APPEND")) else {
        return;
    };
    let spec = crate::common::spec(&[("ISO", GRUB_ISO), ("QEMU_APPEND", append.as_str())]);
    let dir = Utf8Path::new(&dir).join("machine");
    let machine = assay_vm::Machine::start(&spec, &dir, MachineOptions::default()).await.unwrap();
    println!("isolation: {:?}", machine.facts().isolation);
    let mut ended = machine.ended();
    let _ = tokio::time::timeout(Duration::from_mins(10), ended.wait_for(Option::is_some)).await;
}
