//! What a job sees: the host's programs, read-only, and folders of its own. The prose is `docs/gating.md`.

use assay_proto::task::Network;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use tokio::process::Command;

/// Where the workspace is, for the job.
pub(super) const WORKSPACE: &str = "/workspace";
/// Where its home is.
pub(super) const HOME: &str = "/home/assay";
/// Where its scripts and repositories' objects are, read-only.
pub(super) const OWN: &str = "/run/assay";
/// The user that the job's processes are, as they see it; outside it is the worker's.
const USER: &str = "1000";

/// Of the root directory these are the sandbox's own.
const REPLACED: [&str; 9] = ["proc", "dev", "tmp", "run", "home", "root", "workspace", "lost+found", "boot"];
/// Emptied: what other programs of the host keep for themselves.
const EMPTIED: [&str; 5] = ["/var/log", "/var/spool", "/var/tmp", "/var/run", "/var/backups"];
/// The most files that are covered one by one.
const MOST_COVERED: usize = 2000;

/// The folders of one job on the host.
#[derive(Debug, Clone)]
pub(super) struct JobDirs {
    /// All of it, gone with the job.
    pub(super) root: Utf8PathBuf,
    /// See [`WORKSPACE`].
    pub(super) workspace: Utf8PathBuf,
    /// See [`HOME`].
    pub(super) home: Utf8PathBuf,
    /// `/tmp`.
    pub(super) tmp: Utf8PathBuf,
    /// See [`OWN`].
    pub(super) own: Utf8PathBuf,
}

impl JobDirs {
    /// Makes them below `root`.
    pub(super) fn create(root: Utf8PathBuf) -> std::io::Result<Self> {
        let dirs = Self {
            workspace: root.join("workspace"),
            home: root.join("home"),
            tmp: root.join("tmp"),
            own: root.join("own"),
            root,
        };
        fs::create_dir_all(&dirs.root)?;
        fs::set_permissions(&dirs.root, PermissionsExt::from_mode(0o700))?;
        for dir in [&dirs.workspace, &dirs.home, &dirs.tmp, &dirs.own] {
            fs::create_dir_all(dir)?;
        }
        fs::create_dir_all(dirs.own.join("git"))?;
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        let kept = |text: &str| -> String {
            let other = |line: &&str| line.split(':').nth(2) != Some(USER) && !line.starts_with("assay:");
            text.lines().filter(other).flat_map(|line| [line, "\n"]).collect()
        };
        fs::write(
            dirs.own.join("passwd"),
            format!("{}assay:x:{USER}:{USER}:job:{HOME}:/bin/bash\n", kept(&users)),
        )?;
        fs::write(dirs.own.join("group"), format!("{}assay:x:{USER}:\n", kept(&groups)))?;
        Ok(dirs)
    }
}

impl Drop for JobDirs {
    fn drop(&mut self) {
        crate::attempt::remove_tree(&self.root);
    }
}

/// What one sandbox differs in from another.
#[derive(Debug, Clone)]
pub(super) struct Sandbox {
    /// Directories of the host that must not be seen.
    pub(super) hide: Vec<Utf8PathBuf>,
    pub(super) network: Network,
    /// Bytes of shared memory.
    pub(super) shared_memory: u64,
    /// Objects of repositories: on the host, and below [`OWN`]`/git`.
    pub(super) objects: Vec<(Utf8PathBuf, String)>,
}

impl Sandbox {
    /// The command that runs `program` in it. It dies with the thread that starts it, and everything in it with it.
    pub(super) fn command(&self, dirs: &JobDirs, program: &[&str]) -> Command {
        let mut command = Command::new("bwrap");
        command.args(["--unshare-user", "--uid", USER, "--gid", USER, "--unshare-pid", "--unshare-ipc"]);
        command.args(["--unshare-uts", "--hostname", "assay", "--unshare-cgroup-try"]);
        if self.network == Network::None {
            command.arg("--unshare-net");
        }
        command.args(["--die-with-parent", "--new-session", "--cap-drop", "ALL"]);
        self.host(&mut command);
        command.args(["--proc", "/proc", "--dev", "/dev", "--size", &self.shared_memory.to_string()]);
        command
            .args(["--tmpfs", "/dev/shm", "--dir", "/run", "--dir", "/root", "--dir", "/home", "--dir", OWN]);
        for (file, place) in [("passwd", "/etc/passwd"), ("group", "/etc/group")] {
            command.args(["--ro-bind", dirs.own.join(file).as_str(), place]);
        }
        command.args(["--ro-bind", dirs.own.as_str(), OWN]);
        for (objects, name) in &self.objects {
            command.args(["--ro-bind", objects.as_str(), &format!("{OWN}/git/{name}")]);
        }
        for (dir, place) in [(&dirs.workspace, WORKSPACE), (&dirs.home, HOME), (&dirs.tmp, "/tmp")] {
            command.args(["--bind", dir.as_str(), place]);
        }
        if self.network == Network::Host
            && let Ok(resolver) = Utf8Path::new("/etc/resolv.conf").canonicalize_utf8()
            && resolver.starts_with("/run")
        {
            command.args(["--ro-bind-try", resolver.as_str(), resolver.as_str()]);
        }
        command.args(["--remount-ro", "/", "--chdir", WORKSPACE, "--"]).args(program);
        // The job's own variables come over the control socket: bubblewrap itself must not obey them.
        command.env_clear().env("PATH", std::env::var("PATH").unwrap_or_default());
        command.process_group(0).kill_on_drop(true);
        command
    }

