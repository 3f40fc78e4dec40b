//! Overlays over disk images.

use std::io::Read;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::process::Command;

use crate::error::MachineError;

/// What qcow2 files start with.
const QCOW2_MAGIC: [u8; 4] = *b"QFI\xfb";

/// Creates `dir/hdd_1.qcow2`, which takes the changes to `image`.
pub(crate) async fn overlay(
    qemu_img: &str,
    image: &Utf8Path,
    dir: &Utf8Path,
) -> Result<Utf8PathBuf, MachineError> {
    let format = format_of(image).map_err(|e| MachineError::io(format!("{image} cannot be read"), e))?;
    let path = dir.join("hdd_1.qcow2");
    let output = Command::new(qemu_img)
        .args(["create", "-q", "-f", "qcow2", "-F", format, "-b", image.as_str(), path.as_str()])
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => MachineError::QemuMissing { binary: qemu_img.to_owned() },
            _ => MachineError::io(format!("{qemu_img} could not be started"), e),
        })?;
    if output.status.success() {
        return Ok(path);
    }
    // What was begun is of no use, and a full disk wants its room back.
    let _ = fs_err::remove_file(&path);
    Err(failure(&String::from_utf8_lossy(&output.stderr), image, path))
}

fn failure(stderr: &str, image: &Utf8Path, overlay: Utf8PathBuf) -> MachineError {
    if stderr.contains("No space left on device") || stderr.contains("Disk quota exceeded") {
        return MachineError::DiskFull { path: overlay };
    }
    let why = stderr.lines().map(|l| l.trim_start_matches("qemu-img: ")).collect::<Vec<_>>().join("; ");
    MachineError::Disk { image: image.to_owned(), why }
}

/// `qcow2` by its first bytes, else `raw`.
fn format_of(image: &Utf8Path) -> std::io::Result<&'static str> {
    let mut start = Vec::with_capacity(4);
    fs_err::File::open(image)?.take(4).read_to_end(&mut start)?;
    Ok(if start == QCOW2_MAGIC { "qcow2" } else { "raw" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn overlay_over_raw_and_over_qcow2() {
        let dir = tempfile::tempdir().unwrap();
        let base = Utf8Path::from_path(dir.path()).unwrap();
        let raw = base.join("raw.img");
        fs_err::write(&raw, [0; 4096]).unwrap();
        let first = overlay("qemu-img", &raw, base).await.unwrap();
        assert_eq!(format_of(&first).unwrap(), "qcow2");
        let image = base.join("base.qcow2");
        fs_err::rename(&first, &image).unwrap();
        let second = overlay("qemu-img", &image, base).await.unwrap();
        let info = Command::new("qemu-img").args(["info", second.as_str()]).output().await.unwrap();
        let info = String::from_utf8(info.stdout).unwrap();
        assert!(info.contains("backing file format: qcow2"), "{info}");
    }

    #[tokio::test]
    async fn failures_say_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let base = Utf8Path::from_path(dir.path()).unwrap();
        let image = base.join("broken.qcow2");
        fs_err::write(&image, b"QFI\xfb and nothing else").unwrap();
        let broken = overlay("qemu-img", &image, base).await.unwrap_err();
        assert!(matches!(broken, MachineError::Disk { .. }), "{broken}");
        assert!(!base.join("hdd_1.qcow2").exists());
        let missing = overlay("no-such-qemu-img", &image, base).await.unwrap_err();
        assert!(matches!(missing, MachineError::QemuMissing { .. }), "{missing}");
        let full = failure(
            "qemu-img: x.qcow2: Could not write qcow2 header: No space left on device\n",
            &image,
            "x".into(),
        );
        assert_eq!(full, MachineError::DiskFull { path: "x".into() });
    }
}
