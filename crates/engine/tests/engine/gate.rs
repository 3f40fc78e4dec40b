//! The gate alone, step by step: what is hard to come by in a simulation. After each step the gate made of the stored
//! rows must be the gate that wrote them.

use assay_engine::gate::Gate;
use assay_engine::gate::change::{Account, ChangeFacts, ChangeStatus, RefUpdate, SubmitRecord};
use assay_engine::gate::config::{
    Config, EventKind, JobDef, JobNode, LandingWay, Manager, MergeMode, Messages, Pipeline, Precedence,
    Project, QueueDef, ReportAction, Reporters, Requirements, Trigger, WindowConfig,
};
use assay_engine::gate::ids::{ChangeId, ItemId, MergeId, Oid, Patchset, ProjectName, Uuid};
use assay_engine::gate::io::{
    Answer, BuildRequest, BuildResult, Command, Effect, Event, Input, LandRequest, LandResult, Merge,
    MergeFailure, MergeRequest, Merged, Moved, Report, Tip,
};
use assay_engine::gate::item::{Item, ItemPhase, MergeState};
use assay_engine::gate::pattern::Pattern;
use assay_engine::gate::reason::{HoldReason, Refusal};
use assay_engine::gate::rows::{GateRow, GateRows};
use assay_engine::ids::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const SEED: u128 = 7;

/// A configuration in few words: `("gate", Manager::Dependent)`, the projects with the pipelines' jobs.
fn config(pipelines: &[(&str, Manager)], projects: &[(&str, &[&str])], queues: &[(&str, &[&str])]) -> Config {
    let pipelines = pipelines.iter().map(|(name, manager)| Arc::new(pipeline(name, *manager, queues)));
    let pipelines: Vec<_> = pipelines.collect();
    let node = |job: &&str| JobNode { job: (*job).into(), children: Vec::new() };
    let project = |(name, jobs): &(&str, &[&str])| {
        let tree: Vec<JobNode> = jobs.iter().map(node).collect();
        let everywhere = pipelines.iter().map(|pipeline| (pipeline.name.clone(), tree.clone())).collect();
        let project = Project { name: (*name).into(), merge_mode: MergeMode::Merge, pipelines: everywhere };
        ((*name).into(), Arc::new(project))
    };
    let jobs: BTreeSet<&str> = projects.iter().flat_map(|(_, jobs)| jobs.iter().copied()).collect();
    Config {
        hash: "0".to_owned(),
        projects: projects.iter().map(project).collect(),
        jobs: jobs.into_iter().map(|job| (job.into(), Arc::new(JobDef::new(job)))).collect(),
        pipelines,
        ..Config::default()
    }
}

fn pipeline(name: &str, manager: Manager, queues: &[(&str, &[&str])]) -> Pipeline {
    let review = |value: i32, submit: bool| ReportAction::Review {
        source: "gerrit".into(),
        labels: vec![("Verified".to_owned(), value)],
        submit,
        flags: Vec::new(),
    };
    let trigger = Trigger {
        source: "gerrit".into(),
        events: vec![Pattern::new("comment-added|patchset-created").expect("a pattern")],
        branches: Vec::new(),
        refs: Vec::new(),
        ignore_deletes: true,
        comments: Vec::new(),
        emails: Vec::new(),
        usernames: Vec::new(),
        approvals: Vec::new(),
        require: Vec::new(),
        reject: Vec::new(),
        time: None,
        pipelines: Vec::new(),
    };
    let queue = |(name, projects): &(&str, &[&str])| QueueDef {
        name: (*name).into(),
        projects: projects.iter().map(|project| (*project).into()).collect(),
        allow_cycles: false,
    };
    Pipeline {
        name: name.into(),
        description: None,
        manager,
        source: "gerrit".into(),
        precedence: Precedence::Normal,
        triggers: vec![trigger],
        require: Requirements::default(),
        reject: Vec::new(),
        reporters: Reporters {
            success: vec![review(1, manager == Manager::Dependent)],
            failure: vec![review(-1, false)],
            ..Reporters::default()
        },
        messages: Messages::default(),
        dequeue_on_new_patchset: true,
        ignore_dependencies: false,
        disable_after: None,
        window: WindowConfig::default(),
        queues: queues.iter().map(queue).collect(),
        landing: LandingWay::Push,
    }
}

fn edit_pipeline(config: &mut Config, edit: impl Fn(&mut Pipeline)) {
    config.pipelines.iter_mut().for_each(|pipeline| edit(Arc::make_mut(pipeline)));
}

fn edit_job(config: &mut Config, job: &str, edit: impl Fn(&mut JobDef)) {
    edit(Arc::make_mut(config.jobs.get_mut(job).expect("a job")));
}

fn id(number: u64) -> ChangeId {
    ChangeId { source: "gerrit".into(), number }
}

fn tip(text: &str) -> Tip {
    Tip { commit: Oid::from(text), tree: Oid::from(format!("tree of {text}")) }
}

/// What carries the gate's effects out, as far as a test wants that.
struct Rig {
    gate: Gate,
    now: i64,
    rows: BTreeMap<(&'static str, String), GateRow>,
    asked: Vec<MergeRequest>,
    builds: Vec<BuildRequest>,
    lands: Vec<LandRequest>,
    reports: Vec<Report>,
    cancelled: Vec<Uuid>,
    /// States that the merger has to keep.
    kept: BTreeSet<MergeId>,
    /// Speculative states are made at once.
    merges: bool,
}

impl Rig {
    fn new(config: Config) -> Self {
        let mut rig = Self {
            gate: Gate::new(SEED),
            now: 1_000_000,
            rows: BTreeMap::new(),
            asked: Vec::new(),
            builds: Vec::new(),
            lands: Vec::new(),
            reports: Vec::new(),
            cancelled: Vec::new(),
            kept: BTreeSet::new(),
            merges: true,
        };
        rig.configure(config);
        rig
    }

    fn configure(&mut self, config: Config) {
        self.step(Input::Configure(Arc::new(config))).expect("taken");
    }

