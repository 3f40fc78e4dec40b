//! Zuul 2's `layout.yaml`.
//!
//! Everything that Zuul 2.6 refuses is refused, and where it takes what cannot have been meant, a warning says so. Python
//! files are not executed: what their functions do to a job is a table ([`functions`]).

mod expanded;
pub mod functions;
pub(crate) mod job;
mod layout;
mod metajobs;
mod pipeline;
mod project;
pub mod queues;
mod reporter;
mod template;
mod tree;
pub(crate) mod trigger;

pub use expanded::expanded_json;
pub use functions::{Functions, ParameterRule};
pub use queues::{Join, QueueExplanation};

use crate::diagnostic::{Diagnostic, Sink};
use crate::read::Reader;
use crate::yaml::{self, Dialect};
use assay_engine::gate::config::Config;

/// What can be asked of an import.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `noop` makes queues shared, as in Zuul; else it joins nothing.
    pub noop_joins: bool,
    /// What parameter functions do.
    pub functions: Functions,
}

/// What an import comes to.
#[derive(Debug, Clone)]
pub struct Import {
    /// None if there is an error.
    pub config: Option<Config>,
    /// The shared queues that were made, and why.
    pub queues: Vec<QueueExplanation>,
    /// Everything that was found, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a layout; `file` is its name for the diagnostics.
pub fn import(text: &str, file: &str, options: &Options) -> Import {
    let mut sink = Sink::default();
    let index = sink.add_file(file, text);
    let rules = yaml::Rules::plain(Dialect::Yaml11);
    let root = yaml::parse(text, index, rules, &mut sink);
    let mut config = None;
    let mut queues = Vec::new();
    if let Some(root) = root {
        let mut reader = Reader::new(&mut sink, Dialect::Yaml11);
        if let Some((read, why)) = layout::read(&mut reader, &root, options) {
            config = Some(Config { hash: crate::hash::of_sources([(file, text)]), ..read });
            queues = why;
        }
    } else if !sink.has_errors() {
        let whole = crate::diagnostic::Place { file: index, line: 0, column: 0 };
        sink.error("empty", whole, "the file is empty; expected a mapping with `pipelines` and `projects`");
    }
    let config = config.filter(|_| !sink.has_errors());
    Import { config, queues, diagnostics: sink.finish() }
}
