//! Names that end up in paths, references and command lines: checked once, where they come in.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

const LONGEST: usize = 240;

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {kind}: {why}")]
pub struct NameError {
    /// What it should have been.
    pub kind: &'static str,
    /// The name, shortened.
    pub text: String,
    /// What is wrong, and what is allowed.
    pub why: &'static str,
}

impl NameError {
    fn new(kind: &'static str, text: &str, why: &'static str) -> Self {
        Self { kind, text: text.chars().take(80).collect(), why }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Its text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> Result<(), &'static str> = $check;
                check(text).map_err(|why| NameError::new($kind, text, why))?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A project, for example `openstack/nova`.
    ProjectName, "project name", project
);
name!(
    /// A branch without `refs/heads/`.
    BranchName, "branch name", branch
);
name!(
    /// A full reference, for example `refs/changes/01/1/2`.
    RefName, "reference", reference
);
name!(
    /// The identity of an item in all repositories: 32 hexadecimal digits (Zuul's `Z...` without the Z).
    Identity, "identity", identity
);

impl BranchName {
    /// `refs/heads/BRANCH`.
    pub fn reference(&self) -> RefName {
        RefName(format!("refs/heads/{}", self.0).into())
    }
}

impl Identity {
    /// `refs/zuul/BRANCH/ZIDENTITY`.
    pub fn reference(&self, branch: &BranchName) -> RefName {
        RefName(format!("refs/zuul/{branch}/Z{}", self.0).into())
    }
}

/// It becomes a path below the directory of repositories, and a part of URLs.
fn project(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > LONGEST {
        return Err("it must have 1 to 240 bytes");
    }
    if !text.chars().all(|c| c.is_alphanumeric() || "._-+~@,=/".contains(c)) {
        return Err("letters, digits and . _ - + ~ @ , = are allowed, and / between parts");
    }
    for part in text.split('/') {
        if part.is_empty() || part.starts_with(['-', '.', '~']) {
            return Err("each part between slashes begins with a letter, a digit, _ + @ , or =");
        }
        let end = part.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase());
        if matches!(end.as_deref(), Some("git" | "lock")) {
            return Err("no part may end in .git or .lock; leave the ending out");
        }
    }
    Ok(())
}

fn branch(text: &str) -> Result<(), &'static str> {
    if text.starts_with('-') || text.starts_with("refs/") || text == "HEAD" {
        return Err("give the branch as in refs/heads/BRANCH, without refs/heads/, not beginning with -");
    }
    let zuul = |part: &str| part.strip_prefix('Z').is_some_and(|rest| identity(rest).is_ok());
    if text.split('/').any(zuul) {
        return Err("Z and 32 hexadecimal digits is the name of a speculative state");
    }
    reference(&format!("refs/heads/{text}"))
}

fn reference(text: &str) -> Result<(), &'static str> {
    const RULE: &str = "git-check-ref-format(1) says what a reference may look like";
    if text.len() > LONGEST {
        return Err("it must have at most 240 bytes");
    }
    if !text.starts_with("refs/") {
        return Err("a full reference begins with refs/");
    }
    if text.ends_with('.') || gix::validate::reference::name(text.into()).is_err() {
        return Err(RULE);
    }
    Ok(())
}

fn identity(text: &str) -> Result<(), &'static str> {
    let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() == 32 && text.bytes().all(lower_hex) {
        Ok(())
    } else {
        Err("expected 32 of the characters 0-9 a-f")
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(crate) gix::ObjectId);

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let wrong = || NameError::new($kind, text, "expected 40 of the characters 0-9 a-f");
                if text.len() != 40 {
                    return Err(wrong());
                }
                gix::ObjectId::from_hex(text.as_bytes()).map(Self).map_err(|_| wrong())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0.to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0.to_hex())
            }
        }
    };
}

id!(
    /// A commit's SHA-1.
    CommitId, "commit"
);
id!(
    /// A tree's SHA-1.
    TreeId, "tree"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projects() {
        for good in ["nova", "openstack/nova", "a.b/c-d_e+f", "kde/libs@6", "ünïcode"] {
            assert!(good.parse::<ProjectName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "..",
            "a/../b",
            "/etc",
            "a//b",
            "a/",
            "-x",
            "a/-x",
            ".git",
            "a/.git/b",
            "x.git",
            "X.GIT",
            "a.lock",
            "a b",
            "a\0b",
            "a\nb",
            "a:b",
            "~root",
            "a\\b",
            "a*",
            "http://x",
            "a;rm",
            "$HOME",
            "a%2e",
            "\u{202e}a",
        ] {
            assert!(bad.parse::<ProjectName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn branches() {
        for good in ["master", "stable/icehouse", "feature/a-b", "Z", "a@b"] {
            assert!(good.parse::<BranchName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "..",
            "a..b",
            "-d",
            "--upload-pack=x",
            "a b",
            "a\0b",
            "a~1",
            "a^",
            "a:b",
            "a?",
            "a*",
            "a[",
            "/a",
            "a/",
            "a//b",
            "a.lock",
            "a/.b",
            "a.",
            "@{u}",
            "refs/heads/a",
            "HEAD",
            "x/Z0123456789abcdef0123456789abcdef",
        ] {
            assert!(bad.parse::<BranchName>().is_err(), "{bad:?}");
        }
        let error = "a b".parse::<BranchName>().expect_err("a space").to_string();
        assert!(error.starts_with("\"a b\" is no branch name: "), "{error}");
    }

    #[test]
    fn identities_and_ids() {
        let identity: Identity = "0123456789abcdef0123456789abcdef".parse().expect("an identity");
        let branch: BranchName = "stable/x".parse().expect("a branch");
        assert_eq!(
            identity.reference(&branch).as_str(),
            "refs/zuul/stable/x/Z0123456789abcdef0123456789abcdef"
        );
        assert!("0123456789ABCDEF0123456789abcdef".parse::<Identity>().is_err());
        assert!("../0123456789abcdef0123456789abc".parse::<Identity>().is_err());
        let id = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
        assert_eq!(id.parse::<CommitId>().expect("an id").to_string(), id);
        for bad in ["", "da39", "--output=x", &"g".repeat(40), &"a".repeat(64)] {
            assert!(bad.parse::<CommitId>().is_err(), "{bad}");
        }
    }
}
