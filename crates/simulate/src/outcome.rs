//! How a job ends: a function of the job, of what its tree contains and of the attempt. Nothing else, so that a naive
//! gate that tests one change at a time meets the same ends.

use crate::chance::{happens, hash, mix};
use crate::content::Content;
use assay_engine::gate::io::BuildResult;
use assay_engine::outcome::OutcomeClass;
use serde::{Deserialize, Serialize};

/// A rule for jobs. The first that fits counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// The job; `*` for any text.
    #[serde(default = "any")]
    pub job: String,
    /// The change under test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// Changes that must all be in the tree, whichever patchset; `N,PS` for one patchset.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub with: Vec<ChangeRef>,
    /// Changes of which none may be in the tree.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<ChangeRef>,
    /// Only the first so many times that it fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// The word: `FAILURE`, `SUCCESS`, `LOST`, `TIMED_OUT`…
    #[serde(default = "failure")]
    pub result: String,
}

fn any() -> String {
    "*".to_owned()
}

fn failure() -> String {
    "FAILURE".to_owned()
}

/// A change, or one of its patchsets: `3` or `3,2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct ChangeRef {
    /// The change.
    pub number: u64,
    /// The patchset; none for any.
    pub patchset: Option<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl TryFrom<Written> for ChangeRef {
    type Error = String;
    fn try_from(written: Written) -> Result<Self, String> {
        let text = match written {
            Written::Number(number) => return Ok(Self { number, patchset: None }),
            Written::Text(text) => text,
        };
        let wrong = || format!("{text:?} is not a change; write its number, or NUMBER,PATCHSET");
        let (number, patchset) = match text.split_once(',') {
            Some((number, patchset)) => (number, Some(patchset.trim().parse().map_err(|_| wrong())?)),
            None => (text.as_str(), None),
        };
        Ok(Self { number: number.trim().parse().map_err(|_| wrong())?, patchset })
    }
}

impl From<ChangeRef> for Written {
    fn from(change: ChangeRef) -> Self {
        match change.patchset {
            None => Self::Number(change.number),
            Some(patchset) => Self::Text(format!("{},{patchset}", change.number)),
        }
    }
}

/// Ends by chance, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Chances {
    /// A job fails on a tree for no reason. It does so whenever it meets that tree.
    pub flake: u32,
    /// An attempt is lost.
    pub lost: u32,
}

/// Everything that decides how a job ends.
#[derive(Debug, Clone, Default)]
pub struct Outcomes {
    /// The rules with how often each has fitted.
    pub rules: Vec<(Rule, u32)>,
    /// The rest.
    pub chances: Chances,
    /// For chance.
    pub seed: u64,
}

/// One run of a job.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The job.
    pub job: &'a str,
    /// The change under test.
    pub of: Option<u64>,
    /// Everything in its tree.
    pub tree: &'a Content,
    /// How many attempts on this tree were lost before.
    pub lost: u32,
}

impl Outcomes {
    /// True if the product's results depend on the tree alone.
    pub fn is_pure(&self) -> bool {
        self.rules.iter().all(|(rule, _)| {
            rule.times.is_none() || result(&rule.result).class == OutcomeClass::Infrastructure
        })
    }

    /// True if it passes once the infrastructure lets it: what a naive gate would see.
    pub fn verdict(&self, run: Run<'_>, revisions: impl Fn(ChangeRef) -> Content) -> bool {
        let rule = self.rules.iter().find(|(rule, _)| {
            result(&rule.result).class != OutcomeClass::Infrastructure && fits(rule, 0, run, &revisions)
        });
        match rule {
            Some((rule, _)) => rule.result == BuildResult::SUCCESS,
            None => !happens(mix(self.about(run), 1), self.chances.flake),
        }
    }

    fn about(&self, run: Run<'_>) -> u64 {
        mix(hash(self.seed, run.job.as_bytes()), run.tree.hash(self.seed))
    }

    /// How it ends. `revisions` gives the revisions of a change.
    pub fn decide(&mut self, run: Run<'_>, revisions: impl Fn(ChangeRef) -> Content) -> BuildResult {
        for (rule, used) in &mut self.rules {
            if fits(rule, *used, run, &revisions) {
                *used += 1;
                return result(&rule.result);
            }
        }
        let about = self.about(run);
        if happens(mix(about, u64::from(run.lost) + 2), self.chances.lost) {
            return result("LOST");
        }
        if happens(mix(about, 1), self.chances.flake) {
            return result("FAILURE");
        }
        BuildResult::success()
    }
}

fn fits(rule: &Rule, used: u32, run: Run<'_>, revisions: &impl Fn(ChangeRef) -> Content) -> bool {
    let has = |change: &ChangeRef| run.tree.meets(&revisions(*change));
    rule.times.is_none_or(|times| used < times)
        && (rule.of.is_none() || rule.of == run.of)
        && glob(&rule.job, run.job)
        && rule.with.iter().all(has)
        && !rule.without.iter().any(has)
}

/// What a word means.
pub fn result(word: &str) -> BuildResult {
    match word {
        BuildResult::SUCCESS => BuildResult::success(),
        "FAILURE" => BuildResult::failure(),
        "LOST" => BuildResult::lost("the worker is gone"),
        other => {
            let class = match other {
                "TIMED_OUT" => OutcomeClass::Test,
                "ABORTED" => OutcomeClass::Policy,
                "NODE_FAILURE" | "DISK_FULL" => OutcomeClass::Infrastructure,
                _ => OutcomeClass::Product,
            };
            BuildResult { word: other.to_owned(), class, reason: Some(format!("the scenario says {other}")) }
        }
    }
}

/// True if `text` is `pattern`, in which `*` stands for any text.
pub fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let Some(tail) = parts.pop() else { return true };
    for part in parts {
        match left.split_once(part) {
            Some((_, after)) => left = after,
            None => return false,
        }
    }
    left.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("*-merge", "project-merge", true),
            ("*-merge", "project-merge-x", false),
            ("p*-t*1", "project-test1", true),
            ("p*-t*1", "project-test2", false),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_flake_belongs_to_a_tree_and_a_loss_to_an_attempt() {
        let chances = Chances { flake: 300, lost: 300 };
        let mut outcomes = Outcomes { rules: Vec::new(), chances, seed: 4 };
        let none = |_| Content::default();
        let (mut flakes, mut losses) = (0, 0);
        for number in 0..1_000 {
            let tree: Content = [number].into_iter().collect();
            let mut run = Run { job: "j", of: None, tree: &tree, lost: 0 };
            let mut words = Vec::new();
            for lost in 0..40 {
                run.lost = lost;
                words.push(outcomes.decide(run, none).word);
            }
            losses += words.iter().filter(|word| *word == "LOST").count();
            words.retain(|word| word != "LOST");
            words.dedup();
            assert_eq!(words.len(), 1, "one verdict for each tree");
            flakes += usize::from(words[0] == "FAILURE");
        }
        assert!(flakes.abs_diff(300) < 60 && losses.abs_diff(12_000) < 900, "{flakes} {losses}");
    }
}
