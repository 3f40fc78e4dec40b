//! Builds as pages show them: what became of their jobs, in which order they come, who has looked at them.

use crate::web::frame::{Badge, Moment, percent_encoded};
use assay_engine::ids::{GroupId, Timestamp};
use assay_engine::job::StateWord;
use assay_engine::knowledge::words;
use assay_engine::outcome::Outcome;
use assay_engine::product::BuildTag;
use assay_proto::api::groups::{BuildCounts, GroupBuild as ToldBuild};
use assay_store::{BuildTally, Comment, CommentTarget, GroupBuild};
use serde::Serialize;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// A build's version and name.
pub(crate) type Name = (String, String);

/// What jobs of a build can be: the word that is counted, its badge, and how the matrix is asked for them.
const KINDS: [(&str, &str, &str); 7] = [
    ("passed", "passed", "result=passed"),
    ("softfailed", "softfailed", "result=softfailed"),
    ("failed", "failed", "result=failed"),
    ("incomplete", "incomplete", "result=incomplete,timeout_exceeded"),
    (
        "none",
        "cancelled",
        "result=user_cancelled,skipped,obsoleted,parallel_failed,parallel_restarted,user_restarted",
    ),
    ("running", "running", "state=assigned,setup,running,uploading"),
    ("scheduled", "scheduled", "state=scheduled"),
];

/// Which of [`KINDS`] a job is.
pub(crate) fn kind_of(state: StateWord, outcome: Option<Outcome>) -> usize {
    match outcome {
        Some(Outcome::Passed) => 0,
        Some(Outcome::Softfailed) => 1,
        Some(Outcome::Incomplete | Outcome::TimeoutExceeded) => 3,
        Some(outcome) if outcome.is_aborted() => 4,
        Some(_) => 2,
        None if state == StateWord::Scheduled => 6,
        None => 5,
    }
}

/// How many jobs are what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    by_kind: [u64; KINDS.len()],
    /// Of those that failed or are incomplete, how many have a comment.
    remarked: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, kind: usize, jobs: u64, remarked: u64) {
        self.by_kind[kind] += jobs;
        if matches!(kind, 2 | 3) {
            self.remarked += remarked;
        }
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.by_kind.iter_mut().zip(other.by_kind) {
            *mine += theirs;
        }
        self.remarked += other.remarked;
    }

    pub(crate) fn total(&self) -> u64 {
        self.by_kind.iter().sum()
    }

    /// Those that somebody has to look at.
    fn bad(&self) -> u64 {
        self.by_kind[2] + self.by_kind[3]
    }

    fn unfinished(&self) -> u64 {
        self.by_kind[5] + self.by_kind[6]
    }

    /// For programs.
    pub(crate) fn told(&self) -> BuildCounts {
        let [passed, softfailed, failed, incomplete, cancelled, running, scheduled] = self.by_kind;
        BuildCounts { passed, softfailed, failed, incomplete, cancelled, running, scheduled }
    }

    /// By openQA's words.
    fn words(&self) -> BTreeMap<&'static str, u64> {
        KINDS.iter().zip(self.by_kind).map(|((word, ..), jobs)| (*word, jobs)).collect()
    }
}

/// One of the counts, with the way to its jobs.
#[derive(Debug, Clone)]
pub(crate) struct Count {
    pub(crate) badge: Badge,
    pub(crate) jobs: u64,
    pub(crate) href: String,
}

/// Those counts that are not 0; `address` leads to the matrix and ends so that a parameter can follow.
pub(crate) fn counts(counts: &Counts, address: &str) -> Vec<Count> {
    let all = KINDS.iter().zip(counts.by_kind).filter(|(_, jobs)| *jobs > 0);
    all.map(|((_, badge, query), jobs)| Count {
        badge: Badge::of(badge),
        jobs,
        href: format!("{address}{query}"),
    })
    .collect()
}

/// A piece of the bar; in thousandths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) kind: &'static str,
    pub(crate) from: u64,
    pub(crate) width: u64,
}

/// The counts as a bar without gaps.
fn shares(counts: &Counts) -> Vec<Share> {
    let total = counts.total().max(1);
    let (mut shares, mut before) = (Vec::new(), 0);
    for ((_, kind, _), jobs) in KINDS.iter().zip(counts.by_kind).filter(|(_, jobs)| *jobs > 0) {
        let from = before * 1000 / total;
        before += jobs;
        shares.push(Share { kind, from, width: before * 1000 / total - from });
    }
    shares
}

