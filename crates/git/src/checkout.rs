//! Work trees of people's tests: which commit they are at, what came in between two commits, and a commit of new files.
//!
//! The directory may be a folder of a work tree. Nothing is pushed.

use crate::run::{Call, CallError, Git};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use std::time::Duration;

/// The longest that one call may take.
const DEADLINE: Duration = Duration::from_mins(1);
/// Between the fields of a commit; in no name and no subject.
const BETWEEN: char = '\u{1f}';
/// How git is asked for commits that [`read_log`] reads.
pub const LOG: [&str; 6] = [
    "log",
    "--no-color",
    "--no-ext-diff",
    "--no-textconv",
    "--name-only",
    "--format=%x00%H%x1f%P%x1f%an%x1f%at%x1f%s",
];

/// Why something cannot be done with a work tree. Each is one sentence with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// No repository there.
    #[error("{dir} is not in a git checkout; make it one with `git init`, or clone it from where it is kept")]
    NotACheckout {
        /// The directory.
        dir: Utf8PathBuf,
    },
    /// The files cannot be written.
    #[error("{path} cannot be written: {source}; let the server's user write there")]
    Write {
        /// The file.
        path: Utf8PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Git refused.
    #[error("git cannot {doing} in {dir}: {said}")]
    Git {
        /// The directory.
        dir: Utf8PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What git said.
        said: String,
    },
}

/// Where a work tree is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The commit, hex.
    pub commit: String,
    /// Files of the directory differ from it.
    pub changed: bool,
}

/// A commit for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its number, hex.
    pub id: String,
    /// The commits that it was made on.
    pub parents: Vec<String>,
    /// Who wrote it.
    pub author: String,
    /// Seconds since 1970.
    pub at: i64,
    /// The first line of its message.
    pub subject: String,
    /// The files that it changed, relative to the top of the work tree; at most a few hundred.
    pub files: Vec<String>,
}

/// A person as git writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The name.
    pub name: String,
    /// The address; not checked.
    pub email: String,
}

/// A work tree, or a folder of one.
#[derive(Debug, Clone)]
pub struct Checkout {
    git: Git,
    dir: Utf8PathBuf,
}

impl Checkout {
    /// The one that `dir` is in.
    pub fn of(dir: &Utf8Path) -> Result<Self, CheckoutError> {
        let checkout = Self { git: Git::new("git"), dir: dir.to_owned() };
        let not = || CheckoutError::NotACheckout { dir: dir.to_owned() };
        if !dir.is_dir() {
            return Err(not());
        }
        let inside = checkout.ask("look", &["rev-parse", "--is-inside-work-tree"]).map_err(|_| not())?;
        if inside.trim() == "true" { Ok(checkout) } else { Err(not()) }
    }

    fn call(
        &self,
        doing: &'static str,
        arguments: &[&str],
        env: &[(String, String)],
    ) -> Result<String, CheckoutError> {
        // The directory's own settings may name programs; none of them is to run.
        let quiet = [
            "-c",
            "core.fsmonitor=false",
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "log.showSignature=false",
            "-c",
            "commit.gpgSign=false",
        ];
        let arguments: Vec<&str> = quiet.into_iter().chain(arguments.iter().copied()).collect();
        let call = Call { dir: &self.dir, arguments: &arguments, env, stdin: &[], deadline: DEADLINE };
        let failed = |said: String| CheckoutError::Git { dir: self.dir.clone(), doing, said };
        match self.git.run(&call) {
            Ok(done) if done.code == Some(0) => Ok(String::from_utf8_lossy(&done.out).into_owned()),
            Ok(done) => Err(failed(done.err.trim().to_owned())),
            Err(CallError::Start(error)) => Err(failed(format!("git cannot be started: {error}"))),
            Err(CallError::Io(error)) => Err(failed(error.to_string())),
            Err(CallError::Deadline) => Err(failed("it takes longer than a minute".to_owned())),
        }
    }

    fn ask(&self, doing: &'static str, arguments: &[&str]) -> Result<String, CheckoutError> {
        self.call(doing, arguments, &[])
    }

