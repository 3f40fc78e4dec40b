//! Zuul's contract with jobs: the `ZUUL_*` parameters, `LOG_PATH`, and the addresses in reports.

use super::Gate;
use super::change::Subject;
use super::config::{JobDef, NOOP, Places};
use super::ids::{JobName, Patchset, Uuid};
use super::io::{BuildResult, ToMerge};
use super::item::{Build, Item, MergeState};
use super::snapshot::Snapshot;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The changes in an item's tree as its builds are told of them.
pub(super) struct Ancestry {
    /// Those ahead first, its own last.
    pub(super) changes: Vec<Patchset>,
    listed: String,
    ids: String,
}

impl Ancestry {
    pub(super) fn of(held: &Snapshot, item: &Item) -> Self {
        let tree = held.tree_of(item);
        let (mut listed, mut ids) = (String::new(), String::new());
        for (index, own) in tree.iter().enumerate() {
            let (bar, space) = if index == 0 { ("", "") } else { ("^", " ") };
            let ToMerge { project, branch, fetch_ref, patchset, .. } = &own.merge;
            let _ = write!(listed, "{bar}{project}:{branch}:{fetch_ref}");
            let _ = write!(ids, "{space}{patchset}");
        }
        Self { changes: tree.into_iter().map(|own| own.merge.patchset.clone()).collect(), listed, ids }
    }
}

impl Gate {
    /// The parameters of a build (reference §3.1); every value is text.
    pub(super) fn params(
        &self,
        item: &Item,
        job: &JobDef,
        uuid: Uuid,
        ancestry: &Ancestry,
    ) -> BTreeMap<String, String> {
        let mut params = BTreeMap::new();
        let mut set = |name: &str, value: String| drop(params.insert(name.to_owned(), value));
        set("ZUUL_UUID", uuid.to_string());
        set("ZUUL_PROJECT", item.project.to_string());
        set("ZUUL_PIPELINE", item.pipeline.to_string());
        set("ZUUL_URL", self.held.config.places.git_url.clone());
        set("ZUUL_VOTING", if job.voting { "1" } else { "0" }.to_owned());
        match &item.subject {
            Subject::Change(patchset) => {
                set("ZUUL_BRANCH", item.branch.to_string());
                set("ZUUL_CHANGES", ancestry.listed.clone());
                set("ZUUL_CHANGE_IDS", ancestry.ids.clone());
                set("ZUUL_CHANGE", patchset.change.number.to_string());
                set("ZUUL_PATCHSET", patchset.patchset.to_string());
                set("ZUUL_REF", zuul_ref(item));
                if let MergeState::Done(merged) = &item.buildset.state
                    && let Some(own) = merged.moved.last()
                {
                    set("ZUUL_COMMIT", own.tip.commit.to_string());
                }
            }
            Subject::Ref(update) => {
                set("ZUUL_REF", update.name.to_string());
                set("ZUUL_REFNAME", update.name.to_string());
                set("ZUUL_OLDREV", update.old.to_string());
                set("ZUUL_NEWREV", update.new.to_string());
                set("ZUUL_SHORT_OLDREV", update.old.as_str().chars().take(7).collect());
                set("ZUUL_SHORT_NEWREV", update.new.as_str().chars().take(7).collect());
                set("ZUUL_COMMIT", update.new.to_string());
            }
            Subject::Timer { .. } => {}
        }
        set("BASE_LOG_PATH", base_log_path(&item.subject));
        set("LOG_PATH", log_path(item, job.name.as_str(), uuid));
        params
    }

    /// Where a report sends its readers: the job's own pattern, the general one, the logs, or just the job's name.
    pub(super) fn report_url(
        &self,
        item: &Item,
        job: &JobDef,
        build: Option<&Build>,
        pattern: Option<&str>,
    ) -> String {
        let places = &self.held.config.places;
        let Some(build) = build else { return job.name.to_string() };
        let fields = |field: &str| self.field(item, job, build, field);
        let pattern = pattern.or(places.url_pattern.as_deref());
        if let Some(url) = pattern.and_then(|pattern| fill(pattern, fields)) {
            return url;
        }
        places.logs(item, &job.name, build).unwrap_or_else(|| job.name.to_string())
    }

