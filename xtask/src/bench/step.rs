//! `cargo xtask bench step`: what one decision costs when 500 changes of 1,000 projects are in one queue, in process; and
//! `cargo xtask bench days`: how many simulated days of a gate go into a minute.

use super::clock;
use super::figures::{self, Figure, Unit};
use super::product::Product;
use anyhow::{Context, Result, bail};
use assay_engine::gate::change::{Account, ChangeFacts, ChangeStatus, SubmitRecord};
use assay_engine::gate::config::{Config, EventKind};
use assay_engine::gate::ids::{ChangeId, Oid};
use assay_engine::gate::io::{
    self as gate, Event, LandRequest, LandResult, Merge, MergeRequest, Merged, Moved, Tip,
};
use assay_engine::ids::{ConnectionId, Timestamp};
use assay_engine::io::{Effect, Hello, Input, Message};
use assay_engine::outcome::Outcome;
use assay_engine::settings::ClassSet;
use assay_engine::state::State;
use assay_engine::work::{Held, Report, Timing, WorkPhase};
use camino::Utf8PathBuf;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

const PROJECTS: u64 = 1_000;
const CHANGES: u64 = 500;
/// Of the configuration that takes the place of the first one while the queue is full.
const MANY_PROJECTS: u64 = 10_000;
/// How often it does.
const CONFIGURATIONS: u64 = 5;
const JOBS: [&str; 2] = ["docs", "unit"];
/// Heads that fail, one after the other.
const FAILURES: usize = 5;
/// Changes that land, and others that come in their places.
const LANDINGS: usize = 20;
const DAYS: &str = "200";

struct Options {
    json: bool,
    check: bool,
    program: Option<Utf8PathBuf>,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self { json: false, check: false, program: None };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--json" => options.json = true,
                "--check" => options.check = true,
                "--assay" => options.program = Some(words.next().context("--assay needs a program")?.into()),
                _ => bail!("unknown option {word}; see `cargo xtask help`"),
            }
        }
        Ok(options)
    }

    fn tell(&self, found: &[Figure], notes: &[String]) -> Result<()> {
        if self.json {
            println!("{}", figures::json(found, notes)?);
        } else {
            print!("{}", figures::table(found, notes));
        }
        if self.check && !found.iter().all(Figure::reached) {
            bail!("not every figure is reached");
        }
        Ok(())
    }
}

/// `cargo xtask bench days`.
pub(crate) fn days(words: &[&str]) -> Result<()> {
    let options = Options::parse(words)?;
    let product = Product::new(options.program.as_deref())?;
    let words = ["gate", "simulate", "--days", "--seeds", DAYS, "--json"];
    let output = product.command(&product.data(), &words).output()?;
    let told: Value = serde_json::from_slice(&output.stdout).context("the simulation said nothing")?;
    if !output.status.success() {
        bail!("a simulated day went wrong: {told}");
    }
    let rate = told["per_minute"].as_f64().context("no rate")?;
    let figure = Figure::of("gate days simulated", Unit::PerMinute, vec![rate], Some(1_000.0), Vec::new());
    options
        .tell(&[figure], &[format!("{DAYS} days of 100 changes with 4 jobs each, {} inputs", told["inputs"])])
}

/// `cargo xtask bench step`.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let options = Options::parse(words)?;
    let mut rig = Rig::new()?;
    eprintln!("{CHANGES} changes of {PROJECTS} projects");
    for change in 1..=CHANGES {
        rig.comment(change)?;
    }
    if rig.running.len() != CHANGES as usize * JOBS.len() {
        let waits = rig.state.open_jobs().next().map(|job| (job.id, rig.state.wait_reason(job.id)));
        bail!(
            "{} builds run, not {}; {} items are held, {} jobs are open, the first waits for {waits:?}",
            rig.running.len(),
            CHANGES as usize * JOBS.len(),
            rig.state.gate().held().items.len(),
            rig.state.open_jobs().count(),
        );
    }
    // From here on the queue is as long as it gets.
    let filling = std::mem::take(&mut rig.samples);
    let mut next = CHANGES;
    for _ in 0..LANDINGS {
        rig.end_head(Outcome::Passed)?;
        next += 1;
        rig.comment(next)?;
    }
    let steady = std::mem::take(&mut rig.samples);
    let mut failures = Vec::new();
    for _ in 0..FAILURES {
        failures.push(rig.end_head(Outcome::Failed)?);
        next += 1;
        rig.comment(next)?;
    }
    let mut configured = Vec::new();
    for time in 0..CONFIGURATIONS {
        // One project more each time, so that it is another configuration.
        configured.push(rig.configure(MANY_PROJECTS + time)?);
    }
    let found = [
        Figure::worst(
            "step while 500 changes come in, P99",
            Unit::Milliseconds,
            vec![p99(filling)],
            0.001,
            Vec::new(),
        ),
        Figure::worst("step with 500 changes, P99", Unit::Milliseconds, vec![p99(steady)], 0.001, Vec::new()),
        Figure::of("head of 500 fails, the step", Unit::Milliseconds, failures, Some(0.02), Vec::new()),
        Figure::of(
            "ten thousand projects configured, the step",
            Unit::Milliseconds,
            configured,
            Some(0.3),
            Vec::new(),
        ),
    ];
    let notes =
        ["processor time, in process, the engine as the dev profile builds it (opt-level 2)".to_owned()];
    options.tell(&found, &notes)
}

