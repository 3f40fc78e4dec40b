//! The repositories: bare ones in one directory, worked on by the git binary, never with a work tree.

use super::model::{CommitInfo, FileChange, Ident, Kind};
use camino::{Utf8Path, Utf8PathBuf};
use std::fmt::Write as _;
use std::process::Stdio;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// No commit.
pub const ZERO: &str = "0000000000000000000000000000000000000000";

/// git did not do it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("git {what}: {text}")]
pub struct GitFailed {
    /// The command.
    pub what: String,
    /// What git said.
    pub text: String,
}

type Result<T> = std::result::Result<T, GitFailed>;

/// A directory of repositories.
#[derive(Debug, Clone)]
pub struct Repos {
    dir: Utf8PathBuf,
}

/// A ref that is to move; forty zeros for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefMove {
    /// Whole name.
    pub name: String,
    /// What it must be now.
    pub old: String,
    /// What it will be.
    pub new: String,
}

/// The merge of two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merged {
    /// Without conflicts.
    Tree(String),
    /// These files need a person.
    Conflict(Vec<String>),
}

/// A commit to be made.
#[derive(Debug, Clone)]
pub struct NewCommit<'a> {
    /// Tree.
    pub tree: &'a str,
    /// Parents.
    pub parents: &'a [&'a str],
    /// Author.
    pub author: &'a Ident,
    /// Committer.
    pub committer: &'a Ident,
    /// Whole message.
    pub message: &'a str,
}

