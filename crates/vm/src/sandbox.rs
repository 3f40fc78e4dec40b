//! What QEMU runs in: namespaces of its own by bubblewrap, where the host permits them.

use std::sync::OnceLock;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::error::MachineError;

/// How a machine is kept from the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Its own network, process and IPC namespaces: the host's loopback is out of reach. It may read files
    /// of the host, and write to the machine's directory only.
    Namespaces,
    /// Only QEMU's restricted user network stands between guest and host.
    RestrictedNetwork {
        /// Why there are no namespaces, a sentence.
        why: String,
    },
}

/// The programs that keep a machine apart, and what was found out about them.
pub(crate) struct Host {
    /// Where programs are looked for, as the variable PATH says it.
    path: String,
    /// Why bubblewrap does not work here, once that was found out.
    refused: OnceLock<String>,
}

impl Host {
    /// The one that this process runs on.
    pub(crate) fn this() -> &'static Self {
        static THIS: OnceLock<Host> = OnceLock::new();
        THIS.get_or_init(|| Self::new(std::env::var("PATH").unwrap_or_default()))
    }

    pub(crate) fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), refused: OnceLock::new() }
    }

    /// The best that is known to be possible.
    pub(crate) fn best(&self) -> Isolation {
        if let Some(why) = self.refused.get() {
            return Isolation::RestrictedNetwork { why: why.clone() };
        }
        match find_in(&self.path, "bwrap") {
            Some(_) => Isolation::Namespaces,
            None => Isolation::RestrictedNetwork {
                why: "bubblewrap is not installed (on Debian and Ubuntu: apt-get install bubblewrap)."
                    .to_owned(),
            },
        }
    }

    /// Looks at what a machine said that ended at start: if bubblewrap itself failed, the next one goes
    /// without it.
    pub(crate) fn after_failure(&self, isolation: &Isolation, stderr: &str) -> Option<Isolation> {
        let said = stderr.lines().find_map(|l| l.strip_prefix("bwrap: "))?;
        if *isolation != Isolation::Namespaces || said.starts_with("execvp") {
            return None;
        }
        self.refused
            .get_or_init(|| format!("this host does not permit namespaces (bubblewrap said: {said})."));
        Some(self.best())
    }

    /// The command that runs `program` in `dir`, so that it ends with the thread that starts it. In
    /// namespaces `dir` is all that it can write beside devices, and the directories `hide` are empty.
    pub(crate) fn command(
        &self,
        isolation: &Isolation,
        program: &Utf8Path,
        dir: &Utf8Path,
        hide: &[Utf8PathBuf],
    ) -> Result<Command, MachineError> {
        let found = |name| find_in(&self.path, name);
        let mut command = match (isolation, found("bwrap"), found("setpriv")) {
            (Isolation::Namespaces, Some(bwrap), _) => {
                let mut c = Command::new(bwrap);
                c.args(["--unshare-net", "--unshare-pid", "--unshare-ipc", "--die-with-parent"]);
                c.args(["--ro-bind", "/", "/", "--dev-bind", "/dev", "/dev", "--proc", "/proc"]);
                // Devices are for use, but the host's shared memory is made of files.
                c.args(["--ro-bind-try", "/dev/shm", "/dev/shm"]);
                // Where there is nothing, nothing can be mounted; and nothing needs to be hidden.
                for hidden in hide.iter().filter_map(|h| h.canonicalize_utf8().ok()).filter(|h| h.is_dir()) {
                    c.args(["--tmpfs", hidden.as_str()]);
                }
                // After what is hidden, as it may lie therein.
                c.args(["--bind", dir.as_str(), dir.as_str(), "--chdir", dir.as_str()]);
                c.args(["--", program.as_str()]);
                c
            }
            (Isolation::RestrictedNetwork { .. }, _, Some(setpriv)) => {
                let mut c = Command::new(setpriv);
                c.args(["--pdeathsig", "KILL", "--", program.as_str()]);
                c
            }
            (Isolation::RestrictedNetwork { why }, _, None) => {
                return Err(MachineError::Unguarded { why: why.clone() });
            }
            (Isolation::Namespaces, None, _) => {
                return Err(MachineError::Unguarded { why: "bubblewrap has gone.".to_owned() });
            }
        };
        // QEMU's temporary files go where it may write.
        command.env("TMPDIR", dir);
        // A Ctrl-C at the terminal is for us; we end the machine in order.
        command.current_dir(dir).process_group(0).kill_on_drop(true).stdin(std::process::Stdio::null());
        Ok(command)
    }
}

/// The path of a program: as given if it holds a slash, else from PATH.
pub(crate) fn find_program(name: &str) -> Option<Utf8PathBuf> {
    if name.contains('/') {
        return Some(Utf8PathBuf::from(name)).filter(runs).and_then(|p| p.canonicalize_utf8().ok());
    }
    find_in(&std::env::var("PATH").unwrap_or_default(), name)
}

