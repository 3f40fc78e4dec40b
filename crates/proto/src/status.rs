//! The document of `/status.json`: Zuul 2's, field by field, so that dashboards made for it work.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The whole document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Who answers.
    pub zuul_version: String,
    /// HTML that dashboards show above everything; left out while there is nothing to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Events that nothing has been decided about.
    pub trigger_event_queue: Length,
    /// Results that nothing has been decided about.
    pub result_event_queue: Length,
    /// When the configuration in force was put into force, milliseconds.
    pub last_reconfigured: i64,
    /// In the order of the configuration.
    pub pipelines: Vec<Pipeline>,
}

/// How long a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Length {
    /// Entries.
    pub length: usize,
}

/// A pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    /// Its name.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// Its queues.
    pub change_queues: Vec<Queue>,
}

/// A change queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// How many items are tested at once; 0 for all.
    pub window: u32,
    /// Its items, cut before each that stands on no other.
    pub heads: Vec<Vec<Item>>,
}

/// An item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// It is tested now.
    pub active: bool,
    /// It is there for its own sake, and not only below another.
    pub live: bool,
    /// Where people see the change.
    pub url: Option<String>,
    /// `N,PS`, a commit, or null.
    pub id: Option<String>,
    /// The item that it is tested on.
    pub item_ahead: Option<String>,
    /// The items that are tested on it.
    pub items_behind: Vec<Option<String>>,
    /// Why it fails.
    pub failing_reasons: Vec<String>,
    /// `Z` and the identity of its speculative state.
    pub zuul_ref: Option<String>,
    /// Its project.
    pub project: String,
    /// When it was let in, milliseconds.
    pub enqueue_time: i64,
    /// Who owns the change.
    pub owner: Option<Owner>,
    /// Milliseconds that it will still take; null until all of its jobs have begun.
    pub remaining_time: Option<i64>,
    /// Its jobs.
    pub jobs: Vec<Job>,
}

/// The owner of a change, as Gerrit names people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Full name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
}

/// A job of an item. Times with names in `_time` are seconds since 1970, lengths are milliseconds, except
/// `estimated_time`, which is a length in seconds: that is how Zuul has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// Milliseconds that it has run.
    pub elapsed_time: Option<i64>,
    /// Milliseconds that it will still run.
    pub remaining_time: Option<i64>,
    /// The page of the running build.
    pub url: Option<String>,
    /// What reports say.
    pub report_url: Option<String>,
    /// Null until it has ended.
    pub result: Option<String>,
    /// Its failure fails the item.
    pub voting: bool,
    /// The build.
    pub uuid: Option<String>,
    /// When it was asked for.
    pub launch_time: Option<f64>,
    /// When a worker began.
    pub start_time: Option<f64>,
    /// When it ended.
    pub end_time: Option<f64>,
    /// What it usually takes, seconds.
    pub estimated_time: Option<f64>,
    /// The pipeline.
    pub pipeline: Option<String>,
    /// Nobody wants its result.
    pub canceled: Option<bool>,
    /// It will be run once more.
    pub retry: Option<bool>,
    /// The job that it is; in Zuul the number of Jenkins's build.
    pub number: Option<i64>,
    /// What the worker offers.
    pub node_labels: Vec<String>,
    /// The worker's machine.
    pub node_name: Option<String>,
    /// The worker.
    pub worker: Option<Worker>,
}

/// A worker, as far as it is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its name.
    pub name: Option<String>,
    /// Its machine.
    pub hostname: Option<String>,
    /// Its addresses.
    pub ips: Option<Vec<String>>,
    /// Its full name.
    pub fqdn: Option<String>,
    /// What it runs.
    pub program: Option<String>,
    /// Of which version.
    pub version: Option<String>,
    /// Anything else.
    pub extra: Option<Value>,
}
