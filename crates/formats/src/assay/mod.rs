//! Assay's own YAML: short, and complete enough to write every configuration in it.
//!
//! A configuration is a set of files with the sections `pipelines`, `queues`, `templates`, `projects`, `jobs`,
//! `semaphores` and `landing`. The prose is `docs/gating.md`.

pub(crate) mod emit;
mod job;
mod over;
mod pipeline;
pub(crate) mod quantity;
mod task;
pub(crate) mod tree;
mod write;

pub use over::load_over;
pub use write::to_files;

use crate::diagnostic::{Diagnostic, Place, Sink};
use crate::hash;
use crate::read::{Reader, one_or_more};
use crate::yaml::{self, Dialect, Entry, Kind, Node};
use assay_engine::gate::config::{
    Config, JobDef, JobNode, LandingWay, Manager, MergeMode, NOOP, Pipeline, Project, QueueDef,
};
use assay_engine::gate::ids::{JobName, PipelineName, ProjectName, SemaphoreName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Keys of a project; no pipeline can be called so.
pub(crate) const RESERVED: [&str; 4] = ["name", "merge-mode", "template", "templates"];

const LANDINGS: [(&str, LandingWay); 2] = [("submit", LandingWay::Submit), ("push", LandingWay::Push)];
/// How `merge-mode` is written.
pub const MERGE_MODES: [(&str, MergeMode); 8] = [
    ("merge", MergeMode::Merge),
    ("merge-resolve", MergeMode::MergeResolve),
    ("cherry-pick", MergeMode::CherryPick),
    ("fast-forward-only", MergeMode::FastForwardOnly),
    ("merge-if-necessary", MergeMode::MergeIfNecessary),
    ("merge-always", MergeMode::MergeAlways),
    ("rebase-if-necessary", MergeMode::RebaseIfNecessary),
    ("rebase-always", MergeMode::RebaseAlways),
];

/// What was read.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// None if there is an error.
    pub config: Option<Config>,
    /// Everything that was found, in the order of the files.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads the files of a configuration: names and texts.
pub fn load(sources: &[(&str, &str)]) -> Loaded {
    let mut sink = Sink::default();
    let config = reading_twice(&mut sink, |sink| read(sources, sink));
    let hash = hash::of_sources(sources.iter().copied());
    let config = (!sink.has_errors()).then_some(Config { hash, ..config });
    Loaded { config, diagnostics: sink.finish() }
}

/// Reads, and reads once more if a key stands twice: what is wrong with the value that another one hides is said at once, too.
fn reading_twice<'t>(sink: &mut Sink<'t>, read: impl Fn(&mut Sink<'t>) -> Config) -> Config {
    let config = read(sink);
    if sink.has_lost() {
        let mut first = Sink::of_first_values();
        read(&mut first);
        sink.take_lost_from(first);
    }
    config
}

fn read<'t>(sources: &[(&str, &'t str)], sink: &mut Sink<'t>) -> Config {
    let roots = parse(sources, sink);
    let builtin = pipeline::Builtin::parse(sink);
    let mut reader = Reader::new(sink, Dialect::Yaml12);
    let mut sections = Sections::default();
    for root in &roots {
        sections.add(&mut reader, root);
    }
    if roots.is_empty() && !reader.sink.has_errors() {
        let message = "there is nothing in it; expected `pipelines`, `projects` and `jobs` (docs/gating.md)";
        reader.sink.error("empty", Place::default(), message);
    }
    sections.compile(&mut reader, &builtin)
}

fn parse<'t>(sources: &[(&str, &'t str)], sink: &mut Sink<'t>) -> Vec<Arc<Node>> {
    let mut roots = Vec::new();
    for (name, text) in sources {
        let file = sink.add_file(name, text);
        roots.extend(yaml::parse(text, file, yaml::Rules::plain(Dialect::Yaml12), sink));
    }
    roots
}

