//! The settings of one job: who says what, who overrides whom, and what `%PLACEHOLDERS%` become.

use super::catalog::{Catalog, Medium, Origin, SettingsMap, Template};
use super::files;
use super::request::Request;
use crate::relations::Relation;
use crate::settings::{COVERED, MAX_SETTINGS_BYTES, Provenance, Setting, Settings, is_secret_name};
use std::collections::{BTreeMap, BTreeSet};

const CLASS: &str = "WORKER_CLASS";
/// What the template, its machine and its group decide, whoever else sets it.
const DECIDED: [&str; 7] = ["BACKEND", "GROUP_ID", "MACHINE", "NAME", "PRIO", "TEST", "TEST_SUITE_NAME"];
/// Placeholders within placeholders.
const MAX_PLACEHOLDERS: usize = 100;

/// A job's settings, and what is worth saying about them.
pub(super) struct Composed {
    pub(super) settings: Settings,
    /// Placeholders that nobody fills in: the setting and the name.
    pub(super) unset: BTreeSet<(String, String)>,
    /// Settings where openQA would have chosen another value, because of [`Origin::Scenarios`].
    pub(super) differs: Vec<String>,
}

/// What is wrong with a job's settings.
pub(super) struct Broken {
    /// One sentence each.
    pub(super) problems: Vec<String>,
    /// Its `PARALLEL_WITH`, as far as that is known all the same.
    pub(super) parallel_with: String,
}

/// The settings of the job that `template` makes.
pub(super) fn compose(
    catalog: &Catalog,
    request: &Request,
    medium: &Medium,
    template: &Template,
) -> Result<Composed, Broken> {
    let mut errors = Vec::new();
    let machine = template.machine.as_ref().and_then(|name| {
        let known = catalog.machines.get(name);
        if known.is_none() && catalog.origin == Origin::Catalog {
            errors.push(missing("machine", name, catalog.machines.keys()));
        }
        known
    });
    let suite = template.suite.as_ref().and_then(|name| {
        let known = catalog.suites.get(name);
        if known.is_none() {
            errors.push(missing("test suite", name, catalog.suites.keys()));
        }
        known
    });
    let from_template = Provenance::Template(template.test().to_owned());
    let mut layers = Layers::default();
    layers.add(&catalog.global, Provenance::Global, &DECIDED);
    layers.entity(&medium.settings, Provenance::Product(medium.label()));
    if let Some(machine) = machine {
        layers.entity(&machine.settings, Provenance::Machine(machine.name.clone()));
    }
    if let Some(suite) = suite {
        layers.entity(&suite.settings, Provenance::Suite(suite.name.clone()));
    }
    layers.entity(&template.settings, from_template.clone());
    layers.add(&request.settings, Provenance::Request, &[]);
    if let Some(name) = &template.machine {
        let from = Provenance::Machine(name.clone());
        let backend = machine.map_or("", |machine| &machine.backend);
        layers.some(&[("MACHINE", name), ("BACKEND", backend)], from);
    }
    let no_suite = if catalog.origin == Origin::Catalog { "-" } else { "" };
    let about = [("TEST", template.test()), ("JOB_DESCRIPTION", template.description.as_str())];
    layers.some(&about, from_template.clone());
    match &template.suite {
        Some(name) => layers.some(&[("TEST_SUITE_NAME", name)], Provenance::Suite(name.clone())),
        None => layers.some(&[("TEST_SUITE_NAME", no_suite)], from_template),
    }
    let layers = layers.merge();
    let differs = if catalog.origin == Origin::Scenarios { layers.differs() } else { Vec::new() };
    let mut settings = layers.settings;
    files::name_downloads(&mut settings);
    match finished(&mut settings) {
        Ok(unset) if errors.is_empty() => Ok(Composed { settings, unset, differs }),
        other => {
            // Without its machine or its suite the rest is not what was meant.
            let problems = if errors.is_empty() { other.err().into_iter().collect() } else { errors };
            let parallel_with = alone(&settings, Relation::Parallel.setting());
            Err(Broken { problems, parallel_with })
        }
    }
}

