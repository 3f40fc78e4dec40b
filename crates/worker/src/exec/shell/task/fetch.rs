//! The task itself: from a folder of this machine, or from a repository at its commit, by way of the git cache.

use super::super::recorder::Recorder;
use super::super::sandbox::JobDirs;
use super::super::workspace::{self, WorkspaceError};
use super::TREE;
use crate::exec::Attempt;
use assay_formats::task_header::{self, TaskHeader};
use assay_proto::task::{Checkout, Workspace};
use assay_proto::task_run::{TaskRun, TaskSource, split_url};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;

/// The longest header.
const LONGEST: u64 = 256 << 10;
/// The largest task that is copied from a folder.
const LARGEST: u64 = 1 << 30;
/// How long the clone of a task may take.
const BUDGET_S: u64 = 600;

/// A task in the workspace.
pub(super) struct Tree {
    /// Where, relative to the workspace.
    pub(super) path: Utf8PathBuf,
    pub(super) objects: Vec<(Utf8PathBuf, String)>,
    pub(super) leases: Vec<std::fs::File>,
}

/// Brings it.
pub(super) async fn task(
    attempt: &Attempt,
    wanted: &TaskRun,
    dirs: &JobDirs,
    recorder: &mut Recorder<'_>,
) -> Result<Tree, WorkspaceError> {
    match &wanted.source {
        TaskSource::Directory(dir) => {
            let (from, to) = (Utf8PathBuf::from(dir), dirs.workspace.join(TREE));
            let copied = tokio::task::spawn_blocking(move || copy(&from, &to)).await;
            let copied = copied.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            copied.map_err(|error| WorkspaceError::Task(format!("the task cannot be read: {error}")))?;
            recorder.say(&format!("the task is a copy of {dir}"));
            Ok(Tree { path: TREE.into(), objects: Vec::new(), leases: Vec::new() })
        }
        TaskSource::Git { url, commit, path } => {
            let (origin, name) = split_url(url)
                .ok_or_else(|| WorkspaceError::Task(format!("{url} is no address of a repository")))?;
            let checkout = Checkout { name: name.into(), dest: Some(TREE.into()), ..Checkout::default() };
            let workspace = Workspace {
                origin: origin.into(),
                projects: vec![checkout],
                project: Some(name.into()),
                newrev: Some(commit.clone()),
                budget_s: BUDGET_S,
                ..Workspace::default()
            };
            let made = workspace::prepare(attempt, &workspace, dirs, recorder).await?;
            let path = Utf8Path::new(TREE).join(path);
            Ok(Tree { path, objects: made.objects, leases: made.leases })
        }
    }
}

/// Copies a folder without its `.git`; links stay links.
fn copy(from: &Utf8Path, to: &Utf8Path) -> std::io::Result<()> {
    let mut open = vec![Utf8PathBuf::new()];
    let mut bytes = 0;
    while let Some(dir) = open.pop() {
        fs::create_dir_all(to.join(&dir))?;
        for entry in from.join(&dir).read_dir_utf8()? {
            let entry = entry?;
            let (name, kind) = (entry.file_name(), entry.file_type()?);
            if name == ".git" || name == "__pycache__" {
                continue;
            }
            let path = dir.join(name);
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_symlink() {
                fs_err::os::unix::fs::symlink(entry.path().read_link_utf8()?, to.join(&path))?;
            } else if kind.is_file() {
                bytes += fs::copy(entry.path(), to.join(&path))?;
            }
            if bytes > LARGEST {
                return Err(std::io::Error::other(format!("{from} has more than {LARGEST} bytes")));
            }
        }
    }
    Ok(())
}

/// Reads the header in `dir`, which is below `top`; its program has to be there.
pub(super) fn header(top: &Utf8Path, dir: &Utf8Path, name: &str) -> Result<TaskHeader, WorkspaceError> {
    use std::os::unix::fs::PermissionsExt;
    let wrong = |why: String| WorkspaceError::Task(why);
    // A link in a repository may lead anywhere.
    let inside = dir.canonicalize_utf8().ok().zip(top.canonicalize_utf8().ok());
    if !inside.is_some_and(|(dir, top)| dir.starts_with(top)) {
        return Err(wrong(format!("the task {name} is not where it should be: there is no such folder")));
    }
    let file = dir.join(task_header::FILE);
    let meta = fs::symlink_metadata(&file).map_err(|_| {
        wrong(format!("the task {name} has no {}; docs/tasks.md says what it holds", task_header::FILE))
    })?;
    if !meta.is_file() || meta.len() > LONGEST {
        return Err(wrong(format!(
            "{} of the task {name} is no file of at most {LONGEST} bytes",
            task_header::FILE
        )));
    }
    let text = fs::read(&file).map_err(|error| wrong(error.to_string()))?;
    let text = String::from_utf8(text).map_err(|_| wrong(format!("{} is not UTF-8", task_header::FILE)))?;
    let (header, found) = task_header::load(task_header::FILE, &text);
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    let header = header
        .ok_or_else(|| wrong(format!("the header of the task {name} is wrong: {}", lines.join("; "))))?;
    let program = fs::symlink_metadata(dir.join(&header.run));
    let runs = program
        .is_ok_and(|meta| meta.is_symlink() || meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    if !runs {
        return Err(wrong(format!(
            "{:?}, which {} names as the program of {name}, is no file that can be run; chmod +x it",
            header.run,
            task_header::FILE
        )));
    }
    Ok(header)
}
