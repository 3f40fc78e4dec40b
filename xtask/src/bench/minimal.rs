//! The minimal driver: the least that can run the GRUB test, to measure everything else against.
//!
//! One thread. A monitor over a Unix socket; all keys of a line queued at once; a screendump each 20 ms into a
//! memory file system; needle areas compared pixel by pixel. No record, no pictures kept, no sandbox, no search.

use super::clock::{self, Pace};
use super::grub::{self, Action, Reference, SEQUENCE};
use super::monitor::{Monitor, key_name};
use super::scratch::Scratch;
use anyhow::{Context, Result, bail};
use camino::Utf8Path;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The shortest hold that does not lose keys on a quiet machine. On a busy one some runs fail, which then do not count;
/// what was measured stands in docs/performance.md.
pub(super) const HOLD_MS: u32 = 2;
const LOOK: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs the test once; an error if it does not reach its end.
pub(super) fn drive(example: &Utf8Path, hold: u32) -> Result<()> {
    let references = Reference::load_all(example)?;
    let scratch = Scratch::new()?;
    let socket = scratch.path("monitor");
    let listener = UnixListener::bind(&socket).with_context(|| socket.to_string())?;
    let mut qemu = Qemu::start(&socket)?;
    let mut monitor = Monitor::accept(&listener, &scratch.in_memory("screen.ppm"), || qemu.is_alive())?;
    for action in SEQUENCE {
        match action {
            Action::Wait(tag) => wait(&mut monitor, &references, tag)?,
            Action::Key(key) => drop(monitor.key(key, hold)?),
            Action::Line(line) => {
                for character in line.chars() {
                    monitor.key(&key_name(character)?, hold)?;
                }
                monitor.key("ret", hold)?;
            }
        }
    }
    // QEMU ends when the guest switches its machine off.
    let status = qemu.0.wait()?;
    if !status.success() {
        bail!("QEMU ended with {status}");
    }
    Ok(())
}

fn wait(monitor: &mut Monitor, references: &[Reference], tag: &str) -> Result<()> {
    let deadline = clock::now() + PATIENCE;
    let mut pace = Pace::new(LOOK);
    while clock::now() < deadline {
        let Some(picture) = monitor.screendump()? else { bail!("QEMU ended while waiting for {tag}") };
        if grub::shows(references, tag, &picture) {
            return Ok(());
        }
        pace.wait();
    }
    bail!("{tag} did not appear, pixel by pixel, within {} s", PATIENCE.as_secs())
}

struct Qemu(Child);

impl Qemu {
    /// The machine of `crates/vm`, device by device, with its screen on no display.
    fn start(monitor: &Utf8Path) -> Result<Self> {
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-no-user-config", "-nodefaults", "-name", "minimal"]);
        command.args(["-machine", "pc", "-accel", "tcg", "-cpu", "max,la57=off", "-smp", "1"]);
        command.args(["-m", &format!("{}M", grub::RAM_MIB), "-rtc", "base=utc", "-boot", "strict=on"]);
        command.args(["-chardev", &format!("socket,id=monitor,path={monitor},server=off")]);
        command.args(["-mon", "chardev=monitor,mode=readline", "-serial", "null", "-display", "none"]);
        command.args(["-device", "VGA,edid=on,xres=1024,yres=768"]);
        command.args(["-device", "qemu-xhci,id=usb", "-device", "usb-tablet,bus=usb.0"]);
        command.args([
            "-drive",
            &format!("if=none,id=iso,media=cdrom,readonly=on,format=raw,file={}", grub::ISO),
        ]);
        command.args(["-device", "ide-cd,drive=iso,bootindex=1"]);
        command.args(["-netdev", "user,id=net0,restrict=on"]);
        command.args(["-device", "virtio-net-pci,netdev=net0,mac=52:54:00:12:34:56,romfile="]);
        command.args([
            "-object",
            "rng-random,id=rng0,filename=/dev/urandom",
            "-device",
            "virtio-rng-pci,rng=rng0",
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Self(
            command.spawn().context("qemu-system-x86_64 did not start (apt-get install qemu-system-x86)")?,
        ))
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Qemu {
    /// Whatever happened, no machine stays behind.
    fn drop(&mut self) {
        if self.is_alive() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
