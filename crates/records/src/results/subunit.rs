//! What both versions of subunit share: events, in any order and of any number of tests at once, become cases.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::collect::{Collector, MAX_TAGS, RawCase};
use super::{Place, Report, TestStatus};

/// Bytes of output between tests that are kept while the stream is read.
const MAX_OUTPUT: usize = 1 << 20;
/// Files of one test that are kept apart.
const MAX_FILES: usize = 64;

/// Something that happened to a test, or to none.
#[derive(Debug, Clone, Default)]
pub(super) struct Event<'a> {
    pub(super) test: Option<&'a str>,
    pub(super) route: Option<&'a str>,
    pub(super) signal: Signal,
    pub(super) at_us: Option<i64>,
    pub(super) tags: Option<Vec<&'a str>>,
    pub(super) mime: Option<&'a str>,
    /// Name and a part of the contents.
    pub(super) file: Option<(&'a str, &'a [u8])>,
}

/// What an event means for its test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Signal {
    #[default]
    Nothing,
    /// The test is going to be run.
    Exists,
    Began,
    Ended(TestStatus),
}

/// The tests of a stream.
#[derive(Debug)]
pub(super) struct Tests {
    pub(super) out: Collector,
    runs: Vec<Test>,
    /// By route and id: the test's newest run.
    newest: HashMap<(String, String), usize>,
    announced: BTreeSet<String>,
    /// Files of no test, and what is no subunit.
    output: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug)]
struct Test {
    id: String,
    status: Option<TestStatus>,
    began: bool,
    first_us: Option<i64>,
    last_us: Option<i64>,
    tags: BTreeSet<String>,
    files: Vec<File>,
}

#[derive(Debug)]
struct File {
    name: String,
    mime: String,
    bytes: Vec<u8>,
}

impl Tests {
    pub(super) fn new(out: Collector) -> Self {
        Self {
            out,
            runs: Vec::new(),
            newest: HashMap::new(),
            announced: BTreeSet::new(),
            output: BTreeMap::new(),
        }
    }

    /// Bytes that are no subunit.
    pub(super) fn output(&mut self, bytes: &[u8]) {
        self.stray("output", bytes);
    }

    fn stray(&mut self, name: &str, bytes: &[u8]) {
        let total: usize = self.output.values().map(Vec::len).sum();
        if !bytes.is_empty() && (self.output.len() < 16 || self.output.contains_key(name)) {
            let room = MAX_OUTPUT.saturating_sub(total).min(bytes.len());
            self.output.entry(name.to_owned()).or_default().extend_from_slice(&bytes[..room]);
        }
    }

    pub(super) fn event(&mut self, event: &Event<'_>, at: Place) {
        let Some(id) = event.test else {
            if let Some((name, bytes)) = event.file {
                self.stray(name, bytes);
            }
            if event.signal != Signal::Nothing {
                self.out.problem(at, "a status without a test");
            }
            return;
        };
        if event.signal == Signal::Exists {
            if self.out.room(self.announced.len(), false) {
                self.announced.insert(id.to_owned());
            }
            return;
        }
        let Some(test) = self.test(id, event.route.unwrap_or_default(), event.signal) else { return };
        if let Some(us) = event.at_us {
            test.first_us.get_or_insert(us);
        }
        if test.tags.len() < MAX_TAGS {
            test.tags.extend(event.tags.iter().flatten().take(MAX_TAGS).map(|tag| (*tag).to_owned()));
        }
        if let Some((name, bytes)) = event.file {
            // More files than anybody looks at become one.
            let name = if test.files.len() < MAX_FILES { name } else { "more" };
            let at = test.files.iter().position(|file| file.name == name).unwrap_or_else(|| {
                test.files.push(File { name: name.into(), mime: String::new(), bytes: Vec::new() });
                test.files.len() - 1
            });
            let file = &mut test.files[at];
            if let Some(mime) = event.mime {
                mime.clone_into(&mut file.mime);
            }
            file.bytes.extend_from_slice(bytes);
        }
        match event.signal {
            Signal::Began => test.began = true,
            Signal::Ended(status) => {
                test.status = Some(status);
                test.last_us = event.at_us;
            }
            Signal::Nothing | Signal::Exists => {}
        }
    }

