//! The script of `assay pipeline reverts`.

use crate::exit::CliError;
use assay_proto::api::gate::{Revert, Reverts};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// A shell script that reverts the commits, the last first, one series for each branch. `git` is the repositories' address
/// with `{project}` in it.
pub(crate) fn script(found: &Reverts, git: Option<&str>) -> Result<String, CliError> {
    let mut text = format!(
        "#!/bin/sh\n# Queue {} of {}: {}\nset -eu\nwork=$(mktemp -d)\ntrap 'rm -rf \"$work\"' EXIT\n",
        found.queue,
        found.pipeline,
        found.why.replace('\n', " ")
    );
    for (number, series) in by_branch(&found.commits).iter().enumerate() {
        let Some(first) = series.first() else { continue };
        let (project, branch) = (&first.project, &first.branch);
        let url = match git {
            Some(pattern) => pattern.replace("{project}", project),
            None => first.git.clone().ok_or_else(|| {
                CliError::not_found(format!(
                    "the server has no connection for {project} any more; say where its repository is with --git"
                ))
            })?,
        };
        let _ = write!(
            text,
            "\n# {project} {branch}\ngit clone --quiet --branch {} {} \"$work/{number}\"\ncd \"$work/{number}\"\n",
            quoted(branch),
            quoted(&url),
        );
        for revert in series.iter().rev() {
            let (commit, second) = (quoted(&revert.commit), quoted(&format!("{}^2", revert.commit)));
            let _ = write!(
                text,
                "# of change {}; a merge is reverted to its first parent\n\
                 if git rev-parse --quiet --verify {second} > /dev/null; then mainline='-m 1'; else mainline=; fi\n\
                 git revert --no-edit $mainline {commit}\n\
                 git commit --quiet --amend --no-edit --trailer 'Change-Id: {}'\n",
                revert.change,
                change_id(revert),
            );
        }
        let _ = writeln!(text, "git push origin {}", quoted(&format!("HEAD:refs/for/{branch}")));
    }
    Ok(text)
}

/// Those of one branch together, in the order of the first of each.
fn by_branch(commits: &[Revert]) -> Vec<Vec<&Revert>> {
    let mut all: Vec<Vec<&Revert>> = Vec::new();
    for commit in commits {
        let same = |series: &&mut Vec<&Revert>| {
            series.first().is_some_and(|one| (&one.project, &one.branch) == (&commit.project, &commit.branch))
        };
        match all.iter_mut().find(same) {
            Some(series) => series.push(commit),
            None => all.push(vec![commit]),
        }
    }
    all
}

/// The same for the same commit, so that a second run updates the change of the first.
fn change_id(revert: &Revert) -> String {
    let hash = Sha256::digest(format!("revert {} {} {}", revert.project, revert.branch, revert.commit));
    format!("I{}", &hex::encode(hash)[..40])
}

/// For a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
