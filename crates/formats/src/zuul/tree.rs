//! Job trees: as written, with the parameters of templates, and as they grow from several sources.

use super::layout::Jobs;
use crate::diagnostic::Place;
use crate::read::Reader;
use crate::yaml::{Kind, Node, Scalar};
use assay_engine::gate::config::JobNode;
use std::collections::{BTreeSet, HashMap};

/// A job of a tree as it is written.
pub(super) struct Written {
    name: Name,
    place: Place,
    children: Vec<Written>,
}

/// A name that may have parameters.
pub(super) enum Name {
    Plain(Box<str>),
    Parts(Vec<Part>),
}

pub(super) enum Part {
    Text(String),
    Parameter(Box<str>),
}

/// A job of a tree by its number, with what follows it.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) job: u32,
    pub(super) children: Level,
}

/// Jobs beside each other, each once.
#[derive(Debug, Default)]
pub(super) struct Level {
    pub(super) trees: Vec<Tree>,
    /// Where a job stands, once there are many.
    index: HashMap<u32, usize>,
}

/// Beyond so many jobs a level is not searched from its beginning.
const MANY: usize = 32;

impl Level {
    /// The tree of a job, which is added at the end if it is not there.
    fn tree(&mut self, job: u32) -> &mut Tree {
        let found = if self.trees.len() > MANY {
            self.index.get(&job).copied()
        } else {
            self.trees.iter().position(|tree| tree.job == job)
        };
        let at = found.unwrap_or_else(|| {
            self.trees.push(Tree { job, children: Self::default() });
            if self.trees.len() > MANY {
                if self.index.is_empty() {
                    self.index = self.trees.iter().enumerate().map(|(at, tree)| (tree.job, at)).collect();
                }
                self.index.insert(job, self.trees.len() - 1);
            }
            self.trees.len() - 1
        });
        &mut self.trees[at]
    }

    /// The engine's form.
    pub(super) fn nodes(&self, jobs: &Jobs<'_>) -> Vec<JobNode> {
        let node = |tree: &Tree| JobNode { job: jobs.name(tree.job), children: tree.children.nodes(jobs) };
        self.trees.iter().map(node).collect()
    }

    /// Calls `visit` for every job.
    pub(super) fn visit(&self, visit: &mut impl FnMut(u32)) {
        for tree in &self.trees {
            visit(tree.job);
            tree.children.visit(visit);
        }
    }
}

/// Reads a job tree. With `parameters` it is that of a template, and the names of its parameters go there.
pub(super) fn read(
    reader: &mut Reader<'_, '_>,
    node: &Node,
    pipeline: &str,
    mut parameters: Option<&mut BTreeSet<Box<str>>>,
) -> Vec<Written> {
    let mut found = Vec::new();
    let Kind::List(items) = &node.kind else {
        reader.expected(node, pipeline, "a list of jobs");
        return found;
    };
    for item in items {
        entry(reader, item, pipeline, parameters.as_deref_mut(), &mut found);
    }
    found
}

fn entry(
    reader: &mut Reader<'_, '_>,
    node: &Node,
    pipeline: &str,
    mut parameters: Option<&mut BTreeSet<Box<str>>>,
    into: &mut Vec<Written>,
) {
    match &node.kind {
        Kind::List(items) => {
            for item in items {
                entry(reader, item, pipeline, parameters.as_deref_mut(), into);
            }
        }
        Kind::Map(entries) => {
            for inner in entries {
                let name = name(reader, &inner.key.text, inner.key.place, parameters.as_deref_mut());
                let children = read(reader, &inner.value, &inner.key.text, parameters.as_deref_mut());
                into.extend(name.map(|name| Written { name, place: inner.key.place, children }));
            }
        }
        Kind::Scalar { .. } => match node.scalar(reader.dialect) {
            Some(Scalar::Text(text)) => {
                let name = name(reader, text, node.place, parameters);
                into.extend(name.map(|name| Written { name, place: node.place, children: Vec::new() }));
            }
            _ => reader.expected(node, pipeline, "the name of a job"),
        },
    }
}

