//! What all parsers share: bounds on names, texts and numbers, so that no file makes a report that is too large.

use super::{Format, Log, MAX_BYTES, Place, Problem, Report, TestCase, TestStatus};

/// So many failing tests are kept, and so many others.
const MAX_CASES: usize = 100_000;
const MAX_PROBLEMS: usize = 100;
/// So many tests may wait for their end before they are put into a report; failing ones a few more.
const MAX_WAITING: usize = 3 * MAX_CASES;
pub(super) const MAX_TAGS: usize = 64;
const MAX_LOGS_OF_A_CASE: usize = 32;
const MAX_NAME: usize = 2048;
const MAX_MESSAGE: usize = 4096;
/// Bytes of one log of a failing test, of any other, and of all together.
const FAILING_LOG: usize = 32 << 10;
const OTHER_LOG: usize = 2 << 10;
const ALL_LOGS: usize = 16 << 20;
/// What a failing test may still say when all logs together are used up.
const LATE_LOG: usize = 512;

/// A test as a parser found it, its texts not yet cut.
#[derive(Debug)]
pub(super) struct RawCase {
    pub(super) name: String,
    pub(super) classname: Option<String>,
    pub(super) status: TestStatus,
    pub(super) duration_us: Option<u64>,
    pub(super) message: String,
    /// Name and text.
    pub(super) logs: Vec<(String, String)>,
    pub(super) tags: Vec<String>,
    pub(super) attempts: u32,
}

impl RawCase {
    /// A test that has begun.
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            classname: None,
            status: TestStatus::Running,
            duration_us: None,
            message: String::new(),
            logs: Vec::new(),
            tags: Vec::new(),
            attempts: 1,
        }
    }
}

/// Puts a report together within its bounds.
#[derive(Debug)]
pub(super) struct Collector {
    report: Report,
    failing: usize,
    left_out: usize,
    left_out_failing: usize,
    more_problems: usize,
    log_bytes: usize,
}

impl Collector {
    pub(super) fn new(format: Format) -> Self {
        let report = Report { format, cases: Vec::new(), logs: Vec::new(), problems: Vec::new() };
        Self { report, failing: 0, left_out: 0, left_out_failing: 0, more_problems: 0, log_bytes: 0 }
    }

    pub(super) fn problem(&mut self, at: Place, what: impl Into<String>) {
        if self.report.problems.len() < MAX_PROBLEMS {
            self.report.problems.push(Problem { at, what: line(&what.into(), MAX_MESSAGE) });
        } else {
            self.more_problems += 1;
        }
    }

    pub(super) fn case(&mut self, raw: RawCase) {
        let failing = raw.status.is_failure();
        let (have, left_out) = if failing {
            (self.failing, &mut self.left_out_failing)
        } else {
            (self.report.cases.len() - self.failing, &mut self.left_out)
        };
        if have >= MAX_CASES {
            *left_out += 1;
            return;
        }
        self.failing += usize::from(failing);
        let limit = if failing { FAILING_LOG } else { OTHER_LOG };
        let mut logs = Vec::new();
        for (name, text) in raw.logs.into_iter().take(MAX_LOGS_OF_A_CASE) {
            logs.extend(self.excerpt(&name, &text, limit, failing));
        }
        let mut tags: Vec<String> = raw.tags.iter().take(MAX_TAGS).map(|tag| line(tag, 256)).collect();
        tags.sort_unstable();
        tags.dedup();
        self.report.cases.push(TestCase {
            name: line(&raw.name, MAX_NAME),
            classname: raw.classname.filter(|class| !class.is_empty()).map(|class| line(&class, MAX_NAME)),
            status: raw.status,
            duration_us: raw.duration_us,
            message: cut(&clean(raw.message.trim()), MAX_MESSAGE).0,
            logs,
            tags,
            attempts: raw.attempts.max(1),
        });
    }

    /// False if there is no room to keep one more test beside those that wait already; it is counted.
    pub(super) fn room(&mut self, waiting: usize, failing: bool) -> bool {
        let room = waiting < if failing { MAX_WAITING + MAX_CASES } else { MAX_WAITING };
        match failing {
            _ if room => {}
            true => self.left_out_failing += 1,
            false => self.left_out += 1,
        }
        room
    }

    /// Output that belongs to no test.
    pub(super) fn log(&mut self, name: &str, text: &str) {
        if self.report.logs.len() < MAX_LOGS_OF_A_CASE {
            let log = self.excerpt(name, text, FAILING_LOG, false);
            self.report.logs.extend(log);
        }
    }

    fn excerpt(&mut self, name: &str, text: &str, limit: usize, failing: bool) -> Option<Log> {
        let text = text.trim_end();
        if text.trim_start().is_empty() {
            return None;
        }
        let left = ALL_LOGS.saturating_sub(self.log_bytes);
        let limit = limit.min(left).max(if failing { LATE_LOG } else { 0 });
        let (text, omitted) = cut(&clean(text), limit);
        self.log_bytes += text.len();
        Some(Log { name: line(name, 256), text, omitted })
    }

