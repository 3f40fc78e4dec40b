//! What a shell job is: phases of steps, their environment, the workspace, and what is kept of it. The prose is
//! `docs/gating.md`.
//!
//! A job of `BACKEND=shell` carries its task in its settings: [`Task::to_settings`] writes it there, secrets apart,
//! [`Task::from_settings`] reads it back.

use assay_engine::settings::is_secret_name;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The setting that holds the task as JSON, without the values of its secrets.
pub const SETTING: &str = "TASK";
/// The setting of a secret's value is this and the secret's name; pages and logs never show such a setting.
pub const SECRET_PREFIX: &str = "_SECRET_";

/// A shell job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The job's name, for people.
    pub name: String,
    /// Prepares; a failure here is the infrastructure's, and the job is tried again.
    #[serde(default, skip_serializing_if = "Phase::is_unused")]
    pub pre: Phase,
    /// The test itself; its exit code is the verdict.
    #[serde(default, skip_serializing_if = "Phase::is_unused")]
    pub run: Phase,
    /// Runs after `run`, whatever became of `pre` and `run`.
    #[serde(default, skip_serializing_if = "Phase::is_unused")]
    pub post: Phase,
    /// Gathers logs, always, unless a newer change has made the job pointless.
    #[serde(default, skip_serializing_if = "Phase::is_unused")]
    pub collect: Phase,
    /// Variables of every phase: the `ZUUL_*` contract, `LOG_PATH` and the job's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Values that a phase gets as a variable where it names them ([`Phase::secrets`]), and that nothing shows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Secret>,
    /// Repositories to check out before `pre`; none for a job that brings everything itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Workspace>,
    /// Files to publish: globs below the workspace, for example `logs/**`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<String>,
    /// Files with test results (JUnit, TAP, subunit): globs below the workspace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<String>,
    /// What of the network the phases see.
    #[serde(default, skip_serializing_if = "Network::is_none")]
    pub network: Network,
    /// What the job may use.
    #[serde(default)]
    pub limits: Limits,
}

/// The names of the phases, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseName {
    /// See [`Task::pre`].
    Pre,
    /// See [`Task::run`].
    Run,
    /// See [`Task::post`].
    Post,
    /// See [`Task::collect`].
    Collect,
}

impl PhaseName {
    /// In the order in which they run.
    pub const ALL: [Self; 4] = [Self::Pre, Self::Run, Self::Post, Self::Collect];

    /// The word that is stored and shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pre => "pre",
            Self::Run => "run",
            Self::Post => "post",
            Self::Collect => "collect",
        }
    }
}

impl fmt::Display for PhaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Steps with a time budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// One after the other; the first that fails ends the phase.
    #[serde(default)]
    pub steps: Vec<ShellStep>,
    /// After so many seconds the phase is asked to end (SIGTERM).
    #[serde(default = "Phase::default_budget")]
    pub budget_s: u64,
    /// So many seconds later it is killed.
    #[serde(default = "Phase::default_grace")]
    pub grace_s: u64,
    /// Names of the secrets that this phase gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
}

impl Phase {
    fn default_budget() -> u64 {
        1800
    }

    fn default_grace() -> u64 {
        30
    }

    fn is_unused(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Phase {
    fn default() -> Self {
        Self {
            steps: Vec::new(),
            budget_s: Self::default_budget(),
            grace_s: Self::default_grace(),
            secrets: Vec::new(),
        }
    }
}

/// A script.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShellStep {
    /// For people; without one the step has its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The text of the script.
    pub script: String,
    /// What runs it, words separated by spaces; else the script's own `#!` line, else `/bin/bash -e`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
}

/// A value that must not be seen.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// What of the network a job sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// A loopback of its own and nothing else.
    #[default]
    None,
    /// The host's network, the host's loopback included.
    Host,
}

impl Network {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// What a job may use before it is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of workspace, home and /tmp together.
    pub disk_bytes: u64,
    /// Bytes of the console; more is left out, and the job goes on.
    pub log_bytes: u64,
    /// Processes and threads at one time.
    pub processes: u64,
    /// Bytes of memory that its processes hold.
    pub memory_bytes: u64,
    /// Files that are published at most.
    pub artifacts: u64,
    /// Bytes that are published at most.
    pub artifact_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            disk_bytes: 20 << 30,
            log_bytes: 64 << 20,
            processes: 4096,
            memory_bytes: 8 << 30,
            artifacts: 2000,
            artifact_bytes: 1 << 30,
        }
    }
}

/// The repositories of a job, as gerrit-git-prep and zuul-cloner make them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workspace {
    /// `ZUUL_URL`: where the speculative refs are; `URL/PROJECT` is a repository. None for jobs without a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zuul_url: Option<String>,
    /// Where the projects come from: `ORIGIN/PROJECT` is a repository.
    pub origin: String,
    /// What to check out.
    pub projects: Vec<Checkout>,
    /// `ZUUL_REF`: `refs/zuul/BRANCH/Z…`, or a tag's ref.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zuul_ref: Option<String>,
    /// `ZUUL_BRANCH`: the change's branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// `ZUUL_PROJECT`: the change's own project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// `ZUUL_COMMIT`: what the change's own project must then stand at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// `ZUUL_NEWREV`: the commit of the change's own project after a merge or for a tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newrev: Option<String>,
    /// Where projects go that have no `dest`: the first rule that fits the whole name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clonemap: Vec<CloneRule>,
    /// After so many seconds the attempt is given up as the infrastructure's failure.
    #[serde(default = "Workspace::default_budget")]
    pub budget_s: u64,
}