fn find_in(path: &str, name: &str) -> Option<Utf8PathBuf> {
    path.split(':').map(|dir| Utf8Path::new(dir).join(name)).find(runs)
}

fn runs(path: &Utf8PathBuf) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs_err::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
pub(crate) mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::error::Class;

    /// A host that has these programs only: a name and a shell script, or a path to link to.
    pub(crate) fn host(programs: &[(&str, &str)]) -> (TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().to_owned();
        for (name, content) in programs {
            let file = path.join(name);
            if content.starts_with('/') {
                fs_err::os::unix::fs::symlink(content, &file).unwrap();
            } else {
                fs_err::write(&file, format!("#!/bin/sh\n{content}\n")).unwrap();
                fs_err::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            }
        }
        (dir, Host::new(path))
    }

    /// What bubblewrap does where user namespaces are forbidden.
    pub(crate) const REFUSES: (&str, &str) =
        ("bwrap", "echo 'bwrap: No permissions to create new namespace' >&2; exit 1");
    pub(crate) const SETPRIV: (&str, &str) = ("setpriv", "/usr/bin/setpriv");

    #[test]
    fn only_bubblewraps_own_failures_count() {
        let (_dir, host) = host(&[REFUSES]);
        assert_eq!(host.after_failure(&Isolation::Namespaces, "qemu: no such device"), None);
        assert_eq!(host.after_failure(&Isolation::Namespaces, "bwrap: execvp qemu: No such file"), None);
        let plain = Isolation::RestrictedNetwork { why: "not installed.".to_owned() };
        assert_eq!(host.after_failure(&plain, "bwrap: whatever"), None);
        assert_eq!(host.best(), Isolation::Namespaces);
        let next = host.after_failure(&Isolation::Namespaces, "bwrap: No permissions").unwrap();
        let why = "this host does not permit namespaces (bubblewrap said: No permissions).".to_owned();
        assert_eq!((&next, host.best()), (&Isolation::RestrictedNetwork { why }, next.clone()));
    }

    #[test]
    fn nothing_runs_without_a_guard() {
        let run = |host: &Host, isolation: &Isolation| {
            host.command(isolation, Utf8Path::new("/bin/true"), Utf8Path::new("/"), &[]).map(|_| ())
        };
        let (_dir, bare) = host(&[]);
        let error = run(&bare, &bare.best()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "nothing would end QEMU if the worker died: bubblewrap is not installed (on Debian and Ubuntu: \
             apt-get install bubblewrap). There is no setpriv either. Install bubblewrap and permit it user \
             namespaces, or install util-linux, which brings setpriv."
        );
        assert_eq!(error.class(), Class::Infrastructure);
        let (_dir, refusing) = host(&[REFUSES]);
        let restricted = refusing.after_failure(&Isolation::Namespaces, "bwrap: No permissions").unwrap();
        assert!(matches!(run(&refusing, &restricted), Err(MachineError::Unguarded { .. })));
        let (_dir, guarded) = host(&[SETPRIV]);
        assert_eq!(run(&guarded, &guarded.best()), Ok(()));
    }

    #[tokio::test]
    async fn namespaces_let_write_to_the_machines_directory_only() {
        let outer = tempfile::tempdir().unwrap();
        let outer = Utf8Path::from_path(outer.path()).unwrap().canonicalize_utf8().unwrap();
        let (machine, tokens) = (outer.join("run/machine"), outer.join("tokens"));
        fs_err::create_dir_all(&machine).unwrap();
        fs_err::create_dir(&tokens).unwrap();
        fs_err::write(tokens.join("secret"), "").unwrap();
        fs_err::write(outer.join("image"), "").unwrap();
        let host = Host::this();
        let script = format!(
            "cat {outer}/image && ! touch {outer}/image && ! touch /etc/x && ! touch /dev/shm/assay-x && [ -z \"$(ls {tokens})\" ] && \
             mktemp && touch file && echo > /dev/null && [ $$ -lt 10 ] && [ ! -e /proc/{} ]",
            // Processes of the host are out of sight.
            if std::process::id() < 100 { 4_000_000 } else { std::process::id() },
        );
        for hide in [vec![tokens.clone(), outer.join("missing")], vec![tokens.clone(), outer.join("run")]] {
            let mut command =
                host.command(&Isolation::Namespaces, Utf8Path::new("/bin/sh"), &machine, &hide).unwrap();
            let output = command.args(["-c", &script]).output().await.unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            if host.after_failure(&Isolation::Namespaces, &said).is_some() {
                // No namespaces here; the machine's own tests then run without them, too.
                return;
            }
            assert!(output.status.success(), "{said}");
            let made = String::from_utf8(output.stdout).unwrap();
            assert!(made.starts_with(machine.as_str()), "{made}");
            assert!(machine.join("file").exists());
            fs_err::remove_file(machine.join("file")).unwrap();
        }
    }
}