    fn step(&mut self, input: Input) -> Result<Answer, Refusal> {
        self.now += 1_000_000;
        let step = self.gate.step(input, Timestamp(self.now));
        let mut made = Vec::new();
        for effect in step.effects {
            match effect {
                Effect::Save(row) => drop(self.rows.insert(row.key(), *row)),
                Effect::Merge(Merge::Adopt { merge, .. }) => drop(self.kept.insert(merge)),
                Effect::Merge(Merge::Forget(merge)) => {
                    self.kept.remove(&merge);
                    self.asked.retain(|request| request.merge != merge);
                    made.retain(|request: &MergeRequest| request.merge != merge);
                }
                Effect::Merge(Merge::Make(request)) if self.merges => made.push(request),
                Effect::Merge(Merge::Make(request)) => self.asked.push(request),
                Effect::StartBuild(request) => self.builds.push(*request),
                Effect::CancelBuild(uuid) => self.cancelled.push(uuid),
                Effect::Land(request) => self.lands.push(*request),
                Effect::Report(report) => self.reports.push(*report),
                Effect::Refresh(_) | Effect::Changed(_) => {}
            }
        }
        let (rebuilt, live) = (Gate::rebuild(self.stored(), SEED).rows(), self.gate.rows());
        assert_eq!(rebuilt.queues, live.queues, "rebuilt is not live");
        assert_eq!(rebuilt.items, live.items, "rebuilt is not live");
        assert_eq!(rebuilt, live, "rebuilt is not live");
        for request in made {
            self.make(&request);
        }
        step.answer
    }

    fn stored(&self) -> GateRows {
        let mut rows = GateRows::default();
        for row in self.rows.values().cloned() {
            match row {
                GateRow::Item(item) => {
                    rows.last_item = rows.last_item.max(item.id.0);
                    rows.items.extend(item.is_live().then_some(item));
                }
                GateRow::Queue(row) => rows.queues.push(row),
                GateRow::Pipeline(row) => rows.pipelines.push(row),
                GateRow::Change(facts) => rows.changes.push(facts),
                GateRow::ForgetChange(_) | GateRow::Report(_) => {}
                GateRow::Durations(row) => rows.durations.push(row),
                GateRow::Evidence(row) => rows.evidence.push(row),
                GateRow::Autohold(row) => {
                    rows.last_autohold = rows.last_autohold.max(row.id);
                    rows.autoholds.extend((row.left > 0).then_some(row));
                }
                GateRow::Config(config) => rows.config = Some(config),
            }
        }
        rows
    }

    fn restart(&mut self) {
        self.kept.clear();
        self.gate = Gate::rebuild(self.stored(), SEED);
        self.step(Input::Tick).expect("taken");
    }

    /// Makes a state: a commit is named after the state below it and the change.
    fn make(&mut self, request: &MergeRequest) {
        let moved = request.changes.iter().map(|change| Moved {
            project: change.project.clone(),
            branch: change.branch.clone(),
            base: tip("base"),
            tip: tip(&format!("{}/{}", change.project, change.patchset)),
        });
        self.kept.insert(request.merge);
        let result = Ok(Merged { moved: moved.collect() });
        self.step(Input::Merged { merge: request.merge, result }).expect("taken");
    }

    fn facts(&self, number: u64, project: &str) -> ChangeFacts {
        ChangeFacts {
            id: id(number),
            current_patchset: 1,
            revision: format!("{number:040x}").into(),
            fetch_ref: format!("refs/changes/{:02}/{number}/1", number % 100),
            project: project.into(),
            branch: "master".into(),
            change_id: Some(format!("I{number:040x}")),
            subject: "A change".to_owned(),
            message: String::new(),
            url: None,
            owner: Account::default(),
            topic: None,
            status: ChangeStatus::New,
            wip: false,
            approvals: Vec::new(),
            submit_records: vec![SubmitRecord::Ok],
            files: Some(vec!["README".to_owned()]),
            parents: Vec::new(),
            as_of: Timestamp(self.now),
        }
    }

    fn child(&self, number: u64, project: &str, parent: u64) -> ChangeFacts {
        let parents = vec![Patchset { change: id(parent), patchset: 1 }];
        ChangeFacts { parents, ..self.facts(number, project) }
    }

    fn comment(&mut self, facts: ChangeFacts) -> Answer {
        let mut event = Event::new("gerrit".into(), EventKind::CommentAdded);
        event.change = Some(facts.patchset());
        event.facts = vec![facts];
        self.step(Input::Event(Box::new(event))).expect("taken")
    }

    fn enqueue(&mut self, number: u64, project: &str) -> ItemId {
        let facts = self.facts(number, project);
        self.comment(facts);
        self.of(number).id
    }

    fn items(&self) -> Vec<Arc<Item>> {
        let held = self.gate.held();
        held.queues.values().flat_map(|queue| &queue.items).map(|id| Arc::clone(&held.items[id])).collect()
    }

    fn of(&self, number: u64) -> Arc<Item> {
        self.items().into_iter().find(|item| item.has_change(&id(number))).expect("an item")
    }

    fn has(&self, number: u64) -> bool {
        self.items().iter().any(|item| item.has_change(&id(number)))
    }

    /// The latest build of a job for a change.
    fn build(&self, number: u64, job: &str) -> Uuid {
        let item = self.of(number);
        let job = item.buildset.jobs.iter().find(|own| own.job.as_str() == job).expect("a job");
        job.state.build().expect("a build").uuid
    }

    fn end(&mut self, number: u64, job: &str, result: BuildResult) {
        let build = self.build(number, job);
        self.step(Input::BuildEnded { build, result }).expect("taken");
    }

    fn pass(&mut self, number: u64) {
        self.end(number, "unit", BuildResult::success());
    }

    fn is_landing(&self, number: u64) -> bool {
        matches!(self.of(number).phase, ItemPhase::Landing { .. })
    }

    /// Ends the landing of a change with what was tested.
    fn land(&mut self, number: u64) {
        let item = self.of(number);
        let request = self.lands.iter().rev().find(|request| request.item == item.id).expect("a landing");
        let tips = request.members.iter().map(|member| member.tested.clone()).collect();
        self.step(Input::Landed { item: item.id, result: LandResult::Landed { tips } }).expect("taken");
    }

    fn base_moved(&mut self, number: u64) {
        let item = self.of(number);
        let found = tip("elsewhere");
        let (project, branch) = (item.project.clone(), item.branch.clone());
        let result = LandResult::BaseMoved { project, branch, found };
        self.step(Input::Landed { item: item.id, result }).expect("taken");
    }

