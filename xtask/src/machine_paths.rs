//! No file of ours holds a path of the machine it was written on.

use crate::tools;
use anyhow::{Result, bail};

/// Directories that say nothing about a machine: a checkout right below them gives only itself away.
const COMMON: &[&str] =
    &["/", "/tmp", "/var", "/var/tmp", "/home", "/opt", "/srv", "/mnt", "/media", "/src", "/usr", "/usr/src"];

pub(crate) fn run() -> Result<()> {
    let root = tools::root()?;
    let mut private = vec![root.to_string()];
    private.extend(root.parent().map(ToString::to_string));
    private.extend(std::env::var("HOME"));
    private.retain(|path| path.starts_with('/') && !COMMON.contains(&path.trim_end_matches('/')));
    let mut wrong = Vec::new();
    for file in tools::git_files()? {
        let bytes = fs_err::read(root.join(&file))?;
        // Pictures and other binary files are not written by hand.
        let Ok(text) = String::from_utf8(bytes) else { continue };
        for (number, line) in text.lines().enumerate() {
            if let Some(path) = private.iter().find(|path| names(line, path)) {
                wrong.push(format!("{file}:{}: holds {path}, a path of this machine", number + 1));
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.join("\n")) }
}

/// True if the line holds the path or something below it, and not only as a part of other names.
fn names(line: &str, path: &str) -> bool {
    let path = path.trim_end_matches('/');
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let mut after = line[at + path.len()..].chars();
        let starts = before.is_none_or(|c| !(c.is_alphanumeric() || "_.-~})]*/$".contains(c)));
        starts
            && after.next() == Some('/')
            && after.next().is_some_and(|c| c.is_alphanumeric() || c == '.' || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_paths_and_what_is_below() {
        for line in ["see /site/ci/main/x", "\"/site/ci/y\"", "(/site/ci/.cache)", "=/site/ci/z"] {
            assert!(names(line, "/site/ci"), "{line}");
        }
    }

    #[test]
    fn other_paths_pass() {
        for line in [
            "/opt/site/ci/x",
            "/site/cis/x",
            "$base/site/ci/x",
            "a/site/ci/x",
            "/site/ci is mine",
            "/site/ci/",
            "./site/ci/x",
        ] {
            assert!(!names(line, "/site/ci"), "{line}");
        }
    }
}
