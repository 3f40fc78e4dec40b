//! Whose turn it is among jobs of equal priority.
//!
//! Jobs belong to parties: each job group is one, the jobs without a group are one, and so are the gate's builds. Of the
//! parties that wait for the same slots, the one comes first that has fewest of them, and among equals the one that was
//! served longest ago; so a party with thousands of jobs cannot keep one with a single job waiting. What a party has is
//! counted by worker class, and the scarcest class of a job decides, so that whoever has many common slots has not
//! forfeited a rare one. What runs follows from the rows of attempts, and who was served when is stored: after a restart
//! the choice is the same.

use crate::ids::{AttemptId, FencingToken, GroupId, JobId};
use crate::rows::{JobRow, ShareRow};
use crate::settings::ClassSet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Those whose jobs wait for each other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// The builds of the gate.
    Gate,
    /// The jobs without a group.
    Ungrouped,
    /// The jobs of a group.
    Group(GroupId),
}

impl Party {
    /// The party that a job belongs to.
    pub fn of(job: &JobRow) -> Self {
        match job.group {
            _ if crate::state::State::build_of(job).is_some() => Self::Gate,
            Some(group) => Self::Group(group),
            None => Self::Ungrouped,
        }
    }

    /// As it is stored: a group's number, 0 for no group, and -1 for the gate.
    pub fn number(self) -> i64 {
        match self {
            Self::Gate => -1,
            Self::Ungrouped => 0,
            Self::Group(group) => group.0,
        }
    }

    /// The party with this number.
    pub fn from_number(number: i64) -> Self {
        match number {
            -1 => Self::Gate,
            0 => Self::Ungrouped,
            group => Self::Group(GroupId(group)),
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gate => f.write_str("the gate"),
            Self::Ungrouped => f.write_str("the jobs without a group"),
            Self::Group(group) => write!(f, "group {group}"),
        }
    }
}

/// A job's place in a line: the least is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn {
    pub(crate) priority: i32,
    /// How many slots its party has.
    running: u32,
    /// When its party last got one.
    served: FencingToken,
    pub(crate) job: JobId,
}

/// What each party has, and when it last got something.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shares {
    by_party: BTreeMap<Party, BTreeMap<String, Share>>,
    /// What each running attempt counts for.
    counted: BTreeMap<AttemptId, (Party, ClassSet)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Share {
    running: u32,
    /// 0 for a party that never got anything.
    served: i64,
}

impl Shares {
    pub(crate) fn stored(rows: Vec<ShareRow>) -> Self {
        let mut shares = Self::default();
        for row in rows {
            let share = Share { running: 0, served: row.served.0 };
            shares.by_party.entry(row.party).or_default().insert(row.class, share);
        }
        shares
    }

    /// What is stored.
    pub(crate) fn rows(&self) -> Vec<ShareRow> {
        let of = |(party, classes): (&Party, &BTreeMap<String, Share>)| {
            let party = *party;
            let row = move |(class, share): (&String, &Share)| ShareRow {
                party,
                class: class.clone(),
                served: FencingToken(share.served),
            };
            classes.iter().filter(|(_, share)| share.served > 0).map(row).collect::<Vec<_>>()
        };
        self.by_party.iter().flat_map(of).collect()
    }

    /// How many attempts of a party run that need a class.
    #[cfg(test)]
    fn running(&self, party: Party, class: &str) -> u32 {
        self.by_party.get(&party).and_then(|classes| classes.get(class)).map_or(0, |share| share.running)
    }

    /// An attempt runs.
    pub(crate) fn begin(&mut self, attempt: AttemptId, party: Party, classes: &ClassSet) {
        self.end(attempt);
        let shares = self.by_party.entry(party).or_default();
        for class in classes.iter() {
            shares.entry(class.to_owned()).or_default().running += 1;
        }
        self.counted.insert(attempt, (party, classes.clone()));
    }

    /// An attempt has ended.
    pub(crate) fn end(&mut self, attempt: AttemptId) {
        let Some((party, classes)) = self.counted.remove(&attempt) else { return };
        let Some(shares) = self.by_party.get_mut(&party) else { return };
        for class in classes.iter() {
            if let Some(share) = shares.get_mut(class) {
                share.running -= 1;
            }
        }
    }

    /// A party has got a slot; the rows say so.
    pub(crate) fn serve(&mut self, party: Party, classes: &ClassSet, served: FencingToken) -> Vec<ShareRow> {
        let shares = self.by_party.entry(party).or_default();
        let row = |class: &str| {
            shares.entry(class.to_owned()).or_default().served = served.0;
            ShareRow { party, class: class.to_owned(), served }
        };
        classes.iter().map(row).collect()
    }

    /// What counts for a party where these classes are wanted.
    fn share(&self, party: Party, classes: &ClassSet) -> Share {
        let Some(shares) = self.by_party.get(&party) else { return Share::default() };
        let of = |class| shares.get(class).copied().unwrap_or_default();
        classes.iter().map(of).min().unwrap_or_default()
    }
}

/// Jobs that wait for the same: by priority, and at equal priority each party's by number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line {
    jobs: BTreeMap<i32, BTreeMap<Party, BTreeSet<JobId>>>,
    /// How many jobs each party has here.
    parties: BTreeMap<Party, usize>,
}

impl Line {
    pub(crate) fn insert(&mut self, priority: i32, party: Party, job: JobId) {
        if self.jobs.entry(priority).or_default().entry(party).or_default().insert(job) {
            *self.parties.entry(party).or_default() += 1;
        }
    }

