//! What a task found: ResultYAML, JUnit or TAP in its folder of results.

use super::refusal;
use assay_formats::result_yaml;
use assay_formats::task_header::TaskHeader;
use assay_proto::task_run::TaskRun;
use assay_records::results::{self, TestStatus};
use assay_records::step::TaskResult;
use camino::Utf8Path;
use fs_err as fs;
use std::collections::BTreeMap;
use std::io::Read;

/// Outcomes that a result may have.
const OUTCOMES: [&str; 6] = ["PASSED", "INFO", "FAILED", "NEEDS_INSPECTION", "CRASHED", "ERROR"];
/// More files are not read.
const MOST_FILES: usize = 100;
/// More results are not taken.
const MOST_RESULTS: usize = 10_000;
/// More bytes of one file are not read.
const LONGEST: u64 = 16 << 20;
/// More problems are not told.
const MOST_PROBLEMS: usize = 20;
/// More of a remark is not kept.
const LONGEST_NOTE: usize = 4000;

/// What there is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) results: Vec<TaskResult>,
    /// What could not be read, and what is refused.
    pub(super) problems: Vec<String>,
}

impl Found {
    /// Results that are not good.
    pub(super) fn bad(&self) -> impl Iterator<Item = &TaskResult> {
        self.results.iter().filter(|result| !matches!(result.outcome.as_str(), "PASSED" | "INFO"))
    }

    /// The one to name: a failure if there is one.
    pub(super) fn worst(&self) -> Option<&TaskResult> {
        self.bad().find(|result| result.outcome == "FAILED").or_else(|| self.bad().next())
    }
}

/// Reads the folder.
pub(super) async fn read(dir: &Utf8Path, wanted: &TaskRun, header: &TaskHeader) -> Found {
    let (dir, wanted, header) = (dir.to_owned(), wanted.clone(), header.clone());
    let read = tokio::task::spawn_blocking(move || {
        let mut reader = Reader { wanted: &wanted, header: &header, found: Found::default() };
        reader.dir(&dir);
        reader.found
    });
    read.await.unwrap_or_else(|_| Found {
        problems: vec!["the results could not be read; this is a bug in Assay".into()],
        ..Found::default()
    })
}

/// Text without NUL: databases have none.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

/// Why a result is none.
fn no_outcome(place: &str, testcase: &str, outcome: &str) -> String {
    let known = OUTCOMES.join(", ");
    let hint = match outcome {
        "WAIVED" => "; say what was found, and waive it on the server: assay waiver create",
        _ => "",
    };
    format!("{place}: {testcase}: there is no outcome {outcome:?}; use one of {known}{hint}")
}

struct Reader<'a> {
    wanted: &'a TaskRun,
    header: &'a TaskHeader,
    found: Found,
}