    /// The run that an event belongs to. A test that has ended begins anew with the next beginning or end; a file
    /// that comes late still belongs to the run before.
    fn test(&mut self, id: &str, route: &str, signal: Signal) -> Option<&mut Test> {
        let key = (route.to_owned(), id.to_owned());
        let known = self.newest.get(&key).copied().filter(|at| match signal {
            Signal::Began => self.runs[*at].status.is_none() && !self.runs[*at].began,
            Signal::Ended(_) => self.runs[*at].status.is_none(),
            Signal::Nothing | Signal::Exists => true,
        });
        if known.is_none() {
            let failing = matches!(signal, Signal::Ended(status) if status.is_failure());
            if !self.out.room(self.runs.len(), failing) {
                return None;
            }
            self.runs.push(Test {
                id: id.to_owned(),
                status: None,
                began: false,
                first_us: None,
                last_us: None,
                tags: BTreeSet::new(),
                files: Vec::new(),
            });
            self.newest.insert(key, self.runs.len() - 1);
        }
        let newest = self.runs.len() - 1;
        self.runs.get_mut(known.unwrap_or(newest))
    }

    pub(super) fn finish(mut self, end: Place) -> Report {
        for test in &self.runs {
            self.announced.remove(&test.id);
        }
        // A stream that only lists tests is complete.
        if !self.announced.is_empty() && !self.runs.is_empty() {
            let some: Vec<&str> = self.announced.iter().take(5).map(String::as_str).collect();
            let count = self.announced.len();
            let what = format!("{count} announced tests never ran, among them {}", some.join(", "));
            self.out.problem(end, what);
        }
        for test in self.runs {
            self.out.case(test.into_case());
        }
        for (name, bytes) in &self.output {
            self.out.log(name, &String::from_utf8_lossy(bytes));
        }
        self.out.finish(end)
    }
}

impl Test {
    fn into_case(self) -> RawCase {
        let mut case = RawCase::new(self.id);
        case.status = self.status.unwrap_or(TestStatus::Running);
        if let (Some(first), Some(last)) = (self.first_us, self.last_us) {
            case.duration_us = u64::try_from(last - first).ok();
        }
        case.tags = self.tags.into_iter().collect();
        for file in self.files {
            let text = file.text();
            if file.name == "reason" || file.name == "message" {
                text.trim().clone_into(&mut case.message);
                continue;
            }
            if case.message.is_empty() && case.status != TestStatus::Passed && file.name.contains("traceback")
            {
                // The exception stands in the last line of a Python traceback.
                let last = text.lines().rev().find(|line| !line.trim().is_empty());
                last.unwrap_or_default().trim().clone_into(&mut case.message);
            }
            case.logs.push((file.name, text));
        }
        // A pythonlogging of megabytes must not crowd out the traceback.
        case.logs.sort_by_key(|(name, _)| !name.contains("traceback"));
        case
    }
}

impl File {
    fn text(&self) -> String {
        let mime = self.mime.to_ascii_lowercase();
        if mime.contains("charset=\"iso-8859-1\"") || mime.contains("charset=iso-8859-1") {
            return self.bytes.iter().map(|byte| char::from(*byte)).collect();
        }
        let textual = mime.is_empty()
            || mime.starts_with("text/")
            || ["json", "xml", "yaml", "javascript"].iter().any(|word| mime.contains(word));
        match std::str::from_utf8(&self.bytes) {
            Ok(text) if textual || mime == "application/octet-stream" => text.to_owned(),
            _ if textual => String::from_utf8_lossy(&self.bytes).into_owned(),
            _ => format!("[{} bytes of {}]", self.bytes.len(), self.mime),
        }
    }
}