    /// False if the job is not here.
    pub(crate) fn remove(&mut self, priority: i32, party: Party, job: JobId) -> bool {
        let Some(parties) = self.jobs.get_mut(&priority) else { return false };
        let Some(jobs) = parties.get_mut(&party) else { return false };
        let was_there = jobs.remove(&job);
        if jobs.is_empty() {
            parties.remove(&party);
        }
        if parties.is_empty() {
            self.jobs.remove(&priority);
        }
        if was_there && let Some(count) = self.parties.get_mut(&party) {
            *count -= 1;
            if *count == 0 {
                self.parties.remove(&party);
            }
        }
        was_there
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// How many parties wait here.
    pub(crate) fn parties(&self) -> usize {
        self.parties.len()
    }

    /// Whose turn it is.
    pub(crate) fn first(&self, classes: &ClassSet, shares: &Shares) -> Option<Turn> {
        let (priority, parties) = self.jobs.first_key_value()?;
        let turn = |(party, jobs): (&Party, &BTreeSet<JobId>)| {
            let Share { running, served } = shares.share(*party, classes);
            let job = *jobs.first()?;
            Some(Turn { priority: *priority, running, served: FencingToken(served), job })
        };
        parties.iter().filter_map(turn).min()
    }

    /// All jobs with their priority; at equal priority, party by party.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i32, JobId)> {
        self.jobs
            .iter()
            .flat_map(|(priority, parties)| parties.values().flatten().map(|job| (*priority, *job)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn classes(index: usize) -> ClassSet {
        ClassSet::parse(["x", "x,tap", "y", "x,y"][index % 4])
    }

    /// Slots are given one by one, by turn, until nothing waits; each is held for some rounds.
    fn serve_all(waits: &[usize], kind: usize, hold: usize) -> Vec<Party> {
        let (mut line, mut shares) = (Line::default(), Shares::default());
        let mut number = 0;
        for (party, count) in waits.iter().enumerate() {
            for _ in 0..*count {
                number += 1;
                line.insert(50, Party::from_number(party as i64), JobId(number));
            }
        }
        let mut order = Vec::new();
        while let Some(turn) = line.first(&classes(kind), &shares) {
            let party = (0..waits.len() as i64)
                .map(Party::from_number)
                .find(|party| line.remove(50, *party, turn.job))
                .expect("the job is in the line");
            let attempt = |index: usize| AttemptId { job: JobId(index as i64 + 1), number: 1 };
            shares.begin(attempt(order.len()), party, &classes(kind));
            shares.serve(party, &classes(kind), FencingToken(order.len() as i64 + 1));
            if order.len() >= hold {
                shares.end(attempt(order.len() - hold));
            }
            order.push(party);
        }
        order
    }

    proptest! {
        /// While two parties wait, neither gets more than one slot more than the other.
        #[test]
        fn whoever_waits_gets_as_much_as_others(
            waits in prop::collection::vec(1_usize..40, 1..6), kind in 0_usize..4, hold in 0_usize..7,
        ) {
            let order = serve_all(&waits, kind, hold);
            prop_assert_eq!(order.len(), waits.iter().sum::<usize>());
            let mut got = vec![0_usize; waits.len()];
            for party in order {
                got[party.number() as usize] += 1;
                let waiting = || (0..waits.len()).filter(|party| got[*party] < waits[*party]);
                for (one, other) in waiting().flat_map(|one| waiting().map(move |other| (one, other))) {
                    prop_assert!(got[one].abs_diff(got[other]) <= 1, "{got:?} of {waits:?}");
                }
            }
        }

        /// What is counted is what has begun and has not ended, whatever the order.
        #[test]
        fn what_runs_is_counted(steps in prop::collection::vec((any::<bool>(), 1_i64..6, 0_i64..3, 0_usize..4), 0..60)) {
            let mut shares = Shares::default();
            let mut running: BTreeMap<i64, (i64, usize)> = BTreeMap::new();
            for (begins, job, party, kind) in steps {
                let attempt = AttemptId { job: JobId(job), number: 1 };
                if begins {
                    shares.begin(attempt, Party::from_number(party), &classes(kind));
                    running.insert(job, (party, kind));
                } else {
                    shares.end(attempt);
                    running.remove(&job);
                }
                for (party, class) in (0..3).flat_map(|party| ["x", "tap", "y"].map(|class| (party, class))) {
                    let wanted = ClassSet::parse(class);
                    let really = running.values().filter(|(p, k)| *p == party && classes(*k).offers(&wanted));
                    prop_assert_eq!(shares.running(Party::from_number(party), class) as usize, really.count());
                }
            }
        }
    }

    /// A party whose common slots are many still has its turn at a rare one, and a job with two classes buys no second
    /// share of the common one.
    #[test]
    fn the_scarcest_class_decides() {
        let (common, rare, both) = (ClassSet::parse("x"), ClassSet::parse("y"), ClassSet::parse("x,y"));
        let (a, b) = (Party::from_number(1), Party::from_number(2));
        let mut shares = Shares::default();
        for number in 1..=9 {
            shares.begin(AttemptId { job: JobId(number), number: 1 }, a, &common);
            shares.serve(a, &common, FencingToken(number));
        }
        shares.serve(b, &rare, FencingToken(10));
        let mut line = Line::default();
        line.insert(50, a, JobId(20));
        line.insert(50, b, JobId(19));
        let next = |classes: &ClassSet| line.first(classes, &shares).map(|turn| turn.job);
        assert_eq!(next(&common), Some(JobId(19)), "A has nine of them");
        assert_eq!(next(&rare), Some(JobId(20)), "B was served last, and A's other slots do not count");
        assert_eq!(next(&both), Some(JobId(19)), "neither has ever had both; the lower number is first");
        line.insert(40, a, JobId(21));
        assert_eq!(
            line.first(&common, &shares).map(|turn| turn.job),
            Some(JobId(21)),
            "priority comes before all"
        );
    }
}
