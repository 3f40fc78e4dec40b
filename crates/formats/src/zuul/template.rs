//! Project templates and their use.

use super::tree::{self, Values, Written};
use crate::diagnostic::Place;
use crate::read::Reader;
use crate::yaml::Node;
use std::collections::{BTreeSet, HashMap};

/// The parameter that every template has: the last part of the project's name.
const NAME: &str = "name";

/// A template.
pub(super) struct Template {
    pub(super) name: Box<str>,
    pub(super) place: Place,
    /// By the number of the pipeline.
    pub(super) trees: Vec<(usize, Vec<Written>)>,
    /// Without [`NAME`].
    parameters: BTreeSet<Box<str>>,
}

/// Reads one; `pipelines` are the names of all pipelines.
pub(super) fn read(reader: &mut Reader<'_, '_>, node: &Node, pipelines: &[Box<str>]) -> Option<Template> {
    let mut fields = reader.fields(node, "a project template")?;
    let name = reader.required(&mut fields, "name");
    let place = name.map_or(node.place, |node| node.place);
    let name = name.and_then(|node| reader.name(node, "name"));
    let mut parameters = BTreeSet::new();
    let trees =
        super::project::trees(reader, &mut fields, "a project template", pipelines, Some(&mut parameters));
    parameters.remove(NAME);
    Some(Template { name: name?.into(), place, trees, parameters })
}

/// A use of a template, with the values of its parameters.
pub(super) struct Call<'n> {
    /// Its number.
    pub(super) template: usize,
    pub(super) values: Values<'n>,
}

/// Reads `{name: TEMPLATE, PARAMETER: value}`; `short` is the project's name without its path.
pub(super) fn call<'n>(
    reader: &mut Reader<'_, '_>,
    node: &'n Node,
    templates: &[Template],
    numbers: &HashMap<&str, usize>,
    short: &'n str,
) -> Option<Call<'n>> {
    let mut fields = reader.fields(node, "the use of a template")?;
    let name_node = reader.required(&mut fields, NAME)?;
    let name = reader.name(name_node, NAME)?;
    let Some(number) = numbers.get(name).copied() else {
        let message = format!("there is no project template `{name}`");
        reader.sink.unknown("unknown-template", name_node.place, message, name, numbers.keys().copied());
        return None;
    };
    let template = &templates[number];
    let mut values: Values<'n> = HashMap::from([(NAME, short)]);
    for entry in fields.rest() {
        let key = &*entry.key.text;
        let Some(value) = reader.text(&entry.value, key) else { continue };
        if !template.parameters.contains(key) {
            let known = template.parameters.iter().map(AsRef::as_ref);
            let message = format!("the template `{name}` has no parameter `{key}`");
            reader.sink.unknown("unknown-parameter", entry.key.place, message, key, known);
        } else if value.is_empty() || value.contains(char::is_whitespace) {
            let message = format!("`{key}` becomes a part of names of jobs; expected text without blanks");
            reader.sink.error("name", entry.value.place, message);
        }
        values.insert(key, value);
    }
    for parameter in &template.parameters {
        if !values.contains_key(&**parameter) && node.get(parameter).is_none() {
            let message = format!("the template `{name}` needs the parameter `{parameter}`");
            reader.sink.error("missing-parameter", node.place, message);
        }
    }
    Some(Call { template: number, values })
}

/// Adds a template's jobs to the project's.
pub(super) fn instantiate(
    call: &Call<'_>,
    templates: &[Template],
    levels: &mut HashMap<usize, tree::Level>,
    jobs: &mut super::layout::Jobs<'_>,
) {
    for (pipeline, written) in &templates[call.template].trees {
        tree::grow(levels.entry(*pipeline).or_default(), written, &call.values, jobs);
    }
}
