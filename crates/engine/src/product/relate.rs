//! Which of the possible jobs are made: filters, and what depends on what.

use super::request::Request;
use crate::relations::{Impossible, Node, Relation, check};
use crate::settings::Settings;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// A job that could be made, as far as its relatives matter.
pub(super) struct Candidate<'c> {
    pub(super) test: &'c str,
    pub(super) machine: &'c str,
    /// Its settings or, if they could not be made, its `PARALLEL_WITH`.
    pub(super) settings: Result<&'c Settings, &'c str>,
}

impl<'c> Candidate<'c> {
    /// What it says of its parents of one kind. Of a job that cannot be made only those beside it matter: they cannot
    /// run without it.
    fn parents(&self, relation: Relation) -> &'c str {
        match self.settings {
            Ok(settings) => settings.get(relation.setting()).unwrap_or_default(),
            Err(beside) if relation == Relation::Parallel => beside,
            Err(_) => "",
        }
    }
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
            for word in job.parents(relation).split(',').map(str::trim).filter(|word| !word.is_empty()) {
                match names.find(candidates, job, word) {
                    Ok((found, note)) => {
                        parents.extend(found.into_iter().map(|parent| (relation, parent)));
                        let sentence = |note| {
                            format!("{}@{}: {}={word}: {note}", job.test, job.machine, relation.setting())
                        };
                        related.notes.extend(note.map(|note| (place, sentence(note))));
                    }
                    // Where settings are wrong, a name may be as well.
                    Err(_) if job.settings.is_err() => {}
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
    // What cannot be made needs nobody.
    let needed = parents.iter().zip(candidates);
    let needed = needed.map(|(parents, job)| if job.settings.is_ok() { &parents[..] } else { &[][..] });
    follow(&mut choices, &needed.collect::<Vec<_>>());
    choices
}

/// Takes along whatever can be reached from those that are made.
fn follow(choices: &mut [Choice], edges: &[impl AsRef<[(Relation, usize)]>]) {
    let made = |choice: Choice| matches!(choice, Choice::Chosen | Choice::Along);
    let mut open: Vec<usize> = (0..choices.len()).filter(|place| made(choices[*place])).collect();
    while let Some(place) = open.pop() {
        for (_, next) in edges[place].as_ref() {
            if !made(choices[*next]) {
                choices[*next] = Choice::Along;
                open.push(*next);
            }
        }
    }
}

/// Why a job is not made with whose own settings nothing is wrong: a relative that it needs cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Lacking {
    /// It would have to start after that one, or beside it.
    #[error("{}: {parent} could not be made{why}", relation.setting())]
    Parent { relation: Relation, parent: String, why: Why },
    /// That one would have to start beside it.
    #[error("{child}, which runs in parallel with it, could not be made{why}")]
    Child { child: String, why: Why },
}

/// Why a relative cannot be made, as the end of the sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Why {
    /// Something is wrong with its settings.
    #[error(": {0}")]
    Own(String),
    /// It lacks somebody else.
    #[error(", because {0} could not")]
    Without(String),
}

/// For each job that cannot be made, why: `own` is what is wrong with its settings, its cluster could never run, or a
/// relative that it needs cannot be made. Nothing runs without a parent that was meant to be there; of a parallel cluster
/// all are made, or none.
pub(super) fn unmade(nodes: &[Node], own: &[&[String]]) -> Vec<Vec<String>> {
    let composed = |place: usize| own[place].is_empty();
    let known = nodes.iter().enumerate().map(|(place, node)| {
        let parents = node.parents.iter().filter(|(_, parent)| composed(place) && composed(*parent));
        Node { parents: parents.copied().collect(), ..node.clone() }
    });
    let impossible = impossible(&known.collect::<Vec<_>>());
    let lacking = lacking(nodes, own);
    let problems = own.iter().zip(&impossible).zip(&lacking).map(|((own, impossible), lacking)| {
        let mut problems = own.to_vec();
        problems.extend(impossible.as_ref().map(ToString::to_string));
        problems.extend(lacking.iter().map(ToString::to_string));
        problems
    });
    problems.collect()
}

/// For each job the relatives that it needs and that cannot be made.
fn lacking(nodes: &[Node], own: &[&[String]]) -> Vec<Vec<Lacking>> {
    let lost = lost(nodes, own);
    let why = |place: usize, loss: Loss| match loss.through {
        None => Why::Own(own[place].join("; ")),
        Some(_) => Why::Without(nodes[loss.cause].name.clone()),
    };
    let mut lacking = vec![Vec::new(); nodes.len()];
    for (place, node) in nodes.iter().enumerate() {
        for (relation, parent) in node.parents.iter().filter(|(_, parent)| *parent != place) {
            // Whoever was lost for the sake of the other is no reason for it.
            if let Some(loss) = lost[*parent].filter(|loss| loss.through != Some(place)) {
                let (parent, why) = (nodes[*parent].name.clone(), why(*parent, loss));
                lacking[place].push(Lacking::Parent { relation: *relation, parent, why });
            }
            let through = lost[*parent].and_then(|loss| loss.through);
            let counts = |loss: &Loss| loss.through.is_none() || through == Some(place);
            if let Some(loss) = lost[place].filter(counts)
                && *relation == Relation::Parallel
            {
                let (child, why) = (node.name.clone(), why(place, loss));
                lacking[*parent].push(Lacking::Child { child, why });
            }
        }
    }
    lacking
}

/// How a job came not to be made.
#[derive(Debug, Clone, Copy)]
struct Loss {
    /// The job with whose settings something is wrong.
    cause: usize,
    /// The relative for whose sake it is not made; none, if it is the cause itself.
    through: Option<usize>,
}

/// For each job that has no settings, or needs one that has none, however far away: how that came.
fn lost(nodes: &[Node], own: &[&[String]]) -> Vec<Option<Loss>> {
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (place, node) in nodes.iter().enumerate() {
        for (relation, parent) in &node.parents {
            needed_by[*parent].push(place);
            if *relation == Relation::Parallel {
                needed_by[place].push(*parent);
            }
        }
    }
    let itself =
        |(cause, own): (usize, &&[String])| (!own.is_empty()).then_some(Loss { cause, through: None });
    let mut lost: Vec<Option<Loss>> = own.iter().enumerate().map(itself).collect();
    let mut open: VecDeque<usize> = lost.iter().flatten().map(|loss| loss.cause).collect();
    while let Some(place) = open.pop_front() {
        let Some(Loss { cause, .. }) = lost[place] else { continue };
        for next in &needed_by[place] {
            if lost[*next].is_none() {
                lost[*next] = Some(Loss { cause, through: Some(place) });
                open.push_back(*next);
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
