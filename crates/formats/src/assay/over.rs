//! Jobs beside a Zuul layout: it says when they run, these files say what they do.

use super::{Loaded, Sections, is_expression, job, parse, reading_twice, unique, used_jobs};
use crate::diagnostic::Sink;
use crate::hash;
use crate::read::Reader;
use crate::yaml::{Dialect, Entry, Kind, Node};
use assay_engine::gate::config::{Config, JobDef, NOOP};
use assay_engine::gate::ids::JobName;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The sections whose part a layout plays.
const OF_LAYOUT: [&str; 5] = ["landing", "pipelines", "projects", "queues", "templates"];

/// Reads the files of a configuration whose pipelines and projects stand in a layout: what they say of a job wins, what
/// they do not say stays as the layout has it. Without a layout that can be used, only what is wrong with the files is said.
pub fn load_over(layout: Option<Config>, sources: &[(&str, &str)]) -> Loaded {
    let is_usable = layout.is_some();
    let layout = layout.unwrap_or_default();
    let mut sink = Sink::default();
    let config = reading_twice(&mut sink, |sink| read(&layout, sources, sink));
    let of_layout = ("layout", layout.hash.as_str());
    let hash = hash::of_sources(sources.iter().copied().chain([of_layout]));
    let config = (is_usable && !sink.has_errors()).then_some(Config { hash, ..config });
    let mut diagnostics = sink.finish();
    diagnostics.retain(|found| is_usable || found.is_error());
    Loaded { config, diagnostics }
}

fn read<'t>(layout: &Config, sources: &[(&str, &'t str)], sink: &mut Sink<'t>) -> Config {
    let roots = parse(sources, sink);
    let mut reader = Reader::new(sink, Dialect::Yaml12);
    let mut sections = Sections::default();
    for root in &roots {
        refuse_others(&mut reader, root);
        sections.add(&mut reader, root);
    }
    let mut config = layout.clone();
    let entries = unique(&mut reader, "job", &sections.jobs);
    let read = jobs(&mut reader, &entries, &mut config);
    config.semaphores.extend(sections.semaphores(&mut reader));
    sections.name_foreign_projects(&mut reader, &read, &config.projects);
    config
}

/// Puts what the entries say into the layout's jobs; the answer is what each entry says, by its key.
fn jobs(
    reader: &mut Reader<'_, '_>,
    entries: &[&Entry],
    config: &mut Config,
) -> BTreeMap<JobName, Arc<JobDef>> {
    let used = used_jobs(config.projects.values());
    let known = |config: &Config, name: &JobName| {
        config.jobs.get(name).map_or_else(|| JobDef::new(name.as_str()), |job| (**job).clone())
    };
    let (many, single): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(|entry| is_expression(entry));
    let mut read = BTreeMap::new();
    for entry in single {
        let name = JobName::from(&*entry.key.text);
        if !used.contains(&name) {
            let message = format!("no project of the layout has the job `{name}`, so it is never run");
            reader.sink.warning("unused-job", entry.key.place, message);
        }
        let job = Arc::new(job::read(reader, &entry.key, &entry.value, known(config, &name)));
        config.jobs.insert(name.clone(), job.clone());
        read.insert(name, job);
    }
    // What is wrong with an expression's entry is said once, and not for each job that it fits.
    let mut unheard = if reader.sink.takes_first() { Sink::of_first_values() } else { Sink::default() };
    let mut quiet = Reader::new(&mut unheard, Dialect::Yaml12);
    let mut left: BTreeSet<&JobName> =
        used.iter().filter(|name| !read.contains_key(*name) && name.as_str() != NOOP).collect();
    for entry in many {
        let text = &*entry.key.text;
        let alone = job::read(reader, &entry.key, &entry.value, JobDef::new(text));
        read.insert(text.into(), Arc::new(alone));
        let Some(pattern) = reader.pattern_of(text, entry.key.place, text) else { continue };
        let fitting: Vec<&JobName> =
            left.iter().copied().filter(|name| pattern.matches_start(name.as_str())).collect();
        if fitting.is_empty() {
            let message =
                format!("`{text}` fits no job of the layout that is still to be defined, so it is never run");
            reader.sink.warning("unused-job", entry.key.place, message);
        }
        for name in fitting {
            left.remove(name);
            let job = job::read(&mut quiet, &entry.key, &entry.value, known(config, name));
            config.jobs.insert(name.clone(), Arc::new(job));
        }
    }
    read
}

fn refuse_others(reader: &mut Reader<'_, '_>, root: &Node) {
    let Kind::Map(entries) = &root.kind else { return };
    for entry in entries.iter().filter(|entry| OF_LAYOUT.contains(&&*entry.key.text)) {
        let message = format!(
            "`{}` stands in the layout; beside a layout only `jobs` and `semaphores` count",
            entry.key.text
        );
        reader.sink.error("beside-layout", entry.key.place, message);
    }
}
