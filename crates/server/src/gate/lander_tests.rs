//! The lander against a small world that can be cut off at every moment.

use super::lander::{Lander, Pauses};
use super::ports::{Ground, Ledger, Move, Pushed, Reviews, Standing, Submitted, Told, Trouble};
use super::receipts::predecessor;
use assay_engine::gate::change::{ChangeStatus, Subject};
use assay_engine::gate::config::{LandingWay, ReportAction};
use assay_engine::gate::ids::{BranchName, ChangeId, ItemId, MergeId, Oid, Patchset, ProjectName};
use assay_engine::gate::io::{LandRequest, LandResult, Landing, Report, Tip};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

/// Branches as lists of trees; a commit is its place: `P/b@2` has the third tree and all before it.
#[derive(Default, Clone, Debug, PartialEq)]
struct Model {
    branches: BTreeMap<(String, String), Vec<String>>,
    changes: BTreeMap<u64, (ChangeStatus, u32)>,
    /// How often a change that is in its branch is asked for before it is called merged.
    lag: u32,
    /// Changes that are in their branches and not called merged yet.
    late: BTreeMap<u64, u32>,
    told: Vec<u32>,
    tellings: u32,
    /// So often another pipeline's vote takes the place of ours before the next submit comes.
    outvoted: u32,
    submits: u32,
    /// Before the next submit somebody else pushes this tree.
    foreign: Option<String>,
    /// The next submit makes this tree instead.
    wrong: Option<String>,
    /// So many answers are lost, after the deed.
    lose: u32,
    /// So many conversations fail before anything is done.
    fail: u32,
    refuse: Option<u64>,
    reject_push: bool,
    /// A push to this project would be refused, as can be seen beforehand.
    closed: Option<String>,
    /// The source says of this change beforehand that it would refuse it.
    not_submittable: Option<u64>,
    /// The patchsets that were asked about beforehand, with whether they can be merged.
    preflighted: Vec<(u64, bool)>,
    /// Merged changes take no reviews.
    deaf_when_merged: bool,
    /// Commits that have receipts, with the items that landed them.
    signed: BTreeMap<String, ItemId>,
}

#[derive(Clone, Default)]
struct World(Arc<Mutex<Model>>);

impl Model {
    /// It is in its branch.
    fn merged(&mut self, change: u64) {
        if self.lag == 0 {
            self.changes.get_mut(&change).unwrap().0 = ChangeStatus::Merged;
        } else {
            self.late.insert(change, self.lag);
        }
    }

    fn is_in(&self, change: u64) -> bool {
        self.changes[&change].0 == ChangeStatus::Merged || self.late.contains_key(&change)
    }

    fn asked(&mut self, change: u64) -> Option<(ChangeStatus, u32)> {
        if let Some(left) = self.late.get_mut(&change) {
            *left -= 1;
            if *left == 0 {
                self.late.remove(&change);
                self.changes.get_mut(&change).unwrap().0 = ChangeStatus::Merged;
            }
        }
        self.changes.get(&change).copied()
    }
}

impl World {
    fn with<T>(&self, act: impl FnOnce(&mut Model) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    /// A moment at which everything can be cut off, before and after each deed.
    async fn moment(&self) -> Result<(), Trouble> {
        tokio::task::yield_now().await;
        let failed = self.with(|model| take_one(&mut model.fail));
        if failed { Err(Trouble("no answer".to_owned())) } else { Ok(()) }
    }

    async fn lost(&self) -> bool {
        tokio::task::yield_now().await;
        self.with(|model| take_one(&mut model.lose))
    }
}

fn take_one(left: &mut u32) -> bool {
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}

fn key(project: &ProjectName, branch: &BranchName) -> (String, String) {
    (project.to_string(), branch.to_string())
}

fn tip_of(key: &(String, String), trees: &[String]) -> Tip {
    let commit = format!("{}/{}@{}", key.0, key.1, trees.join("+"));
    Tip { commit: commit.into(), tree: trees.last().cloned().unwrap_or_default().into() }
}

fn trees(commit: &Oid) -> Vec<String> {
    let (_, trees) = commit.as_str().split_once('@').unwrap();
    trees.split('+').map(str::to_owned).collect()
}

#[async_trait::async_trait]
impl Ground for World {
    async fn look(&self, project: &ProjectName, branch: &BranchName) -> Result<Option<Tip>, Trouble> {
        self.moment().await?;
        let key = key(project, branch);
        Ok(self.with(|model| model.branches.get(&key).map(|trees| tip_of(&key, trees))))
    }

