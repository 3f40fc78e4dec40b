//! Stories in text. A file in `tests/scenarios` has commands (`$ …`) and below each what comes of it; run with
//! `ASSAY_UPDATE_GOLDEN=1` to write down what comes of it now, and read the difference.
//!
//! | command | meaning |
//! |---|---|
//! | `post K=V … [; K=V …]` | posts jobs; `PRIO=N` is the priority |
//! | `cancel JOB by NAME` | |
//! | `hello W [instance=I] [slots=N] [classes=C] [without ATTEMPT] [with ATTEMPT]` | connects with what W holds |
//! | `bye W` / `cut W` | the connection breaks and the server hears of it / does not |
//! | `drain W [BY]` | W gets nothing new; without BY, it gets work again |
//! | `phase W ATTEMPT PHASE` | |
//! | `finish W ATTEMPT OUTCOME [reason …]` | |
//! | `pass SECONDS [beating W …] [without ATTEMPT]` | time passes, with heartbeats every 3 s |
//! | `stop SECONDS` | the server's process stands still |
//! | `restart` | the server dies and comes back |
//! | `restart JOB … [OPTION …] [K=V …]` | starts jobs anew; with `plan`, says what would happen |
//! | `prio`, `obsolete K=V …`, `release`, `force`, `delete` | the other inputs about jobs |
//! | `ask W ATTEMPT NUMBER QUESTION …` | its test asks: `create`, `lock`, `unlock`, `barrier`, `meet`, `children` … |
//! | `show` | all jobs, attempts and workers |

use crate::world::{Out, World};
use assay_engine::ids::{AttemptId, ConnectionId, JobId, WorkerName};
use assay_engine::io::{Answer, Hello, Input, Message, NewJob, Obsolete, Verdict};
use assay_engine::locks::LockOp;
use assay_engine::outcome::Outcome;
use assay_engine::relations::{ParentRef, Relation};
use assay_engine::rows::{Hold, WorkerStatus};
use assay_engine::sched::restart::RestartRequest;
use assay_engine::settings::{ClassSet, Settings};
use assay_engine::talk::Question;
use assay_engine::work::{Held, Phase, Report, Timing, WorkPhase};
use camino::Utf8Path;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

const SECOND: i64 = 1_000_000;

/// One job of a request. `AFTER=`, `DIRECT=` and `WITH=` are its parents: a place in the request from 1, or `#JOB`;
/// `HOLD=FILE` makes it wait for a file.
fn posted(text: &str) -> NewJob {
    let pairs: Vec<(&str, &str)> = text.split_whitespace().filter_map(|word| word.split_once('=')).collect();
    let own = |wanted: &str| pairs.iter().find(|(key, _)| *key == wanted).map(|(_, value)| *value);
    let words =
        [("AFTER", Relation::Chained), ("DIRECT", Relation::DirectlyChained), ("WITH", Relation::Parallel)];
    let mut parents = Vec::new();
    for (word, relation) in words {
        for parent in own(word).into_iter().flat_map(|list| list.split(',')) {
            let number = |text: &str| text.parse::<i64>().expect("a number");
            parents.push(match parent.strip_prefix('#') {
                Some(job) => (relation, ParentRef::Job(JobId(number(job)))),
                None => (relation, ParentRef::Posted(number(parent) as usize - 1)),
            });
        }
    }
    let settings = pairs.iter().filter(|(key, _)| !["PRIO", "AFTER", "DIRECT", "WITH", "HOLD"].contains(key));
    NewJob {
        priority: own("PRIO").map(|number| number.parse().expect("a number")),
        parents,
        hold: own("HOLD").map(|file| Hold::Assets { names: vec![file.to_owned()], trouble: None }),
        ..NewJob::new(Settings::from_request(settings.copied()))
    }
}

struct Story {
    world: World,
    connections: BTreeMap<String, ConnectionId>,
    names: BTreeMap<ConnectionId, String>,
    /// What each worker holds.
    holds: BTreeMap<String, BTreeSet<Held>>,
    hellos: BTreeMap<String, Hello>,
    text: String,
}

fn option<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn word_after<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    let at = words.iter().position(|word| *word == key)?;
    words.get(at + 1).copied()
}

