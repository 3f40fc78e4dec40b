//! Test Anything Protocol, versions 12 to 14, and what Perl, node, kselftest and others make of it.
//!
//! Subtests are cases of their own, with the path of the tests around them as class name; the test that sums them up
//! is a case too.

use std::collections::BTreeSet;

use super::collect::{Collector, RawCase, bounded, seconds};
use super::{Format, Place, Report, TestStatus};

const MAX_DEPTH: usize = 16;
/// Bytes of diagnostics that are kept of one test while it is read.
const MAX_DIAGNOSTICS: usize = 256 << 10;

/// Reads a TAP stream.
pub fn tap(bytes: &[u8]) -> Report {
    let mut parser = Parser {
        out: Collector::new(Format::Tap),
        levels: vec![Level::new(0, None)],
        yaml: None,
        output: String::new(),
        line: 0,
        seen: false,
    };
    let bytes = bounded(bytes, &mut parser.out);
    let text = String::from_utf8_lossy(bytes);
    for line in text.lines() {
        parser.line += 1;
        parser.take(line);
    }
    parser.end(text.is_empty() || text.ends_with('\n'))
}

struct Parser {
    out: Collector,
    /// Never empty; the first is the outermost.
    levels: Vec<Level>,
    yaml: Option<Yaml>,
    /// Lines that are not TAP.
    output: String,
    line: u64,
    /// Any line was TAP.
    seen: bool,
}

/// The lines of one indentation between two test points of the one around it.
struct Level {
    indent: usize,
    /// What a `# Subtest: …` comment before it said.
    announced: Option<String>,
    /// A `# Subtest: …` comment of the level below.
    next: Option<String>,
    /// The plan `1..N`, and where it was.
    plan: Option<(u64, Place)>,
    /// Numbers of test points, as far as they count up from one.
    last: u64,
    /// Numbers that did not come in order.
    others: BTreeSet<u64>,
    /// Finished cases; those of subtests wait here for the name of the test around them.
    cases: Vec<RawCase>,
    bailed: bool,
}

impl Level {
    fn new(indent: usize, announced: Option<String>) -> Self {
        Self {
            indent,
            announced,
            next: None,
            plan: None,
            last: 0,
            others: BTreeSet::new(),
            cases: Vec::new(),
            bailed: false,
        }
    }
}

/// A YAML block of a test point.
struct Yaml {
    indent: usize,
    text: String,
    started: Place,
}

