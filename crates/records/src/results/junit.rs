//! JUnit XML. There is no standard; this reads what pytest, Maven Surefire, Gradle, GoogleTest, cargo-nextest,
//! gotestsum and their kin write.
//!
//! Nothing is ever expanded or fetched: an entity that a document declares stays as it is written. Wrong nesting is
//! put right, and behind a place that is not XML at all reading goes on with the next test.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::collect::{Collector, RawCase, bounded, newlines, seconds};
use super::{Format, Place, Report, TestStatus};

/// No writer nests deeper than a few suites.
const MAX_DEPTH: usize = 200;
/// So often reading goes on behind something that is not XML.
const MAX_RESTARTS: usize = 16;

/// Reads a JUnit file.
pub fn junit(bytes: &[u8]) -> Report {
    let mut out = Collector::new(Format::Junit);
    let bytes = bounded(bytes, &mut out);
    let text = decode(bytes, &mut out);
    let mut parser = Parser {
        out,
        stack: Vec::new(),
        case: None,
        lines: Lines { text: &text, offset: 0, line: 1 },
        tally: Tally::default(),
    };
    parser.document(&text);
    let end = parser.lines.at(text.len());
    parser.close_all(end);
    if parser.tally.elements == 0 && parser.tally.cases == 0 {
        parser.out.problem(end, "there is no <testsuite> or <testcase> in it");
    }
    parser.out.finish(end)
}

struct Parser<'t> {
    out: Collector,
    stack: Vec<Open>,
    case: Option<Case>,
    lines: Lines<'t>,
    tally: Tally,
}

/// What has been found so far.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    /// Suites.
    elements: u64,
    cases: u64,
    /// `failure` and `error` elements.
    bad: u64,
}

/// An element that has not ended yet.
struct Open {
    name: String,
    line: Place,
    kind: Kind,
}

enum Kind {
    Suite { name: String, declared: u64, declared_bad: u64, before: Tally },
    Case,
    Outcome { outcome: Outcome, text: String },
    Output(String),
    Other,
}

/// What an element within a test says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Failure,
    Error,
    Skipped,
    /// An earlier try of a test that passed in the end.
    Flaky,
    /// A further try of a test that failed in the end.
    Rerun,
}

/// The test that is being read.
struct Case {
    raw: RawCase,
    /// The worst that an element said.
    outcome: Option<TestStatus>,
    /// What the attributes `status` and `result` say; elements count more.
    attribute: Option<TestStatus>,
    /// What the earlier tries of a flaky test said.
    earlier: String,
}

