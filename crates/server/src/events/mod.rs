//! Events outside: stored by their sources, matched by the rules, carried out once.
//!
//! ```text
//! sources ─▶ messages (stored, then acknowledged) ─▶ matcher ─▶ effects (with the message's state) ─▶ executor ─▶ ENGINE
//! ```
//! An effect has a key that says what it is about. It is stored once, and the jobs that it comes to are stored in the
//! transaction that says that it is done: whatever is delivered twice, or killed at any moment, there are no others.

pub(crate) mod api;
mod asks;
mod executor;
mod matcher;
mod pollers;
mod schedule;
pub(crate) mod settings;
mod sources;

pub(crate) use executor::{Trouble, carried_out};

use crate::ServerError;
use crate::app::App;
use assay_engine::rules::{RuleSet, TopicPattern};
use assay_formats::diagnostic::Diagnostic;
use assay_formats::rules::LoadedRules;
use assay_store::{Epoch, SourceRole};
use camino::{Utf8Path, Utf8PathBuf};
use settings::{EventSettings, HookSettings, PollKind, SourceKind};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How a source does.
#[derive(Debug, Clone, Default)]
pub(crate) struct SourceHealth {
    /// What it is doing.
    pub(crate) doing: String,
    /// Why it does not work.
    pub(crate) trouble: Option<String>,
}

/// What is in force.
#[derive(Debug, Default)]
struct InForce {
    rules: Arc<RuleSet>,
    diagnostics: Vec<Diagnostic>,
    health: BTreeMap<String, SourceHealth>,
    /// Why effects have to wait for something outside, by their keys.
    waiting: BTreeMap<String, String>,
    releases: schedule::KnownReleases,
}

/// The loops for events, as the rest of the server knows them.
pub(crate) struct Hub {
    settings: OnceLock<EventSettings>,
    epoch: Epoch,
    state: Mutex<InForce>,
    /// There are messages that no rule has seen.
    arrived: Notify,
    /// There are effects to carry out.
    planned: Notify,
}

impl Hub {
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self {
            settings: OnceLock::new(),
            epoch,
            state: Mutex::default(),
            arrived: Notify::new(),
            planned: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, InForce> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rules that are in force.
    pub(crate) fn rules(&self) -> Arc<RuleSet> {
        self.state().rules.clone()
    }

    /// How the sources do.
    pub(crate) fn health(&self) -> BTreeMap<String, SourceHealth> {
        self.state().health.clone()
    }

    /// Effects are only written down.
    pub(crate) fn is_staging(&self) -> bool {
        self.settings.get().is_some_and(|settings| settings.staging)
    }

    fn hook(&self, name: &str) -> Option<&HookSettings> {
        match &self.settings.get()?.sources.get(name)?.kind {
            SourceKind::Webhook(hook) => Some(hook),
            _ => None,
        }
    }
}

impl EventSettings {
    /// What a source brings messages of: sources that back others bring the same ones.
    pub(crate) fn bus<'s>(&'s self, source: &'s str) -> &'s str {
        self.sources.get(source).and_then(|source| source.backs.as_deref()).unwrap_or(source)
    }

    /// What a source does beside others of its bus.
    pub(crate) fn role(&self, name: &str) -> SourceRole {
        let Some(source) = self.sources.get(name) else { return SourceRole::Bus };
        match (&source.backs, &source.kind) {
            (Some(_), SourceKind::Poll { what: PollKind::Datagrepper { .. }, .. }) => SourceRole::Backs,
            (Some(_), SourceKind::Poll { .. }) => SourceRole::Reconciles,
            (Some(_), _) => SourceRole::Backs,
            (None, _) if self.sources.values().any(|other| other.backs.as_deref() == Some(name)) => {
                SourceRole::Backed
            }
            (None, _) => SourceRole::Bus,
        }
    }

