//! What can go wrong with a repository, with the remedy.

use crate::name::{CommitId, NameError, ProjectName};
use std::time::Duration;

/// Why something could not be done with a repository. Never a fault of a change.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Nobody has added the project.
    #[error(
        "there is no repository of project {project} here; add the project with the URL of its repository"
    )]
    NoSuchProject {
        /// Its name.
        project: ProjectName,
    },
    /// The remote repository could not be read.
    #[error("cannot fetch {project}: {why}; {remedy}")]
    CannotFetch {
        /// The project.
        project: ProjectName,
        /// What git said, without secrets.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// It took too long and was killed.
    #[error(
        "{doing} {project} was not done after {} s and was stopped; see whether the remote repository answers, or allow \
         more time", after.as_secs_f64()
    )]
    Timeout {
        /// The project.
        project: ProjectName,
        /// What was tried.
        doing: &'static str,
        /// The time that was allowed.
        after: Duration,
    },
    /// An object that should be there is not.
    #[error(
        "{what} {id} is not in the repository of {project}; fetch it, and if that does not help, see whether it was deleted"
    )]
    MissingObject {
        /// The project.
        project: ProjectName,
        /// Its SHA-1.
        id: String,
        /// What kind it should be.
        what: &'static str,
    },
    /// An object that is there and cannot be read.
    #[error("the repository of {project} is damaged: {text}; remove {path} and let it be fetched again")]
    Damaged {
        /// The project.
        project: ProjectName,
        /// What cannot be read.
        text: String,
        /// The repository.
        path: String,
    },
    /// git failed in a way that should not be.
    #[error("git could not {doing} in the repository of {project}: {text}")]
    Git {
        /// The project.
        project: ProjectName,
        /// What was tried.
        doing: &'static str,
        /// What it said.
        text: String,
    },
    /// git could not be started.
    #[error("cannot start git: {source}; install git, version 2.39 or newer")]
    NoGit {
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// git is too old.
    #[error(
        "git is of version {found}, and 2.39 is the oldest that can merge without a work tree; install a newer one"
    )]
    OldGit {
        /// What `git version` said.
        found: String,
    },
    /// A file could not be read or written.
    #[error("{0}")]
    File(#[from] std::io::Error),
}

/// What git says, made fit for a sentence: one line, no passwords, not without end.
pub(crate) fn tidy(text: &str, secret: Option<&str>) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("hint:"));
    let mut text = lines.collect::<Vec<_>>().join(" / ");
    if let Some(secret) = secret.filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "***");
    }
    if text.is_empty() {
        return "it said nothing".to_owned();
    }
    if text.chars().count() > 600 {
        text = text.chars().take(600).collect::<String>() + "...";
    }
    text
}

/// What to do about a failed connection, by what git says of it.
pub(crate) fn remedy(text: &str) -> &'static str {
    let said = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if said(&["Host key verification failed", "REMOTE HOST IDENTIFICATION"]) {
        "put the server's host key into known_hosts"
    } else if said(&[
        "Permission denied",
        "Authentication failed",
        "could not read Username",
        "could not read Password",
        "403",
    ]) {
        "see whether the user, its key or password, and its right to read the project are as they should be"
    } else if said(&["couldn't find remote ref", "not our ref"]) {
        "the reference or commit is gone there; see whether the change or branch was deleted"
    } else if said(&["No space left"]) {
        "make room on the disk"
    } else if said(&[
        "Could not resolve",
        "Connection refused",
        "Connection timed out",
        "Connection reset",
        "No route",
        "Failed to connect",
    ]) {
        "see whether the server is up and can be reached from here"
    } else if said(&["does not appear to be a git repository", "not found", "does not exist", "No such file"])
    {
        "see whether the URL of the project is right"
    } else {
        "try `git ls-remote` with the project's URL by hand"
    }
}

impl GitError {
    pub(crate) fn missing(project: &ProjectName, what: &'static str, id: CommitId) -> Self {
        Self::MissingObject { project: project.clone(), id: id.to_string(), what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_is_tidied() {
        assert_eq!(tidy("fatal: a\nhint: b\n\nfatal: c pw\n", Some("pw")), "fatal: a / fatal: c ***");
        assert_eq!(tidy(" \n", None), "it said nothing");
        assert!(tidy(&"x".repeat(5000), None).len() < 700);
    }

    #[test]
    fn remedies() {
        assert!(remedy("ssh: connect: Connection refused").contains("is up"));
        assert!(remedy("fatal: couldn't find remote ref refs/changes/1").contains("is gone"));
        assert!(remedy("user@host: Permission denied (publickey).").contains("its key"));
        assert!(remedy("whatever").contains("ls-remote"));
    }
}
