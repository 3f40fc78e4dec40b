//! Each invariant is tried on a lie: a checker that finds nothing proves nothing.

use super::*;
use crate::oracle;
use crate::player::Player;
use crate::scenario::{ChangeSpec, OneOrMore, Scenario, Source, Step};
use crate::simulate::{breaks, compiled, pipeline};
use crate::world::HoldRule;
use assay_engine::gate::config::{JobDef, JobNode, MergeMode, Project};
use assay_engine::gate::ids::Oid;
use assay_engine::gate::io::{BuildResult, Input};
use assay_engine::gate::item::{Build, ItemEnd};
use assay_engine::gate::reason::EvictReason;
use assay_engine::gate::rows::GateRow;

fn config(nodes: Vec<JobNode>) -> Arc<Config> {
    let gate = pipeline("gate", Manager::Dependent, "comment-added", &[("Approved", 1)], 2);
    let pipelines = BTreeMap::from([(gate.name.clone(), nodes)]);
    let project = Project { name: "p".into(), merge_mode: MergeMode::Merge, pipelines };
    let jobs = ["one", "two"].map(|name| (name.into(), Arc::new(JobDef::new(name))));
    Arc::new(Config {
        hash: "lies".to_owned(),
        projects: BTreeMap::from([(project.name.clone(), Arc::new(project))]),
        pipelines: vec![Arc::new(gate)],
        jobs: BTreeMap::from(jobs),
        ..Config::default()
    })
}

fn nodes(names: &[&str]) -> Vec<JobNode> {
    names.iter().map(|name| JobNode { job: (*name).into(), children: Vec::new() }).collect()
}

/// Two changes of one project are let in; the second one's jobs run until somebody releases them.
fn begun() -> World {
    let spec = || ChangeSpec { project: "p".to_owned(), ..ChangeSpec::default() };
    let scenario = Scenario {
        config: Some(Source::Compiled(config(nodes(&["one", "two"])))),
        changes: BTreeMap::from([(1, spec()), (2, spec())]),
        timed: true,
        ..Scenario::default()
    };
    let mut player = Player::new(&scenario, &compiled).expect("a scenario");
    player.world.checks.whole_every = 1;
    player.world.holds.push(held());
    for number in [1, 2] {
        player.step(&Step::Approve(OneOrMore::One(number))).expect("approved");
    }
    player.world
}

fn held() -> HoldRule {
    HoldRule { job: "*".to_owned(), of: Some(2) }
}

/// The first item as it was before it is landed, and as it is when that is decided.
fn landing() -> (World, Item, Item) {
    let mut world = begun();
    loop {
        let item = world.database.items.values().next();
        if let Some(item) = item.filter(|item| matches!(item.phase, ItemPhase::Landing { .. })) {
            let after = item.as_ref().clone();
            let before = Item { phase: ItemPhase::Testing, ..after.clone() };
            return (world, before, after);
        }
        let due = world.next_due().expect("something is to come");
        world.run_until(due);
    }
}

/// Both have landed and everything is told.
fn over() -> World {
    let (mut world, ..) = landing();
    world.release(&held(), None);
    assert!(world.drain(10_000));
    assert_eq!(world.merged, [1, 2]);
    world
}

/// What is found if this is about to be stored.
fn on_save(world: &mut World, before: Option<&Item>, item: &Item) -> Vec<&'static str> {
    let mut checks = std::mem::take(&mut world.checks);
    checks.item_saved(world, before, item);
    checks.violations.iter().map(|found| found.invariant).collect()
}

fn on_look(world: &mut World, look: fn(&mut Checks, &World)) -> Vec<&'static str> {
    let mut checks = std::mem::take(&mut world.checks);
    look(&mut checks, world);
    checks.violations.iter().map(|found| found.invariant).collect()
}

fn request(item: &mut Item) -> &mut LandRequest {
    match &mut item.phase {
        ItemPhase::Landing { request, .. } => request,
        other => panic!("{other:?}"),
    }
}

fn first_build(item: &Item) -> Build {
    item.buildset.jobs[0].state.build().expect("it was run").clone()
}

fn ended(item: &Item, outcome: ItemOutcome, failures: Vec<FailReason>, world: &World) -> Item {
    Item { phase: ItemPhase::Ended(ItemEnd { outcome, at: world.now, failures }), ..item.clone() }
}

