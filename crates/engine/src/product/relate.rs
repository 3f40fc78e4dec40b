//! Which of the possible jobs are made: filters, and what depends on what.

use super::request::Request;
use crate::relations::{Impossible, Node, Relation, check};
use crate::settings::Settings;
use std::collections::{BTreeMap, HashMap};

/// A job that could be made, as far as its relatives matter.
pub(super) struct Candidate<'c> {
    pub(super) test: &'c str,
    pub(super) machine: &'c str,
    /// None, if they could not be made.
    pub(super) settings: Option<&'c Settings>,
}

/// The parents of each candidate, and what is wrong with their names.
#[derive(Default)]
pub(super) struct Related {
    pub(super) parents: Vec<Vec<(Relation, usize)>>,
    pub(super) missing: Vec<Vec<String>>,
    /// Parents that were taken from another machine than the child's: the child, and a sentence.
    pub(super) notes: Vec<(usize, String)>,
}

/// The candidates by their names.
struct Names<'c> {
    by_test: BTreeMap<&'c str, Vec<usize>>,
    by_both: HashMap<(&'c str, &'c str), Vec<usize>>,
}

/// Reads all dependencies.
pub(super) fn relate(candidates: &[Candidate<'_>], request: &Request) -> Related {
    let mut names = Names { by_test: BTreeMap::new(), by_both: HashMap::new() };
    for (place, job) in candidates.iter().enumerate() {
        names.by_test.entry(job.test).or_default().push(place);
        names.by_both.entry((job.test, job.machine)).or_default().push(place);
    }
    let mut related = Related::default();
    for (place, job) in candidates.iter().enumerate() {
        let (mut parents, mut missing) = (Vec::new(), Vec::new());
        for relation in Relation::ALL {
            if request.skip_chained && relation != Relation::Parallel {
                continue;
            }
            let text = job.settings.and_then(|settings| settings.get(relation.setting())).unwrap_or_default();
            for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
                match names.find(candidates, job, word) {
                    Ok((found, note)) => {
                        parents.extend(found.into_iter().map(|parent| (relation, parent)));
                        let sentence = |note| {
                            format!("{}@{}: {}={word}: {note}", job.test, job.machine, relation.setting())
                        };
                        related.notes.extend(note.map(|note| (place, sentence(note))));
                    }
                    Err(why) => missing.push(format!("{}={word} not found: {why}", relation.setting())),
                }
            }
        }
        parents.sort_unstable();
        parents.dedup();
        related.parents.push(parents);
        related.missing.push(missing);
    }
    related
}

impl Names<'_> {
    /// The candidates that `word` means: `suite`, `suite@machine` or the older `suite:machine`.
    fn find(
        &self,
        candidates: &[Candidate<'_>],
        child: &Candidate<'_>,
        word: &str,
    ) -> Result<(Vec<usize>, Option<String>), String> {
        let named = word.rsplit_once('@').or_else(|| {
            // A colon may also belong to the name.
            word.rsplit_once(':').filter(|_| !self.by_test.contains_key(word))
        });
        let named = named.filter(|(test, machine)| !test.is_empty() && !machine.is_empty());
        let (test, machine) = named.unwrap_or((word, child.machine));
        if let Some(found) = self.by_both.get(&(test, machine)) {
            return Ok((found.clone(), None));
        }
        let Some(elsewhere) = self.by_test.get(test) else {
            let hint = super::nearest(test, self.by_test.keys().copied());
            return Err(format!(
                "this post has no scenario {test}{hint}; correct the name, or add a template for it"
            ));
        };
        let mut machines: Vec<&str> = elsewhere.iter().map(|place| candidates[*place].machine).collect();
        machines.sort_unstable();
        machines.dedup();
        match machines.as_slice() {
            [only] if named.is_none() => {
                let note = format!("{test} runs on {only} only, and is taken from there");
                Ok((elsewhere.clone(), Some(note)))
            }
            _ => Err(format!(
                "{test} does not run on {machine}, but on {}; write for example {test}@{}",
                machines.join(", "),
                machines[0]
            )),
        }
    }
}

/// Why a candidate is made or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// The filters fit.
    Chosen,
    /// A chosen one needs it.
    Along,
    /// `TEST` names others.
    Test,
    /// `MACHINE` names others.
    Machine,
}

/// Applies the filters, and takes along what the chosen ones need.
pub(super) fn choose(
    candidates: &[Candidate<'_>],
    parents: &[Vec<(Relation, usize)>],
    request: &Request,
) -> Vec<Choice> {
    let fits = |wanted: &[String], name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    let choice = |job: &Candidate<'_>| {
        if !fits(&request.tests, job.test) {
            Choice::Test
        } else if fits(&request.machines, job.machine) {
            Choice::Chosen
        } else {
            Choice::Machine
        }
    };
    let mut choices: Vec<Choice> = candidates.iter().map(choice).collect();
    if request.include_children {
        let mut children: Vec<Vec<(Relation, usize)>> = vec![Vec::new(); candidates.len()];
        for (place, parents) in parents.iter().enumerate() {
            for (relation, parent) in parents {
                children[*parent].push((*relation, place));
            }
        }
        follow(&mut choices, &children);
    }
    follow(&mut choices, parents);
    choices
}

