//! A configuration as Assay's YAML: what [`super::load`] reads back as the same, its hash and places apart.

use super::emit::Yaml;
use super::pipeline::{MAIL, SOURCE, SQL, precedence_word, word_of};
use super::task::{LIMITS, PHASES};
use super::{LANDINGS, MERGE_MODES};
use crate::zuul::trigger::{TIMER, ZUUL};
use assay_engine::gate::config::{
    ApprovalFilter, Config, EventKind, Growth, JobDef, JobNode, Messages, NOOP, Pipeline, Project,
    ReportAction, Requirements, SkipIf, Trigger, WindowConfig,
};
use assay_engine::gate::ids::SourceName;
use assay_engine::gate::pattern::Pattern;
use serde_json::Value;

/// A mapping that grows by what is not at its default.
#[derive(Default)]
struct Map(Vec<(String, Yaml)>);

impl Map {
    fn put(&mut self, key: &str, value: Yaml) {
        self.0.push((key.to_owned(), value));
    }

    fn flag(&mut self, key: &str, value: bool, default: bool) {
        if value != default {
            self.put(key, Yaml::word(value));
        }
    }

    fn text(&mut self, key: &str, value: Option<&impl ToString>) {
        if let Some(value) = value {
            self.put(key, Yaml::text(value.to_string()));
        }
    }

    fn list(&mut self, key: &str, values: Vec<Yaml>) {
        if !values.is_empty() {
            self.put(key, Yaml::List(values));
        }
    }

    fn patterns(&mut self, key: &str, patterns: &[Pattern]) {
        match patterns {
            [] => {}
            [one] => self.put(key, Yaml::text(one.as_str())),
            many => self.put(key, Yaml::texts(many.iter().map(Pattern::as_str))),
        }
    }

    fn finish(self) -> Yaml {
        Yaml::Map(self.0)
    }
}

/// The files: names and texts.
pub fn to_files(config: &Config) -> Vec<(&'static str, String)> {
    let mut pipelines = Map::default();
    pipelines.list("pipelines", config.pipelines.iter().map(|it| pipeline(it)).collect());
    let mut queues = Map::default();
    queues.list("queues", config.pipelines.iter().flat_map(|pipeline| self::queues(pipeline)).collect());
    let mut projects = Map::default();
    let all = config.projects.values().map(|it| (it.name.to_string(), project(it)));
    projects.put("projects", Yaml::Map(all.collect()));
    let mut jobs = Map::default();
    if !config.semaphores.is_empty() {
        let all = config.semaphores.iter().map(|(name, count)| (name.to_string(), Yaml::word(count)));
        jobs.put("semaphores", Yaml::Map(all.collect()));
    }
    let all = config.jobs.values().map(|it| (it.name.to_string(), job(it)));
    jobs.put("jobs", Yaml::Map(all.collect()));
    [("pipelines.yaml", pipelines), ("queues.yaml", queues), ("projects.yaml", projects), ("jobs.yaml", jobs)]
        .into_iter()
        .filter(|(_, sections)| !sections.0.is_empty())
        .map(|(name, sections)| (name, sections.finish().document()))
        .collect()
}

fn word<T: PartialEq + Copy>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word)
}

