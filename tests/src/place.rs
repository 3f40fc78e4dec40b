//! A directory of its own for each test.

use crate::binary::{self, Ended, Started};
use crate::processes::{self, Process, eventually};
use crate::suite::Suite;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use rustix::process::Signal;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::Command;

/// Where one test lives. Dropping it ends every process that names it and removes it.
pub struct Place {
    dir: TempDir,
}

impl Place {
    /// An empty one.
    #[expect(clippy::new_without_default, reason = "it touches the disk")]
    pub fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        for part in ["run", "home"] {
            fs::create_dir(place.join(part)).unwrap();
        }
        place
    }

    /// Where it is.
    pub fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.dir.path()).unwrap()
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> Utf8PathBuf {
        self.path().join(name)
    }

    /// Where machines keep their sockets; empty once all is over.
    pub fn run_dir(&self) -> Utf8PathBuf {
        self.join("run")
    }

    /// The data directory of its server.
    pub fn data(&self) -> Utf8PathBuf {
        self.join("data")
    }

    /// A program whose every trace is in this place.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .stdin(Stdio::null())
            .current_dir(self.path())
            .env("HOME", self.join("home"))
            .env("XDG_RUNTIME_DIR", self.run_dir());
        command.env("ASSAY_DATA", self.data()).env("NO_COLOR", "1").env_remove("XDG_DATA_HOME");
        for name in ["ASSAY_SERVER", "ASSAY_TOKEN", "ASSAY_LOG", "ASSAY_UNSANDBOXED"] {
            command.env_remove(name);
        }
        command
    }

    /// `assay` with these arguments, not started yet.
    pub fn assay(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(binary::assay().as_str());
        command.args(arguments);
        command
    }

    /// Runs `assay` to its end.
    pub async fn run(&self, arguments: &[&str]) -> Ended {
        binary::run(self.assay(arguments)).await
    }

    /// Runs any command to its end.
    pub async fn run_command(&self, command: Command) -> Ended {
        binary::run(command).await
    }

    /// Runs git in a folder, and insists that it works; what it says.
    pub async fn git(&self, dir: &Utf8Path, arguments: &[&str]) -> String {
        let mut command = self.command("git");
        command.args(["-c", "user.name=n", "-c", "user.email=e@example.org", "-C", dir.as_str()]);
        command.args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null");
        self.run_command(command).await.expect(0).stdout.trim().to_owned()
    }

    /// A Python with what `scripts/python-for-tests.txt` names; it is made if it is not there.
    pub async fn python(&self) -> String {
        if let Ok(programs) = std::env::var("ASSAY_TEST_PYTHON") {
            return format!("{programs}/python");
        }
        let script = binary::repository().join("scripts/python-for-tests");
        let made = self.run_command(self.command(script.as_str())).await;
        format!("{}/python", made.expect(0).stdout.trim())
    }

    /// Starts `assay`.
    pub fn start(&self, arguments: &[&str]) -> Started {
        Started::new(self.assay(arguments))
    }

    /// Starts any command.
    pub fn start_command(&self, command: Command) -> Started {
        Started::new(command)
    }

    /// A test directory without anything in it but settings for a small machine.
    pub fn suite(&self, name: &str) -> Suite {
        Suite::new(&self.join(name))
    }

    /// All its processes.
    pub fn processes(&self) -> Vec<Process> {
        processes::of(self.path())
    }

    /// Its QEMU, once one runs.
    pub async fn qemu(&self) -> Process {
        let found = || self.processes().into_iter().find(|one| one.program().starts_with("qemu-system"));
        eventually("a QEMU that runs", found).await
    }

    /// Insists that everything that was started has ended, and that no machine left files.
    pub async fn nothing_left(&self) {
        let mut left = Vec::new();
        let gone = eventually("the end of all processes", || {
            left = self.processes();
            left.is_empty().then_some(())
        });
        // Bubblewrap's children are reaped by the kernel moments after their parent: seconds are plenty.
        let gone = tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.is_ok();
        assert!(gone, "still running: {left:#?}");
        let files: Vec<_> =
            fs::read_dir(self.run_dir()).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(files.is_empty(), "left behind: {files:?}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for process in self.processes() {
            processes::signal(process.pid, Signal::KILL);
        }
    }
}