    fn moves(&mut self, project: &str, new: &str) {
        let mut event = Event::new("gerrit".into(), EventKind::RefUpdated);
        event.ref_update = Some(RefUpdate {
            project: project.into(),
            name: "master".into(),
            old: "0".into(),
            new: new.into(),
        });
        self.step(Input::Event(Box::new(event))).expect("taken");
    }

    fn command(&mut self, command: Command) -> Result<Answer, Refusal> {
        self.step(Input::Command { command, by: "op".to_owned() })
    }

    fn queue(&self) -> Vec<u64> {
        self.items()
            .iter()
            .flat_map(|item| &item.changes)
            .map(|own| own.merge.patchset.change.number)
            .collect()
    }
}

fn gate(projects: &[(&str, &[&str])], queues: &[(&str, &[&str])]) -> Config {
    config(&[("gate", Manager::Dependent)], projects, queues)
}

const UNIT: &[&str] = &["unit"];

#[test]
fn a_branch_of_a_project_with_its_own_queue_moves() {
    let mut rig = Rig::new(gate(&[("a", UNIT)], &[]));
    rig.enqueue(1, "a");
    let before = rig.build(1, "unit");
    rig.moves("a", "foreign");
    assert_ne!(rig.build(1, "unit"), before, "it goes on above a tip that is gone");
}

#[test]
fn a_patchset_superseded_while_it_was_being_landed_is_not_landed_afterwards() {
    let mut rig = Rig::new(gate(&[("a", UNIT)], &[]));
    rig.enqueue(1, "a");
    rig.pass(1);
    assert!(rig.is_landing(1));
    let newer = ChangeFacts { current_patchset: 2, ..rig.facts(1, "a") };
    rig.step(Input::Facts(vec![newer])).expect("taken");
    rig.base_moved(1);
    assert!(!rig.has(1), "the old patchset is tested again, to be landed");
}

#[test]
fn a_configuration_without_a_place_for_what_is_being_landed() {
    for (what, new) in [
        ("no pipeline", config(&[("check", Manager::Independent)], &[("a", UNIT)], &[])),
        ("no job", gate(&[("a", &[])], &[])),
    ] {
        let mut rig = Rig::new(gate(&[("a", UNIT)], &[]));
        rig.enqueue(1, "a");
        rig.pass(1);
        rig.configure(new);
        rig.base_moved_of(what);
    }
}

impl Rig {
    fn base_moved_of(&mut self, what: &str) {
        let item = self.gate.held().items.values().next().cloned().expect("an item");
        let result =
            LandResult::BaseMoved { project: "a".into(), branch: "master".into(), found: tip("elsewhere") };
        self.step(Input::Landed { item: item.id, result }).expect("taken");
        let left: Vec<_> = self.gate.held().items.values().map(|item| item.phase.clone()).collect();
        assert!(left.is_empty(), "{what}: {left:?}");
    }
}

#[test]
fn a_need_that_a_new_configuration_puts_into_another_queue() {
    let projects: &[(&str, &[&str])] = &[("a", UNIT), ("b", UNIT)];
    let mut rig = Rig::new(gate(projects, &[("both", &["a", "b"])]));
    rig.enqueue(1, "a");
    let child = rig.child(2, "b", 1);
    rig.comment(child);
    assert_eq!(rig.queue(), [1, 2]);
    rig.configure(gate(projects, &[]));
    if rig.has(2) {
        rig.pass(2);
    }
    assert!(rig.lands.is_empty(), "it lands before what it needs");
}

#[test]
fn a_pipeline_gets_another_manager() {
    for (from, to) in [
        (Manager::Dependent, Manager::Independent),
        (Manager::Independent, Manager::Dependent),
        (Manager::Dependent, Manager::Serial),
        (Manager::Supercedent, Manager::Dependent),
    ] {
        let of = |manager| config(&[("p", manager)], &[("a", UNIT)], &[("both", &["a"])]);
        let mut rig = Rig::new(of(from));
        rig.enqueue(1, "a");
        let child = rig.child(2, "a", 1);
        rig.comment(child);
        rig.configure(of(to));
        for _ in 0..9 {
            for item in rig.items() {
                for job in &item.buildset.jobs {
                    if let Some(build) = job.state.build().filter(|build| build.result.is_none()) {
                        let result = BuildResult::success();
                        rig.step(Input::BuildEnded { build: build.uuid, result }).expect("taken");
                    }
                }
            }
            for request in std::mem::take(&mut rig.lands) {
                for member in &request.members {
                    assert_eq!(member.base, tip("base"), "{from:?} {to:?}");
                    assert!(
                        member.tested.commit.as_str().ends_with(&member.patchset.to_string()),
                        "{member:?}"
                    );
                }
                let tips = request.members.iter().map(|member| member.tested.clone()).collect();
                let result = LandResult::Landed { tips };
                rig.step(Input::Landed { item: request.item, result }).expect("taken");
            }
        }
        assert_eq!(rig.queue(), [0u64; 0], "{from:?} {to:?}");
    }
}

#[test]
fn a_ref_cannot_be_landed() {
    let mut rig = Rig::new(gate(&[("a", UNIT)], &[]));
    let update = RefUpdate { project: "a".into(), name: "v1".into(), old: "0".into(), new: "1".into() };
    let _ = rig.command(Command::EnqueueRef { pipeline: "gate".into(), update });
    for build in std::mem::take(&mut rig.builds) {
        let result = BuildResult::success();
        rig.step(Input::BuildEnded { build: build.uuid, result }).expect("taken");
    }
    assert!(rig.items().is_empty(), "{:?}", rig.items());
}

#[test]
fn the_result_of_an_old_definition_does_not_stand_for_the_new_one() {
    let with_task = |task: &str| {
        let mut config =
            config(&[("check", Manager::Independent), ("gate", Manager::Dependent)], &[("a", UNIT)], &[]);
        edit_job(&mut config, "unit", |job| {
            job.hermetic = true;
            job.task = Some(task.into());
        });
        edit_pipeline(&mut config, |pipeline| {
            if pipeline.manager == Manager::Dependent {
                pipeline.triggers.clear();
            }
        });
        config
    };
    for (new, builds) in [("old", 1), ("new", 2)] {
        let mut rig = Rig::new(with_task("old"));
        rig.enqueue(1, "a");
        rig.configure(with_task(new));
        rig.pass(1);
        let facts = vec![rig.facts(1, "a")];
        let patchset = Patchset { change: id(1), patchset: 1 };
        rig.command(Command::Enqueue { pipeline: "gate".into(), patchset, facts }).expect("let in");
        assert_eq!(rig.builds.len(), builds, "{new}");
    }
}

#[test]
fn what_landed_before_a_restart_is_not_needed_after_it() {
    let mut rig = Rig::new(gate(&[("a", UNIT)], &[]));
    rig.enqueue(1, "a");
    let child = rig.child(2, "a", 1);
    rig.comment(child);
    rig.pass(1);
    rig.land(1);
    rig.restart();
    let late = ChangeFacts { subject: "Looked at again".to_owned(), ..rig.child(2, "a", 1) };
    rig.step(Input::Facts(vec![late])).expect("taken");
    assert!(rig.has(2), "{:?}", rig.reports);
    let stale = rig.facts(1, "a");
    let again = ChangeFacts { subject: "And again".to_owned(), ..rig.child(2, "a", 1) };
    rig.step(Input::Facts(vec![stale, again])).expect("taken");
    assert!(rig.has(2), "{:?}", rig.reports);
}

#[test]
fn windows_and_holds_stay_with_their_projects() {
    let projects: &[(&str, &[&str])] = &[("a", UNIT), ("b", UNIT)];
    let mut rig = Rig::new(gate(projects, &[("a, b", &["a", "b"])]));
    rig.enqueue(1, "a");
    rig.end(1, "unit", BuildResult::failure());
    let hold = Command::Hold { pipeline: "gate".into(), queue: "a, b".into(), reason: "look".to_owned() };
    rig.command(hold).expect("held");
    rig.enqueue(2, "b");
    rig.configure(gate(projects, &[("renamed", &["a", "b"])]));
    let held = rig.gate.held();
    let queue = held.queue_of(&rig.of(2)).expect("a queue");
    assert_eq!((queue.window, queue.hold.is_some()), (10, true));
    rig.restart();
    // Another window for new queues: those that are there keep theirs, and the rows say so.
    let mut other = gate(projects, &[("renamed", &["a", "b"])]);
    edit_pipeline(&mut other, |pipeline| pipeline.window.start = 5);
    rig.configure(other);
    rig.restart();
}

#[test]
fn the_window_of_a_queue_outlives_a_new_configuration_and_a_restart() {
    let mut rig = Rig::new(gate(&[("a", UNIT)], &[]));
    rig.enqueue(1, "a");
    let mut other = gate(&[("a", UNIT)], &[]);
    edit_pipeline(&mut other, |pipeline| pipeline.window.start = 5);
    rig.configure(other);
    let window = |rig: &Rig| rig.gate.held().queue_of(&rig.of(1)).expect("a queue").window;
    let live = window(&rig);
    rig.restart();
    assert_eq!(window(&rig), live);
}

#[test]
fn a_hold_does_not_end_another_one() {
    let mut rig = Rig::new(gate(&[("a", UNIT)], &[]));
    let key = || ("gate".into(), "a".into());
    let hold = |reason: &str| {
        let (pipeline, queue) = key();
        Command::Hold { pipeline, queue, reason: reason.to_owned() }
    };
    let release = || {
        let (pipeline, queue) = key();
        Command::Release { pipeline, queue }
    };
    let words = |rig: &Rig| {
        let queue = rig.gate.held().queues.values().next().expect("a queue");
        let words = |(reason, _): &(HoldReason, Timestamp)| match reason {
            HoldReason::Operator { reason, .. } => reason.clone(),
            HoldReason::TreeMismatch { change, .. } => format!("mismatch {change}"),
            other => format!("{other:?}"),
        };
        queue.holds().map(words).collect::<Vec<_>>()
    };
    let item = rig.enqueue(1, "a");
    rig.enqueue(2, "a");
    rig.pass(1);
    assert!(rig.is_landing(1));
    rig.command(hold("release day")).expect("held");
    let (project, branch) = ("a".into(), "master".into());
    let result = LandResult::TreeMismatch { project, branch, found: tip("odd"), landed: Vec::new() };
    rig.step(Input::Landed { item, result }).expect("taken");
    assert_eq!(words(&rig), ["mismatch 1,1", "release day"]);
    rig.command(hold("release week")).expect("held");
    rig.restart();
    assert_eq!(words(&rig), ["mismatch 1,1", "release week"], "of an operator's holds there is the latest");
    rig.command(release()).expect("released");
    rig.pass(2);
    assert!(!rig.is_landing(2), "what has been looked at does not end what somebody wants");
    rig.command(release()).expect("released");
    assert!(rig.is_landing(2) && rig.command(release()).is_err());
}

#[test]
fn of_a_cycle_only_what_was_tried_is_in_after_a_mismatch() {
    let mut config = gate(&[("a", UNIT), ("b", UNIT)], &[("both", &["a", "b"])]);
    edit_pipeline(&mut config, |pipeline| pipeline.queues.iter_mut().for_each(|it| it.allow_cycles = true));
    let mut rig = Rig::new(config);
    let circle = |rig: &Rig, number: u64, project: &str, other: u64| ChangeFacts {
        message: format!("Depends-On: https://x/{other}"),
        ..rig.facts(number, project)
    };
    let mut event = Event::new("gerrit".into(), EventKind::CommentAdded);
    event.facts = vec![circle(&rig, 1, "a", 2), circle(&rig, 2, "b", 1)];
    event.change = Some(event.facts[0].patchset());
    rig.step(Input::Event(Box::new(event))).expect("taken");
    for (number, project, parent) in [(3, "a", 1), (4, "b", 2)] {
        let facts = rig.child(number, project, parent);
        rig.comment(facts);
        assert_eq!(rig.of(number).needs.len(), 1);
    }
    let item = rig.of(1).id;
    for job in rig.of(1).buildset.jobs.clone() {
        rig.end(1, job.job.as_str(), BuildResult::success());
    }
    assert!(rig.is_landing(1));
    let request = rig.lands.last().expect("a landing").clone();
    let odd = request.members.first().expect("two").clone();
    let left = request.members[1].patchset.change.number;
    let (project, branch) = (odd.project.clone(), odd.branch.clone());
    let result = LandResult::TreeMismatch { project, branch, found: tip("odd"), landed: Vec::new() };
    rig.step(Input::Landed { item, result }).expect("taken");
    let with_need = |number: u64| rig.has(number) && !rig.of(number).needs.is_empty();
    // What needs the one that was never tried has lost what it needs; what needs the odd one has it.
    let (of_odd, of_left) = if left == 2 { (3, 4) } else { (4, 3) };
    assert!(rig.has(of_odd) && !with_need(of_odd), "{:?}", rig.queue());
    assert!(!rig.has(of_left), "it needs what is not in its branch: {:?}", rig.queue());
}

#[test]
fn a_landing_that_does_not_end_is_ended_by_force() {
    let mut rig = Rig::new(gate(&[("a", UNIT)], &[]));
    rig.enqueue(1, "a");
    rig.enqueue(2, "a");
    rig.pass(1);
    let dequeue = Command::Dequeue { pipeline: "gate".into(), change: id(1) };
    assert!(matches!(rig.command(dequeue), Err(Refusal::BeingLanded { .. })));
    rig.command(Command::EndLanding { pipeline: "gate".into(), change: id(1) }).expect("ended");
    rig.pass(2);
    assert!(!rig.has(1) && !rig.is_landing(2), "nobody knows what the branch is");
    rig.restart();
    let hold = rig.gate.held().queues.values().find_map(|queue| queue.hold.clone()).expect("held").0;
    assert!(hold.to_string().starts_with("op ended the landing of 1"), "{hold}");
    let result = LandResult::Refused { why: "too late".to_owned() };
    rig.step(Input::Landed { item: ItemId(1), result }).expect("an answer that comes later changes nothing");
    rig.command(Command::Release { pipeline: "gate".into(), queue: "a".into() }).expect("released");
    assert!(rig.is_landing(2));
}

#[test]
fn a_hold_goes_with_its_queue() {
    let mut rig = Rig::new(config(&[("check", Manager::Independent)], &[("a", UNIT)], &[]));
    let item = rig.enqueue(1, "a");
    let queue = rig.of(1).queue.clone();
    rig.command(Command::Hold { pipeline: "check".into(), queue, reason: "look".to_owned() }).expect("held");
    rig.pass(1);
    assert!(!rig.gate.held().items.contains_key(&item));
    rig.command(Command::Autohold {
        project: "a".into(),
        job: "unit".into(),
        change: None,
        count: 0,
        reason: String::new(),
    })
    .expect("taken");
}

#[test]
fn promoting_in_a_serial_pipeline_starts_nothing_beside_what_runs() {
    for manager in [Manager::Serial, Manager::Supercedent] {
        let mut rig = Rig::new(config(&[("deploy", manager)], &[("a", UNIT)], &[]));
        rig.enqueue(1, "a");
        rig.enqueue(2, "a");
        rig.command(Command::Promote { pipeline: "deploy".into(), changes: vec![id(2)] }).expect("promoted");
        assert_eq!(rig.builds.len(), 1, "{manager:?}");
    }
}

#[test]
fn a_branch_that_moved_is_seen_past_a_change_that_waits_for_what_it_needs() {
    let mut rig = Rig::new(gate(&[("a", UNIT), ("b", &["unit", "slow"])], &[("both", &["a", "b"])]));
    rig.enqueue(1, "b");
    let child = rig.child(2, "a", 1);
    rig.comment(child);
    rig.enqueue(3, "a");
    rig.end(1, "unit", BuildResult::failure());
    let before = rig.build(3, "unit");
    rig.moves("a", "foreign");
    assert_ne!(rig.build(3, "unit"), before);
}

#[test]
fn a_time_that_is_due_again_while_the_last_runs() {
    let mut rig = Rig::new(config(&[("periodic", Manager::Independent)], &[("a", UNIT)], &[]));
    for _ in 0..2 {
        let mut event = Event::new("gerrit".into(), EventKind::PatchsetCreated);
        event.timer = Some(("a".into(), "0 0 * * *".to_owned()));
        rig.step(Input::Event(Box::new(event))).expect("taken");
    }
    assert_eq!(rig.items().len(), 1);
}

#[test]
fn nothing_is_said_to_have_passed_where_no_job_applies() {
    let mut config = config(&[("post", Manager::Independent)], &[("a", UNIT)], &[]);
    edit_job(&mut config, "unit", |job| job.branches = vec![Pattern::new("stable").expect("a pattern")]);
    let mut rig = Rig::new(config);
    let update = RefUpdate { project: "a".into(), name: "master".into(), old: "0".into(), new: "1".into() };
    let refused = rig.command(Command::EnqueueRef { pipeline: "post".into(), update });
    assert!(refused.is_err() && rig.reports.is_empty(), "{refused:?} {:?}", rig.reports);
}

#[test]
fn a_refusal_is_not_answered() {
    let mut rig = Rig::new(gate(&[("a", UNIT), ("b", UNIT)], &[]));
    let mut event = Event::new("gerrit".into(), EventKind::CommentAdded);
    event.facts = vec![rig.child(2, "b", 1), rig.facts(1, "a")];
    event.change = Some(Patchset { change: id(2), patchset: 1 });
    rig.step(Input::Event(Box::new(event.clone()))).expect("taken");
    assert_eq!(rig.reports.len(), 1);
    event.comment = Some(format!("Patch Set 1:\n\n{}", rig.reports[0].message));
    rig.step(Input::Event(Box::new(event))).expect("taken");
    assert_eq!(rig.reports.len(), 1, "it answers itself, for ever");
}

/// Jobs one below the other: `("build", &["unit"])`.
fn tree(config: &mut Config, project: &str, parent: &str, children: &[&str]) {
    let leaf = |job: &&str| JobNode { job: (*job).into(), children: Vec::new() };
    let node = JobNode { job: parent.into(), children: children.iter().map(leaf).collect() };
    let project = Arc::make_mut(config.projects.get_mut(&ProjectName::from(project)).expect("a project"));
    project.pipelines.values_mut().for_each(|jobs| *jobs = vec![node.clone()]);
}

#[test]
fn a_required_job_below_one_that_does_not_vote() {
    let mut config = gate(&[("a", &["build", "unit"])], &[]);
    tree(&mut config, "a", "build", UNIT);
    edit_job(&mut config, "build", |job| job.voting = false);
    let mut rig = Rig::new(config.clone());
    rig.enqueue(1, "a");
    rig.end(1, "build", BuildResult::failure());
    assert!(rig.lands.is_empty(), "it lands, and a job that must pass has never run");
    assert!(!rig.has(1) && rig.reports.iter().any(|report| report.message.contains("unit : SKIPPED")));

    let mut rig = Rig::new(config);
    rig.enqueue(1, "a");
    for _ in 0..3 {
        rig.end(1, "build", BuildResult::lost("the worker is gone"));
    }
    assert!(rig.has(1), "the infrastructure alone puts it out: {:?}", rig.reports);
}

#[test]
fn whoever_waits_longest_for_a_semaphore_has_it_next() {
    let mut config = config(&[("check", Manager::Independent)], &[("a", UNIT)], &[]);
    edit_job(&mut config, "unit", |job| job.semaphores = BTreeSet::from(["mutex".into()]));
    let mut rig = Rig::new(config);
    for number in 1..=12 {
        rig.enqueue(number, "a");
    }
    for number in 1..=12 {
        let (started, expected) = (rig.builds.len(), rig.of(number).id);
        assert_eq!(rig.builds[started - 1].item, expected);
        rig.pass(number);
    }
}

#[test]
fn a_disabled_pipeline_tells_a_success_once() {
    let mut config = gate(&[("a", UNIT)], &[]);
    edit_pipeline(&mut config, |pipeline| {
        pipeline.disable_after = Some(1);
        pipeline.reporters.disabled = pipeline.reporters.failure.clone();
    });
    let mut rig = Rig::new(config);
    rig.enqueue(1, "a");
    rig.end(1, "unit", BuildResult::failure());
    rig.reports.clear();
    rig.enqueue(2, "a");
    rig.pass(2);
    rig.land(2);
    assert_eq!((rig.lands[0].reports.len(), rig.reports.len()), (1, 0), "{:?}", rig.reports);
}

#[test]
fn what_has_landed_is_not_let_in_again_by_a_late_event() {
    let mut rig = Rig::new(gate(&[("a", UNIT)], &[]));
    rig.enqueue(1, "a");
    rig.pass(1);
    rig.land(1);
    let stale = rig.facts(1, "a");
    rig.comment(stale);
    assert!(!rig.has(1), "what is in its branch is tested to be landed");
}

#[test]
fn a_newer_patchset_takes_the_old_one_out_of_a_gate_even_without_facts() {
    let mut config = gate(&[("a", UNIT)], &[]);
    edit_pipeline(&mut config, |pipeline| pipeline.dequeue_on_new_patchset = false);
    let mut rig = Rig::new(config);
    rig.enqueue(1, "a");
    let mut event = Event::new("gerrit".into(), EventKind::PatchsetCreated);
    event.change = Some(Patchset { change: id(1), patchset: 2 });
    rig.step(Input::Event(Box::new(event))).expect("taken");
    assert!(!rig.has(1), "an old patchset goes on to be landed");
}

#[test]
fn a_rerun_that_fails_ends_the_use_of_an_old_success() {
    let mut config = config(&[("one", Manager::Independent), ("two", Manager::Serial)], &[("a", UNIT)], &[]);
    edit_job(&mut config, "unit", |job| job.hermetic = true);
    edit_pipeline(&mut config, |pipeline| pipeline.triggers.clear());
    let mut rig = Rig::new(config);
    let mut runs = 0;
    for round in 0..60 {
        let facts = vec![rig.facts(1, "a")];
        let patchset = Patchset { change: id(1), patchset: 1 };
        rig.command(Command::Enqueue { pipeline: "two".into(), patchset, facts }).expect("let in");
        if !rig.has(1) {
            continue; // the first result stood for it
        }
        runs += 1;
        let result = if round == 0 { BuildResult::success() } else { BuildResult::failure() };
        rig.end(1, "unit", result);
    }
    // Some reuse, then a sample fails, and everything runs from there on.
    assert!((40..=42).contains(&runs), "{runs}");
}

#[test]
fn needs_that_meet_again_are_looked_at_once() {
    let mut rig = Rig::new(gate(&[("a", &["unit", "slow"])], &[]));
    rig.enqueue(1, "a");
    for number in 2..=70 {
        let message = (number.max(4) - 3..number).map(|need| format!("Depends-On: https://x/{need}\n"));
        let facts = ChangeFacts { message: message.collect(), ..rig.facts(number, "a") };
        rig.comment(facts);
    }
    let held = rig.gate.snapshot();
    assert!(held.failing(&rig.of(70)).is_empty());
    rig.end(1, "unit", BuildResult::failure());
    let last = rig.of(70);
    assert_eq!(rig.gate.held().failing(&last).len(), 1);
}

#[test]
fn a_long_series_is_let_in_from_either_end() {
    for from in [1, 999] {
        let mut rig = Rig::new(gate(&[("a", UNIT)], &[]));
        let mut event = Event::new("gerrit".into(), EventKind::CommentAdded);
        event.facts = (2..=999).map(|number| rig.child(number, "a", number - 1)).collect();
        event.facts.push(rig.facts(1, "a"));
        event.change = Some(Patchset { change: id(from), patchset: 1 });
        rig.step(Input::Event(Box::new(event))).expect("taken");
        assert_eq!(rig.queue(), (1..=999).collect::<Vec<u64>>(), "from {from}");
    }
}

#[test]
fn a_pipeline_that_goes_tells_the_authors() {
    let mut rig = Rig::new(gate(&[("a", UNIT)], &[]));
    rig.enqueue(1, "a");
    rig.configure(config(&[("check", Manager::Independent)], &[("a", UNIT)], &[]));
    let told: Vec<_> = rig.reports.iter().map(|report| report.message.as_str()).collect();
    assert!(told.iter().any(|text| text.contains("there is no pipeline gate any more")), "{told:?}");
}

#[test]
fn two_gates_land_on_one_branch() {
    let mut config =
        config(&[("gate", Manager::Dependent), ("fast", Manager::Dependent)], &[("a", UNIT)], &[]);
    edit_pipeline(&mut config, |pipeline| pipeline.triggers.clear());
    let mut rig = Rig::new(config);
    for (number, pipeline) in [(1, "gate"), (2, "fast")] {
        let facts = vec![rig.facts(number, "a")];
        let patchset = Patchset { change: id(number), patchset: 1 };
        rig.command(Command::Enqueue { pipeline: pipeline.into(), patchset, facts }).expect("let in");
    }
    let before = rig.build(1, "unit");
    rig.pass(2);
    rig.land(2);
    assert_ne!(rig.build(1, "unit"), before, "it goes on above a tip that is gone");
}

/// Small numbers that look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let index = self.roll(all.len().max(1) as u64) as usize;
        all.get(index)
    }
}