    /// The report, with a problem for whatever did not fit; `end` is the end of the file.
    pub(super) fn finish(mut self, end: Place) -> Report {
        let (failing, other, problems) = (self.left_out_failing, self.left_out, self.more_problems);
        let mut say = |count: usize, what: &str| {
            if count > 0 {
                self.report.problems.push(Problem { at: end, what: format!("{count} more {what}") });
            }
        };
        say(failing, "failing tests are left out, the report is full");
        say(other, "tests are left out, the report is full");
        say(problems, "problems");
        self.report
    }
}

/// The part of a file that is read, with a problem if that is not all of it.
pub(super) fn bounded<'a>(bytes: &'a [u8], out: &mut Collector) -> &'a [u8] {
    if bytes.len() <= MAX_BYTES {
        return bytes;
    }
    let what =
        format!("the file has {} bytes; what is behind the first {MAX_BYTES} is not read", bytes.len());
    let start = &bytes[..MAX_BYTES];
    let at = if out.report.format == Format::SubunitV2 {
        Place::Offset(MAX_BYTES as u64)
    } else {
        Place::Line(1 + newlines(start))
    };
    out.problem(at, what);
    start
}

/// How many lines end in `bytes`.
pub(super) fn newlines(bytes: &[u8]) -> u64 {
    bytes.split(|byte| *byte == b'\n').count() as u64 - 1
}

/// `text` or, if it is longer than `limit` bytes, its beginning and end; and how many bytes are missing.
fn cut(text: &str, limit: usize) -> (String, u64) {
    if text.len() <= limit {
        return (text.to_owned(), 0);
    }
    // What went wrong stands at the end more often than at the beginning.
    let head = &text[..text.floor_char_boundary(limit / 4)];
    let tail = &text[text.ceil_char_boundary(text.len() - (limit - limit / 4))..];
    let omitted = text.len() - head.len() - tail.len();
    (format!("{head}\n[{omitted} bytes left out]\n{tail}"), omitted as u64)
}

/// One line of at most `limit` bytes.
fn line(text: &str, limit: usize) -> String {
    let end = text.floor_char_boundary(limit);
    let mut line: String = text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if end < text.len() {
        line.push('…');
    }
    line
}

/// Without NUL, which PostgreSQL does not take in a text.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Seconds as text, in any of the notations that are in use, as microseconds.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let plain = match (text.rfind(','), text.rfind('.')) {
        (None, _) => text.to_owned(),
        // 1,234.5
        (Some(comma), Some(dot)) if comma < dot => text.replace(',', ""),
        // 1.234,5
        (Some(_), Some(_)) => text.replace('.', "").replace(',', "."),
        // 1,234,567 has groups; a single comma is a decimal comma far more often than whole thousands.
        (Some(_), None) if text.matches(',').count() > 1 => text.replace(',', ""),
        (Some(_), None) => text.replace(',', "."),
    };
    let seconds: f64 = plain.parse().ok()?;
    // A year and more is a broken clock.
    (seconds.is_finite() && (0.0..=31_622_400.0).contains(&seconds)).then(|| (seconds * 1e6).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_all_notations() {
        for (text, want) in [
            ("0.005", Some(5_000)),
            ("1,234.5", Some(1_234_500_000)),
            ("1.234,5", Some(1_234_500_000)),
            ("0,123", Some(123_000)),
            ("1,234,567", Some(1_234_567_000_000)),
            ("1e-3", Some(1_000)),
            (" 7 ", Some(7_000_000)),
            ("", None),
            ("-1", None),
            ("NaN", None),
            ("inf", None),
            ("1e300", None),
        ] {
            assert_eq!(seconds(text), want, "{text}");
        }
    }

    #[test]
    fn long_texts_keep_both_ends() {
        let (text, omitted) = cut(&format!("{}ü{}", "a".repeat(30), "b".repeat(30)), 20);
        assert_eq!((text.as_str(), omitted), ("aaaaa\n[42 bytes left out]\nbbbbbbbbbbbbbbb", 42));
        assert_eq!(line(&"ü".repeat(4), 5), "üü…");
        assert_eq!(line("a\nb\0c", 99), "a b c");
    }

    #[test]
    fn a_full_report_still_takes_failing_tests() {
        let mut out = Collector::new(Format::Tap);
        for number in 0..MAX_CASES + 5 {
            let mut case = RawCase::new(number.to_string());
            case.status = TestStatus::Passed;
            out.case(case);
        }
        out.case(RawCase::new("last".into()));
        let report = out.finish(Place::Line(9));
        assert_eq!(report.cases.last().map(|case| case.name.as_str()), Some("last"));
        assert_eq!(report.problems[0].to_string(), "line 9: 5 more tests are left out, the report is full");
    }
}
