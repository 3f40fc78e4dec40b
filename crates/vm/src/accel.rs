//! Which accelerator works, found out by booting: `/dev/kvm` may be there and yet hang every guest.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::sandbox::Isolation;
use crate::spawner;

/// How the guest's processor runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// By the host's processor.
    Kvm,
    /// Emulated by QEMU.
    Tcg,
}

/// An accelerator and why it was chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The accelerator.
    pub accelerator: Accelerator,
    /// Why, a sentence.
    pub why: String,
}

/// How long a probe guest may take; with working KVM it needs a quarter of a second.
const DEADLINE: Duration = Duration::from_secs(2);
/// The debug port's answer to the value 0x15 that the probe guest writes: `(value << 1) | 1`.
const SUCCESS: i32 = 0x2b;

/// A found answer and what it holds for.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    key: String,
    choice: Choice,
}

/// Answers of this process; the lock makes concurrent machines wait for one probe.
static KNOWN: Mutex<Vec<Known>> = Mutex::const_new(Vec::new());

fn tcg(why: impl Into<String>) -> Choice {
    Choice { accelerator: Accelerator::Tcg, why: why.into() }
}

/// Decides for a QEMU program. The answer is kept for the process, and in `cache` until the host boots
/// anew or its kernel or QEMU changes.
pub async fn choose(qemu: &Utf8Path, no_kvm: bool, cache: Option<&Utf8Path>) -> Choice {
    if no_kvm {
        return tcg("QEMU_NO_KVM asks for emulation.");
    }
    let device = Utf8Path::new("/dev/kvm");
    match fs_err::OpenOptions::new().read(true).write(true).open(device) {
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return tcg("This host has no /dev/kvm; enable virtualization in its firmware or hypervisor.");
        }
        Err(e) => {
            return tcg(format!("/dev/kvm cannot be used: {e}. Add this user to the group that owns it."));
        }
    }
    let mut known = KNOWN.lock().await;
    let key = key(qemu);
    if let Some(found) = known.iter().find(|k| k.key == key) {
        return found.choice.clone();
    }
    let file = cache.map(|dir| dir.join("accelerator.json"));
    let kept = file.as_deref().and_then(|f| load(f, &key));
    let choice = if let Some(choice) = kept {
        choice
    } else {
        let choice = probe(qemu, DEADLINE).await;
        if let Some(file) = &file {
            store(file, &Known { key: key.clone(), choice: choice.clone() });
        }
        choice
    };
    known.push(Known { key, choice: choice.clone() });
    choice
}

/// Finds the answer for the usual QEMU before the first machine needs it: a probe that fails takes two seconds.
pub async fn warm_up(cache: &Utf8Path) {
    if let Some(qemu) = crate::sandbox::find_program(crate::settings::DEFAULT_QEMU) {
        choose(&qemu, false, Some(cache)).await;
    }
}

/// What an answer holds for.
fn key(qemu: &Utf8Path) -> String {
    let proc = |name: &str| fs_err::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
    let binary = fs_err::metadata(qemu).map(|m| format!("{} {}", m.size(), m.mtime())).unwrap_or_default();
    format!("{qemu} {binary} {} {}", proc("osrelease").trim(), proc("random/boot_id").trim())
}

fn load(file: &Utf8Path, key: &str) -> Option<Choice> {
    let known: Known = serde_json::from_slice(&fs_err::read(file).ok()?).ok()?;
    (known.key == key).then_some(known.choice)
}

/// Best effort: without the cache the next process probes again.
fn store(file: &Utf8Path, known: &Known) {
    let write = || -> std::io::Result<()> {
        if let Some(dir) = file.parent() {
            fs_err::create_dir_all(dir)?;
        }
        // Renamed into place, so that another process never reads half of it.
        let draft = Utf8PathBuf::from(format!("{file}.{}", std::process::id()));
        fs_err::write(&draft, serde_json::to_vec(known)?)?;
        fs_err::rename(&draft, file)
    };
    if let Err(e) = write() {
        tracing::warn!("the accelerator's probe could not be kept: {e}");
    }
}