/// Takes along whatever can be reached from those that are made.
fn follow(choices: &mut [Choice], edges: &[Vec<(Relation, usize)>]) {
    let made = |choice: Choice| matches!(choice, Choice::Chosen | Choice::Along);
    let mut open: Vec<usize> = (0..choices.len()).filter(|place| made(choices[*place])).collect();
    while let Some(place) = open.pop() {
        for (_, next) in &edges[place] {
            if !made(choices[*next]) {
                choices[*next] = Choice::Along;
                open.push(*next);
            }
        }
    }
}

/// For each job that cannot be made, why: `own` is what is wrong with its settings, its cluster could never run, or a
/// parent cannot be made. Nothing runs without a parent that was meant to be there.
pub(super) fn unmade(nodes: &[Node], own: &[&[String]]) -> Vec<Vec<String>> {
    let composed = |(_, parent): &&(Relation, usize)| own[*parent].is_empty();
    let known = nodes.iter().map(|node| Node {
        parents: node.parents.iter().filter(composed).copied().collect(),
        ..node.clone()
    });
    let impossible = impossible(&known.collect::<Vec<_>>());
    let lost = lost(nodes, own);
    let sentence = |(relation, parent): &(Relation, usize)| {
        let (cause, name) = (lost[*parent]?, &nodes[*parent].name);
        Some(if cause == *parent {
            let why = own[cause].join("; ");
            format!("{}: {name} could not be made: {why}", relation.setting())
        } else {
            let cause = &nodes[cause].name;
            format!("{}: {name} could not be made, because {cause} could not", relation.setting())
        })
    };
    let problems = nodes.iter().enumerate().map(|(place, node)| {
        let mut problems = own[place].to_vec();
        problems.extend(impossible[place].as_ref().map(ToString::to_string));
        problems.extend(node.parents.iter().filter_map(sentence));
        problems
    });
    problems.collect()
}

/// For each job that has no settings, or depends on one that has none, however far away: that one.
fn lost(nodes: &[Node], own: &[&[String]]) -> Vec<Option<usize>> {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (place, node) in nodes.iter().enumerate() {
        for (_, parent) in &node.parents {
            children[*parent].push(place);
        }
    }
    let mut lost: Vec<Option<usize>> =
        own.iter().enumerate().map(|(place, own)| (!own.is_empty()).then_some(place)).collect();
    let mut open: Vec<usize> = lost.iter().flatten().copied().collect();
    while let Some(place) = open.pop() {
        for child in &children[place] {
            if lost[*child].is_none() {
                lost[*child] = lost[place];
                open.push(*child);
            }
        }
    }
    lost
}

/// For each job whose cluster can never run, why. A cluster that cannot run takes no other one with it.
fn impossible(nodes: &[Node]) -> Vec<Option<Impossible>> {
    let mut found: Vec<Option<Impossible>> = vec![None; nodes.len()];
    if check(nodes).is_ok() {
        return found;
    }
    for cluster in clusters(nodes) {
        let mut at = HashMap::new();
        for (index, place) in cluster.iter().enumerate() {
            at.insert(*place, index);
        }
        let own = cluster.iter().map(|place| {
            let node = nodes[*place].clone();
            let parents = node.parents.iter().map(|(relation, parent)| (*relation, at[parent])).collect();
            Node { parents, ..node }
        });
        if let Err(why) = check(&own.collect::<Vec<_>>()) {
            for place in cluster {
                found[place] = Some(why.clone());
            }
        }
    }
    found
}

/// The jobs that hang together, however they do.
fn clusters(nodes: &[Node]) -> Vec<Vec<usize>> {
    let mut beside: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (place, node) in nodes.iter().enumerate() {
        for (_, parent) in &node.parents {
            beside[place].push(*parent);
            beside[*parent].push(place);
        }
    }
    let mut seen = vec![false; nodes.len()];
    let mut clusters = Vec::new();
    for start in 0..nodes.len() {
        if std::mem::replace(&mut seen[start], true) {
            continue;
        }
        let mut cluster = Vec::new();
        let mut open = vec![start];
        while let Some(place) = open.pop() {
            cluster.push(place);
            for next in &beside[place] {
                if !std::mem::replace(&mut seen[*next], true) {
                    open.push(*next);
                }
            }
        }
        cluster.sort_unstable();
        clusters.push(cluster);
    }
    clusters
}

/// An order in which parents come before their children and nothing else changes its place. There must be no circle.
pub(super) fn parents_first(parents: &[Vec<(Relation, usize)>]) -> Vec<usize> {
    let mut order = Vec::with_capacity(parents.len());
    let mut placed = vec![false; parents.len()];
    for start in 0..parents.len() {
        let mut path = vec![(start, 0)];
        while let Some((place, next)) = path.last_mut() {
            if placed[*place] {
                path.pop();
            } else if let Some((_, parent)) = parents[*place].get(*next) {
                *next += 1;
                if !placed[*parent] {
                    path.push((*parent, 0));
                }
            } else {
                placed[*place] = true;
                order.push(*place);
            }
        }
    }
    order
}