impl Story {
    fn new() -> Self {
        Self {
            world: World::new(Timing::default()),
            connections: BTreeMap::new(),
            names: BTreeMap::new(),
            holds: BTreeMap::new(),
            hellos: BTreeMap::new(),
            text: String::new(),
        }
    }

    fn say(&mut self, line: impl std::fmt::Display) {
        writeln!(self.text, "{line}").expect("writing to a string");
    }

    fn input(&mut self, input: Input) {
        let (answer, out) = self.world.input(input);
        match answer {
            Ok(Answer::Done) => {}
            Ok(answer) => self.say(format_args!("= {answer:?}")),
            Err(refusal) => self.say(format_args!("! {refusal}")),
        }
        self.tell(out);
    }

    fn tell(&mut self, out: Out) {
        for (connection, message) in out.sent {
            let Some(name) = self.names.get(&connection).cloned() else { continue };
            let line = self.obey(&name, message);
            self.say(format_args!("-> {name}: {line}"));
        }
        for (connection, reason) in out.closed {
            if let Some(name) = self.names.remove(&connection) {
                self.connections.retain(|_, other| *other != connection);
                self.say(format_args!("-> {name} closed: {reason}"));
            }
        }
    }

    fn obey(&mut self, name: &str, message: Message) -> String {
        let holds = self.holds.entry(name.to_owned()).or_default();
        match message {
            Message::Welcome { holds: verdicts, .. } => {
                let mut line = "welcome".to_owned();
                for hold in verdicts {
                    let word = match hold.verdict {
                        Verdict::GoOn { phase } => format!("go on, {phase}"),
                        Verdict::Finished => "finished".to_owned(),
                        Verdict::Fenced(reason) => {
                            holds.remove(&hold.held);
                            format!("fenced: {reason}")
                        }
                    };
                    write!(line, "; {} {word}", hold.held.attempt).expect("writing to a string");
                }
                line
            }
            Message::Refused(refusal) => format!("refused (retry: {}): {refusal}", refusal.retry()),
            Message::Answer { held, ask, reply } => {
                let reply = serde_json::to_value(&reply).expect("JSON");
                let words: Vec<String> = reply
                    .as_object()
                    .expect("an object")
                    .iter()
                    .map(|(key, value)| match value.as_str() {
                        Some(text) if key == "reply" || key == "why" => text.to_owned(),
                        _ => value.to_string(),
                    })
                    .collect();
                format!("answer {} to {ask}: {}", held.attempt, words.join(" "))
            }
            Message::Assign { held, name, settings, place: _ } => {
                holds.insert(held);
                let class = &settings["WORKER_CLASS"];
                format!("assign {} {name} token {} [{class}]", held.attempt, held.token.0)
            }
            Message::Cancel { held, reason, superseded: _ } => format!("cancel {}: {reason}", held.attempt),
            Message::Fenced { held, reason } => {
                holds.remove(&held);
                format!("fenced {}: {reason}", held.attempt)
            }
            Message::FinishedAck { attempt } => {
                holds.retain(|held| held.attempt != attempt);
                format!("finished {attempt} is stored")
            }
        }
    }

    fn hello(&mut self, words: &[&str]) {
        let name = words[0].to_owned();
        let without: Option<AttemptId> =
            word_after(words, "without").map(|id| id.parse().expect("an attempt"));
        let connection =
            ConnectionId(self.world.now.0 as u64 + self.names.len() as u64 + 1_000 * self.text.len() as u64);
        let mut holds = self.holds_of(&name, without);
        holds.extend(word_after(words, "with").map(|attempt| self.held(attempt)));
        let before = self.hellos.get(&name);
        let keep = |old: fn(&Hello) -> String, key: &str, default: &str| {
            let given = option(words, key).map(str::to_owned);
            given.or_else(|| before.map(old)).unwrap_or_else(|| default.to_owned())
        };
        let hello = Hello {
            name: name.parse().expect("a name"),
            instance: keep(|hello| hello.instance.clone(), "instance", "first"),
            host: keep(|hello| hello.host.clone(), "host", "h"),
            version: "1".to_owned(),
            slots: keep(|hello| hello.slots.to_string(), "slots", "1").parse().expect("a number"),
            classes: ClassSet::parse(&keep(|hello| hello.classes.to_string(), "classes", "dummy")),
            holds,
            room: None,
            once: false,
        };
        if before.is_none_or(|before| before.instance == hello.instance) {
            self.hellos.insert(name.clone(), hello.clone());
        }
        self.connections.insert(name.clone(), connection);
        self.names.insert(connection, name);
        self.input(Input::Hello { connection, hello });
    }

