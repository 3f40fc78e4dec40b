//! A job as openQA tells it.

use super::at;
use crate::app::App;
use crate::catalog::Catalog;
use crate::record::{Module, Run, step_subject};
use assay_engine::ids::JobId;
use assay_engine::job::JobState;
use assay_engine::product::kind_of;
use assay_engine::relations::{Parent, Relation};
use assay_engine::settings::{COVERED, is_secret_name};
use assay_proto::worker::Stream;
use assay_records::step::{ModuleFlags, ModuleResult, Step, StepBody, StepResult};
use assay_store::{StoreError, StoredAttempt, StoredJob};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What several jobs need to be told.
pub(super) struct Relatives {
    catalog: Arc<Catalog>,
    children: BTreeMap<JobId, Vec<Parent>>,
    /// Parents that have passed.
    ok: BTreeSet<JobId>,
    /// Secrets are told too.
    pub(super) unredacted: bool,
}

impl Relatives {
    pub(super) async fn of(app: &App, jobs: &[StoredJob]) -> Result<Self, StoreError> {
        let ids: Vec<_> = jobs.iter().map(|job| job.row.id).collect();
        let mut children: BTreeMap<JobId, Vec<Parent>> = BTreeMap::new();
        for (child, parent) in app.store.children(&ids).await? {
            let as_child = Parent { relation: parent.relation, job: child };
            children.entry(parent.job).or_default().push(as_child);
        }
        let parents: BTreeSet<_> = jobs.iter().flat_map(|job| &job.row.parents).map(|one| one.job).collect();
        let mut ok = BTreeSet::new();
        if !parents.is_empty() {
            let limit = parents.len() as u32;
            let ids = parents.into_iter().collect();
            let filter = assay_store::JobFilter { ids, limit, ..assay_store::JobFilter::default() };
            let passed = |job: &assay_store::JobSummary| {
                job.outcome.is_some_and(assay_engine::outcome::Outcome::is_ok)
            };
            ok.extend(app.store.summaries(&filter).await?.iter().filter(|job| passed(job)).map(|job| job.id));
        }
        Ok(Self { catalog: app.library.now(), children, ok, unredacted: false })
    }

    /// Where the names of groups are from.
    pub(super) fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// A job without what it did.
    pub(super) fn job(&self, job: &StoredJob) -> Value {
        let row = &job.row;
        let setting = |key: &str| row.settings.get(key);
        let group = row.group.and_then(|id| self.catalog.groups.get(&id.0));
        let parent_group = group.and_then(|group| self.catalog.parents.get(&group.parent?));
        let mut told = json!({
            "id": row.id.0,
            "name": row.name,
            "test": setting("TEST"),
            "priority": row.priority,
            "state": row.state.openqa_state(),
            "result": row.state.openqa_result(),
            "reason": crate::present::reason_of(job),
            "clone_id": row.cloned_as.map(|id| id.0),
            "group_id": row.group.map(|id| id.0),
            "blocked_by_id": row.blocked_by().map(|id| id.0),
            "t_created": at(row.created_at),
            "t_started": row.started_at.map(at),
            "t_finished": row.finished_at().map(at),
            "settings": self.settings(job),
            "assets": assets(job),
            "parents": by_relation(&row.parents),
            "children": by_relation(self.children.get(&row.id).map_or(&[][..], Vec::as_slice)),
            "has_parents": i64::from(!row.parents.is_empty()),
            "parents_ok": i64::from(row.parents.iter().all(|parent| self.ok.contains(&parent.job))),
        });
        if let Some(origin) = row.clone_of {
            told["origin_id"] = json!(origin.0);
        }
        if let Some(run) = row.run {
            told["scheduled_product_id"] = json!(run.0);
        }
        if let Some(group) = group {
            told["group"] = json!(group.name);
        }
        if let Some(parent) = parent_group {
            told["parent_group"] = json!(parent.name);
            told["parent_group_id"] = json!(parent.id);
        }
        told
    }

    fn settings(&self, job: &StoredJob) -> Value {
        let mut told = Map::new();
        for (key, setting) in job.row.settings.iter() {
            let covered = is_secret_name(key) && !self.unredacted;
            told.insert(key.to_owned(), json!(if covered { COVERED } else { &setting.value }));
        }
        told.insert("NAME".to_owned(), json!(format!("{:08}-{}", job.row.id.0, job.row.name)));
        Value::Object(told)
    }
}

/// The files that a job reads, by kind.
pub(super) fn assets(job: &StoredJob) -> BTreeMap<&'static str, Vec<&str>> {
    let mut told: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for (key, setting) in job.row.settings.iter() {
        if let Some(kind) = kind_of(key, &setting.value)
            && !setting.value.is_empty()
        {
            let names = told.entry(kind.word()).or_default();
            if !names.contains(&setting.value.as_str()) {
                names.push(&setting.value);
            }
        }
    }
    told
}

