//! The test-driver protocol, version 1: how a test drives a machine. Prose: `docs/protocols/test-driver.md`.
//!
//! Starlark makes these requests in memory; a program in another language sends them as JSON lines over a pipe.
//! Names and defaults follow openQA's testapi. Times are seconds.

pub use assay_engine::ids::JobId;
pub use assay_engine::locks::LockOp;
pub use assay_engine::talk::JobInState;
use assay_records::number::{float, optional_float};
use assay_records::step::StepResult;
pub use assay_records::step::{AreaHit, ModuleFlags, NeedleHit, Source};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version that both sides must speak.
pub const PROTOCOL: u32 = 1;

/// One or several tag sets; each is words separated by blanks, all of which a needle must carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Tags {
    /// One tag set.
    One(String),
    /// Any of these tag sets.
    Any(Vec<String>),
}

impl Tags {
    /// The tag sets, as a list.
    pub fn sets(&self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one.clone()],
            Self::Any(any) => any.clone(),
        }
    }
}

/// A mouse button.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Button {
    /// The left one.
    #[default]
    Left,
    /// The middle one.
    Middle,
    /// The right one.
    Right,
}

/// What to do with the machine's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerAction {
    /// Switch on.
    On,
    /// Pull the plug.
    Off,
    /// Press the power button.
    Acpi,
    /// Press the reset button.
    Reset,
}

/// The look of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum NoteResult {
    /// Just a note.
    #[default]
    Ok,
    /// A failure.
    Fail,
    /// A known problem.
    Softfail,
}

impl From<NoteResult> for StepResult {
    fn from(note: NoteResult) -> Self {
        match note {
            NoteResult::Ok => Self::Ok,
            NoteResult::Fail => Self::Fail,
            NoteResult::Softfail => Self::Softfail,
        }
    }
}

fn d30() -> f64 {
    30.0
}
fn d10() -> f64 {
    10.0
}
fn d7() -> f64 {
    7.0
}
fn d60() -> f64 {
    60.0
}
fn d90() -> f64 {
    90.0
}
fn d1() -> f64 {
    1.0
}
fn d_click() -> f64 {
    0.15
}
fn d20() -> u32 {
    20
}
fn d_typing() -> u32 {
    250
}
fn d_password() -> u32 {
    100
}
fn d_change() -> f64 {
    50.0
}
fn d_still() -> f64 {
    47.0
}