    /// The host's programs and their configuration, without what only some may read.
    fn host(&self, command: &mut Command) {
        let mut covered = Vec::new();
        for entry in Utf8Path::new("/").read_dir_utf8().into_iter().flatten().flatten() {
            let path = entry.path();
            if REPLACED.contains(&entry.file_name()) {
                continue;
            }
            if let Ok(target) = path.read_link_utf8() {
                command.args(["--symlink", target.as_str(), path.as_str()]);
            } else if fs::metadata(path).is_ok_and(|meta| meta.is_dir() && open_to_all(meta.mode(), true)) {
                command.args(["--ro-bind", path.as_str(), path.as_str()]);
                let depth = match entry.file_name() {
                    "etc" => 4,
                    "var" => 2,
                    "usr" | "sys" | "bin" | "sbin" | "lib" | "lib32" | "lib64" | "libx32" => 0,
                    _ => 1,
                };
                private_below(path, depth, &mut covered);
            }
        }
        for path in EMPTIED {
            if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()) {
                command.args(["--tmpfs", path]);
            }
        }
        for (path, is_dir) in
            covered.iter().filter(|(path, _)| !EMPTIED.iter().any(|dir| path.starts_with(dir)))
        {
            if *is_dir {
                command.args(["--tmpfs", path.as_str()]);
            } else {
                command.args(["--ro-bind", "/dev/null", path.as_str()]);
            }
        }
        for path in self.hide.iter().filter_map(|path| path.canonicalize_utf8().ok()) {
            let gone = |dir: &&str| path.starts_with(Utf8Path::new("/").join(dir));
            if path.is_dir() && !REPLACED.iter().any(gone) {
                command.args(["--tmpfs", path.as_str()]);
            }
        }
    }
}

/// True if everybody on the host may look.
fn open_to_all(mode: u32, is_dir: bool) -> bool {
    let needed = if is_dir { 0o001 } else { 0o004 };
    mode & needed != 0
}

/// What is not for everybody: where the worker is root, its jobs could read it as well.
fn private_below(dir: &Utf8Path, depth: u32, covered: &mut Vec<(Utf8PathBuf, bool)>) {
    if depth == 0 {
        return;
    }
    for entry in dir.read_dir_utf8().into_iter().flatten().flatten() {
        let Ok(meta) = fs::symlink_metadata(entry.path()) else { continue };
        if meta.is_symlink() || covered.len() >= MOST_COVERED {
            continue;
        }
        if !open_to_all(meta.mode(), meta.is_dir()) {
            covered.push((entry.path().to_owned(), meta.is_dir()));
        } else if meta.is_dir() {
            private_below(entry.path(), depth - 1, covered);
        }
    }
}

/// Why no sandbox could be made, by bubblewrap's own complaint.
pub(super) fn explain(said: &str) -> String {
    match said.lines().find_map(|line| line.strip_prefix("bwrap: ")) {
        Some(complaint) => format!(
            "bubblewrap cannot make the sandbox here: {complaint}; allow user namespaces (sysctl \
             kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)"
        ),
        None => format!("the sandbox ended before the job began: {}", said.trim()),
    }
}

/// Why bubblewrap itself could not be started.
pub(super) fn explain_start(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::NotFound {
        "bubblewrap (bwrap) is not installed, and shell jobs run only in a sandbox; install bubblewrap"
            .to_owned()
    } else {
        format!("bubblewrap cannot be started: {error}")
    }
}
