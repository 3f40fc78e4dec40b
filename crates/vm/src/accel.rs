//! Which accelerator works, found out by booting: `/dev/kvm` may be there and yet hang every guest.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::sandbox::{Host, Isolation};
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
/// anew or its kernel, QEMU or isolation changes; there only if the guest ran or hung, as other failures may
/// be mended soon.
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
    decide(Host::this(), qemu, cache, &KNOWN, DEADLINE).await
}

async fn decide(
    host: &Host,
    qemu: &Utf8Path,
    cache: Option<&Utf8Path>,
    known: &Mutex<Vec<Known>>,
    deadline: Duration,
) -> Choice {
    let mut known = known.lock().await;
    let file = cache.map(|dir| dir.join("accelerator.json"));
    let sought = key(qemu, &host.best());
    if let Some(found) = known.iter().find(|k| k.key == sought) {
        return found.choice.clone();
    }
    if let Some(choice) = file.as_deref().and_then(|f| load(f, &sought)) {
        known.push(Known { key: sought, choice: choice.clone() });
        return choice;
    }
    let outcome = probe(host, qemu, deadline).await;
    let lasting = outcome.is_lasting();
    // The probe may have found out that there are no namespaces: then its answer is for a host without them.
    let found = Known { key: key(qemu, &host.best()), choice: outcome.into() };
    if let Some(file) = file.filter(|_| lasting) {
        store(&file, &found);
    }
    let choice = found.choice.clone();
    known.push(found);
    choice
}

/// Finds the answer for the usual QEMU before the first machine needs it: a probe that fails takes two seconds.
pub async fn warm_up(cache: &Utf8Path) {
    if let Some(qemu) = crate::sandbox::find_program(crate::settings::DEFAULT_QEMU) {
        choose(&qemu, false, Some(cache)).await;
    }
}

/// What an answer holds for.
fn key(qemu: &Utf8Path, isolation: &Isolation) -> String {
    let proc = |name: &str| fs_err::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
    let binary = fs_err::metadata(qemu).map(|m| format!("{} {}", m.size(), m.mtime())).unwrap_or_default();
    let isolation = match isolation {
        Isolation::Namespaces => "namespaces",
        Isolation::RestrictedNetwork { .. } => "restricted",
    };
    format!("{qemu} {binary} {} {} {isolation}", proc("osrelease").trim(), proc("random/boot_id").trim())
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

/// How a probe guest fared.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// It ran to its end.
    Ran,
    /// It did not end within this time.
    Hung(Duration),
    /// It could not be looked at; why.
    Failed(String),
}

impl Outcome {
    /// Whether it tells something of KVM, and not only of this moment.
    fn is_lasting(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }
}

impl From<Outcome> for Choice {
    fn from(outcome: Outcome) -> Self {
        let why = match outcome {
            Outcome::Ran => {
                return Self {
                    accelerator: Accelerator::Kvm,
                    why: "A probe guest ran under KVM.".to_owned(),
                };
            }
            Outcome::Hung(after) => format!("it hung for {} ms", after.as_millis()),
            Outcome::Failed(why) => why,
        };
        tcg(format!("A probe guest did not run under KVM: {}.", why.trim_end_matches('.')))
    }
}

/// Boots a tiny guest under KVM.
async fn probe(host: &Host, qemu: &Utf8Path, deadline: Duration) -> Outcome {
    boot(host, qemu, "kvm", deadline).await.unwrap_or_else(Outcome::Failed)
}

async fn boot(
    host: &Host,
    qemu: &Utf8Path,
    accelerator: &str,
    deadline: Duration,
) -> Result<Outcome, String> {
    let dir = own_directory().map_err(|e| e.to_string())?;
    let result = boot_in(&dir, host, qemu, accelerator, deadline).await;
    let _ = fs_err::remove_dir_all(&dir);
    result
}

/// A new directory: the probe guest may write there.
fn own_directory() -> std::io::Result<Utf8PathBuf> {
    let parent = Utf8PathBuf::from_path_buf(std::env::temp_dir())
        .map_err(|_| std::io::Error::other("TMPDIR is not UTF-8"))?
        .canonicalize_utf8()?;
    let mut attempt = 0;
    loop {
        let dir = parent.join(format!("assay-probe-{}-{attempt}", std::process::id()));
        match fs_err::create_dir(&dir) {
            Ok(()) => return Ok(dir),
            // Left by a process that was killed and had the same number.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && attempt < 100 => attempt += 1,
            Err(e) => return Err(e),
        }
    }
}

