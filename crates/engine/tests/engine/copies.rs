//! Copies of clusters, some jobs of which were started anew before, by whatever options.

use assay_engine::ids::JobId;
use assay_engine::job::StateWord;
use assay_engine::outcome::Outcome;
use assay_engine::relations::{Node, Parent, ParentRef, Relation, check};
use assay_engine::sched::restart::{
    JobFacts, Places, RestartOptions, RestartRequest, parents_of_clone, plan,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

type Jobs = BTreeMap<JobId, JobFacts>;

const OUTCOMES: [Outcome; 3] = [Outcome::Passed, Outcome::Failed, Outcome::Skipped];

/// What a job becomes: it waits, or ends somehow.
fn standing(which: usize) -> (StateWord, Option<Outcome>) {
    match OUTCOMES.get(which) {
        Some(outcome) => (StateWord::Done, Some(*outcome)),
        None => (StateWord::Scheduled, None),
    }
}

fn job(id: JobId, label: &str, parents: Vec<Parent>, standing: (StateWord, Option<Outcome>)) -> JobFacts {
    let (state, outcome) = standing;
    JobFacts { id, label: label.to_owned(), state, outcome, parents, cloned_as: None }
}

/// The jobs 1, 2, …, each with a scenario of its own; none if they could never run.
fn cluster(edges: &[(usize, usize, usize)], standings: &[usize]) -> Option<Jobs> {
    let count = standings.len();
    let mut parents: Vec<BTreeMap<usize, Relation>> = vec![BTreeMap::new(); count];
    for (child, parent, relation) in edges {
        let (child, parent) = (child % count, parent % count);
        if parent < child {
            parents[child].insert(parent, Relation::ALL[*relation]);
        }
    }
    let node = |(place, parents): (usize, &BTreeMap<usize, Relation>)| Node {
        name: place.to_string(),
        classes: String::new(),
        parents: parents.iter().map(|(parent, relation)| (*relation, *parent)).collect(),
    };
    check(&parents.iter().enumerate().map(node).collect::<Vec<_>>()).ok()?;
    let id = |place: usize| JobId(place as i64 + 1);
    let made = parents.iter().enumerate().map(|(place, parents)| {
        let parents =
            parents.iter().map(|(parent, relation)| Parent { relation: *relation, job: id(*parent) });
        let label = format!("scenario {place}");
        (id(place), job(id(place), &label, parents.collect(), standing(standings[place])))
    });
    Some(made.collect())
}

fn request(job: JobId, options: u32, copy_only: bool) -> RestartRequest {
    let set = |bit: u32| options & (1 << bit) != 0;
    let options = RestartOptions {
        force: true,
        skip_parents: set(0),
        skip_children: set(1),
        skip_ok_result_children: set(2),
        copy_only,
        ..RestartOptions::default()
    };
    RestartRequest { jobs: vec![job], options, by: "ann".to_owned(), plan_only: false }
}

/// Carries out a restart as the engine does.
fn start_anew(jobs: &mut Jobs, request: &RestartRequest, standings: &[usize]) {
    let planned = plan(jobs, request).expect("forced");
    let old: Vec<JobId> = planned.clones.iter().map(|clone| clone.job.job).collect();
    let first = jobs.len() as i64 + 1;
    let places = Places::new(jobs, &old);
    let mut made = Vec::new();
    for (place, id) in old.iter().enumerate() {
        let parents =
            parents_of_clone(jobs, &places, &jobs[id]).into_iter().map(|(relation, parent)| match parent {
                ParentRef::Job(job) => Parent { relation, job },
                ParentRef::Posted(place) => Parent { relation, job: JobId(first + place as i64) },
            });
        let own = standing(standings[place % standings.len()]);
        made.push(job(JobId(first + place as i64), &jobs[id].label, parents.collect(), own));
    }
    for (id, new) in old.iter().zip(made) {
        let before = jobs.get_mut(id).expect("a job");
        before.cloned_as = Some(new.id);
        if before.outcome.is_none() {
            (before.state, before.outcome) = (StateWord::Cancelled, Some(Outcome::Skipped));
        }
        jobs.insert(new.id, new);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_scenario_is_twice_in_a_copy(
        edges in prop::collection::vec((0..7_usize, 0..7_usize, 0..3_usize), 0..9),
        standings in prop::collection::vec(0..4_usize, 1..7),
        restarts in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u32), 0..5),
        (which, options) in (any::<prop::sample::Index>(), 0..8_u32),
    ) {
        let jobs = cluster(&edges, &standings);
        prop_assume!(jobs.is_some());
        let mut jobs = jobs.expect("a cluster");
        for (which, options) in restarts {
            let root = JobId(which.index(jobs.len()) as i64 + 1);
            start_anew(&mut jobs, &request(root, options, false), &standings);
        }
        let root = JobId(which.index(jobs.len()) as i64 + 1);
        let copy = plan(&jobs, &request(root, options, true)).expect("forced");
        let copied: Vec<JobId> = copy.clones.iter().map(|clone| clone.job.job).collect();
        let scenarios: BTreeSet<&str> = copied.iter().map(|id| jobs[id].label.as_str()).collect();
        prop_assert!(copied.contains(&root));
        prop_assert_eq!(scenarios.len(), copied.len(), "{:?} of {:?}", copied, jobs);
        prop_assert!(copy.ends.is_empty());
        for stay in &copy.stays {
            prop_assert!(!scenarios.contains(stay.job.label.as_str()), "{} stays and is copied", stay.job);
        }
        // What a copied job depends on is the copy, if there is one.
        let places = Places::new(&jobs, &copied);
        for id in &copied {
            let parents = parents_of_clone(&jobs, &places, &jobs[id]);
            for Parent { relation, job: parent } in &jobs[id].parents {
                let place = copied.iter().position(|other| jobs[other].label == jobs[parent].label);
                if let Some(place) = place {
                    prop_assert!(parents.contains(&(*relation, ParentRef::Posted(place))), "{parents:?}");
                }
            }
        }
    }
}