/// Finishes the settings of a job of a product. An error is a sentence.
fn finished(settings: &mut Settings) -> Result<BTreeSet<(String, String)>, String> {
    let unset = finish(settings)?;
    settings.check().map_err(|error| error.to_string())?;
    files::bad_output(settings).map_or(Ok(unset), Err)
}

/// The settings of a job that no product makes: what is posted, over the settings of all jobs. An error is a sentence.
pub fn over_global(global: &SettingsMap, posted: &SettingsMap) -> Result<Settings, String> {
    let mut layers = Layers::default();
    layers.add(global, Provenance::Global, &DECIDED);
    layers.add(posted, Provenance::Request, &[]);
    let mut settings = layers.merge().settings;
    finish(&mut settings)?;
    Ok(settings)
}

fn missing<'k>(what: &str, name: &str, known: impl Iterator<Item = &'k String>) -> String {
    let hint = super::nearest(name, known.map(String::as_str));
    format!("the {what} {name} does not exist{hint}; add it, or name another one in the template")
}

/// What one source after another says, the weakest first.
#[derive(Default)]
struct Layers<'c> {
    sources: Vec<Provenance>,
    /// Name, value, and the place of the source.
    said: Vec<(&'c str, &'c str, usize)>,
    classes: Vec<(usize, &'c str)>,
}

impl<'c> Layers<'c> {
    fn add(&mut self, more: &'c SettingsMap, from: Provenance, without: &[&str]) {
        let source = self.sources.len();
        self.sources.push(from);
        let more = more.iter().filter(|(key, _)| !without.contains(&key.as_str()));
        self.said.extend(more.map(|(key, value)| (key.as_str(), value.as_str(), source)));
    }

    /// A medium, machine, suite or template: worker classes are gathered, not overridden.
    fn entity(&mut self, more: &'c SettingsMap, from: Provenance) {
        let source = self.sources.len();
        self.sources.push(from);
        for (key, value) in more {
            if key == CLASS {
                self.classes.push((source, value));
            } else if !DECIDED.contains(&key.as_str()) {
                self.said.push((key, value, source));
            }
        }
    }

    /// A few settings, those that are empty left out.
    fn some(&mut self, more: &[(&'static str, &'c str)], from: Provenance) {
        let source = self.sources.len();
        self.sources.push(from);
        let more = more.iter().filter(|(_, value)| !value.is_empty());
        self.said.extend(more.map(|(key, value)| (*key, *value, source)));
    }

    /// One setting for each name.
    fn merge(mut self) -> Merged {
        // Stable: what is said later stays behind what is said before.
        self.said.sort_by_key(|(key, ..)| *key);
        let same = self.said.chunk_by(|(one, ..), (next, ..)| one == next);
        let setting =
            |(_, value, source): &(&str, &str, usize)| Setting::new(*value, self.sources[*source].clone());
        let settings = same.filter_map(|said| {
            let (last, before) = said.split_last()?;
            let over = before.iter().rev().map(setting).map(|before| (before.from, before.value));
            Some((last.0.to_owned(), Setting { over: over.collect(), ..setting(last) }))
        });
        let settings = Settings(settings.collect());
        let classes = self.classes.iter();
        let classes = classes.map(|(source, value)| (self.sources[*source].clone(), (*value).to_owned()));
        let mut merged = Merged { settings };
        merged.join_classes(classes.collect());
        merged
    }
}

/// Settings of which all sources have had their say.
struct Merged {
    settings: Settings,
}

impl Merged {
    fn put(&mut self, key: &str, value: &str, from: Provenance) {
        let setting = Setting::new(value, from);
        let setting = match self.settings.0.remove(key) {
            Some(before) => setting.overriding(before),
            None => setting,
        };
        self.settings.0.insert(key.to_owned(), setting);
    }

    /// A job needs all classes that anybody names for it; they win over a posted `WORKER_CLASS`.
    fn join_classes(&mut self, classes: Vec<(Provenance, String)>) {
        if classes.is_empty() {
            return;
        }
        let words = classes.iter().flat_map(|(_, value)| value.split(',')).map(str::trim);
        let all: BTreeSet<&str> = words.filter(|class| !class.is_empty()).collect();
        let joined = all.into_iter().collect::<Vec<_>>().join(",");
        let mut from: Vec<Provenance> = classes.into_iter().map(|(from, _)| from).collect();
        let from = if from.len() == 1 { from.remove(0) } else { Provenance::Joined(from) };
        self.put(CLASS, &joined, from);
    }