/// What a test can ask of its machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "call", content = "args", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Waits until a needle matches; fails the test when none does. Answers a [`NeedleHit`].
    AssertScreen(Look),
    /// Waits until a needle matches. Answers a [`NeedleHit`] or null.
    CheckScreen(Look),
    /// Does the needle that matched last carry this tag? Answers a boolean.
    MatchHasTag {
        /// The tag.
        tag: String,
    },
    /// `assert_screen`, then a click on the needle's click point. Answers a [`NeedleHit`].
    AssertAndClick {
        /// What to look for.
        tags: Tags,
        /// Seconds.
        #[serde(default = "d30", deserialize_with = "float")]
        timeout: f64,
        /// Where and how.
        #[serde(flatten)]
        click: Click,
    },
    /// A click on the needle that matched last.
    ClickLastmatch(Click),
    /// Remembers the present screen for a later `wait_screen_change`. Answers its number.
    ScreenReference {},
    /// Waits until the screen differs from the reference (or, without one, from now). Answers a boolean.
    WaitScreenChange {
        /// From `screen_reference`.
        #[serde(default)]
        reference: Option<u64>,
        /// Seconds.
        #[serde(default = "d10", deserialize_with = "float")]
        timeout: f64,
        /// PSNR in dB below which the screen has changed.
        #[serde(default = "d_change", deserialize_with = "float")]
        similarity_level: f64,
    },
    /// `wait_screen_change` that fails the test when nothing changes.
    AssertScreenChange {
        /// From `screen_reference`.
        #[serde(default)]
        reference: Option<u64>,
        /// Seconds.
        #[serde(default = "d10", deserialize_with = "float")]
        timeout: f64,
        /// PSNR in dB below which the screen has changed.
        #[serde(default = "d_change", deserialize_with = "float")]
        similarity_level: f64,
    },
    /// Waits until the screen stays the same for a while. Answers a boolean.
    WaitStillScreen(Still),
    /// `wait_still_screen` that fails the test when the screen never rests.
    AssertStillScreen(Still),
    /// Keeps the present screen as a step.
    SaveScreenshot {},
    /// Presses a key again and again until a needle matches; fails the test when none does. Answers a [`NeedleHit`].
    SendKeyUntilNeedlematch {
        /// What to look for.
        tags: Tags,
        /// The key.
        key: String,
        /// At most so many times.
        #[serde(default = "d20")]
        counter: u32,
        /// Seconds to look after each press.
        #[serde(default = "d1", deserialize_with = "float")]
        timeout: f64,
    },
    /// A note on the result page.
    RecordInfo {
        /// One line.
        title: String,
        /// Any number of lines.
        #[serde(default)]
        output: String,
        /// Its look; `fail` fails the module.
        #[serde(default)]
        result: NoteResult,
    },
    /// A known problem: the module passes softly.
    RecordSoftFailure {
        /// Why, for example a bug's number.
        reason: String,
    },
    /// As `record_soft_failure`, and the module stays soft-failed even where a needle says otherwise.
    ForceSoftFailure {
        /// Why.
        reason: String,
    },
    /// A line in the log.
    Diag {
        /// The line.
        message: String,
    },
    /// A variable. Answers its value, or `default`.
    GetVar {
        /// Its name.
        name: String,
        /// Answered when it is not set.
        #[serde(default)]
        default: Option<String>,
    },
    /// Sets a variable for the rest of the run.
    SetVar {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// Waits for a text on the serial line. Answers the text read up to the match, or null.
    WaitSerial {
        /// Regular expressions, or plain texts with `no_regex`; any of them.
        patterns: Tags,
        /// Seconds.
        #[serde(default = "d90", deserialize_with = "float")]
        timeout: f64,
        /// The test expects that it does not come.
        #[serde(default)]
        expect_not_found: bool,
        /// Plain texts.
        #[serde(default)]
        no_regex: bool,
        /// No step on the page.
        #[serde(default)]
        quiet: bool,
        /// Look only at the last so many bytes.
        #[serde(default)]
        buffer_size: Option<usize>,
        /// Keep all that was read in the step.
        #[serde(default)]
        record_output: bool,
    },
    /// Presses and releases a key or a chord such as `ctrl-alt-f2`.
    SendKey {
        /// The key.
        key: String,
        /// Wait for the screen to rest afterwards.
        #[serde(default)]
        do_wait: bool,
    },
    /// Presses a key and keeps it down.
    HoldKey {
        /// The key.
        key: String,
    },
    /// Releases a key that is held.
    ReleaseKey {
        /// The key.
        key: String,
    },
    /// Types a text.
    TypeString {
        /// The text; `\n` is the return key.
        text: String,
        /// 1 (slowest) to 250 (as fast as the machine takes it).
        #[serde(default = "d_typing")]
        max_interval: u32,
        /// Wait for a change of the screen after each group of so many characters; 0 never.
        #[serde(default)]
        wait_screen_change: u32,
        /// Wait afterwards until the screen rests for so many seconds; 0 not at all.
        #[serde(default, deserialize_with = "float")]
        wait_still_screen: f64,
        /// PSNR in dB for these waits.
        #[serde(default = "d_still", deserialize_with = "float")]
        similarity_level: f64,
        /// Keep the text out of every log.
        #[serde(default)]
        secret: bool,
        /// Press return at the end.
        #[serde(default)]
        lf: bool,
        /// Seconds for these waits.
        #[serde(default = "d30", deserialize_with = "float")]
        timeout: f64,
    },
    /// Types the password of the user in force, or this one; never logged.
    TypePassword {
        /// The password; without it, the variable `PASSWORD`.
        #[serde(default)]
        password: Option<String>,
        /// As in `type_string`.
        #[serde(default = "d_password")]
        max_interval: u32,
    },
    /// Moves the mouse.
    MouseSet {
        /// Pixels from the left.
        x: u32,
        /// Pixels from the top.
        y: u32,
    },
    /// Clicks where the mouse is.
    MouseClick {
        /// Which button.
        #[serde(default)]
        button: Button,
        /// Seconds between press and release.
        #[serde(default = "d_click", deserialize_with = "float")]
        hold_time: f64,
        /// 1, 2 or 3 clicks.
        #[serde(default = "one")]
        count: u32,
    },
    /// Moves the mouse out of the way, to the lower right corner.
    MouseHide {
        /// Pixels that it stays away from the border.
        #[serde(default)]
        border_offset: u32,
    },
    /// Drags from one place to another.
    MouseDrag {
        /// Where to press: `[x, y]` or a tag set.
        start: Place,
        /// Where to release.
        end: Place,
        /// Which button.
        #[serde(default)]
        button: Button,
        /// Seconds to look for needles.
        #[serde(default = "d30", deserialize_with = "float")]
        timeout: f64,
    },
    /// The power button and its relatives.
    Power {
        /// What to do.
        action: PowerAction,
    },
    /// Waits until the machine has switched itself off. Answers a boolean.
    CheckShutdown {
        /// Seconds.
        #[serde(default = "d60", deserialize_with = "float")]
        timeout: f64,
    },
    /// `check_shutdown` that fails the test.
    AssertShutdown {
        /// Seconds.
        #[serde(default = "d60", deserialize_with = "float")]
        timeout: f64,
    },
    /// Ejects the CD.
    EjectCd {},
    /// Stops the machine's processors.
    FreezeVm {},
    /// Lets them go on.
    ResumeVm {},
    /// Makes, takes, waits for or gives back a mutex or a barrier of the job's cluster. Answers a boolean.
    Lock {
        /// What: `{"op": "mutex_lock", "name": "x"}`.
        lock: LockOp,
        /// Seconds to wait at most; without it until nothing can come of it any more.
        #[serde(default, deserialize_with = "optional_float")]
        timeout: Option<f64>,
    },
    /// The jobs that run in parallel with this one as its children. Answers objects with `id` and `state`.
    GetChildren {},
    /// Those of them that are in a state.
    GetChildrenByState {
        /// `scheduled`, `running` or `done`.
        state: String,
    },
    /// The jobs that this one runs in parallel with as their child. Answers objects with `id` and `state`.
    GetParents {},
    /// Facts of a job. Answers an object with `id`, `name`, `test`, `state`, `result` and `settings`.
    GetJobInfo {
        /// The job's number.
        job: i64,
    },
    /// This job's number; null without a server.
    GetCurrentJobId {},
    /// Waits until each child has ended.
    WaitForChildren {
        /// Seconds to wait at most; without it as long as the job may run.
        #[serde(default, deserialize_with = "optional_float")]
        timeout: Option<f64>,
    },
    /// Waits until no child has yet to start.
    WaitForChildrenToStart {
        /// As for `wait_for_children`.
        #[serde(default, deserialize_with = "optional_float")]
        timeout: Option<f64>,
    },
}