impl Parser<'_> {
    fn document(&mut self, text: &str) {
        let mut base = 0;
        for _ in 0..MAX_RESTARTS {
            let Some(broken) = self.read(text, base) else { return };
            let from = text.ceil_char_boundary(broken.max(base) + 1);
            let Some(next) =
                ["<testcase", "<testsuite"].iter().filter_map(|tag| text[from..].find(tag)).min()
            else {
                return;
            };
            base = from + next;
        }
        let at = self.lines.at(base);
        self.out.problem(at, "too much of it is not XML; the rest is not read");
    }

    /// Reads on from `base`; gives the place that is not XML, if there is one.
    fn read(&mut self, text: &str, base: usize) -> Option<usize> {
        let mut reader = Reader::from_str(&text[base..]);
        let config = reader.config_mut();
        config.allow_dangling_amp = true;
        config.allow_unmatched_ends = true;
        config.check_end_names = false;
        config.expand_empty_elements = true;
        loop {
            let offset = base + reader.buffer_position() as usize;
            match reader.read_event() {
                Ok(Event::Eof) => return None,
                Ok(Event::Start(start)) => {
                    let at = self.lines.at(offset);
                    if self.stack.len() >= MAX_DEPTH {
                        self.out.problem(
                            at,
                            format!("elements are nested more than {MAX_DEPTH} deep; the rest is not read"),
                        );
                        return None;
                    }
                    self.start(&start, at);
                }
                Ok(Event::End(end)) => {
                    let at = self.lines.at(offset);
                    self.end(end.local_name().as_ref(), at);
                }
                Ok(Event::Text(part)) => self.text(&part.into_inner()),
                Ok(Event::CData(part)) => self.text(&part.into_inner()),
                Ok(Event::GeneralRef(name)) => self.text(&unescape(&format!("&{};", name.into_inner()))),
                Ok(Event::DocType(doctype)) => {
                    if doctype.contains("<!ENTITY") {
                        let at = self.lines.at(offset);
                        self.out.problem(at, "it declares entities; they are not expanded");
                    }
                }
                // `expand_empty_elements` makes two events of an empty one.
                Ok(Event::Empty(_) | Event::Decl(_) | Event::PI(_) | Event::Comment(_)) => {}
                Err(error) => {
                    let broken = base + reader.error_position() as usize;
                    let at = self.lines.at(offset);
                    self.out.problem(at, format!("this is not XML: {error}"));
                    return Some(broken.max(offset));
                }
            }
        }
    }

    fn start(&mut self, element: &BytesStart<'_>, line: Place) {
        let name = element.local_name().as_ref().to_owned();
        let attributes = Attributes::of(element);
        if attributes.broken {
            self.out.problem(line, format!("not all attributes of <{name}> can be read"));
        }
        let kind = match name.as_str() {
            "testsuite" | "testsuites" | "testrun" => {
                // A suite within a test: the end of the test is missing.
                self.finish_case(false);
                self.tally.elements += 1;
                Kind::Suite {
                    // It becomes part of the class name of every test in it.
                    name: attributes.text("name").chars().take(200).collect(),
                    declared: attributes.number("tests"),
                    declared_bad: attributes.number("failures") + attributes.number("errors"),
                    before: self.tally,
                }
            }
            "testcase" => {
                self.finish_case(false);
                self.tally.cases += 1;
                self.case = Some(self.begin_case(&attributes));
                Kind::Case
            }
            "failure" => self.outcome(Outcome::Failure, &attributes),
            "error" => self.outcome(Outcome::Error, &attributes),
            "skipped" | "skip" | "ignored" | "disabled" => self.outcome(Outcome::Skipped, &attributes),
            "flakyFailure" | "flakyError" => self.outcome(Outcome::Flaky, &attributes),
            "rerunFailure" | "rerunError" => self.outcome(Outcome::Rerun, &attributes),
            "system-out" | "system-err" => Kind::Output(String::new()),
            _ => Kind::Other,
        };
        self.stack.push(Open { name, line, kind });
    }

    fn begin_case(&self, attributes: &Attributes) -> Case {
        let mut raw = RawCase::new(attributes.text("name"));
        let class = ["classname", "className", "class"].iter().find_map(|name| attributes.get(name));
        raw.classname = class.map_or_else(|| self.suite_path(), |class| Some(class.to_owned()));
        raw.duration_us = attributes.get("time").and_then(seconds);
        let word = |name| match attributes.text(name).to_ascii_lowercase().as_str() {
            "notrun" | "disabled" | "skipped" | "suppressed" | "ignored" => Some(TestStatus::Skipped),
            "failed" | "fail" | "failure" => Some(TestStatus::Failed),
            "error" => Some(TestStatus::Error),
            _ => None,
        };
        Case { raw, outcome: None, attribute: word("status").or(word("result")), earlier: String::new() }
    }

    /// An element that says what became of the test around it, or of the suite if there is none.
    fn outcome(&mut self, outcome: Outcome, attributes: &Attributes) -> Kind {
        self.tally.bad += u64::from(matches!(outcome, Outcome::Failure | Outcome::Error));
        if self.case.is_none() && self.innermost_suite().is_some() && outcome != Outcome::Skipped {
            let mut raw = RawCase::new(self.innermost_suite().unwrap_or_default().to_owned());
            raw.classname = self.suite_path();
            self.case = Some(Case { raw, outcome: None, attribute: None, earlier: String::new() });
        }
        let Some(case) = &mut self.case else { return Kind::Other };
        let kind = attributes.text("type");
        let message = attributes.get("message").filter(|message| !message.trim().is_empty()).unwrap_or(&kind);
        let status = match outcome {
            Outcome::Failure if message.starts_with("[XPASS(strict)]") => Some(TestStatus::UnexpectedSuccess),
            Outcome::Failure => Some(TestStatus::Failed),
            Outcome::Error => Some(TestStatus::Error),
            Outcome::Skipped if kind == "pytest.xfail" => Some(TestStatus::ExpectedFailure),
            Outcome::Skipped => Some(TestStatus::Skipped),
            Outcome::Flaky | Outcome::Rerun => None,
        };
        match outcome {
            Outcome::Flaky => {
                case.raw.attempts += 1;
                if case.earlier.is_empty() {
                    message.clone_into(&mut case.earlier);
                }
            }
            Outcome::Rerun => case.raw.attempts += 1,
            Outcome::Failure | Outcome::Error | Outcome::Skipped => {
                let worse = case.outcome.is_none_or(|have| badness(status) > badness(Some(have)));
                if worse {
                    case.outcome = status;
                    message.clone_into(&mut case.raw.message);
                }
            }
        }
        Kind::Outcome { outcome, text: String::new() }
    }

    fn text(&mut self, part: &str) {
        // The stackTrace of a rerunFailure is an element of its own.
        for open in self.stack.iter_mut().rev() {
            match &mut open.kind {
                Kind::Outcome { text, .. } | Kind::Output(text) => return text.push_str(part),
                Kind::Other => {}
                Kind::Case | Kind::Suite { .. } => return,
            }
        }
    }

    fn end(&mut self, name: &str, line: Place) {
        let Some(depth) = self.stack.iter().rposition(|open| open.name == name) else {
            self.out.problem(line, format!("</{name}> ends nothing"));
            return;
        };
        while self.stack.len() > depth {
            let Some(open) = self.stack.pop() else { return };
            if self.stack.len() > depth {
                self.out.problem(line, format!("<{}> does not end before </{name}>", open.name));
            }
            self.close(open, self.stack.len() == depth);
        }
    }

    fn close_all(&mut self, end: Place) {
        if let Some(open) = self.stack.last() {
            let what = format!("the file ends within <{}>; the rest is missing", open.name);
            self.out.problem(end, what);
        }
        while let Some(open) = self.stack.pop() {
            self.close(open, false);
        }
        self.finish_case(false);
    }

    fn close(&mut self, open: Open, properly: bool) {
        match open.kind {
            Kind::Suite { name, declared, declared_bad, before } => {
                self.finish_case(true);
                self.check_counts(&name, declared, declared_bad, before, open.line);
            }
            Kind::Case => self.finish_case(properly),
            Kind::Outcome { outcome, text } => self.close_outcome(&open.name, outcome, text),
            Kind::Output(text) => match &mut self.case {
                Some(case) => case.raw.logs.push((open.name, text)),
                None => self.out.log(&open.name, &text),
            },
            Kind::Other => {}
        }
    }

    fn close_outcome(&mut self, name: &str, outcome: Outcome, text: String) {
        let Some(case) = &mut self.case else { return };
        let first_line = || text.trim().lines().next().unwrap_or_default().to_owned();
        match outcome {
            Outcome::Flaky if case.earlier.is_empty() => case.earlier = first_line(),
            Outcome::Failure | Outcome::Error if case.raw.message.is_empty() => {
                case.raw.message = first_line();
            }
            Outcome::Skipped if case.raw.message.is_empty() => text.trim().clone_into(&mut case.raw.message),
            _ => {}
        }
        let skipped = outcome == Outcome::Skipped && text.trim() == case.raw.message;
        if !skipped {
            case.raw.logs.push((name.to_owned(), text));
        }
    }

    fn finish_case(&mut self, ended: bool) {
        let Some(mut case) = self.case.take() else { return };
        let status = case.outcome.or(case.attribute);
        case.raw.status = match status {
            Some(status) => status,
            None if ended => TestStatus::Passed,
            None => TestStatus::Running,
        };
        if case.raw.status == TestStatus::Passed && case.raw.attempts > 1 {
            case.raw.message = format!("passed in try {}; before: {}", case.raw.attempts, case.earlier);
        }
        self.out.case(case.raw);
    }

    /// A suite says how many tests it has. Fewer than that: some were lost on the way.
    fn check_counts(&mut self, name: &str, tests: u64, bad: u64, before: Tally, line: Place) {
        let found = self.tally.cases - before.cases;
        if found < tests {
            self.out
                .problem(line, format!("suite `{name}` says it has {tests} tests; {found} are in the file"));
        }
        let found = self.tally.bad - before.bad;
        if found < bad {
            let what =
                format!("suite `{name}` says it has {bad} failures and errors; {found} are in the file");
            self.out.problem(line, what);
        }
    }

    fn suites(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.stack.iter().filter_map(|open| match &open.kind {
            Kind::Suite { name, .. } if !name.is_empty() => Some(name.as_str()),
            _ => None,
        })
    }

    fn innermost_suite(&self) -> Option<&str> {
        self.suites().next_back()
    }

    fn suite_path(&self) -> Option<String> {
        // Nobody nests deeper; a path of hundreds before each of a million tests would be too much.
        let mut path: Vec<&str> = self.suites().rev().take(8).collect();
        path.reverse();
        (!path.is_empty()).then(|| path.join(" / "))
    }
}

