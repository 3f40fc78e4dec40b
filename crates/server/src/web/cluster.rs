//! What a job depends on and what depends on it, as a drawing: who starts later is further to the right, and who runs in
//! parallel is one above the other.

use super::frame::Badge;
use assay_engine::ids::JobId;
use assay_engine::relations::{Parent, Relation};
use assay_store::StoredJob;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The most jobs of a drawing: those nearest to the job it is about.
const MOST: usize = 60;
/// Sizes, in pixels.
const BOX: (i64, i64) = (226, 46);
const GAP: (i64, i64) = (58, 16);
const EDGE: i64 = 10;
/// Characters of a name in a box.
const NAME: usize = 24;

/// A job in the drawing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) job: JobId,
    pub(super) name: String,
    pub(super) full: String,
    pub(super) badge: Badge,
    pub(super) current: bool,
    pub(super) x: i64,
    pub(super) y: i64,
}

/// A line from a parent to its child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) kind: &'static str,
    pub(super) path: String,
    pub(super) title: String,
}

/// The drawing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Drawing {
    pub(super) width: i64,
    pub(super) height: i64,
    pub(super) nodes: Vec<Node>,
    pub(super) lines: Vec<Line>,
    /// Relations that are in it, each with the class of its lines.
    pub(super) legend: Vec<(&'static str, &'static str)>,
    /// Jobs of the cluster that are not in it.
    pub(super) left_out: usize,
}

/// A job as it is drawn.
#[derive(Debug, Clone)]
pub(super) struct Member {
    job: JobId,
    label: String,
    word: &'static str,
    parents: Vec<Parent>,
}

impl From<&StoredJob> for Member {
    fn from(job: &StoredJob) -> Self {
        let state = &job.row.state;
        Self {
            job: job.row.id,
            label: job.row.label(),
            word: state.end().map_or_else(|| state.word().word(), |end| end.outcome.openqa()),
            parents: job.row.parents.clone(),
        }
    }
}

fn kind(relation: Relation) -> (&'static str, &'static str) {
    match relation {
        Relation::Chained => ("chained", "starts after"),
        Relation::DirectlyChained => ("direct", "starts directly after"),
        Relation::Parallel => ("parallel", "runs in parallel with"),
    }
}

/// The members that are nearest to `about`, by their numbers.
fn nearest(members: &[Member], about: JobId) -> BTreeSet<JobId> {
    let mut beside: BTreeMap<JobId, Vec<JobId>> = BTreeMap::new();
    for member in members {
        for parent in &member.parents {
            beside.entry(member.job).or_default().push(parent.job);
            beside.entry(parent.job).or_default().push(member.job);
        }
    }
    let known: BTreeSet<JobId> = members.iter().map(|member| member.job).collect();
    let (mut near, mut queue) = (BTreeSet::from([about]), VecDeque::from([about]));
    while let Some(job) = queue.pop_front() {
        for next in beside.get(&job).into_iter().flatten() {
            if near.len() < MOST && known.contains(next) && near.insert(*next) {
                queue.push_back(*next);
            }
        }
    }
    near
}

/// The column of each member: right of all that it starts after, and that of all that it runs in parallel with.
fn columns(members: &[&Member]) -> BTreeMap<JobId, usize> {
    let mut column: BTreeMap<JobId, usize> = members.iter().map(|member| (member.job, 0)).collect();
    // Each round brings at least one job to its place; there are no circles, and if there were, this would end.
    for _ in 0..members.len() {
        let mut moved = false;
        for member in members {
            for parent in &member.parents {
                let (Some(&own), Some(&other)) = (column.get(&member.job), column.get(&parent.job)) else {
                    continue;
                };
                let (wanted, pulled) = match parent.relation {
                    Relation::Parallel => (other, own),
                    Relation::Chained | Relation::DirectlyChained => (other + 1, other),
                };
                if wanted > own && wanted < members.len() {
                    column.insert(member.job, wanted);
                    moved = true;
                }
                if pulled > other {
                    column.insert(parent.job, pulled);
                    moved = true;
                }
            }
        }
        if !moved {
            break;
        }
    }
    column
}

/// The place of each member within its column: beside what it starts after, those of one parallel group together.
fn rows(members: &[&Member], column: &BTreeMap<JobId, usize>) -> BTreeMap<JobId, usize> {
    let mut row: BTreeMap<JobId, usize> = BTreeMap::new();
    let last = column.values().max().copied().unwrap_or(0);
    for at in 0..=last {
        let mut here: Vec<(usize, JobId, JobId)> = Vec::new();
        for member in members.iter().filter(|member| column[&member.job] == at) {
            let first = member.parents.iter().find(|parent| parent.relation == Relation::Parallel);
            let group = first.map_or(member.job, |parent| parent.job);
            let leader = members.iter().find(|other| other.job == group).unwrap_or(member);
            let before =
                leader.parents.iter().chain(&member.parents).filter_map(|parent| row.get(&parent.job));
            here.push((before.min().copied().unwrap_or(0), group, member.job));
        }
        here.sort_unstable();
        for (place, (_, _, job)) in here.into_iter().enumerate() {
            row.insert(job, place);
        }
    }
    row
}

