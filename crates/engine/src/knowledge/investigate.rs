//! What changed since a scenario last passed.

use crate::ids::JobId;
use crate::outcome::Outcome;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How many earlier jobs of a scenario are looked at.
pub const DEPTH: u32 = 500;

/// Between which jobs of a scenario something broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bounds {
    /// The newest job before that passed or softfailed.
    pub last_good: Option<JobId>,
    /// The oldest job after that one that did not; the job itself if it is the first.
    pub first_bad: Option<JobId>,
}

/// The bounds of a job with this outcome, if it has ended; `earlier` are the jobs of its scenario before it, the newest
/// first. Jobs that somebody stopped say nothing.
pub fn bounds(job: (JobId, Option<Outcome>), earlier: impl IntoIterator<Item = (JobId, Outcome)>) -> Bounds {
    let is_bad = |outcome: Outcome| !outcome.is_ok() && !outcome.is_aborted();
    let mut first_bad = job.1.is_some_and(is_bad).then_some(job.0);
    for (id, outcome) in earlier {
        if outcome.is_ok() {
            return Bounds { last_good: Some(id), first_bad };
        }
        if is_bad(outcome) {
            first_bad = Some(id);
        }
    }
    Bounds { last_good: None, first_bad }
}

/// What is not the same: what it was and what it is; without one it was not there, or is not any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Of what.
    pub name: String,
    /// In the last good job.
    pub before: Option<String>,
    /// In this one.
    pub after: Option<String>,
}

/// Everything that differs between two sets of values, by name.
pub fn difference(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<Difference> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differs = |name: &&String| before.get(*name) != after.get(*name);
    let told = |name: &String| Difference {
        name: name.clone(),
        before: before.get(name).cloned(),
        after: after.get(name).cloned(),
    };
    names.into_iter().filter(differs).map(told).collect()
}

/// As the lines of a unified difference, for those who read it as text.
pub fn as_lines(differences: &[Difference]) -> String {
    let mut text = String::new();
    for one in differences {
        for (sign, value) in [('-', &one.before), ('+', &one.after)] {
            if let Some(value) = value {
                text.push(sign);
                text.push_str(&one.name);
                text.push_str(": ");
                text.push_str(&value.replace('\n', "\\n"));
                text.push('\n');
            }
        }
    }
    text
}

/// What may be the cause, the likeliest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suspect {
    /// The tests or their needles changed.
    Tests,
    /// Settings differ, other than the build.
    Settings,
    /// Images or other files differ.
    Assets,
    /// The worker's programs differ.
    Environment,
    /// Only the build differs: the product.
    Product,
    /// The build differs beside the rest.
    Build,
    /// Nothing differs: it does not fail every time.
    Chance,
}

impl Suspect {
    /// One clause for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Tests => "the tests or their needles changed",
            Self::Settings => "settings differ that do not name the build",
            Self::Assets => "files that it reads differ",
            Self::Environment => "it ran on another machine, or with other programs",
            Self::Product => "only the build differs: look at the product",
            Self::Build => "the build differs, too: it may be the product",
            Self::Chance => "nothing that is recorded differs: it may fail by chance",
        }
    }
}

/// Settings that name what is tested, so that they differ from build to build.
const OF_THE_BUILD: [&str; 5] = ["BUILD", "ISO", "REPO", "HDD", "ASSET"];

fn is_of_the_build(name: &str) -> bool {
    let numbered =
        |base: &str| name.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
    OF_THE_BUILD.into_iter().any(numbered) || name.ends_with("_URL")
}

/// What a job was made of and ran with: values by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// Settings.
    pub settings: BTreeMap<String, String>,
    /// What was recorded of tests and needles.
    pub tests: BTreeMap<String, String>,
    /// Assets.
    pub assets: BTreeMap<String, String>,
    /// The worker and its programs.
    pub environment: BTreeMap<String, String>,
    /// It has ended, so that all of this is known.
    pub ended: bool,
}

/// What differs, by kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Differences {
    /// Settings.
    pub settings: Vec<Difference>,
    /// What was recorded of tests and needles.
    pub tests: Vec<Difference>,
    /// Assets by name.
    pub assets: Vec<Difference>,
    /// The worker and its programs.
    pub environment: Vec<Difference>,
    /// Everything was compared.
    pub complete: bool,
}

impl Differences {
    /// Between the last good job and another. Of one that has not ended it is not known yet what it will have run with.
    pub fn between(good: &Evidence, job: &Evidence) -> Self {
        let mut found = Self {
            settings: difference(&good.settings, &job.settings),
            tests: difference(&good.tests, &job.tests),
            assets: difference(&good.assets, &job.assets),
            environment: difference(&good.environment, &job.environment),
            complete: job.ended,
        };
        if !job.ended {
            found.tests.retain(|one| one.after.is_some());
            found.assets.retain(|one| one.after.is_some());
            found.environment.clear();
        }
        found
    }

