//! How jobs depend on each other, and which dependencies can be met at all.

use crate::ids::JobId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What a job has to do with its parent. The words and numbers are openQA's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// It starts when the parent has passed.
    Chained,
    /// It starts when the parent has passed, on the same slot, with nothing between.
    DirectlyChained,
    /// They start together.
    Parallel,
}

impl Relation {
    /// Every relation.
    pub const ALL: [Self; 3] = [Self::Chained, Self::DirectlyChained, Self::Parallel];

    /// openQA's number for it.
    pub fn number(self) -> i64 {
        match self {
            Self::Chained => 1,
            Self::Parallel => 2,
            Self::DirectlyChained => 3,
        }
    }

    /// The relation with openQA's number `number`.
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|relation| relation.number() == number)
    }

    /// The name of its key among the parents and children of a job in openQA's API.
    pub fn openqa(self) -> &'static str {
        match self {
            Self::Chained => "Chained",
            Self::DirectlyChained => "Directly chained",
            Self::Parallel => "Parallel",
        }
    }

    /// The setting of a test suite that asks for it.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Chained => "START_AFTER_TEST",
            Self::DirectlyChained => "START_DIRECTLY_AFTER_TEST",
            Self::Parallel => "PARALLEL_WITH",
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chained => "starts after",
            Self::DirectlyChained => "starts directly after",
            Self::Parallel => "runs in parallel with",
        })
    }
}

/// A parent of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Parent {
    /// What the child has to do with it.
    pub relation: Relation,
    /// Which job.
    pub job: JobId,
}

/// A parent of a job that has no number yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ParentRef {
    /// A job of the same request, by its place in it, from 0.
    Posted(usize),
    /// A job that exists.
    Job(JobId),
}

/// A job as [`check`] sees it: its name for people, its worker classes as text, and its parents among the other jobs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Shown in the message, for example `install@64bit`.
    pub name: String,
    /// Its `WORKER_CLASS`.
    pub classes: String,
    /// Its parents by place.
    pub parents: Vec<(Relation, usize)>,
}

/// Why dependencies can never be met. `Display` names the path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// Every job on the path waits for the next one, and the last for the first.
    #[error("the jobs depend on each other in a circle: {}; take one of these dependencies away", path.join(", which "))]
    Cycle {
        /// Each entry is a job and its relation to the next one; the last entry names the first job again.
        path: Vec<String>,
    },
    /// A slot has one worker, and the jobs of a direct chain want different ones.
    #[error(
        "job {child} starts directly after {parent} on the same slot, but {child} needs the classes {needs} and {parent} needs \
         {has}; give both the same WORKER_CLASS"
    )]
    Classes {
        /// The job.
        child: String,
        /// Its direct parent.
        parent: String,
        /// What the job needs.
        needs: String,
        /// What the parent needs.
        has: String,
    },
    /// It would have to start at two moments.
    #[error(
        "job {job} starts directly after {parent} and also runs in parallel with {relative}, which are two moments; let it start \
         after {parent} only (START_AFTER_TEST), or make {parent} the parallel one"
    )]
    TwoMoments {
        /// The job.
        job: String,
        /// Its direct parent.
        parent: String,
        /// Its parallel relative.
        relative: String,
    },
    /// It would have to start directly after two jobs.
    #[error(
        "job {job} starts directly after {first} and directly after {second}; only one job can be the one before"
    )]
    TwoDirectParents {
        /// The job.
        job: String,
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// There is no such place in the request.
    #[error("job {job} names parent number {parent} of the request, which has only {count} jobs")]
    NoSuchParent {
        /// The job.
        job: String,
        /// The number, from 1.
        parent: usize,
        /// How many jobs there are.
        count: usize,
    },
}

/// Finds out whether the dependencies of `jobs` can be met: the first thing that makes it impossible.
pub fn check(jobs: &[Node]) -> Result<(), Impossible> {
    for job in jobs {
        let outside = |(_, parent): &&(Relation, usize)| *parent >= jobs.len();
        if let Some((_, parent)) = job.parents.iter().find(outside) {
            let (job, count) = (job.name.clone(), jobs.len());
            return Err(Impossible::NoSuchParent { job, parent: parent + 1, count });
        }
    }
    let alone: Vec<usize> = (0..jobs.len()).collect();
    if let Some(path) = circle(jobs, &alone, |_| true) {
        return Err(Impossible::Cycle { path });
    }
    let units = units(jobs);
    if let Some(path) = circle(jobs, &units, |relation| relation == Relation::Chained) {
        return Err(Impossible::Cycle { path });
    }
    check_direct(jobs)
}