    async fn landed_as(&self, landing: &Landing, tip: &Tip) -> Result<Option<Tip>, Trouble> {
        self.moment().await?;
        let (base, tested) = (&landing.base.tree, &landing.tested.tree);
        let all = trees(&tip.commit);
        let place = all.windows(2).rposition(|two| two[0] == base.as_str() && two[1] == tested.as_str());
        Ok(place.map(|at| {
            let (name, _) = tip.commit.as_str().split_once('@').unwrap();
            Tip { commit: format!("{name}@{}", all[..at + 2].join("+")).into(), tree: tested.clone() }
        }))
    }

    async fn below(&self, _: &ProjectName, _: &Oid, _: &Oid) -> Result<Option<Tip>, Trouble> {
        Ok(None) // for receipts
    }

    async fn contains(&self, _: &ProjectName, tip: &Oid, commit: &Oid) -> Result<bool, Trouble> {
        self.moment().await?;
        Ok(trees(tip).starts_with(&trees(commit)))
    }

    async fn try_push(&self, project: &ProjectName, moves: &[Move]) -> Result<Pushed, Trouble> {
        self.moment().await?;
        Ok(self.with(|model| {
            if model.closed.as_deref() == Some(project.as_str()) {
                return Pushed::Rejected("no right to push".to_owned());
            }
            let at = |one: &Move| key(project, &one.branch);
            let stale = moves.iter().any(|one| trees(&one.from) != model.branches[&at(one)]);
            if stale { Pushed::Stale } else { Pushed::Done }
        }))
    }

    async fn push(&self, project: &ProjectName, moves: &[Move]) -> Result<Pushed, Trouble> {
        self.moment().await?;
        let pushed = self.with(|model| {
            if model.reject_push {
                return Pushed::Rejected("no right to push".to_owned());
            }
            let at = |one: &Move| key(project, &one.branch);
            if let Some(tree) = model.foreign.take() {
                model.branches.get_mut(&at(&moves[0])).unwrap().push(tree);
            }
            if moves.iter().any(|one| trees(&one.from) != model.branches[&at(one)]) {
                return Pushed::Stale;
            }
            model.submits += 1;
            for one in moves {
                model.branches.insert(at(one), trees(&one.to));
            }
            Pushed::Done
        });
        if self.lost().await { Ok(Pushed::InDoubt("the connection broke".to_owned())) } else { Ok(pushed) }
    }
}

#[async_trait::async_trait]
impl Ledger for World {
    async fn signed_for(
        &self,
        _: &ProjectName,
        _: &BranchName,
        commit: &Oid,
    ) -> Result<Option<ItemId>, Trouble> {
        self.moment().await?;
        Ok(self.with(|model| model.signed.get(commit.as_str()).copied()))
    }
}

#[async_trait::async_trait]
impl Reviews for World {
    async fn standing(&self, change: &ChangeId) -> Result<Option<Standing>, Trouble> {
        self.moment().await?;
        let found = self.with(|model| model.asked(change.number));
        Ok(found.map(|(status, patchset)| Standing { status, patchset }))
    }

    async fn would_refuse(
        &self,
        patchset: &Patchset,
        merge: bool,
        granted: &BTreeSet<String>,
    ) -> Result<Option<String>, Trouble> {
        self.moment().await?;
        let number = patchset.change.number;
        Ok(self.with(|model| {
            model.preflighted.push((number, merge));
            let merged = model.is_in(number);
            let why = match () {
                () if merged => "change is merged",
                () if model.outvoted > 0 && granted.is_empty() => "Verified is needed",
                () if model.not_submittable == Some(number) => "it needs Code-Review",
                () => return None,
            };
            Some(why.to_owned())
        }))
    }