    /// What may be the cause, the likeliest first; at least one, if everything was compared.
    pub fn suspects(&self) -> Vec<Suspect> {
        let (of_build, others): (Vec<&Difference>, Vec<_>) =
            self.settings.iter().partition(|one| is_of_the_build(&one.name));
        let found = [
            (Suspect::Tests, !self.tests.is_empty()),
            (Suspect::Settings, !others.is_empty()),
            (Suspect::Assets, !self.assets.is_empty()),
            (Suspect::Environment, !self.environment.is_empty()),
        ];
        let mut suspects: Vec<Suspect> =
            found.into_iter().filter(|(_, is)| *is).map(|(suspect, _)| suspect).collect();
        match (of_build.is_empty(), suspects.is_empty()) {
            (true, true) if self.complete => suspects.push(Suspect::Chance),
            (true, _) => {}
            (false, true) => suspects.push(Suspect::Product),
            (false, false) => suspects.push(Suspect::Build),
        }
        suspects
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Failed, Incomplete, Passed, Softfailed, UserCancelled};

    #[test]
    fn bounds_skip_what_somebody_stopped() {
        let found = |own: Option<Outcome>, earlier: &[(i64, Outcome)]| {
            let earlier = earlier.iter().map(|(id, outcome)| (JobId(*id), *outcome));
            let bounds = bounds((JobId(9), own), earlier);
            (bounds.last_good.map(|id| id.0), bounds.first_bad.map(|id| id.0))
        };
        assert_eq!(found(Some(Failed), &[]), (None, Some(9)));
        assert_eq!(found(Some(Failed), &[(8, Passed)]), (Some(8), Some(9)));
        assert_eq!(
            found(
                Some(Failed),
                &[(8, Failed), (7, UserCancelled), (6, Incomplete), (5, Softfailed), (4, Failed)]
            ),
            (Some(5), Some(6))
        );
        assert_eq!(found(Some(Passed), &[(8, Failed), (7, Passed)]), (Some(7), Some(8)));
        assert_eq!(found(Some(UserCancelled), &[(7, Passed)]), (Some(7), None));
        // One that has not ended is not bad.
        assert_eq!(found(None, &[(7, Passed)]), (Some(7), None));
        assert_eq!(found(None, &[(8, Failed), (7, Passed)]), (Some(7), Some(8)));
    }

    #[test]
    fn differences_say_what_came_what_went_and_what_changed() {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let found = difference(
            &map(&[("A", "1"), ("B", "1"), ("C", "1")]),
            &map(&[("B", "2\n3"), ("C", "1"), ("D", "4")]),
        );
        assert_eq!(as_lines(&found), "-A: 1\n-B: 1\n+B: 2\\n3\n+D: 4\n");
        let one = |name: &str| vec![Difference { name: name.to_owned(), before: None, after: None }];
        let suspects = |settings: &[&str], tests: &[&str]| {
            let all = |names: &[&str]| names.iter().flat_map(|name| one(name)).collect();
            let (settings, tests) = (all(settings), all(tests));
            Differences { settings, tests, complete: true, ..Differences::default() }.suspects()
        };
        assert_eq!(suspects(&[], &[]), [Suspect::Chance]);
        assert_eq!(suspects(&["BUILD", "ISO_1", "ISO_URL"], &[]), [Suspect::Product]);
        assert_eq!(
            suspects(&["BUILD", "ISOLATED"], &["commit"]),
            [Suspect::Tests, Suspect::Settings, Suspect::Build]
        );
    }

    #[test]
    fn what_has_not_run_is_not_compared() {
        let map = |text: &str| {
            let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>()
        };
        let evidence = |settings: &str, tests: &str, environment: &str, ended| Evidence {
            settings: map(settings),
            tests: map(tests),
            environment: map(environment),
            assets: BTreeMap::new(),
            ended,
        };
        let good = evidence("BUILD=1", "commit=1 needles=1", "host=a", true);
        let suspects = |job: &Evidence| Differences::between(&good, job).suspects();
        assert_eq!(suspects(&evidence("BUILD=1", "", "", false)), []);
        assert_eq!(suspects(&evidence("BUILD=2", "", "host=b", false)), [Suspect::Product]);
        // What is known of one that runs is compared.
        let runs = evidence("BUILD=1", "commit=2", "host=b", false);
        assert_eq!(suspects(&runs), [Suspect::Tests]);
        assert_eq!(Differences::between(&good, &runs).tests.len(), 1);
        assert_eq!(suspects(&Evidence { ended: true, ..runs }), [Suspect::Tests, Suspect::Environment]);
        assert_eq!(suspects(&Evidence { ended: true, ..good.clone() }), [Suspect::Chance]);
    }
}
