//! What a run published, for the job's page: files and the results of tests.

use super::frame::{bytes, percent_encoded, percent_encoded_path, plain_text, span};
use crate::record::Run;
use assay_proto::worker::Stream;
use assay_records::step::{Artifact, FailingCase, TestCases};

/// How many files are on the page; the others are found through the record and below `/logs/`.
const MOST_FILES: usize = 500;
/// How many bytes of what a test said are on the page; all of it is in the file with every case.
const LONGEST_MESSAGE: usize = 16 * 1024;

/// A published file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileView {
    pub(super) path: String,
    pub(super) href: String,
    pub(super) size: String,
    pub(super) kind: String,
}

/// A test that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CaseView {
    /// With its class.
    pub(super) name: String,
    pub(super) status: String,
    pub(super) took: Option<String>,
    pub(super) message: String,
    pub(super) cut: bool,
}

/// A file of test results.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ResultsView {
    pub(super) file: String,
    pub(super) format: String,
    pub(super) counts: String,
    pub(super) failing: Vec<CaseView>,
    pub(super) left_out: u64,
    /// Every case as JSON.
    pub(super) all: String,
    pub(super) problems: Vec<String>,
}

/// Everything that a run published.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) files: Vec<FileView>,
    pub(super) files_left_out: usize,
    pub(super) results: Vec<ResultsView>,
    /// Of all files of results together, for example `3 passed, 1 failed`.
    pub(super) counts: String,
}

impl Published {
    /// `logs` is the address below which a build of the gate has its files, `query` keeps the choice of the attempt.
    pub(super) fn new(run: &Run, logs: Option<&str>, query: &str) -> Self {
        let shown = run.artifacts.iter().take(MOST_FILES);
        let counts = run.results.iter().flat_map(|file| &file.counts);
        Self {
            files: shown.map(|one| file(one, logs, query)).collect(),
            files_left_out: run.artifacts.len().saturating_sub(MOST_FILES),
            results: run.results.iter().map(results).collect(),
            counts: counted(counts.map(|(word, count)| (word.as_str(), *count))),
        }
    }
}

fn blob(sha256: &str) -> String {
    format!("/api/assay/v1/blobs/{}", percent_encoded(sha256))
}

fn file(artifact: &Artifact, logs: Option<&str>, query: &str) -> FileView {
    // Below `/logs/` a stream hides a file of its name, and browsers resolve dots themselves.
    let hidden = artifact.path == "console.html"
        || Stream::ALL.iter().any(|stream| stream.file_name() == artifact.path)
        || artifact.path.split('/').any(|part| matches!(part, "" | "." | ".."));
    FileView {
        path: artifact.path.clone(),
        href: match logs {
            Some(logs) if !hidden => format!("{logs}{}{query}", percent_encoded_path(&artifact.path)),
            _ => blob(&artifact.sha256),
        },
        size: bytes(artifact.size),
        kind: artifact.content_type.clone(),
    }
}

fn results(file: &TestCases) -> ResultsView {
    ResultsView {
        file: file.file.clone(),
        format: file.format.clone(),
        counts: counted(file.counts.iter().map(|(word, count)| (word.as_str(), *count))),
        failing: file.failing.iter().map(case).collect(),
        left_out: file.failing_left_out,
        all: blob(&file.cases),
        problems: file.problems.clone(),
    }
}

fn case(case: &FailingCase) -> CaseView {
    let end = case.message.floor_char_boundary(LONGEST_MESSAGE);
    CaseView {
        name: if case.name.is_empty() { "(unnamed)".into() } else { case.name.clone() },
        status: case.status.replace('_', " "),
        took: case.duration_us.map(|us| span(i64::try_from(us).unwrap_or(i64::MAX))),
        message: plain_text(&case.message.as_bytes()[..end]),
        cut: end < case.message.len(),
    }
}

/// What is wrong first, then what passed, then the rest.
fn counted<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> String {
    const ORDER: [&str; 4] = ["failed", "error", "unexpected_success", "passed"];
    let mut sums = std::collections::BTreeMap::<_, u64>::new();
    for (word, count) in counts {
        let place = ORDER.iter().position(|one| *one == word).unwrap_or(ORDER.len());
        let sum = sums.entry((place, word)).or_default();
        *sum = sum.saturating_add(count);
    }
    let words = sums.iter().map(|((_, word), sum)| format!("{sum} {}", word.replace('_', " ")));
    let words: Vec<_> = words.collect();
    if words.is_empty() { "no tests".into() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_first() {
        let counts =
            [("passed", 3), ("failed", 1), ("skipped", 2), ("passed", 4), ("error", u64::MAX), ("error", 1)];
        assert_eq!(counted(counts.into_iter()), format!("1 failed, {} error, 7 passed, 2 skipped", u64::MAX));
        assert_eq!(counted(std::iter::empty()), "no tests");
    }

    #[test]
    fn a_file_is_linked_where_it_is_really_served() {
        let artifact = |path: &str| Artifact {
            path: path.into(),
            size: 1,
            sha256: "ab".into(),
            content_type: String::new(),
            at_us: 0,
        };
        let (logs, blob) = (Some("/logs/1/"), "/api/assay/v1/blobs/ab");
        for (path, logs, want) in [
            ("a b/ü.txt", logs, "/logs/1/a%20b/%C3%BC.txt?attempt=2"),
            ("a.txt", None, blob),
            ("console.txt", logs, blob),
            ("console.html", logs, blob),
            ("logs/console.txt", logs, "/logs/1/logs/console.txt?attempt=2"),
            ("a/../../gate", logs, blob),
        ] {
            assert_eq!(file(&artifact(path), logs, "?attempt=2").href, want, "{path}");
        }
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let failing = FailingCase {
            name: String::new(),
            status: "unexpected_success".into(),
            duration_us: None,
            message: format!("x{}", "ü".repeat(LONGEST_MESSAGE)),
        };
        let view = case(&failing);
        assert_eq!((view.name.as_str(), view.status.as_str()), ("(unnamed)", "unexpected success"));
        assert!(view.cut && view.message.len() == LONGEST_MESSAGE - 1 && view.message.ends_with('ü'));
    }
}