/// A line without its indentation.
enum Line<'a> {
    Version,
    Plan(u64, &'a str),
    Point(Point<'a>),
    Comment(&'a str),
    BailOut(&'a str),
    Pragma,
    Other,
}

/// `not ok 3 - description # TODO reason`.
struct Point<'a> {
    ok: bool,
    number: Option<u64>,
    description: String,
    directive: Option<(Directive, &'a str)>,
    /// node-tap's `# time=12.5ms`.
    duration_us: Option<u64>,
}

#[derive(Clone, Copy)]
enum Directive {
    Skip,
    Todo,
}

impl Parser {
    fn here(&self) -> Place {
        Place::Line(self.line)
    }

    fn take(&mut self, raw: &str) {
        let trimmed = raw.trim_start_matches([' ', '\t']);
        let indent = raw.len() - trimmed.len();
        if self.take_yaml(raw, trimmed, indent) {
            return;
        }
        let line = parse(trimmed);
        if matches!(line, Line::Other) {
            if let Some(top) = self.levels.last()
                && trimmed.trim_end() == "---"
                && indent > top.indent
                && !top.cases.is_empty()
            {
                self.yaml = Some(Yaml { indent, text: String::new(), started: self.here() });
            } else if self.output.len() < MAX_DIAGNOSTICS {
                self.output.push_str(raw);
                self.output.push('\n');
            }
            return;
        }
        self.seen = true;
        self.go_to(indent, &line);
        match line {
            Line::Version | Line::Pragma | Line::Other => {}
            Line::Plan(count, rest) => self.plan(count, rest),
            Line::Point(point) => self.point(point),
            Line::Comment(text) => self.comment(text),
            Line::BailOut(reason) => {
                let here = self.here();
                for level in &mut self.levels {
                    level.bailed = true;
                }
                self.out.problem(here, format!("the run was given up: {}", reason.trim()));
            }
        }
    }

    /// True if the line is part of a YAML block.
    fn take_yaml(&mut self, raw: &str, trimmed: &str, indent: usize) -> bool {
        let Some(yaml) = &mut self.yaml else { return false };
        if trimmed.trim_end() == "..." && indent <= yaml.indent {
            self.close_yaml();
            return true;
        }
        if indent < yaml.indent && !trimmed.is_empty() {
            // Test points must not vanish in a block that nobody closed.
            let started = yaml.started;
            self.close_yaml();
            self.out.problem(started, "this YAML block has no end");
            return false;
        }
        if yaml.text.len() < MAX_DIAGNOSTICS {
            yaml.text.push_str(raw.get(yaml.indent..).unwrap_or_default());
            yaml.text.push('\n');
        }
        true
    }

    fn close_yaml(&mut self) {
        let Some(yaml) = self.yaml.take() else { return };
        let Some(case) = self.levels.last_mut().and_then(|level| level.cases.last_mut()) else { return };
        let value = |key: &str| {
            let line = yaml.text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            let line = line.trim().trim_matches(['"', '\'']);
            (!line.is_empty() && !line.starts_with(['|', '>'])).then(|| line.to_owned())
        };
        if let Some(message) = value("message").or_else(|| value("error")).filter(|_| case.message.is_empty())
        {
            case.message = message;
        }
        if case.duration_us.is_none() {
            case.duration_us = value("duration_ms").and_then(|text| milliseconds(&text));
        }
        case.logs.push(("yaml".into(), yaml.text));
    }

    /// Opens or keeps the level of this indentation. A level ends with the test point that sums it up.
    fn go_to(&mut self, indent: usize, line: &Line<'_>) {
        let Some(top) = self.levels.last() else { return };
        if indent > top.indent {
            // Comments are indented as their writers like.
            if !matches!(line, Line::Comment(text) if !text.trim_start().starts_with("Subtest"))
                && self.levels.len() < MAX_DEPTH
            {
                let announced = self.levels.last_mut().and_then(|level| level.next.take());
                self.levels.push(Level::new(indent, announced));
            }
        } else if indent < top.indent && !matches!(line, Line::Comment(_)) {
            let name = if let Line::Point(point) = line { Some(point.description.clone()) } else { None };
            while self.levels.len() > 1 && self.levels.last().is_some_and(|level| level.indent > indent) {
                self.close_level(name.as_deref());
            }
        }
        // Several streams one after the other count anew.
        if matches!(line, Line::Version) && self.levels.len() == 1 {
            self.end_stream();
            self.levels.push(Level::new(0, None));
        }
    }

    /// The innermost level ends; its cases go to the one around it, under the name of the test they are part of.
    fn close_level(&mut self, name: Option<&str>) {
        let Some(level) = self.levels.pop() else { return };
        self.check_plan(&level);
        let name = match (name, &level.announced) {
            (Some(name), _) if !name.is_empty() => name,
            (_, Some(announced)) => announced,
            _ => "subtest",
        };
        let Some(parent) = self.levels.last_mut() else { return };
        // Names are bounded here, since each level puts its own before those of the levels within.
        let name: String = name.chars().take(100).collect();
        for mut case in level.cases {
            case.classname = Some(match case.classname {
                Some(inner) => format!("{name} / {inner}"),
                None => name.clone(),
            });
            parent.cases.push(case);
        }
    }

    fn plan(&mut self, count: u64, rest: &str) {
        let here = self.here();
        let Some(level) = self.levels.last_mut() else { return };
        if level.plan.is_some() {
            self.out.problem(here, "there is a second plan");
            return;
        }
        level.plan = Some((count, here));
        if let (0, Some((Directive::Skip, reason))) = (count, split_directive(rest).1) {
            self.out.log("plan", &format!("all tests were skipped: {}", reason.trim()));
        }
    }

    fn point(&mut self, point: Point<'_>) {
        let here = self.here();
        let Some(level) = self.levels.last_mut() else { return };
        let number = point.number.unwrap_or(level.last + 1);
        let twice = number <= level.last || level.others.contains(&number);
        if number == level.last + 1 {
            level.last = number;
            while level.others.remove(&(level.last + 1)) {
                level.last += 1;
            }
        } else if !twice {
            level.others.insert(number);
        }
        if twice {
            self.out.problem(here, format!("test {number} is there twice"));
        } else if let Some((count, _)) = level.plan
            && number > count
        {
            self.out.problem(here, format!("test {number} is beyond the plan 1..{count}"));
        }
        let name = if point.description.is_empty() { format!("test {number}") } else { point.description };
        let waiting = self.levels.iter().map(|level| level.cases.len()).sum();
        if !self.out.room(waiting, !point.ok) {
            return;
        }
        let mut case = RawCase::new(name);
        case.duration_us = point.duration_us;
        case.status = match (point.directive, point.ok) {
            (None, true) => TestStatus::Passed,
            (None, false) => TestStatus::Failed,
            (Some((Directive::Skip, _)), _) => TestStatus::Skipped,
            (Some((Directive::Todo, _)), true) => TestStatus::UnexpectedSuccess,
            (Some((Directive::Todo, _)), false) => TestStatus::ExpectedFailure,
        };
        if let Some((_, reason)) = point.directive {
            reason.trim().clone_into(&mut case.message);
        }
        if let Some(level) = self.levels.last_mut() {
            level.next = None;
            level.cases.push(case);
        }
        if self.levels.len() == 1 {
            self.flush(1);
        }
    }

    /// Gives the outermost cases away, except for the last `keep`, to which more lines may belong.
    fn flush(&mut self, keep: usize) {
        let Some(level) = self.levels.first_mut() else { return };
        let count = level.cases.len().saturating_sub(keep);
        for case in level.cases.drain(..count) {
            self.out.case(case);
        }
    }

    fn comment(&mut self, text: &str) {
        let Some(level) = self.levels.last_mut() else { return };
        if let Some(name) = text.trim().strip_prefix("Subtest") {
            let name = name.trim_start_matches(':').trim().to_owned();
            // Within the subtest's own indentation, or before it at that of the test around it.
            if level.cases.is_empty() && level.indent > 0 && level.announced.is_none() && level.plan.is_none()
            {
                level.announced = Some(name);
            } else {
                level.next = Some(name);
            }
            return;
        }
        let Some(case) = level.cases.last_mut() else { return };
        if case.status.is_failure() && case.message.is_empty() && !text.trim().is_empty() {
            text.trim().clone_into(&mut case.message);
        }
        match case.logs.last_mut() {
            Some((name, log)) if name == "diagnostics" => {
                if log.len() < MAX_DIAGNOSTICS {
                    log.push_str(text);
                    log.push('\n');
                }
            }
            _ => case.logs.push(("diagnostics".into(), format!("{text}\n"))),
        }
    }

    fn check_plan(&mut self, level: &Level) {
        let seen = level.last + level.others.len() as u64;
        let here = self.here();
        let of = level.announced.as_ref().map(|name| format!(" of subtest `{name}`")).unwrap_or_default();
        match level.plan {
            None if seen > 0 && !level.bailed => {
                self.out.problem(here, format!("there is no plan{of}; tests may be missing"));
            }
            Some((count, at)) if seen < count => {
                let missing = missing(level, count);
                self.out.problem(at, format!("the plan{of} is 1..{count}; {missing} never came"));
            }
            Some((count, at)) if level.last.max(level.others.last().copied().unwrap_or(0)) > count => {
                self.out.problem(at, format!("the plan{of} is 1..{count}; there are {seen} tests"));
            }
            _ => {}
        }
    }

    /// The outermost level ends.
    fn end_stream(&mut self) {
        self.flush(0);
        if let Some(level) = self.levels.pop() {
            self.check_plan(&level);
        }
    }

    fn end(mut self, whole_line: bool) -> Report {
        let here = self.here();
        if self.yaml.is_some() {
            self.close_yaml();
            self.out.problem(here, "the stream ends within a YAML block");
        }
        while self.levels.len() > 1 {
            let name = self.levels.last().and_then(|level| level.announced.clone());
            let what = format!("subtest `{}` never ended", name.unwrap_or_default());
            self.out.problem(here, what);
            self.close_level(None);
        }
        self.end_stream();
        if !whole_line {
            self.out.problem(here, "the last line has no end; the stream may be cut off");
        }
        if !self.seen {
            self.out.problem(here, "there is no TAP in it");
        }
        let output = std::mem::take(&mut self.output);
        self.out.log("output", &output);
        self.out.finish(here)
    }
}

/// `tests 3, 5-9`, the first few gaps.
fn missing(level: &Level, count: u64) -> String {
    let mut gaps = Vec::new();
    let mut next = level.last + 1;
    for number in level.others.iter().copied().filter(|number| *number <= count).chain([count + 1]) {
        if number > next {
            gaps.push(if number == next + 1 { next.to_string() } else { format!("{next}-{}", number - 1) });
        }
        next = number + 1;
    }
    let more = if gaps.len() > 20 { " and more" } else { "" };
    format!("tests {}{more}", gaps[..gaps.len().min(20)].join(", "))
}

fn parse(line: &str) -> Line<'_> {
    let line = line.trim_end();
    if let Some(text) = line.strip_prefix('#') {
        return Line::Comment(text);
    }
    if line.starts_with("TAP version ") {
        return Line::Version;
    }
    if line.starts_with("pragma ") {
        return Line::Pragma;
    }
    if let Some(rest) = line.get(..9).filter(|word| word.eq_ignore_ascii_case("bail out!")) {
        return Line::BailOut(&line[rest.len()..]);
    }
    if let Some(rest) = line.strip_prefix("1..") {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let tail = &rest[digits..];
        if digits > 0 && (tail.trim().is_empty() || tail.trim_start().starts_with('#')) {
            return match rest[..digits].parse::<u32>() {
                Ok(count) => Line::Plan(count.into(), tail),
                Err(_) => Line::Other,
            };
        }
    }
    let (ok, rest) = match (line.strip_prefix("ok"), line.strip_prefix("not ok")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return Line::Other,
    };
    // `okay` is output.
    if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
        return Line::Other;
    }
    Line::Point(point(ok, rest.trim_start()))
}

fn point(ok: bool, rest: &str) -> Point<'_> {
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let ends = rest[digits..].is_empty() || rest[digits..].starts_with([' ', '\t', '#']);
    let number = rest[..digits].parse::<u32>().ok().filter(|_| ends).map(u64::from);
    let rest = if number.is_some() { &rest[digits..] } else { rest };
    let rest = rest.trim();
    let rest = rest.strip_prefix("- ").or(if rest == "-" { Some("") } else { None }).unwrap_or(rest);
    let (mut description, directive) = split_directive(rest);
    let mut duration_us = None;
    if let Some((before, time)) = description.rsplit_once("# time=") {
        duration_us = duration(time.trim());
        if duration_us.is_some() {
            description = before;
        }
    }
    // An opened brace begins a subtest in node-tap's buffered form.
    let description = description.trim().trim_end_matches(" {").replace("\\#", "#").replace("\\\\", "\\");
    Point { ok, number, description, directive, duration_us }
}

/// The text before a `# SKIP` or `# TODO`, and the directive with its reason.
fn split_directive(text: &str) -> (&str, Option<(Directive, &str)>) {
    for (at, _) in text.match_indices('#') {
        // An odd number of backslashes escapes it.
        let escapes = text[..at].bytes().rev().take_while(|byte| *byte == b'\\').count();
        if escapes % 2 == 1 {
            continue;
        }
        let after = text[at + 1..].trim_start();
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let word = after[..letters].to_ascii_lowercase();
        let directive = match word.as_str() {
            "skip" | "skipped" | "skipping" => Directive::Skip,
            "todo" => Directive::Todo,
            _ => continue,
        };
        return (&text[..at], Some((directive, after[letters..].trim_start_matches(':'))));
    }
    (text, None)
}

/// `12.5ms`, `3s`.
fn duration(text: &str) -> Option<u64> {
    match text.strip_suffix("ms") {
        Some(number) => milliseconds(number),
        None => seconds(text.strip_suffix('s').unwrap_or(text)),
    }
}

fn milliseconds(text: &str) -> Option<u64> {
    Some(seconds(text)? / 1000)
}