    fn holds_of(&self, name: &str, without: Option<AttemptId>) -> Vec<Held> {
        let holds = self.holds.get(name).into_iter().flatten();
        holds.copied().filter(|held| Some(held.attempt) != without).collect()
    }

    /// An attempt as a worker knows it, even if it does not hold it any more.
    fn held(&self, attempt: &str) -> Held {
        let attempt: AttemptId = attempt.parse().expect("an attempt");
        let row = self.world.db.attempts.get(&attempt);
        Held { attempt, token: row.unwrap_or_else(|| panic!("no attempt {attempt}:\n{}", self.text)).token }
    }

    fn pass(&mut self, words: &[&str]) {
        let mut left: i64 = words[0].parse::<i64>().expect("seconds") * SECOND;
        let without: Option<AttemptId> =
            word_after(words, "without").map(|id| id.parse().expect("an attempt"));
        let beating = words
            .iter()
            .skip_while(|word| **word != "beating")
            .skip(1)
            .take_while(|word| **word != "without");
        let beating: Vec<&str> = beating.copied().collect();
        while left > 0 {
            let step = left.min(3 * SECOND);
            left -= step;
            let out = self.world.pass(step);
            self.tell(out);
            for name in &beating {
                let holds = self.holds_of(name, without);
                if let Some(connection) = self.connections.get(*name).copied() {
                    self.input(Input::Heartbeat { connection, holds, room: None });
                }
            }
        }
    }

    fn command(&mut self, command: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let connection = |this: &Self| this.connections.get(words[1]).copied().unwrap_or(ConnectionId(0));
        match words[0] {
            "post" => {
                let jobs = command["post".len()..].split(';').map(posted);
                self.input(Input::PostJobs { jobs: jobs.collect() });
            }
            "cancel" => {
                let job = JobId(words[1].parse().expect("a job"));
                self.input(Input::CancelJob { job, by: words[3].to_owned() });
            }
            "restart" if words.len() > 1 => self.start_anew(&words[1..]),
            "prio" => {
                let job = JobId(words[1].parse().expect("a job"));
                let priority = Some(words[2].parse().expect("a number"));
                self.input(Input::Edit { job, priority, group: None });
            }
            "obsolete" => {
                let matching = words[1..].iter().filter_map(|word| word.split_once('='));
                let matching = matching.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
                self.input(Input::Obsolete(Obsolete { matching, by: "x".to_owned(), ..Obsolete::default() }));
            }
            "release" => {
                let job = JobId(words[1].parse().expect("a job"));
                let failed = Some(words[2..].join(" ")).filter(|text| !text.is_empty());
                self.input(Input::Release { job, failed });
            }
            "force" => {
                let job = JobId(words[1].parse().expect("a job"));
                let outcome = Outcome::from_openqa(words[2]).expect("an outcome");
                let (by, reason) = (words[3].to_owned(), words[4..].join(" "));
                self.input(Input::ForceResult { job, outcome, by, reason });
            }
            "delete" => {
                let job = JobId(words[1].parse().expect("a job"));
                self.input(Input::DeleteJob { job });
            }
            "hello" => self.hello(&words[1..]),
            "bye" => {
                let connection = connection(self);
                self.connections.remove(words[1]);
                self.input(Input::Disconnected { connection });
            }
            "cut" => {
                let connection = connection(self);
                self.connections.remove(words[1]);
                self.names.remove(&connection);
            }
            "drain" => {
                let by = words.get(2).map(|by| (*by).to_owned());
                self.input(Input::Drain { worker: words[1].parse().expect("a name"), by });
            }
            "phase" => {
                let phase = match words[3] {
                    "setup" => WorkPhase::Setup,
                    "running" => WorkPhase::Running,
                    "uploading" => WorkPhase::Uploading,
                    other => panic!("no phase {other}"),
                };
                let input = Input::Phase { connection: connection(self), held: self.held(words[2]), phase };
                self.input(input);
            }
            "finish" => {
                let outcome = Outcome::from_openqa(words[3]).expect("an outcome");
                let reason = Some(words[4..].join(" ")).filter(|reason| !reason.is_empty());
                let report = Report { outcome, class: outcome.class(), reason };
                let input =
                    Input::Finished { connection: connection(self), held: self.held(words[2]), report };
                self.input(input);
            }
            "ask" => {
                let ask = words[3].parse().expect("a number");
                let question = question(&words[4..]);
                self.input(Input::Ask {
                    connection: connection(self),
                    held: self.held(words[2]),
                    ask,
                    question,
                });
            }
            "pass" => self.pass(&words[1..]),
            "stop" => {
                let seconds: i64 = words[1].parse().expect("seconds");
                let out = self.world.leap(seconds * SECOND);
                self.tell(out);
            }
            "restart" => {
                self.connections.clear();
                self.names.clear();
                let out = self.world.restart();
                self.tell(out);
            }
            "show" => self.show(),
            other => panic!("no command {other}"),
        }
    }

