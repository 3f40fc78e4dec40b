//! A gate full of changes, made by the engine itself: for pages, without a Gerrit.

use assay_engine::gate::change::{Account, ChangeFacts, ChangeStatus, SubmitRecord};
use assay_engine::gate::config::Config;
use assay_engine::gate::ids::{ChangeId, MergeId, Oid};
use assay_engine::gate::io::{
    Command, Effect as GateEffect, Input as GateInput, LandRequest, LandResult, Merge, MergeFailure,
    MergeRequest, Merged, Moved, Tip,
};
use assay_engine::ids::{ConnectionId, Timestamp};
use assay_engine::io::{Effect, Hello, Input, Message};
use assay_engine::outcome::{Outcome, OutcomeClass};
use assay_engine::rows::Row;
use assay_engine::settings::ClassSet;
use assay_engine::state::State;
use assay_engine::work::{Held, Report, Timing, WorkPhase};
use assay_store::{Batch, NewEvent};
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The configuration, to be written into a directory that a server is told of.
const CONFIG: &str = "\
pipelines: [check, gate]
landing: push
queues:
  - {name: platform, projects: [platform/api, platform/client]}
projects:
  platform/api: {check: [lint, unit], gate: [lint, unit, {package: [upgrade]}]}
  platform/client: {check: [lint, unit], gate: [lint, unit, {package: [upgrade]}]}
  docs: {check: [unit], gate: [unit]}
jobs:
  lint: {run: make lint, voting: false}
  unit: {run: make check}
  package: {run: ./ci/package}
  upgrade: {run: ./ci/upgrade}
";

/// The change of the project with a queue of its own.
const DOCS: u64 = 900_001;
const WORKER: ConnectionId = ConnectionId(1);

/// The engine with a worker of its own, and everything that it wants stored.
struct Gated {
    state: State,
    rows: Vec<Row>,
    now: Timestamp,
    merges: VecDeque<MergeRequest>,
    tips: BTreeMap<MergeId, Vec<Moved>>,
    landings: VecDeque<LandRequest>,
    /// Running jobs by change and name.
    held: BTreeMap<(String, String, String), Held>,
    connected: bool,
}

fn oid(what: &str, number: u64) -> Oid {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(format!("{what} {number}"));
    Oid::from(hex::encode(digest)[..40].to_owned())
}

/// The configuration, compiled.
fn config() -> Config {
    let loaded = assay_formats::assay::load(&[("gate.yaml", CONFIG)]);
    loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
}

/// A change of one of the projects, approved and not merged.
fn change(number: u64, now: Timestamp) -> ChangeFacts {
    let projects = ["platform/api", "platform/client"];
    let subjects = [
        "Answer in time",
        "Read <both> files & close them",
        "A very long first line of a commit message that says everything there is to be said about this change, and then some more",
    ];
    ChangeFacts {
        id: ChangeId { source: "gerrit".into(), number },
        current_patchset: 2,
        revision: oid("revision", number),
        fetch_ref: format!("refs/changes/{:02}/{number}/2", number % 100),
        project: if number == DOCS { "docs" } else { projects[number as usize % 2] }.into(),
        branch: "master".into(),
        change_id: Some(format!("I{}", oid("id", number))),
        subject: subjects[number as usize % 3].to_owned(),
        message: subjects[number as usize % 3].to_owned(),
        url: Some(format!("https://review.example/{number}")),
        owner: Account {
            name: Some("Alice Example".to_owned()),
            email: Some("alice@example.org".to_owned()),
            username: Some("alice".to_owned()),
        },
        topic: None,
        status: ChangeStatus::New,
        wip: false,
        approvals: Vec::new(),
        submit_records: vec![SubmitRecord::Ok],
        files: Some(vec!["src/main.c".to_owned()]),
        parents: Vec::new(),
        as_of: now,
    }
}

impl Gated {
    /// A gate with this configuration and nothing in it.
    fn new(config: Config, now: Timestamp) -> Self {
        let mut gated = Self {
            state: State::new(Timing::default(), now),
            rows: Vec::new(),
            now,
            merges: VecDeque::new(),
            tips: BTreeMap::new(),
            landings: VecDeque::new(),
            held: BTreeMap::new(),
            connected: false,
        };
        gated.step(Input::Tick);
        gated.gate(GateInput::Configure(Arc::new(config)));
        gated
    }

