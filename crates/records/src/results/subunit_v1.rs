//! subunit version 1: lines of text between other output, as older testrepository and many non-Python writers have it.

use std::collections::{BTreeSet, HashSet};

use super::collect::{Collector, MAX_TAGS, bounded, newlines};
use super::subunit::{Event, Signal, Tests};
use super::{Format, Place, Report, TestStatus};

/// Reads a stream of lines.
pub fn subunit_v1(bytes: &[u8]) -> Report {
    let mut tests = Tests::new(Collector::new(Format::SubunitV1));
    let bytes = bounded(bytes, &mut tests.out);
    let mut parser = Parser {
        tests,
        cursor: Cursor { rest: bytes, line: 0 },
        open: HashSet::new(),
        current: None,
        now_us: None,
        tags: BTreeSet::new(),
        local_tags: BTreeSet::new(),
        seen: false,
    };
    while let Some(line) = parser.cursor.line() {
        parser.take(line);
    }
    let end = parser.cursor.place();
    if !parser.seen {
        parser.tests.out.problem(end, "there is no subunit in it");
    }
    parser.tests.finish(end)
}

struct Parser<'a> {
    tests: Tests,
    cursor: Cursor<'a>,
    /// Tests that have begun and not ended.
    open: HashSet<&'a str>,
    /// The one that began last.
    current: Option<&'a str>,
    now_us: Option<i64>,
    tags: BTreeSet<&'a str>,
    /// Tags of the current test alone; `Err` for one that is taken away.
    local_tags: BTreeSet<Result<&'a str, &'a str>>,
    /// Any line was subunit.
    seen: bool,
}

/// How an outcome goes on behind its line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Details {
    None,
    Plain,
    Multipart,
}

impl<'a> Parser<'a> {
    fn take(&mut self, raw: &'a [u8]) {
        let understood = std::str::from_utf8(raw)
            .ok()
            .is_some_and(|line| self.directive(line.trim_end_matches(['\r', '\n'])));
        if understood {
            self.seen = true;
        } else {
            self.tests.output(raw);
        }
    }

    /// True if the line means something.
    fn directive(&mut self, line: &'a str) -> bool {
        let Some((word, rest)) = line.split_once([' ', '\t']) else { return false };
        match word {
            "test:" | "testing:" => self.begin(rest),
            "success:" | "successful:" | "success" | "successful" => {
                self.outcome(TestStatus::Passed, "message", word, rest)
            }
            "failure:" | "failure" => self.outcome(TestStatus::Failed, "traceback", word, rest),
            "error:" | "error" => self.outcome(TestStatus::Error, "traceback", word, rest),
            "skip:" | "skip" => self.outcome(TestStatus::Skipped, "reason", word, rest),
            "xfail:" | "xfail" => self.outcome(TestStatus::ExpectedFailure, "traceback", word, rest),
            "uxsuccess:" | "uxsuccess" => self.outcome(TestStatus::UnexpectedSuccess, "message", word, rest),
            "progress:" | "progress" => {
                let rest = rest.trim();
                matches!(rest, "push" | "pop") || rest.trim_start_matches(['+', '-']).parse::<u64>().is_ok()
            }
            "tags:" => {
                self.tag(rest);
                true
            }
            "time:" => match rest.trim().parse::<jiff::Timestamp>() {
                Ok(time) => {
                    self.now_us = Some(time.as_microsecond());
                    true
                }
                Err(_) => false,
            },
            _ => false,
        }
    }

    fn tag(&mut self, rest: &'a str) {
        for word in rest.split_whitespace().take(MAX_TAGS) {
            let tag = word.strip_prefix('-');
            match (self.current.is_some(), tag) {
                (true, Some(tag)) => {
                    self.local_tags.remove(&Ok(tag));
                    self.local_tags.insert(Err(tag));
                }
                (true, None) if self.local_tags.len() >= MAX_TAGS => {}
                (false, None) if self.tags.len() >= MAX_TAGS => {}
                (true, None) => {
                    self.local_tags.insert(Ok(word));
                }
                (false, Some(tag)) => {
                    self.tags.remove(tag);
                }
                (false, None) => {
                    self.tags.insert(word);
                }
            }
        }
    }

    fn begin(&mut self, id: &'a str) -> bool {
        if id.trim().is_empty() {
            return false;
        }
        // Another test may still be open: streams of several processes, or one that died within it.
        self.open.insert(id);
        self.current = Some(id);
        self.local_tags.clear();
        self.event(Event { test: Some(id), signal: Signal::Began, ..Event::default() });
        true
    }

    fn event(&mut self, event: Event<'_>) {
        let at = self.cursor.place();
        self.tests.event(&Event { at_us: self.now_us, ..event }, at);
    }

