//! `assay rule …`: what events lead to.

use crate::client::Client;
use crate::exit::{CliError, Code};
use crate::{Common, ui};
use assay_engine::rules::{
    Action, Message, Planned, PlannedEffect, RuleSet, TopicPattern, Verdict, check, explain,
};
use assay_formats::rules::load;
use assay_formats::task_header::{self, Offer, TaskHeader};
use assay_proto::api::events::{Rules, RulesReload};
use assay_proto::task_run;
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read as _;

/// Rules: what events lead to.
#[derive(clap::Subcommand)]
pub(crate) enum Rule {
    /// Say what rules make of a message: what would run, and why the others would not.
    #[command(
        after_help = "The message is JSON with topic, body and, if they matter, headers, id and source; or a list of such messages.\n\
                      Exit code 1: no rule does anything.\n\n\
                      Examples:\n  assay rule test examples/rules < examples/rules/messages/kernel-built.json\n  \
                      assay rule test examples/rules --tasks tasks < examples/rules/messages/submitted-for-testing.json\n  \
                      curl -s 'https://apps.fedoraproject.org/datagrepper/v2/id?id=…' | assay rule test rules.yaml"
    )]
    Test {
        /// A file of rules, or a directory of such files.
        rules: Utf8PathBuf,
        /// A folder with a folder for each task: says which would refuse what the rules give it, and why.
        #[arg(long, value_name = "DIR")]
        tasks: Option<Utf8PathBuf>,
    },
    /// Find everything that is wrong with rules, and those that can never match.
    #[command(
        after_help = "Exit code 1: something was found; 2: the rules cannot be used.\n\nExamples:\n  assay rule check examples/rules\n  assay rule check rules --topic 'org.fedoraproject.prod.#' --tasks tasks"
    )]
    Check {
        /// A file of rules, or a directory of such files.
        rules: Utf8PathBuf,
        /// Topics that the sources bring; rules for others can never match. May be repeated.
        #[arg(long, value_name = "PATTERN")]
        topic: Vec<String>,
        /// The server's configuration: its sources say which topics and which sources there are.
        #[arg(long, value_name = "FILE", conflicts_with = "topic")]
        config: Option<Utf8PathBuf>,
        /// A folder with a folder for each task: finds rules that name another one.
        #[arg(long, value_name = "DIR")]
        tasks: Option<Utf8PathBuf>,
    },
    /// List the rules of the server, with how often each had something to do, and how often it matched and failed.
    #[command(after_help = "Example:\n  assay rule list --json")]
    List,
    /// Let the server read its rules again; those that are in force stay so if there is an error.
    #[command(after_help = "Example:\n  assay rule reload")]
    Reload,
}

impl Rule {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        match self {
            Self::Test { rules, tasks } => test(common, &rules, tasks.as_deref()),
            Self::Check { rules, topic, config, tasks } => {
                check_rules(common, &rules, &topic, config.as_deref(), tasks.as_deref())
            }
            Self::List => list(common),
            Self::Reload => {
                let reload: RulesReload =
                    Client::new(common)?.post("/api/assay/v1/rules/reload", &json!({}))?;
                if common.json {
                    ui::print_json(&reload);
                } else {
                    for finding in &reload.findings {
                        println!("{finding}");
                    }
                    println!(
                        "{}",
                        if reload.in_force { "in force" } else { "not taken; those before stay in force" }
                    );
                }
                Ok(if reload.in_force { Code::Ok } else { Code::Usage })
            }
        }
    }
}

fn texts(path: &Utf8Path) -> Result<Vec<(String, String)>, CliError> {
    let mut files = Vec::new();
    if path.is_dir() {
        for entry in path.read_dir_utf8().map_err(|error| CliError::usage(format!("{path}: {error}")))? {
            files.push(entry.map_err(|error| CliError::usage(format!("{path}: {error}")))?.into_path());
        }
        files.retain(|file: &Utf8PathBuf| matches!(file.extension(), Some("yaml" | "yml")));
        files.sort();
        if files.is_empty() {
            return Err(CliError::usage(format!("there is no .yaml file in {path}")));
        }
    } else {
        files.push(path.to_owned());
    }
    let read = |file: Utf8PathBuf| match fs_err::read_to_string(&file) {
        Ok(text) => Ok((file.into_string(), text)),
        Err(error) => Err(CliError::usage(error.to_string())),
    };
    files.into_iter().map(read).collect()
}

