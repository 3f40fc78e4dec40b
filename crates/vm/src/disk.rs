//! Overlays over disk images.

use camino::{Utf8Path, Utf8PathBuf};
use tokio::process::Command;

use crate::error::MachineError;
use crate::qcow2::{self, Image};
use crate::settings::DiskSpec;

/// Most images that may lie over each other.
const MOST_LAYERS: usize = 32;

/// The name of the file in the machine's directory that takes what is written to a disk: qcow2 over the image, if there is
/// one.
pub fn disk_file(number: u32) -> String {
    format!("hdd_{number}.qcow2")
}

/// The firmware's variables in the machine's directory.
pub const VARS_FILE: &str = "uefi_vars.fd";

/// Creates the file of the disk.
pub(crate) async fn create(
    qemu_img: &str,
    number: u32,
    disk: &DiskSpec,
    dir: &Utf8Path,
) -> Result<Utf8PathBuf, MachineError> {
    let path = dir.join(disk_file(number));
    match disk {
        DiskSpec::Image(image) => {
            let format = format_of(image)?;
            run(qemu_img, &["-F", format, "-b", image.as_str(), path.as_str()], image, &path).await?;
        }
        DiskSpec::Blank(gib) => run(qemu_img, &[path.as_str(), &format!("{gib}G")], &path, &path).await?,
    }
    Ok(path)
}

async fn run(
    qemu_img: &str,
    arguments: &[&str],
    image: &Utf8Path,
    path: &Utf8Path,
) -> Result<(), MachineError> {
    let output = Command::new(qemu_img)
        .args(["create", "-q", "-f", "qcow2"])
        .args(arguments)
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => MachineError::QemuMissing { binary: qemu_img.to_owned() },
            _ => MachineError::io(format!("{qemu_img} could not be started"), e),
        })?;
    if output.status.success() {
        return Ok(());
    }
    // What was begun is of no use, and a full disk wants its room back.
    let _ = fs_err::remove_file(path);
    Err(failure(&String::from_utf8_lossy(&output.stderr), image, path.to_owned()))
}

fn failure(stderr: &str, image: &Utf8Path, overlay: Utf8PathBuf) -> MachineError {
    if stderr.contains("No space left on device") || stderr.contains("Disk quota exceeded") {
        return MachineError::DiskFull { path: overlay };
    }
    let why = stderr.lines().map(|l| l.trim_start_matches("qemu-img: ")).collect::<Vec<_>>().join("; ");
    MachineError::Disk { image: image.to_owned(), why }
}

/// `qcow2` by its first bytes, else `raw`. An image comes from anywhere and QEMU would open every file that
/// it names, so that the guest could read it: all of them have to lie beside it.
fn format_of(image: &Utf8Path) -> Result<&'static str, MachineError> {
    let mut layer = image.to_owned();
    for depth in 0..MOST_LAYERS {
        let unreadable = |e| MachineError::io(format!("{layer} cannot be read"), e);
        let refused = |why: String| MachineError::Disk { image: layer.clone(), why };
        let file = fs_err::File::open(&layer).map_err(unreadable)?;
        let references = match qcow2::read(file).map_err(unreadable)? {
            Image::Raw => return Ok(if depth == 0 { "raw" } else { "qcow2" }),
            Image::Damaged(why) => return Err(refused(format!("its header is damaged: {why}"))),
            Image::Qcow2(references) => references,
        };
        if let Some(data) = &references.data {
            beside(&layer, data).map_err(refused)?;
        }
        let Some((backing, format)) = references.backing else { return Ok("qcow2") };
        let next = beside(&layer, &backing).map_err(refused)?;
        match format.as_deref() {
            Some("raw") => return Ok("qcow2"),
            Some("qcow2") => {}
            // QEMU would guess, and other formats name files, too.
            None if is_qcow2(&next).map_err(unreadable)? => {}
            _ => {
                return Err(refused(format!(
                    "its backing file {backing:?} is not declared to be qcow2 or raw; \
                     say so with qemu-img rebase -u -b {backing} -F FORMAT"
                )));
            }
        }
        layer = next;
    }
    let why = format!("more than {MOST_LAYERS} images lie over each other");
    Err(MachineError::Disk { image: image.to_owned(), why })
}

fn is_qcow2(image: &Utf8Path) -> std::io::Result<bool> {
    Ok(qcow2::read(fs_err::File::open(image)?)? != Image::Raw)
}

