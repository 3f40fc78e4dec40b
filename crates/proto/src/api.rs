//! Assay's own API, `/api/assay/v1`: the objects that cross it. Times are RFC 3339 texts in UTC.
//!
//! | request | answer |
//! |---|---|
//! | `POST jobs` ([`PostJob`] or a list of them; operator) | `201` [`PostedJobs`]; all or nothing |
//! | `GET jobs?state=&result=&q=&limit=&before=` | [`JobList`], newest first |
//! | `GET jobs/{id}` | [`Job`] |
//! | `GET jobs/{id}/wait?timeout=SECONDS` | [`Job`], as soon as it is final or the time is over |
//! | `PATCH jobs/{id}` ([`ChangeJob`]; operator) | [`Job`] |
//! | `POST jobs/{id}/cancel` ([`CancelJob`], may be empty; operator) | [`Job`] |
//! | `POST jobs/cancel` ([`CancelJobs`]; operator) | [`JobsCancelled`] |
//! | `GET jobs/{id}/restart` | [`restart::Restart`]: what a restart would do |
//! | `POST jobs/{id}/restart?plan=1` (`engine::sched::restart::RestartOptions`, may be empty; operator), `POST jobs/restart?plan=1` ([`restart::RestartJobs`]; operator) | [`restart::Restart`]; without `plan` it is done |
//! | `POST jobs/{id}/priority` ([`restart::SetPriority`]; operator) | [`Job`] |
//! | `GET jobs/{id}/steps?attempt=N` | a list of `records::step::Record` |
//! | `GET jobs/{id}/streams/{file}?attempt=N&follow=1` | the bytes; `Range` is understood; `follow` goes on until the attempt ends |
//! | `GET blobs/{sha256}` | the bytes |
//! | `GET workers` | [`WorkerList`] |
//! | `POST workers/{name}/drain` ([`DrainWorker`]; operator) | [`WorkerList`] with this one |
//! | `DELETE workers/{name}` (operator) | the name; only one that is not connected and has nothing |
//! | `GET X/{id}/comments`, `POST X/{id}/comments` ([`NewComment`]; whoever is known), `X` being `jobs`, `groups` or `parent-groups` | [`CommentList`]; `201` [`Comment`] |
//! | `GET X/{id}/comments/{comment}`, `PUT` ([`NewComment`]; its author), `DELETE` (admin) | [`Comment`]; [`Deleted`] |
//! | `POST jobs/{id}/result` ([`SetResult`]; operator) | [`Job`] |
//! | `DELETE jobs/{id}` (operator) | [`Deleted`]; only one that has ended |
//! | `GET jobs/{id}/history`, `GET overview` | [`overview`] |
//! | `groups…`, `parent-groups…` | [`groups`] |
//! | `bugs…` | [`bugs`] |
//! | `GET openapi.json` | this, for programs |
//! | `GET events?job=ID&since=COUNT` | server-sent events, each an [`Event`]; with `job` only what concerns it. After `COUNT` events of this server [`Event::Missed`] is the first one if there were such since; not for who comes back with `Last-Event-ID` |
//! | `GET gate?pipeline=NAME` | [`gate::GateStatus`] |
//! | `GET changes/{source}/{number}`, `GET changes/{number}` | [`gate::ChangeHistory`] |
//! | `GET changes/…/why` | [`gate::ChangeWhy`] |
//! | `POST gate/enqueue` ([`gate::Enqueue`]), `enqueue-ref` ([`gate::EnqueueRef`]), `dequeue` ([`gate::Dequeue`]), `promote` ([`gate::Promote`]), `hold`, `release` ([`gate::HoldQueue`]), `end-landing` ([`gate::Dequeue`]), `acknowledge` ([`gate::Acknowledge`]); admin, of the first four also operators | [`gate::Done`] |
//! | `POST gate/reload` (admin) | [`gate::ConfigReload`] |
//! | `GET gate/autoholds`, `POST gate/autoholds` ([`gate::NewAutohold`]; admin), `DELETE gate/autoholds/{id}` (admin) | [`gate::AutoholdList`], [`gate::Autohold`], [`gate::Done`] |
//! | `GET receipts/{item}/{commit}` | the signed envelope |
//! | `GET receipts/key` | [`gate::ReceiptKey`] |
//! | `GET users` (admin) | [`people::UserList`] |
//! | `POST users/{name}` ([`people::ChangeUser`]; admin), `DELETE users/{name}` (admin) | the name |
//! | `POST keys` ([`people::NewKey`]; admin) | `201` [`people::MadeKey`]: the only answer with the secret |
//! | `DELETE keys/{key}` (admin) | the key |
//! | `GET keys/mine`, `POST keys/mine` ([`people::NewOwnKey`], may be empty), `DELETE keys/mine/{key}`; whoever is known | [`people::OwnKeys`]; `201` [`people::MadeKey`]; the key |
//! | `GET templates`, `POST templates` ([`templates::LoadTemplates`]; admin) | text as `openqa-load-templates` takes it; [`templates::LoadedTemplates`] |
//! | `POST products` ([`products::PostProduct`]; operator) | `201` [`products::ProductPosted`]; all or nothing |
//! | `POST products/plan` ([`products::PostProduct`]; operator) | an `engine::product::Plan`; nothing is stored |
//! | `GET products?distri=&version=&flavor=&arch=&build=&before=&limit=`, `GET products/{id}` | [`products::ProductRuns`], [`products::ProductRun`] |
//! | `GET products/{id}/jobs` | [`products::ProductJobs`] |
//! | `POST products/{id}/cancel` (operator), `PUT products/{id}/note` ([`products::ProductNote`]; operator) | [`products::ProductCancelled`]; [`products::ProductRun`] |
//! | `assets…` | [`assets`] |
//! | `releases…` | [`releases`] |
//! | `inbox…`, `sources`, `rules…`, `schedule…`, `hooks/{name}` | [`events`] |
//!
//! Every error is an [`ApiError`] with a fitting status. Names of streams are those of
//! [`Stream::file_name`](crate::worker::Stream::file_name).