    fn step(&mut self, input: Input) {
        let step = self.state.step(input, self.now);
        step.answer.expect("the engine takes it");
        for effect in step.effects {
            match effect {
                Effect::Save(row) => self.rows.push(*row),
                Effect::Send { message: Message::Assign { held, settings, .. }, .. } => {
                    let of = |name: &str| settings.get(name).cloned().unwrap_or_default();
                    let key = (of("ZUUL_CHANGE"), of("ZUUL_PIPELINE"), of("TEST"));
                    self.held.insert(key, held);
                }
                Effect::Gate(GateEffect::Merge(Merge::Make(request))) => self.merges.push_back(request),
                Effect::Gate(GateEffect::Land(request)) => self.landings.push_back(*request),
                _ => {}
            }
        }
    }

    fn gate(&mut self, input: GateInput) {
        self.step(Input::Gate(Box::new(input)));
    }

    fn pass(&mut self, seconds: i64) {
        self.now = self.now.plus_seconds(seconds);
        if self.connected {
            let holds = self.held.values().copied().collect();
            self.step(Input::Heartbeat { connection: WORKER, holds, room: None });
        }
        self.step(Input::Tick);
    }

    /// A worker with so many slots.
    fn worker(&mut self, slots: u32) {
        let hello = Hello {
            name: "rack1".to_owned().try_into().expect("a name"),
            instance: "i".to_owned(),
            host: "rack1.example".to_owned(),
            version: "1".to_owned(),
            slots,
            classes: ClassSet::parse("shell"),
            holds: Vec::new(),
            room: None,
            once: false,
        };
        self.connected = true;
        self.step(Input::Hello { connection: WORKER, hello });
    }

    /// It goes away without a word.
    fn no_worker(&mut self) {
        self.connected = false;
        self.held.clear();
        self.step(Input::Disconnected { connection: WORKER });
    }

    fn command(&mut self, command: Command) {
        self.gate(GateInput::Command { command, by: "carol".to_owned() });
    }

    fn enqueue(&mut self, pipeline: &str, number: u64) {
        let facts = change(number, self.now);
        let patchset = facts.patchset();
        self.command(Command::Enqueue { pipeline: pipeline.into(), patchset, facts: vec![facts] });
    }

    /// Makes the states that are asked for; one with `conflict` in it does not merge.
    fn merge(&mut self, conflict: Option<u64>) {
        while let Some(request) = self.merges.pop_front() {
            let last = request.changes.last().expect("a change").clone();
            let number = last.patchset.change.number;
            let result = if Some(number) == conflict {
                Err(MergeFailure::Conflict { change: last.patchset, paths: vec!["src/main.c".to_owned()] })
            } else {
                let what = format!("{}", request.merge);
                let tip = |kind: &str| Tip {
                    commit: oid(kind, number),
                    tree: oid(&format!("{kind} tree"), number),
                };
                let base = request.ahead.and_then(|ahead| self.tips.get(&ahead)?.last().cloned());
                let base = base.map_or_else(|| tip("base"), |moved| moved.tip);
                let moved = Moved { project: last.project, branch: last.branch, base, tip: tip(&what) };
                self.tips.insert(request.merge, vec![moved.clone()]);
                Ok(Merged { moved: vec![moved] })
            };
            self.gate(GateInput::Merged { merge: request.merge, result });
        }
    }

    /// Every job that the worker has begins.
    fn begin(&mut self) {
        for held in self.held.values().copied().collect::<Vec<_>>() {
            for phase in [WorkPhase::Setup, WorkPhase::Running] {
                self.step(Input::Phase { connection: WORKER, held, phase });
            }
        }
    }

    /// Ends jobs that run: of a change, or of all; one name, or all.
    fn end(&mut self, number: Option<u64>, job: &str, outcome: Outcome) {
        let number = number.map(|number| number.to_string());
        let fits = |key: &(String, String, String)| {
            number.as_ref().is_none_or(|number| *number == key.0) && (job.is_empty() || job == key.2)
        };
        let keys: Vec<_> = self.held.keys().filter(|key| fits(key)).cloned().collect();
        for key in keys {
            let Some(held) = self.held.remove(&key) else { continue };
            let passed = outcome == Outcome::Passed;
            let reason = (!passed).then(|| format!("{} of {} says no", key.2, key.0));
            let report = Report { outcome, class: OutcomeClass::Product, reason };
            self.step(Input::Finished { connection: WORKER, held, report });
        }
    }