fn badness(status: Option<TestStatus>) -> u8 {
    match status {
        Some(TestStatus::Failed) => 4,
        Some(TestStatus::Error) => 3,
        Some(TestStatus::UnexpectedSuccess) => 2,
        Some(_) => 1,
        None => 0,
    }
}

/// The attributes of an element, unescaped.
struct Attributes {
    pairs: Vec<(String, String)>,
    /// Some of them could not be read.
    broken: bool,
}

impl Attributes {
    fn of(element: &BytesStart<'_>) -> Self {
        let mut attributes = element.attributes();
        attributes.with_checks(false);
        let mut broken = false;
        let mut pairs = Vec::new();
        for attribute in attributes.take(64) {
            match attribute {
                Ok(pair) => pairs.push((pair.key.local_name().as_ref().to_owned(), unescape(&pair.value))),
                Err(_) => broken = true,
            }
        }
        Self { pairs, broken }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    fn number(&self, name: &str) -> u64 {
        // A declared number is only compared; what is no number declares nothing.
        self.get(name).and_then(|text| text.trim().parse::<u32>().ok()).unwrap_or(0).into()
    }
}

/// Replaces the five entities of XML and character references; anything else stays as it is written.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.as_bytes().iter().take(16).position(|byte| *byte == b';');
        let Some((end, c)) = end.and_then(|end| Some((end, character(&rest[1..end])?))) else {
            out.push('&');
            rest = &rest[1..];
            continue;
        };
        out.push(c);
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}