/// A configuration like the others of this dice, and different in something.
fn some_config(dice: &mut Dice) -> Config {
    const MANAGERS: [Manager; 4] =
        [Manager::Dependent, Manager::Independent, Manager::Serial, Manager::Supercedent];
    let mut pipelines = vec![("gate", Manager::Dependent), ("check", Manager::Independent)];
    if dice.roll(6) == 0 {
        pipelines[0].1 = MANAGERS[dice.roll(4) as usize];
    }
    if dice.roll(12) == 0 {
        pipelines.remove(0);
    }
    let jobs: &[&str] = [UNIT, &["unit", "slow"], &["unit", "slow", "docs"]][dice.roll(3) as usize];
    let b_jobs: &[&str] = if dice.roll(8) == 0 { &[] } else { jobs };
    let queues: &[(&str, &[&str])] = match dice.roll(7) {
        0..=3 => &[("both", &["a", "b"])],
        4 => &[("other", &["a", "b"])],
        _ => &[],
    };
    let mut config = config(&pipelines, &[("a", jobs), ("b", b_jobs)], queues);
    if jobs.len() > 1 && dice.roll(3) == 0 {
        tree(&mut config, "a", "unit", &["slow"]);
        edit_job(&mut config, "unit", |job| job.voting = false);
    }
    let (task, start, hermetic) = (dice.roll(3), [0, 2, 20][dice.roll(3) as usize], dice.roll(2) == 0);
    edit_job(&mut config, "unit", |job| {
        job.task = Some(task.to_string().into());
        job.semaphores = BTreeSet::from(["mutex".into()]);
        job.hold_following = task == 1;
        job.hermetic = hermetic;
    });
    edit_pipeline(&mut config, |pipeline| {
        pipeline.window.start = start;
        pipeline.queues.iter_mut().for_each(|queue| queue.allow_cycles = task == 2);
    });
    config.hash = dice.roll(u64::from(u32::MAX)).to_string();
    config
}