    /// Whatever is to land lands as it was tested.
    fn land(&mut self) {
        while let Some(request) = self.landings.pop_front() {
            let tips = request.members.iter().map(|member| member.tested.clone()).collect();
            self.gate(GateInput::Landed { item: request.item, result: LandResult::Landed { tips } });
        }
    }

    /// Some changes that have landed, so that jobs have a history.
    fn history(&mut self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            self.enqueue("gate", number);
            self.merge(None);
            self.begin();
            for job in ["lint", "unit", "package", "upgrade"] {
                self.pass(4);
                self.begin();
                self.pass(3 + number as i64 % 4);
                self.end(Some(number), job, Outcome::Passed);
            }
            self.land();
            self.pass(1);
        }
    }

    /// `count` changes in the gate from `first` on: the first has jobs that passed, the third fails a job, the fifth does
    /// not merge; and some in check.
    fn busy(&mut self, first: u64, count: u64) {
        for number in first..first + count {
            self.enqueue("gate", number);
        }
        for number in first + 500_000..first + 500_000 + count.min(8) {
            self.enqueue("check", number);
        }
        self.merge(Some(first + 4));
        self.begin();
        self.pass(5);
        self.end(Some(first), "unit", Outcome::Passed);
        self.end(Some(first + 2), "unit", Outcome::Failed);
        self.merge(Some(first + 4));
        self.begin();
        self.pass(2);
    }
}

/// What the server is to find.
pub(crate) struct Scene {
    /// Changes in the gate, from 2001 on.
    pub(crate) count: u64,
    /// A worker `rack1` runs jobs, and one of them has failed.
    pub(crate) worker: bool,
    /// The server's time.
    pub(crate) now: Timestamp,
}

/// Writes a configuration into `place` and a database into `data`. Returns the server's configuration file.
pub(crate) async fn prepare(place: &Utf8Path, data: &Utf8Path, scene: &Scene) -> Utf8PathBuf {
    fs_err::create_dir_all(place.join("gate")).expect("a place for the configuration");
    fs_err::create_dir_all(data).expect("a place for the data");
    fs_err::write(place.join("gate/gate.yaml"), CONFIG).expect("the configuration is written");
    let file = place.join("assay.toml");
    fs_err::write(&file, "[gate]\nconfig = \"gate\"\n").expect("the server's configuration is written");

    let mut gated = Gated::new(config(), scene.now.plus_seconds(-1800));
    gated.worker(60);
    gated.history(1001..1009);
    if !scene.worker {
        gated.no_worker();
    }
    gated.enqueue("gate", DOCS);
    gated.busy(2001, scene.count);
    let hold =
        Command::Hold { pipeline: "gate".into(), queue: "docs".into(), reason: "release day".to_owned() };
    gated.command(hold);
    let store = assay_store::open(&format!("sqlite:{}", data.join("assay.db"))).await.expect("a database");
    let epoch = store.acquire_leadership().await.expect("nobody else leads");
    let mut batch = Batch::default();
    let caused = r#"{"pipelines":[{"pipeline":"check","why":"no trigger of the pipeline matches: it is a comment",
                     "ignored":{"ignored":"no_trigger","nearest":"it is a comment"}}]}"#;
    let body = r#"{"event":{"source":"gerrit","kind":"comment-added","by":{"name":"Bob"},"comment":"Looks <good>"}}"#;
    let missed = r#"{"pipelines":[
        {"pipeline":"check","why":"no trigger of the pipeline matches: the event carries no vote Approved +1",
         "ignored":{"ignored":"no_trigger","nearest":"the event carries no vote Approved +1","listens":true}},
        {"pipeline":"post","why":"no trigger of the pipeline matches: it is no ref",
         "ignored":{"ignored":"no_trigger","nearest":"it is no ref","listens":false}}]}"#;
    let event = |key: &str, change| NewEvent {
        dedupe_key: key.to_owned(),
        change: Some(change),
        body: body.to_owned(),
    };
    let at = scene.now.plus_seconds(-3000);
    let all = [event("1", 2001), event("2", 9), event("3", 9)];
    let events = store.gate().receive(epoch, &"gerrit".into(), at, &all, &[]).await.expect("stored");
    batch.consumed(events[0].id, caused.to_owned(), None);
    batch.consumed(events[1].id, missed.replace("Approved +1", "Code-Review +2"), None);
    batch.consumed(events[2].id, missed.to_owned(), None);
    gated.rows.into_iter().for_each(|row| batch.push(row));
    store.commit(epoch, &batch).await.expect("the rows are stored");
    store.close().await;
    file
}