    /// Where a template has overridden its medium or machine and the value is another one.
    fn differs(&self) -> Vec<String> {
        let from_template = |(_, setting): &(&String, &Setting)| {
            matches!(setting.from, Provenance::Template(_))
                && setting.over.iter().any(|(from, value)| {
                    matches!(from, Provenance::Product(_) | Provenance::Machine(_)) && *value != setting.value
                })
        };
        self.settings.0.iter().filter(from_template).map(|(key, _)| key.clone()).collect()
    }
}

/// What is done last to settings of which all sources have had their say: `+VAR` takes the place of `VAR`, whoever set
/// that, and placeholders are filled in. The placeholders that nobody fills in stay as they are written and are the
/// answer: the setting and the name. An error is a sentence.
pub fn finish(settings: &mut Settings) -> Result<BTreeSet<(String, String)>, String> {
    let plus: Vec<String> =
        settings.0.range("+".to_owned()..",".to_owned()).map(|(key, _)| key.clone()).collect();
    for key in plus {
        let Some(setting) = settings.0.remove(&key) else { continue };
        let name = key[1..].to_owned();
        let setting = match settings.0.remove(&name) {
            Some(before) => {
                let from = Provenance::Plus(Box::new(setting.from));
                Setting { from, ..setting }.overriding(before)
            }
            None => setting,
        };
        settings.0.insert(name, setting);
    }
    expand(settings, Unset::Stays)
}

/// What a worker does with settings that are complete: it fills in what the server left to it; of what nobody sets
/// nothing remains. Values in which there is nothing like `%NAME%` stay as they are. An error is a sentence.
pub fn fill_in(settings: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
    let mut settings = Settings::from_request(settings.clone());
    expand(&mut settings, Unset::Vanishes)?;
    Ok(settings.0.into_iter().map(|(key, setting)| (key, setting.value)).collect())
}

/// What becomes of a placeholder that nobody fills in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unset {
    Stays,
    Vanishes,
}

/// Fills in all placeholders; those that nobody fills in are the answer.
fn expand(settings: &mut Settings, unset: Unset) -> Result<BTreeSet<(String, String)>, String> {
    let mut expander = Expander::new(settings, unset);
    for at in 0..expander.slots.len() {
        expander.resolve(at)?;
    }
    let Expander { slots, unset, .. } = expander;
    let filled: Vec<String> = slots.into_iter().filter_map(|slot| slot.filled).collect();
    let wanting = settings.0.values_mut().filter(|setting| setting.value.contains('%'));
    for (setting, value) in wanting.zip(filled) {
        if setting.value != value {
            let raw = std::mem::replace(&mut setting.value, value);
            setting.over.insert(0, (Provenance::Placeholder, raw));
        }
    }
    Ok(unset)
}

/// What one setting becomes where others cannot be filled in; nothing, if it cannot either.
fn alone(settings: &Settings, key: &str) -> String {
    let mut expander = Expander::new(settings, Unset::Stays);
    let Ok(at) = expander.slots.binary_search_by(|slot| slot.key.cmp(key)) else {
        return settings.get(key).unwrap_or_default().to_owned();
    };
    match expander.resolve(at) {
        Ok(()) => expander.slots[at].filled.take().unwrap_or_default(),
        Err(_) => String::new(),
    }
}

/// A value with a percent sign.
struct Slot<'s> {
    key: &'s str,
    raw: &'s str,
    /// What it becomes, once that is known.
    filled: Option<String>,
}

struct Expander<'s> {
    settings: &'s Settings,
    /// In the order of the settings.
    slots: Vec<Slot<'s>>,
    /// What is being filled in: each for the sake of the one before it.
    path: Vec<usize>,
    unset: BTreeSet<(String, String)>,
    then: Unset,
}