    /// The topics that all sources bring, if that is known of each.
    pub(crate) fn topics(&self) -> Option<Vec<TopicPattern>> {
        let mut all = Vec::new();
        for source in self.sources.values() {
            match &source.kind {
                SourceKind::Amqp(options) if !options.passive => {
                    all.extend(options.bindings.iter().map(TopicPattern::new));
                }
                SourceKind::Timer { topic, .. } => all.push(TopicPattern::new(topic)),
                SourceKind::Webhook(hook) if hook.topic_header.is_none() => {
                    all.push(TopicPattern::new(&hook.topic));
                }
                SourceKind::Webhook(hook) => all.push(TopicPattern::new(format!("{}.#", hook.topic))),
                SourceKind::Jobs => all.push(TopicPattern::new("assay.job.done")),
                SourceKind::Amqp(_) | SourceKind::Poll { .. } => return None,
            }
        }
        (!all.is_empty()).then_some(all)
    }
}

/// What the sources of a configuration bring.
#[derive(Debug, Clone, Default)]
pub struct EventSources {
    /// The topics, if they are known of each.
    pub topics: Option<Vec<TopicPattern>>,
    /// Their names.
    pub names: Vec<String>,
}

/// Reads the sources of a configuration; everything that is wrong with it, a line each.
pub fn event_sources(config: &Utf8Path) -> Result<EventSources, Vec<String>> {
    let settings = crate::gate::settings::read_elsewhere(config)
        .map_err(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let names = settings.events.sources.keys().cloned().collect();
    Ok(EventSources { topics: settings.events.topics(), names })
}

/// Names and texts of a file, or of all YAML files of a directory by name.
pub(crate) fn yaml_texts(path: &Utf8Path) -> std::io::Result<Vec<(String, String)>> {
    let mut files: Vec<Utf8PathBuf> = Vec::new();
    if path.is_dir() {
        for entry in path.read_dir_utf8()? {
            files.push(entry?.into_path());
        }
        files.retain(|file| matches!(file.extension(), Some("yaml" | "yml")));
        files.sort();
    } else {
        files.push(path.to_owned());
    }
    let mut texts = Vec::new();
    for file in files {
        let text = fs_err::read_to_string(&file)?;
        texts.push((file.into_string(), text));
    }
    Ok(texts)
}

fn read_rules(path: &Utf8Path) -> LoadedRules {
    let texts = match yaml_texts(path) {
        Ok(texts) => texts,
        Err(error) => {
            let diagnostics = crate::gate::settings::unreadable(path, &error.to_string());
            return LoadedRules { rules: None, diagnostics };
        }
    };
    let sources: Vec<(&str, &str)> =
        texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assay_formats::rules::load(&sources)
}

/// Reads the rules and starts the loops.
pub(crate) fn start(app: &Arc<App>, settings: EventSettings) -> Result<(), ServerError> {
    let epoch = app.outside.epoch;
    if let Some(path) = &settings.rules {
        let LoadedRules { rules, diagnostics } = read_rules(path);
        let Some(rules) = rules else { return Err(ServerError::config(diagnostics)) };
        let mut state = app.outside.state();
        state.rules = Arc::new(rules);
        state.diagnostics = diagnostics;
    }
    let sources = settings.sources.clone();
    drop(app.outside.settings.set(settings));
    app.tasks.spawn(matcher::run(app.clone(), epoch));
    app.tasks.spawn(executor::run(app.clone(), epoch));
    app.tasks.spawn(prune(app.clone(), epoch));
    for (name, source) in sources {
        sources::start(app, &name, &source)?;
    }
    Ok(())
}

/// Removes messages that were dealt with long ago, now and every hour.
async fn prune(app: Arc<App>, epoch: Epoch) {
    const AT_ONCE: u32 = 1000;
    const DAY: i64 = 86_400;
    let Some(days) = app.outside.settings.get().and_then(|settings| settings.keep_days) else { return };
    loop {
        let before = app.clock.now().plus_seconds(-i64::from(days) * DAY);
        while !app.shutdown.is_cancelled() {
            match app.store.events().prune_messages(epoch, before, AT_ONCE).await {
                Ok(AT_ONCE) => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "old events cannot be removed; it is tried again");
                    break;
                }
            }
        }
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_hours(1)) => {}
        }
    }
}

impl App {
    /// Reads the rules again; those that are in force stay so if there is an error.
    pub(crate) fn reload_rules(&self) -> (bool, Vec<Diagnostic>) {
        let path = self.outside.settings.get().and_then(|settings| settings.rules.clone());
        let Some(path) = path else { return (true, Vec::new()) };
        let LoadedRules { rules, diagnostics } = read_rules(&path);
        let mut state = self.outside.state();
        let good = rules.is_some();
        if let Some(rules) = rules {
            state.rules = Arc::new(rules);
        }
        state.diagnostics.clone_from(&diagnostics);
        (good, diagnostics)
    }
}