async fn boot_in(
    dir: &Utf8Path,
    host: &Host,
    qemu: &Utf8Path,
    accelerator: &str,
    deadline: Duration,
) -> Result<Outcome, String> {
    let disk = dir.join("disk.img");
    fs_err::write(&disk, boot_sector()).map_err(|e| e.to_string())?;
    let mut isolation = host.best();
    loop {
        let mut command = host.command(&isolation, qemu, dir, &[]).map_err(|e| e.to_string())?;
        command
            .args(["-no-user-config", "-nodefaults", "-machine", "pc", "-display", "none", "-m", "16M"])
            .args(["-accel", accelerator, "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-boot", "c"])
            .arg("-drive")
            .arg(format!("format=raw,if=ide,snapshot=on,file={}", crate::cmdline::escape(disk.as_str())))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped());
        let child = spawner::spawn(command).await.map_err(|e| e.to_string())?;
        let Ok(output) = tokio::time::timeout(deadline, child.wait_with_output()).await else {
            return Ok(Outcome::Hung(deadline));
        };
        let output = output.map_err(|e| e.to_string())?;
        if output.status.code() == Some(SUCCESS) {
            return Ok(Outcome::Ran);
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        if let Some(lesser) = host.after_failure(&isolation, &stderr) {
            isolation = lesser;
            continue;
        }
        let said = stderr.lines().last().unwrap_or("nothing");
        return Err(format!("QEMU ended with {} and said {said}", output.status));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::tests::{REFUSES, SETPRIV, host};

    #[tokio::test]
    async fn the_probe_guest_runs_to_its_end() {
        let qemu = crate::sandbox::find_program("qemu-system-x86_64").unwrap();
        // Emulation always works: this proves that the guest itself does what the probe looks for.
        let outcome = boot(Host::this(), &qemu, "tcg", Duration::from_mins(1)).await;
        assert_eq!(outcome, Ok(Outcome::Ran));
    }

    /// A host where bubblewrap is refused, and a program in place of QEMU; what is decided, and kept.
    async fn decided(qemu: &str, deadline: Duration) -> (Choice, Option<Choice>) {
        let (dir, host) = host(&[REFUSES, SETPRIV, ("qemu", qemu)]);
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let qemu = dir.join("qemu");
        let known = Mutex::default();
        let choice = decide(&host, &qemu, Some(dir), &known, deadline).await;
        // The process asks once only, whatever came out.
        fs_err::write(&qemu, "").unwrap();
        let again = known.lock().await.first().map(|k: &Known| k.choice.clone());
        assert_eq!(again, Some(choice.clone()));
        let restricted = host.best();
        assert!(matches!(restricted, Isolation::RestrictedNetwork { .. }), "{restricted:?}");
        let kept = fs_err::read(dir.join("accelerator.json")).ok();
        let kept = kept.map(|bytes| serde_json::from_slice::<Known>(&bytes).unwrap());
        assert!(kept.iter().all(|k| k.key.ends_with(" restricted")), "{kept:?}");
        (choice, kept.map(|k| k.choice))
    }

    #[tokio::test]
    async fn bubblewraps_refusal_says_nothing_of_kvm() {
        let (choice, kept) = decided("exit 43", Duration::from_mins(1)).await;
        assert_eq!((choice.accelerator, kept), (Accelerator::Kvm, Some(choice)));
    }

    #[tokio::test]
    async fn a_hang_is_kept_and_a_failure_is_not() {
        let (hung, kept) = decided("exec sleep 600", Duration::from_millis(200)).await;
        assert_eq!(hung.accelerator, Accelerator::Tcg);
        assert_eq!(hung.why, "A probe guest did not run under KVM: it hung for 200 ms.");
        assert_eq!(kept, Some(hung));
        let (failed, kept) = decided("echo no luck >&2; exit 1", Duration::from_mins(1)).await;
        assert_eq!(failed.accelerator, Accelerator::Tcg);
        let why = "A probe guest did not run under KVM: QEMU ended with exit status: 1 and said no luck.";
        assert_eq!((failed.why.as_str(), kept), (why, None));
    }

    #[test]
    fn an_answer_holds_for_its_isolation() {
        let restricted = Isolation::RestrictedNetwork { why: String::new() };
        let keys = [Isolation::Namespaces, restricted].map(|i| key(Utf8Path::new("/bin/sh"), &i));
        assert_ne!(keys[0], keys[1]);
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