    /// `restart JOB… [force] [skip_children] … [K=V …]`, `plan` for a plan only.
    fn start_anew(&mut self, words: &[&str]) {
        let mut request = RestartRequest { by: "alice".to_owned(), ..RestartRequest::default() };
        for word in words {
            let options = &mut request.options;
            match (*word, word.parse(), word.split_once('=')) {
                (_, Ok(job), _) => request.jobs.push(JobId(job)),
                (_, _, Some((key, value))) => {
                    let value = Some(value.to_owned()).filter(|value| !value.is_empty());
                    options.set.insert(key.to_owned(), value);
                }
                ("plan", ..) => request.plan_only = true,
                ("force", ..) => options.force = true,
                ("skip_aborting_jobs", ..) => options.skip_aborting_jobs = true,
                ("skip_parents", ..) => options.skip_parents = true,
                ("skip_children", ..) => options.skip_children = true,
                ("skip_ok_result_children", ..) => options.skip_ok_result_children = true,
                ("copy_only", ..) => options.copy_only = true,
                (other, ..) => panic!("no option {other}"),
            }
        }
        let (answer, out) = self.world.input(Input::Restart(request));
        match answer {
            Ok(Answer::Restarted(plan)) => {
                for clone in &plan.clones {
                    let number = clone.clone.map_or("a clone".to_owned(), |id| id.to_string());
                    self.say(format_args!("= {} -> {number}, because {}", clone.job, clone.why()));
                }
                for stay in &plan.stays {
                    self.say(format_args!("= {} stays: {}", stay.job, stay.why));
                }
                for end in &plan.ends {
                    self.say(format_args!("= {} ends: {}", end.job, end.outcome.openqa()));
                }
                for (old, new) in &plan.exists {
                    self.say(format_args!("= {old} is {new} by now"));
                }
            }
            Ok(answer) => panic!("a restart gives {answer:?}"),
            Err(refusal) => self.say(format_args!("! {refusal}")),
        }
        self.tell(out);
    }

    fn show(&mut self) {
        let mut text = String::new();
        let write = |text: &mut String, line: String| {
            text.push_str(&line);
            text.push('\n');
        };
        for job in self.world.db.jobs.values() {
            let mut line = format!(
                "job {} {} prio {}: {} {}",
                job.id,
                job.name,
                job.priority,
                job.state.openqa_state(),
                job.state.openqa_result()
            );
            if let Some(reason) = self.world.state.wait_reason(job.id) {
                write!(line, ": {reason}").expect("writing to a string");
            }
            if let Some(end) = job.state.end() {
                write!(line, " ({}): {}", end.class.word(), end.text().unwrap_or_default())
                    .expect("writing to a string");
            }
            write(&mut text, line);
            for attempt in self.world.db.attempts.values().filter(|attempt| attempt.id.job == job.id) {
                let end = attempt.end.as_ref();
                let end = end.map_or(String::new(), |end| {
                    format!(" {}: {}", end.outcome.openqa(), end.text().unwrap_or_default())
                });
                write(&mut text, format!("    {} on {}, {}{end}", attempt.id, attempt.worker, attempt.phase));
            }
        }
        for worker in self.world.db.workers.values() {
            let status = match &worker.status {
                WorkerStatus::Online { .. } => "online".to_owned(),
                WorkerStatus::Offline { why, .. } => format!("offline: {}", why.sentence()),
            };
            let name: &WorkerName = &worker.name;
            write(&mut text, format!("worker {name} [{}] x{}: {status}", worker.classes, worker.slots));
        }
        self.text.push_str(&text);
    }
}