    async fn submit(&self, patchset: &Patchset, revision: &Oid) -> Submitted {
        if let Err(Trouble(why)) = self.moment().await {
            return Submitted::InDoubt(why);
        }
        let number = patchset.change.number;
        let submitted = self.with(|model| {
            if model.refuse == Some(number) {
                return Submitted::Refused("the rule says no".to_owned());
            }
            if model.outvoted > 0 {
                return Submitted::Refused("Verified is needed".to_owned());
            }
            if model.is_in(number) {
                return Submitted::InDoubt("change is merged".to_owned());
            }
            model.submits += 1;
            let (name, tree) = revision.as_str().split_once('=').unwrap();
            let (project, branch) = name.split_once('/').unwrap();
            let trees = model.branches.get_mut(&(project.to_owned(), branch.to_owned())).unwrap();
            let made = match model.foreign.take() {
                Some(foreign) => {
                    let made = format!("{tree}on{foreign}");
                    trees.push(foreign);
                    made
                }
                None => tree.to_owned(),
            };
            trees.push(model.wrong.take().unwrap_or(made));
            model.merged(number);
            Submitted::Done
        });
        if self.lost().await { Submitted::InDoubt("the connection broke".to_owned()) } else { submitted }
    }

    async fn stands(&self, _: &Report) -> Result<bool, Trouble> {
        self.moment().await?;
        Ok(self.with(|model| model.outvoted == 0))
    }