/// A boot sector that writes 0x15 to the debug exit device at port 0xf4, and halts if that has no effect.
fn boot_sector() -> Vec<u8> {
    // mov al,0x15; mov dx,0xf4; out dx,al; cli; hlt; jmp $-1
    let mut sector = vec![0xb0, 0x15, 0xba, 0xf4, 0x00, 0xee, 0xfa, 0xf4, 0xeb, 0xfd];
    sector.resize(510, 0);
    sector.extend_from_slice(&[0x55, 0xaa]);
    sector
}

/// Boots a tiny guest under KVM.
async fn probe(qemu: &Utf8Path, deadline: Duration) -> Choice {
    match boot(qemu, "kvm", deadline).await {
        Ok(()) => Choice { accelerator: Accelerator::Kvm, why: "A probe guest ran under KVM.".to_owned() },
        Err(why) => tcg(format!("A probe guest did not run under KVM: {why}.")),
    }
}

async fn boot(qemu: &Utf8Path, accelerator: &str, deadline: Duration) -> Result<(), String> {
    let dir =
        Utf8PathBuf::from_path_buf(std::env::temp_dir()).map_err(|_| "TMPDIR is not UTF-8".to_owned())?;
    let disk = dir.join(format!("assay-probe-{}.img", std::process::id()));
    fs_err::write(&disk, boot_sector()).map_err(|e| e.to_string())?;
    let result = boot_disk(qemu, accelerator, deadline, &dir, &disk).await;
    let _ = fs_err::remove_file(&disk);
    result
}

async fn boot_disk(
    qemu: &Utf8Path,
    accelerator: &str,
    deadline: Duration,
    dir: &Utf8Path,
    disk: &Utf8Path,
) -> Result<(), String> {
    let mut command = Isolation::best().command(qemu, dir);
    command
        .args(["-no-user-config", "-nodefaults", "-machine", "pc", "-display", "none", "-m", "16M"])
        .args(["-accel", accelerator, "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-boot", "c"])
        .arg("-drive")
        .arg(format!("format=raw,if=ide,snapshot=on,file={}", crate::cmdline::escape(disk.as_str())))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped());
    let child = spawner::spawn(command).await.map_err(|e| e.to_string())?;
    match tokio::time::timeout(deadline, child.wait_with_output()).await {
        Err(_) => Err(format!("it hung for {} ms", deadline.as_millis())),
        Ok(Err(e)) => Err(e.to_string()),
        Ok(Ok(output)) if output.status.code() == Some(SUCCESS) => Ok(()),
        Ok(Ok(output)) => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let said = stderr.lines().last().unwrap_or("nothing");
            Err(format!("QEMU ended with {} and said {said}", output.status))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_probe_guest_runs_to_its_end() {
        let qemu = crate::sandbox::find_program("qemu-system-x86_64").unwrap();
        // Emulation always works: this proves that the guest itself does what the probe looks for.
        boot(&qemu, "tcg", Duration::from_mins(1)).await.unwrap();
    }

    #[tokio::test]
    async fn a_failing_or_hanging_qemu_means_emulation() {
        let failing = probe(Utf8Path::new("/bin/false"), DEADLINE).await;
        assert_eq!(failing.accelerator, Accelerator::Tcg);
        assert!(failing.why.contains("QEMU ended with exit status: 1"), "{}", failing.why);
        let dir = tempfile::tempdir().unwrap();
        let hanging = Utf8Path::from_path(dir.path()).unwrap().join("qemu");
        fs_err::write(&hanging, "#!/bin/sh\nexec sleep 600\n").unwrap();
        fs_err::set_permissions(&hanging, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let hung = probe(&hanging, Duration::from_millis(50)).await;
        assert_eq!(hung.why, "A probe guest did not run under KVM: it hung for 50 ms.");
    }

    #[test]
    fn the_cache_holds_for_its_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = Utf8Path::from_path(dir.path()).unwrap().join("sub/accelerator.json");
        let choice = Choice { accelerator: Accelerator::Kvm, why: "x".to_owned() };
        store(&file, &Known { key: "a".to_owned(), choice: choice.clone() });
        assert_eq!((load(&file, "a"), load(&file, "b")), (Some(choice), None));
        fs_err::write(&file, "{").unwrap();
        assert_eq!(load(&file, "a"), None);
    }
}
