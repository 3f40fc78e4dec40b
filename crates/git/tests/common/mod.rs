//! Repositories made by the real git, and the real git's merges in a work tree.
#![expect(dead_code, reason = "each test program uses some of it")]

use assay_git::{
    BranchName, CommitId, Message, Mode, ProjectName, Refspec, Remote, Repos, Signature, State, ToMerge,
    TreeId,
};
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// For what is expected to work; never waited for.
pub(crate) const LONG: Duration = Duration::from_mins(5);

/// Path → (mode, content; of a submodule its commit).
pub(crate) type Files = BTreeMap<String, (&'static str, Vec<u8>)>;

pub(crate) fn files(list: &[(&str, &str)]) -> Files {
    list.iter().map(|(path, text)| ((*path).to_owned(), ("100644", text.as_bytes().to_vec()))).collect()
}

pub(crate) fn git_in(dir: &Utf8Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(dir).env_clear();
    for name in ["PATH", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let who = ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"];
    command.envs(who.map(|name| (name, "tester")));
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_DATE", "1400000000 +0000")
        .env("GIT_COMMITTER_DATE", "1400000000 +0000")
        .stdin(Stdio::null());
    command
}

pub(crate) fn try_git(dir: &Utf8Path, arguments: &[&str]) -> Output {
    git_in(dir).args(arguments).output().expect("git runs")
}

pub(crate) fn git(dir: &Utf8Path, arguments: &[&str]) -> String {
    let output = try_git(dir, arguments);
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub(crate) fn git_reading(dir: &Utf8Path, arguments: &[&str], stdin: &[u8]) -> String {
    let mut command = git_in(dir);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("git starts");
    child.stdin.take().expect("a pipe").write_all(stdin).expect("git reads");
    let output = child.wait_with_output().expect("git ends");
    assert!(output.status.success(), "git {arguments:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A remote repository, and ours beside it.
pub(crate) struct World {
    _temporary: tempfile::TempDir,
    pub(crate) dir: Utf8PathBuf,
    pub(crate) upstream: Utf8PathBuf,
    pub(crate) repos: Repos,
    pub(crate) project: ProjectName,
    pub(crate) master: BranchName,
}

impl World {
    pub(crate) fn new() -> Self {
        let temporary = tempfile::tempdir().expect("a directory");
        let dir = Utf8PathBuf::try_from(temporary.path().to_path_buf()).expect("UTF-8");
        let upstream = dir.join("upstream.git");
        fs_err::create_dir_all(&upstream).expect("a directory");
        git(&upstream, &["init", "-q", "--bare", "-b", "master", "."]);
        let repos = Repos::open(&dir.join("repos")).expect("it opens");
        let project: ProjectName = "some/project".parse().expect("a name");
        repos.add(&project, Remote::new(upstream.as_str())).expect("it is added");
        Self {
            _temporary: temporary,
            dir,
            upstream,
            repos,
            project,
            master: "master".parse().expect("a name"),
        }
    }

    /// A commit of exactly these files.
    pub(crate) fn commit(&self, reference: &str, parents: &[CommitId], files: &Files) -> CommitId {
        self.commit_saying(reference, parents, files, "subject\n\nChange-Id: I1\n")
    }

    pub(crate) fn commit_saying(
        &self,
        reference: &str,
        parents: &[CommitId],
        files: &Files,
        message: &str,
    ) -> CommitId {
        let mut head = String::new();
        // fast-import would put the commit on top of what the reference is.
        write!(head, "reset {reference}\ncommit {reference}\nauthor Author <author@x> 1300000000 +0200\n")
            .expect("fmt");
        write!(head, "committer C <c@x> 1300000000 +0200\ndata {}\n{message}\n", message.len()).expect("fmt");
        for (at, parent) in parents.iter().enumerate() {
            writeln!(head, "{} {parent}", if at == 0 { "from" } else { "merge" }).expect("fmt");
        }
        head.push_str("deleteall\n");
        let mut stream = head.into_bytes();
        for (path, (mode, content)) in files {
            if *mode == "160000" {
                writeln!(stream, "M 160000 {} {path}", String::from_utf8_lossy(content)).expect("fmt");
            } else {
                writeln!(stream, "M {mode} inline {path}\ndata {}", content.len()).expect("fmt");
                stream.extend_from_slice(content);
                stream.push(b'\n');
            }
        }
        git_reading(&self.upstream, &["fast-import", "--quiet", "--force"], &stream);
        self.upstream_id(reference)
    }

    pub(crate) fn upstream_id(&self, reference: &str) -> CommitId {
        git(&self.upstream, &["rev-parse", reference]).parse().expect("an id")
    }

    pub(crate) fn fetch(&self) {
        let all =
            [Refspec::branches(), Refspec::tags(), Refspec::parse("refs/changes/*").expect("a refspec")];
        self.repos.fetch(&self.project, &all, LONG).expect("it is fetched");
    }

    pub(crate) fn state(&self, tip: CommitId) -> State {
        let tip = self.repos.tip_of(&self.project, tip).expect("a commit");
        State::new([((self.project.clone(), self.master.clone()), tip)])
    }

    pub(crate) fn change(&self, revision: CommitId, mode: Mode) -> ToMerge {
        ToMerge {
            project: self.project.clone(),
            branch: self.master.clone(),
            number: 1,
            patchset: 2,
            revision,
            mode,
            message: Message { merge: "Merge change 1,2".into(), footers: vec!["Reviewed-on: there".into()] },
        }
    }

    pub(crate) fn show(&self, commit: CommitId) -> String {
        let path = self.repos.path(&self.project).expect("the project");
        git(&path, &["cat-file", "commit", &commit.to_string()])
    }

    /// What the real git makes of it in a work tree: the tree, or `None`.
    pub(crate) fn really(&self, work: &Utf8Path, ours: CommitId, arguments: &[&str]) -> Option<TreeId> {
        if !work.exists() {
            git(&self.dir, &["clone", "-q", "--no-checkout", self.upstream.as_str(), work.as_str()]);
        }
        git(work, &["fetch", "-q", "--recurse-submodules=no", "origin", "+refs/*:refs/x/*"]);
        git(work, &["checkout", "-q", "-f", "--detach", &ours.to_string()]);
        git(work, &["clean", "-q", "-x", "-f", "-f", "-d"]);
        let output = try_git(work, arguments);
        if !output.status.success() {
            // What is left of a cherry-pick, or of a git that failed its own assertion, would be in the next one's way.
            fs_err::remove_file(work.join(".git/CHERRY_PICK_HEAD")).ok();
            fs_err::remove_file(work.join(".git/MERGE_HEAD")).ok();
            fs_err::remove_file(work.join(".git/index.lock")).ok();
            return None;
        }
        Some(git(work, &["rev-parse", "HEAD^{tree}"]).parse().expect("an id"))
    }
}

pub(crate) fn committer() -> Signature {
    Signature { name: "Gate".into(), email: "gate@example.com".into(), seconds: 1_500_000_000 }
}