fn play(script: &str) -> String {
    let mut story = Story::new();
    for line in script.lines() {
        if line.starts_with('#') || line.is_empty() {
            story.say(line);
        } else if let Some(command) = line.strip_prefix("$ ") {
            story.say(line);
            story.command(command);
        }
    }
    story.text
}

#[test]
fn stories() {
    let dir = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut differ = Vec::new();
    let mut count = 0;
    for entry in fs_err::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let expected = fs_err::read_to_string(&path).unwrap();
        let actual = play(&expected);
        count += 1;
        if actual != expected {
            if std::env::var_os("ASSAY_UPDATE_GOLDEN").is_some() {
                fs_err::write(&path, &actual).unwrap();
            }
            differ.push(format!("{}:\n{actual}", path.display()));
        }
    }
    assert!(count >= 5, "only {count} scenarios found in {dir}");
    assert!(differ.is_empty(), "different from what is written down:\n{}", differ.join("\n"));
}

/// A worker vanishes in each phase, of a job alone, of one of two in parallel, and of one that another directly follows:
/// what is sent to the worker that is left, and where the jobs stand a while later.
#[test]
fn a_worker_vanishes_in_each_phase() {
    let mut table = String::new();
    for phase in Phase::ALL.map(Phase::word) {
        for (kind, jobs) in [
            ("alone", "TEST=one WORKER_CLASS=dummy"),
            ("parallel", "TEST=one WORKER_CLASS=dummy; TEST=two WORKER_CLASS=dummy WITH=1"),
            ("direct", "TEST=one WORKER_CLASS=dummy; TEST=two WORKER_CLASS=dummy DIRECT=1"),
        ] {
            let come = if phase == "assigned" { String::new() } else { format!("$ phase a:1 1.1 {phase}\n") };
            let before = format!("$ hello a:1 host=alpha\n$ hello b:1 host=beta\n$ post {jobs}\n{come}");
            let script = format!("{before}$ cut a:1\n$ pass 600 beating b:1\n$ show\n");
            let told = play(&script);
            let lost = told.split_once("$ cut").map_or("", |(_, lost)| lost);
            let sent = lost.lines().filter(|line| line.starts_with("-> b:1"));
            let jobs = lost.lines().filter(|line| line.starts_with("job "));
            for line in sent.chain(jobs) {
                let _ = writeln!(table, "{phase} {kind}: {line}");
            }
        }
    }
    let path = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vanishing.txt");
    if std::env::var_os("ASSAY_UPDATE_GOLDEN").is_some() {
        fs_err::write(&path, &table).unwrap();
    }
    assert_eq!(table, fs_err::read_to_string(&path).unwrap(), "\n{table}");
}

/// What a test asks, in a few words.
fn question(words: &[&str]) -> Question {
    let name = words.get(1).copied().unwrap_or_default().to_owned();
    let number = |at: usize| words[at].parse().expect("a number");
    let lock = |lock| Question::Lock { lock };
    match words[0] {
        "create" => lock(LockOp::MutexCreate { name }),
        "lock" => lock(LockOp::MutexLock { name, owner: None }),
        "unlock" => lock(LockOp::MutexUnlock { name }),
        "barrier" => lock(LockOp::BarrierCreate { name, tasks: words[2].parse().expect("a number") }),
        "meet" => lock(LockOp::BarrierWait { name, owner: None, check_dead_job: false }),
        "give_up" => Question::GiveUp { waits_for: words[1].parse().expect("a number") },
        "children" => Question::Children {},
        "children_in" => Question::ChildrenInState { state: name },
        "parents" => Question::Parents {},
        "info" => Question::JobInfo { job: JobId(number(1)) },
        "wait_children" => Question::WaitForChildren {},
        "wait_start" => Question::WaitForChildrenToStart {},
        other => panic!("no question {other}"),
    }
}
