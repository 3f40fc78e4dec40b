//! The command line of the program, with or without bubblewrap around it.

use super::{External, Sandbox, UNSANDBOXED};
use camino::Utf8Path;
use std::process::Command;

/// The interpreter, looked up in [`PATH`] inside the sandbox.
const PYTHON: &str = "python3";

const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Parts of the system that programs need to start at all; nothing of `/etc` that tells about the host.
const ETC: [&str; 5] =
    ["/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime"];

/// The command that runs the client, which waits for `hello`.
pub(super) fn command(root: &Utf8Path, client_dir: &Utf8Path, external: &External) -> Command {
    match external.sandbox {
        Sandbox::Bubblewrap => bubblewrap(root, client_dir),
        Sandbox::Unsandboxed => {
            let mut command = Command::new(PYTHON);
            command.arg(client_dir.join("assay.py")).current_dir(root).env_clear();
            let path = std::env::var("PATH").unwrap_or_else(|_| PATH.to_owned());
            command.env("PATH", path).env("PYTHONPATH", client_dir).envs(variables());
            command
        }
    }
}

fn variables() -> [(&'static str, &'static str); 5] {
    [
        ("HOME", "/tmp"),
        ("LANG", "C.UTF-8"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("PYTHONNOUSERSITE", "1"),
        ("PYTHONUNBUFFERED", "1"),
    ]
}

fn bubblewrap(root: &Utf8Path, client_dir: &Utf8Path) -> Command {
    let mut command = Command::new("bwrap");
    command.args(["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]);
    command.args(["--ro-bind", "/usr", "/usr"]);
    for dir in ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"] {
        // On merged systems these are links into /usr.
        match fs_err::read_link(dir) {
            Ok(target) => command.arg("--symlink").arg(target).arg(dir),
            Err(_) => command.args(["--ro-bind-try", dir, dir]),
        };
    }
    for file in ETC {
        command.args(["--ro-bind-try", file, file]);
    }
    command.args(["--dev", "/dev", "--tmpfs", "/tmp"]);
    command.args(["--ro-bind", root.as_str(), "/suite", "--ro-bind", client_dir.as_str(), "/assay"]);
    command.args(["--chdir", "/suite", "--setenv", "PATH", PATH, "--setenv", "PYTHONPATH", "/assay"]);
    for (name, value) in variables() {
        command.args(["--setenv", name, value]);
    }
    command.args(["--", PYTHON, "/assay/assay.py"]);
    // The sandbox's own environment does not matter to the program: --clearenv.
    command
}

/// Why the program could not be started at all.
pub(super) fn explain_start(error: &std::io::Error, sandbox: Sandbox) -> String {
    match (sandbox, error.kind()) {
        (Sandbox::Bubblewrap, std::io::ErrorKind::NotFound) => format!(
            "bubblewrap (bwrap) is not installed, and a test in Python runs only in a sandbox; install bubblewrap, or \
             set {UNSANDBOXED}=1 if you trust the tests"
        ),
        (Sandbox::Unsandboxed, std::io::ErrorKind::NotFound) => {
            format!("{PYTHON} is not installed; install it")
        }
        (Sandbox::Bubblewrap, _) => format!("cannot start bubblewrap: {error}"),
        (Sandbox::Unsandboxed, _) => format!("cannot start {PYTHON}: {error}"),
    }
}

/// Why the sandbox ended before the program ran, by bubblewrap's own complaint.
pub(super) fn explain_complaint(stderr: &str) -> Option<String> {
    let complaint = stderr.lines().find_map(|line| line.strip_prefix("bwrap: "))?;
    if complaint.starts_with("execvp") {
        return Some(format!(
            "{PYTHON} is not installed in {PATH}, where the sandbox looks for it; install it"
        ));
    }
    Some(format!(
        "bubblewrap cannot make the sandbox here: {complaint}; allow user namespaces (sysctl \
         kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0), or set {UNSANDBOXED}=1 \
         if you trust the tests"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_name_the_remedy() {
        let denied = explain_complaint("bwrap: No permissions to create a new namespace\n").unwrap();
        assert!(denied.contains("No permissions") && denied.contains("ASSAY_UNSANDBOXED=1"), "{denied}");
        let missing = explain_complaint("bwrap: execvp python3: No such file or directory").unwrap();
        assert!(missing.starts_with("python3 is not installed"), "{missing}");
        assert_eq!(explain_complaint("Traceback (most recent call last):"), None);
        let not_found = std::io::Error::from(std::io::ErrorKind::NotFound);
        assert!(explain_start(&not_found, Sandbox::Bubblewrap).contains("install bubblewrap"));
    }
}
