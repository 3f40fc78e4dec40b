//! Rules: what an event outside leads to. Pure: a [`Message`] and a [`RuleSet`] give [`Planned`] effects, each with a key
//! under which it happens once, whatever is delivered twice or out of order.
//!
//! [`plan`] is what the server does with every event; [`explain`] says for every rule what it would do, or why not;
//! [`check::check`] finds rules that can never match.

pub mod check;
mod cond;
mod expr;
mod item;
mod message;
mod plan;
#[cfg(test)]
mod tests;
mod topic;

pub use cond::{Cond, Glob, RegexTest, Test, Why};
pub use expr::{BadExpr, Expr, Filter, Path, RenderError, Segment, Template, scalar};
pub(crate) use item::{BUILD_ISSUER, BUILD_SCRATCH, BUILD_TASK};
pub use item::{Item, derive, news, recurs};
pub use message::Message;
pub use plan::{BatchKey, FoundElsewhere, Plan, Planned, PlannedEffect, Said, Verdict, explain, merge, plan};
pub use topic::TopicPattern;

pub(crate) use expr::{nvr, split_nvr};
pub(crate) use plan::short_key;

use std::collections::BTreeMap;
use std::sync::Arc;

/// The rules that are in force.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleSet {
    /// In the order of their files.
    pub rules: Vec<Arc<Rule>>,
    /// Tells this set from others.
    pub hash: String,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name, unique.
    pub name: String,
    /// For people.
    pub description: String,
    /// The file and the line.
    pub place: String,
    /// False: it is kept, and does nothing.
    pub enabled: bool,
    /// What has to be so.
    pub when: Cond,
    /// It is done for each of these.
    pub each: Option<Expr>,
    /// Which of them.
    pub only: Option<Cond>,
    /// What is under test; else what is known of the message by its topic.
    pub item: Option<ItemTemplate>,
    /// Each combination of these is a target of its own.
    pub fan_out: Vec<(String, FanOut)>,
    /// What counts as the same.
    pub once: Once,
    /// What comes within a window goes together.
    pub batch: Option<Batch>,
    /// At most so many jobs of it are open at once; others wait.
    pub limit: Option<u32>,
    /// What is run.
    pub run: Vec<Action>,
}

/// How an item is made of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemTemplate {
    /// For example `koji_build`.
    pub kind: Template,
    /// Its name.
    pub id: Template,
    /// What tells one state of it from another.
    pub revision: Template,
}

/// The values of one dimension.
#[derive(Debug, Clone, PartialEq)]
pub enum FanOut {
    /// As written.
    Values(Vec<String>),
    /// As the message says.
    Of(Expr),
}

/// What an effect happens once for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Once {
    /// The item in its revision.
    #[default]
    Item,
    /// Each event.
    Event,
}

/// What comes within a window goes together.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// From the first on, microseconds.
    pub window: i64,
    /// What goes together.
    pub by: Template,
}

/// Something to run.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// A job.
    Job {
        /// Its settings; `TEST` names it.
        settings: BTreeMap<String, Template>,
        /// Its priority.
        priority: Option<i32>,
    },
    /// A task looks at the item (`docs/tasks.md`).
    Task {
        /// Which: a name that the server knows, or the address of a repository.
        name: String,
        /// The settings of its job.
        settings: BTreeMap<String, Template>,
        /// Its priority.
        priority: Option<i32>,
    },
    /// A product is posted.
    Product {
        /// What is posted.
        settings: BTreeMap<String, Template>,
    },
    /// A ref goes into a pipeline of the gate.
    Pipeline {
        /// The pipeline.
        pipeline: String,
        /// The project.
        project: Template,
        /// The branch.
        branch: Template,
    },
    /// The images of a compose are scheduled.
    Compose {
        /// Where it is.
        location: Template,
        /// Once more, whatever was scheduled of it, if the message says so.
        force: Template,
    },
    /// The tests of an update are scheduled.
    Update(Box<UpdateTemplate>),
    /// What the message tells is stored as a result.
    Result(Box<ResultTemplate>),
}

/// How a message becomes the tests of an update.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateTemplate {
    /// Its id.
    pub id: Template,
    /// The release, for example `F40`.
    pub release: Template,
    /// Its builds, for example `{body.update.builds[].nvr}`.
    pub builds: Template,
    /// Groups of the critical path.
    pub groups: Template,
    /// Whether it is on the critical path.
    pub critpath: Template,
    /// Whether updates of its release are made of each build by itself.
    pub automatic: Template,
    /// Once more, whatever was scheduled of it, if the message says so.
    pub force: Template,
}

/// How a message becomes a result.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultTemplate {
    /// The test case.
    pub testcase: Template,
    /// The outcome, in the message's words.
    pub outcome: Template,
    /// What those words mean, where it is not themselves in capitals.
    pub outcomes: BTreeMap<String, String>,
    /// Who has tested.
    pub source: Option<Template>,
    /// A remark.
    pub note: Option<Template>,
    /// Where the test's logs are.
    pub ref_url: Option<Template>,
    /// What else is known; item and type are the rule's.
    pub data: BTreeMap<String, Template>,
}

impl Action {
    /// The word that rules are written with.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Job { .. } => "job",
            Self::Task { .. } => "task",
            Self::Product { .. } => "product",
            Self::Pipeline { .. } => "pipeline",
            Self::Compose { .. } => "compose",
            Self::Update(_) => "update",
            Self::Result(_) => "result",
        }
    }

    /// The word, and what it is about where that is always the same.
    pub fn label(&self) -> String {
        match self {
            Self::Task { name, .. } => format!("task {name}"),
            Self::Pipeline { pipeline, .. } => format!("pipeline {pipeline}"),
            other => other.word().to_owned(),
        }
    }
}