fn p99(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() * 99 / 100).copied().unwrap_or(0.0)
}

/// One gate with one queue of all projects.
fn config(projects: u64) -> Result<Config> {
    let mut text = "landing: push\npipelines:\n  - name: gate\n    manager: dependent\n    trigger: {event: comment-added}\n    \
                    success: [{review: {Verified: 1}, submit: true}]\n    failure: [{review: {Verified: -1}}]\n    window: 0\n\
                    jobs:\n"
        .to_owned();
    for job in JOBS {
        let _ = writeln!(text, "  {job}: {{imported: true, env: {{BACKEND: dummy}}}}");
    }
    let names: Vec<_> = (0..projects).map(|project| format!("p{project}")).collect();
    let _ = writeln!(text, "queues:\n  - {{name: all, projects: [{}]}}\nprojects:", names.join(", "));
    for name in &names {
        let _ = writeln!(text, "  {name}: {{merge-mode: merge, gate: [{}]}}", JOBS.join(", "));
    }
    let loaded = assay_formats::assay::load(&[("gate.yaml", &text)]);
    loaded.config.with_context(|| format!("the configuration cannot be used: {:?}", loaded.diagnostics))
}

/// The engine's state, with a merger and a worker that answer at once.
struct Rig {
    state: State,
    now: i64,
    samples: Vec<f64>,
    next: VecDeque<Input>,
    /// What the worker runs, by change and job, and under which attempt.
    running: BTreeMap<(u64, String), Held>,
    lands: Vec<LandRequest>,
    /// Seconds of the longest step since somebody looked.
    longest: f64,
}

const WORKER: ConnectionId = ConnectionId(1);

impl Rig {
    fn new() -> Result<Self> {
        let mut rig = Self {
            state: State::new(Timing::default(), Timestamp(1)),
            now: 1,
            samples: Vec::new(),
            next: VecDeque::new(),
            running: BTreeMap::new(),
            lands: Vec::new(),
            longest: 0.0,
        };
        rig.feed(Input::Gate(Box::new(gate::Input::Configure(Arc::new(config(PROJECTS)?)))))?;
        let hello = Hello {
            name: "w".to_owned().try_into().map_err(|error| anyhow::anyhow!("{error}"))?,
            instance: "w/1".to_owned(),
            host: "h".to_owned(),
            version: "0".to_owned(),
            slots: 100_000,
            classes: ClassSet::parse("dummy,shell,qemu_x86_64"),
            holds: Vec::new(),
            room: None,
            once: false,
        };
        rig.feed(Input::Hello { connection: WORKER, hello })?;
        Ok(rig)
    }

    /// One input, and all that comes of it.
    fn feed(&mut self, input: Input) -> Result<()> {
        self.next.push_back(input);
        while let Some(input) = self.next.pop_front() {
            self.now += 1;
            let began = clock::processor();
            let step = self.state.step(input, Timestamp(self.now));
            let took = clock::processor().saturating_sub(began).as_secs_f64();
            self.samples.push(took);
            self.longest = self.longest.max(took);
            step.answer.map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
            for effect in step.effects {
                self.carry_out(effect)?;
            }
        }
        Ok(())
    }

