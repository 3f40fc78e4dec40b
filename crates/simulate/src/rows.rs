//! A database of gate rows.

use assay_engine::gate::ids::{ChangeId, ItemId, JobName, PipelineName, QueueName};
use assay_engine::gate::io::Report;
use assay_engine::gate::item::Item;
use assay_engine::gate::rows::{
    AutoholdRow, DurationsRow, EvidenceRow, GateRow, GateRows, PipelineRow, QueueRow,
};
use assay_engine::gate::{change::ChangeFacts, config::Config};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All rows. What has ended is kept apart.
#[derive(Debug, Default)]
pub struct Database {
    /// The configuration in force.
    pub config: Option<Arc<Config>>,
    /// Items that have not ended.
    pub items: BTreeMap<ItemId, Arc<Item>>,
    /// Items that have.
    pub ended: BTreeMap<ItemId, Arc<Item>>,
    last_item: i64,
    queues: BTreeMap<(PipelineName, QueueName), QueueRow>,
    pipelines: BTreeMap<PipelineName, PipelineRow>,
    changes: BTreeMap<ChangeId, Arc<ChangeFacts>>,
    durations: BTreeMap<JobName, DurationsRow>,
    evidence: BTreeMap<String, EvidenceRow>,
    autoholds: BTreeMap<i64, AutoholdRow>,
    last_autohold: i64,
    /// Reports, and whether each has been delivered.
    pub reports: BTreeMap<(ItemId, u32), (Box<Report>, bool)>,
}

impl Database {
    /// Stores a row in place of the one with its key.
    pub fn save(&mut self, row: GateRow) {
        match row {
            GateRow::Item(item) => {
                self.last_item = self.last_item.max(item.id.0);
                if item.is_live() {
                    self.items.insert(item.id, item);
                } else {
                    self.items.remove(&item.id);
                    self.ended.insert(item.id, item);
                }
            }
            GateRow::Queue(row) => {
                self.queues.insert((row.pipeline.clone(), row.queue.clone()), row);
            }
            GateRow::Pipeline(row) => {
                self.pipelines.insert(row.pipeline.clone(), row);
            }
            GateRow::Change(facts) => {
                self.changes.insert(facts.id.clone(), facts);
            }
            GateRow::ForgetChange(id) => {
                self.changes.remove(&id);
            }
            GateRow::Report(report) => {
                self.reports.entry(report.id).or_insert((report, false));
            }
            GateRow::Durations(row) => {
                self.durations.insert(row.job.clone(), row);
            }
            GateRow::Evidence(row) => {
                self.evidence.insert(row.key.clone(), row);
            }
            GateRow::Autohold(row) => {
                self.last_autohold = self.last_autohold.max(row.id);
                if row.left == 0 {
                    self.autoholds.remove(&row.id);
                } else {
                    self.autoholds.insert(row.id, row);
                }
            }
            GateRow::Config(config) => self.config = Some(config),
        }
    }

    /// What a gate is rebuilt from.
    pub fn rows(&self) -> GateRows {
        GateRows {
            config: self.config.clone(),
            items: self.items.values().cloned().collect(),
            last_item: self.last_item,
            queues: self.queues.values().cloned().collect(),
            pipelines: self.pipelines.values().cloned().collect(),
            changes: self.changes.values().cloned().collect(),
            durations: self.durations.values().cloned().collect(),
            evidence: self.evidence.values().cloned().collect(),
            autoholds: self.autoholds.values().cloned().collect(),
            last_autohold: self.last_autohold,
        }
    }

    /// An item, ended or not.
    pub fn item(&self, id: ItemId) -> Option<&Arc<Item>> {
        self.items.get(&id).or_else(|| self.ended.get(&id))
    }
}

/// The first kind of row in which two sets differ, for people; nothing if they are equal.
pub fn difference(stored: &GateRows, live: &GateRows) -> Option<String> {
    let mut found = None;
    let mut compare = |what: &str, left: String, right: String| {
        if found.is_none() && left != right {
            let at = left.bytes().zip(right.bytes()).take_while(|(a, b)| a == b).count();
            let excerpt =
                |text: &str| text.chars().skip(at.saturating_sub(200)).take(400).collect::<String>();
            found = Some(format!("{what}: rebuilt …{}… live …{}…", excerpt(&left), excerpt(&right)));
        }
    };
    if stored == live {
        return None;
    }
    compare("config", format!("{:?}", stored.config), format!("{:?}", live.config));
    compare("items", format!("{:?}", stored.items), format!("{:?}", live.items));
    compare("last item", stored.last_item.to_string(), live.last_item.to_string());
    compare("queues", format!("{:?}", stored.queues), format!("{:?}", live.queues));
    compare("pipelines", format!("{:?}", stored.pipelines), format!("{:?}", live.pipelines));
    compare("changes", format!("{:?}", stored.changes), format!("{:?}", live.changes));
    compare("durations", format!("{:?}", stored.durations), format!("{:?}", live.durations));
    compare("evidence", format!("{:?}", stored.evidence), format!("{:?}", live.evidence));
    compare("autoholds", format!("{:?}", stored.autoholds), format!("{:?}", live.autoholds));
    compare("last autohold", stored.last_autohold.to_string(), live.last_autohold.to_string());
    found
}
