//! What a world remembers of builds, states and what happened.

use crate::content::Content;
use crate::git::{BranchIx, Git, Speculation};
use assay_engine::gate::config::{JobDef, Precedence};
use assay_engine::gate::ids::{ItemId, Patchset, PipelineName, ProjectName, Uuid};
use assay_engine::gate::io::BuildResult;
use assay_engine::ids::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

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
    /// The job as it was then.
    pub job: Arc<JobDef>,
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
    /// All branches, by their numbers, when the first of its chain was merged.
    pub elsewhere: Rc<Vec<Content>>,
}

impl StateRecord {
    /// Everything that a job in it can see: all of it, or only these projects.
    pub fn visible(&self, git: &Git, only: Option<&BTreeSet<ProjectName>>) -> Content {
        let sees = |branch: BranchIx| only.is_none_or(|only| only.contains(&git.branches[branch].project));
        let spots = &self.speculation.spots;
        let moved = |branch: BranchIx| spots.iter().any(|spot| spot.branch == branch);
        let mut all = Content::default();
        for (branch, content) in self.elsewhere.iter().enumerate() {
            if sees(branch) && !moved(branch) {
                all.extend(content);
            }
        }
        spots.iter().filter(|spot| sees(spot.branch)).for_each(|spot| all.extend(&spot.content));
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