    /// Puts a configuration of so many projects in force, with everything that is queued and runs; the seconds of that
    /// step alone.
    fn configure(&mut self, projects: u64) -> Result<f64> {
        let config = Arc::new(config(projects)?);
        let standing = |rig: &Self| (rig.state.gate().held().items.len(), rig.running.len());
        let before = standing(self);
        self.samples.clear();
        self.feed(Input::Gate(Box::new(gate::Input::Configure(config))))?;
        let after = standing(self);
        if after != before || after.0 == 0 {
            bail!(
                "{after:?} of {before:?} items and builds are left after a configuration with the same jobs"
            );
        }
        self.samples.first().copied().context("no step")
    }

    fn carry_out(&mut self, effect: Effect) -> Result<()> {
        match effect {
            Effect::Send { message: Message::Assign { held, settings, .. }, .. } => {
                let change = settings.get("ZUUL_CHANGE").and_then(|change| change.parse().ok());
                let change = change.context("a build without a change")?;
                let job = settings.get("TEST").cloned().unwrap_or_default();
                self.running.insert((change, job), held);
                self.next.push_back(Input::Phase { connection: WORKER, held, phase: WorkPhase::Running });
            }
            Effect::Send { message: Message::Cancel { held, .. }, .. } => {
                self.running.retain(|_, own| *own != held);
                let report = Report {
                    outcome: Outcome::UserCancelled,
                    class: Outcome::UserCancelled.class(),
                    reason: Some("stopped".to_owned()),
                };
                self.next.push_back(Input::Finished { connection: WORKER, held, report });
            }
            Effect::Gate(gate::Effect::Merge(Merge::Make(request))) => self.merge(&request),
            Effect::Gate(gate::Effect::Merge(Merge::Forget(merge))) => {
                let is_of = |input: &Input| matches!(input, Input::Gate(input) if matches!(&**input, gate::Input::Merged { merge: own, .. } if *own == merge));
                self.next.retain(|input| !is_of(input));
            }
            Effect::Gate(gate::Effect::Land(request)) => self.lands.push(*request),
            _ => {}
        }
        Ok(())
    }

    fn merge(&mut self, request: &MergeRequest) {
        let tip = |text: String| Tip {
            commit: Oid::from(text.as_str()),
            tree: Oid::from(format!("tree of {text}")),
        };
        let moved = request.changes.iter().map(|change| Moved {
            project: change.project.clone(),
            branch: change.branch.clone(),
            base: tip("base".to_owned()),
            tip: tip(format!("{}/{}", change.project, change.patchset)),
        });
        let result = Ok(Merged { moved: moved.collect() });
        self.next.push_back(Input::Gate(Box::new(gate::Input::Merged { merge: request.merge, result })));
    }

    /// A change is approved.
    fn comment(&mut self, number: u64) -> Result<()> {
        let facts = ChangeFacts {
            id: ChangeId { source: "gerrit".into(), number },
            current_patchset: 1,
            revision: format!("{number:040x}").into(),
            fetch_ref: format!("refs/changes/{:02}/{number}/1", number % 100),
            project: format!("p{}", number * 2 % PROJECTS).into(),
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
        };
        let mut event = Event::new("gerrit".into(), EventKind::CommentAdded);
        event.change = Some(facts.patchset());
        event.facts = vec![facts];
        self.feed(Input::Gate(Box::new(gate::Input::Event(Box::new(event)))))
    }

    /// The head's jobs end so, and it leaves the queue; how long the longest step took.
    fn end_head(&mut self, outcome: Outcome) -> Result<f64> {
        self.longest = 0.0;
        let head = self.running.keys().next().context("nothing runs")?.0;
        for job in JOBS {
            let Some(held) = self.running.remove(&(head, job.to_owned())) else { continue };
            let reason = (outcome != Outcome::Passed).then(|| "it is wrong".to_owned());
            let report = Report { outcome, class: outcome.class(), reason };
            self.feed(Input::Finished { connection: WORKER, held, report })?;
        }
        for request in std::mem::take(&mut self.lands) {
            let tips = request.members.iter().map(|member| member.tested.clone()).collect();
            let result = LandResult::Landed { tips };
            self.feed(Input::Gate(Box::new(gate::Input::Landed { item: request.item, result })))?;
        }
        if self.running.keys().next().is_some_and(|(change, _)| *change == head) {
            bail!("change {head} is still there");
        }
        Ok(self.longest)
    }
}