/// What all files together have of each section.
#[derive(Default)]
struct Sections<'n> {
    landing: Option<LandingWay>,
    pipelines: Vec<&'n Node>,
    queues: Vec<&'n Node>,
    templates: Vec<&'n Entry>,
    projects: Vec<&'n Entry>,
    jobs: Vec<&'n Entry>,
    semaphores: Vec<&'n Entry>,
}

impl<'n> Sections<'n> {
    fn add(&mut self, reader: &mut Reader<'_, '_>, root: &'n Node) {
        let Some(mut fields) = reader.fields(root, "a configuration") else { return };
        if let Some(node) = fields.get("landing") {
            self.landing = reader.word(node, "landing", &LANDINGS);
        }
        if let Some(node) = fields.get("pipelines") {
            self.pipelines.extend(one_or_more(node));
        }
        if let Some(node) = fields.get("queues") {
            self.queues.extend(reader.list(node, "queues").iter().map(AsRef::as_ref));
        }
        for (key, section) in [
            ("templates", &mut self.templates),
            ("projects", &mut self.projects),
            ("jobs", &mut self.jobs),
            ("semaphores", &mut self.semaphores),
        ] {
            match fields.get(key).map(|node| (node, &node.kind)) {
                Some((_, Kind::Map(entries))) => section.extend(entries),
                Some((node, _)) => reader.expected(node, key, "a mapping from names"),
                None => {}
            }
        }
        reader.finish(fields);
    }

    fn compile(&self, reader: &mut Reader<'_, '_>, builtin: &pipeline::Builtin) -> Config {
        let landing = self.landing.unwrap_or_default();
        let mut pipelines: Vec<Pipeline> = Vec::new();
        for node in &self.pipelines {
            let Some(pipeline) = pipeline::read(reader, node, builtin, landing) else { continue };
            if pipelines.iter().any(|other| other.name == pipeline.name) {
                let message = format!("the pipeline `{}` is there twice; expected it once", pipeline.name);
                reader.sink.error("duplicate-name", node.place, message);
            } else {
                pipelines.push(pipeline);
            }
        }
        let mut jobs: BTreeMap<JobName, Arc<JobDef>> = BTreeMap::new();
        for entry in unique(reader, "job", &self.jobs) {
            let def = job::read(reader, &entry.key, &entry.value, JobDef::new(&*entry.key.text));
            jobs.insert(def.name.clone(), Arc::new(def));
        }
        let names: Vec<PipelineName> = pipelines.iter().map(|pipeline| pipeline.name.clone()).collect();
        let projects = self.projects(reader, &names, &mut jobs);
        self.name_unused_jobs(reader, &projects);
        self.share(reader, &mut pipelines, &projects);
        let semaphores = self.semaphores(reader);
        self.name_foreign_projects(reader, &jobs, &projects);
        Config {
            pipelines: pipelines.into_iter().map(Arc::new).collect(),
            projects,
            jobs,
            semaphores,
            ..Config::default()
        }
    }

    fn name_unused_jobs(&self, reader: &mut Reader<'_, '_>, projects: &BTreeMap<ProjectName, Arc<Project>>) {
        for entry in self.jobs.iter().filter(|entry| is_expression(entry)) {
            let message = format!(
                "`{}` is an expression; expected the name of one job: only beside a layout (`layout` in assay.toml) can many \
                 be defined at once",
                entry.key.text
            );
            reader.sink.error("name", entry.key.place, message);
        }
        // With mistakes elsewhere, what is used is not known well enough.
        if reader.sink.has_errors() {
            return;
        }
        let used = used_jobs(projects.values());
        for entry in &self.jobs {
            let name = JobName::from(&*entry.key.text);
            if !used.contains(&name) {
                let message = format!("no project has the job `{name}`, so it is never run");
                reader.sink.warning("unused-job", entry.key.place, message);
            }
        }
    }

    fn semaphores(&self, reader: &mut Reader<'_, '_>) -> BTreeMap<SemaphoreName, u32> {
        let mut semaphores = BTreeMap::new();
        for entry in unique(reader, "semaphore", &self.semaphores) {
            if let Some(count) = reader.number(&entry.value, &entry.key.text, 1) {
                semaphores.insert((&*entry.key.text).into(), count);
            }
        }
        semaphores
    }