fn line(relation: Relation, from: &Node, to: &Node) -> Line {
    let (class, words) = kind(relation);
    let middle = |node: &Node| node.y + BOX.1 / 2;
    let path = if relation == Relation::Parallel {
        // Along the right side of the boxes.
        let (x, bulge) = (from.x + BOX.0, from.x + BOX.0 + GAP.0 / 2);
        format!(
            "M{x} {} C{bulge} {}, {bulge} {}, {} {}",
            middle(from),
            middle(from),
            middle(to),
            to.x + BOX.0,
            middle(to)
        )
    } else {
        let (x, half) = (from.x + BOX.0, GAP.0 / 2);
        format!(
            "M{x} {} C{} {}, {} {}, {} {}",
            middle(from),
            x + half,
            middle(from),
            to.x - half,
            middle(to),
            to.x,
            middle(to)
        )
    };
    Line { kind: class, path, title: format!("{} {words} {}", to.full, from.full) }
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    let short: String = name.chars().take(NAME - 1).collect();
    format!("{short}…")
}

impl Drawing {
    /// The drawing for one of the members; none if it has no relatives.
    pub(super) fn of(members: &[Member], about: JobId) -> Option<Self> {
        let near = nearest(members, about);
        if near.len() < 2 {
            return None;
        }
        let drawn: Vec<&Member> = members.iter().filter(|member| near.contains(&member.job)).collect();
        let column = columns(&drawn);
        let row = rows(&drawn, &column);
        let place = |at: usize, size: i64, gap: i64| EDGE + at as i64 * (size + gap);
        let nodes: Vec<Node> = drawn
            .iter()
            .map(|member| Node {
                job: member.job,
                name: shortened(&member.label),
                full: member.label.clone(),
                badge: Badge::of(member.word),
                current: member.job == about,
                x: place(column[&member.job], BOX.0, GAP.0),
                y: place(row[&member.job], BOX.1, GAP.1),
            })
            .collect();
        let (mut lines, mut legend) = (Vec::new(), Vec::new());
        for (member, to) in drawn.iter().zip(&nodes) {
            for parent in &member.parents {
                let Some(from) = nodes.iter().find(|node| node.job == parent.job) else { continue };
                lines.push(line(parent.relation, from, to));
                if !legend.contains(&kind(parent.relation)) {
                    legend.push(kind(parent.relation));
                }
            }
        }
        legend.sort_unstable();
        let far = |of: fn(&Node) -> i64| nodes.iter().map(of).max().unwrap_or(0);
        Some(Self {
            width: far(|node| node.x) + BOX.0 + GAP.0 / 2 + EDGE,
            height: far(|node| node.y) + BOX.1 + EDGE,
            lines,
            legend,
            left_out: members.len() - drawn.len(),
            nodes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(job: i64, parents: &[(Relation, i64)]) -> Member {
        let parents = parents.iter().map(|(relation, job)| Parent { relation: *relation, job: JobId(*job) });
        Member {
            job: JobId(job),
            label: format!("test{job}@64bit"),
            word: "passed",
            parents: parents.collect(),
        }
    }

    use Relation::{Chained, DirectlyChained, Parallel};

    #[test]
    fn who_starts_later_is_further_right() {
        let members = [
            member(1, &[]),
            member(2, &[(Chained, 1)]),
            member(3, &[(DirectlyChained, 2)]),
            member(4, &[(Chained, 1), (Parallel, 5)]),
            member(5, &[(Chained, 3)]),
            member(6, &[]),
        ];
        let drawing = Drawing::of(&members, JobId(2)).expect("a drawing");
        let at = |job: i64| {
            let node = drawing.nodes.iter().find(|node| node.job == JobId(job)).expect("drawn");
            ((node.x - EDGE) / (BOX.0 + GAP.0), (node.y - EDGE) / (BOX.1 + GAP.1))
        };
        assert_eq!([at(1), at(2), at(3)], [(0, 0), (1, 0), (2, 0)]);
        assert_eq!((at(4).0, at(5).0), (3, 3), "in parallel");
        assert_ne!(at(4), at(5));
        assert_eq!((drawing.lines.len(), drawing.left_out), (5, 1));
        assert_eq!(
            drawing.legend.iter().map(|(class, _)| *class).collect::<Vec<_>>(),
            ["chained", "direct", "parallel"]
        );
        assert!(
            drawing
                .nodes
                .iter()
                .all(|node| node.x + BOX.0 <= drawing.width && node.y + BOX.1 <= drawing.height)
        );
        assert_eq!(Drawing::of(&members, JobId(6)), None);
    }

    #[test]
    fn large_and_broken_clusters_are_drawn_too() {
        let mut many = vec![member(1, &[])];
        many.extend((2..=500).map(|job| member(job, &[(Chained, 1)])));
        let drawing = Drawing::of(&many, JobId(7)).expect("a drawing");
        assert_eq!((drawing.nodes.len(), drawing.left_out), (MOST, 440));
        let mut places: Vec<_> = drawing.nodes.iter().map(|node| (node.x, node.y)).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), MOST, "no two are in one place");
        let circle = [member(1, &[(Chained, 2)]), member(2, &[(Chained, 1), (Parallel, 9)])];
        assert_eq!(Drawing::of(&circle, JobId(1)).expect("a drawing").nodes.len(), 2);
    }
}