impl<'s> Expander<'s> {
    fn new(settings: &'s Settings, then: Unset) -> Self {
        let wanting = settings.0.iter().filter(|(_, setting)| setting.value.contains('%'));
        let slots = wanting.map(|(key, setting)| Slot { key, raw: &setting.value, filled: None }).collect();
        Self { settings, slots, path: Vec::new(), unset: BTreeSet::new(), then }
    }

    fn resolve(&mut self, at: usize) -> Result<(), String> {
        let Slot { key, raw, filled } = &self.slots[at];
        if filled.is_some() {
            return Ok(());
        }
        let (key, raw) = (*key, *raw);
        if let Some(begin) = self.path.iter().position(|before| *before == at) {
            let circle = self.path[begin..].iter().chain([&at]).map(|at| self.slots[*at].key);
            let value = if is_secret_name(key) { COVERED } else { raw };
            return Err(format!(
                "The key {key} contains a circular reference, its value is {value} ({}); take one of these placeholders out",
                circle.collect::<Vec<_>>().join(" → ")
            ));
        }
        if self.path.len() >= MAX_PLACEHOLDERS {
            return Err(format!(
                "The key {key} is reached through more than {MAX_PLACEHOLDERS} placeholders within each other; write some values out"
            ));
        }
        self.path.push(at);
        let value = self.fill(key, raw)?;
        self.path.pop();
        self.slots[at].filled = Some(value);
        Ok(())
    }

    /// Appends the final value of a setting to that of `key`; false if there is none.
    fn append(&mut self, key: &str, name: &str, out: &mut String) -> Result<bool, String> {
        if let Ok(at) = self.slots.binary_search_by(|slot| slot.key.cmp(name)) {
            self.resolve(at)?;
            out.push_str(self.slots[at].filled.as_deref().unwrap_or_default());
        } else if let Some(setting) = self.settings.0.get(name) {
            out.push_str(&setting.value);
        } else {
            return Ok(false);
        }
        // What is covered goes by the name of a setting: under another name the value would be shown.
        if is_secret_name(name) && !is_secret_name(key) {
            return Err(format!("{key} would make {name} public; call it _SECRET_{key}"));
        }
        Ok(true)
    }

    fn fill(&mut self, key: &'s str, raw: &'s str) -> Result<String, String> {
        let mut out = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some(at) = rest.find('%') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let before = rest.len() - rest.trim_start_matches('%').len();
            let word = &rest[before..];
            let end = word.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(word.len());
            let (name, tail) = word.split_at(end);
            let after = tail.len() - tail.trim_start_matches('%').len();
            if name.is_empty() || after == 0 {
                out.push_str(&rest[..before + end]);
                rest = tail;
            } else if before > 1 && after > 1 {
                // `%%VAR%%` is for whoever reads the value next, with one level less.
                out.push_str(&rest[1..before + end + after - 1]);
                rest = &tail[after..];
            } else {
                out.push_str(&rest[..before - 1]);
                if !self.append(key, name, &mut out)? {
                    let noted = self.note_unset(key, name);
                    if !noted || self.then == Unset::Stays {
                        out.push_str(&rest[before - 1..=before + end]);
                    }
                }
                rest = &tail[1..];
            }
            if out.len() > MAX_SETTINGS_BYTES {
                return Err(format!(
                    "The key {key} grows beyond {MAX_SETTINGS_BYTES} bytes when its placeholders are filled in; write shorter values"
                ));
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    /// Only what looks like the name of a setting: `%20a%20` and `%E2%82` in an address do not, and are no placeholders.
    fn note_unset(&mut self, key: &str, name: &str) -> bool {
        let plain = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        let escape = name.len() == 2 && name.bytes().all(|b| b.is_ascii_hexdigit());
        let looks = plain && !escape && !name.starts_with(|c: char| c.is_ascii_digit());
        if looks {
            self.unset.insert((key.to_owned(), name.to_owned()));
        }
        looks
    }
}

/// The values that a setting is searched by: lists (`VAR[]`) and worker classes count one by one.
pub fn search_values<'v>(key: &str, value: &'v str) -> Vec<&'v str> {
    if key == CLASS || key.ends_with("[]") {
        value.split(',').map(str::trim).filter(|part| !part.is_empty()).collect()
    } else {
        vec![value]
    }
}
