//! The whole layout: sections in Zuul's order, whatever theirs in the file.

use super::job::{self, Stanza};
use super::metajobs::Metajobs;
use super::project::{self, Project};
use super::queues::{self, QueueExplanation};
use super::template::{self, Template};
use super::{Options, pipeline};
use crate::diagnostic::Place;
use crate::read::Reader;
use crate::yaml::Node;
use assay_engine::gate::config::{Config, JobDef, Pipeline, Project as EngineProject};
use assay_engine::gate::ids::{JobName, PipelineName, ProjectName};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Every job that has been needed so far, by number.
pub(super) struct Jobs<'l> {
    numbers: HashMap<JobName, u32>,
    defs: Vec<Arc<JobDef>>,
    metajobs: Metajobs<'l>,
    /// Names that templates made and that are none.
    bad: Vec<(Place, String)>,
}

impl Jobs<'_> {
    /// The number of a job, which takes what the stanzas for many jobs say if it is new.
    pub(super) fn get(&mut self, name: &str, place: Place) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        if name.is_empty() || name.starts_with('^') || name.contains(char::is_whitespace) {
            self.bad.push((place, name.to_owned()));
        }
        let mut job = JobDef::new(name);
        for (_, stanza) in self.metajobs.fitting(name) {
            stanza.set.apply(&mut job, true);
        }
        self.add(job)
    }

    fn add(&mut self, job: JobDef) -> u32 {
        let number = self.defs.len() as u32;
        self.numbers.insert(job.name.clone(), number);
        self.defs.push(Arc::new(job));
        number
    }

    pub(super) fn name(&self, number: u32) -> JobName {
        self.def(number).name.clone()
    }

    pub(super) fn def(&self, number: u32) -> &JobDef {
        &self.defs[number as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.defs.len()
    }
}

/// Reads a layout. None if it is no mapping; findings may still forbid its use.
pub(super) fn read(
    reader: &mut Reader<'_, '_>,
    root: &Node,
    options: &Options,
) -> Option<(Config, Vec<QueueExplanation>)> {
    let mut fields = reader.fields(root, "a layout")?;
    if let Some(node) = fields.get("includes") {
        includes(reader, node);
    }
    let nodes = reader.required(&mut fields, "pipelines").map(|node| reader.list(node, "pipelines"));
    let pipelines = pipelines(reader, nodes.unwrap_or_default());
    let names: Vec<Box<str>> = pipelines.iter().map(|pipeline| pipeline.name.as_str().into()).collect();
    let nodes = fields.get("jobs").map(|node| reader.list(node, "jobs")).unwrap_or_default();
    let stanzas: Vec<Stanza> = nodes.iter().filter_map(|node| job::read(reader, node)).collect();
    let nodes = fields.get("project-templates").map(|node| reader.list(node, "project-templates"));
    let nodes = nodes.unwrap_or_default();
    let templates: Vec<Template> =
        nodes.iter().filter_map(|node| template::read(reader, node, &names)).collect();
    unique(reader, "project template", templates.iter().map(|template| (&*template.name, template.place)));
    let nodes = reader.required(&mut fields, "projects").map(|node| reader.list(node, "projects"));
    reader.finish(fields);

    let mut jobs = define(reader, &stanzas);
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    for (number, template) in templates.iter().enumerate() {
        numbers.entry(&template.name).or_insert(number);
    }
    let nodes = nodes.unwrap_or_default().iter();
    let projects: Vec<Project> = nodes
        .filter_map(|node| project::read(reader, node, &names, &templates, &numbers, &mut jobs))
        .collect();
    unique(reader, "project", projects.iter().map(|project| (&*project.name, project.place)));
    for (place, name) in std::mem::take(&mut jobs.bad) {
        let message = format!("this makes a job called `{name}`; expected a name without blanks");
        reader.sink.error("name", place, message);
    }
    parameter_functions(reader, &stanzas, &mut jobs, options);
    let (pipelines, why) = queues::share(reader, pipelines, &projects, &jobs, &stanzas, options.noop_joins);
    let config = compile(reader, pipelines, &names, &projects, jobs);
    Some((config, why))
}

fn includes(reader: &mut Reader<'_, '_>, node: &Node) {
    for node in reader.list(node, "includes") {
        let Some(mut fields) = reader.fields(node, "an include") else { continue };
        if let Some(file) = fields.get("python-file")
            && let Some(name) = reader.text(file, "python-file")
        {
            let message = format!(
                "`{name}` is not executed: what its functions do is a table that can be extended (docs/coming-from-zuul.md)"
            );
            reader.sink.note("python-file", file.place, message);
        }
        reader.finish(fields);
    }
}