/// The place of the first job of the unit that each job belongs to: jobs that begin together, with what follows them directly.
fn units(jobs: &[Node]) -> Vec<usize> {
    let mut unit: Vec<usize> = (0..jobs.len()).collect();
    let find = |unit: &[usize], mut at: usize| {
        while unit[at] != at {
            at = unit[at];
        }
        at
    };
    for (place, job) in jobs.iter().enumerate() {
        for (_, parent) in job.parents.iter().filter(|(relation, _)| *relation != Relation::Chained) {
            let (a, b) = (find(&unit, place), find(&unit, *parent));
            let root = a.min(b);
            unit[a.max(b)] = root;
            unit[place] = root; // keeps the paths short
        }
    }
    (0..jobs.len()).map(|place| find(&unit, place)).collect()
}

fn check_direct(jobs: &[Node]) -> Result<(), Impossible> {
    let mut parallel: BTreeMap<usize, usize> = BTreeMap::new();
    for (place, job) in jobs.iter().enumerate() {
        for (_, parent) in job.parents.iter().filter(|(relation, _)| *relation == Relation::Parallel) {
            parallel.entry(place).or_insert(*parent);
            parallel.entry(*parent).or_insert(place);
        }
    }
    let name = |place: usize| jobs[place].name.clone();
    for (place, job) in jobs.iter().enumerate() {
        let direct = job.parents.iter().filter(|(relation, _)| *relation == Relation::DirectlyChained);
        let direct: BTreeSet<usize> = direct.map(|(_, parent)| *parent).collect();
        let mut direct = direct.into_iter();
        let Some(parent) = direct.next() else { continue };
        if let Some(second) = direct.next() {
            let (first, second) = (name(parent), name(second));
            return Err(Impossible::TwoDirectParents { job: name(place), first, second });
        }
        if let Some(relative) = parallel.get(&place) {
            let (parent, relative) = (name(parent), name(*relative));
            return Err(Impossible::TwoMoments { job: name(place), parent, relative });
        }
        if job.classes != jobs[parent].classes {
            return Err(Impossible::Classes {
                child: name(place),
                parent: name(parent),
                needs: job.classes.clone(),
                has: jobs[parent].classes.clone(),
            });
        }
    }
    Ok(())
}

/// A step of a walk: a job, and how its unit was left for the next one.
#[derive(Clone, Copy)]
struct Edge {
    from: usize,
    relation: Relation,
    to: usize,
}

/// A way along `counts` edges from child to parent that comes back to the unit where it began.
fn circle(jobs: &[Node], unit: &[usize], counts: impl Fn(Relation) -> bool) -> Option<Vec<String>> {
    let alone = unit.iter().enumerate().all(|(place, unit)| place == *unit);
    let mut edges: BTreeMap<usize, Vec<Edge>> = BTreeMap::new();
    for (from, job) in jobs.iter().enumerate() {
        for (relation, to) in &job.parents {
            let within = unit[from] == unit[*to] && !alone;
            let follows = within && follows_directly(jobs, from, *to);
            if counts(*relation) && !follows {
                edges.entry(unit[from]).or_default().push(Edge { from, relation: *relation, to: *to });
            }
        }
    }
    let mut done: BTreeSet<usize> = BTreeSet::new();
    for start in 0..jobs.len() {
        if unit[start] != start || done.contains(&start) {
            continue;
        }
        // A walk without recursion: chains may be long.
        let mut path: Vec<(usize, usize)> = vec![(start, 0)];
        let mut on_path: BTreeSet<usize> = BTreeSet::from([start]);
        let mut taken: Vec<Edge> = Vec::new();
        while let Some((at, next)) = path.last_mut() {
            let at = *at;
            let Some(edge) = edges.get(&at).and_then(|edges| edges.get(*next)).copied() else {
                path.pop();
                taken.pop();
                on_path.remove(&at);
                done.insert(at);
                continue;
            };
            *next += 1;
            let to = unit[edge.to];
            if on_path.contains(&to) {
                taken.push(edge);
                let begin = path.iter().position(|(place, _)| *place == to).unwrap_or(0);
                return Some(told(jobs, &taken[begin..]));
            }
            if !done.contains(&to) {
                on_path.insert(to);
                path.push((to, 0));
                taken.push(edge);
            }
        }
    }
    None
}

/// True if `job` comes somewhere after `ancestor` in one direct chain, where being chained to it says nothing new.
fn follows_directly(jobs: &[Node], job: usize, ancestor: usize) -> bool {
    let mut at = job;
    for _ in 0..jobs.len() {
        let direct = jobs[at].parents.iter().find(|(relation, _)| *relation == Relation::DirectlyChained);
        let Some((_, parent)) = direct else { return false };
        if *parent == ancestor {
            return true;
        }
        at = *parent;
    }
    false
}

