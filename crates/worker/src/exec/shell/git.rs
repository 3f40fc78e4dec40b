//! The git binary, kept away from the user's configuration, from prompts, and from everything it need not write.

use assay_git::peek::PASSED_ON;
use camino::{Utf8Path, Utf8PathBuf};
use std::process::Stdio;
use tokio::process::Command;

/// Bytes of git's complaint that are shown.
const COMPLAINT: usize = 2000;

/// Runs git in a namespace of its own, so that a remote that never answers leaves nothing behind.
#[derive(Debug, Clone, Default)]
pub(in crate::exec) struct Git {
    /// All that it may write.
    pub(in crate::exec) writable: Vec<Utf8PathBuf>,
    /// Directories that it must not see, ...
    pub(in crate::exec) hidden: Vec<Utf8PathBuf>,
    /// ... but for these, which lie in one of them.
    pub(in crate::exec) readable: Vec<Utf8PathBuf>,
    /// Repositories of this host may be named as remotes.
    pub(in crate::exec) local: bool,
}

/// What git said when it failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("git {command} failed: {complaint}")]
pub(in crate::exec) struct GitError {
    pub(in crate::exec) command: String,
    pub(in crate::exec) complaint: String,
}

impl GitError {
    /// True if there is no such repository, which is something else than a server that does not answer.
    pub(in crate::exec) fn is_no_repository(&self) -> bool {
        let said = self.complaint.to_lowercase();
        // git says so for 404; "not found" of other kinds (a host, a helper) begins otherwise.
        let missing = said.contains("fatal: repository '")
            && (said.contains("' not found") || said.contains("' does not exist"));
        missing
            || said.contains("does not appear to be a git repository")
            || said.contains("returned error: 404")
    }
}

impl Git {
    /// Runs `git ARGS` in `dir` and answers what it prints.
    pub(in crate::exec) async fn run(&self, dir: &Utf8Path, args: &[&str]) -> Result<String, GitError> {
        let command = || args.iter().find(|arg| !arg.starts_with('-')).unwrap_or(&"").to_string();
        let failed = |complaint: String| GitError { command: command(), complaint };
        let output = self.command(dir, args).output().await.map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr[..output.stderr.len().min(COMPLAINT)]);
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let complaint = if lines.is_empty() { output.status.to_string() } else { lines.join("; ") };
        Err(failed(complaint))
    }

    fn command(&self, dir: &Utf8Path, args: &[&str]) -> Command {
        let mut command = Command::new("bwrap");
        command.args(["--die-with-parent", "--unshare-pid", "--unshare-ipc", "--new-session"]);
        command.args(["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]);
        for path in self.hidden.iter().filter(|path| path.is_dir()) {
            command.args(["--tmpfs", path.as_str()]);
        }
        for path in &self.readable {
            command.args(["--ro-bind", path.as_str(), path.as_str()]);
        }
        for path in &self.writable {
            command.args(["--bind", path.as_str(), path.as_str()]);
        }
        command.args(["--chdir", dir.as_str(), "--", "git"]);
        for setting in [
            "core.hooksPath=/dev/null",
            "gc.auto=0",
            "maintenance.auto=false",
            "safe.directory=*",
            "advice.detachedHead=false",
            "fetch.recurseSubmodules=false",
            "init.defaultBranch=master",
        ] {
            command.args(["-c", setting]);
        }
        command.args(args).env_clear();
        for &name in ["PATH"].iter().chain(&PASSED_ON) {
            if let Ok(value) = std::env::var(name) {
                command.env(name, value);
            }
        }
        let protocols = if self.local { "file:git:http:https:ssh" } else { "git:http:https:ssh" };
        command.env("GIT_ALLOW_PROTOCOL", protocols).env("LC_ALL", "C.UTF-8");
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ASKPASS", "/bin/false");
        if std::env::var_os("GIT_SSH_COMMAND").is_none() {
            command.env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes");
        }
        command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_repository_is_told_from_a_silent_server() {
        let table = [
            ("fatal: repository 'http://h/p/' not found", true),
            (
                "fatal: '/srv/x' does not appear to be a git repository; fatal: Could not read from remote repository.",
                true,
            ),
            ("fatal: repository '/srv/x' does not exist", true),
            ("fatal: unable to access 'http://h/p/': Could not resolve host: h", false),
            (
                "fatal: unable to access 'http://h/p/': Failed to connect to h port 80: Connection refused",
                false,
            ),
            ("fatal: unable to access 'http://h/p/': The requested URL returned error: 503", false),
            ("fatal: unable to access 'http://h/p/': The requested URL returned error: 404", true),
            ("fatal: early EOF", false),
        ];
        for (complaint, wanted) in table {
            let error = GitError { command: "fetch".into(), complaint: complaint.into() };
            assert_eq!(error.is_no_repository(), wanted, "{complaint}");
        }
    }
}