fn pipelines(reader: &mut Reader<'_, '_>, nodes: &[Arc<Node>]) -> Vec<Pipeline> {
    let mut found: Vec<Pipeline> = Vec::new();
    let mut places = Vec::new();
    for node in nodes {
        if let Some(pipeline) = pipeline::read(reader, node) {
            let place = node.get("name").map_or(node.place, |name| name.place);
            if crate::assay::RESERVED.contains(&pipeline.name.as_str()) {
                let message =
                    format!("`{}` is a key of projects; expected another name for a pipeline", pipeline.name);
                reader.sink.error("name", place, message);
            }
            places.push(place);
            found.push(pipeline);
        }
    }
    unique(reader, "pipeline", found.iter().map(|pipeline| pipeline.name.as_str()).zip(places));
    found
}

/// Each name once.
fn unique<'n>(reader: &mut Reader<'_, '_>, what: &str, names: impl Iterator<Item = (&'n str, Place)>) {
    let mut seen: HashMap<&str, Place> = HashMap::new();
    for (name, place) in names {
        if let Some(first) = seen.get(name) {
            let message = format!("the {what} `{name}` is already in line {}; expected it once", first.line);
            reader.sink.error("duplicate-name", place, message);
        } else {
            seen.insert(name, place);
        }
    }
}

/// The concrete jobs of the stanzas, each with what the stanzas for many jobs before it say.
fn define<'l>(reader: &mut Reader<'_, '_>, stanzas: &'l [Stanza]) -> Jobs<'l> {
    unique(reader, "job", stanzas.iter().map(|stanza| (&*stanza.name, stanza.place)));
    let metajobs = Metajobs::new(stanzas);
    let mut jobs = Jobs { numbers: HashMap::new(), defs: Vec::new(), metajobs, bad: Vec::new() };
    for (at, stanza) in stanzas.iter().enumerate().filter(|(_, stanza)| stanza.meta.is_none()) {
        if jobs.numbers.contains_key(&*stanza.name) {
            continue;
        }
        let mut job = JobDef::new(&*stanza.name);
        for (other, meta) in jobs.metajobs.fitting(&stanza.name) {
            if other < at {
                meta.set.apply(&mut job, true);
            } else {
                let message = format!(
                    "`{}` fits `{}`, which stands above it (line {}) and therefore takes nothing from it",
                    meta.name, stanza.name, stanza.place.line
                );
                reader.sink.note("too-late", meta.place, message);
            }
        }
        stanza.set.apply(&mut job, false);
        jobs.add(job);
    }
    jobs
}

fn parameter_functions(
    reader: &mut Reader<'_, '_>,
    stanzas: &[Stanza],
    jobs: &mut Jobs<'_>,
    options: &Options,
) {
    let mut unknown: BTreeSet<String> = BTreeSet::new();
    // Nobody else has them yet.
    for job in jobs.defs.iter_mut().filter_map(Arc::get_mut) {
        if let Some(name) = job.parameter_function.clone()
            && !options.functions.apply(&name, job)
        {
            unknown.insert(name);
        }
    }
    // Said once for a function, where it is first used.
    for name in unknown {
        let first = stanzas.iter().find(|stanza| stanza.set.function() == Some(&name));
        let place = first.map_or_else(Place::default, |stanza| stanza.place);
        let message = format!(
            "nothing is known of the parameter function `{name}`: its jobs are given Zuul's variables and nothing else; say what it does with --functions (docs/coming-from-zuul.md)"
        );
        reader.sink.warning("parameter-function", place, message);
    }
}

fn compile(
    reader: &mut Reader<'_, '_>,
    pipelines: Vec<Pipeline>,
    names: &[Box<str>],
    projects: &[Project],
    jobs: Jobs<'_>,
) -> Config {
    let mut compiled = BTreeMap::new();
    for project in projects {
        let mut trees = BTreeMap::new();
        for (number, level) in &project.levels {
            let pipeline = PipelineName::from(names[*number].as_ref());
            let nodes = level.nodes(&jobs);
            crate::assay::tree::check(reader, project.place, &pipeline, &nodes);
            trees.insert(pipeline, nodes);
        }
        let name: ProjectName = (&*project.name).into();
        let project = EngineProject { name: name.clone(), merge_mode: project.merge_mode, pipelines: trees };
        compiled.insert(name, Arc::new(project));
    }
    let jobs = jobs.defs.into_iter().map(|job| (job.name.clone(), job)).collect();
    Config {
        pipelines: pipelines.into_iter().map(Arc::new).collect(),
        projects: compiled,
        jobs,
        ..Config::default()
    }
}