fn told(jobs: &[Node], edges: &[Edge]) -> Vec<String> {
    let mut path = Vec::new();
    for (index, edge) in edges.iter().enumerate() {
        let next = edges[(index + 1) % edges.len()].from;
        path.push(match index {
            0 => format!("{} {} {}", jobs[edge.from].name, edge.relation, jobs[edge.to].name),
            _ => format!("{} {}", edge.relation, jobs[edge.to].name),
        });
        if next != edge.to {
            path.push(format!("belongs together with {}", jobs[next].name));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use Relation::{Chained, DirectlyChained, Parallel};

    fn nodes(edges: &[(usize, Relation, usize)]) -> Vec<Node> {
        let count = edges.iter().flat_map(|(a, _, b)| [*a, *b]).max().map_or(0, |most| most + 1);
        let name = |place: usize| char::from(b'a' + u8::try_from(place).expect("few jobs")).to_string();
        let parents = |place| {
            let own = edges.iter().filter(move |(child, ..)| *child == place);
            own.map(|(_, relation, parent)| (*relation, *parent)).collect()
        };
        (0..count)
            .map(|place| Node { name: name(place), classes: "x".to_owned(), parents: parents(place) })
            .collect()
    }

    #[test]
    fn what_can_be_met_and_what_cannot() {
        for (edges, expected) in [
            (vec![], ""),
            (vec![(1, Chained, 0), (2, Chained, 1), (2, Chained, 0)], ""),
            (vec![(1, Parallel, 0), (2, Parallel, 0), (3, Chained, 2)], ""),
            (
                vec![
                    (1, DirectlyChained, 0),
                    (2, DirectlyChained, 1),
                    (3, DirectlyChained, 0),
                    (2, Chained, 0),
                ],
                "",
            ),
            // A chain may begin beside others.
            (vec![(1, Parallel, 0), (2, DirectlyChained, 1)], ""),
            (vec![(0, Chained, 0)], "a starts after a"),
            (
                vec![(0, Chained, 1), (1, Chained, 2), (2, Chained, 1)],
                "b starts after c, which starts after b",
            ),
            (
                vec![(0, Parallel, 1), (1, Parallel, 0)],
                "a runs in parallel with b, which runs in parallel with a",
            ),
            (
                vec![(0, DirectlyChained, 1), (1, Parallel, 2), (2, Chained, 0)],
                "a starts directly after b, which runs in parallel with c, which starts after a",
            ),
            // Together and one after the other.
            (
                vec![(1, Parallel, 0), (2, Chained, 0), (1, Chained, 2)],
                "b starts after c, which starts after a, which belongs together with b",
            ),
            (vec![(1, Parallel, 0), (1, Chained, 0)], "b starts after a, which belongs together with b"),
            // Something between the links of a direct chain.
            (
                vec![(1, DirectlyChained, 0), (2, Chained, 0), (1, Chained, 2)],
                "b starts after c, which starts after a, which belongs together with b",
            ),
            (
                vec![(1, DirectlyChained, 0), (2, Parallel, 1)],
                "job b starts directly after a and also runs in parallel with c",
            ),
            (
                vec![(2, DirectlyChained, 0), (2, DirectlyChained, 1)],
                "job c starts directly after a and directly after b",
            ),
        ] {
            let found = check(&nodes(&edges)).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(
                found.contains(expected) && found.is_empty() == expected.is_empty(),
                "{edges:?}: {found}"
            );
        }
        let mut other = nodes(&[(1, DirectlyChained, 0)]);
        other[1].classes = "y".to_owned();
        assert!(
            check(&other).expect_err("classes").to_string().contains("needs the classes y and a needs x")
        );
        let outside = Node { name: "a".to_owned(), classes: String::new(), parents: vec![(Chained, 7)] };
        assert!(check(&[outside]).expect_err("outside").to_string().contains("parent number 8"));
    }

    #[test]
    fn long_chains_are_walked_without_a_stack() {
        let jobs = |edges: &[(Relation, usize)]| -> Vec<Node> {
            let mut nodes = vec![Node::default(); edges.len() + 1];
            for (place, edge) in edges.iter().enumerate() {
                nodes[place + 1].parents.push(*edge);
            }
            nodes
        };
        for relation in Relation::ALL {
            let edges: Vec<_> = (0..20_000).map(|place| (relation, place)).collect();
            assert_eq!(check(&jobs(&edges)), Ok(()), "{relation:?}");
        }
    }
}