    /// Where it is; `None` before its first commit.
    pub fn head(&self) -> Result<Option<Head>, CheckoutError> {
        let Ok(commit) = self.ask("find its commit", &["rev-parse", "--verify", "--quiet", "HEAD"]) else {
            return Ok(None);
        };
        let changed = self.ask("look for changes", &["status", "--porcelain", "--", "."])?;
        Ok(Some(Head { commit: commit.trim().to_owned(), changed: !changed.trim().is_empty() }))
    }

    /// The commits that `to` has and `from` has not, the newest first, at most `limit`. Only those count that touch the
    /// paths, relative to the directory; `:(exclude)PATH` leaves one out.
    pub fn between(
        &self,
        (from, to): (&str, &str),
        paths: &[&str],
        limit: u32,
    ) -> Result<Vec<Commit>, CheckoutError> {
        for id in [from, to] {
            if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                let said = format!("{id:?} is no commit");
                return Err(CheckoutError::Git { dir: self.dir.clone(), doing: "compare commits", said });
            }
        }
        let limit = format!("--max-count={limit}");
        let range = format!("{from}..{to}");
        let mut arguments = LOG.to_vec();
        arguments.extend([limit.as_str(), range.as_str(), "--"]);
        arguments.extend(paths);
        Ok(read_log(&self.ask("list commits", &arguments)?))
    }

    /// The newest commit that touches the directory; `None` if none does.
    pub fn newest(&self) -> Result<Option<Commit>, CheckoutError> {
        let mut arguments = LOG.to_vec();
        arguments.extend(["--max-count=1", "--", "."]);
        Ok(read_log(&self.ask("list commits", &arguments)?).into_iter().next())
    }

    /// A commit of new files as a mail that `git am` takes, without a repository that they belong to.
    pub fn patch(
        files: &[(Utf8PathBuf, Vec<u8>)],
        author: &Author,
        message: &str,
    ) -> Result<String, CheckoutError> {
        let unwritable = |source| CheckoutError::Write {
            path: std::env::temp_dir().to_string_lossy().as_ref().into(),
            source,
        };
        let keep = tempfile::tempdir().map_err(unwritable)?;
        let dir = Utf8PathBuf::from_path_buf(keep.path().to_owned())
            .map_err(|_| unwritable(std::io::Error::other("its name is not UTF-8")))?;
        let checkout = Self { git: Git::new("git"), dir: dir.clone() };
        checkout.ask("begin", &["init", "--quiet", "--template="])?;
        for (path, _) in files {
            if let Some(parent) = path.parent() {
                let parent = dir.join(parent);
                fs::create_dir_all(&parent)
                    .map_err(|source| CheckoutError::Write { path: parent.clone(), source })?;
            }
        }
        checkout.commit(files, author, message)?;
        let wanted = ["format-patch", "--root", "-1", "--stdout", "--binary", "--no-signature", "--no-color"];
        checkout.ask("write a patch", &wanted)
    }

    /// Writes files and commits exactly them; whatever else is changed or staged stays as it is. Gives the commit's
    /// number, or `None` if the files were there already just so.
    pub fn commit(
        &self,
        files: &[(Utf8PathBuf, Vec<u8>)],
        author: &Author,
        message: &str,
    ) -> Result<Option<String>, CheckoutError> {
        for (path, bytes) in files {
            let path = self.dir.join(path);
            write_whole(&path, bytes).map_err(|source| CheckoutError::Write { path, source })?;
        }
        let names: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
        let with = |first: &[&'static str]| -> Vec<&str> {
            first.iter().copied().chain(["--"]).chain(names.iter().copied()).collect()
        };
        self.ask("add files", &with(&["add", "--force"]))?;
        let staged = self.ask("look for changes", &with(&["status", "--porcelain"]))?;
        if staged.trim().is_empty() {
            return Ok(None);
        }
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let env = [
            variable("GIT_AUTHOR_NAME", &author.name),
            variable("GIT_AUTHOR_EMAIL", &author.email),
            variable("GIT_COMMITTER_NAME", &author.name),
            variable("GIT_COMMITTER_EMAIL", &author.email),
            variable("GIT_LITERAL_PATHSPECS", "1"),
        ];
        let message = format!("--message={message}");
        let mut arguments = vec!["commit", "--quiet", "--no-verify", &message, "--only", "--"];
        arguments.extend(names.iter().copied());
        self.call("commit", &arguments, &env)?;
        Ok(self.head()?.map(|head| head.commit))
    }
}