#[test]
fn a_lie_about_a_landing_is_found() {
    type Lie = fn(&mut World, &mut Item);
    let (mut world, before, after) = landing();
    assert_eq!(on_save(&mut world, Some(&before), &after), <[&str; 0]>::default(), "the truth is no lie");
    let lies: [(&str, &str, Lie); 12] = [
        ("I4", "somebody is before it and does not fail", |world, _| {
            world.checks.order.values_mut().for_each(|order| order.reverse());
        }),
        ("I1", "another tree", |_, item| request(item).members[0].tested.tree = Oid::from("0".repeat(40))),
        ("I1", "a state that nobody made", |world, _| world.states.clear()),
        ("I2", "a job that failed", |_, item| {
            let mut build = first_build(item);
            build.result = Some(BuildResult::failure());
            item.buildset.jobs[0].state = JobState::Ended(build);
        }),
        ("I2", "a job that is left out", |_, item| {
            item.buildset.jobs.remove(1);
        }),
        ("I2", "a job that became a parent's child and was skipped", |_, item| {
            item.buildset.jobs[1].state = JobState::Skipped;
        }),
        ("I4", "something is ahead", |_, item| item.ahead = Some(ItemId(99))),
        ("I4", "only some of its changes", |_, item| request(item).members.clear()),
        ("I5", "a build that never was", |world, _| world.builds.clear()),
        ("I5", "a result from another tree", |world, item| {
            world.builds.get_mut(&first_build(item).uuid).expect("a build").state = None;
        }),
        ("I5", "a result of a job that did something else", |world, item| {
            let record = world.builds.get_mut(&first_build(item).uuid).expect("a build");
            Arc::make_mut(&mut record.job).env.insert("EDITION".to_owned(), "0".to_owned());
        }),
        ("I6", "no jobs", |world, item| {
            world.database.config = Some(config(Vec::new()));
            item.buildset.jobs.clear();
        }),
    ];
    for (invariant, what, lie) in lies {
        let (mut world, before, mut after) = landing();
        lie(&mut world, &mut after);
        let found = on_save(&mut world, Some(&before), &after);
        assert!(found.contains(&invariant), "{what}: {found:?}");
    }
}

#[test]
fn a_lie_about_an_item_is_found() {
    let (mut world, before, after) = landing();
    let item = world.database.items[&ItemId(after.id.0 + 1)].as_ref().clone();

    let twin = Item { id: ItemId(77), ..item.clone() };
    assert!(on_save(&mut world, None, &twin).contains(&"I28"), "a change twice");

    let mut anew = item.clone();
    anew.buildset.number += 1;
    anew.buildset.because = None;
    assert!(on_save(&mut world, Some(&item), &anew).contains(&"I8"), "anew for no reason");
    assert!(on_save(&mut world, Some(&anew), &item).contains(&"I20"), "back to an older buildset");

    let failed = FailReason::JobFailed { jobs: vec!["one".into()] };
    let blamed = ended(&before, ItemOutcome::Failed, vec![failed], &world);
    assert!(on_save(&mut world, Some(&before), &blamed).contains(&"I8"), "no job failed");
    let blamed = ended(&before, ItemOutcome::Failed, Vec::new(), &world);
    assert!(on_save(&mut world, Some(&before), &blamed).contains(&"I8"), "no reason");
    assert!(on_save(&mut world, Some(&blamed), &before).contains(&"I20"), "alive again");

    let landed = ended(&after, ItemOutcome::Landed { tips: Vec::new() }, Vec::new(), &world);
    assert!(on_save(&mut world, Some(&after), &landed).contains(&"I1"), "not merged");
    let evicted = ItemOutcome::Evicted { reason: EvictReason::NotSubmittable { what: "no".to_owned() } };
    let evicted = ended(&before, evicted, Vec::new(), &world);
    assert!(on_save(&mut world, Some(&before), &evicted).contains(&"I7"), "it can be submitted");

    let mut world = over();
    let item = world.database.ended.values().next().expect("an item").as_ref().clone();
    let model = world.gerrit.changes.get_mut(&1).expect("a change");
    model.patchsets.push(model.newest().clone());
    assert!(on_save(&mut world, Some(&after), &item).contains(&"I3"), "not the newest patchset");
    let tip = world.merged_tips.get_mut(&1).expect("a tip");
    tip.1.tree = Oid::from("0".repeat(40));
    assert!(on_save(&mut world, Some(&after), &item).contains(&"I1"), "another tree is in the branch");
}

/// The second item's first build, which runs.
fn running(world: &World) -> Uuid {
    let live = world.build_order.iter().find(|uuid| world.builds[*uuid].is_live());
    *live.expect("a build that is held")
}

/// The gate as if it had been told this of an item.
fn rewrite(world: &mut World, id: ItemId, lie: impl FnOnce(&mut Item)) {
    let mut item = world.database.items[&id].as_ref().clone();
    lie(&mut item);
    world.database.save(GateRow::Item(Arc::new(item)));
    world.gate = Gate::rebuild(world.database.rows(), 0);
}