impl Rig {
    fn running(&self) -> Vec<Uuid> {
        self.gate.running_builds().collect()
    }

    /// What must hold whatever happened.
    fn check(&self, ended: &BTreeSet<Uuid>, landed: &BTreeSet<u64>) {
        let held = self.gate.held();
        let alive =
            |build: &&BuildRequest| !ended.contains(&build.uuid) && !self.cancelled.contains(&build.uuid);
        let alive: Vec<&BuildRequest> = self.builds.iter().filter(alive).collect();
        let uuids: BTreeSet<Uuid> = alive.iter().map(|build| build.uuid).collect();
        assert_eq!(
            uuids,
            self.running().into_iter().collect(),
            "builds that nobody waits for, or that never were"
        );
        assert_eq!(uuids.len(), alive.len(), "a build is started twice");
        let holders = alive.iter().filter(|build| !build.job.semaphores.is_empty()).count();
        assert!(holders <= 1, "the mutex is held by {holders}");
        assert_eq!(self.items().len(), held.items.len(), "an item is in no queue");
        let made = held.items.values().filter(|item| matches!(item.buildset.state, MergeState::Done(_)));
        let made: BTreeSet<MergeId> = made.map(|item| item.merge_id()).collect();
        assert!(made.is_subset(&self.kept), "{made:?} are looked at, and {:?} kept", self.kept);
        let idle =
            |merge: &&MergeId| !made.contains(merge) && self.asked.iter().all(|own| own.merge != **merge);
        assert_eq!(self.kept.iter().find(idle), None, "a state that nobody needs is kept");
        for item in held.items.values() {
            let once: BTreeSet<_> = item.buildset.jobs.iter().map(|job| &job.job).collect();
            assert_eq!(once.len(), item.buildset.jobs.len());
            assert!(!held.why(item.id).is_empty(), "nobody knows what it waits for: {item:?}");
        }
        for request in &self.lands {
            let own: BTreeSet<u64> = request.members.iter().map(|it| it.patchset.change.number).collect();
            for number in &own {
                let parent = parent_of(*number);
                assert!(
                    parent.is_none_or(|parent| landed.contains(&parent) || own.contains(&parent)),
                    "{number} lands before {parent:?}"
                );
            }
            if let Some(item) = held.items.get(&request.item)
                && matches!(&item.phase, ItemPhase::Landing { request: current, .. } if **current == *request)
            {
                let mut voting = item.buildset.jobs.iter().filter(|job| job.voting);
                assert!(voting.all(|job| job.state.is_success()), "{item:?}");
            }
        }
    }
}