fn pipeline(pipeline: &Pipeline) -> Yaml {
    let mut map = Map::default();
    map.put("name", Yaml::text(&pipeline.name));
    map.text("description", pipeline.description.as_ref());
    map.put("manager", Yaml::text(word_of(pipeline.manager)));
    if pipeline.source.as_str() != SOURCE {
        map.put("source", Yaml::text(&pipeline.source));
    }
    if pipeline.precedence != assay_engine::gate::config::Precedence::default() {
        map.put("precedence", Yaml::text(precedence_word(pipeline.precedence)));
    }
    // Without one nothing is let in, and that is to be written.
    let triggers = pipeline.triggers.iter().map(|it| trigger(it, &pipeline.source)).collect();
    map.put("trigger", Yaml::List(triggers));
    if pipeline.require != Requirements::default() {
        map.put("require", requirements(&pipeline.require));
    }
    map.list("reject", pipeline.reject.iter().map(filter).collect());
    let report = &pipeline.reporters;
    let actions = |actions: &[ReportAction]| -> Vec<Yaml> {
        actions.iter().map(|it| action(it, &pipeline.source)).collect()
    };
    map.list("start", actions(&report.start));
    map.list("success", actions(&report.success));
    map.list("failure", actions(&report.failure));
    if let Some(merge_failure) = &report.merge_failure {
        map.put("merge-failure", Yaml::List(actions(merge_failure)));
    }
    map.list("disabled", actions(&report.disabled));
    if pipeline.messages != Messages::default() {
        map.put("messages", messages(&pipeline.messages));
    }
    map.flag("dequeue-on-new-patchset", pipeline.dequeue_on_new_patchset, true);
    map.flag("ignore-dependencies", pipeline.ignore_dependencies, false);
    if let Some(count) = pipeline.disable_after {
        map.put("disable-after", Yaml::word(count));
    }
    if pipeline.window != WindowConfig::default() {
        map.put("window", window(&pipeline.window));
    }
    if pipeline.landing != assay_engine::gate::config::LandingWay::default() {
        map.put("landing", Yaml::text(word(&LANDINGS, pipeline.landing)));
    }
    map.finish()
}

fn trigger(trigger: &Trigger, source: &SourceName) -> Yaml {
    let mut map = Map::default();
    let ours = [EventKind::ProjectChangeMerged.word(), EventKind::ParentChangeEnqueued.word()];
    let all_ours =
        !trigger.events.is_empty() && trigger.events.iter().all(|event| ours.contains(&event.as_str()));
    let by_itself = match (&trigger.time, all_ours) {
        (_, true) => ZUUL,
        (Some(_), false) => TIMER,
        (None, false) => source.as_str(),
    };
    let is_timer = matches!(trigger.events.as_slice(), [event] if event.as_str() == EventKind::Timer.word());
    if !(is_timer && trigger.time.is_some()) {
        map.patterns("event", &trigger.events);
    }
    map.text("time", trigger.time.as_ref());
    if trigger.source.as_str() != by_itself {
        map.put("source", Yaml::text(&trigger.source));
    }
    map.patterns("branch", &trigger.branches);
    map.patterns("ref", &trigger.refs);
    map.flag("ignore-deletes", trigger.ignore_deletes, true);
    map.patterns("comment", &trigger.comments);
    map.patterns("email", &trigger.emails);
    map.patterns("username", &trigger.usernames);
    map.patterns("pipeline", &trigger.pipelines);
    let pair = |(label, vote): &(String, i32)| Yaml::Map(vec![(label.clone(), Yaml::word(vote))]);
    map.list("approval", trigger.approvals.iter().map(pair).collect());
    map.list("require", trigger.require.iter().map(filter).collect());
    map.list("reject", trigger.reject.iter().map(filter).collect());
    map.finish()
}

fn filter(filter: &ApprovalFilter) -> Yaml {
    let mut map = Map::default();
    map.text("username", filter.username.as_ref().map(Pattern::as_str).as_ref());
    map.text("email", filter.email.as_ref().map(Pattern::as_str).as_ref());
    map.text("older-than", filter.older_than_us.map(age).as_ref());
    map.text("newer-than", filter.newer_than_us.map(age).as_ref());
    for (label, values) in &filter.labels {
        match values.as_slice() {
            [one] => map.put(label, Yaml::word(one)),
            many => map.put(label, Yaml::List(many.iter().map(Yaml::word).collect())),
        }
    }
    map.finish()
}

/// In the largest unit that says it exactly.
fn age(us: i64) -> String {
    let seconds = us / 1_000_000;
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];
    let unit = units.iter().find(|(factor, _)| seconds % factor == 0);
    unit.map_or_else(String::new, |(factor, letter)| format!("{}{letter}", seconds / factor))
}

fn requirements(require: &Requirements) -> Yaml {
    let mut map = Map::default();
    map.list("approval", require.approvals.iter().map(filter).collect());
    for (key, value) in [("open", require.open), ("current-patchset", require.current_patchset)] {
        if let Some(value) = value {
            map.put(key, Yaml::word(value));
        }
    }
    map.list("status", require.status.iter().map(Yaml::text).collect());
    map.finish()
}