    fn field(&self, item: &Item, job: &JobDef, build: &Build, field: &str) -> Option<String> {
        if let Some(name) = field.strip_prefix("build.parameters[") {
            let ancestry = Ancestry::of(&self.held, item);
            return self.params(item, job, build.uuid, &ancestry).remove(name.strip_suffix(']')?);
        }
        let patchset = match &item.subject {
            Subject::Change(patchset) => Some(patchset),
            _ => None,
        };
        match field {
            "change.number" => Some(patchset?.change.number.to_string()),
            "change.patchset" => Some(patchset?.patchset.to_string()),
            "change.project" => Some(item.project.to_string()),
            "change.branch" => Some(item.branch.to_string()),
            "change.url" => item.changes.last()?.url.clone(),
            "pipeline.name" => Some(item.pipeline.to_string()),
            "job.name" => Some(job.name.to_string()),
            "build.uuid" => Some(build.uuid.to_string()),
            "build.result" => Some(build.result.as_ref()?.word.clone()),
            _ => None,
        }
    }
}

/// `refs/zuul/BRANCH/Z…`: where the item's state is in each of its repositories.
pub(super) fn zuul_ref(item: &Item) -> String {
    format!("refs/zuul/{}/Z{}", item.branch, item.buildset.identity)
}

fn base_log_path(subject: &Subject) -> String {
    match subject {
        Subject::Change(patchset) => {
            let number = patchset.change.number.to_string();
            let tail = number.get(number.len().saturating_sub(2)..).unwrap_or(&number);
            format!("{tail}/{number}/{}", patchset.patchset)
        }
        Subject::Ref(update) => {
            let new = update.new.as_str();
            format!("{}/{new}", new.get(..2).unwrap_or(new))
        }
        Subject::Timer { .. } => String::new(),
    }
}

impl Places {
    /// The address of a build's logs; none without a place for logs, and of what ends without anybody who runs it.
    pub fn logs(&self, item: &Item, job: &JobName, build: &Build) -> Option<String> {
        let logs = self.logs_url.as_deref()?;
        let path = build_logs(item, job, build)?;
        Some(format!("{}/{path}/", logs.trim_end_matches('/')))
    }
}

/// Where a build's logs are, if it has any: nobody runs `noop`, nor a job of which nothing says what it does.
pub fn build_logs(item: &Item, job: &JobName, build: &Build) -> Option<String> {
    let nobody_ran = build.result.as_ref().is_some_and(BuildResult::is_not_registered);
    (job.as_str() != NOOP && !nobody_ran).then(|| log_path(item, job.as_str(), build.uuid))
}

/// Where a build's logs are, known before it starts.
pub fn log_path(item: &Item, job: &str, uuid: Uuid) -> String {
    let base = base_log_path(&item.subject);
    let own = format!("{}/{job}/{}", item.pipeline, uuid.short());
    if base.is_empty() { own } else { format!("{base}/{own}") }
}

/// `pattern` with its `{fields}` filled in; `{{` and `}}` are braces. None if a field is unknown.
fn fill(pattern: &str, field: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut text = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        let (plain, from) = rest.split_at(at);
        text.push_str(plain);
        if from.starts_with("{{") || from.starts_with("}}") {
            text.push_str(&from[..1]);
            rest = &from[2..];
            continue;
        }
        let end = from.find('}').filter(|_| from.starts_with('{'))?;
        text.push_str(&field(&from[1..end])?);
        rest = &from[end + 1..];
    }
    text.push_str(rest);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let field = |name: &str| (name == "job.name").then(|| "pep8".to_owned());
        for (pattern, expected) in [
            ("http://x/{job.name}/", Some("http://x/pep8/")),
            ("{{{job.name}}}", Some("{pep8}")),
            ("{unknown}", None),
            ("{job.name", None),
            ("}", None),
            ("plain", Some("plain")),
        ] {
            assert_eq!(fill(pattern, field).as_deref(), expected, "{pattern}");
        }
    }
}