/// Every third change stands on the one before it.
fn parent_of(number: u64) -> Option<u64> {
    number.is_multiple_of(3).then(|| number - 1)
}

#[test]
fn whatever_happens_nothing_hangs_and_the_rows_say_all() {
    for seed in 0..1_000 {
        let mut dice = Dice(seed);
        let mut rig = Rig::new(some_config(&mut dice));
        let (mut ended, mut landed) = (BTreeSet::new(), BTreeSet::new());
        let mut patchsets: BTreeMap<u64, u32> = BTreeMap::new();
        for _ in 0..dice.roll(80) {
            rig.something(&mut dice, &mut ended, &mut landed, &mut patchsets);
            rig.check(&ended, &landed);
        }
        rig.drain(&mut ended, &mut landed);
        assert_eq!(rig.queue(), [0u64; 0], "seed {seed}");
        assert!(rig.items().is_empty(), "seed {seed}");
    }
}

impl Rig {
    fn some_facts(
        &self,
        dice: &mut Dice,
        number: u64,
        landed: &BTreeSet<u64>,
        patchsets: &BTreeMap<u64, u32>,
    ) -> ChangeFacts {
        let current = |number: u64| patchsets.get(&number).copied().unwrap_or(1);
        let parent = parent_of(number);
        let status = match (landed.contains(&number), dice.roll(20)) {
            (true, _) => ChangeStatus::Merged,
            (false, 0) => ChangeStatus::Abandoned,
            (false, _) => ChangeStatus::New,
        };
        let circle = (number == 7 || number == 8).then(|| format!("Depends-On: https://x/{}", 15 - number));
        let not_ready = SubmitRecord::Error { why: "no".to_owned() };
        let ready = if dice.roll(9) == 0 { not_ready } else { SubmitRecord::Ok };
        ChangeFacts {
            current_patchset: current(number),
            message: circle.unwrap_or_default(),
            submit_records: vec![ready],
            parents: parent
                .map(|at| Patchset { change: id(at), patchset: current(at) })
                .into_iter()
                .collect(),
            status,
            ..self.facts(number, if number.is_multiple_of(2) { "a" } else { "b" })
        }
    }