fn action(action: &ReportAction, pipeline_source: &SourceName) -> Yaml {
    let mut map = Map::default();
    let other = |map: &mut Map, source: &SourceName, default: &str| {
        if source.as_str() != default {
            map.put("source", Yaml::text(source));
        }
    };
    match action {
        ReportAction::Review { source, labels, submit, flags } => {
            let labels = labels.iter().map(|(label, vote)| (label.clone(), Yaml::word(vote)));
            map.put("review", Yaml::Map(labels.collect()));
            map.flag("submit", *submit, false);
            other(&mut map, source, pipeline_source.as_str());
            if !flags.is_empty() {
                let flags = flags.iter().map(|(flag, value)| (flag.clone(), Yaml::text(value)));
                map.put("flags", Yaml::Map(flags.collect()));
            }
        }
        ReportAction::Mail { source, from, to, subject } => {
            map.put("mail", Yaml::text(to));
            other(&mut map, source, MAIL);
            map.text("from", from.as_ref());
            map.text("subject", subject.as_ref());
        }
        ReportAction::Sql { source, score } => {
            map.put("sql", score.map_or(Yaml::Map(Vec::new()), Yaml::word));
            other(&mut map, source, SQL);
        }
    }
    map.finish()
}

fn messages(messages: &Messages) -> Yaml {
    let defaults = Messages::default();
    let mut map = Map::default();
    for (key, text, default) in [
        ("success", &messages.success, &defaults.success),
        ("failure", &messages.failure, &defaults.failure),
        ("merge-failure", &messages.merge_failure, &defaults.merge_failure),
        ("footer", &messages.footer, &defaults.footer),
    ] {
        if text != default {
            map.put(key, Yaml::text(text));
        }
    }
    map.finish()
}

fn window(window: &WindowConfig) -> Yaml {
    let growth = |growth: Growth| {
        let (word, by) = match growth {
            Growth::Linear(by) => ("linear", by),
            Growth::Exponential(by) => ("exponential", by),
        };
        Yaml::Map(vec![(word.to_owned(), Yaml::word(by))])
    };
    let mut map = Map::default();
    map.put("start", Yaml::word(window.start));
    map.put("floor", Yaml::word(window.floor));
    if let Some(ceiling) = window.ceiling {
        map.put("ceiling", Yaml::word(ceiling));
    }
    map.put("increase", growth(window.increase));
    map.put("decrease", growth(window.decrease));
    map.finish()
}

fn queues(pipeline: &Pipeline) -> Vec<Yaml> {
    let queue = |queue: &assay_engine::gate::config::QueueDef| {
        let mut map = Map::default();
        map.put("name", Yaml::text(&queue.name));
        map.put("pipelines", Yaml::texts([&pipeline.name]));
        map.flag("allow-cycles", queue.allow_cycles, false);
        map.put("projects", Yaml::texts(&queue.projects));
        map.finish()
    };
    pipeline.queues.iter().map(queue).collect()
}

fn project(project: &Project) -> Yaml {
    let mut map = Map::default();
    if project.merge_mode != assay_engine::gate::config::MergeMode::default() {
        map.put("merge-mode", Yaml::text(word(&MERGE_MODES, project.merge_mode)));
    }
    for (pipeline, nodes) in &project.pipelines {
        map.put(pipeline.as_str(), tree(nodes));
    }
    map.finish()
}

fn tree(nodes: &[JobNode]) -> Yaml {
    let node = |node: &JobNode| match node.children.as_slice() {
        [] => Yaml::text(&node.job),
        children => Yaml::Map(vec![(node.job.to_string(), tree(children))]),
    };
    Yaml::List(nodes.iter().map(node).collect())
}