/// The rules, and what is wrong with them.
fn read(path: &Utf8Path) -> Result<(Option<RuleSet>, Vec<String>), CliError> {
    let texts = texts(path)?;
    let sources: Vec<(&str, &str)> =
        texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let loaded = load(&sources);
    Ok((loaded.rules, loaded.diagnostics.iter().map(ToString::to_string).collect()))
}

fn message(value: &Value) -> Result<Message, CliError> {
    let text = |key: &str| value[key].as_str();
    let Some(topic) = text("topic") else {
        return Err(CliError::usage(
            "the message has no topic; it is JSON such as {\"topic\": \"org.x\", \"body\": {}}",
        ));
    };
    // Old envelopes have `msg`.
    let body = if value["body"].is_null() { value["msg"].clone() } else { value["body"].clone() };
    let id = text("id").or_else(|| text("msg_id")).unwrap_or("test");
    let source = text("source").unwrap_or("test");
    Ok(Message::new(source, source, id, topic, value["headers"].clone(), body))
}

/// The tasks of a folder, by its folders' names.
struct Tasks {
    dir: Utf8PathBuf,
    headers: BTreeMap<String, TaskHeader>,
}

impl Tasks {
    fn read(dir: &Utf8Path) -> Result<Self, CliError> {
        let unreadable = |error: std::io::Error| CliError::usage(format!("{dir}: {error}"));
        let mut headers = BTreeMap::new();
        for entry in dir.read_dir_utf8().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let file = entry.path().join(task_header::FILE);
            if !file.is_file() {
                continue;
            }
            let text = fs_err::read_to_string(&file).map_err(|error| CliError::usage(error.to_string()))?;
            let (header, found) = task_header::load(file.as_str(), &text);
            let lines = || found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            let header = header.ok_or_else(|| CliError::usage(lines()))?;
            headers.insert(entry.file_name().to_owned(), header);
        }
        if headers.is_empty() {
            let why = format!("there is no task in {dir}; each is a folder with {}", task_header::FILE);
            return Err(CliError::usage(why));
        }
        Ok(Self { dir: dir.to_owned(), headers })
    }

    fn header(&self, name: &str) -> Result<&TaskHeader, String> {
        self.headers.get(name).ok_or_else(|| {
            let names: Vec<_> = self.headers.keys().map(String::as_str).collect();
            format!("there is no task {name:?} in {}; there are {}", self.dir, names.join(", "))
        })
    }

    /// Why a task would not do what a rule wants of it. What has an address may be anything.
    fn refuses(&self, effect: &PlannedEffect) -> Option<String> {
        let PlannedEffect::Job { settings, .. } = effect else { return None };
        let get = |key: &str| settings.get(key).map(String::as_str).filter(|value| !value.is_empty());
        if get("BACKEND") != Some(task_run::BACKEND) {
            return None;
        }
        let name = get(task_run::TASK).filter(|name| !name.contains('/'))?;
        let header = match self.header(name) {
            Ok(header) => header,
            Err(why) => return Some(why),
        };
        header.refuses(&Offer {
            item: get("ITEM").unwrap_or("nothing"),
            kind: get("ITEM_TYPE").unwrap_or("nothing"),
            baseline: [task_run::BASELINE, task_run::BASELINE_TAG, task_run::BASELINE_PACKAGES]
                .iter()
                .any(|key| get(key).is_some()),
            repositories: get(task_run::REPOSITORIES).is_some(),
            machine: task_run::has_machine(settings),
            by_hand: false,
        })
    }
}

fn test(common: &Common, path: &Utf8Path, tasks: Option<&Utf8Path>) -> Result<Code, CliError> {
    let tasks = tasks.map(Tasks::read).transpose()?;
    let (rules, findings) = read(path)?;
    let Some(rules) = rules else { return Err(CliError::usage(findings.join("\n"))) };
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| CliError::usage(format!("stdin: {error}")))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| {
        CliError::usage(format!(
            "stdin:{}:{}: the message is not JSON: {error}",
            error.line(),
            error.column()
        ))
    })?;
    let values = match value {
        Value::Array(values) => values,
        one => vec![one],
    };
    let mut shown = Vec::new();
    let mut any = false;
    for value in &values {
        let message = message(value)?;
        if !common.json {
            println!("{}", message.topic());
            println!(
                "  item: {}",
                message.item().map_or_else(|| "not known by the topic".to_owned(), ToString::to_string)
            );
        }
        let mut verdicts = Vec::new();
        for said in explain(&rules, &message) {
            let verdict = match &said.verdict {
                Verdict::Does(effects) => {
                    any = true;
                    let refused: Vec<_> =
                        effects.iter().map(|effect| refusal(effect, tasks.as_ref())).collect();
                    json!({"rule": said.rule, "place": said.place, "matches": true, "effects": effects, "refused": refused})
                }
                Verdict::Not(why) => {
                    json!({"rule": said.rule, "place": said.place, "matches": false, "why": why.0})
                }
                Verdict::Fails(why) => {
                    json!({"rule": said.rule, "place": said.place, "matches": true, "fails": why})
                }
            };
            if !common.json {
                print(&said.rule, &said.verdict, tasks.as_ref());
            }
            verdicts.push(verdict);
        }
        let item = message.item().map(ToString::to_string);
        shown.push(json!({"topic": message.topic(), "item": item, "rules": verdicts}));
    }
    if common.json {
        ui::print_json(&json!({"messages": shown}));
    }
    Ok(if any { Code::Ok } else { Code::Negative })
}

