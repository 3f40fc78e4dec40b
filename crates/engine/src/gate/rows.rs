//! What is stored of the gate: facts and decisions. A gate made of these rows is the gate that wrote them.

use super::change::ChangeFacts;
use super::config::Config;
use super::ids::{ChangeId, JobName, PipelineName, ProjectName, QueueName};
use super::io::Report;
use super::item::Item;
use super::reason::HoldReason;
use crate::ids::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A row to store in place of the one with the same key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "row", content = "body", rename_all = "snake_case")]
pub enum GateRow {
    /// An item; stays for history when it has ended.
    Item(Arc<Item>),
    /// A queue with a memory.
    Queue(QueueRow),
    /// A pipeline's record of failures.
    Pipeline(PipelineRow),
    /// A change that an item knows of.
    Change(Arc<ChangeFacts>),
    /// The change need not be known any more.
    ForgetChange(ChangeId),
    /// A report; delivered by the outbox.
    Report(Box<Report>),
    /// How long a job takes.
    Durations(DurationsRow),
    /// A result that may stand for another run.
    Evidence(EvidenceRow),
    /// A request to keep workspaces.
    Autohold(AutoholdRow),
    /// The configuration in force.
    Config(Arc<Config>),
}

/// The window and hold of a queue. One that equals its pipeline's default is stored all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueRow {
    /// The pipeline.
    pub pipeline: PipelineName,
    /// The queue.
    pub queue: QueueName,
    /// The window; 0 for no limit.
    pub window: u32,
    /// Why it lands nothing, and since when.
    pub hold: Option<(HoldReason, Timestamp)>,
    /// The holds below that one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub below: Vec<(HoldReason, Timestamp)>,
}

/// A pipeline's failures in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineRow {
    /// The pipeline.
    pub pipeline: PipelineName,
    /// How many.
    pub failures: u32,
    /// It reports to its `disabled` reporters only.
    pub disabled: bool,
}

/// The latest durations of a job's successes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DurationsRow {
    /// The job.
    pub job: JobName,
    /// Microseconds, the oldest first; at most [`super::history::KEPT`].
    pub latest_us: Vec<i64>,
}

/// A result on certain trees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceRow {
    /// SHA-256 over job definition and trees.
    pub key: String,
    /// The build that gave it.
    pub build: super::item::Build,
    /// How often it has stood for another run.
    pub used: u32,
}

/// A request to keep the workspaces of failed builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoholdRow {
    /// Its number.
    pub id: i64,
    /// The project.
    pub project: ProjectName,
    /// The job.
    pub job: JobName,
    /// Of this change only.
    pub change: Option<ChangeId>,
    /// How many are still to be kept; 0 and it is over.
    pub left: u32,
    /// For people.
    pub reason: String,
    /// Who wants it.
    pub by: String,
}

/// Everything that a gate is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GateRows {
    /// The configuration in force.
    pub config: Option<Arc<Config>>,
    /// Items that have not ended.
    pub items: Vec<Arc<Item>>,
    /// The highest number that an item ever had.
    pub last_item: i64,
    /// All queues.
    pub queues: Vec<QueueRow>,
    /// All pipelines.
    pub pipelines: Vec<PipelineRow>,
    /// All changes that have not been forgotten.
    pub changes: Vec<Arc<ChangeFacts>>,
    /// All durations.
    pub durations: Vec<DurationsRow>,
    /// The latest evidence.
    pub evidence: Vec<EvidenceRow>,
    /// Autoholds with something left.
    pub autoholds: Vec<AutoholdRow>,
    /// The highest number that an autohold ever had.
    pub last_autohold: i64,
}

/// The key of a row within its kind: what it replaces.
impl GateRow {
    /// Kind and key.
    pub fn key(&self) -> (&'static str, String) {
        match self {
            Self::Item(item) => ("item", item.id.to_string()),
            Self::Queue(row) => ("queue", format!("{}\u{1f}{}", row.pipeline, row.queue)),
            Self::Pipeline(row) => ("pipeline", row.pipeline.to_string()),
            Self::Change(facts) => ("change", change_key(&facts.id)),
            Self::ForgetChange(id) => ("change", change_key(id)),
            Self::Report(report) => ("report", format!("{}.{}", report.id.0, report.id.1)),
            Self::Durations(row) => ("durations", row.job.to_string()),
            Self::Evidence(row) => ("evidence", row.key.clone()),
            Self::Autohold(row) => ("autohold", row.id.to_string()),
            Self::Config(_) => ("config", "in force".to_owned()),
        }
    }
}

fn change_key(id: &ChangeId) -> String {
    format!("{}\u{1f}{}", id.source, id.number)
}