impl Workspace {
    fn default_budget() -> u64 {
        1800
    }
}

/// One tree of one project.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkout {
    /// The project.
    pub name: String,
    /// Where, below the workspace; `.` is the workspace itself. Else the clonemap's, else the project's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest: Option<String>,
    /// This branch instead of the change's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// With the changes under test or without.
    #[serde(default)]
    pub tree: Tree,
}

/// Which state of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tree {
    /// The speculative state, with the changes ahead and the change itself.
    #[default]
    New,
    /// The tip of the branch, as an upgrade test's starting point.
    Old,
}

/// A rule of a clonemap.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloneRule {
    /// A regular expression for the whole name of a project.
    pub name: String,
    /// Where it goes; `\1` is the expression's first group.
    pub dest: String,
}

/// Why a job's settings are no task.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// There is none.
    #[error(
        "the job has no {SETTING}; a job of BACKEND=shell carries its task there, as JSON (docs/gating.md)"
    )]
    Missing,
    /// It is the name or the address of one that somebody keeps.
    #[error(
        "{SETTING}={0:?} names a task, and a job of BACKEND=shell carries its steps there, as JSON (docs/gating.md); \
         leave BACKEND out, or say BACKEND=task (docs/tasks.md)"
    )]
    Named(String),
    /// It is not JSON, or not of this shape.
    #[error("{SETTING} is not a task: {0}; see docs/gating.md for its fields")]
    Json(#[from] serde_json::Error),
    /// It says what cannot be done.
    #[error("{SETTING} cannot be carried out: {0}")]
    Wrong(String),
}

impl Task {
    /// A phase by its name.
    pub fn phase(&self, name: PhaseName) -> &Phase {
        match name {
            PhaseName::Pre => &self.pre,
            PhaseName::Run => &self.run,
            PhaseName::Post => &self.post,
            PhaseName::Collect => &self.collect,
        }
    }

    /// The settings that carry it: the task without the values of its secrets, and each value under a covered name.
    pub fn to_settings(&self) -> Result<BTreeMap<String, String>, TaskError> {
        let mut open = self.clone();
        let secrets = std::mem::take(&mut open.secrets);
        let mut settings = BTreeMap::from([
            ("BACKEND".to_owned(), "shell".to_owned()),
            (SETTING.to_owned(), serde_json::to_string(&open)?),
        ]);
        settings.extend(secrets.into_iter().map(|(name, value)| (format!("{SECRET_PREFIX}{name}"), value.0)));
        Ok(settings)
    }

    /// The task that a job's settings carry, checked.
    pub fn from_settings(settings: &BTreeMap<String, String>) -> Result<Self, TaskError> {
        let text = settings.get(SETTING).filter(|text| !text.is_empty()).ok_or(TaskError::Missing)?;
        if !text.trim_start().starts_with('{') {
            return Err(TaskError::Named(text.clone()));
        }
        let mut task: Self = serde_json::from_str(text)?;
        if let Some(name) = task.secrets.keys().next() {
            return Err(TaskError::Wrong(format!(
                "it holds the value of the secret {name}, and everybody can read it there; put it into the setting {SECRET_PREFIX}{name}"
            )));
        }
        for (name, value) in settings.iter().filter(|(name, _)| is_secret_name(name)) {
            let name = name.strip_prefix(SECRET_PREFIX).unwrap_or(name);
            task.secrets.entry(name.to_owned()).or_insert_with(|| Secret(value.clone()));
        }
        task.check()?;
        Ok(task)
    }

    /// Refuses what could not be meant.
    pub fn check(&self) -> Result<(), TaskError> {
        let wrong = |text: String| Err(TaskError::Wrong(text));
        if PhaseName::ALL.iter().all(|name| self.phase(*name).steps.is_empty()) {
            return wrong("no phase has a step; give at least run.steps".into());
        }
        for name in self.env.keys().chain(self.secrets.keys()) {
            if !is_variable(name) {
                return wrong(format!("{name:?} is no name of a variable; use letters, digits and _"));
            }
        }
        for (name, value) in &self.env {
            if value.contains('\0') {
                return wrong(format!("the value of {name} holds a NUL byte"));
            }
        }
        for name in PhaseName::ALL {
            for secret in &self.phase(name).secrets {
                if name == PhaseName::Collect {
                    return wrong(format!(
                        "collect asks for the secret {secret}; only pre, run and post get secrets"
                    ));
                }
                if !self.secrets.contains_key(secret) {
                    return wrong(format!(
                        "{name} asks for the secret {secret}, which the job does not have"
                    ));
                }
            }
        }
        let mut places = BTreeSet::new();
        for checkout in self.workspace.iter().flat_map(|workspace| &workspace.projects) {
            check_project(&checkout.name)?;
            if let Some(dest) = &checkout.dest
                && !places.insert(dest.trim_end_matches('/'))
            {
                return wrong(format!("two trees go to {dest:?}; give each a dest of its own"));
            }
        }
        Ok(())
    }
}

fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn check_project(name: &str) -> Result<(), TaskError> {
    let bad = |part: &str| part.is_empty() || part == "." || part == ".." || part.starts_with('-');
    if name.split('/').any(bad) || name.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err(TaskError::Wrong(format!("{name:?} is no name of a project")));
    }
    Ok(())
}