    /// Says which projects jobs have in their workspaces that nothing is configured for.
    fn name_foreign_projects(
        &self,
        reader: &mut Reader<'_, '_>,
        jobs: &BTreeMap<JobName, Arc<JobDef>>,
        projects: &BTreeMap<ProjectName, Arc<Project>>,
    ) {
        for job in jobs.values() {
            for project in job.projects.iter().filter(|project| !projects.contains_key(*project)) {
                let place = self.jobs.iter().find(|entry| *entry.key.text == *job.name.as_str());
                let place = place.map_or_else(Place::default, |entry| entry.key.place);
                let message = format!(
                    "the job `{}` has the project `{project}` in its workspace, which is not under `projects`; it is fetched as it stands",
                    job.name
                );
                reader.sink.note("foreign-project", place, message);
            }
        }
    }

    fn projects(
        &self,
        reader: &mut Reader<'_, '_>,
        pipelines: &[PipelineName],
        jobs: &mut BTreeMap<JobName, Arc<JobDef>>,
    ) -> BTreeMap<ProjectName, Arc<Project>> {
        let mut templates = BTreeMap::new();
        for entry in unique(reader, "template", &self.templates) {
            let Some(mut fields) = reader.fields(&entry.value, "a template") else { continue };
            let trees = tree::read(reader, &mut fields, "a template", pipelines, jobs);
            templates.insert(&*entry.key.text, trees);
        }
        let mut projects = BTreeMap::new();
        for entry in unique(reader, "project", &self.projects) {
            let Some(mut fields) = reader.fields(&entry.value, "a project") else { continue };
            let merge_mode =
                fields.get("merge-mode").and_then(|node| reader.word(node, "merge-mode", &MERGE_MODES));
            let mut trees = tree::Trees::default();
            if let Some(node) = fields.get("templates") {
                for node in one_or_more(node) {
                    let Some(name) = reader.name(node, "templates") else { continue };
                    if let Some(template) = templates.get(name) {
                        trees.add(template);
                    } else {
                        let message = format!("there is no template `{name}`");
                        let known = templates.keys().copied();
                        reader.sink.unknown("unknown-template", node.place, message, name, known);
                    }
                }
            }
            trees.add(&tree::read(reader, &mut fields, "a project", pipelines, jobs));
            let name: ProjectName = (&*entry.key.text).into();
            let project = Project {
                name: name.clone(),
                merge_mode: merge_mode.unwrap_or_default(),
                pipelines: trees.finish(reader, entry.key.place),
            };
            projects.insert(name, Arc::new(project));
        }
        // It needs no description.
        if projects.values().any(|project| project.pipelines.values().any(|nodes| tree::has_noop(nodes))) {
            let noop = JobName::from(NOOP);
            jobs.entry(noop.clone()).or_insert_with(|| Arc::new(JobDef::new(noop)));
        }
        projects
    }