impl Reader<'_> {
    fn dir(&mut self, dir: &Utf8Path) {
        // The task may have put a link in its place, and what that leads to is the host's.
        if !fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_dir()) {
            return self.wrong("the folder of results is gone, or is no folder any more".into());
        }
        let mut names: Vec<String> = Vec::new();
        for entry in dir.read_dir_utf8().into_iter().flatten().flatten() {
            // A link or a FIFO of the task's is nothing that is opened here.
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                names.push(entry.file_name().to_owned());
            }
        }
        names.sort_unstable();
        if names.len() > MOST_FILES {
            self.wrong(format!("there are {} files of results; at most {MOST_FILES} are read", names.len()));
            names.truncate(MOST_FILES);
        }
        for name in names {
            let mut bytes = Vec::new();
            let file = fs::File::open(dir.join(&name));
            let size = file.and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes));
            match size {
                Err(error) => self.wrong(format!("{name} cannot be read: {error}")),
                Ok(size) if size as u64 > LONGEST => {
                    self.wrong(format!("{name} has more than {LONGEST} bytes"));
                }
                Ok(_) => self.file(&name, &bytes),
            }
        }
        if self.found.results.len() > MOST_RESULTS {
            let count = self.found.results.len();
            self.found.results.truncate(MOST_RESULTS);
            self.wrong(format!("there are {count} results; at most {MOST_RESULTS} are taken"));
        }
    }

    fn wrong(&mut self, why: String) {
        if self.found.problems.len() < MOST_PROBLEMS && !self.found.problems.contains(&why) {
            self.found.problems.push(why);
        }
    }

    fn file(&mut self, name: &str, bytes: &[u8]) {
        match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
            "yaml" | "yml" => self.yaml(name, bytes),
            _ => match results::detect(name, bytes) {
                Some(format) => self.cases(name, &results::parse(format, bytes)),
                None => self.wrong(format!(
                    "{name} holds no results; expected ResultYAML (.yaml), JUnit (.xml) or TAP (.tap)"
                )),
            },
        }
    }

    fn yaml(&mut self, name: &str, bytes: &[u8]) {
        let Ok(text) = std::str::from_utf8(bytes) else { return self.wrong(format!("{name} is not UTF-8")) };
        let (results, diagnostics) = result_yaml::load(name, text);
        for diagnostic in diagnostics.iter().filter(|found| found.is_error()) {
            self.wrong(diagnostic.to_string());
        }
        for result in results.unwrap_or_default() {
            // Also what is refused is told with its name.
            let testcase = clean(result.testcase.as_ref().unwrap_or(&self.header.testcase));
            if !OUTCOMES.contains(&result.outcome.as_str()) {
                self.wrong(no_outcome(&result.place, &testcase, &result.outcome));
                continue;
            }
            self.take(&testcase, &result.outcome, result.note, result.ref_url, result.data);
        }
    }

    fn cases(&mut self, name: &str, report: &results::Report) {
        if let Some(problem) = report.problems.first() {
            self.wrong(format!("{name}: {problem}"));
        }
        for case in &report.cases {
            let outcome = match case.status {
                TestStatus::Passed => "PASSED",
                // It is known not to work: nothing that stops anybody, and no pass.
                TestStatus::ExpectedFailure => "INFO",
                TestStatus::Failed | TestStatus::UnexpectedSuccess => "FAILED",
                TestStatus::Error => "CRASHED",
                TestStatus::Running => "NEEDS_INSPECTION",
                // It has no result.
                TestStatus::Skipped => continue,
            };
            let parts = [Some(self.header.testcase.as_str()), case.classname.as_deref(), Some(&case.name)];
            let parts = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>();
            let note = Some(case.message.clone()).filter(|text| !text.is_empty());
            let file = Some(format!("../{}/{name}", super::RESULTS));
            self.take(&parts.join("."), outcome, note, file, BTreeMap::new());
        }
    }

    /// Takes a result, if it is one that this task may post.
    fn take(
        &mut self,
        testcase: &str,
        outcome: &str,
        note: Option<String>,
        artifact: Option<String>,
        mut data: BTreeMap<String, Vec<String>>,
    ) {
        let testcase = clean(testcase);
        let (note, artifact) = (note.map(|note| clean(&note)), artifact.map(|path| clean(&path)));
        if !self.wanted.may_post(&testcase) {
            return self.wrong(refusal(&testcase, self.wanted));
        }
        // A result that says nothing else is about the item of the run.
        data.entry("item".into()).or_insert_with(|| vec![self.wanted.item.clone()]);
        data.entry("type".into()).or_insert_with(|| vec![self.wanted.kind.clone()]);
        let artifact = artifact.map(|path| match path.strip_prefix("../") {
            Some(path) => path.to_owned(),
            None if path.contains("://") => path,
            None => format!("{}/{}", super::ARTIFACTS, path.trim_start_matches("./")),
        });
        let note = note.map(|mut note| {
            let end = (0..=LONGEST_NOTE.min(note.len())).rev().find(|at| note.is_char_boundary(*at));
            note.truncate(end.unwrap_or(0));
            note
        });
        self.found.results.push(TaskResult {
            testcase,
            outcome: outcome.to_owned(),
            note,
            artifact,
            data,
            at_us: 0,
        });
    }
}