/// Whether people have looked at what failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Review {
    /// Everything is over and passed.
    AllPassed,
    /// Every failure has a comment.
    Reviewed,
    /// Some have: so many of so many.
    Partly(u64, u64),
    /// There is nothing to say.
    None,
}

fn review(counts: &Counts) -> Review {
    match (counts.bad(), counts.remarked) {
        (0, _) if counts.unfinished() == 0 && counts.by_kind[4] == 0 => Review::AllPassed,
        (0, _) | (_, 0) => Review::None,
        (bad, remarked) if remarked >= bad => Review::Reviewed,
        (bad, remarked) => Review::Partly(remarked, bad),
    }
}

/// Nobody has to look at it any more.
fn is_reviewed(counts: &Counts) -> bool {
    matches!(review(counts), Review::Reviewed | Review::AllPassed)
}

/// A build as it is shown.
#[derive(Debug, Clone)]
pub(crate) struct BuildView {
    /// Unique among the builds of a group.
    pub(crate) key: String,
    pub(crate) label: String,
    pub(crate) href: String,
    pub(crate) newest: Moment,
    pub(crate) counts: Vec<Count>,
    pub(crate) shares: Vec<Share>,
    pub(crate) review: Review,
    pub(crate) tags: Vec<String>,
}

impl BuildView {
    /// The bar in words.
    pub(crate) fn spoken(&self) -> String {
        let said = |count: &Count| format!("{} {}", count.jobs, count.badge.label());
        self.counts.iter().map(said).collect::<Vec<_>>().join(", ")
    }
}

/// A build as JSON.
#[derive(Debug, Serialize)]
pub(super) struct BuildTold {
    build: String,
    version: String,
    distris: BTreeSet<String>,
    date: String,
    #[serde(flatten)]
    counts: BTreeMap<&'static str, u64>,
    reviewed: bool,
    total: u64,
    tags: Vec<String>,
}

/// What became of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Build {
    pub(super) counts: Counts,
    distris: BTreeSet<String>,
    pub(super) newest_at: Timestamp,
}

impl Build {
    fn add(&mut self, tally: &BuildTally) {
        self.counts.add(kind_of(tally.state, tally.outcome), tally.jobs, tally.remarked);
        self.distris.extend(tally.distri.clone());
        self.newest_at = self.newest_at.max(tally.newest_at);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.counts.merge(&other.counts);
        self.distris.extend(other.distris.iter().cloned());
        self.newest_at = self.newest_at.max(other.newest_at);
    }
}

/// Builds by group, and by version and name.
pub(super) fn by_group(tallies: &[BuildTally]) -> BTreeMap<GroupId, BTreeMap<Name, Build>> {
    let mut groups: BTreeMap<GroupId, BTreeMap<Name, Build>> = BTreeMap::new();
    for tally in tallies {
        let name = (tally.version.clone().unwrap_or_default(), tally.build.clone());
        groups.entry(tally.group).or_default().entry(name).or_default().add(tally);
    }
    groups
}

