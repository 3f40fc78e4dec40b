//! Test results as other programs write them: JUnit XML, TAP and subunit, read into one list of [`TestCase`]s.
//!
//! The bytes come from jobs and may be anything. A parser never fails: what it could read is in the report, and
//! whatever it could not is a [`Problem`] with its place. A stream that ends too early keeps every test it had, and
//! the test it was in is [`TestStatus::Running`].

mod collect;
mod junit;
mod subunit;
mod subunit_v1;
mod subunit_v2;
mod tap;

pub use junit::junit;
use serde::{Deserialize, Serialize};
pub use subunit_v1::subunit_v1;
pub use subunit_v2::subunit_v2;
pub use tap::tap;

/// More than this many bytes of one file are not read.
pub const MAX_BYTES: usize = 64 << 20;

/// A format of test results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// JUnit XML in any of its dialects.
    Junit,
    /// Test Anything Protocol, versions 12 to 14.
    Tap,
    /// subunit version 1, lines of text.
    SubunitV1,
    /// subunit version 2, binary packets.
    SubunitV2,
}

/// What a file of results says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What it was read as.
    pub format: Format,
    /// The tests in the order in which they began. A test that was run twice is there twice, unless the format itself
    /// names the tries.
    pub cases: Vec<TestCase>,
    /// Output that belongs to no test.
    pub logs: Vec<Log>,
    /// What could not be read, or does not add up. A report with problems may lack tests.
    pub problems: Vec<Problem>,
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestCase {
    /// Its name; a subunit id is kept whole.
    pub name: String,
    /// JUnit's class name, or the path of the suites or subtests around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classname: Option<String>,
    /// What became of it in the end.
    pub status: TestStatus,
    /// How long it took, microseconds, if the file says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_us: Option<u64>,
    /// One or a few lines for people: why it failed, or why it was skipped.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Excerpts of what it left behind: tracebacks, standard output, earlier tries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<Log>,
    /// subunit's tags, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// How often it was tried, where the format says so; else 1.
    pub attempts: u32,
}

/// What became of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestStatus {
    /// It passed.
    Passed,
    /// What it tests is wrong.
    Failed,
    /// It could not be carried out.
    Error,
    /// It was not run.
    Skipped,
    /// It failed, as was expected.
    ExpectedFailure,
    /// It passed although a failure was expected.
    UnexpectedSuccess,
    /// It began and never ended.
    Running,
}

/// An excerpt of a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// What it is, for example `traceback` or `system-out`.
    pub name: String,
    /// The text; of a long one the beginning and the end, with a line between them that says so.
    pub text: String,
    /// How many bytes were left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u64,
}

/// Something about a file that could not be read, or does not add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Where.
    pub at: Place,
    /// What, as a sentence without its full stop.
    pub what: String,
}

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// A line of a text, from 1.
    Line(u64),
    /// A byte of a binary file, from 0.
    Offset(u64),
}

/// How many tests became what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// See [`TestStatus::Passed`]; flaky ones are among them.
    pub passed: u32,
    /// Passed, but not in the first try.
    pub flaky: u32,
    /// See [`TestStatus::Failed`].
    pub failed: u32,
    /// See [`TestStatus::Error`].
    pub error: u32,
    /// See [`TestStatus::Skipped`].
    pub skipped: u32,
    /// See [`TestStatus::ExpectedFailure`].
    pub expected_failure: u32,
    /// See [`TestStatus::UnexpectedSuccess`].
    pub unexpected_success: u32,
    /// See [`TestStatus::Running`].
    pub running: u32,
}

/// Reads `bytes` as that format.
pub fn parse(format: Format, bytes: &[u8]) -> Report {
    match format {
        Format::Junit => junit(bytes),
        Format::Tap => tap(bytes),
        Format::SubunitV1 => subunit_v1(bytes),
        Format::SubunitV2 => subunit_v2(bytes),
    }
}

/// The format of a file, by its name and its first bytes (a few thousand are enough). `None` if it does not look like
/// results; a compressed file has to be unpacked before.
pub fn detect(file_name: &str, first: &[u8]) -> Option<Format> {
    let first = &first[..first.len().min(8192)];
    let extension = file_name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    let text = String::from_utf8_lossy(first);
    match extension.as_deref() {
        Some("xml") => return looks_like_junit(&text).then_some(Format::Junit),
        Some("tap") => return Some(Format::Tap),
        _ => {}
    }
    // A packet may stand behind output.
    if subunit_v2::looks_like_packets(first) {
        return Some(Format::SubunitV2);
    }
    if looks_like_junit(&text) && text.trim_start_matches('\u{feff}').trim_start().starts_with('<') {
        return Some(Format::Junit);
    }
    // The last line may be cut off.
    let lines = || text.lines().take(200);
    let begins = |words: &[&str]| lines().any(|line| words.iter().any(|word| line.starts_with(word)));
    if extension.as_deref() == Some("subunit")
        || begins(&["test: ", "testing: "]) && !begins(&["ok ", "not ok "])
    {
        return Some(Format::SubunitV1);
    }
    let plan = lines().any(|line| {
        line.strip_prefix("1..").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    (begins(&["TAP version "]) || plan && begins(&["ok ", "not ok "])).then_some(Format::Tap)
}

fn looks_like_junit(text: &str) -> bool {
    // UTF-16 has a NUL after each letter.
    let text = text.replace('\0', "");
    ["<testsuite", "<testcase", "<testrun"].iter().any(|tag| text.contains(tag))
}

impl TestStatus {
    /// True if somebody should look at it. The result of the job is its exit code, not this.
    pub fn is_failure(self) -> bool {
        match self {
            Self::Failed | Self::Error | Self::UnexpectedSuccess | Self::Running => true,
            Self::Passed | Self::Skipped | Self::ExpectedFailure => false,
        }
    }

    /// The word for people and databases, the same as in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Error => "error",
            Self::Skipped => "skipped",
            Self::ExpectedFailure => "expected_failure",
            Self::UnexpectedSuccess => "unexpected_success",
            Self::Running => "running",
        }
    }
}

impl Report {
    /// Counts the tests by what became of them.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for case in &self.cases {
            match case.status {
                TestStatus::Passed => {
                    counts.passed += 1;
                    counts.flaky += u32::from(case.attempts > 1);
                }
                TestStatus::Failed => counts.failed += 1,
                TestStatus::Error => counts.error += 1,
                TestStatus::Skipped => counts.skipped += 1,
                TestStatus::ExpectedFailure => counts.expected_failure += 1,
                TestStatus::UnexpectedSuccess => counts.unexpected_success += 1,
                TestStatus::Running => counts.running += 1,
            }
        }
        counts
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.at {
            Place::Line(line) => write!(f, "line {line}: {}", self.what),
            Place::Offset(offset) => write!(f, "byte {offset}: {}", self.what),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