/// The file that an image names, if it lies in the image's own directory; otherwise why it is refused.
fn beside(image: &Utf8Path, name: &str) -> Result<Utf8PathBuf, String> {
    let directory = |path: &Utf8Path| path.canonicalize_utf8().ok();
    let parent = image.parent().filter(|p| !p.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
    // With a colon before the first slash it is not a path but a protocol, as `json:` or `nbd:`.
    let is_path = !name.split('/').next().unwrap_or_default().contains(':');
    let named = is_path.then(|| parent.join(name));
    // The image itself may be a symbolic link to where all of them are.
    let own = [directory(parent), directory(image).and_then(|i| i.parent().map(Utf8Path::to_owned))];
    named
        .filter(|path| {
            directory(path).is_some_and(|target| own.iter().flatten().any(|dir| target.parent() == Some(dir)))
        })
        .ok_or_else(|| {
            format!(
                "it names {name:?}, which is no file in the image's own directory, and the guest could read it; \
                 put the file there, or make one image of both with qemu-img convert -O qcow2"
            )
        })
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    async fn overlay(qemu_img: &str, image: &Utf8Path, dir: &Utf8Path) -> Result<Utf8PathBuf, MachineError> {
        create(qemu_img, 1, &DiskSpec::Image(image.to_owned()), dir).await
    }

    use crate::error::Class;

    #[tokio::test]
    async fn overlay_over_raw_and_over_qcow2() {
        let dir = tempfile::tempdir().unwrap();
        let base = Utf8Path::from_path(dir.path()).unwrap();
        let raw = base.join("raw.img");
        fs_err::write(&raw, [0; 4096]).unwrap();
        let first = overlay("qemu-img", &raw, base).await.unwrap();
        assert!(is_qcow2(&first).unwrap());
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
        let raw = base.join("raw.img");
        fs_err::write(&raw, [0; 512]).unwrap();
        let missing = overlay("no-such-qemu-img", &raw, base).await.unwrap_err();
        assert!(matches!(missing, MachineError::QemuMissing { .. }), "{missing}");
        let full = failure(
            "qemu-img: x.qcow2: Could not write qcow2 header: No space left on device\n",
            &image,
            "x".into(),
        );
        assert_eq!(full, MachineError::DiskFull { path: "x".into() });
    }

    async fn qemu_img(dir: &Utf8Path, arguments: &[&str]) {
        let status =
            Command::new("qemu-img").args(arguments).current_dir(dir).stdout(Stdio::null()).status().await;
        assert!(status.unwrap().success(), "{arguments:?}");
    }

    fn refusal(image: &Utf8Path) -> String {
        let error = format_of(image).unwrap_err();
        assert_eq!(error.class(), Class::Usage);
        error.to_string()
    }

    #[tokio::test]
    async fn a_backing_file_lies_beside_its_image() {
        let dir = tempfile::tempdir().unwrap();
        let base = Utf8Path::from_path(dir.path()).unwrap();
        let inside = base.join("images");
        fs_err::create_dir(&inside).unwrap();
        fs_err::write(base.join("secret"), [1; 4096]).unwrap();
        fs_err::write(inside.join("raw.img"), [0; 4096]).unwrap();
        fs_err::os::unix::fs::symlink(base.join("secret"), inside.join("link")).unwrap();
        let make = async |file: &str, backing: &str, format: &str| {
            qemu_img(&inside, &["create", "-qu", "-f", "qcow2", "-F", format, "-b", backing, file, "1M"])
                .await;
            inside.join(file)
        };
        let good = make("good.qcow2", "raw.img", "raw").await;
        assert_eq!(format_of(&good).unwrap(), "qcow2");
        let chain = make("chain.qcow2", inside.join("good.qcow2").as_str(), "qcow2").await;
        assert_eq!(format_of(&chain).unwrap(), "qcow2");
        let elsewhere = base.join("alias.qcow2");
        fs_err::os::unix::fs::symlink(&chain, &elsewhere).unwrap();
        assert_eq!(format_of(&elsewhere).unwrap(), "qcow2");
        let secret = base.join("secret");
        for outside in [secret.as_str(), "../secret", "link", "json:{}", "nbd://host/disk", "missing"] {
            let said = refusal(&make("bad.qcow2", outside, "raw").await);
            assert!(said.contains(&format!("{outside:?}, which is no file in the image's own")), "{said}");
            // What it lies over does not make it better.
            let said = refusal(&make("over.qcow2", "bad.qcow2", "qcow2").await);
            assert!(said.starts_with(&format!("the disk image {}", inside.join("bad.qcow2"))), "{said}");
        }
        let other = refusal(&make("other.qcow2", "raw.img", "vmdk").await);
        assert!(other.contains("not declared to be qcow2 or raw"), "{other}");
        make("tail.qcow2", "cycle.qcow2", "qcow2").await;
        let cycle = refusal(&make("cycle.qcow2", "tail.qcow2", "qcow2").await);
        assert!(cycle.contains("more than 32 images"), "{cycle}");
        // The overlay is where it counts.
        overlay("qemu-img", &chain, base).await.unwrap();
        let bad = overlay("qemu-img", &inside.join("over.qcow2"), base).await.unwrap_err();
        assert!(matches!(bad, MachineError::Disk { .. }), "{bad}");
    }

    #[tokio::test]
    async fn an_external_data_file_lies_beside_its_image() {
        let dir = tempfile::tempdir().unwrap();
        let base = Utf8Path::from_path(dir.path()).unwrap();
        let inside = base.join("images");
        fs_err::create_dir(&inside).unwrap();
        let image = inside.join("image.qcow2");
        let option = |data: &Utf8Path| format!("data_file={data}");
        for (data, good) in [(inside.join("data"), true), (base.join("data"), false)] {
            qemu_img(base, &["create", "-q", "-f", "qcow2", "-o", &option(&data), image.as_str(), "1M"])
                .await;
            if good {
                assert_eq!(format_of(&image).unwrap(), "qcow2");
            } else {
                assert!(refusal(&image).contains(&format!("it names {:?}", data.as_str())));
            }
        }
    }
}