    fn something(
        &mut self,
        dice: &mut Dice,
        ended: &mut BTreeSet<Uuid>,
        landed: &mut BTreeSet<u64>,
        patchsets: &mut BTreeMap<u64, u32>,
    ) {
        let number = 1 + dice.roll(9);
        match dice.roll(24) {
            20 => self.catch_up(dice.roll(2) == 0),
            21 => {
                let update =
                    RefUpdate { project: "a".into(), name: "v1".into(), old: "0".into(), new: "1".into() };
                drop(self.command(Command::EnqueueRef { pipeline: "check".into(), update }));
            }
            22 => {
                self.now += 600_000_000;
                self.step(Input::Tick).expect("taken");
            }
            23 => self.answer_merger(dice.roll(4)),
            0..=4 => {
                let mut event = Event::new("gerrit".into(), EventKind::CommentAdded);
                let other = (number == 7 || number == 8).then(|| 15 - number);
                let all = parent_of(number).into_iter().chain(other).chain([number]);
                event.facts = all.map(|number| self.some_facts(dice, number, landed, patchsets)).collect();
                event.change = event.facts.last().map(ChangeFacts::patchset);
                self.step(Input::Event(Box::new(event))).expect("taken");
            }
            5..=10 => {
                if let Some(build) = dice.pick(&self.running()).copied() {
                    ended.insert(build);
                    let result = match dice.roll(8) {
                        0 => BuildResult::failure(),
                        1 => BuildResult::lost("gone"),
                        _ => BuildResult::success(),
                    };
                    self.step(Input::BuildEnded { build, result }).expect("taken");
                }
            }
            11..=13 => {
                if let Some(request) = (!self.lands.is_empty()).then(|| self.lands.remove(0)) {
                    self.end_landing(&request, dice.roll(6), landed);
                }
            }
            14 => self.configure(some_config(dice)),
            15 => self.restart_and_land_again(),
            16 => {
                *patchsets.entry(number).or_insert(1) += u32::from(!landed.contains(&number));
                let facts = self.some_facts(dice, number, landed, patchsets);
                self.step(Input::Facts(vec![facts])).expect("taken");
            }
            17 => drop(self.command(Command::Promote { pipeline: "gate".into(), changes: vec![id(number)] })),
            18 => drop(self.command(Command::Dequeue { pipeline: "gate".into(), change: id(number) })),
            _ => self.moves(if dice.roll(2) == 0 { "a" } else { "b" }, &dice.roll(99).to_string()),
        }
    }