/// The file is the old one or the new one, whatever happens.
fn write_whole(path: &Utf8Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let parent = path.parent().filter(|parent| parent.is_dir());
    let parent = parent.ok_or_else(|| std::io::Error::new(std::io::ErrorKind::NotFound, "no such folder"))?;
    let mut file = tempfile::NamedTempFile::new_in(parent)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    let kept = file.into_temp_path();
    let mut permissions = fs::metadata(&kept)?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    fs::set_permissions(&kept, permissions)?;
    kept.persist(path).map_err(|error| error.error)
}

/// The commits that git lists when it is asked as [`LOG`] has it.
pub fn read_log(text: &str) -> Vec<Commit> {
    let one = |piece: &str| {
        let (head, files) = piece.split_once('\n').unwrap_or((piece, ""));
        let mut fields = head.splitn(5, BETWEEN);
        Some(Commit {
            id: fields.next()?.to_owned(),
            parents: fields.next()?.split(' ').filter(|id| !id.is_empty()).map(str::to_owned).collect(),
            author: fields.next()?.to_owned(),
            at: fields.next()?.parse().ok()?,
            subject: fields.next()?.to_owned(),
            files: files.lines().filter(|line| !line.is_empty()).take(300).map(str::to_owned).collect(),
        })
    };
    text.split('\0').filter(|piece| !piece.is_empty()).filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needles_are_committed_alone_and_listed_between_commits() {
        let keep = tempfile::tempdir().expect("a directory");
        let dir = Utf8PathBuf::from_path_buf(keep.path().to_owned()).expect("UTF-8");
        let error = Checkout::of(&dir).expect_err("no repository yet").to_string();
        assert!(error.contains("is not in a git checkout; make it one"), "{error}");
        let made = Git::new("git").command(&[]).args(["init", "--quiet"]).current_dir(&dir).status();
        assert!(made.expect("git runs").success());
        fs::create_dir(dir.join("needles")).expect("a folder");
        let checkout = Checkout::of(&dir).expect("a repository");
        assert_eq!(checkout.head().expect("looked"), None);

        let ann = Author { name: "ann".into(), email: "ann@localhost".into() };
        let file = |name: &str, text: &str| (Utf8PathBuf::from(name), text.as_bytes().to_vec());
        let save = |files: &[(Utf8PathBuf, Vec<u8>)], message: &str| checkout.commit(files, &ann, message);
        let first = save(&[file("a.star", "1")], "tests").expect("committed").expect("something new");
        // What somebody else is about to commit is not part of it.
        fs::write(dir.join("other"), "x").expect("written");
        let files = [file("needles/[a]-b.json", "{}"), file("needles/[a]-b.png", "png")];
        let second = save(&files, "needle: a\n\nwhy").expect("committed").expect("something new");
        assert_eq!(save(&files, "again").expect("nothing to do"), None);
        let head = checkout.head().expect("looked").expect("a commit");
        assert_eq!((head.commit.as_str(), head.changed), (second.as_str(), true), "`other` is not committed");

        let list = |paths: &[&str]| checkout.between((&first, &second), paths, 10).expect("listed");
        let needles = list(&["needles"]);
        assert_eq!((needles[0].author.as_str(), needles[0].subject.as_str()), ("ann", "needle: a"));
        assert_eq!(needles[0].files, ["needles/[a]-b.json", "needles/[a]-b.png"]);
        assert_eq!(list(&[".", ":(exclude)needles"]), []);
        let error = checkout.between(("--output=x", &second), &[], 1).expect_err("refused").to_string();
        assert!(error.contains("is no commit"), "{error}");
        let third = save(&[file("a.star", "2")], "later").expect("committed").expect("something new");
        let newest =
            |dir: &Utf8Path| Checkout::of(dir).and_then(|checkout| checkout.newest()).expect("listed");
        assert_eq!(newest(&dir).map(|commit| commit.id), Some(third));
        assert_eq!(newest(&dir.join("needles")).map(|commit| commit.id), Some(second));
        let error = save(&[file("absent/x.json", "")], "m").expect_err("refused").to_string();
        assert!(
            error.contains("absent/x.json cannot be written") && error.contains("let the server's user"),
            "{error}"
        );
    }
}
