//! What a world remembers of builds, states and what happened.

use crate::content::Content;
use crate::git::{Git, Speculation};
use assay_engine::gate::config::Precedence;
use assay_engine::gate::ids::{ItemId, JobName, Patchset, PipelineName, ProjectName, Uuid};
use assay_engine::gate::io::BuildResult;
use assay_engine::ids::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;

/// How far a build is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildState {
    /// Waits for a worker.
    Queued,
    /// Runs.
    Running,
    /// Would have ended if somebody had not held it.
    Held,
    /// Ended.
    Ended(BuildResult),
    /// Nobody wanted it any more.
    Cancelled,
}

/// A build.
#[derive(Debug, Clone)]
pub struct BuildRecord {
    /// Its identity.
    pub uuid: Uuid,
    /// For which item.
    pub item: ItemId,
    /// The job.
    pub job: JobName,
    /// The pipeline.
    pub pipeline: PipelineName,
    /// Who goes first.
    pub precedence: Precedence,
    /// The changes in its tree, as the request says.
    pub changes: Vec<Patchset>,
    /// The speculative state; none for refs and timers.
    pub state: Option<Uuid>,
    /// The projects whose trees its result depends on; none if it may depend on anything.
    pub hermetic: Option<BTreeSet<ProjectName>>,
    /// What it holds while it runs.
    pub semaphores: BTreeSet<assay_engine::gate::ids::SemaphoreName>,
    /// Asked for.
    pub asked_at: Timestamp,
    /// Begun.
    pub started_at: Option<Timestamp>,
    /// Over.
    pub ended_at: Option<Timestamp>,
    /// How far it is.
    pub phase: BuildState,
    /// Keep the workspace if it fails.
    pub hold: Option<String>,
}

impl BuildRecord {
    /// True while somebody waits for its end.
    pub fn is_live(&self) -> bool {
        matches!(self.phase, BuildState::Queued | BuildState::Running | BuildState::Held)
    }
}

/// A speculative state as the merger made it; never forgotten here.
#[derive(Debug, Clone)]
pub struct StateRecord {
    /// What it is.
    pub speculation: Speculation,
    /// All branches when the first of its chain was merged.
    pub elsewhere: Content,
}

impl StateRecord {
    /// Everything that a job in it can see: all of it, or only these projects.
    pub fn visible(&self, git: &Git, only: Option<&BTreeSet<ProjectName>>) -> Content {
        let Some(only) = only else {
            let mut all = self.elsewhere.clone();
            all.extend(&self.speculation.content());
            return all;
        };
        let mut all = Content::default();
        let spots = self.speculation.spots.iter();
        spots
            .filter(|spot| only.contains(&git.branches[spot.branch].project))
            .for_each(|spot| all.extend(&spot.content));
        all
    }
}

/// A line of the time line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Microseconds since the start.
    pub at_us: i64,
    /// What it is about: `event`, `item`, `build`, `merge`, `report`, `land`, `restart`, `refused`…
    pub what: &'static str,
    /// In words.
    pub text: String,
}

/// Builds that do not end by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRule {
    /// The job; `*` for any text.
    pub job: String,
    /// The change under test; none for any.
    pub of: Option<u64>,
}
