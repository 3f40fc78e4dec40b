//! Job stanzas, concrete ones and those for many jobs.

use crate::diagnostic::Place;
use crate::read::{Reader, one_or_more};
use crate::yaml::Node;
use assay_engine::gate::config::{JobDef, SkipIf};
use assay_engine::gate::pattern::Pattern;
use std::collections::BTreeSet;

/// An entry of `jobs`.
pub(super) struct Stanza {
    pub(super) name: Box<str>,
    pub(super) place: Place,
    /// Its name as an expression, if it is for many jobs.
    pub(super) meta: Option<Pattern>,
    pub(super) set: Attributes,
}

/// What a stanza sets.
#[derive(Default)]
pub(super) struct Attributes {
    queue_name: Option<String>,
    success_message: Option<String>,
    failure_message: Option<String>,
    success_pattern: Option<String>,
    failure_pattern: Option<String>,
    /// Only `true` sets anything.
    hold_following: bool,
    voting: Option<bool>,
    attempts: Option<u32>,
    mutex: Option<String>,
    tags: BTreeSet<String>,
    parameter_function: Option<String>,
    branches: Vec<Pattern>,
    files: Vec<Pattern>,
    skip_if: Vec<SkipIf>,
}

impl Attributes {
    /// Sets what is set here; tags add up, everything else replaces. Stanzas for many jobs leave the queue's name and
    /// the number of attempts alone.
    pub(super) fn apply(&self, job: &mut JobDef, meta: bool) {
        let replace = |to: &mut Option<String>, from: &Option<String>| {
            if from.is_some() {
                to.clone_from(from);
            }
        };
        replace(&mut job.success_message, &self.success_message);
        replace(&mut job.failure_message, &self.failure_message);
        replace(&mut job.success_pattern, &self.success_pattern);
        replace(&mut job.failure_pattern, &self.failure_pattern);
        replace(&mut job.parameter_function, &self.parameter_function);
        job.hold_following |= self.hold_following;
        job.voting = self.voting.unwrap_or(job.voting);
        if let Some(mutex) = &self.mutex {
            job.semaphores = BTreeSet::from([mutex.as_str().into()]);
        }
        job.tags.extend(self.tags.iter().cloned());
        if !self.branches.is_empty() {
            job.branches.clone_from(&self.branches);
        }
        if !self.files.is_empty() {
            job.files.clone_from(&self.files);
        }
        if !self.skip_if.is_empty() {
            job.skip_if.clone_from(&self.skip_if);
        }
        if !meta {
            replace(&mut job.queue_name, &self.queue_name);
            job.attempts = self.attempts.unwrap_or(job.attempts);
        }
    }

    /// The function that it names.
    pub(super) fn function(&self) -> Option<&str> {
        self.parameter_function.as_deref()
    }
}

/// One stanza.
pub(super) fn read(reader: &mut Reader<'_, '_>, node: &Node) -> Option<Stanza> {
    let mut fields = reader.fields(node, "a job")?;
    let name = reader.required(&mut fields, "name");
    let place = name.map_or(node.place, |node| node.place);
    let name = name.and_then(|node| reader.name(node, "name"));
    let meta =
        name.filter(|name| name.starts_with('^')).and_then(|name| reader.pattern_of(name, place, "name"));
    // An empty text counts as not given there.
    let mut text = |key| {
        let text = fields.get(key).and_then(|node| reader.text(node, key));
        text.filter(|text| !text.is_empty()).map(ToOwned::to_owned)
    };
    let mut set = Attributes {
        queue_name: text("queue-name"),
        success_message: text("success-message"),
        failure_message: text("failure-message"),
        success_pattern: text("success-pattern"),
        failure_pattern: text("failure-pattern"),
        mutex: text("mutex"),
        parameter_function: text("parameter-function"),
        ..Attributes::default()
    };
    if let Some(node) = fields.get("hold-following-changes") {
        set.hold_following = reader.boolean(node, "hold-following-changes") == Some(true);
    }
    set.voting = fields.get("voting").and_then(|node| reader.boolean(node, "voting"));
    set.attempts = fields.get("attempts").and_then(|node| reader.number(node, "attempts", 1));
    if let Some(node) = fields.get("tags") {
        set.tags = reader.texts(node, "tags").into_iter().map(ToOwned::to_owned).collect();
    }
    set.branches = reader.patterns(fields.get("branch"), "branch");
    set.files = reader.patterns(fields.get("files"), "files");
    if let Some(node) = fields.get("skip-if") {
        set.skip_if = skip_ifs(reader, node);
    }
    if let Some(node) = fields.get("swift") {
        swift(reader, node);
    }
    if name.is_some_and(|name| name.starts_with('^')) {
        for (key, given) in [("queue-name", set.queue_name.is_some()), ("attempts", set.attempts.is_some())] {
            if given {
                let message = format!(
                    "`{key}` in a stanza for many jobs has no effect (Zuul does not hand it on); expected it in a stanza with the job's own name"
                );
                reader.sink.warning("no-effect", place, message);
            }
        }
    }
    reader.finish(fields);
    let name = name?;
    if name.contains(char::is_whitespace) {
        reader.sink.error("name", place, format!("the job's name `{name}` holds blanks; expected none"));
    }
    if name.starts_with('^') && meta.is_none() {
        return None;
    }
    Some(Stanza { name: name.into(), place, meta, set })
}

/// `skip-if`: any of its entries, of each everything.
pub(crate) fn skip_ifs(reader: &mut Reader<'_, '_>, node: &Node) -> Vec<SkipIf> {
    let mut found = Vec::new();
    for node in one_or_more(node) {
        let Some(mut fields) = reader.fields(node, "`skip-if`") else { continue };
        let skip = SkipIf {
            project: fields.get("project").and_then(|node| reader.pattern(node, "project")),
            branch: fields.get("branch").and_then(|node| reader.pattern(node, "branch")),
            all_files_match_any: reader.patterns(fields.get("all-files-match-any"), "all-files-match-any"),
        };
        reader.finish(fields);
        if skip == SkipIf::default() {
            let message = "an entry without conditions skips the job always";
            reader.sink.warning("always-matches", node.place, message);
        }
        found.push(skip);
    }
    found
}

/// Uploads to Swift by signed forms: checked, then said to be out of use.
fn swift(reader: &mut Reader<'_, '_>, node: &Node) {
    for node in one_or_more(node) {
        let Some(mut fields) = reader.fields(node, "`swift`") else { continue };
        if let Some(node) = reader.required(&mut fields, "name") {
            reader.text(node, "name");
        }
        for key in ["container", "logserver-prefix", "logserver_prefix"] {
            if let Some(node) = fields.get(key) {
                reader.text(node, key);
            }
        }
        for key in ["expiry", "max-file-size", "max_file_size", "max-file-count", "max_file_count"] {
            if let Some(node) = fields.get(key) {
                reader.number(node, key, 0);
            }
        }
        reader.finish(fields);
        let message = "signed uploads to Swift are not made; Assay's worker publishes artifacts itself (docs/gating.md)";
        reader.sink.warning("not-supported", node.place, message);
    }
}
