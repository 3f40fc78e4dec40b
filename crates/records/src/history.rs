//! The newest commits of a repository of tests, as a worker notes them: what came between two jobs is then known where
//! the repository is not.

use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastCommit {
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
    /// The files that it changed; not all of them, if there are many.
    pub files: Vec<String>,
}

/// The commits of a history, the newest first, that `from` has not; none if `from` is not in it.
pub fn since<'h>(history: &'h [PastCommit], from: &str) -> Option<Vec<&'h PastCommit>> {
    let known: HashMap<&str, &PastCommit> =
        history.iter().map(|commit| (commit.id.as_str(), commit)).collect();
    known.get(from)?;
    let (mut had, mut next) = (HashSet::new(), vec![from]);
    while let Some(id) = next.pop() {
        if let Some(commit) = known.get(id).filter(|_| had.insert(id)) {
            next.extend(commit.parents.iter().map(String::as_str));
        }
    }
    Some(history.iter().filter(|commit| !had.contains(commit.id.as_str())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `id:parents`, the newest first.
    fn history(text: &str) -> Vec<PastCommit> {
        let one = |word: &str| {
            let (id, parents) = word.split_once(':').expect("id:parents");
            PastCommit {
                id: id.to_owned(),
                parents: parents.chars().map(String::from).collect(),
                author: "ann".into(),
                at: 0,
                subject: String::new(),
                files: Vec::new(),
            }
        };
        text.split(' ').map(one).collect()
    }

    #[test]
    fn what_came_since() {
        // f merges the side branch d; the line is a b c e f.
        let all = history("f:ed e:c d:b c:b b:a a:9");
        for (from, want) in [
            ("f", Some("")),
            ("e", Some("fd")),
            ("d", Some("fec")),
            ("c", Some("fed")),
            ("a", Some("fedcb")),
            ("9", None),
            ("", None),
        ] {
            let found =
                since(&all, from).map(|list| list.iter().map(|one| one.id.as_str()).collect::<String>());
            assert_eq!(found.as_deref(), want, "{from}");
        }
        assert_eq!(since(&history("a:a"), "a").map(|list| list.len()), Some(0), "a circle ends");
    }
}
