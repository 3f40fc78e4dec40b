//! A person at a terminal: real `ssh`, `scp` and `git` with a home, key and settings of their own.

use anyhow::{Context as _, bail, ensure};
use assay_fakes::gerrit::{Account, FakeGerrit, Options, SubmitType};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const DEADLINE: Duration = Duration::from_mins(1);

/// The usual people: `alice` and `bob` write, `carol` reviews, `zuul` gates, `root` administers.
pub(crate) fn people(options: Options) -> Options {
    options
        .with(Account::new("alice").with_password("a-secret"))
        .with(Account::new("bob"))
        .with(Account::new("carol").in_groups(&["core"]).with_password("c-secret"))
        .with(Account::new("zuul").in_groups(&["ci"]).with_password("z-secret"))
        .with(Account::new("root").in_groups(&["admin"]).with_password("r-secret"))
}

/// A server with a project `demo`, a directory for it and for people.
pub(crate) struct Place {
    pub(crate) gerrit: FakeGerrit,
    pub(crate) dir: tempfile::TempDir,
}

impl Place {
    pub(crate) async fn new() -> anyhow::Result<Self> {
        Self::with(|options| options).await
    }

    pub(crate) async fn with(change: impl FnOnce(Options) -> Options) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let repositories = Utf8Path::from_path(dir.path()).context("no UTF-8")?.join("repositories");
        let mut options = people(Options::new(&repositories));
        options.any_key = true;
        let gerrit = FakeGerrit::start(change(options)).await?;
        gerrit.project("demo", SubmitType::MergeIfNecessary).await?;
        Ok(Self { gerrit, dir })
    }

    /// Somebody's terminal.
    pub(crate) async fn person(&self, name: &str) -> anyhow::Result<Person> {
        let home = Utf8Path::from_path(self.dir.path()).context("no UTF-8")?.join(name);
        fs_err::create_dir_all(home.join(".ssh"))?;
        let ssh = self.gerrit.ssh();
        let (key, known) = (home.join(".ssh/key"), home.join(".ssh/known"));
        fs_err::write(&known, self.gerrit.known_host())?;
        fs_err::write(
            home.join(".gitconfig"),
            format!(
                "[user]\n\tname = {name}\n\temail = {name}@fake.example\n[gitreview]\n\tusername = {name}\n\
                 [init]\n\tdefaultBranch = master\n[advice]\n\tdetachedHead = false\n"
            ),
        )?;
        let config = home.join(".ssh/config");
        fs_err::write(
            &config,
            format!(
                "Host *\n  User {name}\n  IdentityFile {key}\n  IdentitiesOnly yes\n  UserKnownHostsFile {known}\n  \
                 GlobalKnownHostsFile /dev/null\n  BatchMode yes\n  LogLevel ERROR\n"
            ),
        )?;
        // Programs that start ssh or scp by themselves read no HOME: give them these.
        fs_err::create_dir_all(home.join("bin"))?;
        for program in ["ssh", "scp"] {
            let wrapper = home.join("bin").join(program);
            let text = format!("#!/bin/sh\nPATH=${{PATH#*:}} exec {program} -F {config} \"$@\"\n");
            fs_err::write(&wrapper, text)?;
            fs_err::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755))?;
        }
        let person = Person { home, name: name.to_owned(), host: ssh.ip().to_string(), port: ssh.port() };
        if !key.exists() {
            person
                .run(&person.home, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", key.as_str()])
                .await?;
        }
        Ok(person)
    }
}

/// Somebody at a terminal.
pub(crate) struct Person {
    pub(crate) home: Utf8PathBuf,
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// What a program said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Person {
    pub(crate) fn public_key(&self) -> anyhow::Result<String> {
        Ok(fs_err::read_to_string(self.home.join(".ssh/key.pub"))?)
    }