    fn outcome(&mut self, status: TestStatus, file: &str, word: &str, rest: &'a str) -> bool {
        let (id, details) = self.split(rest);
        if !self.open.remove(id) {
            // Output may look like an outcome; one with details of a failure does not do so by chance.
            let lost = status.is_failure() && details != Details::None && word.ends_with(':');
            if !lost {
                return false;
            }
            let at = self.cursor.place();
            self.tests.out.problem(at, format!("test `{id}` ends without having begun"));
        }
        let mut tags = self.tags.clone();
        if self.current == Some(id) {
            self.current = None;
            for tag in std::mem::take(&mut self.local_tags) {
                match tag {
                    Ok(tag) => tags.insert(tag),
                    Err(tag) => tags.remove(tag),
                };
            }
        }
        let tags = Some(tags.into_iter().collect());
        self.event(Event { test: Some(id), signal: Signal::Ended(status), tags, ..Event::default() });
        match details {
            Details::None => {}
            Details::Plain => self.plain(id, file),
            Details::Multipart => self.multipart(id),
        }
        true
    }

    /// The id of an outcome line. A test's own name may end in a bracket.
    fn split(&self, rest: &'a str) -> (&'a str, Details) {
        if self.open.contains(rest) {
            return (rest, Details::None);
        }
        if let Some(id) = rest.strip_suffix(" [ multipart") {
            return (id, Details::Multipart);
        }
        match rest.strip_suffix(" [") {
            Some(id) => (id, Details::Plain),
            None => (rest, Details::None),
        }
    }

    /// Lines up to a closing bracket; a bracket that belongs to the text has a space before it.
    fn plain(&mut self, id: &'a str, file: &str) {
        while let Some(line) = self.cursor.line() {
            match trim_line(line) {
                b"]" => return,
                b" ]" => self.event(attach(id, file, b"]\n", None)),
                _ => self.event(attach(id, file, line, None)),
            }
        }
        self.cut_off(id);
    }

    /// Parts, each a content type, a name and chunks with their lengths.
    fn multipart(&mut self, id: &'a str) {
        while let Some(line) = self.cursor.line() {
            let line = trim_line(line);
            if line == b"]" {
                return;
            }
            let mime = std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix("Content-Type:"));
            let name = self.cursor.line().map(|name| std::str::from_utf8(trim_line(name)));
            match (mime, name) {
                (Some(mime), Some(Ok(name))) => {
                    if !self.chunks(id, name, mime.trim()) {
                        return;
                    }
                }
                (_, None) => break,
                _ => {
                    let at = self.cursor.place();
                    self.tests.out.problem(at, format!("the details of test `{id}` cannot be read"));
                    return self.plain(id, "details");
                }
            }
        }
        self.cut_off(id);
    }

    /// False if the rest of the details is lost.
    fn chunks(&mut self, id: &'a str, name: &'a str, mime: &'a str) -> bool {
        loop {
            let Some(line) = self.cursor.line() else {
                self.cut_off(id);
                return false;
            };
            let length =
                std::str::from_utf8(trim_line(line)).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
            match length {
                Some(0) => return true,
                Some(length) => {
                    let part = self.cursor.bytes(length);
                    self.event(attach(id, name, part, Some(mime)));
                    if part.len() < length {
                        self.cut_off(id);
                        return false;
                    }
                }
                None => {
                    let at = self.cursor.place();
                    self.tests.out.problem(at, format!("the details of test `{id}` have a wrong length"));
                    self.plain(id, "details");
                    return false;
                }
            }
        }
    }

    fn cut_off(&mut self, id: &str) {
        let at = self.cursor.place();
        self.tests.out.problem(at, format!("the stream ends within the details of test `{id}`"));
    }
}

fn attach<'e>(id: &'e str, name: &'e str, bytes: &'e [u8], mime: Option<&'e str>) -> Event<'e> {
    Event { test: Some(id), file: Some((name, bytes)), mime, ..Event::default() }
}

fn trim_line(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

struct Cursor<'a> {
    rest: &'a [u8],
    /// Lines read so far.
    line: u64,
}

impl<'a> Cursor<'a> {
    /// The next line, with its end.
    fn line(&mut self) -> Option<&'a [u8]> {
        let line = self.rest.split_inclusive(|byte| *byte == b'\n').next()?;
        self.rest = &self.rest[line.len()..];
        self.line += 1;
        Some(line)
    }

    /// So many bytes, or what is left.
    fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (head, tail) = self.rest.split_at(length.min(self.rest.len()));
        self.line += newlines(head);
        self.rest = tail;
        head
    }

    fn place(&self) -> Place {
        Place::Line(self.line)
    }
}