pub mod assets;
pub mod bugs;
pub mod events;
pub mod gate;
pub mod groups;
pub mod knowledge;
pub mod outbox;
pub mod overview;
pub mod people;
pub mod products;
pub mod releases;
pub mod restart;
pub mod templates;

use crate::worker::Room;
use assay_engine::ids::JobId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The text of these modules: what the server's description of this API is made of.
pub const SOURCES: [&str; 14] = [
    include_str!("api.rs"),
    include_str!("api/assets.rs"),
    include_str!("api/bugs.rs"),
    include_str!("api/events.rs"),
    include_str!("api/gate.rs"),
    include_str!("api/groups.rs"),
    include_str!("api/knowledge.rs"),
    include_str!("api/outbox.rs"),
    include_str!("api/overview.rs"),
    include_str!("api/people.rs"),
    include_str!("api/products.rs"),
    include_str!("api/releases.rs"),
    include_str!("api/restart.rs"),
    include_str!("api/templates.rs"),
];

/// A job to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct PostJob {
    /// openQA's variables, for example `TEST`, `ISO`, `WORKER_CLASS`.
    pub settings: BTreeMap<String, String>,
    /// Lower is earlier; if not given, that of its group, else 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// The job group that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<NumberOrName>,
    /// Whether the product, the machine and the suite that the settings name add theirs, as for posts of products; else
    /// the settings count as they are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub use_catalog: bool,
    /// It starts when these have passed: numbers of jobs, or `#1` for the first job of this request, and so on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<NumberOrName>,
    /// It starts when this one has passed, on the same slot, with nothing between.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directly_after: Vec<NumberOrName>,
    /// It starts together with these, which are its parents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parallel: Vec<NumberOrName>,
}

/// Something by its number, or by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number or a name")]
pub enum NumberOrName {
    /// As it is told by this API.
    Number(i64),
    /// As people call it; digits count as a number where nothing has that name.
    Name(String),
}

/// Answer to `POST jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostedJobs {
    /// In the order in which they were posted.
    pub jobs: Vec<PostedJob>,
}

/// A job that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostedJob {
    /// Its number.
    pub id: JobId,
    /// Its page, as a path on this server.
    pub url: String,
}

/// Why a job is cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct CancelJob {
    /// Who cancels it, for the reason on the page; `an administrator` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Which jobs are cancelled: the open ones that all of this fits. Something has to be said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct CancelJobs {
    /// Settings that they have, for example `TEST`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// Their build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// Their job group; 0 for those that have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<NumberOrName>,
}

/// Answer to `POST jobs/cancel`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobsCancelled {
    /// How many jobs had not ended.
    pub cancelled: usize,
}

/// What is to be different about a job; what is not named stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeJob {
    /// Its job group; null takes it out of the one that it is in.
    pub group: Option<NumberOrName>,
    /// Lower is earlier.
    #[serde(default)]
    pub priority: i32,
}

