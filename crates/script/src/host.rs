//! The other side of a test: whoever drives the machine.

use assay_proto::driver::{Call, CallError, Source};
use serde_json::Value;
use std::time::Duration;

/// Answers the calls of a test. The executor implements it; the test runs on the thread that calls
/// [`crate::Suite::run`], so every method may block.
pub trait Host {
    /// Does what the test asks. The answer's shape is written at each variant of
    /// [`assay_proto::driver::Request`].
    fn call(&mut self, call: Call) -> Result<Value, CallError>;

    /// Why the run must end now, if it must. Asked often while the test computes or keeps silent.
    fn cancelled(&self) -> Option<CallError>;

    /// Time since the run began; never goes back.
    fn clock(&self) -> Duration;
}

/// Which function of a test module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// `run`.
    Run,
    /// `post_fail`.
    PostFail,
}

impl Function {
    /// As it is written in a test module.
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::PostFail => "post_fail",
        }
    }
}

/// Whose fault it is that a test function did not return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestErrorKind {
    /// An expectation did not hold.
    Failed,
    /// The test itself is wrong: an error of its code, an endless loop, a call with impossible arguments.
    TestBug,
}

/// Why a test function did not return.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The test failed, or is wrong.
    #[error("{message}")]
    Test {
        /// One sentence.
        message: String,
        /// The line of the test that was being executed.
        source_line: Option<Source>,
        /// Call stack with source lines, for people.
        backtrace: String,
        /// Which of the two.
        kind: TestErrorKind,
    },
    /// The host ended the run: it was cancelled, or the machine failed.
    #[error("{error}")]
    Call {
        /// The host's reason.
        error: CallError,
        /// Call stack with source lines, for people.
        backtrace: String,
    },
    /// The program that runs an external test could not be started or broke the protocol.
    #[error("{message}")]
    Driver {
        /// One sentence with the remedy.
        message: String,
        /// The last lines that the program wrote to its standard error.
        backtrace: String,
    },
}

/// Bounds on what a Starlark test may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Time without a call to the machine.
    pub compute: Duration,
    /// Bytes on the Starlark heap, looked at before each statement and once in a thousand turns of a loop.
    ///
    /// These bounds catch mistakes. They do not hold against malice: a single operation (`a * 1000000000`) can take
    /// more before anybody looks, and writing values that are nested a hundred thousand deep exceeds the stack, which
    /// ends the process. Who runs tests of strangers runs [`crate::Suite::run`] in a process of its own.
    pub heap: usize,
    /// Nested calls. The thread needs about 16 KiB of stack for each (debug build).
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { compute: Duration::from_secs(30), heap: 256 << 20, depth: 60 }
    }
}