fn one() -> u32 {
    1
}

/// Arguments of `assert_screen` and `check_screen`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// What to look for.
    pub tags: Tags,
    /// Seconds; without it 30 for `assert_screen` and 0 for `check_screen`.
    #[serde(default, deserialize_with = "optional_float")]
    pub timeout: Option<f64>,
    /// openQA's `no_wait`; Assay always looks at every change, so it makes no difference.
    #[serde(default)]
    pub no_wait: bool,
}

/// How to click.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Click {
    /// Which button.
    #[serde(default)]
    pub button: Button,
    /// Seconds between press and release.
    #[serde(default = "d_click", deserialize_with = "float")]
    pub clicktime: f64,
    /// Twice.
    #[serde(default)]
    pub dclick: bool,
    /// Hide the mouse afterwards instead of moving it back.
    #[serde(default)]
    pub mousehide: bool,
    /// Which of the needle's click points.
    #[serde(default)]
    pub point_id: Option<String>,
}

/// Arguments of `wait_still_screen`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Still {
    /// Seconds without a change.
    #[serde(default = "d7", deserialize_with = "float")]
    pub stilltime: f64,
    /// Seconds to wait at most.
    #[serde(default = "d30", deserialize_with = "float")]
    pub timeout: f64,
    /// PSNR in dB below which the screen has changed.
    #[serde(default = "d_still", deserialize_with = "float")]
    pub similarity_level: f64,
}