    pub(crate) fn command(&self, dir: &Utf8Path, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env_clear()
            .env("PATH", format!("{}:{path}", self.home.join("bin")))
            .env("HOME", &self.home)
            .env("LC_ALL", "C.UTF-8")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_EDITOR", "true")
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs a program and takes what comes.
    pub(crate) async fn try_run(&self, dir: &Utf8Path, program: &str, args: &[&str]) -> anyhow::Result<Said> {
        let output = self.command(dir, program).args(args).output();
        let output = tokio::time::timeout(DEADLINE, output)
            .await
            .with_context(|| format!("{program} {args:?} did not end"))?
            .with_context(|| format!("{program} could not be started; is its package installed?"))?;
        Ok(Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a program that must succeed.
    pub(crate) async fn run(&self, dir: &Utf8Path, program: &str, args: &[&str]) -> anyhow::Result<String> {
        let said = self.try_run(dir, program, args).await?;
        ensure!(said.code == 0, "{program} {args:?} ended with {}: {}{}", said.code, said.out, said.err);
        Ok(said.out)
    }

    fn ssh_args<'a>(&'a self, port: &'a str, command: &'a str) -> Vec<&'a str> {
        vec!["-p", port, &self.host, command]
    }

    /// `ssh HOST COMMAND`
    pub(crate) async fn try_ssh(&self, command: &str) -> anyhow::Result<Said> {
        let port = self.port.to_string();
        self.try_run(&self.home, "ssh", &self.ssh_args(&port, command)).await
    }

    /// `ssh HOST COMMAND`, which must succeed.
    pub(crate) async fn ssh(&self, command: &str) -> anyhow::Result<String> {
        let said = self.try_ssh(command).await?;
        ensure!(said.code == 0, "{command} ended with {}: {}{}", said.code, said.out, said.err);
        Ok(said.out)
    }

    /// The rows of a query, and its last line.
    pub(crate) async fn query(&self, rest: &str) -> anyhow::Result<(Vec<Value>, Value)> {
        let text = self.ssh(&format!("gerrit query --format json {rest}")).await?;
        let mut rows = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        let stats = rows.pop().context("a query without an answer")?;
        Ok((rows, stats))
    }

    /// Follows the event stream.
    pub(crate) fn stream(&self, args: &str) -> anyhow::Result<Stream> {
        let port = self.port.to_string();
        let command = format!("gerrit stream-events {args}");
        let mut child = self.command(&self.home, "ssh").args(self.ssh_args(&port, &command)).spawn()?;
        let out = child.stdout.take().context("no standard output")?;
        Ok(Stream { child, lines: BufReader::new(out).lines() })
    }

    /// The address of a project for git.
    pub(crate) fn remote(&self, project: &str) -> String {
        format!("ssh://{}@{}:{}/{project}", self.name, self.host, self.port)
    }

    /// Clones a project, with the hook for Change-Ids.
    pub(crate) async fn clone_of(&self, project: &str) -> anyhow::Result<Utf8PathBuf> {
        self.run(&self.home, "git", &["clone", "-q", &self.remote(project), project]).await?;
        let work = self.home.join(project);
        let (port, hook) = (self.port.to_string(), format!("{}:hooks/commit-msg", self.host));
        let args = ["-O", "-p", "-P", &port, &hook, ".git/hooks/"];
        self.run(&work, "scp", &args).await?;
        Ok(work)
    }

    /// Writes a file and commits it; the commit.
    pub(crate) async fn commit(
        &self,
        work: &Utf8Path,
        path: &str,
        text: &str,
        message: &str,
    ) -> anyhow::Result<String> {
        fs_err::write(work.join(path), text)?;
        self.run(work, "git", &["add", path]).await?;
        self.run(work, "git", &["commit", "-q", "-m", message]).await?;
        self.head(work).await
    }

    pub(crate) async fn head(&self, work: &Utf8Path) -> anyhow::Result<String> {
        Ok(self.run(work, "git", &["rev-parse", "HEAD"]).await?.trim().to_owned())
    }
}

/// An event stream.
pub(crate) struct Stream {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Stream {
    /// The next event.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Value> {
        let line =
            tokio::time::timeout(DEADLINE, self.lines.next_line()).await.context("no event came")??;
        match line {
            Some(line) => Ok(serde_json::from_str(&line)?),
            None => bail!("the event stream ended"),
        }
    }

    /// The type of the next event.
    pub(crate) async fn kind(&mut self) -> anyhow::Result<String> {
        Ok(self.next().await?["type"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits for the end of the stream.
    pub(crate) async fn ended(mut self) -> anyhow::Result<()> {
        while tokio::time::timeout(DEADLINE, self.lines.next_line()).await?.is_ok_and(|line| line.is_some()) {
        }
        tokio::time::timeout(DEADLINE, self.child.wait()).await??;
        Ok(())
    }
}

/// A program of `scripts/python-for-tests.txt`. `./test` says where they are; without it they are installed now.
pub(crate) async fn python_program(name: &str) -> anyhow::Result<Utf8PathBuf> {
    if let Ok(dir) = std::env::var("ASSAY_TEST_PYTHON") {
        return Ok(Utf8PathBuf::from(dir).join(name));
    }
    let script = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/python-for-tests");
    let output =
        Command::new(&script).output().await.with_context(|| format!("{script} could not be started"))?;
    ensure!(output.status.success(), "{script} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(Utf8PathBuf::from(String::from_utf8(output.stdout)?.trim()).join(name))
}
