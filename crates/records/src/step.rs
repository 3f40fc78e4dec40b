//! The `steps` stream: what a run did and found, one JSON object a line.

use serde::{Deserialize, Serialize};

/// A line of the `steps` stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    /// First line: the modules in the order in which they will run.
    Plan {
        /// The modules.
        modules: Vec<ModulePlan>,
    },
    /// Where the run took place, known once the machine has started. `name` is for people.
    Environment {
        /// Facts in reading order, for example `("accelerator", "tcg: /dev/kvm hangs the guest")`.
        facts: Vec<(String, String)>,
    },
    /// A module begins.
    ModuleStarted {
        /// Its name.
        module: String,
        /// Microseconds since the run began.
        at_us: u64,
    },
    /// Something happened within a module.
    Step(Box<Step>),
    /// A module ended.
    ModuleEnded {
        /// Its name.
        module: String,
        /// Its result.
        result: ModuleResult,
        /// Microseconds since the run began.
        at_us: u64,
        /// How long it took, microseconds.
        duration_us: u64,
    },
    /// A file that the run published; its bytes are a blob.
    Artifact(Artifact),
    /// A file of test results was read.
    TestCases(TestCases),
    /// A task says what became of an item.
    Result(TaskResult),
    /// Where fetched tests stand: their newest commits.
    History {
        /// `tests`, or `needles` that have a repository of their own.
        what: String,
        /// The newest first; at most some dozens.
        commits: Vec<crate::history::PastCommit>,
    },
}

/// A result that a task reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskResult {
    /// The test case.
    pub testcase: String,
    /// In capitals: `PASSED`, `INFO`, `FAILED`, `NEEDS_INSPECTION`, `CRASHED`, ...
    pub outcome: String,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Its log: a published file, or an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    /// Everything else, with `item` and `type`.
    pub data: std::collections::BTreeMap<String, Vec<String>>,
    /// Microseconds since the run began.
    pub at_us: u64,
}

/// A published file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Relative to the workspace, with `/`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Of its bytes, hex.
    pub sha256: String,
    /// As HTTP says it, for example `text/plain; charset=utf-8`.
    pub content_type: String,
    /// Microseconds since the run began.
    pub at_us: u64,
}

/// What a file of test results says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestCases {
    /// The file, relative to the workspace.
    pub file: String,
    /// `junit`, `tap`, `subunit-v1` or `subunit-v2`.
    pub format: String,
    /// How many ended how: `passed`, `failed`, `error`, `skipped`, ...
    pub counts: std::collections::BTreeMap<String, u64>,
    /// Those that are not as they should be, in the order of the file.
    pub failing: Vec<FailingCase>,
    /// How many more failed than `failing` holds.
    pub failing_left_out: u64,
    /// SHA-256 of a blob with every case: a JSON array, as `results::TestCase` is written.
    pub cases: String,
    /// What is wrong with the file, if anything.
    pub problems: Vec<String>,
    /// Microseconds since the run began.
    pub at_us: u64,
}

/// A test that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailingCase {
    /// With its class, as people write it: `package.Class.test`.
    pub name: String,
    /// One of the words of [`TestCases::counts`].
    pub status: String,
    /// How long it took, microseconds.
    pub duration_us: Option<u64>,
    /// What it said.
    pub message: String,
}

/// A module as planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModulePlan {
    /// Name, unique in the run.
    pub name: String,
    /// The file that defines it, relative to the test directory.
    pub file: String,
    /// What its result means for the run.
    #[serde(default)]
    pub flags: ModuleFlags,
}

/// openQA's test flags, as far as a machine without snapshots knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ModuleFlags {
    /// A failure ends the run.
    pub fatal: bool,
    /// A failure does not count.
    pub ignore_failure: bool,
    /// Runs even after a fatal failure.
    pub always_run: bool,
}

/// openQA's module results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleResult {
    /// Not run yet.
    None,
    /// Runs now.
    Running,
    /// Every step was ok.
    Passed,
    /// Passed with a known workaround.
    Softfailed,
    /// A step failed.
    Failed,
    /// Not run, because a fatal module failed before it.
    Skipped,
    /// Stopped by a person, a deadline or a lost machine.
    Cancelled,
}

/// One step of a module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The module it belongs to.
    pub module: String,
    /// Its number within the module, from 1.
    pub number: u32,
    /// When it ended: microseconds since the run began.
    pub at_us: u64,
    /// How long it took, microseconds.
    pub duration_us: u64,
    /// The call as the author wrote it, for example `assert_screen`.
    pub call: String,
    /// Where the author wrote it.
    pub source: Option<Source>,
    /// What it means for the module.
    pub result: StepResult,
    /// The screen at that moment.
    pub screenshot: Option<Picture>,
    /// What was found.
    pub body: StepBody,
}

/// What a step means for its module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepResult {
    /// As expected.
    Ok,
    /// Says nothing about the result (a look that found nothing, a screenshot, a note).
    Unknown,
    /// Known and worked around.
    Softfail,
    /// The module fails.
    Fail,
}

/// What a step found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StepBody {
    /// A look for needles.
    Look {
        /// What was looked for: any of these tag sets.
        tags: Vec<String>,
        /// Seconds it was ready to wait.
        #[serde(deserialize_with = "crate::number::float")]
        timeout_s: f64,
        /// The needle that matched.
        matched: Option<NeedleHit>,
        /// The others, best first; empty when nothing carries the tags.
        candidates: Vec<NeedleHit>,
    },
    /// A plain screenshot.
    Screenshot,
    /// A text for people: `record_info`, soft failures, serial output, failures.
    Text {
        /// One line.
        title: String,
        /// Any number of lines.
        output: String,
    },
    /// A wait on the serial line.
    Serial {
        /// What was waited for: patterns or plain texts.
        patterns: Vec<String>,
        /// What was found; `None` when the time ran out.
        found: Option<String>,
        /// Seconds it was ready to wait.
        #[serde(deserialize_with = "crate::number::float")]
        timeout_s: f64,
        /// True if finding it would have been the failure.
        expect_not_found: bool,
    },
}

/// A needle and how well it fits the step's screenshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeedleHit {
    /// Its name: the file name without `.json`.
    pub name: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Mean of `(1 - similarity)^2` over the areas.
    #[serde(deserialize_with = "crate::number::float")]
    pub error: f64,
    /// SHA-256 of the needle's JSON and of its PNG as they were, hex: old results keep their needle.
    pub json: Option<String>,
    /// See `json`.
    pub png: Option<String>,
    /// The areas where they were found.
    pub areas: Vec<AreaHit>,
}

/// An area of a needle, where it fits best, in pixels of the screenshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AreaHit {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// Width.
    pub w: u32,
    /// Height.
    pub h: u32,
    /// 0 to 1.
    #[serde(deserialize_with = "crate::number::float")]
    pub similarity: f64,
    /// Reaches the area's match level.
    pub ok: bool,
}

/// A picture kept as a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// SHA-256 of the PNG, hex.
    pub sha256: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// A place in a test file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Relative to the test directory.
    pub file: String,
    /// From 1.
    pub line: u32,
}
