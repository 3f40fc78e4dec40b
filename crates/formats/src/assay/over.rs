//! Jobs beside a Zuul layout: it says when they run, these files say what they do.

use super::{Loaded, Sections, job, parse, reading_twice, unique};
use crate::diagnostic::Sink;
use crate::hash;
use crate::read::Reader;
use crate::yaml::{Dialect, Kind, Node};
use assay_engine::gate::config::{Config, JobDef, JobNode};
use assay_engine::gate::ids::JobName;
use std::collections::BTreeSet;
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
    let used = used(&config);
    for entry in unique(&mut reader, "job", &sections.jobs) {
        let name = JobName::from(&*entry.key.text);
        let known =
            config.jobs.get(&name).map_or_else(|| JobDef::new(&*entry.key.text), |job| (**job).clone());
        if !used.contains(&*entry.key.text) {
            let message = format!("no project of the layout has the job `{name}`, so it is never run");
            reader.sink.warning("unused-job", entry.key.place, message);
        }
        let read = job::read(&mut reader, &entry.key, &entry.value, known);
        config.jobs.insert(name, Arc::new(read));
    }
    config.semaphores.extend(sections.semaphores(&mut reader));
    sections.name_foreign_projects(&mut reader, &config.jobs, &config.projects);
    config
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

/// The jobs that projects have.
fn used(config: &Config) -> BTreeSet<String> {
    fn add(nodes: &[JobNode], names: &mut BTreeSet<String>) {
        for node in nodes {
            if !names.contains(node.job.as_str()) {
                names.insert(node.job.to_string());
            }
            add(&node.children, names);
        }
    }
    let mut names = BTreeSet::new();
    for nodes in config.projects.values().flat_map(|project| project.pipelines.values()) {
        add(nodes, &mut names);
    }
    names
}