#[test]
fn a_lie_about_what_runs_is_found() {
    type Lie = fn(&mut World);
    let whole: fn(&mut Checks, &World) = Checks::whole;
    let (mut world, ..) = landing();
    assert_eq!(on_look(&mut world, whole), <[&str; 0]>::default(), "the truth is no lie");
    let lies: [(&str, &str, Lie); 6] = [
        ("I9", "a build ran away", |world| {
            let build = running(world);
            world.builds.get_mut(&build).expect("a build").phase = BuildState::Cancelled;
        }),
        ("I9", "a build that nobody wants", |world| {
            let build = running(world);
            world.checks.live.insert((ItemId(99), "one".into()), build);
            let item = world.builds[&build].item;
            rewrite(world, item, |item| item.buildset.jobs[0].state = JobState::Waiting);
        }),
        ("I16", "a job that could run", |world| {
            let item = world.builds[&running(world)].item;
            rewrite(world, item, |item| item.buildset.jobs[0].state = JobState::Waiting);
        }),
        ("I24", "a wait for a build that does not run", |world| world.checks.live.clear()),
        ("I25", "on something that fails", |world| {
            let first = *world.database.items.keys().next().expect("an item");
            rewrite(world, first, |item| {
                item.phase = ItemPhase::Testing;
                let mut build = first_build(item);
                build.result = Some(BuildResult::failure());
                item.buildset.jobs[0].state = JobState::Ended(build);
            });
        }),
        ("I28", "not what is stored", |world| {
            world.database.items.pop_last();
        }),
    ];
    for (invariant, what, lie) in lies {
        let (mut world, ..) = landing();
        lie(&mut world);
        let found = on_look(&mut world, whole);
        assert!(found.contains(&invariant), "{what}: {found:?}");
    }
}

#[test]
fn a_build_too_many_is_found() {
    let (mut world, ..) = landing();
    let record = world.builds[&running(&world)].clone();
    let mut checks = std::mem::take(&mut world.checks);
    checks.build_starts(&world, &record);
    let again =
        BuildRecord { uuid: world.builds.keys().copied().find(|it| *it != record.uuid).unwrap(), ..record };
    checks.build_starts(&world, &again);
    let found: Vec<_> = checks.violations.iter().map(|found| found.invariant).collect();
    assert!(found.iter().filter(|it| **it == "I10").count() >= 2, "{found:?}");

    // Two that hold one semaphore.
    let (mut world, ..) = landing();
    for record in world.builds.values_mut().filter(|record| record.is_live()) {
        Arc::make_mut(&mut record.job).semaphores.insert("one".into());
    }
    world.checks.semaphores_in_use = true;
    assert!(on_look(&mut world, Checks::after_step).contains(&"I15"));

    // A build that says it tests what is not in its tree.
    let (mut world, ..) = landing();
    let mut record = world.builds[&running(&world)].clone();
    record.changes.pop();
    world.builds.clear();
    let mut checks = Checks::default();
    checks.build_starts(&world, &record);
    assert!(checks.violations.iter().any(|found| found.invariant == "I5"), "{:?}", checks.violations);
}

#[test]
fn a_lie_at_the_end_is_found() {
    let at_end: fn(&mut Checks, &World) = Checks::at_end;
    let mut world = over();
    assert_eq!(on_look(&mut world, at_end), <[&str; 0]>::default(), "the truth is no lie");

    let (mut world, ..) = landing();
    assert!(on_look(&mut world, at_end).contains(&"I24"), "somebody still waits");

    let mut world = over();
    world.delivered.clear();
    assert!(on_look(&mut world, at_end).contains(&"I19"), "nobody was told");

    let (mut world, ..) = landing();
    let by = crate::gerrit::person("reviewer");
    world.gerrit.vote(2, "Code-Review", -2, &by, world.now);
    assert!(on_look(&mut world, at_end).contains(&"I18"), "a vote that the gate does not know");

    let (mut world, ..) = landing();
    let build = running(&world);
    world.feed_again(Input::BuildEnded { build, result: BuildResult::failure() });
    assert!(
        world.checks.violations.iter().any(|found| found.invariant == "I17"),
        "not the same answer again"
    );
}

#[test]
fn a_lie_against_the_serial_gate_is_found() {
    type Lie = fn(&mut World);
    assert_eq!(oracle::differences(&mut over()), [], "the truth is no lie");
    let lies: [(&str, Lie); 5] = [
        ("another order", |world| world.checks.order.values_mut().for_each(|order| order.reverse())),
        ("a job that fails", |world| {
            let with = vec![ChangeRef { number: 1, patchset: None }];
            world.outcomes.rules.push((breaks("two".to_owned(), with), 0));
        }),
        ("a job that the item was not given, and that fails", |world| {
            let with = vec![ChangeRef { number: 2, patchset: None }];
            world.outcomes.rules.push((breaks("three".to_owned(), with), 0));
            let more = config(nodes(&["one", "two", "three"]));
            world.checks.judged.values_mut().for_each(|judged| *judged = Arc::clone(&more));
        }),
        ("a branch that lost what landed", |world| {
            world.git.branches.iter_mut().for_each(|branch| branch.content = Content::default());
        }),
        ("put out for nothing", |world| {
            let (id, item) = world.database.ended.pop_last().expect("an item");
            let failed = FailReason::JobFailed { jobs: vec!["one".into()] };
            let lie = ended(&item, ItemOutcome::Failed, vec![failed], world);
            world.database.ended.insert(id, Arc::new(lie));
        }),
    ];
    for (what, lie) in lies {
        let mut world = over();
        lie(&mut world);
        let found = oracle::differences(&mut world);
        assert!(found.iter().any(|found| found.invariant == "I7"), "{what}: {found:?}");
    }
}
