//! Machines for tests, and waiting for what they show and say.

use std::collections::BTreeMap;
use std::time::Duration;

use assay_vm::{Frame, FrameSource, Machine, MachineError, MachineOptions, MachineSpec};
use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;

/// No test waits longer for one thing; emulation on a busy host is slow.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) const GRUB_ISO: &str = "/usr/lib/grub-rescue/grub-rescue-cdrom.iso";

/// A directory for one machine.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.dir.path()).unwrap()
    }

    /// A disk image whose boot sector is this code.
    pub(crate) fn boot_sector(&self, code: &[u8]) -> Utf8PathBuf {
        let mut sector = code.to_vec();
        sector.resize(510, 0);
        sector.extend_from_slice(&[0x55, 0xaa]);
        // Firmware wants at least one cylinder.
        sector.resize(2 << 20, 0);
        let path = self.path().join("guest.img");
        fs_err::write(&path, sector).unwrap();
        path
    }

    /// A program in place of QEMU.
    pub(crate) fn script(&self, text: &str) -> Utf8PathBuf {
        let path = self.path().join("fake-qemu");
        fs_err::write(&path, text).unwrap();
        fs_err::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    pub(crate) async fn start(
        &self,
        settings: &[(&str, &str)],
        options: MachineOptions,
    ) -> Result<Machine, MachineError> {
        Machine::start(&spec(settings), &self.path().join("machine"), options).await
    }
}

pub(crate) fn spec(settings: &[(&str, &str)]) -> MachineSpec {
    let small = [("QEMU_NO_KVM", "1"), ("QEMURAM", "64")];
    let settings: BTreeMap<String, String> =
        small.iter().chain(settings).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    MachineSpec::from_settings(&settings, Utf8Path::new("/")).unwrap()
}

/// Waits for a frame, with the source at its fastest pace.
pub(crate) async fn frame(machine: &Machine, what: &str, wanted: impl FnMut(&Frame) -> bool) -> Frame {
    let _demand = machine.demand();
    let mut frames = machine.frames();
    let found = tokio::time::timeout(PATIENCE, frames.wait_for(wanted)).await;
    found.unwrap_or_else(|_| panic!("no frame with {what}")).unwrap().clone()
}

/// The colour of a pixel; black outside of the screen.
pub(crate) fn pixel(frame: &Frame, x: u32, y: u32) -> [u8; 3] {
    let at = ((y * frame.image.width() + x) * 3) as usize;
    frame.image.rgb().get(at..at + 3).map_or([0; 3], |p| [p[0], p[1], p[2]])
}

/// Waits until the serial log holds `text` at or after `from`; returns the place after it.
pub(crate) async fn serial(machine: &Machine, text: &str, from: u64) -> u64 {
    let mut length = machine.serial().length();
    let wait = async {
        loop {
            length.borrow_and_update();
            let bytes = machine.serial().read_from(from, usize::MAX).unwrap().bytes;
            if let Some(at) = bytes.windows(text.len()).position(|w| w == text.as_bytes()) {
                return from + (at + text.len()) as u64;
            }
            length.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| {
        let bytes = machine.serial().read_from(from, 4096).unwrap().bytes;
        panic!("{text:?} did not come; the guest said {:?}", String::from_utf8_lossy(&bytes))
    })
}