fn by_relation(relatives: &[Parent]) -> Value {
    let of = |relation: Relation| {
        let mut ids: Vec<_> =
            relatives.iter().filter(|one| one.relation == relation).map(|one| one.job.0).collect();
        ids.sort_unstable();
        ids
    };
    Relation::ALL
        .into_iter()
        .map(|relation| (relation.openqa().to_owned(), json!(of(relation))))
        .collect::<Map<_, _>>()
        .into()
}

/// What the job's last attempt did, as far as it is known.
pub(super) async fn run_of(app: &App, attempt: &StoredAttempt) -> Result<Run, StoreError> {
    let bytes = app.read_stream(attempt, Stream::Steps, 0, crate::api::MAX_STEPS).await?;
    let run = Run::parse(&bytes);
    Ok(if attempt.row.end.is_some() { run.ended() } else { run })
}

/// The modules of the job's last attempt, and whether they stay as they are until rows of the job change.
pub(super) async fn modules_of(app: &App, job: &StoredJob) -> Result<(Vec<Value>, bool), StoreError> {
    if matches!(job.row.state, JobState::Scheduled { attempt: 1, .. }) {
        return Ok((Vec::new(), true));
    }
    let attempts = app.store.attempts(job.row.id).await?;
    let Some(attempt) = attempts.last() else { return Ok((Vec::new(), true)) };
    let run = run_of(app, attempt).await?;
    let settled = attempt.row.end.is_some() && attempt.streams.is_some();
    Ok((run.modules.iter().map(module).collect(), settled))
}

/// The words that a module's result may be.
pub(crate) const MODULE_RESULTS: [&str; 7] =
    ["none", "running", "passed", "softfailed", "failed", "skipped", "cancelled"];

/// The folder of the module's file.
fn category(file: &str) -> &str {
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    folder.rsplit('/').next().unwrap_or_default()
}

fn flags(flags: ModuleFlags) -> Vec<&'static str> {
    let all =
        [("fatal", flags.fatal), ("ignore_failure", flags.ignore_failure), ("always_run", flags.always_run)];
    all.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
}

fn result(result: ModuleResult) -> &'static str {
    match result {
        ModuleResult::None => "none",
        ModuleResult::Running => "running",
        ModuleResult::Passed => "passed",
        ModuleResult::Softfailed => "softfailed",
        ModuleResult::Failed => "failed",
        ModuleResult::Skipped => "skipped",
        ModuleResult::Cancelled => "cancelled",
    }
}

/// A module in a few words.
pub(super) fn module(module: &Module) -> Value {
    json!({
        "name": module.plan.name,
        "category": category(&module.plan.file),
        "flags": flags(module.plan.flags),
        "result": result(module.result),
    })
}

/// Where the picture of that content is: three, three, and the rest of its hash.
pub(super) fn picture_path(sha256: &str) -> Option<(String, String)> {
    let (first, rest) = sha256.split_at_checked(3)?;
    let (second, rest) = rest.split_at_checked(3)?;
    Some((format!("{first}/{second}"), format!("{rest}.png")))
}

/// The name of the text of a step, as in openQA's results.
pub(super) fn text_name(step: &Step) -> String {
    format!("{}-{}.txt", step.module, step.number)
}

/// The text of a step that has one.
pub(super) fn text_of(step: &Step) -> Option<String> {
    match &step.body {
        StepBody::Text { output, .. } => Some(output.clone()),
        StepBody::Serial { patterns, found, .. } => {
            let found = found.as_deref().unwrap_or("nothing");
            Some(format!("# wait_serial expected: {}\n\n# Result:\n{found}\n", patterns.join(" or ")))
        }
        StepBody::Look { .. } | StepBody::Screenshot => None,
    }
}

fn detail(step: &Step) -> Value {
    let result = match step.result {
        StepResult::Ok => "ok",
        StepResult::Unknown => "unk",
        StepResult::Softfail => "softfail",
        StepResult::Fail => "fail",
    };
    let mut told = json!({"num": step.number, "title": step_subject(step), "result": result});
    if let Some(picture) = &step.screenshot
        && let Some((folder, name)) = picture_path(&picture.sha256)
    {
        let (first, second) = folder.split_once('/').unwrap_or_default();
        told["md5_1"] = json!(first);
        told["md5_2"] = json!(second);
        told["md5_dirname"] = json!(folder);
        told["md5_basename"] = json!(name);
        told["screenshot"] = json!(format!("{}-{}.png", step.module, step.number));
    }
    if let Some(text) = text_of(step) {
        told["text"] = json!(text_name(step));
        told["text_data"] = json!(text);
    }
    if let StepBody::Look { tags, matched, candidates, .. } = &step.body {
        told["tags"] = json!(tags);
        if let Some(matched) = matched {
            told["needle"] = json!(matched.name);
        }
        let hit = |hit: &assay_records::step::NeedleHit| json!({"name": hit.name, "error": hit.error, "area": hit.areas});
        told["needles"] = candidates.iter().map(hit).collect();
    }
    told
}

/// A module with its steps.
pub(super) fn details(one: &Module) -> Value {
    let mut told = module(one);
    told["details"] = one.steps.iter().map(detail).collect();
    told["execution_time"] = json!(one.duration_us.map(|us| us / 1_000_000));
    told["has_parser_text_result"] = json!(0);
    told
}