/// A place on the screen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Place {
    /// Pixels from the left and from the top.
    At(u32, u32),
    /// The click point of the needle with these tags.
    Needle(String),
}

/// A request with its origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// The word the author used, where it differs from the request's (`enter_cmd` for `type_string`).
    pub name: String,
    /// Where the author asked it: innermost frame last.
    pub stack: Vec<Source>,
}

/// Why a call was not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// What kind of failure.
    pub kind: CallErrorKind,
    /// One sentence.
    pub message: String,
}

/// Kinds of failure of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallErrorKind {
    /// The test's expectation did not hold; `attempt` can catch it.
    Failed,
    /// The call was wrong: unknown key, no needle with that tag, a bad pattern; `attempt` can catch it.
    Usage,
    /// The run is being stopped; nothing can catch it.
    Cancelled,
    /// The machine or the host failed; nothing can catch it.
    Infrastructure,
}

impl CallError {
    /// The expectation did not hold.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: CallErrorKind::Failed, message: message.into() }
    }
    /// The call was wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { kind: CallErrorKind::Usage, message: message.into() }
    }
    /// The run is being stopped.
    pub fn cancelled(message: impl Into<String>) -> Self {
        Self { kind: CallErrorKind::Cancelled, message: message.into() }
    }
    /// The machine or the host failed.
    pub fn infrastructure(message: impl Into<String>) -> Self {
        Self { kind: CallErrorKind::Infrastructure, message: message.into() }
    }
}

/// A line from the host to a test program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToDriver {
    /// First line.
    Hello {
        /// [`PROTOCOL`].
        protocol: u32,
        /// The test file, relative to the test directory, which is the program's working directory.
        file: String,
    },
    /// Run the test's `run`, or its `post_fail`.
    Run {
        /// `run` or `post_fail`.
        function: String,
    },
    /// Answer to a call.
    Answer {
        /// The call's number.
        id: u64,
        /// The value.
        value: Value,
    },
    /// Refusal of a call.
    Error {
        /// The call's number; null when the line could not be understood at all.
        id: Option<u64>,
        /// Why.
        error: CallError,
    },
    /// The program should end now.
    Exit,
}

/// A line from a test program to the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromDriver {
    /// Answer to `hello`.
    Ready {
        /// [`PROTOCOL`].
        protocol: u32,
        /// The test's name.
        name: String,
        /// Its flags.
        #[serde(default)]
        flags: ModuleFlags,
        /// Seconds the module may take.
        #[serde(default, deserialize_with = "optional_float")]
        timeout: Option<f64>,
        /// True if it has a `post_fail`.
        #[serde(default)]
        post_fail: bool,
    },
    /// A call.
    Call {
        /// Its number, chosen by the program, growing.
        id: u64,
        /// What is asked: `{"call": "assert_screen", "args": {"tags": "x"}}`.
        request: Value,
        /// The word the author used, where it differs from the request's.
        #[serde(default)]
        name: Option<String>,
        /// Where the author asked it: innermost frame last.
        #[serde(default)]
        stack: Vec<Source>,
    },
    /// The function has returned.
    Done {
        /// Null if it went well; otherwise why not.
        error: Option<String>,
        /// `failed` when an expectation did not hold; anything else means that the test is wrong.
        #[serde(default)]
        kind: Option<CallErrorKind>,
        /// Where: innermost frame last.
        #[serde(default)]
        stack: Vec<Source>,
        /// The traceback, for people.
        #[serde(default)]
        traceback: Option<String>,
    },
}

/// What `assert_screen` and `check_screen` answer.
pub type Match = NeedleHit;