fn job(job: &JobDef) -> Yaml {
    let mut map = Map::default();
    map.flag("imported", job.task.is_none() && job.name.as_str() != NOOP, false);
    map.flag("voting", job.voting, true);
    map.flag("hold-following-changes", job.hold_following, false);
    if job.attempts != 3 {
        map.put("attempts", Yaml::word(job.attempts));
    }
    map.list("semaphores", job.semaphores.iter().map(Yaml::text).collect());
    map.patterns("branches", &job.branches);
    map.patterns("files", &job.files);
    map.list("skip-if", job.skip_if.iter().map(skip_if).collect());
    for (key, text) in [
        ("success-message", &job.success_message),
        ("failure-message", &job.failure_message),
        ("success-pattern", &job.success_pattern),
        ("failure-pattern", &job.failure_pattern),
        ("parameter-function", &job.parameter_function),
        ("queue-name", &job.queue_name),
    ] {
        map.text(key, text.as_ref());
    }
    map.list("tags", job.tags.iter().map(Yaml::text).collect());
    map.list("labels", job.labels.iter().map(Yaml::text).collect());
    map.flag("single-use", job.single_use, false);
    map.flag("hermetic", job.hermetic, false);
    if !job.env.is_empty() {
        let env = job.env.iter().map(|(name, value)| (name.clone(), Yaml::text(value)));
        map.put("env", Yaml::Map(env.collect()));
    }
    match job.task.as_deref().and_then(|text| serde_json::from_str(text).ok()) {
        Some(text) => task(&mut map, &text),
        None => map.list("projects", job.projects.iter().map(Yaml::text).collect()),
    }
    map.finish()
}

fn skip_if(skip: &SkipIf) -> Yaml {
    let mut map = Map::default();
    map.text("project", skip.project.as_ref().map(Pattern::as_str).as_ref());
    map.text("branch", skip.branch.as_ref().map(Pattern::as_str).as_ref());
    map.patterns("all-files-match-any", &skip.all_files_match_any);
    map.finish()
}

/// JSON as YAML, objects with the keys that are given instead of theirs.
fn json(value: &Value, keys: &[(&str, &str)]) -> Yaml {
    match value {
        Value::String(text) => Yaml::text(text),
        Value::Array(items) => Yaml::List(items.iter().map(|item| json(item, keys)).collect()),
        Value::Object(map) => Yaml::Map(
            map.iter()
                .map(|(key, value)| {
                    let name = keys.iter().find(|(from, _)| from == key).map_or(key.as_str(), |(_, to)| to);
                    (name.to_owned(), json(value, keys))
                })
                .collect(),
        ),
        other => Yaml::word(other),
    }
}

/// What `super::task` makes JSON of.
fn task(map: &mut Map, task: &Value) {
    const BUDGETS: [(&str, &str); 2] = [("budget_s", "budget"), ("grace_s", "grace")];
    for name in PHASES {
        let Some(phase) = task.get(name) else { continue };
        let Some(steps) = phase.get("steps") else {
            // Only `run` may have its budget and no step.
            if let Yaml::Map(entries) = json(phase, &BUDGETS) {
                map.0.extend(entries);
            }
            continue;
        };
        let steps = match steps.as_array().map(Vec::as_slice) {
            Some([Value::Object(step)]) if step.len() == 1 => json(&step["script"], &[]),
            _ => json(steps, &[]),
        };
        if phase.as_object().is_some_and(|phase| phase.len() == 1) {
            map.put(name, steps);
            continue;
        }
        let mut whole = Map::default();
        whole.put("steps", steps);
        if let Yaml::Map(entries) = json(phase, &BUDGETS) {
            whole.0.extend(entries.into_iter().filter(|(key, _)| key != "steps"));
        }
        map.put(name, whole.finish());
    }
    for key in ["env", "artifacts", "results", "network"] {
        if let Some(value) = task.get(key) {
            map.put(key, json(value, &[]));
        }
    }
    if let Some(limits) = task.get("limits") {
        map.put("limits", json(limits, &LIMITS.map(|(key, json_key, _)| (json_key, key))));
    }
    let Some(workspace) = task.get("workspace") else {
        map.put("workspace", Yaml::word(false));
        return;
    };
    for (json_key, key) in
        [("projects", "projects"), ("clonemap", "clonemap"), ("budget_s", "workspace-budget")]
    {
        match workspace.get(json_key) {
            Some(Value::Array(items)) if items.is_empty() => {}
            Some(value) => map.put(key, json(value, &[])),
            None => {}
        }
    }
}