fn character(name: &str) -> Option<char> {
    match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            Some(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
        }
    }
}

/// Bytes as text: UTF-8, UTF-16 with a byte order mark, or Latin-1 if the declaration says so.
fn decode(bytes: &[u8], out: &mut Collector) -> String {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => return wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => return wide(rest, u16::from_be_bytes),
        _ => {}
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(error) => {
            let head = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).to_ascii_lowercase();
            if head.contains("iso-8859-1") || head.contains("windows-1252") || head.contains("us-ascii") {
                return bytes.iter().map(|byte| char::from(*byte)).collect();
            }
            let good = &bytes[..error.valid_up_to()];
            let line = 1 + newlines(good);
            out.problem(Place::Line(line), "this is not UTF-8; the bytes that are not are replaced");
            String::from_utf8_lossy(bytes).into_owned()
        }
    }
}

/// Line numbers of offsets, which mostly grow.
struct Lines<'t> {
    text: &'t str,
    offset: usize,
    line: u64,
}

impl Lines<'_> {
    fn at(&mut self, offset: usize) -> Place {
        let offset = offset.min(self.text.len());
        if offset < self.offset {
            (self.offset, self.line) = (0, 1);
        }
        let between = &self.text.as_bytes()[self.offset..offset];
        self.line += newlines(between);
        self.offset = offset;
        Place::Line(self.line)
    }
}
