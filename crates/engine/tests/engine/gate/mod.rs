//! The gate alone, step by step: what is hard to come by in a simulation. After each step the gate made of the stored
//! rows must be the gate that wrote them.

mod builds;
mod landing;
mod queues;
mod walk;
mod words;

use assay_engine::gate::Gate;
use assay_engine::gate::change::{Account, ChangeFacts, ChangeStatus, RefUpdate, SubmitRecord};
use assay_engine::gate::config::{
    Config, EventKind, JobDef, JobNode, LandingWay, Manager, MergeMode, Messages, Pipeline, Precedence,
    Project, QueueDef, ReportAction, Reporters, Requirements, Trigger, WindowConfig,
};
use assay_engine::gate::ids::{ChangeId, ItemId, MergeId, Oid, Patchset, ProjectName, Uuid};
use assay_engine::gate::io::{
    Answer, BuildRequest, BuildResult, Command, Effect, Event, Input, LandRequest, LandResult, Merge,
    MergeRequest, Merged, Moved, Report, Tip,
};
use assay_engine::gate::item::{Item, ItemPhase};
use assay_engine::gate::pattern::Pattern;
use assay_engine::gate::reason::Refusal;
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
    let events = vec![Pattern::new("comment-added|patchset-created").expect("a pattern")];
    let trigger = Trigger { events, ..Trigger::of("gerrit".into()) };
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
    /// Projects whose open changes are to be offered.
    offers: Vec<ProjectName>,
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
            offers: Vec::new(),
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
                Effect::Offer { project, .. } => self.offers.push(project),
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

/// Jobs one below the other: `("build", &["unit"])`.
fn tree(config: &mut Config, project: &str, parent: &str, children: &[&str]) {
    let leaf = |job: &&str| JobNode { job: (*job).into(), children: Vec::new() };
    let node = JobNode { job: parent.into(), children: children.iter().map(leaf).collect() };
    let project = Arc::make_mut(config.projects.get_mut(&ProjectName::from(project)).expect("a project"));
    project.pipelines.values_mut().for_each(|jobs| *jobs = vec![node.clone()]);
}