/// The result that somebody gives a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetResult {
    /// openQA's word, for example `softfailed`.
    pub result: String,
    /// Why, for the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What is not there any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// The number that it had.
    pub id: i64,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// `DISTRI-VERSION-FLAVOR-ARCH-BuildBUILD-TEST@MACHINE`, as far as these settings are given.
    pub name: String,
    /// openQA's word: `scheduled`, `assigned`, `setup`, `running`, `uploading`, `done`, `cancelled`.
    pub state: String,
    /// openQA's word: `none` until the job is final, then `passed`, `softfailed`, `failed`, `incomplete`,
    /// `timeout_exceeded` or `user_cancelled`.
    pub result: String,
    /// Why it waits, or why it ended as it did: one sentence.
    pub reason: Option<String>,
    /// Lower is earlier.
    pub priority: i32,
    /// The job's settings.
    pub settings: BTreeMap<String, Setting>,
    /// When it was posted.
    pub created: String,
    /// When its first attempt began.
    pub started: Option<String>,
    /// When it became final.
    pub finished: Option<String>,
    /// The worker of the newest attempt.
    pub worker: Option<String>,
    /// How far the running attempt has come.
    pub progress: Option<Progress>,
    /// Every try, oldest first.
    pub attempts: Vec<Attempt>,
    /// Its page, as a path on this server.
    pub url: String,
}

impl Job {
    /// True once nothing more will happen to it.
    pub fn is_final(&self) -> bool {
        matches!(self.state.as_str(), "done" | "cancelled")
    }
}

/// A setting and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The value.
    pub value: String,
    /// `request` for what was posted, `default` for what Assay filled in, `machine` and so on for what a product brings.
    pub from: String,
    /// Where it comes from, for people, for example `machine uefi`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
    /// What it overrode, the last first: where that came from, and its value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub over: Vec<(String, String)>,
}

/// How far a running attempt has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The module that runs, if any.
    pub module: Option<String>,
    /// How many modules have been begun.
    pub begun: usize,
    /// How many modules there are.
    pub modules: usize,
    /// How many steps have been recorded.
    pub steps: usize,
}

/// One try at a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// `assigned`, `setup`, `running`, `uploading` or `done`.
    pub state: String,
    /// As [`Job::result`].
    pub result: String,
    /// `product`, `test`, `infrastructure` or `policy`, once it has ended.
    pub class: Option<String>,
    /// Why it ended as it did.
    pub reason: Option<String>,
    /// Name of its worker.
    pub worker: String,
    /// Host of its worker.
    pub host: String,
    /// When it was handed out.
    pub started: String,
    /// When it ended.
    pub finished: Option<String>,
    /// What it left behind: file name and size in bytes.
    pub streams: BTreeMap<String, u64>,
}

/// Answer to `GET jobs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobList {
    /// Newest first.
    pub jobs: Vec<Job>,
    /// Give this as `before` to have the next ones; `None` when there are no more.
    pub next_before: Option<JobId>,
}

/// Answer to `GET workers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerList {
    /// By name.
    pub workers: Vec<Worker>,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// Its host.
    pub host: String,
    /// Its version of Assay.
    pub version: String,
    /// Connected now.
    pub online: bool,
    /// Why it is not connected.
    pub offline_reason: Option<String>,
    /// Attempts at once.
    pub slots: u32,
    /// `WORKER_CLASS` values it offers.
    pub classes: Vec<String>,
    /// Jobs it runs.
    pub jobs: Vec<JobId>,
    /// Last connection or disconnection.
    pub since: String,
    /// Who has it finish what it runs and get nothing new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained_by: Option<String>,
    /// What its disks can take, in bytes, while it is connected and says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Room>,
}

/// Whether a worker gets nothing new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainWorker {
    /// True: it finishes what it runs. False: it gets work again.
    pub drained: bool,
}

/// A comment to be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewComment {
    /// Plain text with openQA's words: `boo#1`, `label:…`, `label:force_result:RESULT`, `flag:carryover`.
    pub text: String,
}

/// A comment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comment {
    /// Its number.
    pub id: i64,
    /// Who wrote it.
    pub author: String,
    /// What it says.
    pub text: String,
    /// The bugs that it names.
    pub bugs: Vec<String>,
    /// When it was written.
    pub created: String,
    /// When it was last changed.
    pub updated: String,
}

/// What was said about a job or a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommentList {
    /// The first first.
    pub comments: Vec<Comment>,
}

/// Something changed; the data of a server-sent event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A job changed its state.
    Job {
        /// Which.
        id: JobId,
    },
    /// A running job has new steps.
    Steps {
        /// Which.
        id: JobId,
    },
    /// Why some jobs wait has changed.
    Queue,
    /// A worker came, went, or changed.
    Workers,
    /// Something changed in a pipeline of the gate.
    Gate {
        /// Which.
        pipeline: String,
    },
    /// Some events were left out because the reader was slow; look at everything again.
    Missed,
}

/// Every error of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// One sentence: what is wrong.
    pub error: String,
    /// One sentence: what to do.
    pub help: String,
}