/// Compares texts so that numbers in them count as numbers: `20261121.n.2` is before `20261121.n.10`.
pub(super) fn natural(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    loop {
        let (Some(a), Some(b)) = (left.first(), right.first()) else {
            return left.len().cmp(&right.len());
        };
        let order = if a.is_ascii_digit() && b.is_ascii_digit() {
            let (many, more) = (digits(left), digits(right));
            let bare = |text: &[u8]| {
                let zeros = text.iter().take_while(|byte| **byte == b'0').count();
                text[zeros..].to_vec()
            };
            let (one, other) = (bare(&left[..many]), bare(&right[..more]));
            (left, right) = (&left[many..], &right[more..]);
            one.len().cmp(&other.len()).then(one.cmp(&other))
        } else {
            (left, right) = (&left[1..], &right[1..]);
            a.cmp(b)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// How a group wants its builds: openQA's `build_version_sort`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// The highest version first, and of a version the highest build.
    Version,
    /// The one with the newest job first.
    Newest,
    /// The one with the newest oldest job first.
    Oldest,
}

impl Sort {
    pub(super) fn of(number: Option<i64>) -> Self {
        match number {
            Some(0) => Self::Newest,
            Some(2) => Self::Oldest,
            _ => Self::Version,
        }
    }

    pub(super) fn compare(self, left: &GroupBuild, right: &GroupBuild) -> Ordering {
        let version = |build: &GroupBuild| build.version.clone().unwrap_or_default();
        match self {
            Self::Version => {
                natural(&version(right), &version(left)).then_with(|| natural(&right.build, &left.build))
            }
            Self::Newest => right.newest.cmp(&left.newest),
            Self::Oldest => right.oldest.cmp(&left.oldest),
        }
    }
}

/// A tag, and what its build is called.
type Tag = (BuildTag, String);

/// What comments on groups call their builds.
#[derive(Debug, Default)]
pub(crate) struct Tags(Vec<Tag>);

impl Tags {
    pub(crate) fn of(comments: &[Comment]) -> Self {
        let mut by_group: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
        for comment in comments {
            if let CommentTarget::Group(group) = comment.target {
                by_group.entry(group).or_default().push(&comment.text);
            }
        }
        let label = |tag: &words::TagWord<'_>| match tag.what {
            Some(what) => format!("{}: {what}", tag.kind),
            None => tag.kind.to_owned(),
        };
        let of_group = |(group, texts): (i64, Vec<&str>)| -> Vec<Tag> {
            let group = GroupId(group);
            let one =
                |tag: &words::TagWord<'_>| (BuildTag { group, build: tag.build.to_owned() }, label(tag));
            words::tags(texts).iter().map(one).collect()
        };
        Self(by_group.into_iter().flat_map(of_group).collect())
    }

    pub(crate) fn on(&self, group: GroupId, (version, build): &Name) -> Vec<String> {
        let fits = |(tag, _): &&Tag| tag.group == group && tag.is_of(version, build);
        let mut labels: Vec<_> = self.0.iter().filter(fits).map(|(_, label)| label.clone()).collect();
        labels.dedup();
        labels
    }
}

/// Whether a build with this tag is kept longer.
pub(crate) fn is_important(tag: &str) -> bool {
    tag == "important" || tag.starts_with("important: ")
}

/// How builds are told to people and programs.
pub(super) struct Teller<'a> {
    pub(super) now: Timestamp,
    pub(super) tags: &'a Tags,
}

