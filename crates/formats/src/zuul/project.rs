//! Projects.

use super::layout::Jobs;
use super::template::{self, Template};
use super::tree::{self, Level, Values, Written};
use crate::diagnostic::Place;
use crate::read::{Fields, Reader};
use crate::yaml::{Node, Scalar};
use assay_engine::gate::config::MergeMode;
use std::collections::{BTreeSet, HashMap};

/// A project with its jobs.
pub(super) struct Project {
    pub(super) name: Box<str>,
    pub(super) place: Place,
    pub(super) merge_mode: MergeMode,
    /// By the number of the pipeline.
    pub(super) levels: HashMap<usize, Level>,
}

/// Job trees under the names of pipelines; all other keys are unknown.
pub(super) fn trees(
    reader: &mut Reader<'_, '_>,
    fields: &mut Fields<'_>,
    what: &'static str,
    pipelines: &[Box<str>],
    mut parameters: Option<&mut BTreeSet<Box<str>>>,
) -> Vec<(usize, Vec<Written>)> {
    let mut found = Vec::new();
    for entry in fields.rest() {
        let key = &*entry.key.text;
        if let Some(number) = pipelines.iter().position(|pipeline| **pipeline == *key) {
            found.push((number, tree::read(reader, &entry.value, key, parameters.as_deref_mut())));
        } else {
            let message = format!("unknown key `{key}` of {what}; expected the name of a pipeline");
            let known = pipelines.iter().map(AsRef::as_ref).chain(["name", "merge-mode", "template"]);
            reader.sink.unknown("unknown-key", entry.key.place, message, key, known);
        }
    }
    // The order of the pipelines decides which jobs are first.
    found.sort_by_key(|(number, _)| *number);
    found
}

/// Reads one, with its templates filled in.
pub(super) fn read(
    reader: &mut Reader<'_, '_>,
    node: &Node,
    pipelines: &[Box<str>],
    templates: &[Template],
    numbers: &HashMap<&str, usize>,
    jobs: &mut Jobs<'_>,
) -> Option<Project> {
    let mut fields = reader.fields(node, "a project")?;
    let name = reader.required(&mut fields, "name");
    let place = name.map_or(node.place, |node| node.place);
    let name = name.and_then(|node| reader.name(node, "name"));
    let merge_mode = fields.get("merge-mode").and_then(|node| merge_mode(reader, node)).unwrap_or_default();
    let mut levels = HashMap::new();
    if let Some(node) = fields.get("template") {
        let short = name.unwrap_or_default();
        let short = short.rsplit('/').next().unwrap_or(short);
        for node in reader.list(node, "template") {
            if let Some(call) = template::call(reader, node, templates, numbers, short) {
                template::instantiate(&call, templates, &mut levels, jobs);
            }
        }
    }
    for (number, written) in trees(reader, &mut fields, "a project", pipelines, None) {
        tree::grow(levels.entry(number).or_default(), &written, &Values::new(), jobs);
    }
    Some(Project { name: name?.into(), place, merge_mode, levels })
}

fn merge_mode(reader: &mut Reader<'_, '_>, node: &Node) -> Option<MergeMode> {
    let words = [
        ("merge", MergeMode::Merge),
        ("merge-resolve", MergeMode::MergeResolve),
        ("cherry-pick", MergeMode::CherryPick),
        ("merge-resolve,", MergeMode::MergeResolve),
    ];
    match node.scalar(reader.dialect) {
        Some(Scalar::Text("merge-resolve")) => {
            let message = "Zuul 2 refuses its own default when it is written out; taken as it is meant";
            reader.sink.note("merge-mode", node.place, message);
        }
        Some(Scalar::Text("merge-resolve,")) => {
            let message = "`merge-resolve,` is a slip in Zuul's schema; taken as `merge-resolve`";
            reader.sink.warning("merge-mode", node.place, message);
        }
        Some(Scalar::Text("merge" | "cherry-pick")) => {}
        // The slip is not offered to anybody.
        _ => return reader.word(node, "merge-mode", &words[..3]),
    }
    reader.word(node, "merge-mode", &words)
}
