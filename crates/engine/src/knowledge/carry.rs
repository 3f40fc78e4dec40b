//! Whether what was said about an earlier failure of a scenario holds for this one too.

use super::words;
use crate::outcome::Outcome;
use std::collections::BTreeSet;

/// How many earlier jobs of a scenario are looked at.
pub const DEPTH: u32 = 10;
/// How often the failure may change on the way back before nothing older counts.
const CHANGES: u32 = 3;

/// Why a job ended as it did, as far as two jobs can be compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// It did not fail.
    Good,
    /// These modules did not pass: `module:result`, or `module:bug` where a step's title names one.
    Modules(BTreeSet<String>),
    /// It ended without a module that failed; what it ended with.
    Ended(String),
}

/// A module that did not pass.
#[derive(Debug, Clone, Copy)]
pub struct Module<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its result in openQA's words.
    pub result: &'a str,
    /// Titles of its steps.
    pub titles: &'a [String],
}

impl Failure {
    /// The failure of a job with this outcome; of `modules` those count that failed, softfailed or were not run.
    pub fn of<'a>(
        outcome: Outcome,
        reason: Option<&str>,
        modules: impl IntoIterator<Item = Module<'a>>,
    ) -> Self {
        if outcome == Outcome::Passed {
            return Self::Good;
        }
        let counts = |module: &Module<'_>| matches!(module.result, "failed" | "softfailed" | "none");
        let told = |module: Module<'_>| {
            let bug = module.titles.iter().find_map(|title| words::bugrefs(title).into_iter().next());
            format!("{}:{}", module.name, bug.as_deref().unwrap_or(module.result))
        };
        let failed: BTreeSet<String> = modules.into_iter().filter(counts).map(told).collect();
        if failed.iter().any(|module| !module.ends_with(":none")) {
            return Self::Modules(failed);
        }
        // Numbers differ from run to run: processes, ports, seconds.
        let plain = |c: char| if c.is_ascii_digit() { '0' } else { c };
        let reason: String = reason.unwrap_or_default().chars().map(plain).collect();
        Self::Ended(format!("{}: {reason}", outcome.openqa()))
    }
}

/// What to do after a look at an earlier job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It failed the same way: what is said there holds here. If nothing is, go on.
    Same,
    /// It did not; look at the one before.
    GoOn,
    /// The failure has changed too often: it is another bug.
    GiveUp,
}

/// A walk back through the jobs of a scenario.
#[derive(Debug)]
pub struct Walk {
    failure: Failure,
    before: Option<Failure>,
    changes: u32,
}

impl Walk {
    /// From a job that has just ended; `None` if it did not fail.
    pub fn from(failure: Failure) -> Option<Self> {
        (failure != Failure::Good).then_some(Self { failure, before: None, changes: 0 })
    }

    /// The next older job ended like this.
    pub fn look(&mut self, earlier: Failure) -> Next {
        if earlier == self.failure {
            return Next::Same;
        }
        if self.before.as_ref() != Some(&earlier) {
            self.changes += 1;
            self.before = Some(earlier);
        }
        if self.changes > CHANGES { Next::GiveUp } else { Next::GoOn }
    }
}

/// The newest of the comments (oldest first) that goes over, as it is said at the next failure: with where it comes from,
/// unless it says so already. Gives the place of the comment too.
pub fn carried<'t>(from: i64, comments: impl IntoIterator<Item = &'t str>) -> Option<(usize, String)> {
    let (place, text) = comments
        .into_iter()
        .enumerate()
        // What gave one job its result says nothing of another's.
        .filter(|(_, text)| words::goes_over(text) && words::forced(text).is_none())
        .last()?;
    let text = text.trim_end();
    let told = if is_carried(text) { text.to_owned() } else { format!("{text}\n\n{MARK}{from})") };
    Some((place, told))
}

const MARK: &str = "(Automatic carryover from t#";

/// True if a comment came over from an earlier job.
pub fn is_carried(text: &str) -> bool {
    text.contains(MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(names: &[&str]) -> Failure {
        let module = |name: &&'static str| Module { name, result: "failed", titles: &[] };
        let names: Vec<&'static str> = names.iter().map(|name| &*Box::leak((*name).into())).collect();
        Failure::of(Outcome::Failed, None, names.iter().map(module))
    }

    #[test]
    fn failures_are_compared_by_their_modules() {
        let titles = ["see bsc#7 for this".to_owned()];
        let of = |result, titles| {
            let modules = [
                Module { name: "boot", result: "passed", titles: &[] },
                Module { name: "x", result, titles },
                Module { name: "y", result: "none", titles: &[] },
                Module { name: "z", result: "skipped", titles: &[] },
            ];
            Failure::of(Outcome::Failed, Some("died after 17 s"), modules)
        };
        let told = |words: &[&str]| Failure::Modules(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(of("failed", &[]), told(&["x:failed", "y:none"]));
        assert_eq!(of("softfailed", &titles), told(&["x:bsc#7", "y:none"]));
        assert_eq!(of("passed", &[]), Failure::Ended("failed: died after 00 s".to_owned()));
        assert_eq!(Failure::of(Outcome::Passed, None, []), Failure::Good);
    }

    #[test]
    fn the_walk_ends_where_the_failure_has_changed_too_often() {
        let (a, b, c) = (|| modules(&["a"]), || modules(&["b"]), || modules(&["c"]));
        let good = || Failure::Good;
        let cases: [(Vec<Failure>, Next); 6] = [
            (vec![a()], Next::Same),
            (vec![good(), good(), good(), good(), a()], Next::Same),
            (vec![b(), good(), c(), a()], Next::Same),
            (vec![b(), good(), c(), good()], Next::GiveUp),
            (vec![b(), b(), good(), good()], Next::GoOn),
            (vec![modules(&["a", "b"])], Next::GoOn),
        ];
        for (number, (earlier, want)) in cases.into_iter().enumerate() {
            let mut walk = Walk::from(a()).expect("it failed");
            let last = earlier.into_iter().map(|one| walk.look(one)).last();
            assert_eq!(last, Some(want), "case {number}");
        }
        assert!(Walk::from(good()).is_none());
    }

    #[test]
    fn the_newest_comment_that_goes_over_is_taken_and_says_where_from() {
        let over = |comments: &[&'static str]| carried(7, comments.iter().copied());
        assert_eq!(over(&["hello", "label:x"]), None);
        assert_eq!(
            over(&["boo#1", "poo#2 is it\n", "hm"]),
            Some((1, "poo#2 is it\n\n(Automatic carryover from t#7)".to_owned()))
        );
        let twice = "boo#1\n\n(Automatic carryover from t#3)";
        assert_eq!(over(&[twice]), Some((0, twice.to_owned())), "the first job is the one to look at");
        assert_eq!(over(&["label:force_result:passed:boo#1"]), None);
    }
}
