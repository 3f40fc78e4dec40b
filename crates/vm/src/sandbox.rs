//! What QEMU runs in: namespaces of its own by bubblewrap, where the host permits them.

use std::sync::OnceLock;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

/// How a machine is kept from the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Its own network, process and IPC namespaces: the host's loopback is out of reach.
    Namespaces,
    /// Only QEMU's restricted user network stands between guest and host.
    RestrictedNetwork {
        /// Why there are no namespaces, a sentence.
        why: String,
    },
}

/// Why bubblewrap does not work here, once that was found out.
static REFUSED: OnceLock<String> = OnceLock::new();

impl Isolation {
    /// The best that is known to be possible.
    pub(crate) fn best() -> Self {
        if let Some(why) = REFUSED.get() {
            return Self::RestrictedNetwork { why: why.clone() };
        }
        match find_program("bwrap") {
            Some(_) => Self::Namespaces,
            None => Self::RestrictedNetwork {
                why: "bubblewrap is not installed (on Debian and Ubuntu: apt-get install bubblewrap)."
                    .to_owned(),
            },
        }
    }

    /// Looks at what a machine said that ended at start: if bubblewrap itself failed, the next one goes
    /// without it.
    pub(crate) fn after_failure(&self, stderr: &str) -> Option<Self> {
        let said = stderr.lines().find_map(|l| l.strip_prefix("bwrap: "))?;
        if *self != Self::Namespaces || said.starts_with("execvp") {
            return None;
        }
        let why = REFUSED
            .get_or_init(|| format!("this host does not permit namespaces (bubblewrap said: {said})."));
        Some(Self::RestrictedNetwork { why: why.clone() })
    }

    /// The command that runs `program` in `dir`, so that it ends with the thread that starts it.
    pub(crate) fn command(&self, program: &Utf8Path, dir: &Utf8Path) -> Command {
        let mut command = match self {
            Self::Namespaces => {
                let mut c = Command::new("bwrap");
                c.args(["--unshare-net", "--unshare-pid", "--unshare-ipc", "--die-with-parent"]);
                c.args(["--dev-bind", "/", "/", "--chdir", dir.as_str(), "--", program.as_str()]);
                c
            }
            Self::RestrictedNetwork { .. } => match find_program("setpriv") {
                Some(setpriv) => {
                    let mut c = Command::new(setpriv);
                    c.args(["--pdeathsig", "KILL", "--", program.as_str()]);
                    c
                }
                None => Command::new(program),
            },
        };
        // A Ctrl-C at the terminal is for us; we end the machine in order.
        command.current_dir(dir).process_group(0).kill_on_drop(true).stdin(std::process::Stdio::null());
        command
    }
}

/// The path of a program: as given if it holds a slash, else from PATH.
pub(crate) fn find_program(name: &str) -> Option<Utf8PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let runs = |path: &Utf8PathBuf| {
        fs_err::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        return Some(Utf8PathBuf::from(name)).filter(runs).and_then(|p| p.canonicalize_utf8().ok());
    }
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').map(|dir| Utf8Path::new(dir).join(name)).find(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bubblewraps_own_failures_count() {
        assert_eq!(Isolation::Namespaces.after_failure("qemu: no such device"), None);
        assert_eq!(Isolation::Namespaces.after_failure("bwrap: execvp qemu: No such file"), None);
        let plain = Isolation::RestrictedNetwork { why: "not installed.".to_owned() };
        assert_eq!(plain.after_failure("bwrap: whatever"), None);
    }
}