fn name(
    reader: &mut Reader<'_, '_>,
    text: &str,
    place: Place,
    parameters: Option<&mut BTreeSet<Box<str>>>,
) -> Option<Name> {
    if text.is_empty() || text.contains(char::is_whitespace) {
        let message = format!("`{text}` is no name of a job; expected one without blanks");
        reader.sink.error("name", place, message);
        return None;
    }
    if text.starts_with('^') {
        let message = format!("`{text}` is an expression for many jobs; expected the name of one");
        reader.sink.error("name", place, message);
        return None;
    }
    let Some(parameters) = parameters else { return Some(Name::Plain(text.into())) };
    match parts(text) {
        Ok(found) => {
            for part in &found {
                if let Part::Parameter(parameter) = part {
                    parameters.insert(parameter.clone());
                }
            }
            Some(Name::Parts(found))
        }
        Err(why) => {
            reader.sink.error("template", place, format!("`{text}`: {why}"));
            None
        }
    }
}

/// Splits what Python's `str.format` would fill in: `{name}`, and `{{` for a brace.
fn parts(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        plain += &rest[..at];
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(more) = rest.strip_prefix(brace) {
            plain += brace;
            rest = more;
            continue;
        }
        let end = rest.find('}').filter(|_| brace == "{");
        let Some(end) = end else {
            return Err(format!(
                "a single `{brace}`; expected {{NAME}}, or {brace}{brace} for the character"
            ));
        };
        let parameter = &rest[..end];
        let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
        if parameter.is_empty()
            || !parameter.chars().all(word)
            || parameter.starts_with(|c: char| c.is_ascii_digit())
        {
            return Err(format!(
                "`{{{parameter}}}` is no parameter; expected {{NAME}} and nothing else in it"
            ));
        }
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain)));
        }
        parts.push(Part::Parameter(parameter.into()));
        rest = &rest[end + 1..];
    }
    plain += rest;
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

/// Values of parameters.
pub(super) type Values<'v> = HashMap<&'v str, &'v str>;

/// Adds written jobs to a level. What is there already stays where it is, and gets the new ones' children.
pub(super) fn grow(level: &mut Level, written: &[Written], values: &Values<'_>, jobs: &mut Jobs<'_>) {
    let mut buffer = String::new();
    for one in written {
        let name: &str = match &one.name {
            Name::Plain(name) => name,
            Name::Parts(parts) => {
                buffer.clear();
                for part in parts {
                    buffer += match part {
                        Part::Text(text) => text,
                        Part::Parameter(name) => values.get(&**name).copied().unwrap_or_default(),
                    };
                }
                &buffer
            }
        };
        let job = jobs.get(name, one.place);
        grow(&mut level.tree(job).children, &one.children, values, jobs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parts(text) {
            Ok(parts) => parts.iter().fold(String::new(), |all, part| match part {
                Part::Text(text) => all + text + "|",
                Part::Parameter(name) => format!("{all}<{name}>|"),
            }),
            Err(why) => why,
        }
    }

    #[test]
    fn formats() {
        assert_eq!(shown("gate-{name}-x{py}"), "gate-|<name>|-x|<py>|");
        assert_eq!(shown("a{{b}}"), "a{b}|");
        assert_eq!(shown("{{{a}}}"), "{|<a>|}|");
        assert!(shown("a{b").contains("a single `{`"));
        assert!(shown("a}b").contains("a single `}`"));
        for wrong in ["{}", "{0}", "{a.b}", "{a!r}", "{a:5}"] {
            assert!(shown(wrong).contains("is no parameter"), "{wrong}");
        }
    }

    #[test]
    fn long_levels_find_their_jobs() {
        let mut level = Level::default();
        for round in 0..2 {
            for job in 0..100 {
                assert_eq!(level.tree(job).job, job, "{round}");
            }
        }
        assert_eq!(level.trees.len(), 100);
    }
}