    async fn tell(&self, report: &Report, look: bool) -> Told {
        if let Err(Trouble(why)) = self.moment().await {
            return Told::Later(why);
        }
        let taken = self.with(|model| {
            let about = |number: &u64| report.about == Subject::Change(patchset(*number));
            let merged = model
                .changes
                .iter()
                .any(|(number, (status, _))| about(number) && *status == ChangeStatus::Merged);
            let votes = matches!(&report.action, ReportAction::Review { labels, .. } if !labels.is_empty());
            if model.deaf_when_merged && merged && votes {
                return false;
            }
            let told = model.told.contains(&report.id.1);
            if !told {
                model.told.push(report.id.1);
            }
            if !(told && look) {
                model.tellings += 1;
                model.outvoted -= u32::from(told && model.outvoted > 0);
            }
            true
        });
        if !taken {
            return Told::Never("the change is closed".to_owned());
        }
        if self.lost().await { Told::Later("the connection broke".to_owned()) } else { Told::Done(None) }
    }
}

/// A member `NUMBER PROJECT/BRANCH BASE TESTED`, where BASE is all trees below it joined by `+`.
fn member(text: &str) -> Landing {
    let [number, place, base, tested]: [&str; 4] = text.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let (project, branch) = place.split_once('/').unwrap();
    let key = (project.to_owned(), branch.to_owned());
    let below: Vec<_> = base.split('+').map(str::to_owned).collect();
    let with: Vec<_> = below.iter().cloned().chain([tested.to_owned()]).collect();
    Landing {
        patchset: patchset(number.parse().unwrap()),
        revision: format!("{place}={tested}").into(),
        project: project.into(),
        branch: branch.into(),
        base: tip_of(&key, &below),
        tested: tip_of(&key, &with),
    }
}

fn patchset(number: u64) -> Patchset {
    Patchset { change: ChangeId { source: "gerrit".into(), number }, patchset: 1 }
}

fn request(way: LandingWay, members: &[&str]) -> LandRequest {
    let item = ItemId(1);
    let members: Vec<_> = members.iter().map(|text| member(text)).collect();
    let (source, labels) = ("gerrit".into(), vec![("Verified".to_owned(), 2)]);
    let action = ReportAction::Review { source, labels, submit: true, flags: Vec::new() };
    let report = Report {
        id: (item, 1),
        about: Subject::Change(members[0].patchset.clone()),
        project: "p".into(),
        pipeline: "gate".into(),
        action,
        message: "Build succeeded.".to_owned(),
    };
    LandRequest { item, merge: MergeId { item, buildset: 1 }, way, members, reports: vec![report] }
}

fn world(branches: &[(&str, &str)], changes: &[u64]) -> World {
    let world = World::default();
    world.with(|model| {
        for (place, trees) in branches {
            let (project, branch) = place.split_once('/').unwrap();
            let trees = trees.split('+').map(str::to_owned).collect();
            model.branches.insert((project.to_owned(), branch.to_owned()), trees);
        }
        model.changes = changes.iter().map(|number| (*number, (ChangeStatus::New, 1))).collect();
    });
    world
}

fn lander(world: &World) -> Lander {
    let pauses = Pauses { first: Duration::ZERO, most: Duration::ZERO };
    let world = Arc::new(world.clone());
    Lander { ground: world.clone(), reviews: world.clone(), ledger: world, pauses }
}

/// As the service does it, which signs in between.
async fn land(world: &World, request: &LandRequest) -> LandResult {
    let lander = lander(world);
    let result = lander.land(request, None, &|_| {}).await;
    if let LandResult::Landed { tips } = &result {
        sign(world, request, tips).await;
        lander.tell(request, &|_| {}).await;
    }
    result
}

/// The last commit of each branch gets its receipt; it can be cut off before each and after the last.
async fn sign(world: &World, request: &LandRequest, tips: &[Tip]) {
    let of_branch = |landing: &Landing| key(&landing.project, &landing.branch);
    let last: BTreeMap<_, _> = request.members.iter().map(of_branch).zip(tips).collect();
    for tip in last.into_values() {
        tokio::task::yield_now().await;
        let by = world.with(|model| model.signed.insert(tip.commit.to_string(), request.item));
        assert!(by.is_none_or(|by| by == request.item), "{} has the receipt of another item", tip.commit);
    }
    tokio::task::yield_now().await;
}

fn words(result: &LandResult) -> String {
    match result {
        LandResult::Landed { tips } => {
            let commits: Vec<_> = tips.iter().map(|tip| tip.commit.as_str()).chain(["landed"]).collect();
            commits.join(" ")
        }
        LandResult::BaseMoved { found, .. } => format!("moved {}", found.commit),
        LandResult::Refused { why } => format!("refused: {why}"),
        LandResult::TreeMismatch { found, .. } => format!("mismatch {}", found.commit),
        LandResult::Partial { landed, refused, why } => {
            format!(
                "partial {} not {refused}: {why}",
                landed
                    .iter()
                    .map(|one| format!("{} as {}", one.patchset, one.tip.commit))
                    .collect::<Vec<_>>()
                    .join(" ")
            )
        }
    }
}

const BOTH: [LandingWay; 2] = [LandingWay::Submit, LandingWay::Push];

#[tokio::test]
async fn what_passed_lands() {
    for way in BOTH {
        let world = world(&[("p/b", "0")], &[1, 2]);
        let two = request(way, &["1 p/b 0 1", "2 p/b 0+1 2"]);
        assert_eq!(words(&land(&world, &two).await), "p/b@0+1 p/b@0+1+2 landed", "{way:?}");
        assert_eq!(world.with(|model| model.told.clone()), [1]);
        assert_eq!(world.with(|model| model.submits), if way == LandingWay::Push { 1 } else { 2 });
    }
}

#[tokio::test]
async fn what_may_not_land_does_not() {
    type Change = fn(&mut Model);
    let cases: [(&str, [&str; 2], Change); 8] = [
        ("abandoned", ["refused: 1,1 was abandoned"; 2], |model| {
            model.changes.get_mut(&1).unwrap().0 = ChangeStatus::Abandoned;
        }),
        ("newer", ["refused: 1,1 is not the newest patchset; 2 is"; 2], |model| {
            model.changes.get_mut(&1).unwrap().1 = 2;
        }),
        ("moved before", ["moved p/b@0+f"; 2], |model| {
            model.branches.values_mut().for_each(|trees| trees.push("f".to_owned()));
        }),
        ("moved at that moment", ["mismatch p/b@0+f+1onf", "moved p/b@0+f"], |model| {
            model.foreign = Some("f".to_owned());
        }),
        ("refused", ["refused: the rule says no", "p/b@0+1 landed"], |model| model.refuse = Some(1)),
        ("rejected", ["p/b@0+1 landed", "refused: no right to push"], |model| model.reject_push = true),
        ("deleted", ["refused: gerrit does not know 1,1 any more"; 2], |model| model.changes.clear()),
        ("no branch", ["refused: p has no branch b any more"; 2], |model| model.branches.clear()),
    ];
    for (name, expected, change) in cases {
        for (way, expected) in BOTH.into_iter().zip(expected) {
            let world = world(&[("p/b", "0")], &[1]);
            world.with(change);
            assert_eq!(words(&land(&world, &request(way, &["1 p/b 0 1"])).await), expected, "{name} {way:?}");
        }
    }
}

#[tokio::test]
async fn a_tree_that_nobody_tested_is_an_alarm() {
    let world = world(&[("p/b", "0")], &[1]);
    world.with(|model| model.wrong = Some("other".to_owned()));
    let request = request(LandingWay::Submit, &["1 p/b 0 1"]);
    assert_eq!(words(&land(&world, &request).await), "mismatch p/b@0+other");
    assert_eq!(words(&land(&world, &request).await), "mismatch p/b@0+other", "found again after a restart");
}

#[tokio::test]
async fn half_of_a_cycle_is_named() {
    for way in BOTH {
        let world = world(&[("p/b", "0"), ("q/b", "0")], &[1, 2]);
        let both = request(way, &["1 p/b 0 1", "2 q/b 0 2"]);
        // The second repository moves when all has been looked at: half of it is done by then.
        assert_eq!(words(&land(&world, &request(way, &["1 p/b 0 1"])).await), "p/b@0+1 landed");
        world.with(|model| {
            model.branches.get_mut(&("q".to_owned(), "b".to_owned())).unwrap().push("f".to_owned());
        });
        let expected = "partial 1,1 as p/b@0+1 not 2,1: q b stands at q/b@0+f, where nobody tested it";
        assert_eq!(words(&land(&world, &both).await), expected, "{way:?}");
    }
}

#[tokio::test]
async fn what_its_source_would_refuse_keeps_all_members_out() {
    let members = ["1 p/b 0 1", "2 p/b 0+1 2", "3 q/b 0 3"];
    let new = || world(&[("p/b", "0"), ("q/b", "0")], &[1, 2, 3]);
    let submit = request(LandingWay::Submit, &members);
    for number in 1..=3 {
        let world = new();
        world.with(|model| model.not_submittable = Some(number));
        assert_eq!(words(&land(&world, &submit).await), "refused: it needs Code-Review", "{number}");
        assert_eq!(world.with(|model| model.submits), 0, "{number}");
    }
    let good = new();
    assert!(words(&land(&good, &submit).await).ends_with("landed"));
    assert_eq!(good.with(|model| model.preflighted.clone()), [(1, true), (2, false), (3, true)]);

    let outvoted = new();
    outvoted.with(|model| model.outvoted = 1);
    assert!(words(&land(&outvoted, &submit).await).ends_with("landed"), "the vote is given again");

    // One member needs no question: its submit is the answer.
    let one = new();
    assert!(words(&land(&one, &request(LandingWay::Submit, &members[..1])).await).ends_with("landed"));
    assert!(one.with(|model| model.preflighted.is_empty()));

    // Who pushes has nobody else to look at votes: also of a single member, also where the rest is in already.
    for members in [&members[..], &members[..1]] {
        let vetoed = new();
        vetoed.with(|model| (model.not_submittable, model.outvoted) = (Some(1), 1));
        let push = request(LandingWay::Push, members);
        assert_eq!(words(&land(&vetoed, &push).await), "refused: it needs Code-Review");
        assert_eq!(vetoed.with(|model| model.submits), 0);
    }
    let own = new();
    own.with(|model| model.outvoted = 1);
    let pushed = land(&own, &request(LandingWay::Push, &members)).await;
    assert!(words(&pushed).ends_with("landed"), "its own vote comes with the push");

    let closed = new();
    closed.with(|model| model.closed = Some("q".to_owned()));
    let push = request(LandingWay::Push, &members);
    assert_eq!(words(&land(&closed, &push).await), "refused: no right to push");
    assert_eq!(closed.with(|model| model.submits), 0);
}

#[tokio::test]
async fn trouble_is_waited_out_and_visible() {
    for way in BOTH {
        for (fail, lose) in [(0, 1), (3, 0), (5, 2), (40, 0)] {
            let world = world(&[("p/b", "0")], &[1]);
            world.with(|model| (model.fail, model.lose) = (fail, lose));
            let noted = Mutex::new(Vec::new());
            let request = request(way, &["1 p/b 0 1"]);
            let note = |why: Option<&str>| noted.lock().unwrap().push(why.map(str::to_owned));
            let result = lander(&world).land(&request, None, &note).await;
            assert_eq!(words(&result), "p/b@0+1 landed", "{way:?} {fail} {lose}");
            assert_eq!(world.with(|model| model.submits), 1, "never blindly again: {way:?} {fail} {lose}");
            let noted = noted.into_inner().unwrap();
            assert!(noted.len() > 1 && noted[0].is_some() && noted.last() == Some(&None), "{noted:?}");
        }
    }
}

#[tokio::test]
async fn a_refused_submit_is_voted_on_again_only_when_the_vote_is_gone() {
    let asked = request(LandingWay::Submit, &["1 p/b 0 1"]);
    let refused = world(&[("p/b", "0")], &[1]);
    refused.with(|model| model.refuse = Some(1));
    assert_eq!(words(&land(&refused, &asked).await), "refused: the rule says no");
    assert_eq!(refused.with(|model| model.tellings), 1, "the vote stands; nobody is told twice");

    for times in 1..=4 {
        let outvoted = world(&[("p/b", "0")], &[1]);
        outvoted.with(|model| model.outvoted = times);
        assert_eq!(words(&land(&outvoted, &asked).await), "p/b@0+1 landed");
        assert_eq!(outvoted.with(|model| model.tellings), times + 1);
    }
    // Something takes them away whatever is done.
    let outvoted = world(&[("p/b", "0")], &[1]);
    outvoted.with(|model| model.outvoted = 99);
    assert_eq!(words(&land(&outvoted, &asked).await), "refused: Verified is needed");
}

#[tokio::test]
async fn what_is_in_before_a_mismatch_is_named() {
    let world = world(&[("p/b", "0"), ("q/b", "0")], &[1, 2]);
    let both = request(LandingWay::Submit, &["1 p/b 0 1", "2 q/b 0 2"]);
    assert_eq!(words(&land(&world, &request(LandingWay::Submit, &["1 p/b 0 1"])).await), "p/b@0+1 landed");
    world.with(|model| model.wrong = Some("other".to_owned()));
    let LandResult::TreeMismatch { found, landed, .. } = land(&world, &both).await else { panic!() };
    assert_eq!(found.tree.as_str(), "other");
    assert_eq!(landed.iter().map(|one| one.patchset.change.number).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn a_push_is_done_before_its_review_can_be_told() {
    let world = world(&[("p/b", "0")], &[1]);
    let request = request(LandingWay::Push, &["1 p/b 0 1"]);
    let lander = lander(&world);
    let result = lander.land(&request, None, &|_| {}).await;
    assert_eq!((words(&result).as_str(), world.with(|model| model.tellings)), ("p/b@0+1 landed", 0));
    world.with(|model| model.fail = 3);
    let noted = Mutex::new(Vec::new());
    lander.tell(&request, &|why| noted.lock().unwrap().push(why.map(str::to_owned))).await;
    assert_eq!((world.with(|model| model.tellings), noted.into_inner().unwrap().len()), (1, 4));
}

/// As a person does it who is faster than the lander.
fn merge_by_hand(model: &mut Model, change: u64, place: &str, tree: &str) {
    let (project, branch) = place.split_once('/').unwrap();
    model.branches.get_mut(&(project.to_owned(), branch.to_owned())).unwrap().push(tree.to_owned());
    model.merged(change);
}

#[tokio::test]
async fn what_was_merged_by_hand_is_reported_once_all_the_same() {
    for polls in 1..40 {
        let world = world(&[("p/b", "0")], &[1]);
        world.with(|model| merge_by_hand(model, 1, "p/b", "1"));
        let request = request(LandingWay::Submit, &["1 p/b 0 1"]);
        cut(land(&world, &request), polls).await;
        assert_eq!(words(&land(&world, &request).await), "p/b@0+1 landed", "after {polls}");
        assert_eq!(world.with(|model| (model.told.clone(), model.submits)), (vec![1], 0), "after {polls}");
    }
}

/// The push of a server that was killed may come through at any moment of the next one's landing.
#[tokio::test]
async fn a_push_of_the_server_before_may_come_through_at_any_moment() {
    for polls in 1..40 {
        let world = world(&[("p/b", "0")], &[1, 2]);
        let request = request(LandingWay::Push, &["1 p/b 0 1", "2 p/b 0+1 2"]);
        let mut polled = 0;
        let mut landing = Box::pin(land(&world, &request));
        let result = std::future::poll_fn(|context| {
            polled += 1;
            if polled == polls && world.with(|model| model.submits) == 0 {
                world.with(|model| {
                    merge_by_hand(model, 1, "p/b", "1");
                    merge_by_hand(model, 2, "p/b", "2");
                });
            }
            landing.as_mut().poll(context)
        })
        .await;
        assert_eq!(words(&result), "p/b@0+1 p/b@0+1+2 landed", "after {polls}");
    }
}

/// So may its submits.
#[tokio::test]
async fn a_submit_of_the_server_before_may_come_through_at_any_moment() {
    for (lag, polls) in (1..60).flat_map(|polls| [0, 1, 5].map(|lag| (lag, polls))) {
        let world = world(&[("p/b", "0")], &[1, 2]);
        world.with(|model| model.lag = lag);
        let request = request(LandingWay::Submit, &["1 p/b 0 1", "2 p/b 0+1 2"]);
        let mut polled = 0;
        let mut landing = Box::pin(land(&world, &request));
        let result = std::future::poll_fn(|context| {
            polled += 1;
            if polled == polls {
                world.with(|model| {
                    for (change, tree) in [(1, "1"), (2, "2")] {
                        if !model.is_in(change) {
                            merge_by_hand(model, change, "p/b", tree);
                        }
                    }
                });
            }
            landing.as_mut().poll(context)
        })
        .await;
        assert_eq!(words(&result), "p/b@0+1 p/b@0+1+2 landed", "after {polls}, {lag} behind");
    }
}

/// A source moves the branch before it calls the change merged.
#[tokio::test]
async fn what_is_in_its_branch_is_waited_for_until_it_is_called_merged() {
    for lag in 0..12 {
        let world = world(&[("p/b", "0"), ("q/b", "0")], &[1, 2]);
        world.with(|model| model.lag = lag);
        let both = request(LandingWay::Submit, &["1 p/b 0 1", "2 q/b 0 2"]);
        assert_eq!(words(&land(&world, &both).await), "p/b@0+1 q/b@0+2 landed", "{lag}");
        assert_eq!(world.with(|model| model.submits), 2, "{lag}");
    }
}

/// However long nobody answered before.
#[tokio::test]
async fn what_is_in_its_branch_is_waited_for_after_an_outage() {
    for lag in 0..8 {
        let world = world(&[("p/b", "0")], &[1]);
        world.with(|model| {
            (model.lag, model.fail) = (lag, 100);
            merge_by_hand(model, 1, "p/b", "1");
        });
        let request = request(LandingWay::Submit, &["1 p/b 0 1"]);
        assert_eq!(words(&land(&world, &request).await), "p/b@0+1 landed", "{lag}");
        assert_eq!(world.with(|model| (model.submits, model.told.clone())), (0, vec![1]), "{lag}");
    }
}

/// A change that changes nothing, such as a merge of a branch that is to be forgotten.
#[tokio::test]
async fn a_change_with_the_tree_of_its_base_lands_once() {
    for lag in 0..8 {
        let world = world(&[("p/b", "0")], &[1]);
        world.with(|model| model.lag = lag);
        let request = request(LandingWay::Submit, &["1 p/b 0 0"]);
        assert_eq!(words(&land(&world, &request).await), "p/b@0+0 landed", "{lag}");
        assert_eq!(world.with(|model| (model.submits, model.told.clone())), (1, vec![1]), "{lag}");
    }
}

#[tokio::test]
async fn who_pushes_the_very_same_has_moved_the_branch() {
    let world = world(&[("p/b", "0+1")], &[1]);
    let noted = Mutex::new(Vec::new());
    let note = |why: Option<&str>| noted.lock().unwrap().extend(why.map(str::to_owned));
    let result = lander(&world).land(&request(LandingWay::Submit, &["1 p/b 0 1"]), None, &note).await;
    assert_eq!(words(&result), "moved p/b@0+1");
    let noted = noted.into_inner().unwrap();
    assert!(noted.len() > 20 && noted[0].contains("abandon it"), "{noted:?}");
}

/// A server that is killed after its submit, and a revert before the next one looks.
#[tokio::test]
async fn what_landed_and_was_reverted_has_landed() {
    let world = world(&[("p/b", "0+1+0")], &[1]);
    world.with(|model| model.changes.get_mut(&1).unwrap().0 = ChangeStatus::Merged);
    let request = request(LandingWay::Submit, &["1 p/b 0 1"]);
    assert_eq!(words(&land(&world, &request).await), "p/b@0+1 landed");
}

#[tokio::test]
async fn what_another_item_landed_before_a_revert_is_not_taken_for_this_one() {
    let again = request(LandingWay::Submit, &["1 p/b 0+1+0 1"]);
    let relanded = |foreign: Option<&str>| {
        let world = world(&[("p/b", "0+1+0")], &[1]);
        world.with(|model| {
            model.signed.insert("p/b@0+1".to_owned(), ItemId(9));
            model.foreign = foreign.map(str::to_owned);
        });
        world
    };
    assert_eq!(words(&land(&relanded(None), &again).await), "p/b@0+1+0+1 landed");
    let odd = relanded(Some("f"));
    assert_eq!(words(&land(&odd, &again).await), "mismatch p/b@0+1+0+f+1onf");
}

#[tokio::test]
async fn a_staging_server_finds_what_has_landed_and_lands_nothing() {
    let members = ["1 p/b 0 1", "2 q/b 0 2"];
    for way in BOTH {
        for (in_already, expected) in [
            (0, "refused: staging"),
            (1, "partial 1,1 as p/b@0+1 not 2,1: staging"),
            (2, "p/b@0+1 q/b@0+2 landed"),
        ] {
            let world = world(&[("p/b", "0"), ("q/b", "0")], &[1, 2]);
            world.with(|model| {
                for (change, place, tree) in &[(1, "p/b", "1"), (2, "q/b", "2")][..in_already] {
                    merge_by_hand(model, *change, place, tree);
                }
            });
            let result = lander(&world).land(&request(way, &members), Some("staging"), &|_| {}).await;
            assert_eq!(words(&result), expected, "{way:?}");
            assert_eq!(world.with(|model| (model.submits, model.tellings)), (0, 0), "{way:?}");
        }
    }
}

/// The base is behind another parent than the first.
#[tokio::test]
async fn what_an_author_merged_has_a_predecessor() {
    let world = world(&[], &[]);
    let landing = member("1 p/b 0 1");
    let found = predecessor(&world, &landing, &landing.tested).await;
    assert_eq!(found, Ok(landing.base.clone()));
    let elsewhere = tip_of(&("p".to_owned(), "b".to_owned()), &["f".to_owned(), "1".to_owned()]);
    assert!(predecessor(&world, &landing, &elsewhere).await.is_err());
}

#[tokio::test]
async fn a_vote_that_comes_too_late_does_not_keep_the_rest_from_landing_and_is_told_in_words() {
    let members = ["1 p/b 0 1", "2 q/b 0 2"];
    let world = world(&[("p/b", "0"), ("q/b", "0")], &[1, 2]);
    world.with(|model| {
        merge_by_hand(model, 1, "p/b", "1");
        model.deaf_when_merged = true;
    });
    let result = land(&world, &request(LandingWay::Submit, &members)).await;
    assert_eq!(words(&result), "p/b@0+1 q/b@0+2 landed");
    assert_eq!(world.with(|model| (model.told.len(), model.submits)), (1, 1));

    let pushed = self::world(&[("p/b", "0")], &[1]);
    pushed.with(|model| model.deaf_when_merged = true);
    let result = land(&pushed, &request(LandingWay::Push, &["1 p/b 0 1"])).await;
    assert_eq!((words(&result).as_str(), pushed.with(|model| model.tellings)), ("p/b@0+1 landed", 1));
}

/// Polls a future so many times, then drops it.
async fn cut<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

#[tokio::test]
async fn a_landing_cut_off_anywhere_is_finished_once() {
    for way in BOTH {
        let mut whole = 0;
        for polls in 1..200 {
            let world = world(&[("p/b", "0"), ("q/b", "0")], &[1, 2, 3]);
            world.with(|model| model.lag = polls as u32 % 4);
            let request = request(way, &["1 p/b 0 1", "2 p/b 0+1 2", "3 q/b 0 3"]);
            let first = cut(land(&world, &request), polls).await;
            // After some of the cuts somebody else is faster with the next commit than the next server with its look.
            let all_in = world.with(|model| (1..=3).all(|change| model.is_in(change)));
            if all_in && polls % 2 == 0 {
                world.with(|model| {
                    model.branches.values_mut().for_each(|trees| trees.push("next".to_owned()));
                });
            }
            let again = land(&world, &request).await;
            assert!(words(&again).ends_with("landed"), "{way:?} after {polls}: {}", words(&again));
            let LandResult::Landed { tips } = &again else { panic!("{again:?}") };
            let trees: Vec<_> = tips.iter().map(|tip| tip.tree.as_str()).collect();
            assert_eq!(trees, ["1", "2", "3"], "{way:?} after {polls}");
            assert_eq!(world.with(|model| (model.submits, model.told.len())).1, 1);
            let expected = if way == LandingWay::Push { 2 } else { 3 };
            assert_eq!(world.with(|model| model.submits), expected, "{way:?} after {polls}");
            assert_eq!(
                world.with(|model| model.signed.len()),
                2,
                "{way:?} after {polls}: one receipt for a branch"
            );
            whole += usize::from(first.is_some());
        }
        assert!(whole > 10 && whole < 190, "{whole} were not cut: the cuts are not where they should be");
    }
}
