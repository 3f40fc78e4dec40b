//! The binary under test, and what it says.

use crate::PATIENCE;
use crate::processes::eventually;
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use std::process::Stdio;
use std::sync::{Arc, Mutex, OnceLock};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;

/// The checkout that these tests belong to.
pub fn repository() -> Utf8PathBuf {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the checkout").to_owned()
}

/// `target/PROFILE/assay`, built if it is not there.
pub(crate) fn assay() -> &'static Utf8Path {
    static ASSAY: OnceLock<Utf8PathBuf> = OnceLock::new();
    ASSAY.get_or_init(|| {
        let own = Utf8PathBuf::from_path_buf(std::env::current_exe().unwrap()).unwrap();
        let profile = own.ancestors().nth(2).expect("tests are in target/PROFILE/deps");
        let path = profile.join("assay");
        if !path.exists() {
            let mut build = std::process::Command::new(env!("CARGO"));
            build.args(["build", "--quiet", "-p", "assay"]).current_dir(repository());
            assert!(build.status().unwrap().success(), "assay cannot be built");
        }
        path
    })
}

/// A process that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// All of it.
    pub stdout: String,
    /// All of it.
    pub stderr: String,
}

impl Ended {
    /// Insists on the exit code, and shows everything if it is another.
    #[track_caller]
    pub fn expect(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.stdout, self.stderr))
    }

    /// Insists on a text in what it said, on either stream.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        let said = self.stdout.contains(text) || self.stderr.contains(text);
        assert!(said, "{text:?} was not said\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }
}

/// Runs a command to its end.
pub(crate) async fn run(command: Command) -> Ended {
    Started::new(command).end().await
}

/// A process that runs. Killed when dropped; what it started in turn is [`crate::Place`]'s to find.
pub struct Started {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Arc<Mutex<String>>,
    reader: JoinSet<()>,
}

impl Started {
    pub(crate) fn new(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        // To find out why a test fails now and then: everything that is said is kept there.
        let logs = std::env::var("ASSAY_TEST_LOGS").ok();
        if logs.is_some() {
            command.env("ASSAY_LOG", "debug");
        }
        let mut child = command.spawn().unwrap();
        let log = logs.map(|folder| Utf8PathBuf::from(folder).join(format!("{}.log", child.id().unwrap())));
        let (stdout, mut pipe) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let stderr = Arc::new(Mutex::new(String::new()));
        let (mut reader, sink) = (JoinSet::new(), stderr.clone());
        reader.spawn(async move {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = pipe.read(&mut bytes).await {
                sink.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..read]));
                if let Some(log) = &log {
                    let mut file = fs_err::OpenOptions::new().create(true).append(true).open(log).unwrap();
                    std::io::Write::write_all(&mut file, &bytes[..read]).unwrap();
                }
            }
        });
        Self { child, stdout: BufReader::new(stdout).lines(), stderr, reader }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it has not been waited for")
    }

    /// The next line of standard output; `None` at its end.
    pub async fn line(&mut self) -> Option<String> {
        let line = tokio::time::timeout(PATIENCE, self.stdout.next_line()).await;
        line.expect("a line on standard output in time").unwrap()
    }

    /// Waits until it has said this on standard error, and answers all that was said.
    pub async fn says(&self, text: &str) -> String {
        let said = || Some(self.stderr.lock().unwrap().clone()).filter(|said| said.contains(text));
        eventually(text, said).await
    }

    /// Waits for its end.
    pub async fn end(mut self) -> Ended {
        let all = async {
            let mut stdout = String::new();
            while let Some(line) = self.stdout.next_line().await.unwrap() {
                stdout.push_str(&line);
                stdout.push('\n');
            }
            let status = self.child.wait().await.unwrap();
            self.reader.join_next().await.unwrap().unwrap();
            let stderr = std::mem::take(&mut *self.stderr.lock().unwrap());
            Ended { code: status.code(), stdout, stderr }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("the process ends in time")
    }

    /// Waits for its end without caring for its pipes, which children that outlive it may hold.
    pub async fn exit(&mut self) -> Option<i32> {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        status.expect("the process ends in time").unwrap().code()
    }
}