fn refusal(effect: &Planned, tasks: Option<&Tasks>) -> Option<String> {
    tasks.and_then(|tasks| tasks.refuses(&effect.effect))
}

fn print(rule: &str, verdict: &Verdict, tasks: Option<&Tasks>) {
    match verdict {
        Verdict::Does(effects) => {
            println!("  {rule}: runs");
            for effect in effects {
                let batch = effect
                    .batch
                    .as_ref()
                    .map(|batch| format!(", gathered for {} s", batch.window / 1_000_000));
                let batch = batch.unwrap_or_default();
                let limit =
                    effect.limit.map(|limit| format!(", at most {limit} at once")).unwrap_or_default();
                let again = if effect.force.is_some() { ", once more" } else { "" };
                println!("    {}{again}{batch}{limit}  [{}]", effect.effect.summary(), effect.key);
                if let Some(why) = refusal(effect, tasks) {
                    println!("      would be refused: {why}");
                }
            }
        }
        Verdict::Not(why) => println!("  {rule}: no, {why}"),
        Verdict::Fails(why) => println!("  {rule}: matches, and fails: {why}"),
    }
}

fn check_rules(
    common: &Common,
    path: &Utf8Path,
    topics: &[String],
    config: Option<&Utf8Path>,
    tasks: Option<&Utf8Path>,
) -> Result<Code, CliError> {
    let tasks = tasks.map(Tasks::read).transpose()?;
    let (rules, mut findings) = read(path)?;
    let heard: Vec<TopicPattern> = topics.iter().map(TopicPattern::new).collect();
    let mut heard = (!heard.is_empty()).then_some(heard);
    let mut sources = None;
    if let Some(config) = config {
        let found = assay_server::event_sources(config).map_err(|lines| CliError::usage(lines.join("\n")))?;
        (heard, sources) = (found.topics, Some(found.names));
    }
    let known = check::Known { topics: heard.as_deref(), sources: sources.as_deref() };
    let count = rules.as_ref().map_or(0, |rules| rules.rules.len());
    let unusable = rules.is_none();
    for found in rules.iter().flat_map(|rules| check::check(rules, known)) {
        findings.push(format!("{}: rule {}: {}", found.place, found.rule, found.problem));
    }
    for rule in rules.iter().flat_map(|rules| &rules.rules) {
        for action in &rule.run {
            if let (Action::Task { name, .. }, Some(tasks)) = (action, &tasks)
                && !name.contains('/')
                && let Err(why) = tasks.header(name)
            {
                findings.push(format!("{}: rule {}: {why}", rule.place, rule.name));
            }
        }
    }
    if common.json {
        ui::print_json(&json!({"rules": count, "findings": findings}));
    } else {
        for finding in &findings {
            println!("{finding}");
        }
        println!("{}, {}", ui::count(count, "rule"), ui::count(findings.len(), "finding"));
    }
    Ok(match (unusable, findings.is_empty()) {
        (true, _) => Code::Usage,
        (false, false) => Code::Negative,
        (false, true) => Code::Ok,
    })
}

fn list(common: &Common) -> Result<Code, CliError> {
    let rules: Rules = Client::new(common)?.get("/api/assay/v1/rules")?;
    if common.json {
        ui::print_json(&rules);
        return Ok(Code::Ok);
    }
    let rows = rules.rules.into_iter().map(|rule| {
        let enabled = if rule.enabled { "" } else { " (not enabled)" };
        vec![
            format!("{}{enabled}", rule.name),
            rule.runs.join(", "),
            rule.effects.to_string(),
            rule.last.unwrap_or_default(),
            rule.failed.to_string(),
            rule.place,
        ]
    });
    println!("{}", ui::table(&["rule", "runs", "effects", "last", "failed", "place"], rows));
    for finding in &rules.findings {
        println!("{finding}");
    }
    Ok(Code::Ok)
}
