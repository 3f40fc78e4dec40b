//! The trust file: whose receipts count, for which projects, and since which commit.

use super::key::{PublicKey, PublicKeyError};
use super::statement::{ObjectId, ObjectIdError};

/// Whose receipts count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustFile {
    /// The keys.
    pub keys: Vec<TrustedKey>,
    starts: Vec<Start>,
}

/// A key that may sign receipts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    /// The key.
    pub key: PublicKey,
    /// See [`PublicKey::key_id`].
    pub key_id: String,
    /// For people.
    pub name: Option<String>,
    /// Patterns of project names; `*` stands for any text. Empty: all projects.
    pub projects: Vec<String>,
}

/// Before this commit nobody wrote receipts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Start {
    project: String,
    branch: String,
    commit: ObjectId,
}

/// What is wrong with a trust file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// A line begins with another word.
    #[error(
        "line {line}: `{word}` is unknown; a line is `ed25519 PUBLIC-KEY [NAME] [projects=PATTERN,…]` or `start PROJECT BRANCH COMMIT`"
    )]
    Word {
        /// From 1.
        line: usize,
        /// The word.
        word: String,
    },
    /// A line has too few or too many words.
    #[error("line {line}: write it as `{form}`")]
    Form {
        /// From 1.
        line: usize,
        /// What it should look like.
        form: &'static str,
    },
    /// The key cannot be read.
    #[error("line {line}: {why}; copy the line from the server again")]
    Key {
        /// From 1.
        line: usize,
        /// Why.
        why: PublicKeyError,
    },
    /// The commit cannot be read.
    #[error("line {line}: {why}")]
    Commit {
        /// From 1.
        line: usize,
        /// Why.
        why: ObjectIdError,
    },
    /// The same key, or the same project and branch, again.
    #[error("line {line} repeats line {first}; delete one of them")]
    Twice {
        /// From 1.
        line: usize,
        /// From 1.
        first: usize,
    },
    /// No key at all.
    #[error("the trust file names no key; add a line `ed25519 PUBLIC-KEY NAME`")]
    NoKey,
}

const KEY_FORM: &str = "ed25519 PUBLIC-KEY [NAME] [projects=PATTERN,…]";
const START_FORM: &str = "start PROJECT BRANCH COMMIT";

impl TrustFile {
    /// Reads a trust file; gives all that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<TrustError>> {
        let mut trust = Self::default();
        let (mut key_lines, mut start_lines) = (Vec::new(), Vec::new());
        let mut errors = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            let words: Vec<&str> =
                text.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
            let Some((word, rest)) = words.split_first() else { continue };
            let result = match *word {
                "ed25519" => trust.add_key(line, rest, &mut key_lines),
                "start" => trust.add_start(line, rest, &mut start_lines),
                word => Err(TrustError::Word { line, word: word.chars().take(40).collect() }),
            };
            errors.extend(result.err());
        }
        if trust.keys.is_empty() && errors.is_empty() {
            errors.push(TrustError::NoKey);
        }
        if errors.is_empty() { Ok(trust) } else { Err(errors) }
    }

    fn add_key(&mut self, line: usize, words: &[&str], lines: &mut Vec<usize>) -> Result<(), TrustError> {
        let form = TrustError::Form { line, form: KEY_FORM };
        let Some((key, options)) = words.split_first() else { return Err(form) };
        let key = PublicKey::parse(key).map_err(|why| TrustError::Key { line, why })?;
        let (mut name, mut projects) = (None, Vec::new());
        for option in options {
            match option.split_once('=') {
                Some(("projects", patterns)) if projects.is_empty() => {
                    projects = patterns.split(',').map(str::to_owned).collect();
                    // An empty pattern would be a key for nothing that looks like one for everything.
                    if projects.iter().any(String::is_empty) {
                        return Err(form);
                    }
                }
                None if name.is_none() => name = Some((*option).to_owned()),
                _ => return Err(form),
            }
        }
        let key_id = key.key_id();
        if let Some(at) = self.keys.iter().position(|known| known.key_id == key_id) {
            return Err(TrustError::Twice { line, first: lines[at] });
        }
        self.keys.push(TrustedKey { key, key_id, name, projects });
        lines.push(line);
        Ok(())
    }

    fn add_start(&mut self, line: usize, words: &[&str], lines: &mut Vec<usize>) -> Result<(), TrustError> {
        let &[project, branch, commit] = words else {
            return Err(TrustError::Form { line, form: START_FORM });
        };
        let branch = branch.strip_prefix("refs/heads/").unwrap_or(branch);
        let commit = commit.parse().map_err(|why| TrustError::Commit { line, why })?;
        if let Some(at) =
            self.starts.iter().position(|start| start.project == project && start.branch == branch)
        {
            return Err(TrustError::Twice { line, first: lines[at] });
        }
        self.starts.push(Start { project: project.into(), branch: branch.into(), commit });
        lines.push(line);
        Ok(())
    }

    /// The commit of a branch before which there are no receipts.
    pub fn start(&self, project: &str, branch: &str) -> Option<&ObjectId> {
        let found = self.starts.iter().find(|start| start.project == project && start.branch == branch);
        found.map(|start| &start.commit)
    }
}

impl TrustedKey {
    /// True if it may sign for the project.
    pub fn covers(&self, project: &str) -> bool {
        self.projects.is_empty() || self.projects.iter().any(|pattern| matches(pattern, project))
    }

    /// Its name, or else its id.
    pub fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.key_id)
    }
}

/// True if the text is what the pattern says; `*` stands for any text, also across slashes.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    // Each piece is taken where it comes first; only the last has to reach the end.
    let Some((middle, last)) = rest.rsplit_once('*') else { return text.ends_with(rest) };
    for piece in middle.split('*') {
        let Some(at) = text.find(piece) else { return false };
        text = &text[at + piece.len()..];
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, text, want) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("open*/*", "openstack/nova", true),
            ("open*/nova", "openstack/nova", true),
            ("open*/nova", "openstack/nova-specs", false),
            ("*a*b*", "xaxbx", true),
            ("*a*b*", "xbxax", false),
            ("ab*ba", "aba", false),
            ("**", "x", true),
        ] {
            assert_eq!(matches(pattern, text), want, "{pattern} {text}");
        }
    }
}