impl Teller<'_> {
    /// The matrix of a build in some groups; ends so that a parameter can follow.
    fn address(groups: &[GroupId], (version, build): &Name, distris: &BTreeSet<String>) -> String {
        let mut address = "/tests/overview?".to_owned();
        for distri in distris {
            let _ = write!(address, "distri={}&", percent_encoded(distri));
        }
        if !version.is_empty() {
            let _ = write!(address, "version={}&", percent_encoded(version));
        }
        let _ = write!(address, "build={}&", percent_encoded(build));
        for group in groups {
            let _ = write!(address, "groupid={group}&");
        }
        address
    }

    fn tags(&self, groups: &[GroupId], name: &Name) -> Vec<String> {
        let mut tags: Vec<_> = groups.iter().flat_map(|group| self.tags.on(*group, name)).collect();
        tags.sort();
        tags.dedup();
        tags
    }

    pub(super) fn view(&self, groups: &[GroupId], name: &Name, build: &Build) -> BuildView {
        let address = Self::address(groups, name, &build.distris);
        let (version, number) = name;
        BuildView {
            key: format!("{version}-{number}"),
            label: if version.is_empty() { number.clone() } else { format!("{version} · {number}") },
            href: address.trim_end_matches('&').to_owned(),
            newest: Moment::new(build.newest_at, self.now),
            counts: counts(&build.counts, &address),
            shares: shares(&build.counts),
            review: review(&build.counts),
            tags: self.tags(groups, name),
        }
    }

    pub(super) fn told(&self, groups: &[GroupId], name: &Name, build: &Build) -> BuildTold {
        BuildTold {
            version: name.0.clone(),
            build: name.1.clone(),
            distris: build.distris.clone(),
            date: crate::web::frame::rfc3339(build.newest_at),
            counts: build.counts.words(),
            reviewed: is_reviewed(&build.counts),
            total: build.counts.total(),
            tags: self.tags(groups, name),
        }
    }

    /// The same for Assay's own API.
    pub(super) fn row(&self, groups: &[GroupId], name: &Name, build: &Build) -> ToldBuild {
        let tags = self.tags(groups, name);
        ToldBuild {
            version: name.0.clone(),
            build: name.1.clone(),
            distris: build.distris.iter().cloned().collect(),
            newest: crate::web::frame::rfc3339(build.newest_at),
            counts: build.counts.told(),
            total: build.counts.total(),
            reviewed: is_reviewed(&build.counts),
            important: tags.iter().any(|tag| is_important(tag)),
            tags,
            url: Self::address(groups, name, &build.distris).trim_end_matches('&').to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_engine::ids::JobId;
    use assay_store::CommentId;

    #[test]
    fn every_state_is_counted_as_one_kind() {
        for outcome in Outcome::ALL {
            let (_, badge, query) = KINDS[kind_of(StateWord::Done, Some(outcome))];
            assert!(query.split(['=', ',']).any(|word| word == outcome.openqa()), "{outcome:?}");
            assert_eq!(Badge::of(badge).kind, badge);
        }
        for state in StateWord::ALL.into_iter().filter(|state| !state.is_final()) {
            let query = KINDS[kind_of(state, None)].2;
            assert!(query.split(['=', ',']).any(|word| word == state.word()), "{state:?}");
        }
    }

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let ordered =
            ["", "0.1", "1", "1.2", "1.10", "20261121.n.2", "20261121.n.010", "20261121.n.11", "a", "a1"];
        for (at, left) in ordered.iter().enumerate() {
            for (beside, right) in ordered.iter().enumerate() {
                assert_eq!(natural(left, right), at.cmp(&beside), "{left:?} and {right:?}");
            }
        }
        let of = |version: &str, build: &str, newest, oldest| GroupBuild {
            group: GroupId(1),
            version: Some(version.into()),
            build: build.into(),
            newest: JobId(newest),
            oldest: JobId(oldest),
        };
        let (old, new) = (of("9", "10", 7, 1), of("10", "9", 6, 2));
        assert_eq!(Sort::of(None).compare(&new, &old), Ordering::Less);
        assert_eq!(Sort::of(Some(0)).compare(&new, &old), Ordering::Greater);
        assert_eq!(Sort::of(Some(2)).compare(&new, &old), Ordering::Less);
    }

    fn counted(by_kind: [u64; 7], remarked: u64) -> Counts {
        Counts { by_kind, remarked }
    }

    #[test]
    fn bars_have_no_gaps() {
        for by_kind in [[1, 1, 1, 0, 0, 0, 0], [7, 0, 3, 1, 0, 0, 9_989], [0; 7], [0, 0, 0, 0, 0, 0, 1]] {
            let all = shares(&counted(by_kind, 0));
            let mut at = 0;
            for share in &all {
                assert_eq!(share.from, at);
                at += share.width;
            }
            assert_eq!(at, if all.is_empty() { 0 } else { 1000 }, "{by_kind:?}");
        }
    }

    #[test]
    fn reviews() {
        for (by_kind, remarked, want) in [
            ([3, 1, 0, 0, 0, 0, 0], 0, Review::AllPassed),
            ([3, 0, 0, 0, 0, 1, 0], 0, Review::None),
            ([3, 0, 0, 0, 1, 0, 0], 0, Review::None),
            ([3, 0, 2, 0, 0, 0, 0], 0, Review::None),
            ([3, 0, 2, 1, 0, 0, 0], 2, Review::Partly(2, 3)),
            ([3, 0, 2, 1, 0, 0, 0], 3, Review::Reviewed),
        ] {
            assert_eq!(review(&counted(by_kind, remarked)), want);
        }
    }

    #[test]
    fn tags_fit_their_build() {
        let comment = |text: &str| Comment {
            id: CommentId(1),
            target: CommentTarget::Group(3),
            author: "ann".into(),
            text: text.into(),
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        };
        let tags = Tags::of(&[
            comment("tag:7:important"),
            comment("tag:43-Rawhide-8.n.0:published:GM"),
            comment("tag:9:important"),
            comment("tag:9:-important"),
            comment("hello"),
        ]);
        let on = |group, version: &str, build: &str| tags.on(GroupId(group), &(version.into(), build.into()));
        assert_eq!(on(3, "42", "7"), ["important"]);
        assert_eq!(on(3, "43", "Rawhide-8.n.0"), ["published: GM"]);
        assert_eq!((on(3, "42", "Rawhide-8.n.0"), on(3, "42", "9")), (vec![], vec![]));
        assert_eq!(on(4, "42", "7"), [""; 0]);
    }
}