    /// Puts the queues into their pipelines.
    fn share(
        &self,
        reader: &mut Reader<'_, '_>,
        pipelines: &mut [Pipeline],
        projects: &BTreeMap<ProjectName, Arc<Project>>,
    ) {
        for node in &self.queues {
            let Some(mut fields) = reader.fields(node, "a queue") else { continue };
            let name = reader.required(&mut fields, "name").and_then(|node| reader.name(node, "name"));
            let allow_cycles =
                fields.get("allow-cycles").and_then(|node| reader.boolean(node, "allow-cycles"));
            let mut members = BTreeSet::new();
            if let Some(list) = reader.required(&mut fields, "projects") {
                for node in one_or_more(list) {
                    let Some(name) = reader.name(node, "projects") else { continue };
                    if !projects.contains_key(name) {
                        let message = format!("there is no project `{name}`");
                        let known = projects.keys().map(ProjectName::as_str);
                        reader.sink.unknown("unknown-project", node.place, message, name, known);
                    }
                    if !members.insert(ProjectName::from(name)) {
                        reader.sink.error(
                            "duplicate-name",
                            node.place,
                            format!("`{name}` is in this queue twice"),
                        );
                    }
                }
            }
            let wanted = fields.get("pipelines");
            let chosen = chosen_pipelines(reader, wanted.map(AsRef::as_ref), pipelines);
            reader.finish(fields);
            let Some(name) = name else { continue };
            if chosen.is_empty() && wanted.is_none() {
                let message = format!(
                    "no pipeline has queues, so `{name}` is never used; expected a dependent or serial one"
                );
                reader.sink.warning("no-effect", node.place, message);
            }
            for at in chosen {
                let pipeline = &mut pipelines[at];
                for other in &pipeline.queues {
                    if let Some(project) = other.projects.intersection(&members).next() {
                        let message = format!(
                            "`{project}` is already in the queue `{}` of `{}`; expected it in one",
                            other.name, pipeline.name
                        );
                        reader.sink.error("two-queues", node.place, message);
                    }
                    if other.name.as_str() == name {
                        let message =
                            format!("the queue `{name}` is already in `{}`; expected it once", pipeline.name);
                        reader.sink.error("duplicate-name", node.place, message);
                    }
                }
                pipeline.queues.push(QueueDef {
                    name: name.into(),
                    projects: members.clone(),
                    allow_cycles: allow_cycles.unwrap_or_default(),
                });
            }
        }
    }
}

/// The pipelines that a queue names, or all that have queues.
fn chosen_pipelines(reader: &mut Reader<'_, '_>, node: Option<&Node>, pipelines: &[Pipeline]) -> Vec<usize> {
    let has_queues = |pipeline: &Pipeline| matches!(pipeline.manager, Manager::Dependent | Manager::Serial);
    let Some(node) = node else {
        return (0..pipelines.len()).filter(|at| has_queues(&pipelines[*at])).collect();
    };
    let mut chosen = Vec::new();
    for node in one_or_more(node) {
        let Some(name) = reader.name(node, "pipelines") else { continue };
        match pipelines.iter().position(|pipeline| pipeline.name.as_str() == name) {
            Some(at) if has_queues(&pipelines[at]) => chosen.push(at),
            Some(_) => {
                let message = format!("`{name}` has no queues; expected a dependent or serial pipeline");
                reader.sink.error("no-queues", node.place, message);
            }
            None => {
                let known = pipelines.iter().map(|pipeline| pipeline.name.as_str());
                let message = format!("there is no pipeline `{name}`");
                reader.sink.unknown("unknown-pipeline", node.place, message, name, known);
            }
        }
    }
    chosen
}

/// True for an entry of `jobs` whose key is an expression, as in Zuul's layouts.
fn is_expression(entry: &Entry) -> bool {
    entry.key.text.starts_with('^')
}

/// The jobs that projects have.
fn used_jobs<'p>(projects: impl Iterator<Item = &'p Arc<Project>>) -> BTreeSet<JobName> {
    fn add(nodes: &[JobNode], names: &mut BTreeSet<JobName>) {
        for node in nodes {
            if !names.contains(&node.job) {
                names.insert(node.job.clone());
            }
            add(&node.children, names);
        }
    }
    let mut names = BTreeSet::new();
    for nodes in projects.flat_map(|project| project.pipelines.values()) {
        add(nodes, &mut names);
    }
    names
}

/// The entries, each name once.
fn unique<'n>(reader: &mut Reader<'_, '_>, what: &str, entries: &[&'n Entry]) -> Vec<&'n Entry> {
    let mut seen: BTreeMap<&str, Place> = BTreeMap::new();
    let mut kept = Vec::with_capacity(entries.len());
    for entry in entries {
        let Some(first) = seen.get(&*entry.key.text) else {
            seen.insert(&entry.key.text, entry.key.place);
            kept.push(*entry);
            continue;
        };
        let first = reader.sink.show(*first);
        let message = format!("the {what} `{}` is already in {first}; expected it once", entry.key.text);
        reader.sink.error("duplicate-name", entry.key.place, message);
    }
    kept
}