    /// The merger's next answer. Of what stands on a state that it could not make it says nothing.
    fn answer_merger(&mut self, how: u64) {
        if self.asked.is_empty() {
            return;
        }
        let request = self.asked.remove(0);
        let change = request.changes.last().expect("something to merge");
        let (project, change) = (change.project.clone(), change.patchset.clone());
        let why = match how {
            0 => MergeFailure::Conflict { change, paths: vec!["README".to_owned()] },
            1 => MergeFailure::Infrastructure { project, why: "the disk is full".to_owned() },
            _ => return self.make(&request),
        };
        let mut dropped = BTreeSet::from([request.merge]);
        self.asked.retain(|other| {
            let stands = other.ahead.is_some_and(|ahead| dropped.contains(&ahead));
            !stands || !dropped.insert(other.merge)
        });
        self.step(Input::Merged { merge: request.merge, result: Err(why) }).expect("taken");
    }

    /// The merger answers everything, and from now on at once.
    fn catch_up(&mut self, merges: bool) {
        self.merges = false;
        while merges && !self.asked.is_empty() {
            self.answer_merger(9);
        }
        self.merges = merges;
    }

    /// A landing that was on its way when the server stopped is asked for again.
    fn restart_and_land_again(&mut self) {
        self.lands.clear();
        self.asked.clear();
        self.restart();
    }

    fn end_landing(&mut self, request: &LandRequest, how: u64, landed: &mut BTreeSet<u64>) {
        let first = request.members.first().expect("something to land");
        let (project, branch, found) = (first.project.clone(), first.branch.clone(), tip("elsewhere"));
        let result = match how {
            0 => LandResult::BaseMoved { project, branch, found },
            1 => LandResult::Refused { why: "no".to_owned() },
            2 => LandResult::TreeMismatch { project, branch, found, landed: Vec::new() },
            _ => LandResult::Landed { tips: request.members.iter().map(|it| it.tested.clone()).collect() },
        };
        // A tree that nobody tested came of the first; the others were not tried.
        let in_branch = [0, 0, 1].get(how as usize).copied().unwrap_or(request.members.len());
        landed.extend(request.members[..in_branch].iter().map(|member| member.patchset.change.number));
        self.step(Input::Landed { item: request.item, result }).expect("taken");
    }

    /// From here on everything works.
    fn drain(&mut self, ended: &mut BTreeSet<Uuid>, landed: &mut BTreeSet<u64>) {
        for _ in 0..200 {
            self.catch_up(true);
            for (pipeline, queue) in self.gate.held().queues.keys().cloned().collect::<Vec<_>>() {
                let _ = self.command(Command::Release { pipeline, queue });
            }
            for build in self.running() {
                if self.gate.running_builds().any(|running| running == build) {
                    ended.insert(build);
                    self.step(Input::BuildEnded { build, result: BuildResult::success() }).expect("taken");
                }
            }
            for request in std::mem::take(&mut self.lands) {
                self.end_landing(&request, 9, landed);
            }
            self.now += 3_600_000_000;
            self.step(Input::Tick).expect("taken");
            self.check(ended, landed);
            if self.items().is_empty() {
                return;
            }
        }
    }
}