impl Repos {
    /// Opens a directory.
    pub fn new(dir: &Utf8Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Where a project's repository is.
    pub fn path(&self, project: &str) -> Utf8PathBuf {
        self.dir.join(format!("{project}.git"))
    }

    /// Whether a name can be that of a project: it becomes a path and an argument.
    pub fn is_name(project: &str) -> bool {
        !project.is_empty()
            && !project.starts_with(['-', '/'])
            && !project.contains("..")
            && project.split('/').all(|part| {
                !part.is_empty()
                    && !part.starts_with('.')
                    && part.rsplit_once(".git").is_none_or(|(_, end)| !end.is_empty())
            })
            && project.chars().all(|c| c.is_ascii_alphanumeric() || "-_./+".contains(c))
    }

    /// git with nothing of this machine's or user's settings.
    pub fn command(&self, project: &str) -> Command {
        let mut command = Command::new("git");
        command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs([
                ("GIT_CONFIG_NOSYSTEM", "1"),
                ("GIT_CONFIG_GLOBAL", "/dev/null"),
                ("GIT_TERMINAL_PROMPT", "0"),
                ("LC_ALL", "C"),
            ])
            .env("HOME", &self.dir)
            .env("GIT_DIR", self.path(project))
            .kill_on_drop(true);
        command
    }

    async fn status(
        &self,
        project: &str,
        args: &[&str],
        stdin: &[u8],
        more: &[(&str, String)],
    ) -> Result<(i32, Vec<u8>, String)> {
        let failed = |error: std::io::Error| GitFailed { what: args.join(" "), text: error.to_string() };
        let mut command = self.command(project);
        command.args(args).envs(more.iter().map(|(name, value)| (*name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let mut input = child.stdin.take();
        let feed = async {
            if let Some(mut input) = input.take() {
                // A git that has seen enough closes its end; its exit status tells.
                let _ = input.write_all(stdin).await;
            }
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        let output = output.map_err(failed)?;
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Ok((output.status.code().unwrap_or(-1), output.stdout, text))
    }

    async fn bytes(&self, project: &str, args: &[&str], stdin: &[u8]) -> Result<Vec<u8>> {
        let (code, out, text) = self.status(project, args, stdin, &[]).await?;
        if code == 0 {
            return Ok(out);
        }
        Err(GitFailed { what: args.join(" "), text: format!("exit {code}: {text}") })
    }

    async fn text(&self, project: &str, args: &[&str], stdin: &[u8]) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.bytes(project, args, stdin).await?).trim_end().to_owned())
    }

    /// Makes an empty repository.
    pub async fn init(&self, project: &str, head: &str) -> Result<()> {
        let path = self.path(project);
        if path.join("config").exists() {
            return Ok(());
        }
        let branch = head.strip_prefix("refs/heads/").unwrap_or(head);
        fs_err::create_dir_all(&path)
            .map_err(|error| GitFailed { what: "init".into(), text: error.to_string() })?;
        self.text(project, &["init", "--quiet", "--bare", &format!("--initial-branch={branch}")], &[])
            .await?;
        let settings = "[gc]\n\tauto = 0\n[transfer]\n\thideRefs = refs/fake\n[uploadpack]\n\tallowFilter = true\n\
                        [maintenance]\n\tauto = false\n[core]\n\tlogAllRefUpdates = false\n";
        let config = path.join("config");
        let before = fs_err::read_to_string(&config)
            .map_err(|error| GitFailed { what: "init".into(), text: error.to_string() })?;
        fs_err::write(&config, before + settings)
            .map_err(|error| GitFailed { what: "init".into(), text: error.to_string() })
    }

    /// All refs that are shown, with what they point to.
    pub async fn refs(&self, project: &str) -> Result<Vec<(String, String)>> {
        let text = self.text(project, &["for-each-ref", "--format=%(objectname) %(refname)"], &[]).await?;
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        Ok(pairs
            .filter(|(_, name)| !name.starts_with("refs/fake/"))
            .map(|(id, name)| (name.to_owned(), id.to_owned()))
            .collect())
    }

    /// What a ref or an expression names.
    pub async fn resolve(&self, project: &str, name: &str) -> Result<Option<String>> {
        let args = ["rev-parse", "--verify", "--quiet", "--end-of-options", name];
        let (code, out, text) = self.status(project, &args, &[], &[]).await?;
        match code {
            0 => Ok(Some(String::from_utf8_lossy(&out).trim().to_owned())),
            1 => Ok(None),
            _ => Err(GitFailed { what: args.join(" "), text }),
        }
    }

    /// The commit that a branch points to.
    pub async fn tip(&self, project: &str, branch: &str) -> Result<Option<String>> {
        self.resolve(project, &format!("refs/heads/{branch}^{{commit}}")).await
    }

    /// Moves refs, all or none.
    pub async fn update(&self, project: &str, moves: &[RefMove]) -> Result<()> {
        let mut input = String::from("start\n");
        for RefMove { name, old, new } in moves {
            let _ = if new == ZERO {
                writeln!(input, "delete {name} {old}")
            } else {
                writeln!(input, "update {name} {new} {old}")
            };
        }
        input.push_str("prepare\ncommit\n");
        self.text(project, &["update-ref", "--stdin"], input.as_bytes()).await.map(|_| ())
    }

    /// Whether one commit is in the history of another.
    pub async fn is_ancestor(&self, project: &str, older: &str, newer: &str) -> Result<bool> {
        let args = ["merge-base", "--is-ancestor", older, newer];
        let (code, _, text) = self.status(project, &args, &[], &[]).await?;
        match code {
            0 => Ok(true),
            1 => Ok(false),
            _ => Err(GitFailed { what: args.join(" "), text }),
        }
    }

    /// Commits reachable from `from` and not from `without`, oldest first.
    pub async fn commits(&self, project: &str, from: &[&str], without: &[String]) -> Result<Vec<String>> {
        let mut input = from.join("\n");
        for name in without {
            let _ = write!(input, "\n^{name}");
        }
        input.push('\n');
        let args = ["rev-list", "--topo-order", "--reverse", "--stdin"];
        let text = self.text(project, &args, input.as_bytes()).await?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The same, each with its message.
    pub async fn history(
        &self,
        project: &str,
        from: &str,
        without: &[String],
    ) -> Result<Vec<(String, String)>> {
        let mut input = format!("{from}\n");
        for name in without {
            let _ = writeln!(input, "^{name}");
        }
        let args = ["log", "--topo-order", "--reverse", "-z", "--format=%H%n%B", "--stdin"];
        let text = self.text(project, &args, input.as_bytes()).await?;
        let entries = text.split('\0').filter_map(|entry| entry.split_once('\n'));
        Ok(entries.map(|(id, message)| (id.to_owned(), message.to_owned())).collect())
    }

    /// The tips of all branches.
    pub async fn heads(&self, project: &str) -> Result<Vec<String>> {
        let refs = self.refs(project).await?;
        Ok(refs.into_iter().filter(|(name, _)| name.starts_with("refs/heads/")).map(|(_, id)| id).collect())
    }

    /// Everything that is asked of a commit.
    pub async fn info(&self, project: &str, commit: &str) -> Result<CommitInfo> {
        let raw = self.bytes(project, &["cat-file", "commit", commit], &[]).await?;
        let mut info = parse_commit(commit, &String::from_utf8_lossy(&raw));
        let common = ["diff-tree", "--no-commit-id", "-r", "-M", "-z", "--raw", "--numstat"];
        let mut args = common.to_vec();
        match info.parents.first() {
            Some(parent) => args.extend([parent.as_str(), commit]),
            None => args.extend(["--root", commit]),
        }
        info.files = parse_diff(&self.bytes(project, &args, &[]).await?);
        Ok(info)
    }

    /// What a new version changes against the one before.
    pub async fn kind(&self, project: &str, old: &CommitInfo, new: &CommitInfo) -> Result<Kind> {
        let same_message = old.message == new.message;
        if old.tree == new.tree && old.parents == new.parents {
            return Ok(if same_message { Kind::NoChange } else { Kind::NoCodeChange });
        }
        if !same_message || old.parents == new.parents {
            return Ok(Kind::Rework);
        }
        let (Some(old_parent), Some(new_parent)) = (old.parents.first(), new.parents.first()) else {
            return Ok(Kind::Rework);
        };
        let rebased = self.pick(project, old_parent, &old.id, new_parent).await?;
        Ok(if rebased == Merged::Tree(new.tree.clone()) { Kind::TrivialRebase } else { Kind::Rework })
    }

    /// The tree of a merge of two commits.
    pub async fn merge(&self, project: &str, ours: &str, theirs: &str) -> Result<Merged> {
        let args = ["merge-tree", "--write-tree", "--name-only", "--no-messages", ours, theirs];
        let (code, out, text) = self.status(project, &args, &[], &[]).await?;
        let out = String::from_utf8_lossy(&out);
        let mut lines = out.lines();
        match (code, lines.next()) {
            (0, Some(tree)) => Ok(Merged::Tree(tree.to_owned())),
            (1, Some(_)) => Ok(Merged::Conflict(lines.map(str::to_owned).collect())),
            _ => Err(GitFailed { what: args.join(" "), text }),
        }
    }

    /// The tree of `commit`, whose parent is `parent`, on top of `onto`. git 2.39 cannot be told a merge base, so
    /// three commits are made that have the wanted one.
    pub async fn pick(&self, project: &str, parent: &str, commit: &str, onto: &str) -> Result<Merged> {
        let nobody = Ident { name: "pick".into(), email: "pick@fake.example".into(), when: 0 };
        let make = async |tree: String, parents: &[&str]| {
            let (author, committer) = (&nobody, &nobody);
            self.commit_tree(project, &NewCommit { tree: &tree, parents, author, committer, message: "pick" })
                .await
        };
        let base = make(format!("{parent}^{{tree}}"), &[]).await?;
        let ours = make(format!("{onto}^{{tree}}"), &[&base]).await?;
        let theirs = make(format!("{commit}^{{tree}}"), &[&base]).await?;
        self.merge(project, &ours, &theirs).await
    }

    /// Makes a commit.
    pub async fn commit_tree(&self, project: &str, new: &NewCommit<'_>) -> Result<String> {
        let mut args = vec!["commit-tree", new.tree];
        for parent in new.parents {
            args.extend(["-p", parent]);
        }
        let who = [
            ("GIT_AUTHOR_NAME", new.author.name.clone()),
            ("GIT_AUTHOR_EMAIL", new.author.email.clone()),
            ("GIT_AUTHOR_DATE", format!("@{} +0000", new.author.when)),
            ("GIT_COMMITTER_NAME", new.committer.name.clone()),
            ("GIT_COMMITTER_EMAIL", new.committer.email.clone()),
            ("GIT_COMMITTER_DATE", format!("@{} +0000", new.committer.when)),
        ];
        let (code, out, text) = self.status(project, &args, new.message.as_bytes(), &who).await?;
        if code == 0 {
            return Ok(String::from_utf8_lossy(&out).trim().to_owned());
        }
        Err(GitFailed { what: args.join(" "), text })
    }

    /// Makes a commit with these files over those of its first parent; a file without content is removed.
    pub async fn write(
        &self,
        project: &str,
        parents: &[&str],
        files: &[(&str, Option<&str>)],
        who: &Ident,
        message: &str,
    ) -> Result<String> {
        let mut input = String::from("commit refs/fake/made\nmark :1\n");
        let Ident { name, email, when } = who;
        let _ =
            writeln!(input, "author {name} <{email}> {when} +0000\ncommitter {name} <{email}> {when} +0000");
        let _ = writeln!(input, "data {}\n{message}", message.len());
        for (at, parent) in parents.iter().enumerate() {
            let _ = writeln!(input, "{} {parent}", if at == 0 { "from" } else { "merge" });
        }
        for (path, content) in files {
            let _ = match content {
                Some(content) => writeln!(input, "M 100644 inline {path}\ndata {}\n{content}", content.len()),
                None => writeln!(input, "D {path}"),
            };
        }
        // Without a parent the ref must not be there, or the commit would be put on top of it.
        let reset = if parents.is_empty() { "reset refs/fake/made\n\n" } else { "" };
        let input = format!("{reset}{input}\nget-mark :1\n");
        self.text(project, &["fast-import", "--quiet", "--force"], input.as_bytes()).await
    }
}

/// Reads git's own form of a commit.
pub(super) fn parse_commit(id: &str, raw: &str) -> CommitInfo {
    let (head, message) = raw.split_once("\n\n").unwrap_or((raw, ""));
    let mut info = CommitInfo { id: id.to_owned(), message: message.to_owned(), ..CommitInfo::default() };
    for line in head.lines() {
        match line.split_once(' ') {
            Some(("tree", tree)) => tree.clone_into(&mut info.tree),
            Some(("parent", parent)) => info.parents.push(parent.to_owned()),
            Some(("author", who)) => info.author = parse_ident(who),
            Some(("committer", who)) => info.committer = parse_ident(who),
            _ => {}
        }
    }
    info
}

fn parse_ident(text: &str) -> Ident {
    let (name, rest) = text.split_once(" <").unwrap_or(("", text));
    let (email, when) = rest.split_once("> ").unwrap_or((rest, ""));
    let when = when.split(' ').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
    Ident { name: name.to_owned(), email: email.to_owned(), when }
}

/// Reads the output of `git diff-tree -z --raw --numstat`.
pub(super) fn parse_diff(bytes: &[u8]) -> Vec<FileChange> {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.split('\0');
    let mut files: Vec<FileChange> = Vec::new();
    while let Some(part) = parts.next() {
        if let Some(raw) = part.strip_prefix(':') {
            let letter = raw.rsplit(' ').next().and_then(|word| word.chars().next()).unwrap_or('M');
            let first = parts.next().unwrap_or_default().to_owned();
            let renamed = matches!(letter, 'R' | 'C');
            let (path, old_path) = if renamed {
                (parts.next().unwrap_or_default().to_owned(), Some(first))
            } else {
                (first, None)
            };
            files.push(FileChange { path, old_path, letter, insertions: 0, deletions: 0 });
            continue;
        }
        let mut columns = part.splitn(3, '\t');
        let (Some(insertions), Some(deletions), Some(path)) =
            (columns.next(), columns.next(), columns.next())
        else {
            continue;
        };
        let path = if path.is_empty() {
            parts.next();
            parts.next().unwrap_or_default()
        } else {
            path
        };
        if let Some(file) = files.iter_mut().find(|file| file.path == path) {
            file.insertions = insertions.parse().unwrap_or(0);
            file.deletions = deletions.parse().unwrap_or(0);
        }
    }
    files
}
